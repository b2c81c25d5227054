//! [`ForwardingRepository`]: executes commands here if this node decides, and otherwise on the home.

use std::any::type_name;
use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use es_core::aggregate::{Outcome, Owned};
use es_core::model::{Context, OriginId, Version};
use es_core::store::Home;
use es_core::{Command, CommandId, Decide, Evolve, ExecuteError, Repository};
use futures_util::future::join_all;
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::time::{Instant, sleep, timeout_at};

use crate::command::{CommandOutcome, ForwardedCommand, MAX_CONTENT_BYTES};
use crate::error::{PeerError, SendError};
use crate::owner::ForwardError;
use crate::peer::Peer;
use crate::replica::Replica;
use crate::token::Token;

/// The pause before the home is looked for again while a hand-over is under way.
const PAUSE: Duration = Duration::from_millis(50);
/// The number of nodes to which a command is sent before the pause. Two nodes name each other as the home while a
/// hand-over is under way.
const MAX_HOPS: usize = 3;

/// A repository of an aggregate that declares `owner`. Commands are executed on this node if it is the home, and
/// otherwise forwarded to the home over the connection to the peer. Handles are cheap to clone.
///
/// The home executes only commands that it [accepts](Self::accept), from nodes that its server answers. It runs its own
/// `decide`, so all nodes must run the same version of the aggregate.
///
/// ```
/// # use std::{sync::Arc, time::Duration};
/// # use es_core::prelude::*;
/// # use es_core::store::memory::MemoryStore;
/// # use es_replication::{LocalPeer, Peer, Replica, ReplicaOptions, ForwardingRepository};
/// # use serde::{Deserialize, Serialize};
/// # #[derive(Clone, Debug, PartialEq, Serialize, Deserialize, Event)]
/// # #[event(name = "deposited")]
/// # struct Deposited(u64);
/// #[derive(Clone, Debug, Aggregate)]
/// #[aggregate(category = "account", id = u64, event = Deposited, consistency = "causal", owner)]
/// struct Account(u64);
/// # impl Evolve for Account {
/// #     fn initial(_: &u64) -> Self { Self(0) }
/// #     fn evolve(&mut self, event: &Deposited, _: &EventContext<'_>) { self.0 += event.0; }
/// # }
/// #[derive(Clone, Serialize, Deserialize)]
/// struct Deposit(u64);
/// # impl Decide<Deposit> for Account {
/// #     type Rejection = String;
/// #     fn decide(&self, deposit: Deposit, _: &CommandContext<'_, Self>) -> Result<Decision<Self>, String> {
/// #         Ok(Deposited(deposit.0).into())
/// #     }
/// # }
/// # tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_time().build()?.block_on(async {
/// # let open = async |name: &str| {
/// #     let options = ReplicaOptions::new(name).aggregate::<Account>()?;
/// #     let store: Arc<dyn EventStore> = Arc::new(MemoryStore::new().with_hook(options.hook()).await?);
/// #     let replica = Replica::new(store.clone())?;
/// #     Ok::<_, Box<dyn std::error::Error>>((replica, Arc::new(Repository::<Account>::new(store))))
/// # };
/// # let (paris, accounts_of_paris) = open("paris").await?;
/// # let (oslo, accounts_of_oslo) = open("oslo").await?;
/// // On every node.
/// let to_oslo: Arc<dyn Peer> = Arc::new(LocalPeer::new("oslo", oslo.source()));
/// let accounts_of_paris = ForwardingRepository::new(&paris, accounts_of_paris, [to_oslo]).accept::<Deposit>();
/// let to_paris: Arc<dyn Peer> = Arc::new(LocalPeer::new("paris", paris.source()));
/// let accounts_of_oslo =
///     ForwardingRepository::new(&oslo, accounts_of_oslo, [to_paris.clone()]).accept::<Deposit>();
///
/// // Paris writes the first event of account 7, so Paris decides.
/// accounts_of_paris.execute(&7, Deposit(10), CommandId::new("first")?).await?;
/// oslo.pull(&*to_paris, Duration::ZERO).await?;
/// let forwarded = accounts_of_oslo.execute(&7, Deposit(5), CommandId::new("second")?).await?;
/// assert_eq!(forwarded.node.as_deref(), Some("paris"));
///
/// // Oslo reads the write once it has the events of the token.
/// oslo.pull(&*to_paris, Duration::ZERO).await?;
/// oslo.wait_for(&forwarded.token, Duration::from_secs(5)).await?;
/// assert_eq!(accounts_of_oslo.repository().load(&7).await?.state.0, 15);
/// # Ok::<(), Box<dyn std::error::Error>>(()) })?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub struct ForwardingRepository<A> {
    repository: Arc<Repository<A>>,
    replica: Replica,
    peers: Vec<Arc<dyn Peer>>,
    timeout: Duration,
    /// The peers that decide for an origin, by their index.
    routes: Arc<Mutex<BTreeMap<OriginId, usize>>>,
}

impl<A> Clone for ForwardingRepository<A> {
    fn clone(&self) -> Self {
        Self {
            repository: Arc::clone(&self.repository),
            replica: self.replica.clone(),
            peers: self.peers.clone(),
            timeout: self.timeout,
            routes: Arc::clone(&self.routes),
        }
    }
}

impl<A> fmt::Debug for ForwardingRepository<A> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ForwardingRepository")
            .field("aggregate", &type_name::<A>())
            .field("peers", &self.peers)
            .field("timeout", &self.timeout)
            .finish_non_exhaustive()
    }
}

/// The result of a command, on this node or on another one.
#[derive(Debug, Clone)]
pub struct Forwarded {
    /// The kind of the result.
    pub outcome: Outcome,
    /// The version of the aggregate after the command, or `None` if it has no events.
    pub version: Option<Version>,
    /// What the home had after the command. To read the write on this node, [wait](Replica::wait_for) for it, or merge
    /// it into the token of the [session](crate::Session).
    pub token: Token,
    /// The name of the peer that executed the command; `None` if this node did.
    pub node: Option<String>,
}

impl<A: Owned + Evolve> ForwardingRepository<A> {
    /// How long a command waits by default.
    pub const TIMEOUT: Duration = Duration::from_secs(5);

    /// Returns a repository on a node. `peers` are the other nodes that may be a home.
    #[must_use]
    pub fn new(
        replica: &Replica,
        repository: Arc<Repository<A>>,
        peers: impl IntoIterator<Item = Arc<dyn Peer>>,
    ) -> Self {
        Self {
            repository,
            replica: replica.clone(),
            peers: peers.into_iter().collect(),
            timeout: Self::TIMEOUT,
            routes: Arc::default(),
        }
    }

    /// Sets how long a command waits: for the answer of the home, and for the end of a hand-over that is under way. The
    /// default is [`TIMEOUT`](Self::TIMEOUT).
    #[must_use]
    pub const fn with_timeout(mut self, timeout: Duration) -> Self {
        self.timeout = timeout;
        self
    }

    /// Executes commands of type `C` that other nodes forward to this node, if it decides on the aggregate.
    #[must_use]
    pub fn accept<C>(self) -> Self
    where
        A: Decide<C, Rejection: Serialize>,
        C: Command + Serialize + DeserializeOwned + 'static,
    {
        self.replica.source().handlers().accept::<A, C>(Arc::clone(&self.repository));
        self
    }

    /// Returns the repository of this node, for loads, and for commands that must not be forwarded.
    #[must_use]
    pub const fn repository(&self) -> &Arc<Repository<A>> {
        &self.repository
    }

    /// Executes a command on the node that decides. The command id is required: without an answer, the caller does not
    /// know whether the command was executed, and repeats it with the same id. It counts once, also if the stream was
    /// handed over in the meantime.
    ///
    /// # Errors
    /// [`ForwardError`]; its method [`may_be_executed`](ForwardError::may_be_executed) says whether the command may
    /// have been executed.
    pub async fn execute<C>(
        &self,
        id: &A::Id,
        command: C,
        command_id: CommandId,
    ) -> Result<Forwarded, ForwardError<A::Rejection>>
    where
        A: Decide<C, Rejection: DeserializeOwned>,
        C: Command + Serialize + DeserializeOwned,
    {
        let deadline = Instant::now() + self.timeout;
        let content = serde_json::to_vec(&command)?;
        if content.len() > MAX_CONTENT_BYTES {
            return Err(ForwardError::TooLong { found: content.len(), max: MAX_CONTENT_BYTES });
        }
        // Every node decides on the decoded content, so that the command id is bound to the same content everywhere.
        let command: C = serde_json::from_slice(&content)?;
        let mut request = self.request(id, type_name::<C>(), content.into(), command_id.clone());
        loop {
            // 1 here
            let execute = self.repository.execute(id, command.clone()).with_id(command_id.clone());
            let not_owner = match execute.await {
                Ok(executed) => {
                    let token = self.replica.token().await.map_err(|error| ForwardError::Failed(error.into()))?;
                    let version = executed.version();
                    return Ok(Forwarded { outcome: executed.outcome, version, token, node: None });
                }
                Err(ExecuteError::NotOwner(error)) => error,
                Err(error) => return Err(error.into()),
            };
            // 2 on the home that this node knows of, and then on the one that it names
            let mut home = not_owner.home.clone();
            for _ in 0..MAX_HOPS {
                let Some(peer) = self.find(&home, deadline).await? else { break };
                request.wait = deadline.saturating_duration_since(Instant::now());
                match self.send(peer, &request, deadline).await? {
                    Sent::Executed(forwarded) => return Ok(forwarded),
                    Sent::NotOwner(other) => self.forget(&std::mem::replace(&mut home, other)),
                }
            }
            // 3 again: the hand-over has not arrived at the next home
            let is_unknown = matches!(&home, Home::Node(name) if self.peers.iter().all(|peer| peer.name() != name));
            if is_unknown || Instant::now() + PAUSE >= deadline {
                return Err(ForwardError::NotOwner(not_owner));
            }
            sleep(PAUSE).await;
        }
    }

    fn request(&self, id: &A::Id, command_type: &str, command: Bytes, command_id: CommandId) -> ForwardedCommand {
        let context = Context::current();
        ForwardedCommand {
            category: A::CATEGORY.to_owned(),
            id: id.to_string(),
            command_type: command_type.to_owned(),
            command,
            command_id,
            correlation_id: context.map(|context| context.correlation_id),
            causation_id: context.and_then(|context| context.causation_id),
            wait: self.timeout,
        }
    }

    /// Sends a command to a peer.
    async fn send<R: DeserializeOwned>(
        &self,
        peer: &Arc<dyn Peer>,
        request: &ForwardedCommand,
        deadline: Instant,
    ) -> Result<Sent, ForwardError<R>> {
        let node = || peer.name().to_owned();
        let unanswered = |source| ForwardError::Unanswered { node: node(), source };
        let answer = match timeout_at(deadline, peer.execute(request.clone())).await {
            Ok(Ok(answer)) => answer,
            Ok(Err(SendError::NotSent(source))) => {
                return Err(ForwardError::Unreachable { home: Home::Node(node()), source });
            }
            Ok(Err(SendError::NoAnswer(source))) => return Err(unanswered(source)),
            Err(_) => return Err(unanswered(PeerError::Unreachable("the time of the command has expired".into()))),
        };
        let token = answer.token;
        match answer.outcome {
            CommandOutcome::Executed { outcome, version } => {
                Ok(Sent::Executed(Forwarded { outcome, version, token, node: Some(node()) }))
            }
            CommandOutcome::Rejected { rejection } => Err(ForwardError::Rejected(serde_json::from_slice(&rejection)?)),
            CommandOutcome::NotOwner { home } => Ok(Sent::NotOwner(home)),
            CommandOutcome::Refused { reason } => Err(ForwardError::Refused { node: node(), reason }),
            CommandOutcome::Failed { reason } => Err(unanswered(PeerError::Failed(reason))),
        }
    }

    /// Returns the peer that is a home; `None` if all peers answer and none is.
    async fn find<R>(&self, home: &Home, deadline: Instant) -> Result<Option<&Arc<dyn Peer>>, ForwardError<R>> {
        let origin = match home {
            Home::Node(name) => return Ok(self.peers.iter().find(|peer| peer.name() == name)),
            Home::Origin(origin) => *origin,
        };
        let known = self.routes.lock().unwrap_or_else(PoisonError::into_inner).get(&origin).copied();
        if let Some(peer) = known.and_then(|index| self.peers.get(index)) {
            return Ok(Some(peer));
        }
        let ask = |peer: &Arc<dyn Peer>| {
            let peer = Arc::clone(peer);
            async move {
                let late = |_| PeerError::Unreachable("the time of the command has expired".into());
                timeout_at(deadline, peer.homes()).await.map_err(late)?
            }
        };
        let mut failed = None;
        for (index, answer) in join_all(self.peers.iter().map(ask)).await.into_iter().enumerate() {
            match answer {
                Ok(origins) if origins.contains(&origin) => {
                    self.routes.lock().unwrap_or_else(PoisonError::into_inner).insert(origin, index);
                    return Ok(self.peers.get(index));
                }
                Ok(_) => {}
                Err(error) => failed = failed.or(Some(error)),
            }
        }
        match failed {
            Some(source) => Err(ForwardError::Unreachable { home: home.clone(), source }),
            None => Ok(None),
        }
    }

    /// Removes the route to a home that is none.
    fn forget(&self, home: &Home) {
        if let Home::Origin(origin) = home {
            self.routes.lock().unwrap_or_else(PoisonError::into_inner).remove(origin);
        }
    }
}

/// The answer of a peer that decided, or does not decide.
enum Sent {
    Executed(Forwarded),
    NotOwner(Home),
}
