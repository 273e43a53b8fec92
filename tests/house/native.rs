//! Native code that crates bundle is known, and new enough.

use std::collections::BTreeMap;

use crate::{read, root};

type Version = Vec<u64>;

fn version(text: &str) -> Version {
    let number = |part: &str| part.parse().unwrap_or_else(|_| panic!("{text} is no version"));
    text.split('.').map(number).collect()
}

/// The packages of a lock file that compile C: they depend on `cc`.
fn compile_c(lock: &str) -> Vec<(String, Version)> {
    let field = |package: &str, name: &str| {
        let line = package.lines().find_map(|line| line.strip_prefix(name));
        line.map(|value| value.trim_matches('"').to_owned())
    };
    let packages = lock.split("[[package]]").filter(|package| {
        package.lines().any(|line| line == " \"cc\"," || line.starts_with(" \"cc "))
    });
    let found = packages.filter_map(|package| {
        let (name, found) = (field(package, "name = ")?, field(package, "version = ")?);
        Some((name, version(&found)))
    });
    found.collect()
}

#[test]
fn native_libraries_are_known_and_new_enough() {
    let list = read(&root().join("tests/house/native.txt"));
    let lines = list.lines().filter(|line| !line.starts_with('#'));
    let mut least: BTreeMap<&str, Version> = lines
        .map(|line| {
            let mut words = line.splitn(3, ' ');
            let mut word = || words.next().unwrap_or_else(|| panic!("three fields: {line}"));
            let (name, least, _reason) = (word(), version(word()), word());
            (name, least)
        })
        .collect();
    let locks = ["Cargo.lock", "fuzz/Cargo.lock"].map(|lock| read(&root().join(lock)));
    let found: Vec<_> = locks.iter().flat_map(|lock| compile_c(lock)).collect();
    for (name, version) in &found {
        let least = least.get(name.as_str());
        let least = least.unwrap_or_else(|| panic!("{name} compiles C and is not in native.txt"));
        assert!(version >= least, "{name} {version:?} is older than {least:?}");
    }
    least.retain(|name, _| found.iter().all(|(found, _)| found != name));
    assert!(least.is_empty(), "nothing bundles {least:?} any more");
}
