//! `projections`

use std::path::Path;

use super::answer::{Answer, shown, table};
use super::args::{ProjectionCommand, WhyArgs};
use super::remote::Remote;
use super::with_shop;
use crate::failure::Failure;
use crate::projections::{Projections, ShownParked, ShownStatus, Verb};

/// What is asked of a projection, by its name.
fn verb(command: &ProjectionCommand) -> Option<(&str, Verb)> {
    let because = |args: &WhyArgs| args.reason.clone();
    Some(match command {
        ProjectionCommand::List | ProjectionCommand::Parked { .. } => return None,
        ProjectionCommand::Pause(args) => (&args.name, Verb::Pause { reason: because(args) }),
        ProjectionCommand::Resume(args) => (&args.name, Verb::Resume { reason: because(args) }),
        ProjectionCommand::Rebuild(args) => (&args.name, Verb::Rebuild { reason: because(args) }),
        ProjectionCommand::Reset(args) => (&args.name, Verb::Reset { reason: because(args) }),
        ProjectionCommand::Retry { name, key } => (name, Verb::Retry { key: key.clone() }),
        ProjectionCommand::Skip { name, key, position, reason } => {
            (name, Verb::Skip { key: key.clone(), position: *position, reason: reason.clone() })
        }
    })
}

/// Asks a running service.
pub(super) async fn ask(service: &Remote, command: &ProjectionCommand) -> Result<Answer, Failure> {
    if let ProjectionCommand::Parked { name } = command {
        return Ok(parked(&service.parked(name).await?));
    }
    Ok(list(&match verb(command) {
        Some((name, verb)) => service.act(name, &verb).await?,
        None => service.status().await?,
    }))
}

/// Runs the projections here, until what was asked is done and they have caught up.
pub(super) async fn here(data: &Path, command: &ProjectionCommand) -> Result<Answer, Failure> {
    with_shop(data, false, async |shop| {
        Projections::run(shop.shared_store(), async |projections| act(projections, command).await).await
    })
    .await
}

async fn act(projections: &Projections, command: &ProjectionCommand) -> Result<Answer, Failure> {
    // ORDER: before what is asked, so that what could not be applied by now is parked.
    projections.settle(|_| {}).await?;
    if let ProjectionCommand::Parked { name } = command {
        return Ok(parked(&projections.parked(name).await?));
    }
    if let Some((name, verb)) = verb(command) {
        projections.act(name, &verb).await?;
    }
    Ok(list(&projections.settle(|_| {}).await?))
}

/// How far each of them is.
pub(super) fn list(status: &[ShownStatus]) -> Answer {
    let number = |number: Option<u64>| number.map_or_else(|| "-".to_owned(), |number| number.to_string());
    let rows = status.iter().map(|projection| {
        let state = match &projection.rebuild {
            Some(rebuild) => format!("{}, rebuilding (at {})", projection.state, number(rebuild.position)),
            None => projection.state.clone(),
        };
        [
            projection.name.clone(),
            state,
            number(projection.position),
            projection.lag_events.to_string(),
            projection.parked_keys.to_string(),
        ]
    });
    let mut text = table(["projection", "state", "position", "lag", "parked"], 2, rows).to_string();
    for (name, error) in status.iter().filter_map(|status| Some((&status.name, status.last_error.as_ref()?))) {
        text += &format!("\n{name}: {error}");
    }
    Answer::new(text, &status)
}

/// What could not be applied.
fn parked(keys: &[ShownParked]) -> Answer {
    let rows = keys.iter().map(|key| {
        let ShownParked { key, position, error, attempts, since } = key;
        [key.clone(), position.to_string(), attempts.to_string(), shown(*since), error.clone()]
    });
    let text = if keys.is_empty() {
        "nothing is parked".to_owned()
    } else {
        table(["key", "position", "attempts", "since", "error"], 5, rows).to_string()
    };
    Answer::new(text, &keys)
}
