//! Rules about sources: what every module has, and what only some may name.

use std::collections::BTreeSet;

use super::{files, read, root, shown};

/// The crates with their folders, and which of the others each may use.
const CRATES: &[(&str, &str, &[&str])] = &[
    ("sundown-protocol", "protocol", &[]),
    ("sundown-mail", "protocol/mail", &[]),
    ("sundown-core", "broker/core", &["sundown-mail", "sundown-protocol"]),
    (
        "sundown-providers",
        "broker/providers",
        &["sundown-core", "sundown-mail", "sundown-protocol"],
    ),
    (
        "sundown-daemon",
        "broker/daemon",
        &["sundown-core", "sundown-mail", "sundown-protocol", "sundown-providers"],
    ),
    ("sundown-client", "client-lib", &["sundown-mail", "sundown-protocol"]),
    ("sundown-test-addin", "tests/addin", &["sundown-client"]),
    ("sundown", ".", &["sundown-client", "sundown-daemon", "sundown-mail", "sundown-providers"]),
];

/// The part of a line that is code.
fn code(line: &str) -> &str {
    line.split("//").next().unwrap_or_default()
}

/// The files with a word in their code.
fn naming(word: &str) -> BTreeSet<String> {
    let found = files(root(), ".rs").into_iter().filter(|path| {
        !path.starts_with(root().join("tests/house"))
            && read(path).lines().any(|line| code(line).contains(word))
    });
    found.map(|path| shown(&path)).collect()
}

#[test]
fn every_module_begins_by_saying_what_it_is() {
    for path in files(root(), ".rs") {
        let text = read(&path);
        let first = text.lines().next().unwrap_or_default();
        let says = first.strip_prefix("//! ").is_some_and(|sentence| sentence.len() > 8);
        assert!(says, "{} does not begin with `//!` and a sentence", shown(&path));
    }
}

#[test]
fn one_file_names_the_codec() {
    let named = naming("bincode");
    assert_eq!(named, BTreeSet::from(["protocol/src/codec.rs".to_owned()]));
}

#[test]
fn few_files_name_the_socket_library() {
    let allowed = [
        "client-lib/src/link.rs",
        "broker/daemon/src/link.rs",
        "broker/daemon/src/server.rs",
        "broker/daemon/src/socket.rs",
    ];
    for file in naming("interprocess") {
        assert!(allowed.contains(&file.as_str()), "{file} names interprocess");
    }
}

#[test]
fn unsafe_code_is_where_it_is_expected() {
    let allowed = [
        "broker/daemon/src/platform.rs",
        "client-lib/src/process.rs",
        "benches/instructions/allocations.rs",
    ];
    for file in naming("unsafe {").into_iter().chain(naming("allow(unsafe_code)")) {
        let test = file.starts_with("tests/") || file.contains("/tests/");
        assert!(test || allowed.contains(&file.as_str()), "{file} has unsafe code");
    }
}

#[test]
fn nothing_is_left_for_later() {
    let later = [["TO", "DO"].concat(), ["FIX", "ME"].concat(), ["X", "XX"].concat()];
    let macros = [["to", "do!("].concat(), ["unimple", "mented!("].concat()];
    for path in files(root(), ".rs") {
        for (number, line) in read(&path).lines().enumerate() {
            let found = later.iter().chain(&macros).find(|word| line.contains(word.as_str()));
            assert_eq!(found, None, "{}:{}", shown(&path), number + 1);
        }
    }
}

/// What a manifest depends on when it is not tested.
fn dependencies(manifest: &str) -> BTreeSet<String> {
    let mut inside = false;
    let mut found = BTreeSet::new();
    for line in manifest.lines() {
        if let Some(section) = line.strip_prefix('[') {
            inside = section == "dependencies]";
        } else if inside && let Some((name, _)) = line.split_once(['.', ' ', '=']) {
            found.insert(name.to_owned());
        }
    }
    found
}

/// What is built is what is in the sources: our crates have no build scripts, and of those of others that have one it is
/// known that they compile C or look at the compiler, and fetch nothing. Whoever adds one looks before entering it here.
#[test]
fn no_build_script_fetches() {
    for (_, folder, _) in CRATES {
        assert!(!root().join(folder).join("build.rs").exists(), "{folder} has a build script");
        let manifest = read(&root().join(folder).join("Cargo.toml"));
        assert!(!manifest.lines().any(|line| line.starts_with("build =")), "{folder} has one");
    }
    // What build scripts fetch with, were there any. `git2`, `curl` and whatever speaks HTTP for others is not here.
    let lock = read(&root().join("Cargo.lock"));
    let fetching = ["reqwest", "ureq", "curl", "git2", "attohttpc", "hyper", "minreq", "isahc"];
    let names = lock.lines().filter_map(|line| line.strip_prefix("name = "));
    for name in names.map(|name| name.trim_matches('"')) {
        assert!(!fetching.contains(&name), "{name} can fetch while building");
    }
    // Everything comes from one place, with a checksum.
    let sources = lock.lines().filter(|line| line.starts_with("source = "));
    let registry = "source = \"registry+https://github.com/rust-lang/crates.io-index\"";
    assert!(sources.clone().count() > 50 && sources.clone().all(|source| source == registry));
    let checksums = lock.lines().filter(|line| line.starts_with("checksum = ")).count();
    assert_eq!(sources.count(), checksums, "a dependency has no checksum");
}

#[test]
fn arrows_between_crates_point_down() {
    for (name, folder, may_use) in CRATES {
        let manifest = read(&root().join(folder).join("Cargo.toml"));
        assert!(manifest.contains(&format!("name = \"{name}\"")), "{folder} is {name}");
        for used in dependencies(&manifest) {
            let ours = CRATES.iter().any(|(other, ..)| *other == used);
            assert!(!ours || may_use.contains(&used.as_str()), "{name} depends on {used}");
        }
    }
}

#[test]
fn the_protocol_and_the_core_need_little() {
    let protocol = dependencies(&read(&root().join("protocol/Cargo.toml")));
    assert_eq!(protocol, BTreeSet::from(["bincode".to_owned(), "serde".to_owned()]));
    let core = dependencies(&read(&root().join("broker/core/Cargo.toml")));
    // Hash functions are as pure as the core.
    let pure = ["hmac", "rustc-hash", "sha2", "sundown-mail", "sundown-protocol"];
    assert_eq!(core, BTreeSet::from(pure.map(str::to_owned)));
    let mail = dependencies(&read(&root().join("protocol/mail/Cargo.toml")));
    assert_eq!(mail, BTreeSet::from(["base64", "idna"].map(str::to_owned)));
    let forbidden = ["std::net", "std::fs", "std::env", "std::thread", "std::time::Instant"];
    for path in files(&root().join("protocol"), ".rs") {
        let text = read(&path);
        let inside = |folder: &str| path.starts_with(root().join(folder));
        let forbidden = forbidden.iter().filter(|_| inside("protocol/src"));
        let io = ["std::io", "std::time", "std::net", "std::fs", "std::env", "std::thread"];
        for word in forbidden.chain(io.iter().filter(|_| inside("protocol/mail"))) {
            assert!(!text.contains(word), "{} names {word}", shown(&path));
        }
    }
}

/// Only what runs the broker, or reads the same profiles, sees the daemon; but for the level it logs at.
#[test]
fn the_command_does_not_see_the_daemon() {
    for file in naming("sundown_daemon") {
        let inside = file.starts_with("broker/daemon/");
        let serves = ["src/serve.rs", "src/cli.rs", "src/provider.rs"].contains(&file.as_str());
        let profiles = file.starts_with("src/profile/");
        // Settings are fuzzed as the daemon reads them.
        let fuzzed = file == "fuzz/src/settings.rs";
        assert!(inside || serves || profiles || fuzzed, "{file} names the daemon");
    }
    for line in read(&root().join("src/cli.rs")).lines().filter(|l| l.contains("sundown_daemon")) {
        assert!(line.contains("DEFAULT_LEVEL"), "cli.rs uses the daemon: {line}");
    }
}
