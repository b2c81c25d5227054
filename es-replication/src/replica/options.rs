//! [`ReplicaOptions`]: what a replica replicates, and with whom.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use es_core::Aggregate;
use es_core::model::{Category, Clock, Entropy, NameError, SystemClock, SystemEntropy};

use crate::answer::{Questions, Source};
use crate::frontiers::DEFAULT_MAX_CLOCK_AHEAD;
use crate::owner::Owners;
use crate::peer::Peer;

/// The name, the aggregates and the members of a replica. See the [crate documentation](crate) for an example.
#[derive(Debug, Clone)]
pub struct ReplicaOptions {
    pub(crate) name: String,
    pub(crate) categories: BTreeSet<Category>,
    pub(crate) owners: Owners,
    pub(crate) members: Vec<Arc<dyn Peer>>,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) entropy: Arc<dyn Entropy>,
    pub(crate) max_clock_ahead: Duration,
    pub(crate) confirm_timeout: Duration,
    /// The claims of other nodes that open at the same time.
    pub(super) questions: Questions,
}

impl ReplicaOptions {
    /// Returns the options of the node with this name. The name is stored in the store, and appears in logs and errors.
    #[must_use]
    pub fn new(name: impl Into<String>) -> Self {
        Self {
            name: name.into(),
            categories: BTreeSet::new(),
            owners: Owners::default(),
            members: Vec::new(),
            clock: Arc::new(SystemClock::new()),
            entropy: Arc::new(SystemEntropy),
            max_clock_ahead: DEFAULT_MAX_CLOCK_AHEAD,
            confirm_timeout: Duration::from_secs(5),
            questions: Questions::new(),
        }
    }

    /// Adds an aggregate. Its streams are replicated if its consistency level is `causal` or `eventual`; the streams of
    /// other levels stay on this node. If it declares `owner`, this node refuses commits to streams that another node
    /// decides; declare it on all nodes.
    ///
    /// Events that the store has of the aggregate already are replicated, too. Only one store of a group may have such
    /// events, and all aggregates that have some must be declared when the replication begins. They may have neither
    /// rules nor deleted streams.
    ///
    /// # Errors
    /// [`NameError`] if the category is invalid, which the derive rejects.
    pub fn aggregate<A: Aggregate>(mut self) -> Result<Self, NameError> {
        if !A::CONSISTENCY.has_one_order() {
            self.owners.add::<A>(A::category()?);
            self.categories.insert(A::category()?);
        }
        Ok(self)
    }

    /// Adds another member of the group. When the store opens, every member is asked for the last event of this node
    /// that it has, until it answers or the [timeout](Self::with_confirm_timeout) expires. If a member does not answer,
    /// or knows more than this node, the node takes a new origin, so that it does not give an id to two events. A store
    /// that was restored from a backup always gets a new origin. Declare all other nodes, also those without a link: an
    /// event that only an undeclared node has is not found.
    ///
    /// Members that open at the same time answer each other if they listen with [`source`](Self::source) before they
    /// open their stores.
    #[must_use]
    pub fn member(mut self, peer: Arc<dyn Peer>) -> Self {
        self.members.push(peer);
        self
    }

    /// Sets the clock. The default is the clock of the operating system.
    #[must_use]
    pub fn with_clock(mut self, clock: Arc<dyn Clock>) -> Self {
        self.clock = clock;
        self
    }

    /// Sets the source of random numbers, from which origins are chosen.
    #[must_use]
    pub fn with_entropy(mut self, entropy: Arc<dyn Entropy>) -> Self {
        self.entropy = entropy;
        self
    }

    /// Sets how far the hybrid time of a foreign event, and that of a report that a peer passes on, may be ahead of the
    /// clock of this node. The default is 60 seconds.
    #[must_use]
    pub const fn with_max_clock_ahead(mut self, limit: Duration) -> Self {
        self.max_clock_ahead = limit;
        self
    }

    /// Sets how long the node waits for the answers of the members when it opens. The default is 5 seconds.
    #[must_use]
    pub const fn with_confirm_timeout(mut self, timeout: Duration) -> Self {
        self.confirm_timeout = timeout;
        self
    }

    /// Returns the source of the node. It can be served before the store is opened with the [hook](Self::hook): it
    /// answers the claims of other members while the hook is being prepared, and everything else once it is given to
    /// [`Replica::with_source`](crate::Replica::with_source). Use the options for one store only.
    #[must_use]
    pub fn source(&self) -> Source {
        self.questions.source()
    }
}
