//! Messages that are larger than what anybody wants to have in memory.

use std::io::Write;

use crate::harness::{Broker, Home};
use crate::servers::Sink;

/// How many bytes of memory a broker has had at most.
fn peak(broker: &Broker) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{}/status", broker.pid())).expect("read");
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).expect("it is there");
    let kilobytes: u64 = line.trim().trim_end_matches(" kB").parse().expect("a number");
    kilobytes << 10
}

/// Fifty megabytes go from a program through the broker to a server, which gets each of them; the broker never has them in
/// memory.
///
/// design §3.16, §6
#[test]
fn fifty_megabytes_pass_through_a_flat_memory() {
    if !Sink::installed() {
        return;
    }
    let (home, sink) = (Home::new(), Sink::start(&[]));
    // Line by line is slow in a sink.
    home.sends_to(sink.port(), "timeout = \"30s\"\n");
    let broker = home.serve();
    home.run(&["send", "--wait=60", home.letter("small").to_str().expect("text")]).ok();
    let before = peak(&broker);
    let path = home.write("large.eml", "From: me@home.test\nTo: user@test\nSubject: large\n\n");
    let mut file = std::fs::OpenOptions::new().append(true).open(&path).expect("it is there");
    let line = "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcde\n";
    for _ in 0..50 {
        file.write_all(line.repeat((1 << 20) / line.len()).as_bytes()).expect("written");
    }
    home.run(&["send", "--wait=60", path.to_str().expect("text")]).ok();
    let grown = peak(&broker).saturating_sub(before);
    assert!(grown < 24 << 20, "the broker's memory has grown by {} MiB", grown >> 20);
    let received = sink.received();
    let large = received.iter().find(|r| r.subject() == "large").expect("it has come");
    let body = large.message.windows(2).position(|w| w == b"\n\n").expect("a body") + 2;
    let body = &large.message[body..];
    assert_eq!(body.len(), 50 << 20);
    assert!(body.chunks(line.len()).all(|chunk| chunk == line.as_bytes()));
}
