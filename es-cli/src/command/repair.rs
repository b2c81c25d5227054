//! `repair`

use std::collections::BTreeSet;
use std::ffi::OsString;
use std::fs::{self, File};
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use es_core::projection::{FollowersReset, reset_followers};
use es_core::{EventStore, RecordedEvent};
use es_rocksdb::{Damage, Loss, Options, RepairError, Repaired, Report, Salvage};
use serde::Serialize;

use super::snapshots;
use super::verify::DAMAGED;
use crate::answer::say;
use crate::args::RepairArgs;
use crate::failure::Failure;
use crate::line;
use crate::progress::Bar;
use crate::text::{count, quoted};

/// How many findings are said in words; with `--json` all are.
const IN_WORDS: usize = 10;

#[derive(Serialize)]
struct RepairAnswer<'a> {
    sound: bool,
    damage: Vec<DamagedPlace<'a>>,
    more_damage: u64,
    notes: &'a [String],
    head: Option<u64>,
    last: Option<u64>,
    from_streams: u64,
    loss: Lost<'a>,
    /// The command that makes a repaired store; `None` where none is needed.
    command: Option<String>,
    repaired: Option<Made<'a>>,
}

#[derive(Serialize)]
struct DamagedPlace<'a> {
    place: &'a str,
    detail: &'a str,
}

#[derive(Serialize)]
struct Lost<'a> {
    events: u64,
    set_aside: u64,
    unreadable: Vec<[u64; 2]>,
    streams: Vec<Shortened<'a>>,
    more_streams: u64,
    other: &'a [String],
}

#[derive(Serialize)]
struct Shortened<'a> {
    stream: &'a str,
    events: u64,
}

#[derive(Serialize)]
struct Made<'a> {
    directory: &'a Path,
    store_id: String,
    new_store_id: bool,
    events: u64,
    rows: u64,
    carried_claims: u64,
    snapshots_dropped: u64,
    projections_reset: u64,
    groups_set_back: u64,
    commands_forgotten: u64,
    set_aside: u64,
    set_aside_in: Option<&'a Path>,
}

pub(super) async fn run(directory: &Path, args: &RepairArgs, json: bool) -> Result<ExitCode, Failure> {
    let bar = Bar::new("log");
    let mut progress = |what: &str, done, total| bar.at(what, done, total);
    let salvage = Salvage::survey(directory, &mut progress)?;
    let report = salvage.report();
    let mut shown = RepairAnswer::of(report, directory);
    let Some(to) = args.to.as_deref().filter(|_| !report.is_sound()) else {
        drop(bar);
        say(json, || in_words(&shown), &shown)?;
        return Ok(if report.is_sound() { ExitCode::SUCCESS } else { ExitCode::from(DAMAGED) });
    };
    let mut lost_and_found = LostAndFound::beside(to);
    let made = salvage.write(to, args.accept_loss, &mut |event| lost_and_found.add(event), &mut progress);
    let made = made.map_err(Failure::from).and_then(|made| lost_and_found.finish().map(|()| made));
    drop(bar);
    let made = match made {
        Ok(made) => made,
        Err(error) => {
            lost_and_found.discard();
            return Err(error);
        }
    };
    let (dropped, reset) = if made.is_new_id { reset_derived(to).await? } else { Default::default() };
    shown.repaired = Some(Made {
        directory: &made.directory,
        store_id: made.id.to_string(),
        new_store_id: made.is_new_id,
        events: made.events,
        rows: made.rows,
        carried_claims: made.carried_claims,
        snapshots_dropped: dropped,
        projections_reset: reset.projections,
        groups_set_back: reset.groups,
        commands_forgotten: reset.commands,
        set_aside: made.set_aside,
        set_aside_in: (made.set_aside > 0).then_some(&lost_and_found.path),
    });
    shown.command = None;
    say(json, || done_in_words(directory, &made, (dropped, reset), &lost_and_found.path), &shown)?;
    Ok(ExitCode::SUCCESS)
}

/// Drops all snapshots, resets projections and consumers, and returns the number of each.
///
/// A snapshot after the cut would be ahead of its stream. Views, checkpoints and consumers would be ahead of the log and would
/// skip the next events.
async fn reset_derived(directory: &Path) -> Result<(u64, FollowersReset), Failure> {
    let store = Options::new().create_if_missing(false).open(directory).await?;
    let dropped = snapshots::drop_those(&store, None, None).await;
    let reset = reset_followers(&store).await;
    store.close().await?;
    Ok((dropped?, reset?))
}

impl<'a> RepairAnswer<'a> {
    fn of(report: &'a Report, directory: &Path) -> Self {
        let Report { damage, more_damage, notes, head, last, from_streams, loss, .. } = report;
        let Loss { events, set_aside, unreadable, streams, more_streams, other, .. } = loss;
        let position = |position: &Option<es_core::Position>| position.map(es_core::Position::get);
        Self {
            sound: report.is_sound(),
            damage: damage.iter().map(|Damage { place, detail }| DamagedPlace { place, detail }).collect(),
            more_damage: *more_damage,
            notes,
            head: position(head),
            last: position(last),
            from_streams: *from_streams,
            loss: Lost {
                events: *events,
                set_aside: *set_aside,
                unreadable: unreadable.iter().map(|(from, to)| [from.get(), to.get()]).collect(),
                streams: streams
                    .iter()
                    .map(|(name, events)| Shortened { stream: name.as_str(), events: *events })
                    .collect(),
                more_streams: *more_streams,
                other,
            },
            command: (!report.is_sound()).then(|| command(directory, loss)),
            repaired: None,
        }
    }
}

/// The command that makes a repaired store.
fn command(directory: &Path, loss: &Loss) -> String {
    let directory = directory.display().to_string();
    let directory = directory.trim_end_matches(std::path::is_separator);
    let accept = if loss.is_none() { String::new() } else { format!(" --accept-loss {}", loss.events) };
    format!("es --store {} repair --to {}{accept}", quoted(directory), quoted(&format!("{directory}.repaired")))
}

fn in_words(shown: &RepairAnswer<'_>) -> String {
    let Some(command) = &shown.command else { return "sound: there is nothing to repair".to_owned() };
    let number = shown.damage.len() as u64 + shown.more_damage;
    let mut lines = vec![format!("damaged: {}", count(number, "finding", "findings"))];
    // NOTE: one broken block is found by everybody who reads from it.
    let mut named = BTreeSet::new();
    let first = shown.damage.iter().filter(|found| named.insert((found.place, found.detail))).take(IN_WORDS);
    let first: Vec<_> = first.map(|found| format!("  {}: {}", found.place, found.detail)).collect();
    let more = number.saturating_sub(first.len() as u64);
    lines.extend(first);
    if more > 0 {
        lines.push(format!("  and {more} more"));
    }
    lines.extend(shown.notes.iter().map(|note| format!("note: {note}")));
    let saved = count(shown.head.unwrap_or(0), "event", "events");
    let from_streams = match shown.from_streams {
        0 => String::new(),
        some => format!(", {some} of them from the copy under their streams"),
    };
    lines.push(format!("can be saved: {saved}{from_streams}"));
    let Lost { events, set_aside, other, .. } = &shown.loss;
    if *events == 0 && other.is_empty() {
        lines.push("would be lost: nothing".to_owned());
        lines
            .push(format!("to write a repaired store into a new directory, and leave this one as it is:\n  {command}"));
        return lines.join("\n");
    }
    let last = shown.last.unwrap_or(0);
    lines.push(match *events {
        0 => "would be lost: no event".to_owned(),
        some => {
            let events = count(some, "event", "events");
            format!("would be lost: {events} behind position {} (the last was {last})", shown.head.unwrap_or(0))
        }
    });
    lines.extend(other.iter().map(|what| format!("  {what}")));
    if *events > 0 {
        let gaps = shown.loss.unreadable.iter().take(IN_WORDS).map(|[from, to]| match from == to {
            true => from.to_string(),
            false => format!("{from} to {to}"),
        });
        let gaps = gaps.collect::<Vec<_>>().join(", ");
        lines.push(format!("  {} cannot be read: positions {gaps}", count(events - set_aside, "event", "events")));
        if *set_aside > 0 {
            lines.push(format!("  {set_aside} can be read, and would be set aside in a file of lines of JSON"));
        }
    }
    let streams = &shown.loss.streams;
    let name = |found: &Shortened<'_>| format!("  stream {}: {}", found.stream, count(found.events, "event", "events"));
    lines.extend(streams.iter().take(IN_WORDS).map(name));
    let more = streams.len().saturating_sub(IN_WORDS) as u64 + shown.loss.more_streams;
    if more > 0 {
        lines.push(format!("  and {}", count(more, "more stream", "more streams")));
    }
    lines.push("restore a backup if there is one: `es restore` leaves this store as it is, too".to_owned());
    lines.push(format!(
        "else, to write what can be saved into a new directory, and leave this one as it is:\n  {command}"
    ));
    lines.join("\n")
}

fn done_in_words(
    damaged: &Path,
    made: &Repaired,
    (dropped, reset): (u64, FollowersReset),
    lost_and_found: &Path,
) -> String {
    let Repaired { directory, id, is_new_id, events, rows, carried_claims, set_aside, .. } = made;
    let events = count(*events, "event", "events");
    let rows = count(*rows, "row", "rows");
    let mut lines = vec![format!("repaired: {events}, {rows}, verified, in {}", directory.display())];
    if *carried_claims > 0 {
        let claims = count(*carried_claims, "claim", "claims");
        lines.push(format!("{claims} of unique keys by removed events taken from the index"));
    }
    if *is_new_id {
        lines
            .push(format!("it has a new store id, {id}: it is not the same history any more; begin new backups of it"));
        lines.push(format!(
            "{} dropped, the views of {} removed (they are built again), {} set back to the end of the log, the results \
             of {} forgotten; other rows are as they were, and unique keys as the events claim them",
            count(dropped, "snapshot", "snapshots"),
            count(reset.projections, "projection", "projections"),
            count(reset.groups, "consumer group or reactor", "consumer groups and reactors"),
            count(reset.commands, "command", "commands")
        ));
    }
    if *set_aside > 0 {
        let events = count(*set_aside, "event", "events");
        lines.push(format!("set aside: {events}, for `es import`, in {}", lost_and_found.display()));
    }
    lines.push(format!(
        "{} is as it was: keep it under another name when you put the new directory in its place",
        damaged.display()
    ));
    lines.join("\n")
}

/// The file for events that can be read but have no place in the repaired store. There is none unless it is needed.
struct LostAndFound {
    path: PathBuf,
    out: Option<BufWriter<File>>,
}

impl LostAndFound {
    fn beside(to: &Path) -> Self {
        let mut path = OsString::from(to.components().as_path());
        path.push(".lost-and-found.jsonl");
        Self { path: path.into(), out: None }
    }

    fn add(&mut self, event: &RecordedEvent) -> io::Result<()> {
        let out = match &mut self.out {
            Some(out) => out,
            // NOTE: never in place of another one.
            none => none.insert(BufWriter::new(File::create_new(&self.path)?)),
        };
        line::write(event, out)
    }

    fn finish(&mut self) -> Result<(), Failure> {
        let Some(out) = &mut self.out else { return Ok(()) };
        let written = out.flush().and_then(|()| out.get_ref().sync_all());
        written.map_err(|source| Failure::io("write", &self.path, source))
    }

    fn discard(&mut self) {
        if self.out.take().is_some() {
            // NOTE: the error that counts is the one for which it is discarded.
            let _ = fs::remove_file(&self.path);
        }
    }
}

impl From<RepairError> for Failure {
    fn from(error: RepairError) -> Self {
        match error {
            RepairError::Open(error) => error.into(),
            RepairError::Store(error) => Self::Store(error),
            other => Self::Repair(other),
        }
    }
}
