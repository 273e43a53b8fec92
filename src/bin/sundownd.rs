//! `sundownd`: the daemon alone, as `sundown serve`, for service managers.

use std::io::Write;
use std::os::unix::process::CommandExt;
use std::process::{Command, ExitCode};

fn main() -> ExitCode {
    let own = std::env::current_exe().unwrap_or_default();
    let beside = own.with_file_name("sundown");
    let program = if beside.exists() { beside } else { "sundown".into() };
    let error = Command::new(&program).arg("serve").args(std::env::args_os().skip(1)).exec();
    let _ = writeln!(std::io::stderr(), "sundownd: cannot run {}: {error}", program.display());
    ExitCode::FAILURE
}
