//! `export`

use std::ffi::OsString;
use std::fs::{self, File};
use std::io::{self, BufWriter, Write};
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};

use es_core::model::EventView;
use es_core::{EventReader, LogRead};
use es_rocksdb::{HiddenEvents, ReadOnlyStore};
use serde::Serialize;

use crate::answer::say;
use crate::args::ExportArgs;
use crate::failure::Failure;
use crate::line;
use crate::progress::Bar;
use crate::text::count;

/// How many events are written between two updates of the progress bar.
const SHOW_EVERY: u64 = 1024;

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
        let mut out = BufWriter::new(io::stdout());
        write(&store, &mut out, Failure::output).await?;
        return out.flush().map_err(Failure::output);
    };
    if path.is_dir() {
        return Err(Failure::Input(format!("expected a file to export to, found a directory: {}", path.display())));
    }
    let refused = |source| Failure::io("write", path, source);
    let mut out = Incomplete::create(path).map_err(refused)?;
    let (events, lost_claims) = write(&store, &mut out.file, refused).await?;
    out.finish().map_err(refused)?;
    let exported = Exported { file: path.to_owned(), events, lost_claims };
    let done = || format!("{} exported to {}", count(events, "event", "events"), path.display());
    let in_words = || match lost_claims {
        0 => done(),
        lost => format!(
            "{}\nan import does not claim {}, because the events that claimed them are hidden or removed",
            done(),
            count(lost, "unique key", "unique keys")
        ),
    };
    say(json, in_words, &exported)
}

/// A file under another name until it is whole, so that half an export is never taken for one. It is removed where it does not
/// become whole, so that it does not keep a disk full.
struct Incomplete<'a> {
    target: &'a Path,
    path: PathBuf,
    file: BufWriter<File>,
    is_whole: bool,
}

impl<'a> Incomplete<'a> {
    fn create(target: &'a Path) -> io::Result<Self> {
        let mut path = OsString::from(target);
        path.push(".incomplete");
        let path = PathBuf::from(path);
        let file = BufWriter::new(File::create(&path)?);
        Ok(Self { target, path, file, is_whole: false })
    }

    fn finish(mut self) -> io::Result<()> {
        self.file.flush()?;
        // ORDER: the content is on disk before the name says that it is whole, and the name before this is said.
        self.file.get_ref().sync_all()?;
        fs::rename(&self.path, self.target)?;
        self.is_whole = true;
        sync_directory_of(self.target)
    }
}

impl Drop for Incomplete<'_> {
    fn drop(&mut self) {
        if !self.is_whole {
            // NOTE: why it did not become whole is the error that is said; a file that stays is only room.
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
    refused: impl Fn(io::Error) -> Failure,
) -> Result<(u64, u64), Failure> {
    let total = store.head().await?.map(es_core::Position::get);
    let bar = Bar::new("export");
    let mut hidden_claims = store.claims_of_hidden_events().await?;
    let (mut written, mut lost_claims, mut failed) = (0, 0, None);
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
        written += u64::from(!event.is_removed());
        let done = event.position().get();
        if done.is_multiple_of(SHOW_EVERY) {
            bar.at("export", done, total);
        }
        ControlFlow::Continue(())
    };
    store.visit_log_with_hidden(LogRead::all(), HiddenEvents::AsTombstones, &mut write).await?;
    failed.map_or(Ok((written, lost_claims)), |error| Err(refused(error)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_does_not_become_whole_is_removed_and_leaves_what_was_there() {
        let directory = tempfile::tempdir().unwrap();
        let target = directory.path().join("out.jsonl");
        fs::write(&target, "before").unwrap();
        let names = || fs::read_dir(directory.path()).unwrap().count();
        let mut failed = Incomplete::create(&target).unwrap();
        failed.file.write_all(b"half").unwrap();
        assert_eq!(names(), 2);
        drop(failed);
        assert_eq!((names(), fs::read_to_string(&target).unwrap().as_str()), (1, "before"));
        let mut done = Incomplete::create(&target).unwrap();
        done.file.write_all(b"whole").unwrap();
        done.finish().unwrap();
        assert_eq!((names(), fs::read_to_string(&target).unwrap().as_str()), (1, "whole"));
    }
}
