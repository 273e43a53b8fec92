//! Carrying out in the Maildir what programs have changed in the store.
//!
//! The store says how a message is to be, and where it lies. Whatever a crash has left half-way, the same steps lead there: each looks for
//! what it would make before it makes it.

use std::collections::{HashMap, HashSet};
use std::io;
use std::ops::ControlFlow;

use sundown_core::provider::{MirrorChange, Pending, ProviderError, Spot, Wanted};
use sundown_protocol::Code;
use sundown_protocol::folder::Role;

use super::act::{self, At, Flagged, Moved, Try};
use super::book::{self, Book, Halt, spot};
use super::folders::{Dir, Folder, Root, Standing, Sub};
use super::names::{self, Base, Flags};
use super::scan;
use super::shelf::{MakeError, Shelf};
use super::tree::TreeError;
use crate::fault;

/// Stands for the Maildir's own `tmp` in a spot: a copy that is not in a folder yet.
const TMP: &str = "tmp";

/// How often it is looked whether carrying out changes has made others pending. Programs' own changes are told anyway.
const ROUNDS: usize = 3;

/// Carries out what is pending.
pub(super) struct Carrier<'a> {
    pub(super) root: &'a Root,
    pub(super) book: &'a mut Book,
    pub(super) shelf: &'a mut Shelf,
    /// Where each file is, once one was looked for that an earlier try may have moved.
    pub(super) files: Option<HashMap<Base, Dir>>,
}

/// What could not be carried out.
#[derive(Default)]
struct Failed {
    records: HashSet<u128>,
    first: Option<ProviderError>,
}

/// Why one change was not carried out.
enum Failure {
    Halt(Halt),
    /// The others go on.
    This(ProviderError),
}

impl From<Halt> for Failure {
    fn from(halt: Halt) -> Self {
        Self::Halt(halt)
    }
}

impl From<MakeError> for Failure {
    fn from(error: MakeError) -> Self {
        match error {
            MakeError::Halt(halt) => Self::Halt(halt),
            MakeError::Tree(TreeError::Io(error)) => Self::This(said(&error)),
            MakeError::Tree(error) => {
                Self::This(ProviderError::new(Code::E_CALL_FAILED, error.to_string()))
            }
        }
    }
}

impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Self {
        Self::This(said(&error))
    }
}

fn said(error: &io::Error) -> ProviderError {
    let (code, words) = fault::words(error);
    ProviderError::new(code, words)
}

/// Where a message lies, as far as the Maildir has it.
enum Lies {
    /// The store has its bytes.
    Nowhere,
    /// In the Maildir's `tmp`.
    Staged(Vec<u8>),
    In(Dir, Vec<u8>),
}

impl Lies {
    fn of(pending: &Pending) -> Option<Self> {
        let Some(Spot { dir, name }) = &pending.spot else { return Some(Self::Nowhere) };
        let base = names::unescape(name).filter(|base| names::is_base(base))?;
        if dir == TMP { Some(Self::Staged(base)) } else { Some(Self::In(Dir::parse(dir)?, base)) }
    }
}

impl Carrier<'_> {
    /// Carries out everything, and what has become pending by that: another program's flags can cross with ours. A change that fails
    /// leaves the others alone, and stays pending: the first error.
    pub(super) fn carry_out(&mut self, attempt: Try) -> Result<Option<ProviderError>, Halt> {
        let mut failed = Failed::default();
        for _ in 0..ROUNDS {
            if !self.carry_out_once(attempt, &mut failed)? {
                break;
            }
        }
        Ok(failed.first)
    }

    /// Carries out what is pending, but for what has failed before. Whether anything was carried out.
    fn carry_out_once(&mut self, attempt: Try, failed: &mut Failed) -> Result<bool, Halt> {
        let (mut after, mut any) = (0, false);
        loop {
            let (rows, next) = self.book.pending(after)?;
            for row in &rows {
                if failed.records.contains(&row.record) {
                    continue;
                }
                self.book.go_on()?;
                match self.root.standing() {
                    Standing::There => {}
                    lost => return Err(Halt::Lost(lost)),
                }
                match self.one(row, attempt) {
                    Ok(changes) => {
                        any = true;
                        self.book.say_all(changes)?;
                    }
                    Err(Failure::Halt(halt)) => return Err(halt),
                    Err(Failure::This(error)) => {
                        let record = format!("{:032x}", row.record);
                        let path = self.root.path().display();
                        tracing::warn!(%path, %record, %error, "a change is not made in the Maildir yet");
                        failed.records.insert(row.record);
                        failed.first.get_or_insert(error);
                    }
                }
            }
            self.book.write()?;
            match next {
                Some(next) => after = next,
                None => return Ok(any),
            }
        }
    }

    fn one(&mut self, pending: &Pending, attempt: Try) -> Result<Vec<MirrorChange>, Failure> {
        let mut changes = Vec::new();
        let record = pending.record;
        let Some(lies) = Lies::of(pending) else {
            let text = "the store names a place that no Maildir has";
            return Err(Failure::This(ProviderError::new(Code::E_CORRUPT_STORE, text)));
        };
        let Some(wanted) = &pending.wanted else {
            self.remove(lies)?;
            let marks = book::marks(Flags::NONE);
            return Ok(vec![MirrorChange::Done { record, spot: None, marks, wanted: None }]);
        };
        let lies = if attempt == Try::Again { self.found_again(lies, pending)? } else { lies };
        let (dir, flags) = self.target(&lies, wanted)?;
        let folder = self.folder(&dir)?;
        let own = names::of_record(record, pending.received / 1000);
        let done = match lies {
            Lies::Nowhere => {
                let message = self.book.open_message(record).map_err(Failure::This)?;
                let to = (&folder, &*own);
                let at = act::import(to, message, flags, pending.received, attempt)?;
                Some((own, at))
            }
            Lies::Staged(name) => {
                let root = self.root.folder(&Dir::ROOT)?;
                let placed = act::place((&root, &name), (&folder, &own), flags, attempt)?;
                placed.map(|at| (own, at))
            }
            Lies::In(there, base) => {
                let seen = self.hint(&there, &base)?;
                // What was changed here is changed there; what else has changed there stays.
                let change = |now: Flags| now.taking(flags, seen.differing(flags));
                let moved = if there == dir {
                    let flagged = act::set_flags(&folder, &base, seen, change)?;
                    flagged.map(|flagged| (base.clone(), flagged.at, Some(flagged.before)))
                } else {
                    let source = self.folder(&there)?;
                    let bases = [base.clone(), own];
                    move_under_a_name((&source, &base, seen), &folder, bases, change, attempt)?
                };
                moved.map(|(name, at, before)| {
                    // Seen only now: the store is told of it first.
                    if let Some(before) = before.filter(|before| *before != seen) {
                        let (spot, marks) = (spot(&there, &base), book::marks(before));
                        changes.push(MirrorChange::Marked { spot, marks });
                    }
                    (name, at)
                })
            }
        };
        changes.push(match (done, &pending.spot) {
            (Some((base, at)), _) => {
                let spot = Some(spot(&dir, &base));
                let marks = book::marks(at.flags());
                let wanted = Some((wanted.folder, wanted.marks));
                MirrorChange::Done { record, spot, marks, wanted }
            }
            (None, Some(spot)) if self.lacks_cur(spot)? => {
                let text = format!("the folder {} has no directory cur; put it back", spot.dir);
                return Err(Failure::This(ProviderError::new(Code::E_DISK_ERROR, text)));
            }
            (None, Some(spot)) => MirrorChange::Vanished { spot: spot.clone() },
            (None, None) => {
                let text = "another program has removed the message as soon as it was there";
                return Err(Failure::This(ProviderError::new(Code::E_CALL_FAILED, text)));
            }
        });
        Ok(changes)
    }

    /// The flags with which a message was seen last: by them its file is found without a reading of its folder.
    fn hint(&mut self, dir: &Dir, base: &[u8]) -> Result<Flags, Failure> {
        let marks = self.book.marks_of(dir, &names::escape(base)).map_err(Halt::from)?;
        Ok(marks.map_or(Flags::NONE, book::flags))
    }

    /// Where a message is that is not where it was: an earlier try may have put it elsewhere, and not have said so.
    fn found_again(&mut self, lies: Lies, pending: &Pending) -> Result<Lies, Failure> {
        let base = match &lies {
            Lies::Nowhere => names::of_record(pending.record, pending.received / 1000),
            Lies::Staged(_) => return Ok(lies),
            Lies::In(dir, base) => {
                let hint = self.hint(dir, base)?;
                match self.root.folder(dir) {
                    Ok(folder) if act::locate(&folder, base, hint)?.is_some() => return Ok(lies),
                    Ok(_) => {}
                    Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                    Err(error) => return Err(error.into()),
                }
                base.clone()
            }
        };
        let Some(dir) = self.everywhere().get(&base).cloned() else { return Ok(lies) };
        // Another message can have the same name in another folder.
        let is_known =
            self.book.marks_of(&dir, &names::escape(&base)).map_err(Halt::from)?.is_some();
        Ok(if is_known { lies } else { Lies::In(dir, base) })
    }

    /// All files, by their base names, and the folders that they are in.
    fn everywhere(&mut self) -> &HashMap<Base, Dir> {
        self.files.get_or_insert_with(|| {
            let mut files = HashMap::new();
            for dir in self.shelf.dirs() {
                let Ok(folder) = self.root.folder(&dir) else { continue };
                // A folder that cannot be read is looked at again when something is to be put there.
                let _ = scan::each(&folder, |_, name| {
                    files.entry(name.base().to_owned()).or_insert_with(|| dir.clone());
                    ControlFlow::Continue(())
                });
            }
            files
        })
    }

    /// Whether a folder is there and lacks the directory in which its messages are: they have not vanished.
    fn lacks_cur(&self, spot: &Spot) -> Result<bool, Failure> {
        let Some(dir) = Dir::parse(&spot.dir).filter(|_| spot.dir != TMP) else { return Ok(false) };
        match self.root.folder(&dir) {
            Ok(folder) => Ok(folder.sub(Sub::Cur)?.is_none()),
            Err(_) => Ok(false),
        }
    }

    fn remove(&mut self, lies: Lies) -> Result<(), Failure> {
        match lies {
            Lies::Nowhere => {}
            Lies::Staged(name) => {
                act::unstage(&self.root.folder(&Dir::ROOT)?, &name)?;
            }
            Lies::In(dir, base) => {
                let hint = self.hint(&dir, &base)?;
                match self.root.folder(&dir) {
                    Ok(folder) => _ = act::remove(&folder, &base, hint)?,
                    Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                    Err(error) => return Err(error.into()),
                }
            }
        }
        Ok(())
    }

    /// Where a message is to lie, and with which flags. What is marked as deleted is in Deleted, and nothing else is, but for a folder of
    /// deleted messages; so without one, a message that programs move there stays where it lies and gets the mark. A program may also set
    /// or remove the mark itself, and moves the message by that.
    fn target(&mut self, lies: &Lies, wanted: &Wanted) -> Result<(Dir, Flags), Failure> {
        let flags = book::flags(wanted.marks);
        let there = match lies {
            Lies::In(dir, base) => Some((dir, self.hint(dir, base)?.contains(Flags::TRASHED))),
            Lies::Nowhere | Lies::Staged(_) => None,
        };
        let was_marked = there.is_some_and(|(_, marked)| marked);
        let marks = flags.contains(Flags::TRASHED);
        let bound = wanted.dir.as_deref().and_then(Dir::parse);
        if wanted.role == Some(Role::Deleted) {
            return Ok(match (there, bound) {
                (Some((dir, true)), _) => (dir.clone(), flags),
                (_, Some(trash)) => (trash, flags),
                (Some((dir, false)), None) => (dir.clone(), flags.with(Flags::TRASHED)),
                (None, None) => (Dir::ROOT, flags.with(Flags::TRASHED)),
            });
        }
        let dir = match bound {
            Some(dir) => dir,
            None => self.shelf.make(self.root, self.book, wanted)?,
        };
        // A mark that was there before says where the message was, and not where it is to be.
        Ok((dir, if marks && !was_marked { flags } else { flags.without(Flags::TRASHED) }))
    }

    /// Opens a folder, which is made if the store knows it and its directory is not there.
    fn folder(&mut self, dir: &Dir) -> Result<Folder, Failure> {
        match self.root.folder(dir) {
            Err(error) if error.kind() == io::ErrorKind::NotFound && !dir.is_root() => {
                self.shelf.make_again(self.root, dir)?;
                Ok(self.root.folder(dir)?)
            }
            opened => Ok(opened?),
        }
    }
}

/// A message that lies where it is to lie: its base name and its file, and the flags that it had before if these were changed just now.
type Lying = (Base, At, Option<Flags>);

/// Moves a message under the first of these base names that no other message has there.
fn move_under_a_name(
    from: (&Folder, &[u8], Flags),
    to: &Folder,
    bases: [Vec<u8>; 2],
    change: impl Fn(Flags) -> Flags,
    attempt: Try,
) -> io::Result<Option<Lying>> {
    for base in bases {
        match act::move_to(from, (to, &base), &change, attempt)? {
            Moved::Done(Flagged { at, before }) => return Ok(Some((base, at, Some(before)))),
            Moved::Before(at) => return Ok(Some((base, at, None))),
            // An earlier try may have moved it under the other name.
            Moved::Gone | Moved::Taken => {}
        }
    }
    Ok(None)
}
