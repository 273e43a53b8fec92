//! What folders and messages of a server are called in the store.
//!
//! A directory is called by the parts of its name: `/INBOX.Work%2E1` is the folder *Work.1* in the Inbox, whatever separates the parts at
//! the server. A message is called by the validity of its number and the number, each with ten digits, so that names are in the order of
//! the numbers.

use sundown_core::provider::Spot;
use sundown_protocol::folder::{MAX_FOLDER_NAME, Role};

use super::{List, Namespace};
use crate::mailbox::utf7;

/// The name of the Inbox, in any case.
const INBOX: &str = "INBOX";

/// A folder of an account.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Name {
    /// Its name at the server, as it came.
    pub(super) wire: Vec<u8>,
    /// The parts of its name.
    pub(super) parts: Vec<String>,
}

impl Name {
    /// The name of a listed folder.
    pub(super) fn of(list: &List<'_>) -> Self {
        Self::divided(list.name.to_vec(), list.delimiter)
    }

    /// The folder that all of one's own are in: `INBOX` of the prefix `INBOX.`. None if there is none.
    pub(super) fn above(own: &Namespace<'_>) -> Option<Self> {
        let wire = own.prefix.strip_suffix(&[own.delimiter?])?;
        (!wire.is_empty()).then(|| Self::divided(wire.to_vec(), own.delimiter))
    }

    pub(super) fn divided(wire: Vec<u8>, delimiter: Option<u8>) -> Self {
        let mut parts: Vec<_> = match delimiter {
            Some(delimiter) => wire.split(|byte| *byte == delimiter).map(shown).collect(),
            None => vec![shown(&wire)],
        };
        if let Some(first) = parts.first_mut().filter(|part| part.eq_ignore_ascii_case(INBOX)) {
            INBOX.clone_into(first);
        }
        Self { wire, parts }
    }

    /// The name of a folder that is made: in another one, or at the top.
    pub(super) fn inside(parent: Option<&Self>, name: &str, delimiter: Option<u8>) -> Self {
        let mut wire = Vec::new();
        let mut parts = Vec::new();
        if let (Some(parent), Some(delimiter)) = (parent, delimiter) {
            wire.extend_from_slice(&parent.wire);
            wire.push(delimiter);
            parts.clone_from(&parent.parts);
        }
        // No server has a part with what separates parts in it.
        let separates = |c: char| c.is_control() || delimiter.is_some_and(|by| c == char::from(by));
        let name = name.replace(separates, "_");
        wire.extend_from_slice(utf7::encode_word(&name).as_bytes());
        parts.push(name);
        Self { wire, parts }
    }

    /// What the store calls it.
    pub(super) fn dir(&self) -> String {
        dir(&self.parts)
    }

    /// What the store calls the folder that it is in.
    pub(super) fn parent(&self) -> Option<String> {
        let (_, above) = self.parts.split_last()?;
        (!above.is_empty()).then(|| dir(above))
    }

    /// Its name for people.
    pub(super) fn shown(&self) -> String {
        self.parts.join("/")
    }

    /// What its folder is called.
    pub(super) fn own(&self) -> String {
        if self.is_inbox() {
            return "Inbox".to_owned();
        }
        shortened(self.parts.last().map_or("", String::as_str), MAX_FOLDER_NAME)
    }

    pub(super) fn is_inbox(&self) -> bool {
        self.parts == [INBOX]
    }

    /// What a folder with this name is for, where the server does not say.
    pub(super) fn usual_role(&self) -> Option<Role> {
        let name = match &self.parts[..] {
            [name] => name,
            [first, name] if first == INBOX => name,
            _ => return None,
        };
        Some(match name.to_lowercase().as_str() {
            "sent" | "sent items" | "sent messages" | "sent mail" => Role::Sent,
            "drafts" => Role::Drafts,
            "trash" | "deleted items" | "deleted messages" | "deleted" => Role::Deleted,
            "junk" | "spam" | "junk e-mail" | "bulk mail" => Role::Junk,
            "archive" | "archives" => Role::Archive,
            _ => return None,
        })
    }
}

/// What a server says that a folder is for (RFC 6154).
pub(super) fn role_of(list: &List<'_>) -> Option<Role> {
    list.attributes.iter().find_map(|attribute| {
        Some(match attribute.to_ascii_lowercase().as_slice() {
            b"\\sent" => Role::Sent,
            b"\\drafts" => Role::Drafts,
            b"\\trash" => Role::Deleted,
            b"\\junk" => Role::Junk,
            b"\\archive" => Role::Archive,
            b"\\all" => Role::All,
            _ => return None,
        })
    })
}

/// Whether a folder has no messages of its own.
pub(super) fn is_only_a_name(list: &List<'_>) -> bool {
    let has = |wanted: &[u8]| list.attributes.iter().any(|one| one.eq_ignore_ascii_case(wanted));
    has(b"\\Noselect") || has(b"\\NonExistent")
}

fn shown(part: &[u8]) -> String {
    // Two names that say the same are to be two directories: only the usual ways to write a name are read.
    let is_usual = |shown: &String| {
        [utf7::encode_word(shown), utf7::encode(shown)].iter().any(|way| way.as_bytes() == part)
    };
    let shown = utf7::decode(part).filter(is_usual);
    shown.unwrap_or_else(|| String::from_utf8_lossy(part).into_owned())
}

fn dir(parts: &[String]) -> String {
    let escaped = parts.iter().map(|part| part.replace('%', "%25").replace('.', "%2E"));
    format!("/{}", escaped.collect::<Vec<_>>().join("."))
}

/// The parts of a directory's name.
#[cfg(test)]
fn parts(dir: &str) -> Option<Vec<String>> {
    let parts = dir.strip_prefix('/')?.split('.');
    Some(parts.map(|part| part.replace("%2E", ".").replace("%25", "%")).collect())
}

fn shortened(text: &str, most: usize) -> String {
    let mut end = text.len().min(most);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    text[..end].to_owned()
}

/// What the store calls a message.
pub(super) fn message(validity: u32, uid: u32) -> String {
    format!("{validity:010}.{uid:010}")
}

/// Where a message is.
pub(super) fn spot(dir: &str, validity: u32, uid: u32) -> Spot {
    Spot { dir: dir.to_owned(), name: message(validity, uid) }
}

/// The validity and the number of a message that the store calls so.
pub(super) fn number(name: &str) -> Option<(u32, u32)> {
    let (validity, uid) = name.split_once('.')?;
    Some((validity.parse().ok()?, uid.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use std::borrow::Cow;

    use proptest::prelude::*;

    use super::*;

    fn listed(name: &str, delimiter: Option<u8>) -> Name {
        let name = Cow::Borrowed(name.as_bytes());
        Name::of(&List { attributes: Vec::new(), delimiter, name })
    }

    #[test]
    fn names_have_parts() {
        let name = listed("inbox/Work.1/&AOk-t&AOk-", Some(b'/'));
        assert_eq!(name.parts, ["INBOX", "Work.1", "été"]);
        assert_eq!(name.dir(), "/INBOX.Work%2E1.été");
        assert_eq!(name.parent().as_deref(), Some("/INBOX.Work%2E1"));
        assert_eq!((name.shown().as_str(), name.own().as_str()), ("INBOX/Work.1/été", "été"));
        assert!(listed("Inbox", None).is_inbox() && listed("INBOX", Some(b'.')).parent().is_none());
        assert_eq!(listed("tmp", Some(b'.')).dir(), "/tmp");
        assert_eq!(listed("&&&", Some(b'.')).parts, ["&&&"]);
        // "abc" in base64, and a lone é in two pieces: another name than the usual one.
        for odd in ["&AGEAYgBj-", "&AOk-&AOk-", "&AOk"] {
            assert_eq!(listed(odd, Some(b'.')).parts, [odd]);
        }
        let made = Name::inside(Some(&listed("A.b", Some(b'.'))), "c/d.e", Some(b'.'));
        assert_eq!((made.wire.as_slice(), made.dir().as_str()), (&b"A.b.c/d_e"[..], "/A.b.c/d_e"));
        assert_eq!(Name::inside(None, "é", None).wire, b"&AOk-");
    }

    #[test]
    fn folders_may_all_be_in_one() {
        let above = |prefix: &'static str, delimiter| {
            Name::above(&Namespace { prefix: prefix.as_bytes().into(), delimiter })
        };
        let inbox = above("INBOX.", Some(b'.')).expect("a folder");
        assert!(inbox.is_inbox());
        let made = Name::inside(Some(&inbox), "Work", Some(b'.'));
        assert_eq!(
            (made.wire.as_slice(), made.dir().as_str()),
            (&b"INBOX.Work"[..], "/INBOX.Work")
        );
        assert_eq!(above("mail/own/", Some(b'/')).map(|name| name.dir()), Some("/mail.own".into()));
        for none in
            [above("", Some(b'/')), above("/", Some(b'/')), above("~", Some(b'/')), above("", None)]
        {
            assert_eq!(none, None);
        }
    }

    #[test]
    fn roles_are_those_of_other_programs() {
        let role = |name| listed(name, Some(b'.')).usual_role();
        assert_eq!(role("Trash"), Some(Role::Deleted));
        assert_eq!(role("INBOX.Sent Items"), Some(Role::Sent));
        assert_eq!((role("Work.Sent"), role("INBOX")), (None, None));
    }

    #[test]
    fn messages_are_in_the_order_of_their_numbers() {
        let names = [message(9, 2), message(9, 10), message(10, 1), message(u32::MAX, u32::MAX)];
        assert!(names.is_sorted());
        for name in &names {
            let (validity, uid) = number(name).expect("a number");
            assert_eq!(message(validity, uid), *name);
        }
        assert_eq!((number("x"), number("1.x"), number("4294967296.1")), (None, None, None));
    }

    proptest! {
        #[test]
        fn a_directory_has_the_parts_of_its_name(all in prop::collection::vec("\\PC{1,8}", 1..5)) {
            prop_assert_eq!(parts(&dir(&all)), Some(all));
        }
    }
}
