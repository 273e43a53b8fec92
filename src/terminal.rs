//! The terminal: its size, what it can show, and text that fits into it.
//!
//! Lines of our own rather than a library for terminals: what is needed is one line that is rewritten, one screen that is
//! drawn over, a dozen keys, and three colours. Such a library would bring its own event loop and a few dozen crates into the program
//! that every `sendmail` starts, and would leave the clipping to us.

use std::io::IsTerminal;
use std::os::fd::AsFd;
use std::sync::LazyLock;

use rustix::termios::tcgetwinsize;
use unicode_width::{UnicodeWidthChar, UnicodeWidthStr};

/// How much a terminal shows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Size {
    pub(crate) columns: usize,
    pub(crate) rows: usize,
}

impl Size {
    /// That of this terminal. One that does not know its own is taken for a small one.
    pub(crate) fn of(terminal: impl AsFd) -> Self {
        match tcgetwinsize(terminal) {
            Ok(size) if size.ws_col > 0 && size.ws_row > 0 => {
                Self { columns: size.ws_col.into(), rows: size.ws_row.into() }
            }
            _ => Self { columns: 80, rows: 24 },
        }
    }
}

/// How a word is shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Tone {
    Plain,
    /// Somebody should look at it.
    Yellow,
    /// It does not work, or nobody knows.
    Red,
}

impl Tone {
    /// That of a state, as the tables have them.
    fn of(state: &str) -> Self {
        match state.split([':', ' ']).next().unwrap_or_default() {
            "failed" | "failing" | "damaged" | "wrong" | "unknown" | "bounced" | "problem" => {
                Self::Red
            }
            "deferred" | "held" | "ending" | "draining" | "waiting" | "unreachable" | "warning" => {
                Self::Yellow
            }
            _ => Self::Plain,
        }
    }
}

/// How many columns standard output has, if it is a terminal.
pub(crate) fn columns() -> Option<usize> {
    let output = std::io::stdout();
    output.is_terminal().then(|| Size::of(&output).columns)
}

/// A message, broken between words where standard error is a terminal.
pub(crate) fn for_stderr(text: &str) -> String {
    let output = std::io::stderr();
    if !output.is_terminal() {
        return text.to_owned();
    }
    let columns = Size::of(&output).columns;
    text.lines().flat_map(|line| wrapped(line, columns)).collect::<Vec<_>>().join("\n")
}

/// Whether the terminal obeys anything but the ends of lines.
pub(crate) fn is_dumb() -> bool {
    std::env::var_os("TERM").is_none_or(|term| term.is_empty() || term == "dumb")
}

/// Whether standard output may have colours: on a terminal, unless `NO_COLOR` says no.
static COLOURS: LazyLock<bool> = LazyLock::new(|| {
    let refused = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
    std::io::stdout().is_terminal() && !refused && !is_dumb()
});

/// Whether standard output has colours and styles.
pub(crate) fn has_colours() -> bool {
    *COLOURS
}

const YELLOW: &str = "\x1b[33m";
const RED: &str = "\x1b[31m";
const BOLD: &str = "\x1b[1m";
const DIM: &str = "\x1b[2m";
const REVERSED: &str = "\x1b[7m";
const PLAIN: &str = "\x1b[0m";

/// All sequences that the command prints within a line.
pub(crate) const STYLES: [&str; 6] = [YELLOW, RED, BOLD, DIM, REVERSED, PLAIN];

/// A state with its colour, where there are colours.
pub(crate) fn painted(text: &str, state: &str) -> String {
    match Tone::of(state) {
        Tone::Yellow => styled(text, YELLOW),
        Tone::Red => styled(text, RED),
        Tone::Plain => text.to_owned(),
    }
}

/// Whether somebody should look at a state.
pub(crate) fn stands_out(state: &str) -> bool {
    Tone::of(state) != Tone::Plain
}

/// What is important.
pub(crate) fn bold(text: &str) -> String {
    styled(text, BOLD)
}

/// What is only there to be found when it is looked for.
pub(crate) fn dim(text: &str) -> String {
    styled(text, DIM)
}

/// What is chosen.
pub(crate) fn reversed(text: &str) -> String {
    styled(text, REVERSED)
}

fn styled(text: &str, style: &str) -> String {
    if *COLOURS { format!("{style}{text}{PLAIN}") } else { text.to_owned() }
}

/// How many columns it takes.
pub(crate) fn width(text: &str) -> usize {
    text.width()
}

/// A sentence in lines of this width, broken between words. A word that is longer stays whole.
pub(crate) fn wrapped(text: &str, columns: usize) -> Vec<String> {
    let mut lines: Vec<String> = Vec::new();
    for word in text.split(' ') {
        match lines.last_mut() {
            Some(line) if width(line) + 1 + width(word) <= columns => {
                *line += " ";
                *line += word;
            }
            _ => lines.push(word.to_owned()),
        }
    }
    lines
}

/// As much of a line as fits, with `…` where it was cut. Colours take no room.
pub(crate) fn clip(line: &str, columns: usize) -> String {
    let mut kept = String::new();
    let (mut used, mut in_colour, mut rest) = (0, false, line.chars());
    let room = if width_of(line) > columns { columns.saturating_sub(1) } else { columns };
    while let Some(c) = rest.next() {
        if c == '\x1b' {
            let sequence = format!("{c}{}", until_m(&mut rest));
            in_colour = sequence != "\x1b[0m";
            kept += &sequence;
            continue;
        }
        used += c.width().unwrap_or(0);
        if used > room {
            kept += if in_colour { "…\x1b[0m" } else { "…" };
            return kept;
        }
        kept.push(c);
    }
    kept
}

/// The rest of a sequence that sets a colour.
fn until_m(rest: &mut std::str::Chars<'_>) -> String {
    let mut sequence = String::new();
    for c in rest {
        sequence.push(c);
        if c == 'm' {
            break;
        }
    }
    sequence
}

/// How many columns a line takes that may have colours.
pub(crate) fn width_of(line: &str) -> usize {
    let mut rest = line.chars();
    let mut width = 0;
    while let Some(c) = rest.next() {
        if c == '\x1b' {
            until_m(&mut rest);
        } else {
            width += c.width().unwrap_or(0);
        }
    }
    width
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_is_cut_where_the_terminal_ends() {
        assert_eq!(clip("abc", 3), "abc");
        assert_eq!(clip("abcd", 3), "ab…");
        assert_eq!(clip("日本語", 6), "日本語");
        assert_eq!(clip("日本語", 5), "日本…");
        assert_eq!(clip("日本語", 4), "日…");
        assert_eq!(clip("abc", 0), "…");
    }

    #[test]
    fn a_sentence_is_broken_between_words() {
        assert_eq!(wrapped("one two three", 7), ["one two", "three"]);
        assert_eq!(wrapped("日本 語", 5), ["日本", "語"]);
        assert_eq!(wrapped("/a/long/path is long", 6), ["/a/long/path", "is", "long"]);
        assert_eq!(wrapped("", 6), [""]);
    }

    #[test]
    fn colours_take_no_room_and_end_where_the_line_is_cut() {
        assert_eq!(clip("\x1b[31mabc\x1b[0m", 3), "\x1b[31mabc\x1b[0m");
        assert_eq!(clip("\x1b[31mabcd\x1b[0m e", 3), "\x1b[31mab…\x1b[0m");
        assert_eq!(clip("\x1b[31ma\x1b[0mbcd", 3), "\x1b[31ma\x1b[0mb…");
    }

    #[test]
    fn only_what_somebody_should_look_at_has_a_colour() {
        assert_eq!(Tone::of("failed: no such host"), Tone::Red);
        assert_eq!(Tone::of("deferred"), Tone::Yellow);
        assert_eq!(Tone::of("unreachable"), Tone::Yellow);
        assert_eq!(Tone::of("available"), Tone::Plain);
    }
}
