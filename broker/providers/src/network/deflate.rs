//! Compression of a connection (RFC 4978): what is sent is one stream in the form of RFC 1951, and what comes another.
//!
//! ```text
//!  read ◄── plain (64 KiB) ◄── inflate ◄── packed (32 KiB) ◄── below
//!  write ─► deflate ─► out (16 KiB) ─► below        flush: everything that was written can be read at the other end
//! ```
//!
//! However much a few bytes come to, no more is made of them at once than a buffer holds: limits for what is read hold as without
//! compression.

use std::fmt;
use std::io::{self, Read, Write};
use std::os::fd::BorrowedFd;
use std::time::{Duration, Instant};

use flate2::{Compress, Compression, Decompress, FlushCompress, FlushDecompress, Status};

use super::wire::Stream;

/// How much is read at once.
const PACKED: usize = 32 << 10;

/// How much is made of it at once.
const PLAIN: usize = 64 << 10;

/// How much is sent at once.
const OUT: usize = 16 << 10;

/// So many bytes may come to nothing in a row: no part of a stream needs as many to say something.
const MOST_EMPTY: usize = 256 << 10;

/// What comes is not compressed.
#[derive(Debug)]
pub(crate) struct NotCompressed;

impl NotCompressed {
    /// Whether an error says so.
    pub(crate) fn is(error: &io::Error) -> bool {
        error.get_ref().is_some_and(<dyn std::error::Error + Send + Sync>::is::<Self>)
    }

    fn error() -> io::Error {
        io::Error::new(io::ErrorKind::InvalidData, Self)
    }
}

impl fmt::Display for NotCompressed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("what comes is not compressed")
    }
}

impl std::error::Error for NotCompressed {}

/// A way to a server with compression above it.
pub(crate) struct Deflated {
    pub(super) below: Stream,
    inflate: Decompress,
    deflate: Compress,
    packed: Buffer,
    plain: Buffer,
    /// Whether there may be more inside the decompressor than fitted.
    has_more: bool,
    /// How many bytes have come since the last ones that said something.
    empty: usize,
    /// Whether the other end has closed the connection.
    is_over: bool,
    out: Box<[u8]>,
}

impl fmt::Debug for Deflated {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Deflated").field("below", &self.below).finish_non_exhaustive()
    }
}

/// Bytes that are taken from the front.
struct Buffer {
    bytes: Vec<u8>,
    taken: usize,
}

impl Buffer {
    fn new(bytes: Vec<u8>) -> Self {
        Self { bytes, taken: 0 }
    }

    fn left(&self) -> &[u8] {
        &self.bytes[self.taken..]
    }

    /// Fills it anew, which holds so much at most.
    fn fill(
        &mut self,
        most: usize,
        from: impl FnOnce(&mut [u8]) -> io::Result<usize>,
    ) -> io::Result<()> {
        self.taken = 0;
        self.bytes.resize(most, 0);
        let filled = from(&mut self.bytes);
        self.bytes.truncate(filled.as_ref().map_or(0, |filled| *filled));
        filled.map(drop)
    }
}

impl Deflated {
    /// Compresses what goes below. Some of what comes from there has arrived already.
    pub(crate) fn new(below: Stream, arrived: Vec<u8>) -> Self {
        Self {
            below,
            inflate: Decompress::new(false),
            deflate: Compress::new(Compression::default(), false),
            packed: Buffer::new(arrived),
            plain: Buffer::new(Vec::new()),
            has_more: false,
            empty: 0,
            is_over: false,
            out: vec![0; OUT].into(),
        }
    }

    /// Makes what it can of the bytes that have come. Whether there is something to read.
    fn inflate(&mut self) -> io::Result<bool> {
        while self.plain.left().is_empty() && (self.has_more || !self.packed.left().is_empty()) {
            // Lines of a server that does not compress begin so, and make sense to a decompressor for a while. No compressed line does.
            let is_line = matches!(self.packed.left(), [b'*' | b'+', ..]);
            if self.inflate.total_in() == 0 && is_line {
                return Err(NotCompressed::error());
            }
            let Self { inflate, packed, plain, .. } = self;
            let (before_in, before_out) = (inflate.total_in(), inflate.total_out());
            plain.fill(PLAIN, |into| {
                let status = inflate.decompress(packed.left(), into, FlushDecompress::None);
                let made = (inflate.total_out() - before_out) as usize;
                match status {
                    // A server that ends its stream says nothing more, and does not say so.
                    Ok(Status::StreamEnd) if made == 0 => Err(NotCompressed::error()),
                    Ok(Status::Ok | Status::BufError | Status::StreamEnd) => Ok(made),
                    Err(_) => Err(NotCompressed::error()),
                }
            })?;
            let used = (self.inflate.total_in() - before_in) as usize;
            self.packed.taken += used;
            self.has_more = self.plain.left().len() == PLAIN;
            if used == 0 && self.plain.left().is_empty() && !self.packed.left().is_empty() {
                return Err(NotCompressed::error());
            }
        }
        let has_some = !self.plain.left().is_empty();
        if has_some {
            self.empty = 0;
        }
        Ok(has_some || self.is_over)
    }

    fn read_below(&mut self) -> io::Result<()> {
        let Self { below, packed, .. } = self;
        packed.fill(PACKED, |into| below.read(into))?;
        self.is_over = self.packed.left().is_empty();
        self.empty += self.packed.left().len();
        if self.empty > MOST_EMPTY {
            let text = "what comes is compressed, and says nothing on and on";
            return Err(io::Error::new(io::ErrorKind::InvalidData, text));
        }
        Ok(())
    }

    /// As that of [`Stream`]. Bytes that come to nothing, such as the end of a flush, are nothing to read.
    pub(super) fn wait(&mut self, wake: BorrowedFd<'_>, most: Duration) -> io::Result<bool> {
        let until = Instant::now() + most;
        loop {
            if self.inflate()? {
                return Ok(true);
            }
            if !self.below.wait(wake, until.saturating_duration_since(Instant::now()))? {
                return Ok(false);
            }
            self.read_below()?;
        }
    }

    pub(super) fn is_quiet(&mut self) -> bool {
        self.inflate().is_ok_and(|has_some| !has_some) && self.below.is_quiet()
    }

    /// Sends what the compressor makes of some bytes. How many it has taken.
    fn send(&mut self, bytes: &[u8], flush: FlushCompress) -> io::Result<usize> {
        let begin = self.deflate.total_in();
        loop {
            let taken = (self.deflate.total_in() - begin) as usize;
            let before = self.deflate.total_out();
            let made = self.deflate.compress(&bytes[taken..], &mut self.out, flush);
            made.map_err(io::Error::other)?;
            let made = (self.deflate.total_out() - before) as usize;
            self.below.write_all(&self.out[..made])?;
            if made < self.out.len() {
                return Ok((self.deflate.total_in() - begin) as usize);
            }
        }
    }
}

impl Read for Deflated {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        while !self.inflate()? {
            self.read_below()?;
        }
        let left = self.plain.left();
        let length = left.len().min(into.len());
        into[..length].copy_from_slice(&left[..length]);
        self.plain.taken += length;
        Ok(length)
    }
}

impl Write for Deflated {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.send(bytes, FlushCompress::None)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.send(&[], FlushCompress::Sync)?;
        self.below.flush()
    }
}

#[cfg(test)]
mod tests {
    use std::net::Shutdown;
    use std::os::fd::AsFd;
    use std::os::unix::net::UnixStream;
    use std::thread;

    use flate2::write::DeflateEncoder;

    use super::super::wire::{Socket, Wire};
    use super::*;

    const LONG: Duration = Duration::from_secs(60);

    /// A stream, and the other end of its socket.
    fn pair(arrived: &[u8]) -> (Stream, UnixStream) {
        let (near, far) = UnixStream::pair().expect("sockets");
        let mut wire = Wire::new(Socket::Unix(near));
        wire.set_deadline(Instant::now() + LONG);
        let deflated = Deflated::new(Stream::Plain(wire), arrived.to_vec());
        (Stream::Deflated(Box::new(deflated)), far)
    }

    /// What a server sends that says these texts.
    fn packed(texts: &[&[u8]]) -> Vec<u8> {
        let mut encoder = DeflateEncoder::new(Vec::new(), Compression::default());
        for text in texts {
            encoder.write_all(text).expect("it is in memory");
            encoder.flush().expect("it is in memory");
        }
        encoder.get_ref().clone()
    }

    fn read_some(stream: &mut Stream) -> io::Result<Vec<u8>> {
        let mut bytes = vec![0; 100];
        let length = stream.read(&mut bytes)?;
        bytes.truncate(length);
        Ok(bytes)
    }

    #[test]
    fn what_is_sent_arrives_with_each_flush() {
        let (mut near, far) = pair(b"");
        let mut wire = Wire::new(Socket::Unix(far));
        wire.set_deadline(Instant::now() + LONG);
        let mut far = Deflated::new(Stream::Plain(wire), Vec::new());
        for text in ["a1 NOOP\r\n".to_owned(), "x".repeat(1_000_000), String::new(), "z".to_owned()]
        {
            let writer = thread::spawn(move || {
                near.write_all(text.as_bytes()).expect("sent");
                near.flush().expect("sent");
                (near, text)
            });
            let mut wanted = Vec::new();
            let (back, text) = writer.join().expect("sent");
            near = back;
            while wanted.len() < text.len() {
                let mut bytes = [0; 7000];
                let length = far.read(&mut bytes).expect("it comes");
                wanted.extend_from_slice(&bytes[..length]);
            }
            assert!(wanted == text.as_bytes());
        }
        assert!(near.sent() < 10_000, "{}", near.sent());
    }

    #[test]
    fn what_cannot_be_pressed_arrives_too() {
        let (mut near, far) = pair(b"");
        let mut noise = vec![0; 300_000];
        getrandom::fill(&mut noise).expect("noise");
        let sent = noise.clone();
        let writer = thread::spawn(move || {
            near.write_all(&sent).expect("sent");
            near.flush().expect("sent");
        });
        let mut wire = Wire::new(Socket::Unix(far));
        wire.set_deadline(Instant::now() + LONG);
        let mut far = Deflated::new(Stream::Plain(wire), Vec::new());
        let mut come = vec![0; noise.len()];
        far.read_exact(&mut come).expect("it comes");
        assert!(come == noise);
        writer.join().expect("sent");
    }

    #[test]
    fn input_may_be_split_anywhere() {
        let bytes = packed(&[b"* 1 EXISTS\r\n", b"a1 OK done\r\n"]);
        for at in 0..bytes.len() {
            let (mut near, mut far) = pair(&bytes[..at]);
            far.write_all(&bytes[at..]).expect("sent");
            let mut all = [0; 24];
            near.read_exact(&mut all).expect("it comes");
            assert_eq!(&all, b"* 1 EXISTS\r\na1 OK done\r\n", "{at}");
            drop(far);
            assert_eq!(read_some(&mut near).expect("the end"), b"");
        }
    }

    /// Bytes that were read with others are waited for in vain at the socket; and bytes that come to nothing are no reason to read.
    #[test]
    fn what_is_there_is_not_waited_for() {
        let bytes = packed(&[b"one", b"two"]);
        let (mut near, mut far) = pair(&bytes);
        let (wake, woken) = UnixStream::pair().expect("sockets");
        assert!(near.wait(wake.as_fd(), LONG).expect("a socket"));
        let mut all = [0; 6];
        near.read_exact(&mut all).expect("it is there");
        assert!(near.is_quiet());
        // A flush with nothing in it.
        far.write_all(&[0, 0, 0, 0xff, 0xff]).expect("sent");
        assert!(!near.wait(wake.as_fd(), Duration::ZERO).expect("a socket"));
        drop(woken);
        assert!(!near.wait(wake.as_fd(), LONG).expect("it is woken"));
        drop(far);
        assert!(near.wait(wake.as_fd(), LONG).expect("a socket") && !near.is_quiet());
        assert_eq!(read_some(&mut near).expect("the end"), b"");
    }

    #[test]
    fn a_bomb_is_made_a_buffer_at_a_time() {
        let bomb = packed(&[&vec![b'x'; 32 << 20]]);
        assert!(bomb.len() < 64 << 10);
        let (near, _far) = pair(&bomb);
        let Stream::Deflated(mut near) = near else { panic!("it is compressed") };
        let mut bytes = vec![0; 1 << 20];
        let mut all = 0;
        while all < 32 << 20 {
            all += near.read(&mut bytes).expect("it is there");
            assert!(
                near.plain.bytes.capacity() <= PLAIN && near.packed.bytes.capacity() <= bomb.len()
            );
        }
        assert!(near.is_quiet());
    }

    #[test]
    fn what_says_nothing_on_and_on_is_an_error() {
        let (mut near, mut far) = pair(b"");
        let nothing = [0, 0, 0, 0xff, 0xff].repeat(2 * MOST_EMPTY / 5);
        // It may be cut off.
        let writer = thread::spawn(move || far.write_all(&nothing).is_ok());
        let error = read_some(&mut near).expect_err("it says nothing");
        assert!(error.kind() == io::ErrorKind::InvalidData && !NotCompressed::is(&error));
        drop(near);
        writer.join().expect("no panic");
    }

    #[test]
    fn what_is_not_compressed_is_an_error() {
        let end = {
            let mut encoder = DeflateEncoder::new(Vec::new(), Compression::default());
            encoder.write_all(b"bye").expect("it is in memory");
            encoder.finish().expect("it is in memory")
        };
        let cases: [&[u8]; 5] =
            [b"* 1 EXISTS\r\n", b"a2 OK done\r\n", b"+ idling\r\n", &[0xff; 9], &end];
        for bytes in cases {
            let (mut near, far) = pair(bytes);
            let first = read_some(&mut near);
            let error = match first {
                Ok(read) if read == b"bye" => {
                    (&far).write_all(b"more").expect("sent");
                    read_some(&mut near).expect_err("it has ended")
                }
                other => other.expect_err("not compressed"),
            };
            assert!(NotCompressed::is(&error), "{bytes:?}: {error}");
        }
        // Broken in the middle.
        let mut bytes = packed(&[b"one"]);
        bytes.extend_from_slice(&[0xff; 20]);
        let (mut near, _far) = pair(&bytes);
        assert!(NotCompressed::is(&near.read_to_end(&mut Vec::new()).expect_err("broken")));
    }

    #[test]
    fn another_thread_ends_a_read() {
        let (mut near, _far) = pair(b"");
        let other = UnixStream::from(near.wire().another().expect("a handle"));
        let reader = thread::spawn(move || read_some(&mut near));
        other.shutdown(Shutdown::Both).expect("it is open");
        assert_eq!(reader.join().expect("no panic").expect("the end"), b"");
    }
}
