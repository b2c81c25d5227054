use std::sync::Arc;

use crate::store::{CommitError, StoreError};

/// A group does not run any more. What was not acked comes again when it is opened.
#[derive(Debug, Clone, thiserror::Error)]
#[non_exhaustive]
pub enum GroupError {
    /// Another program, or another part of this one, has opened the group. Leave it to the other, or open it again and
    /// fence that one off.
    #[error("group {name:?} was opened anew elsewhere (expected epoch {epoch}); leave it there, or open it again here")]
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

/// What a consumer said of a delivery does not count.
#[derive(Debug, Clone, thiserror::Error)]
#[non_exhaustive]
pub enum SettleError {
    /// The consumer took too long: the event has been given to another, or comes again. What was done for it is done twice,
    /// under the same delivery key. Where that happens often, allow more time.
    #[error("the answer came too late, the event is delivered again; answer sooner, or let the group allow more time")]
    TooLate,
    /// The group does not run any more. Whether the answer was written is unknown; if not, the event comes again.
    #[error(transparent)]
    Group(#[from] GroupError),
}
