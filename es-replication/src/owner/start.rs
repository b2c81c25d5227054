//! The rows of the homes when a store opens.

use std::collections::{BTreeMap, BTreeSet};

use es_core::__private::home::{self, NodeHomes, StreamHome};
use es_core::model::{Category, LogId, OriginId};
use es_core::store::{LogRead, QueryItem};
use es_core::{Commit, EventReader, EventStore, StoreError, StreamId};

use crate::error::StartError;
use crate::owner::Owners;
use crate::rows::Identity;

/// The number of streams whose rows are written in one commit.
const BATCH: usize = 1_000;

/// Reads the row of the node.
pub(crate) async fn read_node(store: &dyn EventReader) -> Result<Option<NodeHomes>, StoreError> {
    store.row(&home::table(), NodeHomes::KEY).await?.map(|row| NodeHomes::decode(&row)).transpose()
}

/// Adds the row of the node to a commit.
pub(crate) fn put_node(commit: Commit, node: &NodeHomes) -> Result<Commit, StoreError> {
    Ok(commit.put_row(home::table(), NodeHomes::KEY, node.encode()?))
}

/// Returns the row of a node that starts with an origin. `identity` is its identity before.
pub(crate) fn node_of(
    before: Option<NodeHomes>,
    identity: Option<&Identity>,
    name: &str,
    origin: OriginId,
    log_id: LogId,
) -> NodeHomes {
    let (node, origins) = (name.to_owned(), vec![origin]);
    let Some(before) = before else {
        return NodeHomes { node, origins, unconfirmed: Vec::new(), categories: BTreeSet::new() };
    };
    if before.origins.first() == Some(&origin) {
        return before;
    }
    let unconfirmed: BTreeSet<OriginId> = match identity {
        // A restored backup has lost events of which no member may know.
        Some(identity) if identity.log_id != log_id => BTreeSet::new(),
        // A member did not answer, or has events of this node that this node lacks.
        _ => before.origins.into_iter().chain(before.unconfirmed).collect(),
    };
    NodeHomes { node, origins, unconfirmed: unconfirmed.into_iter().collect(), categories: before.categories }
}

/// Writes the rows of the streams whose aggregates are declared with `owner` for the first time.
pub(crate) async fn prepare(store: &dyn EventStore, owners: &Owners) -> Result<(), StartError> {
    let node = read_node(store).await?;
    let node = node.ok_or_else(|| StoreError::damaged("table es.homes", "no row of the node"))?;
    let declared = owners.categories();
    if node.categories == declared {
        return Ok(());
    }
    let new: BTreeSet<Category> = declared.difference(&node.categories).cloned().collect();
    if !new.is_empty() {
        write_homes(store, new).await?;
    }
    // ORDER: after the rows, so that a start that was interrupted writes them again.
    store.commit(put_node(Commit::new(), &NodeHomes { categories: declared, ..node })?).await?;
    Ok(())
}

async fn write_homes(store: &dyn EventStore, categories: BTreeSet<Category>) -> Result<(), StartError> {
    let mut homes = BTreeMap::<StreamId, StreamHome>::new();
    let query = QueryItem { categories, ..QueryItem::new() };
    let mut events = store.read_log(LogRead::matching(query)).await?;
    while let Some(event) = events.next().await? {
        let before = match homes.get(&event.stream) {
            Some(home) => Some(*home),
            None => {
                let row = store.row(&home::table(), &home::stream_key(&event.stream)).await?;
                row.map(|row| StreamHome::decode(&row)).transpose()?
            }
        };
        homes.insert(event.stream.clone(), StreamHome::after(before, &event));
        if homes.len() == BATCH {
            write(store, std::mem::take(&mut homes)).await?;
        }
    }
    write(store, homes).await
}

async fn write(store: &dyn EventStore, homes: BTreeMap<StreamId, StreamHome>) -> Result<(), StartError> {
    let put = |commit: Commit, (stream, home): (StreamId, StreamHome)| {
        commit.put_row(home::table(), home::stream_key(&stream), home.encode())
    };
    store.commit(homes.into_iter().fold(Commit::new(), put)).await?;
    Ok(())
}
