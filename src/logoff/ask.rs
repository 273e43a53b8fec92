//! Asks before a logoff that concerns others: the command's form of MAPI's flag for dialogs.
//!
//! The flag is set only on a terminal, so that no script waits for an answer that does not come.

use std::io::{self, BufRead, IsTerminal, Write};

use sundown_client::{Error, LogoffAnswer, LogoffQuestion, QueueRow, QueuedMail};

use crate::cli::LogoffArguments;
use crate::output::{self, ago};
use crate::safe;

/// How many messages are shown; further messages are counted.
const SHOWN: usize = 10;

/// What is at stake.
struct Stake {
    session: u64,
    profile: String,
    /// Whether the session ends for all members.
    shared: bool,
    others: Result<Vec<Other>, Error>,
    queue: Result<QueuedMail, Error>,
}

/// Another member of the session.
struct Other {
    program: String,
    pid: u32,
    since: u64,
}

/// Whether there is a person to ask, and they have not answered by an option: `MAPI_LOGOFF_UI`.
pub(super) fn is_wanted(arguments: &LogoffArguments) -> bool {
    !arguments.yes && io::stdin().is_terminal() && io::stderr().is_terminal()
}

/// Asks the person at the terminal, if the logoff concerns other members or their mail.
pub(super) fn person(arguments: &LogoffArguments, question: &LogoffQuestion<'_>) -> LogoffAnswer {
    if !arguments.shared && arguments.drain.is_none() {
        return LogoffAnswer::LogOff;
    }
    let stake = Stake::of(arguments, question);
    // If the question cannot be asked, the answer is no.
    stake.confirm(&mut io::stdin().lock(), &mut io::stderr()).unwrap_or(LogoffAnswer::Cancel)
}

impl Stake {
    fn of(arguments: &LogoffArguments, question: &LogoffQuestion<'_>) -> Self {
        let others = question.others().map(|others| {
            let other = others.into_iter().map(|member| Other {
                program: member.peer.program,
                pid: member.peer.pid,
                since: member.since,
            });
            other.collect()
        });
        Self {
            session: question.session().0,
            profile: question.profile(),
            shared: arguments.shared,
            others,
            queue: question.queued(),
        }
    }

    /// Shows what is at stake, and asks until the answer is valid. The end of the input means no.
    fn confirm(
        &self,
        input: &mut impl BufRead,
        output: &mut impl Write,
    ) -> io::Result<LogoffAnswer> {
        say(output, &self.text())?;
        loop {
            say(output, &format!("{} [y/N] ", self.question()))?;
            let mut answer = String::new();
            if input.read_line(&mut answer)? == 0 {
                say(output, "\n")?;
                return Ok(LogoffAnswer::Cancel);
            }
            match answer.trim().to_lowercase().as_str() {
                "y" | "yes" => return Ok(LogoffAnswer::LogOff),
                "n" | "no" | "" => return Ok(LogoffAnswer::Cancel),
                _ => say(output, "Say y or n.\n")?,
            }
        }
    }

    fn question(&self) -> &'static str {
        if self.shared { "End the session for everybody?" } else { "Log off?" }
    }

    fn text(&self) -> String {
        let about = format!("Session {} of profile {}\n\n", self.session, self.profile);
        about + &self.others() + "\n" + &self.queue() + "\n"
    }

    fn others(&self) -> String {
        let others = match &self.others {
            Ok(others) => others,
            Err(error) => return format!("the other programs cannot be shown: {error}\n"),
        };
        if others.is_empty() {
            return "no other program is attached\n".to_owned();
        }
        let row =
            |other: &Other| vec![other.program.clone(), other.pid.to_string(), ago(other.since)];
        let rows: Vec<_> = others.iter().map(row).collect();
        output::table(&["also attached", "pid", "since"], &rows)
    }

    fn queue(&self) -> String {
        let queued = match &self.queue {
            Ok(queued) => queued,
            Err(error) => return format!("the queued mail cannot be shown: {error}\n"),
        };
        if queued.total == 0 {
            return "nothing is queued\n".to_owned();
        }
        let row = |row: &QueueRow| {
            let to = row.recipients.first().map(|first| first.address.clone());
            vec![row.subject.clone(), to.unwrap_or_default(), row.state.name().to_owned()]
        };
        let shown: Vec<_> = queued.rows.iter().take(SHOWN).map(row).collect();
        let mut text = output::table(&["still queued", "to", "state"], &shown);
        let more = queued.total - shown.len() as u64;
        if more > 0 {
            text += &format!("and {more} more\n");
        }
        text + "Queued mail stays in the queue, and is sent later.\n"
    }
}

fn say(output: &mut impl Write, text: &str) -> io::Result<()> {
    output.write_all(safe::printed(text).as_bytes())?;
    output.flush()
}

#[cfg(test)]
mod tests {
    use sundown_client::{Code, RecipientRow, SubmissionState};

    use super::*;

    fn row(subject: &str) -> QueueRow {
        let recipient = RecipientRow {
            address: "anna@localhost".into(),
            state: SubmissionState::Deferred,
            reply: None,
        };
        QueueRow {
            entry: "0".repeat(40).parse().expect("an entry"),
            profile: "work".into(),
            state: SubmissionState::Deferred,
            from: "me@localhost".into(),
            recipients: vec![recipient],
            subject: subject.into(),
            attempts: 1,
            next_attempt: None,
            last_error: None,
            submitted: 0,
            size: 1,
        }
    }

    fn stake(shared: bool) -> Stake {
        let tray = Other { program: "tray".into(), pid: 4242, since: 0 };
        let queue = Ok(queued(vec![row("Report")]));
        Stake { session: 2, profile: "work".into(), shared, others: Ok(vec![tray]), queue }
    }

    fn queued(rows: Vec<QueueRow>) -> QueuedMail {
        QueuedMail { total: rows.len() as u64, own: 0, rows }
    }

    /// The result of these answers, and what was shown.
    fn answered(stake: &Stake, answers: &str) -> (LogoffAnswer, String) {
        let mut output = Vec::new();
        let answer = stake.confirm(&mut answers.as_bytes(), &mut output).expect("it can be shown");
        (answer, String::from_utf8(output).expect("text"))
    }

    #[test]
    fn it_shows_who_is_attached_and_what_is_queued() {
        let (answer, shown) = answered(&stake(true), "y\n");
        assert_eq!(answer, LogoffAnswer::LogOff);
        for words in ["Session 2 of profile work", "tray", "4242", "Report", "deferred"] {
            assert!(shown.contains(words), "{words} is not in\n{shown}");
        }
        assert!(shown.ends_with("End the session for everybody? [y/N] "), "{shown}");
        let (_, shown) = answered(&stake(false), "y\n");
        assert!(shown.ends_with("Log off? [y/N] "), "{shown}");
    }

    #[test]
    fn only_a_yes_goes_on() {
        for yes in ["y\n", "YES\n", "  yes \n", "perhaps\nwhy\ny\n", "y"] {
            assert_eq!(answered(&stake(true), yes).0, LogoffAnswer::LogOff, "{yes:?}");
        }
        for no in ["n\n", "No\n", "\n", "", "perhaps\n", "yess\nn\n"] {
            assert_eq!(answered(&stake(true), no).0, LogoffAnswer::Cancel, "{no:?}");
        }
        assert_eq!(answered(&stake(true), "what\n").1.matches("[y/N]").count(), 2);
    }

    #[test]
    fn it_says_so_when_there_is_nothing_at_stake() {
        let mut stake =
            Stake { others: Ok(Vec::new()), queue: Ok(queued(Vec::new())), ..stake(true) };
        let shown = answered(&stake, "").1;
        assert!(
            shown.contains("no other program") && shown.contains("nothing is queued"),
            "{shown}"
        );
        let rows = (0..12).map(|n| row(&format!("Subject {n}\x1b[2J"))).collect();
        stake.queue = Ok(queued(rows));
        let shown = answered(&stake, "").1;
        assert!(shown.contains("Subject 9�[2J") && shown.contains("and 2 more"), "{shown}");
        stake.queue = Err(output::error(Code::E_NO_ACCESS, "not yours"));
        assert!(answered(&stake, "").1.contains("the queued mail cannot be shown: not yours"));
        stake.others = Err(output::error(Code::E_NO_ACCESS, "not yours"));
        assert!(answered(&stake, "").1.contains("the other programs cannot be shown: not yours"));
    }
}
