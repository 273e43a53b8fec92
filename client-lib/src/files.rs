//! Makes directories and files with a given mode, whatever the umask. The umask belongs to the program and is shared by its
//! threads, so it is not changed: the mode is set after the directory or file is made.

use std::fs::{self, DirBuilder, File, Permissions};
use std::io::{self, ErrorKind, Read, Seek, SeekFrom};
use std::os::fd::{AsFd, AsRawFd};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, PermissionsExt};
use std::path::Path;

use rustix::fs::{Mode, OFlags, fchmod, fstat, open, openat};
use rustix::io::Errno;

/// The most bytes that [`read_small`] reads, the last ones of a file.
const LONGEST: u64 = 1 << 20;

/// Reads the end of a file. A pipe in its place is not waited for, and a file without an end is not read to one.
///
/// ```
/// use std::path::Path;
///
/// assert!(sundown_client::files::read_small(Path::new("/dev/zero")).is_err(), "it is no file");
/// ```
pub fn read_small(path: &Path) -> io::Result<Vec<u8>> {
    let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let mut file = File::from(open(path, flags, Mode::empty())?);
    let found = file.metadata()?;
    if !found.is_file() {
        return Err(io::Error::other("it is no file"));
    }
    file.seek(SeekFrom::Start(found.len().saturating_sub(LONGEST)))?;
    let mut bytes = Vec::new();
    file.take(LONGEST).read_to_end(&mut bytes)?;
    Ok(bytes)
}

/// The process that has locked a file, as the kernel lists it in /proc/locks. `None` if none has, and where the list cannot be read or
/// does not show the process, as from another pid namespace.
///
/// ```
/// use std::path::Path;
///
/// assert_eq!(sundown_client::files::lock_holder(Path::new("/etc/passwd")), None, "nobody locks it");
/// ```
pub fn lock_holder(file: &Path) -> Option<u32> {
    let found = fs::metadata(file).ok()?;
    let (major, minor) = (rustix::fs::major(found.dev()), rustix::fs::minor(found.dev()));
    let wanted = format!("{major:02x}:{minor:02x}:{}", found.ino());
    // 1: FLOCK  ADVISORY  WRITE 4711 fe:01:262145 0 EOF
    let locks = fs::read_to_string("/proc/locks").ok()?;
    let mut locks = locks.lines().map(|line| line.split_whitespace().collect::<Vec<_>>());
    let lock =
        locks.find(|words| words.get(1) == Some(&"FLOCK") && words.get(5) == Some(&&*wanted))?;
    lock.get(4)?.parse().ok().filter(|pid| *pid > 0)
}

/// Makes a directory and its parents, each with this mode, unless they exist. Existing directories are not changed.
pub fn make_directories(path: &Path, mode: u32) -> io::Result<()> {
    if path.is_dir() || path.as_os_str().is_empty() {
        return Ok(());
    }
    if let Some(above) = path.parent() {
        make_directories(above, mode)?;
    }
    match DirBuilder::new().mode(mode).create(path) {
        // A directory whose mode cannot be set is removed.
        Ok(()) => set_mode(path, mode).inspect_err(|_| drop(fs::remove_dir(path))),
        // Another program has just made the directory.
        Err(error) if error.kind() == ErrorKind::AlreadyExists && path.is_dir() => Ok(()),
        Err(error) => Err(error),
    }
}

/// Sets the mode of a directory that was just made, unless it has that mode.
fn set_mode(directory: &Path, mode: u32) -> io::Result<()> {
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let made = open(directory, flags, Mode::empty())?;
    let found = fstat(&made)?;
    let is = found.st_mode & 0o777;
    if is == mode || found.st_uid != rustix::process::geteuid().as_raw() {
        return Ok(());
    }
    // A directory that its owner may not open has only a descriptor without rights (`O_PATH`). Its mode can be set by its name in
    // /proc alone.
    let name = format!("/proc/self/fd/{}", made.as_raw_fd());
    fs::set_permissions(name, Permissions::from_mode(found.st_mode & 0o7000 | mode))
}

/// Opens a file for reading and appending. A file that does not exist is made with mode 0600. Links are not followed.
pub(crate) fn open_private(directory: impl AsFd, name: &str) -> io::Result<File> {
    let flags = OFlags::APPEND | OFlags::RDWR | OFlags::CREATE | OFlags::CLOEXEC;
    let (flags, mode) = (flags | OFlags::NOFOLLOW, Mode::RUSR | Mode::WUSR);
    match openat(directory.as_fd(), name, flags | OFlags::EXCL, mode) {
        Err(Errno::EXIST) => Ok(openat(directory, name, flags, mode)?.into()),
        made => {
            let made = made?;
            fchmod(&made, mode)?;
            Ok(made.into())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mode(path: &Path) -> u32 {
        fs::metadata(path).expect("there").mode() & 0o777
    }

    /// The usual umask removes bits of this mode.
    #[test]
    fn what_is_made_has_its_mode_and_what_was_there_keeps_its_own() {
        let root = tempfile::tempdir().expect("a directory");
        let there = root.path().join("there");
        fs::create_dir(&there).expect("made");
        fs::set_permissions(&there, Permissions::from_mode(0o711)).expect("changed");
        make_directories(&there.join("a/b"), 0o777).expect("made");
        assert_eq!(mode(&there), 0o711);
        assert_eq!((mode(&there.join("a")), mode(&there.join("a/b"))), (0o777, 0o777));
        make_directories(&there, 0o700).expect("it is there");
        assert_eq!(mode(&there), 0o711);
        fs::write(there.join("file"), "").expect("written");
        make_directories(&there.join("file"), 0o700).expect_err("it is a file");
    }

    #[test]
    fn who_has_locked_a_file_is_known_while_it_is_locked() {
        use rustix::fs::{FlockOperation, flock};
        if fs::metadata("/proc/locks").is_err() {
            return println!("skipped: there is no /proc/locks");
        }
        let root = tempfile::tempdir().expect("a directory");
        let path = root.path().join("lock");
        let file = File::create(&path).expect("made");
        assert_eq!(lock_holder(&path), None);
        flock(&file, FlockOperation::LockExclusive).expect("locked");
        assert_eq!(lock_holder(&path), Some(std::process::id()));
        assert_eq!(lock_holder(&root.path().join("none")), None);
        flock(&file, FlockOperation::Unlock).expect("unlocked");
        assert_eq!(lock_holder(&path), None);
    }

    #[test]
    fn a_file_that_was_there_keeps_its_mode_and_what_is_in_it() {
        let root = tempfile::tempdir().expect("a directory");
        let (directory, file) = (File::open(root.path()).expect("there"), root.path().join("f"));
        open_private(&directory, "f").expect("made");
        assert_eq!(mode(&file), 0o600);
        fs::write(&file, "text").expect("written");
        fs::set_permissions(&file, Permissions::from_mode(0o640)).expect("changed");
        open_private(&directory, "f").expect("opened");
        assert_eq!((mode(&file), fs::read(&file).expect("there")), (0o640, b"text".to_vec()));
    }
}
