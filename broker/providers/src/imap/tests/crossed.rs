//! The mailbox and another program cross: it changes something between two commands of the mailbox.

use std::sync::Arc;

use sundown_core::provider::StoreWrite;
use sundown_protocol::folder::Marks;
use sundown_protocol::request::Folder;

use super::super::account::Account;
use super::super::conversation::Cut;
use super::plain::{Part, Plain};
use super::server::{Kind, Server};
use super::stories::each;
use super::world::{World, text};
use crate::mailbox::testing::When;

const INBOX: Folder = Folder::INBOX;

fn plain(world: &World, kind: Kind) -> Plain {
    Plain::new(kind, world.server().port, world.user())
}

/// Another program moves all messages of a folder to another one.
fn move_all(plain: &mut Plain, folder: &str, to: &str) {
    plain.open(folder, Part::Subject).expect("it is there");
    assert!(plain.about("UID COPY 1:*", to));
    assert!(plain.tell("UID STORE 1:* +FLAGS.SILENT (\\Deleted)"));
    assert!(plain.tell("EXPUNGE"));
    plain.close(folder);
}

/// Does something once: before a command that is chosen.
fn before(
    account: &mut Account<'_>,
    mut is_it: impl FnMut(&str) -> bool + Send + 'static,
    act: impl FnOnce() + Send + 'static,
) {
    let mut act = Some(act);
    account.talk.meanwhile.0 = Some(Box::new(move |command| {
        if act.is_some()
            && is_it(command)
            && let Some(act) = act.take()
        {
            act();
        }
    }));
}

/// The command behind one that puts a message somewhere.
fn behind_placing() -> impl FnMut(&str) -> bool + Send + 'static {
    let mut is_placed = false;
    move |command| {
        let is_it = is_placed && command.contains("EXAMINE");
        let places = ["UID COPY", "UID MOVE", "APPEND"];
        is_placed |= places.iter().any(|placing| command.contains(placing));
        is_it
    }
}

/// A message that was put into a folder from here stays the same when another program moves it and when the folder is numbered anew, also
/// before the mailbox has looked at the folder.
#[test]
fn what_was_put_there_from_here_stays_the_same() {
    for has_looked in [true, false] {
        each(|mut world, kind| {
            let mut plain = plain(&world, kind);
            assert!(plain.about("CREATE", "Work"));
            world.settle();
            let record = world.save("one", INBOX);
            let mut account = world.account().expect("it begins");
            if has_looked {
                World::pass(&mut account).expect("it works");
            } else {
                account.survey(true).expect("it works");
                assert_eq!(account.carry_out().expect("it works"), None);
            }
            drop(account);
            if world.server().number_anew(world.user()) {
                plain = self::plain(&world, kind);
                world.settle();
                assert_eq!(world.record("one"), record, "{kind:?}");
            }
            move_all(&mut plain, "INBOX", "Work");
            world.settle();
            assert_eq!(world.shown(world.folder("Work")), ["one:"], "{kind:?}");
            assert_eq!(world.record("one"), record, "{kind:?}, {has_looked}");
        });
    }
}

/// A message that was moved into a folder with new numbers, and was removed there before the mailbox has looked, is gone.
#[test]
fn what_is_gone_from_a_folder_with_new_numbers_is_gone() {
    each(|world, kind| {
        let mut other = world.other();
        other.create("Work");
        other.put("INBOX", "", &text("one"));
        other.put("Work", "", &text("two"));
        world.settle();
        if !world.server().number_anew(world.user()) {
            return;
        }
        world.move_to(world.record("two"), INBOX);
        let mut account = world.account().expect("it begins");
        account.survey(true).expect("it works");
        account.carry_out().expect("it works");
        let mut plain = plain(&world, kind);
        plain.open("INBOX", Part::Subject).expect("it is there");
        assert!(plain.tell("UID STORE 2 +FLAGS.SILENT (\\Deleted)") && plain.tell("EXPUNGE"));
        plain.close("INBOX");
        account.look_around().expect("it works");
        assert_eq!(world.shown(INBOX), ["one:"], "{kind:?}");
    });
}

/// A message that was put into a folder from here, and was removed there before the mailbox has looked, is gone.
#[test]
fn what_is_gone_before_a_look_is_gone() {
    each(|mut world, kind| {
        let mut plain = plain(&world, kind);
        world.settle();
        world.save("one", INBOX);
        let mut account = world.account().expect("it begins");
        account.survey(true).expect("it works");
        assert_eq!(account.carry_out().expect("it works"), None);
        plain.open("INBOX", Part::Subject).expect("it is there");
        assert!(plain.tell("UID STORE 1 +FLAGS.SILENT (\\Deleted)") && plain.tell("EXPUNGE"));
        account.look_around().expect("it works");
        drop(account);
        world.settle();
        assert_eq!(world.shown(INBOX), [""; 0], "{kind:?}");
    });
}

/// A folder that another program has removed, and that is a part of the names of others, has no messages, and is made again for what is moved
/// into it here.
#[test]
fn a_folder_that_is_only_a_name_is_made_again() {
    each(|world, kind| {
        let mut plain = plain(&world, kind);
        for folder in ["Work", "Work/Kid"] {
            assert!(plain.about("CREATE", folder));
        }
        assert!(plain.append("INBOX", "()", text("one").as_bytes()));
        assert!(plain.append("Work", "()", text("two").as_bytes()));
        world.settle();
        let folder = world.folder("Work");
        // Some servers remove no folder with folders.
        let is_removed = plain.about("DELETE", "Work");
        world.settle();
        let left = if is_removed { &[][..] } else { &["two:"] };
        let subjects = |folder| world.shown(folder).into_iter().filter(|one| one == "two:");
        let shown: Vec<_> = world.folders().iter().flat_map(|row| subjects(row.folder)).collect();
        assert_eq!(shown, left, "{kind:?}");
        if world.folders().iter().all(|row| row.folder != folder) {
            // This server removes it altogether.
            return;
        }
        world.move_to(world.record("one"), folder);
        world.settle();
        assert_eq!(world.pending(), 0, "{kind:?}");
        let wanted: Vec<_> = ["one:"].iter().chain(left).copied().collect();
        assert_eq!(world.other().shown("Work"), wanted, "{kind:?}");
        assert_eq!(world.shown(folder), wanted, "{kind:?}");
    });
}

/// What is found in a folder while that is about to be removed is in the folder that stays because of it.
#[test]
fn what_is_found_in_a_folder_that_is_being_removed_is_in_it() {
    each(|world, kind| {
        let mut other = world.other();
        other.create("Work");
        world.settle();
        other.put("Work", "", &text("new"));
        let mut account = world.account().expect("it begins");
        account.survey(true).expect("it works");
        world.write(StoreWrite::RemoveFolder { folder: world.folder("Work") });
        account.look_around().expect("it works");
        World::pass(&mut account).expect("it works");
        drop(account);
        world.settle();
        assert_eq!(world.shown(world.folder("Work")), ["new:"], "{kind:?}");
        assert_eq!(world.shown(INBOX), [""; 0], "{kind:?}");
    });
}

/// A message that the server had taken when the connection broke, at any step, is found there, and can be moved.
#[test]
fn what_was_found_after_a_broken_connection_can_be_moved() {
    for kind in [Kind::Full, Kind::Courier] {
        let Some(server) = Server::start(kind).map(Arc::new) else { return };
        for step in 0.. {
            let mut world = World::at(&server, &[]);
            let mut other = world.other();
            other.create("Work");
            world.settle();
            let record = world.save("one", INBOX);
            let mut account = world.account().expect("it begins");
            account.survey(true).expect("it works");
            account.talk.cut = Some((step, Cut::Question));
            let is_through = account.carry_out().is_ok();
            drop(account);
            world.move_to(record, world.folder("Work"));
            world.settle();
            let there = (other.shown("INBOX"), other.shown("Work"));
            assert_eq!(there, (vec![], vec!["one:".to_owned()]), "{kind:?} at step {step}");
            assert_eq!(world.pending(), 0, "{kind:?} at step {step}");
            if is_through {
                assert!(step > 4, "{kind:?}: {step}");
                break;
            }
        }
    }
}

/// Flags that change here after a message was put there, and before that is known, are changed there.
#[test]
fn flags_change_that_a_message_was_put_there_with() {
    each(|mut world, kind| {
        world.set("sent", "append");
        world.settle();
        world.send("one");
        let record = world.record("one");
        world.label(record, "old", "");
        let mut account = world.account().expect("it begins");
        account.survey(true).expect("it works");
        // Before it is written that the message is there.
        *world.broker.kill.lock().expect("no panic") = Some((1, When::Before));
        account.carry_out().expect_err("it is killed");
        drop(account);
        *world.broker.kill.lock().expect("no panic") = None;
        world.flag(record, Marks(0), Marks::READ);
        world.label(record, "new", "old");
        world.settle();
        assert_eq!(world.other().shown("Sent"), ["one:new"], "{kind:?}");
        assert_eq!(world.shown(Folder::SENT), ["one:new"], "{kind:?}");
    });
}

/// Another program takes a message away from where it has just been put: it is put there once.
#[test]
fn what_is_taken_away_at_once_is_not_put_there_again() {
    for is_moved in [true, false] {
        each(|mut world, kind| {
            if kind == Kind::Plain {
                // Without UIDPLUS nothing says that it was there.
                return;
            }
            let mut plain = plain(&world, kind);
            for folder in ["Work", "Other"] {
                assert!(plain.about("CREATE", folder));
            }
            if is_moved {
                assert!(plain.append("INBOX", "()", text("one").as_bytes()));
            }
            world.settle();
            let work = world.folder("Work");
            if is_moved {
                world.move_to(world.record("one"), work);
            } else {
                world.save("one", work);
            }
            let mut account = world.account().expect("it begins");
            before(&mut account, behind_placing(), move || move_all(&mut plain, "Work", "Other"));
            World::pass(&mut account).expect("it works");
            drop(account);
            world.settle();
            assert_eq!(world.pending(), 0, "{kind:?}");
            let mut other = world.other();
            for (name, folder) in [("INBOX", INBOX), ("Work", work)] {
                assert_eq!((other.shown(name), world.shown(folder)), (vec![], vec![]), "{kind:?}");
            }
            assert_eq!(other.shown("Other"), ["one:"], "{kind:?}, {is_moved}");
            assert_eq!(world.shown(world.folder("Other")), ["one:"], "{kind:?}");
        });
    }
}

/// Another program removes the folder into which a message was put just now: the message is put into it again.
#[test]
fn what_goes_with_its_folder_is_put_there_again() {
    each(|mut world, kind| {
        let mut plain = plain(&world, kind);
        assert!(plain.about("CREATE", "Work"));
        world.settle();
        world.save("one", world.folder("Work"));
        let mut account = world.account().expect("it begins");
        before(&mut account, behind_placing(), move || {
            assert!(plain.about("DELETE", "Work"));
        });
        let _ = World::pass(&mut account);
        drop(account);
        world.settle();
        assert_eq!(world.pending(), 0, "{kind:?}");
        assert_eq!(world.other().shown("Work"), ["one:"], "{kind:?}");
        assert_eq!(world.shown(world.folder("Work")), ["one:"], "{kind:?}");
    });
}

/// A flag that changes between the look at a folder and the taking of its new messages is seen by the next look.
#[test]
fn a_flag_that_changes_before_new_messages_are_taken_is_seen() {
    each(|world, kind| {
        let mut plain = plain(&world, kind);
        assert!(plain.append("INBOX", "()", text("one").as_bytes()));
        world.settle();
        assert!(plain.append("INBOX", "()", text("two").as_bytes()));
        let mut account = world.account().expect("it begins");
        account.survey(true).expect("it works");
        let is_another =
            |command: &str| command.contains("EXAMINE") && !command.contains("INBOX\"");
        before(&mut account, is_another, move || {
            plain.open("INBOX", Part::Subject).expect("it is there");
            assert!(plain.tell("UID STORE 1 +FLAGS.SILENT (\\Flagged)"));
        });
        account.look_around().expect("it works");
        drop(account);
        world.settle();
        assert_eq!(world.shown(INBOX), ["one:flagged", "two:"], "{kind:?}");
    });
}

/// What a server sends in the place of a message that was just removed is neither a message nor the bytes of one.
#[test]
fn what_stands_for_a_removed_message_is_none() {
    for is_known in [true, false] {
        each(|world, kind| {
            let mut plain = plain(&world, kind);
            assert!(plain.about("CREATE", "Work"));
            world.settle();
            assert!(plain.append("INBOX", "()", text("one").as_bytes()));
            let mut account = world.account().expect("it begins");
            account.survey(true).expect("it works");
            let asked = if is_known { "BODY.PEEK[]" } else { "BODY.PEEK[HEADER" };
            let is_it = move |command: &str| command.contains(asked);
            before(&mut account, is_it, move || move_all(&mut plain, "INBOX", "Work"));
            account.look_around().expect("it works");
            if is_known {
                assert!(account.work().expect("it works"), "{kind:?}");
            }
            let shown = world.shown(INBOX);
            assert!(shown.is_empty() || shown == ["one:"], "{kind:?}: {shown:?}");
            drop(account);
            world.settle();
            assert_eq!(world.shown(world.folder("Work")), ["one:"], "{kind:?}");
            assert_eq!(world.text(world.record("one")).expect("bytes"), text("one"), "{kind:?}");
        });
    }
}

/// A keyword that is removed here while it is being set at the server is removed there, too; and one that is set while it is being removed
/// is set.
#[test]
fn a_keyword_that_changes_while_it_is_being_set_is_as_it_was_wanted_last() {
    for (first, last) in [("set", ""), ("", "set")] {
        each(|world, kind| {
            let mut plain = plain(&world, kind);
            let with = if first.is_empty() { "(set)" } else { "()" };
            assert!(plain.append("INBOX", with, text("one").as_bytes()));
            world.settle();
            let record = world.record("one");
            let change = |to: &str| {
                let flags = |text: &str| text.parse().expect("flags");
                let (add, remove) = if to.is_empty() { ("", "set") } else { ("set", "") };
                StoreWrite::SetFlags { record, add: flags(add), remove: flags(remove) }
            };
            world.write(change(first));
            let mut account = world.account().expect("it begins");
            let (broker, last_change) = (Arc::clone(&world.broker), change(last));
            before(
                &mut account,
                |command| command.contains("UID STORE"),
                move || {
                    broker.write(last_change).expect("it is written");
                },
            );
            World::pass(&mut account).expect("it works");
            drop(account);
            world.settle();
            let wanted = [format!("one:{last}")];
            assert_eq!(world.shown(INBOX), wanted, "{kind:?}");
            assert_eq!(world.other().shown("INBOX"), wanted, "{kind:?}");
            assert_eq!(world.pending(), 0, "{kind:?}");
        });
    }
}

/// Messages that nothing tells apart (no `Message-ID`; the same second, size and head) and that have different bytes are each there once, with
/// their own bytes and flags, wherever they are moved, and when the folder is numbered anew.
#[test]
fn twins_keep_their_own_bytes() {
    each(|mut world, kind| {
        world.set("bodies", "all");
        let mut plain = plain(&world, kind);
        assert!(plain.about("CREATE", "Work"));
        let twin = |last: char| text("bare").replace("body of bare", &format!("body of bar{last}"));
        let time = "\"01-Feb-2024 10:00:00 +0000\"";
        for last in ['a', 'b', 'c', 'd'] {
            assert!(plain.append("INBOX", &format!("(twin{last}) {time}"), twin(last).as_bytes()));
        }
        world.settle();
        let check = |at: &str| {
            let mut found = Vec::new();
            for row in world.rows_everywhere() {
                let last = row.flags.keywords[0].chars().last().expect("a letter");
                let bytes = world.text(row.entry.record).expect("bytes");
                assert_eq!(bytes, twin(last), "{kind:?} {at}");
                found.push(last);
            }
            found.sort_unstable();
            assert_eq!(found, ['a', 'b', 'c', 'd'], "{kind:?} {at}");
        };
        check("at first");
        let of = |keyword: &str| {
            let mut rows = world.rows_everywhere().into_iter();
            let row = rows.find(|row| row.flags.keywords == [keyword]).expect("it is there");
            row.entry.record
        };
        let records = ["twina", "twinb", "twinc", "twind"].map(of);
        world.move_to(records[1], world.folder("Work"));
        world.flag(records[2], Marks::FLAGGED, Marks(0));
        world.settle();
        check("moved here");
        // It is still one of two that look alike.
        plain.open("INBOX", Part::Subject).expect("it is there");
        assert!(plain.about("UID COPY 4", "Work"));
        assert!(plain.tell("UID STORE 4 +FLAGS.SILENT (\\Deleted)") && plain.tell("EXPUNGE"));
        plain.close("INBOX");
        world.settle();
        check("moved there");
        if world.server().number_anew(world.user()) {
            world.settle();
            check("numbered anew");
        }
        assert_eq!(["twina", "twinb", "twinc", "twind"].map(of), records, "{kind:?}");
        let flagged =
            world.rows_everywhere().into_iter().filter(|row| row.flags.marks == Marks::FLAGGED);
        assert_eq!(
            flagged.map(|row| row.entry.record).collect::<Vec<_>>(),
            [records[2]],
            "{kind:?}"
        );
    });
}

/// Whether a message is still there is asked between two commands, and not while the answer to another one is on its way.
#[test]
fn messages_without_a_head_do_not_stop_a_first_mirror() {
    let Some(world) = World::new(Kind::Full) else { return };
    let mut other = world.other();
    // The newest, a part of the older ones, and another part that is asked for meanwhile.
    for n in 0..1_400 {
        let message = if n % 450 == 9 { "\r\nbody\r\n".to_owned() } else { text(&n.to_string()) };
        other.put("INBOX", "", &message);
    }
    world.settle();
    assert_eq!(world.rows(INBOX).len(), 1_400);
}
