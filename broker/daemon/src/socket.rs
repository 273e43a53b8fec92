//! The socket, its directory, and the lock that keeps a second broker out.
//!
//! The lock is on a file in the data directory and names the live socket. Whoever holds it may remove a socket that
//! a broker left behind when it was killed; a live socket is never displaced, because its broker holds the lock.
//!
//! A service manager may listen itself and pass the socket on. Its file is the manager's then: no broker removes it, and
//! whoever connects while none runs waits for the next.

use std::fmt;
use std::fs::{self, File};
use std::io::{self, Read, Seek, Write};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use interprocess::local_socket::traits::Listener as _;
use interprocess::local_socket::{
    GenericFilePath, Listener, ListenerNonblockingMode, ListenerOptions, ToFsName,
};
use interprocess::os::unix::uds_local_socket::Listener as UnixListener;
use rustix::fs::{FlockOperation, inotify};
use rustix::io::Errno;
use rustix::net::{
    AddressFamily, SocketAddrUnix, SocketFlags, SocketType, connect, socket_with, sockopt,
};
use sundown_providers::FileId;

use crate::service::Passed;
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
    /// The data directory is not the one that was taken.
    Replaced {
        /// Its name.
        data: PathBuf,
    },
    /// A directory belongs to somebody else, or others may write to it.
    Unsafe {
        /// The directory.
        directory: PathBuf,
        /// What is wrong with it.
        why: String,
    },
    /// The lock on the data directory cannot be had, and no other broker is the reason.
    NoLock {
        /// The lock file.
        path: PathBuf,
        /// What the system said.
        error: io::Error,
    },
    /// What a service manager has passed is not what a broker can use.
    Passed(PassedError),
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
            Self::Replaced { data } => write!(
                f,
                "the data directory {} was removed or replaced under the broker; start one again when it is the right one",
                data.display()
            ),
            Self::Unsafe { directory, why } => {
                write!(f, "the directory {} {why}; choose another one", directory.display())
            }
            Self::NoLock { path, error } => write!(
                f,
                "{} cannot be locked: {error}; without a lock a second broker could use the same data: choose a \
                 --data-dir on a file system that has locks, such as a local disk",
                path.display()
            ),
            Self::Passed(error) => error.fmt(f),
            Self::Io { what, path, error } => {
                write!(f, "cannot {what} {}: {error}", path.display())
            }
        }
    }
}

impl std::error::Error for PlaceError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Io { error, .. } | Self::NoLock { error, .. } => Some(error),
            Self::Passed(error) => Some(error),
            Self::Running { .. } | Self::Replaced { .. } | Self::Unsafe { .. } => None,
        }
    }
}

/// Why a broker cannot use what a service manager has passed.
#[derive(Debug)]
pub enum PassedError {
    /// `LISTEN_FDS` and what belongs to it make no sense.
    Variables(io::Error),
    /// There is more than one; these are their names.
    Several(Vec<String>),
    /// It is not a Unix stream socket that listens.
    Kind {
        /// Its name.
        name: String,
        /// What it is.
        is: &'static str,
    },
    /// The system refused.
    Io(io::Error),
}

impl fmt::Display for PassedError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Variables(error) => {
                write!(
                    f,
                    "cannot take what LISTEN_FDS says the service manager has passed: {error}"
                )
            }
            Self::Several(names) => write!(
                f,
                "the service manager has passed {} descriptors ({}); a broker takes exactly one, so the socket unit \
                 must have a single ListenStream=",
                names.len(),
                names.join(", ")
            ),
            Self::Kind { name, is } => write!(
                f,
                "descriptor 3 ({name}), which the service manager has passed, {is}; it must be a Unix stream socket \
                 that listens, as of ListenStream=/PATH with Accept=no"
            ),
            Self::Io(error) => write!(f, "cannot use the service manager's socket: {error}"),
        }
    }
}

impl std::error::Error for PassedError {}

fn io_error(what: &str, path: &Path) -> impl FnOnce(io::Error) -> PlaceError {
    move |error| PlaceError::Io { what: what.to_owned(), path: path.to_owned(), error }
}

/// The lock on a data directory. It ends with the process, however that ends.
#[derive(Debug)]
pub struct DataLock {
    data: PathBuf,
    socket: PathBuf,
    directory: FileId,
    path: PathBuf,
    file: FileId,
    held: File,
}

impl DataLock {
    /// Takes the data directory, made if it is not there, for a broker that will listen on `socket`.
    pub fn take(data: &Path, socket: &Path) -> Result<Self, PlaceError> {
        let found = &followed(data)?;
        make_durable(found).map_err(io_error("make the directory", found))?;
        // Others may look into a data directory that is there already: what is in it is closed to them.
        make_private(found, 0o700, 0o755)?;
        let path = data.join(LOCK_FILE);
        let mut file = File::options()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            .open(&path)
            .map_err(io_error("open the lock file", &path))?;
        let locked = rustix::fs::flock(file.as_fd(), FlockOperation::NonBlockingLockExclusive);
        judge(locked, &mut file, found, &path)?;
        let write = |file: &mut File| {
            file.set_len(0)?;
            file.rewind()?;
            file.write_all(socket.as_os_str().as_encoded_bytes())?;
            file.metadata()
        };
        let written = write(&mut file).map_err(io_error("write the lock file", &path))?;
        Ok(Self {
            data: data.to_owned(),
            socket: socket.to_owned(),
            directory: FileId::at(data).map_err(io_error("look at", data))?,
            path,
            file: FileId::from(&written),
            held: file,
        })
    }

    /// Writes down where the broker listens now.
    pub(crate) fn name(&mut self, socket: &Path) -> io::Result<()> {
        socket.clone_into(&mut self.socket);
        self.held.set_len(0)?;
        self.held.rewind()?;
        self.held.write_all(socket.as_os_str().as_encoded_bytes())
    }

    /// Looks whether the lock is still what keeps others out. A lock file that was removed is made and locked anew. Where another
    /// broker has one now, or the directory is another one, this broker has no place any more.
    pub fn keep(&mut self) -> Result<(), PlaceError> {
        if self.file.is_at(&self.path) {
            return Ok(());
        }
        if !self.directory.is_at(&self.data) {
            return Err(PlaceError::Replaced { data: self.data.clone() });
        }
        let path = self.path.display();
        tracing::warn!(%path, "the lock file was removed or replaced; it is made and locked anew");
        *self = Self::take(&self.data, &self.socket)?;
        Ok(())
    }
}

impl Drop for DataLock {
    fn drop(&mut self) {
        // A process that was just forked to run a command has the file too, for a moment, and would keep the lock.
        let _ = rustix::fs::flock(&self.held, FlockOperation::Unlock);
    }
}

/// What an attempt to lock the lock file means. Only a lock that is held is another broker's; a file system without locks
/// (`ENOLCK`, `EOPNOTSUPP`) is not one.
fn judge(
    locked: rustix::io::Result<()>,
    file: &mut File,
    data: &Path,
    path: &Path,
) -> Result<(), PlaceError> {
    match locked {
        Ok(()) => Ok(()),
        Err(Errno::WOULDBLOCK) => {
            let mut held = String::new();
            let _ = file.read_to_string(&mut held);
            Err(PlaceError::Running { data: data.to_owned(), socket: held })
        }
        Err(error) => Err(PlaceError::NoLock { path: path.to_owned(), error: error.into() }),
    }
}

/// The listening socket. Dropping it removes the socket's file, if the broker made that and it is still there.
#[derive(Debug)]
pub(crate) struct Place {
    listener: Listener,
    path: PathBuf,
    file: SocketFile,
    /// Becomes readable when something happens to the socket's file, where the kernel can say so.
    watch: Option<OwnedFd>,
}

/// Whose the socket's file is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum SocketFile {
    /// This broker made it, and it is this one.
    Ours(FileId),
    /// A service manager made it, and who may connect is its affair.
    Managers,
}

/// Which file stands under a name; of a link, the link.
fn file_at(path: &Path) -> io::Result<FileId> {
    fs::symlink_metadata(path).map(|found| FileId::from(&found))
}

impl Place {
    /// Uses the socket that a service manager listens on, if it has passed one.
    pub(crate) fn of_manager(mut passed: Vec<Passed>) -> Result<Option<Self>, PassedError> {
        if passed.len() > 1 {
            return Err(PassedError::Several(passed.into_iter().map(|p| p.name).collect()));
        }
        let Some(Passed { fd, name }) = passed.pop() else { return Ok(None) };
        if let Some(is) = wrong_kind(fd.as_fd()).map_err(PassedError::Io)? {
            return Err(PassedError::Kind { name, is });
        }
        let listener = UnixListener::from(fd);
        let address = listener.inner().local_addr().map_err(PassedError::Io)?;
        let Some(path) = address.as_pathname() else {
            let is = "has no path that clients could connect to";
            return Err(PassedError::Kind { name, is });
        };
        let path = path.to_owned();
        let listener = Listener::UdSocket(listener);
        listener.set_nonblocking(ListenerNonblockingMode::Both).map_err(PassedError::Io)?;
        Ok(Some(Self { listener, path, file: SocketFile::Managers, watch: None }))
    }

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
                if listens(path).unwrap_or(false) {
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
        let file = SocketFile::Ours(file_at(path).map_err(io_error("look at", path))?);
        let mut place = Self { listener, path: path.to_owned(), file, watch: None };
        // The directory keeps everybody else out until the mode is right.
        place.open_to(group).map_err(io_error("set the mode of", path))?;
        place.watch = watch(path).ok();
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

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// The next connection, which never blocks and is closed in children.
    pub(crate) fn accept(&self) -> io::Result<OwnedFd> {
        let flags = SocketFlags::NONBLOCK | SocketFlags::CLOEXEC;
        Ok(rustix::net::accept_with(self.as_fd(), flags)?)
    }

    /// What becomes readable when something happens to the socket's file.
    pub(crate) fn watch(&self) -> Option<BorrowedFd<'_>> {
        self.watch.as_ref().map(OwnedFd::as_fd)
    }

    /// Whether the socket's file is where clients look for it. A logout, which takes the runtime directory away, removes it.
    pub(crate) fn is_there(&self) -> bool {
        self.file == SocketFile::Managers
            || file_at(&self.path).is_ok_and(|there| SocketFile::Ours(there) == self.file)
    }

    pub(crate) fn as_fd(&self) -> BorrowedFd<'_> {
        let Listener::UdSocket(listener) = &self.listener;
        listener.as_fd()
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        // Another broker may have put its own there, after somebody had removed this one.
        let there = file_at(&self.path).ok().map(SocketFile::Ours);
        if there == Some(self.file) {
            let _ = fs::remove_file(&self.path);
        }
    }
}

fn watch(path: &Path) -> io::Result<OwnedFd> {
    let watch = inotify::init(inotify::CreateFlags::CLOEXEC | inotify::CreateFlags::NONBLOCK)?;
    // While the broker listens the file itself stays; that it has lost its name is a change of its attributes.
    let what = inotify::WatchFlags::ATTRIB | inotify::WatchFlags::MOVE_SELF;
    inotify::add_watch(&watch, path, what)?;
    Ok(watch)
}

/// Whether a process listens on a socket, if only with a full backlog, for which a blocking connection would wait without end.
pub(crate) fn listens(path: &Path) -> io::Result<bool> {
    let flags = SocketFlags::NONBLOCK | SocketFlags::CLOEXEC;
    let socket = socket_with(AddressFamily::UNIX, SocketType::STREAM, flags, None)?;
    match connect(&socket, &SocketAddrUnix::new(path)?) {
        Ok(()) | Err(Errno::AGAIN) => Ok(true),
        Err(Errno::CONNREFUSED) => Ok(false),
        Err(error) => Err(error.into()),
    }
}

/// What a descriptor is, if it is no Unix stream socket that listens.
fn wrong_kind(fd: BorrowedFd<'_>) -> io::Result<Option<&'static str>> {
    let family = match sockopt::socket_domain(fd) {
        Err(Errno::NOTSOCK) => return Ok(Some("is not a socket")),
        other => other?,
    };
    let is = if family != AddressFamily::UNIX {
        Some("is not a Unix socket")
    } else if sockopt::socket_type(fd)? != SocketType::STREAM {
        Some("is not a stream socket")
    } else if !sockopt::socket_acceptconn(fd)? {
        Some("does not listen")
    } else {
        None
    };
    Ok(is)
}

/// Where a data directory is that may be a link: people move their data to another disk and leave one. A link is followed if the
/// user or root made it.
fn followed(directory: &Path) -> Result<PathBuf, PlaceError> {
    let owner = rustix::process::geteuid().as_raw();
    match fs::symlink_metadata(directory) {
        Ok(found) if found.is_symlink() && [owner, 0].contains(&found.uid()) => {
            fs::canonicalize(directory).map_err(io_error("follow the link", directory))
        }
        _ => Ok(directory.to_owned()),
    }
}

/// Makes a directory and those above it, unless they are there, so that they outlive a power cut: whatever is synced
/// in a directory whose own name is lost is lost with it.
fn make_durable(directory: &Path) -> io::Result<()> {
    if directory.is_dir() || directory.as_os_str().is_empty() {
        return Ok(());
    }
    let above = directory.parent().unwrap_or(Path::new(""));
    make_durable(above)?;
    // Recursive also means that it is no error if somebody else has just made it.
    fs::DirBuilder::new().recursive(true).mode(0o700).create(directory)?;
    File::open(if above.as_os_str().is_empty() { Path::new(".") } else { above })?.sync_all()
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

    /// A file system without locks (`ENOLCK` of NFS, `EOPNOTSUPP`) is not called another broker.
    #[test]
    fn only_a_lock_that_is_held_is_another_brokers() {
        use rustix::io::Errno;
        let home = tempfile::tempdir().expect("a directory");
        let path = home.path().join(LOCK_FILE);
        fs::write(&path, "/run/other.sock").expect("written");
        let judged = |error: Errno| {
            let mut file = File::open(&path).expect("there");
            judge(Err(error), &mut file, home.path(), &path).expect_err("no lock")
        };
        for error in [Errno::NOLCK, Errno::OPNOTSUPP, Errno::NOSYS, Errno::IO, Errno::INTR] {
            let refused = judged(error);
            assert!(matches!(refused, PlaceError::NoLock { .. }), "{refused}");
            let said = refused.to_string();
            assert!(
                said.contains("cannot be locked") && !said.contains("another broker"),
                "{said}"
            );
        }
        let refused = judged(Errno::WOULDBLOCK);
        assert!(
            matches!(&refused, PlaceError::Running { socket, .. } if socket == "/run/other.sock"),
            "{refused}"
        );
    }

    #[test]
    fn a_lock_file_that_was_removed_is_made_anew() {
        let home = tempfile::tempdir().expect("a directory");
        let (data, socket) = (home.path().join("data"), home.path().join("run/broker.sock"));
        let mut lock = DataLock::take(&data, &socket).expect("free");
        lock.keep().expect("it is there");
        fs::remove_file(data.join(LOCK_FILE)).expect("removed");
        lock.keep().expect("nobody else has it");
        let refused = DataLock::take(&data, &socket).expect_err("it is held again");
        assert!(refused.to_string().contains("broker.sock"), "{refused}");
        fs::remove_file(data.join(LOCK_FILE)).expect("removed");
        let other = home.path().join("run/other.sock");
        let _other = DataLock::take(&data, &other).expect("nobody holds this one");
        let refused = lock.keep().expect_err("it is another one's");
        assert!(refused.to_string().contains("other.sock"), "{refused}");
    }

    #[test]
    fn a_data_directory_that_was_replaced_is_no_place() {
        let home = tempfile::tempdir().expect("a directory");
        let (link, socket) = (home.path().join("data"), Path::new("/run/broker.sock"));
        for (ways, is_link) in
            [(["removed", "made anew"], false), (["dangling", "redirected"], true)]
        {
            for way in ways {
                let disk = if is_link { home.path().join("disk") } else { link.clone() };
                if is_link {
                    std::os::unix::fs::symlink("disk", &link).expect("linked");
                    make_durable(&disk).expect("made");
                    make_private(&disk, 0o700, 0o700).expect("made");
                }
                let mut lock = DataLock::take(&link, socket).expect("free");
                let moved = home.path().join("moved");
                fs::rename(if way == "redirected" { &link } else { &disk }, &moved).expect("moved");
                match way {
                    "made anew" => fs::create_dir(&disk).expect("made"),
                    "redirected" => {
                        fs::create_dir(home.path().join("other")).expect("made");
                        std::os::unix::fs::symlink("other", &link).expect("linked");
                    }
                    _ => {}
                }
                let refused = lock.keep().expect_err(way);
                assert!(matches!(refused, PlaceError::Replaced { .. }), "{way}: {refused}");
                for path in ["data", "disk", "moved", "other"].map(|name| home.path().join(name)) {
                    let _ = fs::remove_file(&path).or_else(|_| fs::remove_dir_all(&path));
                }
            }
        }
    }

    #[test]
    fn a_successors_socket_is_left_alone() {
        let home = tempfile::tempdir().expect("a directory");
        let socket = home.path().join("s/broker.sock");
        let lock = DataLock::take(&home.path().join("data"), &socket).expect("free");
        let first = Place::listen(&socket, None, &lock).expect("it listens");
        fs::remove_file(&socket).expect("removed");
        let second = Place::listen(&socket, None, &lock).expect("it listens, too");
        drop(first);
        assert!(socket.exists(), "it is the second one's");
        drop(second);
        assert!(!socket.exists());
    }

    #[test]
    fn a_link_to_a_data_directory_is_followed() {
        let home = tempfile::tempdir().expect("a directory");
        let (moved, link) = (home.path().join("disk2/sundown"), home.path().join("sundown"));
        make_durable(&moved).expect("made");
        make_private(&moved, 0o700, 0o700).expect("made");
        std::os::unix::fs::symlink(&moved, &link).expect("linked");
        let _lock = DataLock::take(&link, Path::new("/run/broker.sock")).expect("followed");
        assert!(moved.join(LOCK_FILE).exists());
        DataLock::take(&moved, Path::new("s")).expect_err("it is the same place");
        fs::remove_file(&link).expect("removed");
        std::os::unix::fs::symlink(home.path().join("nowhere"), &link).expect("linked");
        let refused = DataLock::take(&link, Path::new("s")).expect_err("it leads nowhere");
        assert!(refused.to_string().contains("follow the link"), "{refused}");
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
    fn a_group_may_enter_a_directory_that_was_there_before() {
        let home = tempfile::tempdir().expect("a directory");
        let directory = home.path().join("s");
        let lock = DataLock::take(&home.path().join("data"), &directory).expect("free");
        make_private(&directory, 0o700, 0o700).expect("made");
        let gid = rustix::process::getegid().as_raw();
        let group = Group { name: "ours".into(), gid };
        let socket = directory.join("broker.sock");
        let _place = Place::listen(&socket, Some(&group), &lock).expect("it listens");
        assert_eq!(fs::metadata(&directory).expect("there").mode() & 0o777, 0o750);
        assert_eq!(fs::metadata(&socket).expect("there").mode() & 0o777, 0o660);
    }

    #[test]
    fn a_managers_socket_is_used_and_its_file_left() {
        let home = tempfile::tempdir().expect("a directory");
        let socket = home.path().join("broker.sock");
        let listener = std::os::unix::net::UnixListener::bind(&socket).expect("bound");
        let passed = |fd| vec![Passed { fd, name: "sundown.socket".into() }];
        let place = Place::of_manager(passed(listener.into())).expect("fits").expect("passed");
        assert_eq!(place.path(), socket);
        assert_eq!(place.accept().expect_err("nobody").kind(), io::ErrorKind::WouldBlock);
        let _client = std::os::unix::net::UnixStream::connect(&socket).expect("it listens");
        place.accept().expect("somebody");
        drop(place);
        assert!(socket.exists());
        assert!(Place::of_manager(Vec::new()).expect("nothing wrong").is_none());
    }

    #[test]
    fn what_is_no_listening_unix_stream_socket_is_refused_by_its_name() {
        use std::os::linux::net::SocketAddrExt;
        use std::os::unix::net::{SocketAddr, UnixDatagram, UnixListener, UnixStream};
        let home = tempfile::tempdir().expect("a directory");
        let datagram = UnixDatagram::bind(home.path().join("d")).expect("bound");
        let stream = UnixStream::pair().expect("a pair").0;
        let internet = std::net::TcpListener::bind("127.0.0.1:0").expect("bound");
        let name = format!("sundown-test-{}", std::process::id());
        let address = SocketAddr::from_abstract_name(name).expect("short");
        let nowhere = UnixListener::bind_addr(&address).expect("bound");
        for (fd, why) in [
            (File::open("/dev/null").expect("there").into(), "is not a socket"),
            (datagram.into(), "is not a stream socket"),
            (stream.into(), "does not listen"),
            (internet.into(), "is not a Unix socket"),
            (nowhere.into(), "has no path"),
        ] {
            let refused = Place::of_manager(vec![Passed { fd, name: "mine".into() }]);
            let refused = refused.expect_err(why).to_string();
            assert!(refused.contains(why) && refused.contains("(mine)"), "{refused}");
        }
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

    /// A broker that is stopped accepts nothing, and is one.
    #[test]
    fn a_socket_whose_backlog_is_full_is_not_displaced() {
        let home = tempfile::tempdir().expect("a directory");
        let socket = home.path().join("s/broker.sock");
        let lock = DataLock::take(&home.path().join("data"), &socket).expect("free");
        make_private(&home.path().join("s"), 0o700, 0o700).expect("made");
        let other = std::os::unix::net::UnixListener::bind(&socket).expect("bound");
        rustix::net::listen(&other, 0).expect("a short backlog");
        let _one = std::os::unix::net::UnixStream::connect(&socket).expect("it listens");
        let refused = Place::listen(&socket, None, &lock).expect_err("another broker's");
        assert!(matches!(refused, PlaceError::Running { .. }), "{refused}");
        drop(other);
        Place::listen(&socket, None, &lock).expect("left behind");
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
