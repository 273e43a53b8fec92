//! Frames: a length and a payload, whose contents this module does not know.
//!
//! ```text
//! ┌──────────────┬───────────────────────────┐
//! │ length: u32  │ payload: `length` bytes   │   length is little-endian, MIN_PAYLOAD ..= MAX_PAYLOAD
//! └──────────────┴───────────────────────────┘
//! ```
//!
//! Both sides check the length against both limits before they allocate anything.

use std::fmt;
use std::io::{self, Read, Write};

/// The shortest payload: no message encodes to less than its four-byte tag.
pub const MIN_PAYLOAD: u32 = 4;
/// The longest payload, 1 MiB. No message needs more: bodies travel in pieces of at most [`MAX_BLOB`].
pub const MAX_PAYLOAD: u32 = 1 << 20;
/// The largest piece of a body in one message, 256 KiB.
pub const MAX_BLOB: usize = 256 << 10;
/// The number of bytes in front of each payload.
pub const HEADER: usize = 4;

/// Why bytes are not a frame. It ends the connection, because the bytes after a wrong length cannot be interpreted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FrameError {
    /// The length is outside [`MIN_PAYLOAD`] ..= [`MAX_PAYLOAD`].
    Length(u32),
}

impl fmt::Display for FrameError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self::Length(length) = self;
        write!(f, "a frame of {length} bytes; {MIN_PAYLOAD} to {MAX_PAYLOAD} are allowed")
    }
}

impl std::error::Error for FrameError {}

/// Checks a frame's length.
pub fn check(length: u32) -> Result<usize, FrameError> {
    if (MIN_PAYLOAD..=MAX_PAYLOAD).contains(&length) {
        Ok(length as usize)
    } else {
        Err(FrameError::Length(length))
    }
}

/// Cuts the first whole frame off `bytes`. Returns its payload and the number of bytes it took, or `None` while it is incomplete.
pub fn cut(bytes: &[u8]) -> Result<Option<(&[u8], usize)>, FrameError> {
    let Some((header, rest)) = bytes.split_first_chunk::<HEADER>() else { return Ok(None) };
    let length = check(u32::from_le_bytes(*header))?;
    Ok(rest.get(..length).map(|payload| (payload, HEADER + length)))
}

/// Reads one payload into `payload`, blocking. `Ok(false)` means that the stream ended in an orderly way between two frames.
pub fn read(from: &mut impl Read, payload: &mut Vec<u8>) -> io::Result<bool> {
    let mut header = [0; HEADER];
    let mut have = 0;
    while have < HEADER {
        match from.read(&mut header[have..]) {
            Ok(0) if have == 0 => return Ok(false),
            Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
            Ok(n) => have += n,
            Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
            Err(e) => return Err(e),
        }
    }
    let length = check(u32::from_le_bytes(header))
        .map_err(|e| io::Error::new(io::ErrorKind::InvalidData, e))?;
    payload.resize(length, 0);
    from.read_exact(payload)?;
    Ok(true)
}

/// Writes a whole frame, length and payload, in one call.
pub fn write(to: &mut impl Write, frame: &[u8]) -> io::Result<()> {
    to.write_all(frame)?;
    to.flush()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lengths_outside_the_range_are_refused_before_the_payload_is_looked_at() {
        for wrong in [0, 1, 3, MAX_PAYLOAD + 1, u32::MAX] {
            assert_eq!(cut(&wrong.to_le_bytes()), Err(FrameError::Length(wrong)));
        }
    }

    #[test]
    fn a_frame_is_cut_only_when_it_is_whole() {
        let bytes = [4, 0, 0, 0, 1, 2, 3, 4, 9];
        for short in 0..8 {
            assert_eq!(cut(&bytes[..short]), Ok(None));
        }
        assert_eq!(cut(&bytes), Ok(Some((&[1, 2, 3, 4][..], 8))));
    }

    #[test]
    fn reading_tells_an_orderly_end_from_a_torn_frame() {
        let mut payload = Vec::new();
        assert!(!read(&mut &[][..], &mut payload).expect("orderly"));
        assert!(read(&mut &[4, 0][..], &mut payload).is_err());
        assert!(read(&mut &[4, 0, 0, 0, 1][..], &mut payload).is_err());
        assert!(read(&mut &[4, 0, 0, 0, 1, 2, 3, 4][..], &mut payload).expect("whole"));
        assert_eq!(payload, [1, 2, 3, 4]);
    }

    /// A reader that fails with each listed error once, and then returns the bytes.
    struct Failing<'a>(Vec<io::ErrorKind>, &'a [u8]);

    impl Read for Failing<'_> {
        fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
            self.0.pop().map_or_else(|| self.1.read(into), |kind| Err(kind.into()))
        }
    }

    #[test]
    fn a_signal_does_not_end_reading_and_a_failure_does() {
        let bytes = [4, 0, 0, 0, 1, 2, 3, 4];
        let mut payload = Vec::new();
        let mut interrupted = Failing(vec![io::ErrorKind::Interrupted], &bytes);
        assert!(read(&mut interrupted, &mut payload).expect("read again"));
        assert_eq!(payload, [1, 2, 3, 4]);
        let mut broken = Failing(vec![io::ErrorKind::ConnectionReset], &bytes);
        let failed = read(&mut broken, &mut payload).expect_err("the connection is gone");
        assert_eq!(failed.kind(), io::ErrorKind::ConnectionReset);
    }

    #[test]
    fn a_frame_is_written_as_it_is() {
        let mut written = Vec::new();
        write(&mut written, &[4, 0, 0, 0, 1, 2, 3, 4]).expect("a vector takes it");
        assert_eq!(written, [4, 0, 0, 0, 1, 2, 3, 4]);
    }

    /// Clients cut a body into pieces of this size, and a frame has room for the fields around a piece.
    #[test]
    fn the_largest_piece_of_a_body_is_256_kib() {
        assert_eq!(MAX_BLOB, 256 * 1024);
        assert!(MAX_BLOB < MAX_PAYLOAD as usize);
    }
}
