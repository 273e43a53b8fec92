//! An account at a real server, a real store, and another program that uses the same account.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::sync::mpsc::Receiver;

use rusqlite::{Connection, OpenFlags};
use sundown_core::provider::{
    Cursor, MessageContent, Mirror, MirrorChange, ProviderAnswer, ProviderSpec, Spot, StoreChange,
    StoreRead, StoreWrite, SubmissionState, SubmissionUpdate,
};
use sundown_protocol::folder::{ContentsRow, Filter, Flags, FolderRow, Marks, Sort};
use sundown_protocol::request::Folder;
use tempfile::TempDir;

use super::super::account::{Account, Carried};
use super::super::conversation::{Conversation, Part};
use super::super::copies::Copies;
use super::super::logon::Dialer;
use super::super::settings::Settings;
use super::super::{End, Response};
use super::server::{Kind, Server};
use crate::mailbox::testing::Broker;
use crate::mailbox::{Book, Halt, Leave};
use crate::sqlite::tests::{assert_bodies, submission};
use crate::{MailboxSupport, Result, StoreProvider};

pub(super) struct World {
    server: Option<Arc<Server>>,
    home: TempDir,
    pub(super) broker: Arc<Broker>,
    told: Receiver<StoreChange>,
    pub(super) dialer: Dialer,
    spec: ProviderSpec,
    carried: Carried,
    next: u128,
}

/// Another program at the account.
pub(super) struct Other {
    talk: Conversation,
    kind: Kind,
}

impl Other {
    /// A command that is carried out, and what it shows.
    pub(super) fn run(&mut self, command: &str) -> Vec<String> {
        let mut shown = Vec::new();
        let done = self.talk.command(&[Part::Text(command)], |response| {
            shown.push(format!("{response:?}"));
            Ok(())
        });
        let done = done.expect("it is answered");
        assert_eq!(done.end, End::Ok, "{command}: {}", done.words);
        shown
    }

    pub(super) fn create(&mut self, folder: &str) {
        self.run(&format!("CREATE \"{}\"", self.kind.wire(folder)));
    }

    pub(super) fn rename(&mut self, folder: &str, to: &str) {
        self.run(&format!("RENAME \"{}\" \"{}\"", self.kind.wire(folder), self.kind.wire(to)));
    }

    /// Copies messages of the open folder.
    pub(super) fn copy(&mut self, uids: &str, folder: &str) {
        self.run(&format!("UID COPY {uids} \"{}\"", self.kind.wire(folder)));
    }

    /// Puts a message into a folder.
    pub(super) fn put(&mut self, folder: &str, flags: &str, text: &str) {
        let wire = self.kind.wire(folder);
        let head = format!("APPEND \"{wire}\" ({flags}) {{{}}}", text.len());
        let tag = self.talk.begin(&[Part::Text(&head)]).expect("it is sent");
        let refused = self.talk.may_go_on(&mut |_| {}).expect("an answer");
        assert_eq!(refused, None);
        self.talk.send(text.as_bytes()).expect("it is sent");
        self.talk.send(b"\r\n").expect("it is sent");
        let done = self.talk.finish(&tag, |_| Ok(())).expect("an answer");
        assert_eq!(done.end, End::Ok, "{}", done.words);
    }

    /// The names of the folders.
    pub(super) fn folders(&mut self) -> Vec<String> {
        let (mut names, kind) = (Vec::new(), self.kind);
        let list = |response: &Response<'_>| {
            if let Response::Data(super::super::Data::List(list)) = response {
                names.push(kind.name(&String::from_utf8_lossy(&list.name)));
            }
            Ok(())
        };
        self.talk.command(&[Part::Text("LIST \"\" *")], list).expect("it is answered");
        names
    }

    /// The subjects of the messages of a folder with their flags, in alphabetical order.
    pub(super) fn shown(&mut self, folder: &str) -> Vec<String> {
        let mut shown = Vec::new();
        self.run(&format!("EXAMINE \"{}\"", self.kind.wire(folder)));
        let command =
            "UID FETCH 1:* (UID FLAGS INTERNALDATE RFC822.SIZE BODY.PEEK[HEADER.FIELDS (SUBJECT)])";
        self.talk
            .command(&[Part::Text(command)], |response| {
                if let Response::Data(super::super::Data::Fetch(fetch)) = response
                    && let Some(described) = super::super::facts::Described::of(fetch)
                {
                    let keywords = described.facts.keywords;
                    let flags = Flags { marks: described.marks, keywords };
                    let names = flags.names().collect::<Vec<_>>().join(",");
                    shown.push(format!("{}:{names}", described.facts.subject));
                }
                Ok(())
            })
            .expect("it is answered");
        // It was open to be looked at, and so nothing goes by that.
        self.run("CLOSE");
        shown.sort();
        shown
    }
}

/// A message, which has no `Message-ID` if it is bare.
pub(super) fn text(subject: &str) -> String {
    let id = match subject {
        "bare" => String::new(),
        _ => format!("Message-ID: <{subject}@example.org>\r\n"),
    };
    format!(
        "From: Eve <eve@example.org>\r\nTo: anna@example.org\r\nSubject: {subject}\r\n{id}\r\nbody of {subject}\r\n"
    )
}

impl World {
    pub(super) fn new(kind: Kind) -> Option<Self> {
        let server = Arc::new(Server::start(kind)?);
        // It is on this host, where nothing is compressed unless it must be.
        let more: &[_] = if kind == Kind::Cyrus { &[("compression", "always")] } else { &[] };
        Some(Self::at(&server, more))
    }

    /// Another user at a server.
    pub(super) fn at(server: &Arc<Server>, more: &[(&str, &str)]) -> Self {
        let world = Self { server: Some(Arc::clone(server)), ..Self::to(server.port, more) };
        server.make_user(world.user());
        world
    }

    /// A user at a port.
    pub(super) fn to(port: u16, more: &[(&str, &str)]) -> Self {
        static USERS: AtomicU32 = AtomicU32::new(0);
        let user = format!("user{}", USERS.fetch_add(1, Ordering::Relaxed));
        let home = TempDir::new().expect("a directory");
        let password = home.path().join("password");
        std::fs::write(&password, "secret\n").expect("written");
        let only_we = std::os::unix::fs::PermissionsExt::from_mode(0o600);
        std::fs::set_permissions(&password, only_we).expect("hidden");
        let port = port.to_string();
        let password = password.display().to_string();
        let least = [
            ("host", "127.0.0.1"),
            ("port", port.as_str()),
            ("security", "none"),
            ("username", user.as_str()),
            ("password_file", password.as_str()),
        ];
        let own = |(key, value): &(&str, &str)| ((*key).to_owned(), (*value).to_owned());
        let options = least.iter().chain(more).map(own).collect();
        let spec = ProviderSpec { options, ..ProviderSpec::new("imap") };
        let dialer = Dialer::new(Settings::of(&spec).expect("settings"));
        let store =
            ProviderSpec { path: home.path().join("store.db"), ..ProviderSpec::new("sqlite") };
        let (broker, told, _) = Broker::new(&store);
        Self {
            server: None,
            home,
            broker,
            told,
            dialer,
            spec,
            carried: Carried::default(),
            next: 1 << 100,
        }
    }

    /// From now on the account is at another port: which one it was.
    pub(super) fn go_to(&mut self, port: u16) -> u16 {
        let mut settings = self.dialer.settings.clone();
        let before = std::mem::replace(&mut settings.port, port);
        self.dialer = Dialer::new(settings);
        before
    }

    /// From now on the profile says this, too.
    pub(super) fn set(&mut self, key: &str, value: &str) {
        let mut spec = self.spec.clone();
        spec.options.push((key.to_owned(), value.to_owned()));
        self.dialer = Dialer::new(Settings::of(&spec).expect("settings"));
    }

    pub(super) fn server(&self) -> &Server {
        self.server.as_ref().expect("it is at a real server")
    }

    fn log(&self) -> String {
        let log = self.server.as_ref().map(|server| server.log()).unwrap_or_default();
        let lines: Vec<_> = log.lines().rev().take(20).collect();
        lines.into_iter().rev().collect::<Vec<_>>().join("\n")
    }

    pub(super) fn user(&self) -> &str {
        &self.dialer.settings.login.username
    }

    /// Another program logs on.
    pub(super) fn other(&self) -> Other {
        let dialed = self.dialer.dial(drop);
        let talk = dialed.unwrap_or_else(|error| panic!("{error}\n{}", self.log()));
        let kind = self.server.as_ref().map_or(Kind::Full, |server| server.kind);
        Other { talk, kind }
    }

    /// A connection of the mailbox.
    pub(super) fn account(&self) -> std::result::Result<Account<'_>, Halt> {
        let talk = self.dialer.dial(drop)?;
        let support: Arc<dyn MailboxSupport> = self.broker.clone();
        let leave = Leave::of(&Arc::new(AtomicU64::new(0)));
        let book = Book::open(&support, 1, &self.dialer.settings.account(), leave)?;
        let wanted = self.dialer.settings.take_over.clone();
        if wanted.is_some() {
            *self.carried.copies.borrow_mut() = Copies::below(wanted, 1);
        }
        Account::begin(&self.dialer.settings, talk, book, &self.carried)
    }

    /// Everything that a mailbox does until it would wait.
    pub(super) fn pass(account: &mut Account<'_>) -> std::result::Result<Option<String>, Halt> {
        account.survey(true)?;
        account.pass_over_unchanged()?;
        let failed = account.carry_out()?.map(|error| error.message);
        account.look_around()?;
        account.book.say(MirrorChange::Passed)?;
        account.book.write()?;
        loop {
            if !account.is_current() {
                account.look_around()?;
            } else if !account.work()? {
                return Ok(failed);
            }
        }
    }

    /// A mailbox connects, does everything, and is gone.
    pub(super) fn settle(&self) {
        let mut account = self.account().expect("it begins");
        let failed = Self::pass(&mut account);
        let failed = failed.unwrap_or_else(|halt| panic!("{halt:?}\n{}", self.log()));
        assert_eq!(failed, None);
        self.assert_bodies();
    }

    pub(super) fn assert_bodies(&self) {
        assert_bodies(&self.home.path().join("store.db"));
    }

    /// The record of each message that is shown, by where it lies at the server.
    pub(super) fn lying(&self) -> BTreeMap<(String, String), u128> {
        let path = self.home.path().join("store.db");
        let store = Connection::open_with_flags(path, OpenFlags::SQLITE_OPEN_READ_ONLY);
        let store = store.expect("a database");
        let sql = "SELECT dir, name, record FROM spot JOIN message ON message.seq = spot.message
                   WHERE message.folder <> 0 AND name IS NOT NULL";
        let mut rows = store.prepare(sql).expect("the tables are there");
        let row = |row: &rusqlite::Row<'_>| {
            Ok(((row.get(0)?, row.get(1)?), u128::from_be_bytes(row.get(2)?)))
        };
        let rows = rows.query_map([], row).expect("it answers");
        rows.map(|row| row.expect("a row")).collect()
    }

    pub(super) fn told(&self) -> Vec<StoreChange> {
        self.told.try_iter().collect()
    }

    fn read(&self, question: &StoreRead) -> ProviderAnswer {
        let reader = self.broker.store().reader();
        reader.expect("a reader").read(question).expect("it answers")
    }

    pub(super) fn folders(&self) -> Vec<FolderRow> {
        match self.read(&StoreRead::Folders { after: None, limit: 1000 }) {
            ProviderAnswer::Folders { rows, .. } => rows,
            other => panic!("{other:?}"),
        }
    }

    pub(super) fn folder(&self, name: &str) -> Folder {
        let found = self.folders().into_iter().find(|row| row.name == name);
        found.unwrap_or_else(|| panic!("there is no {name}: {:?}", self.folders())).folder
    }

    pub(super) fn rows(&self, folder: Folder) -> Vec<ContentsRow> {
        let (sort, only) = (Sort::NEWEST, Filter::default());
        match self.read(&StoreRead::Contents { folder, sort, only, after: None, limit: 5000 }) {
            ProviderAnswer::Contents { rows, .. } => rows,
            other => panic!("{other:?}"),
        }
    }

    pub(super) fn rows_everywhere(&self) -> Vec<ContentsRow> {
        self.folders().into_iter().flat_map(|folder| self.rows(folder.folder)).collect()
    }

    /// The subjects of the messages in a folder with their flags, in alphabetical order.
    pub(super) fn shown(&self, folder: Folder) -> Vec<String> {
        let row = |row: ContentsRow| {
            format!("{}:{}", row.subject, row.flags.names().collect::<Vec<_>>().join(","))
        };
        let mut shown: Vec<_> = self.rows(folder).into_iter().map(row).collect();
        shown.sort();
        shown
    }

    pub(super) fn record(&self, subject: &str) -> u128 {
        let all = self.folders().into_iter().flat_map(|folder| self.rows(folder.folder));
        let found = all.into_iter().find(|row| row.subject == subject);
        found.unwrap_or_else(|| panic!("there is no {subject}")).entry.record
    }

    pub(super) fn text(&self, record: u128) -> Result<String> {
        let mut reader = self.broker.store().reader().expect("a reader");
        let mut text = String::new();
        let mut opened = reader.open(record)?;
        std::io::Read::read_to_string(&mut opened, &mut text).expect("it reads");
        Ok(text)
    }

    pub(super) fn pending(&self) -> usize {
        let mailbox = self.dialer.settings.account();
        match self.read(&StoreRead::Pending { mailbox, after: 0, limit: 1000 }) {
            ProviderAnswer::Pending { rows, .. } => rows.len(),
            other => panic!("{other:?}"),
        }
    }

    /// A program changes something here.
    pub(super) fn write(&self, write: StoreWrite) -> ProviderAnswer {
        self.broker.write(write).expect("it is written")
    }

    pub(super) fn flag(&self, record: u128, add: Marks, remove: Marks) {
        let flags = |marks| Flags { marks, ..Flags::default() };
        self.write(StoreWrite::SetFlags { record, add: flags(add), remove: flags(remove) });
    }

    /// Sets and removes keywords.
    pub(super) fn label(&self, record: u128, add: &str, remove: &str) {
        let flags = |text: &str| text.parse::<Flags>().expect("flags");
        self.write(StoreWrite::SetFlags { record, add: flags(add), remove: flags(remove) });
    }

    pub(super) fn move_to(&self, record: u128, to: Folder) {
        self.write(StoreWrite::Move { record, to });
    }

    /// The store is told that all messages of a directory are gone, and perhaps the directory.
    pub(super) fn forget(&self, dir: &str, is_folder: bool) {
        let mailbox = self.dialer.settings.account();
        let (after, limit) = (String::new(), 1000);
        let question =
            StoreRead::Mirrored { mailbox: mailbox.clone(), dir: dir.into(), after, limit };
        let ProviderAnswer::Spots { rows, .. } = self.read(&question) else { panic!("spots") };
        let gone = |(name, _)| MirrorChange::Vanished { spot: Spot { dir: dir.into(), name } };
        let mut changes: Vec<_> = rows.into_iter().map(gone).collect();
        let found = self.read(&StoreRead::Cursor { mailbox: mailbox.clone(), dir: dir.into() });
        let ProviderAnswer::Cursor(Some(cursor)) = found else { panic!("{found:?}") };
        let cursor = Cursor { messages: 0, ..cursor };
        changes.push(MirrorChange::Cursor { dir: dir.into(), cursor });
        if is_folder {
            changes.push(MirrorChange::FolderGone { dir: dir.into() });
        }
        self.write(StoreWrite::Mirror(Box::new(Mirror { mailbox, changes })));
    }

    /// A program submits a message, and it is sent.
    pub(super) fn send(&mut self, subject: &str) {
        self.next += 1;
        let mut submission = Box::new(submission(self.next));
        let bytes = text(subject).replace("\r\n", "\n").into_bytes();
        let content = MessageContent::Inline(bytes);
        self.write(StoreWrite::Submit { submission: submission.clone(), content, deferred: false });
        for recipient in &mut submission.recipients {
            recipient.state = SubmissionState::Sent;
        }
        let update = SubmissionUpdate {
            state: SubmissionState::Sent,
            places: None,
            submission: *submission,
            now: 1_700_000_000_000,
            notice: None,
        };
        self.write(StoreWrite::Update(Box::new(update)));
    }

    /// A program puts a message into a folder.
    pub(super) fn save(&mut self, subject: &str, folder: Folder) -> u128 {
        self.next += 1;
        let content = MessageContent::Inline(text(subject).replace("\r\n", "\n").into_bytes());
        let (flags, now) = (Flags::default(), 1_700_000_000_000);
        let record = self.next;
        self.write(StoreWrite::Save { record, folder, content, flags, recovered: false, now });
        record
    }
}
