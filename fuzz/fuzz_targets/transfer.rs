//! Bytes as a message that is converted for a server that takes less.

#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| sundown_fuzz::transfer(bytes));
