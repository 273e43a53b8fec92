//! `sundown tour`: shows how Sundown works in a minute, with real processes on a broker of its own.
//!
//! Everything it shows is checked, and the exit status is 0 only if all of it was true.

mod stage;

use std::cell::RefCell;
use std::path::Path;
use std::process::ExitCode;
use std::time::Instant;

use serde_json::{Value, json};
use sundown_client::Error;

use crate::cli::Context;
use crate::output;
use crate::safe;
use crate::terminal;
use stage::{Actor, Files, Stage, Trouble};

pub(crate) fn run(context: &Context) -> ExitCode {
    let mut timeline = Timeline::new(context.json);
    timeline.title("A broker starts, and four programs come.");
    let left = match Stage::set() {
        Ok(stage) => {
            if let Err(trouble) = story(&mut timeline, &stage) {
                timeline.check(&trouble, false);
            }
            stage.end(if timeline.wrong == 0 { Files::Removed } else { Files::Kept })
        }
        Err(trouble) => {
            timeline.check(&trouble, false);
            None
        }
    };
    timeline.end(left.as_deref())
}

/// What the tour has shown, and whether all of it was true.
struct Timeline {
    json: bool,
    began: Instant,
    checked: usize,
    wrong: usize,
    /// Why a line could not be printed, if one could not.
    unprinted: RefCell<Option<Error>>,
}

impl Timeline {
    fn new(json: bool) -> Self {
        Self { json, began: Instant::now(), checked: 0, wrong: 0, unprinted: RefCell::default() }
    }

    fn title(&self, text: &str) {
        if !self.json {
            self.say(&format!("\n{}", fitting(text, 0)));
        }
    }

    /// Shows what an actor did or was told.
    fn line(&self, who: &str, what: &str) {
        let millis = self.began.elapsed().as_millis();
        if self.json {
            self.say(&format!("{}", json!({ "millis": millis, "who": who, "what": what })));
        } else {
            let what = fitting(what, INDENT);
            self.say(&format!("{:>6}.{:03}s  {who:<12}  {what}", millis / 1000, millis % 1000));
        }
    }

    /// Shows a claim, and whether it holds.
    fn check(&mut self, claim: &str, holds: bool) {
        self.checked += 1;
        self.wrong += usize::from(!holds);
        if self.json {
            self.say(&format!("{}", json!({ "claim": claim, "holds": holds })));
        } else {
            let claim = if holds { claim.to_owned() } else { format!("NOT TRUE: {claim}") };
            let mark = if holds { "✓" } else { "✗" };
            self.say(&format!("{:>25}{mark} {}", "", fitting(&claim, INDENT)));
        }
    }

    /// Says how much was true, and where the files of the tour are if they were left there.
    fn end(&self, left: Option<&Path>) -> ExitCode {
        let (checked, wrong) = (self.checked, self.wrong);
        if self.json {
            let left = left.map(|left| left.display().to_string());
            self.say(&format!("{}", json!({ "checked": checked, "wrong": wrong, "left": left })));
        } else if wrong == 0 {
            self.say(&format!("\n{checked} claims were checked, and all are true."));
        } else {
            self.say(&format!("\n{wrong} of {checked} claims are not true."));
        }
        if let Some(left) = left.filter(|_| !self.json) {
            let what = "The broker's log, its settings and its mail are left in";
            self.say(&format!("{what}\n{}", left.display()));
        }
        if let Some(error) = self.unprinted.take() {
            return output::fail(self.json, &error);
        }
        if wrong == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
    }

    /// Prints a line. The tour goes on if it cannot, and fails in the end unless the reader has gone.
    fn say(&self, line: &str) {
        let line = if self.json { safe::json(line) } else { safe::printed(line) };
        if let Err(error) = output::print_bytes(format!("{line}\n").as_bytes()) {
            self.unprinted.replace(Some(error));
        }
    }
}

/// How far what is shown of an actor is indented.
const INDENT: usize = 27;

/// A text that begins at this column and goes on there in further lines, so that a terminal breaks no word.
fn fitting(text: &str, indent: usize) -> String {
    let width = terminal::columns().map_or(usize::MAX, |columns| columns.max(60) - indent);
    terminal::wrapped(text, width).join(&format!("\n{:indent$}", ""))
}

/// Makes an actor carry out a command, and shows it on the timeline.
fn does(timeline: &Timeline, actor: &mut Actor, command: &str) -> Result<Value, Trouble> {
    timeline.line(actor.name, command);
    let reply = actor.does(command)?;
    if reply["ok"] == true { Ok(reply) } else { Err(format!("{}: {}", actor.name, reply["error"])) }
}

const SUBJECT: &str = "Good evening";

/// To the identity of the profile of the tour: mail to it is shown in the Inbox.
const MESSAGE: &str = "From: tour@localhost\nTo: you@localhost\nSubject: Good evening\n\n\
                       This message was handed to a session that three processes shared.\n";

fn story(t: &mut Timeline, stage: &Stage) -> Result<(), Trouble> {
    t.line("broker", &format!("is ready (pid {})", stage.broker()));
    let mut client = stage.enter("mail client")?;
    let mut tray = stage.enter("tray icon")?;
    let mut indexer = stage.enter("indexer")?;
    let mut backup = stage.enter("backup")?;
    sharing(t, stage, [&mut client, &mut tray, &mut indexer], &mut backup)?;
    let entry = sending(t, stage, &mut client, &mut tray)?;
    receiving(t, &entry, &mut client, &mut tray)?;
    crashing(t, &mut tray, &mut indexer)?;
    let mut agent = stage.enter("sync agent")?;
    let mut worker = stage.enter("web worker")?;
    leaving(t, stage, &mut tray, [&mut agent, &mut worker])?;
    let mut notifier = stage.enter("notifier")?;
    ending(t, stage, [&mut client, &mut tray, &mut notifier], &mut backup)?;
    order(t, stage)?;
    t.title("The message is where it belongs.");
    let delivered = stage.delivered();
    let found = delivered.iter().find(|p| {
        std::fs::read_to_string(p).is_ok_and(|text| text.contains("Subject: Good evening"))
    });
    t.check("the message is on the disk, once", found.is_some() && delivered.len() == 3);
    if let Some(folder) = found.and_then(|path| path.parent()) {
        let folder = folder.strip_prefix(stage.home()).unwrap_or(folder);
        t.line("message", &format!("\"Good evening\" is in {}", folder.display()));
    }
    Ok(())
}

fn sharing(
    t: &mut Timeline,
    stage: &Stage,
    programs: [&mut Actor; 3],
    backup: &mut Actor,
) -> Result<(), Trouble> {
    t.title("Three share one session; the fourth wants one of its own.");
    for program in programs {
        does(t, program, "logon")?;
        does(t, program, "advise session=1 events=extended,new-mail,object-moved,object-modified")?;
    }
    does(t, backup, "logon private")?;
    let status = stage.status()?;
    let members = |shared: bool| {
        let sessions = status["sessions"].as_array().into_iter().flatten();
        let of_kind = sessions.filter(|s| s["shared"] == shared);
        of_kind.map(|s| s["members"].as_array().map_or(0, Vec::len)).collect::<Vec<_>>()
    };
    t.check("the shared session has three members", members(true) == [3]);
    t.check("the private session has one", members(false) == [1]);
    Ok(())
}

fn sending(
    t: &mut Timeline,
    stage: &Stage,
    client: &mut Actor,
    tray: &mut Actor,
) -> Result<Value, Trouble> {
    t.title("The mail client sends. What is acknowledged is on the disk.");
    stage.file("message.eml", MESSAGE)?;
    let reply = does(t, client, "submit session=1 file=message.eml")?;
    let entry = reply["entry"].clone();
    let moved = tray.hears(|e| e["event"] == "object-moved" && e["entry"] == entry)?;
    t.line(tray.name, &format!("is told: the message moved to {}", moved["folder"]));
    t.check("it went out, and the tray icon was told", moved["folder"] == "sent");
    Ok(entry)
}

/// What was sent was to the user: it is delivered, and comes in. `sent` is the entry of the message that went out.
fn receiving(
    t: &mut Timeline,
    sent: &Value,
    client: &mut Actor,
    tray: &mut Actor,
) -> Result<(), Trouble> {
    t.title("It was to the user of this broker, and arrives. Every program is told at once.");
    let arrived = |e: &Value| e["event"] == "new-mail" && e["subject"] == SUBJECT;
    let mut entries = Vec::new();
    for told in [&mut *client, &mut *tray] {
        let notice = told.hears(arrived)?;
        let (from, subject) = (&notice["from"], &notice["subject"]);
        t.line(told.name, &format!("is told: new mail from {from}: {subject}"));
        let (name, once) = (told.name, told.heard(arrived)? == 1);
        t.check(&format!("the {name} was told once, of a message in the Inbox"), {
            once && notice["folder"] == "inbox"
        });
        entries.push(notice["entry"].clone());
    }
    let same = entries.iter().all(|entry| *entry == entries[0] && entry != sent);
    t.check("both were told of the same message", same);
    let inbox = does(t, tray, "open session=1 what=inbox")?["object"].clone();
    let rows = |tray: &mut Actor| -> Result<Vec<Value>, Trouble> {
        let rows = tray.does(&format!("list object={inbox}"))?["rows"].clone();
        let rows = rows.as_array().cloned().unwrap_or_default();
        Ok(rows.into_iter().filter(|row| row["subject"] == SUBJECT).collect())
    };
    let found = rows(tray)?;
    let stands = found.iter().map(|row| &row["entry"]).eq([&entries[0]]);
    t.check("it stands in the Inbox, once, and is not read", {
        stands && found[0]["flags"] == json!([])
    });
    let entry = entries[0].as_str().unwrap_or_default();
    does(t, client, &format!("flag session=1 entry={entry} add=flagged"))?;
    let changed = |e: &Value| e["event"] == "object-modified" && e["entry"] == entry;
    tray.hears(changed)?;
    t.line(tray.name, "is told: the message has changed");
    let flagged = rows(tray)?.first().is_some_and(|row| row["flags"] == json!(["flagged"]));
    t.check("it sees the flag that the mail client set", flagged);
    tray.does(&format!("release object={inbox}"))?;
    Ok(())
}

fn crashing(t: &mut Timeline, tray: &mut Actor, indexer: &mut Actor) -> Result<(), Trouble> {
    t.title("The indexer crashes. The others are told that a member left, and go on.");
    indexer.is_killed();
    t.line(indexer.name, "is killed");
    let left = |e: &Value| e["kind"] == "member-left" && e["reason"] == "disconnected";
    tray.hears(left)?;
    t.line(tray.name, "is told: a member left, disconnected");
    t.check("the tray icon was told once", tray.heard(left)? == 1);
    Ok(())
}

fn leaving(
    t: &mut Timeline,
    stage: &Stage,
    tray: &mut Actor,
    [agent, worker]: [&mut Actor; 2],
) -> Result<(), Trouble> {
    t.title("Two more log on and submit. One leaves when its mail is sent, the other at once.");
    stage.file("report.eml", &MESSAGE.replace("Good evening", "Report"))?;
    stage.file("order.eml", &MESSAGE.replace("Good evening", "Order"))?;
    for actor in [&mut *agent, &mut *worker] {
        does(t, actor, "logon")?;
    }
    does(t, agent, "submit session=1 file=report.eml")?;
    does(t, agent, "open session=1 what=inbox")?;
    does(t, worker, "submit session=1 deferred file=order.eml")?;
    does(t, worker, "draft session=1 file=order.eml")?;
    does(t, worker, "query-fast-shutdown")?;
    does(t, worker, "notify-process-shutdown")?;
    t.line(agent.name, "logoff session=1 drain=20");
    agent.begins("logoff session=1 drain=20")?;
    does(t, worker, "do-fast-shutdown")?;
    worker.is_killed();
    t.line(worker.name, "is killed at once: a process that has shut down need not wait");
    let reply = agent.replies()?;
    t.line(agent.name, "is logged off");
    t.check("no message of the sync agent is left in the queue", reply["queued"] == 0);
    t.check("its logoff closed the folder that it had left open", reply["invalidated"] == 1);
    let dead = agent.does("list object=1")?;
    t.check("calls of that folder fail now", dead["error"]["code"] == "MAPI_E_INVALID_OBJECT");
    for (reason, who) in [("logged-off", "sync agent"), ("fast-shutdown", "web worker")] {
        let left = |e: &Value| e["kind"] == "member-left" && e["reason"] == reason;
        tray.hears(left)?;
        t.line(tray.name, &format!("is told: a member left, {reason}"));
        t.check(&format!("the others are told once that the {who} left"), tray.heard(left)? == 1);
    }
    let drafts = tray.does("open session=1 what=drafts")?["object"].clone();
    let rows = tray.does(&format!("list object={drafts}"))?["rows"].clone();
    let kept =
        rows.as_array().map_or(0, |rows| rows.iter().filter(|r| r["recovered"] == true).count());
    t.check("the unsaved draft of the web worker is in Drafts", kept == 1);
    Ok(())
}

fn ending(
    t: &mut Timeline,
    stage: &Stage,
    [client, tray, notifier]: [&mut Actor; 3],
    backup: &mut Actor,
) -> Result<(), Trouble> {
    t.title("Only the owner, here the mail client, may end the session for everybody.");
    does(t, notifier, "logon")?;
    t.line(tray.name, "logoff session=1 shared");
    let refused = tray.does("logoff session=1 shared")?;
    let owner = &refused["error"]["owner"]["pid"];
    let why = refused["error"]["message"].as_str().unwrap_or_default();
    t.line(tray.name, &format!("is refused: {why}"));
    t.check("the refusal names the owner", *owner == client.pid());
    let before = stage.status()?["sessions"][0]["id"].clone();
    does(t, client, "logoff session=1 shared")?;
    let critical = |e: &Value| e["event"] == "critical-error";
    for told in [&mut *tray, notifier] {
        let notice = told.hears(critical)?;
        let (by, grace) = (&notice["by"]["pid"], &notice["grace_seconds"]);
        t.line(told.name, &format!("is told: pid {by} ends the session, in {grace} s at most"));
        let named = *by == client.pid() && notice["reason"] == "shared-logoff";
        t.check("the notice says who ends the session, and why", named);
        t.check("it came once", told.heard(critical)? == 1);
    }
    t.check("the private session was not told", backup.heard(critical)? == 0);
    does(t, notifier, "logoff session=1")?;
    let mut late = stage.enter("latecomer")?;
    does(t, &mut late, "logon")?;
    let status = stage.status()?;
    let sessions = status["sessions"].as_array().cloned().unwrap_or_default();
    let fresh = sessions.iter().any(|s| {
        s["id"] != before
            && s["members"].as_array().is_some_and(|m| m.iter().any(|m| m["pid"] == late.pid()))
    });
    t.check("a program that logs on now gets a new session", fresh);
    tray.hears(|e| e["kind"] == "evicted")?;
    t.line(tray.name, "has not left after 3 s, and is put out");
    let dead = tray.does("open session=1 what=inbox")?;
    t.check(
        "its calls fail: the session has ended",
        dead["error"]["code"] == "MAPI_E_END_OF_SESSION",
    );
    does(t, &mut late, "logoff session=1")?;
    does(t, backup, "logoff session=1")?;
    Ok(())
}

/// Whether each provider was called once, those of an earlier phase first. A mailbox is in the phase of transports.
fn are_in_order(kinds: &[&str]) -> bool {
    let without: Vec<_> = kinds.iter().copied().filter(|kind| *kind != "mailbox").collect();
    let first = kinds.iter().position(|kind| *kind == "address-book");
    let mailboxes = kinds.iter().filter(|kind| **kind == "mailbox").count();
    without == ["transport", "address-book", "store"]
        && mailboxes <= 1
        && first == Some(kinds.len() - 2)
}

fn order(t: &mut Timeline, stage: &Stage) -> Result<(), Trouble> {
    t.title("The providers were called in order: transports and mailboxes, address books, stores.");
    let stopped = stage.ask(&["stop", "--json"])?;
    t.line("broker", &format!("has stopped ({})", stopped["stopped"]));
    let calls = stage.provider_calls();
    let mut sessions: Vec<_> = calls.iter().filter_map(|c| c["session"].as_u64()).collect();
    sessions.sort_unstable();
    sessions.dedup();
    for session in sessions {
        for call in ["QueryFastShutdown", "NotifyProcessShutdown", "DoFastShutdown", "Logoff"] {
            let called = calls.iter().filter(|c| c["session"] == session && c["call"] == call);
            let kinds: Vec<_> = called.filter_map(|c| c["kind"].as_str()).collect();
            if !kinds.is_empty() {
                t.line("broker's log", &format!("session {session}, {call}: {}", kinds.join(", ")));
                t.check("in order", are_in_order(&kinds));
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_order_has_three_phases() {
        for right in [
            &["transport", "address-book", "store"][..],
            &["mailbox", "transport", "address-book", "store"],
            &["transport", "mailbox", "address-book", "store"],
        ] {
            assert!(are_in_order(right), "{right:?}");
        }
        for wrong in [
            &[][..],
            &["transport", "store"],
            &["transport", "address-book", "mailbox", "store"],
            &["transport", "address-book", "store", "mailbox"],
            &["address-book", "transport", "store"],
        ] {
            assert!(!are_in_order(wrong), "{wrong:?}");
        }
    }
}
