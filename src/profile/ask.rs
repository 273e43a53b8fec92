//! Asks for options that a new profile lacks. It asks where a password is, never for the password.

use std::io::{BufRead, Write};
use std::path::PathBuf;

use sundown_client::{Code, Error};
use sundown_daemon::settings;

use crate::cli::{AddArguments, SECURITIES, TransportKind};
use crate::output;
use crate::safe;

/// The person who answers, usually at a terminal.
pub(super) struct Dialog<R, W> {
    pub(super) input: R,
    pub(super) output: W,
}

/// Asks for missing options. Given options are not asked for.
pub(super) fn complete<R: BufRead, W: Write>(
    arguments: &mut AddArguments,
    dialog: &mut Dialog<R, W>,
) -> Result<(), Error> {
    if arguments.implied_kind().is_none() {
        arguments.kind = Some(kind(dialog)?);
        if arguments.kind == Some(TransportKind::Maildir) {
            let question = "directory (empty: in the data directory)";
            arguments.maildir = dialog.ask_optional(question)?.map(PathBuf::from);
        }
    }
    if arguments.implied_kind() == Some(TransportKind::Smtp) {
        if arguments.host.is_none() {
            server(arguments, dialog)?;
        }
        if arguments.username.is_none() && arguments.passwords().next().is_some() {
            arguments.username = Some(dialog.ask("user", None)?);
        }
        if arguments.username.is_some() && arguments.passwords().next().is_none() {
            password(arguments, dialog)?;
        }
    }
    Ok(())
}

fn kind<R: BufRead, W: Write>(dialog: &mut Dialog<R, W>) -> Result<TransportKind, Error> {
    let kinds =
        [("maildir", "deliver into a Maildir on this host"), ("smtp", "send through a server")];
    Ok(match dialog.choose("What becomes of mail?", "kind", &kinds)? {
        1 => TransportKind::Smtp,
        _ => TransportKind::Maildir,
    })
}

/// Asks for the server, and for the user that logs on to it.
fn server<R: BufRead, W: Write>(
    arguments: &mut AddArguments,
    dialog: &mut Dialog<R, W>,
) -> Result<(), Error> {
    let host = |text: &str| settings::valid_host(text).then(|| text.to_owned());
    let wanted = "the name of a host or its IP address";
    arguments.host = Some(dialog.ask_for("server", None, wanted, host)?);
    if arguments.security.is_none() {
        let word = |text: &str| SECURITIES.contains(&text).then(|| text.to_owned());
        let question = "encryption: starttls, tls, opportunistic or none";
        let security = dialog.ask_for(question, Some("starttls"), "one of the four", word)?;
        arguments.security = Some(security);
    }
    if arguments.port.is_none() {
        let usual = match arguments.security.as_deref() {
            Some("tls") => "465",
            Some("opportunistic" | "none") => "25",
            _ => "587",
        };
        let number = |text: &str| text.parse().ok().filter(|port: &u16| *port > 0);
        let port = dialog.ask_for("port", Some(usual), "a number from 1 to 65535", number)?;
        arguments.port = Some(port);
    }
    if arguments.username.is_none() && arguments.passwords().next().is_none() {
        arguments.username = dialog.ask_optional("user (empty: no logon)")?;
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

    /// The arguments after these answers, and the questions.
    fn answered(arguments: &AddArguments, answers: &str) -> (Result<AddArguments, Error>, String) {
        let mut arguments = arguments.clone();
        let mut dialog = Dialog { input: answers.as_bytes(), output: Vec::new() };
        let result = complete(&mut arguments, &mut dialog);
        let asked = String::from_utf8(dialog.output).expect("text");
        (result.map(|()| arguments), asked)
    }

    #[test]
    fn a_maildir_needs_two_answers() {
        let (got, asked) = answered(&AddArguments::default(), "\n\n");
        let maildir = AddArguments { kind: Some(TransportKind::Maildir), ..Default::default() };
        assert_eq!(got.expect("complete"), maildir);
        assert!(asked.contains("kind [maildir]: ") && asked.contains("directory"), "{asked}");
        let (got, _) = answered(&AddArguments::default(), "maildir\n/var/mail/x\n");
        assert_eq!(got.expect("complete").maildir, Some("/var/mail/x".into()));
    }

    #[test]
    fn a_server_is_asked_for_with_its_login() {
        let answers = "smtp\nsmtp.example.org\ntls\n\nanna\n\npass show mail\n";
        let (got, asked) = answered(&AddArguments::default(), answers);
        let expected = AddArguments {
            kind: Some(TransportKind::Smtp),
            host: Some("smtp.example.org".into()),
            security: Some("tls".into()),
            port: Some(465),
            username: Some("anna".into()),
            password_command: Some("pass show mail".into()),
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
        let answers = "pigeon\nsmtp\n\na b\nh\nssl\nnone\n0\n66666\n26\n\n";
        let (got, asked) = answered(&AddArguments::default(), answers);
        let got = got.expect("complete");
        assert_eq!((got.host, got.port, got.username), (Some("h".into()), Some(26), None));
        assert_eq!(got.security, Some("none".into()));
        assert_eq!(asked.matches("That is not").count(), 5, "{asked}");
        assert_eq!(asked.matches("server: ").count(), 3, "{asked}");
    }

    #[test]
    fn the_end_of_the_input_makes_nothing() {
        for answers in ["", "smtp\n", "smtp\nh\n\n\nme\nfile\n"] {
            let error = answered(&AddArguments::default(), answers).0.expect_err(answers);
            assert_eq!(error.code(), Code::E_USER_CANCEL);
        }
    }
}
