//! The task of a process: holds the lease, consumes the events of the source in the order of the log, and wakes the
//! instances whose timers are due.

use std::sync::Arc;
use std::time::Duration;

use es_core::__private::Bytes;
use es_core::aggregate::Source;
use es_core::consumer::DeliveryScope;
use es_core::consumer::lease::{Acquisition, HeartbeatWatch, HeldLease, LeaseRows, LeaseTerms};
use es_core::consumer::timer::ScanStart;
use es_core::model::ErrorChain;
use es_core::store::{Batch, RowScan};
use es_core::{Commit, CommitError, Position, RecordedEvent, StoreError, Subscription, Timestamp};
use tokio::sync::watch;

use crate::process::definition::Process;
use crate::process::engine::{HandleError, ProcessEngine};
use crate::process::rows::{self, Cursor, ParkedEvent};
use crate::process::settle::{Offer, Settled};

/// The number of timers that one scan reads.
const PAGE: usize = 256;
/// The number of ignored records after which the cursor is written.
const IGNORED: u64 = 1_000;

/// What the handle of a process observes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct ProcessProgress {
    /// The position up to which all events are handled.
    pub(crate) position: u64,
    /// Whether the task holds the lease.
    pub(crate) is_active: bool,
}

/// What a runner needs.
pub(crate) struct Runner<P: Process> {
    pub(crate) engine: Arc<ProcessEngine<P>>,
    pub(crate) terms: LeaseTerms,
    pub(crate) poll: Duration,
    pub(crate) scope: DeliveryScope,
    /// Whether the runner must stop.
    pub(crate) stop: watch::Receiver<bool>,
    pub(crate) progress: watch::Sender<ProcessProgress>,
}

/// The cursor as it is stored, and in memory.
struct StoredCursor {
    current: Cursor,
    bytes: Option<Bytes>,
    /// The number of handled records that the stored cursor does not contain.
    unstored: u64,
}

impl<P: Process> Runner<P> {
    /// Runs the process until it is stopped or the store is closed.
    pub(crate) async fn run(self) {
        let mut watch = HeartbeatWatch::default();
        let (store, clock) = (Arc::clone(self.engine.store()), Arc::clone(&self.engine.planner.clock));
        let name = ProcessEngine::<P>::name();
        let lease_rows = LeaseRows::named(&format!("process-{name}"));
        while !*self.stop.borrow() {
            match self.terms.acquire(&*store, &lease_rows, &*clock, &mut watch).await {
                Ok(Acquisition::Acquired(lease)) => {
                    let result = tokio::select! {
                        biased;
                        result = self.hold(&lease) => result,
                        () = self.renew(&lease) => Err(HandleError::Fenced),
                    };
                    self.progress.send_modify(|progress| progress.is_active = false);
                    match result {
                        Ok(()) => {
                            if let Err(error) = lease.release(&*store).await {
                                tracing::warn!(process = name, error = %ErrorChain(&error), "lease not released");
                            }
                            return;
                        }
                        Err(HandleError::Store(StoreError::Closed)) => return,
                        Err(HandleError::Fenced) => tracing::warn!(process = name, "lease of a process lost"),
                        Err(HandleError::Store(error)) => {
                            tracing::warn!(process = name, error = %ErrorChain(&error), "process interrupted");
                        }
                        Err(error) => tracing::warn!(process = name, ?error, "process interrupted"),
                    }
                }
                Ok(Acquisition::HeldBy(_)) => {}
                Err(StoreError::Closed) => return,
                Err(error) => tracing::warn!(process = name, error = %ErrorChain(&error), "lease not acquired"),
            }
            tokio::select! {
                () = self.stopped() => {}
                () = tokio::time::sleep((self.terms.duration / 4).min(self.poll)) => {}
            }
        }
    }

    /// Waits until the runner must stop. A handle that was dropped ends the task otherwise.
    async fn stopped(&self) {
        let _ = self.stop.clone().wait_for(|stop| *stop).await;
    }

    /// Renews the lease until it is lost, or was not renewed for its whole length.
    async fn renew(&self, lease: &HeldLease) {
        let mut renewed = tokio::time::Instant::now();
        loop {
            tokio::time::sleep(self.terms.duration / 3).await;
            match self.terms.renew(&**self.engine.store(), &*self.engine.planner.clock, lease).await {
                Ok(true) => renewed = tokio::time::Instant::now(),
                Ok(false) => return,
                Err(error) => {
                    tracing::warn!(error = %ErrorChain(&error), "lease of a process not renewed");
                    if renewed.elapsed() >= self.terms.duration {
                        return;
                    }
                }
            }
        }
    }

    /// Runs the process while the lease is held. Returns when it is stopped.
    async fn hold(&self, lease: &HeldLease) -> Result<(), HandleError> {
        let mut cursor = self.read_cursor().await?;
        let after = Position::new(cursor.current.position);
        let store = Arc::clone(self.engine.store());
        let events = Subscription::new(store, <P::Source as Source>::query(), after);
        let mut events = events.map_err(|error| StoreError::io("follow the source of a process", error))?;
        self.report(&cursor);
        let mut start = ScanStart::default();
        loop {
            let next_due = self.wake_due(lease, &mut start).await?;
            self.retry_parked(lease).await?;
            let pause = next_due.map_or(self.poll, |due| (due - self.engine.now()).to_std().unwrap_or_default());
            let pause = pause.clamp(Duration::from_millis(1), self.poll);
            tokio::select! {
                biased;
                () = self.stopped() => break,
                batch = events.next() => self.consume(&batch?, &mut cursor, lease).await?,
                () = self.engine.changed.notified() => {}
                () = tokio::time::sleep(pause) => {}
            }
        }
        if cursor.unstored > 0 {
            self.store_cursor(&mut cursor, lease).await?;
        }
        Ok(())
    }

    async fn read_cursor(&self) -> Result<StoredCursor, StoreError> {
        let key = rows::cursor_key(ProcessEngine::<P>::name());
        let stored = rows::read(&**self.engine.store(), &key).await?;
        let (current, bytes) = stored.map_or((Cursor::default(), None), |(cursor, bytes)| (cursor, Some(bytes)));
        Ok(StoredCursor { current, bytes, unstored: 0 })
    }

    fn report(&self, cursor: &StoredCursor) {
        self.progress.send_replace(ProcessProgress { position: cursor.current.position, is_active: true });
    }

    /// Handles the events of a batch in order.
    async fn consume(&self, batch: &Batch, cursor: &mut StoredCursor, lease: &HeldLease) -> Result<(), HandleError> {
        for record in &batch.events {
            if *self.stop.borrow() {
                return Ok(());
            }
            self.consume_record(record, cursor, lease).await?;
            self.report(cursor);
        }
        if let Some(scanned) = batch.scanned.filter(|scanned| scanned.get() > cursor.current.position) {
            cursor.current = Cursor { position: scanned.get(), part: 0 };
            cursor.unstored += 1;
        }
        if cursor.unstored >= IGNORED {
            self.store_cursor(cursor, lease).await?;
        }
        self.report(cursor);
        Ok(())
    }

    async fn consume_record(
        &self,
        record: &RecordedEvent,
        cursor: &mut StoredCursor,
        lease: &HeldLease,
    ) -> Result<(), HandleError> {
        let offer = self.offer(record);
        let count = P::Source::decode(record).map_or(1, |events| events.as_slice().len());
        let count = u32::try_from(count).unwrap_or(u32::MAX);
        for index in cursor.current.part..count {
            let next = if index + 1 == count {
                Cursor { position: record.position.get(), part: 0 }
            } else {
                Cursor { part: index + 1, ..cursor.current }
            };
            let (base, bytes) = with_cursor(lease.expect(Commit::new()), ProcessEngine::<P>::name(), cursor, next)?;
            match self.engine.settle(record, index, &base, offer).await? {
                Settled::Committed => (cursor.bytes, cursor.unstored) = (Some(bytes), 0),
                Settled::Ignored => cursor.unstored += 1,
            }
            cursor.current = next;
        }
        cursor.current = Cursor { position: record.position.get(), part: 0 };
        Ok(())
    }

    /// Returns the offer of an event, which depends on the node on which it originated.
    fn offer(&self, record: &RecordedEvent) -> Offer<'_> {
        if self.scope.includes(&**self.engine.store(), record) { Offer::Source } else { Offer::OtherNode }
    }

    async fn store_cursor(&self, cursor: &mut StoredCursor, lease: &HeldLease) -> Result<(), HandleError> {
        let name = ProcessEngine::<P>::name();
        let (commit, bytes) = with_cursor(lease.expect(Commit::new()), name, cursor, cursor.current)?;
        self.engine.commit_rows(commit).await?;
        (cursor.bytes, cursor.unstored) = (Some(bytes), 0);
        Ok(())
    }

    /// Wakes all instances whose timers are due. Returns when the next one is due.
    async fn wake_due(&self, lease: &HeldLease, start: &mut ScanStart) -> Result<Option<Timestamp>, HandleError> {
        let (queue, base) = (rows::queue(ProcessEngine::<P>::name()), lease.expect(Commit::new()));
        let (now, mut after) = (self.engine.now(), None);
        loop {
            let page = start.scan(&queue, &**self.engine.store(), after.as_ref(), now, PAGE).await?;
            for timer in &page {
                if timer.due > self.engine.now() {
                    return Ok(Some(timer.due));
                }
                // Each round handles one pending event or timer; an instance may set timers that are due at once.
                for _ in 0..PAGE {
                    if *self.stop.borrow() || !self.engine.wake(&timer.stream, &base).await? {
                        break;
                    }
                }
            }
            let is_last_page = page.len() < PAGE;
            after = page.into_iter().next_back();
            if is_last_page || *self.stop.borrow() {
                return Ok(None);
            }
        }
    }

    /// Offers the parked events again that an operator wants to retry.
    async fn retry_parked(&self, lease: &HeldLease) -> Result<(), HandleError> {
        let (name, store) = (ProcessEngine::<P>::name(), self.engine.store());
        let table = rows::table()?;
        let requested = store.rows(RowScan::new(table.clone(), rows::events_prefix(rows::RETRY, name), PAGE)).await?;
        for row in requested {
            let ParkedEvent { event, reason, .. } = rows::decode(&row.key, &row.value)?;
            let parked = rows::event_key(rows::PARKED, name, event.position, event.index);
            let base = lease.expect(Commit::new()).expect_row(table.clone(), row.key.clone(), Some(row.value));
            let base = base.delete_row(table.clone(), row.key).delete_row(table.clone(), parked);
            let settled = match self.engine.record(&event).await? {
                Some(record) => self.engine.settle(&record, event.index, &base, self.offer(&record)).await?,
                None => Settled::Ignored,
            };
            if settled == Settled::Ignored {
                let reason = format!("it does not concern the process, or was removed from the log; before: {reason}");
                let skipped = ParkedEvent { event, reason, time: self.engine.now(), note: None };
                let commit = rows::set_aside(base, rows::SKIPPED, name, &skipped)?;
                self.engine.commit_rows(commit).await?;
            }
        }
        Ok(())
    }
}

impl<P: Process> ProcessEngine<P> {
    /// Writes the first cursor, after this position, unless the process has one.
    pub(crate) async fn create_cursor(&self, after: Option<Position>) -> Result<(), StoreError> {
        let current = Cursor { position: after.map_or(0, Position::get), part: 0 };
        let cursor = StoredCursor { current, bytes: None, unstored: 0 };
        let (commit, _) = with_cursor(Commit::new(), Self::name(), &cursor, current)?;
        match self.store().commit(commit).await {
            Ok(_) | Err(CommitError::Conflict(_)) => Ok(()),
            Err(CommitError::Store(error)) => Err(error),
            Err(error) => Err(StoreError::io("write rows of a process", error)),
        }
    }
}

/// Adds the change of the stored cursor to a commit. Returns it with the new value of the row.
fn with_cursor(
    commit: Commit,
    process: &str,
    cursor: &StoredCursor,
    next: Cursor,
) -> Result<(Commit, Bytes), StoreError> {
    let (table, key, bytes) = (rows::table()?, rows::cursor_key(process), rows::encode(&next)?);
    let commit = commit.expect_row(table.clone(), key.clone(), cursor.bytes.clone());
    Ok((commit.put_row(table, key, bytes.clone()), bytes))
}
