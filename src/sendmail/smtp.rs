//! SMTP on standard input and output (`-bs`), as much of it as handing mail over takes.
//!
//! ```text
//!   Idle ──MAIL──► Addressing ──RCPT──► Addressing ──DATA──► Idle
//!     └── RSET, HELO and EHLO lead back to Idle from everywhere; QUIT and the end of the input end it
//! ```
//!
//! `DATA` is answered with 250 when the message is durable. A message whose end does not come is not stored. Lines end as
//! the first one did: in a dialogue of CR LF a dot between bare LFs ends nothing, so that no message can smuggle in another.

use std::io::{self, BufRead, Read, Write};

use sundown_client::{EntryId, Message, is_unseen};
use sundown_mail::address::split;
use sundown_mail::addresses;

use super::status::Failure;

/// The longest command with its line end. RFC 5321 asks for 512 bytes, and extensions for some more.
const MAX_COMMAND: u64 = 4096;

/// As much of a line of a message as is read at once.
const PIECE: u64 = 64 << 10;

/// Recipients of one message; as many as a broker takes unless it is told otherwise.
const MAX_RECIPIENTS: usize = 10_000;

/// What the other side of the dialogue may ask for, one word or two each.
const EXTENSIONS: [&str; 5] = ["PIPELINING", "8BITMIME", "SMTPUTF8", "SIZE", "ENHANCEDSTATUSCODES"];

/// Speaks until the other side leaves. Each message is given to `submit`, which returns when it is durable; one that is longer than
/// `largest` is refused, and no more of it kept in memory.
pub(crate) fn serve(
    input: impl BufRead,
    output: impl Write,
    largest: u64,
    submit: impl FnMut(Message) -> Result<EntryId, Failure>,
) -> io::Result<()> {
    let mut dialogue =
        Dialogue { input, output, largest, submit, line_end: None, transaction: Transaction::Idle };
    match dialogue.run() {
        // Who has left does not want to hear any more.
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        other => other,
    }
}

/// Says that no mail is taken, because there is no broker.
pub(crate) fn turn_away(mut output: impl Write) {
    let _ = output.write_all(b"421 4.3.2 no broker takes mail; try again later\r\n");
    let _ = output.flush();
}

struct Dialogue<R, W, S> {
    input: R,
    output: W,
    largest: u64,
    submit: S,
    line_end: Option<&'static [u8]>,
    transaction: Transaction,
}

enum Transaction {
    Idle,
    Addressing { sender: String, recipients: Vec<String> },
}

/// What a line of the dialogue is.
enum Line {
    Command(String),
    TooLong,
    NoText,
    End,
}

/// What came behind DATA.
enum Content {
    Whole(Vec<u8>),
    /// It is longer than the broker takes, and was passed over up to its dot.
    TooLong,
    /// The dot did not come.
    Unfinished,
}

/// Whether the dialogue goes on.
#[derive(PartialEq, Eq)]
enum Next {
    More,
    Over,
}

impl<R: BufRead, W: Write, S: FnMut(Message) -> Result<EntryId, Failure>> Dialogue<R, W, S> {
    fn run(&mut self) -> io::Result<()> {
        self.reply("220 localhost ESMTP Sundown")?;
        loop {
            match self.line()? {
                Line::End => return Ok(()),
                Line::TooLong => self.reply("500 5.5.2 the line is too long")?,
                Line::NoText => self.reply("500 5.5.2 the line is not UTF-8")?,
                Line::Command(line) => {
                    if self.command(&line)? == Next::Over {
                        return Ok(());
                    }
                }
            }
        }
    }

    fn reply(&mut self, text: &str) -> io::Result<()> {
        self.output.write_all(format!("{text}\r\n").as_bytes())?;
        self.output.flush()
    }

    fn line(&mut self) -> io::Result<Line> {
        let mut line = Vec::new();
        (&mut self.input).take(MAX_COMMAND).read_until(b'\n', &mut line)?;
        if line.is_empty() {
            return Ok(Line::End);
        }
        if !line.ends_with(b"\n") {
            let whole = line.len() as u64 == MAX_COMMAND && self.skip_line()?;
            return Ok(if whole { Line::TooLong } else { Line::End });
        }
        let crlf = line.ends_with(b"\r\n");
        self.line_end.get_or_insert(if crlf { b"\r\n" } else { b"\n" });
        Ok(match String::from_utf8(line) {
            Ok(text) => Line::Command(text.trim_end_matches(['\r', '\n']).to_owned()),
            Err(_) => Line::NoText,
        })
    }

    /// Reads on to the end of the line. Whether it has one.
    fn skip_line(&mut self) -> io::Result<bool> {
        loop {
            let read = self.input.fill_buf()?;
            if read.is_empty() {
                return Ok(false);
            }
            let end = read.iter().position(|b| *b == b'\n');
            let taken = end.map_or(read.len(), |end| end + 1);
            self.input.consume(taken);
            if end.is_some() {
                return Ok(true);
            }
        }
    }

    fn command(&mut self, line: &str) -> io::Result<Next> {
        let (verb, rest) = line.split_once([' ', '\t']).unwrap_or((line, ""));
        let rest = rest.trim();
        match verb.to_ascii_uppercase().as_str() {
            "HELO" | "EHLO" if rest.is_empty() => self.reply("501 5.5.4 say your name")?,
            "HELO" => {
                self.transaction = Transaction::Idle;
                self.reply("250 localhost")?;
            }
            "EHLO" => {
                self.transaction = Transaction::Idle;
                self.extensions()?;
            }
            "MAIL" => self.mail(rest)?,
            "RCPT" => self.recipient(rest)?,
            "DATA" => return self.data(rest),
            "RSET" => {
                self.transaction = Transaction::Idle;
                self.reply("250 2.0.0 forgotten")?;
            }
            "NOOP" => self.reply("250 2.0.0 ok")?,
            "VRFY" => self.reply("252 2.5.0 hand the message over, and it will be seen")?,
            "QUIT" => {
                self.reply("221 2.0.0 bye")?;
                return Ok(Next::Over);
            }
            _ => self.reply("500 5.5.2 there is no such command")?,
        }
        Ok(Next::More)
    }

    fn extensions(&mut self) -> io::Result<()> {
        let mut text = String::from("250-localhost");
        for (place, extension) in EXTENSIONS.iter().enumerate() {
            let last = place + 1 == EXTENSIONS.len();
            text.push_str(if last { "\r\n250 " } else { "\r\n250-" });
            text.push_str(extension);
        }
        self.reply(&text)
    }

    fn mail(&mut self, rest: &str) -> io::Result<()> {
        if !matches!(self.transaction, Transaction::Idle) {
            return self.reply("503 5.5.1 there is a sender already; RSET begins anew");
        }
        let Some((sender, parameters)) = path(rest, "FROM:") else {
            return self.reply("501 5.5.4 say MAIL FROM:<address>");
        };
        if let Some(wrong) = parameters.split_whitespace().find(|p| !is_parameter(p)) {
            // What was said is no part of the dialogue: it must not draw on a terminal or end a line.
            let wrong = wrong.replace(is_unseen, "?");
            return self.reply(&format!("555 5.5.4 {wrong} is not known"));
        }
        let sender = match the_address(sender) {
            Ok(sender) => sender.unwrap_or_default(),
            Err(why) => return self.reply(&format!("501 5.1.7 {why}")),
        };
        self.transaction = Transaction::Addressing { sender, recipients: Vec::new() };
        self.reply("250 2.1.0 ok")
    }

    fn recipient(&mut self, rest: &str) -> io::Result<()> {
        let Transaction::Addressing { recipients, .. } = &mut self.transaction else {
            return self.reply("503 5.5.1 MAIL comes first");
        };
        let Some((recipient, parameters)) = path(rest, "TO:") else {
            return self.reply("501 5.5.4 say RCPT TO:<address>");
        };
        if !parameters.trim().is_empty() {
            return self.reply("555 5.5.4 no parameter is known");
        }
        if recipients.len() >= MAX_RECIPIENTS {
            return self.reply("452 4.5.3 too many recipients");
        }
        match the_address(recipient) {
            Ok(Some(recipient)) => recipients.push(recipient),
            Ok(None) => return self.reply("501 5.1.3 there is no address"),
            Err(why) => return self.reply(&format!("501 5.1.3 {why}")),
        }
        self.reply("250 2.1.5 ok")
    }

    fn data(&mut self, rest: &str) -> io::Result<Next> {
        let recipients = match &self.transaction {
            Transaction::Idle => None,
            Transaction::Addressing { recipients, .. } => Some(recipients.len()),
        };
        match recipients {
            None => self.reply("503 5.5.1 MAIL comes first")?,
            Some(0) => self.reply("503 5.5.1 there are no recipients")?,
            Some(_) if !rest.is_empty() => self.reply("501 5.5.4 DATA stands alone")?,
            Some(_) => {
                self.reply("354 end with a line that is a dot")?;
                match self.message()? {
                    Content::Whole(message) => self.hand_over(message)?,
                    Content::TooLong => {
                        self.transaction = Transaction::Idle;
                        let most = self.largest;
                        self.reply(&format!("552 5.3.4 the message is longer than {most} bytes"))?;
                    }
                    Content::Unfinished => return Ok(Next::Over),
                }
            }
        }
        Ok(Next::More)
    }

    /// The lines up to the dot, without the dots that were put in front of dots.
    fn message(&mut self) -> io::Result<Content> {
        let end = self.line_end.unwrap_or(b"\r\n");
        let mut message = Vec::new();
        let mut too_long = false;
        loop {
            let start = message.len();
            if (&mut self.input).take(PIECE).read_until(b'\n', &mut message)? == 0 {
                return Ok(Content::Unfinished);
            }
            let begins_line = start == 0 || message[..start].ends_with(end);
            if begins_line && message[start] == b'.' {
                if message[start + 1..] == *end {
                    message.truncate(start);
                    return Ok(if too_long { Content::TooLong } else { Content::Whole(message) });
                }
                message.remove(start);
            }
            if message.len() as u64 > self.largest {
                too_long = true;
                // What tells whether the next line begins.
                message.drain(..message.len() - message.len().min(end.len()));
            }
        }
    }

    fn hand_over(&mut self, bytes: Vec<u8>) -> io::Result<()> {
        let transaction = std::mem::replace(&mut self.transaction, Transaction::Idle);
        let Transaction::Addressing { sender, recipients } = transaction else { return Ok(()) };
        let message = Message::new(bytes).sender(sender);
        let message = recipients.into_iter().fold(message, Message::recipient);
        let said = match (self.submit)(message) {
            Ok(entry) => format!("250 2.0.0 {entry} is stored"),
            Err(failure) => failure.reply(),
        };
        self.reply(&said)
    }
}

/// What stands in angle brackets behind `FROM:` or `TO:`, with them, and the parameters behind it.
fn path<'a>(rest: &'a str, word: &str) -> Option<(&'a str, &'a str)> {
    let (front, behind) = rest.split_at_checked(word.len())?;
    let behind = behind.trim_start();
    if !front.eq_ignore_ascii_case(word) || !behind.starts_with('<') {
        return None;
    }
    let mut quoted = false;
    let mut escaped = false;
    let end = behind.find(|c| {
        let closes = c == '>' && !quoted;
        quoted ^= c == '"' && !escaped;
        escaped = c == '\\' && !escaped;
        closes
    })?;
    let (path, parameters) = behind.split_at(end + 1);
    let apart = parameters.is_empty() || parameters.starts_with(' ');
    apart.then_some((path, parameters))
}

/// Whether MAIL takes this parameter.
fn is_parameter(parameter: &str) -> bool {
    let upper = parameter.to_ascii_uppercase();
    match upper.split_once('=') {
        None => upper == "SMTPUTF8",
        Some(("BODY", body)) => matches!(body, "7BIT" | "8BITMIME"),
        Some(("SIZE", size)) => !size.is_empty() && size.bytes().all(|b| b.is_ascii_digit()),
        Some(_) => false,
    }
}

/// The address in angle brackets, of which there may be none; or why it is not one.
fn the_address(path: &str) -> Result<Option<String>, String> {
    match &addresses(path)[..] {
        [] => Ok(None),
        [address] => match split(address) {
            Ok(_) => Ok(Some(address.clone())),
            Err(why) => Err(format!("that is not an address: {why}")),
        },
        _ => Err("that is more than one address".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use sundown_client::{Code, Error};

    use super::*;

    /// What is answered, line by line, and what was handed over.
    fn talk(input: &[u8]) -> (Vec<String>, Vec<(String, Message)>) {
        let (mut output, mut taken) = (Vec::new(), Vec::new());
        serve(input, &mut output, 2 << 20, |message| {
            if message.recipients().iter().any(|r| r == "nobody") {
                return Err(Failure::before(&Error::new(Code::E_UNCONFIGURED, "nowhere\nto go")));
            }
            taken.push((message.recipients().join(" "), message));
            Ok("0".repeat(40).parse().expect("an entry"))
        })
        .expect("memory does not fail");
        let output = String::from_utf8(output).expect("text");
        assert!(output.ends_with("\r\n"), "{output:?}");
        (output.split_terminator("\r\n").map(str::to_owned).collect(), taken)
    }

    fn codes(replies: &[String]) -> String {
        replies.iter().map(|reply| &reply[..3]).collect::<Vec<_>>().join(" ")
    }

    #[test]
    fn a_message_is_handed_over() {
        let (replies, taken) = talk(
            b"EHLO me\r\nMAIL FROM:<a@b> BODY=8BITMIME SIZE=10 smtputf8\r\nRCPT TO:<c@d>\r\nrcpt to: <e>\r\n\
              DATA\r\nSubject: s\r\n\r\n..dot\r\n.\n.x\r\nend\n.\n\r\n.\r\nQUIT\r\nNOOP\r\n",
        );
        assert_eq!(codes(&replies), "220 250 250 250 250 250 250 250 250 250 354 250 221");
        assert_eq!(replies[1], "250-localhost");
        assert_eq!(replies[6], "250 ENHANCEDSTATUSCODES");
        let [(to, message)] = &taken[..] else { panic!("{replies:?}") };
        assert_eq!(to, "c@d e");
        let text = String::from_utf8_lossy(message.bytes());
        assert_eq!(text, "Subject: s\r\n\r\n.dot\r\n\n.x\r\nend\n.\n\r\n");
    }

    #[test]
    fn lines_may_end_without_cr() {
        let (replies, taken) =
            talk(b"HELO me\nMAIL FROM:<>\nRCPT TO:<c@d>\nDATA\nhi\n..\n.\nRSET\nVRFY x\n");
        assert_eq!(codes(&replies), "220 250 250 250 354 250 250 252");
        assert_eq!(taken[0].1.bytes(), b"hi\n.\n");
    }

    #[test]
    fn several_messages_go_one_after_the_other() {
        let one = "MAIL FROM:<a@b>\r\nRCPT TO:<c@d>\r\nDATA\r\n.\r\n";
        let (replies, taken) = talk(one.repeat(3).as_bytes());
        assert_eq!(codes(&replies), "220 250 250 354 250 250 250 354 250 250 250 354 250");
        assert!(taken.len() == 3 && taken.iter().all(|(_, m)| m.bytes().is_empty()));
    }

    #[test]
    fn a_refused_message_does_not_end_the_dialogue() {
        let (replies, taken) = talk(
            b"MAIL FROM:<a@b>\r\nRCPT TO:<nobody>\r\nDATA\r\nx\r\n.\r\nMAIL FROM:<a@b>\r\nRCPT TO:<c>\r\nDATA\r\n.\r\n",
        );
        assert_eq!(replies[4], "554 5.3.5 nowhere to go");
        assert_eq!((codes(&replies[5..]).as_str(), taken.len()), ("250 250 354 250", 1));
    }

    #[test]
    fn what_has_no_end_is_not_handed_over() {
        let begin = b"MAIL FROM:<a@b>\r\nRCPT TO:<c@d>\r\nDATA\r\n";
        for rest in [
            &b""[..],
            b"text",
            b"text\r\n",
            b"text\r\n.",
            b"text\r\n.\n",
            b"text\n.\r\n",
            b"\r\n.\r",
        ] {
            let (replies, taken) = talk(&[&begin[..], rest].concat());
            assert_eq!((codes(&replies).as_str(), taken.len()), ("220 250 250 354", 0), "{rest:?}");
        }
    }

    #[test]
    fn every_line_has_its_reply() {
        let cases: &[(&str, &str)] = &[
            ("FLY", "500 5.5.2"),
            ("", "500 5.5.2"),
            ("EHLO", "501 5.5.4"),
            ("RCPT TO:<a@b>", "503 5.5.1"),
            ("DATA", "503 5.5.1"),
            ("MAIL", "501 5.5.4"),
            ("MAIL FROM:a@b", "501 5.5.4"),
            ("MAIL FROM:<a@b", "501 5.5.4"),
            ("MAIL FROM:<a@b>x", "501 5.5.4"),
            ("MAIL FROM:<a@b> RET=FULL", "555 5.5.4"),
            ("MAIL FROM:<a@b> SIZE=big", "555 5.5.4"),
            ("MAIL FROM:<a@b> a\u{1b}[2Jb", "555 5.5.4 a?[2Jb is"),
            ("MAIL FROM:<a b@c>", "501 5.1.7"),
            ("MAIL FROM:<\"a >b\"@c>", "250 2.1.0"),
            ("MAIL FROM:<a@b>", "503 5.5.1"),
            ("DATA", "503 5.5.1"),
            ("RCPT FROM:<a@b>", "501 5.5.4"),
            ("RCPT TO:<>", "501 5.1.3"),
            ("RCPT TO:<a@>", "501 5.1.3 that is not an address: what stands behind the @"),
            ("RCPT TO:<a@b..c>", "501 5.1.3 that is not an address: what stands behind the @"),
            ("RCPT TO:<a@b@c>", "501 5.1.3 that is not an address: it has a space"),
            ("RCPT TO:<\"a\"b\"@c>", "501 5.5.4"),
            ("RCPT TO:<\"\">", "501 5.1.3 that is not an address: it is empty"),
            ("RCPT TO:<a@b,c@d>", "501 5.1.3 that is not an address"),
            ("RCPT TO:<a@b> NOTIFY=NEVER", "555 5.5.4"),
            ("RCPT TO:<@x,@y:a@b>", "250 2.1.5"),
            ("RCPT TO:<j\u{fc}rgen@b>", "250 2.1.5"),
            ("DATA now", "501 5.5.4"),
            ("NOOP anything", "250 2.0.0"),
            ("VRFY anna", "252 2.5.0"),
            ("RSET", "250 2.0.0"),
            ("RCPT TO:<a@b>", "503 5.5.1"),
        ];
        let input: String = cases.iter().map(|(line, _)| format!("{line}\r\n")).collect();
        let (replies, _) = talk(input.as_bytes());
        assert_eq!(replies.len(), cases.len() + 1);
        for ((line, wanted), reply) in cases.iter().zip(&replies[1..]) {
            assert!(reply.starts_with(wanted), "{line:?}: {reply}");
        }
    }

    #[test]
    fn lines_are_bounded() {
        let long = "x".repeat(1 << 20);
        let (replies, _) = talk(format!("NOOP {long}\r\nNOOP\r\n\n").as_bytes());
        assert_eq!(codes(&replies), "220 500 250 500");
        assert_eq!(codes(&talk(long.as_bytes()).0), "220");
        assert_eq!(codes(&talk(b"NOOP \xff\r\nNOOP").0), "220 500");
        // Text of a message may be as long as it likes.
        let begin = "MAIL FROM:<a@b>\r\nRCPT TO:<c@d>\r\nDATA\r\n";
        let (_, taken) = talk(format!("{begin}{long}\r\n.\r\n").as_bytes());
        assert_eq!(taken[0].1.bytes().len(), long.len() + 2);
    }

    #[test]
    fn messages_are_bounded() {
        let begin = "MAIL FROM:<a@b>\r\nRCPT TO:<c@d>\r\nDATA\r\n";
        let line = format!("{}\r\n", "x".repeat(998));
        for long in ["x".repeat(3 << 20) + "\r\n", line.repeat(3 << 10)] {
            let input = format!("{begin}{long}.x\r\n\r\n.\r\n{begin}short\r\n.\r\n");
            let (replies, taken) = talk(input.as_bytes());
            assert_eq!(codes(&replies), "220 250 250 354 552 250 250 354 250");
            assert_eq!(taken.len(), 1);
            assert_eq!(taken[0].1.bytes(), b"short\r\n");
        }
    }
}
