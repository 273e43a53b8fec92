//! Registrations: what can be registered for, who is told what, and when no more.

use sundown_protocol::notification::TableChange;
use sundown_protocol::request::{
    AddressAction, AdviseSource, Folder, LogoffFlags, Opening, Request,
};
use sundown_protocol::{AdviseId, Code, Event as News, Events, ObjectId};

use super::world::{World, is_table_news};

/// NOTIF-2: a session registration gets critical errors whatever its mask.
#[test]
fn critical_errors_are_registered_automatically() {
    let mut world = World::new();
    let (caller, other) = (world.member(1), world.member(2));
    let advise = world.advise(other, Events::default());
    world.try_logoff(caller, LogoffFlags::SHARED).expect("it logs off");
    let told = world.notifications(other);
    assert_eq!(told.len(), 1);
    assert_eq!(told[0].advises, [advise]);
    assert!(matches!(told[0].event, News::CriticalError { .. }));
}

/// NOTIF-4: a connection number is not zero and not used twice while it is registered.
#[test]
fn connection_numbers_are_not_zero() {
    let mut world = World::new();
    let member = world.member(1);
    let first = world.advise(member, Events::EXTENDED);
    let second = world.advise(member, Events::EXTENDED);
    assert!(first.0 != 0 && second.0 != 0 && first != second);
}

/// NOTIF-7, A-40: an unknown number is `MAPI_E_NOT_FOUND`, also one that was unadvised.
#[test]
fn unknown_numbers_are_not_found() {
    let mut world = World::new();
    let member = world.member(1);
    let advise = world.advise(member, Events::EXTENDED);
    let unadvise = |advise| Request::Unadvise { member: member.id, advise };
    assert_eq!(world.refused(member.at, unadvise(AdviseId(99))), Code::E_NOT_FOUND);
    world.done(member.at, unadvise(advise));
    assert_eq!(world.refused(member.at, unadvise(advise)), Code::E_NOT_FOUND);
}

/// NOTIF-11, NOTIF-12, A-13, NOTIF-3: what a source does not support is refused.
#[test]
fn what_is_not_supported_is_refused() {
    let mut world = World::new();
    let member = world.member(1);
    let book = world.open(member, Opening::AddressBook);
    let table = world.open(member, Opening::StatusTable);
    let store = world.open(member, Opening::Store(0));
    let draft = world.draft(member, "x");
    let dead = ObjectId { place: 77, generation: 0 };
    let object = AdviseSource::Object;
    for (source, events, code) in [
        (AdviseSource::Session, Events::STATUS_OBJECT_MODIFIED, Code::E_NO_SUPPORT),
        (object(store), Events::STATUS_OBJECT_MODIFIED, Code::E_NO_SUPPORT),
        (object(table), Events::NEW_MAIL, Code::E_NO_SUPPORT),
        (object(book), Events::TABLE_MODIFIED | Events::NEW_MAIL, Code::E_NO_SUPPORT),
        (object(draft), Events::OBJECT_MODIFIED, Code::E_NO_SUPPORT),
        (object(store), Events::EXTENDED, Code::E_NO_SUPPORT),
        (object(dead), Events::NEW_MAIL, Code::E_INVALID_OBJECT),
        (AdviseSource::Session, Events(0x1000), Code::E_UNKNOWN_FLAGS),
    ] {
        let refused = world.try_advise(member, source, events).expect_err("refused");
        assert_eq!(refused.code, code, "{source:?} {events:?}");
    }
    assert!(world.try_advise(member, object(book), Events::TABLE_MODIFIED).is_ok());
}

/// NOTIF-13, NOTIF-20: a member is told once of one event, with all its registrations that asked.
#[test]
fn one_notification_names_all_registrations() {
    let mut world = World::new();
    let member = world.member(1);
    let outbox = world.open(member, Opening::Folder(0, Folder::OUTBOX));
    let inbox = world.open(member, Opening::Folder(0, Folder::INBOX));
    let store = world.open(member, Opening::Store(0));
    let mut on = |object, events| {
        world.try_advise(member, AdviseSource::Object(object), events).expect("registered")
    };
    let by_folder = on(outbox, Events::OBJECT_CREATED);
    let by_store = on(store, Events::OBJECT_CREATED | Events::OBJECT_MOVED);
    on(inbox, Events::OBJECT_CREATED);
    on(outbox, Events::OBJECT_DELETED);
    let by_session = world.advise(member, Events::OBJECT_CREATED);
    world.submit(member, "b@x");
    let told = world.notifications(member);
    assert_eq!(told.len(), 2);
    assert_eq!(told[0].advises, [by_folder, by_store, by_session]);
    assert!(matches!(told[0].event, News::Created(p) if p.folder == Folder::OUTBOX));
    assert_eq!(told[1].advises, [by_store]);
    assert!(matches!(told[1].event, News::Moved(p, Folder::OUTBOX) if p.folder == Folder::SENT));
}

/// NOTIF-8 (stricter): after Unadvise nothing is told; other registrations are not touched.
#[test]
fn after_unadvise_nothing_is_told() {
    let mut world = World::new();
    let member = world.member(1);
    let first = world.advise(member, Events::OBJECT_CREATED);
    let second = world.advise(member, Events::OBJECT_CREATED);
    world.done(member.at, Request::Unadvise { member: member.id, advise: first });
    world.submit(member, "a@x");
    let told = world.notifications(member);
    assert!(told.len() == 1 && told[0].advises == [second]);
    world.done(member.at, Request::Unadvise { member: member.id, advise: second });
    world.submit(member, "b@x");
    assert_eq!(world.notifications(member), []);
}

/// NOTIF-4: a registration outlives its object until it is unadvised, and tells nothing any more.
#[test]
fn a_registration_outlives_its_object() {
    let mut world = World::new();
    let member = world.member(1);
    let store = world.open(member, Opening::Store(0));
    let source = AdviseSource::Object(store);
    let advise = world.try_advise(member, source, Events::OBJECT_CREATED).expect("registered");
    world.done(member.at, Request::Release { member: member.id, object: store });
    world.open(member, Opening::Store(0));
    world.submit(member, "b@x");
    assert_eq!(world.news(member), []);
    world.done(member.at, Request::Unadvise { member: member.id, advise });
}

/// NOTIF-29: a folder's table tells which rows came and went, once for each open table.
#[test]
fn folders_tell_of_their_rows() {
    let mut world = World::new();
    let member = world.member(1);
    let outbox = world.open(member, Opening::Folder(0, Folder::OUTBOX));
    let sent = world.open(member, Opening::Folder(0, Folder::SENT));
    for object in [outbox, outbox, sent] {
        let source = AdviseSource::Object(object);
        world.try_advise(member, source, Events::TABLE_MODIFIED).expect("registered");
    }
    let key = world.submit(member, "b@x").to_string();
    let news = world.news(member);
    assert!(news.iter().all(is_table_news));
    let table = |object, change| News::Table { object, change };
    assert_eq!(
        news,
        [
            table(outbox, TableChange::Added(key.clone())),
            table(outbox, TableChange::Deleted(key.clone())),
            table(sent, TableChange::Added(key)),
        ]
    );
}

/// NOTIF-25: whatever is done to messages is told as what it is.
#[test]
fn deletes_are_told() {
    let mut world = World::new();
    let (member, other) = (world.member(1), world.member(2));
    world.advise(other, Events::OBJECT_MOVED | Events::OBJECT_DELETED);
    let entry = world.submit(member, "b@x");
    world.news(other);
    let delete = Request::Delete { member: member.id, entry };
    world.done(member.at, delete.clone());
    world.done(member.at, delete.clone());
    assert_eq!(world.refused(member.at, delete), Code::E_NOT_FOUND);
    let news = world.news(other);
    assert!(matches!(news[0], News::Moved(p, Folder::SENT) if p.folder == Folder::DELETED));
    assert!(matches!(news[1], News::Deleted(p) if p.folder == Folder::DELETED));
    assert_eq!(news.len(), 2);
}

/// A deletion that names the folder deletes from there alone: a repeat deletes nothing for good. Who was told once is told no more.
#[test]
fn a_repeated_deletion_destroys_nothing() {
    let mut world = World::new();
    let (member, other) = (world.member(1), world.member(2));
    world.advise(other, Events::OBJECT_MOVED | Events::OBJECT_DELETED);
    let entry = world.submit(member, "b@x");
    world.news(other);
    let delete = |from| Request::DeleteFrom { member: member.id, entry, from };
    assert_eq!(world.refused(member.at, delete(Folder::INBOX)), Code::E_NOT_FOUND);
    world.done(member.at, delete(Folder::SENT));
    assert_eq!(world.refused(member.at, delete(Folder::SENT)), Code::E_NOT_FOUND);
    let news = world.news(other);
    assert!(matches!(news[..], [News::Moved(p, Folder::SENT)] if p.folder == Folder::DELETED));
    world.done(member.at, delete(Folder::DELETED));
    assert_eq!(world.refused(member.at, delete(Folder::DELETED)), Code::E_NOT_FOUND);
}

/// NOTIF-11, STAT-5: an address book and the status table tell when they change.
#[test]
fn tables_tell_of_their_changes() {
    let mut world = World::new();
    let member = world.member(1);
    let book = world.open(member, Opening::AddressBook);
    let table = world.open(member, Opening::StatusTable);
    for object in [book, table] {
        let source = AdviseSource::Object(object);
        world.try_advise(member, source, Events::TABLE_MODIFIED).expect("registered");
    }
    let (name, addresses) = ("Anna".to_owned(), vec!["anna@x".to_owned()]);
    let act = |action| Request::AddressBook { member: member.id, object: book, action };
    assert!(
        world.call(member.at, act(AddressAction::Add { name: name.clone(), addresses })).is_ok()
    );
    assert_eq!(world.news(member), [News::Table { object: book, change: TableChange::Reload }]);
    assert!(world.call(member.at, act(AddressAction::Resolve { name: name.clone() })).is_ok());
    assert_eq!(world.news(member), []);
    world.done(member.at, act(AddressAction::Remove { name: name.clone() }));
    assert_eq!(world.news(member).len(), 1);
    assert_eq!(world.refused(member.at, act(AddressAction::Remove { name })), Code::E_NOT_FOUND);
    assert_eq!(world.news(member), []);
    world.submit(member, "b@x");
    let change = TableChange::Modified("relay".into());
    let active = News::Table { object: table, change };
    assert_eq!(world.news(member), [active.clone(), active], "busy, and idle again");
}

/// NOTIF-20: what happens in a store is told in every session that uses it.
#[test]
fn a_store_tells_all_its_sessions() {
    let mut world = World::new();
    let at = world.connect(1);
    let shared = world.logon(at);
    let private =
        world.logon_with(at, "default", sundown_protocol::request::LogonFlags::NEW_SESSION);
    world.advise(private, Events::OBJECT_CREATED);
    world.submit(shared, "b@x");
    assert_eq!(world.news(private).len(), 1);
}
