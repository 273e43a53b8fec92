//! What the broker costs, beside floors and peers, measured in one run on one machine.
//!
//! ```text
//! cargo bench --bench compare                         every measure
//! cargo bench --bench compare -- --only submit        those with that word in their name
//! cargo bench --bench compare -- --rounds 50          instead of 25
//! cargo bench --bench compare -- --json FILE          for programs, too
//! cargo bench --bench compare -- --page               writes them into docs/performance.md
//! cargo bench --bench compare -- --growth --page      how cost grows, with the pictures of that page
//! cargo bench --bench compare -- --only account --page    only those of an account, which have a section of their own
//! cargo bench --bench compare -- --growth --long      with a million messages in an account, too
//! cargo bench --bench compare -- --messages 10000     instead of 100,000 in an account
//! benches/peers                                       fetches the peers that are missing
//! ```
//!
//! ```text
//! requests  sessions  notices  submits  sendmail  python  smtp  receiving  imap  bystanders  flood  starts   the measures
//! growth    page  plot                                                         how they grow, and what is shown
//! measure   things that are timed in turns, and what the times say             load   many clients in one loop
//! wire      our broker       floor   what the machine does without one         peers, bus, postfix, dovecot, mirrors   programs that do something alike
//! ```
//!
//! Everything is on one processor, so that both sides are scheduled alike. Quote the ratios: the absolute times are the machine's.

mod bus;
mod bystanders;
mod dovecot;
mod flood;
mod floor;
mod growth;
mod imap;
mod load;
mod measure;
mod mirrors;
mod notices;
mod page;
mod peers;
mod plot;
mod postfix;
mod python;
mod receiving;
mod requests;
mod sendmail;
mod sessions;
mod smtp;
mod starts;
mod submits;
mod wire;

use std::path::Path;
use std::process::ExitCode;

use serde_json::{Value, json};

use floor::{Does, Floor};
use growth::Growth;
use measure::Line;
use peers::Peer;
use wire::{Broker, CROWD};

/// Enough for ten thousand clients of each of two servers.
const DESCRIPTORS: u64 = 1 << 16;

/// What is asked for on the command line.
// Each is an option.
#[allow(clippy::struct_excessive_bools)]
struct Asked {
    rounds: usize,
    only: Option<String>,
    json: Option<String>,
    page: bool,
    growth: bool,
    /// Whether there may be a million messages in an account.
    long: bool,
    /// How many there are in the account of the table.
    messages: usize,
    /// `cargo test --benches` wants to know that it runs, and not how fast.
    test: bool,
}

/// Everything that runs beside each other.
struct Bench<'a> {
    home: &'a Path,
    broker: Broker,
    echo: Floor,
    relay: Floor,
    redis: Option<Peer>,
    bus: Option<Peer>,
    dbus_broker: Option<Peer>,
    nats: Option<Peer>,
    /// How many a process may have.
    descriptors: usize,
    asked: Asked,
}

fn main() -> ExitCode {
    if let Ok(words) = std::env::var(floor::FLOOR) {
        Floor::serve(&words);
        return ExitCode::SUCCESS;
    }
    if let Ok(words) = std::env::var(flood::FLOOD) {
        flood::flood(&words);
        return ExitCode::SUCCESS;
    }
    if let Some(mut again) = peers::again_beside_them() {
        let status = again.status().expect("it starts");
        return if status.success() { ExitCode::SUCCESS } else { ExitCode::FAILURE };
    }
    let asked = Asked::read();
    let descriptors = raise_descriptor_limit();
    // Children inherit it.
    let mut one = rustix::thread::CpuSet::new();
    one.set(rustix::thread::sched_getcpu());
    let pinned = rustix::thread::sched_setaffinity(None, &one).is_ok();
    let home = tempfile::tempdir().expect("a directory");
    let home = home.path();
    let bench = Bench {
        broker: Broker::with(&home.join("broker"), CROWD, &[]),
        echo: Floor::start(Does::Echo, &home.join("echo.sock")),
        relay: Floor::start(Does::Relay, &home.join("relay.sock")),
        redis: peers::redis(home),
        bus: peers::bus(home),
        dbus_broker: peers::dbus_broker(home),
        nats: peers::nats(home),
        home,
        descriptors,
        asked,
    };
    let cpus = if pinned { "everything on one processor" } else { "not pinned" };
    let rounds = if bench.asked.growth { bench.growth_rounds() } else { bench.asked.rounds };
    let machine = page::machine();
    let how = format!("{rounds} rounds in turns, medians, {cpus}; {machine}.");
    let figures = if bench.asked.growth { bench.show_growth(&how) } else { bench.show_lines(&how) };
    if let Some(file) = &bench.asked.json {
        let all = json!({ "machine": machine, "rounds": rounds, "figures": figures });
        std::fs::write(file, all.to_string()).expect("written");
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
        let (only, page) = (after("--only"), words.iter().any(|word| word == "--page"));
        let is_whole = only.as_deref().is_none_or(|only| only == ACCOUNT);
        assert!(!page || is_whole, "a section has everything: --page alone or with --only account");
        let rounds = after("--rounds").and_then(|n| n.parse().ok()).unwrap_or(25);
        Self {
            rounds: if test { 1 } else { rounds },
            only,
            json: after("--json"),
            page,
            growth: words.iter().any(|word| word == "--growth"),
            long: words.iter().any(|word| word == "--long"),
            messages: after("--messages").and_then(|n| n.parse().ok()).unwrap_or(100_000),
            test,
        }
    }

    /// A number that is small when it only matters that it runs.
    fn scaled(&self, number: usize) -> usize {
        if self.test { number.min(100) } else { number }
    }

    fn wants(&self, name: &str) -> bool {
        self.only.as_deref().is_none_or(|only| name.contains(only))
    }

    /// How many messages the account has.
    fn messages(&self) -> usize {
        self.scaled(self.messages)
    }
}

/// What the measures of an account at a server are called. They have sections of their own in the page.
const ACCOUNT: &str = "account";

/// Measures something.
type Method<B, T> = fn(&B) -> T;

impl Bench<'_> {
    /// The table, here and in the page.
    fn show_lines(&self, how: &str) -> Vec<Value> {
        println!("{how} Middle half: of the rounds' ratios.\n");
        print!("{}", Line::heading());
        let (others, account) = (self.run(false), self.run(true));
        for (section, lines) in [("table", &others), ("account", &account)] {
            if self.asked.page && !lines.is_empty() {
                page::write_lines(section, lines, how);
            }
        }
        others.iter().chain(&account).map(Line::value).collect()
    }

    /// How it grows, here and in the page.
    fn show_growth(&self, how: &str) -> Vec<Value> {
        println!("{how}\n");
        let others = self.growth();
        let account = if self.asked.wants(ACCOUNT) { self.with_an_account() } else { Vec::new() };
        for (section, all) in [("growth", &others), ("growth of an account", &account)] {
            if self.asked.page && !all.is_empty() {
                page::write_growth(section, all, how);
            }
        }
        others.iter().chain(&account).map(Growth::value).collect()
    }

    /// The measures of an account, or the others.
    fn run(&self, of_account: bool) -> Vec<Line> {
        let all: [(&str, Method<Self, Vec<Line>>); 19] = [
            ("request round trip", Self::round_trip),
            ("request throughput", Self::throughput),
            ("notification", Self::notices),
            ("shared logoff", Self::shared_logoff),
            ("idle members, memory", Self::idle),
            ("logon and logoff", Self::logon_and_logoff),
            ("fast shutdown", Self::fast_shutdown),
            ("durable submit, 1 client", Self::submit_alone),
            ("durable submits, many clients", Self::submit_together),
            ("sendmail", Self::sendmail),
            ("Python", Self::python),
            ("SMTP hand-over", Self::smtp),
            ("new mail", Self::receiving),
            ("account, syncs", Self::account),
            ("account, programs", Self::account_of_many),
            ("account, bystanders", Self::account_bystanders),
            ("slowest hundredth of everybody else", Self::bystanders),
            ("beside a flood", Self::floods),
            ("cold start", Self::starts),
        ];
        let is_asked =
            |name: &str| self.asked.wants(name) && name.starts_with(ACCOUNT) == of_account;
        let mut lines = Vec::new();
        for (_, measure) in all.into_iter().filter(|(name, _)| is_asked(name)) {
            let measured = measure(self);
            for line in &measured {
                print!("{}", line.text());
            }
            lines.extend(measured);
        }
        lines
    }

    /// A broker beside the one that all share.
    fn another(&self, name: &str, settings: &str) -> Broker {
        Broker::with(&self.home.join(name), settings, &[])
    }
}

/// For us and for what we start. Root may have more than it was given.
fn raise_descriptor_limit() -> usize {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let most = |maximum| setrlimit(Resource::Nofile, Rlimit { current: maximum, maximum });
    let hard = getrlimit(Resource::Nofile).maximum;
    let few = hard.is_some_and(|hard| hard < DESCRIPTORS);
    if !few || most(Some(DESCRIPTORS)).is_err() {
        let _ = most(hard);
    }
    getrlimit(Resource::Nofile).current.map_or(usize::MAX, |limit| limit as usize)
}
