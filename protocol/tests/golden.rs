//! The bytes of all versions: one line of `golden.txt` for each message. They may not change while its version is spoken.
//!
//! A message may be added at the end of its enum, together with a new version. After that,
//! `SUNDOWN_BLESS=1 cargo test -p sundown-protocol --test golden` writes the new lines; a line that was there before
//! and is different afterwards breaks every program that was built before.

mod samples;

use std::collections::BTreeSet;
use std::fmt::Write;
use std::path::Path;

const GOLDEN: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/golden.txt");

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut text, byte| {
        write!(text, "{byte:02x}").expect("a string takes everything");
        text
    })
}

#[test]
fn the_bytes_of_every_message_are_as_they_were() {
    let now: Vec<_> =
        samples::lines().iter().map(|(name, frame)| format!("{name} {}", hex(frame))).collect();
    if std::env::var_os("SUNDOWN_BLESS").is_some() {
        std::fs::write(GOLDEN, now.join("\n") + "\n").expect("written");
    }
    let golden = std::fs::read_to_string(Path::new(GOLDEN)).expect("the golden file is there");
    let golden: Vec<_> = golden.lines().collect();
    for line in &now {
        let name = line.split(' ').next().expect("a line has a name");
        let before = golden.iter().find(|golden| golden.split(' ').next() == Some(name));
        assert!(before.is_some(), "{name} has no golden line");
        assert_eq!(before, Some(&line.as_str()), "the bytes of {name} are not what they were");
    }
    for line in &golden {
        assert!(now.iter().any(|now| now == line), "a message is gone: {line}");
    }
}

#[test]
fn every_variant_has_a_line() {
    let lines = samples::lines();
    let named: BTreeSet<_> = lines.iter().map(|(name, _)| name.as_str()).collect();
    for (of, variants) in samples::ENUMS {
        for variant in *variants {
            let name = format!("{of}::{variant}");
            assert!(named.contains(name.as_str()), "{name} has no sample");
        }
    }
}
