//! [`Replica`]: a store that replicates the streams of some aggregates.
//!
//! - `options`: the name, the aggregates and the members.
//! - `start`: reads the rows of the replica, adopts older events, and decides whether to continue the last origin.
//! - `session`: the requests of a client. `wait`: waiting for what they have seen. `recover`: waiting for the events of
//!   the peers.
//! - `deletion`: [`Replica::delete`], [`Replica::erase`] and [`Replica::delete_stream`].
//! - `shared_keys`: [`Replica::share_keys`].
//! - `hand_over`: [`Replica::hand_over`] and the forced form. `forwarding`: forwards commands to the home of a stream.

mod deletion;
mod forwarding;
mod hand_over;
mod options;
mod recover;
mod session;
mod shared_keys;
pub(crate) mod start;
mod wait;

use std::sync::Arc;

use es_core::model::{Dot, HybridTime, LogPosition, OriginId, Table};
use es_core::{Commit, CommitError, EventStore, StoreError, StreamId};

pub use deletion::DeleteError;
pub use forwarding::{Forwarded, ForwardingRepository};
pub use options::ReplicaOptions;
pub use recover::{RecoverError, Recovered};
pub use session::{Session, SessionError};
pub use shared_keys::{KeyUnavailable, SharedKeys};
pub use wait::WaitError;

use crate::answer::Source;
use crate::erasure::is_erasure;
use crate::error::{PeerError, PullError, Refusal, StartError};
use crate::filter::StreamFilter;
use crate::group::Group;
use crate::hook::{self, ReplicaHook};
use crate::knowledge::Knowledge;
use crate::page::{Item, Page, Pull};
use crate::peer::Peer;
use crate::promise::Promise;
use crate::rows::{self, Progress};
use crate::source::{LogSource, confirmations, event_id, sender};
use crate::target::{Before, Start};

/// A store that replicates the streams of some aggregates. Handles are cheap to clone.
#[derive(Debug, Clone)]
pub struct Replica {
    pub(crate) store: Arc<dyn EventStore>,
    pub(crate) table: Table,
    /// The approximate size of a page, in bytes.
    max_page_bytes: u32,
    filter: StreamFilter,
    pub(crate) source: Source,
}

/// The result of a pull.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pulled {
    /// The number of events that were new.
    pub events: usize,
    /// The number of events that this node had received from another peer in the meantime.
    pub held: usize,
    /// The approximate size of all events of the page, in bytes.
    pub bytes: usize,
    /// Whether the peer had no further event.
    pub is_last: bool,
    /// What the peer knows.
    pub knowledge: Knowledge,
}

impl Replica {
    /// Returns the replica of a store that was opened with the [hook](ReplicaOptions::hook) of a replica.
    ///
    /// # Errors
    /// [`StartError::NoHook`] if the store was opened without it.
    pub fn new(store: Arc<dyn EventStore>) -> Result<Self, StartError> {
        if !store.runs_hook(hook::NAME) {
            return Err(StartError::NoHook);
        }
        let table = rows::table()?;
        let source = Source::new(LogSource::new(Arc::clone(&store), table.clone()));
        Ok(Self { store, table, max_page_bytes: Self::MAX_PAGE_BYTES, filter: StreamFilter::all(), source })
    }

    /// Replaces the source with one that was created before the store was opened; see [`ReplicaOptions::source`]. It
    /// answers pulls from now on.
    #[must_use]
    pub fn with_source(mut self, source: Source) -> Self {
        source.open(LogSource::new(Arc::clone(&self.store), self.table.clone()));
        self.source = source;
        self
    }

    /// The default size of a page, in bytes.
    pub const MAX_PAGE_BYTES: u32 = 1024 * 1024;

    /// Sets the approximate size of a page, in bytes. A page has at least one commit.
    #[must_use]
    pub const fn with_page_bytes(mut self, bytes: u32) -> Self {
        self.max_page_bytes = bytes;
        self
    }

    /// Sets the streams that this handle [pulls](Self::pull), [waits for](Self::wait_for) and
    /// [recovers](Self::recover). The default is all. Start a [`Link`](crate::Link) with a handle to set the filter of
    /// the link.
    ///
    /// The node *withholds* the other events: it knows of them, and gets them once a link selects them. So another link
    /// can deliver them, and a link whose filter becomes wider continues at the start of the log of its peer, which
    /// sends what is missing. The peer reads all of its replicated events whatever the filter selects.
    ///
    /// - An event is stored after its causes in the same stream, on every node.
    /// - Causes in other streams are stored before it, too, unless they are withheld at that time. They are then stored
    ///   after it.
    /// - A commit arrives whole as far as the filter selects its streams.
    /// - Do not write a stream that the node withholds, on a link or because its peers withhold it: the node would
    ///   decide without its events, and mark them as seen.
    #[must_use]
    pub fn with_filter(mut self, filter: StreamFilter) -> Self {
        self.filter = filter;
        self
    }

    /// Returns the store.
    #[must_use]
    pub const fn store(&self) -> &Arc<dyn EventStore> {
        &self.store
    }

    /// Returns the table of the rows of the replica.
    pub(crate) const fn table(&self) -> &Table {
        &self.table
    }

    /// Returns the origin of the events that this node decides.
    ///
    /// # Errors
    /// [`StoreError`] if the store fails.
    pub async fn origin(&self) -> Result<OriginId, StoreError> {
        let identity = rows::identity(&*self.store, &self.table).await?;
        identity.map(|identity| identity.origin).ok_or_else(|| rows::damaged("s", &[]))
    }

    /// Returns what this node knows of all origins.
    ///
    /// # Errors
    /// [`StoreError`] if the store fails.
    pub async fn knowledge(&self) -> Result<Knowledge, StoreError> {
        rows::knowledge(&*self.store, &self.table).await
    }

    /// Returns the source that answers the pulls of other nodes.
    #[must_use]
    pub fn source(&self) -> Source {
        self.source.clone()
    }

    /// Pulls one page from a peer and stores it. Waits until the peer has an event, for at most `wait`.
    ///
    /// Each commit of the origin becomes one commit. Events and progress are written together, so a pull that fails or
    /// is dropped is repeated without loss and without duplicates.
    ///
    /// # Errors
    /// - [`PullError::Peer`] if the peer does not answer.
    /// - [`PullError::Departed`] if the peer is no longer a member.
    /// - [`PullError::Outdated`] if a member reopened its store in the meantime. Pull again.
    /// - [`PullError::Refused`] if an event must not be stored; see [`Refusal`](crate::Refusal).
    /// - [`PullError::Commit`] and [`PullError::Store`] if the store fails.
    pub async fn pull(&self, peer: &dyn Peer, wait: std::time::Duration) -> Result<Pulled, PullError> {
        // ORDER: the progress before the knowledge, so that the knowledge has every event before the cursor.
        let before = Before {
            progress: self.store.row(&self.table, &rows::link_key(peer.name())).await?,
            confirmations: confirmations(&*self.store, &self.table).await?,
        };
        let cursor = self.cursor(before.progress.as_deref())?;
        let group = self.group().await?;
        group.check_node(peer.name(), None)?;
        let knowledge = rows::reported_knowledge(&*self.store, &self.table, &group).await?;
        let filter = self.filter.clone();
        let sender = sender(&*self.store, &self.table).await?;
        let pull = Pull { sender, knowledge, filter, cursor, max_bytes: self.max_page_bytes, wait };
        let page = self.request(peer, pull).await?;
        check_gaps(&page)?;
        self.check_ids(&page).await?;
        let promises = page.promises.clone();
        let (is_last, knowledge, received, bytes) = (page.is_last, page.knowledge.clone(), page.events(), page.bytes());
        let erased = erased_streams(&page);
        let start = Start { cursor: cursor.unwrap_or_else(|| None.into()), filter: self.filter.digest(), before };
        let commits = crate::target::commits(page, &self.table, peer.name(), start);
        match self.store_page(commits).await {
            Ok(events) => {
                self.delete_snapshots(&erased).await;
                self.receive(promises).await?;
                Ok(Pulled { events, held: received.saturating_sub(events), bytes, is_last, knowledge })
            }
            Err(PullError::Refused(refusal)) if refusal.is_of_order() => {
                // The next pull reads the log of the peer from its start.
                let commit = Commit::foreign().delete_row(self.table.clone(), rows::link_key(peer.name()));
                self.store.commit(commit).await?;
                Err(refusal.into())
            }
            Err(error) => Err(error),
        }
    }

    /// Sends a pull, and stores what the page reports of the members.
    pub(crate) async fn request(&self, peer: &dyn Peer, pull: Pull) -> Result<Page, PullError> {
        let node = pull.sender.node.clone();
        let frontiers = self.source.frontiers();
        let before = frontiers.last_report(peer.name());
        let page = peer.pull(pull).await?;
        self.group().await?.check_node(peer.name(), Some(page.sender.origin))?;
        let arrival = hook::arrival(&*self.store);
        frontiers.report_page(peer.name(), before, &page, arrival);
        // A peer could pass on reports of any number of invented names.
        let members = self.membership().members().await?;
        let is_other = |name: &String| *name != node && members.contains_key(name);
        for report in page.reports.iter().filter(|report| is_other(&report.sender.node)) {
            frontiers.report_relayed(report, arrival);
        }
        Ok(page)
    }

    /// Returns the members of the group.
    pub(crate) async fn group(&self) -> Result<Arc<Group>, StoreError> {
        LogSource::new(Arc::clone(&self.store), self.table.clone()).group(self.source.frontiers()).await
    }

    /// Adds the promises of a page whose events are stored.
    async fn receive(&self, promises: Vec<Promise>) -> Result<(), StoreError> {
        let replication = self.store.replication();
        match replication.as_deref().and_then(ReplicaHook::of) {
            Some(hook) => hook.receive(&*self.store, promises).await,
            None => Ok(()),
        }
    }

    /// Returns the settled time that was determined last.
    pub(crate) fn settled_time(&self) -> Option<HybridTime> {
        let replication = self.store.replication();
        replication.as_deref().and_then(ReplicaHook::of).and_then(|hook| hook.promises().settled())
    }

    /// Returns the cursor in the row of the progress of a link, or `None` to read from the start. Another filter may
    /// select events before the cursor.
    fn cursor(&self, row: Option<&[u8]>) -> Result<Option<LogPosition>, StoreError> {
        let progress = row.map(Progress::decode).transpose()?;
        Ok(progress.filter(|progress| progress.filter == self.filter.digest()).map(|progress| progress.cursor))
    }

    /// Checks that the events that both nodes have are the same.
    async fn check_ids(&self, page: &Page) -> Result<(), PullError> {
        for (dot, found) in &page.ids {
            match event_id(&*self.store, &self.table, *dot).await? {
                Some(expected) if expected != *found => {
                    return Err(Refusal::Forked { dot: *dot, expected, found: *found }.into());
                }
                _ => {}
            }
        }
        Ok(())
    }

    /// Writes the commits of a page, and returns the number of new events.
    async fn store_page(&self, commits: Vec<Commit>) -> Result<usize, PullError> {
        let mut events = 0;
        for result in self.store.commit_all(commits).await {
            let committed = result.map_err(|error: CommitError| PullError::from(error))?;
            if committed.repeated {
                return Err(StoreError::damaged("table es.replica", "a stored event has no row").into());
            }
            // The replica adds events of this node to an erasure.
            events += committed.events.iter().filter(|event| event.data.stamp.is_some()).count();
        }
        Ok(events)
    }
}

/// Returns the streams that events of a page erase.
fn erased_streams(page: &Page) -> Vec<StreamId> {
    let events = page.items.iter().flat_map(|item| match item {
        Item::Commit(events) => events.as_slice(),
        Item::Gap { .. } => &[],
    });
    events.filter(|event| is_erasure(&event.data)).map(|event| event.stream.clone()).collect()
}

/// Checks that a peer declares gaps only up to what it knows.
fn check_gaps(page: &Page) -> Result<(), PeerError> {
    let is_unknown = |item: &&Item| match **item {
        Item::Gap { origin, from, through, .. } => {
            from > through || !page.knowledge.clock().includes(Dot { origin, sequence: through })
        }
        Item::Commit(_) => false,
    };
    match page.items.iter().find(is_unknown) {
        Some(gap) => Err(PeerError::Invalid(format!("a gap of events that the peer does not know: {gap:?}"))),
        None => Ok(()),
    }
}
