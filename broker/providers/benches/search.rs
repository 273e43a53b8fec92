//! What an index costs, and how long a search takes: `cargo bench -p sundown-providers --bench search [MESSAGES…]`.
//!
//! The messages are made of 50,000 words whose frequency falls with their rank, as in languages: about 150 words of text each, from 2,000
//! senders. Chance always chooses the same.

use std::io::{Cursor, Read};
use std::time::{Duration, Instant};

use rustix::time::{ClockId, clock_gettime};

use sundown_providers::Result;
use sundown_providers::search::{
    Document, Index, Indexer, Pace, Query, Reader, Row, Source, path_of,
};

/// How many words there are.
const WORDS: usize = 50_000;

/// How often each search is done.
const RUNS: usize = 15;

/// Numbers by chance (xorshift).
struct Chance(u64);

impl Chance {
    fn below(&mut self, end: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 11) as usize % end
    }

    /// A word's rank: the word of rank `n` comes about `1 / n` times as often as the first.
    fn rank(&mut self) -> usize {
        let part = self.below(1 << 30) as f64 / f64::from(1 << 30);
        ((WORDS as f64).powf(part) as usize).min(WORDS - 1)
    }
}

/// The word of a rank: the more common, the shorter.
fn word(rank: usize) -> String {
    let (mut left, mut word) = (rank + 26, String::new());
    while left > 0 {
        word.push(char::from(b"etaoinshrdlucmfwypvbgkjqxz"[left % 26]));
        left /= 26;
    }
    word
}

fn message(seq: u64, chance: &mut Chance) -> String {
    let mut words = |count: usize| {
        let words: Vec<_> = (0..count).map(|_| word(chance.rank())).collect();
        words.join(" ")
    };
    let (subject, text) = (words(5), words(150));
    let text = text.replace(" e ", " e\r\n");
    let sender = chance.below(2000);
    let rare = if seq.is_multiple_of(5000) { "seldomword" } else { "" };
    format!(
        "From: Sender Number{sender} <sender{sender}@example.org>\r\nTo: recipient@example.com\r\n\
         Subject: {subject}\r\nDate: Thu, 01 Jan 2026 00:00:00 +0000\r\n\r\n{text} {rare}\r\n"
    )
}

fn main() {
    let wanted = std::env::args().skip(1).filter_map(|argument| argument.parse().ok());
    let mut steps: Vec<u64> = wanted.collect();
    if steps.is_empty() {
        steps = vec![1_000, 10_000, 100_000];
    }
    let home = tempfile::tempdir().expect("a directory");
    let path = path_of(&home.path().join("store.db"));
    let mut index = Index::open(&path, 1).expect("it is made");
    let (mut seq, mut text) = (0, 0);
    let (mut building, mut reading) = (Duration::ZERO, Duration::ZERO);
    let [mut slowest, mut slowest_commit, mut slowest_merge] = [Duration::ZERO; 3];
    let mut chance = Chance(1);
    for end in steps {
        while seq < end {
            seq += 1;
            let message = message(seq, &mut chance);
            let used = processor();
            let document = Document::of(message.as_bytes());
            reading += processor().saturating_sub(used);
            let used = processor();
            let began = Instant::now();
            index.add(seq, &document).expect("it is added");
            index.advance(seq).expect("it is noted");
            slowest = slowest.max(began.elapsed());
            if index.is_full() || seq == end {
                let began = Instant::now();
                index.commit().expect("it is committed");
                slowest_commit = slowest_commit.max(began.elapsed());
                loop {
                    let began = Instant::now();
                    let more = index.tidy().expect("it is merged");
                    slowest_merge = slowest_merge.max(began.elapsed());
                    if !more {
                        break;
                    }
                }
            }
            building += processor().saturating_sub(used);
            text += message.len();
        }
        let size: u64 = ["", "-wal"]
            .iter()
            .filter_map(|suffix| std::fs::metadata(format!("{}{suffix}", path.display())).ok())
            .map(|file| file.len())
            .sum();
        println!(
            "\n{seq} messages of {} bytes: read {:.0}/s, built {:.0}/s; index {} bytes a message; slowest add {:.1} ms, commit {:.1} ms, merge {:.1} ms",
            text / seq as usize,
            seq as f64 / reading.as_secs_f64(),
            seq as f64 / (reading + building).as_secs_f64(),
            size / seq,
            slowest.as_secs_f64() * 1e3,
            slowest_commit.as_secs_f64() * 1e3,
            slowest_merge.as_secs_f64() * 1e3,
        );
        search(&path);
    }
    stops();
}

/// Messages that are made when they are read.
struct Made(u64);

impl Source for Made {
    fn next(&mut self, after: u64, limit: usize) -> Result<Vec<Row>> {
        let rows = (after + 1..=self.0).take(limit).map(|seq| Row {
            seq,
            record: seq.into(),
            version: 1,
            received: 0,
            gone: false,
        });
        Ok(rows.collect())
    }

    fn last(&mut self) -> Result<u64> {
        Ok(self.0)
    }

    fn open(&mut self, record: u128) -> Result<Box<dyn Read + '_>> {
        let seq = record as u64;
        Ok(Box::new(Cursor::new(message(seq, &mut Chance(seq)))))
    }
}

/// How long it takes to stop the thread in the middle of its work.
fn stops() {
    let home = tempfile::tempdir().expect("a directory");
    let path = path_of(&home.path().join("store.db"));
    let pace = Pace { quiet: Duration::ZERO, ..Pace::default() };
    let indexer = Indexer::start(&path, 1, Box::new(Made(u64::MAX >> 8)), pace).expect("a thread");
    let mut times = Vec::new();
    for run in 1..=200 {
        // It has worked since it was resumed, and is somewhere in a batch.
        let before = indexer.progress().upto;
        let began = Instant::now();
        while indexer.progress().upto == before && began.elapsed() < Duration::from_secs(10) {
            std::thread::yield_now();
        }
        std::thread::sleep(Duration::from_millis(run % 20));
        let began = Instant::now();
        indexer.stop();
        times.push(began.elapsed());
        indexer.resume();
    }
    times.sort();
    let milliseconds = |place: usize| times[place].as_secs_f64() * 1e3;
    println!(
        "\nstop() in the middle of work: median {:.2} ms, 95 of 100 {:.2} ms, slowest {:.2} ms",
        milliseconds(100),
        milliseconds(190),
        milliseconds(199),
    );
}

/// The processor's time that this thread has had.
fn processor() -> Duration {
    let time = clock_gettime(ClockId::ThreadCPUTime);
    Duration::new(time.tv_sec as u64, time.tv_nsec as u32)
}

/// Searches of each kind.
fn search(path: &std::path::Path) {
    let (first, second, middle) = (word(1), word(2), word(200));
    for (name, typed) in [
        ("rare word", "seldomword".to_owned()),
        ("common word", first.clone()),
        ("word of rank 200", middle.clone()),
        ("two common words", format!("{first} {second}")),
        ("common and rare", format!("{first} seldomword")),
        ("common without common", format!("{first} -{second}")),
        ("common phrase", format!("\"{first} {second}\"")),
        ("phrase of five commonest", format!("\"{first} {second} {first} {second} {first}\"")),
        ("common prefix of 2", format!("{first}*")),
        ("prefix of 2", "se*".to_owned()),
        ("prefix of 3", format!("{}*", &word(700)[..3])),
        ("prefix of 5", "seldo*".to_owned()),
        ("from: one of 2,000", "from:sender77@example.org".to_owned()),
        ("from: all", "from:example.org".to_owned()),
        ("date, all", "after:2025-01-01".to_owned()),
        ("common word, date, none", format!("{first} after:2026-02-01")),
        ("common word, date, all", format!("{first} after:2025-02-01")),
    ] {
        let query = Query::parse(&typed).expect("it is understood");
        let mut reader = Reader::new(path, 1);
        let mut times = Vec::new();
        let mut page = None;
        for _ in 0..RUNS {
            let began = Instant::now();
            page = Some(reader.search(&query, None, 50).expect("it is searched"));
            times.push(began.elapsed());
        }
        let first = times[0];
        times.sort();
        println!(
            "  {name:24} median {:9.3} ms, first {:9.3} ms, {:2} found",
            times[RUNS / 2].as_secs_f64() * 1e3,
            first.as_secs_f64() * 1e3,
            page.map_or(0, |page| page.seqs.len()),
        );
    }
}
