//! The `sundown` command: one file for each subcommand.
//!
//! What scripts rely on, options, `--json` keys and exit statuses, is in `docs/command.md`.

mod cli;
mod logoff;
mod output;
mod profile;
mod provider;
mod queue;
mod send;
mod sendmail;
mod serve;
mod shell;
mod status;
mod stop;
mod tour;

use std::process::ExitCode;

fn main() -> ExitCode {
    let cli = cli::Cli::of_this_process();
    let context = match cli.options.resolve() {
        Ok(context) => context,
        Err(error) if cli.command.is_sendmail() => return sendmail::misconfigured(&error),
        Err(error) => return output::fail(cli.options.json, &error),
    };
    let result = match cli.command {
        cli::Command::Serve(arguments) => return serve::run(&context, &arguments),
        cli::Command::Tour => return tour::run(&context),
        cli::Command::Shell => shell::run(&context),
        cli::Command::Sendmail(arguments) => return sendmail::run(&context, &arguments.words),
        cli::Command::Send(arguments) => send::run(&context, &arguments),
        cli::Command::Status(arguments) => status::run(&context, &arguments),
        cli::Command::Queue(arguments) => queue::run(&context, &arguments),
        cli::Command::Logoff(arguments) => logoff::run(&context, &arguments),
        cli::Command::Profile(arguments) => profile::run(&context, &arguments),
        cli::Command::Provider(arguments) => provider::run(&context, &arguments),
        cli::Command::Stop(arguments) => stop::run(&context, &arguments),
    };
    result.unwrap_or_else(|error| output::fail(context.json, &error))
}
