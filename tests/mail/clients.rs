//! Programs that people send mail with, by way of `sendmail`.

use std::os::unix::fs::symlink;
use std::path::PathBuf;
use std::process::Command;

use mail_parser::{MessageParser, MessagePart};

use crate::harness::{Broker, Home, Ran, binary, run};
use crate::servers::{Sink, installed, program, skipped};

/// Who sends mail here: a user with a broker, which has a transport into a Maildir and one to a sink.
struct User {
    home: Home,
    sink: Sink,
    _broker: Broker,
}

/// What must arrive.
struct Wanted<'a> {
    from: &'a str,
    to: &'a [&'a str],
    subject: &'a str,
    text: &'a str,
    attachment: Option<&'a [u8]>,
}

impl User {
    fn new() -> Self {
        let (home, sink) = (Home::new(), Sink::start(&[]));
        let maildir =
            "[[transport]]\nkind = \"maildir\"\npath = \"Maildir\"\naccept = [\"here.test\"]\n";
        let smtp = crate::queue::transport(sink.port(), "");
        home.profile("default", &format!("{maildir}{smtp}{}", crate::queue::RETRIES));
        std::fs::create_dir(home.path("bin")).expect("made");
        symlink(binary(), home.path("bin/sendmail")).expect("linked");
        let broker = home.serve();
        Self { home, sink, _broker: broker }
    }

    fn sendmail(&self) -> PathBuf {
        self.home.path("bin/sendmail")
    }

    /// A program that sees this home and its broker.
    fn command(&self, name: &str, arguments: &[&str]) -> Command {
        let mut command = Command::new(program(name).expect("it is installed"));
        command.args(arguments).current_dir(self.home.as_ref()).env_clear();
        command.env("HOME", self.home.as_ref()).env("PATH", "/usr/bin:/bin:/usr/sbin:/sbin");
        command.env("SUNDOWN_SOCKET", self.home.socket()).env("SUNDOWN_NO_AUTOSTART", "1");
        command.env("EMAIL", "me@home.test").env("LC_ALL", "C.UTF-8").env("TERM", "dumb");
        command
    }

    fn run(&self, name: &str, arguments: &[&str], input: &[u8]) -> Ran {
        run(self.command(name, arguments), input).ok()
    }

    /// The only message that went to the sink, and the only one in the Maildir; both have what is wanted.
    fn arrives(&self, wanted: &Wanted) {
        self.home.rows_until("it is sent", |rows| {
            rows.iter().all(|row| row["state"] == "sent") && !rows.is_empty()
        });
        let mut received = self.sink.received();
        assert_eq!(received.len(), 1, "{received:?}");
        let received = received.remove(0);
        let mut to = received.recipients.clone();
        to.sort();
        let angled: Vec<_> = wanted.to.iter().map(|address| format!("<{address}>")).collect();
        let bare: Vec<_> = to.iter().map(|r| r.split(' ').next().unwrap_or_default()).collect();
        assert_eq!(bare, angled, "{received:?}");
        assert!(received.mail.starts_with(&format!("<{}>", wanted.from)), "{received:?}");
        let delivered = self.home.maildir("default").only().text.into_bytes();
        for message in [&received.message, &delivered] {
            let parsed = MessageParser::default().parse(message).expect("mail");
            assert_eq!(parsed.subject(), Some(wanted.subject), "{received:?}");
            let text = parsed.body_text(0).unwrap_or_default();
            assert_eq!(text.trim_end(), wanted.text.trim_end(), "{received:?}");
            assert!(parsed.message_id().is_some() && parsed.date().is_some(), "{received:?}");
            let attachment = parsed.attachment(0).map(MessagePart::contents);
            assert_eq!(attachment, wanted.attachment, "{received:?}");
            let text = String::from_utf8_lossy(message).to_ascii_lowercase();
            assert!(!text.contains("\nbcc:") && !text.contains("eve"), "{received:?}");
        }
    }
}

/// Where git keeps `send-email`, which another git than the one in the path may have.
fn send_email() -> Option<PathBuf> {
    let folders = ["/usr/lib/git-core", "/usr/libexec/git-core", "/usr/local/libexec/git-core"];
    folders.into_iter().map(PathBuf::from).find(|folder| folder.join("git-send-email").is_file())
}

/// A series of patches, sent by git: the cover and the author's name beyond ASCII are as git made them, and nobody sees
/// who got a blind copy.
///
/// design §3.20, §8
#[test]
fn git_sends_patches() {
    let Some(commands) = send_email() else { return skipped("git send-email is not installed") };
    if !Sink::installed() {
        return;
    }
    let user = User::new();
    let git = |arguments: &[&str]| {
        let mut command = user.command("git", arguments);
        command.env("GIT_CONFIG_NOSYSTEM", "1").env("GIT_TERMINAL_PROMPT", "0");
        command.env("GIT_EXEC_PATH", &commands);
        run(command, "").ok()
    };
    user.home.write(
        ".gitconfig",
        "[user]\nname = Zo\u{eb} Ü\nemail = me@home.test\n[format]\nsignature = the end\n",
    );
    git(&["init", "-q", "work"]);
    user.home.write("work/greeting", "Grüße\nFrom the start\n.\nend\n");
    git(&["-C", "work", "add", "greeting"]);
    git(&["-C", "work", "commit", "-qm", "Say Grüße\n\nFrom me.\n.\nto you\n"]);
    let sendmail = format!("--smtp-server={}", user.sendmail().display());
    git(&[
        "-C",
        "work",
        "send-email",
        "--quiet",
        "--confirm=never",
        "--suppress-cc=all",
        &sendmail,
        "--from=me@home.test",
        "--envelope-sender=me@home.test",
        "--to=Anna <anna@far.test>",
        "--cc=bo@here.test",
        "--bcc=eve@far.test",
        "--root",
        "HEAD",
    ]);
    // The patch as git writes it, without its head.
    let patch = git(&["-C", "work", "format-patch", "--root", "--stdout", "HEAD"]).output;
    let patch = patch.split_once("\n\n").expect("a head").1;
    // Who wrote it is not who sends it.
    let patch = format!("From: Zo\u{eb} Ü <me@home.test>\n\n{patch}");
    user.arrives(&Wanted {
        from: "me@home.test",
        to: &["anna@far.test", "eve@far.test"],
        subject: "[PATCH] Say Grüße",
        text: &patch,
        attachment: None,
    });
}

/// Mutt sends a message with an attachment; the program's own flags are read, the blind copy stays blind, and no byte of
/// text or attachment is lost.
///
/// design §3.20, §8
#[test]
fn mutt_sends_attachments() {
    if !installed("mutt") || !Sink::installed() {
        return;
    }
    let user = User::new();
    let bytes: Vec<u8> = (0..=255).cycle().take(600).collect();
    user.home.write("all.bin", &bytes);
    user.home.write(
        "muttrc",
        format!(
            "set sendmail=\"{} -oem -oi\"\nset from=me@home.test\nset use_envelope_from=yes\n\
             set envelope_from_address=bounces@home.test\nset realname=\"Zo\u{eb}\"\nset use_from=yes\n\
             set copy=no\nset send_charset=\"utf-8\"\nset allow_8bit=yes\n",
            user.sendmail().display()
        ),
    );
    let text = "Grüße,\n.\n..dots\nFrom here on\n";
    user.run(
        "mutt",
        &[
            "-F",
            "muttrc",
            "-s",
            "Grüße von mutt",
            "-a",
            "all.bin",
            "-c",
            "bo@here.test",
            "-b",
            "eve@far.test",
            "--",
            "anna@far.test",
        ],
        text.as_bytes(),
    );
    user.arrives(&Wanted {
        from: "bounces@home.test",
        to: &["anna@far.test", "eve@far.test"],
        subject: "Grüße von mutt",
        text,
        attachment: Some(&bytes),
    });
}

/// So does s-nail.
///
/// design §3.20, §8
#[test]
fn s_nail_sends_attachments() {
    if !installed("s-nail") || !Sink::installed() {
        return;
    }
    let user = User::new();
    let bytes: Vec<u8> = (0..=255).rev().cycle().take(600).collect();
    user.home.write("all.bin", &bytes);
    let mta = format!("mta={}", user.sendmail().display());
    let text = "Grüße,\n..dots\nFrom here on\n";
    user.run(
        "s-nail",
        &[
            "-:/",
            "-S",
            &mta,
            "-S",
            "from=me@home.test",
            "-r",
            "me@home.test",
            "-S",
            "sendwait",
            "-S",
            "ttycharset=utf-8",
            "-S",
            "sendcharsets=utf-8",
            "-S",
            "mime-encoding=8bit",
            "-s",
            "Grüße von s-nail",
            "-a",
            "all.bin",
            "-c",
            "bo@here.test",
            "-b",
            "eve@far.test",
            "anna@far.test",
        ],
        text.as_bytes(),
    );
    user.arrives(&Wanted {
        from: "me@home.test",
        to: &["anna@far.test", "eve@far.test"],
        subject: "Grüße von s-nail",
        text,
        attachment: Some(&bytes),
    });
}
