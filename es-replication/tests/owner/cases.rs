//! What a node refuses, hand-overs, and forwarded commands.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use es_core::aggregate::Outcome;
use es_core::model::{Context, CorrelationId, OriginId};
use es_core::prelude::*;
use es_core::store::{Home, NotOwner};
use es_core::{Commit, CommitError, ExecuteError, UnitOfWork};
use es_replication::{
    Claim, CommandAnswer, CommandOutcome, Confirmation, ForwardError, ForwardedCommand, ForwardingRepository,
    HandOverError, Item, LocalPeer, Page, Peer, PeerError, Pull, PullError, Refusal, SendError,
};
use futures_util::FutureExt;

use crate::domain::{Account, Node, NotCovered, Pay, account, paid};

fn command_id(text: &str) -> CommandId {
    CommandId::new(text).expect("a command id")
}

/// Returns two nodes. The first one is the home of account 1, whose sum is 10, and the second one has its event.
async fn paris_and_oslo() -> (Node, Node) {
    let (paris, oslo) = (Node::open("paris").await, Node::open("oslo").await);
    paris.accounts.execute(&1, Pay(10)).await.expect("the first writer is the home");
    oslo.pull(&paris).await;
    (paris, oslo)
}

#[tokio::test]
async fn a_node_that_is_not_the_home_refuses_every_command() {
    let (paris, oslo) = paris_and_oslo().await;
    let home = Home::Origin(paris.origin().await);
    let expected = NotOwner { stream: account(1), home };
    // The state on this node may be old, so the command is neither rejected nor accepted without events.
    for amount in [5, -50, 0] {
        let error = oslo.accounts.execute(&1, Pay(amount)).await.expect_err("Paris decides");
        assert!(matches!(&error, ExecuteError::NotOwner(found) if *found == expected), "{amount}: {error}");
    }
    let unit = UnitOfWork::new(oslo.replica.store()).execute(&*oslo.accounts, 2, Pay(1));
    let error = unit.execute(&*oslo.accounts, 1, Pay(1)).await.expect_err("Paris decides on one of them");
    assert!(matches!(error, es_core::aggregate::UnitError::NotOwner(found) if found == expected));
    assert_eq!(oslo.accounts.load(&2).await.expect("loaded").revision, None, "nothing was written");
    let error = oslo.accounts.plan(&1, Pay(1)).await.expect_err("Paris decides");
    assert!(matches!(error, ExecuteError::NotOwner(_)), "{error}");
}

/// The decision of the store enforces it, not only the repository.
#[tokio::test]
async fn the_store_refuses_a_commit_to_a_stream_of_another_node() {
    let (paris, oslo) = paris_and_oslo().await;
    let error = oslo.commit(&account(1), 5).await.expect_err("Paris decides");
    let CommitError::Rejected(error) = error else { panic!("{error}") };
    assert_eq!(error.downcast_ref::<NotOwner>().map(|error| &error.stream), Some(&account(1)));
    let both = Commit::new().append(account(3), paid(1)).append(account(1), paid(1));
    oslo.store.commit(both).await.expect_err("one of the streams is decided by Paris");
    assert_eq!(oslo.replica.home(&account(3)).await.expect("read"), None, "nothing was written");
    paris.commit(&account(1), 5).await.expect("the home decides");
    assert_eq!(paris.sum(1).await, 15);
}

#[tokio::test]
async fn only_the_node_that_the_id_names_creates_an_aggregate() {
    let (paris, oslo) = (Node::open("paris").await, Node::open("oslo").await);
    let id = "paris/7".to_owned();
    let error = oslo.tills.execute(&id, Pay(1)).await.expect_err("only Paris creates it");
    let expected = Home::Node("paris".to_owned());
    assert!(matches!(&error, ExecuteError::NotOwner(error) if error.home == expected), "{error}");
    let stream = crate::domain::Till::stream(&id).expect("a name");
    assert!(matches!(oslo.commit(&stream, 1).await, Err(CommitError::Rejected(_))));
    paris.tills.execute(&id, Pay(1)).await.expect("Paris creates it");
    // The name does not matter once the stream exists.
    paris.replica.hand_over(&stream, &*oslo.peer()).await.expect("handed over");
    oslo.pull(&paris).await;
    oslo.tills.execute(&id, Pay(2)).await.expect("Oslo decides now");
    assert_eq!(oslo.tills.load(&id).await.expect("loaded").state.0, 3);

    // Without the stream here, the peer with the name is the home.
    let peers = [paris.peer()];
    let tills = ForwardingRepository::new(&oslo.replica, Arc::clone(&oslo.tills), peers);
    let _ = ForwardingRepository::new(&paris.replica, Arc::clone(&paris.tills), [oslo.peer()]).accept::<Pay>();
    let forwarded = tills.execute(&"paris/8".to_owned(), Pay(4), command_id("c")).await.expect("forwarded");
    assert_eq!(forwarded.node.as_deref(), Some("paris"));
    let unknown = tills.execute(&"rome/1".to_owned(), Pay(4), command_id("d")).await;
    assert!(matches!(unknown, Err(ForwardError::NotOwner(_))), "{unknown:?}");
}

/// Two nodes create one aggregate at the same time. Nothing acknowledged is lost: the events of both count, in
/// canonical order. Both nodes then agree on one home: the node of the first event in this order.
#[tokio::test]
async fn of_two_creators_the_first_in_canonical_order_is_the_home() {
    let (paris, oslo) = (Node::open("paris").await, Node::open("oslo").await);
    paris.accounts.execute(&1, Pay(1)).await.expect("created");
    oslo.accounts.execute(&1, Pay(2)).await.expect("created");
    oslo.accounts.execute(&1, Pay(3)).await.expect("Oslo does not know of the other one");
    oslo.pull(&paris).await;
    paris.pull(&oslo).await;
    let paris_first = paris.accounts.load(&1).await.expect("loaded").state.payments[0] == 1;
    let (home, other) = if paris_first { (&paris, &oslo) } else { (&oslo, &paris) };
    assert!(matches!(other.accounts.execute(&1, Pay(1)).await, Err(ExecuteError::NotOwner(_))));
    home.accounts.execute(&1, Pay(4)).await.expect("the home decides");
    other.pull(home).await;
    for node in [&paris, &oslo] {
        assert_eq!(node.sum(1).await, 10);
        assert_eq!(node.replica.home(&account(1)).await.expect("read"), Some(home.origin().await));
    }
    assert!(home.accounts.load(&1).await.expect("loaded").state.concurrent > 0, "the state can tell");
}

#[tokio::test]
async fn a_hand_over_is_an_event_that_the_fold_ignores() {
    let (paris, oslo) = paris_and_oslo().await;
    let before = paris.accounts.load(&1).await.expect("loaded");
    paris.replica.hand_over(&account(1), &*oslo.peer()).await.expect("handed over");
    let after = paris.accounts.load(&1).await.expect("loaded");
    assert_eq!(before.state, after.state);
    assert_ne!(before.version(), after.version(), "a version shows the hand-over");
    // Nobody decides until the hand-over has arrived.
    for node in [&paris, &oslo] {
        let error = node.accounts.execute(&1, Pay(1)).await.expect_err("not the home");
        assert!(matches!(error, ExecuteError::NotOwner(_)), "{error}");
    }
    oslo.pull(&paris).await;
    assert_eq!(oslo.replica.home(&account(1)).await.expect("read"), Some(oslo.origin().await));
    oslo.accounts.execute(&1, Pay(1)).await.expect("Oslo decides");
    // And back.
    oslo.replica.hand_over(&account(1), &*paris.peer()).await.expect("handed over");
    paris.pull(&oslo).await;
    let executed = paris.accounts.execute(&1, Pay(-11)).await.expect("Paris has seen everything");
    assert_eq!((executed.state.sum, executed.state.concurrent), (0, 0));
}

#[tokio::test]
async fn only_the_home_hands_over_a_stream_with_events() {
    let (paris, oslo) = paris_and_oslo().await;
    let error = oslo.replica.hand_over(&account(1), &*oslo.peer()).await.expect_err("Paris decides");
    assert!(matches!(error, HandOverError::NotOwner(_)), "{error}");
    let error = paris.replica.hand_over(&account(9), &*oslo.peer()).await.expect_err("no events");
    assert!(matches!(error, HandOverError::NoEvents { .. }), "{error}");
    paris.replica.hand_over(&account(1), &*paris.peer()).await.expect("no effect");
    assert_eq!(paris.accounts.load(&1).await.expect("loaded").revision, Some(es_core::Revision::FIRST));
    let unreachable = CutPeer { peer: oslo.peer(), cut: Cut::BeforeSending };
    let error = paris.replica.hand_over(&account(1), &unreachable).await.expect_err("Oslo is not reachable");
    assert!(matches!(error, HandOverError::Peer(_)), "{error}");
    paris.accounts.execute(&1, Pay(1)).await.expect("Paris still decides");

    // Events that no replica writes.
    let event = |payload: String| {
        let event_type = es_core::EventType::new("es.handed-over").expect("a name");
        Commit::new().append(account(1), es_core::NewEvent::json(event_type, payload))
    };
    let to = oslo.origin().await;
    let forced = event(format!(r#"{{"to":"{to}","epoch":1,"forced":true}}"#));
    let error = paris.store.commit(forced).await.expect_err("taken over for another node");
    assert!(matches!(&error, CommitError::Rejected(error) if error.is::<Refusal>()), "{error}");
    let error = paris.store.commit(event(format!(r#"{{"to":"{to}","epoch":2}}"#))).await.expect_err("another epoch");
    assert!(matches!(&error, CommitError::Rejected(error) if error.is::<Refusal>()), "{error}");
    let error = paris.store.commit(event("{}".to_owned())).await.expect_err("an invalid payload");
    assert!(matches!(error, CommitError::Invalid(_)), "{error}");
    let and_more = event(format!(r#"{{"to":"{to}","epoch":1}}"#)).append(account(1), paid(1));
    let error = paris.store.commit(and_more).await.expect_err("the next home decides on the second event");
    assert!(matches!(&error, CommitError::Rejected(error) if error.is::<NotOwner>()), "{error}");
    assert_eq!(paris.replica.home(&account(1)).await.expect("read"), Some(paris.origin().await));
}

/// A command and a hand-over at the same time on the old home: the store orders them, and a command that is late is
/// refused.
#[tokio::test]
async fn a_command_that_loses_against_a_hand_over_is_refused() {
    let (paris, oslo) = paris_and_oslo().await;
    let plan = paris.accounts.plan(&1, Pay(5)).await.expect("Paris decides");
    let commit = Commit::new().with(&plan);
    paris.replica.hand_over(&account(1), &*oslo.peer()).await.expect("handed over");
    let error = paris.store.commit(commit).await.expect_err("handed over");
    assert!(matches!(&error, CommitError::Rejected(error) if error.is::<NotOwner>()), "{error}");
    assert_eq!(paris.sum(1).await, 10);
}

/// Rome gets the second hand-over, of Oslo, in a page without the events that precede it.
#[tokio::test]
async fn a_hand_over_takes_effect_after_its_causes() {
    let (paris, oslo) = paris_and_oslo().await;
    let rome = Node::open("rome").await;
    paris.accounts.execute(&1, Pay(-10)).await.expect("Paris decides");
    paris.replica.hand_over(&account(1), &*oslo.peer()).await.expect("handed over");
    oslo.pull(&paris).await;
    // The first event of Oslo, which follows no other one of its origin.
    oslo.replica.hand_over(&account(1), &*rome.peer()).await.expect("handed over");

    let reversed = CutPeer { peer: oslo.peer(), cut: Cut::Reverses };
    for _ in 0..3 {
        let pulled = rome.replica.pull(&reversed, Duration::ZERO).await;
        assert!(matches!(pulled, Err(PullError::Refused(Refusal::Dependency { .. }))), "{pulled:?}");
        assert_ne!(rome.replica.home(&account(1)).await.expect("read"), Some(rome.origin().await));
    }
    rome.pull(&oslo).await;
    let error = rome.accounts.execute(&1, Pay(-1)).await.expect_err("Rome knows that nothing is left");
    assert!(matches!(error, ExecuteError::Rejected(NotCovered { sum: 0 })));
}

/// The home is lost. An operator makes Oslo the home of its streams.
#[tokio::test]
async fn an_operator_takes_over_the_streams_of_a_lost_node() {
    let (paris, oslo) = paris_and_oslo().await;
    paris.accounts.execute(&2, Pay(7)).await.expect("executed");
    oslo.pull(&paris).await;
    oslo.accounts.execute(&3, Pay(1)).await.expect("Oslo creates it");
    // Not replicated before Paris is lost.
    paris.accounts.execute(&1, Pay(1)).await.expect("executed");

    let lost = paris.origin().await;
    let (mut after, mut taken) = (None, 0);
    loop {
        let page = oslo.replica.homes(after.as_ref(), 2).await.expect("read");
        for (stream, _) in page.iter().filter(|(_, home)| *home == lost) {
            oslo.replica.take_over(stream).await.expect("taken over");
            taken += 1;
        }
        if page.len() < 2 {
            break;
        }
        after = page.last().map(|(stream, _)| stream.clone());
    }
    assert_eq!(taken, 2);
    oslo.replica.take_over(&account(3)).await.expect("no effect at the home");
    assert!(matches!(oslo.replica.take_over(&account(9)).await, Err(HandOverError::NoEvents { .. })));
    oslo.accounts.execute(&1, Pay(-4)).await.expect("Oslo decides");

    // Paris is alive after all. Its events count, and it is no longer the home.
    paris.pull(&oslo).await;
    assert!(matches!(paris.accounts.execute(&1, Pay(1)).await, Err(ExecuteError::NotOwner(_))));
    oslo.pull(&paris).await;
    assert_eq!((paris.sum(1).await, oslo.sum(1).await), (7, 7));
    oslo.accounts.execute(&1, Pay(1)).await.expect("Oslo decides");
}

#[tokio::test]
async fn a_command_is_forwarded_to_the_home_and_its_write_is_read_here() {
    let (paris, oslo) = paris_and_oslo().await;
    let (at_paris, at_oslo) = (paris.forwarding(&[&oslo]), oslo.forwarding(&[&paris]));
    let here = at_paris.execute(&1, Pay(1), command_id("here")).await.expect("executed");
    assert_eq!((here.node, here.outcome), (None, Outcome::Done));

    let correlation_id = CorrelationId::new();
    let execute = at_oslo.execute(&1, Pay(-4), command_id("forwarded"));
    let forwarded = Context::with_correlation(correlation_id).scope(execute).await.expect("executed");
    assert_eq!((forwarded.node.as_deref(), forwarded.outcome), (Some("paris"), Outcome::Done));
    let loaded = paris.accounts.load(&1).await.expect("loaded");
    assert_eq!((loaded.state.sum, loaded.version()), (7, forwarded.version));

    oslo.replica.wait_for(&forwarded.token, Duration::ZERO).await.expect_err("the event has not arrived yet");
    oslo.pull(&paris).await;
    oslo.replica.wait_for(&forwarded.token, Duration::ZERO).await.expect("the event has arrived");
    assert_eq!(oslo.sum(1).await, 7);
    let stream = oslo.store.read_stream(es_core::StreamRead::new(account(1))).await.expect("read");
    let last = stream.collect().await.expect("read").pop().expect("an event");
    assert_eq!(last.data.correlation_id, Some(correlation_id));

    let unchanged = at_oslo.execute(&1, Pay(0), command_id("unchanged")).await.expect("executed");
    assert_eq!(unchanged.outcome, Outcome::Unchanged);
    let rejected = at_oslo.execute(&1, Pay(-100), command_id("rejected")).await.expect_err("not covered");
    assert!(!rejected.may_be_executed());
    assert!(matches!(rejected, ForwardError::Rejected(NotCovered { sum: 7 })));
}

#[tokio::test]
async fn a_forwarded_command_counts_once_also_after_a_hand_over() {
    let (paris, oslo) = paris_and_oslo().await;
    let rome = Node::open("rome").await;
    rome.pull(&paris).await;
    let (_at_paris, at_oslo) = (paris.forwarding(&[&oslo, &rome]), oslo.forwarding(&[&paris, &rome]));
    let at_rome = rome.forwarding(&[&paris, &oslo]);
    for _ in 0..2 {
        let forwarded = at_rome.execute(&1, Pay(5), command_id("c")).await.expect("executed");
        assert_eq!(forwarded.node.as_deref(), Some("paris"));
        assert_eq!(paris.sum(1).await, 15);
    }
    paris.replica.hand_over(&account(1), &*oslo.peer()).await.expect("handed over");
    oslo.pull(&paris).await;
    // Rome still believes that Paris is the home, which names Oslo.
    let repeated = at_rome.execute(&1, Pay(5), command_id("c")).await.expect("repeated");
    assert_eq!((repeated.node.as_deref(), repeated.outcome), (Some("paris"), Outcome::Repeated));
    let other = at_rome.execute(&1, Pay(2), command_id("d")).await.expect("executed");
    assert_eq!(other.node.as_deref(), Some("oslo"));
    let repeated = at_oslo.execute(&1, Pay(5), command_id("c")).await.expect("repeated");
    assert_eq!((repeated.node, repeated.outcome), (None, Outcome::Repeated));
    assert_eq!(oslo.sum(1).await, 17);
    // The id is bound to the content.
    let reused = at_rome.execute(&1, Pay(6), command_id("d")).await.expect_err("another command");
    assert!(matches!(reused, ForwardError::Refused { .. }) && !reused.may_be_executed(), "{reused:?}");
}

/// The command waits while the hand-over is under way, and is executed once it has arrived.
#[tokio::test(start_paused = true)]
async fn a_forwarded_command_waits_for_a_hand_over() {
    let (paris, oslo) = paris_and_oslo().await;
    let (at_paris, at_oslo) = (paris.forwarding(&[&oslo]), oslo.forwarding(&[&paris]));
    paris.replica.hand_over(&account(1), &*oslo.peer()).await.expect("handed over");
    let error = at_oslo.execute(&1, Pay(1), command_id("c")).await.expect_err("the hand-over does not arrive");
    assert!(matches!(error, ForwardError::NotOwner(_)) && !error.may_be_executed(), "{error:?}");
    for (repository, id) in [(&at_oslo, "at Oslo"), (&at_paris, "at Paris")] {
        let execute = repository.execute(&1, Pay(1), command_id(id));
        let arrive = async {
            tokio::time::sleep(Duration::from_millis(500)).await;
            oslo.pull(&paris).await;
        };
        let (executed, ()) = tokio::join!(execute, arrive);
        executed.expect("executed by Oslo");
    }
    assert_eq!(oslo.sum(1).await, 12);
}

#[tokio::test(start_paused = true)]
async fn an_error_says_whether_the_command_may_have_been_executed() {
    let (paris, oslo) = paris_and_oslo().await;
    let _at_paris = paris.forwarding(&[&oslo]);
    let through = |cut| {
        let peer: Arc<dyn Peer> = Arc::new(CutPeer { peer: paris.peer(), cut });
        ForwardingRepository::new(&oslo.replica, Arc::clone(&oslo.accounts), [peer])
    };
    let error = through(Cut::BeforeSending).execute(&1, Pay(1), command_id("a")).await.expect_err("cut");
    assert!(matches!(error, ForwardError::Unreachable { .. }) && !error.may_be_executed(), "{error:?}");
    assert_eq!(paris.sum(1).await, 10);
    for (cut, id, sum) in [(Cut::AfterExecution, "b", 11), (Cut::Silent, "c", 12)] {
        let error = through(cut).execute(&1, Pay(1), command_id(id)).await.expect_err("no answer");
        assert!(matches!(error, ForwardError::Unanswered { .. }) && error.may_be_executed(), "{error:?}");
        let repeated = through(Cut::Nothing).execute(&1, Pay(1), command_id(id)).await.expect("repeated");
        let expected = if cut == Cut::AfterExecution { Outcome::Repeated } else { Outcome::Done };
        assert_eq!((repeated.outcome, paris.sum(1).await), (expected, sum));
    }
}

/// A peer sends anything. Only commands that the node accepts are executed.
#[tokio::test]
async fn a_command_that_the_node_does_not_accept_is_refused() {
    let (paris, oslo) = paris_and_oslo().await;
    let at_oslo = ForwardingRepository::new(&oslo.replica, Arc::clone(&oslo.accounts), [paris.peer()]);
    let error = at_oslo.execute(&1, Pay(1), command_id("a")).await.expect_err("Paris accepts no commands");
    assert!(matches!(error, ForwardError::Refused { .. }) && !error.may_be_executed(), "{error:?}");

    let _at_paris = paris.forwarding(&[&oslo]);
    let valid = ForwardedCommand {
        category: "account".to_owned(),
        id: "1".to_owned(),
        command_type: std::any::type_name::<Pay>().to_owned(),
        command: "1".into(),
        command_id: command_id("b"),
        correlation_id: None,
        causation_id: None,
        wait: Duration::from_secs(1),
    };
    let refused = [
        ForwardedCommand { category: "till".to_owned(), ..valid.clone() },
        ForwardedCommand { command_type: "Pay".to_owned(), ..valid.clone() },
        ForwardedCommand { id: "01".to_owned(), ..valid.clone() },
        ForwardedCommand { command: "{".into(), ..valid.clone() },
        ForwardedCommand { command: "[".repeat(100_000).into(), ..valid.clone() },
        ForwardedCommand { command: vec![b' '; 2 * 1024 * 1024].into(), ..valid.clone() },
    ];
    for command in refused {
        let answer = paris.peer().execute(command.clone()).await.expect("an answer");
        assert!(matches!(answer.outcome, CommandOutcome::Refused { .. }), "{command:?}: {answer:?}");
    }
    for expected in [Outcome::Done, Outcome::Repeated] {
        let answer = paris.peer().execute(valid.clone()).await.expect("an answer");
        let CommandOutcome::Executed { outcome, .. } = answer.outcome else { panic!("{answer:?}") };
        assert_eq!(outcome, expected);
    }
    assert_eq!(paris.sum(1).await, 11);
}

/// A transport that forwards no commands implements the other methods only.
#[tokio::test]
async fn a_transport_that_forwards_no_commands_is_an_error() {
    #[derive(Debug)]
    struct Old(LocalPeer);

    #[async_trait]
    impl Peer for Old {
        fn name(&self) -> &str {
            self.0.name()
        }
        async fn pull(&self, pull: Pull) -> Result<Page, PeerError> {
            self.0.pull(pull).await
        }
        async fn confirm(&self, claim: Claim) -> Result<Confirmation, PeerError> {
            self.0.confirm(claim).await
        }
    }

    let (paris, oslo) = paris_and_oslo().await;
    let old: Arc<dyn Peer> = Arc::new(Old(LocalPeer::new("paris", paris.replica.source())));
    let at_oslo = ForwardingRepository::new(&oslo.replica, Arc::clone(&oslo.accounts), [Arc::clone(&old)]);
    let error = at_oslo.execute(&1, Pay(1), command_id("a")).await.expect_err("not forwarded");
    assert!(matches!(error, ForwardError::Unreachable { .. }), "{error:?}");
    let till = Arc::clone(&oslo.tills);
    let tills = ForwardingRepository::new(&oslo.replica, till, [old]);
    let error = tills.execute(&"paris/1".to_owned(), Pay(1), command_id("a")).await.expect_err("not forwarded");
    assert!(matches!(error, ForwardError::Unreachable { .. }), "{error:?}");
}

/// The source of a node that opens its store refuses commands.
#[tokio::test]
async fn a_node_that_is_not_open_executes_nothing() {
    let options = es_replication::ReplicaOptions::new("paris");
    let peer = LocalPeer::new("paris", options.source());
    assert!(peer.homes().now_or_never().is_some_and(|homes| homes.is_err()));
}

/// What happens to the messages of a peer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Cut {
    Nothing,
    BeforeSending,
    AfterExecution,
    /// The peer receives nothing, and does not answer.
    Silent,
    /// The items of a page are sent in the reverse order.
    Reverses,
}

#[derive(Debug)]
struct CutPeer {
    peer: Arc<dyn Peer>,
    cut: Cut,
}

fn unreachable() -> PeerError {
    PeerError::Unreachable("the link is cut".into())
}

#[async_trait]
impl Peer for CutPeer {
    fn name(&self) -> &str {
        self.peer.name()
    }

    async fn pull(&self, pull: Pull) -> Result<Page, PeerError> {
        let mut page = self.peer.pull(pull).await?;
        if self.cut == Cut::Reverses {
            page.items.reverse();
            // The first commit is the last hand-over.
            assert!(matches!(page.items.first(), Some(Item::Commit(_))));
        }
        Ok(page)
    }

    async fn confirm(&self, claim: Claim) -> Result<Confirmation, PeerError> {
        self.peer.confirm(claim).await
    }

    async fn homes(&self) -> Result<Vec<OriginId>, PeerError> {
        if self.cut == Cut::BeforeSending { Err(unreachable()) } else { self.peer.homes().await }
    }

    async fn execute(&self, command: ForwardedCommand) -> Result<CommandAnswer, SendError> {
        match self.cut {
            Cut::BeforeSending => Err(SendError::NotSent(unreachable())),
            Cut::AfterExecution => {
                self.peer.execute(command).await?;
                Err(SendError::NoAnswer(unreachable()))
            }
            Cut::Silent => std::future::pending().await,
            Cut::Nothing | Cut::Reverses => self.peer.execute(command).await,
        }
    }
}

/// The aggregate declares an owner, so it needs no answer to conflicts.
#[test]
fn the_declaration_says_who_decides() {
    assert!(Account::OWNER.is_some_and(|owner| owner.creator(&1).is_none()));
    assert_eq!(Account::CONFLICT, None);
    let creator = crate::domain::Till::OWNER.and_then(|owner| owner.creator(&"paris/1".to_owned()));
    assert_eq!(creator.as_deref(), Some("paris"));
}
