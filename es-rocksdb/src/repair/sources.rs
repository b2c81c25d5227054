//! The databases of a damaged store, read around what cannot be read.

use std::fmt;

use rocksdb::{DBRawIterator, ReadOptions};

use crate::database::{Database, Tier};
use crate::schema::Cf;

/// What was found under a key.
pub(super) enum Lookup<T> {
    Intact(T),
    /// There is something, or may be, that cannot be read.
    Broken,
    Absent,
}

impl<T> Lookup<T> {
    pub(super) fn intact(self) -> Option<T> {
        match self {
            Self::Intact(found) => Some(found),
            Self::Broken | Self::Absent => None,
        }
    }
}

/// Databases, the newest last.
pub(super) struct Sources {
    pub(super) databases: Vec<Database>,
    pub(super) strict: ReadOptions,
    pub(super) lenient: ReadOptions,
    /// Whether blocks are read whose checksums do not fit.
    pub(super) reads_broken: bool,
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
        // A strict read must not find a broken block in the cache.
        lenient.fill_cache(false);
        Self { databases, strict, lenient, reads_broken: false }
    }

    /// From now on also reads blocks whose checksums do not fit.
    ///
    /// Used only as a last resort. RocksDB trusts the length in a broken block: it can allocate more memory than there
    /// is, which ends the process, because its exception cannot be caught here.
    pub(super) fn read_broken(&mut self) {
        self.reads_broken = true;
    }

    /// What stands under a key. A block whose checksum does not fit may have whole records all the same, whose own checksums
    /// `accept` looks at.
    pub(super) fn look_up<T>(&self, cf: Cf, key: &[u8], mut accept: impl FnMut(&[u8]) -> Option<T>) -> Lookup<T> {
        let mut is_broken = false;
        for database in self.databases.iter().rev() {
            let Ok(family) = database.family(cf) else { continue };
            let lenient = self.reads_broken.then_some(&self.lenient);
            for options in std::iter::once(&self.strict).chain(lenient) {
                match database.raw().get_pinned_cf_opt(family, key, options) {
                    Ok(Some(value)) => match accept(&value) {
                        Some(found) => return Lookup::Intact(found),
                        None => is_broken = true,
                    },
                    Ok(None) => break,
                    Err(_) => is_broken = true,
                }
            }
        }
        if is_broken { Lookup::Broken } else { Lookup::Absent }
    }

    /// A value that has no checksum of its own.
    pub(super) fn value(&self, cf: Cf, key: &[u8]) -> Option<Vec<u8>> {
        let found = |database: &Database| database.get(cf, key, Tier::Any).ok().flatten().map(|value| value.to_vec());
        self.databases.iter().rev().find_map(found)
    }

    /// Visits the entries of a family that RocksDB can read, the newest of each key last; says whether it could read all.
    pub(super) fn scan(&self, cf: Cf, mut visit: impl FnMut(&[u8], &[u8])) -> bool {
        let mut is_whole = true;
        for database in &self.databases {
            if database.family(cf).is_ok() {
                let scanned =
                    database.iterate(cf, Vec::new(), Tier::Any).map(|mut all| visit_readable(&mut all, &mut visit));
                is_whole &= scanned.unwrap_or(false);
            }
        }
        is_whole
    }
}

/// Visits every entry that can be read, beyond those that cannot be; says whether there were none of these.
pub(super) fn visit_readable(entries: &mut DBRawIterator<'_>, visit: &mut impl FnMut(&[u8], &[u8])) -> bool {
    entries.seek_to_first();
    let (mut is_whole, mut last) = (true, Vec::new());
    loop {
        while let Some((key, value)) = entries.item() {
            visit(key, value);
            last.clear();
            last.extend_from_slice(key);
            entries.next();
        }
        if entries.status().is_ok() {
            return is_whole;
        }
        is_whole = false;
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
    fn leaps_go_ever_farther_up_to_the_last_byte() {
        let targets: Vec<_> = keys_after(b"a\xfe").collect();
        assert_eq!(targets.first().unwrap(), b"a\xfe\0");
        assert!(targets.contains(&b"a\xff".to_vec()) && targets.contains(&b"b".to_vec()));
        assert_eq!(targets.last().unwrap(), &[0xff]);
        assert!(targets.iter().all(|target| target.as_slice() > b"a\xfe".as_slice()));
        assert_eq!(keys_after(b"").count(), 256);
    }
}
