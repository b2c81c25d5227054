//! [`Source`]: answers other nodes, also while its node opens its store.

use std::sync::Arc;

use es_core::model::{OriginId, Table};
use es_core::{EventStore, StoreError};
use es_personal::KeyState;
use tokio::sync::{Mutex, SetOnce, mpsc, oneshot};

use crate::command::{CommandAnswer, CommandOutcome, ForwardedCommand};
use crate::error::AnswerError;
use crate::frontiers::Frontiers;
use crate::keys::{KeyAnswerer, KeyRequest};
use crate::owner::Handlers;
use crate::page::{Claim, Confirmation, Page, Pull};
use crate::source::{self, LogSource};
use crate::token::Token;

/// The number of claims that wait for a node that opens its store.
const MAX_QUESTIONS: usize = 64;
/// Why a node that opens its store executes no command.
const NOT_OPEN: &str = "the store is not open yet";

/// Answers the requests of other nodes.
///
/// A source of [`Replica::source`](crate::Replica::source) answers at once. One of
/// [`ReplicaOptions::source`](crate::ReplicaOptions::source) answers claims while the store is being opened, and pulls
/// after [`Replica::with_source`](crate::Replica::with_source).
#[derive(Debug, Clone)]
pub struct Source {
    /// The log, once the store is open.
    log: Arc<SetOnce<LogSource>>,
    /// The way to the node while it opens its store. `None` if the store was open from the start.
    opening: Option<mpsc::Sender<Question>>,
    frontiers: Arc<Frontiers>,
    handlers: Arc<Handlers>,
    keys: KeyAnswerer,
}

/// A claim, and the way back to the member that asks.
#[derive(Debug)]
struct Question {
    claim: Claim,
    answer: oneshot::Sender<Result<Confirmation, AnswerError>>,
}

/// The claims that arrive while a node opens its store.
#[derive(Debug, Clone)]
pub(crate) struct Questions {
    receiver: Arc<Mutex<mpsc::Receiver<Question>>>,
    source: Source,
}

impl Source {
    /// Returns the source of an open store.
    pub(crate) fn new(log: LogSource) -> Self {
        let log = Arc::new(SetOnce::new_with(Some(log)));
        let keys = KeyAnswerer::default();
        Self { log, opening: None, frontiers: Arc::default(), handlers: Arc::default(), keys }
    }

    /// Answers from a log from now on. Has no effect if the source answers from a log already.
    pub(crate) fn open(&self, log: LogSource) {
        let _ = self.log.set(log);
    }

    /// Returns what this node knows of the other members.
    pub(crate) const fn frontiers(&self) -> &Arc<Frontiers> {
        &self.frontiers
    }

    /// Returns the page that answers a pull. If there is no new event, waits for one, for at most the time that the
    /// pull names. Waits as long for the store of the node to be opened.
    ///
    /// The pull and the page also report what the members know.
    ///
    /// # Errors
    /// - [`AnswerError::Departed`] if the node that pulls is no longer a member.
    /// - [`AnswerError::Store`] if the store fails, or is not opened in time.
    pub async fn page(&self, pull: &Pull) -> Result<Page, AnswerError> {
        let opened = tokio::time::timeout(pull.wait, self.log.wait()).await;
        let log = opened.map_err(|_| StoreError::io("answer a pull", std::io::Error::other(NOT_OPEN)))?;
        let group = log.group(&self.frontiers).await?;
        group.check_node(&pull.sender.node, Some(pull.sender.origin))?;
        self.frontiers.report_pull(pull, log.arrival());
        let page = log.page(pull, &group).await?;
        Ok(Page { reports: self.frontiers.reports_for(&pull.sender.node), ..page })
    }

    /// Returns the last event of an origin that this node has, for the member that wants to continue it. Pages that
    /// this node has requested but not yet stored are discarded: they may have an event that the member has lost, and
    /// that the answer does not name.
    ///
    /// A node that opens its store answers, too, before it has the answers to its own claims: only pulls store events
    /// of the origin of another node, and no pull runs yet. So nodes that open at the same time confirm each other.
    ///
    /// # Errors
    /// - [`AnswerError::Departed`] if the node that asks is no longer a member.
    /// - [`AnswerError::Commit`] and [`AnswerError::Store`] if the store fails.
    pub async fn confirm(&self, claim: Claim) -> Result<Confirmation, AnswerError> {
        tokio::select! {
            biased;
            log = self.log.wait() => log.confirm(claim).await,
            answer = self.ask(claim.clone()) => match answer {
                Some(answer) => answer,
                // The store has opened in the meantime.
                None => self.log.wait().await.confirm(claim).await,
            },
        }
    }

    /// Returns the origins for which this node decides, its present one first: see
    /// [`Replica::home_origins`](crate::Replica::home_origins).
    ///
    /// # Errors
    /// [`StoreError`] if the store fails, or is not open yet.
    pub async fn homes(&self) -> Result<Vec<OriginId>, StoreError> {
        match self.log.get() {
            Some(log) => log.homes().await,
            None => Err(StoreError::io("read the homes", std::io::Error::other(NOT_OPEN))),
        }
    }

    /// Executes a command that another node forwards, if this node accepts commands of its type and decides on the
    /// aggregate: see [`ForwardingRepository::accept`](crate::ForwardingRepository::accept).
    pub async fn execute(&self, command: &ForwardedCommand) -> CommandAnswer {
        let Some(log) = self.log.get() else {
            return CommandAnswer { outcome: CommandOutcome::refused(NOT_OPEN), token: Token::default() };
        };
        let outcome = self.handlers.execute(command).await;
        match log.token().await {
            Ok(token) => CommandAnswer { outcome, token },
            Err(error) => {
                let reason = error.to_string();
                CommandAnswer { outcome: CommandOutcome::Failed { reason }, token: Token::default() }
            }
        }
    }

    /// Returns a key of personal data that this node has, for a member that must open a value: see
    /// [`Replica::share_keys`](crate::Replica::share_keys). The key is never part of a [`Page`].
    ///
    /// # Errors
    /// - [`AnswerError::NotAMember`] if the node that asks is not a member now.
    /// - [`AnswerError::NoKeys`] if this node does not share its keys, or not yet.
    /// - [`AnswerError::Keys`] and [`AnswerError::Store`] if the key store or the store fails.
    pub async fn key(&self, request: &KeyRequest) -> Result<KeyState, AnswerError> {
        self.keys.answer(request, &self.frontiers).await
    }

    /// Returns what this node answers to requests for keys.
    pub(crate) const fn keys(&self) -> &KeyAnswerer {
        &self.keys
    }

    /// Returns the commands that this node accepts from other nodes.
    pub(crate) const fn handlers(&self) -> &Arc<Handlers> {
        &self.handlers
    }

    /// Asks the node that opens its store. Returns `None` if it no longer does.
    async fn ask(&self, claim: Claim) -> Option<Result<Confirmation, AnswerError>> {
        let (answer, answered) = oneshot::channel();
        self.opening.as_ref()?.send(Question { claim, answer }).await.ok()?;
        answered.await.ok()
    }
}

impl Questions {
    pub(crate) fn new() -> Self {
        let (sender, receiver) = mpsc::channel(MAX_QUESTIONS);
        let (frontiers, handlers) = (Arc::default(), Arc::default());
        let keys = KeyAnswerer::default();
        let source = Source { log: Arc::default(), opening: Some(sender), frontiers, handlers, keys };
        Self { receiver: Arc::new(Mutex::new(receiver)), source }
    }

    /// Returns the source whose claims these are.
    pub(crate) fn source(&self) -> Source {
        self.source.clone()
    }

    /// Answers claims from a store that is being opened, until this is dropped.
    pub(crate) async fn answer(&self, store: &dyn EventStore, table: &Table) -> ! {
        let mut receiver = self.receiver.lock().await;
        loop {
            match receiver.recv().await {
                // The member may have stopped waiting.
                Some(Question { claim, answer }) => drop(answer.send(source::confirm(store, table, claim).await)),
                None => std::future::pending().await,
            }
        }
    }
}
