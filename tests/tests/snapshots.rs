//! Snapshots: with and without them every load is equal, whatever the policy, and a changed state type ignores them.

use std::sync::Arc;
use std::time::Duration;

use es_core::aggregate::snapshot;
use es_core::prelude::*;
use es_core::store::memory::MemoryStore;
use es_core::store::{RowScan, StreamRead};
use es_core::testing::{Fault, FaultyStore};
use es_core::{SnapshotPolicy, StreamId};
use es_tests::account::{Account, AccountEvent, Close, Deposit, Open, Withdraw};
use es_tests::stores::on_every_store;
use proptest::prelude::*;
use serde::{Deserialize, Serialize};

type Store = Arc<dyn EventStore>;

fn id() -> String {
    "7".to_owned()
}

async fn kept(store: &Store) -> Vec<u64> {
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
        let truth = without.load(&id()).await.expect("loaded");
        for repository in [&with, &cached] {
            let loaded = repository.load(&id()).await.expect("loaded");
            assert_eq!(
                (loaded.state, loaded.revision, loaded.position),
                (truth.state.clone(), truth.revision, truth.position)
            );
        }
        let Some(last) = truth.revision else { continue };
        for revision in 0..=last.get() {
            let revision = Revision::new(revision);
            let truth = without.load_at_revision(&id(), revision).await.expect("loaded");
            let loaded = with.load_at_revision(&id(), revision).await.expect("loaded");
            assert_eq!((loaded.state, loaded.revision, loaded.position), (truth.state, truth.revision, truth.position));
        }
    }
    with.settle().await;
    assert!(
        kept(&store).await.len() <= policy.keep.max(1) + 1,
        "at most those to be kept, and one per other repository"
    );
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    #[test]
    fn with_and_without_snapshots_every_load_is_equal(steps in steps(), policy in policies()) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().expect("a runtime");
        runtime.block_on(run(steps, policy));
    }
}

#[test]
fn the_declared_policy_keeps_k_and_a_load_reads_only_the_tail() {
    on_every_store(async |store| {
        let accounts = Repository::<Account>::new(Arc::clone(&store));
        for _ in 0..45 {
            accounts.execute(&id(), Deposit { cents: 1 }).await.expect("deposited");
            accounts.settle().await;
        }
        assert_eq!(kept(&store).await, [29, 39], "every tenth event, two kept");
        assert_eq!(accounts.load(&id()).await.expect("loaded").state.cents, 45);
        let mut damaged = store.rows(RowScan::new(snapshot::table(), "", 10)).await.expect("scanned");
        let newest = damaged.pop().expect("a snapshot");
        let broken = es_core::Commit::new().put_row(snapshot::table(), newest.key, &b"\x01garbage"[..]);
        store.commit(broken).await.expect("written");
        let mended = Repository::<Account>::new(Arc::clone(&store)).load(&id()).await.expect("loaded");
        assert_eq!(mended.state.cents, 45, "a snapshot that cannot be decoded is a miss");
    });
}

/// Snapshots are taken at the cost of a load, when the policy says so.
#[tokio::test]
async fn a_costly_load_takes_a_snapshot() {
    let store: Store = Arc::new(MemoryStore::new());
    let policy = SnapshotPolicy::load_cost(Duration::ZERO);
    let accounts = Repository::<Account>::new(Arc::clone(&store)).with_snapshot_policy(policy);
    accounts.execute(&id(), Deposit { cents: 1 }).await.expect("deposited");
    accounts.settle().await;
    let loads = kept(&store).await.len();
    accounts.load(&id()).await.expect("loaded");
    accounts.settle().await;
    assert_eq!((loads, kept(&store).await), (1, vec![0]));
}

/// Another program with another state type under the same category: a field was renamed in a nested type, which the
/// derive on the state itself cannot see.
mod changed {
    use super::*;

    #[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
    pub(crate) struct Totals {
        pub(crate) total: u64,
    }

    #[derive(Clone, Debug, PartialEq, Serialize, Deserialize, Aggregate)]
    #[aggregate(category = "account", id = String, event = AccountEvent, snapshot(every = 10))]
    pub(crate) struct Ledger {
        pub(crate) totals: Totals,
    }

    impl Evolve for Ledger {
        fn initial(_: &String) -> Self {
            Self { totals: Totals { total: 0 } }
        }
        fn evolve(&mut self, event: &AccountEvent, _: &EventContext<'_>) {
            if let AccountEvent::Deposited { cents } = event {
                self.totals.total += cents;
            }
        }
    }

    pub(crate) mod renamed {
        use super::*;

        #[derive(Clone, Debug, PartialEq, Serialize, Deserialize, Default)]
        pub(crate) struct Totals {
            #[serde(default)]
            pub(crate) sum: u64,
        }

        #[derive(Clone, Debug, PartialEq, Serialize, Deserialize, Aggregate)]
        #[aggregate(category = "account", id = String, event = AccountEvent, snapshot(every = 10))]
        pub(crate) struct Ledger {
            pub(crate) totals: Totals,
        }

        impl Evolve for Ledger {
            fn initial(_: &String) -> Self {
                Self { totals: Totals::default() }
            }
            fn evolve(&mut self, event: &AccountEvent, _: &EventContext<'_>) {
                if let AccountEvent::Deposited { cents } = event {
                    self.totals.sum += cents;
                }
            }
        }
    }
}

/// The bug of a peer: a snapshot of a changed state type was replaced by the default state, but its revision was kept.
#[tokio::test]
async fn a_snapshot_of_a_changed_state_type_is_ignored() {
    let store: Store = Arc::new(MemoryStore::new());
    let accounts = Repository::<Account>::new(Arc::clone(&store)).without_snapshots();
    for _ in 0..25 {
        accounts.execute(&id(), Deposit { cents: 2 }).await.expect("deposited");
    }
    let every = SnapshotPolicy::load_cost(Duration::ZERO);
    let ledger = Repository::<changed::Ledger>::new(Arc::clone(&store)).with_snapshot_policy(every);
    ledger.load(&id()).await.expect("loaded");
    ledger.settle().await;
    assert_eq!(kept(&store).await, [24], "the first program took a snapshot");
    let renamed = Repository::<changed::renamed::Ledger>::new(Arc::clone(&store)).load(&id()).await.expect("loaded");
    assert_eq!(renamed.state.totals.sum, 50, "folded from the events, not from what a snapshot left of it");
}

#[tokio::test]
async fn a_snapshot_never_stands_in_the_log() {
    let store: Store = Arc::new(MemoryStore::new());
    let accounts = Repository::<Account>::new(Arc::clone(&store)).with_snapshot_policy(SnapshotPolicy::every(1));
    accounts.execute(&id(), Deposit { cents: 1 }).await.expect("deposited");
    accounts.settle().await;
    let stream = StreamRead::new(StreamId::new("account-7").expect("a name"));
    assert_eq!(store.read_stream(stream).await.expect("opened").collect().await.expect("read").len(), 1);
    assert_eq!(kept(&store).await, [0]);
}

/// A command does not wait for its snapshot, not even for one that never ends.
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
    assert_eq!(faulty.commits(), 6, "five commands, and the one snapshot that hangs");
    assert_eq!(accounts.load(&id()).await.expect("loaded").state.cents, 15);
}
