//! Servers that refuse as a whole: one connection finds out for all messages of all sessions.

use sundown_core::provider::{ProviderError, Scope};
use sundown_protocol::Code;

use super::auth::{Secret, hello};
use super::*;

const TAKES_ALL: &str = "< 220 test\n> EHLO\n< 250 test\nanything";

fn is_of_the_server(error: &ProviderError) -> bool {
    error.scope == Scope::Server
}

/// A server with these scripts, which are all the connections that it sees: the next one would be reset. A message, then many
/// messages of two sessions, and the broker's own question are all told what the first connection was. Then a user asks, and after
/// that they go out.
fn found_out_once(refusal: &str, well: &str, options: &[(&str, &str)], words: &str) {
    let server = Server::start(&[refusal, well]);
    let all = Destinations::default();
    let options = [options, &[("connections", "1")]].concat();
    let mut clients = [1, 2].map(|_| Client::with(server.port, &options, MESSAGE, &all));
    let answers: Vec<_> = (1..=300).map(|id| clients[id % 2].prepare(to_bob(id as u64))).collect();
    for answer in &answers {
        let error = get(answer).expect_err(words);
        assert!(is_of_the_server(&error) && error.message.contains(words), "{error}");
    }
    for client in &mut clients {
        let error = client.ask(AskedBy::Broker).expect_err(words);
        assert!(is_of_the_server(&error) && error.message.contains(words), "{error}");
    }
    clients[0].ask(AskedBy::User { word: 1 }).expect("it is well now");
    for id in 301..310 {
        assert_eq!(outcomes(&clients[0].send(to_bob(id)).expect(words)), [Outcome::Sent]);
    }
    drop(clients);
    server.done();
}

#[test]
fn one_refusal_is_found_out_once() {
    for (refusal, words) in [
        ("< 421 4.7.0 too many connections", "421 4.7.0 too many"),
        ("< 554 5.7.1 you are on a list", "554 5.7.1 you are"),
        ("< 220 test\n> EHLO\n< 421 4.3.2 going down", "421 4.3.2 going"),
        ("< 220 test\n> EHLO\n< 550 no\n> HELO\n< 550 5.7.1 not you", "550 5.7.1 not you"),
        ("< 220 test\n> EHLO\n< 250 test\n> MAIL\n< 421 4.7.0 not now", "421 4.7.0 not now"),
        ("close", "closed the connection"),
        ("< what do you want?", "cannot be understood"),
    ] {
        found_out_once(refusal, TAKES_ALL, &[], words);
    }
}

#[test]
fn a_server_without_starttls_is_found_out_once() {
    let options = [("security", "starttls")];
    for (rest, words) in [
        ("< 250 test", "does not offer STARTTLS"),
        ("< 250-test\n< 250 STARTTLS\n> STARTTLS\n< 454 4.7.0 no TLS now", "454 4.7.0 no TLS"),
    ] {
        let server = Server::start(&[&format!("< 220 test\n> EHLO\n{rest}")]);
        let mut client = Client::new(&server, &options);
        for id in 1..=20 {
            let error = client.send(to_bob(id)).expect_err(words);
            assert!(is_of_the_server(&error) && error.message.contains(words), "{error}");
        }
        drop(client);
        server.done();
    }
}

#[test]
fn a_server_that_logs_nobody_on_now_is_found_out_once() {
    let secret = Secret::new("hunter2");
    let well = format!("{}> AUTH\n< 235 ok\nanything", hello("PLAIN"));
    for code in ["454 4.7.0 later", "421 4.3.2 bye"] {
        let refusal = format!("{}> AUTH\n< {code}", hello("PLAIN"));
        found_out_once(&refusal, &well, &secret.options(None), code);
    }
}

/// A password that cannot be fetched is a matter of the transport as well.
#[test]
fn a_missing_password_is_found_out_once() {
    let well = format!("{}> AUTH\n< 235 ok\nanything", hello("PLAIN"));
    let secret = Secret::new("");
    let server = Server::start(&[&hello("PLAIN"), &well]);
    let mut client = Client::new(&server, &secret.options(None));
    for id in 1..=20 {
        let error = client.send(to_bob(id)).expect_err("there is none");
        assert!(is_of_the_server(&error), "{error}");
        assert_eq!(error.code, Code::E_UNCONFIGURED);
    }
    secret.set("hunter2");
    client.validate().expect("there is one");
    drop(client);
    server.done();
}

/// It says nothing of the server to a profile whose password is there.
#[test]
fn a_missing_password_is_nobody_elses_matter() {
    let well = format!("{}> AUTH\n< 235 ok\nanything", hello("PLAIN"));
    let (missing, secret) = (Secret::new(""), Secret::new("hunter2"));
    let server = Server::start(&[&hello("PLAIN"), &well]);
    let all = Destinations::default();
    let mut without = Client::with(server.port, &missing.options(None), MESSAGE, &all);
    let mut with = Client::with(server.port, &secret.options(None), MESSAGE, &all);
    let error = without.send(to_bob(1)).expect_err("there is none");
    assert_eq!(error.code, Code::E_UNCONFIGURED);
    with.ask(AskedBy::Broker).expect("there is one");
    let error = without.send(to_bob(2)).expect_err("there is still none");
    assert!(is_of_the_server(&error), "{error}");
    drop((with, without));
    server.done();
}

/// The sessions that one request of a user is about share its try.
#[test]
fn a_users_request_is_one_try_for_all_sessions() {
    let server = Server::start(&["< 421 first", "< 421 second"]);
    let all = Destinations::default();
    let mut clients = [1, 2, 3].map(|_| Client::with(server.port, &[], MESSAGE, &all));
    let error = clients[0].send(to_bob(1)).expect_err("not now");
    assert!(error.message.contains("421 first"), "{error}");
    for client in &mut clients {
        let error = client.ask(AskedBy::User { word: 5 }).expect_err("not now");
        assert!(error.message.contains("421 second"), "{error}");
    }
    drop(clients);
    server.done();
}

/// A connection that is refused beside one that works is one too many: its message goes when the other is free.
#[test]
fn a_connection_too_many_delays_nothing_else() {
    let server = Server::start(&[TAKES_ALL, "< 421 4.7.0 one is enough", TAKES_ALL]);
    let mut client = Client::new(&server, &[("connections", "2")]);
    get(&client.prepare(to_bob(1))).expect("prepared");
    let second = client.prepare(to_bob(2));
    server.wait_for_clients(2);
    assert_eq!(outcomes(&get(&client.complete(1)).expect("results")), [Outcome::Sent]);
    get(&second).expect("it is only later");
    assert_eq!(outcomes(&get(&client.complete(2)).expect("results")), [Outcome::Sent]);
    drop(client);
    server.done();
}

/// Two refusals of a password are its last: no session tries it again, until there is another one.
#[test]
fn a_refused_password_is_tried_again_when_it_is_another_one() {
    let secret = Secret::new("battery-staple");
    let refusal = format!("{}> AUTH PLAIN\n< 535 5.7.8 wrong", hello("PLAIN"));
    let well = format!("{}> AUTH PLAIN\n< 235 ok\nanything", hello("PLAIN"));
    let server = Server::start(&[&refusal, &refusal, &well, &well]);
    let all = Destinations::default();
    let options = secret.options(None);
    let mut clients = [1, 2].map(|_| Client::with(server.port, &options, MESSAGE, &all));
    for (client, word) in clients.iter_mut().zip(1..) {
        let error = client.ask(AskedBy::User { word }).expect_err("refused");
        assert_eq!(error.code, Code::E_LOGON_FAILED);
    }
    for id in 1..=20 {
        for client in &mut clients {
            let error = client.send(to_bob(id)).expect_err("it is not tried");
            assert_eq!(error.code, Code::E_LOGON_FAILED);
            assert!(error.message.contains("535 5.7.8 wrong"), "{error}");
            assert!(!is_of_the_server(&error), "the broker counts it: {error}");
        }
    }
    secret.set("correct-horse");
    for (client, id) in clients.iter_mut().zip(21..) {
        assert_eq!(outcomes(&client.send(to_bob(id)).expect("results")), [Outcome::Sent]);
    }
    drop(clients);
    server.done();
}

/// A profile that says something else about the server or the logon makes a refused password worth a try, and one that changes what
/// is about messages does not.
#[test]
fn a_refused_password_is_tried_again_when_the_profile_is_another_one() {
    let secret = Secret::new("hunter2");
    let refusal = format!("{}> AUTH PLAIN\n< 535 5.7.8 wrong", hello("PLAIN LOGIN"));
    let changes =
        [("helo", "other.test", "PLAIN"), ("auth", "login", "LOGIN"), ("ca_file", "/x", "PLAIN")];
    for (key, value, mechanism) in changes {
        let other = format!("{}> AUTH {mechanism}\n< 535 5.7.8 other", hello("PLAIN LOGIN"));
        let server = Server::start(&[&refusal, &refusal, &other]);
        let all = Destinations::default();
        let send = |more: &[(&str, &str)], words: &str| {
            let options = [&secret.options(None)[..], more].concat();
            let mut client = Client::with(server.port, &options, MESSAGE, &all);
            let error = client.send(to_bob(1)).expect_err(words);
            assert_eq!(error.code, Code::E_LOGON_FAILED, "{error}");
            assert!(error.message.contains(words), "{key}: {error}");
            client
        };
        let mut client = send(&[], "wrong");
        client.ask(AskedBy::User { word: 1 }).expect_err("it is wrong");
        for same in [("connections", "2"), ("timeout", "9000"), ("rate", "9/d")] {
            send(&[same], "wrong");
        }
        send(&[(key, value)], "other");
        server.done();
    }
}

/// What counts as another logon: all that a profile says of the server and of the way to log on there.
#[test]
fn each_key_of_the_logon_counts() {
    let account = |more: &[(&str, &str)]| {
        let named = |(key, value): &(&str, &str)| ((*key).to_owned(), (*value).to_owned());
        let usual = [("host", "localhost"), ("username", "me"), ("password_env", "X")];
        let usual = usual.iter().filter(|(key, _)| more.iter().all(|(other, _)| other != key));
        let options = usual.chain(more).map(named).collect();
        let spec = ProviderSpec { options, ..ProviderSpec::new("smtp") };
        super::super::settings::Settings::of(&spec).expect("settings").account()
    };
    let fingerprint = ["00"; 32].join(":");
    let others: [&[(&str, &str)]; 11] = [
        &[("host", "127.0.0.1")],
        &[("port", "2525")],
        &[("security", "tls")],
        &[("security", "none")],
        &[("username", "you")],
        &[("auth", "login")],
        &[("helo", "me.test")],
        &[("ca_file", "/x")],
        &[("tls_fingerprint", &fingerprint)],
        &[("tls_certificate", "/x"), ("tls_key", "/y")],
        &[("proxy", "socks5://proxy.test:1080")],
    ];
    let all: std::collections::BTreeSet<_> = others.iter().map(|more| account(more)).collect();
    assert_eq!(all.len(), others.len(), "{all:#?}");
    assert!(!all.contains(&account(&[])), "{all:#?}");
    for same in [("password_env", "Y"), ("rate", "1/d"), ("timeout", "5"), ("connections", "9")] {
        assert_eq!(account(&[same]), account(&[]), "{same:?}");
    }
}

/// A server that wants a logon where the profile has no user counts like a refused password: what waits behind makes no connection.
#[test]
fn a_server_that_wants_a_logon_is_asked_once() {
    let refusal = "< 220 test\n> EHLO\n< 250 test\n> MAIL\n< 530 5.7.0 authenticate first";
    let server = Server::start(&[refusal]);
    let mut client = Client::new(&server, &[("connections", "1")]);
    let error = client.send(to_bob(1)).expect_err("nobody is logged on");
    assert_eq!(error.code, Code::E_LOGON_FAILED);
    let error = client.send(to_bob(2)).expect_err("it is asked later");
    assert_eq!(error.code, Code::E_OFFLINE);
    drop(client);
    server.done();
}

/// What the next broker finds is what this one has found out.
#[test]
fn the_next_broker_does_not_find_out_again() {
    let home = tempfile::tempdir().expect("a directory");
    let server = Server::start(&["< 421 4.7.0 not now", TAKES_ALL]);
    for id in 1..=2 {
        let data: Arc<std::sync::OnceLock<_>> = Arc::default();
        data.set(home.path().to_owned()).expect("once");
        let all = Destinations::new(data);
        let mut client = Client::with(server.port, &[], MESSAGE, &all);
        let error = client.send(to_bob(id)).expect_err("not now");
        assert!(is_of_the_server(&error) && error.message.contains("421 4.7.0"), "{error}");
        if id == 2 {
            client.validate().expect("it is well now");
        }
    }
    server.done();
}

/// What is beyond the allowance waits, and is no try; a recipient that was refused uses none of it.
#[test]
fn an_allowance_is_kept() {
    let refuses = "> MAIL\n> RCPT\n< 250 ok\n< 550 5.1.1 nobody\n> RSET\n< 250 ok\nanything";
    let server = Server::start(&[&script(refuses)]);
    let options = [("rate", "2/d"), ("connections", "1")];
    let mut client = Client::new(&server, &options);
    assert_eq!(outcomes(&client.send(to_bob(1)).expect("results")), [Outcome::Failed]);
    for id in 2..=3 {
        assert_eq!(outcomes(&client.send(to_bob(id)).expect("results")), [Outcome::Sent]);
    }
    for id in 4..=10 {
        let error = client.send(to_bob(id)).expect_err("it is used up");
        assert!(is_of_the_server(&error) && error.message.contains("2/d"), "{error}");
    }
    let error = client.ask(AskedBy::Broker).expect_err("no message could follow");
    assert!(is_of_the_server(&error), "{error}");
    drop(client);
    let told = server.done();
    assert_eq!(told[0].iter().filter(|line| line.starts_with("DATA")).count(), 2);
}
