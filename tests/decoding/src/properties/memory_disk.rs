//! [`MemoryDisk`]: files in memory, for logs that are made of bytes.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use es_log::{DirectoryLock, Disk, DiskFile};

/// A disk that has files in memory and ignores directories. Nothing fails.
#[derive(Debug, Clone, Default)]
pub(super) struct MemoryDisk(Arc<Mutex<BTreeMap<PathBuf, Arc<MemoryFile>>>>);

#[derive(Debug, Default)]
struct MemoryFile(Mutex<Vec<u8>>);

#[derive(Debug)]
struct NoLock;

impl MemoryDisk {
    fn files(&self) -> MutexGuard<'_, BTreeMap<PathBuf, Arc<MemoryFile>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn content(&self, path: &Path) -> Vec<u8> {
        self.files().get(path).map(|file| file.content().clone()).unwrap_or_default()
    }

    pub(super) fn set_content(&self, path: &Path, content: &[u8]) {
        self.files().insert(path.to_owned(), Arc::new(MemoryFile(Mutex::new(content.to_vec()))));
    }

    fn file(&self, path: &Path) -> io::Result<Arc<MemoryFile>> {
        self.files().get(path).cloned().ok_or_else(|| io::ErrorKind::NotFound.into())
    }
}

impl MemoryFile {
    fn content(&self) -> MutexGuard<'_, Vec<u8>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Disk for MemoryDisk {
    fn create_directory(&self, _: &Path) -> io::Result<()> {
        Ok(())
    }

    fn names(&self, _: &Path) -> io::Result<Vec<String>> {
        let name = |path: &PathBuf| path.file_name().map(|name| name.to_string_lossy().into_owned());
        Ok(self.files().keys().filter_map(name).collect())
    }

    fn open(&self, path: &Path) -> io::Result<Arc<dyn DiskFile>> {
        Ok(self.file(path)?)
    }

    fn open_read_only(&self, path: &Path) -> io::Result<Arc<dyn DiskFile>> {
        Ok(self.file(path)?)
    }

    fn create(&self, path: &Path) -> io::Result<Arc<dyn DiskFile>> {
        self.set_content(path, &[]);
        self.open(path)
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        let file = self.file(from)?;
        let mut files = self.files();
        files.remove(from);
        files.insert(to.to_owned(), file);
        Ok(())
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        self.files().remove(path);
        Ok(())
    }

    fn sync_directory(&self, _: &Path) -> io::Result<()> {
        Ok(())
    }

    fn lock(&self, _: &Path) -> io::Result<Box<dyn DirectoryLock>> {
        Ok(Box::new(NoLock))
    }
}

impl DiskFile for MemoryFile {
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        let content = self.content();
        let rest = usize::try_from(offset).ok().and_then(|start| content.get(start..)).unwrap_or_default();
        let read = rest.len().min(buffer.len());
        buffer[..read].copy_from_slice(&rest[..read]);
        Ok(read)
    }

    fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        let mut content = self.content();
        let start = usize::try_from(offset).map_err(io::Error::other)?;
        let end = start + bytes.len();
        if content.len() < end {
            content.resize(end, 0);
        }
        content[start..end].copy_from_slice(bytes);
        Ok(())
    }

    fn write_zeros(&self, offset: u64, length: u64) -> io::Result<()> {
        self.write_at(&vec![0; usize::try_from(length).map_err(io::Error::other)?], offset)
    }

    fn sync(&self) -> io::Result<()> {
        Ok(())
    }

    fn length(&self) -> io::Result<u64> {
        Ok(self.content().len() as u64)
    }
}

impl DirectoryLock for NoLock {
    fn is_in_place(&self) -> bool {
        true
    }
}
