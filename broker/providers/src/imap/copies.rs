//! Bytes that another program has fetched before: the Maildirs of mbsync or offlineimap, which a profile names with `take_over`.
//!
//! A file is taken for a message if it has the same head, byte by byte, and the same size, and if that leaves no doubt: because the file
//! has the message's number, or because the head has a field Received, which no two deliveries share. A draft that was changed in
//! between has a new number. So heads go over the network once more, and bodies do not; what no file fits, or what different files fit, is
//! fetched.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::{OsStr, OsString};
use std::fs::{File, OpenOptions, ReadDir};
use std::io::{self, Read};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use rustix::fs::OFlags;
use sundown_core::provider::MirrorChange;
use twox_hash::XxHash3_128;

use super::account::{Account, set_of};
use super::bytes::PIECE;
use super::conversation::Part;
use super::names::spot;
use super::{Data, Response};
use crate::mailbox::Halt;

/// Fewer messages are fetched sooner than a directory is read.
pub(super) const WORTH: u64 = 256;

/// How many files are read before others have their turn.
const AT_ONCE: usize = 256;

/// The longest head of a file, in bytes.
const LONGEST_HEAD: u64 = 256 << 10;

/// Longer messages are fetched, a piece at a time.
const LONGEST: u64 = 32 << 20;

/// The longest list of numbers of mbsync, in bytes: of a million messages.
const LONGEST_STATE: u64 = 32 << 20;

/// How deep directories are looked into.
const DEEPEST: usize = 32;

/// How many files are known at most: each takes about 100 bytes of memory.
const MOST: usize = 2_000_000;

/// How many files with one head are compared.
const MOST_ALIKE: usize = 16;

/// The field that mbsync writes into what it brings into a Maildir.
const TUID: &[u8] = b"x-tuid:";

/// The files below a directory, as far as they were read.
#[derive(Debug, Default)]
pub(super) struct Copies {
    /// Where they are; nothing if there is nothing to take over, or no more.
    root: Option<PathBuf>,
    /// From so many messages on that are to be fetched the directory is read.
    worth: u64,
    /// Directories that are being read, the innermost last.
    open: Vec<Open>,
    is_read: bool,
    dirs: Vec<PathBuf>,
    files: Vec<Copy>,
    /// The sum of each file's head, and which file it is; in order once all are read.
    heads: Vec<(u128, u32)>,
}

#[derive(Debug)]
struct Copy {
    /// The place of its directory in `dirs`.
    dir: u32,
    name: OsString,
    /// The number of its message at the server, if that is known.
    uid: Option<u32>,
}

#[derive(Debug)]
struct Open {
    entries: ReadDir,
    /// What its files are, if they are messages.
    messages: Option<Messages>,
}

#[derive(Debug)]
struct Messages {
    /// The place of its path in `dirs`.
    dir: u32,
    /// What mbsync says of its folder: each file's own number, and that at the server, in order. Without it files have the server's.
    numbers: Option<Vec<(u32, u32)>>,
}

impl Messages {
    /// The number at the server of the message with this file.
    fn uid(&self, name: &OsStr) -> Option<u32> {
        let name = name.to_str()?;
        let (_, rest) = name.split_once(",U=")?;
        let digits = rest.split(|c: char| !c.is_ascii_digit()).next()?;
        let number = digits.parse().ok()?;
        let Some(numbers) = &self.numbers else { return Some(number) };
        let at = numbers.binary_search_by_key(&number, |(near, _)| *near).ok()?;
        Some(numbers[at].1)
    }
}

impl Copies {
    pub(super) fn below(root: Option<PathBuf>, worth: u64) -> Self {
        Self { root, worth, ..Self::default() }
    }

    /// Whether files are to be read before so many messages are fetched.
    pub(super) fn are_due(&self, wanted: u64) -> bool {
        self.root.is_some() && !self.is_read && (wanted >= self.worth || !self.open.is_empty())
    }

    /// Nothing is taken over any more.
    pub(super) fn forget(&mut self) {
        *self = Self::default();
    }

    /// Reads the heads of some files.
    pub(super) fn read_on(&mut self) {
        let Some(root) = self.root.clone().filter(|_| !self.is_read) else { return };
        if self.open.is_empty()
            && let Err(error) = self.enter(root.clone())
        {
            let text = "there is nothing to take over; all messages are fetched. Remove `take_over` from the profile, or correct it";
            tracing::warn!(directory = %root.display(), %error, "{text}");
            return self.forget();
        }
        let mut read = 0;
        while read < AT_ONCE && self.files.len() < MOST {
            let deep = self.open.len();
            let Some(open) = self.open.last_mut() else { break };
            let Some(entry) = open.entries.next() else {
                self.open.pop();
                continue;
            };
            let Ok(entry) = entry else { continue };
            let (Ok(kind), path, name) = (entry.file_type(), entry.path(), entry.file_name())
            else {
                continue;
            };
            if kind.is_dir() && deep < DEEPEST && name != "tmp" {
                // One that cannot be read is left out.
                let _ = self.enter(path);
            } else if kind.is_file()
                && let Some(messages) = &open.messages
            {
                read += 1;
                if let Some(head) = head_of(&path) {
                    self.heads.push((sum(&head), self.files.len() as u32));
                    self.files.push(Copy { dir: messages.dir, uid: messages.uid(&name), name });
                }
            }
        }
        if self.open.is_empty() || self.files.len() >= MOST {
            self.open.clear();
            self.heads.sort_unstable();
            self.is_read = true;
            let files = self.files.len();
            if files == 0 {
                let text = "there is no message in a Maildir below the directory of `take_over`; all messages are fetched";
                tracing::warn!(directory = %root.display(), "{text}");
            } else {
                tracing::info!(directory = %root.display(), files, "files are taken over");
            }
        }
    }

    fn enter(&mut self, path: PathBuf) -> io::Result<()> {
        let entries = path.read_dir()?;
        let has_messages = path.file_name().is_some_and(|name| name == "cur" || name == "new");
        let messages = has_messages.then(|| {
            let numbers = path.parent().and_then(|folder| numbers_of_mbsync(folder).ok());
            self.dirs.push(path);
            Messages { dir: self.dirs.len() as u32 - 1, numbers }
        });
        self.open.push(Open { entries, messages });
        Ok(())
    }

    /// Whether there is anything to be found.
    fn has_any(&self) -> bool {
        self.is_read && !self.heads.is_empty()
    }

    /// The message with this number, this head and this size.
    fn find(&self, uid: u32, head: &[u8], size: u64) -> Option<Vec<u8>> {
        if size == 0 || size > LONGEST {
            return None;
        }
        let wanted = sum(head);
        let from = self.heads.partition_point(|(sum, _)| *sum < wanted);
        let alike = self.heads[from..].iter().take_while(|(sum, _)| *sum == wanted);
        let alike: Vec<_> = alike.map(|(_, file)| &self.files[*file as usize]).collect();
        let mut same: Vec<_> = alike.iter().filter(|copy| copy.uid == Some(uid)).collect();
        if same.is_empty() && is_delivered(head) {
            same = alike.iter().collect();
        }
        let paths = same.into_iter().take(MOST_ALIKE);
        let paths = paths.map(|copy| self.dirs[copy.dir as usize].join(&copy.name));
        let mut found = paths.filter_map(|path| message_in(&path, head, size));
        let first = found.next()?;
        found.all(|other| other == first).then_some(first)
    }
}

impl Account<'_> {
    /// Takes over what files have of these messages. Which ones they had.
    pub(super) fn take_over(
        &mut self,
        dir: &str,
        validity: u32,
        messages: &[(u32, u64)],
    ) -> Result<BTreeSet<u32>, Halt> {
        let mut taken = BTreeSet::new();
        if messages.is_empty() || !self.copies.borrow().has_any() {
            return Ok(taken);
        }
        let sizes: BTreeMap<u32, u64> = messages.iter().copied().collect();
        let uids = set_of(&sizes.keys().copied().collect::<Vec<_>>());
        let command = format!("UID FETCH {uids} (UID BODY.PEEK[HEADER])");
        let mut heads = Vec::new();
        let done = self.talk.command(&[Part::Text(&command)], |response| {
            if let Response::Data(Data::Fetch(fetch)) = response
                && let Some(uid) = fetch.uid
                && let Some(head) =
                    fetch.sections.iter().find(|s| s.name.eq_ignore_ascii_case(b"HEADER"))
            {
                heads.push((uid, head.bytes.as_deref().unwrap_or_default().to_vec()));
            }
            Ok(())
        })?;
        done.expect(self.talk.place(), "heads of messages").map_err(Halt::Refused)?;
        for (uid, head) in heads {
            self.go_on()?;
            let Some(size) = sizes.get(&uid).filter(|_| !taken.contains(&uid)) else { continue };
            let Some(bytes) = self.copies.borrow().find(uid, &head, *size) else { continue };
            taken.insert(uid);
            let pieces = bytes.len().div_ceil(PIECE as usize);
            for (place, piece) in bytes.chunks(PIECE as usize).enumerate() {
                let (first, last) = (place == 0, place + 1 == pieces);
                let (spot, bytes) = (spot(dir, validity, uid), piece.to_vec());
                self.book.say_all(vec![MirrorChange::Bytes { spot, first, bytes, last }])?;
                if pieces > 1 {
                    self.book.write()?;
                }
            }
        }
        self.book.write()?;
        Ok(taken)
    }
}

fn open(path: &Path) -> io::Result<File> {
    // Nothing but files: a pipe would be waited for.
    OpenOptions::new()
        .read(true)
        .custom_flags((OFlags::NOFOLLOW | OFlags::NONBLOCK).bits() as i32)
        .open(path)
}

/// The head of the message in a file.
fn head_of(path: &Path) -> Option<Vec<u8>> {
    let mut bytes = Vec::new();
    let mut file = open(path).ok()?.take(LONGEST_HEAD);
    let mut piece = 8 << 10;
    loop {
        let before = bytes.len();
        file.by_ref().take(piece).read_to_end(&mut bytes).ok()?;
        let head = head(&bytes);
        if head.len() < bytes.len() || bytes.len() == before {
            // All of a file without a body is its head.
            let length = head.len();
            bytes.truncate(length);
            return (!bytes.is_empty() && (bytes.len() as u64) < LONGEST_HEAD).then_some(bytes);
        }
        piece *= 4;
    }
}

/// The lines before the first empty one.
fn head(message: &[u8]) -> &[u8] {
    let mut from = 0;
    while let Some(end) = memchr::memchr(b'\n', &message[from..]) {
        if matches!(&message[from..from + end], b"" | b"\r") {
            return &message[..from];
        }
        from += end + 1;
    }
    message
}

/// What heads have in common that are the same but for the ends of their lines, and for what mbsync writes into them.
fn sum(message: &[u8]) -> u128 {
    let mut plain = Vec::with_capacity(message.len());
    for line in head(message).split(|byte| *byte == b'\n') {
        let line = line.strip_suffix(b"\r").unwrap_or(line);
        if !is_tuid(line) && !line.is_empty() {
            plain.extend_from_slice(line);
            plain.push(b'\n');
        }
    }
    XxHash3_128::oneshot(&plain)
}

fn is_tuid(line: &[u8]) -> bool {
    line.get(..TUID.len()).is_some_and(|name| name.eq_ignore_ascii_case(TUID))
}

/// Whether a head is that of one delivery, and of no other.
fn is_delivered(head: &[u8]) -> bool {
    let mut lines = self::head(head).split(|byte| *byte == b'\n');
    lines.any(|line| line.get(..9).is_some_and(|name| name.eq_ignore_ascii_case(b"received:")))
}

/// What mbsync has written down of a folder, where it is told to keep that in the folder: pairs of numbers, the server's first.
fn numbers_of_mbsync(folder: &Path) -> io::Result<Vec<(u32, u32)>> {
    let mut text = String::new();
    open(&folder.join(".mbsyncstate"))?.take(LONGEST_STATE).read_to_string(&mut text)?;
    let pair = |line: &str| {
        let mut words = line.split(' ');
        let far = words.next()?.parse().ok()?;
        Some((words.next()?.parse().ok()?, far))
    };
    let mut numbers: Vec<_> =
        text.lines().skip_while(|line| !line.is_empty()).filter_map(pair).collect();
    numbers.sort_unstable();
    Ok(numbers)
}

/// The message in a file as a server sends it, if it has this head and this size.
fn message_in(path: &Path, head: &[u8], size: u64) -> Option<Vec<u8>> {
    let file = open(path).ok()?;
    let length = file.metadata().ok().filter(std::fs::Metadata::is_file)?.len();
    // The ends of lines are one byte or two, and mbsync adds one line.
    if length > size + 128 || size > 2 * length {
        return None;
    }
    let mut bytes = Vec::with_capacity(length as usize);
    file.take(size + 128).read_to_end(&mut bytes).ok()?;
    let whole = with_line_ends(&bytes);
    let fits =
        |message: &Vec<u8>| message.len() as u64 == size && self::head(message) == self::head(head);
    Some(whole).filter(fits).or_else(|| without_tuid(&bytes).filter(fits))
}

/// The message with CR LF at the end of each line.
fn with_line_ends(bytes: &[u8]) -> Vec<u8> {
    let mut whole = Vec::with_capacity(bytes.len() + bytes.len() / 32);
    for line in bytes.split_inclusive(|byte| *byte == b'\n') {
        match line.strip_suffix(b"\n") {
            Some(text) if !text.ends_with(b"\r") => {
                whole.extend_from_slice(text);
                whole.extend_from_slice(b"\r\n");
            }
            _ => whole.extend_from_slice(line),
        }
    }
    whole
}

/// The message as it was before mbsync wrote its line into it; nothing if there is no such line.
fn without_tuid(bytes: &[u8]) -> Option<Vec<u8>> {
    let mut from = 0;
    for line in head(bytes).split_inclusive(|byte| *byte == b'\n') {
        if is_tuid(line) {
            return Some(with_line_ends(&[&bytes[..from], &bytes[from + line.len()..]].concat()));
        }
        from += line.len();
    }
    None
}

#[cfg(test)]
mod tests {
    use std::fs;

    use tempfile::TempDir;

    use super::*;

    const MESSAGE: &str =
        "Received: by x; id 1\r\nSubject: a\r\nFrom: Eve <e@x.y>\r\n\r\nbody\r\n\r\nmore\r\n";

    fn copies(files: &[(&str, &str)]) -> (TempDir, Copies) {
        let root = TempDir::new().expect("a directory");
        for (name, text) in files {
            let path = root.path().join(name);
            fs::create_dir_all(path.parent().expect("a directory")).expect("made");
            fs::write(path, text).expect("written");
        }
        let mut copies = Copies::below(Some(root.path().into()), 10);
        assert!(!copies.are_due(9) && copies.are_due(10));
        while copies.are_due(10) {
            copies.read_on();
        }
        (root, copies)
    }

    /// Whether message 7 is found.
    fn found(files: &[(&str, &str)], message: &str) -> bool {
        let (_root, copies) = copies(files);
        let head = &message[..message.find("\r\n\r\n").expect("an empty line") + 4];
        let found = copies.find(7, head.as_bytes(), message.len() as u64);
        assert!(found.as_ref().is_none_or(|found| found == message.as_bytes()), "{found:?}");
        found.is_some()
    }

    #[test]
    fn a_file_is_found_however_its_lines_end() {
        let plain = MESSAGE.replace("\r\n", "\n");
        assert!(found(&[("cur/1.x:2,S", &plain)], MESSAGE));
        assert!(found(&[("Work/.in/new/1,U=7", MESSAGE)], MESSAGE));
        assert!(found(&[("cur/1", "Subject: a\n\nb\n"), ("cur/2", &plain)], MESSAGE));
        // A message with ends of lines of its own has another size as a file of mbsync, and is fetched.
        let mixed = "Received: x\r\nSubject: a\r\n\r\none\ntwo\r\n";
        assert!(!found(&[("cur/1", mixed)], mixed));
        let empty = "Received: x\r\nSubject: a\r\n\r\n";
        assert!(found(&[("cur/1", "Received: x\nSubject: a\n\n")], empty));
        let long =
            format!("Received: x\r\nSubject: a\r\nX-Long: {}\r\n\r\nbody\r\n", "x".repeat(50_000));
        assert!(found(&[("cur/1", &long.replace("\r\n", "\n"))], &long));
    }

    #[test]
    fn the_line_of_mbsync_does_not_count() {
        let tuid = "Received: by x; id 1\nSubject: a\nX-TUID: 0123456789ab\nFrom: Eve <e@x.y>\n\nbody\n\nmore\n";
        assert!(found(&[("cur/1", tuid)], MESSAGE));
        let there = tuid.replace('\n', "\r\n");
        assert!(found(&[("cur/1", tuid)], &there));
        let other = there.replace("0123456789ab", "ba9876543210");
        assert!(!found(&[("cur/1", tuid)], &other), "what the server has counts");
        assert!(!found(&[("cur/1", &MESSAGE.replace("\r\n", "\n"))], &there));
    }

    #[test]
    fn what_differs_is_not_taken() {
        let plain = MESSAGE.replace("\r\n", "\n");
        for file in [
            plain.replace("Eve", "Eva"),
            plain.replace("more", "mor"),
            plain.replace("Subject: a\n", "subject: a\n"),
            format!("X-Other: 1\n{plain}"),
            String::new(),
            "\n".into(),
        ] {
            assert!(!found(&[("cur/1", &file)], MESSAGE), "{file:?}");
        }
        // Not a message, or not there yet.
        assert!(!found(&[("tmp/1", &plain), ("notes/1", &plain), ("1", &plain)], MESSAGE));
        // Two with the same head and size, and different bodies: nobody knows which.
        let other = plain.replace("body", "ydob");
        assert!(!found(&[("cur/1", &plain), ("a/cur/1", &other)], MESSAGE));
        assert!(found(&[("cur/1", &plain), ("a/cur/1", &plain)], MESSAGE));
    }

    /// A message that was not delivered, as a draft, may be changed with the same head and size: its number says whether it was.
    #[test]
    fn what_may_have_changed_is_told_by_its_number() {
        let message = MESSAGE.replace("Received: by x; id 1\r\n", "");
        let plain = message.replace("\r\n", "\n");
        let file = |name: &str| found(&[(name, &plain)], &message);
        assert!(!file("cur/1.2.host:2,S"));
        assert!(!file("cur/1.2.host,U=8,FMD5=0:2,S"));
        assert!(file("cur/1.2.host,U=7,FMD5=0:2,S"));
        let other = plain.replace("body", "ydob");
        assert!(found(&[("cur/1,U=7", &plain), ("cur/2,U=6", &other)], &message));
        assert!(!found(&[("cur/1,U=7", &plain), ("a/cur/2,U=7", &other)], &message));
        // The files of mbsync have numbers of their own.
        let state = "FarUidValidity 1\nNearUidValidity 2\n\n6 7 \n7 9 S\n";
        for (name, is_found) in
            [("cur/1,U=9:2,S", true), ("cur/1,U=7:2,S", false), ("cur/1", false)]
        {
            let files = [(".mbsyncstate", state), (name, &plain)];
            assert_eq!(found(&files, &message), is_found, "{name}");
        }
    }

    #[test]
    fn a_directory_that_is_not_there_ends_it() {
        let mut copies = Copies::below(Some("/nowhere/at/all".into()), 0);
        assert!(copies.are_due(0));
        copies.read_on();
        assert!(!copies.are_due(u64::MAX) && !copies.has_any());
        assert!(!Copies::below(None, 0).are_due(u64::MAX));
    }

    #[test]
    fn many_files_are_read_a_part_at_a_time() {
        let names: Vec<_> = (0..600).map(|n| format!("cur/{n}")).collect();
        let texts: Vec<_> = (0..600).map(|n| format!("Subject: {n}\n\nbody\n")).collect();
        let files: Vec<_> =
            names.iter().zip(&texts).map(|(n, t)| (n.as_str(), t.as_str())).collect();
        let (root, mut copies) = copies(&files);
        assert_eq!(copies.files.len(), 600);
        copies = Copies::below(Some(root.path().into()), 0);
        copies.read_on();
        assert!(copies.are_due(0), "it goes on even if few are wanted by now");
        fs::remove_file(root.path().join("cur/7")).expect("removed");
        while copies.are_due(0) {
            copies.read_on();
        }
        assert_eq!(copies.find(7, b"Subject: 7\r\n\r\n", 20), None, "a file that is gone");
    }
}
