//! Runs a unit of work: wait for turns, decide, commit, complete; repeat if another writer was faster, or after the end
//! of a transaction that locks an aggregate.

use std::time::Duration;

use tracing::Instrument;

use crate::aggregate::repository::RetryPolicy;
use crate::aggregate::repository::command_id::ResultRow;
use crate::aggregate::repository::error::{InfrastructureError, Locked, conflict_or_failure};
use crate::aggregate::repository::metrics::{CommandMetrics, CommandOutcome};
use crate::aggregate::repository::options::Options;
use crate::aggregate::repository::plan::Draft;
use crate::aggregate::repository::turns::Turn;
use crate::aggregate::repository::unit::Stop;
use crate::aggregate::repository::unit::commands::{Commands, Target};
use crate::model::IdSource;
use crate::model::Timestamp;
use crate::store::home::NotOwner;
use crate::store::{CommitError, Committed, EventStore, FailedCheck};

/// The store, the targets and the options of an execution.
pub(in crate::aggregate::repository) struct Job<'a> {
    pub(in crate::aggregate::repository) store: &'a dyn EventStore,
    /// The aggregates of the commands, in the order of the commands.
    pub(in crate::aggregate::repository) targets: Vec<Target<'a>>,
    /// The time in the domain at which the commands take effect.
    pub(in crate::aggregate::repository) time: Timestamp,
    pub(in crate::aggregate::repository) options: &'a Options,
    pub(in crate::aggregate::repository) retry: RetryPolicy,
    /// How long the execution waits for the end of a transaction that locks one of its aggregates.
    pub(in crate::aggregate::repository) lock_wait: Duration,
    /// The source of event ids.
    pub(in crate::aggregate::repository) ids: IdSource<'a>,
    pub(in crate::aggregate::repository) metrics: &'a CommandMetrics,
}

/// Runs a unit of work in a span, and records its result and duration.
pub(in crate::aggregate::repository) async fn run<P: Commands>(
    commands: &P,
    job: Job<'_>,
) -> Result<P::Results, Stop<P::Rejection>> {
    let (clock, metrics, start) = (job.ids.clock, job.metrics, job.ids.clock.elapsed());
    let span = tracing::info_span!(
        "command",
        stream = job.targets.first().map(|target| tracing::field::display(&target.stream)),
        aggregates = job.targets.len(),
        outcome = tracing::field::Empty
    );
    let result = run_attempts(commands, job).instrument(span.clone()).await;
    let outcome = match &result {
        Ok(_) => CommandOutcome::Executed,
        Err(Stop::Rejected { .. }) => CommandOutcome::Rejected,
        Err(Stop::Lost(_) | Stop::Conflict(_)) => CommandOutcome::Conflict,
        Err(Stop::Locked(_)) => CommandOutcome::Locked,
        Err(Stop::NotOwner(_)) => CommandOutcome::NotOwner,
        Err(Stop::Failed(_)) => CommandOutcome::Failed,
    };
    span.record("outcome", outcome.name());
    metrics.record(outcome, clock.elapsed().saturating_sub(start));
    result
}

/// Runs attempts until one succeeds, is rejected or fails, or the retry policy is exhausted.
async fn run_attempts<P: Commands>(commands: &P, mut job: Job<'_>) -> Result<P::Results, Stop<P::Rejection>> {
    let row = match &job.options.binding {
        Some(binding) => ResultRow::new(binding, &job.targets, job.options.occurred_at)?,
        None => None,
    };
    sort_for_turns(&mut job.targets);
    let Job { retry, lock_wait, ids, metrics, .. } = &job;
    let mut pauses = retry.pauses(ids.entropy);
    let locked_until = ids.clock.elapsed().saturating_add(*lock_wait);
    // Most commands wait for no lock.
    let mut lock_pauses = None;
    loop {
        let turns = wait_for_turns(&job.targets).await;
        let attempt = attempt(commands, &job, row.as_ref()).await;
        drop(turns);
        let pause = match &attempt {
            Err(Stop::Lost(_)) => pauses.next(),
            Err(Stop::Locked(_)) if ids.clock.elapsed() < locked_until => {
                let unlimited = || RetryPolicy::attempts(usize::MAX).pauses(ids.entropy);
                lock_pauses.get_or_insert_with(unlimited).next()
            }
            _ => None,
        };
        let Some(pause) = pause else { return attempt };
        metrics.retries.increment(1);
        tokio::time::sleep(pause).await;
    }
}

/// Sorts the targets so that every unit of this process waits for turns in the same order, which prevents deadlocks.
fn sort_for_turns(targets: &mut Vec<Target<'_>>) {
    // Two repositories of one category have separate queues for the same stream. The address of the queues orders them.
    let address = |target: &Target<'_>| std::ptr::from_ref(target.turns).addr();
    targets.sort_by(|a, b| a.stream.cmp(&b.stream).then_with(|| address(a).cmp(&address(b))));
    targets.dedup_by(|a, b| a.stream == b.stream && address(a) == address(b));
}

async fn wait_for_turns<'a>(targets: &[Target<'a>]) -> Vec<Turn<'a>> {
    let mut turns = Vec::with_capacity(targets.len());
    for target in targets {
        turns.push(target.turns.wait(&target.stream).await);
    }
    turns
}

/// Returns the first results of the commands if they were executed before; otherwise executes them.
async fn attempt<P: Commands>(
    commands: &P,
    job: &Job<'_>,
    row: Option<&ResultRow>,
) -> Result<P::Results, Stop<P::Rejection>> {
    if let Some(first) = first_results(commands, job.store, row).await? {
        return Ok(first);
    }
    let executed = decide_and_commit(commands, job, row).await;
    if matches!(executed, Ok(_) | Err(Stop::Failed(_))) {
        return executed;
    }
    // ORDER: read the row again after the loads. Another caller may have executed the same commands since the first
    // read; this execution was then decided on a state that already has their events.
    match first_results(commands, job.store, row).await? {
        Some(first) => Ok(first),
        None => executed,
    }
}

/// Returns the results of an earlier execution under the same command id, if there was one.
async fn first_results<P: Commands>(
    commands: &P,
    store: &dyn EventStore,
    row: Option<&ResultRow>,
) -> Result<Option<P::Results>, InfrastructureError> {
    let Some(row) = row else { return Ok(None) };
    let Some(first) = row.read(store).await? else { return Ok(None) };
    Ok(Some(commands.first_results(row, &mut first.into_iter()).await?))
}

/// Executes the commands.
async fn decide_and_commit<P: Commands>(
    commands: &P,
    job: &Job<'_>,
    row: Option<&ResultRow>,
) -> Result<P::Results, Stop<P::Rejection>> {
    let Job { store, time, options, ids, metrics, .. } = job;
    // 1 load, 2 decide and 3 encode, for each command
    let mut draft = Draft::new(options, *time, row, *ids);
    let plans = commands.plan(&mut draft).instrument(tracing::debug_span!("load_and_decide")).await?;
    // 4 commit
    let committed = match draft.into_commit(row)? {
        None => Committed { events: Vec::new(), repeated: false },
        // A row must not name a transaction that prepared nothing.
        Some(commit) if options.preparation.is_some() && commit.events().is_empty() => {
            Committed { events: Vec::new(), repeated: false }
        }
        Some(commit) => {
            let commit = match &options.preparation {
                Some(preparation) => preparation.prepare(commit)?,
                None => commit,
            };
            let start = ids.clock.elapsed();
            let committed = store.commit(commit).instrument(tracing::debug_span!("commit")).await;
            metrics.commit_seconds.record(ids.clock.elapsed().saturating_sub(start).as_secs_f64());
            match committed {
                Ok(committed) => committed,
                Err(error) => {
                    commands.evict();
                    return Err(stop(error));
                }
            }
        }
    };
    // 5 return
    Ok(P::complete(plans, &committed)?)
}

/// Classifies the error of a commit. A conflict on a revision or on the result row can be retried, a locked stream
/// after its transaction has ended; other conflicts cannot.
fn stop<R>(error: CommitError) -> Stop<R> {
    match conflict_or_failure(error) {
        Err(InfrastructureError::Rejected(error)) => match error.downcast::<NotOwner>() {
            Ok(error) => Stop::NotOwner(*error),
            Err(error) => Stop::Failed(InfrastructureError::Rejected(error)),
        },
        Err(failure) => Stop::Failed(failure),
        Ok(conflict) => {
            let is_retryable = |check: &FailedCheck| {
                matches!(check, FailedCheck::Revision { .. } | FailedCheck::Row { .. } | FailedCheck::Locked { .. })
            };
            if !conflict.failed.iter().all(is_retryable) {
                return Stop::Conflict(conflict);
            }
            let locked = conflict.failed.iter().find_map(|check| match check {
                FailedCheck::Locked { stream, transaction } => {
                    Some(Locked { stream: stream.clone(), transaction: transaction.clone() })
                }
                _ => None,
            });
            locked.map_or(Stop::Lost(conflict), Stop::Locked)
        }
    }
}
