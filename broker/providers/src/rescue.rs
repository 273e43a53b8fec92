//! Saves the contents of a database whose file was removed or replaced while it was open.
//!
//! Then only the connection has the data, so it must not be closed before there is a copy. The copy is a whole database beside the
//! lost file, `rescued-TIME-NAME`, or above, `rescued-TIME-DIRECTORY-NAME`, synced with its directory. No program opens such a file
//! by itself: messages that were sent after the copy was made are unsent in it, so a person must decide to use it. `sundown doctor`
//! says how.

use std::ffi::{CStr, OsStr, OsString};
use std::fs::{self, File};
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use mail_parser::DateTime;
use rusqlite::types::{ToSqlOutput, ValueRef};
use rusqlite::{Connection, FileControl};
use sundown_core::provider::ProviderError;

use crate::fault;
use crate::files::{FileId, is_absent, new_private_file, private_dir, sync_dir};

const DATABASE: &CStr = c"main";

/// The beginning of the names of copies.
pub const RESCUED: &str = "rescued-";

/// The end of the name of an incomplete copy.
const PART: &str = ".part";

/// Whether an open database has lost its name. A path that cannot be examined counts as present.
pub(crate) fn has_moved(connection: &Connection) -> bool {
    let mut moved = 0;
    let asked = connection.file_control(Some(DATABASE), FileControl::HasMoved(&mut moved));
    let is_hidden = || {
        connection
            .path()
            .is_some_and(|path| FileId::at(Path::new(path)).is_err_and(|e| !is_absent(&e)))
    };
    asked.is_ok() && moved != 0 && !is_hidden()
}

/// Copies a database to the place of its file. A missing directory is made again; if it cannot be written, the copy goes into the
/// directory above. No file is overwritten.
pub(crate) fn save(connection: &Connection, path: &Path) -> Result<PathBuf, ProviderError> {
    let here = folder_of(path);
    let mut name = path.file_name().unwrap_or(OsStr::new("database")).to_owned();
    save_in(connection, here, &name).or_else(|error| {
        let Some(directory) = here.file_name() else { return Err(error) };
        name = [directory, OsStr::new("-"), &name].into_iter().collect();
        save_in(connection, folder_of(here), &name).map_err(|_| error)
    })
}

fn save_in(connection: &Connection, folder: &Path, name: &OsStr) -> Result<PathBuf, ProviderError> {
    private_dir(folder)?;
    let (part, saved) = reserve(folder, name).map_err(|error| fault::io(folder, &error))?;
    let written = copy(connection, &part)
        .map_err(|error| fault::sql(&part, &error))
        .and_then(|()| keep(&part, &saved, folder).map_err(|error| fault::io(&saved, &error)));
    if written.is_err() {
        let _ = fs::remove_file(&part);
    }
    written.map(|()| saved)
}

/// Makes an empty file for a copy. Returns it with the name of the complete copy, which is reserved by the file.
fn reserve(folder: &Path, name: &OsStr) -> io::Result<(PathBuf, PathBuf)> {
    let time = stamp();
    for number in 1.. {
        let number = if number == 1 { String::new() } else { format!(".{number}") };
        let mut whole = OsString::from(format!("{RESCUED}{time}{number}-"));
        whole.push(name);
        let saved = folder.join(&whole);
        whole.push(PART);
        let part = folder.join(whole);
        match new_private_file(&part) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
            Err(error) => return Err(error),
            Ok(_) if saved.exists() => fs::remove_file(&part)?,
            Ok(_) => return Ok((part, saved)),
        }
    }
    unreachable!("there are more numbers than files")
}

fn copy(connection: &Connection, to: &Path) -> rusqlite::Result<()> {
    // A path need not be valid text.
    let to = ToSqlOutput::Borrowed(ValueRef::Text(to.as_os_str().as_bytes()));
    connection.execute("VACUUM INTO ?1", [to]).map(drop)
}

fn keep(part: &Path, saved: &Path, folder: &Path) -> io::Result<()> {
    File::open(part)?.sync_all()?;
    fs::rename(part, saved)?;
    sync_dir(folder)
}

fn folder_of(path: &Path) -> &Path {
    path.parent().filter(|parent| *parent != Path::new("")).unwrap_or(Path::new("."))
}

/// The time for a name: `20260302T104512Z`.
fn stamp() -> String {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let now = DateTime::from_timestamp(since.as_secs().cast_signed());
    let DateTime { year, month, day, hour, minute, second, .. } = now;
    format!("{year:04}{month:02}{day:02}T{hour:02}{minute:02}{second:02}Z")
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    fn database(path: &Path) -> Connection {
        let connection = Connection::open(path).expect("it opens");
        connection.execute_batch("CREATE TABLE t (n); INSERT INTO t VALUES (7)").expect("written");
        connection
    }

    fn number(path: &Path) -> i64 {
        let connection = Connection::open(path).expect("it opens");
        connection.query_row("SELECT n FROM t", [], |row| row.get(0)).expect("a number")
    }

    /// A removed file is saved beside its name, even if its directory is gone. Nothing is overwritten, and only its owner may read
    /// the copy.
    #[test]
    fn a_copy_is_made_where_the_file_was() {
        let home = tempfile::tempdir().expect("a directory");
        let path = home.path().join("deep/er/mail.db");
        fs::create_dir_all(folder_of(&path)).expect("made");
        let connection = database(&path);
        fs::remove_dir_all(home.path().join("deep")).expect("removed");
        let copies = [(); 3].map(|()| save(&connection, &path).expect("saved"));
        for saved in &copies {
            assert_eq!(saved.parent(), path.parent());
            let name = saved.file_name().expect("a name").to_string_lossy();
            assert!(name.starts_with(RESCUED) && name.ends_with("-mail.db"), "{name}");
            assert_eq!(number(saved), 7);
            assert_eq!(fs::metadata(saved).expect("there").permissions().mode() & 0o777, 0o600);
        }
        assert!(copies[0] != copies[1] && copies[1] != copies[2], "{copies:?}");
        let files = fs::read_dir(folder_of(&path)).expect("there").count();
        assert_eq!(files, copies.len(), "nothing else is left");
    }

    /// If the directory cannot be made again, the copy goes into the one above; if that cannot be written, there is no copy.
    #[test]
    fn where_there_is_no_place_the_one_above_is_taken() {
        let home = tempfile::tempdir().expect("a directory");
        let path = home.path().join("deep/mail.db");
        fs::create_dir_all(folder_of(&path)).expect("made");
        let connection = database(&path);
        fs::remove_dir_all(folder_of(&path)).expect("removed");
        fs::write(folder_of(&path), "no directory").expect("written");
        let saved = save(&connection, &path).expect("saved");
        assert_eq!(saved.parent(), Some(home.path()));
        let name = saved.file_name().expect("a name").to_string_lossy().into_owned();
        assert!(name.ends_with("-deep-mail.db"), "{name}");
        let nowhere = home.path().join("deep/est/mail.db");
        save(&connection, &nowhere).expect_err("there is no place");
    }
}
