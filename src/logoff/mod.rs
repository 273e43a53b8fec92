//! `sundown logoff`: join the current shared session, and leave it in the way that is asked for.

mod ask;
mod progress;

use std::process::ExitCode;

use serde_json::json;
use sundown_client::{Error, FaultDetail, Logoff, OnEndOfSession};

use crate::cli::{Autostart, Context, LogoffArguments, seconds};
use crate::output;

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
    // After a no the session goes on; this command was in it for the question only, and leaves alone.
    ask::first(arguments, &mapi, &session)?;
    let progress = progress::of(context, arguments, &session)?;
    let left = session.logoff(how).map_err(advise)?;
    drop(progress);
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
            text += &format!("{} (pid {}) did not leave and was put out\n", peer.program, peer.pid);
        }
        text
    });
    Ok(ExitCode::SUCCESS)
}

/// Whoever joins last does not own the session; the way out is named.
fn advise(error: Error) -> Error {
    match error.detail() {
        FaultDetail::Owner(_) => {
            let message = format!(
                "{error}. This command joined last and owns nothing: `--force` ends other people's session"
            );
            Error::new(error.code(), message).with_detail(error.detail().clone())
        }
        _ => error,
    }
}
