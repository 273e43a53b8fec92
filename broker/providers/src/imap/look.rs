//! What has changed in a folder: flags, messages that are gone, numbers that are not valid any more.

use std::borrow::Cow;
use std::collections::BTreeMap;

use sundown_core::provider::{Cursor, MirrorChange, Spot};
use sundown_protocol::folder::Marks;

use super::account::{Access, Account, Selected, set_of};
use super::conversation::Part;
use super::names::{self, spot};
use super::take::{CHUNK, NEWEST};
use super::{Data, Fetch, Response, Set, facts};
use crate::mailbox::Halt;

/// With more changed flags than this a folder's rows are compared in one go.
const FEW: usize = 64;

impl Account<'_> {
    /// Looks at every folder that may have changed, and takes what is new.
    pub(super) fn look_around(&mut self) -> Result<(), Halt> {
        let mut dirs: Vec<_> = self.with_messages().collect();
        // What people wait for is in the Inbox.
        dirs.sort_by_key(|dir| !self.folders[dir].name.is_inbox());
        for dir in &dirs {
            if self.folders[dir].stale {
                self.go_on()?;
                self.look(dir)?;
                if self.folders[dir].name.is_inbox() && self.is_first(dir)? {
                    self.take_older(dir, NEWEST)?;
                }
            }
        }
        for dir in &dirs {
            if self.folders[dir].has_new {
                self.go_on()?;
                self.take(dir)?;
            }
        }
        Ok(())
    }

    /// Looks at a folder: which flags have changed, and which messages are gone.
    pub(super) fn look(&mut self, dir: &str) -> Result<(), Halt> {
        let cursor = self.book.cursor(dir)?;
        let since = cursor.filter(|cursor| cursor.modseq > 0 && self.can.qresync);
        let (mut gone, mut flags) = (Vec::new(), Vec::new());
        let opened = self.select(dir, Access::Look, since, |response| match response {
            Response::Data(Data::Vanished { uids, .. }) => gone.push(uids.clone()),
            Response::Data(Data::Fetch(fetch)) => flags.extend(flags_of(fetch)),
            _ => {}
        })?;
        let selected = match opened {
            Ok(selected) => selected,
            Err(error) => {
                self.pass_over(dir, &error);
                return Ok(());
            }
        };
        let folder = self.folders.get_mut(dir).expect("it was listed");
        folder.stale = false;
        folder.has_new = false;
        folder.exists = Some(selected.exists);
        if selected.validity == 0 {
            // Without a validity no number of a message means anything later.
            tracing::warn!(
                server = self.talk.place(),
                folder = folder.name.shown(),
                "the server gives no UIDVALIDITY; the folder is not shown"
            );
            return Ok(());
        }
        let Some(cursor) = cursor else { return self.begin_first(dir, &selected) };
        if cursor.validity != selected.validity {
            return self.numbered_anew(dir, &selected);
        }
        if since.is_some() && selected.modseq > 0 {
            for uids in gone {
                self.say_vanished(dir, cursor.validity, &uids)?;
            }
            self.say_flags(dir, &selected, flags)?;
        } else if cursor.modseq > 0 && selected.modseq > 0 && self.can.condstore {
            if cursor.modseq != selected.modseq {
                let flags = self.ask_flags("1:*", Some(cursor.modseq))?;
                self.say_flags(dir, &selected, flags)?;
            }
            let present = self.search("ALL")?;
            self.say_missing(dir, &selected, &cursor, &present)?;
        } else {
            let flags = self.ask_flags("1:*", None)?;
            let present: Vec<_> = flags.iter().map(|(uid, _)| *uid).collect();
            self.say_flags(dir, &selected, flags)?;
            self.say_missing(dir, &selected, &cursor, &present)?;
        }
        self.book.write()?;
        let has_new = selected.next == 0 || selected.next > cursor.next;
        if has_new {
            self.folders.get_mut(dir).expect("it was listed").has_new = true;
            return Ok(());
        }
        self.book.write()?;
        self.reconcile(dir, &selected, cursor)
    }

    /// The first look at a folder. What is in it is taken later, a part at a time.
    pub(super) fn begin_first(&mut self, dir: &str, selected: &Selected) -> Result<(), Halt> {
        let next = if selected.next > 0 {
            selected.next
        } else {
            self.search("ALL")?.last().map_or(1, |last| last.saturating_add(1))
        };
        let low = if selected.exists == 0 { 1 } else { next };
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
        let (validity, modseq, messages) = (selected.validity, selected.modseq, selected.exists);
        let cursor = Cursor { validity, next, low: 1, modseq, messages };
        self.book.say(MirrorChange::Cursor { dir: dir.to_owned(), cursor })?;
        self.book.write()
    }

    /// The flags of messages: of all, or of those that have changed since.
    pub(super) fn ask_flags(
        &mut self,
        uids: &str,
        since: Option<u64>,
    ) -> Result<Vec<(u32, Marks)>, Halt> {
        let since = since.map(|modseq| format!(" (CHANGEDSINCE {modseq})")).unwrap_or_default();
        let command = format!("UID FETCH {uids} (UID FLAGS){since}");
        let mut flags = Vec::new();
        let done = self.talk.command(&[Part::Text(&command)], |response| {
            if let Response::Data(Data::Fetch(fetch)) = response {
                flags.extend(flags_of(fetch));
            }
            Ok(())
        })?;
        done.expect(self.talk.place(), "the flags of messages")?;
        flags.sort_unstable_by_key(|(uid, _)| *uid);
        flags.dedup_by_key(|(uid, _)| *uid);
        Ok(flags)
    }

    /// Says which known messages have other marks. Those that the folder does not keep stay as they are here.
    pub(super) fn say_flags(
        &mut self,
        dir: &str,
        selected: &Selected,
        flags: Vec<(u32, Marks)>,
    ) -> Result<(), Halt> {
        let validity = selected.validity;
        let mut changed = Vec::new();
        if flags.len() <= FEW {
            for (uid, there) in flags {
                let known = self.book.marks_of(dir, &names::message(validity, uid))?;
                if let Some(before) = known.filter(|before| *before != there) {
                    changed.push((uid, before, there));
                }
            }
        } else {
            let there: BTreeMap<u32, Marks> = flags.into_iter().collect();
            self.book.each_row(dir, |_, name, before| {
                if let Some((of, uid)) = names::number(name)
                    && of == validity
                    && let Some(there) = there.get(&uid)
                    && before != *there
                {
                    changed.push((uid, before, *there));
                }
                Ok(())
            })?;
        }
        // Marks that are missing there may be such as the folder does not keep, which is known once it was open to be changed.
        let are_missing = |(_, before, there): &(u32, Marks, Marks)| before.0 & !there.0 != 0;
        if self.folders[dir].kept.is_none() && changed.iter().any(are_missing) {
            let _ = self.open(dir, Access::Change)?;
        }
        let kept = self.folders[dir].kept.unwrap_or(Marks(Marks::KNOWN)).0;
        for (uid, before, there) in changed {
            let marks = Marks((there.0 & kept) | (before.0 & !kept & Marks::KNOWN));
            if marks != before {
                self.book.say(MirrorChange::Marked { spot: spot(dir, validity, uid), marks })?;
            }
        }
        Ok(())
    }

    /// Says that messages are gone, as far as they were known: a server may name a range of four billion.
    pub(super) fn say_vanished(
        &mut self,
        dir: &str,
        validity: u32,
        uids: &Set,
    ) -> Result<(), Halt> {
        for (first, last) in uids.ranges() {
            let (mut after, end) =
                (names::message(validity, first - 1), names::message(validity, *last));
            loop {
                let page = self.book.rows(dir, &after, crate::mailbox::PAGE)?;
                let known: Vec<_> = page
                    .rows
                    .iter()
                    .map(|(name, _)| name)
                    .filter(|name| **name <= end)
                    .cloned()
                    .collect();
                let (found, rows) = (known.len(), page.rows.len());
                for name in known {
                    after.clone_from(&name);
                    let spot = Spot { dir: dir.to_owned(), name };
                    self.book.say(MirrorChange::Vanished { spot })?;
                }
                if found < rows || !page.more {
                    break;
                }
            }
        }
        Ok(())
    }

    /// Says that messages are gone which the server does not list.
    pub(super) fn say_missing(
        &mut self,
        dir: &str,
        selected: &Selected,
        cursor: &Cursor,
        present: &[u32],
    ) -> Result<(), Halt> {
        let mut missing = Vec::new();
        self.book.each_row(dir, |_, name, _| {
            if let Some((validity, uid)) = names::number(name)
                && validity == selected.validity
                && uid < cursor.next
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
        let cursor = Cursor { modseq, messages, ..before };
        if cursor != before || modseq == 0 {
            if before.low <= 1 && self.book.rows_in(dir)? != u64::from(messages) {
                self.compare_all(dir, selected, &cursor)?;
            }
            self.book.say(MirrorChange::Cursor { dir: dir.to_owned(), cursor })?;
        }
        self.book.write()
    }

    pub(super) fn compare_all(
        &mut self,
        dir: &str,
        selected: &Selected,
        cursor: &Cursor,
    ) -> Result<(), Halt> {
        let present = self.search("ALL")?;
        self.say_missing(dir, selected, cursor, &present)?;
        self.book.write()?;
        let mut unknown: Vec<_> = present.into_iter().filter(|uid| *uid < cursor.next).collect();
        self.book.write()?;
        let mut known = Vec::new();
        self.book.each_row(dir, |_, name, _| {
            known.extend(names::number(name).filter(|(of, _)| *of == selected.validity));
            Ok(())
        })?;
        unknown.retain(|uid| known.binary_search(&(selected.validity, *uid)).is_err());
        for chunk in unknown.chunks(CHUNK) {
            self.go_on()?;
            let described = self.describe(&set_of(chunk))?;
            self.say_found(dir, selected.validity, described, false)?;
        }
        Ok(())
    }
}

fn flags_of(fetch: &Fetch<'_>) -> Option<(u32, Marks)> {
    let flags: &[Cow<'_, [u8]>] = fetch.flags.as_deref()?;
    Some((fetch.uid?, facts::marks(flags)))
}
