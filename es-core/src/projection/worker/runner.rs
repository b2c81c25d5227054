//! [`Runner`]: one run of a projection, from the acquisition of its lease to its end.
//!
//! ```text
//!   lease --> prepare: serve requests, read the builds --> repartition --> follow --+--> stopped
//!     ^          ^                                                                  |
//!     |          +----------------- a new request, or a swap -----------------------+
//!     +---------------------------- the lease was lost -----------------------------+
//! ```
//!
//! A runner keeps its state in rows only. A start after a crash therefore takes the same path as any other start.

use std::sync::Arc;
use std::time::Duration;

use serde_json::json;
use tokio::sync::{RwLock, watch};
use tokio::task::JoinSet;

use super::admin::ProjectionAdmin;
use super::control::Control;
use super::follower::{Exit, FollowError, Follower, stop_requested};
use super::options::ProjectionOptions;
use super::parked::{ParkedKey, retried_keys};
use super::pipeline::{Fence, Pipeline};
use super::plan::{BuildRole, Repartition, RoundPlan};
use super::progress::{GenerationProgress, applied_to, number};
use super::rows::{RowKeys, table};
use super::status::{ActiveProgress, Phase, ProjectionMonitor};
use super::{cleanup, plan};
use crate::consumer::lease::{Acquisition, HeartbeatWatch, HeldLease, LeaseTerms};
use crate::model::ErrorChain;
use crate::model::Position;
use crate::model::{Clock, Entropy};
use crate::projection::{Build, Projection, applied, checkpoint, generations, partition_of};
use crate::store::implement::Replication;
use crate::store::{EventStore, HeadWatch, StoreError, StoredRow};

/// The interval between checks whether a rebuild has caught up.
const REBUILD_POLL: Duration = Duration::from_millis(10);
/// The longest time for which the workers of the active view are stopped for a swap. Afterwards the swap is postponed.
const SWAP_TIMEOUT: Duration = Duration::from_secs(5);
/// The shortest interval between reads of the control row.
const CONTROL_POLL: Duration = Duration::from_millis(5);

/// The reason why a run ended without an error.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum RunEnd {
    Stopped,
    LeaseLost,
}

/// The step after a round.
enum Next {
    NewRound,
    Stop,
}

/// The dependencies and the state of a run.
pub(crate) struct Runner<P> {
    pub(crate) store: Arc<dyn EventStore>,
    pub(crate) projection: Arc<P>,
    pub(crate) options: ProjectionOptions,
    /// Whether the projection applies events in canonical order.
    pub(crate) is_settled: bool,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) entropy: Arc<dyn Entropy>,
    pub(crate) keys: RowKeys,
    pub(crate) admin: ProjectionAdmin,
    pub(crate) lease: LeaseTerms,
    pub(crate) monitor: Arc<ProjectionMonitor>,
    pub(crate) stop: watch::Receiver<bool>,
}

/// The workers of a round.
struct Round<P> {
    tasks: WorkerTasks,
    active: Option<Workers<P>>,
    building: Option<Workers<P>>,
}

type WorkerTasks = JoinSet<(BuildRole, Result<Exit, FollowError>)>;

/// The workers of one generation.
struct Workers<P> {
    pipeline: Arc<Pipeline<P>>,
    stop: watch::Sender<bool>,
    running: usize,
}

impl<P: Projection> Runner<P> {
    /// Runs the projection until it is stopped or loses its lease.
    pub(crate) async fn run(&self) -> Result<RunEnd, StoreError> {
        let Some(lease) = self.acquire_lease().await? else { return Ok(RunEnd::Stopped) };
        tracing::info!(projection = P::NAME, epoch = lease.epoch(), "projection lease acquired");
        let end = tokio::select! {
            end = self.run_rounds(&lease) => end?,
            () = self.renew_lease(&lease) => RunEnd::LeaseLost,
        };
        match end {
            RunEnd::Stopped => {
                lease.release(&*self.store).await?;
            }
            RunEnd::LeaseLost => {
                tracing::warn!(projection = P::NAME, epoch = lease.epoch(), "projection lease lost");
            }
        }
        Ok(end)
    }

    /// Returns the replication of the store, if events are applied in canonical order. Without a replica this is the
    /// order of the log.
    fn replication(&self) -> Option<Arc<dyn Replication>> {
        self.store.replication().filter(|_| self.is_settled)
    }

    fn is_stopped(&self) -> bool {
        *self.stop.borrow() || self.stop.has_changed().is_err()
    }

    async fn stopped(&self) {
        stop_requested(&mut self.stop.clone()).await;
    }

    /// Waits for the lease. Returns `None` if the projection is stopped first.
    async fn acquire_lease(&self) -> Result<Option<HeldLease>, StoreError> {
        let (mut watch, mut is_takeover) = (HeartbeatWatch::default(), false);
        loop {
            if self.is_stopped() {
                return Ok(None);
            }
            let takeover = is_takeover
                .then(|| self.admin.audit_event("projection-claim-taken", json!({ "by": self.lease.owner })))
                .transpose()?
                .map(|event| (self.admin.audit_stream().clone(), event));
            match self
                .lease
                .acquire_or_take_over(&*self.store, &self.keys.lease(), &*self.clock, &mut watch, takeover)
                .await?
            {
                Acquisition::Acquired(lease) => return Ok(Some(lease)),
                Acquisition::HeldBy(holder) => {
                    self.monitor.enter(Phase::Standby(holder));
                    self.observe_holder().await?;
                }
            }
            tokio::select! {
                () = self.stopped() => return Ok(None),
                () = self.monitor.take_over.notified() => is_takeover = true,
                () = tokio::time::sleep((self.lease.duration / 4).min(Duration::from_millis(250))) => {}
            }
        }
    }

    /// Publishes the progress of the holder of the lease, as its checkpoints show it.
    async fn observe_holder(&self) -> Result<(), StoreError> {
        if let Some(build) = generations(&*self.store, P::NAME).await?.active {
            self.monitor.publish_applied(applied(&*self.store, P::NAME, &build).await?.position);
        }
        Ok(())
    }

    /// Renews the lease until it is lost.
    async fn renew_lease(&self, lease: &HeldLease) {
        loop {
            tokio::time::sleep(self.lease.duration / 3).await;
            // Sets the gauges.
            let _ = self.monitor.status(self.store.watch_head().current());
            match self.lease.renew(&*self.store, &*self.clock, lease).await {
                Ok(true) => {}
                Ok(false) => return,
                // Another process may then take the lease. No write is lost or duplicated, because commits are
                // conditional on it.
                Err(error) => tracing::warn!(projection = P::NAME, error = %ErrorChain(&error), "lease not renewed"),
            }
        }
    }

    async fn run_rounds(&self, lease: &HeldLease) -> Result<RunEnd, StoreError> {
        loop {
            if self.is_stopped() {
                return Ok(RunEnd::Stopped);
            }
            let control = StoredRow::<Control>::read(&*self.store, &table(), self.keys.control()).await?;
            let fence = Fence { lease: lease.clone(), control };
            let is_canonical = self.replication().is_some();
            let plan = plan::prepare::<P>(
                &*self.store,
                &self.keys,
                &self.options,
                &fence,
                &self.admin,
                &*self.clock,
                is_canonical,
            );
            let plan = plan.await?;
            let next = match plan {
                Some(plan) => self.run_round(plan, fence).await,
                None => Ok(Next::NewRound),
            };
            match next {
                Ok(Next::Stop) => return Ok(RunEnd::Stopped),
                Ok(Next::NewRound) => {}
                // Two writers of one checkpoint would otherwise fence each other off in a busy loop.
                Err(FollowError::Fenced) => tokio::time::sleep(CONTROL_POLL).await,
                Err(FollowError::Store(error)) => return Err(error),
            }
            if !lease.is_held(&*self.store).await? {
                return Ok(RunEnd::LeaseLost);
            }
        }
    }

    /// Runs one round: until the control row changes, the views are swapped, or the projection is stopped.
    async fn run_round(&self, plan: RoundPlan, fence: Fence) -> Result<Next, FollowError> {
        let mut head = self.store.watch_head();
        if fence.control.value.as_ref().is_some_and(|control| control.is_paused) {
            self.monitor.enter(Phase::Paused);
            self.report_generations(&plan, None, None).await?;
            return tokio::select! {
                () = self.stopped() => Ok(Next::Stop),
                changed = self.control_changed(&mut head, &fence) => changed.map(|()| Next::NewRound),
            };
        }
        self.monitor.enter(Phase::Working);
        let is_repartitioned = tokio::select! {
            repartitioned = self.repartition(&plan, &fence) => repartitioned?,
            changed = self.control_changed(&mut head, &fence) => return changed.map(|()| Next::NewRound),
        };
        if is_repartitioned {
            return Ok(Next::NewRound);
        }
        if self.is_stopped() {
            return Ok(Next::Stop);
        }
        self.follow(plan, fence, head).await
    }

    /// Starts the workers of all builds and follows the log with them until the round ends.
    async fn follow(&self, plan: RoundPlan, fence: Fence, mut head: HeadWatch) -> Result<Next, FollowError> {
        let mut round = Round { tasks: JoinSet::new(), active: None, building: None };
        if plan.is_active_followed::<P>()
            && let Some(build) = plan.generations.active
        {
            round.active = Some(self.start_workers(&mut round.tasks, BuildRole::Active, build, &fence, None).await?);
        }
        if let Some(build) = plan.generations.building {
            round.building =
                Some(self.start_workers(&mut round.tasks, BuildRole::Building, build, &fence, None).await?);
        }
        self.report_generations(&plan, round.active.as_ref(), round.building.as_ref()).await?;
        let sweep =
            cleanup::sweep(&*self.store, P::NAME, &self.keys, &fence.lease, &*self.clock, self.options.keep_retired);
        let mut sweep = std::pin::pin!(sweep);
        let mut is_swept = false;
        // Created once: if every iteration started the read again, a busy loop might never finish it.
        let mut control_changed = std::pin::pin!(self.control_changed(&mut head, &fence));
        let mut rebuild_poll = tokio::time::interval(REBUILD_POLL);
        rebuild_poll.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let mut swap_started: Option<Duration> = None;
        let next = loop {
            tokio::select! {
                biased;
                () = self.stopped() => break Ok(Next::Stop),
                changed = &mut control_changed => break changed.map(|()| Next::NewRound),
                Some(ended) = round.tasks.join_next() => match ended {
                    Ok((role, Ok(_))) => round.worker_ended(role),
                    Ok((_, Err(error))) => break Err(error),
                    Err(error) => break Err(StoreError::io("run a worker of a projection", error).into()),
                },
                swept = &mut sweep, if !is_swept => {
                    is_swept = true;
                    if let Err(error) = swept {
                        let error = ErrorChain(&error);
                        tracing::warn!(projection = P::NAME, %error, "rows of retired generations not removed");
                    }
                }
                _ = rebuild_poll.tick(), if round.building.is_some() => {
                    match self.poll_rebuild(&plan, &round, &mut swap_started).await {
                        Ok(false) => {}
                        Ok(true) => break Ok(Next::NewRound),
                        Err(error) => break Err(error),
                    }
                }
            }
        };
        round.stop(BuildRole::Active);
        round.stop(BuildRole::Building);
        while let Some(ended) = round.tasks.join_next().await {
            // The next worker reads from the log again what this one could not commit.
            if let Ok((_, Err(error))) = ended {
                tracing::debug!(projection = P::NAME, error = %ErrorChain(&error), "worker stopped");
            }
        }
        // ORDER: after all workers have written their last checkpoints; before that a worker could still advance.
        if matches!(next, Ok(Next::NewRound)) && swap_started.is_some() {
            plan::swap::<P>(&*self.store, &self.keys, &self.options, &fence, &self.admin, &*self.clock, &plan).await?;
        }
        next
    }

    /// Returns whether the round must end: the new build has caught up with the stopped active one, or the swap timed
    /// out.
    ///
    /// Stops the workers of the active build once the new one is at most a batch short of it, and stores the time in
    /// `swap_started`.
    async fn poll_rebuild(
        &self,
        plan: &RoundPlan,
        round: &Round<P>,
        swap_started: &mut Option<Duration>,
    ) -> Result<bool, FollowError> {
        let Some(building) = &round.building else { return Ok(false) };
        let position = building.pipeline.progress.min_position();
        if let Some(started) = swap_started {
            if self.clock.elapsed().saturating_sub(*started) > SWAP_TIMEOUT {
                tracing::warn!(projection = P::NAME, "swap postponed: the rebuild did not catch up in time");
                *swap_started = None;
                return Ok(true);
            }
            if round.active.as_ref().is_some_and(|active| active.running > 0) {
                return Ok(false);
            }
            return Ok(position >= plan.furthest_checkpoint(&*self.store, P::NAME).await?);
        }
        let target = match &round.active {
            Some(active) => active.pipeline.progress.max_position(),
            None => plan.furthest_checkpoint(&*self.store, P::NAME).await?,
        };
        let missing = number(target).saturating_sub(number(position));
        if missing > u64::from(self.options.batch)
            || !plan::is_level::<P>(&*self.store, plan).await?
            || plan::is_held(&*self.store, &self.keys, &self.options, plan).await?
        {
            return Ok(false);
        }
        round.stop(BuildRole::Active);
        *swap_started = Some(self.clock.elapsed());
        Ok(false)
    }

    /// Starts one worker per partition of a build. With `until` they end at that position.
    async fn start_workers(
        &self,
        tasks: &mut WorkerTasks,
        role: BuildRole,
        build: Build,
        fence: &Fence,
        until: Option<Position>,
    ) -> Result<Workers<P>, FollowError> {
        let retried = retried_keys(&*self.store, &self.keys, build.generation).await?;
        let progress = Arc::new(self.load_progress(role, build, &retried).await?);
        let pipeline = Arc::new(Pipeline {
            store: Arc::clone(&self.store),
            projection: Arc::clone(&self.projection),
            options: self.options,
            clock: Arc::clone(&self.clock),
            entropy: Arc::clone(&self.entropy),
            keys: self.keys.clone(),
            fence: fence.clone(),
            progress,
            replication: self.replication(),
            monitor: Arc::clone(&self.monitor),
            retried,
            commit_lock: RwLock::new(()),
        });
        let stop = watch::Sender::new(false);
        for partition in 0..build.partitions {
            let (pipeline, stop) = (Arc::clone(&pipeline), stop.subscribe());
            let span = tracing::info_span!("projection", name = P::NAME, generation = %build.generation, partition);
            tasks.spawn(tracing::Instrument::instrument(
                async move {
                    let follow = async { Follower::open(pipeline, partition, stop).await?.run(until).await };
                    (role, follow.await)
                },
                span,
            ));
        }
        Ok(Workers { pipeline, stop, running: build.partitions as usize })
    }

    /// Reads the progress of a build from its checkpoints and the keys that are retried. That of the active build is
    /// published to the monitor.
    async fn load_progress(
        &self,
        role: BuildRole,
        build: Build,
        retried: &[ParkedKey],
    ) -> Result<GenerationProgress, StoreError> {
        let mut checkpoints = Vec::with_capacity(build.partitions as usize);
        for partition in 0..build.partitions {
            let scanned = checkpoint(&*self.store, P::NAME, build.generation, partition).await?.position;
            let of_partition = retried.iter().filter(|key| partition_of(&key.key, build.partitions) == partition);
            checkpoints.push(applied_to(scanned, of_partition.map(|key| key.position)));
        }
        let applied = match role {
            BuildRole::Active => self.monitor.applied_sender(),
            BuildRole::Building => watch::Sender::new(None),
        };
        Ok(GenerationProgress::new(build, &checkpoints, applied, Arc::clone(&self.clock)))
    }

    /// Changes the number of partitions of a build to that of the options. First brings all its workers to the same
    /// position. Returns whether the builds were changed.
    async fn repartition(&self, plan: &RoundPlan, fence: &Fence) -> Result<bool, FollowError> {
        let partitions = self.options.partitions;
        // One build per round, because each change writes the row of all generations.
        let Some((role, build)) = plan.builds_to_repartition::<P>(partitions).next() else { return Ok(false) };
        let checkpoint = plan::furthest_checkpoint(&*self.store, P::NAME, &build).await?;
        if checkpoint.is_some() && build.partitions > 1 {
            let mut tasks = JoinSet::new();
            let workers = self.start_workers(&mut tasks, role, build, fence, checkpoint).await?;
            while let Some(ended) = tokio::select! {
                () = self.stopped(), if !*workers.stop.borrow() => {
                    workers.stop.send_replace(true);
                    tasks.join_next().await
                }
                ended = tasks.join_next() => ended,
            } {
                let (_, ended) = ended.map_err(|error| StoreError::io("run a worker of a projection", error))?;
                ended?;
            }
            if self.is_stopped() {
                return Ok(false);
            }
        }
        let change = Repartition { role, build, checkpoint, partitions };
        plan::repartition::<P>(&*self.store, &self.keys, fence, &*self.clock, plan, change).await?;
        Ok(true)
    }

    /// Returns when the control row differs from the one in the fence.
    async fn control_changed(&self, head: &mut HeadWatch, fence: &Fence) -> Result<(), FollowError> {
        loop {
            // ORDER: the head before the control row. A request between the two moves the head and so ends the wait
            // below.
            let last_head = head.current();
            if StoredRow::<Control>::read(&*self.store, &table(), self.keys.control()).await?.bytes
                != fence.control.bytes
            {
                return Ok(());
            }
            head.wait_after(last_head).await?;
            tokio::time::sleep(CONTROL_POLL).await;
        }
    }

    /// Sets the generations that the status reports.
    async fn report_generations(
        &self,
        plan: &RoundPlan,
        active: Option<&Workers<P>>,
        building: Option<&Workers<P>>,
    ) -> Result<(), StoreError> {
        let is_followed = active.is_some();
        let progress = match (active, plan.generations.active) {
            (Some(active), _) => Some(Arc::clone(&active.pipeline.progress)),
            (None, Some(build)) => {
                let retried = retried_keys(&*self.store, &self.keys, build.generation).await?;
                Some(Arc::new(self.load_progress(BuildRole::Active, build, &retried).await?))
            }
            (None, None) => None,
        };
        let active = progress.map(|progress| ActiveProgress { progress, is_followed });
        self.monitor.set_generations(active, building.map(|building| Arc::clone(&building.pipeline.progress)));
        Ok(())
    }
}

impl<P> Round<P> {
    fn stop(&self, role: BuildRole) {
        let workers = match role {
            BuildRole::Active => self.active.as_ref(),
            BuildRole::Building => self.building.as_ref(),
        };
        if let Some(workers) = workers {
            workers.stop.send_replace(true);
        }
    }

    fn worker_ended(&mut self, role: BuildRole) {
        let workers = match role {
            BuildRole::Active => self.active.as_mut(),
            BuildRole::Building => self.building.as_mut(),
        };
        if let Some(workers) = workers {
            workers.running = workers.running.saturating_sub(1);
        }
    }
}
