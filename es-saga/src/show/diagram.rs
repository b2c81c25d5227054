//! Sagas as Mermaid flowcharts.

use std::fmt::Write as _;

use chrono::TimeDelta;

use crate::shape::Effect;
use crate::show::text::{between, length};
use crate::show::{NodeDetails, SagaDetails};

/// The fill colours of the states.
const COLOURS: [(&str, &str); 5] =
    [("done", "#d9ead3"), ("active", "#cfe2f3"), ("undone", "#eeeeee"), ("failed", "#f4cccc"), ("pending", "#ffffff")];

/// Returns the class of a state.
fn class(state: &str) -> &'static str {
    match state {
        "succeeded" | "skipped" => "done",
        "undone" | "omitted" => "undone",
        "failed" | "owed" | "undo-failed" => "failed",
        "pending" | "unlisted" => "pending",
        _ => "active",
    }
}

pub(super) fn flowchart(details: &SagaDetails) -> String {
    let mut chart = "flowchart TD\n".to_owned();
    for (index, node) in details.nodes.iter().enumerate() {
        let is_pivot = details.pivot.is_some_and(|pivot| pivot.step.is_some_and(|step| step as usize == index));
        let (open, close) = match node.effect {
            Effect::Delay { .. } => ("([", "])"),
            _ if is_pivot => ("{{", "}}"),
            _ => ("[", "]"),
        };
        // Writing to a string does not fail.
        let _ = writeln!(chart, "  n{index}{open}\"{}\"{close}:::{}", label(node), class(node.state()));
    }
    for (index, node) in details.nodes.iter().enumerate() {
        for before in direct(details, node) {
            let _ = writeln!(chart, "  n{before} --> n{index}");
        }
    }
    for (class, colour) in COLOURS {
        let _ = writeln!(chart, "  classDef {class} fill:{colour},stroke:#444444,color:#000000");
    }
    chart
}

fn label(node: &NodeDetails) -> String {
    let mut label = escaped(&node.name);
    label.push_str("<br/>");
    if let Effect::Delay { milliseconds } = node.effect {
        let delay = TimeDelta::try_milliseconds(i64::try_from(milliseconds).unwrap_or(i64::MAX));
        let _ = write!(label, "delay of {}<br/>", length(delay.unwrap_or(TimeDelta::MAX)));
    }
    label.push_str(node.state());
    if node.items.len() > 1 {
        let _ = write!(label, ", {} items", node.items.len());
    }
    let attempts = node.items.iter().map(|item| item.attempts).max().unwrap_or_default();
    if attempts > 1 {
        let _ = write!(label, ", {attempts} attempts");
    }
    if let Some((start, end)) = node.span() {
        let _ = write!(label, ", {}", between(start, end));
    }
    label
}

/// Returns the indexes of the nodes on which a node depends, without those on which one of them depends.
fn direct(details: &SagaDetails, node: &NodeDetails) -> Vec<usize> {
    let position = |name: &String| details.nodes.iter().position(|other| other.name == *name);
    let before: Vec<usize> = node.after.iter().filter_map(position).collect();
    let is_indirect = |name: &String| {
        before.iter().any(|other| details.nodes.get(*other).is_some_and(|other| other.after.contains(name)))
    };
    let direct = node.after.iter().filter(|name| !is_indirect(name));
    direct.filter_map(position).collect()
}

/// Returns a name without the characters that end a label.
fn escaped(name: &str) -> String {
    name.chars()
        .filter(|c| !c.is_control())
        .flat_map(|c| match c {
            '"' => "#quot;".chars().collect::<Vec<_>>(),
            '<' => "#lt;".chars().collect(),
            '>' => "#gt;".chars().collect(),
            c => vec![c],
        })
        .collect()
}
