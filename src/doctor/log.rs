//! The log of a broker in the background: its last error, and its size.

use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use super::finding::Finding;

/// How much of the log's end is read, in bytes.
const END: u64 = 1 << 20;

/// As long a log becomes only if its broker cannot put it aside, in bytes.
const LARGE: u64 = 33 << 20;

/// The log of brokers that clients started, if there is one.
pub(super) fn left_behind(data: &Path) -> Option<Finding> {
    let path = data.join("broker.log");
    // A pipe in its place is not waited for.
    let flags = rustix::fs::OFlags::NONBLOCK.bits() as i32;
    let mut file = File::options().read(true).custom_flags(flags).open(&path).ok()?;
    let length = file.metadata().ok().filter(std::fs::Metadata::is_file)?.len();
    file.seek(SeekFrom::Start(length.saturating_sub(END))).ok()?;
    let mut end = Vec::new();
    file.take(END).read_to_end(&mut end).ok()?;
    let shown = path.display();
    Some(match last_error(&String::from_utf8_lossy(&end)) {
        Some(error) => Finding::warning(
            "log",
            format!("the last error in {shown}: {error}"),
            format!("read what stands around it, then put it right or delete {shown}"),
        ),
        None if length >= LARGE => Finding::warning(
            "log",
            format!("{shown} has {} MiB, and no broker has put it aside", length >> 20),
            format!(
                "remove {shown}.1, or what has its name; if that does not help, empty it with `truncate -s 0 {shown}`"
            ),
        ),
        None => Finding::ok("log", format!("no error in {shown} since the last start")),
    })
}

/// The last error since a broker became ready.
fn last_error(log: &str) -> Option<&str> {
    let since = log.lines().rev().take_while(|line| !is_ready(line));
    since.into_iter().find(|line| is_error(line))
}

fn is_ready(line: &str) -> bool {
    line.contains(": ready") || line.contains(r#""message":"ready""#)
}

/// Whether a line is an error, in any of the log's formats, or the message of a broker that cannot start.
fn is_error(line: &str) -> bool {
    line.split_whitespace().nth(1) == Some("ERROR")
        || line.contains(r#""level":"error""#)
        || line.starts_with("<3>")
        || line.starts_with("sundown: ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errors_count_since_the_last_start() {
        let old = "2026-01-01T00:00:00Z ERROR sundown: old\nT INFO  x::server: ready\n";
        assert_eq!(last_error(old), None);
        for error in [
            "T ERROR sundown: now",
            r#"{"timestamp":"T","level":"error","message":"now"}"#,
            "<3>sundown: now",
            "sundown: the settings make no sense",
        ] {
            let log = format!("{old}{error}\nT INFO  sundown: later\n");
            assert_eq!(last_error(&log), Some(error));
        }
        assert_eq!(last_error("T WARN  x: ERROR in words\n"), None);
    }

    #[test]
    fn a_log_that_is_not_put_aside_is_named() {
        let home = tempfile::tempdir().expect("a directory");
        let path = home.path().join("broker.log");
        let long = |mebibytes: u64| {
            File::create(&path).expect("made").set_len(mebibytes << 20).expect("longer");
            format!("{:?}", left_behind(home.path()).expect("there is one"))
        };
        assert!(long(32).contains("no error"), "{}", long(32));
        assert!(long(40).contains("40 MiB") && long(40).contains("broker.log.1"), "{}", long(40));
    }
}
