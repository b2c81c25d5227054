//! [`OnePage`]: a peer for tests of what a replica does with a page.

use es_replication::{Claim, Confirmation, Page, Peer, PeerError, Pull};

/// A peer that answers every pull with one page.
#[derive(Debug)]
pub(crate) struct OnePage(pub(crate) Page);

#[async_trait::async_trait]
impl Peer for OnePage {
    fn name(&self) -> &str {
        "one-page"
    }
    async fn pull(&self, _: Pull) -> Result<Page, PeerError> {
        Ok(self.0.clone())
    }
    async fn confirm(&self, _: Claim) -> Result<Confirmation, PeerError> {
        Ok(Confirmation { last: None, is_retired: false })
    }
}
