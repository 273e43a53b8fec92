//! Findings about the broker, its providers and its queue.

use std::sync::mpsc;
use std::thread;
use std::time::{Duration, SystemTime};

use sundown_client::{
    Code, Error, ProviderHealth, ProviderStatus, QueueRow, Resource, SessionHealth, SessionStatus,
    Status, SubmissionState,
};

use super::finding::Finding;
use crate::cli::{Autostart, Context};
use crate::output;
use crate::status::{Said, of_provider, status_text};

/// How long the broker may take to answer.
const PATIENCE: Duration = Duration::from_secs(5);

/// How long a message may be deferred before a person should look at it.
const LONG: Duration = Duration::from_secs(600);

/// How long a transport may have messages without an answer before a person should know.
const SILENT: Duration = Duration::from_secs(60);

/// The error that a store shows for a damaged message, whose state it shows as unknown.
const DAMAGED: &str = "the message is damaged in the store and is not sent";

/// The broker's answers.
pub(super) struct Answer {
    pub(super) said: Said,
    queue: Result<Vec<QueueRow>, Error>,
}

/// Asks the running broker, on a thread of its own: a broker that hangs must not make this command hang.
pub(super) fn ask(context: &Context) -> Result<Answer, Error> {
    let (tell, told) = mpsc::channel();
    let context = context.clone();
    thread::spawn(move || {
        let asked = || {
            let mapi = context.initialize(Autostart::No)?;
            Ok(Answer { said: Said::ask(&mapi)?, queue: mapi.queue(None, false) })
        };
        let _ = tell.send(asked());
    });
    told.recv_timeout(PATIENCE).unwrap_or_else(|_| {
        let text = format!("it said nothing for {} s", PATIENCE.as_secs());
        Err(output::error(Code::E_TIMEOUT, text))
    })
}

/// A broker answers: its version.
pub(super) fn answers(status: &Status) -> Finding {
    let own = env!("CARGO_PKG_VERSION");
    let text = format!(
        "version {} answers at {} (pid {}), up {}",
        status.version,
        status.socket,
        status.pid,
        output::ago(status.started)
    );
    if status.version == own {
        return Finding::ok("broker", text);
    }
    let advice = format!("restart it to have version {own}, that of this command");
    Finding::warning("broker", text, advice)
}

/// A limit on the size of files that the broker was started with, if there is one: its stores cannot grow beyond it.
pub(super) fn file_limit(status: &Status) -> Option<Finding> {
    let limits = std::fs::read_to_string(format!("/proc/{}/limits", status.pid)).ok()?;
    let bytes: u64 = first_word(&limits, "Max file size")?.parse().ok()?;
    let text = format!("no file may have more than {bytes} bytes, so mail beyond that is refused");
    let advice = "the broker was started with this limit (`ulimit -f`, LimitFSIZE=): `sundown stop`, and start it without";
    Some(Finding::warning("broker", text, advice))
}

/// The first word after a name at the beginning of a line.
fn first_word<'a>(text: &'a str, name: &str) -> Option<&'a str> {
    let rest = text.lines().find_map(|line| line.strip_prefix(name))?;
    rest.split_whitespace().next()
}

/// The providers that failed, are damaged, cannot be reached, did not work when they were last used, or answer wrongly; and the sessions
/// that do not use their profile as it is.
pub(super) fn providers(said: &Said) -> Vec<Finding> {
    let mut findings = Vec::new();
    let (mut count, mut unused) = (0, 0);
    for session in &said.status.sessions {
        let health = said.of(session);
        findings.extend(health.and_then(|health| of_version(session, health)));
        let in_use = session.providers.iter().filter(|p| !p.status.starts_with("leaving"));
        for provider in in_use {
            count += 1;
            let fares = of_provider(health, provider);
            findings.extend(of_status(&session.profile, provider, fares));
            let since = health.map(|health| health.profile.read);
            findings.extend(fares.and_then(|fares| of_silence(&session.profile, fares, since)));
            let never = fares.is_some_and(|fares| fares.last.is_none());
            unused += usize::from(never && provider.kind == Resource::TransportProvider);
        }
    }
    if findings.is_empty() {
        let text = match count {
            0 => "no session runs".to_owned(),
            _ if unused == 0 => format!("{count} in {} work", sessions(said.status.sessions.len())),
            _ => {
                let works = count - unused;
                format!(
                    "{works} of {count} in {} work{}",
                    sessions(said.status.sessions.len()),
                    but(unused)
                )
            }
        };
        findings.push(Finding::ok("provider", text));
    }
    findings
}

/// That transports were not used yet, so that it is not known whether they work.
fn but(unused: usize) -> String {
    match unused {
        0 => String::new(),
        1 => "; 1 transport was not used yet, so it is not known whether it does".to_owned(),
        many => {
            format!("; {many} transports were not used yet, so it is not known whether they do")
        }
    }
}

/// A transport that has had messages for long without an answer of its server.
fn of_silence(profile: &str, fares: &ProviderHealth, since: Option<u64>) -> Option<Finding> {
    let since = fares.last.as_ref().map(|last| last.at).or(since)?;
    let then = SystemTime::UNIX_EPOCH + Duration::from_millis(since);
    let silent = then.elapsed().unwrap_or_default() >= SILENT;
    let (kind, name, flying) = (fares.kind.name(), &fares.name, fares.in_flight);
    let messages = if flying == 1 { "1 message".to_owned() } else { format!("{flying} messages") };
    let text = format!(
        "{kind} {name} of profile {profile} has {messages} and has said nothing for {}",
        output::ago(since)
    );
    let advice = format!(
        "its `timeout` ends that; look at the host, the port and `security` of the profile: a server that expects TLS from the first byte \
         says nothing without; `sundown profile check {profile}` tries it"
    );
    (silent && flying > 0).then(|| Finding::warning("provider", text, advice))
}

/// A session that does not use its profile's file as it is.
fn of_version(session: &SessionStatus, health: &SessionHealth) -> Option<Finding> {
    let note = health.profile.note.as_ref()?;
    let name = &session.profile;
    let text = format!("a session of profile {name} does not use all of it: {note}");
    let advice = if note.contains("other stores") {
        "mail in the present stores still goes out; when the session has ended, the next one opens the others: `sundown stop` ends it, and the \
         next program begins another"
            .to_owned()
    } else {
        format!("correct the file; `sundown profile reload {name}` uses it at once")
    };
    Some(Finding::warning("profile", text, advice))
}

fn of_status(
    profile: &str,
    provider: &ProviderStatus,
    fares: Option<&ProviderHealth>,
) -> Option<Finding> {
    let (kind, name, status) = (provider.kind.name(), &provider.name, &provider.status);
    let shown = status_text(provider, fares);
    let worked = match fares.map(|fares| fares.worked) {
        Some(Some(at)) => format!("; it last worked {} ago", output::ago(at)),
        Some(None) => "; it has not worked since the session began".to_owned(),
        None => String::new(),
    };
    let text = format!("{kind} {name} of profile {profile} is {shown}{worked}");
    if status == "unreachable" {
        let advice = format!(
            "its mail waits and goes out by itself when it can be reached; `sundown profile check {profile}` \
             says what is wrong, `sundown queue flush` tries at once"
        );
        return Some(Finding::warning("provider", text, advice));
    }
    if status.starts_with("failing") && provider.kind == Resource::Mailbox {
        let advice = format!(
            "its new mail is not seen, and changes of its messages wait; it works again by itself when this is over. What is said about \
             its directory says more; `sundown profile check {profile}` tries it"
        );
        return Some(Finding::warning("provider", text, advice));
    }
    if status.starts_with("failing") {
        let advice = format!(
            "its mail waits and is tried again; correct the profile if the reply says that it is wrong, which running sessions notice \
             by themselves; `sundown profile check {profile}` tries it, `sundown queue list` has what waits"
        );
        return Some(Finding::warning("provider", text, advice));
    }
    let text = format!("{kind} {name} of profile {profile} {shown}");
    let advice = if status.starts_with("failed") && kind == "store" {
        format!(
            "look at its disk, then stop the broker and start it again: a store whose disk has failed takes nothing until \
             then, and what it acknowledged stays; `sundown profile check {profile}` tries one that could not be opened"
        )
    } else if status.starts_with("failed") {
        format!(
            "correct the profile and `sundown profile reload {profile}`; `sundown profile check {profile}` tries it in a new session"
        )
    } else if status.starts_with("damaged") {
        "stop the broker and look at the disk; \"A damaged store\" in docs/operations.md says how to save \
         what is in it"
            .to_owned()
    } else if status.starts_with("wrong") {
        "this is a bug of the provider: report it to its authors; `event=wrong-answer` in the log names the calls"
            .to_owned()
    } else {
        return None;
    };
    Some(Finding::problem("provider", text, advice))
}

fn sessions(count: usize) -> String {
    if count == 1 { "one session".to_owned() } else { format!("{count} sessions") }
}

/// The messages that need a person, and those that have been deferred for long.
pub(super) fn queue(answer: &Answer) -> Vec<Finding> {
    let rows = match &answer.queue {
        Ok(rows) => rows,
        Err(error) if error.code() == Code::E_NO_ACCESS => {
            let text = format!("it cannot be looked at: {error}");
            let advice = "if you are meant to use it, ask who runs the broker to name you there";
            return vec![Finding::warning("queue", text, advice)];
        }
        Err(error) => {
            let text = format!("it cannot be looked at: {error}");
            return vec![Finding::problem("queue", text, "see what is said about the profiles")];
        }
    };
    let waiting = answer.said.status.waiting_for_mail_member;
    let has_worked = |profile: &str| {
        let sessions = answer.said.status.sessions.iter().filter(|s| s.profile == profile);
        let mut transports = sessions.filter_map(|s| answer.said.of(s)).flat_map(|h| &h.providers);
        transports.any(|p| p.kind == Resource::TransportProvider && p.worked.is_some())
    };
    let mut findings = of_rows(rows, SystemTime::now(), has_worked);
    if waiting > 0 {
        let text = format!("{} for a program that logs on with mail", wait(waiting as usize));
        findings.push(Finding::warning("queue", text, "run one: `sundown send` logs on with mail"));
    }
    if findings.is_empty() {
        findings.push(Finding::ok("queue", well(rows.len())));
    }
    findings
}

fn well(count: usize) -> String {
    match count {
        0 => "empty".to_owned(),
        1 => "1 message, and it is not stuck".to_owned(),
        _ => format!("{count} messages, and none is stuck"),
    }
}

fn wait(count: usize) -> String {
    if count == 1 { "1 message waits".to_owned() } else { format!("{count} messages wait") }
}

fn of_rows(rows: &[QueueRow], now: SystemTime, has_worked: impl Fn(&str) -> bool) -> Vec<Finding> {
    let (damaged, rows): (Vec<_>, Vec<_>) = rows.iter().partition(|row| is_damaged(row));
    let of = |state| rows.iter().filter(move |row| row.state == state);
    let oldest = |state| of(state).min_by_key(|row| row.submitted);
    let mut findings = Vec::new();
    if let Some(row) = damaged.iter().min_by_key(|row| row.submitted) {
        findings.push(of_damaged(row, damaged.len()));
    }
    if let Some(row) = oldest(SubmissionState::Unknown) {
        let count = of(SubmissionState::Unknown).count();
        let text = format!("{} and may have been sent already; it is not known", wait(count));
        let advice = format!(
            "ask a recipient of {entry}; then `sundown queue retry {entry}` if it did not arrive, \
             else `sundown queue abort {entry}`",
            entry = row.entry
        );
        findings.push(Finding::problem("queue", text, advice));
    }
    if let Some(row) = oldest(SubmissionState::Bounced) {
        findings.push(of_bounced(row, of(SubmissionState::Bounced).count()));
    }
    if let Some(row) = oldest(SubmissionState::Held) {
        let text = format!("{} until a user releases it", wait(of(SubmissionState::Held).count()));
        let advice = format!("`sundown queue release {}` releases it", row.entry);
        findings.push(Finding::warning("queue", text, advice));
    }
    if let Some(row) = oldest(SubmissionState::Deferred) {
        let since = SystemTime::UNIX_EPOCH + Duration::from_millis(row.submitted);
        let said = row.last_error.as_deref().unwrap_or("there was no reply");
        let text = format!(
            "{} for another try, the oldest since {}: {said}",
            wait(of(SubmissionState::Deferred).count()),
            output::ago(row.submitted)
        );
        let is_old = now.duration_since(since).is_ok_and(|age| age >= LONG);
        if is_old || !has_worked(&row.profile) {
            let advice = format!(
                "`sundown queue show {}` has all replies; `sundown queue flush` tries now",
                row.entry
            );
            findings.push(Finding::warning("queue", text, advice));
        } else {
            findings.push(Finding::ok("queue", text));
        }
    }
    findings
}

/// Messages that came back, and whose notifications were not read.
fn of_bounced(row: &QueueRow, count: usize) -> Finding {
    let came = if count == 1 { "1 message".to_owned() } else { format!("{count} messages") };
    let said = row.last_error.as_deref().unwrap_or("there was no reply");
    let text = format!(
        "{came} came back, the oldest submitted {} ago: {said}",
        output::ago(row.submitted)
    );
    let advice = format!(
        "`sundown queue list` shows them, `sundown queue show {}` has all replies; reading or deleting its notification \
         removes it from the list; a message without a notification stays there for a week. `[notices]` of a profile forwards notifications to an address",
        row.entry
    );
    Finding::warning("queue", text, advice)
}

fn is_damaged(row: &QueueRow) -> bool {
    row.state == SubmissionState::Unknown && row.last_error.as_deref() == Some(DAMAGED)
}

/// Damaged messages. The store does not change them until they are old, so every action of `queue` is refused.
fn of_damaged(row: &QueueRow, count: usize) -> Finding {
    let are = if count == 1 { "1 message is".to_owned() } else { format!("{count} messages are") };
    let (entry, profile) = (&row.entry, &row.profile);
    let text =
        format!("{are} damaged in the store and not sent, the oldest {entry} of profile {profile}");
    let advice = "look at the disk; \"A damaged store\" in docs/operations.md says how to save what can be read, or restore a backup. What \
                  is left is given up five days after it was submitted, and a notification in the Inbox says so";
    Finding::problem("queue", text, advice)
}

#[cfg(test)]
mod tests {
    use super::super::finding::Health;
    use super::*;

    fn row(entry: u32, state: SubmissionState, submitted: u64) -> QueueRow {
        QueueRow {
            entry: format!("{entry:040x}").parse().expect("an entry"),
            profile: "default".into(),
            state,
            from: "me@localhost".into(),
            recipients: Vec::new(),
            subject: String::new(),
            attempts: 1,
            next_attempt: None,
            last_error: Some("450 later".into()),
            submitted,
            size: 1,
        }
    }

    #[test]
    fn what_is_stuck_is_found_and_the_oldest_named() {
        use SubmissionState::{Deferred, Held, Queued, Unknown};
        let rows = [
            row(1, Unknown, 5000),
            row(2, Unknown, 4000),
            row(3, Held, 1000),
            row(4, Deferred, 2000),
            row(5, Deferred, 1000),
            row(6, Queued, 1),
        ];
        let at = |seconds| SystemTime::UNIX_EPOCH + Duration::from_secs(seconds);
        let found = of_rows(&rows, at(601), |_| true);
        let health: Vec<_> = found.iter().map(|finding| finding.health).collect();
        assert_eq!(health, [Health::Problem, Health::Warning, Health::Warning]);
        assert!(found[0].message.starts_with("2 messages wait"), "{found:?}");
        for (finding, entry) in found.iter().zip([2, 3, 5]) {
            let advice = finding.advice.as_deref().expect("advice");
            assert!(advice.contains(&format!("{entry:040x}")), "{finding:?}");
        }
        assert!(found[2].message.ends_with(": 450 later"), "{found:?}");
        assert_eq!(
            of_rows(&rows[3..], at(600), |_| true).pop().expect("deferred").health,
            Health::Ok
        );
        assert_eq!(of_rows(&rows[5..], at(600), |_| true), []);
        // Where no transport has worked nobody knows whether the next try will.
        let found = of_rows(&rows[4..], at(2), |_| false).pop().expect("deferred");
        assert_eq!(found.health, Health::Warning);
    }

    #[test]
    fn what_came_back_is_told_while_its_notification_is_unread() {
        use SubmissionState::{Bounced, Queued};
        let rows = [row(1, Bounced, 5000), row(2, Bounced, 4000), row(3, Queued, 1)];
        let found = of_rows(&rows, SystemTime::now(), |_| true);
        let [found] = &found[..] else { panic!("one finding: {found:?}") };
        assert_eq!(found.health, Health::Warning);
        assert!(found.message.starts_with("2 messages came back"), "{found:?}");
        assert!(found.message.ends_with(": 450 later"), "{found:?}");
        let advice = found.advice.as_deref().expect("advice");
        assert!(advice.contains(&format!("sundown queue show {:040x}", 2)), "{advice}");
    }

    /// No action of `queue` has an effect on it.
    #[test]
    fn what_is_damaged_is_told_apart_from_what_may_have_gone_out() {
        use SubmissionState::Unknown;
        let damaged = |entry, submitted| QueueRow {
            last_error: Some(DAMAGED.into()),
            ..row(entry, Unknown, submitted)
        };
        let found = of_rows(
            &[damaged(1, 2000), row(2, Unknown, 3000), damaged(3, 1000)],
            SystemTime::now(),
            |_| true,
        );
        let [lost, doubtful] = &found[..] else { panic!("two findings: {found:?}") };
        assert_eq!((lost.health, doubtful.health), (Health::Problem, Health::Problem));
        assert!(lost.message.starts_with("2 messages are damaged"), "{lost:?}");
        assert!(lost.message.contains(&format!("{:040x}", 3)), "{lost:?}");
        let advice = |finding: &Finding| finding.advice.clone().expect("advice");
        assert!(!advice(lost).contains("sundown queue"), "{lost:?}");
        assert!(doubtful.message.starts_with("1 message waits"), "{doubtful:?}");
        assert!(
            advice(doubtful).contains(&format!("sundown queue retry {:040x}", 2)),
            "{doubtful:?}"
        );
    }
}
