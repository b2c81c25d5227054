//! The command `repair`.

use std::collections::BTreeSet;
use std::ffi::OsString;
use std::io;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;

use es_core::RecordedEvent;
use es_core::projection::{FollowersReset, reset_followers};
use es_core::store::StoreAdmin;
use es_replication::ReplicationStatus;
use es_rocksdb::{Damage, Loss, RepairError, Repaired, Report, Salvage};
use es_tool::output::{OutputError, OutputFile};
use serde::Serialize;

use super::verify::DAMAGED;
use crate::answer::print_with_code;
use crate::args::RepairArgs;
use crate::failure::Failure;
use crate::progress::Bar;
use crate::store::open_for_writing;
use crate::text::{count, quoted};
use es_core::schema::line;

/// The maximum number of findings in text output. JSON output has all.
const MAX_SHOWN: usize = 10;

#[derive(Serialize)]
struct RepairAnswer<'a> {
    sound: bool,
    damage: Vec<DamagedPlace<'a>>,
    more_damage: u64,
    notes: &'a [String],
    head: Option<u64>,
    last: Option<u64>,
    from_streams: u64,
    loss: LossAnswer<'a>,
    /// The command that writes a repaired store; `None` if no repair is needed or it is done.
    command: Option<String>,
    repaired: Option<RepairedAnswer<'a>>,
}

#[derive(Serialize)]
struct DamagedPlace<'a> {
    place: &'a str,
    detail: &'a str,
}

#[derive(Serialize)]
struct LossAnswer<'a> {
    events: u64,
    set_aside: u64,
    unreadable: Vec<[u64; 2]>,
    streams: Vec<ShortenedStream<'a>>,
    more_streams: u64,
    other: &'a [String],
}

#[derive(Serialize)]
struct ShortenedStream<'a> {
    stream: &'a str,
    events: u64,
}

#[derive(Serialize)]
struct RepairedAnswer<'a> {
    // Texts, because a path that is not UTF-8 has no JSON form.
    directory: String,
    store_id: String,
    new_store_id: bool,
    events: u64,
    rows: u64,
    snapshots_deleted: u64,
    projections_reset: u64,
    groups_reset: u64,
    command_results_deleted: u64,
    set_aside: u64,
    set_aside_in: Option<String>,
    /// The node of the store, if the store is a replica that lost events.
    node: Option<&'a str>,
}

pub(super) async fn run(directory: &Path, args: &RepairArgs, json: bool) -> Result<ExitCode, Failure> {
    if let Some(to) = &args.to {
        // The survey can take hours.
        Salvage::check_target(directory, to)?;
        if args.accept_loss.is_some_and(|events| events > 0) {
            LostAndFound::next_to(to).check()?;
        }
    }
    let bar = Bar::new("log");
    let mut progress = |what: &str, done, total| bar.update(what, done, total);
    let salvage = Salvage::survey(directory, &mut progress)?;
    let report = salvage.report();
    let mut answer = RepairAnswer::of(report, directory);
    let Some(to) = args.to.as_deref().filter(|_| !report.is_sound()) else {
        drop(bar);
        let code = if report.is_sound() { ExitCode::SUCCESS } else { ExitCode::from(DAMAGED) };
        return print_with_code(code, json, || to_text(&answer), &answer);
    };
    let mut lost_and_found = LostAndFound::next_to(to);
    let draft = salvage.write(to, args.accept_loss, &mut |event| lost_and_found.add(event), &mut progress)?;
    drop(bar);
    // ORDER: the reset and the file before the store has its name. A service that opens a store whose followers are
    // ahead of the log silently skips the next events.
    let reset = match draft.repaired().is_new_id {
        true => reset_derived(draft.incomplete_directory()).await?,
        false => DerivedReset::default(),
    };
    let lost_and_found = lost_and_found.finish()?;
    let repaired = draft.complete()?;
    answer.repaired = Some(RepairedAnswer {
        directory: repaired.directory.display().to_string(),
        store_id: repaired.id.to_string(),
        new_store_id: repaired.is_new_id,
        events: repaired.events,
        rows: repaired.rows,
        snapshots_deleted: reset.snapshots,
        projections_reset: reset.followers.projections,
        groups_reset: reset.followers.groups,
        command_results_deleted: reset.followers.commands,
        set_aside: repaired.set_aside,
        set_aside_in: (repaired.set_aside > 0).then(|| lost_and_found.display().to_string()),
        node: reset.node.as_deref(),
    });
    answer.command = None;
    print_with_code(
        ExitCode::SUCCESS,
        json,
        || repaired_to_text(directory, &repaired, &reset, &lost_and_found),
        &answer,
    )
}

/// What [`reset_derived`] deleted and reset.
#[derive(Debug, Default)]
struct DerivedReset {
    snapshots: u64,
    followers: FollowersReset,
    /// The node of the store. Its rows are not changed: they say that the node has the lost events, so it would not
    /// pull them again.
    node: Option<String>,
}

/// Deletes all snapshots, and resets projections and consumers.
///
/// A snapshot after the cut would be ahead of its stream. Views, checkpoints and consumers would be ahead of the log
/// and would skip the next events.
async fn reset_derived(directory: &Path) -> Result<DerivedReset, Failure> {
    let store = open_for_writing(directory, false).await?;
    let snapshots = StoreAdmin::new(Arc::clone(&store)).delete_snapshots(None).await;
    let followers = reset_followers(&*store).await;
    let replica = ReplicationStatus::read(&*store).await;
    store.close().await?;
    let node = replica?.map(|replica| replica.node);
    Ok(DerivedReset { snapshots: snapshots?, followers: followers?, node })
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
            loss: LossAnswer {
                events: *events,
                set_aside: *set_aside,
                unreadable: unreadable.iter().map(|(from, to)| [from.get(), to.get()]).collect(),
                streams: streams
                    .iter()
                    .map(|(name, events)| ShortenedStream { stream: name.as_str(), events: *events })
                    .collect(),
                more_streams: *more_streams,
                other,
            },
            command: (!report.is_sound()).then(|| command(directory, loss)),
            repaired: None,
        }
    }
}

/// Returns the command that writes a repaired store.
fn command(directory: &Path, loss: &Loss) -> String {
    let directory = directory.display().to_string();
    let directory = directory.trim_end_matches(std::path::is_separator);
    let accept = if loss.is_none() { String::new() } else { format!(" --accept-loss {}", loss.events) };
    format!("es --store {} repair --to {}{accept}", quoted(directory), quoted(&format!("{directory}.repaired")))
}

fn to_text(answer: &RepairAnswer<'_>) -> String {
    let Some(command) = &answer.command else { return "sound: no repair needed".to_owned() };
    let number = answer.damage.len() as u64 + answer.more_damage;
    let mut lines = vec![format!("damaged: {}", count(number, "finding", "findings"))];
    // One damaged block is reported by each read that needs it.
    let mut listed = BTreeSet::new();
    let first = answer.damage.iter().filter(|found| listed.insert((found.place, found.detail))).take(MAX_SHOWN);
    let first: Vec<_> = first.map(|found| format!("  {}: {}", found.place, found.detail)).collect();
    let more = number.saturating_sub(first.len() as u64);
    lines.extend(first);
    if more > 0 {
        lines.push(format!("  and {more} more"));
    }
    lines.extend(answer.notes.iter().map(|note| format!("note: {note}")));
    let recovered = count(answer.head.unwrap_or(0), "event", "events");
    let from_streams = match answer.from_streams {
        0 => String::new(),
        count => format!(", {count} of them from the records of their streams"),
    };
    lines.push(format!("can be recovered: {recovered}{from_streams}"));
    let LossAnswer { events, set_aside, other, .. } = &answer.loss;
    if *events == 0 && other.is_empty() {
        lines.push("would be lost: nothing".to_owned());
        lines.push(format!("to write a repaired store into a new directory:\n  {command}"));
        return lines.join("\n");
    }
    let last = answer.last.unwrap_or(0);
    lines.push(match *events {
        0 => "would be lost: no events".to_owned(),
        lost => {
            let events = count(lost, "event", "events");
            format!(
                "would be lost: {events} after position {} (the last position was {last})",
                answer.head.unwrap_or(0)
            )
        }
    });
    lines.extend(other.iter().map(|item| format!("  {item}")));
    if *events > 0 {
        let gaps = answer.loss.unreadable.iter().take(MAX_SHOWN).map(|[from, to]| match from == to {
            true => from.to_string(),
            false => format!("{from} to {to}"),
        });
        let gaps = gaps.collect::<Vec<_>>().join(", ");
        lines.push(format!("  {} cannot be read: positions {gaps}", count(events - set_aside, "event", "events")));
        if *set_aside > 0 {
            lines.push(format!("  {set_aside} can be read and would be written to a JSON Lines file"));
        }
    }
    let streams = &answer.loss.streams;
    let name =
        |found: &ShortenedStream<'_>| format!("  stream {}: {}", found.stream, count(found.events, "event", "events"));
    lines.extend(streams.iter().take(MAX_SHOWN).map(name));
    let more = streams.len().saturating_sub(MAX_SHOWN) as u64 + answer.loss.more_streams;
    if more > 0 {
        lines.push(format!("  and {}", count(more, "more stream", "more streams")));
    }
    lines.push("if there is a backup, restore it: `es restore` does not change this store either".to_owned());
    lines.push(format!("otherwise, to write a repaired store into a new directory:\n  {command}"));
    lines.join("\n")
}

fn repaired_to_text(damaged: &Path, repaired: &Repaired, reset: &DerivedReset, lost_and_found: &Path) -> String {
    let Repaired { directory, id, is_new_id, events, rows, set_aside, .. } = repaired;
    let events = count(*events, "event", "events");
    let rows = count(*rows, "row", "rows");
    let mut lines = vec![format!("repaired: {events}, {rows}, verified, in {}", directory.display())];
    if *is_new_id {
        lines.push(format!("new store id {id}: the history differs from that of the backups; begin new backups"));
        lines.push(format!(
            "{} deleted, the views of {} deleted (they are rebuilt), {} reset to the end of the log, the results of {} \
             deleted; other rows are unchanged, and unique keys are those that the events claim",
            count(reset.snapshots, "snapshot", "snapshots"),
            count(reset.followers.projections, "projection", "projections"),
            count(reset.followers.groups, "consumer group or reactor", "consumer groups and reactors"),
            count(reset.followers.commands, "command", "commands")
        ));
    }
    if let Some(node) = &reset.node {
        lines.push(format!(
            "this is the store of node {node:?}, which would not pull the lost events again: start the node on an \
             empty store, so that it pulls all events from its peers; only events that are not replicated are needed \
             from here"
        ));
    }
    if *set_aside > 0 {
        let events = count(*set_aside, "event", "events");
        lines.push(format!("set aside for `es import`: {events}, in {}", lost_and_found.display()));
    }
    lines.push(format!(
        "{} is unchanged: keep it under another name when you replace it with the new directory",
        damaged.display()
    ));
    lines.join("\n")
}

/// The file for readable events after the end of the repaired log. It is created with the first event, and deleted if
/// it is not finished.
struct LostAndFound {
    path: PathBuf,
    file: Option<OutputFile>,
}

impl LostAndFound {
    fn next_to(to: &Path) -> Self {
        // A path such as `.` has no name to which the name of the file could be added.
        let full = to.file_name().is_none().then(|| to.canonicalize().ok()).flatten();
        let mut path = OsString::from(full.as_deref().unwrap_or(to).components().as_path());
        path.push(".lost-and-found.jsonl");
        Self { path: path.into(), file: None }
    }

    /// Checks that the file of an earlier repair is not there.
    fn check(self) -> Result<(), Failure> {
        match self.path.symlink_metadata() {
            Ok(_) => Err(OutputError::Exists { path: self.path }.into()),
            Err(_) => Ok(()),
        }
    }

    fn add(&mut self, event: &RecordedEvent) -> io::Result<()> {
        let file = match &mut self.file {
            Some(file) => file,
            // Never overwrites the file of an earlier repair.
            none => none.insert(OutputFile::create_new(&self.path).map_err(io::Error::other)?),
        };
        line::write(event, file)
    }

    /// Completes the file, and returns its path.
    fn finish(self) -> Result<PathBuf, Failure> {
        self.file.map_or(Ok(()), OutputFile::finish)?;
        Ok(self.path)
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
