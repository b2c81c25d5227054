//! [`Erasure`]: a deletion of content that consumers of the log must follow.

use std::fmt;

use crate::model::{RecordedEvent, Revision, StreamId, SubjectId};
use crate::retention::operator::{DeleteKind, OperatorEvent};
use crate::retention::{ReplicatedDeletion, is_reserved};

/// Content that was erased: consumers that hold a copy of it delete the copy.
///
/// An erasure is an event of the log. A consumer receives it in order, between the events before and after it. Events
/// before it may be missing: reads do not return the events of a deleted stream.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Erasure {
    /// A stream was deleted.
    Stream {
        /// The stream.
        stream: StreamId,
        /// The kind of the deletion. After a soft delete the stream may be written again.
        kind: DeleteKind,
        /// The last deleted revision, or `None` if the stream had no event. If the stream is
        /// [replicated](crate::retention::ReplicatedDeletion), it is the revision before the deletion on this node, and
        /// the deletion may keep events up to it.
        through: Option<Revision>,
    },
    /// The key of the personal data of a subject was destroyed. The events stay, and their personal data is unreadable.
    Subject {
        /// The subject.
        subject: SubjectId,
    },
}

impl Erasure {
    /// Returns the erasure that an event records, or `None` for every other event.
    #[must_use]
    pub fn of(event: &RecordedEvent) -> Option<Self> {
        if let Ok(Some(_)) = ReplicatedDeletion::of(event.into()) {
            let (stream, through) = (event.stream.clone(), event.revision.previous());
            return Some(Self::Stream { stream, kind: DeleteKind::Soft, through });
        }
        if !is_reserved(&event.stream) {
            return None;
        }
        match OperatorEvent::read(&event.stream, &event.data.event_type, &event.data.payload) {
            Ok(OperatorEvent::StreamDeleted { stream, kind, through, .. }) => {
                Some(Self::Stream { stream, kind, through })
            }
            Ok(OperatorEvent::SubjectErased { subject, .. }) => Some(Self::Subject { subject }),
            _ => None,
        }
    }

    /// Returns the name of the deleted stream or of the erased subject.
    #[must_use]
    pub fn name(&self) -> &str {
        match self {
            Self::Stream { stream, .. } => stream.as_str(),
            Self::Subject { subject } => subject.as_str(),
        }
    }

    /// Returns the deleted stream, or `None` if a subject was erased.
    #[must_use]
    pub const fn stream(&self) -> Option<&StreamId> {
        match self {
            Self::Stream { stream, .. } => Some(stream),
            Self::Subject { .. } => None,
        }
    }

    /// Returns the erased subject, or `None` if a stream was deleted.
    #[must_use]
    pub const fn subject(&self) -> Option<&SubjectId> {
        match self {
            Self::Subject { subject } => Some(subject),
            Self::Stream { .. } => None,
        }
    }
}

impl fmt::Display for Erasure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Stream { stream, kind, .. } => write!(f, "{kind} deletion of stream {stream:?}"),
            Self::Subject { subject } => write!(f, "erasure of subject {subject:?}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{CommitPart, EventType, NewEvent, Position, Timestamp};
    use crate::retention::Note;

    fn recorded(stream: StreamId, event: NewEvent) -> RecordedEvent {
        RecordedEvent {
            position: Position::FIRST,
            stream,
            revision: Revision::FIRST,
            recorded_at: Timestamp::UNIX_EPOCH,
            occurred_at: Timestamp::UNIX_EPOCH,
            part: CommitPart { index: 0, size: 1 },
            data: event.data,
        }
    }

    #[test]
    fn deletions_and_erased_subjects_are_erasures_and_other_events_are_not() {
        let stream = StreamId::new("customer-7").unwrap();
        let (kind, through, note) = (DeleteKind::Hard, Some(Revision::new(3)), Note::default());
        let deleted = OperatorEvent::StreamDeleted { stream: stream.clone(), kind, through, note: note.clone() };
        let subject = SubjectId::new("7c9e").unwrap();
        let erased = OperatorEvent::SubjectErased { subject: subject.clone(), note: note.clone() };
        let cleared = OperatorEvent::RuleCleared { scope: crate::retention::Scope::Stream(stream.clone()), note };
        let of = |event: &OperatorEvent| {
            let (stream, event) = event.encode();
            Erasure::of(&recorded(stream, event))
        };
        assert_eq!(of(&deleted), Some(Erasure::Stream { stream: stream.clone(), kind, through }));
        assert_eq!(of(&erased), Some(Erasure::Subject { subject }));
        assert_eq!(of(&cleared), None);
        let (_, same_content) = deleted.encode();
        assert_eq!(Erasure::of(&recorded(stream, same_content)), None, "only reserved streams contain erasures");
        let other = NewEvent::json(EventType::new("x").unwrap(), "{}");
        assert_eq!(Erasure::of(&recorded(StreamId::new("es.retention-deletions").unwrap(), other)), None);
    }
    #[test]
    fn an_erasure_has_the_name_of_what_it_erases() {
        let (stream, subject) = (StreamId::new("customer-7").unwrap(), SubjectId::new("7c9e").unwrap());
        let of_stream = Erasure::Stream { stream: stream.clone(), kind: DeleteKind::Soft, through: None };
        let of_subject = Erasure::Subject { subject: subject.clone() };
        assert_eq!((of_stream.name(), of_subject.name()), ("customer-7", "7c9e"));
        assert_eq!((of_stream.stream(), of_stream.subject()), (Some(&stream), None));
        assert_eq!((of_subject.stream(), of_subject.subject()), (None, Some(&subject)));
        assert_eq!(of_stream.to_string(), "soft deletion of stream \"customer-7\"");
        assert_eq!(of_subject.to_string(), "erasure of subject \"7c9e\"");
    }
}
