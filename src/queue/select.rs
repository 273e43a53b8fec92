//! Which entries a command is about: full identifiers, beginnings of them, or all that fit.
//!
//! An identifier is 8 digits of its store and 32 of its record. All entries of a store begin alike, so a short form is the beginning
//! of the record's digits.

use sundown_client::{EntryId, Error, Mapi, QueueRow, SubmissionState};

use crate::cli::Selection;
use crate::output;

/// The fewest digits of a short form: fewer are a mistake rather than a choice.
const FEWEST: usize = 4;

/// How many digits lists show, if so many tell all their entries apart.
const SHOWN: usize = 8;

/// Digits of a record in an identifier.
const DIGITS: usize = 32;

/// How many of the entries that a short form may stand for are named.
const NAMED: usize = 5;

/// A word that stands for an entry.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Named {
    Whole(EntryId),
    /// The first digits of its record, in lower case.
    Short(String),
}

impl Named {
    pub(super) fn parse(word: &str) -> Result<Self, Error> {
        if let Ok(entry) = word.parse() {
            return Ok(Self::Whole(entry));
        }
        let is_short = (FEWEST..=DIGITS).contains(&word.len());
        if is_short && word.bytes().all(|b| b.is_ascii_hexdigit()) {
            return Ok(Self::Short(word.to_ascii_lowercase()));
        }
        Err(output::invalid(format!(
            "{word:?}: an entry identifier is 40 hexadecimal digits, or {FEWEST} to {DIGITS} of them behind the first 8, as `sundown queue list` shows them"
        )))
    }
}

/// The digits of a record.
fn digits(entry: EntryId) -> String {
    format!("{:032x}", entry.record)
}

/// Checks what can be checked without a broker.
pub(super) fn check(selection: &Selection) -> Result<Vec<Named>, Error> {
    selection.entries.iter().map(|word| Named::parse(word)).collect()
}

/// The entries that are meant, in the order in which they were named.
pub(super) fn find(
    mapi: &Mapi,
    profile: Option<&str>,
    selection: &Selection,
) -> Result<Vec<EntryId>, Error> {
    if selection.all {
        let rows = mapi.queue(profile, false)?;
        let open = rows.iter().filter(|row| !row.state.is_final());
        let fits = |row: &&QueueRow| {
            selection.state.is_none_or(|state| row.state == state)
                && selection.to.as_ref().is_none_or(|to| {
                    row.recipients.iter().any(|recipient| matches(to, &recipient.address))
                })
        };
        return Ok(open.filter(fits).map(|row| row.entry).collect());
    }
    let mut known = Known::default();
    let named = check(selection)?;
    let mut found: Vec<EntryId> = Vec::new();
    for named in named {
        let entry = match named {
            Named::Whole(entry) => entry,
            Named::Short(short) => known.find(mapi, profile, &short)?,
        };
        if !found.contains(&entry) {
            found.push(entry);
        }
    }
    Ok(found)
}

/// What the queue has, read once and only if a short form is to be found.
#[derive(Default)]
struct Known {
    waiting: Option<Vec<QueueRow>>,
    all: Option<Vec<QueueRow>>,
}

impl Known {
    /// The entry that waits and begins so; else the final one.
    fn find(&mut self, mapi: &Mapi, profile: Option<&str>, short: &str) -> Result<EntryId, Error> {
        for (rows, all) in [(&mut self.waiting, false), (&mut self.all, true)] {
            if rows.is_none() {
                *rows = Some(mapi.queue(profile, all)?);
            }
            let rows = rows.as_deref().unwrap_or_default();
            let fits: Vec<_> =
                rows.iter().filter(|row| digits(row.entry).starts_with(short)).collect();
            match &fits[..] {
                [] => {}
                [one] => return Ok(one.entry),
                several => return Err(ambiguous(short, several)),
            }
        }
        Err(output::invalid(format!(
            "no entry begins with {short}; `sundown queue list --all` shows those there are"
        )))
    }
}

fn ambiguous(short: &str, several: &[&QueueRow]) -> Error {
    let one = |row: &&QueueRow| {
        let to = row.recipients.first().map_or("", |r| r.address.as_str());
        format!("{} ({}, to {to})", digits(row.entry), row.state.name())
    };
    let named: Vec<_> = several.iter().take(NAMED).map(one).collect();
    let more = if several.len() > NAMED { ", …" } else { "" };
    output::invalid(format!(
        "{} entries begin with {short}: {}{more}; say more digits",
        several.len(),
        named.join(", ")
    ))
}

/// The short form of each entry in the queue.
pub(crate) fn short(rows: &[QueueRow]) -> Vec<String> {
    short_entries(rows.iter().map(|row| row.entry))
}

/// The short form of each entry: as many digits as tell all of them apart.
fn short_entries(entries: impl Iterator<Item = EntryId>) -> Vec<String> {
    let mut all: Vec<_> = entries.map(digits).collect();
    let shown = all.clone();
    all.sort_unstable();
    all.dedup();
    let alike = |pair: &[String]| {
        pair[0].bytes().zip(pair[1].bytes()).take_while(|(one, other)| one == other).count()
    };
    let needed = all.windows(2).map(|pair| alike(pair) + 1).max().unwrap_or(0).max(SHOWN);
    shown.into_iter().map(|digits| digits[..needed.min(DIGITS)].to_owned()).collect()
}

/// Whether an address fits a pattern: letters of any case, and `*` for any of them.
fn matches(pattern: &str, address: &str) -> bool {
    let (pattern, address) = (pattern.to_lowercase(), address.to_lowercase());
    let mut pieces = pattern.split('*');
    let first = pieces.next().unwrap_or_default();
    let Some(mut rest) = address.strip_prefix(first) else { return false };
    let Some(last) = pieces.next_back() else { return rest.is_empty() };
    for piece in pieces {
        let Some(at) = rest.find(piece) else { return false };
        rest = &rest[at + piece.len()..];
    }
    rest.ends_with(last)
}

/// A state by its name.
pub(crate) fn state(name: &str) -> Result<SubmissionState, String> {
    let known = SubmissionState::ALL.into_iter().filter(|state| !state.is_final());
    let names: Vec<_> = known.clone().map(SubmissionState::name).collect();
    let found = known.into_iter().find(|state| state.name() == name);
    found.ok_or_else(|| format!("expected one of {}", names.join(", ")))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(record: u128) -> QueueRow {
        QueueRow {
            entry: EntryId { store: 0xABCD, record },
            profile: "default".into(),
            state: SubmissionState::Queued,
            from: String::new(),
            recipients: Vec::new(),
            subject: String::new(),
            attempts: 0,
            next_attempt: None,
            last_error: None,
            submitted: 0,
            size: 0,
        }
    }

    #[test]
    fn a_word_is_an_identifier_or_the_beginning_of_one() {
        let entry = EntryId { store: 7, record: 0xFEED << 112 };
        assert_eq!(Named::parse(&entry.to_string()).expect("whole"), Named::Whole(entry));
        assert_eq!(Named::parse("FEED").expect("short"), Named::Short("feed".into()));
        assert_eq!(Named::parse(&"a".repeat(32)).expect("short"), Named::Short("a".repeat(32)));
        for wrong in ["", "fee", "feedx", &"a".repeat(33), &"a".repeat(41), "--all"] {
            let error = Named::parse(wrong).expect_err(wrong).to_string();
            assert!(error.contains("40 hexadecimal digits"), "{error}");
        }
    }

    #[test]
    fn lists_show_as_many_digits_as_tell_entries_apart() {
        let first = 0x1234_5678_9ABC_DEF0 << 64;
        assert_eq!(short(&[]), [""; 0]);
        assert_eq!(short(&[row(first)]), ["12345678"]);
        assert_eq!(short(&[row(first), row(1)]), ["12345678", "00000000"]);
        let near = [row(first), row(first + (1 << 80))];
        assert_eq!(short(&near), ["123456789abc", "123456789abd"]);
        assert_eq!(short(&[row(first), row(first)]), ["12345678"; 2], "the same one");
        assert_eq!(short(&[row(0), row(1)]).concat().len(), 64);
    }

    #[test]
    fn patterns_are_those_of_addresses() {
        for (pattern, address, fits) in [
            ("anna@x.y", "Anna@X.Y", true),
            ("anna@x.y", "anna@x.yz", false),
            ("*@x.y", "anna@x.y", true),
            ("*@x.y", "anna@x.y.z", false),
            ("anna@*", "anna@x.y", true),
            ("*", "", true),
            ("a*b*c", "a-b-b-c", true),
            ("a*b*c", "acb", false),
            ("ab*ba", "aba", false),
        ] {
            assert_eq!(matches(pattern, address), fits, "{pattern} {address}");
        }
    }

    #[test]
    fn states_that_are_not_final_have_names() {
        assert_eq!(state("deferred"), Ok(SubmissionState::Deferred));
        for wrong in ["sent", "Deferred", ""] {
            assert!(state(wrong).expect_err(wrong).contains("held, queued"), "{wrong}");
        }
    }
}
