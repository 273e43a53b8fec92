//! Folders, flags, contents tables and mailboxes as callers of the store see them, on real files.

use std::fs;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use proptest::prelude::*;
use sundown_core::provider::{
    MessageFacts, Mirror, MirrorChange, PathPart, Pending, ProviderAnswer, Spot, StoreChange,
    StoreRead, StoreWrite,
};
use sundown_protocol::Code;
use sundown_protocol::folder::{
    Bookmark, Column, ContentsRow, Direction, Filter, Flags, FolderRow, Marks, Role, Sort,
};
use sundown_protocol::request::Folder;
use tempfile::TempDir;

use super::searching::Searching;
use super::tests::{Fixture, inline, submit};
use crate::StoreProvider;
use crate::search::Pace;

const INBOX: Folder = Folder::INBOX;

fn flags(text: &str) -> Flags {
    text.parse().expect("flags")
}

fn append(record: u128, folder: Folder, text: &str, set: &str, now: u64) -> StoreWrite {
    let (content, flags) = (inline(text), flags(set));
    StoreWrite::Save { record, folder, content, flags, recovered: false, now }
}

fn set_flags(record: u128, add: &str, remove: &str) -> StoreWrite {
    StoreWrite::SetFlags { record, add: flags(add), remove: flags(remove) }
}

impl Fixture {
    fn folders(&self) -> Vec<FolderRow> {
        let (mut all, mut after) = (Vec::new(), None);
        loop {
            match self.read(&StoreRead::Folders { after, limit: 3 }) {
                Ok(ProviderAnswer::Folders { rows, next }) => {
                    all.extend(rows);
                    after = next;
                    if next.is_none() {
                        return all;
                    }
                }
                other => panic!("{other:?}"),
            }
        }
    }

    fn make_folder(&mut self, parent: Option<Folder>, name: &str) -> Folder {
        match self.write(StoreWrite::MakeFolder { parent, name: name.into() }) {
            Ok(ProviderAnswer::FolderMade(folder)) => folder,
            other => panic!("{other:?}"),
        }
    }

    fn page(
        &self,
        (folder, sort, only): (Folder, Sort, Filter),
        after: Option<Bookmark>,
        limit: u32,
    ) -> (Vec<ContentsRow>, Option<Bookmark>) {
        match self.read(&StoreRead::Contents { folder, sort, only, after, limit }) {
            Ok(ProviderAnswer::Contents { rows, next }) => (rows, next),
            other => panic!("{other:?}"),
        }
    }

    fn contents(&self, folder: Folder, sort: Sort, only: Filter, limit: u32) -> Vec<u128> {
        let (mut records, mut after) = (Vec::new(), None);
        loop {
            let (rows, next) = self.page((folder, sort, only), after, limit);
            records.extend(rows.iter().map(|row| row.entry.record));
            after = next;
            if after.is_none() {
                return records;
            }
        }
    }

    fn newest(&self, folder: Folder) -> Vec<u128> {
        self.contents(folder, Sort::NEWEST, Filter::default(), 100)
    }

    fn row(&self, folder: Folder, record: u128) -> ContentsRow {
        let (rows, _) = self.page((folder, Sort::NEWEST, Filter::default()), None, 256);
        rows.into_iter().find(|row| row.entry.record == record).expect("it is listed")
    }

    fn mirror(&mut self, mailbox: &Maildir, changes: Vec<MirrorChange>) -> Vec<StoreChange> {
        let mirror = Mirror { mailbox: mailbox.path(), changes };
        match self.write(StoreWrite::Mirror(Box::new(mirror))) {
            Ok(ProviderAnswer::Mirrored(changes)) => changes,
            other => panic!("{other:?}"),
        }
    }

    fn pending(&self, mailbox: &Maildir) -> Vec<Pending> {
        let question = StoreRead::Pending { mailbox: mailbox.path(), after: 0, limit: 100 };
        match self.read(&question) {
            Ok(ProviderAnswer::Pending { rows, next: None }) => rows,
            other => panic!("{other:?}"),
        }
    }

    /// The mailbox has done what is pending of a message: it lies here now, with these marks.
    fn done(&self, mailbox: &Maildir, record: u128, spot: Spot, marks: Marks) -> MirrorChange {
        let pending = self.pending(mailbox);
        let row = pending.iter().find(|row| row.record == record).expect("it is pending");
        let wanted = row.wanted.as_ref().map(|wanted| (wanted.folder, wanted.marks));
        MirrorChange::Done { record, spot: Some(spot), marks, wanted }
    }

    fn spots(&self, mailbox: &Maildir, dir: &str) -> Vec<(String, Marks)> {
        let (mailbox, dir) = (mailbox.path(), dir.to_owned());
        match self.read(&StoreRead::Mirrored { mailbox, dir, after: String::new(), limit: 100 }) {
            Ok(ProviderAnswer::Spots { rows, more: false }) => {
                rows.into_iter().map(|(name, flags)| (name, flags.marks)).collect()
            }
            other => panic!("{other:?}"),
        }
    }
}

/// A Maildir with nobody who watches it: the tests are the mailbox.
struct Maildir(TempDir);

impl Maildir {
    fn new() -> Self {
        let dir = TempDir::new().expect("a directory");
        for folder in ["cur", "new", "tmp"] {
            fs::create_dir(dir.path().join(folder)).expect("it is made");
        }
        Self(dir)
    }

    fn path(&self) -> PathBuf {
        self.0.path().to_owned()
    }

    fn put(&self, folder: &str, name: &str, text: &str) {
        fs::write(self.0.path().join(folder).join(name), text).expect("it is written");
    }
}

fn names(path: &[PathPart]) -> Vec<&str> {
    path.iter().map(|part| &*part.name).collect()
}

fn spot(dir: &str, name: &str) -> Spot {
    Spot { dir: dir.into(), name: name.into() }
}

fn root() -> MirrorChange {
    MirrorChange::Folder {
        dir: String::new(),
        parent: None,
        name: "Inbox".into(),
        role: Some(Role::Inbox),
    }
}

fn directory(dir: &str, name: &str, role: Option<Role>) -> MirrorChange {
    MirrorChange::Folder { dir: dir.into(), parent: None, name: name.into(), role }
}

fn found(dir: &str, name: &str, marks: Marks, news: bool) -> MirrorChange {
    let facts = MessageFacts {
        size: 5,
        received: 9_000,
        date: Some(8_000),
        subject: format!("about {name}"),
        from: "Eve <eve@example.org>".into(),
        to: "anna".into(),
        trace: None,
        keywords: Vec::new(),
        fetch: false,
    };
    MirrorChange::Found { spot: spot(dir, name), marks, news, facts: Box::new(facts) }
}

/// A message of one mailbox cannot go into a folder of another one, but into Deleted; and what is in no mailbox goes anywhere.
#[test]
fn a_message_stays_in_its_mailbox() {
    let (mut fixture, one, two) = (Fixture::new(), Maildir::new(), Maildir::new());
    one.put("cur", "1.a:2,", "hello");
    fixture.mirror(&one, vec![root(), found("", "1.a", Marks(0), false)]);
    fixture.mirror(&two, vec![directory("", "Elsewhere", None), directory(".P", "P", None)]);
    let record = only(&fixture, INBOX);
    let of_two = fixture.folders().into_iter().find(|row| row.name == "P").expect("it is shown");
    let (to, here) = (of_two.folder, fixture.make_folder(None, "New"));
    for write in [StoreWrite::Move { record, to }, StoreWrite::Copy { record, copy: 7, to }] {
        let refused = fixture.write(write).expect_err("it lies elsewhere");
        assert_eq!(refused.code, Code::E_NO_SUPPORT);
    }
    assert_eq!((only(&fixture, INBOX), fixture.pending(&one).len()), (record, 0));
    for to in [here, Folder::DELETED, INBOX] {
        fixture.write(StoreWrite::Move { record, to }).expect("it is moved");
    }
    fixture.write(append(8, to, "hello", "", 1)).expect("it is filed");
    assert_eq!(fixture.pending(&two).len(), 1);
}

/// The only message of a folder.
fn only(fixture: &Fixture, folder: Folder) -> u128 {
    match fixture.newest(folder)[..] {
        [record] => record,
        ref other => panic!("{other:?}"),
    }
}

#[test]
fn a_store_begins_with_its_five_folders() {
    let fixture = Fixture::new();
    let folders = fixture.folders();
    let names: Vec<_> = folders.iter().map(|row| row.name.as_str()).collect();
    assert_eq!(names, ["Inbox", "Outbox", "Sent", "Drafts", "Deleted"]);
    let numbers: Vec<_> = folders.iter().map(|row| row.folder).collect();
    assert_eq!(numbers, Folder::BUILT_IN);
    let roles: Vec<_> = folders.iter().filter_map(|row| row.role?.built_in()).collect();
    assert_eq!(roles, Folder::BUILT_IN);
}

#[test]
fn folders_are_made_renamed_and_removed_and_numbers_used_once() {
    let mut fixture = Fixture::new();
    let work = fixture.make_folder(None, "Work");
    assert!(work.0 >= Folder::FIRST_OTHER, "{work}");
    let inner = fixture.make_folder(Some(work), "Work");
    let collides = StoreWrite::MakeFolder { parent: None, name: "Work".into() };
    assert_eq!(fixture.write(collides).expect_err("it is there").code, Code::E_COLLISION);
    let nowhere = StoreWrite::MakeFolder { parent: Some(Folder(999)), name: "x".into() };
    assert_eq!(fixture.write(nowhere).expect_err("no parent").code, Code::E_NOT_FOUND);
    let remove = |folder| StoreWrite::RemoveFolder { folder };
    assert_eq!(fixture.write(remove(work)).expect_err("not empty").code, Code::E_HAS_FOLDERS);
    fixture.write(append(1, inner, "Subject: a\n\n", "", 1)).expect("it is filed");
    assert_eq!(fixture.write(remove(inner)).expect_err("not empty").code, Code::E_HAS_MESSAGES);
    fixture.write(StoreWrite::Move { record: 1, to: INBOX }).expect("it moves");
    fixture.write(remove(inner)).expect("it is empty");
    let rename = StoreWrite::RenameFolder { folder: work, name: "Done".into() };
    fixture.write(rename).expect("it is renamed");
    let again = fixture.make_folder(None, "Work");
    assert!(again > inner, "a number is used once");
    let names: Vec<_> = fixture.folders().into_iter().skip(5).map(|row| row.name).collect();
    assert_eq!(names, ["Done", "Work"]);
    let gone = StoreWrite::RenameFolder { folder: inner, name: "x".into() };
    assert_eq!(fixture.write(gone).expect_err("it is gone").code, Code::E_NOT_FOUND);
    let into = append(2, inner, "x", "", 1);
    assert_eq!(fixture.write(into).expect_err("it is gone").code, Code::E_NOT_FOUND);
}

#[test]
fn folders_lie_only_so_deep() {
    let mut fixture = Fixture::new();
    let mut parent = None;
    for _ in 0..32 {
        parent = Some(fixture.make_folder(parent, "x"));
    }
    let deeper = StoreWrite::MakeFolder { parent, name: "x".into() };
    assert_eq!(fixture.write(deeper).expect_err("too deep").code, Code::E_TOO_COMPLEX);
}

#[test]
fn flags_are_set_counted_and_kept() {
    let mut fixture = Fixture::new();
    fixture.write(append(1, INBOX, "Subject: a\n\n", "", 1)).expect("it is filed");
    fixture.write(append(2, INBOX, "Subject: b\n\n", "read", 2)).expect("it is filed");
    let counts = |fixture: &Fixture| {
        let folders = fixture.folders();
        (folders[0].total, folders[0].unread)
    };
    assert_eq!(counts(&fixture), (2, 1));
    let flagged = fixture.write(set_flags(1, "read,flagged,$work", "")).expect("it is flagged");
    let expected = flags("read,flagged,$work");
    let told = ProviderAnswer::Flagged { folder: INBOX, flags: expected.clone(), changed: true };
    assert_eq!(flagged, told);
    let again = fixture.write(set_flags(1, "read", "answered")).expect("it is flagged");
    let told = ProviderAnswer::Flagged { folder: INBOX, flags: expected, changed: false };
    assert_eq!(again, told);
    assert_eq!(counts(&fixture), (2, 0));
    let unread = fixture.contents(INBOX, Sort::NEWEST, Filter::UNREAD, 10);
    assert!(unread.is_empty(), "{unread:?}");
    fixture.write(set_flags(2, "", "read,$work")).expect("it is flagged");
    assert_eq!(fixture.contents(INBOX, Sort::NEWEST, Filter::UNREAD, 10), [2]);
    let starred = Filter { with: Marks::FLAGGED, ..Filter::default() };
    assert_eq!(fixture.contents(INBOX, Sort::NEWEST, starred, 10), [1]);
    assert_eq!(fixture.row(INBOX, 1).flags, flags("read,flagged,$work"));
    let many: Vec<_> = (0..32).map(|n| format!("k{n}")).collect();
    let full = set_flags(1, &many.join(","), "");
    assert_eq!(fixture.write(full).expect_err("too many").code, Code::E_TOO_COMPLEX);
    let none = fixture.write(set_flags(9, "read", "")).expect_err("no such message");
    assert_eq!(none.code, Code::E_NOT_FOUND);
}

#[test]
fn what_is_in_the_queue_stays_there_and_counts_as_read() {
    let mut fixture = Fixture::new();
    fixture.write(submit(1, inline("Subject: a\n\nbody"))).expect("it is submitted");
    let moved = fixture.write(StoreWrite::Move { record: 1, to: INBOX });
    assert_eq!(moved.expect_err("it waits").code, Code::E_SUBMITTED);
    let copied = fixture.write(StoreWrite::Copy { record: 1, copy: 2, to: INBOX });
    assert_eq!(copied.expect_err("it waits").code, Code::E_SUBMITTED);
    let row = fixture.row(Folder::OUTBOX, 1);
    assert_eq!((row.flags, row.date), (flags("read"), Some(5_000)));
    let outbox = &fixture.folders()[1];
    assert_eq!((outbox.total, outbox.unread), (1, 0));
}

#[test]
fn copies_share_a_body_until_the_last_is_gone() {
    let mut fixture = Fixture::new();
    fixture.write(append(1, INBOX, "Subject: a\n\nbody", "flagged", 3)).expect("it is filed");
    let copy = |copy| StoreWrite::Copy { record: 1, copy, to: Folder::SENT };
    fixture.write(copy(2)).expect("it is copied");
    fixture.write(copy(3)).expect("it is copied");
    let again = fixture.write(copy(3)).expect("it is there");
    assert!(matches!(again, ProviderAnswer::Saved { new: false, .. }), "{again:?}");
    let own = fixture.write(copy(1)).expect_err("the key of another message");
    assert_eq!(own.code, Code::E_COLLISION);
    assert_eq!(fixture.newest(Folder::SENT), [3, 2]);
    assert_eq!(fixture.row(Folder::SENT, 2).flags, flags("flagged"));
    for record in [1, 3] {
        for _ in 0..2 {
            fixture.write(StoreWrite::Delete { record }).expect("it is deleted");
        }
        assert_eq!(fixture.content(2), "Subject: a\n\nbody");
    }
    let bodies = |fixture: &Fixture| -> i64 {
        fixture.writer().query_row("SELECT count(*) FROM body", [], |row| row.get(0)).expect("n")
    };
    assert_eq!(bodies(&fixture), 1);
    for _ in 0..2 {
        fixture.write(StoreWrite::Delete { record: 2 }).expect("it is deleted");
    }
    assert_eq!(bodies(&fixture), 0);
    let shared = "SELECT count(*) FROM shared";
    let left: i64 = fixture.writer().query_row(shared, [], |row| row.get(0)).expect("n");
    assert_eq!(left, 0);
}

const SENDERS: [&str; 4] = ["anna", "Anna", "bob", ""];

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    /// Pages of every size, in every order, have every message once and in order, also when messages come and go between them.
    #[test]
    fn pages_have_every_message_once(
        messages in prop::collection::vec((0..4_usize, 0..4_u8, 0..5_u64, 0..3_usize), 0..30),
        limit in 1..8_u32,
        column in prop::sample::select(Column::ALL.to_vec()),
        descending: bool,
    ) {
        let mut fixture = Fixture::new();
        let write = |(n, (from, subject, now, size)): (usize, &(usize, u8, u64, usize))| {
            let (from, size) = (SENDERS[*from], "x".repeat(*size));
            let text = format!("From: {from}\nSubject: {subject}\n\n{size}");
            append(n as u128 + 1, INBOX, &text, "", *now)
        };
        for answer in fixture.batch(messages.iter().enumerate().map(write).collect()) {
            answer.expect("it is filed");
        }
        let direction = if descending { Direction::Descending } else { Direction::Ascending };
        let sort = Sort { by: column, direction };
        let listed = fixture.contents(INBOX, sort, Filter::default(), limit);
        let mut records: Vec<_> = (0..messages.len()).map(|n| n as u128 + 1).collect();
        let key = |record: &u128| {
            let (from, subject, now, size) = messages[*record as usize - 1];
            match column {
                Column::Received | Column::Date => (now, String::new()),
                Column::From => (0, SENDERS[from].to_lowercase()),
                Column::Subject => (0, subject.to_string()),
                Column::Size => (
                    (SENDERS[from].len() + size) as u64,
                    String::new(),
                ),
            }
        };
        records.sort_by_key(|record| (key(record), *record));
        if descending {
            records.reverse();
        }
        prop_assert_eq!(listed, records);
    }
}

#[test]
fn a_cursor_of_an_old_client_goes_on_behind_a_message_that_is_gone() {
    let mut fixture = Fixture::new();
    for record in 1..=4 {
        let now = 10 - record as u64;
        fixture.write(append(record, INBOX, "x", "", now)).expect("it is filed");
    }
    let list = |fixture: &Fixture, after| match fixture.read(&StoreRead::List {
        folder: INBOX,
        after,
        limit: 2,
    }) {
        Ok(ProviderAnswer::Messages { rows, next }) => {
            (rows.iter().map(|row| row.entry.record).collect::<Vec<_>>(), next)
        }
        other => panic!("{other:?}"),
    };
    let (first, next) = list(&fixture, 0);
    assert_eq!(first, [4, 3]);
    for _ in 0..2 {
        fixture.write(StoreWrite::Delete { record: 3 }).expect("it is deleted");
    }
    assert_eq!(list(&fixture, next.expect("there is more")), (vec![2, 1], None));
}

#[test]
fn what_lies_in_a_mailbox_is_read_from_there() {
    let (mut fixture, mailbox) = (Fixture::new(), Maildir::new());
    mailbox.put("new", "1700000000.a.host", "hello");
    let told =
        fixture.mirror(&mailbox, vec![root(), found("", "1700000000.a.host", Marks(0), true)]);
    let record = only(&fixture, INBOX);
    let StoreChange::Created { record: created, folder: INBOX, news: Some(news) } = &told[0] else {
        panic!("{told:?}");
    };
    assert_eq!((*created, news.subject.as_str()), (record, "about 1700000000.a.host"));
    assert_eq!(record >> 80, 1_700_000_000_000, "it is in the order of the records of programs");
    assert_eq!(fixture.content(record), "hello");
    let row = fixture.row(INBOX, record);
    assert_eq!((row.date, row.received, row.size), (Some(8_000), 9_000, 5));
    // Another program reads it.
    let at = |name: &str| mailbox.path().join(name);
    fs::rename(at("new/1700000000.a.host"), at("cur/1700000000.a.host:2,RSx")).expect("it moves");
    assert_eq!(fixture.content(record), "hello");
    let piece = fixture.read(&StoreRead::Piece { record, offset: 1, limit: 3 }).expect("it reads");
    let told = ProviderAnswer::Piece { size: 5, bytes: b"ell".to_vec(), unread_notice: false };
    assert_eq!(piece, told);
    // It is found once, however often it is said.
    assert_eq!(fixture.mirror(&mailbox, vec![found("", "1700000000.a.host", Marks(0), true)]), []);
    fs::remove_file(at("cur/1700000000.a.host:2,RSx")).expect("it is removed");
    let gone = fixture.read(&StoreRead::Piece { record, offset: 0, limit: 3 });
    assert_eq!(gone.expect_err("its file is gone").code, Code::E_NOT_FOUND);
}

#[test]
fn marks_of_both_sides_are_merged() {
    let (mut fixture, mailbox) = (Fixture::new(), Maildir::new());
    fixture.mirror(&mailbox, vec![root(), found("", "a", Marks::READ, false)]);
    let record = only(&fixture, INBOX);
    fixture.write(set_flags(record, "flagged,$work", "read")).expect("it is flagged");
    // The mailbox says that it was answered, and has not heard of the rest.
    let marks = Marks(Marks::READ.0 | Marks::ANSWERED.0);
    let told = fixture.mirror(&mailbox, vec![MirrorChange::Marked { spot: spot("", "a"), marks }]);
    assert_eq!(told, [StoreChange::Modified { record, folder: INBOX }]);
    assert_eq!(fixture.row(INBOX, record).flags, flags("answered,flagged,$work"));
    let [pending] = &fixture.pending(&mailbox)[..] else { panic!("it is pending") };
    let wanted = pending.wanted.as_ref().expect("it stays");
    assert_eq!(wanted.marks.0, Marks::ANSWERED.0 | Marks::FLAGGED.0);
    assert_eq!((wanted.dir.as_deref(), pending.spot.as_ref()), (Some(""), Some(&spot("", "a"))));
    let done = fixture.done(&mailbox, record, spot("", "a"), wanted.marks);
    assert_eq!(fixture.mirror(&mailbox, vec![done]), []);
    assert!(fixture.pending(&mailbox).is_empty());
    // What the mailbox undoes is undone here.
    let told = fixture
        .mirror(&mailbox, vec![MirrorChange::Marked { spot: spot("", "a"), marks: Marks(0) }]);
    assert_eq!(told, [StoreChange::Modified { record, folder: INBOX }]);
    assert_eq!(fixture.row(INBOX, record).flags, flags("$work"));
}

#[test]
fn the_directories_of_a_mailbox_are_listed() {
    let (mut fixture, mailbox) = (Fixture::new(), Maildir::new());
    let dirs = |fixture: &Fixture, after: Option<&str>, limit| {
        let (mailbox, after) = (mailbox.path(), after.map(str::to_owned));
        match fixture.read(&StoreRead::Directories { mailbox, after, limit }) {
            Ok(ProviderAnswer::Directories { dirs, more, .. }) => (dirs, more),
            other => panic!("{other:?}"),
        }
    };
    assert_eq!(dirs(&fixture, None, 9), (vec![], false));
    let bound = directory(".B", "B", None);
    let unbound = found(".C", "c", Marks(0), false);
    fixture.mirror(&mailbox, vec![root(), bound, unbound, found("", "a", Marks(0), false)]);
    fixture.mirror(&mailbox, vec![found("", "b", Marks(0), false)]);
    let named = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>();
    assert_eq!(dirs(&fixture, None, 9), (named(&["", ".B", ".C"]), false));
    assert_eq!(dirs(&fixture, None, 2), (named(&["", ".B"]), true));
    assert_eq!(dirs(&fixture, Some(".B"), 2), (named(&[".C"]), false));
    assert_eq!(dirs(&fixture, Some(".C"), 2), (vec![], false));
}

#[test]
fn what_vanishes_and_comes_back_is_the_same_message() {
    let (mut fixture, mailbox) = (Fixture::new(), Maildir::new());
    let archive = directory(".Archive", "Archive", Some(Role::Archive));
    fixture.mirror(&mailbox, vec![root(), archive, found("", "1.a", Marks(0), false)]);
    let record = only(&fixture, INBOX);
    let told = fixture.mirror(&mailbox, vec![MirrorChange::Vanished { spot: spot("", "1.a") }]);
    assert_eq!(told, [StoreChange::Deleted { record, folder: INBOX }]);
    assert!(fixture.newest(INBOX).is_empty() && fixture.spots(&mailbox, "").is_empty());
    let told = fixture.mirror(&mailbox, vec![found(".Archive", "1.a", Marks::READ, true)]);
    let folder = fixture.folders().last().expect("the archive").folder;
    assert_eq!(told, [StoreChange::Created { record, folder, news: None }]);
    assert_eq!(only(&fixture, folder), record);
    // The other one of the same name is another message.
    fixture.mirror(&mailbox, vec![found("", "1.a", Marks(0), false)]);
    assert_ne!(only(&fixture, INBOX), record);
    let moved =
        MirrorChange::Moved { from: spot(".Archive", "1.a"), to: spot("", "1.b"), marks: Marks(0) };
    let told = fixture.mirror(&mailbox, vec![moved]);
    let moved = StoreChange::Moved { record, from: folder, to: INBOX };
    assert_eq!(told, [moved, StoreChange::Modified { record, folder: INBOX }]);
}

/// A flag that the mailbox had not set yet when it missed a message is set when it is back; what another program has set there stays.
#[test]
fn a_flag_outlives_that_its_message_was_missed() {
    let (mut fixture, mailbox) = (Fixture::new(), Maildir::new());
    fixture.mirror(&mailbox, vec![root(), found("", "1.a", Marks::READ, false)]);
    let record = only(&fixture, INBOX);
    fixture.write(set_flags(record, "flagged,work", "read")).expect("set");
    fixture.mirror(&mailbox, vec![MirrorChange::Vanished { spot: spot("", "1.a") }]);
    assert!(fixture.pending(&mailbox).is_empty());
    let there = Marks(Marks::READ.0 | Marks::ANSWERED.0);
    fixture.mirror(&mailbox, vec![found("", "1.a", there, false)]);
    assert_eq!(fixture.row(INBOX, record).flags, flags("answered,flagged,work"));
    let [pending] = &fixture.pending(&mailbox)[..] else { panic!("it is to be told") };
    assert_eq!((pending.record, pending.seen), (record, there));
}

/// So is a move; and one into a folder that is gone by then is forgotten.
#[test]
fn a_move_outlives_that_its_message_was_missed() {
    for is_removed in [false, true] {
        let (mut fixture, mailbox) = (Fixture::new(), Maildir::new());
        let message = found("", "1.a", Marks(0), false);
        fixture.mirror(&mailbox, vec![root(), directory(".Work", "Work", None), message.clone()]);
        let record = only(&fixture, INBOX);
        let to = fixture.folders().last().expect("it is shown").folder;
        fixture.write(StoreWrite::Move { record, to }).expect("it is moved");
        fixture.mirror(&mailbox, vec![MirrorChange::Vanished { spot: spot("", "1.a") }]);
        if is_removed {
            fixture.write(StoreWrite::RemoveFolder { folder: to }).expect("it is empty");
        }
        let here = if is_removed { INBOX } else { to };
        let told = fixture.mirror(&mailbox, vec![message]);
        assert_eq!(told, [StoreChange::Created { record, folder: here, news: None }]);
        assert_eq!(only(&fixture, here), record);
        let pending = fixture.pending(&mailbox);
        let wanted: Vec<_> =
            pending.iter().map(|row| row.wanted.as_ref().expect("it stays").folder).collect();
        assert_eq!(wanted, if is_removed { Vec::new() } else { vec![to] });
    }
}

#[test]
fn the_same_maildir_gives_the_same_entries_to_a_new_store() {
    let mailbox = Maildir::new();
    let records = [0, 1].map(|_| {
        let mut fixture = Fixture::new();
        fixture.mirror(&mailbox, vec![root(), found("", "1700000000.x", Marks(0), false)]);
        only(&fixture, INBOX)
    });
    assert_eq!(records[0], records[1]);
}

#[test]
fn what_is_marked_as_deleted_is_in_deleted() {
    let (mut fixture, mailbox) = (Fixture::new(), Maildir::new());
    fixture.mirror(&mailbox, vec![root(), found("", "a", Marks(0), false)]);
    let record = only(&fixture, INBOX);
    let marked = |marks| vec![MirrorChange::Marked { spot: spot("", "a"), marks }];
    let told = fixture.mirror(&mailbox, marked(Marks::DELETED));
    let moved = StoreChange::Moved { record, from: INBOX, to: Folder::DELETED };
    let flagged = StoreChange::Modified { record, folder: Folder::DELETED };
    assert_eq!(told, [moved, flagged]);
    fixture.mirror(&mailbox, marked(Marks(0)));
    assert_eq!(only(&fixture, INBOX), record);
    // From here: it is to be marked there.
    fixture.write(StoreWrite::Delete { record }).expect("it is deleted");
    let [pending] = &fixture.pending(&mailbox)[..] else { panic!("it is pending") };
    let wanted = pending.wanted.as_ref().expect("it stays");
    assert_eq!((wanted.dir.as_deref(), wanted.role), (None, Some(Role::Deleted)));
    let done = fixture.done(&mailbox, record, spot("", "a"), Marks::DELETED);
    let flagged = StoreChange::Modified { record, folder: Folder::DELETED };
    assert_eq!(fixture.mirror(&mailbox, vec![done]), [flagged]);
    assert_eq!(only(&fixture, Folder::DELETED), record);
    assert_eq!(fixture.row(Folder::DELETED, record).flags, flags("deleted"));
    assert!(fixture.pending(&mailbox).is_empty());
    // And back.
    fixture.write(StoreWrite::Move { record, to: INBOX }).expect("it moves");
    assert_eq!(fixture.pending(&mailbox).len(), 1);
    let done = fixture.done(&mailbox, record, spot("", "a"), Marks(0));
    let flagged = StoreChange::Modified { record, folder: INBOX };
    assert_eq!(fixture.mirror(&mailbox, vec![done]), [flagged]);
    assert!(fixture.row(INBOX, record).flags.is_empty() && fixture.pending(&mailbox).is_empty());
    fixture.mirror(&mailbox, marked(Marks::DELETED));
    // For good.
    fixture.write(StoreWrite::Delete { record }).expect("it is deleted");
    let [pending] = &fixture.pending(&mailbox)[..] else { panic!("it is pending") };
    assert_eq!((&pending.wanted, pending.spot.as_ref()), (&None, Some(&spot("", "a"))));
    // It is seen once more before it is removed.
    assert_eq!(fixture.mirror(&mailbox, vec![found("", "a", Marks::DELETED, false)]), []);
    let done = MirrorChange::Done { record, spot: None, marks: Marks(0), wanted: None };
    fixture.mirror(&mailbox, vec![done]);
    assert!(fixture.pending(&mailbox).is_empty());
    let told = fixture.mirror(&mailbox, vec![found("", "a", Marks(0), false)]);
    assert!(matches!(told[..], [StoreChange::Created { .. }]), "{told:?}");
}

#[test]
fn a_program_moves_a_message_and_the_mailbox_is_told() {
    let (mut fixture, mailbox) = (Fixture::new(), Maildir::new());
    fixture.mirror(&mailbox, vec![root(), found("", "a", Marks(0), false)]);
    let record = only(&fixture, INBOX);
    let work = fixture.make_folder(None, "Work");
    let inner = fixture.make_folder(Some(work), "2026");
    fixture.write(StoreWrite::Move { record, to: inner }).expect("it moves");
    let [pending] = &fixture.pending(&mailbox)[..] else { panic!("it is pending") };
    let wanted = pending.wanted.as_ref().expect("it stays");
    assert_eq!(names(&wanted.path), ["Work", "2026"]);
    assert_eq!(wanted.dir, None);
    // The mailbox makes the directory, says so, and moves the file.
    let parent = directory(".Work", "Work", None);
    let child = MirrorChange::Folder {
        dir: ".Work.2026".into(),
        parent: Some(".Work".into()),
        name: "2026".into(),
        role: None,
    };
    let there = spot(".Work.2026", "a");
    let done = fixture.done(&mailbox, record, there, Marks(0));
    assert_eq!(fixture.mirror(&mailbox, vec![parent, child, done]), []);
    assert!(fixture.pending(&mailbox).is_empty());
    assert_eq!(only(&fixture, inner), record);
    // Back before the mailbox is told: there is nothing to do.
    fixture.write(StoreWrite::Move { record, to: INBOX }).expect("it moves");
    fixture.write(StoreWrite::Move { record, to: inner }).expect("it moves");
    assert!(fixture.pending(&mailbox).is_empty());
    // A directory that goes away takes its folder along only when it is empty.
    fixture.mirror(&mailbox, vec![MirrorChange::FolderGone { dir: ".Work.2026".into() }]);
    assert_eq!(only(&fixture, inner), record);
}

#[test]
fn what_comes_into_a_folder_of_a_mailbox_is_exported() {
    let (mut fixture, mailbox) = (Fixture::new(), Maildir::new());
    fixture.write(append(1, INBOX, "early", "", 1)).expect("it is filed");
    fixture.mirror(&mailbox, vec![root()]);
    assert!(fixture.pending(&mailbox).is_empty(), "what was there stays here");
    fixture.write(append(2, INBOX, "hello", "flagged", 1)).expect("it is filed");
    let [pending] = &fixture.pending(&mailbox)[..] else { panic!("it is pending") };
    assert_eq!((pending.record, &pending.spot, pending.size), (2, &None, 5));
    assert_eq!(fixture.content(2), "hello");
    mailbox.put("cur", "2.x:2,F", "hello");
    let done = fixture.done(&mailbox, 2, spot("", "2.x"), Marks::FLAGGED);
    assert_eq!(fixture.mirror(&mailbox, vec![done]), []);
    assert!(fixture.pending(&mailbox).is_empty());
    assert_eq!(fixture.content(2), "hello");
    // It is seen there: it is the same message.
    assert_eq!(fixture.mirror(&mailbox, vec![found("", "2.x", Marks::FLAGGED, true)]), []);
    let bodies = "SELECT count(*) FROM body";
    let left: i64 = fixture.writer().query_row(bodies, [], |row| row.get(0)).expect("n");
    assert_eq!(left, 1, "its bytes are there and not here");
    // One that is deleted for good before it was exported is forgotten.
    fixture.write(append(3, INBOX, "x", "", 1)).expect("it is filed");
    for _ in 0..2 {
        fixture.write(StoreWrite::Delete { record: 3 }).expect("it is deleted");
    }
    assert!(fixture.pending(&mailbox).is_empty());
}

#[test]
fn a_copy_of_a_file_outlives_the_file() {
    let (mut fixture, mailbox) = (Fixture::new(), Maildir::new());
    mailbox.put("new", "a", "hello");
    fixture.mirror(&mailbox, vec![root(), found("", "a", Marks(0), false)]);
    let record = only(&fixture, INBOX);
    let copy = StoreWrite::Copy { record, copy: 7, to: Folder::DRAFTS };
    fixture.write(copy.clone()).expect("it is copied");
    fs::remove_file(mailbox.path().join("new/a")).expect("it is removed");
    fixture.mirror(&mailbox, vec![MirrorChange::Vanished { spot: spot("", "a") }]);
    assert_eq!(fixture.content(7), "hello");
    let again = fixture.write(copy).expect("it is there");
    assert!(matches!(again, ProviderAnswer::Saved { new: false, .. }), "{again:?}");
    let [pending] = &fixture.pending(&mailbox)[..] else { panic!("it is pending") };
    assert_eq!(pending.spot.as_ref().map(|spot| spot.dir.as_str()), Some("tmp"));
}

#[test]
fn two_folders_of_one_role_or_name_are_both_shown() {
    let (mut fixture, mailbox) = (Fixture::new(), Maildir::new());
    fixture.make_folder(None, "Trash");
    let told = fixture.mirror(
        &mailbox,
        vec![
            root(),
            directory(".Trash", "Trash", Some(Role::Deleted)),
            directory(".Bin", "Bin", Some(Role::Deleted)),
            directory(".Sent", "Inbox", None),
            directory(".Junk", "Junk", Some(Role::Junk)),
            directory(".Spam", "Spam", Some(Role::Junk)),
        ],
    );
    let rows = fixture.folders();
    let shown: Vec<_> = rows[5..].iter().map(|row| (row.name.as_str(), row.role)).collect();
    let expected = [
        ("Trash", None),
        ("Bin", None),
        ("Inbox (2)", None),
        ("Junk", Some(Role::Junk)),
        ("Spam", None),
    ];
    assert_eq!(shown, expected);
    assert_eq!(told.len(), 4, "{told:?}");
    // Said again, nothing changes.
    let again = vec![root(), directory(".Sent", "Inbox", None), directory(".Bin", "Bin", None)];
    assert_eq!(fixture.mirror(&mailbox, again), []);
}

/// A mailbox that is not the first of its profile has its folders in a folder, and what is made there has its way without that.
#[test]
fn a_further_mailbox_has_its_folders_in_a_folder() {
    let (mut fixture, first, second) = (Fixture::new(), Maildir::new(), Maildir::new());
    fixture.make_folder(None, "work");
    let account = |heading: Option<&str>| MirrorChange::Account {
        append_sent: true,
        heading: heading.map(str::to_owned),
    };
    let own = |name: &str| {
        vec![
            root(),
            directory(".Trash", "Trash", Some(Role::Deleted)),
            directory(".In", name, None),
        ]
    };
    let say = |changes: Vec<MirrorChange>, heading| [vec![account(heading)], changes].concat();
    // The second may come first.
    fixture.mirror(&second, say(own("In"), Some("work")));
    fixture.mirror(&first, say(own("In"), None));
    let rows = fixture.folders();
    let named_in = |rows: &[FolderRow], name: &str| {
        rows.iter().find(|row| row.parent.is_none() && row.name == name).expect("there").folder
    };
    let named = |folder: Option<Folder>| {
        let row = rows.iter().find(|row| Some(row.folder) == folder);
        row.map_or("", |row| row.name.as_str())
    };
    let shown: Vec<_> =
        rows[5..].iter().map(|row| (named(row.parent), row.name.as_str())).collect();
    let inside = "work (2)";
    let expected = [
        ("", "work"),
        ("", inside),
        (inside, "Inbox"),
        (inside, "Trash"),
        (inside, "In"),
        ("", "In"),
    ];
    assert_eq!(shown, expected);
    assert_eq!(rows[0].folder, INBOX);

    // Said again, nothing changes; and a folder with another name here is renamed there as if it were at the top.
    assert_eq!(fixture.mirror(&second, say(own("In"), Some("else"))), []);
    let folder = rows.iter().find(|row| named(row.parent) == inside && row.name == "In");
    let (folder, name) = (folder.expect("it is there").folder, "Out".to_owned());
    fixture.write(StoreWrite::RenameFolder { folder, name }).expect("it is renamed");
    let changed = fixture.changed_folders(&second);
    assert_eq!(changed, [(".In".to_owned(), Some(vec!["Out".to_owned()]))]);
    // Its own name is nothing to the mailbox.
    let heading = rows.iter().find(|row| row.name == inside).expect("it is there").folder;
    let (folder, name) = (heading, "Office".to_owned());
    fixture.write(StoreWrite::RenameFolder { folder, name }).expect("it is renamed");
    assert_eq!(fixture.changed_folders(&second).len(), 1);
    // What a program makes in there is the mailbox's own; what it puts beside that stays here.
    let made = fixture.make_folder(Some(heading), "Made");
    for (record, folder) in [(1, made), (2, heading)] {
        fixture.write(append(record, folder, "Subject: a\n\nb", "", 5)).expect("it is put there");
    }
    let pending = fixture.pending(&second);
    let [one] = &pending[..] else { panic!("{pending:?}") };
    let path: Vec<_> =
        one.wanted.iter().flat_map(|wanted| &wanted.path).map(|p| p.name.as_str()).collect();
    assert_eq!((one.record, path), (1, vec!["Made"]));
    assert!(fixture.pending(&first).is_empty());
    for to in [heading, named_in(&rows, "In")] {
        let error = fixture.write(StoreWrite::Move { record: 1, to }).expect_err("it is elsewhere");
        assert_eq!(error.code, Code::E_NO_SUPPORT);
    }
    let new = vec![directory(".New", "New", None)];
    fixture.mirror(&second, say(new, Some("work")));
    let rows = fixture.folders();
    let new = rows.iter().find(|row| row.name == "New").expect("it is there");
    assert_eq!(new.parent, Some(heading));
}

#[test]
fn a_long_slice_says_which_tables_to_read_again() {
    let (mut fixture, mailbox) = (Fixture::new(), Maildir::new());
    let mut changes = vec![root()];
    changes.extend((0..30).map(|n| found("", &format!("m{n}"), Marks(0), n == 7)));
    let told = fixture.mirror(&mailbox, changes);
    assert!(
        matches!(
            &told[..],
            [StoreChange::Created { news: Some(_), .. }, StoreChange::Reload(INBOX)]
        ),
        "{told:?}"
    );
    assert_eq!(fixture.newest(INBOX).len(), 30);
    assert_eq!(fixture.spots(&mailbox, "").len(), 30);
}

/// What a search finds, in pages of two.
fn found_by(fixture: &Fixture, words: &str, folder: Option<Folder>) -> Vec<u128> {
    let mut reader = fixture.store.reader().expect("a reader");
    let (mut records, mut after) = (Vec::new(), 0);
    loop {
        let question = StoreRead::Search { words: words.into(), folder, after, limit: 2 };
        match reader.read(&question) {
            // The index is built when nothing has changed for a moment.
            Ok(ProviderAnswer::Hits { unindexed: 1.., .. }) => std::thread::yield_now(),
            Ok(ProviderAnswer::Hits { rows, next, .. }) => {
                records.extend(rows.iter().map(|row| row.entry.record));
                match next {
                    Some(next) => after = next,
                    None => return records,
                }
            }
            other => panic!("{other:?}"),
        }
    }
}

#[test]
fn a_search_finds_what_is_there_wherever_it_lies() {
    let (mut fixture, mailbox) = (Fixture::new(), Maildir::new());
    mailbox.put("new", "1700000000.a", "Subject: parcel\n\nIt comes on Monday.\n");
    fixture.mirror(&mailbox, vec![root(), found("", "1700000000.a", Marks(0), false)]);
    let filed = only(&fixture, INBOX);
    for record in 1..=5 {
        let folder = if record == 3 { Folder::SENT } else { INBOX };
        fixture.write(append(record, folder, "Subject: hello\n\nparcel\n", "", 1)).expect("filed");
    }
    fixture.write(submit(9, inline("Subject: late\n\nthe parcel\n"))).expect("it is submitted");
    assert_eq!(found_by(&fixture, "parcel", None), [9, 5, 4, 3, 2, 1, filed]);
    assert_eq!(found_by(&fixture, "parcel", Some(INBOX)), [5, 4, 2, 1, filed]);
    assert_eq!(found_by(&fixture, "subject:parcel monday", None), [filed]);
    fixture.write(StoreWrite::Delete { record: 4 }).expect("it is deleted");
    assert_eq!(found_by(&fixture, "parcel -monday", None), [9, 5, 3, 2, 1]);
    assert_eq!(found_by(&fixture, "parcel", Some(Folder::DELETED)), [4]);
    let question = StoreRead::Search { words: "-x".into(), folder: None, after: 0, limit: 2 };
    let refused = fixture.read(&question).expect_err("there is nothing to look for");
    assert_eq!(refused.code, Code::E_INVALID_PARAMETER);
}

/// A message that had vanished, and whose words were forgotten, is found again when it is back, although it is not the last one.
#[test]
fn what_comes_back_is_found_again() {
    let (mut fixture, mailbox) = (Fixture::new(), Maildir::new());
    let uid = fixture.store.logon().expect("it logs on").uid;
    let at_once = Pace {
        quiet: Duration::ZERO,
        patience: Duration::ZERO,
        compare: Duration::ZERO,
        ..Pace::default()
    };
    let path = fixture.path();
    fixture.store.searching = Some(Searching::new(&path, uid, at_once));
    mailbox.put("new", "1700000000.a", "Subject: parcel\n\nIt comes on Monday.\n");
    let back = found("", "1700000000.a", Marks(0), false);
    fixture.mirror(&mailbox, vec![root(), back.clone()]);
    let filed = only(&fixture, INBOX);
    for record in [1, 2] {
        fixture.write(append(record, INBOX, "Subject: hello\n\nparcel\n", "", 1)).expect("filed");
    }
    assert_eq!(found_by(&fixture, "parcel", None), [2, 1, filed]);
    fixture.mirror(&mailbox, vec![MirrorChange::Vanished { spot: spot("", "1700000000.a") }]);
    for _ in 0..2 {
        fixture.write(StoreWrite::Delete { record: 1 }).expect("it is deleted for good");
    }
    let entries = || {
        let index = rusqlite::Connection::open(crate::search::path_of(&path)).expect("it opens");
        let count = "SELECT count(*) FROM entry";
        index.query_row(count, [], |row| row.get::<_, u64>(0)).unwrap_or_default()
    };
    let until = Instant::now() + Duration::from_secs(60);
    while entries() != 1 {
        assert!(Instant::now() < until, "its words stay");
        std::thread::yield_now();
    }
    fixture.mirror(&mailbox, vec![back]);
    while found_by(&fixture, "parcel", None) != [2, filed] {
        assert!(Instant::now() < until, "it is not found");
        std::thread::yield_now();
    }
}

impl Fixture {
    fn changed_folders(&self, mailbox: &Maildir) -> Vec<(String, Option<Vec<String>>)> {
        match self.read(&StoreRead::ChangedFolders { mailbox: mailbox.path(), limit: 9 }) {
            Ok(ProviderAnswer::ChangedFolders(rows)) => {
                rows.into_iter().map(|row| (row.dir, row.wanted)).collect()
            }
            other => panic!("{other:?}"),
        }
    }
}

/// A Maildir with a folder in another one, and a message in it: the store, the Maildir, the two folders, the message.
fn a_folder_in_another() -> (Fixture, Maildir, [Folder; 2], u128) {
    let (mut fixture, mailbox) = (Fixture::new(), Maildir::new());
    let child = MirrorChange::Folder {
        dir: ".Work.2026".into(),
        parent: Some(".Work".into()),
        name: "2026".into(),
        role: None,
    };
    let outer = directory(".Work", "Work", None);
    let message = found(".Work.2026", "1.a", Marks(0), false);
    fixture.mirror(&mailbox, vec![root(), outer, child, message]);
    let folders = fixture.folders();
    let [outer, inner] = [folders[5].folder, folders[6].folder];
    let record = only(&fixture, inner);
    (fixture, mailbox, [outer, inner], record)
}

#[test]
fn a_folder_that_is_renamed_here_is_renamed_there() {
    let (mut fixture, mailbox, [work, inner], record) = a_folder_in_another();
    let name = "Done".to_owned();
    fixture.write(StoreWrite::RenameFolder { folder: work, name }).expect("it is renamed");
    // The mailbox says the old name once more before it is told.
    fixture.mirror(&mailbox, vec![directory(".Work", "Work", None)]);
    assert_eq!(fixture.folders()[5].name, "Done");
    let wanted = vec![(".Work".to_owned(), Some(vec!["Done".to_owned()]))];
    assert_eq!(fixture.changed_folders(&mailbox), wanted);
    let moved =
        MirrorChange::FolderMoved { from: ".Work".into(), to: ".Done".into(), name: "Done".into() };
    assert_eq!(fixture.mirror(&mailbox, vec![moved]), []);
    assert!(fixture.changed_folders(&mailbox).is_empty());
    assert_eq!(fixture.spots(&mailbox, ".Done.2026").len(), 1);
    assert_eq!(only(&fixture, inner), record);
    // What is seen next is known.
    let again = found(".Done.2026", "1.a", Marks(0), true);
    assert_eq!(fixture.mirror(&mailbox, vec![directory(".Done", "Done", None), again]), []);
    assert_eq!(fixture.folders().len(), 7);
}

#[test]
fn a_rename_that_was_cut_off_is_recognized() {
    let (mut fixture, mailbox, [work, inner], record) = a_folder_in_another();
    let name = "Done".to_owned();
    fixture.write(StoreWrite::RenameFolder { folder: work, name }).expect("it is renamed");
    // The directory has its new name, and the mailbox was killed before it said so.
    let child = MirrorChange::Folder {
        dir: ".Done.2026".into(),
        parent: Some(".Done".into()),
        name: "2026".into(),
        role: None,
    };
    let message = found(".Done.2026", "1.a", Marks(0), true);
    let told = fixture.mirror(&mailbox, vec![directory(".Done", "Done", None), child, message]);
    assert_eq!(told, []);
    assert_eq!(fixture.folders().len(), 7);
    assert_eq!(only(&fixture, inner), record);
    assert!(fixture.changed_folders(&mailbox).is_empty());
}

#[test]
fn a_folder_that_is_removed_here_is_removed_there() {
    let (mut fixture, mailbox, [work, inner], record) = a_folder_in_another();
    fixture.write(StoreWrite::Move { record, to: INBOX }).expect("it moves");
    let done = fixture.done(&mailbox, record, spot("", "1.a"), Marks(0));
    fixture.mirror(&mailbox, vec![done]);
    let removed = |folder| StoreWrite::RemoveFolder { folder };
    fixture.write(removed(inner)).expect("it is removed");
    assert_eq!(fixture.changed_folders(&mailbox), [(".Work.2026".to_owned(), None)]);
    // The mailbox sees it once more.
    let child = directory(".Work.2026", "2026", None);
    assert_eq!(fixture.mirror(&mailbox, vec![child.clone()]), []);
    assert_eq!(fixture.folders().len(), 6);
    let gone = MirrorChange::FolderGone { dir: ".Work.2026".into() };
    assert_eq!(fixture.mirror(&mailbox, vec![gone]), []);
    assert!(fixture.changed_folders(&mailbox).is_empty());
    // One that cannot be removed is a folder again.
    fixture.write(removed(work)).expect("it is removed");
    let kept = MirrorChange::FolderKept { dir: ".Work".into(), name: None };
    fixture.mirror(&mailbox, vec![kept]);
    assert!(fixture.changed_folders(&mailbox).is_empty());
    fixture.mirror(&mailbox, vec![directory(".Work", "Work", None)]);
    assert_eq!(fixture.folders().len(), 6);
}

#[test]
fn a_file_that_was_seen_before_its_export_was_told_is_one_message() {
    let (mut fixture, mailbox) = (Fixture::new(), Maildir::new());
    fixture.mirror(&mailbox, vec![root()]);
    fixture.write(append(2, INBOX, "hello", "", 1)).expect("it is filed");
    // The mailbox of another session sees the file first.
    fixture.mirror(&mailbox, vec![found("", "2.x", Marks(0), true)]);
    let done = fixture.done(&mailbox, 2, spot("", "2.x"), Marks(0));
    let told = fixture.mirror(&mailbox, vec![done]);
    assert!(matches!(told[..], [StoreChange::Deleted { folder: INBOX, .. }]), "{told:?}");
    assert_eq!(only(&fixture, INBOX), 2);
}

/// What programs change while the mailbox carries out something else stays as they want it, whatever the mailbox says then.
#[test]
fn a_change_that_crosses_with_its_carrying_out_stays() {
    for trash in [None, Some(directory(".Trash", "Trash", Some(Role::Deleted)))] {
        let (mut fixture, mailbox) = (Fixture::new(), Maildir::new());
        let dir = if trash.is_some() { ".Trash" } else { "" };
        let seen = found("", "1.a", Marks(0), false);
        fixture.mirror(&mailbox, [root()].into_iter().chain(trash).chain([seen]).collect());
        let record = only(&fixture, INBOX);
        let marks = if dir.is_empty() { Marks::DELETED } else { Marks(0) };
        fixture.write(StoreWrite::Delete { record }).expect("it is deleted");
        let deleted = fixture.done(&mailbox, record, spot(dir, "1.a"), marks);
        fixture.write(StoreWrite::Move { record, to: INBOX }).expect("it is taken back");
        assert_eq!(fixture.mirror(&mailbox, vec![deleted]), [], "{dir}");
        assert_eq!(only(&fixture, INBOX), record, "{dir}");
        assert!(fixture.row(INBOX, record).flags.is_empty(), "{dir}");
        // And so with a flag.
        let back = fixture.done(&mailbox, record, spot("", "1.a"), Marks(0));
        fixture.write(set_flags(record, "flagged", "")).expect("it is flagged");
        assert_eq!(fixture.mirror(&mailbox, vec![back]), [], "{dir}");
        assert_eq!(fixture.row(INBOX, record).flags, flags("flagged"), "{dir}");
        let [pending] = &fixture.pending(&mailbox)[..] else { panic!("it is pending") };
        let wanted = pending.wanted.as_ref().expect("it stays");
        assert_eq!((wanted.dir.as_deref(), wanted.marks), (Some(""), Marks::FLAGGED), "{dir}");
    }
}

#[test]
fn what_is_deleted_for_good_while_it_is_filed_is_removed() {
    let (mut fixture, mailbox) = (Fixture::new(), Maildir::new());
    fixture.mirror(&mailbox, vec![root()]);
    fixture.write(append(2, INBOX, "hello", "", 1)).expect("it is filed");
    let filed = fixture.done(&mailbox, 2, spot("", "2.x"), Marks(0));
    for _ in 0..2 {
        fixture.write(StoreWrite::Delete { record: 2 }).expect("it is deleted");
    }
    assert!(fixture.pending(&mailbox).is_empty());
    assert_eq!(fixture.mirror(&mailbox, vec![filed]), []);
    let [pending] = &fixture.pending(&mailbox)[..] else { panic!("it is to be removed") };
    assert_eq!((&pending.wanted, pending.spot.as_ref()), (&None, Some(&spot("", "2.x"))));
    // It is seen before it is removed.
    assert_eq!(fixture.mirror(&mailbox, vec![found("", "2.x", Marks(0), true)]), []);
    assert!(fixture.newest(INBOX).is_empty());
}

/// Another program has moved a message to where programs here want it, and has changed its flags with that. Each side's flags stay.
#[test]
fn flags_that_come_with_the_same_move_are_taken() {
    let (mut fixture, mailbox) = (Fixture::new(), Maildir::new());
    let work = directory(".Work", "Work", None);
    fixture.mirror(&mailbox, vec![root(), work, found("", "1.a", Marks::ANSWERED, false)]);
    let record = only(&fixture, INBOX);
    let to = fixture.folders().last().expect("it is there").folder;
    fixture.write(StoreWrite::Move { record, to }).expect("it moves");
    fixture.write(set_flags(record, "read", "")).expect("it is read");
    let moved = fixture.done(&mailbox, record, spot(".Work", "1.a"), Marks::FLAGGED);
    let told = fixture.mirror(&mailbox, vec![moved]);
    assert_eq!(told, [StoreChange::Modified { record, folder: to }]);
    assert_eq!(fixture.row(to, record).flags, flags("read,flagged"));
    let [pending] = &fixture.pending(&mailbox)[..] else { panic!("its own flag is pending") };
    let wanted = pending.wanted.as_ref().expect("it stays");
    assert_eq!(wanted.marks.0, Marks::READ.0 | Marks::FLAGGED.0);
}

/// A message comes to where one of the same name was remembered that has vanished.
#[test]
fn the_name_of_a_message_that_vanished_is_free() {
    let (mut fixture, mailbox) = (Fixture::new(), Maildir::new());
    let lists = directory(".Lists", "Lists", None);
    let twins = [found("", "1.a", Marks(0), false), found(".Lists", "1.a", Marks(0), false)];
    fixture.mirror(&mailbox, [root(), lists].into_iter().chain(twins).collect());
    let other = fixture.folders().last().expect("it is there").folder;
    let record = only(&fixture, other);
    fixture.mirror(&mailbox, vec![MirrorChange::Vanished { spot: spot("", "1.a") }]);
    let (from, to) = (spot(".Lists", "1.a"), spot("", "1.a"));
    let told = fixture.mirror(&mailbox, vec![MirrorChange::Moved { from, to, marks: Marks(0) }]);
    assert_eq!(told, [StoreChange::Moved { record, from: other, to: INBOX }]);
    assert_eq!((only(&fixture, INBOX), fixture.newest(other)), (record, vec![]));
}

/// A folder that a program has made is one of the Inbox's mailbox from its first message on.
#[test]
fn a_made_folder_gets_its_directory_with_its_first_message() {
    let (mut fixture, mailbox) = (Fixture::new(), Maildir::new());
    fixture.mirror(&mailbox, vec![root()]);
    let inner = fixture.make_folder(Some(Folder::DRAFTS), "2026");
    fixture.write(append(2, inner, "hello", "", 1)).expect("it is filed");
    let [pending] = &fixture.pending(&mailbox)[..] else { panic!("it is pending") };
    let wanted = pending.wanted.as_ref().expect("it stays");
    assert_eq!((names(&wanted.path), wanted.folder), (vec!["Drafts", "2026"], inner));
    let made =
        MirrorChange::FolderMade { folder: inner, dir: ".Drafts.2026".into(), name: "2026".into() };
    let done = fixture.done(&mailbox, 2, spot(".Drafts.2026", "2.x"), Marks(0));
    assert_eq!(fixture.mirror(&mailbox, vec![made, done]), []);
    assert!(fixture.pending(&mailbox).is_empty());
    let count = fixture.folders().len();
    // It is listed later, under another name too.
    fixture.mirror(&mailbox, vec![directory(".Drafts.2026", "2026", None)]);
    assert_eq!((only(&fixture, inner), fixture.folders().len()), (2, count));
}
