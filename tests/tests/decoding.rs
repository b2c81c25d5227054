//! What must hold of decoding, over the inputs that fuzzing begins with, over changes of these, and over random bytes: the
//! short form of `cargo xtask fuzz`, on every run of the tests.
//!
//! `ES_DECODING=1000000` for long; `ES_SEED` for the same changes again.

use es_decoding::properties;
use es_decoding::seeds::{Target, seeds};
use es_tests::crash::{Random, number, seed};
use proptest::prelude::*;

/// Runs a property over seeds, and over as many changed ones as asked for.
fn holds(target: Target, property: fn(&[u8])) {
    let (seed, changes) = (seed(), number("ES_DECODING", 3_000));
    let mut random = Random::new(seed);
    let inputs = seeds(target);
    inputs.iter().for_each(|input| property(input));
    for change in 0..changes {
        let mut input = inputs[index(&mut random, inputs.len())].clone();
        for _ in 0..=random.below(4) {
            mutate(&mut input, &inputs, &mut random);
        }
        let shown = input.clone();
        let held = std::panic::catch_unwind(|| property(&input));
        assert!(
            held.is_ok(),
            "ES_SEED={seed}, change {change}: does not hold for {:?}",
            shown.escape_ascii().to_string()
        );
    }
}

fn index(random: &mut Random, bound: usize) -> usize {
    usize::try_from(random.below(bound.max(1) as u64)).expect("small")
}

/// One change, as fuzzers make them.
fn mutate(input: &mut Vec<u8>, others: &[Vec<u8>], random: &mut Random) {
    let at = index(random, input.len());
    match random.below(6) {
        0 if !input.is_empty() => input[at] ^= 1 << random.below(8),
        1 if !input.is_empty() => input[at] = random.pick(&[0, 1, 0x7f, 0x80, 0xff, b'"', b'{', b'0']),
        2 => input.truncate(at),
        3 => input.insert(at, u8::try_from(random.below(256)).expect("a byte")),
        4 => {
            let end = (at + 1 + index(random, 8)).min(input.len());
            let again = input.get(at..end).unwrap_or_default().to_vec();
            input.splice(at..at, again);
        }
        _ => {
            let other = &others[index(random, others.len())];
            let tail = other.get(index(random, other.len())..).unwrap_or_default();
            input.truncate(at);
            input.extend_from_slice(tail);
        }
    }
}

#[test]
fn records_hold() {
    holds(Target::Records, properties::records);
}

#[test]
fn keys_hold() {
    holds(Target::Keys, properties::keys);
}

#[test]
fn lines_hold() {
    holds(Target::Lines, properties::lines);
}

#[test]
fn imports_hold() {
    holds(Target::Imports, properties::imports);
}

/// Each bit of each record to begin with, and not only one.
#[test]
fn every_flipped_bit_of_a_record_is_refused_or_changes_nothing() {
    for input in seeds(Target::Records).iter().take(6) {
        properties::every_bit(input);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]
    #[test]
    fn random_bytes_hold(data in proptest::collection::vec(any::<u8>(), 0..600)) {
        properties::records(&data);
        properties::keys(&data);
        properties::lines(&data);
        properties::imports(&data);
    }
}
