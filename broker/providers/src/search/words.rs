//! How text becomes words: one form for each letter, and pairs of letters where writing has no spaces.
//!
//! `FTS5` splits text into words at everything that is neither a letter nor a digit, and takes no notice of case and accents. Two things
//! are done before, to messages and to queries alike. Letters that can be written in several ways get one form (NFKC): `ＡＢＣ` is `ABC`.
//! And Chinese, Japanese, Korean, Thai, Lao, Khmer and Burmese, which `FTS5` would take for one word up to the next comma, become
//! overlapping pairs: `東京都` is `東京 京都 都`. So a query finds a word anywhere in such text: `京都` by the pair, `東京都` by the phrase of
//! `東京` and `京都`, and one character as the beginning of a pair.

use std::borrow::Cow;

use unicode_normalization::{IsNormalized, UnicodeNormalization, is_nfkc_quick};

/// Whether a character belongs to writing without spaces between words.
fn is_unspaced(c: char) -> bool {
    matches!(u32::from(c),
        0x0E00..=0x0EFF                      // Thai, Lao
        | 0x1000..=0x109F                    // Burmese
        | 0x1100..=0x11FF                    // Hangul
        | 0x1780..=0x17FF                    // Khmer
        | 0x2E80..=0x2FDF                    // radicals
        | 0x3005..=0x3007 | 0x3021..=0x3029  // repetition marks, zero, numerals
        | 0x3041..=0x3096 | 0x309D..=0x309F  // Hiragana
        | 0x30A1..=0x30FA | 0x30FC..=0x30FF  // Katakana
        | 0x3105..=0x312F | 0x3131..=0x318E | 0x31A0..=0x31BF | 0x31F0..=0x31FF
        | 0x3400..=0x4DBF | 0x4E00..=0x9FFF  // ideographs
        | 0xA960..=0xA97F | 0xAC00..=0xD7FF  // Hangul
        | 0xF900..=0xFAFF
        | 0x2_0000..=0x3_FFFF)
}

/// Whether a character is part of a word, and no separator.
fn is_word(c: char) -> bool {
    c.is_alphanumeric() || matches!(u32::from(c), 0xE000..=0xF8FF)
}

/// The same text with one form for each letter.
fn one_form(text: &str) -> Cow<'_, str> {
    if text.is_ascii() || is_nfkc_quick(text.chars()) == IsNormalized::Yes {
        return Cow::Borrowed(text);
    }
    Cow::Owned(text.nfkc().collect())
}

/// A text of a message as it is given to `FTS5`.
pub(super) fn of_message(text: &str) -> Cow<'_, str> {
    let text = one_form(text);
    if text.is_ascii() || !text.chars().any(is_unspaced) {
        return text;
    }
    let mut out = String::with_capacity(text.len() * 2);
    for piece in pieces(&text) {
        match piece {
            Piece::Unspaced(run) => pairs(run, Last::Alone, &mut out),
            Piece::Other(other) => out.push_str(other),
        }
    }
    Cow::Owned(out)
}

/// Words that stand next to each other, as they are asked of `FTS5`.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct Phrase {
    /// The words. It has no control characters, which `FTS5` would take for the end of the query.
    pub(super) words: String,
    /// Whether the last word is the beginning of a word.
    pub(super) begins: bool,
}

impl Phrase {
    /// Whether its last word is one letter of writing with spaces. That is how too many words begin.
    pub(super) fn last_word_has_one_letter(&self) -> bool {
        let mut letters = self.words.chars().rev();
        let last = letters.next().is_some_and(|last| is_word(last) && !is_unspaced(last));
        last && letters.next().is_none_or(|before| !is_word(before))
    }
}

/// What is to be looked for to find this text; `None` if it has neither letters nor digits. With `begins` its last word is the
/// beginning of a word.
pub(super) fn of_query(text: &str, begins: bool) -> Option<Phrase> {
    let text: String =
        one_form(text).chars().map(|c| if is_word(c) { c } else { mark(c) }).collect();
    let text = text.trim_end_matches(|c| !is_word(c));
    if !text.chars().any(is_word) {
        return None;
    }
    let mut words = String::with_capacity(text.len() * 2);
    let mut begins = begins;
    let mut left = text.len();
    for piece in pieces(text) {
        left -= piece.len();
        match piece {
            Piece::Other(other) => words.push_str(other),
            Piece::Unspaced(run) if left > 0 => pairs(run, Last::Alone, &mut words),
            // The text that is looked through may go on behind the last character.
            Piece::Unspaced(run) => {
                begins = run.chars().nth(1).is_none();
                pairs(run, if begins { Last::Alone } else { Last::Paired }, &mut words);
            }
        }
    }
    // Behind the last word nothing may stand that `FTS5` takes for another.
    words.truncate(words.trim_end().len());
    Some(Phrase { words, begins })
}

/// What stands for a character that is part of no word. Accents that follow their letter must stay where they are.
fn mark(c: char) -> char {
    if c.is_control() || c.is_ascii() { ' ' } else { c }
}

/// Whether the last character of a run is a word of its own, too.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Last {
    Alone,
    Paired,
}

/// Adds overlapping pairs of characters, with blanks around them.
fn pairs(run: &str, last: Last, out: &mut String) {
    out.push(' ');
    let mut before = None;
    for c in run.chars() {
        if let Some(before) = before.replace(c) {
            out.extend([before, c, ' ']);
        }
    }
    if last == Last::Alone {
        out.extend(before.into_iter().chain([' ']));
    }
}

/// A stretch of a text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Piece<'a> {
    Unspaced(&'a str),
    Other(&'a str),
}

impl Piece<'_> {
    fn len(&self) -> usize {
        let (Self::Unspaced(text) | Self::Other(text)) = self;
        text.len()
    }
}

/// The stretches of a text, in their order.
fn pieces(text: &str) -> impl Iterator<Item = Piece<'_>> {
    let mut rest = text;
    std::iter::from_fn(move || {
        let unspaced = is_unspaced(rest.chars().next()?);
        let end = rest.find(|c| is_unspaced(c) != unspaced).unwrap_or(rest.len());
        let (piece, behind) = rest.split_at(end);
        rest = behind;
        Some(if unspaced { Piece::Unspaced(piece) } else { Piece::Other(piece) })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asked(text: &str) -> (String, bool) {
        let phrase = of_query(text, false).expect("it has words");
        (phrase.words.split_whitespace().collect::<Vec<_>>().join(" "), phrase.begins)
    }

    fn stored(text: &str) -> String {
        of_message(text).split_whitespace().collect::<Vec<_>>().join(" ")
    }

    #[test]
    fn text_without_spaces_becomes_pairs() {
        assert_eq!(stored("the 東京都 tower"), "the 東京 京都 都 tower");
        assert_eq!(stored("ABC会社は"), "ABC 会社 社は は");
        assert_eq!(stored("plain words"), "plain words");
        assert_eq!(asked("東京都"), ("東京 京都".into(), false));
        assert_eq!(asked("京都"), ("京都".into(), false));
        assert_eq!(asked("東"), ("東".into(), true));
        assert_eq!(asked("会社ABC"), ("会社 社 ABC".into(), false));
        assert_eq!(asked("会社、"), ("会社".into(), false));
    }

    #[test]
    fn letters_have_one_form() {
        assert_eq!(stored("ＡＢＣ ﬁne"), "ABC fine");
        assert_eq!(stored("か\u{3099}く"), stored("がく"));
        assert_eq!(stored("ｶﾞｸ"), stored("ガク"));
    }

    #[test]
    fn what_has_no_word_is_not_asked_for() {
        for nothing in ["", " ", "!?", "\"", "*", "\u{0}\u{7}", "、。", "—"] {
            assert_eq!(of_query(nothing, false), None, "{nothing:?}");
        }
        let phrase = of_query("a\u{0}b", false).expect("it has words");
        assert_eq!(phrase.words, "a b");
    }
}
