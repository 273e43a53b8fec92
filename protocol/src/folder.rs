//! Folders, the flags of messages, and the rows of contents tables.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::id::EntryId;

/// A folder of a store, by its number. The five folders of every store have the same numbers in all stores; the number of another
/// folder is its store's, and is never used for a second folder.
///
/// ```
/// use sundown_protocol::Folder;
///
/// assert_eq!(Folder::INBOX.to_string(), "inbox");
/// assert_eq!("f17".parse(), Ok(Folder(17)));
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Folder(pub u32);

impl Folder {
    /// Received mail, and delivery status notifications.
    pub const INBOX: Self = Self(0);
    /// Submitted mail that is not final.
    pub const OUTBOX: Self = Self(1);
    /// Final mail.
    pub const SENT: Self = Self(2);
    /// Unfinished mail.
    pub const DRAFTS: Self = Self(3);
    /// Deleted mail. Deleting a message here deletes it for good.
    pub const DELETED: Self = Self(4);

    /// The folders of every store.
    pub const BUILT_IN: [Self; 5] =
        [Self::INBOX, Self::OUTBOX, Self::SENT, Self::DRAFTS, Self::DELETED];

    /// The first number of a folder that is not in every store.
    pub const FIRST_OTHER: u32 = 16;

    /// The name of a folder of every store.
    pub fn built_in(self) -> Option<&'static str> {
        ["inbox", "outbox", "sent", "drafts", "deleted"].get(self.0 as usize).copied()
    }
}

impl fmt::Display for Folder {
    /// The word on the command line: `inbox`, or `f17` for a folder that is not in every store.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.built_in() {
            Some(name) => f.write_str(name),
            None => write!(f, "f{}", self.0),
        }
    }
}

impl FromStr for Folder {
    type Err = UnknownFolder;

    fn from_str(text: &str) -> Result<Self, UnknownFolder> {
        if let Some(folder) = Self::BUILT_IN.into_iter().find(|f| f.built_in() == Some(text)) {
            return Ok(folder);
        }
        let digits = text.strip_prefix('f').filter(|d| d.bytes().all(|b| b.is_ascii_digit()));
        let number = digits.and_then(|digits| digits.parse().ok());
        number
            .filter(|n| *n >= Self::FIRST_OTHER)
            .map(Self)
            .ok_or_else(|| UnknownFolder(text.to_owned()))
    }
}

/// The error of a word that is not that of a folder.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UnknownFolder(pub String);

impl fmt::Display for UnknownFolder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let word = &self.0;
        write!(
            f,
            "{word:?} is no folder; inbox, outbox, sent, drafts, deleted are, and those like f17 that `folders` lists"
        )
    }
}

impl std::error::Error for UnknownFolder {}

/// What a folder is for. A store has at most one folder of each role.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Role {
    /// Received mail (`PR_IPM_SUBTREE`'s Inbox).
    Inbox,
    /// Submitted mail that is not final.
    Outbox,
    /// Final mail (`PR_IPM_SENTMAIL_ENTRYID`).
    Sent,
    /// Unfinished mail.
    Drafts,
    /// Deleted mail (`PR_IPM_WASTEBASKET_ENTRYID`).
    Deleted,
    /// Unwanted mail.
    Junk,
    /// Mail that was put away.
    Archive,
    /// All mail of an account, in whatever folder it is.
    All,
}

impl Role {
    /// All roles.
    pub const ALL: [Self; 8] = [
        Self::Inbox,
        Self::Outbox,
        Self::Sent,
        Self::Drafts,
        Self::Deleted,
        Self::Junk,
        Self::Archive,
        Self::All,
    ];

    /// The name in `--json` output.
    pub fn name(self) -> &'static str {
        match self {
            Self::Inbox => "inbox",
            Self::Outbox => "outbox",
            Self::Sent => "sent",
            Self::Drafts => "drafts",
            Self::Deleted => "deleted",
            Self::Junk => "junk",
            Self::Archive => "archive",
            Self::All => "all",
        }
    }

    /// The folder of every store that has this role, if one has.
    pub fn built_in(self) -> Option<Folder> {
        match self {
            Self::Inbox => Some(Folder::INBOX),
            Self::Outbox => Some(Folder::OUTBOX),
            Self::Sent => Some(Folder::SENT),
            Self::Drafts => Some(Folder::DRAFTS),
            Self::Deleted => Some(Folder::DELETED),
            Self::Junk | Self::Archive | Self::All => None,
        }
    }
}

/// A row of a store's hierarchy table: a folder.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FolderRow {
    /// The folder (`PR_ENTRYID`).
    pub folder: Folder,
    /// The folder that it is in; `None` for one at the top.
    pub parent: Option<Folder>,
    /// `PR_DISPLAY_NAME`, without the names of the folders that it is in.
    pub name: String,
    /// What it is for.
    pub role: Option<Role>,
    /// `PR_CONTENT_COUNT`.
    pub total: u64,
    /// `PR_CONTENT_UNREAD`.
    pub unread: u64,
}

/// The longest name of a folder, in bytes.
pub const MAX_FOLDER_NAME: usize = 255;

/// The flags of a message that every store knows, as bits.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Marks(pub u16);

impl Marks {
    /// `MSGFLAG_READ`: somebody has read it.
    pub const READ: Self = Self(1);
    /// It was answered.
    pub const ANSWERED: Self = Self(2);
    /// It is marked for attention.
    pub const FLAGGED: Self = Self(4);
    /// `MSGFLAG_UNSENT`: it is a draft.
    pub const DRAFT: Self = Self(8);
    /// It is marked as deleted.
    pub const DELETED: Self = Self(16);
    /// It was forwarded.
    pub const FORWARDED: Self = Self(32);
    /// All bits that have a meaning.
    pub const KNOWN: u16 = 63;

    /// The names on the command line and in `--json` output.
    pub const NAMES: [(&'static str, Self); 6] = [
        ("read", Self::READ),
        ("answered", Self::ANSWERED),
        ("flagged", Self::FLAGGED),
        ("draft", Self::DRAFT),
        ("deleted", Self::DELETED),
        ("forwarded", Self::FORWARDED),
    ];

    /// Whether every mark of `other` is set.
    pub fn contains(self, other: Self) -> bool {
        self.0 & other.0 == other.0
    }
}

/// Flags of a message: marks that every store knows, and keywords that programs make up.
///
/// ```
/// use sundown_protocol::folder::{Flags, Marks};
///
/// let flags: Flags = "read,$work".parse().unwrap();
/// assert_eq!(flags.marks, Marks::READ);
/// assert_eq!(flags.names().collect::<Vec<_>>(), ["read", "$work"]);
/// ```
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Flags {
    /// The marks.
    pub marks: Marks,
    /// The keywords, in alphabetical order, each once.
    pub keywords: Vec<String>,
}

/// The most keywords of a message.
pub const MAX_KEYWORDS: usize = 32;

/// The longest keyword, in bytes.
pub const MAX_KEYWORD: usize = 64;

impl Flags {
    /// Whether no flag is set.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    /// The names of the flags that are set: marks first.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        let set = |(_, mark): &&(&str, Marks)| self.marks.contains(*mark);
        let marks = Marks::NAMES.iter().filter(set).map(|(name, _)| *name);
        marks.chain(self.keywords.iter().map(String::as_str))
    }

    /// These flags after a change: those of `add` are set, then those of `remove` are not.
    #[must_use]
    pub fn changed(&self, add: &Self, remove: &Self) -> Self {
        let marks = Marks((self.marks.0 | add.marks.0) & !remove.marks.0);
        let mut keywords: Vec<_> = self.keywords.iter().chain(&add.keywords).cloned().collect();
        keywords.retain(|keyword| !remove.keywords.contains(keyword));
        keywords.sort_unstable();
        keywords.dedup();
        Self { marks, keywords }
    }

    /// What is wrong with the flags, if they come from a client.
    pub fn check(&self) -> Result<(), WrongFlag> {
        if self.marks.0 & !Marks::KNOWN != 0 {
            return Err(WrongFlag(format!("0x{:x}", self.marks.0)));
        }
        if self.keywords.len() > MAX_KEYWORDS {
            return Err(WrongFlag(format!("{} keywords", self.keywords.len())));
        }
        match self.keywords.iter().find(|keyword| !is_keyword(keyword)) {
            Some(keyword) => Err(WrongFlag(keyword.clone())),
            None => Ok(()),
        }
    }
}

/// Whether a word can be a keyword: an atom of IMAP that is not the name of a mark.
///
/// ```
/// use sundown_protocol::folder::is_keyword;
///
/// assert!(is_keyword("$work") && !is_keyword("flagged") && !is_keyword("two words"));
/// ```
pub fn is_keyword(word: &str) -> bool {
    let fits = |b: u8| b.is_ascii_graphic() && !b"(){%*\"\\],".contains(&b);
    (1..=MAX_KEYWORD).contains(&word.len())
        && word.bytes().all(fits)
        && !Marks::NAMES.iter().any(|(name, _)| name.eq_ignore_ascii_case(word))
}

/// The error of a word that cannot be a flag.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WrongFlag(pub String);

impl fmt::Display for WrongFlag {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names: Vec<_> = Marks::NAMES.iter().map(|(name, _)| *name).collect();
        write!(
            f,
            "{:?} is no flag; the flags are {}, and keywords: at most {MAX_KEYWORDS} words of at most {MAX_KEYWORD} ASCII \
             characters without spaces and ( ) {{ % * \" \\ ] ,",
            self.0,
            names.join(", ")
        )
    }
}

impl std::error::Error for WrongFlag {}

impl FromStr for Flags {
    type Err = WrongFlag;

    fn from_str(text: &str) -> Result<Self, WrongFlag> {
        let mut flags = Self::default();
        for word in text.split(',').filter(|word| !word.is_empty()) {
            match Marks::NAMES.iter().find(|(name, _)| *name == word) {
                Some((_, mark)) => flags.marks.0 |= mark.0,
                None => flags.keywords.push(word.to_owned()),
            }
        }
        flags.keywords.sort_unstable();
        flags.keywords.dedup();
        flags.check().map(|()| flags)
    }
}

/// A row of a contents table: a message.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ContentsRow {
    /// `PR_ENTRYID`.
    pub entry: EntryId,
    /// The folder that the message is in (`PR_PARENT_ENTRYID`).
    pub folder: Folder,
    /// `PR_SUBJECT`.
    pub subject: String,
    /// `PR_SENDER_NAME`, with the address.
    pub from: String,
    /// `PR_DISPLAY_TO`.
    pub to: String,
    /// When it was written, as its field `Date` says, in milliseconds since 1970 (`PR_CLIENT_SUBMIT_TIME`); `None` if it has no
    /// such field.
    pub date: Option<u64>,
    /// `PR_MESSAGE_SIZE`, in bytes.
    pub size: u64,
    /// When it came into the store or its mailbox, in milliseconds since 1970 (`PR_MESSAGE_DELIVERY_TIME`).
    pub received: u64,
    /// Its flags (`PR_MESSAGE_FLAGS`).
    pub flags: Flags,
    /// Whether the store kept it for a program that ended without saving it.
    pub recovered: bool,
}

/// The order of a contents table (`SSortOrderSet`). Rows with the same key are in the order in which the store got them.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Sort {
    /// The column.
    pub by: Column,
    /// Which end is first.
    pub direction: Direction,
}

impl Sort {
    /// Newest first, by the time of arrival.
    pub const NEWEST: Self = Self { by: Column::Received, direction: Direction::Descending };
}

/// A column by which a contents table is sorted.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Column {
    /// The time of arrival. An index makes it fast in a mailbox of any size; the other columns cost a look at all rows of the folder
    /// for each page.
    #[default]
    Received,
    /// The field `Date`; the time of arrival of a message without one.
    Date,
    /// The sender, without regard to upper and lower case of ASCII letters.
    From,
    /// The subject, likewise.
    Subject,
    /// The size.
    Size,
}

impl Column {
    /// All columns, by their names.
    pub const ALL: [Self; 5] = [Self::Received, Self::Date, Self::From, Self::Subject, Self::Size];

    /// The name on the command line.
    pub fn name(self) -> &'static str {
        match self {
            Self::Received => "received",
            Self::Date => "date",
            Self::From => "from",
            Self::Subject => "subject",
            Self::Size => "size",
        }
    }
}

/// A direction of sorting.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Direction {
    /// The least first (`TABLE_SORT_ASCEND`).
    #[default]
    Ascending,
    /// The greatest first (`TABLE_SORT_DESCEND`).
    Descending,
}

/// Which rows of a contents table are wanted (`IMAPITable::Restrict`); the default is all.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Filter {
    /// Marks that a message must have.
    pub with: Marks,
    /// Marks that it must not have.
    pub without: Marks,
}

impl Filter {
    /// Messages that nobody has read.
    pub const UNREAD: Self = Self { with: Marks(0), without: Marks::READ };
}

/// The place behind a row of a contents table, as the last reply gave it. A client returns it unchanged. It stays valid when rows come
/// and go: a bookmark is a key and not a count.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Bookmark {
    /// The row's key.
    pub key: Key,
    /// The row's place in the order of the store.
    pub order: u64,
}

/// A key of a contents table.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Key {
    /// A time or a size.
    Number(u64),
    /// The beginning of a text.
    Text(String),
}

/// The most bytes of a text that count for its place in a sorted table.
pub const MAX_KEY: usize = 256;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn folders_have_words_of_their_own() {
        for folder in Folder::BUILT_IN.into_iter().chain([16, 17, u32::MAX].map(Folder)) {
            assert_eq!(folder.to_string().parse(), Ok(folder));
        }
        for wrong in ["", "f", "f4", "f+17", "17", "f-1", "Inbox", "f99999999999"] {
            let error = wrong.parse::<Folder>().expect_err(wrong);
            assert!(error.to_string().starts_with(&format!("{wrong:?} is no folder")), "{error}");
        }
    }

    #[test]
    fn roles_have_words_of_their_own() {
        assert_eq!(crate::words::of(&Role::ALL), Role::ALL.map(Role::name));
        let built_in: Vec<_> = Role::ALL.into_iter().filter_map(Role::built_in).collect();
        assert_eq!(built_in, Folder::BUILT_IN);
    }

    #[test]
    fn columns_have_words_of_their_own() {
        assert_eq!(crate::words::of(&Column::ALL), Column::ALL.map(Column::name));
    }

    #[test]
    fn flags_change_and_keep_their_order() {
        let flags: Flags = "read,zebra,apple,apple".parse().expect("flags");
        assert_eq!(flags.keywords, ["apple", "zebra"]);
        let changed = flags.changed(
            &"flagged,mango".parse().expect("flags"),
            &"read,zebra".parse().expect("flags"),
        );
        assert_eq!(changed.names().collect::<Vec<_>>(), ["flagged", "apple", "mango"]);
        let read: Flags = "read".parse().expect("a flag");
        assert_eq!(read.changed(&read, &Flags::default()), read, "a flag that is set stays");
        assert!("".parse::<Flags>().expect("none").is_empty());
        assert!(!read.is_empty() && !"zebra".parse::<Flags>().expect("a keyword").is_empty());
        let (read, both) = (Marks::READ, Marks(Marks::READ.0 | Marks::FLAGGED.0));
        assert!(both.contains(read) && both.contains(both) && read.contains(Marks::default()));
        assert!(!read.contains(both) && !read.contains(Marks::FLAGGED));
        let all: u16 = Marks::NAMES.iter().map(|(_, mark)| mark.0).sum();
        assert_eq!(all, Marks::KNOWN);
    }

    #[test]
    fn what_cannot_be_a_flag_is_refused() {
        let most: Vec<_> = (0..MAX_KEYWORDS).map(|n| format!("k{n}")).collect();
        assert!(most.join(",").parse::<Flags>().is_ok());
        for wrong in ["two words", "über", "(", "Read", "READ", &"x".repeat(65)] {
            assert!(wrong.parse::<Flags>().is_err(), "{wrong}");
        }
        let many: Vec<_> = (0..=MAX_KEYWORDS).map(|n| format!("k{n}")).collect();
        assert!(many.join(",").parse::<Flags>().is_err());
        let unknown = Flags { marks: Marks(64), keywords: Vec::new() };
        assert!(unknown.check().is_err());
    }
}
