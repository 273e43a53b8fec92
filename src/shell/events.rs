//! Notifications as lines.

use serde_json::{Value, json};
use sundown_client::{
    Arrival, Event, FolderChange, LogoffQuestion, MemberStatus, News, Notice, TableChange,
};

use crate::output;

/// A notification for a session of this shell. `object` is the shell's number of an open table.
pub(crate) fn value(session: u64, notice: &Notice, object: Option<u64>) -> Value {
    let event = match &notice.news {
        News::Reconnected { lost_drafts, previous } => {
            return json!({
                "event": "reconnected",
                "session": session,
                "lost_drafts": lost_drafts,
                "previous": previous.as_ref().map(output::previous),
            });
        }
        News::SinkPanicked { connection, message } => {
            return json!({
                "event": "sink-panicked",
                "session": session,
                "connection": connection,
                "message": message,
            });
        }
        News::Broker(event) => event,
    };
    match event {
        Event::CriticalError { code, reason, by, grace } => json!({
            "event": "critical-error",
            "session": session,
            "code": code.name(),
            "hresult": code.to_string(),
            "reason": reason.name(),
            "by": by.as_ref().map(output::peer),
            "grace_seconds": grace.map(|g| g / 1000),
        }),
        Event::Arrived(arrival) => {
            let Arrival { place, from, subject } = &**arrival;
            let mut value = message("new-mail", session, place);
            value["from"] = json!(from);
            value["subject"] = json!(subject);
            value
        }
        Event::Created(place) => message("object-created", session, place),
        Event::Modified(place) => message("object-modified", session, place),
        Event::Deleted(place) => message("object-deleted", session, place),
        Event::Moved(place, from) => {
            let mut value = message("object-moved", session, place);
            value["from"] = json!(from.to_string());
            value
        }
        Event::Folder { folder, change, .. } => {
            let event = match change {
                FolderChange::Made => "object-created",
                FolderChange::Renamed => "object-modified",
                FolderChange::Removed => "object-deleted",
            };
            json!({ "event": event, "session": session, "folder": folder.to_string() })
        }
        Event::Table { change, .. } => {
            let (change, key) = match change {
                TableChange::Added(key) => ("row-added", Some(key)),
                TableChange::Deleted(key) => ("row-deleted", Some(key)),
                TableChange::Modified(key) => ("row-modified", Some(key)),
                TableChange::Reload => ("reload", None),
            };
            json!({
                "event": "table-modified",
                "session": session,
                "object": object,
                "change": change,
                "row": key,
            })
        }
        Event::MemberLeft { member, reason } => json!({
            "event": "extended",
            "session": session,
            "kind": "member-left",
            "reason": reason.name(),
            "member": member.0,
        }),
        Event::Evicted => json!({ "event": "extended", "session": session, "kind": "evicted" }),
        Event::LogoffProgress { waiting, finished } => json!({
            "event": "extended",
            "session": session,
            "kind": "logoff-progress",
            "waiting": waiting,
            "finished": finished,
        }),
        Event::BrokerStopping { within } => json!({
            "event": "broker-stopping",
            "session": session,
            "within_seconds": within / 1000,
        }),
        Event::Lagged { missed } => {
            json!({ "event": "lagged", "session": session, "missed": missed })
        }
        Event::Durable(entries) => {
            let entries: Vec<_> = entries.iter().map(ToString::to_string).collect();
            json!({ "event": "durable", "session": session, "entries": entries })
        }
        // The library keeps these or tells them in other words, and passes them to no sink.
        Event::Ticket(_) | Event::Session(_) | Event::MembersLeft(_) | Event::NewMail(_) => {
            json!({ "event": "ticket", "session": session })
        }
    }
}

/// The question before a logoff, with what is at stake.
pub(crate) fn question(session: u64, question: &LogoffQuestion<'_>) -> Value {
    let member = |member: &MemberStatus| {
        let peer = &member.peer;
        json!({ "member": member.id.0, "pid": peer.pid, "program": peer.program })
    };
    let others = question.others().map(|others| others.iter().map(member).collect::<Vec<_>>());
    let queued = question.queued();
    json!({
        "event": "logoff-question",
        "session": session,
        "ends_for_all": question.ends_for_all(),
        "others": others.ok(),
        "queued": queued.as_ref().ok().map(|queued| queued.total),
        "queued_own": queued.as_ref().ok().map(|queued| queued.own),
    })
}

/// The end of a granted object, which belongs to no session.
pub(crate) fn lost(object: u64, notice: &Notice) -> Value {
    let mut value = value(0, notice, None);
    if let Some(keys) = value.as_object_mut() {
        keys.shift_remove("session");
        keys.shift_remove("grace_seconds");
        keys.insert("object".into(), json!(object));
    }
    value
}

fn message(event: &str, session: u64, place: &sundown_client::Place) -> Value {
    json!({
        "event": event,
        "session": session,
        "entry": place.entry.to_string(),
        "folder": place.folder.to_string(),
    })
}
