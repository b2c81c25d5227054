//! See `es_decoding::properties::sessions`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| es_decoding::properties::sessions(data));
