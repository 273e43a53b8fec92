//! The queue as `mailq` prints it: in the format of Postfix, which programs that watch queues read.
//!
//! Those that know nullmailer count lines that begin with a time and a size: each message has one, behind the line that Postfix has.

use std::fmt::Write as _;
use std::os::unix::fs::MetadataExt;

use mail_parser::DateTime;
use sundown_client::{Error, Mapi, QueueRow, RecipientRow, SubmissionState};

use super::counter::Broker;
use crate::safe;

/// The width of a line in which a reason ends, as in Postfix.
const WIDTH: usize = 76;

/// What stands in the last line without a message. Programs take nothing else for an empty queue.
const EMPTY: &str = "Mail queue is empty\n";

/// How much of the queue a user sees.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Seen {
    Everything,
    /// The user's own messages, and those of profiles that it administers.
    Own,
}

/// How much this user sees of the queue of programs like this one. The broker shows everything to its own user and to root.
pub(super) fn seen(mapi: &Mapi, broker: Broker) -> Result<Seen, Error> {
    let user = rustix::process::geteuid();
    match broker {
        Broker::Instead => return Ok(Seen::Own),
        Broker::Systems | Broker::Own if user.is_root() => return Ok(Seen::Everything),
        Broker::Systems | Broker::Own => {}
    }
    let process = format!("/proc/{}", mapi.status()?.pid);
    let owner = std::fs::metadata(process).map(|process| process.uid());
    let owns = owner.is_ok_and(|owner| owner == user.as_raw());
    Ok(if owns { Seen::Everything } else { Seen::Own })
}

/// The messages that are not final, and how many there are. Of a queue that is not seen whole nothing is said about its length.
pub(super) fn postfix(rows: &[QueueRow], seen: Seen) -> String {
    let waiting: Vec<_> = rows.iter().filter(|row| waits(row).next().is_some()).collect();
    let mut text = String::new();
    if !waiting.is_empty() {
        text += "----Queue ID----- --Size-- ---Arrival Time---- --Sender/Recipient------\n";
    }
    for row in &waiting {
        push(&mut text, row);
        text.push('\n');
    }
    let kbytes = waiting.iter().map(|row| row.size).sum::<u64>() / 1024;
    match (seen, waiting.len()) {
        (Seen::Own, _) => {}
        (Seen::Everything, 0) => text += EMPTY,
        (Seen::Everything, 1) => _ = writeln!(text, "-- {kbytes} Kbytes in 1 Request."),
        (Seen::Everything, n) => _ = writeln!(text, "-- {kbytes} Kbytes in {n} Requests."),
    }
    text
}

fn waits(row: &QueueRow) -> impl Iterator<Item = &RecipientRow> {
    row.recipients.iter().filter(|recipient| !recipient.state.is_final())
}

fn push(text: &mut String, row: &QueueRow) {
    let at = DateTime::from_timestamp((row.submitted / 1000).cast_signed());
    let sign = match row.state {
        SubmissionState::Transmitting => "*",
        SubmissionState::Held => "!",
        _ => "",
    };
    let (id, size) = (format!("{}{sign}", row.entry), row.size);
    let sender =
        if row.from.is_empty() { "MAILER-DAEMON".to_owned() } else { safe::line(&row.from) };
    let _ = writeln!(text, "{id:<17} {size:>8} {:>19} {sender}", arrival(at));
    let DateTime { year, month, day, hour, minute, second, .. } = at;
    let _ = writeln!(
        text,
        "{year:04}-{month:02}-{day:02} {hour:02}:{minute:02}:{second:02} {size} bytes from <{}>",
        safe::line(&row.from)
    );
    let mut last = None;
    for recipient in waits(row) {
        let reason = recipient.reply.as_ref().or(row.last_error.as_ref());
        if let Some(reason) = reason.filter(|reason| last != Some(*reason)) {
            let reason = format!("({})", safe::line(reason));
            let _ = writeln!(text, "{reason:>WIDTH$}");
        }
        last = reason;
        let _ = writeln!(text, "{:46} {}", "", safe::line(&recipient.address));
    }
}

/// `Sun Nov 29 14:30:40`, in UTC.
fn arrival(at: DateTime) -> String {
    let date = at.to_rfc822();
    match &date.split([' ', ',']).filter(|word| !word.is_empty()).collect::<Vec<_>>()[..] {
        [weekday, day, month, _, time, ..] => format!("{weekday} {month} {day:>2} {time}"),
        _ => date,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(state: SubmissionState, from: &str, to: &[(&str, SubmissionState)]) -> QueueRow {
        let recipient = |(address, state): &(&str, SubmissionState)| RecipientRow {
            address: (*address).to_owned(),
            state: *state,
            reply: Some("451 4.3.0 later\u{1b}\n".to_owned()),
        };
        QueueRow {
            entry: "0521bae7227dd0be64f5aace4310f8e47b80387e".parse().expect("an entry"),
            profile: "default".to_owned(),
            state,
            from: from.to_owned(),
            recipients: to.iter().map(recipient).collect(),
            subject: "s".to_owned(),
            attempts: 1,
            next_attempt: None,
            last_error: None,
            submitted: 1_795_962_640_000,
            size: 1500,
        }
    }

    #[test]
    fn a_queue_is_printed_as_by_postfix() {
        use SubmissionState::{Deferred, Held, Sent};
        let rows = [
            row(
                Deferred,
                "anna@x.org",
                &[("bo@y.org", Deferred), ("c@y.org", Sent), ("d@y.org", Deferred)],
            ),
            row(Held, "", &[("bo@y.org", Held)]),
            row(Sent, "anna@x.org", &[("bo@y.org", Sent)]),
        ];
        let id = "0521bae7227dd0be64f5aace4310f8e47b80387e";
        let reason = format!("{}(451 4.3.0 later� )", " ".repeat(57));
        let indent = " ".repeat(47);
        let wanted = format!(
            "----Queue ID----- --Size-- ---Arrival Time---- --Sender/Recipient------\n\
             {id}     1500 Sun Nov 29 14:30:40 anna@x.org\n\
             2026-11-29 14:30:40 1500 bytes from <anna@x.org>\n\
             {reason}\n{indent}bo@y.org\n{indent}d@y.org\n\n\
             {id}!     1500 Sun Nov 29 14:30:40 MAILER-DAEMON\n\
             2026-11-29 14:30:40 1500 bytes from <>\n\
             {reason}\n{indent}bo@y.org\n\n\
             -- 2 Kbytes in 2 Requests.\n"
        );
        assert_eq!(postfix(&rows, Seen::Everything), wanted);
        let one = postfix(&rows[1..], Seen::Everything);
        assert!(one.ends_with("\n-- 1 Kbytes in 1 Request.\n"), "{one}");
    }

    /// Only a queue that is seen whole is ever said to be empty, or to have so many messages.
    #[test]
    fn only_what_is_seen_whole_is_counted() {
        let rows = [row(SubmissionState::Queued, "a", &[("b", SubmissionState::Queued)])];
        assert_eq!(postfix(&[], Seen::Everything), "Mail queue is empty\n");
        assert_eq!(postfix(&[], Seen::Own), "");
        assert!(!postfix(&rows, Seen::Own).contains("Request"));
    }
}
