//! Open objects: handles, who may use them, quotas, and what can be read through them.

use sundown_protocol::reply::{Reply, Resource, TableRows, status_code};
use sundown_protocol::request::{
    AddressAction, Folder, LogoffFlags, LogonFlags, Opening, ReadSource, Request, SettingChange,
};
use sundown_protocol::{Code, EntryId, SubmitKey};

use super::world::{World, settings, transport};
use crate::settings::Limits;
use crate::settings::Settings;

/// LOGON-10: members and objects work only on their own connection.
#[test]
fn handles_work_only_at_home() {
    let mut world = World::new();
    let (mine, other) = (world.member(1), world.member(2));
    let same_process = world.connect(1);
    let folder = world.open(mine, Opening::Folder(0, Folder::INBOX));
    for at in [other.at, same_process] {
        let open = Request::Open { member: mine.id, what: Opening::Store(0) };
        assert_eq!(world.refused(at, open), Code::E_INVALID_OBJECT);
        let off = super::world::logoff_request(mine.id, LogoffFlags::default(), None);
        assert_eq!(world.refused(at, off), Code::E_INVALID_OBJECT);
    }
    let list = Request::List { member: other.id, object: folder, after: 0, limit: 9 };
    assert_eq!(world.refused(other.at, list), Code::E_INVALID_OBJECT);
    world.open(mine, Opening::Store(0));
}

/// OBJ-3: a released handle stays dead, also when another object got its place.
#[test]
fn released_handles_stay_dead() {
    let mut world = World::new();
    let member = world.member(1);
    let first = world.open(member, Opening::Folder(0, Folder::INBOX));
    let release = |object| Request::Release { member: member.id, object };
    world.done(member.at, release(first));
    let second = world.open(member, Opening::Folder(0, Folder::INBOX));
    assert_eq!(first.place, second.place);
    let list = |object| Request::List { member: member.id, object, after: 0, limit: 9 };
    assert_eq!(world.refused(member.at, list(first)), Code::E_INVALID_OBJECT);
    assert_eq!(world.refused(member.at, release(first)), Code::E_INVALID_OBJECT);
    assert!(world.call(member.at, list(second)).is_ok());
}

/// design §8 *quotas*: a process has so many open objects, over all its members; also those that are looked up.
#[test]
fn a_process_has_so_many_objects() {
    let limits = Limits { objects: 3, ..Limits::default() };
    let mut world = World::with(Settings { limits, ..settings() });
    let (a, b) = (world.connect(1), world.connect(1));
    let (a, b) = (world.logon(a), world.logon(b));
    let entry = world.submit(a, "b@x");
    let first = world.open(a, Opening::Store(0));
    world.open(b, Opening::Store(0));
    world.hold("store", "OpenEntry");
    let open = Request::Open { member: a.id, what: Opening::Message(entry) };
    let ids = [world.ask(a.at, open.clone()), world.ask(a.at, open.clone())];
    world.let_go("store");
    let answers = ids.map(|id| world.answer(a.at, id).expect("answered"));
    assert_eq!(answers.iter().filter(|a| a.is_ok()).count(), 1);
    assert_eq!(world.refused(a.at, open.clone()), Code::E_BUSY);
    assert_eq!(world.try_open(b, Opening::StatusTable).expect_err("refused").code, Code::E_BUSY);
    world.done(a.at, Request::Release { member: a.id, object: first });
    assert!(world.call(b.at, Request::Open { member: b.id, what: Opening::Store(0) }).is_ok());
    world.logoff(a);
    world.open(b, Opening::Store(0));
    let other = world.member(2);
    world.open(other, Opening::Store(0));
}

/// SESS-7: an entry of another store, and one that is not there, are not opened.
#[test]
fn unknown_entries_are_not_opened() {
    let mut world = World::new();
    let member = world.member(1);
    let unknown = EntryId { store: 99, record: 1 };
    let code = world.try_open(member, Opening::Message(unknown)).expect_err("refused").code;
    assert_eq!(code, Code::E_UNKNOWN_ENTRYID);
    let missing = EntryId { store: 1, record: 1 };
    let code = world.try_open(member, Opening::Message(missing)).expect_err("refused").code;
    assert_eq!(code, Code::E_NOT_FOUND);
    let code = world.try_open(member, Opening::Store(1)).expect_err("refused").code;
    assert_eq!(code, Code::E_NOT_FOUND);
}

/// SESS-7, design §8: messages are listed and read through a folder, an entry or an open message.
#[test]
fn messages_are_listed_and_read() {
    let mut world = World::new();
    let member = world.member(1);
    let entry = world.submit(member, "b@x");
    let sent = world.open(member, Opening::Folder(0, Folder::SENT));
    let list = |object, limit| Request::List { member: member.id, object, after: 0, limit };
    let Ok(Reply::Rows(rows)) = world.call(member.at, list(sent, 0)) else { panic!("rows") };
    let TableRows::Messages(messages) = rows.rows else { panic!("messages") };
    assert!(messages.len() == 1 && messages[0].entry == entry);
    let message = world.open(member, Opening::Message(entry));
    for source in [ReadSource::Entry(entry), ReadSource::Object(message)] {
        let read = |offset| Request::Read { member: member.id, source, offset };
        let Ok(Reply::Piece { size, bytes }) = world.call(member.at, read(0)) else {
            panic!("a piece")
        };
        assert_eq!(bytes.0.len() as u64, size);
        let Ok(Reply::Piece { bytes, .. }) = world.call(member.at, read(size)) else {
            panic!("a piece")
        };
        assert!(bytes.0.is_empty());
    }
    let store = world.open(member, Opening::Store(0));
    let source = ReadSource::Object(store);
    let read = Request::Read { member: member.id, source, offset: 0 };
    assert_eq!(world.refused(member.at, read), Code::E_NO_SUPPORT);
    assert_eq!(world.refused(member.at, list(store, 1)), Code::E_NO_SUPPORT);
    let save = Request::Save { member: member.id, object: store, key: SubmitKey(1) };
    assert_eq!(world.refused(member.at, save), Code::E_NO_SUPPORT);
}

/// STAT-1, LOGON-15: the status table has the subsystem, the spooler, the address book and a row for each provider; the
/// spooler's says that it fails while no member has mail.
#[test]
fn the_status_table_says_how_things_are() {
    let mut world = World::new();
    let at = world.connect(1);
    let quiet = world.logon_with(at, "default", LogonFlags::NO_MAIL);
    let table = world.open(quiet, Opening::StatusTable);
    let spooler = |world: &mut World| {
        let list = Request::List { member: quiet.id, object: table, after: 0, limit: 9 };
        let Ok(Reply::Rows(rows)) = world.call(at, list) else { panic!("rows") };
        let TableRows::Status(rows) = rows.rows else { panic!("status rows") };
        let names: Vec<_> = rows.iter().map(|r| r.name.clone()).collect();
        (rows.iter().find(|r| r.resource == Resource::Spooler).map(|r| r.code), names)
    };
    let (code, names) = spooler(&mut world);
    assert_eq!(code, Some(status_code::FAILURE));
    assert_eq!(names, ["Sundown", "Spooler", "Address Book", "store", "people"]);
    let _with_mail = world.member(2);
    assert_eq!(spooler(&mut world).0, Some(status_code::AVAILABLE));
    let member = world.member(3);
    let table = world.open(member, Opening::StatusTable);
    let list = Request::List { member: member.id, object: table, after: 0, limit: 9 };
    let Ok(Reply::Rows(rows)) = world.call(member.at, list) else { panic!("rows") };
    let TableRows::Status(rows) = rows.rows else { panic!("status rows") };
    let relay = rows.iter().find(|r| r.name == "relay").expect("its transport");
    assert_eq!(relay.code, status_code::AVAILABLE | status_code::OUTBOUND_ENABLED);
}

/// design §6: names are asked of one address book after the other; entries are checked before they are added.
#[test]
fn names_are_resolved() {
    let mut world = World::new();
    let more = crate::provider::ProviderSpec {
        name: "more".into(),
        ..crate::provider::ProviderSpec::new("fake")
    };
    world.profile("default").address_books.push(more);
    let member = world.member(1);
    let book = world.open(member, Opening::AddressBook);
    let act = |action| Request::AddressBook { member: member.id, object: book, action };
    let add = |name: &str, addresses: &[&str]| {
        let addresses = addresses.iter().map(|a| (*a).to_owned()).collect();
        act(AddressAction::Add { name: name.into(), addresses })
    };
    for (name, addresses) in
        [("", &["a@x"][..]), ("Anna", &[]), ("Anna", &["a x"]), ("A\n", &["a"])]
    {
        assert_eq!(world.refused(member.at, add(name, addresses)), Code::E_INVALID_PARAMETER);
    }
    assert!(world.call(member.at, add("Anna", &["a@x"])).is_ok());
    let resolve = |name: &str| act(AddressAction::Resolve { name: name.into() });
    assert!(world.call(member.at, resolve("Anna")).is_ok());
    assert!(!world.calls_of("more").contains(&"ResolveName"));
    assert_eq!(world.refused(member.at, resolve("Berta")), Code::E_NOT_FOUND);
    assert!(world.calls_of("more").contains(&"ResolveName"));
    let store = world.open(member, Opening::Store(0));
    let action = AddressAction::Resolve { name: "Anna".into() };
    let wrong = Request::AddressBook { member: member.id, object: store, action };
    assert_eq!(world.refused(member.at, wrong), Code::E_NO_SUPPORT);
}

/// design §6: a profile without a working address book says so.
#[test]
fn without_an_address_book_names_are_not_resolved() {
    let mut world = World::new();
    world.profile("default").address_books.clear();
    world.profile("default").transports = vec![transport("relay", &["*"])];
    let member = world.member(1);
    let book = world.open(member, Opening::AddressBook);
    let list = Request::List { member: member.id, object: book, after: 0, limit: 9 };
    assert_eq!(world.refused(member.at, list), Code::E_NO_SUPPORT);
}

/// design §6: profile sections hold programs' settings, within limits.
#[test]
fn settings_are_kept() {
    let mut world = World::new();
    let (member, other) = (world.member(1), world.member(2));
    let setting = |member: super::world::Member, name: &str, change| Request::Setting {
        member: member.id,
        section: "program".into(),
        name: name.into(),
        change,
    };
    let mut call =
        |m: super::world::Member, name, change| world.call(m.at, setting(m, name, change));
    let value = |v: &str| Ok(Reply::Setting(Some(v.to_owned())));
    assert_eq!(call(member, "a", SettingChange::Keep), Ok(Reply::Setting(None)));
    assert_eq!(call(member, "a", SettingChange::Set("1".into())), value("1"));
    assert_eq!(call(other, "a", SettingChange::Keep), value("1"));
    assert_eq!(call(other, "a", SettingChange::Remove), value("1"));
    assert_eq!(call(member, "a", SettingChange::Keep), Ok(Reply::Setting(None)));
    let long = SettingChange::Set("x".repeat(65 << 10));
    assert_eq!(call(member, "a", long).expect_err("refused").code, Code::E_INVALID_PARAMETER);
    let nameless = call(member, "", SettingChange::Keep).expect_err("refused");
    assert_eq!(nameless.code, Code::E_INVALID_PARAMETER);
}
