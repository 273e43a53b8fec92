//! Mailboxes: when they watch and rest, what they are told and tell, and what becomes of them when something fails.

use sundown_protocol::notification::{FolderChange, TableChange};
use sundown_protocol::reply::{Reply, Resource, Synced, status_code};
use sundown_protocol::request::{
    AdviseSource, Folder, LogoffFlags, LogonFlags, Opening, QueueAction, ReadSource, Request,
    StoreLogoff,
};
use sundown_protocol::{Code, EntryId, Event as News, Events, MemberId, SessionId, SubmitKey};

use super::fakes::{FOUND, Interface, Step};
use super::world::{Member, WRITTEN, World, found, mailbox, millis, secs, settings, store};
use crate::Event;
use crate::ground::event::{LaneId, ProviderNews, Trouble};
use crate::provider::{MailboxReport, MirrorChange, ProviderSpec, ProviderType, StoreChange};
use crate::settings::{Linger, Settings, Shutdown, Watching};

/// A world whose default profile has a mailbox.
fn world() -> World {
    with(settings())
}

fn with(settings: Settings) -> World {
    let mut world = World::with(settings);
    world.profile("default").mailboxes = vec![mailbox("account")];
    world
}

/// What the mailbox was told so far, but for its logons, logoffs and shutdowns.
fn told(world: &World) -> String {
    let words = ["Watch", "Rest", "StoreChanged", "ValidateState"];
    let calls = world.calls_of("account").into_iter().filter(|call| words.contains(call));
    calls.collect::<Vec<_>>().join(" ")
}

fn status(world: &mut World) -> String {
    let sessions = world.status().sessions;
    let mut providers = sessions.iter().flat_map(|s| &s.providers);
    providers.find(|p| p.name == "account").expect("it is listed").status.clone()
}

/// Something that the mailbox has to be told of.
fn change(world: &mut World, member: Member) {
    let entry = arrived(world);
    world.done(member.at, Request::Move { member: member.id, entry, to: Folder::SENT });
    world.done(member.at, Request::Move { member: member.id, entry, to: Folder::INBOX });
}

/// A message in the Inbox.
fn arrived(world: &mut World) -> EntryId {
    let store = world.store("default");
    let inside = store.messages.iter().find(|(_, m)| m.folder == Folder::INBOX);
    let known = inside.map(|(record, _)| EntryId { store: store.uid, record: *record });
    known.unwrap_or_else(|| world.mail_comes("default", "one"))
}

/// LOGON-12: a mailbox mirrors into a store, so it logs on behind it, and watches when a member is there.
#[test]
fn mailboxes_log_on_last() {
    let mut world = world();
    world.member(1);
    assert_eq!(world.order_of("Logon"), ["people", "store", "relay", "account"]);
    assert_eq!(world.calls_of("account"), ["Logon", "Watch"]);
    assert_eq!(status(&mut world), "available");
}

/// A session that sends what an earlier broker left has no member: nobody waits for new mail.
#[test]
fn a_session_without_members_does_not_watch() {
    let mut world = world();
    world.wire.broken.insert("relay".into(), Code::E_NETWORK_ERROR);
    let member = world.member(1);
    world.submit(member, "b@x");
    world.crash();
    world.calls.clear();
    world.apply(Event::Adopt { profile: "default".into() });
    world.settle();
    assert_eq!(told(&world), "");
    world.member(2);
    assert_eq!(told(&world), "Watch");
}

/// SEED-19, SEED-20: when every process with a member has given notice or left, the mailbox rests; a new logon, also of a process that
/// has given notice, wakes it.
#[test]
fn a_mailbox_rests_when_all_have_given_notice() {
    let mut world = world();
    let (one, two, three) = (world.member(1), world.member(2), world.member(3));
    world.notify(one.at);
    world.logoff(two);
    assert_eq!(told(&world), "Watch StoreChanged", "it is asked whether it goes on after a notice");
    world.notify(three.at);
    assert_eq!(told(&world), "Watch StoreChanged Rest");
    assert_eq!(status(&mut world), "resting");
    // It carries out what changes meanwhile, and rests again.
    let entry = saved(&mut world, three);
    world.done(three.at, Request::Move { member: three.id, entry, to: Folder::SENT });
    assert_eq!(told(&world), "Watch StoreChanged Rest StoreChanged");
    assert_eq!(world.store("default").pending, [].into());
    let again = world.logon(one.at);
    assert_eq!(told(&world), "Watch StoreChanged Rest StoreChanged Watch");
    world.notify(one.at);
    let twice = "Watch StoreChanged Rest StoreChanged Watch Rest";
    assert_eq!(told(&world), twice, "a second notice counts too");
    world.member(4);
    assert!(told(&world).ends_with("Rest Watch"));
    world.logoff(again);
}

fn saved(world: &mut World, member: Member) -> EntryId {
    let object = world.draft(member, "text");
    let key = sundown_protocol::SubmitKey(40);
    match world.call(member.at, Request::Save { member: member.id, object, key }) {
        Ok(Reply::Saved(entry)) => entry,
        other => panic!("{other:?} to a save"),
    }
}

/// A process that leaves in any other way counts as one that has left.
#[test]
fn a_mailbox_rests_when_the_last_one_leaves() {
    type Leaves = fn(&mut World, Member);
    let ways: [Leaves; 4] = [
        |world, member| world.disconnect(member.at),
        |world, _| world.end_process(2),
        |world, member| drop(world.logoff(member)),
        |world, member| world.leave_fast(member.at),
    ];
    for leaves in ways {
        let mut world = world();
        // It lingers, because mail waits.
        world.wire.broken.insert("relay".into(), Code::E_NETWORK_ERROR);
        let (one, two) = (world.member(1), world.member(2));
        world.submit_deferred(one, "b@x");
        world.settle();
        world.notify(one.at);
        leaves(&mut world, two);
        world.settle();
        assert!(told(&world).ends_with("Rest"), "{}", told(&world));
    }
}

/// `watch = "always"`: as long as there is a session, also when nobody is in it.
#[test]
fn a_mailbox_that_always_watches_does_not_rest() {
    let linger = Linger::For(secs(60));
    let mut world =
        with(Settings { shutdown: Shutdown { linger, ..Shutdown::default() }, ..settings() });
    world.profile("default").mailboxes[0].watch = Watching::Always;
    let member = world.member(1);
    world.wire.broken.insert("relay".into(), Code::E_NETWORK_ERROR);
    world.submit_deferred(member, "b@x");
    world.settle();
    world.notify(member.at);
    world.logoff(member);
    assert_eq!(told(&world).matches("Rest").count(), 0, "{}", told(&world));
    assert!(world.mailbox_writes("default", vec![found("one", true)]), "it watches");
    world.advance(secs(61));
    assert_eq!(world.calls_of("account").last(), Some(&"Logoff"));
}

/// LOGON-15, SHARE-6: for a member without mail no mailbox watches, and none is in its status table; one with mail beside it has both.
#[test]
fn a_member_without_mail_receives_nothing() {
    let mut world = world();
    let at = world.connect(1);
    let without = world.logon_with(at, "default", LogonFlags::NO_MAIL);
    assert_eq!(told(&world), "");
    let shows = |world: &mut World, member: Member| {
        let object = world.open(member, Opening::StatusTable);
        let list = Request::List { member: member.id, object, after: 0, limit: 20 };
        let Ok(Reply::Rows(rows)) = world.call(member.at, list) else { panic!("rows") };
        let sundown_protocol::reply::TableRows::Status(rows) = rows.rows else { panic!("status") };
        rows.iter().any(|row| row.resource == Resource::Mailbox)
    };
    let with = world.member(2);
    assert_eq!(told(&world), "Watch");
    assert!(!shows(&mut world, without) && shows(&mut world, with));
    world.logoff(with);
    assert_eq!(told(&world), "Watch Rest");
}

/// New mail that a filter has put into another folder is told of that folder.
#[test]
fn new_mail_is_where_it_is() {
    let mut world = world();
    let member = world.member(1);
    let inbox = world.open(member, Opening::Folder(0, Folder::INBOX));
    let source = AdviseSource::Object(inbox);
    world.try_advise(member, source, Events::NEW_MAIL).expect("registered");
    world.advise(member, Events::NEW_MAIL);
    let (dir, name) = ("lists".to_owned(), "lists".to_owned());
    let MirrorChange::Found { marks, news, facts, spot } = found("one", true) else {
        panic!("found")
    };
    let spot = crate::provider::Spot { dir: dir.clone(), ..spot };
    let changes = vec![
        MirrorChange::Folder { dir, parent: None, name, role: None },
        MirrorChange::Found { spot, marks, news, facts },
    ];
    assert!(world.mailbox_writes("default", changes));
    world.settle();
    let told = world.notifications(member);
    assert_eq!(told.len(), 1, "{told:?}");
    let News::Arrived(mail) = &told[0].event else { panic!("{told:?}") };
    assert_eq!((mail.place.folder, told[0].advises.len()), (Folder(16), 1));
}

/// However many changes come while a mailbox has not answered, it is told once more.
#[test]
fn pokes_coalesce() {
    let mut world = world();
    let member = world.member(1);
    arrived(&mut world);
    world.hold("account", "StoreChanged");
    for _ in 0..10 {
        change(&mut world, member);
    }
    assert_eq!(world.waiting_calls("account"), 1);
    world.let_go("account");
    assert_eq!(told(&world), "Watch StoreChanged StoreChanged");
    assert_eq!(world.store("default").pending, [].into());
    // It finishes before it rests.
    world.hold("account", "StoreChanged");
    change(&mut world, member);
    world.ask(member.at, Request::NotifyProcessShutdown);
    world.let_go("account");
    assert!(told(&world).ends_with("StoreChanged Rest"), "{}", told(&world));
}

/// SEED-9: a mailbox that takes the shutdown of one process for its own is made anew, at once, and told to watch; nobody has to call it
/// for that. What the old one was told and has not done is not repeated.
#[test]
fn a_mailbox_that_is_over_is_made_anew() {
    for over_at in ["Do", "Notify"] {
        let mut world = world();
        if over_at == "Notify" {
            world.over_at = crate::provider::ProviderCall::NotifyProcessShutdown;
        }
        world.literal.insert("account".into());
        let (one, two) = (world.member(1), world.member(2));
        let entry = arrived(&mut world);
        match over_at {
            "Do" => world.leave_fast(one.at),
            _ => world.notify(one.at),
        }
        assert!(!world.is_over("account"), "{over_at}");
        assert_eq!(told(&world).matches("Watch").count(), 2, "{}", told(&world));
        world.done(two.at, Request::Move { member: two.id, entry, to: Folder::SENT });
        assert_eq!(world.store("default").pending, [].into());
        assert!(world.mailbox_writes("default", vec![found("two", true)]), "it watches");
        world.settle();
        // The last one leaves.
        world.notify(two.at);
        assert!(told(&world).ends_with("Rest"), "{}", told(&world));
    }
}

/// One that rests when it ends is made anew for the next process that comes, and watches.
#[test]
fn a_mailbox_that_ended_at_rest_watches_for_the_next() {
    let mut world = world();
    world.literal.insert("account".into());
    let (one, two) = (world.member(1), world.member(2));
    world.notify(two.at);
    assert_eq!(world.query(one.at), Ok(Reply::Done));
    world.notify(one.at);
    assert_eq!(world.do_fast(one.at), Ok(Reply::Done));
    assert!(world.is_over("account") && told(&world).ends_with("Rest"), "{}", told(&world));
    world.member(3);
    assert!(!world.is_over("account"));
    assert!(world.mailbox_writes("default", vec![found("three", true)]), "it watches");
    world.settle();
}

/// SEED-16: transports and mailboxes together, then address books, then stores, in each of the three calls and when a session closes.
#[test]
fn mailboxes_are_of_the_transports_phase() {
    let mut world = world();
    let member = world.member(1);
    world.hold("relay", "QueryFastShutdown");
    world.hold("account", "QueryFastShutdown");
    let asked = world.ask(member.at, Request::QueryFastShutdown);
    world.settle();
    assert_eq!(
        (world.waiting_calls("relay"), world.waiting_calls("account")),
        (1, 1),
        "both at once"
    );
    assert_eq!(world.swept().len(), 2, "and nobody else");
    world.let_go("relay");
    assert_eq!(world.swept().len(), 2, "the mailbox has not answered");
    world.let_go("account");
    assert_eq!(world.answer(member.at, asked), Some(Ok(Reply::Done)));
    world.notify(member.at);
    assert_eq!(world.do_fast(member.at), Ok(Reply::Done));
    let all = |call: &str| format!("relay.{call} account.{call} people.{call} store.{call}");
    let words = world.swept_words();
    for call in ["Query", "Notify", "Do"] {
        assert!(words.contains(&all(call)), "{words}");
    }
    world.advance(secs(60));
    let logoffs = world.order_of("Logoff");
    let place = |name: &str| logoffs.iter().position(|n| n == name).expect("it logs off");
    let first = place("relay").max(place("account"));
    assert!(first < place("people") && place("people") < place("store"), "{logoffs:?}");
}

/// SEED-20: a mailbox that has nothing to save is not looked at because a process leaves.
#[test]
fn a_mailbox_with_nothing_to_save_is_left_alone() {
    for (interface, calls) in [(Interface::Untouched, 0), (Interface::Supports, 1)] {
        let mut world = world();
        world.interfaces.insert("account".into(), interface);
        let (one, _stays) = (world.member(1), world.member(2));
        world.leave_fast(one.at);
        let told = told(&world);
        assert_eq!(told.matches("StoreChanged").count(), calls, "{interface:?}: {told}");
    }
}

/// SEED-10: a mailbox that refuses fast shutdown is named, one without the interface refuses.
#[test]
fn a_mailbox_may_refuse_fast_shutdown() {
    for interface in [Interface::Refuses(Code::E_NO_SUPPORT), Interface::Unaware] {
        let mut world = world();
        world.interfaces.insert("account".into(), interface);
        let member = world.member(1);
        let fault = world.query(member.at).expect_err("it refuses");
        assert_eq!(fault.code, Code::E_NO_SUPPORT);
        let named = sundown_protocol::FaultDetail::Providers(vec!["account".into()]);
        assert_eq!(fault.detail, named);
    }
}

/// PLOG-5, SEED-20: a mailbox that hangs at any of its calls delays nobody beyond its share, and keeps no session open.
#[test]
fn a_mailbox_that_hangs_keeps_nobody() {
    for call in
        ["Watch", "Rest", "StoreChanged", "NotifyProcessShutdown", "DoFastShutdown", "Logoff"]
    {
        let mut world = world();
        world.hold("account", call);
        let (member, stays) = (world.member(1), world.member(2));
        world.open(member, Opening::Store(0));
        let asked = world.ask(member.at, Request::QueryFastShutdown);
        world.advance(secs(1));
        assert!(world.answer(member.at, asked).is_some(), "{call}");
        world.submit(member, "b@x");
        assert_eq!(world.wire.delivered_to("b@x"), 1, "{call}");
        let entry = saved(&mut world, member);
        world.done(member.at, Request::Move { member: member.id, entry, to: Folder::SENT });
        world.notify_late(member.at);
        world.logoff(member);
        let left = world.ask_logoff(stays, LogoffFlags::default(), None);
        world.advance(secs(1));
        assert!(world.answer(stays.at, left).is_some_and(|a| a.is_ok()), "{call}");
        world.advance(secs(120));
        assert_eq!(world.sessions(), Vec::<String>::new(), "{call}");
        world.let_go("account");
        world.everybody_leaves();
        world.advance(secs(60));
        world.assert_empty();
    }
}

/// A mailbox that hangs while its session goes on gets another worker, which watches.
#[test]
fn a_mailbox_that_hangs_gets_another_worker() {
    for call in ["Watch", "StoreChanged"] {
        let mut world = world();
        world.hold("account", call);
        let member = world.member(1);
        let entry = saved(&mut world, member);
        world.done(member.at, Request::Move { member: member.id, entry, to: Folder::SENT });
        world.advance(secs(310));
        world.let_go("account");
        assert_eq!(world.order_of("Logon").iter().filter(|n| *n == "account").count(), 2, "{call}");
        assert!(world.mailbox_writes("default", vec![found("one", true)]), "{call}: it watches");
        assert_eq!(world.store("default").pending, [].into(), "{call}");
        assert!(world.hanging.contains(&("account".into(), call)), "{:?}", world.hanging);
    }
    // A look at everything takes as long as it takes; who asked for it is told in time.
    let mut world = world();
    let member = world.member(1);
    world.hold("account", "ValidateState");
    let (kind, provider) = (Resource::Mailbox, "account".to_owned());
    let validate = Request::ValidateState { member: member.id, kind, provider };
    let asked = world.ask(member.at, validate);
    world.advance(secs(400));
    let fault = world.answer(member.at, asked).expect("told").expect_err("not yet");
    assert_eq!(fault.code, Code::E_TIMEOUT);
    assert_eq!(world.order_of("Logon").iter().filter(|n| *n == "account").count(), 1);
    world.let_go("account");
}

/// A profile that is read again adds mailboxes, replaces those that were changed, and removes others.
#[test]
fn a_reload_changes_mailboxes() {
    let mut world = world();
    let member = world.member(1);
    let reload = |world: &mut World| {
        let reply = world.call(member.at, Request::Reload { profile: "default".into() });
        assert!(matches!(reply, Ok(Reply::Reloaded(_))), "{reply:?}");
        world.settle();
    };
    world.profile("default").mailboxes.push(mailbox("second"));
    reload(&mut world);
    assert_eq!(world.calls_of("second"), ["Logon", "Watch"]);
    assert_eq!(told(&world), "Watch", "the first one is as it was");
    let options = vec![("path".to_owned(), "/elsewhere".to_owned())];
    let spec = ProviderSpec { name: "account".into(), options, ..ProviderSpec::new("fake") };
    world.profile("default").mailboxes[0].provider = spec;
    reload(&mut world);
    assert_eq!(
        world.calls_of("account"),
        ["Logon", "Watch", "Logon", "Logoff", "Watch"],
        "the new one does not wait for the old one"
    );
    world.profile("default").mailboxes.remove(0);
    reload(&mut world);
    assert!(world.calls_of("account").ends_with(&["Watch", "Logoff"]));
    assert_eq!(world.calls_of("second"), ["Logon", "Watch"]);
    world.profile("default").mailboxes[0].watch = Watching::Always;
    reload(&mut world);
    world.notify(member.at);
    assert!(!world.calls_of("second").contains(&"Rest"), "{:?}", world.calls_of("second"));
}

/// LOGON-11: a mailbox whose logon fails twice is disabled as others are, and the session goes on. A flush of the queue tries it
/// again, because that is how a user says that it may work now.
#[test]
fn a_mailbox_that_does_not_log_on_is_disabled() {
    let mut world = world();
    world.script("account.Logon", &[Step::Refuses, Step::Refuses]);
    let member = world.member(1);
    let shown = status(&mut world);
    assert!(shown.starts_with("failed: "), "{shown}");
    assert_eq!(told(&world), "");
    world.submit(member, "b@x");
    world.notify(member.at);
    assert_eq!(told(&world), "");
    world.logon(member.at);
    let flush = Request::Queue { profile: Some("default".into()), action: QueueAction::Flush };
    assert!(world.call(member.at, flush).is_ok());
    assert_eq!((told(&world), status(&mut world)), ("Watch".to_owned(), "available".to_owned()));
}

/// NOTIF-30: new mail is told to each member that registered, once, with its sender and subject, and counts in the tables.
#[test]
fn new_mail_is_told_once_to_each() {
    let mut world = world();
    let (one, two) = (world.member(1), world.member(2));
    let at = world.connect(3);
    let private = world.logon_with(at, "default", LogonFlags::NEW_SESSION);
    let silent = world.member(4);
    let inbox = world.open(one, Opening::Folder(0, Folder::INBOX));
    let events = Events::NEW_MAIL | Events::TABLE_MODIFIED;
    let by_object = world.try_advise(one, AdviseSource::Object(inbox), events).expect("registered");
    let by_session = world.advise(one, Events::NEW_MAIL | Events::OBJECT_CREATED);
    world.advise(two, Events::NEW_MAIL);
    world.advise(private, Events::NEW_MAIL);
    let entry = world.mail_comes("default", "one");
    let told = world.notifications(one);
    let [created, table, mail] = &told[..] else { panic!("{told:?}") };
    assert!(matches!(created.event, News::Created(p) if p.entry == entry));
    let added = TableChange::Added(entry.to_string());
    assert_eq!(table.event, News::Table { object: inbox, change: added });
    let News::Arrived(arrival) = &mail.event else { panic!("{mail:?}") };
    assert_eq!((&arrival.from[..], &arrival.subject[..]), ("a@x", "hello"));
    assert_eq!((arrival.place.entry, arrival.place.folder), (entry, Folder::INBOX));
    assert_eq!(mail.advises, [by_object, by_session]);
    for member in [two, private] {
        let told = world.news(member);
        assert!(matches!(&told[..], [News::Arrived(a)] if a.place.entry == entry), "{told:?}");
    }
    assert_eq!(world.news(silent), []);
    // What was there before is no news.
    assert!(world.mailbox_writes("default", vec![found("old", false)]));
    world.settle();
    assert_eq!((world.news(two), world.news(private)), (vec![], vec![]));
    assert_eq!(world.news(one).len(), 2, "created, and a row");
}

/// What other programs do in a mailbox is told as what programs do here.
#[test]
fn what_happens_in_a_mailbox_is_told() {
    use sundown_protocol::folder::Marks;
    let mut world = world();
    let member = world.member(1);
    let entry = world.mail_comes("default", "one");
    world.advise(member, Events::all());
    let spot = || match found("one", false) {
        MirrorChange::Found { spot, .. } => spot,
        other => panic!("{other:?}"),
    };
    let (dir, name) = ("work".to_owned(), "work".to_owned());
    let to = crate::provider::Spot { dir: dir.clone(), ..spot() };
    let marks = Marks::READ;
    let changes = vec![
        MirrorChange::Marked { spot: spot(), marks },
        MirrorChange::Folder { dir: dir.clone(), parent: None, name, role: None },
        MirrorChange::Moved { from: spot(), to: to.clone(), marks },
        MirrorChange::Vanished { spot: to },
        MirrorChange::FolderGone { dir },
    ];
    assert!(world.mailbox_writes("default", changes));
    world.settle();
    let told = world.news(member);
    let place = |folder| sundown_protocol::reply::Place { entry, folder };
    let work = Folder(16);
    let event = |change| News::Folder { store: entry.store, folder: work, change };
    assert_eq!(
        told,
        [
            News::Modified(place(Folder::INBOX)),
            event(FolderChange::Made),
            News::Moved(place(work), Folder::INBOX),
            News::Deleted(place(work)),
            event(FolderChange::Removed),
        ]
    );
}

/// The lane of the writer of the default profile's store.
fn writer(world: &World) -> LaneId {
    let lanes = world.open_lanes().filter(|(_, kind, _)| *kind == ProviderType::Store);
    lanes.map(|(lane, ..)| lane).min().expect("a store is open")
}

/// NOTIF-29: when too much has changed each open table of the folder is told to be read again, once, and nobody else is told.
#[test]
fn a_table_is_read_again() {
    let mut world = world();
    let (one, two) = (world.member(1), world.member(2));
    let inbox = world.open(one, Opening::Folder(0, Folder::INBOX));
    let sent = world.open(two, Opening::Folder(0, Folder::SENT));
    for (member, object) in [(one, inbox), (two, sent)] {
        let source = AdviseSource::Object(object);
        world.try_advise(member, source, Events::TABLE_MODIFIED).expect("registered");
        world.advise(member, Events::all());
    }
    let (lane, changes) = (writer(&world), vec![StoreChange::Reload(Folder::INBOX)]);
    world.apply(Event::StoreChanged { lane, changes });
    let reload = News::Table { object: inbox, change: TableChange::Reload };
    assert_eq!((world.news(one), world.news(two)), (vec![reload], vec![]));
}

/// What a mailbox wrote into a store that is closed, or was lost, concerns nobody any more.
#[test]
fn what_was_written_into_a_closed_store_is_nobodys() {
    let mut world = world();
    let member = world.member(1);
    world.hold(WRITTEN, "Mirror");
    assert!(world.mailbox_writes("default", vec![found("one", true)]));
    let lane = writer(&world);
    world.logoff(member);
    world.advance(secs(60));
    let again = world.member(2);
    world.advise(again, Events::all());
    world.let_go(WRITTEN);
    world.settle();
    let folder = Folder::INBOX;
    let changes = vec![StoreChange::Created { record: 1, folder, news: Some(Box::default()) }];
    world.apply(Event::StoreChanged { lane, changes });
    assert_eq!(world.news(again), []);
    // Nor is there a mailbox of such a number.
    world.apply(Event::MailboxSaid { lane: LaneId(9_999), said: Ok(()) });
}

/// A session whose store is lost ends, and its mailbox is logged off before; the next session's watches the new store.
#[test]
fn a_mailbox_of_a_lost_store_is_logged_off() {
    let mut world = world();
    let member = world.member(1);
    world.store("default").lost = true;
    world.try_submit(member, &["b@x"]).expect_err("it is lost");
    world.advance(secs(60));
    assert_eq!(world.calls_of("account").last(), Some(&"Logoff"));
    let before = world.calls_of("account").len();
    world.member(2);
    assert_eq!(world.calls_of("account")[before..], ["Logon", "Watch"]);
    assert!(world.mailbox_writes("default", vec![found("one", true)]));
    world.settle();
}

/// What a mailbox says of itself is in `status`, and in the log once each time it changes.
#[test]
fn what_a_mailbox_says_is_shown_and_logged_once() {
    let mut world = world();
    world.member(1);
    for _ in 0..3 {
        world.mailbox_says("account", Err(Code::E_NO_ACCESS));
    }
    assert_eq!(status(&mut world), "failing: as the script says");
    let news = |world: &World| -> Vec<_> {
        let of_it = world.provider_news.iter().filter(|(_, name, _)| name == "account");
        of_it
            .map(|(_, _, news)| {
                matches!(news, ProviderNews::Fails { trouble: Trouble::Unreachable, .. })
            })
            .collect()
    };
    assert_eq!(news(&world), [true]);
    for _ in 0..3 {
        world.mailbox_says("account", Ok(()));
    }
    assert_eq!(news(&world), [true, false]);
    assert_eq!(status(&mut world), "available");
    world.mailbox_says("account", Err(Code::E_NO_ACCESS));
    assert_eq!(news(&world), [true, false, true]);
}

/// STAT-4, STAT-5: a mailbox is a row of the status table, which says whether it receives; whoever has that table open is told of a change.
#[test]
fn a_mailbox_is_a_row_of_the_status_table() {
    let mut world = world();
    let member = world.member(1);
    let table = world.open(member, Opening::StatusTable);
    let source = AdviseSource::Object(table);
    world.try_advise(member, source, Events::TABLE_MODIFIED).expect("registered");
    let row = |world: &mut World| {
        let list = Request::List { member: member.id, object: table, after: 0, limit: 20 };
        let Ok(Reply::Rows(rows)) = world.call(member.at, list) else { panic!("rows") };
        let sundown_protocol::reply::TableRows::Status(rows) = rows.rows else { panic!("status") };
        rows.into_iter().find(|row| row.name == "account").expect("it is there")
    };
    let before = row(&mut world);
    assert_eq!((before.resource, &before.text[..]), (Resource::Mailbox, "available"));
    assert_ne!(before.code & status_code::INBOUND_ENABLED, 0);
    world.notify(member.at);
    let modified = News::Table { object: table, change: TableChange::Modified("account".into()) };
    assert_eq!(world.news(member), [modified]);
    let after = row(&mut world);
    assert_eq!((&after.text[..], after.code & status_code::INBOUND_ENABLED), ("resting", 0));
    let (kind, provider) = (Resource::Mailbox, "account".to_owned());
    world.done(member.at, Request::ValidateState { member: member.id, kind, provider });
    assert!(told(&world).ends_with("ValidateState"));
}

/// `[inbox] on_new_mail` runs once for a profile and a message, whatever the number of its sessions and members.
#[test]
fn a_command_runs_once_for_new_mail() {
    let mut world = world();
    let shared = store("store", "/default/store");
    let work = world.profile("work");
    work.stores = vec![shared];
    work.on_new_mail = Some(vec!["bell".into()]);
    world.profile("default").on_new_mail = Some(vec!["ring".into()]);
    world.member(1);
    for pid in 2..4 {
        let at = world.connect(pid);
        world.logon_with(at, "default", LogonFlags::NEW_SESSION);
        world.logon_to(at, "work");
    }
    let entry = world.mail_comes("default", "one");
    let mut ran = std::mem::take(&mut world.ran_for_mail);
    ran.sort();
    let run = |profile: &str, command: &str| (profile.to_owned(), vec![command.to_owned()], entry);
    assert_eq!(ran, [run("default", "ring"), run("work", "bell")]);
    assert!(world.mailbox_writes("default", vec![found("old", false)]));
    world.settle();
    assert_eq!(world.ran_for_mail, [], "it is no news");
}

/// A member that may only submit hears of no new mail, and one that has left hears of nothing.
#[test]
fn new_mail_is_for_those_who_may_read() {
    let mut world = world();
    world.profile("default").access = vec![(2_001, crate::settings::Right::Submit)];
    let at = world.connect_as(2, 2_001);
    let submits = world.logon(at);
    let (stays, leaves) = (world.member(1), world.member(3));
    for member in [submits, stays, leaves] {
        world.advise(member, Events::all());
    }
    world.hold(WRITTEN, "Mirror");
    assert!(world.mailbox_writes("default", vec![found("one", true)]));
    world.logoff(leaves);
    world.news(stays);
    world.let_go(WRITTEN);
    world.advance(millis(1));
    assert_eq!((world.news(submits), world.news(leaves)), (vec![], vec![]));
    let arrived = |news: &News| matches!(news, News::Arrived(_));
    assert_eq!(world.news(stays).iter().filter(|n| arrived(n)).count(), 1);
    assert_ne!(submits.id, MemberId(0));
}

/// A sync asks each mailbox of the session, and answers what they have found together.
#[test]
fn a_sync_tells_what_was_found() {
    let mut world = world();
    world.profile("default").mailboxes.push(mailbox("other"));
    let member = world.member(1);
    let reply = world.call(member.at, Request::Sync { member: member.id });
    let Synced { new, changed, .. } = FOUND;
    let both = Synced { new: 2 * new, changed: 2 * changed, ..FOUND };
    assert_eq!(reply, Ok(Reply::Synced(both)));
    world.answers_for("other.Sync", Err(Code::E_NETWORK_ERROR));
    let fault = world.call(member.at, Request::Sync { member: member.id }).expect_err("it fails");
    assert_eq!(fault.code, Code::E_NETWORK_ERROR);
    assert!(status(&mut world).starts_with("available"), "the first has worked");
    let stranger = world.member(2);
    let fault = world.call(stranger.at, Request::Sync { member: member.id });
    assert_eq!(fault.expect_err("it is another's").code, Code::E_INVALID_OBJECT);
}

/// What is at a server is fetched for whoever reads it, by the mailbox that has it.
#[test]
fn a_message_is_fetched_to_be_read() {
    let mut world = world();
    world.profile("default").mailboxes.push(mailbox("other"));
    let member = world.member(1);
    let entry = arrived(&mut world);
    let read = Request::Read { member: member.id, source: ReadSource::Entry(entry), offset: 0 };
    world.store("default").elsewhere.insert(entry.record);
    world.answers_for("account.FetchMessage", Err(Code::E_NOT_FOUND));
    let reply = world.call(member.at, read.clone());
    assert!(matches!(reply, Ok(Reply::Piece { .. })), "{reply:?}");
    assert_eq!(world.calls_of("other").last(), Some(&"FetchMessage"));
    world.store("default").elsewhere.insert(entry.record);
    world.answers_for("account.FetchMessage", Err(Code::E_NETWORK_ERROR));
    let fault = world.call(member.at, read.clone()).expect_err("it is not here");
    assert_eq!(fault.code, Code::E_NETWORK_ERROR);
    // A mailbox that says that it has fetched it is not asked again and again.
    world.answers_for("account.FetchMessage", Ok(()));
    let fault = world.call(member.at, read).expect_err("it is not here");
    assert_eq!(fault.code, Code::E_OFFLINE);
}

/// What is at a server is fetched for whoever copies it; the copy is made once, also when who wants it asks again.
#[test]
fn a_message_is_fetched_to_be_copied() {
    let mut world = world();
    let member = world.member(1);
    let entry = arrived(&mut world);
    let copy = |key| {
        let (member, key, to) = (member.id, SubmitKey(key), Folder::DRAFTS);
        Request::Copy { member, key, entry, to }
    };
    world.store("default").elsewhere.insert(entry.record);
    let Ok(Reply::Saved(copied)) = world.call(member.at, copy(1)) else { panic!("it is copied") };
    assert!(world.calls_of("account").contains(&"FetchMessage"));
    assert_eq!(world.call(member.at, copy(1)), Ok(Reply::Saved(copied)));
    let copies = |world: &mut World| {
        let all = world.store("default").messages.values();
        all.filter(|message| message.folder == Folder::DRAFTS).count()
    };
    assert_eq!(copies(&mut world), 1);
    for (answer, code) in [
        (Err(Code::E_NETWORK_ERROR), Code::E_NETWORK_ERROR),
        // A mailbox that says that it has fetched it is not asked again and again.
        (Ok(()), Code::E_OFFLINE),
    ] {
        world.store("default").elsewhere.insert(entry.record);
        world.answers_for("account.FetchMessage", answer);
        let fault = world.call(member.at, copy(2)).expect_err("it is not here");
        assert_eq!(fault.code, code);
    }
    assert_eq!(copies(&mut world), 1);
    // Who has asked may be gone by the time that it is here, and a logoff does not wait for a server.
    world.store("default").elsewhere.insert(entry.record);
    world.hold("account", "FetchMessage");
    world.ask(member.at, copy(3));
    world.logoff(member);
    assert_eq!(copies(&mut world), 1);
    world.let_go("account");
    assert_eq!(copies(&mut world), 2, "what was asked for before is carried out");
    world.assert_counts();
}

/// How far a mailbox is, is seen by who may see its session.
#[test]
fn mailboxes_say_how_far_they_are() {
    let mut world = world();
    let member = world.member(1);
    let report = MailboxReport { connections: 1, pending: 2, ..MailboxReport::default() };
    let lane = super::figures::lane_of(&world, ProviderType::Mailbox);
    world.apply(Event::MailboxReports { lane, report });
    world.apply(Event::MailboxReports { lane: LaneId(9_999), report });
    let page = world.call(member.at, Request::Mailboxes { after: SessionId(0) });
    let Ok(Reply::Mailboxes { mailboxes, next: None }) = page else { panic!("{page:?}") };
    let [state] = &mailboxes[..] else { panic!("{mailboxes:?}") };
    assert_eq!((state.name.as_str(), state.connections, state.pending), ("account", 1, 2));
    let page = world.call(member.at, Request::Mailboxes { after: state.session });
    assert_eq!(page, Ok(Reply::Mailboxes { mailboxes: Vec::new(), next: None }));
}

/// STORE-8, STAT-4: while messages arrive the store and the status table say so, and whoever has that table open is told.
#[test]
fn what_arrives_is_seen() {
    let mut world = world();
    let member = world.member(1);
    let table = world.open(member, Opening::StatusTable);
    let source = AdviseSource::Object(table);
    world.try_advise(member, source, Events::TABLE_MODIFIED).expect("registered");
    let lane = super::figures::lane_of(&world, ProviderType::Mailbox);
    let code = |world: &mut World| {
        let list = Request::List { member: member.id, object: table, after: 0, limit: 20 };
        let Ok(Reply::Rows(rows)) = world.call(member.at, list) else { panic!("rows") };
        let sundown_protocol::reply::TableRows::Status(rows) = rows.rows else { panic!("status") };
        rows.into_iter().find(|row| row.name == "account").expect("it is there").code
    };
    let quiet = |world: &mut World| {
        let object = world.open(member, Opening::Store(0));
        let flags = StoreLogoff::QUIET;
        world.call(member.at, Request::StoreLogoff { member: member.id, object, flags })
    };
    for done in [1, 2] {
        let syncing = Some(sundown_protocol::reply::Syncing { done, total: 3 });
        let report = MailboxReport { syncing, ..MailboxReport::default() };
        world.apply(Event::MailboxReports { lane, report });
        assert_ne!(code(&mut world) & status_code::INBOUND_ACTIVE, 0);
        assert_eq!(quiet(&mut world), Ok(Reply::StoreLoggedOff(StoreLogoff::INBOUND)));
    }
    world.apply(Event::MailboxReports { lane, report: MailboxReport::default() });
    assert_eq!(code(&mut world) & status_code::INBOUND_ACTIVE, 0);
    assert_eq!(quiet(&mut world), Ok(Reply::StoreLoggedOff(StoreLogoff::COMPLETE)));
    assert_eq!(world.news(member).len(), 2, "of the beginning, and of the end");
}

/// A mailbox that is to take what was sent is told so; another is left alone.
#[test]
fn what_is_sent_is_told_to_its_mailbox() {
    for hands in [true, false] {
        let mut world = world();
        let member = world.member(1);
        world.store("default").hands_sent = hands;
        world.submit(member, "bob@x");
        world.settle();
        let told = told(&world);
        assert_eq!(told.contains("StoreChanged"), hands, "{told}");
    }
}
