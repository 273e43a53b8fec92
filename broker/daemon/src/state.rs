//! Small files in the data directory that a broker leaves to the next one. Each is replaced as a whole and synced, so that a power cut
//! leaves the old contents or the new ones.

use std::fs::{self, File};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

/// Replaces a file. Whatever has the name of the new one before it is ready is removed: an earlier broker may have left half of it.
pub(crate) fn replace(path: &Path, contents: &[u8]) -> io::Result<()> {
    let new = path.with_extension("new");
    match fs::remove_file(&new) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let mut file = File::options().write(true).create_new(true).mode(0o600).open(&new)?;
    file.write_all(contents)?;
    file.sync_all()?;
    fs::rename(&new, path)?;
    File::open(path.parent().unwrap_or(Path::new("/")))?.sync_all()
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use rustix::fs::{CWD, FileType, Mode, mknodat};

    use super::*;

    /// Also where pipes have the names, which nobody reads.
    #[test]
    fn a_file_is_replaced_as_a_whole() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("state.json");
        for name in ["state.json", "state.new"] {
            let mode = Mode::RUSR | Mode::WUSR;
            mknodat(CWD, folder.path().join(name), FileType::Fifo, mode, 0).expect("a pipe");
        }
        for contents in ["one", "two"] {
            replace(&path, contents.as_bytes()).expect("replaced");
            assert_eq!(fs::read_to_string(&path).expect("a file"), contents);
        }
        let mode = fs::metadata(&path).expect("there").permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        assert!(!folder.path().join("state.new").exists());
    }
}
