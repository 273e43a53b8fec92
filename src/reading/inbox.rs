//! The rows of a folder: a line for each message, newest first.

use std::time::SystemTime;

use mail_parser::DateTime;
use serde_json::{Value, json};
use sundown_client::{ContentsRow, EntryId, Error, Filter, Folder, FolderKind, Marks};

use super::entry;
use super::text::size;
use crate::grid::{Column, Grid, column};
use crate::{output, safe, terminal};

/// How many of a folder's newest messages are counted to number those that are not read. The ones behind have no number.
const COUNTED: usize = 2_000;

/// How wide a terminal is on which numbered rows have their entry, too.
const WIDE: usize = 100;

/// A message in a list. Its texts are what the message says; what is shown of them is harmless.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Row {
    /// Its place in its folder, the newest message being 1.
    pub(crate) number: Option<usize>,
    /// The path of its folder, where a list has messages of several.
    pub(crate) folder: Option<String>,
    pub(crate) message: ContentsRow,
}

/// A mark of a row, and what it means. Each has its place, so that the same ones stand below each other.
struct Mark {
    letter: &'static str,
    meaning: &'static str,
    is_on: fn(&Row) -> bool,
}

const MARKS: [Mark; 6] = [
    Mark { letter: "N", meaning: "not read", is_on: Row::is_unread },
    Mark { letter: "*", meaning: "flagged", is_on: |row| row.has(Marks::FLAGGED) },
    Mark { letter: "A", meaning: "answered", is_on: |row| row.has(Marks::ANSWERED) },
    Mark { letter: "F", meaning: "forwarded", is_on: |row| row.has(Marks::FORWARDED) },
    Mark { letter: "D", meaning: "draft", is_on: |row| row.has(Marks::DRAFT) },
    Mark { letter: "X", meaning: "deleted", is_on: |row| row.has(Marks::DELETED) },
];

impl Row {
    fn has(&self, mark: Marks) -> bool {
        self.message.flags.marks.contains(mark)
    }

    pub(crate) fn is_unread(&self) -> bool {
        !self.has(Marks::READ)
    }
}

/// A message in the documents of `--json`, as the shell's `list` has it.
pub(crate) fn value(row: &ContentsRow) -> Value {
    json!({
        "entry": row.entry.to_string(),
        "folder": row.folder.to_string(),
        "subject": row.subject,
        "from": row.from,
        "to": row.to,
        "date": row.date,
        "size": row.size,
        "received": row.received,
        "flags": row.flags.names().collect::<Vec<_>>(),
        "recovered": row.recovered,
    })
}

/// Which rows are shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Which {
    All,
    Unread,
}

/// The newest rows of a folder, at most so many, with their numbers.
pub(crate) fn newest(folder: &Folder, which: Which, limit: usize) -> Result<Vec<Row>, Error> {
    let only = match which {
        Which::All => Filter::default(),
        Which::Unread => Filter::UNREAD,
    };
    let found = folder.contents().only(only).limit(limit).collect::<Result<Vec<_>, _>>()?;
    let mut rows: Vec<_> =
        found.into_iter().map(|message| Row { number: None, folder: None, message }).collect();
    match which {
        Which::All => (1..).zip(&mut rows).for_each(|(number, row)| row.number = Some(number)),
        Which::Unread if rows.is_empty() => {}
        Which::Unread => {
            let all = folder.contents().limit(COUNTED);
            number(&mut rows, all.map(|row| row.map(|row| row.entry)))?;
        }
    }
    Ok(rows)
}

/// Gives rows their places among all messages, whose order they are in.
fn number(
    rows: &mut [Row],
    all: impl Iterator<Item = Result<EntryId, Error>>,
) -> Result<(), Error> {
    let mut rows = rows.iter_mut().peekable();
    for (number, entry) in (1..).zip(all) {
        let entry = entry?;
        if let Some(row) = rows.next_if(|row| row.message.entry == entry) {
            row.number = Some(number);
        }
        if rows.peek().is_none() {
            break;
        }
    }
    Ok(())
}

/// Whom a list is about: who wrote to us, or whom we wrote to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Whom {
    From,
    To,
}

impl Whom {
    /// Whom a list of this folder is about.
    pub(crate) fn of(folder: FolderKind) -> Self {
        match folder {
            FolderKind::OUTBOX | FolderKind::SENT | FolderKind::DRAFTS => Self::To,
            _ => Self::From,
        }
    }

    fn title(self) -> &'static str {
        match self {
            Self::From => "from",
            Self::To => "to",
        }
    }

    fn whole(self, row: &Row) -> &str {
        match self {
            Self::From => &row.message.from,
            Self::To => &row.message.to,
        }
    }

    /// The name, or the address where there is none; of several, how many there are besides.
    fn short(self, row: &Row) -> String {
        let whole = self.whole(row);
        let name = |one: &str| {
            let name = one.rsplit_once(" <").map(|(name, _)| name.trim().trim_matches('"'));
            safe::line(name.filter(|name| !name.is_empty()).unwrap_or(one))
        };
        match self {
            Self::From => name(whole),
            Self::To => safe::line(whole),
        }
    }
}

/// Rows for people. `now` is in milliseconds since 1970. On a terminal a message is a line that fits, and what is not read is bold; elsewhere
/// nothing is cut.
pub(crate) fn text(rows: &[Row], whom: Whom, now: u64, columns: Option<usize>) -> String {
    if rows.is_empty() {
        return "no messages\n".to_owned();
    }
    match columns {
        Some(columns) => in_columns(rows, whom, now, columns),
        None => whole(rows, whom, now),
    }
}

/// Prints the rows, now.
pub(crate) fn print(json: bool, rows: &[Row], whom: Whom) -> Result<output::Reader, Error> {
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    let document = rows.iter().map(|row| value(&row.message)).collect();
    output::show(json, &document, || text(rows, whom, now.as_millis() as u64, terminal::columns()))
}

/// The columns on a terminal. The marks have no title: what they mean stands below. A date is no use in part.
fn titles(whom: Whom) -> [Column; 7] {
    [
        column("#", 1, 10),
        column("entry", 6, 40),
        column("", 1, MARKS.len()),
        column("age", 10, 10),
        column("folder", 6, 20),
        column(whom.title(), 10, 28),
        column("subject", 10, usize::MAX),
    ]
}

fn in_columns(rows: &[Row], whom: Whom, now: u64, columns: usize) -> String {
    let entries: Vec<_> = rows.iter().map(|row| row.message.entry).collect();
    let named = columns >= WIDE || rows.iter().any(|row| row.number.is_none());
    let ends = if named { entry::ends(&entries) } else { vec![String::new(); rows.len()] };
    let used: Vec<_> = MARKS.iter().filter(|mark| rows.iter().any(mark.is_on)).collect();
    let marks = |row: &Row| -> String {
        let places = used.iter().map(|mark| if (mark.is_on)(row) { mark.letter } else { " " });
        places.collect()
    };
    let digits = rows.iter().filter_map(|row| row.number).max().map_or(0, |n| n.to_string().len());
    let number = |row: &Row| row.number.map_or_else(String::new, |n| format!("{n:>digits$}"));
    let row = |(row, end): (&Row, String)| {
        let folder = row.folder.as_deref().map(safe::line).unwrap_or_default();
        let age = age(row.message.received, now);
        let subject = safe::line(&row.message.subject);
        vec![number(row), end, marks(row), age, folder, whom.short(row), subject]
    };
    let cells: Vec<Vec<String>> = rows.iter().zip(ends).map(row).collect();
    let slices: Vec<&[String]> = cells.iter().map(Vec::as_slice).collect();
    let titles = titles(whom);
    let grid = Grid::new(&titles, &slices, columns);
    let mut text = terminal::clip(&grid.heading(&titles), columns) + "\n";
    for (row, cells) in rows.iter().zip(&cells) {
        let line = terminal::clip(&grid.line(cells, |_, cell| cell), columns);
        let line = line.trim_end();
        text += &if row.is_unread() { terminal::bold(line) } else { line.to_owned() };
        text.push('\n');
    }
    if !used.is_empty() {
        let meanings = used.iter().map(|mark| format!("{} {}", mark.letter, mark.meaning));
        let legend = meanings.collect::<Vec<_>>().join(", ");
        text += &format!("\n{}\n", terminal::dim(&terminal::clip(&legend, columns)));
    }
    text
}

fn whole(rows: &[Row], whom: Whom, now: u64) -> String {
    let has_folders = rows.iter().any(|row| row.folder.is_some());
    // A search has no numbers, and a folder's list needs no folders.
    let first = |row: &Row| match &row.folder {
        Some(folder) => folder.clone(),
        None => row.number.map_or_else(|| "-".to_owned(), |number| number.to_string()),
    };
    let row = |row: &Row| {
        vec![
            first(row),
            row.message.entry.to_string(),
            row.message.flags.names().collect::<Vec<_>>().join(","),
            age(row.message.received, now),
            size(row.message.size),
            whom.whole(row).to_owned(),
            row.message.subject.clone(),
        ]
    };
    let rows: Vec<_> = rows.iter().map(row).collect();
    let first = if has_folders { "folder" } else { "#" };
    output::table(&[first, "entry", "flags", "age", "size", whom.title(), "subject"], &rows)
}

/// How old a message is: `40s`, `3m`, `2h`, `5d`, and a date from a week on, in UTC.
fn age(received: u64, now: u64) -> String {
    let seconds = now.saturating_sub(received) / 1_000;
    match seconds {
        0..60 => format!("{seconds}s"),
        60..3_600 => format!("{}m", seconds / 60),
        3_600..86_400 => format!("{}h", seconds / 3_600),
        86_400..604_800 => format!("{}d", seconds / 86_400),
        _ => date(received),
    }
}

fn date(millis: u64) -> String {
    /// The last second of the year 9999, behind which a date has no four digits.
    const LAST: u64 = 253_402_300_799;
    let at = DateTime::from_timestamp((millis / 1_000).min(LAST).cast_signed());
    format!("{:04}-{:02}-{:02}", at.year, at.month, at.day)
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: u64 = 1_796_006_610_000;

    fn row(record: u128, minutes: u64, from: &str, subject: &str, flags: &str) -> Row {
        let message = ContentsRow {
            entry: EntryId { store: 1, record },
            folder: FolderKind::INBOX,
            from: from.into(),
            to: "bo@x.org".into(),
            subject: subject.into(),
            date: Some(NOW),
            size: 1_234,
            received: NOW - minutes * 60_000,
            flags: flags.parse().expect("flags"),
            recovered: false,
        };
        Row { number: Some(record as usize), folder: None, message }
    }

    fn rows() -> Vec<Row> {
        vec![
            row(1, 3, "Anna Ö <anna@x.org>", "Lunch?", ""),
            row(
                2,
                150,
                "bo@x.org",
                "日本語の件名、とても長いので切られます",
                "read,answered,flagged",
            ),
            row(3, 7_300, "\"Bank\u{202e}\" <x@y.org>", "🎉 \x1b[2Jnew\nline", "read,work"),
            row(4, 500_000, "", "", "read"),
        ]
    }

    fn shown(rows: &[Row], columns: usize) -> String {
        text(rows, Whom::From, NOW, Some(columns))
    }

    #[test]
    fn a_message_is_a_line_that_fits() {
        let wanted = [
            "#       age         from      subject",
            "1  N    3m          Anna Ö    Lunch?",
            "2   *A  2h          bo@x.org  日本語の件名、…",
            "3       5d          Bank�     🎉 �[2Jnew line",
            "4       2025-12-17",
            "",
            "N not read, * flagged, A answered",
        ];
        assert_eq!(shown(&rows(), 45).lines().collect::<Vec<_>>(), wanted);
        let found =
            || rows().into_iter().map(|row| Row { folder: Some("Work/2026".into()), ..row });
        for rows in [rows(), found().collect()] {
            for columns in 1..140 {
                let shown = shown(&rows, columns);
                for line in shown.lines() {
                    assert!(terminal::width_of(line) <= columns, "{columns}: {line:?}");
                }
                assert_eq!(shown.lines().count(), 1 + 4 + 2, "{columns}");
                assert!(!shown.contains(|c: char| c != '\n' && sundown_client::is_unseen(c)));
            }
        }
    }

    /// A row can be read by what stands in front of it.
    #[test]
    fn rows_have_numbers_or_ends_of_entries() {
        let mut rows = rows();
        assert!(shown(&rows, WIDE).contains("\n1  000001  N    3m"), "wide");
        rows[0].number = None;
        assert!(shown(&rows, 60).contains("\n   000001  N    3m"), "{}", shown(&rows, 60));
        rows[1].number = Some(12);
        assert!(shown(&rows, 60).contains("\n12  000002   *A"), "{}", shown(&rows, 60));
        assert!(shown(&rows, 60).contains("\n 3  000003"), "{}", shown(&rows, 60));
        for row in &mut rows {
            (row.number, row.folder) = (None, Some("Work\x1b".into()));
        }
        assert!(shown(&rows, 60).starts_with("entry        age         folder  from"), "found");
        assert!(shown(&rows, 60).contains("\n000001  N    3m          Work�"), "found");
        assert!(text(&rows, Whom::From, NOW, None).starts_with("folder  entry "), "found");
    }

    #[test]
    fn elsewhere_than_on_a_terminal_nothing_is_cut() {
        let shown = text(&rows(), Whom::From, NOW, None);
        assert!(shown.contains("日本語の件名、とても長いので切られます"), "{shown}");
        let entry = rows()[1].message.entry;
        assert!(shown.contains(&format!("\n2  {entry}  read,answered,flagged  2h")), "{shown}");
        assert!(!shown.contains("not read") && shown.lines().count() == 5, "{shown}");
        assert_eq!(text(&[], Whom::From, NOW, None), "no messages\n");
        assert_eq!(text(&[], Whom::From, NOW, Some(80)), "no messages\n");
    }

    #[test]
    fn what_was_sent_shows_whom_to() {
        assert_eq!(Whom::of(FolderKind::SENT), Whom::To);
        assert_eq!(Whom::of(FolderKind(17)), Whom::From);
        let shown = text(&rows(), Whom::To, NOW, Some(80));
        assert!(shown.lines().next().is_some_and(|line| line.contains("age         to ")));
        assert!(shown.contains("3m          bo@x.org  Lunch?") && !shown.contains("Anna"));
    }

    /// A message that came between the two readings takes no number from another one.
    #[test]
    fn unread_rows_have_their_places_among_all() {
        let entries: Vec<_> = [9, 1, 7, 8, 2, 3].map(|record| EntryId { store: 1, record }).into();
        let mut rows: Vec<_> = rows().into_iter().map(|row| Row { number: None, ..row }).collect();
        number(&mut rows, entries.into_iter().map(Ok)).expect("numbered");
        let numbers: Vec<_> = rows.iter().map(|row| row.number).collect();
        assert_eq!(numbers, [Some(2), Some(5), Some(6), None]);
        let failed = number(&mut rows, std::iter::once(Err(output::invalid("no"))));
        assert_eq!(failed.expect_err("passed on").to_string(), "no");
    }

    #[test]
    fn ages_are_short() {
        for (seconds, wanted) in [
            (0, "0s"),
            (59, "59s"),
            (60, "1m"),
            (3_599, "59m"),
            (7_200, "2h"),
            (86_400, "1d"),
            (604_799, "6d"),
            (604_800, "2026-11-23"),
        ] {
            assert_eq!(age(NOW - seconds * 1_000, NOW), wanted);
        }
        assert_eq!(age(NOW + 5_000, NOW), "0s", "clocks differ");
        assert_eq!(date(u64::MAX), "9999-12-31");
    }

    #[test]
    fn values_have_what_programs_need() {
        let value = value(&rows()[1].message);
        let keys: Vec<_> = value.as_object().expect("an object").keys().cloned().collect();
        assert_eq!(
            keys.join(" "),
            "entry folder subject from to date size received flags recovered"
        );
        assert_eq!(value["flags"], json!(["read", "answered", "flagged"]));
    }
}
