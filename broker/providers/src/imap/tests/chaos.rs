//! Another program that changes the account by chance while the mailbox is at work, while programs here change it, too, and while the broker
//! is killed and connections are lost. When all of them rest and one sync is through, the server and the store have the same messages, and
//! each change that one side alone has made is there.
//!
//! Everything happens in front of a command or a slice of the mailbox, so that `SUNDOWN_TEST_SEED` repeats it.

use std::collections::{BTreeMap, BTreeSet};
use std::hash::{BuildHasher, RandomState};
use std::sync::{Arc, Mutex};

use sundown_core::provider::{
    MessageContent, ProviderAnswer, StoreRead, StoreWrite, SubmissionState, SubmissionUpdate,
};
use sundown_protocol::folder::{ContentsRow, Filter, Flags, FolderRow, Marks, Sort};
use sundown_protocol::request::Folder;

use super::super::account::Account;
use super::super::conversation::Cut;
use super::super::names;
use super::plain::{Message, Opened, Part, Plain};
use super::server::{Kind, Server};
use super::world::World;
use crate::StoreProvider as _;
use crate::mailbox::testing::{Broker, Happening, When};
use crate::sqlite::tests::submission;

/// Numbers by chance that can be had again. Never zero.
struct Chance(u64);

impl Chance {
    fn below(&mut self, limit: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 % limit as u64) as usize
    }

    fn of<'a, T>(&mut self, all: &'a [T]) -> Option<&'a T> {
        if all.is_empty() { None } else { all.get(self.below(all.len())) }
    }
}

/// Who may change a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Owner {
    /// Programs of the broker.
    Here,
    /// The other program.
    There,
    Both,
}

/// Messages with the same bytes.
#[derive(Debug)]
struct Content {
    owner: Owner,
    /// With line ends as at a server.
    bytes: Vec<u8>,
    /// How many of them there may be at most: each was put somewhere or copied.
    most: usize,
    /// How many of them were surely not removed by either side.
    least: isize,
}

/// What a message is that only programs of the broker change.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Own {
    content: usize,
    folder: Folder,
    flags: Flags,
}

/// What a message is that only the other program changes.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
struct Placed {
    folder: String,
    content: usize,
    flags: BTreeSet<String>,
}

/// Both sides, and what they may expect.
struct Chaos {
    chance: Chance,
    /// How many changes are still made until the next rest.
    left: usize,
    /// The mailbox is putting a message somewhere.
    placing: bool,
    /// It is removing a folder.
    removing: bool,
    server: Arc<Server>,
    plain: Plain,
    broker: Arc<Broker>,
    contents: Vec<Content>,
    own: BTreeMap<u128, Own>,
    placed: Vec<Placed>,
    /// Folders that only programs of the broker make, rename and remove.
    folders: BTreeMap<Folder, String>,
    next: u128,
    /// What happened, for a failure.
    story: Vec<String>,
}

const FIXED: [&str; 2] = ["INBOX", "Work"];
const MARKS: [Marks; 3] = [Marks::READ, Marks::ANSWERED, Marks::FLAGGED];
const FLAGS: [&str; 5] = ["\\Seen", "\\Answered", "\\Flagged", "one", "two"];
const WORDS: [&str; 3] = ["one", "two", "three"];

/// The content of a message with this subject. Courier has one for what was just removed.
fn content_of(subject: &str) -> Option<usize> {
    subject.trim().strip_prefix('n')?.parse().ok()
}

fn content_in(bytes: &[u8]) -> Option<usize> {
    let text = String::from_utf8_lossy(bytes);
    content_of(text.lines().find_map(|line| line.strip_prefix("Subject: "))?)
}

impl Chaos {
    /// A content: a new one, one like another that has its `Message-ID`, or once more one that is there.
    fn content(&mut self, owner: Owner) -> usize {
        let likes: Vec<_> =
            (0..self.contents.len()).filter(|n| self.contents[*n].owner == owner).collect();
        let like = self.chance.of(&likes).copied();
        match (self.chance.below(6), like) {
            (0 | 1, Some(twin)) => twin,
            (way, like) => {
                let n = self.contents.len();
                let id = match (way, like) {
                    (2, Some(like)) => format!("Message-ID: <{like}@example.org>\r\n"),
                    (3, _) => String::new(),
                    _ => format!("Message-ID: <{n}@example.org>\r\n"),
                };
                // No two of them have the same size: without a `Message-ID` it is what tells them apart.
                let bytes = format!(
                    "From: Eve <eve@example.org>\r\nTo: anna@example.org\r\nSubject: n{n}\r\n{id}\r\n{}\r\n",
                    "x".repeat(n)
                );
                self.contents.push(Content { owner, bytes: bytes.into(), most: 0, least: 0 });
                n
            }
        }
    }

    fn is_added(&mut self, content: usize) {
        self.contents[content].most += 1;
        self.contents[content].least += 1;
    }

    fn is_removed(&mut self, content: usize) {
        self.contents[content].least -= 1;
    }

    /// Something happens perhaps, before the mailbox sends or writes this.
    fn meanwhile(&mut self, before: &str) {
        // Without UIDPLUS nothing says where a message is that was taken away at once: it is put there again by the next broker.
        let is_blind = self.placing && !self.plain.can("UIDPLUS") || self.removing;
        if self.left > 0 && !is_blind && self.chance.below(6) == 0 {
            self.left -= 1;
            if self.chance.below(2) == 0 { self.there() } else { self.here() }
        }
        let places = [" UID COPY ", " APPEND "].iter().any(|command| before.contains(command));
        self.placing = places || self.placing && !before.starts_with('[');
        // What comes into a folder between the last look into it and its removal goes with it.
        let looks = before.contains(" LIST \"\" \"") && !before.contains(" LIST \"\" \"*\"");
        self.removing = looks || self.removing && !before.starts_with('[');
        self.tell(format!("    {}", before.trim_end()));
    }

    fn tell(&mut self, words: impl AsRef<str>) {
        self.story.push(words.as_ref().chars().take(1000).collect());
    }

    /// The other program changes something.
    fn there(&mut self) {
        match self.chance.below(16) {
            0..=2 => self.append(),
            3..=12 => self.change_message(),
            13 => {
                let folder = self.a_name(&["B", "C"]);
                let done = self.plain.about("CREATE", &folder);
                self.tell(format!("there: create {folder}: {done}"));
            }
            14 => self.rename_folder(),
            _ => self.remove_folder(),
        }
    }

    /// A name of a folder, perhaps in another one.
    fn a_name(&mut self, kinds: &[&str]) -> String {
        let kind = kinds[self.chance.below(kinds.len())];
        let name = format!("{kind}{}", self.chance.below(3));
        if self.chance.below(4) == 0 {
            format!("{kind}{}/{name}", self.chance.below(3))
        } else {
            name
        }
    }

    fn append(&mut self) {
        let owner = if self.chance.below(2) == 0 { Owner::There } else { Owner::Both };
        let content = self.content(owner);
        let folder = self.a_folder(owner);
        let flags = FLAGS[self.chance.below(FLAGS.len())];
        let time = if self.chance.below(2) == 0 { " \"01-Feb-2024 10:00:00 +0000\"" } else { "" };
        let bytes = self.contents[content].bytes.clone();
        let done = self.plain.append(&folder, &format!("({flags}){time}"), &bytes);
        self.tell(format!("there: append n{content} to {folder}: {done}"));
        if done {
            self.is_added(content);
            if owner == Owner::There {
                let flags = [flags.to_owned()].into();
                self.placed.push(Placed { folder, content, flags });
            }
        }
    }

    /// A folder in which the other program may put such a message.
    fn a_folder(&mut self, owner: Owner) -> String {
        let mut folders = self.plain.folders();
        folders.retain(|name| {
            FIXED.contains(&name.as_str())
                || name.starts_with('C')
                || name.starts_with('B') && owner == Owner::Both
        });
        self.chance.of(&folders).expect("the Inbox is there").clone()
    }

    /// The other program changes, moves, copies or removes a message.
    fn change_message(&mut self) {
        let folders = self.plain.folders();
        let Some(folder) = self.chance.of(&folders).cloned() else { return };
        let Some(Opened { messages, .. }) = self.plain.open(&folder, Part::Subject) else { return };
        let owner_of = |message: &Message| {
            self.contents[content_in(&message.bytes).expect("one of these")].owner
        };
        let may: Vec<_> =
            messages.into_iter().filter(|message| owner_of(message) != Owner::Here).collect();
        if let Some(message) = self.chance.of(&may).cloned() {
            self.change_one(&folder, &message);
        }
        self.plain.close(&folder);
    }

    fn change_one(&mut self, folder: &str, message: &Message) {
        let content = content_in(&message.bytes).expect("one of these");
        let owner = self.contents[content].owner;
        let flags = &message.flags;
        let before = Placed { folder: folder.into(), content, flags: flags.clone() };
        let place = (owner == Owner::There).then(|| {
            let place = self.placed.iter().position(|placed| *placed == before);
            place.unwrap_or_else(|| panic!("{before:?} was changed by the mailbox"))
        });
        let uid = message.uid;
        let way = self.chance.below(10);
        self.tell(format!("there: {folder} {uid} n{content} {flags:?}, way {way}"));
        match way {
            0..=2 => {
                let flag = FLAGS[self.chance.below(FLAGS.len())].to_owned();
                let sign = if flags.contains(&flag) { '-' } else { '+' };
                if self.plain.tell(&format!("UID STORE {uid} {sign}FLAGS.SILENT ({flag})"))
                    && let Some(place) = place
                {
                    let flags = &mut self.placed[place].flags;
                    if !flags.remove(&flag) {
                        flags.insert(flag);
                    }
                }
            }
            3..=5 => {
                let to = self.a_folder(owner);
                self.move_one((folder, uid, content), &to, place);
            }
            6 => {
                let to = self.a_folder(owner);
                if self.plain.about(&format!("UID COPY {uid}"), &to) {
                    self.is_added(content);
                    if let Some(place) = place {
                        let copy = Placed { folder: to, ..self.placed[place].clone() };
                        self.placed.push(copy);
                    }
                }
            }
            7 => {
                self.mark(uid, place);
            }
            _ => {
                self.mark(uid, place);
                self.expunge(folder);
            }
        }
    }

    fn mark(&mut self, uid: u32, place: Option<usize>) {
        let done = self.plain.tell(&format!("UID STORE {uid} +FLAGS.SILENT (\\Deleted)"));
        if let Some(place) = place.filter(|_| done) {
            self.placed[place].flags.insert("\\Deleted".to_owned());
        }
    }

    fn move_one(
        &mut self,
        (folder, uid, content): (&str, u32, usize),
        to: &str,
        place: Option<usize>,
    ) {
        self.tell(format!("there: moved to {to}"));
        if self.plain.can("MOVE") {
            let done = self.plain.about(&format!("UID MOVE {uid}"), to);
            if let Some(place) = place.filter(|_| done) {
                to.clone_into(&mut self.placed[place].folder);
            }
            return;
        }
        if !self.plain.about(&format!("UID COPY {uid}"), to) {
            return;
        }
        // Two programs that move a message at once by copying it may make two of it.
        self.is_added(content);
        if let Some(place) = place {
            let copy = Placed { folder: to.to_owned(), ..self.placed[place].clone() };
            self.placed.push(copy);
        }
        self.mark(uid, place);
        self.expunge(folder);
    }

    /// Removes what has the mark in the open folder.
    fn expunge(&mut self, folder: &str) {
        for message in self.plain.messages(Part::Subject) {
            if message.flags.contains("\\Deleted") {
                self.is_gone(folder, &message);
            }
        }
        assert!(self.plain.tell("EXPUNGE"));
    }

    fn is_gone(&mut self, folder: &str, message: &Message) {
        let content = content_in(&message.bytes).expect("one of these");
        match self.contents[content].owner {
            // It is one that was moved from here or removed here.
            Owner::Here => {}
            Owner::Both => self.is_removed(content),
            Owner::There => {
                self.is_removed(content);
                let gone = Placed { folder: folder.into(), content, flags: message.flags.clone() };
                let place = self.placed.iter().position(|placed| *placed == gone);
                let place = place.unwrap_or_else(|| panic!("{gone:?}"));
                self.placed.remove(place);
            }
        }
    }

    fn rename_folder(&mut self) {
        let (folder, to) = (self.a_name(&["B", "C"]), self.a_name(&["B", "C"]));
        if folder.get(..1) != to.get(..1) || to.starts_with(&folder) {
            return;
        }
        let done = self.plain.rename(&folder, &to);
        self.tell(format!("there: rename {folder} to {to}: {done}"));
        if done {
            if !self.plain.can("MOVE") {
                // What was copied from there just now cannot be removed there any more.
                let both = self.contents.iter_mut().filter(|one| one.owner == Owner::Both);
                both.for_each(|one| one.most += 1);
            }
            for placed in &mut self.placed {
                if placed.folder == folder || placed.folder.starts_with(&format!("{folder}/")) {
                    placed.folder = format!("{to}{}", &placed.folder[folder.len()..]);
                }
            }
        }
    }

    fn remove_folder(&mut self) {
        let folder = self.a_name(&["B", "C"]);
        let Some(Opened { messages, .. }) = self.plain.open(&folder, Part::Subject) else { return };
        self.plain.close(&folder);
        let done = self.plain.about("DELETE", &folder);
        self.tell(format!("there: remove {folder}: {done}"));
        if done {
            for message in messages {
                self.is_gone(&folder, &message);
            }
        }
    }

    /// The server forgets the numbers of the messages in the Inbox, if it can.
    fn number_anew(&mut self, user: &str) {
        let validity = |plain: &mut Plain| {
            let opened = plain.open("INBOX", Part::Subject).expect("it is there");
            plain.close("INBOX");
            opened.validity
        };
        let before = validity(&mut self.plain);
        while self.server.number_anew(user) {
            // It would see what a connection before has seen.
            self.plain = Plain::new(self.server.kind, self.server.port, user);
            // A process of a connection that is closed may have written the numbers once more.
            if validity(&mut self.plain) != before {
                self.tell("there: all are numbered anew");
                return;
            }
        }
    }

    fn read(&self, question: &StoreRead) -> ProviderAnswer {
        let mut reader = self.broker.store().reader().expect("a reader");
        reader.read(question).expect("it answers")
    }

    fn all_folders(&self) -> Vec<FolderRow> {
        match self.read(&StoreRead::Folders { after: None, limit: 1000 }) {
            ProviderAnswer::Folders { rows, .. } => rows,
            other => panic!("{other:?}"),
        }
    }

    fn rows(&self, folder: Folder) -> Vec<ContentsRow> {
        let (sort, only) = (Sort::NEWEST, Filter::default());
        match self.read(&StoreRead::Contents { folder, sort, only, after: None, limit: 5000 }) {
            ProviderAnswer::Contents { rows, .. } => rows,
            other => panic!("{other:?}"),
        }
    }

    fn all_rows(&self) -> Vec<ContentsRow> {
        self.all_folders().into_iter().flat_map(|folder| self.rows(folder.folder)).collect()
    }

    /// A program of the broker changes something.
    fn here(&mut self) {
        match self.chance.below(16) {
            0 | 1 => self.save(),
            2 => self.send(),
            3..=12 => self.change_row(),
            _ => self.change_folder(),
        }
    }

    /// A folder for such a message.
    fn a_folder_here(&mut self, owner: Owner) -> Folder {
        let mut folders = self.all_folders();
        let ours = &self.folders;
        folders.retain(|row| {
            row.folder == Folder::INBOX
                || row.name == "Work"
                || owner == Owner::Here && ours.contains_key(&row.folder)
                || owner == Owner::Both && row.name.starts_with('B')
        });
        self.chance.of(&folders).expect("the Inbox is there").folder
    }

    /// Does it. Whether the store has taken it.
    fn write(&mut self, write: StoreWrite) -> bool {
        let words = format!("here: {write:?}");
        let done = self.broker.write(write).is_ok();
        self.tell(format!("{words}: {done}"));
        done
    }

    fn save(&mut self) {
        let owner = if self.chance.below(2) == 0 { Owner::Here } else { Owner::Both };
        let content = self.content(owner);
        let is_draft = owner == Owner::Here && self.chance.below(4) == 0;
        let folder = if is_draft { Folder::DRAFTS } else { self.a_folder_here(owner) };
        self.next += 1;
        let (record, now) = (self.next, 1_700_000_000_000);
        let bytes = self.contents[content].bytes.clone();
        let body = MessageContent::Inline(bytes);
        let flags = Flags::default();
        let saved =
            StoreWrite::Save { record, folder, content: body, flags, recovered: false, now };
        assert!(self.write(saved));
        self.is_added(content);
        if owner == Owner::Here {
            let marks = if is_draft { Marks::DRAFT } else { Marks(0) };
            let flags = Flags { marks, ..Flags::default() };
            self.own.insert(record, Own { content, folder, flags });
        }
    }

    fn send(&mut self) {
        let content = self.content(Owner::Here);
        self.next += 1;
        let record = self.next;
        let mut submission = Box::new(submission(record));
        let body = MessageContent::Inline(self.contents[content].bytes.clone());
        let sent = submission.clone();
        assert!(self.write(StoreWrite::Submit {
            submission: sent,
            content: body,
            deferred: false
        }));
        for recipient in &mut submission.recipients {
            recipient.state = SubmissionState::Sent;
        }
        let (state, submission) = (SubmissionState::Sent, *submission);
        let update = SubmissionUpdate { state, places: None, submission, now: 1, notice: None };
        assert!(self.write(StoreWrite::Update(Box::new(update))));
        self.is_added(content);
        let flags = Flags { marks: Marks::READ, ..Flags::default() };
        self.own.insert(record, Own { content, folder: Folder::SENT, flags });
    }

    fn change_row(&mut self) {
        let mut rows = self.all_rows();
        let owner_of = |row: &ContentsRow| Some(self.contents[content_of(&row.subject)?].owner);
        rows.retain(|row| owner_of(row).is_some_and(|owner| owner != Owner::There));
        let Some(row) = self.chance.of(&rows).cloned() else { return };
        let content = content_of(&row.subject).expect("one of these");
        let record = row.entry.record;
        let owner = self.contents[content].owner;
        if owner == Owner::Here {
            let own = Own { content, folder: row.folder, flags: row.flags.clone() };
            assert_eq!(self.own.get(&record), Some(&own), "{record:x}");
        }
        match self.chance.below(10) {
            0..=3 => {
                let mut flags = [Flags::default(), Flags::default()];
                let way = self.chance.below(2);
                flags[way].marks = MARKS[self.chance.below(MARKS.len())];
                let way = self.chance.below(2);
                flags[way].keywords = vec![WORDS[self.chance.below(WORDS.len())].to_owned()];
                let [add, remove] = flags;
                let set = StoreWrite::SetFlags { record, add: add.clone(), remove: remove.clone() };
                assert!(self.write(set));
                if let Some(own) = self.own.get_mut(&record) {
                    own.flags = own.flags.changed(&add, &remove);
                }
            }
            4..=6 => {
                let to = self.a_folder_here(owner);
                assert!(self.write(StoreWrite::Move { record, to }));
                if let Some(own) = self.own.get_mut(&record) {
                    own.folder = to;
                }
            }
            7 => {
                let to = self.a_folder_here(owner);
                self.next += 1;
                let copy = self.next;
                // It cannot be copied before its bytes are here.
                if self.write(StoreWrite::Copy { record, copy, to }) {
                    self.is_added(content);
                    if let Some(own) = self.own.get(&record).cloned() {
                        self.own.insert(copy, Own { folder: to, ..own });
                    }
                }
            }
            _ => {
                assert!(self.write(StoreWrite::Delete { record }));
                if row.folder == Folder::DELETED {
                    self.is_removed(content);
                    self.own.remove(&record);
                } else if let Some(own) = self.own.get_mut(&record) {
                    own.folder = Folder::DELETED;
                }
            }
        }
    }

    fn change_folder(&mut self) {
        let is_ours = self.chance.below(2) == 0;
        let name = format!("{}{}", if is_ours { "L" } else { "B" }, self.chance.below(3));
        let mut folders = self.all_folders();
        let begin = if is_ours { 'L' } else { 'B' };
        folders.retain(|row| row.name.starts_with(begin));
        let folder = self.chance.of(&folders).map(|row| row.folder);
        match (self.chance.below(3), folder) {
            (0, _) | (_, None) => {
                let parent = folder.filter(|_| !is_ours && self.chance.below(3) == 0);
                let made = StoreWrite::MakeFolder { parent, name: name.clone() };
                if self.write(made) && is_ours {
                    let made = self.all_folders().into_iter().find(|row| row.name == name);
                    self.folders.insert(made.expect("it was made").folder, name);
                }
            }
            (1, Some(folder)) => {
                let renamed = StoreWrite::RenameFolder { folder, name: name.clone() };
                if self.write(renamed) && is_ours {
                    self.folders.insert(folder, name);
                }
            }
            (_, Some(folder)) => {
                if self.write(StoreWrite::RemoveFolder { folder }) {
                    self.folders.remove(&folder);
                }
            }
        }
    }
}

impl Drop for Chaos {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let log = self.server.log();
            let log: Vec<_> = log.lines().rev().take(20).collect();
            let log = log.into_iter().rev().collect::<Vec<_>>().join("\n");
            eprintln!("{}\n\n{log}", self.story.join("\n"));
        }
    }
}

/// The flags of a message in the words of the store.
fn flags_of(there: &BTreeSet<String>) -> Flags {
    let mut flags = Flags::default();
    for flag in there {
        match flag.as_str() {
            "\\Seen" => flags.marks.0 |= Marks::READ.0,
            "\\Answered" => flags.marks.0 |= Marks::ANSWERED.0,
            "\\Flagged" => flags.marks.0 |= Marks::FLAGGED.0,
            "\\Draft" => flags.marks.0 |= Marks::DRAFT.0,
            "\\Deleted" => flags.marks.0 |= Marks::DELETED.0,
            word => flags.keywords.push(word.to_owned()),
        }
    }
    flags
}

/// What the store calls a folder.
fn dir_of(kind: Kind, folder: &str) -> String {
    let wire = kind.wire(folder);
    format!("/{}", wire.replace('/', "."))
}

/// The server and the store have the same, and what they are to have.
fn check(world: &World, chaos: &mut Chaos) {
    let kind = chaos.server.kind;
    let lying = world.lying();
    let (mut known, mut counts) = (lying.clone(), vec![0; chaos.contents.len()]);
    let (mut placed, mut names) = (Vec::new(), chaos.plain.folders());
    names.sort();
    let rows: BTreeMap<_, _> =
        chaos.all_rows().into_iter().map(|row| (row.entry.record, row)).collect();
    let folders: BTreeMap<_, _> =
        chaos.all_folders().into_iter().map(|row| (row.folder, row.name)).collect();
    for name in &names {
        let Some(Opened { validity, messages }) = chaos.plain.open(name, Part::Whole) else {
            panic!("{name} cannot be opened");
        };
        chaos.plain.close(name);
        let dir = dir_of(kind, name);
        for message in messages {
            let content = content_in(&message.bytes).expect("one of these");
            let at = format!("{name} {} n{content} {:?}", message.uid, message.flags);
            let (owner, bytes) = (chaos.contents[content].owner, &chaos.contents[content].bytes);
            // A message that is sent gets lines in front.
            assert!(message.bytes.ends_with(bytes), "{at}");
            let place = (dir.clone(), names::message(validity, message.uid));
            let record = known.remove(&place);
            let flags = flags_of(&message.flags);
            let is_marked = flags.marks.contains(Marks::DELETED);
            if owner == Owner::There {
                let (folder, flags) = (name.clone(), message.flags.clone());
                placed.push(Placed { folder, content, flags });
            }
            if is_marked && kind == Kind::Plain && record.is_none() {
                // It was removed, as far as such a server can.
                chaos.is_removed(content);
                continue;
            }
            counts[content] += 1;
            let record = record.unwrap_or_else(|| panic!("{at} is not here"));
            let row = rows.get(&record);
            let row = row.unwrap_or_else(|| panic!("{at} is not shown"));
            assert_eq!(content_of(&row.subject), Some(content), "{at}");
            let ours = world.text(record).unwrap_or_else(|error| panic!("{error} {at}"));
            let ours = ours.replace("\r\n", "\n").replace('\n', "\r\n");
            assert_eq!(ours.as_bytes(), message.bytes, "{at}");
            assert_eq!(row.flags, flags, "{at} {record:x}");
            let in_trash = row.folder == Folder::DELETED;
            assert_eq!(in_trash, is_marked || name == "Trash", "{at}");
            if owner == Owner::Here {
                let own = Own { content, folder: row.folder, flags: row.flags.clone() };
                assert_eq!(chaos.own.get(&record), Some(&own), "{at}");
                let wanted = match row.folder {
                    Folder::INBOX => "INBOX",
                    Folder::DELETED => "Trash",
                    Folder::DRAFTS => "Drafts",
                    Folder::SENT => "Sent",
                    folder => chaos.folders.get(&folder).map_or("Work", String::as_str),
                };
                assert_eq!(name, wanted, "{at}");
            } else if !in_trash {
                let shown = folders.get(&row.folder).map(String::as_str).unwrap_or_default();
                let last = name.rsplit('/').next().unwrap_or_default();
                let is_so = row.folder == Folder::INBOX && name == "INBOX"
                    || shown == last
                    || shown.starts_with(&format!("{last} ("));
                assert!(is_so, "{at} is in {shown}");
            }
        }
    }
    assert_eq!(known, BTreeMap::new(), "they are here, and not there");
    let lost: Vec<_> =
        rows.values().filter(|row| !lying.values().any(|r| *r == row.entry.record)).collect();
    assert!(lost.is_empty(), "they are nowhere at the server: {lost:#?}");
    chaos.placed.sort();
    placed.sort();
    assert_eq!(placed, chaos.placed);
    for (content, count) in counts.into_iter().enumerate() {
        let Content { owner, most, least, .. } = chaos.contents[content];
        if owner == Owner::Here {
            let ours = chaos.own.values().filter(|own| own.content == content).count();
            assert_eq!(count, ours, "n{content}");
        }
        let is_so = count <= most && count as isize >= least;
        assert!(is_so, "{least} <= {count} <= {most} of n{content}");
    }
}

/// Has things happen in front of each command and each slice of a mailbox.
fn attend(chaos: &Arc<Mutex<Chaos>>, world: &World, account: &mut Account<'_>) {
    let attended = || {
        // The broker is one of its parts.
        let chaos = Arc::downgrade(chaos);
        Some(Box::new(move |what: &str| {
            let chaos = chaos.upgrade().expect("it lives as long as the account");
            let mut chaos = chaos.lock().expect("no panic");
            chaos.meanwhile(what);
        }) as Happening)
    };
    account.talk.meanwhile.0 = attended();
    world.broker.meanwhile.lock().expect("no panic").0 = attended();
}

/// A life of an account with so many connections of the mailbox.
fn live(server: &Arc<Server>, seed: u64, connections: usize) -> usize {
    let kind = server.kind;
    let world = World::at(server, &[("bodies", "all"), ("sent", "append")]);
    let mut plain = Plain::new(kind, server.port, world.user());
    assert!(plain.about("CREATE", "Work"));
    // What is saved before the folders are known stays in the store.
    world.account().expect("it begins").survey(true).expect("it works");
    let broker = Arc::clone(&world.broker);
    let chaos = Chaos {
        chance: Chance(seed),
        left: 0,
        placing: false,
        removing: false,
        server: Arc::clone(server),
        plain,
        broker,
        contents: Vec::new(),
        own: BTreeMap::new(),
        placed: Vec::new(),
        folders: BTreeMap::new(),
        next: 1 << 100,
        story: Vec::new(),
    };
    let chaos = Arc::new(Mutex::new(chaos));
    for _ in 0..20 {
        chaos.lock().expect("no panic").append();
    }
    let (mut changes, mut was_cut) = (0, false);
    for round in 0..connections {
        let (left, step, how) = {
            let mut chaos = chaos.lock().expect("no panic");
            (chaos.left, chaos.placing, chaos.removing) = (15, false, false);
            let how = chaos.chance.below(6);
            (chaos.left, chaos.chance.below(150) as u32, how)
        };
        // What was under way when the connection broke is looked for by its number.
        if how == 5 && !was_cut {
            chaos.lock().expect("no panic").number_anew(world.user());
        }
        chaos.lock().expect("no panic").tell(format!("connection {round}: {how} at step {step}"));
        let Ok(mut account) = world.account() else { panic!("it begins") };
        match how {
            0 => {
                *world.broker.kill.lock().expect("no panic") =
                    Some((step as usize / 4, When::Before));
            }
            1 => {
                *world.broker.kill.lock().expect("no panic") =
                    Some((step as usize / 4, When::After));
            }
            2 => account.talk.cut = Some((step, Cut::Question)),
            3 => account.talk.cut = Some((step, Cut::Answer)),
            _ => {}
        }
        attend(&chaos, &world, &mut account);
        let ended = World::pass(&mut account);
        was_cut = ended.is_err();
        drop(account);
        *world.broker.kill.lock().expect("no panic") = None;
        world.broker.meanwhile.lock().expect("no panic").0 = None;
        let mut chaos = chaos.lock().expect("no panic");
        chaos.tell(format!("connection {round} has ended: {ended:?}"));
        changes += left - chaos.left;
        chaos.left = 0;
    }
    // A change that cannot be made is told once, and is over. What has come back has changes that are made next.
    let mut syncs = 0;
    loop {
        syncs += 1;
        let mut account = world.account().expect("it begins");
        attend(&chaos, &world, &mut account);
        let ended = World::pass(&mut account);
        let mut chaos = chaos.lock().expect("no panic");
        chaos.tell(format!("sync {syncs}: {ended:?}"));
        let failed = ended.unwrap_or_else(|halt| panic!("{halt:?}"));
        if failed.is_none() && world.pending() == 0 {
            break;
        }
        assert!(syncs < 3);
    }
    let mut chaos = chaos.lock().expect("no panic");
    assert_eq!(world.pending(), 0);
    world.assert_bodies();
    check(&world, &mut chaos);
    changes
}

fn seeds() -> (u64, usize) {
    let text = std::env::var("SUNDOWN_TEST_SEED").ok().and_then(|text| text.parse().ok());
    let is_long = std::env::var_os("SUNDOWN_TEST_STEPS").is_some();
    match text {
        Some(seed) => (seed, 1),
        None => (RandomState::new().hash_one(0) >> 16 | 1, if is_long { 200 } else { 3 }),
    }
}

fn chaos(kind: Kind) {
    let Some(server) = Server::start(kind).map(Arc::new) else { return };
    let (first, count) = seeds();
    let mut changes = 0;
    for seed in (first..).step_by(2).take(count) {
        // A failure shows it.
        eprintln!("{kind:?}: SUNDOWN_TEST_SEED={seed}");
        changes += live(&server, seed, 6);
    }
    println!("{kind:?}: {count} accounts, {changes} changes meanwhile");
}

#[test]
fn both_sides_are_equal_behind_chaos_with_qresync() {
    chaos(Kind::Full);
}

#[test]
fn both_sides_are_equal_behind_chaos_with_condstore() {
    chaos(Kind::Condstore);
}

#[test]
fn both_sides_are_equal_behind_chaos_with_little() {
    chaos(Kind::Plain);
}

#[test]
fn both_sides_are_equal_behind_chaos_with_cyrus() {
    chaos(Kind::Cyrus);
}

#[test]
fn both_sides_are_equal_behind_chaos_with_courier() {
    chaos(Kind::Courier);
}
