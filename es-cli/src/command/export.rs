//! `export`

use std::ffi::OsString;
use std::fs::{self, File};
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};

use es_core::{EventStore, LogRead};
use es_rocksdb::{Hidden, ReadOnlyStore};
use serde::Serialize;

use crate::answer::{count, say};
use crate::args::ExportArgs;
use crate::failure::Failure;
use crate::line;
use crate::progress::Bar;

#[derive(Serialize)]
struct Exported {
    file: PathBuf,
    events: u64,
}

pub(super) async fn run(folder: &Path, args: &ExportArgs, json: bool) -> Result<(), Failure> {
    let store = ReadOnlyStore::open(folder).await?;
    let Some(path) = &args.file else {
        let mut out = BufWriter::new(io::stdout().lock());
        write(&store, &mut out, Failure::output).await?;
        return out.flush().map_err(Failure::output);
    };
    let refused = |source| Failure::io("write", path, source);
    // NOTE: under another name until it is whole, so that half an export is never taken for one.
    let mut incomplete = OsString::from(path);
    incomplete.push(".incomplete");
    let mut out = BufWriter::new(File::create(&incomplete).map_err(refused)?);
    let events = write(&store, &mut out, refused).await?;
    let file = out.into_inner().map_err(|error| refused(error.into_error()))?;
    file.sync_all().map_err(refused)?;
    fs::rename(&incomplete, path).map_err(refused)?;
    sync_folder_of(path).map_err(refused)?;
    let exported = Exported { file: path.clone(), events };
    say(json, || format!("{} exported to {}", count(events, "event", "events"), path.display()), &exported)
}

/// Makes the name of a file last through a power failure.
fn sync_folder_of(path: &Path) -> io::Result<()> {
    match std::path::absolute(path)?.parent() {
        // NOTE: only there can a folder be synced.
        Some(folder) if cfg!(unix) => File::open(folder)?.sync_all(),
        _ => Ok(()),
    }
}

async fn write(
    store: &ReadOnlyStore,
    out: &mut impl Write,
    refused: impl Fn(io::Error) -> Failure,
) -> Result<u64, Failure> {
    let total = store.head().await?.map(es_core::Position::get);
    let bar = Bar::new("export");
    let mut events = store.read_log_whole(LogRead::all(), Hidden::AsRemoved);
    let (mut done, mut written) = (0, 0);
    while let Some(batch) = events.next_batch().await? {
        for event in &batch {
            line::write(event, out).map_err(&refused)?;
        }
        done += batch.len() as u64;
        written += batch.iter().filter(|event| !event.is_removed()).count() as u64;
        bar.at("export", done, total);
    }
    Ok(written)
}
