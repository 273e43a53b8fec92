//! The end of a broker, and its return.

use std::time::Instant;

use rustix::process::Signal;
use serde_json::{Value, json};

use crate::harness::{Home, says};

const STOPPING: &[(&str, &str)] = &[("event", "broker-stopping")];
const RECONNECTED: &[(&str, &str)] = &[("event", "reconnected")];
const CRITICAL: &[(&str, &str)] = &[("event", "critical-error")];

/// SIGTERM is an orderly stop for a restart: members are told, the broker exits with 0, and when the next one is there
/// their calls go on as if nothing had happened: sessions, objects and registrations are back.
///
/// design §3.21, §5
#[test]
fn a_process_survives_a_restart_of_its_broker() {
    let home = Home::new();
    let mut broker = home.serve();
    let (mut shared, mut private) = (home.shell(), home.shell());
    shared.ok("logon");
    shared.ok("advise session=1 events=extended,object-moved");
    let inbox = shared.ok("open session=1 what=sent")["object"].clone();
    private.ok("logon private no-mail");

    broker.terminate();
    assert!(!home.socket().exists());
    for shell in [&shared, &private] {
        let event = shell.event("the announcement", says(STOPPING));
        assert_eq!(
            event,
            json!({ "event": "broker-stopping", "session": 1, "within_seconds": 20 })
        );
    }
    let broker = home.serve();
    for shell in [&mut shared, &mut private] {
        let event = shell.event("being back", says(RECONNECTED));
        assert_eq!((&event["session"], &event["lost_drafts"]), (&json!(1), &json!(0)));
        assert_eq!(event["previous"]["end"], "stopped", "{event}");
    }
    assert_eq!(shared.ok(&format!("list object={inbox}"))["rows"], json!([]));
    let entry = shared.submit(1, &home.message("afterwards"));
    broker.until("the message", || home.maildir("default").count() == 1);
    // The registration is back too.
    shared.event("the transmission", |v| v["event"] == "object-moved" && v["entry"] == entry);
    let members = home.status()["sessions"].clone();
    let no_mail = |n: usize| members[n]["members"][0]["no_mail"].as_bool();
    assert_eq!(members.as_array().map(Vec::len), Some(2), "{members}");
    assert!(
        [no_mail(0), no_mail(1)].contains(&Some(true)),
        "a member's flags are its own: {members}"
    );
    for shell in [&mut shared, &mut private] {
        shell.ok("logoff session=1");
        assert_eq!(shell.events(says(CRITICAL)), Vec::<Value>::new());
    }
}

/// A broker knows how the one before it ended: when it was killed the log says so and what was found, `status` says so, and
/// every program that comes back is told.
///
/// design §3.21, §8
#[test]
fn the_next_broker_says_how_the_last_one_ended() {
    let home = Home::new();
    let mut broker = home.serve();
    assert_eq!(home.status()["broker"]["previous"], Value::Null);
    let mut shell = home.shell();
    shell.ok("logon");
    let entry = shell.submit(1, &home.message("held"));
    broker.until("the message", || home.maildir("default").count() == 1);
    let held = home.write("held.eml", "To: nobody@localhost\n\n");
    home.profile("default", "[[transport]]\nkind = \"maildir\"\npath = \"/dev/null/no\"\n");
    let pid = broker.pid();
    broker.kill();

    let mut broker = home.serve();
    let event = shell.event("being back", says(RECONNECTED));
    assert_eq!(
        (&event["previous"]["end"], &event["previous"]["pid"]),
        (&json!("killed"), &json!(pid))
    );
    let line = broker.log_line("the end of the last one", |l| l["end"] == "killed");
    assert_eq!((&line["level"], &line["pid"]), (&json!("warn"), &json!(pid)));
    let previous = home.status()["broker"]["previous"].clone();
    assert_eq!((&previous["end"], &previous["ended"]), (&json!("killed"), &Value::Null));
    assert!(home.run(&["status"]).ok().output.contains("did not stop in order"));
    shell.submit(1, &held);
    home.run(&["queue", "hold", &entry]);
    broker.terminate();

    let mut broker = home.serve();
    broker.log_line("the queue", |l| {
        l["message"].as_str().is_some_and(|m| m.starts_with("mail in the queue: 1 "))
    });
    assert_eq!(home.status()["broker"]["previous"]["why"], "asked to by a signal");
    assert!(!home.run(&["status"]).ok().output.contains("in order"));
    let stopper = home.run(&["stop"]).ok();
    assert!(broker.wait().success(), "{stopper:?}");
    let _broker = home.serve();
    let why = home.status()["broker"]["previous"]["why"].clone();
    assert!(why.as_str().is_some_and(|w| w.starts_with("asked to by sundown (pid ")), "{why}");
}

/// Limits are shown with how much of them is used.
///
/// design §8
#[test]
fn status_shows_limits_and_what_is_used() {
    let home = Home::with_settings("[limits]\nobjects = 7\n");
    let _broker = home.serve();
    let mut shell = home.shell();
    shell.ok("logon");
    shell.ok("open session=1 what=inbox");
    let limits = home.status()["limits"].clone();
    assert_eq!(limits["members"], json!({ "most": 1024, "used": 1 }));
    assert_eq!((&limits["objects"]["most"], &limits["message"]["used"]), (&json!(7), &Value::Null));
    assert!(limits["objects"]["used"].as_u64() >= Some(1), "{limits}");
    assert_eq!(limits["connections"]["used"], 2);
}

/// A call that is made while no broker is there waits for the next one.
///
/// design §3.21
#[test]
fn a_call_waits_for_the_broker() {
    let home = Home::new();
    let mut broker = home.serve();
    let mut shell = home.shell();
    shell.ok("logon");
    broker.kill();
    let message = home.message("patience");
    let submit = shell.tell(&format!("submit session=1 file={}", message.display()));
    let broker = home.serve();
    assert_eq!(shell.reply(submit)["ok"], true);
    broker.until("the message", || home.maildir("default").count() == 1);
}

/// Unsaved drafts of a process whose broker was killed are lost and counted; those of an orderly stop are recovered.
///
/// design §3.9, §5
#[test]
fn lost_drafts_are_counted() {
    let home = Home::new();
    let mut broker = home.serve();
    let mut shell = home.shell();
    shell.ok("logon");
    let draft = shell.ok(&format!("draft session=1 file={}", home.message("draft").display()));
    broker.kill();
    let _broker = home.serve();
    let event = shell.event("being back", says(RECONNECTED));
    assert_eq!(event["lost_drafts"], 1);
    shell.fails(&format!("save object={}", draft["object"]), "MAPI_E_INVALID_OBJECT");
}

/// A session that the next broker cannot give back, because its profile is gone, ends with a critical error; the others of
/// the process come back.
///
/// design §3.21
#[test]
fn a_session_that_cannot_come_back_is_told_so() {
    let home = Home::new();
    let profile = home.profile("work", "");
    let mut broker = home.serve();
    let mut shell = home.shell();
    shell.ok("logon profile=work");
    shell.ok("logon");
    broker.kill();
    std::fs::remove_file(profile).expect("removed");
    let _broker = home.serve();
    let event = shell.event("the end of one session", says(CRITICAL));
    assert_eq!((&event["session"], &event["reason"]), (&json!(1), &json!("broker-lost")));
    let back = shell.event("the other one", says(RECONNECTED));
    assert_eq!(back["session"], 2);
    shell.fails("open session=1 what=inbox", "MAPI_E_END_OF_SESSION");
    shell.ok("open session=2 what=inbox");
    assert_eq!(shell.events(|_| true).len(), 2);
}

/// What is submitted while the broker is stopping is taken by the next one, once.
///
/// design §3.16, §3.21
#[test]
fn a_submit_during_the_stop_is_taken_by_the_next_broker() {
    let home = Home::new();
    let mut broker = home.serve();
    let mut shell = home.shell();
    shell.ok("logon");
    broker.signal(Signal::TERM);
    shell.event("the announcement", says(STOPPING));
    let message = home.message("in-between");
    let submit = shell.tell(&format!("submit session=1 file={}", message.display()));
    assert!(broker.wait().success());
    let broker = home.serve();
    assert_eq!(shell.reply(submit)["ok"], true);
    broker.until("the message", || home.maildir("default").count() == 1);
    shell.ok("logoff session=1 drain=60");
    assert_eq!(home.maildir("default").count(), 1);
}

/// A second SIGTERM ends the broker at once, whoever is still busy.
///
/// design §3.21, §8
#[test]
fn a_second_sigterm_waits_for_nobody() {
    let home = Home::new();
    let mut broker = home.serve();
    // It cannot send, and waits for that for a long time.
    home.profile("default", "[[transport]]\npath = \"blocked\"\n");
    home.write(".local/share/sundown/default/blocked", "");
    let mut shell = home.shell();
    shell.ok("logon");
    shell.submit(1, &home.message("stuck"));
    broker.log_line("an attempt", |l| l["call"] == "UpdateSubmission");
    shell.tell("logoff session=1 drain=3600");
    let began = Instant::now();
    broker.signal(Signal::TERM);
    shell.event("the announcement", says(STOPPING));
    broker.signal(Signal::TERM);
    let status = broker.wait();
    assert!(status.success(), "{status}");
    assert!(began.elapsed().as_secs() < 15, "it would have served those who leave for 20 s");
    let _broker = home.serve();
    assert_eq!(home.run(&["queue", "--json"]).ok().json()[0]["state"], "deferred");
}

/// `sundown stop` is final: members are told with the reason, and their calls fail from then on; the library does not
/// look for another broker. What was handed over is durable.
///
/// design §3.21
#[test]
fn stop_is_final() {
    for fast in [false, true] {
        let home = Home::new();
        let mut broker = home.serve();
        let mut shell = home.shell();
        shell.ok("logon no-mail");
        shell.submit(1, &home.message("kept"));
        let arguments = if fast { &["stop", "--fast", "--json"][..] } else { &["stop", "--json"] };
        let stopped = home.run(arguments).ok().json();
        assert_eq!(stopped, json!({ "stopped": broker.pid() }));
        assert!(broker.wait().success());
        let event = shell.event("the end", says(CRITICAL));
        let seconds = if fast { 0 } else { 20 };
        assert_eq!(event["reason"], "broker-stopped");
        assert_eq!((&event["by"], &event["grace_seconds"]), (&Value::Null, &json!(seconds)));
        shell.fails("open session=1 what=inbox", "MAPI_E_END_OF_SESSION");
        shell.fails("logon", "MAPI_E_END_OF_SESSION");
        let _broker = home.serve();
        shell.fails("open session=1 what=inbox", "MAPI_E_END_OF_SESSION");
        assert_eq!(shell.events(says(CRITICAL)).len(), 1);
        assert!(shell.events(says(RECONNECTED)).is_empty());
        let queue = home.run(&["queue", "--json"]).ok().json();
        assert_eq!(queue.as_array().map(Vec::len), Some(1), "{queue}");
    }
}

/// A member that hears of the stop may still leave in order: it logs off, and with that the broker is done.
///
/// design §3.21
#[test]
fn who_is_told_of_the_stop_may_log_off() {
    let home = Home::new();
    let mut broker = home.serve();
    let mut shell = home.shell();
    shell.ok("logon");
    shell.ok(&format!("draft session=1 file={}", home.message("draft").display()));
    broker.signal(Signal::TERM);
    shell.event("the announcement", says(STOPPING));
    assert_eq!(shell.ok("logoff session=1")["discarded"], 1);
    assert!(broker.wait().success());
    assert!(shell.events(says(RECONNECTED)).is_empty());
}

/// SIGHUP reads the settings again; settings that are wrong change nothing and are said in the log.
///
/// design §7
#[test]
fn sighup_reads_the_settings_again() {
    let home = Home::with_settings("[shutdown]\nshared_logoff = \"deny\"\n");
    let broker = home.serve();
    let mut shell = home.shell();
    shell.ok("logon");
    shell.fails("logoff session=1 shared", "MAPI_E_NO_ACCESS");

    home.settings("[shutdown]\nshared_logoff = \"everybody\"\n");
    broker.signal(Signal::HUP);
    let line = broker.log_line("the refusal", |l| l["level"] == "error");
    assert!(line["error"].as_str().is_some_and(|e| e.contains("shutdown.shared_logoff")), "{line}");
    shell.fails("logoff session=1 shared", "MAPI_E_NO_ACCESS");

    home.settings("[shutdown]\nshared_logoff = \"any\"\n");
    broker.signal(Signal::HUP);
    let again = |l: &Value| l["message"].as_str().is_some_and(|m| m.contains("were read again"));
    broker.log_line("the reload", again);
    shell.ok("logoff session=1 shared");

    // What cannot be changed without a restart says so.
    home.settings("[metrics]\nlisten = \"127.0.0.1:0\"\n");
    broker.signal(Signal::HUP);
    let warned = |l: &Value| l["message"] == "[metrics] changes when the broker starts again";
    let line = broker.log_line("the warning", warned);
    assert_eq!(line["level"], "warn");
}

/// SIGINT, from a terminal, is as good as SIGTERM.
///
/// design §8
#[test]
fn sigint_is_an_orderly_stop_too() {
    let home = Home::new();
    let mut broker = home.serve();
    broker.signal(Signal::INT);
    assert!(broker.wait().success());
    assert!(!home.socket().exists());
}
