//! Bytes as what a program says to `sendmail -bs`.

#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| sundown_fuzz::dialogue(bytes));
