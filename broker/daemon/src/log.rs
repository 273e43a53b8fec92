//! The log: one line per event, written by a thread of its own, so that whoever logs never waits.
//!
//! ```text
//! event ─► filter ─► line as text, JSON or for journald ─► queue ─► writer thread ─► standard error
//! ```
//!
//! The queue is one, so lines stay in order. An ordinary line has to find room in it: when the reader of the log is
//! slow, lines are dropped and counted, and one line says how many as soon as there is room again. A line whose field
//! `event` is `provider-call` has much more room: scripts count these lines, and a reader that only pauses misses none.
//!
//! There are no spans here: what a line has to say is in its own fields.

mod file;
mod journal;
mod line;
mod writer;

use std::fmt;
use std::io::Write as _;
use std::str::FromStr;

use tracing::level_filters::LevelFilter;
use tracing::{Event, Subscriber};
use tracing_subscriber::filter::Targets;
use tracing_subscriber::layer::{Context, Layer, SubscriberExt};
use tracing_subscriber::registry::LookupSpan;

pub use writer::Guard;

use file::LogFile;
use journal::Journal;
use line::Line;
use writer::{CALLS_ROOM, Queue, ROOM, Room};

/// The level without an option.
pub const DEFAULT_LEVEL: &str = "info";

/// How to log.
pub struct Options {
    /// A level, or directives such as `info,sundown_daemon::settings=debug`.
    pub level: String,
    /// How a line looks.
    pub format: Format,
    /// Where lines go.
    pub writer: Box<dyn std::io::Write + Send>,
}

/// How a line looks.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Format {
    /// For people: time, level, where from, message, fields.
    #[default]
    Text,
    /// For programs: a flat object.
    Json,
    /// For the journal, which knows the time itself: priority, where from, message, fields.
    Journald,
    /// The same as an entry of the journal, with fields of its own. What is written goes to the journal's socket.
    Journal,
    /// A flat object behind its priority, for the journal's end of standard error: it takes the priority off.
    JournalJson,
}

/// What becomes of a log in a file that has become long.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Long {
    /// It goes on in a new file, and the one before it is kept under the same name with `.1`. Of two files there are never more.
    Rotated,
    /// It is for the administrator who chose the file.
    Left,
}

/// Why there is no log.
#[derive(Debug)]
pub enum LogError {
    /// The level is none.
    Level {
        /// What was given.
        text: String,
        /// What is wrong with it.
        why: String,
    },
    /// The format is none.
    Format(String),
    /// Something logs in this process already.
    Twice,
    /// The writer's thread did not start.
    Thread(std::io::Error),
}

impl fmt::Display for LogError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Level { text, why } => write!(
                f,
                "{text:?} is not a log level: {why}; expected off, error, warn, info, debug or trace, \
                 and for single modules MODULE=LEVEL, all separated by commas"
            ),
            Self::Format(text) => {
                write!(f, "{text:?} is not a log format; expected text, json or journald")
            }
            Self::Twice => f.write_str("something logs in this process already"),
            Self::Thread(error) => {
                write!(f, "the thread that writes the log did not start: {error}")
            }
        }
    }
}

impl std::error::Error for LogError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Thread(error) => Some(error),
            Self::Level { .. } | Self::Format(_) | Self::Twice => None,
        }
    }
}

impl Options {
    /// To standard error; what is for the journal, to the journal itself if that is what standard error is. Every other line has its
    /// priority in front there, so that `journalctl --priority` finds it. A file is followed when it is removed or renamed.
    pub fn to_stderr(level: &str, format: Format, long: Long) -> Self {
        let level = level.to_owned();
        if is_journals() {
            if format == Format::Journald
                && let Some(journal) = Journal::connected()
            {
                return Self { level, format: Format::Journal, writer: Box::new(journal) };
            }
            let format = match format {
                Format::Json | Format::JournalJson => Format::JournalJson,
                Format::Text | Format::Journald | Format::Journal => Format::Journald,
            };
            return Self { level, format, writer: Box::new(std::io::stderr()) };
        }
        match LogFile::of_stderr(long) {
            Some(file) => Self { level, format, writer: Box::new(file) },
            None => Self { level, format, writer: Box::new(std::io::stderr()) },
        }
    }
}

/// Whether standard error is the journal's, as `JOURNAL_STREAM` says.
fn is_journals() -> bool {
    let Ok(stream) = std::env::var("JOURNAL_STREAM") else { return false };
    let stderr = rustix::fs::fstat(rustix::stdio::stderr());
    stderr.is_ok_and(|stderr| stream == format!("{}:{}", stderr.st_dev, stderr.st_ino))
}

/// Says on standard error why a program ends. There the journal finds it as an error.
pub fn say_failure(why: impl fmt::Display) {
    let priority = if is_journals() { "<3>" } else { "" };
    // There is nowhere else to say it.
    let _ = writeln!(std::io::stderr(), "{priority}sundown: {why}");
}

impl FromStr for Format {
    type Err = LogError;

    fn from_str(text: &str) -> Result<Self, LogError> {
        match text {
            "text" => Ok(Self::Text),
            "json" => Ok(Self::Json),
            "journald" => Ok(Self::Journald),
            _ => Err(LogError::Format(text.to_owned())),
        }
    }
}

/// Writes down what the command that runs the broker has noticed.
pub fn warn(noticed: impl std::fmt::Display) {
    tracing::warn!("{noticed}");
}

/// Logs from now on, in the whole process. What waits is written when the guard is dropped; later lines are lost.
pub fn init(options: Options) -> Result<Guard, LogError> {
    let (subscriber, guard) = subscriber(options)?;
    tracing::subscriber::set_global_default(subscriber).map_err(|_| LogError::Twice)?;
    std::panic::set_hook(Box::new(note_panic));
    Ok(guard)
}

/// Writes down a fault of the program as one line, in the log's own format. With `RUST_BACKTRACE` it has the calls that led there.
fn note_panic(panic: &std::panic::PanicHookInfo<'_>) {
    let payload = panic.payload();
    let text = payload.downcast_ref::<&str>().copied();
    let why = text.or_else(|| payload.downcast_ref::<String>().map(String::as_str));
    let calls = std::backtrace::Backtrace::capture();
    let is_known = calls.status() == std::backtrace::BacktraceStatus::Captured;
    tracing::error!(
        event = "panic",
        thread = std::thread::current().name(),
        place = panic.location().map(tracing::field::display),
        why,
        calls = is_known.then(|| tracing::field::display(&calls)),
        "a fault of the program; please report it"
    );
}

/// The same for one thread or one test: see [`tracing::subscriber::with_default`].
pub fn subscriber(
    options: Options,
) -> Result<(impl Subscriber + Send + Sync + use<>, Guard), LogError> {
    with_room(options, Room { ordinary: ROOM, calls: CALLS_ROOM })
}

/// Logs with room for so many bytes of lines that wait.
fn with_room(
    options: Options,
    room: Room,
) -> Result<(impl Subscriber + Send + Sync + use<>, Guard), LogError> {
    let filter = filter(&options.level)?;
    let format = options.format;
    let (queue, guard) = writer::start(options.writer, format, room).map_err(LogError::Thread)?;
    let layer = LineLayer { format, queue };
    Ok((tracing_subscriber::registry().with(filter).with(layer), guard))
}

/// The filter that a level or directives say. A single word must be a level: as the name of a module, which it could
/// also be, it would silence everything else, and is more likely a level misspelled.
fn filter(text: &str) -> Result<Targets, LogError> {
    let error = |why: String| LogError::Level { text: text.to_owned(), why };
    let text = if text.trim().is_empty() { DEFAULT_LEVEL } else { text };
    let words: Vec<&str> = text.split(',').map(str::trim).collect();
    let fits = |word: &str| {
        let level = word.parse::<LevelFilter>().is_ok() && !word.is_empty();
        level || word.contains('=')
    };
    if let Some(word) = words.iter().find(|word| !fits(word)) {
        return Err(error(format!("{word:?} is no level")));
    }
    words.join(",").parse::<Targets>().map_err(|why| error(why.to_string()))
}

/// Makes lines of events and hands them to the writer.
struct LineLayer {
    format: Format,
    queue: Queue,
}

impl<S: Subscriber + for<'a> LookupSpan<'a>> Layer<S> for LineLayer {
    fn on_event(&self, event: &Event<'_>, _context: Context<'_, S>) {
        let line = Line::of(event);
        self.queue.push(line.text(self.format), line.keep());
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;
    use std::sync::{Arc, Condvar, Mutex};

    use serde_json::Value;

    use super::*;

    /// Collects what is written, and can be shut: a write then waits.
    #[derive(Clone, Default)]
    struct Sink(Arc<(Mutex<State>, Condvar)>);

    #[derive(Default)]
    struct State {
        written: Vec<u8>,
        shut: bool,
        waiting: bool,
    }

    impl Write for Sink {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            let (state, changed) = &*self.0;
            let mut state = state.lock().expect("not poisoned");
            state.waiting = true;
            changed.notify_all();
            let mut state = changed.wait_while(state, |s| s.shut).expect("not poisoned");
            state.waiting = false;
            state.written.extend_from_slice(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }

    impl Sink {
        fn set_shut(&self, shut: bool) {
            self.0.0.lock().expect("not poisoned").shut = shut;
            self.0.1.notify_all();
        }

        fn wait_for_a_writer(&self) {
            let (state, changed) = &*self.0;
            let state = state.lock().expect("not poisoned");
            drop(changed.wait_while(state, |s| !s.waiting).expect("not poisoned"));
        }

        fn lines(&self) -> Vec<String> {
            let written = self.0.0.lock().expect("not poisoned").written.clone();
            let text = String::from_utf8(written).expect("UTF-8");
            assert!(text.is_empty() || text.ends_with('\n'), "{text:?}");
            text.lines().map(str::to_owned).collect()
        }
    }

    fn options(level: &str, format: Format, sink: &Sink) -> Options {
        Options { level: level.to_owned(), format, writer: Box::new(sink.clone()) }
    }

    /// The lines that this action logs.
    fn logged(level: &str, format: Format, action: impl FnOnce()) -> Vec<String> {
        let sink = Sink::default();
        let (subscriber, guard) = subscriber(options(level, format, &sink)).expect("a log");
        tracing::subscriber::with_default(subscriber, action);
        drop(guard);
        sink.lines()
    }

    #[test]
    fn json_lines_are_flat_with_native_types() {
        let lines = logged("info", Format::Json, || {
            tracing::info!(
                event = "provider-call",
                session = 7_u64,
                pid = -1_i64,
                provider = "a \"b\"\n",
                fast = true,
                share = 0.5,
                result = %"S_OK",
                list = ?[1, 2],
                "it {}", "is"
            );
            tracing::warn!(target: "here", level = "mine", r#type = 1_u8, "plain");
            tracing::error!(big = u128::MAX, small = 3_u128, none = None::<u32>, nan = f64::NAN);
        });
        let objects: Vec<Value> =
            lines.iter().map(|line| serde_json::from_str(line).expect(line)).collect();
        let [first, second, third] = &objects[..] else { panic!("three lines: {lines:?}") };
        assert!(lines[0].starts_with("{\"timestamp\":\"2"), "{}", lines[0]);
        let time = first["timestamp"].as_str().expect("a string");
        assert!(time.len() == 27 && time.ends_with('Z') && &time[10..11] == "T", "{time}");
        assert_eq!(first["level"], "info");
        assert_eq!(first["target"], module_path!());
        assert_eq!(first["event"], "provider-call");
        assert_eq!(first["message"], "it is");
        assert_eq!(first["session"], 7);
        assert_eq!(first["pid"], -1);
        assert_eq!(first["provider"], "a \"b\"\n");
        assert_eq!(first["fast"], true);
        assert_eq!(first["share"], 0.5);
        assert_eq!(first["result"], "S_OK");
        assert_eq!(first["list"], "[1, 2]");
        assert!(first.as_object().expect("an object").values().all(|v| !v.is_object()));
        assert_eq!(second["event"], "log");
        assert_eq!((&second["target"], &second["level"]), (&"here".into(), &"warn".into()));
        assert_eq!((&second["level_"], &second["type"]), (&"mine".into(), &1.into()));
        assert_eq!(third["message"], "");
        assert_eq!((&third["big"], &third["small"]), (&u128::MAX.to_string().into(), &3.into()));
        assert_eq!((third.get("none"), &third["nan"]), (None, &Value::Null));
    }

    #[test]
    fn text_lines_are_readable_and_stay_one_line() {
        let lines = logged("debug", Format::Text, || {
            tracing::info!(event = "started", pid = 5, path = "/a b", empty = "", "ready\n<0> now");
            tracing::debug!(target: "x", "\u{1b}[31mred");
        });
        let (time, rest) = lines[0].split_once(' ').expect("a space");
        assert!(time.len() == 27 && time.ends_with('Z'), "{time}");
        let target = module_path!();
        let fields = "event=started pid=5 path=\"/a b\" empty=\"\"";
        assert_eq!(rest, format!("INFO  {target}: ready\\n<0> now {fields}"));
        assert!(lines[1].ends_with("DEBUG x: \\u{1b}[31mred"), "{}", lines[1]);
        assert_eq!(lines.len(), 2);
    }

    #[test]
    fn journald_lines_begin_with_their_priority() {
        let lines = logged("trace", Format::Journald, || {
            tracing::error!(target: "x", "a");
            tracing::warn!(target: "x", "b");
            tracing::info!(target: "x", n = 1, "c");
            tracing::debug!(target: "x", "d");
            tracing::trace!(target: "x", n = 1);
        });
        assert_eq!(lines, ["<3>x: a", "<4>x: b", "<6>x: c n=1", "<7>x: d", "<7>x: n=1"]);
    }

    #[test]
    fn levels_and_directives_filter() {
        let count = |level: &str| {
            logged(level, Format::Text, || {
                tracing::error!(target: "a", "1");
                tracing::info!(target: "a::b", "2");
                tracing::trace!(target: "c", "3");
            })
            .len()
        };
        let cases = [
            ("", 2),
            ("info", 2),
            ("ERROR", 1),
            ("off", 0),
            ("trace", 3),
            ("warn,a::b=debug", 2),
            ("off, c=trace", 1),
        ];
        for (level, lines) in cases {
            assert_eq!(count(level), lines, "{level:?}");
        }
    }

    #[test]
    fn a_bad_level_or_format_says_what_is_allowed() {
        for text in ["inof", "info,", "a=inof", "info;debug", "verbose", "a::b", "6"] {
            let error = filter(text).err().unwrap_or_else(|| panic!("{text:?} was taken"));
            let shown = error.to_string();
            assert!(shown.contains(text) && shown.contains("off, error, warn"), "{shown}");
        }
        for (text, format) in
            [("text", Format::Text), ("json", Format::Json), ("journald", Format::Journald)]
        {
            assert_eq!(text.parse::<Format>().expect("a format"), format);
        }
        let error = "xml".parse::<Format>().expect_err("none").to_string();
        assert!(error.contains("xml") && error.contains("journald"), "{error}");
    }

    #[test]
    fn a_slow_reader_costs_ordinary_lines_but_no_provider_call() {
        let sink = Sink::default();
        sink.set_shut(true);
        let options = options("info", Format::Json, &sink);
        let room = Room { ordinary: 10_000, calls: 1 << 20 };
        let (subscriber, guard) = with_room(options, room).expect("a log");
        let logs = || {
            for n in 0..1_000 {
                tracing::info!(n, "ordinary");
                tracing::info!(event = "provider-call", n, "call");
            }
        };
        tracing::subscriber::with_default(subscriber, || {
            tracing::info!("first");
            sink.wait_for_a_writer();
            logs();
            assert!(guard.dropped() > 0);
            sink.set_shut(false);
            drop(guard);
        });
        let lines = sink.lines();
        let objects: Vec<Value> =
            lines.iter().map(|line| serde_json::from_str(line).expect(line)).collect();
        let of = |event: &str, message: &str| {
            let fits = |o: &&Value| o["event"] == event && o["message"] == message;
            objects.iter().filter(fits).filter_map(|o| o["n"].as_u64()).collect::<Vec<_>>()
        };
        assert_eq!(of("provider-call", "call"), (0..1_000).collect::<Vec<_>>());
        let ordinary = of("log", "ordinary");
        assert!(ordinary.is_sorted() && !ordinary.is_empty());
        let dropped: Vec<_> = objects.iter().filter(|o| o["event"] == "log-dropped").collect();
        assert_eq!(dropped.len(), 1, "one line says how many");
        assert_eq!(dropped[0]["lines"], 1_000 - ordinary.len());
        assert_eq!(dropped[0]["level"], "warn");
    }

    /// Whatever is logged, what waits for a reader that has stopped has a bound, and it is told what it missed.
    #[test]
    fn a_reader_that_has_stopped_costs_no_more_than_the_room_there_is() {
        let sink = Sink::default();
        sink.set_shut(true);
        let room = Room { ordinary: 1_000, calls: 10_000 };
        let (subscriber, guard) =
            with_room(options("info", Format::Json, &sink), room).expect("a log");
        tracing::subscriber::with_default(subscriber, || {
            tracing::info!("first");
            sink.wait_for_a_writer();
            for n in 0..1_000 {
                tracing::info!(event = "provider-call", n, "call");
            }
            let dropped = guard.dropped();
            assert!(dropped > 900, "{dropped} were dropped");
            sink.set_shut(false);
            drop(guard);
            let lines = sink.lines();
            assert!(lines.iter().map(String::len).sum::<usize>() < 12_000);
            let told = format!("\"lines\":{dropped}");
            assert!(lines.iter().any(|line| line.contains("log-dropped") && line.contains(&told)));
        });
    }

    #[test]
    fn a_reader_that_never_reads_does_not_keep_the_program_from_ending() {
        let sink = Sink::default();
        sink.set_shut(true);
        let (subscriber, mut guard) =
            subscriber(options("info", Format::Text, &sink)).expect("a log");
        guard.set_patience(std::time::Duration::from_millis(20));
        tracing::subscriber::with_default(subscriber, || tracing::info!("never read"));
        drop(guard);
        assert!(sink.lines().is_empty());
        sink.set_shut(false);
    }

    #[test]
    fn a_writer_that_fails_or_is_busy_is_tried_again_or_left() {
        struct Moody(Sink, usize);
        impl Write for Moody {
            fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
                self.1 += 1;
                match self.1 {
                    1 => Err(std::io::ErrorKind::WouldBlock.into()),
                    2 => Err(std::io::ErrorKind::Interrupted.into()),
                    3 => self.0.write(&bytes[..1]),
                    _ => self.0.write(bytes),
                }
            }

            fn flush(&mut self) -> std::io::Result<()> {
                Err(std::io::ErrorKind::Other.into())
            }
        }
        let sink = Sink::default();
        let writer = Box::new(Moody(sink.clone(), 0));
        let moody = Options { level: "info".to_owned(), format: Format::Journald, writer };
        let (subscriber, guard) = subscriber(moody).expect("a log");
        tracing::subscriber::with_default(subscriber, || tracing::info!(target: "x", "whole"));
        drop(guard);
        assert_eq!(sink.lines(), ["<6>x: whole"]);
    }
}
