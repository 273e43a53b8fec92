//! Asks for options that a new profile lacks. It asks where a password is, never for the password.
//!
//! ```text
//!  address? ─► servers found? ─yes─► use them? ─yes──────────────────────────────► password
//!     └─ none ─► kind? ─┬─ maildir ─► directory      └─no─┐
//!                       └─ smtp ─► outgoing server ─► incoming server ─► password
//! ```

use std::io::{BufRead, Write};
use std::path::PathBuf;

use sundown_client::{Code, Error};
use sundown_daemon::settings;
use sundown_mail::address::is_full;

use super::servers::{self, Server, Servers};
use crate::cli::{AddArguments, IMAP_SECURITIES, SECURITIES, TransportKind};
use crate::output;
use crate::safe;

/// The person who answers, usually at a terminal.
pub(super) struct Dialog<R, W> {
    pub(super) input: R,
    pub(super) output: W,
}

/// Asks for missing options. Given options are not asked for. The function finds the servers of an address.
pub(super) fn complete<R: BufRead, W: Write>(
    arguments: &mut AddArguments,
    dialog: &mut Dialog<R, W>,
    find: impl FnOnce(&str) -> Servers,
) -> Result<(), Error> {
    let is_maildir = arguments.implied_kind() == Some(TransportKind::Maildir);
    let asks = !is_maildir && arguments.host.is_none() && arguments.address.is_none();
    if asks {
        arguments.address = address(dialog)?;
    }
    let mut known = Servers::default();
    if let Some(address) = arguments.to_find().filter(|_| !is_maildir) {
        if !servers::is_known(&address) {
            dialog.say(&format!("Looking for the servers of {address}.\n"))?;
        }
        known = offer(arguments, dialog, find(&address), asks)?;
    }
    if arguments.implied_kind().is_none() {
        arguments.kind = Some(kind(dialog)?);
        if arguments.kind == Some(TransportKind::Maildir) {
            let question = "directory (empty: in the data directory)";
            arguments.maildir = dialog.ask_optional(question)?.map(PathBuf::from);
        }
    }
    if arguments.implied_kind() == Some(TransportKind::Smtp) {
        let is_new = arguments.host.is_none() || arguments.lacks_incoming();
        if arguments.host.is_none() {
            outgoing(arguments, dialog, known.outgoing.as_ref())?;
        }
        arguments.use_address();
        if arguments.username.is_none() && arguments.passwords().next().is_some() {
            arguments.username = Some(dialog.ask("user", None)?);
        }
        if is_new
            && arguments.username.is_some()
            && arguments.imap_host.is_none()
            && !arguments.no_imap
        {
            incoming(arguments, dialog, known.incoming.as_ref())?;
        }
        if arguments.username.is_some() && arguments.passwords().next().is_none() {
            password(arguments, dialog)?;
        }
    }
    Ok(())
}

/// Asks for the address of an account.
fn address<R: BufRead, W: Write>(dialog: &mut Dialog<R, W>) -> Result<Option<String>, Error> {
    let meaning = |text: &str| match text {
        "none" => Some(None),
        address => is_full(address).then(|| Some(address.to_owned())),
    };
    let question = "mail address of an account at a provider, or none";
    dialog.ask_for(question, Some("none"), "a mail address", meaning)
}

/// Shows the servers that were found, and uses them if the person agrees. An address that was given as an option is agreed to with it, but
/// not a server in another domain. What is left of them are defaults for the questions.
fn offer<R: BufRead, W: Write>(
    arguments: &mut AddArguments,
    dialog: &mut Dialog<R, W>,
    servers: Servers,
    is_asked: bool,
) -> Result<Servers, Error> {
    let found: Vec<_> = arguments.new_servers(&servers).collect();
    let is_foreign = found.iter().any(|(_, server)| server.is_foreign);
    if !found.is_empty() {
        dialog.say(&format!("{} has these servers:\n", servers.source))?;
    }
    for (way, server) in &found {
        dialog.say(&format!("  {}  {}\n", way.name(), server.place()))?;
    }
    if is_foreign {
        let warning =
            "They are in another domain, and nothing proves that it is your provider's.\n";
        dialog.say(warning)?;
    }
    let is_agreed = if is_foreign || (is_asked && !found.is_empty()) {
        let default = if is_foreign { "no" } else { "yes" };
        dialog.confirm("Use them? yes or no", default)?
    } else {
        true
    };
    if !is_agreed {
        return Ok(if is_foreign { Servers::default() } else { servers });
    }
    arguments.take(&servers);
    if let Some((what, _)) = arguments.missing() {
        dialog.say(&format!("No {what} found: {}.\n", servers.why))?;
    }
    if let Some(hint) = servers.hint {
        dialog.say(&format!("{hint}.\n"))?;
    }
    Ok(servers)
}

fn kind<R: BufRead, W: Write>(dialog: &mut Dialog<R, W>) -> Result<TransportKind, Error> {
    let kinds =
        [("maildir", "deliver into a Maildir on this host"), ("smtp", "send through a server")];
    Ok(match dialog.choose("What becomes of mail?", "kind", &kinds)? {
        1 => TransportKind::Smtp,
        _ => TransportKind::Maildir,
    })
}

/// Asks for the server for outgoing mail, and for the user that logs on to it.
fn outgoing<R: BufRead, W: Write>(
    arguments: &mut AddArguments,
    dialog: &mut Dialog<R, W>,
    known: Option<&Server>,
) -> Result<(), Error> {
    let host = |text: &str| settings::valid_host(text).then(|| text.to_owned());
    let wanted = "the name of a host or its IP address";
    let default = known.map(|server| server.host.as_str());
    arguments.host = Some(dialog.ask_for("server for outgoing mail", default, wanted, host)?);
    if arguments.security.is_none() {
        let default = known.map_or("starttls", |server| server.security);
        arguments.security = Some(dialog.ask_security(&SECURITIES, default)?);
    }
    if arguments.port.is_none() {
        let security = arguments.security.as_deref();
        let usual = match security {
            Some("tls") => 465,
            Some("opportunistic" | "none") => 25,
            _ => 587,
        };
        arguments.port = Some(dialog.ask_port(known, security, usual)?);
    }
    if arguments.username.is_none() && arguments.passwords().next().is_none() {
        arguments.username = match arguments.address.as_deref() {
            Some(address) => Some(dialog.ask("user", Some(address))?),
            None => dialog.ask_optional("user (empty: no logon)")?,
        };
    }
    Ok(())
}

/// Asks for the server for incoming mail, if there is one.
fn incoming<R: BufRead, W: Write>(
    arguments: &mut AddArguments,
    dialog: &mut Dialog<R, W>,
    known: Option<&Server>,
) -> Result<(), Error> {
    let host = |text: &str| match text {
        "none" => Some(None),
        host => settings::valid_host(host).then(|| Some(host.to_owned())),
    };
    let wanted = "the name of a host, its IP address, or none";
    let default = known.map_or("none", |server| server.host.as_str());
    let question = "IMAP server for incoming mail, or none";
    arguments.imap_host = dialog.ask_for(question, Some(default), wanted, host)?;
    if arguments.imap_host.is_none() {
        arguments.no_imap = true;
        return Ok(());
    }
    if arguments.imap_security.is_none() {
        let default = known.map_or("tls", |server| server.security);
        arguments.imap_security = Some(dialog.ask_security(&IMAP_SECURITIES, default)?);
    }
    if arguments.imap_port.is_none() {
        let security = arguments.imap_security.as_deref();
        let usual = if security == Some("tls") { 993 } else { 143 };
        arguments.imap_port = Some(dialog.ask_port(known, security, usual)?);
    }
    if arguments.imap_username.is_none() {
        let known = known.and_then(|server| server.username.as_deref());
        let default = known.or(arguments.username.as_deref());
        let user = dialog.ask("user", default)?;
        arguments.imap_username =
            Some(user).filter(|user| Some(user) != arguments.username.as_ref());
    }
    Ok(())
}

/// Asks where the password is. A profile never contains the password itself, so it is not asked for.
fn password<R: BufRead, W: Write>(
    arguments: &mut AddArguments,
    dialog: &mut Dialog<R, W>,
) -> Result<(), Error> {
    let ways = [
        ("command", "a command prints it, such as `pass show mail`"),
        ("file", "it is in a file that other users cannot read"),
        ("credential", "systemd gives it to the broker"),
        ("environment", "it is in a variable of the broker's environment"),
    ];
    let about = "Where does the password come from? It is not written into the profile.";
    match dialog.choose(about, "from", &ways)? {
        0 => arguments.password_command = Some(dialog.ask("command line", None)?),
        1 => arguments.password_file = Some(dialog.ask("file", None)?.into()),
        2 => arguments.password_credential = Some(dialog.ask("name of the credential", None)?),
        _ => arguments.password_env = Some(dialog.ask("name of the variable", None)?),
    }
    Ok(())
}

impl<R: BufRead, W: Write> Dialog<R, W> {
    /// One of several things; the first is meant when nothing is said. Which it is, by its place.
    fn choose(
        &mut self,
        about: &str,
        question: &str,
        choices: &[(&str, &str)],
    ) -> Result<usize, Error> {
        self.say(&format!("{about}\n"))?;
        for (word, meaning) in choices {
            self.say(&format!("  {word:<11}  {meaning}\n"))?;
        }
        let place = |text: &str| choices.iter().position(|(word, _)| *word == text);
        let first = choices.first().map(|(word, _)| *word);
        self.ask_for(question, first, "one of these words", place)
    }

    /// Asks how a connection is encrypted.
    fn ask_security(&mut self, words: &[&str], default: &str) -> Result<String, Error> {
        let word = |text: &str| words.contains(&text).then(|| text.to_owned());
        let question = format!("encryption: {}", words.join(", "));
        self.ask_for(&question, Some(default), "one of these words", word)
    }

    /// Asks for a port: by default that of a known server, unless the connection is encrypted in another way.
    fn ask_port(
        &mut self,
        known: Option<&Server>,
        security: Option<&str>,
        usual: u16,
    ) -> Result<u16, Error> {
        let known = known.filter(|server| security == Some(server.security));
        let default = known.map_or(usual, |server| server.port).to_string();
        let number = |text: &str| text.parse().ok().filter(|port: &u16| *port > 0);
        self.ask_for("port", Some(&default), "a number from 1 to 65535", number)
    }

    fn confirm(&mut self, question: &str, default: &str) -> Result<bool, Error> {
        let meaning = |text: &str| match text {
            "yes" | "y" => Some(true),
            "no" | "n" => Some(false),
            _ => None,
        };
        self.ask_for(question, Some(default), "yes or no", meaning)
    }

    /// Asks until the answer is valid.
    fn ask_for<T>(
        &mut self,
        question: &str,
        default: Option<&str>,
        wanted: &str,
        meaning: impl Fn(&str) -> Option<T>,
    ) -> Result<T, Error> {
        loop {
            let answer = self.ask(question, default)?;
            match meaning(&answer) {
                Some(value) => return Ok(value),
                None => self.say(&format!("That is not {wanted}.\n"))?,
            }
        }
    }

    /// Asks until there is an answer. An empty answer means the default, if there is one.
    fn ask(&mut self, question: &str, default: Option<&str>) -> Result<String, Error> {
        loop {
            let answer = match default {
                Some(default) => self.line(&format!("{question} [{default}]: "))?,
                None => self.line(&format!("{question}: "))?,
            };
            match (answer.as_str(), default) {
                ("", Some(default)) => return Ok(default.to_owned()),
                ("", None) => {}
                _ => return Ok(answer),
            }
        }
    }

    fn ask_optional(&mut self, question: &str) -> Result<Option<String>, Error> {
        let answer = self.line(&format!("{question}: "))?;
        Ok(Some(answer).filter(|answer| !answer.is_empty()))
    }

    fn line(&mut self, prompt: &str) -> Result<String, Error> {
        self.say(prompt)?;
        let mut line = String::new();
        match self.input.read_line(&mut line) {
            Ok(0) => Err(cancelled("the input has ended")),
            Ok(_) => Ok(line.trim().to_owned()),
            Err(error) => Err(cancelled(&error.to_string())),
        }
    }

    fn say(&mut self, text: &str) -> Result<(), Error> {
        let written = self
            .output
            .write_all(safe::printed(text).as_bytes())
            .and_then(|()| self.output.flush());
        written.map_err(|error| cancelled(&error.to_string()))
    }
}

fn cancelled(why: &str) -> Error {
    output::error(Code::E_USER_CANCEL, format!("no profile was made: {why}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A server in this domain.
    fn server(host: &str, port: u16, security: &'static str) -> Server {
        let is_foreign = !host.ends_with("example.org");
        Server { host: host.to_owned(), port, security, username: None, is_foreign }
    }

    /// The servers that DNS has in a test.
    fn servers() -> Servers {
        Servers {
            source: "DNS of example.org".to_owned(),
            outgoing: Some(server("smtp.example.org", 465, "tls")),
            incoming: Some(server("imap.example.org", 143, "starttls")),
            ..Servers::default()
        }
    }

    /// The arguments after these answers, and the questions. DNS has these servers.
    fn answered_with(
        arguments: &AddArguments,
        answers: &str,
        servers: Servers,
    ) -> (Result<AddArguments, Error>, String) {
        let mut arguments = arguments.clone();
        let mut dialog = Dialog { input: answers.as_bytes(), output: Vec::new() };
        let result = complete(&mut arguments, &mut dialog, |_| servers);
        assert!(result.is_err() || dialog.input.is_empty(), "not all was asked for");
        let asked = String::from_utf8(dialog.output).expect("text");
        (result.map(|()| arguments), asked)
    }

    /// The same where DNS names no servers.
    fn answered(arguments: &AddArguments, answers: &str) -> (Result<AddArguments, Error>, String) {
        let none = Servers { why: "DNS names none".to_owned(), ..Servers::default() };
        answered_with(arguments, answers, none)
    }

    /// An account whose servers were found.
    fn account() -> AddArguments {
        let user = || Some("anna@example.org".to_owned());
        AddArguments {
            address: user(),
            host: Some("smtp.example.org".into()),
            port: Some(465),
            security: Some("tls".into()),
            username: user(),
            password_command: Some("pass show mail".into()),
            imap_host: Some("imap.example.org".into()),
            imap_port: Some(143),
            imap_security: Some("starttls".into()),
            ..Default::default()
        }
    }

    #[test]
    fn a_maildir_needs_three_answers() {
        let (got, asked) = answered(&AddArguments::default(), "\n\n\n");
        let maildir = AddArguments { kind: Some(TransportKind::Maildir), ..Default::default() };
        assert_eq!(got.expect("complete"), maildir);
        assert!(asked.contains("kind [maildir]: ") && asked.contains("directory"), "{asked}");
        let (got, _) = answered(&AddArguments::default(), "none\nmaildir\n/var/mail/x\n");
        assert_eq!(got.expect("complete").maildir, Some("/var/mail/x".into()));
    }

    #[test]
    fn an_account_needs_its_address_and_its_password() {
        let answers = "anna@example.org\n\n\npass show mail\n";
        let (got, asked) = answered_with(&AddArguments::default(), answers, servers());
        assert_eq!(got.expect("complete"), account());
        let shown = "Looking for the servers of anna@example.org.\nDNS of example.org has these servers:\n  \
                     outgoing  smtp.example.org:465 (tls)\n  incoming  imap.example.org:143 (starttls)\n\
                     Use them? yes or no [yes]: Where does the password come from?";
        assert!(asked.contains(shown), "{asked}");
        // A given address is agreed to, and so is everything that options say.
        let given = AddArguments {
            address: account().address,
            host: Some("h".into()),
            imap_username: Some("an".into()),
            password_command: account().password_command,
            ..Default::default()
        };
        let (got, asked) = answered_with(&given, "", servers());
        let (port, security, imap_username) = (None, None, Some("an".into()));
        let host = Some("h".into());
        assert_eq!(
            got.expect("complete"),
            AddArguments { host, port, security, imap_username, ..account() }
        );
        assert!(!asked.contains('?') && !asked.contains("smtp.example.org"), "{asked}");
    }

    #[test]
    fn what_people_must_know_is_said_before_the_password() {
        let hint = Some("Gmail takes an app password");
        let given = AddArguments { address: Some("anna@gmail.com".into()), ..Default::default() };
        let known = Servers { auth: Some("xoauth2"), hint, ..servers() };
        let (got, asked) = answered_with(&given, "\nx\n", known);
        assert_eq!(got.expect("complete").auth.as_deref(), Some("xoauth2"));
        assert!(!asked.contains("Looking"), "{asked}");
        assert!(asked.contains("Gmail takes an app password.\nWhere does"), "{asked}");
    }

    #[test]
    fn found_servers_can_be_changed() {
        let answers = "anna@example.org\nno\n\n\n\nbo\n\ntls\n\n\n\npass show mail\n";
        let (got, asked) = answered_with(&AddArguments::default(), answers, servers());
        let (imap_security, imap_port) = (Some("tls".into()), Some(993));
        let username = Some("bo".into());
        let expected = AddArguments { username, imap_port, imap_security, ..account() };
        assert_eq!(got.expect("complete"), expected);
        for question in ["mail [smtp.example.org]: ", "port [465]: ", "none [imap.example.org]: "] {
            assert!(asked.contains(question), "{asked}");
        }
    }

    #[test]
    fn a_server_in_another_domain_is_asked_about() {
        let given = AddArguments { address: account().address, ..Default::default() };
        let foreign =
            || Servers { incoming: Some(server("imap.example.net", 993, "tls")), ..servers() };
        let answers = "yes\n\npass show mail\n";
        let (got, asked) = answered_with(&given, answers, foreign());
        assert_eq!(got.expect("complete").imap_host.as_deref(), Some("imap.example.net"));
        assert!(asked.contains("another domain") && asked.contains("yes or no [no]: "), "{asked}");
        // They are no defaults either.
        let answers = "\nh\ntls\n\n\nnone\n\npass show mail\n";
        let (got, asked) = answered_with(&given, answers, foreign());
        let got = got.expect("complete");
        assert_eq!((got.host.as_deref(), got.imap_host, got.no_imap), (Some("h"), None, true));
        assert!(asked.contains("outgoing mail: ") && asked.contains("none [none]: "), "{asked}");
    }

    #[test]
    fn servers_that_are_not_found_are_asked_for() {
        let answers = "anna\nanna@example.org\nsmtp.example.org\ntls\n\n\nimap.example.org\nstarttls\n\n\n\n\
                       pass show mail\n";
        let (got, asked) = answered(&AddArguments::default(), answers);
        assert_eq!(got.expect("complete"), account());
        assert_eq!(asked.matches("That is not a mail address.").count(), 1, "{asked}");
        assert!(asked.contains("No servers found: DNS names none.\n"), "{asked}");
        assert!(asked.contains("user [anna@example.org]: "), "{asked}");
        // One that is found is used.
        let only_smtp = Servers { incoming: None, why: "no IMAP".into(), ..servers() };
        let answers = "anna@example.org\nyes\n\n\npass show mail\n";
        let (got, asked) = answered_with(&AddArguments::default(), answers, only_smtp);
        assert!(got.expect("complete").no_imap);
        assert!(asked.contains("No server for incoming mail found: no IMAP.\n"), "{asked}");
    }

    #[test]
    fn a_server_is_asked_for_with_its_login() {
        let answers = "\nsmtp\nsmtp.example.org\ntls\n\nanna\n\n\npass show mail\n";
        let (got, asked) = answered(&AddArguments::default(), answers);
        let expected = AddArguments {
            kind: Some(TransportKind::Smtp),
            host: Some("smtp.example.org".into()),
            security: Some("tls".into()),
            port: Some(465),
            username: Some("anna".into()),
            password_command: Some("pass show mail".into()),
            no_imap: true,
            ..Default::default()
        };
        assert_eq!(got.expect("complete"), expected);
        assert!(asked.contains("port [465]: ") && asked.contains("from [command]: "), "{asked}");
        assert!(asked.contains("not written into the profile"), "{asked}");
    }

    #[test]
    fn each_way_to_the_password_can_be_told() {
        let given = AddArguments {
            host: Some("h".into()),
            username: Some("me".into()),
            ..Default::default()
        };
        let file = || Some(PathBuf::from("~/.secret"));
        let cases = [
            ("command\nx\n", AddArguments { password_command: Some("x".into()), ..given.clone() }),
            ("file\n~/.secret\n", AddArguments { password_file: file(), ..given.clone() }),
            (
                "credential\nc\n",
                AddArguments { password_credential: Some("c".into()), ..given.clone() },
            ),
            ("environment\nV\n", AddArguments { password_env: Some("V".into()), ..given.clone() }),
        ];
        for (answers, expected) in cases {
            assert_eq!(answered(&given, answers).0.expect("complete"), expected, "{answers}");
        }
    }

    #[test]
    fn what_was_given_is_not_asked_for() {
        let complete = [
            AddArguments { host: Some("h".into()), ..Default::default() },
            AddArguments { maildir: Some("m".into()), ..Default::default() },
            AddArguments { accept: vec!["*".into()], ..Default::default() },
        ];
        for given in complete {
            let (got, asked) = answered(&given, "");
            assert_eq!((got.expect("complete"), asked.as_str()), (given, ""));
        }
        let given = AddArguments {
            password_env: Some("V".into()),
            host: Some("h".into()),
            ..Default::default()
        };
        let (got, asked) = answered(&given, "me\n");
        assert_eq!(
            (got.expect("complete").username, asked.as_str()),
            (Some("me".into()), "user: ")
        );
    }

    #[test]
    fn an_answer_without_a_meaning_is_asked_for_again() {
        let answers = "\npigeon\nsmtp\n\na b\nh\nssl\nnone\n0\n66666\n26\n\n";
        let (got, asked) = answered(&AddArguments::default(), answers);
        let got = got.expect("complete");
        assert_eq!((got.host, got.port, got.username), (Some("h".into()), Some(26), None));
        assert_eq!(got.security, Some("none".into()));
        assert_eq!(asked.matches("That is not").count(), 5, "{asked}");
        assert_eq!(asked.matches("outgoing mail: ").count(), 3, "{asked}");
    }

    #[test]
    fn the_end_of_the_input_makes_nothing() {
        for answers in ["", "\nsmtp\n", "a@b.c\n", "\nsmtp\nh\n\n\nme\n\nfile\n"] {
            let error = answered(&AddArguments::default(), answers).0.expect_err(answers);
            assert_eq!(error.code(), Code::E_USER_CANCEL);
        }
    }
}
