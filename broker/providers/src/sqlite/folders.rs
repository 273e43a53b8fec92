//! What changes the folders of a store.

use rusqlite::{OptionalExtension, params};
use sundown_core::provider::ProviderAnswer;
use sundown_protocol::Code;
use sundown_protocol::request::Folder;

use super::reader::no_folder;
use super::schema::{self, FIRST_FINAL, folder_number};
use super::write::{Answer, Writer};
use crate::fault::Failure;

/// The number of the parent of a folder at the top.
pub(super) const TOP: i64 = 0;

/// How deep folders may lie in each other.
const DEEPEST: usize = 32;

impl Writer {
    pub(super) fn make_folder(&self, parent: Option<Folder>, name: &str) -> Answer {
        let parent = match parent {
            None => TOP,
            Some(parent) => {
                self.known_folder(parent)?;
                self.refuse_too_deep(parent)?;
                folder_number(parent)
            }
        };
        self.refuse_used_name(parent, name, None)?;
        let sql = "INSERT INTO folder (parent, name) VALUES (?1, ?2)";
        self.connection.prepare_cached(sql)?.execute(params![parent, name])?;
        let number = self.connection.last_insert_rowid();
        Ok(ProviderAnswer::FolderMade(schema::folder(number)?.ok_or_else(no_folder)?))
    }

    pub(super) fn rename_folder(&self, folder: Folder, name: &str) -> Answer {
        let sql = "SELECT parent FROM folder WHERE id = ?1";
        let number = folder_number(folder);
        let parent = self.connection.prepare_cached(sql)?.query_row([number], |row| row.get(0));
        let parent: i64 = parent.optional()?.ok_or_else(no_folder)?;
        self.refuse_used_name(parent, name, Some(number))?;
        // The mailbox renames the directory, if the folder has one.
        let sql = "UPDATE folder SET name = ?2,
                       renamed = CASE WHEN dir IS NOT NULL AND name <> ?2 THEN 1 ELSE renamed END
                   WHERE id = ?1";
        self.connection.prepare_cached(sql)?.execute(params![number, name])?;
        Ok(ProviderAnswer::Done)
    }

    pub(super) fn remove_folder(&self, folder: Folder) -> Answer {
        self.known_folder(folder)?;
        let number = folder_number(folder);
        let has = |sql: &str| self.connection.prepare_cached(sql)?.exists([number]);
        if has("SELECT 1 FROM folder WHERE parent = ?1")? {
            let text = "there are folders in this folder; remove them first";
            return Err(Failure::refused(Code::E_HAS_FOLDERS, text));
        }
        if has("SELECT 1 FROM message WHERE folder = ?1 AND folder <> 2")? {
            let text = "there are messages in this folder; move or delete them first";
            return Err(Failure::refused(Code::E_HAS_MESSAGES, text));
        }
        // The mailbox removes the directory, if the folder has one.
        let sql = "INSERT OR IGNORE INTO gone_dir
                       SELECT mailbox, dir FROM folder WHERE id = ?1 AND dir IS NOT NULL";
        self.connection.prepare_cached(sql)?.execute([number])?;
        let sql = "DELETE FROM folder WHERE id = ?1";
        self.connection.prepare_cached(sql)?.execute([number])?;
        Ok(ProviderAnswer::Done)
    }

    /// Fails if there is no such folder. The folders of every store are there.
    pub(super) fn known_folder(&self, folder: Folder) -> Result<(), Failure> {
        if folder.built_in().is_some() {
            return Ok(());
        }
        let sql = "SELECT 1 FROM folder WHERE id = ?1";
        let known = self.connection.prepare_cached(sql)?.exists([folder_number(folder)])?;
        if known { Ok(()) } else { Err(no_folder()) }
    }

    fn refuse_used_name(&self, parent: i64, name: &str, but: Option<i64>) -> Result<(), Failure> {
        let sql = "SELECT 1 FROM folder WHERE parent = ?1 AND name = ?2 AND id IS NOT ?3";
        if self.connection.prepare_cached(sql)?.exists(params![parent, name, but])? {
            let text = format!("there is a folder {name:?} in the same place; choose another name");
            return Err(Failure::refused(Code::E_COLLISION, text));
        }
        Ok(())
    }

    fn refuse_too_deep(&self, parent: Folder) -> Result<(), Failure> {
        let sql = "WITH RECURSIVE above (id, depth) AS (
                       SELECT ?1, 1
                       UNION ALL SELECT folder.parent, depth + 1 FROM folder, above
                           WHERE folder.id = above.id AND depth <= ?2)
                   SELECT max(depth) FROM above WHERE id <> 0";
        let parameters = (folder_number(parent), DEEPEST);
        let depth: usize =
            self.connection.prepare_cached(sql)?.query_row(parameters, |row| row.get(0))?;
        if depth >= DEEPEST {
            let text = format!("folders lie at most {DEEPEST} deep in each other");
            return Err(Failure::refused(Code::E_TOO_COMPLEX, text));
        }
        Ok(())
    }

    /// Fails if a message is in the outgoing queue.
    pub(super) fn refuse_queued(state: Option<u8>) -> Result<(), Failure> {
        if state.is_some_and(|state| state < FIRST_FINAL) {
            let text = "the message is in the outgoing queue; abort it first";
            return Err(Failure::refused(Code::E_SUBMITTED, text));
        }
        Ok(())
    }
}
