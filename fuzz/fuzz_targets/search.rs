//! Bytes as a message that is put into an index, and as what is typed to search.

#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| sundown_fuzz::search(bytes));
