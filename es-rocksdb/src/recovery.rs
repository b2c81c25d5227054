//! Recovery: is the end of the write-ahead log torn, which a crash may do, or is there damage, which loses what was
//! acknowledged?
//!
//! RocksDB offers a choice between modes, and none of them alone is right. `PointInTime`, its default, stops at the
//! first record that it cannot read and opens without a word: one flipped bit loses everything behind it (measured: 40 of
//! 40 times). `AbsoluteConsistency` refuses what every power failure may leave. `TolerateCorruptedTailRecords` opens
//! after a torn end only where the end of the file is cut, not where a block in it was never written; and where a flipped
//! bit makes the length of a record reach beyond the end of the file, it takes all that is behind for torn.
//!
//! So the store looks before it opens, read-only, which writes nothing to the directory and needs no copy of it:
//!
//! ```text
//!   1 the mark                     up to where commits were acknowledged, as far as that is known
//!   2 SkipAnyCorruptedRecord       the last change that can be read anywhere
//!   3 PointInTime                  the last change before the first that cannot be read
//!
//!   3 < 2   a record in the middle cannot be read: damage
//!   3 < 1   what was acknowledged is gone: damage
//!   changes that can be read where RocksDB does not look, or a gap in their numbers: damage
//!   a record of a log file that is whole but for one bit, or of the manifest but for a bit of its length: damage
//!   else    nothing is behind, and nothing is missed: the end is whole, or torn
//! ```
//!
//! The last two are found by reading the files by their blocks ([`batches`]), because RocksDB forgives more than it should: behind a
//! record that does not fit its checksum it drops the rest of a block in every mode, and it does not see that a block or a whole
//! file is missing. Whether a log file was synced and is there, the manifest says ([`options::recovering`]).
//!
//! Why 3 < 2 is damage: there is one writer, and it writes the next batch, which is one record of the log, after the one
//! before is synced. Whatever is torn is the last record, and nothing that can be read is behind it. With
//! [`Durability::Buffered`](crate::Durability::Buffered) nobody syncs, and a power failure may leave a later page without
//! an earlier one: that is a hole in what was acknowledged, and refused as well.
//!
//! Why it may write at last with `PointInTime`: 3 ≥ 2 says that it drops nothing that another mode would keep.
//!
//! What no local check can tell: after a **power failure**, whether a last record that cannot be read was torn or was
//! acknowledged in the moments since the system wrote the mark and damaged since then. That takes a power failure and
//! damage in the same few bytes. A copy elsewhere could tell.

use std::collections::HashSet;
use std::io;
use std::path::Path;

use es_core::{Position, RecordedEvent, StoreError};
use rocksdb::properties::MIN_LOG_NUMBER_TO_KEEP;
use rocksdb::{ColumnFamilyDescriptor, DB, DBPinnableSlice, DBRecoveryMode, ErrorKind, IteratorMode};

use crate::access;
use crate::acknowledged::Mark;
use crate::database::{Database, Tier, decode_in, place_in, place_of};
use crate::error::OpenError;
use crate::key;
use crate::log_file;
use crate::log_file::batches::{self, WalSurvey};
use crate::options::{self, Options};
use crate::record::Decoder;
use crate::schema::Cf;

/// Opens the database read-only, with a part of its column families: those that hold what the caller asks for. Changes
/// of the others count in its sequence all the same.
///
/// # Errors
/// Those of RocksDB: damage that no mode passes over, or another process that replaces files just now.
pub(crate) fn open_read_only(directory: &Path, mode: DBRecoveryMode, families: &[&str]) -> Result<DB, rocksdb::Error> {
    let mut options = rocksdb::Options::default();
    options::set_recovery(&mut options, mode);
    options.set_paranoid_checks(true);
    options.set_max_open_files(access::open_files(64));
    let families = families.iter().map(|name| ColumnFamilyDescriptor::new(*name, rocksdb::Options::default()));
    DB::open_cf_descriptors_read_only(&options, directory, families, false)
}

/// Refuses to open a store whose recovery would lose what was acknowledged: `mark` says up to where that is known, and
/// `readable` is the last change that can be read at all, also behind what cannot be read. Writes nothing.
///
/// It gives `false` where files came and went meanwhile, so that nothing is known: another process has the store open.
///
/// # Errors
/// [`OpenError::Damaged`] with what is lost, as far as it is known.
pub(crate) fn examine(directory: &Path, mark: Option<Mark>, readable: u64) -> Result<bool, OpenError> {
    let survey = survey(directory)?;
    // ORDER: behind the mark and the other looks. Should another process be writing, this sees no less than they did, and
    // opening will tell that the store is open already.
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

/// What is in the files of the write-ahead log, read by their blocks.
///
/// # Errors
/// [`OpenError::Io`].
pub(crate) fn survey(directory: &Path) -> Result<WalSurvey, OpenError> {
    batches::survey(directory).map_err(|error| OpenError::io(directory, "look at the write-ahead log", error))
}

/// What was seen of a store before it was opened, of which nothing may be missing then.
pub(crate) struct ExpectedLog {
    /// Up to where commits were acknowledged, as far as that is known.
    pub(crate) mark: Option<Mark>,
    /// The last change that RocksDB can read, wherever it stands.
    pub(crate) readable: u64,
    pub(crate) survey: WalSurvey,
}

impl ExpectedLog {
    /// Refuses a database that was opened up to the first change that cannot be read, where that loses anything.
    ///
    /// # Errors
    /// [`OpenError::Damaged`] with what is lost, as far as it is known.
    pub(crate) fn check(&self, directory: &Path, db: &DB) -> Result<(), OpenError> {
        let (Self { mark, readable, survey }, whole) = (self, db.latest_sequence_number());
        if whole < *readable {
            return Err(OpenError::damaged(directory, describe_hole(directory)));
        }
        if let Some(mark) = mark.filter(|mark| whole < mark.sequence) {
            return Err(OpenError::damaged(directory, describe_missing(directory, mark)));
        }
        if whole < survey.last() {
            return Err(OpenError::damaged(directory, describe_cut(survey, whole)));
        }
        if let Some((file, (from, to))) = survey.gap(needed_log(db)) {
            let detail = format!(
                "the write-ahead log has changes {} and those after it in {file}, but of {from} to {to} none; a file or a block \
                 of it is gone, and with it what was in these changes",
                to.saturating_add(1)
            );
            return Err(OpenError::damaged(directory, detail));
        }
        match survey.one_bit() {
            Some((file, at)) => Err(damaged_record(directory, "one bit", file, at)),
            None => Ok(()),
        }
    }
}

/// The number of the first file of the write-ahead log that has what is in no table.
pub(crate) fn needed_log(db: &DB) -> u64 {
    db.property_int_value(MIN_LOG_NUMBER_TO_KEEP).ok().flatten().unwrap_or_default()
}

/// What is lost behind a record that cannot be read, where RocksDB does not look.
fn describe_cut(survey: &WalSurvey, whole: u64) -> String {
    let place = survey.hole().map_or_else(String::new, |(file, at)| format!(" (at byte {at} of {file})"));
    let (first, last) = (whole.saturating_add(1), survey.last());
    format!(
        "a record in the middle of the write-ahead log cannot be read{place}; changes {first} to {last} are lost or out of reach"
    )
}

/// Refuses what RocksDB must not read: a record of a wrong type in the manifest or in the write-ahead log, and a manifest whose end
/// is damaged, which says what tables there are, so that nothing that is read behind it can be trusted. Writes nothing.
///
/// # Errors
/// [`OpenError::Damaged`] with the place.
pub(crate) fn check_log_files(directory: &Path) -> Result<(), OpenError> {
    let is_log_file = |name: &str| name.starts_with("MANIFEST-") || name.ends_with(".log");
    refuse_damaged_field(directory, "type", log_file::find_damaged_type(directory, is_log_file))?;
    refuse_damaged_field(
        directory,
        "length",
        log_file::find_damaged_length(directory, |name| name.starts_with("MANIFEST-")),
    )
}

/// Refuses a record of a log file in which this field was found to be damaged.
fn refuse_damaged_field(
    directory: &Path,
    field: &str,
    found: io::Result<Option<(String, u64)>>,
) -> Result<(), OpenError> {
    match found.map_err(|error| OpenError::io(directory, "look at log files", error))? {
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

/// What is known of a database before it is opened for writing.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Inspection {
    /// Whether the database is created now.
    pub(crate) is_new: bool,
    /// Whether [`examine`] has found no damage in the write-ahead log.
    pub(crate) is_examined: bool,
}

/// A database that was opened for writing.
pub(crate) struct RecoveredDatabase {
    pub(crate) db: DB,
    /// Whether the end of the write-ahead log was torn and has been dropped.
    pub(crate) has_torn_end: bool,
}

/// Opens the database for writing.
///
/// # Errors
/// [`OpenError`] for what RocksDB says.
pub(crate) fn open_database(
    directory: &Path,
    options: &Options,
    inspection: Inspection,
) -> Result<RecoveredDatabase, OpenError> {
    let Inspection { is_new, is_examined } = inspection;
    let open = |mode| {
        let mut db_options = options::database(options);
        options::set_recovery(&mut db_options, mode);
        // NOTE: in a store that was written to, a family that is missing was lost; a new one in its place would hide that.
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
        // NOTE: only after `examine` found that this mode drops nothing that another one would keep.
        Err(error) if error.kind() == ErrorKind::Corruption => {
            tracing::debug!(directory = %directory.display(), %error, "the end of the write-ahead log is torn");
            open(DBRecoveryMode::PointInTime).map(|db| RecoveredDatabase { db, has_torn_end: true }).map_err(failed)
        }
        Err(error) => Err(failed(error)),
    }
}

/// Refuses a store that was opened and ends before what was acknowledged, whatever could be looked at before.
///
/// # Errors
/// [`OpenError::Damaged`] with what is lost.
pub(crate) fn check_mark(database: &Database, mark: Mark, head: Option<Position>) -> Result<(), OpenError> {
    if database.sequence() < mark.sequence || head < mark.head {
        return Err(OpenError::damaged(database.directory(), describe_missing(database.directory(), mark)));
    }
    Ok(())
}

/// What is lost at a record in the middle that cannot be read.
fn describe_hole(directory: &Path) -> String {
    const WHAT: &str = "a record in the middle of the write-ahead log cannot be read";
    let Ok(kept) = last_position(directory, DBRecoveryMode::PointInTime) else { return WHAT.to_owned() };
    let Ok((last, found)) = readable_after(directory, kept) else { return WHAT.to_owned() };
    if last <= kept {
        return format!("{WHAT}; changes of rows or unique keys after position {kept} are lost, too, but no event");
    }
    let gone = (last - kept).saturating_sub(found);
    format!("{WHAT}; of the events at positions {} to {last}, {gone} are lost and {found} can be read", kept + 1)
}

/// What is lost behind the end of a log that ends before what was acknowledged.
fn describe_missing(directory: &Path, mark: Mark) -> String {
    const WHAT: &str = "the write-ahead log ends before what was acknowledged";
    let Ok(found) = last_position(directory, DBRecoveryMode::PointInTime) else { return WHAT.to_owned() };
    let last = mark.head.map_or(0, Position::get);
    if last <= found {
        return format!("{WHAT}; changes of rows or unique keys after position {found} are lost, but no event");
    }
    format!("{WHAT}; the events at positions {} to {last} are lost ({})", found + 1, last - found)
}

/// The position of the last event that is found in a mode; 0 for none.
fn last_position(directory: &Path, mode: DBRecoveryMode) -> Result<u64, rocksdb::Error> {
    let db = open_log(directory, mode)?;
    let last = log_backward(&db).next();
    last.transpose().map(Option::unwrap_or_default)
}

/// The position of the last event that can be read at all, and how many there are behind another one.
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

/// The positions of the log from the last one down.
fn log_backward(db: &DB) -> impl Iterator<Item = Result<u64, rocksdb::Error>> {
    let items = db.cf_handle(Cf::Log.name()).map(|log| db.iterator_cf(log, IteratorMode::End));
    items.into_iter().flatten().map(|item| Ok(key::decode_position(&item?.0).map_or(0, Position::get)))
}

/// How many events [`check_tail`] looks at.
const TAIL: u64 = 64;

/// Checks the last events of the log as [`check_event`] does, that there is no gap between them, and the heads of their
/// streams.
///
/// # Errors
/// [`StoreError::Damaged`] with the place where they do not agree.
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

/// Checks that an event of the log stands under its stream and its id, too.
pub(crate) fn check_event(database: &Database, event: &RecordedEvent) -> Result<(), StoreError> {
    if event.is_removed() {
        return check_id(database, event);
    }
    let record = database.get(Cf::Streams, &key::in_stream(&event.stream, event.revision), Tier::Any)?;
    let decode =
        |record: DBPinnableSlice<'_>| decode_in(&event.stream, event.revision, &record, &mut Decoder::default());
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

/// Checks that the last event of a stream is the head of it.
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
