//! The socket, its directory, and the lock that keeps a second broker out.
//!
//! The lock is on a file in the data directory and names the live socket. Whoever holds it may remove a socket that
//! a broker left behind when it was killed; a live socket is never displaced, because its broker holds the lock.

use std::fmt;
use std::fs::{self, File};
use std::io::{self, Read, Seek, Write};
use std::os::fd::AsFd;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use interprocess::local_socket::traits::Listener as _;
use interprocess::local_socket::{
    GenericFilePath, Listener, ListenerNonblockingMode, ListenerOptions, Stream, ToFsName,
};
use rustix::fs::FlockOperation;

use crate::settings::Group;

const LOCK_FILE: &str = "broker.lock";

/// Why a broker cannot have its place.
#[derive(Debug)]
pub enum PlaceError {
    /// Another broker has this data directory; the text is its socket.
    Running {
        /// The data directory.
        data: PathBuf,
        /// Where the other one listens.
        socket: String,
    },
    /// A directory belongs to somebody else, or others may write to it.
    Unsafe {
        /// The directory.
        directory: PathBuf,
        /// What is wrong with it.
        why: String,
    },
    /// The system refused.
    Io {
        /// What was to be done.
        what: String,
        /// The path.
        path: PathBuf,
        /// What the system said.
        error: io::Error,
    },
}

impl fmt::Display for PlaceError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Running { data, socket } => write!(
                f,
                "another broker is running with the data directory {} and listens on {socket}; \
                 use it, stop it with `sundown stop`, or choose another --data-dir",
                data.display()
            ),
            Self::Unsafe { directory, why } => {
                write!(f, "the directory {} {why}; choose another one", directory.display())
            }
            Self::Io { what, path, error } => {
                write!(f, "cannot {what} {}: {error}", path.display())
            }
        }
    }
}

impl std::error::Error for PlaceError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Io { error, .. } => Some(error),
            _ => None,
        }
    }
}

fn io_error(what: &str, path: &Path) -> impl FnOnce(io::Error) -> PlaceError {
    move |error| PlaceError::Io { what: what.to_owned(), path: path.to_owned(), error }
}

/// The lock on a data directory. It ends with the process, however that ends.
#[derive(Debug)]
pub struct DataLock {
    _file: File,
}

impl DataLock {
    /// Takes the data directory, made if it is not there, for a broker that will listen on `socket`.
    pub fn take(data: &Path, socket: &Path) -> Result<Self, PlaceError> {
        // Others may look into a data directory that is there already: what is in it is closed to them.
        make_private(data, 0o700, 0o755)?;
        let path = data.join(LOCK_FILE);
        let mut file = File::options()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            .open(&path)
            .map_err(io_error("open the lock file", &path))?;
        if rustix::fs::flock(file.as_fd(), FlockOperation::NonBlockingLockExclusive).is_err() {
            let mut held = String::new();
            let _ = file.read_to_string(&mut held);
            return Err(PlaceError::Running { data: data.to_owned(), socket: held });
        }
        let write = |file: &mut File| {
            file.set_len(0)?;
            file.rewind()?;
            file.write_all(socket.as_os_str().as_encoded_bytes())
        };
        write(&mut file).map_err(io_error("write the lock file", &path))?;
        Ok(Self { _file: file })
    }
}

/// The listening socket. Dropping it removes the socket's file.
#[derive(Debug)]
pub(crate) struct Place {
    listener: Listener,
    path: PathBuf,
}

impl Place {
    /// Listens. The lock proves that no live broker does.
    pub(crate) fn listen(
        path: &Path,
        group: Option<&Group>,
        _lock: &DataLock,
    ) -> Result<Self, PlaceError> {
        let directory = path.parent().unwrap_or(Path::new("/"));
        let mode = if group.is_some() { 0o750 } else { 0o700 };
        make_private(directory, mode, mode)?;
        match fs::symlink_metadata(path) {
            Ok(found) if std::os::unix::fs::FileTypeExt::is_socket(&found.file_type()) => {
                if std::os::unix::net::UnixStream::connect(path).is_ok() {
                    let socket = path.display().to_string();
                    return Err(PlaceError::Running { data: directory.to_owned(), socket });
                }
                fs::remove_file(path).map_err(io_error("remove the stale socket", path))?;
            }
            Ok(_) => {
                let error = io::Error::new(io::ErrorKind::AlreadyExists, "it is not a socket");
                return Err(io_error("listen on", path)(error));
            }
            Err(_) => {}
        }
        let name = path.to_fs_name::<GenericFilePath>().map_err(io_error("listen on", path))?;
        let listener = ListenerOptions::new()
            .name(name)
            .nonblocking(ListenerNonblockingMode::Both)
            .reclaim_name(false)
            .create_sync()
            .map_err(io_error("listen on", path))?;
        let place = Self { listener, path: path.to_owned() };
        // The directory keeps everybody else out until the mode is right.
        place.open_to(group).map_err(io_error("set the mode of", path))?;
        Ok(place)
    }

    fn open_to(&self, group: Option<&Group>) -> io::Result<()> {
        let mode = if group.is_some() { 0o660 } else { 0o600 };
        fs::set_permissions(&self.path, fs::Permissions::from_mode(mode))?;
        if let Some(group) = group {
            let directory = self.path.parent().unwrap_or(Path::new("/"));
            std::os::unix::fs::chown(&self.path, None, Some(group.gid))?;
            std::os::unix::fs::chown(directory, None, Some(group.gid))?;
            // It may have been made by a broker without a group.
            fs::set_permissions(directory, fs::Permissions::from_mode(0o750))?;
        }
        Ok(())
    }

    pub(crate) fn accept(&self) -> io::Result<Stream> {
        self.listener.accept()
    }

    pub(crate) fn as_fd(&self) -> std::os::fd::BorrowedFd<'_> {
        let Listener::UdSocket(listener) = &self.listener;
        listener.as_fd()
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.path);
    }
}

/// Makes a directory that is the user's own, or says why the one that is there is not. One that is there already may
/// have no more than the mode.
fn make_private(directory: &Path, made: u32, mode: u32) -> Result<(), PlaceError> {
    fs::DirBuilder::new()
        .recursive(true)
        .mode(made)
        .create(directory)
        .map_err(io_error("make the directory", directory))?;
    let found = fs::symlink_metadata(directory).map_err(io_error("look at", directory))?;
    let user = rustix::process::geteuid().as_raw();
    let refuse = |why: String| Err(PlaceError::Unsafe { directory: directory.to_owned(), why });
    if !found.is_dir() {
        return refuse("is not a directory".into());
    }
    if found.uid() != user {
        return refuse(format!("belongs to user {}, not to {user}", found.uid()));
    }
    let loose = found.mode() & 0o777 & !mode;
    if loose != 0 {
        let (is, open) =
            (found.mode() & 0o777, if loose & 0o022 == 0 { "entered" } else { "changed" });
        return refuse(format!(
            "has mode {is:04o} and can be {open} by others; it must have {mode:04o}"
        ));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_second_broker_is_refused_and_told_where_the_first_listens() {
        let home = tempfile::tempdir().expect("a directory");
        let data = home.path().join("data");
        let socket = data.join("run/broker.sock");
        let lock = DataLock::take(&data, &socket).expect("free");
        let second = DataLock::take(&data, &socket).expect_err("taken");
        assert!(second.to_string().contains("broker.sock"), "{second}");
        drop(lock);
        DataLock::take(&data, &socket).expect("free again");
    }

    #[test]
    fn a_stale_socket_is_recovered_and_a_live_one_is_never_displaced() {
        let home = tempfile::tempdir().expect("a directory");
        let socket = home.path().join("s/broker.sock");
        let lock = DataLock::take(&home.path().join("data"), &socket).expect("free");
        make_private(&home.path().join("s"), 0o700, 0o700).expect("made");
        drop(std::os::unix::net::UnixListener::bind(&socket).expect("bound"));
        let place = Place::listen(&socket, None, &lock).expect("the stale one is removed");
        assert_eq!(fs::metadata(&socket).expect("there").mode() & 0o777, 0o600);
        assert_eq!(fs::metadata(home.path().join("s")).expect("there").mode() & 0o777, 0o700);
        let displaced = Place::listen(&socket, None, &lock).expect_err("it lives");
        assert!(matches!(displaced, PlaceError::Running { .. }));
        drop(place);
        assert!(!socket.exists());
    }

    #[test]
    fn a_directory_that_others_can_enter_is_refused() {
        let home = tempfile::tempdir().expect("a directory");
        let directory = home.path().join("s");
        let lock = DataLock::take(&home.path().join("data"), &directory).expect("free");
        make_private(&directory, 0o755, 0o755).expect("made");
        fs::set_permissions(&directory, fs::Permissions::from_mode(0o755)).expect("changed");
        let refused = Place::listen(&directory.join("broker.sock"), None, &lock).expect_err("open");
        assert!(refused.to_string().contains("0755"), "{refused}");
        assert_eq!(fs::metadata(&directory).expect("there").mode() & 0o777, 0o755);
    }

    #[test]
    fn what_is_no_socket_is_left_alone() {
        let home = tempfile::tempdir().expect("a directory");
        let socket = home.path().join("s/broker.sock");
        let lock = DataLock::take(&home.path().join("data"), &socket).expect("free");
        make_private(&home.path().join("s"), 0o700, 0o700).expect("made");
        fs::write(&socket, "mine").expect("written");
        let refused = Place::listen(&socket, None, &lock).expect_err("a file");
        assert!(refused.to_string().contains("not a socket"), "{refused}");
        assert_eq!(fs::read_to_string(&socket).expect("there"), "mine");
    }
}
