//! The rows of the table `es.replica`, in which a replica keeps its state. Numbers are big endian.
//!
//! | key | value |
//! |---|---|
//! | `s` | identity: name, origin and log of the node, and the latest time that it may promise, as JSON |
//! | `m` | the names of the members that this node declares, as JSON |
//! | `p` origin 8 | nothing; a present or former origin of this node |
//! | `h` | generation of the state 8, greatest hybrid time 8, position of the last replicated event 8 |
//! | `o` origin 8 | [`Known`]: last sequence that is accounted for 8, greatest hybrid time 8, id of the last event 16 |
//! | `d` origin 8, sequence 8 | position of the event 8 |
//! | `g` position 8 | sequence of an event that was recorded before the replication began 8 |
//! | `x` origin 8 | the last gap: first and last sequence, 16; 1 if its events are withheld, 0 if they were removed |
//! | `c` category | [`DECLARED`] for a category that this node declares; nothing for one that it only received |
//! | `r` stream | nothing; a stream that was erased, of which no event is stored any more |
//! | `e` | number of [`Claim`](crate::Claim)s that were answered 8 |
//! | `l` link | [`Progress`] of the link, as text |

use std::collections::{BTreeMap, BTreeSet};
use std::num::NonZeroU64;

use bytes::Bytes;
use es_core::model::{Category, Dot, HybridTime, LogId, LogPosition, OriginId, Table, VectorClock};
use es_core::store::RowScan;
use es_core::store::implement::RowChange;
use es_core::{EventId, EventReader, Position, StoreError, StreamId};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::group::{Group, MemberState};
use crate::knowledge::Knowledge;
use crate::page::GapReason;
use crate::ranges::RangeSet;

/// The identity of a replica.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Identity {
    /// The version of the format of all rows.
    pub(crate) format: u32,
    /// The name of the node.
    pub(crate) name: String,
    /// The origin of the events that the node decides.
    pub(crate) origin: OriginId,
    /// The log in which the origin began or was continued. A restored backup has another one.
    pub(crate) log_id: LogId,
    /// The latest time that a promise of the node may name. Later events of the node have later times.
    #[serde(default = "no_promise")]
    pub(crate) ceiling: HybridTime,
}

impl Identity {
    pub(crate) const FORMAT: u32 = 1;
}

/// The ceiling of a node that has made no promise.
const fn no_promise() -> HybridTime {
    HybridTime::from_bits(0)
}

/// The head of the state.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Head {
    /// The number of changes of the state.
    pub(crate) generation: u64,
    /// The greatest hybrid time of all events.
    pub(crate) time: HybridTime,
    /// The position of the last replicated event. Later events without a stamp were written without the replica.
    pub(crate) position: Option<Position>,
}

/// What a node knows of an origin.
///
/// The row ends with two optional fields: the position `late` 8, or 0, and the encoded ranges. Neither is written if
/// both are empty.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Known {
    /// Every event up to this sequence is accounted for: it is stored, was removed, or is withheld.
    pub(crate) through: NonZeroU64,
    /// The greatest hybrid time of the events that were stored.
    pub(crate) time: HybridTime,
    /// The id of the event with the sequence `through`; `None` if it is not stored.
    pub(crate) id: Option<EventId>,
    /// The sequences of withheld events. It can include stored events, because it has at most
    /// [`Knowledge::MAX_RANGES`] ranges; such an event has a row `d`.
    pub(crate) withheld: RangeSet,
    /// The position of the last event that was stored after a later one of its origin.
    pub(crate) late: Option<Position>,
}

pub(crate) const IDENTITY: &[u8] = b"s";
pub(crate) const HEAD: &[u8] = b"h";
pub(crate) const MEMBERS: &[u8] = b"m";
pub(crate) const CONFIRMATIONS: &[u8] = b"e";
pub(crate) const OWN_ORIGINS: u8 = b'p';
pub(crate) const ORIGINS: u8 = b'o';
const GAPS: u8 = b'x';
pub(crate) const CATEGORIES: u8 = b'c';
pub(crate) const LINKS: u8 = b'l';
pub(crate) const ERASED: u8 = b'r';
/// The number of rows `d` that are read at once.
const DOTS: usize = 1_000;
/// The number of rows `d` that a report reads while a member leaves.
const MAX_LOOKED_UP: usize = 10_000;
/// The value of the row of a category that this node declares, and whose older events it has adopted.
pub(crate) const DECLARED: &[u8] = &[1];

/// Returns the table of replicas.
pub(crate) fn table() -> Result<Table, StoreError> {
    es_core::__private::table(es_core::__private::REPLICA).map_err(|error| StoreError::io("name a table", error))
}

pub(crate) fn origin_key(origin: OriginId) -> Bytes {
    [&[ORIGINS], &origin.get().to_be_bytes()[..]].concat().into()
}

pub(crate) fn own_origin_key(origin: OriginId) -> Bytes {
    [&[OWN_ORIGINS], &origin.get().to_be_bytes()[..]].concat().into()
}

/// Sequences of an origin that the source does not send.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Gap {
    pub(crate) origin: OriginId,
    pub(crate) from: NonZeroU64,
    pub(crate) through: NonZeroU64,
    pub(crate) reason: GapReason,
}

impl Gap {
    /// Returns the row change that declares the gap in a foreign commit.
    pub(crate) fn declare(self, table: &Table) -> RowChange {
        let key = [&[GAPS], &self.origin.get().to_be_bytes()[..]].concat();
        let reason = u8::from(self.reason == GapReason::Withheld);
        let (from, through) = (self.from.get().to_be_bytes(), self.through.get().to_be_bytes());
        put(table, key.into(), [&from[..], &through, &[reason]].concat())
    }

    /// Returns the gap that a row change declares, if it declares one.
    pub(crate) fn declared(row: &RowChange, table: &Table) -> Option<Self> {
        let origin = row.key.strip_prefix(&[GAPS]).filter(|_| row.table == *table)?;
        let (reason, numbers) = row.value.as_ref()?.split_last()?;
        let (from, through) = two_numbers(numbers)?;
        let origin = OriginId::new(u64::from_be_bytes(origin.try_into().ok()?));
        let reason = if *reason == 1 { GapReason::Withheld } else { GapReason::Removed };
        Some(Self { origin, from: NonZeroU64::new(from)?, through: NonZeroU64::new(through)?, reason })
    }
}

pub(crate) fn dot_key(dot: Dot) -> Bytes {
    [b"d", &dot.origin.get().to_be_bytes()[..], &dot.sequence.get().to_be_bytes()].concat().into()
}

/// Returns the sequence of a row `d`.
pub(crate) fn sequence_of(key: &[u8]) -> Result<u64, StoreError> {
    key.split_last_chunk().map(|(_, number)| u64::from_be_bytes(*number)).ok_or_else(|| damaged("d", key))
}

/// Returns the prefix of the rows `d` of an origin.
pub(crate) fn dots_of(origin: OriginId) -> Bytes {
    [b"d", &origin.get().to_be_bytes()[..]].concat().into()
}

pub(crate) fn genesis_key(position: Position) -> Bytes {
    [b"g", &position.get().to_be_bytes()[..]].concat().into()
}

pub(crate) fn category_key(category: &str) -> Bytes {
    [&[CATEGORIES], category.as_bytes()].concat().into()
}

pub(crate) fn erased_key(stream: &StreamId) -> Bytes {
    [&[ERASED], stream.as_str().as_bytes()].concat().into()
}

pub(crate) fn link_key(peer: &str) -> Bytes {
    [&[LINKS], peer.as_bytes()].concat().into()
}

/// Returns the peer of a row `l`.
pub(crate) fn peer_of(key: &[u8]) -> Result<String, StoreError> {
    let text = key.strip_prefix(&[LINKS]).and_then(|rest| std::str::from_utf8(rest).ok());
    text.map(ToOwned::to_owned).ok_or_else(|| damaged("l", key))
}

/// Returns a change of a row of the table.
pub(crate) fn put(table: &Table, key: Bytes, value: impl Into<Bytes>) -> RowChange {
    RowChange { table: table.clone(), key, value: Some(value.into()) }
}

impl Head {
    pub(crate) fn encode(self) -> Bytes {
        let position = self.position.map_or(0, Position::get);
        [self.generation, self.time.to_bits(), position].map(u64::to_be_bytes).concat().into()
    }

    pub(crate) fn decode(value: &[u8]) -> Result<Self, StoreError> {
        let numbers = value.split_last_chunk().and_then(|(pair, last)| Some((two_numbers(pair)?, *last)));
        let ((generation, time), position) = numbers.ok_or_else(|| damaged("h", value))?;
        let position = Position::new(u64::from_be_bytes(position));
        Ok(Self { generation, time: HybridTime::from_bits(time), position })
    }
}

impl Known {
    /// Returns what is known of an origin after its first event that is accounted for, without the event itself.
    pub(crate) fn new(through: NonZeroU64) -> Self {
        Self { through, time: HybridTime::from_bits(0), id: None, withheld: RangeSet::default(), late: None }
    }

    pub(crate) fn encode(&self) -> Bytes {
        let id = self.id.map_or([0; 16], |id| id.as_uuid().into_bytes());
        let mut bytes = [&self.through.get().to_be_bytes()[..], &self.time.to_bits().to_be_bytes(), &id].concat();
        if self.late.is_some() || !self.withheld.is_empty() {
            bytes.extend(self.late.map_or(0, Position::get).to_be_bytes());
            bytes.extend(self.withheld.encode());
        }
        bytes.into()
    }

    pub(crate) fn decode(value: &[u8]) -> Result<Self, StoreError> {
        let parse = || {
            let (numbers, rest) = value.split_first_chunk::<16>()?;
            let (id, rest) = rest.split_first_chunk::<16>()?;
            let (through, time) = two_numbers(numbers)?;
            let through = NonZeroU64::new(through)?;
            let id = Some(Uuid::from_bytes(*id)).filter(|id| !id.is_nil()).map(EventId::from_uuid);
            let (late, ranges) = if rest.is_empty() { (&[0; 8], rest) } else { rest.split_first_chunk::<8>()? };
            let withheld = RangeSet::decode(ranges)?;
            if withheld.iter().next_back().is_some_and(|(_, last)| last > through.get()) {
                return None;
            }
            let late = Position::new(u64::from_be_bytes(*late));
            Some(Self { through, time: HybridTime::from_bits(time), id, withheld, late })
        };
        parse().ok_or_else(|| damaged("o", value))
    }
}

/// Returns the last event of each origin that is accounted for as a vector clock.
pub(crate) fn clock(origins: &BTreeMap<OriginId, Known>) -> VectorClock {
    origins.iter().map(|(origin, known)| Dot { origin: *origin, sequence: known.through }).collect()
}

/// Returns the origin of a row `o` or `p`.
pub(crate) fn origin_of(key: &[u8]) -> Result<OriginId, StoreError> {
    let number = key.get(1..).and_then(|rest| rest.try_into().ok());
    number.map(|bytes| OriginId::new(u64::from_be_bytes(bytes))).ok_or_else(|| damaged("o", key))
}

/// Returns the category of a row `c`.
pub(crate) fn category_of(key: &[u8]) -> Result<Category, StoreError> {
    let text = key.strip_prefix(&[CATEGORIES]).and_then(|rest| std::str::from_utf8(rest).ok());
    text.and_then(|text| Category::new(text).ok()).ok_or_else(|| damaged("c", key))
}

/// Returns the position in a row `d`.
pub(crate) fn position_of(value: &[u8]) -> Result<Position, StoreError> {
    Position::new(number_of(value)?.get()).ok_or_else(|| damaged("d", value))
}

/// Returns the number in a row `g` or `e`.
pub(crate) fn number_of(value: &[u8]) -> Result<NonZeroU64, StoreError> {
    let number = value.try_into().ok().map(u64::from_be_bytes).and_then(NonZeroU64::new);
    number.ok_or_else(|| damaged("d", value))
}

/// The progress of a link in the log of its peer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Progress {
    /// The position up to which all pages were stored.
    pub(crate) cursor: LogPosition,
    /// The number of commits of the next page that were stored.
    pub(crate) commits: usize,
    /// The digest of the filter of these pages; `None` if it selects every stream. Another filter may select events
    /// before the cursor.
    pub(crate) filter: Option<u64>,
}

impl Progress {
    pub(crate) fn encode(self) -> Bytes {
        let mut text = self.cursor.to_string();
        if self.commits > 0 {
            text += &format!("+{}", self.commits);
        }
        if let Some(filter) = self.filter {
            text += &format!("#{filter:016x}");
        }
        text.into()
    }

    pub(crate) fn decode(value: &[u8]) -> Result<Self, StoreError> {
        let parse = || {
            let text = std::str::from_utf8(value).ok()?;
            let (text, filter) = match text.split_once('#') {
                Some((text, digest)) => (text, Some(u64::from_str_radix(digest, 16).ok()?)),
                None => (text, None),
            };
            let (cursor, commits) = text.split_once('+').unwrap_or((text, "0"));
            Some(Self { cursor: cursor.parse().ok()?, commits: commits.parse().ok()?, filter })
        };
        parse().ok_or_else(|| damaged("l", value))
    }
}

pub(crate) fn damaged(row: &str, bytes: &[u8]) -> StoreError {
    StoreError::damaged(format!("row {row:?} of table es.replica"), format!("found the bytes {bytes:02x?}"))
}

fn two_numbers(value: &[u8]) -> Option<(u64, u64)> {
    let (first, second) = value.split_first_chunk()?;
    Some((u64::from_be_bytes(*first), u64::from_be_bytes(second.try_into().ok()?)))
}

/// Returns the identity of the replica of a store.
pub(crate) async fn identity(store: &dyn EventReader, table: &Table) -> Result<Option<Identity>, StoreError> {
    let Some(value) = store.row(table, IDENTITY).await? else { return Ok(None) };
    serde_json::from_slice(&value).map(Some).map_err(|_| damaged("s", &value))
}

/// Returns the names of the members that the node of a store declared when it opened last.
pub(crate) async fn declared_members(store: &dyn EventReader, table: &Table) -> Result<BTreeSet<String>, StoreError> {
    let Some(value) = store.row(table, MEMBERS).await? else { return Ok(BTreeSet::new()) };
    serde_json::from_slice(&value).map_err(|_| damaged("m", &value))
}

/// Returns the head of the state; `None` before the replica was started.
pub(crate) async fn head(store: &dyn EventReader, table: &Table) -> Result<Option<Head>, StoreError> {
    store.row(table, HEAD).await?.map(|value| Head::decode(&value)).transpose()
}

/// Returns `true` if the last page of a link had a filter.
pub(crate) async fn has_filter(store: &dyn EventReader, table: &Table) -> Result<bool, StoreError> {
    for row in scan(store, table, LINKS).await? {
        if Progress::decode(&row.value)?.filter.is_some() {
            return Ok(true);
        }
    }
    Ok(false)
}

/// Returns what a store knows of all origins.
pub(crate) async fn knowledge(store: &dyn EventReader, table: &Table) -> Result<Knowledge, StoreError> {
    let mut knowledge = Knowledge::new();
    for (origin, known) in origins(store, table).await? {
        knowledge.insert(Dot { origin, sequence: known.through }, known.withheld);
    }
    Ok(knowledge)
}

/// Returns what a store knows of all origins, for a report of its node. While a member leaves, finds out which withheld
/// events the node does not have: the others may let a member leave if none of its events is only there.
pub(crate) async fn reported_knowledge(
    store: &dyn EventReader,
    table: &Table,
    group: &Group,
) -> Result<Knowledge, StoreError> {
    if group.members().all(|(_, state)| state != MemberState::Leaving) {
        return knowledge(store, table).await;
    }
    let (mut knowledge, mut budget) = (Knowledge::new(), MAX_LOOKED_UP);
    // ORDER: the ranges before the rows of the events. An event that arrives meanwhile is not reported as lacking.
    for (origin, known) in origins(store, table).await? {
        let last = Dot { origin, sequence: known.through };
        match lacking(store, table, origin, &known.withheld, &mut budget).await? {
            Some(lacking) => {
                knowledge.insert(last, lacking);
                knowledge.declare_exact(origin);
            }
            None => knowledge.insert(last, known.withheld),
        }
    }
    Ok(knowledge)
}

/// Returns the withheld events of an origin that a store does not have. Returns `None` if they have too many ranges, or
/// the budget of rows is used up.
async fn lacking(
    store: &dyn EventReader,
    table: &Table,
    origin: OriginId,
    withheld: &RangeSet,
    budget: &mut usize,
) -> Result<Option<RangeSet>, StoreError> {
    let mut lacking = withheld.clone();
    for (first, last) in withheld.iter() {
        let mut stored = StoredDots::new(store, table, origin, first, last);
        while let Some((sequence, _)) = stored.next().await? {
            if *budget == 0 {
                return Ok(None);
            }
            *budget -= 1;
            lacking.remove(sequence, sequence);
        }
    }
    Ok(Some(lacking).filter(|lacking| lacking.iter().len() <= Knowledge::MAX_RANGES))
}

/// Returns what a store knows of each origin.
pub(crate) async fn origins(store: &dyn EventReader, table: &Table) -> Result<BTreeMap<OriginId, Known>, StoreError> {
    let rows = scan(store, table, ORIGINS).await?;
    rows.iter().map(|row| Ok((origin_of(&row.key)?, Known::decode(&row.value)?))).collect()
}

/// Returns the present and former origins of the node of a store.
pub(crate) async fn own_origins(store: &dyn EventReader, table: &Table) -> Result<BTreeSet<OriginId>, StoreError> {
    let rows = scan(store, table, OWN_ORIGINS).await?;
    rows.iter().map(|row| origin_of(&row.key)).collect()
}

/// The stored events of an origin in a range of sequences, in ascending order. They are read in pages.
pub(crate) struct StoredDots<'a> {
    store: &'a dyn EventReader,
    table: &'a Table,
    origin: OriginId,
    /// The first sequence of the next page; `None` if there is no further page.
    first: Option<u64>,
    last: u64,
    page: std::vec::IntoIter<(u64, Position)>,
}

impl<'a> StoredDots<'a> {
    pub(crate) fn new(store: &'a dyn EventReader, table: &'a Table, origin: OriginId, first: u64, last: u64) -> Self {
        Self { store, table, origin, first: Some(first), last, page: Vec::new().into_iter() }
    }

    /// Returns the sequence and the position of the next event.
    pub(crate) async fn next(&mut self) -> Result<Option<(u64, Position)>, StoreError> {
        if self.page.len() == 0
            && let Some(first) = self.first.take()
        {
            let page = self.read(first).await?;
            let is_full = page.len() == DOTS;
            self.first = page.last().filter(|(last, _)| is_full && *last < self.last).map(|(last, _)| last + 1);
            self.page = page.into_iter();
        }
        Ok(self.page.next())
    }

    /// Returns at most [`DOTS`] events from a sequence on.
    async fn read(&self, first: u64) -> Result<Vec<(u64, Position)>, StoreError> {
        let after = NonZeroU64::new(first - 1).map(|sequence| dot_key(Dot { origin: self.origin, sequence }));
        let limit = usize::try_from((self.last - first).saturating_add(1)).unwrap_or(DOTS).min(DOTS);
        let scan = RowScan { after, ..RowScan::new(self.table.clone(), dots_of(self.origin), limit) };
        let mut dots = Vec::new();
        for row in self.store.rows(scan).await? {
            let sequence = sequence_of(&row.key)?;
            if sequence > self.last {
                break;
            }
            dots.push((sequence, position_of(&row.value)?));
        }
        Ok(dots)
    }
}

/// Returns the replicated categories of a store.
pub(crate) async fn categories(store: &dyn EventReader, table: &Table) -> Result<BTreeSet<Category>, StoreError> {
    let rows = scan(store, table, CATEGORIES).await?;
    rows.iter().map(|row| category_of(&row.key)).collect()
}

/// Returns the streams that were erased.
pub(crate) async fn erased(store: &dyn EventReader, table: &Table) -> Result<BTreeSet<StreamId>, StoreError> {
    let stream = |key: &[u8]| StreamId::new(std::str::from_utf8(key.get(1..)?).ok()?).ok();
    let rows = scan(store, table, ERASED).await?;
    rows.iter().map(|row| stream(&row.key).ok_or_else(|| damaged("r", &row.key))).collect()
}

/// Returns the peers from which a store has stored a page, by name.
pub(crate) async fn peers(store: &dyn EventReader, table: &Table) -> Result<Vec<String>, StoreError> {
    let rows = scan(store, table, LINKS).await?;
    rows.iter().map(|row| peer_of(&row.key)).collect()
}

/// Returns all rows whose key begins with a letter.
async fn scan(store: &dyn EventReader, table: &Table, letter: u8) -> Result<Vec<es_core::store::Row>, StoreError> {
    let prefix = Bytes::copy_from_slice(&[letter]);
    store.rows(RowScan::new(table.clone(), prefix, usize::MAX)).await
}
