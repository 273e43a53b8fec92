//! Shared sessions that were ended, written down for the next broker: a small file in the runtime directory.
//!
//! It is replaced as a whole at each change and not synced: members end with the machine's run, and so does what they must
//! know. A change that cannot be written is logged; it delays no logoff.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fs::{self, File};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::{Deserialize, Serialize};
use sundown_core::End;
use sundown_protocol::SessionTag;
use sundown_protocol::reply::Peer;

use crate::tickets::{boot_id, is_ours, on_tmpfs};

/// The file and what is in it.
#[derive(Debug)]
pub(crate) struct Ends {
    /// Places for it, the best first.
    paths: Vec<PathBuf>,
    ends: BTreeMap<u128, Record>,
}

#[derive(Debug, Serialize, Deserialize)]
struct Contents {
    /// The kernel's name for this run of the machine.
    boot: String,
    ends: Vec<Record>,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
struct Record {
    /// In hexadecimal digits.
    tag: String,
    user: u32,
    profile: String,
    pid: u32,
    program: String,
    /// Milliseconds since the machine started.
    until: Option<u64>,
}

impl Ends {
    /// Reads what an earlier broker at this socket has left.
    pub(crate) fn open(directories: &[PathBuf], socket: &Path) -> (Self, Vec<End>) {
        let mut name = socket.file_name().map(OsString::from).unwrap_or_default();
        name.push(".ends");
        let paths: Vec<_> = directories.iter().map(|directory| directory.join(&name)).collect();
        let found = paths.iter().find_map(|path| read(path)).unwrap_or_default();
        let ends: BTreeMap<_, _> =
            found.into_iter().filter_map(|r| Some((r.number()?, r))).collect();
        let known = ends.iter().map(|(tag, record)| record.end(*tag)).collect();
        (Self { paths, ends }, known)
    }

    /// Writes an end down, before any member is told of it.
    pub(crate) fn keep(&mut self, end: &End) {
        self.ends.insert(end.tag.0, Record::of(end));
        self.write();
    }

    /// An end need not be known any more.
    pub(crate) fn forget(&mut self, tag: SessionTag) {
        if self.ends.remove(&tag.0).is_some() {
            self.write();
        }
    }

    fn write(&self) {
        let contents = Contents { boot: boot_id(), ends: self.ends.values().cloned().collect() };
        let text = serde_json::to_vec(&contents).expect("numbers and text");
        let mut written = Err(io::Error::from(io::ErrorKind::NotFound));
        for path in &self.paths {
            written = replace(path, &text);
            if written.is_ok() {
                return;
            }
        }
        if let Err(error) = written {
            tracing::warn!(%error, "the next broker will not know that a shared session was ended");
        }
    }
}

impl Record {
    fn of(end: &End) -> Self {
        Self {
            tag: format!("{:032x}", end.tag.0),
            user: end.user,
            profile: end.profile.clone(),
            pid: end.by.pid,
            program: end.by.program.clone(),
            until: end.until.map(|until| until.as_millis() as u64),
        }
    }

    fn number(&self) -> Option<u128> {
        u128::from_str_radix(&self.tag, 16).ok()
    }

    fn end(&self, tag: u128) -> End {
        End {
            tag: SessionTag(tag),
            user: self.user,
            profile: self.profile.clone(),
            by: Peer { pid: self.pid, program: self.program.clone() },
            until: self.until.map(Duration::from_millis),
        }
    }
}

fn read(path: &Path) -> Option<Vec<Record>> {
    // Neither is a pipe waited for.
    let flags = rustix::fs::OFlags::NOFOLLOW | rustix::fs::OFlags::NONBLOCK;
    let file = File::options().read(true).custom_flags(flags.bits() as i32).open(path).ok()?;
    let found = file.metadata().ok()?;
    if !is_ours(&found) || !found.is_file() {
        return None;
    }
    let contents: Contents = match serde_json::from_reader(file) {
        Ok(contents) => contents,
        Err(error) => {
            tracing::warn!(%error, file = %path.display(), "ended sessions of an earlier broker cannot be read");
            return None;
        }
    };
    let here = boot_id();
    let same_run = on_tmpfs(path) || (!here.is_empty() && contents.boot == here);
    Some(if same_run { contents.ends } else { Vec::new() })
}

fn replace(path: &Path, text: &[u8]) -> io::Result<()> {
    let mut new = path.to_owned().into_os_string();
    new.push(".new");
    let _ = fs::remove_file(&new);
    File::options().write(true).create_new(true).mode(0o600).open(&new)?.write_all(text)?;
    fs::rename(&new, path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_next_broker_knows_what_was_ended() {
        let home = tempfile::tempdir().expect("a directory");
        let directories = [home.path().join("absent"), home.path().to_owned()];
        let open = || Ends::open(&directories, Path::new("/run/broker.sock"));
        let (mut ends, known) = open();
        assert_eq!(known, []);
        let end = |tag, until| End {
            tag: SessionTag(tag),
            user: 1_000,
            profile: "work".into(),
            by: Peer { pid: 7, program: "tray".into() },
            until,
        };
        let (one, two) = (end(u128::MAX, Some(Duration::from_millis(5))), end(2, None));
        ends.keep(&one);
        ends.keep(&two);
        assert_eq!(open().1, [two.clone(), one]);
        ends.forget(SessionTag(u128::MAX));
        assert_eq!(open().1, [two]);
        fs::write(home.path().join("broker.sock.ends"), "{").expect("written");
        assert_eq!(open().1, []);
    }
}
