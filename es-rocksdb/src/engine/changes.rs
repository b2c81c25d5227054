//! [`UnflushedChanges`]: changes of keys that are not in RocksDB, over which the rest of a database is read.

use std::collections::BTreeMap;
use std::ops::Bound;

use bytes::Bytes;

use crate::schema::Cf;

/// The changed keys of a database that is only read: the changes of the log after the last flush. The other keys are in
/// RocksDB.
#[derive(Debug, Default)]
pub(crate) struct UnflushedChanges(BTreeMap<Cf, BTreeMap<Vec<u8>, Option<Bytes>>>);

/// A changed key: its new value, or `None` if it is deleted.
pub(crate) type ChangedEntry<'a> = (&'a [u8], Option<&'a Bytes>);

impl UnflushedChanges {
    pub(crate) fn set(&mut self, cf: Cf, key: Vec<u8>, value: Option<Bytes>) {
        self.0.entry(cf).or_default().insert(key, value);
    }

    /// Returns the new value of a key; `None` if it is not changed.
    pub(crate) fn get(&self, cf: Cf, key: &[u8]) -> Option<Option<&Bytes>> {
        Some(self.0.get(&cf)?.get(key)?.as_ref())
    }

    /// Returns the changed keys that start with `prefix` and are within the bounds, in ascending order.
    pub(crate) fn range<'a>(
        &'a self,
        cf: Cf,
        prefix: &'a [u8],
        bounds: (Bound<&'a [u8]>, Bound<&'a [u8]>),
    ) -> impl DoubleEndedIterator<Item = ChangedEntry<'a>> + use<'a> {
        // A range whose start is after its end is a panic of the map.
        let is_empty = matches!(bounds, (Bound::Included(start), Bound::Included(end)) if start > end);
        let changed = self.0.get(&cf).filter(|_| !is_empty).map(|changed| changed.range::<[u8], _>(bounds));
        let entries = changed.into_iter().flatten();
        let entries = entries.filter(move |(key, _)| key.starts_with(prefix));
        entries.map(|(key, value)| (key.as_slice(), value.as_ref()))
    }
}
