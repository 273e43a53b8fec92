//! Power cuts: a broker is recorded, and everything that a cut could have left at each moment is opened again.

use std::fs;
use std::path::Path;

use rusqlite::Connection;
use sundown_client::{Logoff, Logon, Mapi, Options};
use tempfile::TempDir;

use crate::chance::Chance;
use crate::check::{DATA, early_answers, examine};
use crate::claims::{Claims, Promise};
use crate::disk::{Disk, Kept};
use crate::harness::{Home, Shell};
use crate::queue::{RETRIES, transport};
use crate::recorder::{Record, Recorder};
use crate::servers::Scripted;
use crate::{long, tell};

/// Findings after which no more are looked for.
const ENOUGH: usize = 5;
/// Drafts that a life saves while nothing else happens.
const QUIET: usize = 8;

/// Whether a path is one of a kind.
pub(crate) type Fits = fn(&str) -> bool;

/// Looks at what a power cut behind a place of the record has left in a home: what is wrong.
pub(crate) type Examine = fn(&Path, &Claims, usize) -> Vec<String>;

/// A broker's life as it was recorded.
pub(crate) struct Recording {
    pub(crate) records: Vec<Record>,
    pub(crate) claims: Claims,
    /// What was on the disk before.
    pub(crate) first: Disk,
    /// The record behind which that is.
    begin: usize,
    examine: Examine,
}

/// How much is looked at.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Plan {
    /// Each so many of the moments at which something became durable, was promised or was renamed.
    step: usize,
    /// Each so many of the moments between.
    between: usize,
    /// How often a cut is tried that keeps a part.
    parts: usize,
}

impl Plan {
    /// Each so many of the important moments and of the others; in the long form each so many.
    pub(crate) fn new(short: [usize; 2], everything: [usize; 2]) -> Self {
        let ([step, between], parts) = if long() { (everything, 2) } else { (short, 1) };
        Self { step, between, parts }
    }
}

#[derive(Debug, Default)]
struct Tally {
    moments: usize,
    states: usize,
    wrong: Vec<String>,
}

impl Recording {
    /// Records what happens in a home from here on.
    pub(crate) fn of(home: &Home, recorder: &Recorder, happens: impl FnOnce()) -> Self {
        let first = Disk::of(&home.path(""), ".local");
        happens();
        let records = recorder.records();
        let claims = Claims::of(&records);
        Self { records, claims, first, begin: 0, examine }
    }

    /// The same, looked at in another way.
    pub(crate) fn examined_by(self, examine: Examine) -> Self {
        Self { examine, ..self }
    }

    /// The same, with all of the claims, and the power cut only behind so many records: `first` is what was on the disk then.
    fn from(mut self, begin: usize) -> Self {
        self.begin = begin;
        self
    }

    /// Cuts the power again and again.
    fn replay(&self, plan: Plan, chance: &mut Chance) -> Tally {
        let (mut disk, mut tally) = (self.first.clone(), Tally::default());
        for (place, record) in self.records.iter().enumerate() {
            if place < self.begin {
                continue;
            }
            disk.follow(record);
            let moment = self.moment(place, record);
            let due = match moment {
                Moment::Between => chance.below(plan.between) == 0,
                Moment::Promised => true,
                Moment::Synced | Moment::Handed => chance.below(plan.step) == 0,
            };
            if !due {
                continue;
            }
            tally.moments += 1;
            for kept in all_kept(moment, plan, chance) {
                self.cut(&disk, place + 1, kept, chance, &mut tally);
                if tally.wrong.len() >= ENOUGH {
                    return tally;
                }
            }
        }
        tally
    }

    /// Calls a function with the disk at so many places, which chance chooses.
    pub(crate) fn at_places(&self, count: usize, mut see: impl FnMut(&Disk, usize, &mut Chance)) {
        let mut chance = Chance::new();
        let mut places: Vec<_> = (0..count).map(|_| chance.below(self.records.len())).collect();
        places.sort_unstable();
        let mut disk = self.first.clone();
        for (place, record) in self.records.iter().enumerate() {
            disk.follow(record);
            while places.first() == Some(&place) {
                places.remove(0);
                see(&disk, place, &mut chance);
            }
        }
    }

    fn moment(&self, place: usize, record: &Record) -> Moment {
        match record {
            Record::Synced(_) => Moment::Synced,
            Record::Renamed { .. } | Record::Sent { .. } => Moment::Handed,
            Record::Said { .. } if self.claims.acknowledged.iter().any(|a| a.answered == place) => {
                Moment::Promised
            }
            _ => Moment::Between,
        }
    }

    fn cut(&self, disk: &Disk, place: usize, kept: Kept, chance: &mut Chance, tally: &mut Tally) {
        let (left, from) = (memory(), chance.0);
        disk.leave(left.path(), kept, chance);
        tally.states += 1;
        let wrong = (self.examine)(left.path(), &self.claims, place);
        let name = |what| format!("cut behind record {place}, kept {kept:?} by {from}: {what}");
        tally.wrong.extend(wrong.into_iter().map(name));
    }

    /// The same record without some syncs.
    pub(crate) fn without(&self, gone: impl Fn(&str, u64) -> bool) -> Self {
        let kept = |record: &&Record| !matches!(record, Record::Sync(sync) | Record::Synced(sync) if gone(&sync.path, sync.number));
        let records: Vec<_> = self.records.iter().filter(kept).cloned().collect();
        let claims = Claims::of(&records);
        Self { records, claims, first: self.first.clone(), begin: self.begin, ..*self }
    }

    pub(crate) fn syncs(&self) -> usize {
        self.records.iter().filter(|record| matches!(record, Record::Synced(_))).count()
    }

    /// Everything about it is right.
    pub(crate) fn holds(&self, name: &str, plan: Plan) {
        let early = early_answers(&self.records, &self.claims);
        assert!(early.is_empty(), "{early:#?}");
        let mut chance = Chance::new();
        let tally = self.replay(plan, &mut chance);
        tell(&format!(
            "{name}: {} records with {} syncs and {} acknowledgements; {} states of the disk at {} moments, {} wrong",
            self.records.len(),
            self.syncs(),
            self.claims.acknowledged.len(),
            tally.states,
            tally.moments,
            tally.wrong.len(),
        ));
        assert!(tally.wrong.is_empty(), "{:#?}", tally.wrong);
    }

    /// Whether anything about it is seen to be wrong.
    pub(crate) fn is_caught(&self) -> bool {
        !early_answers(&self.records, &self.claims).is_empty()
            || !self
                .replay(Plan { step: 1, between: 1000, parts: 1 }, &mut Chance(7))
                .wrong
                .is_empty()
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Moment {
    /// A sync has returned.
    Synced,
    /// A client was told that something is durable.
    Promised,
    /// A message may have been seen elsewhere.
    Handed,
    Between,
}

fn all_kept(moment: Moment, plan: Plan, chance: &mut Chance) -> Vec<Kept> {
    let some = |_| Kept::Some([10, 50, 90][chance.below(3)]);
    let mut all: Vec<_> = (0..plan.parts).map(some).collect();
    match moment {
        Moment::Promised => all = vec![Kept::Nothing],
        Moment::Handed => all.extend([Kept::Nothing, Kept::Names]),
        Moment::Synced => all.push(Kept::Nothing),
        Moment::Between => {}
    }
    if long() && moment != Moment::Promised {
        all.extend([Kept::Names, Kept::Bytes, Kept::Everything]);
    }
    all
}

/// A directory whose syncs cost nothing: what is opened there has been through its power cut.
fn memory() -> TempDir {
    let memory = Path::new("/dev/shm");
    let memory = if memory.is_dir() { memory.into() } else { std::env::temp_dir() };
    tempfile::Builder::new().prefix("power-").tempdir_in(memory).expect("a directory")
}

/// A message of about so many bytes with a name of its own.
fn message(home: &Home, name: &str, size: usize) -> String {
    let line = format!("{name}, and on and on and on it goes, line by line, to the end of it.\n");
    let text = line.repeat(size.div_ceil(line.len()));
    let text = format!(
        "From: me@home.test\nTo: anna@localhost\nSubject: {name}\nMessage-ID: <{name}@home.test>\n\n{text}"
    );
    home.write(&format!("m/{name}.eml"), text).display().to_string()
}

fn submit(shell: &mut Shell, home: &Home, name: &str, size: usize, flags: &str) {
    let file = message(home, name, size);
    shell.ok(&format!("submit session=1 file={file} {flags}"));
}

/// Waits until nothing is to be sent any more.
fn all_sent(shell: &mut Shell) {
    let left = shell.ok("logoff session=1 drain=60");
    assert_eq!(left["queued"], 0, "{left}");
}

/// Everything that a client may be promised, by a broker that begins with nothing, ends in order, begins again, and is
/// killed.
fn local_life(home: &Home, recorder: &Recorder, fault: &str) {
    let mut broker = recorder.serve(home, fault);
    let mut shell = home.shell();
    shell.ok("logon");
    for n in 0..3 {
        submit(&mut shell, home, &format!("durable-{n}"), 100, "");
    }
    for n in 0..6 {
        submit(&mut shell, home, &format!("deferred-{n}"), 100, "deferred");
    }
    shell.ok("flush session=1");
    // It comes in pieces, each committed without a sync.
    submit(&mut shell, home, "large", 600 << 10, "");
    let draft = message(home, "draft", 100);
    let draft = shell.ok(&format!("draft session=1 file={draft}"))["object"].clone();
    shell.ok(&format!("save object={draft}"));
    shell.ok("setting session=1 name=place value=here");
    shell.ok("setting session=1 name=place value=there");
    let friend = Mapi::initialize(Options::new("friend").no_autostart().socket(home.socket()));
    let friend = friend.expect("it connects");
    let people = friend.logon(Logon::shared()).expect("it logs on");
    let book = people.address_book().expect("there is one");
    for name in ["anna", "bo"] {
        book.add(name, &[&format!("{name}@localhost")]).expect("added");
    }
    people.logoff(Logoff::now()).expect("it logs off");
    let mut leaving = home.shell();
    leaving.ok("logon");
    let draft = message(home, "unsaved", 100);
    leaving.ok(&format!("draft session=1 file={draft}"));
    for n in 0..3 {
        submit(&mut leaving, home, &format!("leaving-{n}"), 100, "deferred");
    }
    leaving.ok("query-fast-shutdown");
    leaving.ok("do-fast-shutdown");
    all_sent(&mut shell);
    broker.terminate();

    let mut broker = recorder.serve(home, fault);
    let mut shell = home.shell();
    shell.ok("logon");
    // Nothing is on its way meanwhile: one sync alone makes each of them durable.
    for n in 0..QUIET {
        let draft = message(home, &format!("quiet-{n}"), 100);
        let draft = shell.ok(&format!("draft session=1 file={draft}"))["object"].clone();
        shell.ok(&format!("save object={draft}"));
    }
    for n in 0..3 {
        submit(&mut shell, home, &format!("again-{n}"), 100, "");
    }
    broker.kill();
}

/// Whatever moment the power fails at: what was acknowledged is there, once, as it was handed over; the store opens; a
/// message is in the Maildir if its state says so, and is not lost or doubled if it was just on its way.
///
/// SEED-2, design §3.8, §3.16, §3.19
#[test]
fn a_power_cut_loses_nothing_that_was_acknowledged() {
    let Some(recorder) = Recorder::new() else { return };
    let home = Home::new();
    let recording = Recording::of(&home, &recorder, || local_life(&home, &recorder, ""));
    let promised = recording.claims.acknowledged.iter().flat_map(|a| &a.promises);
    // The last answer before the kill may be missing from the record.
    let promised: Vec<_> = promised.collect();
    let count =
        |fits: fn(&Promise) -> bool| promised.iter().filter(|promise| fits(promise)).count();
    assert!(count(|p| matches!(p, Promise::Message(_))) >= 16 + QUIET, "{promised:#?}");
    assert_eq!(count(|p| matches!(p, Promise::Setting { .. })), 2);
    assert_eq!(count(|p| matches!(p, Promise::Person(_))), 2);
    assert_eq!(count(|p| matches!(p, Promise::Draft(_))), 1);
    recording.holds("a life with a Maildir", Plan::new([6, 40], [1, 2]));
    by_real_brokers(&recording);
}

/// Some of the same states, given to a real broker: it comes up, sends what is to be sent, and everything is there once.
fn by_real_brokers(recording: &Recording) {
    let mut messages = 0;
    recording.at_places(if long() { 40 } else { 3 }, |disk, place, chance| {
        let home = Home::new();
        disk.leave(&home.path(""), Kept::Some(50), chance);
        let mut broker = home.serve();
        let mut shell = home.shell();
        shell.ok("logon");
        home.rows_until("everything to be sent", |rows| {
            rows.iter().all(|row| row["state"] == "sent")
        });
        broker.terminate();
        let wrong = examine(&home.path(""), &recording.claims, place + 1);
        assert!(wrong.is_empty(), "cut behind record {place}: {wrong:#?}");
        let path = home.path(DATA).join("default/store.db");
        let store = Connection::open(path).expect("it is a database");
        let sql = "SELECT count(*), total(state = 6) FROM message WHERE state IS NOT NULL";
        let count = |row: &rusqlite::Row<'_>| Ok((row.get(0)?, row.get::<_, f64>(1)?));
        let (all, sent): (usize, f64) = store.query_row(sql, [], count).expect("it answers");
        assert!((all as f64 - sent).abs() < 0.5, "{sent} of {all} are sent");
        messages += all;
    });
    tell(&format!("by real brokers: {messages} messages, each once"));
}

/// What a broker that was killed had written and not synced is there for the next one, but not on the disk: who repeats a
/// submit is not told that it is durable before it is.
///
/// design §3.16
#[test]
fn what_a_killed_broker_left_is_durable_before_anybody_relies_on_it() {
    let Some(recorder) = Recorder::new() else { return };
    let home = Home::new();
    let recording = Recording::of(&home, &recorder, || {
        let mut broker = recorder.serve(&home, "");
        let mut shell = home.shell();
        shell.ok("logon");
        broker.terminate();
        drop(shell);
        // Behind two syncs for the beginning of a log, that of the submit.
        let mut broker = recorder.serve(&home, "sync|store.db-wal|3|before");
        let mut shell = home.shell();
        shell.ok("logon");
        let file = message(&home, "repeated", 100);
        let asked = shell.tell(&format!("submit session=1 file={file}"));
        broker.wait();
        let mut broker = recorder.serve(&home, "");
        assert_eq!(shell.reply(asked)["ok"], true);
        all_sent(&mut shell);
        broker.kill();
    });
    assert_eq!(recording.claims.messages.len(), 1, "it is repeated with its key");
    let submits = recording.claims.acknowledged.iter().filter(|a| a.what == "Submit");
    assert_eq!(submits.count(), 1);
    let tally = recording.replay(Plan::new([1, 10], [1, 1]), &mut Chance::new());
    assert!(tally.wrong.is_empty(), "{:#?}", tally.wrong);
}

/// So it is while the log is moved into the database, while it starts over, and while old messages are forgotten.
///
/// design §3.16, §6
#[test]
fn a_power_cut_in_a_checkpoint_loses_nothing() {
    let Some(recorder) = Recorder::new() else { return };
    let home = Home::new();
    let mut broker = home.serve();
    let mut shell = home.shell();
    shell.ok("logon");
    for n in 0..5 {
        submit(&mut shell, &home, &format!("old-{n}"), 100, "");
    }
    all_sent(&mut shell);
    broker.terminate();
    let store = Connection::open(home.path(DATA).join("default/store.db")).expect("a database");
    let aged = store.execute("UPDATE message SET final_at = 1 WHERE final_at IS NOT NULL", []);
    assert_eq!(aged.expect("changed"), 5);
    store.close().expect("closed");
    // What was delivered before is not in this record.
    let new = home.maildir("default").0.join("new");
    for entry in fs::read_dir(&new).expect("there").flatten() {
        fs::remove_file(entry.path()).expect("removed");
    }

    let recording = Recording::of(&home, &recorder, || {
        let mut broker = recorder.serve(&home, "");
        let mut shell = home.shell();
        shell.ok("logon");
        for n in 0..14 {
            submit(&mut shell, &home, &format!("large-{n}"), 800 << 10, "");
            submit(&mut shell, &home, &format!("small-{n}"), 100, "");
        }
        all_sent(&mut shell);
        broker.terminate();
        // The log starts over.
        let mut broker = recorder.serve(&home, "");
        let mut shell = home.shell();
        shell.ok("logon");
        submit(&mut shell, &home, "after", 100, "");
        all_sent(&mut shell);
        broker.kill();
    });
    let is_store = |path: &str| path.ends_with("default/store.db");
    let places = recording.records.iter().enumerate();
    let moved: Vec<_> = places
        .filter_map(|(place, record)| match record {
            Record::Written { path, .. } if is_store(path) => Some(place),
            _ => None,
        })
        .collect();
    let busy = recording.claims.acknowledged.iter().filter(|a| a.answered > moved[0]).count();
    assert!(moved.len() > 1500 && busy > 2, "{} pages, {busy} answers meanwhile", moved.len());
    recording.holds("a life with checkpoints", Plan::new([20, 200], [2, 12]));
}

/// So it is while a store of schema 5 is brought to this one. It has two drafts without bytes that share the number of a message
/// that is to be sent.
///
/// design §3.16
#[test]
fn a_power_cut_in_a_change_of_the_schema_loses_nothing() {
    let Some(recorder) = Recorder::new() else { return };
    let home = Home::new();
    let mut broker = recorder.serve(&home, "");
    let mut shell = home.shell();
    shell.ok("logon no-mail");
    for _ in 0..2 {
        let empty = home.write("empty.eml", "").display().to_string();
        let draft = shell.ok(&format!("draft session=1 file={empty}"))["object"].clone();
        shell.ok(&format!("save object={draft}"));
    }
    for n in 0..3 {
        submit(&mut shell, &home, &format!("waits-{n}"), 100, "");
    }
    broker.terminate();
    drop(shell);
    let begin = recorder.records().len();
    let store = Connection::open(home.path(DATA).join("default/store.db")).expect("a database");
    let older = "DROP TABLE unsynced; DROP TABLE recipient;
        UPDATE message SET body_sum = NULL, body = (SELECT max(body) FROM message) WHERE size = 0;
        DELETE FROM meta WHERE name = 'body'; UPDATE meta SET value = 0 WHERE name = 'seq';
        PRAGMA user_version = 5;";
    store.execute_batch(older).expect("it is as it was");
    let shared = "SELECT count(*) FROM message WHERE body = (SELECT max(body) FROM message)";
    let shared: usize = store.query_row(shared, [], |row| row.get(0)).expect("a number");
    assert_eq!(shared, 3);
    store.close().expect("closed");

    let recording = Recording::of(&home, &recorder, || {
        let mut broker = recorder.serve(&home, "");
        let mut shell = home.shell();
        shell.ok("logon");
        submit(&mut shell, &home, "after", 100, "");
        all_sent(&mut shell);
        broker.kill();
    });
    // What was promised before the change is to be there in every state behind it.
    let recording = recording.from(begin);
    assert_eq!(recording.claims.messages.len(), 4);
    recording.holds("a change of the schema", Plan::new([1, 8], [1, 2]));
}

/// With a server: a message is not queued any more when its dot leaves, and not sent before; after the cut it is unknown, also
/// where a broker that was killed would have left behind in memory that it was not sent.
///
/// QUEUE-8, design §3.17
#[test]
fn a_power_cut_while_a_server_takes_messages_repeats_none() {
    for home in [Home::new()].into_iter().chain(Home::with_memory()) {
        let Some(recorder) = Recorder::new() else { return };
        let server = Scripted::start(|_, _| None);
        home.profile("far", &format!("{}{RETRIES}", transport(server.port(), "")));
        let recording = Recording::of(&home, &recorder, || life_with_a_server(&home, &recorder));
        assert_eq!(server.taken().len(), 8);
        assert_eq!(recording.claims.dots.len(), 8);
        let kept = fs::read_dir(home.runtime().join("sundown")).expect("there").flatten();
        let dots = |file: &fs::DirEntry| file.file_name().to_string_lossy().contains(".dots-");
        assert_eq!(kept.filter(dots).count(), usize::from(home.has_memory()));
        recording.holds("a life with a server", Plan::new([3, 40], [1, 1]));
    }
}

fn life_with_a_server(home: &Home, recorder: &Recorder) {
    let mut broker = recorder.serve(home, "");
    let mut shell = home.shell();
    shell.ok("logon profile=far");
    for n in 0..8 {
        let flags = if n % 2 == 0 { "" } else { "deferred" };
        submit(&mut shell, home, &format!("far-{n}"), 100, flags);
    }
    all_sent(&mut shell);
    broker.terminate();
}

/// Taking a sync out is noticed: each of those that an acknowledgement needs, and each kind of those that a delivery
/// needs.
///
/// design §10
#[test]
fn a_sync_that_is_missing_is_noticed() {
    let Some(recorder) = Recorder::new() else { return };
    let home = Home::new();
    let recording = Recording::of(&home, &recorder, || local_life(&home, &recorder, ""));
    assert!(!recording.is_caught(), "nothing is wrong with the whole record");

    let kinds: [(&str, Fits); 7] = [
        ("the address book", |path| path.ends_with("default/address-book.db")),
        ("the store's log", |path| path.ends_with("store.db-wal")),
        ("a message in tmp", |path| path.contains("Maildir/tmp/")),
        ("the names in tmp", |path| path.ends_with("Maildir/tmp")),
        ("the names in new", |path| path.ends_with("Maildir/new")),
        ("the names of the data directory", |path| path.ends_with("share/sundown")),
        ("the names above it", |path| path.ends_with(".local/share")),
    ];
    for (kind, fits) in kinds {
        let found = recording.without(|path, _| fits(path));
        assert!(found.syncs() < recording.syncs(), "nobody syncs {kind}");
        assert!(found.is_caught(), "without a sync of {kind}");
    }

    // Of several that cover the same, one may go.
    let (mut needed, mut caught) = (0, 0);
    let logs = recording.records.iter().filter_map(|record| match record {
        Record::Synced(sync) if sync.path.ends_with("store.db-wal") => Some(sync.number),
        _ => None,
    });
    for number in logs {
        let without = recording.without(|_, other| other == number);
        let early = !early_answers(&without.records, &without.claims).is_empty();
        needed += usize::from(early);
        if early && (long() || needed <= 4) {
            let seen = without.replay(Plan { step: 1000, between: 1000, parts: 0 }, &mut Chance(7));
            caught += usize::from(!seen.wrong.is_empty());
        }
    }
    tell(&format!("{needed} syncs of the log cover an acknowledgement alone"));
    assert!(needed >= QUIET, "{needed}");
    assert!(caught > 0, "no state of the disk shows it");
}

/// The same when it is not taken out of the record but never made: a broker that is told that its disk has synced.
///
/// design §10
#[test]
fn a_disk_that_does_not_sync_is_noticed() {
    for fault in ["sync|store.db-wal|0|skip", "sync|Maildir/tmp/|0|skip", "sync|Maildir/new|0|skip"]
    {
        let Some(recorder) = Recorder::new() else { return };
        let home = Home::new();
        let recording = Recording::of(&home, &recorder, || local_life(&home, &recorder, fault));
        assert!(recording.is_caught(), "{fault}");
    }
}
