//! [`Control`]: the requests of an operator, in a row that every commit of a worker expects to be unchanged.
//!
//! A method of [`ProjectionAdmin`](super::ProjectionAdmin) changes this row and the rows that it affects in one commit.
//! The store then refuses the commit that a worker is preparing; the worker reads the row again and acts on it.
//! Therefore no worker acts against a request once the method has returned.

use serde::{Deserialize, Serialize};

use crate::model::Position;
use crate::model::Timestamp;

/// The first event that a rebuild applies.
///
/// Every variant except [`Start`](Self::Start) gives a view of the later events only. This suits a view whose rows do
/// not depend on earlier events, such as a list of the last month's orders. It does not suit a sum.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum RebuildFrom {
    /// The first event of the log.
    #[default]
    Start,
    /// The event at this position.
    Position(Position),
    /// The first event that was recorded at this time or later.
    Time(Timestamp),
}

/// The requests of an operator for one projection.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Control {
    /// The number of requests so far, which makes every version of the row unique.
    pub(crate) sequence: u64,
    #[serde(default)]
    pub(crate) is_paused: bool,
    /// The requests that the worker has not served yet, in order.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) requests: Vec<Request>,
}

impl Control {
    /// Adds a request and drops the earlier ones that it makes obsolete.
    pub(crate) fn request(&mut self, request: Request) {
        self.requests.retain(|earlier| *earlier == Request::Reset && request != Request::Reset);
        self.requests.push(request);
    }
}

/// A request that a worker serves once.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Request {
    /// Empty the view and rebuild it.
    Reset,
    /// Build a new generation of the view beside the active one.
    Rebuild(RebuildFrom),
    /// Build a new generation, because events arrived below the settled time.
    RebuildAfterLateEvents,
    /// Drop the generation that is being built.
    CancelRebuild,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_later_request_does_not_drop_an_earlier_reset() {
        let mut control = Control::default();
        for request in [
            Request::Rebuild(RebuildFrom::Start),
            Request::Reset,
            Request::Rebuild(RebuildFrom::Start),
            Request::CancelRebuild,
        ] {
            control.request(request);
        }
        assert_eq!(control.requests, [Request::Reset, Request::CancelRebuild]);
        control.request(Request::Reset);
        assert_eq!(control.requests, [Request::Reset]);
    }
}
