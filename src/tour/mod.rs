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
use crate::terminal;
use stage::{Actor, Stage, Trouble};

pub(crate) fn run(context: &Context) -> ExitCode {
    let mut timeline = Timeline::new(context.json);
    if let Err(trouble) = story(&mut timeline) {
        timeline.check(&trouble, false);
    }
    timeline.end()
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
            self.say(&format!("\n{text}"));
        }
    }

    /// Shows what an actor did or was told.
    fn line(&self, who: &str, what: &str) {
        let millis = self.began.elapsed().as_millis();
        if self.json {
            self.say(&format!("{}", json!({ "millis": millis, "who": who, "what": what })));
        } else {
            let width = terminal::columns().map_or(usize::MAX, |columns| columns.max(60) - 27);
            let what = terminal::wrapped(what, width).join(&format!("\n{:27}", ""));
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
            self.say(&format!("{:>25}{} {claim}", "", if holds { "✓" } else { "✗ NOT TRUE:" }));
        }
    }

    fn end(&self) -> ExitCode {
        let (checked, wrong) = (self.checked, self.wrong);
        if self.json {
            self.say(&format!("{}", json!({ "checked": checked, "wrong": wrong })));
        } else if wrong == 0 {
            self.say(&format!("\n{checked} claims were checked, and all are true."));
        } else {
            self.say(&format!("\n{wrong} of {checked} claims are not true."));
        }
        if let Some(error) = self.unprinted.take() {
            return output::fail(self.json, &error);
        }
        if wrong == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
    }

    /// Prints a line. The tour goes on if it cannot, and fails in the end unless the reader has gone.
    fn say(&self, line: &str) {
        if let Err(error) = output::print_bytes(format!("{line}\n").as_bytes()) {
            self.unprinted.replace(Some(error));
        }
    }
}

/// A path as one word of the shell's input.
fn quoted(path: &Path) -> String {
    let path = path.display().to_string();
    if path.contains([' ', '"', '\\', '#', '\t']) {
        format!("\"{}\"", path.replace('\\', "\\\\").replace('"', "\\\""))
    } else {
        path
    }
}

/// Makes an actor carry out a command, and shows it on the timeline.
fn does(timeline: &Timeline, actor: &mut Actor, command: &str) -> Result<Value, Trouble> {
    timeline.line(actor.name, command);
    let reply = actor.does(command)?;
    if reply["ok"] == true { Ok(reply) } else { Err(format!("{}: {}", actor.name, reply["error"])) }
}

const MESSAGE: &str = "From: tour@localhost\nTo: you@localhost\nSubject: Good evening\n\n\
                       This message was handed to a session that three processes shared.\n";

fn story(t: &mut Timeline) -> Result<(), Trouble> {
    t.title("A broker starts, and four programs come.");
    let stage = Stage::set()?;
    t.line("broker", &format!("is ready (pid {})", stage.broker()));
    let mut client = stage.enter("mail client")?;
    let mut tray = stage.enter("tray icon")?;
    let mut indexer = stage.enter("indexer")?;
    let mut backup = stage.enter("backup")?;
    sharing(t, &stage, [&mut client, &mut tray, &mut indexer], &mut backup)?;
    sending(t, &stage, &mut client, &mut tray)?;
    crashing(t, &mut tray, &mut indexer)?;
    let mut agent = stage.enter("sync agent")?;
    let mut worker = stage.enter("web worker")?;
    leaving(t, &stage, &mut tray, [&mut agent, &mut worker])?;
    ending(t, &stage, [&mut client, &mut tray], &mut backup)?;
    order(t, &stage)?;
    t.title("What is left.");
    let delivered = stage.delivered();
    let found = delivered.iter().find(|p| {
        std::fs::read_to_string(p).is_ok_and(|text| text.contains("Subject: Good evening"))
    });
    t.check("the message is on the disk, once", found.is_some() && delivered.len() == 3);
    if let Some(path) = found {
        t.line("message", &path.display().to_string());
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
        does(t, program, "advise session=1 events=extended,object-moved")?;
    }
    does(t, backup, "logon private")?;
    let status = stage.status()?;
    let members = |shared: bool| {
        let sessions = status["sessions"].as_array().into_iter().flatten();
        let of_kind = sessions.filter(|s| s["shared"] == shared);
        of_kind.map(|s| s["members"].as_array().map_or(0, Vec::len)).collect::<Vec<_>>()
    };
    t.check("one shared session has three members", members(true) == [3]);
    t.check("one private session has one", members(false) == [1]);
    Ok(())
}

fn sending(
    t: &mut Timeline,
    stage: &Stage,
    client: &mut Actor,
    tray: &mut Actor,
) -> Result<(), Trouble> {
    t.title("The mail client sends. What is acknowledged is on the disk.");
    let file = stage.file("message.eml", MESSAGE)?;
    let reply = does(t, client, &format!("submit session=1 file={}", quoted(&file)))?;
    let entry = reply["entry"].clone();
    let moved = tray.hears(|e| e["event"] == "object-moved" && e["entry"] == entry)?;
    t.line(tray.name, &format!("is told: the message moved to {}", moved["folder"]));
    t.check("it went out, and the tray icon was told", moved["folder"] == "sent");
    Ok(())
}

fn crashing(t: &mut Timeline, tray: &mut Actor, indexer: &mut Actor) -> Result<(), Trouble> {
    t.title("The indexer crashes. For the others that is somebody leaving, and nothing else.");
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
    t.title(
        "Two join, each with a message. One leaves when it has gone out, the other in no time.",
    );
    let report = stage.file("report.eml", &MESSAGE.replace("Good evening", "Report"))?;
    let order = stage.file("order.eml", &MESSAGE.replace("Good evening", "Order"))?;
    for actor in [&mut *agent, &mut *worker] {
        does(t, actor, "logon")?;
    }
    does(t, agent, &format!("submit session=1 file={}", quoted(&report)))?;
    does(t, agent, "open session=1 what=inbox")?;
    does(t, worker, &format!("submit session=1 deferred file={}", quoted(&order)))?;
    does(t, worker, &format!("draft session=1 file={}", quoted(&order)))?;
    does(t, worker, "query-fast-shutdown")?;
    does(t, worker, "notify-process-shutdown")?;
    t.line(agent.name, "logoff session=1 drain=20");
    agent.begins("logoff session=1 drain=20")?;
    does(t, worker, "do-fast-shutdown")?;
    worker.is_killed();
    t.line(worker.name, "is killed at once, as a process that ends does not wait for its clean-up");
    let reply = agent.replies()?;
    t.line(agent.name, "is logged off");
    t.check("nothing of the agent is left in the queue", reply["queued"] == 0);
    t.check("the folder it had left open was counted", reply["invalidated"] == 1);
    let dead = agent.does("list object=1")?;
    t.check("and takes no calls any more", dead["error"]["code"] == "MAPI_E_INVALID_OBJECT");
    for (reason, who) in [("logged-off", "agent"), ("fast-shutdown", "worker")] {
        let left = |e: &Value| e["kind"] == "member-left" && e["reason"] == reason;
        tray.hears(left)?;
        t.line(tray.name, &format!("is told: a member left, {reason}"));
        t.check(&format!("of the {who} that is all that others see"), tray.heard(left)? == 1);
    }
    let drafts = tray.does("open session=1 what=drafts")?["object"].clone();
    let rows = tray.does(&format!("list object={drafts}"))?["rows"].clone();
    let kept =
        rows.as_array().map_or(0, |rows| rows.iter().filter(|r| r["recovered"] == true).count());
    t.check("the worker's unsaved draft was kept for it", kept == 1);
    Ok(())
}

fn ending(
    t: &mut Timeline,
    stage: &Stage,
    [client, tray]: [&mut Actor; 2],
    backup: &mut Actor,
) -> Result<(), Trouble> {
    t.title("Only the owner may end the session for everybody. The mail client made it.");
    t.line(tray.name, "logoff session=1 shared");
    let refused = tray.does("logoff session=1 shared")?;
    let owner = &refused["error"]["owner"]["pid"];
    let why = refused["error"]["message"].as_str().unwrap_or_default();
    t.line(tray.name, &format!("is refused: {why}"));
    t.check("the refusal names the owner", *owner == client.pid());
    let before = stage.status()?["sessions"][0]["id"].clone();
    does(t, client, "logoff session=1 shared")?;
    let critical = |e: &Value| e["event"] == "critical-error";
    let notice = tray.hears(critical)?;
    let (by, grace) = (&notice["by"]["pid"], &notice["grace_seconds"]);
    t.line(tray.name, &format!("is told: the session ends, by pid {by}, within {grace} s"));
    t.check(
        "the tray icon knows who and why",
        *by == client.pid() && notice["reason"] == "shared-logoff",
    );
    t.check("it was told once", tray.heard(critical)? == 1);
    t.check("the private session was not", backup.heard(critical)? == 0);
    let mut late = stage.enter("latecomer")?;
    does(t, &mut late, "logon")?;
    let status = stage.status()?;
    let sessions = status["sessions"].as_array().cloned().unwrap_or_default();
    let fresh = sessions.iter().any(|s| {
        s["id"] != before
            && s["members"].as_array().is_some_and(|m| m.iter().any(|m| m["pid"] == late.pid()))
    });
    t.check("whoever comes now gets a fresh session", fresh);
    tray.hears(|e| e["kind"] == "evicted")?;
    t.line(tray.name, "did not leave, and is put out when the grace is over");
    let dead = tray.does("open session=1 what=inbox")?;
    t.check("its calls say so", dead["error"]["code"] == "MAPI_E_END_OF_SESSION");
    does(t, &mut late, "logoff session=1")?;
    does(t, backup, "logoff session=1")?;
    Ok(())
}

fn order(t: &mut Timeline, stage: &Stage) -> Result<(), Trouble> {
    t.title("The providers were always called in order: transports, address books, stores.");
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
                t.check("in order", kinds == ["transport", "address-book", "store"]);
            }
        }
    }
    Ok(())
}
