//! `sundown profile add`: makes a profile's file from options. It never overwrites a file, and writes no password.

use std::fs::Permissions;
use std::io::{ErrorKind, IsTerminal, Write};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use serde_json::json;
use sundown_client::files::make_directories;
use sundown_client::paths::Whose;
use sundown_client::{Code, Error};
use sundown_daemon::Profile;
use sundown_daemon::settings::{self, Places};
use sundown_mail::address::{is_full, split};
use toml::Value;

use super::ask::{self, Dialog};
use super::servers::{self, Resolver};
use super::{load, show};
use crate::cli::{AddArguments, Context, TransportKind};
use crate::output;

/// What a new profile says of users of this host.
const LOCAL_USERS: &str = "# A name without a domain is an alias or a user of this host, or it is refused.\nlocal_users = \"system\"\n";

/// Who mail is from.
const REWRITE: &str = "# What cron and other programs write is from `identity`, too: the server takes no other sender.\nrewrite_from = \"always\"\n";

pub(super) fn run(
    context: &Context,
    places: &Places,
    arguments: &AddArguments,
) -> Result<(), Error> {
    let file = free_file(places, &arguments.name)?;
    let mut arguments = arguments.clone();
    arguments.check_address()?;
    let find = |address: &str| {
        let resolver = Resolver::of_this_host();
        servers::find(address, |name| resolver.services(name))
    };
    let hint = if std::io::stdin().is_terminal() && std::io::stderr().is_terminal() {
        let (input, output) = (std::io::stdin().lock(), std::io::stderr());
        ask::complete(&mut arguments, &mut Dialog { input, output }, find)?;
        // The person has read it.
        None
    } else {
        arguments.find_servers(find)?
    };
    arguments.check()?;
    write(&file, &arguments.content()?, context.paths.whose)?;
    let profile = load(&arguments.name, places).map_err(|error| {
        // A profile that cannot be read is not left behind.
        let _ = std::fs::remove_file(&file);
        output::error(error.code(), format!("no profile was made: {error}"))
    })?;
    let names: Vec<_> = profile.transports.iter().map(|t| &t.provider.name).collect();
    let mailboxes: Vec<_> = profile.mailboxes.iter().map(|m| &m.provider.name).collect();
    let value = json!({
        "profile": profile.name,
        "file": file,
        "transports": names,
        "mailboxes": mailboxes,
    });
    output::print(context.json, &value, || report(&profile, &file));
    if let Some(hint) = hint.filter(|_| !context.json) {
        output::complain(hint);
    }
    if arguments.lacks_identity() && !context.json {
        output::complain(&format!(
            "the server mostly takes mail of its user alone, and which address that is is not known: add \
             `identity = \"you@example.org\"` and, under [mail], `rewrite_from = \"always\"` to {}",
            file.display()
        ));
    }
    Ok(())
}

/// The file for the profile. It must not exist.
pub(super) fn free_file(places: &Places, name: &str) -> Result<PathBuf, Error> {
    if !settings::valid_name(name) {
        return Err(load(name, places).err().unwrap_or_else(|| output::invalid("not a name")));
    }
    let folder = places.folders.first().ok_or_else(|| {
        output::invalid("no folder for profiles is known: HOME is not set; say --config")
    })?;
    let file = folder.join(format!("{name}.toml"));
    match file.symlink_metadata() {
        Ok(_) => Err(cannot_make(&file, &ErrorKind::AlreadyExists.into())),
        Err(_) => Ok(file),
    }
}

fn cannot_make(file: &Path, error: &std::io::Error) -> Error {
    let file = file.display();
    if error.kind() == ErrorKind::AlreadyExists {
        let text = format!(
            "there is such a profile already: {file}. Edit it, or remove it first with `sundown profile remove`"
        );
        return output::error(Code::E_COLLISION, text);
    }
    output::error(Code::E_NO_ACCESS, format!("cannot make {file}: {error}"))
}

/// Writes a new file. Only its owner can read it. The host's broker runs as another user, so that file can be read by all users; a
/// profile contains no password.
pub(super) fn write(file: &Path, content: &str, whose: Whose) -> Result<(), Error> {
    let (folder_mode, mode) = match whose {
        Whose::Own => (0o700, 0o600),
        Whose::Host => (0o755, 0o644),
    };
    let cannot = |error| cannot_make(file, &error);
    let folder = file.parent().unwrap_or(Path::new("."));
    make_directories(folder, folder_mode).map_err(cannot)?;
    write_new(file, content, mode)
}

/// Writes a password into a new file that its owner alone can read.
pub(super) fn write_secret(file: &Path, password: &str) -> Result<(), Error> {
    let folder = file.parent().unwrap_or(Path::new("."));
    make_directories(folder, 0o700).map_err(|error| cannot_make(file, &error))?;
    write_new(file, &format!("{password}\n"), 0o600)
}

fn write_new(file: &Path, content: &str, mode: u32) -> Result<(), Error> {
    let cannot = |error| cannot_make(file, &error);
    let made = std::fs::File::options().write(true).create_new(true).mode(mode).open(file);
    let mut made = made.map_err(cannot)?;
    let written = made.write_all(content.as_bytes());
    // Whatever the umask of this process.
    let written = written.and_then(|()| made.set_permissions(Permissions::from_mode(mode)));
    written.map_err(|error| {
        let _ = std::fs::remove_file(file);
        cannot_make(file, &error)
    })
}

/// A report for people on the new profile.
fn report(profile: &Profile, file: &Path) -> String {
    let mut text = format!("made {}\n", file.display());
    let (accounts, maildirs): (Vec<_>, Vec<_>) =
        profile.mailboxes.iter().map(|m| &m.provider).partition(|p| p.kind == "imap");
    if let [server, local @ ..] = &profile.transports[..]
        && server.provider.kind == "smtp"
    {
        text += &format!("mail goes to {}\n", show::place(&server.provider));
        for account in &accounts {
            text += &format!("mail comes from {}\n", show::place(account));
        }
        let beside = if accounts.is_empty() { "" } else { ", and is not in the Inbox" };
        for local in local {
            let place = show::place(&local.provider);
            text += &format!(
                "mail for users of this host goes into {place}{beside}; --no-local leaves that out\n"
            );
        }
    }
    for maildir in maildirs {
        let place = show::place(maildir);
        text += &format!("the Inbox shows what comes into {place} for {}\n", profile.identity);
    }
    text + &format!("try it with `sundown profile check {}`\n", profile.name)
}

impl AddArguments {
    /// The kind of the transport, as far as options tell it.
    pub(super) fn implied_kind(&self) -> Option<TransportKind> {
        let maildir = self.maildir.is_some() || !self.accept.is_empty();
        match self.kind {
            Some(kind) => Some(kind),
            None if self.only_smtp().next().is_some() => Some(TransportKind::Smtp),
            None => maildir.then_some(TransportKind::Maildir),
        }
    }

    fn kind(&self) -> TransportKind {
        self.implied_kind().unwrap_or(TransportKind::Maildir)
    }

    /// The given options that are only for a server.
    fn only_smtp(&self) -> impl Iterator<Item = &'static str> {
        let given = [
            ("ADDRESS", self.address.is_some()),
            ("--host", self.host.is_some()),
            ("--port", self.port.is_some()),
            ("--security", self.security.is_some()),
            ("--username", self.username.is_some()),
            ("--auth", self.auth.is_some()),
            ("--ca-file", self.ca_file.is_some()),
            ("--plaintext", self.plaintext.is_some()),
            ("--tls-fingerprint", self.tls_fingerprint.is_some()),
            ("--tls-certificate", self.tls_certificate.is_some()),
            ("--tls-key", self.tls_key.is_some()),
            ("--no-local", self.no_local),
            ("--imap-host", self.imap_host.is_some()),
            ("--no-imap", self.no_imap),
        ];
        let given = given.into_iter().filter_map(|(name, given)| given.then_some(name));
        given.chain(self.about_imap()).chain(self.passwords())
    }

    /// The given options that say more of an IMAP server than its name.
    fn about_imap(&self) -> impl Iterator<Item = &'static str> + use<> {
        let given = [
            ("--imap-port", self.imap_port.is_some()),
            ("--imap-security", self.imap_security.is_some()),
            ("--imap-username", self.imap_username.is_some()),
            ("--take-over", self.take_over.is_some()),
        ];
        given.into_iter().filter_map(|(name, given)| given.then_some(name))
    }

    /// The given options that say where the password is.
    pub(super) fn passwords(&self) -> impl Iterator<Item = &'static str> + use<> {
        let given = [
            ("--password-command", self.password_command.is_some()),
            ("--password-file", self.password_file.is_some()),
            ("--password-credential", self.password_credential.is_some()),
            ("--password-env", self.password_env.is_some()),
        ];
        given.into_iter().filter_map(|(name, given)| given.then_some(name))
    }

    /// Whether ADDRESS is one.
    fn check_address(&self) -> Result<(), Error> {
        match self.address.as_deref().filter(|address| !is_full(address)) {
            Some(address) => Err(output::invalid(format!(
                "{address:?} is not the mail address of an account, such as anna@example.org"
            ))),
            None => Ok(()),
        }
    }

    /// Whether the options fit together. Their values are checked when the file is read.
    fn check(&self) -> Result<(), Error> {
        if self.kind() == TransportKind::Maildir {
            return match self.only_smtp().next() {
                Some(option) => Err(output::invalid(format!("{option} is for --kind smtp"))),
                None => Ok(()),
            };
        }
        let password = self.passwords().next();
        let why = if self.host.is_none() {
            "--host is missing: the server that takes mail further".to_owned()
        } else if self.username.is_some() && password.is_none() {
            let who = if self.address.is_some() { "an account" } else { "--username" };
            format!(
                "{who} needs one of --password-command, --password-file, --password-credential and --password-env"
            )
        } else if let Some(option) = password.filter(|_| self.username.is_none()) {
            format!("{option} needs --username")
        } else if self.auth.is_some() && self.username.is_none() {
            "--auth needs --username".to_owned()
        } else if self.no_local && self.maildir.is_some() {
            "--maildir is for local addresses, and --no-local leaves them out".to_owned()
        } else if self.imap_host.is_some() && self.username.is_none() {
            "--imap-host needs --username, and where the password is".to_owned()
        } else if let Some(option) = self.about_imap().next().filter(|_| self.imap_host.is_none()) {
            format!("{option} needs --imap-host")
        } else {
            return Ok(());
        };
        Err(output::invalid(why))
    }

    /// The sender of messages that name none: as given, or the account's address or, if it is an address, the user that logs on.
    fn identity(&self) -> Option<&str> {
        let is_address = |name: &&str| split(name).is_ok_and(|(_, domain)| !domain.is_empty());
        let login = self.username.as_deref().filter(is_address);
        self.identity.as_deref().or(self.address.as_deref()).or(login)
    }

    /// The contents of the file.
    fn content(&self) -> Result<String, Error> {
        let identity = self.identity().map(|who| format!("identity = {}\n\n", text(who)));
        Ok(identity.unwrap_or_default() + &self.transports()? + &self.mailbox()? + &self.mail())
    }

    /// `[mail]`: who mail is from, and who is a user of this host.
    fn mail(&self) -> String {
        let keys = [(self.is_an_account(), REWRITE), (self.takes_local_mail(), LOCAL_USERS)];
        let keys: String = keys.into_iter().filter_map(|(is, key)| is.then_some(key)).collect();
        if keys.is_empty() { keys } else { format!("\n[mail]\n{keys}") }
    }

    /// Whether a user logs on to the server, which takes mail of that user alone.
    fn is_an_account(&self) -> bool {
        self.username.is_some() && self.identity().is_some_and(is_full)
    }

    /// Whether a user logs on to the server whose address is not known.
    fn lacks_identity(&self) -> bool {
        self.username.is_some() && !self.is_an_account()
    }

    /// Whether mail for users of this host goes into a Maildir.
    fn takes_local_mail(&self) -> bool {
        let takes = |word: &str| self.accept.iter().any(|pattern| pattern == word);
        match self.kind() {
            TransportKind::Maildir => self.accept.is_empty() || takes("*") || takes("localhost"),
            // If the server takes every address, a Maildir behind it would get nothing.
            TransportKind::Smtp => !self.no_local && !takes("*"),
        }
    }

    fn transports(&self) -> Result<String, Error> {
        let accept: Vec<_> = self.accept.iter().map(|pattern| text(pattern)).collect();
        let accept = Some(Value::from(accept)).filter(|_| !self.accept.is_empty());
        let maildir = self.maildir.as_deref().map(absolute).transpose()?;
        if self.kind() == TransportKind::Maildir {
            let keys = [("kind", Some(text("maildir"))), ("path", maildir), ("accept", accept)];
            return Ok(section("transport", keys));
        }
        let mut keys = vec![
            ("kind", Some(text("smtp"))),
            ("host", self.host.as_deref().map(text)),
            ("port", self.port.map(|port| Value::Integer(port.into()))),
            ("security", self.security.as_deref().map(text)),
            ("plaintext", self.plaintext.as_deref().map(text)),
            ("username", self.username.as_deref().map(text)),
        ];
        keys.extend(self.credentials()?);
        keys.push(("tls_fingerprint", self.tls_fingerprint.as_deref().map(text)));
        keys.push(("accept", accept));
        let server = section("transport", keys);
        let about = "\n# Mail for users of this host, such as root.\n";
        let maildir = [("kind", Some(text("maildir"))), ("path", maildir)];
        let local = || about.to_owned() + &section("transport", maildir);
        Ok(if self.takes_local_mail() { server + &local() } else { server })
    }

    /// The mailbox with the account's mail.
    fn mailbox(&self) -> Result<String, Error> {
        let Some(host) = &self.imap_host else { return Ok(String::new()) };
        let username = self.imap_username.as_deref().or(self.username.as_deref());
        let mut keys = vec![
            ("kind", Some(text("imap"))),
            ("host", Some(text(host))),
            ("port", self.imap_port.map(|port| Value::Integer(port.into()))),
            ("security", self.imap_security.as_deref().map(text)),
            ("username", username.map(text)),
        ];
        keys.extend(self.credentials()?);
        // Another host has another certificate.
        let fingerprint = self.tls_fingerprint.as_deref();
        let fingerprint = fingerprint.filter(|_| self.host.as_ref() == Some(host));
        keys.push(("tls_fingerprint", fingerprint.map(text)));
        keys.push(("take_over", self.take_over.as_deref().map(absolute).transpose()?));
        let about = "\n# The account's incoming mail, with its folders.\n";
        Ok(about.to_owned() + &section("mailbox", keys))
    }

    /// How to log on, and whom to trust: the same at both servers of an account.
    fn credentials(&self) -> Result<[Key<'static>; 8], Error> {
        let file = |path: &Option<PathBuf>| path.as_deref().map(absolute).transpose();
        Ok([
            ("password_command", self.password_command.as_deref().map(text)),
            ("password_file", file(&self.password_file)?),
            ("password_credential", self.password_credential.as_deref().map(text)),
            ("password_env", self.password_env.as_deref().map(text)),
            ("auth", self.auth.as_deref().map(text)),
            ("ca_file", file(&self.ca_file)?),
            ("tls_certificate", file(&self.tls_certificate)?),
            ("tls_key", file(&self.tls_key)?),
        ])
    }
}

/// A key with its value, if it has one.
type Key<'k> = (&'k str, Option<Value>);

/// A transport or a mailbox with these keys.
pub(super) fn section<'k>(what: &str, keys: impl IntoIterator<Item = Key<'k>>) -> String {
    let line = |(key, value): Key<'_>| Some(format!("{key} = {}\n", value?));
    format!("[[{what}]]\n") + &keys.into_iter().filter_map(line).collect::<String>()
}

fn text(text: &str) -> Value {
    Value::String(text.to_owned())
}

/// Makes a path absolute. It starts in the current directory, or in the home directory if it begins with `~`.
fn absolute(path: &Path) -> Result<Value, Error> {
    let in_home = path.starts_with("~");
    let absolute = std::path::absolute(path).ok().filter(|_| !in_home);
    let path = absolute.as_deref().unwrap_or(path);
    let shown = || output::invalid(format!("{} is no UTF-8", path.display()));
    path.to_str().map(text).ok_or_else(shown)
}
