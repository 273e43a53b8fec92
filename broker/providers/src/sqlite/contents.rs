//! Answers questions about folders, and about what lies in mailboxes.

use std::path::Path;

use rusqlite::types::Value;
use rusqlite::{Connection, OptionalExtension, Row, params};
use sundown_core::provider::{
    ChangedFolder, Heading, PathPart, Pending, ProviderAnswer, Spot, SubmissionState, Wanted,
};
use sundown_protocol::EntryId;
use sundown_protocol::folder::{
    Bookmark, Column, ContentsRow, Direction, Filter, FolderRow, Key, MAX_KEY, Marks, Sort,
};
use sundown_protocol::request::Folder;

use super::folders::TOP;
use super::reader::no_folder;
use super::rows::decode_flags;
use super::schema::{self, GONE, UNREAD, folder_number, state_number};
use super::spots;
use crate::fault::Failure;

type Answer = std::result::Result<ProviderAnswer, Failure>;

/// The columns of a row of a contents table.
const ROW: &str = "seq, record, folder, subject, sender, recipients, date, size, received, flags, \
     keywords, recovered, state";

/// How many characters of a text count for its place in a sorted table.
const KEY_CHARS: usize = MAX_KEY / 4;

pub(super) fn folders(connection: &Connection, after: Option<Folder>, limit: u32) -> Answer {
    let after = after.map_or(0, folder_number);
    let sql = "SELECT id, parent, name, role FROM folder WHERE id > ?1 ORDER BY id LIMIT ?2";
    let mut statement = connection.prepare_cached(sql)?;
    let found = statement.query_map(params![after, u64::from(limit.max(1)) + 1], folder_row)?;
    let mut rows = found.collect::<rusqlite::Result<Vec<_>>>()?;
    let more = rows.len() > limit.max(1) as usize;
    rows.truncate(limit.max(1) as usize);
    rows.iter_mut().try_for_each(|row| count(connection, row))?;
    let next = rows.last().filter(|_| more).map(|row| row.folder);
    Ok(ProviderAnswer::Folders { rows, next })
}

pub(super) fn folder(connection: &Connection, folder: Folder) -> Answer {
    let sql = "SELECT id, parent, name, role FROM folder WHERE id = ?1";
    let mut statement = connection.prepare_cached(sql)?;
    let found = statement.query_row([folder_number(folder)], folder_row).optional()?;
    let mut row = found.ok_or_else(no_folder)?;
    count(connection, &mut row)?;
    Ok(ProviderAnswer::Folders { rows: vec![row], next: None })
}

fn folder_row(row: &Row<'_>) -> rusqlite::Result<FolderRow> {
    let parent: i64 = row.get(1)?;
    Ok(FolderRow {
        folder: schema::folder(row.get(0)?)?.unwrap_or(Folder::DELETED),
        parent: if parent == TOP { None } else { schema::folder(parent)? },
        name: row.get(2)?,
        role: row.get::<_, Option<u8>>(3)?.and_then(schema::role),
        total: 0,
        unread: 0,
    })
}

/// Counts the messages of a folder by its indexes.
fn count(connection: &Connection, row: &mut FolderRow) -> rusqlite::Result<()> {
    let number = folder_number(row.folder);
    if row.folder == Folder::OUTBOX {
        let sql = "SELECT count(*) FROM message WHERE state = ?1";
        let mut statement = connection.prepare_cached(sql)?;
        for state in SubmissionState::ALL.into_iter().filter(|state| !state.is_final()) {
            row.total += statement.query_row([state_number(state)], |row| row.get::<_, u64>(0))?;
        }
        return Ok(());
    }
    let sql = "SELECT count(*) FROM message WHERE folder = ?1 AND folder <> 2";
    row.total = connection.prepare_cached(sql)?.query_row([number], |row| row.get(0))?;
    let sql = format!("SELECT count(*) FROM message WHERE folder = ?1 AND {UNREAD}");
    row.unread = connection.prepare_cached(&sql)?.query_row([number], |row| row.get(0))?;
    Ok(())
}

/// A page of a folder's contents table. By the time of arrival it follows an index; otherwise it looks at all rows of the folder, and
/// holds no more of them than the page has.
pub(super) fn contents(
    connection: &Connection,
    uid: u32,
    wanted: (Folder, Sort, Filter),
    after: Option<&Bookmark>,
    limit: u32,
) -> Answer {
    let limit = limit.max(1);
    if wanted.0.built_in().is_none() {
        let sql = "SELECT 1 FROM folder WHERE id = ?1";
        if !connection.prepare_cached(sql)?.exists([folder_number(wanted.0)])? {
            return Err(no_folder());
        }
    }
    let sql = query(wanted, after.is_some());
    let mut statement = connection.prepare_cached(&sql)?;
    let row = |row: &Row<'_>| Ok((contents_row(row, uid)?, bookmark(row)?));
    let most = u64::from(limit) + 1;
    let rows = match after {
        None => statement.query_map(params![most], row)?.collect::<rusqlite::Result<Vec<_>>>(),
        Some(Bookmark { key, order }) => {
            let key = match key {
                Key::Number(number) => Value::Integer(i64::try_from(*number).unwrap_or(i64::MAX)),
                Key::Text(text) => Value::Text(text.clone()),
            };
            let order = i64::try_from(*order).unwrap_or(i64::MAX);
            statement.query_map(params![most, key, order], row)?.collect()
        }
    };
    let mut rows = rows?;
    let more = rows.len() > limit as usize;
    rows.truncate(limit as usize);
    let next = rows.last().filter(|_| more).map(|(_, bookmark)| bookmark.clone());
    let rows = rows.into_iter().map(|(row, _)| row).collect();
    Ok(ProviderAnswer::Contents { rows, next })
}

/// The query for a page. Its parameters are the number of rows and, behind a bookmark, its key and its order.
pub(super) fn query((folder, sort, only): (Folder, Sort, Filter), behind: bool) -> String {
    let key = match sort.by {
        Column::Received => "received".to_owned(),
        Column::Date => "ifnull(date, received)".to_owned(),
        Column::From => format!("substr(lower(sender), 1, {KEY_CHARS})"),
        Column::Subject => format!("substr(lower(subject), 1, {KEY_CHARS})"),
        Column::Size => "size".to_owned(),
    };
    let (than, way) = match sort.direction {
        Direction::Ascending => (">", "ASC"),
        Direction::Descending => ("<", "DESC"),
    };
    let mut terms = String::new();
    if behind {
        terms += &format!(" AND ({key}, seq) {than} (?2, ?3)");
    }
    if only == Filter::UNREAD {
        terms += &format!(" AND {UNREAD}");
    } else {
        let (with, without) = (only.with.0, only.without.0);
        if with != 0 {
            terms += &format!(" AND ifnull(flags, 1) & {with} = {with}");
        }
        if without != 0 {
            terms += &format!(" AND ifnull(flags, 1) & {without} = 0");
        }
    }
    let select = format!("SELECT {ROW}, {key} AS key FROM message WHERE");
    let rows = if folder == Folder::OUTBOX {
        let one = |state| format!("{select} state = {}{terms}", state_number(state));
        let open = SubmissionState::ALL.into_iter().filter(|state| !state.is_final());
        open.map(one).collect::<Vec<_>>().join(" UNION ALL ")
    } else {
        // The index on folders is used where it is spelled like this.
        format!("{select} folder = {} AND folder <> 2{terms}", folder_number(folder))
    };
    let order = if folder == Folder::OUTBOX { "key" } else { &key };
    format!("{rows} ORDER BY {order} {way}, seq {way} LIMIT ?1")
}

/// A row of a contents table. A submission's date is when it was submitted, if its head says nothing else.
pub(super) fn contents_row(row: &Row<'_>, store: u32) -> rusqlite::Result<ContentsRow> {
    let received = row.get::<_, i64>(8)? as u64;
    let submitted = row.get::<_, Option<u8>>(12)?.map(|_| received);
    Ok(ContentsRow {
        entry: EntryId { store, record: u128::from_be_bytes(row.get(1)?) },
        folder: schema::folder(row.get(2)?)?.unwrap_or(Folder::DELETED),
        subject: row.get(3)?,
        from: row.get(4)?,
        to: row.get(5)?,
        date: row.get::<_, Option<i64>>(6)?.map(|date| date as u64).or(submitted),
        size: row.get(7)?,
        received,
        flags: decode_flags(row.get(9)?, row.get_ref(10)?.as_str_or_null()?),
        recovered: row.get(11)?,
    })
}

fn bookmark(row: &Row<'_>) -> rusqlite::Result<Bookmark> {
    let key = match row.get(13)? {
        Value::Integer(number) => Key::Number(number as u64),
        Value::Text(text) => Key::Text(text),
        _ => Key::Number(0),
    };
    Ok(Bookmark { key, order: row.get(0)? })
}

/// The rows of messages that a search has found, without those that are gone or in another folder.
pub(super) fn found(
    connection: &Connection,
    uid: u32,
    orders: &[u64],
    folder: Option<Folder>,
) -> rusqlite::Result<Vec<ContentsRow>> {
    let sql = format!("SELECT {ROW} FROM message WHERE seq = ?1 AND folder <> {GONE}");
    let mut statement = connection.prepare_cached(&sql)?;
    let mut rows = Vec::new();
    for order in orders {
        let row = statement.query_row([order], |row| contents_row(row, uid)).optional()?;
        let wanted = |row: &ContentsRow| match folder {
            Some(folder) => row.folder == folder,
            None => row.folder != Folder::DELETED,
        };
        rows.extend(row.filter(wanted));
    }
    Ok(rows)
}

/// What lies in a directory of a mailbox.
pub(super) fn mirrored(
    connection: &Connection,
    mailbox: &Path,
    (dir, after): (&str, &str),
    limit: u32,
) -> Answer {
    let Some(number) = spots::number_of(connection, mailbox)? else {
        return Ok(ProviderAnswer::Spots { rows: Vec::new(), more: false });
    };
    // A message that is gone keeps its spot, so that it is known when it comes back.
    let sql = "SELECT name, marks, remote.keywords
               FROM spot JOIN message ON message.seq = spot.message
               LEFT JOIN remote ON remote.message = spot.message
               WHERE spot.mailbox = ?1 AND dir = ?2 AND name > ?3 AND name IS NOT NULL
                   AND (message.folder <> 0 OR pending = 1)
               ORDER BY name LIMIT ?4";
    let most = limit.max(1);
    let mut statement = connection.prepare_cached(sql)?;
    let row = |row: &Row<'_>| {
        Ok((row.get(0)?, decode_flags(row.get(1)?, row.get_ref(2)?.as_str_or_null()?)))
    };
    let found = statement.query_map(params![number, dir, after, u64::from(most) + 1], row)?;
    let mut rows = found.collect::<rusqlite::Result<Vec<_>>>()?;
    let more = rows.len() > most as usize;
    rows.truncate(most as usize);
    Ok(ProviderAnswer::Spots { rows, more })
}

/// The directories of a mailbox that are folders, or in which something lies. Each is found by an index, however much lies in it.
pub(super) fn directories(
    connection: &Connection,
    mailbox: &Path,
    after: Option<&str>,
    limit: u32,
) -> Answer {
    let Some(number) = spots::number_of(connection, mailbox)? else {
        return Ok(ProviderAnswer::Directories { dirs: Vec::new(), more: false, passed: false });
    };
    let sql = "SELECT passed IS NOT NULL FROM mailbox WHERE id = ?1";
    let passed = connection.prepare_cached(sql)?.query_row([number], |row| row.get(0))?;
    let next = |after: Option<&str>| -> rusqlite::Result<Option<String>> {
        let than = if after.is_some() { ">" } else { ">=" };
        let spots = format!(
            "SELECT min(dir) FROM spot WHERE mailbox = ?1 AND dir {than} ?2 AND name IS NOT NULL"
        );
        let folders = format!(
            "SELECT min(dir) FROM folder WHERE mailbox = ?1 AND dir {than} ?2 AND dir IS NOT NULL"
        );
        let parameters = params![number, after.unwrap_or_default()];
        let find = |sql: &str| -> rusqlite::Result<Option<String>> {
            connection.prepare_cached(sql)?.query_row(parameters, |row| row.get(0))
        };
        Ok(find(&spots)?.into_iter().chain(find(&folders)?).min())
    };
    let mut dirs: Vec<String> = Vec::new();
    let mut last = next(after)?;
    while let Some(dir) = last {
        if dirs.len() >= limit.max(1) as usize {
            return Ok(ProviderAnswer::Directories { dirs, more: true, passed });
        }
        last = next(Some(&dir))?;
        dirs.push(dir);
    }
    Ok(ProviderAnswer::Directories { dirs, more: false, passed })
}

/// Directories of a mailbox whose folders have another name in the store, or were removed there. Outer ones come first.
pub(super) fn changed_folders(connection: &Connection, mailbox: &Path, limit: u32) -> Answer {
    let Some(number) = spots::number_of(connection, mailbox)? else {
        return Ok(ProviderAnswer::ChangedFolders(Vec::new()));
    };
    let sql = "SELECT dir, id FROM folder WHERE mailbox = ?1 AND renamed = 1
               UNION ALL SELECT dir, NULL FROM gone_dir WHERE mailbox = ?1 ORDER BY 1 LIMIT ?2";
    let mut statement = connection.prepare_cached(sql)?;
    let row = |row: &Row<'_>| Ok((row.get::<_, String>(0)?, row.get::<_, Option<i64>>(1)?));
    let found = statement.query_map(params![number, limit.max(1)], row)?;
    let found = found.collect::<rusqlite::Result<Vec<_>>>()?;
    let mut rows = Vec::new();
    for (dir, id) in found {
        let folder = id.map_or(Ok(None), schema::folder)?;
        let path = folder.map(|folder| path_of(connection, number, folder)).transpose()?;
        let wanted = path.map(|path| path.into_iter().map(|part| part.name).collect());
        rows.push(ChangedFolder { dir, wanted });
    }
    Ok(ProviderAnswer::ChangedFolders(rows))
}

/// Directories of a mailbox whose folders were renamed here, with the names along the way to each: the mailbox may have renamed them
/// already.
pub(super) fn renamed_folders(
    connection: &Connection,
    mailbox: i64,
) -> rusqlite::Result<Vec<(String, Vec<String>)>> {
    let sql = "SELECT dir, id FROM folder WHERE mailbox = ?1 AND renamed = 1";
    let mut statement = connection.prepare_cached(sql)?;
    let row = |row: &Row<'_>| Ok((row.get::<_, String>(0)?, row.get::<_, i64>(1)?));
    let found = statement.query_map([mailbox], row)?.collect::<rusqlite::Result<Vec<_>>>()?;
    let mut renamed = Vec::new();
    for (dir, id) in found {
        if let Some(folder) = schema::folder(id)? {
            let path = path_of(connection, mailbox, folder)?;
            renamed.push((dir, path.into_iter().map(|part| part.name).collect()));
        }
    }
    Ok(renamed)
}

/// Changes that a mailbox does not have yet.
pub(super) fn pending(connection: &Connection, mailbox: &Path, after: u64, limit: u32) -> Answer {
    let Some(number) = spots::number_of(connection, mailbox)? else {
        return Ok(ProviderAnswer::Pending { rows: Vec::new(), next: None });
    };
    let sql = "SELECT message.seq, record, spot.dir, spot.name, message.folder, size, received,
                   flags, folder.dir, folder.mailbox, folder.role, spot.heading,
                   spot.marks, spot.heading_marks, beyond,
                   trace, message.keywords, remote.keywords
               FROM spot JOIN message ON message.seq = spot.message
               LEFT JOIN remote ON remote.message = spot.message
               LEFT JOIN folder ON folder.id = message.folder
               WHERE spot.mailbox = ?1 AND pending = 1 AND spot.message > ?2
               ORDER BY spot.message LIMIT ?3";
    let most = limit.max(1);
    let mut statement = connection.prepare_cached(sql)?;
    let after = i64::try_from(after).unwrap_or(i64::MAX);
    let row = |row: &Row<'_>| {
        let (dir, name): (Option<String>, Option<String>) = (row.get(2)?, row.get(3)?);
        let folder = schema::folder(row.get(4)?)?;
        let bound: Option<String> = row.get(8)?;
        let bound = bound.filter(|_| row.get(9).is_ok_and(|of: Option<i64>| of == Some(number)));
        let marks = Marks(row.get::<_, Option<u16>>(7)?.unwrap_or(Marks::READ.0) & Marks::KNOWN);
        let role = row.get::<_, Option<u8>>(10)?.and_then(schema::role);
        let wanted = folder.map(|folder| (folder, bound, role, marks));
        let spot = dir.zip(name).map(|(dir, name)| Spot { dir, name });
        let record = u128::from_be_bytes(row.get(1)?);
        let received = row.get::<_, i64>(6)? as u64;
        let dir: Option<String> = row.get(11)?;
        let marks = Marks(row.get::<_, Option<u16>>(13)?.unwrap_or_default());
        let beyond: Option<String> = row.get(14)?;
        let heading = dir.map(|dir| Heading { dir, marks, beyond });
        let (size, seen) = (row.get::<_, u64>(5)?, Marks(row.get(12)?));
        let trace = row.get::<_, Option<[u8; 16]>>(15)?.map(u128::from_be_bytes);
        let figures = (size, received, trace);
        let keywords = |column| -> rusqlite::Result<_> {
            Ok(decode_flags(None, row.get_ref(column)?.as_str_or_null()?).keywords)
        };
        let keywords = (keywords(16)?, keywords(17)?);
        Ok((row.get::<_, u64>(0)?, record, (spot, seen, heading), (wanted, keywords), figures))
    };
    let found = statement.query_map(params![number, after, u64::from(most) + 1], row)?;
    let mut found = found.collect::<rusqlite::Result<Vec<_>>>()?;
    let more = found.len() > most as usize;
    found.truncate(most as usize);
    let next = found.last().filter(|_| more).map(|(seq, ..)| *seq);
    let mut rows = Vec::new();
    for (_, record, (spot, seen, heading), (wanted, keywords), figures) in found {
        let (keywords, seen_keywords) = keywords;
        let wanted = match wanted {
            None => None,
            Some((folder, dir, role, marks)) => {
                let path = path_of(connection, number, folder)?;
                Some(Wanted { folder, dir, path, role, marks, keywords })
            }
        };
        let (size, received, trace) = figures;
        rows.push(Pending {
            record,
            spot,
            seen,
            seen_keywords,
            heading,
            wanted,
            size,
            received,
            trace,
        });
    }
    Ok(ProviderAnswer::Pending { rows, next })
}

/// A folder and those that it is in, the outermost first, with their directories in a mailbox. The folder in which all of a mailbox are is
/// none of them.
fn path_of(
    connection: &Connection,
    mailbox: i64,
    folder: Folder,
) -> rusqlite::Result<Vec<PathPart>> {
    let sql = "WITH RECURSIVE above (id, name, dir, own, depth) AS (
                   SELECT parent, name, CASE WHEN mailbox = ?2 THEN dir END, id, 0
                       FROM folder WHERE id = ?1
                   UNION ALL SELECT folder.parent, folder.name,
                           CASE WHEN folder.mailbox = ?2 THEN folder.dir END, folder.id, depth + 1
                       FROM folder, above WHERE folder.id = above.id AND depth < 64
                           AND folder.id IS NOT (SELECT inside FROM mailbox WHERE id = ?2))
               SELECT name, dir, own FROM above ORDER BY depth DESC";
    let mut statement = connection.prepare_cached(sql)?;
    let part = |row: &Row<'_>| Ok((row.get(0)?, row.get(1)?, row.get(2)?));
    let parts = statement.query_map(params![folder_number(folder), mailbox], part)?;
    let mut path = Vec::new();
    for part in parts {
        let (name, dir, own) = part?;
        if let Some(folder) = schema::folder(own)? {
            path.push(PathPart { folder, name, dir });
        }
    }
    Ok(path)
}
