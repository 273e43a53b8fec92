//! Keys of a terminal: what was pressed, out of the bytes that come.

use std::io::{self, Read};
use std::os::fd::AsFd;
use std::sync::mpsc::Sender;
use std::thread;

use rustix::event::{PollFd, PollFlags, Timespec, poll};

/// A key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Key {
    Letter(char),
    Tab,
    BackTab,
    Enter,
    Escape,
    Up,
    Down,
    PageUp,
    PageDown,
    Home,
    End,
    /// One that means nothing here.
    Other,
}

/// How long the rest of a key may take that begins like Escape. Terminals send it at once; a network may cut it.
const REST: Timespec = Timespec { tv_sec: 0, tv_nsec: 50_000_000 };

/// The longest sequence that is waited for.
const LONGEST: usize = 16;

/// The next key, and how many bytes it takes; `None` if its rest has not come.
fn next(bytes: &[u8]) -> Option<(Key, usize)> {
    let (first, rest) = bytes.split_first()?;
    Some(match first {
        b'\t' => (Key::Tab, 1),
        b'\r' | b'\n' => (Key::Enter, 1),
        0x1b => return sequence(rest).map(|(key, length)| (key, length + 1)),
        b' '..=b'~' => (Key::Letter(char::from(*first)), 1),
        _ => (Key::Other, 1),
    })
}

/// What stands behind an escape: `[` or `O`, parameters, and a letter or `~`.
fn sequence(bytes: &[u8]) -> Option<(Key, usize)> {
    let (first, rest) = bytes.split_first()?;
    if !matches!(first, b'[' | b'O') {
        return Some((Key::Escape, 0));
    }
    let Some(end) = rest.iter().position(|b| matches!(b, 0x40..=0x7e)) else {
        return (rest.len() >= LONGEST).then_some((Key::Other, bytes.len()));
    };
    let key = match &rest[..=end] {
        b"A" => Key::Up,
        b"B" => Key::Down,
        b"H" | b"1~" | b"7~" => Key::Home,
        b"F" | b"4~" | b"8~" => Key::End,
        b"5~" => Key::PageUp,
        b"6~" => Key::PageDown,
        b"Z" => Key::BackTab,
        _ => Key::Other,
    };
    Some((key, end + 2))
}

/// Has a thread tell which keys are pressed, until the terminal ends.
pub(crate) fn listen<T: Send + 'static>(tell: Sender<T>, key: impl Fn(Key) -> T + Send + 'static) {
    let read = move || {
        let (mut held, mut piece) = (Vec::new(), [0; 64]);
        let mut input = io::stdin().lock();
        loop {
            while let Some((pressed, length)) = next(&held) {
                held.drain(..length);
                if tell.send(key(pressed)).is_err() {
                    return;
                }
            }
            if !held.is_empty() && !comes_soon() {
                held.clear();
                if tell.send(key(Key::Escape)).is_err() {
                    return;
                }
            }
            match input.read(&mut piece) {
                Ok(length @ 1..) => held.extend_from_slice(&piece[..length]),
                _ => return,
            }
        }
    };
    // Without the thread signals still end the screen.
    let _ = thread::Builder::new().name("sundown-keys".into()).spawn(read);
}

/// Whether more is typed within a moment.
fn comes_soon() -> bool {
    let input = io::stdin();
    let mut watched = [PollFd::from_borrowed_fd(input.as_fd(), PollFlags::IN)];
    poll(&mut watched, Some(&REST)).is_ok_and(|ready| ready > 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn keys(mut bytes: &[u8]) -> Vec<Key> {
        let mut keys = Vec::new();
        while let Some((key, length)) = next(bytes) {
            keys.push(key);
            bytes = &bytes[length..];
        }
        keys
    }

    #[test]
    fn sequences_are_keys() {
        let pressed = keys(b"q\x1b[A\x1bOB\t\x1b[Z\x1b[5~\x1b[6~\x1b[1;5C\x1b[H\x1b[4~\r\x00");
        let wanted = [
            Key::Letter('q'),
            Key::Up,
            Key::Down,
            Key::Tab,
            Key::BackTab,
            Key::PageUp,
            Key::PageDown,
            Key::Other,
            Key::Home,
            Key::End,
            Key::Enter,
            Key::Other,
        ];
        assert_eq!(pressed, wanted);
        assert_eq!(keys(b"\x1bq"), [Key::Escape, Key::Letter('q')]);
    }

    #[test]
    fn a_sequence_that_is_cut_is_waited_for_but_not_without_end() {
        for cut in [&b"\x1b"[..], b"\x1b[", b"\x1b[5", b"\x1bO"] {
            assert_eq!(next(cut), None, "{cut:?}");
        }
        assert_eq!(next(&[b"\x1b[".as_slice(), &[b'1'; 40]].concat()), Some((Key::Other, 42)));
    }
}
