//! Copies every message of every folder into a directory, one file for each. Run again, it copies what is new, and removes nothing.
//!
//! ```text
//! backup [--profile NAME] DIRECTORY
//! ```
//!
//! A message is `DIRECTORY/STORE/FOLDER/…/ENTRY.eml`. Its entry stays the same when it is moved or flagged, so a message that has a file
//! anywhere is not copied again. A file gets its name when all of it is on the disk: after a crash there is no half of a message under
//! that name, and the next run goes on where this one was.
//!
//! SIGINT, SIGTERM and the end of the session interrupt the call that is under way; the backup then leaves, and says that it is incomplete.

#[allow(dead_code)] // the other examples use the rest
mod support;

use std::collections::{BTreeMap, HashSet};
use std::fs::{self, File};
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::{Duration, UNIX_EPOCH};

use rustix::fs::{FlockOperation, flock};
use sundown_client::{
    Code, ContentsRow, EntryId, Event, Events, FolderKind, FolderRow, Interrupt, Logon, Mapi, News,
    OnEndOfSession, Options, Resource, Session,
};
use support::{Failure, at_signal};

/// What became of the messages.
#[derive(Default)]
struct Counts {
    copied: u64,
    had: u64,
    /// Messages and stores that could not be read.
    failed: u64,
}

fn main() -> ExitCode {
    support::run("backup", "backup [--profile NAME] DIRECTORY", |logon, arguments| match arguments
        .as_slice()
    {
        [directory] => back_up(logon, Path::new(directory)),
        _ => Err("one directory is needed".into()),
    })
}

fn back_up(logon: Logon, directory: &Path) -> Result<(), Failure> {
    let named = |error| format!("{}: {error}", directory.display());
    fs::create_dir_all(directory).map_err(named)?;
    let lock = File::create(directory.join(".lock")).map_err(named)?;
    flock(&lock, FlockOperation::NonBlockingLockExclusive)
        .map_err(|_| format!("another backup into {} is running", directory.display()))?;
    let mut have = HashSet::new();
    find_copies(directory, &mut have).map_err(named)?;

    let interrupt = Interrupt::new();
    let by_signal = interrupt.clone();
    at_signal(move || by_signal.interrupt())?;
    // The library would log off as soon as the sink returns, in the middle of a message. The backup leaves by itself instead.
    let logon = logon.on_end_of_session(OnEndOfSession::Stay);
    let (mapi, session) = Mapi::initialize_and_logon(Options::new("backup"), logon)?;
    let by_end = interrupt.clone();
    let sink = session.advise(Events::CRITICAL_ERROR, move |notice| {
        if let News::Broker(Event::CriticalError { reason, .. }) = &notice.news {
            eprintln!("backup: the session ends: {}", reason.name());
            by_end.interrupt();
        }
    })?;
    let mut counts = Counts::default();
    let done = interrupt.during(|| copy_stores(&session, directory, &mut have, &mut counts));
    let Counts { copied, had, failed } = counts;
    println!("{copied} copied, {had} were there, {failed} could not be read");
    drop(sink);
    mapi.shut_down()?;
    match done {
        Err(error) => Err(format!("incomplete: {error}").into()),
        Ok(()) if failed > 0 => {
            Err("incomplete: some mail could not be read; run it again when that is mended".into())
        }
        Ok(()) => Ok(()),
    }
}

/// Collects the entries that have a file in this directory or below.
fn find_copies(directory: &Path, have: &mut HashSet<EntryId>) -> io::Result<()> {
    for found in fs::read_dir(directory)? {
        let found = found?;
        if found.file_type()?.is_dir() {
            find_copies(&found.path(), have)?;
        } else if let Some(name) = found.file_name().to_str().and_then(|n| n.strip_suffix(".eml")) {
            have.extend(name.parse::<EntryId>());
        }
    }
    Ok(())
}

fn copy_stores(
    session: &Session,
    directory: &Path,
    have: &mut HashSet<EntryId>,
    counts: &mut Counts,
) -> Result<(), Failure> {
    let rows = session.status_table()?.rows()?;
    let stores = rows.into_iter().filter(|row| row.resource == Resource::StoreProvider);
    for (place, row) in stores.enumerate() {
        let store = match session.store(place as u16) {
            Err(error) if error.code() == Code::E_NOT_FOUND => {
                eprintln!("backup: store {}: {error}", row.name);
                counts.failed += 1;
                continue;
            }
            store => store?,
        };
        let folders: BTreeMap<_, _> = store.folders()?.into_iter().map(|f| (f.folder, f)).collect();
        for kind in folders.keys() {
            let into = directory.join(file_name(&row.name)).join(path_of(*kind, &folders));
            let folder = match store.folder(*kind) {
                Err(error) if error.code() == Code::E_NOT_FOUND => continue, // removed meanwhile
                folder => folder?,
            };
            for row in folder.contents() {
                let row = row?;
                if have.contains(&row.entry) {
                    counts.had += 1;
                    continue;
                }
                match copy(session, &row, &into)? {
                    Ok(()) => drop((have.insert(row.entry), counts.copied += 1)),
                    // Deleted for good since its row was read.
                    Err(error) if error.code() == Code::E_NOT_FOUND => {}
                    Err(error) if error.code() == Code::E_CANCEL => return Err(error.into()),
                    Err(error) if support::is_end(&error) => return Err(error.into()),
                    Err(error) => {
                        eprintln!("backup: {}: {error}", row.entry);
                        counts.failed += 1;
                    }
                }
            }
        }
    }
    Ok(())
}

/// The directories of a folder: its own, in those of the folders that it is in.
fn path_of(kind: FolderKind, folders: &BTreeMap<FolderKind, FolderRow>) -> PathBuf {
    let Some(row) = folders.get(&kind) else { return PathBuf::new() };
    row.parent.map_or_else(PathBuf::new, |p| path_of(p, folders)).join(file_name(&row.name))
}

/// A name of a file for any name: what is no letter, no digit and no `-`, `_` or space is written as `%XX`, also a dot.
fn file_name(name: &str) -> String {
    let mut safe = String::new();
    for c in name.chars() {
        // Two long names may become the same: then their messages lie in one directory.
        if safe.len() > 200 {
            break;
        }
        if c.is_alphanumeric() || "-_ ".contains(c) {
            safe.push(c);
        } else {
            safe.extend(c.encode_utf8(&mut [0; 4]).bytes().map(|byte| format!("%{byte:02X}")));
        }
    }
    safe
}

/// Copies a message. The outer error is that of a file, the inner one that of the broker.
fn copy(
    session: &Session,
    row: &ContentsRow,
    into: &Path,
) -> io::Result<Result<(), sundown_client::Error>> {
    fs::create_dir_all(into)?;
    let (unfinished, name) = (into.join(".unfinished"), into.join(format!("{}.eml", row.entry)));
    let mut file = BufWriter::new(File::create(&unfinished)?);
    let read = session.open_message(row.entry).and_then(|message| {
        let mut offset = 0;
        loop {
            let (piece, _) = message.read_at(offset)?;
            if piece.is_empty() {
                return Ok(Ok(()));
            }
            if let Err(error) = file.write_all(&piece) {
                return Ok(Err(error));
            }
            offset += piece.len() as u64;
        }
    });
    let file = match read {
        Ok(written) => written.and_then(|()| Ok(file.into_inner()?))?,
        Err(error) => return Ok(Err(error)),
    };
    file.set_modified(UNIX_EPOCH + Duration::from_millis(row.received))?;
    file.sync_all()?;
    fs::rename(&unfinished, &name)?;
    File::open(into)?.sync_all()?;
    Ok(Ok(()))
}
