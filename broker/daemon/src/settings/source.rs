//! One settings file: what it says, and where something in it stands.

use std::fmt;
use std::ops::Range;
use std::path::{Path, PathBuf};

use serde::Deserialize;
use sundown_providers::read_small;
use toml::Spanned;
use toml::de::{DeTable, DeValue};

/// What is wrong with a settings file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SettingsError {
    file: PathBuf,
    position: Option<Position>,
    key: String,
    message: String,
    /// Whether it is about an account that only a directory service may know.
    unlisted: bool,
}

/// A place in a file. Both count from one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Position {
    /// The line.
    pub line: usize,
    /// The character in the line.
    pub column: usize,
}

impl SettingsError {
    /// Of a file that must be there.
    pub(super) fn missing(file: &Path) -> Self {
        let message = "it is not there; make it, or name another one with --config".to_owned();
        Self { file: file.to_owned(), position: None, key: String::new(), message, unlisted: false }
    }

    /// The same, about an account that only a directory service may know.
    pub(super) fn unlisted(self) -> Self {
        Self { unlisted: true, ..self }
    }

    pub(super) fn is_unlisted(&self) -> bool {
        self.unlisted
    }

    /// The file.
    pub fn file(&self) -> &Path {
        &self.file
    }

    /// The place, unless the file as a whole is what is wrong.
    pub fn position(&self) -> Option<Position> {
        self.position
    }

    /// The key with its tables, such as `shutdown.linger` or `transport[1].path`. Empty where no key could be made out.
    pub fn key(&self) -> &str {
        &self.key
    }

    /// What is wrong, and what is allowed.
    pub fn message(&self) -> &str {
        &self.message
    }
}

impl fmt::Display for SettingsError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.file.display())?;
        if let Some(Position { line, column }) = self.position {
            write!(f, ", line {line}, column {column}")?;
        }
        if !self.key.is_empty() {
            write!(f, ", key `{}`", self.key)?;
        }
        write!(f, ": {}", self.message)
    }
}

impl std::error::Error for SettingsError {}

/// A settings file that was read.
pub(super) struct Source {
    file: PathBuf,
    text: String,
}

impl Source {
    /// Reads a file. One that does not exist is none.
    pub(super) fn open(file: &Path) -> Result<Option<Self>, SettingsError> {
        let whole = |message| SettingsError {
            file: file.to_owned(),
            position: None,
            key: String::new(),
            message,
            unlisted: false,
        };
        let bytes = match read_small(file) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(whole(format!("it cannot be read: {error}"))),
        };
        match String::from_utf8(bytes) {
            Ok(text) => Ok(Some(Self { file: file.to_owned(), text })),
            Err(error) => {
                let valid = error.utf8_error().valid_up_to();
                let text = String::from_utf8_lossy(error.as_bytes()).into_owned();
                let source = Self { file: file.to_owned(), text };
                Err(source.error(valid..valid, "it is not UTF-8 from here on"))
            }
        }
    }

    /// An empty file.
    pub(super) fn empty() -> Self {
        Self { file: PathBuf::new(), text: String::new() }
    }

    /// What the file says, in that form.
    pub(super) fn parse<T: for<'a> Deserialize<'a>>(&self) -> Result<T, SettingsError> {
        toml::from_str(&self.text).map_err(|error| {
            // Only a missing key has no place, and nothing is mandatory.
            self.error(error.span().unwrap_or(0..0), plain(error.message()))
        })
    }

    /// An error about that part of the text.
    pub(super) fn error(&self, part: Range<usize>, message: impl Into<String>) -> SettingsError {
        SettingsError {
            file: self.file.clone(),
            position: Some(position(&self.text, part.start)),
            key: key_at(&self.text, part.start).unwrap_or_default(),
            message: message.into(),
            unlisted: false,
        }
    }
}

fn position(text: &str, offset: usize) -> Position {
    let end = (0..=offset.min(text.len())).rev().find(|end| text.is_char_boundary(*end));
    let before = &text[..end.unwrap_or(0)];
    let start = before.rfind('\n').map_or(0, |newline| newline + 1);
    Position {
        line: before.bytes().filter(|byte| *byte == b'\n').count() + 1,
        column: before[start..].chars().count() + 1,
    }
}

/// The key that stands at that place or whose value does. A text that is no TOML may have it all the same.
fn key_at(text: &str, offset: usize) -> Option<String> {
    let (table, _) = DeTable::parse_recoverable(text);
    in_table(table.get_ref(), offset, "").or_else(|| key_of_line(text, offset))
}

/// What stands before the `=` of that line, if it looks like a key: a repeated one is not in the table.
fn key_of_line(text: &str, offset: usize) -> Option<String> {
    let line = text.lines().nth(position(text, offset).line - 1)?;
    let key = line.split_once('=')?.0.trim();
    let plain = |c: char| c.is_ascii_alphanumeric() || "_-.".contains(c);
    (!key.is_empty() && key.chars().all(plain)).then(|| key.to_owned())
}

fn in_table(table: &DeTable<'_>, offset: usize, outer: &str) -> Option<String> {
    table.iter().find_map(|(key, value)| {
        let dot = if outer.is_empty() { "" } else { "." };
        let path = format!("{outer}{dot}{}", key.get_ref());
        if key.span().contains(&offset) {
            return Some(path);
        }
        in_spanned(value, offset, &path)
    })
}

/// The innermost value at that place.
fn in_spanned(value: &Spanned<DeValue<'_>>, offset: usize, path: &str) -> Option<String> {
    let inner = match value.get_ref() {
        DeValue::Table(table) => in_table(table, offset, path),
        DeValue::Array(array) => {
            let mut items = array.iter().enumerate();
            items.find_map(|(n, item)| in_spanned(item, offset, &format!("{path}[{n}]")))
        }
        _ => None,
    };
    inner.or_else(|| value.span().contains(&offset).then(|| path.to_owned()))
}

/// The parser's words in those of the manual.
fn plain(message: &str) -> String {
    if message == "invalid type: map, expected a sequence" {
        return "there may be several of these, so each begins with two brackets: [[…]]".to_owned();
    }
    message
        .replace("unknown field", "unknown key")
        .replace("invalid type: map", "invalid type: table")
        .replace("invalid type: sequence", "invalid type: array")
        .replace("expected a sequence", "expected an array")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_count_lines_and_characters_from_one() {
        let text = "a = 1\nöb = 2\n";
        let at = |offset| {
            let Position { line, column } = position(text, offset);
            (line, column)
        };
        assert_eq!(at(0), (1, 1));
        assert_eq!(at(5), (1, 6));
        assert_eq!(at(6), (2, 1));
        assert_eq!(at(7), (2, 1));
        assert_eq!(at(8), (2, 2));
        assert_eq!(at(1000), (3, 1));
    }

    #[test]
    fn keys_are_found_with_their_tables() {
        let text = "a.b = 1\n[[t]]\nx = 1\n[[t]]\ny = [ 'p', 'q' ]\nz = { i = 1 }\n";
        let at = |piece: &str| key_at(text, text.rfind(piece).expect("there"));
        let expected = |key: &str| Some(key.to_owned());
        assert_eq!(at("b = 1"), expected("a.b"));
        assert_eq!(at("x = 1"), expected("t[0].x"));
        assert_eq!(at("'q'"), expected("t[1].y[1]"));
        assert_eq!(at("i = 1"), expected("t[1].z.i"));
        assert_eq!(key_at("[t]\na = off", 8), expected("t.a"));
        assert_eq!(key_at("[t]\na = 1\na = 2", 10), expected("a"));
        assert_eq!(key_at("[t]\n?", 4), None);
    }
}
