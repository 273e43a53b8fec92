//! Which folders of a Maildir are shown, and what the store was told of them.

use std::collections::BTreeMap;

use sundown_core::provider::{MirrorChange, Wanted};
use sundown_protocol::folder::{self, MAX_FOLDER_NAME};
use sundown_protocol::request::Folder as StoreFolder;

use super::folders::{BadName, Dir, Found, Role, Root};
use super::tree::{self, TreeError};
use crate::mailbox::{Book, Halt};

/// How deep folders are shown in each other. A deeper one is shown at the top, with all of its name.
const DEEPEST: usize = 16;

/// Which folders of a Maildir are shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Shown {
    All,
    /// The Inbox, and the folders that Sundown has made for messages that programs have moved out of it.
    Inbox,
}

/// What the store was told of a folder.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Told {
    parent: Option<Dir>,
    name: String,
    role: Option<Role>,
    /// Whether there is such a directory. There is none for a folder that has other folders and no messages.
    there: bool,
}

/// The folders of a Maildir.
#[derive(Debug)]
pub(super) struct Shelf {
    shown: Shown,
    told: BTreeMap<Dir, Told>,
    /// The directories that were made for folders of the store. Messages that were read before that do not know them.
    made: BTreeMap<StoreFolder, Dir>,
    links: usize,
}

impl Shelf {
    pub(super) fn new(shown: Shown) -> Self {
        Self { shown, told: BTreeMap::new(), made: BTreeMap::new(), links: 0 }
    }

    /// Forgets what the store was told: directories have other names.
    pub(super) fn forget(&mut self) {
        self.told.clear();
        self.made.clear();
    }

    /// The directories of the folders.
    pub(super) fn dirs(&self) -> Vec<Dir> {
        self.told.iter().filter(|(_, told)| told.there).map(|(dir, _)| dir.clone()).collect()
    }

    /// Whether the store was told of a folder with this directory.
    pub(super) fn has(&self, dir: &Dir) -> bool {
        self.told.contains_key(dir)
    }

    /// Lists the folders, and tells the store of those that are new or have another name. Those that are not there any more.
    pub(super) fn look(&mut self, root: &Root, book: &mut Book) -> Result<Vec<Dir>, Halt> {
        let folders = root.folders().map_err(|error| Halt::at(root.path(), &error))?;
        if folders.links.len() > self.links {
            let first = &folders.links[0];
            tracing::warn!(path = %root.path().display(), %first, "symbolic links to folders are not followed");
        }
        self.links = folders.links.len();
        if folders.beyond > 0 {
            tracing::warn!(path = %root.path().display(), beyond = folders.beyond, "there are too many folders; some are not shown");
        }
        let found = folders.found.into_iter();
        let shown = found.filter(|found| self.shown == Shown::All || is_marked(root, &found.dir));
        let now = arrange(&shown.collect::<Vec<_>>());
        for (dir, told) in &now {
            if self
                .told
                .get(dir)
                .is_none_or(|before| before.parent != told.parent || before.name != told.name)
            {
                book.say(change(dir, told))?;
            }
        }
        book.write()?;
        let gone = self.told.keys().filter(|dir| !now.contains_key(dir)).cloned().collect();
        self.made.clear();
        self.told = now;
        Ok(gone)
    }

    /// Makes a folder for one that programs have made in the store, by the names of the folders that it is in and its own; and tells the
    /// store of it. Its directory.
    pub(super) fn make(
        &mut self,
        root: &Root,
        book: &mut Book,
        wanted: &Wanted,
    ) -> Result<Dir, MakeError> {
        let Some((own, above)) = wanted.path.split_last() else {
            return Err(MakeError::Tree(TreeError::Name(BadName::Empty)));
        };
        if let Some(dir) = self.made.get(&wanted.folder) {
            return Ok(dir.clone());
        }
        let mut parent = None;
        for part in above {
            let bound = part.dir.as_deref().and_then(Dir::parse);
            let dir = match bound.or_else(|| self.child(parent.as_ref(), &part.name)) {
                Some(known) => known,
                None => self.free(parent.as_ref(), &part.name).map_err(MakeError::Tree)?,
            };
            if !self.told.contains_key(&dir) {
                let role = dir.role().filter(|role| !has_role(&self.told, *role));
                let told = Told { parent, name: part.name.clone(), role, there: false };
                let name = part.name.clone();
                let made = MirrorChange::FolderMade { folder: part.folder, dir: dir.text(), name };
                book.say(made).map_err(MakeError::Halt)?;
                self.told.insert(dir.clone(), told);
            }
            parent = Some(dir);
        }
        let dir = self.free(parent.as_ref(), &own.name).map_err(MakeError::Tree)?;
        tree::make_at(root, &dir).map_err(MakeError::Tree)?;
        self.show(root, &dir)?;
        let role = wanted.role.and_then(role_of);
        let name = own.name.clone();
        let made = MirrorChange::FolderMade { folder: wanted.folder, dir: dir.text(), name };
        book.say(made).map_err(MakeError::Halt)?;
        // Before a message is there: whoever reads it meanwhile looks for it by what the store knows.
        book.write().map_err(MakeError::Halt)?;
        self.told.insert(dir.clone(), Told { parent, name: own.name.clone(), role, there: true });
        self.made.insert(wanted.folder, dir.clone());
        Ok(dir)
    }

    /// The folder in another one, or at the top, that the store has under this name.
    fn child(&self, parent: Option<&Dir>, name: &str) -> Option<Dir> {
        let built_in =
            |told: &Told| told.role.map(role).and_then(folder::Role::built_in)?.built_in();
        let is = |told: &Told| {
            told.name == name || built_in(told).is_some_and(|own| own.eq_ignore_ascii_case(name))
        };
        let mut found =
            self.told.iter().filter(|(_, told)| told.parent.as_ref() == parent && is(told));
        found.next().map(|(dir, _)| dir.clone())
    }

    /// A directory for a new folder, which no other folder has.
    fn free(&self, parent: Option<&Dir>, name: &str) -> Result<Dir, TreeError> {
        for number in 1..1000 {
            let numbered = if number == 1 { name.to_owned() } else { format!("{name} ({number})") };
            let dir = Dir::inside(parent, &numbered).map_err(TreeError::Name)?;
            if !self.told.contains_key(&dir) {
                return Ok(dir);
            }
        }
        Err(TreeError::Exists(Dir::inside(parent, name).map_err(TreeError::Name)?))
    }

    /// Makes the directory of a folder that the store was told of.
    pub(super) fn make_again(&mut self, root: &Root, dir: &Dir) -> Result<(), MakeError> {
        tree::make_at(root, dir).map_err(MakeError::Tree)?;
        self.show(root, dir)?;
        if let Some(told) = self.told.get_mut(dir) {
            told.there = true;
        }
        Ok(())
    }

    fn show(&self, root: &Root, dir: &Dir) -> Result<(), MakeError> {
        if self.shown == Shown::Inbox && !dir.is_root() {
            tree::mark(root, dir).map_err(MakeError::Tree)?;
        }
        Ok(())
    }
}

/// Why a folder could not be made.
#[derive(Debug)]
pub(super) enum MakeError {
    Tree(tree::TreeError),
    Halt(Halt),
}

/// Whether a folder is one of those that are shown beside the Inbox.
fn is_marked(root: &Root, dir: &Dir) -> bool {
    dir.is_root() || tree::is_marked(root, dir)
}

/// What the store is told of these folders: each in the folder that its name says, which is told of, too, if it is no directory.
fn arrange(found: &[Found]) -> BTreeMap<Dir, Told> {
    let mut told = BTreeMap::new();
    for found in found {
        if found.dir.is_root() {
            let inbox = Told { parent: None, name: "Inbox".into(), role: found.role, there: true };
            told.insert(Dir::ROOT, inbox);
            continue;
        }
        let above = if found.parts.len() > DEEPEST { Vec::new() } else { found.dir.above() };
        let name = |part: &str| shortened(part, MAX_FOLDER_NAME);
        let own = if above.is_empty() { found.parts.join(".") } else { last(&found.parts) };
        let here =
            Told { parent: above.last().cloned(), name: name(&own), role: found.role, there: true };
        told.insert(found.dir.clone(), here);
        let mut parent = None;
        for dir in above {
            let own = last(&dir.parts());
            let virtual_one =
                Told { parent: parent.clone(), name: name(&own), role: None, there: false };
            told.entry(dir.clone()).or_insert(virtual_one);
            parent = Some(dir);
        }
    }
    // The Drafts of which there are only folders below are the Drafts nevertheless.
    let named: Vec<_> = told.iter().filter(|(_, told)| !told.there).map(|(dir, _)| dir).collect();
    let roles: Vec<_> =
        named.into_iter().filter_map(|dir| Some((dir.clone(), dir.role()?))).collect();
    for (dir, role) in roles {
        if !has_role(&told, role)
            && let Some(told) = told.get_mut(&dir)
        {
            told.role = Some(role);
        }
    }
    told
}

fn has_role(told: &BTreeMap<Dir, Told>, role: Role) -> bool {
    told.values().any(|told| told.role == Some(role))
}

fn last(parts: &[String]) -> String {
    parts.last().cloned().unwrap_or_default()
}

/// The beginning of a text, of no more than so many bytes.
fn shortened(text: &str, most: usize) -> String {
    let mut end = text.len().min(most);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    text[..end].to_owned()
}

fn change(dir: &Dir, told: &Told) -> MirrorChange {
    MirrorChange::Folder {
        dir: dir.text(),
        parent: told.parent.as_ref().map(Dir::text),
        name: told.name.clone(),
        role: told.role.map(role),
    }
}

fn role(role: Role) -> folder::Role {
    match role {
        Role::Inbox => folder::Role::Inbox,
        Role::Sent => folder::Role::Sent,
        Role::Drafts => folder::Role::Drafts,
        Role::Deleted => folder::Role::Deleted,
        Role::Junk => folder::Role::Junk,
        Role::Archive => folder::Role::Archive,
        Role::All => folder::Role::All,
    }
}

fn role_of(wanted: folder::Role) -> Option<Role> {
    use Role::{All, Archive, Deleted, Drafts, Inbox, Junk, Sent};
    [Inbox, Sent, Drafts, Deleted, Junk, Archive, All]
        .into_iter()
        .find(|found| role(*found) == wanted)
}
