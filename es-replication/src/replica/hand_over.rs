//! Handing a stream over to another node, and taking over the streams of a node that is lost.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use es_core::__private::home::{self, HandOver, NodeHomes, StreamHome};
use es_core::model::OriginId;
use es_core::store::RowScan;
use es_core::{Commit, CommitError, StoreError, StreamId};
use futures_util::future::join_all;

use crate::error::PeerError;
use crate::owner::HandOverError;
use crate::owner::start::{put_node, read_node};
use crate::page::Claim;
use crate::peer::Peer;
use crate::replica::Replica;
use crate::replica::start::{asked, confirms};

/// The maximum time in which a peer says for which origins it decides.
const HOME_TIMEOUT: Duration = Duration::from_secs(2);

impl Replica {
    /// Hands a stream over to another node. From now on this node refuses commands to it; the other node decides on
    /// them once the hand-over has arrived there, and with it everything that precedes it in the stream. Until then, no
    /// node decides.
    ///
    /// # Errors
    /// [`HandOverError`]: this node is not the home, the stream has no events, or the other node is not reachable.
    pub async fn hand_over(&self, stream: &StreamId, to: &dyn Peer) -> Result<(), HandOverError> {
        let origins = to.homes().await?;
        let to = origins.first().ok_or_else(|| PeerError::Invalid("the peer decides for no origin".to_owned()))?;
        self.assign(stream, *to, false).await
    }

    /// Makes this node the home of a stream without its present home, which must be lost. Has no effect if this node is
    /// the home.
    ///
    /// If the other node is alive, both decide until it receives this event, and the events of both count: they are
    /// folded in canonical order. Events of the lost node that have not reached this node are not seen by later
    /// decisions, even if they arrive from a third node. So wait for the events of all reachable nodes first: see
    /// [`recover`](Self::recover).
    ///
    /// # Errors
    /// [`HandOverError`]: the stream has no events on this node, or its aggregate does not declare `owner`.
    pub async fn take_over(&self, stream: &StreamId) -> Result<(), HandOverError> {
        let node = self.node_homes().await?;
        let own = self.origin().await?;
        match self.home(stream).await? {
            Some(home) if node.origins.contains(&home) => Ok(()),
            _ => self.assign(stream, own, true).await,
        }
    }

    async fn assign(&self, stream: &StreamId, to: OriginId, forced: bool) -> Result<(), HandOverError> {
        let row = self.store().row(&home::table(), &home::stream_key(stream)).await?;
        let last = row.map(|row| StreamHome::decode(&row)).transpose()?;
        let last = last.ok_or_else(|| HandOverError::NoEvents { stream: stream.clone() })?;
        if last.origin == to {
            return Ok(());
        }
        let event = HandOver { to, epoch: last.epoch.saturating_add(1), forced }.encode()?;
        self.store().commit(Commit::new().append(stream.clone(), event)).await?;
        tracing::info!(%stream, %to, forced, "a stream was handed over");
        Ok(())
    }

    /// Returns the origin whose node decides on a stream, as far as this node knows; `None` if the stream has no events
    /// here, or its aggregate does not declare `owner`.
    ///
    /// # Errors
    /// [`StoreError`] if the store fails.
    pub async fn home(&self, stream: &StreamId) -> Result<Option<OriginId>, StoreError> {
        let row = self.store().row(&home::table(), &home::stream_key(stream)).await?;
        Ok(row.map(|row| StreamHome::decode(&row)).transpose()?.map(|home| home.origin))
    }

    /// Returns the next streams after a stream, or the first ones, each with the origin whose node decides. For taking
    /// over all streams of a lost node. A page with fewer than `limit` streams is the last one.
    ///
    /// # Errors
    /// [`StoreError`] if the store fails.
    pub async fn homes(&self, after: Option<&StreamId>, limit: usize) -> Result<Vec<(StreamId, OriginId)>, StoreError> {
        let after = after.map_or_else(|| Bytes::from_static(NodeHomes::KEY), home::stream_key);
        let scan = RowScan { after: Some(after), ..RowScan::new(home::table(), Bytes::new(), limit) };
        let mut homes = Vec::new();
        for row in self.store().rows(scan).await? {
            if let Some(stream) = home::stream_of(&row.key)? {
                homes.push((stream, StreamHome::decode(&row.value)?.origin));
            }
        }
        Ok(homes)
    }

    /// Returns the origins for which this node decides: its present one first, then former ones.
    ///
    /// A node that starts with a new origin may have lost events, so it is not the home of its former streams until the
    /// members have [confirmed](Self::confirm_homes) that it has all of them.
    ///
    /// # Errors
    /// [`StoreError`] if the store fails.
    pub async fn home_origins(&self) -> Result<Vec<OriginId>, StoreError> {
        Ok(self.node_homes().await?.origins)
    }

    /// Returns the former origins of this node whose streams it does not decide, because no confirmation has said that
    /// it has all of their events. See [`confirm_homes`](Self::confirm_homes).
    ///
    /// # Errors
    /// [`StoreError`] if the store fails.
    pub async fn unconfirmed_origins(&self) -> Result<Vec<OriginId>, StoreError> {
        Ok(self.node_homes().await?.unconfirmed)
    }

    /// Returns the name of the node that decides for an origin: this node, the member whose last report has the origin,
    /// or the peer whose answer names it. Waits for the peers, for at most 2 seconds. Returns `None` if none of them
    /// decides.
    ///
    /// # Errors
    /// [`StoreError`] if the store fails.
    pub async fn node_that_decides(
        &self,
        origin: OriginId,
        peers: &[Arc<dyn Peer>],
    ) -> Result<Option<String>, StoreError> {
        let own = self.node_homes().await?;
        if own.origins.contains(&origin) {
            return Ok(Some(own.node));
        }
        let (_, reports) = self.reports().await?;
        if let Some((member, _)) = reports.iter().find(|(_, report)| report.origin == origin) {
            return Ok(Some(member.clone()));
        }
        let answers = peers.iter().map(|peer| tokio::time::timeout(HOME_TIMEOUT, peer.homes()));
        let answers = peers.iter().zip(join_all(answers).await);
        let decides = answers.into_iter().find_map(|(peer, answer)| match answer {
            Ok(Ok(origins)) if origins.contains(&origin) => Some(peer.name().to_owned()),
            _ => None,
        });
        Ok(decides)
    }

    /// Asks all other members whether this node has every event of its former origins, and if so decides on their
    /// streams again. Returns `true` if this node then decides for all of its former origins. If it returns `false`, a
    /// member has events that this node has not received yet: pull, and call it again.
    ///
    /// `members` must be all other members; if the [membership](Self::membership) has another one, this returns
    /// `false`. Members that have departed are not asked. A node that was restored from a backup is not the home of its
    /// former streams: events may be lost that no member has. Use [`take_over`](Self::take_over).
    ///
    /// # Errors
    /// - [`HandOverError::Peer`] if a member does not answer.
    /// - [`HandOverError::Store`] if the store fails.
    pub async fn confirm_homes(&self, members: &[Arc<dyn Peer>]) -> Result<bool, HandOverError> {
        let before = self.node_homes().await?;
        let group = self.group().await?;
        let Some(members) = asked(&group, &before.node, members) else { return Ok(false) };
        for member in members {
            for origin in &before.unconfirmed {
                let claim = Claim { node: before.node.clone(), origin: *origin };
                let confirmation = member.confirm(claim).await?;
                // A retired origin counts, too: it has no events that a member lacks.
                if !confirms(&**self.store(), self.table(), confirmation).await? {
                    return Ok(false);
                }
            }
        }
        if before.unconfirmed.is_empty() {
            return Ok(true);
        }
        let mut after = before.clone();
        after.origins.append(&mut after.unconfirmed);
        let commit = Commit::new().expect_row(home::table(), NodeHomes::KEY, Some(before.encode()?));
        match self.store().commit(put_node(commit, &after)?).await {
            // Another call was faster.
            Ok(_) | Err(CommitError::Conflict(_)) => Ok(true),
            Err(error) => Err(error.into()),
        }
    }

    async fn node_homes(&self) -> Result<NodeHomes, StoreError> {
        let node = read_node(&**self.store()).await?;
        node.ok_or_else(|| StoreError::damaged("table es.homes", "no row of the node"))
    }
}
