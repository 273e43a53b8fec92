//! Machines and containers that lack what others have: a host's name that is a domain, /proc, a process that outlives the command.

use std::fs;
use std::process::Command;

use rustix::process::Signal;

use crate::harness::{Broker, Home, Ran, run};

/// A command of this home in namespaces of its own, made by these options of `unshare` and prepared by a shell's line, for which `$1` is
/// the argument. `None` where the kernel allows none.
fn apart(
    home: &Home,
    options: &[&str],
    prepare: &str,
    argument: &str,
    sundown: &[&str],
) -> Option<Command> {
    let own = home.bare(sundown);
    let command = |program: &[&str]| {
        let mut command = Command::new("unshare");
        command.args(["--user", "--map-root-user"]).args(options).arg("--");
        command.args(["sh", "-c", &format!("{prepare} && shift && exec \"$@\""), "sh", argument]);
        command.args(program).env_clear().env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin");
        command
    };
    let tried = command(&["true"]).output();
    if !tried.as_ref().is_ok_and(|tried| tried.status.success()) {
        println!("skipped: no namespaces can be made here: {tried:?}");
        return None;
    }
    let mut inside = command(&[]);
    inside.arg(own.get_program()).args(own.get_args()).current_dir(home);
    inside.envs(own.get_envs().filter_map(|(name, value)| Some((name, value?))));
    Some(inside)
}

/// A command on a host of this name. `None` where a name cannot be given.
fn on_host(home: &Home, name: &str, sundown: &[&str]) -> Option<Command> {
    apart(home, &["--uts"], "printf %s \"$1\" >/proc/sys/kernel/hostname", name, sundown)
}

/// A command without /proc.
fn without_proc(home: &Home, sundown: &[&str]) -> Option<Command> {
    apart(home, &["--mount"], "mount -t tmpfs none /proc", "", sundown)
}

/// A command that is process 1 of a container.
fn first_process(home: &Home, sundown: &[&str]) -> Option<Command> {
    apart(home, &["--pid", "--fork", "--kill-child", "--mount-proc"], "true", "", sundown)
}

/// The name of a host may be no domain. Mail that names no sender is refused for that name, and not for its recipients; other mail goes.
///
/// design §8
#[test]
fn a_host_name_that_is_no_domain_is_named_as_the_senders_problem() {
    let home = Home::new();
    let arguments = ["serve", "--log-format", "json"];
    let Some(serve) = on_host(&home, "my host", &arguments) else { return };
    let broker = Broker::spawn(serve);
    broker.log_line("the broker is ready", |line| line["message"] == "ready");
    let refused: [Ran; 2] = [
        home.run_with(&["send", "--to", "anna@localhost"], "hi\n").exits(1),
        run(home.bare(&["sendmail", "anna@localhost"]), "hi\n"),
    ];
    for ran in refused {
        assert!(!ran.status.success(), "{ran:?}");
        for word in
            ["the sender", "@my host\"", "\"my host\" is the name of this host", "`identity`"]
        {
            assert!(ran.errors.contains(word), "{word} is not in {ran:?}");
        }
    }
    let wrong = ["send", "--from", "me@a..b", "--to", "anna@localhost"];
    let ran = home.run_with(&wrong, "hi\n").exits(1);
    assert!(
        ran.errors.contains("the sender \"me@a..b\"") && !ran.errors.contains("of this host"),
        "{ran:?}"
    );
    home.run_with(&["send", "--from", "me@example.org", "--to", "anna@localhost"], "hi\n").ok();
    let doctor = on_host(&home, "my host", &["doctor", "--json"]).expect("it could before");
    let said = run(doctor, "").output;
    assert!(said.contains("mail that names no sender is refused: "), "{said}");
    home.profile("default", "identity = \"me@example.org\"\n");
    let said =
        run(on_host(&home, "my host", &["doctor", "--json"]).expect("it could before"), "").output;
    assert!(!said.contains("names no sender"), "{said}");
}

/// Without /proc a command does not find its own program, and so starts no broker: that is the cause that it says, and `doctor` too.
/// A broker that runs takes mail as ever.
///
/// design §8
#[test]
fn without_proc_the_cause_is_said() {
    let home = Home::new();
    let send = ["send", "--to", "anna@localhost"];
    let Some(command) = without_proc(&home, &send) else { return };
    let ran = run(command, "hi\n").exits(1);
    for word in ["no broker runs", "cannot find its own program", "/proc"] {
        assert!(ran.errors.contains(word), "{word} is not in {ran:?}");
    }
    let ran = run(without_proc(&home, &["sendmail", "anna"]).expect("it could before"), "hi\n");
    assert!(ran.status.code() == Some(75) && ran.errors.contains("/proc"), "{ran:?}");
    let ran = run(without_proc(&home, &["doctor"]).expect("it could before"), "").exits(1);
    assert!(ran.output.contains("mount -t proc"), "{ran:?}");
    // Who starts none has no need of it.
    let ran = run(without_proc(&home, &["status"]).expect("it could before"), "").exits(1);
    assert!(!ran.errors.contains("/proc"), "{ran:?}");
    let serve = without_proc(&home, &["serve", "--log-format", "json"]).expect("it could before");
    let broker = Broker::spawn(serve);
    broker.log_line("the broker is ready", |line| line["message"] == "ready");
    run(without_proc(&home, &send).expect("it could before"), "hi\n").ok();
    broker.until("the message", || home.maildir("default").count() == 1);
}

/// The first process of a container takes all others with it. Who hands mail over as such is told that nobody sends what is left; who
/// waits until it is sent, or is not the first, is told nothing.
///
/// design §8
#[test]
fn the_first_process_of_a_container_is_told_that_nobody_sends() {
    let home = Home::new();
    // What is queued is not sent before the command ends.
    home.profile("default", "[[transport]]\npath = \"blocked\"\n");
    home.write(".local/share/sundown/default/blocked", "");
    fs::set_permissions(home.data(), std::os::unix::fs::PermissionsExt::from_mode(0o700))
        .expect("changed");
    let warning = "process 1 of a container";
    for arguments in [&["send", "--to", "anna@localhost"][..], &["sendmail", "anna@localhost"]] {
        let Some(command) = first_process(&home, arguments) else { return };
        let ran = run(command, "hi\n").ok();
        assert!(ran.errors.contains(warning) && ran.errors.contains("sundown serve"), "{ran:?}");
        assert!(home.brokers().is_empty(), "the broker has ended with its container");
    }
    let wait = ["send", "--wait=0", "--to", "anna@localhost"];
    let ran = run(first_process(&home, &wait).expect("it could before"), "hi\n").exits(75);
    assert!(ran.errors.contains(warning), "{ran:?}");
    home.profile("default", "");
    let wait = ["send", "--wait=60", "--to", "anna@localhost"];
    let ran = run(first_process(&home, &wait).expect("it could before"), "hi\n").ok();
    assert!(!ran.errors.contains(warning), "{ran:?}");
    // A broker outside stays.
    let _broker = home.serve();
    let ran = run(
        first_process(&home, &["send", "--to", "anna@localhost"]).expect("it could before"),
        "hi\n",
    );
    assert!(!ran.ok().errors.contains(warning));
    assert!(
        !home.run_with(&["send", "--to", "anna@localhost"], "hi\n").ok().errors.contains(warning)
    );
}

/// Where no service manager makes runtime directories, the socket is in the data directory, and `doctor` finds no problem.
///
/// design §8
#[test]
fn doctor_finds_no_problem_without_runtime_directories() {
    let home = Home::new();
    let here = |arguments: &[&str]| {
        let mut command = apart(&home, &["--mount"], "mount -t tmpfs none /run", "", arguments)?;
        command.env_remove("XDG_RUNTIME_DIR");
        Some(command)
    };
    let Some(doctor) = here(&["doctor", "--json"]) else { return };
    let before = run(doctor, "").exits(0).json();
    let broker = Broker::spawn(here(&["serve", "--log-format", "json"]).expect("it could before"));
    broker.log_line("the broker is ready", |line| line["message"] == "ready");
    assert!(home.data().join("run/broker.sock").exists());
    run(here(&["send", "--to", "anna@localhost"]).expect("it could before"), "hi\n").ok();
    let with = run(here(&["doctor", "--json"]).expect("it could before"), "").exits(0).json();
    for findings in [before, with] {
        let findings = findings.as_array().expect("some");
        let socket = findings.iter().find(|f| f["check"] == "socket").expect("it is looked at");
        assert!(socket["message"].as_str().is_some_and(|m| m.contains("sundown/run")), "{socket}");
        let warned = findings.iter().filter(|f| f["status"] != "ok").map(|f| &f["check"]);
        assert!(warned.clone().all(|check| check == "runtime"), "{findings:#?}");
    }
}

/// A broker has the data, and nobody reaches it: its socket was removed while it could make no other. `doctor` and whoever looks for it
/// name its process, and when it goes on it makes its socket anew.
///
/// design §8
#[test]
fn a_broker_that_nobody_can_reach_is_named() {
    let home = Home::new();
    let broker = home.serve();
    let process = format!("process {}", broker.pid());
    broker.signal(Signal::STOP);
    fs::remove_file(home.socket()).expect("removed");
    let found = home.run(&["doctor", "--json"]).exits(1).json();
    let finding = found.as_array().expect("some").iter().find(|f| f["check"] == "broker").cloned();
    let finding = finding.expect("it looks for a broker");
    assert_eq!(finding["status"], "problem");
    assert!(finding["message"].as_str().is_some_and(|m| m.starts_with(&process)), "{finding}");
    assert!(
        finding["advice"].to_string().contains(&format!("kill -9 {}", broker.pid())),
        "{finding}"
    );
    for command in ["status", "stop"] {
        let ran = home.run(&[command]).exits(1);
        assert!(ran.errors.contains(&process) && ran.errors.contains("sundown doctor"), "{ran:?}");
    }
    broker.signal(Signal::CONT);
    broker.log_line("a new socket", |line| {
        line["message"].as_str().is_some_and(|m| m.contains("a new one was made"))
    });
    home.run(&["status"]).ok();
    // A broker that was killed has nothing any more.
    drop(broker);
    let ran = home.run(&["status"]).exits(1);
    assert!(ran.errors.contains("no broker runs at"), "{ran:?}");
}
