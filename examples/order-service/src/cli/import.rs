//! `import`

use std::path::Path;

use super::answer::Answer;
use super::args::ImportArgs;
use super::with_shop;
use crate::failure::Failure;
use crate::import::{self, Plan, Progress, RejectedFile, Summary};
use crate::shop::Shop;

/// Reads the files before the store is opened, so that bad files do not even make an empty one.
pub(super) async fn run(data: &Path, args: &ImportArgs) -> Result<Answer, Failure> {
    let plan = Plan::read(&args.files(), args.skip_bad.is_some())?;
    let list = args.skip_bad.as_deref().map(RejectedFile::begin).transpose()?;
    with_shop(data, true, async |shop| carry_out(shop, plan, list, args.verbose).await).await
}

async fn carry_out(shop: &Shop, plan: Plan, list: Option<RejectedFile>, verbose: bool) -> Result<Answer, Failure> {
    let mut progress = if verbose { Progress::each() } else { Progress::shown(plan.orders()) };
    let done = import::run(shop, plan, &mut progress).await;
    progress.finish();
    let (summary, rejected) = match (done, list) {
        (Ok(done), None) => done,
        (Ok(done), Some(list)) => {
            list.finish(&done.1)?;
            done
        }
        (Err(failure), list) => {
            list.into_iter().for_each(RejectedFile::give_up);
            return Err(failure);
        }
    };
    debug_assert_eq!(summary.rejected, rejected.len() as u64);
    Ok(Answer::new(in_words(&summary), &summary))
}

fn in_words(summary: &Summary) -> String {
    let Summary { placed, advanced, unchanged, rejected, products_registered, products_unchanged } = summary;
    format!(
        "orders: {placed} placed, {advanced} advanced, {unchanged} unchanged, {rejected} rejected\n\
         products: {products_registered} registered, {products_unchanged} unchanged"
    )
}
