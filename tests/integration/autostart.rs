//! A broker is started when none runs, once, and left alone when nobody wants one.

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::Instant;

use rustix::process::Signal;
use serde_json::Value;

use crate::harness::{Broker, Home, Shell, left, run, under_umask};

/// Ends the broker that clients started in a home.
struct StopAtEnd<'a>(&'a Home);

impl Drop for StopAtEnd<'_> {
    fn drop(&mut self) {
        let log = self.0.data().join("broker.log");
        if thread::panicking() {
            eprintln!("{}", std::fs::read_to_string(log).unwrap_or_default());
        }
        let mut stop = self.0.bare(&["stop", "--fast"]);
        if !stop.output().is_ok_and(|stopped| stopped.status.success()) {
            for broker in self.0.brokers() {
                let _ = Command::new("kill").arg("-9").arg(broker.to_string()).status();
            }
        }
    }
}

/// The broker's pid, as `status` says.
fn pid(home: &Home) -> Value {
    home.status()["broker"]["pid"].clone()
}

/// Ten senders at once in an empty home start exactly one broker, and all their messages are there.
///
/// design §8
#[test]
fn ten_at_once_start_one_broker() {
    let home = Home::new();
    let _stop = StopAtEnd(&home);
    thread::scope(|scope| {
        for n in 0..10 {
            let mut command = home.bare(&["send", "--to", "anna@localhost", "--wait=60", "--json"]);
            command.arg("--subject").arg(n.to_string());
            scope.spawn(move || assert_eq!(run(command, "hi\n").ok().json()["state"], "sent"));
        }
    });
    assert_eq!(home.brokers(), [pid(&home).as_u64().expect("a pid") as u32]);
    let subjects = home.maildir("default").tally("Subject");
    assert!((0..10).all(|n| subjects.get(&n.to_string()) == Some(&1)), "{subjects:?}");
    let log = std::fs::read_to_string(home.data().join("broker.log")).expect("it logs to a file");
    assert_eq!(log.matches(": ready").count(), 1, "{log}");
}

/// Everything below a directory, and itself.
fn all_in(directory: &Path) -> Vec<PathBuf> {
    let mut found = vec![directory.to_owned()];
    let mut next = 0;
    while let Some(path) = found.get(next) {
        if fs::symlink_metadata(path).expect("there").is_dir() {
            let entries: Vec<_> = fs::read_dir(path).expect("there").map(Result::unwrap).collect();
            found.extend(entries.iter().map(fs::DirEntry::path));
        }
        next += 1;
    }
    found
}

/// What a program and a broker make has the modes that it should have, whatever the umask; what was there keeps its own.
///
/// design §8
#[test]
fn no_umask_makes_what_cannot_be_used() {
    let mode =
        |path: &Path| fs::symlink_metadata(path).expect("there").permissions().mode() & 0o777;
    let umasks = ["0177", "0277", "0777", "0000"];
    for (umask, serve) in umasks.into_iter().flat_map(|umask| [(umask, false), (umask, true)]) {
        let home = Home::new();
        let _stop = StopAtEnd(&home);
        let there = home.path(".local");
        fs::create_dir(&there).expect("made");
        fs::set_permissions(&there, Permissions::from_mode(0o711)).expect("changed");
        let in_foreground = home.command(&["serve", "--log-format", "json"]);
        let _broker = serve.then(|| {
            let broker = Broker::spawn(under_umask(umask, &in_foreground));
            broker.log_line("the broker is ready", |line| line["message"] == "ready");
            broker
        });
        let send = home.bare(&["send", "--to", "anna@localhost", "--wait=60"]);
        run(under_umask(umask, &send), "hi\n").ok();
        let add = home.bare(&["profile", "add", "work", "--kind", "maildir"]);
        run(under_umask(umask, &add), "").ok();
        assert_eq!(home.maildir("default").count(), 1);
        for path in [".local/share", ".config", "run/sundown"].map(|made| home.path(made)) {
            for path in all_in(&path) {
                let should = if path.is_dir() { 0o700 } else { 0o600 };
                assert_eq!(mode(&path), should, "{} under {umask}, {serve}", path.display());
            }
        }
        assert_eq!(mode(&there), 0o711);
    }
}

/// So do ten shells, and they share one session.
///
/// design §8, SHARE-1
#[test]
fn ten_shells_at_once_share_one_session() {
    let home = Home::new();
    let _stop = StopAtEnd(&home);
    let mut shells: Vec<_> =
        (0..10).map(|_| Shell::start(home.bare(&["shell", "--json"]))).collect();
    let numbers: Vec<_> = shells.iter_mut().map(|shell| shell.tell("logon")).collect();
    for (shell, number) in shells.iter().zip(numbers) {
        assert_eq!(shell.reply(number)["ok"], true);
    }
    assert_eq!(home.brokers().len(), 1);
    let sessions = home.status()["sessions"].clone();
    assert_eq!(sessions.as_array().map(Vec::len), Some(1), "{sessions}");
    assert_eq!(sessions[0]["members"].as_array().map(Vec::len), Some(10), "{sessions}");
}

/// A broker that a client started is its own: it outlives the client, is no child of it, has a session of its own and
/// none of its client's descriptors or environment.
///
/// design §8
#[test]
fn a_started_broker_is_detached() {
    let home = Home::new();
    let _stop = StopAtEnd(&home);
    let mut command = home.bare(&["send", "--to", "anna@localhost"]);
    command.env("SECRET", "hunter2");
    run(command, "hi\n").ok();
    let pid = pid(&home);
    let about = |what: &str| std::fs::read(format!("/proc/{pid}/{what}")).expect("it runs");
    let environment = String::from_utf8_lossy(&about("environ")).into_owned();
    assert!(environment.contains("HOME=") && !environment.contains("SECRET"), "{environment}");
    let stat = String::from_utf8_lossy(&about("stat")).into_owned();
    let fields: Vec<_> = stat.rsplit(") ").next().expect("fields").split(' ').collect();
    assert_eq!(fields[3], pid.to_string(), "it leads its session: {stat}");
    let status = String::from_utf8_lossy(&about("status")).into_owned();
    assert!(status.contains("Umask:\t0077"), "{status}");
    let descriptors = std::fs::read_dir(format!("/proc/{pid}/fd")).expect("it runs").flatten();
    let standard: Vec<_> = descriptors
        .filter(|d| d.file_name().to_str().is_some_and(|n| ["0", "1", "2"].contains(&n)))
        .map(|d| std::fs::read_link(d.path()).expect("a link"))
        .collect();
    for target in &standard {
        let ok = target.ends_with("dev/null") || target.ends_with("broker.log");
        assert!(ok, "{standard:?}");
    }
}

/// A broker serves every program of its user, so nothing that the first one had set for itself holds for it: limits, signals that it
/// blocked or ignored, how patient and how dispensable it was.
///
/// design §8
#[test]
fn a_started_broker_has_nothing_of_its_clients_state() {
    let home = Home::new();
    let _stop = StopAtEnd(&home);
    let client = home.bare(&["send", "--to", "anna@localhost"]);
    let mut command = Command::new("/bin/sh");
    let state = "ulimit -S -f 100; ulimit -S -t 600; echo 500 >/proc/self/oom_score_adj; trap '' CHLD XFSZ; exec \"$@\"";
    command.args(["-c", state, "sh", "nice", "-n", "7", "env", "--block-signal=TERM,HUP"]);
    command.arg(client.get_program()).args(client.get_args()).env_clear();
    command.envs(client.get_envs().filter_map(|(name, value)| Some((name, value?))));
    command.env("PATH", "/usr/bin:/bin");
    run(command, "hi\n").ok();
    let pid = pid(&home);
    let about =
        |what: &str| std::fs::read_to_string(format!("/proc/{pid}/{what}")).expect("it runs");
    let (limits, status) = (about("limits"), about("status"));
    let limit = |name: &str| {
        let line = limits.lines().find(|line| line.starts_with(name)).expect("a limit");
        let words: Vec<_> = line[name.len()..].split_whitespace().take(2).collect();
        assert_eq!(words[0], words[1], "{line}");
    };
    limit("Max file size");
    limit("Max cpu time");
    let signals = |name: &str| {
        let line = status.lines().find_map(|line| line.strip_prefix(name)).expect("signals");
        u64::from_str_radix(line.trim(), 16).expect("a number")
    };
    assert_eq!(signals("SigBlk:"), 0, "{status}");
    let ignored = |signal: Signal| signals("SigIgn:") >> (signal.as_raw() - 1) & 1;
    assert_eq!((ignored(Signal::CHILD), ignored(Signal::XFSZ)), (0, 0), "{status}");
    if rustix::process::geteuid().is_root() {
        assert_eq!(about("oom_score_adj").trim(), "0");
        let stat = about("stat");
        let fields: Vec<_> = stat.rsplit(") ").next().expect("fields").split(' ').collect();
        assert_eq!(fields[16], "0", "its nice value: {stat}");
    }
}

/// A limit for the size of files is an error of what would go beyond it, and not the end of the broker.
///
/// design §8
#[test]
fn a_limit_for_files_does_not_end_a_broker() {
    let home = Home::new();
    let serve = home.command(&["serve", "--log-format", "json"]);
    let mut command = Command::new("/bin/sh");
    command.args(["-c", "ulimit -f 8192; exec \"$@\"", "sh"]);
    command.arg(serve.get_program()).args(serve.get_args()).env_clear();
    command.envs(serve.get_envs().filter_map(|(name, value)| Some((name, value?))));
    let mut broker = Broker::spawn(command);
    broker.log_line("the broker is ready", |line| line["message"] == "ready");
    let long = "a line of a long message\n".repeat(1 << 20);
    let ran = home.run_with(&["send", "--to", "anna@localhost", "--json"], &long);
    assert!(!ran.status.success() && ran.output.contains("4194304 bytes"), "{ran:?}");
    assert_eq!(home.status()["broker"]["pid"], broker.pid(), "it lives");
    let doctor = home.command(&["doctor"]).output().expect("it runs");
    let said = String::from_utf8_lossy(&doctor.stdout);
    assert!(said.contains("no file may have more than 4194304 bytes"), "{said}");
    broker.terminate();
}

/// One broker for the data of a user, wherever it listens: a job with another runtime directory has started it, and a login finds it.
///
/// design §8
#[test]
fn a_broker_that_was_started_with_another_environment_is_found() {
    let home = Home::new();
    let another = home.path("another");
    fs::create_dir(&another).expect("made");
    fs::set_permissions(&another, Permissions::from_mode(0o700)).expect("changed");
    let mut job = home.bare(&["send", "--to", "anna@localhost"]);
    job.env("XDG_RUNTIME_DIR", another);
    run(job, "hi\n").ok();
    let [broker] = home.brokers()[..] else { panic!("one was started") };
    let listens = std::fs::read_to_string(home.data().join("broker.lock")).expect("it has a lock");
    assert_ne!(listens, home.socket().display().to_string());
    run(home.bare(&["send", "--to", "anna@localhost"]), "hi\n").ok();
    assert_eq!((pid(&home).as_u64(), home.brokers()), (Some(broker.into()), vec![broker]));
    // A socket that is asked for is meant.
    let elsewhere = home.path("run/other.sock");
    home.run(&["status", "--socket", elsewhere.to_str().expect("text")]).exits(1);
    home.run(&["stop"]).ok();
    assert!(home.brokers().is_empty());
}

/// A logout takes the runtime directory away, and the socket in it. The broker makes a new socket, there or where that cannot be, and
/// whoever comes next finds it; who is connected notices nothing.
///
/// design §8
#[test]
fn a_broker_whose_socket_was_removed_makes_another_one() {
    let home = Home::new();
    let broker = home.serve();
    let mut shell = home.shell();
    shell.ok("logon");
    for blocked in [false, true] {
        fs::remove_dir_all(home.path("run")).expect("removed");
        if blocked {
            // Nothing can be made there.
            fs::write(home.path("run"), "").expect("written");
        }
        let from = broker.log_length().saturating_sub(1);
        broker.log_line_from(from, "a new socket", |line| {
            let there = line["socket"].as_str().is_some_and(|socket| Path::new(socket).exists());
            line["message"].as_str().is_some_and(|m| m.contains("a new one was made")) && there
        });
        let status = home.status();
        assert_eq!(status["broker"]["pid"], broker.pid(), "{status}");
        home.run_with(&["send", "--to", "anna@localhost"], "hi\n").ok();
        shell.ok("open session=1 what=inbox");
    }
}

/// `--no-autostart` and `SUNDOWN_NO_AUTOSTART=1`: no broker is started, and the error says that none runs.
///
/// design §8
#[test]
fn nobody_starts_a_broker_who_was_told_not_to() {
    let home = Home::new();
    let by_option = home.command(&["send", "--to", "anna", "--json"]);
    let mut by_environment = home.bare(&["send", "--to", "anna", "--json"]);
    by_environment.env("SUNDOWN_NO_AUTOSTART", "1");
    for command in [by_option, by_environment] {
        let error = run(command, "hi\n").exits(1).json()["error"].clone();
        assert_eq!(error["code"], "MAPI_E_NETWORK_ERROR");
        let message = error["message"].as_str().expect("text");
        assert!(
            message.contains("no broker runs") && message.contains("sundown serve"),
            "{message}"
        );
    }
    assert!(home.brokers().is_empty() && !home.data().exists());
}

/// `status` and `stop` are about the broker that runs: they start none, and say that none runs.
///
/// design §8
#[test]
fn status_and_stop_start_no_broker() {
    let home = Home::new();
    for what in ["status", "stop"] {
        let ran = run(home.bare(&[what]), "").exits(1);
        assert!(ran.errors.contains("no broker runs"), "{ran:?}");
        let ran = run(home.bare(&[what, "--json"]), "").exits(1);
        assert_eq!(ran.json()["error"]["code"], "MAPI_E_NETWORK_ERROR");
    }
    assert!(home.brokers().is_empty() && !home.data().exists());
}

/// A broker that cannot start says why to the client that wanted it.
///
/// design §7, §8
#[test]
fn a_broker_that_cannot_start_tells_its_client_why() {
    let home = Home::with_settings("[shutdown]\nlingr = \"off\"\n");
    let ran = run(home.bare(&["send", "--to", "anna", "--json"]), "hi\n").exits(1);
    let message = ran.json()["error"]["message"].as_str().expect("text").to_owned();
    for word in ["config.toml", "line 2", "shutdown.lingr", "broker.log"] {
        assert!(message.contains(word), "{message}");
    }
    assert!(home.brokers().is_empty());
}

/// A broker that is stopped, told to end or killed in front of those who hand mail over costs none of them their message: another one
/// is started, or waited for, and each message is there once.
///
/// design §3.16, §3.21
#[test]
fn a_broker_that_ends_in_front_of_a_sender_costs_no_message() {
    const SENDERS: usize = 4;
    let home = Home::new();
    let _stop = StopAtEnd(&home);
    run(home.bare(&["send", "--to", "anna@localhost", "--subject", "first"]), "hi\n").ok();
    let done = AtomicUsize::new(0);
    let ways: [&[&str]; 4] = [&["stop"], &["stop", "--fast"], &["TERM"], &["KILL"]];
    let sent = thread::scope(|scope| {
        let senders: Vec<_> = (0..SENDERS)
            .map(|sender| {
                let (home, done) = (&home, &done);
                scope.spawn(move || {
                    let mut sent = 0;
                    while done.load(Ordering::Acquire) == 0 {
                        let subject = format!("{sender}.{sent}");
                        let mail = format!("To: anna@localhost\nSubject: {subject}\n\nhi\n");
                        let command =
                            if sent % 2 == 0 { &["send"][..] } else { &["sendmail", "-t"] };
                        run(home.bare(command), mail).ok();
                        sent += 1;
                    }
                    sent
                })
            })
            .collect();
        for round in 0..3 {
            for way in ways {
                match way {
                    ["stop", ..] => drop(run(home.bare(way), "")),
                    _ => {
                        for broker in home.brokers() {
                            let mut kill = Command::new("kill");
                            kill.arg(format!("-{}", way[0])).arg(broker.to_string());
                            let _ = kill.stderr(Stdio::null()).status();
                        }
                    }
                }
                // Somebody has started the next one.
                let subject = format!("{round} {}", way.join(" "));
                let next = ["send", "--to", "anna@localhost", "--subject", &subject];
                run(home.bare(&next), "hi\n").ok();
            }
        }
        done.store(1, Ordering::Release);
        senders.into_iter().map(|sender| sender.join().expect("it sent")).sum::<usize>()
    });
    let all = 1 + 3 * ways.len() + sent;
    let wait = ["send", "--to", "anna@localhost", "--subject", "last", "--wait=60"];
    run(home.bare(&wait), "hi\n").ok();
    home.status_until("nothing waits", |s| {
        s["queue"]["queued"] == 0 && s["queue"]["transmitting"] == 0
    });
    let tally = home.maildir("default").tally("Subject");
    assert!(tally.values().all(|n| *n == 1), "{tally:?}");
    assert_eq!(tally.len(), all + 1, "{tally:?}");
}

/// A broker in the background whose log is removed or renamed goes on in a new one, and says so.
///
/// design §8
#[test]
fn a_log_that_was_removed_goes_on() {
    let home = Home::new();
    let _stop = StopAtEnd(&home);
    let log = home.data().join("broker.log");
    let send = || run(home.bare(&["send", "--to", "anna@localhost"]), "hi\n").ok();
    send();
    for how in ["renamed", "removed"] {
        match how {
            "renamed" => std::fs::rename(&log, home.data().join("broker.log.1")).expect("renamed"),
            _ => std::fs::remove_file(&log).expect("removed"),
        }
        let since = Instant::now();
        while !log.exists() {
            assert!(!left(since).is_zero(), "the log does not go on");
            send();
        }
        let found = || std::fs::read_to_string(&log).expect("it is there");
        while !found().contains("goes on here") || !found().contains("SubmitMessage") {
            assert!(!left(since).is_zero(), "{}", found());
            send();
        }
    }
}

/// A broker that a command starts logs as the command was told to, by an option or by a variable; what makes no sense is said by the command.
///
/// design §8
#[test]
fn a_broker_that_is_started_logs_as_it_was_told() {
    for by_variable in [false, true] {
        let home = Home::new();
        let _stop = StopAtEnd(&home);
        let told = |arguments: &[&str], level: &str, format: &str| {
            let mut command = home.bare(arguments);
            if by_variable {
                command.env("SUNDOWN_LOG", level).env("SUNDOWN_LOG_FORMAT", format);
            } else {
                command.args(["--log-level", level, "--log-format", format]);
            }
            run(command, "hi\n")
        };
        let send = ["send", "--to", "anna@localhost", "--wait=60"];
        let wrong = told(&send, "info", "xml").exits(1);
        assert!(wrong.errors.contains("\"xml\" is not a log format"), "{wrong:?}");
        let log = home.data().join("broker.log");
        fs::write(&log, "").expect("emptied");
        told(&send, "info", "json").ok();
        let text = fs::read_to_string(&log).expect("there");
        let lines: Vec<Value> =
            text.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect();
        assert!(lines.iter().any(|line| line["message"] == "ready"), "{text}");
        home.run(&["stop"]).ok();
        fs::write(&log, "").expect("emptied");
        told(&send, "off", "json").ok();
        assert_eq!(fs::read_to_string(&log).expect("there"), "");
    }
}

/// A log that has become long is put aside by the broker that starts, and a broker that finds another one running writes nothing to the log
/// of that one: not its mistakes, and not that it ends.
///
/// design §8
#[test]
fn a_log_belongs_to_the_broker_that_runs() {
    const LONG: u64 = 32 << 20;
    let home = Home::new();
    let _stop = StopAtEnd(&home);
    let logs = ["broker.log", "broker.log.1"].map(|name| home.data().join(name));
    home.write(".local/share/sundown/broker.log", "old\n");
    fs::set_permissions(home.data(), Permissions::from_mode(0o700)).expect("changed");
    fs::File::options().write(true).open(&logs[0]).expect("opened").set_len(LONG).expect("longer");
    run(home.bare(&["send", "--to", "anna@localhost", "--wait=60"]), "hi\n").ok();
    assert_eq!(fs::metadata(&logs[1]).expect("there").len(), LONG);
    let text = || fs::read_to_string(&logs[0]).expect("there");
    assert!(text().contains(": ready"), "{}", text());
    let mut another = home.command(&["serve", "--detached"]);
    another.arg("--socket").arg(home.path("other.sock")).env("XDG_CONFIG_HOME", "not/absolute");
    another.stdout(Stdio::piped());
    another.stderr(fs::File::options().append(true).open(&logs[0]).expect("opened"));
    let ended = another.output().expect("it ends");
    assert!(!ended.status.success());
    let said = String::from_utf8_lossy(&ended.stdout);
    assert!(said.contains("another broker is running"), "{said}");
    for word in ["sundown: ", "XDG_CONFIG_HOME"] {
        assert!(!text().contains(word), "{}", text());
    }
}
