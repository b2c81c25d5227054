//! Sagas as text.

use std::collections::BTreeMap;
use std::fmt;

use chrono::{SecondsFormat, TimeDelta};
use es_core::Timestamp;

use crate::shape::Repeat;
use crate::show::{ItemDetails, NodeDetails, SagaDetails, SagaSummary};

/// The largest number of items of a node that have a line of their own.
const MAX_ITEMS: usize = 20;

pub(super) fn write_summary(summary: &SagaSummary, f: &mut fmt::Formatter<'_>) -> fmt::Result {
    let version = summary.version.map_or(String::new(), |version| format!(", version {version}"));
    let paused = if summary.is_paused { ", paused" } else { "" };
    write!(f, "{}{version}: {}{paused}", summary.id, summary.phase)?;
    if let Some(reason) = &summary.quarantine {
        write!(f, ", quarantined")?;
        return write!(f, " ({})", one_line(reason));
    }
    match &summary.reason {
        Some(reason) => write!(f, " ({})", one_line(reason)),
        None => Ok(()),
    }
}

pub(super) fn write_details(details: &SagaDetails, f: &mut fmt::Formatter<'_>) -> fmt::Result {
    let summary = &details.summary;
    let version = summary.version.unwrap_or_default();
    let paused = if summary.is_paused { ", paused" } else { "" };
    writeln!(f, "{}, version {version}: {}{paused}", summary.id, summary.phase)?;
    let time = |at: Option<Timestamp>| at.map(|at| at.to_rfc3339_opts(SecondsFormat::AutoSi, true));
    let lines = [
        ("reason", summary.reason.as_deref().map(one_line)),
        ("quarantine", summary.quarantine.as_deref().map(one_line)),
        ("parent", summary.parent.as_ref().map(|parent| one_line(&parent.to_string()))),
        ("created", time(summary.created_at)),
        ("changed", time(summary.changed_at)),
        ("deadline", time(summary.deadline)),
    ];
    for (name, value) in lines {
        if let Some(value) = value {
            writeln!(f, "  {name:<12}{value}")?;
        }
    }
    if details.nodes.is_empty() {
        return Ok(());
    }
    writeln!(f)?;
    write_table(&rows(details), f)?;
    let children = || details.nodes.iter().flat_map(|node| &node.items).filter_map(|item| item.child.as_ref());
    if children().next().is_some() {
        writeln!(f, "\n  child sagas:")?;
    }
    for child in children().take(MAX_ITEMS) {
        writeln!(f, "    {}", one_line(&child.to_string()))?;
    }
    match children().count().saturating_sub(MAX_ITEMS) {
        0 => Ok(()),
        more => writeln!(f, "    and {more} more"),
    }
}

/// The number of columns of the table.
const COLUMNS: usize = 8;
/// The columns that are aligned to the right.
const NUMBERS: [bool; COLUMNS] = [false, false, true, true, true, true, false, false];

fn rows(details: &SagaDetails) -> Vec<[String; COLUMNS]> {
    let head = ["STEP", "STATE", "ATTEMPTS", "UNDOS", "START", "TIME", "AFTER", "ERROR"];
    let mut rows = vec![head.map(ToOwned::to_owned)];
    let created = details.summary.created_at;
    for (index, node) in (0..).zip(&details.nodes) {
        if details.pivot.is_some_and(|pivot| pivot.next == index) {
            rows.push(pivot_row());
        }
        rows.push(node_row(node, created));
        if node.repeat == Repeat::Each {
            rows.extend(
                node.items
                    .iter()
                    .filter(|item| is_notable(item))
                    .take(MAX_ITEMS)
                    .map(|item| item_row(format!("  {}[{}]", node.name, item.item), item, created)),
            );
        }
    }
    if details.pivot.is_some_and(|pivot| pivot.next as usize == details.nodes.len()) {
        rows.push(pivot_row());
    }
    rows
}

fn pivot_row() -> [String; COLUMNS] {
    let mut row = [const { String::new() }; COLUMNS];
    row[0].push_str("-- pivot --");
    row
}

/// Returns whether an item of a list is shown: it is neither pending nor done.
fn is_notable(item: &ItemDetails) -> bool {
    !matches!(item.state, "pending" | "succeeded" | "undone")
}

fn node_row(node: &NodeDetails, created: Option<Timestamp>) -> [String; COLUMNS] {
    let after = node.after.join(" ");
    let mut row = match node.items.as_slice() {
        [item] if node.repeat != Repeat::Each => item_row(node.name.clone(), item, created),
        items => {
            let sum = |count: fn(&ItemDetails) -> u32| {
                items.iter().fold(0_u64, |sum, item| sum.saturating_add(u64::from(count(item)))).to_string()
            };
            let (start, time) = match node.span() {
                Some((start, end)) => (since(created, Some(start)), between(start, end)),
                None => (String::new(), String::new()),
            };
            let (attempts, undos) = (sum(|item| item.attempts), sum(|item| item.undo_attempts));
            [node.name.clone(), item_counts(items), attempts, undos, start, time, String::new(), String::new()]
        }
    };
    if node.is_omitted || items_are_unknown(node) {
        node.state().clone_into(&mut row[1]);
    }
    row[6] = after;
    row
}

fn items_are_unknown(node: &NodeDetails) -> bool {
    node.items.is_empty()
}

/// Returns the number of items in each state, such as `9 succeeded, 1 failed`.
fn item_counts(items: &[ItemDetails]) -> String {
    let mut counts = BTreeMap::<&str, usize>::new();
    for item in items {
        *counts.entry(item.state).or_default() += 1;
    }
    let counts: Vec<String> = counts.into_iter().map(|(state, count)| format!("{count} {state}")).collect();
    counts.join(", ")
}

fn item_row(name: String, item: &ItemDetails, created: Option<Timestamp>) -> [String; COLUMNS] {
    let time = item.started_at.zip(item.ended_at).map_or(String::new(), |(start, end)| between(start, end));
    [
        name,
        state(item),
        item.attempts.to_string(),
        item.undo_attempts.to_string(),
        since(created, item.started_at),
        time,
        String::new(),
        item.error.as_deref().map_or(String::new(), one_line),
    ]
}

/// Returns the state of an item, with the end of a delay in progress.
fn state(item: &ItemDetails) -> String {
    match item.delayed_until {
        Some(until) => format!("{} until {}", item.state, until.to_rfc3339_opts(SecondsFormat::Secs, true)),
        None => item.state.to_owned(),
    }
}

fn write_table(rows: &[[String; COLUMNS]], f: &mut fmt::Formatter<'_>) -> fmt::Result {
    let mut widths = [0; COLUMNS];
    for row in rows {
        for (width, cell) in widths.iter_mut().zip(row) {
            *width = (*width).max(cell.chars().count());
        }
    }
    for row in rows {
        let mut line = String::new();
        for ((cell, width), is_number) in row.iter().zip(widths).zip(NUMBERS) {
            line.push_str("  ");
            let padding = " ".repeat(width.saturating_sub(cell.chars().count()));
            let (before, after) = if is_number { (padding.as_str(), "") } else { ("", padding.as_str()) };
            line.extend([before, cell, after]);
        }
        writeln!(f, "{}", line.trim_end())?;
    }
    Ok(())
}

fn since(created: Option<Timestamp>, at: Option<Timestamp>) -> String {
    created.zip(at).map_or(String::new(), |(created, at)| format!("+{}", between(created, at)))
}

/// Returns the time between two times, such as `250ms`, `9s`, `1m30s` or `2d3h`.
pub(super) fn between(start: Timestamp, end: Timestamp) -> String {
    length((end - start).max(TimeDelta::zero()))
}

/// Returns a time, such as `250ms`, `9s`, `1m30s` or `2d3h`.
pub(super) fn length(time: TimeDelta) -> String {
    let (millis, seconds) = (time.num_milliseconds(), time.num_seconds());
    let two = |large: i64, name: &str, small: i64, small_name: &str| match small {
        0 => format!("{large}{name}"),
        small => format!("{large}{name}{small}{small_name}"),
    };
    match seconds {
        0 if millis == 0 => "0s".to_owned(),
        0 => format!("{millis}ms"),
        1..60 if millis % 1000 == 0 => format!("{seconds}s"),
        1..60 => format!("{seconds}.{:03}s", millis % 1000),
        60..3600 => two(seconds / 60, "m", seconds % 60, "s"),
        3600..86_400 => two(seconds / 3600, "h", seconds / 60 % 60, "m"),
        _ => two(seconds / 86_400, "d", seconds / 3600 % 24, "h"),
    }
}

/// Returns a text without line breaks and other control characters.
pub(super) fn one_line(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect()
}
