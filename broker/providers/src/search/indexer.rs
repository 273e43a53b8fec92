//! Builds the index of a store on a thread beside it, while the store has nothing to do.
//!
//! ```text
//!             woken, and the store is quiet            nothing left
//!  Asleep ───────────────────────────────► Working ───────────────► Asleep
//!     │                                       │
//!     └────────────── stop() ─► Stopped ◄─────┘ within a message; the batch is undone
//!                                  └─ resume() ─► Working
//! ```
//!
//! It works in slices of a few milliseconds. While the store is busy it rests nine times as long between two slices. Its thread has the
//! lowest priority.
//!
//! First come messages that are new, in their order. When there are none left, what is in the index is compared with what is in the
//! store, from time to time: messages that were deleted are removed from the index, and those that are others now, as after a restored
//! backup, are read again.
//!
//! A message that cannot be read, or that `mail-parser` panics on, is in the index without words.

use std::collections::VecDeque;
use std::io::Read;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use sundown_core::provider::ProviderError;
use sundown_protocol::Code;

use super::document::{Document, LOOKED_AT};
use super::index::Index;
use super::reader::Reader;
use crate::Result;
use crate::fault;

/// How many rows of the store are read at once.
const ROWS: usize = 256;

/// How long [`Indexer::stop`] waits at most, for a message that is being read from a slow disk.
const STOPS: Duration = Duration::from_millis(5);

/// While the store is busy the thread rests so many times as long as it has worked.
const RESTS: u32 = 9;

/// A message of a store, as its index sees it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Row {
    /// Its number in the store: the order of arrival, above 0.
    pub seq: u64,
    /// Its record.
    pub record: u128,
    /// Another one when the message has other bytes.
    pub version: u64,
    /// When it came into the store, in milliseconds since 1970: its date if it says none.
    pub received: i64,
    /// Whether it was deleted for good. Such messages may be left out.
    pub gone: bool,
}

impl Row {
    /// What the index has of a message to see later that it is another one. 0 stands for a message that could not be read.
    fn stamp(&self) -> i64 {
        let folded = (self.record as u64) ^ ((self.record >> 64) as u64);
        let mixed = (folded ^ self.version.rotate_left(32)).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        (mixed.max(1)) as i64
    }
}

/// The messages that an index is made of.
pub trait Source: Send {
    /// The messages behind this number, in the order of their numbers; at most so many. None at all means that there are no more.
    fn next(&mut self, after: u64, limit: usize) -> Result<Vec<Row>>;

    /// The number of the last message; 0 if there is none.
    fn last(&mut self) -> Result<u64>;

    /// The bytes of a message. [`Code::E_NOT_FOUND`] means that it was deleted.
    fn open(&mut self, record: u128) -> Result<Box<dyn Read + '_>>;
}

/// What has changed in a store.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Changed {
    /// Messages came.
    Added,
    /// Messages that the index has or had were deleted for good, or came back. Others may have come.
    Older,
}

/// When the thread works, and for how long.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Pace {
    /// It begins when nothing has changed in the store for so long.
    pub quiet: Duration,
    /// It begins after so long, although the store is busy.
    pub patience: Duration,
    /// For how long it works at a time.
    pub slice: Duration,
    /// The shortest time between two comparisons of the index with the store.
    pub compare: Duration,
    /// After a start they are compared if they were not for so long. Sooner, if the last message in the index is another one.
    pub trust: Duration,
}

impl Default for Pace {
    fn default() -> Self {
        Self {
            quiet: Duration::from_millis(300),
            patience: Duration::from_secs(10),
            slice: Duration::from_millis(10),
            compare: Duration::from_secs(600),
            trust: Duration::from_secs(24 * 3600),
        }
    }
}

/// How far an index is made.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Progress {
    /// All messages up to this number are in the index.
    pub upto: u64,
    /// The number of the store's last message when it was last looked at; `None` if it was not yet.
    pub last: Option<u64>,
    /// Whether there was nothing left to do when the thread went to sleep.
    pub is_complete: bool,
}

/// The thread that builds an index. Dropping it ends the thread and waits for it.
///
/// ```
/// use sundown_core::provider::{MessageContent, ProviderSpec, StoreWrite};
/// use sundown_protocol::{Flags, Folder};
/// use sundown_providers::search::{Changed, Indexer, Pace, Query, StoreSource, path_of};
/// use sundown_providers::sqlite::SqliteStore;
/// use sundown_providers::{StoreProvider, Sync};
///
/// let home = tempfile::tempdir().unwrap();
/// let path = home.path().join("store.db");
/// let mut store = SqliteStore::new(&ProviderSpec { path: path.clone(), ..ProviderSpec::new("sqlite") });
/// let uid = store.logon().unwrap().uid;
/// let source = Box::new(StoreSource::new(&path, store.reader().unwrap()));
/// let indexer = Indexer::start(&path_of(&path), uid, source, Pace::default()).unwrap();
///
/// let content = MessageContent::Inline(b"Subject: hello\r\n\r\nThe text.\r\n".to_vec());
/// let (folder, flags) = (Folder::DRAFTS, Flags::default());
/// store.commit(
///     vec![StoreWrite::Save { record: 1, folder, content, flags, recovered: false, now: 0 }],
///     Sync::Full,
/// );
/// indexer.wake(Changed::Added);
/// // The message is found when the store has been quiet for a moment. A search may come before.
/// let page = indexer.reader().search(&Query::parse("hello").unwrap(), None, 10).unwrap();
/// assert!(page.upto == 0 || page.seqs == [1]);
///
/// // Fast shutdown: nothing is done for the index any more.
/// indexer.stop();
/// ```
#[derive(Debug)]
pub struct Indexer {
    path: PathBuf,
    store: u32,
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

impl Indexer {
    /// Starts the thread for the index at this path, of the store with this number. The thread opens the index, or makes it.
    pub fn start(path: &Path, store: u32, source: Box<dyn Source>, pace: Pace) -> Result<Self> {
        let shared = Arc::new(Shared::new());
        let worker = Worker {
            path: path.to_owned(),
            store,
            source,
            pace,
            shared: Arc::clone(&shared),
            index: None,
            at: 0,
            rows: VecDeque::new(),
            comparison: Comparison::NotWanted,
            untidy: false,
            compare_at: Instant::now(),
            renewed: false,
            warned: false,
            bytes: Vec::new(),
        };
        let thread = thread::Builder::new().name("search".into()).spawn(move || worker.run());
        let thread = Some(thread.map_err(|error| fault::io(path, &error))?);
        Ok(Self { path: path.to_owned(), store, shared, thread })
    }

    /// Tells that something has changed in the store. It costs next to nothing, and may be called after every commit.
    pub fn wake(&self, changed: Changed) {
        self.shared.wake(changed);
    }

    /// Stops the work at once: it waits for the message at hand, or a commit, for at most 5 ms. What is
    /// not committed is undone, and done again after [`resume`](Self::resume).
    pub fn stop(&self) {
        let mut state = self.shared.lock();
        state.told = Told::Stop;
        self.shared.halt.store(true, Ordering::Release);
        self.shared.changed.notify_all();
        let _ = self
            .shared
            .changed
            .wait_timeout_while(state, STOPS, |state| state.activity == Activity::Working);
    }

    /// Goes on with the work.
    pub fn resume(&self) {
        let mut state = self.shared.lock();
        state.told = Told::Work;
        self.shared.halt.store(false, Ordering::Release);
        self.shared.changed.notify_all();
    }

    /// How far the index is made.
    pub fn progress(&self) -> Progress {
        let state = self.shared.lock();
        let last = self.shared.last.load(Ordering::Acquire);
        Progress {
            upto: self.shared.upto.load(Ordering::Acquire),
            last: (last != UNKNOWN).then_some(last),
            is_complete: state.activity == Activity::Complete,
        }
    }

    /// A reader of the index, for another thread. If it finds that the index is damaged, the index is made anew.
    pub fn reader(&self) -> Reader {
        let shared = Arc::clone(&self.shared);
        let damaged = move || {
            shared.lock().damaged = true;
            shared.wake(Changed::Added);
        };
        Reader::with(&self.path, self.store, Arc::new(damaged))
    }

    /// Waits until the thread has nothing left to do.
    #[cfg(test)]
    pub(super) fn wait(&self) {
        let busy =
            |state: &mut State| state.activity != Activity::Complete || state.woken.is_some();
        drop(self.shared.changed.wait_while(self.shared.lock(), busy));
    }
}

impl Drop for Indexer {
    fn drop(&mut self) {
        self.shared.lock().told = Told::End;
        self.shared.halt.store(true, Ordering::Release);
        self.shared.changed.notify_all();
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// Stands for the number of a last message that is not known.
const UNKNOWN: u64 = u64::MAX;

/// What the thread shares with those who use it.
#[derive(Debug)]
struct Shared {
    state: Mutex<State>,
    changed: Condvar,
    /// Whether the thread must leave its work. It is looked at between messages, without the lock.
    halt: AtomicBool,
    upto: AtomicU64,
    last: AtomicU64,
}

/// What the thread was told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Told {
    Work,
    Stop,
    End,
}

/// What the thread does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Activity {
    Working,
    /// It waits, and may have left something undone.
    Asleep,
    /// It waits, because nothing is left to do.
    Complete,
}

#[derive(Debug)]
struct State {
    woken: Option<Changed>,
    /// When the thread was woken first since it last slept, and last.
    first: Instant,
    latest: Instant,
    told: Told,
    activity: Activity,
    /// A reader has found damage.
    damaged: bool,
}

impl Shared {
    fn new() -> Self {
        let now = Instant::now();
        let state = State {
            // There may be new messages.
            woken: Some(Changed::Added),
            first: now,
            latest: now,
            told: Told::Work,
            activity: Activity::Asleep,
            damaged: false,
        };
        Self {
            state: Mutex::new(state),
            changed: Condvar::new(),
            halt: AtomicBool::new(false),
            upto: AtomicU64::new(0),
            last: AtomicU64::new(UNKNOWN),
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn wake(&self, changed: Changed) {
        let now = Instant::now();
        let mut state = self.lock();
        state.latest = now;
        // A thread that was woken before looks again by itself when the store was quiet for long enough.
        let before = state.woken;
        state.woken = before.max(Some(changed));
        if before.is_none() {
            state.first = now;
            drop(state);
            self.changed.notify_all();
        }
    }

    fn is_halted(&self) -> bool {
        self.halt.load(Ordering::Acquire)
    }

    /// Waits until there is work and the store is quiet, or `due` has come. `None` when the thread is to end.
    fn wait(&self, pace: &Pace, due: Option<Instant>) -> Option<Changed> {
        let mut state = self.lock();
        if state.activity == Activity::Working {
            state.activity = Activity::Asleep;
        }
        self.changed.notify_all();
        loop {
            if state.told == Told::End {
                return None;
            }
            let now = Instant::now();
            let begin = match state.woken {
                _ if state.told == Told::Stop => None,
                Some(_) => Some((state.latest + pace.quiet).min(state.first + pace.patience)),
                None => due,
            };
            match begin {
                Some(begin) if begin <= now => {
                    state.activity = Activity::Working;
                    return Some(state.woken.take().unwrap_or(Changed::Older));
                }
                Some(begin) => {
                    let waited = self.changed.wait_timeout(state, begin - now);
                    state = waited.unwrap_or_else(PoisonError::into_inner).0;
                }
                None => {
                    let waited = self.changed.wait(state);
                    state = waited.unwrap_or_else(PoisonError::into_inner);
                }
            }
        }
    }

    /// Lets others work between two slices: for long if the store is busy.
    fn rest(&self, pace: &Pace) {
        let state = self.lock();
        if state.latest.elapsed() >= pace.quiet {
            drop(state);
            thread::yield_now();
            return;
        }
        let _ = self.changed.wait_timeout_while(state, pace.slice * RESTS, |_| !self.is_halted());
    }
}

/// Why the thread leaves its work.
enum Left {
    /// It was told to stop.
    Halted,
    /// The index cannot be written.
    Index(ProviderError),
    /// The store cannot be read.
    Store(ProviderError),
}

/// When an index was compared that is to be compared at the next start.
const NEVER: u64 = 0;

/// What a step has done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Step {
    Worked,
    NothingLeft,
}

/// Whether the index is compared with the store.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Comparison {
    NotWanted,
    Wanted,
    /// It is wanted, and the index knows that, if the thread ends before its time comes.
    Noted,
    /// It is, and was up to this message.
    Under(u64),
}

impl Comparison {
    fn is_to_come(self) -> bool {
        matches!(self, Self::Wanted | Self::Noted)
    }
}

/// The thread's own.
struct Worker {
    path: PathBuf,
    store: u32,
    source: Box<dyn Source>,
    pace: Pace,
    shared: Arc<Shared>,
    index: Option<Index>,
    /// The last message that is in the index, or in its batch.
    at: u64,
    /// Messages that are to be put into the index: those behind `at`, or while the index is compared, those that are others.
    rows: VecDeque<Row>,
    comparison: Comparison,
    /// Whether there may be pieces of the index to merge.
    untidy: bool,
    /// The earliest time of the next comparison.
    compare_at: Instant,
    /// Whether a damaged index was made anew since the thread last slept.
    renewed: bool,
    /// Whether the log knows that the index cannot be made.
    warned: bool,
    /// The bytes of a message; kept, so that the memory is asked for once.
    bytes: Vec<u8>,
}

impl Worker {
    fn run(mut self) {
        // Of the thread alone. Without it the work is done all the same.
        let _ = rustix::process::nice(19);
        loop {
            let due = self.comparison.is_to_come().then_some(self.compare_at);
            let Some(changed) = self.shared.wait(&self.pace, due) else { return };
            if changed == Changed::Older && self.comparison != Comparison::Noted {
                self.comparison = Comparison::Wanted;
            }
            self.renewed = false;
            match self.work() {
                Ok(()) => {
                    self.warned = false;
                    self.shared.lock().activity = Activity::Complete;
                }
                Err(left) => self.leave(left),
            }
        }
    }

    /// Works until nothing is left.
    fn work(&mut self) -> std::result::Result<(), Left> {
        loop {
            match self.slice() {
                Ok(Step::Worked) => self.shared.rest(&self.pace),
                Ok(Step::NothingLeft) => return Ok(()),
                Err(Left::Index(error)) if error.code == Code::E_CORRUPT_STORE && !self.renewed => {
                    let path = self.path.display();
                    tracing::warn!(%path, %error, "the search index is damaged; it is made anew");
                    self.renew()?;
                }
                Err(left) => return Err(left),
            }
        }
    }

    fn renew(&mut self) -> std::result::Result<(), Left> {
        self.renewed = true;
        self.forget();
        if let Some(index) = self.index.take() {
            self.index = Some(index.renew().map_err(Left::Index)?);
        }
        Ok(())
    }

    /// Undoes what is not committed, and says why no more is done for now.
    fn leave(&mut self, left: Left) {
        if let Some(index) = &mut self.index {
            index.roll_back();
        }
        self.forget();
        let (Left::Index(error) | Left::Store(error)) = left else {
            // What is left is done after resume().
            self.shared.lock().woken.get_or_insert(Changed::Added);
            return;
        };
        self.index = None;
        // Everything is tried again then, if no message comes before.
        self.comparison = Comparison::Wanted;
        self.compare_at = Instant::now() + self.pace.compare;
        if !std::mem::replace(&mut self.warned, true) {
            let path = self.path.display();
            tracing::warn!(%path, %error, "the search index cannot be made; it is tried again when messages come");
        }
    }

    /// Forgets where it was.
    fn forget(&mut self) {
        self.rows.clear();
        if let Comparison::Under(_) = self.comparison {
            self.comparison = Comparison::Wanted;
        }
        self.at = self.index.as_ref().map_or(0, Index::upto);
    }

    /// Works for a few milliseconds.
    fn slice(&mut self) -> std::result::Result<Step, Left> {
        let began = Instant::now();
        self.open()?;
        loop {
            if self.shared.is_halted() {
                return Err(Left::Halted);
            }
            let step = self.step()?;
            if step == Step::NothingLeft || began.elapsed() >= self.pace.slice {
                return Ok(step);
            }
        }
    }

    /// Opens the index if it is not open, was removed, or a reader found it damaged.
    fn open(&mut self) -> std::result::Result<(), Left> {
        let damaged = std::mem::take(&mut self.shared.lock().damaged);
        self.index = match self.index.take() {
            Some(index) if damaged => Some(index.renew().map_err(Left::Index)?),
            Some(index) if index.is_there() => {
                self.index = Some(index);
                return Ok(());
            }
            gone => {
                // It is closed before another one is made under its names.
                gone.map_or(Ok(()), Index::leave).map_err(Left::Index)?;
                Some(Index::open(&self.path, self.store).map_err(Left::Index)?)
            }
        };
        self.forget();
        self.untidy = true;
        let last = self.source.last().map_err(Left::Store)?;
        self.shared.last.store(last, Ordering::Release);
        if !self.is_trusted()? {
            self.comparison = Comparison::Wanted;
        }
        if last < self.at {
            // The store has lost messages, and will give their numbers to others.
            self.at = last;
            self.comparison = Comparison::Wanted;
            self.write(|index| index.advance(last))?;
            self.commit()?;
        }
        self.shared.upto.store(self.at, Ordering::Release);
        Ok(())
    }

    /// Whether what is in the index need not be compared with the store after a start.
    fn is_trusted(&mut self) -> std::result::Result<bool, Left> {
        let index = self.index.as_ref().expect("it was opened before");
        let compared = index.compared().map_err(Left::Index)?;
        // A time to come means that the clock was set back.
        let since = wall_seconds().checked_sub(compared);
        if since.is_none_or(|since| since >= self.pace.trust.as_secs()) {
            return Ok(false);
        }
        let Some((seq, stamp)) = index.last_entry().map_err(Left::Index)? else { return Ok(true) };
        let rows = self.source.next(seq.saturating_sub(1), 1).map_err(Left::Store)?;
        Ok(rows.first().is_some_and(|row| row.seq == seq && row.stamp() == stamp))
    }

    fn write(
        &mut self,
        what: impl FnOnce(&mut Index) -> Result<()>,
    ) -> std::result::Result<(), Left> {
        what(self.index.as_mut().expect("it was opened before")).map_err(Left::Index)
    }

    fn commit(&mut self) -> std::result::Result<(), Left> {
        self.write(Index::commit)?;
        self.untidy = true;
        let upto = self.index.as_ref().map_or(0, Index::upto);
        self.shared.upto.store(upto, Ordering::Release);
        Ok(())
    }

    /// One message, a page of rows, or a few pages of the index that are merged.
    fn step(&mut self) -> std::result::Result<Step, Left> {
        if self.untidy {
            self.untidy =
                self.index.as_mut().expect("it was opened before").tidy().map_err(Left::Index)?;
        } else if let Some(row) = self.rows.pop_front() {
            self.put(&row)?;
        } else if let Comparison::Under(after) = self.comparison {
            self.compare(after)?;
        } else {
            self.rows = self.source.next(self.at, ROWS).map_err(Left::Store)?.into();
            if let Some(last) = self.rows.back() {
                self.shared.last.fetch_max(last.seq, Ordering::AcqRel);
            } else if self.index.as_ref().is_some_and(Index::has_batch) {
                self.commit()?;
            } else {
                if self.comparison == Comparison::NotWanted {
                    return Ok(Step::NothingLeft);
                }
                if Instant::now() < self.compare_at {
                    return self.note_comparison();
                }
                self.comparison = Comparison::Under(0);
            }
        }
        if self.index.as_ref().is_some_and(Index::is_full) && !self.shared.is_halted() {
            self.commit()?;
        }
        Ok(Step::Worked)
    }

    /// Has the index know that it is to be compared.
    fn note_comparison(&mut self) -> std::result::Result<Step, Left> {
        if self.comparison == Comparison::Noted {
            return Ok(Step::NothingLeft);
        }
        self.write(|index| index.set_compared(NEVER))?;
        self.commit()?;
        self.comparison = Comparison::Noted;
        Ok(Step::Worked)
    }

    /// Puts a message into the index.
    fn put(&mut self, row: &Row) -> std::result::Result<(), Left> {
        let document = if row.gone { None } else { self.read(row) };
        if let Some((document, stamp)) = document {
            self.write(|index| index.add_with(row.seq, &document, stamp))?;
        }
        // A message that is read again is behind none.
        if row.seq > self.at {
            self.at = row.seq;
            self.write(|index| index.advance(row.seq))?;
        }
        Ok(())
    }

    /// Reads a message; `None` if it is gone. One that cannot be read has no words, and is tried again by the next comparison.
    fn read(&mut self, row: &Row) -> Option<(Document, i64)> {
        self.bytes.clear();
        let opened = self.source.open(row.record);
        let read = opened.and_then(|reader| {
            let read = reader.take(LOOKED_AT as u64).read_to_end(&mut self.bytes);
            read.map_err(|error| fault::unreadable(&error))
        });
        let (mut document, stamp) = match read {
            Err(error) if error.code == Code::E_NOT_FOUND => {
                self.look_again(row);
                return None;
            }
            Err(error) => {
                self.look_again(row);
                tracing::debug!(seq = row.seq, %error, "a message cannot be read for the search index");
                (Document::default(), 0)
            }
            Ok(_) => (document_of(&self.bytes, row.seq), row.stamp()),
        };
        document.date.get_or_insert(row.received);
        Some((document, stamp))
    }

    /// Wants a comparison, which reads the message again: its mailbox may have missed it for a moment.
    fn look_again(&mut self, row: &Row) {
        if row.seq > self.at && self.comparison == Comparison::NotWanted {
            self.comparison = Comparison::Wanted;
        }
    }

    /// Compares a page of the index with the store.
    fn compare(&mut self, after: u64) -> std::result::Result<(), Left> {
        let index = self.index.as_ref().expect("it was opened before");
        let entries = index.entries(after, ROWS).map_err(Left::Index)?;
        let mut rows = self.source.next(after, ROWS).map_err(Left::Store)?;
        // Behind the end of the shorter page nothing is known of what it has.
        let end =
            |count: usize, last: Option<u64>| last.filter(|_| count >= ROWS).unwrap_or(self.at);
        let end = end(entries.len(), entries.last().map(|(seq, _)| *seq))
            .min(end(rows.len(), rows.last().map(|row| row.seq)));
        // What is behind the last message of the store is removed, too.
        let all = entries.len() < ROWS && rows.len() < ROWS;
        rows.retain(|row| !row.gone && row.seq <= end);
        let mut known = rows.iter().peekable();
        let mut missing = Vec::new();
        let mut gone = Vec::new();
        for (seq, stamp) in entries.into_iter().filter(|(seq, _)| *seq <= end || all) {
            while let Some(row) = known.next_if(|row| row.seq < seq) {
                missing.push(*row);
            }
            match known.next_if(|row| row.seq == seq) {
                Some(row) if row.stamp() == stamp => {}
                Some(row) => missing.push(*row),
                None => gone.push(seq),
            }
        }
        missing.extend(known);
        for seq in gone {
            self.write(|index| index.remove(seq))?;
        }
        self.rows = missing.into();
        self.comparison = if all { Comparison::NotWanted } else { Comparison::Under(end) };
        if all {
            self.write(|index| index.set_compared(wall_seconds()))?;
            self.compare_at = Instant::now() + self.pace.compare;
        }
        Ok(())
    }
}

fn wall_seconds() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs()
}

/// What of a message can be searched. `mail-parser` says that it never panics. If it does, it costs the words of this message: nothing
/// but the message and the document is touched by it.
fn document_of(bytes: &[u8], seq: u64) -> Document {
    catch_unwind(AssertUnwindSafe(|| Document::of(bytes))).unwrap_or_else(|_| {
        tracing::warn!(seq, "a message cannot be read for the search index: its reader panicked");
        Document::default()
    })
}
