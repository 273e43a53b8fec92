//! Another program at an account, which shares no code with the mailbox: it reads what a server says in the plainest way.

use std::collections::BTreeSet;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Ipv4Addr, TcpStream};
use std::time::Duration;

use super::server::Kind;

/// A response: its text, in which bytes that came with their length are left out, and these.
#[derive(Debug, Default)]
struct Line {
    text: String,
    bytes: Vec<Vec<u8>>,
}

/// A message as a server has it.
#[derive(Debug, Clone)]
pub(super) struct Message {
    pub(super) uid: u32,
    /// In the words of the server, without `\Recent`.
    pub(super) flags: BTreeSet<String>,
    /// The whole message, or the field `Subject` of it.
    pub(super) bytes: Vec<u8>,
}

/// A folder that is open.
#[derive(Debug)]
pub(super) struct Opened {
    pub(super) validity: u32,
    pub(super) messages: Vec<Message>,
}

/// How much is read of each message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Part {
    Subject,
    Whole,
}

pub(super) struct Plain {
    stream: BufReader<TcpStream>,
    tags: u32,
    kind: Kind,
    can: String,
}

impl Plain {
    pub(super) fn new(kind: Kind, port: u16, user: &str) -> Self {
        let stream = TcpStream::connect((Ipv4Addr::LOCALHOST, port)).expect("a server");
        stream.set_read_timeout(Some(Duration::from_secs(30))).expect("a timeout");
        stream.set_nodelay(true).expect("it sends at once");
        let stream = BufReader::new(stream);
        let mut plain = Self { stream, tags: 0, kind, can: String::new() };
        plain.line();
        plain.run(&format!("LOGIN {user} secret")).expect("it logs on");
        let said = plain.run("CAPABILITY").expect("it says what it can");
        plain.can = said.into_iter().map(|line| line.text + " ").collect();
        plain
    }

    pub(super) fn can(&self, what: &str) -> bool {
        self.can.split_whitespace().any(|word| word == what)
    }

    fn line(&mut self) -> Line {
        let mut line = Line::default();
        loop {
            let mut part = Vec::new();
            self.stream.read_until(b'\n', &mut part).expect("an answer");
            assert!(!part.is_empty(), "the server has closed the connection behind {line:?}");
            let part = String::from_utf8_lossy(&part).trim_end().to_owned();
            let length = part.strip_suffix('}').and_then(|part| part.rsplit_once('{'));
            let length = length.and_then(|(before, n)| Some((before, n.parse().ok()?)));
            let Some((before, length)) = length else {
                line.text += &part;
                return line;
            };
            line.text += before;
            let mut bytes = vec![0; length];
            self.stream.read_exact(&mut bytes).expect("as many bytes");
            line.bytes.push(bytes);
        }
    }

    fn begin(&mut self, command: &str) -> String {
        self.tags += 1;
        let tag = format!("p{}", self.tags);
        let line = format!("{tag} {command}\r\n");
        self.stream.get_mut().write_all(line.as_bytes()).expect("it is sent");
        tag
    }

    fn end(&mut self, tag: &str) -> Result<Vec<Line>, String> {
        let mut lines = Vec::new();
        loop {
            let line = self.line();
            match line.text.strip_prefix(tag) {
                Some(end) if end.starts_with(" OK") => return Ok(lines),
                Some(end) => return Err(end.to_owned()),
                None => lines.push(line),
            }
        }
    }

    /// Gives a command. What is said to it, or why it is refused.
    fn run(&mut self, command: &str) -> Result<Vec<Line>, String> {
        let tag = self.begin(command);
        self.end(&tag).map_err(|refused| format!("{command}: {refused}"))
    }

    /// Gives a command. Whether it was carried out.
    pub(super) fn tell(&mut self, command: &str) -> bool {
        self.run(command).is_ok()
    }

    fn quoted(&self, folder: &str) -> String {
        format!("\"{}\"", self.kind.wire(folder))
    }

    /// Gives a command about a folder.
    pub(super) fn about(&mut self, command: &str, folder: &str) -> bool {
        let folder = self.quoted(folder);
        self.tell(&format!("{command} {folder}"))
    }

    pub(super) fn rename(&mut self, folder: &str, to: &str) -> bool {
        let to = self.quoted(to);
        let command = format!("RENAME {}", self.quoted(folder));
        self.tell(&format!("{command} {to}"))
    }

    pub(super) fn append(&mut self, folder: &str, with: &str, bytes: &[u8]) -> bool {
        let command = format!("APPEND {} {with} {{{}}}", self.quoted(folder), bytes.len());
        let tag = self.begin(&command);
        let line = self.line();
        if !line.text.starts_with('+') {
            return false;
        }
        self.stream.get_mut().write_all(&[bytes, b"\r\n"].concat()).expect("it is sent");
        self.end(&tag).is_ok()
    }

    /// The names of the folders.
    pub(super) fn folders(&mut self) -> Vec<String> {
        let lines = self.run("LIST \"\" \"*\"").expect("a list");
        let listed = lines.iter().filter(|line| line.text.starts_with("* LIST"));
        let name = |line: &Line| {
            let name = line.text.rsplit(' ').next().unwrap_or_default().trim_matches('"');
            self.kind.name(name)
        };
        listed.filter(|line| !line.text.contains("\\Noselect")).map(name).collect()
    }

    /// Opens a folder to change something in it: what it has, if it is there.
    pub(super) fn open(&mut self, folder: &str, part: Part) -> Option<Opened> {
        let command = format!("SELECT {}", self.quoted(folder));
        let lines = self.run(&command).ok()?;
        let validity = lines.iter().find_map(|line| line.text.split_once("[UIDVALIDITY "));
        let validity = validity.and_then(|(_, text)| text.split_once(']')?.0.parse().ok());
        let validity = validity.expect("every folder has a validity");
        Some(Opened { validity, messages: self.messages(part) })
    }

    /// What the open folder has.
    pub(super) fn messages(&mut self, part: Part) -> Vec<Message> {
        let what = match part {
            Part::Subject => "BODY.PEEK[HEADER.FIELDS (SUBJECT)]",
            Part::Whole => "BODY.PEEK[]",
        };
        let lines = self.run(&format!("UID FETCH 1:* (UID FLAGS {what})")).expect("messages");
        let fetched = lines.into_iter().filter(|line| !line.bytes.is_empty());
        fetched.map(message).collect()
    }

    /// Closes the folder that is open. Nothing goes by that.
    pub(super) fn close(&mut self, folder: &str) {
        if self.can("UNSELECT") {
            assert!(self.tell("UNSELECT"));
        } else if self.about("EXAMINE", folder) {
            assert!(self.tell("CLOSE"));
        }
    }
}

fn message(line: Line) -> Message {
    let behind = |word: &str| line.text.split_once(word).expect("it was asked for").1;
    let uid = behind("UID ").split([' ', ')']).next().and_then(|uid| uid.parse().ok());
    let flags = behind("FLAGS (").split(')').next().unwrap_or_default();
    let flags = flags.split_whitespace().filter(|flag| *flag != "\\Recent");
    let flags = flags.map(str::to_owned).collect();
    let bytes = line.bytes.into_iter().next().unwrap_or_default();
    Message { uid: uid.expect("a number"), flags, bytes }
}
