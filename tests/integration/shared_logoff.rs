//! One ends the shared session for everybody.

use serde_json::{Value, json};

use crate::harness::{Home, Shell, keys, run, says};

const CRITICAL: &[(&str, &str)] = &[("event", "critical-error")];
const EVICTED: &[(&str, &str)] = &[("event", "extended"), ("kind", "evicted")];

/// A process that has joined the shared session.
fn member(home: &Home) -> Shell {
    let mut shell = home.shell();
    assert_eq!(shell.ok("logon")["shared"], true);
    shell
}

/// Five processes share a session, a sixth has one of its own. The owner's shared logoff tells the other four, each once
/// and with who did it and how long they may stay; neither the caller nor the sixth. They go on working. Who logs on
/// meanwhile gets a fresh session.
///
/// SEED-4, LOGOFF-5, LOGOFF-6, NOTIF-2, NOTIF-31, A-8, A-9, A-34, design §3.2
#[test]
fn everybody_else_is_told_once_and_nobody_else() {
    let home = Home::new();
    let broker = home.serve();
    let mut owner = member(&home);
    let mut others: Vec<_> = (0..4).map(|_| member(&home)).collect();
    let mut alone = home.shell();
    assert_eq!(alone.ok("logon private")["shared"], false);
    // However they have registered, and also if they have not.
    others[1].ok("advise session=1 events=extended");
    others[2].ok("advise session=1 events=new-mail");
    others[2].ok("advise session=1");
    let connection = others[3].ok("advise session=1 events=critical-error")["connection"].clone();
    others[3].ok(&format!("unadvise connection={connection}"));

    let reply = owner.ok("logoff session=1 shared");
    assert_eq!(keys(&reply), "discarded invalidated ok queued reply");

    for other in &others {
        let event = other.event("the end of the session", says(CRITICAL));
        assert_eq!(
            event,
            json!({
                "event": "critical-error",
                "session": 1,
                "code": "MAPI_E_END_OF_SESSION",
                "hresult": "0x80040200",
                "reason": "shared-logoff",
                "by": { "pid": owner.pid(), "program": "sundown" },
                "grace_seconds": 30,
            })
        );
    }

    let status = home.status();
    let ending = &status["sessions"][0];
    assert_eq!((&ending["state"], &ending["shared"]), (&json!("ending"), &json!(true)));
    let pids: Vec<_> =
        ending["members"].as_array().expect("members").iter().map(|m| &m["pid"]).collect();
    assert_eq!(json!(pids), json!(others.iter().map(Shell::pid).collect::<Vec<_>>()));

    let message = home.message("during-the-grace");
    for other in &mut others {
        other.ok("open session=1 what=inbox");
        other.submit(1, &message);
    }
    broker.until("four messages", || home.maildir("default").count() == 4);

    let mut fresh = member(&home);
    let status = home.status();
    let sessions = status["sessions"].as_array().expect("sessions");
    let joined =
        sessions.iter().find(|s| s["members"][0]["pid"] == fresh.pid()).expect("it is there");
    assert_eq!((&joined["state"], &joined["shared"]), (&json!("active"), &json!(true)));
    assert_ne!(joined["id"], ending["id"]);
    assert_eq!(joined["members"].as_array().map(Vec::len), Some(1));

    for other in &mut others {
        other.ok("logoff session=1");
        other.settle();
        assert_eq!(other.events(says(CRITICAL)).len(), 1);
    }
    for shell in [&mut owner, &mut alone, &mut fresh] {
        shell.settle();
        assert_eq!(shell.events(says(CRITICAL)), Vec::<Value>::new());
    }
    let ended = home.status();
    let listed = |s: &Value| s["id"] == ending["id"];
    assert!(!ended["sessions"].as_array().expect("sessions").iter().any(listed), "{ended}");
}

/// Who stays past the grace is put out: told so, without a second critical error, and its calls fail with the code of an
/// ended session, those on objects too.
///
/// A-8 (g), design §3.2, §3.12
#[test]
fn who_stays_past_the_grace_is_put_out() {
    let home = Home::with_settings("[shutdown]\nshared_logoff_grace = \"300ms\"\n");
    let _broker = home.serve();
    let mut owner = member(&home);
    let mut others: Vec<_> = (0..4).map(|_| member(&home)).collect();
    let object = others[0].ok("open session=1 what=inbox")["object"].clone();
    others[0].ok("advise session=1 events=extended");

    owner.ok("logoff session=1 shared");

    for other in &mut others {
        other.event("the end of the session", says(CRITICAL));
        other.event("being put out", says(EVICTED));
        other.fails("open session=1 what=inbox", "MAPI_E_END_OF_SESSION");
        other.fails("logoff session=1", "MAPI_E_END_OF_SESSION");
    }
    others[0].fails(&format!("list object={object}"), "MAPI_E_END_OF_SESSION");
    for other in &mut others {
        // It may log on again, and nothing is told twice.
        assert_eq!(other.ok("logon")["shared"], true);
        other.settle();
        assert_eq!(other.events(says(CRITICAL)).len(), 1);
        assert_eq!(other.events(says(EVICTED)).len(), 1);
    }
    assert_eq!(home.status()["sessions"].as_array().map(Vec::len), Some(1));
}

/// Only the owner may: whoever made the session, and once that one has left the oldest member. The refusal says who, and
/// the caller stays attached.
///
/// SEED-4, A-7, design §3.2
#[test]
fn one_that_is_not_the_owner_is_refused_and_told_who_is() {
    let home = Home::new();
    let _broker = home.serve();
    let (mut first, mut second, mut third) = (member(&home), member(&home), member(&home));

    let error = third.fails("logoff session=1 shared", "MAPI_E_NO_ACCESS");
    assert_eq!(error["owner"], json!({ "pid": first.pid(), "program": "sundown" }));
    third.ok("open session=1 what=inbox");

    first.ok("logoff session=1");
    let error = third.fails("logoff session=1 shared", "MAPI_E_NO_ACCESS");
    assert_eq!(error["owner"]["pid"], second.pid());

    second.ok("logoff session=1 shared");
    third.event("the end of the session", says(CRITICAL));
    first.settle();
    assert_eq!(first.events(says(CRITICAL)), Vec::<Value>::new());
}

/// `shared_logoff = "any"`: every member may.
///
/// LOGOFF-7, A-7
#[test]
fn any_member_may_where_settings_say_so() {
    let home = Home::with_settings("[shutdown]\nshared_logoff = \"any\"\n");
    let _broker = home.serve();
    let (owner, mut other) = (member(&home), member(&home));
    other.ok("logoff session=1 shared");
    let event = owner.event("the end of the session", says(CRITICAL));
    assert_eq!(event["by"]["pid"], other.pid());
}

/// `shared_logoff = "deny"`: nobody may, the owner neither; an administrator may by force.
///
/// A-7, design §3.2
#[test]
fn nobody_may_where_settings_deny_it_but_by_force() {
    let home = Home::with_settings("[shutdown]\nshared_logoff = \"deny\"\n");
    let _broker = home.serve();
    let mut owner = member(&home);
    owner.fails("logoff session=1 shared", "MAPI_E_NO_ACCESS");
    owner.ok("open session=1 what=inbox");
    let refused = home.run(&["logoff", "--shared", "--json"]).exits(1).json();
    assert_eq!(refused["error"]["code"], "MAPI_E_NO_ACCESS");
    home.run(&["logoff", "--shared", "--force"]).ok();
    owner.event("the end of the session", says(CRITICAL));
}

/// The command joins last and owns nothing: it is refused and says whose session it is; with `--force` it ends other
/// people's session, and with `--wait` it returns when they have left or were put out, and says who was.
///
/// design §3.2, §8
#[test]
fn the_command_ends_other_peoples_session_by_force_and_waits_for_them() {
    let home = Home::with_settings("[shutdown]\nshared_logoff_grace = \"300ms\"\n");
    let _broker = home.serve();
    let (mut leaves, stays) = (member(&home), member(&home));

    let refused = home.run(&["logoff", "--shared", "--json"]).exits(1).json();
    let error = &refused["error"];
    assert_eq!(error["code"], "MAPI_E_NO_ACCESS");
    assert_eq!(error["hresult"], "0x80070005");
    assert_eq!(error["owner"]["pid"], leaves.pid());
    assert!(error["message"].as_str().is_some_and(|m| m.contains("--force")), "{error}");
    leaves.settle();
    assert_eq!(leaves.events(says(CRITICAL)), Vec::<Value>::new());

    let command = home.command(&["logoff", "--shared", "--force", "--wait", "--json"]);
    std::thread::scope(|scope| {
        let waiter = scope.spawn(|| run(command, ""));
        leaves.event("the end of the session", says(CRITICAL));
        leaves.ok("logoff session=1");
        let left = waiter.join().expect("it ran").ok().json();
        assert_eq!(left["stayed"], json!([{ "pid": stays.pid(), "program": "sundown" }]));
    });
    stays.event("being put out", says(EVICTED));
}

/// A session of one's own is ended by an ordinary logoff, whatever the flag says.
///
/// LOGOFF-4
#[test]
fn the_flag_means_nothing_on_a_private_session() {
    let home = Home::with_settings("[shutdown]\nshared_logoff = \"deny\"\n");
    let _broker = home.serve();
    let mut shared = member(&home);
    let mut alone = home.shell();
    alone.ok("logon private");
    alone.ok("logoff session=1 shared");
    shared.ok("open session=1 what=inbox");
    shared.settle();
    assert_eq!(shared.events(says(CRITICAL)), Vec::<Value>::new());
}

/// A second shared logoff of a session that is ending already is an ordinary one, whoever asks: nobody is told again, and
/// the grace is what it was.
///
/// A-8, design §3.2
#[test]
fn a_session_that_is_ending_is_not_ended_again() {
    let home = Home::new();
    let _broker = home.serve();
    let (mut first, mut second, mut third) = (member(&home), member(&home), member(&home));
    first.ok("logoff session=1 shared");
    second.event("the end of the session", says(CRITICAL));
    // It does not own the session, and is not refused.
    third.ok("logoff session=1 shared");
    second.settle();
    assert_eq!(second.events(says(CRITICAL)).len(), 1);
    second.ok("logoff session=1");
}

/// Another member of the caller's own process is told as well, and members of its other sessions are not.
///
/// A-8 (b), design §3.2
#[test]
fn other_members_of_the_same_process_are_told_too() {
    let home = Home::new();
    let _broker = home.serve();
    let mut shell = home.shell();
    let first = shell.ok("logon")["member"].clone();
    let second = shell.ok("logon")["member"].clone();
    assert_ne!(first, second, "each logon is a member of its own");
    shell.ok("logon private");
    shell.ok("logoff session=1 shared");
    let event = shell.event("the end of the session", says(CRITICAL));
    assert_eq!((&event["session"], &event["by"]["pid"]), (&json!(2), &json!(shell.pid())));
    shell.settle();
    assert_eq!(shell.events(says(CRITICAL)).len(), 1);
    shell.ok("logoff session=2");
    shell.ok("logoff session=3");
}

/// `shared_logoff_grace = "none"`: nobody is ever forced, and told so.
///
/// design §3.2
#[test]
fn without_a_grace_nobody_is_forced() {
    let home = Home::with_settings("[shutdown]\nshared_logoff_grace = \"none\"\n");
    let _broker = home.serve();
    let (mut owner, mut other) = (member(&home), member(&home));
    owner.ok("logoff session=1 shared");
    let event = other.event("the end of the session", says(CRITICAL));
    assert_eq!(event["grace_seconds"], Value::Null);
    other.ok("open session=1 what=inbox");
}

/// What was submitted before and after the end of the session goes out all the same.
///
/// SEED-2, A-8 (c), (d)
#[test]
fn mail_of_a_session_that_was_ended_still_goes_out() {
    let home = Home::with_settings("[shutdown]\nshared_logoff_grace = \"none\"\n");
    let broker = home.serve();
    let (mut owner, mut other) = (member(&home), member(&home));
    let message = home.message("last-words");
    owner.submit(1, &message);
    owner.ok("logoff session=1 shared");
    other.event("the end of the session", says(CRITICAL));
    other.submit(1, &message);
    other.ok("logoff session=1");
    broker.until("both messages", || home.maildir("default").count() == 2);
}

/// A restart of the broker within the grace, in order or by SIGKILL, undoes nothing: a member that was told is back in the same ending
/// session in silence, works on, and is put out when the grace is over; whoever logs on meanwhile is in a fresh one.
///
/// SEED-4, design §3.2
#[test]
fn a_restart_within_the_grace_undoes_nothing() {
    const RECONNECTED: &[(&str, &str)] = &[("event", "reconnected")];
    for kills in [false, true] {
        let home = Home::with_settings("[shutdown]\nshared_logoff_grace = \"6s\"\n");
        let mut broker = home.serve();
        let (mut owner, mut other) = (member(&home), member(&home));
        other.ok("advise session=1 events=extended");
        owner.ok("logoff session=1 shared");
        other.event("the end of the session", says(CRITICAL));
        if kills {
            broker.kill();
        } else {
            broker.terminate();
        }
        let _broker = home.serve();
        other.event("being back", says(RECONNECTED));
        other.ok("open session=1 what=inbox");
        let status = home.status();
        assert_eq!(status["sessions"][0]["state"], "ending", "{status}");
        assert_eq!(status["sessions"][0]["members"][0]["pid"], other.pid(), "{status}");
        let mut fresh = member(&home);
        let status = home.status();
        assert_eq!(status["sessions"].as_array().map(Vec::len), Some(2), "{status}");
        other.event("being put out", says(EVICTED));
        other.fails("open session=1 what=inbox", "MAPI_E_END_OF_SESSION");
        assert_eq!(other.events(says(CRITICAL)).len(), 1, "told once");
        assert_eq!(fresh.events(says(CRITICAL)), Vec::<Value>::new());
        fresh.ok("open session=1 what=inbox");
    }
}

/// When the grace is over before a broker is there again, the member is out, and in no fresh session.
///
/// SEED-4, design §3.2
#[test]
fn after_the_grace_nobody_comes_back() {
    let home = Home::with_settings("[shutdown]\nshared_logoff_grace = \"1s\"\n");
    let mut broker = home.serve();
    let (mut owner, mut other) = (member(&home), member(&home));
    owner.ok("logoff session=1 shared");
    other.event("the end of the session", says(CRITICAL));
    broker.kill();
    // The grace is over when it was in another broker's life.
    let ended = home.path("run/sundown/broker.sock.ends");
    let text = std::fs::read_to_string(&ended).expect("the end is written down");
    let mut value: Value = serde_json::from_str(&text).expect("it is JSON");
    value["ends"][0]["until"] = json!(1);
    std::fs::write(&ended, value.to_string()).expect("written");
    let _broker = home.serve();
    other.event("being put out", says(EVICTED));
    other.fails("open session=1 what=inbox", "MAPI_E_END_OF_SESSION");
    // The broker may have a session of its own just then, to look for mail that waits in the store.
    let status = home.status();
    let sessions = status["sessions"].as_array().expect("a list");
    assert!(sessions.iter().all(|session| session["members"] == json!([])), "{status}");
}
