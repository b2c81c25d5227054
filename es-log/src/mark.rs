//! The high-water mark: the last acknowledged frame, in a small file beside the segments.
//!
//! An acknowledged frame that is missing at the end of the log looks like one that was never written. The mark
//! distinguishes the two. It is written after the sync of each frame, without a sync of its own: it is exact after the
//! end of a process, and after a power failure as old as the last time that the system wrote it. It is never ahead of
//! the log.
//!
//! The file is created and synced before the first segment, so that a log without it is damaged. It has three slots.
//! The first is written when the log is opened, and synced: a power failure that tears the other two, which are written
//! alternately without a sync, leaves it.

use std::io;
use std::path::Path;
use std::sync::Arc;

use crate::disk::{Disk, DiskFile};
use crate::layout::{
    FixedReader, MARK_FILE, MARK_FILE_LEN, MARK_LEN, MARK_MAGIC, MARK_STEP, push_checksum, strip_checksum,
};

/// The content of the mark.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Mark {
    /// The number of the last acknowledged frame; 0 for none.
    pub(crate) frame: u64,
    /// The position of the last acknowledged event; 0 for none.
    pub(crate) head: u64,
    /// How many times the log was opened.
    pub(crate) opens: u64,
}

impl Mark {
    fn encode(self) -> Vec<u8> {
        let mut bytes = MARK_MAGIC.to_vec();
        for number in [self.frame, self.head, self.opens] {
            bytes.extend_from_slice(&number.to_be_bytes());
        }
        push_checksum(&mut bytes);
        bytes
    }

    fn decode(slot: &[u8]) -> Option<Self> {
        let mut fields = FixedReader(strip_checksum(slot.get(..MARK_LEN)?)?);
        (fields.take() == MARK_MAGIC).then(|| Self { frame: fields.u64(), head: fields.u64(), opens: fields.u64() })
    }
}

/// The open file of the mark.
#[derive(Debug)]
pub(crate) struct MarkFile {
    file: Arc<dyn DiskFile>,
    /// The slot of the next mark, 1 or 2.
    next: u64,
}

impl MarkFile {
    /// Creates the file with a mark of nothing, and syncs it. The caller syncs the directory.
    pub(crate) fn create(disk: &dyn Disk, directory: &Path) -> io::Result<Self> {
        let file = disk.create(&directory.join(MARK_FILE))?;
        // Without holes, so that writing the mark needs no more space.
        file.write_zeros(0, MARK_FILE_LEN)?;
        let mut created = Self { file, next: 1 };
        created.settle(Mark::default())?;
        Ok(created)
    }

    /// Opens the file and returns its mark; `None` for a mark if all slots are invalid.
    pub(crate) fn open(disk: &dyn Disk, directory: &Path) -> io::Result<(Self, Option<Mark>)> {
        let file = disk.open(&directory.join(MARK_FILE))?;
        let (mark, next) = read_slots(&*file)?;
        Ok((Self { file, next }, mark))
    }

    /// Writes a mark over the older one of the last two slots. Everything up to it must be on disk.
    pub(crate) fn write(&mut self, mark: Mark) -> io::Result<()> {
        self.file.write_at(&mark.encode(), self.next * MARK_STEP)?;
        self.next = 3 - self.next;
        Ok(())
    }

    /// Writes a mark to the first slot as well, and syncs it.
    ///
    /// ORDER: another slot with the mark is on disk before the first one is overwritten.
    pub(crate) fn settle(&mut self, mark: Mark) -> io::Result<()> {
        self.write(mark)?;
        self.sync()?;
        self.file.write_at(&mark.encode(), 0)?;
        self.sync()
    }

    pub(crate) fn sync(&self) -> io::Result<()> {
        self.file.sync()
    }
}

/// Returns the highest mark in a directory; `None` if there is no file or no valid slot.
pub(crate) fn read(disk: &dyn Disk, directory: &Path) -> io::Result<Option<Mark>> {
    match disk.open_read_only(&directory.join(MARK_FILE)) {
        Ok(file) => Ok(read_slots(&*file)?.0),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

/// Returns the highest mark, and the older one of the last two slots.
fn read_slots(file: &dyn DiskFile) -> io::Result<(Option<Mark>, u64)> {
    let slot = |slot: u64| {
        let mut bytes = [0; MARK_LEN];
        let read = file.read_at(&mut bytes, slot * MARK_STEP)?;
        Ok::<_, io::Error>(Mark::decode(bytes.get(..read).unwrap_or_default()))
    };
    let order = |mark: &Option<Mark>| mark.map(|mark| (mark.opens, mark.frame));
    let (first, second, third) = (slot(0)?, slot(1)?, slot(2)?);
    let next = if order(&second) > order(&third) { 2 } else { 1 };
    Ok(([first, second, third].into_iter().max_by_key(order).flatten(), next))
}
