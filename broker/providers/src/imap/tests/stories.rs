//! An account at a real server beside another program.

use std::sync::Arc;
use std::time::{Duration, Instant};

use sundown_core::provider::{Scope, StoreChange, StoreWrite};
use sundown_protocol::Code;
use sundown_protocol::folder::Marks;
use sundown_protocol::request::Folder;

use super::server::{Kind, Server};
use super::world::{World, text};
use crate::mailbox::Waker;

pub(super) const INBOX: Folder = Folder::INBOX;
const NONE: Marks = Marks(0);

/// Runs a story with each way in which a server can tell of changes.
pub(super) fn each(story: impl Fn(World, Kind)) {
    for kind in Kind::ALL {
        let Some(world) = World::new(kind) else { return };
        story(world, kind);
    }
}

#[test]
fn an_account_is_mirrored() {
    each(|world, kind| {
        let mut other = world.other();
        other.put("INBOX", "", &text("one"));
        other.put("INBOX", "\\Seen \\Flagged", &text("two"));
        other.create("Work/Deeper");
        other.put("Work/Deeper", "\\Answered", &text("three"));
        world.settle();
        assert_eq!(world.shown(INBOX), ["one:", "two:read,flagged"], "{kind:?}");
        assert_eq!(world.shown(world.folder("Deeper")), ["three:answered"]);
        assert_eq!(world.text(world.record("one")).expect("bytes"), text("one"));
        let news =
            |change: &StoreChange| matches!(change, StoreChange::Created { news: Some(_), .. });
        assert!(!world.told().iter().any(news), "what was there before is no news");
        // What changes meanwhile, and what does not.
        world.settle();
        assert_eq!(world.told(), [], "{kind:?}");
        other.put("INBOX", "", &text("four"));
        other.run("SELECT INBOX");
        other.run("UID STORE 1 +FLAGS.SILENT (\\Seen)");
        other.run("UID STORE 2 +FLAGS.SILENT (\\Deleted)");
        other.run("EXPUNGE");
        world.settle();
        assert_eq!(world.shown(INBOX), ["four:", "one:read"], "{kind:?}");
        assert_eq!(world.told().iter().filter(|change| news(change)).count(), 1);
        assert_eq!(world.text(world.record("four")).expect("bytes"), text("four"));
    });
}

#[test]
fn what_programs_change_is_changed_at_the_server() {
    each(|mut world, kind| {
        let mut other = world.other();
        for subject in ["one", "two", "three"] {
            other.put("INBOX", "", &text(subject));
        }
        other.create("Work");
        world.settle();
        let work = world.folder("Work");
        world.flag(world.record("one"), Marks(Marks::READ.0 | Marks::FLAGGED.0), NONE);
        let moved = world.record("two");
        world.move_to(moved, work);
        world.write(StoreWrite::Delete { record: world.record("three") });
        world.save("four", INBOX);
        world.settle();
        assert_eq!(world.pending(), 0, "{kind:?}");
        let visible = |mut shown: Vec<String>| {
            // Without a command that removes one message, it keeps the mark.
            shown.retain(|one| kind != Kind::Plain || !one.contains("deleted"));
            shown
        };
        assert_eq!(visible(other.shown("INBOX")), ["four:", "one:read,flagged"], "{kind:?}");
        assert_eq!(other.shown("Work"), ["two:"]);
        assert_eq!(other.shown("Trash"), ["three:"]);
        assert_eq!(world.record("two"), moved, "a moved message stays the same");
        world.flag(world.record("one"), NONE, Marks::FLAGGED);
        world.write(StoreWrite::Delete { record: world.record("three") });
        world.settle();
        assert_eq!(visible(other.shown("INBOX")), ["four:", "one:read"]);
        assert_eq!(visible(other.shown("Trash")), [""; 0]);
        world.told();
        world.settle();
        assert_eq!(world.shown(Folder::DELETED), [""; 0], "{kind:?}");
        assert_eq!(world.told(), [], "{kind:?}");
    });
}

#[test]
fn a_message_stays_the_same_wherever_it_goes() {
    each(|world, kind| {
        let mut other = world.other();
        other.create("Work");
        for subject in ["one", "two", "twin", "twin"] {
            other.put("INBOX", "", &text(subject));
        }
        world.settle();
        let (one, two) = (world.record("one"), world.record("two"));
        other.run("SELECT INBOX");
        other.copy("1", "Work");
        other.run("UID STORE 1 +FLAGS.SILENT (\\Deleted)");
        other.run("EXPUNGE");
        world.settle();
        assert_eq!(world.record("one"), one, "{kind:?}");
        assert_eq!(world.shown(world.folder("Work")), ["one:"]);
        assert_eq!(world.text(one).expect("bytes"), text("one"));
        let before: Vec<_> = world.rows(INBOX).into_iter().map(|row| row.entry.record).collect();
        if !world.server().number_anew(world.user()) {
            return;
        }
        world.told();
        world.settle();
        let after: Vec<_> = world.rows(INBOX).into_iter().map(|row| row.entry.record).collect();
        assert_eq!(before, after, "{kind:?}");
        assert_eq!(world.record("two"), two);
        assert_eq!(world.shown(INBOX), ["twin:", "twin:", "two:"]);
    });
}

#[test]
fn folders_are_the_same_on_both_sides() {
    each(|mut world, kind| {
        let mut other = world.other();
        world.settle();
        // What separates names at the server is in none.
        let (asked, here, there) = match kind {
            Kind::Courier => ("Über.mich", "Über_mich", "&ANw-ber_mich"),
            _ => ("Über/mich.a", "Über_mich.a", "&ANw-ber_mich.a"),
        };
        world.write(StoreWrite::MakeFolder { parent: None, name: asked.into() });
        let mine = world.folder(asked);
        world.save("one", mine);
        world.settle();
        assert_eq!(world.folder(here), mine);
        assert_eq!(other.shown(there), ["one:"], "{kind:?}");
        world.write(StoreWrite::RenameFolder { folder: mine, name: "Other".into() });
        world.settle();
        assert_eq!(other.shown("Other"), ["one:"]);
        other.rename("Other", "Else");
        world.settle();
        assert_eq!(world.shown(world.folder("Else")), ["one:"]);
        let folder = world.folder("Else");
        world.write(StoreWrite::Delete { record: world.record("one") });
        world.settle();
        world.write(StoreWrite::RemoveFolder { folder });
        world.settle();
        assert!(!other.folders().contains(&"Else".to_owned()));
        assert_eq!(other.shown("Trash"), ["one:"]);
    });
}

/// A folder that is removed here and has got something there comes back with it. What it had here is moved out of it first.
/// An account that is not the first mailbox of its profile has its folders in one of its own; at the server nothing tells of that.
#[test]
fn a_further_account_has_its_folders_in_a_folder() {
    each(|mut world, kind| {
        world.set("heading", "work");
        let mut other = world.other();
        other.put("INBOX", "", &text("one"));
        other.create("Made");
        world.settle();
        assert_eq!(world.rows(INBOX).len(), 0, "{kind:?}");
        let heading = world.folder("work");
        let inside = |world: &World| {
            let rows = world.folders().into_iter().filter(|row| row.parent == Some(heading));
            rows.map(|row| row.name).collect::<Vec<_>>()
        };
        let names = inside(&world);
        assert!(names.contains(&"Inbox".into()) && names.contains(&"Made".into()), "{names:?}");
        assert_eq!(world.shown(world.folder("Made")), [""; 0]);
        // What is made in there here is made at the top there.
        world.write(StoreWrite::MakeFolder { parent: Some(heading), name: "New".into() });
        world.move_to(world.record("one"), world.folder("New"));
        world.save("two", world.folder("New"));
        world.settle();
        assert_eq!(other.shown("New"), ["one:", "two:"], "{kind:?}");
        assert_eq!(world.pending(), 0, "{kind:?}");
        let folder = world.folder("New");
        world.write(StoreWrite::RenameFolder { folder, name: "Newer".into() });
        world.write(StoreWrite::RenameFolder { folder: heading, name: "office".into() });
        world.settle();
        assert_eq!(other.shown("Newer"), ["one:", "two:"], "{kind:?}");
        other.create("Later");
        world.settle();
        assert!(inside(&world).contains(&"Later".into()), "{kind:?}");
        let folders = other.folders();
        let none = |name: &str| folders.iter().all(|folder| !folder.contains(name));
        assert!(none("work") && none("office"), "{folders:?}");
    });
}

#[test]
fn a_folder_with_something_new_is_not_removed() {
    each(|world, kind| {
        let mut other = world.other();
        for folder in ["Work", "Other", "Other/Inner"] {
            other.create(folder);
        }
        other.put("Work", "", &text("old"));
        world.settle();
        let folder = world.folder("Work");
        world.move_to(world.record("old"), INBOX);
        world.write(StoreWrite::RemoveFolder { folder });
        other.put("Work", "", &text("new"));
        let mut account = world.account().expect("it begins");
        let failed = World::pass(&mut account).expect("it works");
        drop(account);
        assert!(failed.is_some_and(|text| text.contains("Work has messages")), "{kind:?}");
        world.settle();
        assert_eq!(world.shown(world.folder("Work")), ["new:"], "{kind:?}");
        assert_eq!(world.shown(INBOX), ["old:"], "{kind:?}");
        for (name, to) in [("Other", "Outer"), ("Inner", "Innermost")] {
            let name = (world.folder(name), to.to_owned());
            world.write(StoreWrite::RenameFolder { folder: name.0, name: name.1 });
        }
        world.settle();
        assert!(other.folders().contains(&"Outer/Innermost".to_owned()), "{kind:?}");
        assert_eq!(world.pending(), 0, "{kind:?}");
        for name in ["Innermost", "Outer"] {
            world.write(StoreWrite::RemoveFolder { folder: world.folder(name) });
        }
        world.settle();
        assert!(!other.folders().iter().any(|name| name.starts_with("Out")));
        assert_eq!(world.pending(), 0, "{kind:?}");
    });
}

/// A folder in a removed one, which nobody has seen here, stays, and so does the one that it is in.
#[test]
fn a_folder_with_a_folder_is_not_removed() {
    each(|world, kind| {
        let mut other = world.other();
        other.create("Work");
        world.settle();
        world.write(StoreWrite::RemoveFolder { folder: world.folder("Work") });
        other.create("Work/Kid");
        let mut account = world.account().expect("it begins");
        account.survey(true).expect("it works");
        let failed = account.carry_out().expect("it works");
        drop(account);
        assert!(
            failed.as_ref().is_some_and(|error| error.message.contains("Work has folders")),
            "{kind:?} {failed:?}"
        );
        world.settle();
        assert!(other.folders().contains(&"Work".to_owned()), "{kind:?}");
        assert_eq!(world.shown(world.folder("Kid")), [""; 0], "{kind:?}");
    });
}

/// Another program makes a folder with the name that one gets here: both are as the server has them.
#[test]
fn a_folder_whose_name_is_taken_keeps_its_own() {
    each(|world, kind| {
        let mut other = world.other();
        other.create("One");
        other.put("One", "", &text("first"));
        world.settle();
        let folder = world.folder("One");
        other.create("Two");
        other.put("Two", "", &text("second"));
        world.write(StoreWrite::RenameFolder { folder, name: "Two".into() });
        world.settle();
        world.settle();
        assert_eq!(other.folders().len(), world.folders().len() - 1, "{kind:?}");
        assert_eq!(world.shown(world.folder("One")), ["first:"], "{kind:?}");
        assert_eq!(world.shown(world.folder("Two")), ["second:"], "{kind:?}");
        assert_eq!(
            (other.shown("One"), other.shown("Two")),
            (vec!["first:".to_owned()], vec!["second:".to_owned()])
        );
        assert_eq!(world.pending(), 0, "{kind:?}");
    });
}

#[test]
fn many_messages_are_taken_the_newest_first() {
    let Some(server) = Server::start(Kind::Full).map(Arc::new) else { return };
    let world = World::at(&server, &[("bodies", "on-demand")]);
    let mut other = world.other();
    for n in 0..2500 {
        other.put("INBOX", "", &text(&format!("message {n:04}")));
    }
    let mut account = world.account().expect("it begins");
    account.survey(true).expect("it works");
    account.look_around().expect("it works");
    let shown = world.shown(INBOX);
    assert_eq!(shown.len(), 200);
    assert_eq!(shown.first().map(String::as_str), Some("message 2300:"));
    assert!(account.work().expect("it works"));
    assert_eq!(world.shown(INBOX).len(), 2200);
    drop(account);
    other.put("INBOX", "", &text("message 2500"));
    world.settle();
    assert_eq!(world.shown(INBOX).len(), 2501);
    assert!(world.text(world.record("message 0001")).is_err(), "it is not fetched");
}

/// With the same HIGHESTMODSEQ nothing has changed, and other figures say the rest.
#[test]
fn a_folder_in_which_nothing_has_changed_is_not_opened() {
    let Some(world) = World::new(Kind::Full) else { return };
    let mut other = world.other();
    other.put("INBOX", "", &text("one"));
    world.settle();
    let opens = || {
        let mut account = world.account().expect("it begins");
        World::pass(&mut account).expect("it works");
        account.selected.is_some()
    };
    assert!(!opens());
    other.run("SELECT INBOX");
    other.run("UID STORE 1 +FLAGS.SILENT (\\Flagged)");
    assert!(opens());
    assert_eq!(world.shown(INBOX), ["one:flagged"]);
    assert!(!opens());
    other.run("UID STORE 1 +FLAGS.SILENT (\\Deleted)");
    other.run("EXPUNGE");
    assert!(opens());
    assert_eq!(world.shown(INBOX), [""; 0]);
}

#[test]
fn large_messages_are_fetched_in_pieces() {
    let Some(world) = World::new(Kind::Full) else { return };
    let mut other = world.other();
    let long = text("long") + &"0123456789abcdef\r\n".repeat(60_000);
    // The last piece of one is empty.
    let even = text("even");
    let even = format!("{even}{}", "x".repeat((256 << 10) - even.len()));
    other.put("INBOX", "", &long);
    other.put("INBOX", "", &even);
    world.settle();
    assert_eq!(world.text(world.record("long")).expect("bytes"), long);
    assert_eq!(world.text(world.record("even")).expect("bytes"), even);
}

/// What a server shows for a moment is no deletion: what it shows again is the same as before.
#[test]
fn a_moment_without_messages_is_no_deletion() {
    each(|world, kind| {
        let mut other = world.other();
        other.create("Work");
        for subject in ["one", "two", "three"] {
            other.put("INBOX", "", &text(subject));
            other.put("Work", "\\Flagged", &text(&format!("work {subject}")));
        }
        world.settle();
        let records = || {
            let mut records: Vec<_> =
                world.rows_everywhere().into_iter().map(|row| row.entry.record).collect();
            records.sort_unstable();
            records
        };
        let before = records();
        world.flag(world.record("two"), Marks::READ, NONE);
        // What a mailbox says that was told so.
        let work = if kind == Kind::Courier { "/INBOX.Work" } else { "/Work" };
        for (dir, is_folder) in [("/INBOX", false), (work, true)] {
            world.forget(dir, is_folder);
        }
        assert_eq!(records(), [0; 0], "{kind:?}");
        world.settle();
        assert_eq!(records(), before, "{kind:?}");
        // A change that was not made yet is made now.
        world.settle();
        assert_eq!(other.shown("INBOX"), ["one:", "three:", "two:read"], "{kind:?}");
        assert_eq!(world.text(world.record("two")).expect("bytes"), text("two"));
        assert_eq!(world.shown(world.folder("Work")).len(), 3);
    });
}

#[test]
fn a_message_is_fetched_when_it_is_read() {
    let Some(server) = Server::start(Kind::Full).map(Arc::new) else { return };
    let world = World::at(&server, &[("bodies", "on-demand")]);
    let mut other = world.other();
    other.put("INBOX", "", &text("one"));
    world.settle();
    let record = world.record("one");
    let error = world.text(record).expect_err("it is at the server");
    assert_eq!((error.code, error.scope), (Code::E_OFFLINE, Scope::Elsewhere));
    let mut account = world.account().expect("it begins");
    account.survey(false).expect("it works");
    assert_eq!(account.fetch_now(record).expect("it works"), Ok(()));
    assert_eq!(world.text(record).expect("bytes"), text("one"));
    let unknown = account.fetch_now(7).expect("it works").expect_err("it is none of its own");
    assert_eq!(unknown.code, Code::E_NOT_FOUND);
    other.put("INBOX", "", &text("two"));
    account.survey(false).expect("it works");
    account.look_around().expect("it works");
    let two = world.record("two");
    other.run("SELECT INBOX");
    other.run("UID STORE 2 +FLAGS.SILENT (\\Deleted)");
    other.run("EXPUNGE");
    let gone = account.fetch_now(two).expect("it works").expect_err("it is gone");
    assert_eq!(gone.code, Code::E_NOT_FOUND);
}

/// Keywords are the same on both sides, and what both sides change is merged.
#[test]
fn keywords_are_those_of_the_account() {
    each(|world, kind| {
        let mut other = world.other();
        other.put("INBOX", "\\Seen there", &text("one"));
        other.put("INBOX", "", &text("two"));
        world.settle();
        assert_eq!(world.shown(INBOX), ["one:read,there", "two:"], "{kind:?}");
        let (one, two) = (world.record("one"), world.record("two"));
        world.label(one, "$here", "");
        world.label(two, "a", "");
        world.label(two, "b", "");
        assert_eq!(world.pending(), 2, "{kind:?}");
        other.run("SELECT INBOX");
        other.run("UID STORE 1 -FLAGS.SILENT (there)");
        other.run("UID STORE 1 +FLAGS.SILENT (more)");
        world.settle();
        world.settle();
        let wanted = ["one:read,$here,more", "two:a,b"];
        assert_eq!(other.shown("INBOX"), wanted, "{kind:?}");
        assert_eq!(world.shown(INBOX), wanted, "{kind:?}");
        assert_eq!(world.pending(), 0, "{kind:?}");
        // What a program takes away is taken away, also what mostly grows.
        world.flag(two, Marks::ANSWERED, NONE);
        world.settle();
        assert_eq!(other.shown("INBOX"), ["one:read,$here,more", "two:answered,a,b"], "{kind:?}");
        world.flag(two, NONE, Marks::ANSWERED);
        world.label(two, "", "a");
        world.label(two, "$Forwarded", "");
        world.settle();
        assert_eq!(other.shown("INBOX"), ["one:read,$here,more", "two:b"], "{kind:?}");
        assert_eq!(world.pending(), 0, "what only the store can keep waits for nothing: {kind:?}");
        world.told();
        world.settle();
        assert_eq!(world.told(), [], "{kind:?}");
    });
}

/// A draft that is saved here is one of the account, and another program can go on with it; what replaces it is, too.
#[test]
fn drafts_are_in_the_account() {
    each(|mut world, kind| {
        let mut other = world.other();
        world.settle();
        let first = world.save("first words", Folder::DRAFTS);
        world.settle();
        assert_eq!(other.shown("Drafts"), ["first words:draft"], "{kind:?}");
        assert_eq!(world.shown(Folder::DRAFTS), ["first words:draft"], "{kind:?}");
        assert_eq!(world.record("first words"), first);
        world.save("more words", Folder::DRAFTS);
        for _ in 0..2 {
            world.write(StoreWrite::Delete { record: first });
        }
        world.settle();
        let visible: Vec<_> =
            other.shown("Drafts").into_iter().filter(|one| !one.contains("deleted")).collect();
        assert_eq!(visible, ["more words:draft"], "{kind:?}");
        assert_eq!(world.shown(Folder::DRAFTS), ["more words:draft"], "{kind:?}");
        assert_eq!(world.pending(), 0, "{kind:?}");
    });
}

/// An Inbox that was looked at often at a stretch, as by programs that ask for it, is left alone for seconds, and not for longer.
#[test]
fn an_inbox_is_not_forgotten() {
    each(|world, kind| {
        let mut other = world.other();
        other.put("INBOX", "", &text("one"));
        let mut account = world.account().expect("it begins");
        for _ in 0..20 {
            World::pass(&mut account).expect("it works");
        }
        other.run("SELECT INBOX");
        other.run("UID STORE 1 +FLAGS.SILENT (\\Flagged)");
        let waker = Waker::new().expect("a waker");
        let (begun, long) = (Instant::now(), Duration::from_secs(3600));
        while world.shown(INBOX) != ["one:flagged"] {
            account.wait(&waker, long).expect("it waits");
            account.look_around().expect("it works");
        }
        assert!(begun.elapsed() < long / 2, "{kind:?}");
    });
}

/// What was sent from here is put into the account's folder for that, once.
#[test]
fn what_is_sent_is_in_the_accounts_folder() {
    let Some(server) = Server::start(Kind::Full).map(Arc::new) else { return };
    for (sent, wanted) in [("append", 1), ("auto", 1), ("server", 0)] {
        let mut world = World::at(&server, &[("sent", sent)]);
        world.settle();
        world.send("hello");
        world.settle();
        assert_eq!(world.other().shown("Sent").len(), wanted, "{sent}");
        assert_eq!(world.shown(Folder::SENT), ["hello:read"], "{sent}");
        assert_eq!(world.pending(), 0);
        world.settle();
        assert_eq!(world.shown(Folder::SENT).len(), 1, "{sent}");
    }
}
