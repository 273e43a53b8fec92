//! Logging off: in which way, what comes of it, and the question before it.

use std::collections::{BTreeSet, VecDeque};
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use sundown_protocol::reply::{LoggedOn, MemberStatus, Peer, QueueRow};
use sundown_protocol::request::LogoffFlags;
use sundown_protocol::{Code, EntryId, MemberId, SessionId, Version};

use crate::error::Error;
use crate::link::SharedLink;
use crate::session::SessionState;

/// How to log off (`IMAPISession::Logoff`).
#[derive(Debug, Clone, Copy)]
pub struct Logoff {
    pub(crate) flags: LogoffFlags,
    pub(crate) drain: Option<Duration>,
}

impl Logoff {
    /// At once. What was handed over stays in the queue and is sent.
    pub fn now() -> Self {
        Self { flags: LogoffFlags::default(), drain: None }
    }

    /// After this session's outbound mail was processed, or at the deadline.
    pub fn after_outbound(deadline: Duration) -> Self {
        Self { drain: Some(deadline), ..Self::now() }
    }

    /// Because of a critical error: at once, whatever else was said.
    pub fn critical_error() -> Self {
        Self { flags: LogoffFlags::CRITICAL, ..Self::now() }
    }

    /// And end the shared session for everybody (`MAPI_LOGOFF_SHARED`).
    #[must_use]
    pub fn shared(mut self) -> Self {
        self.flags = self.flags.with(LogoffFlags::SHARED);
        self
    }

    /// Also as one who does not own the shared session; takes the right *admin*.
    #[must_use]
    pub fn force(mut self) -> Self {
        self.flags = self.flags.with(LogoffFlags::FORCE);
        self
    }

    /// Return when the others have left, or were put out.
    #[must_use]
    pub fn wait(mut self) -> Self {
        self.flags = self.flags.with(LogoffFlags::WAIT);
        self
    }

    /// The program was asked, and said yes (`MAPI_LOGOFF_UI`).
    pub(crate) fn asked(mut self) -> Self {
        self.flags = self.flags.with(LogoffFlags::UI);
        self
    }

    /// The flags as this broker knows them.
    pub(crate) fn flags_for(self, link: &SharedLink) -> LogoffFlags {
        let LogoffFlags(flags) = self.flags;
        if link.speaks(Version::V3) { self.flags } else { LogoffFlags(flags & !LogoffFlags::UI.0) }
    }
}

/// How a logoff went.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct LoggedOff {
    /// Objects that were still open and are invalid now.
    pub invalidated: u64,
    /// Unsaved drafts that were thrown away.
    pub discarded: u64,
    /// This session's submissions that are not final; they stay in the queue.
    pub queued: u64,
    /// With [`Logoff::wait`]: who was put out.
    pub stayed: Vec<Peer>,
}

/// What a program is asked before a logoff that it wants to be asked about: what is at stake. Each answer is fetched from the
/// broker when it is called for.
pub struct LogoffQuestion<'session> {
    session: &'session Arc<SessionState>,
    how: Logoff,
}

/// What a program says to that.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LogoffAnswer {
    /// Go on.
    LogOff,
    /// Do nothing: the logoff is `MAPI_E_USER_CANCEL`, and the session is as it was.
    Cancel,
}

/// The session's outgoing mail that is not final.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct QueuedMail {
    /// How many messages; a user without the right *session* is told of their own alone.
    pub total: u64,
    /// How many of them this member submitted: of the 1,024 that it submitted last.
    pub own: u64,
    /// The first of them, at most [`QueuedMail::SHOWN`].
    pub rows: Vec<QueueRow>,
}

impl QueuedMail {
    /// How many messages are named; the others are counted.
    pub const SHOWN: usize = 256;
}

impl fmt::Debug for LogoffQuestion<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "LogoffQuestion({} in {})", self.member(), self.session())
    }
}

impl<'session> LogoffQuestion<'session> {
    pub(crate) fn new(session: &'session Arc<SessionState>, how: Logoff) -> Self {
        Self { session, how }
    }

    /// The session's number with this broker.
    pub fn session(&self) -> SessionId {
        self.session.facts().session
    }

    /// The member that wants to leave.
    pub fn member(&self) -> MemberId {
        self.session.facts().member
    }

    /// The profile's name.
    pub fn profile(&self) -> String {
        self.session.facts().profile
    }

    /// Whether the session ends for everybody.
    pub fn ends_for_all(&self) -> bool {
        self.session.facts().shared && self.how.flags.contains(LogoffFlags::SHARED)
    }

    /// The other members of the session, the oldest first; also those of this process.
    pub fn others(&self) -> Result<Vec<MemberStatus>, Error> {
        let sessions = self.session.library()?.status()?.sessions;
        let LoggedOn { session, member, .. } = self.session.facts();
        let ours = sessions.into_iter().find(|other| other.id == session);
        let mut members = ours.map(|session| session.members).unwrap_or_default();
        members.retain(|other| other.id != member);
        Ok(members)
    }

    /// What of the session's mail is still to be sent. It stays in the queue, whatever is answered. What was submitted deferred is
    /// among it as soon as it is durable.
    pub fn queued(&self) -> Result<QueuedMail, Error> {
        let mut queued = QueuedMail::default();
        self.session.library()?.each_queued(Some(&self.profile()), false, |row| {
            queued.total += 1;
            queued.own += u64::from(self.session.has_submitted(row.entry));
            if queued.rows.len() < QueuedMail::SHOWN {
                queued.rows.push(row);
            }
        })?;
        Ok(queued)
    }
}

/// After a no.
pub(crate) fn cancelled() -> Error {
    let message = "the logoff was cancelled: nothing was done, the session goes on";
    Error::fault(Code::E_USER_CANCEL, message)
}

/// The last entries that a member submitted.
#[derive(Debug, Default)]
pub(crate) struct Submissions {
    order: VecDeque<EntryId>,
    known: BTreeSet<EntryId>,
}

/// How many of its submissions a session knows. A program that submits without end must not grow by it.
const KEPT: usize = 1_024;

impl Submissions {
    pub(crate) fn add(&mut self, entry: EntryId) {
        if !self.known.insert(entry) {
            return;
        }
        self.order.push_back(entry);
        if self.order.len() > KEPT
            && let Some(oldest) = self.order.pop_front()
        {
            self.known.remove(&oldest);
        }
    }

    pub(crate) fn contains(&self, entry: EntryId) -> bool {
        self.known.contains(&entry)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(number: usize) -> EntryId {
        format!("{number:040x}").parse().expect("an entry")
    }

    #[test]
    fn a_session_knows_its_last_submissions() {
        let mut submissions = Submissions::default();
        for number in [0, 0].into_iter().chain(1..=KEPT) {
            submissions.add(entry(number));
        }
        assert!(!submissions.contains(entry(0)));
        assert!((1..=KEPT).all(|number| submissions.contains(entry(number))));
        assert_eq!((submissions.order.len(), submissions.known.len()), (KEPT, KEPT));
    }
}
