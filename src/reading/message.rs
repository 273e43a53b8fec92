//! What `sundown read` prints of a message.

use std::io::IsTerminal;

use serde_json::{Value, json};
use sundown_client::{Code, EntryId, Error, OpenMessage};

use super::arguments::ReadArguments;
use super::save::{self, Saved};
use super::text::Shown;
use crate::output::{self, Reader};
use crate::{safe, terminal};

/// Whether the message was read before.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Before {
    Read,
    Unread,
}

/// The largest message that is shown, or whose attachments are saved. It is in memory as a whole.
const SHOWN: u64 = 256 << 20;

/// Prints a message in the way that was asked for, or saves its attachments.
pub(crate) fn print(
    json: bool,
    how: &ReadArguments,
    before: Before,
    message: &OpenMessage,
) -> Result<Reader, Error> {
    how.check(json)?;
    let on_terminal = std::io::stdout().is_terminal();
    if how.raw && !on_terminal {
        return copy(message);
    }
    let (entry, message) = (message.entry(), whole(message)?);
    if how.raw {
        return output::print_bytes(&raw(&message, on_terminal));
    }
    let shown = Shown::of(&message);
    let directory = how.save_attachments.as_deref();
    let saved = directory.map(|directory| save::save(directory, &message, &shown.attachments));
    let saved = saved.transpose()?;
    output::show(json, &value(&shown, entry, before, saved.as_ref()), || match &saved {
        Some(saved) => save::report(saved),
        None => shown.for_people(terminal::columns()),
    })
}

/// Prints a message of any size piece by piece.
fn copy(message: &OpenMessage) -> Result<Reader, Error> {
    let mut offset = 0;
    loop {
        let (piece, size) = message.read_at(offset)?;
        offset += piece.len() as u64;
        if output::print_bytes(&piece)? == Reader::Gone {
            return Ok(Reader::Gone);
        }
        if piece.is_empty() || offset >= size {
            return Ok(Reader::There);
        }
    }
}

/// All of a message, unless it is too large for that.
fn whole(message: &OpenMessage) -> Result<Vec<u8>, Error> {
    let mut whole = Vec::new();
    loop {
        let (piece, size) = message.read_at(whole.len() as u64)?;
        if size > SHOWN {
            return Err(too_big(size));
        }
        whole.extend_from_slice(&piece);
        if piece.is_empty() || whole.len() as u64 >= size {
            return Ok(whole);
        }
    }
}

fn too_big(size: u64) -> Error {
    let text = format!(
        "the message has {} MiB, and at most {} are shown; print it into a file with `--raw >FILE`",
        size >> 20,
        SHOWN >> 20
    );
    output::error(Code::E_TOO_BIG, text)
}

/// The message as it is. A terminal would obey it, so it gets it harmless, as `ls` does with names of files.
fn raw(message: &[u8], on_terminal: bool) -> Vec<u8> {
    if !on_terminal {
        return message.to_vec();
    }
    safe::text(&String::from_utf8_lossy(message)).into_bytes()
}

/// The document of `--json`.
fn value(shown: &Shown, entry: EntryId, before: Before, saved: Option<&Saved>) -> Value {
    let mut value = shown.value(entry, before == Before::Unread);
    value["saved"] = saved.map_or(Value::Null, |saved| json!(save::names(saved)));
    value
}

#[cfg(test)]
mod tests {
    use super::*;

    const ENTRY: EntryId = EntryId { store: 1, record: 2 };

    #[test]
    fn a_terminal_gets_no_raw_control_characters() {
        let message = b"Subject: \x1b[2J\xe9\r\n\r\n\x9b\r\n";
        assert_eq!(raw(message, false), message);
        assert_eq!(raw(message, true), "Subject: �[2J�\n\n�\n".as_bytes());
    }

    #[test]
    fn documents_say_what_was_saved() {
        let shown = Shown::of(b"Subject: x\n\ny\n");
        let nothing = value(&shown, ENTRY, Before::Read, None);
        assert_eq!((&nothing["saved"], &nothing["unread"]), (&Value::Null, &json!(false)));
        let saved = Saved { files: vec!["d/a (2).pdf".into()], left_out: 0 };
        let some = value(&shown, ENTRY, Before::Unread, Some(&saved));
        assert_eq!((&some["saved"], &some["unread"]), (&json!(["d/a (2).pdf"]), &json!(true)));
    }
}
