//! What there is and what is asked for, made one: the steps between builds of a view. Each is one commit.

use serde_json::json;

use super::admin::ProjectionAdmin;
use super::claim::store_error;
use super::control::{RebuildFrom, Request};
use super::metrics;
use super::options::{ProjectionOptions, RebuildErrors};
use super::parked::ParkedKey;
use super::pipeline::Fence;
use super::rows::{PAGE, Retired, RowKeys, decode, encode, page, table};
use crate::model::Clock;
use crate::model::Position;
use crate::projection::{
    Build, Checkpoint, Generation, Generations, Projection, applied, checkpoint, checkpoint_key, checkpoints_table,
    generations,
};
use crate::store::{Commit, CommitError, EventReader, EventStore, LogRead, StoreError};

/// Which of two builds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Side {
    /// The one that is read.
    Read,
    /// The one that is built beside it.
    Built,
}

/// The builds that there are.
#[derive(Debug, Clone, Copy)]
pub(crate) struct RoundPlan {
    pub(crate) generations: Generations,
}

impl RoundPlan {
    /// Whether what is read is followed. What another version of the projection has built is left as it is: this version could
    /// not read its rows.
    pub(crate) fn is_read_followed<P: Projection>(&self) -> bool {
        self.generations.active.is_some_and(|build| build.version == P::VERSION)
    }

    /// The builds that are followed, and spread over another number of workers.
    pub(crate) fn uneven<P: Projection>(&self, partitions: u32) -> impl Iterator<Item = (Side, Build)> {
        let read = self.generations.active.filter(|_| self.is_read_followed::<P>()).map(|build| (Side::Read, build));
        let built = self.generations.building.map(|build| (Side::Built, build));
        read.into_iter().chain(built).filter(move |(_, build)| build.partitions != partitions)
    }

    /// Up to where anything counts in what is read.
    pub(crate) async fn furthest(
        &self,
        store: &dyn EventReader,
        projection: &str,
    ) -> Result<Option<Position>, StoreError> {
        match &self.generations.active {
            Some(build) => furthest(store, projection, build).await,
            None => Ok(None),
        }
    }
}

/// Up to where the worker of a build is that is ahead of the others.
pub(crate) async fn furthest(
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

/// A change of the builds on its way into one commit.
struct Change<'a> {
    keys: &'a RowKeys,
    projection: &'static str,
    before: Generations,
    now: Generations,
    retired: Retired,
    commit: Commit,
}

impl<'a> Change<'a> {
    fn new(keys: &'a RowKeys, projection: &'static str, before: Generations, fence: &Fence, clock: &dyn Clock) -> Self {
        let commit = fence.expect(Commit::new());
        Self { keys, projection, before, now: before, retired: Retired { at: clock.now() }, commit }
    }

    fn map(mut self, change: impl FnOnce(Commit) -> Commit) -> Self {
        self.commit = change(self.commit);
        self
    }

    /// The rows of a build are to be removed.
    fn retire(&mut self, build: Option<Build>) -> Result<(), StoreError> {
        if let Some(build) = build {
            let row = encode(&self.retired)?;
            self.commit = std::mem::take(&mut self.commit).put_row(table(), self.keys.retired(build.generation), row);
        }
        Ok(())
    }

    /// A new build that begins behind a position.
    fn begin(&mut self, version: u32, partitions: u32, behind: Option<Position>) -> Build {
        let build = Build { generation: self.now.next(), version, partitions };
        self.now.last = Some(build.generation);
        if behind.is_some() {
            let commit = std::mem::take(&mut self.commit);
            self.commit = put_checkpoints(commit, self.projection, build.generation, partitions, behind);
        }
        build
    }

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

    /// `false` where somebody else was faster.
    async fn commit(self, store: &dyn EventStore) -> Result<bool, StoreError> {
        let commit = self.now.replace(self.projection, &self.before, self.commit)?;
        match store.commit(commit).await {
            Ok(_) => Ok(true),
            Err(CommitError::Conflict(_)) => Ok(false),
            Err(error) => Err(store_error(error)),
        }
    }
}

/// Does what is asked for and due. Returns the builds to follow; `None` where something was changed and all must be read anew.
pub(crate) async fn prepare<P: Projection>(
    store: &dyn EventStore,
    keys: &RowKeys,
    options: &ProjectionOptions,
    fence: &Fence,
    admin: &ProjectionAdmin,
    clock: &dyn Clock,
) -> Result<Option<RoundPlan>, StoreError> {
    let before = generations(store, P::NAME).await?;
    let mut control = fence.control.value.clone().unwrap_or_default();
    let mut change = Change::new(keys, P::NAME, before, fence, clock);
    let partitions = options.partitions;
    if change.now.active.is_none() {
        change.now.active = Some(change.begin(P::VERSION, partitions, None));
    }
    let requests = std::mem::take(&mut control.requests);
    for request in &requests {
        let built = change.now.building.take();
        change.retire(built)?;
        match request {
            Request::CancelRebuild => {}
            Request::Reset => {
                let read = change.now.active;
                change.retire(read)?;
                change.now.active = Some(change.begin(P::VERSION, partitions, None));
            }
            Request::Rebuild(from) => {
                let behind = behind(store, *from).await?;
                change.now.building = Some(change.begin(P::VERSION, partitions, behind));
            }
        }
    }
    if !requests.is_empty() {
        control.sequence += 1;
        let row = encode(&control)?;
        change = change.map(|commit| commit.put_row(table(), keys.control(), row));
    }
    if let Some(built) = change.now.building.filter(|built| built.version != P::VERSION) {
        change.retire(Some(built))?;
        change.now.building = None;
    }
    if let Some(read) = change.now.active.filter(|read| read.version != P::VERSION)
        && change.now.building.is_none()
    {
        change.now.building = Some(change.begin(P::VERSION, partitions, None));
        let details = json!({ "reason": "another version", "from_version": read.version, "to_version": P::VERSION });
        change.record(admin, "projection-rebuild-started", details)?;
    }
    if change.now == change.before && requests.is_empty() {
        return Ok(Some(RoundPlan { generations: before }));
    }
    tracing::info!(projection = P::NAME, read = ?change.now.active, built = ?change.now.building, "projection builds changed");
    change.commit(store).await?;
    Ok(None)
}

/// Spreads a build whose workers are all at one position over another number of workers.
pub(crate) async fn spread<P: Projection>(
    store: &dyn EventStore,
    keys: &RowKeys,
    fence: &Fence,
    clock: &dyn Clock,
    plan: &RoundPlan,
    (side, build): (Side, Build),
    (at, partitions): (Option<Position>, u32),
) -> Result<bool, StoreError> {
    let spread = Some(Build { partitions, ..build });
    let mut change = Change::new(keys, P::NAME, plan.generations, fence, clock).map(|commit| {
        let commit = (0..build.partitions).fold(commit, |commit, partition| {
            commit.delete_row(checkpoints_table(), checkpoint_key(P::NAME, build.generation, partition))
        });
        put_checkpoints(commit, P::NAME, build.generation, partitions, at)
    });
    match side {
        Side::Read => change.now.active = spread,
        Side::Built => change.now.building = spread,
    }
    tracing::info!(projection = P::NAME, from = build.partitions, to = partitions, ?at, "projection spread anew");
    change.commit(store).await
}

/// Puts what is built in the place of what is read, where it is as far. All workers must stand still. Returns whether it did.
pub(crate) async fn swap<P: Projection>(
    store: &dyn EventStore,
    keys: &RowKeys,
    options: &ProjectionOptions,
    fence: &Fence,
    admin: &ProjectionAdmin,
    clock: &dyn Clock,
    plan: &RoundPlan,
) -> Result<bool, StoreError> {
    let Some(built) = plan.generations.building else { return Ok(false) };
    let at = applied(store, P::NAME, &built).await?.position;
    if at < plan.furthest(store, P::NAME).await? || is_held(store, keys, options, plan).await? {
        return Ok(false);
    }
    let mut change = Change::new(keys, P::NAME, plan.generations, fence, clock);
    change.retire(plan.generations.active)?;
    (change.now.active, change.now.building) = (Some(built), None);
    let details = json!({ "generation": built.generation, "version": built.version, "position": at });
    change.record(admin, "projection-rebuilt", details)?;
    let is_swapped = change.commit(store).await?;
    if is_swapped {
        metrics::count(metrics::SWAPS, P::NAME, 1);
        tracing::info!(projection = P::NAME, generation = %built.generation, "rebuilt view took the place of the old one");
    }
    Ok(is_swapped)
}

/// Whether what is built has keys that stand still and do not in what is read.
pub(crate) async fn is_held(
    store: &dyn EventReader,
    keys: &RowKeys,
    options: &ProjectionOptions,
    plan: &RoundPlan,
) -> Result<bool, StoreError> {
    let (Some(read), Some(built)) = (plan.generations.active, plan.generations.building) else { return Ok(false) };
    if options.rebuild_errors == RebuildErrors::Swap {
        return Ok(false);
    }
    let mut after = None;
    loop {
        let rows = page(store, keys.parked_keys(built.generation), after, PAGE).await?;
        let Some(last) = rows.last() else { return Ok(false) };
        after = Some(last.key.clone());
        for row in rows {
            let parked: ParkedKey = decode(&row.key, &row.value)?;
            if store.row(&table(), &keys.parked_key(read.generation, &parked.key)).await?.is_none() {
                return Ok(true);
            }
        }
    }
}

fn put_checkpoints(
    commit: Commit,
    projection: &str,
    generation: Generation,
    partitions: u32,
    at: Option<Position>,
) -> Commit {
    if at.is_none() {
        return commit;
    }
    (0..partitions).fold(commit, |commit, partition| {
        let key = checkpoint_key(projection, generation, partition);
        commit.put_row(checkpoints_table(), key, Checkpoint::at(at).encode())
    })
}

/// The position behind which a rebuild begins.
async fn behind(store: &dyn EventReader, from: RebuildFrom) -> Result<Option<Position>, StoreError> {
    let time = match from {
        RebuildFrom::Start => return Ok(None),
        RebuildFrom::Position(position) => return Ok(position.previous()),
        RebuildFrom::Time(time) => time,
    };
    // NOTE: recorded times never go back, so that the first event of a time is found by halving.
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
