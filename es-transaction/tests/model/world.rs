//! The world of the model: one coordinator with its log, the participants, and the network. The state machines are
//! those of the crate; this file is their driver.

use std::collections::BTreeSet;
use std::sync::Arc;

use es_transaction::machine::{
    Call, CoordinatorAct, CoordinatorInput, CoordinatorState, LogRecord, ParticipantRecord, PrepareAnswer,
    RecordedParticipant, StateReport, Termination, TransactionPlan,
};
use es_transaction::{Finished, Outcome, ParticipantState, Protocol, Vote};
use serde_json::Value;

const NAMES: [&str; 3] = ["a", "b", "c"];

/// What is explored.
#[derive(Debug, Clone)]
pub(crate) struct Settings {
    pub(crate) protocol: Protocol,
    pub(crate) network: Network,
    pub(crate) allows_one_phase: bool,
    /// Whether the caller may give up although all calls arrive.
    pub(crate) gives_up: bool,
    /// The votes of the participants, one initial state each.
    pub(crate) votes: Vec<Vec<Choice>>,
    /// The number of coordinators, one after another.
    pub(crate) epochs: u8,
    /// The number of crashes of participants.
    pub(crate) crashes: u8,
    pub(crate) answers: Answers,
    pub(crate) bug: Option<Bug>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Network {
    /// Messages are lost, repeated, reordered and arbitrarily late. A coordinator may be replaced while it still runs.
    Lossy,
    /// Messages are reordered. A call is lost only if its receiver is down. Nobody times out while a call that could
    /// be answered has not arrived, and a coordinator is replaced after all its calls have arrived.
    Synchronous,
}

/// When an answer arrives. Fewer states are reached if it arrives at once; a late call is then also a late answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Answers {
    AtOnce,
    Late,
}

/// A rule that the driver breaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Bug {
    CommitsBeforeDurable,
    ForgetsPrepared,
    AbortsOnTimeout,
    RecoveryCommits,
    SkipsPreCommit,
    NoFencing,
    /// A participant decides after a restart as if it had not been down.
    IgnoresRestart,
    /// A participant continues its round after it has reported its state to another.
    KeepsRound,
    /// The coordinator takes a pre-commit that failed for one that was answered.
    CountsFailedPreCommits,
    /// A coordinator that has recovered aborts although the transaction is pre-committing.
    RecoveryIgnoresPreCommit,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Choice {
    Yes,
    ReadOnly,
    No,
}

/// A call or its answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Message {
    pub(crate) epoch: u8,
    pub(crate) site: usize,
    pub(crate) body: Body,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Body {
    Call(Call),
    Voted(Choice),
    PreCommitted(Finished),
    Finished(Finished),
    Reported(StateReport),
}

/// A participant.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct Site {
    pub(crate) choice: Choice,
    pub(crate) record: ParticipantRecord,
    pub(crate) is_up: bool,
    /// Whether it decided by the termination rule.
    pub(crate) has_terminated: bool,
}

/// A process that runs the coordinator.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct Process {
    pub(crate) epoch: u8,
    pub(crate) state: Arc<CoordinatorState>,
    /// Records that are not durable yet.
    pub(crate) writes: Vec<(u32, LogRecord)>,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct World {
    pub(crate) sites: Vec<Site>,
    pub(crate) processes: Vec<Process>,
    pub(crate) log: Arc<Vec<LogRecord>>,
    /// The newest epoch that has opened the log.
    pub(crate) epoch: u8,
    pub(crate) network: BTreeSet<Message>,
    /// What callers were told.
    pub(crate) told: BTreeSet<Outcome>,
    pub(crate) crashes: u8,
}

impl World {
    pub(crate) fn new(settings: &Settings, votes: &[Choice]) -> Self {
        let site = |choice: &Choice| Site {
            choice: *choice,
            record: ParticipantRecord::UNKNOWN,
            is_up: true,
            has_terminated: false,
        };
        let mut world = Self {
            sites: votes.iter().map(site).collect(),
            processes: Vec::new(),
            log: Arc::default(),
            epoch: 1,
            network: BTreeSet::new(),
            told: BTreeSet::new(),
            crashes: 0,
        };
        let (state, acts) = CoordinatorState::begin(TransactionPlan {
            protocol: settings.protocol,
            participants: NAMES[..votes.len()].iter().map(|name| (*name).to_owned()).collect(),
            allows_one_phase: settings.allows_one_phase,
        });
        world.processes.push(Process { epoch: 1, state: Arc::new(state), writes: Vec::new() });
        world.execute(settings, 1, acts);
        world
    }

    fn process(&mut self, epoch: u8) -> Option<&mut Process> {
        self.processes.iter_mut().find(|process| process.epoch == epoch)
    }

    /// Passes an input to a coordinator, and executes what it answers.
    pub(crate) fn input(&mut self, settings: &Settings, epoch: u8, input: CoordinatorInput) {
        let Some(process) = self.process(epoch) else { return };
        let acts = Arc::make_mut(&mut process.state).on(input);
        self.execute(settings, epoch, acts);
    }

    fn execute(&mut self, settings: &Settings, epoch: u8, acts: Vec<CoordinatorAct>) {
        for act in acts {
            match act {
                CoordinatorAct::Send { to, call } => self.send(settings, epoch, to, call),
                CoordinatorAct::Report { outcome, .. } => drop(self.told.insert(outcome)),
                CoordinatorAct::Write { number, record } => {
                    let Some(process) = self.process(epoch) else { return };
                    process.writes.push((number, record));
                    if settings.bug == Some(Bug::CommitsBeforeDurable) {
                        self.input(settings, epoch, CoordinatorInput::Durable { record: number });
                    }
                }
            }
        }
    }

    pub(crate) fn send(&mut self, settings: &Settings, epoch: u8, to: usize, call: Call) {
        let Some(site) = self.index(epoch, to) else { return };
        if call == Call::PreCommit && settings.bug == Some(Bug::SkipsPreCommit) {
            self.input(settings, epoch, CoordinatorInput::PreCommitted { from: to, finished: Finished::Done });
        } else if self.sites[site].is_up {
            self.network.insert(Message { epoch, site, body: Body::Call(call) });
        }
    }

    /// Returns the site of a participant: a coordinator that has recovered knows fewer of them.
    pub(crate) fn index(&self, epoch: u8, participant: usize) -> Option<usize> {
        let process = self.processes.iter().find(|process| process.epoch == epoch)?;
        let name = process.state.participants().nth(participant)?;
        NAMES.iter().position(|other| *other == name)
    }

    fn participant(&self, epoch: u8, site: usize) -> Option<usize> {
        let process = self.processes.iter().find(|process| process.epoch == epoch)?;
        process.state.participants().position(|name| name == NAMES[site])
    }

    pub(crate) fn deliver(&mut self, settings: &Settings, message: Message, is_answer_lost: bool) {
        let Message { epoch, site, body } = message;
        let Body::Call(call) = body else {
            self.answer(settings, message);
            return;
        };
        let Some(body) = self.sites[site].on(settings, call) else { return };
        if is_answer_lost || self.process(epoch).is_none() {
            return;
        }
        let answer = Message { epoch, site, body };
        match settings.answers {
            Answers::AtOnce => self.answer(settings, answer),
            Answers::Late => drop(self.network.insert(answer)),
        }
    }

    fn answer(&mut self, settings: &Settings, message: Message) {
        let Message { epoch, site, body } = message;
        let Some(from) = self.participant(epoch, site) else { return };
        let input = match body {
            Body::Call(_) => return,
            Body::Voted(Choice::Yes) => CoordinatorInput::Voted { from, vote: Vote::Prepared(Value::Null) },
            Body::Voted(Choice::ReadOnly) => CoordinatorInput::Voted { from, vote: Vote::ReadOnly },
            Body::Voted(Choice::No) => CoordinatorInput::Voted { from, vote: Vote::No { reason: String::new() } },
            Body::PreCommitted(finished) => CoordinatorInput::PreCommitted { from, finished },
            Body::Finished(finished) => CoordinatorInput::Finished { from, finished },
            Body::Reported(report) => CoordinatorInput::Reported { from, report },
        };
        self.input(settings, epoch, input);
    }

    /// Makes the first pending record durable. The log refuses the records of an earlier epoch.
    pub(crate) fn persist(&mut self, settings: &Settings, epoch: u8) {
        if epoch < self.epoch && settings.bug != Some(Bug::NoFencing) {
            self.processes.retain(|process| process.epoch != epoch);
            return;
        }
        let Some(process) = self.process(epoch) else { return };
        let (number, record) = process.writes.remove(0);
        Arc::make_mut(&mut self.log).push(record);
        self.input(settings, epoch, CoordinatorInput::Durable { record: number });
    }

    /// Starts the next epoch from the log.
    pub(crate) fn recover(&mut self, settings: &Settings) {
        self.epoch += 1;
        let in_doubt = |site: &(&Site, &str)| site.0.is_up && site.0.record.is_in_doubt();
        let sites = self.sites.iter().zip(NAMES).filter(in_doubt);
        let in_doubt: Vec<String> = sites.map(|(_, name)| name.to_owned()).collect();
        let records = match settings.bug {
            Some(Bug::RecoveryCommits) if self.log.is_empty() => {
                let named = |name: &String| RecordedParticipant { name: name.clone(), prepared: Some(Value::Null) };
                let participants = in_doubt.iter().map(named).collect();
                let protocol = settings.protocol;
                &[LogRecord::Decided { outcome: Outcome::Committed, protocol, participants }][..]
            }
            Some(Bug::RecoveryIgnoresPreCommit) if self.log.len() == 1 => &[],
            _ => &self.log,
        };
        if records.is_empty() && in_doubt.is_empty() {
            return;
        }
        let (state, acts) = CoordinatorState::recover(records, in_doubt).expect("the log is consistent");
        let epoch = self.epoch;
        self.processes.push(Process { epoch, state: Arc::new(state), writes: Vec::new() });
        self.execute(settings, epoch, acts);
    }

    /// A site crashes. Calls that have not arrived are lost.
    pub(crate) fn crash(&mut self, settings: &Settings, site: usize) {
        self.crashes += 1;
        if settings.network == Network::Lossy {
            // To be down for a while is the same as messages that are late.
            self.sites[site].restart(settings);
            return;
        }
        self.sites[site].is_up = false;
        let is_lost = |message: &Message| message.site == site && matches!(message.body, Body::Call(_));
        self.network.retain(|message| !is_lost(message));
    }

    /// Returns whether the calls of the first coordinator have arrived or are lost, and it is down.
    pub(crate) fn is_first_coordinator_gone(&self) -> bool {
        !self.processes.iter().any(|process| process.epoch == 1) && self.calls(1).next().is_none()
    }

    /// Returns the calls of a coordinator that have not arrived.
    pub(crate) fn calls(&self, epoch: u8) -> impl Iterator<Item = Message> {
        let is_call = move |message: &Message| message.epoch == epoch && matches!(message.body, Body::Call(_));
        self.network.iter().copied().filter(is_call)
    }

    /// Asks the next participant in the round of a site, or begins the round.
    pub(crate) fn ask(&mut self, settings: &Settings, site: usize, is_reached: bool) {
        let count = self.sites.len();
        let record = &mut self.sites[site].record;
        if !record.has_round() && !record.begin_round(site, count) {
            return;
        }
        let Some(other) = self.sites[site].record.next_to_ask() else { return };
        let report = match &mut self.sites[other] {
            asked if asked.is_up && is_reached => asked.report(settings),
            _ => StateReport::Unreachable,
        };
        self.sites[site].record.on_report(report);
    }

    /// Ends the round of a site.
    pub(crate) fn end_round(&mut self, site: usize) {
        let site = &mut self.sites[site];
        if let Some(Termination::Commit | Termination::Abort) = site.record.end_round() {
            site.has_terminated = true;
        }
    }
}

impl Site {
    /// Executes a call, and returns the answer.
    fn on(&mut self, settings: &Settings, call: Call) -> Option<Body> {
        Some(match call {
            Call::Prepare => Body::Voted(self.vote(settings.protocol)),
            Call::PreCommit => Body::PreCommitted(self.record.pre_commit()),
            Call::Commit => Body::Finished(self.record.commit()),
            Call::Abort => Body::Finished(self.record.abort()),
            Call::Status => Body::Reported(self.report(settings)),
            Call::Forget => {
                self.record.forget();
                return None;
            }
        })
    }

    fn vote(&mut self, protocol: Protocol) -> Choice {
        match self.record.prepare() {
            PrepareAnswer::Decide => {
                if self.choice == Choice::Yes {
                    self.record.prepared(protocol);
                }
                self.choice
            }
            PrepareAnswer::Repeat => Choice::Yes,
            PrepareAnswer::Refuse => Choice::No,
        }
    }

    fn report(&mut self, settings: &Settings) -> StateReport {
        if settings.bug == Some(Bug::KeepsRound) { self.record.clone().report() } else { self.record.report() }
    }

    /// Loses what is not durable.
    pub(crate) fn restart(&mut self, settings: &Settings) {
        match settings.bug {
            Some(Bug::ForgetsPrepared) if self.record.is_in_doubt() => self.record = ParticipantRecord::UNKNOWN,
            // A report ends the round, as a restart does.
            Some(Bug::IgnoresRestart) => drop(self.record.report()),
            _ => self.record.restarted(),
        }
        self.is_up = true;
    }

    pub(crate) fn is(&self, state: ParticipantState) -> bool {
        self.record.state() == state
    }
}
