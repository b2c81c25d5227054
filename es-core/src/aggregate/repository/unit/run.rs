//! The steps of a unit of work: take turns, decide, commit, complete, and again if another writer was faster.

use crate::aggregate::repository::RetryPolicy;
use crate::aggregate::repository::command_id::ResultRow;
use crate::aggregate::repository::error::conflict_or_failure;
use crate::aggregate::repository::options::Options;
use crate::aggregate::repository::plan::Draft;
use crate::aggregate::repository::turns::Turn;
use crate::aggregate::repository::unit::Stop;
use crate::aggregate::repository::unit::commands::{Commands, Target};
use crate::model::IdSource;
use crate::model::Timestamp;
use crate::store::{CommitError, Committed, EventStore, FailedCheck};

/// How a unit of work is executed.
pub(in crate::aggregate::repository) struct Job<'a> {
    pub(in crate::aggregate::repository) store: &'a dyn EventStore,
    /// The aggregates of the commands, in the order of the commands.
    pub(in crate::aggregate::repository) targets: Vec<Target<'a>>,
    /// When the commands take effect.
    pub(in crate::aggregate::repository) time: Timestamp,
    pub(in crate::aggregate::repository) options: &'a Options,
    pub(in crate::aggregate::repository) retry: RetryPolicy,
    /// What the ids of the events are made of.
    pub(in crate::aggregate::repository) ids: IdSource<'a>,
}

/// Attempts until one succeeds, is rejected, fails, or the retry policy ends.
pub(in crate::aggregate::repository) async fn run<P: Commands>(
    commands: &P,
    job: Job<'_>,
) -> Result<P::Results, Stop<P::Rejection>> {
    let Job { store, mut targets, time, options, retry, ids } = job;
    let row = options.command_id.clone().zip(targets.first());
    let row = row.map(|(id, first)| ResultRow::new(&first.stream, id, targets.len()));
    in_global_order(&mut targets);
    let mut pauses = retry.pauses(ids.entropy);
    loop {
        let turns = wait_for_turns(&targets).await;
        let attempt = attempt(commands, store, options, row.as_ref(), time, ids).await;
        drop(turns);
        match (attempt, pauses.next()) {
            (Err(Stop::Lost(_)), Some(pause)) => tokio::time::sleep(pause).await,
            (attempt, _) => return attempt,
        }
    }
}

/// Sorts the targets so that every unit of this process takes its turns in one order: no two units can wait for each other.
fn in_global_order(targets: &mut Vec<Target<'_>>) {
    // Two repositories of one category have a queue each for the same stream: the address of the queues orders them.
    let place = |target: &Target<'_>| std::ptr::from_ref(target.turns).addr();
    targets.sort_by(|a, b| a.stream.cmp(&b.stream).then_with(|| place(a).cmp(&place(b))));
    targets.dedup_by(|a, b| a.stream == b.stream && place(a) == place(b));
}

async fn wait_for_turns<'a>(targets: &[Target<'a>]) -> Vec<Turn<'a>> {
    let mut turns = Vec::with_capacity(targets.len());
    for target in targets {
        turns.push(target.turns.wait(&target.stream).await);
    }
    turns
}

async fn attempt<P: Commands>(
    commands: &P,
    store: &dyn EventStore,
    options: &Options,
    row: Option<&ResultRow>,
    time: Timestamp,
    ids: IdSource<'_>,
) -> Result<P::Results, Stop<P::Rejection>> {
    if let Some(row) = row
        && let Some(first) = row.read(store).await?
    {
        return Ok(commands.first_results(row, &mut first.into_iter()).await?);
    }
    // 1 load, 2 decide and 3 encode, for each command
    let mut draft = Draft::new(options, time, row, ids);
    let plans = commands.plan(&mut draft).await?;
    // 4 commit
    let committed = match draft.into_commit(row)? {
        None => Committed { events: Vec::new(), repeated: false },
        Some(commit) => match store.commit(commit).await {
            Ok(committed) => committed,
            Err(error) => {
                commands.forget();
                return Err(stop(error));
            }
        },
    };
    // 5 return
    Ok(P::complete(plans, &committed)?)
}

/// Sorts out why a commit wrote nothing. A conflict on an aggregate, or on the result row, can be decided again; others cannot.
fn stop<R>(error: CommitError) -> Stop<R> {
    match conflict_or_failure(error) {
        Err(failure) => Stop::Failed(failure),
        Ok(conflict) => {
            let is_of_the_state =
                |check: &FailedCheck| matches!(check, FailedCheck::Revision { .. } | FailedCheck::Row { .. });
            let can_be_decided_again = conflict.failed.iter().all(is_of_the_state);
            if can_be_decided_again { Stop::Lost(conflict) } else { Stop::Conflict(conflict) }
        }
    }
}
