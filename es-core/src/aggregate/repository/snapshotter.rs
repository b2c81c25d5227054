//! Takes snapshots in the background: a bounded queue and one task, which ends with its repository.

use std::sync::{Arc, OnceLock};

use tokio::runtime::Handle;
use tokio::sync::{mpsc, oneshot};

use crate::aggregate::Aggregate;
use crate::aggregate::repository::metrics::count_snapshot;
use crate::aggregate::snapshot::{Snapshot, Snapshots};
use crate::model::ErrorChain;
use crate::model::StreamId;
use crate::store::EventStore;

/// The maximum number of queued snapshots. If the queue is full, a snapshot is skipped and a later command requests it
/// again.
const QUEUE: usize = 64;

#[derive(Debug)]
pub(crate) struct Snapshotter<A> {
    store: Arc<dyn EventStore>,
    snapshots: Snapshots<A>,
    queue: OnceLock<mpsc::Sender<SnapshotJob<A>>>,
}

#[derive(Debug)]
enum SnapshotJob<A> {
    Take(StreamId, Snapshot<A>),
    Settle(oneshot::Sender<()>),
}

impl<A: Aggregate> Snapshotter<A> {
    pub(crate) fn new(store: Arc<dyn EventStore>, snapshots: Snapshots<A>) -> Self {
        Self { store, snapshots, queue: OnceLock::new() }
    }

    /// Queues a snapshot. Returns `false` if the queue is full.
    pub(crate) fn take(&self, runtime: &Handle, stream: &StreamId, snapshot: Snapshot<A>) -> bool {
        let queue = self.queue.get_or_init(|| {
            let (sender, receiver) = mpsc::channel(QUEUE);
            runtime.spawn(run(Arc::clone(&self.store), self.snapshots, receiver));
            sender
        });
        queue.try_send(SnapshotJob::Take(stream.clone(), snapshot)).is_ok()
    }

    /// Waits until all queued snapshots are taken.
    pub(crate) async fn settle(&self) {
        let Some(queue) = self.queue.get() else { return };
        let (done, settled) = oneshot::channel();
        if queue.send(SnapshotJob::Settle(done)).await.is_ok() {
            // An error means that the runtime has dropped the task, so there is nothing to wait for.
            let _ = settled.await;
        }
    }
}

async fn run<A: Aggregate>(
    store: Arc<dyn EventStore>,
    snapshots: Snapshots<A>,
    mut jobs: mpsc::Receiver<SnapshotJob<A>>,
) {
    while let Some(job) = jobs.recv().await {
        match job {
            SnapshotJob::Take(stream, snapshot) => {
                let taken = snapshots.store_and_prune(&*store, &stream, &snapshot).await;
                count_snapshot(A::CATEGORY, taken.is_ok());
                if let Err(error) = taken {
                    let (revision, error) = (snapshot.revision, ErrorChain(&error));
                    tracing::warn!(%stream, %revision, %error, "snapshot not taken");
                }
            }
            SnapshotJob::Settle(done) => {
                let _ = done.send(());
            }
        }
    }
}
