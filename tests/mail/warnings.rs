//! What goes wrong with a server is one warning in the log, however much mail waits for it, and one line says that it is over.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use serde_json::Value;

use crate::harness::{Broker, Home, assert_as_documented, documented};
use crate::queue::{RETRIES, transport};
use crate::servers::{Act, Scripted, port};

const MANY: usize = 20;

/// Submits mail that waits for the transport.
fn submit(home: &Home) {
    let mut shell = home.shell();
    shell.ok("logon");
    let text = "From: me@home.test\nTo: bo@far.test\nSubject: x\n\nx\n";
    let file = home.write("m.eml", text);
    for _ in 0..MANY {
        shell.submit(1, &file);
    }
}

fn transport_until(home: &Home, begins: &str) {
    home.status_until(begins, |status| {
        let sessions = status["sessions"].as_array().expect("rows");
        let mut providers = sessions.iter().flat_map(|s| s["providers"].as_array().expect("rows"));
        providers.any(|p| {
            p["kind"] == "transport" && p["status"].as_str().is_some_and(|s| s.starts_with(begins))
        })
    });
}

/// The events and levels of what was said of the transport.
fn said(broker: &Broker) -> Vec<[String; 2]> {
    let of_it = |line: &Value| line["kind"] == "transport" && line["event"] != "provider-call";
    let text = |value: &Value| value.as_str().expect("text").to_owned();
    let lines = broker.log().into_iter().filter(of_it);
    lines.map(|line| [text(&line["event"]), text(&line["level"])]).collect()
}

fn refusals(broker: &Broker) -> usize {
    broker.log().iter().filter(|line| line["event"] == "refused").count()
}

/// A password that the server refuses is one warning, whose line is the one in the documents; when it is taken that is said.
///
/// LOGON-11, design §8
#[test]
fn a_refused_password_is_one_warning() {
    let home = Home::new();
    let well = Arc::<AtomicBool>::default();
    let is_well = well.clone();
    let server = Scripted::start(move |command, _| match command {
        "EHLO" => Some(Act::Say("250-scripted\r\n250 AUTH PLAIN\r\n".into())),
        "AUTH" if is_well.load(Ordering::SeqCst) => Some(Act::Say("235 welcome\r\n".into())),
        "AUTH" => Some(Act::Say("535 5.7.8 I know you not\r\n".into())),
        _ => None,
    });
    let keys = "username = \"anna\"\npassword_command = \"echo secret\"\n";
    home.profile("default", &format!("{}{RETRIES}", transport(server.port(), keys)));
    let mut broker = home.serve();
    submit(&home);
    transport_until(&home, "failed");
    well.store(true, Ordering::SeqCst);
    home.run(&["queue", "flush"]).ok();
    home.rows_until("all to be sent", |rows| rows.iter().all(|row| row["state"] == "sent"));
    broker.terminate();
    assert_eq!(said(&broker), [["logon-refused", "warn"], ["provider-works", "info"]]);
    assert_eq!(refusals(&broker), 0);
    let raw = broker.raw_log();
    let written = raw.iter().find(|line| line.contains("logon-refused")).expect("looked at before");
    assert!(written.contains("535 5.7.8 I know you not"), "{written}");
    assert_as_documented(&documented("operations.md", "logon-refused"), written);
}

/// A server that does not listen is one warning, and so is one with which TLS does not work, also for a user who asks whether it works:
/// neither refuses anything to anybody.
///
/// design §8
#[test]
fn a_server_that_cannot_be_reached_is_one_warning() {
    for tls in [false, true] {
        let home = Home::new();
        let port = port();
        let server = tls.then(|| Scripted::start_at(port, |_, _| None));
        let keys = if tls { "security = \"tls\"\n" } else { "" };
        home.profile("default", &format!("{}{RETRIES}", transport(port, keys)));
        let mut broker = home.serve();
        submit(&home);
        transport_until(&home, "unreachable");
        for _ in 0..3 {
            home.run(&["profile", "check", "default"]).exits(1);
        }
        drop(server);
        broker.terminate();
        assert_eq!(said(&broker), [["transport-unreachable", "warn"]], "TLS: {tls}");
        assert_eq!(refusals(&broker), 0, "TLS: {tls}");
    }
}
