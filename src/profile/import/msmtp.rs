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
const WITHOUT_A_WORD: [&str; 6] = [
    "set_date_header",
    "set_msgid_header",
    "set_from_header",
    "remove_bcc_headers",
    "from_full_name",
    "allow_from_override",
];

/// Reads a file.
pub(super) fn read(path: &Path) -> Result<Imported, String> {
    parse(&read_text(path)?).map_err(|why| format!("{}: {why}", path.display()))
}

fn parse(text: &str) -> Result<Imported, String> {
    let (accounts, default) = accounts(text)?;
    let mut imported = Imported::default();
    // The default account comes first: what no `senders` are for goes by it, and by another account only where it is named.
    let others = accounts.iter().filter(|(name, _)| *name != default);
    let first = accounts.iter().filter(|(name, _)| *name == default);
    for (name, words) in first.chain(others) {
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
    // Of whom `account default : NAME` has everything so far.
    let mut alias: Option<(String, Words)> = None;
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
                if let ("default", [one]) = (&name[..], &from[..]) {
                    alias = Some(((*one).to_owned(), words.clone()));
                }
                found.push((name, words));
            }
            "eval" => {
                return Err(format!(
                    "line {number}: `eval` runs a command for a line, and what it prints is not known here; write that line instead"
                ));
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
    let default = found.iter().position(|(name, _)| name == "default");
    let default = match (default, alias, &found[..]) {
        // `account default : work` is work by another name, unless something follows that is its own. Its aliases are the profile's.
        (Some(place), Some((name, words)), _) if is_all_of(&words, &found[place].1) => {
            let (_, own) = found.remove(place);
            if let Some((_, words)) = found.iter_mut().find(|(known, _)| *known == name) {
                words.extend(own);
            }
            name
        }
        (Some(_), ..) => "default".to_owned(),
        (None, _, [(only, _)]) => only.clone(),
        (None, ..) => String::new(),
    };
    Ok((found, default))
}

/// Whether an account has nothing but these words, and what is for the whole profile.
fn is_all_of(words: &Words, own: &Words) -> bool {
    let is_known = |(word, value): (&String, &String)| {
        words.get(word) == Some(value) || word == "aliases" || word == "logfile"
    };
    own.iter().all(is_known)
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

    fn is_on(&mut self, word: &str, default: bool) -> Result<bool, String> {
        match self.take(word).as_deref() {
            None => Ok(default),
            Some("" | "on") => Ok(true),
            Some("off") => Ok(false),
            Some(_) => Err(format!("account {:?}: `{word}` is neither on nor off", self.name)),
        }
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
            Some(port) => Some(
                port.parse().map_err(|_| format!("account {:?}: `port` is no port", self.name))?,
            ),
            None => None,
        };
        let (is_encrypted, starttls) =
            (self.is_on("tls", false)?, self.is_on("tls_starttls", true)?);
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
        let (user, password) = (self.take("user"), self.take("password").filter(|p| !p.is_empty()));
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
        let Some(from) = self.take("from") else {
            if !is_default {
                self.note("it has no `from`, so it is used only where it is named: `send --account`, `sendmail -a`");
            }
            return (None, Vec::new());
        };
        if from.contains('%') {
            self.note("its `from` has a part that msmtp fills in; write the addresses into `identity` and `senders`");
        }
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
        if trust.is_some() {
            self.note("tls_trust_file became `ca_file`, which is trusted beside the system's certificates; `tls_fingerprint` trusts one alone");
        }
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
        for word in std::mem::take(&mut self.words).into_keys() {
            // What stands behind a misspelled word may be a password.
            let word: String = word.split_whitespace().next().unwrap_or_default().to_owned();
            self.note(&format!("`{word}` has no counterpart, and was left out"));
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
        let [home, work, team] = &imported.accounts[..] else { panic!("{imported:?}") };
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

    /// What no address is for goes by the default account, whatever others there are.
    #[test]
    fn the_default_account_comes_first() {
        let text = "account a\nhost a.example\naccount b\nhost b.example\nfrom b@b.example\naccount default : b\n";
        let imported = imported(text);
        let names: Vec<_> = imported.accounts.iter().map(|a| a.name.as_str()).collect();
        assert_eq!(names, ["b", "a"]);
        assert!(imported.notes[0].contains("only where it is named"), "{:?}", imported.notes);
    }

    /// What stands behind `account default : NAME` is of neither NAME nor another account.
    #[test]
    fn the_default_account_may_have_words_of_its_own() {
        let text = "account home\nhost h.example\nauth on\nuser hu\npassword HP\naccount work\nhost w.example\nauth on\nuser wu\npassword WP\n\
            account default : home\nuser other\npassword OP\n";
        let imported = imported(text);
        let of = |name: &str| {
            let account = imported.accounts.iter().find(|a| a.name == name).expect("it is there");
            let login = account.login.as_ref().expect("a login");
            (account.host.clone(), login.username.clone())
        };
        let wanted = |host: &str, user: &str| (host.to_owned(), user.to_owned());
        assert_eq!(of("home"), wanted("h.example", "hu"));
        assert_eq!(of("work"), wanted("w.example", "wu"));
        assert_eq!(of("default"), wanted("h.example", "other"));
    }

    /// Neither an error nor a note shows what may be a password.
    #[test]
    fn what_may_be_a_password_is_not_shown() {
        let imported = imported("account a\nhost h\npasword SECRET\npassword\u{a0}SECRET\n");
        assert!(imported.notes.iter().all(|note| !note.contains("SECRET")), "{:?}", imported.notes);
        for text in
            ["account a\nhost h\nport SECRET\n", "account a\nhost h\ntls SECRET\n", "eval SECRET\n"]
        {
            assert!(!parse(text).expect_err(text).contains("SECRET"));
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
