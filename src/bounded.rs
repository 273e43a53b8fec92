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

/// An input that fails with [`FileTooLarge`](ErrorKind::FileTooLarge) beyond the limit of the broker, who is asked when more has come
/// than [`UNASKED`].
pub(crate) struct Bounded<R, A> {
    input: R,
    limit: u64,
    left: u64,
    ask: Option<A>,
}

impl<R: BufRead, A: FnOnce() -> Option<u64>> Bounded<R, A> {
    pub(crate) fn new(input: R, ask: A) -> Self {
        Self { input, limit: UNASKED, left: UNASKED, ask: Some(ask) }
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

fn too_long(limit: u64) -> io::Error {
    let why = format!("it is longer than {limit} bytes, the broker's limit (limits.message)");
    io::Error::new(ErrorKind::FileTooLarge, why)
}

impl<R: BufRead, A: FnOnce() -> Option<u64>> BufRead for Bounded<R, A> {
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        if self.left == 0 && !self.input.fill_buf()?.is_empty() {
            self.ask()?;
        }
        let bytes = self.input.fill_buf()?;
        let most = usize::try_from(self.left).unwrap_or(usize::MAX);
        Ok(&bytes[..bytes.len().min(most)])
    }

    fn consume(&mut self, used: usize) {
        self.left -= used as u64;
        self.input.consume(used);
    }
}

impl<R: BufRead, A: FnOnce() -> Option<u64>> Read for Bounded<R, A> {
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
        let mut bounded = Bounded::new(input, || limit);
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
        let mut bounded = Bounded::new(&b"a\nb"[..], || None);
        bounded.read_to_string(&mut text).expect("text");
        assert_eq!(text, "a\nb");
    }
}
