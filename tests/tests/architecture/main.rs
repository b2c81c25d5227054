//! The arrows between the crates, as ARCHITECTURE.md draws them, and what must be absent.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::process::Command;

mod circles;
mod errors;
mod names;
mod public_items;
mod sources;

use sources::root;

/// What cargo says of the packages of the workspace.
fn packages() -> Vec<serde_json::Value> {
    let output = Command::new(env!("CARGO"))
        .args(["metadata", "--format-version", "1", "--no-deps", "--offline"])
        .current_dir(root())
        .output()
        .expect("cargo runs");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let metadata: serde_json::Value = serde_json::from_slice(&output.stdout).expect("cargo prints JSON");
    metadata["packages"].as_array().expect("packages").clone()
}

/// Which crates of the workspace each crate needs in a build (not for its tests).
fn arrows() -> BTreeMap<String, BTreeSet<String>> {
    let packages = packages();
    let names: BTreeSet<&str> = packages.iter().filter_map(|package| package["name"].as_str()).collect();
    let needs = |package: &serde_json::Value| {
        let dependencies = package["dependencies"].as_array().expect("dependencies").iter();
        dependencies
            .filter(|dependency| dependency["kind"].as_str() != Some("dev"))
            .filter_map(|dependency| dependency["name"].as_str())
            .filter(|name| names.contains(name))
            .map(ToOwned::to_owned)
            .collect()
    };
    packages.iter().map(|package| (package["name"].as_str().expect("a name").to_owned(), needs(package))).collect()
}

#[test]
fn crates_depend_on_each_other_as_the_map_draws() {
    let expected = [
        ("es-core", vec!["es-macros"]),
        ("es-macros", vec![]),
        ("es-log", vec!["es-core"]),
        ("es-rocksdb", vec!["es-core", "es-log"]),
        ("es-replication", vec!["es-core", "es-personal"]),
        ("es-node", vec!["es-core", "es-http", "es-replication", "es-rocksdb"]),
        ("es-personal", vec!["es-core"]),
        ("es-crdt", vec!["es-core"]),
        ("es-saga", vec!["es-core", "es-macros"]),
        ("es-transaction", vec!["es-core", "es-macros"]),
        ("es-cli", vec!["es-core", "es-replication", "es-rocksdb", "es-tool"]),
        ("es-http", vec!["es-core", "es-transaction"]),
        ("es-tool", vec![]),
        ("es-bench", vec!["es-core", "es-log", "es-replication", "es-rocksdb", "es-saga", "es-tool", "es-transaction"]),
        ("es-tests", vec!["es-core", "es-log", "es-rocksdb", "es-saga"]),
        ("es-decoding", vec!["es-core", "es-log", "es-personal", "es-replication"]),
        ("es-schedules", vec!["es-core", "es-log-schedules"]),
        ("es-log-schedules", vec!["es-core"]),
        ("es-load", vec![]),
        ("es-examples", vec!["es-core"]),
        ("quickstart", vec!["es-core", "es-http", "es-rocksdb"]),
        ("order-service", vec!["es-core", "es-http", "es-rocksdb", "es-saga", "es-tool", "es-transaction"]),
        ("outbox", vec!["es-core", "es-rocksdb", "order-service"]),
        ("sqlite-projection", vec!["es-core", "es-rocksdb", "order-service"]),
        ("geo-orders", vec!["es-core", "es-node", "es-replication", "es-tool"]),
        ("money-transfer", vec!["es-core", "es-http", "es-rocksdb", "es-saga", "es-transaction"]),
        ("xtask", vec![]),
    ];
    let expected: BTreeMap<String, BTreeSet<String>> = expected
        .into_iter()
        .map(|(name, needs)| (name.to_owned(), needs.into_iter().map(ToOwned::to_owned).collect()))
        .collect();
    assert_eq!(arrows(), expected, "draw the new arrow in ARCHITECTURE.md and here, or do without it");
}

/// A dependency of these tests can enable a feature of a crate that the build script of RocksDB uses. Some selections
/// of packages then compile RocksDB a second time, which takes nine minutes. es-macros must not depend on es-core:
/// cargo cannot package crates that depend on each other in a circle.
#[test]
fn tests_of_core_and_macros_need_nothing_that_compiles_rocksdb_twice() {
    let packages = packages();
    let tests_need = |name: &str| -> BTreeSet<String> {
        let package = packages.iter().find(|package| package["name"] == name).expect("it is in the workspace");
        let dependencies = package["dependencies"].as_array().expect("dependencies").iter();
        let dev = dependencies.filter(|dependency| dependency["kind"] == "dev");
        dev.filter_map(|dependency| dependency["name"].as_str()).map(ToOwned::to_owned).collect()
    };
    let expected = ["trybuild"].map(ToOwned::to_owned);
    assert_eq!(tests_need("es-core"), BTreeSet::from(expected), "write the test in the crate es-tests");
    assert_eq!(tests_need("es-macros"), BTreeSet::new(), "write the test in es-core/tests");
}

/// All Rust sources below a directory.
fn sources(dir: &Path) -> Vec<(PathBuf, String)> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(dir).expect("the directory is there") {
        let path = entry.expect("an entry").path();
        if path.is_dir() {
            found.extend(sources(&path));
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            let text = std::fs::read_to_string(&path).expect("a source is text");
            found.push((path, text));
        }
    }
    found
}

/// Asserts that the sources of a crate contain none of the words, except the allowed files.
fn assert_absent(krate: &str, words: &[&str], allowed: &[&str]) {
    assert_absent_below(&root().join(krate).join("src"), words, allowed);
}

fn assert_absent_below(dir: &Path, words: &[&str], allowed: &[&str]) {
    let sources = sources(dir);
    assert!(!sources.is_empty(), "there is nothing to look at in {}", dir.display());
    for (path, text) in sources {
        if allowed.iter().any(|allowed| path.ends_with(allowed)) {
            continue;
        }
        for word in words {
            assert!(!text.contains(word), "{} has {word:?}, which must be absent there", path.display());
        }
    }
}

#[test]
fn es_core_opens_no_file_and_no_socket() {
    let words = ["std::fs", "std::net", "tokio::fs", "tokio::net", "File::", "TcpStream", "std::process"];
    assert_absent("es-core", &words, &["testing/golden.rs"]);
}

#[test]
fn only_the_clock_reads_the_clock() {
    let words = ["Utc::now()", "Instant::now()", "SystemTime::now()", "Local::now()"];
    assert_absent("es-core", &words, &["clock.rs", "testing/conformance/appends.rs"]);
    assert_absent("es-rocksdb", &words, &[]);
    assert_absent("es-log", &words, &[]);
}

/// `EventId::new` and `CorrelationId::new` are for users. `KeySecret::random` makes a secret, which no seed may repeat.
#[test]
fn only_entropy_reads_random_numbers() {
    let words = ["now_v7", "new_v4", "RandomState", "rand::", "getrandom", "fastrand"];
    assert_absent("es-core", &words, &["model/entropy.rs", "model/id.rs", "store/keys.rs"]);
    let words = ["EventId::new()", "CorrelationId::new()"];
    let allowed = ["model/entropy.rs", "model/event.rs", "model/context.rs", "apply.rs", "state_tests.rs"];
    for module in ["aggregate", "consumer", "projection", "model", "store", "schema", "retention", "service"] {
        assert_absent_below(&root().join("es-core/src").join(module), &words, &allowed);
    }
}

#[test]
fn positions_are_given_in_one_place() {
    let words = ["Position::following", "Revision::following(last_revision)"];
    assert_absent("es-core", &words, &["store/decide.rs", "revision.rs"]);
    // These compute the first position of a search or of an index. They assign none.
    assert_absent("es-rocksdb", &words, &["postings.rs", "open/replay.rs", "src/index.rs"]);
}

#[test]
fn the_domain_of_the_order_service_has_no_word_of_storage() {
    let words = ["rocksdb", "RocksDb", "EventStore", "Repository", "csv::", "clap", "std::fs", "tokio"];
    assert_absent_below(&root().join("examples/order-service/src/domain"), &words, &[]);
}

/// es-macros cannot depend on es-core, whose limit it checks at compile time.
#[test]
fn the_macros_know_the_longest_name() {
    let names = std::fs::read_to_string(root().join("es-macros/src/valid/names.rs")).expect("it is there");
    let expected = format!("const MAX_NAME_BYTES: usize = {};", es_core::model::MAX_NAME_BYTES);
    assert!(names.contains(&expected), "expected {expected:?} in es-macros/src/valid/names.rs");
}
