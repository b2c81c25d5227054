//! [`Generation`]: one build of a view. A rebuild writes a new generation beside the active one and replaces it in one
//! commit.
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
use crate::store::{Commit, EventReader, StoreError, encode_row};

/// The number of a build of a view, from 1. A projection never uses a number twice.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Generation(NonZeroU64);

impl Generation {
    /// The first build.
    pub const FIRST: Self = Self(NonZeroU64::MIN);

    /// Returns the generation with this number; `None` for 0.
    #[must_use]
    pub const fn new(number: u64) -> Option<Self> {
        match NonZeroU64::new(number) {
            Some(number) => Some(Self(number)),
            None => None,
        }
    }

    /// Returns the number, from 1.
    #[must_use]
    pub const fn get(self) -> u64 {
        self.0.get()
    }

    /// Returns the generation after this one.
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
    /// The number of the build.
    pub(crate) generation: Generation,
    /// The [`Projection::VERSION`](crate::projection::Projection::VERSION) that built it.
    pub(crate) version: u32,
    /// The number of partitions, each with its own checkpoint; 1 for an inline projection.
    pub(crate) partitions: u32,
}

/// The builds of a view. The row of a projection in the table [`generations_table`].
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Generations {
    /// The build that readers read; `None` before the first build started.
    pub(crate) active: Option<Build>,
    /// The build that is to replace the active one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) building: Option<Build>,
    /// The highest number of a build so far.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) last: Option<Generation>,
}

impl Generations {
    /// Returns the number of the next build.
    pub(crate) fn next(&self) -> Generation {
        self.last.map_or(Generation::FIRST, Generation::next)
    }

    /// Encodes the row. The encoding is canonical, because commits compare it byte by byte.
    ///
    /// # Errors
    /// [`StoreError::Io`] if the value cannot be written as JSON, which does not happen for this type.
    pub(crate) fn encode(&self) -> Result<Bytes, StoreError> {
        encode_row(self)
    }

    /// Decodes a row. A missing row means that no build exists.
    ///
    /// # Errors
    /// [`StoreError::Damaged`] if the row is not an encoded value.
    pub(crate) fn decode(projection: &str, row: Option<&[u8]>) -> Result<Self, StoreError> {
        let Some(row) = row else { return Ok(Self::default()) };
        serde_json::from_slice(row).map_err(|error| {
            StoreError::damaged(format!("the generations of projection {projection:?}"), error.to_string())
        })
    }

    /// Adds the replacement of the row to a commit, on the condition that the row still is `before`.
    ///
    /// # Errors
    /// [`StoreError::Io`] if the value cannot be written as JSON, which does not happen for this type.
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

/// Returns the table with the [`Generations`] of each projection under its name.
pub(crate) fn generations_table() -> Table {
    Table::well_known(reserved::PROJECTIONS)
}

/// Reads the builds of a projection.
///
/// # Errors
/// [`StoreError`] if the row cannot be read or decoded.
pub(crate) async fn generations(store: &dyn EventReader, projection: &str) -> Result<Generations, StoreError> {
    let row = store.row(&generations_table(), projection.as_bytes()).await?;
    Generations::decode(projection, row.as_deref())
}

/// Reads the active build of a projection, with one read of one row; `None` before the first build started.
///
/// # Errors
/// [`StoreError`] if the row cannot be read or decoded.
pub(crate) async fn active(store: &dyn EventReader, projection: &str) -> Result<Option<Build>, StoreError> {
    Ok(generations(store, projection).await?.active)
}

/// Checks the name of a projection: 1 to [`MAX_PROJECTION_NAME_BYTES`] bytes without control characters and `:`.
///
/// # Errors
/// [`NameError`] if the name is empty, too long, or has a reserved character.
pub(crate) fn check_name(projection: &str) -> Result<(), NameError> {
    const KIND: &str = "projection name";
    let reserved = |found, at| NameError::Reserved { kind: KIND, text: projection.to_owned(), found, at };
    if projection.is_empty() {
        return Err(NameError::Empty { kind: KIND });
    }
    if projection.len() > MAX_PROJECTION_NAME_BYTES {
        return Err(NameError::TooLong { kind: KIND, found: projection.len() });
    }
    // A colon ends the name in the name of a table, and a zero byte ends it in the key of a row.
    match projection.char_indices().find(|(_, c)| c.is_control() || *c == ':') {
        Some((at, found)) => Err(reserved(found, at)),
        None => Ok(()),
    }
}

/// The maximum length of the name of a projection, in bytes. The names of its tables contain it, so it is shorter than
/// a table name.
pub const MAX_PROJECTION_NAME_BYTES: usize = 128;

/// Returns the table of the store that holds the rows of one generation for a table of the view.
///
/// # Errors
/// [`NameError`] if the name of the projection is invalid, or the combined name is too long.
pub(crate) fn table(projection: &str, generation: Generation, logical: &Table) -> Result<Table, NameError> {
    check_name(projection)?;
    Table::new(format!("{}{projection}:{generation}:{logical}", reserved::VIEW_PREFIX))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn table_names_differ_by_projection_generation_and_table() {
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
    fn encoded_generations_decode_to_themselves_and_a_missing_row_to_none() {
        let build = |number| Build { generation: Generation::new(number).unwrap(), version: 3, partitions: 4 };
        let generations = Generations { active: Some(build(1)), building: Some(build(2)), last: Generation::new(2) };
        let row = generations.encode().unwrap();
        assert_eq!(Generations::decode("p", Some(&row)).unwrap(), generations);
        assert_eq!(generations.next().get(), 3);
        assert_eq!(Generations::decode("p", None).unwrap().next(), Generation::FIRST);
        assert!(matches!(Generations::decode("p", Some(b"{")), Err(StoreError::Damaged { .. })));
    }
}
