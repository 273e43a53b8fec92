//! Signals, as bytes in a pipe that the loop watches.

use std::io::{self, Read};
use std::os::fd::AsRawFd;
use std::os::unix::net::UnixStream;

use mio::unix::SourceFd;
use mio::{Interest, Poll};
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};

use super::SIGNALS;

/// The signals that the broker takes.
pub(super) struct Signals {
    restart: UnixStream,
    reload: UnixStream,
    stops: u32,
}

impl Signals {
    pub(super) fn install(poll: &Poll) -> io::Result<Self> {
        let stream = |signals: &[i32]| -> io::Result<UnixStream> {
            let (read, write) = UnixStream::pair()?;
            read.set_nonblocking(true)?;
            for signal in signals {
                signal_hook::low_level::pipe::register(*signal, write.try_clone()?)?;
            }
            let fd = read.as_raw_fd();
            poll.registry().register(&mut SourceFd(&fd), SIGNALS, Interest::READABLE)?;
            Ok(read)
        };
        Ok(Self { restart: stream(&[SIGTERM, SIGINT])?, reload: stream(&[SIGHUP])?, stops: 0 })
    }

    /// Whether the settings must be read again.
    pub(super) fn reload_asked(&mut self) -> bool {
        drain(&mut self.reload) > 0
    }

    /// How many stops were requested so far, or 0 if there is no new one.
    pub(super) fn stops_asked(&mut self) -> u32 {
        let new = drain(&mut self.restart);
        self.stops += new;
        if new == 0 { 0 } else { self.stops }
    }
}

fn drain(pipe: &mut UnixStream) -> u32 {
    let mut bytes = [0; 64];
    let mut count = 0;
    while let Ok(n @ 1..) = pipe.read(&mut bytes) {
        count += n as u32;
    }
    count
}
