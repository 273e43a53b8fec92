//! Bytes of one profile's files are changed, before a broker opens them and while it has them open.
//!
//! Which changes are noticed, and that none sends anything wrong, is tried at the store by itself (`broker/providers/tests/damage.rs`).
//! Here it is a broker's trouble, beside others.

use std::fs::{self, File, OpenOptions};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use serde_json::Value;

use crate::bystander::Bystander;
use crate::harness::{Home, Shell, run};

/// What a damaged file is filled with.
const NOISE: u8 = 0xA5;

/// Where the commands of the page are.
const PAGE: &str = "\"A damaged store\" in docs/operations.md";

fn place(home: &Home, profile: &str, file: &str) -> PathBuf {
    home.data().join(profile).join(file)
}

/// The text of a message of some pages, each of which names it.
fn text(subject: &str) -> String {
    format!("To: anna@localhost\nSubject: {subject}\n\n{}", line(subject).repeat(1_000))
}

fn line(subject: &str) -> String {
    format!("needle of {subject}\n")
}

/// Submits messages that wait in a profile's queue.
fn submitted(home: &Home, profile: &str, subjects: &[&str]) -> (Shell, Vec<String>) {
    let mut shell = home.shell();
    shell.ok(&format!("logon profile={profile} no-mail"));
    let submit =
        |subject: &&str| shell.submit(1, &home.write(&format!("{subject}.eml"), text(subject)));
    let entries = subjects.iter().map(submit).collect();
    (shell, entries)
}

/// Overwrites a byte wherever this text is in a file.
fn overwrite(path: &Path, needle: &str) -> usize {
    let Ok(bytes) = fs::read(path) else { return 0 };
    let file = OpenOptions::new().write(true).open(path).expect("it can be written");
    let found = bytes.windows(needle.len()).enumerate().filter(|(_, w)| *w == needle.as_bytes());
    let places: Vec<_> = found.map(|(place, _)| place).collect();
    for place in &places {
        file.write_at(b"N", *place as u64).expect("written");
    }
    places.len()
}

/// The status of the only session of a profile that does not work as it should.
fn status_of(home: &Home, profile: &str) -> (Value, String) {
    let status = home.status();
    let sessions = status["sessions"].as_array().expect("sessions").clone();
    let session = sessions.into_iter().find(|s| s["profile"] == profile).expect("it is listed");
    let providers = session["providers"].as_array().expect("providers");
    let broken = providers.iter().find(|p| p["status"] != "available").expect("one is broken");
    (session["state"].clone(), broken["status"].as_str().expect("text").to_owned())
}

/// What the doctor says of a profile, and what to do.
fn diagnosed(home: &Home, profile: &str) -> String {
    let mut command = home.command(&["doctor", "--json"]);
    command.env("PATH", home.path("bin"));
    let found = run(command, "").exits(1).json();
    let found = found.as_array().expect("an array").clone();
    let of_it = |f: &Value| {
        let message = f["message"].as_str().expect("text");
        f["check"] == "provider" && f["status"] == "problem" && message.contains(profile)
    };
    let finding = found.into_iter().find(of_it).expect("the doctor finds it");
    format!("{} {}", finding["message"], finding["advice"]).replace('\\', "")
}

/// A store that cannot be opened: whoever wants it is told, status and doctor name its profile and the page, and others go on.
/// It is left as it is; with the file as it was everything is there.
///
/// LOGON-8, design §10
#[test]
fn a_store_that_cannot_be_opened_costs_only_its_profile() {
    let home = Home::new();
    home.profile("work", "");
    let mut broker = home.serve();
    let subjects = ["first", "second", "third"];
    let (mut owner, _) = submitted(&home, "work", &subjects);
    owner.ok("logoff session=1");
    broker.terminate();
    let store = place(&home, "work", "store.db");
    let whole = fs::read(&store).expect("it reads");
    let file = OpenOptions::new().write(true).open(&store).expect("it can be written");
    file.write_all_at(&[NOISE; 4096], 0).expect("written");
    let damaged = fs::read(&store).expect("it reads");

    let broker = home.serve();
    let mut bystander = Bystander::new(&home);
    bystander.works(&home, &broker);
    // The broker looks for mail that waits, by itself.
    let listed = |s: &Value| s["sessions"].to_string().contains("failed");
    home.status_until("the store that is damaged", listed);
    let (state, status) = status_of(&home, "work");
    assert_eq!(state, "failed");
    assert!(status.starts_with("failed: ") && status.contains("work/store.db"), "{status}");
    assert!(status.contains(PAGE), "{status}");
    let told = diagnosed(&home, "work");
    assert!(told.contains("work/store.db") && told.contains(PAGE), "{told}");
    owner.fails("logon profile=work", "MAPI_E_CORRUPT_STORE");
    bystander.works(&home, &broker);
    assert!(fs::read(&store).expect("it reads") == damaged, "it is left as it is");

    fs::write(&store, whole).expect("written");
    owner.ok("logon profile=work");
    broker.until("what waited", || home.maildir("work").count() == subjects.len());
    let status = home.status();
    assert!(!status["sessions"].to_string().contains("failed"), "{status}");
    bystander.works(&home, &broker);
    bystander.leaves(&home);
}

/// One message is damaged while its broker runs, in the database or in its log: it does not go out, and is not shown; the
/// others do. Status and doctor name the profile.
///
/// design §3.18, §10
#[test]
fn a_damaged_message_holds_up_no_other() {
    for restarted in [false, true] {
        let home = Home::new();
        home.profile("work", "");
        let mut broker = home.serve();
        let (mut owner, entries) = submitted(&home, "work", &["first", "damaged", "third"]);
        if restarted {
            // Everything is in the database then, and not in its log.
            owner.ok("logoff session=1");
            broker.terminate();
        }
        let files = ["store.db", "store.db-wal"].map(|file| place(&home, "work", file));
        let changed: usize = files.iter().map(|file| overwrite(file, &line("damaged"))).sum();
        assert!(changed > 0, "its text is somewhere");
        if restarted {
            broker = home.serve();
        }
        let mut bystander = Bystander::new(&home);
        bystander.works(&home, &broker);
        let mut sender = home.shell();
        sender.ok("logon profile=work");
        let maildir = home.maildir("work");
        broker.until("the other two", || maildir.count() == 2);
        let subjects: Vec<_> = maildir.tally("Subject").into_keys().collect();
        assert_eq!(subjects, ["first", "third"]);
        let error =
            sender.fails(&format!("read session=1 entry={}", entries[1]), "MAPI_E_CORRUPT_STORE");
        assert!(error.to_string().contains("work/store.db"), "{error}");
        for (subject, entry) in [("first", &entries[0]), ("third", &entries[2])] {
            let read = sender.ok(&format!("read session=1 entry={entry}"));
            assert!(read["content"].as_str().is_some_and(|c| c.contains(&line(subject))), "{read}");
        }
        let (state, status) = status_of(&home, "work");
        assert_eq!(state, "active");
        assert!(status.starts_with("damaged: ") && status.contains("work/store.db"), "{status}");
        let told = diagnosed(&home, "work");
        assert!(told.contains("profile work") && told.contains(PAGE), "{told}");
        bystander.works(&home, &broker);
        assert_eq!(maildir.count(), 2);
        bystander.leaves(&home);
    }
}

/// A message whose envelope is damaged: no verb of `queue` is for it, and the doctor says what is. Nothing of it goes out.
///
/// design §3.18, §10
#[test]
fn the_doctor_has_advice_for_a_damaged_message() {
    let home = Home::new();
    home.profile("work", "");
    let mut broker = home.serve();
    let (mut owner, entries) = submitted(&home, "work", &["damaged"]);
    owner.ok("logoff session=1");
    broker.terminate();
    let store = rusqlite::Connection::open(place(&home, "work", "store.db")).expect("opened");
    let changed = store.execute("UPDATE message SET envelope_from = 'evil@localhost'", []);
    assert_eq!(changed.expect("changed"), 1);
    drop(store);
    let _broker = home.serve();
    let mut command = home.command(&["doctor", "--json", "--profile", "work"]);
    command.env("PATH", home.path("bin"));
    let found = run(command, "").exits(1).json();
    let of_queue = |f: &&Value| f["check"] == "queue" && f["status"] == "problem";
    let found: Vec<_> = found.as_array().expect("an array").iter().filter(of_queue).collect();
    let [finding] = found[..] else { panic!("one problem: {found:?}") };
    let message = finding["message"].as_str().expect("text");
    assert!(message.contains("damaged") && message.contains(&entries[0]), "{finding}");
    let advice = finding["advice"].as_str().expect("text");
    assert!(advice.contains(PAGE) && !advice.contains("sundown queue"), "{finding}");
    for verb in ["hold", "release", "retry", "abort"] {
        let refused = home.run(&["queue", verb, &entries[0], "--json"]).exits(1).json();
        assert_eq!(refused["error"]["code"], "MAPI_E_CORRUPT_STORE", "{verb}");
    }
    assert_eq!(home.maildir("work").count(), 0);
}

/// A log that was damaged while no broker ran hides messages that were acknowledged: it is kept, and status and doctor say so
/// until somebody has taken it away.
///
/// design §10
#[test]
fn a_damaged_log_is_kept_and_shown() {
    let home = Home::new();
    home.profile("work", "");
    let mut broker = home.serve();
    let (owner, _) = submitted(&home, "work", &["first", "second", "third"]);
    broker.kill();
    drop(owner);
    let log = place(&home, "work", "store.db-wal");
    assert!(overwrite(&log, &line("second")) > 0, "its text is in the log");
    let mut broker = home.serve();
    let mut bystander = Bystander::new(&home);
    bystander.works(&home, &broker);
    let mut owner = home.shell();
    owner.ok("logon profile=work");
    broker.until("what is left", || home.maildir("work").count() == 1);
    let (state, status) = status_of(&home, "work");
    assert_eq!(state, "active");
    assert!(status.starts_with("damaged: ") && status.contains("store.db-wal.damaged"), "{status}");
    let told = diagnosed(&home, "work");
    assert!(told.contains("store.db-wal.damaged") && told.contains(PAGE), "{told}");
    bystander.works(&home, &broker);
    bystander.leaves(&home);
    owner.ok("logoff session=1");
    broker.terminate();
    fs::remove_file(place(&home, "work", "store.db-wal.damaged")).expect("somebody looked at it");
    let _broker = home.serve();
    owner.ok("logon profile=work");
    assert!(!home.status().to_string().contains("damaged"), "{}", home.status());
}

/// Files of stores are overwritten and cut off under a running broker: it goes on, whoever uses one of them is answered,
/// and nothing that is shown or delivered is another than it was.
///
/// design §10
#[test]
fn whatever_becomes_of_a_file_costs_only_its_profile() {
    let home = Home::new();
    let files = ["store.db", "store.db-wal", "address-book.db"];
    let cases: Vec<_> = files.iter().flat_map(|file| [(file, "noise"), (file, "cut")]).collect();
    let profile = |number: usize| format!("profile{number}");
    for number in 0..cases.len() {
        home.profile(&profile(number), "");
    }
    let mut broker = home.serve();
    let mut bystander = Bystander::new(&home);
    let subjects = ["first", "second", "third"];
    for (number, (file, way)) in cases.iter().enumerate() {
        let profile = profile(number);
        let (mut owner, entries) = submitted(&home, &profile, &subjects);
        owner.ok("open session=1 what=address-book");
        let path = place(&home, &profile, file);
        let length = fs::metadata(&path).expect("it is there").len();
        let damaged = OpenOptions::new().write(true).open(&path).expect("it can be written");
        match *way {
            "noise" => fill(&damaged, length),
            _ => damaged.set_len(length / 2).expect("cut off"),
        }
        bystander.works(&home, &broker);
        for (subject, entry) in subjects.iter().zip(&entries) {
            let read = owner.ask(&format!("read session=1 entry={entry}"));
            let content = read["content"].as_str();
            assert!(
                content.is_none_or(|c| c.ends_with(&line(subject).repeat(1_000))),
                "{way} of {file}: {read}"
            );
        }
        owner.ask("list object=1");
        owner.ask(&format!("submit session=1 file={}", home.message("after").display()));
        let mut sender = home.shell();
        sender.ask(&format!("logon profile={profile}"));
        bystander.works(&home, &broker);
        for shell in [&mut owner, &mut sender] {
            shell.ask("logoff session=1");
            assert!(shell.end().success(), "{way} of {file}");
        }
    }
    bystander.works(&home, &broker);
    bystander.leaves(&home);
    broker.terminate();
    let _broker = home.serve();
    for (number, case) in cases.iter().enumerate() {
        let maildir = home.maildir(&profile(number));
        for delivered in maildir.messages() {
            let subject = delivered.field("Subject").concat();
            let whole = subjects.iter().all(|s| *s != subject)
                || delivered.text.ends_with(&line(&subject).repeat(1_000));
            assert!(whole, "a wrong message was delivered: {case:?}");
        }
        let tally = maildir.tally("Subject");
        assert!(tally.values().all(|count| *count == 1), "{case:?}: {tally:?}");
    }
}

fn fill(file: &File, length: u64) {
    file.write_all_at(&vec![NOISE; length as usize], 0).expect("written");
}
