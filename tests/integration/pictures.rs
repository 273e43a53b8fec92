//! The pictures of the README can be made from the program as it is.

use std::path::Path;
use std::process::Command;

use crate::harness::{binary, run};

/// Every screen comes to show what its picture is about. Where there is no tmux or no Python, the test says "skipped".
#[test]
fn pictures_can_be_made() {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/pictures/make");
    if Command::new("python3").arg("--version").output().is_err() {
        println!("skipped: there is no python3");
        return;
    }
    let mut command = Command::new("python3");
    command.arg(script).arg("--check").env("SUNDOWN", binary());
    let made = run(command, "").ok();
    println!("{}", made.output);
    if !made.output.starts_with("skipped: ") {
        assert_eq!(made.output.matches(".svg: ").count(), 6, "{made:?}");
    }
}

/// Chromium keeps the spaces of a text only if the text itself says so, and not if what is around it does.
#[test]
fn spaces_of_pictures_are_kept() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/pictures");
    let mut looked_at = 0;
    for name in ["doctor", "logoff", "queue", "status", "tour", "wait"] {
        let text = std::fs::read_to_string(folder.join(format!("{name}.svg"))).expect("read");
        for line in text.lines().filter(|line| line.starts_with("<text ")) {
            assert!(line.contains(" xml:space=\"preserve\">"), "{name}: {line}");
            looked_at += 1;
        }
    }
    assert!(looked_at > 50, "{looked_at}");
}
