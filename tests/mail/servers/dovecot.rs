//! A private Dovecot that takes mail by LMTP, and has it by IMAP: everything it reads and writes is in one directory.

use std::fs;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};

use rustix::process::Signal;
use tempfile::TempDir;

use super::postfix::{open_to_all, owned_by};
use super::{accepting, installed, port, program, root, skipped};
use crate::harness::{Maildir, signal, wait_for_end};

/// A running Dovecot. It knows `anna`, `bo`, and `full`, who has no room for any message; their password is `secret`. It ends
/// with its test.
pub(crate) struct Dovecot {
    child: Child,
    port: u16,
    /// Where it speaks IMAP, if that is installed.
    imap: Option<u16>,
    folder: TempDir,
}

const SETTINGS: &str = "\
base_dir = DIR/run
state_dir = DIR/state
log_path = DIR/log
protocols = IMAP lmtp
ssl = no
auth_username_format = %n
auth_failure_delay = 0
mail_location = maildir:DIR/mail/%n
mail_plugins = quota
passdb {
  driver = static
  args = password=secret
}
userdb {
  driver = passwd-file
  args = DIR/users
}
plugin {
  quota = maildir:User quota
}
service lmtp {
  unix_listener lmtp {
    mode = 0600
  }
  inet_listener lmtp {
    address = 127.0.0.1
    port = PORT
  }
}
service imap-login {
  inet_listener imap {
    address = 127.0.0.1
    port = SECOND
  }
  inet_listener imaps {
    port = 0
  }
}
disable_plaintext_auth = no
";

const USERS: &str = "\
anna::65534:65534::DIR/mail/anna::
bo::65534:65534::DIR/mail/bo::
full::65534:65534::DIR/mail/full::userdb_quota_rule=*:bytes=10
";

impl Dovecot {
    /// Whether it can be run; if not, the test says so and passes.
    pub(crate) fn installed() -> bool {
        if !installed("dovecot") || !root("a private dovecot") {
            return false;
        }
        let mut command = Command::new(program("dovecot").expect("it is installed"));
        let said = command.arg("--version").output().expect("it runs").stdout;
        let version = String::from_utf8_lossy(&said).trim().to_owned();
        // Settings have other names from 2.4 on.
        let is_known = version.starts_with("2.3.");
        let lmtp = ["/usr/lib/dovecot/lmtp", "/usr/libexec/dovecot/lmtp"];
        let has_lmtp = lmtp.iter().any(|path| fs::exists(path).unwrap_or(false));
        if !is_known || !has_lmtp {
            skipped(&format!("dovecot {version} is not 2.3, or has no LMTP"));
        }
        is_known && has_lmtp
    }

    pub(crate) fn start() -> Self {
        let folder = tempfile::Builder::new().prefix("dovecot-").tempdir().expect("a directory");
        let (path, port, second) = (folder.path(), port(), port());
        let imap = Some(second).filter(|_| {
            let places = ["/usr/lib/dovecot/imap", "/usr/libexec/dovecot/imap"];
            places.iter().any(|path| fs::exists(path).unwrap_or(false))
        });
        open_to_all(path);
        for name in ["run", "state", "mail"] {
            fs::create_dir(path.join(name)).expect("made");
        }
        owned_by("nobody", &path.join("mail"));
        let here = |text: &str| text.replace("DIR", &path.display().to_string());
        let settings = path.join("dovecot.conf");
        let text = here(SETTINGS)
            .replace("PORT", &port.to_string())
            .replace("SECOND", &second.to_string())
            .replace("IMAP ", if imap.is_some() { "imap " } else { "" });
        fs::write(&settings, text).expect("written");
        fs::write(path.join("users"), here(USERS)).expect("written");
        let mut command = Command::new(program("dovecot").expect("it is installed"));
        command.arg("-F").arg("-c").arg(settings);
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        let mut child = command.spawn().expect("it starts");
        let log = path.join("log");
        for port in imap.into_iter().chain([port]) {
            accepting(&mut child, port, || fs::read_to_string(&log).unwrap_or_default());
        }
        Self { child, port, imap, folder }
    }

    pub(crate) fn port(&self) -> u16 {
        self.port
    }

    /// Where it speaks IMAP; if it does not, the test says so and passes.
    pub(crate) fn imap(&self) -> Option<u16> {
        if self.imap.is_none() {
            skipped("dovecot has no IMAP");
        }
        self.imap
    }

    /// Its socket.
    pub(crate) fn socket(&self) -> PathBuf {
        self.folder.path().join("run/lmtp")
    }

    /// A user's mail.
    pub(crate) fn maildir(&self, user: &str) -> Maildir {
        Maildir(self.folder.path().join("mail").join(user))
    }
}

impl Drop for Dovecot {
    fn drop(&mut self) {
        // Its other processes end with this one.
        signal(&self.child, Signal::TERM);
        wait_for_end(&mut self.child);
    }
}
