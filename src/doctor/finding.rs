//! A finding: what was checked, its health, and what to do.

use serde_json::{Value, json};

use crate::output;

/// The health of what was checked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Health {
    /// Nothing needs to be done.
    Ok,
    /// It works, but a person should look at it.
    Warning,
    /// Something does not work.
    Problem,
}

/// The result of a check.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Finding {
    /// The subject: a word that scripts can rely on.
    pub(super) check: &'static str,
    pub(super) health: Health,
    /// What was found.
    pub(super) message: String,
    /// What to do about it.
    pub(super) advice: Option<String>,
}

impl Health {
    fn name(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Warning => "warning",
            Self::Problem => "problem",
        }
    }
}

impl Finding {
    pub(super) fn ok(check: &'static str, message: impl Into<String>) -> Self {
        Self { check, health: Health::Ok, message: message.into(), advice: None }
    }

    pub(super) fn warning(
        check: &'static str,
        message: impl Into<String>,
        advice: impl Into<String>,
    ) -> Self {
        let (message, advice) = (message.into(), Some(advice.into()));
        Self { check, health: Health::Warning, message, advice }
    }

    pub(super) fn problem(
        check: &'static str,
        message: impl Into<String>,
        advice: impl Into<String>,
    ) -> Self {
        Self { health: Health::Problem, ..Self::warning(check, message, advice) }
    }

    /// Adds advice to a finding that needs no action.
    pub(super) fn advise(self, advice: impl Into<String>) -> Self {
        Self { advice: Some(advice.into()), ..self }
    }

    pub(super) fn value(&self) -> Value {
        json!({
            "check": self.check,
            "status": self.health.name(),
            "message": self.message,
            "advice": self.advice,
        })
    }
}

/// The findings for people: a row for each, with its advice below, and a summary.
pub(super) fn text(findings: &[Finding]) -> String {
    let mut rows = Vec::new();
    for finding in findings {
        let health = finding.health.name().to_owned();
        rows.push(vec![health, finding.check.to_owned(), one_line(&finding.message)]);
        if let Some(advice) = &finding.advice {
            rows.push(vec![String::new(), String::new(), format!("-> {}", one_line(advice))]);
        }
    }
    let table = output::table(&["status", "subject", "finding, and what to do"], &rows);
    format!("{table}\n{}\n", verdict(findings))
}

/// Joins lines. Messages of servers and of logs may have several.
fn one_line(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

fn verdict(findings: &[Finding]) -> String {
    let count = |health| findings.iter().filter(|finding| finding.health == health).count();
    let some = |count: usize, what: &str| match count {
        0 => None,
        1 => Some(format!("1 {what}")),
        _ => Some(format!("{count} {what}s")),
    };
    let found = [some(count(Health::Problem), "problem"), some(count(Health::Warning), "warning")];
    let found: Vec<_> = found.into_iter().flatten().collect();
    if found.is_empty() { "everything is in order".to_owned() } else { found.join(", ") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn advice_stands_below_what_it_is_about() {
        let findings = [
            Finding::ok("settings", "fine"),
            Finding::problem("provider", "said\r\n\x1b[31mno", "ask it"),
        ];
        let shown = "status   subject   finding, and what to do\n\
                     ok       settings  fine\n\
                     problem  provider  said �[31mno\n                   -> ask it\n\n1 problem\n";
        assert_eq!(text(&findings), shown);
        assert_eq!(
            findings[0].value(),
            json!({ "check": "settings", "status": "ok", "message": "fine", "advice": null })
        );
    }

    #[test]
    fn the_verdict_counts() {
        let (well, warning) = (Finding::ok("log", ""), Finding::warning("log", "", ""));
        assert_eq!(verdict(std::slice::from_ref(&well)), "everything is in order");
        let problem = Finding::problem("log", "", "");
        let all = [well, warning.clone(), warning, problem];
        assert_eq!(verdict(&all), "1 problem, 2 warnings");
    }
}
