//! Bytes as a message whose Bcc is removed, and as an address list.

#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| sundown_fuzz::mail(bytes));
