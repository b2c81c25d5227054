//! [`Sources`]: reads the readable data of a damaged store.

use std::fmt;

use rocksdb::DBRawIterator;

use crate::engine::database::{Database, Tier};
use crate::schema::Cf;

/// The index of a damaged store.
pub(super) struct Sources(Database);

impl fmt::Debug for Sources {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Sources").finish_non_exhaustive()
    }
}

impl Sources {
    pub(super) fn new(database: Database) -> Self {
        Self(database)
    }

    /// Returns a value that has no checksum of its own, if its block is readable.
    pub(super) fn value(&self, cf: Cf, key: &[u8]) -> Option<Vec<u8>> {
        self.0.get(cf, key, Tier::Any).ok().flatten().map(|value| value.to_vec())
    }

    /// Visits the readable entries of a family. Returns whether all entries could be read.
    pub(super) fn scan(&self, cf: Cf, mut visit: impl FnMut(&[u8], &[u8])) -> bool {
        let entries = self.0.iterate(cf, Vec::new(), Tier::Any);
        entries.is_ok_and(|mut entries| visit_readable(&mut entries, &mut visit))
    }
}

/// Visits all readable entries, also after unreadable blocks. Returns whether all entries could be read.
fn visit_readable(entries: &mut DBRawIterator<'_>, visit: &mut impl FnMut(&[u8], &[u8])) -> bool {
    entries.seek_to_first();
    let (mut is_complete, mut last) = (true, Vec::new());
    loop {
        while let Some((key, value)) = entries.item() {
            visit(key, value);
            last.clear();
            last.extend_from_slice(key);
            entries.next();
        }
        if entries.status().is_ok() {
            return is_complete;
        }
        is_complete = false;
        if !skip_unreadable(entries, &last, visit) {
            return false;
        }
    }
}

/// Skips an unreadable block: seeks a readable key after it, then visits the readable entries before that key in
/// reverse order.
fn skip_unreadable(entries: &mut DBRawIterator<'_>, last: &[u8], visit: &mut impl FnMut(&[u8], &[u8])) -> bool {
    for target in keys_after(last) {
        entries.seek(&target);
        let Some(next_readable) = entries.key().map(<[u8]>::to_vec) else {
            if entries.status().is_ok() {
                return false;
            }
            continue;
        };
        entries.prev();
        while let Some((key, value)) = entries.item().filter(|(key, _)| *key > last) {
            visit(key, value);
            entries.prev();
        }
        entries.seek(&next_readable);
        return entries.valid();
    }
    false
}

/// Returns keys after `last`, at increasing distances.
fn keys_after(last: &[u8]) -> impl Iterator<Item = Vec<u8>> {
    const STEPS: [u8; 8] = [1, 2, 4, 8, 16, 32, 64, 128];
    let nearest = std::iter::once([last, &[0]].concat());
    let farther = (0..last.len()).rev().flat_map(move |end| {
        STEPS.into_iter().filter_map(move |step| {
            let byte = last.get(end)?.checked_add(step)?;
            Some([last.get(..end)?, &[byte]].concat())
        })
    });
    let first = last.first().copied().unwrap_or_default();
    nearest.chain(farther).chain((first..=u8::MAX).skip(1).map(|byte| vec![byte]))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_after_a_key_have_increasing_distances_up_to_the_last_byte() {
        let targets: Vec<_> = keys_after(b"a\xfe").collect();
        assert_eq!(targets.first().unwrap(), b"a\xfe\0");
        assert!(targets.contains(&b"a\xff".to_vec()) && targets.contains(&b"b".to_vec()));
        assert_eq!(targets.last().unwrap(), &[0xff]);
        assert!(targets.iter().all(|target| target.as_slice() > b"a\xfe".as_slice()));
        assert_eq!(keys_after(b"").count(), 256);
    }
}
