//! `sundown profile import`: a profile from the settings of another mail program.
//!
//! ```text
//! msmtp       ~/.msmtprc and /etc/msmtprc
//! nullmailer  the directory /etc/nullmailer
//! ```
//!
//! What has no counterpart here is named, and nothing that protects mail is left out: where a program sends a password in the open or
//! looks at no certificate, the profile does neither. A password that stands in the settings goes into a file of its own.

mod msmtp;
mod nullmailer;

use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use serde_json::json;
use sundown_client::paths::Whose;
use sundown_client::{Code, Error};
use sundown_daemon::settings::{Places, is_loopback, read_small};
use sundown_mail::address::is_full;
use toml::Value;

use super::add::{self, free_file, write};
use super::load;
use crate::cli::{Context, ImportArguments};
use crate::output;

/// What settings of another program come to.
#[derive(Debug, Default, PartialEq, Eq)]
struct Imported {
    /// The transports, in the order in which they are tried.
    accounts: Vec<Account>,
    identity: Option<String>,
    /// `[mail] domain`.
    domain: Option<String>,
    aliases_file: Option<String>,
    /// `[aliases] default`.
    default: Option<String>,
    /// `[queue] retry_max`, as it is written.
    retry_max: Option<String>,
    /// What is different from now on, or was left out.
    notes: Vec<String>,
}

/// One server, and who may send by it.
#[derive(Debug, Default, PartialEq, Eq)]
struct Account {
    name: String,
    host: String,
    port: Option<u16>,
    security: Security,
    login: Option<Login>,
    identity: Option<String>,
    senders: Vec<String>,
    /// Keys that are taken over as they are.
    others: Vec<(&'static str, String)>,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
enum Security {
    #[default]
    Starttls,
    Tls,
    None,
}

#[derive(Debug, PartialEq, Eq)]
struct Login {
    username: String,
    password: Password,
    auth: Option<&'static str>,
}

#[derive(Debug, PartialEq, Eq)]
enum Password {
    Command(String),
    /// The password itself, which goes into a file.
    Itself(String),
}

/// A password that stands in the settings.
#[derive(Debug, PartialEq, Eq)]
struct Secret {
    /// The name of its account.
    account: String,
    /// The file that it goes into.
    path: PathBuf,
    password: String,
}

pub(super) fn run(
    context: &Context,
    places: &Places,
    arguments: &ImportArguments,
) -> Result<(), Error> {
    let file = free_file(places, &arguments.name)?;
    let from = &arguments.from;
    let imported = if from.is_dir() { nullmailer::read(from) } else { msmtp::read(from) };
    let mut imported =
        imported.map_err(|why| output::error(Code::E_INVALID_PARAMETER, shown(&why)))?;
    if imported.accounts.iter().any(|a| a.login.is_some()) && !imported.rewrites() {
        imported.notes.push(
            "senders stay as they are, because no `identity` is known for every account; a server mostly takes no other sender"
                .to_owned(),
        );
    }
    imported.notes = imported.notes.iter().map(|note| shown(note)).collect();
    if let Some(account) = imported.accounts.iter().find(|a| a.sends_a_password_in_the_open()) {
        let text = format!(
            "{} sends a password to {} in the open, and Sundown does not: let it use TLS there first; no profile was made",
            from.display(),
            account.host
        );
        return Err(output::error(Code::E_NO_SUPPORT, text));
    }
    let mut names: Vec<_> = imported.accounts.iter().map(|account| &account.name).collect();
    names.sort();
    if let Some([twice, _]) = names.windows(2).find(|two| two[0] == two[1]) {
        let text = format!(
            "two accounts of {} come to the name {:?}; give one of them another; no profile was made",
            from.display(),
            twice
        );
        return Err(output::error(Code::E_COLLISION, text));
    }
    let secrets = imported.secrets(&file);
    if let Some(Secret { path: there, .. }) =
        secrets.iter().find(|s| s.path.symlink_metadata().is_ok())
    {
        let text = format!(
            "{} is there already, with a password of an earlier profile: remove it, or say --name; no profile was made",
            there.display()
        );
        return Err(output::error(Code::E_COLLISION, text));
    }
    let mut made = Vec::new();
    let undo = |made: &[PathBuf]| {
        for path in made {
            let _ = std::fs::remove_file(path);
        }
    };
    for Secret { path, password, .. } in &secrets {
        add::write_secret(path, password).inspect_err(|_| undo(&made))?;
        made.push(path.clone());
    }
    write(&file, &imported.content(from, &secrets), context.paths.whose)
        .inspect_err(|_| undo(&made))?;
    made.push(file.clone());
    let profile = load(&arguments.name, places).map_err(|error| {
        undo(&made);
        output::error(error.code(), format!("no profile was made: {error}"))
    })?;
    let names: Vec<_> = profile.transports.iter().map(|t| &t.provider.name).collect();
    let passwords: Vec<_> = secrets.iter().map(|secret| &secret.path).collect();
    let value = json!({
        "profile": profile.name, "file": file, "transports": names, "passwords": passwords, "notes": imported.notes,
    });
    output::print(context.json, &value, || {
        let mut text = format!("made {}\n", file.display());
        for path in &passwords {
            let _ =
                writeln!(text, "the password is in {}, which you alone can read", path.display());
            if context.paths.whose == Whose::Host {
                text += "note: the host's broker must be able to read it: chown it to the broker's user\n";
            }
        }
        for note in &imported.notes {
            let _ = writeln!(text, "note: {note}");
        }
        text + &format!("try it with `sundown profile check {}`\n", profile.name)
    });
    Ok(())
}

impl Account {
    fn sends_a_password_in_the_open(&self) -> bool {
        self.security == Security::None && self.login.is_some() && !is_loopback(&self.host)
    }

    /// Its section.
    fn section(&self, secret: Option<&Path>) -> String {
        let text = |text: &str| Value::String(text.to_owned());
        let port = self.port.map(|port| Value::Integer(port.into()));
        let security = match self.security {
            Security::Starttls => "starttls",
            Security::Tls => "tls",
            Security::None => "none",
        };
        let open = self.security == Security::None && !is_loopback(&self.host);
        let login = self.login.as_ref();
        let command = login.and_then(|login| match &login.password {
            Password::Command(line) => Some(text(line)),
            Password::Itself(_) => None,
        });
        let senders: Vec<_> = self.senders.iter().map(|sender| text(sender)).collect();
        let mut keys = vec![
            ("name", Some(text(&self.name))),
            ("kind", Some(text("smtp"))),
            ("host", Some(text(&self.host))),
            ("port", port),
            ("security", Some(text(security))),
            ("plaintext", open.then(|| text("i-understand"))),
            ("username", login.map(|login| text(&login.username))),
            ("password_command", command),
            ("password_file", secret.map(|path| text(&path.to_string_lossy()))),
            ("auth", login.and_then(|login| login.auth).map(text)),
            ("identity", self.identity.as_deref().map(text)),
            ("senders", (!senders.is_empty()).then_some(Value::Array(senders))),
        ];
        keys.extend(self.others.iter().map(|(key, value)| (*key, Some(text(value)))));
        add::section("transport", keys)
    }
}

impl Imported {
    /// Where passwords go that stand in the settings: beside the profile's file.
    fn secrets(&self, file: &Path) -> Vec<Secret> {
        let secret = |account: &Account| match &account.login.as_ref()?.password {
            Password::Itself(password) => {
                let path = file.with_extension(format!("{}.password", account.name));
                Some(Secret { account: account.name.clone(), path, password: password.clone() })
            }
            Password::Command(_) => None,
        };
        self.accounts.iter().filter_map(secret).collect()
    }

    /// The contents of the file.
    fn content(&self, from: &Path, secrets: &[Secret]) -> String {
        let text = |text: &str| Value::String(text.to_owned());
        let from = from.display().to_string().replace(['\n', '\r'], "?");
        let mut content = format!("# From {from}.\n");
        if let Some(identity) = &self.identity {
            let _ = writeln!(content, "identity = {}", text(identity));
        }
        for account in &self.accounts {
            let secret = secrets.iter().find(|secret| secret.account == account.name);
            let path = secret.map(|secret| secret.path.as_path());
            let _ = write!(content, "\n{}", account.section(path));
        }
        content += "\n# Mail for users of this host, such as root, that no alias is for.\n[[transport]]\nkind = \"maildir\"\n";
        let mail = [
            ("domain", self.domain.as_deref().map(text)),
            ("aliases_file", self.aliases_file.as_deref().map(text)),
            ("local_users", Some(text("system"))),
            ("rewrite_from", self.rewrites().then(|| text("always"))),
        ];
        content += &table("mail", mail);
        content += &table("aliases", [("default", self.default.as_deref().map(text))]);
        content += &table("queue", [("retry_max", self.retry_max.as_deref().map(text))]);
        content
    }

    /// Whether every sender becomes one that its server takes: it takes no other where a user logs on.
    fn rewrites(&self) -> bool {
        let known = |who: &Option<String>| who.as_deref().is_some_and(is_full);
        let knows = |account: &Account| known(&account.identity) || known(&self.identity);
        self.accounts.iter().any(|account| account.login.is_some())
            && self.accounts.iter().all(knows)
    }
}

/// A table with those keys that there are; nothing without any.
fn table<const N: usize>(name: &str, keys: [(&str, Option<Value>); N]) -> String {
    let lines: String =
        keys.into_iter().filter_map(|(key, value)| Some(format!("{key} = {}\n", value?))).collect();
    if lines.is_empty() { lines } else { format!("\n[{name}]\n{lines}") }
}

/// A name that a transport can have.
fn provider_name(text: &str) -> String {
    let fits = |c: char| if c.is_ascii_alphanumeric() || "._-".contains(c) { c } else { '-' };
    let name: String = text.chars().map(fits).take(64).collect();
    match name.trim_start_matches('.') {
        "" => "relay".to_owned(),
        // The name of the Maildir for users of this host.
        "maildir" => "maildir-account".to_owned(),
        name => name.to_owned(),
    }
}

/// A text of a file as a terminal may show it.
fn shown(text: &str) -> String {
    crate::safe::line(text).chars().take(400).collect()
}

fn read_text(path: &Path) -> Result<String, String> {
    let cannot = |why: String| format!("cannot read {}: {why}", path.display());
    let bytes = read_small(path).map_err(|error| cannot(error.to_string()))?;
    let text = String::from_utf8(bytes).map_err(|_| cannot("it is not UTF-8".to_owned()))?;
    if text.contains('\0') {
        return Err(cannot("it has a NUL in it".to_owned()));
    }
    Ok(text.strip_prefix('\u{feff}').map_or_else(|| text.clone(), str::to_owned))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Each account has the file of its own password, in whatever order the files are named and whoever has none.
    #[test]
    fn each_account_has_its_own_password() {
        let account = |name: &str, password| Account {
            name: name.to_owned(),
            host: format!("{name}.example"),
            login: Some(Login { username: name.to_owned(), password, auth: None }),
            ..Account::default()
        };
        let itself = |name: &str| account(name, Password::Itself(format!("of {name}")));
        let command = account("second", Password::Command("pass show second".to_owned()));
        let accounts = vec![itself("first"), command, itself("third"), itself("fourth")];
        let imported = Imported { accounts, ..Imported::default() };
        let mut secrets = imported.secrets(Path::new("/p/default.toml"));
        for secret in &secrets {
            assert_eq!(secret.password, format!("of {}", secret.account));
        }
        let named = |content: &str| {
            let content: toml::Table = content.parse().expect("TOML");
            let sections = content["transport"].as_array().expect("sections").clone();
            let value =
                |section: &Value, key| section.get(key).and_then(Value::as_str).map(str::to_owned);
            let all = sections.iter().filter(|section| section.get("host").is_some());
            all.map(|one| (value(one, "name").expect("a name"), value(one, "password_file")))
                .collect::<Vec<_>>()
        };
        let file = |name: &str| (name.to_owned(), Some(format!("/p/default.{name}.password")));
        let wanted = [file("first"), ("second".to_owned(), None), file("third"), file("fourth")];
        let from = Path::new("/home/anna/.msmtprc");
        assert_eq!(named(&imported.content(from, &secrets)), wanted);
        secrets.reverse();
        assert_eq!(named(&imported.content(from, &secrets)), wanted);
    }
}
