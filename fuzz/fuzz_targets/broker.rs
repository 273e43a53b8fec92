//! Bytes as a script of what clients, providers and time do to the broker.

#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| sundown_fuzz::broker(bytes));
