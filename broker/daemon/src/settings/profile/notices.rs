//! `[notices]`: where notifications go besides the Inbox.

use serde::Deserialize;
use sundown_core::settings::Forward;
use toml::Spanned;

use super::super::source::SettingsError;
use super::super::value::{Delay, MailAddress, Spelled};
use super::Reader;

#[derive(Deserialize, Default)]
#[serde(default, deny_unknown_fields, expecting = "a table: [notices]")]
pub(super) struct NoticesSection {
    forward: Option<Spelled<MailAddress>>,
    command: Option<Spanned<Vec<String>>>,
    pub(super) delay_after: Option<Spelled<Delay>>,
}

impl Reader<'_> {
    pub(super) fn forward(&self, section: NoticesSection) -> Result<Forward, SettingsError> {
        let NoticesSection { forward, command, delay_after: _ } = section;
        let Some(command) = command else {
            return Ok(forward.map_or(Forward::No, |address| Forward::To(address.0)));
        };
        if forward.is_some() {
            let why = "notifications go to `forward` or to `command`, not to both";
            return Err(self.source.error(command.span(), why));
        }
        self.program(command).map(Forward::Command)
    }
}

#[cfg(test)]
mod tests {
    use super::super::ProfileError;
    use super::super::tests::load;
    use super::*;

    fn forward(text: &str) -> Result<Forward, String> {
        let loaded = load(&format!("[notices]\n{text}\n"));
        loaded.map(|profile| profile.forward).map_err(|error| match error {
            ProfileError::Invalid(error) => error.to_string(),
            other => panic!("{other}"),
        })
    }

    #[test]
    fn notifications_go_to_an_address_or_to_a_program() {
        assert_eq!(forward(""), Ok(Forward::No));
        let to = Forward::To("anna@example.org".into());
        assert_eq!(forward("forward = \"anna@example.org\""), Ok(to));
        assert_eq!(forward("forward = \"root\""), Ok(Forward::To("root".into())));
        let command = Forward::Command(vec!["tell".into(), "anna".into()]);
        assert_eq!(forward("command = [\"tell\", \"anna\"]"), Ok(command));
    }

    #[test]
    fn a_delay_is_told_after_a_time_or_never() {
        let delay = |text: &str| {
            let loaded = load(&format!("[notices]\n{text}\n"));
            loaded.map(|profile| profile.queue.delay_after).map_err(|error| error.to_string())
        };
        let hours = |n: u64| Some(std::time::Duration::from_secs(n * 3600));
        assert_eq!(delay(""), Ok(hours(4)));
        assert_eq!(delay("delay_after = \"1h\""), Ok(hours(1)));
        assert_eq!(delay("delay_after = \"off\""), Ok(None));
        for wrong in ["\"0s\"", "\"never\"", "4"] {
            let error = delay(&format!("delay_after = {wrong}")).expect_err(wrong);
            assert!(error.contains("notices.delay_after"), "{error}");
        }
    }

    #[test]
    fn what_is_no_destination_is_refused() {
        for (text, words) in [
            ("forward = \"a b\"", "notices.forward"),
            ("forward = \"root\"\ncommand = [\"tell\"]", "not to both"),
            ("command = []", "a program and its arguments"),
            ("command = [\"\"]", "a program and its arguments"),
            ("command = [\"tell\", \"a\\u0000b\"]", "the character NUL"),
            ("command = \"tell\"", "notices.command"),
            ("to = \"root\"", "forward"),
        ] {
            let error = forward(text).expect_err(text);
            assert!(error.contains(words) && error.contains("work.toml, line "), "{text}: {error}");
        }
    }
}
