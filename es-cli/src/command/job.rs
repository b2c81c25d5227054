//! Follows a job of a service: a scavenge or a compaction.

use es_core::retention::Note;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use ureq::http::Method;

use crate::answer::print_note;
use crate::failure::Failure;
use crate::progress::Bar;
use crate::service::Service;
use crate::service_error::ServiceError;
use crate::text::count;

/// The status of a job.
#[derive(Debug, Deserialize)]
struct JobStatus {
    id: String,
    state: String,
    events: u64,
    result: Option<Value>,
    error: Option<String>,
}

/// Starts a job and waits for its result. The job continues if this process ends.
pub(super) async fn run<T: DeserializeOwned>(
    service: &Service,
    path: &str,
    note: &Note,
    pause_ms: Option<u64>,
    step: &str,
) -> Result<T, Failure> {
    let mut body = json!({ "by": note.by, "reason": note.reason });
    if let Some(pause_ms) = pause_ms {
        body["pause_ms"] = pause_ms.into();
    }
    let mut job: JobStatus = service.send_json(Method::POST, path, &body).await?;
    let bar = Bar::new(step);
    while job.state == "running" {
        bar.update(step, job.events, None);
        // A short wait at first, so that the bar moves.
        job = service.get(&format!("/jobs/{}", job.id), &[("wait", "1".to_owned())]).await?;
    }
    drop(bar);
    match (job.state.as_str(), job.result) {
        ("done", Some(result)) => serde_json::from_value(result).map_err(|error| {
            let source = ServiceError::Answer { detail: error.to_string() };
            Failure::Service { address: service.address().to_owned(), source }
        }),
        (state, result) => {
            if let Some(events) = result.as_ref().and_then(|result| result.get("events")?.as_u64()) {
                let removed = count(events, "event was", "events were");
                print_note(&format!("{removed} removed before the job ended; the next scavenge continues"));
            }
            let detail = job.error.unwrap_or_else(|| format!("the job {} is {state}; run the command again", job.id));
            Err(Failure::Service { address: service.address().to_owned(), source: ServiceError::Job { detail } })
        }
    }
}
