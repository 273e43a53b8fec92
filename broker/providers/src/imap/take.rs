//! Messages that are new in a folder, and older ones of a folder that is mirrored for the first time.

use sundown_core::provider::{MessageFacts, MirrorChange};
use sundown_protocol::folder::Marks;

use super::account::{Access, Account, Seen, Selected, set_of};
use super::conversation::Part;
use super::facts::{Described, HEAD};
use super::names::spot;
use super::settings::Bodies;
use super::{Data, Response, Set};
use crate::mailbox::{Halt, now};

/// How many of the newest messages are taken first, and at once.
pub(super) const NEWEST: usize = 200;

/// How many messages are asked about with one command.
pub(super) const CHUNK: usize = 500;

/// How many older messages are taken before anything else has its turn: with several commands, each sent before the one before it is
/// answered.
pub(super) const TOGETHER: usize = 4 * CHUNK;

/// Messages that came in the last 90 days are fetched whole, unless the profile says something else; in milliseconds.
const RECENT: u64 = 90 * 24 * 3600 * 1000;

impl Account<'_> {
    /// Takes the messages that are new in a folder.
    pub(super) fn take(&mut self, dir: &str) -> Result<(), Halt> {
        let Some(cursor) = self.book.cursor(dir)? else { return Ok(()) };
        let mut selected = self.open(dir, Access::Look)?;
        self.note(dir, |folder| folder.has_new = false);
        if let Some(seen) = self.folder(dir)?.seen.filter(|seen| *seen != Seen::of(&selected)) {
            // What has changed between the look and now was not seen, and is looked at next.
            selected.modseq = seen.modseq;
            self.note(dir, |folder| folder.stale = true);
        }
        if selected.validity != cursor.validity {
            self.note(dir, |folder| folder.stale = true);
            return Ok(());
        }
        let few = selected.next.checked_sub(cursor.next).filter(|few| (*few as usize) <= CHUNK);
        let uids = if few.is_some() {
            (cursor.next..selected.next).collect()
        } else {
            let found = self.search(&format!("UID {}:*", cursor.next))?;
            found.into_iter().filter(|uid| *uid >= cursor.next).collect::<Vec<_>>()
        };
        let is_news = self.folder(dir)?.name.is_inbox();
        let mut reached = cursor;
        for chunk in uids.chunks(CHUNK) {
            self.go_on()?;
            let mut described = self.describe(&set_of(chunk))?;
            described.sort_unstable_by_key(|described| described.uid);
            let last = chunk.last().copied().unwrap_or(reached.next);
            self.say_found(dir, cursor.validity, described, is_news)?;
            reached.next = last.saturating_add(1);
            self.book.say(MirrorChange::Cursor { dir: dir.to_owned(), cursor: reached })?;
            self.book.write()?;
        }
        // A number that the server names and that no message has is believed only where the rest is as it says.
        if reached.next < selected.next
            && (reached.low > 1 || self.book.rows_in(dir)? == u64::from(selected.exists))
        {
            reached.next = selected.next;
        }
        self.reconcile(dir, &selected, reached)
    }

    /// Whether the first mirror of a folder is not through.
    pub(super) fn is_first(&mut self, dir: &str) -> Result<bool, Halt> {
        Ok(self.book.cursor(dir)?.is_some_and(|cursor| cursor.low > 1))
    }

    /// Takes some of the messages of a folder that is mirrored for the first time. Whether there are more.
    pub(super) fn take_older(&mut self, dir: &str, most: usize) -> Result<bool, Halt> {
        let Some(cursor) = self.book.cursor(dir)?.filter(|cursor| cursor.low > 1) else {
            return Ok(false);
        };
        let selected = self.open(dir, Access::Look)?;
        if selected.validity != cursor.validity {
            self.note(dir, |folder| folder.stale = true);
            return Ok(false);
        }
        let older = self.folders.get_mut(dir).and_then(|folder| folder.older.take());
        let mut older = match older {
            Some(older) => older,
            None => self.search(&format!("UID 1:{}", cursor.low - 1))?,
        };
        older.truncate(older.partition_point(|uid| *uid < cursor.low));
        let wanted = older.split_off(older.len().saturating_sub(most));
        let uids = set_of(&wanted);
        // The newest first.
        let mut chunks = wanted.rchunks(CHUNK).peekable();
        let mut ahead = self.ask_about(chunks.peek().copied())?;
        let mut reached = cursor;
        while let Some(tag) = ahead {
            self.go_on()?;
            let low = chunks.next().and_then(|chunk| chunk.first()).copied().unwrap_or(1);
            // The server looks for the next ones while the store writes these.
            ahead = self.ask_about(chunks.peek().copied())?;
            let described = self.described(&tag, &uids);
            if let Err(Halt::Refused(_)) = &described
                && let Some(tag) = &ahead
            {
                self.described(tag, &uids)?;
            }
            let mut described = described?;
            let mut low = low;
            if described.iter().any(Described::may_be_gone) {
                // What else is asked for that must not come between: its answer would be taken for that.
                if let Some(tag) = ahead.take() {
                    described.extend(self.described(&tag, &uids)?);
                    low = chunks.next().and_then(|chunk| chunk.first()).copied().unwrap_or(1);
                }
                described = self.without_gone(described)?;
                if self.open(dir, Access::Look)?.validity != cursor.validity {
                    self.note(dir, |folder| folder.stale = true);
                    return Ok(false);
                }
                ahead = self.ask_about(chunks.peek().copied())?;
            }
            described.sort_unstable_by_key(|described| std::cmp::Reverse(described.uid));
            self.say_found(dir, cursor.validity, described, false)?;
            reached.low = low;
            if ahead.is_some() {
                self.book.say(MirrorChange::Cursor { dir: dir.to_owned(), cursor: reached })?;
            }
        }
        let more = !older.is_empty();
        if !more {
            // With the last of them it is compared whether these were all.
            (reached.low, reached.messages) = (1, u32::MAX);
        }
        self.book.say(MirrorChange::Cursor { dir: dir.to_owned(), cursor: reached })?;
        self.book.write()?;
        self.note(dir, |folder| {
            folder.older = more.then_some(older);
            folder.stale |= !more;
        });
        Ok(more)
    }

    /// What the server says of messages.
    pub(super) fn describe(&mut self, uids: &Set) -> Result<Vec<Described>, Halt> {
        let command = self.question(uids);
        let tag = self.talk.begin(&[Part::Text(&command)])?;
        let described = self.described(&tag, uids)?;
        self.without_gone(described)
    }

    fn question(&self, uids: &Set) -> String {
        let id = match (self.can.email_id, self.can.gmail) {
            (true, _) => "EMAILID ",
            (false, true) => "X-GM-MSGID ",
            (false, false) => "",
        };
        format!("UID FETCH {uids} (UID FLAGS INTERNALDATE RFC822.SIZE {id}{HEAD})")
    }

    /// Asks about messages, and does not wait for the answer.
    fn ask_about(&mut self, uids: Option<&[u32]>) -> Result<Option<String>, Halt> {
        let Some(uids) = uids else { return Ok(None) };
        let command = self.question(&set_of(uids));
        Ok(Some(self.talk.begin(&[Part::Text(&command)])?))
    }

    /// What the server says of messages in answer to a command.
    fn described(&mut self, tag: &str, uids: &Set) -> Result<Vec<Described>, Halt> {
        let (mut found, mut unread) = (Vec::new(), 0);
        let done = self.talk.finish(tag, |response| {
            if let Response::Data(Data::Fetch(fetch)) = response {
                match Described::of(fetch) {
                    // A server may speak of messages that it was not asked for.
                    Some(described) if !uids.contains(described.uid) => {}
                    Some(described) if (found.len() as u64) < 2 * uids.count() => {
                        found.push(described);
                    }
                    Some(_) => {}
                    // Another client's flags may be told of in between.
                    None if fetch.sections.is_empty() => {}
                    None => unread += 1,
                }
            }
            Ok(())
        })?;
        done.expect(self.talk.place(), "what messages there are").map_err(Halt::Refused)?;
        if unread > 0 {
            tracing::warn!(
                server = self.talk.place(),
                unread,
                "messages are described in a way that is not understood; they are not shown"
            );
        }
        Ok(found)
    }

    /// Leaves out messages of which the server says what it says of removed ones, and which are not there any more. No other command may be
    /// on its way.
    fn without_gone(&mut self, mut found: Vec<Described>) -> Result<Vec<Described>, Halt> {
        if found.iter().any(Described::may_be_gone) {
            let doubtful = found.iter().filter(|described| described.may_be_gone());
            let there = self.still_there(&doubtful.map(|one| one.uid).collect::<Vec<_>>())?;
            found.retain(|one| !one.may_be_gone() || there.contains(&one.uid));
        }
        Ok(found)
    }

    /// Which of these messages the open folder has now. Of one that another program has removed since the folder was opened, servers send
    /// nothing, or something in its place.
    pub(super) fn still_there(&mut self, uids: &[u32]) -> Result<Vec<u32>, Halt> {
        let Some(Selected { dir, access, validity, .. }) = self.selected.clone() else {
            return Ok(Vec::new());
        };
        if self.select(&dir, access, None, |_| {})?.validity != validity {
            return Ok(Vec::new());
        }
        self.search(&format!("UID {}", set_of(uids)))
    }

    pub(super) fn say_found(
        &mut self,
        dir: &str,
        validity: u32,
        described: Vec<Described>,
        news: bool,
    ) -> Result<(), Halt> {
        let recent = now().saturating_sub(RECENT);
        for Described { uid, marks, facts, .. } in described {
            if marks.contains(Marks::DELETED) && !self.can.uidplus {
                // It was deleted here or elsewhere, and cannot be removed alone.
                continue;
            }
            let fetched = match self.settings.bodies {
                Bodies::All => true,
                Bodies::Recent => facts.received >= recent,
                Bodies::OnDemand => false,
            };
            if fetched {
                self.all_fetched = false;
                self.fetched_to = 0;
            }
            let spot = spot(dir, validity, uid);
            let facts = Box::new(MessageFacts { fetch: fetched, ..facts });
            self.book.say(MirrorChange::Found { spot, marks, news, facts })?;
        }
        Ok(())
    }
}
