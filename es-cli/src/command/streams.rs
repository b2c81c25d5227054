//! The command `streams`.

use std::io::{self, BufWriter, Write};
use std::path::Path;

use es_core::model::Category;
use es_core::retention::{Retained, Scope};
use es_core::{EventReader, Revision, StreamId};
use es_rocksdb::ReadOnlyStore;
use es_tool::text::printable;
use serde::Serialize;

use crate::answer::JsonLines;
use crate::args::StreamsArgs;
use crate::failure::Failure;

/// The number of streams per read.
const PAGE: usize = 1000;

#[derive(Serialize)]
struct StreamRow<'a> {
    stream: &'a StreamId,
    revision: Revision,
    events: u64,
}

pub(super) async fn run(directory: &Path, args: &StreamsArgs, json: bool) -> Result<(), Failure> {
    let store = ReadOnlyStore::open(directory).await?;
    let mut listing = StreamListing {
        writer: BufWriter::new(if json { Box::new(JsonLines::new()) } else { Box::new(io::stdout()) }),
        json,
        remaining: args.limit.unwrap_or(u64::MAX),
    };
    if !json {
        writeln!(listing.writer, "{:>10}  stream", "events").map_err(Failure::output)?;
    }
    let Some(category) = &args.category else {
        list_all(&store, &args.prefix, &mut listing).await?;
        return listing.writer.flush().map_err(Failure::output);
    };
    if category.as_str().starts_with(&args.prefix)
        && let Some((stream, revision)) = stream_of_category(&store, category).await?
    {
        listing.add(&store, &stream, revision).await?;
    }
    if let Some(prefix) = prefix(category, &args.prefix) {
        list_all(&store, &prefix, &mut listing).await?;
    }
    listing.writer.flush().map_err(Failure::output)
}

/// Returns the stream whose name is the category, without a `-`. It is the first stream of the category.
async fn stream_of_category(
    store: &ReadOnlyStore,
    category: &Category,
) -> Result<Option<(StreamId, Revision)>, Failure> {
    let Ok(stream) = StreamId::new(category) else { return Ok(None) };
    Ok(store.revision(&stream).await?.map(|revision| (stream, revision)))
}

/// The streams and events in the scope of a rule, and the number of hidden events.
#[derive(Debug, Default, Serialize)]
pub(super) struct Covered {
    /// The number of streams that have events after their last deletion.
    pub(super) streams: u64,
    /// The number of these events.
    pub(super) events: u64,
    /// The number of these events that are hidden or removed.
    pub(super) hidden: u64,
    /// The revision of the last event of the longest stream.
    #[serde(skip)]
    pub(super) last: Option<Revision>,
}

impl Covered {
    /// Counts the streams and events of a scope. Reads each stream head and no event.
    pub(super) async fn count(scope: &Scope, store: &ReadOnlyStore) -> Result<Self, Failure> {
        let mut covered = Self::default();
        let category = match scope {
            Scope::Stream(stream) => {
                let last = store.revision(stream).await?;
                return covered.add(store, last.map(|last| (stream.clone(), last))).await;
            }
            Scope::Category(category) => category,
        };
        covered = covered.add(store, stream_of_category(store, category).await?).await?;
        let (prefix, mut after) = (format!("{category}-"), None);
        loop {
            let page = store.streams(&prefix, after.as_ref(), PAGE).await?;
            let Some((last, _)) = page.last() else { return Ok(covered) };
            after = Some(last.clone());
            covered = covered.add(store, page).await?;
        }
    }

    async fn add(
        mut self,
        store: &ReadOnlyStore,
        streams: impl IntoIterator<Item = (StreamId, Revision)>,
    ) -> Result<Self, Failure> {
        for (stream, last) in streams {
            let Retained { begins, first, .. } = store.retained(&stream).await?;
            let events = last.next().get().saturating_sub(begins.get());
            self.streams += u64::from(events > 0);
            self.events += events;
            self.last = self.last.max(Some(last));
            self.hidden += first.get().saturating_sub(begins.get());
        }
        Ok(self)
    }
}

/// Returns the common prefix of the stream names that have a category and a prefix; `None` if no name has both.
fn prefix(category: &Category, prefix: &str) -> Option<String> {
    let of_category = format!("{category}-");
    if prefix.starts_with(&of_category) {
        Some(prefix.to_owned())
    } else {
        of_category.starts_with(prefix).then_some(of_category)
    }
}

async fn list_all(store: &ReadOnlyStore, prefix: &str, listing: &mut StreamListing) -> Result<(), Failure> {
    let mut after = None;
    while listing.remaining > 0 {
        let page = store.streams(prefix, after.as_ref(), PAGE).await?;
        for (stream, revision) in &page {
            listing.add(store, stream, *revision).await?;
        }
        let Some((last, _)) = page.into_iter().next_back() else { break };
        after = Some(last);
    }
    Ok(())
}

struct StreamListing {
    writer: BufWriter<Box<dyn Write + Send>>,
    json: bool,
    /// How many more streams may be listed.
    remaining: u64,
}

impl StreamListing {
    /// Lists a stream with the number of its visible events. Skips a stream without visible events.
    async fn add(&mut self, store: &ReadOnlyStore, stream: &StreamId, revision: Revision) -> Result<(), Failure> {
        let first = store.retained(stream).await?.first;
        let events = revision.next().get().saturating_sub(first.get());
        if events == 0 {
            return Ok(());
        }
        let Some(remaining) = self.remaining.checked_sub(1) else { return Ok(()) };
        self.remaining = remaining;
        let written = if self.json {
            serde_json::to_writer(&mut self.writer, &StreamRow { stream, revision, events })
                .map_err(io::Error::from)
                .and_then(|()| self.writer.write_all(b"\n"))
        } else {
            writeln!(self.writer, "{events:>10}  {}", printable(stream.as_str()))
        };
        written.map_err(Failure::output)
    }
}
