//! A mailbox of kind `imap`: which keys it has, and what it must say.

use std::ops::Range;

use toml::Spanned;

use super::super::kinds::{IMAP, keys_of_mailbox};
use super::super::smtp::{Security, is_loopback};
use super::super::source::SettingsError;
use super::super::value::PathText;
use super::Reader;
use super::mailbox::MailboxSection;
use super::transport::{Given, Options, in_order, place, text};

/// The option with one of the patterns for the names of folders.
const FOLDER_OPTION: &str = "folder";

impl MailboxSection {
    /// The keys that are set and that not every kind has, with their places, in the order of the file.
    fn special(&self) -> Vec<(&'static str, Range<usize>)> {
        let mut special = vec![
            ("path", place(self.path.as_ref())),
            ("address", self.address.as_ref().map(Spanned::span)),
            ("host", place(self.host.as_ref())),
            ("port", place(self.port.as_ref())),
            ("security", place(self.security.as_ref())),
            ("username", place(self.username.as_ref())),
            ("auth", place(self.auth.as_ref())),
            ("ca_file", place(self.ca_file.as_ref())),
            ("tls_fingerprint", place(self.tls_fingerprint.as_ref())),
            ("tls_certificate", place(self.tls_certificate.as_ref())),
            ("tls_key", place(self.tls_key.as_ref())),
            ("proxy", place(self.proxy.as_ref())),
            ("source_address", place(self.source_address.as_ref())),
            ("timeout", place(self.timeout.as_ref())),
            ("connect_timeout", place(self.connect_timeout.as_ref())),
            ("bodies", place(self.bodies.as_ref())),
            ("sent", place(self.sent.as_ref())),
            ("take_over", place(self.take_over.as_ref())),
            ("compression", place(self.compression.as_ref())),
        ];
        special.extend(self.passwords().map(|(key, place)| (key, Some(place))));
        in_order(special.into_iter().filter_map(|(key, place)| Some((key, place?))))
    }

    /// The keys that are set and say where the password is, with their places.
    fn passwords(&self) -> impl Iterator<Item = (&'static str, Range<usize>)> {
        let keys = [
            ("password_command", place(self.password_command.as_ref())),
            ("password_file", place(self.password_file.as_ref())),
            ("password_credential", place(self.password_credential.as_ref())),
            ("password_env", place(self.password_env.as_ref())),
        ];
        keys.into_iter().filter_map(|(key, place)| Some((key, place?)))
    }
}

impl Reader<'_> {
    /// Refuses keys of another kind.
    pub(super) fn check_mailbox_keys(&self, section: &MailboxSection) -> Result<(), SettingsError> {
        let keys = keys_of_mailbox(section.kind());
        let foreign = |(key, _): &(&str, _)| keys.iter().all(|known| known.name != *key);
        let Some((key, at)) = section.special().into_iter().find(foreign) else { return Ok(()) };
        let keys: Vec<_> = keys.iter().map(|known| format!("`{}`", known.name)).collect();
        let message = format!(
            "a mailbox of kind {:?} has no key `{key}`; expected one of {}",
            section.kind(),
            keys.join(", ")
        );
        Err(self.source.error(at, message))
    }

    /// The options of an account: what was set, and always host, port, security and user name.
    pub(super) fn account(
        &self,
        section: &MailboxSection,
        span: &Range<usize>,
    ) -> Result<Options, SettingsError> {
        let needs = |key: &str| {
            let message = format!("a mailbox of kind {IMAP:?} needs the key `{key}`");
            self.source.error(span.clone(), message)
        };
        let host = section.host.as_ref().ok_or_else(|| needs("host"))?;
        section.username.as_ref().ok_or_else(|| needs("username"))?;
        let auth = place(section.auth.as_ref());
        let passwords = in_order(section.passwords());
        self.check_password(section.username.as_ref(), &passwords, auth)?;
        let security = section.security.as_ref().map_or(Security::Tls, |word| word.get_ref().0);
        let stays = is_loopback(&host.get_ref().0) && section.proxy.is_none();
        if let Some(word) =
            section.security.as_ref().filter(|_| security == Security::None && !stays)
        {
            let message = format!(
                "`security`: no password goes to {:?} where anybody may read it; \"none\" is for localhost, 127.0.0.0/8 and \
                 ::1; expected \"tls\" or \"starttls\"",
                host.get_ref().0
            );
            return Err(self.source.error(word.span(), message));
        }
        let client = (place(section.tls_certificate.as_ref()), place(section.tls_key.as_ref()));
        self.check_pair(client)?;
        let default_port = if security == Security::Tls { 993 } else { 143 };
        let port = section.port.as_ref().map_or(default_port, |port| port.get_ref().0);
        let file = |path: &Given<PathText>| path.as_ref().map(|path| self.file(path)).transpose();
        let time = |time: &Given<_>| {
            let time: Option<
                &Spanned<super::super::value::Spelled<super::super::value::PositiveTime>>,
            > = time.as_ref();
            time.map(|time| time.get_ref().0.as_millis().to_string())
        };
        let options = [
            ("host", text(section.host.as_ref())),
            ("port", Some(port.to_string())),
            ("security", Some(security.name().to_owned())),
            ("username", text(section.username.as_ref())),
            ("password_command", text(section.password_command.as_ref())),
            ("password_file", file(&section.password_file)?),
            ("password_credential", text(section.password_credential.as_ref())),
            ("password_env", text(section.password_env.as_ref())),
            ("auth", text(section.auth.as_ref())),
            ("ca_file", file(&section.ca_file)?),
            ("tls_fingerprint", text(section.tls_fingerprint.as_ref())),
            ("tls_certificate", file(&section.tls_certificate)?),
            ("tls_key", file(&section.tls_key)?),
            ("proxy", text(section.proxy.as_ref())),
            ("source_address", text(section.source_address.as_ref())),
            ("timeout", time(&section.timeout)),
            ("connect_timeout", time(&section.connect_timeout)),
            ("bodies", text(section.bodies.as_ref())),
            ("sent", text(section.sent.as_ref())),
            ("take_over", file(&section.take_over)?),
            ("compression", text(section.compression.as_ref())),
        ];
        let set = options.into_iter().filter_map(|(key, value)| Some((key.to_owned(), value?)));
        let mut options: Options = set.collect();
        options.extend(self.patterns(section.folders.as_ref())?);
        Ok(options)
    }

    /// Which folders of an account are shown.
    fn patterns(&self, folders: Option<&Spanned<toml::Value>>) -> Result<Options, SettingsError> {
        let Some(folders) = folders else { return Ok(Options::new()) };
        let wrong = |what: String| {
            let why = format!(
                "{what}; expected a list of patterns such as [\"*\"] or [\"INBOX\", \"Work/*\"], with \"!\" in front of what \
                 is not shown"
            );
            self.source.error(folders.span(), why)
        };
        let Some(list) = folders.get_ref().as_array() else {
            return Err(wrong(format!("invalid value {}", folders.get_ref())));
        };
        let pattern = |value: &toml::Value| match value.as_str().filter(|text| !text.is_empty()) {
            Some(text) => Ok((FOLDER_OPTION.to_owned(), text.to_owned())),
            None => Err(wrong(format!("invalid value {value}"))),
        };
        list.iter().map(pattern).collect()
    }
}

#[cfg(test)]
mod tests {
    use sundown_core::settings::Watching;

    use super::super::tests::load;

    const LEAST: &str = "[[mailbox]]\nkind = \"imap\"\nhost = \"imap.example.org\"\n\
                         username = \"anna\"\npassword_env = \"SECRET\"\n";

    #[test]
    fn an_account_needs_little() {
        let profile = load(LEAST).expect("a profile");
        let [mailbox] = &profile.mailboxes[..] else { panic!("{:?}", profile.mailboxes) };
        let value = |key: &str| {
            let mut options = mailbox.provider.options.iter();
            options.find(|(name, _)| name == key).map(|(_, value)| value.as_str())
        };
        assert_eq!((value("port"), value("security")), (Some("993"), Some("tls")));
        assert_eq!((mailbox.provider.name.as_str(), mailbox.watch), ("imap", Watching::Members));
        let more = "watch = \"attached\"\nsecurity = \"starttls\"\nbodies = \"on-demand\"\n\
                    folders = [\"*\", \"!Spam\"]\nsent = \"server\"\nauth = \"oauthbearer\"\ncompression = \"never\"\n\
                    take_over = \"/mail\"\n";
        let profile = load(&format!("{LEAST}{more}")).expect("a profile");
        let options = &profile.mailboxes[0].provider.options;
        let has = |key: &str, value: &str| {
            assert!(options.contains(&(key.to_owned(), value.to_owned())), "{key}: {options:?}");
        };
        has("port", "143");
        has("bodies", "on-demand");
        has("folder", "*");
        has("folder", "!Spam");
        has("sent", "server");
        has("compression", "never");
        has("take_over", "/mail");
    }

    /// The folders of every store are those of the first mailbox.
    #[test]
    fn a_further_account_has_a_folder_of_its_own() {
        let named = format!("{}name = \"work\"\n", LEAST.replace("anna", "bo@example.org"));
        let profile = load(&[LEAST, &named].concat()).expect("a profile");
        let heading = |place: usize| {
            let mut options = profile.mailboxes[place].provider.options.iter();
            options.find(|(name, _)| name == "heading").map(|(_, value)| value.as_str())
        };
        assert_eq!([0, 1].map(heading), [None, Some("work")]);
        let maildir = format!("[[mailbox]]\npath = \"/mail\"\n{LEAST}");
        let profile = load(&maildir).expect("a profile");
        assert!(profile.mailboxes[1].provider.options.contains(&("heading".into(), "anna".into())));
    }

    #[test]
    fn what_is_wrong_with_an_account_is_said() {
        let wrong = |text: &str, words: &[&str]| {
            let error = load(text).expect_err(text).to_string();
            for word in words {
                assert!(error.contains(word), "{word}: {error}");
            }
        };
        let with = |line: &str| format!("{LEAST}{line}\n");
        wrong("[[mailbox]]\nkind = \"imap\"\n", &["needs the key `host`"]);
        wrong("[[mailbox]]\nkind = \"imap\"\nhost = \"h\"\n", &["needs the key `username`"]);
        wrong(&LEAST.replace("password_env", "#"), &["a username needs a password"]);
        wrong(&with("security = \"none\""), &["no password goes to", "\"starttls\""]);
        wrong(&with("security = \"opportunistic\""), &["\"tls\""]);
        wrong(&with("path = \"x\""), &["no key `path`", "`host`"]);
        wrong(&with("folders = \"all\""), &["a list of patterns"]);
        wrong(&with("folders = [1]"), &["a list of patterns"]);
        wrong(&with("bodies = \"some\""), &["on-demand"]);
        wrong(&with("compression = \"gzip\""), &["never"]);
        wrong(&with("tls_key = \"k\""), &["needs a `tls_certificate`"]);
        wrong(&with("password_file = \"x\""), &["one too many"]);
        wrong("[[mailbox]]\npath = \"x\"\nhost = \"h\"\n", &["\"maildir\" has no key `host`"]);
        let twice = format!("{LEAST}\n{LEAST}name = \"again\"\n");
        wrong(&twice, &["the account is that of \"imap\" already"]);
    }
}
