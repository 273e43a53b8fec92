//! A broker that does not answer: calls have a deadline if the program gives them one, another thread can interrupt them, and dropping
//! what is open does not take long.

use std::sync::mpsc;
use std::time::{Duration, Instant};

use rustix::process::Signal;
use sundown_client::{
    Code, Error, Events, FolderKind, Interrupt, Logoff, Logon, Mapi, Message, Options, Session,
    within,
};

use crate::harness::{DEADLINE, Home};
use crate::library::initialize;

/// How long calls may take here. It is over soon, because every one of them waits for it.
const LIMIT: Duration = Duration::from_millis(50);
/// How much longer than that a call may take on a busy machine; much shorter than it would take by itself.
const SLACK: Duration = Duration::from_secs(15);

fn message(subject: &str) -> Message {
    Message::parse(format!("To: anna@localhost\nSubject: {subject}\n\nbody\n"))
}

/// What one call comes to.
type Call<'a> = (&'a str, Box<dyn Fn() -> Result<(), Error> + Send + Sync + 'a>);

/// Every call that waits for the broker.
fn calls<'a>(mapi: &'a Mapi, session: &'a Session, home: &'a Home) -> Vec<Call<'a>> {
    let other = || {
        let options = Options::new("other").socket(home.socket()).data_dir(home.data());
        options.no_autostart().brief()
    };
    vec![
        ("initialize", Box::new(move || Mapi::initialize(other()).map(drop))),
        ("both", Box::new(move || Mapi::initialize_and_logon(other(), Logon::shared()).map(drop))),
        ("logon", Box::new(|| mapi.logon(Logon::shared()).map(drop))),
        ("status", Box::new(|| mapi.status().map(drop))),
        ("queue", Box::new(|| mapi.queue(None, false).map(drop))),
        ("submit", Box::new(|| session.submit(&message("submitted")).map(drop))),
        (
            "long submit",
            Box::new(|| {
                let body = "0123456789\n".repeat(200_000);
                let text = format!("To: anna@localhost\nSubject: long\n\n{body}");
                session.submit(&Message::parse(text)).map(drop)
            }),
        ),
        ("flush", Box::new(|| session.flush())),
        ("open", Box::new(|| session.folder(FolderKind::INBOX).map(drop))),
        ("advise", Box::new(|| session.advise(Events::EXTENDED, |_| {}).map(drop))),
        ("setting", Box::new(|| session.setting("a", "b").map(drop))),
        ("log everything off", Box::new(|| mapi.log_everything_off())),
        ("logoff", Box::new(|| session.logoff(Logoff::now()).map(drop))),
    ]
}

fn members(home: &Home) -> usize {
    let status = home.status();
    let sessions = status["sessions"].as_array().expect("sessions");
    sessions.iter().map(|s| s["members"].as_array().map_or(0, Vec::len)).sum()
}

/// Each call that waits for a broker which does not answer ends with its deadline, and none of them leaves anything behind when the
/// broker goes on: neither members nor messages beside the one that was asked for.
///
/// design §5
#[test]
fn every_call_has_a_deadline() {
    let home = Home::new();
    let broker = home.serve();
    let mapi = initialize(&home);
    let session = mapi.logon(Logon::shared()).expect("it logs on");
    broker.signal(Signal::STOP);
    for (what, call) in calls(&mapi, &session, &home) {
        let since = Instant::now();
        let error = within(LIMIT, call).expect_err("nobody answers");
        assert!(since.elapsed() < LIMIT + SLACK, "{what} took {:?}", since.elapsed());
        assert_eq!(error.code(), Code::E_TIMEOUT, "{what}: {error:?}");
        // What changes something may be done all the same.
        assert_eq!(error.is_outcome_unknown(), what == "submit", "{what}: {error:?}");
    }
    broker.signal(Signal::CONT);
    broker.until("the message", || home.maildir("default").count() == 1);
    // What was given up half written has cost the connection, and the session is back.
    drop(session);
    home.status_until("nobody", |s| s["sessions"].as_array().is_some_and(Vec::is_empty));
    mapi.logon(Logon::shared()).expect("it works").flush().expect("as before");
    assert_eq!(home.maildir("default").only().field("Subject"), ["submitted"]);
}

/// Another thread interrupts each of them.
///
/// design §5
#[test]
fn every_call_can_be_interrupted() {
    let home = Home::new();
    let broker = home.serve();
    let mapi = initialize(&home);
    let session = mapi.logon(Logon::shared()).expect("it logs on");
    broker.signal(Signal::STOP);
    let since = Instant::now();
    std::thread::scope(|scope| {
        for (what, call) in calls(&mapi, &session, &home) {
            let (interrupt, (begins, begun)) = (Interrupt::new(), mpsc::channel());
            let other = interrupt.clone();
            let waits = scope.spawn(move || {
                interrupt.during(|| {
                    begins.send(()).expect("somebody waits");
                    call()
                })
            });
            begun.recv_timeout(DEADLINE).expect("it begins");
            other.interrupt();
            let error = waits.join().expect("it returned").expect_err("nobody answers");
            assert_eq!(error.code(), Code::E_CANCEL, "{what}: {error:?}");
        }
    });
    assert!(since.elapsed() < SLACK, "it took {:?}", since.elapsed());
    broker.signal(Signal::CONT);
}

/// Dropping a session does not take long: where the broker does not answer it leaves when that goes on; where it is away it leaves when
/// it is back, and what was deferred is there.
///
/// design §5, §3.16
#[test]
fn dropping_a_session_does_not_take_long() {
    let home = Home::new();
    let mut broker = home.serve();
    let mapi = initialize(&home);
    let session = mapi.logon(Logon::shared()).expect("it logs on");
    let stays = mapi.logon(Logon::shared()).expect("it logs on");
    broker.signal(Signal::STOP);
    let since = Instant::now();
    drop(session);
    assert!(since.elapsed() < SLACK, "it took {:?}", since.elapsed());
    broker.signal(Signal::CONT);
    home.status_until("it has left", |_| members(&home) == 1);

    let session = mapi.logon(Logon::shared()).expect("it logs on");
    session.submit_deferred(&message("deferred")).expect("submitted");
    broker.kill();
    let since = Instant::now();
    drop(session);
    assert!(since.elapsed() < SLACK, "it took {:?}", since.elapsed());
    let broker = home.serve();
    stays.flush().expect("it is back");
    home.status_until("it has left", |_| members(&home) == 1);
    broker.until("the message", || home.maildir("default").count() == 1);
}
