//! What the screen of `status --watch` shows, and what keys do.
//!
//! ```text
//! broker 0.1.0 (pid 812), up 3 h
//! queue: 2 deferred; sent 12/min, came back 0/min
//! [sessions 1]  queue 2  transports 1                     by number
//!   session      name      state        for   what
//! > session 1    work      active             shared, 3 members
//! …
//! what is chosen, in full
//! keys, a question, or what came of the last change
//! ```

use std::time::{Duration, Instant};

use sundown_client::{Error, Mapi, QueueRow, Resource, SubmissionState, Syncing};

use super::rates::Rates;
use super::rows::{Message, Place, Row, View, Weight, counted, rows};
use super::{Heard, PATIENCE};
use crate::grid::Grid;
use crate::keys::Key;
use crate::output;
use crate::safe;
use crate::status::{Said, fate};
use crate::terminal::{self, Size, bold, clip, dim, painted, reversed};

/// The smallest terminal on which the status can be read.
const SMALLEST: Size = Size { columns: 40, rows: 12 };

/// From so many rows on there are lines for all of what is chosen.
const TALL: usize = 18;

/// How many lines it has then.
const DETAIL: usize = 3;

const HELP: [&str; 13] = [
    "Tab, Shift-Tab     the next view: sessions, queue, transports",
    "Up, Down, k, j     the row above, the row below",
    "PgUp, PgDn         a page up, a page down",
    "Home, End, g, G    the first row, the last row",
    "s                  another order",
    "p, Space           pause: the screen stays as it is until you press it again",
    "",
    "r                  try the chosen message of the queue now",
    "H, R               hold it, release it",
    "a                  give it up",
    "                   each of them asks first",
    "",
    "q                  end; mail goes on. Any key leaves this page",
];

/// What can be done with a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Change {
    Retry,
    Hold,
    Release,
    Abort,
}

impl Change {
    fn of_key(key: char) -> Option<Self> {
        Some(match key {
            'r' => Self::Retry,
            'H' => Self::Hold,
            'R' => Self::Release,
            'a' => Self::Abort,
            _ => return None,
        })
    }

    fn name(self) -> &'static str {
        match self {
            Self::Retry => "retry",
            Self::Hold => "hold",
            Self::Release => "release",
            Self::Abort => "abort",
        }
    }

    /// Makes it. What came of it.
    pub(super) fn make(self, mapi: &Mapi, message: &Message) -> String {
        let make = match self {
            Self::Retry => Mapi::retry,
            Self::Hold => Mapi::hold,
            Self::Release => Mapi::release,
            Self::Abort => Mapi::abort,
        };
        let made: Result<QueueRow, Error> = make(mapi, Some(&message.profile), message.entry);
        match made {
            Ok(row) => format!("{} of {}: {}", self.name(), message.short, row.state.name()),
            Err(error) => format!("{} of {} failed: {error}", self.name(), message.short),
        }
    }
}

/// What follows from a key.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Then {
    GoOn,
    End,
    Change(Change, Message),
}

/// What keys are about.
#[derive(Debug, PartialEq, Eq)]
enum Mode {
    List,
    Help,
    Question(Change, Message),
}

/// What the screen shows.
pub(super) struct Board {
    heard: Option<Heard>,
    /// Why there is no answer.
    why: String,
    when: Instant,
    interval: Duration,
    /// Of what the broker counts, by its pid.
    rates: Rates<u32, 3>,
    /// Of what mailboxes have fetched, by which ones.
    fetched: Rates<Vec<String>, 1>,
    paused: bool,
    mode: Mode,
    view: View,
    orders: [usize; View::ALL.len()],
    chosen: Option<Place>,
    /// The place of the chosen row when it was last seen, and of the first row that is shown.
    at: usize,
    top: usize,
    /// What came of the last change, or why a key did nothing.
    note: Option<String>,
}

impl Board {
    pub(super) fn new(interval: Duration) -> Self {
        Self {
            heard: None,
            why: "waiting for the broker".to_owned(),
            when: Instant::now(),
            interval,
            rates: Rates::default(),
            fetched: Rates::default(),
            paused: false,
            mode: Mode::List,
            view: View::Sessions,
            orders: [0; View::ALL.len()],
            chosen: None,
            at: 0,
            top: 0,
            note: None,
        }
    }

    pub(super) fn hear(&mut self, heard: Heard, at: Instant) {
        let status = &heard.said.status;
        let of = |state: SubmissionState| status.queue[state as usize];
        let requests = heard.said.requests.unwrap_or(0);
        let counters = [of(SubmissionState::Sent), of(SubmissionState::Bounced), requests];
        self.rates.hear(status.pid, at, counters);
        let fetching = fetching(&heard.said);
        self.fetched.hear(fetching.names, at, [fetching.far.done]);
        self.when = at;
        if !self.paused || self.heard.is_none() {
            (self.heard, self.why) = (Some(heard), String::new());
        }
    }

    pub(super) fn hear_nothing(&mut self, why: String) {
        (self.heard, self.why, self.when) = (None, why, Instant::now());
        self.mode = Mode::List;
    }

    pub(super) fn say(&mut self, what: String) {
        self.note = Some(what);
    }

    fn order(&self) -> usize {
        self.orders[self.view as usize]
    }

    fn rows(&self) -> Vec<Row> {
        let Some(heard) = &self.heard else { return Vec::new() };
        let waiting = heard.waiting.as_deref().unwrap_or_default();
        rows(self.view, &heard.said, waiting, self.order())
    }

    /// The place of the chosen row. One that has gone leaves its place to the one that is there now.
    fn place(&self, rows: &[Row]) -> usize {
        let chosen = self.chosen.as_ref();
        let found = chosen.and_then(|chosen| rows.iter().position(|row| row.place == *chosen));
        found.unwrap_or(self.at).min(rows.len().saturating_sub(1))
    }

    fn choose(&mut self, rows: &[Row], at: usize) {
        self.at = at.min(rows.len().saturating_sub(1));
        self.chosen = rows.get(self.at).map(|row| row.place.clone());
    }

    pub(super) fn press(&mut self, key: Key, size: Size) -> Then {
        match std::mem::replace(&mut self.mode, Mode::List) {
            Mode::Help if key == Key::Letter('q') => return Then::End,
            Mode::Help => return Then::GoOn,
            Mode::Question(change, message) => {
                if matches!(key, Key::Letter('y' | 'Y')) {
                    self.note = Some(format!("{} of {} …", change.name(), message.short));
                    return Then::Change(change, message);
                }
                self.note = Some("nothing was changed".into());
                return Then::GoOn;
            }
            Mode::List => {}
        }
        self.note = None;
        let rows = self.rows();
        let at = self.place(&rows);
        let page = self.room(size).saturating_sub(1).max(1);
        match key {
            Key::Letter('q' | 'Q') => return Then::End,
            Key::Letter('?' | 'h') => self.mode = Mode::Help,
            Key::Tab => self.show(self.view.on(1)),
            Key::BackTab => self.show(self.view.on(View::ALL.len() - 1)),
            Key::Up | Key::Letter('k') => self.choose(&rows, at.saturating_sub(1)),
            Key::Down | Key::Letter('j') => self.choose(&rows, at + 1),
            Key::PageUp => self.choose(&rows, at.saturating_sub(page)),
            Key::PageDown => self.choose(&rows, at + page),
            Key::Home | Key::Letter('g') => self.choose(&rows, 0),
            Key::End | Key::Letter('G') => self.choose(&rows, usize::MAX),
            Key::Letter('s') => {
                let next = (self.order() + 1) % self.view.orders().len();
                self.orders[self.view as usize] = next;
            }
            Key::Letter('p' | ' ') => self.paused = !self.paused,
            Key::Letter(letter) => {
                if let Some(change) = Change::of_key(letter) {
                    self.ask(change, rows.get(at));
                }
            }
            Key::Enter | Key::Escape | Key::Other => {}
        }
        Then::GoOn
    }

    fn show(&mut self, view: View) {
        self.view = view;
        (self.chosen, self.at, self.top) = (None, 0, 0);
    }

    fn ask(&mut self, change: Change, row: Option<&Row>) {
        match row.and_then(|row| row.message.clone()) {
            Some(message) => self.mode = Mode::Question(change, message),
            None => self.note = Some("choose a message first: Tab shows the queue".into()),
        }
    }

    /// The lines to show, at most as many as the terminal has. None is wider than it.
    pub(super) fn lines(&mut self, size: Size) -> Vec<String> {
        if size.columns < SMALLEST.columns || size.rows < SMALLEST.rows {
            let has = format!("{}×{}", size.columns, size.rows);
            let needs = format!("{}×{}", SMALLEST.columns, SMALLEST.rows);
            return vec!["too small:".into(), format!("{has}, needs {needs}")];
        }
        let Some(heard) = &self.heard else {
            let mut lines = vec![painted("no broker; waiting", "waiting"), String::new()];
            lines.extend(terminal::wrapped(&safe::line(&self.why), size.columns));
            lines.push(String::new());
            lines.push(self.footer());
            return lines;
        };
        let mut lines = self.head(&heard.said);
        if self.mode == Mode::Help {
            lines.push(String::new());
            lines.extend(HELP.map(str::to_owned));
            lines.truncate(size.rows - 1);
            lines.push(self.footer());
            return lines;
        }
        lines.push(self.tabs(heard));
        let rows = self.rows();
        let room = self.room(size);
        let (body, chosen) = self.body(&rows, room, size);
        lines.extend(body);
        while lines.len() < self.above() + 1 + room {
            lines.push(String::new());
        }
        if size.rows >= TALL {
            lines.push(dim(&"─".repeat(size.columns)));
            let detail = chosen.and_then(|at| rows.get(at)).map(|row| row.detail.as_str());
            lines.extend(in_lines(detail.unwrap_or_default(), size.columns));
        }
        lines.push(self.footer());
        lines
    }

    /// How many lines stand above the list's heading.
    fn above(&self) -> usize {
        self.heard.as_ref().map_or(0, |heard| self.head(&heard.said).len() + 1)
    }

    /// How many lines the list has, without its heading.
    fn room(&self, size: Size) -> usize {
        let below = if size.rows >= TALL { DETAIL + 2 } else { 1 };
        size.rows.saturating_sub(self.above() + 1 + below).max(1)
    }

    fn head(&self, said: &Said) -> Vec<String> {
        let status = &said.status;
        let name = bold(&format!("broker {}", status.version));
        let paused = if self.paused { painted("  paused", "waiting") } else { String::new() };
        let up = output::ago(status.started);
        let mut lines = vec![
            format!("{name} (pid {}), up {up}{paused}", status.pid)
                + &dim(&format!("  {}", safe::line(&status.socket))),
            self.queue_line(said),
        ];
        let before = said.broker.as_ref().and_then(|broker| broker.previous.as_ref());
        if let Some(before) = before.and_then(fate) {
            lines.push(painted(&safe::line(before.trim_end()), "warning"));
        }
        if status.waiting_for_mail_member > 0 {
            let waiting = counted(status.waiting_for_mail_member as usize, "message");
            let text = format!("{waiting} without a session that may send: see the queue");
            lines.push(painted(&text, "waiting"));
        }
        lines.extend(trouble(said));
        let per_minute = self.fetched.per_minute().map(|[rate]| rate);
        lines.extend(fetching(said).line(per_minute));
        lines
    }

    fn queue_line(&self, said: &Said) -> String {
        let counts: Vec<_> = SubmissionState::ALL
            .iter()
            .zip(said.status.queue)
            .filter(|(state, count)| *count > 0 && !state.is_final())
            .map(|(state, count)| painted(&format!("{count} {}", state.name()), state.name()))
            .collect();
        let counts = if counts.is_empty() { "empty".into() } else { counts.join(", ") };
        let rates = self.rates.per_minute().map(|[sent, back, requests]| {
            let back_text = format!("came back {back:.0}/min");
            let back = if back > 0.0 { painted(&back_text, "warning") } else { dim(&back_text) };
            let requests = match said.requests {
                Some(_) => dim(&format!(", requests {requests:.0}/min")),
                None => String::new(),
            };
            format!("{}{back}{requests}", dim(&format!("; sent {sent:.0}/min, ")))
        });
        format!("queue: {counts}{}", rates.unwrap_or_default())
    }

    fn tabs(&self, heard: &Heard) -> String {
        let status = &heard.said.status;
        let waiting = status.queue.iter().zip(SubmissionState::ALL);
        let waiting = waiting.filter(|(_, state)| !state.is_final()).map(|(n, _)| n).sum::<u64>();
        let is = |p: &&sundown_client::ProviderStatus| p.kind == Resource::TransportProvider;
        let transports = status.sessions.iter().flat_map(|s| &s.providers).filter(is).count();
        let tabs = View::ALL.map(|view| {
            let count = match view {
                View::Sessions => status.sessions.len() as u64,
                View::Queue => waiting,
                View::Transports => transports as u64,
            };
            let text = format!("{} {count}", view.name());
            if view == self.view { bold(&format!("[{text}]")) } else { format!(" {text} ") }
        });
        let order = self.view.orders()[self.order()];
        format!("{}  {}", tabs.join(" "), dim(&format!("by {order}")))
    }

    /// The list with its heading, and the place of the chosen row.
    fn body(&mut self, rows: &[Row], room: usize, size: Size) -> (Vec<String>, Option<usize>) {
        if rows.is_empty() {
            let told = self.heard.as_ref().map(|heard| heard.waiting.as_ref());
            let text = match (self.view, told) {
                (View::Sessions, _) => "no sessions",
                (View::Queue, Some(Err(why))) => &safe::line(why),
                (View::Queue, _) => "the queue is empty",
                (View::Transports, _) => "no transports: they are those of sessions",
            };
            let mut lines = vec![String::new()];
            lines.extend(terminal::wrapped(text, size.columns));
            lines.truncate(room + 1);
            return (lines, None);
        }
        let at = self.place(rows);
        self.choose(rows, at);
        let columns = self.view.columns();
        let cells: Vec<&[String]> = rows.iter().map(|row| row.cells.as_slice()).collect();
        let grid = Grid::new(columns, &cells, size.columns - 2);
        let fits = rows.len() <= room;
        // A line says what is not shown.
        let shown = if fits { room } else { room.saturating_sub(1).max(1) };
        self.top = self.top.min(rows.len().saturating_sub(shown));
        if at < self.top {
            self.top = at;
        } else if at >= self.top + shown {
            self.top = at + 1 - shown;
        }
        let mut lines = vec![dim(&format!("  {}", grid.heading(columns)))];
        for (place, row) in rows.iter().enumerate().skip(self.top).take(shown) {
            lines.push(self.row(&grid, row, place == at, size.columns));
        }
        if !fits && room > 1 {
            let below = rows.len() - (self.top + shown).min(rows.len());
            let said = match (self.top, below) {
                (above, 0) => format!("  … {above} above"),
                (0, below) => format!("  … {below} more"),
                (above, below) => format!("  … {below} more, {above} above"),
            };
            lines.push(dim(&said));
        }
        (lines, Some(at))
    }

    fn row(&self, grid: &Grid, row: &Row, is_chosen: bool, columns: usize) -> String {
        if is_chosen {
            let line = clip(&format!("> {}", grid.line(&row.cells, |_, text| text)), columns);
            let missing = columns.saturating_sub(terminal::width(&line));
            return reversed(&(line + &" ".repeat(missing)));
        }
        let column = self.view.state_column();
        let state = row.cells.get(column).map_or("", String::as_str);
        let line = grid.line(&row.cells, |place, text| match row.weight {
            _ if place == column && terminal::stands_out(state) => painted(&text, state),
            Weight::Bold => bold(&text),
            Weight::Plain => text,
            Weight::Dim => dim(&text),
        });
        format!("  {line}")
    }

    fn footer(&self) -> String {
        let silent = self.when.elapsed().saturating_sub(self.interval);
        if silent >= PATIENCE {
            let text = format!("no answer for {}", output::span(silent.as_secs()));
            return painted(&text, "warning") + "; q ends this";
        }
        match (&self.mode, &self.note) {
            (Mode::Question(change, message), _) => {
                bold(&format!("{} {}? y/n", change.name(), message.short))
            }
            (_, Some(note)) => bold(&safe::line(note)),
            (Mode::Help, None) => dim("any key goes back; q ends this"),
            (Mode::List, None) if self.heard.is_none() => {
                format!("every {}; q ends this", output::span(self.interval.as_secs()))
            }
            (Mode::List, None) => {
                let keys = match self.view {
                    View::Queue => "Tab view  s order  r retry  H hold  R release  a abort  ? help",
                    View::Sessions | View::Transports => "Tab view  s order  p pause  ? help",
                };
                dim(&format!("{keys}; q ends this"))
            }
        }
    }
}

/// Mailboxes that fetch what they have not yet, as in a first sync.
struct Fetching {
    names: Vec<String>,
    /// All of them together.
    far: Syncing,
}

fn fetching(said: &Said) -> Fetching {
    let mut fetching = Fetching { names: Vec::new(), far: Syncing::default() };
    for mailbox in &said.mailboxes {
        if let Some(Syncing { done, total }) = mailbox.syncing {
            let session = said.status.sessions.iter().find(|s| s.id == mailbox.session);
            let profile = session.map_or("?", |session| &session.profile);
            fetching.names.push(safe::line(&format!("{profile}/{}", mailbox.name)));
            fetching.far.done += done;
            fetching.far.total += total;
        }
    }
    fetching
}

impl Fetching {
    /// How far they are, how fast it goes and how long it takes at that rate, if they fetch.
    fn line(&self, per_minute: Option<f64>) -> Option<String> {
        let Syncing { done, total } = self.far;
        if self.names.is_empty() {
            return None;
        }
        let mut text = format!("fetching {}: {done} of {total} messages", self.names.join(", "));
        if let Some(rate) = per_minute.filter(|rate| *rate > 0.0) {
            let rest = total.saturating_sub(done) as f64 * 60.0 / rate;
            text += &format!(", {}, about {} to go", pace(rate), output::span(rest.ceil() as u64));
        }
        Some(painted(&text, "waiting"))
    }
}

/// Messages in a minute, in words; many in a second.
fn pace(per_minute: f64) -> String {
    if per_minute >= 120.0 {
        return format!("{:.0}/s", per_minute / 60.0);
    }
    format!("{per_minute:.0}/min")
}

/// Lines about transports and mailboxes that do not work, if there are any.
fn trouble(said: &Said) -> impl Iterator<Item = String> {
    let kinds = [("transport", Resource::TransportProvider), ("mailbox", Resource::Mailbox)];
    kinds.into_iter().filter_map(|(word, kind)| {
        let mut names = Vec::new();
        let mut all = 0;
        for session in &said.status.sessions {
            for p in session.providers.iter().filter(|p| p.kind == kind) {
                all += 1;
                if terminal::stands_out(&p.status) {
                    names.push(safe::line(&format!("{}/{}", session.profile, p.name)));
                }
            }
        }
        let all = match (all, kind) {
            (2.., Resource::Mailbox) => format!("{all} mailboxes"),
            _ => counted(all, word),
        };
        let text = format!("{} of {all} not working: ", names.len());
        (!names.is_empty()).then(|| painted(&(text + &names.join(", ")), "failed"))
    })
}

/// A text in so many lines, with `…` where it is cut.
fn in_lines(text: &str, columns: usize) -> Vec<String> {
    let mut lines = terminal::wrapped(text, columns);
    if lines.len() > DETAIL {
        let rest = lines.split_off(DETAIL - 1).join(" ");
        lines.push(rest);
    }
    lines.resize(DETAIL, String::new());
    lines.iter().map(|line| clip(line, columns)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn how_far_mailboxes_are_is_said_with_rate_and_estimate() {
        let line = |names: &[&str], per_minute| {
            let names = names.iter().map(ToString::to_string).collect();
            Fetching { names, far: Syncing { done: 5_000, total: 20_000 } }.line(per_minute)
        };
        let has = |line: Option<String>, text: &str| {
            let line = line.expect("a line");
            assert!(line.contains(text), "{line}");
        };
        assert_eq!(line(&[], Some(60.0)), None);
        has(line(&["work/imap"], None), "fetching work/imap: 5000 of 20000 messages");
        assert!(!line(&["work/imap"], Some(0.0)).expect("a line").contains("to go"));
        has(
            line(&["a/imap", "b/imap"], Some(18_000.0)),
            "fetching a/imap, b/imap: 5000 of 20000 messages, 300/s, about 50 s to go",
        );
        has(line(&["a/imap"], Some(60.0)), "60/min, about 4 h");
    }
}
