//! The shell's commands about folders, contents tables, flags, moves, copies, appended messages and search.

use std::str::FromStr;

use serde_json::{Value, json};
use sundown_client::{
    Code, Column, Direction, Error, Filter, Flags, Folder, FolderKind, Message, MessageRow, Sort,
};

use super::commands::{Reply, Shell, end, entry, parse};
use super::line::Words;
use crate::output::invalid;
use crate::reading::{folder as folders, inbox};

impl Shell {
    pub(super) fn folders(&self, words: &mut Words) -> Reply {
        let (_, session) = self.session(words)?;
        let store = place(words)?;
        end(words)?;
        let folders: Vec<_> = session.store(store)?.folders()?.iter().map(folders::value).collect();
        Ok(json!({ "folders": folders }))
    }

    pub(super) fn make_folder(&self, words: &mut Words) -> Reply {
        let name = words.needed("name").map_err(invalid)?;
        let parent = parsed(words, "parent")?;
        let (_, session) = self.session(words)?;
        let store = place(words)?;
        end(words)?;
        let folder = session.store(store)?.make_folder(parent, &name)?;
        Ok(json!({ "folder": folder.to_string() }))
    }

    pub(super) fn rename_folder(&self, words: &mut Words) -> Reply {
        let (folder, name) = (folder(words)?, words.needed("name").map_err(invalid)?);
        let (_, session) = self.session(words)?;
        let store = place(words)?;
        end(words)?;
        session.store(store)?.rename_folder(folder, &name)?;
        Ok(json!({}))
    }

    pub(super) fn remove_folder(&self, words: &mut Words) -> Reply {
        let folder = folder(words)?;
        let (_, session) = self.session(words)?;
        let store = place(words)?;
        end(words)?;
        session.store(store)?.remove_folder(folder)?;
        Ok(json!({}))
    }

    pub(super) fn flag(&self, words: &mut Words) -> Reply {
        let entry = entry(words)?;
        let (add, remove) = (parsed::<Flags>(words, "add")?, parsed::<Flags>(words, "remove")?);
        let (_, session) = self.session(words)?;
        end(words)?;
        if add.is_none() && remove.is_none() {
            return Err(invalid("flag needs add=… or remove=…"));
        }
        let (add, remove) = (add.unwrap_or_default(), remove.unwrap_or_default());
        let flags = session.set_flags(entry, &add, &remove)?;
        Ok(json!({ "flags": names(&flags) }))
    }

    pub(super) fn move_to(&self, words: &mut Words) -> Reply {
        let (entry, folder) = (entry(words)?, folder(words)?);
        let (_, session) = self.session(words)?;
        end(words)?;
        session.move_to(entry, folder)?;
        Ok(json!({ "entry": entry.to_string() }))
    }

    pub(super) fn copy_to(&self, words: &mut Words) -> Reply {
        let (entry, folder) = (entry(words)?, folder(words)?);
        let (_, session) = self.session(words)?;
        end(words)?;
        let copy = session.copy_to(entry, folder)?;
        Ok(json!({ "entry": copy.to_string() }))
    }

    pub(super) fn delete(&self, words: &mut Words) -> Reply {
        let entry = entry(words)?;
        let (_, session) = self.session(words)?;
        end(words)?;
        session.delete(entry)?;
        Ok(json!({}))
    }

    pub(super) fn append(&mut self, words: &mut Words) -> Reply {
        let (folder, bytes) = (folder(words)?, self.content(words)?);
        let flags = parsed::<Flags>(words, "flags")?.unwrap_or_default();
        let (_, session) = self.session(words)?;
        let store = place(words)?;
        end(words)?;
        let entry =
            session.store(store)?.folder(folder)?.append(&Message::new(bytes), &flags, None)?;
        Ok(json!({ "entry": entry.to_string() }))
    }

    pub(super) fn sync(&self, words: &mut Words) -> Reply {
        let (_, session) = self.session(words)?;
        end(words)?;
        Ok(crate::mailboxes::found(&session.sync()?))
    }

    pub(super) fn search(&self, words: &mut Words) -> Reply {
        let wanted = words.needed("words").map_err(invalid)?;
        let (folder, limit) = (parsed(words, "folder")?, limit(words)?);
        let (_, session) = self.session(words)?;
        let store = place(words)?;
        end(words)?;
        let mut search = session.store(store)?.search(wanted);
        if let Some(folder) = folder {
            search = search.in_folder(folder);
        }
        if let Some(limit) = limit {
            search = search.limit(limit);
        }
        let mut rows = Vec::new();
        while let Some(page) = search.next_page()? {
            rows.extend(page.iter().map(inbox::value));
        }
        Ok(json!({ "rows": rows, "unindexed": search.unindexed() }))
    }
}

/// Which rows of a folder `list` prints, and in which order.
pub(super) struct Listing {
    sort: Option<Column>,
    direction: Option<Direction>,
    limit: Option<usize>,
    unread: bool,
}

impl Listing {
    pub(super) fn take(words: &mut Words) -> Result<Self, Error> {
        let columns = Column::ALL.map(|column| (column.name(), column));
        let orders = [("ascending", Direction::Ascending), ("descending", Direction::Descending)];
        Ok(Self {
            sort: one_of(words, "sort", &columns)?,
            direction: one_of(words, "order", &orders)?,
            limit: limit(words)?,
            unread: words.flag("unread").map_err(invalid)?,
        })
    }

    /// Whether it is the whole table as it is, which other objects than folders have, too.
    pub(super) fn is_plain(&self) -> bool {
        let Self { sort, direction, limit, unread } = self;
        sort.is_none() && direction.is_none() && limit.is_none() && !unread
    }

    /// The rows of a folder. A broker that is too old for contents tables lists a folder all the same, in the order of arrival.
    pub(super) fn rows(&self, folder: &Folder) -> Result<Vec<Value>, Error> {
        let (by, direction) = (self.sort.unwrap_or_default(), self.direction.unwrap_or_default());
        let only = if self.unread { Filter::UNREAD } else { Filter::default() };
        let mut contents = folder.contents().sorted(Sort { by, direction }).only(only);
        if let Some(limit) = self.limit {
            contents = contents.limit(limit);
        }
        let rows: Result<Vec<_>, _> =
            contents.map(|row| row.map(|row| inbox::value(&row))).collect();
        match rows {
            Err(error) if error.code() == Code::E_VERSION && self.is_plain() => {
                let messages = folder.messages()?;
                Ok(messages.iter().map(|row| message_row(row, Some(folder.kind()))).collect())
            }
            rows => rows,
        }
    }
}

/// The row of a message, as far as a granted folder or an older broker shows it.
pub(super) fn message_row(row: &MessageRow, folder: Option<FolderKind>) -> Value {
    json!({
        "entry": row.entry.to_string(),
        "folder": folder.map(|folder| folder.to_string()),
        "subject": row.subject,
        "from": row.from,
        "to": row.to,
        "date": null,
        "size": row.size,
        "received": row.received,
        "flags": null,
        "recovered": row.recovered,
    })
}

fn names(flags: &Flags) -> Vec<&str> {
    flags.names().collect()
}

/// The place of the store that `store=N` names; that of the default store without it.
pub(super) fn place(words: &mut Words) -> Result<u16, Error> {
    words.value("store").map_err(invalid)?.map_or(Ok(0), |text| parse(&text, "store"))
}

/// The folder that `folder=F` names.
pub(super) fn folder(words: &mut Words) -> Result<FolderKind, Error> {
    let wanted = parsed(words, "folder")?;
    wanted.ok_or_else(|| invalid(format!("{} needs folder=…", words.command)))
}

fn limit(words: &mut Words) -> Result<Option<usize>, Error> {
    let limit = words.value("limit").map_err(invalid)?;
    limit.map(|text| parse(&text, "limit")).transpose()
}

/// The value of a key, by its type's own words.
fn parsed<T: FromStr<Err: std::fmt::Display>>(
    words: &mut Words,
    key: &str,
) -> Result<Option<T>, Error> {
    let text = words.value(key).map_err(invalid)?;
    text.map(|text| text.parse().map_err(|e| invalid(format!("{key}={text}: {e}")))).transpose()
}

/// The value of a key that is one of these words.
fn one_of<T: Copy>(words: &mut Words, key: &str, known: &[(&str, T)]) -> Result<Option<T>, Error> {
    let Some(text) = words.value(key).map_err(invalid)? else { return Ok(None) };
    let found = known.iter().find(|(word, _)| *word == text).map(|(_, value)| *value);
    let words: Vec<_> = known.iter().map(|(word, _)| *word).collect();
    let wrong = || invalid(format!("{key}={text} is none of {}", words.join(", ")));
    found.map(Some).ok_or_else(wrong)
}

#[cfg(test)]
mod tests {
    use sundown_client::ContentsRow;

    use super::super::line::words;
    use super::*;

    fn listing(line: &str) -> Result<Listing, Error> {
        Listing::take(&mut words(line).expect("words"))
    }

    #[test]
    fn a_listing_is_plain_without_words() {
        assert!(listing("list object=1").expect("a listing").is_plain());
        for word in ["sort=date", "order=descending", "limit=0", "unread"] {
            assert!(!listing(&format!("list {word}")).expect("a listing").is_plain(), "{word}");
        }
    }

    #[test]
    fn wrong_words_are_refused_with_the_right_ones() {
        for (wrong, right) in [
            ("list sort=newest", "received, date, from, subject, size"),
            ("list order=up", "ascending, descending"),
            ("list limit=few", "is not a number"),
            ("list unread=yes", "takes no value"),
        ] {
            let error = listing(wrong).err().expect(wrong);
            assert_eq!(error.code(), Code::E_INVALID_PARAMETER);
            assert!(error.to_string().contains(right), "{error}");
        }
        let mut words = words("move folder=elsewhere").expect("words");
        let error = folder(&mut words).expect_err("no folder").to_string();
        assert!(error.contains("inbox") && error.contains("f17"), "{error}");
        assert!(folder(&mut words).expect_err("none").to_string().contains("move needs folder"));
    }

    /// The keys of rows are the same, however old the broker is.
    #[test]
    fn rows_have_the_same_keys() {
        let entry = sundown_client::EntryId { store: 1, record: 2 };
        let old = MessageRow {
            entry,
            subject: "Hi".into(),
            from: "anna".into(),
            to: "bo".into(),
            size: 3,
            received: 4,
            recovered: false,
        };
        let new = ContentsRow {
            entry,
            folder: FolderKind(17),
            subject: "Hi".into(),
            from: "anna".into(),
            to: "bo".into(),
            date: Some(5),
            size: 3,
            received: 4,
            flags: "read,$work".parse().expect("flags"),
            recovered: false,
        };
        let keys = |row: &Value| row.as_object().expect("keys").keys().cloned().collect::<Vec<_>>();
        let (old, new) = (message_row(&old, Some(FolderKind::INBOX)), inbox::value(&new));
        assert_eq!(keys(&old), keys(&new));
        assert_eq!((&old["folder"], &old["flags"]), (&json!("inbox"), &Value::Null));
        assert_eq!((&new["folder"], &new["flags"]), (&json!("f17"), &json!(["read", "$work"])));
    }
}
