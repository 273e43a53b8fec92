//! What a process asked of its disk and its sockets, in order: the preloaded library that writes it down, and reading it.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

use tempfile::TempDir;

use crate::harness::{Broker, Home};

/// One thing that a process did. Paths are relative to the recorded directory.
#[derive(Debug, Clone)]
pub(crate) enum Record {
    /// A file was opened that is made if it is not there.
    Made {
        path: String,
        inode: u64,
        emptied: bool,
    },
    Written {
        path: String,
        inode: u64,
        at: usize,
        bytes: Vec<u8>,
    },
    Cut {
        inode: u64,
        size: usize,
    },
    /// A sync begins; it covers what stands before.
    Sync(Sync),
    /// It has returned, and well.
    Synced(Sync),
    Renamed {
        from: String,
        to: String,
    },
    Removed(String),
    Directory(String),
    Linked {
        from: String,
        to: String,
    },
    /// To a client.
    Said {
        socket: u64,
        bytes: Vec<u8>,
    },
    /// By a client.
    Heard {
        socket: u64,
        bytes: Vec<u8>,
    },
    /// To a server on the network.
    Sent {
        socket: u64,
        bytes: Vec<u8>,
    },
    /// From one.
    Got,
    /// A change to a file that is not replayed.
    Odd(String),
}

/// Which sync, and of what.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Sync {
    pub(crate) number: u64,
    pub(crate) inode: u64,
    pub(crate) path: String,
    pub(crate) directory: bool,
}

/// A place for a record, to which one process after the other appends.
pub(crate) struct Recorder {
    folder: TempDir,
}

impl Recorder {
    /// `None`, and said why, where the library cannot be built.
    pub(crate) fn new() -> Option<Self> {
        library()?;
        Some(Self { folder: TempDir::new().expect("a directory") })
    }

    fn log(&self) -> PathBuf {
        self.folder.path().join("log")
    }

    /// A broker in a home, recorded, and failing where the fault says.
    pub(crate) fn serve(&self, home: &Home, fault: &str) -> Broker {
        let broker = Broker::spawn(self.command(home, fault));
        broker.log_line("the broker is ready", |line| line["message"] == "ready");
        broker
    }

    /// The command that starts it. It may end before it is ready.
    pub(crate) fn command(&self, home: &Home, fault: &str) -> Command {
        let mut command = home.command(&["serve", "--log-format", "json"]);
        command.env("LD_PRELOAD", library().expect("it was built"));
        command.env("SUNDOWN_POWER_ROOT", home.path("").canonicalize().expect("it is there"));
        command.env("SUNDOWN_POWER_LOG", self.log());
        if !fault.is_empty() {
            command.env("SUNDOWN_POWER_FAULT", fault);
        }
        command
    }

    /// Everything so far.
    pub(crate) fn records(&self) -> Vec<Record> {
        let bytes = std::fs::read(self.log()).expect("there is a record");
        let mut rest = &bytes[..];
        let mut records = Vec::new();
        while let Some(record) = take(&mut rest) {
            records.push(record);
        }
        records
    }
}

/// The library, built once, if there is a C compiler for it.
fn library() -> Option<&'static Path> {
    static BUILT: OnceLock<Option<PathBuf>> = OnceLock::new();
    BUILT.get_or_init(build).as_deref()
}

fn build() -> Option<PathBuf> {
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/power/record.c");
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR"));
    let made = folder.join(format!("record-{}.so", std::process::id()));
    let compiler = std::env::var_os("CC").unwrap_or_else(|| "cc".into());
    let mut command = Command::new(compiler);
    command.args(["-O1", "-Wall", "-Wextra", "-Werror", "-shared", "-fPIC", "-pthread", "-o"]);
    let Ok(output) = command.arg(&made).arg(source).output() else {
        crate::servers::skipped("there is no C compiler");
        return None;
    };
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    // One for all runs: whoever has the old one loaded keeps it.
    let library = folder.join("record.so");
    std::fs::rename(&made, &library).expect("renamed");
    Some(library)
}

const HEAD: usize = 32;

fn take(rest: &mut &[u8]) -> Option<Record> {
    let (head, tail) = rest.split_at_checked(HEAD)?;
    let short = |at: usize| u32::from_ne_bytes(head[at..at + 4].try_into().expect("four bytes"));
    let long = |at: usize| u64::from_ne_bytes(head[at..at + 8].try_into().expect("eight bytes"));
    let (which, at) = (long(8), long(16));
    let (first, tail) = tail.split_at_checked(short(24) as usize)?;
    let (second, tail) = tail.split_at_checked(short(28) as usize)?;
    *rest = tail;
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let sync = || Sync { number: at, inode: which, path: text(first), directory: short(4) != 0 };
    let (path, bytes) = (text(first), first.to_vec());
    let (from, to) = (path.clone(), text(second));
    Some(match short(0) {
        1 => Record::Made { path, inode: which, emptied: short(4) != 0 },
        2 => Record::Written { path: to, inode: which, at: at as usize, bytes },
        3 => Record::Cut { inode: which, size: at as usize },
        4 => Record::Sync(sync()),
        5 => Record::Synced(sync()),
        6 => Record::Renamed { from, to },
        7 => Record::Removed(path),
        8 => Record::Directory(path),
        9 => Record::Linked { from, to },
        10 => Record::Said { socket: which, bytes },
        11 => Record::Heard { socket: which, bytes },
        12 => Record::Sent { socket: which, bytes },
        13 => Record::Got,
        _ => Record::Odd(format!("{to} of {path}")),
    })
}
