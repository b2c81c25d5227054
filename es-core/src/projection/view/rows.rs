//! [`ViewRows`]: typed access to a view in [`Projection::apply`](crate::projection::Projection::apply).

use std::any::TypeId;

use bytes::Bytes;

use crate::projection::view::{View, ViewError, ViewKey, descriptions};
use crate::projection::{ApplyError, Rows};

/// The rows of one view while an event is applied. See [`Rows::view`].
///
/// Return each error with `?`: it may mean that a row must be read from the store first.
#[derive(Debug)]
pub struct ViewRows<'a, K: 'static, V: 'static> {
    rows: &'a mut Rows,
    view: &'a View<K, V>,
}

impl Rows {
    /// Returns the rows of a view.
    ///
    /// # Errors
    /// [`ApplyError`] if the stored rows have another declaration, or their description must be read first. Return it
    /// with `?`.
    pub fn view<'a, K: ViewKey, V: 'static>(
        &'a mut self,
        view: &'a View<K, V>,
    ) -> Result<ViewRows<'a, K, V>, ApplyError> {
        let declared = (view.name, TypeId::of::<(K, V)>());
        if !self.is_checked(&declared) {
            let expected = view.description();
            match self.get(&descriptions(), view.name.as_bytes())? {
                Some(found) if found == expected.as_bytes() => {
                    // A description that an event of this batch wrote can still be discarded, so it is checked each
                    // time.
                    if self.is_stored(&descriptions(), view.name.as_bytes()) {
                        self.set_checked(declared);
                    }
                }
                Some(found) => {
                    let found = String::from_utf8_lossy(&found).into_owned();
                    return Err(ViewError::Redeclared { view: view.name, expected, found }.into());
                }
                None => self.put(&descriptions(), view.name, expected),
            }
        }
        Ok(ViewRows { rows: self, view })
    }
}

impl<K: ViewKey, V: 'static> ViewRows<'_, K, V> {
    /// Returns the value of a key.
    ///
    /// # Errors
    /// [`ApplyError`] if the row must be read first or cannot be decoded. Return it with `?`.
    pub fn get(&mut self, key: &K) -> Result<Option<V>, ApplyError> {
        self.read(&key.to_key())
    }

    /// Sets the value of a key.
    ///
    /// # Errors
    /// [`ApplyError`] if the old row must be read first or cannot be decoded, or the value cannot be encoded. Return it
    /// with `?`.
    pub fn put(&mut self, key: &K, value: &V) -> Result<(), ApplyError> {
        self.write(key, Some(value))
    }

    /// Removes the row of a key. Has no effect if the row does not exist.
    ///
    /// # Errors
    /// [`ApplyError`] if the old row must be read first or cannot be decoded. Return it with `?`.
    pub fn delete(&mut self, key: &K) -> Result<(), ApplyError> {
        self.write(key, None)
    }

    /// Changes the value of a key. A missing row starts with the default value.
    ///
    /// # Errors
    /// [`ApplyError`] if the row must be read first or cannot be decoded, or the value cannot be encoded. Return it
    /// with `?`.
    pub fn update(&mut self, key: &K, change: impl FnOnce(&mut V)) -> Result<(), ApplyError>
    where
        V: Default,
    {
        let mut value = self.get(key)?.unwrap_or_default();
        change(&mut value);
        self.put(key, &value)
    }

    /// Replaces the value of a key with the result of `change`; `None` is a missing row.
    ///
    /// # Errors
    /// [`ApplyError`] if the row must be read first or cannot be decoded, or the value cannot be encoded. Return it
    /// with `?`.
    pub fn change(&mut self, key: &K, change: impl FnOnce(Option<V>) -> Option<V>) -> Result<(), ApplyError> {
        let value = change(self.get(key)?);
        self.write(key, value.as_ref())
    }

    fn read(&mut self, key: &[u8]) -> Result<Option<V>, ApplyError> {
        let Some(row) = self.rows.get(&self.view.table(), key)? else { return Ok(None) };
        let value = self.view.decode(&row).map_err(|source| ViewError::Value { view: self.view.name, source })?;
        Ok(Some(value))
    }

    fn write(&mut self, key: &K, value: Option<&V>) -> Result<(), ApplyError> {
        let (view, row_key) = (self.view, key.to_key());
        let encoded = match value {
            Some(value) => Some(view.encode(value).map_err(|source| ViewError::Encode { view: view.name, source })?),
            None => None,
        };
        if view.orders().next().is_some() {
            // The old row of an order is found by the old value, so the old value is read first.
            let old = self.read(&row_key)?;
            for order in view.orders() {
                let table = view.order_table(order.name());
                let order_key = |value: &V| -> Bytes { [&order.sort_key(key, value)[..], &row_key].concat().into() };
                let (old_key, new_key) = (old.as_ref().map(order_key), value.map(order_key));
                if let Some(old_key) = old_key.filter(|old| new_key.as_ref() != Some(old)) {
                    self.rows.delete(&table, old_key);
                }
                if let (Some(new_key), Some(encoded)) = (new_key, &encoded) {
                    self.rows.put(&table, new_key, encoded.clone());
                }
            }
        }
        match encoded {
            Some(encoded) => self.rows.put(&view.table(), row_key, encoded),
            None => self.rows.delete(&view.table(), row_key),
        }
        Ok(())
    }
}
