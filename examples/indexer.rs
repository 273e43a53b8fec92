//! Keeps an index of all messages of a session in a file: a line for each, with its entry, folder, sender and subject.
//!
//! ```text
//! indexer [--profile NAME] FILE
//! ```
//!
//! It registers first and reads the folders afterwards, so no change falls between the two. A change that the reading has seen already
//! comes once more as an event; events are applied so that this does no harm: a row is found by its entry, an event of a message that
//! the index does not have makes the indexer look for its row, and a message is only removed from the folder that the event names.
//!
//! Where a mailbox changes many messages at once, the store reports no single one but a `Reload` of the folder's table. Only a
//! registration on the open folder is told that, so the indexer keeps every folder open.

#[allow(dead_code)] // the other examples use the rest
mod support;

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File};
use std::io::{self, BufWriter, Write};
use std::path::Path;
use std::process::ExitCode;
use std::sync::mpsc::{self, SyncSender};

use sundown_client::{
    Code, ContentsRow, EntryId, Event, Events, Folder, FolderKind, Logon, Mapi, News, Options,
    Resource, Session, Sink, Store, TableChange,
};
use support::{Failure, at_signal, ended, seen};

/// A folder: the place of its store in the profile, and its number there.
type At = (u16, FolderKind);

enum Happened {
    /// An event of a message or a folder of this store.
    InStore(u16, News),
    Reload(At),
    OfSession(News),
    Signal,
}

/// What is read again of a folder.
enum Again {
    All,
    These(BTreeSet<EntryId>),
}

struct Index<'a> {
    happens: &'a SyncSender<Happened>,
    stores: Vec<(Store, Sink)>,
    /// The folders, with their names and those of the folders that they are in.
    folders: BTreeMap<At, (String, Folder, Sink)>,
    rows: BTreeMap<EntryId, (At, String, String)>,
    again: BTreeMap<At, Again>,
}

fn main() -> ExitCode {
    support::run("indexer", "indexer [--profile NAME] FILE", |logon, arguments| {
        match arguments.as_slice() {
            [file] => keep(logon, Path::new(file)),
            _ => Err("one file is needed".into()),
        }
    })
}

fn keep(logon: Logon, file: &Path) -> Result<(), Failure> {
    let (happens, happened) = mpsc::sync_channel(1024);
    let by_signal = happens.clone();
    at_signal(move || drop(by_signal.send(Happened::Signal)))?;
    let (mapi, session) = Mapi::initialize_and_logon(Options::new("indexer"), logon)?;
    let sender = happens.clone();
    let _sink = session.advise(Events::CRITICAL_ERROR, move |notice| {
        let _ = sender.send(Happened::OfSession(notice.news.clone()));
    })?;
    let mut index = Index::open(&session, &happens)?;
    loop {
        // What has happened is taken before anything is read, and the file is written when there is nothing to do.
        let next = match happened.try_recv() {
            Ok(next) => next,
            Err(_) => match index.catch_up().and_then(|()| {
                Ok(index.write(file).map_err(|error| format!("{}: {error}", file.display()))?)
            }) {
                Err(error) if is_end(&error) => happened.recv()?,
                done => {
                    done?;
                    happened.recv()?
                }
            },
        };
        match next {
            Happened::Signal => break,
            Happened::OfSession(News::Broker(Event::CriticalError { reason, .. })) => {
                // The library logs off by itself, because the sink has returned.
                drop(index);
                mapi.uninitialize()?;
                return ended(reason);
            }
            next => match index.take(next) {
                Err(error) if is_end(&error) => {} // the reason is the next that happens
                taken => taken?,
            },
        }
    }
    // Makes room in the channel, for which a sink may wait.
    while happened.try_recv().is_ok() {}
    mapi.shut_down()?;
    Ok(())
}

fn is_end(error: &Failure) -> bool {
    error.downcast_ref().is_some_and(support::is_end)
}

impl<'a> Index<'a> {
    /// Registers on each store, and then on each folder, whose rows are to be read.
    fn open(session: &Session, happens: &'a SyncSender<Happened>) -> Result<Self, Failure> {
        let providers = session.status_table()?.rows()?;
        let stores = providers.iter().filter(|row| row.resource == Resource::StoreProvider).count();
        let mut index = Self {
            happens,
            stores: Vec::new(),
            folders: BTreeMap::new(),
            rows: BTreeMap::new(),
            again: BTreeMap::new(),
        };
        for place in 0..stores as u16 {
            let (store, sender) = (session.store(place)?, happens.clone());
            let events = Events::OBJECT_CREATED | Events::OBJECT_MODIFIED;
            let events = events | Events::OBJECT_MOVED | Events::OBJECT_DELETED;
            let sink = store.advise(events, move |notice| {
                let _ = sender.send(Happened::InStore(place, notice.news.clone()));
            })?;
            index.stores.push((store, sink));
            index.list(place)?;
        }
        Ok(index)
    }

    /// Reads which folders a store has. Opens the new ones, and forgets those that are gone.
    fn list(&mut self, place: u16) -> Result<(), Failure> {
        let store = &self.stores[usize::from(place)].0;
        let listed: BTreeMap<_, _> = store.folders()?.into_iter().map(|f| (f.folder, f)).collect();
        self.folders.retain(|at, _| at.0 != place || listed.contains_key(&at.1));
        self.rows.retain(|_, (at, ..)| at.0 != place || listed.contains_key(&at.1));
        for row in listed.values() {
            let (at, mut name, mut parent) = ((place, row.folder), row.name.clone(), row.parent);
            while let Some(row) = parent.and_then(|parent| listed.get(&parent)) {
                name = format!("{}/{name}", row.name);
                parent = row.parent;
            }
            if let Some(known) = self.folders.get_mut(&at) {
                known.0 = name;
                continue;
            }
            let folder = match store.folder(row.folder) {
                // It was removed meanwhile, which is the next that happens.
                Err(error) if error.code() == Code::E_NOT_FOUND => continue,
                folder => folder?,
            };
            let sender = self.happens.clone();
            let sink = folder.advise(Events::TABLE_MODIFIED, move |notice| {
                if let News::Broker(Event::Table { change: TableChange::Reload, .. }) = notice.news
                {
                    let _ = sender.send(Happened::Reload(at));
                }
            })?;
            self.folders.insert(at, (name, folder, sink));
            self.again.insert(at, Again::All);
        }
        Ok(())
    }

    fn take(&mut self, happened: Happened) -> Result<(), Failure> {
        match happened {
            Happened::InStore(place, News::Broker(event)) => match event {
                Event::Created(to) | Event::Modified(to) | Event::Moved(to, _) => {
                    match self.rows.get_mut(&to.entry) {
                        Some(row) => row.0 = (place, to.folder),
                        None => self.look_for(to.entry, (place, to.folder)),
                    }
                }
                Event::Deleted(from) => {
                    let is_there = |row: &(At, _, _)| row.0 == (place, from.folder);
                    if self.rows.get(&from.entry).is_some_and(is_there) {
                        self.rows.remove(&from.entry);
                    }
                }
                Event::Folder { .. } => self.list(place)?,
                _ => {}
            },
            Happened::Reload(at) => drop(self.again.insert(at, Again::All)),
            // Some of what happened was not told: everything is compared.
            Happened::OfSession(News::Reconnected { .. } | News::Broker(Event::Lagged { .. })) => {
                for place in 0..self.stores.len() as u16 {
                    self.list(place)?;
                }
                self.again.extend(self.folders.keys().map(|at| (*at, Again::All)));
            }
            _ => {}
        }
        Ok(())
    }

    fn look_for(&mut self, entry: EntryId, at: At) {
        if let Again::These(entries) = self.again.entry(at).or_insert(Again::These([].into())) {
            entries.insert(entry);
        }
    }

    /// Reads what is to be read again, a folder at a time.
    fn catch_up(&mut self) -> Result<(), Failure> {
        while let Some((at, mut again)) = self.again.pop_first() {
            let Some((_, folder, _)) = self.folders.get(&at) else { continue };
            let mut there = BTreeSet::new();
            // The newest come first, so that a message that has just come is found at once.
            for row in folder.contents() {
                let ContentsRow { entry, from, subject, .. } = match row {
                    Err(error) if error.code() == Code::E_NOT_FOUND => break, // the folder was removed
                    row => row?,
                };
                let wanted = match &mut again {
                    Again::All => there.insert(entry),
                    Again::These(entries) => entries.remove(&entry),
                };
                if wanted {
                    self.rows.insert(entry, (at, from, subject));
                }
                if matches!(&again, Again::These(entries) if entries.is_empty()) {
                    break;
                }
            }
            if matches!(again, Again::All) {
                self.rows.retain(|entry, row| row.0 != at || there.contains(entry));
            }
        }
        Ok(())
    }

    /// Writes the file anew, beside the old one, and puts it in its place.
    fn write(&self, file: &Path) -> io::Result<()> {
        let mut new = file.as_os_str().to_owned();
        new.push(".new");
        let mut out = BufWriter::new(File::create(&new)?);
        for (entry, (at, from, subject)) in &self.rows {
            let folder = self.folders.get(at).map_or("?", |folder| folder.0.as_str());
            writeln!(out, "{entry}\t{}\t{}\t{}", seen(folder), seen(from), seen(subject))?;
        }
        out.into_inner()?.sync_all()?;
        fs::rename(&new, file)?;
        writeln!(io::stdout(), "{} messages", self.rows.len())
    }
}
