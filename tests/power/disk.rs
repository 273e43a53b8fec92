//! A disk that forgets: what of a record is surely there after a power cut, and what may be.
//!
//! ```text
//!             sync of the file ─► its bytes        sync of its directory ─► its name
//! written ──┤                                                                        ├─► surely there
//!             before that: any of it, in pieces of 512 bytes, or none
//! ```
//!
//! It is stricter than any file system in use: a sync of a file does not save its name, and the order of what was not synced
//! means nothing. One thing is taken for granted, which every journal gives: a rename takes the old name away only where it
//! puts the new one.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::fs;
use std::path::Path;

use crate::chance::Chance;
use crate::recorder::Record;

/// The pieces in which a disk writes.
const SECTOR: usize = 512;

/// What is kept of what was not synced.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kept {
    Nothing,
    Names,
    Bytes,
    Everything,
    /// Each name and each piece with so many chances in a hundred.
    Some(usize),
}

#[derive(Debug, Clone)]
enum Node {
    Directory,
    /// `synced` is how many changes are in the durable bytes.
    File {
        durable: Vec<u8>,
        synced: usize,
        pending: Vec<Change>,
    },
}

#[derive(Debug, Clone)]
enum Change {
    Write(usize, Vec<u8>),
    Size(usize),
}

/// A name in a directory, by the node of that.
type Name = (usize, String);

/// The names of a disk, and what they are names of.
type Names = BTreeMap<Name, usize>;

#[derive(Debug, Clone)]
struct Naming {
    number: usize,
    name: Name,
    /// `None` takes the name away.
    node: Option<usize>,
    /// The name that a directory had until then, of which it has only one at a time.
    instead_of: Option<Name>,
    /// What must be there before.
    after: Option<usize>,
}

/// The node of the directory in which everything is.
const ROOT: usize = 0;

/// The disk after a part of a record.
#[derive(Debug, Clone)]
pub(crate) struct Disk {
    nodes: Vec<Node>,
    /// Files by their inodes; one may be used again.
    inodes: HashMap<u64, usize>,
    /// Files that end with the machine's run.
    volatile: HashSet<u64>,
    /// The names as the process sees them.
    seen: Names,
    durable: Names,
    pending: Vec<Naming>,
    done: HashSet<usize>,
    numbers: usize,
    /// How much each sync covers that has begun.
    begun: HashMap<u64, usize>,
}

impl Default for Disk {
    fn default() -> Self {
        Self {
            nodes: vec![Node::Directory],
            inodes: HashMap::new(),
            volatile: HashSet::new(),
            seen: Names::new(),
            durable: Names::new(),
            pending: Vec::new(),
            done: HashSet::new(),
            numbers: 0,
            begun: HashMap::new(),
        }
    }
}

impl Disk {
    /// What is below a directory now, all of it durable, under the name it has there.
    pub(crate) fn of(root: &Path, name: &str) -> Self {
        let mut disk = Self::default();
        disk.add_tree(root, name);
        disk
    }

    fn add_tree(&mut self, root: &Path, name: &str) {
        let path = root.join(name);
        let Ok(metadata) = fs::symlink_metadata(&path) else { return };
        if metadata.is_dir() {
            self.add_durable(name, Node::Directory);
            for entry in fs::read_dir(&path).expect("a directory") {
                let entry = entry.expect("an entry").file_name();
                self.add_tree(root, &format!("{name}/{}", entry.to_str().expect("text")));
            }
        } else if metadata.is_file() && !name.ends_with("-shm") {
            let durable = fs::read(&path).expect("it can be read");
            let node =
                self.add_durable(name, Node::File { durable, synced: 0, pending: Vec::new() });
            self.inodes.insert(std::os::unix::fs::MetadataExt::ino(&metadata), node);
        }
    }

    fn add_durable(&mut self, path: &str, node: Node) -> usize {
        let (node, name) = (self.new_node(node), self.place_of(path));
        self.seen.insert(name.clone(), node);
        self.durable.insert(name, node);
        node
    }

    /// What a path leads to, as the process sees it.
    fn find(&self, path: &str) -> Option<usize> {
        let parts = path.split('/').filter(|part| !part.is_empty());
        parts.into_iter().try_fold(ROOT, |at, part| self.seen.get(&(at, part.to_owned())).copied())
    }

    /// The name that a path is.
    fn place_of(&self, path: &str) -> Name {
        let (parent, name) = path.rsplit_once('/').unwrap_or(("", path));
        let parent = self.find(parent).unwrap_or_else(|| panic!("{path} is in no directory"));
        (parent, name.to_owned())
    }

    fn new_node(&mut self, node: Node) -> usize {
        self.nodes.push(node);
        self.nodes.len() - 1
    }

    fn name(&mut self, name: Name, node: Option<usize>, after: Option<usize>) -> usize {
        match node {
            Some(node) => self.seen.insert(name.clone(), node),
            None => self.seen.remove(&name),
        };
        self.numbers += 1;
        let number = self.numbers;
        self.pending.push(Naming { number, name, node, instead_of: None, after });
        number
    }

    fn rename(&mut self, from: &str, to: &str) {
        let (from, to) = (self.place_of(from), self.place_of(to));
        let node = self.seen.get(&from).copied().expect("it is renamed, so it is there");
        let added = self.name(to, Some(node), None);
        if matches!(self.nodes[node], Node::Directory) {
            self.seen.remove(&from);
            self.pending.last_mut().expect("it was named just before").instead_of = Some(from);
        } else {
            self.name(from, None, Some(added));
        }
    }

    fn change(&mut self, inode: u64, change: Change) {
        let node = self.inodes.get(&inode).copied();
        match node.map(|node| &mut self.nodes[node]) {
            Some(Node::File { pending, .. }) => pending.push(change),
            other => panic!("inode {inode} changes and is {other:?}"),
        }
    }

    /// Follows one step of the record.
    pub(crate) fn follow(&mut self, record: &Record) {
        match record {
            // Not on the disk, by the meaning of that directory.
            Record::Made { path, inode, .. } if path.starts_with("run/") => {
                self.volatile.insert(*inode);
            }
            Record::Removed(path)
            | Record::Directory(path)
            | Record::Renamed { from: path, .. }
                if path.starts_with("run/") => {}
            Record::Written { path, .. } if path.starts_with("run/") => {}
            Record::Written { inode, .. } | Record::Cut { inode, .. }
                if self.volatile.contains(inode) => {}
            Record::Made { path, inode, emptied } => {
                self.volatile.remove(inode);
                self.make(path, *inode, *emptied);
            }
            Record::Written { inode, at, bytes, .. } => {
                self.change(*inode, Change::Write(*at, bytes.clone()));
            }
            Record::Cut { inode, size } => self.change(*inode, Change::Size(*size)),
            Record::Sync(sync) => {
                let covers = if sync.directory { self.numbers } else { self.changes(sync.inode) };
                self.begun.insert(sync.number, covers);
            }
            Record::Synced(sync) => {
                // A record without the beginning is one from which a sync was taken out.
                let Some(covers) = self.begun.remove(&sync.number) else { return };
                if sync.directory {
                    self.sync_names(&sync.path, covers);
                } else {
                    self.sync_bytes(sync.inode, covers);
                }
            }
            Record::Renamed { from, to } => self.rename(from, to),
            Record::Linked { from, to } => {
                let node = self.find(from).expect("it is linked, so it is there");
                self.name(self.place_of(to), Some(node), None);
            }
            Record::Removed(path) => {
                self.name(self.place_of(path), None, None);
            }
            Record::Directory(path) => {
                let node = self.new_node(Node::Directory);
                self.name(self.place_of(path), Some(node), None);
            }
            Record::Odd(words) => panic!("the record has no word for this: {words}"),
            Record::Said { .. } | Record::Heard { .. } | Record::Sent { .. } | Record::Got => {}
        }
    }

    fn make(&mut self, path: &str, inode: u64, emptied: bool) {
        if self.find(path).is_none() {
            let empty = Node::File { durable: Vec::new(), synced: 0, pending: Vec::new() };
            let node = self.new_node(empty);
            self.inodes.insert(inode, node);
            self.name(self.place_of(path), Some(node), None);
        } else if emptied {
            self.change(inode, Change::Size(0));
        }
    }

    /// How many changes a file has had.
    fn changes(&self, inode: u64) -> usize {
        match self.inodes.get(&inode).map(|node| &self.nodes[*node]) {
            Some(Node::File { synced, pending, .. }) => synced + pending.len(),
            other => panic!("inode {inode} is synced and is {other:?}"),
        }
    }

    fn sync_bytes(&mut self, inode: u64, covers: usize) {
        let node = self.inodes[&inode];
        let Node::File { durable, synced, pending } = &mut self.nodes[node] else { return };
        // Two syncs at once cover the same; the first that returns has done it for both.
        let covers = covers.saturating_sub(*synced).min(pending.len());
        *synced += covers;
        for change in pending.drain(..covers) {
            apply(durable, &change);
        }
    }

    fn sync_names(&mut self, directory: &str, covers: usize) {
        let (directory, mut left) = (self.find(directory), Vec::new());
        for naming in std::mem::take(&mut self.pending) {
            let early = naming.after.is_some_and(|after| !self.done.contains(&after));
            if naming.number > covers || Some(naming.name.0) != directory || early {
                left.push(naming);
                continue;
            }
            self.done.insert(naming.number);
            put(&mut self.durable, &naming);
        }
        self.pending = left;
    }

    /// Puts into a directory what a power cut may leave now.
    pub(crate) fn leave(&self, target: &Path, kept: Kept, chance: &mut Chance) {
        let mut done = HashSet::new();
        let mut names = self.durable.clone();
        for naming in &self.pending {
            let keeps = match kept {
                Kept::Nothing | Kept::Bytes => false,
                Kept::Names | Kept::Everything => true,
                Kept::Some(of_hundred) => chance.below(100) < of_hundred,
            };
            let known = |after| self.done.contains(&after) || done.contains(&after);
            if keeps && naming.after.is_none_or(known) {
                done.insert(naming.number);
                put(&mut names, naming);
            }
        }
        self.leave_in(ROOT, target, &names, kept, chance);
    }

    /// Fills a directory with what it has by these names.
    fn leave_in(
        &self,
        directory: usize,
        target: &Path,
        names: &Names,
        kept: Kept,
        chance: &mut Chance,
    ) {
        let inside = names.range((directory, String::new())..(directory + 1, String::new()));
        for ((_, name), node) in inside {
            let place = target.join(name);
            match &self.nodes[*node] {
                Node::Directory => {
                    make_private(&place);
                    self.leave_in(*node, &place, names, kept, chance);
                }
                Node::File { durable, pending, .. } => {
                    fs::write(place, left_of(durable, pending, kept, chance)).expect("written");
                }
            }
        }
    }
}

fn make_private(path: &Path) {
    use std::os::unix::fs::DirBuilderExt;
    fs::DirBuilder::new().mode(0o700).create(path).expect("made");
}

fn put(names: &mut Names, naming: &Naming) {
    if let Some(before) = &naming.instead_of {
        names.remove(before);
    }
    match naming.node {
        Some(node) => names.insert(naming.name.clone(), node),
        None => names.remove(&naming.name),
    };
}

fn apply(bytes: &mut Vec<u8>, change: &Change) {
    match change {
        Change::Size(size) => bytes.resize(*size, 0),
        Change::Write(at, new) => {
            if bytes.len() < at + new.len() {
                bytes.resize(at + new.len(), 0);
            }
            bytes[*at..at + new.len()].copy_from_slice(new);
        }
    }
}

fn left_of(durable: &[u8], pending: &[Change], kept: Kept, chance: &mut Chance) -> Vec<u8> {
    let mut bytes = durable.to_vec();
    match kept {
        Kept::Nothing | Kept::Names => {}
        Kept::Bytes | Kept::Everything => pending.iter().for_each(|c| apply(&mut bytes, c)),
        Kept::Some(of_hundred) => {
            for change in pending {
                match change {
                    Change::Size(_) if chance.below(100) < of_hundred => apply(&mut bytes, change),
                    Change::Size(_) => {}
                    Change::Write(at, new) => torn(&mut bytes, *at, new, of_hundred, chance),
                }
            }
        }
    }
    bytes
}

/// A write of which only some sectors came to the disk.
fn torn(bytes: &mut Vec<u8>, at: usize, new: &[u8], of_hundred: usize, chance: &mut Chance) {
    let mut from = 0;
    while from < new.len() {
        let to = new.len().min((at + from) / SECTOR * SECTOR + SECTOR - at);
        if chance.below(100) < of_hundred {
            apply(bytes, &Change::Write(at + from, new[from..to].to_vec()));
        }
        from = to;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::recorder::Sync;

    fn sync(disk: &mut Disk, number: u64, inode: u64, directory: Option<&str>) {
        let path = directory.unwrap_or_default().to_owned();
        let sync = Sync { number, inode, path, directory: directory.is_some() };
        disk.follow(&Record::Sync(sync.clone()));
        disk.follow(&Record::Synced(sync));
    }

    fn written(at: usize, text: &str) -> Record {
        Record::Written { path: "d/a".into(), inode: 7, at, bytes: text.into() }
    }

    fn left(disk: &Disk, kept: Kept) -> BTreeMap<String, String> {
        let target = tempfile::tempdir().expect("a directory");
        disk.leave(target.path(), kept, &mut Chance(1));
        let files = fs::read_dir(target.path().join("d")).into_iter().flatten().flatten();
        let read = |e: fs::DirEntry| {
            let name = e.file_name().into_string().expect("text");
            (name, fs::read_to_string(e.path()).expect("text"))
        };
        files.map(read).collect()
    }

    fn names(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
        pairs.iter().map(|(name, text)| ((*name).to_owned(), (*text).to_owned())).collect()
    }

    #[test]
    fn only_what_is_synced_outlives_a_power_cut() {
        let mut disk = Disk::default();
        disk.follow(&Record::Directory("d".into()));
        disk.follow(&Record::Made { path: "d/a".into(), inode: 7, emptied: false });
        disk.follow(&written(0, "one"));
        assert_eq!(left(&disk, Kept::Nothing), names(&[]));
        assert_eq!(left(&disk, Kept::Names), names(&[("a", "")]));
        assert_eq!(left(&disk, Kept::Everything), names(&[("a", "one")]));

        sync(&mut disk, 1, 7, None);
        assert_eq!(left(&disk, Kept::Nothing), names(&[]), "it has no name");
        sync(&mut disk, 2, 1, Some("d"));
        assert_eq!(left(&disk, Kept::Nothing), names(&[]), "its directory has no name");
        sync(&mut disk, 3, 0, Some(""));
        assert_eq!(left(&disk, Kept::Nothing), names(&[("a", "one")]));
    }

    #[test]
    fn a_sync_covers_what_came_before_it_began() {
        let mut disk = Disk::default();
        disk.follow(&Record::Directory("d".into()));
        disk.follow(&Record::Made { path: "d/a".into(), inode: 7, emptied: false });
        sync(&mut disk, 1, 1, Some("d"));
        sync(&mut disk, 2, 0, Some(""));
        disk.follow(&written(0, "one"));
        let of_file = Sync { number: 3, inode: 7, path: "d/a".into(), directory: false };
        disk.follow(&Record::Sync(of_file.clone()));
        disk.follow(&written(3, "two"));
        assert_eq!(left(&disk, Kept::Nothing), names(&[("a", "")]), "it has not returned");
        disk.follow(&Record::Synced(of_file));
        assert_eq!(left(&disk, Kept::Nothing), names(&[("a", "one")]));
        assert_eq!(left(&disk, Kept::Bytes), names(&[("a", "onetwo")]));
    }

    #[test]
    fn a_rename_takes_the_old_name_only_with_the_new_one() {
        let mut disk = Disk::default();
        for (number, path) in [(1, "d"), (2, "e")] {
            disk.follow(&Record::Directory(path.into()));
            sync(&mut disk, number, 0, Some(""));
        }
        disk.follow(&Record::Made { path: "d/a".into(), inode: 7, emptied: false });
        sync(&mut disk, 3, 1, Some("d"));
        disk.follow(&Record::Renamed { from: "d/a".into(), to: "e/a".into() });
        sync(&mut disk, 4, 1, Some("d"));
        assert_eq!(left(&disk, Kept::Nothing), names(&[("a", "")]), "e has not got it yet");
        sync(&mut disk, 5, 2, Some("e"));
        sync(&mut disk, 6, 1, Some("d"));
        assert_eq!(left(&disk, Kept::Nothing), names(&[]));
    }

    /// What is in a directory goes with it, and a directory has one name at a time.
    #[test]
    fn a_directory_is_renamed_with_what_is_in_it() {
        let mut disk = Disk::default();
        disk.follow(&Record::Directory("c".into()));
        sync(&mut disk, 1, 0, Some(""));
        disk.follow(&Record::Made { path: "c/a".into(), inode: 7, emptied: false });
        disk.follow(&Record::Renamed { from: "c".into(), to: "d".into() });
        assert_eq!(left(&disk, Kept::Nothing), names(&[]));
        sync(&mut disk, 2, 1, Some("d"));
        assert_eq!(left(&disk, Kept::Nothing), names(&[]), "the file is in c");
        assert_eq!(left(&disk, Kept::Names), names(&[("a", "")]));
        sync(&mut disk, 3, 0, Some(""));
        assert_eq!(left(&disk, Kept::Nothing), names(&[("a", "")]));
    }
}
