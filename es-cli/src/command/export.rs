//! The command `export`.

use std::io::{self, BufWriter, Write};
use std::ops::ControlFlow;
use std::path::Path;

use es_core::model::EventView;
use es_core::{EventReader, LogRead};
use es_rocksdb::{HiddenEvents, ReadOnlyStore};
use es_tool::output::{self, OutputFile};
use serde::Serialize;

use crate::answer::{JsonLines, print};
use crate::args::ExportArgs;
use crate::failure::Failure;
use crate::progress::Bar;
use crate::text::count;
use es_core::schema::line;

/// The number of positions between two updates of the progress bar.
const PROGRESS_INTERVAL: u64 = 1024;

#[derive(Serialize)]
struct Exported {
    // A text, because a path that is not UTF-8 has no JSON form.
    file: String,
    events: u64,
    /// The number of unique keys whose claims are not exported.
    lost_claims: u64,
}

pub(super) async fn run(directory: &Path, args: &ExportArgs, json: bool) -> Result<(), Failure> {
    let store = ReadOnlyStore::open(directory).await?;
    let Some(path) = args.file.as_deref().filter(|path| !output::is_standard_output(path)) else {
        let mut stdout = BufWriter::new(JsonLines::new());
        write(&store, &mut stdout, Failure::output).await?;
        return stdout.flush().map_err(Failure::output);
    };
    let mut file = OutputFile::create(path)?;
    let Written { events, lost_claims } = write(&store, &mut file, |source| Failure::io("write", path, source)).await?;
    file.finish()?;
    let exported = Exported { file: path.display().to_string(), events, lost_claims };
    print(json, || to_text(&exported), &exported)
}

fn to_text(Exported { file, events, lost_claims }: &Exported) -> String {
    let exported = format!("{} exported to {file}", count(*events, "event", "events"));
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
