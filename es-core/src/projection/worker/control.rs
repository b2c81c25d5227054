//! What an operator has asked for: [`Control`], a row that every commit of a worker demands to be as it was read.
//!
//! A verb changes this row together with what else it changes. A worker that has a commit on its way is then refused, looks, and
//! does as it was told; behind the answer to a verb nothing happens that it has forbidden.

use serde::{Deserialize, Serialize};

use crate::model::Position;
use crate::model::Timestamp;

/// Where a rebuild begins.
///
/// Anything but [`Start`](Self::Start) gives a view of the later events only. That is right for a view whose rows do not
/// depend on what came before, such as a list of the last month's orders, and wrong for a sum.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum RebuildFrom {
    /// The first event.
    #[default]
    Start,
    /// This position, with the event there.
    Position(Position),
    /// The first event that was recorded then or later.
    Time(Timestamp),
}

/// What an operator has asked for.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Control {
    /// How many verbs there were: no two have the same row.
    pub(crate) verbs: u64,
    #[serde(default)]
    pub(crate) is_paused: bool,
    /// What the worker has still to do, in order.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) wishes: Vec<Wish>,
}

impl Control {
    /// Adds a wish, which takes the place of those that it makes idle.
    pub(crate) fn wish(&mut self, wish: Wish) {
        self.wishes.retain(|earlier| *earlier == Wish::Reset && wish != Wish::Reset);
        self.wishes.push(wish);
    }
}

/// What an operator wants done once.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Wish {
    /// Empty the view, and begin anew.
    Reset,
    /// Build the view anew, beside the one that is read.
    Rebuild(RebuildFrom),
    /// Give up what is being built.
    CancelRebuild,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reset_is_not_forgotten_over_what_is_asked_for_later() {
        let mut control = Control::default();
        for wish in
            [Wish::Rebuild(RebuildFrom::Start), Wish::Reset, Wish::Rebuild(RebuildFrom::Start), Wish::CancelRebuild]
        {
            control.wish(wish);
        }
        assert_eq!(control.wishes, [Wish::Reset, Wish::CancelRebuild]);
        control.wish(Wish::Reset);
        assert_eq!(control.wishes, [Wish::Reset]);
    }
}
