//! `repair`: shows damage and loss, writes into a new directory, and requires confirmation of a loss.

use std::fs;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use es_core::aggregate::RawEvents;
use es_core::consumer::group::{ConsumerGroup, StartAt};
use es_core::model::Table;
use es_core::projection::view::{View, Views};
use es_core::projection::{ApplyError, ProjectedContext, Projection, ProjectionOptions, Rows, Supervisor};
use es_core::store::Query;
use es_core::{Commit, EventStore, EventType, ExpectedRevision, NewEvent, RecordedEvent, aggregate::snapshot};
use es_rocksdb::RocksDbStore;
use serde_json::{Value, json};

use crate::backup_kill::kill_at;
use crate::support::{TestDir, files, stream};

/// Two commits of 1,000 events in two streams, the first in tables and in the first segment, the second in another.
fn dir() -> TestDir {
    let commit = |name: &str| {
        let event = |number| NewEvent::json(EventType::new("t").unwrap(), format!("{{\"number\":{number}}}"));
        Commit::to(&stream(name), ExpectedRevision::Any, (0..1000).map(event))
    };
    let key = [b"a-1\0".as_slice(), &999u64.to_be_bytes()].concat();
    let value = [[1].as_slice(), &7u64.to_be_bytes(), &1000u64.to_be_bytes(), b"state"].concat();
    let dir = TestDir::with([commit("a-1").put_row(snapshot::table(), key, value)]);
    dir.done(&["compact"]);
    dir.commit([commit("b-1")]);
    dir
}

/// Returns the tables of the index, the largest last: the copies of the events.
fn tables(dir: &TestDir) -> Vec<PathBuf> {
    let mut tables: Vec<_> = files(&dir.path("store/index"))
        .into_iter()
        .filter(|path| path.extension().is_some_and(|end| end == "sst"))
        .collect();
    tables.sort_by_key(|path| fs::metadata(path).unwrap().len());
    tables
}

#[test]
fn a_sound_store_needs_no_repair() {
    let dir = dir();
    assert_eq!(dir.done(&["repair"]), "sound: no repair needed\n");
    assert_eq!(dir.done(&["repair", "--to", "new"]), "sound: no repair needed\n");
    assert!(!dir.path("new").exists());
    let error = "error: expected an event store in nowhere, found none; check the path and whether its disk is mounted \
                 (`es append` and `es import` create a store)";
    dir.refused(&["--store", "nowhere", "repair"], 1, error);
    let ran = dir.run(&["repair", "--accept-loss", "3"]);
    assert_eq!(ran.code, Some(2), "{}", ran.err);
}

#[test]
fn the_printed_command_repairs_damage_without_loss() {
    let dir = dir();
    let export = dir.done(&["export"]);
    let table = tables(&dir).pop().unwrap();
    fs::remove_file(table).unwrap();
    let refused = dir.run(&["info"]);
    assert_eq!(refused.code, Some(4), "{}", refused.err);
    assert!(
        refused.err.contains("`es --store ") && refused.err.contains(" repair` shows what can be recovered"),
        "{}",
        refused.err
    );

    let shown = dir.run(&["repair"]);
    assert_eq!(shown.code, Some(4), "{}", shown.err);
    assert!(
        shown.out.contains("can be recovered: 2000 events") && shown.out.contains("would be lost: nothing"),
        "{}",
        shown.out
    );
    assert!(shown.out.ends_with("  es --store store repair --to store.repaired\n"), "{}", shown.out);
    assert!(!dir.path("store.repaired").exists() && !dir.path("store.repairing").exists());

    let output = dir.done(&["repair", "--to", "store.repaired"]);
    assert!(output.starts_with("repaired: 2000 events, 1 row, verified, in "), "{output}");
    assert!(!output.contains("new store id"), "{output}");
    assert!(!dir.path("store.repaired.lost-and-found.jsonl").exists());
    assert_eq!(dir.done(&["--store", "store.repaired", "export"]), export);
    dir.done(&["--store", "store.repaired", "verify"]);
    assert_eq!(dir.run(&["repair"]).code, Some(4), "the damaged store is unchanged");
    let repeated = dir.run(&["repair", "--to", "store.repaired"]);
    assert_eq!(repeated.code, Some(1));
    assert!(repeated.err.contains("expected an empty or a new directory"), "{}", repeated.err);
}

#[test]
fn a_loss_must_be_confirmed_and_readable_events_are_set_aside() {
    let dir = dir();
    let export = dir.done(&["export"]);
    // Both copies of the events.
    for file in [dir.path("store/log/00000001.seg"), tables(&dir).pop().unwrap()] {
        fs::remove_file(file).unwrap();
    }
    let ran = dir.run(&["repair", "--json"]);
    assert_eq!(ran.code, Some(4), "{}", ran.err);
    let shown: Value = serde_json::from_str(&ran.out).unwrap();
    assert_eq!(shown["sound"], json!(false));
    assert_eq!(
        (&shown["head"], &shown["last"], &shown["loss"]["events"], &shown["loss"]["set_aside"]),
        (&Value::Null, &json!(2000), &json!(2000), &json!(1000))
    );
    assert_eq!(shown["loss"]["unreadable"], json!([[1, 1000]]));
    assert_eq!(shown["command"], json!("es --store store repair --to store.repaired --accept-loss 2000"));
    assert!(dir.run(&["repair"]).out.contains("  stream b-1: 1000 events"));

    let refused = dir.run(&["repair", "--to", "new"]);
    assert_eq!(refused.code, Some(4));
    assert!(
        refused.err.contains("accept the loss of exactly 2000 events (`es repair --accept-loss 2000`)"),
        "{}",
        refused.err
    );
    assert_eq!(dir.run(&["repair", "--to", "new", "--accept-loss", "1000"]).code, Some(4));
    assert!(!dir.path("new").exists() && !dir.path("new.lost-and-found.jsonl").exists());

    // The file of an earlier repair is not replaced.
    dir.write("new.lost-and-found.jsonl", "earlier");
    let refused = dir.run(&["repair", "--to", "new", "--accept-loss", "2000"]);
    assert!(refused.err.contains("expected no file in new.lost-and-found.jsonl, found one"), "{}", refused.err);
    assert!(!dir.path("new").exists());
    assert_eq!(dir.read("new.lost-and-found.jsonl"), "earlier");
    fs::remove_file(dir.path("new.lost-and-found.jsonl")).unwrap();

    let answer = dir.json(&["--store", "store", "repair", "--to", "new", "--accept-loss", "2000"]);
    assert_eq!(answer["repaired"]["new_store_id"], json!(true));
    assert_eq!((&answer["repaired"]["set_aside"], &answer["repaired"]["snapshots_deleted"]), (&json!(1000), &json!(0)));
    dir.done(&["--store", "new", "verify"]);

    // The events that were set aside are the second half of the export, and can be imported.
    let set_aside = dir.read("new.lost-and-found.jsonl");
    assert!(export.ends_with(&set_aside) && set_aside.lines().count() == 1000);
    dir.done(&["--store", "new", "import", "new.lost-and-found.jsonl"]);
    assert_eq!(dir.json(&["--store", "new", "info"])["head"], json!(1000));
}

const COUNTED: View<u8, u64> = View::new("counted");

/// Counts the events.
struct Counted;

impl Projection for Counted {
    type Source = RawEvents;
    const NAME: &'static str = "counted";

    fn apply(&self, _: &RecordedEvent, _: &ProjectedContext<'_>, rows: &mut Rows) -> Result<(), ApplyError> {
        rows.view(&COUNTED)?.update(&0, |events| *events += 1)
    }
}

/// Runs a projection and a consumer group to the end of the log. Returns the number of events that each has processed.
fn follow(dir: &TestDir, name: &str) -> (u64, u64) {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_time().build().unwrap();
    runtime.block_on(follow_to_head(dir, name))
}

async fn follow_to_head(dir: &TestDir, name: &str) -> (u64, u64) {
    let timeout = Duration::from_secs(60);
    let opened = RocksDbStore::open(dir.path(name)).await.unwrap();
    let store: Arc<dyn EventStore> = Arc::new(opened.clone());
    let head = store.head().await.unwrap();
    let running =
        Supervisor::new().projection(Counted, ProjectionOptions::new()).start(Arc::clone(&store)).await.unwrap();
    running.projection(Counted::NAME).unwrap().wait_for(head, timeout).await.unwrap();
    running.shutdown(timeout).await.unwrap();
    let counted = Views::of::<Counted>(store.clone()).view(&COUNTED).get(&0).await.unwrap().unwrap_or_default();

    let group = ConsumerGroup::new("printers", Query::all())
        .start_at(StartAt::Beginning)
        .start(Arc::clone(&store))
        .await
        .unwrap();
    let consumer = group.consumer();
    let mut delivered = 0;
    loop {
        tokio::select! {
            biased;
            delivery = consumer.next() => delivery.unwrap().expect("it is open").ack().await.unwrap(),
            finished = group.wait_for(head, timeout) => break finished.unwrap(),
        }
        delivered += 1;
    }
    group.shutdown(timeout).await.unwrap();
    drop(store);
    opened.close().await.unwrap();
    (counted, delivered)
}

/// Returns a store whose followers have processed 2,000 events, of which the returned number are lost.
fn with_lost_events() -> (TestDir, u64) {
    let dir = dir();
    assert_eq!(follow(&dir, "store"), (2000, 2000));
    let result = json!({"format": 2, "results": [{"stream": "b-1", "events": [], "last": 999}]}).to_string();
    dir.commit([Commit::new().put_row(Table::new("commands").unwrap(), "b-1\0add", result)]);
    dir.done(&["compact"]);
    // Both copies of the events.
    for file in [dir.path("store/log/00000002.seg"), tables(&dir).pop().unwrap()] {
        fs::remove_file(file).unwrap();
    }
    let shown = dir.run(&["repair", "--json"]);
    let shown: Value = serde_json::from_str(&shown.out).unwrap();
    let loss = shown["loss"]["events"].as_u64().unwrap();
    assert!(loss > 0, "{shown}");
    (dir, loss)
}

/// Appends five events to the repaired store, and checks that its followers process them.
#[track_caller]
fn check_followers_of_new(dir: &TestDir, loss: u64) {
    for number in 0..5 {
        let data = format!("{{\"number\":{number}}}");
        dir.done(&["--store", "new", "append", "c-1", "--type", "t", "--data", &data]);
    }
    assert_eq!(follow(dir, "new"), (2000 - loss + 5, 5));
}

/// A repair that loses events resets views, checkpoints and consumers. Otherwise they would silently skip the next
/// events, which get the positions of the lost ones.
#[test]
fn followers_process_the_events_that_get_the_positions_of_lost_ones() {
    let (dir, loss) = with_lost_events();
    let repaired = dir.json(&["repair", "--to", "new", "--accept-loss", &loss.to_string()])["repaired"].take();
    for field in ["projections_reset", "groups_reset", "command_results_deleted"] {
        assert_eq!(repaired[field], 1, "{repaired}");
    }
    assert_eq!(repaired["node"], Value::Null);
    check_followers_of_new(&dir, loss);
}

/// Regression: the store got its name before its followers were reset. A repair that was killed in between left a sound
/// store whose followers skipped the next events.
#[test]
fn followers_are_reset_before_the_store_has_its_name() {
    let (dir, loss) = with_lost_events();
    let undo = || {
        fs::remove_dir_all(dir.path("new")).unwrap();
        let _ = fs::remove_file(dir.path("new.lost-and-found.jsonl"));
    };
    kill_at(&dir, &["repair", "--to", "new", "--accept-loss", &loss.to_string()], || dir.path("new").exists(), undo);
    check_followers_of_new(&dir, loss);
}

/// Regression: a repair was refused only after the survey of the whole store, with an error of the operating system.
#[test]
fn an_unsuitable_target_is_found_before_the_survey() {
    let dir = dir();
    fs::create_dir(dir.path("new.incomplete")).unwrap();
    let root = fs::canonicalize(dir.path("")).unwrap().display().to_string();
    let refused = format!(
        "error: expected no directory {root}/new.incomplete, found that of an interrupted or a running repair; if none \
         is running, remove {root}/new.incomplete and try again"
    );
    // A sound store needs no repair, which only the survey finds.
    dir.refused(&["repair", "--to", "new"], 1, &refused);
    fs::remove_dir(dir.path("new.incomplete")).unwrap();
    dir.write("new.lost-and-found.jsonl", "earlier");
    let refused = "error: expected no file in new.lost-and-found.jsonl, found one; remove it, or choose another path";
    dir.refused(&["repair", "--to", "new", "--accept-loss", "1"], 1, refused);
    dir.done(&["repair", "--to", "new"]);
}

/// Regression: the file of the readable events was in the target if the target was `.`, so that the repair failed after
/// all of the work.
#[test]
fn the_working_directory_can_be_the_target() {
    let dir = dir();
    for file in [dir.path("store/log/00000001.seg"), tables(&dir).pop().unwrap()] {
        fs::remove_file(file).unwrap();
    }
    fs::create_dir(dir.path("here")).unwrap();
    let args = ["--store", "../store", "repair", "--to", ".", "--accept-loss", "2000"];
    let output = dir.command(&args).current_dir(dir.path("here")).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    assert_eq!(dir.read("here.lost-and-found.jsonl").lines().count(), 1000);
    dir.done(&["--store", "here", "verify"]);
}

/// A repair copies files one after the other, so that a write in between would look like damage.
#[test]
fn a_repair_while_a_service_has_the_store_open_is_refused() {
    let dir = TestDir::new();
    crate::support::runtime().block_on(async {
        let store = es_rocksdb::RocksDbStore::open(dir.path("store")).await.unwrap();
        let ran = dir.run(&["repair"]);
        assert_eq!(ran.code, Some(1), "{}", ran.err);
        assert!(ran.err.contains("is in use by another process; stop that process"), "{}", ran.err);
        es_core::EventStore::close(&store).await.unwrap();
        // The handle is still there, but the store is closed.
        dir.done(&["repair"]);
    });
}

/// Regression: the target was compared with the damaged store by its text, and a link to an empty directory was
/// refused after all of the work.
#[cfg(unix)]
#[test]
fn the_target_of_a_repair_is_found_through_links() {
    use std::os::unix::fs::{PermissionsExt, symlink};

    let dir = dir();
    fs::remove_file(tables(&dir).pop().unwrap()).unwrap();
    fs::create_dir(dir.path("empty")).unwrap();
    fs::set_permissions(dir.path("empty"), fs::Permissions::from_mode(0o750)).unwrap();
    symlink("store", dir.path("same")).unwrap();
    symlink("empty", dir.path("link")).unwrap();
    for within in ["same/new", "./store/../store/new"] {
        let ran = dir.run(&["repair", "--to", within]);
        assert!(ran.code == Some(1) && ran.err.contains("outside of any store"), "{within}: {}", ran.err);
    }
    dir.done(&["repair", "--to", "link"]);
    assert!(dir.path("link").is_symlink());
    assert_eq!(fs::metadata(dir.path("empty")).unwrap().permissions().mode() & 0o777, 0o750);
    dir.done(&["--store", "empty", "verify"]);
    dir.done(&["repair", "--to", "new"]);
    assert_eq!(fs::metadata(dir.path("new")).unwrap().permissions().mode() & 0o777, 0o700);
}
