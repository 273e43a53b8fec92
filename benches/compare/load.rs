//! Many clients in one thread: each sends a request, waits for its answer, and sends the next.
//!
//! The same loop drives our broker, the floors and the peers, so that what a client costs is the same for all of them.

use std::io::{ErrorKind, Read, Write};
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};

use rustix::event::epoll;

use crate::measure::{Cost, Side};

/// How a server is spoken to.
pub(crate) trait Speech {
    /// A connection that is ready to be asked.
    fn connect(&mut self) -> UnixStream;

    /// Appends a request of that client's; the number is its own.
    fn request(&mut self, client: usize, number: u64, bytes: &mut Vec<u8>);

    /// How long the first answer in these bytes is, if it is whole.
    fn answer(&self, bytes: &[u8]) -> Option<usize>;
}

/// Clients that stay connected over all rounds.
pub(crate) struct Clients<S> {
    speech: S,
    all: Vec<Client>,
    poll: std::os::fd::OwnedFd,
    asked: u64,
}

struct Client {
    stream: UnixStream,
    inbox: Vec<u8>,
    began: Instant,
}

impl<S: Speech> Clients<S> {
    pub(crate) fn connect(mut speech: S, count: usize) -> Self {
        let poll = epoll::create(epoll::CreateFlags::CLOEXEC).expect("epoll");
        let clients = (0..count).map(|n| {
            let stream = speech.connect();
            let data = epoll::EventData::new_u64(n as u64);
            epoll::add(&poll, &stream, data, epoll::EventFlags::IN).expect("added");
            Client { stream, inbox: Vec::new(), began: Instant::now() }
        });
        let all = clients.collect();
        Self { speech, all, poll, asked: 0 }
    }

    /// So many requests, spread over all clients. How long all took, and how long each.
    pub(crate) fn ask(&mut self, times: usize) -> (Duration, Vec<Duration>) {
        let began = Instant::now();
        let mut each = Vec::with_capacity(times);
        let mut buffer = [0; 16 << 10];
        let mut events = Vec::with_capacity(self.all.len());
        let mut sent = self.all.len().min(times);
        (0..sent).for_each(|n| self.send(n));
        while each.len() < times {
            events.clear();
            epoll::wait(&self.poll, rustix::buffer::spare_capacity(&mut events), None)
                .expect("events");
            for event in &events {
                let n = event.data.u64() as usize;
                let client = &mut self.all[n];
                match client.stream.read(&mut buffer) {
                    Ok(0) => panic!("the server hung up"),
                    Ok(read) => client.inbox.extend_from_slice(&buffer[..read]),
                    Err(error) if error.kind() == ErrorKind::Interrupted => continue,
                    Err(error) => panic!("{error}"),
                }
                while let Some(length) = self.speech.answer(&self.all[n].inbox) {
                    let client = &mut self.all[n];
                    client.inbox.drain(..length);
                    each.push(client.began.elapsed());
                    if sent < times {
                        sent += 1;
                        self.send(n);
                    }
                }
            }
        }
        (began.elapsed(), each)
    }

    fn send(&mut self, n: usize) {
        self.asked += 1;
        let mut request = Vec::with_capacity(64);
        self.speech.request(n, self.asked, &mut request);
        let client = &mut self.all[n];
        client.began = Instant::now();
        client.stream.write_all(&request).expect("written");
    }
}

/// One side: so many clients, each with one request under way.
pub(crate) fn asking<'a, S: Speech + 'a>(
    name: &'static str,
    speech: S,
    count: usize,
    requests: usize,
    server: u32,
) -> Side<'a> {
    let mut clients = Clients::connect(speech, count);
    Side::new(name, move || {
        let before = processor_time(server);
        let (took, mut each) = clients.ask(requests);
        let used = processor_time(server).saturating_sub(before);
        each.sort_unstable();
        Cost {
            p99: Some(each[each.len() * 99 / 100].as_secs_f64()),
            processor: Some(used.as_secs_f64() / requests as f64),
            ..Cost::of(took, requests)
        }
    })
}

/// What a process has used so far, of all its threads. The kernel counts nanoseconds here.
pub(crate) fn processor_time(pid: u32) -> Duration {
    let threads = std::fs::read_dir(format!("/proc/{pid}/task")).into_iter().flatten().flatten();
    let used = threads.filter_map(|thread| {
        let text = std::fs::read_to_string(thread.path().join("schedstat")).ok()?;
        text.split(' ').next()?.parse::<u64>().ok()
    });
    Duration::from_nanos(used.sum())
}
