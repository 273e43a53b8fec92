//! `sundown queue flush`: tries all deferred messages now, and can wait for their outcome.

use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant, SystemTime};

use serde_json::json;
use sundown_client::{Error, Mapi, QueueRow, SubmissionState};

use crate::cli::{Context, seconds};
use crate::output::{self, NOT_FINAL};
use crate::progress::{Progress, Step};

/// How often the messages are looked at.
const LOOK: Duration = Duration::from_millis(250);

pub(super) fn run(context: &Context, mapi: &Mapi, wait: Option<u64>) -> Result<ExitCode, Error> {
    let Some(limit) = wait else {
        let found = mapi.flush_queues(context.profile.as_deref())?;
        output::print(context.json, &json!({ "hastened": found }), || hastened(found));
        return Ok(ExitCode::SUCCESS);
    };
    // Only messages that are deferred now are waited for. Messages deferred later are not due yet.
    let mut waiting = mapi.queue(context.profile.as_deref(), false)?;
    waiting.retain(|row| row.state == SubmissionState::Deferred);
    let found = mapi.flush_queues(context.profile.as_deref())?;
    let rows = settle(context, mapi, &waiting, seconds(limit))?;
    let values: Vec<_> = rows.iter().map(super::value).collect();
    let value = json!({ "hastened": found, "entries": values });
    output::print(context.json, &value, || settled(&rows));
    Ok(status(&rows))
}

pub(crate) fn hastened(found: u64) -> String {
    match found {
        0 => "nothing waited for its time\n".into(),
        1 => "1 message is tried now\n".into(),
        _ => format!("{found} messages are tried now\n"),
    }
}

fn settled(rows: &[QueueRow]) -> String {
    if rows.is_empty() { hastened(0) } else { super::list(rows) }
}

/// The exit status, as that of `send --wait`: the worst of all.
fn status(rows: &[QueueRow]) -> ExitCode {
    let any = |states: &[SubmissionState]| rows.iter().any(|row| states.contains(&row.state));
    if any(&[SubmissionState::Bounced, SubmissionState::Aborted]) {
        return ExitCode::FAILURE;
    }
    let all = rows.iter().all(|row| row.state == SubmissionState::Sent);
    if all { ExitCode::SUCCESS } else { ExitCode::from(NOT_FINAL) }
}

/// Waits until each of them is final, waits for a person, or was tried and deferred again. Returns their rows.
fn settle(
    context: &Context,
    mapi: &Mapi,
    hastened: &[QueueRow],
    limit: Duration,
) -> Result<Vec<QueueRow>, Error> {
    let (now, until) = (millis(), Instant::now() + limit);
    let all: Vec<_> = hastened.iter().map(|row| (row.profile.clone(), row.entry)).collect();
    let done = Arc::new(AtomicU64::new(0));
    let progress = show(context, all.len() as u64, Arc::clone(&done));
    let mut rows = Vec::with_capacity(all.len());
    for (profile, entry) in &all {
        loop {
            let row = mapi.queue_entry(Some(profile), *entry)?;
            if !is_pending(&row, now) || Instant::now() >= until {
                rows.push(row);
                break;
            }
            thread::sleep(LOOK);
        }
        done.fetch_add(1, Ordering::Relaxed);
    }
    drop(progress);
    Ok(rows)
}

fn show(context: &Context, all: u64, done: Arc<AtomicU64>) -> Progress {
    let stays = "what was hastened is tried without this command";
    Progress::begin(context.json, stays, move || {
        let done = done.load(Ordering::Relaxed);
        Some(Step { what: "trying what waited".into(), done, left: all - done, next_try: None })
    })
}

/// Whether the message was not tried yet, or is being tried. A message that was deferred again is due later.
fn is_pending(row: &QueueRow, flushed: u64) -> bool {
    match row.state {
        SubmissionState::Accepted | SubmissionState::Queued | SubmissionState::Transmitting => true,
        SubmissionState::Deferred => row.next_attempt.is_none_or(|at| at <= flushed),
        _ => false,
    }
}

fn millis() -> u64 {
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    now.as_millis() as u64
}
