//! Decides which events of the membership follow from the reports of the members.

use std::collections::{BTreeMap, BTreeSet};

use es_core::model::{Dot, OriginId, VectorClock};

use crate::frontiers::Frontier;
use crate::group::{Change, Group, MemberState};
use crate::ranges::RangeSet;

/// Returns the events that `node` must write now: a completed departure, or retired origins. `reports` are those of
/// all members, this one included.
///
/// The first joined member by name writes them, so that they are not written by each.
pub(crate) fn follow_ups(group: &Group, node: &str, reports: &BTreeMap<String, Frontier>) -> Vec<Change> {
    let mut joined = group.members().filter(|(_, state)| *state == MemberState::Joined);
    if joined.next().map(|(name, _)| name) != Some(node) {
        return Vec::new();
    }
    // One at a time: of two members that leave together, each can have the copy for which the other one may leave.
    if let Some(completed) = group.members().find_map(|(member, _)| completed(group, member, reports)) {
        return vec![completed];
    }
    let origins: VectorClock = dead_origins(group, reports).iter().filter(|dot| !group.implies(*dot)).collect();
    if origins == VectorClock::new() { Vec::new() } else { vec![Change::OriginsRetired { origins }] }
}

/// Returns the members that have not acknowledged the departure of a node, which delay it; none if it does not depart.
/// If a node that leaves has events that no other member has, all of them delay it.
pub(crate) fn waiting<'a>(group: &'a Group, member: &str, reports: &BTreeMap<String, Frontier>) -> BTreeSet<&'a str> {
    if !matches!(group.state(member), Some(MemberState::Leaving | MemberState::Retiring)) {
        return BTreeSet::new();
    }
    let needed = needed(group, member, reports);
    // Events of the membership are never withheld.
    let has = |report: &Frontier| needed.iter().all(|dot| report.knowledge.clock().includes(dot));
    let has_acknowledged = |name: &&str| reports.get(*name).is_some_and(has);
    let withholds = |name: &&str| *name != member && has_only_copies(group, member, reports);
    group.remaining().into_iter().filter(|name| !has_acknowledged(name) || withholds(name)).collect()
}

/// Returns `true` if a node that leaves has events that no other member has: they would be lost. The others withhold
/// them or do not know of them yet.
fn has_only_copies(group: &Group, member: &str, reports: &BTreeMap<String, Frontier>) -> bool {
    let is_leaving = group.state(member) == Some(MemberState::Leaving);
    let Some(own) = reports.get(member).filter(|_| is_leaving).map(|report| &report.knowledge) else { return false };
    let others: Vec<_> = others(group, member).into_iter().filter_map(|name| reports.get(name)).collect();
    if others.is_empty() {
        return false;
    }
    own.clock().iter().any(|dot| {
        let mut only = RangeSet::of(1, dot.sequence.get());
        // The ranges can include events that the node has, unless it has found out that they do not.
        let withheld = own.ranges(dot.origin).filter(|_| own.is_exact(dot.origin));
        withheld.into_iter().for_each(|ranges| only.remove_all(ranges));
        for report in &others {
            only = only.intersection(&report.knowledge.lacking(dot));
        }
        !only.is_empty()
    })
}

/// Returns the last events that every remaining member must have before a departure is completed: its declaration, and
/// what any of them has of the origins that no other member uses, such as those of the node itself, and of the events
/// from before the replication. A node that leaves remains until then, so none of its events is lost; it decides no
/// further one.
fn needed(group: &Group, member: &str, reports: &BTreeMap<String, Frontier>) -> VectorClock {
    let used = used_origins(&others(group, member), reports);
    let remaining = group.remaining().into_iter().filter_map(|name| reports.get(name));
    let known = remaining.flat_map(|report| report.knowledge.clock().iter());
    let is_needed = |dot: &Dot| !used.contains(&dot.origin) || dot.origin == OriginId::GENESIS;
    group.departures(member).chain(known.filter(is_needed)).collect()
}

/// Returns the members that remain after the departure of a node.
fn others<'a>(group: &'a Group, member: &str) -> BTreeSet<&'a str> {
    group.remaining().into_iter().filter(|name| *name != member).collect()
}

/// Returns the completion of the departure of a node, if every remaining member has acknowledged it.
fn completed(group: &Group, member: &str, reports: &BTreeMap<String, Frontier>) -> Option<Change> {
    let departure = group.departures(member).next()?;
    let is_pending = matches!(group.state(member), Some(MemberState::Leaving | MemberState::Retiring));
    if !is_pending || !waiting(group, member, reports).is_empty() {
        return None;
    }
    // Each member knew of these origins when it reported that it uses another one.
    let used = used_origins(&others(group, member), reports);
    let needed = needed(group, member, reports);
    let origins = needed.iter().map(|dot| dot.origin).filter(|origin| !used.contains(origin)).collect();
    Some(Change::DepartureCompleted { member: member.to_owned(), departure, origins })
}

/// Returns the origins that members use, and the one of events from before the replication, which is never retired.
fn used_origins(members: &BTreeSet<&str>, reports: &BTreeMap<String, Frontier>) -> BTreeSet<OriginId> {
    members.iter().filter_map(|name| Some(reports.get(*name)?.origin)).chain([OriginId::GENESIS]).collect()
}

/// Returns the last events of the origins that no member uses, and of which every member has all events. Each member
/// knew of these origins when it reported that it uses another one.
fn dead_origins(group: &Group, reports: &BTreeMap<String, Frontier>) -> VectorClock {
    let counted = group.counted();
    let all: Option<Vec<&Frontier>> = counted.iter().map(|name| reports.get(*name)).collect();
    // A member that has not reported may use any origin.
    let Some(all) = all else { return VectorClock::new() };
    let used = used_origins(&counted, reports);
    let prefixes: Vec<VectorClock> = all.iter().map(|report| report.knowledge.prefix()).collect();
    let mut last = VectorClock::new();
    all.iter().for_each(|report| last.merge(report.knowledge.clock()));
    let is_stable = |dot: &Dot| prefixes.iter().all(|prefix| prefix.includes(*dot));
    last.iter().filter(|dot| !used.contains(&dot.origin)).filter(is_stable).collect()
}
