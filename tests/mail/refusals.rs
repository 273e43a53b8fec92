//! Servers that refuse to talk: each message that waits is none of their business.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use crate::harness::{Home, run};
use crate::queue::{RETRIES, transport};
use crate::servers::{Act, Scripted, port};

const MANY: usize = 300;

/// How a server refuses, until it is well.
#[derive(Debug, Clone, Copy)]
struct Refusal {
    at: &'static str,
    words: &'static str,
    /// More of the profile's transport.
    keys: &'static str,
}

const REFUSALS: [Refusal; 5] = [
    Refusal { at: "CONNECT", words: "421 4.7.0 too many connections\r\n", keys: "" },
    Refusal { at: "CONNECT", words: "554 5.7.1 you are on a list\r\n", keys: "" },
    Refusal { at: "EHLO", words: "421 4.3.2 going down\r\n", keys: "" },
    Refusal { at: "MAIL", words: "421 4.7.0 not now\r\n", keys: "" },
    Refusal {
        at: "AUTH",
        words: "454 4.7.0 nobody is logged on now\r\n",
        keys: "username = \"anna\"\npassword_command = \"echo secret\"\n",
    },
];

/// A server, and how many connections it has seen.
struct Server {
    scripted: Scripted,
    seen: Arc<AtomicUsize>,
    well: Arc<AtomicBool>,
}

impl Server {
    fn start(refusal: Refusal) -> Self {
        Self::start_at(port(), refusal)
    }

    fn start_at(port: u16, refusal: Refusal) -> Self {
        let (seen, well) = (Arc::<AtomicUsize>::default(), Arc::<AtomicBool>::default());
        let (counts, is_well) = (seen.clone(), well.clone());
        let scripted = Scripted::start_at(port, move |command, _| {
            if command == "CONNECT" {
                counts.fetch_add(1, Ordering::SeqCst);
            }
            match command {
                _ if command == refusal.at && !is_well.load(Ordering::SeqCst) => {
                    Some(Act::SayAndClose(refusal.words.into()))
                }
                "EHLO" => Some(Act::Say("250-scripted\r\n250 AUTH PLAIN\r\n".into())),
                "AUTH" => Some(Act::Say("235 2.7.0 welcome\r\n".into())),
                _ => None,
            }
        });
        Self { scripted, seen, well }
    }

    fn seen(&self) -> usize {
        self.seen.load(Ordering::SeqCst)
    }

    /// From now on it takes everything.
    fn heal(&self) {
        self.well.store(true, Ordering::SeqCst);
    }
}

/// The recipients of a profile's messages.
fn recipients(profile: &str) -> BTreeSet<String> {
    (0..MANY).map(|number| format!("{profile}.{number}@test")).collect()
}

/// Submits all of them.
fn submit(home: &Home, profile: &str) {
    let envelope = |to: &String| {
        format!(
            "MAIL FROM:<me@home.test>\r\nRCPT TO:<{to}>\r\nDATA\r\nSubject: x\r\n\r\nx\r\n.\r\n"
        )
    };
    let all: String = recipients(profile).iter().map(envelope).collect();
    let mut command = home.bare(&["sendmail", "-bs"]);
    command.env("SUNDOWN_PROFILE", profile).env("SUNDOWN_NO_AUTOSTART", "1");
    run(command, format!("EHLO me\r\n{all}QUIT\r\n")).ok();
}

/// Waits until a profile's transport says so.
fn wait_until(home: &Home, profile: &str, wanted: &str) {
    home.status_until(&format!("{profile} to be {wanted}"), |status| {
        let sessions = status["sessions"].as_array().expect("rows").iter();
        let mut of_it = sessions.filter(|session| session["profile"] == profile);
        of_it.any(|session| {
            let providers = session["providers"].as_array().expect("rows");
            providers.iter().any(|p| p["kind"] == "transport" && p["status"] == wanted)
        })
    });
}

/// Waits until all of a profile's messages are there, and looks that each is there once.
fn all_arrive(home: &Home, profile: &str, server: &Server) {
    home.status_until(&format!("all of {profile} to arrive"), |_| {
        server.scripted.taken().len() >= MANY
    });
    home.rows_until("nothing to wait", |rows| {
        rows.iter().all(|row| row["profile"] != profile || row["state"] == "sent")
    });
    let taken = server.scripted.taken();
    let arrived: Vec<_> = taken.iter().flat_map(|talk| talk.recipients.clone()).collect();
    assert_eq!(arrived.len(), MANY, "{profile}: each once");
    assert_eq!(arrived.into_iter().collect::<BTreeSet<_>>(), recipients(profile));
}

/// However many messages wait, and however often a user flushes: a server that refuses sees a connection for each try, and its
/// tries become rare. When it is well everything goes out, once.
///
/// QUEUE-11, design §3.18
#[test]
fn a_server_that_refuses_is_left_alone() {
    let home = Home::new();
    let broker = home.serve();
    let servers = REFUSALS.map(Server::start);
    for (number, (server, refusal)) in servers.iter().zip(REFUSALS).enumerate() {
        let profile = format!("case{number}");
        let transport = transport(server.scripted.port(), refusal.keys);
        home.profile(&profile, &format!("{transport}{RETRIES}"));
        submit(&home, &profile);
        wait_until(&home, &profile, "unreachable");
    }
    for _ in 0..3 {
        let before = servers.each_ref().map(Server::seen);
        home.run(&["queue", "flush"]).ok();
        home.status_until("each server to be tried", |_| {
            servers.iter().zip(before).all(|(server, before)| server.seen() > before)
        });
    }
    for (server, refusal) in servers.iter().zip(REFUSALS) {
        // One to find out, three for the user, and those of the broker: after 2, 4, 8, 16, 32 s and so on. At MAIL the question
        // whether the transport works finds that it does, so that each try is followed by one message.
        let seen = server.seen();
        assert!(seen <= 24, "{seen} connections to {refusal:?}");
    }
    let rows = home.rows();
    assert!(rows.iter().all(|row| row["attempts"] == 0), "it is no message's fault");
    servers.iter().for_each(Server::heal);
    home.run(&["queue", "flush"]).ok();
    for (number, server) in servers.iter().enumerate() {
        all_arrive(&home, &format!("case{number}"), server);
    }
    drop(broker);
}

/// A broker that was killed knows when it is started again that the server refuses. A flush has it tried, and then everything goes
/// out, once.
///
/// QUEUE-11, design §3.18
#[test]
fn a_broker_that_was_killed_leaves_the_server_alone() {
    let home = Home::new();
    let mut broker = home.serve();
    let server = Server::start(REFUSALS[0]);
    home.profile("default", &format!("{}{RETRIES}", transport(server.scripted.port(), "")));
    submit(&home, "default");
    wait_until(&home, "default", "unreachable");
    // After six refusals it rests for a minute.
    while server.seen() < 6 {
        let before = server.seen();
        home.run(&["queue", "flush"]).ok();
        home.status_until("it is tried", |_| server.seen() > before);
        wait_until(&home, "default", "unreachable");
    }
    broker.kill();
    let before = server.seen();
    let broker = home.serve();
    // A message was offered, and was told without a connection.
    wait_until(&home, "default", "unreachable");
    assert_eq!(server.seen(), before);
    server.heal();
    home.run(&["queue", "flush"]).ok();
    all_arrive(&home, "default", &server);
    drop(broker);
}

/// Where nothing listens, one connection is tried for all; what waits goes out when something does.
///
/// QUEUE-11, design §3.18
#[test]
fn where_nothing_listens_all_wait() {
    let home = Home::new();
    let broker = home.serve();
    let port = port();
    home.profile("default", &format!("{}{RETRIES}", transport(port, "")));
    submit(&home, "default");
    wait_until(&home, "default", "unreachable");
    let server = Server::start_at(port, REFUSALS[0]);
    server.heal();
    home.run(&["queue", "flush"]).ok();
    all_arrive(&home, "default", &server);
    drop(broker);
}

/// A password that was refused twice has no more tries by the broker, nor by the next one. When the profile says something else about
/// the logon, it has one without a user's word. A session that is there for its mail takes its profile anew when the broker is told
/// to read its settings.
///
/// LOGON-11, QUEUE-11, design §3.18
#[test]
fn a_changed_profile_is_tried_without_a_flush() {
    let home = Home::new();
    let tries = Arc::<AtomicUsize>::default();
    let (counts, is_known) = (tries.clone(), AtomicBool::new(false));
    let server = Scripted::start(move |command, line| match command {
        "EHLO" => {
            is_known.store(line.ends_with("known.test"), Ordering::SeqCst);
            Some(Act::Say("250-scripted\r\n250 AUTH PLAIN\r\n".into()))
        }
        "AUTH" if is_known.load(Ordering::SeqCst) => Some(Act::Say("235 welcome\r\n".into())),
        "AUTH" => {
            counts.fetch_add(1, Ordering::SeqCst);
            Some(Act::Say("535 5.7.8 I know you not\r\n".into()))
        }
        _ => None,
    });
    let profile = |more: &str| {
        let keys = format!("username = \"anna\"\npassword_command = \"echo secret\"\n{more}");
        home.profile("default", &format!("{}{RETRIES}", transport(server.port(), &keys)));
    };
    profile("");
    let broker = home.serve();
    home.run_with(&["send", "--to", "user@test"], "x").ok();
    home.status_until("the second refusal", |_| tries.load(Ordering::SeqCst) == 2);
    let attempts = |rows: &[serde_json::Value]| rows[0]["attempts"].as_u64().expect("a number");
    let looks_again = || {
        let before = attempts(&home.rows());
        home.rows_until("the broker to have looked again", |rows| attempts(rows) >= before + 5);
        assert_eq!(tries.load(Ordering::SeqCst), 2);
    };
    looks_again();
    drop(broker);
    let broker = home.serve();
    looks_again();
    profile("helo = \"known.test\"\n");
    broker.signal(rustix::process::Signal::HUP);
    home.rows_until("it to be sent", |rows| rows[0]["state"] == "sent");
    assert_eq!(tries.load(Ordering::SeqCst), 2);
}

/// An allowance that is used up is so for the next broker as well, however this one ended.
///
/// QUEUE-11, design §3.18
#[test]
fn an_allowance_outlives_a_broker() {
    let home = Home::new();
    let server = Scripted::start(|_, _| None);
    let keys = "rate = \"2/d\"\n";
    home.profile("default", &format!("{}{RETRIES}", transport(server.port(), keys)));
    let mut broker = home.serve();
    for _ in 0..2 {
        home.run_with(&["send", "--to", "user@test", "--wait=60"], "x").ok();
    }
    broker.kill();
    let _broker = home.serve();
    home.run_with(&["send", "--to", "user@test"], "x").ok();
    wait_until(&home, "default", "unreachable");
    home.run(&["queue", "flush"]).ok();
    let rows = home.rows_until("the third to be told", |rows| {
        rows.iter().any(|row| row["last_error"].as_str().is_some_and(|e| e.contains("2/d")))
    });
    assert_eq!(rows.iter().filter(|row| row["state"] == "sent").count(), 2, "{rows:#?}");
    assert_eq!(server.taken().len(), 2);
}
