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

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::os::fd::AsFd;
use std::time::{Duration, Instant};

use sundown_core::provider::{Cursor, MirrorChange, ProviderError};
use sundown_protocol::Code;
use sundown_protocol::folder::Role;

use super::conversation::{Conversation, Done, Part};
use super::copies::Copies;
use super::facts::Kept;
use super::names::Name;
use super::notify::{ASKED, Heard, Told};
use super::settings::{Sent, Settings};
use super::survey::Listing;
use super::{Data, End, Esearch, Note, Response, Set, Status};
use crate::mailbox::{Book, Halt, Waker};

/// How often a folder may be looked at without a second in between before it rests.
const MOST_RESTLESS: u32 = 5;

/// How many different warnings are logged of one connection.
const MOST_SAID: usize = 100;

/// How long it rests. A server that says something else each time it is asked is not asked without a pause.
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
    /// What it was when it was looked at.
    pub(super) seen: Option<Seen>,
    /// When it was looked at, and how often without a pause.
    pub(super) looked: Option<(Instant, u32)>,
    /// Whether the server did not open it.
    pub(super) is_closed: bool,
    /// What it keeps of flags, once it was open to be changed.
    pub(super) kept: Option<Kept>,
    /// The numbers of messages that the first mirror has still to take, once they were asked for.
    pub(super) older: Option<Vec<u32>>,
}

/// What a folder was when it was opened.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Seen {
    validity: u32,
    next: u32,
    pub(super) modseq: u64,
    pub(super) exists: u32,
}

impl Seen {
    pub(super) fn of(selected: &Selected) -> Self {
        let Selected { validity, next, modseq, exists, .. } = *selected;
        Self { validity, next, modseq, exists }
    }

    /// What a folder was when it was looked at, at an earlier connection.
    pub(super) fn at(cursor: &Cursor) -> Self {
        let Cursor { validity, next, modseq, messages, .. } = *cursor;
        Self { validity, next, modseq, exists: messages }
    }

    /// Whether these figures say the same, as far as both sides say something.
    pub(super) fn is(&self, figures: &Figures) -> bool {
        figures.messages == Some(self.exists)
            && figures.validity == Some(self.validity)
            && (self.next == 0 || figures.next == Some(self.next))
            && (self.modseq == 0 || figures.modseq.is_none_or(|modseq| modseq == self.modseq))
    }
}

impl Folder {
    /// Whether it was looked at so often that it is left alone for a while.
    pub(super) fn rests(&self) -> bool {
        self.looked.is_some_and(|(at, often)| often > MOST_RESTLESS && at.elapsed() < PAUSE)
    }

    /// It is looked at now.
    pub(super) fn is_looked_at(&mut self) {
        let often = match self.looked {
            Some((at, often)) if at.elapsed() < Duration::from_secs(1) => often + 1,
            _ => 0,
        };
        self.looked = Some((Instant::now(), often));
    }
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

    /// Whether they have all that is always asked for.
    pub(super) fn are_whole(&self) -> bool {
        self.messages.is_some() && self.next.is_some() && self.validity.is_some()
    }
}

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
    /// What the folder keeps of flags, if it is open to be changed.
    pub(super) permanent: Kept,
}

/// Messages that the server has taken, and that were not found there; and the number that it says each got, with its validity.
pub(super) type Unplaced = HashMap<u128, Option<(u32, u32)>>;

/// An account during one connection.
pub(super) struct Account<'a> {
    pub(super) settings: &'a Settings,
    pub(super) talk: Conversation,
    pub(super) book: Book,
    pub(super) can: Can,
    pub(super) delimiter: Option<u8>,
    pub(super) folders: BTreeMap<String, Folder>,
    pub(super) selected: Option<Selected>,
    /// Of which folders the server tells by itself.
    pub(super) is_told: Told,
    /// The folders that were open since the mailbox has waited, if it tells of more than the open one.
    pub(super) opened: BTreeSet<String>,
    /// What the server has listed when the connection began, until it is looked at.
    pub(super) listing: Option<Listing>,
    /// What the store was told of the folders.
    pub(super) told: Vec<MirrorChange>,
    /// What was said in the log.
    pub(super) said: BTreeSet<String>,
    /// Behind the message whose bytes were fetched last.
    pub(super) fetched_to: u64,
    /// Whether the list of bytes that are to be fetched was gone through.
    pub(super) all_fetched: bool,
    /// How many waits in a row the server has ended at once.
    hasty: u32,
    /// See [`Unplaced`].
    pub(super) unplaced: &'a RefCell<Unplaced>,
    /// What another program has fetched.
    pub(super) copies: &'a RefCell<Copies>,
}

/// What an account takes from one connection to the next.
#[derive(Default)]
pub(super) struct Carried {
    /// See [`Unplaced`].
    pub(super) unplaced: RefCell<Unplaced>,
    /// What another program has fetched.
    pub(super) copies: RefCell<Copies>,
}

impl<'a> Account<'a> {
    /// An account of a server that knows who we are.
    pub(super) fn begin(
        settings: &'a Settings,
        talk: Conversation,
        book: Book,
        carried: &'a Carried,
    ) -> Result<Self, Halt> {
        let mut account = Self {
            settings,
            talk,
            book,
            can: Can::default(),
            delimiter: None,
            folders: BTreeMap::new(),
            selected: None,
            is_told: Told::Open,
            opened: BTreeSet::new(),
            listing: None,
            told: Vec::new(),
            said: BTreeSet::new(),
            fetched_to: 0,
            all_fetched: false,
            hasty: 0,
            unplaced: &carried.unplaced,
            copies: &carried.copies,
        };
        account.find_out()?;
        let append_sent = match settings.sent {
            Sent::Append => true,
            Sent::Server => false,
            Sent::Auto => !account.can.gmail,
        };
        let heading = settings.heading.clone();
        account.book.say(MirrorChange::Account { append_sent, heading })?;
        Ok(account)
    }

    /// Asks for everything that is used here and can be asked for at once: one answer to wait for, and not four.
    fn find_out(&mut self) -> Result<(), Halt> {
        let offer = self.talk.offer.clone();
        self.can = Can {
            qresync: offer.has("QRESYNC"),
            condstore: offer.has("QRESYNC") || offer.has("CONDSTORE"),
            uidplus: offer.has("UIDPLUS"),
            moves: offer.has("MOVE"),
            esearch: offer.has("ESEARCH"),
            list_status: offer.has("LIST-STATUS"),
            special_use: offer.has("SPECIAL-USE"),
            email_id: offer.has("OBJECTID"),
            idle: offer.has("IDLE"),
            gmail: offer.has("X-GM-EXT-1"),
        };
        let mut commands = Vec::new();
        if offer.has("ENABLE") && self.can.condstore {
            let what = if self.can.qresync { "ENABLE QRESYNC" } else { "ENABLE CONDSTORE" };
            commands.push(what);
        }
        let tells = offer.has("NOTIFY");
        if tells {
            commands.extend(offer.has("NAMESPACE").then_some("NAMESPACE"));
            commands.push(ASKED);
            (self.talk.heard, self.is_told) = (Some(Heard::default()), Told::All);
        }
        let list = self.list_command();
        commands.push(&list);
        let (mut enabled, mut listing) = (Vec::new(), Listing::of(self.is_told));
        let mut others = false;
        let mut done = self.talk.commands(&commands, |response| {
            match response {
                Response::Data(Data::Enabled(words)) => {
                    enabled.extend(words.iter().map(|word| word.to_ascii_uppercase()));
                }
                Response::Data(Data::Namespace { others: true, .. }) => others = true,
                response => listing.add(response),
            }
            Ok(())
        })?;
        // What a server says to be enabled is; what it says that it has may not be.
        self.can.qresync = enabled.iter().any(|word| word == b"QRESYNC");
        self.can.condstore = self.can.qresync || offer.has("CONDSTORE");
        // One that is refused is asked for again, by then without what the server does not have.
        let listed = done.pop().filter(|listed| listed.end == End::Ok && listed.clear);
        self.listing = listed.map(|_| listing);
        if let Some(told) = done.pop().filter(|_| tells) {
            match told.expect(self.talk.place(), "to tell of all folders") {
                Ok(_) if others => self.is_told = Told::Own,
                Ok(_) => {}
                Err(error) => self.is_told_no_more(&error.message),
            }
        }
        tracing::debug!(server = self.talk.place(), can = ?self.can, "the account is open");
        Ok(())
    }

    pub(super) fn go_on(&self) -> Result<(), Halt> {
        self.book.go_on()
    }

    /// Whether nothing is to be looked at now.
    pub(super) fn is_current(&mut self) -> bool {
        self.hear();
        self.folders.values().all(|folder| {
            !folder.has_messages || folder.rests() || !folder.stale && !folder.has_new
        })
    }

    /// Opens a folder. What has changed in it since is called for with each response.
    pub(super) fn select(
        &mut self,
        dir: &str,
        access: Access,
        since: Option<Cursor>,
        mut see: impl FnMut(&Response<'_>),
    ) -> Result<Selected, Halt> {
        let name = &self.folder(dir)?.name;
        let (wire, what) = (name.wire.clone(), format!("to open the folder {}", name.shown()));
        let command = if access == Access::Look { "EXAMINE " } else { "SELECT " };
        let with = match since {
            Some(Cursor { validity, modseq, .. }) if self.can.qresync => {
                format!(" (QRESYNC ({validity} {modseq}))")
            }
            _ if self.can.condstore => " (CONDSTORE)".to_owned(),
            _ => String::new(),
        };
        self.selected = None;
        if self.is_told != Told::Open {
            self.opened.insert(dir.to_owned());
        }
        let mut selected = Selected {
            dir: dir.to_owned(),
            access,
            validity: 0,
            next: 0,
            modseq: 0,
            exists: 0,
            permanent: Kept::ALL,
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
                        selected.permanent = Kept::of(flags);
                    }
                    _ => {}
                },
                response => see(response),
            }
            Ok(())
        })?;
        self.sound(done, &what)?;
        if access == Access::Change {
            self.note(dir, |folder| folder.kept = Some(selected.permanent.clone()));
        }
        self.selected = Some(selected.clone());
        Ok(selected)
    }

    /// Closes the folder that is open. Nothing goes by that.
    pub(super) fn close(&mut self) -> Result<(), Halt> {
        let Some(selected) = self.selected.take() else { return Ok(()) };
        let mut command = "CLOSE";
        if self.talk.offer.has("UNSELECT") {
            command = "UNSELECT";
        } else if selected.access == Access::Change {
            // Messages that have the mark to be removed would be, with CLOSE.
            match self.select(&selected.dir, Access::Look, None, |_| {}) {
                Ok(_) => self.selected = None,
                // It is not open any more.
                Err(Halt::Refused(_)) => return Ok(()),
                Err(halt) => return Err(halt),
            }
        }
        let done = self.talk.run(command)?.expect(self.talk.place(), "to close a folder");
        done.map(drop).map_err(Halt::Refused)
    }

    /// Fails unless a command was carried out, and everything that was said of it was understood: what is not understood is not nothing.
    pub(super) fn sound(&self, done: Done, what: &str) -> Result<Done, Halt> {
        let done = done.expect(self.talk.place(), what).map_err(Halt::Refused)?;
        if done.clear {
            return Ok(done);
        }
        let text =
            format!("{} was asked {what}, and its answer is not understood", self.talk.place());
        Err(Halt::Refused(ProviderError::new(Code::E_CORRUPT_DATA, text)))
    }

    /// A folder that the server lists.
    pub(super) fn folder(&self, dir: &str) -> Result<&Folder, Halt> {
        self.folders.get(dir).ok_or_else(|| {
            let text = format!("{} does not list the folder {dir} any more", self.talk.place());
            Halt::Refused(ProviderError::new(Code::E_NOT_FOUND, text))
        })
    }

    /// Notes something of a folder, if it is still listed.
    pub(super) fn note(&mut self, dir: &str, change: impl FnOnce(&mut Folder)) {
        if let Some(folder) = self.folders.get_mut(dir) {
            change(folder);
        }
    }

    /// What the server refuses of a folder concerns this folder alone.
    pub(super) fn of_folder<T: Default>(
        &mut self,
        dir: &str,
        done: Result<T, Halt>,
    ) -> Result<T, Halt> {
        match done {
            Err(Halt::Refused(error)) => {
                self.pass_over(dir, &error);
                Ok(T::default())
            }
            done => done,
        }
    }

    /// The server does not open a folder: it is passed over until something changes in it.
    pub(super) fn pass_over(&mut self, dir: &str, error: &ProviderError) {
        self.selected = None;
        let Some(folder) = self.folders.get_mut(dir) else { return };
        (folder.stale, folder.has_new, folder.older) = (false, false, None);
        folder.is_closed = true;
        let (server, name) = (self.talk.place(), folder.name.shown());
        if self.said.insert(format!("{name} {error}")) && self.said.len() < MOST_SAID {
            tracing::warn!(server, folder = name, %error, "a folder is passed over");
        }
    }

    /// Opens a folder unless it is open.
    pub(super) fn open(&mut self, dir: &str, access: Access) -> Result<Selected, Halt> {
        let is_open = |selected: &&Selected| selected.dir == dir && selected.access >= access;
        match self.selected.as_ref().filter(is_open) {
            Some(selected) => Ok(selected.clone()),
            None => self.select(dir, access, None, |_| {}),
        }
    }

    /// The numbers of messages that are found, in their order.
    pub(super) fn search(&mut self, what: &str) -> Result<Vec<u32>, Halt> {
        let returned = if self.can.esearch { "RETURN (ALL) " } else { "" };
        let command = format!("UID SEARCH {returned}{what}");
        let (mut uids, mut is_answered) = (Vec::new(), false);
        let exists = self.selected.as_ref().map_or(0, |selected| selected.exists);
        let done = self.talk.command(&[Part::Text(&command)], |response| {
            match response {
                // A server may name ranges that are larger than the folder.
                Response::Data(Data::Search { numbers, .. })
                    if (uids.len() + numbers.len()) as u64 <= most(exists) =>
                {
                    is_answered = true;
                    uids.extend(numbers);
                }
                Response::Data(Data::Esearch(Esearch { all, .. }))
                    if uids.len() as u64 + all.count() <= most(exists) =>
                {
                    is_answered = true;
                    uids.extend(all.numbers());
                }
                _ => {}
            }
            Ok(())
        })?;
        self.sound(done, "a search")?;
        if !is_answered {
            let text =
                format!("{} gives no answer to a search, or too long a one", self.talk.place());
            return Err(Halt::Refused(ProviderError::new(Code::E_CORRUPT_DATA, text)));
        }
        uids.sort_unstable();
        uids.dedup();
        Ok(uids)
    }

    /// Waits in the Inbox until something may have changed, until woken, or until so much time has passed. A server that ends each wait at
    /// once is not listened to for a while.
    pub(super) fn wait(&mut self, waker: &Waker, most: Duration) -> Result<(), Halt> {
        if self.hasty > MOST_RESTLESS {
            self.hasty = 0;
            waker.wait(most.min(PAUSE));
            waker.was_woken();
            return Ok(());
        }
        let begun = Instant::now();
        let woken = self.wait_once(waker, most)?;
        self.hasty = match woken {
            Woken::ByServer if begun.elapsed() < Duration::from_secs(1) => self.hasty + 1,
            _ => 0,
        };
        Ok(())
    }

    fn wait_once(&mut self, waker: &Waker, most: Duration) -> Result<Woken, Halt> {
        // What rests is looked at when it has rested. So is an Inbox: it is not listened to until then.
        let inboxes = self.folders.values_mut().filter(|folder| folder.name.is_inbox());
        for inbox in inboxes.filter(|inbox| inbox.rests()) {
            inbox.stale = true;
        }
        let rests = self.folders.values().any(|folder| folder.stale && folder.rests());
        let most = if rests { most.min(PAUSE) } else { most };
        let inbox = self.folders.iter().find(|(_, folder)| folder.name.is_inbox());
        let inbox = inbox.filter(|(_, folder)| !folder.is_closed && !folder.rests());
        let inbox = inbox.map(|(dir, _)| dir.clone());
        let Some(inbox) = inbox.filter(|_| self.can.idle || self.is_told != Told::Open) else {
            if self.is_told != Told::Open {
                // Of the open folder it would tell in another way.
                self.close()?;
                if self.ask_about_opened(&mut |_| {})? {
                    return Ok(Woken::ByServer);
                }
            }
            self.talk.listen(waker.as_fd(), most, |_| {})?;
            return Ok(Woken::by(waker));
        };
        // Opened anew, it shows what has changed since it was looked at.
        let selected = self.select(&inbox, Access::Look, None, |_| {});
        let selected = self.of_folder(&inbox, selected.map(Some))?;
        let Some(selected) = selected else { return Ok(Woken::ByServer) };
        if self.folder(&inbox)?.seen != Some(Seen::of(&selected)) {
            self.note(&inbox, |folder| folder.stale = true);
            return Ok(Woken::ByServer);
        }
        let mut changed = false;
        let mut see = |response: &Response<'_>| {
            changed |= matches!(
                response,
                Response::Data(
                    Data::Exists(_) | Data::Expunge(_) | Data::Vanished { .. } | Data::Fetch(_)
                )
            );
        };
        let others_changed = self.ask_about_opened(&mut see)?;
        let mut woken = Woken::ByServer;
        if !others_changed && self.is_current() {
            woken = self.listen(waker, most, &mut see)?;
        }
        if changed {
            self.note(&inbox, |folder| folder.stale = true);
        }
        Ok(woken)
    }

    /// Listens to what the server says in the open folder.
    fn listen(
        &mut self,
        waker: &Waker,
        most: Duration,
        see: &mut impl FnMut(&Response<'_>),
    ) -> Result<Woken, Halt> {
        if self.can.idle {
            let tag = self.talk.begin(&[Part::Text("IDLE")])?;
            if self.talk.may_go_on(see)?.is_some() {
                self.can.idle = false;
                return Ok(Woken::ByServer);
            }
            self.talk.listen(waker.as_fd(), most, &mut *see)?;
            self.talk.send(b"DONE\r\n")?;
            self.talk.finish(&tag, |response| {
                see(response);
                Ok(())
            })?;
        } else {
            self.talk.listen(waker.as_fd(), most, see)?;
        }
        Ok(Woken::by(waker))
    }
}

/// What has ended a wait.
enum Woken {
    /// Another thread of the broker, which wants something.
    ByUs,
    /// The server, or the time is over.
    ByServer,
}

impl Woken {
    fn by(waker: &Waker) -> Self {
        if waker.was_woken() { Self::ByUs } else { Self::ByServer }
    }
}

/// The most numbers that a search may come to: more than the folder has, if others put messages in.
pub(super) fn most(exists: u32) -> u64 {
    u64::from(exists) * 2 + 10_000
}

pub(super) fn set_of(uids: &[u32]) -> Set {
    let mut set = Set::default();
    for uid in uids {
        set.push(*uid);
    }
    set
}
