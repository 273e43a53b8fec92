//! What a program says to `sendmail -bs`: every line has its reply, and a message is handed over only when its end came.

use std::io::{BufReader, Read};

use sundown_client::Message;

// The command is no library.
#[allow(dead_code, unreachable_pub)]
#[path = "../../src/sendmail/smtp.rs"]
mod smtp;

/// Stands for what `sendmail` says when a broker refuses.
mod status {
    #[derive(Debug)]
    pub(crate) struct Failure;

    impl Failure {
        #[allow(clippy::unused_self)]
        pub(crate) fn reply(&self) -> String {
            "554 5.3.5 nowhere to go".to_owned()
        }
    }
}

/// Bytes as what a program says to `sendmail -bs`.
pub fn dialogue(bytes: &[u8]) {
    let (replies, taken) = talk(bytes, 8192);
    assert_eq!(talk(bytes, 3), (replies.clone(), taken.clone()), "pieces differ");
    assert!(replies.starts_with("220 ") && replies.ends_with("\r\n"), "{replies}");
    let mut stored = 0;
    for reply in replies.split_terminator("\r\n") {
        let (code, rest) = reply.split_at(3);
        assert!(code.bytes().all(|b| b.is_ascii_digit()), "{reply:?}");
        assert!(rest.starts_with([' ', '-']), "{reply:?}");
        assert!(!reply.contains(char::is_control), "{reply:?}");
        stored += usize::from(reply.ends_with(" is stored"));
    }
    assert_eq!(stored, taken.len(), "what is said to be stored is what was handed over");
    for message in &taken {
        assert!(!message.recipients().is_empty(), "it is for nobody");
        assert!(message.bytes().len() < bytes.len(), "there is more of it than was said");
    }
}

/// What is answered, and what was handed over.
fn talk(bytes: &[u8], buffer: usize) -> (String, Vec<Message>) {
    let (mut output, mut taken) = (Vec::new(), Vec::new());
    let input = BufReader::with_capacity(buffer, bytes.take(u64::MAX));
    let done = smtp::serve(input, &mut output, 1 << 20, |message| {
        if message.recipients().iter().any(|to| to == "nobody") {
            return Err(status::Failure);
        }
        taken.push(message);
        Ok("0".repeat(40).parse().expect("an entry"))
    });
    done.expect("memory does not fail");
    (String::from_utf8(output).expect("replies are text"), taken)
}
