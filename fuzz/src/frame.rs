//! A stream of frames: cut and read agree, nothing is allocated beyond the bound, and what is written is what was read.

use sundown_protocol::frame::{self, HEADER, MAX_PAYLOAD, MIN_PAYLOAD};

/// Bytes as a stream of frames.
pub fn frame(bytes: &[u8]) {
    let (mut rest, mut stream) = (bytes, bytes);
    let mut payload = Vec::new();
    loop {
        let cut = frame::cut(rest);
        let read = frame::read(&mut stream, &mut payload);
        assert!(payload.capacity() <= MAX_PAYLOAD as usize, "more is allocated than may come");
        match (cut, read) {
            (Ok(Some((cut, used))), Ok(true)) => {
                assert_eq!(cut, payload, "two ways to read the same frame");
                assert_eq!(used, HEADER + cut.len());
                assert!((MIN_PAYLOAD as usize..=MAX_PAYLOAD as usize).contains(&cut.len()));
                let mut written = Vec::new();
                frame::write(&mut written, &rest[..used]).expect("memory takes everything");
                assert_eq!(frame::cut(&written), Ok(Some((cut, used))));
                rest = &rest[used..];
                assert_eq!(rest, stream, "both take as much");
            }
            (Ok(None), Ok(false)) => return assert!(rest.is_empty(), "an orderly end is the end"),
            (Ok(None), Err(_)) => return assert!(!rest.is_empty(), "something is torn"),
            (Err(_), Err(_)) => return,
            (cut, read) => panic!("{cut:?} and {read:?} of the same bytes"),
        }
    }
}
