//! [`OnWake`]: a future that is polled only after it was woken.

use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, Wake, Waker};

/// A future that is polled only after it was woken, and not whenever its task is polled for another reason. Each
/// request polls the task of its connection several times; a timer and a channel take a lock each time.
///
/// `FuturesUnordered` does the same, but registers the waker of its task at each poll.
pub(super) struct OnWake<F> {
    future: Pin<Box<F>>,
    signal: Arc<Signal>,
    waker: Waker,
    /// The waker that the signal has.
    task: Option<Waker>,
}

struct Signal {
    is_woken: AtomicBool,
    task: Mutex<Option<Waker>>,
}

impl Wake for Signal {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        // ORDER: before the task is woken, which reads it.
        self.is_woken.store(true, Ordering::Release);
        let task = self.task.lock().unwrap_or_else(PoisonError::into_inner).clone();
        if let Some(task) = task {
            task.wake();
        }
    }
}

impl<F: Future> OnWake<F> {
    pub(super) fn new(future: F) -> Self {
        let signal = Arc::new(Signal { is_woken: AtomicBool::new(true), task: Mutex::new(None) });
        Self { future: Box::pin(future), waker: Arc::clone(&signal).into(), signal, task: None }
    }

    fn set_task(&mut self, task: &Waker) {
        if !self.task.as_ref().is_some_and(|known| known.will_wake(task)) {
            self.task = Some(task.clone());
            *self.signal.task.lock().unwrap_or_else(PoisonError::into_inner) = Some(task.clone());
        }
    }
}

impl<F: Future> Future for OnWake<F> {
    type Output = F::Output;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<F::Output> {
        let this = &mut *self;
        // ORDER: before the signal is read. A wake in between finds the task or is found here.
        this.set_task(context.waker());
        if !this.signal.is_woken.load(Ordering::Acquire) {
            return Poll::Pending;
        }
        // ORDER: before the poll. A wake during the poll leads to another one.
        this.signal.is_woken.store(false, Ordering::Release);
        this.future.as_mut().poll(&mut Context::from_waker(&this.waker))
    }
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;
    use std::sync::atomic::AtomicUsize;

    use futures_util::FutureExt;
    use tokio::sync::oneshot;

    use super::*;

    #[derive(Default)]
    struct CountedWaker(AtomicUsize);

    impl Wake for CountedWaker {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Ordering::SeqCst);
        }
    }

    #[test]
    fn only_a_wake_leads_to_a_poll() {
        let (sender, mut receiver) = oneshot::channel();
        let polls = AtomicUsize::new(0);
        let mut future = OnWake::new(poll_fn(|context| {
            polls.fetch_add(1, Ordering::SeqCst);
            receiver.poll_unpin(context)
        }));
        let tasks = [Arc::new(CountedWaker::default()), Arc::new(CountedWaker::default())];
        let mut poll = |task: &Arc<CountedWaker>| {
            let waker = Waker::from(Arc::clone(task));
            Pin::new(&mut future).poll(&mut Context::from_waker(&waker))
        };
        for task in [0, 0, 1, 1] {
            assert_eq!(poll(&tasks[task]), Poll::Pending);
        }
        assert_eq!(polls.load(Ordering::SeqCst), 1);
        sender.send(7).unwrap();
        let woken = tasks.each_ref().map(|task| task.0.load(Ordering::SeqCst));
        assert_eq!(woken, [0, 1], "the last task is woken");
        assert_eq!(poll(&tasks[0]), Poll::Ready(Ok(7)));
    }
}
