//! `streams`

use std::io::{self, Write};
use std::path::Path;

use es_core::model::Category;
use es_core::retention::{Retained, Scope};
use es_core::{EventReader, Revision, StreamId};
use es_rocksdb::ReadOnlyStore;
use serde::Serialize;

use crate::args::StreamsArgs;
use crate::failure::Failure;

const PAGE: usize = 1000;

#[derive(Serialize)]
struct StreamRow<'a> {
    stream: &'a StreamId,
    revision: Revision,
    events: u64,
}

pub(super) async fn run(directory: &Path, args: &StreamsArgs, json: bool) -> Result<(), Failure> {
    let store = ReadOnlyStore::open(directory).await?;
    let mut out =
        StreamListing { out: io::BufWriter::new(io::stdout().lock()), json, left: args.limit.unwrap_or(u64::MAX) };
    if !json {
        writeln!(out.out, "{:>10}  stream", "events").map_err(Failure::output)?;
    }
    let Some(category) = &args.category else {
        all(&store, &args.prefix, &mut out).await?;
        return out.out.flush().map_err(Failure::output);
    };
    if category.as_str().starts_with(&args.prefix)
        && let Some((alone, revision)) = alone(&store, category).await?
    {
        out.add(&store, &alone, revision).await?;
    }
    if let Some(prefix) = prefix(category, &args.prefix) {
        all(&store, &prefix, &mut out).await?;
    }
    out.out.flush().map_err(Failure::output)
}

/// The stream that is a category by itself, which is one without a `-`. It stands before all others of it.
async fn alone(store: &ReadOnlyStore, category: &Category) -> Result<Option<(StreamId, Revision)>, Failure> {
    let Ok(alone) = StreamId::new(category) else { return Ok(None) };
    Ok(store.revision(&alone).await?.map(|revision| (alone, revision)))
}

/// How many streams and events a rule can be for, and how many of the events it or a deletion hides.
#[derive(Debug, Default, Serialize)]
pub(super) struct Covered {
    /// Streams that have events since they were deleted, if they were.
    pub(super) streams: u64,
    /// These events.
    pub(super) events: u64,
    /// Those of them that are hidden or were removed.
    pub(super) hidden: u64,
}

impl Covered {
    /// What a scope covers; takes a look at each stream and at no event.
    pub(super) async fn by(scope: &Scope, store: &ReadOnlyStore) -> Result<Self, Failure> {
        let mut covered = Self::default();
        let category = match scope {
            Scope::Stream(stream) => {
                let last = store.revision(stream).await?;
                return covered.with(store, last.map(|last| (stream.clone(), last))).await;
            }
            Scope::Category(category) => category,
        };
        covered = covered.with(store, alone(store, category).await?).await?;
        let (prefix, mut after) = (format!("{category}-"), None);
        loop {
            let page = store.streams(&prefix, after.as_ref(), PAGE).await?;
            let Some((last, _)) = page.last() else { return Ok(covered) };
            after = Some(last.clone());
            covered = covered.with(store, page).await?;
        }
    }

    async fn with(
        mut self,
        store: &ReadOnlyStore,
        streams: impl IntoIterator<Item = (StreamId, Revision)>,
    ) -> Result<Self, Failure> {
        for (stream, last) in streams {
            let Retained { begins, first, .. } = store.retained(&stream).await?;
            let events = last.next().get().saturating_sub(begins.get());
            self.streams += u64::from(events > 0);
            self.events += events;
            self.hidden += first.get().saturating_sub(begins.get());
        }
        Ok(self)
    }
}

/// What the names begin with that have a category and a prefix.
fn prefix(category: &Category, prefix: &str) -> Option<String> {
    let of_category = format!("{category}-");
    if prefix.starts_with(&of_category) {
        Some(prefix.to_owned())
    } else {
        of_category.starts_with(prefix).then_some(of_category)
    }
}

async fn all(store: &ReadOnlyStore, prefix: &str, out: &mut StreamListing<'_>) -> Result<(), Failure> {
    let mut after = None;
    while out.left > 0 {
        let page = store.streams(prefix, after.as_ref(), PAGE).await?;
        for (stream, revision) in &page {
            out.add(store, stream, *revision).await?;
        }
        let Some((last, _)) = page.into_iter().next_back() else { break };
        after = Some(last);
    }
    Ok(())
}

struct StreamListing<'a> {
    out: io::BufWriter<io::StdoutLock<'a>>,
    json: bool,
    left: u64,
}

impl StreamListing<'_> {
    /// Lists a stream with as many events as are visible; not one of which none is.
    async fn add(&mut self, store: &ReadOnlyStore, stream: &StreamId, revision: Revision) -> Result<(), Failure> {
        let first = store.retained(stream).await?.first;
        let events = revision.next().get().saturating_sub(first.get());
        if events == 0 {
            return Ok(());
        }
        let Some(left) = self.left.checked_sub(1) else { return Ok(()) };
        self.left = left;
        let written = if self.json {
            serde_json::to_writer(&mut self.out, &StreamRow { stream, revision, events })
                .map_err(io::Error::from)
                .and_then(|()| self.out.write_all(b"\n"))
        } else {
            writeln!(self.out, "{events:>10}  {stream}")
        };
        written.map_err(Failure::output)
    }
}
