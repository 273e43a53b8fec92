//! Folders: how people name them, and `sundown folders`.

use serde_json::{Value, json};
use sundown_client::{Code, Error, FolderKind, FolderRow, Role, Session};

use crate::output;

/// How deep a folder may be in others for its path to be shown. Stores have fewer levels.
const DEEPEST: usize = 64;

/// How many folders are named where several fit.
const NAMED: usize = 5;

/// The folder that a word or a path names.
pub(crate) fn find(session: &Session, wanted: &str) -> Result<FolderKind, Error> {
    match wanted.parse() {
        Ok(folder) => Ok(folder),
        Err(_) => among(&session.default_store()?.folders()?, wanted),
    }
}

/// The folder with this role; else the one with this path, in which the case of letters counts only where it tells two apart.
fn among(folders: &[FolderRow], wanted: &str) -> Result<FolderKind, Error> {
    let role = Role::ALL.into_iter().find(|role| role.name() == wanted);
    let has_role = |row: &&FolderRow| role.is_some() && row.role == role;
    if let Some(row) = folders.iter().find(has_role) {
        return Ok(row.folder);
    }
    let paths = Paths::of(folders);
    let fold = |text: &str| text.to_lowercase();
    let exact = |row: &&FolderRow| paths.of_row(row) == wanted;
    let alike = |row: &&FolderRow| fold(&paths.of_row(row)) == fold(wanted);
    for fits in [&exact as &dyn Fn(&&FolderRow) -> bool, &alike] {
        let found: Vec<_> = folders.iter().filter(fits).collect();
        match &found[..] {
            [] => {}
            [one] => return Ok(one.folder),
            several => return Err(ambiguous(wanted, several, &paths)),
        }
    }
    let text = format!("there is no folder {wanted:?}; `sundown folders` lists those there are");
    Err(output::error(Code::E_NOT_FOUND, text))
}

fn ambiguous(wanted: &str, several: &[&FolderRow], paths: &Paths<'_>) -> Error {
    let one = |row: &&FolderRow| format!("{} ({})", row.folder, paths.of_row(row));
    let named: Vec<_> = several.iter().take(NAMED).map(one).collect();
    let more = if several.len() > NAMED { ", …" } else { "" };
    let (count, named) = (several.len(), named.join(", "));
    output::invalid(format!(
        "{count} folders are named {wanted:?}: {named}{more}; say the word in front of its path"
    ))
}

/// The paths of folders: their names and those of the folders that they are in.
pub(crate) struct Paths<'a>(std::collections::HashMap<FolderKind, &'a FolderRow>);

impl<'a> Paths<'a> {
    pub(crate) fn of(folders: &'a [FolderRow]) -> Self {
        Self(folders.iter().map(|row| (row.folder, row)).collect())
    }

    /// `Work/2026`. A folder that is not known has its word.
    pub(crate) fn path(&self, folder: FolderKind) -> String {
        self.0.get(&folder).map_or_else(|| folder.to_string(), |row| self.of_row(row))
    }

    fn of_row(&self, row: &FolderRow) -> String {
        let above = std::iter::successors(Some(row), |row| self.0.get(&row.parent?).copied());
        let mut names: Vec<_> = above.take(DEEPEST).map(|row| row.name.as_str()).collect();
        names.reverse();
        names.join("/")
    }
}

/// A folder in the documents of `--json`.
pub(crate) fn value(row: &FolderRow) -> Value {
    json!({
        "folder": row.folder.to_string(),
        "parent": row.parent.map(|parent| parent.to_string()),
        "name": row.name,
        "role": row.role.map(Role::name),
        "total": row.total,
        "unread": row.unread,
    })
}

/// Folders for people.
pub(crate) fn list(folders: &[FolderRow]) -> String {
    let paths = Paths::of(folders);
    let row = |row: &FolderRow| {
        vec![
            row.folder.to_string(),
            row.role.map_or("", Role::name).to_owned(),
            row.total.to_string(),
            row.unread.to_string(),
            paths.of_row(row),
        ]
    };
    let rows: Vec<_> = folders.iter().map(row).collect();
    output::table(&["folder", "role", "messages", "unread", "path"], &rows)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn folder(number: u32, parent: Option<u32>, name: &str, role: Option<Role>) -> FolderRow {
        let (folder, parent) = (FolderKind(number), parent.map(FolderKind));
        FolderRow { folder, parent, name: name.into(), role, total: 3, unread: 1 }
    }

    fn folders() -> Vec<FolderRow> {
        vec![
            folder(0, None, "Inbox", Some(Role::Inbox)),
            folder(16, None, "Put away", Some(Role::Archive)),
            folder(17, None, "Work", None),
            folder(18, Some(17), "2026", None),
            folder(19, None, "Work/2026", None),
            folder(20, Some(17), "archive", None),
            folder(21, None, "Ärger", None),
            folder(22, None, "WORK", None),
        ]
    }

    #[test]
    fn folders_are_found_by_role_and_path() {
        let found = |wanted: &str| among(&folders(), wanted).expect(wanted);
        assert_eq!(found("archive"), FolderKind(16));
        assert_eq!(found("Put away"), FolderKind(16));
        assert_eq!(found("Work"), FolderKind(17));
        assert_eq!(found("Work/archive"), FolderKind(20));
        assert_eq!(found("ärger"), FolderKind(21));
        assert_eq!(found("Inbox"), FolderKind::INBOX);
    }

    #[test]
    fn what_is_no_folder_or_several_is_refused() {
        let refused = |wanted: &str| among(&folders(), wanted).expect_err(wanted);
        let several = refused("Work/2026");
        assert_eq!(several.code(), Code::E_INVALID_PARAMETER);
        assert!(several.to_string().contains("f18 (Work/2026), f19 (Work/2026)"), "{several}");
        assert!(refused("work").to_string().contains("f17 (Work), f22 (WORK)"));
        for wanted in ["junk", "2026", "", "/Work", "Work/"] {
            let none = refused(wanted);
            assert_eq!(none.code(), Code::E_NOT_FOUND, "{wanted}");
            assert!(none.to_string().contains("`sundown folders` lists"), "{none}");
        }
    }

    /// What a broker says of parents is believed as far as it makes sense.
    #[test]
    fn circles_of_parents_end() {
        let circle = [folder(16, Some(17), "a", None), folder(17, Some(16), "b", None)];
        assert_eq!(Paths::of(&circle).path(FolderKind(16)).len(), 2 * DEEPEST - 1);
        assert_eq!(Paths::of(&circle).path(FolderKind(99)), "f99");
    }

    #[test]
    fn lists_have_words_and_paths() {
        let list = list(&folders());
        assert!(list.starts_with("folder  role     messages  unread  path\n"), "{list}");
        assert!(list.contains("f18              3         1       Work/2026\n"), "{list}");
    }
}
