//! Input that holds one message: no more of it is read into memory than the broker takes.

use std::io::{self, BufRead, ErrorKind, Read};

use sundown_client::Mapi;

/// Read without asking the broker: its limit where settings say nothing else (`limits.message`).
pub(crate) const UNASKED: u64 = 100 << 20;

/// The largest message that a broker takes; `None` of one that is too old to say.
pub(crate) fn largest_message(mapi: &Mapi) -> Option<u64> {
    let status = mapi.broker_status().ok().flatten()?;
    status.limits.iter().find(|limit| limit.name == "message").map(|limit| limit.most)
}

/// What may still be read of everything that goes into one message. The broker is asked for its limit when there is more than [`UNASKED`].
pub(crate) struct Budget<A> {
    limit: u64,
    left: u64,
    ask: Option<A>,
}

impl<A: FnOnce() -> Option<u64>> Budget<A> {
    pub(crate) fn new(ask: A) -> Self {
        Self { limit: UNASKED, left: UNASKED, ask: Some(ask) }
    }

    /// There is more than may be read so far.
    fn ask(&mut self) -> io::Result<()> {
        let limit = self.ask.take().and_then(|ask| ask()).unwrap_or(self.limit);
        if limit <= self.limit {
            return Err(too_long(limit));
        }
        (self.left, self.limit) = (limit - self.limit, limit);
        Ok(())
    }
}

/// An input that fails with [`FileTooLarge`](ErrorKind::FileTooLarge) where the budget ends.
pub(crate) struct Bounded<'b, R, A> {
    input: R,
    budget: &'b mut Budget<A>,
}

impl<'b, R: BufRead, A: FnOnce() -> Option<u64>> Bounded<'b, R, A> {
    pub(crate) fn new(input: R, budget: &'b mut Budget<A>) -> Self {
        Self { input, budget }
    }
}

fn too_long(limit: u64) -> io::Error {
    let why = format!("it is longer than {limit} bytes, the broker's limit (limits.message)");
    io::Error::new(ErrorKind::FileTooLarge, why)
}

impl<R: BufRead, A: FnOnce() -> Option<u64>> BufRead for Bounded<'_, R, A> {
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        if self.budget.left == 0 && !self.input.fill_buf()?.is_empty() {
            self.budget.ask()?;
        }
        let bytes = self.input.fill_buf()?;
        let most = usize::try_from(self.budget.left).unwrap_or(usize::MAX);
        Ok(&bytes[..bytes.len().min(most)])
    }

    fn consume(&mut self, used: usize) {
        self.budget.left -= used as u64;
        self.input.consume(used);
    }
}

impl<R: BufRead, A: FnOnce() -> Option<u64>> Read for Bounded<'_, R, A> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let read = self.fill_buf()?.read(into)?;
        self.consume(read);
        Ok(read)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// How much of an input of this length is read where the broker says this limit.
    fn read(length: u64, limit: Option<u64>) -> (io::Result<()>, u64) {
        let input = io::BufReader::new(io::repeat(b'x').take(length));
        let mut budget = Budget::new(|| limit);
        let mut bounded = Bounded::new(input, &mut budget);
        let mut read = 0;
        let done = loop {
            match bounded.fill_buf().map(<[u8]>::len) {
                Ok(0) => break Ok(()),
                Ok(more) => {
                    read += more as u64;
                    bounded.consume(more);
                }
                Err(error) => break Err(error),
            }
        };
        (done, read)
    }

    #[test]
    fn an_input_is_read_as_far_as_the_broker_takes_it() {
        let more = UNASKED + 10;
        for (length, limit, all) in [
            (0, None, true),
            (UNASKED, Some(1), true),
            (UNASKED + 1, None, false),
            (UNASKED + 1, Some(1), false),
            (more, Some(more), true),
            (more + 1, Some(more), false),
        ] {
            let (done, read) = read(length, limit);
            assert_eq!(done.is_ok(), all, "{length} {limit:?}");
            let most = if all { length } else { limit.unwrap_or(0).max(UNASKED) };
            assert_eq!(read, most, "{length} {limit:?}");
            if let Err(error) = done {
                assert_eq!(error.kind(), ErrorKind::FileTooLarge);
                assert!(error.to_string().contains("limits.message"), "{error}");
            }
        }
    }

    #[test]
    fn what_is_read_is_the_input() {
        let mut text = String::new();
        let mut budget = Budget::new(|| None);
        let mut bounded = Bounded::new(&b"a\nb"[..], &mut budget);
        bounded.read_to_string(&mut text).expect("text");
        assert_eq!(text, "a\nb");
    }

    /// Several files share what one message may have.
    #[test]
    fn inputs_share_a_budget() {
        let mut budget = Budget::new(|| None);
        for (length, fits) in [(UNASKED - 1, true), (1, true), (0, true), (1, false)] {
            let mut input =
                Bounded::new(io::BufReader::new(io::repeat(b'x').take(length)), &mut budget);
            let read = io::copy(&mut input, &mut io::sink());
            assert_eq!(read.is_ok(), fits, "{length}");
        }
    }
}
