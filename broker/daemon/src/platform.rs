//! The few calls that no safe library offers. Each block says why it is sound.
#![allow(unsafe_code)]

use std::ffi::{CStr, CString};
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd};

// What unwinds the stack is linked into the program. Else libgcc_s is loaded at each start of it, also as `sendmail`, which
// costs a tenth of what it costs to start `true` (decision 0015). Whatever compiles with the one has the other.
#[cfg(all(target_os = "linux", target_env = "gnu"))]
// SAFETY: nothing is declared; it only names the library.
#[link(name = "gcc_eh")]
unsafe extern "C" {}

/// The natural logarithm as C calls it. Full-text search in `SQLite` wants it, and with it in the program nothing loads libm at each
/// start (decision 0031). A program without this function takes that of libm.
// SAFETY: it has the name, the type and the meaning of C's `log`, so it can stand in its place everywhere.
#[unsafe(no_mangle)]
extern "C" fn log(x: f64) -> f64 {
    libm::log(x)
}

/// The process at the other end of a socket, as a descriptor that becomes readable when it ends. `None` where the
/// kernel does not know the option (before Linux 6.5). It also names a process of another pid namespace.
pub(crate) fn peer_pidfd(socket: BorrowedFd<'_>) -> Option<OwnedFd> {
    const SO_PEERPIDFD: libc::c_int = 77;
    let mut fd: libc::c_int = -1;
    let mut length = size_of::<libc::c_int>() as libc::socklen_t;
    // SAFETY: the pointers are to live locals of the sizes that are given; the socket is borrowed for the whole call.
    let result = unsafe {
        libc::getsockopt(
            socket.as_raw_fd(),
            libc::SOL_SOCKET,
            SO_PEERPIDFD,
            (&raw mut fd).cast(),
            &raw mut length,
        )
    };
    // SAFETY: on success the kernel has made a new descriptor that nobody else knows.
    (result == 0 && fd >= 0).then(|| unsafe { OwnedFd::from_raw_fd(fd) })
}

/// What the kernel says of the process that made the other end of a socket. It gives 0 for the id of a process that this pid
/// namespace does not show, which a type for process ids cannot hold.
pub(crate) fn peer_credentials(socket: BorrowedFd<'_>) -> io::Result<libc::ucred> {
    let mut said = libc::ucred { pid: 0, uid: 0, gid: 0 };
    let mut length = size_of::<libc::ucred>() as libc::socklen_t;
    // SAFETY: the pointers are to live locals of the sizes that are given; the socket is borrowed for the whole call.
    let result = unsafe {
        libc::getsockopt(
            socket.as_raw_fd(),
            libc::SOL_SOCKET,
            libc::SO_PEERCRED,
            (&raw mut said).cast(),
            &raw mut length,
        )
    };
    if result == 0 { Ok(said) } else { Err(io::Error::last_os_error()) }
}

/// The number of a user that the system's directory services know by this name.
pub(crate) fn find_user(name: &str) -> io::Result<Option<u32>> {
    let Ok(name) = CString::new(name) else { return Ok(None) };
    found(|entry: *mut libc::passwd, buffer, length, result| {
        // SAFETY: `found` gives pointers to live memory of these sizes; the name ends with a NUL.
        unsafe { libc::getpwnam_r(name.as_ptr(), entry, buffer, length, result) }
    })
    .map(|found| found.map(|(entry, _)| entry.pw_uid))
}

/// The name of the user with this number.
pub(crate) fn find_user_name(uid: u32) -> io::Result<Option<String>> {
    let found = found(|entry: *mut libc::passwd, buffer, length, result| {
        // SAFETY: `found` gives pointers to live memory of these sizes.
        unsafe { libc::getpwuid_r(uid, entry, buffer, length, result) }
    })?;
    // The buffer is kept as long as the name in it is read.
    let Some((entry, _buffer)) = found else { return Ok(None) };
    // SAFETY: the call has succeeded, so this points to a text in the buffer, which is still there.
    let name = unsafe { CStr::from_ptr(entry.pw_name) };
    Ok(Some(name.to_string_lossy().into_owned()))
}

/// The number of a group that the system's directory services know by this name.
pub(crate) fn find_group(name: &str) -> io::Result<Option<u32>> {
    let Ok(name) = CString::new(name) else { return Ok(None) };
    found(|entry: *mut libc::group, buffer, length, result| {
        // SAFETY: `found` gives pointers to live memory of these sizes; the name ends with a NUL.
        unsafe { libc::getgrnam_r(name.as_ptr(), entry, buffer, length, result) }
    })
    .map(|found| found.map(|(entry, _)| entry.gr_gid))
}

/// Looks an entry up with buffers that grow. What it points to is in the buffer that comes with it.
fn found<T>(
    look_up: impl Fn(*mut T, *mut libc::c_char, usize, *mut *mut T) -> libc::c_int,
) -> io::Result<Option<(T, Vec<libc::c_char>)>> {
    const LARGEST: usize = 1 << 20;
    let mut size = 4 << 10;
    loop {
        let mut buffer: Vec<libc::c_char> = vec![0; size];
        let mut entry = std::mem::MaybeUninit::<T>::uninit();
        let mut result = std::ptr::null_mut();
        match look_up(entry.as_mut_ptr(), buffer.as_mut_ptr(), buffer.len(), &raw mut result) {
            libc::ERANGE if size < LARGEST => size *= 4,
            libc::EINTR => {}
            // These, too, say that there is none; see getpwnam(3).
            0 | libc::ENOENT | libc::ESRCH if result.is_null() => return Ok(None),
            // SAFETY: the call says that it has filled the entry.
            0 => return Ok(Some((unsafe { entry.assume_init() }, buffer))),
            error => return Err(io::Error::from_raw_os_error(error)),
        }
    }
}

/// Gives memory that was freed back to the system, if there is much of it. Whether there was. Where the C library cannot say, or does so
/// by itself, nothing is done.
pub(crate) fn give_memory_back() -> bool {
    #[cfg(all(target_os = "linux", target_env = "gnu"))]
    {
        const MUCH: usize = 8 << 20;
        // SAFETY: both calls are about the allocator's own memory, and lock it; nothing that is in use is touched.
        unsafe { libc::mallinfo2().fordblks > MUCH && libc::malloc_trim(0) == 1 }
    }
    #[cfg(not(all(target_os = "linux", target_env = "gnu")))]
    false
}

/// Has threads share a few heaps. By default the C library makes eight for each processor, and what is left in each when a crowd of
/// threads has gone adds up.
pub(crate) fn share_heaps() {
    #[cfg(all(target_os = "linux", target_env = "gnu"))]
    {
        const HEAPS: libc::c_int = 4;
        // SAFETY: it only sets a number of the allocator's.
        unsafe { libc::mallopt(libc::M_ARENA_MAX, HEAPS) };
    }
}

/// Closes every descriptor that was inherited beside the first three.
pub(crate) fn close_inherited() -> io::Result<()> {
    // SAFETY: it is called first thing in `main`, before this process has opened anything that could be closed under
    // its owner's feet.
    let result = unsafe { libc::close_range(3, libc::c_uint::MAX, 0) };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// Lets every signal through, and has those about children and about long files do what a broker relies on: a child that ends is waited
/// for, and a file that may not grow is an error of the write instead of the end of the process.
pub(crate) fn take_signals() -> io::Result<()> {
    extern "C" fn nothing(_: libc::c_int) {}
    // SAFETY: the set is a live local, which `sigemptyset` fills before it is read, and the handler touches nothing. A handler, unlike a
    // signal that is ignored, is not handed on to commands that the broker starts.
    unsafe {
        let mut none = std::mem::zeroed();
        libc::sigemptyset(&raw mut none);
        let handler = nothing as extern "C" fn(libc::c_int);
        let set = [
            libc::signal(libc::SIGCHLD, libc::SIG_DFL),
            libc::signal(libc::SIGXFSZ, handler as libc::sighandler_t),
        ];
        let masked =
            libc::pthread_sigmask(libc::SIG_SETMASK, &raw const none, std::ptr::null_mut());
        if masked != 0 || set.contains(&libc::SIG_ERR) {
            return Err(io::Error::last_os_error());
        }
    }
    Ok(())
}

/// Has the processor's and the disks' schedulers treat this process like any other.
pub(crate) fn forget_scheduling() {
    const IOPRIO_WHO_PROCESS: libc::c_long = 1;
    const IOPRIO_CLASS_NONE: libc::c_long = 0;
    let ordinary = libc::sched_param { sched_priority: 0 };
    // SAFETY: the parameter is a live local; both calls are about this process and touch no memory of it.
    unsafe {
        libc::sched_setscheduler(0, libc::SCHED_OTHER, &raw const ordinary);
        libc::syscall(
            libc::SYS_ioprio_set,
            IOPRIO_WHO_PROCESS,
            0 as libc::c_long,
            IOPRIO_CLASS_NONE,
        );
    }
}

/// Takes the descriptors that a service manager has passed, with their names, and `LISTEN_PID`, `LISTEN_FDS` and
/// `LISTEN_FDNAMES` out of the environment, so that no child believes they were meant for it.
pub(crate) fn take_listen_fds() -> io::Result<Vec<(OwnedFd, String)>> {
    let ours = sd_notify::listen_fds()?.len();
    // SAFETY: it is called first thing in `main`, before this process has a second thread that could look at the
    // environment.
    let passed = unsafe { sd_notify::listen_fds_with_names_and_unset_env() };
    if ours == 0 {
        // The names of another process's descriptors do not fit ours, which is no mistake.
        return Ok(Vec::new());
    }
    // SAFETY: they were open when this process began, as they could be marked close-on-exec just now, and nothing else
    // in it knows of them: it has opened nothing yet that it keeps, and a second call finds no variables.
    Ok(passed?.map(|(fd, name)| (unsafe { OwnedFd::from_raw_fd(fd) }, name)).collect())
}
