//! Failures of the disk and of other calls in the middle of an operation.

use super::*;

fn subject(name: &str) -> SubjectId {
    SubjectId::new(name).unwrap()
}

fn open(path: &Path) -> KeyDirectory {
    KeyDirectory::open(path, sync_directory).unwrap()
}

fn failing_sync(_: &Path) -> io::Result<()> {
    Err(io::Error::other("too many open files"))
}

/// The rename of a new key succeeded and the sync of the directory failed. The next call found the key and returned it:
/// events were sealed with a key that a power failure removes.
#[test]
fn a_key_is_returned_only_after_the_directory_is_synced() {
    let dir = tempfile::tempdir().unwrap();
    let mut directory = open(&dir.path().join("keys"));
    directory.sync_directory = failing_sync;
    for call in 0..3 {
        let error = directory.get_or_create(&subject("ada")).expect_err("it is not durable");
        assert!(matches!(error, KeyStoreError::Io { .. }), "call {call}: {error}");
    }
    let error = directory.insert(&subject("bob"), &DataKey::random()).expect_err("the directory is not synced");
    assert!(error.to_string().starts_with("could not sync the directory"), "{error}");
    directory.sync_directory = sync_directory;
    assert!(matches!(directory.get_or_create(&subject("ada")), Ok(KeyState::Present(_))));
    directory.sync_directory = failing_sync;
    assert!(matches!(directory.get_or_create(&subject("ada")), Ok(KeyState::Present(_))), "no sync is necessary");
}

/// The record of a destruction without a key was reported as done by the repeated call, although it was not durable.
#[test]
fn a_destruction_is_done_only_after_the_directory_is_synced() {
    let dir = tempfile::tempdir().unwrap();
    let mut directory = open(&dir.path().join("keys"));
    directory.sync_directory = failing_sync;
    for call in 0..2 {
        let error = directory.destroy(&subject("ada")).expect_err("the record is not durable");
        assert!(matches!(error, KeyStoreError::Io { .. }), "call {call}: {error}");
    }
    directory.sync_directory = sync_directory;
    assert!(!directory.destroy(&subject("ada")).unwrap(), "it was recorded before");
}

/// A process was killed between a rename and the sync. The next one used the key without a sync.
#[test]
fn the_directory_is_synced_when_it_is_opened() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("keys");
    drop(open(&path));
    let error = KeyDirectory::open(&path, failing_sync).expect_err("it is not synced");
    assert!(error.to_string().starts_with("could not sync the directory"), "{error}");
}

/// A read overlapped a destruction, found zeros in the file of the key, and reported a damaged key that was to be
/// restored from a backup.
#[test]
fn a_key_that_is_read_during_its_destruction_is_destroyed_and_not_damaged() {
    let dir = tempfile::tempdir().unwrap();
    let (directory, ada) = (open(&dir.path().join("keys")), subject("ada"));
    directory.get_or_create(&ada).unwrap();
    let state = directory.unless_destroyed(&ada, || {
        let file = directory.key_file(&ada, 0);
        let length = fs::metadata(&file).unwrap().len();
        directory.destroy(&ada).unwrap();
        fs::write(&file, vec![0; usize::try_from(length).unwrap()]).unwrap();
        let found = directory.find(&ada, |_| true);
        assert!(matches!(found, Err(KeyStoreError::Damaged { .. })), "the key was overwritten");
        found
    });
    assert_eq!(state.unwrap(), KeyState::Destroyed);
}

/// A process that changed its current directory looked for its keys in another directory.
#[test]
fn the_path_of_the_directory_is_absolute() {
    let dir = tempfile::tempdir().unwrap();
    let current = std::env::current_dir().unwrap();
    let parents: PathBuf = current.components().skip(1).map(|_| "..").collect();
    let relative = parents.join(dir.path().strip_prefix("/").unwrap_or(dir.path())).join("keys");
    assert!(relative.is_relative());
    assert!(open(&relative).path.is_absolute());
}

/// The encoded key was moved to a larger allocation, and the smaller one was freed with the bytes of the key.
#[test]
fn the_encoding_of_a_key_is_not_reallocated() {
    for length in [1, 30, 100] {
        let name = "a".repeat(length);
        let content = encode(&subject(&name), &DataKey::random());
        assert_eq!(content.capacity(), content.len(), "a name of {length} bytes");
    }
}
