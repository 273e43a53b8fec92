//! Carrying out in the Maildir what programs have changed in the store.
//!
//! The store says how a message is to be, and where it lies. Whatever a crash has left half-way, the same steps lead there: each looks for
//! what it would make before it makes it.

use std::collections::HashSet;
use std::io;

use sundown_core::provider::{Heading, MirrorChange, Pending, ProviderError, Spot, Wanted};
use sundown_protocol::Code;
use sundown_protocol::folder::{Marks, Role};

use super::act::{self, At, Flagged, Moved, Try};
use super::folders::{Dir, Folder, Root, Sub};
use super::marks::{self, spot};
use super::names::{self, Base, Flags};
use super::shelf::{MakeError, Shelf};
use super::tree::TreeError;
use crate::fault;
use crate::mailbox::{Book, Halt, Standing};

/// Stands for the Maildir's own `tmp` in a spot: a copy that is not in a folder yet.
const TMP: &str = "tmp";

/// How many names are tried for a message in a folder whose other messages have its own.
const NAMES: u64 = 3;

/// How often it is looked whether carrying out changes has made others pending. Programs' own changes are told anyway.
const ROUNDS: usize = 3;

/// Carries out what is pending.
pub(super) struct Carrier<'a> {
    pub(super) root: &'a Root,
    pub(super) book: &'a mut Book,
    pub(super) shelf: &'a mut Shelf,
}

/// What is to be done with one message.
struct Plan<'p> {
    pending: &'p Pending,
    lies: Lies,
    /// Where it is to lie, and with which flags; nothing if it is to be removed.
    to: Option<(&'p Wanted, Dir, Flags)>,
}

/// What could not be carried out.
#[derive(Default)]
struct Failed {
    records: HashSet<u128>,
    first: Option<ProviderError>,
}

impl Failed {
    /// Notes that a change was not carried out.
    fn note(&mut self, root: &Root, record: u128, failure: Failure) -> Result<(), Halt> {
        let error = match failure {
            Failure::Halt(halt) => return Err(halt),
            Failure::This(error) => error,
        };
        let (path, hex) = (root.path().display(), format!("{record:032x}"));
        tracing::warn!(%path, record = %hex, %error, "a change is not made in the Maildir yet");
        self.records.insert(record);
        self.first.get_or_insert(error);
        Ok(())
    }
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
    /// In a folder, under this base name; with the flags last seen, which the file may have no more.
    In(Dir, Base, Flags),
}

impl Lies {
    fn of(pending: &Pending) -> Option<Self> {
        let Some(Spot { dir, name }) = &pending.spot else { return Some(Self::Nowhere) };
        let base = names::unescape(name).filter(|base| names::is_base(base))?;
        if dir == TMP {
            Some(Self::Staged(base))
        } else {
            Some(Self::In(Dir::parse(dir)?, base, marks::flags(pending.seen)))
        }
    }
}

impl Carrier<'_> {
    /// Carries out everything, and what has become pending by that: another program's flags can cross with ours. A change that fails
    /// leaves the others alone, and stays pending: the first error.
    pub(super) fn carry_out(&mut self) -> Result<Option<ProviderError>, Halt> {
        let mut failed = Failed::default();
        for _ in 0..ROUNDS {
            if !self.carry_out_once(&mut failed)? {
                break;
            }
        }
        Ok(failed.first)
    }

    /// Carries out what is pending, but for what has failed before. Whether anything was carried out.
    fn carry_out_once(&mut self, failed: &mut Failed) -> Result<bool, Halt> {
        let (mut after, mut any) = (0, false);
        loop {
            let (rows, next) = self.book.pending(after)?;
            let mut plans = Vec::new();
            for row in &rows {
                if failed.records.contains(&row.record) {
                    continue;
                }
                self.may_go_on()?;
                match self.plan(row) {
                    Ok(plan) => plans.push(plan),
                    Err(failure) => failed.note(self.root, row.record, failure)?,
                }
            }
            // Who reads a message while it is moved, and who goes on after a crash, looks where it was to be.
            self.book.write()?;
            for plan in plans {
                self.may_go_on()?;
                match self.one(&plan) {
                    Ok(changes) => {
                        any = true;
                        self.book.say_all(changes)?;
                    }
                    Err(failure) => failed.note(self.root, plan.pending.record, failure)?,
                }
            }
            self.book.write()?;
            match next {
                Some(next) => after = next,
                None => return Ok(any),
            }
        }
    }

    fn may_go_on(&self) -> Result<(), Halt> {
        self.book.go_on()?;
        match self.root.standing() {
            Standing::There => Ok(()),
            lost => Err(Halt::Lost(lost)),
        }
    }

    /// Finds out where a message lies and is to lie. The store is told of both, unless an earlier try has done so.
    fn plan<'p>(&mut self, pending: &'p Pending) -> Result<Plan<'p>, Failure> {
        let Some(lies) = Lies::of(pending) else {
            let text = "the store names a place that no Maildir has";
            return Err(Failure::This(ProviderError::new(Code::E_CORRUPT_STORE, text)));
        };
        let lies = self.found_again(lies, pending)?;
        let Some(wanted) = &pending.wanted else { return Ok(Plan { pending, lies, to: None }) };
        let (dir, flags) = self.target(&lies, wanted, pending.seen)?;
        let from = match &lies {
            Lies::In(there, base, seen) => Some((spot(there, base), marks::marks(*seen))),
            Lies::Staged(_) | Lies::Nowhere => None,
        };
        let to = Heading { dir: dir.text(), marks: marks::marks(flags), beyond: None };
        let as_known = from.as_ref().is_none_or(|(spot, marks)| {
            (Some(spot), *marks) == (pending.spot.as_ref(), pending.seen)
        });
        if !as_known || pending.heading.as_ref() != Some(&to) {
            self.book.say(MirrorChange::Leaves { record: pending.record, from, to })?;
        }
        Ok(Plan { pending, lies, to: Some((wanted, dir, flags)) })
    }

    fn one(&mut self, plan: &Plan<'_>) -> Result<Vec<MirrorChange>, Failure> {
        let mut changes = Vec::new();
        let Plan { pending, lies, to } = plan;
        let record = pending.record;
        let Some((wanted, dir, flags)) = to else {
            self.remove(lies)?;
            let marks = marks::marks(Flags::NONE);
            return Ok(vec![MirrorChange::Done { record, spot: None, marks, wanted: None }]);
        };
        let (dir, flags) = (dir.clone(), *flags);
        // Only what was tried before can have been done already.
        let attempt = if pending.heading.is_some() { Try::Again } else { Try::First };
        let folder = self.folder(&dir)?;
        let own = names::of_record(record, pending.received / 1000);
        let done = match lies {
            Lies::Nowhere => {
                let message = match self.book.open_message(record) {
                    // It was deleted for good meanwhile.
                    Err(gone) if gone.code == Code::E_NOT_FOUND => return Ok(changes),
                    message => message.map_err(Failure::This)?,
                };
                let to = (&folder, &*own);
                let at = act::import(to, message, flags, pending.received, attempt)?;
                Some((own, at))
            }
            Lies::Staged(name) => {
                let root = self.root.folder(&Dir::ROOT)?;
                let placed = act::place((&root, name), (&folder, &own), flags, attempt)?;
                placed.map(|at| (own, at))
            }
            Lies::In(there, base, seen) => {
                let seen = *seen;
                // What was changed here is changed there; what else has changed there stays.
                let change = |now: Flags| now.taking(flags, seen.differing(flags));
                let moved = if *there == dir {
                    let flagged = act::set_flags(&folder, base, seen, change)?;
                    flagged.map(|flagged| (base.clone(), flagged.at, Some(flagged.before)))
                } else {
                    let source = self.folder(there)?;
                    let from = (&source, &base[..], seen);
                    self.move_under_a_name(from, (&dir, &folder), pending, change, attempt)?
                };
                moved.map(|(name, at, before)| {
                    // Seen only now: the store is told of it first.
                    if let Some(before) = before.filter(|before| *before != seen) {
                        let (spot, marks) = (spot(there, base), marks::marks(before));
                        changes.push(MirrorChange::Marked { spot, marks });
                    }
                    (name, at)
                })
            }
        };
        changes.push(match (done, &pending.spot) {
            (Some((base, at)), _) => {
                let spot = Some(spot(&dir, &base));
                let marks = marks::marks(at.flags());
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

    /// Moves a message under the first name that no other message has in that folder: its own, or one that it gets.
    fn move_under_a_name(
        &mut self,
        from: (&Folder, &[u8], Flags),
        (dir, folder): (&Dir, &Folder),
        pending: &Pending,
        change: impl Fn(Flags) -> Flags,
        attempt: Try,
    ) -> Result<Option<Lying>, Failure> {
        let seconds = pending.received / 1000;
        let given = (0..NAMES).map(|n| names::of_record(pending.record, seconds + n));
        let mut is_gone = false;
        for base in std::iter::once(from.1.to_owned()).chain(given) {
            if self.book.marks_of(&dir.text(), &names::escape(&base)).map_err(Halt::from)?.is_some()
            {
                continue;
            }
            match act::move_to(from, (folder, &base), &change, attempt)? {
                Moved::Done(Flagged { at, before }) => return Ok(Some((base, at, Some(before)))),
                Moved::Before(at) => return Ok(Some((base, at, None))),
                // An earlier try may have moved it under another name.
                Moved::Gone => is_gone = true,
                Moved::Taken => {}
            }
        }
        if is_gone {
            return Ok(None);
        }
        let text = format!("other messages in {dir} have all names that this one could have there");
        Err(Failure::This(ProviderError::new(Code::E_COLLISION, text)))
    }

    /// Where a message is that is not as it was: a try that was cut off may have moved or marked it, and not have said so.
    fn found_again(&mut self, lies: Lies, pending: &Pending) -> Result<Lies, Failure> {
        let Some(heading) = &pending.heading else { return Ok(lies) };
        let own = names::of_record(pending.record, pending.received / 1000);
        let (seen, planned) = (marks::flags(pending.seen), marks::flags(heading.marks));
        // A flag that is as it was to become was made so by that try.
        let seen_now = |at: &At| planned.taking(seen, planned.differing(at.flags()));
        let bases = match &lies {
            Lies::Staged(name) if act::is_staged(&self.root.folder(&Dir::ROOT)?, name)? => {
                return Ok(lies);
            }
            Lies::Nowhere | Lies::Staged(_) => vec![own],
            Lies::In(dir, base, _) => match self.look(dir, base, seen)? {
                Some(at) => return Ok(Lies::In(dir.clone(), base.clone(), seen_now(&at))),
                None => vec![base.clone(), own],
            },
        };
        let Some(dir) = Dir::parse(&heading.dir) else { return Ok(lies) };
        for base in bases {
            // Another message can have the same name there.
            let known =
                self.book.marks_of(&dir.text(), &names::escape(&base)).map_err(Halt::from)?;
            if known.is_none()
                && let Some(at) = self.look(&dir, &base, planned)?
            {
                return Ok(Lies::In(dir, base, seen_now(&at)));
            }
        }
        Ok(lies)
    }

    /// The file of a message, if it is in that folder.
    fn look(&self, dir: &Dir, base: &[u8], hint: Flags) -> Result<Option<At>, Failure> {
        match self.root.folder(dir) {
            Ok(folder) => Ok(act::locate(&folder, base, hint)?),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    /// Whether a folder is there and lacks the directory in which its messages are: they have not vanished.
    fn lacks_cur(&self, spot: &Spot) -> Result<bool, Failure> {
        let Some(dir) = Dir::parse(&spot.dir).filter(|_| spot.dir != TMP) else { return Ok(false) };
        match self.root.folder(&dir) {
            Ok(folder) => Ok(folder.sub(Sub::Cur)?.is_none()),
            Err(_) => Ok(false),
        }
    }

    fn remove(&mut self, lies: &Lies) -> Result<(), Failure> {
        match lies {
            Lies::Nowhere => {}
            Lies::Staged(name) => {
                act::unstage(&self.root.folder(&Dir::ROOT)?, name)?;
            }
            Lies::In(dir, base, seen) => match self.root.folder(dir) {
                Ok(folder) => _ = act::remove(&folder, base, *seen)?,
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) => return Err(error.into()),
            },
        }
        Ok(())
    }

    /// Where a message is to lie, and with which flags. What is marked as deleted is in Deleted, and nothing else is, but for a folder of
    /// deleted messages; so without one, a message that programs move there stays where it lies and gets the mark. A program may also set
    /// or remove the mark itself, and moves the message by that. `known` are the marks of the file that the store knows of.
    fn target(
        &mut self,
        lies: &Lies,
        wanted: &Wanted,
        known: Marks,
    ) -> Result<(Dir, Flags), Failure> {
        let flags = marks::flags(wanted.marks);
        let there = match lies {
            Lies::In(dir, _, seen) => Some((dir, seen.contains(Flags::TRASHED))),
            Lies::Nowhere | Lies::Staged(_) => None,
        };
        let was_marked = known.contains(Marks::DELETED) || there.is_some_and(|(_, marked)| marked);
        let marks = flags.contains(Flags::TRASHED);
        let bound = wanted.dir.as_deref().and_then(Dir::parse);
        if wanted.role == Some(Role::Deleted) {
            return Ok(match (there, bound) {
                (Some((dir, true)), _) if known.contains(Marks::DELETED) => (dir.clone(), flags),
                (_, Some(trash)) => (trash, flags),
                (Some((dir, _)), None) => (dir.clone(), flags.with(Flags::TRASHED)),
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
