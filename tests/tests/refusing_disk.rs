//! A disk that refuses: whoever waits is told, nothing more is acknowledged, reads go on, and nothing that was acknowledged
//! is lost.
//!
//! The shim under the child lets `fsync` and `write` fail in the directory of the store from a moment on. Which of them
//! was acknowledged and which was not is known on both sides; after a failed write nobody knows what is on the disk, so
//! that the store takes no more commits until it is opened again, also when the disk is well again ("fsyncgate", 2018:
//! a second fsync says "done" for pages that the first has thrown away).

use es_core::model::ErrorChain;
use std::path::Path;
use std::time::Duration;

use es_rocksdb::Durability;
use es_tests::crash::{History, Power, Run, read_all};

fn run<'a>(store: &'a Path, number: u32, power: Option<&'a Power>) -> Run<'a> {
    let program = env!("CARGO_BIN_EXE_crash-child");
    Run { program, dir: store, number, durability: Durability::Sync, commits: 0, power, open_files: 0 }
}

/// The lines that begin so, without that.
fn told<'a>(lines: &'a [String], beginning: &str) -> Vec<&'a str> {
    lines.iter().filter_map(|line| line.strip_prefix(beginning)).collect()
}

/// All writers were told, nothing was acknowledged behind that, and reads went on.
fn assert_told(lines: &[String], errors: &str, cause: &str) {
    assert!(!errors.contains("panicked"), "{cause}: {errors}");
    let failed = told(lines, "E ");
    assert_eq!(failed.len(), 4, "{cause}: {failed:?}");
    for error in failed {
        assert!(error.starts_with("the store takes no more writes since a write failed: IO error"), "{cause}: {error}");
        assert!(error.ends_with("reopen it and repeat the commit with the same event ids"), "{cause}: {error}");
        assert!(error.contains(cause), "{cause}: {error}");
    }
    let [later] = told(lines, "T ")[..] else { panic!("{cause}: nobody tried again: {lines:?}") };
    assert!(later.starts_with("the store takes no more writes"), "{cause}: {later}");
    let acknowledged: Vec<u64> =
        told(lines, "A ").iter().filter_map(|line| line.rsplit(' ').next()?.parse().ok()).collect();
    let read: u64 = told(lines, "R ")[0].parse().unwrap_or_else(|error| panic!("{cause}: reads end: {error}"));
    assert_eq!(acknowledged.iter().max(), Some(&read), "{cause}: what is read is what was acknowledged");
}

#[test]
fn a_disk_that_refuses_stops_the_writers_and_loses_nothing() {
    let Some(power) = Power::new() else { return println!("skipped: the shim needs Linux") };
    let dir = tempfile::tempdir().expect("a directory");
    let store = dir.path().join("store");
    std::fs::create_dir_all(&store).expect("a directory");
    let store = store.canonicalize().expect("a path");
    let mut history = History::default();
    let faults = [("sync", "Input/output error"), ("write", "Input/output error"), ("full", "No space left on device")];
    for (number, (what, cause)) in (1..).zip(faults) {
        let mut child = run(&store, number, Some(&power)).start();
        child.wait_for("A ", 40);
        power.refuse(Some(what));
        child.wait_for("E ", 1);
        // NOTE: that the disk is well again must change nothing for the store that has stopped.
        power.refuse(None);
        let (lines, errors) = child.end();
        assert_told(&lines, &errors, cause);
        history.note(&lines).expect("acknowledgements");
        let contents = read_all(&store, &history).unwrap_or_else(|error| panic!("{what}: {error}"));
        history.check(&contents).unwrap_or_else(|error| panic!("{what}: {error}"));
    }
}

#[test]
fn a_disk_without_space_is_told_when_the_store_opens() {
    let Some(power) = Power::new() else { return println!("skipped: the shim needs Linux") };
    let dir = tempfile::tempdir().expect("a directory");
    let store = dir.path().canonicalize().expect("a path").join("store");
    std::fs::create_dir_all(&store).expect("a directory");
    let mut history = History::default();
    let mut child = run(&store, 1, Some(&power)).start();
    child.wait_for("A ", 40);
    history.note(&child.kill_after(Duration::ZERO)).expect("acknowledgements");
    let full = run(&store, 2, Some(&power)).start_refusing("full");
    let (lines, errors) = full.end();
    let [error] = told(&lines, "O ")[..] else { panic!("expected that it does not open, found {lines:?}") };
    assert!(error.starts_with("could not ") && error.contains("No space left on device"), "{error}");
    assert!(!errors.contains("panicked"), "{errors}");
    let contents = read_all(&store, &history).expect("with space it opens");
    history.check(&contents).expect("nothing is lost");
}

/// A small file system in memory, which goes when it is dropped. `None` where this process may not have one.
struct SmallDisk(tempfile::TempDir);

impl SmallDisk {
    fn mount(size: &str) -> Option<Self> {
        let dir = tempfile::tempdir().expect("a directory");
        let mut mount = std::process::Command::new("mount");
        mount.args(["-t", "tmpfs", "-o", &format!("size={size}"), "tmpfs"]).arg(dir.path());
        mount.output().is_ok_and(|output| output.status.success()).then_some(Self(dir))
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        // NOTE: lazily, in case that a child is still about to end.
        let _ = std::process::Command::new("umount").arg("-l").arg(self.0.path()).status();
    }
}

/// No shim here: the disk is really full, for the write-ahead log and for RocksDB's tables, which are written behind the back
/// of the writer. Then something else is removed from it, and the store, once reopened, goes on.
#[test]
fn a_disk_that_fills_up_stops_the_writers_and_goes_on_when_there_is_space_again() {
    let Some(disk) = SmallDisk::mount("28m") else {
        return println!("skipped, 1 test: a disk that is really full needs a tmpfs, which root can mount");
    };
    let (store, filler) = (disk.0.path().join("store"), disk.0.path().join("filler"));
    std::fs::write(&filler, vec![1; 20 << 20]).expect("there is room");
    let mut history = History::default();
    let (lines, errors) = run(&store, 1, None).start().end();
    assert_told(&lines, &errors, "No space left on device");
    history.note(&lines).expect("acknowledgements");
    assert!(history.len() > 100, "it was full before anything was done: {}", history.len());

    // NOTE: what was acknowledged can be read while the disk is full, or the store says why not; it is not damaged.
    match read_all(&store, &history) {
        Ok(contents) => history.check(&contents).expect("nothing is lost"),
        Err(error) => {
            let error = ErrorChain(&error).to_string();
            assert!(error.contains("No space left on device"), "{error}");
        }
    }
    let (lines, errors) = run(&store, 2, None).start().end();
    assert!(!errors.contains("panicked"), "{errors}");
    let told = lines.iter().find(|line| line.starts_with("O ") || line.starts_with("E ")).expect("it is still full");
    assert!(told.contains("No space left on device"), "{told}");
    history.note(&lines).expect("acknowledgements");

    std::fs::remove_file(&filler).expect("removed");
    let contents = read_all(&store, &history).expect("with space it opens");
    history.check(&contents).expect("nothing is lost");
    let (lines, errors) = Run { commits: 30, ..run(&store, 3, None) }.start().end();
    assert!(told_nothing(&lines), "{lines:?} {errors}");
    history.note(&lines).expect("acknowledgements");
    let contents = read_all(&store, &history).expect("it opens");
    history.check(&contents).expect("appends go on");
}

fn told_nothing(lines: &[String]) -> bool {
    !lines.is_empty() && lines.iter().all(|line| line.starts_with("A "))
}

/// A file without a name takes writes and syncs like any other, and what goes into it is gone. The store notices before it
/// acknowledges: see `es-rocksdb/tests/directory.rs`. Here the directory goes while four writers are at work.
#[test]
fn a_directory_that_is_removed_while_it_is_open_ends_in_an_error() {
    let dir = tempfile::tempdir().expect("a directory");
    let store = dir.path().join("store");
    let mut child = run(&store, 1, None).start();
    child.wait_for("A ", 40);
    // NOTE: the child may create a file while its directory is emptied.
    while store.exists() {
        let _ = std::fs::remove_dir_all(&store);
    }
    child.wait_for("E ", 1);
    let (lines, errors) = child.end();
    assert!(!errors.contains("panicked"), "{errors}");
    for error in told(&lines, "E ") {
        assert!(error.starts_with("the store takes no more writes since a write failed: "), "{error}");
        assert!(error.contains("No such file or directory"), "{error}");
    }
}
