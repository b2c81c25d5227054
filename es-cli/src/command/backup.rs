//! `backup` and `restore`

use std::path::Path;
use std::process::ExitCode;

use es_rocksdb::{Backup, BackupError, Backups};
use serde::Serialize;

use super::verify;
use crate::answer::{count, say};
use crate::failure::Failure;
use crate::progress::Bar;

#[derive(Serialize)]
struct Shown<'a> {
    number: u32,
    folder: &'a Path,
    head: Option<u64>,
    events: u64,
    new_events: u64,
    new_rows: u64,
}

impl<'a> From<&'a Backup> for Shown<'a> {
    fn from(backup: &'a Backup) -> Self {
        Self {
            number: backup.number,
            folder: &backup.folder,
            head: backup.head.map(es_core::Position::get),
            events: backup.events,
            new_events: backup.new_events,
            new_rows: backup.new_rows,
        }
    }
}

pub(super) async fn create(store: &Path, dir: &Path, json: bool) -> Result<ExitCode, Failure> {
    let bar = Bar::new("backup");
    let made = Backups::new(dir).create(store, &mut |what, done, total| bar.at(what, done, total)).await;
    drop(bar);
    answer(made, json, |backup| {
        let events = count(backup.events, "event", "events");
        let folder = backup.folder.display();
        format!("backup {}: {events}, {} new, verified, in {folder}", backup.number, backup.new_events)
    })
}

pub(super) async fn restore(dir: &Path, to: &Path, number: Option<u32>, json: bool) -> Result<ExitCode, Failure> {
    let bar = Bar::new("restore");
    let made = Backups::new(dir).restore(number, to, &mut |what, done, total| bar.at(what, done, total)).await;
    drop(bar);
    answer(made, json, |backup| {
        let events = count(backup.events, "event", "events");
        format!("restored backup {}: {events}, verified, in {}", backup.number, backup.folder.display())
    })
}

fn answer(
    made: Result<Backup, BackupError>,
    json: bool,
    in_words: impl FnOnce(&Backup) -> String,
) -> Result<ExitCode, Failure> {
    match made {
        Ok(backup) => say(json, || in_words(&backup), &Shown::from(&backup)).map(|()| ExitCode::SUCCESS),
        Err(BackupError::Unsound { verification: Some(found), .. }) => {
            verify::report(&found, json, "it was not kept: look after the disk and try again")
        }
        Err(error) => Err(error.into()),
    }
}
