//! Tests of the turns, with a writer that records its batches.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Barrier};

use super::*;

const LIMITS: BatchLimits = BatchLimits { commits: 3, bytes: 1000 };

/// A request that is only a size in bytes.
impl Weigh for usize {
    fn bytes(&self) -> usize {
        *self
    }
}

type Batches = Vec<Vec<usize>>;
type RecordingGroup = Group<usize, Batches>;

fn group() -> RecordingGroup {
    Group::new(LIMITS, Vec::new())
}

fn record(batches: &mut Batches, batch: Vec<usize>) {
    batches.push(batch);
}

/// Serves the next turn of the writer thread. Returns its batch.
fn next_batch(group: &RecordingGroup) -> Vec<usize> {
    let mut served = Vec::new();
    group.next_turn().unwrap().serve(|_, batch| served = batch);
    served
}

#[test]
fn a_batch_is_bounded_in_commits_and_bytes_and_has_at_least_one() {
    let group = group();
    for bytes in [1, 1, 1, 1, 600, 600, 5000] {
        group.push(bytes).unwrap();
    }
    let sizes: Vec<usize> = (0..4).map(|_| next_batch(&group).len()).collect();
    assert_eq!(sizes, [3, 2, 1, 1]);
}

#[test]
fn a_lone_caller_gets_the_turn_each_time() {
    let group = group();
    for request in 0..3 {
        assert!(group.would_be_alone());
        group.push_or_lead(request).unwrap().unwrap().serve(record);
    }
    group.close();
    assert!(group.next_turn().is_none());
}

#[test]
fn requests_during_a_turn_are_for_the_writer_thread() {
    let group = group();
    let turn = group.push_or_lead(1).unwrap().unwrap();
    assert!(!group.would_be_alone());
    assert!(group.push_or_lead(2).unwrap().is_none());
    assert!(group.push_or_lead(3).unwrap().is_none());
    turn.serve(|_, batch| assert_eq!(batch, [1]));
    assert!(!group.would_be_alone(), "two requests are queued");
    assert!(group.push_or_lead(4).unwrap().is_none());
    assert_eq!(next_batch(&group), [2, 3, 4]);
    for _ in 0..LONE_BATCHES {
        assert!(group.push_or_lead(5).unwrap().is_none(), "other callers may return");
        assert_eq!(next_batch(&group), [5]);
    }
    assert!(group.push_or_lead(6).unwrap().is_some(), "the caller is alone again");
}

#[test]
fn closing_rejects_new_requests_and_serves_queued_ones() {
    let group = group();
    let turn = group.push_or_lead(1).unwrap().unwrap();
    group.push(2).unwrap();
    group.close();
    assert_eq!(group.push(3), Err(Closed));
    assert!(matches!(group.push_or_lead(3), Err(Closed)));
    turn.serve(record);
    assert_eq!(next_batch(&group), [2]);
    assert!(group.next_turn().is_none());
    assert!(group.next_turn().is_none());
    assert!(!group.is_abandoned());
}

/// Closing the store waits for the end of the writer thread, after which no batch may be written.
#[test]
fn the_writer_thread_does_not_end_while_a_caller_writes() {
    let group = Arc::new(group());
    let turn = group.push_or_lead(1).unwrap().unwrap();
    let is_served = Arc::new(AtomicBool::new(false));
    let thread = std::thread::spawn({
        let (group, is_served) = (Arc::clone(&group), Arc::clone(&is_served));
        move || {
            assert!(group.next_turn().is_none());
            assert!(is_served.load(Ordering::SeqCst));
        }
    });
    group.close();
    std::thread::sleep(std::time::Duration::from_millis(20));
    turn.serve(|_, _| is_served.store(true, Ordering::SeqCst));
    thread.join().unwrap();
}

#[test]
fn a_panic_loses_the_writer_and_drops_all_requests() {
    let group = Group::new(LIMITS, Arc::new(()));
    let waiter = Arc::new(());
    let turn = group.push_or_lead(EmptyRequest(Arc::clone(&waiter))).unwrap().unwrap();
    group.push(EmptyRequest(Arc::clone(&waiter))).unwrap();
    let panicked = catch_unwind(AssertUnwindSafe(|| turn.serve(|_, _| panic!("on purpose"))));
    assert!(panicked.is_err());
    assert_eq!(Arc::strong_count(&waiter), 1, "a request still waits for the lost writer");
    assert!(group.is_abandoned());
    assert!(group.next_turn().is_none());
    assert_eq!(group.push(EmptyRequest(waiter)), Err(Closed));
}

/// A request of no bytes.
#[derive(Debug, PartialEq)]
struct EmptyRequest(Arc<()>);

impl Weigh for EmptyRequest {
    fn bytes(&self) -> usize {
        0
    }
}

/// Callers that can get the turn, callers that only queue, and the writer thread run concurrently. Each request is
/// served once, the requests of one caller in their order, and one batch at a time.
#[test]
fn concurrent_requests_are_served_once_and_in_order() {
    const CALLERS: usize = 4;
    const REQUESTS: usize = 5_000;
    let group = Arc::new(Group::new(BatchLimits { commits: 3, bytes: usize::MAX }, Vec::<usize>::new()));
    let is_writing = AtomicBool::new(false);
    let written = std::sync::Mutex::new(Vec::new());
    let write = |_: &mut Vec<usize>, batch: Vec<usize>| {
        assert!(!is_writing.swap(true, Ordering::SeqCst), "two batches are written at a time");
        written.lock().unwrap().extend(batch);
        assert!(is_writing.swap(false, Ordering::SeqCst));
    };
    let barrier = Barrier::new(CALLERS);
    std::thread::scope(|scope| {
        let thread = scope.spawn(|| {
            while let Some(turn) = group.next_turn() {
                turn.serve(write);
            }
        });
        let callers: Vec<_> = (0..CALLERS)
            .map(|caller| {
                let (group, barrier) = (&group, &barrier);
                scope.spawn(move || {
                    barrier.wait();
                    for request in 0..REQUESTS {
                        let request = caller * REQUESTS + request;
                        match caller % 2 {
                            0 => group.push(request).unwrap(),
                            _ => {
                                if let Some(turn) = group.push_or_lead(request).unwrap() {
                                    turn.serve(write);
                                }
                            }
                        }
                    }
                })
            })
            .collect();
        callers.into_iter().for_each(|caller| caller.join().unwrap());
        group.close();
        thread.join().unwrap();
    });
    let written = written.into_inner().unwrap();
    for caller in 0..CALLERS {
        let own: Vec<usize> = written.iter().copied().filter(|request| request / REQUESTS == caller).collect();
        assert!(own.iter().copied().eq(caller * REQUESTS..(caller + 1) * REQUESTS));
    }
}
