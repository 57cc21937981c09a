//! Feeds whatever libFuzzer finds to what reads a moment.
#![no_main]

libfuzzer_sys::fuzz_target!(|text: &str| oa_fuzz::moment(text));
