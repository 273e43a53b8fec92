//! Asks before a logoff that concerns others: what MAPI's flag for dialogs is for.
//!
//! Nothing is asked without a terminal, so that no script waits for an answer that nobody gives.

use std::io::{self, BufRead, IsTerminal, Write};

use sundown_client::{Code, Error, Mapi, QueueRow, Session};

use crate::cli::LogoffArguments;
use crate::output::{self, ago};

/// How many messages are shown; the others are counted.
const SHOWN: usize = 10;

/// What is at stake.
struct Stake {
    session: u64,
    profile: String,
    /// Whether it ends for everybody.
    shared: bool,
    others: Vec<Other>,
    queue: Result<Vec<QueueRow>, Error>,
}

/// Another member of the session.
struct Other {
    program: String,
    pid: u32,
    since: u64,
}

/// Asks, if somebody is there to answer and has not done so yet. A no is `MAPI_E_USER_CANCEL`.
pub(super) fn first(
    arguments: &LogoffArguments,
    mapi: &Mapi,
    session: &Session,
) -> Result<(), Error> {
    let concerns = arguments.shared || arguments.drain.is_some();
    if !concerns || arguments.yes || !io::stdin().is_terminal() || !io::stderr().is_terminal() {
        return Ok(());
    }
    let stake = Stake::of(arguments, mapi, session)?;
    stake.confirm(&mut io::stdin().lock(), &mut io::stderr())
}

impl Stake {
    fn of(arguments: &LogoffArguments, mapi: &Mapi, session: &Session) -> Result<Self, Error> {
        let status = mapi.status()?;
        let ours = status.sessions.into_iter().find(|other| other.id == session.id());
        let members = ours.map(|session| session.members).unwrap_or_default();
        let others = members.into_iter().filter(|member| member.id != session.member());
        let other =
            others.map(|m| Other { program: m.peer.program, pid: m.peer.pid, since: m.since });
        let profile = session.profile();
        Ok(Self {
            session: session.id().0,
            shared: arguments.shared,
            others: other.collect(),
            queue: mapi.queue(Some(&profile), false),
            profile,
        })
    }

    /// Shows it and asks until the answer is one. Without an answer nothing is done.
    fn confirm(&self, input: &mut impl BufRead, output: &mut impl Write) -> Result<(), Error> {
        say(output, &self.text())?;
        loop {
            say(output, &format!("{} [y/N] ", self.question()))?;
            let mut answer = String::new();
            match input.read_line(&mut answer) {
                Ok(0) => {
                    say(output, "\n")?;
                    return Err(cancelled("the input has ended"));
                }
                Ok(_) => {}
                Err(error) => return Err(cancelled(&error.to_string())),
            }
            match answer.trim().to_lowercase().as_str() {
                "y" | "yes" => return Ok(()),
                "n" | "no" | "" => return Err(cancelled("the answer was no")),
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
        if self.others.is_empty() {
            return "nobody else is attached\n".to_owned();
        }
        let row =
            |other: &Other| vec![other.program.clone(), other.pid.to_string(), ago(other.since)];
        let rows: Vec<_> = self.others.iter().map(row).collect();
        output::table(&["also attached", "pid", "since"], &rows)
    }

    fn queue(&self) -> String {
        let rows = match &self.queue {
            Ok(rows) => rows,
            Err(error) => return format!("what is queued cannot be seen: {error}\n"),
        };
        if rows.is_empty() {
            return "nothing is queued\n".to_owned();
        }
        let row = |row: &QueueRow| {
            let to = row.recipients.first().map(|first| first.address.clone());
            vec![row.subject.clone(), to.unwrap_or_default(), row.state.name().to_owned()]
        };
        let shown: Vec<_> = rows.iter().take(SHOWN).map(row).collect();
        let mut text = output::table(&["still queued", "to", "state"], &shown);
        if rows.len() > SHOWN {
            text += &format!("and {} more\n", rows.len() - SHOWN);
        }
        text + "What is queued stays, and is sent later.\n"
    }
}

fn say(output: &mut impl Write, text: &str) -> Result<(), Error> {
    let written = output.write_all(text.as_bytes()).and_then(|()| output.flush());
    written.map_err(|error| cancelled(&error.to_string()))
}

fn cancelled(why: &str) -> Error {
    let text = format!("nothing was done, the session goes on: {why}");
    output::error(Code::E_USER_CANCEL, text)
}

#[cfg(test)]
mod tests {
    use sundown_client::{RecipientRow, SubmissionState};

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
        let queue = Ok(vec![row("Report")]);
        Stake { session: 2, profile: "work".into(), shared, others: vec![tray], queue }
    }

    /// What comes of these answers, and what was shown.
    fn answered(stake: &Stake, answers: &str) -> (Result<(), Error>, String) {
        let mut output = Vec::new();
        let result = stake.confirm(&mut answers.as_bytes(), &mut output);
        (result, String::from_utf8(output).expect("text"))
    }

    #[test]
    fn it_shows_who_is_attached_and_what_is_queued() {
        let (result, shown) = answered(&stake(true), "y\n");
        result.expect("a yes");
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
            assert!(answered(&stake(true), yes).0.is_ok(), "{yes:?}");
        }
        for no in ["n\n", "No\n", "\n", "", "perhaps\n", "yess\nn\n"] {
            let error = answered(&stake(true), no).0.expect_err(no);
            assert_eq!(error.code(), Code::E_USER_CANCEL, "{no:?}");
        }
        assert_eq!(answered(&stake(true), "what\n").1.matches("[y/N]").count(), 2);
    }

    #[test]
    fn it_says_so_when_there_is_nothing_at_stake() {
        let mut stake = Stake { others: Vec::new(), queue: Ok(Vec::new()), ..stake(true) };
        let shown = answered(&stake, "").1;
        assert!(shown.contains("nobody else") && shown.contains("nothing is queued"), "{shown}");
        stake.queue = Ok((0..12).map(|n| row(&format!("Subject {n}\x1b[2J"))).collect());
        let shown = answered(&stake, "").1;
        assert!(shown.contains("Subject 9?[2J") && shown.contains("and 2 more"), "{shown}");
        stake.queue = Err(output::error(Code::E_NO_ACCESS, "not yours"));
        assert!(answered(&stake, "").1.contains("cannot be seen: not yours"));
    }
}
