//! The folders of an account, and which of them have changed, seen from outside.

use std::collections::{BTreeMap, BTreeSet};

use sundown_core::provider::{MirrorChange, ProviderError, Spot};
use sundown_protocol::Code;
use sundown_protocol::folder::Role;

use super::account::{Account, Figures, Folder, Seen};
use super::conversation::Part;
use super::names::{Name, is_only_a_name, role_of};
use super::notify::Told;
use super::{Data, Response};
use crate::mailbox::Halt;

/// The most folders that are shown.
const MOST_FOLDERS: usize = 10_000;

/// The longest name of a folder, in bytes.
const LONGEST_NAME: usize = 1_000;

/// How deep a folder may be in others.
const DEEPEST: usize = 32;

/// What a server lists.
pub(super) struct Listing {
    /// Each folder's name, its role, whether it has messages, and what divides names.
    found: Vec<(Name, Option<Role>, bool, Option<u8>)>,
    figures: BTreeMap<Vec<u8>, Figures>,
    is_told: Told,
}

impl Listing {
    pub(super) fn of(is_told: Told) -> Self {
        Self { found: Vec::new(), figures: BTreeMap::new(), is_told }
    }

    pub(super) fn add(&mut self, response: &Response<'_>) {
        match response {
            Response::Data(Data::List(list))
                if self.found.len() < MOST_FOLDERS && list.name.len() <= LONGEST_NAME =>
            {
                let name = Name::of(list);
                self.found.push((name, role_of(list), !is_only_a_name(list), list.delimiter));
            }
            Response::Data(Data::Status(status)) if self.figures.len() < MOST_FOLDERS => {
                let said = Figures::of(status);
                // What is told unasked may be a part of it.
                if self.is_told == Told::Open || said.are_whole() {
                    self.figures.insert(status.name.to_ascii_lowercase(), said);
                }
            }
            _ => {}
        }
    }
}

impl Account<'_> {
    /// The figures that are asked for of a folder.
    pub(super) fn items(&self) -> &'static str {
        if self.can.condstore {
            "(MESSAGES UIDNEXT UIDVALIDITY HIGHESTMODSEQ)"
        } else {
            "(MESSAGES UIDNEXT UIDVALIDITY)"
        }
    }

    /// The command that lists the folders, with their figures if the server can.
    pub(super) fn list_command(&self) -> String {
        let mut command = String::from("LIST \"\" \"*\"");
        if self.can.list_status {
            let special = if self.can.special_use { "SPECIAL-USE " } else { "" };
            command += &format!(" RETURN ({special}STATUS {})", self.items());
        } else if self.can.special_use {
            command += " RETURN (SPECIAL-USE)";
        }
        command
    }

    fn list(&mut self) -> Result<Listing, Halt> {
        if self.selected.is_some() {
            // Some servers have old figures of the folder that is open.
            self.talk.run("NOOP")?;
        }
        self.lists_anew();
        let mut listing = Listing::of(self.is_told);
        let command = self.list_command();
        let done = self.talk.command(&[Part::Text(&command)], |response| {
            listing.add(response);
            Ok(())
        })?;
        self.sound(done, "a list of the folders")?;
        Ok(listing)
    }

    /// Lists the folders, tells the store of them, and notes which of them may have changed; with `everything`, all of them.
    pub(super) fn survey(&mut self, everything: bool) -> Result<(), Halt> {
        let listed_before = self.listing.take();
        let Listing { mut found, figures, .. } = match listed_before {
            Some(listing) => listing,
            None => self.list()?,
        };
        self.delimiter = found.iter().find_map(|(.., delimiter)| *delimiter);
        let shows = |name: &Name| name.is_inbox() || self.settings.shows(&name.shown());
        let skips_all = self.can.gmail && self.settings.folders.is_empty();
        found.retain(|(name, role, ..)| {
            shows(name)
                && !(skips_all && *role == Some(Role::All))
                && !name.parts.iter().any(String::is_empty)
                && name.parts.len() <= DEEPEST
        });
        if !found.iter().any(|(name, ..)| name.is_inbox()) {
            // Every server has one: what it says is not so.
            let text =
                format!("{} lists no Inbox, so what it lists is not believed", self.talk.place());
            return Err(ProviderError::new(Code::E_CALL_FAILED, text).into());
        }
        let has_roles = found.iter().any(|(_, role, ..)| role.is_some());
        let mut before = std::mem::take(&mut self.folders);
        for (name, role, has_messages, _) in found {
            let role = if name.is_inbox() {
                Some(Role::Inbox)
            } else if has_roles {
                role
            } else {
                name.usual_role()
            };
            let dir = name.dir();
            let known = before.remove(&dir);
            let said = figures.get(&name.wire.to_ascii_lowercase()).copied();
            let folder = match known {
                Some(known) => {
                    let differs = known.figures != said
                        || said.and_then(|said| said.messages)
                            != known.seen.map(|seen| seen.exists);
                    let stale = everything || known.stale || differs;
                    let figures = said;
                    Folder { name, role, has_messages, figures, stale, is_closed: false, ..known }
                }
                None => Folder {
                    name,
                    role,
                    has_messages,
                    figures: said,
                    stale: true,
                    has_new: false,
                    seen: None,
                    looked: None,
                    is_closed: false,
                    kept: None,
                    older: None,
                },
            };
            self.folders.insert(dir, folder);
        }
        self.tell_folders()?;
        if !self.can.list_status {
            self.ask_figures()?;
        }
        if everything { Ok(()) } else { self.pass_over_unchanged() }
    }

    /// Tells the store of the folders: of each behind the one that it is in.
    pub(super) fn tell_folders(&mut self) -> Result<(), Halt> {
        let known = self.book.dirs()?;
        // The first folder with a role has it.
        let mut roles = Vec::new();
        let mut changes = Vec::new();
        for (dir, folder) in &self.folders {
            let role = folder.role.filter(|role| !roles.contains(role));
            roles.extend(role);
            // A part of names that is no folder is one in the store.
            let mut parent = folder.name.parent();
            while let Some(above) = &parent {
                if self.folders.contains_key(above) {
                    break;
                }
                // What is not shown, or was not listed, is passed over.
                parent = above.rsplit_once('.').map(|(above, _)| above.to_owned());
            }
            changes.push(MirrorChange::Folder {
                dir: dir.clone(),
                parent: parent.filter(|parent| parent != "/INBOX"),
                name: folder.name.own(),
                role,
            });
        }
        if self.told != changes {
            self.keep_taken_names()?;
            for change in &changes {
                self.book.say(change.clone())?;
            }
            self.book.write()?;
            self.told = changes;
        }
        let mut gone: Vec<_> =
            known.iter().rev().filter(|dir| !self.folders.contains_key(*dir)).collect();
        if !gone.is_empty() {
            // Only what two lists lack is gone.
            let listed = self.listed()?;
            gone.retain(|dir| !listed.contains(*dir));
        }
        for dir in gone {
            self.say_gone(dir)?;
        }
        // A folder that was removed and has folders in it stays as a part of their names.
        let is_name = |dir: &&String| self.folders.get(*dir).is_some_and(|one| !one.has_messages);
        let names: Vec<_> = known.iter().filter(is_name).collect();
        for dir in names {
            self.say_empty(dir)?;
        }
        self.book.write()
    }

    /// The folders that the server lists, whether they are shown or not.
    pub(super) fn listed(&mut self) -> Result<BTreeSet<String>, Halt> {
        let mut listed = BTreeSet::new();
        let settings = self.settings;
        let done = self.talk.command(&[Part::Text("LIST \"\" \"*\"")], |response| {
            if let Response::Data(Data::List(list)) = response {
                let name = Name::of(list);
                let fits = list.name.len() <= LONGEST_NAME && listed.len() < MOST_FOLDERS;
                if fits && (name.is_inbox() || settings.shows(&name.shown())) {
                    listed.insert(name.dir());
                }
            }
            Ok(())
        })?;
        self.sound(done, "a list of the folders")?;
        Ok(listed)
    }

    /// A folder is not there any more, and its messages with it. One that was moved elsewhere is found there.
    pub(super) fn say_gone(&mut self, dir: &str) -> Result<(), Halt> {
        self.say_empty(dir)?;
        self.book.say(MirrorChange::FolderGone { dir: dir.to_owned() })
    }

    /// A folder has no messages any more.
    fn say_empty(&mut self, dir: &str) -> Result<(), Halt> {
        let mut gone = Vec::new();
        self.book.each_row(dir, |_, name, _| {
            gone.push(name.to_owned());
            Ok(())
        })?;
        for name in gone {
            let spot = Spot { dir: dir.to_owned(), name };
            self.book.say(MirrorChange::Vanished { spot })?;
        }
        Ok(())
    }

    pub(super) fn ask_figures(&mut self) -> Result<(), Halt> {
        let dirs: Vec<_> = self.with_messages().collect();
        for dir in dirs {
            self.go_on()?;
            let said = self.figures_of(&dir, |_| {})?;
            self.note(&dir, |folder| {
                folder.stale |= folder.figures != said || said.is_none();
                folder.figures = said;
            });
        }
        Ok(())
    }

    /// Asks for the figures of a folder. The function sees what is said beside them.
    pub(super) fn figures_of(
        &mut self,
        dir: &str,
        mut see: impl FnMut(&Response<'_>),
    ) -> Result<Option<Figures>, Halt> {
        let wire = self.folder(dir)?.name.wire.clone();
        let mut said = None;
        let (text, is_told) = (format!(" {}", self.items()), self.is_told);
        let parts = [Part::Text("STATUS "), Part::Value(&wire), Part::Text(&text)];
        self.talk.command(&parts, |response| {
            match response {
                Response::Data(Data::Status(status)) => {
                    let figures = Figures::of(status);
                    let is_answer = status.name.eq_ignore_ascii_case(&wire) && figures.are_whole();
                    if is_told == Told::Open || is_answer {
                        said = Some(figures);
                    }
                }
                other => see(other),
            }
            Ok(())
        })?;
        Ok(said)
    }

    pub(super) fn with_messages(&self) -> impl Iterator<Item = String> {
        let dirs = self.folders.iter().filter(|(_, folder)| folder.has_messages);
        dirs.map(|(dir, _)| dir.clone()).collect::<Vec<_>>().into_iter()
    }

    /// Passes over the folders that are as they were when they were looked at, at an earlier connection: with the same HIGHESTMODSEQ nothing
    /// has changed in them.
    pub(super) fn pass_over_unchanged(&mut self) -> Result<(), Halt> {
        let dirs: Vec<_> = self.with_messages().collect();
        for dir in dirs {
            let folder = self.folder(&dir)?;
            let Some(figures) = folder.figures.filter(|_| folder.stale) else { continue };
            let Some(cursor) = self.book.cursor(&dir)? else { continue };
            let same = figures.validity == Some(cursor.validity)
                && figures.next == Some(cursor.next)
                && cursor.modseq > 0
                && figures.modseq == Some(cursor.modseq)
                && figures.messages == Some(cursor.messages);
            if same {
                self.note(&dir, |folder| {
                    folder.stale = false;
                    folder.seen = Some(Seen::at(&cursor));
                });
            }
        }
        Ok(())
    }
}
