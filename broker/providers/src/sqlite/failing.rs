//! Tests with failing writes to the disk. They run in a process of their own, whose files must not grow for a while.

use std::fs;
use std::process::Command;

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use sundown_core::provider::{AddressCall, Effect, SubmissionState};
use sundown_protocol::request::AddressAction;

use super::tests::*;
use super::*;
use crate::AddressBookProvider;
use crate::address_book::SqliteAddressBook;

/// The variable that marks the process in which writes fail.
const INSIDE: &str = "SUNDOWN_TEST_FILES_MUST_NOT_GROW";

/// Runs a test again in a process in which a file that grows too large is an error and not a signal.
fn inside(name: &str, test: fn()) {
    if std::env::var_os(INSIDE).is_some() {
        return test();
    }
    let name = format!("sqlite::failing::{name}");
    let output = Command::new("sh")
        .args(["-c", r#"trap "" XFSZ; exec "$0" --exact "$1" --nocapture"#])
        .arg(std::env::current_exe().expect("it runs"))
        .arg(name)
        .env(INSIDE, "1")
        .output()
        .expect("a shell");
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success() && said.contains("1 passed"), "{said}");
}

/// Calls `act` while no file may become larger than the store's log is now, plus `more` bytes.
fn without_room<T>(fixture: &mut Fixture, more: u64, act: impl FnOnce(&mut Fixture) -> T) -> T {
    let log = fixture.path().with_file_name("store.db-wal");
    let size = fs::metadata(log).expect("a log").len();
    let before = getrlimit(Resource::Fsize);
    let limit = Rlimit { current: Some(size + more), ..before };
    setrlimit(Resource::Fsize, limit).expect("less is allowed");
    let done = act(fixture);
    setrlimit(Resource::Fsize, before).expect("the limit of before");
    done
}

/// Asserts that the store refuses writes until it is opened anew, although the disk works again.
fn is_closed_for_good(fixture: &mut Fixture) {
    let answer = fixture.write(save(900, inline("x")));
    assert_eq!(code(&answer), Some(Code::E_DISK_ERROR));
    let error = answer.expect_err("it is refused");
    assert_eq!(error.effect, Effect::Nothing, "{error}");
    fixture.store.logoff().expect("it closes");
    fixture.store.logon().expect("it opens anew");
    fixture.write(save(900, inline("x"))).expect("it is saved");
}

#[test]
fn a_write_that_fails_closes_the_store() {
    inside("a_write_that_fails_closes_the_store", || {
        let mut fixture = Fixture::new();
        fixture.write(save(1, inline("x"))).expect("it is saved");
        // More than the cache holds, so that pages are written before the commit.
        let large = || inline(&"x".repeat(8 << 20));
        for batch in [vec![save(2, large())], vec![save(3, large()), save(4, inline("x"))]] {
            let answers = without_room(&mut fixture, 64 << 10, |fixture| fixture.batch(batch));
            for answer in &answers {
                assert_eq!(code(answer), Some(Code::E_NOT_ENOUGH_DISK));
                assert_eq!(answer.as_ref().map_err(|error| error.effect), Err(Effect::Nothing));
            }
            is_closed_for_good(&mut fixture);
        }
    });
}

#[test]
fn a_commit_that_fails_closes_the_store_and_may_be_there() {
    inside("a_commit_that_fails_closes_the_store_and_may_be_there", || {
        let mut fixture = Fixture::new();
        fixture.write(save(1, inline("x"))).expect("it is saved");
        for batch in [vec![save(2, inline("x"))], vec![save(3, inline("x")), save(4, inline("x"))]]
        {
            let answers = without_room(&mut fixture, 0, |fixture| fixture.batch(batch));
            assert_eq!(code(&answers[0]), Some(Code::E_NOT_ENOUGH_DISK));
            let error = answers[0].as_ref().expect_err("it failed");
            assert_eq!(error.effect, Effect::Unknown);
            assert!(error.message.contains("ulimit -f"), "{error}");
            is_closed_for_good(&mut fixture);
        }
    });
}

#[test]
fn an_address_book_that_failed_changes_nothing_more() {
    inside("an_address_book_that_failed_changes_nothing_more", || {
        let dir = tempfile::TempDir::new().expect("a directory");
        let spec = ProviderSpec { path: dir.path().join("book.db"), ..ProviderSpec::new("sqlite") };
        let mut book = SqliteAddressBook::new(&spec);
        book.logon().expect("it logs on");
        let mut act = |action| book.call(&AddressCall::Act(action));
        let add = |name: &str| AddressAction::Add {
            name: name.to_owned(),
            addresses: vec![format!("{name}@x")],
        };
        act(add("anna")).expect("she is added");
        let before = getrlimit(Resource::Fsize);
        setrlimit(Resource::Fsize, Rlimit { current: Some(0), ..before }).expect("less is allowed");
        let failed = act(add("bob"));
        setrlimit(Resource::Fsize, before).expect("the limit of before");
        assert_eq!(code(&failed), Some(Code::E_NOT_ENOUGH_DISK));
        assert_eq!(code(&act(add("bob"))), Some(Code::E_DISK_ERROR));
        act(AddressAction::Resolve { name: "anna".to_owned() }).expect("she is found");
        book.logon().expect("it logs on again");
        book.call(&AddressCall::Act(add("bob"))).expect("he is added");
    });
}

#[test]
fn a_purge_that_fails_closes_the_store() {
    inside("a_purge_that_fails_closes_the_store", || {
        let mut fixture = Fixture::new();
        fixture.write(submit(1, inline(MESSAGE))).expect("it is submitted");
        fixture.write(update(1, SubmissionState::Sent)).expect("it is sent");
        without_room(&mut fixture, 0, |fixture| {
            fixture.store.engine.as_mut().expect("it is open").purge(wall() + (8 << 30));
        });
        is_closed_for_good(&mut fixture);
    });
}

/// If a store cannot be written anew when it is opened, it is not opened, and is unchanged.
#[test]
fn a_store_that_cannot_be_written_anew_is_as_it_was() {
    inside("a_store_that_cannot_be_written_anew_is_as_it_was", || {
        let mut fixture = Fixture::new();
        fixture.writer().execute_batch("PRAGMA auto_vacuum = 0; VACUUM").expect("as it was");
        let large = "x".repeat(200 << 10);
        for record in 1..=40 {
            fixture.write(save(record, inline(&large))).expect("it is saved");
        }
        for record in (2..=40).chain(2..=40) {
            fixture.write(StoreWrite::Delete { record }).expect("it is deleted");
        }
        fixture.store.logoff().expect("it closes");
        let before = getrlimit(Resource::Fsize);
        let limit = Rlimit { current: Some(100 << 10), ..before };
        setrlimit(Resource::Fsize, limit).expect("less is allowed");
        let opened = fixture.store.logon();
        setrlimit(Resource::Fsize, before).expect("the limit of before");
        assert_eq!(opened.expect_err("it failed").code, Code::E_NOT_ENOUGH_DISK);
        fixture.store.logon().expect("it opens");
        assert_eq!(fixture.content(1), large);
    });
}
