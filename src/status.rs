//! `sundown status`: sessions, members, providers, queue.

use std::process::ExitCode;
use std::time::Duration;

use serde_json::{Value, json};
use sundown_client::{BrokerStatus, End, Error, LimitStatus, Previous, Status, SubmissionState};

use crate::cli::{Autostart, Context, StatusArguments};
use crate::output::{self, ago};

pub(crate) fn run(context: &Context, arguments: &StatusArguments) -> Result<ExitCode, Error> {
    let mapi = context.initialize(Autostart::No)?;
    loop {
        let status = mapi.status()?;
        let broker = mapi.broker_status()?;
        if arguments.watch && !context.json {
            print!("\x1b[2J\x1b[H");
        }
        output::print(context.json, &value(&status, broker.as_ref()), || {
            text(&status, broker.as_ref())
        });
        if !arguments.watch {
            return Ok(ExitCode::SUCCESS);
        }
        std::thread::sleep(Duration::from_secs(1));
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

/// One line about the broker before this one, unless that stopped as it should.
fn fate(previous: &Previous) -> Option<String> {
    let Previous { pid, why, .. } = previous;
    let when = previous.ended.map_or(String::new(), |ended| format!(" {} ago", ago(ended)));
    (previous.end != End::Stopped)
        .then(|| format!("the broker before it (pid {pid}) did not stop in order{when}: {why}\n"))
}

fn text(status: &Status, broker: Option<&BrokerStatus>) -> String {
    let mut text = format!(
        "broker {} (pid {}), up {}, at {}\n",
        status.version,
        status.pid,
        ago(status.started),
        status.socket
    );
    text.extend(broker.and_then(|broker| broker.previous.as_ref()).and_then(fate));
    for session in &status.sessions {
        let sharing = if session.shared { "shared" } else { "private" };
        text += &format!(
            "\nsession {} of profile {}: {sharing}, {}\n",
            session.id.0, session.profile, session.state
        );
        let members: Vec<_> = session
            .members
            .iter()
            .map(|m| {
                let mail = if m.no_mail { "no mail" } else { "mail" };
                vec![
                    format!("  {}", m.id.0),
                    m.peer.program.clone(),
                    m.peer.pid.to_string(),
                    m.state.clone(),
                    mail.into(),
                    m.objects.to_string(),
                    ago(m.since),
                ]
            })
            .collect();
        if !members.is_empty() {
            let heading = ["  member", "program", "pid", "state", "", "objects", "since"];
            text += &output::table(&heading, &members);
        }
        let providers: Vec<_> = session
            .providers
            .iter()
            .map(|p| {
                vec![
                    format!("  {}", p.kind.name()),
                    p.name.clone(),
                    p.status.clone(),
                    p.fast_shutdown.clone(),
                ]
            })
            .collect();
        text += &output::table(&["  provider", "name", "status", "fast shutdown"], &providers);
        for reference in &session.references {
            let holder = &reference.holder;
            text += &format!(
                "  {} (pid {}) holds an object of member {}\n",
                holder.program, holder.pid, reference.granter.0
            );
        }
    }
    if status.sessions.is_empty() {
        text += "\nno sessions\n";
    }
    let counts: Vec<_> = SubmissionState::ALL
        .iter()
        .zip(status.queue)
        .filter(|(_, count)| *count > 0)
        .map(|(state, count)| format!("{count} {}", state.name()))
        .collect();
    let counts = if counts.is_empty() { "empty".into() } else { counts.join(", ") };
    text += &format!("\nqueue: {counts}\n");
    if status.waiting_for_mail_member > 0 {
        text += &format!(
            "       {} of them wait for a member with mail, or for a session of their profile\n",
            status.waiting_for_mail_member
        );
    }
    text
}
