//! What the store knows of a mailbox: reading it in pages, and writing what was seen or done in slices.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use sundown_core::provider::{
    ChangedFolder, Cursor, Known, Mirror, MirrorChange, Pending, ProviderAnswer, ProviderError,
    Spot, StoreRead, Synced, Tally,
};
use sundown_protocol::Code;
use sundown_protocol::folder::{Flags, Marks};

use super::halt::Halt;
use super::orders::Leave;
use crate::{MailboxSupport, Result, SLICE, StoreReader, Written};

/// How many rows are read at once.
pub(crate) const PAGE: u32 = 256;

/// How many messages are asked for at once whose bytes are to be fetched: with one command for as many, the server's answers do not wait
/// for the next command.
const FETCHES: u32 = 500;

/// The most bytes of messages in a slice, unless one piece has more.
const SLICE_BYTES: usize = 256 << 10;

/// A slice in quarters of a change.
const QUARTERS: usize = 4 * SLICE;

/// What changes count of a slice, in quarters of a change.
fn quarters(changes: &[MirrorChange]) -> usize {
    let one = |change: &MirrorChange| match change {
        MirrorChange::Marked { .. } => 1,
        _ => 4,
    };
    changes.iter().map(one).sum()
}

fn bytes_of(change: &MirrorChange) -> usize {
    match change {
        MirrorChange::Bytes { bytes, .. } => bytes.len(),
        _ => 0,
    }
}

/// The store's side of a mailbox.
pub(crate) struct Book {
    support: Arc<dyn MailboxSupport>,
    store: u32,
    reader: Box<dyn StoreReader>,
    mailbox: PathBuf,
    leave: Leave,
    waiting: Vec<MirrorChange>,
    /// The bytes of messages among them.
    bytes: usize,
    /// A slice that the store commits while the next one is gathered.
    ahead: Option<Written>,
    /// What was found.
    found: Synced,
    /// When something was last found.
    pub(crate) changed: Option<SystemTime>,
}

impl Book {
    pub(crate) fn open(
        support: &Arc<dyn MailboxSupport>,
        store: u32,
        mailbox: &Path,
        leave: Leave,
    ) -> Result<Self> {
        let (support, reader) = (Arc::clone(support), support.store(store)?);
        Ok(Self {
            support,
            store,
            reader,
            mailbox: mailbox.to_owned(),
            leave,
            waiting: Vec::new(),
            bytes: 0,
            ahead: None,
            found: Synced::default(),
            changed: None,
        })
    }

    /// The present part of the work may go on.
    pub(crate) fn go_on(&self) -> std::result::Result<(), Halt> {
        self.leave.go_on()
    }

    /// What was found since this was asked last; and what is pending now.
    pub(crate) fn take_found(&mut self) -> Result<Synced> {
        let found = std::mem::take(&mut self.found);
        Ok(Synced { pending: self.tally()?.pending, ..found })
    }

    /// Figures of the mailbox.
    pub(crate) fn tally(&mut self) -> Result<Tally> {
        self.tally_of(None)
    }

    /// How many messages lie in a directory.
    pub(crate) fn rows_in(&mut self, dir: &str) -> Result<u64> {
        Ok(self.tally_of(Some(dir.to_owned()))?.messages)
    }

    fn tally_of(&mut self, dir: Option<String>) -> Result<Tally> {
        match self.ask(&StoreRead::Tally { mailbox: self.mailbox.clone(), dir })? {
            ProviderAnswer::Tally(tally) => Ok(tally),
            _ => Ok(Tally::default()),
        }
    }

    /// Where a message of an account is, and its size, if its bytes are not here; nothing if it is no message of this one.
    pub(crate) fn place_of(&mut self, record: u128) -> Result<Option<(Spot, u64)>> {
        let question = StoreRead::Lies { mailbox: self.mailbox.clone(), record };
        match self.ask(&question)? {
            ProviderAnswer::Fetches { rows, .. } => Ok(rows.into_iter().next()),
            _ => Ok(None),
        }
    }

    /// Notes a change. A full slice is handed to the store at once, which commits it meanwhile.
    pub(crate) fn say(&mut self, change: MirrorChange) -> std::result::Result<(), Halt> {
        self.say_all(vec![change])?;
        if quarters(&self.waiting) >= QUARTERS { self.send() } else { Ok(()) }
    }

    /// Notes changes of which the store must not hear one without the others.
    pub(crate) fn say_all(&mut self, changes: Vec<MirrorChange>) -> std::result::Result<(), Halt> {
        let bytes = changes.iter().map(bytes_of).sum::<usize>();
        if quarters(&self.waiting) + quarters(&changes) > QUARTERS
            || self.bytes + bytes > SLICE_BYTES
        {
            self.send()?;
        }
        for change in &changes {
            match change {
                MirrorChange::Found { .. } => self.found.new += 1,
                MirrorChange::Marked { .. }
                | MirrorChange::Keywords { .. }
                | MirrorChange::Moved { .. } => self.found.changed += 1,
                MirrorChange::Vanished { .. } => self.found.removed += 1,
                _ => continue,
            }
            self.changed = Some(SystemTime::now());
        }
        self.waiting.extend(changes);
        self.bytes += bytes;
        Ok(())
    }

    /// Writes the changes that were noted, and waits until they are committed.
    pub(crate) fn write(&mut self) -> std::result::Result<(), Halt> {
        self.send()?;
        Ok(self.settle()?)
    }

    /// Hands the changes that were noted to the store. The slice before was committed then: a cursor never gets there before what it is
    /// about.
    fn send(&mut self) -> std::result::Result<(), Halt> {
        self.go_on()?;
        if self.waiting.is_empty() {
            return Ok(());
        }
        self.settle()?;
        let changes = std::mem::take(&mut self.waiting);
        self.bytes = 0;
        let mirror = Mirror { mailbox: self.mailbox.clone(), changes };
        self.ahead = Some(self.support.hand_over(self.store, mirror));
        Ok(())
    }

    /// Waits until everything that was handed over is committed.
    fn settle(&mut self) -> Result<()> {
        self.ahead.take().map_or(Ok(()), |written| written())
    }

    fn ask(&mut self, question: &StoreRead) -> Result<ProviderAnswer> {
        self.settle()?;
        let answer = self.reader.read(question)?;
        question.expects().check(&answer, Known::default()).map_err(|wrong| {
            let text = format!("the store gave a wrong answer to the mailbox: {wrong}");
            ProviderError::new(Code::E_CALL_FAILED, text)
        })?;
        Ok(answer)
    }

    /// What lies in a directory, in the order of the names behind this one; and whether there is more.
    pub(crate) fn rows(&mut self, dir: &str, after: &str, limit: u32) -> Result<Rows> {
        let (mailbox, after) = (self.mailbox.clone(), after.to_owned());
        let question = StoreRead::Mirrored { mailbox, dir: dir.to_owned(), after, limit };
        match self.ask(&question)? {
            ProviderAnswer::Spots { rows, more } => Ok(Rows { rows, more }),
            _ => Ok(Rows::default()),
        }
    }

    /// Calls a function with everything that lies in a directory.
    pub(crate) fn each_row(
        &mut self,
        dir: &str,
        mut see: impl FnMut(&mut Self, &str, &Flags) -> std::result::Result<(), Halt>,
    ) -> std::result::Result<(), Halt> {
        let mut after = String::new();
        loop {
            self.go_on()?;
            let page = self.rows(dir, &after, PAGE)?;
            for (name, flags) in &page.rows {
                see(self, name, flags)?;
            }
            match page.rows.last() {
                Some((last, _)) if page.more => after.clone_from(last),
                _ => return Ok(()),
            }
        }
    }

    /// The marks that the message with a base name was last seen with.
    pub(crate) fn marks_of(&mut self, dir: &str, name: &str) -> Result<Option<Marks>> {
        Ok(self.flags_of(dir, name)?.map(|flags| flags.marks))
    }

    /// The flags that the message with a base name was last seen with.
    pub(crate) fn flags_of(&mut self, dir: &str, name: &str) -> Result<Option<Flags>> {
        let mut after = just_before(name);
        loop {
            let page = self.rows(dir, &after, 4)?;
            match page.rows.iter().find(|(found, _)| found.as_str() >= name) {
                Some((found, flags)) => return Ok((found == name).then(|| flags.clone())),
                None => match page.rows.last() {
                    Some((last, _)) if page.more => after.clone_from(last),
                    _ => return Ok(None),
                },
            }
        }
    }

    /// Calls a function with the flags that messages were last seen with, whose names are in order, as far as they are there. So many
    /// rows are read at once: more are better for names that lie close together.
    pub(crate) fn each_of<T>(
        &mut self,
        dir: &str,
        names: impl Iterator<Item = (String, T)>,
        limit: u32,
        mut see: impl FnMut(T, &Flags),
    ) -> std::result::Result<(), Halt> {
        let mut page = Rows { rows: Vec::new(), more: true };
        for (name, of) in names {
            let mut at = page.rows.partition_point(|(found, _)| *found < name);
            while at == page.rows.len() && page.more {
                self.go_on()?;
                let mut after = just_before(&name);
                if let Some((last, _)) = page.rows.pop() {
                    after = after.max(last);
                }
                page = self.rows(dir, &after, limit)?;
                at = page.rows.partition_point(|(found, _)| *found < name);
            }
            if let Some((_, flags)) = page.rows.get(at).filter(|(found, _)| *found == name) {
                see(of, flags);
            }
        }
        Ok(())
    }

    /// How far a directory of an account is mirrored.
    pub(crate) fn cursor(&mut self, dir: &str) -> Result<Option<Cursor>> {
        let (mailbox, dir) = (self.mailbox.clone(), dir.to_owned());
        match self.ask(&StoreRead::Cursor { mailbox, dir })? {
            ProviderAnswer::Cursor(cursor) => Ok(cursor),
            _ => Ok(None),
        }
    }

    /// Messages of an account whose bytes are to be fetched, and the cursor to go on.
    pub(crate) fn fetches(&mut self, after: u64) -> Result<Fetches> {
        let question = StoreRead::Fetches { mailbox: self.mailbox.clone(), after, limit: FETCHES };
        match self.ask(&question)? {
            ProviderAnswer::Fetches { rows, next } => Ok((rows, next)),
            _ => Ok((Vec::new(), None)),
        }
    }

    /// Whether the mailbox has been looked at as a whole before.
    pub(crate) fn has_passed(&mut self) -> Result<bool> {
        let mailbox = self.mailbox.clone();
        let answer = self.ask(&StoreRead::Directories { mailbox, after: None, limit: 1 })?;
        Ok(matches!(answer, ProviderAnswer::Directories { passed: true, .. }))
    }

    /// The directories in which something lies.
    pub(crate) fn dirs(&mut self) -> Result<Vec<String>> {
        let (mut dirs, mut after) = (Vec::new(), None);
        loop {
            let mailbox = self.mailbox.clone();
            let question = StoreRead::Directories { mailbox, after: after.clone(), limit: PAGE };
            let ProviderAnswer::Directories { dirs: found, more, .. } = self.ask(&question)? else {
                return Ok(dirs);
            };
            dirs.extend(found.iter().cloned());
            match found.last() {
                Some(last) if more => after = Some(last.clone()),
                _ => return Ok(dirs),
            }
        }
    }

    /// Directories whose folders have another name in the store, or were removed there.
    pub(crate) fn changed_folders(&mut self) -> Result<Vec<ChangedFolder>> {
        let question = StoreRead::ChangedFolders { mailbox: self.mailbox.clone(), limit: PAGE };
        match self.ask(&question)? {
            ProviderAnswer::ChangedFolders(rows) => Ok(rows),
            _ => Ok(Vec::new()),
        }
    }

    /// Changes that the mailbox does not have yet, and the cursor to go on.
    pub(crate) fn pending(&mut self, after: u64) -> Result<(Vec<Pending>, Option<u64>)> {
        let limit = SLICE as u32;
        let question = StoreRead::Pending { mailbox: self.mailbox.clone(), after, limit };
        match self.ask(&question)? {
            ProviderAnswer::Pending { rows, next } => Ok((rows, next)),
            _ => Ok((Vec::new(), None)),
        }
    }

    /// The bytes of a message.
    pub(crate) fn open_message(
        &mut self,
        record: u128,
    ) -> Result<Box<dyn std::io::Read + Send + '_>> {
        self.settle()?;
        self.reader.open(record)
    }
}

impl Drop for Book {
    /// The next connection reads what this one has written.
    fn drop(&mut self) {
        let _ = self.settle();
    }
}

/// A time in milliseconds since 1970.
pub(crate) fn milliseconds(time: SystemTime) -> u64 {
    time.duration_since(UNIX_EPOCH).map_or(0, |since| since.as_millis() as u64)
}

/// The present time in milliseconds since 1970.
pub(crate) fn now() -> u64 {
    milliseconds(SystemTime::now())
}

/// Messages whose bytes are to be fetched, with their sizes, and the cursor to go on.
pub(crate) type Fetches = (Vec<(Spot, u64)>, Option<u64>);

/// A page of what lies in a directory.
#[derive(Debug, Default)]
pub(crate) struct Rows {
    pub(crate) rows: Vec<(String, Flags)>,
    pub(crate) more: bool,
}

/// A text that is in front of this one, and behind almost every other that is in front of it.
fn just_before(name: &str) -> String {
    let mut before = name.to_owned();
    let Some(last) = before.pop() else { return before };
    if let Some(smaller) = (0..u32::from(last)).rev().find_map(char::from_u32) {
        before.push(smaller);
        before.push(char::MAX);
    }
    before
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn a_text_just_before_is_before(name in "\\PC{1,8}", other in "\\PC{0,8}") {
            let before = just_before(&name);
            prop_assert!(before < name);
            prop_assert!(other >= name || other <= before || other.starts_with(&before));
        }
    }
}
