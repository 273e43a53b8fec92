//! `docs/semantics.md`: every statement is listed, and every test that it names is there.

use std::collections::BTreeMap;
use std::path::PathBuf;

use super::{read, root};

/// The families of statements, and how many each has.
const FAMILIES: &[(&str, u32)] = &[
    ("SEED", 21),
    ("LOGON", 19),
    ("SHARE", 10),
    ("NOTIF", 33),
    ("OBJ", 7),
    ("QUEUE", 16),
    ("LOGOFF", 13),
    ("PLOG", 13),
    ("STAT", 8),
];

/// Statements about fast shutdown and external references that have no test. Whoever writes one takes its number off.
const UNTESTED: &[u32] = &[7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17, 18, 19, 20, 21];

/// Where the tests of a crate or of a test program begin.
const PLACES: &[(&str, &str)] = &[
    ("sundown", "src"),
    ("sundown_protocol", "protocol/src"),
    ("sundown_core", "broker/core/src"),
    ("sundown_providers", "broker/providers/src"),
    ("sundown_daemon", "broker/daemon/src"),
    ("sundown_client", "client-lib/src"),
    ("integration", "tests/integration"),
    ("house", "tests/house"),
    ("golden", "protocol/tests/golden.rs"),
    ("document", "protocol/tests/document.rs"),
    ("round_trip", "protocol/tests/round_trip.rs"),
    ("docs", "broker/daemon/tests/docs.rs"),
];

/// The rows: statement, summary, proof.
fn rows() -> BTreeMap<String, (String, String)> {
    let page = read(&root().join("docs/semantics.md"));
    let mut rows = BTreeMap::new();
    for line in page.lines() {
        let Some(row) = line.strip_prefix("| ").and_then(|l| l.strip_suffix(" |")) else {
            continue;
        };
        let cells: Vec<_> = row.split(" | ").collect();
        let [id, summary, proof] = cells[..] else { panic!("three cells: {line}") };
        if id == "id" {
            continue;
        }
        let before = rows.insert(id.to_owned(), (summary.to_owned(), proof.to_owned()));
        assert_eq!(before, None, "{id} is listed twice");
    }
    rows
}

/// The file that a test's path leads to: the longest part of the path that is one.
fn file_of(path: &[&str]) -> Option<PathBuf> {
    let (place, modules) = path.split_first()?;
    let base = root().join(PLACES.iter().find(|(name, _)| name == place)?.1);
    if base.is_file() {
        return Some(base);
    }
    (0..=modules.len()).rev().find_map(|length| {
        let folder = modules[..length].iter().fold(base.clone(), |at, module| at.join(module));
        let candidates =
            [folder.with_extension("rs"), folder.join("mod.rs"), folder.join("main.rs")];
        candidates.into_iter().find(|file| length > 0 && file.is_file())
    })
}

fn is_test(path: &str) -> bool {
    let parts: Vec<_> = path.split("::").collect();
    let Some((name, modules)) = parts.split_last() else { return false };
    let Some(file) = file_of(modules) else { return false };
    let text = read(&file);
    let signature = format!("fn {name}(");
    text.find(&signature).is_some_and(|at| {
        // The attributes stand right above it; in between there is nothing but more of them and comments.
        let above = text[..at].trim_end().lines().rev().take(12);
        above.take_while(|l| !l.trim().is_empty()).any(|l| l.trim() == "#[test]")
    })
}

#[test]
fn every_statement_is_listed() {
    let rows = rows();
    let all: usize = FAMILIES.iter().map(|(_, count)| *count as usize).sum();
    for (family, count) in FAMILIES {
        for number in 1..=*count {
            let id = format!("{family}-{number}");
            let (summary, proof) = rows.get(&id).unwrap_or_else(|| panic!("{id} is not listed"));
            assert!(summary.len() > 10, "{id} has no summary");
            assert!(!proof.is_empty(), "{id} has no proof");
        }
    }
    assert_eq!(rows.len(), all, "a row is about no statement");
}

#[test]
fn every_test_that_is_named_exists() {
    for (id, (_, proof)) in rows() {
        for test in proof.split('`').skip(1).step_by(2).filter(|word| word.contains("::")) {
            assert!(is_test(test), "{id}: there is no test {test}");
        }
    }
}

#[test]
fn nothing_else_is_without_a_test() {
    for (id, (_, proof)) in rows() {
        let seed = id.strip_prefix("SEED-").and_then(|number| number.parse().ok());
        let untested = seed.is_some_and(|number: u32| UNTESTED.contains(&number));
        if untested {
            assert!(proof.starts_with("no test yet"), "{id} has a test: take it off the list");
        } else if let Some(reason) = proof.strip_prefix("not taken up: ") {
            assert_eq!(seed, None, "{id} is a founding statement");
            assert!(reason.len() > 10, "{id} is not taken up for no reason");
        } else {
            assert!(proof.starts_with('`'), "{id} names no test: {proof}");
        }
    }
}
