//! `sundown stop`: the end of the broker.

use std::process::ExitCode;
use std::time::Duration;

use serde_json::json;
use sundown_client::{Error, Stopping};

use crate::cli::{Autostart, Context, StopArguments};
use crate::output;
use crate::progress::{Progress, Step};

/// A broker serves those who leave for 20 s, and its providers have 10 s for each phase.
const PATIENCE: Duration = Duration::from_secs(75);

pub(crate) fn run(context: &Context, arguments: &StopArguments) -> Result<ExitCode, Error> {
    let mapi = context.initialize(Autostart::No)?;
    let how = if arguments.fast { Stopping::Fast } else { Stopping::Orderly };
    let pid = mapi.broker().unwrap_or(0);
    // It is not asked how far it is: as long as somebody asks for something, it goes on serving.
    let step = Step { what: format!("broker {pid} is stopping"), ..Step::default() };
    let progress =
        Progress::begin(context.json, "the broker goes on stopping", move || Some(step.clone()));
    mapi.stop(how, PATIENCE)?;
    drop(progress);
    let value = json!({ "stopped": pid });
    output::print(context.json, &value, || format!("broker {pid} has stopped\n"));
    Ok(ExitCode::SUCCESS)
}
