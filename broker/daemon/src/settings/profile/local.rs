//! `[mail]` and `[aliases]`: what becomes of recipients on this host.

use std::collections::BTreeMap;
use std::path::Path;

use serde::Deserialize;
use sundown_core::local::{LocalMail, Target, Users, is_user_name};
use sundown_mail::address;
use sundown_providers::read_small;
use toml::Spanned;

use super::super::source::SettingsError;
use super::super::value::{MailDomain, PathText, RewriteWord, Spelled};
use super::Reader;

/// What stands for every local address that has no alias.
const DEFAULT: &str = "default";

#[derive(Deserialize, Default)]
#[serde(default, deny_unknown_fields, expecting = "a table: [mail]")]
pub(super) struct MailSection {
    domain: Option<Spelled<MailDomain>>,
    aliases_file: Option<Spanned<Spelled<PathText>>>,
    pub(super) rewrite_from: Option<Spanned<Spelled<RewriteWord>>>,
    local_users: Option<Spanned<LocalUsers>>,
}

/// `local_users`: the system's, or those of a list.
#[derive(Deserialize)]
#[serde(untagged, expecting = "\"system\", or a list of users such as [\"anna\"]")]
enum LocalUsers {
    Word(String),
    Names(Vec<String>),
}

/// What `local_users` says for the users that the system knows.
pub(super) const SYSTEM: &str = "system";

/// An alias: one address or several, in one string or in a list.
#[derive(Deserialize)]
#[serde(untagged, expecting = "an address, or a list of addresses")]
pub(super) enum Alias {
    One(String),
    Many(Vec<String>),
}

impl Alias {
    fn targets(&self) -> impl Iterator<Item = &str> {
        let texts = match self {
            Self::One(text) => std::slice::from_ref(text),
            Self::Many(texts) => texts,
        };
        texts.iter().flat_map(|text| text.split(',')).map(str::trim).filter(|t| !t.is_empty())
    }
}

impl Reader<'_> {
    pub(super) fn local_mail(
        &self,
        section: &MailSection,
        aliases: &BTreeMap<String, Spanned<Alias>>,
    ) -> Result<LocalMail, SettingsError> {
        let given = section.domain.as_ref().map(|domain| domain.0.clone());
        let mut local = LocalMail {
            host: self.places.hostname.clone(),
            domain: given.or_else(|| mailname(&self.places.mailname)),
            users: self.local_users(section)?,
            ..LocalMail::default()
        };
        if let Some(file) = &section.aliases_file {
            let path = self.path(file)?;
            let at = |why: String| self.source.error(file.span(), why);
            local.aliases = aliases_of(&path).map_err(at)?;
            local.file = Some(path);
        }
        for (name, alias) in aliases {
            let targets = self.targets(name, alias)?;
            local.aliases.insert(name.to_lowercase(), targets);
        }
        local.default = local.aliases.remove(DEFAULT);
        Ok(local)
    }

    fn local_users(&self, section: &MailSection) -> Result<Users, SettingsError> {
        let Some(given) = &section.local_users else { return Ok(Users::Any) };
        let refused = |why: String| self.source.error(given.span(), why);
        match given.get_ref() {
            LocalUsers::Word(word) if word == SYSTEM => Ok(Users::System),
            LocalUsers::Word(word) => {
                let why = format!(
                    "{word:?} is not allowed; expected {SYSTEM:?}, or a list of users such as [\"anna\"]"
                );
                Err(refused(why))
            }
            LocalUsers::Names(names) => match names.iter().find(|name| !is_user_name(name)) {
                Some(name) => Err(refused(format!("{name:?} is not the name of a user"))),
                None => Ok(Users::Listed(names.iter().cloned().collect())),
            },
        }
    }

    /// What an alias of the profile stands for. A profile is written for Sundown: what it does not support is an error at once.
    fn targets(&self, name: &str, alias: &Spanned<Alias>) -> Result<Vec<Target>, SettingsError> {
        let refused = |why: String| self.source.error(alias.span(), why);
        if name.contains('@') || address::split(name).is_err() {
            let why =
                format!("{name:?} is no local address; an alias is for a name without a domain");
            return Err(refused(why));
        }
        let targets: Result<Vec<_>, _> = alias.get_ref().targets().map(target).collect();
        let targets = targets.map_err(|why| refused(format!("alias {name:?}: {why}")))?;
        if let Some(Target::Unsupported(what)) =
            targets.iter().find(|t| matches!(t, Target::Unsupported(_)))
        {
            let why = format!(
                "alias {name:?} stands for {what:?}; programs, files and :include: are not supported, give it addresses"
            );
            return Err(refused(why));
        }
        if targets.is_empty() {
            return Err(refused(format!("alias {name:?} stands for nothing; give it an address")));
        }
        Ok(targets)
    }
}

/// The domain that the system's file of that name has, if it is one of several words.
fn mailname(file: &Path) -> Option<String> {
    let text = String::from_utf8(read_small(file).ok()?).ok()?;
    let domain = text.lines().map(str::trim).find(|line| !line.is_empty())?;
    (domain.contains('.') && address::is_domain(domain)).then(|| domain.to_lowercase())
}

/// One of the addresses that an alias stands for.
fn target(text: &str) -> Result<Target, String> {
    let bare = text.trim_matches('"');
    if bare.starts_with(['|', '/']) || bare.to_lowercase().starts_with(":include:") {
        return Ok(Target::Unsupported(text.to_owned()));
    }
    if let Some(user) = text.strip_prefix('\\').filter(|user| address::split(user).is_ok()) {
        return Ok(Target::User(user.to_owned()));
    }
    match address::split(text) {
        Ok(_) => Ok(Target::Address(text.to_owned())),
        Err(why) => Err(format!("{text:?} is not an address: {why}")),
    }
}

/// The aliases of a file as aliases(5) describes it: `name: address, address`, further lines of one begin with a blank, `#` begins a
/// comment. The file may be written for another program: what is not supported is kept, and refused when it is used.
fn aliases_of(path: &Path) -> Result<BTreeMap<String, Vec<Target>>, String> {
    let shown = path.display();
    let bytes = read_small(path).map_err(|error| format!("{shown} cannot be read: {error}"))?;
    let text = String::from_utf8(bytes).map_err(|_| format!("{shown} is not UTF-8"))?;
    let mut aliases: BTreeMap<String, Vec<Target>> = BTreeMap::new();
    let mut last = None;
    for (number, line) in (1..).zip(text.lines()) {
        if line.trim().is_empty() || line.trim_start().starts_with('#') {
            continue;
        }
        let (name, targets) = if line.starts_with([' ', '\t']) {
            (last.clone(), line)
        } else {
            let (name, targets) = line.split_once(':').ok_or_else(|| {
                format!("{shown}, line {number}: expected \"name: address\", found {line:?}")
            })?;
            (Some(name.trim().trim_matches('"').to_lowercase()), targets)
        };
        let name =
            name.ok_or_else(|| format!("{shown}, line {number}: a line of no alias: {line:?}"))?;
        let known = aliases.entry(name.clone()).or_default();
        for text in split(targets) {
            let unsupported = |_| Target::Unsupported(text.to_owned());
            known.push(target(text).unwrap_or_else(unsupported));
        }
        last = Some(name);
    }
    aliases.retain(|_, targets| !targets.is_empty());
    Ok(aliases)
}

/// The parts of a list, at the commas outside of quotes.
fn split(list: &str) -> Vec<&str> {
    let mut quoted = false;
    let parts = list.split(|c| {
        quoted ^= c == '"';
        c == ',' && !quoted
    });
    parts.map(str::trim).filter(|part| !part.is_empty()).collect()
}

#[cfg(test)]
mod tests {
    use super::super::load_profile;
    use super::super::tests::fixture;
    use super::*;

    fn addresses(targets: &[&str]) -> Vec<Target> {
        targets.iter().map(|t| Target::Address((*t).to_owned())).collect()
    }

    #[test]
    fn aliases_and_a_domain_are_read() {
        let fixture = fixture();
        let text = "[mail]\ndomain = \"Example.org\"\n\
                    [aliases]\nRoot = \"anna@example.org, bo\"\nbo = [\"bo@b.c\", \"\\\\bo\"]\ndefault = \"anna\"\n";
        fixture.write("user/work.toml", text);
        let local = load_profile("work", &fixture.places).expect("a profile").local;
        assert_eq!(
            (local.host.as_str(), local.domain.as_deref()),
            ("Host.Lan", Some("example.org"))
        );
        assert_eq!(local.aliases["root"], addresses(&["anna@example.org", "bo"]));
        let bo = vec![Target::Address("bo@b.c".into()), Target::User("bo".into())];
        assert_eq!(local.aliases["bo"], bo);
        assert_eq!((local.default, local.aliases.len()), (Some(addresses(&["anna"])), 2));
    }

    #[test]
    fn users_are_any_the_systems_or_a_list() {
        let users = |line: &str| {
            let fixture = fixture();
            fixture.write("user/work.toml", &format!("[mail]\n{line}\n"));
            load_profile("work", &fixture.places).map(|profile| profile.local.users)
        };
        assert_eq!(users(""), Ok(Users::Any));
        assert_eq!(users("local_users = \"system\""), Ok(Users::System));
        let listed = Users::Listed(["anna", "bo"].map(str::to_owned).into());
        assert_eq!(users("local_users = [\"bo\", \"anna\"]"), Ok(listed));
        assert_eq!(users("local_users = []"), Ok(Users::Listed([].into())));
        for (line, words) in [
            ("local_users = \"anna\"", "\"anna\" is not allowed; expected \"system\", or a list"),
            ("local_users = true", "\"system\", or a list of users"),
            ("local_users = [\"a/b\"]", "\"a/b\" is not the name of a user"),
            ("local_users = [\"anna\", \".\"]", "\".\" is not the name of a user"),
        ] {
            let error = users(line).expect_err(line).to_string();
            assert!(error.contains(words) && error.contains("mail.local_users"), "{line}: {error}");
        }
    }

    /// The domain is that of /etc/mailname, if that is one.
    #[test]
    fn the_domain_is_that_of_the_host() {
        let fixture = fixture();
        fixture.write("user/work.toml", "");
        let domain = || load_profile("work", &fixture.places).expect("a profile").local.domain;
        assert_eq!(domain(), None, "there is no such file");
        for (text, expected) in [
            ("mail.Example.org\n", Some("mail.example.org")),
            ("vm\n", None),
            ("", None),
            ("a b.c", None),
        ] {
            fixture.write("mailname", text);
            assert_eq!(domain().as_deref(), expected, "{text:?}");
        }
        fixture.write("mailname", "mail.example.org");
        fixture.write("user/work.toml", "[mail]\ndomain = \"example.org\"\n");
        assert_eq!(domain().as_deref(), Some("example.org"));
    }

    #[test]
    fn what_an_alias_cannot_be_is_an_error() {
        let cases = [
            ("root = \"|/usr/bin/vacation\"", "are not supported"),
            ("root = \"/var/mail/x\"", "are not supported"),
            ("root = \":include:/etc/list\"", "are not supported"),
            ("root = \"a@b@c\"", "is not an address"),
            ("root = \"\"", "stands for nothing"),
            ("root = 7", "an address, or a list of addresses"),
            ("\"root@b.c\" = \"a@b.c\"", "is no local address"),
        ];
        for (line, expected) in cases {
            let fixture = fixture();
            fixture.write("user/work.toml", &format!("[aliases]\n{line}\n"));
            let error = load_profile("work", &fixture.places).expect_err(line).to_string();
            assert!(error.contains(expected) && error.contains("work.toml"), "{line}: {error}");
        }
        let fixture = fixture();
        fixture.write("user/work.toml", "[mail]\ndomain = \"vm\"\n");
        let error = load_profile("work", &fixture.places).expect_err("one word").to_string();
        assert!(error.contains("a domain such as"), "{error}");
    }

    #[test]
    fn a_file_of_aliases_is_read_as_it_is() {
        let fixture = fixture();
        let file = fixture.root.path().join("aliases");
        let text = "# comment\nmailer-daemon: postmaster\npostmaster: root\n  # another\nROOT: anna@example.org,\n\tbo\n\
                    filter: \"|/usr/bin/filter a, b\", c@d.e\nempty:\nlist: :include:/etc/list\nmail: /dev/null\n";
        std::fs::write(&file, text).expect("written");
        let aliases = aliases_of(&file).expect("read");
        assert_eq!(aliases["mailer-daemon"], addresses(&["postmaster"]));
        assert_eq!(aliases["root"], addresses(&["anna@example.org", "bo"]));
        let filter = Target::Unsupported("\"|/usr/bin/filter a, b\"".into());
        assert_eq!(aliases["filter"], vec![filter, Target::Address("c@d.e".into())]);
        assert_eq!(aliases["list"], vec![Target::Unsupported(":include:/etc/list".into())]);
        assert_eq!(aliases["mail"], vec![Target::Unsupported("/dev/null".into())]);
        assert!(!aliases.contains_key("empty"));

        let profile = format!(
            "[mail]\naliases_file = \"{}\"\n[aliases]\nroot = \"ops@b.c\"\n",
            file.display()
        );
        fixture.write("user/work.toml", &profile);
        let local = load_profile("work", &fixture.places).expect("a profile").local;
        assert_eq!(local.aliases["root"], addresses(&["ops@b.c"]), "the profile is nearer");
        assert_eq!(local.aliases["postmaster"], addresses(&["root"]));

        for (text, expected) in
            [("root anna\n", "line 1"), ("  anna\n", "line 1: a line of no alias")]
        {
            std::fs::write(&file, text).expect("written");
            assert!(aliases_of(&file).expect_err(text).contains(expected));
        }
        for (text, expected) in
            [(b"root: \xff\n".to_vec(), "is not UTF-8"), (vec![b'#'; 2 << 20], "is longer")]
        {
            std::fs::write(&file, text).expect("written");
            assert!(aliases_of(&file).expect_err(expected).contains(expected));
        }
        std::fs::remove_file(&file).expect("removed");
        rustix::fs::mkfifoat(rustix::fs::CWD, &file, 0o600.into()).expect("a pipe");
        assert!(aliases_of(&file).expect_err("a pipe").contains("a pipe or a socket"));
        assert!(aliases_of(Path::new("/dev/zero")).expect_err("no end").contains("is longer"));
        assert!(aliases_of(fixture.root.path()).expect_err("a folder").contains("cannot be read"));
        std::fs::remove_file(&file).expect("removed");
        let error = load_profile("work", &fixture.places).expect_err("it is gone").to_string();
        assert!(error.contains("cannot be read") && error.contains("work.toml"), "{error}");
    }
}
