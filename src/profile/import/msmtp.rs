//! The settings of msmtp: `defaults`, and accounts that may begin with what others say.

use std::collections::BTreeMap;
use std::path::Path;

use super::{Account, Imported, Login, Password, Security, provider_name, read_text};

/// What an account says, by command.
type Words = BTreeMap<String, String>;

/// Where the certificates of the system are, which are trusted anyhow.
const OF_THE_SYSTEM: [&str; 5] = [
    "system",
    "/etc/ssl/certs/ca-certificates.crt",
    "/etc/pki/tls/certs/ca-bundle.crt",
    "/etc/ssl/cert.pem",
    "/etc/ssl/ca-bundle.pem",
];

/// What has a counterpart that needs nothing said, or means nothing here.
const WITHOUT_A_WORD: [&str; 12] = [
    "set_date_header",
    "set_msgid_header",
    "set_from_header",
    "remove_bcc_headers",
    "undisclosed_recipients",
    "tls_crl_file",
    "tls_min_dh_prime_bits",
    "tls_priorities",
    "tls_host_override",
    "from_full_name",
    "allow_from_override",
    "eval",
];

/// Reads a file.
pub(super) fn read(path: &Path) -> Result<Imported, String> {
    parse(&read_text(path)?).map_err(|why| format!("{}: {why}", path.display()))
}

fn parse(text: &str) -> Result<Imported, String> {
    let (accounts, default) = accounts(text)?;
    let mut imported = Imported::default();
    // What is for everybody is tried last, and is the default account.
    let others = accounts.iter().filter(|(name, _)| *name != default);
    let last = accounts.iter().filter(|(name, _)| *name == default);
    for (name, words) in others.chain(last) {
        let is_default = *name == default;
        let mut reader = Reader { name, words: words.clone(), imported: &mut imported };
        let Some(account) = reader.account(is_default)? else { continue };
        reader.rest();
        if is_default {
            imported.identity.clone_from(&account.identity);
        }
        imported.accounts.push(account);
    }
    if imported.accounts.is_empty() {
        return Err("it has no account with a host".to_owned());
    }
    Ok(imported)
}

/// The accounts in their order, and the name of the default one.
fn accounts(text: &str) -> Result<(Vec<(String, Words)>, String), String> {
    let (mut defaults, mut found): (Words, Vec<(String, Words)>) = Default::default();
    let mut in_defaults = true;
    let mut default = None;
    for (number, line) in (1..).zip(text.lines()) {
        let line = line.trim();
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        let (command, value) = line.split_once([' ', '\t']).unwrap_or((line, ""));
        let value = unquoted(value.trim());
        match command {
            "defaults" => {
                in_defaults = true;
                defaults.clear();
            }
            "account" => {
                in_defaults = false;
                let (name, from) = value.split_once(':').unwrap_or((value, ""));
                let (name, mut words) = (name.trim().to_owned(), defaults.clone());
                if found.iter().any(|(known, _)| *known == name) {
                    return Err(format!("line {number}: there is an account {name:?} already"));
                }
                let from: Vec<_> =
                    from.split(',').map(str::trim).filter(|name| !name.is_empty()).collect();
                for other in &from {
                    let known = found.iter().find(|(known, _)| known == other);
                    let (_, more) = known
                        .ok_or_else(|| format!("line {number}: there is no account {other:?}"))?;
                    words.extend(more.clone());
                }
                // `account default : work` is work by another name.
                match &from[..] {
                    [one] if name == "default" => default = Some((*one).to_owned()),
                    _ => found.push((name, words)),
                }
            }
            _ => {
                let words = match found.last_mut() {
                    Some((_, words)) if !in_defaults => words,
                    _ => &mut defaults,
                };
                words.insert(command.to_owned(), value.to_owned());
            }
        }
    }
    let named = found.iter().any(|(name, _)| name == "default");
    let default = match (default, named, &found[..]) {
        (Some(name), ..) => name,
        (None, true, _) => "default".to_owned(),
        (None, false, [(only, _)]) => only.clone(),
        (None, false, _) => String::new(),
    };
    Ok((found, default))
}

fn unquoted(value: &str) -> &str {
    value.strip_prefix('"').and_then(|value| value.strip_suffix('"')).unwrap_or(value)
}

/// Makes an account of what it says, and takes each word that it has understood.
struct Reader<'a> {
    name: &'a str,
    words: Words,
    imported: &'a mut Imported,
}

impl Reader<'_> {
    fn take(&mut self, word: &str) -> Option<String> {
        self.words.remove(word)
    }

    fn is_on(&mut self, word: &str, default: bool) -> bool {
        self.take(word).map_or(default, |value| value.is_empty() || value == "on")
    }

    fn note(&mut self, text: &str) {
        let note = format!("account {:?}: {text}", self.name);
        self.imported.notes.push(note);
    }

    fn account(&mut self, is_default: bool) -> Result<Option<Account>, String> {
        if self.take("protocol").is_some_and(|protocol| protocol == "lmtp") {
            self.note("it speaks LMTP; write a transport of its own for it");
            return Ok(None);
        }
        let Some(host) = self.take("host") else {
            self.note("it has no host, and was left out");
            return Ok(None);
        };
        let port = match self.take("port") {
            Some(port) => {
                Some(port.parse().map_err(|_| format!("account {:?}: port {port:?}", self.name))?)
            }
            None => None,
        };
        let (is_encrypted, starttls) = (self.is_on("tls", false), self.is_on("tls_starttls", true));
        let security = match (is_encrypted, starttls) {
            (false, _) => Security::None,
            (true, true) => Security::Starttls,
            (true, false) => Security::Tls,
        };
        // Without a port msmtp takes 25 for STARTTLS, and not that of submission.
        let port = port.or((security == Security::Starttls).then_some(25));
        let login = self.login(&host);
        let (identity, senders) = self.senders(is_default);
        let others = self.others();
        let name = provider_name(self.name);
        Ok(Some(Account { name, host, port, security, login, identity, senders, others }))
    }

    fn login(&mut self, host: &str) -> Option<Login> {
        let auth = self.take("auth").unwrap_or_else(|| "off".to_owned());
        let (user, password) = (self.take("user"), self.take("password"));
        let command = self.take("passwordeval");
        if auth == "off" {
            return None;
        }
        let auth = match auth.as_str() {
            "on" | "" => None,
            "plain" => Some("plain"),
            "login" => Some("login"),
            "scram-sha-256" => Some("scram-sha-256"),
            "scram-sha-1" => Some("scram-sha-1"),
            "xoauth2" => Some("xoauth2"),
            other => {
                self.note(&format!(
                    "auth {other} is not there; the best of what the server offers is taken"
                ));
                None
            }
        };
        let Some(username) = user else {
            self.note("it logs on without a user, and was taken over without a logon");
            return None;
        };
        let password = match (command, password) {
            (Some(command), _) => Password::Command(command),
            (None, Some(password)) => Password::Itself(password),
            (None, None) => {
                self.note("its password is asked of the desktop's keyring with secret-tool, as msmtp does; ~/.netrc is not read");
                Password::Command(format!(
                    "secret-tool lookup user {} host {} service smtp",
                    quoted(&username),
                    quoted(host)
                ))
            }
        };
        Some(Login { username, password, auth })
    }

    /// The address of the account, and whose mail goes that way.
    fn senders(&mut self, is_default: bool) -> (Option<String>, Vec<String>) {
        self.take("auto_from");
        let Some(from) = self.take("from") else { return (None, Vec::new()) };
        let identity = (!from.contains(['*', '%'])).then(|| from.clone());
        let pattern = from.contains('@') && !from.contains('%');
        // The default account is for everybody.
        let senders = if is_default || !pattern { Vec::new() } else { vec![from] };
        (identity, senders)
    }

    fn others(&mut self) -> Vec<(&'static str, String)> {
        let mut others = Vec::new();
        let trust =
            self.take("tls_trust_file").filter(|file| !OF_THE_SYSTEM.contains(&file.as_str()));
        let pairs = [
            ("ca_file", trust),
            ("tls_certificate", self.take("tls_cert_file")),
            ("tls_key", self.take("tls_key_file")),
            ("helo", self.take("domain").filter(|name| !name.contains('%'))),
            ("source_address", self.take("source_ip")),
        ];
        for (key, value) in pairs {
            others.extend(value.map(|value| (key, value)));
        }
        match self.take("tls_fingerprint") {
            Some(print) if print.chars().filter(char::is_ascii_hexdigit).count() == 64 => {
                others.push(("tls_fingerprint", print));
            }
            Some(_) => self
                .note("its fingerprint is no SHA-256; `sundown profile check` shows the right one"),
            None => {}
        }
        if self.take("tls_certcheck").is_some_and(|check| check == "off") {
            self.note(
                "it looks at no certificate, and Sundown does: `tls_fingerprint` or `ca_file` names the one that is right",
            );
        }
        if let Some(seconds) =
            self.take("timeout").and_then(|text| text.parse::<u64>().ok()).filter(|s| *s > 0)
        {
            others.push(("timeout", format!("{seconds}s")));
        }
        if let Some(host) = self.take("proxy_host").filter(|host| !host.is_empty()) {
            let port = self.take("proxy_port").unwrap_or_else(|| "1080".to_owned());
            let host = if host.contains(':') { format!("[{host}]") } else { host };
            others.push(("proxy", format!("socks5://{host}:{port}")));
        }
        self.take("proxy_port");
        others
    }

    /// What is for the whole profile, and what is left.
    fn rest(&mut self) {
        if let Some(file) = self.take("aliases") {
            self.imported.aliases_file = Some(file);
        }
        if let Some(domain) = self.take("maildomain").filter(|domain| domain.contains('.')) {
            self.imported.domain = Some(domain);
        }
        for log in ["logfile", "syslog"] {
            if self.take(log).is_some_and(|value| value != "off" && value != "-") {
                self.note(&format!("{log}: what becomes of mail is in the broker's log, one line for each recipient"));
            }
        }
        for dsn in ["dsn_notify", "dsn_return"] {
            if self.take(dsn).is_some_and(|value| value != "off") {
                self.note(&format!("{dsn}: say it with `sendmail -N` and `-R`"));
            }
        }
        for word in WITHOUT_A_WORD {
            self.take(word);
        }
        for (word, value) in std::mem::take(&mut self.words) {
            self.note(&format!("`{word} {value}` has no counterpart, and was left out"));
        }
    }
}

/// A word for `/bin/sh`.
fn quoted(word: &str) -> String {
    format!("'{}'", word.replace('\'', "'\\''"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn imported(text: &str) -> Imported {
        parse(text).unwrap_or_else(|why| panic!("{why}\n{text}"))
    }

    #[test]
    fn accounts_begin_with_what_others_say() {
        let text = "# an account of each kind\n\
            defaults\nauth on\ntls on\ntls_trust_file /etc/ssl/certs/ca-certificates.crt\nlogfile ~/.msmtp.log\n\
            account work\nhost smtp.work.example\nport 465\ntls_starttls off\nfrom anna@work.example\n\
            user \"anna work\"\npasswordeval pass show mail/work\n\
            account team : work\nfrom *@team.example\n\
            account home\nhost smtp.home.example\nport 587\nfrom anna@home.example\nuser anna\npassword \"hunter 2\"\n\
            account default : home\naliases /etc/aliases\n";
        let imported = imported(text);
        let [work, team, home] = &imported.accounts[..] else { panic!("{imported:?}") };
        assert_eq!((work.port, work.security), (Some(465), Security::Tls));
        assert_eq!(work.senders, ["anna@work.example"]);
        assert_eq!(
            (&team.host, &team.senders[..]),
            (&work.host, &["*@team.example".to_owned()][..])
        );
        assert_eq!(team.identity, None);
        assert!(home.senders.is_empty() && home.others.is_empty(), "{home:?}");
        assert_eq!(home.security, Security::Starttls);
        let login = work.login.as_ref().expect("a login");
        assert_eq!(login.username, "anna work");
        assert_eq!(login.password, Password::Command("pass show mail/work".to_owned()));
        let login = home.login.as_ref().expect("a login");
        assert_eq!(login.password, Password::Itself("hunter 2".to_owned()));
        assert_eq!(imported.identity.as_deref(), Some("anna@home.example"));
        assert_eq!(imported.aliases_file.as_deref(), Some("/etc/aliases"));
        assert!(imported.notes.iter().all(|note| note.contains("logfile")), "{:?}", imported.notes);
    }

    #[test]
    fn what_has_no_counterpart_is_named() {
        let text = "account a\nhost h.example\ntls on\ntls_certcheck off\nauth cram-md5\nuser me\nwings on\n\
            proxy_host ::1\nproxy_port 9050\nsource_ip 192.0.2.1\ntimeout 60\nsyslog LOG_MAIL\n\
            tls_fingerprint 11:22\naccount b\ntls on\n";
        let imported = imported(text);
        let [a] = &imported.accounts[..] else { panic!("{imported:?}") };
        let value =
            |key: &str| a.others.iter().find(|(known, _)| *known == key).map(|(_, v)| v.as_str());
        assert_eq!(value("proxy"), Some("socks5://[::1]:9050"));
        assert_eq!(value("source_address"), Some("192.0.2.1"));
        assert_eq!(value("timeout"), Some("60s"));
        let login = a.login.as_ref().expect("a login");
        let command = "secret-tool lookup user 'me' host 'h.example' service smtp";
        assert_eq!(login.password, Password::Command(command.to_owned()));
        for words in ["certificate", "cram-md5", "wings", "keyring", "syslog", "SHA-256", "no host"]
        {
            assert!(
                imported.notes.iter().any(|note| note.contains(words)),
                "{words}: {:?}",
                imported.notes
            );
        }
    }

    #[test]
    fn mistakes_name_their_line() {
        for (text, words) in [
            ("account a\nhost h\naccount a\n", "line 3"),
            ("account a : b\n", "line 1"),
            ("account a\nhost h\nport x\n", "port"),
            ("# nothing\n", "no account"),
        ] {
            let why = parse(text).expect_err(text);
            assert!(why.contains(words), "{why}");
        }
    }
}
