//! An account during one connection: its folders, and what is looked at in them.
//!
//! ```text
//!  survey ─► folders, and which of them have changed
//!  look ───► of a folder: flags that changed, messages that are gone; then, when all have been looked at,
//!  take ───► its new messages: one that vanished elsewhere is the same message
//!  first ──► older messages of a folder that is mirrored for the first time, the newest first
//!  fetch ──► the bytes of messages
//! ```
//!
//! Every step says how far it has come in the same slice as what it found, so that a crash or a lost connection repeats little and loses
//! nothing. Only numbers of messages (UIDs) are used, and what a server says to be gone is compared with what is known.

use std::collections::BTreeMap;
use std::os::fd::AsFd;
use std::time::Duration;

use sundown_core::provider::{Cursor, MirrorChange, ProviderError};
use sundown_protocol::folder::{Marks, Role};

use super::conversation::{Conversation, Part};
use super::facts;
use super::names::Name;
use super::settings::{Sent, Settings};
use super::{Data, Esearch, Note, Response, Set, Status};
use crate::mailbox::{Book, Halt, Waker};

/// How often the Inbox may be another one each time it is opened before that has a pause.
const MOST_RESTLESS: u32 = 5;

/// That pause.
const PAUSE: Duration = Duration::from_secs(5);

/// What the server can do of what is used here.
// Each is a capability.
#[allow(clippy::struct_excessive_bools)]
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Can {
    pub(super) qresync: bool,
    pub(super) condstore: bool,
    pub(super) uidplus: bool,
    pub(super) moves: bool,
    pub(super) esearch: bool,
    pub(super) list_status: bool,
    pub(super) special_use: bool,
    pub(super) email_id: bool,
    pub(super) idle: bool,
    pub(super) gmail: bool,
}

/// A folder of the account.
// Each is a fact of its own.
#[allow(clippy::struct_excessive_bools)]
#[derive(Debug)]
pub(super) struct Folder {
    pub(super) name: Name,
    pub(super) role: Option<Role>,
    /// Whether it has messages of its own, and is no mere part of names.
    pub(super) has_messages: bool,
    /// What the server last said of it.
    pub(super) figures: Option<Figures>,
    /// Whether it may have changed since it was looked at.
    pub(super) stale: bool,
    /// Whether there are new messages in it to be taken.
    pub(super) has_new: bool,
    /// How many messages it had when it was looked at.
    pub(super) exists: Option<u32>,
    /// Whether the server did not open it.
    pub(super) is_closed: bool,
    /// The marks that it keeps, once it was open to be changed.
    pub(super) kept: Option<Marks>,
    /// The numbers of messages that the first mirror has still to take, once they were asked for.
    pub(super) older: Option<Vec<u32>>,
}

/// What a server says of a folder without opening it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Figures {
    pub(super) messages: Option<u32>,
    pub(super) next: Option<u32>,
    pub(super) validity: Option<u32>,
    pub(super) modseq: Option<u64>,
}

impl Figures {
    pub(super) fn of(status: &Status<'_>) -> Self {
        Self {
            messages: status.messages,
            next: status.uid_next,
            validity: status.uid_validity,
            modseq: status.highest_modseq,
        }
    }
}

/// The folder that was opened, or why the server does not open it.
pub(super) type Opened = std::result::Result<Selected, ProviderError>;

/// Whether a folder is opened to change something in it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Access {
    /// Only to look. That a message is new to a connection stays for other programs to see.
    Look,
    Change,
}

/// The folder that is open.
#[derive(Debug, Clone)]
pub(super) struct Selected {
    pub(super) dir: String,
    pub(super) access: Access,
    pub(super) validity: u32,
    /// Behind all numbers of messages; zero if the server does not say.
    pub(super) next: u32,
    pub(super) modseq: u64,
    pub(super) exists: u32,
    /// The marks that the folder keeps, if it is open to be changed.
    pub(super) permanent: Marks,
}

/// An account during one connection.
pub(super) struct Account<'a> {
    pub(super) settings: &'a Settings,
    pub(super) talk: Conversation,
    pub(super) book: Book,
    pub(super) can: Can,
    pub(super) delimiter: Option<u8>,
    pub(super) folders: BTreeMap<String, Folder>,
    pub(super) selected: Option<Selected>,
    /// What the store was told of the folders.
    pub(super) told: Vec<MirrorChange>,
    /// How often the Inbox was another one than just before.
    pub(super) restless: u32,
    /// Behind the message whose bytes were fetched last.
    pub(super) fetched_to: u64,
    /// Whether the list of bytes that are to be fetched was gone through.
    pub(super) all_fetched: bool,
}

impl<'a> Account<'a> {
    /// An account of a server that knows who we are.
    pub(super) fn begin(
        settings: &'a Settings,
        talk: Conversation,
        book: Book,
    ) -> Result<Self, Halt> {
        let mut account = Self {
            settings,
            talk,
            book,
            can: Can::default(),
            delimiter: None,
            folders: BTreeMap::new(),
            selected: None,
            told: Vec::new(),
            restless: 0,
            fetched_to: 0,
            all_fetched: false,
        };
        account.find_out()?;
        let append_sent = match settings.sent {
            Sent::Append => true,
            Sent::Server => false,
            Sent::Auto => !account.can.gmail,
        };
        account.book.say(MirrorChange::Account { append_sent })?;
        Ok(account)
    }

    fn find_out(&mut self) -> Result<(), Halt> {
        let offer = self.talk.offer.clone();
        let mut enabled = Vec::new();
        if offer.has("ENABLE") && (offer.has("QRESYNC") || offer.has("CONDSTORE")) {
            let what = if offer.has("QRESYNC") { "ENABLE QRESYNC" } else { "ENABLE CONDSTORE" };
            self.talk.command(&[Part::Text(what)], |response| {
                if let Response::Data(Data::Enabled(words)) = response {
                    enabled.extend(words.iter().map(|word| word.to_ascii_uppercase()));
                }
                Ok(())
            })?;
        }
        // What a server says to be enabled is; what it says that it has may not be.
        let qresync = enabled.iter().any(|word| word == b"QRESYNC");
        self.can = Can {
            qresync,
            condstore: qresync || offer.has("CONDSTORE"),
            uidplus: offer.has("UIDPLUS"),
            moves: offer.has("MOVE"),
            esearch: offer.has("ESEARCH"),
            list_status: offer.has("LIST-STATUS"),
            special_use: offer.has("SPECIAL-USE"),
            email_id: offer.has("OBJECTID"),
            idle: offer.has("IDLE"),
            gmail: offer.has("X-GM-EXT-1"),
        };
        tracing::debug!(server = self.talk.place(), can = ?self.can, "the account is open");
        Ok(())
    }

    pub(super) fn go_on(&self) -> Result<(), Halt> {
        self.book.go_on()
    }

    /// Whether nothing is to be looked at now.
    pub(super) fn is_current(&self) -> bool {
        self.folders.values().all(|folder| !folder.has_messages || !folder.stale && !folder.has_new)
    }

    /// Opens a folder. What has changed in it since is called for with each response.
    pub(super) fn select(
        &mut self,
        dir: &str,
        access: Access,
        since: Option<Cursor>,
        mut see: impl FnMut(&Response<'_>),
    ) -> Result<Opened, Halt> {
        let wire = self.folders[dir].name.wire.clone();
        let command = if access == Access::Look { "EXAMINE " } else { "SELECT " };
        let with = match since {
            Some(Cursor { validity, modseq, .. }) if self.can.qresync => {
                format!(" (QRESYNC ({validity} {modseq}))")
            }
            _ if self.can.condstore => " (CONDSTORE)".to_owned(),
            _ => String::new(),
        };
        self.selected = None;
        let mut selected = Selected {
            dir: dir.to_owned(),
            access,
            validity: 0,
            next: 0,
            modseq: 0,
            exists: 0,
            permanent: Marks(Marks::KNOWN),
        };
        let parts = [Part::Text(command), Part::Value(&wire), Part::Text(&with)];
        let done = self.talk.command(&parts, |response| {
            match response {
                Response::Data(Data::Exists(exists)) => selected.exists = *exists,
                Response::Words { said, .. } => match &said.note {
                    Some(Note::UidValidity(validity)) => selected.validity = *validity,
                    Some(Note::UidNext(next)) => selected.next = *next,
                    Some(Note::HighestModSeq(modseq)) => selected.modseq = *modseq,
                    Some(Note::NoModSeq) => selected.modseq = 0,
                    Some(Note::PermanentFlags(flags)) => {
                        selected.permanent = facts::permanent(flags);
                    }
                    _ => {}
                },
                response => see(response),
            }
            Ok(())
        })?;
        let what = format!("to open the folder {}", self.folders[dir].name.shown());
        let opened = done.expect(self.talk.place(), &what);
        if opened.is_ok() && access == Access::Change {
            self.folders.get_mut(dir).expect("it was listed").kept = Some(selected.permanent);
        }
        Ok(opened.map(|_| {
            self.selected = Some(selected.clone());
            selected
        }))
    }

    /// The server does not open a folder: it is passed over until something changes in it.
    pub(super) fn pass_over(&mut self, dir: &str, error: &ProviderError) {
        let folder = self.folders.get_mut(dir).expect("it was listed");
        (folder.stale, folder.has_new, folder.older) = (false, false, None);
        folder.is_closed = true;
        tracing::warn!(server = self.talk.place(), folder = folder.name.shown(), %error, "a folder is passed over");
    }

    /// Opens a folder unless it is open.
    pub(super) fn open(&mut self, dir: &str, access: Access) -> Result<Opened, Halt> {
        let is_open = |selected: &&Selected| selected.dir == dir && selected.access >= access;
        match self.selected.as_ref().filter(is_open) {
            Some(selected) => Ok(Ok(selected.clone())),
            None => self.select(dir, access, None, |_| {}),
        }
    }

    /// The numbers of messages that are found, in their order.
    pub(super) fn search(&mut self, what: &str) -> Result<Vec<u32>, Halt> {
        let returned = if self.can.esearch { "RETURN (ALL) " } else { "" };
        let command = format!("UID SEARCH {returned}{what}");
        let mut uids = Vec::new();
        let exists = self.selected.as_ref().map_or(0, |selected| selected.exists);
        let done = self.talk.command(&[Part::Text(&command)], |response| {
            match response {
                Response::Data(Data::Search { numbers, .. }) => uids.extend(numbers),
                // A server may name ranges that are larger than the folder.
                Response::Data(Data::Esearch(Esearch { all, .. }))
                    if all.count() <= most(exists) =>
                {
                    uids.extend(all.numbers());
                }
                _ => {}
            }
            Ok(())
        })?;
        done.expect(self.talk.place(), "a search")?;
        uids.sort_unstable();
        uids.dedup();
        Ok(uids)
    }

    /// Waits in the Inbox until something may have changed, until woken, or until so much time has passed.
    pub(super) fn wait(&mut self, waker: &Waker, most: Duration) -> Result<(), Halt> {
        let inbox = self.folders.iter().find(|(_, folder)| folder.name.is_inbox());
        let inbox = inbox.map(|(dir, _)| dir.clone());
        let Some(inbox) = inbox.filter(|_| self.can.idle) else {
            self.talk.listen(waker.as_fd(), most, |_| {})?;
            waker.was_woken();
            return Ok(());
        };
        // Opened anew, it shows what has changed since it was looked at.
        let opened = self.select(&inbox, Access::Look, None, |_| {})?;
        let selected = opened.map_err(Halt::Failed)?;
        if self.has_moved_on(&inbox, &selected)? {
            self.folders.get_mut(&inbox).expect("it was listed").stale = true;
            self.restless += 1;
            if self.restless > MOST_RESTLESS {
                // A server that says something else each time it is asked is not asked without a pause.
                self.talk.listen(waker.as_fd(), PAUSE, |_| {})?;
                waker.was_woken();
            }
            return Ok(());
        }
        self.restless = 0;
        let mut changed = false;
        let mut see = |response: &Response<'_>| {
            changed |= matches!(
                response,
                Response::Data(
                    Data::Exists(_) | Data::Expunge(_) | Data::Vanished { .. } | Data::Fetch(_)
                )
            );
        };
        let tag = self.talk.begin(&[Part::Text("IDLE")])?;
        if self.talk.may_go_on(&mut see)?.is_some() {
            self.can.idle = false;
            return Ok(());
        }
        self.talk.listen(waker.as_fd(), most, &mut see)?;
        self.talk.send(b"DONE\r\n")?;
        self.talk.finish(&tag, |response| {
            see(response);
            Ok(())
        })?;
        waker.was_woken();
        if changed {
            self.folders.get_mut(&inbox).expect("it was listed").stale = true;
        }
        Ok(())
    }

    /// Whether the open folder is not as it was when it was looked at.
    fn has_moved_on(&mut self, dir: &str, selected: &Selected) -> Result<bool, Halt> {
        let Some(cursor) = self.book.cursor(dir)? else { return Ok(true) };
        Ok(selected.validity != cursor.validity
            || selected.next > cursor.next
            || selected.modseq != cursor.modseq
            || selected.exists != cursor.messages
            || self.folders[dir].exists != Some(selected.exists))
    }
}

/// The most numbers that a search may come to: more than the folder has, if others put messages in.
fn most(exists: u32) -> u64 {
    u64::from(exists) * 2 + 10_000
}

pub(super) fn set_of(uids: &[u32]) -> Set {
    let mut set = Set::default();
    for uid in uids {
        set.push(*uid);
    }
    set
}
