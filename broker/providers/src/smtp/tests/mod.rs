//! The whole transport against a server that follows a script.

mod auth;
mod dots;
mod lmtp;
mod outcomes;
mod pool;
mod refusals;
mod server;
mod tls;
mod wire;

use std::io::{self, Read};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, channel};
use std::time::Duration;

use sundown_core::provider::{
    AskedBy, FastShutdown, Outcome, ProviderAnswer, ProviderSpec, RecipientResult, StoreRead,
    Transmission,
};
use sundown_protocol::request::Report;

use self::server::Server;
use super::{Destinations, Dots, Smtp};
use crate::{Prepared, Reply, Result, StoreReader, Support, TransportProvider};

/// What a server begins with when it offers little.
const HELLO: &str = "< 220 test ready
    > EHLO
    < 250-test
    < 250-PIPELINING
    < 250-8BITMIME
    < 250 SIZE 1000000";

const MESSAGE: &[u8] = b"Subject: x\nBcc: secret@example.org\nTo: bob\n\nbody\n.dot\n";

/// A store with one message.
#[derive(Clone)]
struct Message(Arc<Vec<u8>>);

impl StoreReader for Message {
    fn read(&mut self, _: &StoreRead) -> Result<ProviderAnswer> {
        Ok(ProviderAnswer::Done)
    }

    fn another(&self) -> Result<Box<dyn StoreReader>> {
        Ok(Box::new(self.clone()))
    }

    fn open(&mut self, record: u128) -> Result<Box<dyn Read + Send + '_>> {
        match record {
            0xBAD => Ok(Box::new(self.0.as_slice().chain(Broken))),
            _ => Ok(Box::new(self.0.as_slice())),
        }
    }
}

struct Broken;

impl Read for Broken {
    fn read(&mut self, _: &mut [u8]) -> io::Result<usize> {
        Err(io::Error::other("the disk is gone"))
    }
}

impl Support for Message {
    fn store(&self, _: u32) -> Result<Box<dyn StoreReader>> {
        self.another()
    }

    fn save(&self, _: u32, _: &str, _: &str, _: &str) -> Result<()> {
        unreachable!("SMTP saves nothing")
    }
}

fn spec(port: u16, options: &[(&str, &str)]) -> ProviderSpec {
    let port = port.to_string();
    let defaults = [
        ("host", "127.0.0.1"),
        ("port", port.as_str()),
        ("security", "none"),
        ("helo", "me.example.org"),
        ("timeout", "20000"),
        ("connect_timeout", "20000"),
    ];
    let own = |(key, value): &(&str, &str)| ((*key).to_owned(), (*value).to_owned());
    // The first of two counts.
    let options = options.iter().chain(&defaults).map(own).collect();
    ProviderSpec {
        name: "relay".into(),
        kind: "smtp".into(),
        path: "/nowhere".into(),
        options,
        fast_shutdown: FastShutdown::Supported,
    }
}

/// A transport that a session is logged on to.
struct Client {
    smtp: Smtp,
    /// The last request of a user.
    word: u64,
}

impl Client {
    fn new(server: &Server, options: &[(&str, &str)]) -> Self {
        Self::with(server.port, options, MESSAGE, &Destinations::default())
    }

    fn with(
        port: u16,
        options: &[(&str, &str)],
        message: &[u8],
        destinations: &Destinations,
    ) -> Self {
        Self::of(&spec(port, options), message, destinations, &Arc::default())
    }

    fn of(
        spec: &ProviderSpec,
        message: &[u8],
        destinations: &Destinations,
        dots: &Arc<Dots>,
    ) -> Self {
        let mut smtp = Smtp::new(spec, destinations, dots).expect("settings");
        smtp.logon(Arc::new(Message(Arc::new(message.to_vec())))).expect("it logs on");
        Self { smtp, word: 0 }
    }

    fn prepare(&mut self, transmission: Transmission) -> Receiver<Result<Prepared>> {
        let (reply, answer) = way();
        self.smtp.prepare(transmission, reply);
        answer
    }

    fn complete(&mut self, id: u64) -> Receiver<Result<Vec<RecipientResult>>> {
        let (reply, answer) = way();
        self.smtp.complete(id, reply);
        answer
    }

    /// Asks what became of a message that was cut off.
    fn recover(&mut self, transmission: Transmission, marker: &str) -> Vec<RecipientResult> {
        let (reply, answer) = way();
        self.smtp.recover(transmission, marker.into(), reply);
        get(&answer).expect("results")
    }

    /// Asks for a user whether it works.
    fn validate(&mut self) -> Result<()> {
        self.word += 1;
        self.ask(AskedBy::User { word: self.word })
    }

    fn ask(&mut self, asked_by: AskedBy) -> Result<()> {
        let (reply, answer) = way();
        self.smtp.validate(asked_by, reply);
        get(&answer)
    }

    /// Does what the core does with one message; what became of each recipient.
    fn send(&mut self, transmission: Transmission) -> Result<Vec<RecipientResult>> {
        let (id, recipients) = (transmission.id, transmission.recipients.len());
        let Prepared { marker, mut refused } = get(&self.prepare(transmission))?;
        if refused.len() == recipients {
            assert_eq!(marker, "");
            return Ok(refused);
        }
        assert!(marker.starts_with("127.0.0.1:") || marker.starts_with("localhost:"), "{marker}");
        refused.extend(get(&self.complete(id)).expect("results"));
        refused.sort_by_key(|result| result.recipient);
        Ok(refused)
    }
}

fn way<T: Send + 'static>() -> (Reply<T>, Receiver<Result<T>>) {
    let (sender, answer) = channel();
    (Reply::new(move |result| drop(sender.send(result))), answer)
}

fn get<T>(answer: &Receiver<Result<T>>) -> Result<T> {
    answer.recv_timeout(Duration::from_secs(60)).expect("an answer comes")
}

fn transmission(id: u64, recipients: &[&str]) -> Transmission {
    Transmission {
        id,
        store: 1,
        record: 0xAB,
        from: "anna@example.org".into(),
        recipients: recipients.iter().map(|r| (*r).to_owned()).enumerate().collect(),
        size: MESSAGE.len() as u64,
        report: Report::default(),
    }
}

fn to_bob(id: u64) -> Transmission {
    transmission(id, &["bob@example.net"])
}

fn outcomes(results: &[RecipientResult]) -> Vec<Outcome> {
    results.iter().map(|result| result.outcome).collect()
}

/// A script that begins as usual.
fn script(rest: &str) -> String {
    format!("{HELLO}\n{rest}")
}
