//! A queue that is handed over to a server on this host, by the broker's transport and by Postfix's own client.

use std::io::{BufRead, BufReader, Write};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::{Duration, Instant};

use sundown_protocol::Request;
use sundown_protocol::request::{Logoff, LogoffFlags, LogonFlags};

use crate::Bench;
use crate::bystanders::silent_profile;
use crate::measure::{Cost, Goal, Line, Measure, Side};
use crate::postfix::Postfix;
use crate::wire::{Broker, body, submit};

/// Messages that wait in the queue when a round begins.
const MESSAGES: usize = 300;
/// Connections at once.
const CONNECTIONS: usize = 8;
/// How long a round may take.
const PATIENCE: Duration = Duration::from_secs(60);

impl Bench<'_> {
    pub(crate) fn smtp(&self) -> Vec<Line> {
        let messages = self.asked.scaled(MESSAGES);
        let (server, other) = (Server::start(), Server::start());
        let profile = format!("{}connections = {CONNECTIONS}\n", silent_profile(server.port));
        let home = self.home.join("smtp");
        let broker = Broker::with(&home, "", &[("default", &profile)]);
        let mut writer = broker.connect();
        let waiting = writer.log_on(LogonFlags::NO_MAIL);
        let letter = body();
        let ours = Side::new("sundown", || {
            // Mail of a member without mail waits for one with it.
            writer.ask_many(messages, || submit(waiting, &letter));
            server.begin();
            let mut starter = broker.connect();
            let member = starter.log_on(LogonFlags::default());
            let took = server.took(messages);
            let (flags, drain) = (LogoffFlags::default(), None);
            starter.ask(Request::Logoff(Logoff { member, flags, drain })).expect("logged off");
            Cost::of(took, messages)
        });
        let postfix = Postfix::new(&self.home.join("postfix"), other.port, CONNECTIONS);
        let postfix = postfix.and_then(|mut postfix| postfix.start().map(|()| postfix));
        let other = &other;
        let theirs = postfix.map(|postfix| {
            Side::new("Postfix's smtp, as many connections", move || {
                postfix.fill(messages, body().len());
                other.begin();
                postfix.release();
                Cost::of(other.took(messages), messages)
            })
        });
        Measure::new("SMTP hand-over of 4 kB, 8 connections", ours)
            .peer("postfix", theirs, Goal::Times(1.0))
            .run(self.asked.rounds.min(8))
    }
}

/// A server that takes everything, each connection in a thread.
struct Server {
    port: u16,
    taken: Arc<Taken>,
}

#[derive(Default)]
struct Taken {
    /// When the first message of a round began and the last one ended, and how many there were.
    round: Mutex<(Option<Instant>, Option<Instant>, usize)>,
    one_more: Condvar,
}

impl Server {
    fn start() -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("bound");
        let port = listener.local_addr().expect("it has one").port();
        let taken = Arc::new(Taken::default());
        let all = Arc::clone(&taken);
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let taken = Arc::clone(&all);
                // Whoever hangs up has nothing more to say.
                std::thread::spawn(move || drop(taken.serve(&stream)));
            }
        });
        Self { port, taken }
    }

    /// From now on messages are counted anew.
    fn begin(&self) {
        *self.taken.round.lock().unwrap_or_else(PoisonError::into_inner) = (None, None, 0);
    }

    /// Waits for so many, and says how long they took from the first command to the last answer.
    fn took(&self, messages: usize) -> Duration {
        let round = self.taken.round.lock().unwrap_or_else(PoisonError::into_inner);
        let fewer = |round: &mut (_, _, usize)| round.2 < messages;
        let waited = self.taken.one_more.wait_timeout_while(round, PATIENCE, fewer);
        let (round, _) = waited.unwrap_or_else(PoisonError::into_inner);
        assert_eq!(round.2, messages, "not all of them came");
        let (begin, end) = (round.0.expect("one came"), round.1.expect("one came"));
        end - begin
    }
}

impl Taken {
    fn serve(&self, stream: &TcpStream) -> std::io::Result<()> {
        stream.set_nodelay(true)?;
        let mut input = BufReader::with_capacity(64 << 10, stream);
        let mut output = stream;
        let mut line = Vec::new();
        // Answers of commands that came together leave together.
        let mut answers = b"220 bench.test\r\n".to_vec();
        let mut in_message = false;
        loop {
            if input.buffer().is_empty() && !answers.is_empty() {
                output.write_all(&answers)?;
                answers.clear();
            }
            line.clear();
            if input.read_until(b'\n', &mut line)? == 0 {
                return Ok(());
            }
            if in_message {
                if line == b".\r\n" {
                    in_message = false;
                    answers.extend_from_slice(b"250 taken\r\n");
                    output.write_all(&answers)?;
                    answers.clear();
                    self.count();
                }
                continue;
            }
            let verb = line.get(..4).unwrap_or_default().to_ascii_uppercase();
            answers.extend_from_slice(match verb.as_slice() {
                b"EHLO" => b"250-bench.test\r\n250-PIPELINING\r\n250 8BITMIME\r\n",
                b"DATA" => {
                    in_message = true;
                    b"354 go on\r\n"
                }
                b"QUIT" => {
                    output.write_all(b"221 bye\r\n")?;
                    return Ok(());
                }
                b"MAIL" => {
                    self.begun();
                    b"250 ok\r\n"
                }
                _ => b"250 ok\r\n",
            });
        }
    }

    fn begun(&self) {
        let mut round = self.round.lock().unwrap_or_else(PoisonError::into_inner);
        round.0.get_or_insert_with(Instant::now);
    }

    fn count(&self) {
        let mut round = self.round.lock().unwrap_or_else(PoisonError::into_inner);
        round.1 = Some(Instant::now());
        round.2 += 1;
        self.one_more.notify_all();
    }
}
