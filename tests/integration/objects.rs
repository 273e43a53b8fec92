//! Open objects, and what is left of them.

use serde_json::json;

use crate::harness::{Home, keys};

/// Objects that are open at a logoff are counted and dead afterwards; releasing one is fine all the same. So is the
/// session: it takes nothing but its release.
///
/// SEED-5, OBJ-2, OBJ-3, OBJ-4, A-11, design §3.12
#[test]
fn objects_that_were_open_at_the_logoff_are_dead() {
    let home = Home::new();
    let _broker = home.serve();
    let mut shell = home.shell();
    shell.ok("logon");
    let mut objects = Vec::new();
    for what in
        ["store", "inbox", "outbox", "sent", "drafts", "deleted", "address-book", "status-table"]
    {
        objects.push(shell.ok(&format!("open session=1 what={what}"))["object"].clone());
    }
    let draft = shell.ok(&format!("draft session=1 file={}", home.message("draft").display()));
    shell.ok(&format!("release object={}", objects.pop().expect("the status table")));
    assert_eq!(home.status()["sessions"][0]["members"][0]["objects"], 8);

    let reply = shell.ok("logoff session=1");

    assert_eq!((&reply["invalidated"], &reply["discarded"]), (&json!(8), &json!(1)));
    for object in &objects[1..] {
        shell.fails(&format!("list object={object}"), "MAPI_E_INVALID_OBJECT");
    }
    shell.fails(&format!("save object={}", draft["object"]), "MAPI_E_INVALID_OBJECT");
    for object in &objects {
        shell.ok(&format!("release object={object}"));
        shell.fails(&format!("list object={object}"), "MAPI_E_INVALID_OBJECT");
    }
    let message = home.message("late");
    for command in [
        "open session=1 what=inbox",
        "advise session=1",
        "logoff session=1",
        "flush session=1",
        "setting session=1 name=a",
        &format!("submit session=1 file={}", message.display()),
    ] {
        shell.fails(command, "MAPI_E_INVALID_OBJECT");
    }
}

/// Handles are new each time, work only while they are open, and only in the session they belong to.
///
/// OBJ-1, LOGON-10, design §3.12
#[test]
fn a_handle_works_until_it_is_released() {
    let home = Home::new();
    let _broker = home.serve();
    let mut shell = home.shell();
    shell.ok("logon");
    shell.ok("logon private");
    let first = shell.ok("open session=1 what=inbox")["object"].clone();
    let second = shell.ok("open session=2 what=inbox")["object"].clone();
    assert_ne!(first, second);
    shell.ok(&format!("release object={first}"));
    shell.fails(&format!("list object={first}"), "MAPI_E_INVALID_OBJECT");
    shell.fails(&format!("release object={first}"), "MAPI_E_INVALID_OBJECT");
    shell.ok(&format!("list object={second}"));
    // An object of a session that was logged off is dead, that of another session of the process is not.
    let third = shell.ok("open session=1 what=inbox")["object"].clone();
    assert_ne!(third, first, "numbers are not used again");
    shell.ok("logoff session=2");
    shell.fails(&format!("list object={second}"), "MAPI_E_INVALID_OBJECT");
    shell.ok(&format!("list object={third}"));
}

/// The status table has a row for each part of the session, and one without mail sees no transports.
///
/// STAT-1, LOGON-15, SHARE-6
#[test]
fn the_status_table_shows_the_session() {
    let home = Home::new();
    let _broker = home.serve();
    let mut shell = home.shell();
    shell.ok("logon");
    let table = shell.ok("open session=1 what=status-table")["object"].clone();
    let rows = shell.ok(&format!("list object={table}"))["rows"].clone();
    let resources: Vec<_> =
        rows.as_array().expect("rows").iter().map(|r| r["resource"].clone()).collect();
    let wanted =
        ["subsystem", "spooler", "address-books", "store", "address-book", "mailbox", "transport"];
    assert_eq!(resources, wanted);
    assert_eq!(keys(&rows[0]), "code methods name resource status");
}

/// A message that was submitted can be read back, in a folder and by its entry, with line ends and fields as they are.
///
/// QUEUE-6, design §8
#[test]
fn a_message_is_read_back_as_it_was_submitted() {
    let home = Home::new();
    let _broker = home.serve();
    let text = "To: anna@localhost\nSubject: =?utf-8?q?Gr=C3=BC=C3=9Fe?=\nX-Odd:  two  spaces\n\n.\nFrom here\n\u{fc}\n";
    let file = home.write("odd.eml", text);
    let mut shell = home.shell();
    shell.ok("logon");
    let entry = shell.submit(1, &file);
    let read = shell.ok(&format!("read session=1 entry={entry}"));
    let content = read["content"].as_str().expect("text").replace("\r\n", "\n");
    assert!(
        content.contains("X-Odd:  two  spaces\n")
            && content.ends_with("\n\n.\nFrom here\n\u{fc}\n")
    );
    shell.ok("logoff session=1 drain=60");
    shell.ok("logon");
    let sent = shell.ok("open session=2 what=sent")["object"].clone();
    let rows = shell.ok(&format!("list object={sent}"))["rows"].clone();
    assert_eq!((&rows[0]["entry"], &rows[0]["subject"]), (&json!(entry), &json!("Grüße")));
    assert_eq!(keys(&rows[0]), "date entry flags folder from received recovered size subject to");
    let again = shell.ok(&format!("read session=2 entry={entry}"));
    assert_eq!(again["content"], read["content"]);
    shell.fails("read session=2 entry=0123456789", "MAPI_E_INVALID_PARAMETER");
}
