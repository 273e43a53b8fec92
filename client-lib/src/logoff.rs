//! Logging off: its options, its result, and the question before it.

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
    /// Logs off at once. Submitted mail stays in the queue and is sent.
    pub fn now() -> Self {
        Self { flags: LogoffFlags::default(), drain: None }
    }

    /// Logs off after this session's outbound mail is processed, at the latest after this time.
    pub fn after_outbound(deadline: Duration) -> Self {
        Self { drain: Some(deadline), ..Self::now() }
    }

    /// Logs off because of a critical error: at once, whatever other flags are set.
    pub fn critical_error() -> Self {
        Self { flags: LogoffFlags::CRITICAL, ..Self::now() }
    }

    /// Also ends the shared session for all members (`MAPI_LOGOFF_SHARED`).
    #[must_use]
    pub fn shared(mut self) -> Self {
        self.flags = self.flags.with(LogoffFlags::SHARED);
        self
    }

    /// Also ends a shared session that this member does not own; takes the right *admin*.
    #[must_use]
    pub fn force(mut self) -> Self {
        self.flags = self.flags.with(LogoffFlags::FORCE);
        self
    }

    /// Returns only when the other members have left or were evicted.
    #[must_use]
    pub fn wait(mut self) -> Self {
        self.flags = self.flags.with(LogoffFlags::WAIT);
        self
    }

    /// Notes that the program was asked and agreed (`MAPI_LOGOFF_UI`).
    pub(crate) fn asked(mut self) -> Self {
        self.flags = self.flags.with(LogoffFlags::UI);
        self
    }

    /// The flags, without those that this broker does not know.
    pub(crate) fn flags_for(self, link: &SharedLink) -> LogoffFlags {
        let LogoffFlags(flags) = self.flags;
        if link.speaks(Version::V3) { self.flags } else { LogoffFlags(flags & !LogoffFlags::UI.0) }
    }
}

/// The result of a logoff.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct LoggedOff {
    /// How many objects were still open; they are invalid now.
    pub invalidated: u64,
    /// How many unsaved drafts were thrown away.
    pub discarded: u64,
    /// How many of this session's submissions are not final; they stay in the queue.
    pub queued: u64,
    /// With [`Logoff::wait`]: the members that were evicted.
    pub stayed: Vec<Peer>,
}

/// The question before a logoff, with what is at stake. Each method fetches its answer from the broker when it is called.
pub struct LogoffQuestion<'session> {
    session: &'session Arc<SessionState>,
    how: Logoff,
}

/// The program's answer to a [`LogoffQuestion`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LogoffAnswer {
    /// Log off.
    LogOff,
    /// Do nothing: the logoff fails with `MAPI_E_USER_CANCEL`, and the session is unchanged.
    Cancel,
}

/// The session's outgoing mail that is not final.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct QueuedMail {
    /// How many messages there are. A user without the right *session* sees only their own.
    pub total: u64,
    /// How many of them this member submitted, among the 1,024 that it submitted last.
    pub own: u64,
    /// The first of them, at most [`QueuedMail::SHOWN`].
    pub rows: Vec<QueueRow>,
}

impl QueuedMail {
    /// How many messages have a row; further messages are only counted.
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

    /// The member that logs off.
    pub fn member(&self) -> MemberId {
        self.session.facts().member
    }

    /// The profile's name.
    pub fn profile(&self) -> String {
        self.session.facts().profile
    }

    /// Whether the session ends for all members.
    pub fn ends_for_all(&self) -> bool {
        self.session.facts().shared && self.how.flags.contains(LogoffFlags::SHARED)
    }

    /// The other members of the session, the oldest first, including those of this process.
    pub fn others(&self) -> Result<Vec<MemberStatus>, Error> {
        let sessions = self.session.library()?.status()?.sessions;
        let LoggedOn { session, member, .. } = self.session.facts();
        let ours = sessions.into_iter().find(|other| other.id == session);
        let mut members = ours.map(|session| session.members).unwrap_or_default();
        members.retain(|other| other.id != member);
        Ok(members)
    }

    /// The session's mail that is not sent yet. It stays in the queue, whatever the answer. Deferred submissions are included as
    /// soon as they are durable.
    pub fn queued(&self) -> Result<QueuedMail, Error> {
        let mut queued = QueuedMail::default();
        self.session.library()?.each_queued(Some(&self.profile()), false, |row| {
            // The queue lists a bounce until its notification was read. It is final: nothing of it is sent later.
            if row.state.is_final() {
                return;
            }
            queued.total += 1;
            queued.own += u64::from(self.session.has_submitted(row.entry));
            if queued.rows.len() < QueuedMail::SHOWN {
                queued.rows.push(row);
            }
        })?;
        Ok(queued)
    }
}

/// The error of a logoff after [`LogoffAnswer::Cancel`].
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

/// How many of its submissions a session remembers. The number is bounded because a program may submit without end.
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
