//! A private Dovecot: everything that it reads and writes is in the run's directory, and it listens on the loopback only.

use std::fs;
use std::io::{Read, Write};
use std::net::{Ipv4Addr, TcpStream};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Instant;

use crate::peers::{PATIENCE, port, program};

/// The processes that serve a connection stay for the next one: starting them would be most of what a logon costs.
const SETTINGS: &str = "\
base_dir = DIR/run
state_dir = DIR/state
log_path = DIR/log
protocols = imap
ssl = no
disable_plaintext_auth = no
auth_username_format = %n
mail_location = mdbox:DIR/mail/%n/mdbox
mail_fsync = never
mail_max_userip_connections = 100
imap_logout_format = bodies %{fetch_body_count}
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
}
service imap-login {
  inet_listener imap {
    address = 127.0.0.1
    port = PORT
  }
  inet_listener imaps {
    port = 0
  }
  service_count = 0
}
service imap {
  service_count = 10000
}
";

/// Messages that are appended by one command.
const TOGETHER: usize = 1_000;

/// A running server, in which every name is a user with the password `secret`.
pub(crate) struct Dovecot {
    child: Child,
    pub(crate) port: u16,
    folder: PathBuf,
}

impl Dovecot {
    /// `None` where there is none, or where it may not be run.
    pub(crate) fn start(folder: &Path) -> Option<Self> {
        let dovecot = program("dovecot")?;
        if !rustix::process::geteuid().is_root() {
            return None;
        }
        for name in ["run", "state", "mail"] {
            fs::create_dir_all(folder.join(name)).ok()?;
        }
        for above in folder.ancestors().take_while(|path| path.starts_with(std::env::temp_dir())) {
            if above != std::env::temp_dir() {
                fs::set_permissions(above, fs::Permissions::from_mode(0o755)).ok()?;
            }
        }
        std::os::unix::fs::chown(folder.join("mail"), Some(65534), Some(65534)).ok()?;
        let port = port();
        let text = SETTINGS
            .replace("DIR", &folder.display().to_string())
            .replace("PORT", &port.to_string());
        let settings = folder.join("dovecot.conf");
        fs::write(&settings, text).ok()?;
        let mut command = Command::new(dovecot);
        command.arg("-F").arg("-c").arg(settings);
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        let child = command.spawn().ok()?;
        let server = Self { child, port, folder: folder.to_owned() };
        let until = Instant::now() + PATIENCE;
        while TcpStream::connect((Ipv4Addr::LOCALHOST, port)).is_err() {
            if Instant::now() > until {
                return None;
            }
            std::thread::sleep(std::time::Duration::from_millis(5));
        }
        Some(server)
    }

    /// A connection of a user who is logged on.
    pub(crate) fn log_on(&self, user: &str) -> Talk {
        let stream = TcpStream::connect((Ipv4Addr::LOCALHOST, self.port)).expect("it accepts");
        stream.set_nodelay(true).expect("set");
        let mut talk = Talk { stream, room: vec![0; 64 << 10], tail: Vec::new(), tags: 0 };
        talk.until(|tail| tail.ends_with(b"\r\n"));
        talk.run(&format!("LOGIN {user} secret"));
        talk
    }

    /// Puts messages into the Inbox of a user.
    pub(crate) fn fill(&self, user: &str, letters: impl Iterator<Item = Vec<u8>>) {
        let mut talk = self.log_on(user);
        let mut letters = letters.peekable();
        while letters.peek().is_some() {
            let mut command = b"APPEND INBOX".to_vec();
            for letter in letters.by_ref().take(TOGETHER) {
                command.extend_from_slice(format!(" {{{}+}}\r\n", letter.len()).as_bytes());
                command.extend_from_slice(&letter);
            }
            talk.run_bytes(&command);
        }
    }

    /// How many connections to it are open.
    pub(crate) fn connections(&self) -> usize {
        let table = fs::read_to_string("/proc/net/tcp").expect("there is one");
        let own = format!(":{:04X}", self.port);
        let fields = |line: &str| line.split_whitespace().map(str::to_owned).collect::<Vec<_>>();
        let is_open = |fields: &Vec<String>| fields[1].ends_with(&own) && fields[3] == "01";
        table.lines().skip(1).map(fields).filter(is_open).count()
    }

    /// How many bodies each of a user's connections has fetched that have ended.
    pub(crate) fn bodies(&self, user: &str) -> Vec<usize> {
        let log = fs::read_to_string(self.folder.join("log")).unwrap_or_default();
        let own = format!("imap({user})");
        let ended = log.lines().filter(|line| line.contains(&own));
        let count = |line: &str| line.rsplit_once("bodies ")?.1.trim().parse().ok();
        ended.filter_map(count).collect()
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

/// A conversation that reads answers and throws them away.
pub(crate) struct Talk {
    stream: TcpStream,
    room: Vec<u8>,
    /// The end of what was read.
    tail: Vec<u8>,
    tags: u32,
}

/// Longer than any last line.
const TAIL: usize = 2 << 10;

impl Talk {
    /// Sends a command, and reads until it is through.
    pub(crate) fn run(&mut self, command: &str) {
        self.run_bytes(command.as_bytes());
    }

    fn run_bytes(&mut self, command: &[u8]) {
        self.tags += 1;
        let tag = format!("b{} ", self.tags);
        let bytes = [tag.as_bytes(), command, b"\r\n"].concat();
        self.send(&bytes);
        self.until(|tail| last_line(tail).is_some_and(|line| line.starts_with(tag.as_bytes())));
        let line = last_line(&self.tail).expect("it was waited for");
        let words = String::from_utf8_lossy(line);
        assert!(line[tag.len()..].starts_with(b"OK"), "{words}");
    }

    pub(crate) fn send(&mut self, bytes: &[u8]) {
        self.stream.write_all(bytes).expect("written");
    }

    /// Reads until the end of what was read is so.
    pub(crate) fn until(&mut self, is_end: impl Fn(&[u8]) -> bool) {
        self.tail.clear();
        loop {
            let read = self.stream.read(&mut self.room).expect("read");
            assert!(read > 0, "the server hung up");
            self.tail.extend_from_slice(&self.room[read.saturating_sub(TAIL)..read]);
            let more = self.tail.len().saturating_sub(TAIL);
            self.tail.drain(..more);
            if is_end(&self.tail) {
                return;
            }
        }
    }

    /// The number behind the last of these words in what was read last.
    pub(crate) fn number(&self, words: &str) -> Option<u64> {
        let tail = String::from_utf8_lossy(&self.tail);
        let (_, rest) = tail.rsplit_once(words)?;
        let digits = rest.bytes().take_while(u8::is_ascii_digit).count();
        rest[..digits].parse().ok()
    }
}

fn last_line(bytes: &[u8]) -> Option<&[u8]> {
    let whole = bytes.strip_suffix(b"\r\n")?;
    let begin = whole.iter().rposition(|byte| *byte == b'\n').map_or(0, |end| end + 1);
    Some(&whole[begin..])
}
