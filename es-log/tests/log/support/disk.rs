//! [`SimDisk`]: a disk in memory, with a cache that a power failure loses.
//!
//! - A write is in the cache until a sync. A power failure keeps, loses or tears each unsynced write, sector by sector,
//!   also in the middle of synced content. It changes nothing outside of the written range.
//! - Creations, renames and removals are in the cache until the directory is synced. A power failure keeps the first
//!   ones of them.
//! - After a failed sync, the cache has the writes, but no later sync writes them (as on Linux).
//! - A kill keeps the cache.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard};

use es_log::{DirectoryLock, Disk, DiskFile};

use super::Random;

const SECTOR: usize = 512;

/// An operation that can fail.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fault {
    /// The end of the process: this and all later operations fail. A write is done in part.
    Crash,
    /// The operation fails. A write is done in part; a sync loses its writes.
    Fail,
}

#[derive(Debug, Clone)]
pub(crate) struct SimDisk(Arc<Mutex<SimState>>);

#[derive(Debug, Clone, Default)]
struct SimFile {
    cached: Vec<u8>,
    durable: Vec<u8>,
    /// The unsynced writes in order.
    pending: Vec<(usize, Vec<u8>)>,
}

#[derive(Debug)]
struct SimState {
    files: Vec<SimFile>,
    names: BTreeMap<PathBuf, usize>,
    durable_names: BTreeMap<PathBuf, usize>,
    /// The unsynced changes of names: the name, and its file or nothing.
    pending_names: Vec<(PathBuf, Option<usize>)>,
    locks: BTreeSet<PathBuf>,
    /// The number of writes, syncs and changes of names so far.
    operations: u64,
    fault: Option<(u64, Fault)>,
    /// The number of bytes that all files may have.
    space: usize,
    /// Whether a new file can be opened or created.
    has_descriptors: bool,
    /// Whether syncs fail.
    refuses_syncs: bool,
    random: Random,
}

/// The error of `open` for a process that has as many files open as it may.
fn too_many_open_files() -> io::Error {
    const EMFILE: i32 = 24;
    io::Error::from_raw_os_error(EMFILE)
}

impl SimDisk {
    pub(crate) fn new(seed: u64) -> Self {
        Self(Arc::new(Mutex::new(SimState::new(Random::new(seed)))))
    }

    fn state(&self) -> MutexGuard<'_, SimState> {
        self.0.lock().expect("no test panics with this lock")
    }

    /// Makes the operation after so many others fail.
    pub(crate) fn fail_after(&self, operations: u64, fault: Fault) {
        let mut state = self.state();
        state.fault = Some((state.operations + operations, fault));
    }

    /// Ends all faults.
    pub(crate) fn heal(&self) {
        let mut state = self.state();
        (state.fault, state.space, state.has_descriptors, state.refuses_syncs) = (None, usize::MAX, true, false);
    }

    /// Limits the bytes that all files have.
    pub(crate) fn limit_space(&self, free: usize) {
        let mut state = self.state();
        state.space = state.used() + free;
    }

    pub(crate) fn refuse_descriptors(&self) {
        self.state().has_descriptors = false;
    }

    pub(crate) fn refuse_syncs(&self) {
        self.state().refuses_syncs = true;
    }

    /// Loses the cache: each unsynced write is kept, lost or torn.
    pub(crate) fn fail_power(&self) {
        let mut guard = self.state();
        let state = &mut *guard;
        let kept = state.random.index(state.pending_names.len() + 1);
        for (name, file) in std::mem::take(&mut state.pending_names).into_iter().take(kept) {
            match file {
                Some(file) => drop(state.durable_names.insert(name, file)),
                None => drop(state.durable_names.remove(&name)),
            }
        }
        state.names = state.durable_names.clone();
        for file in &mut state.files {
            for (offset, bytes) in std::mem::take(&mut file.pending) {
                tear(&mut file.durable, offset, &bytes, &mut state.random);
            }
            file.cached.clone_from(&file.durable);
        }
    }

    /// Returns a copy of the disk, with its cache and without faults.
    pub(crate) fn copy(&self) -> Self {
        let state = self.state();
        Self(Arc::new(Mutex::new(SimState {
            files: state.files.clone(),
            names: state.names.clone(),
            durable_names: state.durable_names.clone(),
            pending_names: state.pending_names.clone(),
            ..SimState::new(state.random.clone())
        })))
    }

    /// Returns the names of all files.
    pub(crate) fn all_names(&self) -> Vec<PathBuf> {
        self.state().names.keys().cloned().collect()
    }

    /// Returns the content of a file.
    pub(crate) fn content(&self, path: &Path) -> Vec<u8> {
        let state = self.state();
        state.files[state.names[path]].cached.clone()
    }

    /// Replaces the content of a file, in the cache and on the disk.
    pub(crate) fn set_content(&self, path: &Path, content: &[u8]) {
        let mut state = self.state();
        let file = state.names[path];
        state.files[file] = SimFile { cached: content.to_vec(), durable: content.to_vec(), pending: Vec::new() };
    }

    /// Removes a file, in the cache and on the disk.
    pub(crate) fn remove_file(&self, path: &Path) {
        let mut state = self.state();
        state.names.remove(path);
        state.durable_names.remove(path);
    }
}

impl SimState {
    /// Returns an empty disk without faults.
    fn new(random: Random) -> Self {
        Self {
            files: Vec::new(),
            names: BTreeMap::new(),
            durable_names: BTreeMap::new(),
            pending_names: Vec::new(),
            locks: BTreeSet::new(),
            operations: 0,
            fault: None,
            space: usize::MAX,
            has_descriptors: true,
            refuses_syncs: false,
            random,
        }
    }

    fn used(&self) -> usize {
        self.names.values().map(|file| self.files[*file].cached.len()).sum()
    }

    /// Counts an operation. Returns its fault, if it has one.
    fn operation(&mut self) -> Option<Fault> {
        let number = self.operations;
        self.operations += 1;
        match self.fault {
            Some((at, Fault::Crash)) if at < number => Some(Fault::Crash),
            Some((at, fault)) if at == number => Some(fault),
            _ => None,
        }
    }

    fn is_crashed(&self) -> bool {
        matches!(self.fault, Some((at, Fault::Crash)) if at < self.operations)
    }

    fn name_operation(&mut self, path: &Path, file: Option<usize>) -> io::Result<()> {
        if self.operation().is_some() {
            return Err(failure());
        }
        match file {
            Some(file) => drop(self.names.insert(path.to_owned(), file)),
            None => drop(self.names.remove(path)),
        }
        self.pending_names.push((path.to_owned(), file));
        Ok(())
    }

    fn write(&mut self, file: usize, bytes: &[u8], offset: usize) -> io::Result<()> {
        let was_crashed = self.is_crashed();
        let fault = self.operation();
        if was_crashed {
            return Err(failure());
        }
        let added = (offset + bytes.len()).saturating_sub(self.files[file].cached.len());
        let free = self.space.saturating_sub(self.used());
        let refused = added.saturating_sub(free);
        let mut length = bytes.len() - refused;
        if fault.is_some() {
            length = self.random.index(length + 1);
        }
        let written = &bytes[..length];
        let file = &mut self.files[file];
        put(&mut file.cached, offset, written);
        file.pending.push((offset, written.to_vec()));
        match (fault, refused) {
            (Some(_), _) => Err(failure()),
            (None, 1..) => Err(io::ErrorKind::StorageFull.into()),
            (None, 0) => Ok(()),
        }
    }
}

fn failure() -> io::Error {
    io::Error::other("a fault of the test")
}

fn put(content: &mut Vec<u8>, offset: usize, bytes: &[u8]) {
    let end = offset + bytes.len();
    if content.len() < end {
        content.resize(end, 0);
    }
    content[offset..end].copy_from_slice(bytes);
}

/// Writes the sectors of a write, each as a whole, not at all, or in part.
fn tear(content: &mut Vec<u8>, offset: usize, bytes: &[u8], random: &mut Random) {
    // Often all or nothing, as when the disk was idle.
    let whole = random.below(4);
    let mut at = 0;
    while at < bytes.len() {
        let end = ((offset + at) / SECTOR * SECTOR + SECTOR - offset).min(bytes.len());
        let sector = &bytes[at..end];
        let kept = match (whole, random.below(3)) {
            (0, _) | (2.., 0) => sector.len(),
            (1, _) | (2.., 1) => 0,
            _ => random.index(sector.len()),
        };
        if kept > 0 {
            put(content, offset + at, &sector[..kept]);
        }
        at = end;
    }
}

#[derive(Debug)]
struct SimHandle {
    disk: SimDisk,
    file: usize,
}

impl DiskFile for SimHandle {
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        let state = self.disk.state();
        let content = &state.files[self.file].cached;
        let start = usize::try_from(offset).expect("small").min(content.len());
        let length = buffer.len().min(content.len() - start);
        buffer[..length].copy_from_slice(&content[start..start + length]);
        Ok(length)
    }

    fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        self.disk.state().write(self.file, bytes, usize::try_from(offset).expect("small"))
    }

    fn write_zeros(&self, offset: u64, length: u64) -> io::Result<()> {
        self.write_at(&vec![0; usize::try_from(length).expect("small")], offset)
    }

    fn sync(&self) -> io::Result<()> {
        let mut state = self.disk.state();
        let fault = state.operation();
        let refuses = state.refuses_syncs;
        let file = &mut state.files[self.file];
        match fault {
            Some(Fault::Crash) => return Err(failure()),
            Some(Fault::Fail) => {
                file.pending.clear();
                return Err(failure());
            }
            None if refuses => {
                file.pending.clear();
                return Err(failure());
            }
            None => {}
        }
        for (offset, bytes) in std::mem::take(&mut file.pending) {
            put(&mut file.durable, offset, &bytes);
        }
        Ok(())
    }

    fn length(&self) -> io::Result<u64> {
        Ok(self.disk.state().files[self.file].cached.len() as u64)
    }
}

#[derive(Debug)]
struct SimLock {
    disk: SimDisk,
    path: PathBuf,
}

impl DirectoryLock for SimLock {
    fn is_in_place(&self) -> bool {
        true
    }
}

impl Drop for SimLock {
    fn drop(&mut self) {
        self.disk.state().locks.remove(&self.path);
    }
}

impl Disk for SimDisk {
    fn create_directory(&self, _: &Path) -> io::Result<()> {
        Ok(())
    }

    fn names(&self, directory: &Path) -> io::Result<Vec<String>> {
        let state = self.state();
        let names = state.names.keys().filter_map(|path| path.strip_prefix(directory).ok());
        Ok(names.map(|name| name.to_str().expect("UTF-8").to_owned()).collect())
    }

    fn open(&self, path: &Path) -> io::Result<Arc<dyn DiskFile>> {
        let state = self.state();
        if !state.has_descriptors {
            return Err(too_many_open_files());
        }
        let file = *state.names.get(path).ok_or(io::ErrorKind::NotFound)?;
        drop(state);
        Ok(Arc::new(SimHandle { disk: self.clone(), file }))
    }

    fn open_read_only(&self, path: &Path) -> io::Result<Arc<dyn DiskFile>> {
        self.open(path)
    }

    fn create(&self, path: &Path) -> io::Result<Arc<dyn DiskFile>> {
        let mut state = self.state();
        if !state.has_descriptors {
            return Err(too_many_open_files());
        }
        let file = state.files.len();
        state.name_operation(path, Some(file))?;
        state.files.push(SimFile::default());
        drop(state);
        Ok(Arc::new(SimHandle { disk: self.clone(), file }))
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        let mut state = self.state();
        let file = *state.names.get(from).ok_or(io::ErrorKind::NotFound)?;
        if state.operation().is_some() {
            return Err(failure());
        }
        state.names.remove(from);
        state.names.insert(to.to_owned(), file);
        // One change of the directory: both names change together, the new one first in the list.
        state.pending_names.push((to.to_owned(), Some(file)));
        state.pending_names.push((from.to_owned(), None));
        Ok(())
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        self.state().name_operation(path, None)
    }

    fn sync_directory(&self, _: &Path) -> io::Result<()> {
        let mut state = self.state();
        // The directory is opened for the sync.
        if !state.has_descriptors {
            return Err(too_many_open_files());
        }
        if state.operation().is_some() || state.refuses_syncs {
            return Err(failure());
        }
        state.durable_names = state.names.clone();
        state.pending_names.clear();
        Ok(())
    }

    fn lock(&self, path: &Path) -> io::Result<Box<dyn DirectoryLock>> {
        if !self.state().locks.insert(path.to_owned()) {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        Ok(Box::new(SimLock { disk: self.clone(), path: path.to_owned() }))
    }
}
