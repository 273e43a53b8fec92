//! What a record promises and shows: what clients were told is durable, and what servers were given.

use std::collections::{BTreeMap, HashMap};
use std::fmt;

use sundown_protocol::code::Fault;
use sundown_protocol::folder::Marks;
use sundown_protocol::hello::{Answer, Hello};
use sundown_protocol::reply::FromBroker;
use sundown_protocol::request::{Asked, Content, Durability, Folder, SettingChange};
use sundown_protocol::{Reply, Request, codec, frame};

use crate::recorder::Record;

/// A message as a client handed it over.
#[derive(Debug, Clone)]
pub(crate) struct Message {
    pub(crate) profile: String,
    pub(crate) bytes: Vec<u8>,
}

/// What must be there from a place in the record on.
#[derive(Debug, Clone)]
pub(crate) enum Promise {
    Message(u128),
    Setting {
        profile: String,
        section: String,
        name: String,
        value: String,
    },
    /// Somebody in the address book of the default profile.
    Person(u128),
    /// What was not saved when its process left by a fast shutdown.
    Draft(Vec<u8>),
}

/// A promise, and where it left the process.
#[derive(Debug, Clone)]
pub(crate) struct Acknowledged {
    /// The place of the request.
    pub(crate) asked: usize,
    /// The place of the answer.
    pub(crate) answered: usize,
    /// The word for the request.
    pub(crate) what: &'static str,
    pub(crate) promises: Vec<Promise>,
}

impl fmt::Display for Acknowledged {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} (asked at {}, acknowledged at {})", self.what, self.asked, self.answered)
    }
}

/// What a client asked of a message in a folder.
#[derive(Debug, Clone)]
pub(crate) enum Change {
    Append(Folder, Marks, Vec<u8>),
    Copy(u128, Folder),
    /// Marks to set and to remove.
    Mark(Marks, Marks),
    Move(Folder),
    /// From Deleted it is removed for good.
    Delete,
}

/// A change, where it was asked for, and where the client was told that it is durable.
#[derive(Debug, Clone)]
pub(crate) struct Filed {
    pub(crate) asked: usize,
    pub(crate) answered: Option<usize>,
    pub(crate) record: u128,
    pub(crate) change: Change,
}

/// All of it.
#[derive(Debug, Default)]
pub(crate) struct Claims {
    pub(crate) messages: BTreeMap<u128, Message>,
    pub(crate) acknowledged: Vec<Acknowledged>,
    /// In the order in which they were asked for.
    pub(crate) filed: Vec<Filed>,
    /// Every value that a setting was to have, and where it was asked for.
    pub(crate) settings: Vec<(usize, String, String)>,
    /// Where the dot of each message began to leave, by a part of the message; a message may have several.
    pub(crate) dots: Vec<(usize, Vec<u8>)>,
}

/// One client's connection.
#[derive(Default)]
struct Client {
    heard: Vec<u8>,
    said: Vec<u8>,
    greeted: (bool, bool),
    asked: HashMap<u64, (usize, Request)>,
    profiles: HashMap<String, String>,
    uploads: HashMap<String, Vec<u8>>,
    /// Accepted and not promised yet.
    deferred: Vec<u128>,
    /// Made and not saved yet, by their objects.
    drafts: BTreeMap<String, Vec<u8>>,
}

impl Claims {
    /// Reads a record.
    pub(crate) fn of(records: &[Record]) -> Self {
        let mut claims = Self::default();
        let mut clients: HashMap<u64, Client> = HashMap::new();
        let mut servers: HashMap<u64, Vec<u8>> = HashMap::new();
        for (place, record) in records.iter().enumerate() {
            match record {
                Record::Heard { socket, bytes } => {
                    let client = clients.entry(*socket).or_default();
                    client.heard.extend_from_slice(bytes);
                    client.hear(place, &mut claims);
                }
                Record::Said { socket, bytes } => {
                    let client = clients.entry(*socket).or_default();
                    client.said.extend_from_slice(bytes);
                    client.say(place, &mut claims);
                }
                Record::Sent { socket, bytes } => {
                    let said = servers.entry(*socket).or_default();
                    said.extend_from_slice(bytes);
                    if said.ends_with(b"\r\n.\r\n") {
                        claims.dots.push((place, std::mem::take(said)));
                    }
                }
                _ => {}
            }
        }
        claims
    }

    /// Whether a setting may have this value instead of a promised one: it was asked for later, and before the place.
    pub(crate) fn changed_later(
        &self,
        name: &str,
        promised: &str,
        found: &str,
        place: usize,
    ) -> bool {
        let asked = self.settings.iter().filter(|(at, of, _)| *at < place && of == name);
        let values: Vec<_> = asked.map(|(_, _, value)| value.as_str()).collect();
        let at = |value| values.iter().position(|asked| *asked == value);
        at(found) > at(promised)
    }

    /// What is promised before a place.
    pub(crate) fn promised(&self, place: usize) -> impl Iterator<Item = &Promise> {
        let before = self.acknowledged.iter().filter(move |a| a.answered < place);
        before.flat_map(|acknowledged| &acknowledged.promises)
    }
}

fn payloads(bytes: &mut Vec<u8>) -> Vec<Vec<u8>> {
    let mut payloads = Vec::new();
    while let Some((payload, length)) = frame::cut(bytes).expect("a frame") {
        payloads.push(payload.to_vec());
        bytes.drain(..length);
    }
    payloads
}

fn key(id: &impl fmt::Debug) -> String {
    format!("{id:?}")
}

impl Client {
    fn hear(&mut self, place: usize, claims: &mut Claims) {
        for payload in payloads(&mut self.heard) {
            if !std::mem::replace(&mut self.greeted.0, true) {
                codec::decode::<Hello>(&payload).expect("a hello");
                continue;
            }
            let Asked { id, request } = codec::decode(&payload).expect("a request");
            if let Some(submit) = request.submits() {
                let bytes = self.bytes(&submit.content);
                let profile = self.profiles[&key(&submit.member)].clone();
                claims.messages.insert(submit.key.0, Message { profile, bytes });
            }
            match &request {
                Request::Upload { upload, bytes, .. } => {
                    self.uploads.entry(key(upload)).or_default().extend_from_slice(&bytes.0);
                }
                Request::Setting { name, change: SettingChange::Set(value), .. } => {
                    claims.settings.push((place, name.clone(), value.clone()));
                }
                _ => {}
            }
            if let Some((record, change)) = self.change(&request) {
                claims.filed.push(Filed { asked: place, answered: None, record, change });
            }
            self.asked.insert(id.0, (place, request));
        }
    }

    /// What a request changes, and of which message.
    fn change(&self, request: &Request) -> Option<(u128, Change)> {
        Some(match request {
            Request::Append { key, folder, content, flags, .. } => {
                (key.0, Change::Append(*folder, flags.marks, self.bytes(content)))
            }
            Request::Copy { key, entry, to, .. } => (key.0, Change::Copy(entry.record, *to)),
            Request::SetFlags { entry, add, remove, .. } => {
                (entry.record, Change::Mark(add.marks, remove.marks))
            }
            Request::Move { entry, to, .. } => (entry.record, Change::Move(*to)),
            Request::Delete { entry, .. } | Request::DeleteFrom { entry, .. } => {
                (entry.record, Change::Delete)
            }
            _ => return None,
        })
    }

    fn bytes(&self, content: &Content) -> Vec<u8> {
        match content {
            Content::Inline(bytes) => bytes.0.clone(),
            Content::Uploaded(upload) => self.uploads[&key(upload)].clone(),
        }
    }

    fn say(&mut self, place: usize, claims: &mut Claims) {
        for payload in payloads(&mut self.said) {
            if !std::mem::replace(&mut self.greeted.1, true) {
                codec::decode::<Answer>(&payload).expect("an answer to a hello");
                continue;
            }
            let said = codec::decode(&payload).expect("an answer");
            if let FromBroker::Answer { id, result } = said
                && let Some((asked, request)) = self.asked.remove(&id.0)
            {
                self.answered(asked, place, request, result, claims);
            }
        }
    }

    fn now_durable(&mut self) -> impl Iterator<Item = Promise> + use<> {
        std::mem::take(&mut self.deferred).into_iter().map(Promise::Message)
    }

    fn answered(
        &mut self,
        asked: usize,
        answered: usize,
        request: Request,
        result: Result<Reply, Fault>,
        claims: &mut Claims,
    ) {
        let what = request.name();
        let is_deferred = request.submits().is_some_and(|s| s.when == Durability::Deferred);
        let promises = match (request, result) {
            (Request::Logon(_) | Request::Return { .. }, Ok(Reply::LoggedOn(on))) => {
                self.profiles.insert(key(&on.member), on.profile);
                return;
            }
            (
                Request::Submit(_) | Request::SubmitVia { .. },
                Ok(Reply::Submitted { entry, .. }),
            ) => {
                if is_deferred {
                    self.deferred.push(entry.record);
                    return;
                }
                vec![Promise::Message(entry.record)]
            }
            (Request::Draft { content, .. }, Ok(Reply::Opened(object))) => {
                self.drafts.insert(key(&object), self.bytes(&content));
                return;
            }
            (Request::AddressBook { .. }, Ok(Reply::Added(entry))) => {
                vec![Promise::Person(entry.record)]
            }
            (Request::Save { object, .. }, Ok(Reply::Saved(entry))) => {
                self.drafts.remove(&key(&object));
                vec![Promise::Message(entry.record)]
            }
            (
                Request::Setting { member, section, name, change: SettingChange::Set(value) },
                Ok(_),
            ) => {
                let profile = self.profiles[&key(&member)].clone();
                vec![Promise::Setting { profile, section, name, value }]
            }
            (Request::DoFastShutdown { .. }, Ok(_)) => {
                let drafts = std::mem::take(&mut self.drafts);
                self.now_durable().chain(drafts.into_values().map(Promise::Draft)).collect()
            }
            (Request::Flush { .. } | Request::Logoff(_), Ok(_)) => self.now_durable().collect(),
            (
                Request::Append { .. }
                | Request::Copy { .. }
                | Request::SetFlags { .. }
                | Request::Move { .. }
                | Request::Delete { .. }
                | Request::DeleteFrom { .. },
                Ok(_),
            ) => {
                let filed = claims.filed.iter_mut().find(|filed| filed.asked == asked);
                filed.expect("it was asked for").answered = Some(answered);
                Vec::new()
            }
            (
                Request::MakeFolder { .. }
                | Request::RenameFolder { .. }
                | Request::RemoveFolder { .. },
                Ok(_),
            ) => Vec::new(),
            _ => return,
        };
        claims.acknowledged.push(Acknowledged { asked, answered, what, promises });
    }
}
