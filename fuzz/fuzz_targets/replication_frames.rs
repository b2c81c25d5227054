//! See `es_decoding::properties::wire_frames`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| es_decoding::properties::wire_frames(data));
