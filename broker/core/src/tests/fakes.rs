//! Providers in memory: stores that keep what is written, transports that do what their script says, address books.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet, VecDeque};

use sundown_protocol::folder::{
    Bookmark, ContentsRow, Direction, Filter, Flags, FolderRow, Key, Marks, Sort,
};
use sundown_protocol::notification::FolderChange;
use sundown_protocol::reply::{AddressRow, MessageRow, Place, SubmissionState, Synced};
use sundown_protocol::request::{AddressAction, Folder, SettingChange};
use sundown_protocol::{Code, EntryId};

use crate::provider::{
    Action, AddressCall, Dsn, KeptClock, MailboxCall, MessageContent, Mirror, MirrorChange, News,
    Onward, Outcome, Pending, ProviderAnswer, ProviderCall, ProviderError, ProviderType,
    RecipientResult, Spot, StoreChange, StoreFacts, StoreRead, StoreWrite, StoredDsn, Submission,
    Transmission, TransportCall, TransportFacts, Wanted,
};

pub(super) type Answer = Result<ProviderAnswer, ProviderError>;

pub(super) fn error(code: Code) -> ProviderError {
    ProviderError::new(code, "as the script says")
}

/// A message in a fake store.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Message {
    pub(super) seq: u64,
    pub(super) folder: Folder,
    pub(super) bytes: Vec<u8>,
    pub(super) recovered: bool,
    pub(super) flags: Flags,
    pub(super) received: u64,
    /// Where its mailbox has it.
    pub(super) spot: Option<Spot>,
}

/// A store that outlives brokers.
#[derive(Debug, Clone, Default)]
pub(super) struct Store {
    pub(super) uid: u32,
    /// How often it is logged on to.
    pub(super) logons: i64,
    pub(super) messages: BTreeMap<u128, Message>,
    /// Whether its mailbox is to take what was sent.
    pub(super) hands_sent: bool,
    /// Messages whose bytes are at a server.
    pub(super) elsewhere: BTreeSet<u128>,
    /// Folders besides those of every store: what each is in, and its name.
    pub(super) folders: BTreeMap<Folder, (Option<Folder>, String)>,
    /// Folders made so far: a number is not used again.
    made_folders: u32,
    /// The folders of a mailbox's directories.
    dirs: BTreeMap<String, Folder>,
    /// Messages that were changed here since the store's mailbox looked last.
    pub(super) pending: BTreeSet<u128>,
    pub(super) submissions: BTreeMap<u128, Submission>,
    pub(super) uploads: HashMap<u64, Vec<u8>>,
    pub(super) settings: HashMap<(String, String), String>,
    /// How many recipients each update has brought.
    pub(super) written: Vec<usize>,
    /// Records of delivery status notifications, and the addresses each one names.
    pub(super) notices: Vec<(u128, Vec<String>)>,
    /// What each of them says of its recipients.
    pub(super) actions: Vec<Vec<Action>>,
    /// Which calls fail, by name, how often and with what.
    pub(super) failures: HashMap<&'static str, VecDeque<Code>>,
    /// Which calls fail without a word of whether they were done.
    pub(super) unknown: HashMap<&'static str, VecDeque<Code>>,
    /// Whether its files were removed under it.
    pub(super) lost: bool,
    /// Whether its disk has failed: it takes nothing more until it is closed and opened again.
    pub(super) disk_failed: bool,
    /// How often what is in a lost store cannot be saved when it is to be closed.
    pub(super) unsaved: usize,
    /// Every state each submission was ever stored in.
    pub(super) history: Vec<(u128, SubmissionState)>,
    /// Its clock.
    pub(super) clock: KeptClock,
    made: u64,
    /// Submissions so far: the order of the queue is theirs alone.
    queued: u64,
}

impl Store {
    pub(super) fn new(uid: u32) -> Self {
        Self { uid, ..Self::default() }
    }

    pub(super) fn scripted(&mut self, call: &'static str) -> Option<ProviderError> {
        if self.lost {
            return Some(error(Code::E_END_OF_SESSION).of_lost_store());
        }
        if self.disk_failed && call != "Logoff" {
            return Some(error(Code::E_DISK_ERROR).of_failed_store());
        }
        let next = |of: &mut HashMap<_, VecDeque<_>>| of.get_mut(call)?.pop_front().map(error);
        let unknown = next(&mut self.unknown).map(ProviderError::effect_unknown);
        unknown.or_else(|| next(&mut self.failures))
    }

    /// A lost store is closed by the last one, once it is saved; the next logon finds what is under its name then.
    pub(super) fn logoff(&mut self) -> Answer {
        if self.lost && self.logons == 1 && self.unsaved > 0 {
            self.unsaved -= 1;
            return Err(error(Code::E_NOT_ENOUGH_DISK).of_lost_store());
        }
        self.logons -= 1;
        if self.lost && self.logons == 0 {
            *self = Self::new(self.uid + 1_000);
        }
        self.scripted("Logoff").map_or(Ok(ProviderAnswer::Done), Err)
    }

    pub(super) fn logon(&mut self) -> Answer {
        if let Some(error) = self.scripted("Logon") {
            return Err(error);
        }
        self.logons += 1;
        Ok(self.facts())
    }

    /// What it says when it is opened.
    pub(super) fn facts(&self) -> ProviderAnswer {
        let mut queue = [0; 9];
        for submission in self.submissions.values().filter(|s| !s.state().is_final()) {
            queue[submission.state() as usize] += 1;
        }
        let no_mail = self.submissions.values().filter(|s| s.no_mail && !s.state().is_final());
        let no_mail = no_mail.count() as u64;
        ProviderAnswer::StoreOpened(StoreFacts {
            uid: self.uid,
            queue,
            no_mail,
            damage: None,
            clock: self.clock,
        })
    }

    /// Puts a submission there as an earlier broker left it.
    pub(super) fn leave(&mut self, mut submission: Submission) {
        self.made += 1;
        self.queued += 1;
        submission.order = self.queued;
        let message = Message {
            seq: self.made,
            folder: Folder::OUTBOX,
            bytes: b"left".to_vec(),
            recovered: false,
            flags: Flags::default(),
            received: 0,
            spot: None,
        };
        self.messages.insert(submission.record, message);
        self.submissions.insert(submission.record, submission);
    }

    pub(super) fn write(&mut self, call: &'static str, write: StoreWrite) -> Answer {
        assert!(self.logons > 0, "{call} of a store that is closed");
        if let Some(error) = self.scripted(call) {
            return Err(error);
        }
        match write {
            StoreWrite::Append { upload, bytes } => {
                let all = self.uploads.entry(upload).or_default();
                all.extend(bytes);
                Ok(ProviderAnswer::Appended(all.len() as u64))
            }
            StoreWrite::Discard { upload } => {
                self.uploads.remove(&upload);
                Ok(ProviderAnswer::Done)
            }
            StoreWrite::Submit { submission, content, .. } => self.submit(*submission, content),
            StoreWrite::Save { record, folder, content, flags, recovered, now } => {
                self.save(record, folder, content, (flags, recovered, now))
            }
            StoreWrite::Copy { record, .. } if self.elsewhere.contains(&record) => {
                Err(error(Code::E_OFFLINE).of_other_bytes())
            }
            StoreWrite::Copy { record, copy, to } => self.copy(record, copy, to),
            StoreWrite::Move { record, to } => self.move_to(record, to),
            StoreWrite::SetFlags { record, add, remove } => self.set_flags(record, &add, &remove),
            StoreWrite::MakeFolder { parent, name } => self.make_folder(parent, name),
            StoreWrite::RenameFolder { folder, name } => self.rename_folder(folder, name),
            StoreWrite::RemoveFolder { folder } => self.remove_folder(folder),
            StoreWrite::Mirror(mirror) => Ok(ProviderAnswer::Mirrored(self.mirror(*mirror))),
            StoreWrite::Update(update) => {
                let record = update.submission.record;
                let state = update.state;
                self.history.push((record, state));
                let Some(stored) = self.submissions.get_mut(&record) else {
                    return Err(error(Code::E_NOT_IN_QUEUE));
                };
                self.written.push(update.submission.recipients.len());
                let mut recipients = stored.recipients.clone();
                for (place, now) in update.recipients() {
                    let before = std::mem::replace(&mut recipients[place], now.clone());
                    let kept = !before.state.is_final() || before.state == now.state;
                    assert!(kept, "a final recipient changes: {before:?} {now:?}");
                }
                *stored = Submission {
                    order: stored.order,
                    size: stored.size,
                    subject: stored.subject.clone(),
                    recipients,
                    ..update.submission
                };
                assert_eq!(stored.state(), state, "the state is that of all recipients");
                let told = |notice: &Dsn| {
                    let told = notice.told.iter();
                    told.map(|(r, _)| stored.recipients[*r].address.clone()).collect::<Vec<_>>()
                };
                let told = update.notice.as_deref().map(told);
                let folder = match state {
                    SubmissionState::Sent | SubmissionState::Bounced => Some(Folder::SENT),
                    SubmissionState::Aborted => Some(Folder::DRAFTS),
                    _ => None,
                };
                let message = self.messages.get_mut(&record).filter(|m| m.folder == Folder::OUTBOX);
                let moved = folder.filter(|_| message.is_some());
                if let (Some(folder), Some(message)) = (folder, message) {
                    message.folder = folder;
                }
                let notice = update
                    .notice
                    .zip(told)
                    .map(|(notice, told)| Box::new(self.tell(*notice, told)));
                let pending = self.hands_sent && moved == Some(Folder::SENT);
                Ok(ProviderAnswer::Updated { moved, notice, pending })
            }
            StoreWrite::Delete { record } => {
                let Some(message) = self.messages.get_mut(&record) else {
                    return Err(error(Code::E_NOT_FOUND));
                };
                let from = message.folder;
                self.pending.insert(record);
                if from == Folder::DELETED {
                    self.messages.remove(&record);
                    return Ok(ProviderAnswer::Removed { from, to: None });
                }
                message.folder = Folder::DELETED;
                Ok(ProviderAnswer::Removed { from, to: Some(Folder::DELETED) })
            }
            StoreWrite::DeleteFrom { record, from } => {
                match self.messages.get(&record) {
                    Some(message) if message.folder == from => {}
                    _ => return Err(error(Code::E_NOT_FOUND)),
                }
                self.write(call, StoreWrite::Delete { record })
            }
            StoreWrite::Setting { section, name, change } => {
                let key = (section, name);
                Ok(ProviderAnswer::Setting(match change {
                    SettingChange::Set(value) => {
                        self.settings.insert(key, value.clone());
                        Some(value)
                    }
                    _ => self.settings.remove(&key),
                }))
            }
            // One at a time, so that every flush takes several slices.
            StoreWrite::Hasten { profile, uid, after, now } => {
                let waits = |s: &&mut Submission| {
                    s.state() == SubmissionState::Deferred
                        && s.due > now
                        && s.order > after
                        && profile.as_ref().is_none_or(|p| *p == s.profile)
                        && uid.is_none_or(|uid| uid == s.uid)
                };
                let first = self.submissions.values_mut().filter(waits).min_by_key(|s| s.order);
                let next = first.map(|s| {
                    s.due = now;
                    s.order
                });
                Ok(ProviderAnswer::Hastened { found: u64::from(next.is_some()), next })
            }
            StoreWrite::Clock(kept) => {
                assert!(self.clock.ran <= kept.ran, "the store's clock goes back");
                self.clock = kept;
                Ok(ProviderAnswer::Done)
            }
            StoreWrite::Seen { .. } | StoreWrite::Flush => Ok(ProviderAnswer::Done),
        }
    }

    fn take(&mut self, content: MessageContent) -> Result<Vec<u8>, ProviderError> {
        match content {
            MessageContent::Inline(bytes) => Ok(bytes),
            MessageContent::Uploaded(upload) => {
                self.uploads.remove(&upload).ok_or_else(|| error(Code::E_INVALID_PARAMETER))
            }
        }
    }

    fn enter(&mut self, record: u128, bytes: Vec<u8>, folder: Folder, recovered: bool) {
        self.made += 1;
        let (seq, flags) = (self.made, Flags::default());
        let (received, spot) = (0, None);
        let message = Message { seq, folder, bytes, recovered, flags, received, spot };
        self.messages.insert(record, message);
    }

    /// Keeps a notification, and sends it on.
    fn tell(&mut self, notice: Dsn, told: Vec<String>) -> StoredDsn {
        let Dsn { record, onward, told: actions } = notice;
        if !self.messages.contains_key(&record) {
            self.notices.push((record, told));
            self.actions.push(actions.into_iter().map(|(_, action)| action).collect());
        }
        self.enter(record, b"notice".to_vec(), Folder::INBOX, false);
        let (forwarded, text) = match onward {
            Onward::Nowhere => (None, None),
            Onward::Copy(submission) => (Some((submission, &b"notice"[..])), None),
            Onward::More(submission) => (Some((submission, &b"there are more"[..])), None),
            Onward::Text => (None, Some(b"notice".to_vec())),
        };
        let forwarded = forwarded.map(|(submission, text)| {
            let content = MessageContent::Inline(text.to_vec());
            let Ok(ProviderAnswer::Submitted { submission, .. }) =
                self.submit(*submission, content)
            else {
                panic!("it is submitted")
            };
            submission
        });
        let (from, subject) = ("MAILER-DAEMON".into(), "not delivered".into());
        StoredDsn { record, forwarded, text, from, subject }
    }

    fn submit(&mut self, submission: Submission, content: MessageContent) -> Answer {
        let record = submission.record;
        if let Some(first) = self.submissions.get(&record) {
            let submission = Box::new(first.clone());
            return Ok(ProviderAnswer::Submitted { submission, new: false });
        }
        let bytes = self.take(content)?;
        let size = bytes.len() as u64;
        self.enter(record, bytes, Folder::OUTBOX, false);
        self.queued += 1;
        let submission = Submission { order: self.queued, size, ..submission };
        self.history.push((record, submission.state()));
        self.submissions.insert(record, submission.clone());
        Ok(ProviderAnswer::Submitted { submission: Box::new(submission), new: true })
    }

    fn save(
        &mut self,
        record: u128,
        folder: Folder,
        content: MessageContent,
        (flags, recovered, received): (Flags, bool, u64),
    ) -> Answer {
        let entry = EntryId { store: self.uid, record };
        let place = |folder| Place { entry, folder };
        if let Some(message) = self.messages.get(&record) {
            return Ok(ProviderAnswer::Saved { place: place(message.folder), new: false });
        }
        self.has_folder(folder)?;
        let bytes = self.take(content)?;
        self.enter(record, bytes, folder, recovered);
        let message = self.messages.get_mut(&record).expect("entered just before");
        (message.flags, message.received) = (flags, received);
        // A draft of this broker stays here.
        if folder != Folder::DRAFTS {
            self.pending.insert(record);
        }
        Ok(ProviderAnswer::Saved { place: place(folder), new: true })
    }

    pub(super) fn read(&mut self, call: &'static str, question: StoreRead) -> Answer {
        if let Some(error) = self.scripted(call) {
            return Err(error);
        }
        match question {
            StoreRead::List { folder, after, limit } => {
                let inside = |(_, m): &(&u128, &Message)| m.folder == folder && m.seq > after;
                let mut rows: Vec<_> = self.messages.iter().filter(inside).collect();
                rows.sort_by_key(|(_, m)| m.seq);
                let next = rows.get(limit as usize - 1).filter(|_| rows.len() > limit as usize);
                let next = next.map(|(_, m)| m.seq);
                let row = |(record, message): (&u128, &Message)| MessageRow {
                    entry: EntryId { store: self.uid, record: *record },
                    subject: String::new(),
                    from: String::new(),
                    to: String::new(),
                    size: message.bytes.len() as u64,
                    received: 0,
                    recovered: message.recovered,
                };
                let rows = rows.into_iter().take(limit as usize).map(row).collect();
                Ok(ProviderAnswer::Messages { rows, next })
            }
            StoreRead::Folders { after, limit } => Ok(self.list_folders(after, limit as usize)),
            StoreRead::FindFolder { folder } => {
                self.has_folder(folder)?;
                let rows = vec![self.folder_row(folder)];
                Ok(ProviderAnswer::Folders { rows, next: None })
            }
            StoreRead::Contents { folder, sort, only, after, limit } => {
                self.has_folder(folder)?;
                Ok(self.contents(folder, (sort, only), after.as_ref(), limit as usize))
            }
            StoreRead::Search { words, folder, after, limit } => {
                Ok(self.search(&words, folder, after, limit as usize))
            }
            StoreRead::Mirrored { dir, after, limit, .. } => {
                Ok(self.mirrored(&dir, &after, limit as usize))
            }
            StoreRead::Directories { after, limit, .. } => {
                Ok(self.directories(after.as_deref(), limit as usize))
            }
            StoreRead::ChangedFolders { .. } => Ok(ProviderAnswer::ChangedFolders(Vec::new())),
            StoreRead::Pending { after, limit, .. } => {
                Ok(self.what_is_pending(after, limit as usize))
            }
            StoreRead::Cursor { .. } => Ok(ProviderAnswer::Cursor(None)),
            StoreRead::Fetches { .. } | StoreRead::Lies { .. } => {
                Ok(ProviderAnswer::Fetches { rows: Vec::new(), next: None })
            }
            StoreRead::Tally { .. } => Ok(ProviderAnswer::Tally(crate::provider::Tally::default())),
            StoreRead::Find { record } => match self.messages.get(&record) {
                Some(message) => Ok(ProviderAnswer::Found {
                    folder: message.folder,
                    size: message.bytes.len() as u64,
                }),
                None => Err(error(Code::E_NOT_FOUND)),
            },
            StoreRead::Piece { record, .. } if self.elsewhere.contains(&record) => {
                Err(error(Code::E_OFFLINE).of_other_bytes())
            }
            StoreRead::Piece { record, offset, limit } => match self.messages.get(&record) {
                Some(message) => {
                    let rest = message.bytes.iter().skip(offset as usize);
                    Ok(ProviderAnswer::Piece {
                        size: message.bytes.len() as u64,
                        bytes: rest.take(limit as usize).copied().collect(),
                        unread_notice: false,
                    })
                }
                None => Err(error(Code::E_NOT_FOUND)),
            },
            StoreRead::Setting { section, name } => {
                Ok(ProviderAnswer::Setting(self.settings.get(&(section, name)).cloned()))
            }
            StoreRead::Due { after, limit } => {
                use SubmissionState::{Deferred, Queued, Transmitting, Unknown};
                let due = |s: &&Submission| {
                    matches!(s.state(), Queued | Transmitting | Deferred | Unknown)
                        && after.is_none_or(|after| (s.due, s.order) > after)
                };
                let mut rows: Vec<_> = self.submissions.values().filter(due).collect();
                rows.sort_by_key(|s| (s.due, s.order));
                let more = rows.len() > limit as usize;
                let submissions = rows.into_iter().take(limit as usize).cloned().collect();
                Ok(ProviderAnswer::Due { submissions, more, damaged: 0 })
            }
            StoreRead::Queue { all, after, limit } => {
                let hidden = [SubmissionState::Sent, SubmissionState::Aborted];
                let listed =
                    |s: &&Submission| s.order > after && (all || !hidden.contains(&s.state()));
                let mut rows: Vec<_> = self.submissions.values().filter(listed).collect();
                rows.sort_by_key(|s| s.order);
                let next = rows.get(limit as usize - 1).filter(|_| rows.len() > limit as usize);
                let next = next.map(|s| s.order);
                let rows = rows.into_iter().take(limit as usize).cloned().collect();
                Ok(ProviderAnswer::Queue { rows, next })
            }
            StoreRead::Oldest => {
                let open = self.submissions.values().filter(|s| !s.state().is_final());
                Ok(ProviderAnswer::Oldest(open.map(|s| s.submitted).min()))
            }
            StoreRead::Submission { record } => match self.submissions.get(&record) {
                Some(found) => Ok(ProviderAnswer::Queue { rows: vec![found.clone()], next: None }),
                None => Err(error(Code::E_NOT_IN_QUEUE)),
            },
        }
    }
}

/// Folders, flags, and what a mailbox has.
impl Store {
    fn has_folder(&self, folder: Folder) -> Result<(), ProviderError> {
        let known = folder.built_in().is_some() || self.folders.contains_key(&folder);
        if known { Ok(()) } else { Err(error(Code::E_NOT_FOUND)) }
    }

    fn find(&mut self, record: u128) -> Result<&mut Message, ProviderError> {
        self.messages.get_mut(&record).ok_or_else(|| error(Code::E_NOT_FOUND))
    }

    /// What is in the outgoing queue stays there.
    fn refuse_queued(&self, record: u128) -> Result<(), ProviderError> {
        let queued = self.submissions.get(&record).is_some_and(|s| !s.state().is_final());
        if queued { Err(error(Code::E_BUSY)) } else { Ok(()) }
    }

    fn set_flags(&mut self, record: u128, add: &Flags, remove: &Flags) -> Answer {
        let message = self.find(record)?;
        let flags = message.flags.changed(add, remove);
        let changed = std::mem::replace(&mut message.flags, flags.clone()) != flags;
        let folder = message.folder;
        if changed {
            self.pending.insert(record);
        }
        Ok(ProviderAnswer::Flagged { folder, flags, changed })
    }

    fn move_to(&mut self, record: u128, to: Folder) -> Answer {
        self.has_folder(to)?;
        let from = self.find(record)?.folder;
        if from != to {
            self.refuse_queued(record)?;
            self.find(record)?.folder = to;
            self.pending.insert(record);
        }
        Ok(ProviderAnswer::Moved { from, to })
    }

    fn copy(&mut self, record: u128, copy: u128, to: Folder) -> Answer {
        let place = |folder, store| Place { entry: EntryId { store, record: copy }, folder };
        if let Some(known) = self.messages.get(&copy) {
            let place = place(known.folder, self.uid);
            return Ok(ProviderAnswer::Saved { place, new: false });
        }
        self.has_folder(to)?;
        let original = self.find(record)?.clone();
        self.refuse_queued(record)?;
        self.made += 1;
        let message = Message { seq: self.made, folder: to, spot: None, ..original };
        self.messages.insert(copy, message);
        self.pending.insert(copy);
        Ok(ProviderAnswer::Saved { place: place(to, self.uid), new: true })
    }

    fn is_taken(&self, parent: Option<Folder>, name: &str) -> bool {
        self.folders.values().any(|(of, taken)| *of == parent && taken == name)
    }

    fn make_folder(&mut self, parent: Option<Folder>, name: String) -> Answer {
        if let Some(parent) = parent {
            self.has_folder(parent)?;
        }
        if self.is_taken(parent, &name) {
            return Err(error(Code::E_COLLISION));
        }
        Ok(ProviderAnswer::FolderMade(self.add_folder(parent, name)))
    }

    fn add_folder(&mut self, parent: Option<Folder>, name: String) -> Folder {
        let folder = Folder(Folder::FIRST_OTHER + self.made_folders);
        self.made_folders += 1;
        self.folders.insert(folder, (parent, name));
        folder
    }

    fn rename_folder(&mut self, folder: Folder, name: String) -> Answer {
        let parent = self.folders.get(&folder).ok_or_else(|| error(Code::E_NOT_FOUND))?.0;
        if self.is_taken(parent, &name) {
            return Err(error(Code::E_COLLISION));
        }
        self.folders.insert(folder, (parent, name));
        Ok(ProviderAnswer::Done)
    }

    fn remove_folder(&mut self, folder: Folder) -> Answer {
        self.has_folder(folder)?;
        if self.messages.values().any(|m| m.folder == folder) {
            return Err(error(Code::E_HAS_MESSAGES));
        }
        if self.folders.values().any(|(parent, _)| *parent == Some(folder)) {
            return Err(error(Code::E_HAS_FOLDERS));
        }
        self.folders.remove(&folder);
        Ok(ProviderAnswer::Done)
    }

    fn folder_row(&self, folder: Folder) -> FolderRow {
        let (parent, name) = match folder.built_in() {
            Some(name) => (None, name.to_owned()),
            None => self.folders[&folder].clone(),
        };
        let inside = || self.messages.values().filter(|m| m.folder == folder);
        let unread = inside().filter(|m| !m.flags.marks.contains(Marks::READ)).count();
        let (total, unread) = (inside().count() as u64, unread as u64);
        FolderRow { folder, parent, name, role: None, total, unread }
    }

    fn list_folders(&self, after: Option<Folder>, limit: usize) -> ProviderAnswer {
        let all = Folder::BUILT_IN.into_iter().chain(self.folders.keys().copied());
        let rest: Vec<_> = all.filter(|f| after.is_none_or(|after| *f > after)).collect();
        let page = &rest[..limit.min(rest.len())];
        let rows = page.iter().map(|folder| self.folder_row(*folder)).collect();
        let next = page.last().copied().filter(|_| rest.len() > limit);
        ProviderAnswer::Folders { rows, next }
    }

    fn row(&self, record: u128, message: &Message) -> ContentsRow {
        ContentsRow {
            entry: EntryId { store: self.uid, record },
            folder: message.folder,
            subject: String::new(),
            from: String::new(),
            to: String::new(),
            date: None,
            size: message.bytes.len() as u64,
            received: message.received,
            flags: message.flags.clone(),
            recovered: message.recovered,
        }
    }

    /// Every column is the time of arrival here.
    fn contents(
        &self,
        folder: Folder,
        (sort, only): (Sort, Filter),
        after: Option<&Bookmark>,
        limit: usize,
    ) -> ProviderAnswer {
        let shown = |m: &Message| {
            let marks = m.flags.marks;
            m.folder == folder && marks.contains(only.with) && marks.0 & only.without.0 == 0
        };
        let mut all: Vec<_> = self.messages.iter().filter(|(_, m)| shown(m)).collect();
        let key = |m: &Message| (m.received, m.seq);
        all.sort_by_key(|(_, m)| key(m));
        if sort.direction == Direction::Descending {
            all.reverse();
        }
        if let Some(Bookmark { key: Key::Number(number), order }) = after {
            let at = (*number, *order);
            all.retain(|(_, m)| match sort.direction {
                Direction::Ascending => key(m) > at,
                Direction::Descending => key(m) < at,
            });
        }
        let page = &all[..limit.min(all.len())];
        let rows = page.iter().map(|(record, m)| self.row(**record, m)).collect();
        let last = page.last().filter(|_| all.len() > limit);
        let place = |m: &Message| Bookmark { key: Key::Number(m.received), order: m.seq };
        ProviderAnswer::Contents { rows, next: last.map(|(_, m)| place(m)) }
    }

    fn search(
        &self,
        words: &str,
        folder: Option<Folder>,
        after: u64,
        limit: usize,
    ) -> ProviderAnswer {
        let within = |m: &Message| folder.map_or(m.folder != Folder::DELETED, |f| m.folder == f);
        let has = |m: &Message| String::from_utf8_lossy(&m.bytes).contains(words);
        let fits = |m: &Message| within(m) && has(m) && (after == 0 || m.seq < after);
        let mut all: Vec<_> = self.messages.iter().filter(|(_, m)| fits(m)).collect();
        all.sort_by_key(|(_, m)| std::cmp::Reverse(m.seq));
        let page = &all[..limit.min(all.len())];
        let rows = page.iter().map(|(record, m)| self.row(**record, m)).collect();
        let next = page.last().filter(|_| all.len() > limit).map(|(_, m)| m.seq);
        ProviderAnswer::Hits { rows, next, unindexed: 0 }
    }

    fn mirrored(&self, dir: &str, after: &str, limit: usize) -> ProviderAnswer {
        let spots = self.messages.values().filter_map(|m| {
            let spot = m.spot.as_ref().filter(|spot| spot.dir == dir && *spot.name > *after)?;
            let flags = Flags { marks: m.flags.marks, ..Flags::default() };
            Some((spot.name.clone(), flags))
        });
        let mut rows: Vec<_> = spots.collect();
        rows.sort_by(|a, b| a.0.cmp(&b.0));
        let more = rows.len() > limit;
        rows.truncate(limit);
        ProviderAnswer::Spots { rows, more }
    }

    fn directories(&self, after: Option<&str>, limit: usize) -> ProviderAnswer {
        let dirs = self.messages.values().filter_map(|m| Some(m.spot.as_ref()?.dir.clone()));
        let dirs = dirs.filter(|dir| after.is_none_or(|after| **dir > *after));
        let mut dirs: Vec<_> = dirs.collect::<BTreeSet<_>>().into_iter().collect();
        let more = dirs.len() > limit;
        dirs.truncate(limit);
        ProviderAnswer::Directories { dirs, more, passed: true }
    }

    fn what_is_pending(&self, after: u64, limit: usize) -> ProviderAnswer {
        let records = self.pending.iter().skip(after as usize).take(limit);
        let rows: Vec<_> = records
            .map(|record| {
                let message = self.messages.get(record);
                let marks = message.map_or(Marks::default(), |m| m.flags.marks);
                let wanted = message.map(|m| Wanted {
                    folder: m.folder,
                    dir: None,
                    path: Vec::new(),
                    role: None,
                    marks,
                    keywords: Vec::new(),
                });
                let spot = message.and_then(|m| m.spot.clone());
                let size = message.map_or(0, |m| m.bytes.len() as u64);
                let received = message.map_or(0, |m| m.received);
                let seen = Marks(0);
                let trace = None;
                Pending {
                    record: *record,
                    spot,
                    seen,
                    seen_keywords: Vec::new(),
                    heading: None,
                    wanted,
                    size,
                    received,
                    trace,
                }
            })
            .collect();
        let end = after + rows.len() as u64;
        let next = (end < self.pending.len() as u64).then_some(end);
        ProviderAnswer::Pending { rows, next }
    }

    /// The record of what lies somewhere: one is given to what is new.
    fn at_spot(&self, spot: &Spot) -> Option<u128> {
        self.messages.iter().find(|(_, m)| m.spot.as_ref() == Some(spot)).map(|(record, _)| *record)
    }

    fn mirror(&mut self, Mirror { changes, .. }: Mirror) -> Vec<StoreChange> {
        changes.into_iter().filter_map(|change| self.mirror_one(change)).collect()
    }

    fn mirror_one(&mut self, change: MirrorChange) -> Option<StoreChange> {
        match change {
            MirrorChange::Folder { dir, parent, name, role } => {
                let built_in = role.and_then(sundown_protocol::folder::Role::built_in);
                if self.dirs.contains_key(&dir) {
                    return None;
                }
                let parent = parent.and_then(|parent| self.dirs.get(&parent).copied());
                let folder = built_in.unwrap_or_else(|| self.add_folder(parent, name));
                self.dirs.insert(dir, folder);
                let change = FolderChange::Made;
                built_in.is_none().then_some(StoreChange::Folder { folder, change })
            }
            MirrorChange::FolderMade { folder, dir, .. } => {
                self.dirs.insert(dir, folder);
                None
            }
            MirrorChange::FolderGone { dir } => {
                let folder = self.dirs.remove(&dir)?;
                self.folders.remove(&folder)?;
                Some(StoreChange::Folder { folder, change: FolderChange::Removed })
            }
            MirrorChange::FolderMoved { from, to, .. } => {
                let folder = self.dirs.remove(&from)?;
                self.dirs.insert(to, folder);
                None
            }
            MirrorChange::FolderKept { .. }
            | MirrorChange::Passed
            | MirrorChange::Account { .. }
            | MirrorChange::Cursor { .. }
            | MirrorChange::Unfetched { .. }
            | MirrorChange::Bytes { .. }
            | MirrorChange::Traced { .. }
            | MirrorChange::Keywords { .. }
            | MirrorChange::KeywordsSet { .. }
            | MirrorChange::Leaves { .. } => None,
            MirrorChange::Found { spot, marks, news, facts } => {
                let folder = self.dirs.get(&spot.dir).copied().unwrap_or(Folder::INBOX);
                if self.at_spot(&spot).is_some() {
                    return None;
                }
                let record = (1 << 100) + u128::from(self.made);
                self.enter(record, b"Subject: mail\r\n\r\nhello".to_vec(), folder, false);
                let message = self.messages.get_mut(&record).expect("entered just before");
                message.flags.marks = marks;
                (message.received, message.spot) = (facts.received, Some(spot));
                let (from, subject) = (facts.from, facts.subject);
                let news = news.then(|| Box::new(News { from, subject }));
                Some(StoreChange::Created { record, folder, news })
            }
            MirrorChange::Marked { spot, marks } => {
                let record = self.at_spot(&spot)?;
                let message = self.messages.get_mut(&record)?;
                message.flags.marks = marks;
                Some(StoreChange::Modified { record, folder: message.folder })
            }
            MirrorChange::Moved { from, to, marks } => {
                let record = self.at_spot(&from)?;
                let folder = self.dirs.get(&to.dir).copied().unwrap_or(Folder::INBOX);
                let message = self.messages.get_mut(&record)?;
                message.flags.marks = marks;
                message.spot = Some(to);
                let from = std::mem::replace(&mut message.folder, folder);
                Some(StoreChange::Moved { record, from, to: folder })
            }
            MirrorChange::Vanished { spot } => {
                let record = self.at_spot(&spot)?;
                let folder = self.messages.remove(&record)?.folder;
                Some(StoreChange::Deleted { record, folder })
            }
            MirrorChange::Done { record, spot, .. } => {
                self.pending.remove(&record);
                self.messages.get_mut(&record)?.spot = spot;
                None
            }
        }
    }
}

/// A mailbox: what it was told.
#[derive(Debug, Clone, Default)]
pub(super) struct Mailbox {
    /// The store that it mirrors into while it watches.
    pub(super) watches: Option<u32>,
    /// The store that it has mirrored into.
    knows: Option<u32>,
}

/// What a mailbox finds when it looks at everything.
pub(super) const FOUND: Synced = Synced { new: 2, changed: 1, removed: 0, pending: 0 };

impl Mailbox {
    /// It takes what is pending in its store at once, while it watches and when it is told of changes.
    pub(super) fn call<'a>(
        &mut self,
        call: MailboxCall,
        stores: impl Iterator<Item = &'a mut Store>,
    ) -> Result<ProviderAnswer, ProviderError> {
        match call {
            MailboxCall::Watch { store } => (self.watches, self.knows) = (Some(store), Some(store)),
            MailboxCall::Rest => self.watches = None,
            MailboxCall::Fetch { record } => {
                let here = stores.into_iter().any(|store| store.elsewhere.remove(&record));
                return if here { Ok(ProviderAnswer::Done) } else { Err(error(Code::E_NOT_FOUND)) };
            }
            MailboxCall::Changed | MailboxCall::Validate | MailboxCall::Sync => {}
        }
        let takes = if call == MailboxCall::Changed { self.knows } else { self.watches };
        for store in stores.filter(|store| Some(store.uid) == takes) {
            store.pending.clear();
        }
        match call {
            MailboxCall::Sync => Ok(ProviderAnswer::Synced(FOUND)),
            _ => Ok(ProviderAnswer::Done),
        }
    }
}

/// What a provider has of the shutdown interface.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Interface {
    Supports,
    /// It refuses, with this code.
    Refuses(Code),
    /// It does not know it, and is never called.
    Unaware,
    /// It has nothing to save, and is never called.
    Untouched,
}

/// What a transport does with one recipient, once.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Step {
    /// It says so when asked to hand it over; `Sent` delivers it.
    Says(Outcome),
    /// It delivers and says that it does not know.
    SentButUnknown,
    /// It refuses the recipient while preparing.
    Refuses,
    /// The same, with something else to say of it than that it failed.
    RefusesAs(Outcome),
}

/// What a transport did, for everybody who uses one of that name.
#[derive(Debug, Clone, Default)]
pub(super) struct Wire {
    /// In the order of delivery: transport, record, address.
    pub(super) delivered: Vec<(String, u128, String)>,
    /// Markers of what was handed over.
    handed: HashSet<(u128, String)>,
    /// What happens to an address, one step a try; then it is sent.
    pub(super) steps: HashMap<String, VecDeque<Step>>,
    /// Transports that cannot prepare anything, and why.
    pub(super) broken: HashMap<String, Code>,
    /// Transports whose server refuses to talk, or has no certificate that is trusted.
    pub(super) shut: BTreeSet<String>,
    /// Whether servers are left alone, and what they said before is said again.
    pub(super) remembers: bool,
    /// Transports whose complete fails as a whole.
    pub(super) mute: BTreeSet<String>,
    /// What is said of a recipient that is refused.
    pub(super) refusal: Option<String>,
    /// What a recover says instead of finding out.
    pub(super) recover: Option<Outcome>,
    /// Whether transports may have answered what is not so.
    pub(super) lies: bool,
    /// How every transport wants to be used.
    pub(super) facts: TransportFacts,
}

impl Wire {
    fn step(&mut self, address: &str) -> Step {
        let steps = self.steps.get_mut(address);
        steps.and_then(VecDeque::pop_front).unwrap_or(Step::Says(Outcome::Sent))
    }

    /// Why a transport does not work.
    fn trouble(&self, transport: &str) -> Option<ProviderError> {
        let shut = self.shut.get(transport).map(|_| error(Code::E_NO_ACCESS).of_server());
        let trouble = shut.or_else(|| self.broken.get(transport).map(|code| error(*code)));
        if self.remembers { trouble.map(ProviderError::heard_before) } else { trouble }
    }

    fn deliver(&mut self, transport: &str, record: u128, address: &str) {
        self.delivered.push((transport.into(), record, address.into()));
        self.handed.insert((record, address.into()));
    }

    pub(super) fn delivered_to(&self, address: &str) -> usize {
        self.delivered.iter().filter(|(_, _, a)| a == address).count()
    }
}

/// One transport of one session.
#[derive(Debug, Clone, Default)]
pub(super) struct Transport {
    name: String,
    prepared: HashMap<u64, (Transmission, HashMap<usize, Step>)>,
}

impl Transport {
    pub(super) fn new(name: &str) -> Self {
        Self { name: name.into(), ..Self::default() }
    }

    /// Messages that wait to be completed.
    pub(super) fn busy(&self) -> usize {
        self.prepared.len()
    }

    pub(super) fn call(&mut self, call: TransportCall, wire: &mut Wire) -> Answer {
        match call {
            TransportCall::Prepare(transmission) => {
                if let Some(error) = wire.trouble(&self.name) {
                    return Err(error);
                }
                let mut steps = HashMap::new();
                let mut refused = Vec::new();
                for (place, address) in &transmission.recipients {
                    match wire.step(address) {
                        Step::Refuses => {
                            let mut refusal = result(*place, Outcome::Failed);
                            refusal.reply = wire.refusal.clone().unwrap_or(refusal.reply);
                            refused.push(refusal);
                        }
                        Step::RefusesAs(outcome) => refused.push(result(*place, outcome)),
                        step => {
                            steps.insert(*place, step);
                        }
                    }
                }
                let marker = format!("{:032x}.{}", transmission.record, transmission.id);
                if !steps.is_empty() {
                    self.prepared.insert(transmission.id, (*transmission, steps));
                }
                Ok(ProviderAnswer::Prepared { marker, refused })
            }
            TransportCall::Complete { id } => {
                let (transmission, steps) =
                    self.prepared.remove(&id).expect("only what was prepared is completed");
                let mut results = Vec::new();
                for (place, address) in &transmission.recipients {
                    let Some(step) = steps.get(place) else { continue };
                    let outcome = match step {
                        Step::Says(outcome) => *outcome,
                        Step::SentButUnknown => Outcome::Unknown,
                        Step::Refuses | Step::RefusesAs(_) => unreachable!("it was refused before"),
                    };
                    let is_there =
                        matches!(outcome, Outcome::Sent | Outcome::Relayed | Outcome::Delivered);
                    if is_there || *step == Step::SentButUnknown {
                        wire.deliver(&self.name, transmission.record, address);
                    }
                    results.push(result(*place, outcome));
                }
                if wire.mute.contains(&self.name) {
                    return Err(error(Code::E_CALL_FAILED));
                }
                Ok(ProviderAnswer::Results(results))
            }
            TransportCall::Validate(_) => match wire.trouble(&self.name) {
                Some(error) => Err(error),
                None => Ok(ProviderAnswer::Done),
            },
            TransportCall::Cancel { id } => {
                // Of a transport that has lied it is not known whether it has prepared it.
                let known = self.prepared.remove(&id).is_some();
                assert!(known || wire.lies, "only what was prepared is cancelled");
                Ok(ProviderAnswer::Done)
            }
            TransportCall::Recover { transmission, .. } => {
                let mut results = Vec::new();
                for (place, address) in &transmission.recipients {
                    let known = wire.handed.contains(&(transmission.record, address.clone()));
                    let outcome = match wire.recover {
                        Some(outcome) => outcome,
                        None if known => Outcome::Sent,
                        // It may say that nothing was sent, or send it now.
                        None if transmission.record % 2 == 1 => Outcome::NotSent,
                        None => {
                            wire.deliver(&self.name, transmission.record, address);
                            Outcome::Sent
                        }
                    };
                    results.push(result(*place, outcome));
                }
                Ok(ProviderAnswer::Results(results))
            }
        }
    }
}

fn result(recipient: usize, outcome: Outcome) -> RecipientResult {
    RecipientResult { recipient, outcome, reply: format!("it is {outcome:?}") }
}

/// An address book.
#[derive(Debug, Clone, Default)]
pub(super) struct AddressBook {
    pub(super) entries: BTreeMap<String, Vec<String>>,
}

impl AddressBook {
    pub(super) fn call(&mut self, call: AddressCall) -> Answer {
        let row = |(name, addresses): (&String, &Vec<String>)| AddressRow {
            entry: EntryId { store: 9, record: 9 },
            name: name.clone(),
            addresses: addresses.clone(),
        };
        match call {
            AddressCall::List { after, limit } => {
                let rest: Vec<_> = self.entries.iter().skip(after as usize).collect();
                let next = (rest.len() > limit as usize).then(|| after + u64::from(limit));
                let rows = rest.into_iter().take(limit as usize).map(row).collect();
                Ok(ProviderAnswer::Addresses { rows, next })
            }
            AddressCall::Act(AddressAction::Add { name, addresses }) => {
                self.entries.insert(name.clone(), addresses.clone());
                Ok(ProviderAnswer::Address(row((&name, &addresses))))
            }
            AddressCall::Act(AddressAction::Remove { name }) => match self.entries.remove(&name) {
                Some(_) => Ok(ProviderAnswer::Done),
                None => Err(error(Code::E_NOT_FOUND)),
            },
            AddressCall::Act(AddressAction::Resolve { name }) => {
                let found = self.entries.get_key_value(&name).map(row);
                found.map(ProviderAnswer::Address).ok_or_else(|| error(Code::E_NOT_FOUND))
            }
        }
    }
}

/// What a provider answers instead of what is true.
#[derive(Debug, Clone)]
pub(super) struct Lie {
    pub(super) provider: ProviderType,
    /// A call of this kind, as [`which`] counts them.
    pub(super) call: usize,
    pub(super) how: How,
    pub(super) answer: Bend,
    /// How often it does.
    pub(super) times: usize,
}

/// Whether a provider that lies has done what it was called for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum How {
    Done,
    Undone,
}

/// What is answered to a call, made of what is true. A provider that has not done it knows nothing true.
pub(super) type Bend = fn(&ProviderCall, ProviderAnswer) -> ProviderAnswer;

impl Lie {
    /// A submit, a save, an update and a Do.
    pub(super) const WRITES: [usize; 4] = [8, 9, 10, 5];

    /// What a provider answers to this call instead, if it lies.
    pub(super) fn next(
        lies: &mut [Self],
        provider: ProviderType,
        call: &ProviderCall,
    ) -> Option<(How, Bend)> {
        let it = |l: &Self| l.provider == provider && l.call == which(call) && l.times > 0;
        let lie = lies.iter_mut().find(|l| it(l))?;
        lie.times -= 1;
        Some((lie.how, lie.answer))
    }
}

/// The kind of a call, as a number. Each has one; a new one does not compile until it has.
pub(super) fn which(call: &ProviderCall) -> usize {
    match call {
        ProviderCall::Logon => 0,
        ProviderCall::Renew => 1,
        ProviderCall::Logoff => 2,
        ProviderCall::QueryFastShutdown => 3,
        ProviderCall::NotifyProcessShutdown => 4,
        ProviderCall::DoFastShutdown => 5,
        ProviderCall::Write(write) => match write {
            StoreWrite::Append { .. } => 6,
            StoreWrite::Discard { .. } => 7,
            StoreWrite::Submit { .. } => 8,
            StoreWrite::Save { .. } => 9,
            StoreWrite::Update(_) => 10,
            StoreWrite::Hasten { .. } => 11,
            StoreWrite::Seen { .. } => 12,
            StoreWrite::Delete { .. } => 13,
            StoreWrite::DeleteFrom { .. } => 14,
            StoreWrite::Setting { .. } => 15,
            StoreWrite::Flush => 16,
            StoreWrite::Clock(_) => 34,
            StoreWrite::Copy { .. } => 35,
            StoreWrite::Move { .. } => 36,
            StoreWrite::SetFlags { .. } => 37,
            StoreWrite::MakeFolder { .. } => 38,
            StoreWrite::RenameFolder { .. } => 39,
            StoreWrite::RemoveFolder { .. } => 40,
            StoreWrite::Mirror(_) => 41,
        },
        ProviderCall::Read(read) => match read {
            StoreRead::List { .. } => 17,
            StoreRead::Find { .. } => 18,
            StoreRead::Piece { .. } => 19,
            StoreRead::Setting { .. } => 20,
            StoreRead::Due { .. } => 21,
            StoreRead::Queue { .. } => 22,
            StoreRead::Submission { .. } => 23,
            StoreRead::Oldest => 24,
            StoreRead::Folders { .. } => 42,
            StoreRead::FindFolder { .. } => 43,
            StoreRead::Contents { .. } => 44,
            StoreRead::Search { .. } => 45,
            StoreRead::Mirrored { .. } => 46,
            StoreRead::Pending { .. } => 47,
            StoreRead::Directories { .. } => 52,
            StoreRead::ChangedFolders { .. } => 53,
            StoreRead::Cursor { .. } => 54,
            StoreRead::Fetches { .. } => 55,
            StoreRead::Lies { .. } => 56,
            StoreRead::Tally { .. } => 57,
        },
        ProviderCall::Mailbox(call) => match call {
            MailboxCall::Watch { .. } => 48,
            MailboxCall::Rest => 49,
            MailboxCall::Changed => 50,
            MailboxCall::Validate => 51,
            MailboxCall::Sync => 58,
            MailboxCall::Fetch { .. } => 59,
        },
        ProviderCall::Transport(call) => match call {
            TransportCall::Prepare(_) => 25,
            TransportCall::Complete { .. } => 26,
            TransportCall::Cancel { .. } => 27,
            TransportCall::Recover { .. } => 28,
            TransportCall::Validate(_) => 29,
        },
        ProviderCall::Address(call) => match call {
            AddressCall::List { .. } => 30,
            AddressCall::Act(AddressAction::Add { .. }) => 31,
            AddressCall::Act(AddressAction::Remove { .. }) => 32,
            AddressCall::Act(AddressAction::Resolve { .. }) => 33,
        },
    }
}

/// How many kinds of calls there are.
pub(super) const CALLS: usize = 60;
