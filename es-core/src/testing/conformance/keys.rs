//! Cases: unique keys are claimed and released by events.

use super::retention::{also_reopened, delete, scavenge};
use super::tools::*;
use crate::model::{KeyChange, MAX_NAME_BYTES, NewEvent, StreamId, Timestamp, UniqueKey};
use crate::retention::{DeleteKind, Note, Rule, Scope};
use crate::store::{Commit, CommitError, FailedCheck, IdConflict, InvalidCommit, MAX_KEYS, StreamRead};

/// Returns an event that claims a key.
fn claim(value: &str) -> NewEvent {
    event("claimed").claiming(key(value))
}

/// Returns an event that releases a key.
fn release(value: &str) -> NewEvent {
    event("released").releasing(key(value))
}

/// Returns a commit of one event.
fn to(name: &str, event: NewEvent) -> Commit {
    Commit::to(&stream(name), Any, [event])
}

async fn owner(store: &Store, value: &str) -> Option<StreamId> {
    store.owner(&key(value)).await.expect("the owner is read")
}

fn taken(value: &str, wanted_by: &str, held_by: &str) -> FailedCheck {
    FailedCheck::UniqueKey { key: key(value), wanted_by: stream(wanted_by), held_by: stream(held_by) }
}

/// A key belongs to one stream until that stream releases it.
pub(super) async fn a_unique_key_has_one_owner(harness: &dyn Harness) {
    let store = harness.open().await;
    commit(&store, to("customer-1", claim("ada"))).await;
    assert_eq!(owner(&store, "ada").await, Some(stream("customer-1")));
    assert_eq!(conflict(&store, to("customer-2", claim("ada"))).await, [taken("ada", "customer-2", "customer-1")]);
    commit(&store, to("customer-1", claim("ada"))).await;
    assert_eq!(conflict(&store, to("customer-2", release("ada"))).await, [taken("ada", "customer-2", "customer-1")]);
    commit(&store, to("customer-1", release("ada"))).await;
    commit(&store, to("customer-1", release("ada"))).await;
    assert_eq!(owner(&store, "ada").await, None);
    commit(&store, to("customer-2", claim("ada"))).await;
    assert_eq!(owner(&store, "ada").await, Some(stream("customer-2")));
}

/// Keys are different if their scopes or values differ, also if the concatenations of scope and value are equal.
pub(super) async fn keys_of_different_scopes_are_different(harness: &dyn Harness) {
    let store = harness.open().await;
    let keys = [("a", "bc"), ("ab", "c"), ("abc", "a"), ("bc", "a"), ("a", "b"), ("b", "a")];
    let keys = keys.map(|(scope, value)| UniqueKey::new(scope, value).expect("a valid unique key"));
    for (n, key) in keys.iter().enumerate() {
        commit(&store, to(&format!("a-{n}"), event("x").claiming(key.clone()))).await;
    }
    for (n, key) in keys.iter().enumerate() {
        assert_eq!(store.owner(key).await.expect("owner"), Some(stream(&format!("a-{n}"))));
    }
}

/// Claims and releases are applied in the order of the events of a commit, and of the keys of an event.
pub(super) async fn a_key_can_move_to_another_stream_in_one_commit(harness: &dyn Harness) {
    let store = harness.open().await;
    commit(&store, to("a-1", claim("k"))).await;
    let wrong_order = to("a-2", claim("k")).append(stream("a-1"), release("k"));
    assert_eq!(conflict(&store, wrong_order).await, [taken("k", "a-2", "a-1")]);
    assert_eq!(owner(&store, "k").await, Some(stream("a-1")));
    commit(&store, to("a-1", release("k")).append(stream("a-2"), claim("k"))).await;
    assert_eq!(owner(&store, "k").await, Some(stream("a-2")));
    let both = to("a-1", claim("new")).append(stream("a-2"), claim("new"));
    assert_eq!(conflict(&store, both).await, [taken("new", "a-2", "a-1")]);
    assert_eq!(owner(&store, "new").await, None);
    commit(&store, to("a-1", claim("once").releasing(key("once")))).await;
    assert_eq!(owner(&store, "once").await, None);
    commit(&store, to("a-1", release("twice").claiming(key("twice")))).await;
    assert_eq!(owner(&store, "twice").await, Some(stream("a-1")));
}

/// A conflict lists every key that another stream holds, together with the other failed conditions.
pub(super) async fn a_conflict_lists_all_taken_keys(harness: &dyn Harness) {
    let store = harness.open().await;
    commit(&store, to("a-1", claim("k").claiming(key("l")))).await;
    let attempt = to("b-1", claim("l").claiming(key("free")).releasing(key("k"))).expect(stream("c-1"), StreamExists);
    let expected = [revision_check("c-1", StreamExists, None), taken("l", "b-1", "a-1"), taken("k", "b-1", "a-1")];
    assert_eq!(conflict(&store, attempt).await, expected);
    assert_eq!(owner(&store, "free").await, None);
}

/// A read returns the keys of an event. An event with the same id and other keys is rejected.
pub(super) async fn keys_are_part_of_their_event(harness: &dyn Harness) {
    let store = harness.open().await;
    let keyed = claim("k").releasing(key("old")).claiming(key("l"));
    let first = commit(&store, to("a-1", keyed.clone())).await;
    commit(&store, to("a-1", event("x"))).await;
    let mut store = store;
    for _ in 0..2 {
        let found = log(&store).await;
        let keys: Vec<_> = found[0].data.keys.iter().cloned().collect();
        let expected = [KeyChange::Claim(key("k")), KeyChange::Release(key("old")), KeyChange::Claim(key("l"))];
        assert_eq!(keys, expected);
        assert!(found[1].data.keys.is_empty());
        assert_eq!(read_stream(&store, StreamRead::new(stream("a-1"))).await, found);
        assert_eq!(store.find(keyed.data.id).await.expect("find").as_ref(), Some(&found[0]));
        let repeat = commit(&store, to("a-1", keyed.clone())).await;
        assert!(repeat.repeated && repeat.events == first.events);
        for other in [event("claimed"), claim("k"), claim("k").claiming(key("l")).releasing(key("old"))] {
            let refused = store.commit(to("a-1", other.with_id(keyed.data.id))).await;
            assert!(matches!(refused, Err(CommitError::IdConflict(IdConflict::Taken { .. }))), "{refused:?}");
        }
        store = also_reopened(harness, store).await;
    }
}

/// A repeated commit does not claim or release its keys again.
pub(super) async fn a_repeat_changes_no_keys(harness: &dyn Harness) {
    let store = harness.open().await;
    let twice = to("a-1", claim("k"));
    commit(&store, twice.clone()).await;
    commit(&store, to("a-1", release("k"))).await;
    assert!(commit(&store, twice.clone()).await.repeated);
    assert_eq!(owner(&store, "k").await, None);
    commit(&store, to("a-2", claim("k"))).await;
    assert!(commit(&store, twice).await.repeated, "a repeat is recognized before conditions");
    assert_eq!(owner(&store, "k").await, Some(stream("a-2")));
}

/// Claims and releases are as durable as their events.
pub(super) async fn keys_survive_a_restart(harness: &dyn Harness) {
    let store = harness.open().await;
    commit(&store, to("a-1", claim("k").claiming(key("l")))).await;
    commit(&store, to("a-1", release("l"))).await;
    let Some(store) = harness.reopen(store).await else { return };
    assert_eq!(owner(&store, "k").await, Some(stream("a-1")));
    assert_eq!(owner(&store, "l").await, None);
    assert_eq!(conflict(&store, to("a-2", claim("k"))).await, [taken("k", "a-2", "a-1")]);
    commit(&store, to("a-2", claim("l"))).await;
}

/// A deletion releases all keys of the stream. Keys that the stream claims later are kept.
pub(super) async fn a_deletion_releases_the_keys_of_its_stream(harness: &dyn Harness) {
    let store = harness.open().await;
    for (name, value) in [("a-1", "soft"), ("a-1", "reclaimed"), ("b-1", "hard"), ("c-1", "kept")] {
        commit(&store, to(name, claim(value))).await;
    }
    delete(&store, "a-1", DeleteKind::Soft).await;
    delete(&store, "b-1", DeleteKind::Hard).await;
    let check_owners = async |store: &Store| {
        for value in ["soft", "reclaimed", "hard"] {
            assert_eq!(owner(store, value).await, None, "{value}");
        }
        assert_eq!(owner(store, "kept").await, Some(stream("c-1")));
    };
    check_owners(&store).await;
    scavenge(&store).await;
    let store = also_reopened(harness, store).await;
    check_owners(&store).await;

    // Another stream can claim the keys of a deleted stream, and the deleted stream can be written again.
    commit(&store, to("d-1", claim("hard").claiming(key("soft")))).await;
    assert_eq!(owner(&store, "hard").await, Some(stream("d-1")));
    let late = to("a-1", release("soft"));
    assert_eq!(conflict(&store, late).await, [taken("soft", "a-1", "d-1")]);
    commit(&store, to("a-1", claim("reclaimed"))).await;
    assert_eq!(owner(&store, "reclaimed").await, Some(stream("a-1")));
    assert_eq!(conflict(&store, to("d-1", claim("reclaimed"))).await, [taken("reclaimed", "d-1", "a-1")]);
    let store = also_reopened(harness, store).await;
    assert_eq!(owner(&store, "reclaimed").await, Some(stream("a-1")));
    delete(&store, "a-1", DeleteKind::Soft).await;
    commit(&store, to("d-1", claim("reclaimed"))).await;
}

/// A commit can delete a stream and claim its keys for another stream.
pub(super) async fn a_commit_can_delete_a_stream_and_claim_its_keys(harness: &dyn Harness) {
    let store = harness.open().await;
    for (kind, old, new) in [(DeleteKind::Soft, "a-1", "b-1"), (DeleteKind::Hard, "a-2", "b-2")] {
        commit(&store, to(old, claim(old))).await;
        let deletion = |commit: Commit| {
            let deletion = Commit::delete_stream(stream(old), kind, Some(rev(0)), Note::default());
            deletion.events().iter().cloned().fold(commit, |commit, (stream, event)| commit.append(stream, event))
        };
        let too_early = deletion(to(new, claim(old)));
        assert_eq!(conflict(&store, too_early).await, [taken(old, new, old)]);
        commit(&store, deletion(Commit::new()).append(stream(new), claim(old))).await;
        assert_eq!(owner(&store, old).await, Some(stream(new)));
    }
}

/// A key stays claimed after its event is hidden by a rule and removed by a scavenge.
pub(super) async fn a_claim_outlives_its_event(harness: &dyn Harness) {
    let store = harness.open().await;
    commit(&store, to("a-1", claim("k").claiming(key("released")))).await;
    commit(&store, to("a-1", release("released"))).await;
    append(&store, "a-1", &["x"]).await;
    let rule = Rule { max_count: Some(1), ..Rule::default() };
    commit(&store, Commit::set_rule(Scope::Stream(stream("a-1")), rule, Note::default())).await;
    let mut store = store;
    for n in 0..3 {
        assert_eq!(owner(&store, "k").await, Some(stream("a-1")));
        assert_eq!(owner(&store, "released").await, None);
        assert_eq!(conflict(&store, to("a-2", claim("k"))).await, [taken("k", "a-2", "a-1")]);
        match n {
            0 => assert_eq!(scavenge(&store).await.events, 2),
            _ => store = also_reopened(harness, store).await,
        }
    }
    assert!(read_stream(&store, StreamRead::new(stream("a-1"))).await[0].data.keys.is_empty());
    commit(&store, to("a-1", release("k"))).await;
    commit(&store, to("a-2", claim("k"))).await;
    assert_eq!(owner(&store, "k").await, Some(stream("a-2")));
}

/// An event with too many keys is rejected, and so is an operator event with keys.
pub(super) async fn keys_have_limits(harness: &dyn Harness) {
    let store = harness.open().await;
    let with = |count: usize| (0..count).fold(event("x"), |event, n| event.claiming(key(&n.to_string())));
    let refused = store.commit(to("a-1", with(MAX_KEYS + 1))).await;
    let Err(CommitError::Invalid(InvalidCommit::TooManyKeys { found, .. })) = refused else {
        panic!("expected too many keys, found {refused:?}")
    };
    assert_eq!(found, MAX_KEYS + 1);
    commit(&store, to("a-1", with(MAX_KEYS))).await;
    assert_eq!(owner(&store, "0").await, Some(stream("a-1")));
    let longest = "x".repeat(MAX_NAME_BYTES);
    let longest = UniqueKey::new(&longest, &longest).expect("a valid unique key");
    commit(&store, to("a-1", event("x").claiming(longest.clone()))).await;
    assert_eq!(store.owner(&longest).await.expect("owner"), Some(stream("a-1")));
    let mut point = Commit::scavenge_point(Timestamp::UNIX_EPOCH, Note::default());
    point.events[0].1.data.keys.push(KeyChange::Claim(key("k")));
    let refused = store.commit(point).await;
    assert!(matches!(refused, Err(CommitError::Invalid(InvalidCommit::Reserved { .. }))), "{refused:?}");
}
