//! Turns a page into commits.

use bytes::Bytes;
use es_core::model::{LogPosition, Table};
use es_core::{Commit, NewEvent};

use crate::page::{ForeignEvent, Item, Page};
use crate::rows::{self, Gap, Progress};

/// What this node stored of a link when it requested a page.
#[derive(Debug, Clone)]
pub(crate) struct Before {
    /// The row of the progress of the link.
    pub(crate) progress: Option<Bytes>,
    /// The row that counts the confirmations.
    pub(crate) confirmations: Option<Bytes>,
}

/// Where a page continues.
#[derive(Debug, Clone)]
pub(crate) struct Start {
    /// The cursor with which the page was requested.
    pub(crate) cursor: LogPosition,
    /// The digest of the filter with which the page was requested.
    pub(crate) filter: Option<u64>,
    pub(crate) before: Before,
}

/// Returns the commits that store a page: one for each commit of the origin and for each gap.
///
/// A page without news has none.
///
/// Each commit expects the progress that the one before it wrote, so a refused commit is not skipped. No commit is
/// written if this node has answered a [`Claim`](crate::Claim) since the page was requested.
pub(crate) fn commits(page: Page, table: &Table, link: &str, start: Start) -> Vec<Commit> {
    let is_idle = page.items.is_empty();
    let Start { cursor, filter, before } = start;
    let last = page.items.len().saturating_sub(1);
    let items: Vec<Option<Item>> = match page.items {
        items if items.is_empty() => vec![None],
        items => items.into_iter().map(Some).collect(),
    };
    let mut progress = before.progress;
    let mut commits = Vec::with_capacity(items.len());
    for (index, item) in items.into_iter().enumerate() {
        let next = match index == last {
            true => Progress { cursor: page.cursor, commits: 0, filter },
            false => Progress { cursor, commits: index + 1, filter },
        };
        let value = next.encode();
        if is_idle && progress.as_ref() == Some(&value) {
            break;
        }
        let commit = item
            .map_or_else(Commit::foreign, |item| commit(item, table))
            .expect_row(table.clone(), rows::CONFIRMATIONS, before.confirmations.clone())
            .expect_row(table.clone(), rows::link_key(link), progress.replace(value.clone()))
            .put_row(table.clone(), rows::link_key(link), value);
        commits.push(commit);
    }
    commits
}

fn commit(item: Item, table: &Table) -> Commit {
    match item {
        Item::Commit(events) => events.into_iter().fold(Commit::foreign(), |commit, event| {
            let ForeignEvent { stream, data, occurred_at } = event;
            commit.append(stream, NewEvent { data, occurred_at: Some(occurred_at) })
        }),
        Item::Gap { origin, from, through, reason } => {
            let row = Gap { origin, from, through, reason }.declare(table);
            Commit::foreign().put_row(row.table, row.key, row.value.unwrap_or_default())
        }
    }
}
