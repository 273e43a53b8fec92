//! What a peer sends: pieces come in, whole frames go out. Neither depends on how the bytes were cut into reads, nor on whether the
//! end came with the last of them: every whole frame in front of the end comes out, and then the inbox is over.

use sundown_protocol::frame::{self, FrameError};

/// What was read and not used, and what may still come.
#[derive(Debug, Default)]
pub(crate) struct Inbox {
    /// A frame that is not whole yet, or frames that wait for the connection's next turn.
    bytes: Vec<u8>,
    /// How many of the bytes were used.
    used: usize,
    rest: Rest,
}

/// What the peer may still send.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
enum Rest {
    #[default]
    Anything,
    /// The peer has closed its end: what the socket has.
    UntilEnd,
    /// Its process has ended: so many bytes, which were sent before.
    Bytes(usize),
    /// Nothing: the end was read.
    Nothing,
}

/// What one read has brought.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Came {
    /// So many bytes, at least one.
    Bytes(usize),
    /// The socket has none now.
    NothingNow,
    /// The end.
    End,
}

impl Inbox {
    /// How many bytes may be read now, at most so many. None while a whole frame waits: requests that come faster than the turns of
    /// their connection stay in the socket.
    pub(crate) fn room(&self, most: usize) -> usize {
        if self.has_frame() {
            return 0;
        }
        match self.rest {
            Rest::Anything | Rest::UntilEnd => most,
            Rest::Bytes(left) => left.min(most),
            Rest::Nothing => 0,
        }
    }

    /// Whether a frame waits, whole or wrong.
    pub(crate) fn has_frame(&self) -> bool {
        !self.bytes.is_empty() && !matches!(frame::cut(&self.bytes[self.used..]), Ok(None))
    }

    /// Whether to read again though the last read was short: an end was told by the poll, which does not tell of it again.
    pub(crate) fn expects_more(&self) -> bool {
        match self.rest {
            Rest::UntilEnd => true,
            Rest::Bytes(left) => left > 0,
            Rest::Anything | Rest::Nothing => false,
        }
    }

    /// Whether the peer may send more than the socket has: neither its end nor its process' is known.
    pub(crate) fn is_open(&self) -> bool {
        self.rest == Rest::Anything
    }

    /// Notes what was read. The bytes themselves are handed to [`next`](Self::next) and [`keep`](Self::keep).
    pub(crate) fn note(&mut self, came: Came) {
        self.rest = match (came, self.rest) {
            (Came::Bytes(n), Rest::Bytes(left)) => Rest::Bytes(left.saturating_sub(n)),
            (Came::NothingNow, Rest::Bytes(_)) => Rest::Bytes(0),
            (Came::NothingNow, Rest::UntilEnd) | (Came::End, _) => Rest::Nothing,
            (Came::Bytes(_) | Came::NothingNow, rest) => rest,
        };
    }

    /// The peer has closed its end: what it sent before is still to be read.
    pub(crate) fn ends(&mut self) {
        if self.rest == Rest::Anything {
            self.rest = Rest::UntilEnd;
        }
    }

    /// The peer's process has ended, having sent the bytes that the socket has now, so many. Another process that holds the socket
    /// sends what comes behind them.
    pub(crate) fn ends_after(&mut self, bytes: impl FnOnce() -> usize) {
        if self.rest == Rest::Anything {
            self.rest = Rest::Bytes(bytes());
        }
    }

    /// The next whole frame, decoded. It is looked for in what waits and then in what was read just now, so that a frame that came
    /// whole is not copied before it is decoded. A frame with a wrong length, or that cannot be decoded, stays. The beginning of a
    /// frame is dropped when its rest cannot come any more.
    pub(crate) fn next<T, E: From<FrameError>>(
        &mut self,
        read: &mut &[u8],
        decode: impl FnOnce(&[u8], usize) -> Result<T, E>,
    ) -> Result<Option<T>, E> {
        if !self.bytes.is_empty() {
            self.bytes.extend_from_slice(std::mem::take(read));
        }
        let bytes = if self.bytes.is_empty() { *read } else { &self.bytes[self.used..] };
        let Some((payload, taken)) = frame::cut(bytes)? else {
            if matches!(self.rest, Rest::Nothing | Rest::Bytes(0)) {
                *read = &[];
                self.used = self.bytes.len();
                self.shrink();
            }
            return Ok(None);
        };
        let decoded = decode(payload, taken)?;
        if self.bytes.is_empty() {
            *read = &read[taken..];
        } else {
            self.used += taken;
            self.shrink();
        }
        Ok(Some(decoded))
    }

    /// Keeps what was read and not used. How many bytes wait now.
    pub(crate) fn keep(&mut self, read: &[u8]) -> usize {
        // What waits is not moved again and again while a flood of small requests has its turns.
        if !read.is_empty() || self.used > self.bytes.len() / 2 {
            self.bytes.drain(..self.used);
            self.used = 0;
        }
        self.bytes.extend_from_slice(read);
        self.bytes.len() - self.used
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.bytes.is_empty()
    }

    /// Whether the end was read, and everything in front of it was used.
    pub(crate) fn has_ended(&self) -> bool {
        self.is_empty() && self.rest == Rest::Nothing
    }

    /// Whether everything was used that the process at the other end can have sent.
    pub(crate) fn is_over(&self) -> bool {
        self.is_empty() && matches!(self.rest, Rest::Nothing | Rest::Bytes(0))
    }

    /// An idle connection keeps no buffer.
    fn shrink(&mut self) {
        if self.used == self.bytes.len() {
            self.used = 0;
            self.bytes.clear();
            self.bytes.shrink_to(512);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frames(payloads: impl IntoIterator<Item = u32>) -> Vec<u8> {
        payloads.into_iter().flat_map(|n| [4u32.to_le_bytes(), n.to_le_bytes()].concat()).collect()
    }

    /// What is heard when this piece is read: the payloads, and how a wrong frame is complained of.
    fn hear(inbox: &mut Inbox, mut piece: &[u8], turn: usize) -> Result<Vec<u32>, FrameError> {
        let mut heard = Vec::new();
        let number = |payload: &[u8], _| {
            Ok::<_, FrameError>(u32::from_le_bytes(payload.try_into().expect("four bytes")))
        };
        while heard.len() < turn
            && let Some(n) = inbox.next(&mut piece, number)?
        {
            heard.push(n);
        }
        inbox.keep(piece);
        Ok(heard)
    }

    /// What is heard of bytes that come in these pieces, in turns of so many frames, and then end.
    fn hear_all(pieces: &[&[u8]], turn: usize) -> Vec<u32> {
        let (mut inbox, mut heard) = (Inbox::default(), Vec::new());
        for piece in pieces {
            let mut rest = *piece;
            while !rest.is_empty() {
                let (now, later) = rest.split_at(inbox.room(rest.len()));
                if !now.is_empty() {
                    inbox.note(Came::Bytes(now.len()));
                }
                heard.extend(hear(&mut inbox, now, turn).expect("frames"));
                rest = later;
            }
        }
        assert!(!inbox.has_ended(), "the end was not read");
        inbox.note(Came::End);
        while !inbox.has_ended() {
            heard.extend(hear(&mut inbox, &[], turn).expect("frames"));
        }
        heard
    }

    #[test]
    fn cuts_and_turns_change_nothing() {
        let bytes = [frames(1..=5), vec![4, 0, 0, 0, 9]].concat();
        for turn in 1..=6 {
            for first in 0..=bytes.len() {
                for second in first..=bytes.len() {
                    let pieces = [&bytes[..first], &bytes[first..second], &bytes[second..]];
                    assert_eq!(hear_all(&pieces, turn), [1, 2, 3, 4, 5], "{first}, {second}");
                }
            }
        }
    }

    #[test]
    fn a_wrong_frame_is_met_behind_those_in_front_of_it() {
        let bytes = [frames(1..=2), vec![0; 4], frames(3..=3)].concat();
        for cut in 0..=bytes.len() {
            let (mut inbox, mut heard) = (Inbox::default(), Vec::new());
            let mut complaints = 0;
            for piece in [&bytes[..cut], &bytes[cut..]] {
                let mut piece = piece;
                loop {
                    let number = |payload: &[u8], _| Ok::<_, FrameError>(payload[0]);
                    match inbox.next(&mut piece, number) {
                        Ok(Some(n)) => heard.push(n),
                        Ok(None) => break,
                        Err(error) => {
                            assert_eq!(error, FrameError::Length(0));
                            complaints += 1;
                            break;
                        }
                    }
                }
                inbox.keep(piece);
            }
            assert_eq!(heard, [1, 2], "cut at {cut}");
            assert!(complaints > 0, "cut at {cut}");
        }
    }

    #[test]
    fn nothing_is_read_while_a_frame_waits() {
        let mut inbox = Inbox::default();
        assert_eq!(inbox.room(100), 100);
        assert_eq!(hear(&mut inbox, &frames(1..=2), 1), Ok(vec![1]));
        assert_eq!(inbox.room(100), 0);
        assert_eq!(hear(&mut inbox, &[], 1), Ok(vec![2]));
        assert_eq!(inbox.room(100), 100);
        assert_eq!(hear(&mut inbox, &[4, 0, 0], 1), Ok(vec![]));
        assert_eq!(inbox.room(100), 100, "a frame that is begun must become whole");
    }

    #[test]
    fn what_comes_behind_the_end_of_a_process_is_not_its_own() {
        let bytes = frames(1..=4);
        for sent in 0..=bytes.len() {
            let (mut inbox, mut heard) = (Inbox::default(), Vec::new());
            inbox.ends_after(|| sent);
            inbox.ends_after(|| bytes.len());
            let mut rest = &bytes[..];
            while !inbox.is_over() {
                let (now, later) = rest.split_at(inbox.room(5));
                inbox.note(Came::Bytes(now.len()));
                heard.extend(hear(&mut inbox, now, 1).expect("frames"));
                rest = later;
            }
            assert_eq!(heard, (1..=(sent / 8) as u32).collect::<Vec<_>>(), "{sent} bytes");
            assert_eq!(bytes.len() - rest.len(), sent, "no more was read");
            assert!(!inbox.has_ended(), "another process still holds the socket");
        }
    }

    #[test]
    fn an_end_that_does_not_come_is_not_waited_for() {
        let (mut told, mut process) = (Inbox::default(), Inbox::default());
        told.ends();
        process.ends_after(|| 100);
        for inbox in [&mut told, &mut process] {
            inbox.note(Came::NothingNow);
            assert!(!inbox.expects_more() && inbox.is_over());
        }
    }

    #[test]
    fn an_end_that_was_told_is_looked_for() {
        let mut inbox = Inbox::default();
        assert!(!inbox.expects_more());
        inbox.ends();
        assert!(inbox.expects_more(), "the poll does not tell of it again");
        inbox.note(Came::Bytes(3));
        assert!(inbox.expects_more() && !inbox.has_ended());
        inbox.note(Came::End);
        assert!(!inbox.expects_more() && inbox.has_ended());
    }
}
