//! What the broker costs, beside floors and peers, measured in one run on one machine.
//!
//! ```text
//! cargo bench --bench compare                         every measure
//! cargo bench --bench compare -- --only submit        those with that word in their name
//! cargo bench --bench compare -- --json FILE          for programs, too
//! ```
//!
//! ```text
//! measure   things that are timed in turns, and what the times say
//! load      many clients in one loop
//! wire      our broker          floor   what the machine does without one          peers   programs that do something alike
//! ```
//!
//! Everything is on one processor, so that both sides are scheduled alike. Quote the ratios: the absolute times are the machine's.

mod floor;
mod load;
mod measure;
mod peers;
mod wire;

use std::path::Path;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use serde_json::json;
use sundown_protocol::request::{
    AdviseSource, Blob, Content, Durability, Logoff, LogoffFlags, LogonFlags, Opening, Report,
    Submit,
};
use sundown_protocol::{Events, MemberId, Request, SubmitKey};

use floor::{AppendFloor, Echo, EchoSpeech, SqliteFloor, WriteLoop};
use load::{Clients, Speech};
use measure::{Cost, Goal, Line, Measure, Side};
use peers::{BusGetId, Peer, RedisGet};
use wire::{Broker, SmallRequest};

/// Requests in a round.
const REQUESTS: usize = 4_000;
/// Processes that come and go in a round.
const PROCESSES: usize = 100;
/// Messages that are submitted in a round.
const MESSAGES: usize = 64;
/// What "many open objects" are.
const MANY: usize = 100_000;
/// Members that a shared logoff is told to.
const TOLD: usize = 5_000;
/// Members of which the memory is weighed.
const IDLE: usize = 10_000;

/// What is asked for on the command line.
struct Asked {
    rounds: usize,
    only: Option<String>,
    json: Option<String>,
    /// `cargo test --benches` wants to know that it runs, and not how fast.
    test: bool,
}

/// Everything that runs beside each other.
struct Bench<'a> {
    home: &'a Path,
    broker: Broker,
    echo: Echo,
    redis: Option<Peer>,
    bus: Option<Peer>,
    /// How many a process may have.
    descriptors: usize,
    asked: Asked,
}

fn main() -> ExitCode {
    if let Some(path) = std::env::var_os(floor::ECHO) {
        floor::serve_echo(path.as_ref());
        return ExitCode::SUCCESS;
    }
    let asked = Asked::read();
    let descriptors = raise_descriptor_limit();
    // Children inherit it.
    let mut one = rustix::thread::CpuSet::new();
    one.set(rustix::thread::sched_getcpu());
    let pinned = rustix::thread::sched_setaffinity(None, &one).is_ok();
    let home = tempfile::tempdir().expect("a directory");
    let bench = Bench {
        broker: Broker::start(home.path()),
        echo: Echo::start(&home.path().join("echo.sock")),
        redis: peers::redis(home.path()),
        bus: peers::bus(home.path()),
        home: home.path(),
        descriptors,
        asked,
    };
    let cpus = if pinned { "all on one processor" } else { "not pinned" };
    println!(
        "{} rounds in turns, medians, {cpus}; middle half: of the rounds' ratios\n",
        bench.asked.rounds
    );
    print!("{}", Line::heading());
    let lines = bench.run();
    if let Some(file) = &bench.asked.json {
        let lines: Vec<_> = lines.iter().map(Line::value).collect();
        std::fs::write(file, json!(lines).to_string()).expect("written");
    }
    ExitCode::SUCCESS
}

impl Asked {
    fn read() -> Self {
        let words: Vec<_> = std::env::args().skip(1).collect();
        let after = |option: &str| {
            let place = words.iter().position(|word| word == option)?;
            words.get(place + 1).cloned()
        };
        let test = words.iter().any(|word| word == "--test");
        let rounds = after("--rounds").and_then(|n| n.parse().ok()).unwrap_or(25);
        Self {
            rounds: if test { 1 } else { rounds },
            only: after("--only"),
            json: after("--json"),
            test,
        }
    }

    /// A number that is small when it only matters that it runs.
    fn scaled(&self, number: usize) -> usize {
        if self.test { number.min(100) } else { number }
    }
}

/// One or more lines of the table.
type Method<B> = fn(&B) -> Vec<Line>;

impl Bench<'_> {
    fn run(&self) -> Vec<Line> {
        let all: [(&str, Method<Self>); 8] = [
            ("request round trip", Self::round_trip),
            ("request throughput", Self::throughput),
            ("logon and logoff", Self::logon_and_logoff),
            ("durable submit, 1 client", Self::submit_alone),
            ("durable submit, many clients", Self::submit_together),
            ("fast shutdown", Self::fast_shutdown),
            ("shared logoff", Self::shared_logoff),
            ("idle members, memory", Self::idle),
        ];
        let only = self.asked.only.as_deref().unwrap_or_default();
        let mut lines = Vec::new();
        for (_, measure) in all.into_iter().filter(|(name, _)| name.contains(only)) {
            let measured = measure(self);
            for line in &measured {
                print!("{}", line.text());
            }
            lines.extend(measured);
        }
        lines
    }

    fn round_trip(&self) -> Vec<Line> {
        let requests = self.asked.scaled(REQUESTS);
        let measure = Measure {
            name: "request round trip, 1 client",
            ours: asking("sundown", SmallRequest::of(&self.broker), 1, requests, self.broker.pid()),
            others: vec![(self.echo_side(1, requests), Goal::AtMost(1.15))],
        };
        measure.run(self.asked.rounds)
    }

    fn throughput(&self) -> Vec<Line> {
        let requests = self.asked.scaled(REQUESTS);
        let mut lines = Vec::new();
        for (name, count) in
            [("request throughput, 8 clients", 8), ("request throughput, 64 clients", 64)]
        {
            let ours = asking(
                "sundown",
                SmallRequest::of(&self.broker),
                count,
                requests,
                self.broker.pid(),
            );
            let mut others = vec![(self.echo_side(count, requests), Goal::Times(0.85))];
            if let Some(redis) = &self.redis {
                let side =
                    asking("redis-server GET", RedisGet(redis), count, requests, redis.pid());
                others.push((side, Goal::Times(1.0)));
            }
            if let Some(bus) = &self.bus {
                let side = asking("dbus-daemon GetId", BusGetId(bus), count, requests, bus.pid());
                others.push((side, Goal::Times(2.0)));
            }
            lines.extend(Measure { name, ours, others }.run(self.asked.rounds));
        }
        lines
    }

    fn echo_side(&self, count: usize, requests: usize) -> Side<'_> {
        asking(
            "epoll echo, same socket type",
            EchoSpeech(&self.echo),
            count,
            requests,
            self.echo.pid(),
        )
    }

    fn logon_and_logoff(&self) -> Vec<Line> {
        // Somebody else keeps the session, as on a machine where it is shared.
        let mut keeper = self.broker.connect();
        keeper.log_on(LogonFlags::default());
        let processes = self.asked.scaled(PROCESSES);
        let ours = move || {
            let began = Instant::now();
            for _ in 0..processes {
                let mut client = self.broker.connect();
                let member = client.log_on(LogonFlags::default());
                let (flags, drain) = (LogoffFlags::default(), None);
                client.ask(Request::Logoff(Logoff { member, flags, drain })).expect("logged off");
            }
            Cost::of(began.elapsed(), processes)
        };
        let floor = |trips: usize| {
            move || {
                let began = Instant::now();
                for _ in 0..processes {
                    let mut plain = self.echo.connect();
                    (0..trips).for_each(|_| plain.round_trip(48));
                }
                Cost::of(began.elapsed(), processes)
            }
        };
        let measure = Measure {
            name: "connect, logon, logoff of one process",
            ours: Side::new("sundown", ours),
            others: vec![
                (Side::new("connect, one echo, close", floor(1)), Goal::AtMost(2.0)),
                (Side::new("connect, three echoes, close", floor(3)), Goal::None),
            ],
        };
        measure.run(self.asked.rounds)
    }

    fn submit_alone(&self) -> Vec<Line> {
        let mut client = self.broker.connect();
        // Without mail nothing is sent meanwhile: what is timed is the hand-over alone.
        let member = client.log_on(LogonFlags::NO_MAIL);
        let body = body();
        let messages = self.asked.scaled(MESSAGES);
        let mut plain = self.echo.connect();
        let mut sqlite = SqliteFloor::open(&self.home.join("alone.db"));
        let mut append = AppendFloor::open(&self.home.join("appended"));
        let (bytes, appended) = (body.clone(), body.clone());
        let measure = Measure {
            name: "durable submit of 4 kB, 1 client",
            ours: Side::new(
                "sundown",
                one_by_one(messages, move || {
                    client.ask(submit(member, &body)).expect("submitted");
                }),
            ),
            others: vec![
                (
                    Side::new(
                        "echo and SQLite FULL commit",
                        one_by_one(messages, move || {
                            plain.round_trip(bytes.len());
                            sqlite.commit(&bytes);
                        }),
                    ),
                    Goal::AtMost(1.3),
                ),
                (
                    Side::new(
                        "append and fdatasync",
                        one_by_one(messages, move || append.commit(&appended)),
                    ),
                    Goal::None,
                ),
            ],
        };
        measure.run(self.asked.rounds)
    }

    fn submit_together(&self) -> Vec<Line> {
        let body = body();
        let count = 64;
        let mut clients: Vec<_> = (0..count)
            .map(|_| {
                let mut client = self.broker.connect();
                let member = client.log_on(LogonFlags::NO_MAIL);
                (client, member)
            })
            .collect();
        let mut sqlite = SqliteFloor::open(&self.home.join("together.db"));
        let bytes = body.clone();
        let ours = move || {
            let began = Instant::now();
            for (client, member) in &mut clients {
                client.send(submit(*member, &body));
            }
            for (client, _) in &mut clients {
                client.answer().expect("submitted");
            }
            Cost::of(began.elapsed(), count)
        };
        let floor = move || {
            let began = Instant::now();
            sqlite.commit_together(&bytes, count);
            Cost::of(began.elapsed(), count)
        };
        let measure = Measure {
            name: "durable submit of 4 kB, 64 clients",
            ours: Side::new("sundown", ours),
            others: vec![(Side::new("SQLite, one commit of 64", floor), Goal::Times(0.8))],
        };
        measure.run(self.asked.rounds)
    }

    fn fast_shutdown(&self) -> Vec<Line> {
        let many = self.asked.scaled(MANY);
        let measure = Measure {
            name: "DoFastShutdown, many open objects",
            ours: Side::new("sundown", || self.leave_with(many, many)),
            others: vec![(
                Side::new("the same with one", || self.leave_with(1, many)),
                Goal::AtMost(1.1),
            )],
        };
        measure.run(self.asked.rounds)
    }

    /// How long a process with so many open objects and one unsaved draft takes to leave.
    fn leave_with(&self, objects: usize, many: usize) -> Cost {
        let mut client = self.broker.connect();
        let member = client.log_on(LogonFlags::default());
        let what = Opening::StatusTable;
        client.ask_many(objects - 1, || Request::Open { member, what: what.clone() });
        // Both are as busy before they leave, so that caches and sleeping threads are the same.
        client.ask_many(many - objects, || Request::Flush { member });
        let content = Content::Inline(Blob(b"To: you@localhost\n\nunsaved\n".to_vec()));
        client.ask(Request::Draft { member, store: 0, content }).expect("a draft");
        client.ask(Request::QueryFastShutdown).expect("supported");
        let began = Instant::now();
        client.ask(Request::DoFastShutdown { remembered: false }).expect("done");
        Cost::of(began.elapsed(), 1)
    }

    fn shared_logoff(&self) -> Vec<Line> {
        let told = self.asked.scaled(TOLD);
        let mut floor = WriteLoop::new(told);
        let measure = Measure {
            name: "shared logoff, told to 5,000 members",
            ours: Side::new("sundown", || self.end_for_all(told)),
            others: vec![(
                Side::new("one loop of writes", move || {
                    let began = Instant::now();
                    floor.write(&[0; 64]);
                    Cost::of(began.elapsed(), 1)
                }),
                Goal::AtMost(1.3),
            )],
        };
        // A round takes as long as all of them need to log on.
        measure.run(self.asked.rounds.min(5))
    }

    /// From the request until the last one has heard. Both ends share the processor, so this is more than the writes.
    fn end_for_all(&self, told: usize) -> Cost {
        let mut owner = self.broker.connect();
        let member = owner.log_on(LogonFlags::default());
        let mut others: Vec<_> = (0..told)
            .map(|_| {
                let mut client = self.broker.connect();
                let member = client.log_on(LogonFlags::default());
                let (source, events) = (AdviseSource::Session, Events::CRITICAL_ERROR);
                client.ask(Request::Advise { member, source, events }).expect("registered");
                client
            })
            .collect();
        let began = Instant::now();
        let (flags, drain) = (LogoffFlags::SHARED, None);
        owner.ask(Request::Logoff(Logoff { member, flags, drain })).expect("logged off");
        let took = began.elapsed();
        others.iter_mut().for_each(wire::Client::hear);
        Cost::of(took, 1)
    }

    fn idle(&self) -> Vec<Line> {
        // The broker has two descriptors for each: its socket, and what says when the process ends.
        let idle = self.asked.scaled(IDLE).min(self.descriptors / 2 - 500);
        let before = resident(self.broker.pid());
        let clients: Vec<_> = (0..idle)
            .map(|_| {
                let mut client = self.broker.connect();
                client.log_on(LogonFlags::default());
                client
            })
            .collect();
        let after = resident(self.broker.pid());
        let each = (after.saturating_sub(before)) as f64 / idle as f64;
        println!(
            "{:<42} {:<30} {:>8.1} kB {:>10} {:>7} {:>13}  ≤ 8 kB{}",
            format!("memory of an idle member, {idle}"),
            "of the broker's process",
            each / 1024.0,
            "",
            "",
            "",
            if each <= 8192.0 { "  met" } else { "  NOT MET" }
        );
        drop(clients);
        Vec::new()
    }
}

/// One side: so many clients, each with one request under way.
fn asking<'a, S: Speech + 'a>(
    name: &'static str,
    speech: S,
    count: usize,
    requests: usize,
    server: u32,
) -> Side<'a> {
    let mut clients = Clients::connect(speech, count);
    Side::new(name, move || {
        let before = processor_time(server);
        let (took, mut each) = clients.ask(requests);
        let used = processor_time(server).saturating_sub(before);
        each.sort_unstable();
        Cost {
            p99: Some(each[each.len() * 99 / 100].as_secs_f64()),
            processor: Some(used.as_secs_f64() / requests as f64),
            ..Cost::of(took, requests)
        }
    })
}

/// So many operations, timed one by one.
fn one_by_one(times: usize, mut work: impl FnMut()) -> impl FnMut() -> Cost {
    move || {
        let each = (0..times).map(|_| {
            let began = Instant::now();
            work();
            began.elapsed()
        });
        Cost::of_each(each.collect())
    }
}

fn body() -> Vec<u8> {
    [b"To: you@localhost\nSubject: x\n\n".to_vec(), vec![b'x'; 4_000]].concat()
}

fn submit(member: MemberId, body: &[u8]) -> Request {
    Request::Submit(Submit {
        member,
        store: 0,
        key: SubmitKey(wire::chance()),
        from: None,
        recipients: vec!["you@localhost".into()],
        content: Content::Inline(Blob(body.to_vec())),
        when: Durability::Durable,
        report: Report::default(),
    })
}

/// What a process has used so far, of all its threads. The kernel counts nanoseconds here.
fn processor_time(pid: u32) -> Duration {
    let threads = std::fs::read_dir(format!("/proc/{pid}/task")).into_iter().flatten().flatten();
    let used = threads.filter_map(|thread| {
        let text = std::fs::read_to_string(thread.path().join("schedstat")).ok()?;
        text.split(' ').next()?.parse::<u64>().ok()
    });
    Duration::from_nanos(used.sum())
}

/// Bytes of memory that a process has.
fn resident(pid: u32) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).expect("it runs");
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).expect("it is there");
    let kilobytes = line.trim().trim_end_matches(" kB").parse::<u64>().expect("a number");
    kilobytes * 1024
}

fn raise_descriptor_limit() -> usize {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let limit = getrlimit(Resource::Nofile);
    let _ = setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, maximum: limit.maximum });
    getrlimit(Resource::Nofile).current.map_or(usize::MAX, |limit| limit as usize)
}
