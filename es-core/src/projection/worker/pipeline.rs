//! [`Pipeline`]: the state that the workers of one generation share.

use std::sync::Arc;

use tokio::sync::RwLock;

use super::control::Control;
use super::options::ProjectionOptions;
use super::parked::ParkedKey;
use super::progress::GenerationProgress;
use super::rows::RowKeys;
use super::status::ProjectionMonitor;
use crate::consumer::lease::HeldLease;
use crate::model::{Clock, Entropy};
use crate::store::implement::Replication;
use crate::store::{Commit, EventStore, StoredRow};

/// The conditions of every commit of a worker: the lease and the control row are unchanged.
#[derive(Debug, Clone)]
pub(crate) struct Fence {
    pub(crate) lease: HeldLease,
    pub(crate) control: StoredRow<Control>,
}

impl Fence {
    /// Adds the conditions to a commit.
    pub(crate) fn expect(&self, commit: Commit) -> Commit {
        self.control.expect(self.lease.expect(commit))
    }
}

/// The state that the workers of one generation share.
pub(crate) struct Pipeline<P> {
    pub(crate) store: Arc<dyn EventStore>,
    pub(crate) projection: Arc<P>,
    pub(crate) options: ProjectionOptions,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) entropy: Arc<dyn Entropy>,
    pub(crate) keys: RowKeys,
    pub(crate) fence: Fence,
    pub(crate) progress: Arc<GenerationProgress>,
    /// The replication of the store, if events are applied in canonical order.
    pub(crate) replication: Option<Arc<dyn Replication>>,
    pub(crate) monitor: Arc<ProjectionMonitor>,
    /// The keys whose events were retried when the workers started.
    pub(crate) retried: Vec<ParkedKey>,
    /// Workers hold this lock shared while they apply and commit. A worker whose commits conflict repeatedly holds it
    /// exclusively, so that its commit succeeds.
    pub(crate) commit_lock: RwLock<()>,
}
