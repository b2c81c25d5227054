//! Changes of the builds of a view: create, retire, repartition and swap. Each change is one commit.

use serde_json::json;

use super::admin::ProjectionAdmin;
use super::control::{RebuildFrom, Request};
use super::metrics;
use super::options::{ProjectionOptions, RebuildErrors};
use super::parked::ParkedKey;
use super::pipeline::Fence;
use super::rows::{PAGE, Retired, RowKeys, decode, page, table};
use crate::consumer::lease::row_error;
use crate::model::Clock;
use crate::model::Position;
use crate::projection::settled::SettledMark;
use crate::projection::{
    Build, Checkpoint, Generation, Generations, Projection, applied, checkpoint, checkpoint_key, checkpoints_table,
    generations,
};
use crate::store::{Commit, CommitError, EventReader, EventStore, LogRead, StoreError, encode_row};

/// The role of a build.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum BuildRole {
    /// Readers read this build.
    Active,
    /// This build is to replace the active one.
    Building,
}

/// The builds of one round.
#[derive(Debug, Clone, Copy)]
pub(crate) struct RoundPlan {
    pub(crate) generations: Generations,
    /// Whether the events of the active build were applied in another order than that of this projection.
    has_other_order: bool,
}

impl RoundPlan {
    /// Returns whether workers follow the log for the active build. They do not if another version of the projection
    /// built it, because this version cannot read its rows, or if its events were applied in another order.
    pub(crate) fn is_active_followed<P: Projection>(&self) -> bool {
        self.generations.active.is_some_and(|build| build.version == P::VERSION) && !self.has_other_order
    }

    /// Returns the followed builds whose number of partitions differs from `partitions`.
    pub(crate) fn builds_to_repartition<P: Projection>(
        &self,
        partitions: u32,
    ) -> impl Iterator<Item = (BuildRole, Build)> {
        let active = self.generations.active.filter(|_| self.is_active_followed::<P>());
        let active = active.map(|build| (BuildRole::Active, build));
        let building = self.generations.building.map(|build| (BuildRole::Building, build));
        active.into_iter().chain(building).filter(move |(_, build)| build.partitions != partitions)
    }

    /// Returns the furthest checkpoint of the active build.
    pub(crate) async fn furthest_checkpoint(
        &self,
        store: &dyn EventReader,
        projection: &str,
    ) -> Result<Option<Position>, StoreError> {
        match &self.generations.active {
            Some(build) => furthest_checkpoint(store, projection, build).await,
            None => Ok(None),
        }
    }
}

/// Returns the furthest checkpoint among the partitions of a build.
pub(crate) async fn furthest_checkpoint(
    store: &dyn EventReader,
    projection: &str,
    build: &Build,
) -> Result<Option<Position>, StoreError> {
    let mut furthest = None;
    for partition in 0..build.partitions {
        furthest = furthest.max(checkpoint(store, projection, build.generation, partition).await?.position);
    }
    Ok(furthest)
}

/// A change of the builds, and the commit that writes it.
struct BuildChange<'a> {
    keys: &'a RowKeys,
    projection: &'static str,
    current: Generations,
    new: Generations,
    retired: Retired,
    commit: Commit,
}

impl<'a> BuildChange<'a> {
    fn new(
        keys: &'a RowKeys,
        projection: &'static str,
        current: Generations,
        fence: &Fence,
        clock: &dyn Clock,
    ) -> Self {
        let commit = fence.expect(Commit::new());
        Self { keys, projection, current, new: current, retired: Retired { at: clock.now() }, commit }
    }

    fn map(mut self, change: impl FnOnce(Commit) -> Commit) -> Self {
        self.commit = change(self.commit);
        self
    }

    /// Marks the rows of a build for removal.
    fn retire(&mut self, build: Option<Build>) -> Result<(), StoreError> {
        if let Some(build) = build {
            let row = encode_row(&self.retired)?;
            self.commit = std::mem::take(&mut self.commit).put_row(table(), self.keys.retired(build.generation), row);
        }
        Ok(())
    }

    /// Creates a build whose first event is the one after a position.
    fn create_build(&mut self, version: u32, partitions: u32, after: Option<Position>) -> Build {
        let build = Build { generation: self.new.next(), version, partitions };
        self.new.last = Some(build.generation);
        if after.is_some() {
            let commit = std::mem::take(&mut self.commit);
            self.commit = put_checkpoints(commit, self.projection, build.generation, partitions, after);
        }
        build
    }

    /// Appends an event to the audit stream.
    fn record(
        &mut self,
        admin: &ProjectionAdmin,
        event_type: &str,
        details: serde_json::Value,
    ) -> Result<(), StoreError> {
        let event = admin.audit_event(event_type, details)?;
        self.commit = std::mem::take(&mut self.commit).append(admin.audit_stream().clone(), event);
        Ok(())
    }

    /// Writes the change. Returns `false` after a conflict with another writer.
    async fn commit(self, store: &dyn EventStore) -> Result<bool, StoreError> {
        let commit = self.new.replace(self.projection, &self.current, self.commit)?;
        match store.commit(commit).await {
            Ok(_) => Ok(true),
            Err(CommitError::Conflict(_)) => Ok(false),
            Err(error) => Err(row_error(error)),
        }
    }
}

/// Serves the requests of the operator, and starts a rebuild if the projection has another version than the active
/// build.
///
/// Returns the builds to follow, or `None` if the builds were changed: the caller must then read the control row again.
pub(crate) async fn prepare<P: Projection>(
    store: &dyn EventStore,
    keys: &RowKeys,
    options: &ProjectionOptions,
    fence: &Fence,
    admin: &ProjectionAdmin,
    clock: &dyn Clock,
    is_canonical: bool,
) -> Result<Option<RoundPlan>, StoreError> {
    let current = generations(store, P::NAME).await?;
    let mut control = fence.control.value.clone().unwrap_or_default();
    let mut change = BuildChange::new(keys, P::NAME, current, fence, clock);
    let partitions = options.partitions;
    if change.new.active.is_none() {
        change.new.active = Some(change.create_build(P::VERSION, partitions, None));
    }
    let requests = std::mem::take(&mut control.requests);
    for request in &requests {
        let building = change.new.building.take();
        change.retire(building)?;
        match request {
            Request::CancelRebuild => {}
            Request::Reset => {
                let active = change.new.active;
                change.retire(active)?;
                change.new.active = Some(change.create_build(P::VERSION, partitions, None));
            }
            Request::RebuildAfterLateEvents => {
                change.new.building = Some(change.create_build(P::VERSION, partitions, None));
                let details = json!({ "reason": "events arrived below the settled time" });
                change.record(admin, "projection-rebuild-started", details)?;
            }
            // A position of the log is no place in canonical order.
            Request::Rebuild(from) => {
                let from = if is_canonical { RebuildFrom::Start } else { *from };
                let after = position_before(store, from).await?;
                change.new.building = Some(change.create_build(P::VERSION, partitions, after));
            }
        }
    }
    if !requests.is_empty() {
        control.sequence += 1;
        let row = encode_row(&control)?;
        change = change.map(|commit| commit.put_row(table(), keys.control(), row));
    }
    if let Some(building) = change.new.building
        && (building.version != P::VERSION || has_other_order::<P>(store, &building, is_canonical).await?)
    {
        change.retire(Some(building))?;
        change.new.building = None;
    }
    if let Some(active) = change.new.active.filter(|active| active.version != P::VERSION)
        && change.new.building.is_none()
    {
        change.new.building = Some(change.create_build(P::VERSION, partitions, None));
        let details = json!({ "reason": "another version", "from_version": active.version, "to_version": P::VERSION });
        change.record(admin, "projection-rebuild-started", details)?;
    }
    let has_other_order = match change.new.active.filter(|active| active.version == P::VERSION) {
        Some(active) => has_other_order::<P>(store, &active, is_canonical).await?,
        None => false,
    };
    if has_other_order && change.new.building.is_none() {
        change.new.building = Some(change.create_build(P::VERSION, partitions, None));
        let details = json!({ "reason": "another order of events", "is_canonical": is_canonical });
        change.record(admin, "projection-rebuild-started", details)?;
    }
    if change.new == change.current && requests.is_empty() {
        return Ok(Some(RoundPlan { generations: current, has_other_order }));
    }
    let (active, building) = (change.new.active, change.new.building);
    tracing::info!(projection = P::NAME, ?active, ?building, "projection builds changed");
    change.commit(store).await?;
    Ok(None)
}

/// Returns whether events of a build were applied in another order: it has applied events, and its checkpoint has a
/// place in canonical order although the projection follows the log, or the other way round.
async fn has_other_order<P: Projection>(
    store: &dyn EventReader,
    build: &Build,
    is_canonical: bool,
) -> Result<bool, StoreError> {
    for partition in 0..build.partitions {
        let row = store.row(&checkpoints_table(), &checkpoint_key(P::NAME, build.generation, partition)).await?;
        let has_mark = SettledMark::of_checkpoint(P::NAME, row.as_deref())?.is_some();
        let is_begun = has_mark || Checkpoint::decode(P::NAME, row.as_deref())?.position.is_some();
        if is_begun && has_mark != is_canonical {
            return Ok(true);
        }
    }
    Ok(false)
}

/// Returns whether the build that is to replace the active one has applied as many events in canonical order. The
/// positions of the two do not show it. Builds in the order of the log are level.
pub(crate) async fn is_level<P: Projection>(store: &dyn EventReader, plan: &RoundPlan) -> Result<bool, StoreError> {
    let mark = async |build: Option<Build>| {
        let Some(build) = build else { return Ok(None) };
        let row = store.row(&checkpoints_table(), &checkpoint_key(P::NAME, build.generation, 0)).await?;
        SettledMark::of_checkpoint(P::NAME, row.as_deref())
    };
    let Some(active) = mark(plan.generations.active).await? else { return Ok(true) };
    Ok(mark(plan.generations.building).await?.is_none_or(|building| !building.is_before(&active)))
}

/// A new number of partitions for a build.
pub(crate) struct Repartition {
    pub(crate) role: BuildRole,
    pub(crate) build: Build,
    /// The checkpoint of all partitions, old and new.
    pub(crate) checkpoint: Option<Position>,
    /// The new number of partitions.
    pub(crate) partitions: u32,
}

/// Changes the number of partitions of a build. All its workers must have stopped at the same position. Returns `false`
/// after a conflict with another writer.
pub(crate) async fn repartition<P: Projection>(
    store: &dyn EventStore,
    keys: &RowKeys,
    fence: &Fence,
    clock: &dyn Clock,
    plan: &RoundPlan,
    Repartition { role, build, checkpoint, partitions }: Repartition,
) -> Result<bool, StoreError> {
    let repartitioned = Some(Build { partitions, ..build });
    let mut change = BuildChange::new(keys, P::NAME, plan.generations, fence, clock).map(|commit| {
        let commit = (0..build.partitions).fold(commit, |commit, partition| {
            commit.delete_row(checkpoints_table(), checkpoint_key(P::NAME, build.generation, partition))
        });
        put_checkpoints(commit, P::NAME, build.generation, partitions, checkpoint)
    });
    match role {
        BuildRole::Active => change.new.active = repartitioned,
        BuildRole::Building => change.new.building = repartitioned,
    }
    tracing::info!(projection = P::NAME, from = build.partitions, to = partitions, ?checkpoint, "partitions changed");
    change.commit(store).await
}

/// Replaces the active build with the one that is being built, if that one has caught up and is not held. All workers
/// must have stopped. Returns whether the builds were swapped.
pub(crate) async fn swap<P: Projection>(
    store: &dyn EventStore,
    keys: &RowKeys,
    options: &ProjectionOptions,
    fence: &Fence,
    admin: &ProjectionAdmin,
    clock: &dyn Clock,
    plan: &RoundPlan,
) -> Result<bool, StoreError> {
    let Some(building) = plan.generations.building else { return Ok(false) };
    let position = applied(store, P::NAME, &building).await?.position;
    if position < plan.furthest_checkpoint(store, P::NAME).await?
        || !is_level::<P>(store, plan).await?
        || is_held(store, keys, options, plan).await?
    {
        return Ok(false);
    }
    let mut change = BuildChange::new(keys, P::NAME, plan.generations, fence, clock);
    change.retire(plan.generations.active)?;
    (change.new.active, change.new.building) = (Some(building), None);
    let details = json!({ "generation": building.generation, "version": building.version, "position": position });
    change.record(admin, "projection-rebuilt", details)?;
    let is_swapped = change.commit(store).await?;
    if is_swapped {
        metrics::count(metrics::SWAPS, P::NAME, 1);
        tracing::info!(projection = P::NAME, generation = %building.generation, "rebuilt view is active");
    }
    Ok(is_swapped)
}

/// Returns whether [`RebuildErrors::Hold`] prevents the swap: a key is parked in the new build and not in the active
/// one.
pub(crate) async fn is_held(
    store: &dyn EventReader,
    keys: &RowKeys,
    options: &ProjectionOptions,
    plan: &RoundPlan,
) -> Result<bool, StoreError> {
    let Generations { active: Some(active), building: Some(building), .. } = plan.generations else {
        return Ok(false);
    };
    if options.rebuild_errors == RebuildErrors::Swap {
        return Ok(false);
    }
    let mut after = None;
    loop {
        let rows = page(store, keys.parked_keys(building.generation), after, PAGE).await?;
        let Some(last) = rows.last() else { return Ok(false) };
        after = Some(last.key.clone());
        for row in rows {
            let parked: ParkedKey = decode(&row.key, &row.value)?;
            if store.row(&table(), &keys.parked_key(active.generation, &parked.key)).await?.is_none() {
                return Ok(true);
            }
        }
    }
}

/// Sets the checkpoints of all partitions of a generation. `None` writes nothing: a missing checkpoint is the start of
/// the log.
fn put_checkpoints(
    commit: Commit,
    projection: &str,
    generation: Generation,
    partitions: u32,
    position: Option<Position>,
) -> Commit {
    if position.is_none() {
        return commit;
    }
    (0..partitions).fold(commit, |commit, partition| {
        let key = checkpoint_key(projection, generation, partition);
        commit.put_row(checkpoints_table(), key, Checkpoint::at(position).encode())
    })
}

/// Returns the position before the first event of a rebuild; `None` for the start of the log.
async fn position_before(store: &dyn EventReader, from: RebuildFrom) -> Result<Option<Position>, StoreError> {
    let time = match from {
        RebuildFrom::Start => return Ok(None),
        RebuildFrom::Position(position) => return Ok(position.previous()),
        RebuildFrom::Time(time) => time,
    };
    // Recorded times never decrease along the log, so a binary search finds the first event of a time.
    let (mut first, mut end) = (1, store.head().await?.map_or(1, |head| head.next().get()));
    while first < end {
        let middle = first + (end - first) / 2;
        let read = LogRead { from: Position::new(middle), ..LogRead::all() }.limit(1);
        match store.read_log(read).await?.next().await? {
            Some(event) if event.recorded_at < time => first = event.position.next().get(),
            _ => end = middle,
        }
    }
    Ok(Position::new(first).and_then(Position::previous))
}
