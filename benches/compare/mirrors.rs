//! Programs that mirror an account into a Maildir: mbsync and offlineimap.

use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use crate::peers::program;

const MBSYNC: &str = "\
IMAPAccount account
Host 127.0.0.1
Port PORT
User USER
Pass secret
SSLType None
AuthMechs LOGIN

IMAPStore far
Account account

MaildirStore near
Path DIR/mail/
Inbox DIR/mail/INBOX

Channel all
Far :far:
Near :near:
Patterns INBOX
Create Near
SyncState *
";

const OFFLINEIMAP: &str = "\
[general]
metadata = DIR/state
accounts = account
ui = quiet

[Account account]
localrepository = near
remoterepository = far

[Repository near]
type = Maildir
localfolders = DIR/mail

[Repository far]
type = IMAP
remotehost = 127.0.0.1
remoteport = PORT
remoteuser = USER
remotepass = secret
ssl = no
starttls = no
auth_mechanisms = LOGIN
folderfilter = lambda name: name == 'INBOX'
";

/// A program that mirrors the Inbox of a user, with what it needs in a directory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Mirror {
    Mbsync,
    Offlineimap,
}

impl Mirror {
    pub(crate) fn is_here(self) -> bool {
        program(self.program()).is_some()
    }

    fn program(self) -> &'static str {
        match self {
            Self::Mbsync => "mbsync",
            Self::Offlineimap => "offlineimap",
        }
    }

    /// Makes its directory, in which it has seen nothing yet.
    pub(crate) fn prepare(self, folder: &Path, port: u16, user: &str) {
        let _ = fs::remove_dir_all(folder);
        fs::create_dir_all(folder.join("mail")).expect("made");
        let text = match self {
            Self::Mbsync => MBSYNC,
            Self::Offlineimap => OFFLINEIMAP,
        };
        let text = text
            .replace("DIR", &folder.display().to_string())
            .replace("PORT", &port.to_string())
            .replace("USER", user);
        fs::write(folder.join("settings"), text).expect("written");
    }

    /// How long it takes to have both sides alike.
    pub(crate) fn run(self, folder: &Path) -> Duration {
        let mut command = Command::new(program(self.program()).expect("it is here"));
        command.arg("-c").arg(folder.join("settings")).env("HOME", folder);
        match self {
            Self::Mbsync => command.args(["-q", "all"]),
            Self::Offlineimap => command.arg("-o"),
        };
        command.current_dir(folder).stdin(Stdio::null()).stdout(Stdio::null());
        command.stderr(fs::File::create(folder.join("errors")).expect("made"));
        let began = Instant::now();
        let status = command.status().expect("it starts");
        let took = began.elapsed();
        let errors = || fs::read_to_string(folder.join("errors")).unwrap_or_default();
        assert!(status.success(), "{self:?}: {}", errors());
        took
    }

    /// How many messages it has brought.
    pub(crate) fn brought(folder: &Path) -> usize {
        let files =
            |name| fs::read_dir(folder.join("mail/INBOX").join(name)).map_or(0, Iterator::count);
        files("cur") + files("new")
    }
}
