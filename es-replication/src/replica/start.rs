//! Starts a replica: reads its rows, adopts events from before the replication, and decides whether the node continues
//! its last origin.

use std::collections::BTreeSet;
use std::num::NonZeroU64;
use std::sync::Arc;

use es_core::model::{Category, Dot, HybridTime, OriginId, Table};
use es_core::store::implement::PreparedHook;
use es_core::store::{LogRead, QueryItem};
use es_core::{Commit, EventReader, EventStore, Position, StoreError};
use futures_util::future::join_all;

use crate::error::StartError;
use crate::page::{Claim, Confirmation};
use crate::replica::hook::ReplicaHook;
use crate::replica::options::ReplicaOptions;
use crate::replica::rows::{self, Head, Identity, Known};
use crate::replica::state::State;
use crate::replica::{categories, scan};
use crate::source::event_id;

/// The number of adopted events whose rows are written in one commit.
const BATCH: usize = 1_000;

/// Starts a replica on a store, and returns its hook.
pub(crate) async fn start(store: &dyn EventStore, options: &ReplicaOptions) -> Result<PreparedHook, StartError> {
    let table = rows::table()?;
    // ORDER: the end of the log before the rows. If the log has grown since, the store prepares the hook again.
    let position = store.head().await?;
    let identity = identity(store, &table).await?;
    if let Some(identity) = &identity {
        check_identity(identity, options)?;
    }
    let origin = match &identity {
        // A restored backup has another log id. No answer of a member is enough then: a lost event may return with a
        // backup of another node.
        Some(identity)
            if identity.log_id == store.log_id() && is_confirmed(store, &table, identity.origin, options).await? =>
        {
            identity.origin
        }
        _ => new_origin(options),
    };
    if identity.as_ref().is_none_or(|identity| identity.origin != origin) {
        tracing::info!(node = options.name, %origin, before = ?identity.map(|before| before.origin), "new origin");
        let (format, log_id) = (Identity::FORMAT, store.log_id());
        let identity = Identity { format, name: options.name.clone(), origin, log_id };
        let value = serde_json::to_vec(&identity).map_err(|error| StoreError::io("write the identity", error))?;
        store.commit(Commit::new().put_row(table.clone(), rows::IDENTITY, value)).await?;
    }
    let mut state = read_state(store, &table, origin).await?;
    adopt(store, &table, &mut state, &options.categories).await?;
    let hook = ReplicaHook::new(table, Arc::clone(&options.clock), options.max_clock_ahead, state);
    Ok(PreparedHook { hook: Arc::new(hook), position })
}

/// Returns the identity of the replica of a store.
pub(crate) async fn identity(store: &dyn EventReader, table: &Table) -> Result<Option<Identity>, StoreError> {
    let Some(value) = store.row(table, rows::IDENTITY).await? else { return Ok(None) };
    serde_json::from_slice(&value).map(Some).map_err(|_| rows::damaged("s", &value))
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
    let numbers = std::iter::repeat_with(|| OriginId::new(options.entropy.next_u64()));
    numbers.into_iter().find(|origin| *origin != OriginId::GENESIS).unwrap_or(OriginId::new(1))
}

/// Returns `true` if every member confirms that this node has all events of an origin. One answer is not enough: a
/// silent member may have seen more.
async fn is_confirmed(
    store: &dyn EventStore,
    table: &Table,
    origin: OriginId,
    options: &ReplicaOptions,
) -> Result<bool, StoreError> {
    let questions = options
        .members
        .iter()
        .map(|member| async { tokio::time::timeout(options.confirm_timeout, member.confirm(Claim { origin })).await });
    for (member, answer) in options.members.iter().zip(join_all(questions).await) {
        let Ok(Ok(confirmation)) = answer else {
            tracing::info!(member = member.name(), "a member does not confirm the end of this node's events");
            return Ok(false);
        };
        if !confirms(store, table, confirmation).await? {
            tracing::warn!(member = member.name(), "a member has events of this node that the node has not");
            return Ok(false);
        }
    }
    Ok(true)
}

/// Returns `true` if the last event that a member has of an origin is also here.
async fn confirms(store: &dyn EventStore, table: &Table, confirmation: Confirmation) -> Result<bool, StoreError> {
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

async fn read_state(store: &dyn EventReader, table: &Table, own: OriginId) -> Result<State, StoreError> {
    let head = store.row(table, rows::HEAD).await?.map(|value| Head::decode(&value)).transpose()?;
    let head = head.unwrap_or(Head { generation: 0, time: HybridTime::from_bits(0), position: None });
    let mut state = State { own, head, origins: Default::default(), categories: categories(store, table).await? };
    for row in scan(store, table, rows::ORIGINS).await? {
        state.origins.insert(rows::origin_of(&row.key)?, Known::decode(&row.value)?);
    }
    Ok(state)
}

/// Adopts the events of replicated categories that have no stamp: all events of a category that was not replicated
/// before, and events that were written without the replica. Adds their rows, and those of the state.
async fn adopt(
    store: &dyn EventStore,
    table: &Table,
    state: &mut State,
    declared: &BTreeSet<Category>,
) -> Result<(), StartError> {
    let new: BTreeSet<Category> = declared.difference(&state.categories).cloned().collect();
    let since = state.head.position;
    let mut adopted = Adoption::new(state);
    adopted.read(store, table, new.clone(), None).await?;
    adopted.read(store, table, state.categories.clone(), since).await?;
    let Adoption { last, position, mut commit, .. } = adopted;
    if let Some(known) = last.filter(|last| state.origins.get(&OriginId::GENESIS) != Some(last)) {
        commit = commit.put_row(table.clone(), rows::origin_key(OriginId::GENESIS), known.encode());
        state.origins.insert(OriginId::GENESIS, known);
        state.head.time = state.head.time.max(known.time);
    }
    state.head = Head { generation: state.head.generation + 1, position: since.max(position), ..state.head };
    commit = commit.put_row(table.clone(), rows::HEAD, state.head.encode());
    for category in new {
        commit = commit.put_row(table.clone(), rows::category_key(category.as_str()), "");
        state.categories.insert(category);
    }
    store.commit(commit).await?;
    Ok(())
}

/// The events that are adopted, and the commit with the rows that are not written yet.
struct Adoption {
    /// The last adopted event.
    last: Option<Known>,
    position: Option<Position>,
    /// Whether another node has adopted events, so that this one must not.
    is_of_other_node: bool,
    commit: Commit,
}

impl Adoption {
    fn new(state: &State) -> Self {
        let last = state.origins.get(&OriginId::GENESIS).copied();
        Self { last, position: None, is_of_other_node: false, commit: Commit::new() }
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
                continue;
            }
            if self.last.is_some() && self.position.is_none() {
                // The sequences continue only if the earlier ones were adopted here, too.
                let first = Dot { origin: OriginId::GENESIS, sequence: NonZeroU64::MIN };
                self.is_of_other_node = !is_adopted_here(store, table, first).await?;
            }
            if self.is_of_other_node {
                return Err(StartError::TwoGeneses { stream: event.stream, position: event.position });
            }
            let sequence = self.last.map_or(NonZeroU64::MIN, |last| last.through.saturating_add(1));
            let time = HybridTime::at(event.recorded_at);
            self.last = Some(Known { through: sequence, time, id: Some(event.data.id) });
            self.position = self.position.max(Some(event.position));
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
}

/// Returns `true` if an event of the genesis origin was adopted from the log of this store.
async fn is_adopted_here(store: &dyn EventStore, table: &Table, dot: Dot) -> Result<bool, StoreError> {
    let Some(position) = store.row(table, &rows::dot_key(dot)).await? else { return Ok(false) };
    let Some(position) = Position::new(rows::number_of(&position)?.get()) else { return Ok(false) };
    Ok(store.row(table, &rows::genesis_key(position)).await?.is_some())
}
