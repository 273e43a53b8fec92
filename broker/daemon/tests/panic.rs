//! A fault of the program is a line of the log like others. The hook that makes it is the process's, so this has a process of its own.

use std::io::Write;
use std::sync::{Arc, Mutex, PoisonError};

use sundown_daemon::log::{self, Format, Options};

#[derive(Clone, Default)]
struct Sink(Arc<Mutex<Vec<u8>>>);

impl Write for Sink {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).write(bytes)
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

#[test]
fn a_panic_is_one_line_of_the_log() {
    let sink = Sink::default();
    let options =
        Options { level: "info".to_owned(), format: Format::Json, writer: Box::new(sink.clone()) };
    let guard = log::init(options).expect("a log");
    let thread = std::thread::Builder::new().name("store".to_owned());
    let number = 7;
    let ended = thread.spawn(move || panic!("no\nroom for {number}")).expect("it starts").join();
    assert!(ended.is_err());
    drop(guard);
    let text = String::from_utf8(sink.0.lock().expect("not poisoned").clone()).expect("UTF-8");
    let [line] = text.lines().collect::<Vec<_>>()[..] else { panic!("one line: {text}") };
    let line: serde_json::Value = serde_json::from_str(line).expect("JSON");
    assert_eq!((&line["level"], &line["event"]), (&"error".into(), &"panic".into()));
    assert_eq!((&line["thread"], &line["why"]), (&"store".into(), &"no\nroom for 7".into()));
    assert!(line["place"].as_str().is_some_and(|place| place.contains("panic.rs:")), "{line}");
}
