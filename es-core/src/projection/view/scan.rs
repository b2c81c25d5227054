//! Scans: which rows of a view, in which order, from where to where.

use std::fmt;
use std::ops::{Bound, RangeBounds};
use std::str::FromStr;

use bytes::Bytes;

use crate::model::Table;
use crate::projection::Generation;
use crate::projection::view::key::just_before;
use crate::projection::view::{KeyPrefix, Order, View, ViewError, ViewKey};
use crate::store::{Direction, MAX_ROW_KEY_BYTES, Row, RowScan};

/// How many rows a scan returns unless it says otherwise.
pub(crate) const DEFAULT_LIMIT: usize = 100;

/// A scan of a view, to be said more precisely and then read. `T` is what it goes by: the keys, or what an [`Order`] sorts by.
///
/// Without more said it returns the first 100 rows in the order of the keys.
#[must_use = "read it"]
pub struct ViewScan<'v, S, K: 'static, V: 'static, T = K> {
    pub(crate) source: S,
    pub(crate) view: &'v View<K, V>,
    pub(crate) order: Option<&'v Order<K, V, T>>,
    pub(crate) bounds: KeyBounds,
    pub(crate) after: Option<Continuation>,
    pub(crate) limit: usize,
}

/// Between which keys, both exclusive, and in which direction.
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

    /// In this order instead of that of the keys. Say it first: ranges and prefixes are then those of the order.
    pub fn by<O: ViewKey>(self, order: &'v Order<K, V, O>) -> ViewScan<'v, S, K, V, O> {
        let bounds = KeyBounds { direction: self.bounds.direction, ..KeyBounds::default() };
        let Self { source, view, after, limit, .. } = self;
        ViewScan { source, view, order: Some(order), bounds, after, limit }
    }
}

impl<S, K: ViewKey, V: 'static, T: ViewKey> ViewScan<'_, S, K, V, T> {
    /// Only rows within a range, for example `from..`, `from..to`, `..=to`. Takes the place of a prefix.
    pub fn range(mut self, range: impl RangeBounds<T>) -> Self {
        let after = match range.start_bound() {
            Bound::Included(from) => just_before(&from.to_key(), LONGEST),
            Bound::Excluded(from) => Some(after_all(&from.to_key())),
            Bound::Unbounded => None,
        };
        let before = match range.end_bound() {
            Bound::Included(to) => Some(after_all(&to.to_key())),
            Bound::Excluded(to) => Some(to.to_key()),
            Bound::Unbounded => None,
        };
        self.bounds = KeyBounds { prefix: Bytes::new(), after, before, direction: self.bounds.direction };
        self
    }

    /// Only rows that begin like this: the first parts of a tuple, such as `(2024,)`, or the
    /// [`Beginning`](crate::projection::view::Beginning) of a text. Takes the place of a range.
    pub fn prefix(mut self, prefix: &impl KeyPrefix<T>) -> Self {
        let mut bytes = Vec::new();
        prefix.encode_prefix(&mut bytes);
        self.bounds = KeyBounds { prefix: bytes.into(), after: None, before: None, direction: self.bounds.direction };
        self
    }

    /// From the last to the first.
    pub fn backward(mut self) -> Self {
        self.bounds.direction = Direction::Backward;
        self
    }

    /// At most this many rows, at least 1. All of them are in memory at once.
    pub fn limit(mut self, rows: usize) -> Self {
        self.limit = rows.max(1);
        self
    }

    /// Goes on where an earlier page of the same scan ended.
    pub fn after(mut self, continuation: Continuation) -> Self {
        self.after = Some(continuation);
        self
    }

    /// The table of the view that is scanned, within its generation.
    ///
    /// # Errors
    /// [`ViewError::NoSuchOrder`].
    pub(crate) fn table(&self) -> Result<Table, ViewError> {
        match self.order {
            None => Ok(self.view.table()),
            Some(order) if self.view.has_order(order.name) => Ok(self.view.order_table(order.name)),
            Some(order) => Err(ViewError::NoSuchOrder { view: self.view.name, order: order.name }),
        }
    }

    /// What the store is asked for: one row more than is wanted, to know whether there is more.
    pub(crate) fn row_scan(&self, table: Table) -> RowScan {
        let KeyBounds { prefix, after, before, direction } = &self.bounds;
        let from = self.after.as_ref().map(|after| &after.key);
        let begin = match direction {
            Direction::Forward => from.max(after.as_ref()),
            Direction::Backward => match (from, before) {
                (Some(from), Some(before)) => Some(from.min(before)),
                (from, before) => from.or(before.as_ref()),
            },
        };
        RowScan {
            table,
            prefix: prefix.clone(),
            after: begin.cloned(),
            direction: *direction,
            limit: self.limit.saturating_add(1),
        }
    }

    /// Makes typed rows of what the store gave; with them the key after which there is more.
    pub(crate) fn decode(&self, mut rows: Vec<Row>) -> Result<DecodedRows<K, V>, ViewError> {
        rows.retain(|row| self.bounds.has(&row.key));
        let more = (rows.len() > self.limit).then(|| rows.truncate(self.limit));
        let next = more.and_then(|()| rows.last()).map(|row| row.key.clone());
        let typed = rows.iter().map(|row| self.decode_row(row)).collect::<Result<_, _>>()?;
        Ok((typed, next))
    }

    fn decode_row(&self, row: &Row) -> Result<(K, V), ViewError> {
        let view = self.view.name;
        let not_a_key = || ViewError::Key { view, shape: K::shape(), found: row.key.escape_ascii().to_string() };
        let decode = |key: &[u8]| K::from_key(key).ok_or_else(not_a_key);
        let key = match self.order {
            None => decode(&row.key)?,
            Some(_) => {
                let mut rest: &[u8] = &row.key;
                T::decode_key(&mut rest).ok_or_else(not_a_key)?;
                decode(rest)?
            }
        };
        let value = self.view.decode(&row.value).map_err(|source| ViewError::Value { view, source })?;
        if let Some(order) = self.order {
            let mut place = Vec::new();
            (order.by)(&key, &value).encode_key(&mut place);
            key.encode_key(&mut place);
            if place != row.key {
                return Err(ViewError::Misplaced { view, order: order.name });
            }
        }
        Ok((key, value))
    }
}

/// Rows of a page, and the key after which there is more.
pub(crate) type DecodedRows<K, V> = (Vec<(K, V)>, Option<Bytes>);

/// One more than the longest key.
const LONGEST: usize = MAX_ROW_KEY_BYTES + 1;

/// Behind all keys that begin like this.
fn after_all(key: &[u8]) -> Bytes {
    let mut after = key.to_vec();
    after.resize(LONGEST.max(key.len() + 1), u8::MAX);
    after.into()
}

impl KeyBounds {
    fn has(&self, key: &[u8]) -> bool {
        self.after.as_ref().is_none_or(|after| *key > **after)
            && self.before.as_ref().is_none_or(|before| *key < **before)
    }
}

/// Where a page of a scan ended, as a text that can be handed to a client and back. It is good for the same scan on the same
/// build of the view: after a rebuild it gives [`ViewError::Rebuilt`].
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
            let is_key =
                digits.len() % 2 == 0 && digits.len() <= 2 * LONGEST && digits.iter().all(u8::is_ascii_hexdigit);
            let byte = |pair: &[u8]| u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok();
            let key: Option<Vec<u8>> = digits.chunks(2).map(byte).collect();
            Some(Self { generation, key: key.filter(|_| is_key)?.into() })
        };
        parse().ok_or_else(|| ViewError::Continuation { found: text.to_owned() })
    }
}
