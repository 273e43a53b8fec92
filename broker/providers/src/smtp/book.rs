//! The file of servers: which refused, so that the next broker need not find out again, and how much each was handed.
//!
//! It is `smtp-servers.json` in the data directory, and has an entry for each server and user that is left alone, or for which a profile
//! has a `rate` that is used. The name of an
//! entry is a hash: the file names no host and no user, though it has the server's words. It is written when a server refuses and
//! when it works again; for messages only where there is a `rate`. It is replaced as a whole. A file that cannot be read, or is no such file, counts as
//! none.

use std::collections::BTreeMap;
use std::fs;
use std::io::{self, Write};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use ring::digest;
use serde::{Deserialize, Serialize};
use sundown_core::provider::ProviderError;
use sundown_protocol::Code;

use super::rate::Used;
use super::standing::{AN_HOUR, LONGEST_REST, Refusal, Refused};
use crate::files::read_small;
use crate::files::{is_absent, new_private_file};
use crate::network::trace::Trace;

const FILE: &str = "smtp-servers.json";

/// The most servers in it. Others are found out again after a restart.
const MAX_SERVERS: usize = 256;

/// The most characters of a server's words.
const MAX_WORDS: usize = 500;

/// The entries, and the file that they are in.
#[derive(Debug, Default)]
pub(super) struct Book {
    /// The broker's data directory. Without one the entries end with the broker.
    data: Arc<OnceLock<PathBuf>>,
    /// The entries, when they were read.
    entries: Mutex<Option<Entries>>,
}

type Entries = BTreeMap<String, Entry>;

/// What is known of a server.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Known {
    /// How it refused.
    pub(super) refused: Refused,
    /// What it was handed of the allowance.
    pub(super) used: Option<Used>,
}

/// The refusals of one server, and what it was handed. Times are those of the wall clock, because a restart of the machine lies between.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Entry {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    server: Option<Count>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    passwords: Vec<(Count, Trace)>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    allowance: Option<Allowance>,
}

/// What is used of an allowance.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Allowance {
    rate: String,
    /// When all of it has come back, in milliseconds since 1970.
    until: u64,
    /// How many milliseconds that was from when it was written.
    left: u64,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Count {
    times: u32,
    /// Milliseconds since 1970.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    until: Option<u64>,
    words: String,
}

/// The two clocks at one moment.
#[derive(Debug, Clone, Copy)]
pub(super) struct Clocks {
    pub(super) now: Instant,
    pub(super) wall: SystemTime,
}

impl Clocks {
    /// What they say now.
    pub(super) fn read() -> Self {
        Self { now: Instant::now(), wall: SystemTime::now() }
    }

    fn on_the_wall(self, at: Instant) -> u64 {
        let at = self.wall + at.saturating_duration_since(self.now);
        at.duration_since(UNIX_EPOCH).map_or(0, |since| since.as_millis() as u64)
    }

    /// A wall clock that was set back does not make a rest longer than any is.
    fn instant(self, wall: u64, longest: Duration) -> Instant {
        let wall = UNIX_EPOCH + Duration::from_millis(wall.min(1 << 52));
        let left = wall.duration_since(self.wall).unwrap_or_default();
        self.now + left.min(longest)
    }
}

impl Book {
    /// The book in this data directory, which may be named later.
    pub(super) fn new(data: Arc<OnceLock<PathBuf>>) -> Self {
        Self { data, entries: Mutex::default() }
    }

    /// What an earlier broker has known of a server.
    pub(super) fn find(&self, name: &str, clocks: Clocks) -> Known {
        let mut entries = self.lock();
        let entries = entries.get_or_insert_with(|| self.read());
        entries.get(name).map(|entry| entry.known(clocks)).unwrap_or_default()
    }

    /// Writes down what is known of a server. It is looked at when this is its turn, so that the last one to write has the newest.
    pub(super) fn note(&self, name: &str, known: impl FnOnce() -> Known, clocks: Clocks) {
        let mut entries = self.lock();
        let entries = entries.get_or_insert_with(|| self.read());
        let entry = Entry::of(&known(), clocks);
        if entries.len() >= MAX_SERVERS {
            entries.retain(|_, entry| !entry.is_nothing(clocks));
        }
        let before = if entry.is_nothing(clocks) {
            entries.remove(name)
        } else if entries.len() < MAX_SERVERS || entries.contains_key(name) {
            entries.insert(name.to_owned(), entry)
        } else {
            return;
        };
        if before.as_ref() != entries.get(name) {
            self.write(entries);
        }
    }

    fn lock(&self) -> MutexGuard<'_, Option<Entries>> {
        self.entries.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn path(&self) -> Option<PathBuf> {
        self.data.get().map(|data| data.join(FILE))
    }

    fn read(&self) -> Entries {
        let Some(path) = self.path() else { return Entries::new() };
        let bytes = match read_small(&path) {
            Ok(bytes) => bytes,
            Err(error) if is_absent(&error) => return Entries::new(),
            Err(error) => {
                tracing::warn!(path = %path.display(), %error,
                    "which servers are left alone cannot be read; each is tried anew");
                return Entries::new();
            }
        };
        serde_json::from_slice(&bytes).unwrap_or_else(|error| {
            tracing::warn!(path = %path.display(), %error,
                "which servers are left alone is damaged; each is tried anew");
            Entries::new()
        })
    }

    fn write(&self, entries: &Entries) {
        let Some(path) = self.path() else { return };
        let new = path.with_extension("new");
        let written = serde_json::to_vec(entries).map_err(io::Error::other).and_then(|bytes| {
            let _ = fs::remove_file(&new);
            let mut file = new_private_file(&new)?;
            file.write_all(&bytes)?;
            file.sync_data()?;
            fs::rename(&new, &path)
        });
        if let Err(error) = written {
            tracing::warn!(path = %path.display(), %error,
                "which servers are left alone cannot be written; the next broker tries them anew");
        }
    }
}

/// The name of a server and a user in the file.
pub(super) fn name(host: &str, port: u16, username: Option<&str>) -> String {
    let user = username.map(|name| format!("\n{name}")).unwrap_or_default();
    let sum = digest::digest(&digest::SHA256, format!("{host}\n{port}{user}").as_bytes());
    sum.as_ref().iter().map(|byte| format!("{byte:02x}")).collect()
}

impl Allowance {
    fn of(used: Used, clocks: Clocks) -> Option<Self> {
        let left = used.back.saturating_duration_since(clocks.now).as_millis();
        let left = u64::try_from(left).ok().filter(|left| *left > 0)?;
        let until = clocks.on_the_wall(used.back);
        Some(Self { rate: used.rate.to_string(), until, left })
    }

    fn used(&self, clocks: Clocks) -> Option<Used> {
        let rate = self.rate.parse().ok()?;
        let longest = Duration::from_millis(self.left.min(1 << 52));
        Some(Used { rate, back: clocks.instant(self.until, longest) })
    }
}

impl Entry {
    /// Whether it says nothing, or nothing any more.
    fn is_nothing(&self, clocks: Clocks) -> bool {
        let is_used = |allowance: &Allowance| {
            allowance.used(clocks).is_some_and(|used| used.back > clocks.now)
        };
        self.server.is_none()
            && self.passwords.is_empty()
            && !self.allowance.as_ref().is_some_and(is_used)
    }

    fn of(Known { refused, used }: &Known, clocks: Clocks) -> Self {
        let count = |refusal: &Refusal| Count {
            times: refusal.count,
            until: refusal.until.map(|until| clocks.on_the_wall(until)),
            words: refusal.error.message.chars().take(MAX_WORDS).collect(),
        };
        Self {
            server: refused.server.as_ref().map(count),
            passwords: refused.passwords.iter().map(|(one, trace)| (count(one), *trace)).collect(),
            allowance: used.and_then(|used| Allowance::of(used, clocks)),
        }
    }

    fn known(&self, clocks: Clocks) -> Known {
        let used = self.allowance.as_ref().and_then(|allowance| allowance.used(clocks));
        Known { refused: self.refused(clocks), used }
    }

    fn refused(&self, clocks: Clocks) -> Refused {
        let refusal = |count: &Count, code, longest| Refusal {
            count: count.times,
            until: count.until.map(|until| clocks.instant(until, longest)),
            error: ProviderError::new(code, count.words.clone()),
        };
        let server = self.server.as_ref().map(|count| {
            let refusal = refusal(count, Code::E_CALL_FAILED, LONGEST_REST);
            Refusal { error: refusal.error.of_server(), ..refusal }
        });
        let passwords = self
            .passwords
            .iter()
            .map(|(count, trace)| (refusal(count, Code::E_LOGON_FAILED, AN_HOUR), *trace));
        Refused { server, passwords: passwords.collect() }
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use tempfile::TempDir;

    use super::*;

    fn book(home: &TempDir) -> Book {
        let data: Arc<OnceLock<PathBuf>> = Arc::default();
        data.set(home.path().to_owned()).expect("once");
        Book::new(data)
    }

    fn known(clocks: Clocks) -> Known {
        Known { refused: refused(clocks), used: None }
    }

    fn refused(clocks: Clocks) -> Refused {
        let refusal = |count, seconds: Option<u64>, error| Refusal {
            count,
            until: seconds.map(|seconds| clocks.now + Duration::from_secs(seconds)),
            error,
        };
        let server = ProviderError::new(Code::E_CALL_FAILED, "421 not now").of_server();
        let password = ProviderError::new(Code::E_LOGON_FAILED, "535 no");
        let trace = Trace::of("anna", &"secret".into());
        Refused {
            server: Some(refusal(3, Some(8), server)),
            passwords: vec![(refusal(2, None, password), trace)],
        }
    }

    #[test]
    fn the_next_broker_knows_what_the_last_one_did() {
        let home = tempfile::tempdir().expect("a directory");
        let clocks = Clocks::read();
        let told = known(clocks);
        book(&home).note("one", || told.clone(), clocks);
        let later = Duration::from_secs(3);
        let next = Clocks { now: clocks.now + later, wall: clocks.wall + later };
        let found = book(&home).find("one", next).refused;
        let told = told.refused;
        let left = |refused: &Refused| {
            let until = refused.server.as_ref().and_then(|refusal| refusal.until);
            until.expect("it rests").saturating_duration_since(clocks.now).as_secs_f64().round()
        };
        assert_eq!((left(&found), left(&told)), (8.0, 8.0));
        assert_eq!(found.passwords, told.passwords);
        assert_eq!(found.server.map(|s| s.error), told.server.map(|s| s.error));
        assert_eq!(book(&home).find("two", next), Known::default());
        let path = home.path().join(FILE);
        let mode = fs::metadata(&path).expect("it is there").permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        book(&home).note("one", Known::default, next);
        assert_eq!(book(&home).find("one", next), Known::default(), "it works again");
    }

    /// What was handed over comes back while no broker runs, and a clock that was set back makes it no longer.
    #[test]
    fn what_was_handed_over_is_known_until_it_has_come_back() {
        let home = tempfile::tempdir().expect("a directory");
        let clocks = Clocks::read();
        let hour = Duration::from_secs(3600);
        let used = Used { rate: "100/h".parse().expect("a rate"), back: clocks.now + hour };
        book(&home).note("one", || Known { used: Some(used), ..Known::default() }, clocks);
        let found = |clocks| book(&home).find("one", clocks).used.expect("it is there");
        let later = Clocks { wall: clocks.wall + hour / 2, now: clocks.now };
        let left = found(later).back.saturating_duration_since(clocks.now);
        assert_eq!((left.as_secs() + 30) / 60, 30);
        assert_eq!(found(later).rate, used.rate);
        let back = Clocks { wall: clocks.wall - 1000 * hour, now: clocks.now };
        assert!(found(back).back <= used.back);
        // An entry that says nothing any more makes room, and only where there is need.
        let end = Clocks { wall: clocks.wall + 2 * hour, now: clocks.now };
        for number in 1..MAX_SERVERS {
            book(&home).note(&number.to_string(), || known(clocks), clocks);
        }
        assert!(book(&home).find("one", clocks).used.is_some());
        book(&home).note("another", || known(end), end);
        assert_eq!(book(&home).find("one", clocks), Known::default());
        assert!(!book(&home).find("another", end).refused.is_nothing());
    }

    /// A wall clock that was set back makes no rest longer.
    #[test]
    fn a_clock_that_was_set_back_is_survived() {
        let home = tempfile::tempdir().expect("a directory");
        let clocks = Clocks::read();
        book(&home).note("one", || known(clocks), clocks);
        let back = Clocks { wall: clocks.wall - Duration::from_secs(1 << 30), ..clocks };
        let server = book(&home).find("one", back).refused.server.expect("it is there");
        assert_eq!(server.until, Some(clocks.now + LONGEST_REST));
    }

    #[test]
    fn what_cannot_be_read_is_as_none() {
        let home = tempfile::tempdir().expect("a directory");
        let clocks = Clocks::read();
        book(&home).note("one", || known(clocks), clocks);
        let path = home.path().join(FILE);
        let whole = fs::read(&path).expect("it is there");
        for torn in [&whole[..whole.len() / 2], b"", b"[]", b"{\"one\":{\"server\":7}}"] {
            fs::write(&path, torn).expect("written");
            assert_eq!(book(&home).find("one", clocks), Known::default());
        }
        fs::write(&path, vec![b' '; (1 << 20) + 1]).expect("written");
        assert_eq!(book(&home).find("one", clocks), Known::default());
        // Neither a pipe that nothing is written to nor a file without an end holds anything up.
        fs::remove_file(&path).expect("removed");
        rustix::fs::mknodat(rustix::fs::CWD, &path, rustix::fs::FileType::Fifo, 0o600.into(), 0)
            .expect("made");
        assert_eq!(book(&home).find("one", clocks), Known::default());
        fs::remove_file(&path).expect("removed");
        std::os::unix::fs::symlink("/dev/zero", &path).expect("made");
        assert_eq!(book(&home).find("one", clocks), Known::default());
        fs::remove_file(&path).expect("removed");
        fs::create_dir(&path).expect("made");
        assert_eq!(book(&home).find("one", clocks), Known::default());
        // What cannot be written is known as long as the broker lives.
        let book = book(&home);
        book.note("one", || known(clocks), clocks);
        assert!(!book.find("one", clocks).refused.is_nothing());
    }

    #[test]
    fn a_name_names_nobody() {
        let name = name("smtp.example.org", 587, Some("anna"));
        assert!(name.len() == 64 && !name.contains("anna"), "{name}");
        assert_ne!(name, super::name("smtp.example.org", 587, None));
        assert_ne!(name, super::name("smtp.example.org", 465, Some("anna")));
    }
}
