//! What fuzzing has found or come by is tried again: every file of the corpora, in the function it belongs to.
//!
//! `fuzz/run` looks for more; what it finds is put into `fuzz/corpus/` with the change that mends it.

use std::panic::catch_unwind;
use std::path::{Path, PathBuf};

/// The files of a corpus, in order of their names.
fn corpus(target: &str) -> Vec<PathBuf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/corpus").join(target);
    let entries = std::fs::read_dir(&folder).expect("each target has a corpus");
    let mut files: Vec<_> = entries.map(|entry| entry.expect("an entry").path()).collect();
    files.sort();
    files
}

#[test]
fn what_fuzzing_came_by_holds() {
    for (name, target) in sundown_fuzz::TARGETS {
        let files = corpus(name);
        assert!(files.len() >= 5, "the corpus of {name} is gone");
        for file in files {
            let bytes = std::fs::read(&file).expect("it reads");
            let held = catch_unwind(|| target(&bytes));
            assert!(held.is_ok(), "{name} does not hold for {}", file.display());
        }
    }
}

/// A target that nobody calls, or one without a corpus or its own file, would find nothing and say nothing.
#[test]
fn every_target_can_be_fuzzed() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz");
    let names = |folder: &str| {
        let entries = std::fs::read_dir(root.join(folder)).expect("a folder of fuzz");
        let name = |path: PathBuf| path.file_stem().expect("a name").to_string_lossy().into_owned();
        let mut names: Vec<_> = entries.map(|e| name(e.expect("an entry").path())).collect();
        names.sort();
        names
    };
    let mut targets = sundown_fuzz::TARGETS.map(|(name, _)| name.to_owned());
    targets.sort();
    assert_eq!(names("fuzz_targets"), targets);
    assert_eq!(names("corpus"), targets);
}
