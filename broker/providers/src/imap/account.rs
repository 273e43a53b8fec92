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

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};
use std::os::fd::AsFd;
use std::time::Duration;

use sundown_core::provider::{Cursor, MirrorChange, ProviderError, Spot};
use sundown_protocol::Code;
use sundown_protocol::folder::{Marks, Role};

use super::conversation::{Conversation, Part};
use super::facts::{self, Described, HEAD};
use super::names::{self, Name, is_only_a_name, role_of, spot};
use super::settings::{Bodies, Sent, Settings};
use super::{Data, Esearch, Fetch, Note, Response, Set, Status};
use crate::mailbox::{Book, Halt, Waker};

/// How many of the newest messages are taken first, and at once.
const NEWEST: usize = 200;

/// How many older messages are taken at once.
const CHUNK: usize = 500;

/// How many bytes of a message are asked for at once.
const PIECE: u64 = 256 << 10;

/// How many bytes of messages are asked for at once, by their sizes.
const AT_ONCE: u64 = 2 << 20;

/// What is longer is not fetched: some server's mistake.
const LONGEST: u64 = 1 << 30;

/// How often the Inbox may be another one each time it is opened before that has a pause.
const MOST_RESTLESS: u32 = 5;

/// That pause.
const PAUSE: Duration = Duration::from_secs(5);

/// The most folders that are shown.
const MOST_FOLDERS: usize = 10_000;

/// The longest name of a folder, in bytes.
const LONGEST_NAME: usize = 1_000;

/// How deep a folder may be in others.
const DEEPEST: usize = 32;

/// Messages that came in the last 90 days are fetched whole, unless the profile says something else; in milliseconds.
const RECENT: u64 = 90 * 24 * 3600 * 1000;

/// With more changed flags than this a folder's rows are compared in one go.
const FEW: usize = 64;

/// What the server can do of what is used here.
// Each is a capability.
#[allow(clippy::struct_excessive_bools)]
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Can {
    pub(super) qresync: bool,
    pub(super) condstore: bool,
    pub(super) uidplus: bool,
    pub(super) moves: bool,
    esearch: bool,
    list_status: bool,
    special_use: bool,
    email_id: bool,
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
    figures: Option<Figures>,
    /// Whether it may have changed since it was looked at.
    pub(super) stale: bool,
    /// Whether there are new messages in it to be taken.
    has_new: bool,
    /// How many messages it had when it was looked at.
    exists: Option<u32>,
    /// Whether the server did not open it.
    is_closed: bool,
    /// The marks that it keeps, once it was open to be changed.
    pub(super) kept: Option<Marks>,
    /// The numbers of messages that the first mirror has still to take, once they were asked for.
    older: Option<Vec<u32>>,
}

/// What a server says of a folder without opening it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Figures {
    messages: Option<u32>,
    next: Option<u32>,
    validity: Option<u32>,
    modseq: Option<u64>,
}

impl Figures {
    fn of(status: &Status<'_>) -> Self {
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
    access: Access,
    pub(super) validity: u32,
    /// Behind all numbers of messages; zero if the server does not say.
    pub(super) next: u32,
    modseq: u64,
    exists: u32,
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
    told: Vec<MirrorChange>,
    /// How often the Inbox was another one than just before.
    restless: u32,
    /// Behind the message whose bytes were fetched last.
    fetched_to: u64,
    /// Whether the list of bytes that are to be fetched was gone through.
    all_fetched: bool,
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

    /// The figures that are asked for of a folder.
    fn items(&self) -> &'static str {
        if self.can.condstore {
            "(MESSAGES UIDNEXT UIDVALIDITY HIGHESTMODSEQ)"
        } else {
            "(MESSAGES UIDNEXT UIDVALIDITY)"
        }
    }

    /// Lists the folders, tells the store of them, and notes which of them may have changed. With `everything` those count, too, in which
    /// changes cannot be seen from outside.
    pub(super) fn survey(&mut self, everything: bool) -> Result<(), Halt> {
        if self.selected.is_some() {
            // Some servers have old figures of the folder that is open.
            self.talk.run("NOOP")?;
        }
        let (mut found, mut figures) = (Vec::new(), BTreeMap::new());
        let mut command = String::from("LIST \"\" \"*\"");
        if self.can.list_status {
            let special = if self.can.special_use { "SPECIAL-USE " } else { "" };
            command += &format!(" RETURN ({special}STATUS {})", self.items());
        } else if self.can.special_use {
            command += " RETURN (SPECIAL-USE)";
        }
        let done = self.talk.command(&[Part::Text(&command)], |response| {
            match response {
                Response::Data(Data::List(list))
                    if found.len() < MOST_FOLDERS && list.name.len() <= LONGEST_NAME =>
                {
                    found.push((
                        Name::of(list),
                        role_of(list),
                        !is_only_a_name(list),
                        list.delimiter,
                    ));
                }
                Response::Data(Data::Status(status)) => {
                    figures.insert(status.name.to_ascii_lowercase(), Figures::of(status));
                }
                _ => {}
            }
            Ok(())
        })?;
        done.expect(self.talk.place(), "a list of the folders")?;
        self.delimiter = found.iter().find_map(|(.., delimiter)| *delimiter);
        let shows = |name: &Name| name.is_inbox() || self.settings.shows(&name.shown());
        let skips_all = self.can.gmail && self.settings.folders.is_empty();
        found.retain(|(name, role, ..)| {
            shows(name)
                && !(skips_all && *role == Some(Role::All))
                && !name.parts.iter().any(String::is_empty)
                && name.parts.len() <= DEEPEST
        });
        if !found.iter().any(|(name, ..)| name.is_inbox()) {
            // Every server has one: what it says is not so.
            let text =
                format!("{} lists no Inbox, so what it lists is not believed", self.talk.place());
            return Err(ProviderError::new(Code::E_CALL_FAILED, text).into());
        }
        let has_roles = found.iter().any(|(_, role, ..)| role.is_some());
        let mut before = std::mem::take(&mut self.folders);
        for (name, role, has_messages, _) in found {
            let role = if name.is_inbox() {
                Some(Role::Inbox)
            } else if has_roles {
                role
            } else {
                name.usual_role()
            };
            let dir = name.dir();
            let known = before.remove(&dir);
            let said = figures.get(&name.wire.to_ascii_lowercase()).copied();
            let (mut stale, mut older, mut has_new, mut exists) =
                (known.is_none(), None, false, None);
            let kept = known.as_ref().and_then(|known| known.kept);
            if let Some(known) = known {
                stale = known.stale || known.figures != said || said.is_none();
                (older, has_new, exists) = (known.older, known.has_new, known.exists);
            }
            stale |= everything && !self.can.condstore;
            let figures = said;
            let folder = Folder {
                name,
                role,
                has_messages,
                figures,
                stale,
                has_new,
                exists,
                is_closed: false,
                kept,
                older,
            };
            self.folders.insert(dir, folder);
        }
        self.tell_folders()?;
        if !self.can.list_status {
            self.ask_figures()?;
        }
        self.pass_over_unchanged()
    }

    /// Tells the store of the folders: of each behind the one that it is in.
    fn tell_folders(&mut self) -> Result<(), Halt> {
        let known = self.book.dirs()?;
        // The first folder with a role has it.
        let mut roles = Vec::new();
        let mut changes = Vec::new();
        for (dir, folder) in &self.folders {
            let role = folder.role.filter(|role| !roles.contains(role));
            roles.extend(role);
            // A part of names that is no folder is one in the store.
            let mut parent = folder.name.parent();
            while let Some(above) = &parent {
                if self.folders.contains_key(above) {
                    break;
                }
                // What is not shown, or was not listed, is passed over.
                parent = above.rsplit_once('.').map(|(above, _)| above.to_owned());
            }
            changes.push(MirrorChange::Folder {
                dir: dir.clone(),
                parent: parent.filter(|parent| parent != "/INBOX"),
                name: folder.name.own(),
                role,
            });
        }
        if self.told != changes {
            for change in &changes {
                self.book.say(change.clone())?;
            }
            self.book.write()?;
            self.told = changes;
        }
        let mut gone: Vec<_> =
            known.iter().rev().filter(|dir| !self.folders.contains_key(*dir)).collect();
        if !gone.is_empty() {
            // Only what two lists lack is gone.
            let listed = self.listed()?;
            gone.retain(|dir| !listed.contains(*dir));
        }
        for dir in gone {
            self.say_gone(dir)?;
        }
        self.book.write()
    }

    /// The folders that the server lists, whether they are shown or not.
    fn listed(&mut self) -> Result<BTreeSet<String>, Halt> {
        let mut listed = BTreeSet::new();
        let settings = self.settings;
        let done = self.talk.command(&[Part::Text("LIST \"\" \"*\"")], |response| {
            if let Response::Data(Data::List(list)) = response {
                let name = Name::of(list);
                if name.is_inbox() || settings.shows(&name.shown()) {
                    listed.insert(name.dir());
                }
            }
            Ok(())
        })?;
        done.expect(self.talk.place(), "a list of the folders")?;
        Ok(listed)
    }

    /// A folder is not there any more, and its messages with it. One that was moved elsewhere is found there.
    fn say_gone(&mut self, dir: &str) -> Result<(), Halt> {
        let mut gone = Vec::new();
        self.book.each_row(dir, |_, name, _| {
            gone.push(name.to_owned());
            Ok(())
        })?;
        for name in gone {
            let spot = Spot { dir: dir.to_owned(), name };
            self.book.say(MirrorChange::Vanished { spot })?;
        }
        self.book.say(MirrorChange::FolderGone { dir: dir.to_owned() })
    }

    fn ask_figures(&mut self) -> Result<(), Halt> {
        let items = self.items();
        let dirs: Vec<_> = self.with_messages().collect();
        for dir in dirs {
            self.go_on()?;
            let wire = self.folders[&dir].name.wire.clone();
            let mut said = None;
            let text = format!(" {items}");
            let parts = [Part::Text("STATUS "), Part::Value(&wire), Part::Text(&text)];
            self.talk.command(&parts, |response| {
                if let Response::Data(Data::Status(status)) = response {
                    said = Some(Figures::of(status));
                }
                Ok(())
            })?;
            let folder = self.folders.get_mut(&dir).expect("it was listed just before");
            folder.stale |= folder.figures != said || said.is_none();
            folder.figures = said;
        }
        Ok(())
    }

    fn with_messages(&self) -> impl Iterator<Item = String> {
        let dirs = self.folders.iter().filter(|(_, folder)| folder.has_messages);
        dirs.map(|(dir, _)| dir.clone()).collect::<Vec<_>>().into_iter()
    }

    /// Folders that are as they were when they were looked at, at an earlier connection.
    fn pass_over_unchanged(&mut self) -> Result<(), Halt> {
        let dirs: Vec<_> = self.with_messages().collect();
        for dir in dirs {
            let folder = &self.folders[&dir];
            let Some(figures) = folder.figures.filter(|_| folder.stale) else { continue };
            let Some(cursor) = self.book.cursor(&dir)? else { continue };
            let same = figures.validity == Some(cursor.validity)
                && figures.next == Some(cursor.next)
                && cursor.modseq > 0
                && figures.modseq == Some(cursor.modseq)
                && figures.messages == Some(cursor.messages);
            if same && let Some(folder) = self.folders.get_mut(&dir) {
                folder.stale = false;
            }
        }
        Ok(())
    }

    /// Whether nothing is to be looked at now.
    pub(super) fn is_current(&self) -> bool {
        self.folders.values().all(|folder| !folder.has_messages || !folder.stale && !folder.has_new)
    }

    /// Looks at every folder that may have changed, and takes what is new.
    pub(super) fn look_around(&mut self) -> Result<(), Halt> {
        let mut dirs: Vec<_> = self.with_messages().collect();
        // What people wait for is in the Inbox.
        dirs.sort_by_key(|dir| !self.folders[dir].name.is_inbox());
        for dir in &dirs {
            if self.folders[dir].stale {
                self.go_on()?;
                self.look(dir)?;
                if self.folders[dir].name.is_inbox() && self.is_first(dir)? {
                    self.take_older(dir, NEWEST)?;
                }
            }
        }
        for dir in &dirs {
            if self.folders[dir].has_new {
                self.go_on()?;
                self.take(dir)?;
            }
        }
        Ok(())
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
    fn pass_over(&mut self, dir: &str, error: &ProviderError) {
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

    /// Looks at a folder: which flags have changed, and which messages are gone.
    fn look(&mut self, dir: &str) -> Result<(), Halt> {
        let cursor = self.book.cursor(dir)?;
        let since = cursor.filter(|cursor| cursor.modseq > 0 && self.can.qresync);
        let (mut gone, mut flags) = (Vec::new(), Vec::new());
        let opened = self.select(dir, Access::Look, since, |response| match response {
            Response::Data(Data::Vanished { uids, .. }) => gone.push(uids.clone()),
            Response::Data(Data::Fetch(fetch)) => flags.extend(flags_of(fetch)),
            _ => {}
        })?;
        let selected = match opened {
            Ok(selected) => selected,
            Err(error) => {
                self.pass_over(dir, &error);
                return Ok(());
            }
        };
        let folder = self.folders.get_mut(dir).expect("it was listed");
        folder.stale = false;
        folder.has_new = false;
        folder.exists = Some(selected.exists);
        if selected.validity == 0 {
            // Without a validity no number of a message means anything later.
            tracing::warn!(
                server = self.talk.place(),
                folder = folder.name.shown(),
                "the server gives no UIDVALIDITY; the folder is not shown"
            );
            return Ok(());
        }
        let Some(cursor) = cursor else { return self.begin_first(dir, &selected) };
        if cursor.validity != selected.validity {
            return self.numbered_anew(dir, &selected);
        }
        if since.is_some() && selected.modseq > 0 {
            for uids in gone {
                self.say_vanished(dir, cursor.validity, &uids)?;
            }
            self.say_flags(dir, &selected, flags)?;
        } else if cursor.modseq > 0 && selected.modseq > 0 && self.can.condstore {
            if cursor.modseq != selected.modseq {
                let flags = self.ask_flags("1:*", Some(cursor.modseq))?;
                self.say_flags(dir, &selected, flags)?;
            }
            let present = self.search("ALL")?;
            self.say_missing(dir, &selected, &cursor, &present)?;
        } else {
            let flags = self.ask_flags("1:*", None)?;
            let present: Vec<_> = flags.iter().map(|(uid, _)| *uid).collect();
            self.say_flags(dir, &selected, flags)?;
            self.say_missing(dir, &selected, &cursor, &present)?;
        }
        self.book.write()?;
        let has_new = selected.next == 0 || selected.next > cursor.next;
        if has_new {
            self.folders.get_mut(dir).expect("it was listed").has_new = true;
            return Ok(());
        }
        self.book.write()?;
        self.reconcile(dir, &selected, cursor)
    }

    /// The first look at a folder. What is in it is taken later, a part at a time.
    fn begin_first(&mut self, dir: &str, selected: &Selected) -> Result<(), Halt> {
        let next = if selected.next > 0 {
            selected.next
        } else {
            self.search("ALL")?.last().map_or(1, |last| last.saturating_add(1))
        };
        let low = if selected.exists == 0 { 1 } else { next };
        let (validity, modseq, messages) = (selected.validity, selected.modseq, selected.exists);
        let cursor = Cursor { validity, next, low, modseq, messages };
        self.book.say(MirrorChange::Cursor { dir: dir.to_owned(), cursor })?;
        self.book.write()
    }

    /// The server has given other numbers to all messages of a folder. Those that are described as before are the same; rows without a
    /// message go only when all have been compared.
    fn numbered_anew(&mut self, dir: &str, selected: &Selected) -> Result<(), Halt> {
        let name = self.folders[dir].name.shown();
        tracing::info!(
            server = self.talk.place(),
            folder = name,
            "the server has numbered the messages anew"
        );
        let uids = self.search("ALL")?;
        for chunk in uids.chunks(CHUNK) {
            self.go_on()?;
            let described = self.describe(&set_of(chunk))?;
            self.say_found(dir, selected.validity, described, false)?;
        }
        self.book.write()?;
        let mut old = Vec::new();
        self.book.each_row(dir, |_, name, _| {
            if names::number(name).is_none_or(|(validity, _)| validity != selected.validity) {
                old.push(name.to_owned());
            }
            Ok(())
        })?;
        for name in old {
            let spot = Spot { dir: dir.to_owned(), name };
            self.book.say(MirrorChange::Vanished { spot })?;
        }
        let next = if selected.next > 0 {
            selected.next
        } else {
            uids.last().map_or(1, |last| last.saturating_add(1))
        };
        let (validity, modseq, messages) = (selected.validity, selected.modseq, selected.exists);
        let cursor = Cursor { validity, next, low: 1, modseq, messages };
        self.book.say(MirrorChange::Cursor { dir: dir.to_owned(), cursor })?;
        self.book.write()
    }

    /// The flags of messages: of all, or of those that have changed since.
    fn ask_flags(&mut self, uids: &str, since: Option<u64>) -> Result<Vec<(u32, Marks)>, Halt> {
        let since = since.map(|modseq| format!(" (CHANGEDSINCE {modseq})")).unwrap_or_default();
        let command = format!("UID FETCH {uids} (UID FLAGS){since}");
        let mut flags = Vec::new();
        let done = self.talk.command(&[Part::Text(&command)], |response| {
            if let Response::Data(Data::Fetch(fetch)) = response {
                flags.extend(flags_of(fetch));
            }
            Ok(())
        })?;
        done.expect(self.talk.place(), "the flags of messages")?;
        flags.sort_unstable_by_key(|(uid, _)| *uid);
        flags.dedup_by_key(|(uid, _)| *uid);
        Ok(flags)
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

    /// Says which known messages have other marks. Those that the folder does not keep stay as they are here.
    fn say_flags(
        &mut self,
        dir: &str,
        selected: &Selected,
        flags: Vec<(u32, Marks)>,
    ) -> Result<(), Halt> {
        let validity = selected.validity;
        let mut changed = Vec::new();
        if flags.len() <= FEW {
            for (uid, there) in flags {
                let known = self.book.marks_of(dir, &names::message(validity, uid))?;
                if let Some(before) = known.filter(|before| *before != there) {
                    changed.push((uid, before, there));
                }
            }
        } else {
            let there: BTreeMap<u32, Marks> = flags.into_iter().collect();
            self.book.each_row(dir, |_, name, before| {
                if let Some((of, uid)) = names::number(name)
                    && of == validity
                    && let Some(there) = there.get(&uid)
                    && before != *there
                {
                    changed.push((uid, before, *there));
                }
                Ok(())
            })?;
        }
        // Marks that are missing there may be such as the folder does not keep, which is known once it was open to be changed.
        let are_missing = |(_, before, there): &(u32, Marks, Marks)| before.0 & !there.0 != 0;
        if self.folders[dir].kept.is_none() && changed.iter().any(are_missing) {
            let _ = self.open(dir, Access::Change)?;
        }
        let kept = self.folders[dir].kept.unwrap_or(Marks(Marks::KNOWN)).0;
        for (uid, before, there) in changed {
            let marks = Marks((there.0 & kept) | (before.0 & !kept & Marks::KNOWN));
            if marks != before {
                self.book.say(MirrorChange::Marked { spot: spot(dir, validity, uid), marks })?;
            }
        }
        Ok(())
    }

    /// Says that messages are gone, as far as they were known: a server may name a range of four billion.
    fn say_vanished(&mut self, dir: &str, validity: u32, uids: &Set) -> Result<(), Halt> {
        for (first, last) in uids.ranges() {
            let (mut after, end) =
                (names::message(validity, first - 1), names::message(validity, *last));
            loop {
                let page = self.book.rows(dir, &after, crate::mailbox::PAGE)?;
                let known: Vec<_> = page
                    .rows
                    .iter()
                    .map(|(name, _)| name)
                    .filter(|name| **name <= end)
                    .cloned()
                    .collect();
                let (found, rows) = (known.len(), page.rows.len());
                for name in known {
                    after.clone_from(&name);
                    let spot = Spot { dir: dir.to_owned(), name };
                    self.book.say(MirrorChange::Vanished { spot })?;
                }
                if found < rows || !page.more {
                    break;
                }
            }
        }
        Ok(())
    }

    /// Says that messages are gone which the server does not list.
    fn say_missing(
        &mut self,
        dir: &str,
        selected: &Selected,
        cursor: &Cursor,
        present: &[u32],
    ) -> Result<(), Halt> {
        let mut missing = Vec::new();
        self.book.each_row(dir, |_, name, _| {
            if let Some((validity, uid)) = names::number(name)
                && validity == selected.validity
                && uid < cursor.next
                && present.binary_search(&uid).is_err()
            {
                missing.push(uid);
            }
            Ok(())
        })?;
        for uid in missing {
            let spot = spot(dir, selected.validity, uid);
            self.book.say(MirrorChange::Vanished { spot })?;
        }
        Ok(())
    }

    /// Takes the messages that are new in a folder.
    fn take(&mut self, dir: &str) -> Result<(), Halt> {
        let Some(cursor) = self.book.cursor(dir)? else { return Ok(()) };
        let selected = match self.open(dir, Access::Look)? {
            Ok(selected) => selected,
            Err(error) => {
                self.pass_over(dir, &error);
                return Ok(());
            }
        };
        self.folders.get_mut(dir).expect("it was listed").has_new = false;
        if selected.validity != cursor.validity {
            self.folders.get_mut(dir).expect("it was listed").stale = true;
            return Ok(());
        }
        let few = selected.next.checked_sub(cursor.next).filter(|few| (*few as usize) <= CHUNK);
        let uids = if few.is_some() {
            (cursor.next..selected.next).collect()
        } else {
            let found = self.search(&format!("UID {}:*", cursor.next))?;
            found.into_iter().filter(|uid| *uid >= cursor.next).collect::<Vec<_>>()
        };
        let is_news = self.folders[dir].name.is_inbox();
        let mut now = cursor;
        for chunk in uids.chunks(CHUNK) {
            self.go_on()?;
            let mut described = self.describe(&set_of(chunk))?;
            described.sort_unstable_by_key(|described| described.uid);
            let last = chunk.last().copied().unwrap_or(now.next);
            self.say_found(dir, cursor.validity, described, is_news)?;
            now.next = last.saturating_add(1);
            self.book.say(MirrorChange::Cursor { dir: dir.to_owned(), cursor: now })?;
            self.book.write()?;
        }
        now.next = now.next.max(selected.next);
        self.reconcile(dir, &selected, now)
    }

    /// Compares the number of messages with that of the store's rows, once both are to be equal; and the messages one by one if they are not.
    /// A server that has shown a part of a folder for a moment, or all of it as empty, gets its messages back by that.
    fn reconcile(&mut self, dir: &str, selected: &Selected, before: Cursor) -> Result<(), Halt> {
        let (modseq, messages) = (selected.modseq, selected.exists);
        let cursor = Cursor { modseq, messages, ..before };
        if cursor != before || modseq == 0 {
            if before.low <= 1 && self.book.rows_in(dir)? != u64::from(messages) {
                self.compare_all(dir, selected, &cursor)?;
            }
            self.book.say(MirrorChange::Cursor { dir: dir.to_owned(), cursor })?;
        }
        self.book.write()
    }

    fn compare_all(&mut self, dir: &str, selected: &Selected, cursor: &Cursor) -> Result<(), Halt> {
        let present = self.search("ALL")?;
        self.say_missing(dir, selected, cursor, &present)?;
        self.book.write()?;
        let mut unknown: Vec<_> = present.into_iter().filter(|uid| *uid < cursor.next).collect();
        self.book.write()?;
        let mut known = Vec::new();
        self.book.each_row(dir, |_, name, _| {
            known.extend(names::number(name).filter(|(of, _)| *of == selected.validity));
            Ok(())
        })?;
        unknown.retain(|uid| known.binary_search(&(selected.validity, *uid)).is_err());
        for chunk in unknown.chunks(CHUNK) {
            self.go_on()?;
            let described = self.describe(&set_of(chunk))?;
            self.say_found(dir, selected.validity, described, false)?;
        }
        Ok(())
    }

    /// Whether the first mirror of a folder is not through.
    fn is_first(&mut self, dir: &str) -> Result<bool, Halt> {
        Ok(self.book.cursor(dir)?.is_some_and(|cursor| cursor.low > 1))
    }

    /// Takes a part of the messages of a folder that is mirrored for the first time. Whether there are more.
    fn take_older(&mut self, dir: &str, most: usize) -> Result<bool, Halt> {
        let Some(cursor) = self.book.cursor(dir)?.filter(|cursor| cursor.low > 1) else {
            return Ok(false);
        };
        let selected = match self.open(dir, Access::Look)? {
            Ok(selected) => selected,
            Err(error) => {
                self.pass_over(dir, &error);
                return Ok(false);
            }
        };
        if selected.validity != cursor.validity {
            self.folders.get_mut(dir).expect("it was listed").stale = true;
            return Ok(false);
        }
        let mut older = match self.folders.get_mut(dir).expect("it was listed").older.take() {
            Some(older) => older,
            None => self.search(&format!("UID 1:{}", cursor.low - 1))?,
        };
        older.retain(|uid| *uid < cursor.low);
        let chunk = older.split_off(older.len().saturating_sub(most));
        let low = if older.is_empty() { 1 } else { chunk.first().copied().unwrap_or(1) };
        if !chunk.is_empty() {
            let mut described = self.describe(&set_of(&chunk))?;
            described.sort_unstable_by_key(|described| std::cmp::Reverse(described.uid));
            self.say_found(dir, cursor.validity, described, false)?;
        }
        let cursor = Cursor { low, ..cursor };
        self.book.say(MirrorChange::Cursor { dir: dir.to_owned(), cursor })?;
        self.book.write()?;
        let more = low > 1;
        self.folders.get_mut(dir).expect("it was listed").older = more.then_some(older);
        Ok(more)
    }

    /// What the server says of messages.
    pub(super) fn describe(&mut self, uids: &Set) -> Result<Vec<Described>, Halt> {
        let id = match (self.can.email_id, self.can.gmail) {
            (true, _) => "EMAILID ",
            (false, true) => "X-GM-MSGID ",
            (false, false) => "",
        };
        let command = format!("UID FETCH {uids} (UID FLAGS INTERNALDATE RFC822.SIZE {id}{HEAD})");
        let (mut found, mut unread) = (Vec::new(), 0);
        let done = self.talk.command(&[Part::Text(&command)], |response| {
            if let Response::Data(Data::Fetch(fetch)) = response {
                match Described::of(fetch) {
                    // A server may speak of messages that it was not asked for.
                    Some(described) if !uids.contains(described.uid) => {}
                    Some(described) => found.push(described),
                    // Another client's flags may be told of in between.
                    None if fetch.sections.is_empty() => {}
                    None => unread += 1,
                }
            }
            Ok(())
        })?;
        done.expect(self.talk.place(), "what messages there are")?;
        if unread > 0 {
            tracing::warn!(
                server = self.talk.place(),
                unread,
                "messages are described in a way that is not understood; they are not shown"
            );
        }
        Ok(found)
    }

    fn say_found(
        &mut self,
        dir: &str,
        validity: u32,
        described: Vec<Described>,
        news: bool,
    ) -> Result<(), Halt> {
        let recent = std::time::SystemTime::now()
            .duration_since(std::time::UNIX_EPOCH)
            .map_or(0, |now| now.as_millis() as u64)
            .saturating_sub(RECENT);
        for Described { uid, marks, facts, .. } in described {
            if marks.contains(Marks::DELETED) && !self.can.uidplus {
                // It was deleted here or elsewhere, and cannot be removed alone.
                continue;
            }
            let fetched = match self.settings.bodies {
                Bodies::All => true,
                Bodies::Recent => facts.received >= recent,
                Bodies::OnDemand => false,
            };
            let spot = spot(dir, validity, uid);
            let mut changes = Vec::with_capacity(2);
            if fetched {
                changes.push(MirrorChange::Fetch { spot: spot.clone(), wanted: true });
                self.all_fetched = false;
                self.fetched_to = 0;
            }
            let facts = Box::new(facts);
            changes.insert(0, MirrorChange::Found { spot, marks, news, facts });
            self.book.say_all(changes)?;
        }
        Ok(())
    }

    /// How many messages the server has in the folders that are shown, as far as it says so.
    pub(super) fn messages(&self) -> u64 {
        let shown = self.folders.values().filter(|folder| folder.has_messages);
        shown.map(|folder| u64::from(folder.exists.unwrap_or_default())).sum()
    }

    /// Whether there is more to take or to fetch.
    pub(super) fn is_behind(&mut self) -> Result<bool, Halt> {
        if !self.all_fetched {
            return Ok(true);
        }
        let dirs: Vec<_> = self.with_messages().collect();
        for dir in dirs {
            if !self.folders[&dir].is_closed && self.is_first(&dir)? {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Fetches a message that somebody reads. An error is about this message.
    pub(super) fn fetch_now(
        &mut self,
        record: u128,
    ) -> Result<std::result::Result<(), ProviderError>, Halt> {
        let refused = |code, text: &str| Ok(Err(ProviderError::new(code, text)));
        let Some((spot, _)) = self.book.place_of(record)? else {
            return refused(Code::E_NOT_FOUND, "the message is not one of this account");
        };
        let Some((validity, uid)) = names::number(&spot.name) else {
            return refused(Code::E_NOT_FOUND, "the store names no message of this account");
        };
        if !self.folders.contains_key(&spot.dir) {
            return refused(Code::E_NOT_FOUND, "the folder of the message is not at the server");
        }
        match self.open(&spot.dir, Access::Look)? {
            Err(error) => return Ok(Err(error)),
            Ok(selected) if selected.validity != validity => {
                self.folders.get_mut(&spot.dir).expect("it was listed").stale = true;
                return refused(
                    Code::E_BUSY,
                    "the server has numbered the folder anew; read the message again",
                );
            }
            Ok(_) => {}
        }
        let fetched = self.fetch(&spot.dir, validity, &Set::of(uid, uid))?;
        if fetched == 0 {
            self.folders.get_mut(&spot.dir).expect("it was listed").stale = true;
            return refused(Code::E_NOT_FOUND, "the message is not at the server any more");
        }
        Ok(Ok(()))
    }

    /// Does a part of what has time: older messages, bytes. Whether there was anything to do.
    pub(super) fn work(&mut self) -> Result<bool, Halt> {
        if self.fetch_some()? {
            return Ok(true);
        }
        let dirs: Vec<_> = self.with_messages().collect();
        for dir in dirs {
            let folder = &self.folders[&dir];
            if !folder.stale && !folder.is_closed && self.is_first(&dir)? {
                self.take_older(&dir, CHUNK)?;
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Fetches the bytes of some messages. Whether there were any to fetch.
    fn fetch_some(&mut self) -> Result<bool, Halt> {
        if self.all_fetched {
            return Ok(false);
        }
        let (rows, next) = self.book.fetches(self.fetched_to)?;
        let mut wanted: BTreeMap<(String, u32), Vec<(u32, u64)>> = BTreeMap::new();
        for (spot, size) in &rows {
            if let Some((validity, uid)) = names::number(&spot.name)
                && self.folders.contains_key(&spot.dir)
            {
                wanted.entry((spot.dir.clone(), validity)).or_default().push((uid, *size));
            }
        }
        for ((dir, validity), uids) in wanted {
            self.go_on()?;
            match self.open(&dir, Access::Look)? {
                Ok(selected) if selected.validity == validity => {}
                Ok(_) => {
                    self.folders.get_mut(&dir).expect("it was listed").stale = true;
                    continue;
                }
                Err(error) => {
                    self.pass_over(&dir, &error);
                    continue;
                }
            }
            let mut together = Set::default();
            let mut bytes = 0;
            for (uid, size) in uids {
                if bytes + size > AT_ONCE && !together.is_empty() {
                    self.fetch(&dir, validity, &std::mem::take(&mut together))?;
                    bytes = 0;
                }
                together.push(uid);
                bytes += size.min(PIECE);
            }
            self.fetch(&dir, validity, &together)?;
        }
        match next {
            Some(next) => self.fetched_to = next,
            None => self.all_fetched = true,
        }
        Ok(!rows.is_empty())
    }

    /// Fetches messages: the beginning of each, and the rest of those that are longer.
    pub(super) fn fetch(&mut self, dir: &str, validity: u32, uids: &Set) -> Result<usize, Halt> {
        if uids.is_empty() {
            return Ok(0);
        }
        let command = format!("UID FETCH {uids} (UID BODY.PEEK[]<0.{PIECE}>)");
        let (mut longer, mut fetched) = (Vec::new(), 0);
        let Self { talk, book, .. } = self;
        let done = talk.command(&[Part::Text(&command)], |response| {
            if let Some((uid, bytes)) = piece_of(response).filter(|(uid, _)| uids.contains(*uid)) {
                let last = (bytes.len() as u64) < PIECE;
                fetched += 1;
                if !last {
                    longer.push(uid);
                }
                let spot = spot(dir, validity, uid);
                book.say_all(vec![MirrorChange::Bytes { spot, first: true, bytes, last }])?;
            }
            Ok(())
        })?;
        done.expect(self.talk.place(), "messages")?;
        for uid in longer {
            // The pieces of one message come behind each other.
            self.book.write()?;
            let mut from = PIECE;
            loop {
                self.go_on()?;
                if from > LONGEST {
                    let text = "a message has no end; it is not fetched";
                    tracing::warn!(server = self.talk.place(), uid, "{text}");
                    let spot = spot(dir, validity, uid);
                    self.book.say(MirrorChange::Fetch { spot, wanted: false })?;
                    break;
                }
                let bytes = self.piece(uid, from)?;
                let Some(bytes) = bytes else { break };
                let length = bytes.len() as u64;
                let (spot, last) = (spot(dir, validity, uid), length < PIECE);
                self.book.say_all(vec![MirrorChange::Bytes { spot, first: false, bytes, last }])?;
                self.book.write()?;
                if last {
                    break;
                }
                from += length;
            }
        }
        self.book.write()?;
        Ok(fetched)
    }

    fn piece(&mut self, uid: u32, from: u64) -> Result<Option<Vec<u8>>, Halt> {
        let command = format!("UID FETCH {uid} (UID BODY.PEEK[]<{from}.{PIECE}>)");
        let mut found = None;
        let done = self.talk.command(&[Part::Text(&command)], |response| {
            if let Some((of, bytes)) = piece_of(response)
                && of == uid
            {
                found = Some(bytes);
            }
            Ok(())
        })?;
        done.expect(self.talk.place(), "a part of a message")?;
        Ok(found)
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

fn flags_of(fetch: &Fetch<'_>) -> Option<(u32, Marks)> {
    let flags: &[Cow<'_, [u8]>] = fetch.flags.as_deref()?;
    Some((fetch.uid?, facts::marks(flags)))
}

/// The bytes of a message that a response has.
fn piece_of(response: &Response<'_>) -> Option<(u32, Vec<u8>)> {
    let Response::Data(Data::Fetch(fetch)) = response else { return None };
    let section = fetch.sections.iter().find(|section| section.name.is_empty())?;
    Some((fetch.uid?, section.bytes.as_deref()?.to_vec()))
}
