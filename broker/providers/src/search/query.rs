//! What people type to search, and what `FTS5` is asked for it.
//!
//! | typed | finds messages |
//! |---|---|
//! | `word` | with this word, in any field |
//! | `one two` | with both |
//! | `"one two"` | with these words next to each other |
//! | `wor*` | with a word that begins so |
//! | `-word` | without it |
//! | `from:` `to:` `subject:` `text:` `file:` | with it in this field; `-` may stand in front |
//! | `after:2026-01-31` | of this day or a later one |
//! | `before:2026-01-31` | of an earlier day |
//!
//! Case and accents do not matter. Days are days of UTC.

use std::collections::HashSet;

use mail_parser::DateTime;
use sundown_core::provider::ProviderError;
use sundown_protocol::Code;

use super::words::{self, Phrase};
use crate::Result;

/// The longest query, in bytes.
const LONGEST: usize = 4 << 10;

/// The most words and phrases of a query.
const MOST_TERMS: usize = 64;

/// The most of them that are the beginning of a word. For each of these all words that begin so are put together.
const MOST_BEGINNINGS: usize = 8;

/// A query that was understood.
///
/// ```
/// use sundown_providers::search::Query;
///
/// assert!(Query::parse("from:alice \"quarterly report\" -draft after:2026-01-01").is_ok());
/// let refused = Query::parse("-draft").unwrap_err();
/// assert_eq!(refused.message, "a search needs a word that is to be there, and not only ones that are not");
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Query {
    /// What must be there.
    all: Vec<Term>,
    /// What must not be there.
    none: Vec<Term>,
    /// The earliest date, in milliseconds since 1970.
    from: Option<i64>,
    /// The first date that is too late, in milliseconds since 1970.
    until: Option<i64>,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct Term {
    column: Option<&'static str>,
    phrase: Phrase,
}

/// The fields that can be named, and their columns.
const FIELDS: [(&str, &str); 5] = [
    ("from", "sender"),
    ("to", "recipients"),
    ("subject", "subject"),
    ("text", "text"),
    ("file", "file"),
];

/// What was named in front of a colon.
enum Named {
    Column(Option<&'static str>),
    After,
    Before,
}

impl Query {
    /// Reads what was typed. What it does not understand is refused with [`Code::E_INVALID_PARAMETER`] and a text that says what to
    /// write instead.
    pub fn parse(typed: &str) -> Result<Self> {
        if typed.len() > LONGEST {
            return Err(refused(format!("a search has at most {LONGEST} bytes")));
        }
        let mut query = Self { all: Vec::new(), none: Vec::new(), from: None, until: None };
        let mut rest = typed.trim_start();
        while !rest.is_empty() {
            rest = query.take(rest)?.trim_start();
        }
        if query.all.len() + query.none.len() > MOST_TERMS {
            return Err(refused(format!("a search has at most {MOST_TERMS} words")));
        }
        for terms in [&mut query.all, &mut query.none] {
            let mut seen = HashSet::new();
            terms.retain(|term| seen.insert(term.clone()));
        }
        let begins = |term: &&Term| term.phrase.begins;
        if query.all.iter().chain(&query.none).filter(begins).count() > MOST_BEGINNINGS {
            let text = format!("a search has at most {MOST_BEGINNINGS} beginnings of words");
            return Err(refused(text));
        }
        let dated = query.dates().is_some();
        if query.all.is_empty() && !dated {
            return Err(refused(if query.none.is_empty() {
                "a search needs a word"
            } else {
                "a search needs a word that is to be there, and not only ones that are not"
            }));
        }
        Ok(query)
    }

    /// Takes one term from the beginning of what was typed, and returns what stands behind it.
    fn take<'a>(&mut self, typed: &'a str) -> Result<&'a str> {
        let (without, after_sign) = match typed.strip_prefix('-') {
            Some(rest) => (true, rest),
            None => (false, typed),
        };
        let (named, value) = field(after_sign);
        let (text, begins, rest) = value_of(value)?;
        let shown = &typed[..typed.len() - rest.len()];
        let column = match named {
            Named::Column(column) => column,
            Named::After | Named::Before if without => {
                let advice = "take after: for before:, and before: for after:";
                return Err(refused(format!("`{shown}`: no `-` in front of a date; {advice}")));
            }
            Named::After => {
                let day = day(text, shown)?;
                self.from = Some(self.from.map_or(day, |known| known.max(day)));
                return Ok(rest);
            }
            Named::Before => {
                let day = day(text, shown)?;
                self.until = Some(self.until.map_or(day, |known| known.min(day)));
                return Ok(rest);
            }
        };
        let Some(phrase) = words::of_query(text, begins) else {
            return Err(refused(format!("`{shown}` has neither a letter nor a digit to look for")));
        };
        if begins && phrase.last_word_has_one_letter() {
            let text = format!("`{shown}`: at least two letters or digits stand before `*`");
            return Err(refused(text));
        }
        let term = Term { column, phrase };
        let terms = if without { &mut self.none } else { &mut self.all };
        terms.push(term);
        Ok(rest)
    }

    /// What `FTS5` is asked for; `None` if only dates are.
    pub(super) fn expression(&self) -> Option<String> {
        let all = joined(&self.all, " AND ")?;
        Some(match self.unwanted() {
            Some(none) => format!("({all}) NOT ({none})"),
            None => all,
        })
    }

    /// What must not be there, as `FTS5` is asked for it.
    pub(super) fn unwanted(&self) -> Option<String> {
        joined(&self.none, " OR ")
    }

    /// The earliest date and the first one that is too late, in milliseconds since 1970, if there is one of them.
    pub(super) fn dates(&self) -> Option<(i64, i64)> {
        (self.from.is_some() || self.until.is_some())
            .then(|| (self.from.unwrap_or(i64::MIN), self.until.unwrap_or(i64::MAX)))
    }
}

fn joined(terms: &[Term], between: &str) -> Option<String> {
    let one = |term: &Term| {
        let quoted = term.phrase.words.replace('"', "\"\"");
        let column = term.column.map_or_else(String::new, |column| format!("{column} : "));
        let star = if term.phrase.begins { " *" } else { "" };
        format!("{column}\"{quoted}\"{star}")
    };
    let terms: Vec<_> = terms.iter().map(one).collect();
    (!terms.is_empty()).then(|| terms.join(between))
}

fn refused(text: impl Into<String>) -> ProviderError {
    ProviderError::new(Code::E_INVALID_PARAMETER, text)
}

/// The field that a term begins with, and what stands behind its colon. What is no field is part of the word: `http://host`.
fn field(term: &str) -> (Named, &str) {
    let named = term.split_once(':').and_then(|(name, value)| {
        let is = |other: &str| name.eq_ignore_ascii_case(other);
        let column = FIELDS.iter().find(|(field, _)| is(field)).map(|(_, column)| *column);
        let named = match column {
            Some(column) => Named::Column(Some(column)),
            None if is("after") => Named::After,
            None if is("before") => Named::Before,
            None => return None,
        };
        Some((named, value))
    });
    named.unwrap_or((Named::Column(None), term))
}

/// A word or what is in quotation marks, whether a `*` stands behind it, and the rest.
fn value_of(value: &str) -> Result<(&str, bool, &str)> {
    if let Some(quoted) = value.strip_prefix('"') {
        let Some((text, rest)) = quoted.split_once('"') else {
            return Err(refused("a quotation mark `\"` is missing at the end of a phrase"));
        };
        let begins = rest.strip_prefix('*');
        return Ok((text, begins.is_some(), begins.unwrap_or(rest)));
    }
    let end = value.find(char::is_whitespace).unwrap_or(value.len());
    let (word, rest) = value.split_at(end);
    let begins = word.strip_suffix('*');
    Ok((begins.unwrap_or(word), begins.is_some(), rest))
}

/// The beginning of a day, in milliseconds since 1970.
fn day(text: &str, shown: &str) -> Result<i64> {
    let no_day = || refused(format!("`{shown}`: a date is written YYYY-MM-DD, such as 2026-01-31"));
    let digits = |part: Option<&str>, long: usize| {
        let part = part.filter(|part| part.len() == long);
        part.filter(|part| part.bytes().all(|b| b.is_ascii_digit()))?.parse::<u16>().ok()
    };
    let mut parts = text.split('-');
    let mut next = |long| digits(parts.next(), long).ok_or_else(no_day);
    let (year, month, day) = (next(4)?, next(2)? as u8, next(2)? as u8);
    if parts.next().is_some() || month == 0 || day == 0 {
        return Err(no_day());
    }
    let date = DateTime { year, month, day, ..DateTime::from_timestamp(0) };
    let again = DateTime::from_timestamp(date.to_timestamp());
    if (again.year, again.month, again.day) != (year, month, day) {
        return Err(refused(format!("`{shown}`: there is no such day")));
    }
    Ok(date.to_timestamp() * 1000)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn expression(typed: &str) -> String {
        let query = Query::parse(typed).expect("it is understood");
        query.expression().expect("it has words")
    }

    fn message(typed: &str) -> String {
        let refused = Query::parse(typed).expect_err("it is refused");
        assert_eq!(refused.code, Code::E_INVALID_PARAMETER);
        refused.message
    }

    #[test]
    fn words_are_quoted() {
        assert_eq!(expression("one two"), "\"one\" AND \"two\"");
        assert_eq!(expression("\"one two\" -Three"), "(\"one two\") NOT (\"Three\")");
        assert_eq!(expression("from:alice@example.org"), "sender : \"alice example org\"");
        assert_eq!(expression("SUBJECT:\"ab cd\"*"), "subject : \"ab cd\" *");
        assert_eq!(
            expression("x NEAR OR AND"),
            "\"x\" AND \"NEAR\" AND \"OR\"  AND \"AND\"".replace("  ", " ")
        );
        assert_eq!(expression("http://host:12"), "\"http   host 12\"");
        assert_eq!(expression("a a a -b -b"), "(\"a\") NOT (\"b\")");
        assert_eq!(expression("-text:x to:y"), "(recipients : \"y\") NOT (text : \"x\")");
    }

    #[test]
    fn days_are_of_utc_and_the_first_one_counts() {
        let day = 24 * 3600 * 1000;
        let query = Query::parse("after:1970-01-02 before:1970-01-04 x").expect("two days");
        assert_eq!(query.dates(), Some((day, 3 * day)));
        let query = Query::parse("after:1970-01-02 after:1970-01-03").expect("the later one");
        assert_eq!((query.dates(), query.expression()), (Some((2 * day, i64::MAX)), None));
        assert!(Query::parse("after:2024-02-29").is_ok());
        assert!(Query::parse("-x after:2024-02-29").is_ok());
    }

    #[test]
    fn what_is_not_understood_is_refused_in_words() {
        for (typed, says) in [
            ("", "needs a word"),
            ("  \t", "needs a word"),
            ("-x", "not only ones that are not"),
            ("\"open", "is missing"),
            ("from:", "`from:` has neither"),
            ("x !!!", "`!!!` has neither"),
            ("after:yesterday", "YYYY-MM-DD"),
            ("after:2026-1-1", "YYYY-MM-DD"),
            ("before:2025-02-29", "no such day"),
            ("before:2025-13-01", "no such day"),
            ("-after:2026-01-01 x", "no `-` in front of a date"),
            ("a*", "at least two letters"),
            ("\"one é\"*", "at least two letters"),
        ] {
            let message = message(typed);
            assert!(message.contains(says), "{typed:?}: {message}");
        }
        assert!(message(&"a ".repeat(3000)).contains("at most"));
        let many: String = (0..65).map(|n| format!("w{n} ")).collect();
        assert!(message(&many).contains("at most 64 words"));
        let many: String = (0..9).map(|n| format!("word{n}* ")).collect();
        assert!(message(&many).contains("at most 8 beginnings"));
    }
}
