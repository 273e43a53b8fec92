//! What a server says, as values.
//!
//! Read here is what a mailbox uses. Everything else is [`Data::Other`] or [`Note::Other`], by its name, and items of a message that
//! are not read here are listed by theirs: a server may say more than it was asked for.

use std::borrow::Cow;

use super::date;
use super::set::Set;
use super::tokens::{Garbled, MOST_ITEMS, Read, Words, number_of};

/// A response.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Response<'a> {
    /// What a command came to.
    Done {
        /// The command's tag.
        tag: &'a [u8],
        /// What it came to.
        end: End,
        /// The server's words.
        said: Said<'a>,
    },
    /// Words that belong to no command.
    Words {
        /// What they are about.
        about: About,
        /// The words.
        said: Said<'a>,
    },
    /// The server waits for the rest of a command, with these words or bytes.
    GoOn(&'a [u8]),
    /// Something is as it is said.
    Data(Data<'a>),
}

/// What a command came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum End {
    /// It was carried out.
    Ok,
    /// It was not.
    No,
    /// The server does not understand it.
    Bad,
}

/// What words are about that belong to no command.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum About {
    /// The greeting, or something to know.
    Ok,
    /// A warning.
    No,
    /// A mistake.
    Bad,
    /// The connection ends.
    Bye,
    /// The greeting of a server that needs no logon.
    Preauth,
}

/// The words of a server, for people, and what they mean.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Said<'a> {
    /// What programs may know of it.
    pub note: Option<Note<'a>>,
    /// The words.
    pub words: &'a [u8],
}

/// What words mean: a response code (RFC 9051, 7.1, and others).
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Note<'a> {
    /// What the server can do.
    Capability(Vec<&'a [u8]>),
    /// The flags that can be changed for good; `\*` stands for any keyword.
    PermanentFlags(Vec<Cow<'a, [u8]>>),
    /// UIDs mean what they meant as long as this number stays.
    UidValidity(u32),
    /// The UID that comes next.
    UidNext(u32),
    /// The last change of a mailbox.
    HighestModSeq(u64),
    /// The mailbox does not number its changes.
    NoModSeq,
    /// Its UIDs are not kept.
    UidNotSticky,
    /// The UIDs that appended messages have got.
    AppendUid {
        /// Of the folder that they are in.
        validity: u32,
        /// In the order of the messages.
        uids: Set,
    },
    /// The UIDs that copies have got.
    CopyUid {
        /// Of the folder that they are in.
        validity: u32,
        /// Where they came from.
        from: Set,
        /// In the same order.
        to: Set,
    },
    /// The messages that were changed meanwhile, and so not changed now.
    Modified(Set),
    /// The identity of a folder (RFC 8474).
    MailboxId(&'a [u8]),
    /// Another one, by its name: `ALERT`, `OVERQUOTA`, `AUTHENTICATIONFAILED` and so on.
    Other(&'a [u8]),
}

/// Something that a server says to be so.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Data<'a> {
    /// What it can do.
    Capability(Vec<&'a [u8]>),
    /// What it does from now on.
    Enabled(Vec<&'a [u8]>),
    /// The flags of a folder.
    Flags(Vec<Cow<'a, [u8]>>),
    /// How many messages the folder has.
    Exists(u32),
    /// How many of them were new to this connection.
    Recent(u32),
    /// The message at this place is gone, and those behind it move up.
    Expunge(u32),
    /// Messages with these UIDs are gone; `earlier` if they went before this was asked for, and so without changing any place.
    Vanished {
        /// Whether no place changes.
        earlier: bool,
        /// The UIDs. Some of them may never have been messages.
        uids: Set,
    },
    /// A message.
    Fetch(Fetch<'a>),
    /// A folder.
    List(List<'a>),
    /// Where folders are (RFC 2342).
    Namespace {
        /// Those of one's own: what their names begin with, and what separates parts behind it. Nothing if the server does not say.
        own: Option<Namespace<'a>>,
        /// Whether there are folders of other people, or of all.
        others: bool,
    },
    /// Figures of a folder.
    Status(Status<'a>),
    /// The messages that were looked for.
    Search {
        /// By place or UID, as was asked.
        numbers: Vec<u32>,
        /// Their last change.
        modseq: Option<u64>,
    },
    /// The same, in brief.
    Esearch(Esearch<'a>),
    /// Something else, by its name.
    Other(&'a [u8]),
}

/// What a server says of a message.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Fetch<'a> {
    /// Its place in the folder.
    pub place: u32,
    /// Its UID.
    pub uid: Option<u32>,
    /// Its flags.
    pub flags: Option<Vec<Cow<'a, [u8]>>>,
    /// Its last change.
    pub modseq: Option<u64>,
    /// When it was received, in milliseconds since 1970.
    pub received: Option<i64>,
    /// Its size in bytes.
    pub size: Option<u64>,
    /// The identity of its contents (RFC 8474), or what Gmail has in its place.
    pub email_id: Option<Cow<'a, [u8]>>,
    /// Its parts that were asked for.
    pub sections: Vec<Section<'a>>,
    /// The names of items that are not read here, or could not be read.
    pub others: Vec<&'a [u8]>,
}

/// A part of a message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Section<'a> {
    /// Which: what stood in the brackets. Of the whole message it is empty.
    pub name: &'a [u8],
    /// The place of its first byte, if only some of it was asked for.
    pub origin: Option<u64>,
    /// The bytes; nothing if there is no such part.
    pub bytes: Option<Cow<'a, [u8]>>,
}

/// What a server says of a folder when it lists it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct List<'a> {
    /// What it is, as `\Noselect` and `\Sent`.
    pub attributes: Vec<Cow<'a, [u8]>>,
    /// What separates the parts of its name; nothing of a name without parts.
    pub delimiter: Option<u8>,
    /// Its name, in modified UTF-7 unless UTF-8 was asked for.
    pub name: Cow<'a, [u8]>,
}

/// Where folders are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Namespace<'a> {
    /// What their names begin with: often nothing, elsewhere `INBOX.`.
    pub prefix: Cow<'a, [u8]>,
    /// What separates the parts of their names.
    pub delimiter: Option<u8>,
}

/// Figures of a folder.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Status<'a> {
    /// The folder's name.
    pub name: Cow<'a, [u8]>,
    /// How many messages it has.
    pub messages: Option<u32>,
    /// The UID that comes next.
    pub uid_next: Option<u32>,
    /// What its UIDs belong to.
    pub uid_validity: Option<u32>,
    /// Its last change.
    pub highest_modseq: Option<u64>,
}

/// The messages that were looked for, in brief (RFC 4731).
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Esearch<'a> {
    /// The tag of the command.
    pub tag: Option<Cow<'a, [u8]>>,
    /// Whether the numbers are UIDs.
    pub by_uid: bool,
    /// All of them.
    pub all: Set,
    /// The lowest.
    pub min: Option<u32>,
    /// The highest.
    pub max: Option<u32>,
    /// How many.
    pub count: Option<u32>,
    /// Their last change.
    pub modseq: Option<u64>,
}

impl<'a> Response<'a> {
    /// Reads a response that an [`Inbox`](super::Inbox) has cut out.
    ///
    /// # Errors
    ///
    /// Fails if it is none that can be read. The next one is not touched by that.
    ///
    /// ```
    /// use sundown_providers::imap::{Data, Response};
    ///
    /// let said = Response::read(b"* 7 FETCH (UID 12 X-STRANGE (a (b)) FLAGS (\\Seen))").expect("a response");
    /// let Response::Data(Data::Fetch(message)) = said else { panic!("{said:?}") };
    /// assert_eq!((message.place, message.uid), (7, Some(12)));
    /// assert_eq!(message.others, [b"X-STRANGE"]);
    /// ```
    pub fn read(response: &'a [u8]) -> Read<Self> {
        if let Some(words) = response.strip_prefix(b"+") {
            return Ok(Self::GoOn(words.strip_prefix(b" ").unwrap_or(words)));
        }
        let mut words = Words::new(response);
        let tag = words.word()?;
        if tag != b"*" {
            let end = match about(words.word()?) {
                Some(About::Ok) => End::Ok,
                Some(About::No) => End::No,
                Some(About::Bad) => End::Bad,
                _ => return Err(Garbled),
            };
            return Ok(Self::Done { tag, end, said: said(words) });
        }
        let name = words.word()?;
        match about(name) {
            Some(about) => Ok(Self::Words { about, said: said(words) }),
            None => data(name, words).map(Self::Data),
        }
    }
}

fn about(word: &[u8]) -> Option<About> {
    Some(match &word.to_ascii_uppercase()[..] {
        b"OK" => About::Ok,
        b"NO" => About::No,
        b"BAD" => About::Bad,
        b"BYE" => About::Bye,
        b"PREAUTH" => About::Preauth,
        _ => return None,
    })
}

/// The words behind a status. A note that cannot be read is a part of them.
fn said(mut words: Words<'_>) -> Said<'_> {
    words.spaces();
    let mut behind = words;
    let note = behind.bracketed().and_then(note).ok();
    if note.is_some() {
        behind.spaces();
        words = behind;
    }
    Said { note, words: words.rest() }
}

fn note(mut words: Words<'_>) -> Read<Note<'_>> {
    let name = words.word()?;
    Ok(match &name.to_ascii_uppercase()[..] {
        b"CAPABILITY" => Note::Capability(all(words)?),
        b"PERMANENTFLAGS" => Note::PermanentFlags(words.list()?),
        b"UIDVALIDITY" => Note::UidValidity(words.number32()?),
        b"UIDNEXT" => Note::UidNext(words.number32()?),
        b"HIGHESTMODSEQ" => Note::HighestModSeq(words.number()?),
        b"NOMODSEQ" => Note::NoModSeq,
        b"UIDNOTSTICKY" => Note::UidNotSticky,
        b"APPENDUID" => {
            Note::AppendUid { validity: words.number32()?, uids: Set::read(words.word()?)? }
        }
        b"COPYUID" => {
            let validity = words.number32()?;
            let (from, to) = (Set::read(words.word()?)?, Set::read(words.word()?)?);
            if from.count() != to.count() {
                return Err(Garbled);
            }
            Note::CopyUid { validity, from, to }
        }
        b"MODIFIED" => Note::Modified(Set::read(words.word()?)?),
        b"MAILBOXID" if words.takes(b'(') => Note::MailboxId(words.word()?),
        _ => Note::Other(name),
    })
}

/// All words that are left.
fn all(mut words: Words<'_>) -> Read<Vec<&[u8]>> {
    let mut found = Vec::new();
    while !words.is_empty() {
        if found.len() == MOST_ITEMS {
            return Err(Garbled);
        }
        found.push(words.word()?);
    }
    Ok(found)
}

fn data<'a>(name: &'a [u8], mut words: Words<'a>) -> Read<Data<'a>> {
    if let Some(number) = number_of(name) {
        let number = u32::try_from(number).map_err(|_| Garbled)?;
        let name = words.word()?;
        return Ok(match &name.to_ascii_uppercase()[..] {
            b"EXISTS" => Data::Exists(number),
            b"RECENT" => Data::Recent(number),
            b"EXPUNGE" if number > 0 => Data::Expunge(number),
            b"FETCH" if number > 0 => Data::Fetch(fetch(number, words)?),
            b"EXPUNGE" | b"FETCH" => return Err(Garbled),
            _ => Data::Other(name),
        });
    }
    Ok(match &name.to_ascii_uppercase()[..] {
        b"CAPABILITY" => Data::Capability(all(words)?),
        b"ENABLED" => Data::Enabled(all(words)?),
        b"FLAGS" => Data::Flags(words.list()?),
        b"VANISHED" => {
            let earlier = words.takes(b'(');
            if earlier && !(words.word()?.eq_ignore_ascii_case(b"EARLIER") && words.takes(b')')) {
                return Err(Garbled);
            }
            Data::Vanished { earlier, uids: Set::read(words.word()?)? }
        }
        b"LIST" => Data::List(list(words)?),
        b"NAMESPACE" => Data::Namespace { own: namespace(words)?, others: has_others(words) },
        b"STATUS" => Data::Status(status(words)?),
        b"SEARCH" => search(words)?,
        b"ESEARCH" => Data::Esearch(esearch(words)?),
        _ => Data::Other(name),
    })
}

fn fetch(place: u32, mut words: Words<'_>) -> Read<Fetch<'_>> {
    let mut message = Fetch { place, ..Fetch::default() };
    words.each(|words| {
        let item = words.item()?;
        let upper = item.to_ascii_uppercase();
        let before = *words;
        let known = match &upper[..] {
            b"UID" => words.number32().map(|uid| message.uid = Some(uid).filter(|uid| *uid > 0)),
            b"FLAGS" => words.list().map(|flags| message.flags = Some(flags)),
            b"MODSEQ" => one_in_list(words).map(|number| message.modseq = number_of(&number)),
            b"INTERNALDATE" => {
                words.text().map(|text| message.received = text.and_then(|text| date::read(&text)))
            }
            b"RFC822.SIZE" => words.number().map(|size| message.size = Some(size)),
            b"EMAILID" => one_in_list(words).map(|id| message.email_id = Some(id)),
            b"X-GM-MSGID" => words.text().map(|id| message.email_id = id),
            _ => match section(item) {
                Some((name, origin)) => words.text().map(|bytes| {
                    message.sections.push(Section { name, origin, bytes });
                }),
                None => Err(Garbled),
            },
        };
        if known.is_err() {
            // It is none of those, or has another shape.
            *words = before;
            words.skip()?;
            message.others.push(item);
        }
        Ok(())
    })?;
    Ok(message)
}

/// The value in a list of one.
fn one_in_list<'a>(words: &mut Words<'a>) -> Read<Cow<'a, [u8]>> {
    let mut list = words.list()?;
    if list.len() == 1 { list.pop().ok_or(Garbled) } else { Err(Garbled) }
}

/// What is in the brackets of `BODY[…]`, and the place in those behind it.
fn section(item: &[u8]) -> Option<(&[u8], Option<u64>)> {
    let (begin, rest) = item.split_at_checked(5)?;
    if !begin.eq_ignore_ascii_case(b"BODY[") {
        return None;
    }
    let end = rest.iter().rposition(|b| *b == b']')?;
    let (name, behind) = (&rest[..end], &rest[end + 1..]);
    if behind.is_empty() {
        return Some((name, None));
    }
    let origin = behind.strip_prefix(b"<")?.strip_suffix(b">")?;
    number_of(origin).map(|origin| (name, Some(origin)))
}

fn list(mut words: Words<'_>) -> Read<List<'_>> {
    let (attributes, delimiter) = (words.list()?, delimiter(&mut words)?);
    let name = folder_name(&mut words)?;
    Ok(List { attributes, delimiter, name })
}

fn delimiter(words: &mut Words<'_>) -> Read<Option<u8>> {
    match words.text()?.as_deref() {
        None => Ok(None),
        Some([delimiter]) => Ok(Some(*delimiter)),
        Some(_) => Err(Garbled),
    }
}

/// The first of one's own namespaces. Those of others are not read.
fn namespace(mut words: Words<'_>) -> Read<Option<Namespace<'_>>> {
    if !words.takes(b'(') || !words.takes(b'(') {
        return Ok(None);
    }
    let prefix = words.text()?.ok_or(Garbled)?;
    Ok(Some(Namespace { prefix, delimiter: delimiter(&mut words)? }))
}

/// Whether something stands behind one's own namespaces.
fn has_others(mut words: Words<'_>) -> bool {
    let _ = words.skip();
    while !words.is_empty() {
        if !matches!(words.word(), Ok(word) if word.eq_ignore_ascii_case(b"NIL")) {
            return true;
        }
    }
    false
}

/// A folder may be called NIL.
fn folder_name<'a>(words: &mut Words<'a>) -> Read<Cow<'a, [u8]>> {
    Ok(words.text()?.unwrap_or(Cow::Borrowed(b"NIL")))
}

fn status(mut words: Words<'_>) -> Read<Status<'_>> {
    let name = folder_name(&mut words)?;
    let mut status = Status { name, ..Status::default() };
    words.each(|words| {
        let item = words.word()?.to_ascii_uppercase();
        match &item[..] {
            b"MESSAGES" => status.messages = Some(words.number32()?),
            b"UIDNEXT" => status.uid_next = Some(words.number32()?),
            b"UIDVALIDITY" => status.uid_validity = Some(words.number32()?),
            b"HIGHESTMODSEQ" => status.highest_modseq = Some(words.number()?),
            _ => words.skip()?,
        }
        Ok(())
    })?;
    Ok(status)
}

fn search(mut words: Words<'_>) -> Read<Data<'_>> {
    let (mut numbers, mut modseq) = (Vec::new(), None);
    while !words.is_empty() {
        if words.takes(b'(') {
            if !words.word()?.eq_ignore_ascii_case(b"MODSEQ") {
                return Err(Garbled);
            }
            modseq = Some(words.number()?);
            if !words.takes(b')') {
                return Err(Garbled);
            }
        } else {
            numbers.push(words.number32()?);
        }
    }
    Ok(Data::Search { numbers, modseq })
}

fn esearch(mut words: Words<'_>) -> Read<Esearch<'_>> {
    let mut found = Esearch::default();
    if words.takes(b'(') {
        if !words.word()?.eq_ignore_ascii_case(b"TAG") {
            return Err(Garbled);
        }
        found.tag = words.text()?;
        if !words.takes(b')') {
            return Err(Garbled);
        }
    }
    while !words.is_empty() {
        let item = words.word()?.to_ascii_uppercase();
        match &item[..] {
            b"UID" => found.by_uid = true,
            b"ALL" => found.all = Set::read(words.word()?)?,
            b"MIN" => found.min = Some(words.number32()?),
            b"MAX" => found.max = Some(words.number32()?),
            b"COUNT" => found.count = Some(words.number32()?),
            b"MODSEQ" => found.modseq = Some(words.number()?),
            _ => words.skip()?,
        }
    }
    Ok(found)
}
