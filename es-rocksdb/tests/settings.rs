//! The RocksDB options that decide what a crash can lose, read from the options file that RocksDB writes.

#![allow(clippy::unwrap_used, reason = "what fails here fails where it should")]

mod common;

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use common::{append, open};
use es_core::EventStore;

/// Returns the options of the newest options file, by section.
fn options_file(dir: &Path) -> BTreeMap<String, BTreeMap<String, String>> {
    let names = fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path());
    let newest =
        names.filter(|path| path.file_name().unwrap().to_str().unwrap().starts_with("OPTIONS-")).max().unwrap();
    let (mut sections, mut section) = (BTreeMap::new(), String::new());
    for line in fs::read_to_string(newest).unwrap().lines().map(str::trim) {
        if let Some(name) = line.strip_prefix('[').and_then(|line| line.strip_suffix(']')) {
            section = name.to_owned();
        } else if let Some((name, value)) = line.split_once('=') {
            let values: &mut BTreeMap<_, _> = sections.entry(section.clone()).or_default();
            values.insert(name.to_owned(), value.to_owned());
        }
    }
    sections
}

#[tokio::test]
async fn options_for_crash_safety_are_set() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path()).await;
    store.commit(append("order-1")).await.unwrap();
    store.close().await.unwrap();
    let store = open(dir.path()).await;
    let options = options_file(&dir.path().join("index"));
    let database = &options["DBOptions"];
    for (name, value) in [
        ("paranoid_checks", "true"),
        ("unordered_write", "false"),
        ("enable_pipelined_write", "false"),
        ("atomic_flush", "true"),
        ("allow_mmap_writes", "false"),
        ("best_efforts_recovery", "false"),
    ] {
        assert_eq!(database.get(name).map(String::as_str), Some(value), "{name}");
    }
    store.close().await.unwrap();
}

/// RocksDB silently uses defaults for a family that is opened by name only.
#[tokio::test]
async fn each_family_has_its_own_options() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path()).await;
    let options = options_file(&dir.path().join("index"));
    let records = ["streams"];
    let points = ["heads", "ids", "keys", "rows", "meta"];
    let postings = ["categories", "types", "tags"];
    for family in records.iter().chain(&points).chain(&postings) {
        let of = |section: String, name: &str| options[&section].get(name).cloned().unwrap_or_default();
        let own = |name: &str| of(format!("CFOptions \"{family}\""), name);
        let table = |name: &str| of(format!("TableOptions/BlockBasedTable \"{family}\""), name);
        assert_eq!((own("compression"), own("bottommost_compression")), ("kLZ4Compression".into(), "kZSTD".into()));
        assert_eq!(table("block_size"), if records.contains(family) { "16384" } else { "4096" }, "{family}");
        assert_eq!(table("filter_policy").contains("bloom"), points.contains(family), "{family}");
        assert_eq!(table("cache_index_and_filter_blocks"), "true", "{family}");
    }
    store.close().await.unwrap();
}
