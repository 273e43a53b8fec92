//! Carrying out at the server what programs have changed in the store.
//!
//! The store says how a message is to be, and where it lies. Before a message is moved or appended, the store is told where it will be and
//! which number the next message there was going to have: whatever is cut off, the message is looked for behind that number before it is
//! moved or appended again. Flags are changed as differences, so that another program's flags stay.

use std::collections::HashSet;

use sundown_core::provider::{
    ChangedFolder, Heading, MessageFacts, MirrorChange, Pending, ProviderError, Spot, Wanted,
};
use sundown_protocol::Code;
use sundown_protocol::folder::{Flags, Marks, Role};

use super::account::{Access, Account, Selected, set_of};
use super::conversation::{Done, Part, Told};
use super::facts::{self, Described, Kept, message_id};
use super::names::{self, Name, spot};
use super::{Data, Response};
use crate::headers::Head;
use crate::mailbox::Halt;

/// The largest message that is appended. It is held in memory while it is.
const LARGEST: u64 = 256 << 20;

/// What a server says of a folder that stays as it is, however often it is tried (RFC 5530).
const FINAL: [&str; 4] = ["ALREADYEXISTS", "CANNOT", "NOPERM", "NONEXISTENT"];

const UNPLACED: &str = "the server has taken the message and does not say where it is; it is looked for, and not put there again";

/// Why one change was not carried out.
enum Failure {
    Halt(Halt),
    /// The others go on.
    This(ProviderError),
}

impl From<Halt> for Failure {
    fn from(halt: Halt) -> Self {
        match halt {
            Halt::Refused(error) => Self::This(error),
            halt => Self::Halt(halt),
        }
    }
}

impl From<ProviderError> for Failure {
    fn from(error: ProviderError) -> Self {
        Self::Halt(Halt::Failed(error))
    }
}

fn this(code: Code, text: impl Into<String>) -> Failure {
    Failure::This(ProviderError::new(code, text))
}

/// What is to be done to folders.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Wish {
    Name,
    Removal,
}

/// Where a message is to lie.
struct Target {
    dir: String,
    marks: Marks,
}

/// Where the next message of a folder will be.
#[derive(Clone, Copy)]
struct Next {
    validity: u32,
    uid: u32,
}

impl Account<'_> {
    /// Carries out everything that is pending. A change that fails leaves the others alone, and stays pending: the first error.
    pub(super) fn carry_out(&mut self) -> Result<Option<ProviderError>, Halt> {
        let mut failed = self.change_folders(Wish::Name)?;
        let mut tried = HashSet::new();
        let mut after = 0;
        loop {
            let (rows, next) = self.book.pending(after)?;
            for row in &rows {
                if !tried.insert(row.record) {
                    continue;
                }
                self.go_on()?;
                match self.one(row) {
                    Ok(()) => self.book.write()?,
                    Err(Failure::Halt(halt)) => return Err(halt),
                    Err(Failure::This(error)) => {
                        let record = format!("{:032x}", row.record);
                        tracing::warn!(server = self.talk.place(), record, %error, "a change is not made at the server yet");
                        failed.get_or_insert(error);
                    }
                }
            }
            match next {
                Some(next) => after = next,
                None => break,
            }
        }
        // What a folder had is elsewhere now.
        let kept = self.change_folders(Wish::Removal)?;
        Ok(failed.or(kept))
    }

    fn one(&mut self, pending: &Pending) -> Result<(), Failure> {
        let record = pending.record;
        let (lies, put_with) = self.whereabouts(pending)?.unzip();
        let Some(wanted) = &pending.wanted else {
            match (&lies, &pending.spot) {
                (Some((dir, uid)), _) => self.remove(dir, *uid)?,
                // It seems to be gone, which a look at its folder is to say.
                (None, Some(spot)) => {
                    self.look_again(&spot.dir);
                    return Ok(());
                }
                (None, None) => {}
            }
            let marks = Marks::default();
            return Ok(self.book.say(MirrorChange::Done {
                record,
                spot: None,
                marks,
                wanted: None,
            })?);
        };
        let target = self.target(pending, wanted, lies.as_ref())?;
        let asked = Some((wanted.folder, wanted.marks));
        let seen = Flags { marks: pending.seen, keywords: pending.seen_keywords.clone() };
        let there = put_with.flatten().unwrap_or(seen);
        let to_be = Flags { marks: target.marks, keywords: wanted.keywords.clone() };
        let mut trace = None;
        let (place, flags) = match lies {
            None if pending.spot.is_some() => {
                // It is gone at the server, which is noticed by a look at its folder.
                if let Some(spot) = &pending.spot {
                    self.look_again(&spot.dir);
                }
                return Ok(());
            }
            None => {
                let (place, its) = self.append(pending, &target, &wanted.keywords)?;
                trace = its;
                (place, to_be)
            }
            Some((dir, uid)) => {
                let flags = self.set_flags((&dir, uid), &there, &to_be)?;
                if dir == target.dir {
                    let validity = self.validity(&dir)?;
                    (spot(&dir, validity, uid), flags)
                } else {
                    (self.relocate(pending, (&dir, uid), &target, flags.marks)?, flags)
                }
            }
        };
        let Flags { marks, keywords } = flags;
        let spot = Some(place.clone());
        let mut changes = vec![MirrorChange::Done { record, spot, marks, wanted: asked }];
        if let Some(trace) = trace {
            // Another program may move it before the folder is looked at.
            changes.push(MirrorChange::Traced { spot: place.clone(), trace });
        }
        if keywords != pending.seen_keywords {
            changes.push(MirrorChange::KeywordsSet { spot: place, keywords });
        }
        Ok(self.book.say_all(changes)?)
    }

    fn look_again(&mut self, dir: &str) {
        self.note(dir, |folder| folder.stale = true);
    }

    fn validity(&mut self, dir: &str) -> Result<u32, Failure> {
        Ok(self.open(dir, Access::Look)?.validity)
    }

    /// Where a message is: where the store knows it, or where a try that was cut off has put it, and with which flags if it was nowhere before.
    fn whereabouts(&mut self, pending: &Pending) -> Result<Option<Lying>, Failure> {
        let known = self.known_place(pending)?;
        let as_seen = |place: Place| (place, None);
        let Some(heading) = &pending.heading else { return Ok(known.map(as_seen)) };
        match known {
            // One command moves a message, so it was not carried out.
            Some(known) if self.can.moves => Ok(Some(as_seen(known))),
            Some((dir, uid)) if dir != heading.dir => match self.behind(pending, heading)? {
                Some((copy, _)) => {
                    // It was copied, and what was copied is still to be removed.
                    self.remove(&dir, uid)?;
                    Ok(Some(as_seen(copy)))
                }
                None => Ok(Some(as_seen((dir, uid)))),
            },
            Some(known) => Ok(Some(as_seen(known))),
            None => {
                let found = self.behind(pending, heading)?;
                let is_new = pending.spot.is_none();
                Ok(found.map(|(place, flags)| (place, is_new.then_some(flags))))
            }
        }
    }

    /// Where the store knows a message, if it is there.
    fn known_place(&mut self, pending: &Pending) -> Result<Option<(String, u32)>, Failure> {
        let Some(Spot { dir, name }) = &pending.spot else { return Ok(None) };
        let Some((validity, uid)) = names::number(name) else { return Ok(None) };
        if !self.has_messages(dir) {
            return Ok(None);
        }
        if self.validity(dir)? != validity {
            self.look_again(dir);
            return Err(this(
                Code::E_CALL_FAILED,
                "the server has numbered the folder anew; it is looked at first",
            ));
        }
        let there = self.search(&format!("UID {uid}"))?.contains(&uid);
        Ok(there.then(|| (dir.clone(), uid)))
    }

    /// The message that a try has put into a folder before it was cut off: one behind the number that was next, which no row is, and that is
    /// described alike. Also the flags that it was put there with.
    fn behind(
        &mut self,
        pending: &Pending,
        heading: &Heading,
    ) -> Result<Option<(Place, Flags)>, Failure> {
        let beyond = heading.beyond.as_deref().and_then(names::number);
        let Some((validity, uid)) = beyond else { return Ok(None) };
        if !self.has_messages(&heading.dir) || self.validity(&heading.dir)? != validity {
            // The folder is another one now: what was put into that is nowhere to be found.
            self.unplaced.borrow_mut().remove(&pending.record);
            return Ok(None);
        }
        let next = Next { validity, uid };
        let said = self.unplaced.borrow().get(&pending.record).copied().flatten();
        let found = self.like(pending, (&heading.dir, next), said)?;
        let Some(uid) = found.uid() else { return Ok(None) };
        if let Placed::Gone(uid) = found {
            // It was there, which is all that the look at the folder needs.
            let from = Some((spot(&heading.dir, validity, uid), heading.marks));
            let (record, to) = (pending.record, heading.clone());
            self.book.say(MirrorChange::Leaves { record, from, to })?;
        }
        self.unplaced.borrow_mut().remove(&pending.record);
        let flags = Flags { marks: heading.marks, keywords: found.keywords() };
        Ok(Some(((heading.dir.clone(), uid), flags)))
    }

    /// A message behind a number that is like the pending one, and no row of the store.
    fn like(
        &mut self,
        pending: &Pending,
        behind: (&str, Next),
        said: Option<(u32, u32)>,
    ) -> Result<Placed, Failure> {
        let wanted = match pending.trace {
            Some(trace) => Likeness::Trace(trace),
            None => match self.own_bytes(pending) {
                Ok(bytes) => Likeness::of(&bytes),
                Err(_) => return Ok(Placed::Nowhere),
            },
        };
        self.placed(behind, &wanted, said)
    }

    /// Where a message is that was put behind a number: a message that is like it, and no row of the store. What the server says of the
    /// place is believed if the message there can be this one.
    fn placed(
        &mut self,
        (dir, next): (&str, Next),
        wanted: &Likeness,
        said: Option<(u32, u32)>,
    ) -> Result<Placed, Failure> {
        // The server may have put it in after the folder was opened.
        let selected = self.select(dir, Access::Look, None, |_| {})?;
        if selected.validity != next.validity {
            return Ok(Placed::Nowhere);
        }
        let mut uids = self.search(&format!("UID {}:*", next.uid))?;
        uids.retain(|uid| *uid >= next.uid);
        let said = said.filter(|(validity, _)| *validity == next.validity).map(|(_, uid)| uid);
        let nowhere = match said.filter(|uid| *uid >= next.uid && !uids.contains(uid)) {
            // A number that no message had yet says nothing. Courier does not say in a folder which is next.
            Some(uid) if uid < selected.next => Placed::Gone(uid),
            Some(uid) if selected.next == 0 && uid < self.next(dir)?.uid => Placed::Gone(uid),
            _ => Placed::Nowhere,
        };
        if uids.is_empty() {
            return Ok(nowhere);
        }
        let mut described = self.describe(&set_of(&uids))?;
        described.sort_unstable_by_key(|described| (Some(described.uid) != said, described.uid));
        let (mut equal, mut close) = (None, None);
        for described in described {
            if self.is_known(dir, next.validity, described.uid)? {
                continue;
            }
            if wanted.is_that_of(&described) {
                equal.get_or_insert(described);
            } else if Some(described.uid) == said && wanted.is_close_to(&described) {
                close = Some(described);
            }
        }
        Ok(equal.or(close).map_or(nowhere, |described| Placed::There(Box::new(described))))
    }

    /// Whether a message is a row of the store.
    fn is_known(&mut self, dir: &str, validity: u32, uid: u32) -> Result<bool, Failure> {
        let known = self.book.flags_of(dir, &names::message(validity, uid));
        Ok(known.map_err(Halt::from)?.is_some())
    }

    /// The bytes of a message that the store has, as they are at a server.
    fn own_bytes(&mut self, pending: &Pending) -> Result<Vec<u8>, Failure> {
        let mut bytes = Vec::new();
        let message = self.book.open_message(pending.record).map_err(Failure::This)?;
        let read = with_line_ends(message, &mut bytes);
        read.map_err(|error| this(Code::E_CALL_FAILED, error.to_string()))?;
        Ok(bytes)
    }

    /// Where a message is to lie, and with which marks. What is deleted is in the folder for that; without one it stays, and has the mark.
    fn target(
        &mut self,
        pending: &Pending,
        wanted: &Wanted,
        lies: Option<&(String, u32)>,
    ) -> Result<Target, Failure> {
        let (marks, seen) = (wanted.marks, pending.seen);
        let unmarked = Marks(marks.0 & !Marks::DELETED.0);
        let bound = wanted.dir.clone().filter(|dir| self.has_messages(dir));
        if wanted.role == Some(Role::Deleted) {
            let here = lies.map(|(dir, _)| dir.clone());
            let marked = Marks(marks.0 | Marks::DELETED.0);
            return Ok(match (bound, here) {
                // It has the mark already, from whoever deleted it.
                (_, Some(dir)) if seen.contains(Marks::DELETED) => Target { dir, marks },
                (Some(trash), _) => Target { dir: trash, marks },
                (None, Some(dir)) => Target { dir, marks: marked },
                (None, None) => Target { dir: self.inbox()?, marks: marked },
            });
        }
        let dir = match bound {
            Some(dir) => dir,
            None => self.make(wanted)?,
        };
        // A mark that was there before says where the message was, and not where it is to be.
        let is_new = marks.contains(Marks::DELETED) && !seen.contains(Marks::DELETED);
        Ok(Target { dir, marks: if is_new { marks } else { unmarked } })
    }

    fn inbox(&self) -> Result<String, Failure> {
        let inbox = self.folders.iter().find(|(_, folder)| folder.name.is_inbox());
        let inbox = inbox.map(|(dir, _)| dir.clone());
        inbox.ok_or_else(|| this(Code::E_CALL_FAILED, "the server has no Inbox"))
    }

    /// Whether there is such a folder at the server, and it is not only a part of the names of others.
    fn has_messages(&self, dir: &str) -> bool {
        self.folders.get(dir).is_some_and(|folder| folder.has_messages)
    }

    /// Makes the folder of a message at the server, and those that it is in.
    fn make(&mut self, wanted: &Wanted) -> Result<String, Failure> {
        let mut parent: Option<String> = None;
        for (place, part) in wanted.path.iter().enumerate() {
            if let Some(dir) = part.dir.clone().filter(|dir| self.folders.contains_key(dir)) {
                let is_last = place + 1 == wanted.path.len();
                if is_last && !self.has_messages(&dir) {
                    self.revive(&dir)?;
                }
                parent = Some(dir);
                continue;
            }
            let above = parent.as_ref().and_then(|dir| self.folders.get(dir));
            let above = above.map(|folder| folder.name.clone()).filter(|name| !name.is_inbox());
            let above = match above {
                Some(above) => Some(above),
                None => self.top()?,
            };
            let name = Name::inside(above.as_ref(), &part.name, self.delimiter);
            let dir = name.dir();
            let is_new = !self.folders.contains_key(&dir);
            if is_new {
                self.create(&name)?;
            }
            let (folder, own) = (part.folder, part.name.clone());
            self.book.say(MirrorChange::FolderMade { folder, dir: dir.clone(), name: own })?;
            self.book.write()?;
            if is_new {
                self.survey(false)?;
            }
            if !self.folders.contains_key(&dir) {
                let text = format!(
                    "the folder {} was made at the server, and is not among those that are shown",
                    name.shown()
                );
                return Err(this(Code::E_CALL_FAILED, text));
            }
            parent = Some(dir);
        }
        parent.ok_or_else(|| this(Code::E_CALL_FAILED, "the store names no folder"))
    }

    /// Makes a folder of what is only a part of names: of one, say, that another program has removed, and that has folders in it.
    fn revive(&mut self, dir: &str) -> Result<(), Failure> {
        let name = self.folder(dir)?.name.clone();
        self.create(&name)?;
        self.survey(false)?;
        if self.has_messages(dir) {
            return Ok(());
        }
        let text = format!("the server keeps no messages in the folder {}", name.shown());
        Err(this(Code::E_CALL_FAILED, text))
    }

    fn create(&mut self, name: &Name) -> Result<(), Failure> {
        let done =
            self.talk.command(&[Part::Text("CREATE "), Part::Value(&name.wire)], |_| Ok(()))?;
        self.said(done, &format!("to make the folder {}", name.shown()))?;
        // Clients that show only what is subscribed to are to see it, too.
        self.talk.command(&[Part::Text("SUBSCRIBE "), Part::Value(&name.wire)], |_| Ok(()))?;
        Ok(())
    }

    fn said(&self, done: Done, what: &str) -> Result<Done, Failure> {
        done.expect(self.talk.place(), what).map_err(Failure::This)
    }

    /// Removes a message for good: only it, whatever else has the mark. Without a command for that it keeps the mark, and is not shown.
    fn remove(&mut self, dir: &str, uid: u32) -> Result<(), Failure> {
        self.change(dir)?;
        let done = self.talk.run(&format!("UID STORE {uid} +FLAGS.SILENT (\\Deleted)"))?;
        self.said(done, "to remove a message")?;
        if self.can.uidplus {
            let done = self.talk.run(&format!("UID EXPUNGE {uid}"))?;
            self.said(done, "to remove a message")?;
        }
        Ok(())
    }

    /// Opens a folder to change something in it. What it keeps of flags.
    fn change(&mut self, dir: &str) -> Result<Kept, Failure> {
        Ok(self.open(dir, Access::Change)?.permanent)
    }

    /// Changes flags by what is different from what was seen. What the folder keeps no flags for stays in the store.
    fn set_flags(
        &mut self,
        (dir, uid): (&str, u32),
        seen: &Flags,
        wanted: &Flags,
    ) -> Result<Flags, Failure> {
        let seen_marks = Marks(seen.marks.0 & Marks::KNOWN);
        if seen_marks == wanted.marks && seen.keywords == wanted.keywords {
            return Ok(wanted.clone());
        }
        let kept = self.change(dir)?;
        let less = |all: &Flags, without: &Flags| {
            let marks = Marks(all.marks.0 & !without.marks.0 & Marks::KNOWN & kept.marks.0);
            let differ =
                |keyword: &&String| !without.keywords.contains(keyword) && kept.keeps(keyword);
            Flags { marks, keywords: all.keywords.iter().filter(differ).cloned().collect() }
        };
        let (add, remove) = (less(wanted, seen), less(seen, wanted));
        for (sign, change) in [('+', &add), ('-', &remove)] {
            let store = |flags: &str| format!("UID STORE {uid} {sign}FLAGS.SILENT ({flags})");
            let marks = facts::flags(change.marks, &[]);
            if !marks.is_empty() {
                let done = self.talk.run(&store(&marks))?;
                self.said(done, "to change flags")?;
            }
            let keywords = facts::flags(Marks::default(), &change.keywords);
            if !keywords.is_empty() {
                let done = self.talk.run(&store(&keywords))?;
                // A keyword that the server does not take stays here, and holds up nothing else of the message.
                if let Err(Failure::This(error)) = self.said(done, "to change keywords") {
                    tracing::warn!(server = self.talk.place(), %error, "keywords stay in the store");
                }
            }
        }
        let own = wanted.keywords.iter().filter(|keyword| !kept.keeps(keyword)).cloned();
        let stay = Flags { marks: Marks(wanted.marks.0 & !kept.marks.0), keywords: own.collect() };
        let gone = seen.keywords.iter().filter(|keyword| !kept.keeps(keyword)).cloned();
        let gone = Flags { marks: Marks(!kept.marks.0), keywords: gone.collect() };
        let there = Flags { marks: seen_marks, keywords: seen.keywords.clone() };
        Ok(there
            .changed(&add, &remove)
            .changed(&Flags::default(), &gone)
            .changed(&stay, &Flags::default()))
    }

    /// The number that the next message of a folder will have.
    fn next(&mut self, dir: &str) -> Result<Next, Failure> {
        let wire = self.folder(dir)?.name.wire.clone();
        let mut found = None;
        let parts =
            [Part::Text("STATUS "), Part::Value(&wire), Part::Text(" (UIDNEXT UIDVALIDITY)")];
        let done = self.talk.command(&parts, |response| {
            if let Response::Data(Data::Status(status)) = response
                && is_named(status, &wire)
            {
                // What is told unasked may be a part of it.
                found = status.uid_validity.zip(status.uid_next).or(found);
            }
            Ok(())
        })?;
        self.said(done, "what the next message will be")?;
        let (validity, uid) =
            found.ok_or_else(|| this(Code::E_CALL_FAILED, "the server does not say UIDNEXT"))?;
        Ok(Next { validity, uid })
    }

    /// Tells the store where a message will be, before it is put there.
    fn announce(
        &mut self,
        pending: &Pending,
        from: Option<(Spot, Marks)>,
        target: &Target,
    ) -> Result<Next, Failure> {
        let next = self.next(&target.dir)?;
        let beyond = Some(names::message(next.validity, next.uid));
        let to = Heading { dir: target.dir.clone(), marks: target.marks, beyond };
        self.book.say(MirrorChange::Leaves { record: pending.record, from, to })?;
        self.book.write()?;
        Ok(next)
    }

    /// Moves a message to another folder.
    fn relocate(
        &mut self,
        pending: &Pending,
        (dir, uid): (&str, u32),
        target: &Target,
        marks: Marks,
    ) -> Result<Spot, Failure> {
        if self.unplaced.borrow().contains_key(&pending.record) {
            return Err(this(Code::E_CALL_FAILED, UNPLACED));
        }
        let validity = self.validity(dir)?;
        let next = self.announce(pending, Some((spot(dir, validity, uid), marks)), target)?;
        self.change(dir)?;
        let described = self.describe(&set_of(&[uid]))?.pop();
        let wanted = described.map(|described| Likeness::Same(Box::new(described)));
        let wanted = wanted.ok_or_else(|| {
            this(Code::E_CALL_FAILED, "the server does not describe a message that is to be moved")
        })?;
        let wire = self.folder(&target.dir)?.name.wire.clone();
        let command = if self.can.moves { "MOVE" } else { "COPY" };
        let text = format!("UID {command} {uid} ");
        let mut copied = None;
        let parts = [Part::Text(&text), Part::Value(&wire)];
        let done = self.talk.command(&parts, |response| {
            // MOVE says it before it is through.
            if let Response::Words { said, .. } = response
                && let Some(super::Note::CopyUid { validity, to, .. }) = &said.note
            {
                copied = Some((*validity, to.clone()));
            }
            Ok(())
        })?;
        let done = self.said(done, "to move a message")?;
        if let Some(Told::CopyUid { validity, to, .. }) = done.note {
            copied = Some((validity, to));
        }
        let said = copied.and_then(|(validity, to)| Some((validity, to.numbers().next()?)));
        let there = self.placed((&target.dir, next), &wanted, said)?.uid();
        if !self.can.moves {
            if there.is_none() {
                self.change(dir)?;
                if self.search(&format!("UID {uid}"))?.is_empty() {
                    // Another program has taken it away before it was copied.
                    self.look_again(dir);
                } else {
                    // The server has a copy. It is not made again, wherever it is.
                    self.unplaced.borrow_mut().insert(pending.record, said);
                }
                return Err(this(Code::E_CALL_FAILED, UNPLACED));
            }
            self.remove(dir, uid)?;
        }
        self.look_again(&target.dir);
        let uid = there.ok_or_else(|| {
            this(
                Code::E_CALL_FAILED,
                "the message was not found where it was moved to; it is looked for again",
            )
        })?;
        Ok(spot(&target.dir, next.validity, uid))
    }

    /// Puts a message that the store has into a folder. Where it is, and what tells it from others.
    fn append(
        &mut self,
        pending: &Pending,
        target: &Target,
        keywords: &[String],
    ) -> Result<(Spot, Option<u128>), Failure> {
        if self.unplaced.borrow().contains_key(&pending.record) {
            return Err(this(Code::E_CALL_FAILED, UNPLACED));
        }
        let bytes = self.own_bytes(pending)?;
        let next = self.announce(pending, None, target)?;
        let looks = |open: &Selected| open.dir == target.dir && open.access == Access::Look;
        if self.selected.as_ref().is_some_and(looks) {
            // Courier puts nothing into a folder that is open to be looked at.
            self.close()?;
        }
        let Name { wire, parts: shown } = self.folder(&target.dir)?.name.clone();
        let text = format!(
            " ({}) \"{}\" {{{}}}",
            facts::flags(target.marks, keywords),
            super::date::write(pending.received as i64),
            bytes.len()
        );
        let parts = [Part::Text("APPEND "), Part::Value(&wire), Part::Text(&text)];
        let tag = self.talk.begin(&parts)?;
        let done = if let Some(refused) = self.talk.may_go_on(&mut |_| {})? {
            refused
        } else {
            self.talk.send(&bytes)?;
            self.talk.send(b"\r\n")?;
            self.talk.finish(&tag, |_| Ok(()))?
        };
        let done = self.said(done, &format!("to put a message into {}", shown.join("/")))?;
        let said = match &done.note {
            Some(Told::AppendUid { validity, uids }) => {
                uids.numbers().next().map(|uid| (*validity, uid))
            }
            _ => None,
        };
        // The server has it. It is not put there again, wherever it is.
        self.unplaced.borrow_mut().insert(pending.record, said);
        let there = self.placed((&target.dir, next), &Likeness::of(&bytes), said)?;
        self.look_again(&target.dir);
        let uid = there.uid().ok_or_else(|| this(Code::E_CALL_FAILED, UNPLACED))?;
        self.unplaced.borrow_mut().remove(&pending.record);
        Ok((spot(&target.dir, next.validity, uid), there.trace()))
    }

    /// Renames or removes folders that have another name in the store, or were removed there. One that the server refuses for now stays
    /// pending. The first error.
    fn change_folders(&mut self, wish: Wish) -> Result<Option<ProviderError>, Halt> {
        let mut failed = None;
        loop {
            let mut changed = self.book.changed_folders()?;
            changed.retain(|folder| folder.wanted.is_some() == (wish == Wish::Name));
            if wish == Wish::Removal {
                // Inner folders come behind outer ones, and go first.
                changed.reverse();
            }
            if changed.is_empty() {
                return Ok(failed);
            }
            // Some servers leave a folder that is open as it is.
            self.close()?;
            let is_rest = self.change_each(changed, &mut failed)?;
            // A folder that stays is one of the store's again.
            self.told.clear();
            self.survey(false)?;
            if !is_rest {
                return Ok(failed);
            }
        }
    }

    /// Changes folders. Whether there are some in a folder that has another name now, and that therefore have one, too.
    fn change_each(
        &mut self,
        changed: Vec<ChangedFolder>,
        failed: &mut Option<ProviderError>,
    ) -> Result<bool, Halt> {
        let (mut renamed, mut is_rest) = (Vec::<String>::new(), false);
        for ChangedFolder { dir, wanted } in changed {
            self.go_on()?;
            if renamed.iter().any(|outer| dir.starts_with(outer.as_str())) {
                is_rest = true;
                continue;
            }
            let name = wanted.map(|mut path| path.pop().unwrap_or_default());
            let change = if self.folders.contains_key(&dir) {
                let done = match &name {
                    Some(own) => self.rename_folder(&dir, own),
                    None => self.remove_folder(&dir),
                };
                match done {
                    Err(Halt::Refused(error)) => Err(Refusal { error, is_final: false }),
                    done => done?,
                }
            } else {
                Ok(())
            };
            let change = match (change, &name) {
                (Ok(()), Some(own)) if self.folders.contains_key(&dir) => {
                    let to = self.name_beside(&dir, own)?.dir();
                    renamed.push(format!("{dir}."));
                    MirrorChange::FolderMoved { from: dir, to, name: own.clone() }
                }
                (Ok(()), None) if self.folders.remove(&dir).is_some() => {
                    MirrorChange::FolderGone { dir }
                }
                (Ok(()), _) => MirrorChange::FolderKept { dir, name },
                (Err(Refusal { error, is_final }), _) => {
                    tracing::warn!(server = self.talk.place(), folder = dir, %error, "a folder stays as it is at the server");
                    failed.get_or_insert(error);
                    // A folder that cannot be removed is there again, with what comes into it.
                    if !is_final && name.is_some() {
                        continue;
                    }
                    MirrorChange::FolderKept { dir, name }
                }
            };
            self.book.say_all(vec![change])?;
            self.book.write()?;
        }
        Ok(is_rest)
    }

    /// A folder that is to get a name which another folder has at the server by now keeps its own. It was not renamed by a try that was cut
    /// off: it is still there.
    pub(super) fn keep_taken_names(&mut self) -> Result<(), Halt> {
        let changed = self.book.changed_folders()?;
        // Their names are free, or will be.
        let gives_up: HashSet<_> = changed.iter().map(|folder| folder.dir.clone()).collect();
        for ChangedFolder { dir, wanted } in changed {
            let Some(own) = wanted.and_then(|mut path| path.pop()) else { continue };
            if !self.folders.contains_key(&dir) {
                continue;
            }
            let to = self.name_beside(&dir, &own)?.dir();
            if to != dir && self.folders.contains_key(&to) && !gives_up.contains(&to) {
                tracing::warn!(
                    server = self.talk.place(),
                    folder = dir,
                    name = own,
                    "a folder keeps its name: another one has it at the server"
                );
                self.book.say(MirrorChange::FolderKept { dir, name: Some(own) })?;
            }
        }
        Ok(())
    }

    /// The folder that new ones are in which are in no other: none, or mostly the Inbox where the server has all folders in it.
    fn top(&mut self) -> Result<Option<Name>, Halt> {
        let mut top = None;
        if self.talk.offer.has("NAMESPACE") {
            let done = self.talk.command(&[Part::Text("NAMESPACE")], |response| {
                if let Response::Data(Data::Namespace { own: Some(own), .. }) = response {
                    top = Name::above(own);
                }
                Ok(())
            })?;
            self.sound(done, "where folders are")?;
        }
        Ok(top)
    }

    /// The name of a folder beside another one.
    fn name_beside(&self, dir: &str, own: &str) -> Result<Name, Halt> {
        let parent = self.folder(dir)?.name.parent();
        let parent = parent.and_then(|dir| Some(&self.folders.get(&dir)?.name));
        Ok(Name::inside(parent, own, self.delimiter))
    }

    fn rename_folder(&mut self, dir: &str, own: &str) -> Result<Result<(), Refusal>, Halt> {
        let (before, to) = (self.folder(dir)?.name.clone(), self.name_beside(dir, own)?);
        if to.wire == before.wire {
            return Ok(Ok(()));
        }
        let parts = [
            Part::Text("RENAME "),
            Part::Value(&before.wire),
            Part::Text(" "),
            Part::Value(&to.wire),
        ];
        let done = self.talk.command(&parts, |_| Ok(()))?;
        Ok(self.carried_out(done, &format!("to rename the folder {}", before.shown())))
    }

    /// Removes a folder that has nothing. Whatever has come into it in the meantime brings it back.
    fn remove_folder(&mut self, dir: &str) -> Result<Result<(), Refusal>, Halt> {
        let folder = self.folder(dir)?;
        let (name, has_messages) = (folder.name.clone(), folder.has_messages);
        let kept = |what: &str| {
            let text = format!("the folder {} has {what} at the server; it stays", name.shown());
            Ok(Err(Refusal {
                error: ProviderError::new(Code::E_CALL_FAILED, text),
                is_final: true,
            }))
        };
        let what = format!("to remove the folder {}", name.shown());
        if self.has_folders(&name)? {
            return kept("folders");
        }
        if has_messages && !self.is_empty(dir)? {
            self.look_again(dir);
            return kept("messages");
        }
        let done =
            self.talk.command(&[Part::Text("DELETE "), Part::Value(&name.wire)], |_| Ok(()))?;
        Ok(self.carried_out(done, &what))
    }

    /// Whether there are folders in a folder, also such as are not shown.
    fn has_folders(&mut self, name: &Name) -> Result<bool, Halt> {
        let Some(delimiter) = self.delimiter else { return Ok(false) };
        let inner = [&name.wire[..], &[delimiter]].concat();
        let pattern = [&inner[..], b"*"].concat();
        let mut has = false;
        let parts = [Part::Text("LIST \"\" "), Part::Value(&pattern)];
        let done = self.talk.command(&parts, |response| {
            has |= matches!(response, Response::Data(Data::List(list)) if list.name.starts_with(&inner));
            Ok(())
        })?;
        self.sound(done, "what folders are in a folder")?;
        Ok(has)
    }

    /// Whether a folder has nothing, but for what was moved out of it at a server that cannot remove it: that has a mark, and no row.
    fn is_empty(&mut self, dir: &str) -> Result<bool, Halt> {
        let exists = self.select(dir, Access::Look, None, |_| {})?.exists;
        let is_unmarked =
            !self.search(if self.can.uidplus { "ALL" } else { "UNDELETED" })?.is_empty();
        let is_marked = exists > 0 && (self.can.uidplus || self.book.rows_in(dir)? > 0);
        self.close()?;
        Ok(!is_unmarked && !is_marked)
    }

    /// Whether the server has changed a folder.
    fn carried_out(&self, done: Done, what: &str) -> Result<(), Refusal> {
        let is_final =
            matches!(&done.note, Some(Told::Other(name)) if FINAL.contains(&name.as_str()));
        let done = done.expect(self.talk.place(), what);
        done.map(|_| ()).map_err(|error| Refusal { error, is_final })
    }
}

/// Whether a server speaks of this folder.
fn is_named(status: &super::Status<'_>, wire: &[u8]) -> bool {
    *status.name == *wire
        || status.name.eq_ignore_ascii_case(b"INBOX") && wire.eq_ignore_ascii_case(b"INBOX")
}

/// What the server says why a folder stays as it is.
struct Refusal {
    error: ProviderError,
    /// Whether it will stay so, however often it is tried.
    is_final: bool,
}

/// Where a message lies, and the flags that it was put there with, if these are not what the store has seen.
type Lying = (Place, Option<Flags>);

/// A directory and a number of a message in it.
type Place = (String, u32);

/// Where a message is that was put into a folder.
enum Placed {
    There(Box<Described>),
    /// The server says which number it got, and no message has that any more: another program has moved or removed it. A look at the folder
    /// finds that out.
    Gone(u32),
    Nowhere,
}

impl Placed {
    fn uid(&self) -> Option<u32> {
        match self {
            Self::There(described) => Some(described.uid),
            Self::Gone(uid) => Some(*uid),
            Self::Nowhere => None,
        }
    }

    fn keywords(&self) -> Vec<String> {
        match self {
            Self::There(described) => described.facts.keywords.clone(),
            Self::Gone(_) | Self::Nowhere => Vec::new(),
        }
    }

    fn trace(&self) -> Option<u128> {
        match self {
            Self::There(described) => described.facts.trace,
            Self::Gone(_) | Self::Nowhere => None,
        }
    }
}

/// What tells a message from others in its folder.
enum Likeness {
    /// As a message was described elsewhere.
    Same(Box<Described>),
    Trace(u128),
    Id(Vec<u8>),
    /// Of a message without an identity of its own.
    Shape {
        size: u64,
        subject: String,
    },
}

impl Likeness {
    fn of(bytes: &[u8]) -> Self {
        let head = &bytes[..bytes.len().min(crate::headers::MAX_HEAD)];
        match message_id(head) {
            Some(id) => Self::Id(id),
            None => Self::Shape { size: bytes.len() as u64, subject: Head::of(head).subject() },
        }
    }

    /// Whether a message can be this one, at a server that changes what it is given.
    fn is_close_to(&self, described: &Described) -> bool {
        let facts = &described.facts;
        match self {
            Self::Same(before) => {
                let was = &before.facts;
                let of = |facts: &MessageFacts| (facts.date, facts.from.clone(), facts.to.clone());
                before.id == described.id && was.subject == facts.subject && of(was) == of(facts)
            }
            Self::Shape { subject, .. } => described.id.is_none() && facts.subject == *subject,
            Self::Trace(_) | Self::Id(_) => self.is_that_of(described),
        }
    }

    fn is_that_of(&self, described: &Described) -> bool {
        match self {
            Self::Same(before) => {
                self.is_close_to(described) && before.facts.size == described.facts.size
            }
            Self::Trace(trace) => described.facts.trace == Some(*trace),
            Self::Id(id) => described.id.as_ref() == Some(id),
            Self::Shape { size, subject } => {
                let facts = &described.facts;
                described.id.is_none() && facts.size == *size && facts.subject == *subject
            }
        }
    }
}

/// Reads a message, whose lines end in CRLF then.
fn with_line_ends(
    mut message: Box<dyn std::io::Read + Send + '_>,
    into: &mut Vec<u8>,
) -> std::io::Result<()> {
    let mut buffer = vec![0; 64 << 10];
    loop {
        let n = message.read(&mut buffer)?;
        if n == 0 {
            return Ok(());
        }
        if into.len() as u64 + n as u64 > LARGEST {
            return Err(std::io::Error::other("the message is too large to be put at the server"));
        }
        for byte in &buffer[..n] {
            if *byte == b'\n' && into.last() != Some(&b'\r') {
                into.push(b'\r');
            }
            into.push(*byte);
        }
    }
}
