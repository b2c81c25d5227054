//! [`Peer`]: another node, as this node reaches it.

use std::fmt;

use async_trait::async_trait;
use es_core::model::{ErrorChain, OriginId};
use es_personal::KeyState;

use crate::answer::Source;
use crate::command::{CommandAnswer, ForwardedCommand};
use crate::error::{PeerError, SendError};
use crate::keys::KeyRequest;
use crate::page::{Claim, Confirmation, Page, Pull};

/// Another node of the group. A transport implements it.
#[async_trait]
pub trait Peer: fmt::Debug + Send + Sync + 'static {
    /// Returns the name of the node.
    fn name(&self) -> &str;

    /// Returns the page that answers a pull; see [`Source::page`].
    ///
    /// # Errors
    /// [`PeerError`] if the peer does not answer.
    async fn pull(&self, pull: Pull) -> Result<Page, PeerError>;

    /// Returns the last event of an origin that the peer has; see [`Source::confirm`].
    ///
    /// # Errors
    /// [`PeerError`] if the peer does not answer.
    async fn confirm(&self, claim: Claim) -> Result<Confirmation, PeerError>;

    /// Returns the origins for which the peer decides; see [`Source::homes`]. The default is an error, for a transport
    /// that does not forward commands.
    ///
    /// # Errors
    /// [`PeerError`] if the peer does not answer.
    async fn homes(&self) -> Result<Vec<OriginId>, PeerError> {
        Err(not_forwarded())
    }

    /// Executes a command on the peer, if it is the home of the aggregate; see [`Source::execute`]. The default is an
    /// error, for a transport that does not forward commands.
    ///
    /// # Errors
    /// [`SendError`] if the peer does not answer. It says whether the command was sent.
    async fn execute(&self, command: ForwardedCommand) -> Result<CommandAnswer, SendError> {
        let _ = command;
        Err(SendError::NotSent(not_forwarded()))
    }

    /// Returns a key of personal data; see [`Source::key`]. The default is an error, for a transport that does not
    /// transfer keys. One that does must be encrypted and authenticate both sides, and must not log the answer.
    ///
    /// # Errors
    /// [`PeerError`] if the peer does not answer, or does not give keys to this node.
    async fn key(&self, request: KeyRequest) -> Result<KeyState, PeerError> {
        let _ = request;
        Err(PeerError::Failed("the transport of the peer does not transfer keys".to_owned()))
    }
}

fn not_forwarded() -> PeerError {
    PeerError::Failed("the transport of the peer does not forward commands".to_owned())
}

/// A node in the same process.
#[derive(Debug, Clone)]
pub struct LocalPeer {
    name: String,
    source: Source,
}

impl LocalPeer {
    /// Returns the node with this name and this source.
    #[must_use]
    pub fn new(name: impl Into<String>, source: Source) -> Self {
        Self { name: name.into(), source }
    }
}

#[async_trait]
impl Peer for LocalPeer {
    fn name(&self) -> &str {
        &self.name
    }

    async fn pull(&self, pull: Pull) -> Result<Page, PeerError> {
        self.source.page(&pull).await.map_err(|error| PeerError::Failed(error.to_string()))
    }

    async fn confirm(&self, claim: Claim) -> Result<Confirmation, PeerError> {
        self.source.confirm(claim).await.map_err(|error| PeerError::Failed(error.to_string()))
    }

    async fn homes(&self) -> Result<Vec<OriginId>, PeerError> {
        self.source.homes().await.map_err(|error| PeerError::Failed(error.to_string()))
    }

    async fn execute(&self, command: ForwardedCommand) -> Result<CommandAnswer, SendError> {
        Ok(self.source.execute(&command).await)
    }

    async fn key(&self, request: KeyRequest) -> Result<KeyState, PeerError> {
        self.source.key(&request).await.map_err(|error| PeerError::Failed(ErrorChain(&error).to_string()))
    }
}
