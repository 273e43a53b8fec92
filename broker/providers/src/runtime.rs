//! State that lasts until the machine stops: where it may be kept, and the kernel's id for the present run.

use std::fmt;
use std::path::PathBuf;

use rustix::fs::StatFs;

/// Where a provider may keep what the next broker needs after a crash, and must not find after a power cut.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Runtime {
    /// Directories, the best one first. Some may not be in memory, or not the broker's own: the provider checks.
    pub directories: Vec<PathBuf>,
    /// The beginning of the names of a broker's files: the name of its socket.
    pub name: String,
    /// The present run of the machine. `None` if the broker may not see it.
    pub boot: Option<BootId>,
}

/// The kernel's id for a run of the machine.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BootId(pub(crate) u128);

impl BootId {
    /// Parses an id as the kernel writes it, with or without hyphens. An empty id is `None`: two runs without an id need not be the
    /// same.
    pub fn parse(text: &str) -> Option<Self> {
        let digits: String = text.trim().chars().filter(|c| *c != '-').collect();
        number(&digits).filter(|id| *id != 0).map(Self)
    }
}

impl fmt::Display for BootId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:032x}", self.0)
    }
}

/// Whether the contents of a file system vanish with a restart of the machine: tmpfs and ramfs.
pub fn is_in_memory(system: &StatFs) -> bool {
    const TMPFS_MAGIC: u64 = 0x0102_1994;
    const RAMFS_MAGIC: u64 = 0x8584_58f6;
    [TMPFS_MAGIC, RAMFS_MAGIC].contains(&(system.f_type as u64))
}

/// Parses a number of 128 bits with all its digits.
pub(crate) fn number(digits: &str) -> Option<u128> {
    let all = digits.len() == 32 && digits.bytes().all(|b| b.is_ascii_hexdigit());
    all.then(|| u128::from_str_radix(digits, 16).ok()).flatten()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_boot_id_is_one_only_in_full() {
        let id = BootId::parse("5851c9c8-cb1b-4f40-b492-10a5a055c151\n")
            .expect("as the kernel writes it");
        assert_eq!(id.to_string(), "5851c9c8cb1b4f40b49210a5a055c151");
        assert_eq!(BootId::parse(&id.to_string()), Some(id));
        let zeros = "0".repeat(32);
        for text in ["", "\n", "5851c9c8", "+851c9c8cb1b4f40b49210a5a055c151", zeros.as_str()] {
            assert_eq!(BootId::parse(text), None, "{text:?}");
        }
    }
}
