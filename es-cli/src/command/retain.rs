//! `retain set`, `retain clear`, `retain list` and `retain scavenge`

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use es_core::retention::{self, DeleteKind, Rule, Scavenge, Scope};
use es_core::{Commit, EventStore, Timestamp};
use es_rocksdb::{Options, ReadOnlyStore};
use serde::Serialize;

use crate::answer::{bytes, count, say, shown, table};
use crate::args::{RetainClearArgs, RetainSetArgs, ScavengeArgs, ScopeArgs, shown_age};
use crate::failure::Failure;
use crate::progress::Bar;

/// How many deleted streams people are shown; machines are shown all.
const MOST: usize = 20;

#[derive(Serialize)]
struct Written {
    scope: String,
    position: Option<u64>,
}

fn scope_of(args: &ScopeArgs) -> Result<Scope, Failure> {
    args.scope().ok_or_else(|| Failure::Input("expected --stream or --category, found neither".to_owned()))
}

pub(super) async fn set(folder: &Path, args: &RetainSetArgs, json: bool) -> Result<(), Failure> {
    let limits = &args.limits;
    let rule = Rule { max_age: limits.max_age, max_count: limits.max_count, truncate_before: limits.truncate_before };
    let scope = scope_of(&args.scope)?;
    let commit = retention::set_rule(scope.clone(), rule, args.note.note());
    write(folder, commit, &scope, "set", json).await
}

pub(super) async fn clear(folder: &Path, args: &RetainClearArgs, json: bool) -> Result<(), Failure> {
    let scope = scope_of(&args.scope)?;
    let store = ReadOnlyStore::open(folder).await?;
    if !store.retention().rules().any(|(known, _)| known == scope) {
        return Err(Failure::Absent(format!("expected a rule for {scope}, found none; see retain list")));
    }
    drop(store);
    write(folder, retention::clear_rule(scope.clone(), args.note.note()), &scope, "cleared", json).await
}

async fn write(folder: &Path, commit: Commit, scope: &Scope, what: &str, json: bool) -> Result<(), Failure> {
    let store = Options::new().create_if_missing(false).open(folder).await?;
    let committed = store.commit(commit).await;
    let closed = store.close().await;
    let position = committed?.position().map(es_core::Position::get);
    closed?;
    let written = Written { scope: scope.to_string(), position };
    say(json, || format!("rule {what} for {scope}"), &written)
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
}

#[derive(Serialize)]
struct ListedDeletion {
    stream: String,
    kind: DeleteKind,
    through: Option<u64>,
    position: u64,
}

#[derive(Serialize)]
struct ListedPoint {
    position: u64,
    at: Timestamp,
}

pub(super) async fn list(folder: &Path, json: bool) -> Result<(), Failure> {
    let said = ReadOnlyStore::open(folder).await?.retention();
    let deleted = said.deletions().map(|(stream, deletion)| ListedDeletion {
        stream: stream.to_string(),
        kind: deletion.kind,
        through: deletion.through.map(es_core::Revision::get),
        position: deletion.position.get(),
    });
    let scavenges = said.points().iter().map(|point| ListedPoint { position: point.position.get(), at: point.at });
    let listed = Listed {
        rules: said.rules().map(|(scope, rule)| ListedRule { scope, rule }).collect(),
        deleted: deleted.collect(),
        scavenges: scavenges.collect(),
    };
    say(json, || in_words(&listed), &listed)
}

fn in_words(listed: &Listed) -> String {
    let rules = table(
        ["for", "max age", "max count", "truncate before"],
        1,
        listed.rules.iter().map(|ListedRule { scope, rule }| {
            let number = |number: Option<u64>| number.map_or_else(String::new, |number| number.to_string());
            [
                scope.to_string(),
                rule.max_age.map_or_else(String::new, shown_age),
                number(rule.max_count),
                number(rule.truncate_before.map(es_core::Revision::get)),
            ]
        }),
    );
    let mut text = format!("{rules}\n{}", count(listed.rules.len() as u64, "rule", "rules"));
    if !listed.deleted.is_empty() {
        let rows = listed.deleted.iter().take(MOST).map(|deleted| {
            let through = deleted.through.map_or_else(String::new, |through| through.to_string());
            [deleted.stream.clone(), deleted.kind.to_string(), through, deleted.position.to_string()]
        });
        let deletions = table(["deleted stream", "how", "through", "position"], 2, rows);
        let number = count(listed.deleted.len() as u64, "deleted stream", "deleted streams");
        text += &format!("\n\n{deletions}\n{number}");
    }
    if let Some(ListedPoint { position, at }) = listed.scavenges.last() {
        let number = count(listed.scavenges.len() as u64, "scavenge", "scavenges");
        text += &format!("\n\n{number}, the last at position {position}, {}", shown(*at));
    }
    text
}

#[derive(Serialize)]
struct Scavenged {
    events: u64,
    bytes: u64,
    position: u64,
    earlier_points: u64,
}

pub(super) async fn scavenge(folder: &Path, args: &ScavengeArgs, json: bool) -> Result<(), Failure> {
    let store = Options::new().create_if_missing(false).open(folder).await?;
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
