//! Sessions: the four guarantees on three nodes whose links are cut, views, and aggregates of one node.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use es_core::model::{Clock, SystemClock};
use es_core::prelude::*;
use es_core::projection::view::{View, Views};
use es_core::projection::{ProjectionHandle, ProjectionOptions, RunningProjections, StateView, Supervisor, WaitError};
use es_core::store::memory::MemoryStore;
use es_core::testing::ManualClock;
use es_replication::{LocalPeer, Replica, ReplicaOptions, Session, SessionError, StaleReplica, Token};
use serde::{Deserialize, Serialize};

/// The time after which a test fails that waits for something.
const PATIENCE: Duration = Duration::from_secs(20);
/// The timeout of a session that is expected to expire.
const SHORT: Duration = Duration::from_millis(30);

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, Event)]
#[event(name = "written")]
struct Written(String);

/// A text that every node may write.
#[derive(Clone, Debug, Aggregate)]
#[aggregate(category = "page", id = u64, event = Written, consistency = "causal", conflict = "canonical")]
struct PageText(String);

impl Evolve for PageText {
    fn initial(_: &u64) -> Self {
        Self(String::new())
    }
    fn evolve(&mut self, Written(text): &Written, _: &EventContext<'_>) {
        self.0.clone_from(text);
    }
}

/// A text of one node.
#[derive(Clone, Debug, Aggregate)]
#[aggregate(category = "draft", id = u64, event = Written)]
struct Draft(String);

impl Evolve for Draft {
    fn initial(_: &u64) -> Self {
        Self(String::new())
    }
    fn evolve(&mut self, Written(text): &Written, _: &EventContext<'_>) {
        self.0.clone_from(text);
    }
}

#[derive(Clone)]
struct Write(&'static str);

impl Decide<Write> for PageText {
    type Rejection = Infallible;
    fn decide(&self, Write(text): Write, _: &CommandContext<'_, Self>) -> Result<Decision<Self>, Infallible> {
        Ok(Written(text.to_owned()).into())
    }
}

impl Decide<Write> for Draft {
    type Rejection = Infallible;
    fn decide(&self, Write(text): Write, _: &CommandContext<'_, Self>) -> Result<Decision<Self>, Infallible> {
        Ok(Written(text.to_owned()).into())
    }
}

struct Texts;

impl StateView for Texts {
    type Aggregate = PageText;
    type Row = String;
    const VIEW: View<u64, String> = View::new("texts");
    fn row(page: &PageText) -> Option<String> {
        Some(page.0.clone())
    }
}

struct DraftTexts;

impl StateView for DraftTexts {
    type Aggregate = Draft;
    type Row = String;
    const VIEW: View<u64, String> = View::new("draft-texts");
    fn row(draft: &Draft) -> Option<String> {
        Some(draft.0.clone())
    }
}

/// A node that pulls only when the test says it, so that its links are cut in between.
struct Node {
    name: &'static str,
    store: MemoryStore,
    replica: Replica,
    pages: Repository<PageText>,
    drafts: Repository<Draft>,
}

/// Opens a node whose clock shows `seconds` after noon.
async fn node(name: &'static str, seconds: u64) -> Node {
    let clock = Arc::new(ManualClock::at("2026-01-31T12:00:00Z".parse().expect("a time")));
    clock.advance(Duration::from_secs(seconds));
    open(name, MemoryStore::with_clock(clock.clone()), clock).await
}

async fn open(name: &'static str, store: MemoryStore, clock: Arc<dyn Clock>) -> Node {
    let options = ReplicaOptions::new(name).aggregate::<PageText>().expect("a category").with_clock(clock);
    let store = store.with_hook(options.hook()).await.expect("started");
    let shared: Arc<dyn EventStore> = Arc::new(store.clone());
    let replica = Replica::new(Arc::clone(&shared)).expect("the store has the hook");
    Node { name, store, replica, pages: Repository::new(Arc::clone(&shared)), drafts: Repository::new(shared) }
}

impl Node {
    async fn pull(&self, from: &Self) {
        let peer = LocalPeer::new(from.name, from.replica.source());
        while !self.replica.pull(&peer, Duration::ZERO).await.expect("pulled").is_last {}
    }

    /// Continues a session whose token the client sent as text.
    fn session(&self, token: &str) -> Session {
        self.replica.session(serde_json::from_str(token).expect("a token")).with_timeout(PATIENCE)
    }

    /// Returns a session that has read on this node.
    async fn used_session(&self) -> Session {
        let session = self.new_session();
        self.read(&session).await;
        session
    }

    fn new_session(&self) -> Session {
        self.replica.session(Token::default())
    }

    async fn write(&self, session: &Session, text: &'static str) {
        session.run(self.pages.execute(&1, Write(text))).await.expect("continued").expect("executed");
    }

    async fn read(&self, session: &Session) -> String {
        session.run(self.pages.load(&1)).await.expect("continued").expect("loaded").state.0
    }

    /// Returns the text without a session.
    async fn text(&self) -> String {
        self.pages.load(&1).await.expect("loaded").state.0
    }

    /// Asserts that the node cannot continue the session before it has pulled.
    async fn assert_stale(&self, token: &str) {
        let session = self.session(token).with_timeout(SHORT);
        let read = session.run(self.pages.load(&1)).await.map(|loaded| loaded.expect("loaded").state.0);
        let Err(SessionError::Stale(StaleReplica { have, need, missing })) = &read else { panic!("read {read:?}") };
        assert!(!missing.is_empty() && missing.iter().all(|dot| need.includes(*dot) && !have.includes(*dot)));
    }

    /// Starts both projections.
    async fn project(&self) -> RunningProjections {
        let options = ProjectionOptions::new();
        let supervisor = Supervisor::new().projection(Texts, options).projection(DraftTexts, options);
        supervisor.start(self.shared()).await.expect("started")
    }

    fn shared(&self) -> Arc<dyn EventStore> {
        Arc::new(self.store.clone())
    }

    /// Reads a view in a session.
    async fn view<V>(&self, session: &Session, running: &RunningProjections) -> Result<Option<String>, SessionError>
    where
        V: StateView<Row = String, Aggregate: Aggregate<Id = u64>>,
    {
        let (handle, views, view) = (handle::<V>(running), Views::of::<V>(self.shared()), V::VIEW);
        session.view(handle, views.view(&view).get(&1)).await.map(|read| read.expect("read"))
    }
}

fn handle<V: StateView>(running: &RunningProjections) -> &ProjectionHandle {
    running.projection(V::VIEW.name()).expect("registered")
}

async fn text_of(session: &Session) -> String {
    serde_json::to_string(&session.token().await.expect("a token")).expect("serializes")
}

/// Runs `request` on a node whose link is cut at first, and repairs the link while the request waits.
async fn while_the_link_is_repaired<T>(request: impl Future<Output = T>, to: &Node, from: &Node) -> T {
    let repair = async {
        tokio::time::sleep(SHORT).await;
        to.pull(from).await;
    };
    tokio::join!(request, repair).0
}

#[tokio::test]
async fn a_session_reads_its_writes_on_another_node() {
    let (paris, oslo) = (node("paris", 0).await, node("oslo", 0).await);
    let session = paris.new_session();
    paris.write(&session, "mine").await;
    let token = text_of(&session).await;
    oslo.assert_stale(&token).await;
    let session = oslo.session(&token);
    let read = while_the_link_is_repaired(oslo.read(&session), &oslo, &paris).await;
    assert_eq!(read, "mine");
}

/// The event that was read originated on a third node.
#[tokio::test]
async fn a_session_does_not_read_an_older_state_on_another_node() {
    let (paris, oslo, rome) = (node("paris", 0).await, node("oslo", 0).await, node("rome", 0).await);
    let of_rome = rome.new_session();
    rome.write(&of_rome, "old").await;
    oslo.pull(&rome).await;
    rome.write(&of_rome, "new").await;
    paris.pull(&rome).await;
    let session = paris.new_session();
    assert_eq!(paris.read(&session).await, "new");
    let token = text_of(&session).await;
    oslo.assert_stale(&token).await;
    let session = oslo.session(&token);
    let read = while_the_link_is_repaired(oslo.read(&session), &oslo, &rome).await;
    assert_eq!(read, "new");
}

/// The clock of Oslo is late. Without the session, its write would precede that of Paris in canonical order.
#[tokio::test]
async fn the_writes_of_a_session_are_ordered_on_every_node() {
    let (paris, oslo, rome) = (node("paris", 30).await, node("oslo", 0).await, node("rome", 0).await);
    let session = paris.new_session();
    paris.write(&session, "first").await;
    let session = oslo.session(&text_of(&session).await);
    while_the_link_is_repaired(oslo.write(&session, "second"), &oslo, &paris).await;
    rome.pull(&oslo).await;
    paris.pull(&oslo).await;
    for node in [&paris, &oslo, &rome] {
        assert_eq!(node.text().await, "second", "node {}", node.name);
    }
}

/// Rome asks, the session reads the question in Paris and answers in Oslo, whose clock is late.
#[tokio::test]
async fn a_write_of_a_session_follows_what_it_has_read_on_every_node() {
    let (paris, oslo, rome) = (node("paris", 0).await, node("oslo", 0).await, node("rome", 30).await);
    rome.write(&rome.new_session(), "question").await;
    paris.pull(&rome).await;
    let session = paris.new_session();
    assert_eq!(paris.read(&session).await, "question");
    let session = oslo.session(&text_of(&session).await);
    while_the_link_is_repaired(oslo.write(&session, "answer"), &oslo, &paris).await;
    rome.pull(&oslo).await;
    paris.pull(&oslo).await;
    for node in [&paris, &oslo, &rome] {
        assert_eq!(node.text().await, "answer", "node {}", node.name);
    }
}

#[tokio::test]
async fn a_session_reads_a_view_that_has_its_events() {
    let (paris, oslo) = (node("paris", 0).await, node("oslo", 0).await);
    let session = paris.new_session();
    paris.write(&session, "mine").await;
    let token = text_of(&session).await;
    let running = oslo.project().await;
    let session = oslo.session(&token);
    let stale = oslo.view::<Texts>(&oslo.session(&token).with_timeout(SHORT), &running).await;
    assert!(matches!(stale, Err(SessionError::Stale(_))), "{stale:?}");
    let read = while_the_link_is_repaired(oslo.view::<Texts>(&session, &running), &oslo, &paris).await;
    assert_eq!(read.expect("continued"), Some("mine".to_owned()));

    // A projection that does not apply the next event of the session.
    handle::<Texts>(&running).admin().pause("test").await.expect("paused");
    let read = oslo.view::<Texts>(&oslo.session(&token), &running).await.expect("continued");
    assert_eq!(read, Some("mine".to_owned()), "the view has every event of the token");
    let session = oslo.session(&token).with_timeout(SHORT);
    oslo.write(&session, "newer").await;
    for session in [session, oslo.session(&text_of(&oslo.used_session().await).await).with_timeout(SHORT)] {
        let lagging = oslo.view::<Texts>(&session, &running).await;
        assert!(matches!(lagging, Err(SessionError::View(WaitError::Timeout { .. }))), "{lagging:?}");
    }
    handle::<Texts>(&running).admin().resume("test").await.expect("resumed");
    let read = oslo.view::<Texts>(&oslo.used_session().await.with_timeout(PATIENCE), &running).await;
    assert_eq!(read.expect("continued"), Some("newer".to_owned()));
}

/// The events of an aggregate of one node have no stamp: the token names the position in the log of the node.
#[tokio::test]
async fn a_session_covers_the_aggregates_of_one_node() {
    let paris = node("paris", 0).await;
    let running = paris.project().await;
    let older = paris.store.copy(paris.store.log_id());
    handle::<DraftTexts>(&running).admin().pause("test").await.expect("paused");
    let session = paris.new_session();
    session.run(paris.drafts.execute(&1, Write("draft"))).await.expect("continued").expect("executed");
    let token = text_of(&session).await;
    let lagging = paris.view::<DraftTexts>(&paris.session(&token).with_timeout(SHORT), &running).await;
    assert!(matches!(lagging, Err(SessionError::View(WaitError::Timeout { .. }))), "{lagging:?}");
    handle::<DraftTexts>(&running).admin().resume("test").await.expect("resumed");
    let read = paris.view::<DraftTexts>(&paris.session(&token), &running).await;
    assert_eq!(read.expect("continued"), Some("draft".to_owned()));

    // The log of another node says nothing of the position, and an older copy of this log lacks it.
    let oslo = node("oslo", 0).await;
    assert_eq!(oslo.read(&oslo.session(&token)).await, "");
    let copy = open("paris", older, Arc::new(SystemClock::new())).await;
    let lost = copy.session(&token).run(copy.drafts.load(&1)).await;
    assert!(matches!(lost, Err(SessionError::AheadOfLog(_))), "{lost:?}");
}

/// A request whose client has gone may have written.
#[tokio::test]
async fn a_session_includes_the_writes_of_a_request_that_was_dropped() {
    let (paris, oslo) = (node("paris", 0).await, node("oslo", 0).await);
    let session = paris.new_session();
    assert_eq!(session.token().await.expect("a token"), Token::default(), "nothing has run");
    let request = session.run(async {
        paris.pages.execute(&1, Write("mine")).await.expect("executed");
        std::future::pending::<()>().await;
    });
    tokio::time::timeout(SHORT, request).await.expect_err("dropped");
    oslo.assert_stale(&text_of(&session).await).await;
}
