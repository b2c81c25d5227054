//! The `import` command.

use std::path::Path;

use super::args::ImportArgs;
use super::output::Output;
use super::{IfMissing, with_shop};
use crate::failure::Failure;
use crate::import::{self, Plan, Progress, RejectedFile, Summary};
use crate::shop::Shop;

/// Imports the files. Reads them before the store is opened, so that invalid files do not create an empty store.
pub(super) async fn run(data: &Path, args: &ImportArgs) -> Result<Output, Failure> {
    let plan = Plan::read(&args.files(), args.skip_bad.is_some())?;
    let rejected_file = args.skip_bad.as_deref().map(|path| RejectedFile::create(path, data)).transpose()?;
    let progress = if args.verbose { Progress::per_order() } else { Progress::bar_or_lines(plan.orders()) };
    with_shop(data, IfMissing::Create, async |shop| import(shop, plan, rejected_file, progress).await).await
}

async fn import(
    shop: &Shop,
    plan: Plan,
    rejected_file: Option<RejectedFile>,
    mut progress: Progress,
) -> Result<Output, Failure> {
    let imported = import::run(shop, plan, &mut progress).await;
    progress.finish();
    let (summary, rejected) = imported?;
    debug_assert_eq!(summary.rejected, rejected.len() as u64);
    rejected_file.map(|file| file.finish(&rejected)).transpose()?;
    Ok(Output::new(summary_text(&summary), &summary))
}

fn summary_text(summary: &Summary) -> String {
    let Summary { placed, advanced, unchanged, rejected, products_registered, products_unchanged } = summary;
    format!(
        "orders: {placed} placed, {advanced} advanced, {unchanged} unchanged, {rejected} rejected\n\
         products: {products_registered} registered, {products_unchanged} unchanged"
    )
}
