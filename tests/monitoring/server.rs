//! A mail server that takes everything but mail to `reject@`, which it refuses for good. It keeps nothing.

use std::io::{BufRead, BufReader, Write};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::thread;

/// Its port. Its threads end with the test's process.
pub(crate) struct Server(u16);

impl Server {
    pub(crate) fn start() -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a port is free");
        let port = listener.local_addr().expect("an address").port();
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                thread::spawn(move || talk(stream));
            }
        });
        Self(port)
    }

    pub(crate) fn port(&self) -> u16 {
        self.0
    }
}

/// One conversation. A peer that hangs up ends it.
fn talk(stream: TcpStream) -> Option<()> {
    let mut answers = stream.try_clone().ok()?;
    let mut say = move |line: &str| answers.write_all(format!("{line}\r\n").as_bytes()).ok();
    let mut lines = BufReader::new(stream).lines();
    say("220 mx.example ready")?;
    loop {
        let line = lines.next()?.ok()?.to_ascii_lowercase();
        match line.split([' ', ':']).next()? {
            "rcpt" if line.contains("<reject@") => say("550 5.1.1 nobody has that name"),
            "data" => {
                say("354 go on")?;
                while lines.next()?.ok()? != "." {}
                say("250 2.0.0 taken")
            }
            "quit" => {
                say("221 bye")?;
                return None;
            }
            _ => say("250 ok"),
        }?;
    }
}
