//! A server that follows a script, and what it was told.
//!
//! A script has one step in each line: `> X` reads a line that begins with X, `< X` says X (steps of that kind that follow
//! each other go out at once), `message` reads up to the dot, `body` reads some of a message, `tls` begins TLS, `close`
//! closes, `hang` says nothing until the client closes, `rest` too and notes the last lines of what it was told, `stall` does not even read until
//! the test is over, `trickle` sends a byte now and then, and `anything` takes all it is told. After its script a server knows RSET and QUIT.

use std::convert::Infallible;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use crossbeam_channel::{Receiver, RecvTimeoutError, Sender, bounded};
use rustls::{ServerConfig, ServerConnection, StreamOwned};

type Transcript = Arc<Mutex<Vec<String>>>;

/// A server with one script for each connection, in their order.
pub(super) struct Server {
    pub(super) port: u16,
    transcripts: Vec<Transcript>,
    at_once: Arc<Counts>,
    test: Option<Sender<Infallible>>,
    thread: Option<JoinHandle<()>>,
}

#[derive(Default)]
struct Counts {
    now: AtomicUsize,
    most: AtomicUsize,
}

/// One client that is there.
struct Present(Arc<Counts>);

impl Present {
    fn new(counts: Arc<Counts>) -> Self {
        let now = counts.now.fetch_add(1, Ordering::SeqCst) + 1;
        counts.most.fetch_max(now, Ordering::SeqCst);
        Self(counts)
    }
}

impl Drop for Present {
    fn drop(&mut self) {
        self.0.now.fetch_sub(1, Ordering::SeqCst);
    }
}

impl Server {
    pub(super) fn start(scripts: &[&str]) -> Self {
        Self::with_tls(scripts, None)
    }

    pub(super) fn with_tls(scripts: &[&str], tls: Option<Arc<ServerConfig>>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let port = listener.local_addr().expect("an address").port();
        let transcripts: Vec<_> = scripts.iter().map(|_| Transcript::default()).collect();
        let at_once = Arc::new(Counts::default());
        let scripts: Vec<_> = scripts.iter().map(|script| (*script).to_owned()).collect();
        let (notes, counts) = (transcripts.clone(), at_once.clone());
        let (test, test_over) = bounded(0);
        let thread = thread::spawn(move || {
            let scripts = scripts.into_iter().zip(notes);
            let sides = scripts.map(|(script, transcript)| {
                let (tls, test_over, present) = (tls.clone(), test_over.clone(), None);
                (script, Side { stream: Stream::None, tls, transcript, test_over, present })
            });
            accept(&listener, sides.collect(), &counts);
        });
        Self { port, transcripts, at_once, test: Some(test), thread: Some(thread) }
    }

    /// Waits for the end of all connections; what each was told.
    pub(super) fn done(mut self) -> Vec<Vec<String>> {
        drop(self.test.take());
        if let Some(thread) = self.thread.take() {
            thread.join().expect("the server is content");
        }
        self.transcripts.iter().map(|t| t.lock().expect("a lock").clone()).collect()
    }

    /// Waits until the nth connection was told a line that begins so; of the dot, that line alone.
    pub(super) fn wait_for(&self, connection: usize, line: &str) {
        let told = || {
            let lines = self.transcripts[connection].lock().expect("a lock");
            let is_it = |l: &String| if line == "." { l == line } else { l.starts_with(line) };
            lines.iter().any(is_it)
        };
        while !told() {
            thread::yield_now();
        }
    }

    /// Waits until somebody has connected.
    pub(super) fn wait_for_client(&self) {
        self.wait_for_clients(1);
    }

    /// Waits until there were so many connections at once.
    pub(super) fn wait_for_clients(&self, clients: usize) {
        while self.most_at_once() < clients {
            thread::yield_now();
        }
    }

    /// The most connections that there were at once.
    pub(super) fn most_at_once(&self) -> usize {
        self.at_once.most.load(Ordering::SeqCst)
    }
}

fn accept(listener: &TcpListener, sides: Vec<(String, Side)>, counts: &Arc<Counts>) {
    let mut threads = Vec::new();
    for (script, mut side) in sides {
        let (socket, _) = listener.accept().expect("a client");
        side.stream = Stream::Plain(socket);
        side.present = Some(Present::new(counts.clone()));
        threads.push(thread::spawn(move || side.play(&script)));
    }
    for thread in threads {
        thread.join().expect("the script was followed");
    }
}

enum Stream {
    Plain(TcpStream),
    Tls(Box<StreamOwned<ServerConnection, TcpStream>>),
    None,
}

struct Side {
    stream: Stream,
    tls: Option<Arc<ServerConfig>>,
    transcript: Transcript,
    test_over: Receiver<Infallible>,
    present: Option<Present>,
}

impl Side {
    fn play(mut self, script: &str) {
        let steps: Vec<_> = script.lines().map(str::trim).filter(|step| !step.is_empty()).collect();
        let mut said = String::new();
        for (index, step) in steps.iter().enumerate() {
            if let Some(text) = step.strip_prefix('<') {
                said += &format!("{}\r\n", text.trim_start());
                if !steps.get(index + 1).is_some_and(|next| next.starts_with('<')) {
                    self.say(&std::mem::take(&mut said));
                }
            } else if let Some(wanted) = step.strip_prefix('>') {
                let line = self.line().unwrap_or_else(|| panic!("closed in front of {step:?}"));
                let wanted = wanted.trim_start();
                assert!(line.starts_with(wanted), "{line:?} in the place of {wanted:?}");
            } else {
                match *step {
                    "message" => self.message(),
                    "body" => drop(self.read(&mut [0; 1000])),
                    "tls" => self.begin_tls(),
                    "hang" => while self.read(&mut [0; 1000]) > 0 {},
                    "rest" => self.rest(),
                    "stall" => drop(self.test_over.recv()),
                    "trickle" => self.trickle(),
                    "anything" => self.accept_all(),
                    "close" => return,
                    other => panic!("{other:?} is no step"),
                }
            }
        }
        while let Some(line) = self.line() {
            match line.as_str() {
                "QUIT" => self.goodbye(),
                "RSET" => self.say("250 ok\r\n"),
                _ => {}
            }
        }
    }

    fn goodbye(&mut self) {
        // The client may connect again as soon as it reads this.
        self.present = None;
        self.say("221 bye\r\n");
    }

    fn say(&mut self, text: &str) {
        // The client may have gone; then it says so itself.
        let _ = match &mut self.stream {
            Stream::Plain(socket) => socket.write_all(text.as_bytes()),
            Stream::Tls(tls) => tls.write_all(text.as_bytes()).and_then(|()| tls.flush()),
            Stream::None => Ok(()),
        };
    }

    fn read(&mut self, into: &mut [u8]) -> usize {
        let read = match &mut self.stream {
            Stream::Plain(socket) => socket.read(into),
            Stream::Tls(tls) => tls.read(into),
            Stream::None => Ok(0),
        };
        read.unwrap_or(0)
    }

    fn line(&mut self) -> Option<String> {
        let mut line = Vec::new();
        while !line.ends_with(b"\r\n") {
            let mut byte = [0];
            if self.read(&mut byte) == 0 {
                return None;
            }
            line.push(byte[0]);
        }
        let text = String::from_utf8_lossy(&line[..line.len() - 2]).into_owned();
        self.transcript.lock().expect("a lock").push(text.clone());
        Some(text)
    }

    fn rest(&mut self) {
        let (mut all, mut piece) = (Vec::new(), vec![0; 64 << 10]);
        loop {
            match self.read(&mut piece) {
                0 => break,
                n => all.extend_from_slice(&piece[..n]),
            }
        }
        let text = String::from_utf8_lossy(&all);
        let mut last: Vec<_> = text.lines().rev().take(9).map(str::to_owned).collect();
        last.reverse();
        self.transcript.lock().expect("a lock").append(&mut last);
    }

    fn message(&mut self) {
        while self.line().expect("a message ends with a dot") != "." {}
    }

    /// Sends a byte now and then, until the client has had enough.
    fn trickle(&mut self) {
        let Stream::Plain(socket) = &mut self.stream else { panic!("not over TLS") };
        let pause = Duration::from_millis(5);
        while socket.write_all(b"2").is_ok() {
            if self.test_over.recv_timeout(pause) == Err(RecvTimeoutError::Disconnected) {
                return;
            }
        }
    }

    fn accept_all(&mut self) {
        while let Some(line) = self.line() {
            match line.as_str() {
                "DATA" => {
                    self.say("354 go on\r\n");
                    self.message();
                    self.say("250 2.0.0 queued\r\n");
                }
                "QUIT" => return self.goodbye(),
                _ => self.say("250 ok\r\n"),
            }
        }
    }

    fn begin_tls(&mut self) {
        let Stream::Plain(mut socket) = std::mem::replace(&mut self.stream, Stream::None) else {
            panic!("TLS within TLS")
        };
        let config = self.tls.clone().expect("a configuration");
        let mut tls = ServerConnection::new(config).expect("a connection");
        while tls.is_handshaking() {
            if tls.complete_io(&mut socket).is_err() {
                // The client does not trust us, and reads no more.
                return;
            }
        }
        self.stream = Stream::Tls(Box::new(StreamOwned::new(tls, socket)));
    }
}
