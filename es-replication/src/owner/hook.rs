//! The part of the hook of a replica that concerns homes.

use std::collections::BTreeMap;

use es_core::__private::home::{self, HandOver, NodeHomes, StreamHome};
use es_core::model::OriginId;
use es_core::store::implement::{LogView, RowChange, ValidCommit};
use es_core::{CommitError, RecordedEvent, StoreError, StreamId};

use crate::error::Refusal;
use crate::owner::{CreatorOf, Owners};

/// Checks that this node, whose present origin is `own`, decides on the streams of a local commit.
pub(crate) fn check(
    owners: &Owners,
    own: OriginId,
    commit: &ValidCommit,
    view: &mut dyn LogView,
) -> Result<(), CommitError> {
    let mut check = LocalCheck { own, node: None, homes: BTreeMap::new(), view };
    for (stream, event) in commit.events() {
        let hand_over = HandOver::read(&event.data.event_type, &event.data.payload).ok().flatten();
        match (owners.of(stream), hand_over) {
            (Some(creator_of), hand_over) => check.event(stream, creator_of, hand_over)?,
            (None, Some(_)) => return Err(refused(stream)),
            (None, None) => {}
        }
    }
    Ok(())
}

/// Returns the rows of the homes that change with numbered events.
pub(crate) fn changes(
    owners: &Owners,
    events: &[RecordedEvent],
    view: &mut dyn LogView,
) -> Result<Vec<RowChange>, StoreError> {
    let mut homes = BTreeMap::<&StreamId, [Option<StreamHome>; 2]>::new();
    for event in events.iter().filter(|event| owners.of(&event.stream).is_some()) {
        let [_, last] = match homes.get(&event.stream) {
            Some(known) => *known,
            None => [read(view, &event.stream)?; 2],
        };
        let next = Some(StreamHome::after(last, event));
        homes.entry(&event.stream).or_insert([last; 2])[1] = next;
    }
    let changed = homes.into_iter().filter(|(_, [before, after])| before != after);
    let put = |(stream, [_, after]): (_, [Option<StreamHome>; 2])| {
        Some(RowChange { table: home::table(), key: home::stream_key(stream), value: Some(after?.encode()) })
    };
    Ok(changed.filter_map(put).collect())
}

/// The check of a local commit.
struct LocalCheck<'a> {
    own: OriginId,
    node: Option<NodeHomes>,
    /// The homes after the events that are checked so far.
    homes: BTreeMap<&'a StreamId, Option<StreamHome>>,
    view: &'a mut dyn LogView,
}

impl<'a> LocalCheck<'a> {
    /// Checks the next event of the commit.
    fn event(
        &mut self,
        stream: &'a StreamId,
        creator_of: CreatorOf,
        hand_over: Option<HandOver>,
    ) -> Result<(), CommitError> {
        let last = match self.homes.get(stream) {
            Some(known) => *known,
            None => read(self.view, stream)?,
        };
        match &hand_over {
            // A node can take over a stream only for itself.
            Some(HandOver { forced: true, to, .. }) if *to == self.own => {}
            Some(HandOver { forced: true, .. }) => return Err(refused(stream)),
            _ => {
                let checked = self.node()?.check(stream, last, creator_of(stream));
                checked.map_err(|error| CommitError::Rejected(Box::new(error)))?;
            }
        }
        let next = match (hand_over, last) {
            (None, last) => last,
            (Some(hand_over), Some(last)) if last.epoch.checked_add(1) == Some(hand_over.epoch) => {
                Some(last.handed_over(&hand_over))
            }
            (Some(_), _) => return Err(refused(stream)),
        };
        self.homes.insert(stream, next);
        Ok(())
    }

    fn node(&mut self) -> Result<&NodeHomes, StoreError> {
        if self.node.is_none() {
            let row = self.view.row(&home::table(), NodeHomes::KEY)?;
            self.node = Some(NodeHomes::decode(&row.unwrap_or_default())?);
        }
        self.node.as_ref().ok_or_else(|| StoreError::damaged("table es.homes", "no row of the node"))
    }
}

fn read(view: &mut dyn LogView, stream: &StreamId) -> Result<Option<StreamHome>, StoreError> {
    let row = view.row(&home::table(), &home::stream_key(stream))?;
    row.map(|row| StreamHome::decode(&row)).transpose()
}

fn refused(stream: &StreamId) -> CommitError {
    CommitError::Rejected(Box::new(Refusal::HandOver { stream: stream.clone() }))
}
