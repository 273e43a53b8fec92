//! Whom a server is told a message is from.
//!
//! A server takes mail of its users alone, and what cron and other programs write is from `root`. So authors become
//! others on their way: in the envelope, and in From and Sender. What is stored never changes.

use std::io::{self, Cursor, Read};

use sundown_core::address::Pattern;
use sundown_core::local::LocalMail;
use sundown_mail::address;
use sundown_mail::author::{self, Original, Replacement};
use sundown_mail::head;

use super::body::PIECE;
use crate::files::read;

/// The longest head that is changed. A longer one is no letter of a program; it goes out as it is.
const LONGEST: usize = 256 << 10;

/// Which authors a transport changes, and into whom.
#[derive(Debug, Clone)]
pub(super) struct Authors {
    rewrite: Rewrite,
    /// The address of the account.
    identity: String,
    /// The account's own authors.
    own: Vec<Pattern>,
    /// The host's name, and the domain of its users.
    local: LocalMail,
}

/// `rewrite_from`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Rewrite {
    Never,
    /// Addresses that only this host knows.
    Unqualified,
    /// Every author that is not the account's own.
    Always,
}

impl Rewrite {
    /// By the word in settings.
    pub(super) fn parse(word: &str) -> Option<Self> {
        match word {
            "never" => Some(Self::Never),
            "unqualified" => Some(Self::Unqualified),
            "always" => Some(Self::Always),
            _ => None,
        }
    }
}

impl Authors {
    /// None is changed.
    pub(super) fn as_they_are() -> Self {
        Self::new(Rewrite::Never, "", [], ("", None))
    }

    /// Those of a profile's section. `senders` are the account's other addresses.
    pub(super) fn new(
        rewrite: Rewrite,
        identity: &str,
        senders: impl IntoIterator<Item = Pattern>,
        (host, domain): (&str, Option<&str>),
    ) -> Self {
        let own = senders.into_iter().chain(Pattern::parse(identity)).collect();
        let (host, domain) = (host.to_owned(), domain.map(str::to_owned));
        let local = LocalMail { host, domain, ..LocalMail::default() };
        Self { rewrite, identity: identity.to_owned(), own, local }
    }

    /// Who writes in place of this sender of an envelope. The null sender stays: it wants no answer.
    pub(super) fn sender(&self, from: &str) -> String {
        let new = if from.is_empty() { None } else { self.other(from) };
        new.unwrap_or_else(|| from.to_owned())
    }

    /// The head of a message with other authors, if it gets others.
    pub(super) fn head(&self, message: &mut dyn Read) -> io::Result<Head> {
        if self.rewrite == Rewrite::Never {
            return Ok(Head::default());
        }
        let (read, extent) = beginning(message)?;
        if extent == Extent::Cut {
            tracing::warn!(
                bytes = LONGEST,
                "the head of a message is longer than what is looked at; its authors stay as they are"
            );
            return Ok(Head { new: None, read });
        }
        let new = author::replaced(&read, |address| self.replacement(address));
        let length = author::fields(&read);
        let new = new.map(|fields| Fields { fields: fields.into(), length });
        Ok(Head { new, read })
    }

    fn replacement(&self, address: &str) -> Option<Replacement> {
        let known = address::split(address).is_ok() && self.local.mailbox(address).is_none();
        let original = if known { Original::Answerable } else { Original::Local };
        self.other(address).map(|address| Replacement { address, original })
    }

    /// The address in place of this one, or of a text that is none.
    fn other(&self, address: &str) -> Option<String> {
        let identity = || {
            // Where every author becomes it, it is meant, also at this host's name.
            let answerable = match self.rewrite {
                Rewrite::Always => address::is_full(&self.identity),
                Rewrite::Never | Rewrite::Unqualified => {
                    self.local.mailbox(&self.identity).is_none()
                }
            };
            answerable.then(|| self.identity.clone())
        };
        let other = match self.rewrite {
            Rewrite::Never => None,
            _ if address::split(address).is_err() => identity(),
            Rewrite::Always if self.own.iter().any(|own| own.takes(address)) => None,
            Rewrite::Always => identity(),
            Rewrite::Unqualified => {
                let mailbox = self.local.mailbox(address)?;
                let domain = self.local.domain.as_ref();
                domain.map(|domain| format!("{mailbox}@{domain}")).or_else(identity)
            }
        };
        other.filter(|other| other != address)
    }
}

/// What was read of a message's head, and what goes out in its place.
#[derive(Debug, Default)]
pub(super) struct Head {
    /// The fields in place of those that are there.
    pub(super) new: Option<Fields>,
    /// What was read.
    read: Vec<u8>,
}

impl Head {
    /// The message as it goes out, behind whose beginning the rest is.
    pub(super) fn with<'a>(&'a self, rest: &'a mut dyn Read) -> Box<dyn Read + 'a> {
        match &self.new {
            None => Box::new(Cursor::new(&self.read).chain(rest)),
            Some(Fields { fields, length }) => {
                Box::new(Cursor::new(fields).chain(Cursor::new(&self.read[*length..])).chain(rest))
            }
        }
    }
}

/// Fields in place of others.
#[derive(Debug, Clone)]
pub(super) struct Fields {
    fields: Box<[u8]>,
    /// How many bytes they replace.
    length: usize,
}

impl Fields {
    /// A message with these fields.
    pub(super) fn of<'a>(&'a self, message: &'a mut dyn Read) -> Box<dyn Read + 'a> {
        let behind = Behind { message, left: self.length };
        Box::new(Cursor::new(&self.fields).chain(behind))
    }
}

/// A message without its beginning.
struct Behind<'a> {
    message: &'a mut dyn Read,
    left: usize,
}

impl Read for Behind<'_> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        while self.left > 0 {
            let most = self.left.min(into.len());
            match read(self.message, &mut into[..most])? {
                0 => return Ok(0),
                n => self.left -= n,
            }
        }
        self.message.read(into)
    }
}

/// How much of a head was read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Extent {
    Whole,
    Cut,
}

/// The beginning of a message, with all fields of its head unless they are too long.
fn beginning(message: &mut dyn Read) -> io::Result<(Vec<u8>, Extent)> {
    let mut beginning = Vec::new();
    // As much as tells whether a head of the longest length ends.
    while beginning.len() <= LONGEST + 2 {
        let had = beginning.len();
        beginning.resize(had + PIECE, 0);
        let n = read(message, &mut beginning[had..])?;
        beginning.truncate(had + n);
        if n == 0 || head::ends_in(&beginning) {
            let fits = author::fields(&beginning) <= LONGEST;
            return Ok((beginning, if fits { Extent::Whole } else { Extent::Cut }));
        }
    }
    Ok((beginning, Extent::Cut))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn authors(rewrite: Rewrite, identity: &str, domain: Option<&str>) -> Authors {
        let senders = Pattern::parse("*@team.example");
        Authors::new(rewrite, identity, senders, ("vm.lan", domain))
    }

    /// What becomes of a sender.
    fn sender(authors: &Authors, from: &str) -> String {
        authors.sender(from)
    }

    #[test]
    fn unqualified_senders_get_the_domain() {
        let with = authors(Rewrite::Unqualified, "anna@example.org", Some("example.net"));
        for local in
            ["root", "root@vm", "ROOT@VM.lan", "root@localhost", "root@localhost.localdomain."]
        {
            let mailbox = if local.starts_with("ROOT") { "ROOT" } else { "root" };
            assert_eq!(sender(&with, local), format!("{mailbox}@example.net"), "{local}");
        }
        for stays in ["", "bo@work.example", "anna@example.org", "bo@[127.0.0.1]"] {
            assert_eq!(sender(&with, stays), stays);
        }
        let without = authors(Rewrite::Unqualified, "anna@example.org", None);
        assert_eq!(sender(&without, "root@vm"), "anna@example.org");
        let nobody = authors(Rewrite::Unqualified, "anna@vm", None);
        assert_eq!(sender(&nobody, "root"), "root", "there is nothing better");
    }

    #[test]
    fn all_strangers_become_the_identity() {
        let always = authors(Rewrite::Always, "anna@example.org", Some("example.net"));
        for other in ["root", "bo@example.org", "anna@example.net", "x@sub.team.example"] {
            assert_eq!(sender(&always, other), "anna@example.org", "{other}");
        }
        for own in ["", "anna@example.org", "Anna@EXAMPLE.org", "bo@team.example"] {
            assert_eq!(sender(&always, own), own);
        }
        let here = authors(Rewrite::Always, "anna@vm.lan", None);
        assert_eq!(sender(&here, "root"), "anna@vm.lan");
        let never = authors(Rewrite::Never, "anna@example.org", Some("example.net"));
        assert_eq!(sender(&never, "root"), "root");
    }

    /// Gives a message in pieces of so many bytes.
    struct Slow<'a>(&'a [u8], usize);

    impl Read for Slow<'_> {
        fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
            let n = into.len().min(self.1);
            self.0.read(&mut into[..n])
        }
    }

    fn sent(message: &[u8], at_once: usize) -> Vec<u8> {
        let authors = authors(Rewrite::Unqualified, "anna@example.org", Some("example.net"));
        let mut slow = Slow(message, at_once);
        let head = authors.head(&mut slow).expect("it reads");
        let mut looked_at = Vec::new();
        head.with(&mut slow).read_to_end(&mut looked_at).expect("it reads");
        let mut sent = Vec::new();
        let mut again = Slow(message, at_once);
        match &head.new {
            Some(fields) => fields.of(&mut again).read_to_end(&mut sent),
            None => again.read_to_end(&mut sent),
        }
        .expect("it reads");
        assert_eq!(sent, looked_at, "what is surveyed is what goes out");
        sent
    }

    #[test]
    fn a_head_is_changed_and_nothing_else() {
        let many = format!("To: a\r\n{}", "X: y\r\n".repeat(20_000));
        let body = "\r\nFrom: root\r\n".repeat(3_000);
        let message = format!("{many}From: root\r\n{body}");
        let wanted = format!("{many}From: root@example.net\r\nX-Original-From: root\r\n{body}");
        for at_once in [1_000, 1 << 20] {
            let sent = sent(message.as_bytes(), at_once);
            assert!(sent == wanted.as_bytes(), "{} bytes", sent.len());
        }
        for (message, wanted) in [
            ("", ""),
            ("From: root", "From: root@example.net\nX-Original-From: root"),
            ("text\nFrom: root\n", "text\nFrom: root\n"),
            ("From: a@b.c\n\nx", "From: a@b.c\n\nx"),
            ("From: root\nS: t\r", "From: root@example.net\nX-Original-From: root\nS: t\r"),
        ] {
            for at_once in [1, 2, 3, 5, 100] {
                let sent = sent(message.as_bytes(), at_once);
                assert_eq!(String::from_utf8_lossy(&sent), wanted, "by {at_once}");
            }
        }
    }

    #[test]
    fn a_head_that_is_too_long_stays() {
        let long = format!("From: root\n{}\ntext", "X: y\n".repeat(LONGEST / 5));
        assert!(sent(long.as_bytes(), 1 << 20) == long.as_bytes());
    }
}
