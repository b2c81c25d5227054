//! Unique keys on disk: a scavenge removes their text with their events, and keeps their claims, also in copies.

#![allow(clippy::unwrap_used, reason = "what fails here fails where it should")]

mod common;

use std::fs;
use std::path::{Path, PathBuf};

use common::{append, event, files, key_hash, open, raw, stream, tamper};
use es_core::model::UniqueKey;
use es_core::retention::{DeleteKind, Note, Rule, Scavenge, Scope};
use es_core::store::delete_stream;
use es_core::{Commit, CommitError, EventReader, EventStore, ExpectedRevision, NewEvent};
use es_rocksdb::{Backups, ReadOnlyStore, RepairError, RocksDbStore, Salvage, Verification};
use rocksdb::IteratorMode;
use tempfile::TempDir;

const SCOPE: &str = "customer-email";

fn key(value: &str) -> UniqueKey {
    UniqueKey::new(SCOPE, value).unwrap()
}

async fn write(store: &RocksDbStore, name: &str, event: NewEvent) {
    store.commit(Commit::to(&stream(name), ExpectedRevision::Any, [event])).await.unwrap();
}

async fn owner(store: &dyn EventReader, value: &str) -> Option<String> {
    store.owner(&key(value)).await.unwrap().map(|owner| owner.to_string())
}

/// Appends events until a rule hides all earlier events of the stream, and removes these.
async fn scavenge_all_but_the_last(store: &RocksDbStore, name: &str) {
    store.commit(append(name)).await.unwrap();
    let rule = Rule { max_count: Some(1), ..Rule::default() };
    store.commit(Commit::set_rule(Scope::Stream(stream(name)), rule, Note::default())).await.unwrap();
    assert!(store.scavenge(&Scavenge::default()).await.unwrap().events > 0);
}

async fn verify(dir: &Path) -> Verification {
    ReadOnlyStore::open(dir).await.unwrap().verify(&mut |_, _, _| {}).unwrap()
}

/// Returns the files of a store and the column families that contain a text.
fn places_of(dir: &Path, text: &str) -> Vec<String> {
    let has = |bytes: &[u8]| bytes.windows(text.len()).any(|window| window == text.as_bytes());
    let in_files = files(dir).into_iter().filter(|(_, bytes)| has(bytes)).map(|(name, _)| name);
    let mut found: Vec<String> = in_files.collect();
    let db = raw(dir);
    for family in ["streams", "heads", "ids", "categories", "types", "tags", "keys", "rows", "meta"] {
        let mut entries = db.iterator_cf(db.cf_handle(family).unwrap(), IteratorMode::Start).map(Result::unwrap);
        // Table files are compressed: the file need not contain the text.
        if entries.any(|(key, value)| has(&key) || has(&value)) {
            found.push(family.to_owned());
        }
    }
    found
}

/// Erasure of personal data: after deletion and scavenge of the events, no file has the address. The claim of an event
/// that a rule removed is kept, as a hash.
#[tokio::test]
async fn the_text_of_a_key_is_in_no_file_after_a_scavenge() {
    let dir = TempDir::new().unwrap();
    let (deleted, truncated) = ("ada.lovelace@example.org", "charles.babbage@example.org");
    let store = open(dir.path()).await;
    write(&store, "customer-1", event("joined").claiming(key(deleted))).await;
    write(&store, "customer-1", event("changed").releasing(key("old.address@example.org"))).await;
    write(&store, "customer-2", event("joined").claiming(key(truncated))).await;
    store.close().await.unwrap();
    for text in [deleted, truncated, SCOPE] {
        assert!(!places_of(dir.path(), text).is_empty(), "the search finds what is there");
    }

    let store = open(dir.path()).await;
    let kind = DeleteKind::Hard;
    delete_stream(&store, &stream("customer-1"), kind, ExpectedRevision::Any, Note::default()).await.unwrap();
    scavenge_all_but_the_last(&store, "customer-2").await;
    store.compact().await.unwrap();
    store.close().await.unwrap();
    // RocksDB writes a new manifest when it opens.
    open(dir.path()).await.close().await.unwrap();
    for text in [deleted, truncated, "old.address@example.org", SCOPE] {
        assert_eq!(places_of(dir.path(), text), [""; 0], "{text}");
    }
    assert!(verify(dir.path()).await.is_sound());
    let store = open(dir.path()).await;
    assert_eq!(owner(&store, deleted).await, None);
    assert_eq!(owner(&store, truncated).await.as_deref(), Some("customer-2"));
}

/// Two stores have different hashes of one key, so that indexes of different stores cannot be compared.
#[tokio::test]
async fn each_store_has_its_own_secret() {
    let (one, other) = (TempDir::new().unwrap(), TempDir::new().unwrap());
    for dir in [&one, &other] {
        let store = open(dir.path()).await;
        write(&store, "a-1", event("x").claiming(key("k"))).await;
        store.close().await.unwrap();
    }
    let [one, other] = [&one, &other].map(|dir| {
        let hash = key_hash(dir.path(), &key("k"));
        let db = raw(dir.path());
        assert!(db.get_cf(db.cf_handle("keys").unwrap(), hash).unwrap().is_some());
        hash
    });
    assert_ne!(one, other);
}

/// Verification names each kind of difference between the index and the log.
#[tokio::test]
async fn differences_between_index_and_log_are_named() {
    let keyed = async || {
        let dir = TempDir::new().unwrap();
        let store = open(dir.path()).await;
        write(&store, "a-1", event("x").claiming(key("held")).claiming(key("moved"))).await;
        write(&store, "a-1", event("x").releasing(key("moved"))).await;
        write(&store, "b-1", event("x").claiming(key("moved")).claiming(key("released"))).await;
        write(&store, "b-1", event("x").releasing(key("released"))).await;
        // Otherwise an opening changes the entries again, as the log does.
        store.compact().await.unwrap();
        store.close().await.unwrap();
        assert!(verify(dir.path()).await.is_sound());
        dir
    };
    let entry = |revision: u64, name: &str| Some([&revision.to_be_bytes()[..], name.as_bytes()].concat());
    for (value, changed, place, detail) in [
        ("held", None, "position 1", "expected its claim of unique key {} in the family keys, found none"),
        (
            "moved",
            entry(0, "a-1"),
            "position 2",
            "expected no earlier claim of unique key {} in the family keys, found that of",
        ),
        ("released", entry(0, "b-1"), "position 4", "expected no earlier claim of unique key {} in the family keys"),
        (
            "held",
            entry(1, "a-1"),
            "stream \"a-1\", revision 1",
            "expected a claim of unique key {}, found an event that does",
        ),
        ("held", entry(9, "c-1"), "stream \"c-1\", revision 9", "expected a claim of unique key {}, found none"),
        (
            "nobody",
            entry(0, "a-1"),
            "stream \"a-1\", revision 0",
            "expected a claim of unique key {}, found an event that",
        ),
        ("held", Some(vec![1]), "column family keys, key", "expected 8 bytes, found 1"),
    ] {
        let dir = keyed().await;
        let hash = key_hash(dir.path(), &key(value));
        tamper(dir.path(), "keys", &hash, |_| changed.clone());
        let hex: String = hash.iter().map(|byte| format!("{byte:02x}")).collect();
        let found = verify(dir.path()).await.damage;
        let is_named = |place: &str, detail: &str| {
            found.iter().any(|damage| damage.place.starts_with(place) && damage.detail.starts_with(detail))
        };
        assert!(is_named(place, &detail.replace("{}", &hex)), "{value} {changed:?}: {found:?}");
    }
}

/// A backup has the claims, and not the released claims, of events that were removed from the store.
#[tokio::test]
async fn a_backup_has_the_claims_of_removed_events() {
    let root = TempDir::new().unwrap();
    let [dir, backups, target] = ["store", "backups", "target"].map(|name| root.path().join(name));
    let store = open(&dir).await;
    write(&store, "a-1", event("x").claiming(key("handed-over")).claiming(key("kept")).claiming(key("deleted"))).await;
    write(&store, "b-1", event("x").claiming(key("given-up"))).await;
    Backups::new(&backups).create(&dir, &mut |_, _, _| {}).await.unwrap();
    // A backup has only tombstones of these events.
    write(&store, "a-1", event("x").releasing(key("handed-over"))).await;
    write(&store, "b-1", event("x").releasing(key("given-up"))).await;
    write(&store, "c-1", event("x").claiming(key("new"))).await;
    for name in ["a-1", "b-1", "c-1"] {
        scavenge_all_but_the_last(&store, name).await;
    }
    write(&store, "d-1", event("x").claiming(key("handed-over"))).await;
    delete_stream(&store, &stream("a-1"), DeleteKind::Soft, ExpectedRevision::Any, Note::default()).await.unwrap();
    write(&store, "d-1", event("x").claiming(key("deleted"))).await;
    let second = Backups::new(&backups).create(&dir, &mut |_, _, _| {}).await.unwrap();
    assert!(second.damaged.is_none());
    store.close().await.unwrap();
    Backups::new(&backups).restore(None, &target, &mut |_, _, _| {}).await.unwrap();
    assert!(verify(&target).await.is_sound());
    let restored = open(&target).await;
    let expected = [("handed-over", Some("d-1")), ("kept", None), ("given-up", None), ("new", Some("c-1"))];
    for (value, expected) in expected.into_iter().chain([("deleted", Some("d-1"))]) {
        assert_eq!(owner(&restored, value).await.as_deref(), expected, "{value}");
    }
    let taken = Commit::to(&stream("e-1"), ExpectedRevision::Any, [event("x").claiming(key("new"))]);
    assert!(matches!(restored.commit(taken).await, Err(CommitError::Conflict(_))));
}

/// Creates a store with claims of removed and of other events, all in table files.
async fn sample(root: &TempDir) -> PathBuf {
    let dir = root.path().join("store");
    let store = open(&dir).await;
    write(&store, "a-1", event("x").claiming(key("removed")).claiming(key("released"))).await;
    write(&store, "b-1", event("x").claiming(key("there"))).await;
    scavenge_all_but_the_last(&store, "a-1").await;
    write(&store, "a-1", event("x").releasing(key("released"))).await;
    store.compact().await.unwrap();
    store.close().await.unwrap();
    dir
}

fn repair(dir: &Path, target: &Path, accept: Option<u64>) -> Result<(Vec<String>, es_rocksdb::Repaired), RepairError> {
    let salvage = Salvage::survey(dir, &mut |_, _, _| {})?;
    let lost = salvage.report().loss.other.clone();
    let draft = salvage.write(target, accept, &mut |_| Ok(()), &mut |_, _, _| {})?;
    Ok((lost, draft.complete()?))
}

/// Existing events claim their keys again; claims of removed events are copied from the index.
#[tokio::test]
async fn a_repair_restores_all_claims() {
    let root = TempDir::new().unwrap();
    let (dir, target) = (sample(&root).await, root.path().join("new"));
    tamper(&dir, "ids", &[7; 16], |_| Some(vec![0; 8]));
    let (lost, made) = repair(&dir, &target, None).unwrap();
    assert_eq!((lost, made.is_new_id), (Vec::new(), false));
    let store = open(&target).await;
    for (value, expected) in [("removed", Some("a-1")), ("released", None), ("there", Some("b-1"))] {
        assert_eq!(owner(&store, value).await.as_deref(), expected, "{value}");
    }
}

/// Claims that only the index has are lost with it. The report lists the loss before anything is written.
#[tokio::test]
async fn claims_that_cannot_be_recovered_are_reported_as_lost() {
    let root = TempDir::new().unwrap();
    let (dir, target) = (sample(&root).await, root.path().join("new"));
    tamper(&dir, "meta", b"key-secret", |_| None);
    let refused = repair(&dir, &target, None).unwrap_err();
    assert!(matches!(refused, RepairError::Loss { events: 0, .. }), "{refused}");
    let (lost, made) = repair(&dir, &target, Some(0)).unwrap();
    assert_eq!(lost, ["claims of unique keys by removed events"]);
    assert!(made.is_new_id, "a backup would have the old secret");
    let store = open(&target).await;
    assert_eq!(owner(&store, "removed").await, None);
    assert_eq!(owner(&store, "there").await.as_deref(), Some("b-1"));
    drop(store);

    let second = TempDir::new().unwrap();
    let (dir, target) = (sample(&second).await, second.path().join("new"));
    let tables = raw(&dir).live_files().unwrap();
    let table = tables.into_iter().find(|table| table.column_family_name == "keys").unwrap();
    fs::remove_file(dir.join("index").join(table.name.trim_start_matches('/'))).unwrap();
    let (lost, made) = repair(&dir, &target, Some(0)).unwrap();
    assert!(lost.iter().any(|what| what.contains("unique keys of removed events")), "{lost:?}");
    assert!(!made.is_new_id);
    let store = open(&target).await;
    assert_eq!(owner(&store, "there").await.as_deref(), Some("b-1"), "its event is there");
}
