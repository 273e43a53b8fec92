//! The directories of mailboxes: whether they are Maildirs that a broker can use, and whether new mail in them is noticed at once.

use std::fs;
use std::io::ErrorKind;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use rustix::fs::{Access, access, statfs};
use sundown_client::paths::Whose;

use super::finding::Finding;
use crate::cli::Context;
use crate::profile::mistakes::{self, Mailbox};

const CHECK: &str = "mailbox";

/// What a Maildir consists of.
const PARTS: [&str; 3] = ["cur", "new", "tmp"];

/// File systems whose files other machines may change, by their numbers in `statfs`. The kernel tells nobody of such changes.
const REMOTE: [(u64, &str); 10] = [
    (0x6969, "NFS"),
    (0xFF53_4D42, "CIFS"),
    (0xFE53_4D42, "SMB"),
    (0x517B, "SMB"),
    (0x6573_5546, "FUSE"),
    (0x0102_1997, "9P"),
    (0x00C3_6400, "Ceph"),
    (0x5346_414F, "AFS"),
    (0x0116_1970, "GFS2"),
    (0x7461_636F, "OCFS2"),
];

/// The limits of inotify.
const LIMITS: &str = "/proc/sys/fs/inotify";

/// Checks the mailboxes of all profiles that can be read. Those of the host's broker belong to another user.
pub(super) fn all(context: &Context) -> Vec<Finding> {
    if context.paths.whose == Whose::Host {
        return Vec::new();
    }
    let mailboxes = mistakes::mailboxes(context);
    let mut findings: Vec<_> = mailboxes.iter().map(directory).collect();
    if !mailboxes.is_empty() {
        let watched = mailboxes.iter().map(|mailbox| watched(&mailbox.path)).sum();
        findings.extend(limit("max_user_watches").and_then(|most| of_watches(watched, most)));
        let most = limit("max_user_instances");
        findings.extend(most.and_then(|most| of_instances(instances(), most)));
    }
    findings
}

/// Checks the directory of a mailbox.
fn directory(mailbox: &Mailbox) -> Finding {
    let Mailbox { profile, path, .. } = mailbox;
    let (name, shown) = (&mailbox.name, path.display());
    let it = format!("mailbox {name} of profile {profile}: {shown}");
    let make = format!(
        "correct `path` in the profile, or make a Maildir there: `mkdir -p {}`",
        PARTS.map(|part| format!("{shown}/{part}")).join(" ")
    );
    match fs::metadata(path) {
        Err(error) if error.kind() == ErrorKind::NotFound && mailbox.is_delivered_into => {
            return Finding::ok(CHECK, format!("{it} is not there; the first message makes it"));
        }
        Err(error) if error.kind() == ErrorKind::NotFound => {
            return Finding::problem(CHECK, format!("{it} is not there"), make);
        }
        Err(error) => {
            let advice = "make the directories above it accessible to you";
            return Finding::problem(CHECK, format!("{it} cannot be looked at: {error}"), advice);
        }
        Ok(found) if !found.is_dir() => {
            let text = format!("{it} is no directory, and so no Maildir");
            return Finding::problem(CHECK, text, make);
        }
        Ok(_) => {}
    }
    let missing: Vec<_> = PARTS.into_iter().filter(|part| !path.join(part).is_dir()).collect();
    if !missing.is_empty() {
        let text = format!("{it} is no Maildir: it has no {}", missing.join(", "));
        return Finding::problem(CHECK, text, make);
    }
    let parts = PARTS.map(|part| path.join(part));
    for part in [path].into_iter().chain(&parts) {
        if let Err(error) = access(part, Access::READ_OK | Access::WRITE_OK | Access::EXEC_OK) {
            let text = format!("{it} cannot be used: {}: {error}", part.display());
            let advice = "give the broker's user the right to read and write it: marks such as *read* are in the names of its files";
            return Finding::problem(CHECK, text, advice);
        }
    }
    let system = statfs(path).map_or(0, |system| system.f_type as u64);
    if let Some((_, system)) = REMOTE.iter().find(|(number, _)| *number == system & 0xFFFF_FFFF) {
        let text = format!(
            "{it} is on {system}: what other machines change there is seen up to a minute later"
        );
        let advice =
            "nothing is lost; to be told at once, run the broker on the machine that has the files";
        return Finding::warning(CHECK, text, advice);
    }
    Finding::ok(CHECK, format!("{it} can be read and written"))
}

/// How many directories are watched for a mailbox: its own, and two for each folder and for the Inbox.
fn watched(path: &Path) -> u64 {
    let folder = |entry: &fs::DirEntry| {
        entry.file_name().as_encoded_bytes().starts_with(b".") && entry.path().join("cur").is_dir()
    };
    let folders = fs::read_dir(path).into_iter().flatten().flatten().filter(folder).count();
    3 + 2 * folders as u64
}

fn limit(name: &str) -> Option<u64> {
    fs::read_to_string(Path::new(LIMITS).join(name)).ok()?.trim().parse().ok()
}

/// The watches that the mailboxes need, against those that a user may have.
fn of_watches(needed: u64, most: u64) -> Option<Finding> {
    let text = format!(
        "the folders of mailboxes need {needed} inotify watches, and a user may have {most}: changes in the others are seen up to a minute later"
    );
    let advice = format!("raise the limit: `sysctl fs.inotify.max_user_watches={}`", needed * 2);
    (needed > most).then(|| Finding::warning(CHECK, text, advice))
}

/// The inotify instances that the user's programs have, against those that a user may have.
fn of_instances(used: u64, most: u64) -> Option<Finding> {
    let text = format!(
        "this user has {used} of {most} inotify instances: a session that begins now sees new mail up to a minute later"
    );
    let advice = format!(
        "end programs that watch files, or raise the limit: `sysctl fs.inotify.max_user_instances={}`",
        most * 2
    );
    (used >= most).then(|| Finding::warning(CHECK, text, advice))
}

/// The inotify instances of this user's processes.
fn instances() -> u64 {
    let own = rustix::process::geteuid().as_raw();
    let entries = |path: &Path| fs::read_dir(path).into_iter().flatten().flatten();
    let processes = entries(Path::new("/proc"));
    let processes = processes.filter(|p| p.metadata().is_ok_and(|found| found.uid() == own));
    let descriptors = processes.flat_map(|process| entries(&process.path().join("fd")));
    let is_inotify = |link: &fs::DirEntry| {
        fs::read_link(link.path()).is_ok_and(|of| of.as_os_str() == "anon_inode:inotify")
    };
    descriptors.filter(is_inotify).count() as u64
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::super::finding::Health;
    use super::*;

    fn found(path: &Path, is_delivered_into: bool) -> (Health, String) {
        let (profile, name) = ("work".to_owned(), "maildir".to_owned());
        let mailbox = Mailbox { profile, name, path: path.to_owned(), is_delivered_into };
        let finding = directory(&mailbox);
        assert_eq!(finding.health != Health::Ok, finding.advice.is_some(), "{finding:?}");
        (finding.health, finding.message + finding.advice.as_deref().unwrap_or_default())
    }

    #[test]
    fn a_directory_is_a_maildir_or_the_finding_says_what_to_do() {
        let root = tempfile::tempdir().expect("a directory");
        let (at, shown) = (root.path().join("mail"), root.path().join("mail/cur"));
        let says = |health, words: &str| {
            let (found, text) = found(&at, false);
            assert!(found == health && text.contains(words), "{found:?}: {text}");
        };
        says(Health::Problem, "is not there");
        says(Health::Problem, &format!("mkdir -p {}", shown.display()));
        assert_eq!(found(&at, true).0, Health::Ok);
        fs::write(&at, "From anna\n").expect("written");
        says(Health::Problem, "is no directory");
        fs::remove_file(&at).expect("removed");
        fs::create_dir_all(at.join("new")).expect("made");
        says(Health::Problem, "is no Maildir: it has no cur, tmp");
        for part in PARTS {
            fs::create_dir_all(at.join(part)).expect("made");
        }
        says(Health::Ok, "can be read and written");
        assert_eq!(watched(&at), 3);
        fs::create_dir_all(at.join(".Sent/cur")).expect("made");
        fs::create_dir_all(at.join(".no-folder")).expect("made");
        assert_eq!(watched(&at), 5);
        if !rustix::process::geteuid().is_root() {
            fs::set_permissions(at.join("new"), fs::Permissions::from_mode(0o500)).expect("set");
            says(Health::Problem, "cannot be used");
        }
    }

    #[test]
    fn limits_are_said_when_they_are_reached() {
        assert_eq!(of_watches(100, 100), None);
        let finding = of_watches(101, 100).expect("a warning");
        assert!(finding.message.contains("101") && finding.message.contains("100"));
        assert!(finding.advice.expect("advice").contains("max_user_watches=202"));
        assert_eq!(of_instances(127, 128), None);
        let finding = of_instances(128, 128).expect("a warning");
        assert!(finding.advice.expect("advice").contains("max_user_instances=256"));
    }

    /// The kernel's word for them: a count of none would never warn.
    #[test]
    fn instances_are_counted() {
        use rustix::fs::inotify::{CreateFlags, init};
        let _own = init(CreateFlags::CLOEXEC).expect("made");
        assert!(instances() >= 1);
    }
}
