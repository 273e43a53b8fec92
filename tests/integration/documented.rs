//! The commands of the pages, run as a reader runs them: a page after the other, each in an empty home.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Instant;

use crate::harness::{Home, Maildir, Ran, binary, left, run};

/// The pages with commands. Those of `docs/operations.md` need a machine of their own: `tests/deploy/documented` runs each of them.
const PAGES: [&str; 10] = [
    "README.md",
    "docs/command.md",
    "docs/mail.md",
    "docs/settings.md",
    "docs/shutdown.md",
    "docs/design.md",
    "docs/performance.md",
    "docs/reliability.md",
    "docs/semantics.md",
    "deploy/README.md",
];

const BUILDS: &str = "it builds and tests the source";
const INSTALLS: &str = "it installs, as root: tests/deploy/inside does the same by the package";
const CONTAINER: &str = "it needs an engine for containers";
const SERVER: &str = "it asks a server";
const DNS: &str = "it asks DNS";
const READERS: &str = "it names an entry of the reader's";

/// Commands that are not run, by the page and a part of the line, and why.
const NOT_RUN: &[(&str, &str, &str)] = &[
    ("README.md", "cargo run", BUILDS),
    ("README.md", "cargo test", BUILDS),
    ("docs/command.md", "ln -s /usr/local/bin/sundown /usr/sbin/sendmail", INSTALLS),
    ("docs/command.md", "ln -s /usr/local/bin/sundown /usr/bin/mailq", INSTALLS),
    ("docs/command.md", "ln -s /usr/local/bin/sundown /usr/bin/newaliases", INSTALLS),
    ("docs/command.md", "ln -s /usr/local/bin/sundown /usr/sbin/runq", INSTALLS),
    ("docs/command.md", "update-alternatives", INSTALLS),
    ("docs/command.md", "sundown man | man -l -", "it needs a pager and its formatter"),
    ("docs/command.md", "0 6 * * *", "it is a line of a crontab"),
    ("docs/command.md", "sundown profile add work anna@example.org", DNS),
    ("docs/command.md", "sundown profile check work", SERVER),
    ("docs/command.md", "coproc", "it waits until another program ends the session"),
    ("docs/mail.md", "sundown profile add default anna@example.org --password-command", DNS),
    ("docs/mail.md", "--to bo@example.net", SERVER),
    ("docs/mail.md", "sundown profile check default", SERVER),
    ("docs/mail.md", "queue show ENTRY", READERS),
    ("docs/mail.md", "sundown read 1", READERS),
    ("docs/performance.md", "benches/peers", BUILDS),
    ("docs/performance.md", "cargo bench", BUILDS),
    ("docs/reliability.md", "cargo test", BUILDS),
    ("docs/reliability.md", ".ci/run", BUILDS),
    ("docs/reliability.md", "tests/long", BUILDS),
    ("docs/semantics.md", "cargo test", BUILDS),
    ("deploy/README.md", "cargo install", BUILDS),
    ("deploy/README.md", "sudo apt install", INSTALLS),
    ("deploy/README.md", "sudo systemctl", INSTALLS),
    ("deploy/README.md", "sudo sundown send", INSTALLS),
    ("deploy/README.md", "dpkg-divert", INSTALLS),
    ("deploy/README.md", "ln -s ../bin/sundown", INSTALLS),
    ("deploy/README.md", "rm /usr/sbin/sendmail", INSTALLS),
    ("deploy/README.md", "podman", CONTAINER),
    ("deploy/README.md", "install -d", CONTAINER),
    ("deploy/README.md", "install -D", INSTALLS),
    ("deploy/README.md", "sundown stop ", "it is about a broker that runs already"),
    ("deploy/README.md", "systemctl", INSTALLS),
    ("deploy/README.md", "loginctl", INSTALLS),
    ("deploy/README.md", "useradd", INSTALLS),
];

/// A block of commands: its line in the page, what is run, and what it reads.
struct Block {
    line: usize,
    script: String,
    input: String,
    /// Whether the page shows that it fails.
    fails: bool,
}

/// Lines that are not run are taken out, with the lines that they go on in. Each line of the list is used.
fn without_those_not_run(page: &str, script: &str, used: &mut [bool]) -> String {
    let mut kept = String::new();
    let mut left_out = false;
    let mut goes_on = false;
    for line in script.lines() {
        if !goes_on {
            let found = NOT_RUN.iter().position(|(of, part, _)| *of == page && line.contains(part));
            left_out = found.is_some();
            if let Some(at) = found {
                used[at] = true;
            }
        }
        // What talks with a program in the background is one command to its end.
        goes_on = line.ends_with('\\')
            || line.starts_with("coproc")
            || (goes_on && script.starts_with("coproc"));
        if !left_out {
            kept += line;
            kept.push('\n');
        }
    }
    kept
}

/// The blocks of a page. In a `console` each command begins with `$`, and what follows is what it prints or is told.
fn blocks(text: &str) -> Vec<Block> {
    let mut blocks = Vec::new();
    let mut kind = None;
    for (at, line) in text.lines().enumerate() {
        match (kind, line) {
            (None, "```sh") => {
                kind = Some("sh");
                blocks.push(Block {
                    line: at + 1,
                    script: String::new(),
                    input: String::new(),
                    fails: false,
                });
            }
            (None, "```console") => kind = Some("console"),
            (None, _) if line.starts_with("```") => kind = Some("other"),
            (Some(_), "```") => kind = None,
            (Some("sh"), line) => {
                let script = &mut blocks.last_mut().expect("it has begun").script;
                *script += line;
                script.push('\n');
            }
            (Some("console"), line) => match (line.strip_prefix("$ "), blocks.last_mut()) {
                (Some(command), _) => {
                    let script = format!("{command}\n");
                    blocks.push(Block { line: at + 1, script, input: String::new(), fails: false });
                }
                (None, Some(block)) if line.starts_with("sundown: ") => block.fails = true,
                // A shell is told what does not look like its answers.
                (None, Some(block))
                    if block.script.starts_with("sundown shell")
                        && !line.starts_with(['{', ' ']) =>
                {
                    block.input += line;
                    block.input.push('\n');
                }
                _ => {}
            },
            _ => {}
        }
    }
    blocks
}

/// A home whose reader has a letter, and what the examples take for granted.
fn readers_home() -> Home {
    let home = Home::new();
    home.write("letter.eml", "To: anna@localhost\nSubject: Letter\n\nHello.\n");
    for (name, text) in [("report", "echo All is well."), ("pass", "echo secret")] {
        program(&home, name, text);
    }
    fs::remove_file(home.path("bin/sundown")).ok();
    std::os::unix::fs::symlink(binary(), home.path("bin/sundown")).expect("linked");
    home
}

fn program(home: &Home, name: &str, script: &str) {
    let file = home.write(&format!("bin/{name}"), format!("#!/bin/sh\n{script}\n"));
    fs::set_permissions(file, fs::Permissions::from_mode(0o755)).expect("changed");
}

fn bash(home: &Home, script: &str, input: &str) -> Ran {
    let mut command = Command::new("bash");
    command.args(["-euo", "pipefail", "-c", script]).current_dir(home).env_clear();
    command.env("HOME", home.as_ref()).env("XDG_RUNTIME_DIR", home.runtime()).env("USER", "anna");
    command.env("PATH", format!("{}:/usr/sbin:/usr/bin:/sbin:/bin", home.path("bin").display()));
    run(command, input)
}

/// Ends the broker that commands have started.
struct StopAtEnd<'a>(&'a Home);

impl Drop for StopAtEnd<'_> {
    fn drop(&mut self) {
        let _ = self.0.bare(&["stop", "--fast"]).output();
    }
}

fn page(name: &str) -> String {
    let path: PathBuf = Path::new(env!("CARGO_MANIFEST_DIR")).join(name);
    fs::read_to_string(path).expect("the page is there")
}

/// Every command of the pages that can run in an empty home runs in one, in the order of its page, and ends as the page shows. The others
/// are listed, with the reason.
///
/// design §8
#[test]
fn the_commands_of_the_pages_run_in_an_empty_home() {
    let mut used = vec![false; NOT_RUN.len()];
    let mut count = 0;
    for name in PAGES {
        let home = readers_home();
        let _stop = StopAtEnd(&home);
        for block in blocks(&page(name)) {
            let script = without_those_not_run(name, &block.script, &mut used);
            if script.trim().is_empty() {
                continue;
            }
            count += 1;
            let ran = bash(&home, &script, &block.input);
            assert_eq!(
                ran.status.success(),
                !block.fails,
                "{name}:{}: {script}{ran:?}",
                block.line
            );
            // A reader takes longer than the mail.
            let _ = home.bare(&["queue", "flush", "--wait=60", "--no-autostart"]).output();
        }
    }
    assert!(count > 15, "only {count} blocks were run");
    let unused: Vec<_> =
        NOT_RUN.iter().zip(used).filter(|(_, used)| !used).map(|(not_run, _)| not_run).collect();
    assert!(unused.is_empty(), "no page has these: {unused:?}");
}

/// What a page of the operator's has in the block behind a heading, for directories below the home and a service manager that knows one
/// service.
fn recipe(home: &Home, heading: &str, number: usize) -> String {
    let page = page("docs/operations.md");
    let section = page.split_once(&format!("\n## {heading}\n")).expect("the section is there").1;
    let section = section.split("\n## ").next().unwrap_or_default();
    let block = section.split("```sh\n").nth(number).expect("the block is there");
    let block = block.split("```").next().unwrap_or_default();
    let root = home.path("");
    let root = root.to_str().expect("text").trim_end_matches('/');
    let script = block.replace(" etc/sundown", " MEMBER");
    let paths = ["/var/backups", "/var/lib/sundown", "/etc/sundown"];
    let script =
        paths.iter().fold(script, |script, path| script.replace(path, &format!("{root}{path}")));
    let script = script.replace("MEMBER", &format!("{}/etc/sundown", root.trim_start_matches('/')));
    assert!(
        !script.contains(" /etc") && !script.contains(" /var"),
        "it is below the home: {script}"
    );
    script
}

/// A backup is restored so that nothing is sent before somebody has looked, whatever the settings say of `[shutdown]`: also where they
/// have no such section, or there is no file. Then the settings are those of before, and the mail goes.
///
/// design §8
#[test]
fn a_backup_is_restored_and_nothing_goes_before_it_was_looked_at() {
    let all = [
        Some("[shutdown]\nshared_logoff_grace = \"1m\"\n"),
        Some(
            "[limits]\nrecipients = 9\n\n[shutdown]\nlinger = \"10m\"\nshared_logoff = \"deny\"\n",
        ),
        Some("[limits]\nrecipients = 9\n"),
        None,
    ];
    for settings in all {
        let home = readers_home();
        let file = home.path("etc/sundown/config.toml");
        home.write(
            "etc/sundown/profiles/default.toml",
            format!("[[transport]]\npath = \"{}\"\n", home.path("outbox").display()),
        );
        if let Some(text) = settings {
            fs::write(&file, text).expect("written");
        }
        fs::create_dir_all(home.path("var/backups")).expect("made");
        fs::create_dir_all(home.path("var/lib")).expect("made");
        // It starts and stops a broker as a service manager does, and makes nothing for those that ask meanwhile.
        let own =
            "export XDG_CONFIG_HOME=$HOME/etc XDG_DATA_HOME=$HOME/var/lib SUNDOWN_NO_AUTOSTART=1";
        program(
            &home,
            "systemctl",
            &format!(
                "{own}\ncase $* in *.service) ;; *) exit 0 ;; esac\n\
                 case $1 in stop | restart) sundown stop >/dev/null ;; esac\n\
                 case $1 in start | restart) ;; *) exit 0 ;; esac\n\
                 rm -f ready; mkfifo ready; sundown serve --detached >ready 2>>log &\n\
                 read -r word <ready; [ \"$word\" = ready ]"
            ),
        );
        let does = |script: &str| {
            let ran = bash(&home, &format!("{own}\n{script}"), "");
            assert!(ran.status.success(), "{settings:?}: {script}{ran:?}");
            ran.output
        };
        // A file in the transport's place: the mail waits.
        home.write("outbox", "");
        does(
            "systemctl start sundown.service; echo hi | sundown send --to anna@localhost; sundown queue flush",
        );
        does(&recipe(&home, "Back up", 1));
        does("systemctl stop sundown.service");
        fs::remove_file(home.path("outbox")).expect("removed");
        let looked_at = does(&recipe(&home, "Restore", 1));
        assert!(looked_at.contains("anna@localhost"), "{settings:?}: {looked_at}");
        // The session that looked at the mail ends, because nobody is logged on.
        let since = Instant::now();
        while does("sundown status --json | grep -c '\"sessions\":\\[\\]' || true").trim() != "1" {
            assert!(!left(since).is_zero(), "{settings:?}: a session lingers");
        }
        let sent = Maildir(home.path("outbox")).count();
        assert_eq!(sent, 0, "{settings:?}: it was sent");
        does(&recipe(&home, "Restore", 2));
        assert_eq!(
            fs::read_to_string(&file).ok().as_deref(),
            settings,
            "the settings are those of before"
        );
        does("sundown queue flush --wait=60 && ls outbox/new/* && sundown stop");
    }
}
