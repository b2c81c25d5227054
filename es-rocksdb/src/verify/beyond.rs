//! Continuation of the verification after an unreadable block of the log.

use es_core::Position;
use rocksdb::DBRawIterator;

use crate::database::place_of;
use crate::key;

/// The finding for unreadable positions.
pub(super) const UNREAD: &str =
    "cannot be read: this part was not verified, nor were its entries in the streams and the indexes";
/// The number of positions that are tried one by one. A block has fewer events; if more are unreadable, the index of a
/// table file is corrupt.
const ONE_BY_ONE: u64 = 1024;

/// Seeks the next readable event after `from`. Returns `false` if there is none.
pub(super) fn seek(log: &mut DBRawIterator<'_>, from: Position, last: Option<u64>) -> bool {
    let (mut skipped, mut step) = (0_u64, 1);
    loop {
        skipped = skipped.saturating_add(step);
        let target = from.get().checked_add(skipped).filter(|target| last.is_none_or(|last| *target <= last));
        let Some(target) = target.and_then(Position::new) else { return false };
        log.seek(key::position(target));
        if log.valid() {
            return step == 1 || seek_back(log, from);
        }
        if log.status().is_ok() {
            return false;
        }
        step = if skipped < ONE_BY_ONE { 1 } else { skipped / 64 };
    }
}

/// Seeks back to the first readable event after `from`, after a step of more than one position.
fn seek_back(log: &mut DBRawIterator<'_>, from: Position) -> bool {
    let (border, mut first) = (key::position(from), Vec::new());
    while let Some(key) = log.key().filter(|key| *key > border.as_slice()) {
        first.clear();
        first.extend_from_slice(key);
        log.prev();
    }
    log.seek(&first);
    log.valid()
}

/// Formats the positions from `from` up to `end`, which is excluded.
pub(super) fn place(from: Position, end: Position) -> String {
    match end.get().saturating_sub(1) {
        last if last <= from.get() => place_of(from),
        last => format!("positions {from} to {last}"),
    }
}
