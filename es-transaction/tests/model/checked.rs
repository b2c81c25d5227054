//! The actions and properties of the model.

use es_transaction::machine::{Call, CoordinatorAct, CoordinatorInput, CoordinatorPhase};
use es_transaction::{Finished, Outcome, ParticipantState, Protocol};
use stateright::{Model, Property};

use crate::world::{Answers, Body, Bug, Choice, Message, Network, Process, Settings, Site, World};

/// A step of the model.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Step {
    Deliver(Message),
    /// A call is executed, but its answer is lost. In the synchronous network the participant then crashes.
    LoseAnswer(Message),
    /// The first pending record of the coordinator becomes durable, or is refused.
    Persist(u8),
    /// A call of the coordinator fails.
    Fail {
        epoch: u8,
        participant: usize,
        call: Call,
    },
    /// The coordinator repeats a call.
    Repeat {
        epoch: u8,
        participant: usize,
        call: Call,
    },
    GiveUp(u8),
    /// A coordinator crashes. In the synchronous network it has sent a part of its calls: those in `lost`, a set of
    /// bits, were not sent.
    CrashCoordinator {
        epoch: u8,
        lost: u32,
    },
    Recover,
    Crash(usize),
    Restart(usize),
    /// A participant asks another one.
    Ask {
        site: usize,
        is_reached: bool,
    },
    EndRound(usize),
    /// A bug: a prepared participant aborts.
    TimeOut(usize),
}

impl Model for Settings {
    type State = World;
    type Action = Step;

    fn init_states(&self) -> Vec<World> {
        self.votes.iter().map(|votes| World::new(self, votes)).collect()
    }

    fn actions(&self, world: &World, steps: &mut Vec<Step>) {
        steps.extend(world.network.iter().copied().map(Step::Deliver));
        let is_crash_left = world.crashes < self.crashes;
        if is_crash_left || (self.network == Network::Lossy && self.answers == Answers::AtOnce) {
            let calls = world.network.iter().copied().filter(|message| matches!(message.body, Body::Call(_)));
            steps.extend(calls.map(Step::LoseAnswer));
        }
        for process in &world.processes {
            let epoch = process.epoch;
            if !process.writes.is_empty() {
                steps.push(Step::Persist(epoch));
            }
            if self.gives_up && *process.state.phase() == CoordinatorPhase::Preparing {
                steps.push(Step::GiveUp(epoch));
            }
            let calls = match self.network {
                Network::Lossy => 0,
                Network::Synchronous => world.calls(epoch).count(),
            };
            steps.extend((0..1 << calls).map(|lost| Step::CrashCoordinator { epoch, lost }));
            for act in process.state.outstanding() {
                let CoordinatorAct::Send { to: participant, call } = act else { continue };
                match self.network {
                    Network::Lossy if call == Call::Prepare => {}
                    Network::Lossy => steps.push(Step::Fail { epoch, participant, call }),
                    Network::Synchronous if is_on_its_way(world, epoch, participant) => {}
                    // A failure has the same effect, except for the reason, which would multiply the states.
                    Network::Synchronous if call == Call::Prepare => steps.push(Step::GiveUp(epoch)),
                    Network::Synchronous => {
                        steps.push(Step::Fail { epoch, participant, call });
                        steps.push(Step::Repeat { epoch, participant, call });
                    }
                }
            }
        }
        let is_replaceable = match self.network {
            Network::Lossy => true,
            Network::Synchronous => world.processes.is_empty() && world.network.is_empty(),
        };
        if is_replaceable && world.epoch < self.epochs {
            steps.push(Step::Recover);
        }
        (0..world.sites.len()).for_each(|site| self.add_site_steps(world, site, steps));
    }

    fn next_state(&self, before: &World, step: Step) -> Option<World> {
        let mut world = before.clone();
        match step {
            Step::Deliver(message) => {
                if self.network == Network::Synchronous {
                    world.network.remove(&message);
                }
                world.deliver(self, message, false);
            }
            Step::LoseAnswer(message) => {
                world.deliver(self, message, true);
                if self.network == Network::Synchronous {
                    world.crash(self, message.site);
                }
            }
            Step::Persist(epoch) => world.persist(self, epoch),
            Step::Fail { epoch, participant: from, call } => {
                let input = match self.bug {
                    Some(Bug::CountsFailedPreCommits) if call == Call::PreCommit => {
                        CoordinatorInput::PreCommitted { from, finished: Finished::Done }
                    }
                    _ => CoordinatorInput::Failed { from, call },
                };
                world.input(self, epoch, input);
            }
            Step::Repeat { epoch, participant, call } => world.send(self, epoch, participant, call),
            Step::GiveUp(epoch) => world.input(self, epoch, CoordinatorInput::GiveUp),
            Step::CrashCoordinator { epoch, lost } => {
                world.processes.retain(|process| process.epoch != epoch);
                if self.network == Network::Synchronous {
                    let is_sent = |(bit, _): &(usize, Message)| lost & (1 << bit) == 0;
                    let sent = world.calls(epoch).enumerate().filter(is_sent);
                    world.network = sent.map(|(_, message)| message).collect();
                }
            }
            Step::Recover => world.recover(self),
            Step::Crash(site) => world.crash(self, site),
            Step::Restart(site) => world.sites[site].restart(self),
            Step::Ask { site, is_reached } => world.ask(self, site, is_reached),
            Step::EndRound(site) => world.end_round(site),
            Step::TimeOut(site) => drop(world.sites[site].record.abort()),
        }
        (world != *before).then_some(world)
    }

    fn properties(&self) -> Vec<Property<Self>> {
        let mut properties = vec![
            Property::always(ATOMIC, |_, world: &World| is_atomic(world)),
            Property::always(VALID, |_, world: &World| is_valid(world)),
            Property::always(DURABLE, |_, world: &World| is_durable(world)),
            Property::always(AGREED, |_, world: &World| is_agreed(world)),
            Property::always(UNDAMAGED, |_, world: &World| is_undamaged(world)),
            Property::always(NON_BLOCKING, is_non_blocking),
            Property::sometimes(COMMITS, |_, world: &World| {
                world.told.contains(&Outcome::Committed) && all(world, ParticipantState::Committed)
            }),
            Property::sometimes(ABORTS, |_, world: &World| {
                world.told.contains(&Outcome::Aborted) && all(world, ParticipantState::Aborted)
            }),
            Property::sometimes(RECOVERS, |_, world: &World| {
                let has_committed =
                    |process: &Process| process.epoch > 1 && process.state.outcome() == Some(Outcome::Committed);
                world.processes.iter().any(has_committed) && all(world, ParticipantState::Committed)
            }),
        ];
        if self.protocol == Protocol::TwoPhase {
            properties.push(Property::sometimes(BLOCKS, |_, world: &World| {
                let is_answer = |message: &Message| !matches!(message.body, Body::Call(Call::Commit | Call::Abort));
                world.processes.is_empty()
                    && world.network.iter().all(is_answer)
                    && all(world, ParticipantState::Prepared)
            }));
        } else {
            properties.push(Property::sometimes(COMMITS_ALONE, |_, world: &World| has_terminated(world, true)));
            properties.push(Property::sometimes(ABORTS_ALONE, |_, world: &World| has_terminated(world, false)));
        }
        properties
    }
}

pub(crate) const ATOMIC: &str = "no participant commits while another aborts";
pub(crate) const VALID: &str = "the transaction commits only if nobody voted no";
pub(crate) const DURABLE: &str = "an outcome that was told never changes";
pub(crate) const AGREED: &str = "the coordinators agree with what was told";
pub(crate) const UNDAMAGED: &str = "no participant contradicts the decision";
pub(crate) const NON_BLOCKING: &str = "participants that were never down decide without the coordinator";
pub(crate) const COMMITS: &str = "the transaction commits";
pub(crate) const ABORTS: &str = "the transaction aborts";
pub(crate) const RECOVERS: &str = "the transaction commits after a recovery";
pub(crate) const BLOCKS: &str = "participants in doubt wait for the coordinator";
pub(crate) const COMMITS_ALONE: &str = "participants commit without the coordinator";
pub(crate) const ABORTS_ALONE: &str = "participants abort without the coordinator";

impl Settings {
    fn add_site_steps(&self, world: &World, site: usize, steps: &mut Vec<Step>) {
        let participant = &world.sites[site];
        if !participant.is_up {
            steps.push(Step::Restart(site));
            return;
        }
        if world.crashes < self.crashes {
            steps.push(Step::Crash(site));
        }
        if self.bug == Some(Bug::AbortsOnTimeout) && participant.is(ParticipantState::Prepared) {
            steps.push(Step::TimeOut(site));
        }
        if self.protocol == Protocol::TwoPhase || !participant.record.is_in_doubt() {
            return;
        }
        match self.network {
            Network::Lossy => {
                steps.push(Step::Ask { site, is_reached: false });
                steps.push(Step::Ask { site, is_reached: true });
            }
            Network::Synchronous if world.is_first_coordinator_gone() => {
                steps.push(Step::Ask { site, is_reached: true });
            }
            Network::Synchronous => {}
        }
        steps.push(Step::EndRound(site));
    }
}

/// Returns whether a call to a participant, or its answer, has not arrived yet.
fn is_on_its_way(world: &World, epoch: u8, participant: usize) -> bool {
    let site = world.index(epoch, participant);
    world.network.iter().any(|message| message.epoch == epoch && Some(message.site) == site)
}

fn has(world: &World, state: ParticipantState) -> bool {
    world.sites.iter().any(|site| site.is(state))
}

fn all(world: &World, state: ParticipantState) -> bool {
    world.sites.iter().all(|site| site.is(state))
}

fn is_atomic(world: &World) -> bool {
    !(has(world, ParticipantState::Committed) && has(world, ParticipantState::Aborted))
}

fn is_valid(world: &World) -> bool {
    let is_committed = has(world, ParticipantState::Committed) || world.told.contains(&Outcome::Committed);
    !is_committed || world.sites.iter().all(|site| site.choice != Choice::No)
}

/// Callers are told one outcome, and no participant has the other one.
fn is_durable(world: &World) -> bool {
    world.told.len() < 2 && !world.told.iter().any(|outcome| is_contradicted(world, *outcome))
}

/// No coordinator has another outcome than the callers, the participants and the other coordinators.
fn is_agreed(world: &World) -> bool {
    let mut outcomes = world.told.clone();
    outcomes.extend(world.processes.iter().filter_map(|process| process.state.outcome()));
    outcomes.len() < 2 && !outcomes.iter().any(|outcome| is_contradicted(world, *outcome))
}

fn is_contradicted(world: &World, outcome: Outcome) -> bool {
    match outcome {
        Outcome::Committed => has(world, ParticipantState::Aborted),
        Outcome::Aborted => has(world, ParticipantState::Committed),
    }
}

fn is_undamaged(world: &World) -> bool {
    world.processes.iter().all(|process| process.state.damage().is_none())
}

fn has_terminated(world: &World, is_commit: bool) -> bool {
    let state = if is_commit { ParticipantState::Committed } else { ParticipantState::Aborted };
    world.epoch == 1
        && world.is_first_coordinator_gone()
        && all(world, state)
        && world.sites.iter().any(|site| site.has_terminated)
}

/// Lets the participants terminate in turns. Those that are up must decide if one of them was never down.
fn is_non_blocking(settings: &Settings, world: &World) -> bool {
    let is_continuous = |site: &Site| site.is_up && site.record.is_in_doubt() && !site.record.has_restarted();
    if settings.protocol == Protocol::TwoPhase
        || settings.network == Network::Lossy
        || !world.processes.is_empty()
        || !world.network.is_empty()
        || !world.sites.iter().any(is_continuous)
    {
        return true;
    }
    let mut world = world.clone();
    let count = world.sites.len();
    for site in (0..count).cycle().take(count * 4) {
        if world.sites[site].is_up {
            (1..count).for_each(|_| world.ask(settings, site, true));
            world.end_round(site);
        }
    }
    !world.sites.iter().any(|site| site.is_up && site.record.is_in_doubt())
}
