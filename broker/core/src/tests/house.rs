//! The rules of this house, checked on its sources.

use std::path::Path;

fn sources(folder: &Path, found: &mut Vec<(String, String)>) {
    for entry in std::fs::read_dir(folder).expect("the sources are there") {
        let path = entry.expect("it can be read").path();
        let name = path.display().to_string();
        if path.is_dir() {
            if path.file_name().is_none_or(|name| name != "tests") {
                sources(&path, found);
            }
        } else if path.extension().is_some_and(|e| e == "rs") {
            let text = std::fs::read_to_string(&path).expect("it can be read");
            let text = text.split("#[cfg(test)]\nmod tests {").next().unwrap_or_default();
            found.push((name, text.to_owned()));
        }
    }
}

fn all() -> Vec<(String, String)> {
    let mut found = Vec::new();
    sources(&Path::new(env!("CARGO_MANIFEST_DIR")).join("src"), &mut found);
    assert!(found.len() > 15, "only {} files", found.len());
    found
}

/// design §1: the core has no thread, socket, file, clock, lock, environment or randomness.
#[test]
fn the_core_is_pure() {
    let forbidden = [
        "std::net",
        "std::fs",
        "std::env",
        "std::thread",
        "std::process",
        "std::io",
        "std::sync",
        "Instant",
        "SystemTime::now",
        "Mutex",
        "RwLock",
        "RefCell",
        "Atomic",
        "RandomState",
        "println!",
        "eprintln!",
        "dbg!",
        "unsafe",
    ];
    for (name, text) in all() {
        for word in forbidden {
            let code = text.lines().filter(|line| !line.trim_start().starts_with("//"));
            let found = code.clone().find(|line| line.contains(word));
            assert_eq!(found, None, "{name} uses {word}");
        }
    }
}

/// House rules: every module begins by saying what it is.
#[test]
fn every_module_says_what_it_is() {
    for (name, text) in all() {
        assert!(text.starts_with("//! "), "{name} does not say what it is");
    }
}

/// The machines of the core, the lowest first. What is not in one of them is the broker's, above all of them.
const FLOORS: [&str; 5] = ["ground", "peers", "providers", "queue", "sessions"];

/// What a line of code names of this crate, by its floor.
fn named(line: &str) -> impl Iterator<Item = (usize, &str)> {
    line.split("crate::").skip(1).map(|rest| {
        let name = rest.split(|c: char| !c.is_alphanumeric() && c != '_').next().unwrap_or("");
        (FLOORS.iter().position(|floor| *floor == name).unwrap_or(FLOORS.len()), name)
    })
}

/// Without what is only there for tests: an item behind `#[cfg(test)]` up to its end.
fn without_tests(text: &str) -> String {
    let mut kept = String::new();
    let mut lines = text.lines();
    while let Some(line) = lines.next() {
        if line.trim_start() == "#[cfg(test)]" {
            let indent = line.len() - line.trim_start().len();
            let ends = |l: &&str| {
                let is_out = l.len() - l.trim_start().len() == indent;
                is_out && (l.ends_with(';') || l.ends_with('}'))
            };
            lines.by_ref().find(ends);
        } else if !line.trim_start().starts_with("//") {
            kept.push_str(line);
            kept.push('\n');
        }
    }
    kept
}

/// Arrows point down: a machine imports nothing of a machine above it, nor the broker.
#[test]
fn machines_know_nothing_above_them() {
    let mut seen = [0; FLOORS.len()];
    for (name, text) in all() {
        let path = name.split("/src/").last().unwrap_or_default();
        let folder = path.split('/').next().unwrap_or_default();
        let Some(floor) = FLOORS.iter().position(|f| *f == folder) else { continue };
        if path.ends_with("/tests.rs") {
            continue;
        }
        seen[floor] += 1;
        for line in without_tests(&text).lines() {
            let above = named(line).find(|(of, _)| *of > floor);
            assert_eq!(above, None, "{path} knows what is above it: {line}");
        }
    }
    assert!(seen.iter().all(|files| *files > 2), "{seen:?}");
    assert_eq!(named("use crate::queue::plan::Plan;").next(), Some((3, "queue")));
    assert_eq!(without_tests("a\n#[cfg(test)]\nuse crate::broker::Broker;\nb\n"), "a\nb\n");
}
