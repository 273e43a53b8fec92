//! The bytes of messages: those that are to be fetched, and those that somebody reads.

use std::collections::BTreeMap;

use sundown_core::provider::{MirrorChange, ProviderError};
use sundown_protocol::Code;

use super::account::{Access, Account};
use super::conversation::Part;
use super::names::{self, spot};
use super::take::TOGETHER;
use super::{Data, Response, Set};
use crate::mailbox::Halt;

/// How many bytes of a message are asked for at once.
pub(super) const PIECE: u64 = 256 << 10;

/// How many bytes of messages are asked for with one command, by their sizes. The next command is sent before this one is answered.
const AT_ONCE: u64 = 512 << 10;

/// What is longer is not fetched: some server's mistake.
const LONGEST: u64 = 1 << 30;

impl Account<'_> {
    /// How many messages the server has in the folders that are shown, as far as it says so.
    pub(super) fn messages(&self) -> u64 {
        let shown = self.folders.values().filter(|folder| folder.has_messages);
        shown.filter_map(|folder| folder.seen).map(|seen| u64::from(seen.exists)).sum()
    }

    /// How many of them the first mirror of their folders has not taken yet.
    pub(super) fn untaken(&mut self) -> Result<u64, Halt> {
        let (dirs, mut untaken) = (self.with_messages().collect::<Vec<_>>(), 0);
        for dir in dirs {
            if !self.is_first(&dir)? {
                continue;
            }
            let folder = self.folder(&dir)?;
            let exists = folder.seen.map_or(0, |seen| u64::from(seen.exists));
            untaken += match &folder.older {
                Some(older) => older.len() as u64,
                None => exists.saturating_sub(self.book.rows_in(&dir)?),
            };
        }
        Ok(untaken)
    }

    /// Whether there is more to take or to fetch.
    pub(super) fn is_behind(&mut self) -> Result<bool, Halt> {
        if !self.all_fetched {
            return Ok(true);
        }
        let dirs: Vec<_> = self.with_messages().collect();
        for dir in dirs {
            if !self.folder(&dir)?.is_closed && self.is_first(&dir)? {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Fetches a message that somebody reads. An error is about this message.
    pub(super) fn fetch_now(
        &mut self,
        record: u128,
    ) -> Result<std::result::Result<(), ProviderError>, Halt> {
        let refused = |code, text: &str| Ok(Err(ProviderError::new(code, text)));
        let Some((spot, size)) = self.book.place_of(record)? else {
            return refused(Code::E_NOT_FOUND, "the message is not one of this account");
        };
        let Some((validity, uid)) = names::number(&spot.name) else {
            return refused(Code::E_NOT_FOUND, "the store names no message of this account");
        };
        match self.open(&spot.dir, Access::Look) {
            Err(Halt::Refused(error)) => return Ok(Err(error)),
            Err(halt) => return Err(halt),
            Ok(selected) if selected.validity != validity => {
                self.note(&spot.dir, |folder| folder.stale = true);
                let text = "the server has numbered the folder anew; read the message again";
                return refused(Code::E_BUSY, text);
            }
            Ok(_) => {}
        }
        match self.fetch(&spot.dir, validity, &[(uid, size)]) {
            Err(Halt::Refused(error)) => return Ok(Err(error)),
            Err(halt) => return Err(halt),
            Ok(0) => {
                self.note(&spot.dir, |folder| folder.stale = true);
                let text = "the message is not at the server any more";
                return refused(Code::E_NOT_FOUND, text);
            }
            Ok(_) => {}
        }
        Ok(Ok(()))
    }

    /// Does a part of what has time: older messages, bytes. Whether there was anything to do.
    pub(super) fn work(&mut self) -> Result<bool, Halt> {
        let dirs: Vec<_> = self.with_messages().collect();
        for dir in dirs {
            let folder = self.folder(&dir)?;
            if !folder.stale && !folder.is_closed && self.is_first(&dir)? {
                let taken = self.take_older(&dir, TOGETHER);
                self.of_folder(&dir, taken)?;
                return Ok(true);
            }
        }
        // What every list shows comes before the bytes, which a reader does not wait for.
        self.fetch_some()
    }

    /// Fetches the bytes of some messages. Whether there were any to fetch.
    pub(super) fn fetch_some(&mut self) -> Result<bool, Halt> {
        if self.all_fetched {
            return Ok(false);
        }
        let (rows, next) = self.book.fetches(self.fetched_to)?;
        if !rows.is_empty() && self.reads_copies()? {
            return Ok(true);
        }
        let mut wanted: BTreeMap<(String, u32), Vec<(u32, u64)>> = BTreeMap::new();
        for (spot, size) in &rows {
            if let Some((validity, uid)) = names::number(&spot.name)
                && self.folders.contains_key(&spot.dir)
            {
                wanted.entry((spot.dir.clone(), validity)).or_default().push((uid, *size));
            }
        }
        for ((dir, validity), uids) in wanted {
            self.go_on()?;
            if self.folder(&dir)?.is_closed {
                continue;
            }
            let fetched = self.fetch_from(&dir, validity, &uids);
            if let Err(Halt::Refused(error)) = &fetched
                && self.said.insert(error.message.clone())
            {
                tracing::warn!(server = self.talk.place(), %error, "messages are not fetched");
            }
            match fetched {
                // The other messages go on, and so does everything else.
                Err(Halt::Refused(_)) | Ok(()) => {}
                Err(halt) => return Err(halt),
            }
        }
        if let Some(next) = next {
            self.fetched_to = next;
        } else {
            self.all_fetched = true;
            self.copies.borrow_mut().forget();
        }
        Ok(!rows.is_empty())
    }

    /// Whether what another program has fetched is read first. It reads some of it.
    fn reads_copies(&mut self) -> Result<bool, Halt> {
        let wanted = if self.settings.take_over.is_some() { self.book.tally()?.fetches } else { 0 };
        let mut copies = self.copies.borrow_mut();
        let due = copies.are_due(wanted);
        if due {
            copies.read_on();
        }
        Ok(due)
    }

    fn fetch_from(
        &mut self,
        dir: &str,
        validity: u32,
        messages: &[(u32, u64)],
    ) -> Result<(), Halt> {
        if self.open(dir, Access::Look)?.validity != validity {
            self.note(dir, |folder| folder.stale = true);
            return Ok(());
        }
        self.fetch(dir, validity, messages).map(drop)
    }

    /// Fetches messages of these sizes: the beginning of each, and the rest of those that are longer. How many the server has sent.
    pub(super) fn fetch(
        &mut self,
        dir: &str,
        validity: u32,
        messages: &[(u32, u64)],
    ) -> Result<usize, Halt> {
        let taken = self.take_over(dir, validity, messages)?;
        let rest = messages.iter().copied().filter(|(uid, _)| !taken.contains(uid));
        let sizes: BTreeMap<u32, u64> = rest.collect();
        let (mut longer, mut odd, mut fetched) = (Vec::new(), Vec::new(), 0);
        let sets = in_parts(&sizes).into_iter();
        let commands = sets.map(|uids| format!("UID FETCH {uids} (UID BODY.PEEK[]<0.{PIECE}>)"));
        let Self { talk, book, .. } = self;
        let done = talk.in_turn(commands, |response| {
            if let Some((uid, origin, bytes)) = piece_of(response)
                && let Some(size) = sizes.get(&uid)
            {
                let length = bytes.len() as u64;
                // A server that does not know parts sends the whole.
                let last = origin.is_none() || length < PIECE && length >= *size;
                if length == 0 && *size > 0 || origin.is_some_and(|origin| origin != 0) {
                    return Ok(());
                }
                if last && length != *size {
                    odd.push((uid, bytes));
                    return Ok(());
                }
                fetched += 1;
                if !last {
                    longer.push((uid, length));
                }
                let spot = spot(dir, validity, uid);
                book.say_all(vec![MirrorChange::Bytes { spot, first: true, bytes, last }])?;
            }
            Ok(())
        })?;
        let Some(done) = done else { return Ok(taken.len()) };
        // Not every server knows sizes; but one that does may send something else for a message which was just removed.
        let there = match &odd[..] {
            [] => Vec::new(),
            odd => self.still_there(&odd.iter().map(|(uid, _)| *uid).collect::<Vec<_>>())?,
        };
        for (uid, bytes) in odd {
            if there.contains(&uid) {
                fetched += 1;
                let spot = spot(dir, validity, uid);
                let (first, last) = (true, true);
                self.book.say_all(vec![MirrorChange::Bytes { spot, first, bytes, last }])?;
            } else {
                self.note(dir, |folder| folder.stale = true);
            }
        }
        for (uid, mut from) in longer {
            // The pieces of one message come behind each other.
            self.book.write()?;
            loop {
                self.go_on()?;
                let bytes = self.piece(uid, from)?.filter(|_| from <= LONGEST);
                let Some(bytes) = bytes else {
                    let text = "a message has no end, or not the part that was asked for; it is not fetched";
                    tracing::warn!(server = self.talk.place(), uid, "{text}");
                    let spot = spot(dir, validity, uid);
                    self.book.say(MirrorChange::Unfetched { spot })?;
                    break;
                };
                let length = bytes.len() as u64;
                let size = sizes.get(&uid).copied().unwrap_or_default();
                // Its end is where there is no more, or where the server has said.
                let last = length == 0 || length < PIECE && from + length >= size;
                let spot = spot(dir, validity, uid);
                if last && from + length != size && self.still_there(&[uid])?.is_empty() {
                    self.note(dir, |folder| folder.stale = true);
                    self.book.say(MirrorChange::Unfetched { spot })?;
                    break;
                }
                self.book.say_all(vec![MirrorChange::Bytes { spot, first: false, bytes, last }])?;
                self.book.write()?;
                if last {
                    break;
                }
                from += length;
            }
        }
        self.book.write()?;
        done.expect(self.talk.place(), "messages").map_err(Halt::Refused)?;
        Ok(taken.len() + fetched)
    }

    pub(super) fn piece(&mut self, uid: u32, from: u64) -> Result<Option<Vec<u8>>, Halt> {
        let command = format!("UID FETCH {uid} (UID BODY.PEEK[]<{from}.{PIECE}>)");
        let mut found = None;
        let done = self.talk.command(&[Part::Text(&command)], |response| {
            if let Some((of, origin, bytes)) = piece_of(response)
                && (of, origin) == (uid, Some(from))
            {
                found = Some(bytes);
            }
            Ok(())
        })?;
        done.expect(self.talk.place(), "a part of a message").map_err(Halt::Refused)?;
        Ok(found)
    }
}

/// Messages of these sizes, in sets that are asked for with one command each.
fn in_parts(sizes: &BTreeMap<u32, u64>) -> Vec<Set> {
    let (mut sets, mut bytes) = (Vec::<Set>::new(), 0);
    for (uid, size) in sizes {
        let part = (*size).min(PIECE);
        if sets.is_empty() || bytes + part > AT_ONCE {
            sets.push(Set::default());
            bytes = 0;
        }
        bytes += part;
        sets.last_mut().expect("one was pushed").push(*uid);
    }
    sets
}

/// The bytes of a message that a response has, and which of them is the first, if only a part was asked for.
fn piece_of(response: &Response<'_>) -> Option<(u32, Option<u64>, Vec<u8>)> {
    let Response::Data(Data::Fetch(fetch)) = response else { return None };
    let section = fetch.sections.iter().find(|section| section.name.is_empty())?;
    Some((fetch.uid?, section.origin, section.bytes.as_deref().unwrap_or_default().to_vec()))
}
