//! Messages that are durable when they are answered.

use std::time::Instant;

use sundown_protocol::request::LogonFlags;

use crate::Bench;
use crate::floor::{ANSWER, AppendFloor, Does, Floor, SqliteFloor};
use crate::measure::{Cost, Goal, Line, Measure, Side, one_by_one};
use crate::wire::{Keys, body, submit, submit_as};

/// Messages that are submitted in a round.
const MESSAGES: usize = 64;

impl Bench<'_> {
    pub(crate) fn submit_alone(&self) -> Vec<Line> {
        let mut client = self.broker.connect();
        // Without mail nothing is sent meanwhile: what is timed is the hand-over alone.
        let member = client.log_on(LogonFlags::NO_MAIL);
        let body = body();
        let messages = self.asked.scaled(MESSAGES);
        let mut plain = self.echo.connect();
        let mut sqlite = SqliteFloor::open(&self.home.join("alone.db"));
        let mut append = AppendFloor::open(&self.home.join("appended"));
        let (bytes, appended) = (body.clone(), body.clone());
        let ours = one_by_one(messages, move || {
            client.ask(submit(member, &body)).expect("submitted");
        });
        let both = one_by_one(messages, move || {
            plain.round_trip(bytes.len());
            sqlite.commit(&bytes);
        });
        let appending = one_by_one(messages, move || append.commit(&appended));
        let measure = Measure::new("durable submit of 4 kB, 1 client", Side::new("sundown", ours))
            .beside(Side::new("echo and SQLite FULL commit", both), Goal::AtMost(1.3))
            .beside(Side::new("append and fdatasync", appending), Goal::None);
        measure.run(self.asked.rounds)
    }

    pub(crate) fn submit_together(&self) -> Vec<Line> {
        let ordered =
            [1, 4, 16, 64].into_iter().flat_map(|n| self.submitted_at_once(n, Keys::OfTime));
        ordered.chain(self.submitted_at_once(64, Keys::ByChance)).collect()
    }

    /// So many clients, each of which hands over a message and then waits.
    fn submitted_at_once(&self, count: usize, keys: Keys) -> Vec<Line> {
        let body = body();
        let mut clients: Vec<_> = (0..count)
            .map(|_| {
                let mut client = self.broker.connect();
                let member = client.log_on(LogonFlags::NO_MAIL);
                (client, member)
            })
            .collect();
        let file = |end: &str| self.home.join(format!("at-once-{count}-{keys:?}.{end}"));
        let stores = Does::Store { together: count, bytes: body.len() };
        let store = Floor::start(stores, &file("sock"));
        let mut plain: Vec<_> = (0..count).map(|_| store.connect()).collect();
        let mut sqlite = SqliteFloor::open(&file("alone"));
        let (bytes, sent) = (body.clone(), body.clone());
        let ours = move || {
            let began = Instant::now();
            for (client, member) in &mut clients {
                client.send(submit_as(*member, keys.make(), &body));
            }
            for (client, _) in &mut clients {
                client.answer().expect("submitted");
            }
            Cost::of(began.elapsed(), count)
        };
        let stored = move || {
            let began = Instant::now();
            for client in &mut plain {
                client.write(&sent);
            }
            for client in &mut plain {
                client.read(ANSWER);
            }
            Cost::of(began.elapsed(), count)
        };
        let committed = move || {
            let began = Instant::now();
            sqlite.commit_together(&bytes, count);
            Cost::of(began.elapsed(), count)
        };
        let goal = match (count, keys) {
            (64, Keys::OfTime) => Goal::AtMost(1.25),
            _ => Goal::None,
        };
        let clients = if count == 1 { "client" } else { "clients" };
        let kind = if keys == Keys::ByChance { ", keys by chance" } else { "" };
        let name = format!("durable submits of 4 kB at once, {count} {clients}{kind}");
        let measure = Measure::new(name, Side::new("sundown", ours))
            .beside(Side::new("epoll, one SQLite commit, answers", stored), goal)
            .beside(Side::new("one SQLite commit alone", committed), Goal::None);
        let lines = measure.run(self.asked.rounds);
        drop(store);
        lines
    }
}
