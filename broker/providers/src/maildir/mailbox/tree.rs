//! Making, renaming and removing folders.
//!
//! Each step may be repeated after a crash. A folder is removed only if it is empty: it is first renamed to a name that no folder has, and
//! back if a message has arrived meanwhile. Besides messages, only what other programs can make again is removed with it.

use std::fmt;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::fs::{
    AtFlags, FileType, Mode, OFlags, RenameFlags, fsync, mkdirat, openat, renameat, renameat_with,
    statat, unlinkat,
};
use rustix::io::Errno;

use super::folders::{BadName, Dir, Folders, Root, Sub, kind_at};
use super::names::escape_invalid;
use super::{STALE, since_1970};

/// Begins the name of a folder that is being removed. No folder has such a name.
const REMOVED: &[u8] = b"..sundown-removed";

/// A file that says that a directory is a folder (Maildir++).
const MARK: &str = "maildirfolder";

/// A file that says that a folder is shown where others are not.
const SHOWN: &str = "sundown-shown";

/// The beginnings of the names of what other programs keep beside the messages of a folder, and can make again.
const KEPT_BESIDE: [&[u8]; 4] = [b"dovecot", b"courier", MARK.as_bytes(), SHOWN.as_bytes()];

/// How many names of a directory are looked at to say what is in it. What arrives behind them stops the removal later.
const LOOKED_AT: usize = 1 << 10;

/// The most folders that get one name back, with numbers.
const MAX_NUMBER: usize = 1000;

/// How deep directories of other programs are removed.
const DEEP: usize = 4;

/// Why a folder was not made, renamed or removed.
#[derive(Debug)]
pub(super) enum TreeError {
    Name(BadName),
    /// Another folder has the name.
    Exists(Dir),
    /// There is no such folder.
    Missing(Dir),
    /// It has messages, or something else that other programs keep there: the name of one.
    NotEmpty(Dir, String),
    /// The Inbox is neither renamed nor removed.
    Inbox,
    /// It would be moved below itself.
    BelowItself(Dir),
    Io(io::Error),
    /// A part of it is done, and the rest failed.
    Half(io::Error),
}

impl fmt::Display for TreeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Name(why) => why.fmt(f),
            Self::Exists(dir) => write!(f, "there is already a folder {dir}"),
            Self::Missing(dir) => write!(f, "there is no folder {dir}"),
            Self::NotEmpty(dir, what) => {
                write!(f, "the folder {dir} is not empty, it has {what}; empty it first")
            }
            Self::BelowItself(dir) => write!(f, "the folder {dir} cannot be moved below itself"),
            Self::Inbox => f.write_str("the Inbox can be neither renamed nor removed"),
            Self::Io(error) | Self::Half(error) => error.fmt(f),
        }
    }
}

impl From<io::Error> for TreeError {
    fn from(error: io::Error) -> Self {
        Self::Io(error)
    }
}

impl From<Errno> for TreeError {
    fn from(error: Errno) -> Self {
        Self::Io(error.into())
    }
}

type Result<T> = std::result::Result<T, TreeError>;

/// Makes a folder with this directory, unless it is there.
pub(super) fn make_at(root: &Root, dir: &Dir) -> Result<()> {
    match mkdirat(root.fd(), dir.bytes(), Mode::RWXU) {
        Ok(()) | Err(Errno::EXIST) => {}
        Err(error) => return Err(error.into()),
    }
    let folder = root.folder(dir)?;
    for sub in [Sub::Tmp, Sub::New] {
        folder.sub_made(sub)?;
    }
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    openat(folder.fd(), MARK, flags, Mode::RUSR | Mode::WUSR)?;
    folder.sub_made(Sub::Cur)?;
    fsync(folder.fd())?;
    Ok(fsync(root.fd())?)
}

/// Notes in a folder that it is shown where others are not.
pub(super) fn mark(root: &Root, dir: &Dir) -> Result<()> {
    let folder = root.folder(dir)?;
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    openat(folder.fd(), SHOWN, flags, Mode::RUSR | Mode::WUSR)?;
    Ok(fsync(folder.fd())?)
}

/// Whether that was noted.
pub(super) fn is_marked(root: &Root, dir: &Dir) -> bool {
    let Ok(folder) = root.folder(dir) else { return false };
    matches!(
        kind_at(folder.fd(), SHOWN.as_bytes(), FileType::Unknown),
        Ok(Some(FileType::RegularFile))
    )
}

/// Renames a folder and those below it. Its new directory. If an earlier try has done a part of it, the rest is done.
pub(super) fn rename(root: &Root, dir: &Dir, parts: &[impl AsRef<str>]) -> Result<Dir> {
    if dir.is_root() {
        return Err(TreeError::Inbox);
    }
    let to = Dir::named(parts).map_err(TreeError::Name)?;
    let folders = root.folders()?;
    let is_there = |dir: &Dir| folders.found.iter().any(|found| found.dir == *dir);
    if to == *dir && is_there(dir) {
        return Ok(to);
    }
    if dir.is_above(&to) {
        return Err(TreeError::BelowItself(dir.clone()));
    }
    let taken = folders.named(parts).map(|found| &found.dir).filter(|found| *found != dir);
    if is_there(dir)
        && let Some(taken) = taken
    {
        return Err(TreeError::Exists(taken.clone()));
    }
    let pairs = below(&folders, dir, &to)?;
    let is_done = || folders.found.iter().any(|found| found.dir == to || to.is_above(&found.dir));
    if pairs.is_empty() && !is_done() {
        return Err(TreeError::Missing(dir.clone()));
    }
    if let Some((_, taken)) = pairs.iter().find(|(_, to)| is_there(to)) {
        return Err(TreeError::Exists(taken.clone()));
    }
    let mut some = is_done();
    // The folder itself comes last: as long as it has its old name, a repeat knows that something is left to be done.
    for (from, to) in pairs.iter().rev() {
        match rename_directory(root, from.bytes(), to.bytes()) {
            Ok(()) | Err(Errno::NOENT) => some = true,
            Err(Errno::EXIST | Errno::NOTEMPTY) => return Err(TreeError::Exists(to.clone())),
            Err(error) if some => return Err(TreeError::Half(error.into())),
            Err(error) => return Err(error.into()),
        }
    }
    fsync(root.fd())?;
    Ok(to)
}

/// The directories that a rename concerns: the folder first, then those below it, each with its new name.
fn below(folders: &Folders, dir: &Dir, to: &Dir) -> Result<Vec<(Dir, Dir)>> {
    let concerned = folders.found.iter().map(|found| &found.dir);
    let concerned = concerned.filter(|found| *found == dir || dir.is_above(found));
    let pair = |found: &Dir| {
        let moved = found.moved(dir, to).ok_or(TreeError::Name(BadName::Long))?;
        Ok((found.clone(), moved))
    };
    concerned.map(pair).collect()
}

/// Removes a folder that has no messages. Whether it was there. Folders below it stay.
pub(super) fn remove(root: &Root, dir: &Dir) -> Result<bool> {
    if dir.is_root() {
        return Err(TreeError::Inbox);
    }
    match openat(root.fd(), dir.bytes(), DIRECTORY, Mode::empty()) {
        Ok(opened) => look_into(dir, &opened)?,
        Err(Errno::NOENT) => return finish_some(root, Some(dir)),
        Err(error) => return Err(error.into()),
    }
    let random = getrandom::u64().map_err(io::Error::from)?;
    let away = [REMOVED, format!("{random:016x}").as_bytes(), dir.bytes()].concat();
    match renameat(root.fd(), dir.bytes(), root.fd(), &*away) {
        Ok(()) => finish(root, dir, &away),
        Err(Errno::NOENT) => finish_some(root, Some(dir)),
        // The name with what is in front of it is longer than a file system allows.
        Err(Errno::NAMETOOLONG) => Err(TreeError::Name(BadName::Long)),
        Err(error) => Err(error.into()),
    }
}

/// Finishes removals that were cut off. What has messages gets its name back.
pub(super) fn finish_removals(root: &Root) -> Result<()> {
    finish_some(root, None).map(drop)
}

/// Finishes the removals of one folder, or of all. Whether there were some.
fn finish_some(root: &Root, which: Option<&Dir>) -> Result<bool> {
    let mut left = Vec::new();
    for (name, kind) in entries(root.fd())? {
        let behind = name.strip_prefix(REMOVED).and_then(|rest| rest.get(16..));
        if kind == FileType::Directory
            && let Some(dir) = behind.and_then(Dir::of)
            && which.is_none_or(|which| *which == dir)
        {
            left.push((dir, name));
        }
    }
    let mut removed = false;
    for (dir, away) in left {
        match finish(root, &dir, &away) {
            Ok(there) => removed |= there,
            // It is a folder again.
            Err(TreeError::NotEmpty(..)) if which.is_none() => {}
            Err(error) => return Err(error),
        }
    }
    Ok(removed)
}

const DIRECTORY: OFlags =
    OFlags::RDONLY.union(OFlags::DIRECTORY).union(OFlags::NOFOLLOW).union(OFlags::CLOEXEC);

/// Removes a folder that has lost its name. Whether it was there. If it has messages, it gets its name back.
fn finish(root: &Root, dir: &Dir, away: &[u8]) -> Result<bool> {
    let opened = match openat(root.fd(), away, DIRECTORY, Mode::empty()) {
        Ok(opened) => opened,
        Err(Errno::NOENT) => return Ok(false),
        Err(error) => return Err(error.into()),
    };
    let emptied = look_into(dir, &opened).and_then(|()| empty(dir, &opened));
    if let Err(error) = emptied {
        give_back(root, dir, away, &opened)?;
        return Err(error);
    }
    unlinkat(root.fd(), away, AtFlags::REMOVEDIR)?;
    fsync(root.fd())?;
    Ok(true)
}

/// Gives a folder its name back, or one with a number if another folder has it by now.
fn give_back(root: &Root, dir: &Dir, away: &[u8], opened: &OwnedFd) -> Result<()> {
    for sub in [Sub::Tmp, Sub::New, Sub::Cur] {
        match mkdirat(opened, sub.name(), Mode::RWXU) {
            Ok(()) | Err(Errno::EXIST) => {}
            Err(error) => return Err(error.into()),
        }
    }
    for number in 1..=MAX_NUMBER {
        let numbered = match number {
            1 => dir.bytes().to_owned(),
            _ => [dir.bytes(), format!(" ({number})").as_bytes()].concat(),
        };
        match rename_directory(root, away, &numbered) {
            Ok(()) => return Ok(fsync(root.fd())?),
            Err(Errno::EXIST | Errno::NOTEMPTY | Errno::NOTDIR) => {}
            Err(error) => return Err(error.into()),
        }
    }
    Err(TreeError::Exists(dir.clone()))
}

/// Renames a directory below the root, unless something has the new name.
fn rename_directory(root: &Root, from: &[u8], to: &[u8]) -> rustix::io::Result<()> {
    match renameat_with(root.fd(), from, root.fd(), to, RenameFlags::NOREPLACE) {
        // Where a file system cannot do this: a directory with others in it is never replaced.
        Err(Errno::INVAL | Errno::NOSYS | Errno::OPNOTSUPP) => {
            renameat(root.fd(), from, root.fd(), to)
        }
        other => other,
    }
}

/// Says what a folder has that is not removed with it.
fn look_into(dir: &Dir, opened: &OwnedFd) -> Result<()> {
    let kept = |what: &[u8]| TreeError::NotEmpty(dir.clone(), escape_invalid(what));
    for (name, kind) in entries(opened.as_fd())? {
        match &*name {
            b"new" | b"cur" | b"tmp" if kind == FileType::Directory => {
                let sub = openat(opened, &*name, DIRECTORY, Mode::empty())?;
                for (file, kind) in some_entries(sub.as_fd(), LOOKED_AT)? {
                    if name != b"tmp" || !is_stale(&sub, &file, kind)? {
                        return Err(kept(&[&*name, b"/", &file].concat()));
                    }
                }
            }
            _ if KEPT_BESIDE.iter().any(|known| name.starts_with(known)) => {}
            _ => return Err(kept(&name)),
        }
    }
    Ok(())
}

/// Whether something in `tmp` is a file that was left there long ago.
fn is_stale(tmp: &OwnedFd, file: &[u8], kind: FileType) -> Result<bool> {
    let written = statat(tmp, file, AtFlags::SYMLINK_NOFOLLOW)?.st_mtime;
    let age = since_1970().as_secs().saturating_sub(u64::try_from(written).unwrap_or(0));
    Ok(kind == FileType::RegularFile && age > STALE.as_secs())
}

/// Removes what is in a folder without messages. A message that arrives meanwhile makes it fail.
fn empty(dir: &Dir, opened: &OwnedFd) -> Result<()> {
    if let Ok(tmp) = openat(opened, Sub::Tmp.name(), DIRECTORY, Mode::empty()) {
        for (file, kind) in entries(tmp.as_fd())? {
            if is_stale(&tmp, &file, kind)? {
                unlinkat(&tmp, &*file, AtFlags::empty())?;
            }
        }
    }
    for sub in [Sub::New, Sub::Cur, Sub::Tmp] {
        match unlinkat(opened, sub.name(), AtFlags::REMOVEDIR) {
            Ok(()) | Err(Errno::NOENT) => {}
            Err(Errno::NOTEMPTY | Errno::EXIST) => {
                let what = format!("a message in {}", sub.name());
                return Err(TreeError::NotEmpty(dir.clone(), what));
            }
            Err(error) => return Err(error.into()),
        }
    }
    for (name, kind) in entries(opened.as_fd())? {
        remove_all(opened.as_fd(), &name, kind, DEEP)?;
    }
    Ok(())
}

/// Removes a file, or a directory with what is in it. No link is followed.
fn remove_all(dir: BorrowedFd<'_>, name: &[u8], kind: FileType, deep: usize) -> Result<()> {
    if kind != FileType::Directory {
        return Ok(unlinkat(dir, name, AtFlags::empty())?);
    }
    let opened = openat(dir, name, DIRECTORY, Mode::empty())?;
    for (inner, kind) in entries(opened.as_fd())? {
        if deep == 0 {
            return Err(Errno::NOTEMPTY.into());
        }
        remove_all(opened.as_fd(), &inner, kind, deep - 1)?;
    }
    Ok(unlinkat(dir, name, AtFlags::REMOVEDIR)?)
}

/// The names in a directory, with what they are.
fn entries(dir: BorrowedFd<'_>) -> Result<Vec<(Vec<u8>, FileType)>> {
    some_entries(dir, usize::MAX)
}

/// No more than so many of them.
fn some_entries(dir: BorrowedFd<'_>, most: usize) -> Result<Vec<(Vec<u8>, FileType)>> {
    let mut found = Vec::new();
    for entry in rustix::fs::Dir::read_from(dir)? {
        if found.len() >= most {
            break;
        }
        let entry = entry?;
        let name = entry.file_name().to_bytes();
        if !matches!(name, b"." | b"..")
            && let Some(kind) = kind_at(dir, name, entry.file_type())?
        {
            found.push((name.to_owned(), kind));
        }
    }
    found.sort_unstable_by(|a, b| a.0.cmp(&b.0));
    Ok(found)
}

#[cfg(test)]
mod tests {
    use std::fs::{self, File};
    use std::os::unix::fs::symlink;
    use std::path::PathBuf;
    use std::time::{Duration, SystemTime};

    use tempfile::TempDir;

    use super::*;

    struct Maildir {
        home: TempDir,
        root: Root,
    }

    impl Maildir {
        fn new(folders: &[&str]) -> Self {
            let home = TempDir::new().expect("a directory");
            for sub in ["new", "cur", "tmp"] {
                fs::create_dir(home.path().join(sub)).expect("made");
            }
            let root = Root::open(home.path()).expect("opened");
            for folder in folders {
                make(&root, &folder.split('.').collect::<Vec<_>>()).expect("made");
            }
            Self { home, root }
        }

        fn path(&self, name: &str) -> PathBuf {
            self.home.path().join(name)
        }

        fn names(&self) -> Vec<String> {
            let found = self.root.folders().expect("listed").found;
            found.into_iter().skip(1).map(|found| found.dir.text()).collect()
        }

        /// What is in the root beside its three directories.
        fn entries(&self) -> Vec<String> {
            let found = entries(self.root.fd()).expect("listed");
            let names = found.into_iter().map(|(name, _)| String::from_utf8(name).expect("text"));
            names.filter(|name| name.starts_with('.')).collect()
        }
    }

    fn make(root: &Root, parts: &[&str]) -> Result<Dir> {
        let dir = Dir::named(parts).map_err(TreeError::Name)?;
        make_at(root, &dir).map(|()| dir)
    }

    fn dir(name: &str) -> Dir {
        Dir::of(name.as_bytes()).expect("a folder's name")
    }

    #[test]
    fn a_folder_is_made_once() {
        let maildir = Maildir::new(&[]);
        for _ in 0..2 {
            assert_eq!(
                make(&maildir.root, &["Lists", "v1.2"]).expect("made"),
                dir(".Lists.v1&AC4-2")
            );
        }
        for name in ["new", "cur", "tmp", MARK] {
            assert!(maildir.path(".Lists.v1&AC4-2").join(name).exists(), "{name}");
        }
        // Half of one: it is no folder yet, and is completed.
        fs::create_dir_all(maildir.path(".B/tmp")).expect("made");
        assert_eq!(maildir.names(), [".Lists.v1&AC4-2"]);
        make(&maildir.root, &["B"]).expect("made");
        assert_eq!(maildir.names(), [".B", ".Lists.v1&AC4-2"]);
    }

    #[test]
    fn a_folder_is_not_made_through_a_link() {
        let maildir = Maildir::new(&[]);
        let outside = TempDir::new().expect("a directory");
        symlink(outside.path(), maildir.path(".A")).expect("a link");
        make(&maildir.root, &["A"]).expect_err("a link is in the way");
        assert_eq!(fs::read_dir(outside.path()).expect("it is there").count(), 0);
    }

    #[test]
    fn a_folder_is_renamed_with_those_below_it() {
        let maildir = Maildir::new(&["A", "A.B", "A.B.C", "AB", "X.Y"]);
        fs::write(maildir.path(".A.B/cur/1.a:2,S"), "text").expect("written");
        let renamed = rename(&maildir.root, &dir(".A"), &["X", "Z"]).expect("renamed");
        assert_eq!(renamed, dir(".X.Z"));
        assert_eq!(maildir.names(), [".AB", ".X.Y", ".X.Z", ".X.Z.B", ".X.Z.B.C"]);
        assert!(maildir.path(".X.Z.B/cur/1.a:2,S").exists());
        // The second time it is done already.
        assert_eq!(rename(&maildir.root, &dir(".A"), &["X", "Z"]).expect("done"), dir(".X.Z"));
        assert_eq!(rename(&maildir.root, &dir(".X.Z"), &["X", "Z"]).expect("done"), dir(".X.Z"));
        assert_eq!(maildir.names(), [".AB", ".X.Y", ".X.Z", ".X.Z.B", ".X.Z.B.C"]);
    }

    /// After a crash between two of its steps.
    #[test]
    fn a_rename_that_was_cut_off_is_finished() {
        let maildir = Maildir::new(&["A", "A.B", "X.B.C"]);
        rename(&maildir.root, &dir(".A"), &["X"]).expect("renamed");
        assert_eq!(maildir.names(), [".X", ".X.B", ".X.B.C"]);
        // A folder above that does not exist itself.
        let maildir = Maildir::new(&["A.B", "A.C"]);
        rename(&maildir.root, &dir(".A"), &["X"]).expect("renamed");
        assert_eq!(maildir.names(), [".X.B", ".X.C"]);
        rename(&maildir.root, &dir(".A"), &["X"]).expect("done");
    }

    #[test]
    fn a_rename_says_what_is_in_its_way() {
        let maildir = Maildir::new(&["A", "A.B", "X.B", "C"]);
        let go = |from: &Dir, to: &[&str]| rename(&maildir.root, from, to).expect_err("refused");
        assert!(matches!(go(&Dir::ROOT, &["X"]), TreeError::Inbox));
        assert!(matches!(go(&dir(".A"), &["C"]), TreeError::Exists(taken) if taken == dir(".C")));
        assert!(matches!(go(&dir(".A"), &["X"]), TreeError::Exists(taken) if taken == dir(".X.B")));
        assert!(matches!(go(&dir(".A"), &["A", "D"]), TreeError::BelowItself(_)));
        assert!(matches!(go(&dir(".D"), &["E"]), TreeError::Missing(_)));
        let long = "x".repeat(253);
        assert!(matches!(go(&dir(".A"), &[&*long]), TreeError::Name(BadName::Long)));
        fs::write(maildir.path(".Z"), "in the way").expect("written");
        assert!(matches!(go(&dir(".C"), &["Z"]), TreeError::Exists(_)));
        assert_eq!(maildir.names(), [".A", ".A.B", ".C", ".X.B"]);
        let error = go(&dir(".A"), &["C"]).to_string();
        assert_eq!(error, "there is already a folder .C");
    }

    #[test]
    fn an_empty_folder_is_removed_with_what_programs_keep_beside() {
        let maildir = Maildir::new(&["A", "A.B"]);
        fs::write(maildir.path(".A/dovecot-uidlist"), "x").expect("written");
        fs::create_dir_all(maildir.path(".A/courierimapkeywords/x")).expect("made");
        fs::write(maildir.path(".A/courierimapkeywords/x/y"), "x").expect("written");
        let stale = File::create(maildir.path(".A/tmp/1.old")).expect("made");
        stale.set_modified(SystemTime::now() - STALE - Duration::from_secs(9)).expect("set");
        assert!(remove(&maildir.root, &dir(".A")).expect("removed"));
        assert_eq!(maildir.entries(), [".A.B"]);
        assert!(!remove(&maildir.root, &dir(".A")).expect("it was not there"));
        assert!(matches!(remove(&maildir.root, &Dir::ROOT), Err(TreeError::Inbox)));
    }

    #[test]
    fn what_is_not_empty_stays() {
        for file in ["new/1.a", "cur/1.a:2,S", "cur/.hidden", "tmp/1.young", "notes.txt"] {
            let maildir = Maildir::new(&["A"]);
            fs::write(maildir.path(".A").join(file), "precious").expect("written");
            let error = remove(&maildir.root, &dir(".A")).expect_err("not empty").to_string();
            assert!(error.contains(file) && error.contains(".A"), "{error}");
            let kept = fs::read_to_string(maildir.path(".A").join(file)).expect("it is there");
            assert_eq!(kept, "precious");
            assert_eq!(maildir.entries(), [".A"]);
        }
        let maildir = Maildir::new(&[]);
        let outside = TempDir::new().expect("a directory");
        symlink(outside.path(), maildir.path(".L")).expect("a link");
        remove(&maildir.root, &dir(".L")).expect_err("a link is no folder");
        assert!(maildir.path(".L").exists());
    }

    /// A crash leaves a folder without its name. It is removed, or is a folder again if a message has arrived.
    #[test]
    fn a_removal_that_was_cut_off_is_finished() {
        let away = format!("{}{:016x}.A", String::from_utf8_lossy(REMOVED), 7);
        let cut_off = |with: &[&str]| {
            let maildir = Maildir::new(&["A"]);
            fs::rename(maildir.path(".A"), maildir.path(&away)).expect("renamed");
            for file in with {
                fs::write(maildir.path(&away).join(file), "precious").expect("written");
            }
            assert!(maildir.names().is_empty());
            maildir
        };
        let maildir = cut_off(&[]);
        assert!(remove(&maildir.root, &dir(".A")).expect("finished"));
        assert!(maildir.entries().is_empty());

        let maildir = cut_off(&[]);
        fs::remove_dir(maildir.path(&away).join("cur")).expect("one step further");
        finish_removals(&maildir.root).expect("finished");
        assert!(maildir.entries().is_empty());

        let maildir = cut_off(&["new/1.a"]);
        fs::remove_dir(maildir.path(&away).join("cur")).expect("one step further");
        finish_removals(&maildir.root).expect("finished");
        assert_eq!(maildir.entries(), [".A"]);
        assert!(maildir.path(".A/new/1.a").exists() && maildir.path(".A/cur").is_dir());

        let maildir = cut_off(&["new/1.a"]);
        let error = remove(&maildir.root, &dir(".A")).expect_err("not empty");
        assert!(matches!(error, TreeError::NotEmpty(..)), "{error}");
        assert_eq!(maildir.names(), [".A"]);

        // The name is another folder's by now.
        let maildir = cut_off(&["new/1.a"]);
        make(&maildir.root, &["A"]).expect("made");
        finish_removals(&maildir.root).expect("finished");
        assert_eq!(maildir.names(), [".A", ".A (2)"]);
        assert!(maildir.path(".A (2)/new/1.a").exists());
    }

    #[test]
    fn directories_of_others_are_removed_to_a_depth() {
        let maildir = Maildir::new(&["A"]);
        let deep = (0..=DEEP + 1).fold(maildir.path(".A/dovecot"), |path, _| path.join("x"));
        fs::create_dir_all(&deep).expect("made");
        remove(&maildir.root, &dir(".A")).expect_err("too deep");
        assert_eq!(maildir.entries(), [".A"]);
        assert!(maildir.path(".A/cur").is_dir() && deep.is_dir());
    }
}
