//! External references: an object of another process' session, without that session.

use std::fmt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Weak};

use crossbeam_channel::{Receiver, Sender};
use sundown_protocol::notification::Event;
use sundown_protocol::reply::{Granted, MessageRow, TableRows};
use sundown_protocol::request::{ReadSource, Request};
use sundown_protocol::{Code, MemberId, ObjectId, Reply, Token};

use crate::error::Error;
use crate::library::Library;
use crate::link::SharedLink;
use crate::notify::{News, Notice};
use crate::session::{go_on, read_whole, unexpected};

/// A granted object ([`Mapi::redeem`](crate::Mapi::redeem)). It can be listed, read and released; dropping it releases it.
///
/// It ends when the granting process leaves: [`events`](Self::events) reports that once, and later calls fail with
/// `RPC_E_DISCONNECTED`. A restart of the broker ends it too.
pub struct Reference {
    state: Arc<ReferenceState>,
}

/// The kind of a granted object.
pub use sundown_protocol::reply::Granted as Referenced;

pub(crate) struct ReferenceState {
    library: Weak<Library>,
    link: SharedLink,
    pub(crate) member: MemberId,
    object: ObjectId,
    granted: Granted,
    lost: AtomicBool,
    events: (Sender<Notice>, Receiver<Notice>),
}

impl fmt::Debug for Reference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Reference({:?})", self.state.granted)
    }
}

impl Reference {
    pub(crate) fn redeem(library: &Arc<Library>, token: Token) -> Result<Self, Error> {
        let link = library.link()?;
        let (weak, used) = (Arc::downgrade(library), Arc::clone(&link));
        let hook = Box::new(move |outcome: &Result<Reply, sundown_protocol::Fault>| {
            let (Ok(Reply::Redeemed { member, object, granted }), Some(library)) =
                (outcome, weak.upgrade())
            else {
                return;
            };
            library.add_reference(Arc::new(ReferenceState {
                library: weak.clone(),
                link: used,
                member: *member,
                object: *object,
                granted: *granted,
                lost: AtomicBool::new(false),
                events: crossbeam_channel::unbounded(),
            }));
        });
        match link.call(Request::Redeem { token }, Some(hook))?? {
            Reply::Redeemed { member, .. } => {
                let state = library.reference(member).ok_or_else(unexpected)?;
                Ok(Self { state })
            }
            _ => Err(unexpected()),
        }
    }

    /// The kind of the granted object.
    pub fn granted(&self) -> Referenced {
        self.state.granted
    }

    /// The channel that reports the end of the reference.
    pub fn events(&self) -> &Receiver<Notice> {
        &self.state.events.1
    }

    /// The messages of a granted folder.
    pub fn messages(&self) -> Result<Vec<MessageRow>, Error> {
        let mut messages = Vec::new();
        let mut after = 0;
        loop {
            let (member, object) = (self.state.member, self.state.object);
            match self.state.call(Request::List { member, object, after, limit: 256 })? {
                Reply::Rows(page) => {
                    let TableRows::Messages(rows) = page.rows else { return Err(unexpected()) };
                    messages.extend(rows);
                    match go_on(after, page.next)? {
                        Some(next) => after = next,
                        None => return Ok(messages),
                    }
                }
                _ => return Err(unexpected()),
            }
        }
    }

    /// The bytes of a granted message.
    pub fn read(&self) -> Result<Vec<u8>, Error> {
        let (member, source) = (self.state.member, ReadSource::Object(self.state.object));
        read_whole(|offset| self.state.call(Request::Read { member, source, offset }))
    }
}

impl Drop for Reference {
    fn drop(&mut self) {
        let Some(library) = self.state.library.upgrade() else { return };
        library.remove_reference(&self.state);
        if library.check_alive().is_ok() && !self.state.lost.load(Ordering::Relaxed) {
            let (member, object) = (self.state.member, self.state.object);
            self.state.link.tell(Request::Release { member, object }, None);
        }
    }
}

impl ReferenceState {
    fn call(&self, request: Request) -> Result<Reply, Error> {
        if let Some(library) = self.library.upgrade() {
            library.check_alive()?;
        }
        let lost = || {
            let message =
                "the process that granted this object has left, or the broker was restarted";
            Error::fault(Code::RPC_E_DISCONNECTED, message)
        };
        if self.lost.load(Ordering::Relaxed) {
            return Err(lost());
        }
        match self.link.call(request, None) {
            Ok(result) => Ok(result?),
            Err(error) if error.is_disconnected() => Err(lost()),
            Err(error) => Err(error),
        }
    }

    /// Marks the reference as lost, as the broker reported, and passes the event on.
    pub(crate) fn told(&self, event: Event) {
        self.lost.store(true, Ordering::Relaxed);
        let _ = self.events.0.send(Notice::queued(News::Broker(event)));
    }
}
