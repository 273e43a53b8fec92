//! Providers in memory: stores that keep what is written, transports that do what their script says, address books.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet, VecDeque};

use sundown_protocol::reply::{AddressRow, MessageRow, Place, SubmissionState};
use sundown_protocol::request::{AddressAction, Folder, SettingChange};
use sundown_protocol::{Code, EntryId};

use crate::provider::{
    Action, AddressCall, Dsn, KeptClock, MessageContent, Onward, Outcome, ProviderAnswer,
    ProviderCall, ProviderError, ProviderType, RecipientResult, StoreFacts, StoreRead, StoreWrite,
    StoredDsn, Submission, Transmission, TransportCall, TransportFacts,
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
}

/// A store that outlives brokers.
#[derive(Debug, Clone, Default)]
pub(super) struct Store {
    pub(super) uid: u32,
    /// How often it is logged on to.
    pub(super) logons: i64,
    pub(super) messages: BTreeMap<u128, Message>,
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
            folder: Folder::Outbox,
            bytes: b"left".to_vec(),
            recovered: false,
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
            StoreWrite::Save { record, content, recovered, .. } => {
                self.save(record, content, recovered)
            }
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
                    SubmissionState::Sent | SubmissionState::Bounced => Some(Folder::Sent),
                    SubmissionState::Aborted => Some(Folder::Drafts),
                    _ => None,
                };
                let message = self.messages.get_mut(&record).filter(|m| m.folder == Folder::Outbox);
                let moved = folder.filter(|_| message.is_some());
                if let (Some(folder), Some(message)) = (folder, message) {
                    message.folder = folder;
                }
                let notice = update
                    .notice
                    .zip(told)
                    .map(|(notice, told)| Box::new(self.tell(*notice, told)));
                Ok(ProviderAnswer::Updated { moved, notice })
            }
            StoreWrite::Delete { record } => {
                let Some(message) = self.messages.get_mut(&record) else {
                    return Err(error(Code::E_NOT_FOUND));
                };
                let from = message.folder;
                if from == Folder::Deleted {
                    self.messages.remove(&record);
                    return Ok(ProviderAnswer::Removed { from, to: None });
                }
                message.folder = Folder::Deleted;
                Ok(ProviderAnswer::Removed { from, to: Some(Folder::Deleted) })
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
        self.messages.insert(record, Message { seq: self.made, folder, bytes, recovered });
    }

    /// Keeps a notification, and sends it on.
    fn tell(&mut self, notice: Dsn, told: Vec<String>) -> StoredDsn {
        let Dsn { record, onward, told: actions } = notice;
        if !self.messages.contains_key(&record) {
            self.notices.push((record, told));
            self.actions.push(actions.into_iter().map(|(_, action)| action).collect());
        }
        self.enter(record, b"notice".to_vec(), Folder::Inbox, false);
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
        StoredDsn { record, forwarded, text }
    }

    fn submit(&mut self, submission: Submission, content: MessageContent) -> Answer {
        let record = submission.record;
        if let Some(first) = self.submissions.get(&record) {
            let submission = Box::new(first.clone());
            return Ok(ProviderAnswer::Submitted { submission, new: false });
        }
        let bytes = self.take(content)?;
        let size = bytes.len() as u64;
        self.enter(record, bytes, Folder::Outbox, false);
        self.queued += 1;
        let submission = Submission { order: self.queued, size, ..submission };
        self.history.push((record, submission.state()));
        self.submissions.insert(record, submission.clone());
        Ok(ProviderAnswer::Submitted { submission: Box::new(submission), new: true })
    }

    fn save(&mut self, record: u128, content: MessageContent, recovered: bool) -> Answer {
        let entry = EntryId { store: self.uid, record };
        let place = |folder| Place { entry, folder };
        if let Some(message) = self.messages.get(&record) {
            return Ok(ProviderAnswer::Saved { place: place(message.folder), new: false });
        }
        let bytes = self.take(content)?;
        self.enter(record, bytes, Folder::Drafts, recovered);
        Ok(ProviderAnswer::Saved { place: place(Folder::Drafts), new: true })
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
            StoreRead::Find { record } => match self.messages.get(&record) {
                Some(message) => Ok(ProviderAnswer::Found {
                    folder: message.folder,
                    size: message.bytes.len() as u64,
                }),
                None => Err(error(Code::E_NOT_FOUND)),
            },
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

/// What a provider has of the shutdown interface.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Interface {
    Supports,
    /// It refuses, with this code.
    Refuses(Code),
    /// It does not know it, and is never called.
    Unaware,
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
pub(super) const CALLS: usize = 35;
