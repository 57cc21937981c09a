//! Feeds whatever libFuzzer finds to what reads JSON.
#![no_main]

libfuzzer_sys::fuzz_target!(|text: &str| oa_fuzz::canonical_json(text));
