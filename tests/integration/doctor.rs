//! The doctor finds what is wrong, says what to do, and leaves everything as it is.

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;

use rustix::process::Signal;
use serde_json::Value;

use crate::harness::{Home, keys, run};

/// What it finds when it ends with this status.
fn examined(home: &Home, status: i32) -> Vec<Value> {
    let mut command = home.command(&["doctor", "--json"]);
    // Without a systemctl: the host's own is none of the test's business.
    command.env("PATH", home.path("bin"));
    let found = run(command, "").exits(status).json();
    let findings = found.as_array().expect("an array").clone();
    for finding in &findings {
        assert_eq!(keys(finding), "advice check message status");
        assert_ne!(finding["message"], "");
        let needed = finding["status"] != "ok";
        assert!(!needed || finding["advice"].is_string(), "no advice: {finding}");
    }
    findings
}

/// The status and the message of each finding about one thing.
fn about<'a>(findings: &'a [Value], check: &str) -> Vec<(&'a str, &'a str)> {
    let text = |value: &'a Value| value.as_str().expect("text");
    let found = findings.iter().filter(|finding| finding["check"] == check);
    found.map(|finding| (text(&finding["status"]), text(&finding["message"]))).collect()
}

/// The only finding about one thing has this status and these words.
fn only(findings: &[Value], check: &str, status: &str, words: &[&str]) {
    let found = about(findings, check);
    let [(is, message)] = found[..] else { panic!("one finding about {check}: {findings:#?}") };
    assert_eq!(is, status, "{message}");
    for word in words {
        assert!(message.contains(word), "{word} is not in {message}");
    }
}

/// A runtime directory that is gone after a logout counts as unset, and that is said.
///
/// design §8
#[test]
fn a_runtime_directory_that_is_gone_is_named() {
    let home = Home::new();
    fs::create_dir_all(home.data()).expect("made");
    let gone = home.path("gone");
    let mut command = home.command(&["doctor", "--json"]);
    command.env("PATH", home.path("bin")).env("XDG_RUNTIME_DIR", &gone);
    let findings = run(command, "").json();
    let findings = findings.as_array().expect("an array");
    let gone = gone.to_str().expect("text");
    let said = |check, is, words: &str| {
        about(findings, check).iter().any(|(status, m)| *status == is && m.contains(words))
    };
    assert!(
        said(
            "environment",
            "warning",
            "XDG_RUNTIME_DIR does not count: the directory is not there"
        ),
        "{findings:#?}"
    );
    for check in ["socket", "broker"] {
        assert!(about(findings, check).iter().all(|(_, m)| !m.contains(gone)), "{findings:#?}");
    }
}

/// In an empty home and beside a broker that works everything is in order; nothing is started, made or joined.
///
/// design §8
#[test]
fn a_healthy_home_stays_as_it_is() {
    let Some(home) = Home::with_memory() else {
        return println!("skipped: /dev/shm is not in memory");
    };
    let findings = examined(&home, 0);
    assert!(findings.iter().all(|finding| finding["status"] == "ok"), "{findings:#?}");
    only(&findings, "broker", "ok", &["none runs"]);
    assert!(!home.data().exists() && !home.socket().exists());
    // Also without the option that forbids it.
    run(home.bare(&["doctor"]), "").ok();
    assert!(!home.data().exists() && home.brokers().is_empty());

    let broker = home.serve();
    let mut shell = home.shell();
    shell.ok("logon");
    // The mailbox looks by itself after the logon, and the status says so.
    let before = home.status_until("the mailbox's first look", |status| {
        let providers = status["sessions"][0]["providers"].as_array().expect("a list");
        providers.iter().any(|one| one["kind"] == "mailbox" && !one["worked"].is_null())
    });
    let findings = examined(&home, 0);
    assert!(findings.iter().all(|finding| finding["status"] == "ok"), "{findings:#?}");
    only(&findings, "broker", "ok", &[&broker.pid().to_string(), "0.1.0"]);
    only(&findings, "provider", "ok", &["4 in one session"]);
    only(&findings, "queue", "ok", &["empty"]);
    assert_eq!(home.status(), before);
    let text = home.run(&["doctor"]).ok().output;
    assert!(text.ends_with("everything is in order"), "{text}");
}

/// What a broker keeps for the time after a crash must be in memory. That it is not keeps nothing from working.
///
/// design §3.17, §8
#[test]
fn a_runtime_directory_on_a_disk_is_said() {
    let home = Home::new();
    let (status, words) =
        if home.has_memory() { ("ok", "is in memory") } else { ("warning", "is on a disk") };
    only(&examined(&home, 0), "runtime", status, &[words, "run/sundown"]);
    if let Some(home) = Home::with_memory() {
        only(&examined(&home, 0), "runtime", "ok", &[home.runtime().to_str().expect("text")]);
    }
}

/// A mailbox whose directory is no Maildir is found before a broker is, and the advice helps.
///
/// design §7, §8
#[test]
fn a_mailbox_without_a_maildir_is_found() {
    let home = Home::new();
    only(&examined(&home, 0), "mailbox", "ok", &["default/Maildir", "the first message makes it"]);
    home.profile("default", "[[mailbox]]\nname = \"mine\"\npath = \"~/Maildir\"\n");
    let findings = examined(&home, 1);
    let path = home.path("Maildir");
    let words = ["mailbox mine of profile default", path.to_str().expect("text"), "is not there"];
    only(&findings, "mailbox", "problem", &words);
    let finding = findings.iter().find(|f| f["check"] == "mailbox").expect("found");
    let advice = finding["advice"].as_str().expect("advice");
    let command = advice.split('`').rev().nth(1).expect("a command");
    run(
        {
            let mut shell = std::process::Command::new("sh");
            shell.args(["-c", command]);
            shell
        },
        "",
    )
    .ok();
    only(&examined(&home, 0), "mailbox", "ok", &["can be read and written"]);
}

/// Directories that a broker would refuse, and files that it could not read.
///
/// design §7, §8
#[test]
fn what_keeps_a_broker_from_starting_is_found() {
    let home = Home::new();
    let mode = |path, mode| {
        fs::create_dir_all(&path).expect("made");
        fs::set_permissions(&path, Permissions::from_mode(mode)).expect("changed");
    };
    let socket = home.path("run/sundown");
    mode(socket.clone(), 0o755);
    mode(home.data(), 0o777);
    fs::create_dir(home.data().join("gone")).expect("made");
    fs::write(home.data().join("gone/store.db"), "").expect("written");
    let settings = home.settings("[shutdown]\nlingr = \"off\"\n");
    home.profile("odd", "\n[queue]\nretry_mim = \"1s\"\n");
    let findings = examined(&home, 1);
    only(&findings, "socket", "problem", &["0755", "entered by others"]);
    only(&findings, "data", "problem", &["0777", "changed by others"]);
    only(&findings, "settings", "problem", &[settings.to_str().expect("text"), "line 2", "lingr"]);
    let profiles = about(&findings, "profile");
    let health: Vec<_> = profiles.iter().map(|(status, _)| *status).collect();
    assert_eq!(health, ["ok", "warning", "problem"], "{profiles:?}");
    assert!(profiles[2].1.contains("line 3") && profiles[1].1.contains("gone"), "{profiles:?}");
    let advice = findings.iter().find(|f| f["check"] == "socket").expect("found")["advice"].clone();
    assert_eq!(advice, format!("chmod 0700 {}", socket.display()));

    // What was said helps.
    mode(socket, 0o700);
    mode(home.data(), 0o700);
    home.settings("");
    home.profile("odd", "");
    let findings = examined(&home, 0);
    assert_eq!(about(&findings, "profile").iter().filter(|f| f.0 == "warning").count(), 1);
    let unknown = home.run(&["doctor", "--json", "--profile", "nobody"]).exits(1).json();
    let unknown = unknown.as_array().expect("some");
    let wrong: Vec<_> = unknown.iter().filter(|f| f["status"] == "problem").cloned().collect();
    only(&wrong, "profile", "problem", &["nobody"]);
}

/// A socket without a broker, a broker elsewhere, a broker that hangs, and what was the last word of one that could not start.
///
/// design §8
#[test]
fn brokers_that_do_not_answer_are_told_apart() {
    let home = Home::new();
    let mut broker = home.serve();
    let elsewhere = home.path("other.sock");
    let elsewhere = elsewhere.to_str().expect("text");
    let other = home.run(&["doctor", "--json", "--socket", elsewhere]).exits(1).json();
    let other = other.as_array().expect("an array");
    only(other, "broker", "problem", &[home.socket().to_str().expect("text")]);

    broker.signal(Signal::STOP);
    let findings = examined(&home, 1);
    only(&findings, "broker", "problem", &["does not answer"]);
    let advice = findings.iter().find(|f| f["check"] == "broker").expect("found")["advice"].clone();
    assert!(advice.to_string().contains(&format!("kill -9 {}", broker.pid())), "{advice}");

    broker.kill();
    let findings = examined(&home, 0);
    only(&findings, "broker", "warning", &["left behind"]);
    assert_eq!(about(&findings, "log"), []);

    home.settings("linger = 3\n");
    run(home.bare(&["send", "--to", "anna@localhost"]), "hi\n").exits(1);
    let findings = examined(&home, 1);
    only(&findings, "log", "warning", &["broker.log", "linger"]);
}

/// A transport that does not work, with its words, and messages that somebody has to decide about.
///
/// design §8
#[test]
fn what_keeps_mail_from_going_out_is_found() {
    let home = Home::new();
    home.profile("stuck", "[[transport]]\npath = \"blocked\"\n");
    home.write(".local/share/sundown/stuck/blocked", "");
    let broker = home.serve();
    let mut shell = home.shell();
    shell.ok("logon profile=stuck");
    let send = ["--profile", "stuck", "send", "--to", "anna", "--json"];
    let entry = home.run_with(&send, "hi\n").ok().json()["entry"].clone();
    let entry = entry.as_str().expect("text");
    broker.log_line("an attempt", |l| l["call"] == "UpdateSubmission");
    let findings = examined(&home, 1);
    // The mailbox that shows what the transport delivers has the same trouble.
    let found = about(&findings, "provider");
    let words = "transport maildir of profile stuck failed: ";
    assert!(found.iter().any(|(is, text)| *is == "problem" && text.contains(words)), "{found:?}");
    let words = "mailbox maildir of profile stuck is failing: ";
    assert!(found.iter().all(|(is, text)| *is == "problem" || text.contains(words)), "{found:?}");
    only(&findings, "queue", "warning", &["1 message waits for another try"]);
    home.run(&["--profile", "stuck", "queue", "hold", entry]).ok();
    let findings = examined(&home, 1);
    only(&findings, "queue", "warning", &["until a user releases it"]);
    let advice = findings.iter().find(|f| f["check"] == "queue").expect("found")["advice"].clone();
    assert_eq!(advice, format!("`sundown queue release {entry}` releases it"));
}

/// The user's unit, as systemctl speaks of it.
///
/// design §8
#[test]
fn the_unit_is_asked_for_where_there_is_a_systemctl() {
    let home = Home::new();
    assert_eq!(about(&examined(&home, 0), "systemd"), []);
    let script = |enabled: &str, active: &str| {
        let text = format!(
            "#!/bin/sh\n[ \"$1 $3\" = '--user sundown.service' ] || exit 9\n\
             case $2 in is-enabled) echo {enabled};; is-active) echo {active};; esac\nexit 1\n"
        );
        let file = home.write("bin/systemctl", text);
        fs::set_permissions(file, Permissions::from_mode(0o755)).expect("changed");
    };
    script("enabled", "active");
    only(&examined(&home, 0), "systemd", "ok", &["enabled, and active"]);
    script("enabled", "failed");
    only(&examined(&home, 1), "systemd", "problem", &["has failed"]);
    script("disabled", "inactive");
    only(&examined(&home, 0), "systemd", "ok", &["not enabled"]);
}
