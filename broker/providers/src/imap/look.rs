//! What has changed in a folder: flags, messages that are gone, numbers that are not valid any more.

use std::collections::{BTreeMap, HashMap};

use sundown_core::provider::{Cursor, MirrorChange, ProviderError, Spot};
use sundown_protocol::Code;
use sundown_protocol::folder::{Flags, Marks};

use super::account::{Access, Account, Folder, Seen, Selected, most, set_of};
use super::conversation::Part;
use super::facts::Kept;
use super::names::{self, spot};
use super::take::{CHUNK, NEWEST};
use super::{Data, Fetch, Response, facts};
use crate::mailbox::{Halt, PAGE};

/// More changes than these are not kept of one answer.
const MOST_CHANGES: usize = 1 << 20;

/// More different keywords than fill this are not kept of one answer, in bytes.
const MOST_KEYWORDS: usize = 4 << 20;

/// How many rows are read at once to compare flags, unless those of most messages are compared.
const FEW: u32 = 16;

impl Account<'_> {
    /// Looks at every folder that may have changed, and takes what is new.
    pub(super) fn look_around(&mut self) -> Result<(), Halt> {
        self.hear();
        let mut dirs: Vec<_> = self.with_messages().collect();
        // What people wait for is in the Inbox.
        dirs.sort_by_key(|dir| !self.folders[dir].name.is_inbox());
        for dir in &dirs {
            let folder = self.folder(dir)?;
            let is_inbox = folder.name.is_inbox();
            if folder.stale && !folder.rests() {
                self.go_on()?;
                let looked = self.look(dir);
                self.of_folder(dir, looked)?;
                if is_inbox && self.is_first(dir)? && !self.folder(dir)?.is_closed {
                    let taken = self.take_older(dir, NEWEST);
                    self.of_folder(dir, taken)?;
                }
            }
        }
        for dir in &dirs {
            if self.folder(dir)?.has_new {
                self.go_on()?;
                let taken = self.take(dir);
                self.of_folder(dir, taken)?;
            }
        }
        Ok(())
    }

    /// Looks at a folder: which flags have changed, and which messages are gone.
    pub(super) fn look(&mut self, dir: &str) -> Result<(), Halt> {
        let cursor = self.book.cursor(dir)?;
        let since = cursor.filter(|cursor| cursor.modseq > 0 && self.can.qresync);
        let (mut gone, mut flags) = (Vec::new(), FlagList::default());
        self.note(dir, Folder::is_looked_at);
        let selected = self.select(dir, Access::Look, since, |response| match response {
            // What is too much to be kept is found by comparing.
            Response::Data(Data::Vanished { uids, .. }) if gone.len() < MOST_CHANGES => {
                gone.extend_from_slice(uids.ranges());
            }
            Response::Data(Data::Fetch(fetch)) if flags.rows.len() < MOST_CHANGES => {
                flags.add(fetch);
            }
            _ => {}
        })?;
        self.note(dir, |folder| {
            (folder.stale, folder.has_new) = (false, false);
            folder.seen = Some(Seen::of(&selected));
        });
        if selected.validity == 0 {
            // Without a validity no number of a message means anything later.
            let text = "the server gives no UIDVALIDITY; the folder is not shown";
            return Err(Halt::Refused(ProviderError::new(Code::E_CORRUPT_DATA, text)));
        }
        let Some(cursor) = cursor else { return self.begin_first(dir, &selected) };
        if cursor.validity != selected.validity {
            return self.numbered_anew(dir, &selected);
        }
        if since.is_some() && selected.modseq > 0 {
            self.say_vanished(dir, cursor.validity, gone)?;
            self.say_flags(dir, &selected, &flags)?;
        } else if cursor.modseq > 0 && selected.modseq > 0 && self.can.condstore {
            if cursor.modseq != selected.modseq {
                let flags = self.ask_flags("1:*", Some(cursor.modseq))?;
                self.say_flags(dir, &selected, &flags)?;
            }
            let present = self.search("ALL")?;
            self.say_missing(dir, &selected, &present)?;
        } else {
            let flags = self.ask_flags("1:*", None)?;
            let present: Vec<_> = flags.rows.iter().map(|row| row.uid).collect();
            self.say_flags(dir, &selected, &flags)?;
            self.say_missing(dir, &selected, &present)?;
        }
        self.book.write()?;
        let has_new = selected.next == 0 || selected.next > cursor.next;
        if has_new {
            self.note(dir, |folder| folder.has_new = true);
            return Ok(());
        }
        self.reconcile(dir, &selected, cursor)
    }

    /// The first look at a folder. What is in it is taken later, a part at a time.
    pub(super) fn begin_first(&mut self, dir: &str, selected: &Selected) -> Result<(), Halt> {
        let next = if selected.next > 0 {
            selected.next
        } else {
            self.search("ALL")?.last().map_or(1, |last| last.saturating_add(1))
        };
        let low = next;
        let (validity, modseq, messages) = (selected.validity, selected.modseq, selected.exists);
        let cursor = Cursor { validity, next, low, modseq, messages };
        self.book.say(MirrorChange::Cursor { dir: dir.to_owned(), cursor })?;
        self.book.write()
    }

    /// The server has given other numbers to all messages of a folder. Those that are described as before are the same; rows without a
    /// message go only when all have been compared.
    pub(super) fn numbered_anew(&mut self, dir: &str, selected: &Selected) -> Result<(), Halt> {
        let name = self.folders[dir].name.shown();
        tracing::info!(
            server = self.talk.place(),
            folder = name,
            "the server has numbered the messages anew"
        );
        let uids = self.search("ALL")?;
        for chunk in uids.chunks(CHUNK) {
            self.go_on()?;
            let described = self.describe(&set_of(chunk))?;
            self.say_found(dir, selected.validity, described, false)?;
        }
        self.book.write()?;
        let mut old = Vec::new();
        self.book.each_row(dir, |_, name, _| {
            if names::number(name).is_none_or(|(validity, _)| validity != selected.validity) {
                old.push(name.to_owned());
            }
            Ok(())
        })?;
        for name in old {
            let spot = Spot { dir: dir.to_owned(), name };
            self.book.say(MirrorChange::Vanished { spot })?;
        }
        let next = if selected.next > 0 {
            selected.next
        } else {
            uids.last().map_or(1, |last| last.saturating_add(1))
        };
        // What was put there from here since, and was removed there, is a row with a number of the new kind.
        let (validity, modseq, messages) = (selected.validity, selected.modseq, u32::MAX);
        self.reconcile(dir, selected, Cursor { validity, next, low: 1, modseq, messages })
    }

    /// The flags of messages: of all, or of those that have changed since.
    pub(super) fn ask_flags(&mut self, uids: &str, since: Option<u64>) -> Result<FlagList, Halt> {
        let since = since.map(|modseq| format!(" (CHANGEDSINCE {modseq})")).unwrap_or_default();
        let command = format!("UID FETCH {uids} (UID FLAGS){since}");
        let mut flags = FlagList::default();
        let most = most(self.selected.as_ref().map_or(0, |selected| selected.exists));
        let done = self.talk.command(&[Part::Text(&command)], |response| {
            if let Response::Data(Data::Fetch(fetch)) = response
                && (flags.rows.len() as u64) < most
            {
                flags.add(fetch);
            }
            Ok(())
        })?;
        self.sound(done, "the flags of messages")?;
        flags.rows.sort_unstable_by_key(|row| row.uid);
        flags.rows.dedup_by_key(|row| row.uid);
        Ok(flags)
    }

    /// Says which known messages have other flags. Those that the folder does not keep stay as they are here.
    pub(super) fn say_flags(
        &mut self,
        dir: &str,
        selected: &Selected,
        flags: &FlagList,
    ) -> Result<(), Halt> {
        let validity = selected.validity;
        let is_most = flags.rows.len() > selected.exists as usize / 8;
        let at_once = if is_most { PAGE } else { FEW };
        let there: BTreeMap<u32, &FlagRow> = flags.rows.iter().map(|row| (row.uid, row)).collect();
        let rows = there.into_values().map(|row| (names::message(validity, row.uid), row));
        let mut changed = Vec::new();
        self.book.each_of(dir, rows, at_once, |row, before| {
            changed.extend(flags.differs(row, before));
        })?;
        // What is missing there may be what the folder does not keep, which is known once it was open to be changed.
        let are_missing = |(_, before, there): &(u32, Flags, Flags)| {
            let missing = |keyword| !there.keywords.contains(keyword);
            before.marks.0 & !there.marks.0 != 0 || before.keywords.iter().any(missing)
        };
        if self.folder(dir)?.kept.is_none() && changed.iter().any(are_missing) {
            self.open(dir, Access::Change)?;
        }
        let kept = self.folder(dir)?.kept.clone().unwrap_or(Kept::ALL);
        for (uid, before, there) in changed {
            let Flags { marks, keywords } = kept.merged(&there, &before);
            let spot = spot(dir, validity, uid);
            if keywords != before.keywords {
                self.book.say(MirrorChange::Keywords { spot: spot.clone(), keywords })?;
            }
            if marks != before.marks {
                self.book.say(MirrorChange::Marked { spot, marks })?;
            }
        }
        Ok(())
    }

    /// Says that messages are gone, as far as they were known: a server may name a range of four billion.
    pub(super) fn say_vanished(
        &mut self,
        dir: &str,
        validity: u32,
        mut ranges: Vec<(u32, u32)>,
    ) -> Result<(), Halt> {
        if ranges.is_empty() {
            return Ok(());
        }
        ranges.sort_unstable();
        let mut gone = Vec::new();
        let mut next = 0;
        // Rows and ranges are in one order.
        self.book.each_row(dir, |_, name, _| {
            if let Some((of, uid)) = names::number(name)
                && of == validity
            {
                while ranges.get(next).is_some_and(|(_, last)| *last < uid) {
                    next += 1;
                }
                if ranges.get(next).is_some_and(|(first, _)| *first <= uid) {
                    gone.push(name.to_owned());
                }
            }
            Ok(())
        })?;
        for name in gone {
            let spot = Spot { dir: dir.to_owned(), name };
            self.book.say(MirrorChange::Vanished { spot })?;
        }
        Ok(())
    }

    /// Says that messages are gone which the server does not list. Also one behind the cursor, which was put there from here: another program
    /// may have removed it before the folder was looked at.
    pub(super) fn say_missing(
        &mut self,
        dir: &str,
        selected: &Selected,
        present: &[u32],
    ) -> Result<(), Halt> {
        let mut missing = Vec::new();
        self.book.each_row(dir, |_, name, _| {
            if let Some((validity, uid)) = names::number(name)
                && validity == selected.validity
                && present.binary_search(&uid).is_err()
            {
                missing.push(uid);
            }
            Ok(())
        })?;
        for uid in missing {
            let spot = spot(dir, selected.validity, uid);
            self.book.say(MirrorChange::Vanished { spot })?;
        }
        Ok(())
    }

    /// Compares the number of messages with that of the store's rows, once both are to be equal; and the messages one by one if they are not.
    /// A server that has shown a part of a folder for a moment, or all of it as empty, gets its messages back by that.
    pub(super) fn reconcile(
        &mut self,
        dir: &str,
        selected: &Selected,
        before: Cursor,
    ) -> Result<(), Halt> {
        let (modseq, messages) = (selected.modseq, selected.exists);
        let mut cursor = Cursor { modseq, messages, ..before };
        if cursor == before && modseq > 0 {
            return self.book.write();
        }
        let wanted = u64::from(messages);
        self.book.write()?;
        if before.low <= 1 && self.book.rows_in(dir)? != wanted {
            self.compare_all(dir, selected, &cursor)?;
            self.book.write()?;
            if self.book.rows_in(dir)? != wanted {
                // It is compared again when it is looked at next, whatever it is then.
                cursor.messages = u32::MAX;
            }
        }
        self.book.say(MirrorChange::Cursor { dir: dir.to_owned(), cursor })?;
        self.book.write()
    }

    pub(super) fn compare_all(
        &mut self,
        dir: &str,
        selected: &Selected,
        cursor: &Cursor,
    ) -> Result<(), Halt> {
        let present = self.search("ALL")?;
        self.say_missing(dir, selected, &present)?;
        self.book.write()?;
        let mut unknown: Vec<_> = present.into_iter().filter(|uid| *uid < cursor.next).collect();
        self.book.write()?;
        let mut known = Vec::new();
        self.book.each_row(dir, |_, name, _| {
            known.extend(names::number(name).filter(|(of, _)| *of == selected.validity));
            Ok(())
        })?;
        unknown.retain(|uid| known.binary_search(&(selected.validity, *uid)).is_err());
        // What is behind all that are known has come since.
        let last = known.iter().map(|(_, uid)| *uid).max().unwrap_or(u32::MAX);
        let is_inbox = self.folder(dir)?.name.is_inbox();
        for chunk in unknown.chunks(CHUNK) {
            self.go_on()?;
            let described = self.describe(&set_of(chunk))?;
            let (new, old): (Vec<_>, Vec<_>) =
                described.into_iter().partition(|described| described.uid > last);
            self.say_found(dir, selected.validity, old, false)?;
            self.say_found(dir, selected.validity, new, is_inbox)?;
        }
        Ok(())
    }
}

/// The flags of many messages. Keywords are mostly the same ones: each list of them is kept once.
#[derive(Debug, Default)]
pub(super) struct FlagList {
    rows: Vec<FlagRow>,
    keywords: Vec<Vec<String>>,
    numbers: HashMap<Vec<String>, u32>,
    bytes: usize,
}

#[derive(Debug, Clone, Copy)]
struct FlagRow {
    uid: u32,
    marks: Marks,
    /// The place of its keywords in the list; nothing if there were too many to be kept.
    keywords: Option<u32>,
}

impl FlagList {
    fn add(&mut self, fetch: &Fetch<'_>) {
        let (Some(flags), Some(uid)) = (fetch.flags.as_deref(), fetch.uid) else { return };
        let keywords = self.place_of(facts::keywords(flags));
        self.rows.push(FlagRow { uid, marks: facts::marks(flags), keywords });
    }

    fn place_of(&mut self, keywords: Vec<String>) -> Option<u32> {
        if let Some(place) = self.numbers.get(&keywords) {
            return Some(*place);
        }
        let size = 64 + keywords.iter().map(|keyword| keyword.len() + 32).sum::<usize>();
        if self.bytes + size > MOST_KEYWORDS {
            return None;
        }
        self.bytes += size;
        let place = self.keywords.len() as u32;
        self.keywords.push(keywords.clone());
        self.numbers.insert(keywords, place);
        Some(place)
    }

    /// What a message had and has now, if that differs.
    fn differs(&self, row: &FlagRow, before: &Flags) -> Option<(u32, Flags, Flags)> {
        let keywords = row.keywords.and_then(|place| self.keywords.get(place as usize));
        let keywords = keywords.unwrap_or(&before.keywords);
        if row.marks == before.marks && *keywords == before.keywords {
            return None;
        }
        let there = Flags { marks: row.marks, keywords: keywords.clone() };
        Some((row.uid, before.clone(), there))
    }
}
