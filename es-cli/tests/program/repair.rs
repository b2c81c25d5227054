//! `repair`: shown first, done into a new directory, and a loss only when it is named.

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

use crate::support::{TestDir, stream};

/// Two commits of 1,000 events in two streams, the first in tables and the second in the write-ahead log.
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

/// The table files, the largest last.
fn tables(dir: &TestDir) -> Vec<PathBuf> {
    let files = fs::read_dir(dir.path("store")).unwrap().map(|entry| entry.unwrap().path());
    let mut tables: Vec<_> = files.filter(|path| path.extension().is_some_and(|end| end == "sst")).collect();
    tables.sort_by_key(|path| fs::metadata(path).unwrap().len());
    tables
}

#[test]
fn a_sound_store_needs_no_repair() {
    let dir = dir();
    assert_eq!(dir.done(&["repair"]), "sound: there is nothing to repair\n");
    assert_eq!(dir.done(&["repair", "--to", "new"]), "sound: there is nothing to repair\n");
    assert!(!dir.path("new").exists());
    let error = "error: expected an event store in nowhere, found none; check the path and whether its disk is mounted \
                 (`es append` and `es import` make a new one)";
    dir.refused(&["--store", "nowhere", "repair"], 1, error);
    let ran = dir.run(&["repair", "--accept-loss", "3"]);
    assert_eq!(ran.code, Some(2), "{}", ran.err);
}

#[test]
fn damage_that_costs_nothing_is_repaired_by_the_command_that_is_shown() {
    let dir = dir();
    let export = dir.done(&["export"]);
    let table = tables(&dir).pop().unwrap();
    fs::remove_file(table).unwrap();
    let refused = dir.run(&["info"]);
    assert_eq!(refused.code, Some(4), "{}", refused.err);
    assert!(
        refused.err.contains("`es --store ") && refused.err.contains(" repair` shows what can be saved"),
        "{}",
        refused.err
    );

    let shown = dir.run(&["repair"]);
    assert_eq!(shown.code, Some(4), "{}", shown.err);
    assert!(
        shown.out.contains("can be saved: 2000 events") && shown.out.contains("would be lost: nothing"),
        "{}",
        shown.out
    );
    assert!(shown.out.ends_with("  es --store store repair --to store.repaired\n"), "{}", shown.out);
    assert!(!dir.path("store.repaired").exists() && !dir.path("store.repairing").exists());

    let done = dir.done(&["repair", "--to", "store.repaired"]);
    assert!(done.starts_with("repaired: 2000 events, 1 row, verified, in "), "{done}");
    assert!(!done.contains("new store id"), "{done}");
    assert!(!dir.path("store.repaired.lost-and-found.jsonl").exists());
    assert_eq!(dir.done(&["--store", "store.repaired", "export"]), export);
    dir.done(&["--store", "store.repaired", "verify"]);
    assert_eq!(dir.run(&["repair"]).code, Some(4), "the damaged store is as it was");
    let again = dir.run(&["repair", "--to", "store.repaired"]);
    assert_eq!(again.code, Some(1));
    assert!(again.err.contains("expected an empty or a new directory"), "{}", again.err);
}

#[test]
fn a_loss_must_be_named_and_what_can_be_read_is_set_aside() {
    let dir = dir();
    let export = dir.done(&["export"]);
    for table in tables(&dir).into_iter().rev().take(2) {
        fs::remove_file(table).unwrap();
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
    assert!(dir.run(&["repair"]).out.contains("  stream a-1: 1000 events"));

    let refused = dir.run(&["repair", "--to", "new"]);
    assert_eq!(refused.code, Some(4));
    assert!(
        refused.err.contains("accept the loss of exactly 2000 events (`es repair --accept-loss 2000`)"),
        "{}",
        refused.err
    );
    assert_eq!(dir.run(&["repair", "--to", "new", "--accept-loss", "1000"]).code, Some(4));
    assert!(!dir.path("new").exists() && !dir.path("new.lost-and-found.jsonl").exists());

    let before = dir.json(&["--store", "store", "repair", "--to", "new", "--accept-loss", "2000"]);
    assert_eq!(before["repaired"]["new_store_id"], json!(true));
    assert_eq!((&before["repaired"]["set_aside"], &before["repaired"]["snapshots_dropped"]), (&json!(1000), &json!(1)));
    dir.done(&["--store", "new", "verify"]);

    // What was set aside is the second half of the export, and can be imported.
    let aside = dir.read("new.lost-and-found.jsonl");
    assert!(export.ends_with(&aside) && aside.lines().count() == 1000);
    dir.done(&["--store", "new", "import", "new.lost-and-found.jsonl"]);
    assert_eq!(dir.json(&["--store", "new", "info"])["head"], json!(1000));
}

const HEARD: View<u8, u64> = View::new("heard");

/// Counts the events.
struct Heard;

impl Projection for Heard {
    type Source = RawEvents;
    const NAME: &'static str = "heard";

    fn apply(&self, _: &RecordedEvent, _: &ProjectedContext<'_>, rows: &mut Rows) -> Result<(), ApplyError> {
        rows.view(&HEARD)?.update(&0, |events| *events += 1)
    }
}

/// Everything that a view and a group show of a store, once they have got to its end: the view's count, and what the group was
/// given.
fn follow(dir: &TestDir, name: &str) -> (u64, u64) {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_time().build().unwrap();
    runtime.block_on(follow_to_the_end(dir, name))
}

async fn follow_to_the_end(dir: &TestDir, name: &str) -> (u64, u64) {
    let patience = Duration::from_secs(60);
    let opened = RocksDbStore::open(dir.path(name)).await.unwrap();
    let store: Arc<dyn EventStore> = Arc::new(opened.clone());
    let head = store.head().await.unwrap();
    let running =
        Supervisor::new().projection(Heard, ProjectionOptions::new()).start(Arc::clone(&store)).await.unwrap();
    running.projection(Heard::NAME).unwrap().wait_for(head, patience).await.unwrap();
    running.shutdown(patience).await.unwrap();
    let heard = Views::of::<Heard>(store.clone()).view(&HEARD).get(&0).await.unwrap().unwrap_or_default();

    let group = ConsumerGroup::new("printers", Query::all())
        .start_at(StartAt::Beginning)
        .start(Arc::clone(&store))
        .await
        .unwrap();
    let consumer = group.consumer();
    let mut given = 0;
    loop {
        tokio::select! {
            biased;
            delivery = consumer.next() => delivery.unwrap().expect("it is open").ack().await.unwrap(),
            finished = group.wait_for(head, patience) => break finished.unwrap(),
        }
        given += 1;
    }
    group.shutdown(patience).await.unwrap();
    drop(store);
    opened.close().await.unwrap();
    (heard, given)
}

/// Views, checkpoints and consumers stand where the log has been. Were they kept when it loses its end, the next events would get
/// positions that they take for done, and would be passed over in silence.
#[test]
fn what_follows_the_log_hears_of_events_that_come_in_the_place_of_lost_ones() {
    let dir = dir();
    assert_eq!(follow(&dir, "store"), (2000, 2000));
    let result = json!({"format": 2, "results": [{"stream": "b-1", "events": [], "last": 999}]}).to_string();
    dir.commit([Commit::new().put_row(Table::new("commands").unwrap(), "b-1\0fill", result)]);
    dir.done(&["compact"]);
    let log = tables(&dir).into_iter().rev().take(2);
    log.for_each(|table| fs::remove_file(table).unwrap());
    let shown = dir.run(&["repair", "--json"]);
    let shown: Value = serde_json::from_str(&shown.out).unwrap();
    let loss = shown["loss"]["events"].as_u64().unwrap();
    assert!(loss > 0, "{shown}");
    let repaired = dir.json(&["repair", "--to", "new", "--accept-loss", &loss.to_string()])["repaired"].take();
    for what in ["projections_reset", "groups_set_back", "commands_forgotten"] {
        assert_eq!(repaired[what], 1, "{repaired}");
    }

    let left = 2000 - loss;
    for number in 0..5 {
        let data = format!("{{\"number\":{number}}}");
        dir.done(&["--store", "new", "append", "c-1", "--type", "t", "--data", &data]);
    }
    assert_eq!(follow(&dir, "new"), (left + 5, 5));
}
