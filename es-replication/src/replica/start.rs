//! Starts a replica: reads its rows, adopts events from before the replication, and decides whether the node continues
//! its last origin.

use std::collections::BTreeSet;
use std::num::NonZeroU64;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use es_core::model::{Category, Dot, ErrorChain, HybridTime, OriginId, Table};
use es_core::retention::{self, Scope};
use es_core::store::implement::{PrepareHook, PreparedHook};
use es_core::store::{LogRead, QueryItem};
use es_core::{Commit, EventReader, EventStore, Position, RecordedEvent, StoreError, StreamId};
use futures_util::future::join_all;

use crate::error::StartError;

use crate::group::{self, Group};
use crate::hook::{NAME, ReplicaHook, changed_scope};
use crate::owner;
use crate::page::{Claim, Confirmation};
use crate::peer::Peer;
use crate::promise::Promises;
use crate::replica::options::ReplicaOptions;
use crate::rows::{self, Head, Identity, Known};
use crate::source::event_id;
use crate::state::State;

/// The number of adopted events whose rows are written in one commit.
const BATCH: usize = 1_000;
/// The pause before a member that did not answer is asked again.
const ASK_PAUSE: Duration = Duration::from_millis(50);

impl ReplicaOptions {
    /// Returns the hook with which the store must be opened.
    #[must_use]
    pub fn hook(&self) -> impl PrepareHook + use<> {
        ReplicaSetup(self.clone())
    }
}

/// Prepares the hook of a replica for one store.
#[derive(Debug)]
struct ReplicaSetup(ReplicaOptions);

#[async_trait]
impl PrepareHook for ReplicaSetup {
    fn name(&self) -> &str {
        NAME
    }

    async fn prepare(&self, store: &dyn EventStore) -> Result<PreparedHook, Box<dyn std::error::Error + Send + Sync>> {
        let table = rows::table()?;
        // ORDER: the end of the log before the rows. If the log has grown since, the store prepares the hook again.
        let position = store.head().await?;
        let identity = rows::identity(store, &table).await?;
        // ORDER: the check before the answers. The store of another node must not answer in the name of this one.
        if let Some(identity) = &identity {
            check_identity(identity, &self.0)?;
        }
        tokio::select! {
            started = start(store, &table, &self.0, identity.as_ref()) => {
                Ok(PreparedHook { hook: Arc::new(started?), position })
            }
            never = self.0.questions.answer(store, &table) => never,
        }
    }
}

/// Starts a replica on a store, and returns its hook.
async fn start(
    store: &dyn EventStore,
    table: &Table,
    options: &ReplicaOptions,
    identity: Option<&Identity>,
) -> Result<ReplicaHook, StartError> {
    check_end(store, table).await?;
    let group = group::read(store).await?;
    let origin = match identity {
        // A restored backup has another log id. No answer of a member is enough then: a lost event may return with a
        // backup of another node.
        Some(identity)
            if identity.log_id == store.log_id()
                && is_confirmed(store, table, identity.origin, options, &group).await? =>
        {
            identity.origin
        }
        _ => new_origin(options),
    };
    // A node that takes a new origin keeps the promises that it made before.
    let ceiling = identity.map_or(HybridTime::from_bits(0), |identity| identity.ceiling);
    let own_origins = write_origin(store, table, options, identity, origin, ceiling).await?;
    let mut state = read_state(store, table, origin, group).await?;
    adopt(store, table, &mut state, &options.categories).await?;
    owner::start::prepare(store, &options.owners).await?;
    let members = options.members.iter().map(|member| member.name().to_owned());
    let promises = (Promises::new(&options.name, members), ceiling);
    let (clock, owners) = (Arc::clone(&options.clock), options.owners.clone());
    Ok(ReplicaHook::new(table.clone(), clock, options.max_clock_ahead, own_origins, owners, state, promises))
}

/// Checks that the log has not lost events that the rows of the replica have.
async fn check_end(store: &dyn EventStore, table: &Table) -> Result<(), StartError> {
    let last = rows::head(store, table).await?.and_then(|head| head.position);
    let head = store.head().await?;
    match last.filter(|last| Some(*last) > head) {
        Some(position) => Err(StartError::LostEvents { position, head }),
        None => Ok(()),
    }
}

/// Writes the origin of the node and the members that it declares, unless they are written. Returns the present and
/// former origins of the node.
async fn write_origin(
    store: &dyn EventStore,
    table: &Table,
    options: &ReplicaOptions,
    before: Option<&Identity>,
    origin: OriginId,
    ceiling: HybridTime,
) -> Result<BTreeSet<OriginId>, StartError> {
    let homes = owner::start::read_node(store).await?;
    let next = owner::start::node_of(homes.clone(), before, &options.name, origin, store.log_id());
    let mut commit = Commit::new();
    if homes.as_ref() != Some(&next) {
        commit = owner::start::put_node(commit, &next)?;
    }
    let before = before.map(|identity| identity.origin);
    let mut own_origins = rows::own_origins(store, table).await?;
    if before != Some(origin) {
        tracing::info!(node = options.name, %origin, ?before, "new origin");
        let (format, log_id) = (Identity::FORMAT, store.log_id());
        let identity = Identity { format, name: options.name.clone(), origin, log_id, ceiling };
        let value = serde_json::to_vec(&identity).map_err(|error| StoreError::io("write the identity", error))?;
        commit = commit.put_row(table.clone(), rows::IDENTITY, value);
    }
    for own in before.into_iter().chain([origin]) {
        if own_origins.insert(own) {
            commit = commit.put_row(table.clone(), rows::own_origin_key(own), "");
        }
    }
    let declared: BTreeSet<&str> = options.members.iter().map(|member| member.name()).collect();
    let members = serde_json::to_vec(&declared).map_err(|error| StoreError::io("write the members", error))?;
    if store.row(table, rows::MEMBERS).await?.is_none_or(|before| before != members) {
        commit = commit.put_row(table.clone(), rows::MEMBERS, members);
    }
    if !commit.rows().is_empty() {
        store.commit(commit).await?;
    }
    Ok(own_origins)
}

fn check_identity(identity: &Identity, options: &ReplicaOptions) -> Result<(), StartError> {
    if identity.format != Identity::FORMAT {
        return Err(StartError::Format { expected: Identity::FORMAT, found: identity.format });
    }
    if identity.name != options.name {
        return Err(StartError::OtherNode { expected: options.name.clone(), found: identity.name.clone() });
    }
    Ok(())
}

fn new_origin(options: &ReplicaOptions) -> OriginId {
    // 0 is the number of `GENESIS`.
    OriginId::new(options.entropy.next_u64().max(1))
}

/// Returns `true` if every member confirms that this node has all events of an origin. One answer is not enough: a
/// silent member may have seen more.
async fn is_confirmed(
    store: &dyn EventStore,
    table: &Table,
    origin: OriginId,
    options: &ReplicaOptions,
    group: &Group,
) -> Result<bool, StoreError> {
    if group.is_retired(origin) {
        tracing::info!(%origin, "the origin was retired; this node takes a new one");
        return Ok(false);
    }
    let Some(members) = asked(group, &options.name, &options.members) else {
        tracing::info!("a member cannot be asked; this node takes a new origin");
        return Ok(false);
    };
    let claim = Claim { node: options.name.clone(), origin };
    let questions = members.iter().map(|member| tokio::time::timeout(options.confirm_timeout, ask(&***member, &claim)));
    for (member, answer) in members.iter().zip(join_all(questions).await) {
        let Ok(confirmation) = answer else {
            tracing::info!(member = member.name(), "a member did not answer; this node takes a new origin");
            return Ok(false);
        };
        if confirmation.is_retired || !confirms(store, table, confirmation).await? {
            tracing::warn!(
                member = member.name(),
                "a member has an event of this node that is not stored here, or its origin was retired; this node \
                 takes a new origin"
            );
            return Ok(false);
        }
    }
    Ok(true)
}

/// Returns the members that must confirm what a node has: those that it declares and that have not departed. Returns
/// `None` if the group has a member that the node does not declare.
pub(crate) fn asked<'a>(group: &Group, node: &str, declared: &'a [Arc<dyn Peer>]) -> Option<Vec<&'a Arc<dyn Peer>>> {
    let is_declared = |name: &str| name == node || declared.iter().any(|member| member.name() == name);
    if let Some(member) = group.counted().into_iter().find(|name| !is_declared(name)) {
        tracing::warn!(member, "a member is not declared, so it cannot be asked");
        return None;
    }
    Some(declared.iter().filter(|member| group.check_node(member.name(), None).is_ok()).collect())
}

/// Asks a member until it answers. A member that opens at the same time may listen later than this node.
async fn ask(member: &dyn Peer, claim: &Claim) -> Confirmation {
    loop {
        match member.confirm(claim.clone()).await {
            Ok(confirmation) => return confirmation,
            Err(error) => {
                tracing::debug!(member = member.name(), error = %ErrorChain(&error), "a member did not answer yet");
                tokio::time::sleep(ASK_PAUSE).await;
            }
        }
    }
}

/// Returns `true` if the last event that a member has of an origin is also here.
pub(crate) async fn confirms(
    store: &dyn EventStore,
    table: &Table,
    confirmation: Confirmation,
) -> Result<bool, StoreError> {
    let Some((dot, id)) = confirmation.last else { return Ok(true) };
    let known = store.row(table, &rows::origin_key(dot.origin)).await?;
    let through = known.map(|value| Known::decode(&value)).transpose()?.map(|known| known.through);
    if through < Some(dot.sequence) {
        return Ok(false);
    }
    // An event that was removed on one of the nodes cannot be compared.
    let own = event_id(store, table, dot).await?;
    Ok(own.is_none() || id.is_none() || own == id)
}

async fn read_state(
    store: &dyn EventReader,
    table: &Table,
    own: OriginId,
    group: Arc<Group>,
) -> Result<State, StoreError> {
    let head = store.row(table, rows::HEAD).await?.map(|value| Head::decode(&value)).transpose()?;
    let head = head.unwrap_or(Head { generation: 0, time: HybridTime::from_bits(0), position: None });
    Ok(State {
        own,
        head,
        origins: rows::origins(store, table).await?,
        categories: rows::categories(store, table).await?,
        group,
        erased: Arc::new(rows::erased(store, table).await?),
    })
}

/// Adopts the events of replicated categories that have no stamp: all events of a category that was not replicated
/// before, and events that were written without the replica. Adds their rows, and those of the state.
async fn adopt(
    store: &dyn EventStore,
    table: &Table,
    state: &mut State,
    declared: &BTreeSet<Category>,
) -> Result<(), StartError> {
    let mut new = BTreeSet::new();
    for category in declared {
        let row = store.row(table, &rows::category_key(category.as_str())).await?;
        if row.as_deref() != Some(rows::DECLARED) {
            new.insert(category.clone());
        }
    }
    check_retention(store, &new, &state.erased).await?;
    let since = state.head.position;
    let mut adopted = Adoption::new(store, table, state).await?;
    adopted.read(store, table, new.clone(), None).await?;
    let known = state.categories.difference(&new).cloned().collect();
    adopted.read(store, table, known, since).await?;
    let Adoption { last, last_position, mut commit } = adopted;
    if let Some(known) = last.filter(|last| state.origins.get(&OriginId::GENESIS) != Some(last)) {
        if !state.origins.contains_key(&OriginId::GENESIS)
            && let Some(mut homes) = owner::start::read_node(store).await?
        {
            // The node that had the events before the replication decides on their streams.
            homes.origins.push(OriginId::GENESIS);
            commit = owner::start::put_node(commit, &homes)?;
        }
        commit = commit.put_row(table.clone(), rows::origin_key(OriginId::GENESIS), known.encode());
        state.head.time = state.head.time.max(known.time);
        state.origins.insert(OriginId::GENESIS, known);
    }
    state.head = Head { generation: state.head.generation + 1, position: since.max(last_position), ..state.head };
    commit = commit.put_row(table.clone(), rows::HEAD, state.head.encode());
    for category in new {
        commit = commit.put_row(table.clone(), rows::category_key(category.as_str()), rows::DECLARED);
        state.categories.insert(category);
    }
    store.commit(commit).await?;
    Ok(())
}

/// Refuses categories with rules or deleted streams, which would hide events on this node only. A stream that was
/// erased on all nodes is deleted here, too.
async fn check_retention(
    store: &dyn EventStore,
    categories: &BTreeSet<Category>,
    erased: &BTreeSet<StreamId>,
) -> Result<(), StartError> {
    if categories.is_empty() {
        return Ok(());
    }
    let category = Category::new(retention::CATEGORY).map_err(|error| StoreError::io("name a category", error))?;
    let mut events = store.read_log(LogRead::category(category)).await?;
    while let Some(event) = events.next().await? {
        let is_erased = |scope: &Scope| matches!(scope, Scope::Stream(stream) if erased.contains(stream));
        if let Some(scope) = changed_scope(&event.stream, &event.data, categories).filter(|scope| !is_erased(scope)) {
            return Err(StartError::Retention { scope: scope.to_string() });
        }
    }
    Ok(())
}

/// The events that are adopted, and the commit with the rows that are not written yet.
struct Adoption {
    /// The last adopted event.
    last: Option<Known>,
    /// The position of the last adopted event. `None` if another node has adopted events, so that this one must not.
    last_position: Option<Position>,
    commit: Commit,
}

impl Adoption {
    async fn new(store: &dyn EventStore, table: &Table, state: &State) -> Result<Self, StoreError> {
        let last = state.origins.get(&OriginId::GENESIS).cloned();
        let mut last_position = None;
        if let Some(known) = &last {
            let dot = Dot { origin: OriginId::GENESIS, sequence: known.through };
            last_position = adopted_position(store, table, dot).await?;
        }
        Ok(Self { last, last_position, commit: Commit::new() })
    }

    /// Adopts the events without a stamp of these categories after a position.
    async fn read(
        &mut self,
        store: &dyn EventStore,
        table: &Table,
        categories: BTreeSet<Category>,
        after: Option<Position>,
    ) -> Result<(), StartError> {
        if categories.is_empty() {
            return Ok(());
        }
        let query = QueryItem { categories, ..QueryItem::new() };
        let mut events = store.read_log(LogRead::matching(query).after(after)).await?;
        while let Some(event) = events.next().await? {
            if event.data.stamp.is_some() {
                self.check_row(store, table, &event).await?;
                continue;
            }
            if self.last.is_some() && self.last_position.is_none() {
                return Err(StartError::TwoGeneses { stream: event.stream, position: event.position });
            }
            // The sequences follow the order of the log, as those of every origin.
            if self.last_position >= Some(event.position) {
                if adopted_here(store, table, event.position).await? {
                    continue;
                }
                return Err(StartError::LateAdoption { stream: event.stream, position: event.position });
            }
            self.last_position = Some(event.position);
            let sequence = self.last.as_ref().map_or(NonZeroU64::MIN, |last| last.through.saturating_add(1));
            let time = HybridTime::at(event.recorded_at);
            self.last = Some(Known { time, id: Some(event.data.id), ..Known::new(sequence) });
            let dot = Dot { origin: OriginId::GENESIS, sequence };
            let (position, number) = (event.position.get().to_be_bytes(), sequence.get().to_be_bytes());
            let commit = std::mem::take(&mut self.commit)
                .put_row(table.clone(), rows::dot_key(dot), position.to_vec())
                .put_row(table.clone(), rows::genesis_key(event.position), number.to_vec());
            self.commit = commit;
            if self.commit.rows().len() >= 2 * BATCH {
                store.commit(std::mem::take(&mut self.commit)).await?;
            }
        }
        Ok(())
    }

    /// Checks that a stamped event has a row. It has none if it was imported without the replica.
    async fn check_row(&self, store: &dyn EventStore, table: &Table, event: &RecordedEvent) -> Result<(), StartError> {
        let Some(stamp) = &event.data.stamp else { return Ok(()) };
        match store.row(table, &rows::dot_key(stamp.dot)).await? {
            Some(_) => Ok(()),
            None => Err(StartError::Imported { stream: event.stream.clone(), position: event.position }),
        }
    }
}

/// Returns the position of an event of the genesis origin that was adopted from the log of this store.
async fn adopted_position(store: &dyn EventStore, table: &Table, dot: Dot) -> Result<Option<Position>, StoreError> {
    let Some(row) = store.row(table, &rows::dot_key(dot)).await? else { return Ok(None) };
    let position = rows::position_of(&row)?;
    Ok(adopted_here(store, table, position).await?.then_some(position))
}

/// Returns `true` if the event at a position was adopted.
async fn adopted_here(store: &dyn EventStore, table: &Table, position: Position) -> Result<bool, StoreError> {
    Ok(store.row(table, &rows::genesis_key(position)).await?.is_some())
}
