//! `verify`

use std::path::Path;
use std::process::ExitCode;

use es_rocksdb::{Damage, ReadOnlyStore, Verification};
use serde::Serialize;

use crate::answer::say;
use crate::failure::Failure;
use crate::progress::Bar;
use crate::text::count;

/// The exit code that says "damage found".
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
    let found = store.verify(&mut |what, done, total| bar.at(what, done, total))?;
    drop(bar);
    let advice = format!(
        "do not write to it, and keep the directory as it is: restore a backup into another one; \
         `es --store {} repair` shows what can be saved of this one",
        directory.display()
    );
    report(&found, json, &advice)
}

/// Says what was found, and what to do where it is damage; the exit code says whether it is well.
pub(super) fn report(found: &Verification, json: bool, advice: &str) -> Result<ExitCode, Failure> {
    let damage = found.findings().map(|(Damage { place, detail }, times)| Finding { place, detail, times });
    let shown = VerifyAnswer {
        sound: found.is_sound(),
        events: found.events,
        removed: found.removed,
        streams: found.streams,
        entries: found.entries,
        damage: damage.collect(),
        more_damage: found.more_damage,
    };
    say(json, || in_words(&shown, advice), &shown)?;
    Ok(if shown.sound { ExitCode::SUCCESS } else { ExitCode::from(DAMAGED) })
}

fn in_words(shown: &VerifyAnswer<'_>, advice: &str) -> String {
    let VerifyAnswer { events, streams, entries, .. } = shown;
    let removed = if shown.removed > 0 { format!(", {} removed", shown.removed) } else { String::new() };
    let all = format!("{events} events in {streams} streams{removed}, {entries} entries");
    if shown.sound {
        return format!("sound: {all}");
    }
    let number = shown.damage.len() as u64 + shown.more_damage;
    let mut text = format!("damaged: {} ({all} looked at)", count(number, "finding", "findings"));
    for Finding { place, detail, times } in &shown.damage {
        let times = if *times > 1 { format!(" ({times} times)") } else { String::new() };
        text += &format!("\n  {place}: {detail}{times}");
    }
    if shown.more_damage > 0 {
        text += &format!("\n  and {} more", shown.more_damage);
    }
    text + "\n" + advice
}
