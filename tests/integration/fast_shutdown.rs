//! Fast shutdown and external references, with real processes.

use serde_json::Value;

use crate::harness::{Broker, Home, Shell, says};

/// The provider calls of this name that the log has for a process, as their kinds in order. Transports and mailboxes, which are called
/// at once, are in the order of their names.
fn kinds(broker: &Broker, call: &str, pid: u32) -> Vec<String> {
    let log = broker.log();
    let calls = log.iter().filter(|l| l["event"] == "provider-call" && l["call"] == call);
    let of_process = calls.filter(|l| l["pid"] == pid);
    let mut kinds: Vec<_> =
        of_process.filter_map(|l| l["kind"].as_str().map(str::to_owned)).collect();
    let first = kinds.iter().take_while(|k| ["mailbox", "transport"].contains(&k.as_str())).count();
    kinds[..first].sort_unstable();
    kinds
}

const ORDER: [&str; 4] = ["mailbox", "transport", "address-book", "store"];

/// How a process of the three leaves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Way {
    Fast,
    Drain,
    Shared,
}

/// Three processes share a session, each with mail, and leave in three ways: whatever the order, each sees what the rules
/// say, nobody notices more of a fast shutdown than a member that left, and all mail is delivered once.
///
/// SEED-4, SEED-9, SEED-14, SEED-16, CFS-3, CFS-14, ORDER-1, design §3.10
#[test]
fn three_leave_in_every_order() {
    use Way::{Drain, Fast, Shared};
    let orders = [
        [Fast, Drain, Shared],
        [Fast, Shared, Drain],
        [Drain, Fast, Shared],
        [Drain, Shared, Fast],
        [Shared, Fast, Drain],
        [Shared, Drain, Fast],
    ];
    for order in orders {
        let home = Home::with_settings("[shutdown]\nshared_logoff = \"any\"\n");
        let broker = home.serve();
        let mut shells: Vec<(Way, Shell)> = order.iter().map(|way| (*way, home.shell())).collect();
        let mut fast_pid = 0;
        for (number, (way, shell)) in shells.iter_mut().enumerate() {
            shell.ok("logon");
            shell.ok("advise session=1 events=extended");
            shell.submit(1, &home.message(&format!("from-{number}")));
            if *way == Fast {
                fast_pid = shell.pid();
                shell.ok(&format!("draft session=1 file={}", home.message("draft").display()));
            }
        }
        for (way, shell) in &mut shells {
            match way {
                Fast => {
                    shell.ok("query-fast-shutdown");
                    shell.ok("notify-process-shutdown");
                    shell.ok("do-fast-shutdown");
                    shell.fails("logon", "MAPI_E_NOT_INITIALIZED");
                }
                Drain => assert_eq!(shell.ok("logoff session=1 drain=30")["queued"], 0),
                Shared => drop(shell.ok("logoff session=1 shared")),
            }
        }
        let shared_at = order.iter().position(|w| *w == Shared).expect("one of them");
        for (place, (way, shell)) in shells.iter_mut().enumerate() {
            let told = shell.events(says(&[("event", "critical-error")]));
            let expected = usize::from(place > shared_at);
            assert_eq!(told.len(), expected, "{order:?}: {way:?} at {place}: {told:?}");
        }
        for call in ["QueryFastShutdown", "NotifyProcessShutdown", "DoFastShutdown"] {
            broker.until(call, || kinds(&broker, call, fast_pid) == ORDER);
        }
        broker.until("all mail", || home.maildir("default").count() == 3);
        let tally = home.maildir("default").tally("Subject");
        assert!(tally.values().all(|n| *n == 1), "{order:?}: {tally:?}");
        assert_eq!(recovered(&home), 1, "{order:?}");
    }
}

/// Drafts that were kept for a process that ended without saving them.
fn recovered(home: &Home) -> usize {
    let mut shell = home.shell();
    shell.ok("logon");
    let drafts = shell.ok("open session=1 what=drafts")["object"].clone();
    let rows = shell.ok(&format!("list object={drafts}"))["rows"].clone();
    shell.ok("logoff session=1");
    rows.as_array().expect("rows").iter().filter(|r| r["recovered"] == true).count()
}

/// Client and broker may be killed right after the answer to Do: everything handed over is there, once.
///
/// SEED-8, SEED-20, CFS-7, PFS-5, design §3.8, §10.9
#[test]
fn nothing_is_missing_when_everybody_is_killed() {
    let home = Home::new();
    for round in 0..8 {
        let mut broker = home.serve();
        let mut shell = home.shell();
        shell.ok("logon");
        let message = home.message(&format!("round-{round}"));
        shell.ok(&format!("setting session=1 name=last value={round}"));
        shell.ok(&format!("submit session=1 deferred file={}", message.display()));
        shell.ok(&format!("draft session=1 file={}", message.display()));
        shell.ok("query-fast-shutdown");
        shell.ok("do-fast-shutdown");
        broker.kill();
        shell.kill();
    }
    let broker = home.serve();
    broker.until("all mail", || home.maildir("default").count() == 8);
    let tally = home.maildir("default").tally("Subject");
    assert_eq!(tally.len(), 8, "{tally:?}");
    assert!(tally.values().all(|n| *n == 1), "{tally:?}");
    assert_eq!(recovered(&home), 8);
    let mut shell = home.shell();
    shell.ok("logon");
    assert_eq!(shell.ok("setting session=1 name=last")["value"], "7");
}

/// An administrator can veto for a provider: refused is a no, absent is one who does not know the interface and is not
/// called. The refusal names it, and `shut-down` takes the traditional way.
///
/// SEED-10, SEED-12, CFS-4, PFS-7, CFG-2, CFG-3
#[test]
fn a_provider_can_be_vetoed() {
    for (word, behavior, calls, allowed) in [
        ("refused", "opt-in", 1, false),
        ("absent", "opt-in", 0, false),
        ("refused", "opt-out", 1, false),
        ("absent", "opt-out", 0, true),
    ] {
        let text = format!("[shutdown]\nfast_shutdown_behavior = \"{behavior}\"\n");
        let home = Home::with_settings(&text);
        home.profile("default", &format!("[[address_book]]\nfast_shutdown = \"{word}\"\n"));
        let broker = home.serve();
        let mut shell = home.shell();
        shell.ok("logon");
        if allowed {
            shell.ok("query-fast-shutdown");
        } else {
            let refused = shell.fails("query-fast-shutdown", "MAPI_E_NO_SUPPORT");
            assert_eq!(refused["providers"], serde_json::json!(["sqlite"]), "{refused}");
            shell.fails("do-fast-shutdown", "MAPI_E_NO_SUPPORT");
        }
        // The log is written behind the answers; a store is asked last.
        let (pid, store) = (shell.pid(), "store".to_owned());
        broker.until("the query", || kinds(&broker, "QueryFastShutdown", pid).contains(&store));
        let asked = kinds(&broker, "QueryFastShutdown", pid);
        let books = asked.iter().filter(|kind| *kind == "address-book").count();
        assert_eq!(books, calls, "{word}, {behavior}");
        let path = shell.ok("shut-down")["path"].clone();
        assert_eq!(path, if allowed { "fast" } else { "traditional" }, "{word}, {behavior}");
        shell.fails("uninitialize", "MAPI_E_NOT_INITIALIZED");
        home.status_until("nobody", |s| s["sessions"].as_array().is_some_and(Vec::is_empty));
    }
}

/// Whoever disables it gets a no without anybody being asked; a notice is passed on all the same. A setting that only keeps
/// programs from doing it leaves the query alone.
///
/// SEED-13, SEED-21, CFG-4, A-17
#[test]
fn settings_can_switch_it_off() {
    let home = Home::with_settings("[shutdown]\nfast_shutdown_behavior = \"disabled\"\n");
    let broker = home.serve();
    let mut shell = home.shell();
    shell.ok("logon");
    shell.fails("query-fast-shutdown", "MAPI_E_NO_SUPPORT");
    shell.ok("notify-process-shutdown");
    let pid = shell.pid();
    broker.until("the notice", || kinds(&broker, "NotifyProcessShutdown", pid) == ORDER);
    assert!(kinds(&broker, "QueryFastShutdown", pid).is_empty());
    shell.submit(1, &home.message("life-goes-on"));

    let home = Home::with_settings("[shutdown]\ndisable_fast_shutdown = true\n");
    let broker = home.serve();
    let mut shell = home.shell();
    shell.ok("logon");
    shell.ok("query-fast-shutdown");
    shell.fails("do-fast-shutdown", "MAPI_E_NO_SUPPORT");
    assert_eq!(shell.ok("shut-down")["path"], "traditional");
    let pid = shell.pid();
    let logged_off = |line: &Value| line["call"] == "Logoff" && line["kind"] == "store";
    broker.log_line("the logoff", logged_off);
    assert!(kinds(&broker, "DoFastShutdown", pid).is_empty());
}

/// The answer to the query holds for the life of the process: also when the settings change, and when the broker is
/// another one.
///
/// SEED-12, STICK-7, design §3.6, §10.4
#[test]
fn a_verdict_outlives_settings_and_brokers() {
    let home = Home::new();
    let mut broker = home.serve();
    let (mut yes, mut no) = (home.shell(), home.shell());
    yes.ok("logon");
    yes.ok("query-fast-shutdown");
    home.settings("[shutdown]\nfast_shutdown_behavior = \"disabled\"\n");
    let before = broker.log_length();
    broker.signal(rustix::process::Signal::HUP);
    let reread = |line: &Value| line["message"].as_str().is_some_and(|m| m.contains("read again"));
    broker.log_line_from(before, "the settings", reread);
    yes.ok("query-fast-shutdown");
    no.ok("logon");
    no.fails("query-fast-shutdown", "MAPI_E_NO_SUPPORT");
    home.settings("");
    broker.kill();
    let _broker = home.serve();
    for shell in [&yes, &no] {
        shell.event("the return", says(&[("event", "reconnected")]));
    }
    no.fails("query-fast-shutdown", "MAPI_E_NO_SUPPORT");
    yes.ok("query-fast-shutdown");
    yes.submit(1, &home.message("before"));
    yes.ok("do-fast-shutdown");
}

/// One object can be lent to another process by a token: once, for listing and reading only, until it is given back or
/// its owner leaves, in whatever way.
///
/// SEED-7, design §3.11, §3.12
#[test]
fn a_folder_can_be_lent() {
    for end in ["logoff session=1", "do-fast-shutdown", ""] {
        let home = Home::new();
        let broker = home.serve();
        let (mut owner, mut guest, mut late) = (home.shell(), home.shell(), home.shell());
        owner.ok("logon");
        owner.submit(1, &home.message("to-be-seen"));
        broker.until("the mail", || home.maildir("default").count() == 1);
        let sent = owner.ok("open session=1 what=sent")["object"].clone();
        let token = owner.ok(&format!("grant object={sent}"))["token"].clone();
        let token = token.as_str().expect("a token").to_owned();
        let lent = guest.ok(&format!("redeem token={token}"))["object"].clone();
        late.fails(&format!("redeem token={token}"), "MAPI_E_NOT_FOUND");
        guest.ok(&format!("list object={lent}"));
        guest.fails(&format!("grant object={lent}"), "MAPI_E_NO_SUPPORT");
        let status = home.status();
        let references = &status["sessions"][0]["references"];
        assert_eq!(references[0]["holder"]["pid"], guest.pid(), "{status}");
        if end.is_empty() {
            owner.kill();
        } else {
            owner.ok("query-fast-shutdown");
            owner.ok(end);
        }
        guest
            .event("the end", says(&[("event", "critical-error"), ("code", "RPC_E_DISCONNECTED")]));
        guest.fails(&format!("list object={lent}"), "RPC_E_DISCONNECTED");
        let told = guest.events(says(&[("event", "critical-error")]));
        assert_eq!(told.len(), 1, "{told:?}");
        assert_eq!(told[0]["object"], lent);
        let secret = broker.log().iter().any(|line| line.to_string().contains(&token));
        assert!(!secret, "the token is in the log");
    }
}

/// What was lent can be taken back, and where the settings say so nobody leaves while it is held.
///
/// SEED-7, design §3.11
#[test]
fn what_is_lent_can_keep_its_owner() {
    let home = Home::with_settings("[shutdown]\nallow_shutdown_with_external_references = false\n");
    let _broker = home.serve();
    let (mut owner, mut guest) = (home.shell(), home.shell());
    owner.ok("logon");
    let inbox = owner.ok("open session=1 what=inbox")["object"].clone();
    let token = owner.ok(&format!("grant object={inbox} pid={}", guest.pid()))["token"].clone();
    let token = token.as_str().expect("a token").to_owned();
    owner.fails(&format!("redeem token={token}"), "MAPI_E_NOT_FOUND");
    let lent = guest.ok(&format!("redeem token={token}"))["object"].clone();
    owner.ok("query-fast-shutdown");
    let busy = owner.fails("do-fast-shutdown", "MAPI_E_BUSY");
    assert_eq!(busy["holders"][0]["pid"], guest.pid(), "{busy}");
    let busy = owner.fails("logoff session=1 drain=0.2", "MAPI_E_BUSY");
    assert_eq!(busy["holders"][0]["pid"], guest.pid(), "{busy}");
    owner.ok(&format!("revoke token={token}"));
    guest.fails(&format!("list object={lent}"), "RPC_E_DISCONNECTED");
    owner.ok("do-fast-shutdown");
}

/// Another member of the session sees that somebody left, and how; nothing else of it, and the session goes on.
///
/// SEED-9, CFS-14, A-30, design §3.3, §10.1
#[test]
fn the_others_see_a_member_that_left() {
    let home = Home::new();
    let _broker = home.serve();
    let (mut leaves, mut stays) = (home.shell(), home.shell());
    let member = leaves.ok("logon")["member"].clone();
    leaves.ok("logon private");
    stays.ok("logon");
    stays.ok("advise session=1 events=extended,critical-error");
    leaves.ok("query-fast-shutdown");
    leaves.ok("do-fast-shutdown");
    let left = stays.event("the departure", says(&[("kind", "member-left")]));
    assert_eq!((&left["reason"], &left["member"]), (&"fast-shutdown".into(), &member));
    stays.settle();
    assert_eq!(stays.events(|_| true).len(), 1);
    stays.ok("open session=1 what=inbox");
    let status = home.status();
    assert_eq!(status["sessions"].as_array().map(Vec::len), Some(1), "{status}");
    stays.ok("query-fast-shutdown");
    stays.ok("do-fast-shutdown");
}

/// What was lent does not survive its broker. Its holder is told once, and what the next broker says to its sessions
/// reaches them, although that one begins to count anew.
///
/// SEED-7, design §3.11, §10.2
#[test]
fn what_is_lent_ends_with_its_broker() {
    let home = Home::with_settings("[shutdown]\nshared_logoff = \"any\"\n");
    let mut broker = home.serve();
    let (mut owner, mut guest) = (home.shell(), home.shell());
    owner.ok("logon");
    let inbox = owner.ok("open session=1 what=inbox")["object"].clone();
    let mut lent = Vec::new();
    for _ in 0..20 {
        let token = owner.ok(&format!("grant object={inbox}"))["token"].clone();
        let token = token.as_str().expect("a token").to_owned();
        lent.push(guest.ok(&format!("redeem token={token}"))["object"].clone());
    }
    broker.kill();
    let _broker = home.serve();
    for object in &lent {
        let lost =
            |event: &Value| event["code"] == "RPC_E_DISCONNECTED" && event["object"] == *object;
        guest.event("the end", lost);
        guest.fails(&format!("list object={object}"), "RPC_E_DISCONNECTED");
    }
    owner.event("the return", says(&[("event", "reconnected")]));
    for session in 1..=20 {
        guest.ok("logon");
        guest.ok(&format!("advise session={session}"));
    }
    owner.ok("logoff session=1 shared");
    for session in 1..=20 {
        let ended =
            |event: &Value| event["code"] == "MAPI_E_END_OF_SESSION" && event["session"] == session;
        guest.event("the end of the session", ended);
    }
    guest.settle();
    assert_eq!(guest.events(says(&[("code", "RPC_E_DISCONNECTED")])).len(), 20);
}
