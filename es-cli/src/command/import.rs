//! `import`

use std::path::Path;

use crate::answer::say;
use crate::args::ImportArgs;
use crate::failure::Failure;
use crate::import::{self, Import, Summary};
use crate::text::count;

pub(super) async fn run(directory: &Path, args: &ImportArgs, json: bool) -> Result<(), Failure> {
    let import = Import {
        file: &args.file,
        skip_bad: args.skip_bad.as_deref(),
        batch: usize::try_from(args.batch).unwrap_or(usize::MAX),
    };
    let summary = import::run(directory, &import).await?;
    say(json, || in_words(&summary), &summary)
}

fn in_words(summary: &Summary) -> String {
    let Summary { lines, added, already_there, skipped, lost_claims, .. } = summary;
    let lines = count(*lines, "line", "lines");
    let done = format!("{lines}: {added} added, {already_there} already there, {skipped} skipped");
    match lost_claims {
        0 => done,
        lost => format!(
            "{done}\n{} not held any more, because the events that claimed them were hidden or removed; \
             claim them again",
            count(*lost, "unique key is", "unique keys are")
        ),
    }
}
