//! A server that does what no honest one does, line by line.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use super::listen;

/// What the server does instead of what it should.
#[derive(Debug, Clone)]
pub(crate) enum Act {
    /// It says this, which has its line ends.
    Say(String),
    /// It says this and closes the connection.
    SayAndClose(String),
    /// It closes the connection.
    Close,
    /// It says nothing any more.
    Hang,
    /// It says this, a byte at a time with so long between them.
    Drip(String, Duration),
    /// It says this again and again, without an end.
    Flood(String),
    /// It reads so many bytes of the message and closes the connection.
    CloseWithin(usize),
}

/// A running server. It ends with its test.
pub(crate) struct Scripted {
    port: u16,
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

type Script = dyn Fn(&str, &str) -> Option<Act> + Send + Sync;

struct Shared {
    /// What to do, by the command: `CONNECT`, `EHLO` …, `.` after a message, `BODY` before one; and its whole line.
    script: Box<Script>,
    healed: AtomicBool,
    over: AtomicBool,
    taken: Mutex<Vec<Talk>>,
    /// Whenever there is another one.
    more: Condvar,
}

/// A transaction that the server said yes to.
#[derive(Debug, Clone, Default)]
pub(crate) struct Talk {
    /// The line of MAIL.
    pub(crate) mail: String,
    /// The addresses of every RCPT that was answered with 250.
    pub(crate) recipients: Vec<String>,
    /// The message as it came, without its last line of one dot.
    pub(crate) message: Vec<u8>,
}

impl Scripted {
    /// A server that behaves, but where the script has something else for it to do.
    pub(crate) fn start(
        script: impl Fn(&str, &str) -> Option<Act> + Send + Sync + 'static,
    ) -> Self {
        let (listener, port) = listen();
        Self::start_on(listener, port, script)
    }

    /// A server at a port that is free.
    pub(crate) fn start_at(
        port: u16,
        script: impl Fn(&str, &str) -> Option<Act> + Send + Sync + 'static,
    ) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, port)).expect("it is free");
        Self::start_on(listener, port, script)
    }

    fn start_on(
        listener: TcpListener,
        port: u16,
        script: impl Fn(&str, &str) -> Option<Act> + Send + Sync + 'static,
    ) -> Self {
        let shared = Arc::new(Shared {
            script: Box::new(script),
            healed: AtomicBool::new(false),
            over: AtomicBool::new(false),
            taken: Mutex::default(),
            more: Condvar::new(),
        });
        let all = shared.clone();
        let thread = std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                if all.over.load(Ordering::SeqCst) {
                    break;
                }
                let one = all.clone();
                // Who hangs up at a bad moment is the broker, or the end of the test.
                std::thread::spawn(move || drop(one.serve(&stream)));
            }
        });
        Self { port, shared, thread: Some(thread) }
    }

    pub(crate) fn port(&self) -> u16 {
        self.port
    }

    /// From now on it behaves.
    pub(crate) fn heal(&self) {
        self.shared.healed.store(true, Ordering::SeqCst);
    }

    /// The transactions that it said yes to, when there are so many: a message may be sent before the server has noted it.
    pub(crate) fn taken_until(&self, count: usize) -> Vec<Talk> {
        let taken = self.shared.taken.lock().unwrap_or_else(PoisonError::into_inner);
        let few = |taken: &mut Vec<Talk>| taken.len() < count;
        let waited = self.shared.more.wait_timeout_while(taken, Duration::from_secs(60), few);
        waited.unwrap_or_else(PoisonError::into_inner).0.clone()
    }

    /// The transactions that it said yes to.
    pub(crate) fn taken(&self) -> Vec<Talk> {
        self.shared.taken.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl Drop for Scripted {
    fn drop(&mut self) {
        self.shared.over.store(true, Ordering::SeqCst);
        // Whoever waits for a connection looks up at one.
        let _ = TcpStream::connect((Ipv4Addr::LOCALHOST, self.port));
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

impl Shared {
    fn serve(&self, stream: &TcpStream) -> std::io::Result<()> {
        let mut input = BufReader::new(stream);
        let mut talk = Talk::default();
        self.answer(&mut input, "CONNECT", "", "220 scripted ESMTP\r\n")?;
        loop {
            let mut line = Vec::new();
            if input.read_until(b'\n', &mut line)? == 0 {
                return Ok(());
            }
            let line = String::from_utf8_lossy(&line).trim_end().to_owned();
            let verb = line.split(' ').next().unwrap_or_default().to_ascii_uppercase();
            let usual = match verb.as_str() {
                "EHLO" => "250-scripted\r\n250-8BITMIME\r\n250 SIZE 100000000\r\n",
                "DATA" => "354 go on\r\n",
                "QUIT" => "221 bye\r\n",
                _ => "250 ok\r\n",
            };
            let said = self.answer(&mut input, &verb, &line, usual)?;
            match verb.as_str() {
                "MAIL" => talk = Talk { mail: line, ..Talk::default() },
                "RSET" => talk = Talk::default(),
                "RCPT" if said.starts_with("250") => {
                    let address = line.split(['<', '>']).nth(1).unwrap_or_default();
                    talk.recipients.push(address.to_owned());
                }
                "DATA" if said.starts_with("354") => {
                    self.answer(&mut input, "BODY", "", "")?;
                    talk.message = body(&mut input)?;
                    let said = self.answer(&mut input, ".", "", "250 taken\r\n")?;
                    let talk = std::mem::take(&mut talk);
                    if said.starts_with("250 ") {
                        self.taken.lock().unwrap_or_else(PoisonError::into_inner).push(talk);
                        self.more.notify_all();
                    }
                }
                "QUIT" => return Ok(()),
                _ => {}
            }
        }
    }

    /// Does what the script says, or the usual; gives back what was said.
    fn answer(
        &self,
        input: &mut BufReader<&TcpStream>,
        verb: &str,
        line: &str,
        usual: &str,
    ) -> std::io::Result<String> {
        let mut stream = *input.get_ref();
        let healed = self.healed.load(Ordering::SeqCst);
        let act = if healed { None } else { (self.script)(verb, line) };
        let closed = || std::io::Error::from(std::io::ErrorKind::ConnectionAborted);
        match act.unwrap_or_else(|| Act::Say(usual.to_owned())) {
            Act::Say(text) => {
                stream.write_all(text.as_bytes())?;
                Ok(text)
            }
            Act::SayAndClose(text) => {
                stream.write_all(text.as_bytes())?;
                Err(closed())
            }
            Act::Close => Err(closed()),
            Act::CloseWithin(bytes) => {
                input.read_exact(&mut vec![0; bytes])?;
                Err(closed())
            }
            Act::Hang => {
                // The other side gives up first.
                std::io::copy(input, &mut std::io::sink())?;
                Err(closed())
            }
            Act::Drip(text, pause) => {
                stream.set_read_timeout(Some(pause))?;
                for byte in text.bytes() {
                    stream.write_all(&[byte])?;
                    // The pause: nothing comes in the meantime, unless the other side hangs up.
                    if matches!(stream.peek(&mut [0]), Ok(0)) {
                        return Err(closed());
                    }
                }
                stream.set_read_timeout(None)?;
                Ok(text)
            }
            Act::Flood(text) => {
                let piece = text.repeat(1000);
                loop {
                    stream.write_all(piece.as_bytes())?;
                }
            }
        }
    }
}

/// The message, up to its last line of one dot.
fn body(input: &mut impl BufRead) -> std::io::Result<Vec<u8>> {
    let mut message = Vec::new();
    loop {
        let mut line = Vec::new();
        if input.read_until(b'\n', &mut line)? == 0 {
            return Err(std::io::ErrorKind::UnexpectedEof.into());
        }
        if line == b".\r\n" {
            return Ok(message);
        }
        message.extend_from_slice(line.strip_prefix(b".").unwrap_or(&line));
    }
}
