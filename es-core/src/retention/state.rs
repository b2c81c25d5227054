//! The fold of the reserved streams, and what follows from it for one stream: plain functions, the same for every store.

use std::collections::BTreeMap;

use crate::model::reserved::is_retention_stream as is_reserved;
use crate::model::{Category, StreamId};
use crate::model::{Position, Revision};
use crate::model::{RecordedEvent, Timestamp};
use crate::retention::operator::{DeleteKind, OperatorEvent, Rule, Scope};

/// An event of a retention stream that no store accepts. The log is damaged.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("position {position}: expected an event of retention, found {found}")]
pub struct InvalidOperatorEvent {
    /// The position of the event.
    pub position: Position,
    /// What was found.
    pub found: String,
}

/// A deletion of a stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Deletion {
    /// How.
    pub kind: DeleteKind,
    /// Up to which revision; `None` where the stream had no event.
    pub through: Option<Revision>,
    /// Where it stands in the log.
    pub position: Position,
}

/// Up to where, and as of when, a scavenge removes what is hidden.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ScavengePoint {
    /// The position of the point itself.
    pub position: Position,
    /// The time by which ages count.
    pub at: Timestamp,
}

/// All that operators have said about retention, up to a position of the log.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Retention {
    categories: BTreeMap<Category, Rule>,
    streams: BTreeMap<StreamId, Rule>,
    deletions: BTreeMap<StreamId, Deletion>,
    points: Vec<ScavengePoint>,
}

impl Retention {
    /// Whether nobody has said anything, so that everything is visible.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.categories.is_empty() && self.streams.is_empty() && self.deletions.is_empty() && self.points.is_empty()
    }

    /// Takes an event of a reserved stream in, in the order of the log. Passes over all other events.
    ///
    /// # Errors
    /// [`InvalidOperatorEvent`]: no store accepts this event, so the log is damaged.
    pub fn apply(&mut self, event: &RecordedEvent) -> Result<(), InvalidOperatorEvent> {
        if !is_reserved(&event.stream) {
            return Ok(());
        }
        let position = event.position;
        let said = OperatorEvent::read(&event.stream, &event.data.event_type, &event.data.payload)
            .map_err(|found| InvalidOperatorEvent { position, found })?;
        match said {
            OperatorEvent::RuleSet { scope: Scope::Stream(stream), rule, .. } => {
                self.streams.insert(stream, rule);
            }
            OperatorEvent::RuleSet { scope: Scope::Category(category), rule, .. } => {
                self.categories.insert(category, rule);
            }
            OperatorEvent::RuleCleared { scope: Scope::Stream(stream), .. } => {
                self.streams.remove(&stream);
            }
            OperatorEvent::RuleCleared { scope: Scope::Category(category), .. } => {
                self.categories.remove(&category);
            }
            OperatorEvent::StreamDeleted { stream, kind, through, .. } => {
                self.deletions.insert(stream, Deletion { kind, through, position });
            }
            OperatorEvent::ScavengePoint { at, .. } => self.points.push(ScavengePoint { position, at }),
        }
        Ok(())
    }

    /// What holds for a stream.
    #[must_use]
    pub fn of(&self, stream: &StreamId) -> StreamRetention {
        if self.is_empty() || is_reserved(stream) {
            return StreamRetention::default();
        }
        let of_category = self.categories.get(stream.category_str()).copied().unwrap_or_default();
        let rule = self.streams.get(stream).copied().unwrap_or_default().or(of_category);
        StreamRetention { rule, deletion: self.deletions.get(stream).copied() }
    }

    /// The rules, those of categories first, each in the order of names.
    pub fn rules(&self) -> impl Iterator<Item = (Scope, Rule)> {
        let categories = self.categories.iter().map(|(category, rule)| (Scope::Category(category.clone()), *rule));
        categories.chain(self.streams.iter().map(|(stream, rule)| (Scope::Stream(stream.clone()), *rule)))
    }

    /// The deletions, in the order of names: of each stream the last.
    pub fn deletions(&self) -> impl Iterator<Item = (&StreamId, &Deletion)> {
        self.deletions.iter()
    }

    /// The scavenge points, in order.
    #[must_use]
    pub fn points(&self) -> &[ScavengePoint] {
        &self.points
    }
}

/// What holds for one stream: its rule, with that of its category behind it, and its last deletion.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct StreamRetention {
    /// The rule.
    pub rule: Rule,
    /// The last deletion.
    pub deletion: Option<Deletion>,
}

impl StreamRetention {
    /// Whether everything is visible.
    #[must_use]
    pub const fn is_whole(&self) -> bool {
        self.deletion.is_none() && self.rule.is_empty()
    }

    /// The hard deletion, where there is one.
    #[must_use]
    pub fn hard_deletion(&self) -> Option<Deletion> {
        self.deletion.filter(|deletion| deletion.kind == DeleteKind::Hard)
    }

    /// The revision with which the stream begins: the one behind its last deletion, else the first. `None` where it does not
    /// begin again.
    #[must_use]
    pub fn begins(&self) -> Option<Revision> {
        match self.deletion {
            None => Some(Revision::FIRST),
            Some(Deletion { kind: DeleteKind::Soft, through, .. }) => Some(Revision::following(through)),
            Some(_) => None,
        }
    }

    /// Of a stream whose last event has the revision `last`: that revision if it is visible or was truncated, and `None` where
    /// the stream is deleted and was not written since.
    #[must_use]
    pub fn existing(&self, last: Option<Revision>) -> Option<Revision> {
        last.filter(|last| self.begins().is_some_and(|begins| *last >= begins))
    }

    /// The first revision that is visible as far as revisions say, of a stream whose last event has the revision `last`. Age
    /// may hide more: see [`oldest`](Self::oldest).
    #[must_use]
    pub fn first_by_revision(&self, last: Option<Revision>) -> Revision {
        let count = Revision::following(last).get();
        let Some(begins) = self.begins() else { return Revision::new(count) };
        let of_count = self.rule.max_count.map_or(0, |kept| count.saturating_sub(kept));
        let truncated = self.rule.truncate_before.map_or(0, Revision::get);
        Revision::new(begins.get().max(of_count).max(truncated))
    }

    /// Events recorded before this are hidden at the time `now`; `None` where age hides nothing.
    #[must_use]
    pub fn oldest(&self, now: Timestamp) -> Option<Timestamp> {
        let age = chrono::Duration::from_std(self.rule.max_age?).ok()?;
        now.checked_sub_signed(age)
    }

    /// Whether an event is visible at the time `now`: one with this revision and this recorded time, of a stream whose last
    /// event has the revision `last`.
    #[must_use]
    pub fn shows(&self, revision: Revision, recorded_at: Timestamp, last: Option<Revision>, now: Timestamp) -> bool {
        self.is_whole()
            || (revision >= self.first_by_revision(last) && self.oldest(now).is_none_or(|oldest| recorded_at >= oldest))
    }
}

/// What is left of a stream for its readers.
///
/// A stream that `begins` behind revision 0 was deleted and begins anew: nothing is owed of what was before. A stream whose
/// `first` is behind where it `begins` was truncated: what lies between is missing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Retained {
    /// The revision with which the stream begins: the one behind its last deletion, else 0.
    pub begins: Revision,
    /// The first revision that a read returns, or the one behind the last where none is left. At least `begins`.
    pub first: Revision,
    /// Whether the stream was hard deleted: nothing can be written to it.
    pub is_ended: bool,
}

impl Retained {
    /// Everything is there.
    pub const WHOLE: Self = Self { begins: Revision::FIRST, first: Revision::FIRST, is_ended: false };

    /// What is left of a stream whose last event has the revision `last`, of which reads return everything from `first` on.
    #[must_use]
    pub fn new(retention: &StreamRetention, first: Revision, last: Option<Revision>) -> Self {
        let begins = retention.begins().unwrap_or_else(|| Revision::following(last));
        let first = first.min(Revision::following(last)).max(begins);
        Self { begins, first, is_ended: retention.hard_deletion().is_some() }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    const fn rev(number: u64) -> Revision {
        Revision::new(number)
    }

    fn at(seconds: i64) -> Timestamp {
        Timestamp::from_timestamp(seconds, 0).expect("a time")
    }

    fn visible(retention: StreamRetention, count: u64, now: i64) -> Vec<u64> {
        // Event n was recorded at n seconds.
        let last = count.checked_sub(1).map(rev);
        (0..count).filter(|n| retention.shows(rev(*n), at(i64::try_from(*n).expect("small")), last, at(now))).collect()
    }

    #[test]
    fn each_limit_hides_a_beginning_and_together_they_hide_the_longest() {
        let with = |rule| StreamRetention { rule, deletion: None };
        let none = Rule::default();
        let age = Rule { max_age: Some(Duration::from_secs(2)), ..none };
        let count = Rule { max_count: Some(3), ..none };
        let before = Rule { truncate_before: Some(rev(1)), ..none };
        assert_eq!(visible(with(none), 5, 4), [0, 1, 2, 3, 4]);
        assert_eq!(visible(with(age), 5, 4), [2, 3, 4], "as old as allowed is not too old");
        assert_eq!(visible(with(age), 5, 9), [0; 0]);
        assert_eq!(visible(with(count), 5, 4), [2, 3, 4]);
        assert_eq!(visible(with(count), 2, 4), [0, 1]);
        assert_eq!(visible(with(before), 5, 4), [1, 2, 3, 4]);
        assert_eq!(visible(with(age.or(count).or(before)), 5, 5), [3, 4]);
    }

    #[test]
    fn a_deleted_stream_begins_anew_or_never() {
        let deletion = |kind| Some(Deletion { kind, through: Some(rev(2)), position: Position::FIRST });
        let soft = StreamRetention { deletion: deletion(DeleteKind::Soft), ..StreamRetention::default() };
        let hard = StreamRetention { deletion: deletion(DeleteKind::Hard), ..StreamRetention::default() };
        assert_eq!(visible(soft, 3, 0), [0; 0]);
        assert_eq!(visible(soft, 5, 0), [3, 4]);
        assert_eq!(visible(hard, 5, 0), [0; 0]);
        assert_eq!((soft.existing(Some(rev(2))), soft.existing(Some(rev(3)))), (None, Some(rev(3))));
        assert_eq!(hard.existing(Some(rev(2))), None);
        assert_eq!((soft.begins(), hard.begins()), (Some(rev(3)), None));
    }

    #[test]
    fn a_stream_rule_beats_its_category_field_by_field() {
        let mut retention = Retention::default();
        let category = Category::new("a").expect("valid");
        let stream = |name| StreamId::new(name).expect("valid");
        let of_category = Rule { max_count: Some(5), truncate_before: Some(rev(1)), max_age: None };
        retention.categories.insert(category, of_category);
        retention.streams.insert(stream("a-1"), Rule { max_count: Some(9), ..Rule::default() });
        assert_eq!(retention.of(&stream("a-1")).rule, Rule { max_count: Some(9), ..of_category });
        assert_eq!(retention.of(&stream("a-2")).rule, of_category);
        assert!(retention.of(&stream("b-1")).is_whole());
        assert!(retention.of(&stream("es.retention-rules")).is_whole());
    }
}
