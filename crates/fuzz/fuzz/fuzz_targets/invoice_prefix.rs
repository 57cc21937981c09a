//! Feeds whatever libFuzzer finds to what reads an invoice.
#![no_main]

libfuzzer_sys::fuzz_target!(|text: &str| oa_fuzz::invoice_prefix(text));
