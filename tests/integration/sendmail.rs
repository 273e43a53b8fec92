//! `sundown sendmail` as programs call it: by its name, with its flags, and with nothing but its exit status to go by.

use std::ffi::OsStr;
use std::fs::{self, File};
use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{Child, ChildStdin, Command, Stdio};

use serde_json::json;

use crate::harness::{Broker, Home, Lines, Maildir, Ran, binary, run, signal, wait_for_end};

impl Home {
    /// This command, by a link with another name.
    fn link(&self, name: &str) -> PathBuf {
        let link = self.path("bin").join(name);
        if !link.exists() {
            fs::create_dir_all(self.path("bin")).expect("made");
            std::os::unix::fs::symlink(binary(), &link).expect("linked");
        }
        link
    }

    /// A program of that name that sees this home's broker and starts none.
    fn called(&self, name: &str, arguments: &[&str]) -> Command {
        let mut command = Command::new(self.link(name));
        command.args(arguments).current_dir(self).env_clear().env("HOME", self.as_ref());
        command.env("SUNDOWN_SOCKET", self.socket()).env("SUNDOWN_NO_AUTOSTART", "1");
        command
    }

    fn sendmail(&self, arguments: &[&str], input: impl AsRef<[u8]>) -> Ran {
        run(self.called("sendmail", arguments), input)
    }

    /// Sends, and returns the only message there is when it has come, as it came.
    fn sends(&self, broker: &Broker, arguments: &[&str], input: impl AsRef<[u8]>) -> Vec<u8> {
        let ran = self.sendmail(arguments, input).ok();
        assert!(ran.output.is_empty() && ran.errors.is_empty(), "{ran:?}");
        broker.until("the message", || self.maildir("default").count() > 0);
        let folder = self.maildir("default").0.join("new");
        let files: Vec<_> = fs::read_dir(folder).expect("a Maildir").flatten().collect();
        assert_eq!(files.len(), 1);
        let message = fs::read(files[0].path()).expect("it can be read");
        fs::remove_file(files[0].path()).expect("removed");
        message
    }

    /// Nothing is in the queue, and nothing was.
    fn stored_nothing(&self) {
        assert_eq!(self.run(&["queue", "list", "--all", "--json"]).ok().json(), json!([]));
    }
}

/// The values of a field of a message.
fn field(message: &[u8], name: &str) -> Vec<String> {
    let text = String::from_utf8_lossy(message).replace("\r\n", "\n");
    let head = text.split("\n\n").next().unwrap_or_default().to_owned();
    let value = |line: &str| {
        let (found, value) = line.split_once(':')?;
        found.eq_ignore_ascii_case(name).then(|| value.trim().to_owned())
    };
    head.lines().filter_map(value).collect()
}

fn ends_with(message: &[u8], body: &[u8]) {
    let shown = String::from_utf8_lossy(&message[message.len().saturating_sub(200)..]);
    assert!(message.ends_with(body), "…{shown:?}");
}

/// Exit status 0 means that the message survives the broker: killed right after it, the next one delivers.
///
/// QUEUE-1, design §3.16
#[test]
fn what_sendmail_takes_survives_the_broker() {
    let home = Home::new();
    for round in 0..3 {
        let mut broker = home.serve();
        for n in 0..3 {
            let text = format!("To: anna@localhost\nSubject: {round}.{n}\n\nhi\n");
            home.sendmail(&["-t", "-oi"], text).ok();
        }
        broker.kill();
    }
    let broker = home.serve();
    broker.until("all of them", || home.maildir("default").count() == 9);
    let subjects = home.maildir("default").tally("Subject");
    assert!(subjects.len() == 9 && subjects.values().all(|n| *n == 1), "{subjects:?}");
}

/// Recipients of the command line alone; with `-t` those of the head too; of a resent message only to whom it was resent.
/// The same by `sundown sendmail`, with the command's options in front of it.
///
/// design §3.20, §8
#[test]
fn recipients_are_those_of_the_command_line_and_with_t_of_the_head() {
    let home = Home::new();
    let broker = home.serve();
    let text = "From: Me <me@localhost>\nTo: \"B, o\" <bo@localhost>, team: cleo, dora (D)@localhost;\nBcc: eve\n\nhi\n";
    let to = |message: &[u8]| field(message, "Delivered-To").join(" ");
    let message = home.sends(&broker, &["anna@localhost", "-i", "Fred <fred>"], text);
    assert_eq!(to(&message), "anna@localhost fred");
    assert_eq!(field(&message, "From"), ["Me <me@localhost>"]);
    assert!(field(&message, "Bcc").is_empty());
    let message = home.sends(&broker, &["-ti", "anna", "bo@localhost"], text);
    assert_eq!(to(&message), "bo@localhost cleo dora@localhost eve anna");
    let message = home.sends(&broker, &["-t"], format!("Resent-To: gil\n{text}"));
    assert_eq!(to(&message), "gil");
    let mut command = home.bare(&["--no-autostart", "--socket"]);
    command.arg(home.socket()).args(["sendmail", "--", "anna"]);
    run(command, text).ok();
    broker.until("the message", || home.maildir("default").count() == 1);
}

/// `-f` names the envelope's sender, also the empty one; `-F` makes a From where there is none. Without them the broker does
/// what it always does.
///
/// design §8
#[test]
fn senders_are_named_or_made_up() {
    let home = Home::new();
    let broker = home.serve();
    let from = |arguments: &[&str], text: &str| {
        let message = home.sends(&broker, &[arguments, &["anna"]].concat(), text);
        assert_eq!(field(&message, "Date").len(), 1);
        (field(&message, "Return-Path").join(" "), field(&message, "From").join(" "))
    };
    let pair = |path: &str, from: &str| (path.to_owned(), from.to_owned());
    assert_eq!(from(&["-fbo@x.org"], "hi\n"), pair("<bo@x.org>", "bo@x.org"));
    assert_eq!(from(&["-f", "<>"], "From: me\n\nhi\n"), pair("<>", "me"));
    let (path, own) = from(&[], "Subject: s\n\nhi\n");
    assert_eq!(path, format!("<{own}>"));
    for nobody in ["", "<>"] {
        assert_eq!(from(&["-f", nobody], "hi\n"), pair("<>", &own));
        assert_eq!(from(&["-f", nobody], "Subject: s\n\nhi\n"), pair("<>", &own));
    }
    // A From is what people see, and not who is written to when a message fails.
    assert_eq!(from(&[], "From: Cleo <cleo@x.org>\n\nhi\n"), (path, "Cleo <cleo@x.org>".into()));
    let named = from(&["-F", "Bo \"B\" Ü", "-f", "bo@x.org"], "hi\n");
    assert_eq!(named, pair("<bo@x.org>", "=?utf-8?q?Bo_=22B=22_=C3=9C?= <bo@x.org>"));
    let named = from(&["-FBo", "-f", ""], "hi\n");
    assert_eq!(named, pair("<>", &format!("\"Bo\" <{own}>")));
    assert_eq!(from(&["-FBo"], "From: cleo@x.org\n\nhi\n").1, "cleo@x.org");
}

/// Recipients whose domains are the same one are one recipient, as it was written first. A mailbox is another one in another case.
#[test]
fn spellings_of_a_recipient_are_one() {
    let home = Home::new();
    home.profile(
        "default",
        "[[transport]]\nkind = \"maildir\"\naccept = [\"m\u{fc}ller.example\"]\n",
    );
    let broker = home.serve();
    let to = [
        "a@M\u{dc}LLER.Example",
        "a@xn--mller-kva.example.",
        "a@m\u{fc}ller.example",
        "A@m\u{fc}ller.example",
    ];
    home.sendmail(&to, "hi\n").ok();
    let mail = home.maildir("default");
    broker.until("the message", || mail.count() == 1);
    assert_eq!(mail.only().field("Delivered-To"), [to[0], to[3]]);
}

/// A message by SMTP whose sender is nobody has an author, too.
#[test]
fn a_dialogue_without_a_sender_has_an_author() {
    let home = Home::new();
    let broker = home.serve();
    let dialogue = "HELO me\r\nMAIL FROM:<>\r\nRCPT TO:<anna>\r\nDATA\r\nReturn-Path: <x@y>\r\n\r\nhi\r\n.\r\nQUIT\r\n";
    home.sendmail(&["-bs"], dialogue).ok();
    broker.until("the message", || home.maildir("default").count() == 1);
    let message = home.maildir("default").only();
    assert_eq!(message.field("From").len(), 1);
    assert_eq!(message.field("Return-Path"), ["<>"]);
}

/// The first line that is no field is the first line of the text: nobody named behind it gets the message, nothing there is
/// cut, and what goes out has an empty line in front of it. Only a server that delivers writes a Return-Path.
///
/// design §3.20
#[test]
fn a_forgotten_empty_line_ends_the_head() {
    let home = Home::new();
    let broker = home.serve();
    let text = "Return-Path: <x@y>\nTo: anna\nBcc: eve\nreturn-path : <a@b>\n folded\nSubject: minutes\n\
                Hello all, as agreed:\nCc: boss\nBcc: audit\nReturn-Path: text\nBye\n";
    let message = home.sends(&broker, &["-t"], text);
    assert_eq!(field(&message, "Delivered-To"), ["anna", "eve"]);
    assert_eq!(field(&message, "Return-Path").len(), 1);
    let head = String::from_utf8_lossy(&message).into_owned();
    assert!(!head.contains("eve\n\nHello") && !head.contains("x@y") && !head.contains("a@b"));
    ends_with(&message, b"To: anna\nSubject: minutes\n\nHello all, as agreed:\nCc: boss\nBcc: audit\nReturn-Path: text\nBye\n");
    let sent = home.run_with(&["send", "--wait=60", "--json"], text).ok().json();
    assert_eq!(sent["state"], "sent");
    let message = home.maildir("default").only();
    assert_eq!(message.field("Delivered-To"), ["anna", "eve"]);
    assert_eq!(message.field("Return-Path").len(), 1);
}

/// An address in front of a colon is no name of a group: it is refused by name, and nobody gets the message.
///
/// design §3.20
#[test]
fn an_address_is_no_name_of_a_group() {
    let home = Home::new();
    let _broker = home.serve();
    let ran = home.sendmail(&["-t"], "To: a@x.y Bcc: b@x.y\nSubject: x\n\nx\n").exits(65);
    assert!(ran.errors.contains("a@x.y Bcc: b@x.y"), "{ran:?}");
    assert!(ran.errors.contains("a colon stands behind an address"), "{ran:?}");
    let ran = home.run_with(&["send", "--to", "c@x.y\nBcc: d@x.y"], "x\n").exits(1);
    assert!(ran.errors.contains("a colon stands behind an address"), "{ran:?}");
    home.stored_nothing();
}

/// A dot alone ends a message, unless `-i` says that it does not. A mailbox's `From ` line is not part of it.
///
/// design §8
#[test]
fn a_dot_ends_a_message_unless_it_does_not() {
    let home = Home::new();
    let broker = home.serve();
    let text = "From anna Sun Nov 22 02:52:15 2026\nSubject: s\n\none\n..\n.\ntwo\n";
    ends_with(&home.sends(&broker, &["anna"], text), b"\n\none\n..\n");
    for flag in ["-i", "-oi"] {
        let message = home.sends(&broker, &[flag, "anna"], text);
        ends_with(&message, b"\n\none\n..\n.\ntwo\n");
        assert_eq!(field(&message, "Subject"), ["s"]);
    }
    // Whoever ends with a dot need not close its side.
    let mut child =
        home.called("sendmail", &["anna"]).stdin(Stdio::piped()).spawn().expect("starts");
    let mut input = child.stdin.take().expect("a pipe");
    input.write_all(b"hi\n.\n").expect("it reads");
    assert!(wait_for_end(&mut child).success());
    drop(input);
}

/// Bytes are handed on as they are: NUL, what is no UTF-8, a line of a megabyte, no head, nothing at all.
///
/// design §8
#[test]
fn any_bytes_are_a_message() {
    let home = Home::new();
    let broker = home.serve();
    let long = vec![b'x'; 1 << 20];
    let bodies: [&[u8]; 6] = [
        b"Subject: nul\n\na\0b\0\n",
        b"Subject: \xff\xfe\n\n\xff\xc3\x28\n",
        &[b"Subject: s\n\n", &long[..], b"\n"].concat(),
        &[b"Subject: ", &long[..], b"\nX: y\n\nbody\n"].concat(),
        b"no head at all\n\nhere\n",
        b"",
    ];
    for body in bodies {
        ends_with(&home.sends(&broker, &["-i", "anna"], body), body);
        let head = [b"To: bo\n", body].concat();
        let message = home.sends(&broker, &["-it"], &head);
        assert_eq!(field(&message, "Delivered-To"), ["bo"]);
    }
}

/// The recipients that `-t` takes from a Bcc are those that the transport hides: both see the same head, however odd it is.
///
/// design §8
#[test]
fn a_bcc_is_taken_and_hidden_or_neither() {
    let home = Home::new();
    let broker = home.serve();
    let (long, blanks) = ("x".repeat(999), " ".repeat(5000));
    let heads = [
        ("Bcc: secret".to_owned(), &["secret"][..], 0),
        ("To: bo\r\nBCC\t: secret\r\n\r\nhi\r\n".to_owned(), &["bo", "secret"], 0),
        ("To: bo\nBcc:\n secret\nodd\n folded\n\nhi\n".to_owned(), &["bo", "secret"], 0),
        ("Bcc: secret\nodd\nTo: bo\n\nhi\n".to_owned(), &["secret"], 0),
        (format!("To: bo\nBcc{blanks}: secret\n\nhi\n"), &["bo", "secret"], 0),
        ("Subject: s\rBcc: secret\nTo: bo\n\nhi\n".to_owned(), &["bo"], 0),
        // What stands behind a line that is no field is text.
        (format!("To: bo\n{long}: 1\nBcc: secret\n\nhi\n"), &["bo"], 1),
        ("To: bo\nodd\nBcc: secret\n\nhi\n".to_owned(), &["bo"], 1),
        ("To: bo\n\rBcc: secret\n\nhi\n".to_owned(), &["bo"], 1),
        (format!("{long}: 1\nBcc: secret\n\nhi\n"), &[], 1),
        ("odd\nBcc: secret\n\nhi\n".to_owned(), &[], 1),
    ];
    for (text, named, in_text) in heads {
        let message = home.sends(&broker, &["-it", "anna"], &text);
        let mut told = field(&message, "Delivered-To");
        told.sort();
        assert_eq!(told, [&["anna"], named].concat(), "{text:.60?}");
        let head = message.split(|b| matches!(b, b'\r' | b'\n'));
        let mut head = head.skip_while(|line| line.is_empty()).take_while(|line| !line.is_empty());
        assert!(!head.any(|line| line.to_ascii_lowercase().starts_with(b"bcc")), "{text:.60?}");
        let text = String::from_utf8_lossy(&message);
        let shown = text.lines().filter(|line| line.contains("secret"));
        let shown = shown.filter(|line| !line.starts_with("Delivered-To: ")).count();
        assert_eq!(shown, in_text, "{text:.60?}");
    }
}

/// Twenty megabytes are taken; so are ten thousand recipients, and not one more.
///
/// design §8
#[test]
fn large_messages_are_taken() {
    let home = Home::new();
    let broker = home.serve();
    let body =
        b"0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcde\n".repeat(20 << 14);
    let message = home.sends(&broker, &["-i", "anna"], [b"Subject: s\n\n", &body[..]].concat());
    assert!(message.len() > 20 << 20 && message.ends_with(&body));
    let list = |count: usize| {
        let to: Vec<_> = (0..count).map(|n| format!("user{n}@localhost")).collect();
        format!("Bcc: {}\n\nhi\n", to.join(",\n "))
    };
    let message = home.sends(&broker, &["-ti"], list(10_000));
    assert_eq!(field(&message, "Delivered-To").len(), 10_000);
    for count in [10_001, 200_000] {
        let ran = home.sendmail(&["-ti"], list(count)).exits(65);
        assert!(ran.errors.starts_with("sendmail: ") && !ran.errors.contains('\n'), "{ran:?}");
    }
}

/// Each way to fail has its exit status and one line that says what happened; nothing of it is stored.
///
/// design §3.20, §8
#[test]
fn failures_have_their_exit_statuses() {
    let home = Home::with_settings("[limits]\nmessage = \"10KiB\"\n");
    let broker = home.serve();
    let big = "x".repeat(20 << 10);
    let cases: &[(i32, &[&str], &str, &str)] = &[
        (64, &[], "", "no recipients"),
        (64, &["-t"], "Subject: s\n\nhi\n", "no recipients"),
        (64, &["-t"], "", "no recipients"),
        (64, &["-t", ","], "To: nobody:;\n\n", "no recipients"),
        (64, &["-z", "anna"], "", "no flag -z"),
        (64, &["--nothing"], "", "no flag --nothing"),
        (64, &["-bd"], "", "sundown serve"),
        (64, &["-Nsometimes", "anna"], "", "failure,delay,success"),
        (65, &["a@b@"], "hi\n", "a@b@"),
        (65, &["anna bo"], "hi\n", "anna bo"),
        (65, &["-t"], "To: anna, \"open <a@b>\n\n", "open <a@b>"),
        (65, &["-f", "a b", "anna"], "hi\n", "a b"),
        (65, &["anna"], &big, "limit"),
        (78, &["far@example.org"], "hi\n", "far@example.org"),
    ];
    for (exit, arguments, input, word) in cases {
        let ran = home.sendmail(arguments, input).exits(*exit);
        let line = ran.errors.strip_prefix("sendmail: ").expect("it says who speaks");
        assert!(line.contains(word) && !line.contains('\n') && ran.output.is_empty(), "{ran:?}");
    }
    let mut unknown = home.called("sendmail", &["anna"]);
    unknown.env("SUNDOWN_PROFILE", "nobody");
    assert!(run(unknown, "hi\n").exits(78).errors.contains("nobody"));
    let mut unreadable = home.called("sendmail", &["anna"]);
    unreadable.stdin(File::open("/").expect("there is one"));
    assert_eq!(unreadable.output().expect("it runs").status.code(), Some(74));
    let long = "x".repeat(200);
    let misplaced = home.bare(&["--socket", &long, "sendmail", "anna"]);
    assert!(run(misplaced, "hi\n").exits(78).errors.starts_with("sendmail: "));
    home.stored_nothing();
    drop(broker);
    let ran = home.sendmail(&["anna"], "hi\n").exits(75);
    assert!(ran.errors.contains("no broker runs") && ran.errors.contains("nothing was stored"));
}

/// With `-v` it says what it stored; nothing depends on anybody listening.
///
/// design §8
#[test]
fn nobody_need_listen() {
    let home = Home::new();
    let broker = home.serve();
    let ran = home.sendmail(&["-v", "-Nnever", "anna", "bo@localhost"], "hi\n").ok();
    let rows = home.run(&["queue", "list", "--all", "--json"]).ok().json();
    let entry = rows[0]["entry"].as_str().expect("an entry");
    assert!(ran.errors.contains(&format!("sendmail: {entry} is stored, for anna, bo@localhost")));
    let deaf = |name: &str, arguments: &[&str]| {
        let (reader, writer) = std::io::pipe().expect("a pipe");
        drop(reader);
        let mut command = home.called(name, arguments);
        command.stdin(Stdio::null()).stdout(writer.try_clone().expect("a copy")).stderr(writer);
        let mut child = command.spawn().expect("it starts");
        wait_for_end(&mut child).code()
    };
    assert_eq!(deaf("sendmail", &["-v", "anna"]), Some(0));
    assert_eq!(deaf("mailq", &[]), Some(0));
    assert_eq!(deaf("sendmail", &["-bs"]), Some(0));
    assert_eq!(deaf("sendmail", &["-z"]), Some(64));
    broker.until("both", || home.maildir("default").count() == 2);
}

/// A sender that is killed before its message has ended has stored nothing of it.
///
/// design §8
#[test]
fn half_a_message_is_not_stored() {
    let home = Home::new();
    let mut broker = home.serve();
    for arguments in [&["-t"][..], &["-bs"]] {
        let mut child =
            home.called("sendmail", arguments).stdin(Stdio::piped()).stdout(Stdio::null()).spawn();
        let child = child.as_mut().expect("it starts");
        let mut input = child.stdin.take().expect("a pipe");
        let begin = "MAIL FROM:<>\r\nRCPT TO:<anna>\r\nDATA\r\nTo: anna\r\n\r\n";
        let text = format!("{begin}{}", "and so on\r\n".repeat(100_000));
        // More than the pipe holds: when this returns the other side has read most of it.
        input.write_all(text.as_bytes()).expect("it reads");
        signal(child, rustix::process::Signal::KILL);
        assert!(!wait_for_end(child).success());
    }
    home.stored_nothing();
    broker.terminate();
    let _broker = home.serve();
    home.stored_nothing();
}

/// A dialogue over `-bs`.
struct Dialogue {
    child: Child,
    input: ChildStdin,
    output: Lines,
}

impl Dialogue {
    fn start(mut command: Command) -> Self {
        let mut child =
            command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().expect("it starts");
        let input = child.stdin.take().expect("a pipe");
        let output = Lines::of(child.stdout.take().expect("a pipe"));
        Self { child, input, output }
    }

    /// Says something, and waits for the last of the replies to it.
    fn say(&mut self, text: &str, reply: &str) -> String {
        let from = self.output.count();
        self.input.write_all(text.as_bytes()).expect("it reads");
        self.output.find(reply, from, |line| line.starts_with(reply).then(|| line.to_owned()))
    }
}

impl Drop for Dialogue {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// `-bs`: 250 to a message means that it survives the broker; all messages go through one session; a refused one does not
/// end the dialogue.
///
/// design §3.16, §8
#[test]
fn a_dialogue_hands_messages_over() {
    let home = Home::new();
    let mut broker = home.serve();
    let mut dialogue = Dialogue::start(home.called("sendmail", &["-bs"]));
    dialogue.say("EHLO me\r\n", "250 ENHANCEDSTATUSCODES");
    let message = |n: u32, to: &str| {
        format!(
            "MAIL FROM:<me@localhost> BODY=8BITMIME\r\nRCPT TO:<{to}>\r\nDATA\r\nSubject: {n}\r\n\r\n..\r\n.\r\n"
        )
    };
    for n in 0..3 {
        dialogue.say(&message(n, "anna@localhost"), "250 2.0.0");
        let members = home.status()["sessions"][0]["members"].clone();
        assert_eq!(members.as_array().map(Vec::len), Some(1), "{members}");
        assert_eq!(members[0]["program"], "sendmail");
    }
    let refused = dialogue.say(&message(9, "far@example.org"), "554");
    assert!(refused.starts_with("554 5.3.5 ") && refused.contains("far@example.org"), "{refused}");
    broker.kill();
    let broker = home.serve();
    broker.until("all of them", || home.maildir("default").count() == 3);
    // It finds the next broker by itself.
    dialogue.say(&message(3, "anna@localhost"), "250 2.0.0");
    dialogue.say("QUIT\r\n", "221");
    assert!(wait_for_end(&mut dialogue.child).success());
    broker.until("the last", || home.maildir("default").count() == 4);
    let subjects = home.maildir("default").tally("Subject");
    assert!(subjects.len() == 4 && subjects.values().all(|n| *n == 1), "{subjects:?}");
    for delivered in home.maildir("default").messages() {
        assert!(delivered.text.ends_with("\n\n.\n"), "{delivered:?}");
        assert_eq!(delivered.field("Return-Path"), ["<me@localhost>"]);
    }
    drop(broker);
    let ran = home.sendmail(&["-bs"], "QUIT\r\n").exits(75);
    assert!(ran.output.starts_with("421 4.3.2"), "{ran:?}");
}

/// `mailq` and `-bp` list the queue as Postfix does; `newaliases` says where aliases are, and what is wrong with them.
///
/// design §8
#[test]
fn the_other_names_do_what_they_always_did() {
    let home = Home::new();
    home.profile("default", "[[transport]]\npath = \"blocked\"\n");
    home.write(".local/share/sundown/default/blocked", "");
    let _broker = home.serve();
    assert_eq!(run(home.called("mailq", &[]), "").ok().output, "Mail queue is empty");
    home.sendmail(&["-L", "nightly report", "anna@localhost"], "Subject: stuck\n\nhi\n").ok();
    for (name, arguments) in [("mailq", &[][..]), ("mailq", &["-v"]), ("sendmail", &["-bp"])] {
        let ran = run(home.called(name, arguments), "").ok();
        let lines: Vec<_> = ran.output.lines().collect();
        assert!(lines[0].starts_with("----Queue ID-----"), "{ran:?}");
        assert!(lines.iter().any(|line| line.trim() == "anna@localhost"), "{ran:?}");
        assert_eq!(lines.last(), Some(&"-- 0 Kbytes in 1 Request."), "{ran:?}");
    }
    let mut listing = home.bare(&["--json", "sendmail", "-bp"]);
    listing.env("SUNDOWN_SOCKET", home.socket());
    let listed = run(listing, "").ok().json();
    assert_eq!(listed[0]["to"], json!(["anna@localhost"]));
    for (name, arguments) in [("newaliases", &[][..]), ("sendmail", &["-bi"])] {
        let ran = run(home.called(name, arguments), "").ok();
        assert!(ran.output.contains("has 0 aliases, and reads no file"), "{ran:?}");
    }
    let file = home.write("aliases", "root: anna@example.org\nops: root\n");
    home.profile("default", &format!("[mail]\naliases_file = \"{}\"\n", file.display()));
    let ran = run(home.called("newaliases", &[]), "").ok();
    assert!(
        ran.output.contains(&format!("has 2 aliases, with those of {}", file.display())),
        "{ran:?}"
    );
    home.write("aliases", "a: b\nb: a\nroot: |/bin/true\n");
    let ran = run(home.called("newaliases", &[]), "").exits(78);
    assert!(ran.output.contains("has 3 aliases"), "{ran:?}");
    assert!(ran.errors.contains("in a circle") && ran.errors.contains("programs"), "{ran:?}");
    home.write("aliases", "no alias\n");
    let ran = run(home.called("newaliases", &[]), "").exits(78);
    assert!(ran.errors.contains("line 1") && ran.errors.contains("no alias"), "{ran:?}");
    run(home.called("mailq", &["anna"]), "").exits(64);
    assert!(home.sendmail(&["-bd", "-q15m"], "").exits(64).errors.contains("`sundown serve`"));
}

/// `-q` and `runq` have what is deferred tried at once and wait for nothing; with nothing there they are done. A selection is tried,
/// and nothing else.
///
/// design §8
#[test]
fn a_queue_run_tries_what_waits() {
    let home = Home::new();
    home.profile("default", "[[transport]]\npath = \"blocked\"\n[queue]\nretry_min = \"1h\"\n");
    let blocked = home.write(".local/share/sundown/default/blocked", "");
    let broker = home.serve();
    let runs: [(&str, &[&str]); 5] = [
        ("sendmail", &["-q"]),
        ("sendmail", &["-qf"]),
        ("sendmail", &["-q30m"]),
        ("runq", &[]),
        ("sendmail", &["-qRanna"]),
    ];
    for (name, arguments) in runs {
        let ran = run(home.called(name, arguments), "").ok();
        assert!(ran.output.is_empty() && ran.errors.is_empty(), "{ran:?}");
    }
    let deferred =
        |count: usize| home.status_until("deferred", |s| s["queue"]["deferred"] == count);
    for (number, to) in ["anna", "bo", "cleo", "dora"].into_iter().enumerate() {
        home.sendmail(&["-f", &format!("{to}@from.test"), to], "hi\n").ok();
        deferred(number + 1);
    }
    let rows = home.run(&["queue", "list", "--json"]).ok().json();
    let dora = rows.as_array().expect("rows").iter().find(|row| row["to"] == json!(["dora"]));
    let entry = dora.expect("it is listed")["entry"].as_str().expect("an entry").to_uppercase();
    fs::remove_file(blocked).expect("removed");
    let mail = Maildir(home.data().join("default/blocked"));
    let selections = ["-qRBO", "-qScleo@", &format!("-qI{entry}"), "-q!Rno-such"];
    for (count, selection) in selections.into_iter().enumerate() {
        let ran = home.sendmail(&["-v", selection], "").ok();
        assert_eq!(ran.errors, "sendmail: 1 message is tried now", "{selection}");
        broker.until("the message", || mail.count() == count + 1);
        deferred(3 - count);
    }
}

/// A process for which these files and directories are in the place of others. `None` where the kernel does not let a user
/// have a mount namespace.
fn within(places: &[(PathBuf, &str)], program: impl AsRef<OsStr>) -> Option<Command> {
    let mut command = Command::new("unshare");
    command.args(["--user", "--map-root-user", "--mount", "--"]);
    let allowed =
        Command::new("unshare").args(["--user", "--map-root-user", "--mount", "true"]).output();
    if !allowed.is_ok_and(|ran| ran.status.success()) {
        eprintln!("no mount namespaces here: not tested");
        return None;
    }
    let mounts: String =
        places.iter().map(|_| "mount --bind \"$1\" \"$2\" && shift 2 && ").collect();
    command.args(["sh", "-c", &format!("{mounts} exec \"$@\""), "sh"]);
    for (here, there) in places {
        command.arg(here).arg(there);
    }
    command.arg(program).env_clear().env("PATH", "/usr/bin:/bin");
    Some(command)
}

/// Ends the broker that a job started.
struct StopAtEnd<'a>(&'a Home, PathBuf);

impl Drop for StopAtEnd<'_> {
    fn drop(&mut self) {
        let _ = self.0.bare(&["stop", "--fast", "--socket"]).arg(&self.1).output();
    }
}

/// What is left running after a logout has a runtime directory that is gone, and that only the system can make: a broker is started
/// without one.
///
/// design §8
#[test]
fn mail_is_taken_after_a_logout() {
    let home = Home::new();
    let _stop = StopAtEnd(&home, home.data().join("run/broker.sock"));
    for program in ["sendmail", "sundown"] {
        let places = [(home.path("run"), "/run")];
        let Some(mut command) = within(&places, home.link(program)) else { return };
        command.env("HOME", home.as_ref()).env("XDG_RUNTIME_DIR", "/run/user/0");
        match program {
            "sendmail" => command.arg("anna@localhost"),
            _ => command.args(["send", "--to", "anna@localhost"]),
        };
        run(command, "hi\n").ok();
    }
    assert!(home.data().join("run/broker.sock").exists());
    assert!(!home.path("run/user").exists());
}

/// cron starts jobs with HOME, LOGNAME, PATH and SHELL, service managers with less: a broker is started all the same, and it
/// is the one that the user's settings are for.
///
/// design §8
#[test]
fn jobs_without_an_environment_can_send() {
    for variables in [&["HOME", "LOGNAME", "SHELL"][..], &["LOGNAME"], &[]] {
        let home = Home::new();
        home.profile("default", "[[transport]]\npath = \"inbox\"\naccept = [\"*\"]\n");
        let root = home.as_ref().to_str().expect("text").to_owned();
        fs::create_dir(home.path("empty")).expect("made");
        let passwd = home.write("passwd", format!("job:x:0:0::{root}:/bin/sh\n"));
        let places = [(home.path("empty"), "/run"), (passwd, "/etc/passwd")];
        let Some(mut command) = within(&places, home.link("sendmail")) else { return };
        for variable in variables {
            let value = if *variable == "HOME" { &root } else { "job" };
            command.env(variable, value);
        }
        let _stop = StopAtEnd(&home, home.data().join("run/broker.sock"));
        run(
            {
                command.args(["-t"]);
                command
            },
            "To: anna@example.org\n\nhi\n",
        )
        .ok();
        let mut logoff = home.bare(&["logoff", "--drain=60", "--socket"]);
        run(
            {
                logoff.arg(home.data().join("run/broker.sock"));
                logoff
            },
            "",
        )
        .ok();
        assert_eq!(home.brokers().len(), 1, "{variables:?}");
    }
}

/// Mail goes to the system's broker when there is one, unless another socket is asked for; and to the user's own when the
/// system's is not running.
///
/// design §8
#[test]
fn the_systems_broker_comes_first() {
    let (system, own) = (Home::new(), Home::new());
    let passwd = own.write("passwd", "anna:x:0:0::/nonexistent:/bin/sh\n");
    let send = |socket: Option<PathBuf>| {
        let places = [(system.path("run"), "/run"), (passwd.clone(), "/etc/passwd")];
        let mut command = within(&places, own.link("sendmail"))?;
        command.env("HOME", own.as_ref()).env("SUNDOWN_NO_AUTOSTART", "1");
        command.env("XDG_RUNTIME_DIR", own.path("run")).arg("bo@localhost");
        if let Some(socket) = socket {
            command.env("SUNDOWN_SOCKET", socket);
        }
        Some(run(command, "hi\n"))
    };
    let own_broker = own.serve();
    let mut system_broker = system.serve();
    let Some(ran) = send(None) else { return };
    ran.ok();
    system_broker.until("the message", || system.maildir("default").count() == 1);
    // It is from the user, and not from the user whom the broker runs as.
    let delivered = system.maildir("default").only();
    let from = delivered.field("From")[0];
    assert!(from.starts_with("anna@") || from == "anna", "{from}");
    send(Some(own.socket())).expect("it could before").ok();
    own_broker.until("the message", || own.maildir("default").count() == 1);
    system_broker.kill();
    assert!(system.socket().exists(), "its socket is left over");
    send(None).expect("it could before").ok();
    own_broker.until("the message", || own.maildir("default").count() == 2);
    assert_eq!(system.maildir("default").count(), 1);
}

/// Who may not use the system's broker has their own, and is told that mail goes another way.
///
/// design §8
#[test]
fn who_is_locked_out_is_told_so() {
    let (system, own) = (Home::new(), Home::new());
    let own_broker = own.serve();
    let _system_broker = system.serve();
    fs::set_permissions(system.socket(), fs::Permissions::from_mode(0o000)).expect("closed");
    let locked_out = |name: &str, arguments: &[&str], input: &str| {
        // Root there is let in everywhere, unless it has no capabilities.
        let mut command = within(&[(system.path("run"), "/run")], "setpriv")?;
        command.arg("--bounding-set=-all").arg(own.link(name)).args(arguments);
        command.env("HOME", own.as_ref()).env("SUNDOWN_NO_AUTOSTART", "1");
        command.env("XDG_RUNTIME_DIR", own.path("run"));
        Some(run(command, input))
    };
    let Some(ran) = locked_out("sendmail", &["bo@localhost"], "hi\n") else { return };
    let ran = ran.ok();
    assert!(ran.errors.contains("/run/sundown/broker.sock is not for this user"), "{ran:?}");
    own_broker.until("the message", || own.maildir("default").count() == 1);
    assert_eq!(system.maildir("default").count(), 0);
    // That their own queue is empty says nothing of the system's.
    let ran = locked_out("mailq", &[], "").expect("it could be tried before").exits(77);
    assert!(ran.output.is_empty() && ran.errors.contains("not for this user"), "{ran:?}");
}

/// A user who may connect, and whom the profile does not let submit, is told so.
///
/// design §8
#[test]
fn users_without_the_right_are_refused() {
    const NOBODY: u32 = 65534;
    if !rustix::process::geteuid().is_root() {
        eprintln!("only root can be somebody else: not tested");
        return;
    }
    let home = Home::with_settings(&format!("[socket]\ngroup = \"{NOBODY}\"\n"));
    let broker = home.serve();
    for directory in ["", "run"] {
        let open = fs::Permissions::from_mode(0o755);
        fs::set_permissions(home.path(directory), open).expect("changed");
    }
    // Neither does a queue that is not seen whole look empty.
    for (name, arguments) in [("sendmail", &["anna"][..]), ("mailq", &[]), ("sendmail", &["-q"])] {
        let mut command = home.called(name, arguments);
        command.uid(NOBODY).gid(NOBODY).stdin(Stdio::null());
        command.stdout(Stdio::piped()).stderr(Stdio::piped());
        // Where the build is, others may have no way to.
        let child = match command.spawn() {
            Ok(child) => child,
            Err(error) => return eprintln!("{error}: not tested"),
        };
        let ran = child.wait_with_output().expect("it ends");
        let errors = String::from_utf8_lossy(&ran.stderr);
        assert_eq!(ran.status.code(), Some(77), "{errors}");
        assert!(errors.starts_with("sendmail: "), "{errors}");
        assert_eq!(String::from_utf8_lossy(&ran.stdout), "");
    }
    drop(broker);
}

/// Whoever says `-N never`, or is nobody, is not written to when a message fails; whoever says nothing is.
///
/// design §3.18, §8
#[test]
fn senders_say_whether_they_are_told() {
    let home = Home::new();
    let stuck =
        "[[transport]]\npath = \"blocked\"\n[queue]\nmax_age = \"1ms\"\nretry_min = \"10ms\"\n";
    home.profile("default", stuck);
    home.write(".local/share/sundown/default/blocked", "");
    let _broker = home.serve();
    let mut shell = home.shell();
    shell.ok("logon");
    shell.ok("advise session=1 events=new-mail");
    let silent = [&["-Nnever", "one"][..], &["-f", "", "two"], &["-N", "success", "three"]];
    for (before, arguments) in silent.into_iter().enumerate() {
        home.sendmail(arguments, "hi\n").ok();
        home.status_until("its end", |status| status["queue"]["bounced"] == before + 1);
    }
    home.sendmail(&["-Rhdrs", "four"], "hi\n").ok();
    let mail = shell.event("the notice", |v| v["event"] == "new-mail");
    let notice =
        shell.ok(&format!("read session=1 entry={}", mail["entry"].as_str().expect("text")));
    assert!(notice["content"].as_str().is_some_and(|c| c.contains("four")), "{notice}");
    shell.settle();
    assert_eq!(shell.events(|v| v["event"] == "new-mail").len(), 1);
}

/// A store that cannot be opened is no refusal of the user: the program is told to try again later, and the log says nothing of rights.
///
/// design §8
#[test]
fn a_store_that_cannot_be_opened_is_tried_again_later() {
    let home = Home::new();
    let broker = home.serve();
    let store = home.path(".local/share/sundown/default/store.db");
    fs::create_dir_all(&store).expect("a directory in its place");
    let message = "To: anna@localhost\nSubject: x\n\nhello\n";
    let ran = home.sendmail(&["-i", "-t"], message).exits(75);
    assert!(ran.errors.contains("store.db"), "{ran:?}");
    let refused: Vec<_> =
        broker.log().into_iter().filter(|line| line["event"] == "refused").collect();
    assert!(refused.is_empty(), "{refused:?}");
    fs::remove_dir(&store).expect("it is out of the way");
    home.sendmail(&["-i", "-t"], message).ok();
    broker.until("the message", || home.maildir("default").count() == 1);
}

/// A name without a domain is a user of this host or an alias, where the profile asks for it. What `Doe, John <…>` without quotes gives is
/// neither. Without `local_users` every name is taken.
///
/// design §3.20
#[test]
fn a_word_that_is_no_user_is_refused() {
    let home = Home::new();
    let mail = "To: Doe, John <root@localhost>\nSubject: x\n\nbody\n";
    home.profile("default", "[mail]\nlocal_users = \"system\"\n[aliases]\nops = \"root\"\n");
    home.profile("listed", "[mail]\nlocal_users = [\"anna\", \"Doe\"]\n");
    home.profile("any", "");
    let broker = home.serve();
    let refused = home.sendmail(&["-t"], mail).exits(65);
    for words in ["\"Doe\"", "no user of this host", "nothing was stored", "\"Doe, John\""] {
        assert!(refused.errors.contains(words), "{words}: {}", refused.errors);
    }
    home.stored_nothing();
    home.sends(&broker, &["root"], "Subject: a user\n\nx\n");
    home.sends(&broker, &["OPS"], "Subject: an alias\n\nx\n");
    let send = |profile: &str, to: &str| {
        home.run_with(&["send", "--profile", profile, "--to", to, "--wait=60"], "x\n")
    };
    assert!(send("listed", "root").exits(1).errors.contains("\"root\""));
    send("listed", "Doe").ok();
    send("any", "Doe").ok();
}
