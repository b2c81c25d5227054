//! The commands `replication status`, `join`, `leave` and `retire`.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use es_core::Timestamp;
use es_core::model::{OriginId, VectorClock};
use es_replication::{
    HomesStatus, LinkState, LinkStatus, MemberState, MemberStatus, OriginStatus, ReplicationStatus, RunningStatus,
};
use es_rocksdb::ReadOnlyStore;
use es_tool::text::table;
use serde_json::json;
use ureq::http::Method;

use crate::answer::print;
use crate::args::{MemberArgs, ReplicationCommand};
use crate::failure::Failure;
use crate::service::{Target, encoded};
use crate::text::{count, excerpt, format_bytes, format_time, quoted};

/// The states of the nodes of a group.
type Members = BTreeMap<String, MemberState>;

pub(super) async fn run(target: &Target, command: &ReplicationCommand, json: bool) -> Result<(), Failure> {
    match command {
        ReplicationCommand::Status => status(target, json).await,
        ReplicationCommand::Join(member) => change(target, "join", member, json).await,
        ReplicationCommand::Leave(member) => change(target, "leave", member, json).await,
        ReplicationCommand::Retire(member) => change(target, "retire", member, json).await,
    }
}

/// Changes a member, and prints the members.
async fn change(target: &Target, verb: &str, MemberArgs { name }: &MemberArgs, json: bool) -> Result<(), Failure> {
    let Target::Service(service) = target else {
        let message =
            format!("`es replication {verb}` needs the service of a member: give --url URL in place of --store");
        return Err(Failure::Usage(message));
    };
    let path = format!("/replication/members/{}", encoded(name));
    let members: Members = service.send_json(Method::POST, &path, &json!({ "verb": verb })).await?;
    print(json, || states(&members), &members)
}

async fn status(target: &Target, json: bool) -> Result<(), Failure> {
    let status = match target {
        Target::Directory(directory) => {
            let store = ReadOnlyStore::open(directory).await?;
            ReplicationStatus::read(&store).await?.ok_or_else(|| no_replica(directory))?
        }
        Target::Service(service) => service.get("/replication", &[]).await?,
    };
    print(json, || to_text(&status), &status)
}

fn no_replica(directory: &Path) -> Failure {
    Failure::Absent(format!(
        "the store in {} is no replica: no node has opened it for replication; see `es --store {} info`",
        directory.display(),
        quoted(&directory.display().to_string())
    ))
}

fn to_text(status: &ReplicationStatus) -> String {
    let list = |names: Vec<String>| if names.is_empty() { "none".to_owned() } else { names.join(", ") };
    let categories = status.categories.iter().map(ToString::to_string).collect();
    let mut rows = vec![
        ["node".to_owned(), status.node.clone()],
        ["origin".to_owned(), status.origin.to_string()],
        ["categories".to_owned(), list(categories)],
        ["pulled from".to_owned(), list(status.peers.clone())],
    ];
    if status.is_restored {
        rows.push(["next start".to_owned(), "takes a new origin: the store was restored from a backup".to_owned()]);
    }
    if let Some(homes) = &status.homes {
        let (own, all) = (homes.streams_of(&homes.origins), homes.streams.values().sum());
        rows.push(["home of".to_owned(), format!("{own} of {}", counted_streams(all, homes.is_complete))]);
        if !homes.unconfirmed.is_empty() {
            let streams = counted_streams(homes.streams_of(&homes.unconfirmed), homes.is_complete);
            let reason = "the node decides them once every member has confirmed that it has all of their events";
            rows.push(["not confirmed".to_owned(), format!("{streams} of former origins: {reason}")]);
        }
    }
    if let Some(running) = &status.running {
        rows.push(["stable events".to_owned(), stable(running.stable.as_ref())]);
        rows.push(["blocked by".to_owned(), running.blocked_by.clone().unwrap_or_else(|| "no member".to_owned())]);
        rows.push(["settled up to".to_owned(), running.settled.map_or_else(|| "none".to_owned(), format_time)]);
        let held_back_by = running.settled_held_back_by.clone().unwrap_or_else(|| "no member".to_owned());
        rows.push(["held back by".to_owned(), held_back_by]);
    }
    let mut text = table(["property", "value"], 2, rows).to_string();
    let nodes = Nodes::of(status);
    if !status.origins.is_empty() {
        text += &format!("\n\n{}", origins(&status.origins, &nodes));
    }
    if let Some(homes) = status.homes.as_ref().filter(|homes| !homes.streams.is_empty()) {
        text += &format!("\n\n{}", home_table(homes, &nodes));
    }
    let Some(RunningStatus { links, members, time, unacknowledged, .. }) = &status.running else {
        return text + &format!("\n\n{}", states(&status.members));
    };
    text += &format!("\n\n{}", member_table(&status.members, members));
    for (member, waiting) in unacknowledged {
        let waiting = waiting.iter().map(String::as_str).collect::<Vec<_>>().join(", ");
        text += &format!("\n{member}: not acknowledged by {waiting}");
    }
    if !links.is_empty() {
        text += &format!("\n\n{}", link_table(links, *time));
    }
    for (peer, failure) in links.iter().filter_map(|link| Some((&link.peer, link.failure.as_ref()?))) {
        text += &format!("\n{peer}: {}", excerpt(failure));
    }
    text
}

/// The names of the nodes of the origins, as far as this node knows them.
struct Nodes(BTreeMap<OriginId, String>);

impl Nodes {
    fn of(status: &ReplicationStatus) -> Self {
        let members = status.running.iter().flat_map(|running| &running.members);
        let mut nodes: BTreeMap<_, _> =
            members.filter_map(|member| Some((member.origin?, member.name.clone()))).collect();
        let own = status.homes.iter().flat_map(|homes| &homes.origins).chain([&status.origin]);
        nodes.extend(own.map(|origin| (*origin, "this node".to_owned())));
        Self(nodes)
    }

    fn name(&self, origin: OriginId) -> Option<&str> {
        self.0.get(&origin).map(String::as_str)
    }
}

fn origins(origins: &[OriginStatus], nodes: &Nodes) -> String {
    let rows = origins.iter().map(|known| {
        let own = match (known.is_own, known.is_retired) {
            (true, _) => "this node",
            (false, true) => "no node: retired",
            (false, false) => nodes.name(known.origin).unwrap_or_default(),
        };
        [known.origin.to_string(), known.sequence.to_string(), format_time(known.time), own.to_owned()]
    });
    table(["origin", "events", "last event", "decided by"], 3, rows).to_string()
}

/// Returns the number of streams of each home. An origin whose node is not known is shown itself.
fn home_table(homes: &HomesStatus, nodes: &Nodes) -> String {
    let mut streams = BTreeMap::<String, u64>::new();
    for (origin, number) in &homes.streams {
        let home = nodes.name(*origin).map_or_else(|| format!("origin {origin}"), str::to_owned);
        *streams.entry(home).or_default() += number;
    }
    table(["home", "streams"], 1, streams.into_iter().map(|(home, number)| [home, number.to_string()])).to_string()
}

fn counted_streams(number: u64, is_complete: bool) -> String {
    let streams = count(number, "stream", "streams");
    if is_complete { streams } else { format!("at least {streams}") }
}

fn states(members: &Members) -> String {
    let rows = members.iter().map(|(name, state)| [name.clone(), member_state(*state).to_owned()]);
    table(["member", "state"], 2, rows).to_string()
}

/// Returns the members that count, each with what it has, and those that have departed.
fn member_table(states: &Members, members: &[MemberStatus]) -> String {
    let counted = members.iter().map(|member| {
        let state = states.get(&member.name).map_or("peer", |state| member_state(*state));
        let missing = member.missing_events.map_or_else(|| "unknown".to_owned(), |missing| missing.to_string());
        [member.name.clone(), state.to_owned(), missing, optional_time(member.reported_at)]
    });
    let is_counted = |name: &String| members.iter().any(|member| member.name == *name);
    let departed = states.iter().filter(|(name, _)| !is_counted(name));
    let departed = departed.map(|(name, state)| {
        let nothing = || "-".to_owned();
        [name.clone(), member_state(*state).to_owned(), nothing(), nothing()]
    });
    table(["member", "state", "missing events", "reported"], 3, counted.chain(departed)).to_string()
}

const fn member_state(state: MemberState) -> &'static str {
    match state {
        MemberState::Joined => "joined",
        MemberState::Leaving => "leaving",
        MemberState::Left => "left",
        MemberState::Retiring => "retiring",
        MemberState::Retired => "retired",
        _ => "other",
    }
}

fn link_table(links: &[LinkStatus], now: Timestamp) -> String {
    let rows = links.iter().map(|link| {
        let lag_bytes = link.lag_bytes.map_or_else(|| "-".to_owned(), |bytes| format!("about {}", format_bytes(bytes)));
        let current = link.lag_time(now).map_or_else(|| "never".to_owned(), seconds_ago);
        let received = format!("{} ({})", link.events + link.held, format_bytes(link.bytes));
        let lag = link.lag_events.map_or_else(|| "unknown".to_owned(), |events| events.to_string());
        [link.peer.clone(), state(link.state).to_owned(), lag, lag_bytes, current, received]
    });
    table(["link to", "state", "lag", "lag bytes", "was current", "received"], 5, rows).to_string()
}

fn stable(stable: Option<&VectorClock>) -> String {
    match stable {
        Some(stable) => stable.iter().map(|dot| dot.sequence.get()).fold(0, u64::saturating_add).to_string(),
        None => "unknown: a member has not reported since the start".to_owned(),
    }
}

const fn state(state: LinkState) -> &'static str {
    match state {
        LinkState::Disconnected => "disconnected",
        LinkState::CatchingUp => "catching up",
        LinkState::Current => "current",
        LinkState::ClockAhead => "clock ahead",
        LinkState::Forked => "forked",
        LinkState::Departed => "departed",
        LinkState::Failed => "failed",
        _ => "other",
    }
}

fn seconds_ago(age: Duration) -> String {
    format!("{} s ago", age.as_secs())
}

fn optional_time(time: Option<Timestamp>) -> String {
    time.map_or_else(|| "never".to_owned(), format_time)
}
