//! The mark: the last acknowledged commit, in a small file beside the database.
//!
//! The write-ahead log alone does not show whether its last record is torn (the machine stopped before the commit was
//! acknowledged) or was damaged later: both look the same, and RocksDB drops both. With the mark, the store detects
//! that an acknowledged commit is missing.
//!
//! ```text
//!   write and sync the batch ──► raise the mark, without a sync ──► publish ──► answer
//! ```
//!
//! The mark is raised after the sync of the batch. It is never synced while commits run, so that no commit waits for
//! it. The mark on the disk may therefore lag, but it is never ahead of the commits on the disk:
//!
//! - After the end of the process, including `kill -9`, it is exact, because the operating system has it.
//! - After [`close`](es_core::EventStore::close) it is exact, and synced.
//! - After a power failure it is as old as the last write-back of the operating system (Linux: about 30 seconds).
//!   Commits that were acknowledged later are only in the write-ahead log.
//!
//! The file also shows whether the directory was moved or replaced: [`MarkFile::check_in_place`]. A removed directory
//! accepts writes and syncs, which are lost. If the directory was moved, RocksDB creates its next files in the
//! directory that now has its path.
//!
//! The file has two slots that are written alternately, so that a torn write leaves the other slot intact. A slot with
//! a wrong checksum is ignored. A store without the file has no mark.

use std::fs::{self, File, TryLockError};
use std::io::{self, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use es_core::Position;

use crate::access;

/// The name of the file. RocksDB ignores files that it does not know.
pub(crate) const FILE_NAME: &str = "ACKNOWLEDGED";
/// The first bytes of a slot. The last of them is the version of the slot.
pub(crate) const MAGIC: &[u8; 8] = b"es-ack-1";
/// The fields of a slot, in order: name and length in bytes.
pub(crate) const FIELDS: [(&str, usize); 4] = [
    ("magic", 8),
    ("number of RocksDB's last change", 8),
    ("head, 0 for none", 8),
    ("crc32c of the preceding bytes", 4),
];
/// The length of a slot, in bytes.
const SLOT_LEN: usize = FIELDS[0].1 + FIELDS[1].1 + FIELDS[2].1 + FIELDS[3].1;
const _: () = assert!(SLOT_LEN == 28);
/// The offset of the second slot, which is in another sector than the first.
pub(crate) const SLOT_STEP: usize = 4096;

/// The last acknowledged commit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Mark {
    /// The sequence number of RocksDB's last change.
    pub(crate) sequence: u64,
    /// The position of the last event; `None` if the log is empty.
    pub(crate) head: Option<Position>,
}

impl Mark {
    fn encode(self) -> [u8; SLOT_LEN] {
        let mut slot = [0; SLOT_LEN];
        let (body, checksum) = slot.split_at_mut(SLOT_LEN - 4);
        let head = self.head.map_or(0, Position::get);
        for (field, bytes) in body.chunks_exact_mut(8).zip([*MAGIC, self.sequence.to_be_bytes(), head.to_be_bytes()]) {
            field.copy_from_slice(&bytes);
        }
        checksum.copy_from_slice(&crc32c::crc32c(body).to_be_bytes());
        slot
    }

    fn decode(slot: &[u8]) -> Option<Self> {
        let (body, rest) = slot.split_at_checked(SLOT_LEN - 4)?;
        let (checksum, _) = rest.split_first_chunk()?;
        if u32::from_be_bytes(*checksum) != crc32c::crc32c(body) {
            return None;
        }
        let (magic, numbers) = body.split_first_chunk::<8>()?;
        let (sequence, head) = numbers.split_first_chunk()?;
        let head = u64::from_be_bytes(*head.first_chunk()?);
        (magic == MAGIC).then(|| Self { sequence: u64::from_be_bytes(*sequence), head: Position::new(head) })
    }
}

/// Reads the mark of the store in a directory. Returns `None` if the file is missing or has no intact slot.
pub(crate) fn read(directory: &Path) -> io::Result<Option<Mark>> {
    let bytes = match fs::read(directory.join(FILE_NAME)) {
        Ok(bytes) => bytes,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error),
    };
    let slots = [0, SLOT_STEP].into_iter().filter_map(|start| bytes.get(start..));
    Ok(slots.filter_map(Mark::decode).max_by_key(|mark| mark.sequence))
}

/// The open mark file of an open store.
#[derive(Debug)]
pub(crate) struct MarkFile {
    inner: Mutex<MarkState>,
    path: PathBuf,
    identity: FileIdentity,
}

/// The identity of a file, independent of its name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct FileIdentity {
    device: u64,
    number: u64,
}

impl FileIdentity {
    #[cfg(unix)]
    fn of(metadata: &fs::Metadata) -> Self {
        use std::os::unix::fs::MetadataExt;
        Self { device: metadata.dev(), number: metadata.ino() }
    }

    /// On other systems, the directory of an open file cannot be replaced, so that all identities can be equal.
    #[cfg(not(unix))]
    fn of(_: &fs::Metadata) -> Self {
        Self { device: 0, number: 0 }
    }
}

#[derive(Debug)]
struct MarkState {
    file: File,
    /// Whether the next mark is written to the second slot.
    is_second_next: bool,
    /// Whether a failed write was logged.
    has_failed: bool,
}

impl MarkFile {
    /// Opens the file; creates a missing one. Fails with [`io::ErrorKind::WouldBlock`] during a repair.
    pub(crate) fn open(directory: &Path) -> io::Result<Self> {
        let path = directory.join(FILE_NAME);
        let mut file = access::file_options().read(true).write(true).create(true).truncate(false).open(&path)?;
        lock_shared(&file)?;
        let len = (SLOT_STEP + SLOT_LEN) as u64;
        if file.metadata()?.len() < len {
            // Zeros are written instead of extending the file, so that raising the mark needs no more disk space.
            file.write_all(&[0; SLOT_STEP + SLOT_LEN])?;
        }
        let identity = FileIdentity::of(&file.metadata()?);
        Ok(Self { inner: Mutex::new(MarkState { file, is_second_next: false, has_failed: false }), path, identity })
    }

    /// Checks that the path of the mark still names this open file. Costs one lookup of a file name.
    ///
    /// # Errors
    /// A description of the finding, if the directory was removed, moved or replaced while the store was open.
    pub(crate) fn check_in_place(&self) -> Result<(), String> {
        let directory = self.path.parent().unwrap_or(&self.path).display();
        let not_in_place = |found: &str| {
            Err(format!(
                "expected its file {FILE_NAME} in {directory}, found {found}; the directory was removed, moved or \
                 replaced while the store was open"
            ))
        };
        match fs::metadata(&self.path) {
            Ok(metadata) if FileIdentity::of(&metadata) == self.identity => Ok(()),
            Ok(_) => not_in_place("another file of this name"),
            Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => {
                not_in_place(&error.to_string())
            }
            // Other errors, such as a missing permission, do not show that the file was moved or removed.
            Err(_) => Ok(()),
        }
    }

    /// Raises the mark. All changes up to it must be on the disk.
    ///
    /// The first failure is logged, and no commit fails: the mark may lag.
    pub(crate) fn raise(&self, mark: Mark) {
        let mut inner = self.inner.lock().unwrap_or_else(PoisonError::into_inner);
        if let Err(error) = inner.write(mark)
            && !std::mem::replace(&mut inner.has_failed, true)
        {
            tracing::warn!(%error, "could not write the mark of acknowledged commits; the commits are not affected");
        }
    }

    /// Allows a [repair](lock_for_repair) of the store after it was closed.
    pub(crate) fn unlock(&self) {
        // A lock that cannot be released here is released with the file.
        let _ = self.inner.lock().unwrap_or_else(PoisonError::into_inner).file.unlock();
    }

    /// Syncs the mark.
    pub(crate) fn sync(&self) -> io::Result<()> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner).file.sync_all()
    }
}

/// Locks the file of an open store against a repair.
///
/// RocksDB's own lock belongs to the process: a process that opens and closes the lock file loses it. This lock belongs
/// to the open file. It is shared, so that a store can be reopened before its last handle is dropped.
fn lock_shared(file: &File) -> io::Result<()> {
    if cfg!(not(unix)) {
        // On other systems a lock also prevents reads.
        return Ok(());
    }
    match file.try_lock_shared() {
        Err(TryLockError::WouldBlock) => Err(io::ErrorKind::WouldBlock.into()),
        // Some file systems have no locks.
        Ok(()) | Err(TryLockError::Error(_)) => Ok(()),
    }
}

/// Locks the store in a directory for a repair, until the file is dropped. Fails with [`io::ErrorKind::WouldBlock`]
/// while a process has the store open. Returns `None` if the mark is missing, or the file system has no locks.
pub(crate) fn lock_for_repair(directory: &Path) -> io::Result<Option<File>> {
    if cfg!(not(unix)) {
        return Ok(None);
    }
    let file = match File::open(directory.join(FILE_NAME)) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error),
    };
    match file.try_lock() {
        Ok(()) => Ok(Some(file)),
        Err(TryLockError::WouldBlock) => Err(io::ErrorKind::WouldBlock.into()),
        Err(TryLockError::Error(_)) => Ok(None),
    }
}

impl MarkState {
    fn write(&mut self, mark: Mark) -> io::Result<()> {
        let start = if self.is_second_next { SLOT_STEP as u64 } else { 0 };
        self.file.seek(SeekFrom::Start(start))?;
        self.file.write_all(&mark.encode())?;
        self.is_second_next = !self.is_second_next;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mark(sequence: u64) -> Mark {
        Mark { sequence, head: Position::new(sequence / 2) }
    }

    #[test]
    fn the_highest_mark_is_read_back() {
        let directory = tempfile::tempdir().unwrap();
        assert_eq!(read(directory.path()).unwrap(), None);
        let file = MarkFile::open(directory.path()).unwrap();
        assert_eq!(read(directory.path()).unwrap(), None);
        for sequence in 1..6 {
            file.raise(mark(sequence));
            assert_eq!(read(directory.path()).unwrap(), Some(mark(sequence)));
        }
        drop(file);
        let file = MarkFile::open(directory.path()).unwrap();
        assert_eq!(read(directory.path()).unwrap(), Some(mark(5)), "opening keeps the mark");
        file.raise(mark(6));
        file.raise(mark(7));
        assert_eq!(read(directory.path()).unwrap(), Some(mark(7)));
    }

    #[cfg(unix)]
    #[test]
    fn a_removed_or_replaced_file_is_detected() {
        let directory = tempfile::tempdir().unwrap();
        let file = MarkFile::open(directory.path()).unwrap();
        file.raise(mark(1));
        assert_eq!(file.check_in_place(), Ok(()));
        let path = directory.path().join(FILE_NAME);
        fs::rename(&path, directory.path().join("aside")).unwrap();
        assert!(file.check_in_place().unwrap_err().contains("found No such file or directory"));
        fs::write(&path, "other").unwrap();
        assert!(file.check_in_place().unwrap_err().contains("found another file of this name"));
        fs::rename(directory.path().join("aside"), &path).unwrap();
        assert_eq!(file.check_in_place(), Ok(()));
    }

    #[test]
    fn a_torn_mark_leaves_the_previous_one() {
        let directory = tempfile::tempdir().unwrap();
        let file = MarkFile::open(directory.path()).unwrap();
        file.raise(mark(8));
        file.raise(mark(9));
        let path = directory.path().join(FILE_NAME);
        let whole = fs::read(&path).unwrap();
        for byte in 0..SLOT_LEN {
            let mut torn = whole.clone();
            torn[SLOT_STEP + byte] ^= 4;
            fs::write(&path, &torn).unwrap();
            assert_eq!(read(directory.path()).unwrap(), Some(mark(8)), "byte {byte}");
            torn[byte] ^= 4;
            fs::write(&path, &torn).unwrap();
            assert_eq!(read(directory.path()).unwrap(), None, "byte {byte}");
            fs::write(&path, &whole[..byte]).unwrap();
            assert_eq!(read(directory.path()).unwrap(), None, "cut at byte {byte}");
        }
    }
}
