//! Members leave, in order or not, and others are told.

use serde_json::{Value, json};

use crate::harness::{Home, says};

const LEFT: &[(&str, &str)] = &[("event", "extended"), ("kind", "member-left")];

/// An ordinary logoff is told, as an extended event, to those members of its session who asked for it, and to nobody
/// else; it is no critical error for anybody.
///
/// NOTIF-1, NOTIF-32, A-8 (a), A-10, design §3.3
#[test]
fn a_logoff_is_told_to_those_who_asked() {
    let home = Home::new();
    let _broker = home.serve();
    let (mut asked, mut silent, mut alone) = (home.shell(), home.shell(), home.shell());
    asked.ok("logon");
    asked.ok("advise session=1 events=extended");
    // However many registrations there are, it is one line.
    asked.ok("advise session=1 events=extended,new-mail");
    silent.ok("logon");
    alone.ok("logon private");
    alone.ok("advise session=1 events=extended");
    let mut leaver = home.shell();
    let member = leaver.ok("logon")["member"].clone();
    leaver.ok("advise session=1 events=extended");
    leaver.ok("logoff session=1");

    let event = asked.event("the departure", says(LEFT));
    let wanted = json!({
        "event": "extended",
        "session": 1,
        "kind": "member-left",
        "reason": "logged-off",
        "member": member,
    });
    assert_eq!(event, wanted);
    for shell in [&mut asked, &mut silent, &mut alone, &mut leaver] {
        shell.settle();
    }
    assert_eq!(asked.events(|_| true).len(), 1);
    for shell in [&silent, &alone, &leaver] {
        assert_eq!(shell.events(|_| true), Vec::<Value>::new());
    }
}

/// Every way to leave has its reason: a killed process, the end of its input, a shared logoff, an eviction.
///
/// A-25, design §3.3, §8
#[test]
fn a_departure_has_its_reason() {
    each_departure_has_its_reason("");
}

/// The same, and its times, with a broker that looks for a while before it sleeps.
///
/// A-25, design §3.3, §8
#[test]
fn a_broker_that_polls_busily_tells_the_same() {
    each_departure_has_its_reason("[socket]\nbusy_poll = \"200us\"\n");
}

fn each_departure_has_its_reason(more: &str) {
    let home = Home::with_settings(&format!("[shutdown]\nshared_logoff_grace = \"300ms\"\n{more}"));
    let _broker = home.serve();
    let mut owner = home.shell();
    owner.ok("logon");
    let mut asked = home.shell();
    asked.ok("logon");
    asked.ok("advise session=1 events=extended");
    let told = |member: &Value, reason: &str| {
        let fits = |v: &Value| says(LEFT)(v) && v["member"] == *member;
        let event = asked.event("the departure", fits);
        assert_eq!(event["reason"], reason, "{event}");
        assert_eq!(asked.events(fits).len(), 1, "{event}");
    };

    let mut killed = home.shell();
    let member = killed.ok("logon")["member"].clone();
    killed.kill();
    told(&member, "disconnected");

    let mut ended = home.shell();
    let member = ended.ok("logon")["member"].clone();
    assert!(ended.end().success());
    told(&member, "disconnected");

    let mut uninitialized = home.shell();
    let member = uninitialized.ok("logon")["member"].clone();
    uninitialized.ok("uninitialize");
    told(&member, "logged-off");

    // Who is put out is not told that others are.
    let mut stays = home.shell();
    let member = stays.ok("logon")["member"].clone();
    let mut last = home.shell();
    last.ok("logon");
    last.ok("advise session=1 events=extended");
    let owners = home.status()["sessions"][0]["members"][0]["id"].clone();
    owner.ok("logoff session=1 shared");
    told(&owners, "logged-off");
    last.event("being put out", says(&[("kind", "evicted")]));
    stays.event("being put out", says(&[("kind", "evicted")]));
    assert_eq!(last.events(|v| says(LEFT)(v) && v["member"] == member), Vec::<Value>::new());
}

/// A broker that stops says so to each member, and to none of them that the others are put out.
///
/// design §3.21, §8
#[test]
fn a_broker_that_stops_puts_members_out_in_order() {
    let home = Home::new();
    let _broker = home.serve();
    let (mut first, mut second) = (home.shell(), home.shell());
    let member = first.ok("logon")["member"].clone();
    second.ok("logon");
    second.ok("advise session=1 events=extended");
    home.run(&["stop", "--fast"]).ok();
    for shell in [&first, &second] {
        let event = shell.event("the end", says(&[("event", "critical-error")]));
        assert_eq!(event["reason"], "broker-stopped");
    }
    assert_eq!(second.events(|v| says(LEFT)(v) && v["member"] == member), Vec::<Value>::new());
}

/// A process that crashes leaves as by a logoff: its place, its objects and its registrations are gone, what it submitted
/// goes out, and its unsaved drafts are recovered in Drafts.
///
/// A-25, SEED-2, design §3.9
#[test]
fn a_crash_loses_nothing() {
    let home = Home::new();
    let broker = home.serve();
    let mut other = home.shell();
    other.ok("logon");
    other.ok("advise session=1 events=extended");
    let drafts = other.ok("open session=1 what=drafts")["object"].clone();
    let message = home.message("unfinished");
    let mut crasher = home.shell();
    let member = crasher.ok("logon")["member"].clone();
    crasher.ok("open session=1 what=inbox");
    crasher.ok(&format!("draft session=1 file={}", message.display()));
    crasher.submit(1, &home.message("finished"));

    crasher.kill();

    other.event("the departure", |v| says(LEFT)(v) && v["member"] == member);
    assert_eq!(home.status()["sessions"][0]["members"].as_array().map(Vec::len), Some(1));
    broker.until("the message", || home.maildir("default").count() == 1);
    broker.log_line("the draft is kept", |l| l["call"] == "SaveChanges");
    let rows = other.ok(&format!("list object={drafts}"))["rows"].clone();
    assert_eq!(rows.as_array().map(Vec::len), Some(1), "{rows}");
    assert_eq!(rows[0]["subject"], "unfinished");
    assert_eq!(rows[0]["recovered"], true);
    let entry = rows[0]["entry"].as_str().expect("an entry");
    let read = other.ok(&format!("read session=1 entry={entry}"));
    assert!(read["content"].as_str().is_some_and(|c| c.contains("This is unfinished.")), "{read}");
}

/// An explicit logoff throws unsaved drafts away and says how many; saved ones stay.
///
/// design §3.9
#[test]
fn an_explicit_logoff_discards_unsaved_drafts() {
    let home = Home::new();
    let _broker = home.serve();
    let mut shell = home.shell();
    shell.ok("logon");
    let message = home.message("thrown-away");
    let saved = shell.ok(&format!("draft session=1 file={}", home.message("kept").display()));
    let entry = shell.ok(&format!("save object={}", saved["object"]))["entry"].clone();
    for _ in 0..2 {
        shell.ok(&format!("draft session=1 file={}", message.display()));
    }
    let reply = shell.ok("logoff session=1");
    assert_eq!((&reply["discarded"], &reply["invalidated"]), (&json!(2), &json!(3)));
    let session = shell.ok("logon")["session"].clone();
    let drafts = shell.ok(&format!("open session={session} what=drafts"))["object"].clone();
    let rows = shell.ok(&format!("list object={drafts}"))["rows"].clone();
    assert_eq!(rows.as_array().map(Vec::len), Some(1), "{rows}");
    assert_eq!((&rows[0]["entry"], &rows[0]["recovered"]), (&entry, &json!(false)));
}

/// Being put out, and a broker that stops, recover unsaved drafts as a crash does.
///
/// design §3.9
#[test]
fn whoever_is_put_out_keeps_its_drafts() {
    let home = Home::with_settings("[shutdown]\nshared_logoff_grace = \"300ms\"\n");
    let mut broker = home.serve();
    let (mut owner, mut evicted) = (home.shell(), home.shell());
    owner.ok("logon");
    evicted.ok("logon");
    evicted.ok(&format!("draft session=1 file={}", home.message("put-out").display()));
    owner.ok("logoff session=1 shared");
    evicted.event("being put out", says(&[("kind", "evicted")]));

    let mut stopped = home.shell();
    stopped.ok("logon");
    stopped.ok(&format!("draft session=1 file={}", home.message("stopped").display()));
    broker.terminate();
    let _broker = home.serve();
    let mut reader = home.shell();
    reader.ok("logon");
    let drafts = reader.ok("open session=1 what=drafts")["object"].clone();
    let rows = reader.ok(&format!("list object={drafts}"))["rows"].clone();
    let mut subjects: Vec<_> =
        rows.as_array().expect("rows").iter().map(|r| r["subject"].clone()).collect();
    subjects.sort_by_key(ToString::to_string);
    assert_eq!(subjects, ["put-out", "stopped"]);
}
