//! Snapshots: loads with and without snapshots are equal under every policy, and a changed state type ignores
//! snapshots.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use es_core::aggregate::SnapshotPolicy;
use es_core::aggregate::snapshot;
use es_core::prelude::*;
use es_core::store::memory::MemoryStore;
use es_core::store::{RowScan, StreamRead};
use es_core::testing::{Fault, FaultyStore};
use es_core::{Commit, StreamId};
use es_tests::account::{Account, AccountEvent, Close, Deposit, Open, Withdraw};
use es_tests::stores::on_every_store;
use proptest::prelude::*;
use serde::{Deserialize, Serialize};

type Store = Arc<dyn EventStore>;

fn id() -> String {
    "7".to_owned()
}

/// Returns the revisions of the stored snapshots.
async fn stored(store: &Store) -> Vec<u64> {
    let rows = store.rows(RowScan::new(snapshot::table(), "account-7\0", 1_000)).await.expect("scanned");
    rows.iter().map(|row| u64::from_be_bytes(*row.key.last_chunk().expect("a revision"))).collect()
}

#[derive(Debug, Clone)]
enum Step {
    Open,
    Deposit(u64),
    Withdraw(u64),
    Close,
    Settle,
    Reload,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        1 => Just(Step::Open),
        8 => (1_u64..1_000).prop_map(Step::Deposit),
        6 => (1_u64..500).prop_map(Step::Withdraw),
        1 => Just(Step::Close),
        3 => Just(Step::Settle),
        3 => Just(Step::Reload),
    ];
    proptest::collection::vec(step, 1..60)
}

fn policies() -> impl Strategy<Value = SnapshotPolicy> {
    (1_u64..20, 1_usize..4, any::<bool>()).prop_map(|(every, keep, by_cost)| {
        let policy = SnapshotPolicy::every(every).keep(keep);
        if by_cost { policy.or_load_cost(Duration::ZERO) } else { policy }
    })
}

async fn run(steps: Vec<Step>, policy: SnapshotPolicy) {
    let store: Store = Arc::new(MemoryStore::new());
    let with = Repository::<Account>::new(Arc::clone(&store)).with_snapshot_policy(policy);
    let cached = Repository::<Account>::new(Arc::clone(&store)).with_snapshot_policy(policy).with_cache(1);
    let without = Repository::<Account>::new(Arc::clone(&store)).without_snapshots();
    for step in steps {
        match step {
            Step::Open => drop(with.execute(&id(), Open { owner: "ada".into() }).await),
            Step::Deposit(cents) => drop(cached.execute(&id(), Deposit { cents }).await),
            Step::Withdraw(cents) => drop(with.execute(&id(), Withdraw { cents }).await),
            Step::Close => drop(cached.execute(&id(), Close).await),
            Step::Settle => {
                with.settle().await;
                cached.settle().await;
            }
            Step::Reload => {}
        }
        let expected = without.load(&id()).await.expect("loaded");
        for repository in [&with, &cached] {
            let loaded = repository.load(&id()).await.expect("loaded");
            assert_eq!(
                (loaded.state, loaded.revision, loaded.position),
                (expected.state.clone(), expected.revision, expected.position)
            );
        }
        let Some(last) = expected.revision else { continue };
        for revision in 0..=last.get() {
            let revision = Revision::new(revision);
            let expected = without.load_at_revision(&id(), revision).await.expect("loaded");
            let loaded = with.load_at_revision(&id(), revision).await.expect("loaded");
            let expected = (expected.state, expected.revision, expected.position);
            assert_eq!((loaded.state, loaded.revision, loaded.position), expected);
        }
    }
    with.settle().await;
    assert!(
        stored(&store).await.len() <= policy.keep.max(1) + 1,
        "at most the snapshots of the policy, and one of the other repository"
    );
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    #[test]
    fn loads_with_and_without_snapshots_are_equal(steps in steps(), policy in policies()) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().expect("a runtime");
        runtime.block_on(run(steps, policy));
    }
}

#[test]
fn the_declared_policy_limits_the_snapshots_and_a_damaged_snapshot_is_ignored() {
    on_every_store(async |store| {
        let accounts = Repository::<Account>::new(Arc::clone(&store));
        for _ in 0..45 {
            accounts.execute(&id(), Deposit { cents: 1 }).await.expect("deposited");
            accounts.settle().await;
        }
        assert_eq!(stored(&store).await, [29, 39], "every tenth event, two kept");
        assert_eq!(accounts.load(&id()).await.expect("loaded").state.cents, 45);
        let mut rows = store.rows(RowScan::new(snapshot::table(), "", 10)).await.expect("scanned");
        let newest = rows.pop().expect("a snapshot");
        // The last byte is `closed: false`. With its last bit flipped it decodes as `closed: true`.
        let mut flipped = newest.value.to_vec();
        *flipped.last_mut().expect("a state") ^= 1;
        for damaged in [b"\x02garbage".to_vec(), flipped] {
            let commit = Commit::new().put_row(snapshot::table(), newest.key.clone(), damaged);
            store.commit(commit).await.expect("written");
            let loaded = Repository::<Account>::new(Arc::clone(&store)).load(&id()).await.expect("loaded");
            assert_eq!((loaded.state.cents, loaded.state.closed), (45, false), "a damaged snapshot is ignored");
        }
    });
}

#[tokio::test]
async fn a_load_above_the_load_cost_of_the_policy_writes_a_snapshot() {
    let store: Store = Arc::new(MemoryStore::new());
    let policy = SnapshotPolicy::load_cost(Duration::ZERO);
    let accounts = Repository::<Account>::new(Arc::clone(&store)).with_snapshot_policy(policy);
    accounts.execute(&id(), Deposit { cents: 1 }).await.expect("deposited");
    accounts.settle().await;
    let loads = stored(&store).await.len();
    accounts.load(&id()).await.expect("loaded");
    accounts.settle().await;
    assert_eq!((loads, stored(&store).await), (1, vec![0]));
}

/// Defines modules with different state types of one category. `Totals` is nested, so that the derive on the state does
/// not see its definition. `folded` is not part of a snapshot: it counts the events that a load applied.
macro_rules! ledger {
    ($($module:ident: { $($(#[$attribute:meta])* $field:ident: $type:ty = $with:expr,)* })*) => {$(
        mod $module {
            use super::*;

            #[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
            pub(crate) struct Totals { $($(#[$attribute])* pub(crate) $field: $type,)* }

            #[derive(Clone, Debug, PartialEq, Serialize, Deserialize, Aggregate)]
            #[aggregate(category = "account", id = String, event = AccountEvent, snapshot(every = 10))]
            pub(crate) struct Ledger {
                pub(crate) totals: Totals,
                #[serde(with = "outside_the_snapshot")]
                pub(crate) folded: u64,
            }

            impl Evolve for Ledger {
                fn initial(_: &String) -> Self {
                    Self { totals: Totals { $($field: <$type>::default(),)* }, folded: 0 }
                }
                fn evolve(&mut self, event: &AccountEvent, _: &EventContext<'_>) {
                    self.folded += 1;
                    if let AccountEvent::Deposited { cents } = event {
                        $($with(&mut self.totals.$field, *cents);)*
                    }
                }
            }
        }
    )*};
}

/// Encodes a number as nothing, and decodes it as 0.
mod outside_the_snapshot {
    use super::*;

    pub(crate) fn serialize<S: serde::Serializer>(_: &u64, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_unit()
    }

    pub(crate) fn deserialize<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<u64, D::Error> {
        <()>::deserialize(deserializer).map(|()| 0)
    }
}

fn add(sum: &mut u64, cents: u64) {
    *sum += cents;
}

fn add_some(sum: &mut Option<u64>, cents: u64) {
    *sum = Some(sum.unwrap_or_default() + cents);
}

fn count(days: &mut HashMap<u64, u64>, cents: u64) {
    *days.entry(cents).or_default() += 1;
}

fn insert(seen: &mut HashSet<u64>, cents: u64) {
    seen.insert(cents);
}

ledger! {
    original: { total: Option<u64> = add_some, count: u64 = |count, _| add(count, 1), }
    same: { total: Option<u64> = add_some, count: u64 = |count, _| add(count, 1), }
    renamed_option: { sum: Option<u64> = add_some, count: u64 = |count, _| add(count, 1), }
    renamed_with_default: { total: Option<u64> = add_some, #[serde(default)] number: u64 = |count, _| add(count, 1), }
    added_with_default: {
        total: Option<u64> = add_some,
        count: u64 = |count, _| add(count, 1),
        #[serde(default)] largest: u64 = |largest: &mut u64, cents: u64| *largest = cents.max(*largest),
    }
    added_and_left_out: {
        total: Option<u64> = add_some,
        count: u64 = |count, _| add(count, 1),
        #[serde(default, skip_serializing_if = "Option::is_none")] also: Option<u64> = add_some,
    }
    removed: { total: Option<u64> = add_some, }
    unordered: { times: HashMap<u64, u64> = count, seen: HashSet<u64> = insert, }
    not_decoded: { total: Option<u64> = add_some, #[serde(default, skip_deserializing)] largest: u64 = add, }
}

/// Returns a store with 25 deposits and a snapshot of `A` at the 20th.
async fn store_with_snapshot<A: Evolve>() -> Store {
    let store: Store = Arc::new(MemoryStore::new());
    let accounts = Repository::<Account>::new(Arc::clone(&store)).without_snapshots();
    for cents in 0..20 {
        accounts.execute(&id(), Deposit { cents }).await.expect("deposited");
    }
    let every = SnapshotPolicy::load_cost(Duration::ZERO);
    let states = Repository::<A>::new(Arc::clone(&store)).with_snapshot_policy(every);
    states.load(&id_of::<A>()).await.expect("loaded");
    states.settle().await;
    for cents in 20..25 {
        accounts.execute(&id(), Deposit { cents }).await.expect("deposited");
    }
    assert_eq!(stored(&store).await, [19]);
    store
}

fn id_of<A: Aggregate>() -> A::Id {
    A::id_of(&StreamId::new("account-7").expect("a name")).expect("the id of the account")
}

/// Another framework has this bug: it replaces a snapshot of a changed state type by the default state, at its
/// revision.
#[tokio::test]
async fn a_snapshot_of_a_changed_nested_type_is_ignored() {
    let store = store_with_snapshot::<original::Ledger>().await;
    macro_rules! folds {
        ($($module:ident: $folded:literal)*) => {$(
            let states = Repository::<$module::Ledger>::new(Arc::clone(&store));
            let loaded = states.load(&id()).await.expect("loaded");
            assert_eq!(loaded.state.folded, $folded, stringify!($module));
            let expected = states.without_snapshots().without_cache().load(&id()).await.expect("loaded");
            assert_eq!(loaded.state.totals, expected.state.totals, stringify!($module));
        )*};
    }
    folds! {
        original: 5
        same: 5
        renamed_option: 25
        renamed_with_default: 25
        added_with_default: 25
        added_and_left_out: 25
        removed: 25
    }
}

#[tokio::test]
async fn a_snapshot_with_unordered_maps_and_sets_is_used() {
    let store = store_with_snapshot::<unordered::Ledger>().await;
    for _ in 0..20 {
        let loaded = Repository::<unordered::Ledger>::new(Arc::clone(&store)).load(&id()).await.expect("loaded");
        assert_eq!((loaded.state.folded, loaded.state.totals.seen.len(), loaded.state.totals.times.len()), (5, 25, 25));
    }
}

/// The derive refuses `skip_deserializing` on a field of the state, but does not see the definition of `Totals`.
#[tokio::test]
async fn a_state_that_is_decoded_differently_is_not_stored() {
    let store = store_with_snapshot::<original::Ledger>().await;
    let every = SnapshotPolicy::load_cost(Duration::ZERO);
    let states = Repository::<not_decoded::Ledger>::new(Arc::clone(&store)).with_snapshot_policy(every);
    let loaded = states.load(&id()).await.expect("loaded");
    states.settle().await;
    assert_eq!(stored(&store).await, [19], "no snapshot at revision 24");
    let reloaded = states.without_cache().load(&id()).await.expect("loaded");
    assert_eq!((loaded.state, reloaded.state.totals.largest), (reloaded.state.clone(), 300));
}

#[tokio::test]
async fn a_snapshot_is_not_an_event_of_the_log() {
    let store: Store = Arc::new(MemoryStore::new());
    let accounts = Repository::<Account>::new(Arc::clone(&store)).with_snapshot_policy(SnapshotPolicy::every(1));
    accounts.execute(&id(), Deposit { cents: 1 }).await.expect("deposited");
    accounts.settle().await;
    let stream = StreamRead::new(StreamId::new("account-7").expect("a name"));
    assert_eq!(store.read_stream(stream).await.expect("opened").collect().await.expect("read").len(), 1);
    assert_eq!(stored(&store).await, [0]);
}

/// The write of the first snapshot hangs.
#[tokio::test]
async fn a_command_does_not_wait_for_a_snapshot() {
    let faulty = FaultyStore::new(Arc::new(MemoryStore::new()));
    faulty.at_commit(1, Fault::Hang);
    let accounts = Repository::<Account>::new(Arc::new(faulty.clone())).with_snapshot_policy(SnapshotPolicy::every(1));
    for cents in 1..=5 {
        let deposit = accounts.execute(&id(), Deposit { cents });
        tokio::time::timeout(Duration::from_secs(60), deposit).await.expect("in time").expect("deposited");
        tokio::task::yield_now().await;
    }
    assert_eq!(faulty.commits(), 6, "five commands, and one snapshot whose write hangs");
    assert_eq!(accounts.load(&id()).await.expect("loaded").state.cents, 15);
}
