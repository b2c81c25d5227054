//! [`Membership`]: the calls of an operator.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use es_core::model::ExpectedRevision;
use es_core::{Commit, CommitError, StoreError};

use crate::frontiers::Frontier;
use crate::group::{self, Change, Group, MAX_MEMBER_BYTES, MemberState, is_valid_name};
use crate::membership::decide::follow_ups;
use crate::replica::Replica;
use crate::rows;
use crate::source::sender;

/// The members of the group, and the calls that change them. See [`Replica::membership`].
#[derive(Debug, Clone)]
pub struct Membership {
    replica: Replica,
}

/// The membership was not changed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum MembershipError {
    /// No member has this name. Use one that the status shows.
    #[error("the group has no member {member:?}; use a name that the status shows")]
    NotAMember {
        /// The name.
        member: String,
    },
    /// A node cannot be retired by itself, because it is up. Let it leave, or retire it on another node.
    #[error("the node {member:?} cannot retire itself; let it leave, or retire it on another node")]
    OwnName {
        /// The name of this node.
        member: String,
    },
    /// The name is empty, too long or has control characters.
    #[error("expected 1 to {MAX_MEMBER_BYTES} bytes without control characters as the name of a member, found {0:?}")]
    InvalidName(String),
    /// The commit was rejected. Nothing has changed.
    #[error("could not write the change of the membership")]
    Commit(#[from] CommitError),
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl Replica {
    /// Returns the membership of the group, as this node knows it.
    ///
    /// Each call of an operator writes an event, which replicates like any other. Every node has the same members once
    /// it has the same events. Without such an event, the members are those that each node
    /// [declares](crate::ReplicaOptions::member); the first change records those of the node on which it is called.
    ///
    /// If the operators of two nodes change one member at the same time, [`retire`](Membership::retire) prevails over
    /// [`join`](Membership::join), and `join` over [`leave`](Membership::leave), on every node.
    #[must_use]
    pub fn membership(&self) -> Membership {
        Membership { replica: self.clone() }
    }
}

impl Membership {
    /// Adds a member before it is started, or cancels its departure. Has no effect if it is a member.
    ///
    /// A node that has left or was retired joins again as a new incarnation: reopen its store, if it is open. Declare
    /// it with [`ReplicaOptions::member`](crate::ReplicaOptions::member) on the nodes that pull from it, too.
    ///
    /// # Errors
    /// - [`MembershipError::InvalidName`] for an invalid name.
    /// - [`MembershipError::Commit`] and [`MembershipError::Store`] if the store fails.
    pub async fn join(&self, member: &str) -> Result<(), MembershipError> {
        if !is_valid_name(member) {
            return Err(MembershipError::InvalidName(member.to_owned()));
        }
        let change = Change::MemberJoined { member: member.to_owned() };
        self.change(|state| Ok((state != Some(MemberState::Joined)).then(|| change.clone())), member).await
    }

    /// Removes a member that is up. It has left once it and every other member have acknowledged that, and every other
    /// member has all of its events. From the acknowledgment on, it refuses commands on replicated aggregates. Has no
    /// effect if the member departs already.
    ///
    /// # Errors
    /// - [`MembershipError::NotAMember`] if no member has this name.
    /// - [`MembershipError::Commit`] and [`MembershipError::Store`] if the store fails.
    pub async fn leave(&self, member: &str) -> Result<(), MembershipError> {
        let change = Change::MemberLeaving { member: member.to_owned() };
        let decide = |state| match state {
            None => Err(MembershipError::NotAMember { member: member.to_owned() }),
            Some(MemberState::Joined) => Ok(Some(change.clone())),
            Some(_) => Ok(None),
        };
        self.change(decide, member).await
    }

    /// Removes a member that is down and does not come back. It is retired once every *remaining* member has
    /// acknowledged that: then it no longer counts for stability and for the confirmation of origins, and every node
    /// refuses it. Events that only it has are not in the group until it [joins](Self::join) again. Has no effect if
    /// the member is retired already, or has left.
    ///
    /// # Errors
    /// - [`MembershipError::NotAMember`] if no member has this name.
    /// - [`MembershipError::OwnName`] for the name of this node.
    /// - [`MembershipError::Commit`] and [`MembershipError::Store`] if the store fails.
    pub async fn retire(&self, member: &str) -> Result<(), MembershipError> {
        if sender(&*self.replica.store, &self.replica.table).await?.node == member {
            return Err(MembershipError::OwnName { member: member.to_owned() });
        }
        let change = Change::MemberRetiring { member: member.to_owned() };
        let decide = |state| match state {
            None => Err(MembershipError::NotAMember { member: member.to_owned() }),
            Some(MemberState::Joined | MemberState::Leaving) => Ok(Some(change.clone())),
            Some(_) => Ok(None),
        };
        self.change(decide, member).await
    }

    /// Returns the nodes of the group with their states, those that have departed included.
    ///
    /// # Errors
    /// [`StoreError`] if the store fails.
    pub async fn members(&self) -> Result<BTreeMap<String, MemberState>, StoreError> {
        let (group, founders) = (self.replica.group().await?, self.founders().await?);
        Ok(states(&group, founders))
    }

    /// Completes departures that every remaining member has acknowledged, and removes origins from the vector clocks
    /// that have no further event and that every member has. A [`Link`](crate::Link) calls it after each page. The
    /// first member by name does the work; on the others, the call has no effect.
    ///
    /// # Errors
    /// [`MembershipError::Commit`] and [`MembershipError::Store`] if the store fails.
    pub async fn advance(&self) -> Result<(), MembershipError> {
        loop {
            let (revision, group) = self.read().await?;
            if !group.is_founded() {
                return Ok(());
            }
            let (node, reports) = self.replica.reports().await?;
            let changes = follow_ups(&group, &node, &reports);
            if changes.is_empty() || self.write(revision, &changes).await? {
                return Ok(());
            }
        }
    }

    /// Writes the change that `decide` returns for the state of a member, if it returns one.
    async fn change(
        &self,
        decide: impl Fn(Option<MemberState>) -> Result<Option<Change>, MembershipError>,
        member: &str,
    ) -> Result<(), MembershipError> {
        let founders = self.founders().await?;
        loop {
            let (revision, group) = self.read().await?;
            let Some(change) = decide(states(&group, founders.clone()).get(member).copied())? else { return Ok(()) };
            let founded = Change::GroupFounded { members: founders.clone() };
            let changes = (!group.has_founders()).then_some(founded).into_iter().chain([change]);
            if self.write(revision, &changes.collect::<Vec<_>>()).await? {
                return Ok(());
            }
        }
    }

    /// Returns the last revision of the stream of the membership, and the group that includes it.
    async fn read(&self) -> Result<(ExpectedRevision, Arc<Group>), StoreError> {
        // ORDER: the revision before the group. A later event makes the commit fail, and the change is decided again.
        let revision = self.replica.store.revision(&group::stream()?).await?;
        let expected = revision.map_or(ExpectedRevision::NoStream, ExpectedRevision::Exact);
        Ok((expected, self.replica.group().await?))
    }

    /// Writes changes. Returns `false` if another event of the membership was written in the meantime.
    async fn write(&self, expected: ExpectedRevision, changes: &[Change]) -> Result<bool, MembershipError> {
        let events = changes.iter().map(Change::encode).collect::<Result<Vec<_>, _>>()?;
        match self.replica.store.commit(Commit::to(&group::stream()?, expected, events)).await {
            Ok(_) => {
                tracing::info!(?changes, "changed the membership");
                Ok(true)
            }
            Err(CommitError::Conflict(_)) => Ok(false),
            Err(error) => Err(error.into()),
        }
    }

    /// Returns the members without events of the membership: this node, and those that it declares.
    async fn founders(&self) -> Result<BTreeSet<String>, StoreError> {
        let Replica { store, table, .. } = &self.replica;
        let mut founders = rows::declared_members(&**store, table).await?;
        founders.insert(sender(&**store, table).await?.node);
        Ok(founders)
    }
}

/// Returns the states of all nodes. `founders` are the members if there is no event.
fn states(group: &Group, founders: BTreeSet<String>) -> BTreeMap<String, MemberState> {
    match group.is_founded() {
        true => group.members().map(|(name, state)| (name.to_owned(), state)).collect(),
        false => founders.into_iter().map(|name| (name, MemberState::Joined)).collect(),
    }
}

impl Replica {
    /// Returns the name of this node, and what all nodes have reported, this one included.
    pub(crate) async fn reports(&self) -> Result<(String, BTreeMap<String, Frontier>), StoreError> {
        let own = sender(&*self.store, &self.table).await?;
        let knowledge = rows::reported_knowledge(&*self.store, &self.table, &*self.group().await?).await?;
        let frontier = Frontier { knowledge: Arc::new(knowledge), origin: own.origin, reported_at: own.time };
        let mut reports = self.source.frontiers().all();
        reports.insert(own.node.clone(), frontier);
        Ok((own.node, reports))
    }
}
