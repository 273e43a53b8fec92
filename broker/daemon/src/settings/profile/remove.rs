//! Takes a profile away: its file, and not its data.

use std::fmt;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use sundown_protocol::Code;

use super::{DEFAULT, Places, ProfileError, files, not_found, valid_name};

/// Why a profile cannot be removed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RemoveError {
    /// It is none.
    Profile(ProfileError),
    /// The default profile has no file: it is what holds without one, and stays.
    NothingToRemove {
        /// The files that would have held it.
        looked_for: Vec<PathBuf>,
    },
    /// Its file is there and cannot be deleted.
    Denied {
        /// The file.
        file: PathBuf,
        /// The system's words.
        why: String,
    },
}

impl RemoveError {
    /// What a client is told.
    pub fn code(&self) -> Code {
        match self {
            Self::Profile(ProfileError::Name(_)) => Code::E_INVALID_PARAMETER,
            Self::Profile(_) | Self::NothingToRemove { .. } => Code::E_NOT_FOUND,
            Self::Denied { .. } => Code::E_NO_ACCESS,
        }
    }
}

impl fmt::Display for RemoveError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Profile(error) => error.fmt(f),
            Self::NothingToRemove { looked_for } => {
                let files: Vec<_> = looked_for.iter().map(|f| f.display().to_string()).collect();
                write!(
                    f,
                    "the profile {DEFAULT:?} has no file to remove ({}); without one it has all \
                     defaults",
                    files.join(", ")
                )
            }
            Self::Denied { file, why } => write!(f, "cannot remove {}: {why}", file.display()),
        }
    }
}

impl std::error::Error for RemoveError {}

/// Deletes the file of a profile in the first folder that has one. Its data stays, with the mail in it, and so does a
/// file of that name in a later folder. A file with mistakes in it is removed like any other.
pub fn remove_profile(name: &str, places: &Places) -> Result<(), RemoveError> {
    if !valid_name(name) {
        return Err(RemoveError::Profile(ProfileError::Name(name.to_owned())));
    }
    for file in files(name, places) {
        if removed(&file)? {
            return Ok(());
        }
    }
    Err(match name {
        DEFAULT => RemoveError::NothingToRemove { looked_for: files(name, places) },
        _ => RemoveError::Profile(not_found(name, places)),
    })
}

/// Whether there was such a file.
fn removed(file: &Path) -> Result<bool, RemoveError> {
    match std::fs::remove_file(file) {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(false),
        Err(error) => Err(RemoveError::Denied { file: file.to_owned(), why: error.to_string() }),
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::fixture;
    use super::*;

    #[test]
    fn the_first_file_goes_and_data_stays() {
        let mut fixture = fixture();
        fixture.places.data = fixture.root.path().join("data");
        std::fs::create_dir_all(fixture.places.data.join("work")).expect("made");
        fixture
            .write("data/work/store.db", "")
            .write("user/work.toml", "")
            .write("etc/work.toml", "");
        let there = |path: &str| fixture.root.path().join(path).exists();
        assert_eq!(remove_profile("work", &fixture.places), Ok(()));
        assert!(!there("user/work.toml") && there("etc/work.toml") && there("data/work/store.db"));
        assert_eq!(remove_profile("work", &fixture.places), Ok(()));
        assert!(!there("etc/work.toml"));
        let error = remove_profile("work", &fixture.places).expect_err("it is gone");
        assert_eq!(error.code(), Code::E_NOT_FOUND);
        let shown = error.to_string();
        assert!(shown.contains("user/work.toml") && shown.contains("\"work\""), "{shown}");
    }

    #[test]
    fn a_file_with_mistakes_can_be_removed() {
        let fixture = fixture();
        fixture.write("user/odd.toml", "[[[");
        assert_eq!(remove_profile("odd", &fixture.places), Ok(()));
    }

    #[test]
    fn the_default_profile_without_a_file_stays() {
        let fixture = fixture();
        let error = remove_profile("default", &fixture.places).expect_err("nothing is there");
        assert_eq!(error.code(), Code::E_NOT_FOUND);
        assert!(error.to_string().contains("user/default.toml"), "{error}");
        fixture.write("user/default.toml", "");
        assert_eq!(remove_profile("default", &fixture.places), Ok(()));
    }

    #[test]
    fn what_is_no_name_is_no_path() {
        for name in ["", "..", "../user/work", "a/b"] {
            let error = remove_profile(name, &fixture().places).expect_err("no name");
            assert_eq!(error.code(), Code::E_INVALID_PARAMETER, "{name:?}");
        }
    }

    /// A folder stands for what cannot be deleted: it is so for root, too.
    #[test]
    fn what_cannot_be_deleted_is_named() {
        let fixture = fixture();
        std::fs::create_dir(fixture.root.path().join("user/work.toml")).expect("made");
        fixture.write("etc/work.toml", "");
        let error = remove_profile("work", &fixture.places).expect_err("it is in the way");
        assert_eq!(error.code(), Code::E_NO_ACCESS);
        assert!(error.to_string().contains("user/work.toml"), "{error}");
        assert!(fixture.root.path().join("etc/work.toml").exists());
    }
}
