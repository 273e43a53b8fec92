//! What a server says of its folders without being asked (NOTIFY, RFC 5465).
//!
//! It tells of the folder that is open by what it says of its messages, and of all others by figures (`STATUS`) and names (`LIST`), in between
//! the answers to any command. What is told only says where to look: the figures in it are not used. What changes in a folder while it is
//! open is told to that moment's command, so each folder that was open is asked about once before the mailbox waits.

use std::collections::BTreeSet;

use super::account::{Account, Figures};
use super::conversation::Part;
use super::names::Name;
use super::{About, Data, Note, Response};
use crate::mailbox::Halt;

/// Of the open folder everything; of the others that messages came or went or have other flags, and of all that their names are others.
pub(super) const ASKED: &str = "NOTIFY SET (selected-delayed (MessageNew MessageExpunge FlagChange)) \
                     (personal (MessageNew MessageExpunge FlagChange MailboxName))";

/// More changed folders than these are not noted by name: all are looked at from outside.
const MOST_NAMED: usize = 256;

/// With more open folders than this since the last wait, all are asked about in one go.
const FEW: usize = 8;

/// Longer names are not noted.
const LONGEST_NAME: usize = 1_000;

/// Of which folders the server tells by itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Told {
    /// Of none but the open one.
    Open,
    /// Of one's own; there are others, which are looked at from outside.
    Own,
    All,
}

/// What a command asks about folders: what answers it is not unasked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Asked {
    Nothing,
    Names,
    NamesAndFigures,
    /// The figures of one folder.
    Figures(Vec<u8>),
}

impl Asked {
    pub(super) fn by(parts: &[Part<'_>]) -> Self {
        match parts {
            [Part::Text(text), ..] if text.starts_with("LIST ") => {
                if text.contains("STATUS (") {
                    Self::NamesAndFigures
                } else {
                    Self::Names
                }
            }
            [Part::Text("STATUS "), Part::Value(name), ..] => Self::Figures(name.to_vec()),
            _ => Self::Nothing,
        }
    }

    fn is_answered_by(&self, data: &Data<'_>) -> bool {
        match (self, data) {
            (Self::Names | Self::NamesAndFigures, Data::List(_)) => true,
            (Self::NamesAndFigures, Data::Status(status)) => Figures::of(status).are_whole(),
            (Self::Figures(name), Data::Status(status)) => status.name.eq_ignore_ascii_case(name),
            _ => false,
        }
    }
}

/// What was said unasked and not looked into yet.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Heard {
    /// The names of folders in which something has changed.
    changed: BTreeSet<Vec<u8>>,
    /// Whether folders have come or gone, or more have changed than are noted.
    folders: bool,
    /// Whether the server has said that it tells no more.
    is_over: bool,
}

impl Heard {
    /// Notes a response. Whether it says something that was not known yet.
    pub(super) fn note(&mut self, response: &Response<'_>, asked: &Asked) -> bool {
        match response {
            Response::Data(data) if asked.is_answered_by(data) => false,
            Response::Data(Data::Status(status)) => {
                let fits = self.changed.len() < MOST_NAMED && status.name.len() <= LONGEST_NAME;
                if self.changed.contains(&*status.name) {
                    false
                } else if fits {
                    self.changed.insert(status.name.to_vec())
                } else {
                    !std::mem::replace(&mut self.folders, true)
                }
            }
            Response::Data(Data::List(_)) => !std::mem::replace(&mut self.folders, true),
            Response::Words { about: About::Ok | About::No | About::Bad, said } => {
                let is_over = matches!(said.note, Some(Note::Other(name))
                    if name.eq_ignore_ascii_case(b"NOTIFICATIONOVERFLOW"));
                self.is_over |= is_over;
                is_over
            }
            _ => false,
        }
    }
}

impl Account<'_> {
    pub(super) fn is_told_no_more(&mut self, why: &str) {
        (self.talk.heard, self.is_told) = (None, Told::Open);
        self.opened.clear();
        let server = self.talk.place();
        tracing::info!(server, why, "other folders than the Inbox are looked at each minute");
    }

    /// Marks the folders of which the server has told.
    pub(super) fn hear(&mut self) {
        let Some(heard) = &mut self.talk.heard else { return };
        let Self { folders, delimiter, settings, .. } = self;
        let mut unknown = false;
        heard.changed.retain(|wire| {
            let name = Name::divided(wire.clone(), *delimiter);
            let Some(folder) = folders.get_mut(&name.dir()) else {
                unknown |= settings.shows(&name.shown());
                return false;
            };
            folder.stale = true;
            // What is noted already does not end another wait.
            folder.rests()
        });
        heard.folders |= unknown;
        if heard.is_over {
            self.is_told_no_more("the server has too much to tell");
        }
    }

    /// Whether the server has told of folders that are not known, since the last survey.
    pub(super) fn has_other_folders(&mut self) -> bool {
        self.hear();
        self.talk.heard.as_ref().is_some_and(|heard| heard.folders)
    }

    /// What has been told of names so far is seen by the survey that begins now.
    pub(super) fn lists_anew(&mut self) {
        if let Some(heard) = &mut self.talk.heard {
            heard.folders = false;
        }
    }

    /// Asks about the folders that were open, but for the one that is. Whether one of them has changed since it was looked at.
    pub(super) fn ask_about_opened(
        &mut self,
        see: &mut impl FnMut(&Response<'_>),
    ) -> Result<bool, Halt> {
        let (mut has_changed, opened) = (false, std::mem::take(&mut self.opened));
        if opened.len() > FEW {
            self.survey(false)?;
            return Ok(true);
        }
        for dir in opened {
            let is_open = self.selected.as_ref().is_some_and(|selected| selected.dir == dir);
            let Some(folder) = self.folders.get(&dir).filter(|_| !is_open) else { continue };
            let Some(seen) = folder.seen.filter(|_| !folder.stale && !folder.is_closed) else {
                continue;
            };
            let said = self.figures_of(&dir, &mut *see)?;
            if said.is_some_and(|said| !seen.is(&said)) {
                self.note(&dir, |folder| folder.stale = true);
                has_changed = true;
            }
        }
        Ok(has_changed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn noted(heard: &mut Heard, text: &str, asked: &Asked) -> bool {
        heard.note(&Response::read(text.as_bytes()).expect("a response"), asked)
    }

    #[test]
    fn answers_are_not_unasked() {
        let whole = "* STATUS Work (MESSAGES 1 UIDNEXT 2 UIDVALIDITY 3)";
        let part = "* STATUS Work (MESSAGES 1 UIDNEXT 2)";
        let list = "* LIST () \"/\" New";
        let by = |command| Asked::by(&[Part::Text(command)]);
        let of = |name| Asked::by(&[Part::Text("STATUS "), Part::Value(name), Part::Text(" ()")]);
        let cases = [
            (by("UID FETCH 1 (UID)"), [true, true, true]),
            (by("LIST \"\" \"*\""), [true, true, false]),
            (by("LIST \"\" \"*\" RETURN (STATUS (MESSAGES))"), [false, true, false]),
            (of(b"work"), [false, false, true]),
            (of(b"Other"), [true, true, true]),
        ];
        for (asked, wanted) in cases {
            let is = |text| noted(&mut Heard::default(), text, &asked);
            assert_eq!([whole, part, list].map(is), wanted, "{asked:?}");
        }
    }

    #[test]
    fn a_flood_is_noted_once() {
        let mut heard = Heard::default();
        for round in 0..3 {
            for n in 0..2 * MOST_NAMED {
                let is_new = noted(&mut heard, &format!("* STATUS a{n} ()"), &Asked::Nothing);
                assert_eq!(is_new, round == 0 && n <= MOST_NAMED, "{round} {n}");
            }
        }
        assert!(heard.changed.len() == MOST_NAMED && heard.folders && !heard.is_over);
        let long = format!("* STATUS {} ()", "x".repeat(LONGEST_NAME + 1));
        let mut heard = Heard::default();
        assert!(noted(&mut heard, &long, &Asked::Nothing) && heard.changed.is_empty());
        assert!(noted(&mut heard, "* OK [NOTIFICATIONOVERFLOW] enough", &Asked::Nothing));
        assert!(heard.is_over);
    }
}
