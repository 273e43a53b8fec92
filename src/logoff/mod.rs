//! `sundown logoff`: joins the current shared session, and leaves it in the requested way.

mod ask;
mod progress;

use std::process::ExitCode;

use serde_json::json;
use sundown_client::{
    Error, FaultDetail, LoggedOff, Logoff, LogoffAnswer, OnEndOfSession, Session,
};

use crate::cli::{Autostart, Context, LogoffArguments, seconds};
use crate::output;
use progress::Waiting;

pub(crate) fn run(context: &Context, arguments: &LogoffArguments) -> Result<ExitCode, Error> {
    let mut how = match arguments.drain {
        Some(limit) => Logoff::after_outbound(seconds(limit)),
        None => Logoff::now(),
    };
    if arguments.shared {
        how = how.shared();
    }
    if arguments.force {
        how = how.force();
    }
    if arguments.wait {
        how = how.wait();
    }
    let mapi = context.initialize(Autostart::Yes)?;
    let session = mapi.logon(context.logon().no_mail().on_end_of_session(OnEndOfSession::Stay))?;
    let left = leave(context, arguments, &session, how)?;
    let stayed: Vec<_> = left.stayed.iter().map(output::peer).collect();
    let value = json!({
        "invalidated": left.invalidated,
        "discarded": left.discarded,
        "queued": left.queued,
        "stayed": stayed,
    });
    output::print(context.json, &value, || {
        let mut text = "logged off\n".to_owned();
        for peer in &left.stayed {
            text += &format!(
                "{} (pid {}) did not leave, and was removed from the session\n",
                peer.program, peer.pid
            );
        }
        text
    });
    Ok(ExitCode::SUCCESS)
}

/// Logs off, and first asks the person at a terminal. After a no the session goes on; this command joined it only for the question,
/// and leaves alone.
fn leave(
    context: &Context,
    arguments: &LogoffArguments,
    session: &Session,
    how: Logoff,
) -> Result<LoggedOff, Error> {
    let mut progress = progress::of(context, arguments, session)?;
    if !ask::is_wanted(arguments) {
        let _shown = progress.map(Waiting::begin);
        return session.logoff(how).map_err(advise);
    }
    let mut shown = None;
    let left = session.logoff_asking(how, |question| {
        let answer = ask::person(arguments, question);
        if answer == LogoffAnswer::LogOff {
            shown = progress.take().map(Waiting::begin);
        }
        answer
    });
    drop(shown);
    left.map_err(advise)
}

/// Adds the way out to a refusal: the member that joined last does not own the session.
fn advise(error: Error) -> Error {
    match error.detail() {
        FaultDetail::Owner(_) => {
            let message = format!(
                "{error}. This command joined last, so it does not own the session: `--force` ends it all the same, with the right admin"
            );
            Error::new(error.code(), message).with_detail(error.detail().clone())
        }
        _ => error,
    }
}
