//! Where messages lie in mailboxes, and the files of those that are not copied into the store.

use std::ffi::OsStr;
use std::fs::File;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use rusqlite::{Connection, OptionalExtension};
use sundown_core::provider::Spot;
use sundown_protocol::folder::Marks;

use super::contents;
use crate::fault::{self, Failure};
use crate::maildir;

/// Stands for the directory of a message that lies in the mailbox's own `tmp`: a copy that it has not filed yet.
pub(super) const TMP: &str = "tmp";

/// A message's place in a mailbox.
#[derive(PartialEq)]
pub(super) struct Place {
    /// The number of the mailbox.
    pub(super) number: i64,
    /// The path of the mailbox.
    pub(super) mailbox: PathBuf,
    /// Where it lies; `None` if the mailbox does not have it yet.
    pub(super) spot: Option<Spot>,
    /// The marks last seen there.
    pub(super) marks: Marks,
    /// The directory to which the mailbox is moving it.
    heading: Option<String>,
    /// The name that the mailbox gives to a message that it files.
    own: String,
}

impl Place {
    /// The file of the message, if it is there.
    fn find(&self, connection: &Connection) -> rusqlite::Result<Option<PathBuf>> {
        let Some(spot) = &self.spot else { return Ok(None) };
        let here = if spot.dir == TMP {
            Some(self.mailbox.join(TMP).join(&spot.name)).filter(|path| path.exists())
        } else {
            maildir::locate(&self.mailbox, &spot.dir, &spot.name, self.marks)
        };
        if here.is_some() {
            return Ok(here);
        }
        let places = self.next_places(connection, spot)?;
        let locate = |(dir, name): (_, &str)| maildir::locate(&self.mailbox, dir, name, self.marks);
        Ok(places.iter().find_map(|(dir, name)| locate((dir, name))))
    }

    /// Where a message may be that is not where it was any more: the mailbox has moved it, or its directory, and has not said so yet.
    fn next_places<'p>(
        &'p self,
        connection: &Connection,
        spot: &'p Spot,
    ) -> rusqlite::Result<Vec<(String, &'p str)>> {
        let mut dirs: Vec<_> = self.heading.iter().cloned().collect();
        for (from, to) in contents::renamed_folders(connection, self.number)? {
            let known = self.heading.iter().chain([&spot.dir]);
            dirs.extend(known.filter_map(|dir| maildir::moved(dir, &from, &to)));
        }
        let names = |dir: String| [(dir.clone(), &*spot.name), (dir, &*self.own)];
        Ok(dirs.into_iter().flat_map(names).collect())
    }

    /// Gives the file of the message a second name in the mailbox's `tmp`, which outlives the first. Whether the file is there.
    pub(super) fn stage(&self, connection: &Connection, name: &str) -> Result<bool, Failure> {
        let Some(spot) = &self.spot else { return Ok(false) };
        let failed = |error: io::Error| Failure::Refused(fault::io(&self.mailbox, &error));
        let here = if spot.dir == TMP {
            maildir::stage_again(&self.mailbox, &spot.name, name)
        } else {
            maildir::stage(&self.mailbox, (&spot.dir, &spot.name), self.marks, name)
        };
        if here.map_err(failed)? {
            return Ok(true);
        }
        for (dir, known) in self.next_places(connection, spot)? {
            let place = (&*dir, known);
            if maildir::stage(&self.mailbox, place, self.marks, name).map_err(failed)? {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Opens the file of the message. A file that gets other flags meanwhile is looked for again.
    pub(super) fn open(&self, connection: &Connection) -> rusqlite::Result<io::Result<File>> {
        let mut error = io::Error::from(io::ErrorKind::NotFound);
        for _ in 0..3 {
            let Some(path) = self.find(connection)? else { break };
            match maildir::open(&path) {
                Err(gone) if gone.kind() == io::ErrorKind::NotFound => error = gone,
                opened => return Ok(opened),
            }
        }
        Ok(Err(error))
    }
}

/// Where a message lies, by its order in the store.
pub(super) fn of(connection: &Connection, seq: u64) -> rusqlite::Result<Option<Place>> {
    let sql = "SELECT mailbox.id, mailbox.path, spot.dir, spot.name, marks, record, received,
                   heading
               FROM spot JOIN mailbox ON mailbox.id = spot.mailbox
               JOIN message ON message.seq = spot.message
               WHERE spot.message = ?1";
    let row = |row: &rusqlite::Row<'_>| {
        let (dir, name): (Option<String>, Option<String>) = (row.get(2)?, row.get(3)?);
        let spot = dir.zip(name).map(|(dir, name)| Spot { dir, name });
        let path: Vec<u8> = row.get(1)?;
        let mailbox = PathBuf::from(OsStr::from_bytes(&path));
        let (record, received) = (u128::from_be_bytes(row.get(5)?), row.get::<_, i64>(6)? as u64);
        Ok(Place {
            number: row.get(0)?,
            mailbox,
            spot,
            marks: Marks(row.get(4)?),
            heading: row.get(7)?,
            own: maildir::own_name(record, received),
        })
    };
    connection.prepare_cached(sql)?.query_row([seq], row).optional()
}

/// The number of a mailbox, if the store knows it.
pub(super) fn number_of(connection: &Connection, mailbox: &Path) -> rusqlite::Result<Option<i64>> {
    let sql = "SELECT id FROM mailbox WHERE path = ?1";
    let path = mailbox.as_os_str().as_bytes();
    connection.prepare_cached(sql)?.query_row([path], |row| row.get(0)).optional()
}

/// The name of the file that a copy gets in `tmp`. The Maildir transport removes old files of others there, but none with such an end;
/// and no message that it delivers has such a name.
pub(super) fn name_of(record: u128) -> String {
    format!("{}.copy-{record:032x}.sundown", (record >> 80) / 1000)
}
