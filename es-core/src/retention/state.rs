//! The fold of the reserved streams, and the visible events of a stream: pure functions that every store shares.

use std::collections::BTreeMap;

use crate::model::reserved::is_retention_stream as is_reserved;
use crate::model::{Category, StreamId};
use crate::model::{Position, Revision};
use crate::model::{RecordedEvent, Timestamp};
use crate::retention::operator::{DeleteKind, OperatorEvent, Rule, Scope};

/// An event of a reserved retention stream is not valid. No store accepts such an event, so the log is damaged.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("position {position}: expected a retention event, found {found}")]
pub struct InvalidOperatorEvent {
    /// The position of the event.
    pub position: Position,
    /// A description of the invalid event.
    pub found: String,
}

/// A deletion of a stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Deletion {
    /// The kind of the deletion.
    pub kind: DeleteKind,
    /// The last deleted revision, or `None` if the stream had no event.
    pub through: Option<Revision>,
    /// The position of the deletion event.
    pub position: Position,
}

/// The position and the time at which a scavenge determines the hidden events that it removes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ScavengePoint {
    /// The position of the scavenge point event.
    pub position: Position,
    /// The time that decides which events are too old.
    pub at: Timestamp,
}

/// The rules, deletions and scavenge points of a log, up to a position.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Retention {
    categories: BTreeMap<Category, Rule>,
    streams: BTreeMap<StreamId, Rule>,
    deletions: BTreeMap<StreamId, Deletion>,
    points: Vec<ScavengePoint>,
}

impl Retention {
    /// Returns `true` if there is no rule, deletion or scavenge point. Every event is then visible.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.categories.is_empty() && self.streams.is_empty() && self.deletions.is_empty() && self.points.is_empty()
    }

    /// Applies an event of a reserved stream, and ignores every other event. Call it with the events in log order.
    ///
    /// # Errors
    /// [`InvalidOperatorEvent`] if the event is in a reserved stream but is not a valid operator event.
    pub fn apply(&mut self, event: &RecordedEvent) -> Result<(), InvalidOperatorEvent> {
        if !is_reserved(&event.stream) {
            return Ok(());
        }
        let position = event.position;
        let action = OperatorEvent::read(&event.stream, &event.data.event_type, &event.data.payload)
            .map_err(|found| InvalidOperatorEvent { position, found })?;
        match action {
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
            // It hides no event: the content of its events can no longer be decrypted.
            OperatorEvent::SubjectErased { .. } => {}
            OperatorEvent::ScavengePoint { at, .. } => self.points.push(ScavengePoint { position, at }),
        }
        Ok(())
    }

    /// Returns the rule and the deletion that apply to a stream.
    #[must_use]
    pub fn of(&self, stream: &StreamId) -> StreamRetention {
        if self.is_empty() || is_reserved(stream) {
            return StreamRetention::default();
        }
        let category_rule = self.categories.get(stream.category_str()).copied().unwrap_or_default();
        let rule = self.streams.get(stream).copied().unwrap_or_default().or(category_rule);
        StreamRetention { rule, deletion: self.deletions.get(stream).copied() }
    }

    /// Returns the rules: first those of categories, then those of streams, each sorted by name.
    pub fn rules(&self) -> impl Iterator<Item = (Scope, Rule)> {
        let categories = self.categories.iter().map(|(category, rule)| (Scope::Category(category.clone()), *rule));
        categories.chain(self.streams.iter().map(|(stream, rule)| (Scope::Stream(stream.clone()), *rule)))
    }

    /// Returns the last deletion of each deleted stream, sorted by name.
    pub fn deletions(&self) -> impl Iterator<Item = (&StreamId, &Deletion)> {
        self.deletions.iter()
    }

    /// Returns the scavenge points in log order.
    #[must_use]
    pub fn points(&self) -> &[ScavengePoint] {
        &self.points
    }
}

/// The effective retention of one stream.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct StreamRetention {
    /// The rule of the stream, with unset limits taken from the rule of its category.
    pub rule: Rule,
    /// The last deletion.
    pub deletion: Option<Deletion>,
}

impl StreamRetention {
    /// Returns `true` if there is no rule and no deletion. Every event of the stream is then visible.
    #[must_use]
    pub const fn is_whole(&self) -> bool {
        self.deletion.is_none() && self.rule.is_empty()
    }

    /// Returns the deletion if it is a hard delete.
    #[must_use]
    pub fn hard_deletion(&self) -> Option<Deletion> {
        self.deletion.filter(|deletion| deletion.kind == DeleteKind::Hard)
    }

    /// Returns the revision at which the stream begins: the one after the last soft delete, or the first revision if
    /// the stream was not deleted. Returns `None` after a hard delete.
    #[must_use]
    pub fn begins(&self) -> Option<Revision> {
        match self.deletion {
            None => Some(Revision::FIRST),
            Some(Deletion { kind: DeleteKind::Soft, through, .. }) => Some(Revision::following(through)),
            Some(_) => None,
        }
    }

    /// Returns `last`, the revision of the last event in the stream, unless a deletion covers it. A truncated stream
    /// still exists: limits do not matter here.
    #[must_use]
    pub fn existing(&self, last: Option<Revision>) -> Option<Revision> {
        last.filter(|last| self.begins().is_some_and(|begins| *last >= begins))
    }

    /// Returns the first revision that the deletion, `max_count` and `truncate_before` leave visible, in a stream whose
    /// last event has the revision `last`. `max_age` may hide more: see [`oldest`](Self::oldest).
    #[must_use]
    pub fn first_by_revision(&self, last: Option<Revision>) -> Revision {
        let count = Revision::following(last).get();
        let Some(begins) = self.begins() else { return Revision::new(count) };
        let by_count = self.rule.max_count.map_or(0, |kept| count.saturating_sub(kept));
        let by_truncation = self.rule.truncate_before.map_or(0, Revision::get);
        Revision::new(begins.get().max(by_count).max(by_truncation))
    }

    /// Returns the recorded time before which events are too old at the time `now`, or `None` if age hides no event.
    #[must_use]
    pub fn oldest(&self, now: Timestamp) -> Option<Timestamp> {
        let age = chrono::Duration::from_std(self.rule.max_age?).ok()?;
        now.checked_sub_signed(age)
    }

    /// Returns `true` if an event with this revision and recorded time is visible at the time `now`. `last` is the
    /// revision of the last event in its stream.
    #[must_use]
    pub fn shows(&self, revision: Revision, recorded_at: Timestamp, last: Option<Revision>, now: Timestamp) -> bool {
        self.is_whole()
            || (revision >= self.first_by_revision(last) && self.oldest(now).is_none_or(|oldest| recorded_at >= oldest))
    }
}

/// The range of a stream that readers see.
///
/// If `begins` is after revision 0, the stream was deleted and then written again: the earlier events are not part of
/// it. If `first` is after `begins`, the stream was truncated: the events in between are missing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Retained {
    /// The revision at which the stream begins: the one after its last deletion, or 0.
    pub begins: Revision,
    /// The first revision that a read returns, or the one after the last revision if no event is visible. At least
    /// `begins`.
    pub first: Revision,
    /// Whether the stream was hard deleted and cannot be written.
    pub is_ended: bool,
}

impl Retained {
    /// A stream whose events are all visible.
    pub const WHOLE: Self = Self { begins: Revision::FIRST, first: Revision::FIRST, is_ended: false };

    /// Returns `true` if a rule hides the first events of the stream. The visible events alone do not determine the
    /// state of an aggregate.
    #[must_use]
    pub fn is_truncated(&self) -> bool {
        self.first > self.begins
    }

    /// Returns the range of a stream whose last event has the revision `last` and whose reads return the events from
    /// `first` on.
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
    fn each_limit_hides_the_oldest_events_and_the_strictest_limit_wins() {
        let with = |rule| StreamRetention { rule, deletion: None };
        let none = Rule::default();
        let age = Rule { max_age: Some(Duration::from_secs(2)), ..none };
        let count = Rule { max_count: Some(3), ..none };
        let before = Rule { truncate_before: Some(rev(1)), ..none };
        assert_eq!(visible(with(none), 5, 4), [0, 1, 2, 3, 4]);
        assert_eq!(visible(with(age), 5, 4), [2, 3, 4], "an event of exactly max_age is visible");
        assert_eq!(visible(with(age), 5, 9), [0; 0]);
        assert_eq!(visible(with(count), 5, 4), [2, 3, 4]);
        assert_eq!(visible(with(count), 2, 4), [0, 1]);
        assert_eq!(visible(with(before), 5, 4), [1, 2, 3, 4]);
        assert_eq!(visible(with(age.or(count).or(before)), 5, 5), [3, 4]);
    }

    #[test]
    fn a_soft_deleted_stream_begins_after_the_deletion_and_a_hard_deleted_one_never() {
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
    fn a_stream_is_truncated_if_a_rule_hides_its_first_events_but_not_if_it_was_deleted() {
        let deletion = Some(Deletion { kind: DeleteKind::Soft, through: Some(rev(2)), position: Position::FIRST });
        let deleted = StreamRetention { deletion, ..StreamRetention::default() };
        for (retention, first, begins, is_truncated) in [
            (StreamRetention::default(), 0, 0, false),
            (StreamRetention::default(), 1, 0, true),
            (deleted, 3, 3, false),
            (deleted, 4, 3, true),
        ] {
            let retained = Retained::new(&retention, rev(first), Some(rev(9)));
            assert_eq!((retained.begins, retained.first), (rev(begins), rev(first)));
            assert_eq!(retained.is_truncated(), is_truncated, "{retained:?}");
        }
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
        // No store accepts a rule for the reserved streams. If there were one, it would hide the rules themselves.
        retention.categories.insert(Category::new("es.retention").expect("valid"), of_category);
        assert!(retention.of(&stream("es.retention-rules")).is_whole());
    }
    #[test]
    fn rules_and_deletions_are_listed_by_name_and_points_in_log_order() {
        let stream = |name| StreamId::new(name).expect("valid");
        let category = Scope::Category(Category::new("z").expect("valid"));
        let rule = Rule { max_count: Some(5), ..Rule::default() };
        let (kind, note) = (DeleteKind::Hard, crate::retention::Note::default());
        let set = |scope| OperatorEvent::RuleSet { scope, rule, note: note.clone() };
        let deleted =
            |name| OperatorEvent::StreamDeleted { stream: stream(name), kind, through: None, note: note.clone() };
        let point = |seconds| OperatorEvent::ScavengePoint { at: at(seconds), note: note.clone() };
        let log = [
            set(Scope::Stream(stream("b-1"))),
            set(Scope::Stream(stream("a-1"))),
            set(category.clone()),
            deleted("d-1"),
            deleted("c-1"),
            point(2),
            point(1),
        ];
        let mut retention = Retention::default();
        assert!(retention.is_empty());
        for (number, event) in (1..).zip(&log) {
            let (stream, event) = event.encode();
            retention.apply(&recorded(number, stream, event.data)).expect("a valid event");
            assert!(!retention.is_empty());
        }
        let rules: Vec<_> = retention.rules().map(|(scope, _)| scope).collect();
        assert_eq!(rules, [category, Scope::Stream(stream("a-1")), Scope::Stream(stream("b-1"))]);
        let deletions: Vec<_> =
            retention.deletions().map(|(stream, it)| (stream.as_str(), it.position.get())).collect();
        assert_eq!(deletions, [("c-1", 5), ("d-1", 4)]);
        let points: Vec<_> = retention.points().iter().map(|point| (point.position.get(), point.at)).collect();
        assert_eq!(points, [(6, at(2)), (7, at(1))]);
    }

    fn recorded(position: u64, stream: StreamId, data: crate::model::EventData) -> RecordedEvent {
        RecordedEvent {
            position: Position::new(position).expect("not zero"),
            stream,
            revision: Revision::FIRST,
            recorded_at: Timestamp::UNIX_EPOCH,
            occurred_at: Timestamp::UNIX_EPOCH,
            part: crate::model::CommitPart { index: 0, size: 1 },
            data,
        }
    }
}
