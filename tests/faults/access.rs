//! Other users, other people's handles, tokens and sockets: refused, and written down.

use std::fs::{self, Permissions};
use std::os::unix::fs::{PermissionsExt, chown, lchown, symlink};
use std::os::unix::process::CommandExt;
use std::process::Command;

use serde_json::Value;
use sundown_protocol::request::{Folder, Opening, Request};
use sundown_protocol::{Code, ObjectId, Token};

use crate::bystander::{Bystander, Figures};
use crate::harness::{Broker, Home, Ran, Shell, run};
use crate::root;
use crate::stranger::Stranger;

/// A user who is nobody's owner of anything.
pub(crate) const OTHER: u32 = 65_534;

/// A home whose socket another user may connect to.
pub(crate) fn opened(settings: &str) -> Home {
    let home = Home::with_settings(&format!("[socket]\ngroup = \"{OTHER}\"\n{settings}"));
    for directory in ["", "run"] {
        fs::set_permissions(home.path(directory), Permissions::from_mode(0o755)).expect("changed");
    }
    home
}

/// A command of the other user, at the home's socket.
fn of_other(home: &Home, arguments: &[&str]) -> Command {
    let mut command = home.command(arguments);
    command.arg("--socket").arg(home.socket()).uid(OTHER).gid(OTHER);
    command
}

/// A shell of the other user.
pub(crate) fn shell_of_other(home: &Home) -> Shell {
    Shell::start(of_other(home, &["shell", "--json"]))
}

/// What a command of the other user does.
pub(crate) fn runs(home: &Home, arguments: &[&str]) -> Ran {
    run(of_other(home, arguments), "")
}

/// Whether the other user can run what was built. Others may have no way to where that is.
pub(crate) fn other_can_run(home: &Home) -> bool {
    if !root("another user") {
        return false;
    }
    let ran = of_other(home, &["--version"]).output();
    if !ran.is_ok_and(|ran| ran.status.success()) {
        crate::skipped("another user cannot run what was built");
        return false;
    }
    true
}

fn refusals(broker: &Broker) -> Vec<Value> {
    broker.log().into_iter().filter(|line| line["event"] == "refused").collect()
}

/// Without a group nobody else gets to the socket: the kernel refuses. With one they connect, and the profile refuses what its
/// access list does not grant; that is a line with user, process, program and what was refused.
///
/// design §2 *rights*, §7, §8
#[test]
fn another_user_is_refused_and_written_down() {
    let closed = Home::new();
    if !other_can_run(&closed) {
        return;
    }
    fs::set_permissions(closed.path(""), Permissions::from_mode(0o755)).expect("changed");
    fs::set_permissions(closed.path("run"), Permissions::from_mode(0o755)).expect("changed");
    let _broker = closed.serve();
    let ran = runs(&closed, &["status"]).exits(1);
    assert!(ran.errors.contains("ermission denied"), "{ran:?}");

    let home = opened("");
    let broker = home.serve();
    let mut bystander = Bystander::new(&home);
    bystander.works(&home, &broker);
    let before = Figures::of(&home, &broker);
    let mut other = shell_of_other(&home);
    other.fails("logon", "MAPI_E_NO_ACCESS");
    let line = broker.log_line("the refusal", |line| line["event"] == "refused");
    assert_eq!((&line["uid"], &line["pid"]), (&OTHER.into(), &other.pid().into()), "{line}");
    assert!(line["program"].as_str().is_some_and(|p| p.contains("sundown")), "{line}");
    assert!(line["why"].as_str().is_some_and(|w| w.contains("default")), "{line}");
    // As often as it likes, and the log does not fill.
    for _ in 0..100 {
        other.fails("logon", "MAPI_E_NO_ACCESS");
    }
    let ran = runs(&home, &["stop"]);
    assert!(!ran.status.success(), "{ran:?}");
    let ran = runs(&home, &["queue", "list", "--json"]);
    assert!(!ran.output.contains("bystander"), "{ran:?}");
    bystander.works(&home, &broker);
    let lines = refusals(&broker).len();
    assert!((1..=10).contains(&lines), "{lines} lines");
    assert!(other.end().success());
    before.come_back(&home, &broker);
    bystander.leaves(&home);
}

/// Handles of another process and guessed tokens are refused and written down; nothing is told of whose they are.
///
/// LOGON-10, design §3.11, §3.12
#[test]
fn stolen_handles_and_guessed_tokens_are_written_down() {
    let home = Home::new();
    let broker = home.serve();
    let mut bystander = Bystander::new(&home);
    bystander.works(&home, &broker);
    let mut owner = home.shell();
    let member = owner.ok("logon")["member"].as_u64().expect("a number");
    owner.ok("open session=1 what=inbox");
    let mut thief = Stranger::connect(&home);
    let own = thief.logon();
    let stolen = Request::List {
        member: sundown_protocol::MemberId(member),
        object: ObjectId { place: 0, generation: 0 },
        after: 0,
        limit: 10,
    };
    assert_eq!(thief.ask(stolen).expect_err("refused").code, Code::E_INVALID_OBJECT);
    let line = broker.log_line("the stolen handle", |line| line["event"] == "refused");
    assert_eq!(line["pid"], std::process::id(), "what the kernel says, whatever a program claims");
    assert_eq!((&line["program"], &line["uid"]), (&"stranger".into(), &uid().into()));
    for guess in 0..1_000 {
        let guessed = thief.ask(Request::Redeem { token: Token(guess) });
        assert_eq!(guessed.expect_err("refused").code, Code::E_NOT_FOUND);
    }
    assert!(
        thief.ask(Request::Open { member: own, what: Opening::Folder(0, Folder::INBOX) }).is_ok()
    );
    bystander.works(&home, &broker);
    let lines = refusals(&broker);
    assert_eq!(lines.len(), 10, "a user has ten lines a minute");
    let text = format!("{lines:?}");
    assert!(!text.contains("token\":"), "a token is never in a log: {text}");
    owner.ok("list object=1");
    bystander.leaves(&home);
}

fn uid() -> u32 {
    rustix::process::geteuid().as_raw()
}

/// Who may change a link decides where things are: the socket's directory is never behind one, and the data behind another user's
/// link are not opened. The user's own link to data is followed, for data that have moved to another disk.
///
/// design §8
#[test]
fn directories_behind_links_are_refused() {
    let home = Home::new();
    let elsewhere = home.path("elsewhere");
    fs::create_dir(&elsewhere).expect("made");
    fs::set_permissions(&elsewhere, Permissions::from_mode(0o700)).expect("changed");
    for link in ["run/sundown", "data"] {
        symlink(&elsewhere, home.path(link)).expect("linked");
    }
    let ran = home.run(&["serve"]).exits(1);
    assert!(ran.errors.contains("run/sundown") && ran.errors.contains("directory"), "{ran:?}");
    fs::remove_file(home.path("run/sundown")).expect("removed");
    assert_eq!(fs::read_dir(&elsewhere).expect("there").count(), 0, "nothing was made there");
    let data = home.path("data");
    if root("somebody else's link and directory") {
        lchown(&data, Some(OTHER), None).expect("given away");
        let ran = home.run(&["serve", "--data-dir", data.to_str().expect("text")]).exits(1);
        assert!(ran.errors.contains("data") && ran.errors.contains("directory"), "{ran:?}");
        assert_eq!(fs::read_dir(&elsewhere).expect("there").count(), 0, "nothing was made there");
        fs::create_dir_all(home.path("run/sundown")).expect("made");
        chown(home.path("run/sundown"), Some(OTHER), None).expect("given away");
        let ran = home.run(&["serve"]).exits(1);
        assert!(ran.errors.contains("65534"), "{ran:?}");
        fs::remove_dir(home.path("run/sundown")).expect("removed");
        lchown(&data, Some(uid()), None).expect("taken back");
    }
    let _broker = Broker::start(&home, &["--data-dir", data.to_str().expect("text")]);
    assert_ne!(fs::read_dir(&elsewhere).expect("there").count(), 0, "one's own link is followed");
}

/// A socket that somebody else put in place of the broker's is refused before anything is said there.
///
/// design §8
#[test]
fn a_replaced_socket_is_refused() {
    let theirs = Home::new();
    if !other_can_run(&theirs) {
        return;
    }
    for directory in ["", "run"] {
        fs::set_permissions(theirs.path(directory), Permissions::from_mode(0o755)).expect("open");
        chown(theirs.path(directory), Some(OTHER), Some(OTHER)).expect("given away");
    }
    fs::set_permissions(theirs.path("run"), Permissions::from_mode(0o700)).expect("closed");
    let mut serve = of_other(&theirs, &["serve", "--log-format", "json"]);
    serve.env("USER", "nobody");
    let broker = Broker::spawn(serve);
    broker.log_line("the broker is ready", |line| line["message"] == "ready");
    // Root may use it where it is.
    theirs.run(&["status", "--socket", theirs.socket().to_str().expect("text")]).ok();

    let home = Home::new();
    drop(home.serve());
    fs::rename(theirs.socket(), home.socket()).expect("replaced");
    let ran = home.run_with(&["send", "--to", "anna@localhost", "--json"], "secret\n").exits(1);
    assert!(ran.output.contains("65534"), "{ran:?}");
    let status = home.run(&["status", "--json"]).exits(1);
    assert!(status.output.contains("65534"), "{status:?}");
    assert_eq!(theirs.maildir("default").count(), 0);
}

/// A process in a pid namespace that the broker does not see, as in another container, is served. Its clients come from a
/// namespace of their own and reach a broker in another one: the kernel has no process id for either of them.
///
/// design §2
#[test]
fn a_process_of_another_pid_namespace_is_served() {
    let within = |command: &Command| {
        let mut inside = Command::new("unshare");
        inside.env_clear().env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin");
        inside.args(["--pid", "--fork", "--kill-child"]).arg(command.get_program());
        inside.args(command.get_args());
        inside.envs(command.get_envs().filter_map(|(name, value)| Some((name, value?))));
        inside
    };
    let tried = within(&Command::new("true")).status();
    if !tried.is_ok_and(|tried| tried.success()) {
        return crate::skipped("no pid namespace can be made here");
    }
    let home = Home::new();
    let mut broker = Broker::spawn(within(&home.command(&["serve", "--log-format", "json"])));
    broker.log_line("the broker is ready", |line| line["message"] == "ready");
    let mut apart = Shell::start(within(&home.command(&["shell", "--json"])));
    apart.ok("logon");
    let mut here = home.shell();
    here.ok("logon");
    let pids = home.status()["sessions"][0]["members"].clone();
    let pids: Vec<_> = pids.as_array().expect("members").iter().map(|m| m["pid"].clone()).collect();
    assert_eq!(pids, [0, 0], "the broker's namespace shows neither");
    let sent = within(&home.command(&["send", "--to", "anna@localhost"]));
    run(sent, "hi\n").ok();
    assert!(apart.end().success() && here.end().success());
    // The broker says that it is process 1, which is another one here and does not end.
    home.run(&["stop"]).ok();
    assert!(broker.wait().success());
    let text = format!("{:?}", broker.log());
    assert!(!text.contains("could not be taken"), "{text}");
}

/// A set-user-id program does not let the user who starts it choose, by variables, where files are made for it and what it starts.
///
/// design §8
#[test]
fn a_program_with_raised_privileges_takes_nothing_from_variables() {
    use rustix::fs::{StatVfsMountFlags, statvfs};
    if !root("a set-user-id program") {
        return;
    }
    let home = Home::new();
    let flags = statvfs(home.path("")).expect("a file system").f_flag;
    if flags.contains(StatVfsMountFlags::NOSUID) {
        return crate::skipped("the file system of the tests has no set-user-id programs");
    }
    fs::set_permissions(home.path(""), Permissions::from_mode(0o755)).expect("changed");
    let program = home.path("raised");
    // By another process: a child that another test has just forked would keep this one's descriptor a moment, and what is open for
    // writing cannot be run.
    let copied = Command::new("cp").arg(crate::harness::binary()).arg(&program).status();
    assert!(copied.expect("it is installed").success());
    chown(&program, Some(OTHER), None).expect("given away");
    fs::set_permissions(&program, Permissions::from_mode(0o4755)).expect("changed");
    let chosen = home.path("chosen");
    fs::create_dir(&chosen).expect("made");
    // Everybody may make files there, so that only the program's care is what keeps it from that.
    fs::set_permissions(&chosen, Permissions::from_mode(0o1777)).expect("changed");
    for data in ["HOME", "XDG_DATA_HOME"] {
        let mut command = Command::new(&program);
        command.args(["send", "--to", "anna@localhost"]).env_clear();
        command.env("HOME", "/").env("XDG_RUNTIME_DIR", &chosen).env(data, &chosen);
        let ran = run(command, "hi\n");
        assert!(!ran.errors.contains("chosen"), "{ran:?}");
        assert_eq!(fs::read_dir(&chosen).expect("there").count(), 0, "{ran:?}");
    }
    // It says which of them it has passed over.
    for (command, option) in [("status", None), ("doctor", Some("--json"))] {
        let mut asks = Command::new(&program);
        asks.arg(command).args(option).env_clear().env("SUNDOWN_SOCKET", chosen.join("socket"));
        let Ran { output, errors, .. } = run(asks, "");
        let said = output + &errors;
        assert!(said.contains("SUNDOWN_SOCKET does not count: the program has raised"), "{said}");
    }
}

/// What root does with the variables of another user, as after `sudo -E`, leaves that user's directories to that user.
///
/// design §8
#[test]
fn root_with_a_users_variables_does_not_lock_that_user_out() {
    let home = Home::new();
    if !other_can_run(&home) {
        return;
    }
    for directory in ["", "run"] {
        chown(home.path(directory), Some(OTHER), Some(OTHER)).expect("given away");
    }
    let findings = run(home.command(&["doctor", "--json"]), "").json();
    let text = |finding: &Value| finding["message"].as_str().expect("text").to_owned();
    let users = home.path("").to_str().expect("text").to_owned();
    let messages = findings.as_array().expect("an array").iter().map(text);
    let messages: Vec<_> = messages.collect();
    assert!(messages.iter().all(|message| !message.contains(&users)), "{messages:?}");
    let unused = "XDG_RUNTIME_DIR does not count: the directory is another user's";
    assert!(messages.iter().any(|message| message == unused), "{messages:?}");
    let mut users = home.command(&["doctor", "--json"]);
    let places = run(
        {
            users.uid(OTHER).gid(OTHER);
            users
        },
        "",
    )
    .output;
    assert!(places.contains(home.path("run").to_str().expect("text")), "{places}");
}

/// Another user's broker that is open to a group is in order for the members of that group: `doctor` advises nothing that would lock
/// them out.
///
/// design §8
#[test]
fn doctor_finds_nothing_wrong_with_the_socket_of_a_group() {
    let home = opened("");
    if !other_can_run(&home) {
        return;
    }
    let _broker = home.serve();
    let ran = runs(&home, &["doctor", "--json"]);
    let findings: Vec<Value> = serde_json::from_str(&ran.output).expect("a document");
    let socket = findings.iter().find(|finding| finding["check"] == "socket").expect("a finding");
    assert_eq!(socket["status"], "ok", "{socket}");
    // That the profile does not let this user send is for whoever runs the broker to change.
    let queue = findings.iter().find(|finding| finding["check"] == "queue").expect("a finding");
    assert_eq!(queue["status"], "warning", "{queue}");
    assert!(queue["message"].as_str().is_some_and(|m| m.contains("[access]")), "{queue}");
}

/// Who is root for a moment, by `sudo -E` with all variables of a user or by `su` with the runtime directory alone, has a broker of root's
/// own. Everything in the user's directories stays the user's, who then sends as ever.
///
/// design §8
#[test]
fn root_leaves_nothing_of_its_own_in_a_users_directories() {
    // Root's own directories are empty ones here.
    let places = "mount -t tmpfs none /root && mount -t tmpfs none /run";
    let as_root = |script: &str| {
        let mut command = Command::new("unshare");
        command.args(["--mount", "--", "sh", "-c", &format!("{places} && {script}"), "sh"]);
        command
    };
    let home = Home::new();
    if !other_can_run(&home) {
        return;
    }
    if !as_root("true").output().is_ok_and(|ran| ran.status.success()) {
        return crate::skipped("nothing can be mounted here");
    }
    for directory in ["", "run"] {
        chown(home.path(directory), Some(OTHER), Some(OTHER)).expect("given away");
    }
    let data = home.path(".local/share");
    for whose in ["sudo -E", "su"] {
        let script =
            "\"$1\" send --to anna@localhost && \"$1\" stop && ls /root/.local/share/sundown";
        let mut command = as_root(script);
        command
            .arg(crate::harness::binary())
            .env_clear()
            .env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin");
        command.env("XDG_RUNTIME_DIR", home.path("run")).env("HOME", "/root");
        if whose == "sudo -E" {
            command.env("HOME", home.path("")).env("XDG_DATA_HOME", &data);
        }
        let ran = run(command, "hi\n").ok();
        assert!(ran.output.contains("broker.lock"), "{whose}: root's own data: {ran:?}");
        let left: Vec<_> = ["", "run"]
            .into_iter()
            .flat_map(|d| fs::read_dir(home.path(d)).expect("there"))
            .collect();
        assert_eq!(left.len(), 1, "{whose}: nothing but the runtime directory: {left:?}");
    }
    let mut users = home.bare(&["send", "--to", "anna@localhost"]);
    users.uid(OTHER).gid(OTHER);
    run(users, "hi\n").ok();
    let mut stop = home.bare(&["stop"]);
    stop.uid(OTHER).gid(OTHER);
    run(stop, "").ok();
}
