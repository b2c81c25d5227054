//! [`Views`]: the views of a projection in a store, to be read.

use std::collections::HashSet;
use std::fmt;
use std::marker::PhantomData;
use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;

use crate::model::Position;
use crate::model::Table;
use crate::projection::view::scan::DecodedRows;
use crate::projection::view::{Continuation, View, ViewError, ViewKey, ViewScan, descriptions};
use crate::projection::{Build, Generation, Projection, active, applied, table};
use crate::store::{EventReader, Row, RowScan, StoreError};

/// The views of a projection in a store, to be read by anybody, whether the projection runs in the background or inline.
///
/// Each call reads the build of the view that is active at its moment: when a rebuilt view takes the place of the old one, the
/// next call sees it. A view that was never built is empty. It is cheap to clone.
#[derive(Clone)]
pub struct Views {
    inner: Arc<Inner>,
}

struct Inner {
    store: Arc<dyn EventReader>,
    projection: &'static str,
    known: Mutex<CheckedViews>,
}

/// What was found so far, to be looked at once.
#[derive(Default)]
struct CheckedViews {
    build: Option<Build>,
    /// Views whose description was found to be that of their declaration.
    checked: HashSet<(Generation, &'static str, String)>,
}

/// Whether a read counts.
enum Try {
    Counts,
    /// Another build took its place.
    Again(Option<Build>),
}

impl fmt::Debug for Views {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Views").field("projection", &self.inner.projection).finish_non_exhaustive()
    }
}

impl Views {
    /// The views of a projection.
    #[must_use]
    pub fn of<P: Projection>(store: Arc<dyn EventReader>) -> Self {
        Self { inner: Arc::new(Inner { store, projection: P::NAME, known: Mutex::default() }) }
    }

    /// A view, to be read.
    #[must_use]
    pub const fn view<'a, K: 'static, V: 'static>(&'a self, view: &'a View<K, V>) -> ViewReader<'a, K, V> {
        ViewReader { views: self, view, of: PhantomData }
    }

    /// Returns the generation that is read at this moment; `None` before the first build started.
    ///
    /// # Errors
    /// [`StoreError`] if the infrastructure failed.
    pub async fn generation(&self) -> Result<Option<Generation>, StoreError> {
        Ok(self.build().await?.map(|build| build.generation))
    }

    /// Returns the value of a row that the projection wrote with [`Rows::put`](crate::projection::Rows::put).
    ///
    /// # Errors
    /// [`StoreError`] if the infrastructure failed, or the name of the table is too long.
    pub async fn row(&self, table: &Table, key: &[u8]) -> Result<Option<Bytes>, StoreError> {
        let mut build = self.first_try().await?;
        while let Some(tried) = build {
            let found = self.inner.store.row(&self.physical(tried.generation, table)?, key).await;
            match self.next_try(&tried).await? {
                Try::Counts => return found,
                Try::Again(now) => build = now,
            }
        }
        Ok(None)
    }

    /// Returns rows that the projection wrote with [`Rows::put`](crate::projection::Rows::put), in the order of their keys. The table
    /// of the scan is that of the view.
    ///
    /// # Errors
    /// [`StoreError`] if the infrastructure failed, or the name of the table is too long.
    pub async fn rows(&self, scan: &RowScan) -> Result<Vec<Row>, StoreError> {
        let mut build = self.first_try().await?;
        while let Some(tried) = build {
            let table = self.physical(tried.generation, &scan.table)?;
            let found = self.inner.store.rows(RowScan { table, ..scan.clone() }).await;
            match self.next_try(&tried).await? {
                Try::Counts => return found,
                Try::Again(now) => build = now,
            }
        }
        Ok(Vec::new())
    }

    async fn build(&self) -> Result<Option<Build>, StoreError> {
        let build = active(&*self.inner.store, self.inner.projection).await?;
        self.known().build = build;
        Ok(build)
    }

    /// Up to where the log counts in what a read from now on shows, at the least; it may show later events, too. `None` before the
    /// first event. Compare it with [`Committed::position`](crate::store::Committed::position) or the head of the store.
    ///
    /// # Errors
    /// [`StoreError`] when the machinery failed.
    pub async fn as_of(&self) -> Result<Option<Position>, StoreError> {
        let Some(build) = self.build().await? else { return Ok(None) };
        Ok(applied(&*self.inner.store, self.inner.projection, &build).await?.position)
    }

    fn known(&self) -> std::sync::MutexGuard<'_, CheckedViews> {
        // NOTE: each change of it is whole by itself.
        self.inner.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn physical(&self, generation: Generation, logical: &Table) -> Result<Table, StoreError> {
        table(self.inner.projection, generation, logical)
            .map_err(|error| StoreError::io(format!("name the table {logical:?} of a view"), error))
    }

    /// The build that a read tries first.
    async fn first_try(&self) -> Result<Option<Build>, StoreError> {
        let known = self.known().build;
        match known {
            Some(build) => Ok(Some(build)),
            None => self.build().await,
        }
    }

    /// What is to be tried next, after a read of `tried`; nothing where the read counts.
    ///
    /// ORDER: behind the read. A build is removed only after another one took its place, so that a build that is still active now
    /// was whole while it was read; else even an error may come from reading what was being removed.
    async fn next_try(&self, tried: &Build) -> Result<Try, StoreError> {
        Ok(match self.build().await? {
            Some(now) if now.generation == tried.generation => Try::Counts,
            now => Try::Again(now),
        })
    }

    /// Checks that the view was built as it is declared; `false` where nothing of it was built yet.
    async fn check<K: ViewKey, V: 'static>(&self, view: &View<K, V>, build: &Build) -> Result<bool, ViewError> {
        let expected = view.description();
        let declared = (build.generation, view.name(), expected.clone());
        if self.known().checked.contains(&declared) {
            return Ok(true);
        }
        let descriptions = self.physical(build.generation, &descriptions())?;
        let Some(found) = self.inner.store.row(&descriptions, view.name().as_bytes()).await? else { return Ok(false) };
        if found != expected.as_bytes() {
            let found = String::from_utf8_lossy(&found).into_owned();
            return Err(ViewError::Redeclared { view: view.name(), expected, found });
        }
        let mut known = self.known();
        known.checked.retain(|(generation, ..)| *generation == build.generation);
        known.checked.insert(declared);
        Ok(true)
    }
}

/// A view in a store, to be read.
#[derive(Debug)]
pub struct ViewReader<'a, K: 'static, V: 'static> {
    views: &'a Views,
    view: &'a View<K, V>,
    of: PhantomData<fn(K) -> V>,
}

/// Some rows of a view, in order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Page<K, V> {
    /// The rows.
    pub rows: Vec<(K, V)>,
    /// Where to go on, with the same scan; `None` where there is no more.
    pub next: Option<Continuation>,
}

impl<'a, K: ViewKey, V: 'static> ViewReader<'a, K, V> {
    /// The value under a key.
    ///
    /// # Errors
    /// [`ViewError`]; each variant says what to do.
    pub async fn get(&self, key: &K) -> Result<Option<V>, ViewError> {
        let key = key.to_key();
        let mut build = self.views.first_try().await?;
        while let Some(tried) = build {
            let found = self.get_from(&tried, &key).await;
            match self.views.next_try(&tried).await? {
                Try::Counts => return found,
                Try::Again(now) => build = now,
            }
        }
        Ok(None)
    }

    /// The value under a key, with the position up to which the log counts in it at the least.
    ///
    /// # Errors
    /// [`ViewError`]; each variant says what to do.
    pub async fn get_as_of(&self, key: &K) -> Result<(Option<V>, Option<Position>), ViewError> {
        // ORDER: the position before the value, so that the value is not older than it says.
        let as_of = self.views.as_of().await?;
        Ok((self.get(key).await?, as_of))
    }

    /// Rows in order.
    pub fn scan(&self) -> ViewScan<'a, &'a Views, K, V> {
        ViewScan::new(self.views, self.view)
    }

    async fn get_from(&self, build: &Build, key: &Bytes) -> Result<Option<V>, ViewError> {
        if !self.views.check(self.view, build).await? {
            return Ok(None);
        }
        let table = self.views.physical(build.generation, &self.view.table())?;
        let Some(row) = self.views.inner.store.row(&table, key).await? else { return Ok(None) };
        self.view.decode(&row).map(Some).map_err(|source| ViewError::Value { view: self.view.name(), source })
    }
}

impl<K: ViewKey, V: 'static, T: ViewKey> ViewScan<'_, &Views, K, V, T> {
    /// A page of rows, as they are at one moment: up to the limit.
    ///
    /// # Errors
    /// [`ViewError`]; each variant says what to do.
    pub async fn read(&self) -> Result<Page<K, V>, ViewError> {
        let logical = self.table()?;
        let rebuilt = || ViewError::Rebuilt { view: self.view.name() };
        let mut build = self.source.first_try().await?;
        while let Some(tried) = build {
            let found = self.read_from(&tried, &logical).await;
            match self.source.next_try(&tried).await? {
                Try::Counts => {
                    let (rows, next) = found?.ok_or_else(rebuilt)?;
                    let next = next.map(|key| Continuation { generation: tried.generation, key });
                    return Ok(Page { rows, next });
                }
                Try::Again(now) => build = now,
            }
        }
        if self.after.is_some() { Err(rebuilt()) } else { Ok(Page { rows: Vec::new(), next: None }) }
    }

    /// All rows of the scan, page after page of as many rows as its limit says. Rows that change meanwhile may be seen before or
    /// after. Memory grows with the rows: bound the scan by a range or a prefix where the view is large.
    ///
    /// # Errors
    /// [`ViewError`]; each variant says what to do.
    pub async fn read_all(mut self) -> Result<Vec<(K, V)>, ViewError> {
        let mut rows = Vec::new();
        loop {
            let page = self.read().await?;
            rows.extend(page.rows);
            let Some(next) = page.next else { return Ok(rows) };
            self.after = Some(next);
        }
    }

    /// `None` where the scan goes on from a page of another build.
    async fn read_from(&self, build: &Build, logical: &Table) -> Result<Option<DecodedRows<K, V>>, ViewError> {
        if self.after.as_ref().is_some_and(|after| after.generation != build.generation) {
            return Ok(None);
        }
        if !self.source.check(self.view, build).await? {
            return Ok(Some((Vec::new(), None)));
        }
        let table = self.source.physical(build.generation, logical)?;
        let rows = self.source.inner.store.rows(self.row_scan(table)).await?;
        self.decode(rows).map(Some)
    }
}
