//! A mailbox that is stopped at each of its steps: the broker dies before or after a slice is committed, or the connection is lost before a
//! command or in front of an answer. The next one goes on, and in the end the server and the store have the same, once.

use std::collections::BTreeMap;
use std::sync::Arc;

use sundown_core::provider::StoreWrite;
use sundown_protocol::folder::Marks;
use sundown_protocol::request::Folder;

use super::super::conversation::Cut;
use super::server::{Kind, Server};
use super::world::{World, text};
use crate::mailbox::testing::When;

/// How a mailbox is stopped.
#[derive(Debug, Clone, Copy)]
enum Stopped {
    Killed(When),
    Cut(Cut),
}

const WAYS: [Stopped; 4] = [
    Stopped::Killed(When::Before),
    Stopped::Killed(When::After),
    Stopped::Cut(Cut::Question),
    Stopped::Cut(Cut::Answer),
];

const FOLDERS: [&str; 5] = ["INBOX", "Work", "Trash", "Made", "Renamed"];

/// Both sides change the account; what stays the same.
fn change(world: &mut World) -> BTreeMap<&'static str, u128> {
    let mut other = world.other();
    for folder in ["Work", "Old", "Empty"] {
        other.create(folder);
    }
    for subject in ["moved here", "moved there", "gone", "removed", "flagged", "twin", "twin"] {
        other.put("INBOX", "", &text(subject));
    }
    world.settle();
    let records = ["moved here", "moved there", "flagged"].map(|name| (name, world.record(name)));
    // At the server.
    other.put("INBOX", "\\Flagged", &text("new"));
    other.run("SELECT INBOX");
    other.copy("2", "Work");
    other.run("UID STORE 2:3 +FLAGS.SILENT (\\Deleted)");
    other.run("EXPUNGE");
    other.run("UID STORE 5 +FLAGS.SILENT (\\Answered there)");
    // Here.
    let work = world.folder("Work");
    world.move_to(world.record("moved here"), work);
    world.flag(world.record("flagged"), Marks(Marks::READ.0 | Marks::FLAGGED.0), Marks(0));
    world.label(world.record("flagged"), "$here", "");
    world.label(world.record("moved here"), "$here", "");
    let removed = world.record("removed");
    world.write(StoreWrite::Delete { record: removed });
    world.write(StoreWrite::Delete { record: removed });
    let twin = world.record("twin");
    world.move_to(twin, work);
    world.save("appended", Folder::INBOX);
    world.save("bare", Folder::INBOX);
    world.write(StoreWrite::RenameFolder { folder: world.folder("Old"), name: "Renamed".into() });
    world.write(StoreWrite::RemoveFolder { folder: world.folder("Empty") });
    world.write(StoreWrite::MakeFolder { parent: None, name: "Made".into() });
    let made = world.folder("Made");
    let copy = 7 << 100;
    world.write(StoreWrite::Copy { record: world.record("flagged"), copy, to: made });
    records.into_iter().collect()
}

/// Runs the mailbox until it is stopped. Whether it was.
fn stopped(world: &World, how: Stopped, step: u32) -> bool {
    let mut account = world.account().expect("it begins");
    match how {
        Stopped::Killed(when) => {
            *world.broker.kill.lock().expect("no panic") = Some((step as usize, when));
        }
        Stopped::Cut(cut) => account.talk.cut = Some((step, cut)),
    }
    let ended = World::pass(&mut account).is_err();
    *world.broker.kill.lock().expect("no panic") = None;
    ended
}

fn check(world: &World, records: &BTreeMap<&str, u128>, at: &str) {
    // What was told twice, or came in between, is settled by looking again.
    world.settle();
    world.settle();
    assert_eq!(world.pending(), 0, "{at}");
    let mut other = world.other();
    let listed = other.folders();
    let has = |name: &str| listed.iter().any(|listed| listed == name);
    assert!(has("Renamed") && !has("Old") && !has("Empty"), "{listed:?} {at}");
    assert!(world.folders().iter().all(|row| row.name != "Old" && row.name != "Empty"), "{at}");
    let mut all = Vec::new();
    for name in FOLDERS {
        let folder = match name {
            "INBOX" => Folder::INBOX,
            "Trash" => Folder::DELETED,
            name => world.folder(name),
        };
        let mut there = other.shown(name);
        there.retain(|shown| !shown.contains("deleted"));
        assert_eq!(world.shown(folder), there, "{name} {at}");
        all.extend(there.into_iter().map(|shown| format!("{name} {shown}")));
    }
    let wanted = [
        "INBOX appended:",
        "INBOX bare:",
        "INBOX flagged:read,answered,flagged,$here,there",
        "INBOX new:flagged",
        "INBOX twin:",
        "Work moved here:$here",
        "Work moved there:",
        "Work twin:",
        "Made flagged:read,answered,flagged",
    ];
    let mut wanted = wanted.map(str::to_owned).to_vec();
    // The flags that a copy has are those of its moment.
    for shown in &mut all {
        if shown.starts_with("Made flagged") {
            "Made flagged:read,answered,flagged".clone_into(shown);
        }
    }
    wanted.sort();
    all.sort();
    assert_eq!(all, wanted, "{at}");
    for (subject, record) in records {
        let row = world.rows_everywhere().into_iter().find(|row| row.entry.record == *record);
        assert_eq!(row.map(|row| row.subject).as_deref(), Some(*subject), "{at}");
    }
    for row in world.rows_everywhere() {
        let bytes = world.text(row.entry.record).unwrap_or_else(|error| panic!("{error} {at}"));
        assert_eq!(bytes.replace("\r\n", "\n"), text(&row.subject).replace("\r\n", "\n"), "{at}");
    }
}

fn every_step(kind: Kind, by: u32) {
    let Some(server) = Server::start(kind).map(Arc::new) else { return };
    for how in WAYS {
        let mut step = 0;
        loop {
            let mut world = World::at(&server, &[("bodies", "all")]);
            let records = change(&mut world);
            let ended = stopped(&world, how, step);
            check(&world, &records, &format!("{kind:?}, {how:?} at step {step}"));
            if !ended {
                break;
            }
            step += by;
        }
        assert!(step > 5, "{how:?}");
    }
}

/// How many steps are passed over; `SUNDOWN_TEST_STEPS=all` takes each.
fn stride() -> u32 {
    if std::env::var_os("SUNDOWN_TEST_STEPS").is_some() { 1 } else { 11 }
}

#[test]
fn nothing_is_lost_or_twice_at_any_step_with_qresync() {
    every_step(Kind::Full, stride());
}

#[test]
fn nothing_is_lost_or_twice_at_any_step_with_condstore() {
    every_step(Kind::Condstore, stride());
}

#[test]
fn nothing_is_lost_or_twice_at_any_step_with_little() {
    every_step(Kind::Plain, stride());
}

#[test]
fn nothing_is_lost_or_twice_at_any_step_with_cyrus() {
    every_step(Kind::Cyrus, stride());
}

#[test]
fn nothing_is_lost_or_twice_at_any_step_with_courier() {
    every_step(Kind::Courier, stride());
}
