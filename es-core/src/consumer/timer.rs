//! Durable timers: a wake-up at a time, for a stream, that survives a restart.
//!
//! ```text
//!   commit of a transition --set--> two rows of the table es.timers --due--> the component --> next transition
//!                                   queue, due time, stream -> note                            sets or cancels it
//!                                   queue, stream -> due time, note
//! ```
//!
//! A timer is set and cancelled in the commit of the transition to which it belongs, on the condition that it is
//! unchanged since it was read. Firing is not a step of its own: the component finds the due timers, and the commit of
//! the transition that a timer causes replaces or cancels it. A timer therefore fires once, even if the clock jumps.
//! Due times are wall-clock times: a clock that is set back delays a timer by the jump.

use bytes::Bytes;
use chrono::TimeDelta;
use serde::{Deserialize, Serialize};

use crate::model::{StreamId, Table, Timestamp, reserved, to_stored_precision};
use crate::store::{Commit, EventReader, FailedCheck, RowScan, StoreError, StoredRow, encode_row};

/// A timer. A stream has at most one in each queue.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Timer {
    /// The stream that the timer wakes.
    pub stream: StreamId,
    /// The time from which the timer is due. Stored with a precision of microseconds.
    pub due: Timestamp,
    /// A note of the component, at most a few kilobytes.
    pub note: String,
}

impl Timer {
    /// Returns a timer without a note.
    #[must_use]
    pub fn new(stream: StreamId, due: Timestamp) -> Self {
        Self { stream, due: to_stored_precision(due), note: String::new() }
    }

    /// Returns a timer that precedes all timers with this due time, for the start of a [`scan`](TimerQueue::scan). It
    /// is never `None`.
    #[must_use]
    pub fn before_all_of(due: Timestamp) -> Option<Self> {
        // Names begin with a letter.
        Some(Self::new(StreamId::new(" ").ok()?, due))
    }

    /// Sets the note.
    #[must_use]
    pub fn with_note(mut self, note: impl Into<String>) -> Self {
        self.note = note.into();
        self
    }

    fn stored(&self) -> StoredTimer {
        StoredTimer { due: self.due.timestamp_micros(), note: self.note.clone() }
    }
}

/// The value of the row of a stream.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct StoredTimer {
    /// Microseconds since 1970.
    due: i64,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    note: String,
}

/// The timers of one component, or of one of its partitions.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TimerQueue {
    /// `{kind}{name}\0`; the kind is replaced in each key.
    prefix: Vec<u8>,
}

/// The kind of the rows in the order of the due times.
const BY_TIME: u8 = b'd';
/// The kind of the rows by stream.
const BY_STREAM: u8 = b's';

impl TimerQueue {
    /// Returns the queue with this name, which must have no control characters.
    #[must_use]
    pub fn new(name: &str) -> Self {
        Self { prefix: [&[BY_TIME], name.as_bytes(), &[0]].concat() }
    }

    /// Returns the timer of a stream, if it has one.
    ///
    /// # Errors
    /// [`StoreError`] if the row cannot be read or decoded.
    pub async fn get(&self, store: &dyn EventReader, stream: &StreamId) -> Result<Option<Timer>, StoreError> {
        let row = StoredRow::<StoredTimer>::read(store, &table(), self.stream_key(stream)).await?;
        row.value.map(|value| self.timer(stream.clone(), value.due, value.note)).transpose()
    }

    /// Adds the change from the timer `previous`, which the caller has read or set, to the timer `next` to a commit.
    /// Both must belong to `stream`; `None` is no timer. The commit conflicts if the timer has changed since.
    ///
    /// # Errors
    /// [`StoreError::Io`] if the row cannot be encoded, which does not happen.
    pub fn replace(
        &self,
        commit: Commit,
        stream: &StreamId,
        previous: Option<&Timer>,
        next: Option<&Timer>,
    ) -> Result<Commit, StoreError> {
        let key = self.stream_key(stream);
        let expected = previous.map(|timer| encode_row(&timer.stored())).transpose()?;
        let mut commit = commit.expect_row(table(), key.clone(), expected);
        if let Some(previous) = previous {
            commit = commit.delete_row(table(), self.time_key(previous));
        }
        let Some(next) = next else { return Ok(commit.delete_row(table(), key)) };
        let note = Bytes::from(next.note.clone());
        Ok(commit.put_row(table(), self.time_key(next), note).put_row(table(), key, encode_row(&next.stored())?))
    }

    /// Returns whether a failed condition of a commit means that the timer of this stream has changed.
    #[must_use]
    pub fn is_timer_of(&self, stream: &StreamId, check: &FailedCheck) -> bool {
        matches!(check, FailedCheck::Row { table: of, key, .. } if *of == table() && *key == self.stream_key(stream))
    }

    /// Returns at most `limit` timers after the timer `after`, in the order of their due times, whether they are due or
    /// not. The cost does not depend on the number of later timers; see [`ScanStart`] for that of removed ones.
    ///
    /// # Errors
    /// [`StoreError`] if the rows cannot be read or decoded.
    pub async fn scan(
        &self,
        store: &dyn EventReader,
        after: Option<&Timer>,
        limit: usize,
    ) -> Result<Vec<Timer>, StoreError> {
        let mut scan = RowScan::new(table(), self.prefix.clone(), limit);
        if let Some(after) = after {
            scan = scan.after(self.time_key(after));
        }
        let rows = store.rows(scan).await?;
        rows.iter().map(|row| self.decode(&row.key, &row.value)).collect()
    }

    fn decode(&self, key: &[u8], note: &[u8]) -> Result<Timer, StoreError> {
        let damaged = |detail: &str| StoreError::damaged(format!("row {} of es.timers", key.escape_ascii()), detail);
        let (due, stream) = key
            .get(self.prefix.len()..)
            .and_then(<[u8]>::split_first_chunk)
            .ok_or_else(|| damaged("expected a due time of 8 bytes"))?;
        let stream = std::str::from_utf8(stream).map_err(|_| damaged("expected a stream name in UTF-8"))?;
        let stream = StreamId::new(stream).map_err(|error| damaged(&error.to_string()))?;
        let note = std::str::from_utf8(note).map_err(|_| damaged("expected a note in UTF-8"))?;
        self.timer(stream, i64::from_be_bytes(*due) ^ i64::MIN, note.to_owned())
    }

    fn timer(&self, stream: StreamId, due: i64, note: String) -> Result<Timer, StoreError> {
        let due = Timestamp::from_timestamp_micros(due)
            .ok_or_else(|| StoreError::damaged(format!("timer of stream {stream:?}"), format!("due time {due}")))?;
        Ok(Timer { stream, due, note })
    }

    /// Returns the key of a timer among those of its queue: the due time sorts like its bytes, also before 1970.
    fn time_key(&self, timer: &Timer) -> Bytes {
        let due = (timer.due.timestamp_micros() ^ i64::MIN).to_be_bytes();
        [&self.prefix, due.as_slice(), timer.stream.as_str().as_bytes()].concat().into()
    }

    fn stream_key(&self, stream: &StreamId) -> Bytes {
        let mut key = [&self.prefix, stream.as_str().as_bytes()].concat();
        key[0] = BY_STREAM;
        key.into()
    }
}

/// How long before the time of a scan the next scan begins: a commit sets a timer to a time before the commit.
const LEEWAY: TimeDelta = TimeDelta::seconds(2);
/// The time after which a scan begins at the first key again.
const WHOLE_SCAN_EVERY: TimeDelta = TimeDelta::seconds(10);

/// Where repeated scans for due timers begin.
///
/// A store keeps the key of a removed row until it compacts its files, and a scan passes over it. A queue whose timers
/// are often set and removed has many such keys before its first timer. A scan therefore begins shortly before the
/// first timer that the former scan found. Every ten seconds, and when the clock was set back, a scan begins at the
/// first key: it finds a timer that was set to an earlier time, by a process with another clock or by a slow commit.
#[derive(Debug, Clone, Default)]
pub struct ScanStart {
    bound: Option<Timestamp>,
    whole_at: Option<Timestamp>,
}

impl ScanStart {
    /// Returns at most `limit` timers after the timer `after`, as [`TimerQueue::scan`] does. Without `after`, a scan
    /// for the timers that are due at `now` begins.
    ///
    /// # Errors
    /// As for [`TimerQueue::scan`].
    pub async fn scan(
        &mut self,
        queue: &TimerQueue,
        store: &dyn EventReader,
        after: Option<&Timer>,
        now: Timestamp,
        limit: usize,
    ) -> Result<Vec<Timer>, StoreError> {
        if after.is_some() {
            return queue.scan(store, after, limit).await;
        }
        let page = queue.scan(store, self.begin(now).as_ref(), limit).await?;
        self.bound = Some(page.first().map_or(now, |timer| timer.due.min(now)) - LEEWAY);
        Ok(page)
    }

    /// Returns the timer after which a scan at this time begins; `None` for the first key.
    fn begin(&mut self, now: Timestamp) -> Option<Timer> {
        let since = self.whole_at.map(|at| now - at);
        if since.is_none_or(|since| since < TimeDelta::zero() || since >= WHOLE_SCAN_EVERY) {
            self.whole_at = Some(now);
            return None;
        }
        self.bound.and_then(Timer::before_all_of)
    }
}

fn table() -> Table {
    Table::well_known(reserved::TIMERS)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::memory::MemoryStore;
    use crate::store::{CommitError, EventStore};

    fn timer(stream: &str, due: &str) -> Timer {
        Timer::new(StreamId::new(stream).unwrap(), due.parse().unwrap())
    }

    async fn set(store: &MemoryStore, queue: &TimerQueue, previous: Option<&Timer>, next: &Timer) {
        let commit = queue.replace(Commit::new(), &next.stream, previous, Some(next)).unwrap();
        store.commit(commit).await.unwrap();
    }

    #[tokio::test]
    async fn timers_are_scanned_in_the_order_of_their_due_times() {
        let (store, queue) = (MemoryStore::new(), TimerQueue::new("q"));
        let timers = [
            timer("late-1", "2026-01-02T00:00:00Z").with_note("n"),
            timer("early-1", "1969-01-01T00:00:00Z"),
            timer("never-1", "9999-01-01T00:00:00Z"),
        ];
        for timer in &timers {
            set(&store, &queue, None, timer).await;
        }
        let [late, early, never] = timers;
        set(&store, &TimerQueue::new("q2"), None, &timer("other-1", "2026-01-01T00:00:00Z")).await;
        assert_eq!(queue.scan(&store, None, 9).await.unwrap(), [early.clone(), late.clone(), never.clone()]);
        assert_eq!(queue.scan(&store, Some(&early), 1).await.unwrap(), std::slice::from_ref(&late));
        assert_eq!(queue.get(&store, &late.stream).await.unwrap(), Some(late));
    }

    #[tokio::test]
    async fn a_scan_begins_before_the_first_timer_of_the_former_scan_and_every_ten_seconds_at_the_first_key() {
        let (store, queue, mut start) = (MemoryStore::new(), TimerQueue::new("q"), ScanStart::default());
        let at = |second: u32| format!("2026-01-01T00:00:{second:02}Z").parse::<Timestamp>().unwrap();
        let scan = async |start: &mut ScanStart, now: u32| {
            let found = start.scan(&queue, &store, None, at(now), 9).await.unwrap();
            found.iter().map(|timer| timer.stream.to_string()).collect::<Vec<_>>()
        };
        assert_eq!(scan(&mut start, 20).await, [""; 0]);
        for (stream, due) in [("slow-1", at(18)), ("early-1", at(15)), ("late-1", at(59))] {
            set(&store, &queue, None, &Timer::new(StreamId::new(stream).unwrap(), due)).await;
        }
        assert_eq!(scan(&mut start, 21).await, ["slow-1", "late-1"], "from two seconds before the former scan");
        assert_eq!(scan(&mut start, 29).await, ["slow-1", "late-1"], "from two seconds before the first timer");
        assert_eq!(scan(&mut start, 30).await, ["early-1", "slow-1", "late-1"], "ten seconds after a whole scan");
        assert_eq!(scan(&mut start, 31).await, ["early-1", "slow-1", "late-1"], "the first timer is known now");
        let mut set_back = ScanStart::default();
        scan(&mut set_back, 50).await;
        assert_eq!(scan(&mut set_back, 40).await, ["early-1", "slow-1", "late-1"], "the clock was set back");
    }

    #[tokio::test]
    async fn a_changed_timer_replaces_the_earlier_one_and_a_stale_change_conflicts() {
        let (store, queue) = (MemoryStore::new(), TimerQueue::new("q"));
        let (first, second) = (timer("a-1", "2026-01-01T00:00:00Z"), timer("a-1", "2026-01-02T00:00:00Z"));
        set(&store, &queue, None, &first).await;
        set(&store, &queue, Some(&first), &second).await;
        assert_eq!(queue.scan(&store, None, 9).await.unwrap(), std::slice::from_ref(&second));
        for stale in [None, Some(&first)] {
            let commit = queue.replace(Commit::new(), &first.stream, stale, Some(&first)).unwrap();
            assert!(matches!(store.commit(commit).await, Err(CommitError::Conflict(_))));
        }
        let cancel = queue.replace(Commit::new(), &second.stream, Some(&second), None).unwrap();
        store.commit(cancel).await.unwrap();
        assert_eq!(queue.scan(&store, None, 9).await.unwrap(), []);
        assert_eq!(queue.get(&store, &second.stream).await.unwrap(), None);
    }
}
