//! `sundown status`: sessions, members, providers, queue.

use std::process::ExitCode;

use serde_json::{Value, json};
use sundown_client::{
    BrokerStatus, End, Error, LimitStatus, MemberStatus, Previous, ProviderStatus, SessionStatus,
    Status, SubmissionState,
};

use crate::cli::{Autostart, Context, StatusArguments, seconds};
use crate::output::{self, Reader, ago};
use crate::terminal::{painted, plain};
use crate::watch;

pub(crate) fn run(context: &Context, arguments: &StatusArguments) -> Result<ExitCode, Error> {
    let mapi = context.initialize(Autostart::No)?;
    let interval = seconds(arguments.interval);
    if arguments.watch && watch::can_draw(context) {
        return watch::run(context, mapi, interval);
    }
    loop {
        let status = mapi.status()?;
        let broker = mapi.broker_status()?;
        let text = if context.json {
            format!("{}\n", value(&status, broker.as_ref()))
        } else {
            text(&status, broker.as_ref())
        };
        let read = output::print_bytes(text.as_bytes())?;
        if !arguments.watch || read == Reader::Gone {
            return Ok(ExitCode::SUCCESS);
        }
        std::thread::sleep(interval);
        if !context.json {
            output::print_bytes(b"\n")?;
        }
    }
}

/// `status` as JSON.
pub(crate) fn value(status: &Status, broker: Option<&BrokerStatus>) -> Value {
    let sessions: Vec<_> = status
        .sessions
        .iter()
        .map(|session| {
            let members: Vec<_> = session
                .members
                .iter()
                .map(|m| {
                    json!({
                        "id": m.id.0,
                        "pid": m.peer.pid,
                        "uid": m.uid,
                        "program": m.peer.program,
                        "since": m.since,
                        "state": m.state,
                        "no_mail": m.no_mail,
                        "objects": m.objects,
                    })
                })
                .collect();
            let providers: Vec<_> = session
                .providers
                .iter()
                .map(|p| {
                    json!({
                        "name": p.name,
                        "kind": p.kind.name(),
                        "status": p.status,
                        "fast_shutdown": p.fast_shutdown,
                    })
                })
                .collect();
            let references: Vec<_> = session
                .references
                .iter()
                .map(|r| json!({ "granter": r.granter.0, "holder": output::peer(&r.holder) }))
                .collect();
            json!({
                "id": session.id.0,
                "profile": session.profile,
                "shared": session.shared,
                "state": session.state,
                "members": members,
                "providers": providers,
                "references": references,
            })
        })
        .collect();
    let mut queue: serde_json::Map<String, Value> = SubmissionState::ALL
        .iter()
        .zip(status.queue)
        .map(|(state, count)| (state.name().to_owned(), json!(count)))
        .collect();
    queue.insert("waiting_for_mail_member".into(), json!(status.waiting_for_mail_member));
    json!({
        "broker": {
            "version": status.version,
            "pid": status.pid,
            "socket": status.socket,
            "started": status.started,
            "previous": broker.and_then(|broker| broker.previous.as_ref()).map(output::previous),
        },
        "limits": limits(broker),
        "sessions": sessions,
        "queue": queue,
    })
}

fn limits(broker: Option<&BrokerStatus>) -> Value {
    let limits = broker.map_or(&[][..], |broker| &broker.limits);
    let limit = |l: &LimitStatus| (l.name.clone(), json!({ "most": l.most, "used": l.used }));
    limits.iter().map(limit).collect::<serde_json::Map<_, _>>().into()
}

/// A line about the previous broker, unless it stopped in order.
fn fate(previous: &Previous) -> Option<String> {
    let Previous { pid, why, .. } = previous;
    let when = previous.ended.map_or(String::new(), |ended| format!(" {} ago", ago(ended)));
    (previous.end != End::Stopped)
        .then(|| format!("the broker before it (pid {pid}) did not stop in order{when}: {why}\n"))
}

/// The status for people.
fn text(status: &Status, broker: Option<&BrokerStatus>) -> String {
    let mut text = head(status, broker);
    for session in &status.sessions {
        text += "\n";
        text += &session_text(session, usize::MAX);
    }
    if status.sessions.is_empty() {
        text += "\nno sessions\n";
    }
    text + "\n" + &queue(status)
}

/// The broker, and the previous one if it did not stop in order.
pub(crate) fn head(status: &Status, broker: Option<&BrokerStatus>) -> String {
    let (version, pid, up) = (&status.version, status.pid, ago(status.started));
    let before = broker.and_then(|broker| broker.previous.as_ref()).and_then(fate);
    let socket = plain(&status.socket);
    format!("broker {version} (pid {pid}), up {up}, at {socket}\n{}", before.unwrap_or_default())
}

/// A session, with at most `most` members and providers.
pub(crate) fn session_text(session: &SessionStatus, most: usize) -> String {
    let sharing = if session.shared { "shared" } else { "private" };
    let state = painted(&session.state, &session.state);
    let mut text =
        format!("session {} of profile {}: {sharing}, {state}\n", session.id.0, session.profile);
    let members: Vec<_> = session.members.iter().take(most).map(member).collect();
    if !members.is_empty() {
        let heading = ["  member", "program", "pid", "state", "", "objects", "since"];
        text += &output::table(&heading, &members);
    }
    text += &more(session.members.len(), most, "member");
    let providers: Vec<_> = session.providers.iter().take(most).map(provider).collect();
    if !providers.is_empty() {
        text += &output::table(&["  provider", "name", "fast shutdown", "status"], &providers);
    }
    text += &more(session.providers.len(), most, "provider");
    for reference in session.references.iter().take(most) {
        let holder = &reference.holder;
        text += &format!(
            "  {} (pid {}) holds an object of member {}\n",
            plain(&holder.program),
            holder.pid,
            reference.granter.0
        );
    }
    text + &more(session.references.len(), most, "reference")
}

/// How many rows were left out.
pub(crate) fn more(all: usize, most: usize, what: &str) -> String {
    match all.saturating_sub(most) {
        0 => String::new(),
        1 => format!("  … 1 more {what}\n"),
        n => format!("  … {n} more {what}s\n"),
    }
}

fn member(member: &MemberStatus) -> Vec<String> {
    let mail = if member.no_mail { "no mail" } else { "mail" };
    vec![
        format!("  {}", member.id.0),
        member.peer.program.clone(),
        member.peer.pid.to_string(),
        member.state.clone(),
        mail.into(),
        member.objects.to_string(),
        ago(member.since),
    ]
}

fn provider(provider: &ProviderStatus) -> Vec<String> {
    vec![
        format!("  {}", provider.kind.name()),
        provider.name.clone(),
        provider.fast_shutdown.clone(),
        provider.status.clone(),
    ]
}

/// How many messages are in each state.
pub(crate) fn queue(status: &Status) -> String {
    let counts: Vec<_> = SubmissionState::ALL
        .iter()
        .zip(status.queue)
        .filter(|(_, count)| *count > 0)
        .map(|(state, count)| painted(&format!("{count} {}", state.name()), state.name()))
        .collect();
    let counts = if counts.is_empty() { "empty".into() } else { counts.join(", ") };
    let mut text = format!("queue: {counts}\n");
    let bounced = status.queue[SubmissionState::Bounced as usize];
    if bounced > 0 {
        text += &format!(
            "       {bounced} came back since the broker started; `sundown queue list` shows those with an unread notification\n"
        );
    }
    if status.waiting_for_mail_member > 0 {
        text += &format!(
            "       {} of them wait for a member with mail, or for a session of their profile\n",
            status.waiting_for_mail_member
        );
    }
    text
}
