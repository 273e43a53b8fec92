//! Messages that processes hand over, each with one `sendmail`, and what the same costs through the library.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Instant;

use sundown_client::{Logon, Mapi, Message, Options, Session};

use crate::Bench;
use crate::bystanders::{silence, silent_profile};
use crate::floor::SqliteFloor;
use crate::measure::{Cost, Goal, Line, Measure, Side};
use crate::peers;
use crate::postfix::Postfix;
use crate::wire::{self, Broker, body};

/// Messages of a round, a process each.
const PROCESSES: usize = 10;
/// Messages of a round through the library, from one program.
const MESSAGES: usize = 500;

const SENDER: &str = "me@bench.test";
const RECIPIENT: &str = "you@elsewhere.test";

/// A program that takes a message on its standard input, and where it puts it.
struct Spooler {
    command: Command,
    spool: PathBuf,
}

impl Bench<'_> {
    pub(crate) fn sendmail(&self) -> Vec<Line> {
        let message = self.home.join("message");
        std::fs::write(&message, body()).expect("written");
        // Nothing leaves: what is timed is the hand-over alone, for all of them.
        let (_silence, port) = silence();
        let home = self.home.join("sendmail");
        let broker = Broker::with(&home, "", &[("default", &silent_profile(port))]);
        let postfix = Postfix::new(&self.home.join("postdrop"), port, 1);

        let times = self.asked.scaled(PROCESSES);
        let mut sqlite = SqliteFloor::open(&self.home.join("sendmail.db"));
        let bytes = body();
        let floor = Side::new("spawn of `true`, SQLite FULL commit", || {
            let began = Instant::now();
            for _ in 0..times {
                hand_over(&mut Command::new("true"), &message);
                sqlite.commit(&bytes);
            }
            Cost::of(began.elapsed(), times)
        });
        let mut sendmail = wire::sendmail(&home);
        sendmail.args(["-f", SENDER, RECIPIENT]);
        let ours = Side::new("sundown", || {
            let began = Instant::now();
            (0..times).for_each(|_| hand_over(&mut sendmail, &message));
            Cost::of(began.elapsed(), times)
        });
        let measure = Measure::new("sendmail of 4 kB, process against process", ours)
            .beside(floor, Goal::AtMost(2.0));
        let measure = self.beside_spoolers(measure, &message, postfix.as_ref(), Goal::Times(3.0));
        let mut lines = measure.run(self.asked.rounds);

        let mapi = library(&broker, &home);
        let session = mapi.logon(Logon::shared().no_mail()).expect("logged on");
        let letter = Message::new(body()).sender(SENDER).recipient(RECIPIENT);
        let messages = self.asked.scaled(MESSAGES);
        let batch = through_library(messages, &session, |session| {
            for _ in 0..messages {
                session.submit_deferred(&letter).expect("taken");
            }
            session.flush().expect("durable");
        });
        let measure = Measure::new("4 kB through the library, durable at a flush", batch);
        let measure = self.beside_spoolers(measure, &message, postfix.as_ref(), Goal::Times(20.0));
        lines.extend(measure.run(self.asked.rounds.min(10)));

        let messages = messages / 10;
        let each = through_library(messages, &session, |session| {
            for _ in 0..messages {
                session.submit(&letter).expect("durable");
            }
        });
        let measure = Measure::new("4 kB through the library, each durable", each);
        let measure = self.beside_spoolers(measure, &message, postfix.as_ref(), Goal::None);
        lines.extend(measure.run(self.asked.rounds.min(10)));
        lines
    }

    /// Beside what hands a message over elsewhere. The goal is about the first two.
    fn beside_spoolers<'a>(
        &self,
        measure: Measure<'a>,
        message: &'a Path,
        postfix: Option<&Postfix>,
        goal: Goal,
    ) -> Measure<'a> {
        let times = self.asked.scaled(PROCESSES);
        let side = |name, spooler: Option<Spooler>| {
            let Spooler { mut command, spool } = spooler?;
            Some(Side::new(name, move || {
                let before = entries(&spool);
                let began = Instant::now();
                (0..times).for_each(|_| hand_over(&mut command, message));
                let took = began.elapsed();
                assert!(entries(&spool) >= before + times, "{name} has not kept them");
                Cost::of(took, times)
            }))
        };
        let fetched = |name: &str, arguments: &[&str], spool: &Path| {
            let program = peers::at_their_places().then(|| peers::program(name))??;
            let mut command = Command::new(program);
            command.args(arguments);
            Some(Spooler { command, spool: spool.to_owned() })
        };
        let of_postfix = postfix.map(|postfix| {
            let mut command = postfix.sendmail();
            command.args(["-f", SENDER, RECIPIENT]);
            Spooler { command, spool: postfix.maildrop() }
        });
        let addresses = ["-f", SENDER, RECIPIENT];
        let nullmailer =
            fetched("nullmailer-sendmail", &addresses, "/var/spool/nullmailer/queue".as_ref());
        let dma = fetched("dma", &addresses, "/var/spool/dma".as_ref());
        let script = "/usr/libexec/msmtp/msmtpqueue/msmtp-enqueue.sh";
        let msmtp = Path::new(script).exists().then(|| {
            let mut command = Command::new("sh");
            command.args([script, RECIPIENT]).env("HOME", self.home);
            Spooler { command, spool: self.home.join(".msmtpqueue") }
        });
        measure
            .peer("nullmailer", side("nullmailer's sendmail", nullmailer), goal)
            .peer("postfix", side("Postfix's sendmail", of_postfix), goal)
            .peer("dma", side("dma", dma), Goal::None)
            .peer("msmtp", side("msmtp-enqueue.sh, not synced", msmtp), Goal::None)
    }
}

/// One process, with the message on its standard input.
fn hand_over(command: &mut Command, message: &Path) {
    let input = File::open(message).expect("it is there");
    // Postfix's warns that nobody picks its mail up.
    let command = command.stdin(input).stdout(Stdio::null()).stderr(Stdio::null());
    assert!(command.status().expect("it starts").success(), "{command:?}");
}

/// How many files a program keeps.
fn entries(folder: &Path) -> usize {
    std::fs::read_dir(folder).map_or(0, Iterator::count)
}

fn library(broker: &Broker, home: &Path) -> Mapi {
    let options = Options::new("bench").socket(broker.socket()).data_dir(home.join("data"));
    let options = options.config(home.join("config.toml")).no_autostart();
    Mapi::initialize(options).expect("initialized")
}

fn through_library<'a>(
    messages: usize,
    session: &'a Session,
    all: impl Fn(&Session) + 'a,
) -> Side<'a> {
    Side::new("sundown", move || {
        let began = Instant::now();
        all(session);
        Cost::of(began.elapsed(), messages)
    })
}
