//! Processes that come, stay and leave.

use std::time::Instant;

use sundown_protocol::request::{
    AdviseSource, Blob, Content, Logoff, LogoffFlags, LogonFlags, Opening,
};
use sundown_protocol::{Events, Request};

use crate::Bench;
use crate::floor::{Hop, SqliteFloor, WriteLoop};
use crate::measure::{Cost, Goal, Line, Measure, Side, Unit};
use crate::wire::{Broker, CROWD, Client};

/// Processes that come and go in a round.
const PROCESSES: usize = 100;
/// What "many open objects" are.
const MANY: usize = 100_000;
/// Members that a shared logoff is told to.
const TOLD: usize = 5_000;
/// Members of which the memory is weighed.
const IDLE: usize = 10_000;
/// Round trips of a process before it shuts down fast: hello, logon, a draft, and the query.
const COMING: usize = 4;
/// What a process that shuts down fast has not saved.
const DRAFT: &[u8] = b"To: you@localhost\n\nunsaved\n";

impl Bench<'_> {
    pub(crate) fn logon_and_logoff(&self) -> Vec<Line> {
        let broker = self.another("logons", "");
        // Somebody else keeps the session, as on a machine where it is shared.
        let mut keeper = broker.connect();
        keeper.log_on(LogonFlags::default());
        let processes = self.asked.scaled(PROCESSES);
        let ours = || {
            let began = Instant::now();
            for _ in 0..processes {
                let (mut client, member) = broker.connect_and_log_on(LogonFlags::default());
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
        let measure =
            Measure::new("connect, logon, logoff of one process", Side::new("sundown", ours))
                .beside(Side::new("connect, one echo, close", floor(1)), Goal::AtMost(2.0))
                .beside(Side::new("connect, two echoes, close", floor(2)), Goal::None);
        measure.run(self.asked.rounds)
    }

    pub(crate) fn fast_shutdown(&self) -> Vec<Line> {
        let _keeper = self.keeper();
        let many = self.asked.scaled(MANY);
        let flat = Measure::new(
            "DoFastShutdown, 100,000 open objects",
            Side::new("sundown", || self.leave_with(many, many)),
        )
        .beside(Side::new("the same with one", || self.leave_with(1, many)), Goal::AtMost(1.1));
        let mut lines = flat.run(self.asked.rounds.min(10));
        let mut floor = self.leave_floor("leave.db");
        let times = self.asked.scaled(20);
        let alone = Measure::new(
            "DoFastShutdown, one object and a draft",
            Side::new("sundown", move || Cost::of_all(times, || self.leave_with(1, 1))),
        )
        .beside(
            Side::new("echo, SQLite FULL commit, hop", move || Cost::of_all(times, &mut floor)),
            Goal::AtMost(1.2),
        );
        lines.extend(alone.run(self.asked.rounds));
        lines
    }

    /// Somebody else who keeps the session, as on a machine where it is shared.
    pub(crate) fn keeper(&self) -> Client {
        let mut keeper = self.broker.connect();
        keeper.log_on(LogonFlags::default());
        keeper
    }

    /// A round trip, a synced commit of what was not saved, and a change of threads there and back.
    pub(crate) fn leave_floor(&self, name: &str) -> impl FnMut() -> Cost + use<> {
        let (mut plain, hop) = (self.echo.connect(), Hop::start());
        let mut sqlite = SqliteFloor::open(&self.home.join(name));
        move || {
            // Whoever leaves has come before, which is not timed either.
            (0..COMING).for_each(|_| plain.round_trip(24));
            let began = Instant::now();
            plain.round_trip(24);
            hop.round_trip();
            sqlite.commit(DRAFT);
            Cost::of(began.elapsed(), 1)
        }
    }

    /// How long a process with so many open objects and one unsaved draft takes to leave.
    pub(crate) fn leave_with(&self, objects: usize, many: usize) -> Cost {
        leave(&self.broker, objects, many)
    }

    pub(crate) fn shared_logoff(&self) -> Vec<Line> {
        let told = self.asked.scaled(TOLD);
        let mut floor = WriteLoop::new(told);
        let floor = move || {
            let began = Instant::now();
            floor.write(&[0; 64]);
            Cost::of(began.elapsed(), 1)
        };
        let measure = Measure::new(
            "shared logoff, told to 5,000 members",
            Side::new("sundown", || self.end_for_all(told)),
        )
        .beside(Side::new("one loop of writes, and the reads", floor), Goal::AtMost(1.3));
        // A round takes as long as all of them need to log on.
        measure.run(self.asked.rounds.min(5))
    }

    /// From the request until the last one has heard: who asked may have its answer before everybody is told.
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
        others.iter_mut().for_each(Client::hear);
        Cost::of(began.elapsed(), 1)
    }

    /// Members that do nothing, each a process of its own, in a broker that has had none yet.
    pub(crate) fn idle(&self) -> Vec<Line> {
        // The broker has two descriptors for each, its socket and what says when the process ends, and keeps some for itself.
        let idle = self.asked.scaled(IDLE).min(self.descriptors / 2 - 150);
        let broker = self.another("idle", CROWD);
        broker.connect().log_on(LogonFlags::default());
        let before = resident(broker.pid());
        let clients: Vec<_> = (0..idle)
            .map(|_| {
                let mut client = broker.connect();
                client.log_on(LogonFlags::default());
                client
            })
            .collect();
        let after = resident(broker.pid());
        drop::<Vec<Client>>(clients);
        let each = (after.saturating_sub(before)) as f64 / idle as f64;
        let name = format!("memory of an idle member, {idle} processes");
        vec![Line::limit(name, "of the broker's process", Unit::Bytes, 8192.0, vec![each])]
    }
}

/// How long a process with so many open objects and one unsaved draft takes to leave a broker.
pub(crate) fn leave(broker: &Broker, objects: usize, many: usize) -> Cost {
    let mut client = broker.connect();
    let member = client.log_on(LogonFlags::default());
    let what = Opening::StatusTable;
    client.ask_many(objects - 1, || Request::Open { member, what: what.clone() });
    // Both are as busy before they leave, so that caches and sleeping threads are the same.
    client.ask_many(many - objects, || Request::Flush { member });
    let content = Content::Inline(Blob(DRAFT.to_vec()));
    client.ask(Request::Draft { member, store: 0, content }).expect("a draft");
    client.ask(Request::QueryFastShutdown).expect("supported");
    let began = Instant::now();
    client.ask(Request::DoFastShutdown { remembered: false }).expect("done");
    Cost::of(began.elapsed(), 1)
}

/// Bytes of memory that a process has.
pub(crate) fn resident(pid: u32) -> u64 {
    memory(pid, "VmRSS:")
}

/// The most that it has had.
pub(crate) fn peak(pid: u32) -> u64 {
    memory(pid, "VmHWM:")
}

fn memory(pid: u32, name: &str) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).expect("it runs");
    let line = status.lines().find_map(|line| line.strip_prefix(name)).expect("it is there");
    let kilobytes = line.trim().trim_end_matches(" kB").parse::<u64>().expect("a number");
    kilobytes * 1024
}
