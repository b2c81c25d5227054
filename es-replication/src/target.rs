//! Turns a page into commits.

use es_core::model::Table;
use es_core::{Commit, NewEvent};

use crate::page::{ForeignEvent, Item, Page};
use crate::replica::rows::{self, Gap};

/// Returns the commits that store a page: one for each commit of the origin and for each gap. The last one advances the
/// cursor of the link, so that it is never ahead of the events.
pub(crate) fn commits(page: Page, table: &Table, link: &str) -> Vec<Commit> {
    let mut commits: Vec<Commit> = page.items.into_iter().map(|item| commit(item, table)).collect();
    let cursor = page.cursor.to_string();
    match commits.pop() {
        Some(last) => commits.push(last.put_row(table.clone(), rows::link_key(link), cursor)),
        None => commits.push(Commit::foreign().put_row(table.clone(), rows::link_key(link), cursor)),
    }
    commits
}

fn commit(item: Item, table: &Table) -> Commit {
    match item {
        Item::Commit(events) => events.into_iter().fold(Commit::foreign(), |commit, event| {
            let ForeignEvent { stream, data, occurred_at } = event;
            commit.append(stream, NewEvent { data, occurred_at: Some(occurred_at) })
        }),
        Item::Gap { origin, from, through } => {
            let row = Gap { origin, from, through }.declare(table);
            Commit::foreign().put_row(row.table, row.key, row.value.unwrap_or_default())
        }
    }
}
