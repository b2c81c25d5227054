//! The command `verify`.

use std::path::Path;
use std::process::ExitCode;
use std::time::Duration;

use es_rocksdb::{Damage, ReadOnlyStore, Verification};
use serde::Serialize;

use crate::answer::{print_ahead_note, print_with_code};
use crate::failure::Failure;
use crate::progress::Bar;
use crate::text::count;

/// The exit code for damage.
pub(super) const DAMAGED: u8 = 4;

#[derive(Serialize)]
struct VerifyAnswer<'a> {
    sound: bool,
    events: u64,
    removed: u64,
    streams: u64,
    entries: u64,
    damage: Vec<Finding<'a>>,
    more_damage: u64,
    /// By how many seconds the last event is ahead of the clock, if by more than a minute.
    #[serde(skip_serializing_if = "Option::is_none")]
    ahead_of_clock_seconds: Option<u64>,
}

#[derive(Serialize)]
struct Finding<'a> {
    place: &'a str,
    detail: &'a str,
    times: u64,
}

pub(super) async fn run(directory: &Path, json: bool) -> Result<ExitCode, Failure> {
    let store = ReadOnlyStore::open(directory).await?;
    let bar = Bar::new("log");
    let found = store.verify(&mut |what, done, total| bar.update(what, done, total))?;
    drop(bar);
    let advice = format!(
        "keep the directory unchanged and restore a backup into another directory; `es --store {} repair` shows what \
         can be recovered",
        directory.display()
    );
    print_and_rate(&found, store.ahead_of_clock(), json, &advice)
}

/// Prints the result of a verification and returns the exit code. The advice is printed only if there is damage.
pub(super) fn report(verification: &Verification, json: bool, advice: &str) -> Result<ExitCode, Failure> {
    print_and_rate(verification, None, json, advice)
}

fn print_and_rate(
    verification: &Verification,
    ahead_of_clock: Option<Duration>,
    json: bool,
    advice: &str,
) -> Result<ExitCode, Failure> {
    let damage = verification.findings().map(|(Damage { place, detail }, times)| Finding { place, detail, times });
    let answer = VerifyAnswer {
        sound: verification.is_sound(),
        events: verification.events,
        removed: verification.removed,
        streams: verification.streams,
        entries: verification.entries,
        damage: damage.collect(),
        more_damage: verification.more_damage,
        ahead_of_clock_seconds: ahead_of_clock.map(|ahead| ahead.as_secs()),
    };
    let code = if answer.sound { ExitCode::SUCCESS } else { ExitCode::from(DAMAGED) };
    let code = print_with_code(code, json, || to_text(&answer, advice), &answer)?;
    print_ahead_note(ahead_of_clock.filter(|_| !json));
    Ok(code)
}

fn to_text(answer: &VerifyAnswer<'_>, advice: &str) -> String {
    let VerifyAnswer { events, streams, entries, .. } = answer;
    let removed = if answer.removed > 0 { format!(", {} removed", answer.removed) } else { String::new() };
    let verified = format!(
        "{} in {}{removed}, {}",
        count(*events, "event", "events"),
        count(*streams, "stream", "streams"),
        count(*entries, "entry", "entries")
    );
    if answer.sound {
        return format!("sound: {verified}");
    }
    let number = answer.damage.len() as u64 + answer.more_damage;
    let mut text = format!("damaged: {} ({verified} verified)", count(number, "finding", "findings"));
    for Finding { place, detail, times } in &answer.damage {
        let times = if *times > 1 { format!(" ({times} times)") } else { String::new() };
        text += &format!("\n  {place}: {detail}{times}");
    }
    if answer.more_damage > 0 {
        text += &format!("\n  and {} more", answer.more_damage);
    }
    text + "\n" + advice
}
