//! `sundown doctor`: checks everything that mail depends on, and says what to do about its findings.
//!
//! ```text
//! finding    one thing that was looked at, and how it is printed
//! places     the socket and the data directory: whose they are, who may use them, how much room there is
//! broker     what the broker that runs says: its providers, its queue
//! mailboxes  the directories of mailboxes
//! rescued    what was saved of files that were removed under a broker
//! log        what a broker in the background left behind
//! systemd    the unit of the user
//! ```
//!
//! It starts no broker and changes nothing. It reads settings and profiles as a broker does.

mod broker;
mod finding;
mod log;
mod mailboxes;
mod places;
mod rescued;
mod systemd;

use std::process::ExitCode;

use crate::cli::Context;
use crate::output;
use crate::profile::mistakes;
use finding::{Finding, Health};

pub(crate) fn run(context: &Context) -> ExitCode {
    let findings = examine(context);
    let value = findings.iter().map(Finding::value).collect();
    if let Err(error) = output::show(context.json, &value, || finding::text(&findings)) {
        return output::fail(context.json, &error);
    }
    let problem = findings.iter().any(|finding| finding.health == Health::Problem);
    if problem { ExitCode::FAILURE } else { ExitCode::SUCCESS }
}

fn examine(context: &Context) -> Vec<Finding> {
    let settings = mistakes::of_settings(context);
    let group = settings.as_ref().is_ok_and(|settings| settings.group);
    let answer = broker::ask(context);
    let mut findings = vec![places::socket_directory(&context.paths, group)];
    findings.push(match &answer {
        Ok(answer) => broker::answers(&answer.said.status),
        Err(error) => places::socket(&context.paths, error),
    });
    findings.extend(places::processes());
    findings.extend(places::ignored());
    findings.extend(places::runtime(&context.paths));
    findings.extend(places::data(&context.paths));
    findings.push(of_settings(settings));
    findings.extend(mistakes::of_profiles(context).into_iter().map(of_profile));
    findings.extend(mailboxes::all(context));
    if let Ok(answer) = &answer {
        findings.extend(broker::file_limit(&answer.said.status));
        findings.extend(broker::providers(&answer.said));
        findings.extend(broker::queue(answer));
    }
    findings.extend(rescued::copies(context));
    findings.extend(log::left_behind(&context.paths.data));
    findings.extend(systemd::unit());
    findings
}

fn of_settings(read: Result<mistakes::Settings, String>) -> Finding {
    match read {
        Ok(settings) if settings.files.is_empty() => {
            Finding::ok("settings", "there is no settings file: everything has its default")
        }
        Ok(settings) => {
            let files: Vec<_> = settings.files.iter().map(|f| f.display().to_string()).collect();
            Finding::ok("settings", format!("{} can be read", files.join(" and ")))
        }
        Err(why) => Finding::problem(
            "settings",
            why,
            "correct the file: no broker starts with it, and one that runs keeps its old settings",
        ),
    }
}

fn of_profile(read: mistakes::Read) -> Finding {
    let name = read.name;
    match read.result {
        Ok(()) => Finding::ok("profile", format!("{name} can be read")),
        Err(mistakes::Mistake::OnlyData) => Finding::warning(
            "profile",
            format!("{name} has no file any more, but data: mail may wait in it"),
            format!("make it again with `sundown profile add {name}`, or remove its data"),
        ),
        Err(mistakes::Mistake::Sender(why)) => Finding::warning(
            "profile",
            format!("{name}: mail that names no sender is refused: {why}"),
            "set `identity` in the profile, or give this host a name that is a domain",
        ),
        Err(mistakes::Mistake::None(why)) => Finding::problem(
            "profile",
            why,
            format!("make it with `sundown profile add {name}`, or choose another --profile"),
        ),
        Err(mistakes::Mistake::Wrong(why)) => Finding::problem(
            "profile",
            format!("{name}: {why}"),
            format!("correct the file, then `sundown profile check {name}`"),
        ),
    }
}
