//! What the examples share: their arguments, signals, and text of strangers.

use std::error::Error;
use std::process::{self, ExitCode};
use std::{env, io, thread};

use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::iterator::Signals;
use sundown_client::{EndReason, Logon, is_unseen};

pub(crate) type Failure = Box<dyn Error>;

/// Runs a program with its logon and its further arguments, and prints its error.
pub(crate) fn run(
    name: &str,
    usage: &str,
    program: impl FnOnce(Logon, Vec<String>) -> Result<(), Failure>,
) -> ExitCode {
    let mut arguments = env::args().skip(1).peekable();
    let mut logon = Ok(Logon::shared());
    if arguments.next_if(|argument| argument == "--profile").is_some() {
        let profile = arguments.next().ok_or("--profile needs the name of a profile".to_owned());
        logon = profile.map(|profile| Logon::shared().profile(profile));
    } else if let Some(option) = arguments.next_if(|argument| argument.starts_with('-')) {
        logon = Err(format!("{option} is no option: {usage}"));
    }
    match logon.map_err(Failure::from).and_then(|logon| program(logon, arguments.collect())) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{name}: {error}");
            ExitCode::FAILURE
        }
    }
}

/// Calls a function at the first SIGINT or SIGTERM. The second one ends the process, whatever it waits for.
pub(crate) fn at_signal(first: impl FnOnce() + Send + 'static) -> io::Result<()> {
    let mut signals = Signals::new([SIGINT, SIGTERM])?;
    thread::spawn(move || {
        let mut signals = signals.forever();
        signals.next();
        thread::spawn(first);
        process::exit(signals.next().map_or(1, |signal| 128 + signal));
    });
    Ok(())
}

/// Says that the session has ended. That is a failure, unless somebody ended it or stopped the broker.
pub(crate) fn ended(reason: EndReason) -> Result<(), Failure> {
    let what = format!("the session has ended: {}", reason.name());
    match reason {
        EndReason::SharedLogoff | EndReason::BrokerStopped => {
            eprintln!("{what}");
            Ok(())
        }
        EndReason::BrokerLost | EndReason::ReferenceLost | EndReason::StoreLost => Err(what.into()),
    }
}

/// Whether a call failed because the session is over or its broker away. What becomes of the session comes as a notice.
pub(crate) fn is_end(error: &sundown_client::Error) -> bool {
    let away = error.is_disconnected() || error.is_unreachable();
    away || error.is_end_of_session() || error.is_dead_handle()
}

/// Text that somebody else wrote, without what a terminal would obey or hide.
pub(crate) fn seen(text: &str) -> String {
    text.replace(is_unseen, "\u{fffd}")
}
