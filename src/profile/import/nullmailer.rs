//! The settings of nullmailer: a directory with a file for each.

use std::path::Path;

use super::{Account, Imported, Login, Password, Security, read_text};

/// Reads the directory.
pub(super) fn read(folder: &Path) -> Result<Imported, String> {
    // What is not there says nothing.
    let file = |name: &str| match std::fs::exists(folder.join(name)) {
        Ok(false) => Ok(None),
        _ => read_text(&folder.join(name)).map(|text| first_line(&text)),
    };
    let remotes = read_text(&folder.join("remotes"))?;
    let mut imported = Imported::default();
    let account = remote(&remotes, &mut imported.notes)
        .map_err(|why| format!("{}: {why}", folder.join("remotes").display()))?;
    let mut account =
        account.ok_or_else(|| format!("{} names no server", folder.join("remotes").display()))?;
    imported.default = file("adminaddr")?;
    imported.domain = file("defaultdomain")?.filter(|domain| domain.contains('.'));
    imported.identity = file("allmailfrom")?;
    account.identity.clone_from(&imported.identity);
    let strings =
        [("helo", file("helohost")?), ("timeout", file("sendtimeout")?.map(|s| format!("{s}s")))];
    for (key, value) in strings {
        account.others.extend(value.map(|value| (key, value)));
    }
    imported.retry_max = file("maxpause")?.map(|seconds| format!("{seconds}s"));
    if imported.default.is_some() {
        imported.notes.push(
            "adminaddr: all mail for users of this host goes there, as `[aliases] default`"
                .to_owned(),
        );
    }
    imported.accounts.push(account);
    Ok(imported)
}

fn first_line(text: &str) -> Option<String> {
    text.lines().map(str::trim).find(|line| !line.is_empty()).map(str::to_owned)
}

/// The first server. nullmailer tries the others where that fails for good or for the moment; one way is all there is here.
fn remote(text: &str, notes: &mut Vec<String>) -> Result<Option<Account>, String> {
    let mut found = None;
    for (number, line) in (1..).zip(text.lines()) {
        let line = line.trim();
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        let words =
            shell_words(line).ok_or_else(|| format!("line {number}: a quote is left open"))?;
        if found.is_some() {
            notes.push(format!("{}: only the first server was taken over", words[0]));
            continue;
        }
        found = Some(account(&words, notes).map_err(|why| format!("line {number}: {why}"))?);
    }
    Ok(found)
}

fn account(words: &[String], notes: &mut Vec<String>) -> Result<Account, String> {
    let (host, protocol, options) = match words {
        [host] => (host, "smtp", &[][..]),
        [host, protocol, options @ ..] => (host, protocol.as_str(), options),
        [] => return Err("it is empty".to_owned()),
    };
    if protocol != "smtp" {
        return Err(format!("the protocol {protocol:?} is not there, only smtp"));
    }
    let (mut user, mut password) = (None, None);
    let mut account = Account {
        name: "relay".to_owned(),
        host: host.clone(),
        security: Security::None,
        ..Account::default()
    };
    for option in options {
        let option = option.trim_start_matches("--");
        let (name, value) = option.split_once('=').unwrap_or((option, ""));
        match name {
            "port" => {
                let port = value.parse().map_err(|_| format!("port {value:?}"))?;
                account.port = Some(port);
            }
            "user" => user = Some(value.to_owned()),
            "pass" => password = Some(value.to_owned()),
            "starttls" => account.security = Security::Starttls,
            "ssl" | "tls" if account.security == Security::None => account.security = Security::Tls,
            "x509cafile" => account.others.push(("ca_file", value.to_owned())),
            "x509certfile" => account.others.push(("tls_certificate", value.to_owned())),
            "insecure" => notes.push(
                "--insecure: it looks at no certificate, and Sundown does; `tls_fingerprint` or `ca_file` names the one that is right"
                    .to_owned(),
            ),
            // Beside --starttls it says the same; of ways to log on the best that the server offers is taken.
            "auth-login" | "auth-plain" | "ssl" | "tls" => {}
            other => notes.push(format!("`--{other}` has no counterpart, and was left out")),
        }
    }
    let certificate = account.others.iter().find(|(key, _)| *key == "tls_certificate").cloned();
    account.others.extend(certificate.map(|(_, file)| ("tls_key", file)));
    // Without a port nullmailer takes that of the encryption, and 25 for STARTTLS.
    account.port = account.port.or((account.security == Security::Starttls).then_some(25));
    account.login = match (user, password.filter(|password| !password.is_empty())) {
        (Some(username), Some(password)) => {
            Some(Login { username, password: Password::Itself(password), auth: None })
        }
        (Some(_), None) => return Err("--user without --pass".to_owned()),
        (None, _) => None,
    };
    Ok(account)
}

/// The words of a line, with quotes and backslashes as in a shell; `None` if a quote is left open.
fn shell_words(line: &str) -> Option<Vec<String>> {
    let (mut words, mut word, mut began) = (Vec::new(), String::new(), false);
    let mut quote = None;
    let mut rest = line.chars();
    while let Some(c) = rest.next() {
        match (c, quote) {
            ('\\', None | Some('"')) => {
                word.extend(rest.next());
                began = true;
            }
            (c, Some(open)) if c == open => quote = None,
            ('"' | '\'', None) => (quote, began) = (Some(c), true),
            (c, None) if c.is_whitespace() => {
                if began || !word.is_empty() {
                    words.push(std::mem::take(&mut word));
                }
                began = false;
            }
            (c, _) => word.push(c),
        }
    }
    if began || !word.is_empty() {
        words.push(word);
    }
    quote.is_none().then_some(words)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_is_a_server() {
        let mut notes = Vec::new();
        let text = "# the server\nsmtp.example.org smtp --port=587 --starttls --auth-login --user=anna --pass='a \"b'\n\
            backup.example.org smtp --insecure\n";
        let account = remote(text, &mut notes).expect("it is read").expect("a server");
        assert_eq!((&account.host[..], account.port), ("smtp.example.org", Some(587)));
        assert_eq!(account.security, Security::Starttls);
        let login = account.login.expect("a login");
        assert_eq!(
            (&login.username[..], login.password),
            ("anna", Password::Itself("a \"b".to_owned()))
        );
        assert_eq!(notes, ["backup.example.org: only the first server was taken over"]);
        for (line, security, port) in [
            ("h", Security::None, None),
            ("h smtp --ssl", Security::Tls, None),
            ("h smtp --starttls --ssl", Security::Starttls, Some(25)),
            ("h smtp --ssl --port=1465", Security::Tls, Some(1465)),
        ] {
            let account = remote(line, &mut notes).expect("it is read").expect("a server");
            assert_eq!((account.security, account.port), (security, port), "{line}");
        }
        assert!(remote("h qmqp", &mut notes).is_err() && remote("h smtp '", &mut notes).is_err());
        assert_eq!(remote("# none\n\n", &mut notes), Ok(None));
    }
}
