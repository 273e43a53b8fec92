//! A private Prometheus on the loopback, and what it is asked.

use std::fs::{self, File};
use std::io::{Read, Write};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Instant;

use serde_json::Value;
use tempfile::TempDir;

use crate::harness::{DEADLINE, left, wait_for_end};

/// Whether a program is there; if not, the test says so and passes.
pub(crate) fn installed(name: &str) -> bool {
    let ran =
        Command::new(name).arg("--version").stdout(Stdio::null()).stderr(Stdio::null()).status();
    if ran.is_err() {
        let _ = writeln!(std::io::stdout(), "skipped: {name} is not installed");
    }
    ran.is_ok()
}

/// The body of an answer with status 200.
pub(crate) fn get(place: &str, path: &str) -> String {
    let (status, body) = ask(place, path).expect("it answers");
    assert!(status.contains("200"), "{path}: {status}\n{body}");
    body
}

fn ask(place: &str, path: &str) -> std::io::Result<(String, String)> {
    let mut stream = TcpStream::connect(place)?;
    stream.set_read_timeout(Some(DEADLINE))?;
    // An answer to a request of this version has an end, and is in one piece.
    write!(stream, "GET {path} HTTP/1.0\r\nHost: localhost\r\n\r\n")?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    let (head, body) = answer.split_once("\r\n\r\n").unwrap_or_default();
    Ok((head.lines().next().unwrap_or_default().to_owned(), body.to_owned()))
}

/// A Prometheus with a directory of its own, killed at the end of its test.
pub(crate) struct Prometheus {
    child: Child,
    place: String,
    folder: TempDir,
}

impl Prometheus {
    /// One that asks this place four times a second, and has these alerts.
    pub(crate) fn start(target: &str, alerts: &Path) -> Self {
        let folder = tempfile::Builder::new().prefix("prometheus-").tempdir().expect("a directory");
        let settings = format!(
            "global:\n  scrape_interval: 250ms\n  scrape_timeout: 250ms\n  evaluation_interval: 250ms\nrule_files: [{:?}]\n\
             scrape_configs:\n  - job_name: sundown\n    static_configs:\n      - targets: [{target:?}]\n",
            alerts.display().to_string()
        );
        let path = folder.path().join("prometheus.yml");
        fs::write(&path, settings).expect("written");
        // Somebody else may take the port before Prometheus does: then it ends at once, and another one is tried.
        loop {
            let free = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a port is free");
            let place = free.local_addr().expect("an address").to_string();
            drop(free);
            let log = File::create(folder.path().join("log")).expect("made");
            let mut command = Command::new("prometheus");
            command.arg(format!("--config.file={}", path.display()));
            command.arg(format!("--storage.tsdb.path={}", folder.path().join("data").display()));
            command.arg(format!("--web.listen-address={place}"));
            command.arg("--log.level=warn").stdin(Stdio::null()).stdout(Stdio::null()).stderr(log);
            let mut started = Self {
                child: command.spawn().expect("it starts"),
                place,
                folder: TempDir::new().expect("a directory"),
            };
            if started.is_ready(&folder.path().join("log")) {
                started.folder = folder;
                return started;
            }
        }
    }

    /// Waits until it answers. Not if it ended because its port was taken.
    fn is_ready(&mut self, log: &Path) -> bool {
        let since = Instant::now();
        while !ask(&self.place, "/-/ready").is_ok_and(|(status, _)| status.contains("200")) {
            let said = || fs::read_to_string(log).unwrap_or_default();
            if let Some(status) = self.child.try_wait().expect("it can be waited for") {
                assert!(
                    said().contains("address already in use"),
                    "it ended, {status}: {}",
                    said()
                );
                return false;
            }
            assert!(!left(since).is_zero(), "it does not answer: {}", said());
        }
        true
    }

    fn result(&self, path: &str) -> Vec<Value> {
        let body = get(&self.place, path);
        let answer: Value = serde_json::from_str(&body).expect("it is JSON");
        answer["data"]["result"].as_array().unwrap_or_else(|| panic!("no rows: {body}")).clone()
    }

    /// What it answers now.
    pub(crate) fn ask(&self, question: &str) -> Vec<Value> {
        self.result(&format!("/api/v1/query?query={}", encoded(question)))
    }

    /// What it would have answered since it began, twice a second.
    pub(crate) fn series(&self, question: &str) -> Vec<Value> {
        let rows = self.ask("timestamp(up)");
        let end: f64 = rows[0]["value"][1].as_str().and_then(|at| at.parse().ok()).expect("a time");
        let question = encoded(question);
        self.result(&format!(
            "/api/v1/query_range?query={question}&start={}&end={end}&step=0.5",
            end - 60.0
        ))
    }

    /// Asks until the first value is as wanted.
    pub(crate) fn until(&self, what: &str, question: &str, fits: impl Fn(f64) -> bool) {
        let since = Instant::now();
        loop {
            let rows = self.ask(question);
            let value = rows.first().and_then(|row| row["value"][1].as_str()?.parse().ok());
            if value.is_some_and(&fits) {
                return;
            }
            assert!(!left(since).is_zero(), "waiting for {what}: {rows:?}");
        }
    }
}

impl Drop for Prometheus {
    fn drop(&mut self) {
        let _ = self.child.kill();
        wait_for_end(&mut self.child);
    }
}

/// A text as a part of an address.
fn encoded(text: &str) -> String {
    let byte = |byte: u8| match byte {
        b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'_' | b'.' => char::from(byte).to_string(),
        _ => format!("%{byte:02X}"),
    };
    text.bytes().map(byte).collect()
}
