//! The home of a stream: the node that decides on its commits, for aggregates that declare `owner`.
//!
//! ```text
//!   first event of the stream            the home is the origin of the event     epoch 0
//!   es.handed-over { to, epoch: n + 1 }  the home is the origin `to`             epoch n + 1
//! ```
//!
//! The table `es.homes` has one row for each stream with a home, and one that says for which origins the node of the
//! store decides. The hook of a replica writes them in the commit of the events and refuses commits to other streams. A
//! repository reads them before it decides, because a node that is not the home would decide on an old state.

use std::collections::BTreeSet;
use std::fmt;

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use crate::model::reserved::{HANDED_OVER, HOMES};
use crate::model::{CanonicalKey, Category, EventType, HybridTime, NewEvent, OriginId, RecordedEvent, StreamId, Table};
use crate::store::{EventReader, StoreError};

/// The key of the row of the node. Names of streams have no control characters.
const NODE: &[u8] = &[0];

/// The node that decides on the commits to a stream.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Home {
    /// The node that has or had this origin: it wrote the first event of the stream, or the stream was handed over to
    /// it.
    Origin(OriginId),
    /// The node with this name, because the stream has no events yet, and the id of the aggregate names the node that
    /// creates it.
    Node(String),
}

impl fmt::Display for Home {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Origin(origin) => write!(f, "the node with the origin {origin}"),
            Self::Node(name) => write!(f, "the node {name:?}"),
        }
    }
}

/// Another node decides on the commits to a stream, because its aggregate declares `owner`. Nothing was written. Send
/// the command to the home, or hand the stream over.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("stream {stream:?} is decided by {home}, not by this node; send the command there")]
pub struct NotOwner {
    /// The stream.
    pub stream: StreamId,
    /// The home of the stream, as far as this node knows. It may have been handed over since.
    pub home: Home,
}

/// The origins for which the node of a store decides.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NodeHomes {
    /// The name of the node.
    pub node: String,
    /// The present origin first, and the former origins of which the node has every event.
    pub origins: Vec<OriginId>,
    /// The former origins of which the node may have lost events. Another node could know of them.
    pub unconfirmed: Vec<OriginId>,
    /// The categories of which each stream has a row.
    pub categories: BTreeSet<Category>,
}

/// The home of a stream.
///
/// Two assignments can be concurrent: two nodes write the first event, or a node takes a stream over whose home is
/// alive. The greater epoch wins, then the first in canonical order. So the home follows from the set of the events.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StreamHome {
    /// The origin whose node decides.
    pub origin: OriginId,
    /// The number of times that the stream was handed over.
    pub epoch: u64,
    /// The key of the event that made the node the home.
    since: CanonicalKey,
}

/// The payload of the event that hands a stream over.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct HandOver {
    /// The origin whose node decides from now on.
    pub to: OriginId,
    /// The number of times that the stream was handed over, including this one.
    pub epoch: u64,
    /// Whether a node took the stream over without its home.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub forced: bool,
}

/// Returns `true` if an event hands its stream over.
pub(crate) fn is_hand_over(event_type: &EventType) -> bool {
    *event_type == HANDED_OVER
}

/// Returns the table of homes.
#[must_use]
pub fn table() -> Table {
    Table::well_known(HOMES)
}

/// Returns the key of the row of a stream.
#[must_use]
pub fn stream_key(stream: &StreamId) -> Bytes {
    Bytes::copy_from_slice(stream.as_str().as_bytes())
}

/// Returns the stream of a row; `None` for the row of the node.
///
/// # Errors
/// [`StoreError::Damaged`] if the key is no name of a stream.
pub fn stream_of(key: &[u8]) -> Result<Option<StreamId>, StoreError> {
    if key == NODE {
        return Ok(None);
    }
    let stream = std::str::from_utf8(key).ok().and_then(|text| StreamId::new(text).ok());
    stream.map(Some).ok_or_else(|| damaged(key))
}

fn damaged(bytes: &[u8]) -> StoreError {
    StoreError::damaged(format!("a row of table {HOMES}"), format!("found the bytes {bytes:02x?}"))
}

impl NodeHomes {
    /// The key of the row.
    pub const KEY: &[u8] = NODE;

    /// Encodes the row.
    ///
    /// # Errors
    /// [`StoreError::Io`] if it cannot be encoded.
    pub fn encode(&self) -> Result<Bytes, StoreError> {
        let value = serde_json::to_vec(self).map_err(|error| StoreError::io("write the homes of the node", error))?;
        Ok(value.into())
    }

    /// Decodes the row.
    ///
    /// # Errors
    /// [`StoreError::Damaged`] if it cannot be read.
    pub fn decode(value: &[u8]) -> Result<Self, StoreError> {
        serde_json::from_slice(value).map_err(|_| damaged(value))
    }

    /// Checks that the node decides on the commits to a stream. `creator` is the name of the node that creates it.
    ///
    /// # Errors
    /// [`NotOwner`] if another node does.
    pub fn check(&self, stream: &StreamId, home: Option<StreamHome>, creator: Option<String>) -> Result<(), NotOwner> {
        let home = match (home, creator) {
            (Some(home), _) if !self.origins.contains(&home.origin) => Home::Origin(home.origin),
            (None, Some(creator)) if creator != self.node => Home::Node(creator),
            _ => return Ok(()),
        };
        Err(NotOwner { stream: stream.clone(), home })
    }
}

impl StreamHome {
    /// Returns the home after an event of the stream. The events may be given in any order.
    #[must_use]
    pub fn after(before: Option<Self>, event: &RecordedEvent) -> Self {
        let since = event.canonical_key();
        let next = match HandOver::read(&event.data.event_type, &event.data.payload) {
            Ok(Some(HandOver { to, epoch, .. })) => Self { origin: to, epoch, since },
            _ => Self { origin: since.origin, epoch: 0, since },
        };
        let wins = |before: &Self| next.epoch > before.epoch || next.epoch == before.epoch && since < before.since;
        before.filter(|before| !wins(before)).unwrap_or(next)
    }

    /// Returns the home after a hand-over that is not numbered yet.
    #[must_use]
    pub const fn handed_over(self, hand_over: &HandOver) -> Self {
        Self { origin: hand_over.to, epoch: hand_over.epoch, ..self }
    }

    /// Encodes the row.
    #[must_use]
    pub fn encode(self) -> Bytes {
        let CanonicalKey { time, origin } = self.since;
        [self.origin.get(), self.epoch, time.to_bits(), origin.get()].map(u64::to_be_bytes).concat().into()
    }

    /// Decodes the row.
    ///
    /// # Errors
    /// [`StoreError::Damaged`] if it cannot be read.
    pub fn decode(value: &[u8]) -> Result<Self, StoreError> {
        let (numbers, rest) = value.as_chunks::<8>();
        let &[home, epoch, time, origin] = numbers else { return Err(damaged(value)) };
        if !rest.is_empty() {
            return Err(damaged(value));
        }
        let origin_of = |bytes| OriginId::new(u64::from_be_bytes(bytes));
        let since = CanonicalKey { time: HybridTime::from_bits(u64::from_be_bytes(time)), origin: origin_of(origin) };
        Ok(Self { origin: origin_of(home), epoch: u64::from_be_bytes(epoch), since })
    }
}

impl HandOver {
    /// Reads an event. Returns `None` if the type is not that of a hand-over.
    ///
    /// # Errors
    /// A description of the invalid payload.
    pub fn read(event_type: &EventType, payload: &[u8]) -> Result<Option<Self>, String> {
        if !is_hand_over(event_type) {
            return Ok(None);
        }
        let invalid = |found: String| format!("the event type {event_type:?} with {found}");
        let read: Self =
            serde_json::from_slice(payload).map_err(|error| invalid(format!("an invalid payload: {error}")))?;
        // The first event of a stream has epoch 0, and each epoch has a next one.
        if read.epoch == 0 || read.epoch == u64::MAX {
            return Err(invalid(format!("the epoch {}", read.epoch)));
        }
        Ok(Some(read))
    }

    /// Returns the event to append to the stream.
    ///
    /// # Errors
    /// [`StoreError::Io`] if it cannot be encoded.
    pub fn encode(&self) -> Result<NewEvent, StoreError> {
        let payload = serde_json::to_vec(self).map_err(|error| StoreError::io("encode a hand-over", error))?;
        Ok(NewEvent::json(EventType::well_known(HANDED_OVER), payload))
    }
}

/// Checks that the node of a store decides on the commits to a stream. A store without a replica decides on all.
///
/// # Errors
/// [`StoreError`] if the store fails. The inner error is that of [`NodeHomes::check`].
pub(crate) async fn check(
    store: &dyn EventReader,
    stream: &StreamId,
    creator: Option<String>,
) -> Result<Result<(), NotOwner>, StoreError> {
    let Some(node) = store.row(&table(), NODE).await? else { return Ok(Ok(())) };
    let home = store.row(&table(), &stream_key(stream)).await?;
    let home = home.map(|row| StreamHome::decode(&row)).transpose()?;
    Ok(NodeHomes::decode(&node)?.check(stream, home, creator))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{CommitPart, Dot, Position, Revision, Stamp, Timestamp};

    fn recorded(event: NewEvent, origin: u64, time: u64) -> RecordedEvent {
        let dot = Dot { origin: OriginId::new(origin), sequence: std::num::NonZeroU64::MIN };
        let mut data = event.data;
        data.stamp = Some(Box::new(Stamp { dot, time: HybridTime::from_bits(time), seen: None, command: None }));
        RecordedEvent {
            position: Position::FIRST,
            stream: StreamId::new("account-1").expect("a name"),
            revision: Revision::FIRST,
            recorded_at: Timestamp::UNIX_EPOCH,
            occurred_at: Timestamp::UNIX_EPOCH,
            part: CommitPart { index: 0, size: 1 },
            data,
        }
    }

    fn written(origin: u64, time: u64) -> RecordedEvent {
        recorded(NewEvent::json(EventType::new("opened").expect("a name"), "{}"), origin, time)
    }

    fn handed_over(origin: u64, time: u64, to: u64, epoch: u64) -> RecordedEvent {
        let event = HandOver { to: OriginId::new(to), epoch, forced: false }.encode().expect("encodes");
        recorded(event, origin, time)
    }

    /// Two nodes write the first event, two take the stream over at once, and one of them hands it over again.
    #[test]
    fn the_home_follows_from_the_set_of_the_events() {
        let events = [
            written(1, 10),
            written(2, 9),
            written(1, 11),
            handed_over(3, 20, 3, 1),
            handed_over(4, 20, 4, 1),
            handed_over(3, 30, 5, 2),
        ];
        let home = |order: &[usize]| {
            order
                .iter()
                .fold(None, |home, index| Some(StreamHome::after(home, &events[*index])))
                .map(|home| home.origin)
        };
        assert_eq!(home(&[0]), Some(OriginId::new(1)));
        assert_eq!((home(&[0, 1]), home(&[1, 0, 2])), (Some(OriginId::new(2)), Some(OriginId::new(2))));
        assert_eq!((home(&[3, 4]), home(&[4, 2, 3])), (Some(OriginId::new(3)), Some(OriginId::new(3))));
        let mut order: Vec<usize> = (0..events.len()).collect();
        for rotation in 0..events.len() {
            order.rotate_left(1);
            for index in 0..events.len() - 1 {
                order.swap(index, index + 1);
                assert_eq!(home(&order), Some(OriginId::new(5)), "rotation {rotation}: {order:?}");
            }
        }
    }

    #[test]
    fn rows_are_read_back_and_damage_is_found() {
        let home = StreamHome::after(None, &handed_over(1, 20, 7, 3));
        assert_eq!(StreamHome::decode(&home.encode()).expect("a row"), home);
        let value = home.encode();
        for bytes in [&value[..31], &[&value[..], &[0]].concat(), b""] {
            assert!(StreamHome::decode(bytes).is_err());
        }
        let stream = StreamId::new("account-1").expect("a name");
        assert_eq!(stream_of(&stream_key(&stream)).expect("a key"), Some(stream));
        assert_eq!(stream_of(NodeHomes::KEY).expect("a key"), None);
        assert!(stream_of(&[255]).is_err());
    }

    #[test]
    fn an_invalid_hand_over_is_refused() {
        let event_type = EventType::well_known(HANDED_OVER);
        let to = "0000000000000001";
        let read = |text: String| HandOver::read(&event_type, text.as_bytes());
        assert!(read(format!(r#"{{"to":"{to}","epoch":1}}"#)).is_ok_and(|read| read.is_some()));
        for text in [
            String::new(),
            format!(r#"{{"to":"{to}"}}"#),
            format!(r#"{{"to":"{to}","epoch":0}}"#),
            format!(r#"{{"to":"{to}","epoch":{}}}"#, u64::MAX),
            format!(r#"{{"to":"{to}","epoch":1,"more":1}}"#),
            r#"{"to":"x","epoch":1}"#.to_owned(),
        ] {
            assert!(read(text.clone()).is_err(), "{text}");
        }
    }
}
