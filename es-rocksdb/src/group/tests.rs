//! Whose turn it is, on a writer that only notes what it was given.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Barrier};

use super::*;

const LIMITS: BatchLimits = BatchLimits { commits: 3, bytes: 1000 };

/// A request is its weight.
impl Weigh for usize {
    fn bytes(&self) -> usize {
        *self
    }
}

type Written = Vec<Vec<usize>>;
type Noting = Group<usize, Written>;

fn group() -> Noting {
    Group::new(LIMITS, Vec::new())
}

fn note(written: &mut Written, batch: Vec<usize>) {
    written.push(batch);
}

/// Serves the next turn of the thread and gives its batch.
fn next_batch(group: &Noting) -> Vec<usize> {
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
fn who_is_alone_writes_for_itself_again_and_again() {
    let group = group();
    for request in 0..3 {
        assert!(group.would_be_alone());
        group.push_or_lead(request).unwrap().unwrap().serve(note);
    }
    group.close();
    assert!(group.next_turn().is_none());
}

#[test]
fn what_comes_while_somebody_writes_is_the_threads() {
    let group = group();
    let turn = group.push_or_lead(1).unwrap().unwrap();
    assert!(!group.would_be_alone());
    assert!(group.push_or_lead(2).unwrap().is_none());
    assert!(group.push_or_lead(3).unwrap().is_none());
    turn.serve(|_, batch| assert_eq!(batch, [1]));
    assert!(!group.would_be_alone(), "two wait");
    assert!(group.push_or_lead(4).unwrap().is_none());
    assert_eq!(next_batch(&group), [2, 3, 4]);
    for _ in 0..LONE_BATCHES {
        assert!(group.push_or_lead(5).unwrap().is_none(), "the crowd may come back");
        assert_eq!(next_batch(&group), [5]);
    }
    assert!(group.push_or_lead(6).unwrap().is_some(), "the crowd is gone");
}

#[test]
fn closing_refuses_what_comes_and_serves_what_waits() {
    let group = group();
    let turn = group.push_or_lead(1).unwrap().unwrap();
    group.push(2).unwrap();
    group.close();
    assert_eq!(group.push(3), Err(Closed));
    assert!(matches!(group.push_or_lead(3), Err(Closed)));
    turn.serve(note);
    assert_eq!(next_batch(&group), [2]);
    assert!(group.next_turn().is_none());
    assert!(group.next_turn().is_none());
    assert!(!group.is_abandoned());
}

/// The end of the thread says that nobody writes any more: closing waits for it.
#[test]
fn the_thread_does_not_end_while_a_caller_writes() {
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
fn a_panic_takes_the_writer_with_it_and_lets_everybody_go() {
    let group = Group::new(LIMITS, Arc::new(()));
    let waits = Arc::new(());
    let turn = group.push_or_lead(Weighless(Arc::clone(&waits))).unwrap().unwrap();
    group.push(Weighless(Arc::clone(&waits))).unwrap();
    let panicked = catch_unwind(AssertUnwindSafe(|| turn.serve(|_, _| panic!("on purpose"))));
    assert!(panicked.is_err());
    assert_eq!(Arc::strong_count(&waits), 1, "somebody waits for a writer that is gone");
    assert!(group.is_abandoned());
    assert!(group.next_turn().is_none());
    assert_eq!(group.push(Weighless(waits)), Err(Closed));
}

#[derive(Debug, PartialEq)]
struct Weighless(Arc<()>);

impl Weigh for Weighless {
    fn bytes(&self) -> usize {
        0
    }
}

/// Callers that lead, callers that do not, and the thread, all at once: every request is served once, those of one
/// caller in their order, and never two at a time.
#[test]
fn nothing_is_lost_or_served_twice_when_the_turn_changes_hands() {
    const CALLERS: usize = 4;
    const REQUESTS: usize = 5_000;
    let group = Arc::new(Group::new(BatchLimits { commits: 3, bytes: usize::MAX }, Vec::<usize>::new()));
    let is_writing = AtomicBool::new(false);
    let written = std::sync::Mutex::new(Vec::new());
    let write = |_: &mut Vec<usize>, batch: Vec<usize>| {
        assert!(!is_writing.swap(true, Ordering::SeqCst), "two write at a time");
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
