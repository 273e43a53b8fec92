//! Comparing a Maildir with what the store knows of it.
//!
//! A pass over some folders first looks for messages that the store has and the folders have not: these have moved, or are gone. Then it
//! looks at the files that the store does not know: one with the base name of a missing message is that message, in another folder; the
//! others are new. What is still missing then is looked for once more, because a reading can miss a file that is renamed meanwhile.
//! Each step reads a folder with 16 bytes for each message, and holds as much for each missing one.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::io;
use std::ops::ControlFlow;
use std::os::unix::fs::MetadataExt;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use sundown_core::address::Pattern;
use sundown_core::provider::{MessageFacts, MirrorChange};
use sundown_protocol::folder::Marks;
use twox_hash::XxHash3_64;

use super::act::{self, At};
use super::facts;
use super::folders::{Dir, Folder, Root, Sub};
use super::marks::{self, spot};
use super::names::{self, Base, Flags, Name};
use super::scan::{self, Listing, Newest};
use super::watch::Names;
use crate::mailbox::{Book, Halt, Standing};

/// How many of the newest messages of a folder are taken in front of the others.
const NEWEST: usize = 200;

/// A file that was renamed shortly before the watch began may have an earlier time: file systems keep that of their last tick.
const TICK: Duration = Duration::from_secs(1);

/// What a mailbox keeps in memory about its Maildir.
pub(super) struct Memory {
    /// The addresses of the user; empty if every message is shown.
    own: Vec<Pattern>,
    /// Messages that are not shown, by hashes of their folders and base names.
    hidden: HashSet<u64>,
    /// Whether the store knows messages of this Maildir from an earlier time. Then everything that has come into the Inbox since is news.
    known: bool,
    began: SystemTime,
    seed: u64,
    /// What was said of in the log.
    said: BTreeSet<(Dir, String)>,
}

impl Memory {
    pub(super) fn new(own: Vec<Pattern>) -> io::Result<Self> {
        let (hidden, said) = (HashSet::new(), BTreeSet::new());
        let began = SystemTime::now() - TICK;
        Ok(Self { own, hidden, known: false, began, seed: getrandom::u64()?, said })
    }

    /// The store had messages of this Maildir when the watch began.
    pub(super) fn store_knows(&mut self) {
        self.known = true;
    }

    /// Another time from which on a message is news.
    #[cfg(test)]
    pub(super) fn began_at(&mut self, time: SystemTime) {
        self.began = time;
    }

    fn hash(&self, base: &[u8]) -> u64 {
        XxHash3_64::oneshot_with_seed(self.seed, base)
    }

    fn hash_in(&self, dir: &Dir, base: &[u8]) -> u64 {
        XxHash3_64::oneshot_with_seed(self.seed, &[dir.bytes(), b"/", base].concat())
    }

    /// Whether a message is for the user, or does not say for whom it is.
    fn is_own(&self, delivered_to: &[String]) -> bool {
        self.own.is_empty()
            || delivered_to.is_empty()
            || delivered_to.iter().any(|address| self.own.iter().any(|own| own.takes(address)))
    }

    /// Says something of a folder in the log, once.
    fn say(&mut self, root: &Root, dir: &Dir, what: &str) {
        if self.said.len() < 1000 && self.said.insert((dir.clone(), what.to_owned())) {
            tracing::warn!(path = %root.path().display(), folder = %dir, "{what}");
        }
    }
}

/// A pass over folders of a Maildir.
pub(super) struct Pass<'a> {
    pub(super) root: &'a Root,
    pub(super) book: &'a mut Book,
    pub(super) memory: &'a mut Memory,
    /// Folders that are not there any more, or are not shown: they count as empty.
    pub(super) gone: &'a BTreeSet<Dir>,
}

/// A message that is in none of the folders where it was: a hash of its base name, and the place of its folder in the pass.
type Missing = BTreeSet<(u64, usize)>;

impl Pass<'_> {
    /// Compares these folders.
    pub(super) fn over(&mut self, dirs: &[Dir]) -> Result<(), Halt> {
        let (mut missing, mut unread) = (Missing::new(), HashSet::new());
        let mut with_unknown = Vec::new();
        for (n, dir) in dirs.iter().enumerate() {
            match self.compare(dir, n, &mut missing)? {
                None => _ = unread.insert(n),
                Some(0) => {}
                Some(_) => with_unknown.push(n),
            }
        }
        self.book.write()?;
        for n in with_unknown {
            self.take_unknown(dirs, n, &mut missing)?;
        }
        self.book.write()?;
        for (n, dir) in dirs.iter().enumerate() {
            if !unread.contains(&n) && missing.iter().any(|(_, of)| *of == n) {
                self.take_leave(dir, n, &missing)?;
            }
        }
        self.book.write()
    }

    /// Reads a folder. Nothing if it cannot be read: then nothing is known of its messages.
    fn read(&mut self, dir: &Dir) -> Result<Option<Listing>, Halt> {
        self.book.go_on()?;
        let listing = match self.root.folder(dir) {
            _ if self.gone.contains(dir) => Ok(Listing::empty()),
            Ok(folder) => Listing::read(&folder),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Listing::empty()),
            Err(error) => Err(error),
        };
        match listing {
            Ok(listing) => {
                if !listing.skipped.is_empty() {
                    let what =
                        format!("there is something that is no message: {}", listing.skipped);
                    self.memory.say(self.root, dir, &what);
                }
                if listing.twins > 0 {
                    let what = "there are several files with one name; they count as one message";
                    self.memory.say(self.root, dir, what);
                }
                Ok(Some(listing))
            }
            Err(error) => {
                let what = format!("the folder cannot be read: {error}");
                self.memory.say(self.root, dir, &what);
                Ok(None)
            }
        }
    }

    /// Compares what the store knows with a folder. How many of its messages the store does not know; nothing if it cannot be read.
    fn compare(
        &mut self,
        dir: &Dir,
        n: usize,
        missing: &mut Missing,
    ) -> Result<Option<usize>, Halt> {
        let Some(mut listing) = self.read(dir)? else { return Ok(None) };
        let partial = listing.partial;
        if partial {
            self.is_there()?;
            let what =
                "the folder has no directory cur; what was in it stays in the store, put it back";
            self.memory.say(self.root, dir, what);
        }
        let memory = &*self.memory;
        self.book.each_row(&dir.text(), |book, name, known| {
            let Some(base) = names::unescape(name) else { return Ok(()) };
            if let Some(seen) = listing.know(&base) {
                return mark(book, (dir, &base), known.marks, seen.flags);
            }
            if !partial {
                missing.insert((memory.hash(&base), n));
            }
            Ok(())
        })?;
        Ok(Some(listing.unknown()))
    }

    /// Takes the messages of a folder that the store does not know.
    fn take_unknown(&mut self, dirs: &[Dir], n: usize, missing: &mut Missing) -> Result<(), Halt> {
        let dir = &dirs[n];
        let Some(mut listing) = self.read(dir)? else { return Ok(()) };
        let Ok(folder) = self.root.folder(dir) else { return Ok(()) };
        self.book.each_row(&dir.text(), |_, name, _| {
            names::unescape(name).and_then(|base| listing.know(&base));
            Ok(())
        })?;
        if listing.unknown() > NEWEST {
            let mut newest = Newest::new(NEWEST);
            let looked = scan::each(&folder, |sub, name| {
                if listing.is_unknown(sub, name) {
                    newest.offer(sub, name.file());
                }
                ControlFlow::Continue(())
            });
            looked.map_err(|error| Halt::at(&self.root.path_of(dir), &error))?;
            for (sub, file) in newest.into_files() {
                let at = At { sub, file };
                if let Some(base) = at.base() {
                    listing.know(base);
                    self.take((dirs, n), &folder, &at, missing)?;
                }
            }
            self.book.write()?;
        }
        let mut halted = None;
        let looked = scan::each(&folder, |sub, name| {
            if !listing.is_unknown(sub, name) {
                return ControlFlow::Continue(());
            }
            let at = At { sub, file: name.file().to_owned() };
            let taken =
                self.book.go_on().and_then(|()| self.take((dirs, n), &folder, &at, missing));
            match taken {
                Ok(()) => ControlFlow::Continue(()),
                Err(halt) => {
                    halted = Some(halt);
                    ControlFlow::Break(())
                }
            }
        });
        if let Some(halt) = halted {
            return Err(halt);
        }
        looked.map(drop).map_err(|error| Halt::at(&self.root.path_of(dir), &error))
    }

    /// Takes a file that the store does not know where it is: a message that was elsewhere, or a new one.
    fn take(
        &mut self,
        (dirs, n): (&[Dir], usize),
        folder: &Folder,
        at: &At,
        missing: &mut Missing,
    ) -> Result<(), Halt> {
        let Some(base) = at.base() else { return Ok(()) };
        let hash = self.memory.hash(base);
        let from = missing.range((hash, 0)..=(hash, usize::MAX)).next().copied();
        if let Some(from) = from {
            // Another name can have the same hash.
            let there = &dirs[from.1];
            if self.book.marks_of(&there.text(), &names::escape(base))?.is_some() {
                missing.remove(&from);
                return self.moved((there, base), (&dirs[n], at));
            }
        }
        self.found(&dirs[n], folder, at)
    }

    fn moved(&mut self, (from, base): (&Dir, &[u8]), (to, at): (&Dir, &At)) -> Result<(), Halt> {
        let (from, to) = (spot(from, base), spot(to, base));
        self.book.say(MirrorChange::Moved { from, to, marks: marks::marks(at.flags()) })
    }

    /// A file that no message of the store is.
    fn found(&mut self, dir: &Dir, folder: &Folder, at: &At) -> Result<(), Halt> {
        let Some(base) = at.base() else { return Ok(()) };
        let hash = self.memory.hash_in(dir, base);
        if self.memory.hidden.contains(&hash) {
            return Ok(());
        }
        let read = act::open_at(folder, at).and_then(|file| {
            let Some(file) = file else { return Ok(None) };
            let arrived = file.metadata()?.ctime();
            Ok(facts::read(&file)?.map(|facts| (facts, arrived)))
        });
        let (facts, arrived) = match read {
            Ok(Some(read)) => read,
            // It is gone, or is being written: the next look at it says more.
            Ok(None) => return Ok(()),
            Err(error) => {
                let what = format!("a message cannot be read, and is not shown: {error}");
                self.memory.say(self.root, dir, &what);
                return Ok(());
            }
        };
        if !self.memory.is_own(&facts.delivered_to) {
            self.memory.hidden.insert(hash);
            return Ok(());
        }
        let arrived = UNIX_EPOCH + Duration::from_secs(u64::try_from(arrived).unwrap_or(0));
        let is_since = self.memory.known || arrived >= self.memory.began;
        let news = dir.is_root() && at.sub == Sub::New && is_since;
        let facts = MessageFacts {
            size: facts.size,
            received: facts.received,
            date: facts.date,
            subject: facts.subject,
            from: facts.from,
            to: facts.to,
            trace: None,
            keywords: Vec::new(),
            fetch: false,
        };
        let (spot, marks) = (spot(dir, base), marks::marks(at.flags()));
        self.book.say(MirrorChange::Found { spot, marks, news, facts: Box::new(facts) })
    }

    /// Says of the missing messages of a folder that they are gone, unless another reading finds them.
    fn take_leave(&mut self, dir: &Dir, n: usize, missing: &Missing) -> Result<(), Halt> {
        let Some(listing) = self.read(dir)? else { return Ok(()) };
        self.is_there()?;
        let memory = &*self.memory;
        self.book.each_row(&dir.text(), |book, name, known| {
            let Some(base) = names::unescape(name) else { return Ok(()) };
            match listing.get(&base) {
                Some(seen) => mark(book, (dir, &base), known.marks, seen.flags),
                None if missing.contains(&(memory.hash(&base), n)) => {
                    book.say(MirrorChange::Vanished { spot: spot(dir, &base) })
                }
                None => Ok(()),
            }
        })
    }

    /// The directory that was read is that of the Maildir still.
    fn is_there(&self) -> Result<(), Halt> {
        match self.root.standing() {
            Standing::There => Ok(()),
            lost => Err(Halt::Lost(lost)),
        }
    }

    /// Looks at single messages that have changed, by their base names in each folder; with where the file of each was put last.
    pub(super) fn names(&mut self, changed: BTreeMap<Dir, Names>) -> Result<(), Halt> {
        let mut sorted = Sorted::default();
        for (dir, names) in changed {
            // One that is gone is looked at with the list of folders.
            let Ok(folder) = self.root.folder(&dir) else { continue };
            self.names_in((&dir, &folder), names, &mut sorted)?;
        }
        let Sorted { found, mut gone } = sorted;
        for (dir, at) in found {
            let Some(base) = at.base() else { continue };
            let from = gone.iter().position(|(_, name): &(Dir, Base)| name == base);
            if let Some(from) = from {
                let (there, base) = gone.swap_remove(from);
                self.moved((&there, &base), (&dir, &at))?;
                continue;
            }
            let folder = self.root.folder(&dir);
            let folder = folder.map_err(|error| Halt::at(&self.root.path_of(&dir), &error))?;
            self.found(&dir, &folder, &at)?;
        }
        if !gone.is_empty() {
            self.is_there()?;
        }
        for (dir, base) in gone {
            self.book.say(MirrorChange::Vanished { spot: spot(&dir, &base) })?;
        }
        self.book.write()
    }

    /// Sorts the names of a folder: files that the store does not know, and messages of the store that are not there.
    fn names_in(
        &mut self,
        (dir, folder): (&Dir, &Folder),
        names: Names,
        sorted: &mut Sorted,
    ) -> Result<(), Halt> {
        let mut absent = Vec::new();
        for (base, put) in names {
            self.book.go_on()?;
            let known = self.book.marks_of(&dir.text(), &names::escape(&base))?;
            let hint = known.map_or(Flags::NONE, marks::flags);
            let put = put.map(|(sub, file)| At { sub, file });
            let here = act::find(folder, &base, put, hint);
            let here = here.map_err(|error| Halt::at(&self.root.path_of(dir), &error))?;
            match (known, here) {
                (Some(marks), Some(at)) => mark(self.book, (dir, &base), marks, at.flags())?,
                (Some(marks), None) => absent.push((base, marks)),
                (None, Some(at)) => sorted.found.push((dir.clone(), at)),
                (None, None) => {}
            }
        }
        // Only what two readings miss is gone.
        for _ in 0..2 {
            if absent.is_empty() {
                return Ok(());
            }
            let Some(listing) = self.read(dir)?.filter(|listing| !listing.partial) else {
                return Ok(());
            };
            let mut missed = Vec::new();
            for (base, marks) in absent {
                match listing.get(&base) {
                    Some(seen) => mark(self.book, (dir, &base), marks, seen.flags)?,
                    None => missed.push((base, marks)),
                }
            }
            absent = missed;
        }
        sorted.gone.extend(absent.into_iter().map(|(base, _)| (dir.clone(), base)));
        Ok(())
    }
}

/// Names that were looked at.
#[derive(Debug, Default)]
struct Sorted {
    /// Files that the store does not know.
    found: Vec<(Dir, At)>,
    /// Messages of the store that are not there.
    gone: Vec<(Dir, Base)>,
}

/// Says which marks a message has, if they are others than those last seen.
fn mark(
    book: &mut Book,
    (dir, base): (&Dir, &[u8]),
    before: Marks,
    flags: Flags,
) -> Result<(), Halt> {
    let marks = marks::marks(flags);
    if marks.0 == before.0 & Marks::KNOWN {
        return Ok(());
    }
    book.say(MirrorChange::Marked { spot: spot(dir, base), marks })
}

impl At {
    fn base(&self) -> Option<&[u8]> {
        Name::parse(&self.file).map(|name| name.base())
    }
}
