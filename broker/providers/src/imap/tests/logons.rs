//! Logons that fail, and what people read of them.

use std::io::{BufRead, BufReader, Write};
use std::net::{Ipv4Addr, TcpListener};
use std::thread;

use sundown_core::provider::ProviderSpec;

use super::super::logon::Dialer;
use super::super::settings::Settings;

const READY: &str = "* OK ready\r\n";

/// What a server says that was asked what it can do.
const OFFER: &str = "IMAP4rev1 AUTH=PLAIN SASL-IR";

/// The error of a logon at a server that says these words: its greeting, what it offers, and what it says to AUTHENTICATE.
fn error(
    greeting: &'static str,
    offer: &str,
    answer: &'static str,
    keys: &[(&str, &str)],
) -> String {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a port");
    let port = listener.local_addr().expect("bound").port().to_string();
    let offer = format!("* CAPABILITY {offer}\r\nTAG OK done\r\n");
    let server = thread::spawn(move || {
        let (mut stream, _) = listener.accept().expect("a connection");
        stream.write_all(greeting.as_bytes()).expect("sent");
        for line in BufReader::new(stream.try_clone().expect("a handle")).lines() {
            let Ok(line) = line else { return };
            let (tag, command) = line.split_once(' ').unwrap_or_default();
            let said = match command.split(' ').next() {
                Some("CAPABILITY") => &offer,
                Some("AUTHENTICATE") => answer,
                _ => "TAG BAD what\r\n",
            };
            if stream.write_all(said.replace("TAG", tag).as_bytes()).is_err() {
                return;
            }
        }
    });
    let least = [
        ("host", "127.0.0.1"),
        ("port", port.as_str()),
        ("security", "none"),
        ("username", "anna"),
        ("password_command", "echo secret"),
    ];
    let set = |(key, value): &(&str, &str)| ((*key).to_owned(), (*value).to_owned());
    // The first value of a key counts.
    let options = keys.iter().chain(&least).map(set).collect();
    let spec = ProviderSpec { options, ..ProviderSpec::new("imap") };
    let dialer = Dialer::new(Settings::of(&spec).expect("settings"));
    let error = dialer.dial(|_| {}).expect_err("it fails").message;
    server.join().expect("it has served");
    error.replace(&format!("127.0.0.1:{port}"), "SERVER")
}

#[test]
fn a_refused_logon_says_why() {
    let refused = |answer| error(READY, OFFER, answer, &[]);
    let cases = [
        (
            "TAG NO [AUTHENTICATIONFAILED] no\r\n",
            "SERVER does not log on anna, because the user name or the password is wrong: no",
        ),
        (
            "TAG NO [AUTHORIZATIONFAILED] no\r\n",
            "SERVER does not log on anna, because this user may not use the account: no",
        ),
        (
            "TAG NO [EXPIRED] no\r\n",
            "SERVER does not log on anna, because the password has expired: no",
        ),
        (
            "TAG NO [PRIVACYREQUIRED] no\r\n",
            "SERVER does not log on anna, because it wants TLS: no",
        ),
        (
            "TAG NO [CONTACTADMIN] no\r\n",
            "SERVER does not log on anna, until its operator has been asked: no",
        ),
        ("TAG NO IMAP is disabled\r\n", "SERVER does not log on anna: IMAP is disabled"),
        ("TAG NO [UNAVAILABLE] busy\r\n", "SERVER logs nobody on now: busy"),
    ];
    for (answer, words) in cases {
        assert_eq!(refused(answer), words);
    }
}

#[test]
fn a_server_that_cannot_be_used_says_why() {
    let cases = [
        ("+OK POP3 ready\r\n", OFFER, "SERVER does not speak IMAP there; check host and port"),
        ("220 mail ESMTP\r\n", OFFER, "SERVER does not speak IMAP there; check host and port"),
        ("* BYE full\r\n", OFFER, "SERVER is not ready: full"),
        (READY, "IMAP2 AUTH=PLAIN", "SERVER is too old: it does not offer IMAP4rev1"),
        (
            READY,
            "IMAP4rev1 LOGINDISABLED",
            "SERVER logs nobody on with a password here; take security = \"tls\" or \"starttls\"",
        ),
        (
            READY,
            "IMAP4rev1 LOGINDISABLED AUTH=XOAUTH2",
            "SERVER takes no password; take `auth` = \"xoauth2\" or \"oauthbearer\", and an access token as the password",
        ),
    ];
    for (greeting, offer, words) in cases {
        assert_eq!(error(greeting, offer, "TAG BAD what\r\n", &[]), words);
    }
    let error = error(READY, OFFER, "", &[("security", "starttls")]);
    assert!(error.starts_with("SERVER offers no STARTTLS"), "{error}");
}

#[test]
fn silence_may_wait_for_tls() {
    let error = error("", OFFER, "", &[("security", "starttls"), ("timeout", "20")]);
    let words =
        "SERVER did not answer in time; if this port takes TLS alone, take security = \"tls\"";
    assert_eq!(error, words);
}
