//! The bytes of messages: those that are to be fetched, and those that somebody reads.

use std::collections::BTreeMap;

use sundown_core::provider::{MirrorChange, ProviderError};
use sundown_protocol::Code;

use super::account::{Access, Account};
use super::conversation::Part;
use super::names::{self, spot};
use super::take::CHUNK;
use super::{Data, Response, Set};
use crate::mailbox::Halt;

/// How many bytes of a message are asked for at once.
const PIECE: u64 = 256 << 10;

/// How many bytes of messages are asked for at once, by their sizes.
const AT_ONCE: u64 = 2 << 20;

/// What is longer is not fetched: some server's mistake.
const LONGEST: u64 = 1 << 30;

impl Account<'_> {
    /// How many messages the server has in the folders that are shown, as far as it says so.
    pub(super) fn messages(&self) -> u64 {
        let shown = self.folders.values().filter(|folder| folder.has_messages);
        shown.map(|folder| u64::from(folder.exists.unwrap_or_default())).sum()
    }

    /// Whether there is more to take or to fetch.
    pub(super) fn is_behind(&mut self) -> Result<bool, Halt> {
        if !self.all_fetched {
            return Ok(true);
        }
        let dirs: Vec<_> = self.with_messages().collect();
        for dir in dirs {
            if !self.folders[&dir].is_closed && self.is_first(&dir)? {
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
        let Some((spot, _)) = self.book.place_of(record)? else {
            return refused(Code::E_NOT_FOUND, "the message is not one of this account");
        };
        let Some((validity, uid)) = names::number(&spot.name) else {
            return refused(Code::E_NOT_FOUND, "the store names no message of this account");
        };
        if !self.folders.contains_key(&spot.dir) {
            return refused(Code::E_NOT_FOUND, "the folder of the message is not at the server");
        }
        match self.open(&spot.dir, Access::Look)? {
            Err(error) => return Ok(Err(error)),
            Ok(selected) if selected.validity != validity => {
                self.folders.get_mut(&spot.dir).expect("it was listed").stale = true;
                return refused(
                    Code::E_BUSY,
                    "the server has numbered the folder anew; read the message again",
                );
            }
            Ok(_) => {}
        }
        let fetched = self.fetch(&spot.dir, validity, &Set::of(uid, uid))?;
        if fetched == 0 {
            self.folders.get_mut(&spot.dir).expect("it was listed").stale = true;
            return refused(Code::E_NOT_FOUND, "the message is not at the server any more");
        }
        Ok(Ok(()))
    }

    /// Does a part of what has time: older messages, bytes. Whether there was anything to do.
    pub(super) fn work(&mut self) -> Result<bool, Halt> {
        if self.fetch_some()? {
            return Ok(true);
        }
        let dirs: Vec<_> = self.with_messages().collect();
        for dir in dirs {
            let folder = &self.folders[&dir];
            if !folder.stale && !folder.is_closed && self.is_first(&dir)? {
                self.take_older(&dir, CHUNK)?;
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Fetches the bytes of some messages. Whether there were any to fetch.
    pub(super) fn fetch_some(&mut self) -> Result<bool, Halt> {
        if self.all_fetched {
            return Ok(false);
        }
        let (rows, next) = self.book.fetches(self.fetched_to)?;
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
            match self.open(&dir, Access::Look)? {
                Ok(selected) if selected.validity == validity => {}
                Ok(_) => {
                    self.folders.get_mut(&dir).expect("it was listed").stale = true;
                    continue;
                }
                Err(error) => {
                    self.pass_over(&dir, &error);
                    continue;
                }
            }
            let mut together = Set::default();
            let mut bytes = 0;
            for (uid, size) in uids {
                if bytes + size > AT_ONCE && !together.is_empty() {
                    self.fetch(&dir, validity, &std::mem::take(&mut together))?;
                    bytes = 0;
                }
                together.push(uid);
                bytes += size.min(PIECE);
            }
            self.fetch(&dir, validity, &together)?;
        }
        match next {
            Some(next) => self.fetched_to = next,
            None => self.all_fetched = true,
        }
        Ok(!rows.is_empty())
    }

    /// Fetches messages: the beginning of each, and the rest of those that are longer.
    pub(super) fn fetch(&mut self, dir: &str, validity: u32, uids: &Set) -> Result<usize, Halt> {
        if uids.is_empty() {
            return Ok(0);
        }
        let command = format!("UID FETCH {uids} (UID BODY.PEEK[]<0.{PIECE}>)");
        let (mut longer, mut fetched) = (Vec::new(), 0);
        let Self { talk, book, .. } = self;
        let done = talk.command(&[Part::Text(&command)], |response| {
            if let Some((uid, bytes)) = piece_of(response).filter(|(uid, _)| uids.contains(*uid)) {
                let last = (bytes.len() as u64) < PIECE;
                fetched += 1;
                if !last {
                    longer.push(uid);
                }
                let spot = spot(dir, validity, uid);
                book.say_all(vec![MirrorChange::Bytes { spot, first: true, bytes, last }])?;
            }
            Ok(())
        })?;
        done.expect(self.talk.place(), "messages")?;
        for uid in longer {
            // The pieces of one message come behind each other.
            self.book.write()?;
            let mut from = PIECE;
            loop {
                self.go_on()?;
                if from > LONGEST {
                    let text = "a message has no end; it is not fetched";
                    tracing::warn!(server = self.talk.place(), uid, "{text}");
                    let spot = spot(dir, validity, uid);
                    self.book.say(MirrorChange::Fetch { spot, wanted: false })?;
                    break;
                }
                let bytes = self.piece(uid, from)?;
                let Some(bytes) = bytes else { break };
                let length = bytes.len() as u64;
                let (spot, last) = (spot(dir, validity, uid), length < PIECE);
                self.book.say_all(vec![MirrorChange::Bytes { spot, first: false, bytes, last }])?;
                self.book.write()?;
                if last {
                    break;
                }
                from += length;
            }
        }
        self.book.write()?;
        Ok(fetched)
    }

    pub(super) fn piece(&mut self, uid: u32, from: u64) -> Result<Option<Vec<u8>>, Halt> {
        let command = format!("UID FETCH {uid} (UID BODY.PEEK[]<{from}.{PIECE}>)");
        let mut found = None;
        let done = self.talk.command(&[Part::Text(&command)], |response| {
            if let Some((of, bytes)) = piece_of(response)
                && of == uid
            {
                found = Some(bytes);
            }
            Ok(())
        })?;
        done.expect(self.talk.place(), "a part of a message")?;
        Ok(found)
    }
}

/// The bytes of a message that a response has.
fn piece_of(response: &Response<'_>) -> Option<(u32, Vec<u8>)> {
    let Response::Data(Data::Fetch(fetch)) = response else { return None };
    let section = fetch.sections.iter().find(|section| section.name.is_empty())?;
    Some((fetch.uid?, section.bytes.as_deref()?.to_vec()))
}
