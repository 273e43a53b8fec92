//! Addresses of this host: what aliases make of them, and the domain that the others get.
//!
//! ```text
//!  root ──alias──► anna@example.org
//!       ──no alias, `default`──► what that stands for
//!       ──neither, a user, and a transport takes local mail──► root
//!       ──neither, `domain`──► root@example.org
//!       ──nothing of that──► the message is refused
//! ```
//!
//! Aliases concern local addresses alone, and the envelope alone. What an alias stands for may be another alias. Case does not matter
//! in the name of an alias, and it does in the name of a user. Without `local_users` every local address counts as a user's.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::path::PathBuf;

use sundown_mail::address;

/// Through how many others an alias may lead.
const DEEPEST: usize = 64;

/// The most bytes of a user's name; Linux takes 256.
const LONGEST: usize = 256;

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
    /// Which local addresses are those of users.
    pub users: Users,
}

/// `local_users`: which names are those of users of this host.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum Users {
    /// All names.
    #[default]
    Any,
    /// These.
    Listed(BTreeSet<String>),
    /// Those that the system knows. It is asked outside of the core.
    System,
}

/// Names that the system was asked for, and whether each is a user's.
pub type Found = BTreeMap<String, bool>;

/// What becomes of recipients.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Expanded {
    /// These are the recipients.
    To(Vec<String>),
    /// The system must say first which of these names are those of users.
    Ask(BTreeSet<String>),
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
    /// These addresses have no alias and are no user's, and there is no domain for them.
    NoUser(Vec<String>),
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
            Self::NoUser(names) => {
                let shown: Vec<_> = names.iter().take(5).map(|name| format!("{name:?}")).collect();
                let more = if names.len() > shown.len() { ", …" } else { "" };
                write!(
                    f,
                    "{}{more}: no alias and no user of this host has that name; write the whole address, such as anna@example.org, \
                     and quote a name with a comma in it: \"Doe, John\" <anna@example.org>",
                    shown.join(", ")
                )
            }
        }
    }
}

impl std::error::Error for AliasError {}

impl LocalMail {
    /// Whether it changes no address.
    pub fn is_nothing(&self) -> bool {
        self.domain.is_none()
            && self.aliases.is_empty()
            && self.default.is_none()
            && matches!(self.users, Users::Any)
    }

    /// Whether the system is asked which names are those of users.
    pub fn asks_the_system(&self) -> bool {
        matches!(self.users, Users::System)
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
    /// address, `found` what the system has said of names so far.
    pub fn expand(
        &self,
        recipients: Vec<String>,
        takes: impl Fn(&str) -> bool,
        found: &Found,
    ) -> Result<Expanded, AliasError> {
        let mut expansion = Expansion {
            mail: self,
            takes,
            found,
            done: BTreeSet::new(),
            to: Vec::with_capacity(recipients.len()),
            unasked: BTreeSet::new(),
            nobodys: Vec::new(),
        };
        for recipient in recipients {
            expansion.add(recipient, &mut Vec::new())?;
        }
        expansion.result()
    }

    /// What is wrong with aliases: why mail to them would be refused, a sentence each. Whether names are users' is not asked.
    ///
    /// ```
    /// use sundown_core::local::{LocalMail, Target};
    ///
    /// let mut mail = LocalMail::default();
    /// mail.aliases.insert("root".into(), vec![Target::Unsupported("|/bin/true".into())]);
    /// assert!(mail.complaints()[0].contains("programs"));
    /// ```
    pub fn complaints(&self) -> Vec<String> {
        let (mut said, mut circles) = (Vec::new(), BTreeSet::new());
        for name in self.aliases.keys() {
            let mut complain = |why: String| said.push(why);
            if let Err(why) = address::split(name) {
                complain(format!("alias {name:?} is no name: {why}"));
                continue;
            }
            match self.expand(vec![name.clone()], |_| true, &Found::new()) {
                Err(AliasError::NoUser(_)) | Ok(Expanded::Ask(_)) => {}
                Err(AliasError::Loop(names)) => {
                    let all: BTreeSet<_> = names.iter().cloned().collect();
                    if circles.insert(all) {
                        complain(AliasError::Loop(names).to_string());
                    }
                }
                Err(other) => complain(other.to_string()),
                Ok(Expanded::To(addresses)) => {
                    for (to, why) in
                        addresses.iter().filter_map(|to| Some((to, address::split(to).err()?)))
                    {
                        complain(format!(
                            "alias {name:?} leads to {to:?}, which is no address: {why}"
                        ));
                    }
                }
            }
        }
        said
    }

    /// Whether a mailbox of this host is a user's; `None` if the system was not asked yet.
    fn is_user(&self, mailbox: &str, found: &Found) -> Option<bool> {
        match &self.users {
            Users::Any => Some(true),
            Users::Listed(_) | Users::System if !is_user_name(mailbox) => Some(false),
            Users::Listed(users) => Some(users.contains(mailbox)),
            Users::System => found.get(mailbox).copied(),
        }
    }
}

/// Whether a user of a host can have this name, which may become a part of a path or of a command line: it is no path, no hidden file and
/// no option.
pub fn is_user_name(name: &str) -> bool {
    let strange = |c: char| c.is_control() || c.is_whitespace() || "/:".contains(c);
    !name.is_empty()
        && name.len() <= LONGEST
        && !name.starts_with(['.', '-'])
        && !name.contains(strange)
}

/// Recipients that are being expanded.
struct Expansion<'a, T> {
    mail: &'a LocalMail,
    takes: T,
    found: &'a Found,
    /// Aliases that were expanded.
    done: BTreeSet<String>,
    to: Vec<String>,
    /// Names that the system must be asked for.
    unasked: BTreeSet<String>,
    /// Addresses that are no user's.
    nobodys: Vec<String>,
}

impl<T: Fn(&str) -> bool> Expansion<'_, T> {
    fn add(&mut self, address: String, within: &mut Vec<String>) -> Result<(), AliasError> {
        let mail = self.mail;
        let Some(mailbox) = mail.mailbox(&address) else {
            self.to.push(address);
            return Ok(());
        };
        let name = mailbox.to_lowercase();
        // What `default` stands for may be a user of this host.
        let targets =
            mail.aliases.get(&name).or(mail.default.as_ref().filter(|_| within.is_empty()));
        let Some(targets) = targets else {
            self.add_user(address);
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
        if !self.done.insert(name.clone()) {
            return Ok(());
        }
        within.push(name.clone());
        for target in targets {
            match target {
                Target::Address(address) => self.add(address.clone(), within)?,
                Target::User(user) => self.add_user(user.clone()),
                Target::Unsupported(target) => {
                    return Err(AliasError::Unsupported { alias: name, target: target.clone() });
                }
            }
        }
        within.pop();
        Ok(())
    }

    /// Adds a local address that no alias has.
    fn add_user(&mut self, address: String) {
        let mailbox = self.mail.mailbox(&address).unwrap_or(&address);
        let is_taken = (self.takes)(&address);
        let is_user = if is_taken { self.mail.is_user(mailbox, self.found) } else { Some(false) };
        match (is_user, &self.mail.domain) {
            (None, _) => {
                self.unasked.insert(mailbox.to_owned());
            }
            (Some(false), Some(domain)) => self.to.push(format!("{mailbox}@{domain}")),
            (Some(false), None) if is_taken => self.nobodys.push(address),
            // If no transport takes it, the caller tells.
            (Some(true), _) | (Some(false), None) => self.to.push(address),
        }
    }

    fn result(self) -> Result<Expanded, AliasError> {
        if !self.unasked.is_empty() {
            return Ok(Expanded::Ask(self.unasked));
        }
        if !self.nobodys.is_empty() {
            return Err(AliasError::NoUser(self.nobodys));
        }
        Ok(Expanded::To(self.to))
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
        match mail.expand(words(of), takes, &Found::new())? {
            Expanded::To(recipients) => Ok(recipients),
            Expanded::Ask(names) => panic!("{names:?} are asked for"),
        }
    }

    fn words(of: &str) -> Vec<String> {
        of.split_whitespace().map(str::to_owned).collect()
    }

    fn no(_: &str) -> bool {
        false
    }

    #[test]
    fn what_is_wrong_with_aliases_is_said_once() {
        assert_eq!(mail(&[("root", &["anna@example.org", "ops"])]).complaints(), [""; 0]);
        let circle = mail(&[("a", &["b"]), ("b", &["a"]), ("c", &["a"])]).complaints();
        assert!(circle[0].contains("in a circle: a -> b"), "{circle:?}");
        assert!(circle.iter().all(|why| why.contains("in a circle")), "{circle:?}");
        for (alias, target, words) in [
            ("", "x", "is no name"),
            ("root", "\"x", "is no address"),
            ("root", "x@", "is no address"),
        ] {
            let said = mail(&[(alias, &[target])]).complaints();
            assert!(said.len() == 1 && said[0].contains(words), "{said:?}");
        }
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

    fn local(address: &str) -> bool {
        !address.contains('@')
    }

    /// An alias, an existing user, `domain`, or nothing: in this order.
    #[test]
    fn a_bare_word_is_an_alias_a_user_or_refused() {
        let mut mail = mail(&[("root", &["anna"]), ("both", &["x@y.z"])]);
        mail.users = Users::Listed(["anna", "both"].map(str::to_owned).into());
        let expanded = |mail: &LocalMail, of| expand(mail, of, local);
        assert_eq!(expanded(&mail, "ROOT both"), Ok(vec!["anna".into(), "x@y.z".into()]));
        for of in ["Doe", "Anna", "anna Doe Anna"] {
            let error = expanded(&mail, of).expect_err(of);
            assert!(error.to_string().contains(if of == "Anna" { "\"Anna\"" } else { "\"Doe\"" }));
        }
        let both = AliasError::NoUser(vec!["Doe".into(), "Anna".into()]);
        assert_eq!(expanded(&mail, "anna Doe Anna"), Err(both));
        mail.domain = Some("example.org".into());
        let to = vec!["anna".into(), "Doe@example.org".into()];
        assert_eq!(expanded(&mail, "anna Doe"), Ok(to));
        // Where no transport takes local mail, users do not matter.
        assert_eq!(expand(&mail, "anna", no), Ok(vec!["anna@example.org".into()]));
        mail.domain = None;
        assert_eq!(expand(&mail, "anna Doe", no), Ok(vec!["anna".into(), "Doe".into()]));
    }

    /// `\name` is a user, and must be there as well.
    #[test]
    fn what_an_alias_says_is_a_user_must_be_one() {
        let mut mail = mail(&[]);
        mail.users = Users::Listed(["root".to_owned()].into());
        let user = |name: &str| vec![Target::User(name.into())];
        mail.aliases.insert("root".into(), user("root"));
        mail.aliases.insert("ops".into(), user("oops"));
        assert_eq!(expand(&mail, "root", local), Ok(vec!["root".into()]));
        assert_eq!(expand(&mail, "ops", local), Err(AliasError::NoUser(vec!["oops".into()])));
    }

    /// The system is asked for each name once, and for none that an alias or the other transports take.
    #[test]
    fn the_system_is_asked_for_names_that_it_may_know() {
        let mut mail = mail(&[("root", &["anna", "x@y.z", "bo"])]);
        mail.users = Users::System;
        assert!(!mail.is_nothing());
        let expand = |of: &str, found: &Found| mail.expand(words(of), local, found);
        let asked = ["anna", "bo", "cleo"].map(str::to_owned);
        let all = "root cleo a@b.c cleo";
        assert_eq!(expand(all, &Found::new()), Ok(Expanded::Ask(asked.clone().into())));
        let found = |is_user: [bool; 3]| asked.iter().cloned().zip(is_user).collect::<Found>();
        let to = words("anna x@y.z bo cleo a@b.c cleo");
        assert_eq!(expand(all, &found([true; 3])), Ok(Expanded::To(to)));
        let nobody = AliasError::NoUser(vec!["bo".into()]);
        assert_eq!(expand(all, &found([true, false, true])), Err(nobody));
        assert_eq!(expand("a@b.c", &Found::new()), Ok(Expanded::To(words("a@b.c"))));
    }

    /// Neither a list nor the system makes a user of a path.
    #[test]
    fn a_path_is_no_user() {
        let names = ["", ".", "..", ".anna", "-anna", "a/b", "/etc", "a\0b", "a:b", "a b", "a\nb"];
        let users = |users| LocalMail { users, ..LocalMail::default() };
        let listed = users(Users::Listed(names.map(str::to_owned).into()));
        for name in names {
            assert!(!is_user_name(name), "{name:?}");
            assert_eq!(listed.is_user(name, &Found::new()), Some(false), "{name:?}");
            assert_eq!(users(Users::System).is_user(name, &Found::new()), Some(false), "{name:?}");
        }
        assert!(!is_user_name(&"a".repeat(LONGEST + 1)) && is_user_name(&"a".repeat(LONGEST)));
        assert!(is_user_name("anna") && is_user_name("a.b-c_1") && is_user_name("m\u{fc}ller"));
    }
}
