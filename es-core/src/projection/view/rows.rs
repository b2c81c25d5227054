//! [`ViewRows`]: a view while events are applied.

use std::any::TypeId;

use bytes::Bytes;

use crate::projection::view::{View, ViewError, ViewKey, descriptions};
use crate::projection::{ApplyError, Rows};

/// The rows of one view while an event is applied: see [`Rows::view`].
///
/// Each error must be handed on (`?`): it may only say that a row must be fetched first.
#[derive(Debug)]
pub struct ViewRows<'a, K: 'static, V: 'static> {
    rows: &'a mut Rows,
    view: &'a View<K, V>,
}

impl Rows {
    /// The rows of a view.
    ///
    /// # Errors
    /// [`ApplyError`] when it was built by another declaration, or when that must be looked up first: hand it on.
    pub fn view<'a, K: ViewKey, V: 'static>(
        &'a mut self,
        view: &'a View<K, V>,
    ) -> Result<ViewRows<'a, K, V>, ApplyError> {
        let declared = (view.name, TypeId::of::<(K, V)>());
        if !self.is_checked(&declared) {
            let expected = view.description();
            match self.get(&descriptions(), view.name.as_bytes())? {
                Some(found) if found == expected.as_bytes() => {
                    // NOTE: a description that an event has written may yet be undone, and is looked at each time.
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
    /// The value under a key.
    ///
    /// # Errors
    /// [`ApplyError`]: hand it on.
    pub fn get(&mut self, key: &K) -> Result<Option<V>, ApplyError> {
        self.read(&key.to_key())
    }

    /// Sets the value under a key.
    ///
    /// # Errors
    /// [`ApplyError`]: hand it on.
    pub fn put(&mut self, key: &K, value: &V) -> Result<(), ApplyError> {
        self.write(key, Some(value))
    }

    /// Removes the row under a key; nothing happens where there is none.
    ///
    /// # Errors
    /// [`ApplyError`]: hand it on.
    pub fn delete(&mut self, key: &K) -> Result<(), ApplyError> {
        self.write(key, None)
    }

    /// Changes the value under a key, from the default where there is none.
    ///
    /// # Errors
    /// [`ApplyError`]: hand it on.
    pub fn update(&mut self, key: &K, change: impl FnOnce(&mut V)) -> Result<(), ApplyError>
    where
        V: Default,
    {
        let mut value = self.get(key)?.unwrap_or_default();
        change(&mut value);
        self.put(key, &value)
    }

    /// Makes of what is under a key what is to be there; `None` is no row.
    ///
    /// # Errors
    /// [`ApplyError`]: hand it on.
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
            // NOTE: the place of a row in an order follows from its old value, which must therefore be read.
            let old = self.read(&row_key)?;
            for order in view.orders() {
                let table = view.order_table(order.name());
                let in_order = |value: &V| -> Bytes { [&order.place(key, value)[..], &row_key].concat().into() };
                let (old_place, new_place) = (old.as_ref().map(in_order), value.map(in_order));
                if let Some(old_place) = old_place.filter(|old| new_place.as_ref() != Some(old)) {
                    self.rows.delete(&table, old_place);
                }
                if let (Some(place), Some(encoded)) = (new_place, &encoded) {
                    self.rows.put(&table, place, encoded.clone());
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
