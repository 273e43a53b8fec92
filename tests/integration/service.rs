//! A broker under a service manager: the socket it is given, and what it says.

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::net::TcpListener;
use std::os::fd::OwnedFd;
use std::os::unix::net::{UnixDatagram, UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use rustix::process::Signal;

use crate::harness::{Broker, DEADLINE, Home, run};

/// A program of systemd, or `None` and a line that says so.
fn systemd(name: &str) -> Option<PathBuf> {
    let found = ["/usr/bin", "/bin"].map(|folder| Path::new(folder).join(name));
    let found = found.into_iter().find(|path| path.exists());
    if found.is_none() {
        let _ = writeln!(std::io::stdout(), "skipped: {name} is not installed");
    }
    found
}

/// `sundown serve` with these descriptors from 3 on, as a service manager passes them. What they are called is said if
/// there are names.
fn passed(home: &Home, fds: &[OwnedFd], names: Option<&str>) -> Command {
    let serve = home.command(&["serve", "--log-format", "json"]);
    // The shell has no descriptor above 2 of its own, and its pid is that of the program it becomes.
    let mut script = String::from("export LISTEN_PID=$$");
    for (place, fd) in fds.iter().enumerate() {
        let inherited = rustix::io::fcntl_dupfd_cloexec(fd, 20).expect("a descriptor");
        rustix::io::fcntl_setfd(&inherited, rustix::io::FdFlags::empty()).expect("inherited");
        let inherited = std::os::fd::IntoRawFd::into_raw_fd(inherited);
        script += &format!("; exec {}<&{inherited} {inherited}<&-", place + 3);
    }
    // Other tests may have one there that is inherited.
    script += &format!("; exec {}<&-", fds.len() + 3);
    let mut command = Command::new("/bin/bash");
    command.arg("-c").arg(format!("{script}; exec \"$@\"")).arg("bash");
    command.arg(serve.get_program()).args(serve.get_args());
    command.current_dir(home).env_clear();
    command.envs(serve.get_envs().filter_map(|(name, value)| Some((name, value?))));
    command.env("LISTEN_FDS", fds.len().to_string());
    if let Some(names) = names {
        command.env("LISTEN_FDNAMES", names);
    }
    command
}

/// A socket at a path in the home, as a service manager makes one.
fn socket(home: &Home, path: &str) -> UnixListener {
    let path = home.path(path);
    fs::create_dir_all(path.parent().expect("it is in the home")).expect("made");
    UnixListener::bind(path).expect("bound")
}

/// Status and mail through the socket at this path.
fn works(home: &Home, path: &Path, broker: &Broker) {
    let at = ["--socket", path.to_str().expect("text")];
    let status = home.run(&[&["status", "--json"], &at[..]].concat()).ok().json();
    assert_eq!(status["broker"]["socket"], *path.to_str().expect("text"));
    assert_eq!(status["broker"]["pid"], broker.pid());
    home.run_with(&[&["send", "--to", "root"], &at[..]].concat(), "hi\n").ok();
    broker.until("the message", || home.maildir("default").count() == 1);
}

/// A socket that was passed is used, wherever it is; the lock on the data is taken as ever; the file stays when the
/// broker ends, and the next broker takes it over with everybody who waits there.
///
/// design §3.21
#[test]
fn a_passed_socket_is_used_and_stays() {
    let home = Home::new();
    let listener = socket(&home, "elsewhere/broker.sock");
    let path = home.path("elsewhere/broker.sock");
    let fds = [OwnedFd::from(listener)];
    let mut broker = Broker::spawn(passed(&home, &fds, Some("sundown.socket")));
    works(&home, &path, &broker);
    assert!(!home.socket().exists(), "it listens nowhere else");
    let rival = home.run(&["serve"]).exits(1);
    assert!(rival.errors.contains(path.to_str().expect("text")), "{rival:?}");

    // Whoever is served while the broker ends keeps the socket's file from nobody.
    let mut shell = crate::harness::Shell::start({
        let mut command = home.command(&["shell", "--json"]);
        command.env("SUNDOWN_SOCKET", &path);
        command
    });
    shell.ok("logon");
    broker.signal(Signal::TERM);
    shell.event("the announcement", |v| v["event"] == "broker-stopping");
    assert!(path.exists(), "it stays while the broker drains");
    assert!(broker.wait().success());
    assert!(path.exists(), "and afterwards");

    // Nobody accepts now, and nobody is turned away.
    UnixStream::connect(&path).expect("the manager listens");
    let mut broker = Broker::spawn(passed(&home, &fds, None));
    shell.event("being back", |v| v["event"] == "reconnected");
    let stop = ["stop", "--json", "--socket", path.to_str().expect("text")];
    // The kernel names the one who listens as the peer: that is the manager, and not whom to wait for.
    assert_eq!(home.run(&stop).ok().json()["stopped"], broker.pid());
    assert!(broker.wait().success());
    assert!(path.exists(), "nor does a stop for good remove it");
}

/// The next one who connects, within a test's time.
fn accept(listener: &UnixListener) -> UnixStream {
    use rustix::event::{PollFd, PollFlags, Timespec, poll};
    let timeout = Timespec::try_from(DEADLINE).expect("it is short");
    let mut waiting = [PollFd::new(listener, PollFlags::IN)];
    assert_eq!(poll(&mut waiting, Some(&timeout)), Ok(1), "nobody connects");
    listener.accept().expect("somebody connects").0
}

/// A broker that ends while somebody is about to say hello is not the end for them: the next one, at the same socket, is.
///
/// design §3.21
#[test]
fn whoever_was_cut_off_at_the_hello_waits_for_the_next_broker() {
    let home = Home::new();
    let listener = socket(&home, "elsewhere/broker.sock");
    let path = home.path("elsewhere/broker.sock");
    let mut send = home.command(&["send", "--to", "root", "-"]);
    send.env("SUNDOWN_SOCKET", &path).stdin(std::process::Stdio::null());
    let mut send = send.spawn().expect("it starts");
    for _ in 0..2 {
        // This one dies before it has said anything.
        drop(accept(&listener));
    }
    let broker = Broker::spawn(passed(&home, &[OwnedFd::from(listener)], None));
    assert!(send.wait().expect("it ends").success());
    broker.until("the message", || home.maildir("default").count() == 1);
}

/// What was passed and is no Unix stream socket that listens, or not the only one, ends the start with a sentence that
/// says so, before anything was made.
///
/// design §8
#[test]
fn a_wrong_descriptor_is_a_clear_error() {
    let home = Home::new();
    let first = || OwnedFd::from(socket(&home, "a.sock"));
    let datagram = UnixDatagram::bind(home.path("d.sock")).expect("bound");
    let refused = |fds: &[OwnedFd], names: Option<&str>, words: &[&str]| {
        let ran = run(passed(&home, fds, names), "").exits(1);
        for word in words {
            assert!(ran.errors.contains(word), "{word} is not in {ran:?}");
        }
        assert_eq!(ran.errors.lines().count(), 1, "{ran:?}");
    };
    let pipe = std::io::pipe().expect("a pipe").0.into();
    refused(&[pipe], None, &["descriptor 3", "is not a socket", "ListenStream="]);
    refused(&[datagram.into()], Some("mail"), &["(mail)", "not a stream socket"]);
    let two = [first(), OwnedFd::from(socket(&home, "b.sock"))];
    refused(&two, Some("one:two"), &["2 descriptors", "one, two", "exactly one"]);
    let unconnected = UnixStream::pair().expect("a pair").0;
    refused(&[unconnected.into()], None, &["does not listen"]);
    refused(&two, Some("one"), &["LISTEN_FDS", "LISTEN_FDNAMES"]);
    // One more is announced than there is.
    let mut command = passed(&home, &two[..1], None);
    command.env("LISTEN_FDS", "2");
    let ran = run(command, "").exits(1);
    assert!(ran.errors.contains("LISTEN_FDS"), "{ran:?}");
    assert!(!home.data().exists(), "nothing was made");
    assert!(home.path("a.sock").exists() && home.path("b.sock").exists());
}

/// Variables that are meant for another process change nothing, and nobody finds those that were meant for the broker in
/// its environment.
#[test]
fn variables_for_somebody_else_are_ignored_and_ours_are_not_passed_on() {
    let home = Home::new();
    let mut command = home.command(&["serve", "--log-format", "json"]);
    command.env("LISTEN_PID", "1").env("LISTEN_FDS", "1").env("LISTEN_FDNAMES", "x");
    let mut broker = Broker::spawn(command);
    broker.log_line("the broker is ready", |line| line["message"] == "ready");
    assert!(home.socket().exists());
    broker.terminate();
    assert!(!home.socket().exists(), "it is the broker's own");

    // What a command of the broker's sees.
    let server = TcpListener::bind("127.0.0.1:0").expect("bound");
    let port = server.local_addr().expect("an address").port();
    std::thread::spawn(move || greet(&server));
    home.profile(
        "default",
        &format!(
            "[[transport]]\nkind = \"smtp\"\nhost = \"127.0.0.1\"\nport = {port}\nsecurity = \"none\"\n\
             username = \"anna\"\npassword_command = \"env > {}; echo secret\"\naccept = [\"*\"]\n",
            home.path("seen").display()
        ),
    );
    let told = UnixDatagram::bind(home.path("notify.sock")).expect("bound");
    let fds = [OwnedFd::from(socket(&home, "given.sock"))];
    let mut command = passed(&home, &fds, Some("sundown.socket"));
    command.env("NOTIFY_SOCKET", home.path("notify.sock")).env("WATCHDOG_USEC", "60000000");
    let _broker = Broker::spawn(command);
    heard(&told, "READY=1");
    let given = home.path("given.sock");
    home.run(&["profile", "check", "default", "--socket", given.to_str().expect("text")]).ok();
    let seen = fs::read_to_string(home.path("seen")).expect("the command was run");
    for name in ["LISTEN_", "NOTIFY_", "WATCHDOG_"] {
        assert!(!seen.contains(name), "{seen}");
    }
}

/// A server that lets in whoever has a password.
fn greet(server: &TcpListener) {
    while let Ok((mut stream, _)) = server.accept() {
        let lines = BufReader::new(stream.try_clone().expect("a descriptor")).lines();
        let mut answer = "220 here ESMTP";
        let mut lines = lines.map_while(Result::ok);
        while write!(stream, "{answer}\r\n").is_ok() {
            answer = match lines.next() {
                Some(line) if line.starts_with("EHLO") => "250-here\r\n250 AUTH PLAIN",
                Some(line) if line.starts_with("AUTH") => "235 welcome",
                Some(_) => "250 fine",
                None => break,
            };
        }
    }
}

/// The next thing a service manager is told in which this occurs.
fn heard(told: &UnixDatagram, word: &str) -> String {
    told.set_read_timeout(Some(DEADLINE)).expect("set");
    let mut bytes = [0; 4096];
    loop {
        let length = told.recv(&mut bytes).unwrap_or_else(|e| panic!("{word} was not said: {e}"));
        let text = String::from_utf8_lossy(&bytes[..length]).into_owned();
        if text.lines().any(|line| line.starts_with(word)) {
            return text;
        }
    }
}

/// A service manager is told that the broker is ready and where it accepts, that it reads its settings again and is done with
/// that whatever came of it, that it turns, and that it stops: once, and before it ends.
///
/// design §8
#[test]
fn a_service_manager_is_told_how_it_goes() {
    let home = Home::new();
    let told = UnixDatagram::bind(home.path("notify.sock")).expect("bound");
    let mut command = home.command(&["serve", "--log-format", "json"]);
    command.env("NOTIFY_SOCKET", home.path("notify.sock")).env("WATCHDOG_USEC", "400000");
    let mut broker = Broker::spawn(command);
    let ready = heard(&told, "READY=1");
    assert!(ready.contains(&format!("STATUS=Accepting at {}", home.socket().display())), "{ready}");
    let began = std::time::Instant::now();
    for _ in 0..4 {
        heard(&told, "WATCHDOG=1");
    }
    assert!(began.elapsed() >= Duration::from_millis(500), "it says so at half of the time");

    broker.signal(Signal::HUP);
    let reloading = heard(&told, "RELOADING=1");
    assert!(reloading.contains("MONOTONIC_USEC="), "{reloading}");
    assert!(heard(&told, "READY=1").contains("STATUS=Accepting"));
    home.settings("[shutdown]\nlingr = \"off\"\n");
    broker.signal(Signal::HUP);
    heard(&told, "RELOADING=1");
    let stays = heard(&told, "READY=1");
    assert!(stays.contains("lingr") && stays.contains("stay as they were"), "{stays}");

    broker.signal(Signal::TERM);
    assert!(heard(&told, "STOPPING=1").contains("STATUS=Stopping"));
    assert!(broker.wait().success());
    told.set_nonblocking(true).expect("set");
    let mut bytes = [0; 4096];
    while let Ok(length) = told.recv(&mut bytes) {
        assert_eq!(bytes[..length], *b"WATCHDOG=1\n", "nothing else follows");
    }
}

/// systemd's own tool starts the broker for the first who connects.
///
/// design §3.21
#[test]
fn systemd_socket_activate_starts_it_for_the_first_client() {
    let Some(activate) = systemd("systemd-socket-activate") else { return };
    let home = Home::new();
    let path = home.path("given.sock");
    let serve = home.command(&["serve", "--log-format", "json"]);
    let mut command = Command::new(activate);
    command.arg("--listen").arg(&path).arg("--fdname=sundown.socket");
    for (name, value) in serve.get_envs() {
        if let Some(value) = value {
            command.arg(format!("--setenv={}={}", name.display(), value.display()));
        }
    }
    command.arg(serve.get_program()).args(serve.get_args()).current_dir(&home).env_clear();
    let mut broker = Broker::spawn(command);
    broker.raw_line("listening", |line| line.starts_with("Listening on"));
    assert!(!home.data().exists(), "nobody has connected");
    works(&home, &path, &broker);
    broker.terminate();
    assert!(path.exists());
}

/// The units as they are shipped, with the command under test in them.
fn units(home: &Home, folder: &str) -> Vec<PathBuf> {
    let shipped = Path::new(env!("CARGO_MANIFEST_DIR")).join("deploy").join(folder);
    ["sundown.socket", "sundown.service"]
        .map(|name| {
            let text = fs::read_to_string(shipped.join(name)).expect("it is shipped");
            let binary = crate::harness::binary();
            let start = format!("ExecStart={} serve", binary.display());
            let here = text
                .replace("ExecStart=/usr/bin/sundown serve", &start)
                .replace("ExecStart=sundown serve", &start);
            home.write(&format!("{folder}/{name}"), here)
        })
        .into()
}

/// systemd finds nothing to say about the units: it prints nothing, as it ends with 0 also when it does not know a key.
#[test]
fn systemd_understands_every_line_of_the_units() {
    let Some(analyze) = systemd("systemd-analyze") else { return };
    let home = Home::new();
    for (folder, manager) in [("system", "--system"), ("user", "--user")] {
        let mut command = Command::new(&analyze);
        command.args([manager, "verify", "--man=no"]).args(units(&home, folder)).env_clear();
        command.env("HOME", home.path("")).env("XDG_RUNTIME_DIR", home.path("run"));
        command.env("PATH", "/usr/bin:/bin");
        let ran = run(command, "").ok();
        assert_eq!((ran.output.as_str(), ran.errors.as_str()), ("", ""), "{folder}");
    }
}

/// How exposed the system's unit is, by systemd's own measure.
#[test]
fn the_unit_of_the_system_is_hardened() {
    let Some(analyze) = systemd("systemd-analyze") else { return };
    let unit = Path::new(env!("CARGO_MANIFEST_DIR")).join("deploy/system/sundown.service");
    let mut command = Command::new(analyze);
    // The threshold counts in tenths.
    command.args(["security", "--offline=true", "--threshold=15", "--no-pager"]).arg(unit);
    let ran = run(command, "").ok();
    assert!(ran.output.contains("Overall exposure level"), "{ran:?}");
}
