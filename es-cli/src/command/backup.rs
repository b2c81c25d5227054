//! The commands `backup` and `restore`.

use std::path::Path;
use std::process::ExitCode;

use es_rocksdb::{Backup, BackupError, Backups, DamagedBackup};
use serde::Serialize;

use super::verify;
use crate::answer::print;
use crate::failure::Failure;
use crate::progress::Bar;
use crate::text::count;

#[derive(Serialize)]
// Directories are texts, because a path that is not UTF-8 has no JSON form.
struct BackupAnswer<'a> {
    number: u32,
    directory: String,
    head: Option<u64>,
    events: u64,
    new_events: u64,
    new_rows: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    damaged: Option<Damaged<'a>>,
}

#[derive(Serialize)]
struct Damaged<'a> {
    number: u32,
    directory: String,
    found: &'a str,
}

impl<'a> From<&'a Backup> for BackupAnswer<'a> {
    fn from(backup: &'a Backup) -> Self {
        Self {
            number: backup.number,
            directory: backup.directory.display().to_string(),
            head: backup.head.map(es_core::Position::get),
            events: backup.events,
            new_events: backup.new_events,
            new_rows: backup.new_rows,
            damaged: backup.damaged.as_ref().map(|DamagedBackup { number, directory, found, .. }| Damaged {
                number: *number,
                directory: directory.display().to_string(),
                found,
            }),
        }
    }
}

pub(super) async fn create(store: &Path, dir: &Path, json: bool) -> Result<ExitCode, Failure> {
    let bar = Bar::new("backup");
    let result = Backups::new(dir).create(store, &mut |what, done, total| bar.update(what, done, total)).await;
    drop(bar);
    answer(result, json, |backup| {
        let events = count(backup.events, "event", "events");
        let directory = backup.directory.display();
        let created =
            format!("backup {}: {events}, {} new, verified, in {directory}", backup.number, backup.new_events);
        match &backup.damaged {
            None => created,
            Some(DamagedBackup { number, directory, found, .. }) => format!(
                "{created}\n\
                 backup {number} is damaged, so this backup does not continue it: {found}\n\
                 delete {}, and verify earlier backups, which may share the damaged file: `es --store DIR verify`",
                directory.display()
            ),
        }
    })
}

pub(super) async fn restore(dir: &Path, to: &Path, number: Option<u32>, json: bool) -> Result<ExitCode, Failure> {
    let bar = Bar::new("restore");
    let result = Backups::new(dir).restore(number, to, &mut |what, done, total| bar.update(what, done, total)).await;
    drop(bar);
    answer(result, json, |backup| {
        let events = count(backup.events, "event", "events");
        format!("restored backup {}: {events}, verified, in {}", backup.number, backup.directory.display())
    })
}

fn answer(
    result: Result<Backup, BackupError>,
    json: bool,
    to_text: impl FnOnce(&Backup) -> String,
) -> Result<ExitCode, Failure> {
    match result {
        Ok(backup) => print(json, || to_text(&backup), &BackupAnswer::from(&backup)).map(|()| ExitCode::SUCCESS),
        Err(BackupError::Unsound { verification: Some(found), .. }) => {
            verify::report(&found, json, "the copy was deleted; check the disk and try again")
        }
        Err(BackupError::Damaged { number, directory, advice, verification: Some(found), .. }) => {
            let advice = format!("backup {number} in {} was not restored; {advice}", directory.display());
            verify::report(&found, json, &advice)
        }
        Err(error) => Err(error.into()),
    }
}
