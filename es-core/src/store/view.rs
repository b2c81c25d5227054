//! [`LogView`]: the state of the log at the moment of a decision.

use bytes::Bytes;

use crate::model::{EventId, Position, RecordedEvent, Revision, StreamId, Table, Timestamp, UniqueKey};
use crate::retention::StreamRetention;
use crate::store::error::StoreError;
use crate::store::keys::KeyOwner;
use crate::store::query::Query;

/// What a decision must know of the log, as it is at the moment of the decision.
pub trait LogView {
    /// The position of the last event.
    fn head(&mut self) -> Result<Option<Position>, StoreError>;
    /// When the last event was recorded.
    fn last_recorded_at(&mut self) -> Result<Option<Timestamp>, StoreError>;
    /// The revision of the last event of a stream.
    fn revision(&mut self, stream: &StreamId) -> Result<Option<Revision>, StoreError>;
    /// Where the event with this id stands.
    fn position_of(&mut self, id: EventId) -> Result<Option<Position>, StoreError>;
    /// The event at a position that the log has.
    fn event(&mut self, position: Position) -> Result<RecordedEvent, StoreError>;
    /// The first event behind `after` that matches and is [visible](StreamRetention::shows) at the time `now`.
    fn first_match(
        &mut self,
        query: &Query,
        after: Option<Position>,
        now: Timestamp,
    ) -> Result<Option<Position>, StoreError>;
    /// The first revision of a stream that was not removed; the one behind the last where all were.
    fn first_left(&mut self, stream: &StreamId) -> Result<Revision, StoreError>;
    /// What operators have said of a stream.
    fn retention(&mut self, stream: &StreamId) -> Result<StreamRetention, StoreError>;
    /// The entry of a unique key in the index. Whether the owner still holds the key follows from its [retention](Self::retention).
    fn owner(&mut self, key: &UniqueKey) -> Result<Option<KeyOwner>, StoreError>;
    /// The value of a row.
    fn row(&mut self, table: &Table, key: &[u8]) -> Result<Option<Bytes>, StoreError>;
}
