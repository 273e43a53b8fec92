//! What a caller is told when `SQLite` or the file system fails; one place for all of it.

use std::io;
use std::path::{Path, PathBuf};

use rusqlite::{ErrorCode, ffi};
use rustix::process::{Resource, getrlimit};
use sundown_core::provider::ProviderError;
use sundown_protocol::Code;

/// Why a call failed.
#[derive(Debug)]
pub(crate) enum Failure {
    /// The data does not allow it; the caller is told as it stands.
    Refused(ProviderError),
    /// The database failed.
    Sql(rusqlite::Error),
}

impl Failure {
    pub(crate) fn refused(code: Code, message: impl Into<String>) -> Self {
        Self::Refused(ProviderError::new(code, message))
    }

    /// What the caller is told.
    pub(crate) fn told(self, path: &Path) -> ProviderError {
        match self {
            Self::Refused(error) => error,
            Self::Sql(error) => sql(path, &error),
        }
    }
}

impl From<rusqlite::Error> for Failure {
    fn from(error: rusqlite::Error) -> Self {
        Self::Sql(error)
    }
}

/// Whether a database's error leaves it open what the disk holds: a write or a sync that failed. After that a later sync that
/// succeeds proves nothing. A page that cannot be read is none of these, nor is a full disk, which says so before anything
/// is synced.
pub(crate) fn is_untrustworthy(error: &rusqlite::Error) -> bool {
    let rusqlite::Error::SqliteFailure(cause, _) = error else { return false };
    let read = [ffi::SQLITE_IOERR_READ, ffi::SQLITE_IOERR_SHORT_READ];
    cause.code == ErrorCode::SystemIoFailure && !read.contains(&cause.extended_code)
}

/// Whether a database's error means that one of its pages is damaged or cannot be read; other pages may be sound.
pub(crate) fn is_damaged_page(error: &rusqlite::Error) -> bool {
    let rusqlite::Error::SqliteFailure(cause, _) = error else { return false };
    let read = [ffi::SQLITE_IOERR_READ, ffi::SQLITE_IOERR_SHORT_READ];
    cause.code == ErrorCode::DatabaseCorrupt || read.contains(&cause.extended_code)
}

/// Whether what could not be read is damaged: it is not what was written, or the page that it is on is.
pub(crate) fn is_damage(error: &std::io::Error) -> bool {
    let inner = error.get_ref().and_then(|inner| inner.downcast_ref::<rusqlite::Error>());
    inner.is_some_and(|error| error.sqlite_error_code().is_none() || is_damaged_page(error))
}

/// A message that cannot be read, in the words of a transport that was to send it.
pub(crate) fn unreadable(error: &std::io::Error) -> ProviderError {
    if is_damage(error) {
        let message = "the message is damaged in the store and cannot be sent";
        return ProviderError::new(Code::E_CORRUPT_STORE, message);
    }
    ProviderError::new(Code::E_DISK_ERROR, format!("the message could not be read: {error}"))
}

/// The limit for the size of files of this process, in words.
fn file_limit() -> Option<String> {
    let bytes = getrlimit(Resource::Fsize).current?;
    let where_from = "the broker was started with this limit for files (`ulimit -f`, LimitFSIZE=)";
    Some(format!(
        "it may have {bytes} bytes and no more; {where_from}, stop it and start it without"
    ))
}

/// Why a database cannot be written, if one of its files has come to the limit for the size of files. `SQLite` does not tell this from a
/// disk that failed: the write up to the limit was done, so the file ends within a page of it.
pub(crate) fn beyond_limit(path: &Path) -> Option<ProviderError> {
    let limit = getrlimit(Resource::Fsize).current?;
    let size = |suffix: &str| {
        let file = with_suffix(path, suffix);
        file.metadata().map_or(0, |file| file.len())
    };
    let largest = ["", "-wal", "-journal"].into_iter().map(size).max()?;
    if largest + PAGE <= limit {
        return None;
    }
    let text = format!("{}: {}", path.display(), file_limit()?);
    Some(ProviderError::new(Code::E_NOT_ENOUGH_DISK, text))
}

/// A page of a database, with its header in the log.
const PAGE: u64 = 4_096 + 24;

fn with_suffix(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(suffix);
    name.into()
}

/// A database's failure in MAPI's words.
pub(crate) fn sql(path: &Path, error: &rusqlite::Error) -> ProviderError {
    if is_untrustworthy(error)
        && let Some(beyond) = beyond_limit(path)
    {
        return beyond;
    }
    let path = path.display();
    let (code, advice) = match error.sqlite_error_code() {
        Some(ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase) => {
            let advice = "it is damaged or no database; \"A damaged store\" in docs/operations.md says how to save what is in it";
            (Code::E_CORRUPT_STORE, advice)
        }
        Some(ErrorCode::DiskFull) => (Code::E_NOT_ENOUGH_DISK, "the disk is full; make room"),
        Some(ErrorCode::ReadOnly | ErrorCode::PermissionDenied | ErrorCode::CannotOpen) => {
            (Code::E_DISK_ERROR, "it cannot be written; check its owner and permissions")
        }
        // SQLite also says busy where a file system has no locks (ENOLCK).
        Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked) => {
            let advice = "another program keeps it locked, or its file system has no locks; end that program, or keep it on a \
                          local disk";
            (Code::E_DISK_ERROR, advice)
        }
        Some(ErrorCode::OutOfMemory) => (Code::E_NOT_ENOUGH_MEMORY, "there is no memory left"),
        Some(ErrorCode::TooBig) => (Code::E_TOO_BIG, "that is too big for it"),
        Some(ErrorCode::SystemIoFailure) => (Code::E_DISK_ERROR, "the disk failed"),
        Some(_) => (Code::E_CALL_FAILED, "it did not take that"),
        // Not SQLite's word but that of the layer above: a value in a row is not what it must be.
        None => (Code::E_CORRUPT_STORE, "a row in it is damaged; the others go on"),
    };
    ProviderError::new(code, format!("{path}: {advice} ({error})"))
}

/// A file system's failure in MAPI's words.
pub(crate) fn io(path: &Path, error: &io::Error) -> ProviderError {
    let (code, words) = words(error);
    ProviderError::new(code, format!("{}: {words}", path.display()))
}

/// The same where the path was said already.
pub(crate) fn words(error: &io::Error) -> (Code, String) {
    let (code, advice) = match error.kind() {
        io::ErrorKind::NotFound | io::ErrorKind::NotADirectory => {
            (Code::E_DISK_ERROR, "there is no such file or directory; check the path")
        }
        io::ErrorKind::PermissionDenied | io::ErrorKind::ReadOnlyFilesystem => {
            (Code::E_DISK_ERROR, "check its owner and permissions")
        }
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => {
            (Code::E_NOT_ENOUGH_DISK, "make room on the disk")
        }
        io::ErrorKind::FileTooLarge => {
            let advice =
                file_limit().unwrap_or_else(|| "it is as large as its file system allows".into());
            return (Code::E_NOT_ENOUGH_DISK, format!("{advice} ({error})"));
        }
        _ => (Code::E_DISK_ERROR, "check the path and the disk"),
    };
    (code, format!("{advice} ({error})"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failed_write_or_sync_is_untrustworthy() {
        let is =
            |code| is_untrustworthy(&rusqlite::Error::SqliteFailure(ffi::Error::new(code), None));
        let failed = [
            ffi::SQLITE_IOERR,
            ffi::SQLITE_IOERR_WRITE,
            ffi::SQLITE_IOERR_FSYNC,
            ffi::SQLITE_IOERR_DIR_FSYNC,
            ffi::SQLITE_IOERR_TRUNCATE,
        ];
        assert!(failed.into_iter().all(is));
        let harmless = [
            ffi::SQLITE_IOERR_READ,
            ffi::SQLITE_IOERR_SHORT_READ,
            ffi::SQLITE_FULL,
            ffi::SQLITE_BUSY,
            ffi::SQLITE_CORRUPT,
        ];
        assert!(!harmless.into_iter().any(is));
        assert!(!is_untrustworthy(&rusqlite::Error::QueryReturnedNoRows));
    }
}
