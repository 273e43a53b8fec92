//! Mail that goes to programs: scripts that do all that programs do, and procmail.

use std::io::Read;
use std::path::{Path, PathBuf};

use rustix::fs::{CWD, FileType, mknodat};
use rustix::process::{Pid, Signal, kill_process, kill_process_group};
use serde_json::{Value, json};

use crate::harness::{Broker, Home, Maildir, binary, descriptors_of};
use crate::queue::RETRIES;
use crate::servers::{program, skipped};

/// A profile with a transport that starts a program, given as the profile has it.
fn profile(command: &str, more: &str) -> String {
    format!("[[transport]]\nkind = \"pipe\"\ncommand = {command}\n{more}\n{RETRIES}")
}

/// A script that gets the recipient as its argument, in a home whose mail goes to it. It runs in the home's `work`.
fn with_script(home: &Home, text: &str, more: &str) -> PathBuf {
    let work = home.path("work");
    std::fs::create_dir_all(&work).expect("made");
    let script = home.write("script", format!("#!/bin/sh\ncd {}\n{text}\n", work.display()));
    let mode = std::os::unix::fs::PermissionsExt::from_mode(0o755);
    std::fs::set_permissions(&script, mode).expect("made executable");
    let command = format!("[{:?}, \"{{recipient}}\"]", script.display().to_string());
    home.profile("default", &profile(&command, more));
    work
}

/// A pipe by which a script tells something; reading from it waits for that.
fn telltale(work: &Path) -> PathBuf {
    let told = work.join("told");
    mknodat(CWD, &told, FileType::Fifo, 0o600.into(), 0).expect("a pipe");
    told
}

fn read(path: &Path) -> String {
    std::fs::read_to_string(path).unwrap_or_default()
}

/// The recipients of an entry, with their states.
fn states(row: &Value) -> Vec<(String, String)> {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let recipients = row["recipients"].as_array().expect("recipients").iter();
    recipients.map(|r| (text(&r["address"]), text(&r["state"]))).collect()
}

fn submit(home: &Home, to: &[&str]) -> String {
    let mut words = vec!["send", "--subject", "piped", "--json"];
    words.extend(to.iter().flat_map(|to| ["--to", to]));
    let sent = home.run_with(&words, "From the script\n").ok().json();
    sent["entry"].as_str().expect("an entry").to_owned()
}

/// An address with what a shell would trip over.
const QUOTED: &str = "\"b o'x $(touch run)\"@localhost";

/// Each recipient has a program, and a result of its own; its sender is told what the program said.
///
/// design §3.17, §3.18
#[test]
fn each_recipient_has_the_result_of_its_program() {
    let home = Home::new();
    let script = "mkdir -p \"$1/new\"; cat > \"$1/new/1\"\ncase $1 in\nnobody) echo there is no mailbox for $1 >&2; exit 67 ;;\n\
                  full) test -e room || { echo 4.2.2 the mailbox is full; exit 1; } ;;\nesac";
    let work = with_script(&home, script, "");
    let broker = home.serve();
    let mut shell = home.shell();
    shell.ok("logon");
    let entry = submit(&home, &["anna", "nobody", "full", QUOTED]);
    let row = home.entry_with(&entry, "the results", |row| {
        let states = states(row);
        let reached =
            |name: &str, state: &str| states.iter().any(|(to, s)| to == name && s == state);
        reached("anna", "sent") && reached("nobody", "bounced") && row.to_string().contains("4.2.2")
    });
    let full =
        row["recipients"].as_array().and_then(|all| all.iter().find(|r| r["address"] == "full"));
    let reply = full.map(ToString::to_string).unwrap_or_default();
    assert!(reply.contains("4.2.2 the mailbox is full"), "{row:#}");
    let message = Maildir(work.join("anna")).only();
    assert_eq!(message.field("Delivered-To"), ["anna"]);
    assert_eq!(message.field("Return-Path").len(), 1);
    assert!(
        message.text.ends_with("\n\nFrom the script\n") && !message.text.contains('\r'),
        "{message:?}"
    );
    std::fs::write(work.join("room"), "").expect("written");
    home.entry_with(&entry, "the rest", |row| {
        states(row)
            .iter()
            .all(|(to, state)| state == if to == "nobody" { "bounced" } else { "sent" })
    });
    assert_eq!(Maildir(work.join(QUOTED)).only().field("Delivered-To"), [QUOTED]);
    assert!(!work.join("run").exists(), "it is run by nobody");
    let notices = shell.notices(1);
    assert_eq!(notices.len(), 1, "{notices:?}");
    for words in
        ["Status: 5.1.1", "there is no mailbox for nobody", "Final-Recipient: rfc822; nobody"]
    {
        assert!(notices[0].contains(words), "{words}: {}", notices[0]);
    }
    let told = |line: &Value| {
        let message = line["message"].as_str().unwrap_or_default();
        line["event"] == "delivery"
            && message.starts_with("to=<nobody>, relay=pipe, delay=")
            && message.contains("dsn=5.1.1, status=bounced (5.1.1 ")
    };
    broker.log_line("the delivery", told);
}

/// What programs do that is no failure of theirs, and what is one for the time being.
#[test]
fn programs_may_do_what_programs_do() {
    let home = Home::new();
    let script = "case $1 in\nearly) exec <&- ;;\nblind) exit 0 ;;\nchild) sleep 1000 & echo $! > child; exit 0 ;;\n\
                  loud) head -c 3000000 /dev/zero; head -c 3000000 /dev/zero >&2 ;;\n\
                  killed) test -e mended || kill -9 $$ ;;\nhangs) test -e mended || sleep 1000 ;;\n\
                  later) test -e mended || exit 75 ;;\nlost) test -e mended || exec /no/such/program ;;\nesac";
    let work = with_script(&home, script, "timeout = \"500ms\"\nconnections = 4");
    let _broker = home.serve();
    let at_once = ["early", "blind", "child", "loud"];
    let later = ["killed", "hangs", "later", "lost"];
    let entries: Vec<_> =
        at_once.into_iter().chain(later).map(|name| (name, submit(&home, &[name]))).collect();
    for (name, entry) in &entries {
        if at_once.contains(name) {
            home.entry_until(entry, "sent");
        } else {
            let row = home.entry_with(entry, name, |row| row["last_error"].is_string());
            let why = row["last_error"].as_str().unwrap_or_default();
            assert!(why.starts_with("4.3."), "{name}: {why}");
        }
    }
    let child = read(&work.join("child")).trim().parse().ok().and_then(Pid::from_raw);
    kill_process(child.expect("a number"), Signal::KILL).expect("it was left alone");
    std::fs::write(work.join("mended"), "").expect("written");
    home.run(&["queue", "flush"]).ok();
    for (_, entry) in &entries {
        home.entry_until(entry, "sent");
    }
}

/// A broker that is killed while a program runs starts it no second time: the message may have been delivered.
///
/// design §3.17
#[test]
fn a_broker_that_is_killed_starts_no_program_twice() {
    let home = Home::new();
    let work = with_script(&home, "echo $$ >> starts; echo > told; sleep 1000", "");
    let told = telltale(&work);
    let mut broker = home.serve();
    let entry = submit(&home, &["anna"]);
    read(&told);
    broker.kill();
    let starts = read(&work.join("starts"));
    let program = starts.trim().parse().ok().and_then(Pid::from_raw).expect("one number");
    kill_process_group(program, Signal::KILL).expect("it runs on");
    let _broker = home.serve();
    let mut shell = home.shell();
    shell.ok("logon");
    let row = home.entry_until(&entry, "unknown");
    assert!(row.to_string().contains("it may have been delivered"), "{row:#}");
    assert_eq!(read(&work.join("starts")), starts);
    // Somebody knows that it did not arrive.
    with_script(&home, "echo again >> starts", "");
    home.run(&["queue", "retry", &entry]).ok();
    home.entry_until(&entry, "sent");
    assert_eq!(read(&work.join("starts")), format!("{starts}again\n"));
}

/// A broker that stops ends the programs that it has started, with what they have started, when its time for transports is over.
///
/// design §3.17, §3.21
#[test]
fn a_broker_that_stops_ends_its_programs() {
    let home = Home::with_settings("[shutdown]\nshutdown_deadline = \"200ms\"\n");
    let work = with_script(&home, "exec 3> told; echo >&3; sleep 1000 & wait", "");
    let told = telltale(&work);
    let mut broker = home.serve();
    let entry = submit(&home, &["anna"]);
    let mut told = std::fs::File::open(told).expect("it runs");
    told.read_exact(&mut [0]).expect("it tells");
    broker.terminate();
    // Nothing holds the other end any more.
    let mut rest = Vec::new();
    told.read_to_end(&mut rest).expect("it ends");
    assert!(rest.is_empty());
    let _broker = home.serve();
    let mut shell = home.shell();
    shell.ok("logon");
    home.entry_until(&entry, "unknown");
}

/// A program that sends its message back does so once: it comes again with the fields that the program got.
#[test]
fn a_program_that_sends_mail_back_makes_no_loop() {
    let home = Home::new();
    let (socket, sundown) = (home.socket(), binary());
    let (socket, sundown) = (socket.display(), sundown.display());
    let script = format!("SUNDOWN_SOCKET={socket} exec {sundown} sendmail -i \"$1\"");
    with_script(&home, &script, "");
    let _broker = home.serve();
    let entry = submit(&home, &["anna"]);
    let rows = home.rows_until("both to be final", |rows| {
        let is_final = |row: &Value| row["state"] == "sent" || row["state"] == "bounced";
        rows.len() == 2 && rows.iter().all(is_final)
    });
    let again = rows.iter().find(|row| row["entry"] != entry.as_str()).expect("it came again");
    assert_eq!(again["state"], "bounced", "{rows:#?}");
    let why = again["last_error"].as_str().unwrap_or_default();
    assert_eq!(why, "5.4.6 a mail forwarding loop for anna");
    assert_eq!(home.entry_until(&entry, "sent")["attempts"], json!(1));
}

/// A program that is not there is nobody's message's fault: `profile check` and `status` say so, and mail waits for it.
///
/// design §3.18
#[test]
fn mail_waits_for_a_program_that_is_not_there() {
    let home = Home::new();
    with_script(&home, "exit 0", "");
    let script = home.path("script");
    let hidden = home.path("hidden");
    std::fs::rename(&script, &hidden).expect("hidden");
    let _broker = home.serve();
    let checked = home.run(&["profile", "check", "default", "--json"]).exits(1).json();
    let error = checked["providers"]
        .as_array()
        .and_then(|all| all.iter().find(|p| p["kind"] == "transport"));
    let error = error.map(|p| p["error"].to_string()).unwrap_or_default();
    assert!(error.contains("there is no such program") && error.contains("script"), "{checked:#}");
    let entry = submit(&home, &["anna"]);
    let unreachable = |status: &Value| status.to_string().contains("unreachable");
    home.status_until("the transport is out", unreachable);
    assert_eq!(home.queue(&["show", &entry])["attempts"], json!(0));
    std::fs::rename(&hidden, &script).expect("it is there again");
    home.run(&["queue", "flush"]).ok();
    home.entry_until(&entry, "sent");
    home.run(&["profile", "check", "default"]).ok();
}

/// How many children a broker has, also those that have ended and that it has not waited for, and how many descriptors.
fn remains(broker: &Broker) -> (usize, usize) {
    let pid = broker.pid().to_string();
    // In the state of a process, its parent is the second word behind its name in brackets.
    let is_child = |stat: &String| {
        let rest = stat.rsplit_once(')').map_or("", |(_, rest)| rest);
        rest.split_whitespace().nth(1) == Some(&pid)
    };
    let processes = std::fs::read_dir("/proc").expect("processes").filter_map(Result::ok);
    let children = processes.map(|process| read(&process.path().join("stat"))).filter(is_child);
    (children.count(), descriptors_of(pid))
}

/// Neither processes nor descriptors are left of fifty programs.
#[test]
fn nothing_is_left_of_programs() {
    let home = Home::new();
    let work = with_script(&home, "wc -c >> sizes; echo x; sleep 0 &", "connections = 4");
    let broker = home.serve();
    let mut shell = home.shell();
    shell.ok("logon");
    let message = home.message("many");
    let mut entries = vec![shell.submit(1, &message)];
    home.entry_until(&entries[0], "sent");
    let (_, before) = remains(&broker);
    entries.extend((0..50).map(|_| shell.submit(1, &message)));
    for entry in &entries {
        home.entry_until(entry, "sent");
    }
    assert_eq!(read(&work.join("sizes")).lines().count(), 51);
    // The command that has just asked may have been on its way out when they were counted first.
    broker.until("its children and descriptors", || {
        let (children, now) = remains(&broker);
        children == 0 && now <= before
    });
    shell.ok("logoff session=1");
}

/// procmail sorts mail by its rules, and what it cannot store is tried later.
#[test]
fn procmail_sorts_mail() {
    let Some(procmail) = program("procmail") else { return skipped("procmail is not installed") };
    let home = Home::new();
    let mail = home.path("mail");
    std::fs::create_dir_all(&mail).expect("made");
    let rules = home.write(
        "rules",
        format!(
            "MAILDIR={}\nDEFAULT=$MAILDIR/inbox/\n:0\n* ^Subject:.*list\nlists/\n:0\n* ^Subject:.*never\n{{\nEXITCODE=67\nHOST\n}}\n",
            mail.display()
        ),
    );
    let command = json!([procmail, "-f", "{sender}", "-a", "{recipient}", "-m", rules]);
    home.profile("default", &profile(&command.to_string(), ""));
    let _broker = home.serve();
    let mut shell = home.shell();
    shell.ok("logon");
    let entry =
        |shell: &mut crate::harness::Shell, subject: &str| shell.submit(1, &home.message(subject));
    let list = entry(&mut shell, "list");
    let plain = entry(&mut shell, "plain");
    let never = entry(&mut shell, "never");
    home.entry_until(&list, "sent");
    home.entry_until(&plain, "sent");
    home.entry_until(&never, "bounced");
    let only = |folder: &str| Maildir(mail.join(folder)).only();
    assert_eq!(only("lists").field("Subject"), ["list"]);
    assert_eq!(only("inbox").field("Subject"), ["plain"]);
    assert_eq!(only("inbox").field("Return-Path").len(), 1);
    let notices = shell.notices(1);
    assert!(notices[0].contains("Status: 5.1.1"), "{}", notices[0]);
}
