//! Reading a folder: which messages are in its `new` and `cur`, with 16 bytes for each.
//!
//! A reading never opens a file, so nothing that lies in a Maildir can make it wait. A message whose base name occurs more than once
//! counts once, and the file in `cur` before that in `new`. `new` is read before `cur`, because that is the way of messages: one that
//! is moved on meanwhile is seen twice and not missed. One that goes the other way, or is renamed within a directory, can be missed by a
//! reading: only a message that two readings miss is gone.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::fmt;
use std::io;
use std::ops::ControlFlow;
use std::os::fd::AsFd;

use rustix::fs::FileType;
use twox_hash::XxHash3_64;

use super::folders::{Folder, Sub, kind_at};
use super::names::{self, Flags, Name};

/// What was passed over in a folder, because it is no message.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Skipped {
    pub(super) directories: usize,
    /// Symbolic links. They are not followed.
    pub(super) links: usize,
    /// Pipes, sockets and devices.
    pub(super) special: usize,
    /// Files whose names no message has.
    pub(super) names: usize,
}

impl Skipped {
    pub(super) fn is_empty(self) -> bool {
        self == Self::default()
    }
}

impl fmt::Display for Skipped {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let counted = [
            (self.directories, "directories"),
            (self.links, "symbolic links"),
            (self.special, "pipes, sockets or devices"),
            (self.names, "files with other names"),
        ];
        let some: Vec<_> = counted.into_iter().filter(|(count, _)| *count > 0).collect();
        for (n, (count, what)) in some.iter().enumerate() {
            write!(f, "{}{count} {what}", if n == 0 { "" } else { ", " })?;
        }
        Ok(())
    }
}

/// Calls a function with each file in `new`, then in `cur`, until it breaks. What is no message is counted.
pub(super) fn each(
    folder: &Folder,
    mut see: impl FnMut(Sub, Name<'_>) -> ControlFlow<()>,
) -> io::Result<Skipped> {
    let mut skipped = Skipped::default();
    for sub in [Sub::New, Sub::Cur] {
        let Some(dir) = folder.sub(sub)? else { continue };
        for entry in rustix::fs::Dir::read_from(&dir)? {
            let entry = entry?;
            let bytes = entry.file_name().to_bytes();
            if matches!(bytes, b"." | b"..") {
                continue;
            }
            let name = match kind_at(dir.as_fd(), bytes, entry.file_type())? {
                None => continue,
                Some(FileType::RegularFile) => Name::parse(bytes),
                Some(FileType::Directory) => {
                    skipped.directories += 1;
                    continue;
                }
                Some(FileType::Symlink) => {
                    skipped.links += 1;
                    continue;
                }
                Some(_) => {
                    skipped.special += 1;
                    continue;
                }
            };
            let Some(name) = name else {
                skipped.names += 1;
                continue;
            };
            if see(sub, name).is_break() {
                return Ok(skipped);
            }
        }
    }
    Ok(skipped)
}

/// A message in a [`Listing`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Item {
    hash: u64,
    sub: Sub,
    flags: Flags,
    known: Known,
}

/// Whether the store has a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Known {
    Yes,
    No,
}

/// Where a message lies and which flags it has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Seen {
    pub(super) sub: Sub,
    pub(super) flags: Flags,
}

/// The messages of a folder at one time, by hashes of their base names. The hash is another one for each listing, so two names that have
/// the same in one listing have different ones in the next.
#[derive(Debug)]
pub(super) struct Listing {
    seed: u64,
    items: Vec<Item>,
    unknown: usize,
    pub(super) skipped: Skipped,
    /// Files beside another one with the same base name.
    pub(super) twins: usize,
    /// There is no `cur`. What was in it is nowhere, and not known to be gone.
    pub(super) partial: bool,
}

impl Listing {
    /// Reads a folder.
    pub(super) fn read(folder: &Folder) -> io::Result<Self> {
        let seed = getrandom::u64()?;
        let mut items = Vec::new();
        let skipped = each(folder, |sub, name| {
            let hash = XxHash3_64::oneshot_with_seed(seed, name.base());
            items.push(Item { hash, sub, flags: name.flags(), known: Known::No });
            ControlFlow::Continue(())
        })?;
        items.sort_unstable_by_key(|item| (item.hash, Reverse(item.sub), Reverse(item.flags)));
        let files = items.len();
        items.dedup_by_key(|item| item.hash);
        items.shrink_to_fit();
        let unknown = items.len();
        let partial = folder.sub(Sub::Cur)?.is_none();
        Ok(Self { seed, items, unknown, skipped, twins: files - unknown, partial })
    }

    /// That of a folder that is not there.
    pub(super) fn empty() -> Self {
        let (items, skipped) = (Vec::new(), Skipped::default());
        Self { seed: 0, items, unknown: 0, skipped, twins: 0, partial: false }
    }

    /// How many messages there are.
    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.items.len()
    }

    /// How many of them were not [known](Self::know).
    pub(super) fn unknown(&self) -> usize {
        self.unknown
    }

    fn place(&self, base: &[u8]) -> Option<usize> {
        let hash = XxHash3_64::oneshot_with_seed(self.seed, base);
        self.items.binary_search_by_key(&hash, |item| item.hash).ok()
    }

    /// The message with a base name.
    pub(super) fn get(&self, base: &[u8]) -> Option<Seen> {
        let item = self.items[self.place(base)?];
        Some(Seen { sub: item.sub, flags: item.flags })
    }

    /// Notes that the store has a message. Where it lies, if it is there.
    pub(super) fn know(&mut self, base: &[u8]) -> Option<Seen> {
        let place = self.place(base)?;
        let item = &mut self.items[place];
        self.unknown -= usize::from(item.known == Known::No);
        item.known = Known::Yes;
        Some(Seen { sub: item.sub, flags: item.flags })
    }

    /// Whether this file is that of a message in the listing which the store does not have.
    pub(super) fn is_unknown(&self, sub: Sub, name: Name<'_>) -> bool {
        self.place(name.base()).is_some_and(|place| {
            let item = self.items[place];
            item.known == Known::No && (item.sub, item.flags) == (sub, name.flags())
        })
    }
}

/// The newest of many messages, by the times in front of their names. It holds as many as are asked for.
#[derive(Debug)]
pub(super) struct Newest {
    most: usize,
    found: BinaryHeap<Reverse<(u64, Sub, Vec<u8>)>>,
}

impl Newest {
    pub(super) fn new(most: usize) -> Self {
        Self { most, found: BinaryHeap::with_capacity(most + 1) }
    }

    pub(super) fn offer(&mut self, sub: Sub, file: &[u8]) {
        let seconds = names::seconds(file);
        let full = self.found.len() >= self.most;
        if full && self.found.peek().is_none_or(|Reverse((oldest, ..))| *oldest > seconds) {
            return;
        }
        self.found.push(Reverse((seconds, sub, file.to_owned())));
        if full {
            self.found.pop();
        }
    }

    /// Their directories and the names of their files, the newest first.
    pub(super) fn into_files(self) -> Vec<(Sub, Vec<u8>)> {
        let sorted = self.found.into_sorted_vec();
        sorted.into_iter().map(|Reverse((_, sub, file))| (sub, file)).collect()
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::ffi::OsStrExt;
    use std::os::unix::fs::symlink;
    use std::os::unix::net::UnixListener;
    use std::path::Path;

    use rustix::fs::{CWD, Mode, mknodat};
    use tempfile::TempDir;

    use super::super::folders::{Dir, Root};
    use super::*;

    fn maildir(files: &[&str]) -> (TempDir, Folder) {
        let home = TempDir::new().expect("a directory");
        for sub in ["new", "cur", "tmp"] {
            fs::create_dir(home.path().join(sub)).expect("made");
        }
        for file in files {
            fs::write(home.path().join(file), file).expect("written");
        }
        let folder = Root::open(home.path()).and_then(|root| root.folder(&Dir::ROOT));
        (home, folder.expect("opened"))
    }

    fn fifo(path: &Path) {
        mknodat(CWD, path, FileType::Fifo, Mode::RUSR | Mode::WUSR, 0).expect("made");
    }

    #[test]
    fn a_message_takes_sixteen_bytes() {
        assert_eq!(size_of::<Item>(), 16);
    }

    #[test]
    fn messages_are_listed_once_and_as_they_are_in_cur() {
        let files = ["new/1.a", "new/2.b", "cur/2.b:2,S", "cur/3.c", "cur/4.d:2,S", "cur/4.d:2,FS"];
        let (_home, folder) = maildir(&files);
        let mut listing = Listing::read(&folder).expect("read");
        assert_eq!((listing.len(), listing.twins, listing.unknown()), (4, 2, 4));
        let seen = |sub, flags| Some(Seen { sub, flags });
        assert_eq!(listing.get(b"1.a"), seen(Sub::New, Flags::NONE));
        assert_eq!(listing.get(b"2.b"), seen(Sub::Cur, Flags::READ));
        assert_eq!(listing.get(b"3.c"), seen(Sub::Cur, Flags::NONE));
        assert_eq!(listing.get(b"4.d"), seen(Sub::Cur, Flags::READ.with(Flags::FLAGGED)));
        assert_eq!(listing.get(b"5.e"), None);
        assert_eq!(listing.know(b"5.e"), None);
        for _ in 0..2 {
            assert_eq!(listing.know(b"1.a"), seen(Sub::New, Flags::NONE));
            assert_eq!(listing.unknown(), 3);
        }
        let mut unknown = Vec::new();
        each(&folder, |sub, name| {
            if listing.is_unknown(sub, name) {
                unknown.push((sub, name.base().to_owned(), name.flags()));
            }
            ControlFlow::Continue(())
        })
        .expect("read");
        unknown.sort();
        let found = |base: &[u8], flags| (Sub::Cur, base.to_owned(), flags);
        assert_eq!(
            unknown,
            [
                found(b"2.b", Flags::READ),
                found(b"3.c", Flags::NONE),
                found(b"4.d", Flags::READ.with(Flags::FLAGGED))
            ]
        );
    }

    /// Nothing that is no file with a message's name is a message, and none of it makes the reading wait.
    #[test]
    fn what_is_no_message_is_counted() {
        let (home, folder) = maildir(&["new/1.a", "cur/.hidden", "cur/:2,S"]);
        fs::create_dir(home.path().join("cur/2.directory")).expect("made");
        fifo(&home.path().join("new/3.pipe"));
        fifo(&home.path().join("cur/3.pipe:2,S"));
        let _listener = UnixListener::bind(home.path().join("cur/4.socket")).expect("bound");
        symlink(home.path().join("new/1.a"), home.path().join("cur/5.link:2,S")).expect("a link");
        symlink("nowhere", home.path().join("cur/6.link:2,S")).expect("a link");
        let strange = home.path().join("cur").join(std::ffi::OsStr::from_bytes(b"7.\xff\n:2,S"));
        fs::write(strange, "x").expect("written");
        let listing = Listing::read(&folder).expect("read");
        assert_eq!(listing.len(), 2);
        assert_eq!(listing.get(b"7.\xff\n").map(|seen| seen.flags), Some(Flags::READ));
        assert_eq!(listing.skipped, Skipped { directories: 1, links: 2, special: 3, names: 2 });
        assert_eq!(
            listing.skipped.to_string(),
            "1 directories, 2 symbolic links, 3 pipes, sockets or devices, 2 files with other names"
        );
        assert!(!listing.skipped.is_empty() && Skipped::default().is_empty());
        assert_eq!(Skipped { links: 1, ..Skipped::default() }.to_string(), "1 symbolic links");
    }

    #[test]
    fn a_folder_may_lack_directories_and_a_reading_may_end_early() {
        let (home, folder) = maildir(&["new/1.a", "new/2.b", "cur/3.c"]);
        let mut seen = 0;
        each(&folder, |_, _| {
            seen += 1;
            ControlFlow::Break(())
        })
        .expect("read");
        assert_eq!(seen, 1);
        fs::remove_dir_all(home.path().join("new")).expect("removed");
        assert_eq!(Listing::read(&folder).expect("read").len(), 1);
        fs::remove_dir_all(home.path().join("cur")).expect("removed");
        assert_eq!(Listing::read(&folder).expect("read").len(), 0);
    }

    #[test]
    fn the_newest_are_found_among_many() {
        let mut newest = Newest::new(3);
        for number in [5, 1, 9, 7, 3, 8, 2] {
            newest.offer(Sub::Cur, format!("{number}.x:2,S").as_bytes());
        }
        newest.offer(Sub::New, b"no-time");
        let files: Vec<_> =
            newest.into_files().into_iter().map(|(_, file)| String::from_utf8(file)).collect();
        assert_eq!(files, ["9.x:2,S", "8.x:2,S", "7.x:2,S"].map(|file| Ok(file.to_owned())));
        assert_eq!(Newest::new(3).into_files(), []);
        let mut none = Newest::new(0);
        none.offer(Sub::New, b"1.a");
        assert_eq!(none.into_files(), []);
    }
}
