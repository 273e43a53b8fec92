//! Notifications: sinks, the default event queue, and the thread that calls sinks.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use crossbeam_channel::Sender;
use sundown_protocol::notification::Event;
use sundown_protocol::reply::Previous;
use sundown_protocol::request::Request;
use sundown_protocol::{Code, Notification, Reply};

use crate::error::Error;
use crate::notices::{Notices, Waits};
use crate::reference::ReferenceState;
use crate::session::{OnEndOfSession, SessionState};

/// What a sink is told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Notice {
    /// The connection numbers of the registrations that asked for it; empty in the default event queue.
    pub connections: Vec<u32>,
    /// What happened.
    pub news: News,
    first: bool,
}

impl Notice {
    pub(crate) fn queued(news: News) -> Self {
        Self { connections: Vec::new(), news, first: true }
    }

    /// Whether this is the first of the registrations that asked for it: for programs that want it once.
    pub fn is_first(&self) -> bool {
        self.first
    }
}

/// What happened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum News {
    /// The broker says so.
    Broker(Event),
    /// The broker was away and is back. Everything that was acknowledged as durable is there; sessions, objects and
    /// registrations are as before.
    Reconnected {
        /// Unsaved drafts that were open and are not any more.
        lost_drafts: u64,
        /// How the broker ended that was there before, if this one knows.
        previous: Option<Previous>,
    },
    /// A sink panicked while it was called. The others were called, and it will be called again; what it was told may be half
    /// done. This comes by the default event queue, and so does the end of a session that no sink has taken.
    SinkPanicked {
        /// The sink's connection number.
        connection: u32,
        /// What it said.
        message: String,
    },
}

/// A sink's function. It runs on a thread of the library and may call the library.
pub(crate) type SinkFunction = Arc<dyn Fn(&Notice) + Send + Sync>;

/// A registration (`Advise`). Dropping it unadvises without waiting.
#[must_use = "dropping a sink ends its registration"]
pub struct Sink {
    session: Arc<SessionState>,
    connection: u32,
    live: bool,
}

impl std::fmt::Debug for Sink {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Sink({})", self.connection)
    }
}

impl Sink {
    pub(crate) fn new(session: Arc<SessionState>, connection: u32) -> Self {
        Self { session, connection, live: true }
    }

    /// The connection number; never zero.
    pub fn connection(&self) -> u32 {
        self.connection
    }

    /// `Unadvise`. A sink that is being called at this moment still returns from that (NOTIF-6).
    pub fn unadvise(mut self) -> Result<(), Error> {
        self.live = false;
        let Some((advise, epoch)) = self.session.forget_sink(self.connection) else {
            return Ok(());
        };
        let answer = self.session.retrying(|_, member| {
            if self.session.epoch() != epoch {
                return Err(Error::fault(Code::E_INVALID_OBJECT, "it ended with its connection"));
            }
            Ok(Request::Unadvise { member, advise })
        });
        match answer {
            Ok(Reply::Done) => Ok(()),
            Ok(_) => Err(crate::session::unexpected()),
            Err(_) if self.session.epoch() != epoch => Ok(()),
            Err(error) => Err(error),
        }
    }
}

impl Drop for Sink {
    fn drop(&mut self) {
        if self.live
            && let Some((advise, epoch)) = self.session.forget_sink(self.connection)
            && epoch == self.session.epoch()
        {
            self.session.tell(|member| Request::Unadvise { member, advise });
        }
    }
}

/// Somebody is to be told something. Whom it is for was found out when it came: a session may have ended since.
pub(crate) enum Told {
    Session(Arc<SessionState>, Notification),
    Reference(Arc<ReferenceState>, Event),
    /// The library itself has something to say.
    News(Arc<SessionState>, News),
    /// Somebody waits until everything before it was told.
    Until(Sender<()>),
}

/// A session, as somebody who misses notices.
pub(crate) struct Whom(Arc<SessionState>);

impl PartialEq for Whom {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }
}

impl Waits for Told {
    type Whom = Whom;

    fn may_be_missed_by(&self) -> Option<(Whom, u64)> {
        let Self::Session(session, notification) = self else { return None };
        let whom = || Whom(Arc::clone(session));
        match notification.event {
            // The broker has not waited for this program either.
            Event::Lagged { missed } => Some((whom(), missed)),
            ref event if event.may_be_dropped() => Some((whom(), 1)),
            _ => None,
        }
    }

    fn missed(Whom(session): Whom, missed: u64) -> Self {
        let (member, event) = (session.member(), Event::Lagged { missed });
        Self::Session(session, Notification { member, advises: Vec::new(), event })
    }

    /// A broker may be restarted many times before a sink returns.
    fn takes_in(&mut self, later: &Self) -> bool {
        let (Self::News(session, news), Self::News(other, again)) = (self, later) else {
            return false;
        };
        if !Arc::ptr_eq(session, other) {
            return false;
        }
        match (news, again) {
            (
                News::Reconnected { lost_drafts, previous },
                News::Reconnected { lost_drafts: more, previous: newest },
            ) => {
                *lost_drafts += more;
                previous.clone_from(newest);
                true
            }
            _ => false,
        }
    }
}

/// The thread that calls sinks, in the order in which things came; it ends when the library does.
pub(crate) fn serve(notices: &Notices<Told>) {
    while let Some(told) = notices.next() {
        match told {
            Told::Session(session, notification) => dispatch(&session, notification),
            Told::Reference(reference, event) => reference.told(event),
            Told::News(session, news) => session.tell_news(&news),
            Told::Until(waits) => drop(waits),
        }
    }
}

fn dispatch(session: &Arc<SessionState>, notification: Notification) {
    let Notification { advises, event, .. } = notification;
    if event == Event::Evicted {
        session.evicted();
    }
    let critical = matches!(event, Event::CriticalError { .. });
    // Told while the session came back, before its sinks were registered again.
    let advises = if critical && advises.is_empty() { session.session_advises() } else { advises };
    let handled = deliver(session, &advises, News::Broker(event));
    if critical && handled && session.on_end == OnEndOfSession::LogOff {
        session.leave_because_of_error();
    }
}

/// Calls the sinks of these registrations; without any the news goes to the default event queue. Whether a sink ran, to its end.
pub(crate) fn deliver(
    session: &SessionState,
    advises: &[sundown_protocol::AdviseId],
    news: News,
) -> bool {
    if session.is_logged_off() {
        // Nobody is told any more.
        return false;
    }
    let sinks = session.sinks_of(advises);
    let connections = sinks.iter().map(|(connection, _)| *connection).collect();
    let mut notice = Notice { connections, news, first: true };
    let critical = matches!(notice.news, News::Broker(Event::CriticalError { .. }));
    if sinks.is_empty() && !advises.is_empty() && !critical {
        // Its registration was cancelled meanwhile (NOTIF-8 allows either).
        return false;
    }
    let mut taken = false;
    for (connection, sink) in &sinks {
        match call(sink, &notice) {
            Ok(()) => taken = true,
            Err(message) => {
                let connection = *connection;
                session.queue(Notice::queued(News::SinkPanicked { connection, message }));
            }
        }
        notice.first = false;
    }
    // What no sink has taken must not be missed.
    if sinks.is_empty() || critical && !taken {
        notice.first = true;
        session.queue(notice);
    }
    taken
}

/// Calls a sink. One that panics ends neither the thread nor the sinks after it; what it said.
fn call(sink: &SinkFunction, notice: &Notice) -> Result<(), String> {
    // What it left half done is its own; the library keeps nothing of it.
    let called = catch_unwind(AssertUnwindSafe(|| sink(notice)));
    called.map_err(|payload| {
        let said = payload.downcast_ref::<&str>().map(|text| (*text).to_owned());
        let said = said.or_else(|| payload.downcast_ref::<String>().cloned());
        // What was thrown may panic once more when it is dropped.
        let _ = catch_unwind(AssertUnwindSafe(|| drop(payload)));
        said.unwrap_or_else(|| "it said nothing".into())
    })
}
