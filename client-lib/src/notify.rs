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

/// A notification, as a sink gets it.
///
/// One thread of the library calls all sinks, one notice after the other, in the order in which the broker decided the events. A sink
/// may call the library, and it may block: then notices wait. 4,096 wait at most; the library counts the others, and the sinks are told
/// in their place how many were missed ([`Event::Lagged`]). So a program that takes its time does well to hand notices to another thread
/// through a bounded channel, and to let the sink wait while that is full.
///
/// | notice | goes to |
/// |---|---|
/// | an event of a message, a folder or a table | the registrations for it, on the session or on the object |
/// | the end of the session; [`Event::Lagged`]; [`News::Reconnected`] | all registrations on the session, whatever events they are for. Without one, to the default event queue ([`Session::events`](crate::Session::events)): a program that registers on objects only finds them there |
/// | [`Event::BrokerStopping`], [`Event::Evicted`] | registrations on the session for [`Events::EXTENDED`](crate::Events::EXTENDED). Without one, to the default event queue |
/// | [`News::SinkPanicked`] | the default event queue |
///
/// After `Lagged` and `Reconnected` a program that keeps what it has read compares it again: what happened meanwhile was not told. To
/// miss nothing at the beginning it registers first and reads afterwards. An event may then report what it has read already.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Notice {
    /// The connection numbers of the registrations that it is for; empty in the default event queue.
    pub connections: Vec<u32>,
    /// What happened.
    pub news: News,
    first: bool,
}

impl Notice {
    pub(crate) fn queued(news: News) -> Self {
        Self { connections: Vec::new(), news, first: true }
    }

    /// Whether the notice goes to the first of its registrations, for programs that want to handle it once.
    pub fn is_first(&self) -> bool {
        self.first
    }
}

/// What happened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum News {
    /// An event that the broker reports.
    Broker(Event),
    /// The broker was away and is back. Everything that was acknowledged as durable is there; sessions, objects and registrations
    /// are as before. What happened while it was away, and until the registrations were made again, was not told, new mail
    /// included: read again what the program keeps.
    ///
    /// The library looks for the broker for 30 seconds, and starts none meanwhile. Then every session ends with
    /// [`EndReason::BrokerLost`](crate::EndReason::BrokerLost). [`Mapi::initialize`](crate::Mapi::initialize) starts another broker;
    /// the program logs on again.
    Reconnected {
        /// How many unsaved drafts were open and are lost.
        lost_drafts: u64,
        /// How the previous broker ended, if this one knows.
        previous: Option<Previous>,
    },
    /// A sink panicked. The other sinks were called, and this one will be called again; what it did with the notice may be half
    /// done. This comes through the default event queue, as does the end of a session that no sink has handled.
    SinkPanicked {
        /// The sink's connection number.
        connection: u32,
        /// The message of the panic.
        message: String,
    },
}

/// A sink's function. It runs on a thread of the library, and may call the library.
pub(crate) type SinkFunction = Arc<dyn Fn(&Notice) + Send + Sync>;

/// A registration (`Advise`). Dropping it unadvises without waiting for an answer.
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

    /// The connection number, which is never zero.
    pub fn connection(&self) -> u32 {
        self.connection
    }

    /// `Unadvise`. A call of the sink that is under way still finishes (NOTIF-6).
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

/// An item for the notify thread. It holds its session or reference, because that may have ended by the time it is handled.
pub(crate) enum Told {
    Session(Arc<SessionState>, Notification),
    Reference(Arc<ReferenceState>, Event),
    /// News of the library itself.
    News(Arc<SessionState>, News),
    /// A logon has succeeded whose caller no longer waits for it.
    Unwanted(Arc<SessionState>),
    /// The sender is dropped once everything before it is handled.
    Until(Sender<()>),
}

/// A session as the receiver that misses notices.
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
            // The broker dropped these, because this program was too slow.
            Event::Lagged { missed } => Some((whom(), missed)),
            ref event if event.may_be_dropped() => Some((whom(), 1)),
            _ => None,
        }
    }

    fn missed(Whom(session): Whom, missed: u64) -> Self {
        let (member, event) = (session.member(), Event::Lagged { missed });
        Self::Session(session, Notification { member, advises: Vec::new(), event })
    }

    /// Merges reconnects: a broker may be restarted many times before a sink returns.
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

/// Runs the notify thread: calls sinks in the order of the queue, and ends with the library.
pub(crate) fn serve(notices: &Notices<Told>) {
    while let Some(told) = notices.next() {
        match told {
            Told::Session(session, notification) => dispatch(&session, notification),
            Told::Reference(reference, event) => reference.told(event),
            Told::News(session, news) => session.tell_news(&news),
            Told::Unwanted(session) => session.leave_later(),
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
    // No registration is for what was missed. An end comes without one while the session comes back, before its sinks are registered
    // again.
    let of_session = critical || matches!(event, Event::Lagged { .. });
    let advises =
        if of_session && advises.is_empty() { session.session_advises() } else { advises };
    let handled = deliver(session, &advises, News::Broker(event));
    if critical && handled && session.on_end == OnEndOfSession::LogOff {
        session.leave_because_of_error();
    }
}

/// Calls the sinks of these registrations. Without registrations the news goes to the default event queue. Returns whether a sink
/// ran without a panic.
pub(crate) fn deliver(
    session: &SessionState,
    advises: &[sundown_protocol::AdviseId],
    news: News,
) -> bool {
    if session.is_logged_off() {
        // After its logoff a session gets no notifications.
        return false;
    }
    let sinks = session.sinks_of(advises);
    let connections = sinks.iter().map(|(connection, _)| *connection).collect();
    let mut notice = Notice { connections, news, first: true };
    let critical = matches!(notice.news, News::Broker(Event::CriticalError { .. }));
    if sinks.is_empty() && !advises.is_empty() && !critical {
        // The registration was cancelled meanwhile (NOTIF-8 allows either).
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
    // News without a sink, and an end that no sink has handled, must not be lost.
    if sinks.is_empty() || critical && !taken {
        notice.first = true;
        session.queue(notice);
    }
    taken
}

/// Calls a sink. A panic ends neither the thread nor the calls of other sinks; its message is the error.
fn call(sink: &SinkFunction, notice: &Notice) -> Result<(), String> {
    // State that the sink left half changed is its own; the library shares none with it.
    let called = catch_unwind(AssertUnwindSafe(|| sink(notice)));
    called.map_err(|payload| {
        let said = payload.downcast_ref::<&str>().map(|text| (*text).to_owned());
        let said = said.or_else(|| payload.downcast_ref::<String>().cloned());
        // The payload may panic again when it is dropped.
        let _ = catch_unwind(AssertUnwindSafe(|| drop(payload)));
        said.unwrap_or_else(|| "it said nothing".into())
    })
}
