//! `docs/semantics.md`: every statement is listed, and every test that it names is there.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

use super::{files, read, root, shown};

/// The families of statements, and how many each has.
const FAMILIES: &[(&str, u32)] = &[
    ("SEED", 21),
    ("LOGON", 19),
    ("SHARE", 10),
    ("NOTIF", 33),
    ("OBJ", 7),
    ("QUEUE", 16),
    ("FLUSH", 5),
    ("STORE", 14),
    ("INSTALL", 12),
    ("LOGOFF", 13),
    ("PLOG", 13),
    ("STAT", 8),
    ("CFS", 16),
    ("PFS", 8),
    ("ORDER", 8),
    ("STICK", 9),
    ("CFG", 10),
];

/// Families of which only some numbers are used, which the end of the page explains.
const EXPLAINED: &[&str] = &["A", "INIT", "SESS"];

/// Where the tests of a crate or of a test program begin.
const PLACES: &[(&str, &str)] = &[
    ("sundown", "src"),
    ("sundown_protocol", "protocol/src"),
    ("sundown_mail", "protocol/mail/src"),
    ("sundown_core", "broker/core/src"),
    ("sundown_providers", "broker/providers/src"),
    ("sundown_daemon", "broker/daemon/src"),
    ("sundown_client", "client-lib/src"),
    ("integration", "tests/integration"),
    ("faults", "tests/faults"),
    ("mail", "tests/mail"),
    ("power", "tests/power"),
    ("house", "tests/house"),
    ("golden", "protocol/tests/golden.rs"),
    ("document", "protocol/tests/document.rs"),
    ("round_trip", "protocol/tests/round_trip.rs"),
    ("docs", "broker/daemon/tests/docs.rs"),
    ("providers", "broker/daemon/tests/providers"),
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
        if cells.len() == 4 {
            continue;
        }
        let [id, summary, proof] = cells[..] else { panic!("three cells: {line}") };
        if id == "id" {
            continue;
        }
        let before = rows.insert(id.to_owned(), (summary.to_owned(), proof.to_owned()));
        assert_eq!(before, None, "{id} is listed twice");
    }
    rows
}

/// The rows of what holds when things go wrong: statement, a provider that hangs, a broker that is restarted, proof.
fn adversity() -> BTreeMap<String, [String; 3]> {
    let page = read(&root().join("docs/semantics.md"));
    let rows = page.lines().filter_map(|l| l.strip_prefix("| ")?.strip_suffix(" |"));
    let rows = rows.map(|row| row.split(" | ").map(str::to_owned).collect::<Vec<_>>());
    let rows = rows.filter_map(|cells| <[String; 4]>::try_from(cells).ok());
    rows.filter(|[id, ..]| id != "id")
        .map(|[id, hangs, restart, proof]| (id, [hangs, restart, proof]))
        .collect()
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

/// Each sentence of the founding texts also says what holds when a provider hangs at that point, and when a broker is
/// restarted there.
#[test]
fn the_founding_texts_hold_in_adversity() {
    let rows = adversity();
    for number in 1..=21 {
        let id = format!("SEED-{number}");
        let [hangs, restart, proof] = rows.get(&id).unwrap_or_else(|| panic!("{id} is not listed"));
        assert!(hangs.len() > 10 && restart.len() > 10, "{id} says nothing");
        let tests: Vec<_> =
            proof.split('`').skip(1).step_by(2).filter(|w| w.contains("::")).collect();
        assert!(!tests.is_empty(), "{id} has no proof");
        for test in tests {
            assert!(is_test(test), "{id}: there is no test {test}");
        }
    }
    assert_eq!(rows.len(), 21, "a row is about no sentence of theirs");
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
fn every_statement_has_a_test_or_is_not_taken_up() {
    for (id, (_, proof)) in rows() {
        if let Some(reason) = proof.strip_prefix("not taken up: ") {
            assert!(!id.starts_with("SEED-"), "{id} is a founding statement");
            assert!(reason.len() > 10, "{id} is not taken up for no reason");
        } else {
            assert!(proof.starts_with('`'), "{id} names no test: {proof}");
        }
    }
}

/// The numbers of a family in a text, as in `LOGOFF-7`.
fn numbers(text: &str, family: &str) -> BTreeSet<u32> {
    let word = format!("{family}-");
    let found = text.match_indices(&word).filter_map(|(at, _)| {
        let inside = text[..at].ends_with(|c: char| c.is_alphanumeric() || "-_".contains(c));
        let digits: String =
            text[at + word.len()..].chars().take_while(char::is_ascii_digit).collect();
        digits.parse().ok().filter(|_| !inside)
    });
    found.collect()
}

/// A number in a comment can be looked up.
#[test]
fn every_number_in_a_comment_is_known() {
    let page = read(&root().join("docs/semantics.md"));
    for path in files(root(), ".rs") {
        if path.starts_with(root().join("tests/house")) {
            continue;
        }
        let text = read(&path);
        let comments = text.lines().filter(|line| line.trim_start().starts_with("//"));
        let comments = comments.collect::<Vec<_>>().join("\n");
        for (family, count) in FAMILIES {
            let beyond = numbers(&comments, family).into_iter().find(|n| n > count);
            assert_eq!(beyond, None, "{} names a {family} that is not there", shown(&path));
        }
        for family in EXPLAINED {
            let explained = numbers(&page, family);
            let unknown = numbers(&comments, family).into_iter().find(|n| !explained.contains(n));
            assert_eq!(unknown, None, "{} names an {family} without meaning", shown(&path));
        }
    }
}
