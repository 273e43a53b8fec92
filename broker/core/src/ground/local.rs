//! Addresses of this host: what aliases make of them, and the domain that the others get.
//!
//! ```text
//!  root ──alias──► anna@example.org
//!       ──no alias, `default`──► what that stands for
//!       ──neither, a transport takes local mail──► root
//!       ──neither, `domain`──► root@example.org
//!       ──nothing of that──► root, which no transport takes: the message is refused
//! ```
//!
//! Aliases concern local addresses alone, and the envelope alone. What an alias stands for may be another alias. Case does not matter.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::path::PathBuf;

/// Through how many others an alias may lead.
const DEEPEST: usize = 64;

/// `[mail]` and `[aliases]` of a profile: what becomes of recipients on this host.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct LocalMail {
    /// The host's name.
    pub host: String,
    /// The domain that a local address gets which no alias and no transport takes.
    pub domain: Option<String>,
    /// What each alias stands for. Names are in lower case.
    pub aliases: BTreeMap<String, Vec<Target>>,
    /// The file that some of them are from.
    pub file: Option<PathBuf>,
    /// What every local address stands for that has no alias.
    pub default: Option<Vec<Target>>,
}

/// What an alias stands for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Target {
    /// An address, or another alias.
    Address(String),
    /// A user of this host, also where there is an alias of that name: `\root`.
    User(String),
    /// A program, a file or a list of addresses. It is neither run nor written nor passed over: who sends to it is refused.
    Unsupported(String),
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Address(text) | Self::Unsupported(text) => f.write_str(text),
            Self::User(name) => write!(f, "\\{name}"),
        }
    }
}

/// Why a local address cannot be expanded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum AliasError {
    /// Aliases lead back to themselves: each of them, in their order.
    Loop(Vec<String>),
    /// This alias leads through too many others.
    Deep(String),
    /// An alias leads to a program, a file or a list of addresses.
    Unsupported {
        /// The alias.
        alias: String,
        /// What it stands for.
        target: String,
    },
}

impl fmt::Display for AliasError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Loop(names) => write!(f, "aliases lead in a circle: {}", names.join(" -> ")),
            Self::Deep(name) => {
                write!(f, "alias {name:?} leads through more than {DEEPEST} others")
            }
            Self::Unsupported { alias, target } => write!(
                f,
                "alias {alias:?} stands for {target:?}; programs, files and :include: are not supported, give it addresses"
            ),
        }
    }
}

impl std::error::Error for AliasError {}

impl LocalMail {
    /// Whether it changes no address.
    pub fn is_nothing(&self) -> bool {
        self.domain.is_none() && self.aliases.is_empty() && self.default.is_none()
    }

    /// The mailbox of an address on this host: one without a domain, with a domain of one word, with this host's name, or at
    /// `localhost`.
    pub fn mailbox<'a>(&self, address: &'a str) -> Option<&'a str> {
        let Some((mailbox, domain)) = address.rsplit_once('@') else { return Some(address) };
        let domain = domain.strip_suffix('.').unwrap_or(domain);
        let is_literal = domain.starts_with('[');
        let is_local = !is_literal
            && (!domain.contains('.')
                || domain.eq_ignore_ascii_case("localhost.localdomain")
                || domain.eq_ignore_ascii_case(&self.host));
        is_local.then_some(mailbox)
    }

    /// The recipients with local addresses replaced, in their order; some may be there twice. `takes` says whether a transport takes an
    /// address.
    pub fn expand(
        &self,
        recipients: Vec<String>,
        takes: impl Fn(&str) -> bool,
    ) -> Result<Vec<String>, AliasError> {
        let (mut done, mut expanded) = (BTreeSet::new(), Vec::with_capacity(recipients.len()));
        for recipient in recipients {
            self.expand_one(recipient, &takes, &mut Vec::new(), (&mut done, &mut expanded))?;
        }
        Ok(expanded)
    }

    fn expand_one(
        &self,
        address: String,
        takes: &impl Fn(&str) -> bool,
        within: &mut Vec<String>,
        (done, expanded): (&mut BTreeSet<String>, &mut Vec<String>),
    ) -> Result<(), AliasError> {
        let Some(mailbox) = self.mailbox(&address) else {
            expanded.push(address);
            return Ok(());
        };
        let name = mailbox.to_lowercase();
        // What `default` stands for may be a user of this host.
        let targets =
            self.aliases.get(&name).or(self.default.as_ref().filter(|_| within.is_empty()));
        let Some(targets) = targets else {
            expanded.push(self.qualified(address, takes));
            return Ok(());
        };
        if within.contains(&name) {
            within.push(name);
            return Err(AliasError::Loop(std::mem::take(within)));
        }
        if within.len() > DEEPEST {
            return Err(AliasError::Deep(std::mem::take(&mut within[0])));
        }
        // Once is enough, however often it is named: what it stands for would be there twice.
        if !done.insert(name.clone()) {
            return Ok(());
        }
        within.push(name.clone());
        for target in targets {
            match target {
                Target::Address(address) => {
                    self.expand_one(address.clone(), takes, within, (done, expanded))?;
                }
                Target::User(user) => expanded.push(self.qualified(user.clone(), takes)),
                Target::Unsupported(target) => {
                    return Err(AliasError::Unsupported { alias: name, target: target.clone() });
                }
            }
        }
        within.pop();
        Ok(())
    }

    /// A local address that no alias has.
    fn qualified(&self, address: String, takes: &impl Fn(&str) -> bool) -> String {
        match (&self.domain, self.mailbox(&address)) {
            (Some(domain), Some(mailbox)) if !takes(&address) => format!("{mailbox}@{domain}"),
            _ => address,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mail(aliases: &[(&str, &[&str])]) -> LocalMail {
        let target = |t: &&str| match t.chars().next() {
            Some('|' | '/' | ':') => Target::Unsupported((*t).to_owned()),
            _ => Target::Address((*t).to_owned()),
        };
        let named = |(name, of): &(&str, &[&str])| {
            ((*name).to_owned(), of.iter().map(target).collect::<Vec<_>>())
        };
        let mut aliases: BTreeMap<_, _> = aliases.iter().map(named).collect();
        let default = aliases.remove("default");
        LocalMail { host: "vm.lan".into(), aliases, default, ..LocalMail::default() }
    }

    fn expand(
        mail: &LocalMail,
        of: &str,
        takes: fn(&str) -> bool,
    ) -> Result<Vec<String>, AliasError> {
        mail.expand(of.split_whitespace().map(str::to_owned).collect(), takes)
    }

    fn no(_: &str) -> bool {
        false
    }

    #[test]
    fn local_addresses_are_those_of_this_host() {
        let mail = mail(&[]);
        for local in [
            "root",
            "root@localhost",
            "root@LOCALHOST.",
            "root@vm",
            "root@Vm.Lan",
            "root@localhost.localdomain",
        ] {
            assert_eq!(mail.mailbox(local), Some("root"), "{local}");
        }
        for other in ["root@example.org", "root@lan.vm", "root@[127.0.0.1]", "root@[::1]"] {
            assert_eq!(mail.mailbox(other), None, "{other}");
        }
    }

    #[test]
    fn aliases_are_expanded_in_their_order() {
        let mail = mail(&[("root", &["anna@example.org", "ops"]), ("ops", &["bo@example.org"])]);
        let all = "x@y.z anna@example.org bo@example.org";
        let all: Vec<_> = all.split(' ').map(str::to_owned).collect();
        assert_eq!(expand(&mail, "x@y.z ROOT", no), Ok(all.clone()));
        assert_eq!(expand(&mail, "x@y.z Root@vm", no), Ok(all));
        assert_eq!(expand(&mail, "root@example.org", no), Ok(vec!["root@example.org".into()]));
    }

    #[test]
    fn who_has_no_alias_is_a_user_or_gets_the_domain() {
        let mut mail = mail(&[("root", &["anna"])]);
        mail.domain = Some("example.org".into());
        assert_eq!(
            expand(&mail, "root bo@localhost", no),
            Ok(vec!["anna@example.org".into(), "bo@example.org".into()])
        );
        let local = |address: &str| !address.contains('@');
        assert_eq!(expand(&mail, "root", local), Ok(vec!["anna".into()]));
        mail.domain = None;
        assert_eq!(expand(&mail, "bo@vm", no), Ok(vec!["bo@vm".into()]));
        assert!(!mail.is_nothing() && LocalMail::default().is_nothing());
    }

    #[test]
    fn the_default_is_for_who_has_no_alias() {
        let mail = mail(&[("default", &["anna", "a@b.c"]), ("bo", &["bo@example.org"])]);
        assert_eq!(expand(&mail, "bo", no), Ok(vec!["bo@example.org".into()]));
        assert_eq!(expand(&mail, "cron@vm", no), Ok(vec!["anna".into(), "a@b.c".into()]));
    }

    #[test]
    fn circles_are_refused() {
        let mail = mail(&[
            ("a", &["b"]),
            ("b", &["x@y.z", "A@localhost"]),
            ("c", &["d", "d"]),
            ("d", &["x@y.z"]),
        ]);
        let circle = AliasError::Loop(vec!["a".into(), "b".into(), "a".into()]);
        assert_eq!(expand(&mail, "a", no), Err(circle));
        assert_eq!(expand(&mail, "c c d", no), Ok(vec!["x@y.z".into()]), "twice is no circle");
    }

    #[test]
    fn many_aliases_of_many_take_no_time() {
        let names: Vec<_> = (0..64).map(|n| format!("a{n}")).collect();
        let mut mail = mail(&[]);
        for (name, next) in names.iter().zip(&names[1..]) {
            let twice = vec![Target::Address(next.clone()), Target::Address(next.clone())];
            mail.aliases.insert(name.clone(), twice);
        }
        assert_eq!(expand(&mail, "a0", no), Ok(vec!["a63".into(), "a63".into()]));
    }

    /// A chain costs stack.
    #[test]
    fn a_chain_of_aliases_is_so_long() {
        for (length, goes) in [(DEEPEST + 1, true), (DEEPEST + 2, false), (100_000, false)] {
            let mut mail = mail(&[]);
            for n in 0..length {
                let next = vec![Target::Address(format!("a{}", n + 1))];
                mail.aliases.insert(format!("a{n}"), next);
            }
            let expanded = expand(&mail, "a0", no);
            assert_eq!(expanded.is_ok(), goes, "{length}");
            assert!(goes || expanded == Err(AliasError::Deep("a0".into())));
        }
    }

    #[test]
    fn a_user_is_no_alias() {
        let mut mail = mail(&[]);
        let both = vec![Target::User("root".into()), Target::Address("a@b.c".into())];
        mail.aliases.insert("root".into(), both);
        assert_eq!(expand(&mail, "root", no), Ok(vec!["root".into(), "a@b.c".into()]));
    }

    #[test]
    fn programs_files_and_lists_are_refused() {
        for target in ["|/usr/bin/vacation", "/var/mail/anna", ":include:/etc/list"] {
            let mail = mail(&[("a", &["x@y.z", target])]);
            let refused = AliasError::Unsupported { alias: "a".into(), target: target.into() };
            assert_eq!(expand(&mail, "a", no), Err(refused.clone()));
            assert!(refused.to_string().contains("are not supported"), "{refused}");
            assert_eq!(expand(&mail, "b", no), Ok(vec!["b".into()]));
        }
    }
}
