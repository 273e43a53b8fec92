//! Folders, flags, moves, copies, appended messages, contents tables and search: who may use them, what they answer, and who is
//! told of them.

use sundown_protocol::folder::{
    Bookmark, Column, ContentsRow, Direction, Filter, Flags, Key, MAX_FOLDER_NAME, MAX_KEY,
    MAX_KEYWORDS, Marks, Sort,
};
use sundown_protocol::notification::{FolderChange, TableChange};
use sundown_protocol::reply::{Place, Reply};
use sundown_protocol::request::{
    AdviseSource, Blob, Content, Folder, LogoffFlags, Opening, ReadSource, Request,
};
use sundown_protocol::{
    Code, EntryId, Event as News, Events, Fault, ObjectId, SubmitKey, Token, UploadId,
};

use super::world::{Heard, Member, World, logoff_request, mailbox, millis, secs};
use crate::Stop;
use crate::settings::Right;

fn marked(marks: Marks) -> Flags {
    Flags { marks, keywords: Vec::new() }
}

fn append(member: Member, key: u128, folder: Folder) -> Request {
    Request::Append {
        member: member.id,
        key: SubmitKey(key),
        store: 0,
        folder,
        content: Content::Inline(Blob(format!("message {key}").into_bytes())),
        flags: Box::default(),
        received: None,
    }
}

fn appended(world: &mut World, member: Member, key: u128, folder: Folder) -> EntryId {
    match world.call(member.at, append(member, key, folder)) {
        Ok(Reply::Saved(entry)) => entry,
        other => panic!("{other:?} to an append"),
    }
}

fn making(member: Member, parent: Option<Folder>, name: &str) -> Request {
    Request::MakeFolder { member: member.id, store: 0, parent, name: name.into() }
}

fn made(world: &mut World, member: Member, name: &str) -> Folder {
    match world.call(member.at, making(member, None, name)) {
        Ok(Reply::Made(folder)) => folder,
        other => panic!("{other:?} to a folder"),
    }
}

fn flag(member: Member, entry: EntryId, add: Flags, remove: Flags) -> Request {
    Request::SetFlags { member: member.id, entry, add: Box::new(add), remove: Box::new(remove) }
}

fn page(member: Member, object: ObjectId, sort: Sort, after: Option<Bookmark>) -> Request {
    let only = Filter::default();
    Request::Contents { member: member.id, object, sort, only, after, limit: 2 }
}

fn place(entry: EntryId, folder: Folder) -> Place {
    Place { entry, folder }
}

/// Every request of this kind, with a message, and a folder and its object.
fn all_of_them(member: Member, entry: EntryId, folder: Folder, object: ObjectId) -> Vec<Request> {
    let (id, store) = (member.id, 0);
    let (words, name) = ("words".to_owned(), "name".to_owned());
    vec![
        Request::Folders { member: id, store, after: None, limit: 9 },
        making(member, None, "name"),
        Request::RenameFolder { member: id, store, folder, name },
        Request::RemoveFolder { member: id, store, folder },
        page(member, object, Sort::NEWEST, None),
        flag(member, entry, marked(Marks::READ), Flags::default()),
        Request::Move { member: id, entry, to: Folder::SENT },
        Request::Copy { member: id, key: SubmitKey(9), entry, to: Folder::SENT },
        append(member, 10, Folder::INBOX),
        Request::Search { member: id, store, words, folder: None, after: 0, limit: 9 },
    ]
}

/// Design §2: who may only submit, and who only has a reference, may nothing of it; a handle of a member that has left is dead.
#[test]
fn who_may_not_read_may_not_file() {
    let mut world = World::new();
    world.profile("default").access = vec![(2_001, Right::Submit)];
    let owner = world.member(1);
    let entry = appended(&mut world, owner, 1, Folder::INBOX);
    let folder = made(&mut world, owner, "work");
    let object = world.open(owner, Opening::Folder(0, folder));
    let at = world.connect_as(2, 2_001);
    let submits = world.logon(at);
    let before = world.calls.len();
    for request in all_of_them(submits, entry, folder, object) {
        assert_eq!(world.refused(at, request.clone()), Code::E_NO_ACCESS, "{request:?}");
    }
    let opening = Request::Open { member: submits.id, what: Opening::Folder(0, folder) };
    assert_eq!(world.refused(at, opening), Code::E_NO_ACCESS);
    let token = Token(1);
    world.done(owner.at, Request::Grant { member: owner.id, object, token, pid: None });
    let holder = world.connect(3);
    let Ok(Reply::Redeemed { member, object: held, .. }) =
        world.call(holder, Request::Redeem { token })
    else {
        panic!("redeemed")
    };
    let holds = Member { at: holder, id: member, session: owner.session };
    for request in all_of_them(holds, entry, folder, held) {
        if !matches!(request, Request::Contents { .. }) {
            assert_eq!(world.refused(holder, request.clone()), Code::E_NO_ACCESS, "{request:?}");
        }
    }
    assert_eq!(world.calls.len(), before, "no store was asked");
    // What was granted is read.
    let answer = world.call(holder, page(holds, held, Sort::NEWEST, None));
    assert!(matches!(answer, Ok(Reply::Contents { .. })), "{answer:?}");
    world.logoff(owner);
    for request in all_of_them(owner, entry, folder, object) {
        assert_eq!(world.refused(owner.at, request.clone()), Code::E_INVALID_OBJECT, "{request:?}");
    }
}

/// What cannot be is refused before a store is asked, and says what can be.
#[test]
fn what_cannot_be_is_refused() {
    let mut world = World::new();
    let member = world.member(1);
    let entry = appended(&mut world, member, 1, Folder::INBOX);
    let folder = made(&mut world, member, "work");
    let inbox = world.open(member, Opening::Folder(0, Folder::INBOX));
    let store = world.open(member, Opening::Store(0));
    let (id, none) = (member.id, Flags::default());
    let rename = |folder, name: &str| Request::RenameFolder {
        member: id,
        store: 0,
        folder,
        name: name.to_owned(),
    };
    let keywords = |words: Vec<String>| Flags { marks: Marks::default(), keywords: words };
    let long = "n".repeat(MAX_FOLDER_NAME + 1);
    let text = Bookmark { key: Key::Text("k".repeat(MAX_KEY + 1)), order: 1 };
    let search = |words: &str| Request::Search {
        member: id,
        store: 0,
        words: words.into(),
        folder: None,
        after: 0,
        limit: 9,
    };
    let words = "w".repeat(sundown_protocol::request::MAX_WORDS + 1);
    let mut wrong = vec![
        (making(member, None, ""), Code::E_INVALID_PARAMETER),
        (making(member, None, " \t "), Code::E_INVALID_PARAMETER),
        (making(member, None, "a\nb"), Code::E_INVALID_PARAMETER),
        (making(member, None, &long), Code::E_INVALID_PARAMETER),
        (rename(folder, ""), Code::E_INVALID_PARAMETER),
        (rename(folder, &long), Code::E_INVALID_PARAMETER),
        (flag(member, entry, marked(Marks(1 << 9)), none.clone()), Code::E_INVALID_PARAMETER),
        (flag(member, entry, none.clone(), marked(Marks(1 << 15))), Code::E_INVALID_PARAMETER),
        (
            flag(member, entry, keywords(vec!["a b".into()]), none.clone()),
            Code::E_INVALID_PARAMETER,
        ),
        (
            flag(member, entry, keywords(vec!["k".into(); MAX_KEYWORDS + 1]), none.clone()),
            Code::E_INVALID_PARAMETER,
        ),
        (page(member, inbox, Sort::NEWEST, Some(text)), Code::E_INVALID_BOOKMARK),
        (page(member, store, Sort::NEWEST, None), Code::E_NO_SUPPORT),
        (search(&words), Code::E_TOO_BIG),
        (append(member, 5, Folder::OUTBOX), Code::E_NO_ACCESS),
        (Request::Move { member: id, entry, to: Folder::OUTBOX }, Code::E_NO_ACCESS),
        (
            Request::Copy { member: id, key: SubmitKey(5), entry, to: Folder::OUTBOX },
            Code::E_NO_ACCESS,
        ),
        (
            Request::Move { member: id, entry: EntryId { store: 99, record: 1 }, to: folder },
            Code::E_UNKNOWN_ENTRYID,
        ),
        (Request::Folders { member: id, store: 9, after: None, limit: 1 }, Code::E_NOT_FOUND),
    ];
    for folder in Folder::BUILT_IN {
        let remove = Request::RemoveFolder { member: id, store: 0, folder };
        wrong.extend([(rename(folder, "x"), Code::E_NO_ACCESS), (remove, Code::E_NO_ACCESS)]);
    }
    let before = world.calls.len();
    for (request, code) in wrong {
        let fault = world.call(member.at, request.clone()).expect_err("it cannot be");
        assert_eq!(fault.code, code, "{request:?}: {}", fault.message);
        assert!(!fault.message.is_empty());
    }
    assert_eq!(world.calls.len(), before, "no store was asked");
    world.assert_counts();
}

/// What the store refuses is answered as it says, and told to nobody.
#[test]
fn what_the_store_refuses_is_no_news() {
    let mut world = World::new();
    let member = world.member(1);
    let (work, play) = (made(&mut world, member, "work"), made(&mut world, member, "play"));
    let entry = appended(&mut world, member, 1, work);
    world.advise(member, Events::all());
    let (id, store) = (member.id, 0);
    let rename =
        |folder, name: &str| Request::RenameFolder { member: id, store, folder, name: name.into() };
    let remove = |folder| Request::RemoveFolder { member: id, store, folder };
    let gone = EntryId { record: 77, ..entry };
    for (request, code) in [
        (making(member, None, "work"), Code::E_COLLISION),
        (making(member, Some(Folder(99)), "x"), Code::E_NOT_FOUND),
        (rename(play, "work"), Code::E_COLLISION),
        (rename(Folder(99), "x"), Code::E_NOT_FOUND),
        (remove(work), Code::E_HAS_MESSAGES),
        (remove(Folder(99)), Code::E_NOT_FOUND),
        (flag(member, gone, marked(Marks::READ), Flags::default()), Code::E_NOT_FOUND),
        (Request::Move { member: id, entry: gone, to: play }, Code::E_NOT_FOUND),
        (Request::Move { member: id, entry, to: Folder(99) }, Code::E_NOT_FOUND),
        (Request::Copy { member: id, key: SubmitKey(5), entry: gone, to: play }, Code::E_NOT_FOUND),
        (append(member, 6, Folder(99)), Code::E_NOT_FOUND),
        (Request::Open { member: id, what: Opening::Folder(0, Folder(99)) }, Code::E_NOT_FOUND),
    ] {
        assert_eq!(world.refused(member.at, request.clone()), code, "{request:?}");
    }
    assert_eq!(world.news(member), []);
    world.assert_counts();
}

/// A request about a message, and what is told of it.
type Step = fn(Member, EntryId) -> Request;
type Told = fn(EntryId) -> Vec<News>;

/// NOTIF-15: whoever changes something is answered before anybody is told of it. NOTIF-20: each event is told once to every
/// member of every session of the store that registered for it, and to nobody who may not read.
#[test]
fn each_change_is_answered_and_then_told_once() {
    let mut world = World::new();
    world.profile("default").access = vec![(2_001, Right::Submit)];
    let (member, other) = (world.member(1), world.member(2));
    let at = world.connect(3);
    let private =
        world.logon_with(at, "default", sundown_protocol::request::LogonFlags::NEW_SESSION);
    let at = world.connect_as(4, 2_001);
    let submits = world.logon(at);
    let elsewhere = world.logon_to(world.connections()[0], "work");
    let all = [member, other, private, submits, elsewhere];
    for one in all {
        world.advise(one, Events::all());
        world.news(one);
    }
    let mut entry = EntryId { store: 1, record: 0 };
    let (id, inbox, sent) = (member.id, Folder::INBOX, Folder::SENT);
    let steps: [(Step, Told); 8] = [
        (|m, _| append(m, 1, Folder::INBOX), |e| vec![News::Created(place(e, Folder::INBOX))]),
        (
            |m, e| flag(m, e, marked(Marks::READ), Flags::default()),
            |e| vec![News::Modified(place(e, Folder::INBOX))],
        ),
        // It has the flag already.
        (|m, e| flag(m, e, marked(Marks::READ), Flags::default()), |_| Vec::new()),
        (
            |m, e| Request::Move { member: m.id, entry: e, to: Folder::SENT },
            |e| vec![News::Moved(place(e, Folder::SENT), Folder::INBOX)],
        ),
        // It is there already.
        (|m, e| Request::Move { member: m.id, entry: e, to: Folder::SENT }, |_| Vec::new()),
        (
            |m, e| Request::Copy { member: m.id, key: SubmitKey(7), entry: e, to: Folder::INBOX },
            |e| vec![News::Created(place(EntryId { record: 7, ..e }, Folder::INBOX))],
        ),
        // The key was used.
        (
            |m, e| Request::Copy { member: m.id, key: SubmitKey(7), entry: e, to: Folder::INBOX },
            |_| Vec::new(),
        ),
        (|m, _| append(m, 1, Folder::INBOX), |_| Vec::new()),
    ];
    for (request, told) in steps {
        let request = request(member, entry);
        world.heard(member.at);
        let asked = world.ask(member.at, request.clone());
        world.settle();
        if let Some(Ok(Reply::Saved(saved))) = world.answer(member.at, asked)
            && entry.record == 0
        {
            entry = saved;
        }
        let told = told(entry);
        let heard = world.heard(member.at);
        let news = told.iter().map(|news| Heard::News(id, news.clone()));
        let wanted: Vec<_> = [Heard::Answer(asked)].into_iter().chain(news).collect();
        assert_eq!(heard, wanted, "{request:?}");
        for one in [member, other, private] {
            assert_eq!(world.news(one), told, "{request:?}");
        }
        for one in [submits, elsewhere] {
            assert_eq!(world.news(one), [], "{request:?}");
        }
    }
    assert_eq!((world.in_folder("default", inbox), world.in_folder("default", sent)), (1, 1));
}

/// NOTIF-13: objects hear of what concerns them, and tables of their rows: a message's change, a move in both folders' tables.
#[test]
fn objects_and_tables_hear_what_concerns_them() {
    let mut world = World::new();
    let (member, watcher) = (world.member(1), world.member(2));
    let work = made(&mut world, member, "work");
    let entry = appended(&mut world, member, 1, Folder::INBOX);
    let other = appended(&mut world, member, 2, Folder::INBOX);
    let what = [
        Opening::Message(entry),
        Opening::Folder(0, Folder::INBOX),
        Opening::Folder(0, work),
        Opening::Folder(0, Folder::SENT),
    ];
    let [message, inbox, work_table, _sent] = what.map(|what| {
        let object = world.open(watcher, what);
        let events = Events::OBJECT_MODIFIED | Events::OBJECT_MOVED;
        let events = match object {
            _ if world.is_folder(watcher, object) => Events::TABLE_MODIFIED,
            _ => events,
        };
        world.try_advise(watcher, AdviseSource::Object(object), events).expect("registered");
        object
    });
    let table = |object, change| News::Table { object, change };
    let read = |entry| flag(member, entry, marked(Marks::READ), Flags::default());
    assert!(world.call(member.at, read(entry)).is_ok());
    let modified = TableChange::Modified(entry.to_string());
    assert_eq!(
        world.news(watcher),
        [News::Modified(place(entry, Folder::INBOX)), table(inbox, modified)]
    );
    assert!(world.call(member.at, read(other)).is_ok());
    assert_eq!(world.news(watcher), [table(inbox, TableChange::Modified(other.to_string()))]);
    world.done(member.at, Request::Move { member: member.id, entry, to: work });
    assert_eq!(
        world.news(watcher),
        [
            News::Moved(place(entry, work), Folder::INBOX),
            table(inbox, TableChange::Deleted(entry.to_string())),
            table(work_table, TableChange::Added(entry.to_string())),
        ]
    );
    world.done(watcher.at, Request::Release { member: watcher.id, object: message });
    world.done(member.at, Request::Move { member: member.id, entry, to: Folder::DRAFTS });
    let gone = TableChange::Deleted(entry.to_string());
    assert_eq!(world.news(watcher), [table(work_table, gone)]);
}

/// What happens to a folder is told of it, its store and the session, each once.
#[test]
fn folders_are_told_of() {
    let mut world = World::new();
    let (member, watcher) = (world.member(1), world.member(2));
    let events = Events::OBJECT_CREATED | Events::OBJECT_MODIFIED | Events::OBJECT_DELETED;
    let by_session = world.advise(watcher, events);
    let store = world.open(watcher, Opening::Store(0));
    let on = |world: &mut World, object| {
        world.try_advise(watcher, AdviseSource::Object(object), events).expect("registered")
    };
    let by_store = on(&mut world, store);
    let inbox = world.open(watcher, Opening::Folder(0, Folder::INBOX));
    on(&mut world, inbox);
    let asked = world.ask(member.at, making(member, None, "work"));
    world.advise(member, Events::all());
    world.settle();
    let Some(Ok(Reply::Made(folder))) = world.answer(member.at, asked) else { panic!("made") };
    let uid = world.store("default").uid;
    let event = |change| News::Folder { store: uid, folder, change };
    let told = world.notifications(watcher);
    assert_eq!(told.len(), 1, "{told:?}");
    assert_eq!(
        (&told[0].advises, &told[0].event),
        (&vec![by_session, by_store], &event(FolderChange::Made))
    );
    let object = world.open(watcher, Opening::Folder(0, folder));
    let by_folder = on(&mut world, object);
    let (id, name) = (member.id, "play".to_owned());
    world.done(member.at, Request::RenameFolder { member: id, store: 0, folder, name });
    world.done(member.at, Request::RemoveFolder { member: id, store: 0, folder });
    let told = world.notifications(watcher);
    let told: Vec<_> = told.into_iter().map(|n| (n.advises, n.event)).collect();
    let all = vec![by_session, by_store, by_folder];
    let wanted = [FolderChange::Renamed, FolderChange::Removed].map(|c| (all.clone(), event(c)));
    assert_eq!(told, wanted);
    let wanted = [FolderChange::Made, FolderChange::Renamed, FolderChange::Removed].map(event);
    assert_eq!(world.news(member), wanted, "whoever does it is told, too");
}

/// Hierarchy and contents tables come in pages, in the order that was asked for, and a place stays good when rows come and go.
#[test]
fn tables_come_in_pages() {
    let mut world = World::new();
    let member = world.member(1);
    let work = made(&mut world, member, "work");
    let (mut folders, mut after) = (Vec::new(), None);
    loop {
        let list = Request::Folders { member: member.id, store: 0, after, limit: 4 };
        let Ok(Reply::Folders { rows, next }) = world.call(member.at, list) else { panic!("rows") };
        folders.extend(rows.into_iter().map(|row| row.folder));
        after = next;
        if after.is_none() {
            break;
        }
    }
    assert_eq!(folders, Folder::BUILT_IN.into_iter().chain([work]).collect::<Vec<_>>());
    let entries: Vec<_> = (1..=5)
        .map(|key| {
            world.pass(millis(10));
            appended(&mut world, member, key, work)
        })
        .collect();
    let object = world.open(member, Opening::Folder(0, work));
    let read = |world: &mut World, sort, after: &mut Option<Bookmark>| -> Vec<EntryId> {
        let asked = page(member, object, sort, after.take());
        let Ok(Reply::Contents { rows, next }) = world.call(member.at, asked) else {
            panic!("rows")
        };
        *after = next;
        rows.into_iter().map(|row: ContentsRow| row.entry).collect()
    };
    let mut after = None;
    assert_eq!(read(&mut world, Sort::NEWEST, &mut after), [entries[4], entries[3]]);
    world.done(member.at, Request::Move { member: member.id, entry: entries[3], to: Folder::SENT });
    appended(&mut world, member, 6, work);
    assert_eq!(read(&mut world, Sort::NEWEST, &mut after), [entries[2], entries[1]]);
    assert_eq!(read(&mut world, Sort::NEWEST, &mut after), [entries[0]]);
    assert_eq!(after, None);
    let oldest = Sort { by: Column::Received, direction: Direction::Ascending };
    assert_eq!(read(&mut world, oldest, &mut after), [entries[0], entries[1]]);
    // No page is larger than the broker allows, and none is empty although there are rows.
    for limit in [0, u32::MAX] {
        let (sort, only) = (Sort::NEWEST, Filter::default());
        let asked = Request::Contents { member: member.id, object, sort, only, after: None, limit };
        let Ok(Reply::Contents { rows, .. }) = world.call(member.at, asked) else { panic!("rows") };
        assert_eq!(rows.len(), if limit == 0 { 1 } else { 5 });
    }
    let read = flag(member, entries[0], marked(Marks::READ), Flags::default());
    assert_eq!(world.call(member.at, read), Ok(Reply::Flags(marked(Marks::READ))));
    let (sort, only) = (Sort::NEWEST, Filter::UNREAD);
    let asked = Request::Contents { member: member.id, object, sort, only, after: None, limit: 9 };
    let Ok(Reply::Contents { rows, .. }) = world.call(member.at, asked) else { panic!("rows") };
    assert!(rows.len() == 4 && rows.iter().all(|row| row.entry != entries[0]), "{rows:?}");
    let (words, after) = ("message 2".to_owned(), 0);
    let id = member.id;
    let search = Request::Search { member: id, store: 0, words, folder: None, after, limit: 9 };
    let Ok(Reply::Found { rows, next, unindexed }) = world.call(member.at, search) else {
        panic!("found")
    };
    assert_eq!((rows.len(), rows[0].entry, next, unindexed), (1, entries[1], None, 0));
}

/// A member that leaves while the store works is told nothing; what it asked for is done, and others are told of it.
#[test]
fn what_a_member_asked_for_before_it_left_is_done() {
    let mut world = World::new();
    let (member, other) = (world.member(1), world.member(2));
    let entry = appended(&mut world, member, 1, Folder::INBOX);
    world.advise(other, Events::OBJECT_CREATED | Events::OBJECT_MOVED | Events::OBJECT_MODIFIED);
    world.hold("store", "*");
    let (id, to) = (member.id, Folder::SENT);
    for request in [
        flag(member, entry, marked(Marks::READ), Flags::default()),
        Request::Move { member: id, entry, to },
        append(member, 2, to),
        making(member, None, "work"),
    ] {
        world.ask(member.at, request);
    }
    let open = Request::Open { member: id, what: Opening::Folder(0, Folder(16)) };
    world.ask(member.at, open);
    world.disconnect(member.at);
    world.let_go("store");
    let work = Folder(16);
    let uid = entry.store;
    let second = EntryId { record: 2, ..entry };
    assert_eq!(
        world.news(other),
        [
            News::Modified(place(entry, Folder::INBOX)),
            News::Moved(place(entry, to), Folder::INBOX),
            News::Created(place(second, to)),
            News::Folder { store: uid, folder: work, change: FolderChange::Made },
        ]
    );
    assert_eq!(world.unanswered(), 0);
    world.everybody_leaves();
    world.advance(secs(120));
    world.assert_empty();
}

/// PLOG-7, SEED-20: a logoff, a drain, a fast shutdown and a stop wait until what was appended or copied is stored.
#[test]
fn who_leaves_waits_for_what_it_appended() {
    type Leaves = fn(&mut World, Member) -> sundown_protocol::RequestId;
    let leave: [(&str, Leaves); 3] = [
        ("logoff", |world, m| world.ask_logoff(m, LogoffFlags::default(), None)),
        ("drain", |world, m| {
            world.ask(m.at, logoff_request(m.id, LogoffFlags::default(), Some(secs(20))))
        }),
        ("do", |world, m| world.ask_do(m.at)),
    ];
    for (how, leaves) in leave {
        for copies in [false, true] {
            let mut world = World::new();
            let member = world.member(1);
            let entry = appended(&mut world, member, 1, Folder::INBOX);
            assert_eq!(world.query(member.at), Ok(Reply::Done));
            let call = if copies { "CopyMessages" } else { "SaveChanges" };
            world.hold("store", call);
            let (id, key, to) = (member.id, SubmitKey(2), Folder::SENT);
            let request = if copies {
                Request::Copy { member: id, key, entry, to }
            } else {
                append(member, 2, to)
            };
            let asked = world.ask(member.at, request);
            let left = leaves(&mut world, member);
            world.advance(millis(200));
            assert_eq!(world.answer(member.at, left), None, "{how} waits, copies: {copies}");
            world.let_go("store");
            assert!(world.answer(member.at, asked).is_some_and(|a| a.is_ok()), "{how}");
            assert!(world.answer(member.at, left).is_some_and(|a| a.is_ok()), "{how}");
            assert_eq!(world.in_folder("default", to), 1, "{how}");
        }
    }
    let mut world = World::new();
    let member = world.member(1);
    world.hold("store", "SaveChanges");
    world.ask(member.at, append(member, 2, Folder::SENT));
    world.stop(Stop::Restart);
    assert_eq!(world.stopped, 0);
    world.let_go("store");
    world.advance(secs(62));
    assert_eq!((world.stopped, world.in_folder("default", Folder::SENT)), (1, 1));
}

/// What an append charges is paid back, whatever comes of it: stored, refused, a repeat, of an upload, or nobody is left.
#[test]
fn charges_of_appends_are_paid_back() {
    let mut world = World::new();
    let member = world.member(1);
    let free = |world: &World| {
        world.assert_counts();
        let process = world.broker.peers.processes.find(&World::key(1)).expect("it is here");
        let drafts = crate::peers::quota::Quota::DraftBytes;
        world.broker.peers.processes.accounts.used(process.account).of(drafts)
    };
    appended(&mut world, member, 1, Folder::INBOX);
    appended(&mut world, member, 1, Folder::INBOX);
    assert_eq!(free(&world), 0);
    world.refused(member.at, append(member, 2, Folder(99)));
    assert_eq!(free(&world), 0);
    world.store("default").failures.insert("SaveChanges", [Code::E_NOT_ENOUGH_DISK].into());
    assert_eq!(world.refused(member.at, append(member, 3, Folder::INBOX)), Code::E_NOT_ENOUGH_DISK);
    assert_eq!(free(&world), 0);
    let (id, upload) = (member.id, UploadId(1));
    let bytes = Blob(b"a piece".to_vec());
    world.done(member.at, Request::Upload { member: id, store: 0, upload, bytes });
    let uploaded = Request::Append {
        member: id,
        key: SubmitKey(4),
        store: 0,
        folder: Folder::INBOX,
        content: Content::Uploaded(upload),
        flags: Box::new(Flags::default()),
        received: Some(1_000),
    };
    let Ok(Reply::Saved(entry)) = world.call(member.at, uploaded.clone()) else { panic!("saved") };
    assert_eq!(free(&world), 0);
    // An upload is used once.
    assert_eq!(world.refused(member.at, uploaded), Code::E_INVALID_PARAMETER);
    let read = Request::Read { member: id, source: ReadSource::Entry(entry), offset: 0 };
    let Ok(Reply::Piece { bytes, .. }) = world.call(member.at, read) else { panic!("a piece") };
    assert_eq!(bytes.0, b"a piece");
    assert_eq!(world.store("default").messages[&4].received, 1_000);
    world.hold("store", "SaveChanges");
    world.ask(member.at, append(member, 5, Folder::INBOX));
    assert_eq!(free(&world), "message 5".len());
    world.disconnect(member.at);
    world.let_go("store");
    world.advance(secs(60));
    world.end_process(1);
    world.assert_empty();
}

/// A folder that is opened counts as an object; one that is removed meanwhile is not there any more.
#[test]
fn open_folders_count() {
    let mut world = World::new();
    world.broker.settings.limits.objects = 2;
    let member = world.member(1);
    let folder = made(&mut world, member, "work");
    world.open(member, Opening::Folder(0, folder));
    // Two at once, of which one has a place.
    let open = || Request::Open { member: member.id, what: Opening::Folder(0, folder) };
    world.hold("store", "OpenFolder");
    let asked = [world.ask(member.at, open()), world.ask(member.at, open())];
    world.let_go("store");
    let answers = asked.map(|id| world.answer(member.at, id).expect("answered"));
    let refused: Vec<&Fault> = answers.iter().filter_map(|a| a.as_ref().err()).collect();
    assert_eq!(refused.len(), 1, "{answers:?}");
    assert_eq!(refused[0].code, Code::E_BUSY);
    world.assert_counts();
}

/// What is done here is told to the mailbox of the store: flags, moves, copies, appends and deletes; what changes nothing is not.
#[test]
fn mailboxes_are_told_of_changes() {
    let mut world = World::new();
    world.profile("default").mailboxes = vec![mailbox("account")];
    let member = world.member(1);
    let told = |world: &World| {
        world.calls_of("account").iter().filter(|call| **call == "StoreChanged").count()
    };
    let entry = appended(&mut world, member, 1, Folder::INBOX);
    assert_eq!(told(&world), 1);
    let (id, key, to) = (member.id, SubmitKey(2), Folder::SENT);
    let read = || flag(member, entry, marked(Marks::READ), Flags::default());
    let copy = || Request::Copy { member: id, key, entry, to };
    let requests = [
        (append(member, 1, Folder::INBOX), 0),
        (read(), 1),
        (read(), 0),
        (Request::Move { member: id, entry, to }, 1),
        (Request::Move { member: id, entry, to }, 0),
        (copy(), 1),
        (copy(), 0),
        (Request::Delete { member: id, entry }, 1),
        (Request::Delete { member: id, entry }, 1),
    ];
    for (request, more) in requests {
        let before = told(&world);
        assert!(world.call(member.at, request.clone()).is_ok(), "{request:?}");
        assert_eq!(told(&world) - before, more, "{request:?}");
    }
}
