//! Messages that are durable when they are answered.

use std::time::Instant;

use sundown_protocol::request::LogonFlags;

use crate::Bench;
use crate::floor::{AppendFloor, SqliteFloor};
use crate::measure::{Cost, Goal, Line, Measure, Side, one_by_one};
use crate::wire::{body, submit};

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
        let measure =
            Measure::new("durable submit of 4 kB, 64 clients", Side::new("sundown", ours))
                .beside(Side::new("SQLite, one commit of 64", floor), Goal::Times(0.8));
        measure.run(self.asked.rounds)
    }
}
