//! The commands `projections list`, `parked`, `pause`, `resume`, `rebuild`, `reset`, `retry` and `skip`.

use es_core::Timestamp;
use es_tool::text::table;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use ureq::http::Method;

use crate::answer::print;
use crate::args::{ProjectionsCommand, ReasonArgs};
use crate::failure::Failure;
use crate::service::{Service, encoded};
use crate::text::format_time;

/// The status of a projection.
#[derive(Serialize, Deserialize)]
struct ProjectionRow {
    name: String,
    state: String,
    position: Option<u64>,
    lag_events: u64,
    lag_seconds: Option<f64>,
    rebuild: Option<RebuildRow>,
    parked_keys: usize,
    last_error: Option<String>,
    restarts: u64,
}

/// The progress of a rebuild.
#[derive(Serialize, Deserialize)]
struct RebuildRow {
    position: Option<u64>,
}

/// A parked key.
#[derive(Serialize, Deserialize)]
struct ParkedRow {
    key: String,
    position: u64,
    error: String,
    attempts: u32,
    since: Timestamp,
}

pub(super) async fn run(service: &Service, command: &ProjectionsCommand, json: bool) -> Result<(), Failure> {
    let with_reason =
        |verb: &str, args: &ReasonArgs| (args.name.clone(), json!({ "verb": verb, "reason": args.reason }));
    let (name, action) = match command {
        ProjectionsCommand::List => return print_status(&service.get("/projections", &[]).await?, json),
        ProjectionsCommand::Parked { name } => {
            let path = format!("/projections/{}/parked", encoded(name));
            return print_parked(&service.get(&path, &[]).await?, json);
        }
        ProjectionsCommand::Pause(args) => with_reason("pause", args),
        ProjectionsCommand::Resume(args) => with_reason("resume", args),
        ProjectionsCommand::Rebuild(args) => with_reason("rebuild", args),
        ProjectionsCommand::Reset(args) => with_reason("reset", args),
        ProjectionsCommand::Retry { name, key } => (name.clone(), json!({ "verb": "retry", "key": key })),
        ProjectionsCommand::Skip { name, key, position, reason } => {
            (name.clone(), json!({ "verb": "skip", "key": key, "position": position, "reason": reason }))
        }
    };
    print_status(&act(service, &name, &action).await?, json)
}

async fn act(service: &Service, name: &str, action: &Value) -> Result<Vec<ProjectionRow>, Failure> {
    service.send_json(Method::POST, &format!("/projections/{}", encoded(name)), action).await
}

fn print_status(projections: &Vec<ProjectionRow>, json: bool) -> Result<(), Failure> {
    let number = |number: Option<u64>| number.map_or_else(|| "-".to_owned(), |number| number.to_string());
    let text = || {
        let rows = projections.iter().map(|row| {
            let state = match &row.rebuild {
                Some(rebuild) => format!("{}, rebuilding (position {})", row.state, number(rebuild.position)),
                None => row.state.clone(),
            };
            [row.name.clone(), state, number(row.position), row.lag_events.to_string(), row.parked_keys.to_string()]
        });
        let mut text = table(["projection", "state", "position", "lag", "parked"], 2, rows).to_string();
        for (name, error) in projections.iter().filter_map(|row| Some((&row.name, row.last_error.as_ref()?))) {
            text += &format!("\n{name}: {error}");
        }
        text
    };
    print(json, text, projections)
}

fn print_parked(parked: &Vec<ParkedRow>, json: bool) -> Result<(), Failure> {
    let text = || {
        if parked.is_empty() {
            return "no parked keys".to_owned();
        }
        let rows = parked.iter().map(|row| {
            let (position, attempts) = (row.position.to_string(), row.attempts.to_string());
            [row.key.clone(), position, attempts, format_time(row.since), row.error.clone()]
        });
        table(["key", "position", "attempts", "since", "error"], 5, rows).to_string()
    };
    print(json, text, parked)
}
