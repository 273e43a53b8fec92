//! `sundown status`: sessions, members, providers, queue.

use std::process::ExitCode;

use serde_json::{Value, json};
use sundown_client::{
    BrokerStatus, End, Error, LimitStatus, MailboxState, Mapi, MemberStatus, Previous,
    ProviderHealth, ProviderStatus, Resource, SessionHealth, SessionStatus, Status,
    SubmissionState,
};

use crate::cli::{Autostart, Context, StatusArguments, seconds};
use crate::mailboxes;
use crate::output::{self, Reader, ago, until};
use crate::safe;
use crate::terminal::{self, painted};
use crate::watch;

pub(crate) fn run(context: &Context, arguments: &StatusArguments) -> Result<ExitCode, Error> {
    let mapi = context.initialize(Autostart::No)?;
    let interval = seconds(arguments.interval);
    if arguments.watch && watch::can_draw(context) {
        return watch::run(context, mapi, interval);
    }
    loop {
        let said = Said::ask(&mapi)?;
        let text = if context.json {
            output::document(&value(&said))
        } else {
            safe::printed(&text(&said))
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

/// What a broker says of itself.
pub(crate) struct Said {
    pub(crate) status: Status,
    pub(crate) broker: Option<BrokerStatus>,
    pub(crate) health: Vec<SessionHealth>,
    pub(crate) mailboxes: Vec<MailboxState>,
    /// How many requests were made since it started, for a user who sees all sessions.
    pub(crate) requests: Option<u64>,
}

impl Said {
    pub(crate) fn ask(mapi: &Mapi) -> Result<Self, Error> {
        // The first question has the broker look at the profiles, and the second one has what it found.
        mapi.health()?;
        let (status, broker, health) = (mapi.status()?, mapi.broker_status()?, mapi.health()?);
        let mailboxes = mapi.mailboxes()?;
        Ok(Self { status, broker, health: health.sessions, mailboxes, requests: health.requests })
    }

    /// How a session's providers fare, if the broker says so.
    pub(crate) fn of(&self, session: &SessionStatus) -> Option<&SessionHealth> {
        self.health.iter().find(|health| health.session == session.id)
    }
}

/// How a provider fares, if the broker says so.
pub(crate) fn of_provider<'a>(
    health: Option<&'a SessionHealth>,
    provider: &ProviderStatus,
) -> Option<&'a ProviderHealth> {
    let all = health.into_iter().flat_map(|health| &health.providers);
    let mut all =
        all.filter(|health| (health.kind, &health.name) == (provider.kind, &provider.name));
    // One that the profile does not have any more stands behind the one of its name that it has.
    if provider.status.starts_with("leaving") { all.next_back() } else { all.next() }
}

/// `status` as JSON.
pub(crate) fn value(said: &Said) -> Value {
    let (status, broker) = (&said.status, said.broker.as_ref());
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
                    let health = of_provider(said.of(session), p);
                    let last = health.and_then(|health| health.last.as_ref());
                    let mailbox = said.mailboxes.iter().find(|mailbox| {
                        p.kind == Resource::Mailbox
                            && mailbox.session == session.id
                            && mailbox.name == p.name
                    });
                    json!({
                        "name": p.name,
                        "kind": p.kind.name(),
                        "status": p.status,
                        "fast_shutdown": p.fast_shutdown,
                        "last": last.map(|l| json!({ "at": l.at, "worked": l.worked, "text": l.text })),
                        "worked": health.and_then(|health| health.worked),
                        "next_try": health.and_then(|health| health.next_try),
                        "in_flight": health.map(|health| health.in_flight),
                        "connections": mailbox.map(|mailbox| mailbox.connections),
                        "pending": mailbox.map(|mailbox| mailbox.pending),
                        "syncing": mailboxes::syncing(mailbox.and_then(|mailbox| mailbox.syncing)),
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
                "profile_version": said.of(session).map(|health| {
                    let version = &health.profile;
                    json!({ "changed": version.changed, "read": version.read, "note": version.note })
                }),
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
pub(crate) fn fate(previous: &Previous) -> Option<String> {
    let Previous { pid, why, .. } = previous;
    let when = previous.ended.map_or(String::new(), |ended| format!(" {} ago", ago(ended)));
    (previous.end != End::Stopped)
        .then(|| format!("the broker before it (pid {pid}) did not stop in order{when}: {why}\n"))
}

/// The status for people.
fn text(said: &Said) -> String {
    let status = &said.status;
    let mut text = head(status, said.broker.as_ref());
    for session in &status.sessions {
        text += "\n";
        text += &session_text(said, session);
    }
    if status.sessions.is_empty() {
        text += "\nno sessions\n";
    }
    text + "\n" + &queue(status)
}

/// The broker, and the previous one if it did not stop in order.
fn head(status: &Status, broker: Option<&BrokerStatus>) -> String {
    let (version, pid, up) = (&status.version, status.pid, ago(status.started));
    let before = broker.and_then(|broker| broker.previous.as_ref()).and_then(fate);
    let socket = safe::line(&status.socket);
    format!("broker {version} (pid {pid}), up {up}, at {socket}\n{}", before.unwrap_or_default())
}

/// A session with its providers and members.
fn session_text(said: &Said, session: &SessionStatus) -> String {
    let health = said.of(session);
    let sharing = if session.shared { "shared" } else { "private" };
    let state = painted(&session.state, &session.state);
    let mut text =
        format!("session {} of profile {}: {sharing}, {state}\n", session.id.0, session.profile);
    text += &version_text(health);
    let members: Vec<_> = session.members.iter().map(member).collect();
    if !members.is_empty() {
        let heading = ["  member", "program", "pid", "state", "", "objects", "since"];
        text += &output::table(&heading, &members);
    }
    text += &providers(session, health);
    for provider in &session.providers {
        text += &reason(provider, of_provider(health, provider));
    }
    for reference in &session.references {
        let holder = &reference.holder;
        text += &format!(
            "  {} (pid {}) holds an object of member {}\n",
            safe::line(&holder.program),
            holder.pid,
            reference.granter.0
        );
    }
    text
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

/// Which version of its profile's file a session has.
fn version_text(health: Option<&SessionHealth>) -> String {
    let Some(profile) = health.map(|health| &health.profile) else { return String::new() };
    let written = match profile.changed {
        Some(changed) => format!("as written {} ago", ago(changed)),
        None => "no file: what holds without one".to_owned(),
    };
    let mut text = format!("  profile: {written}, read {} ago\n", ago(profile.read));
    if let Some(note) = &profile.note {
        text += &painted(&format!("  profile: {}", safe::line(note)), "warning");
        text.push('\n');
    }
    text
}

/// The providers of a session. Their reasons stand below, so that the table is narrow; so it has no column that says nothing.
fn providers(session: &SessionStatus, health: Option<&SessionHealth>) -> String {
    let all = &session.providers;
    let special = all.iter().any(|p| p.fast_shutdown != "supported");
    let waits = all.iter().any(|p| of_provider(health, p).is_some_and(|h| h.next_try.is_some()));
    let columns = [
        ("  provider", true),
        ("name", true),
        ("fast shutdown", special),
        ("last use", true),
        ("status", true),
        ("next try", waits),
    ];
    let heading: Vec<_> = columns.iter().filter(|(_, is)| *is).map(|(word, _)| *word).collect();
    let row = |p: &ProviderStatus| {
        let health = of_provider(health, p);
        let next = health.and_then(|health| health.next_try);
        let cells = [
            format!("  {}", p.kind.name()),
            p.name.clone(),
            p.fast_shutdown.clone(),
            health.map(last_use).unwrap_or_default(),
            p.status.split(": ").next().unwrap_or_default().to_owned(),
            next.map_or_else(String::new, |next| format!("in {}", until(next))),
        ];
        let shown = cells.into_iter().zip(columns).filter(|(_, (_, is))| *is);
        shown.map(|(cell, _)| cell).collect()
    };
    let rows: Vec<Vec<String>> = all.iter().map(row).collect();
    if rows.is_empty() { String::new() } else { output::table(&heading, &rows) }
}

/// Why a provider does not work, on lines of its own.
fn reason(provider: &ProviderStatus, health: Option<&ProviderHealth>) -> String {
    let status = &provider.status;
    let last = health.and_then(|health| health.last.as_ref()).filter(|last| !last.worked);
    let why = match status.split_once(": ") {
        Some((_, why)) => why,
        None if status == "unreachable" => last.map_or("", |last| &last.text),
        None => return String::new(),
    };
    let text = format!("{}: {}", safe::line(&provider.name), safe::line(why));
    let lines = match terminal::columns() {
        Some(columns) => terminal::wrapped(&text, columns.saturating_sub(2)),
        None => vec![text],
    };
    lines.iter().map(|line| format!("  {line}\n")).collect()
}

/// What came of a transport's last use, and how long ago. A mailbox that works is not used: it watches or rests.
pub(crate) fn last_use(health: &ProviderHealth) -> String {
    match &health.last {
        Some(last) if last.worked && health.kind == Resource::Mailbox => String::new(),
        Some(last) if last.worked => format!("worked {} ago", ago(last.at)),
        Some(last) => format!("failed {} ago", ago(last.at)),
        None if health.kind == Resource::TransportProvider => "not used yet".to_owned(),
        None => String::new(),
    }
}

/// A provider's status, why it cannot be reached, and when it is tried again.
pub(crate) fn status_text(provider: &ProviderStatus, health: Option<&ProviderHealth>) -> String {
    let mut text = provider.status.clone();
    let last = health.and_then(|health| health.last.as_ref()).filter(|last| !last.worked);
    if let Some(last) = last.filter(|_| text == "unreachable") {
        text += &format!(": {}", last.text);
    }
    if let Some(next) = health.and_then(|health| health.next_try) {
        text += &format!("; next try in {}", until(next));
    }
    text
}

/// How many messages are in each state.
fn queue(status: &Status) -> String {
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
