//! Processes with several brokers, and with several copies of the client library.

use serde_json::Value;

use crate::harness::{Broker, Copies, Home, carry_out_if_asked};

/// Not a test of its own: the process in which the others load their copies. Without being asked to it does nothing.
#[test]
fn a_process_with_copies() {
    carry_out_if_asked();
}

/// The providers of the default profile.
const PROVIDERS: usize = 4;

/// A home whose address book refuses a fast shutdown.
fn refusing() -> Home {
    let home = Home::new();
    home.profile("default", "[[address_book]]\nfast_shutdown = \"refused\"\n");
    home
}

/// How often a process' providers at a broker got this call.
fn calls(broker: &Broker, call: &str, pid: u32) -> usize {
    let of_it = |line: &&Value| {
        line["event"] == "provider-call" && line["call"] == call && line["pid"] == pid
    };
    broker.log().iter().filter(of_it).count()
}

/// A copy with a session at each of these homes' brokers, called `a`, `b` and so on.
fn log_on(copies: &mut Copies, homes: &[&Home]) {
    for (name, home) in ["a", "b"].iter().zip(homes) {
        copies.ok(0, &format!("initialize {name} {}", home.socket().display()));
        copies.ok(0, &format!("logon {name}"));
    }
}

/// The one instance controls all sessions of the process: with two brokers Query asks both, Notify tells both, Do is done with both,
/// and afterwards no call is made to any broker.
///
/// SEED-11, SEED-12, SEED-13, SEED-14, design §3.6
#[test]
fn one_instance_controls_the_sessions_of_all_brokers() {
    let (one, two) = (Home::new(), Home::new());
    let (first, second) = (one.serve(), two.serve());
    let mut copies = Copies::start(&one, 1);
    log_on(&mut copies, &[&one, &two]);
    let pid = copies.pid();
    copies.ok(0, "submit a first");
    copies.ok(0, "submit b second");
    copies.ok(0, "query b");
    copies.ok(0, "query a");
    copies.ok(0, "notify a");
    copies.ok(0, "do a");
    for (broker, home) in [(&first, &one), (&second, &two)] {
        for call in ["QueryFastShutdown", "NotifyProcessShutdown", "DoFastShutdown"] {
            broker.until(call, || calls(broker, call, pid) == PROVIDERS);
        }
        broker.until("the mail", || home.maildir("default").count() == 1);
        home.status_until("nobody", |s| s["sessions"].as_array().is_some_and(Vec::is_empty));
    }
    let three = Home::new();
    let _third = three.serve();
    for command in [
        "submit a late".to_owned(),
        "submit b late".to_owned(),
        "query a".to_owned(),
        "do b".to_owned(),
        format!("initialize c {}", three.socket().display()),
    ] {
        copies.fails(0, &command, "MAPI_E_NOT_INITIALIZED");
    }
}

/// One refusal refuses for all, whichever broker it comes from; it holds for the life of the process, also when that broker's
/// sessions are over and others take their place, and Do is done with nobody.
///
/// SEED-10, SEED-12, design §3.6
#[test]
fn one_brokers_refusal_refuses_for_all() {
    let (willing, unwilling) = (Home::new(), refusing());
    let (first, second) = (willing.serve(), unwilling.serve());
    for homes in [[&willing, &unwilling], [&unwilling, &willing]] {
        let mut copies = Copies::start(&willing, 1);
        log_on(&mut copies, &homes);
        let pid = copies.pid();
        let why = copies.fails(0, "query a", "MAPI_E_NO_SUPPORT");
        assert!(why.contains(&unwilling.socket().display().to_string()), "{why}");
        assert!(!why.contains(&willing.socket().display().to_string()), "{why}");
        assert_eq!(copies.fails(0, "query b", "MAPI_E_NO_SUPPORT"), why, "the same answer");
        copies.fails(0, "do a", "MAPI_E_NO_SUPPORT");
        // Those who refuse are gone; the answer stays.
        let (gone, here) =
            if homes[0].socket() == willing.socket() { ("b", "a") } else { ("a", "b") };
        copies.ok(0, &format!("uninitialize {gone}"));
        assert_eq!(copies.fails(0, &format!("query {here}"), "MAPI_E_NO_SUPPORT"), why);
        copies.fails(0, &format!("do {here}"), "MAPI_E_NO_SUPPORT");
        copies.ok(0, &format!("submit {here} goes-on"));
        assert_eq!(copies.ok(0, &format!("shut-down {here}")), "traditional");
        for broker in [&first, &second] {
            assert_eq!(calls(broker, "DoFastShutdown", pid), 0);
        }
    }
}

/// A broker that the process has come to after the yes is asked within Do. Its refusal is found before anybody is told, and the
/// verdict is what it was.
///
/// SEED-12, A-18, design §3.7
#[test]
fn a_broker_that_came_later_is_asked_within_do() {
    let (one, willing, unwilling) = (Home::new(), Home::new(), refusing());
    let (first, second, third) = (one.serve(), willing.serve(), unwilling.serve());
    for (home, later, able) in [(&unwilling, &third, false), (&willing, &second, true)] {
        let mut copies = Copies::start(&one, 1);
        log_on(&mut copies, &[&one]);
        copies.ok(0, "query a");
        copies.ok(0, &format!("initialize later {}", home.socket().display()));
        copies.ok(0, "logon later");
        copies.ok(0, "query later");
        let pid = copies.pid();
        assert_eq!(calls(later, "QueryFastShutdown", pid), 0, "the answer was there");
        if able {
            copies.ok(0, "do a");
            for broker in [&first, later] {
                broker.until("Do", || calls(broker, "DoFastShutdown", pid) == PROVIDERS);
            }
            continue;
        }
        for _ in 0..2 {
            let why = copies.fails(0, "do a", "MAPI_E_NO_SUPPORT");
            assert!(why.contains(&home.socket().display().to_string()), "{why}");
        }
        copies.ok(0, "query a");
        copies.ok(0, "submit a goes-on");
        copies.ok(0, "submit later goes-on");
        for broker in [&first, later] {
            assert_eq!(calls(broker, "DoFastShutdown", pid), 0, "nobody was told");
        }
        // Without them it can be done.
        copies.ok(0, "uninitialize later");
        copies.ok(0, "do a");
    }
}

/// When Do fails at the second broker, the first one's sessions are over and what they handed over is durable; the error says so and
/// names both. A retry tells the first one nothing, and logging off is possible as well.
///
/// SEED-14, SEED-20, design §3.8
#[test]
fn a_do_that_fails_at_the_second_broker_says_what_holds() {
    let (one, two) = (Home::new(), Home::new());
    two.settings("[shutdown]\ndisable_fast_shutdown = true\n");
    for retry in [true, false] {
        two.settings("[shutdown]\ndisable_fast_shutdown = true\n");
        let (first, second) = (one.serve(), two.serve());
        let mut copies = Copies::start(&one, 1);
        log_on(&mut copies, &[&one, &two]);
        let (pid, before) = (copies.pid(), one.maildir("default").count());
        copies.ok(0, "submit a handed-over");
        copies.ok(0, "query a");
        let why = copies.fails(0, "do a", "MAPI_E_NO_SUPPORT");
        for home in [&one, &two] {
            assert!(why.contains(&home.socket().display().to_string()), "{why}");
        }
        copies.fails(0, "submit a late", "MAPI_E_NOT_INITIALIZED");
        copies.fails(
            0,
            &format!("initialize c {}", one.socket().display()),
            "MAPI_E_NOT_INITIALIZED",
        );
        copies.ok(0, "submit b goes-on");
        if retry {
            two.settings("");
            let from = second.log_length();
            second.signal(rustix::process::Signal::HUP);
            let reread =
                |line: &Value| line["message"].as_str().is_some_and(|m| m.contains("read again"));
            second.log_line_from(from, "the settings", reread);
            copies.ok(0, "do a");
            second.until("Do", || calls(&second, "DoFastShutdown", pid) == PROVIDERS);
        } else {
            assert_eq!(copies.ok(0, "shut-down b"), "traditional");
        }
        copies.fails(0, "submit b late", "MAPI_E_NOT_INITIALIZED");
        first.until("the mail", || one.maildir("default").count() == before + 1);
        // A mailbox with nothing to save is left alone until the answer is out.
        first.until("Do", || calls(&first, "DoFastShutdown", pid) >= PROVIDERS);
        assert_eq!(calls(&first, "DoFastShutdown", pid), PROVIDERS, "once for each provider");
    }
}

/// A process leaves all its brokers in the right way, whatever that is.
///
/// SEED-11, CFS-12, design §3.6
#[test]
fn a_process_leaves_all_its_brokers() {
    for (two, path) in [(Home::new(), "fast"), (refusing(), "traditional")] {
        let one = Home::new();
        let (_first, _second) = (one.serve(), two.serve());
        let mut copies = Copies::start(&one, 1);
        log_on(&mut copies, &[&one, &two]);
        assert_eq!(copies.ok(0, "shut-down b"), path);
        for home in [&one, &two] {
            home.status_until("nobody", |s| s["sessions"].as_array().is_some_and(Vec::is_empty));
        }
        copies.fails(0, "logon a", "MAPI_E_NOT_INITIALIZED");
        copies.fails(0, "logon b", "MAPI_E_NOT_INITIALIZED");
    }
}

/// A program and add-ins with copies of the library of their own: another copy may not shut the process down, unless it has the
/// host's key; and a process that has left stays away, however often the library is initialized and whatever broker answers.
///
/// SEED-11, SEED-14, SEED-15, CFS-10, STICK-1, design §3.6, §3.12, §3.14
#[test]
fn the_host_leaves_and_stays_away() {
    const HOST: usize = 0;
    const STRANGER: usize = 1;
    const TRUSTED: usize = 2;
    let home = Home::new();
    let mut broker = home.serve();
    let mut copies = Copies::start(&home, 3);
    let initialize = format!("initialize a {}", home.socket().display());
    copies.ok(HOST, &initialize);
    let key = copies.ok(HOST, "key a");
    copies.ok(STRANGER, &initialize);
    copies.ok(TRUSTED, &format!("{initialize} {key}"));
    for copy in [HOST, STRANGER, TRUSTED] {
        copies.ok(copy, "logon a");
    }
    for call in ["query a", "notify a", "do a"] {
        copies.fails(STRANGER, call, "MAPI_E_NO_ACCESS");
    }
    copies.ok(TRUSTED, "query a");
    // It was not asked itself; the broker knows of the yes.
    copies.ok(HOST, "do a");
    for copy in [HOST, STRANGER, TRUSTED] {
        for call in ["submit a late", "notify a", "logon a"] {
            copies.fails(copy, call, "MAPI_E_NOT_INITIALIZED");
        }
    }
    copies.fails(HOST, "uninitialize a", "MAPI_E_NOT_INITIALIZED");
    copies.fails(HOST, &initialize, "MAPI_E_NOT_INITIALIZED");
    broker.kill();
    let _broker = home.serve();
    copies.fails(HOST, &initialize, "MAPI_E_NOT_INITIALIZED");
}

/// Two ways to one socket are one broker: it is told once.
///
/// SEED-14, design §3.6
#[test]
fn a_broker_with_two_names_is_told_once() {
    let home = Home::new();
    let broker = home.serve();
    let other = home.path("other.sock");
    std::os::unix::fs::symlink(home.socket(), &other).expect("linked");
    let mut copies = Copies::start(&home, 1);
    for (name, socket) in [("a", home.socket()), ("b", other)] {
        copies.ok(0, &format!("initialize {name} {}", socket.display()));
        copies.ok(0, &format!("logon {name}"));
    }
    copies.ok(0, "query a");
    copies.ok(0, "do b");
    copies.fails(0, "logon a", "MAPI_E_NOT_INITIALIZED");
    broker.until("Do", || calls(&broker, "DoFastShutdown", copies.pid()) == PROVIDERS);
}

/// What was deferred is kept until it is durable, however long it is: it is repeated when the broker comes back, also when a flush
/// was under way.
///
/// design §3.16
#[test]
fn what_is_deferred_outlives_its_broker() {
    let home = Home::new();
    let mut broker = home.serve();
    let mut copies = Copies::start(&home, 1);
    log_on(&mut copies, &[&home]);
    for round in 0..6 {
        // 10 bytes, and more than fits into a request.
        let lines = if round % 2 == 0 { 2 } else { 100_000 };
        copies.ok(0, &format!("defer a round-{round} {lines}"));
        let flush = (round >= 3).then(|| copies.tell(0, "flush a"));
        broker.kill();
        broker = home.serve();
        match flush {
            None => drop(copies.ok(0, "flush a")),
            Some(number) => assert_eq!(copies.answer(number), "ok"),
        }
    }
    broker.until("all mail", || home.maildir("default").count() == 6);
    let tally = home.maildir("default").tally("Subject");
    assert!(tally.len() == 6 && tally.values().all(|n| *n == 1), "{tally:?}");
}

/// How a broker is replaced.
#[derive(Debug, Clone, Copy)]
enum Restart {
    Killed,
    Stopped,
}

impl Restart {
    const BOTH: [Self; 2] = [Self::Killed, Self::Stopped];

    fn of(self, broker: Broker, home: &Home) -> Broker {
        let mut broker = broker;
        match self {
            Self::Killed => broker.kill(),
            Self::Stopped => broker.terminate(),
        }
        drop(broker);
        home.serve()
    }
}

const HOST: usize = 0;
const ADD_IN: usize = 1;

/// A program and an add-in, the program first.
fn host_and_add_in(home: &Home) -> Copies {
    let mut copies = Copies::start(home, 2);
    for copy in [HOST, ADD_IN] {
        copies.ok(copy, &format!("initialize a {}", home.socket().display()));
    }
    copies
}

/// Whichever copy of the library comes back first after a restart, the first copy is the host again, and the other one may not shut
/// the process down.
///
/// SEED-15, design §3.14
#[test]
fn the_host_is_the_host_after_a_restart() {
    for restart in Restart::BOTH {
        for first in [HOST, ADD_IN] {
            let home = Home::new();
            let mut broker = home.serve();
            let mut copies = host_and_add_in(&home);
            // Only who has a session comes back by itself.
            copies.ok(first, "logon a");
            for _ in 0..3 {
                broker = restart.of(broker, &home);
                copies.ok(first, "wait-for-return a");
                for call in ["query a", "notify a", "do a"] {
                    copies.fails(ADD_IN, call, "MAPI_E_NO_ACCESS");
                }
                copies.ok(HOST, "notify a");
            }
            copies.ok(HOST, "query a");
            copies.ok(HOST, "do a");
            copies.fails(ADD_IN, "logon a", "MAPI_E_NOT_INITIALIZED");
        }
    }
}

/// Both copies have sessions and come back at the same time: the host is the host, however often.
///
/// SEED-15, design §3.14
#[test]
fn the_host_is_the_host_whoever_is_faster() {
    let home = Home::new();
    let mut broker = home.serve();
    let mut copies = host_and_add_in(&home);
    for copy in [HOST, ADD_IN] {
        copies.ok(copy, "logon a");
    }
    for round in 0..10 {
        broker = Restart::BOTH[round % 2].of(broker, &home);
        for copy in [HOST, ADD_IN] {
            copies.ok(copy, "wait-for-return a");
        }
        copies.fails(ADD_IN, "query a", "MAPI_E_NO_ACCESS");
        copies.ok(HOST, "notify a");
    }
    copies.ok(HOST, "query a");
    copies.ok(HOST, "do a");
}

/// A verdict is what it was after a restart, whatever the providers say by then and whoever asks; the ticket outlives the library's
/// own end, too. A yes is acted on, a no cannot be got around.
///
/// SEED-12, design §3.6
#[test]
fn a_verdict_is_what_it_was_after_a_restart() {
    let refuses = "[[address_book]]\nfast_shutdown = \"refused\"\n";
    for restart in Restart::BOTH {
        for (before, after) in [("", refuses), (refuses, "")] {
            let home = Home::new();
            home.profile("default", before);
            let mut broker = home.serve();
            let mut copies = host_and_add_in(&home);
            // Another copy that speaks for the host knows of the answer by the broker alone.
            let key = copies.ok(HOST, "key a");
            copies.ok(HOST, "logon a");
            copies.ok(ADD_IN, "uninitialize a");
            let initialize = format!("initialize a {} {key}", home.socket().display());
            copies.ok(ADD_IN, &initialize);
            let said = copies.ask(HOST, "query a");
            assert_eq!(said == "ok", before.is_empty(), "{said}");
            home.profile("default", after);
            broker = restart.of(broker, &home);
            copies.ok(HOST, "wait-for-return a");
            copies.ok(HOST, "uninitialize a");
            copies.ok(HOST, &initialize);
            copies.ok(HOST, "logon a");
            for copy in [ADD_IN, HOST] {
                let again = copies.ask(copy, "query a");
                assert_eq!(again == "ok", said == "ok", "{copy}: {again}");
            }
            let pid = copies.pid();
            if before.is_empty() {
                copies.ok(HOST, "do a");
                continue;
            }
            copies.fails(ADD_IN, "do a", "MAPI_E_NO_SUPPORT");
            copies.fails(HOST, "do a", "MAPI_E_NO_SUPPORT");
            assert_eq!(calls(&broker, "DoFastShutdown", pid), 0);
        }
    }
}
