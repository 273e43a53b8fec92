//! The progress of a logoff: how much of its mail is sent, and which other members are still there.

use sundown_client::{Error, Mapi, MemberId, Session, SessionId};

use crate::cli::{Autostart, Context, LogoffArguments};
use crate::progress::{Progress, Step};

/// How many names are shown.
const NAMED: usize = 3;

/// What is needed to show the progress of a logoff.
pub(super) struct Waiting {
    mapi: Mapi,
    json: bool,
    stays: &'static str,
    session: SessionId,
    member: MemberId,
    for_others: bool,
}

/// The progress to show; `None` for a logoff that does not wait.
pub(super) fn of(
    context: &Context,
    arguments: &LogoffArguments,
    session: &Session,
) -> Result<Option<Waiting>, Error> {
    if arguments.drain.is_none() && !arguments.wait {
        return Ok(None);
    }
    let stays = if arguments.shared {
        "the session still ends for all programs, and queued mail stays in the queue"
    } else {
        "this command has left the session, and queued mail stays in the queue"
    };
    Ok(Some(Waiting {
        mapi: context.initialize(Autostart::No)?,
        json: context.json,
        stays,
        session: session.id(),
        member: session.member(),
        for_others: arguments.wait,
    }))
}

impl Waiting {
    /// Shows the progress from now on.
    pub(super) fn begin(self) -> Progress {
        let Self { mapi, json, stays, session, member, for_others } = self;
        let mut most = 0;
        let look = move || step(&mapi, session, member, for_others, &mut most);
        Progress::begin(json, stays, look)
    }
}

/// A step of the progress. While this command is a member, it waits for mail, or for the processes that hold objects that it
/// granted; after that for the other members.
fn step(
    mapi: &Mapi,
    id: SessionId,
    member: MemberId,
    waits: bool,
    most: &mut usize,
) -> Option<Step> {
    let session = mapi.status().ok()?.sessions.into_iter().find(|session| session.id == id)?;
    let (own, others): (Vec<_>, Vec<_>) =
        session.members.into_iter().partition(|other| other.id == member);
    if !own.is_empty() || !waits {
        return Some(Step { what: "waiting for mail to go out".into(), ..Step::default() });
    }
    *most = others.len().max(*most);
    let names: Vec<_> = others.iter().take(NAMED).map(|m| m.peer.program.as_str()).collect();
    let more = others.len().saturating_sub(NAMED);
    let more = if more > 0 { format!(" and {more} more") } else { String::new() };
    Some(Step {
        what: format!("waiting for {}{more} to leave", names.join(", ")),
        done: (*most - others.len()) as u64,
        left: others.len() as u64,
        next_try: None,
    })
}
