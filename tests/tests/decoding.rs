//! The properties of decoding, checked on the fuzzing seeds, on mutations of them, and on random bytes. This is the
//! short form of `cargo xtask fuzz`.
//!
//! `ES_DECODING=1000000` runs the long form; `ES_SEED` repeats the mutations of a run.

use es_decoding::properties;
use es_decoding::seeds::{Target, seeds};
use es_tests::crash::{Random, number, seed};
use proptest::prelude::*;

/// Checks a property on all seeds and on `ES_DECODING` mutated inputs.
fn check(target: Target, property: fn(&[u8])) {
    check_one_in(1, target, property);
}

/// Checks a slow property on a part of the mutated inputs.
fn check_one_in(share: u64, target: Target, property: fn(&[u8])) {
    let (seed, mutations) = (seed(), number("ES_DECODING", 3_000) / share);
    let mut random = Random::new(seed);
    let inputs = seeds(target);
    inputs.iter().for_each(|input| property(input));
    for mutation in 0..mutations {
        let mut input = inputs[index(&mut random, inputs.len())].clone();
        for _ in 0..=random.below(4) {
            mutate(&mut input, &inputs, &mut random);
        }
        let result = std::panic::catch_unwind(|| property(&input));
        assert!(
            result.is_ok(),
            "ES_SEED={seed}, mutation {mutation}: the property does not hold for {:?}",
            input.escape_ascii().to_string()
        );
    }
}

fn index(random: &mut Random, bound: usize) -> usize {
    usize::try_from(random.below(bound.max(1) as u64)).expect("small")
}

/// Applies one random mutation, as fuzzers do.
fn mutate(input: &mut Vec<u8>, others: &[Vec<u8>], random: &mut Random) {
    let at = index(random, input.len());
    match random.below(6) {
        0 if !input.is_empty() => input[at] ^= 1 << random.below(8),
        1 if !input.is_empty() => input[at] = random.pick(&[0, 1, 0x7f, 0x80, 0xff, b'"', b'{', b'0']),
        2 => input.truncate(at),
        3 => input.insert(at, u8::try_from(random.below(256)).expect("a byte")),
        4 => {
            let end = (at + 1 + index(random, 8)).min(input.len());
            let repeated = input.get(at..end).unwrap_or_default().to_vec();
            input.splice(at..at, repeated);
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
fn lines_have_the_decoding_properties() {
    check(Target::Lines, properties::lines);
}

#[test]
fn imports_have_the_decoding_properties() {
    check(Target::Imports, properties::imports);
}

#[test]
fn frames_have_the_decoding_properties() {
    check(Target::Frames, properties::frames);
}

#[test]
fn records_of_the_log_have_the_decoding_properties() {
    check(Target::LogRecords, properties::log_records);
}

#[test]
fn compressed_segments_have_the_decoding_properties() {
    check_one_in(10, Target::Segments, properties::segments);
}

#[test]
fn frames_of_the_replication_have_the_decoding_properties() {
    check(Target::WireFrames, properties::wire_frames);
}

/// A peer with a valid certificate that sends anything.
#[test]
fn a_hostile_session_harms_no_data() {
    check_one_in(10, Target::Sessions, properties::sessions);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]
    #[test]
    fn random_bytes_have_the_decoding_properties(data in proptest::collection::vec(any::<u8>(), 0..600)) {
        properties::lines(&data);
        properties::imports(&data);
        properties::frames(&data);
        properties::log_records(&data);
        properties::segments(&data);
        properties::wire_frames(&data);
        properties::sessions(&data);
    }
}
