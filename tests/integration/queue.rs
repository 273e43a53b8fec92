//! The outgoing queue, as people look at it.

use serde_json::{Value, json};

use crate::harness::{Home, Maildir, keys};

const STUCK: &str = "[[transport]]\npath = \"blocked\"\n[queue]\nretry_min = \"1h\"\n";

fn queue(home: &Home, arguments: &[&str]) -> Value {
    home.run(&[&["queue", "--json"], arguments].concat()).ok().json()
}

/// `queue list` has the documented keys, oldest first; `--all` shows also what is final; `show` has every recipient.
///
/// QUEUE-3, QUEUE-4, design §8
#[test]
fn the_queue_is_listed_oldest_first() {
    let home = Home::new();
    let broker = home.serve();
    let mut shell = home.shell();
    shell.ok("logon no-mail");
    let text = "From: me@localhost\nTo: anna@localhost\nCc: bo\nSubject: two of them\n\nbody\n";
    let first = shell.submit(1, &home.write("first.eml", text));
    let second = shell.submit(1, &home.message("second"));
    let listed = queue(&home, &[]);
    assert_eq!(listed, queue(&home, &["list"]));
    let rows = listed.as_array().expect("rows");
    assert_eq!(rows.len(), 2, "{listed}");
    assert_eq!(
        keys(&rows[0]),
        "attempts entry from last_error next_attempt profile state subject submitted to"
    );
    assert_eq!((&rows[0]["entry"], &rows[1]["entry"]), (&json!(first), &json!(second)));
    assert_eq!((&rows[0]["profile"], &rows[0]["state"]), (&json!("default"), &json!("queued")));
    assert_eq!(
        (&rows[0]["from"], &rows[0]["subject"]),
        (&json!("me@localhost"), &json!("two of them"))
    );
    assert_eq!(
        (&rows[0]["to"], &rows[0]["attempts"]),
        (&json!(["anna@localhost", "bo"]), &json!(0))
    );
    assert_eq!(rows[0]["last_error"], Value::Null);

    let shown = queue(&home, &["show", &first]);
    assert_eq!(
        keys(&shown),
        "attempts entry from last_error message_id next_attempt profile recipients size state subject submitted to"
    );
    assert_eq!(shown["recipients"].as_array().map(Vec::len), Some(2));
    let read = shell.ok(&format!("read session=1 entry={first}"))["content"].clone();
    let id = shown["message_id"].as_str().expect("the library added one");
    assert!(read.as_str().expect("text").contains(&format!("Message-ID: {id}\n")), "{read}");
    assert_eq!(keys(&shown["recipients"][0]), "address reply state");
    let people = home.run(&["queue", "show", &first]).ok().output;
    assert!(
        people.contains(id) && people.contains("anna@localhost") && people.contains("two of them"),
        "{people}"
    );

    shell.ok(&format!("abort-submit session=1 entry={second}"));
    let mut sender = home.shell();
    sender.ok("logon");
    broker.until("the message", || home.maildir("default").count() == 1);
    shell.ok("logoff session=1 drain=60");
    assert_eq!(queue(&home, &[]), json!([]));
    let all = queue(&home, &["list", "--all"]);
    let states: Vec<_> = all.as_array().expect("rows").iter().map(|r| r["state"].clone()).collect();
    assert_eq!(states, ["sent", "aborted"]);
    assert_eq!(queue(&home, &["show", &first])["state"], "sent");
}

/// What a transport cannot take now is deferred, says why and when it is tried again, and keeps nothing else from being
/// sent.
///
/// QUEUE-11, design §3.18
#[test]
fn what_cannot_be_sent_now_says_why() {
    let home = Home::new();
    home.profile(
        "default",
        &format!("{STUCK}[[transport]]\nname = \"works\"\npath = \"works\"\naccept = [\"*\"]\n"),
    );
    home.write(".local/share/sundown/default/blocked", "");
    let broker = home.serve();
    let mut shell = home.shell();
    shell.ok("logon");
    let stuck = shell.submit(1, &home.message("stuck"));
    let works = home.write("works.eml", "To: far@example.org\nSubject: works\n\n");
    let sent = shell.submit(1, &works);
    let maildir = Maildir(home.data().join("default/works"));
    broker.until("the other message", || maildir.count() == 1);
    let deferred = || {
        let row = queue(&home, &["show", &stuck]);
        row["state"] == "deferred"
    };
    broker.until("the deferral", deferred);
    let row = queue(&home, &["show", &stuck]);
    assert_eq!(row["attempts"], 1);
    assert!(row["last_error"].as_str().is_some_and(|e| e.contains("blocked")), "{row}");
    assert!(row["next_attempt"].as_u64() > row["submitted"].as_u64(), "{row}");
    shell.ok(&format!("abort-submit session=1 entry={stuck}"));
    shell.ok("logoff session=1 drain=60");
    assert_eq!(queue(&home, &["show", &sent])["state"], "sent");
    assert_eq!(home.status()["queue"]["deferred"], 0);
}

/// The queue of every profile that is in use is listed, and of one alone if that is asked for; a profile without a session
/// is looked into all the same.
///
/// design §8
#[test]
fn a_queue_belongs_to_a_profile() {
    let home = Home::with_settings("[shutdown]\nlinger = \"off\"\n");
    home.profile("work", "");
    let mut broker = home.serve();
    let mut shell = home.shell();
    shell.ok("logon no-mail");
    shell.ok("logon no-mail profile=work");
    let private = shell.submit(1, &home.message("at-home"));
    let work = shell.submit(2, &home.message("at-work"));
    let entries = |rows: Value| -> Vec<Value> {
        rows.as_array().expect("rows").iter().map(|r| r["entry"].clone()).collect()
    };
    let mut all = entries(queue(&home, &[]));
    all.sort_by_key(ToString::to_string);
    let mut both = vec![json!(private), json!(work)];
    both.sort_by_key(ToString::to_string);
    assert_eq!(all, both);
    assert_eq!(entries(queue(&home, &["--profile", "work"])), [json!(work)]);
    assert_eq!(entries(queue(&home, &["--profile", "default"])), [json!(private)]);
    shell.kill();
    broker.terminate();
    let _broker = home.serve();
    assert_eq!(entries(queue(&home, &["--profile", "work"])), [json!(work)]);
    assert_eq!(home.status()["sessions"], json!([]), "looking is no logon");
}

/// A message that is too old when it fails again becomes a notice to its sender, and stays listed until that was read.
///
/// design §3.18, §8
#[test]
fn what_is_given_up_is_told_to_its_sender() {
    let home = Home::new();
    home.profile(
        "default",
        "[[transport]]\npath = \"blocked\"\n[queue]\nmax_age = \"1ms\"\nretry_min = \"10ms\"\n",
    );
    home.write(".local/share/sundown/default/blocked", "");
    let broker = home.serve();
    let mut shell = home.shell();
    shell.ok("logon");
    shell.ok("advise session=1 events=new-mail");
    let entry = shell.submit(1, &home.message("hopeless"));
    let mail = shell.event("the notice", |v| v["event"] == "new-mail");
    assert_eq!(queue(&home, &[])[0]["state"], "bounced", "its sender was not told yet");
    let notice =
        shell.ok(&format!("read session=1 entry={}", mail["entry"].as_str().expect("text")));
    let content = notice["content"].as_str().expect("text");
    assert!(
        content.contains("multipart/report") && content.contains("anna@localhost"),
        "{content}"
    );
    let inbox = shell.ok("open session=1 what=inbox")["object"].clone();
    assert_eq!(shell.ok(&format!("list object={inbox}"))["rows"][0]["entry"], mail["entry"]);
    let all = queue(&home, &["list", "--all"]);
    assert_eq!((&all[0]["entry"], &all[0]["state"]), (&json!(entry), &json!("bounced")));
    assert_eq!(home.status()["queue"]["bounced"], 1);
    broker.until("it to be listed no more", || queue(&home, &[]) == json!([]));
    drop(broker);
}

/// What nobody may send is given up at its age limit, too: beside a member without mail, and by a broker that comes later and
/// that nobody logs on to.
///
/// A-39, SEED-2, design §3.5, §10 (8)
#[test]
fn what_nobody_may_send_is_given_up() {
    let home = Home::with_settings("[shutdown]\nlinger = \"off\"\n");
    home.profile("default", "[queue]\nmax_age = \"1ms\"\n");
    let mut broker = home.serve();
    let mut shell = home.shell();
    shell.ok("logon no-mail");
    shell.ok("advise session=1 events=new-mail");
    let entry = shell.submit(1, &home.message("beside"));
    let mail = shell.event("the notice", |v| v["event"] == "new-mail");
    let given_up = queue(&home, &["show", &entry]);
    assert_eq!((&given_up["state"], &given_up["attempts"]), (&json!("bounced"), &json!(0)));
    let notice =
        shell.ok(&format!("read session=1 entry={}", mail["entry"].as_str().expect("text")));
    let content = notice["content"].as_str().expect("text");
    assert!(content.contains("Status: 4.4.7\r\n"), "{content}");
    shell.ok("logoff session=1");

    home.profile("default", "[queue]\nmax_age = \"5d\"\n");
    shell.ok("logon no-mail");
    let entry = shell.submit(2, &home.message("behind"));
    broker.kill();
    shell.kill();
    home.profile("default", "[queue]\nmax_age = \"1ms\"\n");
    let broker = home.serve();
    broker.log_line("that it is given up", |l| {
        l["call"] == "UpdateSubmission" && l["entry"] == *entry && l["result"] == "S_OK"
    });
    assert_eq!(queue(&home, &["show", &entry])["state"], "bounced");
    assert_eq!(home.maildir("default").count(), 0);
}

/// What waits for its time, or whose transport was put out, is tried at once when somebody says so.
///
/// FLUSH-1, LOGON-11, design §3.18
#[test]
fn what_waits_can_be_tried_at_once() {
    let home = Home::new();
    home.profile("default", STUCK);
    let blocked = home.write(".local/share/sundown/default/blocked", "");
    let broker = home.serve();
    let mut shell = home.shell();
    shell.ok("logon");
    let entries = ["one", "two"].map(|subject| shell.submit(1, &home.message(subject)));
    for entry in &entries {
        broker.until("the deferral", || queue(&home, &["show", entry])["state"] == "deferred");
    }
    std::fs::remove_file(blocked).expect("it is in the way");
    let flushed = home.run(&["queue", "flush", "--json"]).ok().json();
    assert_eq!(flushed, json!({ "hastened": 2 }));
    let maildir = Maildir(home.data().join("default/blocked"));
    broker.until("both messages", || maildir.count() == 2);
    shell.ok("logoff session=1 drain=60");
    let text = home.run(&["queue", "flush"]).ok().output;
    assert!(text.contains("nothing waited"), "{text}");
}

/// One is held, let go, tried and taken back by hand; what makes no sense is refused with the reason.
///
/// QUEUE-6, QUEUE-9, design §2, §8
#[test]
fn entries_are_changed_by_hand() {
    let home = Home::new();
    home.profile("default", STUCK);
    home.write(".local/share/sundown/default/blocked", "");
    let broker = home.serve();
    let mut shell = home.shell();
    shell.ok("logon");
    let entry = shell.submit(1, &home.message("slow"));
    let state = |entry: &str| queue(&home, &["show", entry])["state"].clone();
    broker.until("the deferral", || state(&entry) == "deferred");
    assert_eq!(queue(&home, &["hold", &entry])["state"], "held");
    assert_eq!(home.status()["queue"]["held"], 1);
    let text = home.run(&["queue", "hold", &entry]).ok().output;
    assert_eq!(text.trim(), format!("{entry} held"));
    assert_eq!(queue(&home, &["release", &entry])["state"], "queued");
    broker.until("the next try", || state(&entry) == "deferred");
    let refused = home.run(&["queue", "release", &entry, "--json"]).exits(1).json();
    assert_eq!(refused["error"]["code"], "MAPI_E_INVALID_PARAMETER");
    assert!(refused["error"]["message"].as_str().expect("text").contains("deferred"), "{refused}");
    let tries = queue(&home, &["show", &entry])["attempts"].as_u64();
    assert_eq!(queue(&home, &["retry", &entry])["state"], "queued");
    broker.until("another try", || queue(&home, &["show", &entry])["attempts"].as_u64() > tries);
    broker.until("the deferral", || state(&entry) == "deferred");
    assert_eq!(queue(&home, &["abort", &entry])["state"], "aborted");
    for change in ["retry", "hold", "release", "abort"] {
        let gone = home.run(&["queue", change, &entry, "--json"]).exits(1).json();
        assert_eq!(gone["error"]["code"], "MAPI_E_NOT_IN_QUEUE", "{change}");
        let other = home.run(&["queue", change, "nonsense", "--json"]).exits(1).json();
        assert_eq!(other["error"]["code"], "MAPI_E_INVALID_PARAMETER", "{change}");
    }
}

/// One message finds out that no server is there. The next one waits without being tried; `status` says why, and `doctor` warns.
///
/// QUEUE-11, design §3.18
#[test]
fn mail_for_a_server_that_is_not_there_waits() {
    let home = Home::new();
    let port = {
        let nothing = std::net::TcpListener::bind((std::net::Ipv4Addr::LOCALHOST, 0));
        nothing.and_then(|n| n.local_addr()).expect("a port").port()
    };
    let profile = format!(
        "[[transport]]\nkind = \"smtp\"\nhost = \"127.0.0.1\"\nport = {port}\nsecurity = \"none\"\n\
         accept = [\"*\"]\n[queue]\nretry_min = \"1h\"\n"
    );
    home.profile("default", &profile);
    let broker = home.serve();
    let mut shell = home.shell();
    shell.ok("logon");
    let tried = shell.submit(1, &home.message("tried"));
    let state = |entry: &str| queue(&home, &["show", entry])["state"].clone();
    broker.until("the deferral", || state(&tried) == "deferred");
    let waits = shell.submit(1, &home.message("waits"));
    let status = home.status();
    let providers = status["sessions"][0]["providers"].as_array().expect("rows");
    assert!(providers.iter().any(|p| p["status"] == "unreachable"), "{providers:?}");
    assert_eq!(queue(&home, &["show", &waits])["attempts"], 0);
    assert_eq!(state(&waits), "queued");
    let found = home.run(&["doctor", "--json"]).output;
    assert!(found.contains("transport smtp of profile default is unreachable"), "{found}");
}

/// `keep_sent = "off"`: what was sent is not kept, and what became of it is still known.
#[test]
fn what_was_sent_is_not_kept_where_the_profile_says_so() {
    let home = Home::new();
    home.profile("default", "[[store]]\nkeep_sent = \"off\"\n");
    let broker = home.serve();
    let mut shell = home.shell();
    shell.ok("logon");
    let entry = shell.submit(1, &home.message("short"));
    let state = || queue(&home, &["show", &entry])["state"].clone();
    broker.until("the delivery", || state() == "sent");
    let sent = shell.ok("open session=1 what=sent")["object"].clone();
    let rows = std::cell::RefCell::new(shell);
    let list = || rows.borrow_mut().ok(&format!("list object={sent}"))["rows"].clone();
    broker.until("an empty folder", || list() == json!([]));
    assert_eq!(state(), "sent");
    assert_eq!(home.maildir("default").count(), 1);
}

/// Entries are named by the digits that lists show, several at once, or by what they are.
#[test]
fn entries_have_short_names() {
    let home = Home::new();
    let _broker = home.serve();
    let mut shell = home.shell();
    shell.ok("logon no-mail");
    let mut submit = |name: &str, to: &str| {
        let text = format!("From: me@localhost\nTo: {to}\nSubject: {name}\n\nx\n");
        shell.submit(1, &home.write(name, text))
    };
    let [one, two, three] =
        [("one", "a@localhost"), ("two", "b@localhost"), ("three", "b@localhost")]
            .map(|(name, to)| submit(name, to));
    let run = |arguments: &[&str]| home.run(&[&["queue", "--json"], arguments].concat());
    let listed = home.run(&["queue"]).ok().output;
    let short = |entry: &str| {
        let mut names = listed.lines().filter_map(|line| line.split_whitespace().next());
        let name = names.find(|name| name.len() >= 8 && entry[8..].starts_with(name));
        name.unwrap_or_else(|| panic!("{entry} in {listed}")).to_owned()
    };
    assert!(!listed.contains(&one), "{listed}");
    let shown = run(&["show", &short(&one)]).ok().json();
    assert_eq!(shown["entry"], json!(one));
    // One entry is answered by an object, as ever; several by a list.
    let held = run(&["hold", &two[8..30]]).ok().json();
    assert_eq!((&held["entry"], &held["state"]), (&json!(two), &json!("held")));
    let both = run(&["hold", &one, &short(&three).to_uppercase()]).ok().json();
    assert_eq!(both.as_array().map(Vec::len), Some(2), "{both}");
    // These three were made within milliseconds.
    let several = run(&["hold", &one[8..12]]).exits(1).json();
    let said = several["error"]["message"].as_str().expect("words").to_owned();
    assert!(said.contains("3 entries") && said.contains(&two[8..]), "{said}");
    let released = run(&["release", "--all", "--to", "b@*", "--state", "held"]).ok().json();
    let of = |rows: &Value| -> Vec<Value> {
        rows.as_array().expect("a list").iter().map(|row| row["entry"].clone()).collect()
    };
    assert_eq!(of(&released), [json!(two), json!(three)]);
    // What cannot be changed holds up nothing else, and makes the status 1.
    let mixed = run(&["release", &one, &short(&two)]).exits(1).json();
    assert_eq!(mixed[0]["state"], "queued", "{mixed}");
    assert_eq!(mixed[1]["error"]["code"], "MAPI_E_INVALID_PARAMETER", "{mixed}");
    assert_eq!(run(&["abort", "--all", "--to", "nobody@*"]).ok().json(), json!([]));
    let unknown = run(&["show", "ffffffff"]).exits(1).json();
    let said = unknown["error"]["message"].as_str().expect("words").to_owned();
    assert!(said.contains("queue list --all"), "{said}");
    assert_eq!(of(&run(&["abort", "--all"]).ok().json()).len(), 3);
}
