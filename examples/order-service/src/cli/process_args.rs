//! The arguments of the commands on process managers.

use clap::{Args, Subcommand};

use super::note_args::NoteArgs;
use crate::processes::{
    DEFAULT_LIMIT, ParkedEventAction, ParkedEventActionName, ProcessAction, ProcessActionName, SetAsideKind,
};

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
    process: Option<String>,
    /// Maximum number of events
    #[arg(long, value_name = "NUMBER", default_value_t = DEFAULT_LIMIT)]
    limit: usize,
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

/// What a command requests.
pub(super) enum ProcessRequest<'a> {
    /// Lists instances of a process, or of all.
    List { process: Option<&'a str>, quarantined: bool, limit: usize },
    /// Lists events that were set aside by a process, or by all.
    SetAside { kind: SetAsideKind, process: Option<&'a str>, limit: usize },
    /// Shows an instance, named by its id or its order.
    Show { id: &'a str },
    /// Acts on an instance, named by its id or its order.
    Act { id: &'a str, action: ProcessAction },
    /// Acts on a parked event of a process, at a position in the log.
    ActOnEvent { process: &'a str, position: u64, action: ParkedEventAction },
}

impl ProcessCommand {
    /// Returns what the command requests.
    pub(super) fn request(&self) -> ProcessRequest<'_> {
        match self {
            Self::List { process, quarantined, limit } => {
                ProcessRequest::List { process: process.as_deref(), quarantined: *quarantined, limit: *limit }
            }
            Self::Show { id } => ProcessRequest::Show { id },
            Self::Parked(args) => args.request(SetAsideKind::Parked),
            Self::Skipped(args) => args.request(SetAsideKind::Skipped),
            Self::Retry(args) => args.request(ProcessActionName::Retry),
            Self::Drop(args) => args.request(ProcessActionName::Drop),
            Self::Abandon(args) => args.request(ProcessActionName::Abandon),
            Self::RetryEvent(args) => args.request(ParkedEventActionName::Retry),
            Self::SkipEvent(args) => args.request(ParkedEventActionName::Skip),
        }
    }
}

impl EventListArgs {
    fn request(&self, kind: SetAsideKind) -> ProcessRequest<'_> {
        ProcessRequest::SetAside { kind, process: self.process.as_deref(), limit: self.limit }
    }
}

impl ProcessArgs {
    fn request(&self, verb: ProcessActionName) -> ProcessRequest<'_> {
        let NoteArgs { reason, by } = self.note.clone();
        ProcessRequest::Act { id: &self.id, action: ProcessAction { verb, reason, by } }
    }
}

impl ParkedEventArgs {
    fn request(&self, verb: ParkedEventActionName) -> ProcessRequest<'_> {
        let NoteArgs { reason, by } = self.note.clone();
        let action = ParkedEventAction { verb, index: self.index, reason, by };
        ProcessRequest::ActOnEvent { process: &self.process, position: self.position, action }
    }
}
