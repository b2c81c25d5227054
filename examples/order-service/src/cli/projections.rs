//! The `projections` command.

use std::path::Path;

use es_http::operations::{ParkedKeyReport, ProjectionAction, ProjectionReport};

use super::args::{ProjectionCommand, ReasonArgs};
use super::output::{Output, format_time, table};
use super::remote::Remote;
use super::{IfMissing, with_shop};
use crate::failure::Failure;
use crate::projections::Projections;

/// Returns the projection and the action of a command; `None` for a command that only reads.
fn action(command: &ProjectionCommand) -> Option<(&str, ProjectionAction)> {
    let reason = |args: &ReasonArgs| args.reason.clone();
    Some(match command {
        ProjectionCommand::List | ProjectionCommand::Parked { .. } => return None,
        ProjectionCommand::Pause(args) => (&args.name, ProjectionAction::Pause { reason: reason(args) }),
        ProjectionCommand::Resume(args) => (&args.name, ProjectionAction::Resume { reason: reason(args) }),
        ProjectionCommand::Rebuild(args) => (&args.name, ProjectionAction::Rebuild { reason: reason(args) }),
        ProjectionCommand::Reset(args) => (&args.name, ProjectionAction::Reset { reason: reason(args) }),
        ProjectionCommand::Retry { name, key } => (name, ProjectionAction::Retry { key: key.clone() }),
        ProjectionCommand::Skip { name, key, position, reason } => {
            (name, ProjectionAction::Skip { key: key.clone(), position: *position, reason: reason.clone() })
        }
    })
}

/// Sends the command to a running service.
pub(super) async fn remote(service: &Remote, command: &ProjectionCommand) -> Result<Output, Failure> {
    if let ProjectionCommand::Parked { name } = command {
        return Ok(parked_output(&service.parked(name).await?));
    }
    Ok(status_output(&match action(command) {
        Some((name, action)) => service.act(name, &action).await?,
        None => service.status().await?,
    }))
}

/// Opens the store, runs the command, and runs the projections until they have caught up.
pub(super) async fn local(data: &Path, command: &ProjectionCommand) -> Result<Output, Failure> {
    with_shop(data, IfMissing::Fail, async |shop| {
        Projections::run(shop.shared_store(), async |projections| act(projections, command).await).await
    })
    .await
}

async fn act(projections: &Projections, command: &ProjectionCommand) -> Result<Output, Failure> {
    // ORDER: catch up before the command, so that every event that cannot be applied is parked already.
    projections.wait_until_idle(|_| {}).await?;
    if let ProjectionCommand::Parked { name } = command {
        return Ok(parked_output(&projections.parked(name).await?));
    }
    if let Some((name, action)) = action(command) {
        projections.act(name, &action).await?;
    }
    Ok(status_output(&projections.wait_until_idle(|_| {}).await?))
}

/// Returns the table of all projections.
pub(super) fn status_output(status: &[ProjectionReport]) -> Output {
    let number = |number: Option<u64>| number.map_or_else(|| "-".to_owned(), |number| number.to_string());
    let rows = status.iter().map(|projection| {
        let state = match &projection.rebuild {
            Some(rebuild) => format!("{}, rebuilding (position {})", projection.state, number(rebuild.position)),
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
    Output::new(text, &status)
}

/// Returns the table of parked keys.
fn parked_output(keys: &[ParkedKeyReport]) -> Output {
    let rows = keys.iter().map(|key| {
        let ParkedKeyReport { key, position, error, attempts, since } = key;
        [key.clone(), position.to_string(), attempts.to_string(), format_time(*since), error.clone()]
    });
    let text = if keys.is_empty() {
        "no parked keys".to_owned()
    } else {
        table(["key", "position", "attempts", "since", "error"], 5, rows).to_string()
    };
    Output::new(text, &keys)
}
