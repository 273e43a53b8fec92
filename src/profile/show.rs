//! `sundown profile show`: what a profile contains. Of a password it shows only where it is.

use std::collections::BTreeMap;

use serde_json::{Value, json};
use sundown_daemon::{MailboxSpec, Profile, ProviderSpec, Users, Watching};

use crate::output;

/// Where the password of a server comes from. Only a file is named, because a command line may contain a secret.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Password<'a> {
    Command,
    File(&'a str),
    Credential,
    Environment,
}

impl<'a> Password<'a> {
    fn of(spec: &'a ProviderSpec) -> Option<Self> {
        spec.options.iter().find_map(|(key, value)| match key.as_str() {
            "password_command" => Some(Self::Command),
            "password_file" => Some(Self::File(value)),
            "password_credential" => Some(Self::Credential),
            "password_env" => Some(Self::Environment),
            _ => None,
        })
    }

    fn name(self) -> &'static str {
        match self {
            Self::Command => "command",
            Self::File(_) => "file",
            Self::Credential => "credential",
            Self::Environment => "environment",
        }
    }

    fn words(self) -> String {
        match self {
            Self::Command => "from a command".to_owned(),
            Self::File(file) => format!("from the file {file}"),
            Self::Credential => "from a credential".to_owned(),
            Self::Environment => "from the environment".to_owned(),
        }
    }
}

/// The document of `--json`.
pub(super) fn value(profile: &Profile) -> Value {
    let transports: Vec<_> = profile
        .transports
        .iter()
        .map(|transport| {
            let spec = &transport.provider;
            let mut value = provider(spec);
            let accept: Vec<_> = transport.accept.iter().map(ToString::to_string).collect();
            value["accept"] = json!(accept);
            let senders: Vec<_> = transport.senders.iter().map(ToString::to_string).collect();
            value["senders"] = json!(senders);
            value["identity"] = json!(option(spec, "identity"));
            value["rewrite_from"] = json!(option(spec, "rewrite_from"));
            add_server(&mut value, spec);
            value
        })
        .collect();
    json!({
        "profile": profile.name,
        "identity": profile.identity,
        "stores": profile.stores.iter().map(provider).collect::<Vec<_>>(),
        "transports": transports,
        "mailboxes": profile.mailboxes.iter().map(mailbox).collect::<Vec<_>>(),
        "address_books": profile.address_books.iter().map(provider).collect::<Vec<_>>(),
        "domain": profile.local.domain,
        "local_users": users(&profile.local.users),
        "aliases": aliases(profile).collect::<BTreeMap<_, _>>(),
    })
}

/// Adds the server of a transport or a mailbox; each key is null where there is none.
fn add_server(value: &mut Value, spec: &ProviderSpec) {
    value["host"] = json!(option(spec, "host"));
    value["port"] = json!(option(spec, "port").and_then(|port| port.parse::<u16>().ok()));
    value["security"] = json!(option(spec, "security"));
    value["username"] = json!(option(spec, "username"));
    value["password"] = json!(Password::of(spec).map(Password::name));
}

/// A mailbox. Without addresses it shows every message.
fn mailbox(mailbox: &MailboxSpec) -> Value {
    let spec = &mailbox.provider;
    let mut value = provider(spec);
    value["watch"] = json!(match mailbox.watch {
        Watching::Members => "members",
        Watching::Always => "always",
    });
    value["folders"] = json!(option(spec, "folders"));
    value["addresses"] = json!(addresses(spec).collect::<Vec<_>>());
    add_server(&mut value, spec);
    value
}

/// The user's addresses, as a mailbox has them.
fn addresses(spec: &ProviderSpec) -> impl Iterator<Item = &str> {
    let all = spec.options.iter().filter(|(key, _)| key == "address");
    all.map(|(_, value)| value.as_str())
}

/// Which messages a mailbox shows.
fn shown(spec: &ProviderSpec) -> String {
    let all: Vec<_> = addresses(spec).collect();
    let mail = if all.is_empty() { "all mail".to_owned() } else { all.join(", ") };
    match option(spec, "folders") {
        Some("inbox") => format!("{mail}; without folders"),
        _ => mail,
    }
}

/// The users of this host as the profile has them: a list, `system`, or nothing if every name counts as one.
fn users(users: &Users) -> Value {
    match users {
        Users::Any => Value::Null,
        Users::System => json!("system"),
        Users::Listed(names) => json!(names),
    }
}

/// The aliases, each with its targets. The targets of all other local addresses are called `default`, as in the profile.
fn aliases(profile: &Profile) -> impl Iterator<Item = (&str, Vec<String>)> {
    let named = profile.local.aliases.iter().map(|(name, targets)| (name.as_str(), targets));
    let all = named.chain(profile.local.default.iter().map(|targets| ("default", targets)));
    all.map(|(name, targets)| (name, targets.iter().map(ToString::to_string).collect()))
}

fn provider(spec: &ProviderSpec) -> Value {
    let path = Some(&spec.path).filter(|path| !path.as_os_str().is_empty());
    json!({
        "name": spec.name,
        "kind": spec.kind,
        "path": path,
        "fast_shutdown": spec.fast_shutdown.name(),
    })
}

/// The profile for people.
pub(super) fn text(profile: &Profile) -> String {
    let row = |what: &str, spec: &ProviderSpec, accept: String| {
        vec![what.to_owned(), spec.name.clone(), spec.kind.clone(), accept, place(spec)]
    };
    let mut rows: Vec<_> =
        profile.stores.iter().map(|spec| row("store", spec, String::new())).collect();
    for transport in &profile.transports {
        let accept: Vec<_> = transport.accept.iter().map(ToString::to_string).collect();
        rows.push(row("transport", &transport.provider, accept.join(", ")));
    }
    for mailbox in &profile.mailboxes {
        rows.push(row("mailbox", &mailbox.provider, shown(&mailbox.provider)));
    }
    rows.extend(profile.address_books.iter().map(|spec| row("address book", spec, String::new())));
    let heading = ["provider", "name", "kind", "takes", "where"];
    let accounts = profile.mailboxes.iter().filter_map(|mailbox| login(&mailbox.provider));
    let accounts = accounts.map(|login| format!("{login}\n"));
    let servers: Vec<_> = profile.transports.iter().filter_map(server).chain(accounts).collect();
    format!(
        "profile {}, sender {}\n\n{}{}",
        profile.name,
        profile.identity,
        output::table(&heading, &rows),
        if servers.is_empty() { String::new() } else { format!("\n{}", servers.concat()) }
    ) + &local(profile)
}

/// What happens to addresses of this host, if the profile says so.
fn local(profile: &Profile) -> String {
    let domain = profile.local.domain.as_ref();
    let domain = domain.map(|domain| format!("bare names that no transport takes: @{domain}\n"));
    let aliases: Vec<_> =
        aliases(profile).map(|(name, targets)| vec![name.to_owned(), targets.join(", ")]).collect();
    let table = (!aliases.is_empty()).then(|| output::table(&["alias", "stands for"], &aliases));
    let users = match &profile.local.users {
        Users::Any => None,
        Users::System => Some("users of this host: those that the system knows\n".to_owned()),
        Users::Listed(names) => {
            let names: Vec<_> = names.iter().map(String::as_str).collect();
            Some(format!("users of this host: {}\n", names.join(", ")))
        }
    };
    users.into_iter().chain(domain).chain(table).map(|part| format!("\n{part}")).collect()
}

/// Where a provider's data or its server is.
pub(super) fn place(spec: &ProviderSpec) -> String {
    match (option(spec, "host"), option(spec, "port")) {
        (Some(host), Some(port)) if host.contains(':') => format!("[{host}]:{port}"),
        (Some(host), Some(port)) => format!("{host}:{port}"),
        _ => spec.path.display().to_string(),
    }
}

/// How the connection to a server is protected, and who logs on.
fn login(spec: &ProviderSpec) -> Option<String> {
    let security = match option(spec, "security")? {
        "none" => "in the clear",
        other => other,
    };
    let login = match (option(spec, "username"), Password::of(spec)) {
        (Some(user), Some(password)) => format!("user {user}, password {}", password.words()),
        _ => "without logging on".to_owned(),
    };
    Some(format!("{}: {security}, {login}", spec.name))
}

/// A line about the server of a transport.
fn server(transport: &sundown_daemon::TransportSpec) -> Option<String> {
    let spec = &transport.provider;
    let login = login(spec)?;
    let identity = option(spec, "identity").unwrap_or_default();
    let authors = match option(spec, "rewrite_from") {
        Some("always") if transport.senders.is_empty() => format!(", all mail is from {identity}"),
        Some("always") => format!(", all mail is from {identity} or its senders"),
        Some("never") => ", senders stay as they are".to_owned(),
        _ => String::new(),
    };
    Some(format!("{login}{authors}\n"))
}

fn option<'a>(spec: &'a ProviderSpec, key: &str) -> Option<&'a str> {
    spec.options.iter().find(|(k, _)| k == key).map(|(_, value)| value.as_str())
}
