//! [`LogView`]: the state of the log when a commit is decided.

use bytes::Bytes;

use crate::model::{EventId, Position, RecordedEvent, Revision, StreamId, Table, Timestamp, UniqueKey};
use crate::retention::StreamRetention;
use crate::store::error::StoreError;
use crate::store::keys::KeyOwner;
use crate::store::query::Query;

/// The state of the log when a commit is decided.
pub trait LogView {
    /// Returns the position of the last event.
    fn head(&mut self) -> Result<Option<Position>, StoreError>;
    /// Returns the recorded time of the last event.
    fn last_recorded_at(&mut self) -> Result<Option<Timestamp>, StoreError>;
    /// Returns the revision of the last event of a stream.
    fn revision(&mut self, stream: &StreamId) -> Result<Option<Revision>, StoreError>;
    /// Returns the position of the event with this id.
    fn position_of(&mut self, id: EventId) -> Result<Option<Position>, StoreError>;
    /// Returns the event at a position of the log.
    fn event(&mut self, position: Position) -> Result<RecordedEvent, StoreError>;
    /// Returns the position of the first event after `after` that matches the query and is
    /// [visible](StreamRetention::shows) at the time `now`.
    fn first_match(
        &mut self,
        query: &Query,
        after: Option<Position>,
        now: Timestamp,
    ) -> Result<Option<Position>, StoreError>;
    /// Returns the first revision of a stream that was not removed, or the revision after the last if all were removed.
    fn first_left(&mut self, stream: &StreamId) -> Result<Revision, StoreError>;
    /// Returns the rule and the last deletion of a stream.
    fn retention(&mut self, stream: &StreamId) -> Result<StreamRetention, StoreError>;
    /// Returns the index entry of a unique key. Whether the owner still holds the key follows from its
    /// [retention](Self::retention).
    fn owner(&mut self, key: &UniqueKey) -> Result<Option<KeyOwner>, StoreError>;
    /// Returns the value of a row.
    fn row(&mut self, table: &Table, key: &[u8]) -> Result<Option<Bytes>, StoreError>;
}
