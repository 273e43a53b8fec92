//! Programs that watch the queue of a mail server by its `mailq`: Nagios' `check_mailq`, as it knows Postfix and nullmailer.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::process::Command;

use crate::harness::{Home, binary, run};
use crate::queue::transport;
use crate::servers::skipped;

/// Where Debian has the plugins.
const PLUGINS: &str = "/usr/lib/nagios/plugins";

/// `check_mailq` with this home's `mailq`, whose path its library names.
fn check_mailq(home: &Home, server: &str) -> Command {
    let folder = home.path("plugins");
    if !folder.exists() {
        fs::create_dir_all(&folder).expect("made");
        symlink(binary(), folder.join("mailq")).expect("linked");
        fs::copy(Path::new(PLUGINS).join("check_mailq"), folder.join("check_mailq"))
            .expect("copied");
        let library = fs::read_to_string(Path::new(PLUGINS).join("utils.pm")).expect("a library");
        let path = format!("$PATH_TO_MAILQ = \"{}\";", folder.join("mailq").display());
        let names_it = |line: &&str| line.starts_with("$PATH_TO_MAILQ");
        let lines = library.lines().map(|line| if names_it(&line) { &path } else { line });
        fs::write(folder.join("utils.pm"), lines.collect::<Vec<_>>().join("\n")).expect("written");
    }
    let mut command = Command::new(folder.join("check_mailq"));
    command.args(["-M", server, "-w", "2", "-c", "3"]).env_clear().env("HOME", home.as_ref());
    command.env("SUNDOWN_SOCKET", home.socket()).env("SUNDOWN_NO_AUTOSTART", "1");
    command
}

/// An empty queue is well, one message is below the threshold, two are a warning, three are critical.
///
/// design §8
#[test]
fn a_monitor_sees_how_long_the_queue_is() {
    if !Path::new(PLUGINS).join("check_mailq").exists() {
        return skipped("check_mailq is not installed");
    }
    let home = Home::new();
    home.profile("default", &transport(1, "[queue]\nretry_min = \"1h\"\n"));
    let _broker = home.serve();
    for (count, status) in [(0, 0), (1, 0), (2, 1), (3, 2)] {
        for server in ["postfix", "nullmailer"] {
            let ran = run(check_mailq(&home, server), "").exits(status);
            assert!(ran.output.ends_with(&format!("|unsent={count};2;3;0")), "{server}: {ran:?}");
        }
        home.run_with(&["send", "--to", &format!("b{count}@x.test")], "hi\n").ok();
    }
}
