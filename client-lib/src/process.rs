//! What there is once in a process: the name of its program image, whether its privileges are raised, and whether it was
//! forked; and which process is at the other end of a socket.
#![allow(unsafe_code)]

use std::io;
use std::os::fd::{AsFd, AsRawFd};
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
        mix(u128::from_le_bytes(bytes)).to_le_bytes()
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

/// Whether the kernel has raised the privileges of this program image, by set-user-id or the like (`AT_SECURE`).
pub(crate) fn is_secure() -> bool {
    // SAFETY: it only reads the auxiliary vector.
    unsafe { libc::getauxval(libc::AT_SECURE) != 0 }
}

/// One way: two rounds of a 64-bit finalizer over each half, each half then folded into both.
fn mix(bytes: u128) -> u128 {
    let round = |mut z: u64| {
        z = (z ^ (z >> 33)).wrapping_mul(0xFF51_AFD7_ED55_8CCD);
        z = (z ^ (z >> 33)).wrapping_mul(0xC4CE_B9FE_1A85_EC53);
        z ^ (z >> 33)
    };
    let (high, low) = ((bytes >> 64) as u64, bytes as u64);
    let folded = round(high ^ low.rotate_left(17));
    u128::from(round(folded ^ 0x53_554E_444F_574E)) << 64 | u128::from(round(folded))
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
