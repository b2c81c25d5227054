//! Vector clocks without retired origins: every node reads a stored clock as it was before the entries were removed.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::num::NonZeroU64;

use es_core::model::{Dot, Entropy, OriginId, RetiredOrigins, VectorClock};
use es_core::testing::SeededEntropy;

/// The number of nodes. Each of them can take several origins.
const NODES: usize = 3;
const SEEDS: u64 = 2_000;
const STEPS: usize = 40;

/// An event: the full clock of its node, and the one that is stored.
#[derive(Debug, Clone)]
struct Event {
    full: VectorClock,
    stored: VectorClock,
    retires: Option<VectorClock>,
}

#[derive(Debug, Clone, Default)]
struct Node {
    origin: u64,
    events: BTreeMap<Dot, Event>,
    clock: VectorClock,
}

impl Node {
    fn retired(&self) -> RetiredOrigins {
        let retired = RetiredOrigins::default();
        retired.set(self.events.iter().filter_map(|(dot, event)| Some((*dot, event.retires.clone()?))));
        retired
    }

    fn write(&mut self, retires: Option<VectorClock>) {
        let origin = OriginId::new(self.origin);
        let last = self.clock.get(origin);
        let dot = Dot { origin, sequence: last.map_or(NonZeroU64::MIN, |last| last.saturating_add(1)) };
        let full: VectorClock = self.clock.iter().filter(|dot| dot.origin != origin).collect();
        let stored = self.retired().compress(&full);
        self.events.insert(dot, Event { full, stored, retires });
        self.clock.extend([dot]);
    }
}

/// Nodes write, pull, take new origins, and retire any origins that they know, dead or not.
fn run(seed: u64) -> Vec<Node> {
    let random = SeededEntropy::new(seed);
    let choose = |count: usize| random.next_u64() as usize % count;
    let mut nodes: Vec<Node> = (1..=NODES as u64).map(|origin| Node { origin, ..Node::default() }).collect();
    let mut next = NODES as u64 + 1;
    for _ in 0..STEPS {
        let node = choose(NODES);
        match choose(10) {
            0..4 => nodes[node].write(None),
            4..7 => {
                let Node { events, clock, .. } = nodes[choose(NODES)].clone();
                nodes[node].events.extend(events);
                nodes[node].clock.merge(&clock);
            }
            7 => {
                nodes[node].origin = next;
                next += 1;
            }
            _ => {
                let known = nodes[node].clock.clone();
                let retires = known.iter().filter(|_| choose(2) == 0).collect();
                nodes[node].write(Some(retires));
            }
        }
    }
    nodes
}

/// The clock is that of the node that wrote it, whichever retirements the reader knows besides.
#[test]
fn a_stored_clock_is_read_as_it_was() {
    let mut compressed = 0;
    for seed in 0..SEEDS {
        for node in run(seed) {
            let retired = node.retired();
            for (dot, event) in &node.events {
                assert_eq!(*retired.expand(*dot, &event.stored), event.full, "seed {seed}, event {dot}");
                compressed += u64::from(event.stored != event.full);
            }
        }
    }
    assert!(compressed > 10_000, "only {compressed} clocks were shorter");
}

#[test]
fn a_clock_without_retired_origins_is_stored_and_read_as_it_is() {
    let dot =
        |origin, sequence: u64| Dot { origin: OriginId::new(origin), sequence: sequence.try_into().expect("from 1") };
    let clock: VectorClock = [dot(1, 3), dot(2, 5)].into_iter().collect();
    let retired = RetiredOrigins::default();
    assert_eq!(retired.compress(&clock), clock);
    assert!(matches!(retired.expand(dot(3, 1), &clock), Cow::Borrowed(_)));
    // A retirement that the clock does not include changes nothing.
    retired.set([(dot(4, 1), [dot(1, 9)].into_iter().collect())]);
    assert_eq!(*retired.expand(dot(3, 1), &clock), clock);
    // An event of the origin after its retirement is not implied.
    assert_eq!(retired.compress(&[dot(1, 10)].into_iter().collect()), [dot(1, 10)].into_iter().collect());
}
