//! Writes the recoverable data to a new store.

use std::path::Path;

use es_core::model::LogId;
use es_core::store::implement::{KeyOwner, KeySecret, key_entries};
use es_core::{Position, RecordedEvent, StoreError};
use rocksdb::WriteBatch;
use uuid::Uuid;

use super::aside::AsideCommits;
use super::claims::RemovedClaims;
use super::records::{IntactRecord, RecoverableEvents, report_progress};
use super::sources::Sources;
use super::{RepairError, Repaired, SetAside, complete_target, io_error, verify_new_store, write_to_target};
use crate::acknowledged::Mark;
use crate::database::{Database, place_of};
use crate::error::of_rocksdb;
use crate::key;
use crate::open::{self, Identity, Opened};
use crate::options::{self, Durability, Options};
use crate::record::Decoder;
use crate::retention::first_key;
use crate::schema::{Cf, META_CREATED, META_KEY_SECRET, META_LOG_ID, META_STORE_ID};
use crate::verify::{Progress, has_table};

/// The number of bytes after which a batch is written.
const BATCH_BYTES: usize = 4 * 1024 * 1024;

pub(super) fn write(
    damaged: &Path,
    target: &Path,
    sources: &Sources,
    survey: &RecoverableEvents,
    set_aside: SetAside<'_>,
    progress: Progress<'_>,
) -> Result<Repaired, RepairError> {
    write_to_target(damaged, target, |incomplete, target| {
        write_and_verify(incomplete, target, sources, survey, set_aside, progress)
    })
}

/// Writes the new store under its temporary name, verifies it, passes on the events that are set aside, and renames it.
fn write_and_verify(
    incomplete: &Path,
    target: &Path,
    sources: &Sources,
    survey: &RecoverableEvents,
    set_aside: SetAside<'_>,
    progress: Progress<'_>,
) -> Result<Repaired, RepairError> {
    let Contents { id, is_new_id, rows, carried_claims } = write_contents(incomplete, sources, survey, progress)?;
    verify_new_store(incomplete, progress)?;
    let set_aside = set_aside_after_cut(sources, survey, set_aside)?;
    complete_target(incomplete, target)?;
    let (directory, events) = (target.to_owned(), survey.kept);
    Ok(Repaired { directory, id, is_new_id, events, rows, carried_claims, set_aside })
}

/// The result of [`write_contents`].
struct Contents {
    id: LogId,
    is_new_id: bool,
    rows: u64,
    carried_claims: u64,
}

/// Writes the recoverable events, rows and claims.
fn write_contents(
    directory: &Path,
    sources: &Sources,
    survey: &RecoverableEvents,
    progress: Progress<'_>,
) -> Result<Contents, RepairError> {
    let Opened { database, mark, identity, .. } = open::open(directory, &Options::new())?;
    let Identity { id, secret, .. } = identity;
    let (id, is_new_id) = identify(&database, sources, survey, id)?;
    let secret = survey.claims.secret.as_ref().unwrap_or(&secret);
    let mut decoder = Decoder::default();
    let claims = &survey.claims;
    let mut writer = BatchedWriter { database: &database, batch: WriteBatch::new(), secret, claims, carried_claims: 0 };
    for position in 1..=survey.kept {
        let intact = sources.record(survey, position, &mut decoder);
        let place = || Position::new(position).map_or_else(String::new, place_of);
        let IntactRecord { event, record } = intact
            .ok_or_else(|| StoreError::damaged(place(), "expected the record that the survey found, found none"))?;
        writer.event(&event, &record)?;
        report_progress(progress, "events", position, Some(survey.kept));
    }
    let (mut rows, mut written) = (0, Ok(()));
    sources.scan(Cf::Rows, |key, value| {
        if written.is_ok() && has_table(key) {
            rows += 1;
            written = writer.put(Cf::Rows, key, value);
        }
    });
    written?;
    // The last completed scavenge point is not copied, because removals of it can be lost. The next scavenge completes
    // all points again.
    writer.write()?;
    let carried_claims = writer.carried_claims;
    database.flush()?;
    database.raw().flush_wal(true).map_err(|error| of_rocksdb("sync", "the new store", error))?;
    mark.raise(Mark { sequence: database.sequence(), head: Position::new(survey.kept) });
    mark.sync().map_err(io_error("sync the mark of", directory))?;
    let id = LogId::from_uuid(id);
    Ok(Contents { id, is_new_id, rows, carried_claims })
}

/// Copies the ids of the damaged store and of its log, unless events were lost, or the id or the secret of unique keys
/// cannot be read. Returns the id of the log, and whether it is new.
fn identify(
    database: &Database,
    sources: &Sources,
    survey: &RecoverableEvents,
    new: Uuid,
) -> Result<(Uuid, bool), StoreError> {
    let meta = database.family(Cf::Meta)?;
    let mut batch = WriteBatch::new();
    if let Some(created) = sources.value(Cf::Meta, META_CREATED).filter(|created| created.len() == size_of::<i64>()) {
        batch.put_cf(meta, META_CREATED, created);
    }
    let old = sources.value(Cf::Meta, META_STORE_ID).and_then(|id| Uuid::from_slice(&id).ok());
    // The backups of the damaged store have its secret, and cannot be continued with another secret.
    let kept = old.filter(|_| survey.kept == survey.last && survey.claims.secret.is_some());
    if let Some(secret) = &survey.claims.secret {
        batch.put_cf(meta, META_KEY_SECRET, secret.as_bytes());
    }
    let kept_log =
        sources.value(Cf::Meta, META_LOG_ID).and_then(|id| Uuid::from_slice(&id).ok()).filter(|_| kept.is_some());
    if let Some(id) = kept {
        batch.put_cf(meta, META_STORE_ID, id.as_bytes());
    }
    if let Some(id) = kept_log {
        batch.put_cf(meta, META_LOG_ID, id.as_bytes());
    }
    let written = database.raw().write_opt(batch, &options::write(Durability::Sync));
    written.map_err(|error| of_rocksdb("write", "the identity of the new store", error))?;
    Ok((kept_log.or(kept).unwrap_or(new), kept.is_none()))
}

/// Passes the readable events after the last kept one to `set_aside`. Returns their number.
fn set_aside_after_cut(
    sources: &Sources,
    survey: &RecoverableEvents,
    set_aside: SetAside<'_>,
) -> Result<u64, RepairError> {
    let (mut decoder, mut aside) = (Decoder::default(), AsideCommits::new(set_aside));
    for position in survey.kept + 1..=survey.last {
        match sources.record(survey, position, &mut decoder) {
            Some(IntactRecord { event, .. }) => aside.add(event)?,
            None => aside.gap()?,
        }
    }
    aside.finish()
}

/// Writes the entries of a new store in batches.
struct BatchedWriter<'a> {
    database: &'a Database,
    batch: WriteBatch,
    /// The secret of the hashes of unique keys.
    secret: &'a KeySecret,
    claims: &'a RemovedClaims,
    /// The number of claims of removed events that were written.
    carried_claims: u64,
}

impl BatchedWriter<'_> {
    /// Writes an event with all of its entries. Its record is copied unchanged.
    fn event(&mut self, event: &RecordedEvent, record: &[u8]) -> Result<(), StoreError> {
        let position = key::position(event.position);
        let posting = |name: &str| key::posting(name, event.position);
        self.put(Cf::Log, &position, record)?;
        self.put(Cf::Ids, &key::id(event.data.id), &position)?;
        self.put(Cf::Heads, event.stream.as_str().as_bytes(), &key::revision(event.revision))?;
        if event.is_removed() {
            self.put(Cf::Meta, &first_key(&event.stream), &key::revision(event.revision.next()))?;
            return self.removed_claims(event);
        }
        self.put(Cf::Streams, &key::in_stream(&event.stream, event.revision), record)?;
        self.put(Cf::Categories, &posting(event.stream.category_str()), &[])?;
        self.put(Cf::Types, &posting(event.data.event_type.as_str()), &[])?;
        for tag in &event.data.tags {
            self.put(Cf::Tags, &posting(tag.as_str()), &[])?;
        }
        for (key, owner) in key_entries(event) {
            let hash = self.secret.hash(key);
            match owner {
                Some(owner) => self.put(Cf::Keys, hash.as_bytes(), &key::owner(&owner))?,
                None => self.batch.delete_cf(self.database.family(Cf::Keys)?, hash.as_bytes()),
            }
        }
        Ok(())
    }

    /// Writes the claims of a removed event. Later events in the log can release them or claim the keys again.
    fn removed_claims(&mut self, event: &RecordedEvent) -> Result<(), StoreError> {
        let owner = KeyOwner { stream: event.stream.clone(), revision: event.revision };
        for hash in self.claims.of(event) {
            self.put(Cf::Keys, hash.as_bytes(), &key::owner(&owner))?;
            self.carried_claims += 1;
        }
        Ok(())
    }

    fn put(&mut self, cf: Cf, key: &[u8], value: &[u8]) -> Result<(), StoreError> {
        self.batch.put_cf(self.database.family(cf)?, key, value);
        if self.batch.size_in_bytes() >= BATCH_BYTES { self.write() } else { Ok(()) }
    }

    fn write(&mut self) -> Result<(), StoreError> {
        // Without a sync: `write_contents` syncs the store before it is complete.
        let written =
            self.database.raw().write_opt(std::mem::take(&mut self.batch), &options::write(Durability::Buffered));
        written.map_err(|error| of_rocksdb("write", "the new store", error))
    }
}
