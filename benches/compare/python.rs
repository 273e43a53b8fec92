//! Programs in Python: what the client library in Python costs, beside the one in Rust and beside other ways to send mail from there.

use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::time::Instant;

use sundown_client::{Logon, Mapi, Message, Options};

use crate::Bench;
use crate::bystanders::{silence, silent_profile};
use crate::measure::{Cost, Goal, Line, Measure, Side, Unit};
use crate::peers::program;
use crate::postfix::Postfix;
use crate::wire::{Broker, body, environment};

/// Messages of a round, one program.
const MESSAGES: usize = 50;
/// Processes of a round.
const PROCESSES: usize = 10;
/// Requests of a round.
const REQUESTS: usize = 2_000;

const SENDER: &str = "me@bench.test";
const RECIPIENT: &str = "you@elsewhere.test";

/// How long a request may take, in seconds, where an echo in Python takes 15 µs.
const ROUND_TRIP: f64 = 25e-6;

/// How long an import may take, in seconds.
const IMPORT: f64 = 0.030;

/// A Python that does one thing again and again.
struct Python {
    child: Child,
    input: ChildStdin,
    output: BufReader<ChildStdout>,
}

impl Python {
    /// `home` is that of the broker, for programs that it starts.
    fn start(what: &str, place: impl AsRef<std::ffi::OsStr>, message: &Path, home: &Path) -> Self {
        let own = Path::new(env!("CARGO_MANIFEST_DIR"));
        let mut command = Command::new(program("python3").expect("looked for before"));
        command.arg(own.join("benches/compare/python.py")).arg(what).arg(place);
        command.env("PYTHONPATH", own.join("client-lib/python/src")).env("BENCH_MESSAGE", message);
        command.envs(environment(home)).stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = command.spawn().expect("it starts");
        let input = child.stdin.take().expect("a pipe");
        let output = BufReader::new(child.stdout.take().expect("a pipe"));
        Self { child, input, output }
    }

    fn times(&mut self, times: usize) -> Cost {
        writeln!(self.input, "{times}").expect("it reads");
        let mut line = String::new();
        self.output.read_line(&mut line).expect("it says something");
        let seconds: f64 = line.trim().parse().expect("how long it took");
        Cost { each: seconds / times as f64, ..Cost::default() }
    }

    fn side<'a>(mut self, name: &'static str, times: usize) -> Side<'a> {
        Side::new(name, move || self.times(times))
    }
}

impl Drop for Python {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Bench<'_> {
    pub(crate) fn python(&self) -> Vec<Line> {
        if program("python3").is_none() {
            return vec![Line::missing("Python", "python3")];
        }
        let message = self.home.join("python-message");
        std::fs::write(&message, body()).expect("written");
        let (_silence, port) = silence();
        let home = self.home.join("python");
        let broker = Broker::with(&home, "", &[("default", &silent_profile(port))]);
        let python =
            |what: &str, place: &std::ffi::OsStr| Python::start(what, place, &message, &home);
        let mut lines = self.python_submits(&broker, &home, port, &python);

        let requests = self.asked.scaled(REQUESTS);
        let ours = python("ping", broker.socket().as_os_str()).side("sundown", requests);
        let echo = python("echo", self.echo.path().as_os_str());
        let echo = echo.side("epoll echo, from Python", requests);
        let measure = Measure::new("Python, request round trip", ours).beside(echo, Goal::None);
        lines.extend(measure.run(self.asked.rounds));
        let mut again = python("ping", broker.socket().as_os_str());
        let rounds = (0..=self.asked.rounds).map(|_| again.times(requests).each).collect();
        let name = "Python, request round trip";
        lines.push(Line::limit(name, "itself", Unit::Seconds, ROUND_TRIP, rounds));

        let mut import = python("import", "".as_ref());
        let rounds = (0..=self.asked.rounds).map(|_| import.times(1).each).collect();
        let name = "Python, import of sundown";
        lines.push(Line::limit(name, "a fresh interpreter", Unit::Seconds, IMPORT, rounds));
        lines
    }

    fn python_submits(
        &self,
        broker: &Broker,
        home: &Path,
        port: u16,
        python: &dyn Fn(&str, &std::ffi::OsStr) -> Python,
    ) -> Vec<Line> {
        let messages = self.asked.scaled(MESSAGES);
        let ours = python("submit", broker.socket().as_os_str()).side("sundown", messages);
        let options = Options::new("bench").socket(broker.socket()).data_dir(home.join("data"));
        let mapi = Mapi::initialize(options.no_autostart()).expect("initialized");
        let session = mapi.logon(Logon::shared().no_mail()).expect("logged on");
        let letter = Message::new(body()).sender(SENDER).recipient(RECIPIENT);
        let rust = Side::new("the library in Rust", || {
            let began = Instant::now();
            for _ in 0..messages {
                session.submit(&letter).expect("durable");
            }
            Cost::of(began.elapsed(), messages)
        });
        let processes = self.asked.scaled(PROCESSES);
        let command = python("sendmail", env!("CARGO_BIN_EXE_sundown").as_ref());
        let command = command.side("subprocess, `sundown sendmail`", processes);
        let mut postfix = Postfix::new(&self.home.join("python-postfix"), port, 1);
        let is_up = postfix.as_mut().is_some_and(|postfix| postfix.start().is_some());
        let smtp = postfix.as_ref().filter(|_| is_up).map(|postfix| {
            let smtp = python("smtplib", postfix.port().to_string().as_ref());
            smtp.side("smtplib to Postfix, one connection", messages)
        });
        Measure::new("Python, durable submit of 4 kB", ours)
            .beside(rust, Goal::AtMost(1.25))
            .beside(command, Goal::Times(5.0))
            .peer("postfix", smtp, Goal::Times(3.0))
            .run(self.asked.rounds)
    }
}
