//! The commands `retain set`, `retain clear`, `retain list` and `retain scavenge`.

use std::collections::{BTreeMap, HashSet};
use std::ops::ControlFlow;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use es_core::model::Category;
use es_core::retention::{self, DeleteKind, Note, OperatorEvent, Rule, Scavenge, Scope};
use es_core::store::{Committed, StoreAdmin};
use es_core::{CommitError, EventReader, EventStore, LogRead, Revision, Timestamp};
use es_rocksdb::{HiddenEvents, Options, ReadOnlyStore};
use es_tool::text::table;
use serde::Serialize;

use super::streams::Covered;
use crate::answer::{print, print_note};
use crate::args::{RetainClearArgs, RetainSetArgs, ScavengeArgs, ScopeArgs, format_age};
use crate::failure::Failure;
use crate::progress::Bar;
use crate::text::{count, excerpt, format_bytes, format_time};

/// The maximum number of deleted streams in text output. JSON output has all.
const MAX_SHOWN: usize = 20;

#[derive(Serialize)]
struct RuleAnswer {
    scope: String,
    position: Option<u64>,
    #[serde(flatten)]
    covered: Covered,
}

fn scope_of(args: &ScopeArgs) -> Result<Scope, Failure> {
    args.scope().ok_or_else(|| Failure::Input("expected --stream or --category, found neither".to_owned()))
}

pub(super) async fn set(directory: &Path, args: &RetainSetArgs, json: bool) -> Result<(), Failure> {
    let limits = &args.limits;
    let rule = Rule { max_age: limits.max_age, max_count: limits.max_count, truncate_before: limits.truncate_before };
    let scope = scope_of(&args.scope)?;
    if let (Scope::Category(category), Some(first)) = (&scope, limits.truncate_before) {
        // The store refuses such a rule for one stream.
        let Covered { last, .. } = Covered::count(&scope, &ReadOnlyStore::open(directory).await?).await?;
        let end = Revision::following(last);
        if first > end {
            return Err(Failure::Input(format!(
                "category {category}: expected a revision up to {end} for --truncate-before, found {first}; it would \
                 hide events that are not written yet"
            )));
        }
    }
    let note = args.note.note();
    commit_rule(directory, &scope, "set", json, async |admin| admin.set_rule(scope.clone(), rule, note).await).await
}

pub(super) async fn clear(directory: &Path, args: &RetainClearArgs, json: bool) -> Result<(), Failure> {
    let scope = scope_of(&args.scope)?;
    let store = ReadOnlyStore::open(directory).await?;
    if !store.retention().rules().any(|(known, _)| known == scope) {
        return Err(Failure::Absent(format!("expected a rule for {scope}, found none; see `es retain list`")));
    }
    drop(store);
    let note = args.note.note();
    commit_rule(directory, &scope, "cleared", json, async |admin| admin.clear_rule(scope.clone(), note).await).await
}

async fn commit_rule(
    directory: &Path,
    scope: &Scope,
    change: &str,
    json: bool,
    commit: impl AsyncFnOnce(StoreAdmin) -> Result<Committed, CommitError>,
) -> Result<(), Failure> {
    let store = Options::new().create_if_missing(false).open(directory).await?;
    let committed = commit(StoreAdmin::new(Arc::new(store.clone()))).await;
    let closed = store.close().await;
    let position = committed?.position().map(es_core::Position::get);
    closed?;
    // The rule is committed, also if this read fails.
    let covered = Covered::count(scope, &ReadOnlyStore::open(directory).await?).await?;
    let Covered { streams, events, hidden, .. } = covered;
    if streams == 0 {
        print_note(&format!("no events for {scope}; check the name with `es streams`"));
    } else if hidden == events {
        print_note(&format!("all events of {scope} are hidden; a scavenge would remove them"));
    }
    let text = || {
        let covered = format!("{} in {}", count(events, "event", "events"), count(streams, "stream", "streams"));
        format!("rule {change} for {scope}: of {covered}, {hidden} are hidden or removed")
    };
    let written = RuleAnswer { scope: scope.to_string(), position, covered };
    print(json, text, &written)
}

#[derive(Serialize)]
struct Listed {
    rules: Vec<ListedRule>,
    deleted: Vec<ListedDeletion>,
    scavenges: Vec<ListedPoint>,
}

#[derive(Serialize)]
struct ListedRule {
    #[serde(flatten)]
    scope: Scope,
    #[serde(flatten)]
    rule: Rule,
    #[serde(flatten)]
    note: Note,
}

#[derive(Serialize)]
struct ListedDeletion {
    stream: String,
    kind: DeleteKind,
    through: Option<u64>,
    position: u64,
    #[serde(flatten)]
    note: Note,
}

#[derive(Serialize)]
struct ListedPoint {
    position: u64,
    at: Timestamp,
    #[serde(flatten)]
    note: Note,
}

/// Reads the notes of operators from the log: those of rules by scope, those of deletions and scavenges by position.
async fn notes(store: &ReadOnlyStore) -> Result<(BTreeMap<Scope, Note>, BTreeMap<u64, Note>), Failure> {
    let (mut of_rules, mut others) = (BTreeMap::new(), BTreeMap::new());
    let category = Category::new(retention::CATEGORY).map_err(|error| Failure::Input(error.to_string()))?;
    let mut events = store.read_log(LogRead::category(category)).await?;
    while let Some(batch) = events.next_batch().await? {
        for event in batch {
            // Opening the store has validated these events.
            match OperatorEvent::read(&event.stream, &event.data.event_type, &event.data.payload) {
                Ok(OperatorEvent::RuleSet { scope, note, .. }) => {
                    of_rules.insert(scope, note);
                }
                Ok(OperatorEvent::StreamDeleted { note, .. } | OperatorEvent::ScavengePoint { note, .. }) => {
                    others.insert(event.position.get(), note);
                }
                Ok(OperatorEvent::RuleCleared { .. } | OperatorEvent::SubjectErased { .. }) | Err(_) => {}
            }
        }
    }
    Ok((of_rules, others))
}

pub(super) async fn list(directory: &Path, json: bool) -> Result<(), Failure> {
    let store = ReadOnlyStore::open(directory).await?;
    let retention = store.retention();
    let (mut of_rules, others) = notes(&store).await?;
    let note_at = |position: es_core::Position| others.get(&position.get()).cloned().unwrap_or_default();
    let deleted = retention.deletions().map(|(stream, deletion)| ListedDeletion {
        stream: stream.to_string(),
        kind: deletion.kind,
        through: deletion.through.map(es_core::Revision::get),
        position: deletion.position.get(),
        note: note_at(deletion.position),
    });
    let scavenges = retention.points().iter().map(|point| ListedPoint {
        position: point.position.get(),
        at: point.at,
        note: note_at(point.position),
    });
    let rules = retention.rules().map(|(scope, rule)| {
        let note = of_rules.remove(&scope).unwrap_or_default();
        ListedRule { scope, rule, note }
    });
    let listed = Listed { rules: rules.collect(), deleted: deleted.collect(), scavenges: scavenges.collect() };
    print(json, || to_text(&listed), &listed)
}

fn to_text(listed: &Listed) -> String {
    let text = |text: &Option<String>| text.as_deref().map_or_else(String::new, excerpt);
    let rules = table(
        ["scope", "by", "reason", "max age", "max count", "truncate before"],
        3,
        listed.rules.iter().map(|ListedRule { scope, rule, note }| {
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
            let ListedDeletion { stream, kind, position, note, .. } = deleted;
            [stream.clone(), kind.to_string(), text(&note.by), text(&note.reason), through, position.to_string()]
        });
        let deletions = table(["deleted stream", "kind", "by", "reason", "through", "position"], 4, rows);
        let number = count(listed.deleted.len() as u64, "deleted stream", "deleted streams");
        output += &format!("\n\n{deletions}\n{number}");
    }
    if let Some(ListedPoint { position, at, note }) = listed.scavenges.last() {
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

#[derive(Serialize)]
struct Scavenged {
    events: u64,
    bytes: u64,
    position: u64,
    earlier_points: u64,
}

pub(super) async fn scavenge(directory: &Path, args: &ScavengeArgs, json: bool) -> Result<(), Failure> {
    if args.dry_run {
        return dry_run(directory, json).await;
    }
    let store = Options::new().create_if_missing(false).open(directory).await?;
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
    let result = StoreAdmin::new(Arc::new(store.clone())).scavenge(&options).await;
    drop((options, bar));
    let closed = store.close().await;
    let report = result?;
    closed?;
    let scavenged = Scavenged {
        events: report.events,
        bytes: report.bytes,
        position: report.point.position.get(),
        earlier_points: report.earlier_points,
    };
    let text = || {
        let events = count(scavenged.events, "event", "events");
        format!("{events} with {} removed, as of position {}", format_bytes(scavenged.bytes), scavenged.position)
    };
    print(json, text, &scavenged)
}
