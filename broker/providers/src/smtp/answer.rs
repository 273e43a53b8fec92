//! What a server answers: cut out of the bytes it sends, bounded, and told in one line.
//!
//! The vocabulary is that of `lettre`. Its parser is given what it takes: a code without words gets a blank, and a code
//! with a second digit that RFC 5321 does not know is read by its first, as it says.

use std::fmt;

use lettre::transport::smtp::response::{Response, Severity};
use sundown_mail::status::is_enhanced;

use crate::headers::clean;

/// The most bytes of one answer. Real ones are smaller by a factor of a hundred.
const MAX_BYTES: usize = 64 << 10;
/// The most lines of one answer: an EHLO of a server with everything has thirty.
const MAX_LINES: usize = 100;
/// The most characters that are told of one.
const MAX_TOLD: usize = 2000;

/// One answer of a server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Answer {
    code: u16,
    response: Response,
}

/// What an answer means for what was asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Meaning {
    /// Done.
    Done,
    /// More is expected.
    GoOn,
    /// Not now.
    Later,
    /// Never.
    Never,
}

impl Answer {
    fn parse(lines: &[String]) -> Option<Self> {
        let code = lines.last()?.get(..3)?;
        let lines = lines.iter().map(|line| known(line)).collect::<Option<Vec<_>>>()?;
        let response = format!("{}\r\n", lines.join("\r\n")).parse().ok()?;
        Some(Self { code: code.parse().ok()?, response })
    }

    /// The three digits.
    pub(super) fn code(&self) -> u16 {
        self.code
    }

    /// What it means.
    pub(super) fn meaning(&self) -> Meaning {
        match self.response.code().severity {
            Severity::PositiveCompletion => Meaning::Done,
            Severity::PositiveIntermediate => Meaning::GoOn,
            Severity::TransientNegativeCompletion => Meaning::Later,
            Severity::PermanentNegativeCompletion => Meaning::Never,
        }
    }

    /// Whether the server closes the connection with it.
    pub(super) fn closes(&self) -> bool {
        self.code == 421
    }

    /// Its lines without their codes.
    pub(super) fn lines(&self) -> impl Iterator<Item = &str> {
        self.response.message()
    }

    /// All of its words in one line, such as `550 5.1.1 no such user`.
    pub(super) fn words(&self) -> String {
        let mut words = self.code.to_string();
        let mut status = "";
        for line in self.lines() {
            if status.is_empty() {
                status = enhanced(line);
            } else {
                words.extend([" ", &clean(line.strip_prefix(status).unwrap_or(line))]);
                continue;
            }
            words.extend([" ", &clean(line)]);
        }
        words.trim_end().chars().take(MAX_TOLD).collect()
    }
}

/// An enhanced status code at the beginning, which servers repeat in each line.
fn enhanced(line: &str) -> &str {
    let word = line.split(' ').next().unwrap_or_default();
    if is_enhanced(word) { word } else { "" }
}

/// A line as `lettre` takes it.
fn known(line: &str) -> Option<String> {
    let (code, rest) = line.split_at_checked(3)?;
    if !code.bytes().all(|b| b.is_ascii_digit()) {
        return None;
    }
    let middle = &code[1..2];
    let middle = if middle > "5" { "0" } else { middle };
    let rest = if rest.is_empty() { " " } else { rest };
    Some(format!("{}{middle}{}{rest}", &code[..1], &code[2..]))
}

/// What a server sent that is not an answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Nonsense {
    /// It goes on and on.
    Endless,
    /// It is something else.
    NotSmtp,
}

impl fmt::Display for Nonsense {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Endless => "its answer does not end",
            Self::NotSmtp => "its answer is not SMTP",
        })
    }
}

/// Cuts answers out of the bytes that arrive.
#[derive(Debug, Default)]
pub(super) struct Inbox {
    bytes: Vec<u8>,
    /// How many of the bytes have no line end among them.
    looked_at: usize,
    /// The lines of an answer that is not complete, and their bytes.
    lines: Vec<String>,
    size: usize,
}

impl Inbox {
    /// Takes what has arrived.
    pub(super) fn feed(&mut self, bytes: &[u8]) {
        self.bytes.extend_from_slice(bytes);
    }

    /// Whether nothing is left of what has arrived.
    pub(super) fn is_empty(&self) -> bool {
        self.bytes.is_empty() && self.lines.is_empty()
    }

    /// The next answer, if all of it is there.
    pub(super) fn next(&mut self) -> Result<Option<Answer>, Nonsense> {
        while let Some(line) = self.line()? {
            let last = match line.as_bytes().get(3) {
                Some(b'-') => false,
                Some(b' ') | None => true,
                Some(_) => return Err(Nonsense::NotSmtp),
            };
            // Nonsense is noticed at once: its sender may not intend to end it.
            known(&line).ok_or(Nonsense::NotSmtp)?;
            self.lines.push(line);
            if last {
                let lines = std::mem::take(&mut self.lines);
                self.size = 0;
                return Answer::parse(&lines).map(Some).ok_or(Nonsense::NotSmtp);
            }
            if self.lines.len() >= MAX_LINES {
                return Err(Nonsense::Endless);
            }
        }
        Ok(None)
    }

    fn line(&mut self) -> Result<Option<String>, Nonsense> {
        let end = self.bytes[self.looked_at..].iter().position(|b| *b == b'\n');
        let length = end.map_or(self.bytes.len(), |end| self.looked_at + end + 1);
        if self.size + length > MAX_BYTES {
            return Err(Nonsense::Endless);
        }
        if end.is_none() {
            self.looked_at = length;
            return Ok(None);
        }
        self.looked_at = 0;
        self.size += length;
        let line: Vec<u8> = self.bytes.drain(..length).collect();
        let line = &line[..length - 1];
        let line = line.strip_suffix(b"\r").unwrap_or(line);
        Ok(Some(String::from_utf8_lossy(line).into_owned()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answers(bytes: &[u8]) -> Result<Vec<(u16, String)>, Nonsense> {
        let mut inbox = Inbox::default();
        inbox.feed(bytes);
        let mut found = Vec::new();
        while let Some(answer) = inbox.next()? {
            found.push((answer.code(), answer.words()));
        }
        Ok(found)
    }

    fn one(bytes: &[u8]) -> Answer {
        let mut inbox = Inbox::default();
        inbox.feed(bytes);
        inbox.next().expect("SMTP").expect("a whole answer")
    }

    #[test]
    fn answers_are_told_in_one_line() {
        let cases: [(&[u8], &str); 7] = [
            (b"250 ok\r\n", "250 ok"),
            (b"250\r\n", "250"),
            (b"250 bare line feed\n", "250 bare line feed"),
            (b"550-5.1.1 no\r\n550 5.1.1 such user\r\n", "550 5.1.1 no such user"),
            (b"550-no\r\n550 such user\r\n", "550 no such user"),
            (b"571 5.7.1 blocked\r\n", "571 5.7.1 blocked"),
            (b"550 t\xffh\x1bat\ttab\r\n", "550 t\u{fffd}h\u{fffd}at tab"),
        ];
        for (bytes, words) in cases {
            let answer = one(bytes);
            assert_eq!(answer.words(), words);
        }
    }

    #[test]
    fn codes_have_meanings() {
        assert_eq!(one(b"250 x\r\n").meaning(), Meaning::Done);
        assert_eq!(one(b"354 x\r\n").meaning(), Meaning::GoOn);
        assert_eq!(one(b"471 x\r\n").meaning(), Meaning::Later);
        assert_eq!(one(b"598 x\r\n").meaning(), Meaning::Never);
        assert!(one(b"421 bye\r\n").closes() && !one(b"451 x\r\n").closes());
    }

    #[test]
    fn several_come_one_by_one_whatever_the_pieces() {
        let all = b"250-a\r\n250 b\r\n550 c\r\n";
        let wanted = [(250, "250 a b".to_owned()), (550, "550 c".to_owned())];
        assert_eq!(answers(all).as_deref(), Ok(&wanted[..]));
        let mut inbox = Inbox::default();
        let mut found = Vec::new();
        for byte in all {
            inbox.feed(&[*byte]);
            found.extend(inbox.next().expect("SMTP").map(|a| (a.code(), a.words())));
        }
        assert_eq!(found, wanted);
        assert!(inbox.is_empty());
    }

    #[test]
    fn nonsense_is_no_answer() {
        let cases: [&[u8]; 9] = [
            b"HTTP/1.1 400 Bad Request\r\n",
            b"\r\n",
            b"25\r\n",
            b"25x no\r\n",
            b"250_no\r\n",
            b"250-a\r\n550 b\r\n",
            b"\x16\x03\x01\n",
            b"\xff\xfe\xfd\xfc\n",
            b"120 no such class\r\n",
        ];
        for bytes in cases {
            assert_eq!(answers(bytes), Err(Nonsense::NotSmtp), "{bytes:?}");
        }
    }

    #[test]
    fn an_answer_ends() {
        assert_eq!(answers(&vec![b'2'; MAX_BYTES + 1]), Err(Nonsense::Endless));
        assert_eq!(answers("250-x\r\n".repeat(MAX_LINES).as_bytes()), Err(Nonsense::Endless));
        let long = format!("250-{}\r\n", "x".repeat(1000)).repeat(70);
        assert_eq!(answers(long.as_bytes()), Err(Nonsense::Endless));
        // Each answer has its own bound.
        let many = "250 x\r\n".repeat(20_000);
        assert_eq!(answers(many.as_bytes()).map(|a| a.len()), Ok(20_000));
    }

    #[test]
    fn what_is_told_is_bounded() {
        let long = format!("550-{}\r\n", "x".repeat(900)).repeat(9) + "550 end\r\n";
        assert_eq!(one(long.as_bytes()).words().len(), MAX_TOLD);
    }
}
