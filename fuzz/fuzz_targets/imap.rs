//! Bytes as what an IMAP server says.

#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| sundown_fuzz::imap(bytes));
