//! Cuts what a server sends into responses.
//!
//! A response is a line, or lines with literals between them: a line that ends in `{5}` goes on behind the five bytes that follow it.
//! What a server says in words, as in `* OK`, is for people, and a line of it that ends like that goes on nowhere.

use std::fmt;
use std::ops::Range;

use memchr::memchr;

/// The most bytes that a response may have: as many as a list of the numbers of a million messages.
pub const MAX_RESPONSE: usize = 8 << 20;

/// Room that is kept from one response to the next.
const KEPT: usize = 512 << 10;

/// What a server sends that cannot be cut: where the next response begins is not known.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Broken {
    /// A response has more bytes than [`MAX_RESPONSE`].
    TooLong,
}

impl fmt::Display for Broken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::TooLong => {
                write!(f, "it sends a response of more than {} MiB", MAX_RESPONSE >> 20)
            }
        }
    }
}

/// The bytes that have come from a server.
///
/// ```
/// use sundown_providers::imap::Inbox;
///
/// let mut inbox = Inbox::default();
/// inbox.feed(b"* 1 FETCH (BODY[] {4}\r\nab\r");
/// assert_eq!(inbox.response(), Ok(None));
/// inbox.feed(b"\n)\r\n* OK it goes on\r\n");
/// assert_eq!(inbox.response(), Ok(Some(&b"* 1 FETCH (BODY[] {4}\r\nab\r\n)"[..])));
/// assert_eq!(inbox.response(), Ok(Some(&b"* OK it goes on"[..])));
/// ```
#[derive(Debug, Default)]
pub struct Inbox {
    bytes: Vec<u8>,
    /// Where the response begins that comes next.
    begin: usize,
    /// Where the line of it begins whose end has not come.
    line: usize,
    /// How far that line has no end.
    looked: usize,
}

impl Inbox {
    /// Takes what has arrived.
    pub fn feed(&mut self, bytes: &[u8]) {
        self.make_room();
        self.bytes.extend_from_slice(bytes);
    }

    /// Whether nothing is left of what has arrived.
    pub fn is_empty(&self) -> bool {
        self.begin == self.bytes.len()
    }

    /// What has arrived behind the responses that were given out.
    pub(super) fn take_rest(&mut self) -> Vec<u8> {
        let Self { mut bytes, begin, .. } = std::mem::take(self);
        bytes.drain(..begin);
        bytes
    }

    /// The next response, if all of it is there, with its literals and without its last line's end.
    ///
    /// # Errors
    ///
    /// Fails for good when a response is too long.
    pub fn response(&mut self) -> Result<Option<&[u8]>, Broken> {
        Ok(self.cut()?.map(|response| &self.bytes[response]))
    }

    fn cut(&mut self) -> Result<Option<Range<usize>>, Broken> {
        loop {
            let unseen = self.bytes.get(self.looked..).unwrap_or_default();
            let Some(end) = memchr(b'\n', unseen).map(|end| self.looked + end) else {
                // A literal may reach beyond what is there.
                self.looked = self.looked.max(self.bytes.len());
                return if self.is_too_long(self.looked) { Err(Broken::TooLong) } else { Ok(None) };
            };
            let line = &self.bytes[self.line..end];
            let line = line.strip_suffix(b"\r").unwrap_or(line);
            let behind = end + 1;
            let literal = announced(line).filter(|_| has_literals(&self.bytes[self.begin..end]));
            if let Some(length) = literal {
                self.line = behind.saturating_add(length);
                self.looked = self.line;
                if self.is_too_long(self.looked) {
                    return Err(Broken::TooLong);
                }
                continue;
            }
            let response = self.begin..self.line + line.len();
            if self.is_too_long(response.end) {
                return Err(Broken::TooLong);
            }
            (self.begin, self.line, self.looked) = (behind, behind, behind);
            return Ok(Some(response));
        }
    }

    fn is_too_long(&self, end: usize) -> bool {
        end - self.begin > MAX_RESPONSE
    }

    /// Forgets what was given out.
    fn make_room(&mut self) {
        if self.begin == 0 {
            return;
        }
        self.bytes.drain(..self.begin);
        self.line -= self.begin;
        self.looked -= self.begin;
        self.begin = 0;
        if self.bytes.len() < KEPT {
            self.bytes.shrink_to(KEPT);
        }
    }
}

/// The length of the literal that a line announces at its end: `{5}`, `{5+}`, and `~{5}` for any bytes.
fn announced(line: &[u8]) -> Option<usize> {
    let inside = line.strip_suffix(b"}")?;
    let inside = inside.strip_suffix(b"+").unwrap_or(inside);
    let begin = inside.iter().rposition(|b| !b.is_ascii_digit())?;
    if inside[begin] != b'{' || begin + 1 == inside.len() {
        return None;
    }
    let digits = std::str::from_utf8(&inside[begin + 1..]).ok()?;
    Some(digits.parse().unwrap_or(usize::MAX))
}

/// Whether a response is data, which may have literals.
fn has_literals(response: &[u8]) -> bool {
    let Some(rest) = response.strip_prefix(b"* ") else { return false };
    let word = rest.split(|b| matches!(b, b' ' | b'\r')).next().unwrap_or_default();
    !["OK", "NO", "BAD", "BYE", "PREAUTH"]
        .iter()
        .any(|status| word.eq_ignore_ascii_case(status.as_bytes()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cut(bytes: &[u8], piece: usize) -> Result<Vec<String>, Broken> {
        let (mut inbox, mut found) = (Inbox::default(), Vec::new());
        for piece in bytes.chunks(piece) {
            inbox.feed(piece);
            while let Some(response) = inbox.response()? {
                found.push(String::from_utf8_lossy(response).into_owned());
            }
        }
        Ok(found)
    }

    #[test]
    fn responses_are_lines_and_literals() {
        let cases: [(&str, &[&str]); 8] = [
            ("* OK hi\r\n+ go\r\na1 OK done\r\n", &["* OK hi", "+ go", "a1 OK done"]),
            (
                "* LIST () \"/\" {3}\r\na\r\n\r\n* 1 EXISTS\r\n",
                &["* LIST () \"/\" {3}\r\na\r\n", "* 1 EXISTS"],
            ),
            ("* LIST () NIL {0}\r\n\r\n", &["* LIST () NIL {0}\r\n"]),
            ("* 1 FETCH (A {1+}\r\n\nB ~{2}\r\n)))\r\n", &["* 1 FETCH (A {1+}\r\n\nB ~{2}\r\n)))"]),
            // Words for people, and names that only look like it.
            (
                "* no more than {5}\r\na2 OK {7}\r\n+ {1}\r\n",
                &["* no more than {5}", "a2 OK {7}", "+ {1}"],
            ),
            ("* LIST () \"/\" a{b}\r\n* X {}\r\n", &["* LIST () \"/\" a{b}", "* X {}"]),
            ("* bare\n\r\n", &["* bare", ""]),
            ("* 1 FETCH (A {99}\r\n", &[]),
        ];
        for (bytes, wanted) in cases {
            for piece in [1, 2, 3, 1000] {
                let wanted = wanted.iter().map(ToString::to_string).collect::<Vec<_>>();
                assert_eq!(cut(bytes.as_bytes(), piece), Ok(wanted), "{bytes:?}");
            }
        }
    }

    #[test]
    fn what_does_not_end_is_not_waited_for() {
        for begin in [
            "* X {8388600}\r\n",
            "* X {99999999999999999999999}\r\n",
            "* X {18446744073709551615}\r\n",
        ] {
            let mut inbox = Inbox::default();
            inbox.feed(begin.as_bytes());
            assert_eq!(inbox.response(), Err(Broken::TooLong), "{begin}");
        }
        let mut inbox = Inbox::default();
        let mut fed = 0;
        while inbox.response() == Ok(None) {
            inbox.feed(&vec![b'x'; 64 << 10]);
            fed += 64 << 10;
            assert!(fed <= MAX_RESPONSE + (64 << 10));
        }
        inbox.feed(b"\r\n");
        assert_eq!(inbox.response(), Err(Broken::TooLong), "nothing behind it is read");
    }

    #[test]
    fn room_is_given_back() {
        let mut inbox = Inbox::default();
        inbox.feed(format!("* X {{{}}}\r\n", 6 << 20).as_bytes());
        inbox.feed(&vec![0; 6 << 20]);
        inbox.feed(b"\r\n* 1 EXI");
        assert!(
            inbox.response().expect("responses").is_some_and(|response| response.len() > 6 << 20)
        );
        inbox.feed(b"STS\r\n");
        assert_eq!(inbox.response(), Ok(Some(&b"* 1 EXISTS"[..])));
        assert!(inbox.is_empty() && inbox.bytes.capacity() <= KEPT);
    }
}
