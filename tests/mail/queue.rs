//! The outgoing queue of a home, and profiles that send by SMTP.

use std::collections::BTreeMap;
use std::time::Instant;

use serde_json::Value;

use crate::harness::{Home, Shell, left};

/// What a fault means for a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fate {
    /// It goes out as if nothing were wrong.
    Sent,
    /// It waits, and goes out when the fault is gone.
    Deferred,
    /// It is given up, and its sender is told.
    Bounced,
    /// Nobody knows whether it went out; it stays where it is until somebody says what to do.
    Unknown,
}

impl Fate {
    /// The state of the message while the fault is there.
    pub(crate) fn state(self) -> &'static str {
        match self {
            Self::Sent => "sent",
            Self::Deferred => "deferred",
            Self::Bounced => "bounced",
            Self::Unknown => "unknown",
        }
    }

    /// Its state at the end, when the fault is gone.
    pub(crate) fn end(self) -> &'static str {
        match self {
            Self::Deferred => "sent",
            other => other.state(),
        }
    }

    /// Whether a row shows what must become of the message while the fault is there; anything else but waiting fails.
    pub(crate) fn is_met(self, row: &Value, fault: &str) -> bool {
        let state = row["state"].as_str().unwrap_or_default();
        let is_final = ["sent", "bounced", "unknown", "aborted", "held"].contains(&state);
        assert!(!is_final || state == self.state(), "{fault}: not {}: {row:#}", self.state());
        // What is deferred is tried again so soon that nobody may see it.
        state == self.state() || (self == Self::Deferred && row["last_error"].is_string())
    }
}

/// Rows by their entries.
pub(crate) fn by_entry(rows: &[Value]) -> BTreeMap<&str, &Value> {
    rows.iter().map(|row| (row["entry"].as_str().expect("text"), row)).collect()
}

/// The end of a profile: retries that a test does not notice.
pub(crate) const RETRIES: &str =
    "[queue]\nretry_min = \"100ms\"\nretry_max = \"200ms\"\nmax_age = \"5d\"\n";

/// A transport that takes everything and hands it over in the clear, with these lines besides.
pub(crate) fn transport(port: u16, more: &str) -> String {
    let security = if more.contains("security") { "" } else { "security = \"none\"\n" };
    let timeout = if more.contains("timeout") { "" } else { "timeout = \"2s\"\n" };
    let host = if more.contains("host") { "" } else { "host = \"127.0.0.1\"\n" };
    format!(
        "[[transport]]\nkind = \"smtp\"\n{host}port = {port}\n{security}{timeout}\
         connect_timeout = \"2s\"\naccept = [\"*\"]\n{more}\n"
    )
}

impl Home {
    /// Writes the default profile: a server in the clear, with these lines besides.
    pub(crate) fn sends_to(&self, port: u16, more: &str) {
        self.profile("default", &format!("{}{RETRIES}", transport(port, more)));
    }

    /// A message from and to people elsewhere.
    pub(crate) fn letter(&self, subject: &str) -> std::path::PathBuf {
        let text = format!(
            "From: me@home.test\nTo: user@test\nSubject: {subject}\nMessage-ID: <{subject}@home.test>\n\n\
             This is {subject}.\n"
        );
        self.write(&format!("{subject}.eml"), text)
    }

    /// What a command about the queue says.
    pub(crate) fn queue(&self, arguments: &[&str]) -> Value {
        self.run(&[&["queue", "--json"], arguments].concat()).ok().json()
    }

    /// The rows of every profile with a session, also the final ones.
    pub(crate) fn rows(&self) -> Vec<Value> {
        let Value::Array(rows) = self.queue(&["list", "--all"]) else { panic!("no rows") };
        rows
    }

    /// Looks at the queue until it is as wanted; what it looks at is told to nobody.
    pub(crate) fn rows_until(&self, what: &str, fits: impl Fn(&[Value]) -> bool) -> Vec<Value> {
        let since = Instant::now();
        loop {
            let rows = self.rows();
            if fits(&rows) {
                return rows;
            }
            assert!(!left(since).is_zero(), "waiting for {what}: {rows:#?}");
        }
    }

    /// One entry with its recipients, when it has come to that state.
    pub(crate) fn entry_until(&self, entry: &str, state: &str) -> Value {
        self.entry_with(entry, state, |row| {
            let found = row["state"].as_str().unwrap_or_default();
            let is_final = ["sent", "bounced", "aborted"].contains(&found);
            assert!(!is_final || found == state, "never {state}: {row:#}");
            found == state
        })
    }

    /// One entry with its recipients, when it is as wanted.
    pub(crate) fn entry_with(
        &self,
        entry: &str,
        what: &str,
        fits: impl Fn(&Value) -> bool,
    ) -> Value {
        let since = Instant::now();
        loop {
            let row = self.queue(&["show", entry]);
            if fits(&row) {
                return row;
            }
            assert!(!left(since).is_zero(), "waiting for {what}: {row:#}");
        }
    }
}

impl Shell {
    /// The notices about failures in the Inbox of a session.
    pub(crate) fn notices(&mut self, session: u64) -> Vec<String> {
        let inbox = self.ok(&format!("open session={session} what=inbox"))["object"].clone();
        let rows = self.ok(&format!("list object={inbox}"))["rows"].clone();
        self.ok(&format!("release object={inbox}"));
        let entries = rows.as_array().expect("rows").iter();
        let entries: Vec<_> =
            entries.map(|row| row["entry"].as_str().expect("text").to_owned()).collect();
        let mut read = |entry: &String| {
            let read = self.ok(&format!("read session={session} entry={entry}"));
            read["content"].as_str().expect("text").to_owned()
        };
        entries.iter().map(&mut read).collect()
    }
}
