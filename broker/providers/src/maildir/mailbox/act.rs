//! What is done to messages: flags, moves, copies, removals and new files.
//!
//! Each of them may be repeated, also after a crash or a power cut in its middle: it ends in the same state, and no message is lost or
//! there twice. Names are never replaced. What is done is on the disk when it returns.
//!
//! Other programs rename files meanwhile, so a file that is gone from its name is looked for again. Two files can have one base name,
//! though none should: those with the same bytes are one message, and one of them is removed; of those that differ the other gets a
//! base name of its own, before anything is done to the one that was meant.

use std::fs::File;
use std::io::{self, Read};
use std::ops::ControlFlow;
use std::os::fd::{AsFd, OwnedFd};
use std::time::{Duration, UNIX_EPOCH};

use rustix::fs::{
    AtFlags, FileType, Mode, OFlags, RenameFlags, fsync, linkat, openat, renameat, renameat_with,
    unlinkat,
};
use rustix::io::Errno;

use super::facts::{Opened, open};
use super::folders::{Folder, Sub, kind_at};
use super::names::{self, Flags, Name};
use super::scan;
use crate::files::FileId;

/// How often a message is looked for that other programs rename meanwhile.
const TRIES: usize = 16;

/// Where the file of a message is in its folder.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct At {
    pub(super) sub: Sub,
    /// The name of the file.
    pub(super) file: Vec<u8>,
}

impl At {
    /// In `new`, where files have no flags.
    fn in_new(base: &[u8]) -> Self {
        Self { sub: Sub::New, file: base.to_owned() }
    }

    /// In `new` without flags, else in `cur`.
    fn with(base: &[u8], flags: Flags) -> Self {
        if flags == Flags::NONE {
            return Self::in_new(base);
        }
        Self { sub: Sub::Cur, file: names::in_cur(base, flags) }
    }

    pub(super) fn flags(&self) -> Flags {
        Name::parse(&self.file).map_or(Flags::NONE, |name| name.flags())
    }

    /// The same message with other flags, and maybe another base name. It leaves `new` when it gets a flag, and never returns.
    fn changed(&self, base: &[u8], flags: Flags) -> Self {
        let Some(name) = Name::parse(&self.file) else { return Self::with(base, flags) };
        if name.flags() == flags {
            return Self { sub: self.sub, file: name.with_base(base) };
        }
        let flagged = name.with_flags(flags);
        let file = Name::parse(&flagged).map_or_else(Vec::new, |name| name.with_base(base));
        Self { sub: Sub::Cur, file }
    }
}

/// Whether something was tried before, by this process or by one that ended before it knew the outcome. Only then must it be looked for in
/// the whole folder whether it was done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Try {
    First,
    Again,
}

/// Finds the file of a message. With its present flags that takes a look at three names, without it takes a reading of the folder; only a
/// message that two readings miss is not there, because a reading can miss what another program renames meanwhile.
pub(super) fn locate(folder: &Folder, base: &[u8], hint: Flags) -> io::Result<Option<At>> {
    for _ in 0..2 {
        if let Some(at) = glance(folder, base, hint)? {
            return Ok(Some(at));
        }
        let mut found: Option<At> = None;
        scan::each(folder, |sub, name| {
            // As `Listing` chooses among several.
            let better = |old: &At| (sub, name.flags()) > (old.sub, old.flags());
            if name.base() == base && found.as_ref().is_none_or(better) {
                found = Some(At { sub, file: name.file().to_owned() });
            }
            ControlFlow::Continue(())
        })?;
        if found.is_some() {
            return Ok(found);
        }
    }
    Ok(None)
}

/// Finds the file of a message where it was put last, or under the names that are likely. An empty file may be one that is still being
/// written there; it does not count.
pub(super) fn find(
    folder: &Folder,
    base: &[u8],
    put: Option<At>,
    hint: Flags,
) -> io::Result<Option<At>> {
    let at = match put {
        Some(at) if is_there(folder, &at)? => Some(at),
        _ => glance(folder, base, hint)?,
    };
    let Some(at) = at else { return Ok(None) };
    let is_written = open_at(folder, &at)
        .and_then(|file| file.map_or(Ok(true), |file| Ok(file.metadata()?.len() > 0)));
    // What cannot be opened is there all the same.
    Ok(is_written.unwrap_or(true).then_some(at))
}

/// Looks for a message under the names that are likely.
fn glance(folder: &Folder, base: &[u8], hint: Flags) -> io::Result<Option<At>> {
    let cur = [names::in_cur(base, hint), base.to_owned()].map(|file| At { sub: Sub::Cur, file });
    for at in cur.into_iter().chain([At::in_new(base)]) {
        if is_there(folder, &at)? {
            return Ok(Some(at));
        }
    }
    Ok(None)
}

/// Looks for what an earlier try has made.
fn made_before(folder: &Folder, base: &[u8], flags: Flags, attempt: Try) -> io::Result<Option<At>> {
    match attempt {
        Try::First => glance(folder, base, flags),
        Try::Again => locate(folder, base, flags),
    }
}

fn is_there(folder: &Folder, at: &At) -> io::Result<bool> {
    let Some(dir) = folder.sub(at.sub)? else { return Ok(false) };
    match kind_at(dir.as_fd(), &at.file, FileType::Unknown) {
        Ok(kind) => Ok(kind == Some(FileType::RegularFile)),
        Err(error) if error.kind() == io::ErrorKind::InvalidFilename => Ok(false),
        Err(error) => Err(error),
    }
}

/// Opens a file; nothing if it is gone or no file.
pub(super) fn open_at(folder: &Folder, at: &At) -> io::Result<Option<File>> {
    let Some(dir) = folder.sub(at.sub)? else { return Ok(None) };
    match open(dir.as_fd(), &at.file)? {
        Opened::File(file) => Ok(Some(file)),
        Opened::Gone | Opened::NoFile => Ok(None),
    }
}

fn restless() -> io::Error {
    io::Error::other("other programs rename the message all the time; it is tried again later")
}

/// A message whose flags were changed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Flagged {
    pub(super) at: At,
    pub(super) before: Flags,
}

/// Changes the flags of a message, and leaves what else is in its name. Nothing if there is no such message.
pub(super) fn set_flags(
    folder: &Folder,
    base: &[u8],
    hint: Flags,
    change: impl Fn(Flags) -> Flags,
) -> io::Result<Option<Flagged>> {
    for _ in 0..TRIES {
        let Some(at) = locate(folder, base, hint)? else { return Ok(None) };
        settle_twin(folder, base, &at)?;
        let before = at.flags();
        let to = at.changed(base, change(before));
        match shift(folder, &at, folder, &to)? {
            Shifted::Done => return Ok(Some(Flagged { at: to, before })),
            Shifted::Gone => {}
            Shifted::Taken => set_apart(folder, &to)?,
        }
    }
    Err(restless())
}

/// What became of a move.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Moved {
    /// The message is there now.
    Done(Flagged),
    /// An earlier try has moved it.
    Before(At),
    /// It is in neither of the folders.
    Gone,
    /// Another message has the name in the other folder.
    Taken,
}

/// Moves a message into another folder, and changes its flags. If an earlier try has done so already, its flags stay as they are there.
pub(super) fn move_to(
    from: (&Folder, &[u8], Flags),
    to: (&Folder, &[u8]),
    change: impl Fn(Flags) -> Flags,
    attempt: Try,
) -> io::Result<Moved> {
    let ((source, base, hint), (target, new_base)) = (from, to);
    for _ in 0..TRIES {
        let Some(at) = locate(source, base, hint)? else {
            return Ok(locate(target, new_base, change(hint))?.map_or(Moved::Gone, Moved::Before));
        };
        let before = at.flags();
        if let Some(there) = made_before(target, new_base, change(before), attempt)? {
            // Another program uses the name, or an earlier try has come so far.
            if attempt == Try::First {
                return Ok(Moved::Taken);
            }
            match compare((source, &at), (target, &there))? {
                Compared::Same => {
                    remove_at(source, &at)?;
                    return Ok(Moved::Before(there));
                }
                Compared::Different => return Ok(Moved::Taken),
                Compared::Gone => continue,
            }
        }
        settle_twin(source, base, &at)?;
        let there = at.changed(new_base, change(before));
        match shift(source, &at, target, &there)? {
            Shifted::Done => return Ok(Moved::Done(Flagged { at: there, before })),
            Shifted::Gone | Shifted::Taken => {}
        }
    }
    Err(restless())
}

/// Makes a second name for a message, in `tmp` of a folder, where [`place`] finds it: whatever becomes of the message then, the copy
/// stays. Whether there is such a message. Where a file system has no second names, the bytes are copied.
pub(super) fn link(from: (&Folder, &[u8], Flags), to: (&Folder, &[u8])) -> io::Result<bool> {
    let (source, base, hint) = from;
    for _ in 0..TRIES {
        let Some(at) = locate(source, base, hint)? else { return Ok(false) };
        if link_file((source, &at), to)? {
            return Ok(true);
        }
    }
    Err(restless())
}

/// The same for a message in `tmp` of the same folder.
pub(super) fn link_staged(folder: &Folder, staged: &[u8], other: &[u8]) -> io::Result<bool> {
    let at = At { sub: Sub::Tmp, file: staged.to_owned() };
    link_file((folder, &at), (folder, other))
}

/// Whether the file was there.
fn link_file((source, at): (&Folder, &At), (target, name): (&Folder, &[u8])) -> io::Result<bool> {
    let Some(file) = open_at(source, at)? else { return Ok(false) };
    let (dir, tmp) = (source.sub_made(at.sub)?, target.sub_made(Sub::Tmp)?);
    // Of an earlier try, and maybe cut off.
    unlink(&tmp, name)?;
    file.sync_all()?;
    match linkat(&dir, &*at.file, &tmp, name, AtFlags::empty()) {
        // Another file can have taken the name meanwhile.
        Ok(()) if FileId::of(&file)? == FileId::of_entry(&tmp, name)? => {
            fsync(&tmp)?;
            Ok(true)
        }
        Ok(()) | Err(Errno::NOENT) => Ok(false),
        Err(Errno::XDEV | Errno::PERM | Errno::MLINK | Errno::OPNOTSUPP | Errno::NOSYS) => {
            copy_into_tmp(&file, target, name)?;
            Ok(true)
        }
        Err(error) => Err(error.into()),
    }
}

/// Gives a message in `tmp` of a folder its place in `new` or `cur` of a folder. Nothing if it is in none of the three.
pub(super) fn place(
    from: (&Folder, &[u8]),
    to: (&Folder, &[u8]),
    flags: Flags,
    attempt: Try,
) -> io::Result<Option<At>> {
    let ((source, staged), (folder, base)) = (from, to);
    let tmp = At { sub: Sub::Tmp, file: staged.to_owned() };
    for _ in 0..TRIES {
        if let Some(at) = made_before(folder, base, flags, attempt)? {
            if is_there(source, &tmp)? && compare((source, &tmp), (folder, &at))? == Compared::Same
            {
                remove_at(source, &tmp)?;
            }
            return Ok(Some(at));
        }
        let to = At::with(base, flags);
        match shift(source, &tmp, folder, &to)? {
            Shifted::Done => return Ok(Some(to)),
            Shifted::Gone => return locate(folder, base, flags),
            Shifted::Taken => {}
        }
    }
    Err(restless())
}

/// Whether a message is in `tmp`.
pub(super) fn is_staged(folder: &Folder, staged: &[u8]) -> io::Result<bool> {
    is_there(folder, &At { sub: Sub::Tmp, file: staged.to_owned() })
}

/// Removes a message from `tmp`. Whether it was there.
pub(super) fn unstage(folder: &Folder, staged: &[u8]) -> io::Result<bool> {
    remove_at(folder, &At { sub: Sub::Tmp, file: staged.to_owned() })
}

/// Writes a message into a folder: through `tmp`, so that no other program sees half of it. If an earlier try has written it, nothing is
/// read. The time is in milliseconds since 1970.
pub(super) fn import(
    to: (&Folder, &[u8]),
    mut message: impl Read,
    flags: Flags,
    received: u64,
    attempt: Try,
) -> io::Result<At> {
    let (folder, base) = to;
    if let Some(at) = made_before(folder, base, flags, attempt)? {
        return Ok(at);
    }
    write_into_tmp(folder, base, |file| {
        io::copy(&mut message, file)?;
        file.set_modified(UNIX_EPOCH + Duration::from_millis(received))
    })?;
    place(to, to, flags, Try::First)?.ok_or_else(|| {
        let text = "another program has removed the message from tmp while it was written";
        io::Error::new(io::ErrorKind::NotFound, text)
    })
}

/// Removes a message. Whether it was there.
pub(super) fn remove(folder: &Folder, base: &[u8], hint: Flags) -> io::Result<bool> {
    for _ in 0..TRIES {
        let Some(at) = locate(folder, base, hint)? else { return Ok(false) };
        settle_twin(folder, base, &at)?;
        if remove_at(folder, &at)? {
            return Ok(true);
        }
    }
    Err(restless())
}

/// What became of a rename.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Shifted {
    Done,
    /// The file is not under its old name.
    Gone,
    /// Another message has the new name.
    Taken,
}

/// Gives a file another name, on the disk.
fn shift(from: &Folder, at: &At, to: &Folder, there: &At) -> io::Result<Shifted> {
    let (old, new) = (from.sub_made(at.sub)?, to.sub_made(there.sub)?);
    let is_same_name = FileId::of(&old)? == FileId::of(&new)? && at.file == there.file;
    let renamed = if is_same_name { Ok(()) } else { rename(&old, &at.file, &new, &there.file) };
    match renamed {
        Ok(()) => {}
        Err(Errno::NOENT) => return Ok(Shifted::Gone),
        Err(Errno::EXIST) => {
            match compare((from, at), (to, there))? {
                Compared::Same => unlink(&old, &at.file)?,
                Compared::Different => return Ok(Shifted::Taken),
                Compared::Gone => return Ok(Shifted::Gone),
            };
        }
        Err(Errno::XDEV) => return carry_over(from, at, to, there),
        Err(error) => return Err(error.into()),
    }
    fsync(&new)?;
    fsync(&old)?;
    Ok(Shifted::Done)
}

/// Renames a file, unless the new name is taken.
fn rename(old: &OwnedFd, file: &[u8], new: &OwnedFd, to: &[u8]) -> rustix::io::Result<()> {
    match renameat_with(old, file, new, to, RenameFlags::NOREPLACE) {
        // What file systems say that cannot do this.
        Err(Errno::INVAL | Errno::NOSYS | Errno::OPNOTSUPP) => rename_by_link(old, file, new, to),
        other => other,
    }
}

fn rename_by_link(old: &OwnedFd, file: &[u8], new: &OwnedFd, to: &[u8]) -> rustix::io::Result<()> {
    match linkat(old, file, new, to, AtFlags::empty()) {
        Ok(()) => unlinkat(old, file, AtFlags::empty()),
        // There are no second names either; then nothing better is left.
        Err(Errno::PERM | Errno::MLINK | Errno::OPNOTSUPP | Errno::NOSYS) => {
            match rustix::fs::statat(new, to, AtFlags::SYMLINK_NOFOLLOW) {
                Ok(_) => Err(Errno::EXIST),
                Err(Errno::NOENT) => renameat(old, file, new, to),
                Err(error) => Err(error),
            }
        }
        Err(error) => Err(error),
    }
}

/// Moves a file into a folder on another file system: its copy is complete there before it is removed here.
fn carry_over(from: &Folder, at: &At, to: &Folder, there: &At) -> io::Result<Shifted> {
    let Some(file) = open_at(from, at)? else { return Ok(Shifted::Gone) };
    let base = Name::parse(&there.file).map_or(&*there.file, |name| name.base());
    copy_into_tmp(&file, to, base)?;
    let tmp = At { sub: Sub::Tmp, file: base.to_owned() };
    let shifted = shift(to, &tmp, to, there)?;
    match shifted {
        Shifted::Done => remove_at(from, at).map(|_| Shifted::Done),
        Shifted::Gone | Shifted::Taken => remove_at(to, &tmp).map(|_| shifted),
    }
}

fn copy_into_tmp(mut source: &File, folder: &Folder, base: &[u8]) -> io::Result<()> {
    let written = source.metadata()?.modified()?;
    write_into_tmp(folder, base, |file| {
        io::copy(&mut source, file)?;
        file.set_modified(written)
    })
}

/// Writes a file into `tmp`, in the place of one that an earlier try has left there. A file that fails half-way is removed.
fn write_into_tmp(
    folder: &Folder,
    base: &[u8],
    write: impl FnOnce(&mut File) -> io::Result<()>,
) -> io::Result<()> {
    let tmp = folder.sub_made(Sub::Tmp)?;
    unlink(&tmp, base)?;
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let mut file = File::from(openat(&tmp, base, flags, Mode::RUSR | Mode::WUSR)?);
    let written = write(&mut file).and_then(|()| file.sync_all()).and_then(|()| Ok(fsync(&tmp)?));
    if written.is_err() {
        let _ = unlink(&tmp, base);
    }
    written
}

/// Removes a file, on the disk. Whether it was there.
fn remove_at(folder: &Folder, at: &At) -> io::Result<bool> {
    let Some(dir) = folder.sub(at.sub)? else { return Ok(false) };
    let removed = unlink(&dir, &at.file)?;
    fsync(&dir)?;
    Ok(removed)
}

fn unlink(dir: &OwnedFd, file: &[u8]) -> io::Result<bool> {
    match unlinkat(dir, file, AtFlags::empty()) {
        Ok(()) => Ok(true),
        Err(Errno::NOENT) => Ok(false),
        Err(error) => Err(error.into()),
    }
}

/// Sees to it that the message at this place in `cur` has no other file with its base name in `new`.
fn settle_twin(folder: &Folder, base: &[u8], at: &At) -> io::Result<()> {
    let twin = At::in_new(base);
    if at.sub == Sub::New || !is_there(folder, &twin)? {
        return Ok(());
    }
    match compare((folder, &twin), (folder, at))? {
        Compared::Same => remove_at(folder, &twin).map(drop),
        Compared::Different => set_apart(folder, &twin),
        Compared::Gone => Ok(()),
    }
}

/// Gives a message a base name of its own, because another one has the same.
fn set_apart(folder: &Folder, at: &At) -> io::Result<()> {
    let apart = At { sub: at.sub, ..at.changed(&names::fresh()?, at.flags()) };
    tracing::warn!(
        path = %folder.path_of(at.sub, &at.file).display(),
        "two messages of a Maildir have one name; one of them gets another"
    );
    shift(folder, at, folder, &apart).map(drop)
}

/// Whether two files are one message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Compared {
    /// One file with two names, or the same bytes.
    Same,
    Different,
    /// One of them is not there any more.
    Gone,
}

fn compare((a, at): (&Folder, &At), (b, there): (&Folder, &At)) -> io::Result<Compared> {
    let (Some(mut one), Some(mut other)) = (open_at(a, at)?, open_at(b, there)?) else {
        return Ok(Compared::Gone);
    };
    if FileId::of(&one)? == FileId::of(&other)? {
        return Ok(Compared::Same);
    }
    if one.metadata()?.len() != other.metadata()?.len() {
        return Ok(Compared::Different);
    }
    let mut pieces = [vec![0; 64 << 10], vec![0; 64 << 10]];
    loop {
        let n = fill(&mut one, &mut pieces[0])?;
        let m = fill(&mut other, &mut pieces[1])?;
        if pieces[0][..n] != pieces[1][..m] {
            return Ok(Compared::Different);
        }
        if n == 0 {
            return Ok(Compared::Same);
        }
    }
}

/// Reads until the buffer is full or the file ends.
fn fill(file: &mut File, buffer: &mut [u8]) -> io::Result<usize> {
    let mut filled = 0;
    while filled < buffer.len() {
        match file.read(&mut buffer[filled..]) {
            Ok(0) => break,
            Ok(n) => filled += n,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(filled)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::fs;
    use std::os::unix::fs::{MetadataExt, symlink};
    use std::path::{Path, PathBuf};
    use std::sync::atomic::{AtomicBool, Ordering};

    use tempfile::TempDir;

    use super::super::folders::{Dir, Root};
    use super::*;

    const READ: Flags = Flags::READ;
    const NONE: Flags = Flags::NONE;

    struct Maildir {
        home: TempDir,
        inbox: Folder,
        a: Folder,
    }

    impl Maildir {
        fn new() -> Self {
            Self::at(TempDir::new().expect("a directory"))
        }

        fn at(home: TempDir) -> Self {
            for folder in ["", ".A"] {
                for sub in ["new", "cur", "tmp"] {
                    fs::create_dir_all(home.path().join(folder).join(sub)).expect("made");
                }
            }
            let root = Root::open(home.path()).expect("opened");
            let inbox = root.folder(&Dir::ROOT).expect("opened");
            let a = root.folder(&Dir::of(b".A").expect("a name")).expect("opened");
            Self { home, inbox, a }
        }

        fn with(files: &[&str]) -> Self {
            let maildir = Self::new();
            for file in files {
                maildir.put(file, "text");
            }
            maildir
        }

        fn path(&self, file: &str) -> PathBuf {
            self.home.path().join(file)
        }

        fn put(&self, file: &str, text: &str) {
            fs::write(self.path(file), text).expect("written");
        }

        /// All files with their contents.
        fn files(&self) -> BTreeMap<String, String> {
            let mut found = BTreeMap::new();
            for folder in ["", ".A/"] {
                for sub in ["new", "cur", "tmp"] {
                    let dir = format!("{folder}{sub}");
                    for entry in fs::read_dir(self.path(&dir)).expect("it is there") {
                        let name =
                            entry.expect("an entry").file_name().into_string().expect("text");
                        let text = fs::read_to_string(self.path(&format!("{dir}/{name}")));
                        found.insert(format!("{dir}/{name}"), text.expect("text"));
                    }
                }
            }
            found
        }

        fn names(&self) -> Vec<String> {
            self.files().into_keys().collect()
        }
    }

    fn at(sub: Sub, file: &str) -> At {
        At { sub, file: file.as_bytes().to_owned() }
    }

    #[test]
    fn a_message_is_found_under_every_name() {
        for (file, expected) in [
            ("new/1.a", at(Sub::New, "1.a")),
            ("cur/1.a", at(Sub::Cur, "1.a")),
            ("cur/1.a:2,", at(Sub::Cur, "1.a:2,")),
            ("cur/1.a:2,S", at(Sub::Cur, "1.a:2,S")),
            ("cur/1.a:2,RSab", at(Sub::Cur, "1.a:2,RSab")),
            ("cur/1.a:1,x", at(Sub::Cur, "1.a:1,x")),
            ("new/1.a:2,S", at(Sub::New, "1.a:2,S")),
        ] {
            let maildir = Maildir::with(&[file, "cur/1.ab:2,S", "tmp/1.a"]);
            for hint in [NONE, READ] {
                let found = locate(&maildir.inbox, b"1.a", hint).expect("located");
                assert_eq!(found.as_ref(), Some(&expected), "{file}");
            }
        }
        let maildir = Maildir::with(&["tmp/1.a", "cur/2.b:2,S", "cur/.1.a"]);
        fs::create_dir(maildir.path("cur/1.a:2,S")).expect("made");
        symlink(maildir.path("cur/2.b:2,S"), maildir.path("new/1.a")).expect("a link");
        assert_eq!(locate(&maildir.inbox, b"1.a", READ).expect("located"), None);
        let long = "x".repeat(255);
        maildir.put(&format!("cur/{long}"), "text");
        let found = locate(&maildir.inbox, long.as_bytes(), READ).expect("located");
        assert_eq!(found, Some(at(Sub::Cur, &long)));
    }

    #[test]
    fn of_several_the_one_in_cur_is_meant() {
        let maildir = Maildir::with(&["new/1.a", "cur/1.a:2,R", "cur/1.a:2,RS"]);
        let found = locate(&maildir.inbox, b"1.a", NONE).expect("located");
        assert_eq!(found, Some(at(Sub::New, "1.a")), "a glance is enough");
        fs::remove_file(maildir.path("new/1.a")).expect("removed");
        let found = locate(&maildir.inbox, b"1.a", NONE).expect("located");
        assert_eq!(found, Some(at(Sub::Cur, "1.a:2,RS")));
    }

    #[test]
    fn flags_are_set_and_others_kept() {
        for (before, flags, after) in [
            ("new/1.a", NONE, "new/1.a"),
            ("new/1.a", READ, "cur/1.a:2,S"),
            ("cur/1.a", NONE, "cur/1.a"),
            ("cur/1.a", READ, "cur/1.a:2,S"),
            ("cur/1.a:2,S", NONE, "cur/1.a:2,"),
            ("cur/1.a:2,FSbX", Flags::ANSWERED, "cur/1.a:2,RXb"),
            ("cur/1.a:2,SR", READ.with(Flags::ANSWERED), "cur/1.a:2,SR"),
            ("cur/1.a:1,x", NONE, "cur/1.a:1,x"),
            ("new/1.a:2,S", READ, "new/1.a:2,S"),
        ] {
            for hint in [NONE, READ] {
                let maildir = Maildir::with(&[before, "cur/2.b:2,S"]);
                // The second time nothing is left to be done.
                for _ in 0..2 {
                    let there = set_flags(&maildir.inbox, b"1.a", hint, |_| flags).expect("set");
                    assert_eq!(there.expect("it is there").at.flags(), flags, "{before}");
                    let mut expected = vec![after, "cur/2.b:2,S"];
                    expected.sort_unstable();
                    assert_eq!(maildir.names(), expected);
                }
            }
        }
        let maildir = Maildir::with(&["cur/2.b:2,S"]);
        assert_eq!(set_flags(&maildir.inbox, b"1.a", NONE, |_| READ).expect("looked"), None);
    }

    /// The twin with the same bytes goes, the twin with others gets a name of its own; neither is lost.
    #[test]
    fn two_messages_with_one_name_are_set_apart() {
        for (twin, in_twin) in
            [("new/1.a", "text"), ("new/1.a", "other"), ("cur/1.a:2,FS", "other")]
        {
            for act in [
                (|maildir: &Maildir| {
                    set_flags(&maildir.inbox, b"1.a", READ, |f| f.with(Flags::FLAGGED)).map(drop)
                }) as fn(&Maildir) -> io::Result<()>,
                |maildir| remove(&maildir.inbox, b"1.a", READ).map(drop),
                |maildir| {
                    let from = (&maildir.inbox, &b"1.a"[..], READ);
                    move_to(from, (&maildir.a, b"1.a"), |_| READ, Try::First).map(drop)
                },
            ] {
                let maildir = Maildir::with(&["cur/1.a:2,S"]);
                maildir.put(twin, in_twin);
                act(&maildir).expect("done");
                let files = maildir.files();
                let others: Vec<_> = files.iter().filter(|(_, text)| *text == "other").collect();
                assert_eq!(others.len(), usize::from(in_twin == "other"), "{files:?}");
                let is_apart = |(file, _): &(&String, &String)| !file.contains("/1.a");
                if twin.starts_with("new") {
                    assert!(others.iter().all(is_apart), "{files:?}");
                }
                assert!(files.values().filter(|text| *text == "text").count() <= 1, "{files:?}");
            }
        }
    }

    /// Half of a rename on a file system where it takes two steps.
    #[test]
    fn a_rename_that_was_cut_off_is_finished() {
        let maildir = Maildir::with(&["cur/1.a:2,"]);
        fs::hard_link(maildir.path("cur/1.a:2,"), maildir.path("cur/1.a:2,S")).expect("linked");
        set_flags(&maildir.inbox, b"1.a", NONE, |_| READ).expect("set").expect("there");
        assert_eq!(maildir.names(), ["cur/1.a:2,S"]);
        fs::hard_link(maildir.path("cur/1.a:2,S"), maildir.path(".A/cur/1.a:2,S")).expect("linked");
        let moved =
            move_to((&maildir.inbox, b"1.a", READ), (&maildir.a, b"1.a"), |_| READ, Try::Again);
        assert_eq!(moved.expect("moved"), Moved::Before(at(Sub::Cur, "1.a:2,S")));
        assert_eq!(maildir.names(), [".A/cur/1.a:2,S"]);
    }

    #[test]
    fn a_name_is_never_replaced() {
        let maildir = Maildir::with(&["new/1.a"]);
        maildir.put("cur/2.b", "other");
        let subs = [Sub::New, Sub::Cur].map(|sub| maildir.inbox.sub_made(sub).expect("opened"));
        for rename in [rename, rename_by_link] {
            let renamed = rename(&subs[0], b"1.a", &subs[1], b"2.b");
            assert_eq!(renamed, Err(Errno::EXIST));
            assert_eq!(maildir.names(), ["cur/2.b", "new/1.a"]);
            assert_eq!(rename(&subs[0], b"3.c", &subs[1], b"4.d"), Err(Errno::NOENT));
        }
        assert_eq!(rename_by_link(&subs[0], b"1.a", &subs[1], b"1.a:2,S"), Ok(()));
        assert_eq!(maildir.names(), ["cur/1.a:2,S", "cur/2.b"]);
    }

    #[test]
    fn a_message_is_moved_once() {
        for (before, flags, after) in [
            ("new/1.a", NONE, ".A/new/9.z"),
            ("new/1.a", READ, ".A/cur/9.z:2,S"),
            ("cur/1.a", NONE, ".A/cur/9.z"),
            ("cur/1.a:2,Sx", READ, ".A/cur/9.z:2,Sx"),
            ("cur/1.a:2,Sx", NONE, ".A/cur/9.z:2,x"),
        ] {
            let maildir = Maildir::with(&[before, "cur/2.b"]);
            for attempt in [Try::First, Try::Again] {
                let from = (&maildir.inbox, &b"1.a"[..], READ);
                let moved = move_to(from, (&maildir.a, b"9.z"), |_| flags, attempt).expect("moved");
                let there = match moved {
                    Moved::Done(Flagged { at, before: was }) if attempt == Try::First => {
                        assert_eq!(
                            was,
                            Name::parse(&before.as_bytes()[4..]).expect("a name").flags()
                        );
                        at
                    }
                    Moved::Before(at) if attempt == Try::Again => at,
                    other => panic!("{other:?}"),
                };
                assert_eq!(there.flags(), flags);
                assert_eq!(maildir.names(), [after, "cur/2.b"]);
            }
        }
    }

    #[test]
    fn a_move_says_what_is_in_its_way() {
        let maildir = Maildir::with(&["cur/1.a:2,S"]);
        let go = |base: &[u8], attempt| {
            move_to((&maildir.inbox, base, READ), (&maildir.a, base), |_| READ, attempt)
                .expect("tried")
        };
        assert_eq!(go(b"3.c", Try::First), Moved::Gone);
        maildir.put(".A/cur/1.a:2,RS", "other");
        assert_eq!(go(b"1.a", Try::Again), Moved::Taken);
        fs::rename(maildir.path(".A/cur/1.a:2,RS"), maildir.path(".A/cur/1.a:2,S"))
            .expect("renamed");
        assert_eq!(go(b"1.a", Try::First), Moved::Taken);
        assert_eq!(maildir.names(), [".A/cur/1.a:2,S", "cur/1.a:2,S"]);
        // The flags that a message got after an earlier try are left alone.
        fs::remove_file(maildir.path("cur/1.a:2,S")).expect("removed");
        fs::rename(maildir.path(".A/cur/1.a:2,S"), maildir.path(".A/cur/1.a:2,F"))
            .expect("renamed");
        assert_eq!(go(b"1.a", Try::Again), Moved::Before(at(Sub::Cur, "1.a:2,F")));
    }

    /// Folders on two file systems: the copy is complete before the message is removed, and a repeat after a crash between the two ends
    /// in one message.
    #[test]
    fn a_message_moves_to_another_file_system() {
        let here = Maildir::with(&["cur/1.a:2,Sx"]);
        let shm = Path::new("/dev/shm");
        let device = |path: &Path| fs::metadata(path).map(|found| found.dev()).ok();
        if device(shm).is_none() || device(shm) == device(here.home.path()) {
            return println!("skipped: /dev/shm is no other file system");
        }
        let there = Maildir::at(TempDir::new_in(shm).expect("a directory"));
        let written = UNIX_EPOCH + Duration::from_secs(1_000_000_000);
        let file = File::options().write(true).open(here.path("cur/1.a:2,Sx")).expect("opened");
        file.set_modified(written).expect("set");
        let go = |attempt| {
            move_to((&here.inbox, b"1.a", READ), (&there.a, b"9.z"), |_| READ, attempt)
                .expect("moved")
        };
        // Left of an earlier try.
        there.put(".A/tmp/9.z", "te");
        let at_once = Flagged { at: at(Sub::Cur, "9.z:2,Sx"), before: READ };
        assert_eq!(go(Try::First), Moved::Done(at_once));
        assert!(here.names().is_empty());
        assert_eq!(there.files(), BTreeMap::from([(".A/cur/9.z:2,Sx".into(), "text".into())]));
        let found = fs::metadata(there.path(".A/cur/9.z:2,Sx")).expect("it is there");
        assert_eq!(found.modified().ok(), Some(written));
        here.put("cur/1.a:2,S", "text");
        fs::rename(there.path(".A/cur/9.z:2,Sx"), there.path(".A/cur/9.z:2,FS")).expect("renamed");
        assert_eq!(go(Try::Again), Moved::Before(at(Sub::Cur, "9.z:2,FS")));
        assert!(here.names().is_empty());
        assert_eq!(there.names(), [".A/cur/9.z:2,FS"]);
        // A copy with bytes of its own, because there can be no second name.
        here.put("new/1.a", "text");
        assert!(link((&here.inbox, b"1.a", NONE), (&there.a, b"8.y")).expect("copied"));
        assert_eq!(there.files()[".A/tmp/8.y"], "text");
        assert_eq!(here.names(), ["new/1.a"]);
    }

    /// The link outlives the message, and has its place after a crash at any step.
    #[test]
    fn a_link_is_kept_until_it_has_a_place() {
        let maildir = Maildir::with(&["cur/1.a:2,S"]);
        maildir.put(".A/tmp/9.z", "half of an earlier try");
        let (from, to) = ((&maildir.inbox, &b"1.a"[..], NONE), (&maildir.a, &b"9.z"[..]));
        for _ in 0..2 {
            assert!(link(from, to).expect("linked"));
        }
        assert!(!link((&maildir.inbox, b"2.b", NONE), (&maildir.a, b"8.y")).expect("looked"));
        remove(&maildir.inbox, b"1.a", NONE).expect("removed");
        assert_eq!(maildir.files(), BTreeMap::from([(".A/tmp/9.z".into(), "text".into())]));
        for _ in 0..2 {
            let placed = place((&maildir.a, b"9.z"), (&maildir.a, b"9.z"), NONE, Try::Again)
                .expect("placed");
            assert_eq!(placed, Some(at(Sub::New, "9.z")));
        }
        // Half of the last step where it takes two.
        fs::hard_link(maildir.path(".A/new/9.z"), maildir.path(".A/tmp/9.z")).expect("linked");
        place((&maildir.a, b"9.z"), (&maildir.a, b"9.z"), NONE, Try::Again)
            .expect("placed")
            .expect("there");
        assert_eq!(maildir.names(), [".A/new/9.z"]);
        assert_eq!(
            place((&maildir.a, b"7.x"), (&maildir.a, b"7.x"), NONE, Try::Again).expect("looked"),
            None
        );
    }

    #[test]
    fn a_message_is_imported_once() {
        for (flags, file) in [(NONE, ".A/new/9.z"), (READ, ".A/cur/9.z:2,S")] {
            let maildir = Maildir::new();
            maildir.put(".A/tmp/9.z", "half of an earlier try, which was longer");
            for (attempt, text) in [(Try::First, "text"), (Try::Again, "not read")] {
                let received = 1_700_000_000_123;
                let to = (&maildir.a, &b"9.z"[..]);
                let there = import(to, text.as_bytes(), flags, received, attempt).expect("written");
                assert_eq!(there.flags(), flags);
                assert_eq!(maildir.files(), BTreeMap::from([(file.to_owned(), "text".into())]));
                let found = fs::metadata(maildir.path(file)).expect("it is there");
                let written = UNIX_EPOCH + Duration::from_millis(received);
                assert_eq!(found.modified().ok(), Some(written));
                assert_eq!(found.mode() & 0o777, 0o600);
            }
            // A reader has changed it between the two tries.
            fs::rename(maildir.path(file), maildir.path(".A/cur/9.z:2,RT")).expect("renamed");
            import((&maildir.a, b"9.z"), &b"no"[..], flags, 0, Try::Again).expect("it is there");
            assert_eq!(maildir.names(), [".A/cur/9.z:2,RT"]);
        }
    }

    #[test]
    fn an_import_that_breaks_off_leaves_nothing() {
        struct Broken;
        impl Read for Broken {
            fn read(&mut self, _: &mut [u8]) -> io::Result<usize> {
                Err(io::ErrorKind::StorageFull.into())
            }
        }
        let maildir = Maildir::new();
        let message = b"text".chain(Broken);
        let error = import((&maildir.a, b"9.z"), message, NONE, 0, Try::First).expect_err("broken");
        assert_eq!(error.kind(), io::ErrorKind::StorageFull);
        assert!(maildir.names().is_empty());
    }

    #[test]
    fn nothing_is_written_through_a_link() {
        let maildir = Maildir::new();
        let victim = maildir.path("victim");
        fs::write(&victim, "precious").expect("written");
        symlink(&victim, maildir.path(".A/tmp/9.z")).expect("a link");
        symlink(&victim, maildir.path(".A/new/9.z")).expect("a link");
        import((&maildir.a, b"9.z"), &b"text"[..], READ, 0, Try::First).expect("written");
        assert_eq!(fs::read_to_string(&victim).expect("it is there"), "precious");
        import((&maildir.a, b"9.z"), &b"text"[..], READ, 0, Try::Again).expect("there");
        fs::remove_file(maildir.path(".A/cur/9.z:2,S")).expect("removed");
        import((&maildir.a, b"9.z"), &b"text"[..], NONE, 0, Try::First).expect_err("in the way");
        assert_eq!(fs::read_to_string(&victim).expect("it is there"), "precious");
    }

    #[test]
    fn a_message_is_removed_once() {
        let maildir = Maildir::with(&["cur/1.a:2,S", "new/2.b", "cur/3.c:2,x"]);
        for (base, hint) in [(&b"1.a"[..], NONE), (b"2.b", READ), (b"3.c", READ)] {
            assert!(remove(&maildir.inbox, base, hint).expect("removed"));
            assert!(!remove(&maildir.inbox, base, hint).expect("looked"));
        }
        assert!(maildir.names().is_empty());
    }

    /// A folder without `new`, `cur` or `tmp` gets them when they are needed.
    #[test]
    fn missing_directories_are_made() {
        let maildir = Maildir::with(&["cur/1.a:2,S"]);
        for sub in ["new", "cur", "tmp"] {
            fs::remove_dir(maildir.path(&format!(".A/{sub}"))).expect("removed");
        }
        assert_eq!(locate(&maildir.a, b"1.a", NONE).expect("located"), None);
        move_to((&maildir.inbox, b"1.a", READ), (&maildir.a, b"1.a"), |_| READ, Try::First)
            .expect("moved");
        import((&maildir.a, b"2.b"), &b"text"[..], NONE, 0, Try::First).expect("written");
        assert_eq!(maildir.names(), [".A/cur/1.a:2,S", ".A/new/2.b"]);
    }

    /// Another program renames the message all the time.
    #[test]
    fn a_message_that_is_renamed_meanwhile_is_found_again() {
        let maildir = Maildir::with(&["cur/1.a:2,"]);
        let stop = AtomicBool::new(false);
        std::thread::scope(|scope| {
            scope.spawn(|| {
                let names = ["cur/1.a:2,a", "cur/1.a:2,b"].map(|file| maildir.path(file));
                let mut turn = 0;
                while !stop.load(Ordering::Relaxed) {
                    // It is gone when the other thread has removed it, and has another name when that has set flags.
                    let _ = fs::rename(&names[turn % 2], &names[(turn + 1) % 2]);
                    turn += 1;
                }
            });
            for turn in 0..200 {
                let flags = if turn % 2 == 0 { READ } else { NONE };
                // A reading can miss a file that is renamed while it goes on; then it is to be repeated.
                match set_flags(&maildir.inbox, b"1.a", NONE, |_| flags) {
                    Ok(_) => {}
                    Err(error) => assert!(error.to_string().contains("all the time"), "{error}"),
                }
            }
            stop.store(true, Ordering::Relaxed);
        });
        set_flags(&maildir.inbox, b"1.a", NONE, |_| READ).expect("set").expect("it is there");
        assert_eq!(maildir.files().values().collect::<Vec<_>>(), ["text"]);
    }
}
