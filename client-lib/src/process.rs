//! What there is once in a process: the name of its program image, whether its privileges are raised, and whether it was
//! forked; and which process is at the other end of a socket.
#![allow(unsafe_code)]

use std::ffi::{CStr, OsString};
use std::io;
use std::os::fd::{AsFd, AsRawFd};
use std::os::unix::ffi::OsStringExt;
use std::path::PathBuf;
use std::ptr::null_mut;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, Ordering};

use rustix::mm::{Advice, MapFlags, ProtFlags, madvise, mmap_anonymous, munmap};
use rustix::process::Pid;

/// Sixteen bytes that name the program image: the kernel gives each `exec` its own by `AT_RANDOM`, and every copy of
/// this library in one program finds the same. They are mixed, because other code may use them as a secret.
pub(crate) fn image() -> [u8; 16] {
    static IMAGE: OnceLock<[u8; 16]> = OnceLock::new();
    *IMAGE.get_or_init(|| {
        // SAFETY: it only reads the auxiliary vector.
        let at_random = unsafe { libc::getauxval(libc::AT_RANDOM) } as *const [u8; 16];
        let mut bytes = [0; 16];
        if at_random.is_null() {
            bytes[..4].copy_from_slice(&std::process::id().to_le_bytes());
            return bytes;
        }
        // SAFETY: the kernel promises sixteen bytes there, for the life of the program image.
        bytes = unsafe { at_random.read_unaligned() };
        mix(bytes)
    })
}

/// What the kernel says of the process at the other end of a socket: the one that connected, or that began to listen.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Credentials {
    /// Its id; `None` for a process that the caller's pid namespace does not show.
    pub pid: Option<Pid>,
    /// Its user's number.
    pub uid: u32,
}

impl Credentials {
    /// Asks the kernel.
    pub fn of(socket: impl AsFd) -> io::Result<Self> {
        let mut said = libc::ucred { pid: 0, uid: 0, gid: 0 };
        let mut length = size_of::<libc::ucred>() as libc::socklen_t;
        // SAFETY: the pointers are to live locals of the sizes that are given; the socket is borrowed for the whole call.
        let result = unsafe {
            libc::getsockopt(
                socket.as_fd().as_raw_fd(),
                libc::SOL_SOCKET,
                libc::SO_PEERCRED,
                (&raw mut said).cast(),
                &raw mut length,
            )
        };
        if result != 0 {
            return Err(io::Error::last_os_error());
        }
        Ok(Self { pid: Pid::from_raw(said.pid), uid: said.uid })
    }
}

/// The parent of a process, which is the field behind the name and the state in its `stat`.
pub(crate) fn parent(pid: Pid) -> Option<Pid> {
    let stat = std::fs::read_to_string(format!("/proc/{}/stat", pid.as_raw_nonzero())).ok()?;
    let behind_name = &stat[stat.rfind(')')? + 1..];
    Pid::from_raw(behind_name.split_whitespace().nth(1)?.parse().ok()?)
}

/// A user as the system's directory services know it (`getpwuid_r`): name and home directory. That may take as long as they do.
pub(crate) fn account(uid: u32) -> Option<(String, PathBuf)> {
    const LARGEST: usize = 1 << 20;
    let mut size = 4 << 10;
    while size <= LARGEST {
        let mut buffer: Vec<libc::c_char> = vec![0; size];
        let mut entry = std::mem::MaybeUninit::<libc::passwd>::uninit();
        let mut found = null_mut();
        // SAFETY: the pointers are to live memory of the sizes that are given.
        let result = unsafe {
            libc::getpwuid_r(
                uid,
                entry.as_mut_ptr(),
                buffer.as_mut_ptr(),
                buffer.len(),
                &raw mut found,
            )
        };
        if result == libc::ERANGE {
            size *= 4;
            continue;
        }
        if result != 0 || found.is_null() {
            return None;
        }
        // SAFETY: the call says that it has filled the entry, whose texts are in the buffer, which is still there.
        let [name, home] = unsafe {
            let entry = entry.assume_init();
            [entry.pw_name, entry.pw_dir].map(|text| CStr::from_ptr(text).to_bytes().to_vec())
        };
        let name = String::from_utf8_lossy(&name).into_owned();
        return Some((name, PathBuf::from(OsString::from_vec(home))));
    }
    None
}

/// Whether the kernel has raised the privileges of this program image, by set-user-id or the like (`AT_SECURE`).
pub(crate) fn is_secure() -> bool {
    // SAFETY: it only reads the auxiliary vector.
    unsafe { libc::getauxval(libc::AT_SECURE) != 0 }
}

/// A name that tells nothing of these bytes, the first of which are the program's stack canary: they are the key of a function that is
/// made so that its key cannot be found from what it says, `SipHash`-2-4, of two constants.
// It is deprecated for hash maps, whose hasher may change. This one may not: copies that were built apart must agree.
#[allow(deprecated)]
fn mix(bytes: [u8; 16]) -> [u8; 16] {
    use std::hash::{Hasher, SipHasher};
    let key = u128::from_le_bytes(bytes);
    let said = |constant: &[u8]| {
        let mut hasher = SipHasher::new_with_keys(key as u64, (key >> 64) as u64);
        hasher.write(constant);
        hasher.finish()
    };
    let (low, high) = (said(b"sundown image, 1"), said(b"sundown image, 2"));
    (u128::from(high) << 64 | u128::from(low)).to_le_bytes()
}

/// A number that is the same for as long as this process lives, and another one in a child that was forked from it, however
/// it was forked. It costs no call of the system, so that each call of the library can look.
pub(crate) fn incarnation() -> u32 {
    static WIPED: OnceLock<Option<&'static AtomicU32>> = OnceLock::new();
    static MADE: AtomicU32 = AtomicU32::new(0);
    let Some(wiped) = WIPED.get_or_init(wiped_on_fork) else { return std::process::id() };
    match wiped.load(Ordering::Relaxed) {
        // The first look, of this process or of a child.
        0 => {
            let new = MADE.fetch_add(1, Ordering::Relaxed) + 1;
            let before = wiped.compare_exchange(0, new, Ordering::Relaxed, Ordering::Relaxed);
            before.err().unwrap_or(new)
        }
        known => known,
    }
}

/// A number that the kernel sets to zero in every child. `None` where it cannot.
fn wiped_on_fork() -> Option<&'static AtomicU32> {
    let (length, access) = (rustix::param::page_size(), ProtFlags::READ | ProtFlags::WRITE);
    // SAFETY: a new mapping of its own, wherever the kernel puts it.
    let page = unsafe { mmap_anonymous(null_mut(), length, access, MapFlags::PRIVATE) }.ok()?;
    // SAFETY: it is the mapping just made, whole; nobody else knows of it.
    if unsafe { madvise(page, length, Advice::LinuxWipeOnFork) }.is_err() {
        // SAFETY: the same, and nothing points there.
        let _ = unsafe { munmap(page, length) };
        return None;
    }
    // SAFETY: it is aligned to a page, filled with zeros, and stays for the life of the process.
    Some(unsafe { &*page.cast::<AtomicU32>() })
}

/// 128 bits by chance.
pub(crate) fn chance() -> u128 {
    let mut bytes = [0; 16];
    getrandom::fill(&mut bytes).expect("the system has random bytes");
    u128::from_le_bytes(bytes)
}

#[cfg(test)]
mod tests {
    /// `SipHash`-2-4 of the two constants, with the key of its own test vectors.
    const KNOWN: u128 = 0x0408_4F99_3228_12DC_A16E_21BC_11EE_32A1;

    /// What the system says is what its list of users says.
    #[test]
    fn an_account_has_a_name_and_a_home() {
        let (name, home) = super::account(0).expect("every system has root");
        assert_eq!((name.as_str(), home.is_absolute()), ("root", true));
        assert_eq!(super::account(0xFFFF_FFF0), None);
    }

    /// The same in every build, and without a relation to the bytes that a few operations would show.
    #[test]
    fn a_name_is_always_the_same_and_says_nothing_of_the_bytes() {
        let bytes: [u8; 16] = std::array::from_fn(|n| n as u8);
        assert_eq!(u128::from_le_bytes(super::mix(bytes)), KNOWN);
        let (low, high) = (0x0123_4567_89AB_CD00_u64, 0xFEDC_BA98_7654_3210_u64);
        let name = |low: u64, high: u64| {
            super::mix((u128::from(high) << 64 | u128::from(low)).to_le_bytes())
        };
        for turn in 0..64 {
            // Whatever the name knew of the two halves by this alone would be the same here.
            let other = (low ^ 0xFF00, high ^ 0xFF00_u64.rotate_left(turn));
            assert_ne!(name(low, high), name(other.0, other.1), "{turn}");
        }
    }

    #[test]
    fn the_parent_of_a_process_is_known() {
        let this = rustix::process::getpid();
        assert_eq!(super::parent(this), rustix::process::getppid());
    }

    #[test]
    fn an_image_has_one_name() {
        assert_eq!(super::image(), super::image());
        assert_ne!(super::image(), [0; 16]);
        assert_ne!(super::chance(), super::chance());
    }
}
