//! The messages that wait for a client to read them.
//!
//! All connections of a process are charged to one account of the [ledger](crate::ledger). At a quarter of its limit the
//! connection's requests wait until the client has read, so that answers leave room for notifications. At half of it notifications
//! are dropped and counted; one `lagged` replaces them as soon as there is room. At the limit the connection ends. Few
//! notifications must never be dropped, so only a client that does not read gets there.
//!
//! ```text
//! 0 ── requests are applied ──┬── notifications are kept ──┬── notices that are never dropped ── limit, the connection ends
//!                            1/4                          1/2
//! ```

use std::collections::{BTreeMap, VecDeque};
use std::rc::Rc;

use sundown_protocol::hello::Answer;
use sundown_protocol::reply::FromBroker;
use sundown_protocol::{Code, Event, Fault, MemberId, Notification, RequestId, codec};

use crate::ledger::{Account, Charge, Expected};

/// The frames that wait to be written to a connection.
#[derive(Debug)]
pub(crate) struct Outbox {
    account: Rc<Account>,
    limit: usize,
    frames: VecDeque<(Vec<u8>, Charge)>,
    /// How many bytes of the first frame are written.
    written: usize,
    missed: BTreeMap<MemberId, u64>,
    /// Long answers that are expected, by their requests.
    expected: Vec<(RequestId, Expected)>,
    /// Bytes from the connection that are not a whole request yet.
    begun: Option<Charge>,
    /// A small buffer that was written, kept for the next frame.
    spare: Vec<u8>,
}

/// The client has not read for so long that its connection must end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct TooSlow;

/// What was done with a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Pushed {
    /// The message will be written.
    Queued,
    /// The message was dropped, because it may be and there was no room.
    Dropped,
    /// The peer has closed its reading end.
    Discarded,
}

impl Outbox {
    pub(crate) fn new(account: Rc<Account>, limit: usize) -> Self {
        Self {
            account,
            limit,
            frames: VecDeque::new(),
            written: 0,
            missed: BTreeMap::new(),
            expected: Vec::new(),
            begun: None,
            spare: Vec::new(),
        }
    }

    /// Queues the answer to a hello before any other frame. No account is charged: a process whose account is full gets the answer,
    /// too.
    pub(crate) fn greet(&mut self, welcome: &Answer) {
        codec::encode_into(welcome, self.fresh()).expect("it is small");
    }

    /// Appends an empty buffer.
    fn fresh(&mut self) -> &mut Vec<u8> {
        let mut buffer = std::mem::take(&mut self.spare);
        buffer.reserve(ROOM);
        self.frames.push_back((buffer, Charge::new(&self.account, 0)));
        &mut self.frames.back_mut().expect("it was put there").0
    }

    /// Charges the process for bytes that are not a whole request yet, whatever the number of its connections.
    pub(crate) fn hold(&mut self, bytes: usize) -> Result<(), TooSlow> {
        self.begun = None;
        // No bytes are never too many, even if a reload has lowered the limit.
        if bytes == 0 {
            return Ok(());
        }
        if self.account.used() + bytes > self.limit {
            return Err(TooSlow);
        }
        self.begun = Some(Charge::new(&self.account, bytes));
        Ok(())
    }

    /// Whether bytes from the connection are charged.
    pub(crate) fn holds(&self) -> bool {
        self.begun.is_some()
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.frames.is_empty()
    }

    pub(crate) fn account(&self) -> &Rc<Account> {
        &self.account
    }

    /// How many bytes wait for all connections of the process, and how many for this one.
    pub(crate) fn waiting(&self) -> (usize, usize) {
        let frames = self.frames.iter().map(|(_, charge)| charge.bytes()).sum::<usize>();
        (self.account.used(), frames + self.begun.as_ref().map_or(0, Charge::bytes))
    }

    /// Whether the client must read before more of its requests are applied: waiting and expected bytes of its process have reached
    /// a quarter of the limit, and some of them are this connection's. A connection that reads is not held up by others of its
    /// process that do not.
    pub(crate) fn is_full(&self) -> bool {
        let begun = self.begun.as_ref().map_or(0, Charge::bytes);
        self.account.used_soon() - begun >= self.limit / 4
            && !(self.frames.is_empty() && self.expected.is_empty())
    }

    /// Reserves room for the answer to a request, which may be as long as a frame.
    pub(crate) fn expect(&mut self, request: RequestId) {
        self.expected.push((request, Expected::new(&self.account)));
    }

    /// Expects no further answers.
    pub(crate) fn expect_nothing(&mut self) {
        self.expected = Vec::new();
    }

    /// Drops the frames that wait to be written, and expects no further answers.
    pub(crate) fn clear(&mut self) {
        self.expect_nothing();
        self.frames.clear();
        self.written = 0;
        self.missed.clear();
    }

    /// Queues a message, or drops and counts it.
    pub(crate) fn push(&mut self, message: &FromBroker) -> Result<Pushed, TooSlow> {
        if let FromBroker::Notify(notification) = message {
            let room = self.account.used() < self.limit / 2;
            if !room && notification.event.may_be_dropped() {
                *self.missed.entry(notification.member).or_default() += notification.event.count();
                return Ok(Pushed::Dropped);
            }
            if room {
                self.confess()?;
            }
        }
        if let FromBroker::Answer { id, .. } = message
            && let Some(place) = self.expected.iter().position(|(expected, _)| expected == id)
        {
            self.expected.swap_remove(place);
        }
        self.append(message)?;
        Ok(Pushed::Queued)
    }

    /// Queues, for each member, how many notifications were dropped.
    fn confess(&mut self) -> Result<(), TooSlow> {
        for (member, missed) in std::mem::take(&mut self.missed) {
            let event = Event::Lagged { missed };
            let lagged = Notification { member, advises: Vec::new(), event };
            self.append(&FromBroker::Notify(lagged))?;
        }
        Ok(())
    }

    fn append(&mut self, message: &FromBroker) -> Result<(), TooSlow> {
        // Small frames share a buffer, so that one write carries many.
        let shared = self.written == 0
            && self.frames.back().is_some_and(|(last, _)| last.len() + SMALL <= SHARED);
        if !shared {
            self.fresh();
        }
        let (buffer, charge) = self.frames.back_mut().expect("there is one now");
        let before = buffer.len();
        let encoded = codec::encode_into(message, buffer)
            .or_else(|_| codec::encode_into(&too_long(message), buffer));
        encoded.expect("a fault of one line fits a frame");
        let bytes = buffer.len() - before;
        if self.account.used() + bytes > self.limit {
            buffer.truncate(before);
            if before == 0 {
                self.frames.pop_back();
            }
            return Err(TooSlow);
        }
        charge.extend(bytes);
        Ok(())
    }

    /// The bytes to write next.
    pub(crate) fn front(&self) -> Option<&[u8]> {
        self.frames.front().map(|(frame, _)| &frame[self.written..])
    }

    /// Removes bytes of the front that were written.
    pub(crate) fn advance(&mut self, bytes: usize) -> Result<(), TooSlow> {
        self.written += bytes;
        if self.frames.front().is_some_and(|(frame, _)| frame.len() == self.written) {
            let frame = self.frames.pop_front();
            self.written = 0;
            if let Some((mut frame, _)) = frame.filter(|(frame, _)| frame.capacity() <= SPARE) {
                frame.clear();
                self.spare = frame;
            }
        }
        if self.frames.is_empty() && !self.missed.is_empty() {
            self.confess()?;
        }
        Ok(())
    }
}

/// Frames share a buffer up to this many bytes.
const SHARED: usize = 16 << 10;
/// The assumed size of a frame that is added to a shared buffer; few frames are larger.
const SMALL: usize = 256;
/// The initial size of a buffer, with room for a welcome and a short answer.
const ROOM: usize = 128;
/// The largest buffer that a connection keeps for its next answer, in bytes.
const SPARE: usize = 512;

/// Replaces an answer that does not fit into a frame.
fn too_long(message: &FromBroker) -> FromBroker {
    let fault = Fault::new(Code::E_TOO_BIG, "the answer is longer than a frame; ask for less");
    match message {
        FromBroker::Answer { id, .. } => FromBroker::Answer { id: *id, result: Err(fault) },
        FromBroker::Notify(_) | FromBroker::Goodbye(_) => FromBroker::Goodbye(fault),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use sundown_protocol::{Events, notification::EndReason, reply::Reply};

    fn notify(event: Event) -> FromBroker {
        FromBroker::Notify(Notification { member: MemberId(1), advises: Vec::new(), event })
    }

    fn droppable() -> FromBroker {
        notify(Event::BrokerStopping { within: 1 })
    }

    fn reserved() -> FromBroker {
        notify(Event::CriticalError {
            code: Code::E_END_OF_SESSION,
            reason: EndReason::SharedLogoff,
            by: None,
            grace: None,
        })
    }

    fn read_all(outbox: &mut Outbox) -> Vec<FromBroker> {
        let mut bytes = Vec::new();
        while let Some(front) = outbox.front() {
            let some = front.len().min(7);
            bytes.extend_from_slice(&front[..some]);
            outbox.advance(some).expect("room");
        }
        let mut rest = &bytes[..];
        let mut messages = Vec::new();
        while let Some((payload, used)) = sundown_protocol::frame::cut(rest).expect("frames") {
            messages.push(codec::decode(payload).expect("messages"));
            rest = &rest[used..];
        }
        assert!(rest.is_empty());
        messages
    }

    #[test]
    fn who_does_not_read_is_told_how_much_it_missed_and_loses_no_critical_error() {
        let account = Account::alone();
        let mut outbox = Outbox::new(Rc::clone(&account), 4_096);
        let mut sent = 0u64;
        while account.used() < 2_048 {
            outbox.push(&droppable()).expect("room");
            sent += 1;
        }
        for _ in 0..5 {
            outbox.push(&droppable()).expect("dropped");
        }
        outbox.push(&reserved()).expect("reserved");
        let messages = read_all(&mut outbox);
        assert_eq!(messages.len() as u64, sent + 2);
        assert_eq!(messages[sent as usize], reserved());
        assert_eq!(messages[sent as usize + 1], notify(Event::Lagged { missed: 5 }));
        assert_eq!(account.used(), 0);
    }

    fn answer(request: u64) -> FromBroker {
        FromBroker::Answer { id: RequestId(request), result: Ok(Reply::Done) }
    }

    #[test]
    fn a_quarter_stops_requests_and_leaves_notices_their_room() {
        let account = Account::alone();
        let mut outbox = Outbox::new(Rc::clone(&account), 4_096);
        while !outbox.is_full() {
            assert!(account.used() < 1_024);
            outbox.push(&answer(1)).expect("room");
        }
        let mut other = Outbox::new(Rc::clone(&account), 4_096);
        assert!(!other.is_full(), "nothing of it waits");
        other.push(&answer(2)).expect("room");
        assert!(other.is_full());
        while account.used() < 2_048 {
            assert_eq!(outbox.push(&droppable()), Ok(Pushed::Queued));
        }
        assert_eq!(outbox.push(&droppable()), Ok(Pushed::Dropped));
        assert_eq!(outbox.push(&reserved()), Ok(Pushed::Queued));
        read_all(&mut outbox);
        assert!(!outbox.is_full() && !other.is_full());
    }

    #[test]
    fn long_answers_are_counted_before_they_are_there() {
        let account = Account::alone();
        let mut outbox = Outbox::new(Rc::clone(&account), 8 << 20);
        outbox.expect(RequestId(1));
        assert!(!outbox.is_full());
        outbox.expect(RequestId(2));
        assert!(outbox.is_full());
        outbox.push(&answer(3)).expect("room");
        assert!(outbox.is_full(), "another answer");
        outbox.push(&answer(1)).expect("room");
        assert!(!outbox.is_full());
        outbox.expect(RequestId(4));
        drop(outbox);
        assert_eq!(account.used_soon(), 0);
    }

    /// Bytes that the connection itself has begun are not an answer that its client could read.
    #[test]
    fn what_is_begun_stops_no_request() {
        let mut outbox = Outbox::new(Account::alone(), 4_096);
        outbox.hold(2_000).expect("room");
        outbox.push(&answer(1)).expect("room");
        assert!(!outbox.is_full());
    }

    #[test]
    fn requests_that_are_begun_are_paid_for() {
        let account = Account::alone();
        let [mut first, mut second] = [0, 1].map(|_| Outbox::new(Rc::clone(&account), 4_096));
        first.hold(2_000).expect("room");
        first.hold(3_000).expect("it is the same request");
        assert_eq!(second.hold(2_000), Err(TooSlow));
        first.hold(0).expect("it is whole");
        second.hold(2_000).expect("room again");
        drop((first, second));
        assert_eq!(account.used(), 0);
    }

    #[test]
    fn beyond_the_limit_the_connection_ends() {
        let account = Account::alone();
        let mut outbox = Outbox::new(Rc::clone(&account), 256);
        let reply = FromBroker::Answer { id: RequestId(1), result: Ok(Reply::Done) };
        let mut pushed = Ok(Pushed::Queued);
        for _ in 0..100 {
            pushed = outbox.push(&reply);
            if pushed.is_err() {
                break;
            }
        }
        assert_eq!(pushed, Err(TooSlow));
        drop(outbox);
        assert_eq!(account.used(), 0);
        assert!(Events::all().contains(Events::EXTENDED));
    }
}
