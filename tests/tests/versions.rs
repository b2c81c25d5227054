//! Versions of aggregates with causal consistency: equal on all nodes that have the same events.

use std::cell::RefCell;
use std::num::NonZeroU64;
use std::sync::Arc;

use es_core::model::{Dot, HybridTime, OriginId, Stamp, Version};
use es_core::prelude::*;
use es_core::store::FailedCheck;
use es_core::{Commit, NewEvent, StreamId};
use es_tests::account::{Account, AccountEvent, Deposit};
use es_tests::stores::on_every_store;
use serde::{Deserialize, Serialize};

type Store = Arc<dyn EventStore>;

fn id() -> String {
    "7".to_owned()
}

fn stream() -> StreamId {
    StreamId::new("account-7").expect("a name")
}

/// The sum of the deposits of an account.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, Aggregate)]
#[aggregate(
    category = "account", id = String, event = AccountEvent,
    consistency = "causal", conflict = "canonical", snapshot(every = 2)
)]
struct Deposits(u64);

impl Evolve for Deposits {
    fn initial(_: &String) -> Self {
        Self(0)
    }
    fn evolve(&mut self, event: &AccountEvent, _: &EventContext<'_>) {
        if let AccountEvent::Deposited { cents } = event {
            self.0 += cents;
        }
    }
}

impl Decide<Deposit> for Deposits {
    type Rejection = std::convert::Infallible;
    fn decide(
        &self,
        Deposit { cents }: Deposit,
        _: &CommandContext<'_, Self>,
    ) -> Result<Decision<Self>, Self::Rejection> {
        Ok(AccountEvent::Deposited { cents }.into())
    }
}

/// Returns a stamped deposit, as replication writes it. All have the same hybrid time, which does not affect versions.
fn stamped(origin: u64, sequence: u64, cents: u64) -> NewEvent {
    let encoded = AccountEvent::Deposited { cents }.encode().expect("encoded");
    let mut event = NewEvent::new(encoded.event_type, encoded.version, encoded.content_type, encoded.payload);
    let dot = Dot { origin: OriginId::new(origin), sequence: NonZeroU64::new(sequence).expect("from 1") };
    event.data.stamp = Some(Box::new(Stamp { dot, time: HybridTime::from_bits(1), seen: None, command: None }));
    event
}

/// Writes deposits, each the origin, the sequence number and the cents.
async fn write(store: &Store, events: &[(u64, u64, u64)]) {
    for (origin, sequence, cents) in events {
        let commit = Commit::to(&stream(), ExpectedRevision::Any, [stamped(*origin, *sequence, *cents)]);
        store.commit(commit).await.expect("written");
    }
}

/// Returns the version of the aggregate, which is the same from events, from the cache and from a snapshot.
async fn version(store: &Store) -> Version {
    let deposits = Repository::<Deposits>::new(Arc::clone(store));
    let loaded = deposits.load(&id()).await.expect("loaded");
    deposits.settle().await;
    let cached = deposits.load(&id()).await.expect("loaded");
    let snapshotted = deposits.without_cache().load(&id()).await.expect("loaded");
    assert_eq!([cached.version(), snapshotted.version()], [loaded.version(); 2]);
    loaded.version().expect("the aggregate has events")
}

/// Returns the version of the aggregate after these deposits, on every store.
fn versions_after(events: &[(u64, u64, u64)]) -> Vec<Version> {
    let versions = RefCell::new(Vec::new());
    on_every_store(async |store| {
        write(&store, events).await;
        let version = version(&store).await;
        versions.borrow_mut().push(version);
    });
    versions.into_inner()
}

#[test]
fn the_version_of_a_causal_aggregate_is_the_same_on_every_node() {
    let versions = versions_after(&[(1, 1, 1), (1, 2, 10), (2, 1, 100)]);
    let expected = versions[0];
    assert!(versions.iter().all(|version| *version == expected), "{versions:?}");
    let other = versions_after(&[(2, 1, 100), (1, 1, 1), (1, 2, 10)]);
    assert_eq!(other, versions, "the version is independent of the order of arrival");
    let incomplete = versions_after(&[(1, 1, 1), (2, 1, 100)]);
    assert!(incomplete.iter().all(|version| *version != expected), "{incomplete:?}");
    assert_eq!(expected.to_string().parse(), Ok(expected));
}

#[test]
fn a_command_at_a_version_runs_only_if_the_version_is_current() {
    on_every_store(async |store| {
        write(&store, &[(2, 1, 100), (1, 1, 1), (1, 2, 10)]).await;
        let expected = version(&store).await;
        let local = Repository::<Account>::new(Arc::clone(&store)).load(&id()).await.expect("loaded");
        assert_eq!(
            local.version(),
            Some(Revision::new(2).into()),
            "without causal consistency, the version is the revision"
        );

        let deposits = Repository::<Deposits>::new(Arc::clone(&store));
        let executed = deposits
            .execute(&id(), Deposit { cents: 1_000 })
            .at_version(expected)
            .await
            .expect("the version is current");
        assert_eq!(executed.version(), Some(version(&store).await));
        let stale = deposits.execute(&id(), Deposit { cents: 1_000 }).at_version(expected).await;
        let stale = stale.expect_err("the version is stale");
        let conflict = stale.conflict().expect("a conflict");
        let is_version =
            matches!(&conflict.failed[..], [FailedCheck::Version { expected: found, .. }] if *found == expected);
        assert!(is_version, "{conflict}");
        let none = deposits.execute(&"8".to_owned(), Deposit { cents: 1 }).at_version(expected).await;
        let none = none.expect_err("the stream does not exist");
        assert!(none.to_string().ends_with("found no stream; nothing was written: reload and decide again"), "{none}");
    });
}

#[test]
fn a_causal_aggregate_works_on_a_store_of_one_node() {
    on_every_store(async |store| {
        let deposits = Repository::<Deposits>::new(Arc::clone(&store));
        for cents in [1, 10, 100] {
            deposits.execute(&id(), Deposit { cents }).await.expect("deposited");
        }
        deposits.settle().await;
        assert_eq!(deposits.load(&id()).await.expect("loaded").state.0, 111);
        let past = deposits.load_at(&id(), AsOf::Recorded("2016-01-01T00:00:00Z".parse().expect("a time"))).await;
        assert_eq!(past.expect("loaded").state.0, 0);
        let reopened = Repository::<Deposits>::new(store).load(&id()).await.expect("loaded");
        assert_eq!((reopened.state.0, reopened.revision), (111, Some(Revision::new(2))));
    });
}
