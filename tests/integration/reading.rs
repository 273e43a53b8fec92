//! `sundown inbox`, `read`, `search` and `folders`: what people see of mail that anybody may have written.

use std::fs::{self, File};
use std::process::Stdio;

use serde_json::{Value, json};

use crate::harness::{Home, Output, Shell, Terminal, run, says, wait_for_end};

const MESSAGE: &str = "From: =?utf-8?q?Ann=C3=A9?= <anna@localhost>\r\nTo: bo@localhost\r\nDate: Mon, 30 Nov 2026 03:43:30 +0100\r\n\
    Subject: =?utf-8?q?Lunch=1B[2J=E2=80=AE=3F?=\r\nContent-Type: multipart/mixed; boundary=b\r\n\r\n\
    --b\r\nContent-Type: text/html\r\n\r\n<p>At <a href=\"https://evil.example\">https://bank.example</a>\r\n--b\r\n\
    Content-Type: application/pdf; name=\"../../menu.pdf\"\r\nContent-Transfer-Encoding: base64\r\n\r\naGVsbG8=\r\n--b--\r\n";

const TEXT: &str = "From: Anné <anna@localhost>\nTo: bo@localhost\nDate: Mon, 30 Nov 2026 03:43:30 +0100\nSubject: Lunch�[2J�?\n\n\
    At https://bank.example <https://evil.example>\n\nattachment      type             size\n../../menu.pdf  application/pdf  5 B";

/// A program that files messages, and is told what becomes of them.
fn filing(home: &Home) -> Shell {
    let mut shell = home.shell();
    shell.ok("logon");
    shell.ok("advise session=1 events=object-modified");
    shell
}

/// Puts the message into a folder. Its entry.
fn file(shell: &mut Shell, home: &Home, folder: &str) -> String {
    let message = home.write("message.eml", MESSAGE);
    let append = format!("append session=1 folder={folder} file={}", message.display());
    shell.ok(&append)["entry"].as_str().expect("an entry").to_owned()
}

/// The flags of the newest message of the Inbox.
fn flags(home: &Home) -> Value {
    home.run(&["inbox", "--limit=1", "--json"]).ok().json()[0]["flags"].clone()
}

/// The rows are those of the shell's `list`, and a message that was read is marked for the other programs.
///
/// design §8
#[test]
fn a_message_is_listed_and_read() {
    let home = Home::new();
    let _broker = home.serve();
    let mut shell = filing(&home);
    assert_eq!(home.run(&["inbox"]).ok().output, "no messages");
    let entry = file(&mut shell, &home, "inbox");
    let rows = home.run(&["inbox", "--json"]).ok().json();
    let inbox = shell.ok("open session=1 what=inbox")["object"].clone();
    assert_eq!(rows, shell.ok(&format!("list object={inbox}"))["rows"]);
    assert_eq!((&rows[0]["entry"], &rows[0]["flags"]), (&json!(entry), &json!([])));
    assert_eq!(rows[0]["date"], 1_796_006_610_000_u64);
    let list = home.run(&["inbox"]).ok().output;
    assert!(list.lines().nth(1).is_some_and(|row| row.starts_with(&format!("1  {entry}"))));

    assert_eq!(home.run(&["read", "1", "--keep-unread"]).ok().output, TEXT);
    assert_eq!(flags(&home), json!([]), "it was to be kept unread");
    let value = home.run(&["read", &entry[34..], "--json"]).ok();
    assert!(!value.output.contains(['\x1b', '\u{202e}']), "{value:?}");
    let value = value.json();
    assert_eq!((&value["entry"], &value["unread"]), (&json!(entry), &json!(true)));
    assert_eq!(
        (&value["subject"], &value["saved"]),
        (&"Lunch\x1b[2J\u{202e}?".into(), &Value::Null)
    );
    shell.event("that it is read", says(&[("event", "object-modified"), ("entry", &entry)]));
    assert_eq!(flags(&home), json!(["read"]));
    assert_eq!(home.run(&["read", &entry, "--json"]).ok().json()["unread"], false);
    shell.settle();
    assert_eq!(shell.events(says(&[("event", "object-modified")])).len(), 1, "changed once");

    let raw = home.run(&["read", &entry, "--raw"]).ok().output.replace('\r', "");
    assert_eq!(raw, MESSAGE.replace('\r', "").trim_end());
}

/// What nobody could read stays unread: standard output was full, or its reader gone.
///
/// design §8
#[test]
fn what_was_not_written_is_not_marked_as_read() {
    let home = Home::new();
    let _broker = home.serve();
    let entry = file(&mut filing(&home), &home, "inbox");
    for way in [&[][..], &["--raw"], &["--json"]] {
        let words = [&["read", &entry][..], way].concat();
        let full = File::options().write(true).open("/dev/full").expect("it opens");
        let status = wait_for_end(&mut home.command(&words).stdout(full).spawn().expect("started"));
        assert_eq!((status.code(), flags(&home)), (Some(1), json!([])), "{way:?}");
        let (reader, writer) = std::io::pipe().expect("made");
        drop(reader);
        let mut command = home.command(&words);
        let status = wait_for_end(&mut command.stdout(writer).spawn().expect("started"));
        assert_eq!((status.code(), flags(&home)), (Some(0), json!([])), "{way:?}");
    }
    let mut command = home.command(&["read", &entry]);
    let status = wait_for_end(&mut command.stdout(Stdio::null()).spawn().expect("started"));
    assert_eq!((status.code(), flags(&home)), (Some(0), json!(["read"])));
}

/// A message is named by its row, also where only unread ones are listed and beyond the first page, and by the end of its entry.
///
/// design §8
#[test]
fn rows_have_the_numbers_that_read_takes() {
    const MESSAGES: usize = 260;
    let home = Home::new();
    let _broker = home.serve();
    let mut shell = filing(&home);
    let entries: Vec<_> = (0..MESSAGES).map(|_| file(&mut shell, &home, "inbox")).collect();
    let newest = |number: usize| entries[MESSAGES - number].as_str();
    let read = |word: &str| home.run(&["read", word, "--json"]).ok().json()["entry"].clone();
    assert_eq!(read("1"), newest(1));
    assert_eq!(read("258"), newest(258));
    assert_eq!(read(&newest(2)[20..].to_uppercase()), newest(2));
    let rows = home.run(&["inbox", "--unread", "--limit=2"]).ok().output;
    let rows: Vec<_> = rows.lines().skip(1).collect();
    for (row, number) in rows.iter().zip([3, 4]) {
        assert!(row.starts_with(&format!("{number}  {}", newest(number))), "{rows:?}");
    }
    assert_eq!(rows.len(), 2);
    let fails = |words: &[&str], code: &str, why: &str| {
        let error = home.run(&[&["read", "--json"], words].concat()).exits(1).json();
        assert_eq!(error["error"]["code"], code);
        assert!(error["error"]["message"].as_str().is_some_and(|m| m.contains(why)), "{error}");
    };
    fails(&["261"], "MAPI_E_NOT_FOUND", "inbox has 260 messages");
    fails(&["1", "--folder", "sent"], "MAPI_E_NOT_FOUND", "sent has no message");
    fails(&[&newest(259)[20..]], "MAPI_E_NOT_FOUND", "newest 200 messages of any folder");
    fails(&["x"], "MAPI_E_INVALID_PARAMETER", "the number of its row");
    fails(&[&"0".repeat(40)], "MAPI_E_UNKNOWN_ENTRYID", "");
}

/// A folder is named by its word, its role, or a path of names.
///
/// design §8
#[test]
fn folders_are_named_by_words_roles_and_paths() {
    let home = Home::new();
    let _broker = home.serve();
    let mut shell = filing(&home);
    let outer = shell.ok("make-folder session=1 name=Work")["folder"].clone();
    let outer = outer.as_str().expect("a word");
    let inner =
        shell.ok(&format!("make-folder session=1 name=2026 parent={outer}"))["folder"].clone();
    let inner = inner.as_str().expect("a word");
    let entry = file(&mut shell, &home, inner);
    let folders = home.run(&["folders", "--json"]).ok().json();
    assert_eq!(folders, shell.ok("folders session=1")["folders"]);
    let list = home.run(&["folders"]).ok().output;
    assert!(
        list.lines().any(|l| l.starts_with(inner) && l.ends_with("1       Work/2026")),
        "{list}"
    );
    for name in [inner, "Work/2026", "work/2026"] {
        let rows = home.run(&["inbox", "--folder", name, "--json"]).ok().json();
        assert_eq!((&rows[0]["entry"], &rows[0]["folder"]), (&json!(entry), &json!(inner)));
        let read = home.run(&["read", "1", "--folder", name, "--json"]).ok().json();
        assert_eq!(read["entry"], entry);
    }
    // It is in no list of the Inbox, and found all the same.
    assert_eq!(home.run(&["read", &entry[30..], "--json"]).ok().json()["entry"], entry);
    assert_eq!(home.run(&["inbox", "--folder", "Inbox"]).ok().output, "no messages");
    let wrong = home.run(&["inbox", "--folder", "2026"]).exits(1);
    assert!(wrong.errors.contains("`sundown folders` lists"), "{wrong:?}");
    home.run(&["inbox", "--folder", "f99"]).exits(1);
}

/// Messages are found by words, phrases and fields, in all folders or in one, and read by what the list shows of them.
///
/// design §8
#[test]
fn messages_are_found() {
    let home = Home::new();
    let broker = home.serve();
    let mut shell = filing(&home);
    let entry = file(&mut shell, &home, "inbox");
    let other = home.write("other.eml", "From: bo@localhost\nSubject: Dinner\n\nAt the bank.\n");
    shell.ok(&format!("append session=1 folder=drafts file={}", other.display()));
    let search = |words: &[&str]| home.run(&[&["search", "--json"], words].concat()).ok();
    // While messages are not in the index, standard error says so.
    broker.until("the index", || {
        let errors = search(&["at"]).errors;
        let complete = !errors.contains("not in the index yet");
        assert!(complete || errors.contains("may be missing here"), "{errors}");
        complete
    });
    let subjects = |words: &[&str]| {
        let rows = search(words).json();
        let rows = rows.as_array().expect("rows").iter();
        rows.map(|row| row["subject"].as_str().expect("text").to_owned()).collect::<Vec<_>>()
    };
    let (lunch, dinner) = ("Lunch�[2J\u{202e}?", "Dinner");
    assert_eq!(subjects(&["at"]), [dinner, lunch], "newest first");
    assert_eq!(subjects(&["at", "--limit", "1"]), [dinner], "the newest");
    assert_eq!(subjects(&["at", "bank", "--folder", "drafts"]), [dinner]);
    assert_eq!(subjects(&["from:anna", "file:menu"]), [lunch]);
    assert_eq!(subjects(&["at", "--", "-dinner"]), [lunch]);
    assert_eq!(subjects(&["\"the bank\""]), [dinner], "a phrase");
    assert_eq!(subjects(&["breakfast"]), [""; 0]);
    let row = search(&["lunch"]).json()[0].clone();
    let inbox = home.run(&["inbox", "--json"]).ok().json()[0].clone();
    assert_eq!((&row, &row["entry"]), (&inbox, &json!(entry)));

    let list = home.run(&["search", "lunch"]).ok().output;
    assert!(list.lines().nth(1).is_some_and(|row| row.starts_with(&format!("Inbox   {entry}"))));
    let mut terminal = Terminal::run(home.command(&["search", "lunch"]), Output::Here);
    assert_eq!(terminal.wait().0.code(), Some(0));
    let shown = terminal.shown();
    let end = &entry[34..];
    assert!(shown.contains(&format!("{end}  N")) && !shown.contains("\x1b[2J"), "{shown:?}");
    assert_eq!(home.run(&["read", end]).ok().output, TEXT);
    let wrong = home.run(&["search", "--", "-lunch"]).exits(1);
    assert!(wrong.errors.contains("MAPI_E_INVALID_PARAMETER"), "{wrong:?}");
}

/// Mail that was delivered while no program was there is in the first list; a mailbox that is away is named, and the list is made.
///
/// design §8
#[test]
fn mailboxes_look_before_a_list_is_made() {
    let home = Home::new();
    home.profile("default", "identity = \"you@localhost\"\n");
    let mut broker = home.serve();
    home.run_with(&["send", "--to=you@localhost", "--subject=Hi", "--wait=60"], "hi\n").ok();
    // What a session has seen is forgotten with its broker.
    broker.kill();
    let broker = home.serve();
    let rows = home.run(&["inbox", "--json"]).ok();
    assert_eq!((rows.json()[0]["subject"].clone(), rows.errors), (json!("Hi"), String::new()));
    home.run_with(&["send", "--to=you@localhost", "--subject=Ho", "--wait=60"], "ho\n").ok();
    assert_eq!(home.run(&["read", "1", "--json"]).ok().json()["subject"], "Ho");
    assert_eq!(home.run(&["folders", "--json"]).ok().json()[0]["unread"], 1);

    drop(broker);
    let maildir = home.data().join("default/Maildir");
    fs::rename(&maildir, home.path("away")).expect("renamed");
    fs::write(&maildir, "no directory").expect("written");
    let _broker = home.serve();
    let rows = home.run(&["inbox", "--json"]).ok();
    assert_eq!(rows.json().as_array().map(Vec::len), Some(2), "what is known is listed");
    let says = ["mailbox maildir: ", "messages may be missing here"];
    assert!(says.iter().all(|part| rows.errors.contains(part)), "{rows:?}");
}

/// What was sent is listed by whom it went to.
///
/// design §8
#[test]
fn what_was_sent_is_listed_by_its_recipients() {
    let home = Home::new();
    let _broker = home.serve();
    let sent = home.run_with(&["send", "--wait=60", "--json"], MESSAGE).ok().json();
    assert_eq!(sent["state"], "sent");
    let list = home.run(&["inbox", "--folder", "sent"]).ok().output;
    assert!(list.contains("bo@localhost") && !list.contains("anna"), "{list}");
}

/// design §8
#[test]
fn attachments_are_saved_in_the_directory_only() {
    let home = Home::new();
    let _broker = home.serve();
    let entry = file(&mut filing(&home), &home, "inbox");
    fs::create_dir(home.path("inside")).expect("made");
    let place = home.path("inside").to_str().expect("text").to_owned();
    let missing = home.run(&["read", &entry, "--save-attachments", "missing"]).exits(1);
    assert!(missing.errors.contains("make it first"), "{missing:?}");
    assert_eq!(flags(&home), json!([]), "nothing was saved");
    let saved = home.run(&["read", &entry, "--save-attachments", &place]).ok().output;
    assert_eq!((saved, flags(&home)), (format!("saved {place}/menu.pdf"), json!(["read"])));
    let again = home.run(&["read", &entry, "--save-attachments", &place, "--json"]).ok().json();
    assert_eq!(again["saved"][0], format!("{place}/menu (2).pdf"));
    assert_eq!(fs::read(home.path("inside/menu (2).pdf")).expect("read"), b"hello");
    let both = home.run(&["read", &entry, "--raw", "--json"]).exits(1).json();
    assert_eq!(both["error"]["code"], "MAPI_E_INVALID_PARAMETER");
}

/// A message that does not fit into memory is not shown; any is copied in pieces.
///
/// design §8
#[test]
fn a_message_of_any_size_is_copied() {
    let home = Home::new();
    let _broker = home.serve();
    let mut shell = filing(&home);
    let text = format!("Subject: some pieces\n\n{}", "0123456789\n".repeat(100_000));
    let path = home.write("large.eml", &text);
    let append = format!("append session=1 folder=inbox file={}", path.display());
    let entry = shell.ok(&append)["entry"].as_str().expect("text").to_owned();
    let raw = home.run(&["read", &entry, "--raw"]).ok().output;
    assert_eq!(raw.trim_end(), text.trim_end());

    let huge = home.maildir("default").0.join("new/1.huge");
    fs::write(&huge, "Subject: huge\n\n").expect("written");
    let file = fs::OpenOptions::new().write(true).open(&huge).expect("opened");
    file.set_len(1 << 40).expect("nothing of it is written");
    let rows = home.run(&["inbox", "--json"]).ok().json();
    let row = rows.as_array().expect("rows").iter().find(|row| row["subject"] == "huge");
    let entry = row.expect("it is listed")["entry"].as_str().expect("text").to_owned();
    let refused = home.run(&["read", &entry, "--json"]).exits(1).json();
    assert_eq!(refused["error"]["code"], "MAPI_E_TOO_BIG");
    assert!(refused["error"]["message"].as_str().is_some_and(|text| text.contains("--raw")));
}

/// design §8
#[test]
fn a_terminal_shows_rows_that_fit_and_nothing_that_controls_it() {
    let home = Home::new();
    let _broker = home.serve();
    let entry = file(&mut filing(&home), &home, "inbox");
    let shown = |words: &[&str], no_color: &str| {
        let mut command = home.command(words);
        command.env("NO_COLOR", no_color);
        let mut terminal = Terminal::run(command, Output::Here);
        assert_eq!(terminal.wait().0.code(), Some(0));
        terminal.shown()
    };
    let rows = shown(&["inbox"], "");
    assert!(rows.contains("\x1b[1m1  N") && rows.contains("N not read"), "{rows:?}");
    let plain = shown(&["inbox"], "1");
    assert!(plain.contains("\n1  N") && !plain.contains('\x1b'), "{plain:?}");
    let read = shown(&["read", &entry], "");
    assert!(!shown(&["inbox"], "").contains("\x1b[1m"), "it was read");
    for shown in [rows, read, shown(&["read", &entry, "--raw"], "")] {
        assert!(!shown.contains("\x1b[2J") && !shown.contains('\u{202e}'), "{shown:?}");
    }
}

/// The shell prints messages, too.
///
/// design §8
#[test]
fn the_shell_prints_nothing_that_controls_a_terminal() {
    let home = Home::new();
    let _broker = home.serve();
    let file = home.write("message.eml", "Subject: x\n\n\u{9b}2J\u{202e}é\x1b[2J\n");
    let mut shell = filing(&home);
    let append = format!("append session=1 folder=inbox file={}", file.display());
    let entry = shell.ok(&append)["entry"].clone();
    let commands = format!("logon\nread session=1 entry={}\n", entry.as_str().expect("text"));
    let json = run(home.command(&["shell", "--json"]), &commands).ok().output;
    assert!(!json.contains(['\u{9b}', '\u{202e}', '\x1b']) && json.contains('é'), "{json:?}");
    let reply: Value = serde_json::from_str(json.lines().last().expect("a line")).expect("JSON");
    let content = reply["content"].as_str().expect("text").replace('\r', "");
    assert!(content.ends_with("\n\u{9b}2J\u{202e}é\x1b[2J\n"), "{content:?}");
    let text = run(home.command(&["shell"]), &commands).ok().output;
    assert!(text.contains("�2J�é�[2J"), "{text:?}");
}
