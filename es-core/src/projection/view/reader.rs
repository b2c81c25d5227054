//! [`Views`]: reads the views of a projection in a store.

use std::collections::HashSet;
use std::fmt;
use std::marker::PhantomData;
use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;

use crate::model::Position;
use crate::model::Table;
use crate::projection::view::scan::DecodedRows;
use crate::projection::view::{Continuation, View, ViewError, ViewKey, ViewScan, descriptions};
use crate::projection::{Build, Generation, Projection, active, applied, count_parked, table};
use crate::store::{EventReader, Row, RowScan, StoreError};

/// Reads the views of a projection in a store, whether the projection runs in the background or inline. Cheap to clone.
///
/// Each call reads the generation that is active at that time. The first call after a swap reads the rebuilt view. A
/// view that was never built is empty.
#[derive(Clone)]
pub struct Views {
    inner: Arc<Inner>,
}

struct Inner {
    store: Arc<dyn EventReader>,
    projection: &'static str,
    cache: Mutex<ReaderCache>,
}

/// The results of earlier reads.
#[derive(Default)]
struct ReaderCache {
    build: Option<Build>,
    /// Views whose stored description equals that of their declaration.
    checked: HashSet<(Generation, &'static str, String)>,
}

/// The result of the check after a read.
enum ReadCheck {
    /// The build was active during the whole read.
    Valid,
    /// The build was replaced: read this one.
    Retry(Option<Build>),
}

impl fmt::Debug for Views {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Views").field("projection", &self.inner.projection).finish_non_exhaustive()
    }
}

impl Views {
    /// Creates a reader of the views of a projection.
    #[must_use]
    pub fn of<P: Projection>(store: Arc<dyn EventReader>) -> Self {
        Self { inner: Arc::new(Inner { store, projection: P::NAME, cache: Mutex::default() }) }
    }

    /// Returns a reader of a view.
    #[must_use]
    pub const fn view<'a, K: 'static, V: 'static>(&'a self, view: &'a View<K, V>) -> ViewReader<'a, K, V> {
        ViewReader { views: self, view, of: PhantomData }
    }

    /// Returns the active generation; `None` before the first build started.
    ///
    /// # Errors
    /// [`StoreError`] if a row could not be read.
    pub async fn generation(&self) -> Result<Option<Generation>, StoreError> {
        Ok(self.build().await?.map(|build| build.generation))
    }

    /// Returns the value of a row that the projection wrote with [`Rows::put`](crate::projection::Rows::put).
    ///
    /// # Errors
    /// [`StoreError`] if a row could not be read, or the name of the table is too long.
    pub async fn row(&self, table: &Table, key: &[u8]) -> Result<Option<Bytes>, StoreError> {
        let mut next = self.likely_build().await?;
        while let Some(build) = next {
            let value = self.inner.store.row(&self.physical(build.generation, table)?, key).await;
            match self.check_read(&build).await? {
                ReadCheck::Valid => return value,
                ReadCheck::Retry(active) => next = active,
            }
        }
        Ok(None)
    }

    /// Returns rows that the projection wrote with [`Rows::put`](crate::projection::Rows::put), in the order of their
    /// keys. `scan` names the table as the projection named it.
    ///
    /// # Errors
    /// [`StoreError`] if a row could not be read, or the name of the table is too long.
    pub async fn rows(&self, scan: &RowScan) -> Result<Vec<Row>, StoreError> {
        let mut next = self.likely_build().await?;
        while let Some(build) = next {
            let table = self.physical(build.generation, &scan.table)?;
            let rows = self.inner.store.rows(RowScan { table, ..scan.clone() }).await;
            match self.check_read(&build).await? {
                ReadCheck::Valid => return rows,
                ReadCheck::Retry(active) => next = active,
            }
        }
        Ok(Vec::new())
    }

    /// Reads the active build.
    async fn build(&self) -> Result<Option<Build>, StoreError> {
        let build = active(&*self.inner.store, self.inner.projection).await?;
        self.cache().build = build;
        Ok(build)
    }

    /// Returns the number of events that the active generation lacks because they could not be applied, at most
    /// `limit`. Show it with every report from the view. [`ProjectionAdmin`](crate::projection::ProjectionAdmin) lists
    /// and retries them.
    ///
    /// # Errors
    /// [`StoreError`] if a row could not be read.
    pub async fn parked_events(&self, limit: usize) -> Result<usize, StoreError> {
        match self.build().await? {
            Some(build) => count_parked(&*self.inner.store, self.inner.projection, build.generation, limit).await,
            None => Ok(0),
        }
    }

    /// Returns the position up to which the view has applied the log; `None` before the first event. Parked events
    /// count as applied; [`parked_events`](Self::parked_events) returns their number.
    ///
    /// Every later read includes the events up to this position, and may include newer ones. Compare it with
    /// [`Committed::position`](crate::store::Committed::position) or the head of the store.
    ///
    /// # Errors
    /// [`StoreError`] if a row could not be read.
    pub async fn as_of(&self) -> Result<Option<Position>, StoreError> {
        let Some(build) = self.build().await? else { return Ok(None) };
        Ok(applied(&*self.inner.store, self.inner.projection, &build).await?.position)
    }

    fn cache(&self) -> std::sync::MutexGuard<'_, ReaderCache> {
        // No panic can leave the cache inconsistent, because each change is a single step.
        self.inner.cache.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn physical(&self, generation: Generation, logical: &Table) -> Result<Table, StoreError> {
        table(self.inner.projection, generation, logical)
            .map_err(|error| StoreError::io(format!("name the table {logical:?} of a view"), error))
    }

    /// Returns the cached build, or reads the active one. The caller must pass it to [`check_read`](Self::check_read)
    /// after its read.
    async fn likely_build(&self) -> Result<Option<Build>, StoreError> {
        let cached = self.cache().build;
        match cached {
            Some(build) => Ok(Some(build)),
            None => self.build().await,
        }
    }

    /// Checks after a read whether the build that was read is still active.
    ///
    /// ORDER: after the read. The rows of a build are removed only after it was replaced. If the build is still active,
    /// all its rows existed during the read. Otherwise even an error of the read can be an effect of the removal.
    async fn check_read(&self, build: &Build) -> Result<ReadCheck, StoreError> {
        Ok(match self.build().await? {
            Some(active) if active.generation == build.generation => ReadCheck::Valid,
            active => ReadCheck::Retry(active),
        })
    }

    /// Checks that the stored description of the view equals that of its declaration. Returns `false` if the view has
    /// no stored rows yet.
    async fn check_declaration<K: ViewKey, V: 'static>(
        &self,
        view: &View<K, V>,
        build: &Build,
    ) -> Result<bool, ViewError> {
        let expected = view.description();
        let declared = (build.generation, view.name(), expected.clone());
        if self.cache().checked.contains(&declared) {
            return Ok(true);
        }
        let descriptions = self.physical(build.generation, &descriptions())?;
        let Some(found) = self.inner.store.row(&descriptions, view.name().as_bytes()).await? else { return Ok(false) };
        if found != expected.as_bytes() {
            let found = String::from_utf8_lossy(&found).into_owned();
            return Err(ViewError::Redeclared { view: view.name(), expected, found });
        }
        let mut cache = self.cache();
        cache.checked.retain(|(generation, ..)| *generation == build.generation);
        cache.checked.insert(declared);
        Ok(true)
    }
}

/// Reads a view in a store.
#[derive(Debug)]
pub struct ViewReader<'a, K: 'static, V: 'static> {
    views: &'a Views,
    view: &'a View<K, V>,
    of: PhantomData<fn(K) -> V>,
}

/// A page of the rows of a view.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Page<K, V> {
    /// The rows.
    pub rows: Vec<(K, V)>,
    /// Where the next page of the same scan starts; `None` for the last page.
    pub next: Option<Continuation>,
}

impl<'a, K: ViewKey, V: 'static> ViewReader<'a, K, V> {
    /// Returns the value of a key.
    ///
    /// # Errors
    /// - [`ViewError::Store`] if the store failed.
    /// - [`ViewError::Redeclared`] if the view is stored with another declaration.
    /// - [`ViewError::Value`] if the value cannot be decoded.
    pub async fn get(&self, key: &K) -> Result<Option<V>, ViewError> {
        let key = key.to_key();
        let mut next = self.views.likely_build().await?;
        while let Some(build) = next {
            let value = self.get_from(&build, &key).await;
            match self.views.check_read(&build).await? {
                ReadCheck::Valid => return value,
                ReadCheck::Retry(active) => next = active,
            }
        }
        Ok(None)
    }

    /// Returns the value of a key, and the position up to which it includes the log. It may include newer events.
    ///
    /// # Errors
    /// The errors of [`get`](Self::get).
    pub async fn get_as_of(&self, key: &K) -> Result<(Option<V>, Option<Position>), ViewError> {
        // ORDER: the position before the value, so that the value is at least as new as the position.
        let as_of = self.views.as_of().await?;
        Ok((self.get(key).await?, as_of))
    }

    /// Starts a scan of the rows.
    pub fn scan(&self) -> ViewScan<'a, &'a Views, K, V> {
        ViewScan::new(self.views, self.view)
    }

    async fn get_from(&self, build: &Build, key: &Bytes) -> Result<Option<V>, ViewError> {
        if !self.views.check_declaration(self.view, build).await? {
            return Ok(None);
        }
        let table = self.views.physical(build.generation, &self.view.table())?;
        let Some(row) = self.views.inner.store.row(&table, key).await? else { return Ok(None) };
        self.view.decode(&row).map(Some).map_err(|source| ViewError::Value { view: self.view.name(), source })
    }
}

impl<K: ViewKey, V: 'static, T: ViewKey> ViewScan<'_, &Views, K, V, T> {
    /// Reads a page of at most [`limit`](Self::limit) rows, as of one point in time.
    ///
    /// # Errors
    /// - [`ViewError::Store`] if the store failed.
    /// - [`ViewError::Redeclared`] if the view is stored with another declaration.
    /// - [`ViewError::NoSuchOrder`] if the view does not declare the order of the scan.
    /// - [`ViewError::Rebuilt`] if the scan continues a page of a generation that was replaced.
    /// - [`ViewError::Key`], [`ViewError::Value`] or [`ViewError::Misplaced`] if a stored row does not match the
    ///   declaration.
    pub async fn read(&self) -> Result<Page<K, V>, ViewError> {
        let logical = self.table()?;
        let rebuilt = || ViewError::Rebuilt { view: self.view.name() };
        let mut next = self.source.likely_build().await?;
        while let Some(build) = next {
            let page = self.read_from(&build, &logical).await;
            match self.source.check_read(&build).await? {
                ReadCheck::Valid => {
                    let (rows, next) = page?.ok_or_else(rebuilt)?;
                    let next = next.map(|key| Continuation { generation: build.generation, key });
                    return Ok(Page { rows, next });
                }
                ReadCheck::Retry(active) => next = active,
            }
        }
        if self.after.is_some() { Err(rebuilt()) } else { Ok(Page { rows: Vec::new(), next: None }) }
    }

    /// Reads all rows of the scan, in pages of [`limit`](Self::limit) rows. Each page is read as of its own point in
    /// time. All rows are in memory at once: restrict a scan of a large view with a range or a prefix.
    ///
    /// # Errors
    /// The errors of [`read`](Self::read).
    pub async fn read_all(mut self) -> Result<Vec<(K, V)>, ViewError> {
        let mut rows = Vec::new();
        loop {
            let page = self.read().await?;
            rows.extend(page.rows);
            let Some(next) = page.next else { return Ok(rows) };
            self.after = Some(next);
        }
    }

    /// Reads a page from a build. Returns `None` if the scan continues a page of another build.
    async fn read_from(&self, build: &Build, logical: &Table) -> Result<Option<DecodedRows<K, V>>, ViewError> {
        if self.after.as_ref().is_some_and(|after| after.generation != build.generation) {
            return Ok(None);
        }
        if !self.source.check_declaration(self.view, build).await? {
            return Ok(Some((Vec::new(), None)));
        }
        let table = self.source.physical(build.generation, logical)?;
        let rows = self.source.inner.store.rows(self.row_scan(table)).await?;
        self.decode(rows).map(Some)
    }
}
