//! Generations: the rows of one build of a view. A view is rebuilt as a new generation beside the one that is read, and takes
//! its place in one commit, which readers see at once.
//!
//! ```text
//!   table "projections"        key: projection          value: Generations (JSON)
//!   table "view:{projection}:{generation}:{table}"      the rows of one table of the view
//! ```

use std::fmt;
use std::num::NonZeroU64;

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use crate::model::reserved;
use crate::model::{NameError, Table};
use crate::store::{Commit, EventReader, StoreError};

/// The number of a build of a view, from 1. A number is never given to a second build of the same projection.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Generation(NonZeroU64);

impl Generation {
    /// The first build.
    pub const FIRST: Self = Self(NonZeroU64::MIN);

    /// The generation with this number; `None` for 0, which is none.
    #[must_use]
    pub const fn new(number: u64) -> Option<Self> {
        match NonZeroU64::new(number) {
            Some(number) => Some(Self(number)),
            None => None,
        }
    }

    /// The number, from 1.
    #[must_use]
    pub const fn get(self) -> u64 {
        self.0.get()
    }

    /// The generation after this one.
    #[must_use]
    pub const fn next(self) -> Self {
        Self(self.0.saturating_add(1))
    }
}

impl fmt::Display for Generation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// One build of a view.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Build {
    /// Its number.
    pub(crate) generation: Generation,
    /// The [`Projection::VERSION`](crate::projection::Projection::VERSION) that built it.
    pub(crate) version: u32,
    /// Over how many partitions its events are spread, from 1; each has a checkpoint of its own. An inline projection has one.
    pub(crate) partitions: u32,
}

/// What there is of a view. The row of a projection in the table [`generations_table`].
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Generations {
    /// What is read; `None` before the first build was begun.
    pub(crate) active: Option<Build>,
    /// What is built beside it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) building: Option<Build>,
    /// The highest number that was given to a build.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) last: Option<Generation>,
}

impl Generations {
    /// The number of the next build.
    pub(crate) fn next(&self) -> Generation {
        self.last.map_or(Generation::FIRST, Generation::next)
    }

    /// What is written, in one form only, so that it can be compared byte by byte.
    ///
    /// # Errors
    /// [`StoreError`], which does not happen: these values can always be written.
    pub(crate) fn encode(&self) -> Result<Bytes, StoreError> {
        let json =
            serde_json::to_vec(self).map_err(|error| StoreError::io("write the generations of a view", error))?;
        Ok(json.into())
    }

    /// Reads a row; without one there is no build.
    ///
    /// # Errors
    /// [`StoreError::Damaged`] when it is not what was written.
    pub(crate) fn decode(projection: &str, row: Option<&[u8]>) -> Result<Self, StoreError> {
        let Some(row) = row else { return Ok(Self::default()) };
        serde_json::from_slice(row).map_err(|error| {
            StoreError::damaged(format!("the generations of projection {projection:?}"), error.to_string())
        })
    }

    /// Adds to a commit that these generations take the place of `before`, refused when they are no longer so.
    ///
    /// # Errors
    /// [`StoreError`], which does not happen: these values can always be written.
    pub(crate) fn replace(&self, projection: &str, before: &Self, commit: Commit) -> Result<Commit, StoreError> {
        let expected = if *before == Self::default() { None } else { Some(before.encode()?) };
        let key = Bytes::copy_from_slice(projection.as_bytes());
        Ok(commit.expect_row(generations_table(), key.clone(), expected).put_row(
            generations_table(),
            key,
            self.encode()?,
        ))
    }
}

/// The table with one row for each projection: its [`Generations`] under its name.
pub(crate) fn generations_table() -> Table {
    Table::well_known(reserved::PROJECTIONS)
}

/// What there is of the view of a projection.
///
/// # Errors
/// [`StoreError`] when the row cannot be read.
pub(crate) async fn generations(store: &dyn EventReader, projection: &str) -> Result<Generations, StoreError> {
    let row = store.row(&generations_table(), projection.as_bytes()).await?;
    Generations::decode(projection, row.as_deref())
}

/// The build of a view that is read: one read of one row. `None` before the first was begun.
///
/// # Errors
/// [`StoreError`] when the row cannot be read.
pub(crate) async fn active(store: &dyn EventReader, projection: &str) -> Result<Option<Build>, StoreError> {
    Ok(generations(store, projection).await?.active)
}

/// Checks that a text can name a projection: 1 to [`MAX_PROJECTION_NAME_BYTES`] bytes without control characters and without `:`.
///
/// # Errors
/// [`NameError`]: correct the name.
pub(crate) fn check_name(projection: &str) -> Result<(), NameError> {
    const KIND: &str = "projection name";
    let reserved = |found, at| NameError::Reserved { kind: KIND, text: projection.to_owned(), found, at };
    if projection.is_empty() {
        return Err(NameError::Empty { kind: KIND });
    }
    if projection.len() > MAX_PROJECTION_NAME_BYTES {
        return Err(NameError::TooLong { kind: KIND, found: projection.len() });
    }
    // NOTE: a colon ends the name within the name of a table; a zero byte ends it within the key of a row.
    match projection.char_indices().find(|(_, c)| c.is_control() || *c == ':') {
        Some((at, found)) => Err(reserved(found, at)),
        None => Ok(()),
    }
}

/// The longest name of a projection, in bytes, so that there is room for its tables.
pub const MAX_PROJECTION_NAME_BYTES: usize = 128;

/// The table of the store in which the rows stand that one generation of a projection has in a table of its own.
///
/// # Errors
/// [`NameError`] when the name of the projection is none, or the name of the table is too long together with it.
pub(crate) fn table(projection: &str, generation: Generation, logical: &Table) -> Result<Table, NameError> {
    check_name(projection)?;
    Table::new(format!("{}{projection}:{generation}:{logical}", reserved::VIEW_PREFIX))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tables_of_different_projections_generations_and_names_are_apart() {
        let logical = |name: &str| Table::new(name).unwrap();
        let all = [("a", 1, "b"), ("a", 1, "1:b"), ("a", 2, "b"), ("a", 12, "b"), ("a/1", 1, "b"), ("b", 1, "a")];
        let tables: std::collections::BTreeSet<_> = all
            .iter()
            .map(|(projection, number, name)| {
                table(projection, Generation::new(*number).unwrap(), &logical(name)).unwrap()
            })
            .collect();
        assert_eq!(tables.len(), all.len());
        assert!(table("a:1", Generation::FIRST, &logical("b")).is_err());
        assert!(check_name("").is_err());
        assert!(check_name(&"x".repeat(MAX_PROJECTION_NAME_BYTES + 1)).is_err());
    }

    #[test]
    fn generations_are_written_in_one_form_and_read_back() {
        let build = |number| Build { generation: Generation::new(number).unwrap(), version: 3, partitions: 4 };
        let generations = Generations { active: Some(build(1)), building: Some(build(2)), last: Generation::new(2) };
        let row = generations.encode().unwrap();
        assert_eq!(Generations::decode("p", Some(&row)).unwrap(), generations);
        assert_eq!(generations.next().get(), 3);
        assert_eq!(Generations::decode("p", None).unwrap().next(), Generation::FIRST);
        assert!(matches!(Generations::decode("p", Some(b"{")), Err(StoreError::Damaged { .. })));
    }
}
