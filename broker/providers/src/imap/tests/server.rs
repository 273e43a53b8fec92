//! A private Dovecot for one test: everything it reads and writes is in one directory.

use std::fs;
use std::io::Write as _;
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::os::fd::AsFd;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU16, Ordering};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Pid, PidfdFlags, pidfd_open};
use tempfile::TempDir;

const DOVECOT: &str = "/usr/sbin/dovecot";

/// Says why a test proves nothing here, where it is seen although the test passes.
fn skipped(why: &str) {
    let _ = writeln!(std::io::stdout(), "skipped: {why}");
}

/// What the server is to offer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// Everything.
    Full,
    /// No QRESYNC, so that CONDSTORE is used.
    Condstore,
    /// No more than RFC 3501.
    Plain,
}

impl Kind {
    pub(super) const ALL: [Self; 3] = [Self::Full, Self::Condstore, Self::Plain];

    fn capabilities(self) -> &'static str {
        match self {
            Self::Full => "",
            Self::Condstore => {
                "imap_capability = IMAP4rev1 SASL-IR LITERAL+ ENABLE IDLE UIDPLUS MOVE CONDSTORE ESEARCH LIST-EXTENDED"
            }
            Self::Plain => "imap_capability = IMAP4rev1 IDLE",
        }
    }
}

/// A running server, in which every name is a user with the password `secret`. It ends with its test.
pub(super) struct Dovecot {
    child: Child,
    pub(super) port: u16,
    folder: TempDir,
}

const SETTINGS: &str = "\
base_dir = DIR/run
state_dir = DIR/state
log_path = DIR/log
protocols = imap
ssl = no
disable_plaintext_auth = no
auth_username_format = %n
auth_mechanisms = plain login
mail_location = maildir:DIR/mail/%n:LAYOUT=fs
mail_max_userip_connections = 100
CAPABILITIES
passdb {
  driver = static
  args = password=secret
}
userdb {
  driver = static
  args = uid=65534 gid=65534 home=DIR/mail/%n
}
namespace inbox {
  inbox = yes
  separator = /
  mailbox Sent {
    auto = create
    special_use = \\Sent
  }
  mailbox Trash {
    auto = create
    special_use = \\Trash
  }
}
service imap-login {
  inet_listener imap {
    address = 127.0.0.1
    port = PORT
  }
  inet_listener imaps {
    port = 0
  }
}
";

fn port() -> u16 {
    static TRIED: AtomicU16 = AtomicU16::new(0);
    let begin = u16::try_from(std::process::id() % 97).expect("small") * 100;
    loop {
        let port = 30_100 + (begin + TRIED.fetch_add(1, Ordering::Relaxed)) % 2_600;
        if TcpListener::bind((Ipv4Addr::LOCALHOST, port)).is_ok() {
            return port;
        }
    }
}

impl Dovecot {
    /// Starts one. Nothing if it cannot be run here; then the test says so and passes.
    pub(super) fn start(kind: Kind) -> Option<Self> {
        let version = Command::new(DOVECOT).arg("--version").output();
        let version = version.map(|said| String::from_utf8_lossy(&said.stdout).into_owned());
        let has_imap = fs::exists("/usr/lib/dovecot/imap").unwrap_or(false);
        match version {
            // Settings have other names from 2.4 on.
            Ok(version) if version.starts_with("2.3.") && has_imap => {}
            _ => {
                skipped("dovecot 2.3 with IMAP is not installed");
                return None;
            }
        }
        if !rustix::process::geteuid().is_root() {
            skipped("only root can run a private dovecot");
            return None;
        }
        Some(Self::start_now(kind))
    }

    fn start_now(kind: Kind) -> Self {
        let folder = tempfile::Builder::new().prefix("imap-").tempdir().expect("a directory");
        let (path, port) = (folder.path(), port());
        let everybody = std::os::unix::fs::PermissionsExt::from_mode(0o755);
        fs::set_permissions(path, everybody).expect("others may look");
        for name in ["run", "state", "mail"] {
            fs::create_dir(path.join(name)).expect("made");
        }
        std::os::unix::fs::chown(path.join("mail"), Some(65534), Some(65534)).expect("given away");
        let text = SETTINGS
            .replace("DIR", &path.display().to_string())
            .replace("PORT", &port.to_string())
            .replace("CAPABILITIES", kind.capabilities());
        let settings = path.join("dovecot.conf");
        fs::write(&settings, text).expect("written");
        let mut command = Command::new(DOVECOT);
        command.arg("-F").arg("-c").arg(settings);
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        let mut child = command.spawn().expect("it starts");
        let until = Instant::now() + Duration::from_secs(30);
        let pid = i32::try_from(child.id()).ok().and_then(Pid::from_raw).expect("it has a pid");
        let process = pidfd_open(pid, PidfdFlags::empty()).expect("it is not reaped yet");
        let moment = Timespec { tv_sec: 0, tv_nsec: 5_000_000 };
        while TcpStream::connect((Ipv4Addr::LOCALHOST, port)).is_err() {
            let log = || fs::read_to_string(path.join("log")).unwrap_or_default();
            let mut watched = [PollFd::from_borrowed_fd(process.as_fd(), PollFlags::IN)];
            let ended = poll(&mut watched, Some(&moment)).expect("it can be watched") > 0;
            assert!(!ended, "{:?}: {}", child.try_wait(), log());
            assert!(Instant::now() < until, "{}", log());
        }
        Self { child, port, folder }
    }

    /// What it has said.
    pub(super) fn log(&self) -> String {
        fs::read_to_string(self.folder.path().join("log")).unwrap_or_default()
    }

    /// Forgets which numbers the messages of a user's folder have: it numbers them anew.
    pub(super) fn number_anew(&self, user: &str, folder: &str) {
        let path = self.folder.path().join("mail").join(user).join(folder);
        let list = path.join("dovecot-uidlist");
        let text = fs::read_to_string(&list).expect("a list");
        let head = text.lines().next().unwrap_or_default();
        let validity = head.split(' ').find_map(|word| word.strip_prefix('V'));
        let validity: u32 = validity.and_then(|number| number.parse().ok()).expect("a number");
        for entry in fs::read_dir(&path).expect("a folder").flatten() {
            let name = entry.file_name().to_string_lossy().into_owned();
            if name.starts_with("dovecot.index") {
                let _ = fs::remove_file(entry.path());
            }
        }
        fs::write(&list, format!("3 V{} N1\n", validity + 1000)).expect("written");
    }
}

impl Drop for Dovecot {
    fn drop(&mut self) {
        // Its other processes end with this one.
        let pid = rustix::process::Pid::from_child(&self.child);
        let _ = rustix::process::kill_process(pid, rustix::process::Signal::TERM);
        let _ = self.child.wait();
    }
}
