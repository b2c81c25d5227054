//! A failing disk: no commit is acknowledged that is not written, reads continue, and no acknowledged commit is lost.
//! After a failed sync, and with [`OnWriteFailure::Stop`] after any failed write, all waiting and later commits fail.
//! By default the store goes on when a full disk has space again.
//!
//! The shim under the child makes `fsync` or `write` fail in the directory of the store. After a failed sync the
//! content of the disk is unknown, so the store accepts no commits until it is reopened, even if the disk works again
//! ("fsyncgate", 2018: after a failed fsync, a second one can succeed although the first dropped the pages).

#![allow(clippy::print_stdout, reason = "a test prints its figures")]

use std::path::Path;
use std::time::Duration;

use es_core::model::ErrorChain;
use es_core::{
    Commit, CommitError, EventId, EventReader, EventStore, EventType, ExpectedRevision, LogRead, NewEvent, StoreError,
    StreamId,
};
use es_rocksdb::{OnWriteFailure, Options, RocksDbStore};
use es_tests::crash::work::{last_rows, row_key};
use es_tests::crash::{History, Power, Run, read_all};
use tokio::task::JoinHandle;

fn run<'a>(store: &'a Path, number: u32, power: Option<&'a Power>) -> Run<'a> {
    Run { power, ..Run::new(env!("CARGO_BIN_EXE_crash-child"), store, number) }
}

/// How the error of a commit begins after a write failed, in the log or in the index.
const STOPPED: [&str; 3] = [
    "the store takes no more writes since a write failed: ",
    "the store takes no more writes since a written commit could not be published: ",
    "could not write the index of earlier commits: ",
];

/// Returns the lines with a prefix, without it.
fn with_prefix<'a>(lines: &'a [String], prefix: &str) -> Vec<&'a str> {
    lines.iter().filter_map(|line| line.strip_prefix(prefix)).collect()
}

/// Returns whether an error has a full disk as its cause. RocksDB reports a stall when it cannot write its buffers.
fn is_lack_of_space(error: &str) -> bool {
    error.contains("No space left on device") || error.contains("Write stall")
}

/// Checks that all writers received an error, that no later commit was acknowledged, and that reads continued.
fn assert_stopped(lines: &[String], errors: &str, cause: &str) {
    assert!(!errors.contains("panicked"), "{cause}: {errors}");
    let failed = with_prefix(lines, "E ");
    assert_eq!(failed.len(), 4, "{cause}: {failed:?}");
    for error in failed {
        assert!(STOPPED.iter().any(|text| error.starts_with(text)), "{cause}: {error}");
        let is_expected = if is_lack_of_space(cause) { is_lack_of_space(error) } else { error.contains(cause) };
        assert!(is_expected, "{cause}: {error}");
    }
    let [later] = with_prefix(lines, "T ")[..] else { panic!("{cause}: no later commit: {lines:?}") };
    assert!(STOPPED.iter().any(|text| later.starts_with(text)), "{cause}: {later}");
    let acknowledged: Vec<u64> =
        with_prefix(lines, "A ").iter().filter_map(|line| line.rsplit(' ').next()?.parse().ok()).collect();
    let read: u64 = with_prefix(lines, "R ")[0].parse().unwrap_or_else(|error| panic!("{cause}: reads fail: {error}"));
    assert_eq!(acknowledged.iter().max(), Some(&read), "{cause}: the log ends at the last acknowledged event");
}

#[test]
fn a_failing_disk_stops_the_writers_without_loss() {
    refuse_calls();
}

fn refuse_calls() {
    let Some(power) = Power::new() else { return println!("skipped: the shim needs Linux") };
    let dir = tempfile::tempdir().expect("a directory");
    let store = dir.path().join("store");
    std::fs::create_dir_all(&store).expect("a directory");
    let store = store.canonicalize().expect("a path");
    let mut history = History::default();
    let faults = [("sync", "Input/output error"), ("write", "Input/output error"), ("full", "No space left on device")];
    for (number, (calls, cause)) in (1..).zip(faults) {
        let mut child = run(&store, number, Some(&power)).start();
        child.wait_for("A ", 40);
        power.refuse(Some(calls));
        child.wait_for("E ", 1);
        // The disk works again, but the store must not accept commits.
        power.refuse(None);
        let (lines, errors) = child.wait();
        assert_stopped(&lines, &errors, cause);
        history.add(&lines).expect("acknowledgements");
        let contents = read_all(&store, &history).unwrap_or_else(|error| panic!("{calls}: {error}"));
        history.check(&contents).unwrap_or_else(|error| panic!("{calls}: {error}"));
    }
}

#[test]
fn a_full_disk_is_an_error_of_opening_the_store() {
    open_on_a_full_disk();
}

fn open_on_a_full_disk() {
    let Some(power) = Power::new() else { return println!("skipped: the shim needs Linux") };
    let dir = tempfile::tempdir().expect("a directory");
    let store = dir.path().canonicalize().expect("a path").join("store");
    std::fs::create_dir_all(&store).expect("a directory");
    let mut history = History::default();
    let mut child = run(&store, 1, Some(&power)).start();
    child.wait_for("A ", 40);
    history.add(&child.kill_after(Duration::ZERO)).expect("acknowledgements");
    let full = run(&store, 2, Some(&power)).start_refusing("full");
    let (lines, errors) = full.wait();
    let [error] = with_prefix(&lines, "O ")[..] else { panic!("expected an error of opening, found {lines:?}") };
    assert!(error.starts_with("could not ") && error.contains("No space left on device"), "{error}");
    assert!(!errors.contains("panicked"), "{errors}");
    let contents = read_all(&store, &history).expect("the store opens with free space");
    history.check(&contents).expect("no loss");
}

/// A small file system in memory. Unmounted on drop.
struct SmallDisk(tempfile::TempDir);

impl SmallDisk {
    /// Mounts a file system; returns `None` without the permission to mount.
    fn mount(size: &str) -> Option<Self> {
        let dir = tempfile::tempdir().expect("a directory");
        let mut mount = std::process::Command::new("mount");
        mount.args(["-t", "tmpfs", "-o", &format!("size={size}"), "tmpfs"]).arg(dir.path());
        mount.output().is_ok_and(|output| output.status.success()).then_some(Self(dir))
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        // Lazily, because a child may still have files open.
        let _ = std::process::Command::new("umount").arg("-l").arg(self.0.path()).status();
    }
}

#[test]
fn a_full_disk_stops_the_writers_until_there_is_free_space_and_the_store_is_reopened() {
    fill_the_disk();
}

/// Fills a real file system without the shim, so that both the log and the tables of the index fail. After another
/// file is removed, the reopened store accepts commits.
fn fill_the_disk() {
    let Some(disk) = SmallDisk::mount("28m") else {
        return println!("skipped, 1 test: a full disk needs a tmpfs, which only root can mount");
    };
    let (store, filler) = (disk.0.path().join("store"), disk.0.path().join("filler"));
    std::fs::write(&filler, vec![1; 20 << 20]).expect("the disk has free space");
    let mut history = History::default();
    let (lines, errors) = run(&store, 1, None).start().wait();
    assert_stopped(&lines, &errors, "No space left on device");
    history.add(&lines).expect("acknowledgements");
    assert!(history.len() > 100, "the disk was full too early, after {} commits", history.len());

    // On a full disk, the store has all acknowledged commits or reports that the disk is full. It is not damaged.
    match read_all(&store, &history) {
        Ok(contents) => history.check(&contents).expect("nothing is lost"),
        Err(error) => {
            let error = ErrorChain(&error).to_string();
            assert!(is_lack_of_space(&error), "{error}");
        }
    }
    let (lines, errors) = run(&store, 2, None).start().wait();
    assert!(!errors.contains("panicked"), "{errors}");
    let failure = lines.iter().find(|line| line.starts_with("O ") || line.starts_with("E "));
    let failure = failure.expect("the disk is still full");
    assert!(is_lack_of_space(failure), "{failure}");
    history.add(&lines).expect("acknowledgements");

    std::fs::remove_file(&filler).expect("removed");
    let contents = read_all(&store, &history).expect("the store opens with free space");
    history.check(&contents).expect("no loss");
    let (lines, errors) = Run { commits: 30, ..run(&store, 3, None) }.start().wait();
    assert!(has_only_acknowledgements(&lines), "{lines:?} {errors}");
    history.add(&lines).expect("acknowledgements");
    let contents = read_all(&store, &history).expect("the store opens");
    history.check(&contents).expect("new commits are stored");
}

#[test]
fn a_commit_of_rows_does_not_wait_for_free_space() {
    fill_the_disk_with_rows();
}

/// RocksDB keeps rows in a buffer, and writes a full one to a table. On a full disk, it stops all writes once the next
/// buffer is full too, and by itself waits until there is free space: a commit then waited without end, on the thread
/// that writes the log. The log has space here, because its segment has its full size from the beginning.
fn fill_the_disk_with_rows() {
    let Some(disk) = SmallDisk::mount("24m") else {
        return println!("skipped, 1 test: a full disk needs a tmpfs, which only root can mount");
    };
    let options = Options::new().write_buffer_bytes(64 << 10).log_segment_bytes(8 << 20).index_run(1 << 20, 64 << 20);
    let options = options.on_write_failure(OnWriteFailure::Stop);
    let (store, filler) = (disk.0.path().join("store"), disk.0.path().join("filler"));
    let (sender, result) = std::sync::mpsc::channel();
    // A thread of its own, because a commit that waits also keeps the store from being closed.
    std::thread::spawn(move || {
        let runtime = tokio::runtime::Runtime::new().expect("a runtime");
        let failed = runtime.block_on(async {
            let store = RocksDbStore::open_with(store, options).await.expect("the store opens");
            let full =
                std::fs::File::create(filler).and_then(|mut file| std::io::copy(&mut std::io::repeat(1), &mut file));
            full.expect_err("the disk is full");
            for number in 0_u32.. {
                let row = number.to_be_bytes().repeat(2 << 10);
                let event = NewEvent::json(EventType::new("Changed").expect("a type"), "{}");
                let stream = StreamId::new("account-1").expect("a name");
                let commit = Commit::new().expect(stream.clone(), ExpectedRevision::Any).append(stream, event);
                if let Err(error) = store.commit(commit.put_row(last_rows(), row_key(1), row)).await {
                    return ErrorChain(&error).to_string();
                }
            }
            unreachable!("the loop has no end")
        });
        sender.send(failed).expect("the test waits");
    });
    let error = result.recv_timeout(Duration::from_secs(60)).expect("a commit waits for free space");
    assert!(error.contains("No space left on device"), "{error}");
}

/// How long a test waits for a commit on a disk that has space again.
const PATIENCE: Duration = Duration::from_secs(60);

/// What needs space on a full disk.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Need {
    /// Segments of the log: the commits have large events. The queue has room for two of them.
    Log,
    /// Tables of the index: the commits have large rows. The segment of the log has its full size from the beginning.
    Index,
}

impl Need {
    fn options(self) -> Options {
        let options = Options::new().write_buffer_bytes(64 << 10).index_run(1 << 20, 64 << 20);
        match self {
            Self::Log => options.log_segment_bytes(256 << 10).queue_bytes(48 << 10),
            Self::Index => options.log_segment_bytes(64 << 20),
        }
    }

    /// Commits an event and a row, of which one is large.
    async fn commit(self, store: RocksDbStore) -> Result<EventId, CommitError> {
        let (event, row) = if self == Self::Log { (8 << 10, 1) } else { (1, 8 << 10) };
        let event = NewEvent::json(EventType::new("Changed").expect("a type"), format!("{:?}", "e".repeat(event)));
        let (id, stream) = (event.data.id, StreamId::new("account-1").expect("a name"));
        let commit = Commit::new().expect(stream.clone(), ExpectedRevision::Any).append(stream, event);
        store.commit(commit.put_row(last_rows(), row_key(1), vec![7; row])).await.map(|_| id)
    }
}

/// A store on a small disk whose free space another file takes.
struct FullDisk {
    disk: SmallDisk,
    need: Need,
    store: RocksDbStore,
    /// The events of the acknowledged commits.
    acknowledged: Vec<EventId>,
    /// The commits that wait.
    waiting: Vec<JoinHandle<Result<EventId, CommitError>>>,
}

impl FullDisk {
    /// Opens a store, and commits until a commit is refused for lack of space.
    async fn fill(need: Need) -> Option<Self> {
        let disk = SmallDisk::mount("24m")?;
        let store = need.options().open(disk.0.path().join("store")).await.expect("it opens");
        let (acknowledged, waiting) = (Vec::new(), Vec::new());
        let mut full = Self { disk, need, store, acknowledged, waiting };
        full.acknowledged.push(full.commit().await.expect("the disk has space"));
        let taken =
            std::fs::File::create(full.filler()).and_then(|mut file| std::io::copy(&mut std::io::repeat(1), &mut file));
        taken.expect_err("the disk is full");
        loop {
            let mut committing = tokio::spawn(need.commit(full.store.clone()));
            match tokio::time::timeout(Duration::from_secs(3), &mut committing).await {
                Ok(committed) => match committed.expect("no panic") {
                    Ok(id) => full.acknowledged.push(id),
                    Err(error) => {
                        full.assert_refused(&error);
                        break;
                    }
                },
                Err(_) => full.waiting.push(committing),
            }
            assert!(full.waiting.len() < 20, "commits wait, although no commit is decided for now");
        }
        assert!(!full.waiting.is_empty(), "a commit was decided before the write failed");
        Some(full)
    }

    async fn commit(&self) -> Result<EventId, CommitError> {
        self.need.commit(self.store.clone()).await
    }

    fn filler(&self) -> std::path::PathBuf {
        self.disk.0.path().join("filler")
    }

    fn assert_refused(&self, error: &CommitError) {
        let text = ErrorChain(error).to_string();
        assert!(matches!(error, CommitError::Store(StoreError::Stalled { .. })), "{text}");
        assert!(text.contains("No space left on device"), "{text}");
    }

    /// Checks that the store has exactly the acknowledged events, and `unknown` that may be there.
    async fn check(store: &RocksDbStore, acknowledged: &[EventId], unknown: usize) {
        let events = store.read_log(LogRead::all()).await.expect("a read").collect().await.expect("reads go on");
        let ids: Vec<EventId> = events.iter().map(|event| event.data.id).collect();
        assert_eq!(&ids[..acknowledged.len()], acknowledged);
        assert!(ids.len() <= acknowledged.len() + unknown, "refused commits are in the log: {}", ids.len());
    }
}

#[test]
fn a_store_on_a_full_disk_refuses_commits_and_goes_on_when_there_is_space() {
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    runtime.block_on(go_on_when_there_is_space(Need::Log));
    runtime.block_on(go_on_when_there_is_space(Need::Index));
}

/// Regression: after a write that failed for lack of space, each later commit failed until the store was opened again.
async fn go_on_when_there_is_space(need: Need) {
    let Some(mut full) = FullDisk::fill(need).await else {
        return println!("skipped, 1 test: a full disk needs a tmpfs, which only root can mount");
    };
    for _ in 0..3 {
        full.assert_refused(&full.commit().await.expect_err("the disk is full"));
    }
    FullDisk::check(&full.store, &full.acknowledged, 0).await;
    let (table, key) = (last_rows(), row_key(1));
    let row = tokio::time::timeout(PATIENCE, full.store.row(&table, &key)).await.expect("reads of rows go on");
    assert!(row.expect("a read").is_some());
    std::fs::remove_file(full.filler()).expect("removed");
    for waiting in std::mem::take(&mut full.waiting) {
        let committed = tokio::time::timeout(PATIENCE, waiting).await.expect("there is space").expect("no panic");
        full.acknowledged.push(committed.expect("a decided commit is written when there is space"));
    }
    let going_on = async {
        loop {
            match full.commit().await {
                Ok(id) => break id,
                Err(error) => full.assert_refused(&error),
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    let id = tokio::time::timeout(PATIENCE, going_on).await.expect("the store goes on");
    full.acknowledged.push(id);
    full.store.close().await.expect("it closes");
    let store = full.need.options().open(full.disk.0.path().join("store")).await.expect("it opens");
    FullDisk::check(&store, &full.acknowledged, 0).await;
    store.close().await.expect("it closes");
}

#[test]
fn a_store_on_a_full_disk_can_be_closed() {
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    runtime.block_on(close_on_a_full_disk(Need::Log));
    runtime.block_on(close_on_a_full_disk(Need::Index));
}

/// The commits that wait for space end with an error when the store is closed. Those whose frame is in the log are
/// there when it is opened again.
async fn close_on_a_full_disk(need: Need) {
    let Some(full) = FullDisk::fill(need).await else {
        return println!("skipped, 1 test: a full disk needs a tmpfs, which only root can mount");
    };
    let _ = tokio::time::timeout(PATIENCE, full.store.close()).await.expect("it closes on a full disk");
    let unknown = full.waiting.len();
    for waiting in full.waiting {
        let failed = tokio::time::timeout(PATIENCE, waiting).await.expect("it ends").expect("no panic");
        let error = failed.expect_err("the store was closed before there was space");
        assert!(matches!(error, CommitError::Store(StoreError::Stopped { .. })), "{error}");
    }
    std::fs::remove_file(full.disk.0.path().join("filler")).expect("removed");
    let store = full.need.options().open(full.disk.0.path().join("store")).await.expect("it opens");
    FullDisk::check(&store, &full.acknowledged, unknown).await;
    store.close().await.expect("it closes");
}

#[test]
fn a_compaction_on_a_full_disk_is_an_error() {
    compact_on_a_full_disk();
}

/// Regression: a compaction of the index that found no space was reported as done, and after an erasure its tables
/// still had the content. RocksDB counts such an error, but the call returns nothing.
fn compact_on_a_full_disk() {
    let Some(disk) = SmallDisk::mount("32m") else {
        return println!("skipped, 1 test: a full disk needs a tmpfs, which only root can mount");
    };
    let (store, filler) = (disk.0.path().join("store"), disk.0.path().join("filler"));
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    runtime.block_on(async {
        let options = Options::new().write_buffer_bytes(1 << 20).log_segment_bytes(512 << 10);
        let store = RocksDbStore::open_with(store, options.index_run(64, 64 << 20)).await.expect("the store opens");
        let mut random = es_tests::crash::Random::new(1);
        for number in 0..128 {
            // Content that a compression does not make smaller.
            let text: String = (0..4096).map(|_| format!("{:016x}", random.next_u64())).collect();
            let event = NewEvent::json(EventType::new("Changed").expect("a type"), format!("{text:?}"));
            let stream = StreamId::new(format!("account-{number}")).expect("a name");
            store.commit(Commit::to(&stream, ExpectedRevision::Any, [event])).await.expect("it commits");
        }
        store.compact().await.expect("the disk has space");
        // Sufficient for a segment of the log, but not for the tables of the index.
        let free = fs_free(disk.0.path()) - (2 << 20);
        std::fs::write(&filler, vec![1; free]).expect("the disk has space");
        let error = store.compact().await.expect_err("the disk is full");
        assert!(
            ErrorChain(&error).to_string().starts_with("could not compact the streams of the index: "),
            "{error:?}"
        );
        std::fs::remove_file(&filler).expect("removed");
    });
}

/// Returns the free bytes of a file system.
fn fs_free(path: &Path) -> usize {
    let output = std::process::Command::new("df").args(["--output=avail", "-B1"]).arg(path).output().expect("df runs");
    let text = String::from_utf8(output.stdout).expect("UTF-8");
    text.lines().last().and_then(|line| line.trim().parse().ok()).expect("a number")
}

fn has_only_acknowledgements(lines: &[String]) -> bool {
    !lines.is_empty() && lines.iter().all(|line| line.starts_with("A "))
}

#[test]
fn commits_to_a_deleted_directory_fail() {
    delete_the_directory();
}

/// Writes and syncs to a deleted file succeed, but the data is lost. The store detects this before it acknowledges a
/// commit: see `es-rocksdb/tests/directory.rs`. This test deletes the directory while four writers commit.
fn delete_the_directory() {
    let dir = tempfile::tempdir().expect("a directory");
    let store = dir.path().join("store");
    let mut child = run(&store, 1, None).start();
    child.wait_for("A ", 40);
    // Repeat, because the child may create a file meanwhile.
    while store.exists() {
        let _ = std::fs::remove_dir_all(&store);
    }
    child.wait_for("E ", 1);
    let (lines, errors) = child.wait();
    assert!(!errors.contains("panicked"), "{errors}");
    for error in with_prefix(&lines, "E ") {
        assert!(STOPPED.iter().any(|text| error.starts_with(text)), "{error}");
        let causes = ["No such file or directory", "the directory of the log was removed, moved or replaced"];
        assert!(causes.iter().any(|cause| error.contains(cause)), "{error}");
    }
}
