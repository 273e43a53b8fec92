//! How cost grows: with clients, open objects, the queue, and the size of a message.

use std::time::Instant;

use serde_json::{Value, json};
use sundown_protocol::request::{Blob, Content, Logoff, LogoffFlags, LogonFlags, Opening};
use sundown_protocol::{Request, Token, UploadId, frame};

use crate::floor::{AppendFloor, EchoSpeech, SqliteFloor};
use crate::load::asking;
use crate::measure::{Cost, Measure, Side, Unit, one_by_one};
use crate::starts::{Queue, start};
use crate::wire::{self, Broker, CROWD, SmallRequest, body, submit, submit_content};
use crate::{Bench, Method};

/// Rounds of each point.
const ROUNDS: usize = 5;
/// Pieces of a message that are under way at once: what the broker lends a connection is more.
const PIECES: usize = 8;
/// Durable submits of a round.
const SUBMITS: usize = 32;

/// A profile with the store that it has anyway, at a place of its own.
const STORE: &str = "[[store]]
kind = \"sqlite\"
";

fn private() -> LogonFlags {
    LogonFlags(LogonFlags::NEW_SESSION.0 | LogonFlags::NO_MAIL.0)
}

/// What grows with what.
pub(crate) struct Growth {
    /// The name of its picture.
    pub(crate) name: &'static str,
    pub(crate) title: &'static str,
    /// What there is more and more of.
    pub(crate) of: &'static str,
    pub(crate) curves: Vec<Curve>,
    /// What is counted.
    pub(crate) unit: Unit,
}

/// One thing that grows.
pub(crate) struct Curve {
    pub(crate) name: &'static str,
    pub(crate) points: Vec<(f64, f64)>,
}

impl Growth {
    pub(crate) fn of(name: &'static str, title: &'static str, of: &'static str) -> Self {
        Self { name, title, of, curves: Vec::new(), unit: Unit::Seconds }
    }

    /// What a measure came to, at a place.
    pub(crate) fn add(&mut self, place: usize, measured: Vec<(&'static str, Cost)>) {
        for (name, cost) in measured {
            let found = self.curves.iter().position(|curve| curve.name == name);
            let index = found.unwrap_or_else(|| {
                self.curves.push(Curve { name, points: Vec::new() });
                self.curves.len() - 1
            });
            self.curves[index].points.push((place as f64, cost.each));
        }
        let last = |curve: &Curve| self.unit.short(curve.points.last().expect("one").1);
        let values = self.curves.iter().map(|curve| format!("{} {}", curve.name, last(curve)));
        println!("{}, {place} {}: {}", self.title, self.of, values.collect::<Vec<_>>().join(", "));
    }

    pub(crate) fn value(&self) -> Value {
        let curve = |curve: &Curve| json!({ "name": curve.name, self.unit.name(): curve.points });
        let curves: Vec<_> = self.curves.iter().map(curve).collect();
        json!({ "name": self.name, "title": self.title, "of": self.of, "curves": curves })
    }
}

impl Bench<'_> {
    pub(crate) fn growth(&self) -> Vec<Growth> {
        let all: [(&str, Method<Self, Growth>); 8] = [
            ("clients", Self::with_clients),
            ("objects", Self::with_objects),
            ("queue", Self::with_the_queue),
            ("size", Self::with_the_size),
            ("sessions", Self::with_sessions),
            ("stores", Self::with_stores),
            ("grants", Self::with_grants),
            ("mailbox", Self::with_the_mailbox),
        ];
        let only = self.asked.only.as_deref().unwrap_or_default();
        let asked = all.into_iter().filter(|(name, _)| name.contains(only));
        asked.map(|(_, measure)| measure(self)).collect()
    }

    /// As many places as are asked for, and no more of each than there may be.
    pub(crate) fn places(&self, places: &[usize], most: usize) -> Vec<usize> {
        let mut places: Vec<_> =
            places.iter().map(|place| self.asked.scaled(*place).min(most)).collect();
        places.dedup();
        places
    }

    fn with_clients(&self) -> Growth {
        let mut growth = Growth::of("growth-clients", "A request", "clients at once");
        // As many are connected to the echo.
        let most = self.descriptors / 2 - 250;
        for count in self.places(&[1, 10, 100, 1_000, 10_000], most) {
            let broker = Broker::with(&self.home.join(format!("clients-{count}")), CROWD, &[]);
            let requests = self.asked.scaled(4_000.max(2 * count));
            let ours = asking("sundown", SmallRequest::of(&broker), count, requests, broker.pid());
            let echo = EchoSpeech(&self.echo);
            let echo = asking("epoll echo", echo, count, requests, self.echo.pid());
            growth.add(count, Measure::new("", ours).with(echo).medians(self.growth_rounds()));
        }
        growth
    }

    fn with_objects(&self) -> Growth {
        let mut growth = Growth::of("growth-objects", "Leaving", "open objects");
        let places = self.places(&[1, 10, 100, 1_000, 10_000, 100_000], usize::MAX);
        let many = *places.last().expect("there are some");
        let _keeper = self.keeper();
        for objects in places {
            let mut floor = self.leave_floor(&format!("leave-{objects}.db"));
            let ours = Side::new("DoFastShutdown", || self.leave_with(objects, many));
            let logoff = Side::new("logoff", || self.log_off_with(objects, many));
            let floor = Side::new("echo, commit, hop", move || Cost::of_all(10, &mut floor));
            let measure = Measure::new("", ours).with(logoff).with(floor);
            growth.add(objects, measure.medians(self.growth_rounds()));
        }
        growth
    }

    /// How long the ordinary way takes.
    fn log_off_with(&self, objects: usize, many: usize) -> Cost {
        let mut client = self.broker.connect();
        let member = client.log_on(LogonFlags::default());
        let what = Opening::StatusTable;
        client.ask_many(objects, || Request::Open { member, what: what.clone() });
        // Both are as busy before they leave, so that caches and sleeping threads are the same.
        client.ask_many(many - objects, || Request::Flush { member });
        let began = Instant::now();
        let (flags, drain) = (LogoffFlags::default(), None);
        client.ask(Request::Logoff(Logoff { member, flags, drain })).expect("logged off");
        Cost::of(began.elapsed(), 1)
    }

    fn with_the_queue(&self) -> Growth {
        let mut growth = Growth::of("growth-queue", "A broker", "messages in the queue");
        let queue = Queue::of(&self.home.join("growing"), 1);
        let mut entries = 1;
        for place in self.places(&[1, 10, 100, 1_000, 10_000, 100_000, 1_000_000], usize::MAX) {
            queue.grow(place - entries);
            entries = place;
            let starting = (0..self.growth_rounds()).map(|_| start(queue.home()));
            let mut starting: Vec<_> = starting.collect();
            starting.sort_by(f64::total_cmp);
            let starting = Cost { each: starting[starting.len() / 2], ..Cost::default() };
            let broker = Broker::again(queue.home());
            let mut client = broker.connect();
            let member = client.log_on(LogonFlags::NO_MAIL);
            let (letter, times) = (body(), self.asked.scaled(SUBMITS));
            let submits = one_by_one(times, move || {
                client.ask(submit(member, &letter)).expect("submitted");
            });
            let submits = Measure::new("", Side::new("durable submit", submits));
            let mut measured = vec![("from start to ready", starting)];
            measured.extend(submits.medians(self.growth_rounds()));
            growth.add(place, measured);
            broker.stop();
        }
        growth
    }

    fn with_the_size(&self) -> Growth {
        let mut growth = Growth::of("growth-size", "A durable submit", "bytes in the message");
        let broker = self.another("size", "");
        let mut client = broker.connect();
        let member = client.log_on(LogonFlags::NO_MAIL);
        let mut number = 0;
        let places = [1_000, 10_000, 100_000, 1_000_000, 10_000_000, 50_000_000];
        let places = if self.asked.test { &places[..3] } else { &places };
        for size in places.iter().copied() {
            let line = format!("{}\n", "x".repeat(79));
            let mut letter = b"To: you@localhost\n\n".to_vec();
            letter.extend(line.bytes().cycle().take(size - letter.len()));
            let times = self.asked.scaled((20_000_000 / size).clamp(1, SUBMITS));
            let mut one = || {
                if letter.len() <= frame::MAX_BLOB {
                    client.ask(submit(member, &letter)).expect("submitted");
                    return;
                }
                number += 1;
                let upload = UploadId(number);
                let pieces: Vec<_> = letter.chunks(frame::MAX_BLOB).collect();
                for some in pieces.chunks(PIECES) {
                    for bytes in some {
                        let bytes = Blob(bytes.to_vec());
                        client.send(Request::Upload { member, store: 0, upload, bytes });
                    }
                    for _ in some {
                        client.answer().expect("taken");
                    }
                }
                let content = Content::Uploaded(upload);
                client.ask(submit_content(member, content)).expect("submitted");
            };
            let file = format!("size-{:x}", wire::chance());
            let mut sqlite = SqliteFloor::open(&self.home.join(format!("{file}.db")));
            let mut append = AppendFloor::open(&self.home.join(&file));
            let bytes = letter.as_slice();
            let measure = Measure::new("", Side::new("sundown", one_by_one(times, &mut one)))
                .with(Side::new("SQLite commit", one_by_one(times, || sqlite.commit(bytes))))
                .with(Side::new("append, fdatasync", one_by_one(times, || append.commit(bytes))));
            growth.add(size, measure.medians(self.growth_rounds()));
        }
        growth
    }

    /// Private sessions.
    fn with_sessions(&self) -> Growth {
        let mut growth = Growth::of("growth-sessions", "A request beside them", "sessions");
        let broker = Broker::with(&self.home.join("many-sessions"), CROWD, &[("default", STORE)]);
        let mut crowd = broker.connect();
        let mut there = 0;
        for place in self.places(&[1, 10, 100, 1_000, 4_000], usize::MAX) {
            for _ in there..place {
                crowd.log_on(private());
            }
            there = place;
            growth.add(place, self.beside(&broker, None));
        }
        broker.stop();
        growth
    }

    /// Stores that are open, each of a profile of its own.
    fn with_stores(&self) -> Growth {
        let mut growth = Growth::of("growth-stores", "A request beside them", "open stores");
        let places = self.places(&[1, 10, 100, 400], usize::MAX);
        let most = *places.last().expect("there are some");
        let names: Vec<_> = (0..most).map(|number| format!("p{number}")).collect();
        let profiles: Vec<_> = names.iter().map(|name| (name.as_str(), STORE)).collect();
        let broker = Broker::with(&self.home.join("many-stores"), CROWD, &profiles);
        let mut crowd = broker.connect();
        let mut there = 0;
        for place in places {
            for name in &names[there..place] {
                crowd.log_on_to(Some(name), LogonFlags::NO_MAIL);
            }
            there = place;
            growth.add(place, self.beside(&broker, Some("p0")));
        }
        broker.stop();
        growth
    }

    /// What others do beside a crowd: a request, a logon with its logoff, and a durable submit.
    fn beside(&self, broker: &Broker, profile: Option<&str>) -> Vec<(&'static str, Cost)> {
        let mut client = broker.connect();
        let member = client.log_on_to(profile, LogonFlags::NO_MAIL);
        let request = one_by_one(self.asked.scaled(1_000), move || {
            client.ask(Request::Flush { member }).expect("answered");
        });
        let mut comer = broker.connect();
        let comes_and_goes = one_by_one(self.asked.scaled(200), move || {
            let member = comer.log_on_to(profile, private());
            let (flags, drain) = (LogoffFlags::default(), None);
            comer.ask(Request::Logoff(Logoff { member, flags, drain })).expect("logged off");
        });
        let measure = Measure::new("", Side::new("request", request));
        measure.with(Side::new("logon, logoff", comes_and_goes)).medians(self.growth_rounds())
    }

    /// Grants that nobody has redeemed.
    fn with_grants(&self) -> Growth {
        let mut growth = Growth::of("growth-grants", "A grant and its end beside them", "grants");
        let broker = Broker::with(&self.home.join("many-grants"), CROWD, &[("default", STORE)]);
        let mut crowd = broker.connect();
        let mut there = 0;
        for place in self.places(&[1, 10, 100, 1_000, 10_000, 100_000], usize::MAX) {
            // A member has so many at once.
            while there < place {
                let some = (place - there).min(1_000);
                let member = crowd.log_on(LogonFlags::NO_MAIL);
                crowd.grant(member, there..there + some);
                there += some;
            }
            let mut other = broker.connect();
            let member = other.log_on(LogonFlags::NO_MAIL);
            let object = other.open_inbox(member);
            let token = Token(u128::MAX - place as u128);
            let grants = one_by_one(self.asked.scaled(500), move || {
                other.ask(Request::Grant { member, object, token, pid: None }).expect("granted");
                other.ask(Request::Revoke { member, token }).expect("revoked");
            });
            let measure = Measure::new("", Side::new("grant, revoke", grants));
            growth.add(place, measure.medians(self.growth_rounds()));
        }
        broker.stop();
        growth
    }

    pub(crate) fn growth_rounds(&self) -> usize {
        self.asked.rounds.min(ROUNDS)
    }
}
