//! The command `streams`.

use std::io::{self, BufWriter, Write};

use es_core::store::{StreamFilter, StreamPage, StreamSummary};
use es_core::{EventReader, StreamId};
use es_rocksdb::ReadOnlyStore;
use es_tool::text::printable;

use crate::answer::JsonLines;
use crate::args::StreamsArgs;
use crate::failure::Failure;
use crate::service::{Service, Target};

/// The number of streams per read.
const PAGE: usize = 1000;

pub(super) async fn run(target: &Target, args: &StreamsArgs, json: bool) -> Result<(), Failure> {
    let source = match target {
        Target::Directory(directory) => Source::Store(ReadOnlyStore::open(directory).await?),
        Target::Service(service) => Source::Service(service),
    };
    let filter = StreamFilter { category: args.category.clone(), prefix: args.prefix.clone() };
    let mut listing = StreamListing {
        writer: BufWriter::new(if json { Box::new(JsonLines::new()) } else { Box::new(io::stdout()) }),
        json,
        remaining: args.limit.unwrap_or(u64::MAX),
    };
    if !json {
        writeln!(listing.writer, "{:>10}  stream", "events").map_err(Failure::output)?;
    }
    let mut after = None;
    while listing.remaining > 0 {
        let page = source.page(&filter, after.as_ref()).await?;
        for stream in &page.streams {
            listing.add(stream)?;
        }
        let Some(next) = page.next else { break };
        after = Some(next);
    }
    listing.writer.flush().map_err(Failure::output)
}

/// Where the streams are listed.
enum Source<'a> {
    Store(ReadOnlyStore),
    Service(&'a Service),
}

impl Source<'_> {
    async fn page(&self, filter: &StreamFilter, after: Option<&StreamId>) -> Result<StreamPage, Failure> {
        match self {
            Self::Store(store) => Ok(filter.page(store as &dyn EventReader, after, PAGE).await?),
            Self::Service(service) => {
                let mut query = vec![("prefix", filter.prefix.clone())];
                query.extend(filter.category.as_ref().map(|category| ("category", category.to_string())));
                query.extend(after.map(|after| ("after", after.to_string())));
                service.get("/streams", &query).await
            }
        }
    }
}

struct StreamListing {
    writer: BufWriter<Box<dyn Write + Send>>,
    json: bool,
    /// How many more streams may be listed.
    remaining: u64,
}

impl StreamListing {
    fn add(&mut self, summary: &StreamSummary) -> Result<(), Failure> {
        let Some(remaining) = self.remaining.checked_sub(1) else { return Ok(()) };
        self.remaining = remaining;
        let written = if self.json {
            serde_json::to_writer(&mut self.writer, summary)
                .map_err(io::Error::from)
                .and_then(|()| self.writer.write_all(b"\n"))
        } else {
            writeln!(self.writer, "{:>10}  {}", summary.events, printable(summary.stream.as_str()))
        };
        written.map_err(Failure::output)
    }
}
