//! `retain set`, `retain clear`, `retain list` and `retain scavenge`

use std::collections::{BTreeMap, HashSet};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use es_core::model::Category;
use es_core::retention::{self, DeleteKind, Note, OperatorEvent, Rule, Scavenge, Scope};
use es_core::{Commit, EventReader, EventStore, LogRead, Timestamp};
use es_rocksdb::{HiddenEvents, Options, ReadOnlyStore};
use serde::Serialize;

use super::streams::Covered;
use crate::answer::{note, say};
use crate::args::{RetainClearArgs, RetainSetArgs, ScavengeArgs, ScopeArgs, shown_age};
use crate::failure::Failure;
use crate::progress::Bar;
use crate::text::{bytes, count, shown, shown_text, table};

/// How many deleted streams people are shown; machines are shown all.
const MOST: usize = 20;

#[derive(Serialize)]
struct Written {
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
    let commit = Commit::set_rule(scope.clone(), rule, args.note.note());
    write(directory, commit, &scope, "set", json).await
}

pub(super) async fn clear(directory: &Path, args: &RetainClearArgs, json: bool) -> Result<(), Failure> {
    let scope = scope_of(&args.scope)?;
    let store = ReadOnlyStore::open(directory).await?;
    if !store.retention().rules().any(|(known, _)| known == scope) {
        return Err(Failure::Absent(format!("expected a rule for {scope}, found none; see retain list")));
    }
    drop(store);
    write(directory, Commit::clear_rule(scope.clone(), args.note.note()), &scope, "cleared", json).await
}

async fn write(directory: &Path, commit: Commit, scope: &Scope, what: &str, json: bool) -> Result<(), Failure> {
    let store = Options::new().create_if_missing(false).open(directory).await?;
    let committed = store.commit(commit).await;
    let closed = store.close().await;
    let position = committed?.position().map(es_core::Position::get);
    closed?;
    // NOTE: read anew: what is written is not undone where this fails.
    let covered = Covered::by(scope, &ReadOnlyStore::open(directory).await?).await?;
    let Covered { streams, events, hidden } = covered;
    if streams == 0 {
        note(&format!("there is no event for {scope} yet; if a name was typed wrong, see `es streams`"));
    } else if hidden == events {
        note(&format!("nothing of {scope} is shown any more; a scavenge would remove all of it"));
    }
    let words = || {
        let of = format!("{} in {}", count(events, "event", "events"), count(streams, "stream", "streams"));
        format!("rule {what} for {scope}: of {of}, {hidden} are hidden or removed")
    };
    let written = Written { scope: scope.to_string(), position, covered: Covered { streams, events, hidden } };
    say(json, words, &written)
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

/// Who did what, and why, by where it stands in the log.
///
/// A store does not keep this in memory: it is read from the log.
async fn notes(store: &ReadOnlyStore) -> Result<(BTreeMap<Scope, Note>, BTreeMap<u64, Note>), Failure> {
    let (mut of_rules, mut others) = (BTreeMap::new(), BTreeMap::new());
    let category = Category::new(retention::CATEGORY).map_err(|error| Failure::Input(error.to_string()))?;
    let mut events = store.read_log(LogRead::category(category)).await?;
    while let Some(batch) = events.next_batch().await? {
        for event in batch {
            // NOTE: the store has read all of these when it was opened: what it did not understand is not there.
            match OperatorEvent::read(&event.stream, &event.data.event_type, &event.data.payload) {
                Ok(OperatorEvent::RuleSet { scope, note, .. }) => {
                    of_rules.insert(scope, note);
                }
                Ok(OperatorEvent::StreamDeleted { note, .. } | OperatorEvent::ScavengePoint { note, .. }) => {
                    others.insert(event.position.get(), note);
                }
                Ok(OperatorEvent::RuleCleared { .. }) | Err(_) => {}
            }
        }
    }
    Ok((of_rules, others))
}

pub(super) async fn list(directory: &Path, json: bool) -> Result<(), Failure> {
    let store = ReadOnlyStore::open(directory).await?;
    let said = store.retention();
    let (mut of_rules, others) = notes(&store).await?;
    let of = |position: es_core::Position| others.get(&position.get()).cloned().unwrap_or_default();
    let deleted = said.deletions().map(|(stream, deletion)| ListedDeletion {
        stream: stream.to_string(),
        kind: deletion.kind,
        through: deletion.through.map(es_core::Revision::get),
        position: deletion.position.get(),
        note: of(deletion.position),
    });
    let scavenges = said.points().iter().map(|point| ListedPoint {
        position: point.position.get(),
        at: point.at,
        note: of(point.position),
    });
    let rules = said.rules().map(|(scope, rule)| {
        let note = of_rules.remove(&scope).unwrap_or_default();
        ListedRule { scope, rule, note }
    });
    let listed = Listed { rules: rules.collect(), deleted: deleted.collect(), scavenges: scavenges.collect() };
    say(json, || in_words(&listed), &listed)
}

fn in_words(listed: &Listed) -> String {
    let text = |text: &Option<String>| text.as_deref().map_or_else(String::new, shown_text);
    let rules = table(
        ["for", "by", "reason", "max age", "max count", "truncate before"],
        3,
        listed.rules.iter().map(|ListedRule { scope, rule, note }| {
            let number = |number: Option<u64>| number.map_or_else(String::new, |number| number.to_string());
            [
                scope.to_string(),
                text(&note.by),
                text(&note.reason),
                rule.max_age.map_or_else(String::new, shown_age),
                number(rule.max_count),
                number(rule.truncate_before.map(es_core::Revision::get)),
            ]
        }),
    );
    let mut words = format!("{rules}\n{}", count(listed.rules.len() as u64, "rule", "rules"));
    if !listed.deleted.is_empty() {
        let rows = listed.deleted.iter().take(MOST).map(|deleted| {
            let through = deleted.through.map_or_else(String::new, |through| through.to_string());
            let ListedDeletion { stream, kind, position, note, .. } = deleted;
            [stream.clone(), kind.to_string(), text(&note.by), text(&note.reason), through, position.to_string()]
        });
        let deletions = table(["deleted stream", "how", "by", "reason", "through", "position"], 4, rows);
        let number = count(listed.deleted.len() as u64, "deleted stream", "deleted streams");
        words += &format!("\n\n{deletions}\n{number}");
    }
    if let Some(ListedPoint { position, at, note }) = listed.scavenges.last() {
        let number = count(listed.scavenges.len() as u64, "scavenge", "scavenges");
        words += &format!("\n\n{number}, the last at position {position}, {}", shown(*at));
        if note.by.is_some() {
            words += &format!(", by {}", text(&note.by));
        }
        if note.reason.is_some() {
            words += &format!(": {}", text(&note.reason));
        }
    }
    words
}

#[derive(Serialize)]
struct WouldScavenge {
    events: u64,
    streams: u64,
}

/// What a scavenge would remove now. It reads the log twice side by side and writes nothing; a name for each stream of which
/// something would go is in memory.
async fn would_scavenge(directory: &Path, json: bool) -> Result<(), Failure> {
    let store = ReadOnlyStore::open(directory).await?;
    let bar = Bar::new("look for what is hidden");
    let total = store.head().await?.map(es_core::Position::get);
    // NOTE: the same positions come from both. What has its content in one only is hidden and not removed.
    let mut shown = store.read_log_with_hidden(LogRead::all(), HiddenEvents::AsTombstones);
    let mut all = store.read_log_with_hidden(LogRead::all(), HiddenEvents::WithContent);
    let (mut events, mut streams) = (0, HashSet::new());
    while let (Some(shown), Some(event)) = (shown.next().await?, all.next().await?) {
        if shown.is_removed() && !event.is_removed() {
            events += 1;
            streams.insert(event.stream);
        }
        if event.position.get().is_multiple_of(1000) {
            bar.at("look for what is hidden", event.position.get(), total);
        }
    }
    drop(bar);
    let would = WouldScavenge { events, streams: streams.len() as u64 };
    let words = || {
        let of = count(would.streams, "stream", "streams");
        format!("would remove {} of {of}; nothing was written", count(events, "event", "events"))
    };
    say(json, words, &would)
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
        return would_scavenge(directory, json).await;
    }
    let store = Options::new().create_if_missing(false).open(directory).await?;
    let bar = Arc::new(Bar::new("events removed"));
    let seen = Arc::clone(&bar);
    let how = Scavenge {
        note: args.note.note(),
        pause: Duration::from_millis(args.pause),
        progress: Some(Arc::new(move |_, events| seen.at("events removed", events, None))),
    };
    let done = store.scavenge(&how).await;
    drop((how, bar));
    let closed = store.close().await;
    let report = done?;
    closed?;
    let scavenged = Scavenged {
        events: report.events,
        bytes: report.bytes,
        position: report.point.position.get(),
        earlier_points: report.earlier_points,
    };
    let words = || {
        let events = count(scavenged.events, "event", "events");
        format!("{events} with {} removed, as of position {}", bytes(scavenged.bytes), scavenged.position)
    };
    say(json, words, &scavenged)
}
