//! Snapshots: stored states of aggregates that make loads cheaper. A snapshot never changes the result of a load.
//!
//! A snapshot is a row of the side table `snapshots`. Its key is the stream and the revision. Two checks decide whether
//! a snapshot matches the state type of the program that reads it. A snapshot that does not match is ignored, and the
//! state is folded from events.
//!
//! - **The fingerprint** is checked before the state is decoded. It is a digest of the declaration of the state type,
//!   which the derive computes, and of the wire names and versions of the events.
//! - **The digest of the state** is checked after the state is decoded. The decoded state must have the same digest as
//!   the original state. If a field of a nested type was renamed, added or removed, the digest differs even if serde
//!   decodes the state without an error. The digest covers the names of types and fields, and the kinds and contents of
//!   values. It ignores the order of maps and sets.
//!
//! The checks cannot detect a value whose meaning has changed under the same definition, a field with `#[serde(skip)]`
//! that is added to a nested type, and an omitted field inside a `#[serde(flatten)]`. In these cases, increment
//! `snapshot(version = ...)`.
//!
//! # Fields outside the snapshot
//!
//! A field that serde skips is not in a snapshot, so a load from a snapshot would give another state than a load
//! without.
//!
//! - The derive refuses `skip`, `skip_serializing` and `skip_deserializing` on the fields of the state.
//! - When a snapshot is taken, the state is decoded again. It is not stored if the digests differ, which detects
//!   `skip_deserializing` in nested types, and `skip_serializing_if` with a `default` that is another value. The
//!   repository logs a warning.
//! - `skip` and `skip_serializing` in a nested type are invisible to both. [`testing::given`](crate::testing::given)
//!   folds the events a second time, with a snapshot after each event, and expects the same decisions and states.
//!
//! **Cost.** Computing the digest walks the state once, which takes about as long as encoding it. It happens twice in
//! the background when a snapshot is taken, and once in each load that uses a snapshot. A load from the cache of the
//! repository uses none.

use std::collections::BTreeMap;
use std::num::NonZeroU64;
use std::time::Duration;

use bytes::{BufMut, Bytes, BytesMut};
use serde::Serialize;
use serde::de::DeserializeOwned;
use uuid::Uuid;

use crate::aggregate::Aggregate;
use crate::aggregate::history::History;
use crate::model::ContentType;
use crate::model::digest::Fnv;
use crate::model::reserved::{SNAPSHOTS, stream_prefix};
use crate::model::{CanonicalKey, Dot, HybridTime, OriginId, Position, Revision, StreamId, Table, VectorClock};
use crate::schema::Event;
use crate::schema::codec::{self, EncodeError, MessagePack};
use crate::schema::{encode_and_decode, value_digest};
use crate::store::{Commit, CommitError, EventReader, EventStore, QueryItem, RowScan, StoreError};

/// The conditions for taking a snapshot, and the number of snapshots to keep. Each condition alone is sufficient.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SnapshotPolicy {
    /// Take a snapshot after this many events, at least 1, since the last one.
    pub every: Option<u64>,
    /// Take a snapshot after a load that took at least this long.
    pub load_cost: Option<Duration>,
    /// The number of snapshots to keep for each aggregate, at least 1. Older snapshots serve loads at a past revision.
    pub keep: usize,
}

impl SnapshotPolicy {
    /// The default number of snapshots to keep: one serves loads while the next is taken.
    pub const DEFAULT_KEEP: usize = 2;

    /// Returns a policy that takes a snapshot after every `events` events, at least 1.
    #[must_use]
    pub const fn every(events: u64) -> Self {
        Self { every: Some(events), load_cost: None, keep: Self::DEFAULT_KEEP }
    }

    /// Returns a policy that takes a snapshot after each load that took at least this long.
    #[must_use]
    pub const fn load_cost(cost: Duration) -> Self {
        Self { every: None, load_cost: Some(cost), keep: Self::DEFAULT_KEEP }
    }

    /// Also takes a snapshot after each load that took at least this long.
    #[must_use]
    pub const fn or_load_cost(mut self, cost: Duration) -> Self {
        self.load_cost = Some(cost);
        self
    }

    /// Sets the number of snapshots to keep; 0 counts as 1.
    #[must_use]
    pub const fn keep(mut self, snapshots: usize) -> Self {
        self.keep = if snapshots == 0 { 1 } else { snapshots };
        self
    }

    /// Returns `true` if a snapshot is due for a state with `events` events after its last snapshot and a load time of
    /// `cost`.
    #[must_use]
    pub fn is_due(&self, events: u64, cost: Duration) -> bool {
        events > 0
            && (self.every.is_some_and(|every| events >= every.max(1))
                || self.load_cost.is_some_and(|limit| cost >= limit))
    }
}

/// The snapshot policy and the encoding of an aggregate type. `#[derive(Aggregate)]` generates it for `snapshot(...)`.
#[derive(Debug)]
pub struct SnapshotSupport<A> {
    /// The conditions for taking snapshots.
    pub policy: SnapshotPolicy,
    declared: u64,
    /// Encodes a state, and returns it as a load from the snapshot decodes it.
    encode: fn(&A) -> Result<(Bytes, A), EncodeError>,
    decode: fn(&[u8]) -> Option<A>,
    digest: fn(&A) -> Option<u64>,
}

impl<A> Clone for SnapshotSupport<A> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<A> Copy for SnapshotSupport<A> {}

impl<A: Aggregate + Serialize + DeserializeOwned> SnapshotSupport<A> {
    /// Returns snapshot support with a policy. `declared` is a digest of the declaration of the state type.
    #[must_use]
    pub fn new(policy: SnapshotPolicy, declared: u64) -> Self {
        Self {
            policy,
            declared,
            encode: encode_and_decode::<MessagePack, A>,
            decode: |bytes| codec::decode(&ContentType::MessagePack, bytes).ok(),
            digest: value_digest::<A>,
        }
    }
}

impl<A> SnapshotSupport<A> {
    /// Returns the state as a load from a snapshot gives it.
    pub(crate) fn restored(&self, state: &A) -> Result<A, SnapshotError> {
        Ok((self.encode)(state)?.1)
    }
}

fn fingerprint_of<A: Aggregate>(declared: u64) -> u64 {
    let mut digest = Fnv::new();
    digest.write(&declared.to_be_bytes());
    for schema in A::Event::SCHEMA {
        digest.write(schema.name.as_bytes());
        digest.write(&schema.version.to_be_bytes());
    }
    digest.value()
}

/// A decoded snapshot.
#[derive(Debug, Clone)]
pub(crate) struct Snapshot<A> {
    pub(crate) state: A,
    pub(crate) revision: Revision,
    pub(crate) position: Position,
    pub(crate) last: Option<CanonicalKey>,
    /// The origins of the events in the state, if some were replicated.
    pub(crate) history: Option<Box<History>>,
}

/// The snapshots of one aggregate type in a store.
#[derive(Debug)]
pub(crate) struct Snapshots<A> {
    pub(crate) support: SnapshotSupport<A>,
    fingerprint: u64,
}

impl<A> Clone for Snapshots<A> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<A> Copy for Snapshots<A> {}

/// The header of a stored snapshot, which precedes the encoded state. For tools; the key of the row contains the
/// revision.
#[derive(Debug, Clone, PartialEq, Eq)]
#[doc(hidden)]
pub struct SnapshotHeader {
    /// The digest of the declaration of the state type, and of the wire names and versions of its events.
    pub fingerprint: u64,
    /// The digest of the state.
    pub digest: u64,
    /// The position of the last event in the state.
    pub position: Position,
    /// The greatest canonical key of the events in the state. The snapshot is stale if an event after its revision has
    /// a lower key. `None` if the level of the aggregate has one order.
    pub last: Option<CanonicalKey>,
    /// The last event of each origin in the state. Empty if no event was replicated.
    pub origins: VectorClock,
    /// The digests of the command ids in the state, each with the origin whose events count.
    pub commands: BTreeMap<Uuid, OriginId>,
}

impl SnapshotHeader {
    /// The first byte of a stored snapshot. Format 1 had no digest, no canonical key and no origins, format 2 no
    /// commands.
    const FORMAT: u8 = 3;
    /// The maximum size without origins and commands: format, fingerprint, digest, position, whether there is a
    /// canonical key, its time and its origin, and the numbers of origins and commands.
    const MAX_BYTES: usize = 1 + 8 + 8 + 8 + 1 + 8 + 8 + 4 + 4;

    /// Reads the header from the value of a row. Returns it with the encoded state, or `None` if the row has another
    /// format.
    #[must_use]
    pub fn read(value: &[u8]) -> Option<(Self, &[u8])> {
        let mut rest = value;
        if take::<1>(&mut rest)? != [Self::FORMAT] {
            return None;
        }
        let (fingerprint, digest) = (number(&mut rest)?, number(&mut rest)?);
        let position = Position::new(number(&mut rest)?)?;
        let last = match take(&mut rest)? {
            [0] => None,
            [1] => Some(CanonicalKey {
                time: HybridTime::from_bits(number(&mut rest)?),
                origin: OriginId::new(number(&mut rest)?),
            }),
            _ => return None,
        };
        let count = u32::from_be_bytes(take(&mut rest)?);
        let origins = (0..count).map(|_| dot(&mut rest)).collect::<Option<_>>()?;
        let count = u32::from_be_bytes(take(&mut rest)?);
        let commands = (0..count).map(|_| command(&mut rest)).collect::<Option<_>>()?;
        Some((Self { fingerprint, digest, position, last, origins, commands }, rest))
    }

    fn write(&self, value: &mut BytesMut) {
        value.put_u8(Self::FORMAT);
        value.put_u64(self.fingerprint);
        value.put_u64(self.digest);
        value.put_u64(self.position.get());
        value.put_u8(u8::from(self.last.is_some()));
        if let Some(CanonicalKey { time, origin }) = self.last {
            value.put_u64(time.to_bits());
            value.put_u64(origin.get());
        }
        let origins = self.origins.iter();
        // A stream has far fewer origins and commands than the counts can express.
        value.put_u32(u32::try_from(origins.len()).unwrap_or(u32::MAX));
        for Dot { origin, sequence } in origins {
            value.put_u64(origin.get());
            value.put_u64(sequence.get());
        }
        value.put_u32(u32::try_from(self.commands.len()).unwrap_or(u32::MAX));
        for (command, origin) in &self.commands {
            value.put_u128(command.as_u128());
            value.put_u64(origin.get());
        }
    }
}

fn take<const N: usize>(bytes: &mut &[u8]) -> Option<[u8; N]> {
    let (taken, rest) = bytes.split_first_chunk()?;
    *bytes = rest;
    Some(*taken)
}

fn number(bytes: &mut &[u8]) -> Option<u64> {
    take(bytes).map(u64::from_be_bytes)
}

fn dot(bytes: &mut &[u8]) -> Option<Dot> {
    Some(Dot { origin: OriginId::new(number(bytes)?), sequence: NonZeroU64::new(number(bytes)?)? })
}

fn command(bytes: &mut &[u8]) -> Option<(Uuid, OriginId)> {
    Some((Uuid::from_bytes(take(bytes)?), OriginId::new(number(bytes)?)))
}

impl<A: Aggregate> Snapshots<A> {
    pub(crate) fn new(support: SnapshotSupport<A>) -> Self {
        Self { support, fingerprint: fingerprint_of::<A>(support.declared) }
    }

    /// Returns the newest snapshot up to the revision `at` that matches the state type.
    pub(crate) async fn newest(
        &self,
        store: &dyn EventReader,
        stream: &StreamId,
        at: Option<Revision>,
    ) -> Result<Option<Snapshot<A>>, StoreError> {
        let mut scan = RowScan::new(table(), stream_prefix(stream), self.support.policy.keep + 1).backward();
        if let Some(at) = at {
            scan = scan.after(key(stream, at.next()));
        }
        let rows = store.rows(scan).await?;
        Ok(rows.iter().find_map(|row| {
            let revision = revision_of(&row.key)?;
            let found = self.decode(&row.value);
            if found.is_none() {
                tracing::debug!(%stream, %revision, "snapshot ignored: it belongs to another state type");
            }
            found.map(|(SnapshotHeader { position, last, origins, commands, .. }, state)| Snapshot {
                state,
                revision,
                position,
                last,
                history: History::of_snapshot(origins, commands),
            })
        }))
    }

    /// Stores a snapshot and deletes the oldest snapshots of the stream, so that as many are left as the policy keeps.
    /// Stores nothing if the stream was deleted since the snapshot was taken.
    pub(crate) async fn store_and_prune(
        &self,
        store: &dyn EventStore,
        stream: &StreamId,
        snapshot: &Snapshot<A>,
    ) -> Result<(), SnapshotError> {
        let value = self.encode(snapshot)?;
        let mut attempts = 1;
        loop {
            // ORDER: the head before the check. The commit fails if a stream was deleted since, so that no snapshot of
            // a deleted state is stored.
            let head = store.head().await?;
            let retained = store.retained(stream).await?;
            if retained.is_ended || snapshot.revision < retained.begins {
                return Ok(());
            }
            let commit = self.replacement(store, stream, snapshot.revision, value.clone()).await?;
            match store.commit(commit.append_if_none(QueryItem::erasures(), head)).await {
                Err(CommitError::Conflict(_)) if attempts < ATTEMPTS => attempts += 1,
                result => return result.map(drop).map_err(SnapshotError::Commit),
            }
        }
    }

    /// Returns the commit that stores a snapshot and deletes the oldest ones.
    async fn replacement(
        &self,
        store: &dyn EventStore,
        stream: &StreamId,
        revision: Revision,
        value: Bytes,
    ) -> Result<Commit, StoreError> {
        let mut commit = Commit::new().put_row(table(), key(stream, revision), value);
        let limit = self.support.policy.keep + MAX_PRUNED;
        let existing = store.rows(RowScan::new(table(), stream_prefix(stream), limit).backward()).await?;
        let others = existing.into_iter().filter(|row| row.key != key(stream, revision));
        let kept_others = self.support.policy.keep.max(1) - 1;
        for row in others.skip(kept_others) {
            commit = commit.delete_row(table(), row.key);
        }
        Ok(commit)
    }

    fn encode(&self, snapshot: &Snapshot<A>) -> Result<Bytes, SnapshotError> {
        let (state, _) = (self.support.encode)(&snapshot.state)?;
        let digest = (self.support.digest)(&snapshot.state).ok_or(SnapshotError::Digest)?;
        let Snapshot { position, last, .. } = *snapshot;
        let history = snapshot.history.as_deref();
        let origins = history.map(|history| history.origins().clone()).unwrap_or_default();
        let commands = history.map(|history| history.commands().clone()).unwrap_or_default();
        let mut value = BytesMut::with_capacity(SnapshotHeader::MAX_BYTES + state.len());
        SnapshotHeader { fingerprint: self.fingerprint, digest, position, last, origins, commands }.write(&mut value);
        value.put(state);
        Ok(value.freeze())
    }

    fn decode(&self, value: &[u8]) -> Option<(SnapshotHeader, A)> {
        let (header, state) = SnapshotHeader::read(value)?;
        if header.fingerprint != self.fingerprint {
            return None;
        }
        let state = (self.support.decode)(state)?;
        ((self.support.digest)(&state) == Some(header.digest)).then_some((header, state))
    }
}

/// A snapshot was not taken. This has no other effect, and the next snapshot may succeed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum SnapshotError {
    #[error(transparent)]
    Encode(#[from] EncodeError),
    #[error("could not compute the digest of the state: its `Serialize` implementation fails")]
    Digest,
    #[error(transparent)]
    Read(#[from] StoreError),
    #[error(transparent)]
    Commit(CommitError),
}

/// The largest number of snapshots that one commit deletes. After a change of the policy, a stream may have many more
/// snapshots than the policy keeps.
const MAX_PRUNED: usize = 100;

/// The number of attempts to store a snapshot while streams are deleted.
const ATTEMPTS: u32 = 10;

/// Returns the side table of all snapshots.
#[doc(hidden)]
#[must_use]
pub fn table() -> Table {
    Table::well_known(SNAPSHOTS)
}

pub(super) fn key(stream: &StreamId, revision: Revision) -> Bytes {
    [stream.as_str().as_bytes(), &[0], &revision.get().to_be_bytes()].concat().into()
}

pub(super) fn revision_of(key: &[u8]) -> Option<Revision> {
    key.last_chunk().map(|number| Revision::new(u64::from_be_bytes(*number)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_header_round_trips() {
        let key = CanonicalKey { time: HybridTime::from_bits(u64::MAX - 1), origin: OriginId::new(3) };
        for last in [None, Some(key)] {
            let dot = |_| Dot { origin: OriginId::new(3), sequence: NonZeroU64::MAX };
            let origins = last.map(dot).into_iter().collect();
            let commands = last.map(|key| (Uuid::from_u128(9), key.origin)).into_iter().collect();
            let (digest, position) = (u64::MAX, Position::FIRST);
            let header = SnapshotHeader { fingerprint: 7, digest, position, last, origins, commands };
            let mut value = BytesMut::new();
            header.write(&mut value);
            let bytes = value.len();
            assert_eq!(SnapshotHeader::read(&value), Some((header.clone(), &[][..])));
            value.put_slice(b"state");
            assert_eq!(SnapshotHeader::read(&value), Some((header, &b"state"[..])));
            assert!((0..bytes).all(|end| SnapshotHeader::read(&value[..end]).is_none()), "a truncated header");
            value[0] = 1;
            assert_eq!(SnapshotHeader::read(&value), None, "another format");
        }
    }
}
