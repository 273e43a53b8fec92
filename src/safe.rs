//! Text that other people and programs chose, made harmless for a terminal.
//!
//! A terminal obeys control characters and escape sequences, reorders text for bidirectional controls, and shows nothing for characters
//! without a width. A subject, an address, a server's reply or a message could use them to hide or forge what a person reads. This
//! module is the only place that decides what such text looks like:
//!
//! ```text
//! line     a field: one line
//! text     a message: lines stay lines, tabs become blanks
//! printed  whole output of a command: as `text`, and our own styles stay
//! json     a JSON document: unseen characters become `\u` escapes, which mean the same
//! ```
//!
//! The stand-in for everything that is not shown is `�`, once for a run of such characters. Right-to-left letters, accents, emoji, and
//! the joiners that scripts such as Arabic and Devanagari need between letters stay.

use std::iter::Peekable;
use std::str::Chars;

use sundown_client::is_unseen;
use unicode_width::UnicodeWidthChar;

use crate::terminal;

/// What stands for characters that are not shown.
pub(crate) const STAND_IN: char = char::REPLACEMENT_CHARACTER;

/// How many marks one character may carry. Tibetan and Hebrew need five; a terminal draws hundreds over the lines above and below.
const MARKS: usize = 8;

/// The distance of tab stops.
const TAB: usize = 8;

/// What a text is shown as.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Shape {
    /// One line: its line ends and tabs become blanks.
    Line,
    /// Lines, with tabs expanded.
    Lines,
}

/// A field in one line. Line ends and tabs are blanks in it.
pub(crate) fn line(text: &str) -> String {
    if text.bytes().all(is_printable) {
        return text.to_owned();
    }
    cleaned(text, Shape::Line)
}

/// A text of several lines. Its only control characters are `\n`.
pub(crate) fn text(text: &str) -> String {
    if text.bytes().all(|byte| is_printable(byte) || byte == b'\n') {
        return text.to_owned();
    }
    cleaned(text, Shape::Lines)
}

/// What a command prints for people. On a terminal with colours the styles of [`terminal`] stay, and no other sequence does.
pub(crate) fn printed(output: &str) -> String {
    if terminal::has_colours() { styled(output) } else { text(output) }
}

fn styled(output: &str) -> String {
    let mut shown = String::with_capacity(output.len());
    let mut plain = 0;
    for (at, _) in output.match_indices('\x1b') {
        let style = terminal::STYLES.into_iter().find(|style| output[at..].starts_with(style));
        if let Some(style) = style {
            shown += &text(&output[plain..at]);
            shown += style;
            plain = at + style.len();
        }
    }
    shown + &text(&output[plain..])
}

/// A JSON document, with escapes for what a terminal would obey or hide. It means the same as before.
pub(crate) fn json(document: &str) -> String {
    let mut shown = String::with_capacity(document.len());
    for c in document.chars() {
        if c == '\n' || !is_unseen(c) {
            shown.push(c);
            continue;
        }
        for unit in c.encode_utf16(&mut [0; 2]) {
            shown += &format!("\\u{unit:04x}");
        }
    }
    shown
}

/// Whether letters of this character's script may need a joiner behind them to be written properly.
pub(crate) fn is_joining(c: char) -> bool {
    let script = matches!(
        u32::from(c),
        // Arabic, Syriac, Thaana, N'Ko, Mandaic; the scripts of India; Tibetan, Myanmar, Khmer, Mongolian; forms of Arabic letters.
        0x600..=0x8ff | 0x900..=0xdff | 0xf00..=0x109f | 0x1780..=0x18af | 0xfb50..=0xfdff | 0xfe70..=0xfefc
    );
    script && !is_unseen(c)
}

fn is_printable(byte: u8) -> bool {
    matches!(byte, b' '..=b'~')
}

fn columns(c: char) -> usize {
    c.width().unwrap_or(0)
}

/// What stands behind a text so far, as far as the next character depends on it.
#[derive(Default)]
struct Shown {
    text: String,
    /// The last character.
    last: Option<char>,
    /// Whether the last character is the stand-in of characters before it.
    hides: bool,
    /// How many marks the last visible character has.
    marks: usize,
    /// How many columns the last line has.
    column: usize,
}

fn cleaned(text: &str, shape: Shape) -> String {
    let mut shown = Shown { text: String::with_capacity(text.len()), ..Shown::default() };
    let mut rest = text.chars().peekable();
    while let Some(c) = rest.next() {
        shown.push(c, &mut rest, shape);
    }
    shown.text
}

impl Shown {
    fn push(&mut self, c: char, rest: &mut Peekable<Chars<'_>>, shape: Shape) {
        match (c, shape) {
            // The line end follows.
            ('\r', _) if rest.peek() == Some(&'\n') => {}
            ('\n', Shape::Lines) => {
                self.keep(c);
                self.column = 0;
            }
            ('\n' | '\t', Shape::Line) => self.keep(' '),
            ('\t', Shape::Lines) => {
                (0..TAB - self.column % TAB).for_each(|_| self.keep(' '));
            }
            _ if self.may_join(c, rest.peek().copied()) => self.mark(c),
            _ if is_selector(c) && !self.may_select(c) => self.hide(),
            _ if is_unseen(c) => self.hide(),
            _ if columns(c) == 0 => self.mark(c),
            _ => self.keep(c),
        }
    }

    /// A character that has a width.
    fn keep(&mut self, c: char) {
        self.text.push(c);
        self.column += columns(c);
        (self.last, self.hides, self.marks) = (Some(c), false, 0);
    }

    /// A character without a width of its own, which changes the one before it.
    fn mark(&mut self, c: char) {
        self.marks += 1;
        if self.marks > MARKS {
            let marks = self.marks;
            self.hide();
            self.marks = marks;
            return;
        }
        self.text.push(c);
        (self.last, self.hides) = (Some(c), false);
    }

    /// A character that is not shown.
    fn hide(&mut self) {
        if !self.hides {
            self.keep(STAND_IN);
            self.hides = true;
        }
    }

    /// Whether this is a joiner between two letters of scripts that need one.
    fn may_join(&self, c: char, next: Option<char>) -> bool {
        matches!(c, '\u{200c}' | '\u{200d}')
            && self.marks < MARKS
            && self.last.is_some_and(is_joining)
            && next.is_some_and(|next| is_joining(next) && columns(next) > 0)
    }

    /// Whether a variation selector has a character that it can vary. Runs of them can carry a hidden text.
    fn may_select(&self, c: char) -> bool {
        let ideographs = c >= '\u{e0100}';
        self.last.is_some_and(|last| {
            let visible = columns(last) > 0 && !last.is_whitespace() && last != STAND_IN;
            visible && (!ideographs || (columns(last) == 2 && last >= '\u{3400}'))
        })
    }
}

/// Whether a character asks for a variant of the one before it, such as an emoji in colour.
fn is_selector(c: char) -> bool {
    matches!(c, '\u{fe00}'..='\u{fe0f}' | '\u{e0100}'..='\u{e01ef}')
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn what_a_terminal_obeys_or_hides_is_shown_as_such() {
        for c in [
            '\0',
            '\x07',
            '\x08',
            '\x1b',
            '\r',
            '\x7f',
            '\u{85}',
            '\u{9b}',
            '\u{ad}',
            '\u{61c}',
            '\u{200b}',
            '\u{200c}',
            '\u{200d}',
            '\u{200e}',
            '\u{200f}',
            '\u{2028}',
            '\u{2029}',
            '\u{202a}',
            '\u{202e}',
            '\u{2060}',
            '\u{2066}',
            '\u{2069}',
            '\u{feff}',
            '\u{e0001}',
            '\u{e0041}',
            '\u{e007f}',
            '\u{e0100}',
            '\u{3164}',
        ] {
            assert_eq!(line(&format!("a{c}b")), "a�b", "{c:?}");
            assert_eq!(text(&format!("a{c}{c}{c}b")), "a�b", "{c:?}");
        }
        assert_eq!(line("\x1b]0;title\x07\x1b[2J"), "�]0;title�[2J");
    }

    #[test]
    fn letters_of_every_script_stay() {
        for written in [
            "naïve 日本語 한국어 ไทย",
            "שָׁלוֹם עוֹלָם",
            "مرحبا بالعالم",
            // Persian and Sinhala are written with joiners.
            "می\u{200c}خواهم",
            "ශ්\u{200d}රී ලංකා",
            "❤\u{fe0f} 1\u{fe0f}\u{20e3} 🎉 👍🏽 葛\u{e0100}",
            "e\u{301}\u{328}",
        ] {
            assert_eq!(line(written), written);
            assert_eq!(text(written), written);
        }
    }

    #[test]
    fn lines_stay_lines_only_in_a_text() {
        assert_eq!(
            text("a\r\nb\rc\n\td\n1234567\te\n日\tf"),
            "a\nb�c\n        d\n1234567 e\n日      f"
        );
        assert_eq!(line("a\r\nb\rc\n\td"), "a b�c  d");
    }

    #[test]
    fn marks_do_not_pile_up() {
        let zalgo = format!("a{}b", "\u{301}".repeat(500));
        assert_eq!(line(&zalgo), format!("a{}�b", "\u{301}".repeat(MARKS)));
        assert_eq!(line(&format!("\u{fe0f}a {}b", "\u{fe0f}".repeat(9))), "�a �b");
        assert_eq!(line("a\u{fe0f}\u{fe0e}\u{fe0f}b"), "a\u{fe0f}�b");
    }

    #[test]
    fn our_styles_stay_and_no_others() {
        let output = "\x1b[1mbold\x1b[0m \x1b[31mred\x1b[0m \x1b[5mblink\x1b[2Jx\x1b";
        assert_eq!(styled(output), "\x1b[1mbold\x1b[0m \x1b[31mred\x1b[0m �[5mblink�[2Jx�");
        assert_eq!(text(output), "�[1mbold�[0m �[31mred�[0m �[5mblink�[2Jx�");
    }

    #[test]
    fn json_means_the_same() {
        let value = serde_json::json!({ "a\u{9b}": "\u{202e}\x1b[\u{e0041}\u{7f}日é" });
        let shown = json(&value.to_string());
        assert!(!shown.chars().any(|c| is_unseen(c) && !c.is_ascii()), "{shown}");
        assert_eq!(serde_json::from_str::<serde_json::Value>(&shown).expect("JSON"), value);
    }

    /// Letters, marks, and everything that is not shown, close together.
    fn nasty() -> impl Strategy<Value = String> {
        let some = prop::sample::select(vec![
            "a",
            " ",
            "日",
            "ا",
            "ی",
            "\u{94d}",
            "\u{301}",
            "\u{20e3}",
            "\u{200c}",
            "\u{200d}",
            "\u{fe0f}",
            "\u{e0100}",
            "\u{202e}",
            "\u{9b}",
            "\x1b",
            "\x1b[31m",
            "\x1b[0m",
            "\r",
            "\n",
            "\t",
            "\u{2028}",
            "�",
            "\u{301}\u{301}\u{301}\u{301}",
            "\u{e0041}",
            "👩",
            "\u{605}",
        ])
        .prop_map(str::to_owned);
        let any = any::<char>().prop_map(|c| c.to_string());
        prop::collection::vec(prop_oneof![4 => some, 1 => any], 0..40).prop_map(|all| all.concat())
    }

    proptest! {
        #[test]
        fn nothing_but_line_ends_controls_a_terminal(input in nasty()) {
            let (one, many) = (line(&input), text(&input));
            prop_assert!(!one.contains(char::is_control), "{one:?}");
            prop_assert!(!many.contains(|c: char| c.is_control() && c != '\n'), "{many:?}");
            for shown in [&one, &many] {
                let joins = |c| matches!(c, '\u{200c}' | '\u{200d}');
                let unseen = |c: char| is_unseen(c) && c != '\n' && !joins(c);
                prop_assert!(!shown.contains(unseen), "{shown:?}");
                let mut marks = 0;
                for c in shown.chars() {
                    marks = if columns(c) == 0 && c != '\n' { marks + 1 } else { 0 };
                    prop_assert!(marks <= MARKS, "{shown:?}");
                }
            }
        }

        #[test]
        fn what_is_harmless_is_not_changed_again(input in nasty()) {
            for (once, again) in [(line(&input), line as fn(&str) -> String), (text(&input), text), (styled(&input), styled)] {
                prop_assert_eq!(again(&once), once);
            }
        }

        #[test]
        fn printable_ascii_stays(input in "[ -~]*") {
            prop_assert_eq!(line(&input), input.clone());
            prop_assert_eq!(text(&input), input);
        }

        #[test]
        fn json_is_for_terminals_too(input in nasty()) {
            let shown = json(&serde_json::json!([&input]).to_string());
            prop_assert!(!shown.contains(|c: char| is_unseen(c)), "{shown:?}");
            let read: Vec<String> = serde_json::from_str(&shown).expect("JSON");
            prop_assert_eq!(&read[..], &[input]);
        }
    }
}
