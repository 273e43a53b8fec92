//! When a mailbox watches, what is shown of it, and the command for its new mail.

use std::path::Path;

use sundown_protocol::reply::Resource;
use sundown_protocol::request::{LogonFlags, Request};
use sundown_protocol::{Code, Reply};

use super::broker::{Broker, Client, PROFILE};
use super::probe::{Plan, Probes};

/// A profile with a mailbox that has these keys, too.
fn with_mailbox(keys: &str) -> String {
    format!("{PROFILE}\n[[mailbox]]\nkind = \"probe\"\nname = \"inbox\"\npath = \"mail\"\n{keys}\n")
}

/// The state of the mailbox, as a process sees it.
fn state(client: &mut Client) -> String {
    let Ok(Reply::Status(status)) = client.call(Request::Status) else { panic!("no status") };
    let [session] = &status.sessions[..] else { panic!("one session: {status:?}") };
    let mailbox = session.providers.iter().find(|p| p.kind == Resource::Mailbox);
    let mailbox = mailbox.expect("there is a mailbox");
    assert_eq!((mailbox.name.as_str(), mailbox.fast_shutdown.as_str()), ("inbox", "supported"));
    mailbox.status.clone()
}

fn validate(client: &mut Client) -> Result<Reply, (Code, String)> {
    let (member, kind) = (client.member, Resource::Mailbox);
    let request = Request::ValidateState { member, kind, provider: "inbox".into() };
    client.call(request).map_err(|fault| (fault.code, fault.message))
}

/// SEED-19: a mailbox watches while a process has a member that did not say that it leaves. The next one that logs on wakes it.
#[test]
fn a_mailbox_watches_for_members_that_stay() {
    let broker = Broker::with(&Probes::default(), &with_mailbox(""));
    let (mut leaves, mut other) = (broker.process(1), broker.process(2));
    leaves.logon(LogonFlags::default());
    broker.log.until("inbox watch");
    assert_eq!(state(&mut other), "available");
    assert_eq!(leaves.query(), Ok(Reply::Done));
    leaves.done(Request::NotifyProcessShutdown);
    broker.log.until("inbox rest");
    assert_eq!(state(&mut other), "resting");
    other.logon(LogonFlags::default());
    broker.log.until_times("inbox watch", 2);
    assert_eq!(leaves.do_fast(), Ok(Reply::Done));
    assert_eq!(state(&mut other), "available");
    assert_eq!(broker.log.count("inbox rest"), 1);
}

/// It goes on when the profile says so.
#[test]
fn a_mailbox_may_always_watch() {
    let broker = Broker::with(&Probes::default(), &with_mailbox("watch = \"always\""));
    let (mut leaves, mut other) = (broker.process(1), broker.process(2));
    leaves.logon(LogonFlags::default());
    broker.log.until("inbox watch");
    leaves.done(Request::NotifyProcessShutdown);
    assert_eq!(state(&mut other), "available");
    other.logon(LogonFlags::default());
    // It is told in order.
    assert_eq!(validate(&mut other), Ok(Reply::Done));
    assert_eq!((broker.log.count("inbox watch"), broker.log.count("inbox rest")), (1, 0));
}

/// What is wrong with a mailbox is in the status until it is over. The transport beside it works.
#[test]
fn a_mailbox_says_why_it_does_not_work() {
    let probes = Probes::default();
    let gate = probes.gate();
    let plan = Plan::default().that_ails(&gate, "/mail is no Maildir");
    let broker = Broker::with(&probes.and("inbox", plan), &with_mailbox(""));
    let mut member = broker.process(1);
    member.logon(LogonFlags::default());
    let why = (Code::E_CALL_FAILED, "/mail is no Maildir".to_owned());
    assert_eq!(validate(&mut member), Err(why));
    assert_eq!(state(&mut member), "failing: /mail is no Maildir");
    member.submit("Subject: x\n\nx\n");
    broker.log.until("sent");
    gate.open();
    assert_eq!(validate(&mut member), Ok(Reply::Done));
    assert_eq!(state(&mut member), "available");
}

/// design §3: the command for new mail is run once for each message, without a shell, and with what the message says in its
/// environment.
#[test]
fn new_mail_runs_the_command_of_the_profile() {
    let dir = tempfile::tempdir().expect("a directory");
    let pipe = dir.path().join("said");
    fifo(&pipe);
    let script = "env | grep ^SUNDOWN_ | sort > \"$0\"";
    let command = format!("[\"/bin/sh\", \"-c\", '{script}', \"{}\"]", pipe.display());
    let profile = with_mailbox(&format!("[inbox]\non_new_mail = {command}\n"));
    let plan = Plan::default().with_news("Anna <anna@example.org>", "$(touch /x)\nBcc: y");
    let broker = Broker::with(&Probes::of("inbox", plan), &profile);
    let mut member = broker.process(1);
    member.logon(LogonFlags::default());
    broker.log.until("mirrored Ok(())");
    let said = std::fs::read_to_string(&pipe).expect("it runs");
    let value = |name: &str| {
        let mut lines = said.lines().filter_map(|line| line.strip_prefix(name)?.strip_prefix('='));
        lines.next().unwrap_or_else(|| panic!("{name} is not in {said}")).to_owned()
    };
    assert_eq!(value("SUNDOWN_EVENT"), "new-mail");
    assert_eq!(value("SUNDOWN_PROFILE"), "default");
    assert_eq!(value("SUNDOWN_FOLDER"), "inbox");
    assert_eq!(value("SUNDOWN_FROM"), "Anna <anna@example.org>");
    assert_eq!(value("SUNDOWN_SUBJECT"), "$(touch /x) Bcc: y");
    assert_eq!(Path::new(&value("SUNDOWN_SOCKET")), broker.root.path().join("run/broker.sock"));
    assert_eq!(value("SUNDOWN_ENTRY").len(), 40);
}

fn fifo(path: &Path) {
    use rustix::fs::{CWD, FileType, mknodat};
    mknodat(CWD, path, FileType::Fifo, 0o600.into(), 0).expect("made");
}
