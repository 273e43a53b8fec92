//! Bytes as what an account's server says to a mailbox.

#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| sundown_fuzz::account(bytes));
