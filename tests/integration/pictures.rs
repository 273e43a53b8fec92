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
