//! The command `export`.

use std::ffi::OsString;
use std::fs::{self, File};
use std::io::{self, BufWriter, Write};
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};

use es_core::model::EventView;
use es_core::{EventReader, LogRead};
use es_rocksdb::{HiddenEvents, ReadOnlyStore};
use serde::Serialize;

use crate::answer::print;
use crate::args::ExportArgs;
use crate::failure::Failure;
use crate::line;
use crate::progress::Bar;
use crate::text::count;

/// The number of positions between two updates of the progress bar.
const PROGRESS_INTERVAL: u64 = 1024;

#[derive(Serialize)]
struct Exported {
    file: PathBuf,
    events: u64,
    /// The number of unique keys whose claims are not exported.
    lost_claims: u64,
}

pub(super) async fn run(directory: &Path, args: &ExportArgs, json: bool) -> Result<(), Failure> {
    let store = ReadOnlyStore::open(directory).await?;
    let Some(path) = args.file.as_deref().filter(|path| path.as_os_str() != "-") else {
        let mut stdout = BufWriter::new(io::stdout());
        write(&store, &mut stdout, Failure::output).await?;
        return stdout.flush().map_err(Failure::output);
    };
    if path.is_dir() {
        return Err(Failure::Input(format!("expected a file to export to, found a directory: {}", path.display())));
    }
    let failed_write = |source| Failure::io("write", path, source);
    let mut file = IncompleteFile::create(path).map_err(failed_write)?;
    let Written { events, lost_claims } = write(&store, &mut file.file, failed_write).await?;
    file.finish().map_err(failed_write)?;
    let exported = Exported { file: path.to_owned(), events, lost_claims };
    print(json, || to_text(&exported), &exported)
}

fn to_text(Exported { file, events, lost_claims }: &Exported) -> String {
    let exported = format!("{} exported to {}", count(*events, "event", "events"), file.display());
    match lost_claims {
        0 => exported,
        lost => format!(
            "{exported}\nan import does not claim {}, because the events that claimed them are hidden or removed",
            count(*lost, "unique key", "unique keys")
        ),
    }
}

/// What [`write`] wrote.
struct Written {
    events: u64,
    /// The number of unique keys whose claims are not exported.
    lost_claims: u64,
}

/// A file that has a temporary name until it is complete, so that an incomplete export is not mistaken for a complete
/// one. Dropping an incomplete file deletes it, so that it does not fill the disk.
struct IncompleteFile<'a> {
    target: &'a Path,
    path: PathBuf,
    file: BufWriter<File>,
    is_complete: bool,
}

impl<'a> IncompleteFile<'a> {
    fn create(target: &'a Path) -> io::Result<Self> {
        let mut path = OsString::from(target);
        path.push(".incomplete");
        let path = PathBuf::from(path);
        let file = BufWriter::new(File::create(&path)?);
        Ok(Self { target, path, file, is_complete: false })
    }

    fn finish(mut self) -> io::Result<()> {
        self.file.flush()?;
        // ORDER: the content is synced before the rename, and the rename before the command reports success.
        self.file.get_ref().sync_all()?;
        fs::rename(&self.path, self.target)?;
        self.is_complete = true;
        sync_directory_of(self.target)
    }
}

impl Drop for IncompleteFile<'_> {
    fn drop(&mut self) {
        if !self.is_complete {
            // The command reports the error that caused this. A file that cannot be deleted only uses disk space.
            let _ = fs::remove_file(&self.path);
        }
    }
}

#[cfg(unix)]
fn sync_directory_of(path: &Path) -> io::Result<()> {
    let directory = path.parent().filter(|directory| !directory.as_os_str().is_empty()).unwrap_or(Path::new("."));
    File::open(directory)?.sync_all()
}

#[cfg(not(unix))]
fn sync_directory_of(_: &Path) -> io::Result<()> {
    Ok(())
}

async fn write(
    store: &ReadOnlyStore,
    out: &mut (impl Write + Send),
    failed_write: impl Fn(io::Error) -> Failure,
) -> Result<Written, Failure> {
    let total = store.head().await?.map(es_core::Position::get);
    let bar = Bar::new("export");
    let mut hidden_claims = store.claims_of_hidden_events().await?;
    let (mut events, mut lost_claims, mut failed) = (0, 0, None);
    let mut write = |event: EventView<'_>| {
        let claims = match event.is_removed() && !hidden_claims.is_empty() {
            true => hidden_claims.remove(&(event.stream().clone(), event.revision())).unwrap_or(0),
            false => 0,
        };
        lost_claims += claims;
        if let Err(error) = line::write_with_claims(event, claims, out) {
            failed = Some(error);
            return ControlFlow::Break(());
        }
        events += u64::from(!event.is_removed());
        let done = event.position().get();
        if done.is_multiple_of(PROGRESS_INTERVAL) {
            bar.update("export", done, total);
        }
        ControlFlow::Continue(())
    };
    store.visit_log_with_hidden(LogRead::all(), HiddenEvents::AsTombstones, &mut write).await?;
    failed.map_or(Ok(Written { events, lost_claims }), |error| Err(failed_write(error)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_incomplete_file_is_deleted_and_does_not_replace_the_target() {
        let directory = tempfile::tempdir().unwrap();
        let target = directory.path().join("out.jsonl");
        fs::write(&target, "before").unwrap();
        let names = || fs::read_dir(directory.path()).unwrap().count();
        let mut failed = IncompleteFile::create(&target).unwrap();
        failed.file.write_all(b"half").unwrap();
        assert_eq!(names(), 2);
        drop(failed);
        assert_eq!((names(), fs::read_to_string(&target).unwrap().as_str()), (1, "before"));
        let mut completed = IncompleteFile::create(&target).unwrap();
        completed.file.write_all(b"whole").unwrap();
        completed.finish().unwrap();
        assert_eq!((names(), fs::read_to_string(&target).unwrap().as_str()), (1, "whole"));
    }
}
