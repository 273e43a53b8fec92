//! One message's transaction: the envelope first, the message when its intent is durable.
//!
//! ```text
//!  begin:   MAIL ─► RCPT … ─► somebody is accepted ── the intent is stored meanwhile ──►
//!  finish:  DATA ─► the body ─► the mark ─► the dot ─► the last answer; in LMTP one for each recipient
//!                                             └─ from its first byte on, no answer means that nobody knows
//! ```

use std::io::Read;
use std::time::Duration;

use lettre::transport::smtp::commands::Data;
use sundown_core::provider::{Outcome, ProviderError, RecipientResult, Transmission};
use sundown_mail::status::is_enhanced;
use sundown_protocol::Code;

use super::answer::{Answer, Meaning};
use super::auth::not_logged_on;
use super::body::{OnWire, PIECE, Survey};
use super::connection::Connection;
use super::dialect::Dialect;
use super::dots::{Dot, Fate, Leave};
use super::envelope::{Envelope, Unfit};
use crate::files::read;
use crate::network::trouble::{Kind, Trouble};

/// Commands that are sent without waiting for an answer to each. Their answers fit into the buffers between us, or both
/// sides would wait for each other.
const BATCH: usize = 50;

/// How long is waited for the words of a server that has closed the connection or spoken unasked.
const LAST_WORDS: Duration = Duration::from_secs(1);

/// Answers that want somebody else logged on (RFC 4954, 6).
const LOG_ON_FIRST: [u16; 4] = [530, 534, 535, 538];

/// What became of the envelope.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Begun {
    /// Recipients that the server takes the message for. If there are none, there is no transaction either.
    pub(super) accepted: Vec<usize>,
    /// The others.
    pub(super) refused: Vec<RecipientResult>,
}

/// Why there is no answer about the envelope.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum NotBegun {
    /// The conversation broke off.
    Broken(Trouble),
    /// The server closes the connection, in its words.
    Closing(At, String),
    /// The server wants somebody else.
    NotLoggedOn(String),
}

/// Where in an envelope a server closes the connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum At {
    /// In the answer to MAIL: it takes no message now, from any sender.
    Sender,
    /// It has heard of a recipient.
    Recipient,
}

impl NotBegun {
    /// What a caller is told.
    pub(super) fn into_error(self, place: &str) -> ProviderError {
        match self {
            Self::Broken(trouble) => trouble.into_error(),
            Self::Closing(_, words) => {
                ProviderError::new(Code::E_CALL_FAILED, format!("{place} ended it: {words}"))
            }
            Self::NotLoggedOn(words) => not_logged_on(place, &words),
        }
    }
}

impl From<Trouble> for NotBegun {
    fn from(trouble: Trouble) -> Self {
        Self::Broken(trouble)
    }
}

/// Tells the server who writes to whom. The sender need not be that of the submission.
pub(super) fn begin(
    connection: &mut Connection,
    (transmission, sender): (&Transmission, &str),
    survey: &Survey,
) -> Result<Begun, NotBegun> {
    let envelope = match Envelope::new(connection, (transmission, sender), survey) {
        Ok(envelope) => envelope,
        Err(Unfit(words)) => return Ok(all_refused(transmission, Outcome::Failed, &words)),
    };
    let mut begun = Begun { accepted: Vec::new(), refused: envelope.refused };
    let mut rest = &envelope.recipients[..];
    while !rest.is_empty() && begun.accepted.is_empty() {
        let most = connection.most_recipients.unwrap_or(rest.len());
        let (now, later) = rest.split_at(most.min(rest.len()));
        rest = later;
        let mail = envelope_of(connection, (&envelope.mail, now), &mut begun)?;
        if let Some((outcome, words)) = mail {
            // Whom it does not take the message from, it takes it from for nobody.
            begun.refused.extend(all(rest, outcome, &words));
            return Ok(begun);
        }
        if begun.accepted.is_empty() && !rest.is_empty() && !connection.reset() {
            return Err(nonsense(connection));
        }
    }
    let words = format!("{} takes no more recipients at once", connection.place());
    begun.refused.extend(all(rest, Outcome::NotSent, &words));
    Ok(begun)
}

/// One envelope. What the server says of the sender, if it does not take the message from there, is everybody's result.
fn envelope_of(
    connection: &mut Connection,
    (mail, recipients): (&String, &[(usize, String)]),
    begun: &mut Begun,
) -> Result<Option<(Outcome, String)>, NotBegun> {
    let commands = [mail].into_iter().chain(recipients.iter().map(|(_, command)| command));
    let answers = ask(connection, &commands.collect::<Vec<_>>())?;
    let (mail, answers) = answers.split_first().ok_or_else(|| nonsense(connection))?;
    if let Some(outcome) = refusal(mail) {
        if LOG_ON_FIRST.contains(&mail.code()) {
            return Err(NotBegun::NotLoggedOn(mail.words()));
        }
        begun.refused.extend(all(recipients, outcome, &mail.words()));
        return Ok(Some((outcome, mail.words())));
    }
    let taken = answers.iter().filter(|answer| refusal(answer).is_none()).count();
    let mut is_full = false;
    for ((recipient, _), answer) in recipients.iter().zip(answers) {
        let full = taken > 0 && is_too_many(answer);
        is_full |= full;
        match refusal(answer) {
            None => begun.accepted.push(*recipient),
            Some(_) if full => {
                begun.refused.extend(results([*recipient], Outcome::NotSent, answer));
            }
            Some(outcome) => begun.refused.extend(results([*recipient], outcome, answer)),
        }
    }
    if is_full {
        connection.most_recipients = Some(taken);
    }
    Ok(None)
}

/// Whether an answer to RCPT, when others were taken, says that there are too many of them (RFC 5321, 4.5.3.1.10): they go in the next
/// transaction. By old custom it is also 552, which says of a mailbox that it is full, or of a message that it is too large, when its
/// enhanced status does.
fn is_too_many(answer: &Answer) -> bool {
    let words = answer.words();
    let status = words.split(' ').nth(1).filter(|word| is_enhanced(word)).unwrap_or_default();
    match answer.code() {
        452 => status.is_empty() || status == "4.5.3",
        552 => !status.starts_with("5.2.") && status != "5.3.4",
        _ => status == "4.5.3",
    }
}

fn all(
    recipients: &[(usize, String)],
    outcome: Outcome,
    words: &str,
) -> impl Iterator<Item = RecipientResult> {
    let one = |(recipient, _): &(usize, String)| RecipientResult {
        recipient: *recipient,
        outcome,
        reply: words.to_owned(),
    };
    recipients.iter().map(one).collect::<Vec<_>>().into_iter()
}

/// Says all commands and gives back the answers; only the first one's, and maybe some more, if that is refused.
fn ask(connection: &mut Connection, commands: &[&String]) -> Result<Vec<Answer>, NotBegun> {
    let batch = if connection.offer.has("PIPELINING") { BATCH } else { 1 };
    let mut answers: Vec<Answer> = Vec::with_capacity(commands.len());
    for commands in commands.chunks(batch) {
        let lines: String = commands.iter().map(|line| line.as_str()).collect();
        connection.send(lines.as_bytes())?;
        for _ in commands {
            let answer = connection.answer()?;
            if answer.closes() {
                let at = if answers.is_empty() { At::Sender } else { At::Recipient };
                return Err(NotBegun::Closing(at, answer.words()));
            }
            answers.push(answer);
        }
        if answers.first().is_some_and(|mail| mail.meaning() != Meaning::Done) {
            break;
        }
    }
    Ok(answers)
}

fn nonsense(connection: &Connection) -> NotBegun {
    let words = format!("{} gave no answer", connection.place());
    NotBegun::Broken(Trouble { kind: Kind::Nonsense, words })
}

fn refusal(answer: &Answer) -> Option<Outcome> {
    match answer.meaning() {
        Meaning::Done => None,
        Meaning::Never => Some(Outcome::Failed),
        Meaning::Later | Meaning::GoOn => Some(Outcome::Later),
    }
}

fn results<'a>(
    recipients: impl IntoIterator<Item = usize> + 'a,
    outcome: Outcome,
    answer: &Answer,
) -> impl Iterator<Item = RecipientResult> + 'a {
    let reply = answer.words();
    let one = move |recipient| RecipientResult { recipient, outcome, reply: reply.clone() };
    recipients.into_iter().map(one)
}

fn all_refused(transmission: &Transmission, outcome: Outcome, words: &str) -> Begun {
    let one = |(recipient, _): &(usize, String)| {
        let recipient = *recipient;
        RecipientResult { recipient, outcome, reply: words.to_owned() }
    };
    Begun { accepted: Vec::new(), refused: transmission.recipients.iter().map(one).collect() }
}

/// What became of the message.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Finished {
    /// For whom, and why.
    pub(super) said: Said,
    /// Whether the connection can be used again.
    pub(super) after: After,
}

/// What became of the message for the recipients that were accepted, each time in the server's words or ours.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Said {
    /// The same for all.
    OfAll(Outcome, String),
    /// For each, in their order.
    OfEach(Vec<(Outcome, String)>),
}

impl Said {
    /// The results of these recipients.
    pub(super) fn of(self, accepted: &[usize]) -> Vec<RecipientResult> {
        let each = match self {
            Self::OfAll(outcome, words) => vec![(outcome, words); accepted.len()],
            Self::OfEach(each) => each,
        };
        let one = |(recipient, (outcome, reply))| RecipientResult { recipient, outcome, reply };
        accepted.iter().copied().zip(each).map(one).collect()
    }

    fn outcomes(&self) -> Vec<Outcome> {
        match self {
            Self::OfAll(outcome, _) => vec![*outcome],
            Self::OfEach(each) => each.iter().map(|(outcome, _)| *outcome).collect(),
        }
    }
}

/// What a connection is good for after a transaction.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum After {
    /// Another one can begin.
    Clean,
    /// Another one can begin after a RSET.
    Unfinished,
    /// Nothing.
    Broken,
}

impl Finished {
    fn new(outcome: Outcome, words: impl Into<String>, after: After) -> Self {
        Self { said: Said::OfAll(outcome, words.into()), after }
    }

    /// What became of the message, if that is certain, and the same for all.
    fn fate(&self) -> Option<Fate> {
        let mut fates: Vec<_> = self.said.outcomes().into_iter().map(fate_of).collect();
        fates.dedup();
        if fates.len() == 1 { fates.pop().flatten() } else { None }
    }

    /// By an answer, which ends the transaction or leaves it as it was before DATA.
    fn by(answer: &Answer, after: After) -> Self {
        let after = if answer.closes() { After::Broken } else { after };
        Self::new(outcome_of(answer), answer.words(), after)
    }
}

fn fate_of(outcome: Outcome) -> Option<Fate> {
    match outcome {
        Outcome::Sent | Outcome::Relayed | Outcome::Delivered => Some(Fate::Sent),
        Outcome::Failed | Outcome::Later | Outcome::Offline | Outcome::NotSent => {
            Some(Fate::NotSent)
        }
        Outcome::Unknown => None,
    }
}

fn outcome_of(answer: &Answer) -> Outcome {
    match answer.meaning() {
        Meaning::Done => Outcome::Sent,
        Meaning::Never => Outcome::Failed,
        Meaning::Later | Meaning::GoOn => Outcome::Later,
    }
}

/// Hands the message over for so many accepted recipients. Where the attempt has a slot for its dot, that is begun before the dot is
/// sent.
pub(super) fn finish(
    connection: &mut Connection,
    message: impl Read,
    accepted: usize,
    dot: Option<&Dot>,
) -> Finished {
    let answer = match connection.command(&Data.to_string()) {
        Ok(answer) => answer,
        Err(trouble) => {
            let lost = trouble.kind == Kind::Lost;
            let outcome = if lost { Outcome::Offline } else { Outcome::Later };
            return Finished::new(outcome, trouble.words, After::Broken);
        }
    };
    match answer.meaning() {
        Meaning::GoOn => {}
        // Done, and nothing was sent: this server does not know what it does.
        Meaning::Done => return Finished::new(Outcome::Later, answer.words(), After::Broken),
        Meaning::Later | Meaning::Never => return Finished::by(&answer, After::Unfinished),
    }
    if let Err(finished) = send_body(connection, message) {
        return finished;
    }
    let finished = match Leave::take(dot) {
        Ok(leave) => end(connection, accepted, leave),
        Err(why) => return Finished::new(Outcome::Later, why.to_string(), After::Broken),
    };
    if let (Some(dot), Some(fate)) = (dot, finished.fate()) {
        dot.answered(fate);
    }
    finished
}

/// The body up to its last line end. If it breaks off, the message was surely not taken: it has no end.
fn send_body(connection: &mut Connection, mut message: impl Read) -> Result<(), Finished> {
    let mut wire = OnWire::default();
    let (mut input, mut output) = (vec![0; PIECE], Vec::with_capacity(2 * PIECE));
    loop {
        let n = read(&mut message, &mut input).map_err(|error| {
            let words = format!("the message could not be read: {error}");
            Finished::new(Outcome::Later, words, After::Broken)
        })?;
        output.clear();
        if n == 0 {
            wire.finish(&mut output);
        } else {
            wire.feed(&input[..n], &mut output);
        }
        connection.send(&output).map_err(|trouble| broken_off(connection, trouble))?;
        if n == 0 {
            return last_words(connection);
        }
    }
}

/// A server that has had enough mostly says so, and does not listen any more.
fn broken_off(connection: &mut Connection, trouble: Trouble) -> Finished {
    match last_words(connection) {
        Err(finished) => finished,
        Ok(()) => Finished::new(Outcome::Later, trouble.words, After::Broken),
    }
}

/// Whatever a server says before the end of the message is its last word.
fn last_words(connection: &mut Connection) -> Result<(), Finished> {
    if connection.is_quiet() {
        return Ok(());
    }
    match connection.answer_within(LAST_WORDS) {
        // In LMTP it may be about one recipient, and nobody knows which.
        Ok(answer) if answer.meaning() == Meaning::Never && connection.dialect == Dialect::Smtp => {
            Err(Finished::by(&answer, After::Broken))
        }
        Ok(answer) => Err(Finished::new(Outcome::Later, answer.words(), After::Broken)),
        // It was no answer after all: TLS has things of its own to say.
        Err(trouble) if trouble.kind == Kind::Silent => Ok(()),
        Err(trouble) => Err(Finished::new(Outcome::Later, trouble.words, After::Broken)),
    }
}

/// The dot. From its first byte on, only an answer tells what became of the message.
fn end(connection: &mut Connection, accepted: usize, leave: Leave) -> Finished {
    let before = connection.sent();
    if let Err(trouble) = connection.send_dot(leave) {
        if connection.sent() == before {
            return Finished::new(Outcome::Later, trouble.words, After::Broken);
        }
        return Finished::new(Outcome::Unknown, unknown(&trouble), After::Broken);
    }
    match connection.dialect {
        Dialect::Smtp => match answer_to_dot(connection) {
            Ok(answer) => Finished::by(&answer, After::Clean),
            Err(trouble) => Finished::new(Outcome::Unknown, unknown(&trouble), After::Broken),
        },
        Dialect::Lmtp => answers_to_dot(connection, accepted),
    }
}

fn answer_to_dot(connection: &mut Connection) -> Result<Answer, Trouble> {
    // RFC 5321 gives a server twice the time for this one; losing patience here costs most.
    let answer = connection.answer_within(connection.timeout() * 2)?;
    if answer.meaning() == Meaning::GoOn {
        let words = format!("{} answered {}", connection.place(), answer.words());
        return Err(Trouble { kind: Kind::Nonsense, words });
    }
    Ok(answer)
}

/// One answer for each recipient. Where they break off, what was answered is certain, and the rest is unknown.
fn answers_to_dot(connection: &mut Connection, accepted: usize) -> Finished {
    let (mut each, mut after) = (Vec::with_capacity(accepted), After::Clean);
    while each.len() < accepted {
        match answer_to_dot(connection) {
            Ok(answer) => {
                each.push((outcome_of(&answer), answer.words()));
                if answer.closes() {
                    after = After::Broken;
                }
            }
            Err(trouble) => {
                each.resize(accepted, (Outcome::Unknown, unknown(&trouble)));
                after = After::Broken;
            }
        }
    }
    Finished { said: Said::OfEach(each), after }
}

fn unknown(trouble: &Trouble) -> String {
    format!("{}, when it had the whole message; it may have gone out", trouble.words)
}
