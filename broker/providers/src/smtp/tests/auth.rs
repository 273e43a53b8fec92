//! Logging on, and a secret that shows up nowhere.

use std::fs;
use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::sync::Mutex;

use sundown_protocol::Code;
use tempfile::TempDir;

use super::super::dial::Dialer;
use super::super::settings::Settings;
use super::*;

pub(super) fn hello(mechanisms: &str) -> String {
    format!("< 220 test\n> EHLO\n< 250-test\n< 250 AUTH {mechanisms}\n")
}

pub(super) struct Secret {
    _dir: TempDir,
    path: PathBuf,
}

impl Secret {
    pub(super) fn new(text: &str) -> Self {
        let dir = TempDir::new().expect("a directory");
        let secret = Self { path: dir.path().join("secret"), _dir: dir };
        secret.set(text);
        secret
    }

    pub(super) fn set(&self, text: &str) {
        fs::write(&self.path, text).expect("it is written");
        fs::set_permissions(&self.path, fs::Permissions::from_mode(0o600)).expect("it is set");
    }

    pub(super) fn options<'a>(&'a self, auth: Option<&'a str>) -> Vec<(&'a str, &'a str)> {
        let path = self.path.to_str().expect("text");
        let mut options = vec![("username", "me"), ("password_file", path), ("connections", "1")];
        options.extend(auth.map(|auth| ("auth", auth)));
        options
    }
}

#[test]
fn all_mechanisms_log_on() {
    let cases = [
        (None, "LOGIN PLAIN", "> AUTH PLAIN AG1lAGh1bnRlcjI=\n"),
        (
            None,
            "LOGIN XOAUTH2",
            "> AUTH LOGIN\n< 334 VXNlcjo=\n> bWU=\n< 334 Pw==\n> aHVudGVyMg==\n",
        ),
        (Some("login"), "PLAIN LOGIN", "> AUTH LOGIN\n< 334 x\n> bWU=\n< 334 x\n> aHVudGVyMg==\n"),
        (Some("plain"), "LOGIN PLAIN", "> AUTH PLAIN AG1lAGh1bnRlcjI=\n"),
        (
            Some("xoauth2"),
            "PLAIN XOAUTH2",
            "> AUTH XOAUTH2 dXNlcj1tZQFhdXRoPUJlYXJlciBodW50ZXIyAQE=\n",
        ),
    ];
    let secret = Secret::new("hunter2\n");
    for (auth, mechanisms, talk) in cases {
        let server = Server::start(&[&format!("{}{talk}< 235 ok\nanything", hello(mechanisms))]);
        let mut client = Client::new(&server, &secret.options(auth));
        let results = client.send(to_bob(1)).expect(talk);
        assert_eq!(outcomes(&results), [Outcome::Sent]);
        drop(client);
        server.done();
    }
}

#[test]
fn a_long_token_goes_in_two_steps() {
    let token = "t".repeat(3000);
    let secret = Secret::new(&token);
    let talk = "> AUTH XOAUTH2\n< 334 \n> dXNlcj1tZQFhdXRoPUJlYXJlciB0\n< 235 ok\nanything";
    let server = Server::start(&[&format!("{}{talk}", hello("XOAUTH2"))]);
    let mut client = Client::new(&server, &secret.options(Some("xoauth2")));
    assert_eq!(outcomes(&client.send(to_bob(1)).expect("results")), [Outcome::Sent]);
    drop(client);
    let told = server.done().remove(0);
    assert_eq!(told[1], "AUTH XOAUTH2");
    assert!(told[2].len() > 4000);
}

fn refused(talk: &str, auth: Option<&str>) -> sundown_core::provider::ProviderError {
    let secret = Secret::new("hunter2");
    let server = Server::start(&[&format!("{}{talk}", hello("PLAIN LOGIN XOAUTH2"))]);
    let mut client = Client::new(&server, &secret.options(auth));
    let error = client.send(to_bob(1)).expect_err(talk);
    drop(client);
    server.done();
    error
}

#[test]
fn a_wrong_password_is_no_messages_fault() {
    for code in ["535 5.7.8 wrong", "534 5.7.9 better one", "530 5.7.0 no", "501 5.5.2 what"] {
        let error = refused(&format!("> AUTH\n< {code}"), None);
        assert_eq!(error.code, Code::E_LOGON_FAILED, "{code}");
        assert!(error.message.contains(code) && error.message.contains("me"), "{error}");
    }
    let explained = "> AUTH XOAUTH2\n< 334 eyJzdGF0dXMiOiI0MDEifQ==\n> \n< 535 5.7.8 expired";
    assert_eq!(refused(explained, Some("xoauth2")).code, Code::E_LOGON_FAILED);
    let endless = "> AUTH PLAIN\n< 334 and\n> *\n< 501 called off";
    assert_eq!(refused(endless, Some("plain")).code, Code::E_LOGON_FAILED);
    // A server that goes on asking is left.
    for (endless, way) in [
        ("> AUTH PLAIN\n< 334 and\n> *\n< 334 and", "plain"),
        ("> AUTH LOGIN\n< 334 x\n> bWU=\n< 334 x\n> aHVudGVyMg==\n< 334 x\n> *\n< 334 x", "login"),
        ("> AUTH XOAUTH2\n< 334 x\n> \n< 334 x", "xoauth2"),
    ] {
        let error = refused(endless, Some(way));
        assert_eq!(error.code, Code::E_CALL_FAILED, "{way}");
        assert!(error.message.contains("asks for more than AUTH has"), "{error}");
    }
}

/// How a server says that this way is closed, and the password may be right.
#[test]
fn a_mechanism_that_is_offered_and_not_taken_is_followed_by_the_next() {
    let secret = Secret::new("hunter2");
    let login = "> AUTH LOGIN\n< 334 x\n> bWU=\n< 334 x\n> aHVudGVyMg==\n";
    let scram = "> AUTH SCRAM-SHA-256 biwsbj1tZSxyP";
    for (auth, mechanisms, talk) in [
        (
            None,
            "PLAIN LOGIN",
            format!("> AUTH PLAIN\n< 504 5.5.4 not so\n{login}< 235 ok\nanything"),
        ),
        (
            None,
            "PLAIN LOGIN SCRAM-SHA-256",
            format!("> AUTH PLAIN\n< 534 5.7.9 too weak\n{scram}\n< 535 wrong"),
        ),
        (
            None,
            "PLAIN SCRAM-SHA-256",
            format!("> AUTH PLAIN\n< 538 5.7.11 not in the open\n{scram}\n< 535 wrong"),
        ),
        (
            Some("scram-sha-256"),
            "PLAIN SCRAM-SHA-256",
            format!("{scram}\n< 432 4.7.12 the password must be said once"),
        ),
    ] {
        let server = Server::start(&[&format!("{}{talk}", hello(mechanisms))]);
        let mut client = Client::new(&server, &secret.options(auth));
        match client.send(to_bob(1)) {
            Ok(results) => assert_eq!(outcomes(&results), [Outcome::Sent]),
            Err(error) => {
                assert_eq!(error.code, Code::E_LOGON_FAILED, "{error}");
                let last = talk.rsplit("< ").next().expect("an answer");
                assert!(error.message.contains(last), "{error}");
            }
        }
        drop(client);
        server.done();
    }
}

/// Every try with a wrong password counts towards a lock, and what a profile names is meant.
#[test]
fn a_refused_password_is_tried_by_no_other_mechanism() {
    let wrong = refused("> AUTH PLAIN\n< 535 5.7.8 wrong", None);
    assert_eq!(wrong.code, Code::E_LOGON_FAILED);
    let named = refused("> AUTH PLAIN\n< 504 5.5.4 not so", Some("plain"));
    assert_eq!(named.code, Code::E_NO_SUPPORT);
    assert!(named.message.contains("AUTH PLAIN: 504 5.5.4 not so; change auth"), "{named}");
    let none = refused("> AUTH PLAIN\n< 504 a\n> AUTH LOGIN\n< 504 b", None);
    assert_eq!(none.code, Code::E_NO_SUPPORT);
    assert!(none.message.contains("AUTH LOGIN: 504 b"), "{none}");
}

/// Without its proof a server may be anybody who has read the name.
#[test]
fn a_server_that_proves_nothing_is_not_believed() {
    let secret = Secret::new("hunter2");
    for (rest, code, words) in [
        ("< 235 come in", Code::E_NO_ACCESS, "does not know the password"),
        ("< 334 Pw==\n> *\n< 501 called off", Code::E_CALL_FAILED, "does not speak SCRAM"),
    ] {
        let talk = format!("{}> AUTH SCRAM-SHA-256\n{rest}", hello("SCRAM-SHA-256"));
        let server = Server::start(&[&talk]);
        let mut client = Client::new(&server, &secret.options(None));
        let error = client.send(to_bob(1)).expect_err(words);
        assert_eq!(error.code, code, "{error}");
        assert!(error.message.contains(words), "{error}");
        drop(client);
        let told = server.done().remove(0);
        assert!(told.iter().all(|line| !line.starts_with("MAIL")), "{told:?}");
    }
}

#[test]
fn a_server_that_cannot_say_now_is_for_later() {
    assert_eq!(refused("> AUTH\n< 454 4.7.0 later", None).code, Code::E_CALL_FAILED);
    assert_eq!(refused("> AUTH\n< 421 bye", None).code, Code::E_CALL_FAILED);
    assert_eq!(refused("> AUTH\nclose", None).code, Code::E_NETWORK_ERROR);
}

#[test]
fn a_mechanism_that_is_not_offered_is_said() {
    let secret = Secret::new("hunter2");
    for (auth, hello, words) in [
        (Some("xoauth2"), hello("PLAIN LOGIN"), "does not offer AUTH XOAUTH2"),
        (Some("scram-sha-256"), hello("SCRAM-SHA-1"), "does not offer AUTH SCRAM-SHA-256"),
        (None, hello("CRAM-MD5"), "neither AUTH PLAIN nor LOGIN"),
        (None, "< 220 test\n> EHLO\n< 250 test".to_owned(), "leave username out"),
    ] {
        let server = Server::start(&[&hello]);
        let mut client = Client::new(&server, &secret.options(auth));
        let error = client.send(to_bob(1)).expect_err(words);
        assert_eq!(error.code, Code::E_NO_SUPPORT);
        assert!(error.message.contains(words), "{error}");
        drop(client);
        server.done();
    }
}

#[test]
fn a_new_password_is_fetched_when_the_old_one_is_refused() {
    let secret = Secret::new("old");
    let good = format!("{}> AUTH PLAIN AG1lAG9sZA==\n< 235 ok\n", hello("PLAIN"));
    let changed = format!(
        "{}> AUTH PLAIN AG1lAG9sZA==\n< 535 wrong\n> AUTH PLAIN AG1lAG5ldw==\n< 235 ok\nanything",
        hello("PLAIN")
    );
    let first = format!(
        "{good}> MAIL\n< 250 ok\n> RCPT\n< 250 ok\n> DATA\n< 354 x\nmessage\n< 250 x\nclose"
    );
    let server = Server::start(&[&first, &changed]);
    let mut client = Client::new(&server, &secret.options(None));
    client.send(to_bob(1)).expect("results");
    secret.set("new");
    assert_eq!(outcomes(&client.send(to_bob(2)).expect("results")), [Outcome::Sent]);
    drop(client);
    server.done();
}

#[test]
fn a_refused_password_is_not_tried_again_by_what_waits_behind() {
    // The server is asked once; more would lock the account.
    let secret = Secret::new("hunter2");
    let server = Server::start(&[&format!("{}> AUTH PLAIN\n< 535 wrong", hello("PLAIN"))]);
    let mut client = Client::new(&server, &secret.options(None));
    let answers = [client.prepare(to_bob(1)), client.prepare(to_bob(2))];
    assert_eq!(get(&answers[0]).expect_err("refused").code, Code::E_LOGON_FAILED);
    assert_eq!(get(&answers[1]).expect_err("not tried").code, Code::E_OFFLINE);
    drop(client);
    server.done();
}

#[test]
fn a_missing_secret_is_a_matter_of_settings() {
    let server = Server::start(&[&hello("PLAIN")]);
    let options = [("username", "me"), ("password_command", "echo hunter2 >&2; exit 7")];
    let mut client = Client::new(&server, &options);
    let error = client.send(to_bob(1)).expect_err("no secret");
    assert_eq!(error.code, Code::E_UNCONFIGURED);
    assert!(error.message.contains('7') && !error.message.contains("hunter2"), "{error}");
    drop(client);
    server.done();
}

/// Collects what is logged.
#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<u8>>>);

impl Write for Log {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().expect("a lock").extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[test]
fn the_secret_is_in_no_log_and_no_error() {
    let cases = [
        ("plain", "> AUTH\n< 235 ok"),
        ("plain", "> AUTH\n< 535 wrong"),
        ("plain", "> AUTH\n< 501 AUTH PLAIN AG1lAGh1bnRlcjI= is malformed"),
        ("login", "> AUTH\n< 334 x\n> bWU=\n< 334 x\n> aHVudGVyMg==\n< 535 hunter2 is wrong"),
        ("xoauth2", "> AUTH\n< 235 ok"),
        ("scram-sha-1", "> AUTH\n< 535 hunter2 is wrong"),
    ];
    // With one subscriber only, `tracing` asks the one of whatever thread is the first to come by, and another test has
    // none.
    let _second = tracing::Dispatch::new(tracing_subscriber::registry());
    let secret = Secret::new("hunter2");
    for (auth, talk) in cases {
        let server =
            Server::start(&[&format!("{}{talk}", hello("PLAIN LOGIN XOAUTH2 SCRAM-SHA-1"))]);
        let settings = Settings::of(&spec(server.port, &secret.options(Some(auth))));
        let dialer = Dialer::new(settings.expect("settings"));
        let log = Log::default();
        let writer = log.clone();
        let subscriber = tracing_subscriber::fmt()
            .with_ansi(false)
            .with_max_level(tracing::Level::TRACE)
            .with_writer(move || writer.clone())
            .finish();
        let dialed =
            tracing::subscriber::with_default(subscriber, || dialer.dial(Duration::from_secs(5)));
        let mut seen = String::from_utf8(log.0.lock().expect("a lock").clone()).expect("text");
        assert!(seen.contains("AUTH") && seen.contains("mechanism"), "{seen}");
        seen += &format!("{dialer:?} {dialed:?}");
        seen += &dialed.map_err(|error| error.to_string()).err().unwrap_or_default();
        for part in ["hunter2", "aHVudGVyMg", "AG1lAGh1bnRlcjI", "Bodw", "aHVudGVy"] {
            assert!(!seen.contains(part), "{part} in {seen}");
        }
        server.done();
    }
}
