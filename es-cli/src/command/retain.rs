//! The commands `retain set`, `retain clear`, `retain list` and `retain scavenge`.

use std::collections::HashSet;
use std::ops::ControlFlow;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use es_core::retention::{Note, Rule, Scavenge, Scope};
use es_core::store::{Committed, Coverage, DeletionEntry, RetentionReport, RuleEntry, ScavengeEntry, StoreAdmin};
use es_core::{CommitError, EventReader, LogRead};
use es_rocksdb::{HiddenEvents, ReadOnlyStore};
use es_tool::text::table;
use serde::{Deserialize, Serialize};
use ureq::http::Method;

use super::administer::{administer, change_retention};
use super::job;
use crate::answer::{print, print_note};
use crate::args::{RetainClearArgs, RetainSetArgs, ScavengeArgs, ScopeArgs, format_age};
use crate::failure::Failure;
use crate::progress::Bar;
use crate::service::Target;
use crate::text::{count, excerpt, format_bytes, format_time};

/// The maximum number of deleted streams in text output. JSON output has all.
const MAX_SHOWN: usize = 20;

#[derive(Serialize, Deserialize)]
struct RuleAnswer {
    scope: String,
    position: Option<u64>,
    #[serde(flatten)]
    covered: Coverage,
}

fn scope_of(args: &ScopeArgs) -> Result<Scope, Failure> {
    args.scope().ok_or_else(|| Failure::Input("expected --stream or --category, found neither".to_owned()))
}

pub(super) async fn set(target: &Target, args: &RetainSetArgs, json: bool) -> Result<(), Failure> {
    let limits = &args.limits;
    let rule = Rule { max_age: limits.max_age, max_count: limits.max_count, truncate_before: limits.truncate_before };
    let (scope, note) = (scope_of(&args.scope)?, args.note.note());
    let answer = match target {
        Target::Directory(directory) => {
            commit_rule(directory, &scope, async |admin| admin.set_rule(scope.clone(), rule, note).await).await?
        }
        Target::Service(service) => {
            let body = SetRequest { scope: &scope, rule, note };
            let body = serde_json::to_value(body).map_err(|error| Failure::Input(error.to_string()))?;
            service.send_json(Method::PUT, "/retention/rules", &body).await?
        }
    };
    print_rule(&scope, "set", &answer, json)
}

/// The body of a request for a rule.
#[derive(Serialize)]
struct SetRequest<'a> {
    #[serde(flatten)]
    scope: &'a Scope,
    #[serde(flatten)]
    rule: Rule,
    #[serde(flatten)]
    note: Note,
}

pub(super) async fn clear(target: &Target, args: &RetainClearArgs, json: bool) -> Result<(), Failure> {
    let scope = scope_of(&args.scope)?;
    let answer = match target {
        Target::Directory(directory) => {
            let store = ReadOnlyStore::open(directory).await?;
            if !store.retention().rules().any(|(known, _)| known == scope) {
                return Err(Failure::Absent(format!("expected a rule for {scope}, found none; see `es retain list`")));
            }
            drop(store);
            let note = args.note.note();
            commit_rule(directory, &scope, async |admin| admin.clear_rule(scope.clone(), note).await).await?
        }
        Target::Service(service) => {
            let of_scope = match &scope {
                Scope::Stream(stream) => ("stream", stream.to_string()),
                Scope::Category(category) => ("category", category.to_string()),
            };
            let query: Vec<_> = std::iter::once(of_scope).chain(args.note.query()).collect();
            service.send(Method::DELETE, "/retention/rules", &query).await?
        }
    };
    print_rule(&scope, "cleared", &answer, json)
}

async fn commit_rule(
    directory: &Path,
    scope: &Scope,
    commit: impl AsyncFnOnce(StoreAdmin) -> Result<Committed, CommitError>,
) -> Result<RuleAnswer, Failure> {
    let committed = change_retention(directory, scope, async |_, admin| Ok(commit(admin).await?)).await?;
    // The rule is committed, also if this read fails.
    let covered = Coverage::of(&ReadOnlyStore::open(directory).await?, scope).await?;
    let position = committed.position().map(es_core::Position::get);
    Ok(RuleAnswer { scope: scope.to_string(), position, covered })
}

fn print_rule(scope: &Scope, change: &str, answer: &RuleAnswer, json: bool) -> Result<(), Failure> {
    let Coverage { streams, events, hidden, .. } = answer.covered;
    if streams == 0 {
        print_note(&format!("no events for {scope}; check the name with `es streams`"));
    } else if hidden == events {
        print_note(&format!("all events of {scope} are hidden; a scavenge would remove them"));
    }
    let text = || {
        let covered = format!("{} in {}", count(events, "event", "events"), count(streams, "stream", "streams"));
        format!("rule {change} for {scope}: of {covered}, {} hidden or removed", count(hidden, "is", "are"))
    };
    print(json, text, answer)
}

pub(super) async fn list(target: &Target, json: bool) -> Result<(), Failure> {
    let listed = match target {
        Target::Directory(directory) => RetentionReport::read(&ReadOnlyStore::open(directory).await?).await?,
        Target::Service(service) => service.get("/retention", &[]).await?,
    };
    print(json, || to_text(&listed), &listed)
}

fn to_text(listed: &RetentionReport) -> String {
    let text = |text: &Option<String>| text.as_deref().map_or_else(String::new, excerpt);
    let rules = table(
        ["scope", "by", "reason", "max age", "max count", "truncate before"],
        3,
        listed.rules.iter().map(|RuleEntry { scope, rule, note }| {
            let number = |number: Option<u64>| number.map_or_else(String::new, |number| number.to_string());
            [
                scope.to_string(),
                text(&note.by),
                text(&note.reason),
                rule.max_age.map_or_else(String::new, format_age),
                number(rule.max_count),
                number(rule.truncate_before.map(es_core::Revision::get)),
            ]
        }),
    );
    let mut output = format!("{rules}\n{}", count(listed.rules.len() as u64, "rule", "rules"));
    if !listed.deleted.is_empty() {
        let rows = listed.deleted.iter().take(MAX_SHOWN).map(|deleted| {
            let through = deleted.through.map_or_else(String::new, |through| through.to_string());
            let DeletionEntry { stream, kind, position, note, .. } = deleted;
            [stream.to_string(), kind.to_string(), text(&note.by), text(&note.reason), through, position.to_string()]
        });
        let deletions = table(["deleted stream", "kind", "by", "reason", "through", "position"], 4, rows);
        let number = count(listed.deleted.len() as u64, "deleted stream", "deleted streams");
        output += &format!("\n\n{deletions}\n{number}");
    }
    if let Some(ScavengeEntry { position, at, note }) = listed.scavenges.last() {
        let number = count(listed.scavenges.len() as u64, "scavenge", "scavenges");
        output += &format!("\n\n{number}, the last at position {position}, {}", format_time(*at));
        if note.by.is_some() {
            output += &format!(", by {}", text(&note.by));
        }
        if note.reason.is_some() {
            output += &format!(": {}", text(&note.reason));
        }
    }
    output
}

#[derive(Serialize)]
struct DryRunAnswer {
    events: u64,
    streams: u64,
}

/// Counts the events that a scavenge would remove. Reads the log twice in parallel, and keeps the names of the affected
/// streams in memory.
async fn dry_run(directory: &Path, json: bool) -> Result<(), Failure> {
    let store = ReadOnlyStore::open(directory).await?;
    let bar = Bar::new("hidden events");
    let total = store.head().await?.map(es_core::Position::get);
    // Both reads return the same positions. An event with content in one of them only is hidden but not removed.
    let mut visible = store.read_log_with_hidden(LogRead::all(), HiddenEvents::AsTombstones);
    let mut all = store.read_log_with_hidden(LogRead::all(), HiddenEvents::WithContent);
    let (mut events, mut streams) = (0, HashSet::new());
    while let (Some(visible), Some(event)) = (visible.next().await?, all.next().await?) {
        if visible.is_removed() && !event.is_removed() {
            events += 1;
            streams.insert(event.stream);
        }
        if event.position.get().is_multiple_of(1000) {
            bar.update("hidden events", event.position.get(), total);
        }
    }
    drop(bar);
    let answer = DryRunAnswer { events, streams: streams.len() as u64 };
    let text = || {
        let streams = count(answer.streams, "stream", "streams");
        format!("would remove {} of {streams}; nothing was written", count(events, "event", "events"))
    };
    print(json, text, &answer)
}

#[derive(Serialize, Deserialize)]
struct Scavenged {
    events: u64,
    bytes: u64,
    position: u64,
    earlier_points: u64,
}

pub(super) async fn scavenge(target: &Target, args: &ScavengeArgs, json: bool) -> Result<(), Failure> {
    let scavenged: Scavenged = match target {
        Target::Directory(directory) if args.dry_run => return dry_run(directory, json).await,
        Target::Service(_) if args.dry_run => {
            return Err(super::needs_directory("retain scavenge --dry-run"));
        }
        Target::Directory(directory) => scavenge_in(directory, args).await?,
        Target::Service(service) => {
            job::run(service, "/scavenge", &args.note.note(), Some(args.pause), "events removed").await?
        }
    };
    let text = || {
        let events = count(scavenged.events, "event", "events");
        format!("{events} with {} removed, as of position {}", format_bytes(scavenged.bytes), scavenged.position)
    };
    print(json, text, &scavenged)
}

async fn scavenge_in(directory: &Path, args: &ScavengeArgs) -> Result<Scavenged, Failure> {
    let bar = Arc::new(Bar::new("events removed"));
    let updated = Arc::clone(&bar);
    let options = Scavenge {
        note: args.note.note(),
        pause: Duration::from_millis(args.pause),
        progress: Some(Arc::new(move |progress| {
            updated.update("events removed", progress.events, None);
            ControlFlow::Continue(())
        })),
    };
    let result = administer(directory, async |_, admin| Ok(admin.scavenge(&options).await?)).await;
    drop((options, bar));
    let report = result?;
    Ok(Scavenged {
        events: report.events,
        bytes: report.bytes,
        position: report.point.position.get(),
        earlier_points: report.earlier_points,
    })
}
