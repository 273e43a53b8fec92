//! LMTP to a real server, which puts mail into mailboxes: Dovecot.

use crate::harness::Home;
use crate::servers::Dovecot;

/// One message to several users, by the server's socket and by its port: each has the server's answer for it, be it at RCPT or behind
/// the message.
///
/// design §3.20
#[test]
fn dovecot_answers_for_each_recipient() {
    if !Dovecot::installed() {
        return;
    }
    let dovecot = Dovecot::start();
    let places = [
        format!("path = \"{}\"", dovecot.socket().display()),
        format!("host = \"127.0.0.1\"\nport = {}", dovecot.port()),
    ];
    for (place, round) in places.iter().zip(1..) {
        let home = Home::new();
        let retries = crate::queue::RETRIES;
        let transport =
            format!("[[transport]]\nkind = \"lmtp\"\n{place}\naccept = [\"here.test\"]\n");
        home.profile("default", &format!("{transport}{retries}"));
        let _broker = home.serve();
        let names = ["anna", "full", "nobody", "bo"];
        let to = names.map(|name| format!("{name}@here.test")).join(", ");
        let message =
            format!("From: me@home.test\nTo: {to}\nSubject: round {round}\n\n.\nGr\u{fc}\u{df}e\n");
        let entry = home.run_with(&["send"], &message).ok().output;
        let entry = entry.split_whitespace().next().expect("an entry").to_owned();
        let row = home.entry_until(&entry, "bounced");
        let of = |name: &str| {
            let all = row["recipients"].as_array().expect("recipients");
            let address = format!("{name}@here.test");
            let found = all.iter().find(|r| r["address"] == address.as_str());
            let found = found.unwrap_or_else(|| panic!("{name}: {row:#}"));
            let reply = found["reply"].as_str().unwrap_or_default().to_owned();
            (found["state"].as_str().expect("a state").to_owned(), reply)
        };
        for (name, state, words) in [
            ("anna", "sent", "250 2.0.0 <anna@here.test>"),
            ("bo", "sent", "250 2.0.0 <bo@here.test>"),
            ("full", "bounced", "552 5.2.2 <full@here.test> Quota exceeded"),
            ("nobody", "bounced", "550 5.1.1 <nobody@here.test> User doesn't exist"),
        ] {
            let (found, reply) = of(name);
            assert_eq!(found, state, "{name}: {row:#}");
            assert!(reply.contains(words), "{name}: {reply}");
        }
        for name in ["anna", "bo"] {
            let delivered = dovecot.maildir(name).messages();
            assert_eq!(delivered.len(), round, "{name}");
            let subject = format!("round {round}");
            let found = delivered.iter().find(|one| one.field("subject") == [subject.as_str()]);
            let found = found.expect("it is there");
            assert_eq!(found.field("return-path"), ["<me@home.test>"], "{}", found.text);
            assert!(found.text.ends_with("\n\n.\nGr\u{fc}\u{df}e\n"), "{}", found.text);
        }
        assert_eq!(dovecot.maildir("full").count(), 0);
    }
}
