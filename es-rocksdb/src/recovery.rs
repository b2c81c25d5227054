//! Recovery of the write-ahead log: distinguishes a torn end, which is normal after a crash, from damage, which loses
//! acknowledged commits.
//!
//! None of RocksDB's recovery modes is sufficient:
//!
//! - `PointInTime`, the default, stops at the first unreadable record and opens silently: one flipped bit loses all
//!   later changes.
//! - `AbsoluteConsistency` rejects the torn end that every power failure can leave.
//! - `TolerateCorruptedTailRecords` accepts a torn end only if the file is truncated, not if a block of it was never
//!   written. If a flipped bit makes the length of a record reach beyond the end of the file, it treats this record and
//!   all later ones as torn.
//!
//! The store therefore examines the log before it opens it. It opens it read-only, which writes nothing to the
//! directory and needs no copy of it:
//!
//! ```text
//!   1 the mark                     the last acknowledged change, as far as it is known
//!   2 SkipAnyCorruptedRecord       the last readable change
//!   3 PointInTime                  the last change before the first unreadable one
//!
//!   3 < 2   a record in the middle is unreadable: damage
//!   3 < 1   an acknowledged change is missing: damage
//!   a readable change that RocksDB skips, or a gap in the numbers of the changes: damage
//!   one flipped bit in a record of the log, or in the length or the type of a record of the manifest: damage
//!   else    the log is intact, or has a torn end
//! ```
//!
//! The third and the fourth case need a scan of the blocks ([`batches`]), because RocksDB silently loses changes: after
//! a record with a wrong checksum it drops the rest of the block in every mode, and it does not detect a missing block
//! or a missing file. The manifest lists the synced log files ([`options::set_recovery`]).
//!
//! Why 3 < 2 is damage: the one writer writes a batch, which is one record of the log, only after the previous batch is
//! synced. Only the last record can be torn, and no readable record follows it. With
//! [`Durability::Buffered`](crate::Durability::Buffered) there are no syncs, and a power failure can keep a later page
//! without an earlier one. Acknowledged commits are lost then, so that the store is rejected as well.
//!
//! Why the store may then be opened with `PointInTime`: 3 ≥ 2 means that this mode drops no change that another mode
//! would keep.
//!
//! One case cannot be detected locally: after a **power failure**, an unreadable last record can be torn, or it was
//! acknowledged after the last write-back of the mark and damaged later. This needs a power failure and damage of the
//! same few bytes.

use std::collections::HashSet;
use std::io;
use std::path::Path;

use es_core::{Position, RecordedEvent, StoreError};
use rocksdb::properties::MIN_LOG_NUMBER_TO_KEEP;
use rocksdb::{ColumnFamilyDescriptor, DB, DBRecoveryMode, ErrorKind, IteratorMode};

use crate::access;
use crate::acknowledged::Mark;
use crate::database::{Database, Tier, Value, decode_in, place_in, place_of};
use crate::error::OpenError;
use crate::key;
use crate::log_file;
use crate::log_file::batches::{self, WalSurvey};
use crate::options::{self, Options};
use crate::record::Decoder;
use crate::schema::Cf;

/// Opens the database read-only with some of its column families. Its sequence number covers all families.
///
/// # Errors
/// The error of RocksDB: damage that the mode does not skip, or a file that another process replaced meanwhile.
pub(crate) fn open_read_only(directory: &Path, mode: DBRecoveryMode, families: &[&str]) -> Result<DB, rocksdb::Error> {
    let mut options = rocksdb::Options::default();
    options::set_recovery(&mut options, mode);
    options.set_paranoid_checks(true);
    options.set_max_open_files(access::open_files(64));
    let families = families.iter().map(|name| ColumnFamilyDescriptor::new(*name, rocksdb::Options::default()));
    DB::open_cf_descriptors_read_only(&options, directory, families, false)
}

/// Rejects a store whose recovery would lose acknowledged commits. `readable` is the last readable change, also after
/// an unreadable record. Writes nothing.
///
/// Returns `false` if files changed meanwhile, because another process has the store open. The log is then not
/// examined.
///
/// # Errors
/// [`OpenError::Damaged`] with a description of the loss, or [`OpenError::Io`] if a file cannot be read.
pub(crate) fn examine(directory: &Path, mark: Option<Mark>, readable: u64) -> Result<bool, OpenError> {
    let survey = survey(directory)?;
    // ORDER: after the mark and the other reads. If another process is writing, this opening has all changes that they
    // had, and opening for writing will return that the store is open already.
    let db = match open_read_only(directory, DBRecoveryMode::PointInTime, &[rocksdb::DEFAULT_COLUMN_FAMILY_NAME]) {
        Ok(db) => db,
        Err(error) if error.kind() == ErrorKind::IOError => {
            let directory = directory.display();
            tracing::debug!(%directory, %error, "could not read the write-ahead log before opening it");
            return Ok(false);
        }
        Err(error) => return Err(OpenError::of_rocksdb(directory, "read the write-ahead log", error)),
    };
    ExpectedLog { mark, readable, survey }.check(directory, &db)?;
    Ok(true)
}

/// Surveys the blocks of the write-ahead log.
///
/// # Errors
/// [`OpenError::Io`] if a file cannot be read.
pub(crate) fn survey(directory: &Path) -> Result<WalSurvey, OpenError> {
    batches::survey(directory).map_err(|error| OpenError::io(directory, "read the write-ahead log", error))
}

/// The changes that were found before a store was opened. The opened store must have all of them.
pub(crate) struct ExpectedLog {
    /// The last acknowledged commit, as far as it is known.
    pub(crate) mark: Option<Mark>,
    /// The last change that RocksDB can read, also after an unreadable record.
    pub(crate) readable: u64,
    pub(crate) survey: WalSurvey,
}

impl ExpectedLog {
    /// Checks a database that was opened up to the first unreadable change.
    ///
    /// # Errors
    /// [`OpenError::Damaged`] with a description of the loss, if it lacks a change.
    pub(crate) fn check(&self, directory: &Path, db: &DB) -> Result<(), OpenError> {
        let (Self { mark, readable, survey }, opened) = (self, db.latest_sequence_number());
        if opened < *readable {
            return Err(OpenError::damaged(directory, describe_hole(directory)));
        }
        if let Some(mark) = mark.filter(|mark| opened < mark.sequence) {
            return Err(OpenError::damaged(directory, describe_missing(directory, mark)));
        }
        if opened < survey.last() {
            return Err(OpenError::damaged(directory, describe_cut(survey, opened)));
        }
        if let Some((file, (from, to))) = survey.gap(needed_log(db)) {
            let detail = format!(
                "changes {from} to {to} are missing in the write-ahead log, which continues with change {} in {file}; \
                 a file or a block of it is lost",
                to.saturating_add(1)
            );
            return Err(OpenError::damaged(directory, detail));
        }
        match survey.flipped_bit() {
            Some((file, at)) => Err(damaged_record(directory, "one bit", file, at)),
            None => Ok(()),
        }
    }
}

/// Returns the number of the first file of the write-ahead log with changes that are in no table file.
pub(crate) fn needed_log(db: &DB) -> u64 {
    db.property_int_value(MIN_LOG_NUMBER_TO_KEEP).ok().flatten().unwrap_or_default()
}

/// Describes the loss after an unreadable record that RocksDB skips with the rest of its block.
fn describe_cut(survey: &WalSurvey, opened: u64) -> String {
    let place = survey.hole().map_or_else(String::new, |(file, at)| format!(" (at byte {at} of {file})"));
    let (first, last) = (opened.saturating_add(1), survey.last());
    format!(
        "a record in the middle of the write-ahead log cannot be read{place}; changes {first} to {last} are lost or \
         unreachable"
    )
}

/// Rejects damage that RocksDB must not read: a record with a damaged type in the manifest or in the write-ahead log,
/// and a manifest with a damaged end. The manifest lists the table files, so that after such damage no read is
/// reliable. Writes nothing.
///
/// # Errors
/// [`OpenError::Damaged`] with the file and the offset, or [`OpenError::Io`] if a file cannot be read.
pub(crate) fn check_log_files(directory: &Path) -> Result<(), OpenError> {
    let is_log_file = |name: &str| name.starts_with("MANIFEST-") || name.ends_with(".log");
    reject_damaged_field(directory, "type", log_file::find_damaged_type(directory, is_log_file))?;
    reject_damaged_field(
        directory,
        "length",
        log_file::find_damaged_length(directory, |name| name.starts_with("MANIFEST-")),
    )
}

/// Returns the error for a log file in which a record with a damaged field was found.
fn reject_damaged_field(
    directory: &Path,
    field: &str,
    found: io::Result<Option<(String, u64)>>,
) -> Result<(), OpenError> {
    match found.map_err(|error| OpenError::io(directory, "read the log files", error))? {
        Some((file, at)) => Err(damaged_record(directory, &format!("the {field}"), &file, at)),
        None => Ok(()),
    }
}

fn damaged_record(directory: &Path, field: &str, file: &str, at: u64) -> OpenError {
    let what = if file.ends_with(".log") { "write-ahead log" } else { "manifest" };
    let detail =
        format!("{field} of the record at byte {at} of {file}, a {what}, is wrong; the records after it are lost, too");
    OpenError::damaged(directory, detail)
}

/// The result of the inspection of a database before it is opened for writing.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Inspection {
    /// Whether the database does not exist yet.
    pub(crate) is_new: bool,
    /// Whether [`examine`] found no damage in the write-ahead log.
    pub(crate) is_examined: bool,
}

/// A database that is open for writing.
pub(crate) struct RecoveredDatabase {
    pub(crate) db: DB,
    /// Whether a torn end of the write-ahead log was dropped.
    pub(crate) has_torn_end: bool,
}

/// Opens the database for writing.
///
/// # Errors
/// The error of RocksDB, as an [`OpenError`].
pub(crate) fn open_database(
    directory: &Path,
    options: &Options,
    inspection: Inspection,
) -> Result<RecoveredDatabase, OpenError> {
    let Inspection { is_new, is_examined } = inspection;
    let open = |mode| {
        let mut db_options = options::database(options);
        options::set_recovery(&mut db_options, mode);
        // In an existing store a missing family is damage, which an empty new family would hide.
        db_options.create_if_missing(is_new);
        db_options.create_missing_column_families(is_new);
        DB::open_cf_descriptors(&db_options, directory, options::families(options))
    };
    let failed = |error| OpenError::of_rocksdb(directory, "open the database", error);
    if !is_examined {
        return open(options::RECOVERY_MODE).map(|db| RecoveredDatabase { db, has_torn_end: false }).map_err(failed);
    }
    match open(DBRecoveryMode::AbsoluteConsistency) {
        Ok(db) => Ok(RecoveredDatabase { db, has_torn_end: false }),
        // `examine` found that this mode drops no change that another mode would keep.
        Err(error) if error.kind() == ErrorKind::Corruption => {
            tracing::debug!(directory = %directory.display(), %error, "the end of the write-ahead log is torn");
            open(DBRecoveryMode::PointInTime).map(|db| RecoveredDatabase { db, has_torn_end: true }).map_err(failed)
        }
        Err(error) => Err(failed(error)),
    }
}

/// Checks that an open store has all acknowledged commits. This includes stores that could not be examined before.
///
/// # Errors
/// [`OpenError::Damaged`] with a description of the loss.
pub(crate) fn check_mark(database: &Database, mark: Mark, head: Option<Position>) -> Result<(), OpenError> {
    if database.sequence() < mark.sequence || head < mark.head {
        return Err(OpenError::damaged(database.directory(), describe_missing(database.directory(), mark)));
    }
    Ok(())
}

/// Describes the loss at an unreadable record in the middle.
fn describe_hole(directory: &Path) -> String {
    const WHAT: &str = "a record in the middle of the write-ahead log cannot be read";
    let Ok(kept) = last_position(directory, DBRecoveryMode::PointInTime) else { return WHAT.to_owned() };
    let Ok((last, found)) = readable_after(directory, kept) else { return WHAT.to_owned() };
    if last <= kept {
        return format!("{WHAT}; changes of rows or unique keys after position {kept} are lost, too, but no event");
    }
    let lost = (last - kept).saturating_sub(found);
    format!("{WHAT}; of the events at positions {} to {last}, {lost} are lost and {found} can be read", kept + 1)
}

/// Describes the loss in a log that ends before the last acknowledged commit.
fn describe_missing(directory: &Path, mark: Mark) -> String {
    const WHAT: &str = "the write-ahead log ends before the last acknowledged commit";
    let Ok(found) = last_position(directory, DBRecoveryMode::PointInTime) else { return WHAT.to_owned() };
    let last = mark.head.map_or(0, Position::get);
    if last <= found {
        return format!("{WHAT}; changes of rows or unique keys after position {found} are lost, but no event");
    }
    format!("{WHAT}; the events at positions {} to {last} are lost ({})", found + 1, last - found)
}

/// Returns the position of the last event that is readable in a recovery mode; 0 if there is none.
fn last_position(directory: &Path, mode: DBRecoveryMode) -> Result<u64, rocksdb::Error> {
    let db = open_log(directory, mode)?;
    let last = log_backward(&db).next();
    last.transpose().map(Option::unwrap_or_default)
}

/// Returns the position of the last readable event, and the number of readable events after position `kept`.
fn readable_after(directory: &Path, kept: u64) -> Result<(u64, u64), rocksdb::Error> {
    let db = open_log(directory, DBRecoveryMode::SkipAnyCorruptedRecord)?;
    let (mut last, mut count) = (0, 0);
    for position in log_backward(&db) {
        let position = position?;
        if position <= kept {
            break;
        }
        last = last.max(position);
        count += 1;
    }
    Ok((last, count))
}

fn open_log(directory: &Path, mode: DBRecoveryMode) -> Result<DB, rocksdb::Error> {
    open_read_only(directory, mode, &[rocksdb::DEFAULT_COLUMN_FAMILY_NAME, Cf::Log.name()])
}

/// Returns the positions of the log, in descending order.
fn log_backward(db: &DB) -> impl Iterator<Item = Result<u64, rocksdb::Error>> {
    let items = db.cf_handle(Cf::Log.name()).map(|log| db.iterator_cf(log, IteratorMode::End));
    items.into_iter().flatten().map(|item| Ok(key::decode_position(&item?.0).map_or(0, Position::get)))
}

/// The number of events that [`check_tail`] checks.
const TAIL: u64 = 64;

/// Checks the last events of the log with [`check_event`], the gaps between them, and the heads of their streams.
///
/// # Errors
/// [`StoreError::Damaged`] with the position of the first mismatch.
pub(crate) fn check_tail(database: &Database) -> Result<(), StoreError> {
    let Some(last) = database.last_event()?.map(|event| event.position.get()) else { return Ok(()) };
    let (mut decoder, mut streams) = (Decoder::default(), HashSet::new());
    for position in (last.saturating_sub(TAIL - 1)..=last).rev().filter_map(Position::new) {
        let event = database.event(position, Tier::Any, &mut decoder)?;
        check_event(database, &event)?;
        if streams.insert(event.stream.clone()) {
            check_head(database, &event)?;
        }
    }
    Ok(())
}

/// Checks that an event of the log is also stored under its stream and its id.
pub(crate) fn check_event(database: &Database, event: &RecordedEvent) -> Result<(), StoreError> {
    if event.is_removed() {
        return check_id(database, event);
    }
    let record = database.get(Cf::Streams, &key::in_stream(&event.stream, event.revision), Tier::Any)?;
    let decode = |record: Value<'_>| decode_in(&event.stream, event.revision, &record, &mut Decoder::default());
    let in_stream = record.map(decode).transpose()?;
    if in_stream.as_ref() != Some(event) {
        let found = in_stream.map_or("none".into(), |other| place_in(&other.stream, other.revision));
        return mismatch(event, "its stream", &found);
    }
    check_id(database, event)
}

fn check_id(database: &Database, event: &RecordedEvent) -> Result<(), StoreError> {
    let indexed = database.position_of(event.data.id, Tier::Any)?;
    if indexed != Some(event.position) {
        return mismatch(event, "the index of event ids", &indexed.map_or("none".into(), place_of));
    }
    Ok(())
}

/// Checks that the head of a stream is this event, the last one of the stream.
pub(crate) fn check_head(database: &Database, event: &RecordedEvent) -> Result<(), StoreError> {
    let head = database.revision(&event.stream, Tier::Any)?;
    if head != Some(event.revision) {
        let found = head.map_or("none".into(), |head| place_in(&event.stream, head));
        return mismatch(event, "the heads of streams", &found);
    }
    Ok(())
}

fn mismatch(event: &RecordedEvent, place: &str, found: &str) -> Result<(), StoreError> {
    let detail = format!("expected this event in {place}, found {found}");
    Err(StoreError::damaged(place_of(event.position), detail))
}
