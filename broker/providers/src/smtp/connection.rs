//! The conversation with a server: lines there, answers back, each within its time.

use std::collections::HashSet;
use std::io::{self, Write};
use std::net::IpAddr;
use std::time::{Duration, Instant};

use super::answer::{Answer, Inbox, Meaning};
use super::dialect::Dialect;
use super::dots::Leave;
use crate::files::read;
use crate::network::mechanism::Mechanism;
use crate::network::trouble::{Kind, Trouble};
use crate::network::wire::Stream;
use lettre::transport::smtp::commands::{Quit, Rset};
use lettre::transport::smtp::extension::{Extension, ServerInfo};
use lettre::transport::smtp::response::{Category, Code as ReplyCode, Detail, Response, Severity};

/// How long a server may take to say goodbye. Nothing depends on it.
const GOODBYE: Duration = Duration::from_secs(1);

/// What a server offers.
#[derive(Debug, Default)]
pub(super) struct Offer {
    info: ServerInfo,
    keywords: HashSet<String>,
    size: Option<u64>,
    mechanisms: HashSet<String>,
}

impl Offer {
    /// Reads an answer to EHLO. Servers differ in case, and old ones write `AUTH=`.
    pub(super) fn of(answer: &Answer) -> Self {
        let mut lines: Vec<_> =
            answer.lines().map(|l| l.to_ascii_uppercase().replacen("AUTH=", "AUTH ", 1)).collect();
        if let Some(name) = lines.first_mut() {
            // The first line is a name and a greeting, whatever it looks like.
            "SERVER".clone_into(name);
        }
        let mut offer = Self::default();
        for line in &lines {
            let mut words = line.split_whitespace();
            let Some(keyword) = words.next() else { continue };
            if keyword == "SIZE" {
                // Zero and nothing at all both mean that there is no fixed limit.
                offer.size = words.next().and_then(|n| n.parse().ok()).filter(|size| *size > 0);
            }
            if keyword == "AUTH" {
                offer.mechanisms.extend(words.clone().map(str::to_owned));
            }
            offer.keywords.insert(keyword.to_owned());
        }
        let done = ReplyCode::new(Severity::PositiveCompletion, Category::MailSystem, Detail::Zero);
        offer.info = ServerInfo::from_response(&Response::new(done, lines)).unwrap_or_default();
        offer
    }

    /// Whether it has an extension without parameters, such as `PIPELINING`.
    pub(super) fn has(&self, keyword: &str) -> bool {
        self.keywords.contains(keyword)
    }

    /// Whether it has an extension that `lettre` knows.
    pub(super) fn supports(&self, extension: Extension) -> bool {
        self.info.supports_feature(extension)
    }

    /// Whether one may log on so.
    pub(super) fn has_mechanism(&self, mechanism: Mechanism) -> bool {
        self.mechanisms.contains(mechanism.name())
    }

    /// The most bytes that a message may have, if it says so.
    pub(super) fn size(&self) -> Option<u64> {
        self.size
    }
}

/// A conversation with a server.
#[derive(Debug)]
pub(super) struct Connection {
    stream: Stream,
    inbox: Inbox,
    place: String,
    timeout: Duration,
    /// What the server is spoken to in.
    pub(super) dialect: Dialect,
    /// What the server offers.
    pub(super) offer: Offer,
    /// How many recipients the server takes at once, if it has said that there were too many.
    pub(super) most_recipients: Option<usize>,
}

impl Connection {
    /// A conversation that has not begun.
    pub(super) fn new(stream: Stream, dialect: Dialect, place: String, timeout: Duration) -> Self {
        let (inbox, offer) = (Inbox::default(), Offer::default());
        Self { stream, inbox, place, timeout, dialect, offer, most_recipients: None }
    }

    /// The server as people know it.
    pub(super) fn place(&self) -> &str {
        &self.place
    }

    /// How long an answer may take.
    pub(super) fn set_timeout(&mut self, timeout: Duration) {
        self.timeout = timeout;
    }

    pub(super) fn timeout(&self) -> Duration {
        self.timeout
    }

    /// Our own address on it.
    pub(super) fn local_address(&mut self) -> Option<IpAddr> {
        self.stream.wire().local_address()
    }

    /// Gives the way to the server back, and whether there is nothing on it that was not read.
    pub(super) fn into_stream(self) -> (Stream, Unread) {
        let unread = if self.inbox.is_empty() { Unread::Nothing } else { Unread::Something };
        (self.stream, unread)
    }

    /// How many bytes the socket has taken so far.
    pub(super) fn sent(&self) -> u64 {
        self.stream.sent()
    }

    /// Whether the server has neither said anything unasked nor closed the connection.
    pub(super) fn is_quiet(&mut self) -> bool {
        self.inbox.is_empty() && self.stream.is_quiet()
    }

    /// Says a line, which has its end, and waits for the answer.
    pub(super) fn command(&mut self, line: &str) -> Result<Answer, Trouble> {
        self.send(line.as_bytes())?;
        self.answer()
    }

    /// Hands bytes to the socket, all of them within the time of one answer.
    pub(super) fn send(&mut self, bytes: &[u8]) -> Result<(), Trouble> {
        self.stream.wire().set_deadline(Instant::now() + self.timeout);
        let sent = self.stream.write_all(bytes).and_then(|()| self.stream.flush());
        sent.map_err(|error| Trouble::of(&self.place, &error))
    }

    /// Sends the dot that ends a message, which nothing else sends. The body before it was sent to its last line end, so its first
    /// byte leaves by this call.
    pub(super) fn send_dot(&mut self, _: Leave) -> Result<(), Trouble> {
        self.send(b".\r\n")
    }

    /// Waits for an answer.
    pub(super) fn answer(&mut self) -> Result<Answer, Trouble> {
        self.answer_within(self.timeout)
    }

    /// Waits that long for an answer.
    pub(super) fn answer_within(&mut self, time: Duration) -> Result<Answer, Trouble> {
        let answer = self.unlogged_answer(time)?;
        tracing::debug!(server = self.place, answer = answer.words());
        Ok(answer)
    }

    /// Waits for an answer that may repeat a secret.
    pub(super) fn unlogged_answer(&mut self, time: Duration) -> Result<Answer, Trouble> {
        self.stream.wire().set_deadline(Instant::now() + time);
        let mut piece = [0; 4096];
        loop {
            let answer = self.inbox.next().map_err(|nonsense| Trouble {
                kind: Kind::Nonsense,
                words: format!("{} cannot be understood: {nonsense}", self.place),
            })?;
            if let Some(answer) = answer {
                return Ok(answer);
            }
            match read(&mut self.stream, &mut piece) {
                Ok(0) => return Err(self.closed()),
                Ok(n) => self.inbox.feed(&piece[..n]),
                Err(error) => return Err(Trouble::of(&self.place, &error)),
            }
        }
    }

    /// Puts the server back to where a transaction can begin; whether that worked.
    pub(super) fn reset(&mut self) -> bool {
        let answer = self.command(&Rset.to_string());
        answer.is_ok_and(|answer| answer.meaning() == Meaning::Done)
    }

    /// Says goodbye and closes.
    pub(super) fn quit(mut self) {
        self.timeout = GOODBYE;
        if self.command(&Quit.to_string()).is_ok() {
            self.stream.close();
        }
    }

    fn closed(&self) -> Trouble {
        Trouble::of(&self.place, &io::ErrorKind::UnexpectedEof.into())
    }
}

/// Whether something came that nobody has read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Unread {
    /// No.
    Nothing,
    /// Yes.
    Something,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn offer(text: &str) -> Offer {
        let mut inbox = Inbox::default();
        inbox.feed(text.as_bytes());
        Offer::of(&inbox.next().expect("SMTP").expect("an answer"))
    }

    #[test]
    fn an_offer_is_read_whatever_its_case() {
        let offer = offer(
            "250-STARTTLS greets you\r\n250-size 1000\r\n250-8BitMime\r\n250-Pipelining\r\n\
             250-AUTH=LOGIN\r\n250-auth plain XOAUTH2 SCRAM-SHA-1\r\n250 HELP\r\n",
        );
        assert!(offer.has("PIPELINING") && offer.has("HELP") && !offer.has("DSN"));
        assert!(offer.supports(Extension::EightBitMime));
        assert!(!offer.supports(Extension::StartTls), "the first line is a greeting");
        assert_eq!(offer.size(), Some(1000));
        let offered = Mechanism::ALL.map(|one| offer.has_mechanism(one));
        assert_eq!(offered, [true, true, false, true, true, false]);
    }

    #[test]
    fn a_size_that_says_nothing_is_no_limit() {
        for line in ["SIZE", "SIZE 0", "SIZE x", "SIZE 99999999999999999999999"] {
            assert_eq!(offer(&format!("250-x\r\n250 {line}\r\n")).size(), None, "{line}");
        }
        assert!(offer("250 x\r\n").keywords.len() == 1);
    }
}
