//! Contents of a directory that opening accepts, rejects or reports as damage.

#![allow(clippy::unwrap_used, reason = "what fails here fails where it should")]

mod common;

use std::io::Read;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use common::{all, append, files, open, positions, raw, refused, tamper};
use es_core::{EventReader, EventStore};
use es_rocksdb::{OpenError, Options, ReadOnlyStore, RocksDbStore};

/// Environment variable of the second process: the directory to open.
const DIRECTORY: &str = "ES_ROCKSDB_TEST_DIRECTORY";
/// Environment variable of the second process: the file that it creates after it has opened the store.
const READY: &str = "ES_ROCKSDB_TEST_READY";

#[tokio::test]
async fn a_new_directory_is_created_with_its_parents() {
    let parent = tempfile::tempdir().unwrap();
    let dir = parent.path().join("a/b/c");
    let store = open(&dir).await;
    store.commit(append("order-1")).await.unwrap();
    assert_eq!(store.directory(), dir.canonicalize().unwrap());
}

/// The store itself restricts its directory and its files: a service that links it need not set `umask 077`, as `es`
/// does.
#[cfg(unix)]
#[tokio::test]
async fn a_new_store_is_accessible_to_its_user_only() {
    use std::os::unix::fs::PermissionsExt;

    let mode = |path: &std::path::Path| std::fs::metadata(path).unwrap().permissions().mode() & 0o777;
    let parent = tempfile::tempdir().unwrap();
    let dir = parent.path().join("a/store");
    let store = open(&dir).await;
    assert_eq!(mode(&dir), 0o700);
    for (name, _) in files(&dir) {
        assert_eq!(mode(&dir.join(&name)), 0o600, "{name}");
    }
    store.close().await.unwrap();
}

#[tokio::test]
async fn a_store_keeps_its_id() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path()).await;
    let (id, created) = (store.log_id(), store.created());
    store.close().await.unwrap();
    let store = open(dir.path()).await;
    assert_eq!((store.log_id(), store.created()), (id, created));
}

#[tokio::test]
async fn a_second_handle_is_rejected_and_the_first_still_works() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path()).await;
    store.commit(append("order-1")).await.unwrap();
    let error = refused(dir.path()).await;
    assert!(
        matches!(&error, OpenError::AlreadyOpen { directory: named } if *named == dir.path().canonicalize().unwrap())
    );
    assert!(error.to_string().contains("is open already"), "{error}");
    store.commit(append("order-1")).await.unwrap();
    assert_eq!(positions(&all(&store).await), [1, 2]);
}

#[cfg(unix)]
#[tokio::test]
async fn a_second_handle_under_another_path_of_the_directory_is_rejected() {
    let parent = tempfile::tempdir().unwrap();
    let dir = parent.path().join("store");
    let link = parent.path().join("link");
    let store = open(&dir).await;
    std::os::unix::fs::symlink(&dir, &link).unwrap();
    assert!(matches!(refused(&link).await, OpenError::AlreadyOpen { .. }));
    assert!(matches!(refused(&parent.path().join("./store/../store")).await, OpenError::AlreadyOpen { .. }));
    drop(store);
    open(&link).await;
}

/// Not a test: the program of the second process of the next test.
#[tokio::test]
async fn second_process() {
    let (Some(dir), Some(ready)) = (std::env::var_os(DIRECTORY), std::env::var_os(READY)) else { return };
    let _store = open(dir.as_ref()).await;
    std::fs::write(ready, "").unwrap();
    // Blocks until the first process closes the pipe or ends.
    std::io::stdin().read_to_end(&mut Vec::new()).unwrap();
}

#[tokio::test]
async fn a_directory_that_another_process_has_open_is_rejected_until_that_process_ends() {
    let dir = tempfile::tempdir().unwrap();
    let ready = tempfile::tempdir().unwrap().path().with_extension("ready");
    let mut second = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "second_process"])
        .env(DIRECTORY, dir.path())
        .env(READY, &ready)
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .spawn()
        .unwrap();
    let started = Instant::now();
    while !ready.exists() {
        assert!(started.elapsed() < Duration::from_secs(60), "the second process did not open the store");
        std::thread::sleep(Duration::from_millis(10));
    }
    std::fs::remove_file(&ready).unwrap();
    assert!(matches!(refused(dir.path()).await, OpenError::AlreadyOpen { .. }));

    second.kill().unwrap();
    second.wait().unwrap();
    open(dir.path()).await;
}

#[tokio::test]
async fn a_newer_format_is_rejected_and_nothing_is_written() {
    let dir = tempfile::tempdir().unwrap();
    open(dir.path()).await.close().await.unwrap();
    tamper(dir.path(), "meta", b"format", |_| Some(7u32.to_be_bytes().to_vec()));
    let before = files(dir.path());
    let error = refused(dir.path()).await;
    assert!(matches!(error, OpenError::NewerFormat { found: 7, supported: 4, .. }), "{error}");
    assert!(files(dir.path()) == before, "a file was changed");
}

/// The message describes the migration, and no file changes.
#[tokio::test]
async fn an_older_format_is_rejected_and_nothing_is_written() {
    for older in [1_u32, 3] {
        let dir = tempfile::tempdir().unwrap();
        open(dir.path()).await.close().await.unwrap();
        tamper(dir.path(), "meta", b"format", |_| Some(older.to_be_bytes().to_vec()));
        let before = files(dir.path());
        for error in [refused(dir.path()).await, ReadOnlyStore::open(dir.path()).await.unwrap_err()] {
            assert!(matches!(error, OpenError::OlderFormat { found, supported: 4, .. } if found == older), "{error}");
            let message = error.to_string();
            assert!(message.contains("export it with the program that wrote it"), "{message}");
        }
        assert!(files(dir.path()) == before, "a file was changed");
    }
}

#[tokio::test]
async fn a_format_version_that_is_not_a_number_is_damage() {
    let dir = tempfile::tempdir().unwrap();
    open(dir.path()).await.close().await.unwrap();
    tamper(dir.path(), "meta", b"format", |_| Some(b"x".to_vec()));
    let error = refused(dir.path()).await;
    assert!(matches!(&error, OpenError::Damaged { detail, .. } if detail.contains("found x")), "{error}");
}

#[tokio::test]
async fn a_database_of_another_program_is_rejected_and_nothing_is_written() {
    let dir = tempfile::tempdir().unwrap();
    rocksdb::DB::open_default(dir.path()).unwrap().put("a", "b").unwrap();
    let before = files(dir.path());
    let error = refused(dir.path()).await;
    assert!(matches!(&error, OpenError::NotAStore { found, .. } if found.contains("another program")), "{error}");
    assert!(files(dir.path()) == before, "a file was changed");
}

/// A store of an earlier format has its database in the directory itself.
#[tokio::test]
async fn a_store_without_segments_is_of_an_older_format() {
    let dir = tempfile::tempdir().unwrap();
    let mut database = rocksdb::DB::open_default(dir.path()).unwrap();
    database.create_cf("meta", &rocksdb::Options::default()).unwrap();
    database.put_cf(database.cf_handle("meta").unwrap(), "format", 3u32.to_be_bytes()).unwrap();
    drop(database);
    for error in [refused(dir.path()).await, ReadOnlyStore::open(dir.path()).await.unwrap_err()] {
        assert!(matches!(error, OpenError::OlderFormat { found: 3, supported: 4, .. }), "{error}");
    }
}

/// The state after a crash between the creation of the index and that of the log.
#[tokio::test]
async fn the_creation_of_a_partly_created_store_is_completed() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::create_dir(dir.path().join("index")).unwrap();
    rocksdb::DB::open_default(dir.path().join("index")).unwrap();
    open(dir.path()).await.commit(append("order-1")).await.unwrap();
}

#[tokio::test]
async fn a_directory_with_other_files_is_rejected() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("invoice.pdf"), "").unwrap();
    let error = refused(dir.path()).await;
    assert!(matches!(&error, OpenError::NotAStore { found, .. } if found.contains("invoice.pdf")), "{error}");
    assert_eq!(files(dir.path()).len(), 1);
}

#[tokio::test]
async fn a_file_is_rejected() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("store");
    std::fs::write(&file, "hello").unwrap();
    let error = refused(&file).await;
    assert!(matches!(&error, OpenError::NotAStore { found, .. } if found == "a file"), "{error}");
    let inside = refused(&file.join("deeper")).await;
    assert!(matches!(inside, OpenError::Io { .. }), "{inside}");
    assert_eq!(std::fs::read(&file).unwrap(), b"hello");
}

#[tokio::test]
async fn a_missing_store_is_an_error_without_create_if_missing() {
    let dir = tempfile::tempdir().unwrap();
    let missing = dir.path().join("store");
    for dir in [missing.as_path(), dir.path()] {
        let error = Options::new().create_if_missing(false).open(dir).await.unwrap_err();
        assert!(matches!(error, OpenError::NoSuchDirectory { .. }), "{error}");
    }
    assert_eq!(files(dir.path()).len(), 0);
    open(&missing).await.close().await.unwrap();
    Options::new().create_if_missing(false).open(&missing).await.unwrap();
}

#[cfg(unix)]
#[tokio::test]
async fn a_directory_without_permission_is_an_io_error() {
    use std::os::unix::fs::PermissionsExt;
    let parent = tempfile::tempdir().unwrap();
    let dir = parent.path().join("store");
    open(&dir).await.close().await.unwrap();
    let permit = |mode| std::fs::set_permissions(&dir, std::fs::Permissions::from_mode(mode)).unwrap();
    permit(0o555);
    if std::fs::write(dir.join("probe"), "").is_ok() {
        // Permissions do not apply to root: the test would prove nothing.
        eprintln!("skipped: this user may write where it must not");
        return;
    }
    let error = refused(&dir).await;
    permit(0o755);
    assert!(matches!(error, OpenError::Io { .. }), "{error}");
}

/// RocksDB would create a new index and delete these files as obsolete.
#[tokio::test]
async fn a_store_without_its_file_current_is_damaged_and_keeps_its_other_files() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path()).await;
    store.commit(append("order-1")).await.unwrap();
    store.close().await.unwrap();
    std::fs::remove_file(dir.path().join("index/CURRENT")).unwrap();
    let before = files(dir.path());
    let error = refused(dir.path()).await;
    assert!(matches!(&error, OpenError::Damaged { detail, .. } if detail.contains("CURRENT")), "{error}");
    assert!(files(dir.path()) == before, "a file was changed");
}

#[tokio::test]
async fn a_store_that_lost_a_column_family_is_damaged() {
    let dir = tempfile::tempdir().unwrap();
    open(dir.path()).await.close().await.unwrap();
    raw(dir.path()).drop_cf("tags").unwrap();
    let error = refused(dir.path()).await;
    assert!(matches!(&error, OpenError::Damaged { detail, .. } if detail.contains("tags")), "{error}");
}

#[tokio::test]
async fn clones_of_a_handle_are_one_store() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path()).await;
    let clone: RocksDbStore = store.clone();
    store.commit(append("order-1")).await.unwrap();
    drop(store);
    clone.commit(append("order-1")).await.unwrap();
    assert_eq!(positions(&all(&clone).await), [1, 2]);
}
