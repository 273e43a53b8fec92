//! A Maildir as a mailbox that several programs use at the same time.
//!
//! The messages stay files of the Maildir; the store has their rows, and where each lies. What other programs do is seen and written into
//! the store, what programs of the broker do is found in the store as *pending* and done in the Maildir. Both are repeated after a crash
//! at any step without harm. A message of the Inbox is told as new mail if it came into `new` since the store last looked.
//!
//! The provider is only a handle: a thread does all the work, one for all sessions that show the Maildir in one store, so that every call
//! is answered at once.
//!
//! | … | file |
//! |---|---|
//! | the thread: watching, trying again, resting | `worker.rs` |
//! | comparing folders with the store; new mail | `pass.rs` |
//! | carrying out what is pending | `pending.rs` |
//! | which folders are shown, and what the store knows of them | `shelf.rs` |
//! | its messages and flags as the store names them | `marks.rs` |
//! | what a file's name says, flags; names that are no text | `names.rs` |
//! | folders, what they are called, what they are for; opening them so that nothing leads out of the Maildir | `folders.rs` |
//! | making, renaming and removing folders | `tree.rs` |
//! | reading a folder, with 16 bytes for each message | `scan.rs` |
//! | what a message's file says of it | `facts.rs` |
//! | flags, moves, copies, removals, new files | `act.rs` |
//! | waiting for other programs' changes | `watch.rs` |

mod act;
mod facts;
mod folders;
mod marks;
mod names;
mod pass;
mod pending;
mod scan;
mod shelf;
#[cfg(test)]
mod tests;
mod tree;

mod watch;
mod worker;

use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread;

use sundown_core::address::Pattern;
use sundown_core::provider::{MailboxCall, ProviderError, ProviderSpec};
use sundown_protocol::Code;
use sundown_protocol::folder::Marks;

use self::folders::{Dir, Root};
use self::shelf::Shown;
use self::worker::{Settings, Worker};

use super::{OURS, STALE, directory_id, since_1970};
use crate::mailbox::{self, Answered, Seat};
use crate::{MailboxProvider, MailboxSupport, NothingToSave, ProviderShutdown, Result};

/// The threads of a broker's Maildirs.
#[derive(Default)]
pub struct Desks(mailbox::Desks<Settings>);

/// Shows the messages and folders of the Maildir at the spec's path.
///
/// Its options are `folders`, which is `all` or `inbox`, and `address`, of which there may be several: the user's own addresses.
pub struct MaildirMailbox {
    settings: Settings,
    desks: Arc<Desks>,
    support: Option<Arc<dyn MailboxSupport>>,
    seat: Option<Seat>,
}

impl MaildirMailbox {
    /// Makes a mailbox, which touches no file before it is to watch. Mailboxes with the same desks share the work for one Maildir.
    pub fn new(spec: &ProviderSpec, desks: &Arc<Desks>) -> Result<Self> {
        let values = |key: &str| {
            let named = spec.options.iter().filter(move |(name, _)| name == key);
            named.map(|(_, value)| value.as_str()).collect::<Vec<_>>()
        };
        let wrong = |key: &str, value: &str| {
            let text = format!("mailbox {:?}: {value:?} is no value of {key:?}", spec.name);
            ProviderError::new(Code::E_INVALID_PARAMETER, text)
        };
        let shown = match values("folders")[..] {
            [] | ["all"] => Shown::All,
            ["inbox"] => Shown::Inbox,
            [value, ..] => return Err(wrong("folders", value)),
        };
        let own = values("address").into_iter();
        let own = own.map(|address| Pattern::own(address).ok_or_else(|| wrong("address", address)));
        let settings =
            Settings { path: spec.path.clone(), shown, own: own.collect::<Result<Vec<_>>>()? };
        Ok(Self { settings, desks: Arc::clone(desks), support: None, seat: None })
    }

    /// Has the desk of a store watch.
    fn watch(&mut self, store: u32, support: &Arc<dyn MailboxSupport>) -> Result<()> {
        if self.seat.as_ref().is_none_or(|seat| !seat.is_of(store)) {
            self.seat = Some(self.desks.0.join(&self.settings, store, support)?);
        }
        self.seat.as_ref().expect("it was taken just before").watch();
        Ok(())
    }

    /// Tries, on a thread for this alone, whether the Maildir can be used.
    fn try_out(&self, support: Arc<dyn MailboxSupport>, reply: Answered) {
        let (settings, orders) = (self.settings.clone(), Arc::default());
        let mut worker = Worker { settings, support, orders, home: None };
        // Without a thread the reply says that the call failed.
        let _ = thread::Builder::new()
            .name("maildir".into())
            .spawn(move || reply.send(worker.try_out().map(|()| None)));
    }
}

impl MailboxProvider for MaildirMailbox {
    fn logon(&mut self, support: Arc<dyn MailboxSupport>) -> Result<()> {
        (self.seat, self.support) = (None, Some(support));
        Ok(())
    }

    fn call(&mut self, call: MailboxCall, reply: Answered) {
        let Some(support) = self.support.clone() else {
            let text = format!("{}: no session is logged on to it", self.settings.path.display());
            return reply.send(Err(ProviderError::new(Code::E_NOT_INITIALIZED, text)));
        };
        match (call, &self.seat) {
            (MailboxCall::Watch { store }, _) => {
                reply.send(self.watch(store, &support).map(|()| None));
            }
            (MailboxCall::Changed, Some(seat)) => seat.changed(reply),
            (MailboxCall::Validate | MailboxCall::Sync, Some(seat)) => seat.look(reply),
            (MailboxCall::Validate | MailboxCall::Sync, None) => self.try_out(support, reply),
            (MailboxCall::Fetch { .. }, _) => {
                let text = "a Maildir has its messages in files, and fetches none";
                reply.send(Err(ProviderError::new(Code::E_NOT_FOUND, text)));
            }
            (MailboxCall::Rest, seat) => {
                seat.iter().for_each(Seat::rest);
                reply.send(Ok(None));
            }
            // A mailbox that has never watched has nothing that could be pending.
            (MailboxCall::Changed, None) => reply.send(Ok(None)),
        }
    }

    fn logoff(&mut self) -> Result<()> {
        (self.seat, self.support) = (None, None);
        Ok(())
    }

    fn shutdown(&mut self) -> Option<&mut dyn ProviderShutdown> {
        Some(self)
    }

    fn has_nothing_to_save(&self) -> bool {
        true
    }
}

/// What programs have changed is in the store until it is done in the Maildir, so the mailbox has nothing of it to save.
impl NothingToSave for MaildirMailbox {}

/// The path of a message's file, by its base name. The marks are where it is looked for first.
pub(crate) fn locate(root: &Path, dir: &str, name: &str, marks: Marks) -> Option<PathBuf> {
    let (dir, base) = (Dir::parse(dir)?, names::unescape(name)?);
    let folder = Root::open(root).and_then(|root| root.folder(&dir)).ok()?;
    let at = act::locate(&folder, &base, marks::flags(marks)).ok()??;
    Some(folder.path_of(at.sub, &at.file))
}

/// Gives a message a second name in the Maildir's `tmp`, which outlives the first. Whether the message is there.
pub(crate) fn stage(
    root: &Path,
    (dir, name): (&str, &str),
    marks: Marks,
    staged: &str,
) -> io::Result<bool> {
    let (Some(dir), Some(base)) = (Dir::parse(dir), names::unescape(name)) else {
        return Ok(false);
    };
    let root = Root::open(root)?;
    let to = root.folder(&Dir::ROOT)?;
    let from = match root.folder(&dir) {
        // It has another name by now, or was removed.
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(false),
        from => from?,
    };
    act::link((&from, &base, marks::flags(marks)), (&to, staged.as_bytes()))
}

/// The name of a directory once a folder has other names along the way to it; nothing if the directory is neither that folder's nor
/// below it.
pub(crate) fn moved(dir: &str, from: &str, to: &[String]) -> Option<String> {
    let (dir, from, to) = (Dir::parse(dir)?, Dir::parse(from)?, Dir::named(to).ok()?);
    let is_it = dir == from || from.is_above(&dir);
    dir.moved(&from, &to).filter(|_| is_it).map(|dir| dir.text())
}

/// The record of a message whose file has such a name.
pub(crate) fn filed_as(name: &str) -> Option<u128> {
    names::record_of(&names::unescape(name)?)
}

/// The name, without flags, under which a mailbox files a message that came to it from the store, by when the message was received, in
/// milliseconds since 1970.
pub(crate) fn own_name(record: u128, received: u64) -> String {
    names::escape(&names::of_record(record, received / 1000))
}

/// The same for a message that has a name in `tmp` and no other yet.
pub(crate) fn stage_again(root: &Path, name: &str, staged: &str) -> io::Result<bool> {
    let root = Root::open(root)?;
    act::link_staged(&root.folder(&Dir::ROOT)?, name.as_bytes(), staged.as_bytes())
}

/// Opens a message: a regular file, and never what a link points to.
pub(crate) fn open(path: &Path) -> io::Result<File> {
    match facts::open(rustix::fs::CWD, std::os::unix::ffi::OsStrExt::as_bytes(path.as_os_str()))? {
        facts::Opened::File(file) => Ok(file),
        facts::Opened::Gone => Err(io::ErrorKind::NotFound.into()),
        facts::Opened::NoFile => {
            Err(io::Error::new(io::ErrorKind::InvalidData, "it is not a regular file"))
        }
    }
}
