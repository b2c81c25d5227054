//! The limits of the engine: RocksDB written directly with the same number of keys and bytes per event, synced.

use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use rocksdb::{DB, Options, WriteBatch, WriteOptions};

use crate::file::{Gather, gather};
use crate::measure::{Contender, Failure, Load, Measured, Shape};

pub(crate) fn append(folder: &Path, load: Load, shape: Shape, how: Contender) -> Result<Measured, Failure> {
    let mut options = Options::default();
    options.create_if_missing(true);
    let database = DB::open(&options, folder).map_err(|error| Failure::new("open RocksDB", error))?;
    let numbers = AtomicU64::new(0);
    match how {
        Contender::EachThread => each_thread(&database, load, shape, &numbers),
        _ => gather(
            load,
            Gather {
                new: WriteBatch::default,
                add: |batch: &mut WriteBatch| put(batch, shape, numbers.fetch_add(1, Ordering::Relaxed)),
                write: |batch| write(&database, batch),
            },
        ),
    }
}

fn each_thread(database: &DB, load: Load, shape: Shape, numbers: &AtomicU64) -> Result<Measured, Failure> {
    let started = Instant::now();
    let deadline = started + load.duration;
    let events = std::thread::scope(|scope| {
        let writer = || {
            let mut events = 0;
            while Instant::now() < deadline {
                let mut batch = WriteBatch::default();
                put(&mut batch, shape, numbers.fetch_add(1, Ordering::Relaxed));
                write(database, batch)?;
                events += 1;
            }
            Ok::<u64, Failure>(events)
        };
        let writers: Vec<_> = (0..load.writers).map(|_| scope.spawn(writer)).collect();
        let joined =
            writers.into_iter().map(|writer| writer.join().unwrap_or_else(|_| Err(Failure::new("join", "panic"))));
        joined.sum::<Result<u64, Failure>>()
    })?;
    Ok(Measured { events, elapsed: started.elapsed() })
}

fn write(database: &DB, batch: WriteBatch) -> Result<(), Failure> {
    let mut options = WriteOptions::default();
    options.set_sync(true);
    database.write_opt(batch, &options).map_err(|error| Failure::new("write to RocksDB", error))
}

/// Adds one event: as many keys and as many bytes as the store writes; two of the values are the record.
fn put(batch: &mut WriteBatch, shape: Shape, number: u64) {
    const KEY: usize = 24;
    let record = shape.bytes.saturating_sub(shape.puts * KEY) / 2;
    let value = vec![number.to_be_bytes()[7]; record];
    for index in 0..shape.puts {
        let mut key = [0_u8; KEY];
        key[..8].copy_from_slice(&(index as u64).to_be_bytes());
        key[8..16].copy_from_slice(&number.to_be_bytes());
        batch.put(key, if index < 2 { value.as_slice() } else { &[] });
    }
}
