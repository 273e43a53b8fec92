//! A mailbox and a real store, beside other programs that change the Maildir.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, channel};
use std::time::Duration;

use proptest::prelude::*;
use sundown_core::provider::{
    FastShutdown, MessageContent, ProviderAnswer, StoreChange, StoreRead, StoreWrite,
};
use sundown_protocol::folder::{ContentsRow, Filter, Flags, FolderRow, Role, Sort};
use sundown_protocol::request::Folder as StoreFolder;
use tempfile::TempDir;

use super::pass::Memory;
use super::worker::Watch;
use super::*;
use crate::mailbox::testing::{Broker, When};
use crate::mailbox::{Book, Halt, Leave, Standing};
use crate::sqlite::tests::assert_bodies;
use crate::{Reply, StoreProvider};

struct World {
    home: TempDir,
    broker: Arc<Broker>,
    told: Receiver<StoreChange>,
    said: Receiver<Result<()>>,
    settings: Settings,
    next: u128,
}

const INBOX: StoreFolder = StoreFolder::INBOX;

impl World {
    fn new() -> Self {
        Self::with(Shown::All, &[])
    }

    fn with(shown: Shown, own: &[&str]) -> Self {
        Self::keeping_sent("forever", shown, own)
    }

    fn keeping_sent(time: &str, shown: Shown, own: &[&str]) -> Self {
        let home = TempDir::new().expect("a directory");
        let path = home.path().join("Maildir");
        let options = vec![("keep_sent".to_owned(), time.to_owned())];
        let store = home.path().join("store.db");
        let spec = ProviderSpec { path: store, options, ..ProviderSpec::new("sqlite") };
        let (broker, hears, hears_said) = Broker::new(&spec);
        let own = own.iter().map(|own| Pattern::own(own).expect("a pattern")).collect();
        let settings = Settings { path: path.clone(), shown, own };
        let world = Self { home, broker, told: hears, said: hears_said, settings, next: 1 };
        world.make("");
        world
    }

    fn path(&self, name: &str) -> PathBuf {
        self.settings.path.join(name)
    }

    fn make(&self, folder: &str) {
        for sub in ["new", "cur", "tmp"] {
            fs::create_dir_all(self.path(folder).join(sub)).expect("made");
        }
    }

    /// Another program writes a message, whose subject is this text.
    fn put(&self, file: &str, subject: &str) {
        self.put_text(file, &format!("Subject: {subject}\n\nbody of {subject}\n"));
    }

    fn put_text(&self, file: &str, text: &str) {
        let tmp = self.path("tmp/other-program");
        fs::write(&tmp, text).expect("written");
        fs::rename(tmp, self.path(file)).expect("delivered");
    }

    /// Another program renames a file.
    fn rename(&self, from: &str, to: &str) {
        fs::rename(self.path(from), self.path(to)).expect("renamed");
    }

    fn begin<'m>(&self, memory: &'m mut Option<Memory>) -> std::result::Result<Watch<'m>, Halt> {
        let root = Root::open(&self.settings.path).expect("opened");
        let support: Arc<dyn MailboxSupport> = self.broker.clone();
        let leave = Leave::of(&Arc::new(AtomicU64::new(0)));
        let book = Book::open(&support, 1, &self.settings.path, leave).expect("a reader");
        Watch::begin(&self.settings, root, book, memory)
    }

    /// A mailbox that begins, does its work, watches what happens in the function, and ends.
    fn watching<T>(&self, happens: impl FnOnce(&mut Watch<'_>) -> T) -> T {
        let mut memory = None;
        let mut watch = self.begin(&mut memory).expect("it begins");
        assert_eq!(watch.carry_out().expect("it works"), None);
        watch.everything().expect("it works");
        let happened = happens(&mut watch);
        see(&mut watch);
        happened
    }

    fn settle(&self) {
        self.watching(|_| ());
        self.assert_bodies();
    }

    fn assert_bodies(&self) {
        assert_bodies(&self.home.path().join("store.db"));
    }

    fn read(&self, question: &StoreRead) -> ProviderAnswer {
        self.broker.store().reader().expect("a reader").read(question).expect("it answers")
    }

    fn folders(&self) -> Vec<FolderRow> {
        match self.read(&StoreRead::Folders { after: None, limit: 1000 }) {
            ProviderAnswer::Folders { rows, .. } => rows,
            other => panic!("{other:?}"),
        }
    }

    fn folder(&self, name: &str) -> StoreFolder {
        let found = self.folders().into_iter().find(|row| row.name == name);
        found.unwrap_or_else(|| panic!("there is no {name}: {:?}", self.folders())).folder
    }

    fn pages(&self, folder: StoreFolder) -> Vec<ContentsRow> {
        let only = Filter::default();
        let question =
            StoreRead::Contents { folder, sort: Sort::NEWEST, only, after: None, limit: 2000 };
        match self.read(&question) {
            ProviderAnswer::Contents { rows, .. } => rows,
            other => panic!("{other:?}"),
        }
    }

    fn rows(&self, folder: StoreFolder) -> Vec<(u128, String, String)> {
        let shown = self.pages(folder).into_iter().map(|row| {
            let flags = row.flags.names().collect::<Vec<_>>().join(",");
            (row.entry.record, row.subject, flags)
        });
        shown.collect()
    }

    /// The subjects of the messages in a folder with their flags, in alphabetical order.
    fn shown(&self, folder: StoreFolder) -> Vec<String> {
        let rows = self.rows(folder).into_iter();
        let mut shown: Vec<_> =
            rows.map(|(_, subject, flags)| format!("{subject}:{flags}")).collect();
        shown.sort();
        shown
    }

    fn record(&self, subject: &str) -> u128 {
        let all = self.folders().into_iter().flat_map(|folder| self.rows(folder.folder));
        let found = all.into_iter().find(|(_, shown, _)| shown == subject);
        found.unwrap_or_else(|| panic!("there is no {subject}")).0
    }

    fn text(&self, record: u128) -> String {
        let mut reader = self.broker.store().reader().expect("a reader");
        let mut text = String::new();
        let mut opened = reader.open(record).expect("it is there");
        io::Read::read_to_string(&mut opened, &mut text).expect("it reads");
        text
    }

    fn pending(&self) -> usize {
        let mailbox = self.settings.path.clone();
        match self.read(&StoreRead::Pending { mailbox, after: 0, limit: 1000 }) {
            ProviderAnswer::Pending { rows, .. } => rows.len(),
            other => panic!("{other:?}"),
        }
    }

    /// A program of the broker changes something.
    fn write(&self, write: StoreWrite) -> ProviderAnswer {
        self.broker.write(write).expect("it is written")
    }

    fn flag(&self, record: u128, add: &str, remove: &str) {
        let flags = |text: &str| text.parse::<Flags>().expect("flags");
        self.write(StoreWrite::SetFlags { record, add: flags(add), remove: flags(remove) });
    }

    fn save(&mut self, folder: StoreFolder, subject: &str, flags: &str) -> u128 {
        let record = self.next << 80;
        self.next += 1;
        let text = format!("Subject: {subject}\n\nbody of {subject}\n");
        let content = MessageContent::Inline(text.into_bytes());
        let flags = flags.parse().expect("flags");
        self.write(StoreWrite::Save {
            record,
            folder,
            content,
            flags,
            recovered: false,
            now: 5_000,
        });
        record
    }

    fn told(&self) -> Vec<StoreChange> {
        self.told.try_iter().collect()
    }

    /// The subjects of new mail that was told.
    fn news(&self) -> Vec<String> {
        let news = self.told().into_iter().filter_map(|change| match change {
            StoreChange::Created { news, .. } => news.map(|news| news.subject),
            _ => None,
        });
        let mut news: Vec<_> = news.collect();
        news.sort();
        news
    }

    /// All messages of the Maildir: where each is, with its text.
    fn files(&self) -> BTreeMap<String, String> {
        let mut found = BTreeMap::new();
        let root = Root::open(&self.settings.path).expect("opened");
        for folder in root.folders().expect("listed").found {
            for sub in ["new", "cur", "tmp"] {
                let dir = root.path_of(&folder.dir).join(sub);
                for entry in fs::read_dir(&dir).into_iter().flatten() {
                    let path = entry.expect("an entry").path();
                    let name = path.strip_prefix(&self.settings.path).expect("below").to_owned();
                    let text =
                        fs::read(&path).map(|text| String::from_utf8_lossy(&text).into_owned());
                    found.insert(name.to_string_lossy().into_owned(), text.unwrap_or_default());
                }
            }
        }
        found
    }

    fn names(&self) -> Vec<String> {
        self.files().into_keys().collect()
    }
}

/// Looks until nothing has changed.
fn see(watch: &mut Watch<'_>) {
    let seen = watch.look().expect("it looks");
    watch.handle(seen).expect("it works");
    let rest = watch.look().expect("it looks");
    assert!(rest.is_quiet(), "{rest:?}");
}

#[test]
fn what_other_programs_do_is_seen() {
    let world = World::new();
    world.make(".Lists");
    world.watching(|watch| {
        world.put("new/1.a", "one");
        see(watch);
        assert_eq!(world.shown(INBOX), ["one:"]);
        assert_eq!(world.news(), ["one"]);
        let record = world.record("one");
        // A mail client reads it, answers it and files it.
        world.rename("new/1.a", "cur/1.a:2,S");
        see(watch);
        assert_eq!(world.shown(INBOX), ["one:read"]);
        world.rename("cur/1.a:2,S", "cur/1.a:2,RSa");
        world.rename("cur/1.a:2,RSa", ".Lists/cur/1.a:2,RSa");
        see(watch);
        assert!(world.shown(INBOX).is_empty());
        assert_eq!(world.shown(world.folder("Lists")), ["one:read,answered"]);
        assert_eq!(world.record("one"), record, "it is the same message");
        assert_eq!(world.text(record), "Subject: one\n\nbody of one\n");
        // A filter makes a folder and delivers there.
        world.make(".Lists.Rust");
        world.put(".Lists.Rust/new/2.b", "two");
        see(watch);
        assert_eq!(world.shown(world.folder("Rust")), ["two:"]);
        assert_eq!(world.news(), [""; 0], "only the Inbox has new mail");
        let rust = world.folders().into_iter().find(|row| row.name == "Rust").expect("there");
        assert_eq!(rust.parent, Some(world.folder("Lists")));
        // The folder is renamed, with its message.
        world.rename(".Lists.Rust", ".Rust");
        see(watch);
        assert_eq!(world.shown(world.folder("Rust")), ["two:"]);
        assert_eq!(world.folders().len(), 5 + 2);
        // It is removed.
        fs::remove_dir_all(world.path(".Rust")).expect("removed");
        fs::remove_file(world.path(".Lists/cur/1.a:2,RSa")).expect("removed");
        see(watch);
        assert!(world.shown(world.folder("Lists")).is_empty());
        assert_eq!(world.folders().len(), 5 + 1);
        assert!(world.files().is_empty());
    });
}

/// What was changed while no mailbox watched is seen by the next one.
#[test]
fn what_happened_meanwhile_is_seen() {
    let world = World::new();
    world.make(".A");
    world.make(".B");
    for (file, subject) in [
        ("cur/1.a:2,S", "one"),
        ("new/2.b", "two"),
        (".A/cur/3.c:2,", "three"),
        (".B/cur/4.d:2,S", "four"),
    ] {
        world.put(file, subject);
    }
    world.settle();
    let records = ["one", "two", "three", "four"].map(|subject| world.record(subject));
    world.told();
    world.rename("cur/1.a:2,S", ".A/cur/1.a:2,FS");
    world.rename("new/2.b", "cur/2.b:2,");
    world.rename(".A/cur/3.c:2,", "cur/3.c:2,R");
    world.rename(".B", ".C");
    world.put("new/5.e", "five");
    world.put("cur/6.f:2,S", "six");
    world.settle();
    assert_eq!(world.shown(INBOX), ["five:", "six:read", "three:answered", "two:"]);
    assert_eq!(world.shown(world.folder("A")), ["one:read,flagged"]);
    assert_eq!(world.shown(world.folder("C")), ["four:read"]);
    assert_eq!(world.news(), ["five"], "six was looked at by another program");
    let now = ["one", "two", "three", "four"].map(|subject| world.record(subject));
    assert_eq!(records, now, "they are the same messages");
    assert!(!world.folders().iter().any(|row| row.name == "B"));
    world.settle();
    assert_eq!(world.told(), [], "nothing has changed since");
}

/// A Maildir that a store has never seen has no new mail, but for what arrives from then on.
#[test]
fn a_first_look_has_no_news() {
    let world = World::new();
    world.put("new/1.a", "old");
    let mut memory = Some(Memory::new(Vec::new()).expect("random numbers"));
    memory.as_mut().expect("made").began_at(std::time::SystemTime::now() + Duration::from_secs(9));
    let mut watch = world.begin(&mut memory).expect("it begins");
    watch.everything().expect("it works");
    assert_eq!(world.shown(INBOX), ["old:"]);
    assert_eq!(world.news(), [""; 0]);
    drop(watch);
    // It has come after the watch began, and before the first look.
    let world = World::new();
    let mut memory = None;
    let mut watch = world.begin(&mut memory).expect("it begins");
    world.put("new/1.a", "fresh");
    watch.everything().expect("it works");
    assert_eq!(world.news(), ["fresh"]);
    see(&mut watch);
    assert_eq!(world.news(), [""; 0], "it is told once");
}

#[test]
fn what_programs_do_here_is_done_there() {
    let mut world = World::new();
    world.make(".Archive");
    for (file, subject) in [("new/1.a", "one"), ("cur/2.b:2,Sx", "two"), ("new/3.c", "three")] {
        world.put(file, subject);
    }
    world.settle();
    let [one, two, three] = ["one", "two", "three"].map(|subject| world.record(subject));
    let archive = world.folder("Archive");
    world.flag(one, "read,flagged,$word", "");
    world.flag(two, "forwarded", "read");
    world.write(StoreWrite::Move { record: three, to: archive });
    let four = world.save(INBOX, "four", "read");
    let five = world.save(archive, "five", "");
    world.settle();
    let own = |record: u128| String::from_utf8(names::of_record(record, 5)).expect("text");
    let expected = [
        format!(".Archive/new/{}", own(five)),
        ".Archive/new/3.c".to_owned(),
        "cur/1.a:2,FS".to_owned(),
        "cur/2.b:2,Px".to_owned(),
        format!("cur/{}:2,S", own(four)),
    ];
    let mut names = world.names();
    names.sort();
    let mut expected = expected.to_vec();
    expected.sort();
    assert_eq!(names, expected);
    assert_eq!(world.text(five), "Subject: five\n\nbody of five\n");
    assert_eq!(world.pending(), 0);
    assert_eq!(world.shown(INBOX), ["four:read", "one:read,flagged,$word", "two:forwarded"]);
    assert_eq!(world.shown(archive), ["five:", "three:"]);
    assert_eq!(world.news(), ["one", "three"], "nothing that was done here is new mail");
    world.settle();
    assert_eq!(world.told(), []);
}

/// Deleted is where T is, if the Maildir has no folder for it.
#[test]
fn deleted_messages_are_marked() {
    let world = World::new();
    for (file, subject) in [("new/1.a", "one"), ("cur/2.b:2,FT", "two")] {
        world.put(file, subject);
    }
    world.settle();
    assert_eq!(world.shown(StoreFolder::DELETED), ["two:flagged,deleted"]);
    let [one, two] = ["one", "two"].map(|subject| world.record(subject));
    world.write(StoreWrite::Delete { record: one });
    world.write(StoreWrite::Move { record: two, to: INBOX });
    world.settle();
    assert_eq!(world.names(), ["cur/1.a:2,T", "cur/2.b:2,F"]);
    assert_eq!(world.shown(StoreFolder::DELETED), ["one:deleted"]);
    assert_eq!(world.shown(INBOX), ["two:flagged"]);
    assert_eq!(world.pending(), 0);
    // For good.
    world.write(StoreWrite::Delete { record: one });
    world.settle();
    assert_eq!(world.names(), ["cur/2.b:2,F"]);
    assert_eq!(world.pending(), 0);
    world.settle();
    assert!(world.shown(StoreFolder::DELETED).is_empty());
}

/// A program can also set and remove the mark itself.
#[test]
fn a_mark_of_deletion_moves_a_message() {
    for trash in [false, true] {
        let world = World::new();
        if trash {
            world.make(".Trash");
        }
        world.put("cur/1.a:2,S", "one");
        world.settle();
        let one = world.record("one");
        world.flag(one, "deleted", "");
        world.settle();
        assert_eq!(world.names(), ["cur/1.a:2,ST"]);
        assert_eq!(world.shown(StoreFolder::DELETED), ["one:read,deleted"]);
        assert_eq!(world.pending(), 0);
        world.flag(one, "", "deleted");
        world.settle();
        assert_eq!(world.names(), ["cur/1.a:2,S"]);
        assert_eq!(world.shown(INBOX), ["one:read"]);
        assert_eq!(world.pending(), 0);
    }
}

/// With a folder for them, that is where they are; T elsewhere is Deleted, too.
#[test]
fn deleted_messages_go_to_their_folder() {
    let world = World::new();
    world.make(".Trash");
    for (file, subject) in
        [("new/1.a", "one"), ("cur/2.b:2,T", "two"), (".Trash/cur/3.c:2,S", "three")]
    {
        world.put(file, subject);
    }
    world.settle();
    assert_eq!(world.shown(StoreFolder::DELETED), ["three:read", "two:deleted"]);
    let [one, two, three] = ["one", "two", "three"].map(|subject| world.record(subject));
    world.write(StoreWrite::Delete { record: one });
    world.flag(two, "read", "");
    world.write(StoreWrite::Move { record: three, to: INBOX });
    world.settle();
    assert_eq!(world.names(), [".Trash/new/1.a", "cur/2.b:2,ST", "cur/3.c:2,S"]);
    assert_eq!(world.pending(), 0);
    world.write(StoreWrite::Delete { record: two });
    world.write(StoreWrite::Delete { record: one });
    world.settle();
    assert_eq!(world.names(), ["cur/3.c:2,S"]);
    assert_eq!((world.pending(), world.shown(INBOX)), (0, vec!["three:read".to_owned()]));
}

/// A folder that was made here is made there when it gets a message.
/// A folder that a program makes gets one directory, wherever it is, however often messages come there, and also after a restart.
#[test]
fn a_made_folder_has_one_directory() {
    let mut world = World::new();
    world.make(".A");
    world.settle();
    for (n, above) in ["Inbox", "Drafts", "Sent", "Deleted", "A"].iter().enumerate() {
        let mut parent = world.folder(above);
        for name in ["n0", "deeper"] {
            let make = StoreWrite::MakeFolder { parent: Some(parent), name: name.into() };
            parent = match world.write(make) {
                ProviderAnswer::FolderMade(folder) => folder,
                other => panic!("{other:?}"),
            };
        }
        for part in 0..3 {
            for message in 0..2 {
                let subject = format!("{n}-{part}-{message}");
                if message == 0 {
                    world.put(&format!("cur/{subject}:2,"), &subject);
                    world.settle();
                    world.write(StoreWrite::Move { record: world.record(&subject), to: parent });
                } else {
                    world.save(parent, &subject, "");
                }
            }
            world.settle();
        }
        let shown = world.shown(parent);
        assert_eq!(shown.len(), 6, "{above}: {shown:?}, {:?}", world.names());
        assert_eq!(world.pending(), 0);
        let rows = world.folders();
        let counted: Vec<_> = rows.iter().map(|row| (&*row.name, row.parent)).collect();
        assert_eq!(rows.len(), 6 + 2 * (n + 1), "{above}: {counted:?}");
    }
    let dirs: std::collections::BTreeSet<_> = world
        .names()
        .iter()
        .filter_map(|name| Some(name.split_once("/cur/")?.0.to_owned()))
        .collect();
    assert_eq!(dirs.len(), 5, "{dirs:?}");
}

/// What was in `cur` does not count as deleted while there is no `cur`, also not where something is to be done to it.
#[test]
fn a_cur_that_is_away_says_nothing() {
    let world = World::new();
    world.put("cur/1.a:2,", "one");
    world.put("cur/2.b:2,", "two");
    world.watching(|watch| {
        see(watch);
        world.rename("cur", "away");
        world.put("new/3.c", "three");
        see(watch);
        watch.everything().expect("it works");
        assert_eq!(world.shown(INBOX), ["one:", "three:", "two:"]);
        world.flag(world.record("one"), "flagged", "");
        let failed = watch.carry_out().expect("it works").expect("it cannot be done");
        assert_eq!(failed.code, Code::E_DISK_ERROR, "{failed:?}");
        world.rename("away", "cur");
        see(watch);
        assert_eq!(watch.carry_out().expect("it works"), None);
        assert_eq!(world.shown(INBOX), ["one:flagged", "three:", "two:"]);
    });
    assert_eq!(world.names(), ["cur/1.a:2,F", "cur/2.b:2,", "new/3.c"]);
}

/// What lies in the Maildir's Sent is the user's, however old it is and however short the store keeps what was sent; and so is what a
/// program has put into Sent.
#[test]
fn old_messages_in_sent_stay() {
    let mut world = World::keeping_sent("off", Shown::All, &[]);
    world.make(".Sent");
    world.put(".Sent/cur/1.a:2,S", "one");
    world.settle();
    let record = world.record("one");
    world.save(StoreFolder::SENT, "two", "read");
    world.flag(record, "important", "");
    for _ in 0..2 {
        // It purges when it is opened.
        let mut store = world.broker.store();
        store.logoff().expect("it closes");
        store.logon().expect("it opens");
        store.tidy();
        drop(store);
        world.settle();
        assert_eq!(world.shown(StoreFolder::SENT), ["one:read,important", "two:read"]);
        assert_eq!(world.record("one"), record);
    }
    assert_eq!(
        world.told(),
        [StoreChange::Created { record, folder: StoreFolder::SENT, news: None }]
    );
}

/// A message that vanished is not taken for another one of the same name in another folder.
#[test]
fn a_twin_in_another_folder_stays_there() {
    let world = World::new();
    world.make(".A");
    world.put("cur/1.a:2,", "one");
    world.put(".A/cur/1.a:2,", "other");
    world.settle();
    world.flag(world.record("one"), "flagged", "");
    fs::remove_file(world.path("cur/1.a:2,")).expect("removed");
    world.settle();
    assert_eq!(world.names(), [".A/cur/1.a:2,"]);
    assert_eq!(world.shown(world.folder("A")), ["other:"]);
    assert!(world.shown(INBOX).is_empty());
}

/// Two messages with one name and the same bytes, as `cp` makes them, are two wherever programs move them: into each other's folder, one
/// after the other or at once, and while the mailbox is killed anywhere.
#[test]
fn twins_in_two_folders_stay_two_when_they_are_moved() {
    for (also, kill) in [(false, None), (true, None)]
        .into_iter()
        .chain((0..5).flat_map(|n| [(false, Some(n)), (true, Some(n))]))
    {
        let world = World::new();
        world.make(".A");
        world.make(".A.B");
        world.put("cur/1.a:2,", "one");
        world.put(".A/cur/1.a:2,F", "one");
        world.settle();
        let (a, b) = (world.folder("A"), world.folder("B"));
        let [first, twin] = [INBOX, a].map(|folder| world.rows(folder)[0].0);
        world.write(StoreWrite::Move { record: first, to: a });
        if also {
            world.write(StoreWrite::Move { record: twin, to: b });
        }
        *world.broker.kill.lock().expect("no panic") = kill.map(|n| (n, When::Before));
        let mut memory = None;
        let _ = world.begin(&mut memory).and_then(|mut watch| watch.carry_out());
        *world.broker.kill.lock().expect("no panic") = None;
        world.settle();
        let of = |folder| {
            let rows = world.rows(folder).into_iter();
            let mut rows: Vec<_> = rows.map(|(record, _, flags)| (record, flags)).collect();
            rows.sort();
            rows
        };
        let twin = (twin, "flagged".to_owned());
        let mut here = vec![(first, String::new())];
        if !also {
            here.push(twin.clone());
            here.sort();
        }
        let there = if also { vec![twin] } else { Vec::new() };
        let at = format!("{also} {kill:?}");
        assert_eq!((of(a), of(b), of(INBOX)), (here, there, Vec::new()), "{at}");
        assert_eq!((world.names().len(), world.pending()), (2, 0), "{at}");
        let is_gone = |change| matches!(change, StoreChange::Deleted { .. });
        assert!(!world.told().into_iter().any(is_gone), "{at}");
    }
}

/// A message that could have no name in a folder stays where it is until one is free; it is not taken for one that vanished.
#[test]
fn a_message_without_a_free_name_stays_and_waits() {
    let world = World::new();
    world.make(".A");
    world.put("cur/1.a:2,", "one");
    world.put(".A/cur/1.a:2,", "other");
    world.settle();
    let record = world.record("one");
    let [row] = &world.pages(INBOX)[..] else { panic!("one message") };
    let given =
        |n| String::from_utf8(names::of_record(record, row.received / 1000 + n)).expect("text");
    for n in 0..3 {
        world.put(&format!(".A/cur/{}:2,", given(n)), &format!("in the way {n}"));
    }
    world.settle();
    world.write(StoreWrite::Move { record, to: world.folder("A") });
    let mut memory = None;
    let mut watch = world.begin(&mut memory).expect("it begins");
    let failed = watch.carry_out().expect("it works").expect("it has no name");
    assert_eq!(failed.code, Code::E_COLLISION);
    assert_eq!(
        (world.pending(), world.text(record)),
        (1, "Subject: one\n\nbody of one\n".to_owned())
    );
    fs::remove_file(world.path(&format!(".A/cur/{}:2,", given(1)))).expect("removed");
    see(&mut watch);
    assert_eq!(watch.carry_out().expect("it works"), None);
    assert_eq!((world.pending(), world.rows(world.folder("A")).len()), (0, 4));
    assert_eq!(world.record("one"), record);
}

/// A message is read and copied where the mailbox has just moved it, before the store has heard of that.
#[test]
fn a_message_on_its_way_is_found() {
    // The slices are the folders, a folder that was made, what is about to be moved, and what was.
    for (name, slice) in [("A", 2), ("New", 3)] {
        let world = World::new();
        world.make(".A");
        world.put("cur/1.a:2,", "one");
        world.settle();
        if name == "New" {
            world.write(StoreWrite::MakeFolder { parent: None, name: name.into() });
        }
        let (record, to) = (world.record("one"), world.folder(name));
        world.write(StoreWrite::Move { record, to });
        world.write(StoreWrite::Copy { record, copy: 7 << 80, to });
        *world.broker.kill.lock().expect("no panic") = Some((slice, When::Before));
        let mut memory = None;
        let killed = world.begin(&mut memory).and_then(|mut watch| watch.carry_out());
        *world.broker.kill.lock().expect("no panic") = None;
        assert!(killed.is_err(), "the store was not told");
        let there = format!(".{name}/");
        assert!(world.names().iter().all(|file| file.starts_with(&there)), "{:?}", world.names());
        for there in [record, 7 << 80] {
            assert_eq!(world.text(there), "Subject: one\n\nbody of one\n");
            world.write(StoreWrite::Copy { record: there, copy: there + 1, to: INBOX });
        }
        world.settle();
        assert_eq!((world.rows(to).len(), world.rows(INBOX).len()), (2, 2), "{name}");
    }
}

/// Who reads a message and its copy without a rest has their bytes each time, while the mailbox takes them out of the store, moves their
/// files, and says so.
#[test]
fn a_message_is_read_while_it_is_filed_and_moved() {
    let mut world = World::new();
    world.make(".A");
    world.settle();
    let folder = world.folder("A");
    for _ in 0..10 {
        let record = world.save(INBOX, "one", "");
        let copy = record + 1;
        world.write(StoreWrite::Copy { record, copy, to: folder });
        let mut reader = world.broker.store().reader().expect("a reader");
        let ends = AtomicBool::new(false);
        std::thread::scope(|scope| {
            let read = scope.spawn(|| {
                let mut times = 0;
                while !ends.load(Ordering::Relaxed) || times == 0 {
                    for record in [record, copy] {
                        let question = StoreRead::Piece { record, offset: 0, limit: 100 };
                        match reader.read(&question).expect("it is there") {
                            ProviderAnswer::Piece { bytes, .. } => {
                                assert_eq!(bytes, b"Subject: one\n\nbody of one\n");
                            }
                            other => panic!("{other:?}"),
                        }
                    }
                    times += 1;
                }
            });
            world.settle();
            for to in [folder, INBOX, StoreFolder::DRAFTS] {
                world.write(StoreWrite::Move { record, to });
                world.flag(copy, "flagged", "");
                world.settle();
                world.flag(copy, "", "flagged");
            }
            ends.store(true, Ordering::Relaxed);
            read.join().expect("each time it was read");
        });
    }
}

/// So is a message whose folder's directory the mailbox has just renamed.
#[test]
fn a_message_of_a_folder_that_is_being_renamed_is_found() {
    let world = World::new();
    world.make(".A");
    world.make(".A.B");
    world.put(".A.B/cur/1.a:2,", "one");
    world.settle();
    let (record, to) = (world.record("one"), world.folder("B"));
    world.write(StoreWrite::RenameFolder { folder: world.folder("A"), name: "Z".into() });
    *world.broker.kill.lock().expect("no panic") = Some((1, When::Before));
    let mut memory = None;
    let killed = world.begin(&mut memory).and_then(|mut watch| watch.carry_out());
    *world.broker.kill.lock().expect("no panic") = None;
    assert!(killed.is_err(), "the store was not told");
    assert_eq!(world.names(), [".Z.B/cur/1.a:2,"]);
    assert_eq!(world.text(record), "Subject: one\n\nbody of one\n");
    world.write(StoreWrite::Copy { record, copy: 7 << 80, to });
    world.settle();
    assert_eq!((world.rows(to).len(), world.folders().len()), (2, 5 + 2));
}

/// Whatever becomes of a folder while the mailbox carries out what it was to become before, the last wish holds, at whatever slice the
/// two cross; and so it does if the mailbox had not begun.
#[test]
fn the_last_wish_for_a_folder_holds() {
    let moved_to = |record, to| StoreWrite::Move { record, to };
    let named = |folder, name: &str| StoreWrite::RenameFolder { folder, name: name.into() };
    let removed = |folder| StoreWrite::RemoveFolder { folder };
    for slice in [None].into_iter().chain((0..6).map(Some)) {
        for what in 0..6 {
            let world = World::new();
            world.make(".A");
            world.make(".A.B");
            world.make(".E");
            world.put("cur/1.a:2,", "one");
            world.put(".A/cur/2.b:2,", "two");
            world.settle();
            let [a, b, e] = ["A", "B", "E"].map(|name| world.folder(name));
            let [one, two] = ["one", "two"].map(|subject| world.record(subject));
            let fresh = |world: &World| {
                world.write(StoreWrite::MakeFolder { parent: None, name: "New".into() });
                world.folder("New")
            };
            let (first, then, files, folders): (Vec<_>, Vec<_>, &[&str], &[&str]) = match what {
                0 => (
                    vec![named(a, "X")],
                    vec![named(a, "Y")],
                    &[".Y/cur/2.b:2,", "cur/1.a:2,"],
                    &["B", "E", "Y"],
                ),
                1 => {
                    let new = fresh(&world);
                    (
                        vec![moved_to(one, new)],
                        vec![named(new, "Other")],
                        &[".A/cur/2.b:2,", ".Other/cur/1.a:2,"],
                        &["A", "B", "E", "Other"],
                    )
                }
                2 => (
                    vec![named(e, "X")],
                    vec![removed(e)],
                    &[".A/cur/2.b:2,", "cur/1.a:2,"],
                    &["A", "B"],
                ),
                3 => (
                    vec![removed(b)],
                    vec![named(a, "X")],
                    &[".X/cur/2.b:2,", "cur/1.a:2,"],
                    &["E", "X"],
                ),
                4 => {
                    let new = fresh(&world);
                    (
                        vec![moved_to(one, new)],
                        vec![moved_to(one, INBOX), removed(new)],
                        &[".A/cur/2.b:2,", "cur/1.a:2,"],
                        &["A", "B", "E"],
                    )
                }
                _ => (
                    vec![moved_to(two, e)],
                    vec![removed(b), removed(a)],
                    &[".E/cur/2.b:2,", "cur/1.a:2,"],
                    &["E"],
                ),
            };
            for write in first {
                world.write(write);
            }
            match slice {
                None => then.into_iter().for_each(|write| drop(world.write(write))),
                Some(slice) => {
                    *world.broker.later.lock().expect("no panic") = Some((slice, then));
                    let mut memory = None;
                    let mut watch = world.begin(&mut memory).expect("it begins");
                    watch.carry_out().expect("it works");
                    watch.everything().expect("it works");
                    let left = world.broker.later.lock().expect("no panic").take();
                    for write in left.into_iter().flat_map(|(_, writes)| writes) {
                        world.write(write);
                    }
                }
            }
            world.settle();
            world.settle();
            let at = format!("{what} {slice:?}");
            assert_eq!(world.names(), files, "{at}");
            let shown = world.folders().into_iter().filter(|row| row.role.is_none());
            let mut shown: Vec<_> = shown.map(|row| row.name).collect();
            shown.sort();
            assert_eq!(shown, folders, "{at}");
            assert_eq!(world.pending(), 0, "{at}");
        }
    }
}

/// A mailbox that was killed while it renamed a folder with those in it renames the rest before it looks at anything.
#[test]
fn a_folder_that_is_half_renamed_is_one_folder() {
    let world = World::new();
    for folder in [".A", ".A.B"] {
        world.make(folder);
    }
    world.put(".A/cur/1.a:2,S", "one");
    world.put(".A.B/cur/2.b:2,S", "two");
    world.settle();
    let records = ["one", "two"].map(|subject| world.record(subject));
    let folders = ["A", "B"].map(|name| world.folder(name));
    world.told();
    world.write(StoreWrite::RenameFolder { folder: folders[0], name: "Z".into() });
    world.rename(".A.B", ".Z.B");
    world.settle();
    assert_eq!(world.names(), [".Z.B/cur/2.b:2,S", ".Z/cur/1.a:2,S"]);
    assert_eq!(["one", "two"].map(|subject| world.record(subject)), records);
    assert_eq!(["Z", "B"].map(|name| world.folder(name)), folders);
    assert_eq!(world.told(), []);
}

/// A Maildir that was moved with its home is the same one, and its messages are the same; a copy of one that is still there is another.
#[test]
fn a_maildir_that_was_moved_is_the_same() {
    let mut world = World::new();
    world.make(".A");
    world.put(".A/cur/1.a:2,S", "one");
    super::super::directory_id(&world.settings.path).expect("it has an id");
    world.settle();
    let record = world.record("one");
    world.told();
    let moved = world.home.path().join("elsewhere");
    fs::rename(&world.settings.path, &moved).expect("renamed");
    world.settings.path = moved;
    world.settle();
    assert_eq!(world.told(), []);
    assert_eq!(
        (world.record("one"), world.shown(world.folder("A"))),
        (record, vec!["one:read".into()])
    );
    world.write(StoreWrite::Move { record, to: INBOX });
    world.settle();
    assert_eq!((world.pending(), world.names()), (0, vec!["cur/1.a:2,S".into()]));

    let copy = world.home.path().join("copy");
    assert!(
        std::process::Command::new("cp")
            .arg("-r")
            .args([&world.settings.path, &copy])
            .status()
            .expect("cp")
            .success()
    );
    world.settings.path = copy;
    world.settle();
    assert_eq!(world.shown(INBOX), ["one:read"]);
    let all: Vec<_> = world.known().into_iter().map(|record| world.text(record)).collect();
    assert_eq!(all, vec!["Subject: one\n\nbody of one\n"; 2]);
}

/// Messages go between folders by other programs under the same name, also where one of that name has vanished.
#[test]
fn a_name_is_used_again_where_a_message_vanished() {
    let world = World::new();
    world.make(".Lists");
    world.put("cur/1.a:2,S", "one");
    world.watching(|watch| {
        fs::copy(world.path("cur/1.a:2,S"), world.path(".Lists/cur/1.a:2,S")).expect("copied");
        see(watch);
        fs::remove_file(world.path("cur/1.a:2,S")).expect("removed");
        see(watch);
        world.rename(".Lists/cur/1.a:2,S", "cur/1.a:2,S");
        see(watch);
        assert_eq!(world.shown(INBOX), ["one:read"]);
        world.put("new/2.b", "two");
        see(watch);
        assert_eq!(world.shown(INBOX), ["one:read", "two:"]);
    });
    world.settle();
    assert_eq!(world.shown(INBOX), ["one:read", "two:"]);
}

/// Another program moves a message to where a program here has just moved it, and flags it; here it was flagged too.
#[test]
fn the_same_move_of_both_sides_keeps_the_flags_of_both() {
    let world = World::new();
    world.make(".A");
    world.put("cur/1.a:2,", "one");
    world.watching(|watch| {
        let record = world.record("one");
        world.write(StoreWrite::Move { record, to: world.folder("A") });
        world.flag(record, "read", "");
        world.rename("cur/1.a:2,", ".A/cur/1.a:2,F");
        assert_eq!(watch.carry_out().expect("it works"), None);
        assert_eq!(world.pending(), 0);
        see(watch);
    });
    assert_eq!(world.shown(world.folder("A")), ["one:read,flagged"]);
    assert_eq!(world.names(), [".A/cur/1.a:2,FS"]);
}

#[test]
fn folders_are_made_for_messages() {
    let world = World::new();
    for (file, subject) in [("new/1.a", "one"), ("new/2.b", "two"), ("new/3.c", "three")] {
        world.put(file, subject);
    }
    world.settle();
    let make = |parent, name: &str| match world
        .write(StoreWrite::MakeFolder { parent, name: name.into() })
    {
        ProviderAnswer::FolderMade(folder) => folder,
        other => panic!("{other:?}"),
    };
    let work = make(None, "R&D");
    let inner = make(Some(work), "v1.2/ü");
    for (subject, to) in [("one", inner), ("two", work), ("three", StoreFolder::DRAFTS)] {
        world.write(StoreWrite::Move { record: world.record(subject), to });
    }
    world.settle();
    assert_eq!(
        world.names(),
        [".Drafts/new/3.c", ".R&-D.v1&AC4-2&AC8A,A-/new/1.a", ".R&-D/new/2.b"]
    );
    assert_eq!((world.shown(inner), world.shown(work)), (vec!["one:".into()], vec!["two:".into()]));
    assert_eq!(world.shown(StoreFolder::DRAFTS), ["three:"]);
    assert_eq!((world.pending(), world.folders().len()), (0, 5 + 2));
    world.settle();
    assert_eq!((world.pending(), world.folders().len()), (0, 5 + 2));
    // One that another program has removed meanwhile.
    world.rename(".R&-D/new/2.b", "cur/2.b:2,S");
    fs::remove_dir_all(world.path(".R&-D")).expect("removed");
    world.watching(|watch| {
        world.write(StoreWrite::Move { record: world.record("three"), to: work });
        assert_eq!(watch.carry_out().expect("it works"), None);
    });
    assert_eq!(world.names(), [".R&-D.v1&AC4-2&AC8A,A-/new/1.a", ".R&-D/new/3.c", "cur/2.b:2,S"]);
    assert_eq!((world.pending(), world.shown(work)), (0, vec!["three:".into()]));
}

/// Folders that are renamed or removed here are so there; a directory with something in it stays, and is a folder again.
#[test]
fn folders_are_renamed_and_removed_there() {
    let world = World::new();
    for folder in [".A", ".A.B", ".C", ".D"] {
        world.make(folder);
    }
    world.put(".A/cur/1.a:2,S", "one");
    world.put(".A.B/new/2.b", "two");
    fs::write(world.path(".D/notes.txt"), "precious").expect("written");
    world.settle();
    let [a, c, d] = ["A", "C", "D"].map(|name| world.folder(name));
    let one = world.record("one");
    world.write(StoreWrite::RenameFolder { folder: a, name: "X/ü".into() });
    world.write(StoreWrite::RemoveFolder { folder: c });
    world.write(StoreWrite::RemoveFolder { folder: d });
    let mut memory = None;
    let mut watch = world.begin(&mut memory).expect("it begins");
    let error = watch.carry_out().expect("it works").expect("one stays").message;
    assert!(error.contains("notes.txt"), "{error}");
    assert_eq!(watch.carry_out().expect("it works"), None);
    watch.everything().expect("it works");
    assert_eq!(world.names(), [".X&AC8A,A-.B/new/2.b", ".X&AC8A,A-/cur/1.a:2,S"]);
    assert_eq!((world.folder("X/ü"), world.record("one")), (a, one));
    assert_eq!(world.shown(a), ["one:read"]);
    assert_eq!(world.shown(world.folder("B")), ["two:"]);
    assert!(!world.path(".C").exists() && world.path(".D/notes.txt").exists());
    let names: Vec<_> = world.folders()[5..].iter().map(|row| row.name.clone()).collect();
    assert!(names.len() == 3 && names.contains(&"D".to_owned()), "{names:?}");
    drop(watch);
    world.told();
    world.settle();
    assert_eq!(world.told(), []);
}

/// A copy is a file of its own, and outlives the first.
#[test]
fn a_copy_is_filed() {
    let world = World::new();
    world.make(".A");
    world.put("cur/1.a:2,S", "one");
    world.settle();
    let (record, copy) = (world.record("one"), 7 << 80);
    world.write(StoreWrite::Copy { record, copy, to: world.folder("A") });
    fs::remove_file(world.path("cur/1.a:2,S")).expect("another program removes it");
    // A transport that logs on removes what is old in `tmp`.
    let staged =
        world.names().into_iter().find(|name| name.starts_with("tmp/")).expect("it is there");
    let old = File::options().write(true).open(world.path(&staged)).expect("opened");
    old.set_modified(std::time::UNIX_EPOCH + Duration::from_secs(9)).expect("set");
    let spec = ProviderSpec { path: world.settings.path.clone(), ..ProviderSpec::new("maildir") };
    let transport = crate::maildir::Maildir::new(&spec);
    transport.remove_stale().expect("removed");
    world.settle();
    let names = world.names();
    assert!(names.len() == 1 && names[0].starts_with(".A/cur/"), "{names:?}");
    assert_eq!((world.pending(), world.shown(INBOX).len()), (0, 0));
    assert_eq!(world.text(copy), "Subject: one\n\nbody of one\n");
    assert_eq!(world.shown(world.folder("A")), ["one:read"]);
}

/// A message that is deleted for good while the mailbox files it leaves its bytes to the copy, which is filed later.
#[test]
fn a_deletion_leaves_the_copy_its_bytes() {
    for slice in 0..6 {
        let mut world = World::new();
        world.make(".A");
        world.settle();
        let (record, copy) = (world.save(INBOX, "one", ""), 7 << 80);
        world.write(StoreWrite::Copy { record, copy, to: world.folder("A") });
        world.flag(copy, "flagged", "");
        let deletions = || (0..2).map(|_| StoreWrite::Delete { record }).collect::<Vec<_>>();
        let mut memory = None;
        let killed = world.begin(&mut memory).and_then(|mut watch| {
            if slice == 0 {
                world.broker.crossing.lock().expect("no panic").extend(deletions());
            } else {
                *world.broker.kill.lock().expect("no panic") = Some((slice - 1, When::After));
            }
            watch.carry_out()
        });
        *world.broker.kill.lock().expect("no panic") = None;
        if killed.is_err() {
            for deletion in deletions() {
                world.write(deletion);
            }
        }
        assert_eq!(world.text(copy), "Subject: one\n\nbody of one\n", "{slice}");
        world.assert_bodies();
        world.settle();
        assert_eq!(world.text(copy), "Subject: one\n\nbody of one\n", "{slice}");
        assert_eq!(
            (world.pending(), world.shown(world.folder("A"))),
            (0, vec!["one:flagged".to_owned()])
        );
    }
}

/// Flags are merged one by one, whoever changed them last; existence is the Maildir's.
#[test]
fn changes_of_both_sides_are_merged() {
    let world = World::new();
    world.make(".A");
    world.put("cur/1.a:2,", "one");
    world.put("cur/2.b:2,S", "two");
    world.put("cur/3.c:2,", "three");
    world.settle();
    let [one, two, three] = ["one", "two", "three"].map(|subject| world.record(subject));
    world.flag(one, "flagged", "");
    world.rename("cur/1.a:2,", "cur/1.a:2,S");
    world.flag(two, "answered", "read");
    fs::remove_file(world.path("cur/2.b:2,S")).expect("removed");
    world.write(StoreWrite::Move { record: three, to: world.folder("A") });
    world.rename("cur/3.c:2,", "cur/3.c:2,R");
    for _ in 0..2 {
        world.settle();
    }
    assert_eq!(world.names(), [".A/cur/3.c:2,R", "cur/1.a:2,FS"]);
    assert_eq!(world.shown(INBOX), ["one:read,flagged"]);
    assert_eq!(world.shown(world.folder("A")), ["three:answered"]);
    assert_eq!(world.pending(), 0);
}

/// Only what is the user's is shown of the Inbox of a Maildir that others' mail comes into, too.
#[test]
fn mail_to_others_is_not_shown() {
    let world = World::with(Shown::Inbox, &["anna", "anna@example.org"]);
    let deliver = |file: &str, to: &[&str], subject: &str| {
        let to: String = to.iter().map(|to| format!("Delivered-To: {to}\n")).collect();
        world.put_text(file, &format!("{to}Subject: {subject}\n\nx\n"));
    };
    world.make(".Lists");
    deliver(".Lists/new/0.x", &["anna"], "elsewhere");
    deliver("new/1.a", &["bob", "ANNA@Example.org"], "both");
    deliver("new/2.b", &["bob"], "bob's");
    deliver("new/3.c", &[], "nobody's");
    world.watching(|watch| {
        assert_eq!(world.shown(INBOX), ["both:", "nobody's:"]);
        deliver("new/4.d", &["bob"], "bob's too");
        deliver("new/5.e", &["anna"], "anna's");
        see(watch);
        assert_eq!(world.shown(INBOX), ["anna's:", "both:", "nobody's:"]);
        // What is not shown is left alone.
        world.rename("new/2.b", "cur/2.b:2,S");
        see(watch);
        watch.everything().expect("it works");
        assert_eq!(world.shown(INBOX).len(), 3);
        // What programs move out of the Inbox is shown in its folder.
        let make = StoreWrite::MakeFolder { parent: None, name: "Work".into() };
        let ProviderAnswer::FolderMade(work) = world.write(make) else { panic!("it is made") };
        world.write(StoreWrite::Move { record: world.record("both"), to: work });
        assert_eq!(watch.carry_out().expect("it works"), None);
        assert_eq!(world.shown(work), ["both:"]);
    });
    world.settle();
    assert_eq!(world.pending(), 0);
    assert_eq!(world.shown(world.folder("Work")), ["both:"]);
    assert_eq!(world.folders().len(), 5 + 1, "other folders are not shown");
    assert!(world.path(".Work/new/1.a").exists());
}

#[test]
fn a_folder_that_is_not_shown_any_more_is_taken_away() {
    let mut world = World::new();
    world.make(".Lists");
    world.put(".Lists/new/1.a", "one");
    world.settle();
    assert_eq!(world.shown(world.folder("Lists")), ["one:"]);
    world.settings.shown = Shown::Inbox;
    world.settle();
    assert_eq!(world.folders().len(), 5);
    assert!(world.path(".Lists/new/1.a").exists());
    world.settings.shown = Shown::All;
    world.settle();
    assert_eq!(world.shown(world.folder("Lists")), ["one:"]);
}

/// Names that are no text, and files with one name.
#[test]
fn strange_names_are_messages() {
    let world = World::new();
    let dir = std::ffi::OsStr::from_bytes(b".M\xfcll 100%");
    for sub in ["new", "cur", "tmp"] {
        fs::create_dir_all(world.settings.path.join(dir).join(sub)).expect("made");
    }
    let file = world
        .settings
        .path
        .join(dir)
        .join("cur")
        .join(std::ffi::OsStr::from_bytes(b"1.\xff%41:2,S"));
    fs::write(&file, "Subject: one\n\nx\n").expect("written");
    world.put("new/2.b", "two");
    world.put("cur/2.b:2,S", "two");
    world.put("new/:2,S", "no base");
    world.put("cur/3.c", "three");
    fs::create_dir(world.path("cur/4.d")).expect("made");
    symlink(world.path("cur/3.c"), world.path("cur/5.e")).expect("a link");
    world.settle();
    assert_eq!(world.shown(INBOX), ["three:", "two:read"]);
    let folder = world.folder("M%FCll 100%");
    assert_eq!(world.shown(folder), ["one:read"]);
    let record = world.record("one");
    assert_eq!(world.text(record), "Subject: one\n\nx\n");
    world.flag(record, "flagged", "read");
    world.write(StoreWrite::Delete { record: world.record("two") });
    world.settle();
    assert!(file.with_file_name(std::ffi::OsStr::from_bytes(b"1.\xff%41:2,F")).exists());
    assert_eq!(world.shown(folder), ["one:flagged"]);
    assert_eq!(world.pending(), 0);
    assert_eq!(world.shown(StoreFolder::DELETED), ["two:read,deleted"]);
    assert!(!world.path("new/2.b").exists(), "both files were one message");
}

/// What cannot be read is not gone.
#[test]
fn unreadable_folders_and_messages_stay() {
    let world = World::new();
    world.make(".A");
    world.put(".A/cur/1.a:2,S", "one");
    world.put("cur/2.b:2,S", "two");
    world.settle();
    world.put("new/3.c", "three");
    let deny = |name: &str| {
        fs::set_permissions(world.path(name), fs::Permissions::from_mode(0o0)).expect("set");
    };
    deny(".A/cur");
    deny("new/3.c");
    if fs::read_dir(world.path(".A/cur")).is_ok() {
        println!("skipped: this user may read everything");
    } else {
        world.settle();
        assert_eq!(world.shown(world.folder("A")), ["one:read"]);
        assert_eq!(world.shown(INBOX), ["two:read"]);
    }
    for name in [".A/cur", "new/3.c"] {
        fs::set_permissions(world.path(name), fs::Permissions::from_mode(0o700)).expect("set");
    }
    world.settle();
    assert_eq!(world.shown(INBOX), ["three:", "two:read"]);
}

/// A Maildir that goes away takes no message of the store with it.
#[test]
fn a_lost_maildir_loses_nothing() {
    for (replaced, expected) in [(false, Standing::Removed), (true, Standing::Replaced)] {
        let world = World::new();
        world.put("new/1.a", "one");
        let mut memory = None;
        let mut watch = world.begin(&mut memory).expect("it begins");
        watch.everything().expect("it works");
        fs::remove_dir_all(world.path("")).expect("removed");
        if replaced {
            world.make("");
        }
        for _ in 0..2 {
            let lost = watch.everything().expect_err("it is lost");
            if replaced {
                assert!(matches!(lost, Halt::Lost(standing) if standing == expected), "{lost:?}");
            }
        }
        let seen = watch.look().expect("it looks");
        assert!(matches!(watch.handle(seen), Err(Halt::Lost(standing)) if standing == expected));
        assert_eq!(world.shown(INBOX), ["one:"]);
        world.write(StoreWrite::Delete { record: world.record("one") });
        assert!(matches!(watch.carry_out(), Err(Halt::Lost(_))));
        assert_eq!(world.pending(), 1);
    }
}

/// A change that cannot be carried out leaves the others alone, and is tried again.
#[test]
fn a_change_that_fails_stays_pending() {
    let world = World::new();
    world.put("cur/1.a:2,", "one");
    world.put("cur/2.b:2,", "two");
    world.settle();
    let make = StoreWrite::MakeFolder { parent: None, name: "x".repeat(250) + "üü" };
    let ProviderAnswer::FolderMade(long) = world.write(make) else { panic!("it is made") };
    world.write(StoreWrite::Move { record: world.record("one"), to: long });
    world.flag(world.record("two"), "read", "");
    let mut memory = None;
    let mut watch = world.begin(&mut memory).expect("it begins");
    for _ in 0..2 {
        let error = watch.carry_out().expect("it works").expect("it fails").message;
        assert!(error.contains("too long"), "{error}");
    }
    assert_eq!(world.names(), ["cur/1.a:2,", "cur/2.b:2,S"]);
    assert_eq!(world.pending(), 1);
    assert_eq!(world.shown(long), ["one:"]);
    world.write(StoreWrite::Move { record: world.record("one"), to: INBOX });
    assert_eq!((watch.carry_out().expect("it works"), world.pending()), (None, 0));
}

/// Slices are short, and the newest messages of a large Inbox come first.
#[test]
fn a_large_maildir_is_taken_in_slices() {
    let world = World::new();
    for number in 0..700 {
        fs::write(world.path(&format!("cur/{number}.x:2,S")), format!("Subject: {number}\n\n"))
            .expect("written");
    }
    let mut memory = None;
    let mut watch = world.begin(&mut memory).expect("it begins");
    // The folder, and the newest 200.
    *world.broker.kill.lock().expect("no panic") =
        Some((1 + 200_usize.div_ceil(crate::SLICE), When::Before));
    watch.everything().expect_err("it is killed");
    let first: Vec<u32> = world
        .rows(INBOX)
        .into_iter()
        .map(|(_, subject, _)| subject.parse().expect("a number"))
        .collect();
    assert_eq!(first.len(), 200);
    assert!(first.iter().all(|number| *number >= 500), "{first:?}");
    *world.broker.kill.lock().expect("no panic") = None;
    world.settle();
    assert_eq!(world.rows(INBOX).len(), 700);
    let slices = world.broker.slices.lock().expect("no panic");
    assert!(slices.iter().all(|slice| *slice <= crate::SLICE));
}

/// A scene for every place at which a mailbox can be killed.
fn scene(world: &mut World) {
    world.make(".A");
    world.make(".Trash");
    for (file, subject) in [
        ("new/1.a", "one"),
        ("cur/2.b:2,S", "two"),
        (".A/cur/3.c:2,", "three"),
        ("cur/5.e:2,", "five"),
    ] {
        world.put(file, subject);
    }
    world.settle();
    let a = world.folder("A");
    let [one, two, three, five] =
        ["one", "two", "three", "five"].map(|subject| world.record(subject));
    world.flag(one, "read", "");
    world.write(StoreWrite::Move { record: two, to: a });
    world.write(StoreWrite::Move { record: three, to: INBOX });
    world.write(StoreWrite::Copy { record: one, copy: 99 << 80, to: a });
    for _ in 0..2 {
        world.write(StoreWrite::Delete { record: five });
    }
    world.save(a, "six", "flagged");
    let make = StoreWrite::MakeFolder { parent: Some(a), name: "New".into() };
    let ProviderAnswer::FolderMade(new) = world.write(make) else { panic!("it is made") };
    world.save(INBOX, "seven", "");
    world.write(StoreWrite::Move { record: world.record("seven"), to: new });
    world.put("new/4.d", "four");
}

/// The subjects of all files, where they are.
fn filed(world: &World) -> Vec<String> {
    let mut filed: Vec<_> = world
        .files()
        .into_iter()
        .map(|(file, text)| {
            let subject = text.lines().next().unwrap_or_default().trim_start_matches("Subject: ");
            let dir = file.rsplit_once('/').map_or("", |(dir, _)| dir);
            let flags = file.split_once(":2,").map_or("", |(_, flags)| flags);
            format!("{dir} {subject} {flags}")
        })
        .collect();
    filed.sort();
    filed
}

/// Nothing is lost and nothing is there twice, wherever the mailbox is killed.
#[test]
fn a_kill_at_any_step_does_no_harm() {
    let expected = [
        ".A.New/new seven ",
        ".A/cur one S",
        ".A/cur six F",
        ".A/cur two S",
        "cur one S",
        "cur three ",
        "new four ",
    ];
    for when in [When::Before, When::After] {
        for step in 0.. {
            let mut world = World::new();
            scene(&mut world);
            *world.broker.kill.lock().expect("no panic") = Some((step, when));
            let mut memory = None;
            let killed = world.begin(&mut memory).and_then(|mut watch| {
                watch.carry_out()?;
                watch.everything()
            });
            *world.broker.kill.lock().expect("no panic") = None;
            world.settle();
            let at = format!("{when:?} slice {step}");
            assert_eq!(filed(&world), expected, "{at}");
            assert_eq!(world.pending(), 0, "{at}");
            assert_eq!(world.shown(INBOX), ["four:", "one:read", "three:"], "{at}");
            assert_eq!(
                world.shown(world.folder("A")),
                ["one:read", "six:flagged", "two:read"],
                "{at}"
            );
            assert_eq!(world.shown(world.folder("New")), ["seven:"], "{at}");
            assert_eq!(world.news().iter().filter(|news| *news == "four").count(), 1, "{at}");
            if killed.is_ok() {
                assert!(step > 2, "there were other steps");
                break;
            }
        }
    }
}

/// A step of somebody.
#[derive(Debug, Clone)]
enum Step {
    Deliver(u8),
    /// Another program gives a file other flags, in the same folder or another one.
    There(usize, u8, u8),
    Remove(usize),
    /// A program of the broker sets flags.
    Flag(usize, u8, u8),
    Move(usize, u8),
    Copy(usize, u8),
    Delete(usize),
    /// The next of these steps happens while the mailbox is at work, and before the store hears of that.
    Meanwhile,
    Save(u8, u8),
    /// The mailbox looks at what has changed.
    See,
    CarryOut,
    /// The mailbox ends, maybe in the middle of its work, and another one begins.
    Restart(Option<(usize, bool)>),
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        3 => (0..3_u8).prop_map(Step::Deliver),
        4 => (any::<usize>(), 0..3_u8, 0..64_u8).prop_map(|(n, to, flags)| Step::There(n, to, flags)),
        1 => any::<usize>().prop_map(Step::Remove),
        4 => (any::<usize>(), 0..64_u8, 0..64_u8).prop_map(|(n, add, remove)| Step::Flag(n, add, remove)),
        3 => (any::<usize>(), 0..4_u8).prop_map(|(n, to)| Step::Move(n, to)),
        2 => (any::<usize>(), 0..3_u8).prop_map(|(n, to)| Step::Copy(n, to)),
        3 => any::<usize>().prop_map(Step::Delete),
        2 => Just(Step::Meanwhile),
        2 => (0..3_u8, 0..64_u8).prop_map(|(to, flags)| Step::Save(to, flags)),
        4 => Just(Step::See),
        3 => Just(Step::CarryOut),
        2 => prop::option::of((0..4_usize, any::<bool>())).prop_map(Step::Restart),
    ];
    prop::collection::vec(step, 1..40)
}

const DIRS: [&str; 3] = ["", ".A", ".A.B"];

impl World {
    fn folder_of(&self, number: u8) -> StoreFolder {
        match number {
            0 => INBOX,
            1 => self.folder("A"),
            2 => self.folder("B"),
            _ => StoreFolder::DELETED,
        }
    }

    fn known(&self) -> Vec<u128> {
        let folders = self.folders().into_iter();
        folders.flat_map(|folder| self.rows(folder.folder)).map(|(record, ..)| record).collect()
    }

    /// A program of the broker changes something, now or while the mailbox is at work.
    fn change(&self, write: StoreWrite, meanwhile: bool) {
        if meanwhile {
            self.broker.crossing.lock().expect("no panic").push(write);
        } else {
            let _ = self.broker.write(write);
        }
    }

    /// One step of another program or of a program of the broker. What cannot be done then is not done.
    fn step(&mut self, step: &Step, meanwhile: bool) {
        let marks = |bits: u8| Flags { marks: Marks(u16::from(bits)), keywords: Vec::new() };
        let pick = |of: &[u128], n: usize| (!of.is_empty()).then(|| of[n % of.len()]);
        match *step {
            Step::Deliver(to) => {
                self.next += 1;
                let name = format!("{}/new/{}.d", DIRS[usize::from(to)], self.next);
                self.put(name.trim_start_matches('/'), &format!("m{}", self.next));
            }
            Step::There(n, to, flags) => {
                let files: Vec<_> =
                    self.names().into_iter().filter(|name| !name.contains("tmp/")).collect();
                if !files.is_empty() {
                    let from = &files[n % files.len()];
                    let base = from
                        .rsplit('/')
                        .next()
                        .and_then(|name| name.split(':').next())
                        .expect("a name");
                    let to = format!("{}/cur", DIRS[usize::from(to)]);
                    let to = to.trim_start_matches('/');
                    // Two files of one directory that differ in their flags alone are one message.
                    let has_twin = |file: &&String| {
                        let (dir, name) = file.rsplit_once('/').expect("a directory");
                        *file != from
                            && [to, &to.replace("cur", "new")].contains(&dir)
                            && name.split(':').next() == Some(base)
                    };
                    if files.iter().any(|file| has_twin(&file)) {
                        return;
                    }
                    let there = names::in_cur(base.as_bytes(), names::Flags::from_bits(flags));
                    let there = format!("{to}/{}", String::from_utf8_lossy(&there));
                    if !self.path(&there).exists() {
                        self.rename(from, &there);
                    }
                }
            }
            Step::Remove(n) => {
                let files: Vec<_> =
                    self.names().into_iter().filter(|name| !name.contains("tmp/")).collect();
                if !files.is_empty() {
                    fs::remove_file(self.path(&files[n % files.len()])).expect("removed");
                }
            }
            Step::Flag(n, add, remove) => {
                if let Some(record) = pick(&self.known(), n) {
                    let (add, remove) = (marks(add), marks(remove));
                    self.change(StoreWrite::SetFlags { record, add, remove }, meanwhile);
                }
            }
            Step::Move(n, to) => {
                if let Some(record) = pick(&self.known(), n) {
                    self.change(StoreWrite::Move { record, to: self.folder_of(to) }, meanwhile);
                }
            }
            Step::Copy(n, to) => {
                if let Some(record) = pick(&self.known(), n) {
                    self.next += 1;
                    let (copy, to) = ((1 << 100) | (self.next << 80), self.folder_of(to));
                    self.change(StoreWrite::Copy { record, copy, to }, meanwhile);
                }
            }
            Step::Delete(n) => {
                if let Some(record) = pick(&self.known(), n) {
                    self.change(StoreWrite::Delete { record }, meanwhile);
                }
            }
            Step::Save(to, flags) => {
                let (folder, subject) = (self.folder_of(to), format!("s{}", self.next));
                let flags = marks(flags).names().collect::<Vec<_>>().join(",");
                self.save(folder, &subject, &flags);
            }
            Step::See | Step::CarryOut | Step::Restart(_) | Step::Meanwhile => {}
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    /// Whatever both sides do, and wherever the mailbox is killed: at rest the store shows each file of the Maildir once, where it is and
    /// with the flags that it has; and no message is in the Maildir twice.
    #[test]
    fn both_sides_are_equal_at_rest(steps in steps()) {
        let mut world = World::new();
        world.make(".A");
        world.make(".A.B");
        let mut memory = None;
        let mut watch = world.begin(&mut memory).expect("it begins");
        watch.everything().expect("it works");
        let mut meanwhile = false;
        for step in &steps {
            match step {
                Step::See => {
                    let seen = watch.look().expect("it looks");
                    watch.handle(seen).expect("it works");
                }
                Step::CarryOut => prop_assert_eq!(watch.carry_out().expect("it works"), None),
                Step::Restart(kill) => {
                    let when = |after| if after { When::After } else { When::Before };
                    *world.broker.kill.lock().expect("no panic") = kill.map(|(n, after)| (n, when(after)));
                    let _ = watch.carry_out().and_then(|_| watch.everything());
                    *world.broker.kill.lock().expect("no panic") = None;
                    memory = None;
                    watch = world.begin(&mut memory).expect("it begins");
                }
                Step::Meanwhile => meanwhile = true,
                step => world.step(step, std::mem::take(&mut meanwhile)),
            }
        }
        for write in std::mem::take(&mut *world.broker.crossing.lock().expect("no panic")) {
            let _ = world.broker.write(write);
        }
        for _ in 0..3 {
            prop_assert_eq!(watch.carry_out().expect("it works"), None);
            watch.everything().expect("it works");
        }
        let seen = watch.look().expect("it looks");
        watch.handle(seen).expect("it works");
        prop_assert_eq!(world.pending(), 0);
        let (mut there, mut names, mut twins) = (Vec::new(), BTreeSet::new(), false);
        for (file, text) in world.files() {
            let subject = text.lines().next().unwrap_or_default().trim_start_matches("Subject: ").to_owned();
            let (dir, name) = file.rsplit_once('/').expect("a directory");
            prop_assert!(!dir.ends_with("tmp"), "{}", file);
            let flags = names::Name::parse(name.as_bytes()).expect("a name").flags();
            let marks = marks::marks(flags);
            let dir = dir.rsplit_once('/').map_or("", |(folder, _)| folder);
            if !names.insert((dir.to_owned(), name.split(':').next().map(str::to_owned))) {
                // A mailbox that was killed had filed it, another program took it away, and it was filed again and moved there.
                twins = true;
                continue;
            }
            let folder = match dir {
                _ if marks.contains(Marks::DELETED) => StoreFolder::DELETED,
                "" => INBOX,
                ".A" => world.folder("A"),
                _ => world.folder("B"),
            };
            let flags = Flags { marks, keywords: Vec::new() };
            there.push((folder, subject, flags.names().collect::<Vec<_>>().join(",")));
        }
        let mut here = Vec::new();
        for folder in world.folders() {
            for (record, subject, flags) in world.rows(folder.folder) {
                let text = world.text(record);
                let body = format!("Subject: {subject}\n\nbody of {subject}\n");
                prop_assert_eq!(text, body);
                here.push((folder.folder, subject, flags));
            }
        }
        if twins {
            // One message with two files has the flags of either.
            for (.., flags) in there.iter_mut().chain(&mut here) {
                flags.clear();
            }
        }
        there.sort();
        here.sort();
        // What was saved in a folder that no mailbox has stays here.
        prop_assert_eq!(here, there);
        world.assert_bodies();
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    /// Where no other program does anything, each message is at the end where the last move put it, or gone if it was deleted for good,
    /// however the moves and the work of the mailbox cross, and wherever it is killed.
    #[test]
    fn the_last_move_holds(
        moves in prop::collection::vec((0..4_usize, 0..5_u8, any::<bool>(), 0..5_u8), 1..24),
        trash in any::<bool>(),
        kills in any::<bool>(),
    ) {
        let mut world = World::new();
        world.make(".A");
        world.make(".A.B");
        if trash {
            world.make(".Trash");
        }
        let mut memory = None;
        let mut watch = world.begin(&mut memory).expect("it begins");
        watch.everything().expect("it works");
        let records: Vec<_> = (0..4).map(|n| world.save(INBOX, &format!("m{n}"), "")).collect();
        let mut wanted: Vec<_> = records.iter().map(|_| Some(INBOX)).collect();
        for (n, to, crosses, work) in moves {
            let record = records[n];
            let write = match to {
                4 => StoreWrite::Delete { record },
                to => StoreWrite::Move { record, to: world.folder_of(to) },
            };
            let wish = |wanted: &mut Vec<Option<StoreFolder>>| match (to, wanted[n]) {
                (_, None) => {}
                (4, Some(StoreFolder::DELETED)) => wanted[n] = None,
                (3 | 4, _) => wanted[n] = Some(StoreFolder::DELETED),
                (to, _) => wanted[n] = Some(world.folder_of(to)),
            };
            if !crosses {
                // What crosses happens first, so that it is known which one is the last.
                for write in std::mem::take(&mut *world.broker.crossing.lock().expect("no panic")) {
                    let _ = world.broker.write(write);
                }
            }
            wish(&mut wanted);
            world.change(write, crosses);
            match work {
                0 => {}
                1 => drop(watch.carry_out()),
                // Before it says what it is about to do, or what it has done.
                3 | 4 if kills => {
                    let slice = usize::from(work) - 3;
                    *world.broker.kill.lock().expect("no panic") = Some((slice, When::Before));
                    drop(watch.carry_out());
                    *world.broker.kill.lock().expect("no panic") = None;
                    memory = None;
                    watch = world.begin(&mut memory).expect("it begins");
                }
                _ => see_once(&mut watch),
            }
        }
        for write in std::mem::take(&mut *world.broker.crossing.lock().expect("no panic")) {
            let _ = world.broker.write(write);
        }
        for _ in 0..3 {
            prop_assert_eq!(watch.carry_out().expect("it works"), None);
            watch.everything().expect("it works");
        }
        prop_assert_eq!(world.pending(), 0);
        let mut found: Vec<Option<StoreFolder>> = records.iter().map(|_| None).collect();
        for folder in world.folders() {
            for (record, ..) in world.rows(folder.folder) {
                let n = records.iter().position(|known| *known == record);
                prop_assert!(n.is_some(), "a message is there that nobody saved: {}", world.names().join(" "));
                found[n.expect("looked at just before")] = Some(folder.folder);
            }
        }
        prop_assert_eq!(found, wanted);
    }
}

fn see_once(watch: &mut Watch<'_>) {
    let seen = watch.look().expect("it looks");
    watch.handle(seen).expect("it works");
}

fn mailbox(world: &World) -> MaildirMailbox {
    let spec = ProviderSpec {
        name: "local".into(),
        kind: "maildir".into(),
        path: world.settings.path.clone(),
        options: Vec::new(),
        fast_shutdown: FastShutdown::Supported,
    };
    let mut mailbox = MaildirMailbox::new(&spec, &Arc::default()).expect("it is made");
    mailbox.logon(world.broker.clone()).expect("it logs on");
    mailbox
}

fn call(mailbox: &mut MaildirMailbox, call: MailboxCall) -> Receiver<Result<()>> {
    let (sender, answer) = channel();
    mailbox.call(call, Reply::new(move |result: Result<_>| _ = sender.send(result.map(drop))));
    answer
}

const LONG: Duration = Duration::from_secs(60);

fn done(mailbox: &mut MaildirMailbox, which: MailboxCall) -> Result<()> {
    call(mailbox, which).recv_timeout(LONG).expect("it answers")
}

/// SEED-19, SEED-20: it stops at once when it is to rest, and goes on later where it was.
#[test]
fn a_mailbox_watches_and_rests() {
    let world = World::new();
    let mut mailbox = mailbox(&world);
    assert!(mailbox.has_nothing_to_save() && mailbox.shutdown().is_some());
    done(&mut mailbox, MailboxCall::Validate).expect("it looks, and does nothing");
    assert!(world.told().is_empty());
    done(&mut mailbox, MailboxCall::Watch { store: 1 }).expect("it watches");
    assert_eq!(world.said.recv_timeout(LONG).expect("it says so"), Ok(()));
    world.put("new/1.a", "one");
    let told = world.told.recv_timeout(LONG).expect("it is told without being asked");
    assert!(matches!(told, StoreChange::Created { news: Some(_), .. }), "{told:?}");
    world.flag(world.record("one"), "read", "");
    done(&mut mailbox, MailboxCall::Changed).expect("it is done");
    assert_eq!(world.names(), ["cur/1.a:2,S"]);
    done(&mut mailbox, MailboxCall::Rest).expect("it rests");
    world.flag(world.record("one"), "flagged", "");
    world.put("new/2.b", "two");
    done(&mut mailbox, MailboxCall::Validate).expect("it looks, and does nothing");
    assert_eq!(world.names(), ["cur/1.a:2,S", "new/2.b"]);
    assert_eq!((world.pending(), world.shown(INBOX).len()), (1, 1));
    // What is pending is carried out all the same, and nothing else is looked at.
    done(&mut mailbox, MailboxCall::Changed).expect("it is done");
    assert_eq!(world.names(), ["cur/1.a:2,FS", "new/2.b"]);
    assert_eq!((world.pending(), world.shown(INBOX).len()), (0, 1));
    done(&mut mailbox, MailboxCall::Watch { store: 1 }).expect("it watches again");
    done(&mut mailbox, MailboxCall::Validate).expect("it has looked at everything");
    assert_eq!(world.names(), ["cur/1.a:2,FS", "new/2.b"]);
    assert_eq!(world.news(), ["two"]);
    mailbox.logoff().expect("it logs off");
    let refused = done(&mut mailbox, MailboxCall::Validate).expect_err("it is logged off");
    assert_eq!(refused.code, Code::E_NOT_INITIALIZED);
    // And on again.
    mailbox.logon(world.broker.clone()).expect("it logs on");
    done(&mut mailbox, MailboxCall::Watch { store: 1 }).expect("it watches");
    world.put("new/3.c", "three");
    done(&mut mailbox, MailboxCall::Validate).expect("it has looked at everything");
    assert_eq!(world.shown(INBOX).len(), 3);
}

/// A Maildir that goes away is said to be so, and used again when it is back; another one in its place is not.
#[test]
fn a_mailbox_says_what_is_wrong() {
    let world = World::new();
    world.put("new/1.a", "one");
    let (here, away) = (world.path(""), world.home.path().join("away"));
    let mut mailbox = mailbox(&world);
    done(&mut mailbox, MailboxCall::Watch { store: 1 }).expect("it watches");
    done(&mut mailbox, MailboxCall::Validate).expect("it works");
    assert_eq!(world.said.recv_timeout(LONG).expect("it says so"), Ok(()));
    fs::rename(&here, &away).expect("renamed");
    let said = world.said.recv_timeout(LONG).expect("it says so").expect_err("it is lost");
    assert!(said.message.contains("Maildir"), "{said}");
    let error = done(&mut mailbox, MailboxCall::Validate).expect_err("it is not there");
    assert!(error.message.contains("no such file"), "{error}");
    world.make("");
    let error = done(&mut mailbox, MailboxCall::Validate).expect_err("it is another one");
    assert!(error.message.contains("another directory"), "{error}");
    fs::remove_dir_all(&here).expect("removed");
    fs::create_dir(&here).expect("made");
    let error = done(&mut mailbox, MailboxCall::Validate).expect_err("it is none");
    assert!(error.message.contains("no Maildir"), "{error}");
    assert_eq!(world.shown(INBOX), ["one:"]);
    fs::remove_dir(&here).expect("removed");
    fs::rename(&away, &here).expect("renamed");
    done(&mut mailbox, MailboxCall::Validate).expect("it is back");
    world.put("new/2.b", "two");
    done(&mut mailbox, MailboxCall::Validate).expect("it works");
    assert_eq!(world.shown(INBOX), ["one:", "two:"]);
    // A copy of it with the same id is the same Maildir.
    // The copy is complete before it is at the path: the mailbox looks there at any time.
    world.make("copy");
    let copy = world.home.path().join("copy");
    fs::rename(here.join("copy"), &copy).expect("renamed");
    fs::copy(here.join("sundown-id"), copy.join("sundown-id")).expect("copied");
    fs::write(copy.join("cur/1.a:2,S"), "Subject: one\n\nbody of one\n").expect("written");
    fs::rename(&here, &away).expect("renamed");
    fs::rename(&copy, &here).expect("renamed");
    done(&mut mailbox, MailboxCall::Validate).expect("it is the same");
    assert_eq!(world.shown(INBOX), ["one:read"]);
}

#[test]
fn wrong_options_are_refused() {
    let made = |key: &str, value: &str| {
        let options = vec![(key.to_owned(), value.to_owned())];
        let spec = ProviderSpec { options, ..ProviderSpec::new("maildir") };
        MaildirMailbox::new(&spec, &Arc::default()).map(drop)
    };
    for (key, value) in [("folders", "some"), ("address", "*"), ("address", "a@@b")] {
        let error = made(key, value).expect_err("it is wrong");
        assert!(error.message.contains(value) && error.message.contains(key), "{error}");
    }
    assert_eq!(made("folders", "inbox"), Ok(()));
    assert_eq!(made("address", "*@example.org"), Ok(()));
}

/// Roles are those of the store's folders.
#[test]
fn folders_with_roles_are_the_stores() {
    let world = World::new();
    for folder in
        [".Sent", ".Sent Items", ".Entw&APw-rfe", ".Drafts", ".Trash", ".Junk", ".Spam", ".a..b"]
    {
        world.make(folder);
        world.put(&format!("{folder}/cur/1.x:2,S"), folder);
    }
    world.settle();
    let shown = |name: &str| world.shown(world.folder(name));
    assert_eq!(shown("Sent"), [".Sent:read"]);
    assert_eq!(shown("Sent Items"), [".Sent Items:read"]);
    assert_eq!(shown("Drafts"), [".Drafts:read"]);
    assert_eq!(shown("Deleted"), [".Trash:read"]);
    assert_eq!(shown("Entwürfe"), [".Entw&APw-rfe:read"]);
    assert_eq!(shown("a..b"), [".a..b:read"]);
    let roles: Vec<_> =
        world.folders()[5..].iter().map(|row| (row.name.clone(), row.role)).collect();
    assert!(roles.contains(&("Junk".to_owned(), Some(Role::Junk))), "{roles:?}");
    assert!(roles.contains(&("Spam".to_owned(), None)), "{roles:?}");
}
