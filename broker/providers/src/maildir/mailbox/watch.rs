//! Waiting for changes that other programs make in a Maildir.
//!
//! The kernel tells of every name that is made, renamed or removed in `new`, `cur` and the root (inotify). That says where to look, and is
//! never believed without a look. Where the kernel tells nothing, times of directories are compared: of folders for which it has no watch
//! left, and of all folders on file systems that other hosts can change.
//!
//! A root that was removed, replaced or unmounted is said to be so. It is no change of its messages.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::ffi::CStr;
use std::io;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::inotify::{self, CreateFlags, ReadFlags, WatchFlags};
use rustix::fs::{fstat, fstatfs};
use rustix::io::Errno;

use super::folders::{Dir, Root, Sub};
use super::names::{Base, Name};
use crate::mailbox::{Standing, Waker};

/// How often folders without a watch are looked at.
const POLL: Duration = Duration::from_secs(10);

/// How often it is looked whether the root is there, and whether other hosts have changed folders.
const SLOW_POLL: Duration = Duration::from_secs(60);

/// A directory that was changed so shortly ago may be changed again without another time. File systems that other hosts have keep
/// whole seconds.
const GRAIN: i64 = 2;

/// The most names that are kept of one folder. If more have changed, it is read whole.
const MAX_NAMES: usize = 256;

/// The most names that are kept of all folders.
const MAX_ALL_NAMES: usize = 4096;

/// File systems that no other host changes (`statfs(2)`): ext, XFS, Btrfs, tmpfs, F2FS, ZFS, bcachefs, overlayfs, ramfs, `ReiserFS`, JFS.
const LOCAL: [u64; 11] = [
    0xEF53,
    0x5846_5342,
    0x9123_683E,
    0x0102_1994,
    0xF2F5_2010,
    0x2FC1_2FC1,
    0xCA45_1A4E,
    0x794C_7630,
    0x8584_58F6,
    0x5265_4973,
    0x3153_464A,
];

/// Messages by their base names, and where the file of each was put last, unless it was taken away.
pub(super) type Names = BTreeMap<Base, Option<(Sub, Vec<u8>)>>;

/// What may have changed in a folder.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Changed {
    /// These messages.
    Names(Names),
    /// Any.
    All,
}

/// What a wait has seen.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct Seen {
    /// Folders with what may have changed in them.
    pub(super) changed: BTreeMap<Dir, Changed>,
    /// Folders may have been made, renamed or removed.
    pub(super) folders: bool,
    /// The kernel could not keep up: anything may have changed.
    pub(super) everything: bool,
    /// The directory that was opened is not at its path. Nothing else is said then.
    pub(super) lost: Option<Standing>,
    /// [`Waker::wake`] was called.
    pub(super) woken: bool,
    /// How many names were kept.
    kept: usize,
}

impl Seen {
    fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    /// Whether nothing may have changed.
    pub(super) fn is_quiet(&self) -> bool {
        self.changed.is_empty() && !self.folders && !self.everything && self.lost.is_none()
    }

    /// Adds what was seen later.
    pub(super) fn merge(&mut self, later: Self) {
        for (dir, changed) in later.changed {
            match changed {
                Changed::All => self.all_of(&dir),
                Changed::Names(names) => {
                    for (base, at) in names {
                        self.one_of(&dir, &base, at);
                    }
                }
            }
        }
        self.folders |= later.folders;
        self.everything |= later.everything;
        self.lost = later.lost.or(self.lost);
        self.woken |= later.woken;
    }

    fn all_of(&mut self, dir: &Dir) {
        self.changed.insert(dir.clone(), Changed::All);
    }

    fn one_of(&mut self, dir: &Dir, base: &[u8], at: Option<(Sub, Vec<u8>)>) {
        let room = self.kept < MAX_ALL_NAMES;
        let changed =
            self.changed.entry(dir.clone()).or_insert_with(|| Changed::Names(BTreeMap::new()));
        let Changed::Names(names) = changed else { return };
        if names.contains_key(base) || (names.len() < MAX_NAMES && room) {
            self.kept += usize::from(names.insert(base.to_owned(), at).is_none());
        } else {
            *changed = Changed::All;
        }
    }
}

/// What a watch of the kernel is for.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Watched {
    Root,
    /// The directory that the root lies in.
    Above,
    Sub(Dir, Sub),
}

/// The times of the last changes of a folder's `new` and `cur`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Stamps([Option<(i64, i64)>; 2]);

impl Stamps {
    fn of(root: &Root, dir: &Dir) -> Option<Self> {
        let folder = root.folder(dir).ok()?;
        let stamp = |sub| {
            let found = fstat(folder.sub(sub).ok()??).ok()?;
            Some((found.st_mtime, found.st_mtime_nsec))
        };
        Some(Self([stamp(Sub::New), stamp(Sub::Cur)]))
    }

    /// Whether a later change would have another time.
    fn is_certain(self) -> bool {
        let now = i64::try_from(super::since_1970().as_secs()).unwrap_or(i64::MAX);
        self.0.into_iter().flatten().all(|(seconds, _)| seconds + GRAIN < now)
    }
}

/// A folder whose times are compared.
#[derive(Debug, Clone, Copy)]
struct Polled {
    stamps: Option<Stamps>,
    certain: bool,
}

impl Polled {
    fn now(root: &Root, dir: &Dir) -> Self {
        let stamps = Stamps::of(root, dir);
        Self { stamps, certain: stamps.is_some_and(Stamps::is_certain) }
    }

    /// Looks again. Whether something may have changed since the last time.
    fn look(&mut self, root: &Root, dir: &Dir) -> bool {
        let stamps = Stamps::of(root, dir);
        let same = stamps == self.stamps;
        // Times that were too fresh the last time are old by now, unless the clocks of two hosts differ; they are not asked again.
        let changed = !same || !self.certain;
        let certain = same || stamps.is_some_and(Stamps::is_certain);
        *self = Self { stamps, certain };
        changed
    }
}

/// Whether other hosts can change the files.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Shared {
    Yes,
    No,
}

impl Shared {
    fn of(root: &Root) -> Self {
        match fstatfs(root.fd()) {
            Ok(found) if LOCAL.contains(&(found.f_type as u64 & 0xFFFF_FFFF)) => Self::No,
            Ok(_) | Err(_) => Self::Yes,
        }
    }
}

/// Watches a Maildir.
#[derive(Debug)]
pub(super) struct Watcher {
    inotify: Option<OwnedFd>,
    waker: Waker,
    watched: HashMap<i32, Watched>,
    /// The watches of a folder, and which directories they are of.
    watches: HashMap<Dir, Vec<(Sub, i32)>>,
    /// Folders that the kernel does not tell of.
    polled: BTreeMap<Dir, Polled>,
    /// All folders, if other hosts can change them.
    shared: BTreeMap<Dir, Polled>,
    is_shared: Shared,
    /// That of the root in its directory.
    name: Vec<u8>,
    next_poll: Instant,
    next_slow_poll: Instant,
    /// That watches are missing was said.
    said: bool,
}

const FOLDER_EVENTS: WatchFlags = WatchFlags::CREATE
    .union(WatchFlags::MOVED_TO)
    .union(WatchFlags::MOVED_FROM)
    .union(WatchFlags::DELETE)
    .union(WatchFlags::CLOSE_WRITE)
    .union(WatchFlags::DELETE_SELF)
    .union(WatchFlags::MOVE_SELF)
    .union(WatchFlags::ONLYDIR);

const ROOT_EVENTS: WatchFlags = WatchFlags::CREATE
    .union(WatchFlags::MOVED_TO)
    .union(WatchFlags::MOVED_FROM)
    .union(WatchFlags::DELETE)
    .union(WatchFlags::DELETE_SELF)
    .union(WatchFlags::MOVE_SELF)
    .union(WatchFlags::ONLYDIR);

const ABOVE_EVENTS: WatchFlags = WatchFlags::CREATE
    .union(WatchFlags::MOVED_TO)
    .union(WatchFlags::MOVED_FROM)
    .union(WatchFlags::DELETE)
    .union(WatchFlags::ONLYDIR);

impl Watcher {
    /// Begins to watch the root. What changes from now on is seen; the folders are named by [`watch`](Self::watch).
    pub(super) fn new(root: &Root) -> io::Result<Self> {
        Self::of(root, Shared::of(root))
    }

    fn of(root: &Root, is_shared: Shared) -> io::Result<Self> {
        let now = Instant::now();
        let mut watcher = Self {
            inotify: inotify::init(CreateFlags::CLOEXEC | CreateFlags::NONBLOCK).ok(),
            waker: Waker::new()?,
            watched: HashMap::new(),
            watches: HashMap::new(),
            polled: BTreeMap::new(),
            shared: BTreeMap::new(),
            is_shared,
            name: root.path().file_name().unwrap_or_default().as_bytes().to_owned(),
            next_poll: now + POLL,
            next_slow_poll: now + SLOW_POLL,
            said: false,
        };
        let above = root.path().parent().filter(|above| !above.as_os_str().is_empty());
        watcher.add_path(above.unwrap_or(Path::new(".")), ABOVE_EVENTS, Watched::Above);
        let added = watcher.add(root.fd(), root.path(), ROOT_EVENTS, Watched::Root);
        if added.is_none() {
            watcher.say(&Dir::ROOT);
        }
        Ok(watcher)
    }

    /// A handle that ends a wait.
    pub(super) fn waker(&self) -> Waker {
        self.waker.clone()
    }

    /// Watches these folders and no others. What changed in one before it was watched is not seen: read it afterwards. The folders that are
    /// watched from now on, and were not.
    pub(super) fn watch<'a>(
        &mut self,
        root: &Root,
        dirs: impl IntoIterator<Item = &'a Dir>,
    ) -> Vec<Dir> {
        let dirs: BTreeSet<&Dir> = dirs.into_iter().collect();
        let old: Vec<_> = self.watches.keys().filter(|dir| !dirs.contains(dir)).cloned().collect();
        for dir in &old {
            self.forget(dir);
        }
        self.polled.retain(|dir, _| dirs.contains(dir));
        self.shared.retain(|dir, _| dirs.contains(dir));
        let mut fresh = Vec::new();
        for dir in dirs {
            if self.watch_one(root, dir) {
                fresh.push(dir.clone());
            }
        }
        fresh
    }

    /// Whether the folder was not watched before, or its directories are others.
    fn watch_one(&mut self, root: &Root, dir: &Dir) -> bool {
        let was_known = self.watches.contains_key(dir) || self.polled.contains_key(dir);
        let before = self.watches.remove(dir).unwrap_or_default();
        let mut now = Vec::new();
        let folder = root.folder(dir);
        for sub in [Sub::New, Sub::Cur] {
            let opened = folder.as_ref().ok().and_then(|folder| folder.sub(sub).ok().flatten());
            let Some(opened) = opened else { continue };
            let path = root.path_of(dir).join(sub.name());
            let added =
                self.add(opened.as_fd(), &path, FOLDER_EVENTS, Watched::Sub(dir.clone(), sub));
            now.extend(added.map(|watch| (sub, watch)));
        }
        for (_, watch) in &before {
            if !now.iter().any(|(_, kept)| kept == watch) {
                self.drop_watch(*watch);
            }
        }
        let is_same = before == now;
        let complete = now.len() == 2;
        self.watches.insert(dir.clone(), now);
        if complete {
            self.polled.remove(dir);
        } else {
            // One that lacks a directory is polled until it has it.
            self.polled.entry(dir.clone()).or_insert_with(|| Polled::now(root, dir));
            if folder.is_ok_and(|folder| {
                [Sub::New, Sub::Cur].iter().all(|s| matches!(folder.sub(*s), Ok(Some(_))))
            }) {
                self.say(dir);
            }
        }
        if self.is_shared == Shared::Yes {
            self.shared.entry(dir.clone()).or_insert_with(|| Polled::now(root, dir));
        }
        !was_known || !is_same
    }

    fn forget(&mut self, dir: &Dir) {
        for (sub, watch) in self.watches.remove(dir).unwrap_or_default() {
            // The directory may be another folder's by now.
            if self.watched.get(&watch) == Some(&Watched::Sub(dir.clone(), sub)) {
                self.drop_watch(watch);
            }
        }
    }

    fn drop_watch(&mut self, watch: i32) {
        self.watched.remove(&watch);
        if let Some(inotify) = &self.inotify {
            let _ = inotify::remove_watch(inotify, watch);
        }
    }

    /// Watches an open directory: by the kernel's name for it, so that no link is followed, or by its path where `/proc` is missing.
    fn add(
        &mut self,
        dir: BorrowedFd<'_>,
        path: &Path,
        events: WatchFlags,
        what: Watched,
    ) -> Option<i32> {
        let by_descriptor = PathBuf::from(format!("/proc/self/fd/{}", dir.as_raw_fd()));
        self.add_path(&by_descriptor, events, what.clone())
            .or_else(|| self.add_path(path, events | WatchFlags::DONT_FOLLOW, what))
    }

    fn add_path(&mut self, path: &Path, events: WatchFlags, what: Watched) -> Option<i32> {
        let watch = inotify::add_watch(self.inotify.as_ref()?, path, events).ok()?;
        self.watched.insert(watch, what);
        Some(watch)
    }

    /// Says once that the kernel has no watches left.
    fn say(&mut self, dir: &Dir) {
        if !std::mem::replace(&mut self.said, true) {
            tracing::warn!(
                folder = %dir,
                "the kernel has no watch left for a folder: such folders are looked at every {} s; raise \
                 fs.inotify.max_user_watches, or fs.inotify.max_user_instances",
                POLL.as_secs()
            );
        }
    }

    /// Waits until something may have changed, but no longer than a time.
    pub(super) fn wait(&mut self, root: &Root, most: Option<Duration>) -> io::Result<Seen> {
        let end = most.map(|most| Instant::now() + most);
        loop {
            let until = end.map_or(self.next_due(), |end| end.min(self.next_due()));
            self.sleep(until)?;
            let seen = self.look(root, Instant::now())?;
            if !seen.is_empty() || end.is_some_and(|end| Instant::now() >= end) {
                return Ok(seen);
            }
        }
    }

    fn next_due(&self) -> Instant {
        if self.polled.is_empty() {
            self.next_slow_poll
        } else {
            self.next_poll.min(self.next_slow_poll)
        }
    }

    fn sleep(&self, until: Instant) -> io::Result<()> {
        let mut fds = vec![PollFd::new(&self.waker, PollFlags::IN)];
        fds.extend(self.inotify.as_ref().map(|inotify| PollFd::new(inotify, PollFlags::IN)));
        loop {
            let rest = until.saturating_duration_since(Instant::now());
            let timeout = Timespec {
                tv_sec: i64::try_from(rest.as_secs()).unwrap_or(i64::MAX),
                tv_nsec: rest.subsec_nanos().into(),
            };
            match poll(&mut fds, Some(&timeout)) {
                Ok(_) => return Ok(()),
                Err(Errno::INTR) => {}
                Err(error) => return Err(error.into()),
            }
        }
    }

    /// What may have changed by now, without waiting.
    pub(super) fn look(&mut self, root: &Root, now: Instant) -> io::Result<Seen> {
        let mut seen = Seen { woken: self.waker.was_woken(), ..Seen::default() };
        let mut look_at_root = self.read_events(&mut seen)?;
        if now >= self.next_poll {
            self.next_poll = now + POLL;
            for (dir, polled) in &mut self.polled {
                if polled.look(root, dir) {
                    seen.changed.insert(dir.clone(), Changed::All);
                    // It may be complete by now.
                    seen.folders = true;
                }
            }
        }
        if now >= self.next_slow_poll {
            self.next_slow_poll = now + SLOW_POLL;
            look_at_root = true;
            for (dir, polled) in &mut self.shared {
                if polled.look(root, dir) {
                    seen.changed.insert(dir.clone(), Changed::All);
                }
            }
            // The kernel may not tell of folders that are made.
            let is_told = self.watched.values().any(|watched| *watched == Watched::Root);
            seen.folders |= self.is_shared == Shared::Yes || !is_told;
        }
        let has_news = !seen.changed.is_empty() || seen.folders || seen.everything;
        if look_at_root || has_news {
            let standing = root.standing();
            if standing != Standing::There {
                return Ok(Seen { lost: Some(standing), woken: seen.woken, ..Seen::default() });
            }
        }
        Ok(seen)
    }

    /// Reads what the kernel tells. Whether the root may not be where it was.
    fn read_events(&mut self, seen: &mut Seen) -> io::Result<bool> {
        let Some(inotify) = self.inotify.take() else { return Ok(false) };
        let read = self.read_from(&inotify, seen);
        self.inotify = Some(inotify);
        read
    }

    fn read_from(&mut self, inotify: &OwnedFd, seen: &mut Seen) -> io::Result<bool> {
        let mut look_at_root = false;
        let mut buffer = [MaybeUninit::uninit(); 16 << 10];
        let mut events = inotify::Reader::new(inotify, &mut buffer);
        loop {
            let event = match events.next() {
                Ok(event) => event,
                Err(Errno::AGAIN) => return Ok(look_at_root),
                Err(Errno::INTR) => continue,
                Err(error) => return Err(error.into()),
            };
            let what = event.events();
            if what.contains(ReadFlags::QUEUE_OVERFLOW) {
                seen.everything = true;
                look_at_root = true;
                continue;
            }
            let name = event.file_name().map(CStr::to_bytes).unwrap_or_default();
            let gone = ReadFlags::DELETE_SELF | ReadFlags::MOVE_SELF | ReadFlags::UNMOUNT;
            let is_gone = what.intersects(gone | ReadFlags::IGNORED);
            match self.watched.get(&event.wd()) {
                // Of a watch that was given up.
                None => {}
                Some(Watched::Above) => look_at_root |= name == self.name || is_gone,
                Some(Watched::Root) if is_gone => look_at_root = true,
                Some(Watched::Root) => {
                    let is_own =
                        [Sub::New, Sub::Cur].iter().any(|sub| sub.name().as_bytes() == name);
                    seen.folders |= is_own || Dir::of(name).is_some();
                }
                Some(Watched::Sub(dir, _)) if is_gone => {
                    seen.all_of(dir);
                    seen.folders = true;
                }
                Some(Watched::Sub(dir, sub)) => {
                    if let Some(parsed) = Name::parse(name) {
                        let away = what.intersects(ReadFlags::MOVED_FROM | ReadFlags::DELETE);
                        let at = (!away).then(|| (*sub, name.to_owned()));
                        seen.one_of(dir, parsed.base(), at);
                    }
                }
            }
            if what.contains(ReadFlags::IGNORED) {
                self.watched.remove(&event.wd());
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::fs::{self, File};
    use std::thread;

    use tempfile::TempDir;

    use super::super::names::{Flags, in_cur};
    use super::*;

    fn made(path: &Path) {
        for sub in ["new", "cur", "tmp"] {
            fs::create_dir_all(path.join(sub)).expect("made");
        }
    }

    struct World {
        home: TempDir,
        root: Root,
        watcher: Watcher,
    }

    impl World {
        /// A Maildir with an Inbox and a folder, both watched.
        fn new(is_shared: Shared) -> Self {
            let home = TempDir::new().expect("a directory");
            let path = home.path().join("Maildir");
            made(&path);
            made(&path.join(".A"));
            let root = Root::open(&path).expect("opened");
            let watcher = Watcher::of(&root, is_shared).expect("it watches");
            let mut world = Self { home, root, watcher };
            assert_eq!(world.watch().len(), 2);
            world
        }

        fn watch(&mut self) -> Vec<Dir> {
            let folders = self.root.folders().expect("listed");
            self.watcher.watch(&self.root, folders.found.iter().map(|found| &found.dir))
        }

        fn path(&self, name: &str) -> PathBuf {
            self.root.path().join(name)
        }

        fn look(&mut self) -> Seen {
            self.watcher.look(&self.root, Instant::now()).expect("it looks")
        }

        fn look_after(&mut self, time: Duration) -> Seen {
            self.watcher.look(&self.root, Instant::now() + time).expect("it looks")
        }

        /// What is seen is a change of these names in a folder, and no more.
        fn names(&mut self, dir: &Dir) -> Vec<(String, Option<String>)> {
            let mut seen = self.look();
            let Some(Changed::Names(names)) = seen.changed.remove(dir) else { panic!("{seen:?}") };
            assert_eq!(Seen { kept: 0, ..seen }, Seen::default());
            let text = |bytes: Vec<u8>| String::from_utf8(bytes).expect("text");
            let shown = |(sub, file): (Sub, Vec<u8>)| format!("{}/{}", sub.name(), text(file));
            names.into_iter().map(|(base, at)| (text(base), at.map(shown))).collect()
        }
    }

    fn a() -> Dir {
        Dir::of(b".A").expect("a folder's name")
    }

    fn only(base: &str, at: Option<&str>) -> Vec<(String, Option<String>)> {
        vec![(base.to_owned(), at.map(str::to_owned))]
    }

    #[test]
    fn names_say_where_a_message_is() {
        let mut world = World::new(Shared::No);
        assert!(world.look().is_empty());
        fs::write(world.path("tmp/1.a"), "x").expect("written");
        assert!(world.look().is_empty(), "tmp is not watched");
        fs::rename(world.path("tmp/1.a"), world.path("new/1.a")).expect("delivered");
        assert_eq!(world.names(&Dir::ROOT), only("1.a", Some("new/1.a")));
        fs::rename(world.path("new/1.a"), world.path("cur/1.a:2,S")).expect("read");
        assert_eq!(world.names(&Dir::ROOT), only("1.a", Some("cur/1.a:2,S")));
        fs::rename(world.path("cur/1.a:2,S"), world.path("cur/1.a:2,RS")).expect("answered");
        fs::rename(world.path("cur/1.a:2,RS"), world.path("cur/1.a:2,FRS")).expect("flagged");
        assert_eq!(world.names(&Dir::ROOT), only("1.a", Some("cur/1.a:2,FRS")));
        fs::remove_file(world.path("cur/1.a:2,FRS")).expect("removed");
        assert_eq!(world.names(&Dir::ROOT), only("1.a", None));
        fs::write(world.path("new/.hidden"), "x").expect("written");
        assert!(world.look().is_empty(), "no message has such a name");
    }

    /// A move is seen in both folders at once.
    #[test]
    fn a_move_changes_two_folders() {
        let mut world = World::new(Shared::No);
        fs::write(world.path("cur/1.a:2,S"), "x").expect("written");
        world.look();
        fs::rename(world.path("cur/1.a:2,S"), world.path(".A/cur/1.a:2,S")).expect("moved");
        let seen = world.look();
        let names = |at| Changed::Names(BTreeMap::from([(b"1.a".to_vec(), at)]));
        assert_eq!(
            seen.changed,
            BTreeMap::from([
                (Dir::ROOT, names(None)),
                (a(), names(Some((Sub::Cur, in_cur(b"1.a", Flags::READ)))))
            ])
        );
    }

    #[test]
    fn many_names_are_all_names() {
        let mut world = World::new(Shared::No);
        for number in 0..MAX_NAMES {
            File::create(world.path(&format!("new/{number}.a"))).expect("made");
        }
        assert_eq!(world.names(&Dir::ROOT).len(), MAX_NAMES);
        for number in 0..=MAX_NAMES {
            File::create(world.path(&format!("new/{number}.b"))).expect("made");
        }
        assert_eq!(world.look().changed, BTreeMap::from([(Dir::ROOT, Changed::All)]));
        // What all folders together may have.
        let mut seen = Seen::default();
        let dir = |n: usize| Dir::of(format!(".{n}").as_bytes()).expect("a folder's name");
        for n in 0..=MAX_ALL_NAMES {
            seen.one_of(&dir(n / 100), format!("{n}").as_bytes(), None);
        }
        let all = seen.changed.values().filter(|changed| **changed == Changed::All).count();
        assert_eq!((seen.kept, all), (MAX_ALL_NAMES, 1));
    }

    #[test]
    fn folders_come_and_go() {
        let mut world = World::new(Shared::No);
        made(&world.path(".B"));
        let seen = world.look();
        assert!(seen.folders && seen.changed.is_empty(), "{seen:?}");
        let b = Dir::of(b".B").expect("a folder's name");
        assert_eq!(world.watch(), std::slice::from_ref(&b));
        assert_eq!(world.watch(), []);
        fs::write(world.path(".B/new/1.a"), "x").expect("written");
        assert_eq!(world.names(&b), only("1.a", Some("new/1.a")));

        // A folder that was renamed is another one.
        fs::rename(world.path(".B"), world.path(".C")).expect("renamed");
        assert!(world.look().folders);
        let c = Dir::of(b".C").expect("a folder's name");
        assert_eq!(world.watch(), std::slice::from_ref(&c));
        fs::write(world.path(".C/cur/2.a"), "x").expect("written");
        assert_eq!(world.names(&c), only("2.a", Some("cur/2.a")));

        fs::remove_dir_all(world.path(".C")).expect("removed");
        assert!(world.look().folders);
        assert_eq!(world.watch(), []);
        assert!(!world.watcher.watches.contains_key(&c));
        assert_eq!(world.watcher.watched.len(), 2 + 2 * 2);

        // A folder in the place of another one.
        fs::rename(world.path(".A"), world.path("old")).expect("renamed");
        made(&world.path(".A"));
        assert!(world.look().folders);
        assert_eq!(world.watch(), [a()]);
        fs::write(world.path("old/new/9.z"), "x").expect("written");
        assert!(world.look().is_empty());
        fs::write(world.path(".A/new/3.a"), "x").expect("written");
        assert_eq!(world.names(&a()), only("3.a", Some("new/3.a")));
    }

    /// A `cur` that is replaced is read anew; the other folders are left alone.
    #[test]
    fn a_directory_of_a_folder_can_be_replaced() {
        let mut world = World::new(Shared::No);
        fs::rename(world.path(".A/cur"), world.path(".A/old")).expect("renamed");
        let seen = world.look();
        assert_eq!(seen.changed, BTreeMap::from([(a(), Changed::All)]));
        assert!(seen.folders);
        assert_eq!(world.watch(), [a()]);
        fs::create_dir(world.path(".A/cur")).expect("made");
        let seen = world.look_after(POLL);
        assert!(seen.folders && seen.changed.contains_key(&a()), "{seen:?}");
        assert_eq!(world.watch(), [a()]);
        assert!(world.watcher.polled.is_empty());
        fs::write(world.path(".A/cur/3.a"), "x").expect("written");
        assert_eq!(world.names(&a()), only("3.a", Some("cur/3.a")));
    }

    /// Whatever takes the root away is no change of its messages.
    #[test]
    fn a_lost_root_is_said_and_nothing_else() {
        let lost = |standing| Seen { lost: Some(standing), ..Seen::default() };
        let mut world = World::new(Shared::No);
        fs::write(world.path("new/1.a"), "x").expect("written");
        fs::rename(world.path(""), world.home.path().join("old")).expect("renamed");
        assert_eq!(world.look(), lost(Standing::Removed));

        let mut world = World::new(Shared::No);
        fs::write(world.path("new/1.a"), "x").expect("written");
        fs::remove_dir_all(world.path("")).expect("removed");
        made(&world.path(""));
        assert_eq!(world.look(), lost(Standing::Replaced));

        // A directory further up: only the time tells.
        let home = TempDir::new().expect("a directory");
        let path = home.path().join("above/mail/Maildir");
        made(&path);
        let root = Root::open(&path).expect("opened");
        let mut watcher = Watcher::of(&root, Shared::No).expect("it watches");
        fs::rename(home.path().join("above"), home.path().join("old")).expect("renamed");
        let seen = watcher.look(&root, Instant::now() + SLOW_POLL).expect("it looks");
        assert_eq!(seen, lost(Standing::Removed));
    }

    /// Another directory beside the root is none of its changes.
    #[test]
    fn neighbours_are_not_seen() {
        let mut world = World::new(Shared::No);
        fs::write(world.home.path().join("notes"), "x").expect("written");
        fs::write(world.path("dovecot-uidlist"), "x").expect("written");
        assert!(world.look().is_empty());
    }

    /// Makes the times of a folder old, as they are when nothing has changed for a while.
    fn age(world: &World, dir: &Dir, seconds: u64) {
        let then = std::time::UNIX_EPOCH + Duration::from_secs(seconds);
        for sub in ["new", "cur"] {
            let dir = File::open(world.root.path_of(dir).join(sub)).expect("opened");
            dir.set_modified(then).expect("set");
        }
    }

    /// Folders without a watch, because the kernel has none left.
    #[test]
    fn folders_without_a_watch_are_looked_at() {
        let mut world = World::new(Shared::No);
        world.watcher.inotify = None;
        world.watcher.watched.clear();
        world.watcher.watches.clear();
        for dir in [Dir::ROOT, a()] {
            age(&world, &dir, 1_000_000_000);
        }
        assert_eq!(world.watch().len(), 2);
        assert_eq!(world.watcher.polled.len(), 2);
        assert!(world.watcher.said);
        assert!(world.look().is_empty());
        assert!(world.look_after(POLL).is_empty());
        age(&world, &a(), 1_000_000_001);
        assert!(world.look().is_empty(), "it is not yet time");
        world.watcher.next_poll = Instant::now();
        assert_eq!(world.look().changed, BTreeMap::from([(a(), Changed::All)]));
        world.watcher.next_poll = Instant::now();
        assert!(world.look().is_empty());
        // New folders are not told of either.
        world.watcher.next_slow_poll = Instant::now();
        assert!(world.look().folders);
    }

    /// A time that is fresh says nothing of what follows in the same tick: the folder is looked at once more.
    #[test]
    fn a_fresh_time_is_not_trusted() {
        let mut world = World::new(Shared::Yes);
        age(&world, &Dir::ROOT, 1_000_000_000);
        let now = super::super::since_1970().as_secs();
        age(&world, &a(), now + 3600);
        world.watcher.shared.clear();
        world.watch();
        for expected in [vec![a()], vec![]] {
            world.watcher.next_slow_poll = Instant::now();
            assert_eq!(world.look().changed.into_keys().collect::<Vec<_>>(), expected);
        }
    }

    /// File systems whose files other hosts change are looked at besides.
    #[test]
    fn shared_file_systems_are_looked_at() {
        let mut world = World::new(Shared::Yes);
        for dir in [Dir::ROOT, a()] {
            age(&world, &dir, 1_000_000_000);
        }
        world.watcher.shared.clear();
        world.watch();
        assert_eq!(world.watcher.shared.len(), 2);
        age(&world, &Dir::ROOT, 1_000_000_009);
        let seen = world.look_after(SLOW_POLL);
        assert_eq!(seen.changed, BTreeMap::from([(Dir::ROOT, Changed::All)]));
        assert!(seen.folders);
        let local = World::new(Shared::No);
        assert!(local.watcher.shared.is_empty());
    }

    #[test]
    fn a_file_system_is_shared_unless_it_is_known_not_to_be() {
        let kind = |path: &str| Root::open(Path::new(path)).map(|root| Shared::of(&root)).ok();
        assert_eq!(kind("/proc/self"), Some(Shared::Yes));
        if let Some(found) = kind("/dev/shm") {
            assert_eq!(found, Shared::No);
        }
        let home = TempDir::new().expect("a directory");
        made(home.path());
        let root = Root::open(home.path()).expect("opened");
        let watcher = Watcher::new(&root).expect("it watches");
        assert_eq!(watcher.is_shared, Shared::of(&root));
    }

    #[test]
    fn what_the_kernel_could_not_keep_is_everything() {
        let limit = fs::read_to_string("/proc/sys/fs/inotify/max_queued_events");
        let limit: usize = match limit.map(|text| text.trim().parse()) {
            Ok(Ok(limit)) if limit <= 100_000 => limit,
            other => return println!("skipped: the kernel keeps too many events: {other:?}"),
        };
        let mut world = World::new(Shared::No);
        let paths = [world.path("cur/1.a"), world.path("cur/1.b")];
        fs::write(&paths[0], "x").expect("written");
        for turn in 0..=limit / 2 {
            fs::rename(&paths[turn % 2], &paths[(turn + 1) % 2]).expect("renamed");
        }
        assert!(world.look().everything);
        assert!(world.look().is_empty());
    }

    #[test]
    fn a_wait_ends_when_it_is_woken() {
        let mut world = World::new(Shared::No);
        let waker = world.watcher.waker();
        waker.wake();
        waker.wake();
        let seen = world.watcher.wait(&world.root, None).expect("it waits");
        assert_eq!(seen, Seen { woken: true, ..Seen::default() });
        assert!(world.look().is_empty(), "both were one");
        let (sender, began) = std::sync::mpsc::channel();
        let waiting = thread::spawn(move || {
            sender.send(()).expect("it listens");
            world.watcher.wait(&world.root, None)
        });
        began.recv().expect("it began");
        waker.wake();
        assert!(waiting.join().expect("no panic").expect("it waits").woken);
    }

    #[test]
    fn a_wait_ends_with_a_change_or_in_time() {
        let mut world = World::new(Shared::No);
        let seen = world.watcher.wait(&world.root, Some(Duration::ZERO)).expect("it waits");
        assert!(seen.is_empty());
        fs::write(world.path("new/1.a"), "x").expect("written");
        let seen = world.watcher.wait(&world.root, None).expect("it waits");
        assert!(seen.changed.contains_key(&Dir::ROOT));
    }
}
