//! Errors of starting, awaiting and shutting down background components: projections, reactors, consumer groups.

use std::sync::Arc;
use std::time::Duration;

use crate::model::{NameError, Position};
use crate::store::{CommitError, StoreError};

/// A background component could not be started. Nothing of it runs.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StartError {
    /// The name of the component is invalid.
    #[error("invalid name of a projection, reactor or consumer group")]
    Name(#[from] NameError),
    /// Two components of one kind have the same name, and so would write the same rows. Rename one of them.
    #[error("duplicate name {name:?}; rename one of the projections, reactors or groups")]
    DuplicateName {
        /// The name.
        name: String,
    },
    /// The projection runs inline in this store, and so would have two writers. Run it inline or in the background.
    #[error("projection {name:?} runs inline in this store; run it inline or in the background, not both")]
    RunsInline {
        /// The name of the projection.
        name: &'static str,
    },
    /// The caller is outside of a tokio runtime.
    #[error("no tokio runtime found; start background components from within a tokio runtime")]
    NoRuntime,
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// Other processes start the same group or reactor again and again. Run it in one process.
    #[error("{name:?} was started elsewhere {attempts} times meanwhile; run it in one process")]
    Contended {
        /// The name of the group or reactor.
        name: String,
        /// The number of attempts.
        attempts: u32,
    },
    /// The store refuses the rows of the group or reactor. This is a bug: report it.
    #[error("the store refuses the rows of {name:?}")]
    Refused {
        /// The name of the group or reactor.
        name: String,
        /// The refusal.
        source: Box<CommitError>,
    },
}

/// A group does not run any more. What was not acked comes again when it is opened.
#[derive(Debug, Clone, thiserror::Error)]
#[non_exhaustive]
pub enum GroupError {
    /// Another program, or another part of this one, has opened the group. Leave it to the other, or open it again and
    /// fence that one off.
    #[error(
        "group {name:?} was opened by another process or handle (expected epoch {epoch}); leave it there, or start it \
         again here"
    )]
    Fenced {
        /// The group.
        name: String,
        /// The epoch in which this one ran.
        epoch: u64,
    },
    /// The store failed; see there what to do, and then open the group again.
    #[error("group {name:?} stopped because the store failed; open it again")]
    Store {
        /// The group.
        name: String,
        /// The failure.
        source: Arc<StoreError>,
    },
    /// The store refuses to write the rows of the group whatever they hold: a bug to report.
    #[error("group {name:?}: the store refuses its rows; report it")]
    Refused {
        /// The group.
        name: String,
        /// Why.
        source: Arc<CommitError>,
    },
    /// It was closed or dropped. Open it again.
    #[error("group {name:?} is closed; open it again")]
    Closed {
        /// The group.
        name: String,
    },
}

/// A component did not reach a position in time. The events up to that position are committed: do not repeat the
/// command.
#[derive(Debug, Clone, thiserror::Error)]
#[non_exhaustive]
pub enum WaitError {
    /// The timeout elapsed. Show the view as it is, or wait again.
    #[error(
        "{name:?} did not reach position {position} within {timeout:?}: it is {state} at {}; the command itself succeeded \
         and must not be repeated",
        position_or_start(*.reached)
    )]
    Timeout {
        /// The name of the component.
        name: String,
        /// The position that was waited for.
        position: Position,
        /// The position that the component has reached.
        reached: Option<Position>,
        /// What the component was doing when the timeout elapsed, such as `paused`.
        state: String,
        /// The timeout.
        timeout: Duration,
    },
    /// The component does not run any more in this process.
    #[error(
        "{name:?} stopped at {} and will not reach position {position} in this process; the command itself succeeded and \
         must not be repeated",
        position_or_start(*.reached)
    )]
    Stopped {
        /// The name of the component.
        name: String,
        /// The position that was waited for.
        position: Position,
        /// The position that the component has reached.
        reached: Option<Position>,
        /// Why a group or reactor stopped.
        #[source]
        reason: Option<GroupError>,
    },
}

/// Components did not shut down cleanly. No commit is partial; unfinished events are processed at the next start.
#[derive(Debug, Clone, thiserror::Error)]
#[non_exhaustive]
pub enum ShutdownError {
    /// Some components did not finish before the deadline and were aborted.
    #[error("{} did not finish within {deadline:?} and were aborted; no event is lost", .unfinished.join(", "))]
    Timeout {
        /// The deadline.
        deadline: Duration,
        /// The names of the components that were aborted.
        unfinished: Vec<String>,
    },
    /// The group or reactor had ended before, or its last commit failed.
    #[error("{name:?} ended before its shutdown")]
    Ended {
        /// The name of the group or reactor.
        name: String,
        /// Why it ended.
        source: GroupError,
    },
}

fn position_or_start(position: Option<Position>) -> String {
    position.map_or_else(|| "the start of the log".to_owned(), |position| format!("position {position}"))
}
