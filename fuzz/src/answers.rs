//! What an SMTP server answers: bounded, the same in whatever pieces it comes, and told in one line.

// The transport does not show how it reads answers.
#[allow(dead_code, unreachable_pub)]
#[path = "../../broker/providers/src/smtp/answer.rs"]
mod answer;

use answer::{Inbox, Nonsense};

/// As much as one answer may have.
const MAX_BYTES: usize = 64 << 10;

/// Bytes as what an SMTP server answers.
pub fn answers(bytes: &[u8]) {
    let whole = told(bytes, bytes.len().max(1));
    for piece in [1, 5] {
        assert_eq!(told(bytes, piece), whole, "pieces of {piece} bytes differ");
    }
    let (answers, nonsense) = whole;
    for words in &answers {
        assert!(words.chars().count() <= 2000, "{words}");
        assert!(!words.contains(char::is_control), "{words:?} is not for a log");
        assert!(words.as_bytes()[..3].iter().all(u8::is_ascii_digit), "{words} has no code");
    }
    if nonsense.is_none() && answers.is_empty() {
        assert!(bytes.len() <= MAX_BYTES, "what does not end is waited for");
    }
}

/// The answers up to the first nonsense.
fn told(bytes: &[u8], piece: usize) -> (Vec<String>, Option<Nonsense>) {
    let mut inbox = Inbox::default();
    let mut answers = Vec::new();
    for piece in bytes.chunks(piece) {
        inbox.feed(piece);
        loop {
            match inbox.next() {
                Ok(None) => break,
                Ok(Some(answer)) => {
                    let _ = (answer.meaning(), answer.closes(), answer.lines().count());
                    answers.push(answer.words());
                }
                Err(nonsense) => return (answers, Some(nonsense)),
            }
        }
    }
    (answers, None)
}
