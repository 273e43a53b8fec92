//! What waits for a client to read it.
//!
//! All connections of a process pay from one account of the [ledger](crate::ledger). At a quarter of it the connection's requests
//! wait until the client has read, so that its answers leave room for notifications. At half of it notifications are dropped and
//! counted; one `lagged` stands in their place as soon as there is room. At the whole of it the connection ends: notices that must
//! never be lost are few, so only a client that does not read gets there.
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

/// Frames on their way to one connection.
#[derive(Debug)]
pub(crate) struct Outbox {
    account: Rc<Account>,
    limit: usize,
    frames: VecDeque<(Vec<u8>, Charge)>,
    /// Bytes of the first frame that were written.
    written: usize,
    missed: BTreeMap<MemberId, u64>,
    /// Long answers that are not there yet, by their requests.
    expected: Vec<(RequestId, Expected)>,
    /// Bytes that came from the connection and are no whole request yet.
    begun: Option<Charge>,
    /// A small buffer that was written, for the next frame.
    spare: Vec<u8>,
}

/// The client did not read for so long that its connection must end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct TooSlow;

/// What became of a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Pushed {
    /// It will be written.
    Queued,
    /// It may be missed, and there was no room.
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

    /// Puts the answer to a hello in front of everything. It is nobody's: a process whose account is full hears it too.
    pub(crate) fn greet(&mut self, welcome: &Answer) {
        codec::encode_into(welcome, self.fresh()).expect("it is small");
    }

    /// A buffer behind all others.
    fn fresh(&mut self) -> &mut Vec<u8> {
        let mut buffer = std::mem::take(&mut self.spare);
        buffer.reserve(ROOM);
        self.frames.push_back((buffer, Charge::new(&self.account, 0)));
        &mut self.frames.back_mut().expect("it was put there").0
    }

    /// So much came from the connection that is no whole request yet: the process pays for that too, however many connections
    /// it has.
    pub(crate) fn hold(&mut self, bytes: usize) -> Result<(), TooSlow> {
        self.begun = None;
        // Nothing is never too much, also where a reload has made the limit smaller.
        if bytes == 0 {
            return Ok(());
        }
        if self.account.used() + bytes > self.limit {
            return Err(TooSlow);
        }
        self.begun = Some(Charge::new(&self.account, bytes));
        Ok(())
    }

    /// Whether anything that came is paid for.
    pub(crate) fn holds(&self) -> bool {
        self.begun.is_some()
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.frames.is_empty()
    }

    pub(crate) fn account(&self) -> &Rc<Account> {
        &self.account
    }

    /// How many bytes all connections of the process have waiting, and how many this one has.
    pub(crate) fn waiting(&self) -> (usize, usize) {
        let frames = self.frames.iter().map(|(_, charge)| charge.bytes()).sum::<usize>();
        (self.account.used(), frames + self.begun.as_ref().map_or(0, Charge::bytes))
    }

    /// Whether the client must read before more is done for it: its process has a quarter of the account with what waits and with
    /// long answers that are not there yet, and some of that is this connection's. A connection that reads goes on beside
    /// others of its process that do not.
    pub(crate) fn is_full(&self) -> bool {
        let begun = self.begun.as_ref().map_or(0, Charge::bytes);
        self.account.used_soon() - begun >= self.limit / 4
            && !(self.frames.is_empty() && self.expected.is_empty())
    }

    /// The answer to this request may be as long as a frame.
    pub(crate) fn expect(&mut self, request: RequestId) {
        self.expected.push((request, Expected::new(&self.account)));
    }

    /// No answer comes any more.
    pub(crate) fn expect_nothing(&mut self) {
        self.expected = Vec::new();
    }

    /// Drops what waits to be written, and what is expected.
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

    /// Says how many notifications were dropped.
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

    /// What to write next.
    pub(crate) fn front(&self) -> Option<&[u8]> {
        self.frames.front().map(|(frame, _)| &frame[self.written..])
    }

    /// So many bytes of the front were written.
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

/// Frames are put together up to so many bytes.
const SHARED: usize = 16 << 10;
/// What a frame that is put to others is taken to have at most; few have more.
const SMALL: usize = 256;
/// A buffer begins with room for a welcome and a short answer behind it.
const ROOM: usize = 128;
/// A connection keeps a buffer of so many bytes for its next answer.
const SPARE: usize = 512;

/// In place of an answer that does not fit a frame.
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

    /// What the connection itself has begun is no answer that its client could read.
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
