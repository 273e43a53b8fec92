//! The conversation with a server: commands there, responses back, each within its time.

use std::collections::BTreeSet;
use std::io::{self, Read, Write};
use std::os::fd::BorrowedFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use sundown_core::provider::ProviderError;
use sundown_protocol::Code;

use super::notify::{Asked, Heard};
use super::{About, Data, End, Inbox, Note, Response, Said, Set};
use crate::Result;
use crate::mailbox::Halt;
use crate::network::deflate::{Deflated, NotCompressed};
use crate::network::mechanism::Mechanism;
use crate::network::trouble::{Kind, Trouble};
use crate::network::wire::{Stream, Wire};

/// How much is read at once.
const READ: usize = 64 << 10;

/// How many words of no use a server may say during one command.
const MOST_WORDS: u32 = 10_000;

/// How many bytes it may say: the flags of a million messages have a quarter of that.
const MOST_OF_COMMAND: u64 = 256 << 20;

/// How many bytes are read at most before what they say is looked into.
const MOST_HEARD: u64 = 1 << 20;

/// How often a server may ask for more in one logon.
const MOST_CHALLENGES: u32 = 20;

/// What a server can do.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Offer(BTreeSet<String>);

impl Offer {
    fn of(words: &[&[u8]]) -> Self {
        let upper = |word: &&[u8]| String::from_utf8_lossy(word).to_ascii_uppercase();
        Self(words.iter().map(upper).collect())
    }

    pub(super) fn has(&self, capability: &str) -> bool {
        self.0.contains(capability)
    }

    /// Whether the server speaks the IMAP that is spoken here.
    pub(super) fn is_imap(&self) -> bool {
        self.has("IMAP4REV1") || self.has("IMAP4REV2")
    }

    /// Whether one may log on so.
    pub(super) fn has_mechanism(&self, mechanism: Mechanism) -> bool {
        self.0.contains(&format!("AUTH={}", mechanism.name()))
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

/// What a command came to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Done {
    pub(super) end: End,
    /// What programs may know of it.
    pub(super) note: Option<Told>,
    /// The server's words.
    pub(super) words: String,
    /// Whether everything that was said was understood.
    pub(super) clear: bool,
}

/// What the end of a command says, of what is used here.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Told {
    AppendUid {
        validity: u32,
        uids: Set,
    },
    CopyUid {
        validity: u32,
        from: Set,
        to: Set,
    },
    /// By its name, in capitals.
    Other(String),
}

impl Done {
    /// Fails unless the command was carried out.
    pub(super) fn expect(self, place: &str, what: &str) -> Result<Self> {
        if self.end == End::Ok {
            return Ok(self);
        }
        let text = format!("{place} refuses {what}: {}", self.words);
        let code = match &self.note {
            Some(Told::Other(name)) if name == "OVERQUOTA" => Code::E_NOT_ENOUGH_RESOURCES,
            Some(Told::Other(name)) if name == "NONEXISTENT" => Code::E_NOT_FOUND,
            Some(Told::Other(name)) if name == "NOPERM" => Code::E_NO_ACCESS,
            _ => Code::E_CALL_FAILED,
        };
        Err(ProviderError::new(code, text))
    }
}

/// Something that is not text in a command.
pub(super) enum Part<'a> {
    /// As it stands.
    Text(&'a str),
    /// A name or another value, quoted or as a literal.
    Value(&'a [u8]),
}

/// A conversation with a server.
#[derive(Debug)]
pub(super) struct Conversation {
    stream: Stream,
    inbox: Inbox,
    place: String,
    timeout: Duration,
    tags: u32,
    /// What the last command came to, if the server was through with it before the one before it.
    early: Option<(String, Done)>,
    pub(super) offer: Offer,
    /// What the server says of folders unasked, if it is to.
    pub(super) heard: Option<Heard>,
    /// How often it has said something of that kind that was not known.
    news: u64,
    /// What the command asks about folders that is carried out.
    asked: Asked,
    buffer: Box<[u8]>,
    /// How many bytes have come.
    read: u64,
    /// How many responses could not be read.
    garbled: u64,
    /// How often the server has asked for more in a logon.
    challenges: u32,
    /// Where it is noted if the server does not compress as it has said.
    compressed_wrong: Option<Arc<AtomicBool>>,
    /// When everything must be said, while it is not known who we are.
    until: Option<Instant>,
    /// When the connection is lost.
    #[cfg(test)]
    pub(super) cut: Option<(u32, Cut)>,
    /// What happens in front of everything that is sent.
    #[cfg(test)]
    pub(super) meanwhile: crate::mailbox::testing::Meanwhile,
}

/// Where a connection is lost in a test.
#[cfg(test)]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Cut {
    /// In front of what is sent after so many times.
    Question,
    /// In front of an answer that has come after so many times.
    Answer,
}

impl Conversation {
    /// Whether the connection is lost here.
    #[cfg(test)]
    fn is_cut(&mut self, at: Cut) -> Result<()> {
        let Some((left, _)) = self.cut.as_mut().filter(|(_, when)| *when == at) else {
            return Ok(());
        };
        if *left > 0 {
            *left -= 1;
            return Ok(());
        }
        if at == Cut::Answer && self.inbox.is_empty() {
            let never = crate::mailbox::Waker::new().expect("a waker");
            let most = Duration::from_secs(20);
            let _ = self.stream.wait(std::os::fd::AsFd::as_fd(&never), most);
        }
        Err(ProviderError::new(Code::E_NETWORK_ERROR, "the connection was cut"))
    }

    /// A conversation with a server that has said nothing yet. Each answer may take so long.
    pub(super) fn new(stream: Stream, place: String, timeout: Duration) -> Self {
        let (inbox, offer) = (Inbox::default(), Offer::default());
        let buffer = vec![0; READ].into();
        Self {
            stream,
            inbox,
            place,
            timeout,
            tags: 0,
            early: None,
            offer,
            heard: None,
            news: 0,
            asked: Asked::Nothing,
            buffer,
            read: 0,
            garbled: 0,
            challenges: 0,
            compressed_wrong: None,
            until: None,
            #[cfg(test)]
            cut: None,
            #[cfg(test)]
            meanwhile: crate::mailbox::testing::Meanwhile::default(),
        }
    }

    pub(super) fn place(&self) -> &str {
        &self.place
    }

    /// The connection below, if the server has said nothing more.
    pub(super) fn into_wire(self) -> Option<Wire> {
        match self.stream {
            Stream::Plain(wire) if self.inbox.is_empty() => Some(wire),
            _ => None,
        }
    }

    /// Reads the greeting, which is the first response. Whether the server knows already who we are.
    pub(super) fn greeting(&mut self) -> Result<bool> {
        let mut greeted = None;
        let mut words = String::new();
        self.next(|response| {
            if let Response::Words { about, said } = response {
                words = text(said.words);
                greeted = Some((*about, capabilities(said.note.as_ref())));
            }
        })?;
        let Some((about, offer)) = greeted else {
            let words = format!("{} does not speak IMAP there; check host and port", self.place);
            return Err(Trouble { kind: Kind::Nonsense, words }.into_error());
        };
        self.offer = offer.unwrap_or_default();
        match about {
            About::Ok => Ok(false),
            About::Preauth => Ok(true),
            _ => {
                let text = format!("{} is not ready: {words}", self.place);
                Err(ProviderError::new(Code::E_NETWORK_ERROR, text))
            }
        }
    }

    /// Asks what the server can do, unless it has said so.
    pub(super) fn learn(&mut self) -> Result<()> {
        if self.offer.is_empty() {
            self.run("CAPABILITY")?;
        }
        Ok(())
    }

    /// The same conversation, compressed from now on if the server can. It is noted if the server then sends something else.
    pub(super) fn compressed(mut self, wrong: &Arc<AtomicBool>) -> Result<Self> {
        if !self.offer.has("COMPRESS=DEFLATE") || self.run("COMPRESS DEFLATE")?.end != End::Ok {
            return Ok(self);
        }
        // What came behind the answer is compressed.
        let deflated = Deflated::new(self.stream, self.inbox.take_rest());
        let (stream, wrong) = (Stream::Deflated(Box::new(deflated)), Some(Arc::clone(wrong)));
        Ok(Self { stream, compressed_wrong: wrong, ..self })
    }

    #[cfg(test)]
    pub(super) fn is_compressed(&self) -> bool {
        matches!(self.stream, Stream::Deflated(_))
    }

    /// Until that moment everything must be said; without one each answer has its own time.
    pub(super) fn set_until(&mut self, until: Option<Instant>) {
        self.until = until;
    }

    /// What the server can do may be something else from now on.
    pub(super) fn forget_offer(&mut self) {
        self.offer = Offer::default();
    }

    /// Sends a command, and waits until it is through.
    pub(super) fn run(&mut self, command: &str) -> Result<Done> {
        self.command(&[Part::Text(command)], |_| Ok(())).map_err(failed)
    }

    /// Sends a command, and calls a function with everything that the server says until it is through.
    pub(super) fn command(
        &mut self,
        parts: &[Part<'_>],
        see: impl FnMut(&Response<'_>) -> std::result::Result<(), Halt>,
    ) -> std::result::Result<Done, Halt> {
        let tag = self.begin(parts)?;
        self.finish(&tag, see)
    }

    /// Carries out commands, each of which is sent before the one before it is answered, until one is refused. What the last one came to
    /// that was carried out, or the one that was refused.
    pub(super) fn in_turn(
        &mut self,
        mut commands: impl Iterator<Item = String>,
        mut see: impl FnMut(&Response<'_>) -> std::result::Result<(), Halt>,
    ) -> std::result::Result<Option<Done>, Halt> {
        let (mut ahead, mut last) = (self.begin_next(&mut commands)?, None);
        while let Some(tag) = ahead {
            ahead = self.begin_next(&mut commands)?;
            let done = self.finish(&tag, &mut see)?;
            let is_refused = done.end != End::Ok;
            last = Some(done);
            if is_refused {
                // What is sent is answered, too.
                ahead.map_or(Ok(()), |tag| self.finish(&tag, |_| Ok(())).map(drop))?;
                break;
            }
        }
        Ok(last)
    }

    fn begin_next(
        &mut self,
        commands: &mut impl Iterator<Item = String>,
    ) -> Result<Option<String>> {
        commands.next().map(|command| self.begin(&[Part::Text(&command)])).transpose()
    }

    /// Sends a command, and does not wait for its end.
    pub(super) fn begin(&mut self, parts: &[Part<'_>]) -> Result<String> {
        self.tags += 1;
        self.asked = Asked::by(parts);
        let tag = format!("a{}", self.tags);
        let mut out = format!("{tag} ").into_bytes();
        for part in parts {
            match part {
                Part::Text(text) => out.extend_from_slice(text.as_bytes()),
                Part::Value(value) if can_be_quoted(value) => {
                    out.push(b'"');
                    for byte in *value {
                        if matches!(byte, b'"' | b'\\') {
                            out.push(b'\\');
                        }
                        out.push(*byte);
                    }
                    out.push(b'"');
                }
                Part::Value(value) => {
                    out.extend_from_slice(format!("{{{}}}\r\n", value.len()).as_bytes());
                    self.send(&out)?;
                    out.clear();
                    if let Some(done) = self.may_go_on(&mut |_| {})? {
                        let text = format!("{} takes no literal: {}", self.place, done.words);
                        return Err(ProviderError::new(Code::E_CALL_FAILED, text));
                    }
                    out.extend_from_slice(value);
                }
            }
        }
        out.extend_from_slice(b"\r\n");
        self.send(&out)?;
        Ok(tag)
    }

    /// Sends commands in one go, and calls a function with everything that the server says until they are through. What is said of folders
    /// answers the last one.
    pub(super) fn commands(
        &mut self,
        commands: &[&str],
        see: impl FnMut(&Response<'_>) -> std::result::Result<(), Halt>,
    ) -> std::result::Result<Vec<Done>, Halt> {
        let (mut tags, mut out) = (Vec::new(), String::new());
        for command in commands {
            self.tags += 1;
            let tag = format!("a{}", self.tags);
            out.extend([&tag, " ", command, "\r\n"]);
            tags.push(tag);
            self.asked = Asked::by(&[Part::Text(command)]);
        }
        self.send(out.as_bytes())?;
        self.finish_all(&tags, see)
    }

    /// Waits until a command is through.
    pub(super) fn finish(
        &mut self,
        tag: &str,
        see: impl FnMut(&Response<'_>) -> std::result::Result<(), Halt>,
    ) -> std::result::Result<Done, Halt> {
        let mut done = self.finish_all(&[tag.to_owned()], see)?;
        Ok(done.pop().expect("there is one for each tag"))
    }

    /// Waits until commands are through. A server that says much more than any command has to say ends the connection.
    fn finish_all(
        &mut self,
        tags: &[String],
        mut see: impl FnMut(&Response<'_>) -> std::result::Result<(), Halt>,
    ) -> std::result::Result<Vec<Done>, Halt> {
        let (mut words, bytes, garbled) = (0, self.read, self.garbled);
        let mut done = vec![None; tags.len()];
        if let Some((tag, early)) = self.early.take()
            && let Some(at) = tags.iter().position(|of| *of == tag)
        {
            done[at] = Some(early);
        }
        let last = format!("a{}", self.tags);
        let mut early = None;
        while !done.iter().all(Option::is_some) {
            let mut seen = Ok(());
            let mut bye = None;
            self.next(|response| match response {
                Response::Done { tag, end, said } => {
                    if let Some(at) = tags.iter().position(|of| *tag == of.as_bytes()) {
                        done[at] = Some(done_of(*end, said));
                    } else {
                        words += 1;
                        if *tag == last.as_bytes() {
                            early = Some((last.clone(), done_of(*end, said)));
                        }
                    }
                }
                Response::Words { about: About::Bye, said } => bye = Some(text(said.words)),
                response => {
                    words += u32::from(!matches!(response, Response::Data(_)));
                    seen = see(response);
                }
            })?;
            seen?;
            if let Some(words) = bye.filter(|_| done.iter().any(Option::is_none)) {
                return Err(self.said_bye(&words).into());
            }
            if words > MOST_WORDS || self.read - bytes > MOST_OF_COMMAND {
                let words = format!("{} goes on and on in answer to one command", self.place);
                return Err(Trouble { kind: Kind::Nonsense, words }.into_error().into());
            }
        }
        self.early = early;
        let clear = garbled == self.garbled;
        Ok(done.into_iter().flatten().map(|done| Done { clear, ..done }).collect())
    }

    fn said_bye(&self, words: &str) -> ProviderError {
        let text = format!("{} has ended the connection: {words}", self.place);
        ProviderError::new(Code::E_NETWORK_ERROR, text)
    }

    /// Waits until the server wants the rest of a command. It may refuse the command instead: what that came to.
    pub(super) fn may_go_on(
        &mut self,
        see: &mut impl FnMut(&Response<'_>),
    ) -> Result<Option<Done>> {
        let (mut words, bytes, until) = (0, self.read, Instant::now() + self.timeout);
        loop {
            let (mut goes, mut bye) = (None, None);
            self.next(|response| match response {
                Response::GoOn(_) => goes = Some(None),
                Response::Done { end, said, .. } => {
                    goes = Some(Some(done_of(*end, said)));
                }
                Response::Words { about: About::Bye, said } => bye = Some(text(said.words)),
                response => {
                    words += u32::from(!matches!(response, Response::Data(_)));
                    see(response);
                }
            })?;
            match (goes, bye) {
                (Some(goes), _) => return Ok(goes),
                (None, Some(words)) => return Err(self.said_bye(&words)),
                (None, None) => {}
            }
            let is_long = words > MOST_WORDS || self.read - bytes > MOST_OF_COMMAND;
            if is_long || Instant::now() > until {
                let words = format!("{} goes on and on, and takes no command", self.place);
                return Err(Trouble { kind: Kind::Nonsense, words }.into_error());
            }
        }
    }

    /// What the server asks for in the middle of a logon, or what the logon came to.
    pub(super) fn challenge(&mut self, tag: &str) -> Result<std::result::Result<String, Done>> {
        self.challenges += 1;
        if self.challenges > MOST_CHALLENGES {
            let words = format!("{} asks on and on in a logon", self.place);
            return Err(Trouble { kind: Kind::Nonsense, words }.into_error());
        }
        loop {
            let mut asked = None;
            self.next(|response| match response {
                Response::GoOn(words) => {
                    asked = Some(Ok(String::from_utf8_lossy(words).into_owned()));
                }
                Response::Done { tag: of, end, said } if *of == tag.as_bytes() => {
                    asked = Some(Err(done_of(*end, said)));
                }
                _ => {}
            })?;
            if let Some(asked) = asked {
                return Ok(asked);
            }
        }
    }

    /// Sends bytes within the time of an answer.
    pub(super) fn send(&mut self, bytes: &[u8]) -> Result<()> {
        #[cfg(test)]
        {
            self.meanwhile.happens(&text(&bytes[..bytes.len().min(300)]));
            self.is_cut(Cut::Question)?;
        }
        self.stream.wire().set_deadline(Instant::now() + self.timeout);
        let sent = self.stream.write_all(bytes).and_then(|()| self.stream.flush());
        sent.map_err(|error| self.trouble(&error))
    }

    fn trouble(&self, error: &io::Error) -> ProviderError {
        if let Some(wrong) = self.compressed_wrong.as_ref().filter(|_| NotCompressed::is(error)) {
            wrong.store(true, Ordering::Relaxed);
            let words = format!(
                "{} has said that it compresses, and sends what is not compressed; from now on it is not asked to. compression = \"never\" never asks it",
                self.place
            );
            return Trouble { kind: Kind::Nonsense, words }.into_error();
        }
        Trouble::of(&self.place, error).into_error()
    }

    /// Calls a function with the next response, for which it waits as long as an answer may take. What cannot be read is passed over.
    fn next(&mut self, mut see: impl FnMut(&Response<'_>)) -> Result<()> {
        #[cfg(test)]
        self.is_cut(Cut::Answer)?;
        let until = Instant::now() + self.timeout;
        if self.until.is_some_and(|until| until <= Instant::now()) {
            return Err(self.trouble(&io::ErrorKind::TimedOut.into()));
        }
        self.stream.wire().set_deadline(self.until.map_or(until, |last| last.min(until)));
        while !self.read_one(&mut see)? {
            self.read()?;
        }
        Ok(())
    }

    /// Calls a function with a response that has arrived. Whether there was one.
    fn read_one(&mut self, see: &mut impl FnMut(&Response<'_>)) -> Result<bool> {
        let place = &self.place;
        let cut = self.inbox.response().map_err(|broken| {
            let words = format!("{place} cannot be understood: {broken}");
            Trouble { kind: Kind::Nonsense, words }.into_error()
        })?;
        let Some(bytes) = cut else { return Ok(false) };
        if let Ok(response) = Response::read(bytes) {
            let offer = match &response {
                Response::Data(Data::Capability(words)) => Some(Offer::of(words)),
                Response::Done { said, .. } | Response::Words { said, .. } => {
                    capabilities(said.note.as_ref())
                }
                _ => None,
            };
            if let Some(heard) = &mut self.heard {
                self.news += u64::from(heard.note(&response, &self.asked));
            }
            see(&response);
            if let Some(offer) = offer {
                self.offer = offer;
            }
        } else {
            self.garbled += 1;
            let begin = text(&bytes[..bytes.len().min(80)]);
            tracing::debug!(server = place, response = begin, "it is not understood");
        }
        Ok(true)
    }

    fn read(&mut self) -> Result<()> {
        let read = loop {
            match self.stream.read(&mut self.buffer) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                read => break read,
            }
        };
        match read {
            Ok(0) => Err(self.trouble(&io::ErrorKind::UnexpectedEof.into())),
            Ok(n) => {
                self.read += n as u64;
                self.inbox.feed(&self.buffer[..n]);
                Ok(())
            }
            Err(error) => Err(self.trouble(&error)),
        }
    }

    /// Waits until the server says something, until woken, or until so much time has passed; and calls a function with what it has said.
    /// Whether it has said something that was not known.
    pub(super) fn listen(
        &mut self,
        wake: BorrowedFd<'_>,
        most: Duration,
        mut see: impl FnMut(&Response<'_>),
    ) -> Result<bool> {
        let (until, enough, news) = (Instant::now() + most, self.read + MOST_HEARD, self.news);
        // What is told of folders again and again is heard once.
        let is_told = self.heard.is_some();
        let mut any = false;
        let mut bye = None;
        loop {
            while self.read_one(&mut |response| {
                if let Response::Words { about: About::Bye, said } = response {
                    bye = Some(text(said.words));
                }
                any |= !is_told
                    || !matches!(response, Response::Data(Data::Status(_) | Data::List(_)));
                see(response);
            })? {}
            any |= self.news > news;
            if let Some(words) = bye {
                return Err(self.said_bye(&words));
            }
            let left = until.saturating_duration_since(Instant::now());
            let most = if any { Duration::ZERO } else { left };
            self.stream.wire().set_deadline(Instant::now() + most + self.timeout);
            let ready = self.stream.wait(wake, most).map_err(|error| self.trouble(&error))?;
            if !ready || self.read > enough {
                return Ok(any);
            }
            self.stream.wire().set_deadline(Instant::now() + self.timeout);
            self.read()?;
        }
    }
}

pub(super) fn failed(halt: Halt) -> ProviderError {
    match halt {
        Halt::Failed(error) | Halt::Refused(error) => error,
        Halt::Told | Halt::Lost(_) => {
            ProviderError::new(Code::E_CANCEL, "the mailbox rests from now on")
        }
    }
}

/// Values in quotes have no control characters and nothing beyond ASCII.
fn can_be_quoted(value: &[u8]) -> bool {
    value.len() < 1000 && value.iter().all(|byte| matches!(byte, b' '..=b'~'))
}

fn text(bytes: &[u8]) -> String {
    crate::headers::clean(&String::from_utf8_lossy(bytes))
}

fn capabilities(note: Option<&Note<'_>>) -> Option<Offer> {
    match note {
        Some(Note::Capability(words)) => Some(Offer::of(words)),
        _ => None,
    }
}

fn done_of(end: End, said: &Said<'_>) -> Done {
    Done { end, note: told(said), words: text(said.words), clear: true }
}

fn told(said: &Said<'_>) -> Option<Told> {
    Some(match said.note.as_ref()? {
        Note::AppendUid { validity, uids } => {
            Told::AppendUid { validity: *validity, uids: uids.clone() }
        }
        Note::CopyUid { validity, from, to } => {
            Told::CopyUid { validity: *validity, from: from.clone(), to: to.clone() }
        }
        Note::Other(name) => Told::Other(text(name).to_ascii_uppercase()),
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use std::os::unix::net::UnixStream;

    use super::*;
    use crate::network::wire::Socket;

    /// A conversation with a server that has said this already.
    fn after(said: &str) -> (Conversation, UnixStream) {
        let (near, mut far) = UnixStream::pair().expect("a pair");
        far.write_all(said.as_bytes()).expect("written");
        let stream = Stream::Plain(Wire::new(Socket::Unix(near)));
        (Conversation::new(stream, "here".into(), Duration::from_secs(20)), far)
    }

    #[test]
    fn commands_in_turn_are_answered_in_any_order() {
        let cases = [
            ("a1 OK 1\r\na2 OK 2\r\na3 OK 3\r\n", (End::Ok, "3")),
            ("a2 OK 2\r\na1 OK 1\r\na3 OK 3\r\n", (End::Ok, "3")),
            ("a1 OK 1\r\na3 OK 3\r\na2 OK 2\r\n", (End::Ok, "3")),
            // What was sent ahead is answered, and nothing is sent then.
            ("a1 NO 1\r\na2 OK 2\r\n", (End::No, "1")),
            ("a2 OK 2\r\na1 NO 1\r\n", (End::No, "1")),
        ];
        for (said, wanted) in cases {
            let (mut talk, mut far) = after(said);
            let commands = (0..3).map(|_| "NOOP".to_owned());
            let done = talk.in_turn(commands, |_| Ok(())).expect("answers").expect("commands");
            assert_eq!((done.end, done.words.as_str()), wanted, "{said}");
            let next = format!("a{} OK next\r\n", said.lines().count() + 1);
            far.write_all(next.as_bytes()).expect("written");
            assert_eq!(talk.run("NOOP").expect("an answer").words, "next", "{said}");
        }
        let (mut talk, _far) = after("");
        assert_eq!(talk.in_turn(std::iter::empty(), |_| Ok(())).expect("nothing"), None);
    }

    #[test]
    fn commands_in_one_go_have_an_answer_each() {
        let (mut talk, _far) = after("* 7 EXISTS\r\na2 NO 2\r\na1 OK 1\r\n");
        let mut seen = 0;
        let done = talk.commands(&["NOOP", "NOOP"], |_| {
            seen += 1;
            Ok(())
        });
        let ends: Vec<_> = done.expect("answers").into_iter().map(|done| done.end).collect();
        assert_eq!((ends, seen), (vec![End::Ok, End::No], 1));
    }
}
