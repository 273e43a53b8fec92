//! The file of servers that refused: what the next broker must not find out again.
//!
//! It is `smtp-servers.json` in the data directory, and has an entry for each server and user that is left alone. The name of an
//! entry is a hash: the file names no host and no user, though it has the server's words. It is written when a server refuses and
//! when it works again, and not for messages. It is replaced as a whole. A file that cannot be read, or is no such file, counts as
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

use super::standing::{AN_HOUR, LONGEST_REST, Refusal, Refused};
use super::trace::Trace;
use crate::files::read_small;
use crate::files::{is_absent, new_private_file};

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

/// The refusals of one server. Times are those of the wall clock, because a restart of the machine lies between.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Entry {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    server: Option<Count>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    passwords: Vec<(Count, Trace)>,
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

    /// How a server has refused an earlier broker.
    pub(super) fn find(&self, name: &str, clocks: Clocks) -> Refused {
        let mut entries = self.lock();
        let entries = entries.get_or_insert_with(|| self.read());
        entries.get(name).map(|entry| entry.refused(clocks)).unwrap_or_default()
    }

    /// Writes down how a server refuses. It is looked at when this is its turn, so that the last one to write has the newest.
    pub(super) fn note(&self, name: &str, refused: impl FnOnce() -> Refused, clocks: Clocks) {
        let mut entries = self.lock();
        let entries = entries.get_or_insert_with(|| self.read());
        let refused = refused();
        let before = if refused.is_nothing() {
            entries.remove(name)
        } else if entries.len() < MAX_SERVERS || entries.contains_key(name) {
            entries.insert(name.to_owned(), Entry::of(&refused, clocks))
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

impl Entry {
    fn of(refused: &Refused, clocks: Clocks) -> Self {
        let count = |refusal: &Refusal| Count {
            times: refusal.count,
            until: refusal.until.map(|until| clocks.on_the_wall(until)),
            words: refusal.error.message.chars().take(MAX_WORDS).collect(),
        };
        Self {
            server: refused.server.as_ref().map(count),
            passwords: refused.passwords.iter().map(|(one, trace)| (count(one), *trace)).collect(),
        }
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
        let told = refused(clocks);
        book(&home).note("one", || told.clone(), clocks);
        let later = Duration::from_secs(3);
        let next = Clocks { now: clocks.now + later, wall: clocks.wall + later };
        let found = book(&home).find("one", next);
        let left = |refused: &Refused| {
            let until = refused.server.as_ref().and_then(|refusal| refusal.until);
            until.expect("it rests").saturating_duration_since(clocks.now).as_secs_f64().round()
        };
        assert_eq!((left(&found), left(&told)), (8.0, 8.0));
        assert_eq!(found.passwords, told.passwords);
        assert_eq!(found.server.map(|s| s.error), told.server.map(|s| s.error));
        assert_eq!(book(&home).find("two", next), Refused::default());
        let path = home.path().join(FILE);
        let mode = fs::metadata(&path).expect("it is there").permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        book(&home).note("one", Refused::default, next);
        assert_eq!(book(&home).find("one", next), Refused::default(), "it works again");
    }

    /// A wall clock that was set back makes no rest longer.
    #[test]
    fn a_clock_that_was_set_back_is_survived() {
        let home = tempfile::tempdir().expect("a directory");
        let clocks = Clocks::read();
        book(&home).note("one", || refused(clocks), clocks);
        let back = Clocks { wall: clocks.wall - Duration::from_secs(1 << 30), ..clocks };
        let server = book(&home).find("one", back).server.expect("it is there");
        assert_eq!(server.until, Some(clocks.now + LONGEST_REST));
    }

    #[test]
    fn what_cannot_be_read_is_as_none() {
        let home = tempfile::tempdir().expect("a directory");
        let clocks = Clocks::read();
        book(&home).note("one", || refused(clocks), clocks);
        let path = home.path().join(FILE);
        let whole = fs::read(&path).expect("it is there");
        for torn in [&whole[..whole.len() / 2], b"", b"[]", b"{\"one\":{\"server\":7}}"] {
            fs::write(&path, torn).expect("written");
            assert_eq!(book(&home).find("one", clocks), Refused::default());
        }
        fs::write(&path, vec![b' '; (1 << 20) + 1]).expect("written");
        assert_eq!(book(&home).find("one", clocks), Refused::default());
        // Neither a pipe that nothing is written to nor a file without an end holds anything up.
        fs::remove_file(&path).expect("removed");
        rustix::fs::mknodat(rustix::fs::CWD, &path, rustix::fs::FileType::Fifo, 0o600.into(), 0)
            .expect("made");
        assert_eq!(book(&home).find("one", clocks), Refused::default());
        fs::remove_file(&path).expect("removed");
        std::os::unix::fs::symlink("/dev/zero", &path).expect("made");
        assert_eq!(book(&home).find("one", clocks), Refused::default());
        fs::remove_file(&path).expect("removed");
        fs::create_dir(&path).expect("made");
        assert_eq!(book(&home).find("one", clocks), Refused::default());
        // What cannot be written is known as long as the broker lives.
        let book = book(&home);
        book.note("one", || refused(clocks), clocks);
        assert!(!book.find("one", clocks).is_nothing());
    }

    #[test]
    fn a_name_names_nobody() {
        let name = name("smtp.example.org", 587, Some("anna"));
        assert!(name.len() == 64 && !name.contains("anna"), "{name}");
        assert_ne!(name, super::name("smtp.example.org", 587, None));
        assert_ne!(name, super::name("smtp.example.org", 465, Some("anna")));
    }
}
