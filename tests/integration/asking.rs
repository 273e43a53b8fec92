//! The question before a logoff: what a program is shown, and what comes of its answer.

use sundown_client::{
    Code, FolderKind, Logoff, LogoffAnswer, Logon, Message, OnEndOfSession, QueuedMail,
};

use crate::harness::{Home, says};
use crate::library::initialize;

/// A home whose mail stays in the queue.
fn home() -> Home {
    let home = Home::with_settings("[shutdown]\nshared_logoff = \"any\"\n");
    home.profile("default", "[[transport]]\npath = \"blocked\"\n[queue]\nretry_min = \"1h\"\n");
    home.write(".local/share/sundown/default/blocked", "");
    home
}

fn message(subject: &str) -> Message {
    Message::parse(format!("To: anna@localhost\nSubject: {subject}\n\nbody\n"))
}

/// With the flag the program's own callback is shown who else is attached and what is queued, before anything has happened; a
/// no is `MAPI_E_USER_CANCEL`, and everything is as it was. A yes is the logoff, also where the broker was another one when
/// the answer came. Without the flag nobody is asked.
///
/// LOGOFF-3, design §3.4
#[test]
fn a_program_is_asked_before_its_logoff() {
    let home = home();
    let mut broker = home.serve();
    let mut other = home.shell();
    other.ok("logon");
    other.submit(1, &home.message("theirs"));
    let mapi = initialize(&home);
    let stay = || Logon::shared().on_end_of_session(OnEndOfSession::Stay);
    let session = mapi.logon(stay()).expect("it logs on");
    let alone = mapi.logon(Logon::private()).expect("it logs on");
    let submitted = session.submit(&message("ours")).expect("submitted");
    let folder = session.folder(FolderKind::OUTBOX).expect("opened");

    let shared = Logoff::now().shared();
    let cancelled = session.logoff_asking(shared, |question| {
        assert_eq!((question.session(), question.member()), (session.id(), session.member()));
        assert!(question.ends_for_all() && question.profile() == "default");
        let others = question.others().expect("it is shown");
        let pids: Vec<_> = others.iter().map(|member| member.peer.pid).collect();
        assert_eq!(pids, [other.pid()], "those of this session, without itself");
        let queued = question.queued().expect("it is shown");
        assert_eq!((queued.total, queued.own, queued.rows.len()), (2, 1, 2));
        assert!(queued.rows.iter().any(|row| row.entry == submitted.entry));
        // Nothing has happened, and calls can be made.
        session.flush().expect("it is still logged on");
        LogoffAnswer::Cancel
    });
    assert_eq!(cancelled.expect_err("the answer was no").code(), Code::E_USER_CANCEL);
    folder.messages().expect("it is still open");
    session.submit(&message("later")).expect("it goes on");
    other.settle();
    assert!(other.events(says(&[("event", "critical-error")])).is_empty(), "nobody was told");

    alone
        .logoff_asking(shared, |question| {
            assert!(!question.ends_for_all(), "it is a private session");
            assert_eq!(question.others().expect("it is shown"), []);
            LogoffAnswer::LogOff
        })
        .expect("the answer was yes");

    let mut asked = 0;
    let left = session.logoff_asking(shared, |_| {
        asked += 1;
        broker.kill();
        broker = home.serve();
        LogoffAnswer::LogOff
    });
    left.expect("the answer was yes");
    assert_eq!(asked, 1);
    assert_eq!(folder.messages().expect_err("it was logged off").code(), Code::E_INVALID_OBJECT);
    let again = session.logoff_asking(shared, |_| unreachable!("there is nothing to ask about"));
    assert_eq!(again.expect_err("once").code(), Code::E_INVALID_OBJECT);
}

/// A message that came back is in the queue's list until its notification was read, and is no mail that is sent later: it is not
/// among what is queued.
///
/// LOGOFF-3, design §3.4
#[test]
fn what_came_back_is_not_queued() {
    let home = home();
    home.profile(
        "default",
        "[[transport]]\npath = \"blocked\"\n[queue]\nmax_age = \"1ms\"\nretry_min = \"10ms\"\n",
    );
    let broker = home.serve();
    let mapi = initialize(&home);
    let session = mapi.logon(Logon::shared()).expect("it logs on");
    session.submit(&message("hopeless")).expect("submitted");
    broker.until("the bounce", || home.status()["queue"]["bounced"] == 1);
    let listed = mapi.queue(Some("default"), false).expect("it is listed");
    assert_eq!(listed.len(), 1, "until its notification was read");
    let answer = session.logoff_asking(Logoff::now(), |question| {
        assert_eq!(question.queued().expect("it is shown"), QueuedMail::default());
        LogoffAnswer::LogOff
    });
    answer.expect("the answer was yes");
}

/// Of a long queue all is counted, and its beginning shown.
///
/// design §3.4
#[test]
fn a_long_queue_is_counted() {
    let home = home();
    let _broker = home.serve();
    let mapi = initialize(&home);
    let session = mapi.logon(Logon::shared()).expect("it logs on");
    let number = QueuedMail::SHOWN + 1;
    for n in 0..number {
        session.submit_deferred(&message(&n.to_string())).expect("submitted");
    }
    session.flush().expect("all of it is durable");
    let answer = session.logoff_asking(Logoff::now(), |question| {
        let queued = question.queued().expect("it is shown");
        assert_eq!((queued.total, queued.own), (number as u64, number as u64));
        assert_eq!(queued.rows.len(), QueuedMail::SHOWN);
        LogoffAnswer::Cancel
    });
    assert_eq!(answer.expect_err("the answer was no").code(), Code::E_USER_CANCEL);
}

/// The shell has the flag, with the answer beside it; the question is an event line.
///
/// LOGOFF-3, design §8
#[test]
fn the_shell_can_be_asked() {
    let home = home();
    let _broker = home.serve();
    let (mut shell, mut other) = (home.shell(), home.shell());
    shell.ok("logon");
    other.ok("logon");
    shell.submit(1, &home.message("ours"));
    shell.fails("logoff session=1 shared ui=perhaps", "MAPI_E_INVALID_PARAMETER");
    shell.fails("logoff session=1 shared ui=no", "MAPI_E_USER_CANCEL");
    let question = shell.event("the question", says(&[("event", "logoff-question")]));
    assert_eq!((&question["session"], &question["ends_for_all"]), (&1.into(), &true.into()));
    assert_eq!(question["others"][0]["pid"], other.pid(), "{question}");
    assert_eq!((&question["queued"], &question["queued_own"]), (&1.into(), &1.into()));
    other.settle();
    assert!(other.events(says(&[("event", "critical-error")])).is_empty());
    shell.ok("logoff session=1 shared ui=yes");
    other.event("the end", says(&[("event", "critical-error")]));
    other.ok("logoff session=1");
    let asked = other.events(says(&[("event", "logoff-question")]));
    assert!(asked.is_empty(), "without the flag nobody is asked: {asked:?}");
}
