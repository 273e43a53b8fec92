//! The folders of a Maildir: its root, and directories below it whose names begin with a dot (Maildir++).
//!
//! Everything is opened relative to the root's directory, which stays open, and no symbolic link below the root is followed: neither a
//! folder nor its `new`, `cur` or `tmp` can lead out of the Maildir. A link in the place of one of them is passed over and said once. The
//! path of the root itself may be a link. A folder that another user owns is used as far as the kernel lets us.
//!
//! A folder is known by its directory's name, which keeps its bytes. The name that people see is made of it: modified UTF-7, or else
//! UTF-8, or else bytes with escapes.

use std::collections::{HashMap, HashSet};
use std::ffi::OsStr;
use std::fmt;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, FileType, Mode, OFlags, fsync, mkdirat, openat, statat};
use rustix::io::Errno;

use super::names::{self, Shown};
use crate::files::{FileId, is_absent};
use crate::mailbox::{Standing, utf7};

/// The most folders of one Maildir that are used.
pub(super) const MAX_FOLDERS: usize = 1 << 16;

/// Separates the parts of a folder's name in its directory's name.
const SEPARATOR: u8 = b'.';

/// The modes of directories that are made.
const PRIVATE: Mode = Mode::RWXU;

const OPEN_DIR: OFlags =
    OFlags::RDONLY.union(OFlags::DIRECTORY).union(OFlags::NOFOLLOW).union(OFlags::CLOEXEC);

/// One of the three directories that a folder consists of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) enum Sub {
    /// Messages that no program has looked at yet.
    New,
    /// The other messages.
    Cur,
    /// Messages that are being written.
    Tmp,
}

impl Sub {
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::New => "new",
            Self::Cur => "cur",
            Self::Tmp => "tmp",
        }
    }
}

/// The name of a folder's directory; empty for the root, which is the Inbox.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Default)]
pub(super) struct Dir(Vec<u8>);

impl Dir {
    pub(super) const ROOT: Self = Self(Vec::new());

    /// The folder with a directory's name, if folders have such names: one dot in front, and not two, with which other programs name
    /// what they remove.
    pub(super) fn of(name: &[u8]) -> Option<Self> {
        let rest = name.strip_prefix(&[SEPARATOR])?;
        let is_one = !rest.is_empty() && rest[0] != SEPARATOR;
        (is_one && name.len() <= 255 && !name.iter().any(|b| matches!(b, b'/' | 0)))
            .then(|| Self(name.to_owned()))
    }

    /// The folder that [`text`](Self::text) names.
    pub(super) fn parse(text: &str) -> Option<Self> {
        if text.is_empty() { Some(Self::ROOT) } else { Self::of(&names::unescape(text)?) }
    }

    /// Its name as text, from which it can be parsed.
    pub(super) fn text(&self) -> String {
        names::escape(&self.0)
    }

    pub(super) fn bytes(&self) -> &[u8] {
        &self.0
    }

    pub(super) fn is_root(&self) -> bool {
        self.0.is_empty()
    }

    /// The directory's name for these parts, which need not exist.
    pub(super) fn named(parts: &[impl AsRef<str>]) -> Result<Self, BadName> {
        if parts.iter().any(|part| part.as_ref().is_empty()) || parts.is_empty() {
            return Err(BadName::Empty);
        }
        let name: String =
            parts.iter().map(|part| format!(".{}", utf7::encode(part.as_ref()))).collect();
        Self::of(name.as_bytes()).ok_or(BadName::Long)
    }

    /// The directory's name for a folder in another one, or at the top. It need not exist.
    pub(super) fn inside(parent: Option<&Self>, name: &str) -> Result<Self, BadName> {
        let own = Self::named(&[name])?;
        let above = parent.map(Self::bytes).unwrap_or_default();
        Self::of(&[above, own.bytes()].concat()).ok_or(BadName::Long)
    }

    /// The parts that people see. A name with an empty part is one part as it stands.
    pub(super) fn parts(&self) -> Vec<String> {
        let Some(name) = self.0.strip_prefix(&[SEPARATOR]) else { return Vec::new() };
        if name.split(|byte| *byte == SEPARATOR).any(<[u8]>::is_empty) {
            return vec![names::escape_invalid(name)];
        }
        let shown = |part: &[u8]| utf7::decode(part).unwrap_or_else(|| names::escape_invalid(part));
        name.split(|byte| *byte == SEPARATOR).map(shown).collect()
    }

    /// The directories' names of the folders that this one is in, the outermost first. None of them need exist.
    pub(super) fn above(&self) -> Vec<Self> {
        if self.parts().len() < 2 {
            return Vec::new();
        }
        let dots = (1..self.0.len()).filter(|at| self.0[*at] == SEPARATOR);
        dots.map(|at| Self(self.0[..at].to_owned())).collect()
    }

    /// The role that its name says.
    pub(super) fn role(&self) -> Option<Role> {
        roles(std::slice::from_ref(self), &[self.parts()]).remove(self)
    }

    /// Whether a folder is below this one, which is not the root.
    pub(super) fn is_above(&self, other: &Self) -> bool {
        !self.is_root()
            && other.0.strip_prefix(&*self.0).is_some_and(|rest| rest.first() == Some(&SEPARATOR))
    }

    /// The same folder below another one, if it is below this one.
    pub(super) fn moved(&self, from: &Self, to: &Self) -> Option<Self> {
        Self::of(&[&to.0, self.0.strip_prefix(&*from.0)?].concat())
    }
}

impl fmt::Display for Dir {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.is_root() { f.write_str("the Inbox") } else { Shown(&self.0).fmt(f) }
    }
}

/// Why a folder cannot have a name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum BadName {
    /// It or one of its parts is empty.
    Empty,
    /// The directory's name would be longer than the 255 bytes that file systems allow.
    Long,
}

impl fmt::Display for BadName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Empty => "a folder's name and its parts cannot be empty",
            Self::Long => "the folder's name is too long for a directory; choose a shorter one",
        })
    }
}

/// What a folder is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) enum Role {
    Inbox,
    Sent,
    Drafts,
    Deleted,
    Junk,
    Archive,
    All,
}

/// The names of folders with roles, in the order in which they get them.
const ROLES: [(&str, Role); 12] = [
    ("sent", Role::Sent),
    ("sent items", Role::Sent),
    ("sent messages", Role::Sent),
    ("drafts", Role::Drafts),
    ("trash", Role::Deleted),
    ("deleted items", Role::Deleted),
    ("deleted messages", Role::Deleted),
    ("junk", Role::Junk),
    ("spam", Role::Junk),
    ("archive", Role::Archive),
    ("archives", Role::Archive),
    ("all mail", Role::All),
];

/// A folder that was found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Found {
    pub(super) dir: Dir,
    /// The names of the folders above it and its own; no other folder has the same. Empty for the Inbox.
    pub(super) parts: Vec<String>,
    /// No other folder has the same.
    pub(super) role: Option<Role>,
}

/// The folders of a Maildir, in the order of their directories' names; the Inbox first.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Folders {
    pub(super) found: Vec<Found>,
    /// Names of symbolic links where folders would be: they are not followed.
    pub(super) links: Vec<Dir>,
    /// How many folders there are beyond [`MAX_FOLDERS`].
    pub(super) beyond: usize,
}

impl Folders {
    /// The folder that people see under this name.
    pub(super) fn named(&self, parts: &[impl AsRef<str>]) -> Option<&Found> {
        let is = |found: &&Found| {
            found.parts.iter().map(String::as_str).eq(parts.iter().map(AsRef::as_ref))
        };
        self.found.iter().find(|found| !found.dir.is_root() && is(found))
    }

    fn of(mut dirs: Vec<Dir>, mut links: Vec<Dir>) -> Self {
        dirs.sort_unstable();
        links.sort_unstable();
        links.truncate(MAX_FOLDERS);
        let beyond = dirs.len().saturating_sub(MAX_FOLDERS);
        dirs.truncate(MAX_FOLDERS);
        let parts = distinct(&dirs);
        let mut roles = roles(&dirs, &parts);
        let found = dirs.into_iter().zip(parts).map(|(dir, parts)| {
            let role = roles.remove(&dir);
            Found { dir, parts, role }
        });
        let inbox = Found { dir: Dir::ROOT, parts: Vec::new(), role: Some(Role::Inbox) };
        Self { found: std::iter::once(inbox).chain(found).collect(), links, beyond }
    }
}

/// What people see of each folder. Different directories can say the same, for example in modified UTF-7 and in UTF-8: the one that
/// Sundown itself would make keeps the name, the others get numbers.
fn distinct(dirs: &[Dir]) -> Vec<Vec<String>> {
    let mut shown: Vec<_> = dirs.iter().map(Dir::parts).collect();
    let is_made = |n: usize| Dir::named(&shown[n]).as_ref() == Ok(&dirs[n]);
    let (made, others): (Vec<_>, Vec<_>) = (0..dirs.len()).partition(|n| is_made(*n));
    let mut taken: HashSet<Vec<String>> = made.into_iter().map(|n| shown[n].clone()).collect();
    for n in others {
        let last = shown[n].last().cloned().unwrap_or_default();
        let mut number = 1;
        while !taken.insert(shown[n].clone()) {
            number += 1;
            if let Some(own) = shown[n].last_mut() {
                *own = format!("{last} ({number})");
            }
        }
    }
    shown
}

/// The folders with roles, by their names without regard to case. Of several, the one whose name comes first in [`ROLES`] has the role,
/// and of those the one whose directory's name is first.
fn roles(dirs: &[Dir], shown: &[Vec<String>]) -> HashMap<Dir, Role> {
    let mut best: HashMap<Role, (usize, usize)> = HashMap::new();
    for (n, parts) in shown.iter().enumerate() {
        let name = match parts.as_slice() {
            [name] => name,
            [inbox, name] if inbox.eq_ignore_ascii_case("inbox") => name,
            _ => continue,
        };
        let Some(rank) = ROLES.iter().position(|(known, _)| name.eq_ignore_ascii_case(known))
        else {
            continue;
        };
        // Names below `INBOX` come last.
        let rank = rank + ROLES.len() * (parts.len() - 1);
        let found = best.entry(ROLES[rank % ROLES.len()].1).or_insert((rank, n));
        *found = (*found).min((rank, n));
    }
    best.into_iter().map(|(role, (_, n))| (dirs[n].clone(), role)).collect()
}

/// The root of a Maildir, kept open.
#[derive(Debug)]
pub(super) struct Root {
    path: PathBuf,
    dir: OwnedFd,
    id: FileId,
}

impl Root {
    /// Opens the directory at a path.
    pub(super) fn open(path: &Path) -> io::Result<Self> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let dir = rustix::fs::open(path, flags, Mode::empty())?;
        let id = FileId::of(&dir)?;
        Ok(Self { path: path.to_owned(), dir, id })
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    pub(super) fn fd(&self) -> BorrowedFd<'_> {
        self.dir.as_fd()
    }

    /// Whether it has a directory for messages.
    pub(super) fn is_maildir(&self) -> io::Result<bool> {
        self.is_folder(&Dir::ROOT)
    }

    /// The path of a folder's directory.
    pub(super) fn path_of(&self, dir: &Dir) -> PathBuf {
        self.path.join(OsStr::from_bytes(dir.bytes()))
    }

    /// Whether the directory is still at its path. If it is not, what is missing in it says nothing of its messages.
    pub(super) fn standing(&self) -> Standing {
        match FileId::at(&self.path) {
            Ok(found) if found == self.id => Standing::There,
            Ok(_) => Standing::Replaced,
            Err(error) if is_absent(&error) => Standing::Removed,
            Err(_) => Standing::There,
        }
    }

    /// Opens a folder.
    pub(super) fn folder(&self, dir: &Dir) -> io::Result<Folder> {
        let name = if dir.is_root() { &b"."[..] } else { dir.bytes() };
        let opened = openat(&self.dir, name, OPEN_DIR, Mode::empty())?;
        Ok(Folder { path: self.path_of(dir), dir: opened })
    }

    /// Lists the folders. A directory is a folder if it has `cur` or `new`.
    pub(super) fn folders(&self) -> io::Result<Folders> {
        let (mut dirs, mut links) = (Vec::new(), Vec::new());
        for entry in rustix::fs::Dir::read_from(&self.dir)? {
            let entry = entry?;
            let Some(dir) = Dir::of(entry.file_name().to_bytes()) else { continue };
            match kind_at(self.fd(), dir.bytes(), entry.file_type())? {
                Some(FileType::Directory) if self.is_folder(&dir)? => dirs.push(dir),
                Some(FileType::Symlink) => links.push(dir),
                _ => {}
            }
        }
        Ok(Folders::of(dirs, links))
    }

    fn is_folder(&self, dir: &Dir) -> io::Result<bool> {
        for sub in [Sub::Cur, Sub::New] {
            let above = if dir.is_root() { b"." } else { dir.bytes() };
            let name = [above, b"/", sub.name().as_bytes()].concat();
            match kind_at(self.fd(), &name, FileType::Unknown) {
                Ok(Some(FileType::Directory)) => return Ok(true),
                // What cannot be looked into is a folder that cannot be read. It has not vanished.
                Err(error) if error.kind() == io::ErrorKind::PermissionDenied => return Ok(true),
                Ok(_) => {}
                Err(error) => return Err(error),
            }
        }
        Ok(false)
    }
}

/// The type of what is under a name; nothing if nothing is. It is looked up if the listing did not say it.
pub(super) fn kind_at(
    dir: BorrowedFd<'_>,
    name: &[u8],
    listed: FileType,
) -> io::Result<Option<FileType>> {
    if listed != FileType::Unknown {
        return Ok(Some(listed));
    }
    match statat(dir, name, AtFlags::SYMLINK_NOFOLLOW) {
        Ok(found) => Ok(Some(FileType::from_raw_mode(found.st_mode))),
        Err(Errno::NOENT | Errno::NOTDIR) => Ok(None),
        Err(error) => Err(error.into()),
    }
}

/// A folder, kept open.
#[derive(Debug)]
pub(super) struct Folder {
    path: PathBuf,
    dir: OwnedFd,
}

impl Folder {
    pub(super) fn fd(&self) -> BorrowedFd<'_> {
        self.dir.as_fd()
    }

    /// The path of a file in it.
    pub(super) fn path_of(&self, sub: Sub, name: &[u8]) -> PathBuf {
        self.path.join(sub.name()).join(OsStr::from_bytes(name))
    }

    /// Opens one of its directories; nothing if it is missing.
    pub(super) fn sub(&self, sub: Sub) -> io::Result<Option<OwnedFd>> {
        match openat(&self.dir, sub.name(), OPEN_DIR, Mode::empty()) {
            Ok(opened) => Ok(Some(opened)),
            Err(Errno::NOENT) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    /// Opens one of its directories, and makes it if it is missing.
    pub(super) fn sub_made(&self, sub: Sub) -> io::Result<OwnedFd> {
        if let Some(opened) = self.sub(sub)? {
            return Ok(opened);
        }
        match mkdirat(&self.dir, sub.name(), PRIVATE) {
            Ok(()) => fsync(&self.dir)?,
            Err(Errno::EXIST) => {}
            Err(error) => return Err(error.into()),
        }
        self.sub(sub)?.ok_or_else(|| io::ErrorKind::NotFound.into())
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::symlink;

    use proptest::prelude::*;
    use tempfile::TempDir;

    use super::*;

    fn dir(name: &str) -> Dir {
        Dir::of(name.as_bytes()).expect("a folder's name")
    }

    fn shown(dirs: &[&str]) -> Vec<(String, String)> {
        let folders = Folders::of(dirs.iter().map(|name| dir(name)).collect(), Vec::new());
        let found = folders.found.into_iter().skip(1);
        found.map(|found| (found.dir.to_string(), found.parts.join("|"))).collect()
    }

    fn roles_of(dirs: &[&str]) -> Vec<(String, Role)> {
        let folders = Folders::of(dirs.iter().map(|name| dir(name)).collect(), Vec::new());
        let found = folders.found.into_iter().skip(1);
        found.filter_map(|found| Some((found.dir.to_string(), found.role?))).collect()
    }

    #[test]
    fn directories_are_named_after_parts() {
        let named = |parts: &[&str]| Dir::named(parts).map(|dir| dir.to_string());
        assert_eq!(named(&["Lists", "Rust"]).as_deref(), Ok(".Lists.Rust"));
        assert_eq!(named(&["v1.2", "a/b", ".."]).as_deref(), Ok(".v1&AC4-2.a&AC8-b.&AC4ALg-"));
        assert_eq!(named(&["a", ""]), Err(BadName::Empty));
        assert_eq!(named(&[]), Err(BadName::Empty));
        assert_eq!(named(&[&"x".repeat(254)]).map(|name| name.len()), Ok(255));
        assert_eq!(named(&[&"x".repeat(255)]), Err(BadName::Long));
        for name in ["", ".", "..", "...", "..x", "cur", "./x", ".a/b", ".a\0"] {
            assert_eq!(Dir::of(name.as_bytes()), None, "{name}");
        }
    }

    #[test]
    fn a_name_that_is_not_modified_utf_7_is_shown_as_it_is() {
        let parts = |name: &[u8]| Dir::of(name).expect("a folder's name").parts();
        assert_eq!(parts(b".Entw&APw-rfe.R&-D"), ["Entwürfe", "R&D"]);
        assert_eq!(parts(".Entwürfe".as_bytes()), ["Entwürfe"]);
        assert_eq!(parts(b".R&D.100%"), ["R&D", "100%"]);
        assert_eq!(parts(b".Entw\xfcrfe"), ["Entw%FCrfe"]);
        assert_eq!(parts(b".a..b"), ["a..b"]);
        assert_eq!(parts(b".a."), ["a."]);
        assert_eq!(parts(b".&AAo-\n"), ["&AAo-%0A"]);
        for name in [&b".Entw\xfcrfe"[..], b".R&D", b".a..b", b".100%"] {
            let dir = Dir::of(name).expect("a folder's name");
            assert_eq!(Dir::parse(&dir.text()), Some(dir));
        }
        assert_eq!(Dir::parse(""), Some(Dir::ROOT));
        assert_eq!(Dir::parse("cur"), None);
    }

    /// The directory that would be made for a name has it, the others have numbers.
    #[test]
    fn no_two_folders_are_shown_alike() {
        let pair = |dir: &str, shown: &str| (dir.to_owned(), shown.to_owned());
        assert_eq!(
            shown(&[".R&D", ".R&-D", ".R&AC0ARA-", ".R&ACY-D"]),
            [
                pair(".R&-D", "R&D"),
                pair(".R&AC0ARA-", "R-D"),
                pair(".R&ACY-D", "R&D (2)"),
                pair(".R&D", "R&D (3)")
            ]
        );
        assert_eq!(
            shown(&[".M&APw-.x", ".Mü.x", ".M&APw- (2)"]),
            [pair(".M&APw- (2)", "Mü (2)"), pair(".M&APw-.x", "Mü|x"), pair(".Mü.x", "Mü|x (2)")]
        );
    }

    #[test]
    fn names_give_roles() {
        let role = |dir: &str, role: Role| (dir.to_owned(), role);
        assert_eq!(
            roles_of(&[
                ".sent",
                ".DRAFTS",
                ".Deleted Items",
                ".Spam",
                ".Archives",
                ".All Mail",
                ".x"
            ]),
            [
                role(".All Mail", Role::All),
                role(".Archives", Role::Archive),
                role(".DRAFTS", Role::Drafts),
                role(".Deleted Items", Role::Deleted),
                role(".Spam", Role::Junk),
                role(".sent", Role::Sent),
            ]
        );
        // One of several, whichever is listed first.
        assert_eq!(roles_of(&[".Deleted Items", ".Trash"]), [role(".Trash", Role::Deleted)]);
        assert_eq!(roles_of(&[".SENT", ".Sent"]), [role(".SENT", Role::Sent)]);
        assert_eq!(roles_of(&[".INBOX.Sent", ".Lists.Sent"]), [role(".INBOX.Sent", Role::Sent)]);
        assert_eq!(roles_of(&[".INBOX.Sent", ".Sent Items"]), [role(".Sent Items", Role::Sent)]);
        assert_eq!(roles_of(&[".Sent.2024", ".a.INBOX.Sent"]), []);
    }

    #[test]
    fn folders_below_another_move_with_it() {
        assert!(dir(".a").is_above(&dir(".a.b.c")));
        assert!(!dir(".a").is_above(&dir(".ab")) && !dir(".a").is_above(&dir(".a")));
        assert!(!Dir::ROOT.is_above(&dir(".a")));
        assert_eq!(dir(".a.b").moved(&dir(".a"), &dir(".x.y")), Some(dir(".x.y.b")));
        assert_eq!(dir(".a").moved(&dir(".a"), &dir(".x")), Some(dir(".x")));
        assert_eq!(dir(".b").moved(&dir(".a"), &dir(".x")), None);
    }

    fn made(path: &Path) {
        for sub in ["new", "cur", "tmp"] {
            fs::create_dir_all(path.join(sub)).expect("made");
        }
    }

    /// Folders are directories with messages; everything else in a Maildir is none, and no link is followed.
    #[test]
    fn a_maildir_lists_its_folders() {
        let home = TempDir::new().expect("a directory");
        let outside = home.path().join("outside");
        made(&outside);
        let path = home.path().join("Maildir");
        for name in ["", ".Sent", ".Lists.Rust", "..DOVECOT-TRASHED", "plain"] {
            made(&path.join(name));
        }
        fs::create_dir_all(path.join(".only-new/new")).expect("made");
        fs::create_dir(path.join(".notes")).expect("made");
        fs::create_dir_all(path.join(".linked-cur")).expect("made");
        symlink(outside.join("cur"), path.join(".linked-cur/cur")).expect("a link");
        fs::write(path.join(".customflags"), "x").expect("written");
        fs::write(path.join("subscriptions"), "Sent\n").expect("written");
        symlink(&outside, path.join(".Outside")).expect("a link");
        let root = Root::open(&path).expect("opened");
        let folders = root.folders().expect("listed");
        let names: Vec<_> = folders.found.iter().map(|found| found.dir.text()).collect();
        assert_eq!(names, ["", ".Lists.Rust", ".Sent", ".only-new"]);
        assert_eq!(folders.links, [dir(".Outside")]);
        assert_eq!(folders.beyond, 0);
        assert_eq!(folders.named(&["Lists", "Rust"]).map(|f| &f.dir), Some(&dir(".Lists.Rust")));
        assert_eq!(folders.named(&["Outside"]), None);
        let none: [&str; 0] = [];
        assert_eq!(folders.named(&none), None);
        root.folder(&dir(".Outside")).expect_err("a link is not followed");
        let linked = root.folder(&dir(".linked-cur")).expect("opened");
        linked.sub(Sub::Cur).expect_err("a link is not followed");
        linked.sub_made(Sub::Cur).expect_err("a link is not followed");
        linked.sub_made(Sub::Tmp).expect("made");
        assert!(path.join(".linked-cur/tmp").is_dir());
    }

    #[test]
    fn there_are_not_more_folders_than_are_allowed() {
        let dirs = (0..MAX_FOLDERS + 3).map(|n| dir(&format!(".{n:06}"))).collect();
        let folders = Folders::of(dirs, Vec::new());
        assert_eq!((folders.found.len(), folders.beyond), (MAX_FOLDERS + 1, 3));
    }

    #[test]
    fn a_root_that_goes_away_is_noticed() {
        let home = TempDir::new().expect("a directory");
        let (path, old) = (home.path().join("Maildir"), home.path().join("old"));
        made(&path);
        let root = Root::open(&path).expect("opened");
        assert_eq!(root.standing(), Standing::There);
        fs::rename(&path, &old).expect("renamed");
        assert_eq!(root.standing(), Standing::Removed);
        made(&path);
        assert_eq!(root.standing(), Standing::Replaced);
        fs::remove_dir_all(&path).expect("removed");
        symlink(&old, &path).expect("a link");
        assert_eq!(root.standing(), Standing::There);
        assert_eq!(Root::open(&path).expect("the path may be a link").standing(), Standing::There);
    }

    proptest! {
        /// The directory that is made for a name shows that name.
        #[test]
        fn names_come_back(parts in prop::collection::vec("\\PC{1,12}", 1..4)) {
            let dir = Dir::named(&parts).expect("short enough");
            prop_assert_eq!(dir.parts(), parts);
            prop_assert_eq!(Dir::parse(&dir.text()), Some(dir));
        }

        /// Every directory has a name to be shown, and no two have the same.
        #[test]
        fn every_directory_can_be_shown(dirs in prop::collection::hash_set(
            prop::collection::vec(prop::sample::select(&b".&-AC4x\xc3\xbc\n (2)"[..]), 1..8), 1..12)) {
            let dirs: Vec<_> = dirs.iter().filter_map(|name| Dir::of(&[b".", &name[..]].concat())).collect();
            let count = dirs.len();
            let folders = Folders::of(dirs, Vec::new());
            let shown: HashSet<_> = folders.found.iter().map(|found| &found.parts).collect();
            prop_assert_eq!(shown.len(), count + 1);
            for found in &folders.found {
                prop_assert!(!found.parts.iter().any(|part| part.is_empty() || part.contains(char::is_control)));
                prop_assert_eq!(Dir::parse(&found.dir.text()), Some(found.dir.clone()));
                prop_assert!(found.dir.is_root() || folders.named(&found.parts) == Some(found));
            }
        }
    }
}
