//! `sundown serve`: the broker in the foreground.

use std::io::Write;
use std::path::PathBuf;
use std::process::ExitCode;

use sundown_client::paths::{Environment, Paths, Privileges};
use sundown_daemon::log;
use sundown_daemon::{Locations, Options, PassedError, Registry, Server, Starting, take_passed};

use crate::cli::{Context, ServeArguments};

pub(crate) fn run(context: &Context, arguments: &ServeArguments) -> ExitCode {
    sundown_daemon::take_umask();
    let detached = match arguments.detached.then(sundown_daemon::detach).transpose() {
        Ok(detached) => detached,
        Err(error) => return fail(arguments, &format!("cannot leave the terminal: {error}")),
    };
    let passed = match take_passed() {
        Ok(passed) => passed,
        Err(error) => return fail(arguments, &PassedError::Variables(error).to_string()),
    };
    let format = match context.log_format().parse::<log::Format>() {
        Ok(format) => format,
        Err(error) => return fail(arguments, &error.to_string()),
    };
    let long = if arguments.detached { log::Long::Rotated } else { log::Long::Left };
    let _log = match log::init(log::Options::to_stderr(context.log_level(), format, long)) {
        Ok(guard) => guard,
        Err(error) => return fail(arguments, &error.to_string()),
    };
    let paths = match context.own() {
        Ok(paths) => paths,
        Err(error) => return fail(arguments, &error.to_string()),
    };
    let starting = arguments.detached.then(Starting::begin);
    let server = Server::start(Options {
        locations: locations(paths),
        registry: Registry::shipped(),
        passed,
    });
    if let Err(error) = &server
        && error.is_running()
        && arguments.detached
    {
        // The log is the other broker's.
        say(&error.to_string());
        return ExitCode::FAILURE;
    }
    if let Some(detached) = detached {
        detached.note();
    }
    for ignored in Environment::of_this_process().ignored() {
        log::warn(ignored);
    }
    let server = match server {
        Ok(server) => server,
        Err(error) => return fail(arguments, &error.to_string()),
    };
    if let Some(starting) = starting {
        starting.ready();
        say("ready");
        sundown_daemon::let_go_of_output();
    }
    match server.run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => fail(arguments, &error.to_string()),
    }
}

/// Where the broker with these paths is.
pub(crate) fn locations(paths: &Paths) -> Locations {
    let paths = paths.clone();
    Locations {
        socket: paths.socket,
        data: paths.data,
        settings: paths.settings,
        required: paths.required,
        profiles: paths.profiles,
        home: paths.home,
        runtime: service_directory(),
    }
}

/// The runtime directory that a service manager made for this service, the first if it made several.
fn service_directory() -> Option<PathBuf> {
    let directories = std::env::var_os("RUNTIME_DIRECTORY")
        .filter(|_| Privileges::of_this_process() == Privileges::Ordinary)?;
    std::env::split_paths(&directories).next().filter(|path| path.is_absolute())
}

/// Whoever started it in the background reads standard output; everybody else standard error.
fn fail(arguments: &ServeArguments, why: &str) -> ExitCode {
    if arguments.detached {
        say(why);
    }
    log::say_failure(why);
    ExitCode::FAILURE
}

/// Says a line to the program that started it, which may not wait for it any more.
fn say(line: &str) {
    let mut output = std::io::stdout().lock();
    let _ = writeln!(output, "{line}").and_then(|()| output.flush());
}
