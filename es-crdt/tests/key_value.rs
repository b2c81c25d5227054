//! A map on three replicas whose links are cut at random times, its resolutions, keys and errors.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::sync::Arc;
use std::time::Duration;

use es_core::prelude::*;
use es_core::store::memory::MemoryStore;
use es_crdt::{KeepSiblings, KeyValueEntry, KeyValueError, KeyValueMap, LastWriterWins, Merge, Resolution, Siblings};
use es_replication::{LocalPeer, Replica, ReplicaOptions};
use proptest::prelude::*;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

const NODES: usize = 3;
const KEYS: [&str; 3] = ["", "color", "%\n"];

/// A node in this process.
struct Node {
    name: String,
    store: MemoryStore,
    replica: Replica,
    entries: Arc<Repository<KeyValueEntry>>,
}

async fn node(name: &str) -> Node {
    let options = ReplicaOptions::new(name).aggregate::<KeyValueEntry>().expect("a category");
    let store = MemoryStore::new().with_hook(options.hook()).await.expect("started");
    let shared: Arc<dyn EventStore> = Arc::new(store.clone());
    let replica = Replica::new(Arc::clone(&shared)).expect("the store has the hook");
    Node { name: name.to_owned(), store, replica, entries: Arc::new(Repository::new(shared)) }
}

impl Node {
    fn map<V: Serialize + DeserializeOwned, R: Resolution<V>>(&self, resolution: R) -> KeyValueMap<V, R> {
        KeyValueMap::new(Arc::clone(&self.entries), "settings", resolution)
    }

    fn texts(&self) -> KeyValueMap<String, LastWriterWins> {
        self.map(LastWriterWins)
    }

    async fn put(&self, key: &str, value: &str) {
        self.texts().put(key, &value.to_owned()).await.expect("written");
    }

    async fn siblings(&self, key: &str) -> Vec<String> {
        self.texts().siblings(key).await.expect("read").values
    }

    /// Pulls everything, and returns the number of new events.
    async fn pull(&self, from: &Self) -> usize {
        let peer = LocalPeer::new(&from.name, from.replica.source());
        let mut events = 0;
        loop {
            let pulled = self.replica.pull(&peer, Duration::ZERO).await.expect("pulled");
            events += pulled.events;
            if pulled.is_last {
                return events;
            }
        }
    }
}

async fn nodes() -> [Node; NODES] {
    [node("a").await, node("b").await, node("c").await]
}

/// Lets each node pull from each other one.
async fn exchange(nodes: &[Node]) {
    for to in nodes {
        for from in nodes.iter().filter(|from| from.name != to.name) {
            to.pull(from).await;
        }
    }
}

/// What happens on a node.
#[derive(Debug, Clone, Copy)]
enum Step {
    Put { node: usize, key: usize },
    Remove { node: usize, key: usize },
    Pull { node: usize, from: usize },
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        4 => (0..NODES, 0..KEYS.len()).prop_map(|(node, key)| Step::Put { node, key }),
        2 => (0..NODES, 0..KEYS.len()).prop_map(|(node, key)| Step::Remove { node, key }),
        2 => (0..NODES, 0..NODES - 1).prop_map(|(node, other)| Step::Pull { node, from: (node + 1 + other) % NODES }),
    ]
}

/// A write as the definition of the map describes it.
struct Write {
    key: usize,
    /// `None` for a removal.
    value: Option<String>,
    /// The writes that its node had seen.
    seen: BTreeSet<usize>,
}

/// The writes, and for each node those that it has.
#[derive(Default)]
struct Model {
    writes: Vec<Write>,
    known: [BTreeSet<usize>; NODES],
}

impl Model {
    fn write(&mut self, node: usize, key: usize, value: Option<String>) {
        self.known[node].insert(self.writes.len());
        let mut seen = self.known[node].clone();
        seen.remove(&self.writes.len());
        self.writes.push(Write { key, value, seen });
    }

    fn pull(&mut self, node: usize, from: usize) {
        let known = self.known[from].clone();
        self.known[node].extend(known);
    }

    /// Returns the values that no write that the node has had seen.
    fn siblings(&self, node: usize, key: usize) -> BTreeSet<&str> {
        let known = || self.known[node].iter().filter(|index| self.writes[**index].key == key);
        let is_live = |index: &&usize| !known().any(|other| self.writes[*other].seen.contains(index));
        known().filter(is_live).filter_map(|index| self.writes[*index].value.as_deref()).collect()
    }
}

/// Runs the steps on replicas, and compares each node with the model after each step.
async fn run(steps: &[Step]) {
    let (nodes, mut model) = (nodes().await, Model::default());
    for (number, step) in steps.iter().enumerate() {
        let changed = match *step {
            Step::Put { node, key } => {
                let value = format!("{number}");
                nodes[node].put(KEYS[key], &value).await;
                model.write(node, key, Some(value));
                node
            }
            Step::Remove { node, key } => {
                // A removal of no value writes nothing.
                if !model.siblings(node, key).is_empty() {
                    model.write(node, key, None);
                }
                nodes[node].texts().remove(KEYS[key]).await.expect("removed");
                node
            }
            Step::Pull { node, from } => {
                nodes[node].pull(&nodes[from]).await;
                model.pull(node, from);
                node
            }
        };
        check(&nodes[changed], changed, &model).await;
    }
    exchange(&nodes).await;
    exchange(&nodes).await;
    (0..NODES).for_each(|node| model.known[node] = (0..model.writes.len()).collect());
    let mut expected: Option<BTreeMap<&str, Vec<String>>> = None;
    for (number, node) in nodes.iter().enumerate() {
        check(node, number, &model).await;
        let mut all = BTreeMap::new();
        for key in KEYS {
            all.insert(key, node.siblings(key).await);
            assert_eq!(node.texts().get(key).await.expect("read").as_ref(), all[key].last());
        }
        assert_eq!(expected.get_or_insert_with(|| all.clone()), &all, "node {}", node.name);
    }
}

async fn check(node: &Node, number: usize, model: &Model) {
    let mut present = BTreeSet::new();
    for (index, key) in KEYS.iter().enumerate() {
        let siblings = node.siblings(key).await;
        let expected = model.siblings(number, index);
        assert_eq!(siblings.iter().map(String::as_str).collect::<BTreeSet<_>>(), expected, "key {key:?}");
        assert_eq!(siblings.len(), expected.len(), "key {key:?}");
        present.extend((!expected.is_empty()).then(|| (*key).to_owned()));
    }
    let keys = node.texts().keys("", None, usize::MAX).await.expect("read");
    assert_eq!((keys.len(), BTreeSet::from_iter(keys)), (present.len(), present));
}

proptest! {
    #[test]
    fn replicas_with_cut_links_have_the_siblings_of_the_model_and_converge(
        steps in proptest::collection::vec(step(), 1..40)
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().expect("a runtime");
        runtime.block_on(run(&steps));
    }
}

/// The pull by knowledge is the anti-entropy of the map: a node that was cut off gets what it lacks, once, from any
/// node that has it.
#[tokio::test]
async fn a_node_that_was_cut_off_gets_what_it_lacks_and_nothing_twice() {
    let [a, b, c] = nodes().await;
    for number in 0..50 {
        a.put(&format!("key-{}", number % 20), &number.to_string()).await;
    }
    assert_eq!((b.pull(&a).await, c.pull(&b).await), (50, 50), "C does not reach A");
    b.put("key-0", "of b").await;
    c.texts().remove("key-0").await.expect("removed");
    assert_eq!((a.pull(&c).await, a.pull(&b).await), (1, 1), "only what A lacks");
    assert_eq!((b.pull(&a).await, c.pull(&a).await, a.pull(&c).await), (1, 1, 0));
    for node in [&a, &b, &c] {
        assert_eq!(node.siblings("key-0").await, ["of b"], "the put had not seen the removal");
        assert_eq!(node.texts().keys("", None, usize::MAX).await.expect("read").len(), 20);
    }
}

#[tokio::test]
async fn a_value_that_is_put_while_another_node_removes_the_key_remains() {
    let [a, b, _] = nodes().await;
    a.put("color", "red").await;
    b.pull(&a).await;
    a.put("color", "blue").await;
    b.texts().remove("color").await.expect("removed");
    assert_eq!(b.texts().get("color").await.expect("read"), None);
    a.pull(&b).await;
    b.pull(&a).await;
    for node in [&a, &b] {
        assert_eq!(node.texts().get("color").await.expect("read").as_deref(), Some("blue"), "node {}", node.name);
    }
    a.texts().remove("color").await.expect("removed");
    a.texts().remove("color").await.expect("has no effect");
    b.pull(&a).await;
    assert_eq!(b.texts().siblings("color").await.expect("read").values, Vec::<String>::new());
    assert_eq!(b.store.head().await.expect("read").map(Position::get), Some(4), "the second removal wrote nothing");
}

#[tokio::test]
async fn each_resolution_gives_all_nodes_one_result() {
    type Tags = BTreeSet<String>;
    let nodes = nodes().await;
    let tags = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect::<Tags>();
    nodes[0].map(KeepSiblings).put("tags", &tags(&["old", "red"])).await.expect("written");
    nodes[1].map(KeepSiblings).put("tags", &tags(&["old", "blue"])).await.expect("written");
    exchange(&nodes).await;
    for node in &nodes {
        assert_eq!(node.map::<Tags, _>(LastWriterWins).get("tags").await.expect("read"), Some(tags(&["old", "blue"])));
        let kept = node.map::<Tags, _>(KeepSiblings).get("tags").await.expect("read");
        assert_eq!(kept, Some(vec![tags(&["old", "red"]), tags(&["old", "blue"])]));
        let union = node.map(Merge(|one: Tags, other: Tags| &one | &other)).get("tags").await.expect("read");
        assert_eq!(union, Some(tags(&["old", "red", "blue"])));
        let longest = node.map::<Tags, _>(ByKey).get("tags").await.expect("read");
        assert_eq!(longest.as_deref(), Some("tags: 2"));
        let entries = node.map::<Tags, _>(ByKey).entries("", None, 10).await.expect("read");
        assert_eq!(entries, [("tags".to_owned(), "tags: 2".to_owned())]);
    }
}

/// A resolution of the application.
struct ByKey;

impl<V> Resolution<V> for ByKey {
    type Output = String;
    fn resolve(&self, key: &str, _: V, later: Vec<V>) -> String {
        format!("{key}: {}", later.len() + 1)
    }
}

#[tokio::test]
async fn a_conditional_put_replaces_only_what_its_caller_has_seen() {
    let nodes = nodes().await;
    let (on_a, on_b) = (nodes[0].texts(), nodes[1].texts());
    let value = |text: &str| text.to_owned();
    on_a.put_at("color", &value("red"), None).await.expect("the key is new");
    let error = on_a.put_at("color", &value("blue"), None).await.expect_err("the key is not new");
    assert_eq!(error.to_string(), "key \"color\" was changed by another writer; read it again");
    let Siblings { values, version } = on_a.siblings("color").await.expect("read");
    assert_eq!(values, ["red"]);
    on_a.put_at("color", &value("green"), version).await.expect("unchanged since");
    let error = on_a.put_at("color", &value("blue"), version).await.expect_err("changed since");
    assert!(matches!(error, KeyValueError::Conflict { .. }), "{error:?}");
    // Another node does not know of it. Its value is a sibling, which a put that has seen both replaces.
    on_b.put_at("color", &value("blue"), None).await.expect("new on this node");
    exchange(&nodes).await;
    let seen = on_b.siblings("color").await.expect("read");
    assert_eq!(seen.values.len(), 2);
    on_b.put_at("color", &value("black"), seen.version).await.expect("unchanged since");
    assert_eq!(on_b.siblings("color").await.expect("read").values, ["black"]);
}

#[tokio::test]
async fn keys_are_any_texts_and_are_listed_by_prefix_in_pages() {
    let [a, b, _] = nodes().await;
    let keys = ["", " ", "%", "%41", "a", "a-b", "a/b:c", "a/b\n", "a/b\u{85}", "a/é", "日本"];
    for key in keys {
        a.put(key, key).await;
    }
    let other = KeyValueMap::<u8, _>::new(Arc::clone(&a.entries), "settings:2", LastWriterWins);
    other.put("a", &7).await.expect("written");
    b.pull(&a).await;
    for node in [&a, &b] {
        let map = node.texts();
        for key in keys {
            assert_eq!(map.get(key).await.expect("read").as_deref(), Some(key));
        }
        let all = map.keys("", None, usize::MAX).await.expect("read");
        assert_eq!(BTreeSet::from_iter(all.iter().map(String::as_str)), BTreeSet::from(keys), "no key of another map");
        assert_eq!(map.keys("a/b", None, 10).await.expect("read"), ["a/b\n", "a/b\u{85}", "a/b:c"]);
        let (mut pages, mut after) = (Vec::new(), None);
        loop {
            let page = map.entries("", after.as_deref(), 3).await.expect("read");
            let Some((last, _)) = page.last() else { break };
            after = Some(last.clone());
            assert!(page.len() <= 3 && page.iter().all(|(key, value)| key == value));
            pages.extend(page.into_iter().map(|(key, _)| key));
        }
        assert_eq!(pages, all);
        assert_eq!(map.keys("", None, 0).await.expect("read"), Vec::<String>::new());
    }
    assert_eq!(other.entries("", None, 10).await.expect("read"), [("a".to_owned(), 7)]);
    let long = a.texts().put(&"x".repeat(600), &String::new()).await.expect_err("too long");
    assert!(matches!(&long, KeyValueError::Key { key, .. } if key.len() == 600), "{long:?}");
}

/// A page of the index has only removed keys.
#[tokio::test]
async fn removed_keys_are_not_listed_and_do_not_end_a_page() {
    let a = node("a").await;
    let map = a.texts();
    for number in 0..300 {
        let key = format!("key-{number:03}");
        a.put(&key, "x").await;
        map.remove(&key).await.expect("removed");
    }
    a.put("key-last", "x").await;
    assert_eq!(map.keys("key-", None, 2).await.expect("read"), ["key-last"]);
    assert_eq!(map.keys("key-", Some("key-last"), 2).await.expect("read"), Vec::<String>::new());
}

#[derive(Debug, PartialEq, Serialize, Deserialize)]
struct Limit {
    per_day: u32,
}

#[tokio::test]
async fn a_value_that_cannot_be_decoded_is_an_error_with_its_key() {
    let [a, b, _] = nodes().await;
    a.put("limit", "ten").await;
    b.map(LastWriterWins).put("limit", &Limit { per_day: 10 }).await.expect("written");
    b.pull(&a).await;
    let limits = b.map::<Limit, _>(LastWriterWins);
    for error in [
        limits.get("limit").await.expect_err("a text"),
        limits.siblings("limit").await.map(drop).expect_err("a text"),
        limits.entries("", None, 10).await.map(drop).expect_err("a text"),
    ] {
        let KeyValueError::Decode { key, .. } = &error else { panic!("{error:?}") };
        assert_eq!(key, "limit");
        assert!(error.to_string().starts_with("could not decode a value of key \"limit\""), "{error}");
    }
    assert_eq!(limits.keys("", None, 10).await.expect("read"), ["limit"], "the keys are not decoded");
    limits.put("limit", &Limit { per_day: 20 }).await.expect("written");
    assert_eq!(limits.get("limit").await.expect("replaced"), Some(Limit { per_day: 20 }));
}

#[tokio::test]
async fn a_value_that_would_not_come_back_is_not_written() {
    let a = node("a").await;
    let map = a.map::<Option<Option<u8>>, _>(LastWriterWins);
    map.put("a", &Some(Some(1))).await.expect("written");
    let error = map.put("c", &Some(None)).await.expect_err("it would be read back as `None`");
    assert!(matches!(&error, KeyValueError::Encode { key, .. } if key == "c"), "{error:?}");
    let map = a.map::<Option<f64>, _>(LastWriterWins);
    let error = map.put("d", &Some(f64::NAN)).await.expect_err("it would be read back as `None`");
    assert!(matches!(&error, KeyValueError::Encode { key, .. } if key == "d"), "{error:?}");
    // A set has no order, and may be read back in another one.
    let set: HashSet<u8> = (0..100).collect();
    a.map::<HashSet<u8>, _>(LastWriterWins).put("a", &set).await.expect("written");
    let map = a.map::<OneWay, _>(LastWriterWins);
    let error = map.put("b", &OneWay { value: 1 }).await.expect_err("not read back");
    assert!(matches!(&error, KeyValueError::Encode { key, .. } if key == "b"), "{error:?}");
    assert_eq!(map.keys("", None, 10).await.expect("read"), ["a"]);
}

/// The names of its field differ between writing and reading.
#[derive(Debug, Serialize, Deserialize)]
struct OneWay {
    #[serde(rename(serialize = "written", deserialize = "read"))]
    value: u8,
}

/// A key that is put often is loaded from a snapshot.
#[tokio::test]
async fn a_key_with_many_puts_keeps_its_value() {
    let [a, b, _] = nodes().await;
    for number in 0..250 {
        a.put("color", &number.to_string()).await;
    }
    a.entries.settle().await;
    let fresh = Node { entries: Arc::new(Repository::new(Arc::new(a.store.clone()))), ..a };
    assert_eq!(fresh.siblings("color").await, ["249"]);
    b.pull(&fresh).await;
    assert_eq!(b.siblings("color").await, ["249"]);
}
