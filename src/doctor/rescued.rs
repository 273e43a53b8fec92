//! Copies of stores and address books whose files were removed or replaced under a broker, and how to use them.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use super::finding::Finding;
use crate::cli::Context;
use crate::profile::mistakes::{self, RESCUED};

/// The end of the name of an incomplete copy.
const PART: &str = ".part";

/// A copy, and its database.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Copied {
    copy: PathBuf,
    /// When the copy was made, from its name.
    time: String,
    database: PathBuf,
}

/// The copies that have not been put to use.
pub(super) fn copies(context: &Context) -> Vec<Finding> {
    let mut found = BTreeSet::new();
    let databases = mistakes::databases(context);
    for database in &databases {
        let name = file_name(database);
        let Some(folder) = database.parent() else { continue };
        found.extend(beside(folder, |of| (of == name).then(|| database.clone())));
        // The copy is here if the directory could not be made again.
        let whole = format!("{}-{name}", file_name(folder));
        if let Some(above) = folder.parent() {
            found.extend(beside(above, |of| (of == whole).then(|| database.clone())));
        }
    }
    // A profile may have been removed along with its database.
    for folder in folders(&context.paths.data) {
        found.extend(beside(&folder, |of| Some(folder.join(of))));
    }
    found.iter().map(finding).collect()
}

/// The copies in a directory. `of` finds the database of a copy by the rest of its name.
fn beside(folder: &Path, of: impl Fn(&str) -> Option<PathBuf>) -> Vec<Copied> {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    let copied = |entry: fs::DirEntry| {
        let copy = entry.path();
        let name = entry.file_name().to_string_lossy().into_owned();
        let (time, rest) = name.strip_prefix(RESCUED)?.split_once('-')?;
        let database = of(rest.strip_suffix(PART).unwrap_or(rest))?;
        Some(Copied { copy, time: time.to_owned(), database })
    };
    entries.filter_map(copied).collect()
}

fn folders(data: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(data).into_iter().flatten().flatten();
    entries.map(|entry| entry.path()).filter(|path| path.is_dir()).collect()
}

fn finding(Copied { copy, time, database }: &Copied) -> Finding {
    let shown = (copy.display(), database.display());
    if file_name(copy).ends_with(PART) {
        let text = format!("{} is being written, or was not finished", shown.0);
        let advice = format!("wait for it; if no broker runs, delete {}", quoted(copy));
        return Finding::warning("rescued", text, advice);
    }
    let text = format!(
        "{} was removed or replaced under a broker: what was in it is in {}",
        shown.1, shown.0
    );
    let advice = if database.exists() {
        format!(
            "to take it in instead of what is there now, which stays in {aside}: `{}`; mail that waits there is not sent then, so \
             look at `sundown queue` first; if that is a backup of the same store, what it has sent since would be sent again. If all of it is wanted, see \"Files that are removed\" in docs/operations.md; \
             if it was meant to be removed, delete {}",
            replace(copy, database, &aside(database, time)),
            quoted(copy),
            aside = aside(database, time).display(),
        )
    } else {
        format!(
            "to take it in: `{}`; if it was meant to be removed, delete {}",
            put_back(copy, database),
            quoted(copy)
        )
    };
    Finding::problem("rescued", text, advice)
}

/// Commands to use a copy if the database's name is free. They overwrite nothing.
fn put_back(copy: &Path, database: &Path) -> String {
    format!("sundown stop; mv -n {} {}", quoted(copy), quoted(database))
}

/// Commands to use a copy if the name is taken: the present database is moved into a directory of its own, with its log.
fn replace(copy: &Path, database: &Path, aside: &Path) -> String {
    let (copy, database, aside) = (quoted(copy), quoted(database), quoted(aside));
    format!("sundown stop; mkdir {aside} && mv {database}* {aside} && mv -n {copy} {database}")
}

fn aside(database: &Path, time: &str) -> PathBuf {
    database.with_file_name(format!("replaced-{time}"))
}

fn file_name(path: &Path) -> String {
    path.file_name().unwrap_or_default().to_string_lossy().into_owned()
}

/// A path, quoted for a shell.
fn quoted(path: &Path) -> String {
    let text = path.display().to_string();
    let plain = |c: char| c.is_ascii_alphanumeric() || "/._-+@%:,=".contains(c);
    if text.chars().all(plain) { text } else { format!("'{}'", text.replace('\'', r"'\''")) }
}

#[cfg(test)]
mod tests {
    use super::super::finding::Health;
    use super::*;

    #[test]
    fn a_copy_is_found_by_the_name_of_its_database() {
        let home = tempfile::tempdir().expect("a directory");
        let names = [
            "rescued-20260302T104512Z-store.db",
            "rescued-20260302T104512Z.2-store.db",
            "rescued-20260302T104513Z-store.db.part",
            "rescued-20260302T104512Z-work-store.db",
            "rescued-store.db",
            "store.db",
        ];
        for name in names {
            fs::write(home.path().join(name), "").expect("written");
        }
        let database = home.path().join("store.db");
        let mut found = beside(home.path(), |of| (of == "store.db").then(|| database.clone()));
        found.sort();
        let found: Vec<_> = found.iter().map(|c| (file_name(&c.copy), c.time.as_str())).collect();
        let times = ["20260302T104512Z", "20260302T104512Z.2", "20260302T104513Z"];
        let expected: Vec<_> = names.map(str::to_owned).into_iter().zip(times).collect();
        assert_eq!(found, expected);
    }

    #[test]
    fn an_unfinished_copy_is_no_problem_yet() {
        let at = |name: &str| {
            let (copy, database) = (PathBuf::from(name), PathBuf::from("/nowhere/store.db"));
            finding(&Copied { copy, time: "T".into(), database }).health
        };
        assert_eq!(at("/nowhere/rescued-T-store.db.part"), Health::Warning);
        assert_eq!(at("/nowhere/rescued-T-store.db"), Health::Problem);
    }

    #[test]
    fn paths_are_quoted_for_a_shell() {
        assert_eq!(quoted(Path::new("/a/b-c.db")), "/a/b-c.db");
        assert_eq!(quoted(Path::new("/a b/it's")), r"'/a b/it'\''s'");
    }
}
