//! `[[transport]]`: which keys each kind has, what an SMTP transport must say, and what a transport takes by default.

use std::ops::Range;
use std::path::PathBuf;

use serde::Deserialize;
use sundown_core::address::Pattern;
use sundown_core::local::{LocalMail, Users};
use sundown_core::provider::{ProviderSpec, ProviderType};
use sundown_core::settings::TransportSpec;
use sundown_mail::address::{domain_to_ascii, is_full};
use sundown_providers::pipe::{ARGUMENT_OPTION, Template};
use sundown_providers::users::{ASK_OPTION, PLACEHOLDER, USER_OPTION};
use toml::Spanned;

use super::super::kinds::{LMTP, MAILDIR, PIPE, SMTP, keys_of_transport};
use super::super::smtp::{
    AuthWord, CommandLine, Connections, Credential, Fingerprint, HeloName, Host, MaxRecipients,
    Plaintext, Port, Proxy, Rate, Security, SecurityWord, SourceAddress, UserName, Variable,
    is_loopback,
};
use super::super::source::SettingsError;
use super::super::value::{
    AcceptPattern, FastShutdownWord, MailAddress, Name, PathText, PositiveTime, RewriteFrom,
    RewriteWord, Spelled, Spelling,
};
use super::local::SYSTEM;
use super::{ProviderSection, Reader, or_default, span_of};

/// A value of a section, which knows where it stands.
pub(super) type Given<S> = Option<Spanned<Spelled<S>>>;

/// What a profile says to a provider, by key.
pub(super) type Options = Vec<(String, String)>;

/// The keys of all kinds. Which of them a section may have is looked at when its kind is known.
#[derive(Deserialize, Default)]
#[serde(default, deny_unknown_fields, expecting = "a table")]
pub(super) struct TransportSection {
    name: Given<Name>,
    kind: Option<String>,
    path: Given<PathText>,
    accept: Option<Vec<Spelled<AcceptPattern>>>,
    senders: Option<Vec<Spelled<AcceptPattern>>>,
    identity: Given<MailAddress>,
    fast_shutdown: Option<Spelled<FastShutdownWord>>,
    host: Given<Host>,
    port: Given<Port>,
    security: Given<SecurityWord>,
    plaintext: Given<Plaintext>,
    username: Given<UserName>,
    password_command: Given<CommandLine>,
    password_file: Given<PathText>,
    password_credential: Given<Credential>,
    password_env: Given<Variable>,
    auth: Given<AuthWord>,
    ca_file: Given<PathText>,
    tls_fingerprint: Given<Fingerprint>,
    tls_certificate: Given<PathText>,
    tls_key: Given<PathText>,
    helo: Given<HeloName>,
    proxy: Given<Proxy>,
    source_address: Given<SourceAddress>,
    connections: Given<Connections>,
    timeout: Given<PositiveTime>,
    connect_timeout: Given<PositiveTime>,
    max_recipients: Given<MaxRecipients>,
    rate: Given<Rate>,
    command: Option<Spanned<Vec<String>>>,
}

/// What a profile says about the authors of its messages.
pub(super) struct Authors<'a> {
    /// Who its user is.
    pub(super) identity: &'a String,
    /// The same, if the profile says it.
    pub(super) given: Option<&'a String>,
    /// Which authors become another one.
    pub(super) rewrite: Option<&'a Spanned<Spelled<RewriteWord>>>,
    /// The addresses of this host.
    pub(super) local: &'a LocalMail,
}

/// The keys that say where a password is.
const PASSWORDS: &str =
    "`password_command`, `password_file`, `password_credential` or `password_env`";

impl TransportSection {
    fn kind(&self) -> &str {
        self.kind.as_deref().unwrap_or(MAILDIR)
    }

    /// The keys that are set and not for every kind, with their places.
    fn special(&self) -> Vec<(&'static str, Range<usize>)> {
        let mut special = vec![
            ("path", place(self.path.as_ref())),
            ("identity", place(self.identity.as_ref())),
            ("host", place(self.host.as_ref())),
            ("port", place(self.port.as_ref())),
            ("security", place(self.security.as_ref())),
            ("plaintext", place(self.plaintext.as_ref())),
            ("username", place(self.username.as_ref())),
            ("auth", place(self.auth.as_ref())),
            ("ca_file", place(self.ca_file.as_ref())),
            ("tls_fingerprint", place(self.tls_fingerprint.as_ref())),
            ("tls_certificate", place(self.tls_certificate.as_ref())),
            ("tls_key", place(self.tls_key.as_ref())),
            ("helo", place(self.helo.as_ref())),
            ("proxy", place(self.proxy.as_ref())),
            ("source_address", place(self.source_address.as_ref())),
            ("connections", place(self.connections.as_ref())),
            ("timeout", place(self.timeout.as_ref())),
            ("connect_timeout", place(self.connect_timeout.as_ref())),
            ("max_recipients", place(self.max_recipients.as_ref())),
            ("rate", place(self.rate.as_ref())),
            ("command", self.command.as_ref().map(Spanned::span)),
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
    pub(super) fn transports(
        &self,
        sections: Vec<Spanned<TransportSection>>,
        authors: &Authors<'_>,
    ) -> Result<Vec<TransportSpec>, SettingsError> {
        let mut transports = Vec::new();
        let mut specs = Vec::new();
        for section in or_default(sections) {
            let (span, section) = (section.span(), section.into_inner());
            let name = span_of(section.name.as_ref(), &span);
            let transport = self.transport(section, &span, authors)?;
            self.check_name(&transport.provider, ProviderType::Transport, name, &specs)?;
            specs.push(transport.provider.clone());
            transports.push(transport);
        }
        Ok(transports)
    }

    fn transport(
        &self,
        mut section: TransportSection,
        span: &Range<usize>,
        authors: &Authors<'_>,
    ) -> Result<TransportSpec, SettingsError> {
        self.check_keys(&section)?;
        let elsewhere = section.kind() == SMTP;
        // A server at a host has no path, whatever the data directory is.
        let at_host = elsewhere || section.host.is_some();
        let accept = match section.accept.take() {
            Some(patterns) => patterns.into_iter().map(|pattern| pattern.0).collect(),
            None if elsewhere => vec![Pattern::Elsewhere(self.host())],
            None => self.local(),
        };
        let senders = section.senders.take().unwrap_or_default();
        let senders: Vec<_> = senders.into_iter().map(|pattern| pattern.0).collect();
        let options = match section.kind() {
            SMTP => {
                let mut options = self.smtp(&section, span)?;
                let identity = text(section.identity.as_ref());
                options.extend(self.author(identity, &senders, authors)?);
                options
            }
            LMTP => self.lmtp(&section, span)?,
            MAILDIR => self.maildir(&section, &authors.local.users)?,
            PIPE => self.pipe(&section, span, &authors.local.users)?,
            _ => Options::new(),
        };
        let TransportSection { name, kind, path, fast_shutdown, command, .. } = section;
        let section = ProviderSection { name, kind, path, fast_shutdown };
        let provider = self.provider(&section, MAILDIR, "Maildir")?;
        let program = command.and_then(|command| command.into_inner().into_iter().next());
        let path = match program {
            Some(program) => PathBuf::from(program),
            None if at_host => PathBuf::new(),
            None => provider.path,
        };
        Ok(TransportSpec { provider: ProviderSpec { path, options, ..provider }, accept, senders })
    }

    /// The options of a Maildir: whose names may be in its path.
    fn maildir(&self, section: &TransportSection, users: &Users) -> Result<Options, SettingsError> {
        let path = section.path.as_ref().filter(|path| path.get_ref().0.contains(PLACEHOLDER));
        path.map_or_else(|| Ok(Options::new()), |path| self.users("path", path.span(), users))
    }

    /// The options of a pipe: its arguments, and whose names may be in them. The program itself is its path.
    fn pipe(
        &self,
        section: &TransportSection,
        span: &Range<usize>,
        users: &Users,
    ) -> Result<Options, SettingsError> {
        let command = section.command.as_ref().ok_or_else(|| {
            let message = "a transport of kind \"pipe\" needs the key `command`, such as \
                           [\"/usr/bin/procmail\", \"-d\", \"{user}\"]";
            self.source.error(span.clone(), message)
        })?;
        let wrong = |why: String| self.source.error(command.span(), why);
        let Some((program, arguments)) = command.get_ref().split_first() else {
            let why = "expected a program and its arguments, such as [\"/usr/bin/procmail\"]";
            return Err(wrong(why.to_owned()));
        };
        let template = Template::of(program, arguments).map_err(wrong)?;
        let argument = |text: &String| (ARGUMENT_OPTION.to_owned(), text.clone());
        let mut options: Options = arguments.iter().map(argument).collect();
        if template.names_user() {
            options.extend(self.users("command", command.span(), users)?);
        }
        options.extend(self.server(section, None)?);
        Ok(options)
    }

    /// What `{user}` in a key may stand for. The profile must say who is a user: a name comes from outside.
    fn users(&self, key: &str, at: Range<usize>, users: &Users) -> Result<Options, SettingsError> {
        match users {
            Users::Any => {
                let message = format!(
                    "{PLACEHOLDER} in `{key}` needs `local_users` in [mail]: \"system\", or a list of users"
                );
                Err(self.source.error(at, message))
            }
            Users::System => Ok(vec![(ASK_OPTION.to_owned(), SYSTEM.to_owned())]),
            Users::Listed(names) => {
                let one = |name: &String| (USER_OPTION.to_owned(), name.clone());
                Ok(names.iter().map(one).collect())
            }
        }
    }

    /// Refuses keys of another kind.
    fn check_keys(&self, section: &TransportSection) -> Result<(), SettingsError> {
        let keys = keys_of_transport(section.kind());
        let foreign = |(key, _): &(&str, _)| keys.iter().all(|known| known.name != *key);
        let Some((key, at)) = section.special().into_iter().find(foreign) else { return Ok(()) };
        let keys: Vec<_> = keys.iter().map(|known| format!("`{}`", known.name)).collect();
        let message = format!(
            "a transport of kind {:?} has no key `{key}`; expected one of {}",
            section.kind(),
            keys.join(", ")
        );
        Err(self.source.error(at, message))
    }

    /// The options of an SMTP transport: what was set, and always host, port and security.
    fn smtp(
        &self,
        section: &TransportSection,
        span: &Range<usize>,
    ) -> Result<Options, SettingsError> {
        let host = section.host.as_ref().ok_or_else(|| {
            let message = "a transport of kind \"smtp\" needs the key `host`";
            self.source.error(span.clone(), message)
        })?;
        let security =
            section.security.as_ref().map_or(Security::Starttls, |word| word.get_ref().0);
        self.check_security(section, &host.get_ref().0, security)?;
        self.check_login(section)?;
        self.check_client(section)?;
        let port = section.port.as_ref().map_or(security.port(), |port| port.get_ref().0);
        self.server(section, Some((port, security)))
    }

    /// The options of an LMTP transport, whose server is at a socket or at a host.
    fn lmtp(
        &self,
        section: &TransportSection,
        span: &Range<usize>,
    ) -> Result<Options, SettingsError> {
        match (&section.host, &section.path) {
            (Some(host), None) => {
                let security =
                    section.security.as_ref().map_or(Security::None, |word| word.get_ref().0);
                self.check_security(section, &host.get_ref().0, security)?;
                self.check_client(section)?;
                self.server(section, Some((self.lmtp_port(section)?, security)))
            }
            (None, Some(path)) => {
                self.check_socket(section, path)?;
                self.server(section, None)
            }
            (Some(_), Some(path)) => {
                let message = "`path` is there beside `host`; keep one";
                Err(self.source.error(path.span(), message))
            }
            (None, None) => {
                let message =
                    "a transport of kind \"lmtp\" needs the key `path`, a socket, or `host`";
                Err(self.source.error(span.clone(), message))
            }
        }
    }

    /// LMTP must not be spoken where SMTP is (RFC 2033, 5): a relay would be taken for a mailbox.
    fn lmtp_port(&self, section: &TransportSection) -> Result<u16, SettingsError> {
        match &section.port {
            None => Ok(24),
            Some(port) if port.get_ref().0 == 25 => {
                let message = "port 25 is for SMTP; LMTP mostly has 24 or a socket";
                Err(self.source.error(port.span(), message))
            }
            Some(port) => Ok(port.get_ref().0),
        }
    }

    /// A socket is on this host, and nothing is encrypted there.
    fn check_socket(
        &self,
        section: &TransportSection,
        path: &Spanned<Spelled<PathText>>,
    ) -> Result<(), SettingsError> {
        const ELSEWHERE: [&str; 7] = [
            "port",
            "security",
            "plaintext",
            "ca_file",
            "tls_fingerprint",
            "tls_certificate",
            "tls_key",
        ];
        let foreign = section.special().into_iter().find(|(key, _)| ELSEWHERE.contains(key));
        if let Some((key, at)) = foreign {
            let message = format!("`{key}` is for a server at a `host`; this one is at a `path`");
            return Err(self.source.error(at, message));
        }
        if self.file(path)?.contains(char::is_whitespace) {
            let message = "the path of a socket has no blanks";
            return Err(self.source.error(path.span(), message));
        }
        Ok(())
    }

    /// The options of a conversation with a server: what was set and, of one at a host, always port and security.
    fn server(
        &self,
        section: &TransportSection,
        at: Option<(u16, Security)>,
    ) -> Result<Options, SettingsError> {
        let file = |path: &Given<PathText>| path.as_ref().map(|p| self.file(p)).transpose();
        let time = |time: &Given<PositiveTime>| {
            time.as_ref().map(|time| time.get_ref().0.as_millis().to_string())
        };
        let options = [
            ("host", text(section.host.as_ref())),
            ("port", at.map(|(port, _)| port.to_string())),
            ("security", at.map(|(_, security)| security.name().to_owned())),
            ("plaintext", text(section.plaintext.as_ref())),
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
            ("helo", text(section.helo.as_ref())),
            ("proxy", text(section.proxy.as_ref())),
            ("source_address", text(section.source_address.as_ref())),
            ("connections", text(section.connections.as_ref())),
            ("timeout", time(&section.timeout)),
            ("connect_timeout", time(&section.connect_timeout)),
            ("max_recipients", text(section.max_recipients.as_ref())),
            ("rate", text(section.rate.as_ref())),
        ];
        Ok(options.into_iter().filter_map(|(key, value)| Some((key.to_owned(), value?))).collect())
    }

    /// What a transport makes of authors that mean nothing, or are not its own, where it hands mail to.
    fn author(
        &self,
        identity: Option<String>,
        senders: &[Pattern],
        authors: &Authors<'_>,
    ) -> Result<Options, SettingsError> {
        let Authors { rewrite, local, .. } = authors;
        let word = rewrite.map_or(RewriteFrom::Unqualified, |word| word.get_ref().0);
        // What is only made of the user's and the host's name was not meant to leave the host.
        let is_meant = identity.as_ref().or(authors.given).is_some_and(|who| is_full(who));
        let identity = identity.unwrap_or_else(|| authors.identity.clone());
        if let (RewriteFrom::Always, Some(word), false) = (word, rewrite, is_meant) {
            let message = format!(
                "{identity:?} is an address of this host alone, and every author would become it: give the profile or its \
                 transport an `identity` such as \"anna@example.org\""
            );
            return Err(self.source.error(word.span(), message));
        }
        let senders: Vec<_> = senders.iter().map(ToString::to_string).collect();
        let options = [
            ("rewrite_from", Some(word.name().to_owned())),
            ("identity", Some(identity)),
            ("senders", (!senders.is_empty()).then(|| senders.join("\n"))),
            ("mail_host", Some(local.host.clone()).filter(|host| !host.is_empty())),
            ("mail_domain", local.domain.clone()),
        ];
        Ok(options.into_iter().filter_map(|(key, value)| Some((key.to_owned(), value?))).collect())
    }

    /// Mail goes over a network in the clear only if the profile says that it is meant to, and a password never.
    fn check_security(
        &self,
        section: &TransportSection,
        host: &str,
        security: Security,
    ) -> Result<(), SettingsError> {
        let open = match security {
            Security::Starttls | Security::Tls => false,
            Security::Opportunistic => true,
            // Behind a proxy no host is this one.
            Security::None => !is_loopback(host) || section.proxy.is_some(),
        };
        let said = place(section.plaintext.as_ref());
        // Where LMTP says nothing, it is in the clear.
        let meant = place(section.security.as_ref()).or_else(|| place(section.host.as_ref()));
        let (at, message) = match (meant, said, &section.username) {
            (_, Some(at), _) if security != Security::None => {
                (at, "`plaintext` is for `security = \"none\"`".to_owned())
            }
            (Some(at), None, _) if security == Security::None && open => (
                at,
                format!(
                    "{host:?} is not this host, or is behind a proxy, and what goes there should be encrypted: \"none\" is for \
                     localhost, 127.0.0.0/8 and ::1; expected \"starttls\", \"tls\", \"opportunistic\", or \
                     `plaintext = \"i-understand\"` beside it"
                ),
            ),
            (_, _, Some(username)) if open => (
                username.span(),
                format!(
                    "`username`: no password goes to {host:?} where anybody may read it; expected \
                     `security = \"starttls\"` or \"tls\""
                ),
            ),
            _ => return Ok(()),
        };
        Err(self.source.error(at, message))
    }

    /// A username has one password, and nothing of both stands alone.
    fn check_login(&self, section: &TransportSection) -> Result<(), SettingsError> {
        let auth = place(section.auth.as_ref());
        self.check_password(section.username.as_ref(), &in_order(section.passwords()), auth)
    }

    /// The same, of the keys that say who logs on, where the password is, and how it is proved.
    pub(super) fn check_password(
        &self,
        username: Option<&Spanned<Spelled<UserName>>>,
        passwords: &[(&'static str, Range<usize>)],
        auth: Option<Range<usize>>,
    ) -> Result<(), SettingsError> {
        let (at, message) = match (username, passwords) {
            (Some(_), [_]) => return Ok(()),
            (Some(username), []) => {
                (username.span(), format!("a username needs a password: one of {PASSWORDS}"))
            }
            (Some(_), [(first, _), (second, at), ..]) => (
                at.clone(),
                format!("`{first}` says already where the password is; `{second}` is one too many"),
            ),
            (None, [(key, at), ..]) => (at.clone(), format!("`{key}` needs a `username`")),
            (None, []) => match auth {
                Some(at) => (at, "`auth` needs a `username`".to_owned()),
                None => return Ok(()),
            },
        };
        Err(self.source.error(at, message))
    }

    /// A certificate of one's own needs its key, and a key its certificate.
    fn check_client(&self, section: &TransportSection) -> Result<(), SettingsError> {
        self.check_pair((place(section.tls_certificate.as_ref()), place(section.tls_key.as_ref())))
    }

    /// The same, of the places of both.
    pub(super) fn check_pair(
        &self,
        places: (Option<Range<usize>>, Option<Range<usize>>),
    ) -> Result<(), SettingsError> {
        let (at, message) = match places {
            (Some(at), None) => {
                (at, "`tls_certificate` needs a `tls_key`, which may be the same file")
            }
            (None, Some(at)) => {
                (at, "`tls_key` needs a `tls_certificate`, which may be the same file")
            }
            _ => return Ok(()),
        };
        Err(self.source.error(at, message))
    }

    pub(super) fn file(&self, path: &Spanned<Spelled<PathText>>) -> Result<String, SettingsError> {
        let file = self.path(path)?;
        file.into_os_string().into_string().map_err(|file| {
            let message = format!("{} is no UTF-8", file.display());
            self.source.error(path.span(), message)
        })
    }

    /// Local addresses: no mail pretends to have left this host.
    fn local(&self) -> Vec<Pattern> {
        let mut accept = vec![Pattern::NoDomain, Pattern::Domain("localhost".to_owned())];
        let host = self.host();
        if !host.is_empty() && host != "localhost" {
            accept.push(Pattern::Domain(host));
        }
        accept
    }

    fn host(&self) -> String {
        let host = self.places.hostname.to_lowercase();
        match domain_to_ascii(host.strip_suffix('.').unwrap_or(&host)) {
            Some(ascii) => ascii.into_owned(),
            None => host,
        }
    }
}

pub(super) fn place<S: Spelling>(value: Option<&Spanned<Spelled<S>>>) -> Option<Range<usize>> {
    value.map(Spanned::span)
}

pub(super) fn text<S: Spelling>(value: Option<&Spanned<Spelled<S>>>) -> Option<String>
where
    S::Value: ToString,
{
    value.map(|value| value.get_ref().0.to_string())
}

/// Keys in the order of the file.
pub(super) fn in_order(
    keys: impl Iterator<Item = (&'static str, Range<usize>)>,
) -> Vec<(&'static str, Range<usize>)> {
    let mut keys: Vec<_> = keys.collect();
    keys.sort_by_key(|(_, place)| place.start);
    keys
}

#[cfg(test)]
mod tests {
    use super::super::tests::{fixture, load};
    use super::super::{Profile, ProfileError};
    use super::*;

    fn transport(text: &str) -> TransportSpec {
        let mut profile: Profile = load(text).unwrap_or_else(|error| panic!("{error}\n{text}"));
        profile.transports.remove(0)
    }

    /// What its server is, and how it is reached: who writes is looked at in a test of its own.
    fn options(text: &str) -> Vec<(String, String)> {
        let mut options = transport(text).provider.options;
        let authors = ["rewrite_from", "identity", "senders", "mail_host", "mail_domain"];
        options.retain(|(key, _)| !authors.contains(&key.as_str()));
        options
    }

    fn owned(options: &[(&str, &str)]) -> Vec<(String, String)> {
        options.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect()
    }

    #[test]
    fn a_host_is_enough() {
        let relay = transport("[[transport]]\nkind = \"smtp\"\nhost = \"smtp.example.org\"\n");
        let expected =
            owned(&[("host", "smtp.example.org"), ("port", "587"), ("security", "starttls")]);
        let told = owned(&[
            ("rewrite_from", "unqualified"),
            ("identity", "anna@Host.Lan"),
            ("mail_host", "Host.Lan"),
        ]);
        let options = [expected, told].concat();
        assert_eq!(relay.provider, ProviderSpec { options, ..ProviderSpec::new("smtp") });
        assert_eq!(relay.accept, [Pattern::Elsewhere("host.lan".to_owned())]);
        assert!(relay.takes("a@example.org") && !relay.takes("root") && !relay.takes("a@Host.Lan"));
    }

    #[test]
    fn every_key_is_read() {
        let relay = transport(
            r#"
            [[transport]]
            name = "relay"
            kind = "smtp"
            host = "smtp.example.org"
            port = 2525
            security = "tls"
            username = "anna"
            password_file = "~/.secret"
            auth = "xoauth2"
            ca_file = "ca.pem"
            tls_fingerprint = "aB:aB:aB:aB:aB:aB:aB:aB:aB:aB:aB:aB:aB:aB:aB:aB:aB:aB:aB:aB:aB:aB:aB:aB:aB:aB:aB:aB:aB:aB:aB:aB"
            tls_certificate = "me.pem"
            tls_key = "~/.me.key"
            helo = "host.example.org"
            proxy = "socks5://localhost:9050"
            source_address = "192.0.2.1"
            connections = 2
            timeout = "90s"
            connect_timeout = "1500ms"
            max_recipients = 7
            rate = "100/h"
            identity = "anna@example.org"
            senders = ["*@work.example", "*.team.example", "bo@example.org"]
            accept = ["*"]
            fast_shutdown = "refused"
            [mail]
            domain = "Example.net"
            rewrite_from = "always"
            "#,
        );
        let expected = owned(&[
            ("host", "smtp.example.org"),
            ("port", "2525"),
            ("security", "tls"),
            ("username", "anna"),
            ("password_file", "/home/anna/.secret"),
            ("auth", "xoauth2"),
            ("ca_file", "/data/work/ca.pem"),
            ("tls_fingerprint", &"aB:".repeat(32)[..95]),
            ("tls_certificate", "/data/work/me.pem"),
            ("tls_key", "/home/anna/.me.key"),
            ("helo", "host.example.org"),
            ("proxy", "socks5://localhost:9050"),
            ("source_address", "192.0.2.1"),
            ("connections", "2"),
            ("timeout", "90000"),
            ("connect_timeout", "1500"),
            ("max_recipients", "7"),
            ("rate", "100/h"),
            ("rewrite_from", "always"),
            ("identity", "anna@example.org"),
            ("senders", "work.example\n*.team.example\nbo@example.org"),
            ("mail_host", "Host.Lan"),
            ("mail_domain", "example.net"),
        ]);
        assert_eq!(relay.provider.options, expected);
        assert!(relay.senders.len() == 3 && relay.senders[0].takes("x@work.example"));
        assert_eq!(
            (relay.provider.name.as_str(), relay.accept),
            ("relay", vec![Pattern::Everything])
        );
        assert_eq!(relay.provider.fast_shutdown.name(), "refused");
    }

    #[test]
    fn a_password_is_where_the_profile_says() {
        let ways = [
            ("password_command", "pass show \\\"mail\\\"", "pass show \"mail\""),
            ("password_file", "/run/secret", "/run/secret"),
            ("password_credential", "smtp.work", "smtp.work"),
            ("password_env", "MAIL_PASSWORD", "MAIL_PASSWORD"),
        ];
        for (key, written, read) in ways {
            let text = format!(
                "[[transport]]\nkind = \"smtp\"\nhost = \"h\"\nusername = \"me\"\n{key} = \"{written}\"\n"
            );
            assert_eq!(options(&text)[3..], owned(&[("username", "me"), (key, read)]), "{key}");
        }
    }

    #[test]
    fn the_port_follows_from_the_security() {
        let cases = [
            ("starttls", "h", "587"),
            ("tls", "h", "465"),
            ("opportunistic", "h", "25"),
            ("none", "127.1.2.3", "25"),
        ];
        for (security, host, port) in cases {
            let text = format!(
                "[[transport]]\nkind = \"smtp\"\nhost = \"{host}\"\nsecurity = \"{security}\"\n"
            );
            assert_eq!(options(&text)[1..], owned(&[("port", port), ("security", security)]));
        }
    }

    #[test]
    fn a_way_in_the_clear_is_said_to_be_meant() {
        let text = "[[transport]]\nkind = \"smtp\"\nhost = \"relay.lan\"\nsecurity = \"none\"\n";
        let said = options(&format!("{text}plaintext = \"i-understand\"\n"));
        let wanted = owned(&[("port", "25"), ("security", "none"), ("plaintext", "i-understand")]);
        assert_eq!(said[1..], wanted);
    }

    #[test]
    fn a_pipe_has_a_program_and_arguments() {
        let text = "[mail]\nlocal_users = [\"anna\"]\n[[transport]]\nkind = \"pipe\"\ntimeout = \"90s\"\nconnections = 2\n\
                    command = [\"/usr/bin/procmail\", \"-d\", \"{user}\"]\n";
        let profile = load(text).expect("a profile");
        let transport = &profile.transports[0];
        assert_eq!(transport.provider.path, PathBuf::from("/usr/bin/procmail"));
        let expected = [
            ("argument", "-d"),
            ("argument", "{user}"),
            ("local_user", "anna"),
            ("connections", "2"),
            ("timeout", "90000"),
        ];
        assert_eq!(transport.provider.options, owned(&expected));
        assert!(transport.takes("root") && !transport.takes("a@example.org"));
        assert!(options("[[transport]]\nkind = \"pipe\"\ncommand = [\"/bin/x\"]\n").is_empty());
    }

    #[test]
    fn what_is_wrong_with_a_pipe_is_said() {
        for (lines, words) in [
            ("", &["needs the key `command`"][..]),
            ("command = []", &["transport[0].command", "a program and its arguments"]),
            ("command = \"/bin/x\"", &["transport[0].command"]),
            ("command = [\"procmail\"]", &["command", "\"procmail\" is no absolute path"]),
            (
                "command = [\"/bin/x\", \"{usr}\"]",
                &["command", "{usr} stands for nothing", "{user}"],
            ),
            ("command = [\"/bin/x\", \"{user}\"]", &["command", "`local_users`"]),
            ("command = [\"/bin/sh\", \"-c\", \"x {sender}\"]", &["command", "a shell would run"]),
            (
                "command = [\"/bin/x\"]\npath = \"x\"",
                &["kind \"pipe\" has no key `path`", "`command`"],
            ),
            ("command = [\"/bin/x\"]\nconnections = 65", &["connections", "1 to 64"]),
            ("command = [\"/bin/x\"]\ntimeout = \"0s\"", &["timeout", "above zero"]),
        ] {
            let loaded = load(&format!("[[transport]]\nkind = \"pipe\"\n{lines}\n"));
            let error = loaded.expect_err(lines).to_string();
            assert!(words.iter().all(|word| error.contains(word)), "{lines}: {error}");
        }
        let error = load("[[transport]]\ncommand = [\"/bin/x\"]\n").expect_err("a Maildir");
        assert!(error.to_string().contains("kind \"maildir\" has no key `command`"), "{error}");
    }

    #[test]
    fn mail_for_users_of_this_host_has_its_own_transport() {
        let text = "[[transport]]\nkind = \"smtp\"\nhost = \"h\"\n[[transport]]\n";
        let profile = load(text).expect("a profile");
        let takes = |address: &str| {
            let taker = profile.transports.iter().find(|transport| transport.takes(address));
            taker.map(|transport| transport.provider.kind.as_str())
        };
        assert_eq!((takes("root"), takes("root@host.lan")), (Some("maildir"), Some("maildir")));
        assert_eq!(
            (takes("a@example.org"), takes("a@localhost.")),
            (Some("smtp"), Some("maildir"))
        );
    }

    #[test]
    fn an_error_names_line_key_and_what_is_allowed() {
        let smtp = "[[transport]]\nkind = \"smtp\"\nhost = \"h\"\n";
        // What follows, then the line, the key, and words that the message must have.
        let cases: &[(&str, usize, &str, &[&str])] = &[
            ("path = \"x\"", 4, "path", &["kind \"smtp\" has no key `path`", "`host`", "`accept`"]),
            ("port = 0", 4, "port", &["0 is not", "1 to 65535"]),
            ("port = 65536", 4, "port", &["65536", "1 to 65535"]),
            ("port = \"25\"", 4, "port", &["\"25\"", "1 to 65535"]),
            ("security = \"ssl\"", 4, "security", &["ssl", "starttls"]),
            ("security = \"none\"", 4, "security", &["\"h\"", "127.0.0.0/8", "encrypted"]),
            ("plaintext = \"i-understand\"", 4, "plaintext", &["`security = \"none\"`"]),
            ("security = \"none\"\nplaintext = \"yes\"", 5, "plaintext", &["yes", "i-understand"]),
            (
                "security = \"none\"\nplaintext = \"i-understand\"\nusername = \"me\"\npassword_env = \"X\"",
                6,
                "username",
                &["no password", "starttls"],
            ),
            (
                "username = \"me\"\npassword_env = \"X\"\nsecurity = \"opportunistic\"",
                4,
                "username",
                &["no password", "starttls"],
            ),
            ("username = \"me\"", 4, "username", &["password", "`password_credential`"]),
            ("username = \"\"\npassword_env = \"X\"", 4, "username", &["a name"]),
            ("password_env = \"X\"", 4, "password_env", &["`username`"]),
            ("auth = \"plain\"", 4, "auth", &["`username`"]),
            ("auth = \"cram\"", 4, "auth", &["cram", "xoauth2"]),
            (
                "username = \"me\"\npassword_env = \"X\"\npassword_command = \"y\"",
                6,
                "password_command",
                &["`password_env`", "one too many"],
            ),
            ("username = \"me\"\npassword_file = \"\"", 5, "password_file", &["a path"]),
            ("ca_file = 3", 4, "ca_file", &["a path"]),
            ("tls_fingerprint = \"AB:CD\"", 4, "tls_fingerprint", &["AB:CD", "SHA-256"]),
            ("tls_certificate = \"c.pem\"", 4, "tls_certificate", &["`tls_key`"]),
            ("tls_key = \"k.pem\"", 4, "tls_key", &["`tls_certificate`"]),
            ("proxy = \"a:1\"", 4, "proxy", &["not shown", "socks5://"]),
            ("source_address = \"a\"", 4, "source_address", &["an IP address"]),
            ("helo = \"a b\"", 4, "helo", &["a b", "a host's name"]),
            ("connections = 0", 4, "connections", &["1 to 64"]),
            ("connections = 65", 4, "connections", &["65", "1 to 64"]),
            ("timeout = \"0s\"", 4, "timeout", &["above zero"]),
            ("connect_timeout = 30", 4, "connect_timeout", &["30", "\"30s\""]),
            ("max_recipients = 10001", 4, "max_recipients", &["10001", "1 to 10000"]),
            ("rate = \"100\"", 4, "rate", &["100", "100/h"]),
            ("accept = [\"a b\"]", 4, "accept[0]", &["a b", "a domain"]),
            ("senders = [\"a b\"]", 4, "senders[0]", &["a b", "a domain"]),
            ("identity = \"a b\"", 4, "identity", &["a b", "an address"]),
            ("fast_shutdown = \"no\"", 4, "fast_shutdown", &["refused"]),
            ("wings = 2", 4, "wings", &["unknown key", "`password_command`"]),
        ];
        for (rest, line, key, words) in cases {
            assert_error(&format!("{smtp}{rest}\n"), *line, &format!("transport[0].{key}"), words);
        }
        let cases: &[(&str, usize, &str, &[&str])] = &[
            ("kind = \"smtp\"", 1, "transport[0]", &["kind \"smtp\"", "`host`"]),
            ("kind = \"smtp\"\nhost = \"a b\"", 3, "transport[0].host", &["a b", "without a port"]),
            ("kind = \"smtp\"\nhost = \"a:25\"", 3, "transport[0].host", &["without a port"]),
            ("host = \"h\"", 2, "transport[0].host", &["\"maildir\"", "`host`", "`path`"]),
            ("port = 1\nkind = \"maildir\"", 2, "transport[0].port", &["\"maildir\"", "`port`"]),
            ("identity = \"a@b.c\"", 2, "transport[0].identity", &["\"maildir\"", "`identity`"]),
            ("[mail]\nrewrite_from = \"some\"", 3, "mail.rewrite_from", &["some", "unqualified"]),
            (
                "kind = \"smtp\"\nhost = \"h\"\n[mail]\nrewrite_from = \"always\"",
                5,
                "mail.rewrite_from",
                &["anna@Host.Lan", "`identity`"],
            ),
        ];
        for (rest, line, key, words) in cases {
            assert_error(&format!("[[transport]]\n{rest}\n"), *line, key, words);
        }
    }

    /// A host's own name may be that of its mail: where a profile says so, it is meant.
    #[test]
    fn every_author_may_become_one_at_this_hosts_name() {
        let relay = "[[transport]]\nkind = \"smtp\"\nhost = \"h\"\nidentity = \"anna@Host.Lan\"\n";
        assert!(load(&format!("{relay}[mail]\nrewrite_from = \"always\"\n")).is_ok());
    }

    fn assert_error(text: &str, line: usize, key: &str, words: &[&str]) {
        let Err(ProfileError::Invalid(error)) = load(text) else { panic!("taken: {text}") };
        let shown = error.to_string();
        assert!(shown.contains("user/work.toml"), "{shown}");
        assert_eq!(error.position().map(|at| at.line), Some(line), "{text}\n{shown}");
        assert_eq!(error.key(), key, "{text}\n{shown}");
        for word in words {
            assert!(shown.contains(word), "{shown} does not have {word}");
        }
        assert!(!shown.contains("Section"), "{shown}");
    }

    /// Where a password is expected people write the password, and errors go into logs.
    #[test]
    fn no_error_shows_what_may_be_a_password() {
        let wrong = [
            "password = \"hunter2\"",
            "password_env = \"hunter2!\"",
            "password_credential = \"hunter2/\"",
            "password_command = \"hunter2\\u0000\"",
            "password_command = [\"echo\", \"hunter2\"]",
            "password_env = 2222",
            "password_env = 2222.5",
            "password_command = \"echo hunter2\"",
            "password_command = \"echo hunter2\"\npassword_env = \"X\"",
        ];
        for wrong in wrong {
            let error = load(&format!("[[transport]]\nkind = \"smtp\"\nhost = \"h\"\n{wrong}\n"));
            let shown = error.expect_err(wrong).to_string();
            assert!(!shown.contains("hunter2") && !shown.contains("2222"), "{shown}");
            assert!(shown.contains("password"), "{shown}");
        }
    }

    /// A server that puts mail into mailboxes is at a socket or at a host, and takes mail for this one.
    #[test]
    fn a_server_for_mailboxes_has_one_place() {
        let one = |rest: &str| {
            let profile =
                load(&format!("[[transport]]\nkind = \"lmtp\"\n{rest}")).expect("a profile");
            profile.transports[0].clone()
        };
        let socket = one("path = \"/run/dovecot/lmtp\"\ntimeout = \"1m\"\n");
        assert_eq!(socket.provider.path.to_str(), Some("/run/dovecot/lmtp"));
        assert_eq!(socket.provider.options, [("timeout".to_owned(), "60000".to_owned())]);
        assert!(socket.takes("anna") && socket.takes("anna@localhost") && !socket.takes("a@b.c"));
        let host = one("host = \"localhost\"\n");
        assert_eq!(host.provider.path.to_str(), Some(""));
        let expected = [("host", "localhost"), ("port", "24"), ("security", "none")];
        assert_eq!(host.provider.options, expected.map(|(k, v)| (k.to_owned(), v.to_owned())));
        one("host = \"mail.lan\"\nsecurity = \"starttls\"\nport = 2424\n");
        one("host = \"mail.lan\"\nplaintext = \"i-understand\"\n");
        let cases: &[(&str, usize, &str, &[&str])] = &[
            ("", 1, "transport[0]", &["`path`", "`host`"]),
            ("path = \"/l\"\nhost = \"localhost\"", 3, "transport[0].path", &["keep one"]),
            ("path = \"/l\"\nport = 24", 4, "transport[0].port", &["`port`", "`host`"]),
            ("path = \"/a b\"", 3, "transport[0].path", &["no blanks"]),
            ("host = \"localhost\"\nport = 25", 4, "transport[0].port", &["SMTP", "24"]),
            ("host = \"mail.lan\"", 3, "transport[0].host", &["not this host", "plaintext"]),
            ("path = \"/l\"\nusername = \"me\"", 4, "transport[0].username", &["no key"]),
        ];
        for (rest, line, key, words) in cases {
            assert_error(&format!("[[transport]]\nkind = \"lmtp\"\n{rest}\n"), *line, key, words);
        }
    }

    /// A Maildir for each user needs to know who is one.
    #[test]
    fn a_path_may_have_a_user_in_it() {
        let path = "[[transport]]\npath = \"/var/mail/{user}/Maildir\"\n";
        let options = |mail: &str| {
            let profile = load(&format!("{path}{mail}")).expect("a profile");
            let Profile { transports, .. } = profile;
            assert_eq!(transports[0].provider.path.to_str(), Some("/var/mail/{user}/Maildir"));
            transports[0].provider.options.clone()
        };
        let own = |key: &str, value: &str| (key.to_owned(), value.to_owned());
        let system = options("[mail]\nlocal_users = \"system\"\n");
        assert_eq!(system, [own("local_users", "system")]);
        let listed = options("[mail]\nlocal_users = [\"bo\", \"anna\"]\n");
        assert_eq!(listed, [own("local_user", "anna"), own("local_user", "bo")]);
        assert_error(path, 2, "transport[0].path", &["{user}", "`local_users`", "[mail]"]);
        let plain = load("[mail]\nlocal_users = \"system\"\n").expect("a profile");
        assert!(plain.transports[0].provider.options.is_empty());
    }

    /// Kinds that somebody else brought have the keys that every kind has.
    #[test]
    fn other_kinds_have_the_common_keys() {
        let mut fixture = fixture();
        fixture.places.kinds.transports.push("pigeon".to_owned());
        let common = "[[transport]]\nkind = \"pigeon\"\npath = \"loft\"\naccept = [\"*\"]\n";
        fixture.write("user/work.toml", common);
        let profile = fixture.load("work").expect("a profile");
        assert_eq!(profile.transports[0].provider.path.to_str(), Some("/data/work/loft"));
        fixture.write("user/work.toml", "[[transport]]\nkind = \"pigeon\"\nhost = \"h\"\n");
        let error = fixture.load("work").expect_err("no key of it").to_string();
        assert!(error.contains("\"pigeon\"") && error.contains("`host`"), "{error}");
    }
}
