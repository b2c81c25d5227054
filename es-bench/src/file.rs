//! The limit of the disk, and what both gathering limits have in common: one thread serves all that wait with one sync.

use std::fs::File;
use std::io::Write;
use std::path::Path;
use std::sync::mpsc::{Receiver, SyncSender, TryRecvError, sync_channel};
use std::time::Instant;

use crate::measure::{Failure, Load, Measured, Shape};
use crate::store::PATIENCE;

/// How the gathering thread makes, fills and writes a batch.
pub(crate) struct Gather<N, A, W> {
    pub(crate) new: N,
    pub(crate) add: A,
    pub(crate) write: W,
}

pub(crate) fn append(folder: &Path, load: Load, shape: Shape) -> Result<Measured, Failure> {
    std::fs::create_dir_all(folder).map_err(|error| Failure::new("make a folder", error))?;
    let mut file = File::create(folder.join("log")).map_err(|error| Failure::new("make a file", error))?;
    let event = vec![b'x'; shape.bytes];
    gather(
        load,
        Gather {
            new: Vec::new,
            add: |batch: &mut Vec<u8>| batch.extend_from_slice(&event),
            write: |batch: Vec<u8>| {
                file.write_all(&batch).and_then(|()| file.sync_data()).map_err(|error| Failure::new("write", error))
            },
        },
    )
}

/// Lets writers hand events to this thread, which writes what waits at once and then answers.
pub(crate) fn gather<B>(
    load: Load,
    mut how: Gather<impl Fn() -> B, impl FnMut(&mut B), impl FnMut(B) -> Result<(), Failure>>,
) -> Result<Measured, Failure> {
    let started = Instant::now();
    let deadline = started + load.duration;
    let (requests, waiting) = sync_channel::<SyncSender<()>>(load.writers as usize);
    std::thread::scope(|scope| {
        for _ in 0..load.writers {
            let requests = requests.clone();
            scope.spawn(move || hand_over(&requests, deadline));
        }
        drop(requests);
        let mut events = 0;
        while let Ok(first) = waiting.recv() {
            let askers = all_that_wait(first, &waiting);
            let mut batch = (how.new)();
            askers.iter().for_each(|_| (how.add)(&mut batch));
            (how.write)(batch)?;
            events += askers.len() as u64;
            for asker in askers {
                // NOTE: an error says that the writer has ended.
                let _ = asker.send(());
            }
        }
        Ok(Measured { events, elapsed: started.elapsed() })
    })
}

fn hand_over(requests: &SyncSender<SyncSender<()>>, deadline: Instant) {
    let (answer, answered) = sync_channel(1);
    while Instant::now() < deadline {
        if requests.send(answer.clone()).is_err() || answered.recv_timeout(PATIENCE).is_err() {
            return;
        }
    }
}

fn all_that_wait(first: SyncSender<()>, waiting: &Receiver<SyncSender<()>>) -> Vec<SyncSender<()>> {
    let mut askers = vec![first];
    loop {
        match waiting.try_recv() {
            Ok(asker) => askers.push(asker),
            Err(TryRecvError::Empty | TryRecvError::Disconnected) => return askers,
        }
    }
}
