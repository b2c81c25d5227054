//! Stores of earlier versions, in `tests/fixtures`: they open, have their original content and accept commits.
//!
//! The directory `format-N` has a store of format version N, written by that version (with events in tables, and events
//! in the log only), and its expected content: `events.jsonl` in the format of `es export`, `rows.jsonl` and
//! `keys.jsonl`. `ES_FIXTURE=write` creates the directory of a new format version. A fixture is never changed; it is
//! removed when its format is no longer supported.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use es_core::model::{ContentType, CorrelationId, Metadata, Table, Tag, UniqueKey};
use es_core::retention::{DeleteKind, Note, Rule, Scavenge, Scope};
use es_core::schema::codec::{Codec, MessagePack};
use es_core::schema::line;
use es_core::store::delete_stream;
use es_core::testing::ManualClock;
use es_core::{
    Commit, EventId, EventReader, EventStore, EventType, ExpectedRevision, LogRead, NewEvent, RecordedEvent, StreamId,
    StreamRead,
};
use es_rocksdb::{Options, ReadOnlyStore, RocksDbStore};
use serde_json::{Value, json};
use uuid::Uuid;

fn fixtures() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures")
}

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime")
}

fn stream(name: &str) -> StreamId {
    StreamId::new(name).expect("a name")
}

fn table() -> Table {
    Table::new("totals").expect("a name")
}

/// Copies the files of a store, without the lock files and log messages of a process.
fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).expect("a directory");
    for entry in fs::read_dir(from).expect("a directory") {
        let path = entry.expect("an entry").path();
        let name = path.file_name().expect("a name").to_string_lossy().into_owned();
        if path.is_dir() {
            copy(&path, &to.join(name));
        } else if name != "LOCK" && !name.starts_with("LOG") {
            fs::copy(&path, to.join(name)).expect("copied");
        }
    }
}

/// Returns commits with every feature of a record.
fn commits(part: u128) -> Vec<Commit> {
    let event = |number: u128, name: &str, content_type: ContentType, payload: &[u8]| {
        let event_type = EventType::new(name).expect("a name");
        let payload = payload.to_vec();
        NewEvent::new(event_type, 1, content_type, payload)
            .with_id(EventId::from_uuid(Uuid::from_u128(part << 64 | number)))
    };
    let json = |number, name: &str, text: &str| event(number, name, ContentType::Json, text.as_bytes());
    let packed = MessagePack::encode(&json!({"sku": "A-7", "count": 3})).expect("encode");
    let mut full = json(1, "placed", r#"{"customer":"Köln/é","lines":[{"sku":"A-7","price":1.10}]}"#);
    full.data.version = 3;
    full.data.tags = ["customer:VINET", "vip", "straße: 5"].map(|tag| Tag::new(tag).expect("a tag")).into();
    full.data.metadata =
        Metadata::new().with("user", "ada").with("ratio", 0.1).with("nested", json!({"a": [1, null, true]}));
    full.occurred_at = Some("1969-12-31T23:59:59.999999Z".parse().expect("a time"));
    full.data.correlation_id = Some(CorrelationId::from_uuid(Uuid::from_u128(5)));
    full.data.causation_id = Some(EventId::from_uuid(Uuid::from_u128(6)));
    let order = stream("order-1");
    let key = UniqueKey::new("order-number", format!("{part}-10248")).expect("a key");
    let given_up = UniqueKey::new("order-number", format!("{part}-0")).expect("a key");
    let packed = event(2, "packed", ContentType::MessagePack, &packed);
    let mut commits = vec![
        Commit::to(&order, ExpectedRevision::Any, [full.claiming(key).claiming(given_up.clone())])
            .put_row(table(), "orders", part.to_string())
            .put_row(table(), "gone", "x"),
        Commit::to(&order, ExpectedRevision::StreamExists, [packed.releasing(given_up)])
            .append(stream("stock-A-7"), json(3, "taken", r#"{"count":3}"#))
            .append(stream("stock-A-7"), json(4, "counted", "null"))
            .delete_row(table(), "gone")
            .put_row(table(), [0, 255, part.to_be_bytes()[15]].to_vec(), [0, 1, 255].to_vec()),
        Commit::to(
            &order,
            ExpectedRevision::Any,
            [event(5, "signed", ContentType::from("image/png"), &[0, 159, 146, 150])],
        )
        .append(stream("no category"), event(6, "nothing", ContentType::from("text/plain"), b"")),
    ];
    commits.extend((10..22).map(|number| {
        let tagged = json(number, "noted", &format!("{{\"number\":{number}}}"));
        let tagged = tagged.tagged(Tag::new(format!("note:{}", number % 4)).expect("a tag"));
        Commit::to(&stream(&format!("note-{}", number % 5)), ExpectedRevision::Any, [tagged])
    }));
    commits
}

/// Returns the version of the current format, from the document that a test compares with the constants.
fn format_version() -> u32 {
    let document = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/storage-format.md");
    let document = fs::read_to_string(document).expect("the document");
    let (_, meta) = document.split_once("<!-- begin: meta -->").expect("the document has the description");
    let (_, after) = meta.split_once("Format version ").expect("the document names the version");
    after.split_once('.').and_then(|(version, _)| version.parse().ok()).expect("a number")
}

/// With `ES_FIXTURE=write`, creates the fixture of the current format if it does not exist.
#[test]
fn the_current_format_has_a_fixture() {
    let dir = fixtures().join(format!("format-{}", format_version()));
    if dir.exists() {
        return;
    }
    let writes = std::env::var("ES_FIXTURE").is_ok_and(|value| value == "write");
    assert!(writes, "{} does not exist; create it with ES_FIXTURE=write", dir.display());
    let written = tempfile::tempdir().expect("a directory");
    runtime().block_on(async {
        let clock = Arc::new(ManualClock::at("2024-01-01T00:00:00.123456Z".parse().expect("a time")));
        let options = Options::new().clock(Arc::clone(&clock) as _).log_segment_bytes(8 << 10);
        let store = options.open(written.path()).await.expect("the store opens");
        for part in 1..=2 {
            for commit in commits(part) {
                clock.advance(Duration::from_micros(1_234_567));
                store.commit(commit).await.expect("committed");
            }
            if part == 1 {
                retain(&store).await;
                // The first part is in tables and in a rewritten segment; the second is in the log only.
                store.compact().await.expect("compacted");
            }
        }
        store.close().await.expect("closed");
        let new = dir.with_extension("new");
        copy(written.path(), &new.join("store"));
        describe(written.path(), &new).await;
        fs::rename(new, &dir).expect("renamed");
    });
}

/// Sets a rule and scavenges its events, sets a rule that only hides events, and deletes a stream.
async fn retain(store: &RocksDbStore) {
    for (name, count) in [("note-3", 1), ("note-4", 2)] {
        let rule = Rule { max_count: Some(count), ..Rule::default() };
        store.commit(Commit::set_rule(Scope::Stream(stream(name)), rule, Note::default())).await.expect("committed");
        if name == "note-3" {
            let removed = store.scavenge(&Scavenge::default()).await.expect("scavenged").events;
            assert!(removed > 0, "no event was removed");
        }
    }
    let note = Note::default();
    delete_stream(store, &stream("note-2"), DeleteKind::Soft, ExpectedRevision::Any, note).await.expect("deleted");
}

/// Writes the content of a store to files in `dir`.
async fn describe(store: &Path, dir: &Path) {
    let store = ReadOnlyStore::open(store).await.expect("the store opens");
    let mut lines = Vec::new();
    for event in all(&store).await {
        line::write(&event, &mut lines).expect("write to memory");
    }
    fs::write(dir.join("events.jsonl"), lines).expect("written");
    let rows = store.rows(es_core::store::RowScan::new(table(), "", 1000)).await.expect("read");
    let rows = rows.iter().map(|row| json!({"table": "totals", "key": row.key.as_ref(), "value": row.value.as_ref()}));
    fs::write(dir.join("rows.jsonl"), joined(rows)).expect("written");
    let mut keys = Vec::new();
    for part in 1..=2 {
        for value in [format!("{part}-10248"), format!("{part}-0")] {
            let key = UniqueKey::new("order-number", &value).expect("a key");
            let owner = store.owner(&key).await.expect("read");
            keys.push(json!({"scope": "order-number", "value": value, "owner": owner.map(|owner| owner.to_string())}));
        }
    }
    fs::write(dir.join("keys.jsonl"), joined(keys)).expect("written");
}

fn joined(lines: impl IntoIterator<Item = Value>) -> String {
    lines.into_iter().map(|line| format!("{line}\n")).collect()
}

async fn all(store: &dyn EventReader) -> Vec<RecordedEvent> {
    store.read_log(LogRead::all()).await.expect("read").collect().await.expect("read")
}

fn text(dir: &Path, name: &str) -> String {
    fs::read_to_string(dir.join(name)).unwrap_or_else(|error| panic!("{}/{name}: {error}", dir.display()))
}

fn json_lines(dir: &Path, name: &str) -> Vec<Value> {
    text(dir, name).lines().map(|line| serde_json::from_str(line).expect("JSON")).collect()
}

fn bytes(value: &Value) -> Vec<u8> {
    serde_json::from_value(value.clone()).expect("bytes")
}

/// Checks that a store has the content in the files of `dir`, with every read operation.
async fn assert_described(store: &dyn EventReader, dir: &Path) {
    let events = all(store).await;
    let mut lines = Vec::new();
    events.iter().for_each(|event| line::write(event, &mut lines).expect("write to memory"));
    let found = String::from_utf8(lines).expect("text");
    for (found, expected) in found.lines().zip(text(dir, "events.jsonl").lines()) {
        assert_eq!(found, expected, "{}", dir.display());
    }
    assert_eq!(found.lines().count(), text(dir, "events.jsonl").lines().count(), "{}", dir.display());
    assert!(events.len() >= 24, "{} has {} events", dir.display(), events.len());
    for event in &events {
        assert_eq!(store.find(event.data.id).await.expect("read").as_ref(), Some(event));
        let read = StreamRead::new(event.stream.clone()).from(event.revision).limit(1);
        assert_eq!(store.read_stream(read).await.expect("read").next().await.expect("read").as_ref(), Some(event));
        let by_type = LogRead::event_type(event.data.event_type.clone()).from(event.position).limit(1);
        assert_eq!(store.read_log(by_type).await.expect("read").next().await.expect("read").as_ref(), Some(event));
        for tag in &event.data.tags {
            let by_tag = LogRead::tag(tag.clone()).from(event.position).limit(1);
            assert_eq!(store.read_log(by_tag).await.expect("read").next().await.expect("read").as_ref(), Some(event));
        }
    }
    let rows = json_lines(dir, "rows.jsonl");
    assert!(!rows.is_empty());
    for row in rows {
        let table = Table::new(row["table"].as_str().expect("text")).expect("a table");
        let value = store.row(&table, &bytes(&row["key"])).await.expect("read");
        assert_eq!(value.map(|value| value.to_vec()), Some(bytes(&row["value"])), "{row}");
    }
    for key in json_lines(dir, "keys.jsonl") {
        let unique = UniqueKey::new(key["scope"].as_str().expect("text"), key["value"].as_str().expect("text"));
        let owner = store.owner(&unique.expect("a key")).await.expect("read");
        assert_eq!(owner.as_ref().map(StreamId::as_str), key["owner"].as_str(), "{key}");
    }
}

/// Reconstructs the original commits of events.
fn original_commits(events: &[RecordedEvent]) -> Vec<Commit> {
    let text = |event: &RecordedEvent| {
        let mut text = Vec::new();
        line::write(event, &mut text).expect("write to memory");
        line::parse(text.trim_ascii_end()).expect("a line")
    };
    let commits = events.chunk_by(|event, _| !event.part.is_last());
    let append = |commit: Commit, event: &RecordedEvent| commit.append(event.stream.clone(), text(event).event);
    commits.map(|commit| commit.iter().fold(Commit::new(), append)).collect()
}

#[test]
fn a_store_of_every_supported_format_opens_with_its_content_and_accepts_commits() {
    let mut dirs: Vec<_> =
        fs::read_dir(fixtures()).expect("fixtures").map(|entry| entry.expect("an entry").path()).collect();
    dirs.retain(|dir| dir.file_name().is_some_and(|name| name.to_string_lossy().starts_with("format-")));
    assert!(!dirs.is_empty());
    for dir in dirs {
        let scratch = tempfile::tempdir().expect("a directory");
        let copied = scratch.path().join("store");
        copy(&dir.join("store"), &copied);
        runtime().block_on(async {
            let store = ReadOnlyStore::open(&copied).await.expect("the store opens read-only");
            assert_described(&store, &dir).await;
            let verified = store.verify(&mut |_, _, _| {}).expect("verified");
            assert!(verified.damage.is_empty(), "{}: {:?}", dir.display(), verified.damage);
            let was_scavenged = text(&dir, "events.jsonl").contains("es.scavenge-point");
            assert_eq!(verified.removed > 0, was_scavenged, "{}", dir.display());
            drop(store);

            let store = RocksDbStore::open(&copied).await.expect("the store opens");
            assert_described(&store, &dir).await;
            let events = all(&store).await;
            for commit in original_commits(&events) {
                assert!(store.commit(commit).await.expect("a repeat").repeated, "an original commit is not recognized");
            }
            let last = events.iter().rev().find(|event| event.stream == "order-1").expect("the stream exists");
            let new = NewEvent::json(EventType::new("closed").expect("a name"), "{}");
            let commit = Commit::to(&last.stream, ExpectedRevision::Exact(last.revision), [new]);
            let head = store.head().await.expect("read").expect("the store has events");
            let position = store.commit(commit).await.expect("committed").position();
            assert_eq!(position, Some(head.next()));
            store.close().await.expect("closed");

            let store = ReadOnlyStore::open(&copied).await.expect("the store opens read-only");
            assert_eq!(all(&store).await.len(), events.len() + 1);
            let verified = store.verify(&mut |_, _, _| {}).expect("verified");
            assert!(verified.damage.is_empty(), "{}: {:?}", dir.display(), verified.damage);
        });
    }
}
