//! The programs in `examples/`, on one session with a shell.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use rustix::process::Signal;

use crate::harness::{Home, Lines, Shell, run, signal, wait_for_end};

/// A home whose session has a Maildir with folders. Any member may end the session.
fn home() -> Home {
    let home = Home::with_settings("[shutdown]\nshared_logoff = \"any\"\n");
    let maildir = home.path("Maildir");
    home.profile("default", &format!("[[mailbox]]\npath = \"{}\"\n", maildir.display()));
    for directory in ["cur", "new", "tmp"] {
        fs::create_dir_all(maildir.join(directory)).expect("made");
    }
    home
}

/// Another program delivers a message with this subject.
fn deliver(home: &Home, subject: &str) {
    let text = format!("From: Bo <bo@example.org>\nSubject: {subject}\n\nThis is {subject}.\n");
    let written = home.write(&format!("Maildir/tmp/{subject}"), text);
    fs::rename(written, home.path(&format!("Maildir/new/{subject}"))).expect("delivered");
}

fn shell(home: &Home) -> Shell {
    let mut shell = home.shell();
    shell.ok("logon");
    shell
}

/// A running example, and what it prints.
struct Example {
    child: Child,
    output: Lines,
    errors: Lines,
}

impl Example {
    fn start(home: &Home, name: &str, arguments: &[&Path]) -> Self {
        let mut command = command(home, name, arguments);
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().expect("it starts");
        let output = Lines::of(child.stdout.take().expect("it is a pipe"));
        let errors = Lines::of(child.stderr.take().expect("it is a pipe"));
        Self { child, output, errors }
    }

    /// Waits for a line with this text.
    fn prints(&self, text: &str) {
        self.output.find(text, 0, |line| line.contains(text).then_some(()));
    }

    /// Waits until a condition holds that follows from what it does. It prints a line each time.
    fn until(&self, what: &str, holds: impl Fn() -> bool) {
        loop {
            let lines = self.output.count();
            if holds() {
                return;
            }
            self.output.wait_beyond(what, lines);
        }
    }

    /// Waits until it ends, as it should. Everything that it has printed.
    fn ends(&mut self) -> Vec<String> {
        let status = wait_for_end(&mut self.child);
        self.output.wait_for_end();
        self.errors.wait_for_end();
        assert!(status.success(), "{status}: {:?}", self.errors.all());
        self.output.all()
    }
}

impl Drop for Example {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// An example, for the broker of this home. Cargo builds it into `examples`, beside the `deps` with the tests.
fn command(home: &Home, name: &str, arguments: &[&Path]) -> Command {
    let test = std::env::current_exe().expect("it runs");
    let profile = test.parent().and_then(Path::parent).expect("target/PROFILE/deps");
    let program = profile.join("examples").join(name);
    assert!(program.exists(), "{} is built by `cargo build --examples`", program.display());
    let mut command = Command::new(program);
    command.args(arguments).env_clear().env("HOME", home.path(""));
    // Without a PATH it finds no `sundown`, and so starts no broker.
    command.env("XDG_RUNTIME_DIR", home.runtime());
    command
}

/// The files below a directory, without those that begin with a dot.
fn files(directory: &Path) -> Vec<PathBuf> {
    let found =
        fs::read_dir(directory).expect("it is there").map(|found| found.expect("read").path());
    let (directories, mut all): (Vec<_>, Vec<_>) = found.partition(|path| path.is_dir());
    all.retain(|path| {
        !path.file_name().is_some_and(|name| name.as_encoded_bytes().starts_with(b"."))
    });
    all.extend(directories.iter().flat_map(|path| files(path)));
    all
}

/// The notifier tells of each new mail once, also of what came while no broker ran, and leaves when the session ends.
///
/// NOTIF-17
#[test]
fn the_notifier_tells_of_each_mail_once() {
    let home = home();
    let mut broker = home.serve();
    let mut notifier = Example::start(&home, "notifier", &[]);
    // It has begun when it tells of mail that comes from now on.
    home.status_until("it is logged on", |status| status["sessions"][0]["members"][0].is_object());
    deliver(&home, "first");
    notifier.prints("first");
    broker.kill();
    deliver(&home, "second");
    let _broker = home.serve();
    notifier.prints("second");
    deliver(&home, "third");
    notifier.prints("third");
    shell(&home).ok("logoff session=1 shared");
    let told = notifier.ends();
    assert_eq!(told.len(), 3, "{told:?}");
    assert!(told.iter().all(|line| line.contains("Bo <bo@example.org>: ")), "{told:?}");
}

/// The indexer's file follows what programs and the Maildir do: deliveries one by one and many at once, moves, deletions, folders, also
/// while no broker runs. A signal ends it.
///
/// NOTIF-17, NOTIF-20
#[test]
fn the_indexer_follows_the_session() {
    let home = home();
    let index = home.path("index");
    for n in 0..40 {
        deliver(&home, &format!("early-{n}"));
    }
    let mut broker = home.serve();
    let mut indexer = Example::start(&home, "indexer", &[&index]);
    let lines = |folder: &str| {
        let text = fs::read_to_string(&index).unwrap_or_default();
        let folder = format!("\t{folder}\tBo <bo@example.org>\t");
        text.lines().filter(|line| line.contains(&folder)).count()
    };
    indexer.until("the first reading", || lines("Inbox") == 40);
    let mut shell = shell(&home);
    let folder = shell.ok("make-folder session=1 name=Work")["folder"].to_string();
    let inbox = shell.ok("open session=1 what=inbox")["object"].to_string();
    let rows = shell.ok(&format!("list object={inbox}"))["rows"].clone();
    shell.ok(&format!("move session=1 entry={} folder={folder}", rows[0]["entry"]));
    shell.ok(&format!("delete session=1 entry={}", rows[1]["entry"]));
    indexer.until("a move and a deletion", || {
        (lines("Inbox"), lines("Work"), lines("Deleted")) == (38, 1, 1)
    });
    shell.ok(&format!("delete session=1 entry={}", rows[1]["entry"]));
    shell.ok(&format!("rename-folder session=1 folder={folder} name=Done"));
    indexer.until("it is gone", || (lines("Done"), lines("Deleted")) == (1, 0));

    broker.kill();
    for n in 0..40 {
        deliver(&home, &format!("late-{n}"));
    }
    let _broker = home.serve();
    indexer.until("what came without a broker", || lines("Inbox") == 78);
    for n in 0..40 {
        let _ = fs::remove_file(home.path(&format!("Maildir/new/late-{n}")));
    }
    indexer.until("many files were removed", || lines("Inbox") == 38);
    signal(&indexer.child, Signal::TERM);
    indexer.ends();
}

/// The backup copies everything once. A second one copies what is new and removes nothing.
///
/// NOTIF-17
#[test]
fn the_backup_copies_what_is_new() {
    let home = home();
    let copies = home.path("copies");
    let _broker = home.serve();
    let mut shell = shell(&home);
    let folder = shell.ok("make-folder session=1 name=A/B..")["folder"].to_string();
    for (name, folder) in [("one", "inbox"), ("two", "sent"), ("three", folder.as_str())] {
        let file = home.message(name);
        shell.ok(&format!("append session=1 folder={folder} file={}", file.display()));
    }
    let back_up = || run(command(&home, "backup", &[&copies]), "").ok().output;
    assert_eq!(back_up(), "3 copied, 0 were there, 0 could not be read");
    let found = files(&copies);
    assert!(found.iter().any(|path| path.parent().is_some_and(|p| p.ends_with("A%2FB%2E%2E"))));
    let text = |path: &PathBuf| fs::read_to_string(path).expect("read");
    assert!(found.iter().any(|path| text(path) == text(&home.path("three.eml"))), "{found:?}");

    let file = home.message("four");
    shell.ok(&format!("append session=1 folder=inbox file={}", file.display()));
    let inbox = shell.ok("open session=1 what=inbox")["object"].to_string();
    let rows = shell.ok(&format!("list object={inbox}"))["rows"].clone();
    shell.ok(&format!("move session=1 entry={} folder={folder}", rows[0]["entry"]));
    assert_eq!(back_up(), "1 copied, 3 were there, 0 could not be read");
    shell.ok(&format!("delete session=1 entry={}", rows[0]["entry"]));
    shell.ok(&format!("delete session=1 entry={}", rows[0]["entry"]));
    assert_eq!(back_up(), "0 copied, 3 were there, 0 could not be read");
    assert_eq!(files(&copies).len(), 4);
}
