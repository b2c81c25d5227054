//! The cost of the check that an event can be read back: encoding the content of an event alone, and encoding, decoding
//! and comparing it, as a command does before its commit. No store takes part.

use std::hint::black_box;
use std::time::{Duration, Instant};

use async_trait::async_trait;
use es_core::prelude::*;
use es_core::schema::{Codec, MessagePack};
use serde::{Deserialize, Serialize};

use super::Workload;
use crate::bench::Bench;
use crate::contender::Task;
use crate::domain::{Line, OrderEvent};
use crate::failure::Failure;
use crate::ours::ES_ROCKSDB;
use crate::report::stats::{Unit, median};

pub(crate) const ENCODE: &str = "encode";

/// The number of events that are timed together.
const BATCH: u32 = 1_000;

/// The event of [`OrderEvent`] in MessagePack.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, Event)]
#[event(codec = "msgpack")]
enum PackedEvent {
    #[event(name = "line-added")]
    Added(Line),
}

pub(crate) struct Encode;

#[async_trait]
impl Workload for Encode {
    fn name(&self) -> &'static str {
        ENCODE
    }

    fn about(&self) -> &'static str {
        "encoding one event of 200 bytes, with and without reading it back; no store"
    }

    fn task(&self) -> Task {
        Task::Project
    }

    fn is_ours_only(&self) -> bool {
        true
    }

    async fn run(&self, bench: &mut Bench) -> Result<(), Failure> {
        let line = Line { number: 7, sku: "sku-7".into(), quantity: 3, cents: 1250, note: "4815162342".repeat(14) };
        let (json, packed) = (OrderEvent::Added(line.clone()), PackedEvent::Added(line.clone()));
        for round in 0..bench.plan.rounds {
            bench.progress(ENCODE, &format!("round {}", round + 1));
            let time = bench.plan.seconds.div_f64(4.0);
            let figures = [
                ("JSON, encode", measure(time, || is_ok(serde_json::to_vec(&line)))),
                ("JSON, encode and read back", measure(time, || is_ok(json.encode_and_decode()))),
                ("MessagePack, encode", measure(time, || is_ok(MessagePack::encode(&line)))),
                ("MessagePack, encode and read back", measure(time, || is_ok(packed.encode_and_decode()))),
            ];
            for (case, figure) in figures {
                let figure = figure.ok_or_else(|| Failure::new("encode an event", "the event was refused"))?;
                bench.report.add(ENCODE, case, ES_ROCKSDB, Unit::Microseconds, figure);
            }
        }
        Ok(())
    }
}

fn is_ok<T, E>(result: Result<T, E>) -> bool {
    black_box(result).is_ok()
}

/// Returns the median duration of one call in microseconds, or `None` if a call failed.
fn measure(time: Duration, mut encode: impl FnMut() -> bool) -> Option<f64> {
    let (started, mut took) = (Instant::now(), Vec::new());
    while started.elapsed() < time || took.is_empty() {
        let begun = Instant::now();
        for _ in 0..BATCH {
            if !encode() {
                return None;
            }
        }
        took.push(begun.elapsed().as_secs_f64() * 1e6 / f64::from(BATCH));
    }
    Some(median(&took))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refused_event_is_not_measured() {
        assert!(measure(Duration::ZERO, || true).is_some_and(|micros| micros >= 0.0));
        assert_eq!(measure(Duration::ZERO, || is_ok::<(), _>(Err("refused"))), None);
    }
}
