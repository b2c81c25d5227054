//! [`Runner`]: one life of a projection, from its claim to its end.
//!
//! ```text
//!   claim --> prepare: what is asked for, what is there --> level --> follow --+--> stopped
//!     ^          ^                                                             |
//!     |          +----- an operator has asked for something, or a swap --------+
//!     +---------------------------- the claim was lost ------------------------+
//! ```
//!
//! All that it knows comes from rows, so that a crash between any two steps is a start like any other.

use std::sync::Arc;
use std::time::Duration;

use serde_json::json;
use tokio::sync::{RwLock, watch};
use tokio::task::JoinSet;

use super::admin::ProjectionAdmin;
use super::claim::{ClaimOutcome, Owned, Terms, Watched, release};
use super::control::Control;
use super::follower::{Exit, FollowError, Follower, stop_requested};
use super::options::ProjectionOptions;
use super::pipeline::{Fence, Pipeline};
use super::plan::{RoundPlan, Side};
use super::progress::GenerationProgress;
use super::rows::{RowKeys, StoredRow};
use super::status::{Phase, ProjectionMonitor};
use super::{cleanup, plan};
use crate::model::ErrorChain;
use crate::model::Position;
use crate::model::{Clock, Entropy};
use crate::projection::{Build, Projection, applied, checkpoint, generations};
use crate::store::{EventStore, HeadWatch, StoreError};

/// How often is looked whether a rebuild has caught up.
const LOOK: Duration = Duration::from_millis(10);
/// How long the old view stands still at the most for the last steps of a rebuild, before they are put off.
const HAND_OVER: Duration = Duration::from_secs(5);
/// How soon what an operator has asked for is looked at again, while commits come without a pause.
const CONTROL: Duration = Duration::from_millis(5);

/// How a life ended well.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum RunEnd {
    Stopped,
    ClaimLost,
}

/// What comes after one round of following.
enum Next {
    Again,
    Stop,
}

/// What is needed to run a projection.
pub(crate) struct Runner<P> {
    pub(crate) store: Arc<dyn EventStore>,
    pub(crate) projection: Arc<P>,
    pub(crate) options: ProjectionOptions,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) entropy: Arc<dyn Entropy>,
    pub(crate) keys: RowKeys,
    pub(crate) admin: ProjectionAdmin,
    pub(crate) terms: Terms,
    pub(crate) shared: Arc<ProjectionMonitor>,
    pub(crate) stop: watch::Receiver<bool>,
}

/// The workers of a round.
struct Round<P> {
    tasks: JoinSet<(Side, Result<Exit, FollowError>)>,
    read: Option<Workers<P>>,
    built: Option<Workers<P>>,
}

/// The workers of one generation.
struct Workers<P> {
    pipeline: Arc<Pipeline<P>>,
    stop: watch::Sender<bool>,
    running: usize,
}

impl<P: Projection> Runner<P> {
    /// Lives until it is stopped, or loses its claim.
    pub(crate) async fn run(&self) -> Result<RunEnd, StoreError> {
        let Some(owned) = self.claim().await? else { return Ok(RunEnd::Stopped) };
        tracing::info!(projection = P::NAME, epoch = owned.claim.epoch, "projection claimed");
        let end = tokio::select! {
            end = self.work(&owned) => end?,
            () = self.keep_claim(&owned) => RunEnd::ClaimLost,
        };
        match end {
            RunEnd::Stopped => {
                release(&*self.store, &self.keys, &owned).await?;
            }
            RunEnd::ClaimLost => {
                tracing::warn!(projection = P::NAME, epoch = owned.claim.epoch, "projection claim lost");
            }
        }
        Ok(end)
    }

    fn is_stopped(&self) -> bool {
        *self.stop.borrow() || self.stop.has_changed().is_err()
    }

    async fn stopped(&self) {
        stop_requested(&mut self.stop.clone()).await;
    }

    /// Waits for the claim; `None` when it was stopped before.
    async fn claim(&self) -> Result<Option<Owned>, StoreError> {
        let (mut watched, mut by_force) = (Watched::default(), false);
        loop {
            if self.is_stopped() {
                return Ok(None);
            }
            let force =
                by_force.then(|| self.admin.audit_event("projection-claim-taken", json!({ "by": self.terms.owner })));
            let force = force.transpose()?.map(|event| (self.admin.audit_stream().clone(), event));
            match self.terms.acquire(&*self.store, &self.keys, &*self.clock, &mut watched, force).await? {
                ClaimOutcome::Owned(owned) => return Ok(Some(owned)),
                ClaimOutcome::HeldBy(holder) => {
                    self.shared.enter(Phase::Standby(holder));
                    self.look_on().await?;
                }
            }
            tokio::select! {
                () = self.stopped() => return Ok(None),
                () = self.shared.take_over.notified() => by_force = true,
                () = tokio::time::sleep((self.terms.lease / 4).min(Duration::from_millis(250))) => {}
            }
        }
    }

    /// Learns from the rows how far whoever has the claim is.
    async fn look_on(&self) -> Result<(), StoreError> {
        if let Some(build) = generations(&*self.store, P::NAME).await?.active {
            self.shared.reach(applied(&*self.store, P::NAME, &build).await?.position);
        }
        Ok(())
    }

    /// Gives signs of life until the claim is lost.
    async fn keep_claim(&self, owned: &Owned) {
        loop {
            tokio::time::sleep(self.terms.lease / 3).await;
            // NOTE: makes the gauges.
            let _ = self.shared.status(self.store.watch_head().current());
            match self.terms.renew(&*self.store, &self.keys, &*self.clock, owned).await {
                Ok(true) => {}
                Ok(false) => return,
                // NOTE: without a sign of life others may take the claim, but what is written is safe all the same.
                Err(error) => tracing::warn!(projection = P::NAME, error = %ErrorChain(&error), "claim not renewed"),
            }
        }
    }

    async fn work(&self, owned: &Owned) -> Result<RunEnd, StoreError> {
        loop {
            if self.is_stopped() {
                return Ok(RunEnd::Stopped);
            }
            let control = StoredRow::<Control>::read(&*self.store, self.keys.control()).await?;
            let fence = Fence { owned: owned.clone(), control };
            let prepared =
                match plan::prepare::<P>(&*self.store, &self.keys, &self.options, &fence, &self.admin, &*self.clock)
                    .await?
                {
                    Some(plan) => self.round(plan, fence).await,
                    None => Ok(Next::Again),
                };
            match prepared {
                Ok(Next::Stop) => return Ok(RunEnd::Stopped),
                Ok(Next::Again) => {}
                // NOTE: whoever has changed a row may change it again: two who write one checkpoint must not spin.
                Err(FollowError::Fenced) => tokio::time::sleep(CONTROL).await,
                Err(FollowError::Store(error)) => return Err(error),
            }
            if !owned.is_held(&*self.store).await? {
                return Ok(RunEnd::ClaimLost);
            }
        }
    }

    /// One round, over what is there until something is asked for.
    async fn round(&self, plan: RoundPlan, fence: Fence) -> Result<Next, FollowError> {
        let mut head = self.store.watch_head();
        if fence.control.value.as_ref().is_some_and(|control| control.is_paused) {
            self.shared.enter(Phase::Paused);
            self.show(&plan, None, None).await?;
            return tokio::select! {
                () = self.stopped() => Ok(Next::Stop),
                changed = self.control_changed(&mut head, &fence) => changed.map(|()| Next::Again),
            };
        }
        self.shared.enter(Phase::Working);
        let leveled = tokio::select! {
            leveled = self.level(&plan, &fence) => leveled?,
            changed = self.control_changed(&mut head, &fence) => return changed.map(|()| Next::Again),
        };
        if leveled {
            return Ok(Next::Again);
        }
        if self.is_stopped() {
            return Ok(Next::Stop);
        }
        self.follow(plan, fence, head).await
    }

    /// Follows the log until something is asked for.
    async fn follow(&self, plan: RoundPlan, fence: Fence, mut head: HeadWatch) -> Result<Next, FollowError> {
        let mut round = Round { tasks: JoinSet::new(), read: None, built: None };
        if plan.is_read_followed::<P>()
            && let Some(build) = plan.generations.active
        {
            round.read = Some(self.start(&mut round.tasks, Side::Read, build, &fence, None).await?);
        }
        if let Some(build) = plan.generations.building {
            round.built = Some(self.start(&mut round.tasks, Side::Built, build, &fence, None).await?);
        }
        self.show(&plan, round.read.as_ref(), round.built.as_ref()).await?;
        let sweep =
            cleanup::sweep(&*self.store, P::NAME, &self.keys, &fence.owned, &*self.clock, self.options.keep_retired);
        let mut sweep = std::pin::pin!(sweep);
        let mut is_swept = false;
        // NOTE: made once, because a look that is given up and begun anew at every turn might never end.
        let mut changed = std::pin::pin!(self.control_changed(&mut head, &fence));
        let mut look = tokio::time::interval(LOOK);
        look.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let mut hand_over: Option<Duration> = None;
        let outcome = loop {
            tokio::select! {
                biased;
                () = self.stopped() => break Ok(Next::Stop),
                changed = &mut changed => break changed.map(|()| Next::Again),
                Some(ended) = round.tasks.join_next() => match ended {
                    Ok((side, Ok(_))) => round.ended(side),
                    Ok((_, Err(error))) => break Err(error),
                    Err(error) => break Err(StoreError::io("run a worker of a projection", error).into()),
                },
                swept = &mut sweep, if !is_swept => {
                    is_swept = true;
                    if let Err(error) = swept {
                        tracing::warn!(projection = P::NAME, error = %ErrorChain(&error), "rows of an old view not removed yet");
                    }
                }
                _ = look.tick(), if round.built.is_some() => {
                    match self.look_at_rebuild(&plan, &round, &mut hand_over).await {
                        Ok(false) => {}
                        Ok(true) => break Ok(Next::Again),
                        Err(error) => break Err(error),
                    }
                }
            }
        };
        round.stop(Side::Read);
        round.stop(Side::Built);
        while let Some(ended) = round.tasks.join_next().await {
            // NOTE: what a worker could not write stands in the log, and is done again by the next one.
            if let Ok((_, Err(error))) = ended {
                tracing::debug!(projection = P::NAME, error = %ErrorChain(&error), "worker stopped");
            }
        }
        // ORDER: workers have written their last checkpoints; only now both sides stand still.
        if matches!(outcome, Ok(Next::Again)) && hand_over.is_some() {
            plan::swap::<P>(&*self.store, &self.keys, &self.options, &fence, &self.admin, &*self.clock, &plan).await?;
        }
        outcome
    }

    /// Whether what is built is where what is read is, with both standing still from here on. Stops what is read first, once
    /// little is missing.
    async fn look_at_rebuild(
        &self,
        plan: &RoundPlan,
        round: &Round<P>,
        hand_over: &mut Option<Duration>,
    ) -> Result<bool, FollowError> {
        let Some(built) = &round.built else { return Ok(false) };
        let (at, _) = built.pipeline.progress.bounds();
        if let Some(since) = hand_over {
            if self.clock.elapsed().saturating_sub(*since) > HAND_OVER {
                tracing::warn!(projection = P::NAME, "rebuild put off: it does not catch up");
                *hand_over = None;
                return Ok(true);
            }
            if round.read.as_ref().is_some_and(|read| read.running > 0) {
                return Ok(false);
            }
            return Ok(at >= plan.furthest(&*self.store, P::NAME).await?);
        }
        let target = match &round.read {
            Some(read) => read.pipeline.progress.bounds().1,
            None => plan.furthest(&*self.store, P::NAME).await?,
        };
        let missing = target.map_or(0, Position::get).saturating_sub(at.map_or(0, Position::get));
        if missing > u64::from(self.options.batch)
            || plan::is_held(&*self.store, &self.keys, &self.options, plan).await?
        {
            return Ok(false);
        }
        round.stop(Side::Read);
        *hand_over = Some(self.clock.elapsed());
        Ok(false)
    }

    /// Starts the workers of a generation.
    async fn start(
        &self,
        tasks: &mut JoinSet<(Side, Result<Exit, FollowError>)>,
        side: Side,
        build: Build,
        fence: &Fence,
        until: Option<Position>,
    ) -> Result<Workers<P>, FollowError> {
        let progress = Arc::new(self.progress(side, build).await?);
        let pipeline = Arc::new(Pipeline {
            store: Arc::clone(&self.store),
            projection: Arc::clone(&self.projection),
            options: self.options,
            clock: Arc::clone(&self.clock),
            entropy: Arc::clone(&self.entropy),
            keys: self.keys.clone(),
            fence: fence.clone(),
            progress,
            alone: RwLock::new(()),
        });
        let stop = watch::Sender::new(false);
        for partition in 0..build.partitions {
            let (pipeline, stop) = (Arc::clone(&pipeline), stop.subscribe());
            let span = tracing::info_span!("projection", name = P::NAME, generation = %build.generation, partition);
            tasks.spawn(tracing::Instrument::instrument(
                async move {
                    let follow = async { Follower::open(pipeline, partition, stop).await?.run(until).await };
                    (side, follow.await)
                },
                span,
            ));
        }
        Ok(Workers { pipeline, stop, running: build.partitions as usize })
    }

    async fn progress(&self, side: Side, build: Build) -> Result<GenerationProgress, StoreError> {
        let mut checkpoints = Vec::with_capacity(build.partitions as usize);
        for partition in 0..build.partitions {
            checkpoints.push(checkpoint(&*self.store, P::NAME, build.generation, partition).await?.position);
        }
        let least = match side {
            Side::Read => self.shared.reached(),
            Side::Built => watch::Sender::new(None),
        };
        Ok(GenerationProgress::new(build, &checkpoints, least, Arc::clone(&self.clock)))
    }

    /// Brings builds that are spread over another number of workers to one position, and spreads them anew. Returns whether
    /// anything has changed.
    async fn level(&self, plan: &RoundPlan, fence: &Fence) -> Result<bool, FollowError> {
        // NOTE: one at a time, because each changes the row of all generations.
        let Some((side, build)) = plan.uneven::<P>(self.options.partitions).next() else { return Ok(false) };
        let furthest = plan::furthest(&*self.store, P::NAME, &build).await?;
        if furthest.is_some() && build.partitions > 1 {
            let mut tasks = JoinSet::new();
            let workers = self.start(&mut tasks, side, build, fence, furthest).await?;
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
        let to = (furthest, self.options.partitions);
        plan::spread::<P>(&*self.store, &self.keys, fence, &*self.clock, plan, (side, build), to).await?;
        Ok(true)
    }

    /// Returns when the control row is not what all commits of the round demand.
    async fn control_changed(&self, head: &mut HeadWatch, fence: &Fence) -> Result<(), FollowError> {
        loop {
            // ORDER: the head first: a verb that comes in between moves it, and wakes what follows.
            let seen = head.current();
            if StoredRow::<Control>::read(&*self.store, self.keys.control()).await?.bytes != fence.control.bytes {
                return Ok(());
            }
            head.wait_after(seen).await?;
            tokio::time::sleep(CONTROL).await;
        }
    }

    /// Tells the status what is worked on.
    async fn show(
        &self,
        plan: &RoundPlan,
        read: Option<&Workers<P>>,
        built: Option<&Workers<P>>,
    ) -> Result<(), StoreError> {
        let is_followed = read.is_some();
        let of_read = match (read, plan.generations.active) {
            (Some(read), _) => Some(Arc::clone(&read.pipeline.progress)),
            (None, Some(build)) => Some(Arc::new(self.progress(Side::Read, build).await?)),
            (None, None) => None,
        };
        let built = built.map(|built| Arc::clone(&built.pipeline.progress));
        self.shared.works_on(of_read.map(|progress| (progress, is_followed)), built);
        Ok(())
    }
}

impl<P> Round<P> {
    fn of(&self, side: Side) -> Option<&Workers<P>> {
        match side {
            Side::Read => self.read.as_ref(),
            Side::Built => self.built.as_ref(),
        }
    }

    fn stop(&self, side: Side) {
        if let Some(workers) = self.of(side) {
            workers.stop.send_replace(true);
        }
    }

    fn ended(&mut self, side: Side) {
        let workers = match side {
            Side::Read => self.read.as_mut(),
            Side::Built => self.built.as_mut(),
        };
        if let Some(workers) = workers {
            workers.running = workers.running.saturating_sub(1);
        }
    }
}
