//! What leaving, asking and handing over cost, each beside a floor measured in the same run.
//!
//! ```text
//! cargo bench --bench lifecycle
//! ```
//!
//! Everything is timed from one client over a Unix socket, in rounds that take turns, so that a machine that gets slower
//! for a while does so for both. Quote the ratios: the absolute times are the machine's.

mod floor;
mod wire;

use std::process::ExitCode;
use std::time::{Duration, Instant};

use sundown_protocol::request::{
    Blob, Content, Durability, Logoff, LogoffFlags, Logon, LogonFlags, Opening, Submit,
};
use sundown_protocol::{MemberId, ObjectId, Reply, Request, SubmitKey};

use floor::{Echo, SqliteFloor};
use wire::{Broker, Client};

/// Rounds of each measure; the median counts.
const ROUNDS: usize = 25;
/// Requests in a round where one is too short to be timed.
const BATCH: usize = 2_000;
/// Processes that come and go in a round.
const PROCESSES: u32 = 100;
/// Messages that are submitted in a round.
const MESSAGES: u32 = 50;
/// What "many open objects" are.
const MANY: usize = 100_000;

fn main() -> ExitCode {
    if let Some(path) = std::env::var_os(floor::ECHO) {
        floor::serve_echo(path.as_ref());
        return ExitCode::SUCCESS;
    }
    // `cargo test --benches` wants to know that it runs, and not how fast.
    let rounds = if std::env::args().any(|a| a == "--test") { 1 } else { ROUNDS };
    // One processor for everybody, so that both sides of a line are scheduled alike; children inherit it.
    let mut one = rustix::thread::CpuSet::new();
    one.set(rustix::thread::sched_getcpu());
    let pinned = rustix::thread::sched_setaffinity(None, &one).is_ok();
    let home = tempfile::tempdir().expect("a directory");
    let broker = Broker::start(home.path());
    let echo = Echo::start(&home.path().join("echo.sock"));
    let cpus = if pinned { "all on one processor" } else { "not pinned" };
    println!("{rounds} rounds each, medians; both sides of a line took turns, {cpus}\n");
    println!("{:<44} {:>12} {:>12} {:>7}  floor", "measure", "sundown", "floor", "ratio");
    round_trip(&broker, &echo, rounds);
    logon_and_logoff(&broker, &echo, rounds);
    durable_submit(&broker, &echo, home.path(), rounds);
    fast_shutdown(&broker, rounds);
    ExitCode::SUCCESS
}

/// Times two things in turn; the median of each.
fn compare(
    rounds: usize,
    mut a: impl FnMut() -> Duration,
    mut b: impl FnMut() -> Duration,
) -> [Duration; 2] {
    let mut times = [Vec::new(), Vec::new()];
    // The first of each is not counted.
    for round in 0..=rounds {
        let pair = [a(), b()];
        if round > 0 {
            times[0].push(pair[0]);
            times[1].push(pair[1]);
        }
    }
    times.map(|mut times| {
        times.sort_unstable();
        times[times.len() / 2]
    })
}

fn line(measure: &str, [ours, floor]: [Duration; 2], of: &str) {
    let ratio = ours.as_secs_f64() / floor.as_secs_f64();
    let micros = |d: Duration| format!("{:.1} µs", d.as_secs_f64() * 1e6);
    println!("{measure:<44} {:>12} {:>12} {ratio:>7.2}  {of}", micros(ours), micros(floor));
}

fn timed(work: impl FnOnce()) -> Duration {
    let began = Instant::now();
    work();
    began.elapsed()
}

fn round_trip(broker: &Broker, echo: &Echo, rounds: usize) {
    let mut client = broker.connect();
    let member = log_on(&mut client);
    let mut plain = echo.connect();
    let [ours, floor] = compare(
        rounds,
        || {
            timed(|| {
                for _ in 0..BATCH / 2 {
                    let object = open(&mut client, member);
                    client.ask(Request::Release { member, object }).expect("released");
                }
            })
        },
        || timed(|| (0..BATCH).for_each(|_| plain.round_trip(36))),
    );
    let one = |d: Duration| d / BATCH as u32;
    line("request round trip, 1 client", [one(ours), one(floor)], "epoll echo, same socket type");
}

fn logon_and_logoff(broker: &Broker, echo: &Echo, rounds: usize) {
    // Somebody else keeps the session, as on a machine where it is shared.
    let mut keeper = broker.connect();
    log_on(&mut keeper);
    let times = compare(
        rounds,
        || {
            timed(|| {
                for _ in 0..PROCESSES {
                    let mut client = broker.connect();
                    let member = log_on(&mut client);
                    let (flags, drain) = (LogoffFlags::default(), None);
                    let logoff = Request::Logoff(Logoff { member, flags, drain });
                    client.ask(logoff).expect("logged off");
                }
            })
        },
        || {
            timed(|| {
                for _ in 0..PROCESSES {
                    // A hello, a logon and a logoff are three round trips.
                    let mut plain = echo.connect();
                    (0..3).for_each(|_| plain.round_trip(48));
                }
            })
        },
    );
    line(
        "connect, hello, logon, logoff of one process",
        times.map(|d| d / PROCESSES),
        "connect, three echoes, close",
    );
}

fn durable_submit(broker: &Broker, echo: &Echo, home: &std::path::Path, rounds: usize) {
    let mut client = broker.connect();
    // Without mail nothing is sent meanwhile: what is timed is the hand-over alone.
    let member = log_on_with(&mut client, LogonFlags::NO_MAIL);
    let mut plain = echo.connect();
    let mut sqlite = SqliteFloor::open(&home.join("floor.db"));
    let body = [b"To: you@localhost\nSubject: x\n\n".to_vec(), vec![b'x'; 4_000]].concat();
    let times = compare(
        rounds,
        || {
            timed(|| {
                for _ in 0..MESSAGES {
                    let submit = Submit {
                        member,
                        store: 0,
                        key: SubmitKey(wire::chance()),
                        from: None,
                        recipients: vec!["you@localhost".into()],
                        content: Content::Inline(Blob(body.clone())),
                        when: Durability::Durable,
                        report: sundown_protocol::request::Report::default(),
                    };
                    client.ask(Request::Submit(submit)).expect("submitted");
                }
            })
        },
        || {
            timed(|| {
                for _ in 0..MESSAGES {
                    plain.round_trip(body.len());
                    sqlite.commit(&body);
                }
            })
        },
    );
    line(
        "durable submit of 4 kB, 1 client",
        times.map(|d| d / MESSAGES),
        "echo and one FULL commit of the bytes",
    );
}

fn fast_shutdown(broker: &Broker, rounds: usize) {
    let times = compare(rounds, || leave_with(broker, MANY), || leave_with(broker, 1));
    line("DoFastShutdown with 100,000 open objects", times, "the same with one");
}

/// How long a process with so many open objects and one unsaved draft takes to leave.
fn leave_with(broker: &Broker, objects: usize) -> Duration {
    let mut client = broker.connect();
    let member = log_on(&mut client);
    let what = Opening::StatusTable;
    client.ask_many(objects - 1, || Request::Open { member, what: what.clone() });
    // Both are as busy before they leave, so that caches and sleeping threads are the same.
    client.ask_many(MANY - objects, || Request::Flush { member });
    let content = Content::Inline(Blob(b"To: you@localhost\n\nunsaved\n".to_vec()));
    client.ask(Request::Draft { member, store: 0, content }).expect("a draft");
    client.ask(Request::QueryFastShutdown).expect("supported");
    timed(|| {
        client.ask(Request::DoFastShutdown { remembered: false }).expect("done");
    })
}

fn log_on(client: &mut Client) -> MemberId {
    log_on_with(client, LogonFlags::default())
}

fn log_on_with(client: &mut Client, flags: LogonFlags) -> MemberId {
    match client.ask(Request::Logon(Logon { profile: None, flags })) {
        Ok(Reply::LoggedOn(facts)) => facts.member,
        other => panic!("no logon: {other:?}"),
    }
}

fn open(client: &mut Client, member: MemberId) -> ObjectId {
    match client.ask(Request::Open { member, what: Opening::StatusTable }) {
        Ok(Reply::Opened(object)) => object,
        other => panic!("not opened: {other:?}"),
    }
}
