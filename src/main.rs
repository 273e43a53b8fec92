//! The `sundown` command: one file for each subcommand.
//!
//! What scripts rely on, options, `--json` keys and exit statuses, is in `docs/command.md`.

// A closed pipe is an error to be looked at, and these panic.
#![deny(clippy::print_stdout, clippy::print_stderr)]

mod bounded;
mod cli;
mod completions;
mod doctor;
mod examples;
mod grid;
mod handover;
mod keys;
mod logoff;
mod mailboxes;
mod man;
mod output;
mod profile;
mod progress;
mod provider;
mod queue;
mod reading;
mod safe;
mod screen;
mod send;
mod sendmail;
mod serve;
mod shell;
mod status;
mod stop;
mod table;
mod terminal;
mod tour;
mod watch;

use std::process::ExitCode;

fn main() -> ExitCode {
    let cli = cli::Cli::of_this_process();
    // These two are about the command itself, also where there is no place for a broker.
    let described = match &cli.command {
        cli::Command::Completions(arguments) => Some(completions::run(arguments.shell)),
        cli::Command::Man(arguments) => Some(man::run(arguments.dir.as_deref())),
        _ => None,
    };
    match described {
        Some(result) => result.unwrap_or_else(|error| output::fail(cli.options.json, &error)),
        None => run(cli),
    }
}

fn run(cli: cli::Cli) -> ExitCode {
    let context = match cli.options.resolve() {
        Ok(context) => context,
        Err(error) if cli.command.is_sendmail() => return sendmail::misconfigured(&error),
        Err(error) => return output::fail(cli.options.json, &error),
    };
    if cli.command.needs_settings()
        && let Err(error) = profile::mistakes::required(&context)
    {
        return output::fail(context.json, &error);
    }
    let result = match cli.command {
        cli::Command::Serve(arguments) => return serve::run(&context, &arguments),
        cli::Command::Tour => return tour::run(&context),
        cli::Command::Shell => shell::run(&context),
        cli::Command::Sendmail(arguments) => return sendmail::run(&context, &arguments.words),
        cli::Command::Send(arguments) => send::run(&context, &arguments),
        cli::Command::Status(arguments) => status::run(&context, &arguments),
        cli::Command::Queue(arguments) => queue::run(&context, &arguments),
        cli::Command::Inbox(arguments) => reading::inbox(&context, &arguments),
        cli::Command::Read(arguments) => reading::read(&context, &arguments),
        cli::Command::Search(arguments) => reading::search(&context, &arguments),
        cli::Command::Folders => reading::folders(&context),
        cli::Command::Sync(arguments) => mailboxes::sync(&context, &arguments),
        cli::Command::Mailbox => mailboxes::list(&context),
        cli::Command::Logoff(arguments) => logoff::run(&context, &arguments),
        cli::Command::Profile(arguments) => profile::run(&context, &arguments),
        cli::Command::Provider(arguments) => provider::run(&context, &arguments),
        cli::Command::Stop(arguments) => stop::run(&context, &arguments),
        cli::Command::Doctor => return doctor::run(&context),
        cli::Command::Completions(arguments) => completions::run(arguments.shell),
        cli::Command::Man(arguments) => man::run(arguments.dir.as_deref()),
    };
    result.unwrap_or_else(|error| output::fail(context.json, &error))
}
