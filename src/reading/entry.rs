//! Which message `sundown read` is about.

use sundown_client::{Code, ContentsRow, EntryId, Error, FolderKind, Marks, Session};

use crate::output;

/// The fewest digits of the end of an identifier. Numbers of rows have fewer.
const FEWEST: usize = 6;

/// How many of a folder's newest messages are looked at for one whose identifier ends in some digits.
const LOOKED_AT: usize = 200;

/// How many folders are looked into besides the Inbox.
const FOLDERS: usize = 100;

/// How many of the messages whose identifiers end alike are named.
const NAMED: usize = 5;

/// A word that stands for a message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Wanted {
    Whole(EntryId),
    /// The last digits, in lower case.
    End(String),
    /// A row of the folder, the newest message being 1.
    Row(usize),
}

/// A message that was found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Found {
    pub(crate) entry: EntryId,
    /// Its marks, if its row was seen.
    pub(crate) marks: Option<Marks>,
}

impl Found {
    fn of(row: &ContentsRow) -> Self {
        Self { entry: row.entry, marks: Some(row.flags.marks) }
    }
}

impl Wanted {
    pub(crate) fn parse(word: &str) -> Result<Self, Error> {
        if let Ok(entry) = word.parse() {
            return Ok(Self::Whole(entry));
        }
        let row = || word.parse().ok().filter(|row| *row > 0).map(Self::Row);
        let wanted = match word.len() {
            1..FEWEST if word.bytes().all(|b| b.is_ascii_digit()) => row(),
            FEWEST..40 if word.bytes().all(|b| b.is_ascii_hexdigit()) => {
                Some(Self::End(word.to_ascii_lowercase()))
            }
            _ => None,
        };
        wanted.ok_or_else(|| {
            output::invalid(format!(
                "{word:?} names no message: say the number of its row in `sundown inbox`, the last {FEWEST} or more of the 40 \
                 hexadecimal digits of its entry identifier, or all of them"
            ))
        })
    }

    /// The message. A row is one of this folder, or of the Inbox; an end is looked for there, and without a folder also elsewhere.
    pub(crate) fn find(
        &self,
        session: &Session,
        folder: Option<FolderKind>,
    ) -> Result<Found, Error> {
        match self {
            Self::Whole(entry) => Ok(Found { entry: *entry, marks: None }),
            Self::Row(number) => nth(session, folder.unwrap_or(FolderKind::INBOX), *number),
            Self::End(end) => {
                let first = folder.unwrap_or(FolderKind::INBOX);
                let mut fits = newest(session, first, end)?;
                if fits.is_empty() && folder.is_none() {
                    let others = session.default_store()?.folders()?;
                    let others =
                        others.iter().map(|row| row.folder).filter(|other| *other != first);
                    for other in others.take(FOLDERS) {
                        fits.extend(newest(session, other, end)?);
                    }
                }
                one_of(&fits, end, folder)
            }
        }
    }
}

/// The row with this number of a folder.
fn nth(session: &Session, folder: FolderKind, number: usize) -> Result<Found, Error> {
    let mut rows = session.folder(folder)?.contents().limit(number);
    let (mut count, mut last) = (0, None);
    while let Some(page) = rows.next_page()? {
        count += page.len();
        last = page.last().map(Found::of).or(last);
    }
    last.filter(|_| count == number).ok_or_else(|| too_few(folder, number, count))
}

/// The newest messages of a folder whose identifiers end so.
fn newest(session: &Session, folder: FolderKind, end: &str) -> Result<Vec<Found>, Error> {
    let rows = session.folder(folder)?.contents().limit(LOOKED_AT);
    let rows: Vec<_> = rows.collect::<Result<_, _>>()?;
    Ok(ending(&rows, end))
}

fn ending(rows: &[ContentsRow], end: &str) -> Vec<Found> {
    let fits = |row: &&ContentsRow| row.entry.to_string().ends_with(end);
    rows.iter().filter(fits).map(Found::of).collect()
}

fn too_few(folder: FolderKind, number: usize, count: usize) -> Error {
    let has = match count {
        0 => "no message".to_owned(),
        1 => "1 message".to_owned(),
        n => format!("{n} messages"),
    };
    let text =
        format!("there is no row {number}: {folder} has {has}; `sundown inbox` lists the newest");
    output::error(Code::E_NOT_FOUND, text)
}

/// The one message whose identifier ends so.
fn one_of(fits: &[Found], end: &str, folder: Option<FolderKind>) -> Result<Found, Error> {
    match fits {
        [one] => Ok(*one),
        [] => {
            let place = folder.map_or_else(|| "any folder".to_owned(), |folder| folder.to_string());
            Err(output::error(
                Code::E_NOT_FOUND,
                format!(
                    "no entry identifier of the newest {LOOKED_AT} messages of {place} ends in {end}; say all 40 digits, which `sundown inbox` \
                     and `sundown search` print into a pipe"
                ),
            ))
        }
        several => {
            let named: Vec<_> =
                several.iter().take(NAMED).map(|found| found.entry.to_string()).collect();
            let more = if several.len() > NAMED { ", …" } else { "" };
            Err(output::invalid(format!(
                "{} entry identifiers end in {end}: {}{more}; say more digits",
                several.len(),
                named.join(", ")
            )))
        }
    }
}

/// The end of each identifier: as many digits as tell all of them apart, so that one can be copied from a list.
pub(crate) fn ends(entries: &[EntryId]) -> Vec<String> {
    let digits = |entry: &EntryId| entry.to_string();
    let mut backwards: Vec<String> =
        entries.iter().map(|entry| digits(entry).chars().rev().collect()).collect();
    backwards.sort_unstable();
    backwards.dedup();
    let alike = |pair: &[String]| {
        pair[0].bytes().zip(pair[1].bytes()).take_while(|(one, other)| one == other).count()
    };
    let needed = backwards.windows(2).map(|pair| alike(pair) + 1).max().unwrap_or(0).max(FEWEST);
    let end = |digits: String| digits[digits.len().saturating_sub(needed)..].to_owned();
    entries.iter().map(|entry| end(digits(entry))).collect()
}

#[cfg(test)]
mod tests {
    use sundown_client::Flags;

    use super::*;

    fn row(store: u32, record: u128) -> ContentsRow {
        ContentsRow {
            entry: EntryId { store, record },
            folder: FolderKind::INBOX,
            subject: String::new(),
            from: String::new(),
            to: String::new(),
            date: None,
            size: 0,
            received: 0,
            flags: Flags { marks: Marks::READ, keywords: Vec::new() },
            recovered: false,
        }
    }

    #[test]
    fn a_word_is_a_row_an_end_or_a_whole_identifier() {
        let parsed = |word: &str| Wanted::parse(word).expect(word);
        let entry = EntryId { store: 7, record: 0xFEED };
        assert_eq!(parsed(&entry.to_string()), Wanted::Whole(entry));
        assert_eq!(parsed("1"), Wanted::Row(1));
        assert_eq!(parsed("99999"), Wanted::Row(99_999));
        assert_eq!(parsed("123456"), Wanted::End("123456".into()));
        assert_eq!(parsed("00FEED"), Wanted::End("00feed".into()));
        for wrong in ["", "0", "00000", "-1", "+1", "1.5", "feed", "fee d00", "0x123456", "ééé"]
        {
            let error = Wanted::parse(wrong).expect_err(wrong);
            assert_eq!(error.code(), Code::E_INVALID_PARAMETER);
            assert!(error.to_string().contains("the number of its row"), "{error}");
        }
        Wanted::parse(&"a".repeat(41)).expect_err("too long");
    }

    #[test]
    fn an_end_stands_for_one_message() {
        let rows = [row(1, 0xAA12_3456), row(1, 0xBB12_3456), row(1, 0x00AB_CDEF)];
        let found = |end: &str, folder| one_of(&ending(&rows, end), end, folder);
        let one = found("abcdef", None).expect("one");
        assert_eq!(one, Found { entry: rows[2].entry, marks: Some(Marks::READ) });
        let several = found("123456", None).expect_err("two");
        assert!(several.to_string().contains(&rows[1].entry.to_string()), "{several}");
        assert!(several.to_string().contains("say more digits"), "{several}");
        assert_eq!(found("bb123456", None).expect("one").entry, rows[1].entry);
        let none = found("000000", Some(FolderKind(17))).expect_err("none");
        assert_eq!(none.code(), Code::E_NOT_FOUND);
        assert!(none.to_string().contains("messages of f17 ends"), "{none}");
    }

    #[test]
    fn ends_tell_entries_apart() {
        let entry = |record| EntryId { store: 1, record };
        assert_eq!(ends(&[]), [""; 0]);
        assert_eq!(ends(&[entry(0x12_345678)]), ["345678"]);
        let near = [entry(0xAA12_3456), entry(0xBB12_3456), entry(1)];
        assert_eq!(ends(&near), ["a123456", "b123456", "0000001"]);
        assert_eq!(ends(&[entry(1), entry(1)]), ["000001"; 2], "the same one");
        let far = [EntryId { store: 1, record: 5 }, EntryId { store: 2, record: 5 }];
        assert_eq!(ends(&far)[0].len(), 33);
        for end in ends(&near) {
            assert!(Wanted::parse(&end).is_ok());
        }
    }
}
