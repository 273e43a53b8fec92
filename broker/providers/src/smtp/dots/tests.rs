//! What is believed of a slot, and what is not.

use std::fs::{self, Permissions};
use std::os::unix::fs::{FileExt, MetadataExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};

use proptest::prelude::*;
use tempfile::TempDir;

use super::*;

/// A directory that is gone when the machine is; `None`, and said, where there is none.
pub(in crate::smtp) fn memory() -> Option<TempDir> {
    let made = tempfile::Builder::new().prefix("sundown-dots-").tempdir_in("/dev/shm").ok();
    let made = made.filter(|made| dots_in(made.path()).take().is_some());
    if made.is_none() {
        println!("skipped: /dev/shm is no tmpfs that can be written to");
    }
    // It has the file of the dots that were tried.
    let made = made?;
    fs::remove_file(only_file(made.path())).expect("removed");
    Some(made)
}

fn runtime(directory: &Path) -> Runtime {
    let directories = vec![directory.join("absent"), directory.to_owned()];
    Runtime { directories, name: "broker.sock".into(), boot: Some(BootId(7)) }
}

/// The dots of another broker's life.
pub(in crate::smtp) fn dots_in(directory: &Path) -> Arc<Dots> {
    with(runtime(directory))
}

fn with(runtime: Runtime) -> Arc<Dots> {
    Arc::new(Dots::new(Arc::new(OnceLock::from(runtime))))
}

fn files(directory: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(directory).expect("it is there");
    entries.map(|entry| entry.expect("an entry").path()).collect()
}

fn only_file(directory: &Path) -> PathBuf {
    let files = files(directory);
    assert_eq!(files.len(), 1, "{files:?}");
    files.into_iter().next().expect("one")
}

/// What is said, in a word.
fn said(result: &Result<Fate, Doubt>) -> &'static str {
    match result {
        Ok(Fate::Sent) => "sent",
        Ok(Fate::NotSent) => "not sent",
        Err(Doubt::NoBootId) => "no boot id",
        Err(Doubt::OtherRun) => "other run",
        Err(Doubt::NoFile) => "no file",
        Err(Doubt::Strange) => "strange",
        Err(Doubt::InUse) => "in use",
        Err(Doubt::OtherAttempt) => "other attempt",
        Err(Doubt::Begun) => "begun",
        Err(Doubt::Unreadable(_)) => "unreadable",
    }
}

fn begun(dot: &Dot) -> bool {
    Leave::take(Some(dot)).is_ok()
}

#[test]
fn the_next_broker_knows_what_became_of_each() {
    let Some(memory) = memory() else { return };
    let dots = dots_in(memory.path());
    let all: Vec<_> = (0..5).map(|_| dots.take().expect("room")).collect();
    assert!(all[1..4].iter().all(begun));
    all[2].answered(Fate::Sent);
    all[3].answered(Fate::NotSent);
    assert_eq!(said(&dots.find_out(all[4].mark())), "not sent");
    let marks: Vec<_> = all.iter().map(|dot| *dot.mark()).collect();
    let wanted = ["not sent", "begun", "sent", "not sent", "not sent"];
    let file = only_file(memory.path());
    assert_eq!(fs::metadata(&file).expect("there").mode() & 0o777, 0o600);
    // As a process that is killed: nothing is tidied up.
    drop((all, dots));
    let next = dots_in(memory.path());
    for _ in 0..2 {
        for (mark, wanted) in marks.iter().zip(wanted) {
            assert_eq!(said(&next.find_out(mark)), wanted, "{mark}");
        }
        // Also when the next broker has a file of its own.
        next.take().expect("room");
    }
}

/// A session's thread that was left behind may be at work: either its dot has begun, or it never will.
#[test]
fn a_dot_that_was_withdrawn_does_not_begin() {
    let Some(memory) = memory() else { return };
    let dots = dots_in(memory.path());
    let (first, second) = (dots.take().expect("room"), dots.take().expect("room"));
    assert!(begun(&first));
    assert_eq!(said(&dots.find_out(first.mark())), "begun");
    assert_eq!(said(&dots.find_out(second.mark())), "not sent");
    assert!(matches!(Leave::take(Some(&second)), Err(Withheld::Withdrawn)));
    assert_eq!(said(&dots.find_out(second.mark())), "not sent");
}

/// Its name, what is said then, and what happens to the file.
type Fault = (&'static str, &'static str, fn(&Path));

/// Whatever is missing or not equal: it may have begun.
#[test]
fn what_is_missing_or_differs_is_doubted() {
    let faults: [Fault; 12] = [
        ("nothing", "not sent", |_| {}),
        ("the file is gone", "no file", |file| fs::remove_file(file).expect("removed")),
        ("others may read it", "strange", |file| chmod(file, 0o640)),
        ("others may write it", "strange", |file| chmod(file, 0o602)),
        ("others may change the directory", "strange", |file| {
            chmod(file.parent().expect("it is in one"), 0o770);
        }),
        ("it is a link", "strange", |file| {
            let moved = file.with_file_name("moved");
            fs::rename(file, &moved).expect("renamed");
            symlink(&moved, file).expect("linked");
        }),
        ("it is a directory", "unreadable", |file| {
            fs::remove_file(file).expect("removed");
            fs::create_dir(file).expect("made");
            chmod(file, 0o700);
        }),
        ("it is something else", "strange", |file| write_at(file, 0, b"x")),
        ("it is another file", "strange", |file| write_at(file, 8, b"x")),
        ("it is of another run", "other run", |file| write_at(file, 24, &[8])),
        ("it ends early", "unreadable", |file| {
            fs::File::options().write(true).open(file).expect("opened").set_len(64).expect("cut");
        }),
        ("the slot is another attempt's", "other attempt", |file| {
            write_at(file, 64, &[2 << 3 | 1]);
        }),
    ];
    for (name, wanted, change) in faults {
        let Some(memory) = memory() else { return };
        let dots = dots_in(memory.path());
        let mark = *dots.take().expect("room").mark();
        drop(dots);
        change(&only_file(memory.path()));
        assert_eq!(said(&dots_in(memory.path()).find_out(&mark)), wanted, "{name}");
    }
}

fn write_at(path: &Path, at: u64, bytes: &[u8]) {
    let file = fs::File::options().write(true).open(path).expect("opened");
    file.write_all_at(bytes, at).expect("written");
}

fn chmod(path: &Path, mode: u32) {
    fs::set_permissions(path, Permissions::from_mode(mode)).expect("changed");
}

#[test]
fn another_users_file_is_doubted() {
    let Some(memory) = memory() else { return };
    let mark = *dots_in(memory.path()).take().expect("room").mark();
    if std::os::unix::fs::chown(only_file(memory.path()), Some(4711), None).is_err() {
        return println!("skipped: only root can give a file away");
    }
    assert_eq!(said(&dots_in(memory.path()).find_out(&mark)), "strange");
}

/// Another user who may change the directory could put another file in its place.
#[test]
fn no_file_is_made_where_others_may_change_it() {
    let Some(memory) = memory() else { return };
    chmod(memory.path(), 0o730);
    assert!(dots_in(memory.path()).take().is_none());
    assert_eq!(files(memory.path()), [] as [PathBuf; 0]);
    chmod(memory.path(), 0o755);
    assert!(dots_in(memory.path()).take().is_some());
}

/// Two ids that are both hidden are not equal, and without one no slot is taken.
#[test]
fn without_a_boot_id_nothing_is_known() {
    let Some(memory) = memory() else { return };
    let mark = *dots_in(memory.path()).take().expect("room").mark();
    let boot = |boot| with(Runtime { boot, ..runtime(memory.path()) });
    assert_eq!(said(&boot(None).find_out(&mark)), "no boot id");
    assert_eq!(said(&boot(Some(BootId(8))).find_out(&mark)), "other run");
    assert_eq!(said(&Dots::default().find_out(&mark)), "no boot id");
    assert!(boot(None).take().is_none() && Dots::default().take().is_none());
    // A mark of the other run in a file of this one.
    let other = Mark { boot: BootId(8), ..mark };
    assert_eq!(said(&dots_in(memory.path()).find_out(&other)), "other run");
    assert_eq!(said(&dots_in(memory.path()).find_out(&mark)), "not sent");
}

/// The session of another broker was left behind: its thread may send the dot at any time.
#[test]
fn a_broker_that_lives_is_not_answered_for() {
    let Some(memory) = memory() else { return };
    let lives = dots_in(memory.path());
    let dot = lives.take().expect("room");
    let other = dots_in(memory.path());
    assert_eq!(said(&other.find_out(dot.mark())), "in use");
    let _own = other.take().expect("room");
    assert_eq!(said(&other.find_out(dot.mark())), "in use");
    assert!(begun(&dot), "its file was not removed, and its slot not changed");
}

/// What is on a disk is there after a power cut, without what was written last.
#[test]
fn a_file_on_a_disk_is_neither_made_nor_believed() {
    let Some(memory) = memory() else { return };
    let disk = TempDir::new_in(env!("CARGO_MANIFEST_DIR")).expect("a directory");
    if dots_in(disk.path()).take().is_some() {
        return println!("skipped: the source is in memory");
    }
    assert_eq!(files(disk.path()), [] as [PathBuf; 0]);
    let mark = *dots_in(memory.path()).take().expect("room").mark();
    let file = only_file(memory.path());
    let copy = disk.path().join(file.file_name().expect("a name"));
    fs::copy(&file, &copy).expect("copied");
    chmod(&copy, 0o600);
    assert_eq!(said(&dots_in(disk.path()).find_out(&mark)), "strange");
    // The better place comes first, and what cannot be used is passed over.
    let both = Runtime {
        directories: vec![disk.path().to_owned(), memory.path().to_owned()],
        ..runtime(memory.path())
    };
    assert_eq!(said(&with(both.clone()).find_out(&mark)), "not sent");
    assert!(with(both).take().is_some());
}

/// A dot whose beginning cannot be written down is not sent, and then no attempt is given a slot.
#[test]
fn what_cannot_be_written_down_does_not_begin() {
    let Some(memory) = memory() else { return };
    let mark = *dots_in(memory.path()).take().expect("room").mark();
    // A file of another broker is open for reading.
    let slots = Slots::of_a_dead_broker(&runtime(memory.path()), mark.file, mark.boot);
    let slots = slots.expect("it is believed");
    let ledger = Ledger { slots, free: [5].into(), last: mark.attempt, health: Health::Sound };
    let dots = dots_in(memory.path());
    let ledger = Arc::new(Mutex::new(ledger));
    dots.ledger.set(Some(Arc::clone(&ledger))).expect("not open yet");
    let dot = Dot { ledger, mark };
    assert!(matches!(Leave::take(Some(&dot)), Err(Withheld::Unwritten(_))));
    assert!(dots.take().is_none(), "a slot that cannot be begun is of no use");
    assert_eq!(lock(&dot.ledger).free, [5], "none was tried");
    assert_eq!(said(&dots.find_out(&mark)), "unreadable", "nor can it be withdrawn");
}

/// A slot is used again, and what an old intent names is unknown then.
#[test]
fn slots_are_used_again_under_another_number() {
    let Some(memory) = memory() else { return };
    let dots = dots_in(memory.path());
    let mut all: Vec<_> = (0..SLOTS).map(|_| dots.take().expect("room")).collect();
    assert!(dots.take().is_none(), "each slot is somebody's");
    let first = all.swap_remove(0);
    let old = *first.mark();
    drop(first);
    assert_eq!(said(&dots.find_out(&old)), "not sent");
    let again = dots.take().expect("room");
    assert_eq!((again.mark().slot, again.mark().file), (old.slot, old.file));
    assert_eq!(said(&dots.find_out(&old)), "other attempt");
    assert!(begun(&again), "that was not its business");
}

/// What brokers leave behind stays as long as it may be of use, and is bounded.
#[test]
fn files_of_dead_brokers_do_not_pile_up() {
    let Some(memory) = memory() else { return };
    fs::write(memory.path().join("broker.sock.tickets"), "").expect("written");
    let mut marks = Vec::new();
    for life in 0..40 {
        let dots = dots_in(memory.path());
        let dot = dots.take().expect("room");
        if life % 2 == 0 {
            assert!(begun(&dot));
        } else {
            marks.push(*dot.mark());
        }
    }
    let lives = dots_in(memory.path());
    let _dot = lives.take().expect("room");
    let count = files(memory.path()).len();
    assert_eq!(count, 2 + 16, "the own file, another thing, and the newest with an unsent message");
    let next = dots_in(memory.path());
    let known = |mark: &&Mark| said(&next.find_out(mark)) == "not sent";
    assert_eq!(marks.iter().rev().take_while(known).count(), 16);
    assert_eq!(marks.iter().filter(known).count(), 16);
}

#[test]
fn a_marker_without_a_slot_is_an_older_brokers() {
    let mark = Mark { file: 1, slot: 2, attempt: 3, boot: BootId(4) };
    for place in ["smtp.example.org:587", "[::1]:25", "a b"] {
        let marker = Marker { place, mark: Some(mark) };
        assert_eq!(Marker::parse(&marker.to_string()), marker);
        assert_eq!(Marker::parse(place), Marker { place, mark: None });
    }
    let text = mark.to_string();
    for changed in [
        text.replace(".2.", ".65536."),
        text.replace(".2.", ".02."),
        text.replace(".3.", ".-3."),
        format!("{text}.1"),
        text[1..].to_owned(),
        text[..text.len() - 1].to_owned(),
        Mark { boot: BootId(0), ..mark }.to_string(),
    ] {
        assert_eq!(Mark::parse(&changed), None, "{changed}");
    }
}

proptest! {
    #[test]
    fn a_mark_reads_back(file: u128, slot: u16, attempt: u64, boot in 1..u128::MAX) {
        let mark = Mark { file, slot, attempt, boot: BootId(boot) };
        prop_assert_eq!(Mark::parse(&mark.to_string()), Some(mark));
    }

    #[test]
    fn nothing_else_is_a_mark(text in "[0-9a-f. ]{0,90}") {
        if let Some(mark) = Mark::parse(&text) {
            prop_assert_eq!(mark.to_string(), text);
        }
    }
}
