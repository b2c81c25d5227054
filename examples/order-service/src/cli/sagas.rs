//! The `sagas` command.

use std::path::Path;

use es_core::Timestamp;
use es_saga::SagaAdmin;

use super::fulfilment_args::SagaCommand;
use super::note_args::UNNAMED;
use super::output::{Output, format_time, table};
use super::provider::default_record;
use super::remote::Remote;
use super::{IfMissing, with_shop};
use crate::failure::Failure;
use crate::fulfilment::{ProviderClient, StockAndMoney};
use crate::provider::read_record;
use crate::sagas::{self, SagaReport, SagaSummary, saga_id};
use crate::shop::Shop;

/// Sends the command to a running service.
pub(super) async fn remote(service: &Remote, command: &SagaCommand) -> Result<Output, Failure> {
    if let Some((id, action)) = command.action() {
        return Ok(list_output(&[service.act_on_saga(&saga_id(id)?, action).await?]));
    }
    Ok(match command {
        SagaCommand::Show { id, mermaid } => report_output(&service.saga(&saga_id(id)?).await?, *mermaid),
        SagaCommand::List { all, limit } => list_output(&service.sagas(*all, *limit).await?),
        _ => totals_output(&service.stock_and_money().await?),
    })
}

/// Opens the store and runs the command.
pub(super) async fn local(data: &Path, command: &SagaCommand) -> Result<Output, Failure> {
    with_shop(data, IfMissing::Fail, async |shop| on_shop(shop, data, command).await).await
}

async fn on_shop(shop: &Shop, data: &Path, command: &SagaCommand) -> Result<Output, Failure> {
    let admin = SagaAdmin::new(shop.shared_store());
    if let Some((id, action)) = command.action() {
        let by = action.by.as_deref().unwrap_or(UNNAMED);
        return Ok(list_output(&[sagas::act(&admin, &saga_id(id)?, &action, by).await?]));
    }
    Ok(match command {
        SagaCommand::Show { id, mermaid } => report_output(&sagas::show(&admin, &saga_id(id)?).await?, *mermaid),
        SagaCommand::List { all: true, limit } => list_output(&sagas::all(shop, &admin, *limit).await?),
        SagaCommand::Report { provider: Some(url), .. } => {
            let provider = ProviderClient::new(url);
            totals_output(&StockAndMoney::compute(shop, async || Ok(provider.effects().await?)).await?)
        }
        SagaCommand::Report { record, .. } => {
            let record = record.clone().map_or_else(|| default_record(data), Ok)?;
            totals_output(&StockAndMoney::compute(shop, async || Ok(read_record(&record)?)).await?)
        }
        SagaCommand::List { limit, .. } => list_output(&sagas::unfinished(&admin, *limit).await?),
        // The other commands have an action.
        _ => list_output(&[]),
    })
}

fn time(at: Option<Timestamp>) -> String {
    at.map_or_else(|| "-".to_owned(), format_time)
}

fn phase_text(phase: &str, is_paused: bool) -> String {
    if is_paused { format!("{phase}, paused") } else { phase.to_owned() }
}

fn list_output(sagas: &[SagaSummary]) -> Output {
    let rows = sagas.iter().map(|saga| {
        let SagaSummary { saga, phase, is_paused, reason, changed_at } = saga;
        let reason = reason.clone().unwrap_or_default();
        [saga.clone(), phase_text(phase, *is_paused), time(*changed_at), reason]
    });
    let text = if sagas.is_empty() {
        "no sagas".to_owned()
    } else {
        table(["saga", "phase", "changed", "reason"], 4, rows).to_string()
    };
    Output::new(text, &sagas)
}

fn report_output(saga: &SagaReport, is_mermaid: bool) -> Output {
    if is_mermaid {
        return Output::new(saga.mermaid.as_str(), saga);
    }
    let mut text = format!("saga {} is {}", saga.saga, phase_text(&saga.phase, saga.is_paused));
    if let Some(reason) = &saga.reason {
        text += &format!(" ({reason})");
    }
    text += &format!("\ncreated {}, changed {}", time(saga.created_at), time(saga.changed_at));
    if let Some(deadline) = saga.deadline {
        text += &format!(", deadline {}", format_time(deadline));
    }
    let rows = saga.steps.iter().map(|step| {
        let status = match step.retry_at {
            Some(at) => format!("{} until {}", step.status, format_time(at)),
            None => step.status.clone(),
        };
        let attempts = format!("{}/{}", step.attempts, step.undo_attempts);
        let error = step.error.clone().unwrap_or_default();
        [step.step.clone(), status, attempts, time(step.started_at), time(step.ended_at), error]
    });
    let header = ["step", "status", "attempts/undos", "started", "ended", "last error"];
    Output::new(format!("{text}\n{}", table(header, 6, rows)), saga)
}

/// Returns the report of all sagas.
pub(super) fn totals_output(totals: &StockAndMoney) -> Output {
    let StockAndMoney { sagas, completed, compensated, stuck, running, .. } = totals;
    let StockAndMoney { stock_reserved, stock_shipped, stock_released, stock_held, .. } = totals;
    let StockAndMoney { money_taken, money_kept, money_refunded, money_pending, effects_per_key_max, .. } = totals;
    let mut text = format!(
        "{sagas} sagas: {completed} completed, {compensated} compensated, {stuck} stuck, {running} running\n\
         stock: {stock_reserved} reserved, {stock_shipped} shipped, {stock_released} released, {stock_held} held\n\
         money: {} taken, {} kept, {} refunded, {} pending\n\
         effects for each key: at most {effects_per_key_max}",
        amount(*money_taken),
        amount(*money_kept),
        amount(*money_refunded),
        amount(*money_pending)
    );
    if !totals.is_balanced() {
        text += "\nthe sums do not agree; report this bug";
    }
    Output::new(text, totals)
}

fn amount(cents: u64) -> String {
    format!("{}.{:02}", cents / 100, cents % 100)
}
