//! The user's unit, if there is a systemd.

use std::process::{Command, Stdio};

use super::finding::Finding;

const UNIT: &str = "sundown.service";

/// Checks the unit. `None` without systemd.
pub(super) fn unit() -> Option<Finding> {
    let enabled = ask("is-enabled")?;
    // A unit that does not exist has no state.
    let state = if enabled.is_empty() || enabled == "not-found" { None } else { ask("is-active") };
    Some(judge(&enabled, state.as_deref().unwrap_or_default()))
}

/// The word that systemctl prints. It prints none without a service manager for the user.
fn ask(question: &str) -> Option<String> {
    let mut command = Command::new("systemctl");
    command.args(["--user", question, UNIT]).stdin(Stdio::null());
    let said = command.output().ok()?;
    Some(String::from_utf8_lossy(&said.stdout).trim().to_owned())
}

fn judge(enabled: &str, state: &str) -> Finding {
    if state == "failed" {
        let advice = format!(
            "`journalctl --user -u {UNIT}` says why; then `systemctl --user restart {UNIT}`"
        );
        return Finding::problem("systemd", format!("{UNIT} has failed"), advice);
    }
    match enabled {
        "" => Finding::ok("systemd", "no service manager runs for this user"),
        "not-found" => Finding::ok("systemd", format!("{UNIT} is not installed for this user")),
        "disabled" => Finding::ok(
            "systemd",
            format!("{UNIT} is not enabled: brokers are started when needed"),
        )
        .advise(format!("`systemctl --user enable --now {UNIT}` has one run from login on")),
        "masked" | "masked-runtime" => Finding::warning(
            "systemd",
            format!("{UNIT} is masked"),
            format!("`systemctl --user unmask {UNIT}`, unless that is intended"),
        ),
        other => {
            let state = if state.is_empty() { "in an unknown state" } else { state };
            Finding::ok("systemd", format!("{UNIT} is {other}, and {state}"))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::finding::Health;
    use super::*;

    #[test]
    fn only_what_failed_is_a_problem() {
        for (enabled, state, health) in [
            ("enabled", "active", Health::Ok),
            ("enabled", "failed", Health::Problem),
            ("disabled", "inactive", Health::Ok),
            ("disabled", "failed", Health::Problem),
            ("masked", "inactive", Health::Warning),
            ("not-found", "", Health::Ok),
            ("", "", Health::Ok),
        ] {
            assert_eq!(judge(enabled, state).health, health, "{enabled} {state}");
        }
        assert!(judge("disabled", "inactive").advice.is_some());
        assert!(judge("enabled", "active").message.ends_with("is enabled, and active"));
    }
}
