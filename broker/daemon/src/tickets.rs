//! What the brokers that follow one another at a socket share: the key that signs tickets, and when one of them last took on a
//! process.
//!
//! It is a small file in the runtime directory, which ends with the machine's run as processes do:
//!
//! ```text
//!  "sundown1" │ boot id │ key │ stamp
//!   8 bytes     36        32    8
//! ```
//!
//! The *stamp* is the time, in clock ticks since the machine started, at which a broker last took on a process that it did not
//! know. A process that started later was served by no earlier broker, so its first copy of the library is the host. One that
//! started before may have been served, and needs a ticket. The stamp is written in place and not synced: the file outlives a
//! broker, and need not outlive the machine.

use std::ffi::OsString;
use std::fs::{self, File};
use std::io::{self, Write};
use std::os::unix::fs::{FileExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::time::{ClockId, clock_gettime};
use sundown_core::TicketKey;
use sundown_providers::runtime::is_in_memory;

const MAGIC: &[u8; 8] = b"sundown1";
const BOOT: usize = 36;
const KEY_AT: usize = MAGIC.len() + BOOT;
const STAMP_AT: usize = KEY_AT + 32;
const LENGTH: usize = STAMP_AT + 8;

/// The file, as this broker uses it.
#[derive(Debug)]
pub(crate) struct Tickets {
    file: Option<File>,
    key: TicketKey,
    /// The stamp of the brokers before this one; `None` when there was none.
    earlier: Option<u64>,
    /// The stamp as it is now.
    stamp: u64,
}

impl Tickets {
    /// Reads what an earlier broker at this socket has left in one of these directories, the first that can be written, or
    /// begins anew. Where nothing can be written processes lose the right to a fast shutdown with each restart of the broker.
    pub(crate) fn open(directories: &[PathBuf], socket: &Path) -> io::Result<Self> {
        let mut name = socket.file_name().map(OsString::from).unwrap_or_default();
        name.push(".tickets");
        let (mut refused, mut strange) = (None, false);
        for directory in directories {
            match Self::open_file(&directory.join(&name)) {
                Ok(mut tickets) => {
                    if strange {
                        tickets.earlier = Some(ticks(since_boot()));
                    }
                    return Ok(tickets);
                }
                Err(error) => {
                    use io::ErrorKind::{NotFound, PermissionDenied, ReadOnlyFilesystem};
                    // Something is in the file's place and cannot be read: what an earlier broker knew is lost.
                    strange |= match error.kind() {
                        NotFound | ReadOnlyFilesystem => false,
                        PermissionDenied => fs::symlink_metadata(directory.join(&name)).is_ok(),
                        _ => true,
                    };
                    refused = Some((directory, error));
                }
            }
        }
        let refused_any = refused.is_some();
        if let Some((directory, error)) = refused {
            tracing::warn!(%error, directory = %directory.display(),
                "nothing can be kept there for the next broker; programs must log off instead of shutting down fast after it");
        }
        let earlier = refused_any.then(|| ticks(since_boot()));
        Ok(Self { file: None, key: new_key()?, earlier, stamp: 0 })
    }

    fn open_file(path: &Path) -> io::Result<Self> {
        let here = boot_id();
        let found = read(path)?;
        // A file that is not believed was a broker's: which processes that served is not known, so it may have been any.
        let lost = matches!(found, Found::Strange);
        if let Found::Ours(found) = found {
            let same_run = on_tmpfs(path) || (!here.is_empty() && found.boot == here);
            if same_run {
                let file = open(path, &mut File::options())?;
                let (key, stamp) = (found.key, found.stamp);
                return Ok(Self { file: Some(file), key, earlier: Some(stamp), stamp });
            }
        }
        let key = new_key()?;
        let mut bytes = [0; LENGTH];
        bytes[..MAGIC.len()].copy_from_slice(MAGIC);
        for (to, byte) in bytes[MAGIC.len()..KEY_AT].iter_mut().zip(here.bytes()) {
            *to = byte;
        }
        bytes[KEY_AT..STAMP_AT].copy_from_slice(&key.0);
        let new = path.with_extension("tickets.new");
        let _ = fs::remove_file(&new);
        open(&new, File::options().create_new(true))?.write_all(&bytes)?;
        fs::rename(&new, path)?;
        let file = open(path, &mut File::options())?;
        let earlier = lost.then(|| ticks(since_boot()));
        Ok(Self { file: Some(file), key, earlier, stamp: 0 })
    }

    pub(crate) fn key(&self) -> TicketKey {
        self.key
    }

    /// Whether an earlier broker may have served a process, by a function that finds out when the process started, in clock
    /// ticks since the machine did.
    pub(crate) fn served_before(&self, started: impl FnOnce() -> Option<u64>) -> bool {
        self.earlier.is_some_and(|stamp| started().is_none_or(|started| started <= stamp))
    }

    /// A process is taken on.
    pub(crate) fn note(&mut self, now: Duration) {
        let ticks = ticks(now);
        if ticks <= self.stamp {
            return;
        }
        self.stamp = ticks;
        if let Some(file) = &self.file
            && let Err(error) = file.write_all_at(&ticks.to_le_bytes(), STAMP_AT as u64)
        {
            tracing::warn!(%error, "the next broker will not know which processes this one has served");
            self.file = None;
        }
    }
}

/// The time since the machine started, the same for each broker.
pub(crate) fn since_boot() -> Duration {
    let now = clock_gettime(ClockId::Boottime);
    Duration::new(now.tv_sec as u64, now.tv_nsec as u32)
}

fn ticks(time: Duration) -> u64 {
    let a_second = rustix::param::clock_ticks_per_second();
    time.as_secs() * a_second + u64::from(time.subsec_nanos()) * a_second / 1_000_000_000
}

enum Found {
    Nothing,
    /// Something that is no such file of this user's alone.
    Strange,
    Ours(Contents),
}

struct Contents {
    boot: String,
    key: TicketKey,
    stamp: u64,
}

/// What is in the file.
fn read(path: &Path) -> io::Result<Found> {
    let mut file = match open(path, &mut File::options()) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Found::Nothing),
        other => other?,
    };
    let ours = is_ours(&file.metadata()?);
    let mut bytes = [0; LENGTH];
    if !ours || io::Read::read_exact(&mut file, &mut bytes).is_err() || !bytes.starts_with(MAGIC) {
        return Ok(Found::Strange);
    }
    let boot = String::from_utf8_lossy(&bytes[MAGIC.len()..KEY_AT]);
    let mut key = TicketKey::default();
    key.0.copy_from_slice(&bytes[KEY_AT..STAMP_AT]);
    let stamp = u64::from_le_bytes(bytes[STAMP_AT..].try_into().expect("eight bytes"));
    Ok(Found::Ours(Contents { boot: boot.trim_end_matches('\0').to_owned(), key, stamp }))
}

/// Whether something is a file of this user alone.
pub(crate) fn is_ours(about: &fs::Metadata) -> bool {
    about.is_file()
        && about.uid() == rustix::process::geteuid().as_raw()
        && about.mode().trailing_zeros() >= 6
}

fn open(path: &Path, how: &mut fs::OpenOptions) -> io::Result<File> {
    let no_links = rustix::fs::OFlags::NOFOLLOW.bits() as i32;
    how.read(true).write(true).mode(0o600).custom_flags(no_links).open(path)
}

/// The kernel's name for this run of the machine; empty where the broker may not see it.
pub(crate) fn boot_id() -> String {
    let id = fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default();
    id.trim_end().to_owned()
}

/// Whether a file is gone when the machine is.
pub(crate) fn on_tmpfs(path: &Path) -> bool {
    rustix::fs::statfs(path).is_ok_and(|system| is_in_memory(&system))
}

fn new_key() -> io::Result<TicketKey> {
    let mut key = TicketKey::default();
    getrandom::fill(&mut key.0)?;
    Ok(key)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn open_in(directory: &Path) -> Tickets {
        let directories = [directory.join("absent"), directory.to_owned()];
        Tickets::open(&directories, Path::new("/run/broker.sock")).expect("opens")
    }

    #[test]
    fn the_next_broker_has_the_key_and_knows_who_may_have_been_served() {
        let home = tempfile::tempdir().expect("a directory");
        let mut first = open_in(home.path());
        assert!(!first.served_before(|| Some(0)), "there was no broker before");
        first.note(Duration::from_secs(10));
        first.note(Duration::from_secs(9));
        let key = first.key();
        drop(first);
        let second = open_in(home.path());
        assert_eq!(second.key().0, key.0);
        let at = |seconds| move || Some(ticks(Duration::from_secs(seconds)));
        assert!(second.served_before(at(10)) && second.served_before(|| None));
        assert!(!second.served_before(at(11)));
    }

    #[test]
    fn what_is_not_this_users_alone_is_not_believed() {
        use std::os::unix::fs::PermissionsExt;
        let home = tempfile::tempdir().expect("a directory");
        let key = open_in(home.path()).key();
        let path = home.path().join("broker.sock.tickets");
        fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).expect("changed");
        let anew = open_in(home.path());
        assert_ne!(anew.key().0, key.0);
        assert_eq!(fs::metadata(&path).expect("there").mode() & 0o777, 0o600);
        fs::write(&path, "sundown1 and no more").expect("written");
        let damaged = open_in(home.path());
        assert_ne!(damaged.key().0, anew.key().0);
        // Any process may have been served by the broker whose file it was, but none that starts from now on.
        let now = ticks(since_boot());
        assert!(
            damaged.served_before(|| Some(now - 1)) && !damaged.served_before(|| Some(now + 2))
        );
    }

    /// Opens the tickets as a user whose rights the modes of files limit. They do not limit root, for which a thread of its own
    /// becomes another user. `None` where it cannot.
    fn open_without_rights(directories: &[PathBuf]) -> Option<Tickets> {
        use rustix::process::{Gid, Uid};
        use rustix::thread::{set_thread_res_gid, set_thread_res_uid};
        const OTHER: u32 = 65_534;
        let open = || Tickets::open(directories, Path::new("/run/broker.sock")).expect("opens");
        if !rustix::process::geteuid().is_root() {
            return Some(open());
        }
        let opened = std::thread::scope(|scope| {
            let other = scope.spawn(|| {
                let (gid, uid) = (Gid::from_raw(OTHER), Uid::from_raw(OTHER));
                set_thread_res_gid(gid, gid, gid).ok()?;
                set_thread_res_uid(uid, uid, uid).ok()?;
                Some(open())
            });
            other.join()
        });
        opened.expect("it does not panic")
    }

    #[test]
    fn a_file_that_may_not_be_read_was_a_brokers() {
        use std::os::unix::fs::PermissionsExt;
        let mode = |path: &Path, mode| {
            fs::set_permissions(path, fs::Permissions::from_mode(mode)).expect("changed");
        };
        let home = tempfile::tempdir().expect("a directory");
        mode(home.path(), 0o755);
        let [refused, own] = ["refused", "own"].map(|name| home.path().join(name));
        for path in [&refused, &own] {
            fs::create_dir(path).expect("made");
        }
        mode(&own, 0o777);
        let key = open_in(&refused).key();
        let file = refused.join("broker.sock.tickets");
        mode(&file, 0o000);
        mode(&refused, 0o555);
        let now = ticks(since_boot());
        let Some(opened) = open_without_rights(&[refused.clone(), own.clone()]) else {
            // Past the capture of tests: it must be seen.
            let _ = writeln!(io::stdout(), "skipped: this root cannot become another user");
            return;
        };
        assert_ne!(opened.key().0, key.0, "it was not read");
        assert!(own.join("broker.sock.tickets").exists(), "the next broker finds the new key");
        // Any process may have been served by the broker whose file it is, but none that starts from now on.
        assert!(opened.served_before(|| Some(now)));
        assert!(!opened.served_before(|| Some(ticks(since_boot()) + 2)));

        // Where nothing is, and nothing may be made, there was no broker.
        fs::remove_file(own.join("broker.sock.tickets")).expect("removed");
        mode(&refused, 0o755);
        fs::remove_file(file).expect("removed");
        mode(&refused, 0o555);
        let opened = open_without_rights(&[refused, own]).expect("as before");
        assert!(!opened.served_before(|| Some(0)));
    }

    #[test]
    fn another_run_of_the_machine_has_another_key() {
        let home = tempfile::tempdir().expect("a directory");
        let key = open_in(home.path()).key();
        let path = home.path().join("broker.sock.tickets");
        if on_tmpfs(&path) {
            return;
        }
        let mut bytes = fs::read(&path).expect("there");
        bytes[MAGIC.len()] ^= 1;
        fs::write(&path, bytes).expect("written");
        assert_ne!(open_in(home.path()).key().0, key.0);
    }
}
