//! Who mail is from, at a server that takes mail of its users alone.

use crate::harness::{Home, Ran, run};
use crate::servers::{Act, Scripted, Talk};

/// A server that takes mail of these senders only.
pub(crate) fn picky(senders: &'static [&'static str]) -> Scripted {
    Scripted::start(move |verb, line| {
        let is_known = || senders.iter().any(|sender| line.contains(&format!("<{sender}>")));
        let refused = "553 5.7.1 sender address rejected: not owned by user\r\n".to_owned();
        (verb == "MAIL" && !is_known()).then_some(Act::Say(refused))
    })
}

/// The section of a transport to it.
pub(crate) fn to(server: &Scripted, name: &str, keys: &str) -> String {
    format!(
        "[[transport]]\nname = \"{name}\"\nkind = \"smtp\"\nhost = \"127.0.0.1\"\nport = {}\n\
         security = \"none\"\naccept = [\"*\"]\n{keys}\n",
        server.port()
    )
}

fn sendmail(home: &Home, arguments: &[&str], input: &str) -> Ran {
    let mut words = vec!["sendmail"];
    words.extend(arguments);
    run(home.bare(&words), input)
}

/// Waits until all mail of a home is final, and gives back what a server took.
fn taken(home: &Home, server: &Scripted) -> Vec<Talk> {
    home.rows_until("all is final", |rows| {
        rows.iter().all(|row| row["state"] == "sent" || row["state"] == "bounced")
    });
    server.taken()
}

pub(crate) fn text(talk: &Talk) -> String {
    String::from_utf8(talk.message.clone()).expect("text")
}

pub(crate) fn has(talk: &Talk, line: &str) -> bool {
    text(talk).lines().any(|found| found == line)
}

/// Mail of cron, as cron of Debian, cronie and at hand it over, goes out from an address that the server takes; who wrote it stays.
///
/// design §3.20
#[test]
fn mail_of_cron_is_from_the_account() {
    let debian = "From: root (Cron Daemon)\nTo: root\nSubject: Cron <root@vm> date\nMIME-Version: 1.0\n\
                  Content-Type: text/plain; charset=UTF-8\nContent-Transfer-Encoding: 8bit\n\
                  X-Cron-Env: <LOGNAME=root>\n\nSun Nov 29\n";
    let cronie = "From: \"(Cron Daemon)\" <root>\nTo: root\nSubject: Cron <root@vm> date\n\
                  MIME-Version: 1.0\nContent-Type: text/plain; charset=UTF-8\n\
                  Content-Transfer-Encoding: 8bit\nAuto-Submitted: auto-generated\n\
                  Precedence: bulk\nX-Cron-Env: <MAILTO=root>\n\nSun Nov 29\n";
    let at = "Subject: Output from your job        7\nTo: root\n\nSun Nov 29\n";
    let jobs: [(&[&str], &str, &str); 4] = [
        (&["-i", "-FCronDaemon", "-B8BITMIME", "-oem", "root"], debian, "From: ID (Cron Daemon)"),
        (
            &["-FCronDaemon", "-i", "-odi", "-oem", "-oi", "-t", "-f", "root"],
            cronie,
            "From: \"(Cron Daemon)\" <ID>",
        ),
        (&["-i", "root"], at, "From: anna@example.org"),
        (&["-oi", "-f", "root@localhost", "-t"], debian, "From: ID (Cron Daemon)"),
    ];
    let rules = [
        ("rewrite_from = \"always\"", "anna@example.org"),
        ("domain = \"example.net\"", "root@example.net"),
        ("rewrite_from = \"unqualified\"\ndomain = \"example.net\"", "root@example.net"),
    ];
    for (rule, id) in rules {
        let home = Home::new();
        let server = picky(&["anna@example.org", "root@example.net"]);
        let profile = format!(
            "identity = \"anna@example.org\"\n{}[mail]\n{rule}\n[aliases]\nroot = \"anna@example.org\"\n",
            to(&server, "relay", "")
        );
        home.profile("default", &profile);
        let _broker = home.serve();
        for (arguments, input, _) in &jobs {
            sendmail(&home, arguments, input).ok();
        }
        let mut all = taken(&home, &server);
        assert_eq!(all.len(), jobs.len(), "{rule}: {all:?}");
        for (_, input, from) in &jobs {
            let is_it = |talk: &Talk| {
                let from = has(talk, &from.replace("ID", id));
                from && input.lines().filter(|l| l.starts_with("Subject")).all(|l| has(talk, l))
            };
            let talk =
                all.remove(all.iter().position(is_it).unwrap_or_else(|| panic!("{from}: {all:?}")));
            // Without -f, and without a From, a message is from the profile's user.
            let sender = talk.mail.split(['<', '>']).nth(1).expect("an address");
            assert!(sender == id || sender == "anna@example.org", "{}", talk.mail);
            assert_eq!(talk.recipients, ["anna@example.org"]);
            let kept = text(&talk).contains("X-Original-From:");
            assert_eq!(kept, input.contains("From:"), "{}", text(&talk));
        }
    }
}

/// An author of elsewhere can still be answered; one who is the account's stays; what is signed is not touched; nobody writes to the
/// null sender.
///
/// design §3.20
#[test]
fn who_wrote_it_can_be_answered() {
    let home = Home::new();
    let server = picky(&["anna@example.org", "team@work.example", ""]);
    let section = to(&server, "relay", "senders = [\"anna@example.org\", \"*@work.example\"]\n");
    let other = to(&server, "rest", "");
    home.profile(
        "default",
        &format!(
            "identity = \"anna@example.org\"\n{section}{other}[mail]\nrewrite_from = \"always\"\n"
        ),
    );
    let _broker = home.serve();
    let send = |from: &str, extra: &str, subject: &str, envelope: &str| {
        let message = format!(
            "From: {from}\nSender: {from}\nTo: bo@far.test\nSubject: {subject}\n{extra}\nx\n"
        );
        sendmail(&home, &["-t", "-f", envelope], &message).ok();
    };
    send("Web <www@shop.example>", "", "plain", "www@shop.example");
    send("Web <www@shop.example>", "Reply-To: help@shop.example\n", "answered", "www@shop.example");
    send("Web <www@shop.example>", "DKIM-Signature: v=1\n", "signed", "www@shop.example");
    send("Team <team@work.example>", "", "own", "team@work.example");
    send("Web <www@shop.example>", "", "notice", "");
    let all = taken(&home, &server);
    let of = |subject: &str| {
        let line = format!("Subject: {subject}");
        all.iter().find(|talk| has(talk, &line)).unwrap_or_else(|| panic!("{subject}: {all:?}"))
    };
    let mail = |subject: &str| {
        of(subject).mail.split(['<', '>']).nth(1).map(str::to_owned).unwrap_or_default()
    };
    let lines = |subject: &str, wanted: &[&str]| {
        for line in wanted {
            assert!(has(of(subject), line), "{subject}: {line} is not in\n{}", text(of(subject)));
        }
    };
    let from = ["From: Web <anna@example.org>", "Sender: Web <anna@example.org>"];
    lines("plain", &[&from[..], &["Reply-To: Web <www@shop.example>"]].concat());
    lines(
        "answered",
        &[&from[..], &["X-Original-From: Web <www@shop.example>", "Reply-To: help@shop.example"]]
            .concat(),
    );
    lines("signed", &["From: Web <www@shop.example>"]);
    lines("own", &["From: Team <team@work.example>"]);
    lines("notice", &from);
    assert_eq!(mail("own"), "team@work.example");
    assert_eq!(mail("notice"), "");
    assert!(["plain", "answered", "signed"].iter().all(|s| mail(s) == "anna@example.org"));
}

/// The author chooses the account, then its name does, and a crash forgets neither.
///
/// design §3.20
#[test]
fn the_author_chooses_the_account() {
    let home = Home::new();
    let later =
        |verb: &str, _: &str| (verb == "MAIL").then(|| Act::Say("451 4.3.0 later\r\n".to_owned()));
    let (work, rest) = (Scripted::start(later), Scripted::start(later));
    let profile = |senders: &str| {
        format!(
            "identity = \"anna@home.example\"\n{}{}[queue]\nretry_min = \"100ms\"\nretry_max = \"200ms\"\n",
            to(&work, "work", senders),
            to(&rest, "home", "")
        )
    };
    home.profile(
        "default",
        &profile("senders = [\"*@work.example\"]\nidentity = \"anna@work.example\""),
    );
    let broker = home.serve();
    let message = |subject: &str, from: &str| {
        format!("From: Anna <{from}>\nTo: bo@far.test\nSubject: {subject}\n\nx\n")
    };
    home.run_with(&["send"], &message("one", "anna@work.example")).ok();
    home.run_with(&["send"], &message("two", "anna@home.example")).ok();
    sendmail(&home, &["-t", "-f", "anna@work.example"], &message("three", "anna@home.example"))
        .ok();
    drop(broker);
    let broker = home.serve();
    work.heal();
    rest.heal();
    home.run_with(
        &["send", "--account", "home", "--from", "anna@home.example"],
        &message("four", "anna@work.example"),
    )
    .ok();
    sendmail(
        &home,
        &["-a", "work", "-t", "-f", "anna@work.example"],
        &message("five", "anna@home.example"),
    )
    .ok();
    let dialogue = "EHLO x\r\nMAIL FROM:<anna@home.example>\r\nRCPT TO:<bo@far.test>\r\nDATA\r\nSubject: six\r\n\r\nx\r\n.\r\nQUIT\r\n";
    sendmail(&home, &["-bs", "-a", "work"], dialogue).ok();
    let refused =
        home.run_with(&["send", "--account", "none"], &message("six", "anna@work.example"));
    assert!(
        refused.errors.contains("\"none\"") && refused.errors.contains("work, home"),
        "{refused:?}"
    );
    let subjects = |server: &Scripted| {
        let mut found: Vec<_> = taken(&home, server)
            .iter()
            .filter_map(|talk| {
                Some(text(talk).lines().find_map(|l| l.strip_prefix("Subject: "))?.to_owned())
            })
            .collect();
        found.sort();
        found
    };
    let told = |words: &'static str| {
        move |line: &serde_json::Value| {
            line["event"] == "delivery"
                && line["message"].as_str().is_some_and(|m| m.contains(words))
        }
    };
    broker.log_line("it was sent", told("to=<bo@far.test>, relay=work, delay="));
    broker.log_line("with the server's words", told("dsn=2.0.0, status=sent (250 taken)"));
    assert_eq!(subjects(&work), ["five", "one", "six"]);
    assert_eq!(subjects(&rest), ["four", "three", "two"]);
    drop(broker);
    // All transports are for others: it is refused, and says what to do.
    home.profile(
        "default",
        &profile("senders = [\"*@work.example\"]")
            .replace("[queue]", "senders = [\"*@home.example\"]\n[queue]"),
    );
    let _broker = home.serve();
    let refused = home.run_with(&["send"], &message("seven", "bo@shop.example"));
    for words in ["bo@shop.example", "`senders`", "--account", "nothing was stored"] {
        assert!(refused.errors.contains(words), "{refused:?}");
    }
}
