//! Errors of the start, the wait methods and the shutdown of background components: projections, reactors, consumer
//! groups.

use std::sync::Arc;
use std::time::Duration;

use crate::model::{AheadOfLog, NameError, Position};
use crate::store::{CommitError, StoreError};

/// A background component could not be started.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StartError {
    /// The name of the component is invalid.
    #[error("invalid name of a projection, reactor or consumer group")]
    Name(#[from] NameError),
    /// Two components of one kind have the same name, so they would write the same rows. Rename one of them.
    #[error("duplicate name {name:?}; rename one of the projections, reactors or groups")]
    DuplicateName {
        /// The name.
        name: String,
    },
    /// The projection runs inline in this store, so it would have two writers. Run it inline or in the background.
    #[error("projection {name:?} runs inline in this store; run it inline or in the background, not both")]
    RunsInline {
        /// The name of the projection.
        name: &'static str,
    },
    /// The caller is outside of a tokio runtime.
    #[error("no tokio runtime found; start background components from within a tokio runtime")]
    NoRuntime,
    /// The position after which a new group or reactor starts is ahead of the log.
    #[error(transparent)]
    AheadOfLog(#[from] AheadOfLog),
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// Other processes repeatedly started the same group or reactor. Run it in one process.
    #[error("other processes started {name:?} during each of {attempts} attempts; run it in one process")]
    Contended {
        /// The name of the group or reactor.
        name: String,
        /// The number of attempts.
        attempts: u32,
    },
    /// The store rejected the rows of the group or reactor. This is a bug: report it.
    #[error("the store rejected the rows of {name:?}")]
    Refused {
        /// The name of the group or reactor.
        name: String,
        /// The error of the commit.
        source: Box<CommitError>,
    },
}

/// A group has stopped. Events that were not acked are delivered again at its next start.
#[derive(Debug, Clone, thiserror::Error)]
#[non_exhaustive]
pub enum GroupError {
    /// Another process or handle started the group. Starting it again here fences that one off.
    #[error(
        "group {name:?} was started by another process or handle (expected epoch {epoch}); leave it there, or start it \
         again here"
    )]
    Fenced {
        /// The group.
        name: String,
        /// The epoch of this handle.
        epoch: u64,
    },
    /// The store failed. Fix the cause, then start the group again.
    #[error("group {name:?} stopped because the store failed; start it again")]
    Store {
        /// The group.
        name: String,
        /// The failure.
        source: Arc<StoreError>,
    },
    /// The store rejected the rows of the group. This is a bug: report it.
    #[error("group {name:?}: the store rejected its rows; report it")]
    Refused {
        /// The group.
        name: String,
        /// The error of the commit.
        source: Arc<CommitError>,
    },
    /// The group was shut down or dropped. Start it again.
    #[error("group {name:?} is closed; start it again")]
    Closed {
        /// The group.
        name: String,
    },
}

/// A component did not reach a position. Unless the position is ahead of the log, the events up to it are committed: do
/// not repeat the command.
#[derive(Debug, Clone, thiserror::Error)]
#[non_exhaustive]
pub enum WaitError {
    /// The timeout elapsed. Show the view as it is, or wait again.
    #[error(
        "{name:?} did not reach position {position} within {timeout:?}: it is {state} at {}; the command itself \
         succeeded and must not be repeated",
        position_or_start(*.reached)
    )]
    Timeout {
        /// The name of the component.
        name: String,
        /// The position that was waited for.
        position: Position,
        /// The position that the component has reached.
        reached: Option<Position>,
        /// The state of the component when the timeout elapsed, such as `paused`.
        state: String,
        /// The timeout.
        timeout: Duration,
    },
    /// The component has stopped in this process.
    #[error(
        "{name:?} stopped at {} and will not reach position {position} in this process; the command itself succeeded \
         and must not be repeated",
        position_or_start(*.reached)
    )]
    Stopped {
        /// The name of the component.
        name: String,
        /// The position that was waited for.
        position: Position,
        /// The position that the component has reached.
        reached: Option<Position>,
        /// The reason why a group or reactor stopped.
        #[source]
        reason: Option<GroupError>,
    },
    /// The position is after the head of the log. Returned without waiting.
    #[error(transparent)]
    AheadOfLog(#[from] AheadOfLog),
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
    /// The group or reactor stopped before the shutdown, or its last commit failed.
    #[error("{name:?} stopped before its shutdown")]
    Ended {
        /// The name of the group or reactor.
        name: String,
        /// The reason why it stopped.
        source: GroupError,
    },
}

fn position_or_start(position: Option<Position>) -> String {
    position.map_or_else(|| "the start of the log".to_owned(), |position| format!("position {position}"))
}
