//! A private Postfix: everything that it reads and writes is in the run's directory, and it listens on the loopback only.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use crate::peers::{PATIENCE, port, program};

const MAIN: &str = "\
compatibility_level = 3.6
queue_directory = DIR/queue
data_directory = DIR/data
mail_owner = postfix
setgid_group = postdrop
myhostname = bench.test
mydestination =
inet_interfaces = loopback-only
inet_protocols = ipv4
mynetworks = 127.0.0.0/8
alias_maps =
alias_database =
local_transport = error:nobody is here
relayhost = [127.0.0.1]:SERVER
smtpd_relay_restrictions = permit_mynetworks, reject
smtpd_client_restrictions = static:HOLD
disable_dns_lookups = yes
smtp_tls_security_level = none
initial_destination_concurrency = CONNECTIONS
default_destination_concurrency_limit = CONNECTIONS
";

const MASTER: &str = "\
127.0.0.1:PORT inet n - n - - smtpd
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
smtp unix - - n - CONNECTIONS smtp
relay unix - - n - CONNECTIONS smtp
showq unix n - n - - showq
error unix - - n - - error
retry unix - - n - - error
anvil unix - - n - 1 anvil
scache unix - - n - 1 scache
tlsmgr unix - - n 1000? 1 tlsmgr
";

/// Settings, and a queue on the disk. Mail goes to the server at one port of this host, over so many connections.
pub(crate) struct Postfix {
    folder: PathBuf,
    port: u16,
    running: Option<Child>,
}

impl Postfix {
    /// `None` where there is none, or where it may not be run.
    pub(crate) fn new(folder: &Path, server: u16, connections: usize) -> Option<Self> {
        program("postfix")?;
        if !rustix::process::geteuid().is_root() {
            return None;
        }
        let port = port();
        for name in ["etc", "queue", "data"] {
            fs::create_dir_all(folder.join(name)).ok()?;
        }
        for above in folder.ancestors().take_while(|path| path.starts_with(std::env::temp_dir())) {
            if above != std::env::temp_dir() {
                fs::set_permissions(above, fs::Permissions::from_mode(0o755)).ok()?;
            }
        }
        let write = |name: &str, text: &str| {
            let text = text
                .replace("DIR", &folder.display().to_string())
                .replace("SERVER", &server.to_string())
                .replace("PORT", &port.to_string())
                .replace("CONNECTIONS", &connections.to_string());
            fs::write(folder.join(name), text)
        };
        write("etc/main.cf", MAIN).ok()?;
        write("etc/master.cf", MASTER).ok()?;
        let postfix = Self { folder: folder.to_owned(), port, running: None };
        run(Command::new("chown").arg("postfix").arg(folder.join("data")))?;
        // Makes what is missing of the queue.
        run(postfix.command("postfix").arg("check"))?;
        Some(postfix)
    }

    /// Its `sendmail`, for a message to be handed over.
    pub(crate) fn sendmail(&self) -> Command {
        let mut command = Command::new("/usr/sbin/sendmail");
        command.arg("-C").arg(self.folder.join("etc")).arg("-i");
        command
    }

    /// Where that puts messages.
    pub(crate) fn maildrop(&self) -> PathBuf {
        self.folder.join("queue/maildrop")
    }

    /// Where it takes mail once it is started.
    pub(crate) fn port(&self) -> u16 {
        self.port
    }

    /// Starts all of it, and waits until it accepts.
    pub(crate) fn start(&mut self) -> Option<()> {
        let mut command = self.command("postfix");
        command.arg("start-fg").stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        self.running = Some(command.spawn().ok()?);
        let until = Instant::now() + PATIENCE;
        while std::net::TcpStream::connect(("127.0.0.1", self.port)).is_err() {
            if Instant::now() > until {
                return None;
            }
            std::thread::sleep(Duration::from_millis(5));
        }
        Some(())
    }

    /// Fills the queue with so many messages of about that size, and holds them.
    pub(crate) fn fill(&self, messages: usize, size: usize) {
        let mut source = Command::new(program("smtp-source").expect("it comes with Postfix"));
        source.args(["-s", "4", "-m", &messages.to_string(), "-l", &size.to_string()]);
        source.args(["-f", "me@bench.test", "-t", "you@elsewhere.test"]);
        source.arg(format!("127.0.0.1:{}", self.port));
        run(&mut source).expect("it takes them");
    }

    /// Lets go of what is held.
    pub(crate) fn release(&self) {
        run(self.command("postsuper").args(["-H", "ALL"])).expect("released");
        run(self.command("postqueue").arg("-f")).expect("flushed");
    }

    fn command(&self, name: &str) -> Command {
        let mut command = Command::new(program(name).expect("it comes with Postfix"));
        command.arg("-c").arg(self.folder.join("etc"));
        command
    }
}

impl Drop for Postfix {
    fn drop(&mut self) {
        if let Some(mut running) = self.running.take() {
            let _ = run(self.command("postfix").arg("abort"));
            let _ = running.wait();
        }
    }
}

/// Whether it succeeds.
fn run(command: &mut Command) -> Option<()> {
    let quiet = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    quiet.status().ok()?.success().then_some(())
}
