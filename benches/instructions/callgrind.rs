//! One path under valgrind: how many instructions it takes, and how often it asks for memory.
//!
//! The path runs in a process of its own, so that what others left behind in the heap does not count.

use std::path::Path;
use std::process::{Command, Stdio};

use crate::allocations;

/// What a path took.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Taken {
    pub(crate) instructions: u64,
    pub(crate) allocations: u64,
}

/// Does what is to be counted, and says how often it asked for memory.
pub(crate) fn once(work: &mut dyn FnMut()) -> u64 {
    let before = allocations::so_far();
    collected(work);
    allocations::so_far() - before
}

/// Valgrind counts in here and nowhere else.
#[inline(never)]
fn collected(work: &mut dyn FnMut()) {
    work();
}

/// Whether there is a valgrind, and it can count here.
pub(crate) fn works() -> bool {
    let mut valgrind = callgrind(Path::new("/dev/null"));
    valgrind.arg("true").stdout(Stdio::null()).stderr(Stdio::null());
    valgrind.status().is_ok_and(|status| status.success())
}

fn callgrind(profile: &Path) -> Command {
    let mut valgrind = Command::new("valgrind");
    valgrind
        .args(["--quiet", "--tool=callgrind", "--toggle-collect=*callgrind*collected*"])
        .arg(format!("--callgrind-out-file={}", profile.display()))
        // What the processor can do decides which memcpy is taken; these take the one that every processor can do.
        .env(
            "GLIBC_TUNABLES",
            "glibc.cpu.hwcaps=-AVX2,-AVX_Fast_Unaligned_Load,-SSSE3,-ERMS,-FSRM",
        );
    valgrind
}

/// Runs this program once more, for one path.
pub(crate) fn run(path: &str, scratch: &Path) -> Result<Taken, String> {
    let myself = std::env::current_exe().map_err(|error| error.to_string())?;
    let profile = scratch.join(path);
    let output = callgrind(&profile)
        .arg(myself)
        .args(["--path", path])
        .output()
        .map_err(|error| format!("valgrind: {error}"))?;
    if !output.status.success() {
        return Err(String::from_utf8_lossy(&output.stderr).into_owned());
    }
    let profile = std::fs::read_to_string(&profile).map_err(|error| error.to_string())?;
    let total = profile.lines().find_map(|line| line.strip_prefix("totals: "));
    let instructions = total.and_then(|total| total.trim().parse().ok()).filter(|n| *n > 0);
    let allocations = String::from_utf8_lossy(&output.stdout).trim().parse().ok();
    let taken = instructions.zip(allocations);
    let taken = taken.map(|(instructions, allocations)| Taken { instructions, allocations });
    taken.ok_or_else(|| "nothing was counted".to_owned())
}
