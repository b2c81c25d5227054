//! [`StoredProjection`]: the stored state of a projection, for tools and tests.
//!
//! ```text
//!   store --> StoredProjection { active, building } --> StoredGeneration { generation, version, checkpoints }
//! ```
//!
//! Applications read [`Views`](super::view::Views) and [`ProjectionStatus`](super::ProjectionStatus) instead.

use crate::model::{NameError, Position, Table};
pub use crate::projection::checkpoint::partition_of;
use crate::projection::generation::Build;
use crate::projection::{Generation, checkpoint, generations};
use crate::store::{EventReader, StoreError};

/// The generations of a projection that a store holds.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct StoredProjection {
    /// The generation that is read; `None` before the first build started.
    pub active: Option<StoredGeneration>,
    /// The generation that is being built.
    pub building: Option<StoredGeneration>,
}

/// One generation of a view in a store.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct StoredGeneration {
    /// The number of the generation.
    pub generation: Generation,
    /// The version of the projection that built it.
    pub version: u32,
    /// The position up to which each partition has applied the log.
    pub checkpoints: Vec<Option<Position>>,
}

impl StoredProjection {
    /// Reads the state of the projection with this name. Without a row it has no generation.
    ///
    /// # Errors
    /// [`StoreError`] if a row cannot be read.
    pub async fn read(store: &dyn EventReader, projection: &str) -> Result<Self, StoreError> {
        let found = generations(store, projection).await?;
        Ok(Self {
            active: StoredGeneration::read(store, projection, found.active).await?,
            building: StoredGeneration::read(store, projection, found.building).await?,
        })
    }
}

impl StoredGeneration {
    async fn read(store: &dyn EventReader, projection: &str, build: Option<Build>) -> Result<Option<Self>, StoreError> {
        let Some(Build { generation, version, partitions }) = build else { return Ok(None) };
        let mut checkpoints = Vec::new();
        for partition in 0..partitions {
            checkpoints.push(checkpoint(store, projection, generation, partition).await?.position);
        }
        Ok(Some(Self { generation, version, checkpoints }))
    }

    /// Returns the position up to which all partitions have applied the log.
    #[must_use]
    pub fn position(&self) -> Option<Position> {
        self.checkpoints.iter().copied().min().flatten()
    }

    /// Returns the table of the store that holds the rows of this generation for a table of the view.
    ///
    /// # Errors
    /// [`NameError`] if the names are invalid or too long together.
    pub fn table(&self, projection: &str, table: &Table) -> Result<Table, NameError> {
        super::table(projection, self.generation, table)
    }
}
