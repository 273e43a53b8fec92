//! The transport as a whole, against a store in memory and programs of the system.

use std::fs;
use std::io::{Read, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::sync::mpsc::{Receiver, channel};

use rustix::fs::{FileType, mknodat};
use rustix::process::Pid;
use sundown_core::provider::{ProviderAnswer, StoreRead};
use sundown_protocol::request::Report;
use tempfile::TempDir;

use super::*;
use crate::StoreReader;
use crate::runtime::{BootId, Runtime};

/// A store with one message of this size, of lines.
struct Memory(u64);

impl StoreReader for Memory {
    fn read(&mut self, _: &StoreRead) -> Result<ProviderAnswer> {
        Ok(ProviderAnswer::Done)
    }

    fn another(&self) -> Result<Box<dyn StoreReader>> {
        Ok(Box::new(Memory(self.0)))
    }

    fn open(&mut self, _: u128) -> Result<Box<dyn Read + Send + '_>> {
        let body = std::io::repeat(b'x').take(self.0);
        Ok(Box::new((&b"Subject: s\r\nBcc: secret@x\r\n\r\n"[..]).chain(body)))
    }
}

impl Support for Memory {
    fn store(&self, _: u32) -> Result<Box<dyn StoreReader>> {
        self.another()
    }

    fn save(&self, _: u32, _: &str, _: &str, _: &str) -> Result<()> {
        unreachable!("a pipe saves nothing")
    }
}

/// A directory for what programs leave, and the dots of a broker.
struct World {
    dir: TempDir,
    common: Common,
}

impl World {
    fn new() -> Self {
        let dir = TempDir::new().expect("a directory");
        let data = Arc::new(OnceLock::from(dir.path().to_owned()));
        Self { dir, common: Common { data, ..Common::default() } }
    }

    /// One whose dots are in memory, if this machine has some.
    fn with_memory() -> Option<(Self, TempDir)> {
        let memory = TempDir::new_in("/dev/shm").ok()?;
        let system = rustix::fs::statfs(memory.path()).ok()?;
        if !crate::runtime::is_in_memory(&system) {
            return None;
        }
        let runtime = Runtime {
            directories: vec![memory.path().to_owned()],
            name: "broker.sock".into(),
            boot: BootId::parse("5851c9c8-cb1b-4f40-b492-10a5a055c151"),
        };
        let dots = Arc::new(Dots::new(Arc::new(OnceLock::from(runtime))));
        let mut world = Self::new();
        world.common.dots = dots;
        Some((world, memory))
    }

    /// A script that runs in this directory.
    fn script(&self, text: &str) -> String {
        let path = self.dir.path().join("script");
        let text = format!("#!/bin/sh\ncd {}\n{text}\n", self.dir.path().display());
        fs::write(&path, text).expect("written");
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).expect("made executable");
        path.to_str().expect("text").to_owned()
    }

    fn pipe_with(&self, program: &str, arguments: &[&str], options: &[(&str, &str)]) -> Pipe {
        let arguments = arguments.iter().map(|text| (ARGUMENT_OPTION, *text));
        let options = arguments.chain(options.iter().copied());
        let spec = ProviderSpec {
            path: program.into(),
            options: options.map(|(key, value)| (key.to_owned(), value.to_owned())).collect(),
            ..ProviderSpec::new("pipe")
        };
        let mut pipe = Pipe::new(&spec, &self.common).expect("it is made");
        pipe.logon(Arc::new(Memory(10))).expect("it logs on");
        pipe
    }

    fn pipe(&self, script: &str) -> Pipe {
        self.pipe_with(&self.script(script), &["{recipient}"], &[])
    }

    fn text(&self, name: &str) -> String {
        fs::read_to_string(self.dir.path().join(name)).unwrap_or_default()
    }

    /// A pipe that a script tells something by. Opening it for reading waits for that.
    fn telltale(&self) {
        let path = self.dir.path().join("told");
        mknodat(rustix::fs::CWD, &path, FileType::Fifo, 0o600.into(), 0).expect("a pipe");
    }
}

fn transmission(id: u64, recipients: &[&str]) -> Transmission {
    let recipients = recipients.iter().map(|address| (*address).to_owned()).enumerate();
    Transmission {
        id,
        store: 1,
        record: 7,
        from: "me@localhost".into(),
        recipients: recipients.collect(),
        size: 40,
        report: Report::default(),
    }
}

type Results = Receiver<Result<Vec<RecipientResult>>>;

fn way<T: Send + 'static>() -> (Reply<T>, Receiver<Result<T>>) {
    let (sender, answer) = channel();
    (Reply::new(move |result| drop(sender.send(result))), answer)
}

fn prepare(pipe: &mut Pipe, transmission: &Transmission) -> Result<Prepared> {
    let (reply, answer) = way();
    pipe.prepare(transmission.clone(), reply);
    answer.recv().expect("an answer")
}

fn complete(pipe: &mut Pipe, id: u64) -> Results {
    let (reply, answer) = way();
    pipe.complete(id, reply);
    answer
}

fn recover(pipe: &mut Pipe, transmission: &Transmission, marker: &str) -> (Outcome, String) {
    let (reply, answer) = way();
    pipe.recover(transmission.clone(), marker.to_owned(), reply);
    let mut results = answer.recv().expect("an answer").expect("results");
    let result = results.remove(0);
    (result.outcome, result.reply)
}

/// What becomes of a message to one recipient.
fn deliver(pipe: &mut Pipe, to: &str) -> (Outcome, String) {
    let prepared = prepare(pipe, &transmission(1, &[to])).expect("prepared");
    assert_eq!(prepared.refused, []);
    let results = complete(pipe, 1).recv().expect("an answer").expect("results");
    let [RecipientResult { recipient: 0, outcome, reply }] = &results[..] else {
        panic!("{results:?}")
    };
    (*outcome, reply.clone())
}

#[test]
fn a_program_reads_the_message() {
    let world = World::new();
    let mut pipe = world.pipe("cat > message; echo \"$@\" > arguments; env > environment");
    let program = pipe.program.clone();
    let sent = (Outcome::Sent, format!("delivered by {program}"));
    assert_eq!(deliver(&mut pipe, "anna b@localhost"), sent);
    let envelope = "Return-Path: <me@localhost>\nDelivered-To: anna b@localhost\n";
    assert_eq!(world.text("message"), format!("{envelope}Subject: s\n\nxxxxxxxxxx"));
    assert_eq!(world.text("arguments"), "anna b@localhost\n");
    let environment = world.text("environment");
    for line in ["SENDER=me@localhost", "RECIPIENT=anna b@localhost"] {
        assert!(environment.lines().any(|l| l == line), "{environment}");
    }
    // A shell adds some.
    let own = ["SENDER", "RECIPIENT", "PWD", "OLDPWD", "SHLVL", "_"];
    let known = |line: &str| {
        let name = line.split('=').next().unwrap_or_default();
        own.iter().chain(&runs::KEPT).any(|known| *known == name)
    };
    assert!(environment.lines().all(known), "{environment}");
}

/// Who wants to know of the delivery is told that a program has the message, which may pass it on.
#[test]
fn what_a_program_took_is_relayed_for_who_wants_to_know() {
    let world = World::new();
    let mut pipe = world.pipe("cat > message");
    let mut asked = transmission(1, &["anna"]);
    asked.report.notify = Notify::SUCCESS;
    prepare(&mut pipe, &asked).expect("prepared");
    let results = complete(&mut pipe, 1).recv().expect("an answer").expect("results");
    assert_eq!(results[0].outcome, Outcome::Relayed);
}

/// What the broker has open is not open in a program, which starts in the root of the file system.
#[test]
fn a_program_has_three_descriptors() {
    let world = World::new();
    let _open = fs::File::open("/dev/null").expect("opened");
    let mut pipe = world.pipe_with("/bin/sh", &["-c", "pwd; exit 1"], &[]);
    let reply = deliver(&mut pipe, "anna").1;
    assert!(reply.ends_with("(/bin/sh, status 1): /"), "{reply}");
    let mut pipe = world.pipe("ls /proc/$$/fd > descriptors");
    deliver(&mut pipe, "anna");
    // The shell itself has its script open, by a number from 10 on.
    let found = world.text("descriptors");
    let low: Vec<_> = found.lines().filter(|fd| fd.len() == 1).collect();
    assert_eq!(low, ["0", "1", "2"], "{found}");
}

#[test]
fn the_end_of_a_program_says_what_became_of_the_message() {
    let world = World::new();
    for (script, outcome, words) in [
        ("exit 75", Outcome::Later, "4.3.0 a temporary failure"),
        ("echo no mailbox >&2; exit 67", Outcome::Failed, "5.1.1 there is no such user"),
        ("echo 4.2.2 full; exit 1", Outcome::Later, "4.2.2 full"),
        ("kill -9 $$", Outcome::Later, "ended by signal 9"),
        // It closes its input at once, or does not read it.
        ("exec <&-; exit 0", Outcome::Sent, "delivered"),
        ("exit 0", Outcome::Sent, "delivered"),
        (
            "head -c 3000000 /dev/zero; head -c 3000000 /dev/zero >&2; exit 0",
            Outcome::Sent,
            "delivered",
        ),
        ("/no/such/command", Outcome::Later, "4.3.5 a command in it was not found"),
    ] {
        let (found, reply) = deliver(&mut world.pipe(script), "anna");
        assert_eq!(found, outcome, "{script}: {reply}");
        assert!(reply.contains(words), "{script}: {reply}");
    }
    let (_, reply) = deliver(&mut world.pipe("echo no mailbox >&2; exit 67"), "anna");
    assert!(reply.ends_with("status 67): no mailbox"), "{reply}");
}

/// Something in the background keeps the output open, and the program ends.
#[test]
fn what_a_program_leaves_in_the_background_is_not_waited_for() {
    let world = World::new();
    let (outcome, reply) = deliver(&mut world.pipe("sleep 1000 & echo $! > pid"), "anna");
    let pid =
        Pid::from_raw(world.text("pid").trim().parse().expect("a number")).expect("it is one");
    rustix::process::kill_process(pid, rustix::process::Signal::KILL).expect("it runs");
    assert_eq!(outcome, Outcome::Sent, "{reply}");
}

#[test]
fn a_program_that_hangs_is_ended_at_its_time() {
    let world = World::new();
    let script = world.script("sleep 1000 & wait");
    let mut pipe = world.pipe_with(&script, &[], &[("timeout", "50")]);
    let (outcome, reply) = deliver(&mut pipe, "anna");
    assert_eq!(outcome, Outcome::Later);
    assert!(reply.contains("took longer than") && reply.contains("was ended"), "{reply}");
}

#[test]
fn a_message_is_larger_than_any_pipe() {
    let world = World::new();
    let mut pipe = world.pipe("wc -c > size");
    pipe.logon(Arc::new(Memory(3_000_000))).expect("it logs on");
    assert_eq!(deliver(&mut pipe, "anna").0, Outcome::Sent);
    let front = "Return-Path: <me@localhost>\nDelivered-To: anna\nSubject: s\n\n".len();
    assert_eq!(world.text("size").trim(), (3_000_000 + front).to_string());
}

/// A program for each recipient, the others follow.
#[test]
fn each_recipient_has_a_program() {
    let world = World::new();
    let mut pipe = world.pipe("exit 0");
    let message = transmission(1, &["-x@localhost", "a\nb", "anna", "bo", "cleo"]);
    let prepared = prepare(&mut pipe, &message).expect("prepared");
    let refused: Vec<_> = prepared.refused.iter().map(|r| (r.recipient, r.outcome)).collect();
    let (failed, later) = (Outcome::Failed, Outcome::NotSent);
    assert_eq!(refused, [(0, failed), (1, failed), (3, later), (4, later)]);
    assert!(prepared.refused[0].reply.starts_with("5.1.3 "), "{prepared:?}");
    let results = complete(&mut pipe, 1).recv().expect("an answer").expect("results");
    assert_eq!(
        results.iter().map(|r| (r.recipient, r.outcome)).collect::<Vec<_>>(),
        [(2, Outcome::Sent)]
    );
    let none = prepare(&mut pipe, &transmission(2, &["-x@localhost"])).expect("prepared");
    assert_eq!((none.marker.as_str(), none.refused.len()), ("", 1));
}

/// A user of this host is one of the profile's list or of the system; root is one, too.
#[test]
fn a_user_is_one_of_this_host() {
    let world = World::new();
    let script = world.script("echo \"$@\" > user");
    let users = [("local_user", "anna"), ("local_user", "root")];
    let mut pipe = world.pipe_with(&script, &["-d", "{user}"], &users);
    assert_eq!(deliver(&mut pipe, "root@localhost").0, Outcome::Sent);
    assert_eq!(world.text("user"), "-d root\n");
    for nobody in ["bo@localhost", "../anna", "-anna", "anna\0"] {
        let prepared = prepare(&mut pipe, &transmission(1, &[nobody])).expect("prepared");
        assert_eq!(prepared.refused[0].outcome, Outcome::Failed, "{nobody:?}");
        assert!(prepared.refused[0].reply.starts_with("5.1.1 "), "{prepared:?}");
    }
}

/// Nothing is wrong with the messages then, so none of them is tried.
#[test]
fn a_program_that_is_not_there_is_the_fault_of_no_message() {
    let world = World::new();
    let plain = world.dir.path().join("plain");
    fs::write(&plain, "#!/bin/sh\n").expect("written");
    let directory = world.dir.path().to_str().expect("text");
    let cases = [
        (directory, "it is not a file"),
        ("/no/such/program", "there is no such program"),
        (plain.to_str().expect("text"), "may not execute it"),
    ];
    for (program, words) in cases {
        let mut pipe = world.pipe_with(program, &[], &[]);
        let error = prepare(&mut pipe, &transmission(1, &["anna"])).expect_err("no program");
        let wanted = ProviderError::new(Code::E_UNCONFIGURED, error.message.clone()).of_server();
        assert_eq!(error, wanted);
        assert!(error.message.contains(words) && error.message.contains(program), "{error}");
        let (reply, answer) = way();
        pipe.validate(AskedBy::Broker, reply);
        assert_eq!(answer.recv().expect("an answer"), Err(wanted));
    }
    // It goes between the two steps.
    let mut pipe = world.pipe("exit 0");
    prepare(&mut pipe, &transmission(1, &["anna"])).expect("prepared");
    fs::remove_file(&pipe.program).expect("removed");
    let results = complete(&mut pipe, 1).recv().expect("an answer").expect("results");
    assert_eq!(results[0].outcome, Outcome::Later);
    assert!(results[0].reply.contains("cannot be started"), "{results:?}");
}

/// What is missing is named, and not the script that is there.
#[test]
fn a_script_that_nothing_runs_is_said_to_be_one() {
    let world = World::new();
    for (line, words) in
        [("#!/no/such/shell", "`#!` names is not there"), ("", "neither a program")]
    {
        let script = world.script("exit 0");
        fs::write(&script, format!("{line}\nexit 0\n")).expect("written");
        let mut pipe = world.pipe_with(&script, &[], &[]);
        let (outcome, reply) = deliver(&mut pipe, "anna");
        assert_eq!(outcome, Outcome::Later);
        assert!(reply.contains(words), "{reply}");
    }
}

/// The kernel takes no argument of this length.
#[test]
fn arguments_that_are_too_long_are_said_to_be() {
    let world = World::new();
    let mut pipe = world.pipe_with("/bin/true", &[&"x".repeat(200_000)], &[]);
    let (outcome, reply) = deliver(&mut pipe, "anna");
    assert_eq!(outcome, Outcome::Later);
    assert!(reply.starts_with("4.3.5 /bin/true cannot be started: Argument list"), "{reply}");
}

/// As many programs run at once as the profile says, and further messages wait for them.
#[test]
fn programs_run_as_many_at_once_as_the_profile_says() {
    let world = World::new();
    world.telltale();
    // Each waits until it is read from, and would see another one's file.
    let script = world.script("test -e runs && exit 67; touch runs; echo $1 > told; rm runs");
    let mut pipe = world.pipe_with(&script, &["{recipient}"], &[]);
    let names = ["a", "b", "c"];
    let results: Vec<_> = (1..)
        .zip(names)
        .map(|(id, name)| {
            prepare(&mut pipe, &transmission(id, &[name])).expect("prepared");
            complete(&mut pipe, id)
        })
        .collect();
    let mut told = String::new();
    for (n, results) in results.into_iter().enumerate() {
        told += &fs::read_to_string(world.dir.path().join("told")).expect("it tells");
        let results = results.recv().expect("an answer").expect("results");
        assert_eq!(results[0].outcome, Outcome::Sent, "{n}: {results:?}");
    }
    assert_eq!(told, "a\nb\nc\n");
}

/// Two sessions with one command are no two programs at once.
#[test]
fn sessions_share_the_places_of_a_command() {
    let world = World::new();
    world.telltale();
    let script = world.script("test -e runs && exit 67; touch runs; echo $1 > told; rm runs");
    let arguments = ["{recipient}"];
    let mut sessions = [(); 3].map(|()| world.pipe_with(&script, &arguments, &[]));
    let results = sessions.each_mut().map(|pipe| {
        prepare(pipe, &transmission(1, &["anna"])).expect("prepared");
        complete(pipe, 1)
    });
    let tell = || fs::read_to_string(world.dir.path().join("told")).expect("it tells");
    let told: Vec<_> = results.iter().map(|_| tell()).collect();
    assert_eq!(told, ["anna\n", "anna\n", "anna\n"]);
    for results in results {
        let results = results.recv().expect("an answer").expect("results");
        assert_eq!(results[0].outcome, Outcome::Sent, "{results:?}");
    }
    // One that waits for a place of another session ends with its own.
    prepare(&mut sessions[0], &transmission(1, &["anna"])).expect("prepared");
    prepare(&mut sessions[1], &transmission(1, &["bo"])).expect("prepared");
    let place = sessions[2].place.take(1, runs::PATIENCE, || true).expect("it is free");
    let waits = complete(&mut sessions[0], 1);
    sessions[0].logoff().expect("logged off");
    assert_eq!(waits.recv().expect("an answer").expect("results")[0].outcome, Outcome::Offline);
    drop(place);
    let results = complete(&mut sessions[1], 1);
    assert_eq!(tell(), "bo\n");
    assert_eq!(results.recv().expect("an answer").expect("results")[0].outcome, Outcome::Sent);
}

/// A program that sends its message back to itself does so once.
#[test]
fn a_loop_is_ended() {
    let world = World::new();
    let mut pipe = world.pipe("cat > message");
    let message = transmission(1, &["s", "anna"]);
    pipe.logon(Arc::new(Again)).expect("it logs on");
    let prepared = prepare(&mut pipe, &message).expect("prepared");
    let [RecipientResult { recipient: 0, outcome: Outcome::Failed, reply }] = &prepared.refused[..]
    else {
        panic!("{prepared:?}")
    };
    assert_eq!(reply, "5.4.6 a mail forwarding loop for s");
    let results = complete(&mut pipe, 1).recv().expect("an answer").expect("results");
    assert_eq!((results[0].recipient, results[0].outcome), (1, Outcome::Sent));
}

/// A store with a message that `s` has had.
struct Again;

impl StoreReader for Again {
    fn read(&mut self, _: &StoreRead) -> Result<ProviderAnswer> {
        Ok(ProviderAnswer::Done)
    }

    fn another(&self) -> Result<Box<dyn StoreReader>> {
        Ok(Box::new(Again))
    }

    fn open(&mut self, _: u128) -> Result<Box<dyn Read + Send + '_>> {
        Ok(Box::new(&b"Delivered-To: s\r\nSubject: s\r\n\r\nx\r\n"[..]))
    }
}

impl Support for Again {
    fn store(&self, _: u32) -> Result<Box<dyn StoreReader>> {
        self.another()
    }

    fn save(&self, _: u32, _: &str, _: &str, _: &str) -> Result<()> {
        unreachable!("a pipe saves nothing")
    }
}

/// The program that runs is ended with its session, and what waits is not started.
#[test]
fn programs_end_with_the_session() {
    let world = World::new();
    world.telltale();
    let mut pipe =
        world.pipe("trap 'echo > ended; exit 75' TERM; echo $$ > told; sleep 1000 & wait");
    let results: Vec<_> = [1, 2]
        .into_iter()
        .map(|id| {
            prepare(&mut pipe, &transmission(id, &["anna"])).expect("prepared");
            complete(&mut pipe, id)
        })
        .collect();
    let pid = fs::read_to_string(world.dir.path().join("told")).expect("it runs");
    pipe.logoff().expect("logged off");
    let outcomes: Vec<_> = results
        .iter()
        .map(|results| results.recv().expect("an answer").expect("results")[0].outcome)
        .collect();
    assert_eq!(outcomes, [Outcome::Unknown, Outcome::Offline]);
    assert!(!Path::new("/proc").join(pid.trim()).exists(), "it is left");
    assert!(world.dir.path().join("ended").exists(), "it was told to end");
}

#[test]
fn messages_are_taken_one_recipient_at_a_time() {
    let world = World::new();
    let facts = |options: &[(&str, &str)]| {
        let mut pipe = world.pipe_with("/bin/true", &[], options);
        pipe.logon(Arc::new(Memory(1))).expect("it logs on")
    };
    let longest = Duration::from_secs(300 + 5 + 60 + 60);
    assert_eq!(facts(&[]), TransportFacts { window: 1, recipients: 1, longest });
    let longest = Duration::from_secs(1 + 5 + 60 + 60);
    let wanted = TransportFacts { window: 7, recipients: 1, longest };
    assert_eq!(facts(&[("connections", "7"), ("timeout", "1000")]), wanted);
}

#[test]
fn what_was_not_prepared_has_no_results() {
    let world = World::new();
    let mut pipe = world.pipe("touch started");
    prepare(&mut pipe, &transmission(1, &["anna"])).expect("prepared");
    pipe.cancel(1);
    assert_eq!(complete(&mut pipe, 1).recv().expect("an answer"), Ok(Vec::new()));
    pipe.logoff().expect("logged off");
    assert_eq!(complete(&mut pipe, 1).recv().expect("an answer"), Ok(Vec::new()));
    let error = prepare(&mut pipe, &transmission(1, &["anna"])).expect_err("no session");
    assert_eq!(error.code, Code::E_NOT_INITIALIZED);
    assert!(!world.dir.path().join("started").exists());
}

/// Another broker finds what this one left: a program that was not started, one that runs, and one that has ended.
#[test]
fn a_crash_leaves_what_a_program_has_come_to() {
    let Some((world, _memory)) = World::with_memory() else {
        return println!("skipped: /dev/shm is not in memory");
    };
    world.telltale();
    let script = world.script("echo > told; cat < told; exit $1");
    let mut pipe = world.pipe_with(&script, &["{recipient}"], &[("connections", "4")]);
    let fates = [("0", Outcome::Sent), ("67", Outcome::NotSent), ("75", Outcome::NotSent)];
    for (status, outcome) in fates {
        let message = transmission(1, &[status]);
        let marker = prepare(&mut pipe, &message).expect("prepared").marker;
        let results = complete(&mut pipe, 1);
        // It has begun, and waits.
        fs::read(world.dir.path().join("told")).expect("it tells");
        // Also where the profile has another program by now.
        let mut other = world.pipe_with("/bin/true", &[], &[]);
        let (unknown, words) = recover(&mut other, &message, &marker);
        assert_eq!(unknown, Outcome::Unknown);
        assert!(words.contains(&script), "{words}");
        let end = fs::OpenOptions::new().write(true).open(world.dir.path().join("told"));
        end.and_then(|mut end| end.write_all(b"x")).expect("it goes on");
        results.recv().expect("an answer").expect("results");
        assert_eq!(recover(&mut pipe, &message, &marker).0, outcome, "{status}");
    }
    let message = transmission(2, &["0"]);
    let marker = prepare(&mut pipe, &message).expect("prepared").marker;
    assert_eq!(recover(&mut pipe, &message, &marker).0, Outcome::NotSent);
    // What is told to be not sent is not sent later.
    let results = complete(&mut pipe, 2).recv().expect("an answer").expect("results");
    assert_eq!(results[0].outcome, Outcome::Later, "{results:?}");
    for strange in ["", "pipe", "x y z"] {
        assert_eq!(recover(&mut pipe, &message, strange).0, Outcome::Unknown, "{strange:?}");
    }
}

/// Neither processes nor descriptors are left of programs.
#[test]
fn nothing_is_left_of_programs() {
    let world = World::new();
    // Programs of the other tests have another name.
    let script = world.dir.path().join("remains");
    fs::rename(world.script("sleep 0 & exit 0"), &script).expect("renamed");
    let mut pipe = world.pipe_with(script.to_str().expect("text"), &[], &[]);
    let pids = || {
        let me = std::process::id().to_string();
        let stat = |entry: fs::DirEntry| fs::read_to_string(entry.path().join("stat")).ok();
        let all = fs::read_dir("/proc").expect("processes").filter_map(|e| stat(e.ok()?));
        all.filter(|stat| {
            let rest = stat.rsplit_once(')').map_or("", |(_, rest)| rest);
            stat.contains("(remains)") && rest.split(' ').nth(2) == Some(me.as_str())
        })
        .count()
    };
    for _ in 0..50 {
        assert_eq!(deliver(&mut pipe, "anna").0, Outcome::Sent);
    }
    assert_eq!(pids(), 0);
    let Some(session) = &pipe.session else { panic!("it is logged on") };
    assert!(session.prepared.is_empty());
    let in_data = fs::read_dir(world.dir.path()).expect("it is there").count();
    assert_eq!(in_data, 1, "nothing but the script");
}
