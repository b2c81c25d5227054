//! The task that confirms the former origins of a node.
//!
//! ```text
//!   start beside a silent member --> new origin; the former one is unconfirmed, its streams are refused
//!   every link is current        --> confirm_homes --> true: the node decides on these streams again
//! ```

use std::sync::Arc;
use std::time::Duration;

use es_core::StoreError;
use es_core::model::ErrorChain;
use es_replication::{Link, LinkState, LinkStatus, Peer, Replica};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::sleep;

/// The interval at which the task checks the links.
const POLL: Duration = Duration::from_millis(200);
/// The pause after a failed confirmation. Each attempt writes a row on the members that answer.
const PAUSE: Duration = Duration::from_secs(10);

/// Starts the task, if the node has former origins that are not confirmed.
pub(crate) async fn start(
    replica: &Replica,
    peers: &[Arc<dyn Peer>],
    links: &[Link],
) -> Result<JoinSet<()>, StoreError> {
    let mut tasks = JoinSet::new();
    let unconfirmed = replica.unconfirmed_origins().await?;
    if !unconfirmed.is_empty() {
        tracing::warn!(
            ?unconfirmed,
            "this node has a new origin; it decides on its former streams of aggregates with an owner once every \
             member has confirmed that it has all of their events"
        );
        let links = links.iter().map(Link::watch).collect();
        tasks.spawn(confirm(replica.clone(), peers.to_vec(), links));
    }
    Ok(tasks)
}

/// Asks the members until they confirm. Asks only when it can succeed: no member is silent or has a further event.
async fn confirm(replica: Replica, peers: Vec<Arc<dyn Peer>>, links: Vec<watch::Receiver<LinkStatus>>) {
    let is_settled =
        |link: &watch::Receiver<LinkStatus>| matches!(link.borrow().state, LinkState::Current | LinkState::Departed);
    loop {
        while !links.iter().all(is_settled) {
            sleep(POLL).await;
        }
        match replica.confirm_homes(&peers).await {
            Ok(true) => {
                tracing::info!("every member has confirmed the former origins; this node decides on their streams");
                return;
            }
            Ok(false) => tracing::debug!("a member has events of this node that are not stored here yet"),
            Err(error) => tracing::debug!(error = %ErrorChain(&error), "the former origins are not confirmed yet"),
        }
        sleep(PAUSE).await;
    }
}
