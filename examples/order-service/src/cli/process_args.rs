//! The arguments of the commands on process managers.

use clap::{Args, Subcommand};

use super::note_args::NoteArgs;
use crate::processes::{DEFAULT_LIMIT, ParkedEventAction, ParkedEventActionName, ProcessAction, ProcessActionName};

#[derive(Debug, Subcommand)]
pub(crate) enum ProcessCommand {
    /// List the instances of processes that have not ended
    ///
    /// Instances are listed in the order in which they are due; quarantined ones are last.
    List {
        /// Name of the process [default: all processes]
        process: Option<String>,
        /// List only the quarantined instances
        #[arg(long)]
        quarantined: bool,
        /// Maximum number of instances
        #[arg(long, value_name = "NUMBER", default_value_t = DEFAULT_LIMIT)]
        limit: usize,
    },
    /// Show an instance with its timers, keys, waits, pending events and sagas
    Show {
        /// Order id, or id of the instance, such as payment_reminder:10248
        id: String,
    },
    /// List the events that processes have parked
    Parked(EventListArgs),
    /// List the events that processes, or operators, have skipped
    Skipped(EventListArgs),
    /// Try a quarantined instance again: its pending events, then its timers
    Retry(ProcessArgs),
    /// Drop the first pending event of a quarantined instance, and try it again without the event
    Drop(ProcessArgs),
    /// End an instance; what it has done remains
    Abandon(ProcessArgs),
    /// Offer a parked event to its process again
    RetryEvent(ParkedEventArgs),
    /// Move a parked event to the skipped events
    SkipEvent(ParkedEventArgs),
}

#[derive(Debug, Args)]
pub(crate) struct EventListArgs {
    /// Name of the process [default: all processes]
    pub(super) process: Option<String>,
    /// Maximum number of events
    #[arg(long, value_name = "NUMBER", default_value_t = DEFAULT_LIMIT)]
    pub(super) limit: usize,
}

#[derive(Debug, Args)]
pub(crate) struct ProcessArgs {
    /// Order id, or id of the instance, such as payment_reminder:10248
    id: String,
    #[command(flatten)]
    note: NoteArgs,
}

#[derive(Debug, Args)]
pub(crate) struct ParkedEventArgs {
    /// Name of the process
    process: String,
    /// Position of the event in the log
    position: u64,
    /// Index among the events of its record, from 0
    #[arg(long, value_name = "NUMBER", default_value_t = 0)]
    index: u32,
    #[command(flatten)]
    note: NoteArgs,
}

/// What a command does.
pub(super) enum ProcessVerb<'a> {
    /// Acts on an instance.
    Instance {
        /// The order, or the instance.
        id: &'a str,
        action: ProcessAction,
    },
    /// Acts on a parked event.
    Event {
        /// The name of the process.
        process: &'a str,
        /// The position in the log.
        position: u64,
        action: ParkedEventAction,
    },
}

impl ProcessCommand {
    /// Returns the action of a command; `None` for a command that only reads.
    pub(super) fn verb(&self) -> Option<ProcessVerb<'_>> {
        Some(match self {
            Self::List { .. } | Self::Show { .. } | Self::Parked(_) | Self::Skipped(_) => return None,
            Self::Retry(args) => args.verb(ProcessActionName::Retry),
            Self::Drop(args) => args.verb(ProcessActionName::Drop),
            Self::Abandon(args) => args.verb(ProcessActionName::Abandon),
            Self::RetryEvent(args) => args.verb(ParkedEventActionName::Retry),
            Self::SkipEvent(args) => args.verb(ParkedEventActionName::Skip),
        })
    }
}

impl ProcessArgs {
    fn verb(&self, verb: ProcessActionName) -> ProcessVerb<'_> {
        let NoteArgs { reason, by } = self.note.clone();
        ProcessVerb::Instance { id: &self.id, action: ProcessAction { verb, reason, by } }
    }
}

impl ParkedEventArgs {
    fn verb(&self, verb: ParkedEventActionName) -> ProcessVerb<'_> {
        let NoteArgs { reason, by } = self.note.clone();
        let action = ParkedEventAction { verb, index: self.index, reason, by };
        ProcessVerb::Event { process: &self.process, position: self.position, action }
    }
}
