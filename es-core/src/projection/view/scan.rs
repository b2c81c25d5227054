//! [`ViewScan`]: a scan of the rows of a view, by key or by an order.

use std::fmt;
use std::ops::{Bound, RangeBounds};
use std::str::FromStr;

use bytes::Bytes;

use crate::model::Table;
use crate::projection::Generation;
use crate::projection::view::key::predecessor;
use crate::projection::view::{KeyPrefix, Order, View, ViewError, ViewKey};
use crate::store::{Direction, MAX_ROW_KEY_BYTES, Row, RowScan};

/// The default limit of a scan.
pub(crate) const DEFAULT_LIMIT: usize = 100;

/// A scan of a view. `T` is the type by which it is ordered: that of the keys, or that of the sort key of an [`Order`].
///
/// By default it returns the first 100 rows, ordered by key.
#[must_use = "a scan does nothing until it is read"]
pub struct ViewScan<'v, S, K: 'static, V: 'static, T = K> {
    pub(crate) source: S,
    pub(crate) view: &'v View<K, V>,
    pub(crate) order: Option<&'v Order<K, V, T>>,
    pub(crate) bounds: KeyBounds,
    pub(crate) after: Option<Continuation>,
    pub(crate) limit: usize,
}

/// The bounds of a scan and its direction. `after` and `before` are exclusive.
#[derive(Debug, Clone, Default)]
pub(crate) struct KeyBounds {
    prefix: Bytes,
    after: Option<Bytes>,
    before: Option<Bytes>,
    direction: Direction,
}

impl<S, K: 'static, V: 'static, T> fmt::Debug for ViewScan<'_, S, K, V, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let order = self.order.map(Order::name);
        f.debug_struct("ViewScan").field("view", &self.view.name()).field("order", &order).finish_non_exhaustive()
    }
}

impl<'v, S, K: ViewKey, V: 'static> ViewScan<'v, S, K, V, K> {
    pub(crate) fn new(source: S, view: &'v View<K, V>) -> Self {
        Self { source, view, order: None, bounds: KeyBounds::default(), after: None, limit: DEFAULT_LIMIT }
    }

    /// Scans in an order instead of by key. Removes a range or prefix that was set before, because it applies to the
    /// keys.
    pub fn by<O: ViewKey>(self, order: &'v Order<K, V, O>) -> ViewScan<'v, S, K, V, O> {
        let bounds = KeyBounds { direction: self.bounds.direction, ..KeyBounds::default() };
        let Self { source, view, after, limit, .. } = self;
        ViewScan { source, view, order: Some(order), bounds, after, limit }
    }
}

impl<S, K: ViewKey, V: 'static, T: ViewKey> ViewScan<'_, S, K, V, T> {
    /// Restricts the scan to a range, for example `from..`, `from..to`, `..=to`. Replaces a prefix.
    pub fn range(mut self, range: impl RangeBounds<T>) -> Self {
        let after = match range.start_bound() {
            Bound::Included(from) => predecessor(&from.to_key(), BOUND_BYTES),
            Bound::Excluded(from) => Some(after_prefix(&from.to_key())),
            Bound::Unbounded => None,
        };
        let before = match range.end_bound() {
            Bound::Included(to) => Some(after_prefix(&to.to_key())),
            Bound::Excluded(to) => Some(to.to_key()),
            Bound::Unbounded => None,
        };
        self.bounds = KeyBounds { prefix: Bytes::new(), after, before, direction: self.bounds.direction };
        self
    }

    /// Restricts the scan to rows with a prefix: the first elements of a tuple, such as `(2024,)`, or the
    /// [`Beginning`](crate::projection::view::Beginning) of a text. Replaces a range.
    pub fn prefix(mut self, prefix: &impl KeyPrefix<T>) -> Self {
        let mut bytes = Vec::new();
        prefix.encode_prefix(&mut bytes);
        self.bounds = KeyBounds { prefix: bytes.into(), after: None, before: None, direction: self.bounds.direction };
        self
    }

    /// Scans from the last row to the first.
    pub fn backward(mut self) -> Self {
        self.bounds.direction = Direction::Backward;
        self
    }

    /// Sets the largest number of rows of a page, at least 1. A page is in memory at once.
    pub fn limit(mut self, rows: usize) -> Self {
        self.limit = rows.max(1);
        self
    }

    /// Continues after an earlier page of the same scan.
    pub fn after(mut self, continuation: Continuation) -> Self {
        self.after = Some(continuation);
        self
    }

    /// Returns the table to scan, within a generation.
    ///
    /// # Errors
    /// [`ViewError::NoSuchOrder`] if the view does not declare the order.
    pub(crate) fn table(&self) -> Result<Table, ViewError> {
        match self.order {
            None => Ok(self.view.table()),
            Some(order) if self.view.has_order(order.name) => Ok(self.view.order_table(order.name)),
            Some(order) => Err(ViewError::NoSuchOrder { view: self.view.name, order: order.name }),
        }
    }

    /// Returns the scan of the store. It reads one row more than the limit, to detect whether another page follows.
    pub(crate) fn row_scan(&self, table: Table) -> RowScan {
        let KeyBounds { prefix, after, before, direction } = &self.bounds;
        let continuation = self.after.as_ref().map(|after| &after.key);
        let start = match direction {
            Direction::Forward => continuation.max(after.as_ref()),
            Direction::Backward => match (continuation, before) {
                (Some(continuation), Some(before)) => Some(continuation.min(before)),
                (continuation, before) => continuation.or(before.as_ref()),
            },
        };
        RowScan {
            table,
            prefix: prefix.clone(),
            after: start.cloned(),
            direction: *direction,
            limit: self.limit.saturating_add(1),
        }
    }

    /// Decodes the rows of a [`row_scan`](Self::row_scan).
    pub(crate) fn decode(&self, mut rows: Vec<Row>) -> Result<DecodedRows<K, V>, ViewError> {
        rows.retain(|row| self.bounds.contains(&row.key));
        let has_next_page = rows.len() > self.limit;
        rows.truncate(self.limit);
        let next = if has_next_page { rows.last().map(|row| row.key.clone()) } else { None };
        let decoded = rows.iter().map(|row| self.decode_row(row)).collect::<Result<_, _>>()?;
        Ok((decoded, next))
    }

    fn decode_row(&self, row: &Row) -> Result<(K, V), ViewError> {
        let view = self.view.name;
        let invalid_key = || ViewError::Key { view, shape: K::shape(), found: row.key.escape_ascii().to_string() };
        let decode = |key: &[u8]| K::from_key(key).ok_or_else(invalid_key);
        let key = match self.order {
            None => decode(&row.key)?,
            Some(_) => {
                let mut rest: &[u8] = &row.key;
                T::decode_key(&mut rest).ok_or_else(invalid_key)?;
                decode(rest)?
            }
        };
        let value = self.view.decode(&row.value).map_err(|source| ViewError::Value { view, source })?;
        if let Some(order) = self.order {
            let mut expected = Vec::new();
            (order.by)(&key, &value).encode_key(&mut expected);
            key.encode_key(&mut expected);
            if expected != row.key {
                return Err(ViewError::Misplaced { view, order: order.name });
            }
        }
        Ok((key, value))
    }
}

/// The rows of a page, and the key after which the next page starts; `None` for the last page.
pub(crate) type DecodedRows<K, V> = (Vec<(K, V)>, Option<Bytes>);

/// The maximum length of a key, plus one.
const BOUND_BYTES: usize = MAX_ROW_KEY_BYTES + 1;

/// Returns a bound after all keys that start with `key`.
fn after_prefix(key: &[u8]) -> Bytes {
    let mut after = key.to_vec();
    after.resize(BOUND_BYTES.max(key.len() + 1), u8::MAX);
    after.into()
}

impl KeyBounds {
    fn contains(&self, key: &[u8]) -> bool {
        self.after.as_ref().is_none_or(|after| *key > **after)
            && self.before.as_ref().is_none_or(|before| *key < **before)
    }
}

/// The end of a page of a scan. It can be sent to a client as text and parsed again.
///
/// It is valid for the same scan of the same generation. After a rebuild the scan fails with [`ViewError::Rebuilt`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Continuation {
    pub(crate) generation: Generation,
    pub(crate) key: Bytes,
}

impl fmt::Display for Continuation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-", self.generation)?;
        self.key.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl FromStr for Continuation {
    type Err = ViewError;

    fn from_str(text: &str) -> Result<Self, ViewError> {
        let parse = || {
            let (generation, key) = text.split_once('-')?;
            let generation = Generation::new(generation.parse().ok()?)?;
            let digits = key.as_bytes();
            let is_valid =
                digits.len() % 2 == 0 && digits.len() <= 2 * BOUND_BYTES && digits.iter().all(u8::is_ascii_hexdigit);
            let byte = |pair: &[u8]| u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok();
            let key: Option<Vec<u8>> = digits.chunks(2).map(byte).collect();
            Some(Self { generation, key: key.filter(|_| is_valid)?.into() })
        };
        parse().ok_or_else(|| ViewError::Continuation { found: text.to_owned() })
    }
}
