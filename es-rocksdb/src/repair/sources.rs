//! [`Sources`]: reads the readable data of a damaged store.

use std::fmt;

use rocksdb::{DBRawIterator, ReadOptions};

use crate::database::{Database, Tier};
use crate::schema::Cf;

/// The result of a lookup.
pub(super) enum Lookup<T> {
    Intact(T),
    /// The value is damaged, or a block that can have it cannot be read.
    Damaged,
    Absent,
}

impl<T> Lookup<T> {
    pub(super) fn intact(self) -> Option<T> {
        match self {
            Self::Intact(found) => Some(found),
            Self::Damaged | Self::Absent => None,
        }
    }
}

/// The databases of a damaged store, the newest last.
pub(super) struct Sources {
    pub(super) databases: Vec<Database>,
    pub(super) strict: ReadOptions,
    pub(super) lenient: ReadOptions,
    /// Whether blocks with wrong checksums are read, too.
    pub(super) reads_corrupt_blocks: bool,
}

impl fmt::Debug for Sources {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Sources").field("databases", &self.databases.len()).finish_non_exhaustive()
    }
}

impl Sources {
    pub(super) fn new(databases: Vec<Database>) -> Self {
        let (mut strict, mut lenient) = (ReadOptions::default(), ReadOptions::default());
        strict.set_verify_checksums(true);
        lenient.set_verify_checksums(false);
        // A strict read must not find a corrupt block in the cache.
        lenient.fill_cache(false);
        Self { databases, strict, lenient, reads_corrupt_blocks: false }
    }

    /// From now on also reads blocks with wrong checksums.
    ///
    /// Used only as a last resort. RocksDB trusts the length in a corrupt block: it can allocate more memory than there
    /// is, which ends the process, because its exception cannot be caught here.
    pub(super) fn read_corrupt_blocks(&mut self) {
        self.reads_corrupt_blocks = true;
    }

    /// Looks up a key, in the newest database first. A block with a wrong checksum can have intact records: `accept`
    /// verifies the checksum of a record, and returns `None` for a damaged one.
    pub(super) fn look_up<T>(&self, cf: Cf, key: &[u8], mut accept: impl FnMut(&[u8]) -> Option<T>) -> Lookup<T> {
        let mut is_damaged = false;
        for database in self.databases.iter().rev() {
            let Ok(family) = database.family(cf) else { continue };
            let lenient = self.reads_corrupt_blocks.then_some(&self.lenient);
            for options in std::iter::once(&self.strict).chain(lenient) {
                match database.raw().get_pinned_cf_opt(family, key, options) {
                    Ok(Some(value)) => match accept(&value) {
                        Some(found) => return Lookup::Intact(found),
                        None => is_damaged = true,
                    },
                    Ok(None) => break,
                    Err(_) => is_damaged = true,
                }
            }
        }
        if is_damaged { Lookup::Damaged } else { Lookup::Absent }
    }

    /// Returns a value that has no checksum of its own, from the newest database that has it in a readable block.
    pub(super) fn value(&self, cf: Cf, key: &[u8]) -> Option<Vec<u8>> {
        let found = |database: &Database| database.get(cf, key, Tier::Any).ok().flatten().map(|value| value.to_vec());
        self.databases.iter().rev().find_map(found)
    }

    /// Visits the readable entries of a family, the newest of each key last. Returns whether all entries could be read.
    pub(super) fn scan(&self, cf: Cf, mut visit: impl FnMut(&[u8], &[u8])) -> bool {
        let mut is_complete = true;
        for database in &self.databases {
            if database.family(cf).is_ok() {
                let scanned =
                    database.iterate(cf, Vec::new(), Tier::Any).map(|mut all| visit_readable(&mut all, &mut visit));
                is_complete &= scanned.unwrap_or(false);
            }
        }
        is_complete
    }
}

/// Visits all readable entries, also after unreadable blocks. Returns whether all entries could be read.
pub(super) fn visit_readable(entries: &mut DBRawIterator<'_>, visit: &mut impl FnMut(&[u8], &[u8])) -> bool {
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
