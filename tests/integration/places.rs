//! Where a broker is, and why it would not start there.

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixStream;

use rustix::process::Signal;

use crate::harness::{Broker, Home, Ran, run};

/// A broker that must not come up, and says why.
fn refused(home: &Home, arguments: &[&str], words: &[&str]) -> Ran {
    let ran = home.run(&[&["serve"], arguments].concat()).exits(1);
    for word in words {
        assert!(ran.errors.contains(word), "{word} is not in {ran:?}");
    }
    ran
}

/// Settings that are wrong keep a broker from starting; the message has file, line and key.
///
/// design §7
#[test]
fn malformed_settings_name_file_line_and_key() {
    let home = Home::new();
    for (text, words) in [
        (
            "[shutdown]\nlinger = \"off\"\nlingr = \"off\"\n",
            &["line 3", "shutdown.lingr", "`linger`"][..],
        ),
        (
            "\n\n[shutdown]\nshared_logoff = \"all\"\n",
            &["line 4", "shutdown.shared_logoff", "owner"],
        ),
        ("[limits\n", &["line 1"]),
        (
            "[shutdown]\nshared_logoff_grace = 30\n",
            &["line 2", "shutdown.shared_logoff_grace", "30s"],
        ),
    ] {
        let file = home.settings(text);
        let ran = refused(&home, &[], words);
        assert!(ran.errors.contains(&file.display().to_string()), "{ran:?}");
    }
    assert!(!home.socket().exists());
    home.settings("");
    home.serve();
}

/// A socket's path that the kernel would not take is refused by everybody, in words.
///
/// design §8
#[test]
fn a_path_too_long_for_a_socket_is_refused() {
    let home = Home::new();
    let long = home.path(&"x".repeat(120));
    let long = long.to_str().expect("text");
    refused(&home, &["--socket", long], &["too long", "107", "--socket"]);
    let ran = home.run(&["status", "--json", "--socket", long]).exits(1);
    assert_eq!(ran.json()["error"]["code"], "MAPI_E_INVALID_PARAMETER");
}

/// A data directory that cannot be one: there is a file in its place, or somebody else may write to it.
///
/// design §8
#[test]
fn a_data_directory_that_cannot_be_used_is_refused() {
    let home = Home::new();
    let file = home.write("data", "");
    refused(&home, &["--data-dir", file.to_str().expect("text")], &["data"]);
    let beneath = file.join("below");
    refused(&home, &["--data-dir", beneath.to_str().expect("text")], &["below"]);
    let open = home.path("open");
    fs::create_dir(&open).expect("made");
    fs::set_permissions(&open, Permissions::from_mode(0o777)).expect("changed");
    refused(&home, &["--data-dir", open.to_str().expect("text")], &["open", "0777"]);
}

/// A socket's directory that others can enter is refused, and left as it is.
///
/// design §8
#[test]
fn a_socket_directory_that_others_can_enter_is_refused() {
    let home = Home::new();
    let directory = home.path("run/sundown");
    fs::create_dir(&directory).expect("made");
    fs::set_permissions(&directory, Permissions::from_mode(0o755)).expect("changed");
    refused(&home, &[], &["run/sundown", "0755", "0700"]);
    let mode = fs::metadata(&directory).expect("there").permissions().mode();
    assert_eq!(mode & 0o777, 0o755);
    fs::set_permissions(&directory, Permissions::from_mode(0o700)).expect("changed");
    home.serve();
}

/// What a broker makes is closed to others.
///
/// design §8
#[test]
fn what_a_broker_makes_is_closed_to_others() {
    let home = Home::new();
    let broker = home.serve();
    let mut shell = home.shell();
    shell.ok("logon");
    shell.submit(1, &home.message("private"));
    broker.until("the message", || home.maildir("default").count() == 1);
    let mut paths = vec![home.socket(), home.path("run/sundown"), home.data()];
    while let Some(path) = paths.pop() {
        let metadata = fs::symlink_metadata(&path).expect("there");
        assert_eq!(metadata.permissions().mode() & 0o077, 0, "{}", path.display());
        if metadata.is_dir() && path.starts_with(home.data()) {
            paths.extend(fs::read_dir(path).expect("a directory").flatten().map(|e| e.path()));
        }
    }
}

/// A second broker on the same data directory, or on the same socket, does not start, and says where the first listens;
/// the first does not notice.
///
/// design §4
#[test]
fn a_second_broker_is_refused_and_told_where_the_first_listens() {
    let home = Home::new();
    let _broker = home.serve();
    let mut shell = home.shell();
    shell.ok("logon");
    let socket = home.socket();
    let socket = socket.to_str().expect("text");
    refused(&home, &[], &[socket, "another broker"]);
    let elsewhere = home.path("run/other/broker.sock");
    refused(&home, &["--socket", elsewhere.to_str().expect("text")], &[socket]);
    let other = home.path("other-data");
    refused(&home, &["--data-dir", other.to_str().expect("text")], &[socket]);
    shell.ok("open session=1 what=inbox");
    assert!(!elsewhere.exists());
}

/// A socket that a killed broker left behind does not keep the next one from starting.
///
/// design §4
#[test]
fn the_socket_of_a_killed_broker_is_taken_over() {
    let home = Home::new();
    let mut broker = home.serve();
    broker.kill();
    assert!(home.socket().exists(), "SIGKILL leaves it");
    assert!(UnixStream::connect(home.socket()).is_err());
    let mut broker = home.serve();
    home.run(&["status"]).ok();
    broker.terminate();
    assert!(!home.socket().exists(), "an orderly end does not");
    // What is no socket is not taken over.
    fs::write(home.socket(), "mine").expect("written");
    refused(&home, &[], &["not a socket"]);
    assert_eq!(fs::read_to_string(home.socket()).expect("there"), "mine");
}

/// A settings file that was asked for and is not there is a typing mistake, or not mounted yet, and not the default settings: no broker
/// starts, one that runs keeps the settings that it has, and `doctor` says so.
///
/// design §7
#[test]
fn a_settings_file_that_was_asked_for_must_be_there() {
    let home = Home::new();
    let config = home.path("c.toml");
    let file = config.to_str().expect("text").to_owned();
    refused(&home, &["--config", &file], &["c.toml", "not there"]);
    let ran = run(home.bare(&["send", "--to", "anna", "--config", &file]), "hi\n").exits(1);
    assert!(ran.errors.contains("c.toml") && home.brokers().is_empty(), "{ran:?}");
    for arguments in [
        &["profile", "list"][..],
        &["profile", "show", "default"],
        &["profile", "add", "work"],
        &["queue"],
    ] {
        let ran = run(home.bare(&[arguments, &["--config", &file]].concat()), "").exits(1);
        assert!(ran.errors.contains("c.toml: it is not there"), "{arguments:?}: {ran:?}");
        let mut by_variable = home.bare(arguments);
        by_variable.env("SUNDOWN_CONFIG", &file);
        let ran = run(by_variable, "").exits(1);
        assert!(ran.errors.contains("c.toml: it is not there"), "{arguments:?}: {ran:?}");
    }
    assert!(home.brokers().is_empty() && !home.path("profiles").exists());
    let ran = home.run(&["doctor", "--config", &file]).exits(1);
    assert!(ran.output.contains("c.toml: it is not there"), "{ran:?}");

    fs::write(&config, "[shutdown]\nshared_logoff = \"deny\"\n").expect("written");
    let broker = Broker::start(&home, &["--config", &file]);
    fs::remove_file(&config).expect("removed");
    let ran = home.run_with(&["send", "--to", "anna", "--config", &file], "hi\n").exits(1);
    assert!(ran.errors.contains("c.toml: it is not there"), "{ran:?}");
    home.run(&["status", "--config", &file]).ok();
    broker.signal(Signal::HUP);
    let line =
        broker.log_line("the refusal", |line| line["message"] == "settings stay as they were");
    assert!(line["error"].as_str().is_some_and(|why| why.contains("c.toml")), "{line}");
}

/// Options win over their environment twins, and these over the defaults; the settings file brings its profiles along.
///
/// design §8
#[test]
fn options_and_their_twins_say_where_everything_is() {
    let home = Home::new();
    let config = home.write("etc/c.toml", "[shutdown]\nshared_logoff = \"deny\"\n");
    home.write("etc/profiles/special.toml", "[[transport]]\naccept = [\"*\"]\n");
    let (socket, data) = (home.path("s/broker.sock"), home.path("d"));
    let arguments =
        ["--socket", socket.to_str().expect("text"), "--config", config.to_str().expect("text")];
    let _broker = Broker::start(
        &home,
        &[&arguments[..], &["--data-dir", data.to_str().expect("text")]].concat(),
    );
    assert!(!home.socket().exists() && socket.exists());
    let mut command = home.command(&["send", "--to", "far@example.org", "--wait=60", "--json"]);
    command.env("SUNDOWN_SOCKET", &socket).env("SUNDOWN_PROFILE", "special");
    let sent = crate::harness::run(command, "hello\n").ok().json();
    assert_eq!(sent["state"], "sent");
    let delivered = crate::harness::Maildir(data.join("special/Maildir")).only();
    assert_eq!(delivered.field("Delivered-To"), ["far@example.org"]);
    assert!(!home.data().exists());
    // The option wins.
    let mut command = home.command(&["status", "--socket", home.socket().to_str().expect("text")]);
    command.env("SUNDOWN_SOCKET", &socket);
    crate::harness::run(command, "").exits(1);
}
