//! [`Group`]: group commit. Commits are added to the open frame; the holder of the one token writes it.
//!
//! ```text
//!   callers --> open frame --(token)--> write, sync, publish --> token is free --> answer the callers --> next frame
//!                   ^                                                  |
//!                   +---- commits meanwhile fill the next frame <------+
//! ```
//!
//! Two threads share the token, so that one can write the next frame while the other answers. A lone caller takes the
//! token itself, which saves two changes of threads.

use std::fmt;
use std::io;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use crate::active::WriteFailure;
use crate::answer::{Answer, PendingCommit};
use crate::error::AppendError;
use crate::frame::FrameHeader;
use crate::open_frame::{CommitDraft, OpenFrame};
use crate::sync::{Condvar, Mutex, MutexGuard, PoisonError, lock, lock_soon, wait};
use crate::writer::{OnWriteFailure, Writer, append_error};

/// The pause before a failed write is tried again for the first time. It doubles with each attempt.
const FIRST_PAUSE: Duration = Duration::from_millis(100);
/// The longest pause. On a full disk, an attempt takes the space that is left, and releases it.
const LONGEST_PAUSE: Duration = Duration::from_secs(5);

/// The largest initial capacity of a frame, in bytes. One large frame must not make the next small ones large.
const MAX_CAPACITY: usize = 1 << 18;

/// The state of the group commit.
#[derive(Debug)]
pub(crate) struct Group {
    state: Mutex<GroupState>,
    /// Wakes a sync thread.
    work: Condvar,
    /// Wakes callers that wait for a new open frame, and [`close`](Self::close).
    taken: Condvar,
    /// Ends the pause before a failed write is tried again.
    closed: Condvar,
    writer: Mutex<Writer>,
    follower: OnceLock<Arc<dyn Follower>>,
    settings: GroupSettings,
}

/// Follows the frames of a log. It is called by the holder of the token: in the order of the log, and not from two
/// threads at a time. It must not add a commit.
pub trait Follower: fmt::Debug + Send + Sync + 'static {
    /// The frame is on disk, and readers see it. Its commits are answered when this returns.
    ///
    /// # Errors
    /// Why the follower cannot process the frame now. It is called again for the frame until it succeeds or the log is
    /// closed. Until then the log is stalled: it writes nothing, and refuses commits with [`AppendError::Stalled`].
    fn written(&self, frame: &FrameHeader) -> io::Result<()>;

    /// The log is stalled for this reason, or not any more.
    fn stalled(&self, cause: Option<&io::Error>);

    /// The commits of a frame, and those that were added after them, fail with this error.
    fn failed(&self, error: &AppendError);
}

/// The right and the duty to write the open frame. Dropping it leaves the frame to a sync thread.
#[derive(Debug)]
#[must_use = "the frame is written by `write`, or by a sync thread after a drop"]
pub struct Turn<'a> {
    group: Option<&'a Group>,
}

impl Turn<'_> {
    /// Writes the frame on this thread, which waits for the disk.
    pub fn write(mut self) {
        let Some(group) = self.group.take() else { return };
        let mut state = lock(&group.state);
        // Otherwise a caller that waited for the full frame has left the turn to a thread.
        if std::mem::take(&mut state.has_idle_turn) {
            group.take_turn(state, Next::OtherThread);
        }
    }
}

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        let Some(group) = self.group.take() else { return };
        group.leave_turn(lock(&group.state));
    }
}

/// Who writes the commits that were added during a turn.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Next {
    /// The holder of the turn, a sync thread, which looks for them after it has answered. To wake the other thread
    /// would take longer than most answers.
    SameThread,
    /// A sync thread, which is woken.
    OtherThread,
}

/// The settings of the group commit.
#[derive(Debug, Clone, Copy)]
pub(crate) struct GroupSettings {
    /// Times of records are stored relative to this one.
    pub(crate) base_time: i64,
    /// Whether sync threads exist. Otherwise callers write.
    pub(crate) has_threads: bool,
    /// The size of the open frame at which callers wait.
    pub(crate) frame_bytes: usize,
    /// The idle time after which a blank frame is written.
    pub(crate) blank_after: Option<Duration>,
    pub(crate) on_write_failure: OnWriteFailure,
}

#[derive(Debug)]
struct GroupState {
    open: OpenFrame,
    has_token_holder: bool,
    /// Whether the token holder is a [`Turn`] that nobody has used yet.
    has_idle_turn: bool,
    is_closed: bool,
    /// The step that failed and is tried again. Meanwhile no commit is accepted.
    stall: Option<Stall>,
    /// The failure after which no commit is accepted.
    stopped: Option<Failure>,
    /// The number of frames that were taken.
    turns: u64,
    /// Whether the last frame has commits, so that a blank frame can confirm it.
    needs_blank: bool,
    /// Whether a thread waits for the idle time.
    timer: IdleTimer,
    /// The number of callers that wait for [`Group::taken`]. Each notification is a system call.
    waiting_callers: usize,
    /// The number of callers that wait for the token.
    waiting_for_token: usize,
    /// The number of threads that wait for [`Group::work`].
    waiting_threads: usize,
    /// Whether a thread was woken that does not run yet. It does all work that is there then.
    is_thread_woken: bool,
}

/// How far a frame has been processed.
#[derive(Debug)]
enum FrameStage {
    /// It is to be written.
    Open(OpenFrame),
    /// It is on disk, and the follower is to process it.
    Written { frame: FrameHeader, callers: Vec<Arc<Answer>> },
}

/// A step of a frame failed and is tried again.
#[derive(Debug)]
struct Stall {
    /// The frame; `None` during an attempt. The open frame, whose commits are decided too, follows it.
    frame: Option<FrameStage>,
    source: Arc<io::Error>,
    /// The pause before the next attempt.
    pause: Duration,
}

/// A failure that stops the log.
#[derive(Debug, Clone)]
struct Failure {
    source: Arc<io::Error>,
    /// Whether a sync failed, which must not be repeated: it can succeed although data is lost.
    is_of_sync: bool,
}

/// The wait for the idle time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum IdleTimer {
    /// No thread waits.
    Off,
    /// A thread was woken to wait.
    Requested,
    /// A thread waits.
    Running,
}

/// A commit in the open frame, before the token is passed.
struct Added<'a, R> {
    value: R,
    answer: Arc<Answer>,
    state: MutexGuard<'a, GroupState>,
}

impl GroupState {
    /// Returns the open frame, and starts the next one.
    fn take_open(&mut self) -> OpenFrame {
        let next = self.open.first_position + u64::from(self.open.events);
        // As large as this frame, because the load changes slowly and a frame that grows is copied.
        let following = OpenFrame::with_capacity(next, self.open.bytes.len().min(MAX_CAPACITY));
        self.turns += 1;
        self.needs_blank = self.open.commits > 0;
        std::mem::replace(&mut self.open, following)
    }

    /// Returns whether there is a frame to write.
    fn has_work(&self) -> bool {
        !self.open.is_empty() || self.stall.is_some()
    }

    /// Returns the error of a commit that the log does not accept now.
    fn check(&self) -> Result<(), AppendError> {
        if self.is_closed {
            return Err(AppendError::Closed);
        }
        if let Some(Failure { source, .. }) = &self.stopped {
            return Err(AppendError::Stopped { source: Arc::clone(source) });
        }
        match &self.stall {
            Some(Stall { source, .. }) => Err(AppendError::Stalled { source: Arc::clone(source) }),
            None => Ok(()),
        }
    }

    /// Fails the commits of the open frame after a failed frame: their positions are after those of the failed one.
    /// Returns their callers and their error.
    fn fail_open_frame(
        &mut self,
        error: &AppendError,
        next_position: u64,
        on_write_failure: OnWriteFailure,
    ) -> (Vec<Arc<Answer>>, AppendError) {
        let open = std::mem::replace(&mut self.open, OpenFrame::new(next_position));
        let failure = match error {
            AppendError::SyncFailed { source } => Failure { source: Arc::clone(source), is_of_sync: true },
            AppendError::Stopped { source } => Failure { source: Arc::clone(source), is_of_sync: true },
            // With `Retry`, the log is being closed, and the failure is the result of that.
            AppendError::NotWritten { source } if on_write_failure != OnWriteFailure::Continue => {
                Failure { source: Arc::clone(source), is_of_sync: false }
            }
            error => return (open.callers, error.clone()),
        };
        let error = AppendError::Stopped { source: Arc::clone(&failure.source) };
        self.stopped = Some(failure);
        (open.callers, error)
    }
}

impl Group {
    pub(crate) fn new(writer: Writer, settings: GroupSettings) -> Self {
        let open = OpenFrame::new(writer.chain.position);
        let needs_blank = writer.chain.frame > 1;
        let state = GroupState {
            open,
            has_token_holder: false,
            has_idle_turn: false,
            is_closed: false,
            stall: None,
            stopped: None,
            turns: 0,
            needs_blank,
            timer: IdleTimer::Off,
            waiting_callers: 0,
            waiting_for_token: 0,
            waiting_threads: 0,
            is_thread_woken: false,
        };
        let (work, taken, closed) = (Condvar::new(), Condvar::new(), Condvar::new());
        let (state, writer) = (Mutex::new(state), Mutex::new(writer));
        Self { state, work, taken, closed, writer, follower: OnceLock::new(), settings }
    }

    /// Sets the follower, unless there is one.
    pub(crate) fn follow(&self, follower: Arc<dyn Follower>) {
        let _ = self.follower.set(follower);
    }

    /// Adds a commit to the open frame and waits until it is written.
    pub(crate) fn commit<R, E: From<AppendError>>(
        &self,
        draft: impl FnOnce(&mut CommitDraft<'_>) -> Result<R, E>,
    ) -> Result<R, E> {
        let (value, PendingCommit(answer), turn) = self.begin(draft)?;
        if let Some(turn) = turn {
            turn.write();
        }
        answer.wait()?;
        Ok(value)
    }

    /// Adds a commit to the open frame, which a sync thread writes.
    pub(crate) fn submit<R, E: From<AppendError>>(
        &self,
        draft: impl FnOnce(&mut CommitDraft<'_>) -> Result<R, E>,
    ) -> Result<(R, PendingCommit), E> {
        self.begin(draft).map(|(value, commit, _)| (value, commit))
    }

    /// Adds a commit to the open frame. Returns the turn to write it, if the commit is the only one and the token is
    /// free.
    pub(crate) fn begin<R, E: From<AppendError>>(
        &self,
        draft: impl FnOnce(&mut CommitDraft<'_>) -> Result<R, E>,
    ) -> Result<(R, PendingCommit, Option<Turn<'_>>), E> {
        let Added { value, answer, mut state } = self.add(draft)?;
        let mut turn = None;
        if state.has_token_holder {
            drop(state);
        } else if state.open.commits == 1 || !self.settings.has_threads {
            (state.has_token_holder, state.has_idle_turn) = (true, true);
            drop(state);
            turn = Some(Turn { group: Some(self) });
        } else {
            self.wake_thread(state);
        }
        Ok((value, PendingCommit(answer), turn))
    }

    /// Adds a commit to the open frame, after there is space.
    fn add<R, E: From<AppendError>>(
        &self,
        draft: impl FnOnce(&mut CommitDraft<'_>) -> Result<R, E>,
    ) -> Result<Added<'_, R>, E> {
        let mut state = lock_soon(&self.state);
        loop {
            state.check()?;
            if state.open.bytes.len() < self.settings.frame_bytes {
                break;
            }
            if state.has_idle_turn {
                // The thread that has the turn may be this one, or wait for this one.
                self.leave_turn(state);
                state = lock_soon(&self.state);
                continue;
            }
            // A full frame has commits, so that a token holder exists or a sync thread is awake.
            state = self.wait_until_taken(state);
        }
        let value = state.open.add(self.settings.base_time, draft)?;
        let answer = Arc::new(Answer::default());
        state.open.callers.push(Arc::clone(&answer));
        Ok(Added { value, answer, state })
    }

    /// Leaves the turn that nobody has used yet to a sync thread, if there is one; without threads, uses it.
    fn leave_turn<'a>(&'a self, mut state: MutexGuard<'a, GroupState>) {
        if !std::mem::take(&mut state.has_idle_turn) {
            return;
        }
        if self.settings.has_threads {
            state.has_token_holder = false;
            self.wake_thread(state);
        } else {
            self.take_turn(state, Next::OtherThread);
        }
    }

    /// Takes the token, unless the caller has it, writes the open frame and passes the token on. If the log is stalled,
    /// tries the failed step of its frame again instead, after a pause.
    fn take_turn<'a>(&'a self, mut state: MutexGuard<'a, GroupState>, next_turn: Next) {
        loop {
            state.has_token_holder = true;
            if let Some(stall) = &state.stall
                && !state.is_closed
            {
                let pause = stall.pause;
                state = self.wait_before_retry(state, pause);
            }
            let frame = match state.stall.as_mut().and_then(|stall| stall.frame.take()) {
                Some(frame) => frame,
                None => FrameStage::Open(state.take_open()),
            };
            let failed_sync = state.stopped.clone().filter(|failure| failure.is_of_sync);
            let has_waiting = state.waiting_callers > 0;
            drop(state);
            if has_waiting {
                self.taken.notify_all();
            }
            self.process(frame, failed_sync, next_turn);
            if self.settings.has_threads {
                return;
            }
            // Without threads, the holder writes what was added meanwhile.
            state = lock(&self.state);
            if !state.has_work() || state.has_token_holder {
                return;
            }
        }
    }

    /// Waits before a failed step is tried again, at most until the log is closed.
    #[cfg(not(shuttle))]
    fn wait_before_retry<'a>(&self, state: MutexGuard<'a, GroupState>, pause: Duration) -> MutexGuard<'a, GroupState> {
        self.closed.wait_timeout(state, pause).unwrap_or_else(PoisonError::into_inner).0
    }

    /// With shuttle no time passes. Another thread runs instead.
    #[cfg(shuttle)]
    fn wait_before_retry<'a>(&'a self, state: MutexGuard<'a, GroupState>, _: Duration) -> MutexGuard<'a, GroupState> {
        drop(state);
        crate::sync::thread::yield_now();
        lock(&self.state)
    }

    /// Writes a frame and calls the follower. Then passes the token on, and answers the callers, unless a step failed
    /// and is tried again.
    fn process(&self, stage: FrameStage, failed_sync: Option<Failure>, next_turn: Next) {
        let (frame, callers) = match stage {
            FrameStage::Written { frame, callers } => (frame, callers),
            FrameStage::Open(mut open) => match self.write(&mut open, failed_sync) {
                Ok(frame) => (frame, open.callers),
                Err(AppendError::NotWritten { source }) if self.tries_writes_again() => {
                    return self.stall(FrameStage::Open(open), source, next_turn);
                }
                Err(error) => {
                    if let Some(follower) = self.follower.get() {
                        follower.failed(&error);
                    }
                    return self.pass_on(&open.callers, &Err(error), next_turn);
                }
            },
        };
        // ORDER: before the token is passed on, so that the follower sees the frames in order.
        if let Some(follower) = self.follower.get()
            && let Err(error) = follower.written(&frame)
        {
            let source = Arc::new(error);
            if !lock(&self.state).is_closed {
                return self.stall(FrameStage::Written { frame, callers }, source, next_turn);
            }
            follower.failed(&AppendError::Stopped { source });
        }
        self.pass_on(&callers, &Ok(()), next_turn);
    }

    /// Writes a frame, unless an earlier sync has failed.
    fn write(&self, open: &mut OpenFrame, failed_sync: Option<Failure>) -> Result<FrameHeader, AppendError> {
        match failed_sync {
            Some(Failure { source, .. }) => Err(AppendError::Stopped { source }),
            None => lock(&self.writer).write(open),
        }
    }

    /// Returns whether a write that failed now is tried again.
    fn tries_writes_again(&self) -> bool {
        self.settings.on_write_failure == OnWriteFailure::Retry && !lock(&self.state).is_closed
    }

    /// Keeps a frame whose step failed, so that it is tried again, and passes the token on.
    fn stall(&self, stage: FrameStage, source: Arc<io::Error>, next_turn: Next) {
        // ORDER: while this thread has the token, so that the follower is not told of the end of the stall before.
        if let Some(follower) = self.follower.get() {
            follower.stalled(Some(&source));
        }
        let mut state = lock(&self.state);
        let pause = match &state.stall {
            Some(earlier) => (earlier.pause * 2).min(LONGEST_PAUSE),
            None => {
                let error: &io::Error = &source;
                tracing::error!(%error, "a write failed and is tried again; commits are refused");
                FIRST_PAUSE
            }
        };
        state.stall = Some(Stall { frame: Some(stage), source, pause });
        self.pass_token(state, true, next_turn);
        // Callers that wait for the next frame or for the token receive the error.
        self.taken.notify_all();
    }

    /// Passes the token on after a frame was written, or is not tried again, and answers its callers.
    fn pass_on(&self, callers: &[Arc<Answer>], result: &Result<(), AppendError>, next_turn: Next) {
        let next_position = lock(&self.writer).chain.position;
        let mut state = lock(&self.state);
        if state.stall.take().is_some() {
            tracing::info!(is_written = result.is_ok(), "the log is not stalled any more");
            if let Some(follower) = self.follower.get() {
                follower.stalled(None);
            }
        }
        let on_write_failure = self.settings.on_write_failure;
        let failed = result.as_ref().err().map(|error| state.fail_open_frame(error, next_position, on_write_failure));
        let (is_closed, is_wanted) = (state.is_closed, state.waiting_for_token > 0);
        let mut has_work = !state.open.is_empty();
        if !has_work && self.waits_for_idle(&state) && state.timer == IdleTimer::Off {
            // After the turn of a caller, a thread must wait for the idle time.
            state.timer = IdleTimer::Requested;
            has_work = true;
        }
        self.pass_token(state, has_work, next_turn);
        if is_closed || is_wanted || failed.is_some() {
            self.taken.notify_all();
        }
        callers.iter().for_each(|caller| caller.set(result.clone()));
        if let Some((callers, error)) = failed {
            callers.iter().for_each(|caller| caller.set(Err(error.clone())));
        }
    }

    /// Passes the token on, and wakes the thread that uses it next.
    fn pass_token(&self, mut state: MutexGuard<'_, GroupState>, has_work: bool, next_turn: Next) {
        state.has_token_holder = false;
        if state.is_closed {
            drop(state);
            self.work.notify_all();
        } else if has_work && next_turn == Next::OtherThread {
            self.wake_thread(state);
        }
    }

    /// Writes frames until the log is closed: the work of a sync thread.
    pub(crate) fn run(&self) {
        let mut state = lock(&self.state);
        loop {
            if !state.has_token_holder && state.has_work() {
                self.take_turn(state, Next::SameThread);
                state = lock(&self.state);
            } else if state.is_closed && !state.has_work() && !state.has_token_holder {
                // A caller that has the token can still leave a step that is to be tried again.
                return;
            } else {
                state = self.wait_for_work(state);
                state.is_thread_woken = false;
            }
        }
    }

    /// Wakes a sync thread, unless one is awake or about to be.
    fn wake_thread(&self, mut state: MutexGuard<'_, GroupState>) {
        let wakes = state.waiting_threads > 0 && !state.is_thread_woken;
        state.is_thread_woken |= wakes;
        drop(state);
        if wakes {
            self.work.notify_one();
        }
    }

    /// Waits until the open frame was taken, or the log was closed or failed.
    fn wait_until_taken<'a>(&self, mut state: MutexGuard<'a, GroupState>) -> MutexGuard<'a, GroupState> {
        state.waiting_callers += 1;
        state = wait(&self.taken, state);
        state.waiting_callers -= 1;
        state
    }

    /// Returns whether the last frame is not confirmed, so that a blank frame follows after the idle time.
    fn waits_for_idle(&self, state: &GroupState) -> bool {
        let is_stopped = state.stopped.is_some() || state.stall.is_some();
        self.settings.blank_after.is_some() && state.needs_blank && !is_stopped
    }

    /// Waits for a notification. After the idle time, adds a blank frame, which confirms the last one: a frame before a
    /// valid one is not torn.
    fn wait_for_work<'a>(&self, mut state: MutexGuard<'a, GroupState>) -> MutexGuard<'a, GroupState> {
        let waits = self.waits_for_idle(&state) && state.timer != IdleTimer::Running;
        let Some(idle) = self.settings.blank_after.filter(|_| waits) else {
            state.waiting_threads += 1;
            state = wait(&self.work, state);
            state.waiting_threads -= 1;
            return state;
        };
        let turns = state.turns;
        state.timer = IdleTimer::Running;
        state.waiting_threads += 1;
        let (mut state, timeout) = self.work.wait_timeout(state, idle).unwrap_or_else(PoisonError::into_inner);
        state.waiting_threads -= 1;
        state.timer = IdleTimer::Off;
        let is_idle = timeout.timed_out() && state.turns == turns && !state.has_token_holder;
        if is_idle && self.waits_for_idle(&state) && state.open.is_empty() && !state.is_closed {
            state.open = OpenFrame::blank(state.open.first_position);
        }
        state
    }

    /// Seals the active segment, after the frame that is being written.
    ///
    /// # Errors
    /// [`AppendError`], as for a commit.
    pub(crate) fn seal(&self) -> Result<(), AppendError> {
        let mut state = lock(&self.state);
        loop {
            state.check()?;
            if !state.has_token_holder {
                break;
            }
            state.waiting_for_token += 1;
            state = wait(&self.taken, state);
            state.waiting_for_token -= 1;
        }
        state.has_token_holder = true;
        drop(state);
        let sealed = lock(&self.writer).seal();
        let mut state = lock(&self.state);
        if let Err(WriteFailure::Sync(error)) = &sealed {
            let source = Arc::new(io::Error::new(error.kind(), error.to_string()));
            state.stopped = Some(Failure { source, is_of_sync: true });
        }
        let has_work = !state.open.is_empty();
        if has_work && !self.settings.has_threads {
            // The callers of these commits have no turn.
            self.take_turn(state, Next::OtherThread);
        } else {
            self.pass_token(state, has_work, Next::OtherThread);
        }
        self.taken.notify_all();
        sealed.map_err(append_error)
    }

    /// Waits until all written frames are on disk, also those that were acknowledged before.
    ///
    /// # Errors
    /// [`AppendError::SyncFailed`], and after it [`AppendError::Stopped`]: no further frame is accepted then.
    pub(crate) fn sync(&self) -> Result<(), AppendError> {
        if let Some(Failure { source, .. }) = lock(&self.state).stopped.as_ref().filter(|failure| failure.is_of_sync) {
            return Err(AppendError::Stopped { source: Arc::clone(source) });
        }
        // Not while the writer is locked, because it can take long. An earlier segment was synced when it was sealed.
        let file = Arc::clone(&lock(&self.writer).active.file);
        file.sync().map_err(|error| {
            let source = Arc::new(error);
            lock(&self.state).stopped = Some(Failure { source: Arc::clone(&source), is_of_sync: true });
            AppendError::SyncFailed { source }
        })
    }

    /// Refuses further commits, waits for those in flight, and syncs the high-water mark, unless a sync has failed.
    /// Ends the sync threads. A write that failed and is tried again has one more attempt.
    ///
    /// # Errors
    /// The cause of the failure that stopped the log, or of a failed sync of the high-water mark.
    pub(crate) fn close(&self) -> io::Result<()> {
        let mut state = lock(&self.state);
        let is_first = !std::mem::replace(&mut state.is_closed, true);
        self.work.notify_all();
        self.taken.notify_all();
        self.closed.notify_all();
        while state.has_token_holder || state.has_work() {
            state = self.wait_until_taken(state);
        }
        let stopped = state.stopped.clone();
        drop(state);
        let may_sync = stopped.as_ref().is_none_or(|failure| !failure.is_of_sync);
        let finished = if is_first && may_sync { lock(&self.writer).finish() } else { Ok(()) };
        stopped.map_or(finished, |failure| Err(io::Error::other(failure.source)))
    }
}
