//! [`FileKeyStore`]: keys in files of a directory.
//!
//! ```text
//!   keys/lock            locked by the process that has the store open
//!   keys/{hash}.key      the first key of a subject: magic, key, subject, checksum
//!   keys/{hash}.1.key    a further key of the subject, which another store created; .2.key and so on
//!   keys/{hash}.erased   the record that the keys of a subject were destroyed: its name
//!   keys/*.tmp           a file that was not completed; removed when the store is opened
//! ```
//!
//! A file is written under a temporary name, synced, renamed, and the directory is synced. The record of a destruction
//! is written before the keys are overwritten, so that a crash in between is completed at the next opening. The numbers
//! of the keys of a subject have no gaps: the last key is destroyed first.

use std::collections::HashSet;
use std::ffi::OsStr;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use async_trait::async_trait;
use es_core::model::SubjectId;
use zeroize::Zeroizing;

use crate::error::KeyStoreError;
use crate::key::{DataKey, KeyId};
use crate::key_store::{KeyState, KeyStore};

/// The first bytes of a key file: its format.
const MAGIC: &[u8] = b"es-personal key 1\n";
/// The length of the checksum at the end, in bytes.
const CHECKSUM_BYTES: usize = 8;

/// Keys in files of a directory, one per key, readable only for their owner.
///
/// One process can have it open. Destroying a key overwrites its file with zeros and removes it. A file system that
/// copies on write, and a disk with wear levelling, may keep old blocks: use an encrypted disk where that matters.
///
/// Back up the directory apart from the event store, and for a shorter time than an erased person may be kept.
#[derive(Debug, Clone)]
pub struct FileKeyStore {
    directory: Arc<KeyDirectory>,
}

impl FileKeyStore {
    /// Opens the keys in a directory, which is created if it does not exist. Completes destructions and removes
    /// incomplete files that a crash has left.
    ///
    /// # Errors
    /// - [`KeyStoreError::Locked`] if another process has the directory open.
    /// - [`KeyStoreError::Exposed`] if other users can access the directory.
    /// - [`KeyStoreError::Io`] if the directory cannot be created, read or written.
    pub async fn open(directory: impl Into<PathBuf>) -> Result<Self, KeyStoreError> {
        let directory = directory.into();
        let opened = off_executor(move || KeyDirectory::open(&directory, sync_directory)).await?;
        Ok(Self { directory: Arc::new(opened) })
    }

    /// Runs an operation on a thread that may block.
    async fn run<T: Send + 'static>(
        &self,
        subject: &SubjectId,
        operation: impl FnOnce(&KeyDirectory, &SubjectId) -> Result<T, KeyStoreError> + Send + 'static,
    ) -> Result<T, KeyStoreError> {
        let (directory, subject) = (Arc::clone(&self.directory), subject.clone());
        off_executor(move || operation(&directory, &subject)).await
    }
}

#[async_trait]
impl KeyStore for FileKeyStore {
    async fn get(&self, subject: &SubjectId, id: &KeyId) -> Result<KeyState, KeyStoreError> {
        let id = *id;
        self.run(subject, move |directory, subject| directory.get(subject, &id)).await
    }

    async fn get_or_create(&self, subject: &SubjectId) -> Result<KeyState, KeyStoreError> {
        self.run(subject, KeyDirectory::get_or_create).await
    }

    async fn insert(&self, subject: &SubjectId, key: &DataKey) -> Result<KeyState, KeyStoreError> {
        let key = key.clone();
        self.run(subject, move |directory, subject| directory.insert(subject, &key)).await
    }

    async fn destroy(&self, subject: &SubjectId) -> Result<bool, KeyStoreError> {
        self.run(subject, KeyDirectory::destroy).await
    }
}

async fn off_executor<T: Send + 'static>(
    operation: impl FnOnce() -> Result<T, KeyStoreError> + Send + 'static,
) -> Result<T, KeyStoreError> {
    let joined = tokio::task::spawn_blocking(operation).await;
    joined.unwrap_or_else(|error| Err(KeyStoreError::Other(error.into())))
}

/// The open directory.
#[derive(Debug)]
struct KeyDirectory {
    /// The absolute path, so that it stays the same if the process changes its current directory.
    path: PathBuf,
    /// Held while files are written.
    writing: Mutex<()>,
    /// Whether a power failure may undo a rename or a removal, because the directory was not synced after it. `true`
    /// at the opening: the last process may have been killed before the sync. Changed while `writing` is held.
    is_unsynced: AtomicBool,
    /// Makes the renames and removals of a directory durable. Tests replace it.
    sync_directory: fn(&Path) -> io::Result<()>,
    /// Keeps the lock of the directory.
    _lock: File,
}

impl KeyDirectory {
    fn open(path: &Path, sync_directory: fn(&Path) -> io::Result<()>) -> Result<Self, KeyStoreError> {
        let path = std::path::absolute(path).map_err(io_error("find", path))?;
        create_directory(&path).map_err(io_error("create the directory", &path))?;
        check_permissions(&path)?;
        let lock_path = path.join("lock");
        let lock = private().create(true).truncate(false).open(&lock_path).map_err(io_error("open", &lock_path))?;
        match lock.try_lock() {
            Ok(()) => {}
            Err(fs::TryLockError::WouldBlock) => return Err(KeyStoreError::Locked { directory: path }),
            Err(fs::TryLockError::Error(error)) => return Err(io_error("lock", &lock_path)(error)),
        }
        let is_unsynced = AtomicBool::new(true);
        let directory = Self { path, writing: Mutex::new(()), is_unsynced, sync_directory, _lock: lock };
        directory.complete()?;
        Ok(directory)
    }

    /// Completes what a crash has interrupted.
    fn complete(&self) -> Result<(), KeyStoreError> {
        // ORDER: first, so that a record of a destruction is durable before its keys are overwritten.
        self.sync_pending()?;
        let mut destroyed = HashSet::new();
        for path in self.paths()? {
            let path = path?;
            match path.extension().and_then(OsStr::to_str) {
                Some("tmp") => self.shred(&path)?,
                Some("erased") => destroyed.extend(hash_of(&path)),
                _ => {}
            }
        }
        if destroyed.is_empty() {
            return Ok(());
        }
        for path in self.paths()? {
            let path = path?;
            let is_destroyed = hash_of(&path).is_some_and(|hash| destroyed.contains(&hash));
            if is_destroyed && path.extension() == Some(OsStr::new("key")) {
                self.shred(&path)?;
            }
        }
        Ok(())
    }

    /// Returns the paths of all files.
    fn paths(&self) -> Result<impl Iterator<Item = Result<PathBuf, KeyStoreError>>, KeyStoreError> {
        let failed = |error| io_error("read the directory", &self.path)(error);
        let entries = fs::read_dir(&self.path).map_err(failed)?;
        Ok(entries.map(move |entry| entry.map(|entry| entry.path()).map_err(failed)))
    }

    /// Returns the path of a file of a subject. The name is a hash, because a subject may have any length and any
    /// character.
    fn file(&self, subject: &SubjectId, extension: &str) -> PathBuf {
        let hash = blake3::hash(subject.as_str().as_bytes()).to_hex();
        self.path.join(format!("{hash}.{extension}"))
    }

    /// Returns the path of a key of a subject.
    fn key_file(&self, subject: &SubjectId, number: usize) -> PathBuf {
        if number == 0 { self.file(subject, "key") } else { self.file(subject, &format!("{number}.key")) }
    }

    fn is_destroyed(&self, subject: &SubjectId) -> Result<bool, KeyStoreError> {
        let record = self.file(subject, "erased");
        record.try_exists().map_err(io_error("read", &record))
    }

    /// Returns the first key of a subject that is accepted.
    fn find(&self, subject: &SubjectId, accepts: impl Fn(&DataKey) -> bool) -> Result<Found, KeyStoreError> {
        let mut count = 0;
        loop {
            let path = self.key_file(subject, count);
            let content = match fs::read(&path) {
                Ok(content) => Zeroizing::new(content),
                Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Found::None { count }),
                Err(error) => return Err(io_error("read", &path)(error)),
            };
            let key = decode(subject, &path, &content)?;
            if accepts(&key) {
                return Ok(Found::Key(key));
            }
            count += 1;
        }
    }

    fn get(&self, subject: &SubjectId, id: &KeyId) -> Result<KeyState, KeyStoreError> {
        self.unless_destroyed(subject, || self.find(subject, |key| key.id() == *id))
    }

    /// Searches for a key, and returns [`KeyState::Destroyed`] if the keys were destroyed before the end of the search.
    fn unless_destroyed(
        &self,
        subject: &SubjectId,
        find: impl FnOnce() -> Result<Found, KeyStoreError>,
    ) -> Result<KeyState, KeyStoreError> {
        let found = find();
        // ORDER: the keys before the record. A key that is being destroyed may be read as missing or damaged.
        if self.is_destroyed(subject)? {
            return Ok(KeyState::Destroyed);
        }
        Ok(match found? {
            Found::Key(key) => KeyState::Present(key),
            Found::None { .. } => KeyState::Missing,
        })
    }

    fn get_or_create(&self, subject: &SubjectId) -> Result<KeyState, KeyStoreError> {
        self.find_or_write(subject, |_| true, DataKey::random)
    }

    fn insert(&self, subject: &SubjectId, key: &DataKey) -> Result<KeyState, KeyStoreError> {
        self.find_or_write(subject, |found| found == key, || key.clone())
    }

    /// Returns the first key of a subject that is accepted, or writes another one.
    fn find_or_write(
        &self,
        subject: &SubjectId,
        accepts: impl Fn(&DataKey) -> bool,
        key: impl FnOnce() -> DataKey,
    ) -> Result<KeyState, KeyStoreError> {
        let _writing = self.writing.lock().unwrap_or_else(PoisonError::into_inner);
        self.sync_pending()?;
        if self.is_destroyed(subject)? {
            return Ok(KeyState::Destroyed);
        }
        Ok(KeyState::Present(match self.find(subject, accepts)? {
            Found::Key(key) => key,
            Found::None { count } => {
                let key = key();
                self.write(&self.key_file(subject, count), &encode(subject, &key))?;
                key
            }
        }))
    }

    fn destroy(&self, subject: &SubjectId) -> Result<bool, KeyStoreError> {
        let _writing = self.writing.lock().unwrap_or_else(PoisonError::into_inner);
        self.sync_pending()?;
        let is_new = !self.is_destroyed(subject)?;
        // ORDER: the record first. From then on no key is returned, and the next opening completes the rest.
        if is_new {
            self.write(&self.file(subject, "erased"), subject.as_str().as_bytes())?;
        }
        let mut count = 0;
        while self.has_key(subject, count)? {
            count += 1;
        }
        // ORDER: the last key first, so that a repeated call finds the keys that a failed one has left.
        for number in (0..count).rev() {
            self.shred(&self.key_file(subject, number))?;
        }
        Ok(is_new)
    }

    fn has_key(&self, subject: &SubjectId, number: usize) -> Result<bool, KeyStoreError> {
        let path = self.key_file(subject, number);
        path.try_exists().map_err(io_error("read", &path))
    }

    /// Writes a file atomically and durably.
    fn write(&self, path: &Path, content: &[u8]) -> Result<(), KeyStoreError> {
        let temporary = path.with_extension(match path.extension() {
            Some(extension) if extension == "key" => "key.tmp",
            _ => "erased.tmp",
        });
        let write = || {
            let mut file = private().create(true).truncate(true).open(&temporary)?;
            file.write_all(content)?;
            file.sync_all()?;
            self.is_unsynced.store(true, Ordering::Relaxed);
            fs::rename(&temporary, path)?;
            self.sync()
        };
        write().map_err(io_error("write", path))
    }

    /// Overwrites a file with zeros and removes it. Has no effect if it does not exist.
    fn shred(&self, path: &Path) -> Result<(), KeyStoreError> {
        let shred = || {
            let mut file = match OpenOptions::new().write(true).open(path) {
                Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
                opened => opened?,
            };
            let length = usize::try_from(file.metadata()?.len()).unwrap_or(usize::MAX);
            file.write_all(&vec![0; length])?;
            file.sync_all()?;
            self.is_unsynced.store(true, Ordering::Relaxed);
            fs::remove_file(path)?;
            self.sync()
        };
        shred().map_err(io_error("destroy", path))
    }

    /// Makes renames and removals durable.
    fn sync(&self) -> io::Result<()> {
        (self.sync_directory)(&self.path)?;
        self.is_unsynced.store(false, Ordering::Relaxed);
        Ok(())
    }

    /// Makes durable what a failed call, or a process that was killed, has renamed or removed: a file that is read may
    /// not exist after a power failure.
    fn sync_pending(&self) -> Result<(), KeyStoreError> {
        if self.is_unsynced.load(Ordering::Relaxed) {
            self.sync().map_err(io_error("sync the directory", &self.path))?;
        }
        Ok(())
    }
}

/// The result of a search for a key of a subject.
enum Found {
    Key(DataKey),
    /// None of the keys of the subject is accepted.
    None {
        count: usize,
    },
}

/// Returns the hash of the subject in the name of a file.
fn hash_of(path: &Path) -> Option<String> {
    path.file_name()?.to_str()?.split('.').next().map(ToOwned::to_owned)
}

fn io_error(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> KeyStoreError {
    move |source| KeyStoreError::Io { action, path: path.to_owned(), source }
}

/// Returns the options of a new file that only its owner can access.
fn private() -> OpenOptions {
    let mut options = OpenOptions::new();
    options.write(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    options
}

/// Creates a directory with an absolute path and its missing parents, for its user only, so that it exists after a
/// power failure.
fn create_directory(path: &Path) -> io::Result<()> {
    let missing = path.ancestors().take_while(|ancestor| !ancestor.exists()).count();
    let mut builder = fs::DirBuilder::new();
    builder.recursive(true);
    #[cfg(unix)]
    std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
    builder.create(path)?;
    path.ancestors().skip(1).take(missing).try_for_each(sync_directory)
}

/// Makes new entries of a directory durable. Directories cannot be synced on systems other than Unix.
fn sync_directory(path: &Path) -> io::Result<()> {
    if cfg!(not(unix)) {
        return Ok(());
    }
    File::open(path)?.sync_all()
}

#[cfg(unix)]
fn check_permissions(path: &Path) -> Result<(), KeyStoreError> {
    use std::os::unix::fs::PermissionsExt;
    let mode = fs::metadata(path).map_err(io_error("read", path))?.permissions().mode() & 0o7777;
    if mode & 0o077 == 0 { Ok(()) } else { Err(KeyStoreError::Exposed { directory: path.to_owned(), mode }) }
}

#[cfg(not(unix))]
fn check_permissions(_: &Path) -> Result<(), KeyStoreError> {
    Ok(())
}

fn encode(subject: &SubjectId, key: &DataKey) -> Zeroizing<Vec<u8>> {
    let parts = [MAGIC, key.as_bytes(), subject.as_str().as_bytes()];
    // A reallocation would leave a copy of the key in freed memory.
    let length = parts.iter().map(|part| part.len()).sum::<usize>() + CHECKSUM_BYTES;
    let mut content = Zeroizing::new(Vec::with_capacity(length));
    parts.iter().for_each(|part| content.extend_from_slice(part));
    let checksum = blake3::hash(&content);
    content.extend_from_slice(&checksum.as_bytes()[..CHECKSUM_BYTES]);
    content
}

fn decode(subject: &SubjectId, path: &Path, content: &[u8]) -> Result<DataKey, KeyStoreError> {
    let damaged = |found| KeyStoreError::Damaged { subject: subject.clone(), path: path.to_owned(), found };
    let (content, checksum) = content.split_last_chunk::<CHECKSUM_BYTES>().ok_or_else(|| damaged("too few bytes"))?;
    if blake3::hash(content).as_bytes()[..CHECKSUM_BYTES] != *checksum {
        return Err(damaged("another checksum"));
    }
    let rest = content.strip_prefix(MAGIC).ok_or_else(|| damaged("another format"))?;
    let (key, name) = rest.split_first_chunk::<{ DataKey::BYTES }>().ok_or_else(|| damaged("too few bytes"))?;
    if name != subject.as_str().as_bytes() {
        return Err(damaged("the key of another subject"));
    }
    Ok(DataKey::from_bytes(*key))
}

#[cfg(test)]
mod failures;

#[cfg(test)]
mod tests {
    use super::*;

    fn subject(name: &str) -> SubjectId {
        SubjectId::new(name).unwrap()
    }

    /// An id that no key has.
    const NO_KEY: KeyId = KeyId::from_bytes([0; KeyId::BYTES]);

    fn key(state: KeyState) -> DataKey {
        match state {
            KeyState::Present(key) => key,
            other => panic!("expected a key, found {other:?}"),
        }
    }

    /// Returns the contents of all files of a directory.
    fn files(directory: &Path) -> Vec<Vec<u8>> {
        fs::read_dir(directory).unwrap().map(|entry| fs::read(entry.unwrap().path()).unwrap()).collect()
    }

    fn contains(directory: &Path, bytes: &[u8]) -> bool {
        files(directory).iter().any(|content| content.windows(bytes.len()).any(|window| window == bytes))
    }

    #[tokio::test]
    async fn a_key_survives_a_restart_and_its_destruction_too() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("keys");
        let (ada, bob) = (subject("ada"), subject("bob/../\u{e4}"));
        let store = FileKeyStore::open(&path).await.unwrap();
        assert_eq!(store.get(&ada, &NO_KEY).await.unwrap(), KeyState::Missing);
        let first = key(store.get_or_create(&ada).await.unwrap());
        let other = key(store.get_or_create(&bob).await.unwrap());
        assert_ne!(first, other);
        drop(store);
        let store = FileKeyStore::open(&path).await.unwrap();
        assert_eq!(key(store.get(&ada, &first.id()).await.unwrap()), first);
        assert_eq!(store.get(&ada, &other.id()).await.unwrap(), KeyState::Missing);
        assert!(contains(&path, first.as_bytes()));
        for is_first in [true, false] {
            assert_eq!(store.destroy(&ada).await.unwrap(), is_first);
            assert_eq!(store.get(&ada, &first.id()).await.unwrap(), KeyState::Destroyed);
            assert_eq!(store.get_or_create(&ada).await.unwrap(), KeyState::Destroyed);
            assert!(!contains(&path, first.as_bytes()));
        }
        drop(store);
        let store = FileKeyStore::open(&path).await.unwrap();
        assert_eq!(store.get_or_create(&ada).await.unwrap(), KeyState::Destroyed);
        assert_eq!(key(store.get(&bob, &other.id()).await.unwrap()), other);
        assert!(store.destroy(&subject("never")).await.unwrap());
        assert_eq!(store.get_or_create(&subject("never")).await.unwrap(), KeyState::Destroyed);
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 4)]
    async fn concurrent_calls_create_one_key() {
        let dir = tempfile::tempdir().unwrap();
        let store = FileKeyStore::open(dir.path().join("keys")).await.unwrap();
        let tasks: Vec<_> = (0..16)
            .map(|_| {
                let store = store.clone();
                tokio::spawn(async move { key(store.get_or_create(&subject("ada")).await.unwrap()) })
            })
            .collect();
        let mut keys = Vec::new();
        for task in tasks {
            keys.push(task.await.unwrap());
        }
        keys.dedup();
        assert_eq!(keys.len(), 1);
    }

    /// A crash after the record of a destruction, and one during the creation of a key, are completed when the store is
    /// opened: no byte of a key is left.
    #[tokio::test]
    async fn an_interrupted_destruction_or_creation_is_completed_at_the_next_opening() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("keys");
        let store = FileKeyStore::open(&path).await.unwrap();
        let destroyed = key(store.get_or_create(&subject("ada")).await.unwrap());
        let further = DataKey::random();
        store.insert(&subject("ada"), &further).await.unwrap();
        store.directory.write(&store.directory.file(&subject("ada"), "erased"), b"ada").unwrap();
        let state = store.get(&subject("ada"), &destroyed.id()).await.unwrap();
        assert_eq!(state, KeyState::Destroyed, "before the key is overwritten");
        let incomplete = DataKey::random();
        fs::write(store.directory.file(&subject("bob"), "key.tmp"), incomplete.as_bytes()).unwrap();
        drop(store);
        let keys = [&destroyed, &further, &incomplete];
        assert!(keys.iter().all(|key| contains(&path, key.as_bytes())));
        let store = FileKeyStore::open(&path).await.unwrap();
        assert!(keys.iter().all(|key| !contains(&path, key.as_bytes())));
        assert_eq!(store.get(&subject("bob"), &incomplete.id()).await.unwrap(), KeyState::Missing);
    }

    /// The store of another node has created keys, too. Values that were sealed with any of them can be opened.
    #[tokio::test]
    async fn a_subject_has_the_keys_of_several_stores_until_all_are_destroyed() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("keys");
        let (ada, bob) = (subject("ada"), subject("bob"));
        let store = FileKeyStore::open(&path).await.unwrap();
        let first = key(store.get_or_create(&ada).await.unwrap());
        let further = [DataKey::random(), DataKey::random()];
        for key in further.iter().chain(&further) {
            assert_eq!(store.insert(&ada, key).await.unwrap(), KeyState::Present(key.clone()));
        }
        assert_eq!(key(store.insert(&bob, &further[0]).await.unwrap()), further[0]);
        assert_eq!(key(store.get_or_create(&bob).await.unwrap()), further[0], "the first key seals");
        assert_eq!(fs::read_dir(&path).unwrap().count(), 1 + 3 + 1, "the lock, three keys and one key");
        drop(store);
        let store = FileKeyStore::open(&path).await.unwrap();
        assert_eq!(key(store.get_or_create(&ada).await.unwrap()), first);
        for expected in further.iter().chain([&first]) {
            assert_eq!(key(store.get(&ada, &expected.id()).await.unwrap()), *expected);
        }
        assert!(store.destroy(&ada).await.unwrap());
        for destroyed in further.iter().chain([&first]) {
            assert_eq!(store.get(&ada, &destroyed.id()).await.unwrap(), KeyState::Destroyed);
            assert_eq!(store.insert(&ada, destroyed).await.unwrap(), KeyState::Destroyed, "it never comes back");
        }
        assert!(!contains(&path, first.as_bytes()) && !contains(&path, further[1].as_bytes()));
        assert_eq!(key(store.get(&bob, &further[0].id()).await.unwrap()), further[0]);
    }

    /// A call that destroyed the first key and then failed would leave keys that a repeated call does not find.
    #[tokio::test]
    async fn a_repeated_destruction_removes_the_keys_that_a_failed_one_left() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("keys");
        let store = FileKeyStore::open(&path).await.unwrap();
        let (ada, further) = (subject("ada"), DataKey::random());
        let first = key(store.get_or_create(&ada).await.unwrap());
        store.insert(&ada, &further).await.unwrap();
        // A directory cannot be overwritten, so that the destruction fails at the first key.
        let file = store.directory.key_file(&ada, 0);
        fs::remove_file(&file).unwrap();
        fs::create_dir(&file).unwrap();
        let error = store.destroy(&ada).await.expect_err("a directory is no key");
        assert!(matches!(error, KeyStoreError::Io { .. }), "{error}");
        assert_eq!(store.get(&ada, &first.id()).await.unwrap(), KeyState::Destroyed);
        assert!(!contains_key(&path, &further), "the last key is destroyed first");
        fs::remove_dir(&file).unwrap();
        assert!(!store.destroy(&ada).await.unwrap(), "it was recorded before");
    }

    /// Returns whether a file contains a key. Directories are skipped.
    fn contains_key(directory: &Path, key: &DataKey) -> bool {
        let paths = fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().path());
        paths
            .filter(|path| path.is_file())
            .any(|path| fs::read(path).unwrap().windows(DataKey::BYTES).any(|window| window == key.as_bytes()))
    }

    #[tokio::test]
    async fn a_damaged_key_is_an_error_and_not_an_erasure() {
        let dir = tempfile::tempdir().unwrap();
        let store = FileKeyStore::open(dir.path().join("keys")).await.unwrap();
        let id = key(store.get_or_create(&subject("ada")).await.unwrap()).id();
        let path = store.directory.file(&subject("ada"), "key");
        let content = fs::read(&path).unwrap();
        for length in 0..content.len() {
            fs::write(&path, &content[..length]).unwrap();
            let error = store.get(&subject("ada"), &id).await.expect_err("it is truncated");
            assert!(matches!(error, KeyStoreError::Damaged { .. }), "{length} bytes: {error}");
        }
        for index in 0..content.len() {
            let mut changed = content.clone();
            changed[index] ^= 1;
            fs::write(&path, changed).unwrap();
            let error = store.get_or_create(&subject("ada")).await.expect_err("it is damaged");
            assert!(matches!(error, KeyStoreError::Damaged { .. }), "byte {index}: {error}");
        }
        fs::write(&path, &content).unwrap();
        fs::copy(&path, store.directory.file(&subject("bob"), "key")).unwrap();
        let error = store.get(&subject("bob"), &id).await.expect_err("it is the key of another subject");
        assert!(error.to_string().contains("the key of another subject"), "{error}");
    }

    #[tokio::test]
    async fn one_process_has_the_directory_and_one_user_has_access() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("keys");
        let store = FileKeyStore::open(&path).await.unwrap();
        store.get_or_create(&subject("ada")).await.unwrap();
        let second = FileKeyStore::open(&path).await.expect_err("it is locked");
        assert!(matches!(second, KeyStoreError::Locked { .. }), "{second}");
        #[cfg(unix)]
        {
            use std::os::unix::fs::PermissionsExt;
            let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
            assert_eq!(mode(&path), 0o700);
            assert_eq!(mode(&store.directory.file(&subject("ada"), "key")), 0o600);
            drop(store);
            fs::set_permissions(&path, fs::Permissions::from_mode(0o750)).unwrap();
            let exposed = FileKeyStore::open(&path).await.expect_err("a group has access");
            assert!(exposed.to_string().ends_with("found mode 750; run `chmod 700`"), "{exposed}");
        }
    }
}
