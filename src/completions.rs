//! `sundown completions`: what makes a shell complete the words of this command.

use std::process::ExitCode;

use clap::CommandFactory;
use sundown_client::Error;

use crate::cli::{Cli, Shell};
use crate::output;

pub(crate) fn run(shell: Shell) -> Result<ExitCode, Error> {
    output::print_bytes(&script(shell))?;
    Ok(ExitCode::SUCCESS)
}

/// It is put together in memory, because the generator panics when its reader goes away.
fn script(shell: Shell) -> Vec<u8> {
    let generator = match shell {
        Shell::Bash => clap_complete::Shell::Bash,
        Shell::Zsh => clap_complete::Shell::Zsh,
        Shell::Fish => clap_complete::Shell::Fish,
    };
    let mut script = Vec::new();
    clap_complete::generate(generator, &mut Cli::command(), "sundown", &mut script);
    script
}
