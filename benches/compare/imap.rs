//! An account at an IMAP server: how soon its messages are in the store, and what programs are told of it.
//!
//! The server, the broker, the floors and the peers share the processor, as everything else does. A floor is a client that reads and
//! throws away, and commits as many bytes with as many rows.

use std::fs;
use std::io::{Read, Write};
use std::ops::Range;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use rusqlite::Connection;
use sundown_protocol::folder::{Filter, Sort};
use sundown_protocol::reply::MailboxState;
use sundown_protocol::request::{Logoff, LogoffFlags, LogonFlags, ReadSource};
use sundown_protocol::{EntryId, MemberId, Reply, Request, SessionId};

use crate::Bench;
use crate::bystanders::silence;
use crate::dovecot::{Dovecot, Talk};
use crate::floor::SqliteFloor;
use crate::growth::Growth;
use crate::measure::{Cost, Goal, Line, Measure, Side, Unit, one_by_one};
use crate::mirrors::Mirror;
use crate::receiving::listener;
use crate::sessions::{leave, peak};
use crate::wire::{Broker, Client, body, submit};

/// Rounds, each of which takes a mailbox anew.
const ROUNDS: usize = 3;

/// offlineimap gets one for so many of everybody else's messages: it takes minutes for all of them.
const TENTH: usize = 10;

/// Messages of a mailbox beside whose first sync others work. It takes longer than their work of a round.
const LARGE: usize = 50_000;

/// Messages that are committed together by a floor.
const TOGETHER: usize = 500;

/// Messages whose flags change in a round.
const FLAGGED: usize = 1_000;

/// Logons of a round.
const LOGONS: usize = 10;

/// Programs that are told.
const PROGRAMS: usize = 10;

/// Messages that programs read, each in all of them.
const READ: usize = 200;

/// Durable submits of a round.
const SUBMITS: usize = 100;

/// Processes that leave in a round.
const LEAVING: usize = 20;

/// What is asked for of each message: the same as the broker asks.
const HEADS: &str = "UID FETCH 1:* (UID FLAGS INTERNALDATE RFC822.SIZE BODY.PEEK[HEADER.FIELDS \
                     (DATE FROM TO CC SUBJECT MESSAGE-ID IN-REPLY-TO)])";

const BODIES: &str = "UID FETCH 1:* (UID BODY.PEEK[])";

/// A message of about this many bytes.
fn letter(number: usize, size: usize) -> Vec<u8> {
    let head = format!(
        "Date: Mon, 1 Jan 2024 10:00:00 +0000\r\nFrom: Anna <anna@example.org>\r\nTo: bob@example.org\r\n\
         Subject: message {number}\r\nMessage-ID: <{number}@example.org>\r\n\r\n"
    );
    let line = format!("{}\r\n", "x".repeat(78));
    let lines = size.saturating_sub(head.len()) / line.len();
    (head + &line.repeat(lines)).into_bytes()
}

/// The bytes of a message of 4 kB, and of its head.
const SIZE: usize = 4 << 10;
const HEAD: usize = 160;

/// An Inbox at the server with so many messages.
struct Account<'a> {
    bench: &'a Bench<'a>,
    server: &'a Dovecot,
    user: String,
    count: usize,
}

impl<'a> Account<'a> {
    fn new(bench: &'a Bench<'a>, server: &'a Dovecot, user: &str, count: usize) -> Self {
        let mut account = Self { bench, server, user: user.to_owned(), count: 0 };
        account.grow(count, SIZE);
        account
    }

    /// Puts more messages in, until there are so many, and has the server read their heads once.
    fn grow(&mut self, count: usize, size: usize) {
        let letters = (self.count..count).map(|number| letter(number, size));
        self.server.fill(&self.user, letters);
        self.count = count;
        let mut talk = self.look();
        talk.run(HEADS);
    }

    fn look(&self) -> Talk {
        let mut talk = self.server.log_on(&self.user);
        talk.run("EXAMINE INBOX");
        talk
    }

    fn profile(&self, bodies: &str) -> String {
        let secret = self.bench.home.join("secret");
        if !secret.exists() {
            fs::write(&secret, "secret\n").expect("written");
            let mode = std::os::unix::fs::PermissionsExt::from_mode(0o600);
            fs::set_permissions(&secret, mode).expect("set");
        }
        profile(self.server.port, &self.user, &secret.display().to_string(), bodies)
    }

    /// A broker that has never seen the account.
    fn broker(&self, bodies: &str) -> Broker {
        self.broker_in(&self.home(), bodies)
    }

    fn broker_in(&self, home: &Path, bodies: &str) -> Broker {
        let _ = fs::remove_dir_all(home);
        Broker::with(home, "", &[("default", &self.profile(bodies))])
    }

    fn home(&self) -> PathBuf {
        self.bench.home.join(format!("account-{}", self.user))
    }

    /// How long it takes until everything is in the store, of each message.
    fn first_sync(&self, bodies: &str) -> Cost {
        let broker = self.broker(bodies);
        let cost = self.sync(&broker);
        broker.stop();
        self.check(bodies);
        cost
    }

    fn sync(&self, broker: &Broker) -> Cost {
        let mut client = broker.connect();
        let began = Instant::now();
        client.log_on(LogonFlags::default());
        is_synced(&mut client);
        Cost::of(began.elapsed(), self.count)
    }

    /// Everything is there that was waited for.
    fn check(&self, bodies: &str) {
        let file = self.home().join("data/default/store.db");
        let store = Connection::open(file).expect("opened");
        let wanted = if bodies == "all" { "AND body <> 0" } else { "" };
        let sql = format!("SELECT count(*) FROM message WHERE folder = 1 {wanted}");
        let there: usize = store.query_row(&sql, [], |row| row.get(0)).expect("a number");
        assert_eq!(there, self.count, "messages in the store");
    }

    /// The same without a broker: read, and committed.
    fn raw_sync(&self, what: &[(&str, usize)]) -> Cost {
        let file = self.bench.home.join("raw.db");
        for end in ["", "-wal", "-shm"] {
            let _ = fs::remove_file(format!("{}{end}", file.display()));
        }
        let mut store = SqliteFloor::open(&file);
        let began = Instant::now();
        let mut talk = self.look();
        for (command, bytes) in what {
            talk.run(command);
            let bytes = vec![b'x'; *bytes];
            let mut left = self.count;
            while left > 0 {
                let some = left.min(TOGETHER);
                store.commit_together(&bytes, some);
                left -= some;
            }
        }
        Cost::of(began.elapsed(), self.count)
    }

    fn mirror(&self, mirror: Mirror) -> Option<PathBuf> {
        mirror.is_here().then(|| self.bench.home.join(format!("{mirror:?}-{}", self.user)))
    }

    /// A peer's first sync.
    fn first_mirror(&self, mirror: Mirror, name: &'static str) -> Option<Side<'_>> {
        let folder = self.mirror(mirror)?;
        Some(Side::new(name, move || {
            mirror.prepare(&folder, self.server.port, &self.user);
            let took = mirror.run(&folder);
            assert_eq!(Mirror::brought(&folder), self.count, "{mirror:?}");
            Cost::of(took, self.count)
        }))
    }

    /// A peer that has everything already.
    fn mirror_again(&self, mirror: Mirror, name: &'static str) -> Option<Side<'_>> {
        let folder = self.mirror(mirror)?;
        mirror.prepare(&folder, self.server.port, &self.user);
        mirror.run(&folder);
        Some(Side::new(name, move || Cost::of(mirror.run(&folder), 1)))
    }
}

fn profile(port: u16, user: &str, secret: &str, bodies: &str) -> String {
    format!(
        "[[mailbox]]\nkind = \"imap\"\nhost = \"127.0.0.1\"\nport = {port}\nsecurity = \"none\"\n\
         username = \"{user}\"\npassword_file = \"{secret}\"\nbodies = \"{bodies}\"\nsent = \"server\"\n"
    )
}

fn mailbox(client: &mut Client) -> Option<MailboxState> {
    match client.ask(Request::Mailboxes { after: SessionId(0) }) {
        Ok(Reply::Mailboxes { mailboxes, .. }) => mailboxes.into_iter().next(),
        other => panic!("no mailboxes: {other:?}"),
    }
}

/// Waits until a mailbox has looked at everything and fetched what it is to fetch.
fn is_synced(client: &mut Client) {
    let is_through = |state: &MailboxState| {
        state.checked.is_some() && state.syncing.is_none() && state.connections > 0
    };
    while !mailbox(client).as_ref().is_some_and(is_through) {
        std::thread::sleep(Duration::from_millis(2));
    }
}

fn sync(client: &mut Client, member: MemberId) {
    match client.ask(Request::Sync { member }) {
        Ok(Reply::Synced(_)) => {}
        other => panic!("not synced: {other:?}"),
    }
}

fn log_off(client: &mut Client, member: MemberId) {
    let (flags, drain) = (LogoffFlags::default(), None);
    client.ask(Request::Logoff(Logoff { member, flags, drain })).expect("logged off");
}

/// The entries of the newest messages of the Inbox.
fn newest(client: &mut Client, member: MemberId, limit: u32) -> Vec<EntryId> {
    let object = client.open_inbox(member);
    let (sort, only) = (Sort::NEWEST, Filter::default());
    let page = Request::Contents { member, object, sort, only, after: None, limit };
    let rows = match client.ask(page) {
        Ok(Reply::Contents { rows, .. }) => rows.into_iter().map(|row| row.entry).collect(),
        other => panic!("no rows: {other:?}"),
    };
    client.ask(Request::Release { member, object }).expect("released");
    rows
}

/// A broker that keeps a session with an account, and a program that comes back to it.
struct Kept<'a> {
    account: &'a Account<'a>,
    broker: Broker,
    _keeper: Client,
}

impl<'a> Kept<'a> {
    /// One that has the whole account already.
    fn new(account: &'a Account<'a>, bodies: &str) -> Self {
        let broker = account.broker_in(&account.home().with_extension("kept"), bodies);
        let mut keeper = broker.connect();
        keeper.log_on(LogonFlags::NO_MAIL);
        account.sync(&broker);
        Self { account, broker, _keeper: keeper }
    }

    /// A program with mail logs on, and everything is looked at.
    fn come(&self) -> Duration {
        let mut client = self.broker.connect();
        let began = Instant::now();
        let member = client.log_on(LogonFlags::default());
        sync(&mut client, member);
        let took = began.elapsed();
        log_off(&mut client, member);
        self.is_alone();
        took
    }

    /// Waits until the server has seen the connection end.
    fn is_alone(&self) {
        while self.account.server.connections() > 0 {
            std::thread::sleep(Duration::from_micros(200));
        }
    }

    /// A bare logon.
    fn log_on(&self) -> Duration {
        let began = Instant::now();
        let talk = self.account.server.log_on(&self.account.user);
        let took = began.elapsed();
        drop(talk);
        self.is_alone();
        took
    }
}

/// Times of so many, one after the other.
fn mean(times: usize, mut one: impl FnMut() -> Duration) -> Cost {
    Cost::of((0..times).map(|_| one()).sum(), times)
}

/// A broker in the middle of a first sync. It ends with this.
struct Busy<'a> {
    account: &'a Account<'a>,
    broker: Broker,
    keeper: Client,
}

impl<'a> Busy<'a> {
    fn begin(account: &'a Account<'a>) -> Self {
        let broker = account.broker("all");
        let mut keeper = broker.connect();
        keeper.log_on(LogonFlags::default());
        let mut busy = Self { account, broker, keeper };
        while busy.done() == 0 {
            std::thread::sleep(Duration::from_millis(1));
        }
        busy
    }

    fn done(&mut self) -> u64 {
        let state = mailbox(&mut self.keeper).and_then(|state| state.syncing);
        state.map_or(0, |syncing| syncing.done)
    }

    /// What was timed beside the sync was beside it to the end.
    fn end(mut self) {
        assert!(
            self.account.bench.asked.test || self.done() > 0,
            "the sync was through too early: {:?}",
            mailbox(&mut self.keeper)
        );
    }
}

impl Bench<'_> {
    /// A server for a measure, or that there is none.
    fn at_a_server(&self, name: &str, measure: impl FnOnce(&Dovecot) -> Vec<Line>) -> Vec<Line> {
        match Dovecot::start(&self.home.join("dovecot").join(name)) {
            Some(server) => measure(&server),
            None => vec![Line::missing(format!("account at a server, {name}"), "dovecot")],
        }
    }

    pub(crate) fn account(&self) -> Vec<Line> {
        self.at_a_server("syncs", |server| self.syncs(server))
    }

    pub(crate) fn account_of_many(&self) -> Vec<Line> {
        self.at_a_server("programs", |server| {
            let mut lines = self.mail_from_server(server);
            lines.extend(self.shared_account(server));
            lines
        })
    }

    pub(crate) fn account_bystanders(&self) -> Vec<Line> {
        self.at_a_server("bystanders", |server| {
            self.beside_a_sync(&Account::new(self, server, "large", self.asked.scaled(LARGE)))
        })
    }

    fn syncs(&self, server: &Dovecot) -> Vec<Line> {
        let account = Account::new(self, server, "many", self.asked.messages());
        let mut lines = self.first_sync(server, &account);
        lines.extend(self.newest_listed(&account));
        let kept = Kept::new(&account, "on-demand");
        lines.extend(self.reconnects(&kept));
        lines.extend(self.flags(&kept));
        lines
    }

    fn account_rounds(&self) -> usize {
        self.asked.rounds.min(ROUNDS)
    }

    fn first_sync(&self, server: &Dovecot, account: &Account<'_>) -> Vec<Line> {
        let few = Account::new(self, server, "few", account.count.div_ceil(TENTH));
        let name = format!("first sync of {} × 4 kB from IMAP, each message", account.count);
        let raw = || account.raw_sync(&[(HEADS, HEAD), (BODIES, SIZE)]);
        let measure = Measure::new(name, Side::new("sundown", || account.first_sync("all")))
            .beside(Side::new("raw fetch, SQLite FULL, 500 a commit", raw), Goal::AtMost(1.5))
            .peer("mbsync", account.first_mirror(Mirror::Mbsync, "mbsync"), Goal::Times(8.0))
            .peer(
                "offlineimap3",
                few.first_mirror(Mirror::Offlineimap, "offlineimap3, a tenth of them"),
                Goal::Times(40.0),
            );
        measure.run(self.account_rounds())
    }

    /// From the logon until the newest messages are listed.
    fn newest_listed(&self, account: &Account<'_>) -> Vec<Line> {
        let values = (0..=self.account_rounds()).map(|_| account.newest_listed()).collect();
        let name = format!("newest 200 of {} listed after logon, first sync", account.count);
        vec![Line::limit(name, "the whole broker", Unit::Seconds, 0.1, values)]
    }

    /// Nothing has changed since the last connection.
    fn reconnects(&self, kept: &Kept<'_>) -> Vec<Line> {
        let (account, times) = (kept.account, self.asked.scaled(LOGONS));
        let name = format!("connecting again, {} messages, nothing changed", account.count);
        let measure = Measure::new(&name, Side::new("sundown", || mean(times, || kept.come())))
            .beside(Side::new("a bare logon", || mean(times, || kept.log_on())), Goal::None)
            .peer("mbsync", account.mirror_again(Mirror::Mbsync, "mbsync"), Goal::Times(50.0));
        let rounds = self.asked.rounds.min(10);
        let mut lines = measure.run(rounds);
        let behind = |_| kept.come().as_secs_f64() - kept.log_on().as_secs_f64();
        let values = (0..=rounds * times).map(behind).collect();
        lines.push(Line::limit(name, "behind a bare logon", Unit::Seconds, 0.002, values));
        lines
    }

    fn flags(&self, kept: &Kept<'_>) -> Vec<Line> {
        let account = kept.account;
        let many = FLAGGED.min(account.count);
        let mut floor = FlagFloor::new(account, many);
        let mut sign = '+';
        let mut change = move || {
            let mut talk = account.server.log_on(&account.user);
            talk.run("ENABLE QRESYNC");
            talk.run("SELECT INBOX");
            let before = talk.number("HIGHESTMODSEQ ").expect("it has one");
            let validity = talk.number("UIDVALIDITY ").expect("it has one");
            talk.run(&format!("UID STORE 1:{many} {sign}FLAGS.SILENT (\\Flagged)"));
            sign = if sign == '+' { '-' } else { '+' };
            drop(talk);
            kept.is_alone();
            (validity, before)
        };
        let since = std::cell::Cell::new((0, 0));
        let ours = || {
            since.set(change());
            Cost::of(kept.come(), 1)
        };
        let name = format!("logon, and {many} flags changed at the server applied");
        Measure::new(name, Side::new("sundown", ours))
            .beside(
                Side::new("raw logon, QRESYNC, SQLite FULL", || floor.read(since.get())),
                Goal::AtMost(2.0),
            )
            .run(self.asked.rounds.min(10))
    }

    /// A message comes to the server, and programs are told.
    fn mail_from_server(&self, server: &Dovecot) -> Vec<Line> {
        let account = Account::new(self, server, "told", 10);
        let broker = account.broker("all");
        account.sync(&broker);
        let mut clients: Vec<_> = (0..PROGRAMS).map(|_| listener(&broker)).collect();
        is_synced(&mut clients[0]);
        let mut bare = IdleReader::start(&account);
        let mut other = server.log_on(&account.user);
        let mut number = account.count;
        // What arrives before the broker waits is told sooner.
        let mut one = || {
            std::thread::sleep(Duration::from_millis(100));
            number += 1;
            let letter = letter(number, SIZE);
            let command = format!("APPEND INBOX {{{}+}}\r\n", letter.len());
            other.run(&(command + &String::from_utf8_lossy(&letter)));
            bare.arrives();
            clients.iter_mut().for_each(Client::hear);
            bare.told.elapsed().as_secs_f64()
        };
        let values = (0..=self.asked.rounds).map(|_| one()).collect();
        let name = format!("new mail of 4 kB at a server, told to {PROGRAMS} programs");
        vec![Line::limit(
            name,
            "behind IDLE, fetch, SQLite FULL, tell",
            Unit::Seconds,
            0.005,
            values,
        )]
    }

    /// Programs that share an account: how much the server has to do for them.
    fn shared_account(&self, server: &Dovecot) -> Vec<Line> {
        let account = Account::new(self, server, "shared", READ);
        while server.connections() > 0 {
            std::thread::sleep(Duration::from_millis(1));
        }
        let before = server.bodies(&account.user).len();
        let broker = account.broker("all");
        let mut most = 0;
        let mut clients: Vec<_> = (0..PROGRAMS).map(|_| broker.connect()).collect();
        let members: Vec<_> =
            clients.iter_mut().map(|client| client.log_on(LogonFlags::default())).collect();
        is_synced(&mut clients[0]);
        for (client, member) in clients.iter_mut().zip(&members) {
            most = most.max(server.connections());
            for entry in newest(client, *member, READ as u32) {
                let source = ReadSource::Entry(entry);
                match client.ask(Request::Read { member: *member, source, offset: 0 }) {
                    Ok(Reply::Piece { .. }) => {}
                    other => panic!("not read: {other:?}"),
                }
            }
            most = most.max(server.connections());
        }
        clients.iter_mut().zip(members).for_each(|(client, member)| log_off(client, member));
        while server.bodies(&account.user).len() == before {
            std::thread::sleep(Duration::from_millis(1));
        }
        broker.stop();
        let fetched: usize = server.bodies(&account.user)[before..].iter().sum();
        let each = fetched as f64 / account.count as f64;
        let name = format!("{PROGRAMS} programs that share an account and read all of it");
        vec![
            Line::limit(&name, "connections at the server", Unit::Number, 2.0, vec![most as f64]),
            Line::limit(&name, "fetches of each body", Unit::Number, 1.0, vec![each]),
        ]
    }

    /// What others notice of a first sync, and of a server that says nothing.
    fn beside_a_sync(&self, account: &Account<'_>) -> Vec<Line> {
        let rounds = self.asked.rounds.min(10);
        let calm = Kept::new(account, "on-demand");
        let leaving = self.asked.scaled(LEAVING);
        let leave_all = |broker: &Broker| Cost::of_all(leaving, || leave(broker, 1, 1));
        let name = "DoFastShutdown with a draft, during a first sync";
        let measure = Measure::new(
            name,
            Side::new("sundown", || {
                let busy = Busy::begin(account);
                let cost = leave_all(&busy.broker);
                busy.end();
                cost
            }),
        )
        .beside(Side::new("the same without", || leave_all(&calm.broker)), Goal::AtMost(1.1))
        .beside(
            Side::new("beside a raw fetch and commits", || {
                beside_raw(account, || leave_all(&calm.broker))
            }),
            Goal::None,
        );
        let mut lines = measure.run(rounds);
        let submits = self.asked.scaled(SUBMITS);
        let submit_all = |broker: &Broker| {
            let mut client = broker.connect();
            let (member, body) = (client.log_on(LogonFlags::NO_MAIL), body());
            let one = || drop(client.ask(submit(member, &body)).expect("submitted"));
            one_by_one(submits, one)().slowest()
        };
        let name = "durable submits during a first sync, slowest hundredth";
        let measure = Measure::new(
            name,
            Side::new("sundown", || {
                let busy = Busy::begin(account);
                let cost = submit_all(&busy.broker);
                busy.end();
                cost
            }),
        )
        .beside(Side::new("the same without", || submit_all(&calm.broker)), Goal::AtMost(1.1))
        .beside(
            Side::new("beside a raw fetch and commits", || {
                beside_raw(account, || submit_all(&calm.broker))
            }),
            Goal::None,
        );
        lines.extend(measure.run(rounds));
        let (_silence, port) = silence();
        let secret = self.home.join("secret").display().to_string();
        let hung = self.home.join("hung-account");
        let hung = Broker::with(&hung, "", &[("default", &profile(port, "x", &secret, "all"))]);
        let mut waits = hung.connect();
        waits.log_on(LogonFlags::default());
        let name = "durable submits beside an IMAP server that hangs, slowest hundredth";
        let measure = Measure::new(name, Side::new("sundown", || submit_all(&hung)))
            .beside(Side::new("the same without", || submit_all(&calm.broker)), Goal::AtMost(1.1));
        lines.extend(measure.run(self.asked.rounds));
        lines
    }

    /// An account with more and more messages.
    pub(crate) fn with_an_account(&self) -> Vec<Growth> {
        let of = "messages in the account";
        let mut heads = Growth::of("growth-account-sync", "A head, at the first sync", of);
        let mut again = Growth::of("growth-account", "Connecting, and the newest 200", of);
        let mut memory = Growth::of("growth-account-memory", "Memory of the broker", of);
        memory.unit = Unit::Bytes;
        let Some(server) = Dovecot::start(&self.home.join("dovecot").join("grows")) else {
            return Vec::new();
        };
        let mut account = Account::new(self, &server, "grows", 0);
        let most = if self.asked.long { usize::MAX } else { 100_000 };
        for place in self.places(&[1_000, 10_000, 100_000, 1_000_000], most) {
            account.grow(place, HEAD);
            let account = &account;
            let measure =
                Measure::new("", Side::new("sundown", || account.first_sync("on-demand"))).with(
                    Side::new("raw fetch, commits of 500", || account.raw_sync(&[(HEADS, HEAD)])),
                );
            heads.add(place, measure.medians(self.account_rounds()));
            let newest = Cost { each: account.newest_listed(), ..Cost::default() };
            let kept = Kept::new(account, "on-demand");
            let bytes = |bytes: u64| Cost { each: bytes as f64, ..Cost::default() };
            let pid = kept.broker.pid();
            let measured = vec![
                ("most", bytes(peak(pid))),
                ("at the end", bytes(crate::sessions::resident(pid))),
            ];
            memory.add(place, measured);
            let measure =
                Measure::new("", Side::new("nothing changed", || mean(LOGONS, || kept.come())))
                    .with(Side::new("a bare logon", || mean(LOGONS, || kept.log_on())));
            let mut measured = measure.medians(self.growth_rounds());
            measured.push(("newest 200, at first", newest));
            again.add(place, measured);
        }
        vec![heads, again, memory]
    }
}

impl Account<'_> {
    fn newest_listed(&self) -> f64 {
        let wanted = self.count.min(200);
        let broker = self.broker("on-demand");
        let mut client = broker.connect();
        let began = Instant::now();
        let member = client.log_on(LogonFlags::default());
        while newest(&mut client, member, 200).len() < wanted {
            std::thread::sleep(Duration::from_millis(1));
        }
        began.elapsed().as_secs_f64()
    }
}

/// Has something done while a thread reads the account and commits it, again and again.
fn beside_raw(account: &Account<'_>, work: impl FnOnce() -> Cost) -> Cost {
    let is_over = std::sync::atomic::AtomicBool::new(false);
    let order = std::sync::atomic::Ordering::Relaxed;
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while !is_over.load(order) {
                account.raw_sync(&[(BODIES, SIZE)]);
            }
        });
        std::thread::sleep(Duration::from_millis(50));
        let cost = work();
        is_over.store(true, order);
        cost
    })
}

/// Flags in a table.
struct FlagFloor<'a> {
    account: &'a Account<'a>,
    store: Connection,
    rows: Range<usize>,
}

impl<'a> FlagFloor<'a> {
    fn new(account: &'a Account<'a>, many: usize) -> Self {
        let store = Connection::open(account.bench.home.join("flags.db")).expect("opened");
        let set = "PRAGMA journal_mode=WAL; PRAGMA synchronous=FULL;
                   CREATE TABLE flag(uid INTEGER PRIMARY KEY, flags INTEGER);";
        store.execute_batch(set).expect("set up");
        let rows =
            "WITH RECURSIVE count(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM count WHERE n < ?1)
                    INSERT INTO flag SELECT n, 0 FROM count";
        store.execute(rows, [account.count as i64]).expect("filled");
        Self { account, store, rows: 1..many + 1 }
    }

    /// Logs on, reads what has changed since, and commits a row for each.
    fn read(&mut self, (validity, since): (u64, u64)) -> Cost {
        let began = Instant::now();
        let mut talk = self.account.server.log_on(&self.account.user);
        talk.run("ENABLE QRESYNC");
        talk.run(&format!("EXAMINE INBOX (QRESYNC ({validity} {since}))"));
        let change = self.store.transaction().expect("begun");
        {
            let sql = "UPDATE flag SET flags = flags + 1 WHERE uid = ?1";
            let mut update = change.prepare_cached(sql).expect("prepared");
            for uid in self.rows.clone() {
                update.execute([uid as i64]).expect("changed");
            }
        }
        change.commit().expect("committed");
        Cost::of(began.elapsed(), 1)
    }
}

/// As little as can be: it waits in the Inbox, fetches what comes, writes it into a database for good, and tells.
struct IdleReader {
    talk: Talk,
    store: SqliteFloor,
    pairs: Vec<(UnixStream, UnixStream)>,
    letter: Vec<u8>,
    /// When the last program was told.
    told: Instant,
}

impl IdleReader {
    fn start(account: &Account<'_>) -> Self {
        let mut talk = account.look();
        talk.send(b"x IDLE\r\n");
        talk.until(|tail| tail.ends_with(b"\r\n"));
        let store = SqliteFloor::open(&account.bench.home.join("idle.db"));
        let pairs = (0..PROGRAMS).map(|_| UnixStream::pair().expect("a pair")).collect();
        Self { talk, store, pairs, letter: vec![b'x'; SIZE], told: Instant::now() }
    }

    /// A message comes.
    fn arrives(&mut self) {
        let Self { talk, store, pairs, letter, told } = self;
        talk.until(|tail| tail.windows(6).any(|word| word == b"EXISTS"));
        talk.send(b"DONE\r\n");
        talk.until(|tail| tail.windows(5).any(|word| word == b"x OK "));
        talk.run("FETCH * (UID BODY.PEEK[])");
        store.commit(letter);
        for (near, far) in pairs {
            near.write_all(&[1]).expect("told");
            far.read_exact(&mut [0]).expect("told");
        }
        *told = Instant::now();
        talk.send(b"x IDLE\r\n");
        talk.until(|tail| tail.ends_with(b"\r\n"));
    }
}
