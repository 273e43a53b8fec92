//! One event as a line: what it has to say, and the three ways to write that.

use std::fmt::{self, Write as _};

use serde::Serializer;
use serde::ser::SerializeMap;
use serde_json::Value;
use sundown_protocol::seen::is_unseen;
use tracing::field::{Field, Visit};
use tracing::{Event, Level};
use tracing_subscriber::fmt::format::Writer;
use tracing_subscriber::fmt::time::{FormatTime, SystemTime};

use super::Format;

/// The value of the field `event` in lines that are never dropped.
const PROVIDER_CALL: &str = "provider-call";

/// The keys that every JSON line has. A field of that name gets an underscore.
const OWN_KEYS: [&str; 3] = ["timestamp", "level", "target"];

/// What an event has to say.
pub(super) struct Line {
    level: Level,
    target: String,
    fields: Fields,
}

#[derive(Default)]
struct Fields {
    event: Option<String>,
    message: String,
    others: Vec<(&'static str, Value)>,
}

/// When a line is dropped.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Keep {
    /// When ordinary lines have no room.
    IfRoom,
    /// When lines of provider calls have no room, and they have much more.
    Longer,
}

impl Line {
    /// That of this event.
    pub(super) fn of(event: &Event<'_>) -> Self {
        let mut fields = Fields::default();
        event.record(&mut fields);
        let target = event.metadata().target().to_owned();
        Self { level: *event.metadata().level(), target, fields }
    }

    /// The line that says how many others are missing.
    pub(super) fn about_dropped(lines: u64) -> Self {
        let fields = Fields {
            event: Some("log-dropped".to_owned()),
            message: "log lines were dropped, because their reader was too slow or they could not be written".to_owned(),
            others: vec![("lines", lines.into())],
        };
        Self { level: Level::WARN, target: module_path!().to_owned(), fields }
    }

    /// When it is dropped.
    pub(super) fn keep(&self) -> Keep {
        match self.fields.event.as_deref() {
            Some(PROVIDER_CALL) => Keep::Longer,
            _ => Keep::IfRoom,
        }
    }

    /// The whole line, with its end.
    pub(super) fn text(&self, format: Format) -> String {
        let mut text = match format {
            Format::Text => format!("{} {:<5} ", now(), self.level.as_str()),
            Format::Journald => format!("<{}>", priority(self.level)),
            Format::Json => return self.json(),
            Format::JournalJson => return format!("<{}>{}", priority(self.level), self.json()),
            Format::Journal => return self.entry(),
        };
        self.write_rest(&mut text);
        text.push('\n');
        text
    }

    /// An entry of the journal: a field a line. No value has a line end in it.
    fn entry(&self) -> String {
        let mut text =
            format!("PRIORITY={}\nSYSLOG_IDENTIFIER=sundown\nMESSAGE=", priority(self.level));
        self.write_rest(&mut text);
        let event = self.fields.event.as_deref().map(|event| ("event", event.into()));
        let target = ("target", Value::from(self.target.as_str()));
        for (name, value) in [target].iter().chain(&event).chain(&self.fields.others) {
            text.push_str("\nSUNDOWN_");
            text.push_str(&name.to_ascii_uppercase());
            text.push('=');
            push_escaped(&mut text, &bare(value.clone()));
        }
        text.push('\n');
        text
    }

    /// Where from, message and fields.
    fn write_rest(&self, text: &mut String) {
        text.push_str(&self.target);
        text.push(':');
        if !self.fields.message.is_empty() {
            text.push(' ');
            push_escaped(text, &self.fields.message);
        }
        let event = self.fields.event.clone().map(|event| ("event", Value::String(event)));
        for (name, value) in event.iter().chain(&self.fields.others) {
            push_field(text, name, value);
        }
    }

    fn json(&self) -> String {
        let mut bytes = Vec::with_capacity(256);
        // Writing strings and numbers into memory cannot fail.
        let _ = self.write_json(&mut bytes);
        bytes.push(b'\n');
        String::from_utf8(bytes).unwrap_or_default()
    }

    fn write_json(&self, bytes: &mut Vec<u8>) -> serde_json::Result<()> {
        let mut json = serde_json::Serializer::new(bytes);
        let mut map = json.serialize_map(None)?;
        map.serialize_entry("timestamp", &now())?;
        map.serialize_entry("level", level_name(self.level))?;
        map.serialize_entry("target", &self.target)?;
        map.serialize_entry("event", self.fields.event.as_deref().unwrap_or("log"))?;
        map.serialize_entry("message", &self.fields.message)?;
        for (name, value) in &self.fields.others {
            if OWN_KEYS.contains(name) {
                map.serialize_entry(&format!("{name}_"), value)?;
            } else {
                map.serialize_entry(name, value)?;
            }
        }
        SerializeMap::end(map)
    }
}

impl Fields {
    fn put(&mut self, field: &Field, value: Value) {
        match field.name() {
            "event" => self.event = Some(bare(value)),
            "message" => self.message = bare(value),
            name => self.others.push((name.strip_prefix("r#").unwrap_or(name), value)),
        }
    }
}

impl Visit for Fields {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.put(field, format!("{value:?}").into());
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        self.put(field, value.into());
    }

    fn record_bool(&mut self, field: &Field, value: bool) {
        self.put(field, value.into());
    }

    fn record_i64(&mut self, field: &Field, value: i64) {
        self.put(field, value.into());
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        self.put(field, value.into());
    }

    fn record_f64(&mut self, field: &Field, value: f64) {
        self.put(field, value.into());
    }

    fn record_i128(&mut self, field: &Field, value: i128) {
        let short = i64::try_from(value).map(Value::from);
        self.put(field, short.unwrap_or_else(|_| value.to_string().into()));
    }

    fn record_u128(&mut self, field: &Field, value: u128) {
        let short = u64::try_from(value).map(Value::from);
        self.put(field, short.unwrap_or_else(|_| value.to_string().into()));
    }
}

/// A string without its quotes, anything else as JSON.
fn bare(value: Value) -> String {
    match value {
        Value::String(text) => text,
        other => other.to_string(),
    }
}

fn push_field(text: &mut String, name: &str, value: &Value) {
    // Writing into a string cannot fail.
    let _ = match value {
        Value::String(value) if needs_quotes(value) => write!(text, " {name}={value:?}"),
        Value::String(value) => write!(text, " {name}={value}"),
        other => write!(text, " {name}={other}"),
    };
}

fn needs_quotes(value: &str) -> bool {
    let special = |c: char| c.is_whitespace() || is_unseen(c) || c == '"' || c == '=';
    value.is_empty() || value.contains(special)
}

/// A message without line ends and what else is not seen: what a stranger sent must not look like a line of the log.
fn push_escaped(text: &mut String, message: &str) {
    for c in message.chars() {
        match c {
            c if c.is_control() => text.extend(c.escape_debug()),
            c if is_unseen(c) => text.extend(c.escape_unicode()),
            c => text.push(c),
        }
    }
}

/// The time of day as RFC 3339 has it, in UTC with microseconds.
fn now() -> String {
    let mut text = String::with_capacity(27);
    // Writing into a string cannot fail.
    let _ = SystemTime.format_time(&mut Writer::new(&mut text));
    text
}

fn level_name(level: Level) -> &'static str {
    match level {
        Level::ERROR => "error",
        Level::WARN => "warn",
        Level::INFO => "info",
        Level::DEBUG => "debug",
        Level::TRACE => "trace",
    }
}

/// Of syslog: error, warning, informational, debug.
fn priority(level: Level) -> u8 {
    match level {
        Level::ERROR => 3,
        Level::WARN => 4,
        Level::INFO => 6,
        Level::DEBUG | Level::TRACE => 7,
    }
}
