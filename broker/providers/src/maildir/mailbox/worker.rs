//! The thread of a mailbox: it watches a Maildir, carries out what is pending, and tries again later what fails.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use sundown_core::address::Pattern;
use sundown_core::provider::{ChangedFolder, MailboxReport, MirrorChange, ProviderError};
use sundown_protocol::Code;

use super::folders::{Dir, Root};
use super::pass::{Memory, Pass};
use super::pending::Carrier;
use super::shelf::{Shelf, Shown};
use super::watch::{Changed, Names, Seen, Watcher};
use super::{directory_id, tree};
use crate::files::FileId;
use crate::mailbox::{
    Answered, Book, Halt, Leave, Order, Orders, Standing, Waiting, Work, answer, answer_with,
    milliseconds, now,
};
use crate::{MailboxSupport, fault};

/// How soon a Maildir is tried again that cannot be used.
const RETRY: Duration = Duration::from_secs(10);

/// How soon changes are tried again that could not be carried out.
const RETRY_CHANGES: Duration = Duration::from_secs(60);

/// What a mailbox is configured to do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Settings {
    pub(super) path: PathBuf,
    pub(super) shown: Shown,
    pub(super) own: Vec<Pattern>,
}

/// The thread of a mailbox.
pub(super) struct Worker {
    pub(super) settings: Settings,
    pub(super) support: Arc<dyn MailboxSupport>,
    pub(super) orders: Arc<Orders>,
    /// The directory that was watched since the logon.
    pub(super) home: Option<Home>,
}

/// Which directory a Maildir is: another one at its path is not the same Maildir, unless it has the same id.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Home {
    file: FileId,
    id: Option<String>,
}

impl Work for Settings {
    const THREAD: &'static str = "maildir";

    fn work(self, support: Arc<dyn MailboxSupport>, orders: Arc<Orders>) {
        Worker { settings: self, support, orders, home: None }.run();
    }
}

impl Worker {
    /// Works until the mailbox is logged off.
    pub(super) fn run(mut self) {
        while let Some(order) = self.orders.next() {
            match order {
                Order::Watch(store, leave) => self.watch(store, &leave),
                Order::CarryOut(store, leave, changed) => self.carry_out(store, &leave, changed),
                Order::Look(_, mut looks) => answer(&mut looks, &self.try_out()),
            }
        }
    }

    /// Whether the Maildir can be used, while nothing else is done.
    pub(super) fn try_out(&mut self) -> Result<(), ProviderError> {
        let root = self.open()?;
        let folders = root.folders().map_err(|error| fault::io(&self.settings.path, &error))?;
        for found in folders.found {
            let folder = root.folder(&found.dir);
            let read = folder.and_then(|folder| super::scan::Listing::read(&folder));
            read.map_err(|error| fault::io(&root.path_of(&found.dir), &error))?;
        }
        Ok(())
    }

    /// Carries out what is pending, and nothing else.
    fn carry_out(&mut self, store: u32, leave: &Leave, mut changed: Vec<Answered>) {
        let mut memory = None;
        let carried = self.open().map_err(Halt::Failed).and_then(|root| {
            let book = Book::open(&self.support, store, &self.settings.path, leave.clone())?;
            Watch::begin(&self.settings, root, book, &mut memory)?.carry_out()
        });
        match carried {
            // It is to watch again, and does it then.
            Err(Halt::Told) => self.orders.put_back(Waiting { changed, ..Waiting::default() }),
            Ok(None) => answer(&mut changed, &Ok(())),
            Ok(Some(error)) | Err(Halt::Failed(error) | Halt::Refused(error)) => {
                answer(&mut changed, &Err(error));
            }
            Err(Halt::Lost(standing)) => {
                answer(&mut changed, &Err(lost(&self.settings.path, standing)));
            }
        }
    }

    /// Opens the Maildir.
    fn open(&mut self) -> Result<Root, ProviderError> {
        let path = &self.settings.path;
        let root = Root::open(path).map_err(|error| fault::io(path, &error))?;
        if !root.is_maildir().map_err(|error| fault::io(path, &error))? {
            let text = format!(
                "{}: it is no Maildir, because it has neither \"cur\" nor \"new\"; check the path, and whether its file system is mounted",
                path.display()
            );
            return Err(ProviderError::new(Code::E_DISK_ERROR, text));
        }
        let file = FileId::of(root.fd()).map_err(|error| fault::io(path, &error))?;
        let home = Home { file, id: directory_id(path).ok() };
        match &self.home {
            Some(known)
                if known.file != home.file && (known.id.is_none() || known.id != home.id) =>
            {
                let text = format!(
                    "{}: another directory is in the place of the Maildir; put the Maildir back, or log on anew to use this one",
                    path.display()
                );
                Err(ProviderError::new(Code::E_DISK_ERROR, text))
            }
            _ => {
                self.home = Some(home);
                Ok(root)
            }
        }
    }

    /// Watches, and tries again what fails, until the mailbox is to do something else.
    fn watch(&mut self, store: u32, leave: &Leave) {
        let mut memory = None;
        let mut said = None;
        let (mut held, mut was_lost) = (Waiting::default(), false);
        while leave.go_on().is_ok() {
            let error = match self.attempt((store, leave), &mut memory, &mut said, &mut held) {
                Halt::Told => {
                    break;
                }
                // It may be there again, or another one that is the same Maildir.
                Halt::Lost(_) if !was_lost => {
                    was_lost = true;
                    self.orders.wake_by(None);
                    continue;
                }
                Halt::Lost(standing) => lost(&self.settings.path, standing),
                Halt::Failed(error) | Halt::Refused(error) => error,
            };
            was_lost = false;
            self.orders.wake_by(None);
            self.orders.take_waiting(&mut held);
            self.say(&mut said, Err(error.clone()));
            held.answer(&Err(error));
            self.orders.pause(RETRY, leave);
        }
        self.orders.wake_by(None);
        self.orders.put_back(held);
    }

    /// Says how the mailbox is, if that is another thing than before.
    fn say(&self, said: &mut Option<Result<(), ProviderError>>, now: Result<(), ProviderError>) {
        if said.as_ref() != Some(&now) {
            self.support.say(now.clone());
            *said = Some(now);
        }
    }

    fn attempt(
        &mut self,
        (store, leave): (u32, &Leave),
        memory: &mut Option<Memory>,
        said: &mut Option<Result<(), ProviderError>>,
        held: &mut Waiting,
    ) -> Halt {
        match self.attempt_or((store, leave), memory, said, held) {
            Ok(never) => match never {},
            Err(halt) => halt,
        }
    }

    fn attempt_or(
        &mut self,
        (store, leave): (u32, &Leave),
        memory: &mut Option<Memory>,
        said: &mut Option<Result<(), ProviderError>>,
        held: &mut Waiting,
    ) -> Result<std::convert::Infallible, Halt> {
        let root = self.open()?;
        let book = Book::open(&self.support, store, &self.settings.path, leave.clone())?;
        let mut watch = Watch::begin(&self.settings, root, book, memory)?;
        self.orders.wake_by(Some(watch.watcher.waker()));
        let mut retry = None;
        let mut first = true;
        loop {
            leave.go_on()?;
            self.orders.take_waiting(held);
            let is_look = first || !held.looks.is_empty();
            let is_due = retry.is_some_and(|at| Instant::now() >= at);
            if is_look || is_due || !held.changed.is_empty() {
                let failed = watch.carry_out()?;
                retry = failed.as_ref().map(|_| Instant::now() + RETRY_CHANGES);
                let outcome = failed.map_or(Ok(()), Err);
                answer(&mut held.changed, &outcome);
                if is_look {
                    watch.everything()?;
                }
                self.say(said, outcome);
                if !held.looks.is_empty() {
                    let found = watch.book.take_found()?;
                    answer_with(&mut held.looks, &Ok(Some(found)));
                }
                let pending = watch.book.tally()?.pending;
                let (checked, changed) = (Some(now()), watch.book.changed.map(milliseconds));
                let report =
                    MailboxReport { pending, checked, changed, ..MailboxReport::default() };
                self.support.report(report);
            }
            first = false;
            let most = retry.map(|at: Instant| at.saturating_duration_since(Instant::now()));
            let seen = watch.wait(most)?;
            watch.handle(seen)?;
        }
    }
}

/// What is said of a Maildir that is not at its path.
fn lost(path: &std::path::Path, standing: Standing) -> ProviderError {
    let what = match standing {
        Standing::Replaced => {
            "another directory is in the place of the Maildir, or its file system was unmounted"
        }
        Standing::Removed | Standing::There => "the Maildir was removed or renamed",
    };
    let text = format!(
        "{}: {what}; its messages stay in the store as they were, put the Maildir back",
        path.display()
    );
    ProviderError::new(Code::E_DISK_ERROR, text)
}

/// Which folders are removed that were removed in the store.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Removal {
    /// Those without messages. The others may be waiting for their messages to be moved out.
    OfEmpty,
    /// All. One with messages stays, and is a folder again.
    OfAny,
}

/// A Maildir that is watched.
pub(super) struct Watch<'a> {
    root: Root,
    watcher: Watcher,
    book: Book,
    memory: &'a mut Memory,
    shelf: Shelf,
}

impl<'a> Watch<'a> {
    /// Begins to watch. What was changed before is seen by [`everything`](Self::everything).
    pub(super) fn begin(
        settings: &Settings,
        root: Root,
        mut book: Book,
        memory: &'a mut Option<Memory>,
    ) -> Result<Self, Halt> {
        let watcher = Watcher::new(&root).map_err(|error| Halt::at(root.path(), &error))?;
        if memory.is_none() {
            let made = Memory::new(settings.own.clone());
            *memory = Some(made.map_err(|error| Halt::at(root.path(), &error))?);
        }
        let memory = memory.as_mut().expect("it was made just before");
        if let Err(error) = tree::finish_removals(&root) {
            let path = root.path().display();
            tracing::warn!(%path, %error, "a removal of a folder that was cut off is not finished");
        }
        if book.has_passed()? {
            memory.store_knows();
        }
        let shelf = Shelf::new(settings.shown);
        Ok(Self { root, watcher, book, memory, shelf })
    }

    /// Carries out what is pending in the store. The first error of a change that could not be carried out.
    pub(super) fn carry_out(&mut self) -> Result<Option<ProviderError>, Halt> {
        // First of all: a folder that was being renamed when the mailbox was cut off is half in either place.
        let refolded = self.change_folders(Removal::OfEmpty)?;
        if self.shelf.dirs().is_empty() {
            self.look_at_folders()?;
        }
        let Self { root, book, shelf, .. } = self;
        let failed = Carrier { root, book, shelf }.carry_out()?;
        // What was in the way of a removal has been moved out, or stays there.
        let removed = self.change_folders(Removal::OfAny)?;
        Ok(refolded.or(failed).or(removed))
    }

    /// Renames and removes the directories of folders that have another name in the store, or were removed there. One that cannot be,
    /// because of what is in the Maildir, keeps its name, and the folder has that name again; where the system fails it is tried again.
    /// The first error.
    fn change_folders(&mut self, removal: Removal) -> Result<Option<ProviderError>, Halt> {
        let (mut failed, mut some) = (None, false);
        let mut later = BTreeSet::new();
        loop {
            let mut changed = self.book.changed_folders()?;
            changed.retain(|folder| !later.contains(&folder.dir));
            if changed.is_empty() {
                break;
            }
            some = true;
            for ChangedFolder { dir: text, wanted } in changed {
                self.book.go_on()?;
                let name = wanted.as_ref().map(|path| path.last().cloned().unwrap_or_default());
                let done = Dir::parse(&text).map(|dir| match &wanted {
                    Some(path) => tree::rename(&self.root, &dir, path).map(|to| {
                        let name = name.clone().unwrap_or_default();
                        MirrorChange::FolderMoved { from: text.clone(), to: to.text(), name }
                    }),
                    None => tree::remove(&self.root, &dir)
                        .map(|_| MirrorChange::FolderGone { dir: text.clone() }),
                });
                let change = match done {
                    Some(Ok(change)) => change,
                    // Another program has removed it.
                    Some(Err(tree::TreeError::Missing(_))) => {
                        MirrorChange::FolderKept { dir: text, name }
                    }
                    Some(Err(tree::TreeError::NotEmpty(..))) if removal == Removal::OfEmpty => {
                        later.insert(text);
                        continue;
                    }
                    // Nothing is looked at before the rest is renamed as well.
                    Some(Err(tree::TreeError::Half(error))) => {
                        return Err(Halt::at(&self.root.path().join(&text), &error));
                    }
                    Some(Err(tree::TreeError::Io(error))) => {
                        let path = self.root.path().display();
                        tracing::warn!(%path, dir = text, %error, "a folder is not renamed or removed in the Maildir yet");
                        let said =
                            format!("the folder {text} is not as in the session yet: {error}");
                        failed.get_or_insert(ProviderError::new(fault::words(&error).0, said));
                        later.insert(text);
                        continue;
                    }
                    Some(Err(error)) => {
                        let path = self.root.path().display();
                        tracing::warn!(%path, dir = text, %error, "a folder stays as it is in the Maildir");
                        let said = format!("the folder {text} stays as it is: {error}");
                        failed.get_or_insert(ProviderError::new(Code::E_NO_ACCESS, said));
                        MirrorChange::FolderKept { dir: text, name }
                    }
                    None => MirrorChange::FolderKept { dir: text, name },
                };
                self.book.say_all(vec![change])?;
                self.book.write()?;
            }
        }
        if some {
            self.shelf.forget();
            self.look_at_folders()?;
        }
        Ok(failed)
    }

    /// Looks at all folders and messages, also at those that the store has and the Maildir has not.
    pub(super) fn everything(&mut self) -> Result<(), Halt> {
        self.look_at_folders()?;
        let known = self.book.dirs()?;
        let known = known.iter().filter_map(|dir| Dir::parse(dir));
        let gone: BTreeSet<Dir> = known.filter(|dir| !self.shelf.has(dir)).collect();
        let mut dirs = self.shelf.dirs();
        dirs.extend(gone.iter().cloned());
        self.pass(&gone).over(&dirs)?;
        self.say_gone(gone)?;
        self.book.say(MirrorChange::Passed)?;
        self.book.write()
    }

    /// Lists the folders and watches them. Those that are watched from now on, and those that are gone.
    fn look_at_folders(&mut self) -> Result<(Vec<Dir>, Vec<Dir>), Halt> {
        let gone = self.shelf.look(&self.root, &mut self.book)?;
        let fresh = self.watcher.watch(&self.root, &self.shelf.dirs());
        Ok((fresh, gone))
    }

    fn pass<'p>(&'p mut self, gone: &'p BTreeSet<Dir>) -> Pass<'p> {
        Pass { root: &self.root, book: &mut self.book, memory: self.memory, gone }
    }

    fn say_gone(&mut self, gone: BTreeSet<Dir>) -> Result<(), Halt> {
        for dir in gone.into_iter().rev() {
            self.book.say(MirrorChange::FolderGone { dir: dir.text() })?;
        }
        self.book.write()
    }

    /// Waits until something may have changed, but no longer than a time.
    pub(super) fn wait(&mut self, most: Option<Duration>) -> Result<Seen, Halt> {
        self.watcher.wait(&self.root, most).map_err(|error| Halt::at(self.root.path(), &error))
    }

    /// What may have changed by now.
    #[cfg(test)]
    pub(super) fn look(&mut self) -> Result<Seen, Halt> {
        self.watcher
            .look(&self.root, Instant::now())
            .map_err(|error| Halt::at(self.root.path(), &error))
    }

    /// Looks at what may have changed.
    pub(super) fn handle(&mut self, mut seen: Seen) -> Result<(), Halt> {
        if seen.is_quiet() {
            return Ok(());
        }
        // The kernel tells of a move in two parts.
        let more = self.watcher.look(&self.root, Instant::now());
        seen.merge(more.map_err(|error| Halt::at(self.root.path(), &error))?);
        if let Some(standing) = seen.lost {
            return Err(Halt::Lost(standing));
        }
        if seen.everything {
            return self.everything();
        }
        let (mut whole, mut gone) = (BTreeSet::new(), BTreeSet::new());
        if seen.folders {
            let (fresh, lost) = self.look_at_folders()?;
            whole.extend(fresh);
            gone.extend(lost);
        }
        let mut names: BTreeMap<Dir, Names> = BTreeMap::new();
        for (dir, changed) in seen.changed {
            match changed {
                // Of a folder that is gone or not shown.
                _ if !self.shelf.has(&dir) => {}
                Changed::All => _ = whole.insert(dir),
                Changed::Names(changed) => _ = names.insert(dir, changed),
            }
        }
        if whole.is_empty() && gone.is_empty() {
            return self.pass(&gone).names(names);
        }
        let dirs: BTreeSet<Dir> =
            whole.into_iter().chain(names.into_keys()).chain(gone.iter().cloned()).collect();
        self.pass(&gone).over(&dirs.into_iter().collect::<Vec<_>>())?;
        self.say_gone(gone)
    }
}
