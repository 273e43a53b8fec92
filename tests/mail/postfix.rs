//! A real mail server: recipients of which it takes some only, sizes, characters beyond ASCII.

use serde_json::Value;

use crate::harness::{Home, Shell};
use crate::servers::Postfix;

/// The states and replies of an entry's recipients, by their addresses.
fn recipient<'a>(row: &'a Value, address: &str) -> (&'a str, &'a str) {
    let rows = row["recipients"].as_array().expect("rows");
    let found = rows.iter().find(|row| row["address"] == address);
    let found = found.unwrap_or_else(|| panic!("no {address}: {row:#}"));
    (found["state"].as_str().expect("text"), found["reply"].as_str().unwrap_or_default())
}

fn is_final(row: &Value) -> bool {
    let rows = row["recipients"].as_array().expect("rows");
    rows.iter().all(|row| row["state"] == "sent" || row["state"] == "bounced")
}

fn submit(home: &Home, shell: &mut Shell, to: &str, subject: &str) -> String {
    let text = format!("From: me@home.test\nTo: {to}\nSubject: {subject}\n\nThis is {subject}.\n");
    shell.submit(1, &home.write(&format!("{subject}.eml"), text))
}

/// One unknown user among others: that one fails and is the only one in the notice, the others have the mail once.
///
/// QUEUE-14, design §3.18
#[test]
fn one_unknown_user_keeps_mail_from_nobody_else() {
    if !Postfix::installed() {
        return;
    }
    let (home, postfix) = (Home::new(), Postfix::start(""));
    home.sends_to(postfix.port(), "");
    let broker = home.serve();
    let mut shell = home.shell();
    shell.ok("logon");
    let entry = submit(&home, &mut shell, "user1@test, nobody@test, user2@test", "for-some");
    let row = home.entry_with(&entry, "the end", is_final);
    assert_eq!(recipient(&row, "user1@test").0, "sent");
    assert_eq!(recipient(&row, "user2@test").0, "sent");
    let (state, reply) = recipient(&row, "nobody@test");
    assert_eq!(state, "bounced");
    assert!(reply.contains("5.1.1") && reply.contains("unknown"), "{reply}");
    postfix.log(2, "status=sent");
    for user in ["user1", "user2"] {
        assert_eq!(postfix.mailbox(user).only().field("Subject"), ["for-some"]);
    }
    let notices = shell.notices(1);
    assert_eq!(notices.len(), 1, "{notices:?}");
    let fields = |name: &str| -> Vec<&str> {
        notices[0].lines().filter_map(|line| line.strip_prefix(name)).map(str::trim).collect()
    };
    assert_eq!(fields("Final-Recipient:"), ["rfc822; nobody@test"]);
    assert_eq!(fields("Action:"), ["failed"]);
    assert_eq!(fields("Status:"), ["5.1.1"]);
    assert!(fields("Diagnostic-Code:")[0].starts_with("smtp; 550"), "{}", notices[0]);
    drop(broker);
}

/// A recipient that is greylisted waits alone: it gets the mail later, and nobody gets it twice.
///
/// QUEUE-14, design §3.18
#[test]
fn who_was_accepted_is_not_tried_again_with_who_waits() {
    if !Postfix::installed() {
        return;
    }
    let settings =
        "smtpd_recipient_restrictions = check_recipient_access texthash:DIR/etc/access\n";
    let (home, mut postfix) = (Home::new(), Postfix::start(settings));
    postfix.write("etc/access", "user2@test 450 4.2.0 greylisted for a while\n");
    home.sends_to(postfix.port(), "");
    let broker = home.serve();
    let mut shell = home.shell();
    shell.ok("logon");
    let entry = submit(&home, &mut shell, "user1@test, user2@test, user3@test", "in-two-parts");
    let row = home.entry_with(&entry, "the others", |row| {
        recipient(row, "user2@test").1.contains("greylisted")
            && recipient(row, "user1@test").0 == "sent"
            && row["attempts"].as_u64() > Some(1)
    });
    assert_eq!(recipient(&row, "user3@test").0, "sent");
    postfix.log(2, "status=sent");
    postfix.write("etc/access", "user9@test REJECT\n");
    postfix.restart();
    home.run(&["queue", "flush"]).ok();
    home.entry_until(&entry, "sent");
    postfix.log(1, "status=sent");
    for user in ["user1", "user2", "user3"] {
        assert_eq!(postfix.mailbox(user).only().field("Subject"), ["in-two-parts"]);
    }
    assert!(shell.notices(1).is_empty());
    drop(broker);
}

/// A message above the size that the server announces is given up at once, without being sent there first; the notice
/// says why.
///
/// design §3.18
#[test]
fn what_is_too_large_for_the_server_bounces() {
    if !Postfix::installed() {
        return;
    }
    let (home, postfix) = (Home::new(), Postfix::start("message_size_limit = 20000\n"));
    home.sends_to(postfix.port(), "");
    let broker = home.serve();
    let mut shell = home.shell();
    shell.ok("logon");
    let line = "0123456789012345678901234567890123456789\n";
    let text = format!("To: user1@test\nSubject: large\n\n{}", line.repeat(1000));
    let large = shell.submit(1, &home.write("large.eml", text));
    let small = submit(&home, &mut shell, "user1@test", "small");
    home.entry_until(&large, "bounced");
    home.entry_until(&small, "sent");
    postfix.log(1, "status=sent");
    assert_eq!(postfix.mailbox("user1").only().field("Subject"), ["small"]);
    let notices = shell.notices(1);
    assert_eq!(notices.len(), 1);
    assert!(
        notices[0].contains("\nStatus: 5.3.4") && notices[0].contains("20000"),
        "{}",
        notices[0]
    );
    drop(broker);
}

/// Characters beyond ASCII, in the body, in the head and in addresses, arrive as they are.
///
/// design §3.20
#[test]
fn characters_beyond_ascii_arrive() {
    if !Postfix::installed() {
        return;
    }
    let (home, postfix) = (Home::new(), Postfix::start("smtputf8_enable = yes\n"));
    home.sends_to(postfix.port(), "");
    let broker = home.serve();
    let mut shell = home.shell();
    shell.ok("logon");
    let text = "From: me@home.test\nTo: \u{fc}ser@test\nSubject: Gr\u{fc}\u{df}e\n\n\u{20ac} und \u{1f4ec}\n";
    let entry = shell.submit(1, &home.write("utf8.eml", text));
    home.entry_until(&entry, "sent");
    postfix.log(1, "status=sent");
    let delivered = postfix.mailbox("utf8").only();
    assert_eq!(delivered.field("Subject"), ["Gr\u{fc}\u{df}e"]);
    assert!(delivered.text.ends_with("\n\u{20ac} und \u{1f4ec}\n"), "{delivered:?}");
    drop(broker);
}

/// A server without SMTPUTF8 cannot have such an address: it is given up, and says so; a plain address beside it gets the
/// mail.
///
/// design §3.18
#[test]
fn an_address_that_the_server_cannot_read_bounces() {
    if !Postfix::installed() {
        return;
    }
    let (home, postfix) = (Home::new(), Postfix::start("smtputf8_enable = no\n"));
    home.sends_to(postfix.port(), "");
    let broker = home.serve();
    let mut shell = home.shell();
    shell.ok("logon");
    let entry = submit(&home, &mut shell, "\u{fc}ser@test, user1@test", "plain");
    let row = home.entry_with(&entry, "the end", is_final);
    let (state, reply) = recipient(&row, "\u{fc}ser@test");
    assert!(state == "bounced" && reply.contains("SMTPUTF8"), "{row:#}");
    assert_eq!(recipient(&row, "user1@test").0, "sent");
    postfix.log(1, "status=sent");
    assert_eq!(postfix.mailbox("user1").only().field("Subject"), ["plain"]);
    assert_eq!(shell.notices(1).len(), 1);
    drop(broker);
}
