//! Beyond a block of the log that cannot be read.

use es_core::Position;
use rocksdb::DBRawIterator;

use crate::database::place_of;
use crate::key;

/// What is said of positions that could not be read.
pub(super) const UNREAD: &str =
    "cannot be read: this part was not verified, nor were its entries in the streams and the indexes";
/// For how many positions each is tried: a block has fewer, and a broken index of a table is behind more.
const ONE_BY_ONE: u64 = 1024;

/// Sets the log to the next event behind `from` that can be read; `false` where there is none.
pub(super) fn seek(log: &mut DBRawIterator<'_>, from: Position, last: Option<u64>) -> bool {
    let (mut skipped, mut step) = (0_u64, 1);
    loop {
        skipped = skipped.saturating_add(step);
        let target = from.get().checked_add(skipped).filter(|target| last.is_none_or(|last| *target <= last));
        let Some(target) = target.and_then(Position::new) else { return false };
        log.seek(key::position(target));
        if log.valid() {
            return step == 1 || back(log, from);
        }
        if log.status().is_ok() {
            return false;
        }
        step = if skipped < ONE_BY_ONE { 1 } else { skipped / 64 };
    }
}

/// Goes back to the first event that can be read behind `from`, because a step was larger than one position.
fn back(log: &mut DBRawIterator<'_>, from: Position) -> bool {
    let (border, mut first) = (key::position(from), Vec::new());
    while let Some(key) = log.key().filter(|key| *key > border.as_slice()) {
        first.clear();
        first.extend_from_slice(key);
        log.prev();
    }
    log.seek(&first);
    log.valid()
}

/// The positions from one up to another, without that.
pub(super) fn place(from: Position, end: Position) -> String {
    match end.get().saturating_sub(1) {
        last if last <= from.get() => place_of(from),
        last => format!("positions {from} to {last}"),
    }
}
