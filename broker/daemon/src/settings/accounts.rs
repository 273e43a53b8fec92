//! Users and groups by name: out of `/etc/passwd` and `/etc/group`, and then from the system's directory services.

use std::fmt;
use std::path::{Path, PathBuf};

use super::directory::{self, NoAnswer};
use crate::platform;

/// Where users and groups are listed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Accounts {
    /// Lines of name, password, number and more, separated by colons.
    pub passwd: PathBuf,
    /// The same for groups.
    pub group: PathBuf,
    /// What becomes of a name that is in no list.
    pub unlisted: Unlisted,
}

/// What becomes of a name that is in no list.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unlisted {
    /// The system's directory services are asked, which may take ten seconds.
    Asked,
    /// It is an error that says so, for a caller that must not wait.
    Refused,
    /// It is passed over, for a caller that does not need it.
    PassedOver,
}

/// Why it is not known whether there is such an account.
#[derive(Debug)]
pub enum AccountsError {
    /// A list cannot be read.
    List {
        /// Which one.
        file: PathBuf,
        /// What the system says.
        error: std::io::Error,
    },
    /// A directory service does not say.
    Directory(String),
    /// It is in no list, and nothing else was asked.
    Unlisted,
}

impl fmt::Display for AccountsError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::List { file, error } => {
                write!(f, "the name cannot be looked up in {}: {error}", file.display())
            }
            Self::Directory(why) => write!(f, "the name cannot be looked up: {why}"),
            Self::Unlisted => f.write_str("the name is in no list of accounts"),
        }
    }
}

impl std::error::Error for AccountsError {}

impl From<NoAnswer> for AccountsError {
    fn from(why: NoAnswer) -> Self {
        Self::Directory(why.to_string())
    }
}

impl Accounts {
    /// The system's, those that its directory services know among them.
    pub fn system() -> Self {
        Self {
            passwd: PathBuf::from("/etc/passwd"),
            group: PathBuf::from("/etc/group"),
            unlisted: Unlisted::Asked,
        }
    }

    /// The number of a user, given by name or number.
    pub fn uid(&self, user: &str) -> Result<Option<u32>, AccountsError> {
        match look_up(&self.passwd, user)? {
            None if is_number(user) => Ok(None),
            None => self.elsewhere(user, platform::find_user),
            found => Ok(found),
        }
    }

    /// Whether there is a user of this name. A number is a name here like any other.
    pub fn has_user(&self, name: &str) -> Result<bool, AccountsError> {
        match listed(&self.passwd, name)? {
            None => self.elsewhere(name, platform::find_user).map(|found| found.is_some()),
            Some(_) => Ok(true),
        }
    }

    /// The name of a user.
    pub fn name(&self, uid: u32) -> Option<String> {
        let listed = std::fs::read_to_string(&self.passwd).ok().and_then(|text| {
            let line = text.lines().find(|line| {
                let mut fields = line.split(':');
                fields.nth(2).and_then(number) == Some(uid)
            })?;
            line.split(':').next().map(str::to_owned)
        });
        if self.unlisted != Unlisted::Asked {
            return listed;
        }
        listed.or_else(|| directory::ask(move || platform::find_user_name(uid)).ok().flatten())
    }

    /// The number of a group, given by name or number.
    pub fn gid(&self, group: &str) -> Result<Option<u32>, AccountsError> {
        match look_up(&self.group, group)? {
            None if is_number(group) => Ok(None),
            None => self.elsewhere(group, platform::find_group),
            found => Ok(found),
        }
    }

    fn elsewhere(
        &self,
        name: &str,
        find: fn(&str) -> std::io::Result<Option<u32>>,
    ) -> Result<Option<u32>, AccountsError> {
        let name = name.to_owned();
        match self.unlisted {
            Unlisted::Asked => Ok(directory::ask(move || find(&name))?),
            Unlisted::Refused => Err(AccountsError::Unlisted),
            Unlisted::PassedOver => Ok(None),
        }
    }
}

impl Default for Accounts {
    fn default() -> Self {
        Self::system()
    }
}

/// A number needs no list: it may be known elsewhere. The highest is the kernel's word for "none".
fn look_up(file: &Path, account: &str) -> Result<Option<u32>, AccountsError> {
    if is_number(account) { Ok(number(account)) } else { listed(file, account) }
}

/// The number behind a name. No list is an empty list.
fn listed(file: &Path, account: &str) -> Result<Option<u32>, AccountsError> {
    let bytes = match std::fs::read(file) {
        Ok(bytes) => bytes,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(AccountsError::List { file: file.to_owned(), error }),
    };
    let text = String::from_utf8_lossy(&bytes);
    Ok(text.lines().find_map(|line| id_of(line, account)))
}

fn is_number(account: &str) -> bool {
    !account.is_empty() && account.bytes().all(|byte| byte.is_ascii_digit())
}

fn id_of(line: &str, account: &str) -> Option<u32> {
    let mut fields = line.split(':');
    let name = fields.next().filter(|name| !name.is_empty() && !name.starts_with(['+', '-', '#']));
    if name != Some(account) {
        return None;
    }
    number(fields.nth(1)?)
}

fn number(text: &str) -> Option<u32> {
    text.parse().ok().filter(|id| *id != u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn accounts_are_found_by_name_and_number() {
        let root = tempfile::tempdir().expect("a directory");
        let passwd = root.path().join("passwd");
        let text = b"root:x:0:0::/root:/bin/sh\n# anna:x:5:5\nanna:x:1000:1000:\xc4:/home/anna:\n\
            bad:x:y\nshort\n+nis:x:1\n";
        std::fs::write(&passwd, text).expect("written");
        let group = root.path().join("missing");
        let accounts = Accounts { passwd, group, unlisted: Unlisted::PassedOver };
        let cases = [
            ("root", Some(0)),
            ("anna", Some(1000)),
            ("1234", Some(1234)),
            ("0", Some(0)),
            ("4294967295", None),
            ("99999999999", None),
            ("bad", None),
            ("short", None),
            ("+nis", None),
            ("# anna", None),
            ("", None),
            ("an", None),
            ("-1", None),
        ];
        for (user, uid) in cases {
            assert_eq!(accounts.uid(user).expect("readable"), uid, "{user:?}");
        }
        let users =
            ["anna", "root", "1234", "Anna", "bad", "eve"].map(|user| accounts.has_user(user));
        assert_eq!(
            users.map(|is_user| is_user.expect("readable")),
            [true, true, false, false, false, false]
        );
        assert_eq!(accounts.gid("mail").expect("no list is an empty list"), None);
        let unreadable = Accounts { passwd: root.path().to_owned(), ..accounts.clone() };
        assert!(unreadable.uid("anna").is_err() && unreadable.has_user("anna").is_err());
        // What is in no list is asked of the system, or refused where that must not be.
        let refusing = Accounts { unlisted: Unlisted::Refused, ..accounts.clone() };
        assert!(matches!(refusing.uid("eve"), Err(AccountsError::Unlisted)));
        assert!(matches!(refusing.uid("4294967295"), Ok(None)));
        let asking =
            Accounts { unlisted: Unlisted::Asked, passwd: accounts.group.clone(), ..accounts };
        assert_eq!(asking.uid("root").expect("an answer"), Some(0));
        assert!(asking.has_user("root").expect("an answer"));
        assert!(!asking.has_user("no-such-user").expect("an answer"));
        assert_eq!(asking.gid("root").expect("an answer"), Some(0));
        assert_eq!(asking.name(0).as_deref(), Some("root"));
        assert_eq!(asking.uid("no such user").expect("an answer"), None);
    }
}
