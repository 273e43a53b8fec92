//! Programs that print access tokens, each played by a script that takes its documented command line and no other.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

use sundown_mail::encoding::base64;
use sundown_mail::head::LineEnd;

use crate::harness::{Broker, Home};
use crate::queue::{RETRIES, transport};
use crate::servers::{Act, Scripted};

/// The programs, and the words that they document: `pizauth show ACCOUNT`, `oama access EMAIL`.
const PROGRAMS: [(&str, [&str; 2]); 2] =
    [("pizauth", ["show", "work"]), ("oama", ["access", "anna@work.example"])];

/// All tokens that a script prints.
const TOKENS: [&str; 3] = ["first", "second", "expired"];

/// The tokens that a server takes, and those that it was shown.
#[derive(Debug, Default)]
struct Tokens {
    good: Vec<&'static str>,
    shown: Vec<&'static str>,
}

/// A server that takes mail after XOAUTH2 with a good token, and refuses others as Google and Microsoft do: it explains, and says 535
/// when the client has answered.
struct Server {
    scripted: Scripted,
    tokens: Arc<Mutex<Tokens>>,
}

impl Server {
    fn start() -> Self {
        let tokens = Arc::<Mutex<Tokens>>::default();
        let known = tokens.clone();
        let scripted = Scripted::start(move |verb, line| {
            let mut tokens = known.lock().unwrap_or_else(PoisonError::into_inner);
            let say = |words: &str| Some(Act::Say(format!("{words}\r\n")));
            match verb {
                "EHLO" => say("250-scripted\r\n250 AUTH XOAUTH2 OAUTHBEARER"),
                "AUTH" => {
                    let token = token(line).expect("AUTH XOAUTH2 with a token");
                    tokens.shown.push(token);
                    if tokens.good.contains(&token) {
                        return say("235 2.7.0 Accepted");
                    }
                    // {"status":"401"}
                    say("334 eyJzdGF0dXMiOiI0MDEifQ==")
                }
                "" => say("535 5.7.3 Authentication unsuccessful"),
                // The next message logs on anew.
                "." => Some(Act::SayAndClose("250 taken\r\n".into())),
                _ => None,
            }
        });
        Self { scripted, tokens }
    }

    /// From now on these are the tokens that it takes.
    fn takes(&self, good: &[&'static str]) {
        self.tokens.lock().unwrap_or_else(PoisonError::into_inner).good = good.to_vec();
    }

    fn shown(&self) -> Vec<&'static str> {
        self.tokens.lock().unwrap_or_else(PoisonError::into_inner).shown.clone()
    }
}

/// Which token is in the line of AUTH, which must be of the user of the profile.
fn token(line: &str) -> Option<&'static str> {
    let said = line.strip_prefix("AUTH XOAUTH2 ")?;
    TOKENS.into_iter().find(|token| {
        let response = format!("user=anna@work.example\x01auth=Bearer {token}\x01\x01");
        let encoded = base64(response.as_bytes(), LineEnd::Lf);
        encoded.into_iter().filter(|byte| *byte != b'\n').eq(said.bytes())
    })
}

/// A home with a program, the broker, and the profile that docs/settings.md shows for the program.
struct Scene {
    home: Home,
    broker: Broker,
    server: Server,
}

impl Scene {
    fn new(program: &str, words: [&str; 2]) -> Self {
        let (home, server) = (Home::new(), Server::start());
        let [first, second] = words;
        // The tokens are the lines of a file, one for each run; the last one stays. Without any it ends as the real ones do.
        let script = format!(
            "#!/bin/sh\n\
             [ $# = 2 ] && [ \"$1\" = {first} ] && [ \"$2\" = {second} ] ||\n\
             \x20   {{ echo \"{program}: what is $*\" >&2; exit 2; }}\n\
             cd \"$(dirname \"$0\")\" && echo run >>runs\n\
             [ -s tokens ] || {{ echo 'ERROR - Token unavailable until authorised with URL' >&2; exit 1; }}\n\
             head -n 1 tokens\n\
             if [ \"$(wc -l <tokens)\" -gt 1 ]; then sed -i 1d tokens; fi\n"
        );
        let path = home.write(&format!("bin/{program}"), script);
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).expect("changed");
        let keys = format!(
            "username = \"anna@work.example\"\nauth = \"xoauth2\"\n{}\n",
            documented(program)
        );
        home.profile("default", &format!("{}{RETRIES}", transport(server.scripted.port(), &keys)));
        let mut command = home.command(&["serve", "--log-format", "json"]);
        let system = "/usr/local/bin:/usr/bin:/bin";
        command.env("PATH", format!("{}:{system}", home.path("bin").display()));
        let broker = Broker::spawn(command);
        broker.log_line("the broker is ready", |line| line["message"] == "ready");
        Self { home, broker, server }
    }

    /// What the program prints from now on, run by run.
    fn prints(&self, tokens: &[&str]) {
        let lines: String = tokens.iter().map(|token| format!("{token}\n")).collect();
        self.home.write("bin/tokens", lines);
    }

    fn runs(&self) -> usize {
        fs::read_to_string(self.home.path("bin/runs")).unwrap_or_default().lines().count()
    }

    fn send(&self, subject: &str) {
        let message =
            format!("From: anna@work.example\nTo: bo@far.test\nSubject: {subject}\n\nx\n");
        self.home.run_with(&["send"], &message).ok();
    }

    fn all_are_sent(&self) {
        self.home
            .rows_until("all to be sent", |rows| rows.iter().all(|row| row["state"] == "sent"));
    }
}

/// The key that docs/settings.md has in the row of a program.
fn documented(program: &str) -> String {
    let page = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/settings.md");
    let page = fs::read_to_string(page).expect("the page is there");
    let row = page.lines().find(|line| line.starts_with(&format!("| [{program}](")));
    let row = row.unwrap_or_else(|| panic!("{program} has no row in docs/settings.md"));
    let key = row.split('`').find(|code| code.starts_with("password_command = "));
    key.unwrap_or_else(|| panic!("no password_command for {program}: {row}")).to_owned()
}

/// A token that the program prints logs on, and is used again until the server refuses it: then the program is asked for another one,
/// and no message is late.
///
/// design §3.18
#[test]
fn a_token_that_ran_out_is_fetched_again() {
    for (program, words) in PROGRAMS {
        let scene = Scene::new(program, words);
        scene.prints(&["first", "second"]);
        scene.server.takes(&["first"]);
        // A session that stays: the next one would begin without a token.
        let mut shell = scene.home.shell();
        shell.ok("logon");
        for subject in ["one", "two"] {
            scene.send(subject);
            scene.all_are_sent();
        }
        assert_eq!(scene.runs(), 1, "{program}: it is kept");
        scene.server.takes(&["second"]);
        scene.send("three");
        scene.all_are_sent();
        assert_eq!(scene.runs(), 2, "{program}");
        assert_eq!(scene.server.shown(), ["first", "first", "first", "second"], "{program}");
        let rows = scene.home.rows();
        assert!(rows.iter().all(|row| row["attempts"] == 1), "{program}: {rows:#?}");
        drop(scene.broker);
    }
}

/// A token that had run out when the program printed it is refused; the next try asks the program again.
///
/// design §3.18
#[test]
fn a_token_that_was_fetched_too_late_is_not_tried_again() {
    for (program, words) in PROGRAMS {
        let scene = Scene::new(program, words);
        scene.prints(&["expired", "first"]);
        scene.server.takes(&["first"]);
        scene.send("one");
        scene.all_are_sent();
        assert_eq!(scene.server.shown(), ["expired", "first"], "{program}");
        assert_eq!(scene.runs(), 2, "{program}");
    }
}

/// A program that has no token says why on standard error, and the user reads it; when there is one, mail goes out.
///
/// design §3.18
#[test]
fn why_there_is_no_token_is_told() {
    let why = "ERROR - Token unavailable until authorised with URL";
    for (program, words) in PROGRAMS {
        let scene = Scene::new(program, words);
        scene.server.takes(&["first"]);
        let checked = scene.home.run(&["profile", "check", "default"]);
        assert!(
            !checked.status.success() && checked.output.contains(why),
            "{program}: {checked:?}"
        );
        scene.send("one");
        let rows = scene.home.rows_until("the message to have been tried", |rows| {
            rows.iter().all(|row| row["last_error"].is_string())
        });
        assert!(rows[0]["last_error"].as_str().is_some_and(|said| said.contains(why)), "{rows:#?}");
        assert_eq!(scene.server.shown(), [""; 0], "{program}: nothing was shown to the server");
        scene.prints(&["first"]);
        scene.home.run(&["queue", "flush"]).ok();
        scene.all_are_sent();
    }
}
