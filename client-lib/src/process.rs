//! Facts of the process: the name of its program image, whether its privileges are raised, and whether it was forked. Also the
//! process at the other end of a socket.
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

/// Sixteen bytes that name the program image. The kernel gives each `exec` its own by `AT_RANDOM`, and every copy of this library
/// in a program finds the same. They are mixed, because other code may use them as a secret.
pub(crate) fn image() -> [u8; 16] {
    static IMAGE: OnceLock<[u8; 16]> = OnceLock::new();
    *IMAGE.get_or_init(|| {
        // SAFETY: the call only reads the auxiliary vector.
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

/// The process at the other end of a socket, as the kernel knows it: the process that connected, or that began to listen.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Credentials {
    /// The id of the process; `None` if the caller's pid namespace does not show it.
    pub pid: Option<Pid>,
    /// The number of its user.
    pub uid: u32,
}

impl Credentials {
    /// Asks the kernel for the credentials.
    pub fn of(socket: impl AsFd) -> io::Result<Self> {
        let mut said = libc::ucred { pid: 0, uid: 0, gid: 0 };
        let mut length = size_of::<libc::ucred>() as libc::socklen_t;
        // SAFETY: the pointers are to live locals of the given sizes; the socket is borrowed for the whole call.
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

/// The parent of a process: in its `stat`, the field after the name and the state.
pub(crate) fn parent(pid: Pid) -> Option<Pid> {
    let stat = std::fs::read_to_string(format!("/proc/{}/stat", pid.as_raw_nonzero())).ok()?;
    let behind_name = &stat[stat.rfind(')')? + 1..];
    Pid::from_raw(behind_name.split_whitespace().nth(1)?.parse().ok()?)
}

/// The name and home directory of a user from the system's directory services (`getpwuid_r`), which may take their time to answer.
pub(crate) fn account(uid: u32) -> Option<(String, PathBuf)> {
    const LARGEST: usize = 1 << 20;
    let mut size = 4 << 10;
    while size <= LARGEST {
        let mut buffer: Vec<libc::c_char> = vec![0; size];
        let mut entry = std::mem::MaybeUninit::<libc::passwd>::uninit();
        let mut found = null_mut();
        // SAFETY: the pointers are to live memory of the given sizes.
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
        // SAFETY: the call has filled the entry, and its texts are in the buffer, which is still alive.
        let [name, home] = unsafe {
            let entry = entry.assume_init();
            [entry.pw_name, entry.pw_dir].map(|text| CStr::from_ptr(text).to_bytes().to_vec())
        };
        let name = String::from_utf8_lossy(&name).into_owned();
        return Some((name, PathBuf::from(OsString::from_vec(home))));
    }
    None
}

/// Whether the kernel has raised the privileges of this program image, as by set-user-id (`AT_SECURE`).
pub(crate) fn is_secure() -> bool {
    // SAFETY: the call only reads the auxiliary vector.
    unsafe { libc::getauxval(libc::AT_SECURE) != 0 }
}

/// Makes a name from which these bytes cannot be computed; the first of them are the program's stack canary. They are the key of
/// `SipHash`-2-4, a function whose key cannot be found from its results, and the name is its result for two constants.
// It is deprecated for hash maps, whose hasher may change. This function must not change: separately built copies must agree.
#[allow(deprecated)]
pub(crate) fn mix(bytes: [u8; 16]) -> [u8; 16] {
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

/// A number that stays the same while this process lives, and differs in every forked child, however it was forked. Reading it
/// needs no system call, so that each call of the library can check it.
pub(crate) fn incarnation() -> u32 {
    static WIPED: OnceLock<Option<&'static AtomicU32>> = OnceLock::new();
    static MADE: AtomicU32 = AtomicU32::new(0);
    let Some(wiped) = WIPED.get_or_init(wiped_on_fork) else { return std::process::id() };
    match wiped.load(Ordering::Relaxed) {
        // The first call in this process or in a child.
        0 => {
            let new = MADE.fetch_add(1, Ordering::Relaxed) + 1;
            let before = wiped.compare_exchange(0, new, Ordering::Relaxed, Ordering::Relaxed);
            before.err().unwrap_or(new)
        }
        known => known,
    }
}

/// A number that the kernel sets to zero in every child. `None` if the kernel cannot do that.
fn wiped_on_fork() -> Option<&'static AtomicU32> {
    let (length, access) = (rustix::param::page_size(), ProtFlags::READ | ProtFlags::WRITE);
    // SAFETY: a new mapping at an address that the kernel chooses.
    let page = unsafe { mmap_anonymous(null_mut(), length, access, MapFlags::PRIVATE) }.ok()?;
    // SAFETY: the whole mapping that was just made, to which nothing else points.
    if unsafe { madvise(page, length, Advice::LinuxWipeOnFork) }.is_err() {
        // SAFETY: the same mapping, and nothing points into it.
        let _ = unsafe { munmap(page, length) };
        return None;
    }
    // SAFETY: it is aligned to a page, filled with zeros, and stays mapped for the life of the process.
    Some(unsafe { &*page.cast::<AtomicU32>() })
}

/// 128 random bits.
pub(crate) fn chance() -> u128 {
    let mut bytes = [0; 16];
    getrandom::fill(&mut bytes).expect("the system has random bytes");
    u128::from_le_bytes(bytes)
}

#[cfg(test)]
mod tests {
    /// `SipHash`-2-4 of the two constants, with the key of its own test vectors.
    const KNOWN: u128 = 0x0408_4F99_3228_12DC_A16E_21BC_11EE_32A1;

    /// The system's services and its list of users agree.
    #[test]
    fn an_account_has_a_name_and_a_home() {
        let (name, home) = super::account(0).expect("every system has root");
        assert_eq!((name.as_str(), home.is_absolute()), ("root", true));
        assert_eq!(super::account(0xFFFF_FFF0), None);
    }

    /// The name is the same in every build, and a few operations show no relation to the bytes.
    #[test]
    fn a_name_is_always_the_same_and_says_nothing_of_the_bytes() {
        let bytes: [u8; 16] = std::array::from_fn(|n| n as u8);
        assert_eq!(u128::from_le_bytes(super::mix(bytes)), KNOWN);
        let (low, high) = (0x0123_4567_89AB_CD00_u64, 0xFEDC_BA98_7654_3210_u64);
        let name = |low: u64, high: u64| {
            super::mix((u128::from(high) << 64 | u128::from(low)).to_le_bytes())
        };
        for turn in 0..64 {
            // If the name depended on this combination of the two halves alone, it would be the same here.
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
