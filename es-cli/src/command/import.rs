//! The command `import`.

use std::path::Path;

use crate::answer::print;
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
    print(json, || to_text(&summary), &summary)
}

fn to_text(summary: &Summary) -> String {
    let Summary { lines, added, repeated, hidden, skipped, lost_claims, .. } = summary;
    let lines = count(*lines, "line", "lines");
    let of_them = match hidden {
        0 => String::new(),
        hidden => format!(" (of them {hidden} hidden by a rule or a deletion, or removed)"),
    };
    let imported = format!("{lines}: {added} added, {repeated} already stored{of_them}, {skipped} skipped");
    match lost_claims {
        0 => imported,
        lost => format!(
            "{imported}\n{} not held any more, because the events that claimed them were hidden or removed; claim them \
             again",
            count(*lost, "unique key is", "unique keys are")
        ),
    }
}
