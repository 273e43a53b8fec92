//! Folders, flags, moves, copies and appended messages: what one process does, the others of the session are told and see.

use sundown_client::{Code, Flags, FolderKind, Logon, Marks, Message, OpenMessage, Sort};

use serde_json::{Value, json};

use crate::harness::{Home, Shell, keys, says};
use crate::library::initialize;

const EVENTS: &str =
    "new-mail,object-created,object-modified,object-moved,object-deleted,table-modified";

/// A shell with a session in which it is told everything.
fn told(home: &Home) -> Shell {
    let mut shell = home.shell();
    shell.ok("logon");
    shell.ok(&format!("advise session=1 events={EVENTS}"));
    shell
}

fn text(reply: &Value, key: &str) -> String {
    reply[key].as_str().unwrap_or_else(|| panic!("{key} of {reply}")).to_owned()
}

/// Puts a message with this subject into a folder. Its entry.
fn append(shell: &mut Shell, home: &Home, folder: &str, subject: &str, rest: &str) -> String {
    let file = home.message(subject);
    let file = file.display();
    text(&shell.ok(&format!("append session=1 folder={folder} file={file} {rest}")), "entry")
}

/// The rows of a folder, with further words of `list`.
fn rows(shell: &mut Shell, folder: &str, words: &str) -> Vec<Value> {
    let open = shell.ok(&format!("open session=1 what=folder folder={folder}"));
    let object = &open["object"];
    let reply = shell.ok(&format!("list object={object} {words}"));
    shell.ok(&format!("release object={object}"));
    reply["rows"].as_array().expect("rows").clone()
}

fn subjects(rows: &[Value]) -> Vec<String> {
    rows.iter().map(|row| text(row, "subject")).collect()
}

/// An event of a message.
fn is<'a>(event: &'a str, entry: &'a str, folder: &'a str) -> impl Fn(&Value) -> bool + 'a {
    move |told| says(&[("event", event), ("entry", entry), ("folder", folder)])(told)
}

/// A message that one process appends, flags, moves, copies and deletes is told to the other one, which sees the same of it, by the
/// same entry identifier.
///
/// NOTIF-17, NOTIF-20
#[test]
fn what_one_process_changes_the_other_one_sees() {
    let home = Home::new();
    let _broker = home.serve();
    let (mut one, mut other) = (told(&home), told(&home));

    let entry = append(&mut one, &home, "inbox", "first", "flags=flagged,$work");
    other.event("the message", is("object-created", &entry, "inbox"));
    let row = rows(&mut other, "inbox", "").pop().expect("a row");
    assert_eq!((&row["entry"], &row["folder"]), (&json!(entry), &json!("inbox")));
    assert_eq!(row["flags"], json!(["flagged", "$work"]));
    assert_eq!(keys(&row), "date entry flags folder from received recovered size subject to");

    let flags = one.ok(&format!("flag session=1 entry={entry} add=read remove=flagged"));
    assert_eq!(flags["flags"], json!(["read", "$work"]));
    other.event("the flags", is("object-modified", &entry, "inbox"));
    assert_eq!(rows(&mut other, "inbox", "")[0]["flags"], json!(["read", "$work"]));

    let folder = text(&one.ok("make-folder session=1 name=Work"), "folder");
    let made = other.event("the folder", says(&[("event", "object-created"), ("folder", &folder)]));
    assert_eq!(keys(&made), "event folder session", "a folder has no entry");
    let moved = one.ok(&format!("move session=1 entry={entry} folder={folder}"));
    assert_eq!(text(&moved, "entry"), entry, "a move keeps the identifier");
    let told = other.event("the move", is("object-moved", &entry, &folder));
    assert_eq!(told["from"], "inbox");
    assert_eq!(rows(&mut other, "inbox", ""), [] as [Value; 0]);
    let row = rows(&mut other, &folder, "").pop().expect("a row");
    assert_eq!((&row["entry"], &row["folder"]), (&json!(entry), &json!(folder)));
    assert_eq!(row["flags"], json!(["read", "$work"]), "flags are moved, too");

    let copy = text(&other.ok(&format!("copy session=1 entry={entry} folder=drafts")), "entry");
    assert_ne!(copy, entry);
    one.event("the copy", is("object-created", &copy, "drafts"));
    let read = |shell: &mut Shell, entry: &str| {
        text(&shell.ok(&format!("read session=1 entry={entry}")), "content")
    };
    assert_eq!(read(&mut one, &copy), read(&mut one, &entry));

    one.ok(&format!("delete session=1 entry={entry}"));
    other.event("the deletion", is("object-moved", &entry, "deleted"));
    one.ok(&format!("delete session=1 entry={entry}"));
    other.event("the end", is("object-deleted", &entry, "deleted"));
    assert_eq!(rows(&mut other, "deleted", ""), [] as [Value; 0]);
    other.settle();
    let arrivals = other.events(says(&[("event", "new-mail")]));
    assert!(arrivals.is_empty(), "what a program appends is no new mail: {arrivals:?}");
}

/// An open message is the same one wherever another process moves it, also after a restart of the broker; once it is deleted for
/// good, it is not found.
#[test]
fn an_open_message_outlives_its_move_and_not_its_end() {
    let home = Home::new();
    let mut broker = home.serve();
    let mut other = told(&home);
    let mapi = initialize(&home);
    let session = mapi.logon(Logon::shared()).expect("it logs on");
    let inbox = session.folder(FolderKind::INBOX).expect("opened");
    let text = b"Subject: open\n\nbody\n".to_vec();
    let flags = Flags { marks: Marks::FLAGGED, ..Flags::default() };
    let entry = inbox.append(&Message::new(text), &flags, None).expect("appended");
    let message = session.open_message(entry).expect("opened");
    let reads = |message: &OpenMessage| message.read_at(0).map(|(bytes, _)| bytes);
    let before = reads(&message).expect("read");
    let folder = self::text(&other.ok("make-folder session=1 name=Work"), "folder");
    other.ok(&format!("move session=1 entry={entry} folder={folder}"));
    assert_eq!(reads(&message).expect("it was moved"), before);
    broker.kill();
    let _broker = home.serve();
    assert_eq!(reads(&message).expect("it is opened again"), before);

    let read = Flags { marks: Marks::READ, ..Flags::default() };
    let now = message.set_flags(&read, &Flags::default()).expect("set");
    assert_eq!(now.names().collect::<Vec<_>>(), ["read", "flagged"]);
    let work = session.folder(folder.parse().expect("a folder")).expect("opened");
    let rows: Vec<_> =
        work.contents().sorted(Sort::NEWEST).map(|row| row.expect("no error")).collect();
    assert_eq!((rows.len(), rows[0].entry, &rows[0].flags), (1, entry, &now));
    let copy = message.copy_to(FolderKind::DRAFTS).expect("copied");
    message.move_to(FolderKind::DELETED).expect("moved");
    assert_eq!(work.contents().next_page().expect("no error"), None);
    session.delete(entry).expect("deleted for good");
    assert_eq!(reads(&message).expect_err("it is gone").code(), Code::E_NOT_FOUND);
    let error = message.set_flags(&read, &Flags::default()).expect_err("it is gone");
    assert_eq!(error.code(), Code::E_NOT_FOUND);
    assert_eq!(session.read(copy).expect("the copy stays"), before);
}

/// Folders are made in each other, renamed and removed once they are empty; the folders of every store stay as they are.
#[test]
fn folders_are_made_renamed_and_removed() {
    let home = Home::new();
    let mut broker = home.serve();
    let (mut one, mut other) = (told(&home), told(&home));
    let outer = text(&one.ok("make-folder session=1 name=Outer"), "folder");
    let inner =
        text(&one.ok(&format!("make-folder session=1 name=In/ner parent={outer}")), "folder");
    one.fails("make-folder session=1 name=Outer", "MAPI_E_COLLISION");
    // The same name elsewhere is another folder's.
    let twin = text(&one.ok(&format!("make-folder session=1 name=Outer parent={outer}")), "folder");
    let list = |shell: &mut Shell| {
        let reply = shell.ok("folders session=1");
        reply["folders"].as_array().expect("folders").clone()
    };
    let folders = list(&mut other);
    assert_eq!(keys(&folders[0]), "folder name parent role total unread");
    let words: Vec<_> = folders.iter().map(|row| text(row, "folder")).collect();
    let known = ["inbox", "outbox", "sent", "drafts", "deleted", &outer, &inner, &twin];
    assert_eq!(words, known, "in the order of their numbers");
    assert!(folders[..5].iter().all(|row| row["role"] == row["folder"]));
    assert_eq!(folders[6]["parent"], json!(outer));
    assert_eq!((&folders[6]["name"], &folders[6]["role"]), (&json!("In/ner"), &Value::Null));

    let entry = append(&mut one, &home, &inner, "kept", "");
    append(&mut one, &home, &inner, "read", "flags=read");
    let counts = |shell: &mut Shell| {
        let row = list(shell).into_iter().find(|row| row["folder"] == json!(inner)).expect("it is");
        (row["total"].clone(), row["unread"].clone())
    };
    assert_eq!(counts(&mut other), (json!(2), json!(1)));
    one.ok(&format!("flag session=1 entry={entry} add=read"));
    assert_eq!(counts(&mut other), (json!(2), json!(0)));

    one.ok(&format!("rename-folder session=1 folder={inner} name=Inner"));
    other.event("the name", says(&[("event", "object-modified"), ("folder", &inner)]));
    one.fails(&format!("rename-folder session=1 folder={inner} name=Outer"), "MAPI_E_COLLISION");
    one.fails(&format!("remove-folder session=1 folder={outer}"), "MAPI_E_HAS_FOLDERS");
    one.fails(&format!("remove-folder session=1 folder={inner}"), "MAPI_E_HAS_MESSAGES");
    for command in
        ["rename-folder session=1 folder=inbox name=x", "remove-folder session=1 folder=sent"]
    {
        one.fails(command, "MAPI_E_NO_ACCESS");
    }

    // Another broker has the same folders.
    broker.kill();
    let _broker = home.serve();
    assert_eq!(counts(&mut other), (json!(2), json!(0)));
    let open = other.ok(&format!("open session=1 what=folder folder={twin}"))["object"].clone();
    one.ok(&format!("remove-folder session=1 folder={twin}"));
    let gone = other.event("the end", says(&[("event", "object-deleted"), ("folder", &twin)]));
    assert_eq!(keys(&gone), "event folder session");
    other.fails(&format!("list object={open}"), "MAPI_E_NOT_FOUND");
    other.fails(&format!("open session=1 what=folder folder={twin}"), "MAPI_E_NOT_FOUND");
    one.fails(&format!("move session=1 entry={entry} folder={twin}"), "MAPI_E_NOT_FOUND");
    let next = text(&one.ok("make-folder session=1 name=Next"), "folder");
    assert_ne!(next, twin, "a number is not used again");
}

/// A folder that is removed while the broker is away, by a process that comes to the next broker first, is not found.
#[test]
fn a_folder_that_is_gone_after_a_restart_is_not_found() {
    let home = Home::new();
    let mut broker = home.serve();
    let (mut one, mut other) = (told(&home), told(&home));
    let folder = text(&one.ok("make-folder session=1 name=Work"), "folder");
    let open = one.ok(&format!("open session=1 what=folder folder={folder}"))["object"].clone();
    assert_eq!(one.ok(&format!("list object={open}"))["rows"], json!([]));
    broker.kill();
    let _broker = home.serve();
    other.ok(&format!("remove-folder session=1 folder={folder}"));
    one.fails(&format!("list object={open}"), "MAPI_E_NOT_FOUND");
    one.ok("folders session=1");
}

/// A list is sorted, filtered and cut as it is asked for; without words it has the order of arrival.
#[test]
fn a_list_is_sorted_filtered_and_cut() {
    let home = Home::new();
    let _broker = home.serve();
    let mut shell = told(&home);
    for (subject, rest) in [("banana", "flags=read"), ("Cherry", ""), ("apple", ""), ("date", "")] {
        append(&mut shell, &home, "inbox", subject, rest);
    }
    let mut list = |words: &str| subjects(&rows(&mut shell, "inbox", words));
    assert_eq!(list(""), ["banana", "Cherry", "apple", "date"]);
    assert_eq!(list("order=descending limit=2"), ["date", "apple"]);
    assert_eq!(list("sort=subject"), ["apple", "banana", "Cherry", "date"]);
    assert_eq!(list("sort=subject order=descending unread"), ["date", "Cherry", "apple"]);
    assert_eq!(list("limit=0"), [] as [&str; 0]);
    let open = shell.ok("open session=1 what=status-table")["object"].clone();
    shell.fails(&format!("list object={open} unread"), "MAPI_E_NO_SUPPORT");
}

/// A page of a folder is at most 256 rows; a list has them all, each once.
#[test]
fn a_list_of_many_pages_has_each_message_once() {
    let home = Home::new();
    let _broker = home.serve();
    let mut shell = told(&home);
    let file = home.message("one-of-many");
    for _ in 0..600 {
        shell.ok(&format!("append session=1 folder=drafts file={}", file.display()));
    }
    let all = rows(&mut shell, "drafts", "");
    let entries: std::collections::BTreeSet<_> = all.iter().map(|row| text(row, "entry")).collect();
    assert_eq!((all.len(), entries.len()), (600, 600));
}

/// A folder's table tells of its rows, and a row that is told of can be listed.
///
/// NOTIF-21
#[test]
fn a_folder_tells_of_its_rows() {
    let home = Home::new();
    let _broker = home.serve();
    let (mut one, mut other) = (told(&home), told(&home));
    let folder = text(&one.ok("make-folder session=1 name=Work"), "folder");
    let open = other.ok(&format!("open session=1 what=folder folder={folder}"))["object"].clone();
    other.ok(&format!("advise object={open} events=table-modified"));
    let entry = append(&mut one, &home, &folder, "row", "");
    let of_row = |change: &'static str, entry: &str| {
        let entry = entry.to_owned();
        move |told: &Value| {
            told["event"] == "table-modified" && told["change"] == change && told["row"] == entry
        }
    };
    other.event("the row", of_row("row-added", &entry));
    one.ok(&format!("flag session=1 entry={entry} add=answered"));
    other.event("the flag", of_row("row-modified", &entry));
    one.ok(&format!("move session=1 entry={entry} folder=inbox"));
    other.event("the move", of_row("row-deleted", &entry));
    assert_eq!(other.ok(&format!("list object={open}"))["rows"], json!([]));
}

/// A notification about a message that came back is an ordinary message of the Inbox: told with its sender and subject in each
/// process, once, and read, flagged and deleted as others are.
///
/// NOTIF-17
#[test]
fn a_bounce_is_new_mail_with_its_sender_and_subject() {
    let home = Home::new();
    home.profile(
        "default",
        "[[transport]]\npath = \"blocked\"\n[queue]\nmax_age = \"1ms\"\nretry_min = \"10ms\"\n",
    );
    home.write(".local/share/sundown/default/blocked", "");
    let _broker = home.serve();
    let (mut one, mut other) = (told(&home), told(&home));
    one.submit(1, &home.message("hopeless"));
    let mail = [&one, &other].map(|shell| shell.event("it", says(&[("event", "new-mail")])));
    assert_eq!(mail[0], mail[1]);
    assert_eq!(keys(&mail[0]), "entry event folder from session subject");
    let entry = text(&mail[0], "entry");
    let row = rows(&mut other, "inbox", "").pop().expect("a row");
    assert_eq!(row["entry"], mail[0]["entry"]);
    assert_eq!((&row["from"], &row["subject"]), (&mail[0]["from"], &mail[0]["subject"]));
    assert_eq!(row["flags"], json!([]), "nobody has read it");
    let flags = other.ok(&format!("flag session=1 entry={entry} add=read,flagged"));
    assert_eq!(flags["flags"], json!(["read", "flagged"]));
    other.ok(&format!("delete session=1 entry={entry}"));
    one.event("it is deleted", is("object-moved", &entry, "deleted"));
    for shell in [&mut one, &mut other] {
        shell.settle();
        assert_eq!(shell.events(says(&[("event", "new-mail")])).len(), 1);
    }
}

/// What is found has all words, in a folder or in all but Deleted.
#[test]
fn words_are_found_where_they_are_looked_for() {
    let home = Home::new();
    let broker = home.serve();
    let mut shell = told(&home);
    let folder = text(&shell.ok("make-folder session=1 name=Work"), "folder");
    let first = append(&mut shell, &home, "inbox", "invoice", "");
    let second = append(&mut shell, &home, &folder, "invoice-again", "");
    let third = append(&mut shell, &home, "deleted", "invoice-gone", "");
    let shell = std::cell::RefCell::new(shell);
    let search = |words: &str| shell.borrow_mut().ok(&format!("search session=1 {words}"));
    // The index is built while the store is idle.
    broker.until("the index", || search("words=invoice")["unindexed"] == 0);
    let found = |words: &str| -> Vec<String> {
        let reply = search(words);
        reply["rows"].as_array().expect("rows").iter().map(|row| text(row, "entry")).collect()
    };
    assert_eq!(found("words=invoice"), [second.clone(), first.clone()]);
    assert_eq!(found("words=\"invoice again\"").concat(), second);
    assert_eq!(found(&format!("words=invoice folder={folder}")), [second]);
    assert_eq!(found("words=invoice folder=deleted"), [third]);
    assert_eq!(found("words=invoice limit=1").len(), 1);
    assert_eq!(found("words=nowhere"), [] as [String; 0]);
    shell.borrow_mut().fails("search session=1 words=\"\"", "MAPI_E_INVALID_PARAMETER");
}

/// What makes no sense is refused with what would, and changes nothing.
#[test]
fn wrong_folders_flags_and_entries_are_refused() {
    let home = Home::new();
    let _broker = home.serve();
    let mut shell = told(&home);
    let entry = append(&mut shell, &home, "inbox", "kept", "");
    let wrong = "MAPI_E_INVALID_PARAMETER";
    for command in [
        "open session=1 what=folder".to_owned(),
        "open session=1 what=folder folder=Inbox".to_owned(),
        "open session=1 what=message".to_owned(),
        "make-folder session=1 name=".to_owned(),
        format!("make-folder session=1 name={}", "x".repeat(256)),
        format!("flag session=1 entry={entry}"),
        format!("flag session=1 entry={entry} add=READ"),
        format!("flag session=1 entry={entry} add=\"two words\""),
        format!("move session=1 entry={entry}"),
        format!("move session=1 entry={entry} folder=f3"),
        "folders session=1 store=first".to_owned(),
        "append session=1 folder=inbox".to_owned(),
    ] {
        shell.fails(&command, wrong);
    }
    for command in [
        "open session=1 what=folder folder=f99".to_owned(),
        format!("copy session=1 entry={entry} folder=f99"),
        format!("move session=1 entry={entry} folder=f99"),
        "remove-folder session=1 folder=f99".to_owned(),
        "make-folder session=1 name=x parent=f99".to_owned(),
        "append session=1 folder=inbox file=/nowhere".to_owned(),
        "folders session=1 store=7".to_owned(),
    ] {
        shell.fails(&command, "MAPI_E_NOT_FOUND");
    }
    assert_eq!(rows(&mut shell, "inbox", "").len(), 1);
    assert_eq!(shell.ok("folders session=1")["folders"].as_array().map(Vec::len), Some(5));
}

/// `MAPI_FORCE_DOWNLOAD`: what had come before the logon is in the Inbox when the logon is answered.
#[test]
fn a_logon_may_look_for_mail_first() {
    let home = Home::new();
    let maildir = home.path("Maildir");
    home.profile("default", &format!("[[mailbox]]\npath = \"{}\"\n", maildir.display()));
    for folder in ["tmp", "new", "cur"] {
        std::fs::create_dir_all(maildir.join(folder)).expect("made");
    }
    let _broker = home.serve();
    let mut shell = home.shell();
    for count in 1..4 {
        let message = format!("From: eve@example.org\nSubject: message {count}\n\nbody\n");
        home.write(&format!("Maildir/new/1700000000.{count}.eve"), message);
        let session = shell.ok("logon download")["session"].clone();
        let open = shell.ok(&format!("open session={session} what=inbox"));
        let list = shell.ok(&format!("list object={}", open["object"]));
        assert_eq!(list["rows"].as_array().map(Vec::len), Some(count), "{list}");
        shell.ok(&format!("logoff session={session}"));
    }
}
