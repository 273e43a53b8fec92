//! The socket and the data directory. A broker refuses to start where these checks find a problem.

use std::ffi::OsString;
use std::fs::{self, Metadata};
use std::io::ErrorKind;
use std::os::unix::ffi::OsStringExt;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::fs::{Access, access, statfs, statvfs};
use sundown_client::Error;
use sundown_client::files::{lock_holder, read_small};
use sundown_client::paths::{Environment, Paths, Whose};
use sundown_client::socket::{Credentials, connect_within};

use super::finding::Finding;

/// With less free space mail is soon refused, because stores leave a reserve of some MiB. In bytes.
const TOO_LITTLE: u64 = 64 << 20;

/// With less free space a person should look at the disk. In bytes.
const LITTLE: u64 = 512 << 20;

/// How long to wait while a backlog is full. The library has waited before.
const PATIENCE: Duration = Duration::from_secs(1);

/// The broker's lock, which names its socket.
const LOCK_FILE: &str = "broker.lock";

/// File systems in memory, by their numbers in `statfs`.
const TMPFS: u64 = 0x0102_1994;
const RAMFS: u64 = 0x8584_58f6;

/// The kernel's id for this run of the machine.
const BOOT_ID: &str = "/proc/sys/kernel/random/boot_id";

/// Checks the owner and the mode of the socket's directory. A group may enter it if settings name a group.
pub(super) fn socket_directory(paths: &Paths, group: bool) -> Finding {
    let socket = paths.socket.as_path();
    let directory = socket.parent().unwrap_or(Path::new("/"));
    let owner = socket_owner(socket);
    let mode = match paths.whose {
        // All users may reach the host's socket; its own mode says who may connect.
        Whose::Host => 0o755,
        // The same holds for another user's socket: this user does not know the settings of that broker.
        Whose::Own if owner != user() => 0o755,
        Whose::Own if group => 0o750,
        Whose::Own => 0o700,
    };
    match fs::symlink_metadata(directory) {
        Err(error) if error.kind() == ErrorKind::NotFound => {
            let text = format!("{} is not there; a broker makes it", directory.display());
            Finding::ok("socket", text)
        }
        Err(error) => unseen("socket", directory, &error),
        Ok(found) => wrong("socket", directory, &found, mode, owner)
            .unwrap_or_else(|| Finding::ok("socket", closed(directory, &found))),
    }
}

/// Whether the files beside the socket outlive the broker, but not the machine. Only then the next broker knows after a crash what
/// a server had just been given.
pub(super) fn runtime(paths: &Paths) -> Option<Finding> {
    let directory = paths.socket.parent()?;
    let existing = directory.ancestors().find(|above| above.exists())?;
    let system = statfs(existing).ok()?;
    Some(runtime_of(directory, system.f_type as u64, &boot_id()))
}

fn runtime_of(directory: &Path, file_system: u64, boot_id: &str) -> Finding {
    let shown = directory.display();
    let lost = "what a server is given when the broker crashes will be unknown";
    if ![TMPFS, RAMFS].contains(&file_system) {
        let advice = "have the socket in memory, below /run: by XDG_RUNTIME_DIR or --socket";
        return Finding::warning("runtime", format!("{shown} is on a disk: {lost}"), advice);
    }
    if boot_id.is_empty() {
        let advice = "let the broker read it: without ProcSubset=pid in a unit";
        return Finding::warning("runtime", format!("{BOOT_ID} cannot be read: {lost}"), advice);
    }
    Finding::ok("runtime", format!("{shown} is in memory, and outlives a crash"))
}

fn boot_id() -> String {
    fs::read_to_string(BOOT_ID).unwrap_or_default()
}

/// The metadata of a data directory. As a broker does, it follows a link that belongs to this user or to root.
fn look_through_link(directory: &Path) -> std::io::Result<Metadata> {
    let found = fs::symlink_metadata(directory)?;
    let followed = found.is_symlink() && [user(), 0].contains(&found.uid());
    if followed { fs::metadata(directory) } else { Ok(found) }
}

/// The expected owner of the socket's directory. A broker of the system has a directory of its own, whose owner must be the
/// socket's.
fn socket_owner(socket: &Path) -> u32 {
    let owner = fs::symlink_metadata(socket).ok().map(|found| found.uid());
    owner.filter(|_| listens(socket)).unwrap_or_else(user)
}

fn user() -> u32 {
    rustix::process::geteuid().as_raw()
}

fn closed(directory: &Path, found: &Metadata) -> String {
    let (owner, mode) = (found.uid(), found.mode() & 0o777);
    let whose = if owner == user() { "yours".to_owned() } else { format!("user {owner}'s") };
    format!("{} is {whose}, with mode {mode:04o}", directory.display())
}

fn unseen(check: &'static str, path: &Path, error: &std::io::Error) -> Finding {
    let text = format!("cannot look at {}: {error}", path.display());
    Finding::problem(check, text, "make the directories above it accessible to you")
}

/// Why a broker would refuse the directory.
fn wrong(
    check: &'static str,
    directory: &Path,
    found: &Metadata,
    mode: u32,
    owner: u32,
) -> Option<Finding> {
    let shown = directory.display();
    if !found.is_dir() {
        let advice = format!("move {shown} away, and a broker makes a directory there");
        return Some(Finding::problem(check, format!("{shown} is not a directory"), advice));
    }
    if found.uid() != owner {
        let text = format!("{shown} belongs to user {}, not to {owner}", found.uid());
        let option = if check == "data" { "--data-dir" } else { "--socket" };
        return Some(Finding::problem(check, text, format!("choose another one with {option}")));
    }
    let is = found.mode() & 0o777;
    let loose = is & !mode;
    (loose != 0).then(|| {
        let open = if loose & 0o022 == 0 { "entered" } else { "changed" };
        let text = format!("{shown} has mode {is:04o} and can be {open} by others");
        Finding::problem(check, text, format!("chmod {mode:04o} {shown}"))
    })
}

/// Whether /proc is there, where programs find what they start a broker with.
pub(super) fn processes() -> Option<Finding> {
    let why = std::env::current_exe().err()?;
    let text = format!("this command cannot find its own program, and so starts no broker: {why}");
    Some(Finding::problem(
        "proc",
        text,
        "mount it: `mount -t proc proc /proc`; or start brokers by `sundown serve`",
    ))
}

/// Variables that are set and do not count.
pub(super) fn ignored() -> Vec<Finding> {
    let ignored = Environment::of_this_process().ignored();
    let advice = "unset it, or say by an option what it was meant to say; after a logout nothing: mail goes out all the same";
    ignored.iter().map(|one| Finding::warning("environment", one.to_string(), advice)).collect()
}

/// Why no broker answers.
pub(super) fn socket(paths: &Paths, error: &Error) -> Finding {
    if let Some(elsewhere) = listens_elsewhere(paths) {
        let (data, other) = (paths.data.display(), elsewhere.display());
        let text = format!("a broker with the data directory {data} listens on {other}");
        let advice = format!("use it with --socket {other}, or end it with `sundown stop`");
        return Finding::problem("broker", text, advice);
    }
    let path = &paths.socket;
    let shown = path.display();
    if let Some(finding) = unreachable(paths) {
        return finding;
    }
    match fs::symlink_metadata(path) {
        Err(missing) if missing.kind() == ErrorKind::NotFound => {
            Finding::ok("broker", format!("none runs at {shown}; one is started when needed"))
        }
        Err(error) => unseen("broker", path, &error),
        Ok(found) if !found.file_type().is_socket() => {
            let text = format!("{shown} is not a socket");
            Finding::problem("broker", text, "move it away, or choose another --socket")
        }
        Ok(_) => match connect_within(path, PATIENCE) {
            Err(refused) if refused.kind() == ErrorKind::ConnectionRefused => Finding::warning(
                "broker",
                format!("{shown} was left behind by a broker that is gone"),
                "nothing: the next broker replaces it. Its log may say how the last one ended",
            ),
            Err(full) if full.kind() == ErrorKind::TimedOut => Finding::problem(
                "broker",
                format!("what listens on {shown} accepts no connections: {full}"),
                "read its log. If it hangs, end it with `kill -9`: what was accepted is durable, and the next broker finds it",
            ),
            Err(other) => Finding::problem(
                "broker",
                format!("{shown} cannot be connected to: {other}"),
                "ask its owner for access, or choose another --socket",
            ),
            Ok(stream) => silent(&stream, path, error),
        },
    }
}

/// A broker has the data directory, and listens nowhere: its socket was removed while it could not make another, as when it was stopped.
fn unreachable(paths: &Paths) -> Option<Finding> {
    let lock = paths.data.join(LOCK_FILE);
    let pid = lock_holder(&lock)?;
    let named = read_small(&lock).map(|socket| PathBuf::from(OsString::from_vec(socket)));
    let socket = named.unwrap_or_else(|_| paths.socket.clone());
    (!listens(&socket)).then(|| {
        let (data, socket) = (paths.data.display(), socket.display());
        let text = format!("process {pid} has the data directory {data}, and nobody can reach it: nothing listens on {socket}");
        let advice = format!(
            "wait a moment, as it makes its socket anew. If it does not, `kill {pid}` ends it, or `kill -9 {pid}` if it hangs: what was \
             accepted is durable, and the next broker finds it"
        );
        Finding::problem("broker", text, advice)
    })
}

/// Whether a program listens, even if its backlog is full.
fn listens(socket: &Path) -> bool {
    let connected = connect_within(socket, PATIENCE);
    connected.map_or_else(|error| error.kind() == ErrorKind::TimedOut, |_| true)
}

/// A program accepts the connection, and then sends nothing, or nothing valid.
fn silent(stream: &UnixStream, path: &Path, error: &Error) -> Finding {
    let pid = Credentials::of(stream).ok().and_then(|peer| peer.pid);
    let pid = pid.map(|pid| pid.as_raw_nonzero().to_string());
    let text = format!("what listens on {} does not answer: {error}", path.display());
    let advice = format!(
        "read its log. If it hangs, `kill -9 {}`: what was accepted is durable, and the next broker finds it",
        pid.as_deref().unwrap_or("PID")
    );
    Finding::problem("broker", text, advice)
}

/// The socket of the broker that uses the data directory, as its lock file names it, if it differs.
fn listens_elsewhere(paths: &Paths) -> Option<PathBuf> {
    let named = read_small(&paths.data.join(LOCK_FILE)).ok()?;
    let other = PathBuf::from(OsString::from_vec(named));
    let elsewhere = other.is_absolute() && other != paths.socket;
    (elsewhere && listens(&other)).then_some(other)
}

/// Checks the owner of the data directory, whether it can be written to, and how much space is free.
pub(super) fn data(paths: &Paths) -> Vec<Finding> {
    let directory = paths.data.as_path();
    if paths.whose == Whose::Host {
        // The directory belongs to another user, and this user may not see into it.
        let text = format!("{} is the host's broker's", directory.display());
        return [Finding::ok("data", text)].into_iter().chain(room(directory)).collect();
    }
    let mut findings = Vec::new();
    match look_through_link(directory) {
        Err(error) if error.kind() == ErrorKind::NotFound => {
            let text = format!("{} is not there; a broker makes it", directory.display());
            findings.push(Finding::ok("data", text));
        }
        Err(error) => findings.push(unseen("data", directory, &error)),
        Ok(found) => findings.push(
            wrong("data", directory, &found, 0o755, user())
                .unwrap_or_else(|| Finding::ok("data", closed(directory, &found))),
        ),
    }
    let existing = directory.ancestors().find(|above| above.exists());
    if let Some(existing) = existing {
        if let Err(error) = access(existing, Access::WRITE_OK | Access::EXEC_OK) {
            let text = format!("{} cannot be written to: {error}", existing.display());
            let advice = "make it writable to you, or choose another one with --data-dir";
            findings.push(Finding::problem("data", text, advice));
        }
        findings.extend(room(existing));
    }
    findings
}

fn room(directory: &Path) -> Option<Finding> {
    let found = statvfs(directory).ok()?;
    if found.f_files > 0 && found.f_favail == 0 {
        let text = format!("no more files can be made below {}", directory.display());
        return Some(Finding::problem("disk", text, "delete files: mail is refused until then"));
    }
    Some(room_of(found.f_bavail.saturating_mul(found.f_frsize), directory))
}

fn room_of(free: u64, directory: &Path) -> Finding {
    let text = format!("{} free below {}", size(free), directory.display());
    match free {
        ..TOO_LITTLE => {
            Finding::problem("disk", text, "free some: mail is refused when it is full")
        }
        TOO_LITTLE..LITTLE => Finding::warning("disk", text, "free some before it is full"),
        _ => Finding::ok("disk", text),
    }
}

fn size(bytes: u64) -> String {
    match bytes >> 20 {
        mib @ 0..10240 => format!("{mib} MiB"),
        mib => format!("{} GiB", mib >> 10),
    }
}

#[cfg(test)]
mod tests {
    use super::super::finding::Health;
    use super::*;

    #[test]
    fn a_disk_and_a_hidden_boot_id_are_said() {
        let health = |system, id| runtime_of(Path::new("/d"), system, id).health;
        assert_eq!(health(TMPFS, "5851"), Health::Ok);
        assert_eq!(health(0xEF53, "5851"), Health::Warning);
        assert_eq!(health(TMPFS, ""), Health::Warning);
    }

    #[test]
    fn room_is_judged_before_it_is_gone() {
        let health = |free| room_of(free, Path::new("/d")).health;
        assert_eq!(health(63 << 20), Health::Problem);
        assert_eq!(health(64 << 20), Health::Warning);
        assert_eq!(health(512 << 20), Health::Ok);
        assert_eq!(room_of(30 << 30, Path::new("/d")).message, "30 GiB free below /d");
        assert_eq!(size(100 << 20), "100 MiB");
    }
}
