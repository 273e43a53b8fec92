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
