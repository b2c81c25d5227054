//! [`History`]: the origins and the commands of the events in a replicated state.

use std::collections::BTreeMap;
use std::num::NonZeroU64;

use uuid::Uuid;

use crate::model::{CommandDigest, CommandId, Dot, EventView, OriginId, RetiredOrigins, Stamp, VectorClock, Version};

/// The origins and the commands of the events that a fold of a replicated stream has applied so far.
///
/// It answers three questions about the next event: which events are concurrent with it, whether its command was
/// executed on another node, too, and which version the state has.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct History {
    /// The last event of each origin. The sequence of [`OriginId::GENESIS`] is the number of its events in the stream,
    /// because an event that was recorded before its store became a replica has no dot.
    origins: VectorClock,
    /// The commands with an id, and the origin whose events count.
    commands: BTreeMap<Uuid, OriginId>,
    /// The clock of the last commit of each origin. Not part of a snapshot: a snapshot contains whole commits.
    clocks: BTreeMap<OriginId, VectorClock>,
}

/// The UUID namespace of command keys, chosen at random.
const NAMESPACE: Uuid = Uuid::from_u128(0xd6b0_0fd1_55f7_4a2b_9f0c_7c52_3c3a_8e11);

/// Returns the key of a command in a history: a digest of its id and its content. Two nodes may execute different
/// commands under one id before they know of each other; both count.
fn command_key((id, digest): &(CommandId, CommandDigest)) -> Uuid {
    let bytes = [id.as_str().as_bytes(), &digest.to_bits().to_be_bytes()].concat();
    Uuid::new_v5(&NAMESPACE, &bytes)
}

impl History {
    /// Returns the history of a snapshot, or `None` if no event of its state was replicated.
    pub(crate) fn of_snapshot(origins: VectorClock, commands: BTreeMap<Uuid, OriginId>) -> Option<Box<Self>> {
        (origins != VectorClock::new()).then(|| Box::new(Self { origins, commands, clocks: BTreeMap::new() }))
    }

    pub(crate) const fn origins(&self) -> &VectorClock {
        &self.origins
    }

    pub(crate) const fn commands(&self) -> &BTreeMap<Uuid, OriginId> {
        &self.commands
    }

    pub(crate) fn version(&self) -> Version {
        Version::of_origins(&self.origins)
    }

    /// Returns the last event of each origin that precedes `event` in canonical order, and that the node of `event` had
    /// not recorded when it decided. Events from before the replication are concurrent with none.
    pub(crate) fn concurrent_with(&self, event: EventView<'_>, retired: &RetiredOrigins) -> Vec<Dot> {
        let Some(stamp) = event.replicated_stamp() else { return Vec::new() };
        let seen = self.seen_by(stamp).map(|seen| retired.expand(stamp.dot, seen));
        let is_concurrent = |dot: &Dot| {
            let is_foreign = dot.origin != stamp.dot.origin && dot.origin != OriginId::GENESIS;
            is_foreign && !seen.as_ref().is_some_and(|seen| seen.includes(*dot))
        };
        self.origins.iter().filter(is_concurrent).collect()
    }

    /// Returns the number of events from before the replication.
    pub(crate) fn genesis_events(&self) -> u64 {
        self.origins.get(OriginId::GENESIS).map_or(0, NonZeroU64::get)
    }

    /// Returns what the node of an event had recorded, without retired origins: the clock of the event, or of the first
    /// event of its commit.
    pub(crate) fn seen_by<'a>(&'a self, stamp: &'a Stamp) -> Option<&'a VectorClock> {
        stamp.seen.as_ref().or_else(|| self.clocks.get(&stamp.dot.origin))
    }

    /// Returns `false` if the event belongs to a command that was executed under the same id on another node, whose
    /// events precede this one.
    pub(crate) fn counts(&self, event: EventView<'_>) -> bool {
        let Some(stamp) = event.stamp() else { return true };
        let Some(command) = &stamp.command else { return true };
        self.commands.get(&command_key(command)).is_none_or(|first| *first == stamp.dot.origin)
    }

    /// Adds an event to the history of a state with `folded` events.
    pub(crate) fn record(history: &mut Option<Box<Self>>, event: EventView<'_>, folded: u64) {
        match (event.replicated_stamp(), history) {
            // Nothing was replicated so far: the revision identifies the events.
            (None, None) => {}
            (None, Some(history)) => {
                let count = history.genesis_events();
                history.origins.extend([genesis(count)]);
            }
            (Some(stamp), history) => {
                let history = history.get_or_insert_with(|| {
                    let origins = folded.checked_sub(1).map(genesis).into_iter().collect();
                    Box::new(Self { origins, ..Self::default() })
                });
                history.origins.extend([stamp.dot]);
                if let Some(seen) = &stamp.seen {
                    history.clocks.insert(stamp.dot.origin, seen.clone());
                }
            }
        }
    }

    /// Adds the command of an event that was added.
    pub(crate) fn record_command(history: &mut Option<Box<Self>>, event: EventView<'_>) {
        let Some((history, stamp)) = history.as_mut().zip(event.replicated_stamp()) else { return };
        if let Some(command) = &stamp.command {
            history.commands.entry(command_key(command)).or_insert(stamp.dot.origin);
        }
    }

    /// Removes the commands, because a deletion covers their events: a repeat that another node appended without
    /// knowing of the deletion counts.
    pub(crate) fn forget_commands(&mut self) {
        self.commands.clear();
    }
}

/// Returns the dot of an event of the genesis origin after `before` others in its stream.
fn genesis(before: u64) -> Dot {
    Dot { origin: OriginId::GENESIS, sequence: NonZeroU64::MIN.saturating_add(before) }
}
