//! The client library within a program, with a broker beside it.

use std::os::unix::net::UnixListener;
use std::sync::{Barrier, mpsc};
use std::time::{Duration, Instant};

use sundown_client::{
    Code, Error, Event, Events, FaultDetail, FolderKind, LeaveReason, Logoff, Logon, Mapi, Message,
    News, Notice, OnEndOfSession, Options, Resource, Session, StoreLogoff, SubmissionState,
};

use crate::harness::{DEADLINE, Home};

/// The library, connected to the broker of a home.
pub(crate) fn initialize(home: &Home) -> Mapi {
    try_initialize(home).expect("a broker runs")
}

fn try_initialize(home: &Home) -> Result<Mapi, Error> {
    let options = Options::new("report").socket(home.socket()).data_dir(home.data());
    Mapi::initialize(options.no_autostart())
}

fn log_on(mapi: &Mapi, how: Logon) -> Session {
    mapi.logon(how).expect("it logs on")
}

fn message(subject: &str) -> Message {
    Message::parse(format!("To: anna@localhost\nSubject: {subject}\n\nbody\n"))
}

/// A sink that hands on what it is told.
fn sink() -> (impl Fn(&Notice) + Send + Sync + 'static, mpsc::Receiver<Notice>) {
    let (sender, receiver) = mpsc::channel();
    // Whoever does not listen any more misses nothing it wants.
    (move |notice: &Notice| drop(sender.send(notice.clone())), receiver)
}

fn next(receiver: &mpsc::Receiver<Notice>) -> Notice {
    receiver.recv_timeout(DEADLINE).expect("a notice in time")
}

fn is_critical(notice: &Notice) -> bool {
    matches!(notice.news, News::Broker(Event::CriticalError { .. }))
}

/// How many members a home's broker has.
fn members(home: &Home) -> usize {
    let status = home.status();
    let sessions = status["sessions"].as_array().expect("sessions");
    sessions.iter().map(|s| s["members"].as_array().map_or(0, Vec::len)).sum()
}

/// A message that nobody is told about has an author all the same, durable or not.
#[test]
fn a_message_from_nobody_has_an_author() {
    let home = Home::new();
    let broker = home.serve();
    let mapi = initialize(&home);
    let session = log_on(&mapi, Logon::shared());
    let message = message("from nobody").sender("");
    session.submit(&message).expect("it is taken");
    session.submit_deferred(&message).expect("it is taken");
    let mail = home.maildir("default");
    broker.until("the messages", || mail.count() == 2);
    for message in mail.messages() {
        assert_eq!(message.field("Return-Path"), ["<>"]);
        assert_eq!(message.field("From"), [session.identity()]);
    }
}

/// What takes connections and says nothing is waited for as long as the program wants, and named.
///
/// design §5
#[test]
fn what_says_nothing_is_given_up() {
    let home = Home::new();
    let socket = home.path("run/silent.sock");
    let listener = UnixListener::bind(&socket).expect("bound");
    let options = Options::new("report").socket(&socket).data_dir(home.data()).no_autostart();
    let since = Instant::now();
    let error = Mapi::initialize(options.patience(Duration::from_millis(1))).expect_err("nobody");
    assert!(since.elapsed() < Duration::from_secs(25), "it waited as if nothing had been said");
    let words = format!("what listens at {} does not answer", socket.display());
    assert!(error.to_string().contains(&words) && error.to_string().contains("doctor"), "{error}");
    drop(listener);
}

/// Initializing and logging on at once is both: it fails as the one or as the other, and then nothing is initialized.
///
/// INIT-1
#[test]
fn initializing_and_logging_on_at_once_is_both() {
    let home = Home::new();
    let options = || {
        let options = Options::new("report").socket(home.socket()).data_dir(home.data());
        options.no_autostart()
    };
    let unreachable = Mapi::initialize(options()).expect_err("nobody").to_string();
    let error = Mapi::initialize_and_logon(options(), Logon::shared()).expect_err("nobody");
    assert_eq!(error.to_string(), unreachable);

    let _broker = home.serve();
    let elsewhere = Logon::shared().profile("elsewhere");
    let error = Mapi::initialize_and_logon(options(), elsewhere).expect_err("no such profile");
    assert_eq!(error.code(), Code::E_NOT_FOUND);

    let (first, session) = Mapi::initialize_and_logon(options(), Logon::shared()).expect("both");
    assert_eq!((first.initialized(), members(&home)), (1, 1));
    session.flush().expect("it is logged on");
    let (second, other) = Mapi::initialize_and_logon(options(), Logon::shared()).expect("again");
    assert_eq!((second.initialized(), members(&home)), (2, 2));
    assert_eq!(other.id(), session.id());
    assert_ne!(other.member(), session.member());
    for session in [session, other] {
        session.logoff(Logoff::now()).expect("logged off");
    }
    second.uninitialize().expect("uninitialized");
    assert_eq!(first.initialized(), 1);
}

/// Initializations are counted: with the last one everything that is still logged on is logged off, not before.
///
/// INIT-1, INIT-3, INIT-14, A-1
#[test]
fn initializations_are_counted() {
    let home = Home::new();
    let broker = home.serve();
    let first = initialize(&home);
    assert_eq!((first.initialized(), first.broker()), (1, Some(broker.pid())));
    let second = initialize(&home);
    assert_eq!((first.initialized(), second.initialized()), (2, 2));
    let session = log_on(&first, Logon::shared());
    drop(second);
    assert_eq!(first.initialized(), 1);
    session.folder(FolderKind::INBOX).expect("it is still logged on");
    assert_eq!(members(&home), 1);
    first.uninitialize().expect("everything is durable");
    assert_eq!(members(&home), 0);
    let error = session.folder(FolderKind::INBOX).expect_err("it was logged off");
    assert!(error.is_dead_handle(), "{error:?}");
    assert_eq!(initialize(&home).initialized(), 1, "and again");
}

/// The eight steps in a program: register, submit, unregister, release, log off after outbound mail, uninitialize.
///
/// SEED-1, SEED-3, OBJ-5
#[test]
fn a_program_ends_its_session_in_order() {
    let home = Home::new();
    let _broker = home.serve();
    let mapi = initialize(&home);
    let session = log_on(&mapi, Logon::shared());
    assert!(session.is_shared());
    assert_eq!(session.profile(), "default");
    let (told, notices) = sink();
    let store = session.default_store().expect("a store");
    let registered =
        store.advise(Events::OBJECT_CREATED | Events::OBJECT_MOVED, told).expect("advised");
    assert_ne!(registered.connection(), 0);
    let outbox = store.outbox().expect("an outbox");
    let submitted = outbox.submit(&message("report")).expect("submitted");
    assert_eq!(submitted.state, SubmissionState::Queued);
    for wanted in [FolderKind::OUTBOX, FolderKind::SENT] {
        let notice = next(&notices);
        let News::Broker(Event::Created(place) | Event::Moved(place, _)) = notice.news else {
            panic!("{notice:?}")
        };
        assert_eq!((place.entry, place.folder), (submitted.entry, wanted));
        assert_eq!(notice.connections, [registered.connection()]);
    }
    registered.unadvise().expect("unadvised");
    drop((outbox, store));
    let left = session.logoff(Logoff::after_outbound(DEADLINE)).expect("logged off");
    assert_eq!((left.invalidated, left.discarded, left.queued), (0, 0, 0));
    let error = session.logoff(Logoff::now()).expect_err("once");
    assert!(error.is_dead_handle() && error.code() == Code::E_INVALID_OBJECT, "{error:?}");
    mapi.uninitialize().expect("uninitialized");
    assert_eq!(home.maildir("default").only().field("Subject"), ["report"]);
}

/// Dropping a sink ends its registration; the others stay. Each gets a number of its own.
///
/// NOTIF-4, NOTIF-6, NOTIF-8
#[test]
fn dropping_a_sink_unadvises() {
    let home = Home::new();
    let _broker = home.serve();
    let mapi = initialize(&home);
    let session = log_on(&mapi, Logon::shared());
    let ((first, dropped), (second, kept)) = (sink(), sink());
    let gone = session.advise(Events::EXTENDED, first).expect("advised");
    let stays = session.advise(Events::EXTENDED, second).expect("advised");
    assert_ne!(gone.connection(), stays.connection());
    drop(gone);
    let other = log_on(&mapi, Logon::shared());
    let member = other.member();
    drop(other);
    let left = News::Broker(Event::MemberLeft { member, reason: LeaveReason::LoggedOff });
    assert_eq!(next(&kept).news, left);
    assert!(dropped.try_recv().is_err());
}

/// Without a sink the critical error waits in the session's default event queue, and the session stays until the program
/// leaves. Nothing else is put there.
///
/// A-34, design §3.2
#[test]
fn the_default_event_queue_gets_what_must_not_be_missed() {
    let home = Home::new();
    let _broker = home.serve();
    let mapi = initialize(&home);
    let session = log_on(&mapi, Logon::shared());
    log_on(&mapi, Logon::shared()).logoff(Logoff::now()).expect("logged off");
    home.run(&["logoff", "--shared", "--force"]).ok();
    let notice = session.events().recv_timeout(DEADLINE).expect("it is told");
    assert!(is_critical(&notice) && notice.connections.is_empty(), "{notice:?}");
    session.submit(&message("after the end")).expect("it may go on");
    session.logoff(Logoff::after_outbound(DEADLINE)).expect("it leaves by itself");
    assert!(session.events().try_recv().is_err());
}

/// A program whose sink was told is logged off once that has returned, unless it wants to stay.
///
/// SEED-1, NOTIF-33, design §3.4
#[test]
fn a_program_that_was_told_is_logged_off() {
    let home = Home::new();
    let broker = home.serve();
    let mapi = initialize(&home);
    let leaves = log_on(&mapi, Logon::shared());
    let stays = log_on(&mapi, Logon::shared().on_end_of_session(OnEndOfSession::Stay));
    let ((first, told), (second, also)) = (sink(), sink());
    let _sinks = (
        leaves.advise(Events::CRITICAL_ERROR, first).expect("advised"),
        // Registered for the session, it is told of its end, whatever else it wanted.
        stays.advise(Events::NEW_MAIL, second).expect("advised"),
    );
    home.run(&["logoff", "--shared", "--force"]).ok();
    assert!(is_critical(&next(&told)) && is_critical(&next(&also)));
    let member = leaves.member().0;
    home.status_until("the library has logged it off", |status| {
        let members = status["sessions"][0]["members"].as_array().expect("members");
        members.iter().all(|m| m["id"] != member)
    });
    // The answer to that logoff may still be on its way to this process; afterwards the code is the session's end.
    let error = leaves.submit(&message("too late")).expect_err("it is over");
    assert!(error.is_end_of_session() || error.is_dead_handle(), "{error:?}");
    stays.submit(&message("still here")).expect("it stays");
    broker.until("the message", || home.maildir("default").count() == 1);
    assert!(told.try_recv().is_err() && also.try_recv().is_err(), "once");
}

/// A brief program has no thread that watches. Its next call finds out what has come since: that the session ends, that the
/// broker is another one, and that it was stopped.
///
/// NOTIF-16, design §5
#[test]
fn a_brief_program_finds_out_at_its_next_call() {
    let home = Home::new();
    let mut broker = home.serve();
    let options = Options::new("brief").socket(home.socket()).data_dir(home.data());
    let mapi = Mapi::initialize(options.no_autostart().brief()).expect("a broker runs");
    let session = log_on(&mapi, Logon::shared());
    home.run(&["logoff", "--shared", "--force"]).ok();
    assert!(session.events().try_recv().is_err(), "nobody has looked");
    session.submit(&message("first")).expect("it may go on");
    let notice = session.events().recv_timeout(DEADLINE).expect("it is told");
    assert!(is_critical(&notice), "{notice:?}");
    session.logoff(Logoff::now()).expect("it leaves by itself");

    let session = log_on(&mapi, Logon::shared());
    broker.kill();
    let broker = home.serve();
    session.submit(&message("second")).expect("it comes back");
    let notice = session.events().recv_timeout(DEADLINE).expect("it is told");
    assert!(matches!(notice.news, News::Reconnected { .. }), "{notice:?}");
    broker.until("both", || home.maildir("default").count() == 2);

    home.run(&["stop"]).ok();
    let error = session.submit(&message("third")).expect_err("nobody is there");
    assert!(error.is_end_of_session() && error.to_string().contains("was stopped"), "{error}");
}

/// Errors answer questions, and know the code, what was refused and why.
///
/// design §5
#[test]
fn errors_answer_questions() {
    use std::error::Error as _;
    let home = Home::new();
    let error = try_initialize(&home).expect_err("no broker runs");
    assert!(
        error.is_unreachable() && error.is_temporary() && error.source().is_some(),
        "{error:?}"
    );
    assert!(!error.is_disconnected() && !error.is_dead_handle() && !error.is_end_of_session());

    let mut broker = home.serve();
    let mapi = initialize(&home);
    let error = mapi.logon(Logon::shared().profile("nobody")).expect_err("there is none");
    assert_eq!(error.code(), Code::E_NOT_FOUND);
    assert!(!error.is_temporary() && !error.is_unreachable(), "{error:?}");
    let mut elsewhere = home.shell();
    elsewhere.ok("logon");
    let owner = log_on(&mapi, Logon::shared());
    let session = log_on(&mapi, Logon::shared());
    let refused = session.logoff(Logoff::now().shared()).expect_err("it is not the owner");
    assert_eq!(refused.code(), Code::E_NO_ACCESS);
    let FaultDetail::Owner(peer) = refused.detail() else { panic!("{refused:?}") };
    assert_eq!((peer.pid, peer.program.as_str()), (elsewhere.pid(), "sundown"));
    let far = Message::parse("To: far@example.org\n\n");
    let error = session.submit(&far).expect_err("no transport takes it");
    let FaultDetail::Addresses(addresses) = error.detail() else { panic!("{error:?}") };
    assert_eq!(addresses, &["far@example.org"]);
    let error = session.submit(&Message::new("body")).expect_err("nobody gets it");
    assert_eq!(error.code(), Code::E_NO_RECIPIENTS);

    let folder = session.folder(FolderKind::INBOX).expect("opened");
    session.logoff(Logoff::now()).expect("logged off");
    let error = folder.messages().expect_err("it is dead");
    assert!(error.is_dead_handle() && !error.is_end_of_session(), "{error:?}");

    home.run(&["stop", "--fast"]).ok();
    broker.wait();
    let notice = owner.events().recv_timeout(DEADLINE).expect("it is told");
    assert!(is_critical(&notice), "{notice:?}");
    let error = owner.submit(&message("too late")).expect_err("the broker has stopped");
    assert!(error.is_end_of_session() && !error.is_temporary(), "{error:?}");
}

/// Calls of many threads of one program go on at once, and a slow one holds up no other.
///
/// INIT-11, design §5
#[test]
fn many_threads_may_call_at_once() {
    let home = Home::new();
    home.profile("default", "[[transport]]\npath = \"blocked\"\n[[transport]]\nname = \"b\"\npath = \"b\"\naccept = [\"*\"]\n");
    home.write(".local/share/sundown/default/blocked", "");
    let _broker = home.serve();
    let mapi = initialize(&home);
    let session = log_on(&mapi, Logon::shared());
    let slow = log_on(&mapi, Logon::shared());
    slow.submit(&message("stuck")).expect("submitted");
    let folder = session.folder(FolderKind::DRAFTS).expect("opened");
    std::thread::scope(|scope| {
        let leaving =
            scope.spawn(|| slow.logoff(Logoff::after_outbound(Duration::from_secs(3600))));
        let working: Vec<_> = (0..8)
            .map(|n| {
                let (session, folder) = (&session, &folder);
                scope.spawn(move || {
                    for m in 0..20 {
                        let far =
                            Message::parse(format!("To: far@example.org\nSubject: {n}.{m}\n\n"));
                        session.submit(&far).expect("submitted");
                        folder.messages().expect("listed");
                    }
                })
            })
            .collect();
        for thread in working {
            thread.join().expect("it has succeeded");
        }
        assert!(!leaving.is_finished(), "it waits for what cannot be sent");
        // The end of the shared session does not wait for the drain.
        session.logoff(Logoff::now()).expect("logged off");
        home.run(&["stop", "--fast"]).ok();
        let error = leaving.join().expect("it returned").expect_err("the broker has stopped");
        assert!(error.is_end_of_session(), "{error:?}");
    });
}

/// In a forked child every call fails with words, and dropping what the parent has does nothing to it.
///
/// design §3.22
#[test]
#[allow(unsafe_code)]
fn a_forked_child_cannot_use_the_library() {
    let home = Home::new();
    let _broker = home.serve();
    let mapi = initialize(&home);
    let session = log_on(&mapi, Logon::shared());
    let folder = session.folder(FolderKind::INBOX).expect("opened");
    // SAFETY: the child makes calls that fail before they take a lock that another thread may have had, and ends
    // without running anything of the parent's.
    let status = unsafe {
        match libc::fork() {
            0 => {
                libc::alarm(30);
                let refused = |code: Option<Code>| code == Some(Code::E_NOT_INITIALIZED);
                let code = |error: Option<Error>| error.map(|e| e.code());
                let all = [
                    refused(code(session.submit(&message("child")).err())),
                    refused(code(folder.messages().err())),
                    refused(code(mapi.logon(Logon::shared()).err())),
                    refused(code(session.logoff(Logoff::now()).err())),
                    refused(code(mapi.status().err())),
                ];
                drop((folder, session, mapi));
                libc::_exit(i32::from(all.contains(&false)));
            }
            child => {
                let mut status = 0;
                libc::waitpid(child, &raw mut status, 0);
                status
            }
        }
    };
    assert_eq!(status, 0, "every call fails in the child");
    session.submit(&message("parent")).expect("the parent has lost nothing");
    folder.messages().expect("nor its objects");
    assert_eq!(members(&home), 1);
}

/// A program lets go of a store: quietly only if nothing goes on, else it is told what does, and the broker does the rest.
///
/// STORE-1, STORE-7, STORE-8
#[test]
fn a_store_is_let_go() {
    let home = Home::new();
    home.profile("default", "[[transport]]\npath = \"blocked\"\n[queue]\nretry_min = \"1h\"\n");
    home.write(".local/share/sundown/default/blocked", "");
    let broker = home.serve();
    let mapi = initialize(&home);
    let session = log_on(&mapi, Logon::shared());
    let quiet = session.default_store().expect("it opens");
    assert_eq!(quiet.store_logoff(StoreLogoff::QUIET).expect("it answers"), StoreLogoff::COMPLETE);
    session.folder(FolderKind::INBOX).expect("the session is still there");
    session.submit(&message("stuck")).expect("it is taken");
    broker.until("the deferral", || home.status()["queue"]["deferred"] == 1);
    let store = session.default_store().expect("it opens");
    let waits = store.store_logoff(StoreLogoff::QUIET).expect("it answers");
    assert_eq!(waits, StoreLogoff::OUTBOUND_QUEUE);
    let left = store.store_logoff(StoreLogoff::NO_WAIT).expect("it answers");
    assert_eq!(left, StoreLogoff::OUTBOUND_QUEUE.with(StoreLogoff::COMPLETE));
    let twice = store.store_logoff(StoreLogoff(0)).expect_err("no flag");
    assert_eq!(twice.code(), Code::E_INVALID_PARAMETER);
}

/// A program asks whether a provider works, and hears what is wrong in words.
///
/// design §8
#[test]
fn a_provider_says_whether_it_works() {
    let home = Home::new();
    let server =
        "[[transport]]\nkind = \"smtp\"\nhost = \"127.0.0.1\"\nport = 9\nsecurity = \"none\"\n";
    home.profile("default", server);
    let _broker = home.serve();
    let mapi = initialize(&home);
    let session = log_on(&mapi, Logon::private().no_mail());
    session.validate_state(Resource::StoreProvider, "sqlite").expect("it works");
    let error = session.validate_state(Resource::TransportProvider, "smtp").expect_err("nobody");
    assert_eq!(error.code(), Code::E_NETWORK_ERROR);
    assert!(error.to_string().contains("port 9"), "{error}");
    let error = session.validate_state(Resource::TransportProvider, "nobody").expect_err("none");
    assert_eq!(error.code(), Code::E_NOT_FOUND);
}

/// Threads that initialize at the same time use one connection: each has its session, none is lost, and with the last
/// everything is logged off.
///
/// INIT-1, INIT-11, design §5
#[test]
fn threads_that_initialize_at_once_share_a_connection() {
    let home = Home::new();
    let _broker = home.serve();
    for _ in 0..20 {
        let begin = Barrier::new(8);
        let (mapis, sessions): (Vec<_>, Vec<_>) = std::thread::scope(|scope| {
            let threads: Vec<_> = (0..8)
                .map(|n| {
                    let (home, begin) = (&home, &begin);
                    scope.spawn(move || {
                        begin.wait();
                        let options = Options::new("report").socket(home.socket());
                        let options = options.data_dir(home.data()).no_autostart();
                        if n % 2 == 0 {
                            return Mapi::initialize_and_logon(options, Logon::shared());
                        }
                        let mapi = Mapi::initialize(options)?;
                        let session = mapi.logon(Logon::shared())?;
                        Ok((mapi, session))
                    })
                })
                .collect();
            let joined = threads.into_iter().map(|thread| thread.join().expect("it returned"));
            joined.map(|both| both.expect("a broker runs")).unzip()
        });
        for session in &sessions {
            session.flush().expect("its member is known");
        }
        assert_eq!((mapis[0].initialized(), members(&home)), (8, 8));
        let connections = mapis[0].broker_status().expect("it says").expect("it knows");
        let connections = connections.limits.into_iter().find(|l| l.name == "connections");
        // One of this process, and the one that asks for the members above, which may not be gone yet.
        let used = connections.expect("it is limited").used.expect("it is counted");
        assert!(used <= 2, "{used} connections");
        drop((sessions, mapis));
        assert_eq!(members(&home), 0);
    }
}

/// Who initializes the library while another thread uninitializes it gets one that works: nobody joins what ends.
///
/// INIT-1, STICK-5
#[test]
fn nobody_joins_a_library_that_ends() {
    let home = Home::new();
    let _broker = home.serve();
    let mut ends = initialize(&home);
    for round in 0..100 {
        let session = log_on(&ends, Logon::shared());
        let begin = Barrier::new(2);
        let next = std::thread::scope(|scope| {
            let joins = scope.spawn(|| {
                begin.wait();
                initialize(&home)
            });
            begin.wait();
            if round % 2 == 0 {
                ends.uninitialize().expect("everything is durable");
            } else {
                drop(ends);
            }
            joins.join().expect("it returned")
        });
        drop(session);
        log_on(&next, Logon::shared()).flush().expect("it works");
        assert_eq!(next.initialized(), 1);
        ends = next;
    }
    drop(ends);
    assert_eq!(members(&home), 0);
}

/// A sink that panics ends neither the thread that calls sinks nor the sinks after it; the program is told, an end that no sink has
/// taken is in the default event queue and the session stays, and nothing waits for the sink.
///
/// NOTIF-33, design §5
#[test]
fn a_sink_that_panics_costs_nobody_a_notice() {
    let home = Home::new();
    let _broker = home.serve();
    let mapi = initialize(&home);
    let session = log_on(&mapi, Logon::shared());
    let panics = session.advise(Events::EXTENDED, |_| panic!("on purpose")).expect("advised");
    let other = log_on(&mapi, Logon::shared());
    let (told, also) = sink();
    let _after = other.advise(Events::EXTENDED, told).expect("advised");
    let third = log_on(&mapi, Logon::shared());
    let member = third.member();
    third.logoff(Logoff::now()).expect("logged off");
    let left = News::Broker(Event::MemberLeft { member, reason: LeaveReason::LoggedOff });
    assert_eq!(next(&also).news, left);
    let said = session.events().recv_timeout(DEADLINE).expect("it is told");
    let connection = panics.connection();
    assert_eq!(said.news, News::SinkPanicked { connection, message: "on purpose".into() });

    home.run(&["logoff", "--shared", "--force"]).ok();
    // The command's own departure comes first or last; the end itself is not lost.
    let notices: Vec<_> = std::iter::from_fn(|| session.events().recv_timeout(DEADLINE).ok())
        .take_while(|notice| !is_critical(notice))
        .collect();
    assert!(notices.iter().all(|n| matches!(n.news, News::SinkPanicked { .. })), "{notices:?}");
    session.flush().expect("nobody has taken the end: the program leaves by itself");
    session.logoff(Logoff::now()).expect("logged off");
}

/// A home with a broker that sends nothing, whose sessions any member may end.
fn slow_home() -> Home {
    let home = Home::with_settings("[shutdown]\nshared_logoff = \"any\"\n");
    home.profile("default", "[[transport]]\npath = \"blocked\"\n[queue]\nretry_min = \"1h\"\n");
    home.write(".local/share/sundown/default/blocked", "");
    home
}

/// A sink that takes its time does not make the program grow: what has no room is counted and said, in its place. The end of the
/// session is told in any case.
///
/// NOTIF-21, design §5
#[test]
fn a_slow_sink_is_told_what_it_has_missed() {
    const MANY: usize = 5_000;
    let home = slow_home();
    let _broker = home.serve();
    let mapi = initialize(&home);
    let stay = || Logon::shared().on_end_of_session(OnEndOfSession::Stay);
    let (slow, busy) = (log_on(&mapi, stay()), log_on(&mapi, stay()));
    let (told, notices) = sink();
    let (goes, waits) = mpsc::channel::<()>();
    let waits = std::sync::Mutex::new(waits);
    let store = slow.default_store().expect("opened");
    let created = store
        .advise(Events::OBJECT_CREATED, move |notice| {
            told(notice);
            // Until the test lets it go.
            let _ = waits.lock().expect("one sink").recv();
        })
        .expect("advised");
    for n in 0..MANY {
        busy.submit_deferred(&message(&n.to_string())).expect("submitted");
    }
    busy.flush().expect("all of it is durable");
    // It ends the session, and tells the slow one, which has not returned from its first notice yet.
    let other = log_on(&mapi, stay());
    other.logoff(Logoff::now().shared()).expect("ended");
    drop(goes);
    let (mut missed, mut ends) = (0, 0);
    while missed == 0 || ends == 0 {
        match slow.events().recv_timeout(DEADLINE).expect("it is told").news {
            News::Broker(Event::Lagged { missed: more }) => missed += more as usize,
            News::Broker(Event::CriticalError { .. }) => ends += 1,
            other => panic!("{other:?}"),
        }
    }
    assert!(missed < MANY, "{missed} were missed");
    for _ in missed..MANY {
        let notice = next(&notices);
        assert!(matches!(notice.news, News::Broker(Event::Created(_))), "{notice:?}");
    }
    created.unadvise().expect("unadvised");
    assert!(notices.try_recv().is_err(), "each is seen or counted");
}

/// A sink on the session itself is told what it has missed, behind what it was told before.
///
/// NOTIF-21, design §5
#[test]
fn a_slow_sink_of_a_session_is_told_there_what_it_has_missed() {
    const MANY: usize = 5_000;
    let home = slow_home();
    let _broker = home.serve();
    let mapi = initialize(&home);
    let stay = || Logon::shared().on_end_of_session(OnEndOfSession::Stay);
    let (slow, busy) = (log_on(&mapi, stay()), log_on(&mapi, stay()));
    let (told, notices) = sink();
    let (goes, waits) = mpsc::channel::<()>();
    let waits = std::sync::Mutex::new(waits);
    let created = slow
        .advise(Events::OBJECT_CREATED, move |notice| {
            told(notice);
            // Until the test lets it go.
            let _ = waits.lock().expect("one sink").recv();
        })
        .expect("advised");
    for n in 0..MANY {
        busy.submit_deferred(&message(&n.to_string())).expect("submitted");
    }
    busy.flush().expect("all of it is durable");
    // All of them have arrived here when this answer has.
    let status = mapi.status().expect("answered");
    assert_eq!(status.sessions.len(), 1);
    drop(goes);
    let (mut seen, mut missed) = (0, 0);
    while seen + missed < MANY {
        match next(&notices).news {
            News::Broker(Event::Created(_)) => seen += 1,
            News::Broker(Event::Lagged { missed: more }) => missed += more as usize,
            other => panic!("{other:?}"),
        }
    }
    assert!(missed > 0, "{seen} were told");
    assert!(
        slow.events().try_recv().is_err(),
        "the sink was told, and the default event queue was not"
    );
    created.unadvise().expect("unadvised");
}
