//! The `processes` command.

use std::path::Path;

use es_core::Timestamp;
use es_saga::process::{ProcessAdmin, ProcessId};

use super::note_args::UNNAMED;
use super::output::{Output, format_time, table};
use super::process_args::{ProcessCommand, ProcessRequest};
use super::remote::Remote;
use super::{IfMissing, with_shop};
use crate::failure::Failure;
use crate::processes::{
    self, InstanceFilter, ProcessReport, ProcessSummary, REMINDERS, SetAsideEvent, SetAsideKind, process_id,
};

/// Sends the command to a running service.
pub(super) async fn remote(service: &Remote, command: &ProcessCommand) -> Result<Output, Failure> {
    Ok(match command.request() {
        ProcessRequest::List { process, quarantined, limit } => {
            list_output(&service.processes(process, quarantined, limit).await?)
        }
        ProcessRequest::SetAside { kind, process, limit } => {
            events_output(&service.set_aside_events(kind, process, limit).await?, kind)
        }
        ProcessRequest::Show { id } => report_output(&service.process(&full_id(id)?).await?),
        ProcessRequest::Act { id, action } => list_output(&[service.act_on_process(&full_id(id)?, action).await?]),
        ProcessRequest::ActOnEvent { process, position, action } => {
            let event = service.act_on_parked_event(process, position, action).await?;
            events_output(&[event], SetAsideKind::Parked)
        }
    })
}

/// Returns the id for a path: a route has the name of a list, so an order is named by its reminder.
fn full_id(text: &str) -> Result<String, Failure> {
    if text.contains(':') { Ok(text.to_owned()) } else { Ok(ProcessId::new(REMINDERS, text)?.to_string()) }
}

/// Opens the store and runs the command.
pub(super) async fn local(data: &Path, command: &ProcessCommand) -> Result<Output, Failure> {
    with_shop(data, IfMissing::Fail, async |shop| on_store(&ProcessAdmin::new(shop.shared_store()), command).await)
        .await
}

async fn on_store(admin: &ProcessAdmin, command: &ProcessCommand) -> Result<Output, Failure> {
    Ok(match command.request() {
        ProcessRequest::List { process, quarantined, limit } => {
            let filter = if quarantined { InstanceFilter::Quarantined } else { InstanceFilter::Unfinished };
            list_output(&processes::list(admin, filter, process, limit).await?)
        }
        ProcessRequest::SetAside { kind, process, limit } => {
            events_output(&processes::set_aside(admin, kind, process, limit).await?, kind)
        }
        ProcessRequest::Show { id } => report_output(&processes::show(admin, &process_id(admin, id).await?).await?),
        ProcessRequest::Act { id, action } => {
            let (id, by) = (process_id(admin, id).await?, action.by.as_deref().unwrap_or(UNNAMED));
            list_output(&[processes::act(admin, &id, &action, by).await?])
        }
        ProcessRequest::ActOnEvent { process, position, action } => {
            let by = action.by.as_deref().unwrap_or(UNNAMED);
            let event = processes::act_on_event(admin, process, position, &action, by).await?;
            events_output(&[event], SetAsideKind::Parked)
        }
    })
}

fn time(at: Option<Timestamp>) -> String {
    at.map_or_else(|| "-".to_owned(), format_time)
}

fn list_output(instances: &[ProcessSummary]) -> Output {
    let rows = instances.iter().map(|instance| {
        let ProcessSummary { process, phase, due, waits, pending, quarantine, changed_at } = instance;
        let quarantine = quarantine.clone().unwrap_or_default();
        let waits = if waits.is_empty() { "-".to_owned() } else { waits.join(", ") };
        [process.clone(), phase.clone(), time(*due), waits, pending.to_string(), time(*changed_at), quarantine]
    });
    let text = if instances.is_empty() {
        "no processes".to_owned()
    } else {
        table(["process", "phase", "due", "waits", "pending", "changed", "quarantine"], 7, rows).to_string()
    };
    Output::new(text, &instances)
}

fn events_output(events: &[SetAsideEvent], kind: SetAsideKind) -> Output {
    let rows = events.iter().map(|event| {
        let SetAsideEvent { process, position, index, event_type, reason, time, skipped_by } = event;
        let skipped_by = skipped_by.clone().unwrap_or_default();
        let [position, index] = [position.to_string(), index.to_string()];
        [process.clone(), position, index, event_type.clone(), format_time(*time), reason.clone(), skipped_by]
    });
    let text = match (kind, events) {
        (SetAsideKind::Parked, []) => "no parked events".to_owned(),
        (SetAsideKind::Skipped, []) => "no skipped events".to_owned(),
        _ => table(["process", "position", "index", "event", "time", "reason", "skipped by"], 7, rows).to_string(),
    };
    Output::new(text, &events)
}

fn report_output(instance: &ProcessReport) -> Output {
    let mut text = format!("process {} is {}", instance.process, instance.phase);
    if let Some(reason) = &instance.quarantine {
        text += &format!(", quarantined ({reason})");
    }
    text += &format!("\nstarted {}, changed {}", time(instance.started_at), time(instance.changed_at));
    let row = |kind: &str, name: &str, value: String| [kind.to_owned(), name.to_owned(), value];
    let timers = instance.timers.iter().map(|timer| row("timer", &timer.name, format_time(timer.due)));
    let keys = instance.keys.iter().map(|key| row("key", &key.name, key.value.clone()));
    let waits = instance.waits.iter().map(|token| row("wait", "", token.clone()));
    let pending = instance.pending.iter();
    let pending = pending.map(|event| {
        let place = format!("position {}, index {}", event.position, event.index);
        row("pending event", &event.event_type, place)
    });
    let sagas = instance.sagas.iter().map(|saga| row("saga", "", saga.clone()));
    let rows: Vec<_> = timers.chain(keys).chain(waits).chain(pending).chain(sagas).collect();
    if !rows.is_empty() {
        text += &format!("\n{}", table(["kind", "name", "value"], 3, rows.into_iter()));
    }
    Output::new(text, instance)
}
