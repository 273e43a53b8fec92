//! A private Postfix: everything it reads and writes is in one directory, and it listens on the loopback only.

use std::cell::Cell;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};

use rustix::process::{Pid, Signal, kill_process_group};
use tempfile::TempDir;

use super::{accepting, installed, log_file, port, program, root};
use crate::harness::{Lines, Maildir};

/// A running Postfix, which delivers users of `test` into Maildirs, throws mail to `load.test` away, and knows nobody
/// else. It is killed at the end of its test.
pub(crate) struct Postfix {
    child: Child,
    ports: Vec<u16>,
    folder: TempDir,
    log: Lines,
}

const MAIN: &str = "\
compatibility_level = 3.6
maillog_file = /dev/stdout
queue_directory = DIR/queue
data_directory = DIR/data
mail_owner = postfix
setgid_group = postdrop
myhostname = mx.test
mydestination =
inet_interfaces = loopback-only
inet_protocols = ipv4
mynetworks = 127.0.0.0/8
local_recipient_maps =
relay_domains =
alias_maps =
alias_database =
local_transport = error:nobody is here
default_transport = error:nothing goes out
virtual_mailbox_domains = test, load.test
virtual_mailbox_maps = texthash:DIR/users
virtual_mailbox_base = DIR/mail
virtual_uid_maps = static:65534
virtual_gid_maps = static:65534
transport_maps = inline:{ load.test=discard: }
cyrus_sasl_config_path = DIR/etc/sasl
smtpd_sasl_local_domain = test
smtpd_relay_restrictions = permit_mynetworks, permit_sasl_authenticated, reject_unauth_destination
";

const MASTER: &str = "\
pickup unix n - n 60 1 pickup
cleanup unix n - n - 0 cleanup
qmgr unix n - n 300 1 qmgr
rewrite unix - - n - - trivial-rewrite
bounce unix - - n - 0 bounce
defer unix - - n - 0 bounce
trace unix - - n - 0 bounce
verify unix - - n - 1 verify
flush unix n - n 1000? 0 flush
proxymap unix - - n - - proxymap
discard unix - - n - - discard
error unix - - n - - error
retry unix - - n - - error
virtual unix - n n - - virtual
anvil unix - - n - 1 anvil
tlsmgr unix - - n 1000? 1 tlsmgr
postlog unix-dgram n - n - 1 postlogd
";

const SASL: &str = "\
pwcheck_method: auxprop
auxprop_plugin: sasldb
sasldb_path: DIR/users.db
mech_list: PLAIN LOGIN SCRAM-SHA-1 SCRAM-SHA-256
";

impl Postfix {
    /// Whether it can be run; if not, the test says so and passes.
    pub(crate) fn installed() -> bool {
        installed("postfix") && root("a private postfix")
    }

    /// One with these settings besides, which may name its directory as `DIR`.
    pub(crate) fn start(settings: &str) -> Self {
        Self::with_services(settings, &[""])
    }

    /// One that listens at several ports, at each with these words for its server.
    pub(crate) fn with_services(settings: &str, services: &[&str]) -> Self {
        // Its queue is synced for each message. What is in memory is synced at once.
        let memory = Path::new("/dev/shm");
        let memory = if memory.is_dir() { memory.into() } else { std::env::temp_dir() };
        let folder = tempfile::Builder::new().prefix("postfix-").tempdir_in(memory);
        let folder = folder.expect("a directory");
        let path = folder.path();
        let ports: Vec<_> = services.iter().map(|_| port()).collect();
        open_to_all(path);
        for name in ["etc", "etc/sasl", "queue", "data", "mail"] {
            fs::create_dir(path.join(name)).expect("made");
            open_to_all(&path.join(name));
        }
        owned_by("postfix", &path.join("data"));
        owned_by("nobody", &path.join("mail"));
        let here = |text: &str| text.replace("DIR", &path.display().to_string());
        let write =
            |name: &str, text: &str| fs::write(path.join(name), here(text)).expect("written");
        write("etc/main.cf", &format!("{MAIN}{settings}\n"));
        let listen = |(port, words): (&u16, &&str)| {
            format!(
                "127.0.0.1:{port} inet n - n - - smtpd {words}
"
            )
        };
        let services: String = ports.iter().zip(services).map(listen).collect();
        write("etc/master.cf", &format!("{services}{MASTER}"));
        write("etc/sasl/smtpd.conf", SASL);
        let names = ["user1", "user2", "user3", "anna"];
        let mut users: String = names.iter().map(|n| format!("{n}@test {n}/\n")).collect();
        users += "\u{fc}ser@test utf8/\n@load.test load/\n";
        write("users", &users);
        let (child, log) = run(path, ports[0]);
        Self { child, ports, folder, log }
    }

    pub(crate) fn port(&self) -> u16 {
        self.ports[0]
    }

    pub(crate) fn ports(&self) -> &[u16] {
        &self.ports
    }

    /// Writes a file into its directory.
    pub(crate) fn write(&self, name: &str, text: impl AsRef<[u8]>) -> std::path::PathBuf {
        let path = self.folder.path().join(name);
        fs::write(&path, text).expect("written");
        path
    }

    /// Ends it and starts it again as its files say now.
    pub(crate) fn restart(&mut self) {
        self.stop();
        (self.child, self.log) = run(self.folder.path(), self.ports[0]);
    }

    fn stop(&mut self) {
        // The master leads the group of all its servers, and stands in a file.
        let master = fs::read_to_string(self.folder.path().join("queue/pid/master.pid"));
        let master = master.ok().and_then(|text| text.trim().parse().ok()).and_then(Pid::from_raw);
        if let Some(master) = master {
            let _ = kill_process_group(master, Signal::KILL);
        }
        let _ = self.child.kill();
        let _ = self.child.wait();
    }

    /// A user who can log on.
    pub(crate) fn user(&self, name: &str, password: &str) {
        let file = self.folder.path().join("users.db");
        let mut command = Command::new(program("saslpasswd2").expect("it is installed"));
        command.args(["-p", "-c", "-u", "test", "-f"]).arg(&file).arg(name);
        let mut child = command.stdin(Stdio::piped()).spawn().expect("it starts");
        let mut input = child.stdin.take().expect("it is a pipe");
        std::io::Write::write_all(&mut input, password.as_bytes()).expect("it reads");
        drop(input);
        assert!(child.wait().expect("it ends").success());
        owned_by("postfix", &file);
    }

    /// What was delivered to a user.
    pub(crate) fn mailbox(&self, user: &str) -> Maildir {
        Maildir(self.folder.path().join("mail").join(user))
    }

    /// Waits for so many lines of the log that fit, and gives them back.
    pub(crate) fn log(&self, count: usize, what: &str) -> Vec<String> {
        let seen = Cell::new(0);
        self.log.find(&format!("{count} times {what:?}"), 0, |line| {
            seen.set(seen.get() + usize::from(line.contains(what)));
            (seen.get() >= count).then_some(())
        });
        self.log.all().into_iter().filter(|line| line.contains(what)).collect()
    }
}

impl Drop for Postfix {
    fn drop(&mut self) {
        self.stop();
        if std::thread::panicking() {
            let log = self.log.all();
            eprintln!("log of postfix:\n{}", log[log.len().saturating_sub(200)..].join("\n"));
        }
    }
}

/// Starts it and waits until it accepts connections.
fn run(path: &Path, port: u16) -> (Child, Lines) {
    let mut command = Command::new(program("postfix").expect("it is installed"));
    command.arg("-c").arg(path.join("etc")).arg("start-fg").env_clear();
    command.env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin");
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(log_file(&path.join("errors")));
    let mut child = command.spawn().expect("it starts");
    let log = Lines::of(child.stdout.take().expect("it is a pipe"));
    let said = || {
        let errors = fs::read_to_string(path.join("errors")).unwrap_or_default();
        format!("{}\n{errors}", log.all().join("\n"))
    };
    accepting(&mut child, port, said);
    (child, log)
}

pub(super) fn open_to_all(path: &Path) {
    fs::set_permissions(path, fs::Permissions::from_mode(0o755)).expect("changed");
}

pub(super) fn owned_by(user: &str, path: &Path) {
    let changed = Command::new("chown").arg(user).arg(path).status().expect("chown runs");
    assert!(changed.success());
}
