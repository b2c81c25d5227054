//! See `es_decoding::properties::log_records`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| es_decoding::properties::log_records(data));
