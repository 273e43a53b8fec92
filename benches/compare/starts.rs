//! From the start of the program until it accepts.

use std::path::{Path, PathBuf};
use std::time::Instant;

use rusqlite::Connection;
use sundown_protocol::request::LogonFlags;

use crate::Bench;
use crate::bystanders::{silence, silent_profile};
use crate::measure::{Line, Unit};
use crate::wire::{Broker, body, submit};

/// Entries of a large queue.
const MANY: usize = 1_000_000;

impl Bench<'_> {
    pub(crate) fn starts(&self) -> Vec<Line> {
        let home = self.home.join("start");
        Broker::with(&home, "", &[]).stop();
        let times = (0..=self.asked.rounds).map(|_| start(&home)).collect();
        let name = "from start to ready, empty queue";
        let empty = Line::limit(name, "the whole program", Unit::Seconds, 0.015, times);

        let entries = self.asked.scaled(MANY);
        let queue = Queue::of(&self.home.join("queue"), entries);
        let times = (0..=self.asked.rounds.min(10)).map(|_| start(queue.home())).collect();
        let name = "from start to ready, a million in the queue";
        let full = Line::limit(name, "the whole program", Unit::Seconds, 0.1, times);
        vec![empty, full]
    }
}

/// How long a broker takes from its start to being ready, in seconds.
pub(crate) fn start(home: &Path) -> f64 {
    let began = Instant::now();
    let broker = Broker::again(home);
    let took = began.elapsed();
    broker.stop();
    took.as_secs_f64()
}

/// A store with a long queue, and a server that does not answer: nothing of it is sent.
pub(crate) struct Queue {
    home: PathBuf,
    _silence: std::net::TcpListener,
}

impl Queue {
    /// One with so many entries, each submitted or like one that was.
    pub(crate) fn of(home: &Path, entries: usize) -> Self {
        let (silence, port) = silence();
        let broker = Broker::with(home, "", &[("default", &silent_profile(port))]);
        let mut client = broker.connect();
        let member = client.log_on(LogonFlags::default());
        client.ask(submit(member, &body())).expect("submitted");
        broker.stop();
        let queue = Self { home: home.to_owned(), _silence: silence };
        queue.grow(entries - 1);
        queue
    }

    pub(crate) fn home(&self) -> &Path {
        &self.home
    }

    /// Makes so many more of the newest entry: every column is copied but its place, its number, and sums over those.
    pub(crate) fn grow(&self, more: usize) {
        let store = Connection::open(self.home.join("data/default/store.db")).expect("opened");
        store.execute_batch("PRAGMA synchronous = OFF").expect("set");
        let columns: Vec<String> = {
            let mut names =
                store.prepare("SELECT name FROM pragma_table_info('message')").expect("it");
            let names = names.query_map([], |row| row.get(0)).expect("columns");
            names.collect::<Result<_, _>>().expect("names")
        };
        let values = columns.iter().map(|column| match column.as_str() {
            "seq" => "seq + n".to_owned(),
            "record" => "randomblob(16)".to_owned(),
            sum if sum.ends_with("_sum") => "NULL".to_owned(),
            other => other.to_owned(),
        });
        let copy = format!(
            "INSERT INTO message ({}) SELECT {} FROM message,
             (WITH RECURSIVE count(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM count WHERE n < ?1) SELECT n FROM count)
             WHERE seq = (SELECT max(seq) FROM message)",
            columns.join(", "),
            values.collect::<Vec<_>>().join(", ")
        );
        if more > 0 {
            assert_eq!(store.execute(&copy, [more]).expect("copied"), more);
            let reserved =
                "UPDATE meta SET value = (SELECT max(seq) + 1 FROM message) WHERE name = 'seq'";
            assert_eq!(store.execute(reserved, []).expect("reserved"), 1);
        }
        store.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_| Ok(())).expect("moved");
    }
}
