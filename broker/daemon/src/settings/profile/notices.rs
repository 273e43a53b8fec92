//! `[notices]`: where notifications go besides the Inbox.

use serde::Deserialize;
use sundown_core::settings::Forward;
use toml::Spanned;

use super::super::source::SettingsError;
use super::super::value::{MailAddress, Spelled};
use super::Reader;

#[derive(Deserialize, Default)]
#[serde(default, deny_unknown_fields, expecting = "a table: [notices]")]
pub(super) struct NoticesSection {
    forward: Option<Spelled<MailAddress>>,
    command: Option<Spanned<Vec<String>>>,
}

impl Reader<'_> {
    pub(super) fn forward(&self, section: NoticesSection) -> Result<Forward, SettingsError> {
        let NoticesSection { forward, command } = section;
        let Some(command) = command else {
            return Ok(forward.map_or(Forward::No, |address| Forward::To(address.0)));
        };
        let wrong = |why: &str| Err(self.source.error(command.span(), why));
        if forward.is_some() {
            return wrong("notifications go to `forward` or to `command`, not to both");
        }
        if command.get_ref().first().is_none_or(String::is_empty) {
            return wrong(
                "expected a program and its arguments, such as [\"/usr/bin/tell\", \"anna\"]",
            );
        }
        Ok(Forward::Command(command.into_inner()))
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
    fn what_is_no_destination_is_refused() {
        for (text, words) in [
            ("forward = \"a b\"", "notices.forward"),
            ("forward = \"root\"\ncommand = [\"tell\"]", "not to both"),
            ("command = []", "a program and its arguments"),
            ("command = [\"\"]", "a program and its arguments"),
            ("command = \"tell\"", "notices.command"),
            ("to = \"root\"", "forward"),
        ] {
            let error = forward(text).expect_err(text);
            assert!(error.contains(words) && error.contains("work.toml, line "), "{text}: {error}");
        }
    }
}
