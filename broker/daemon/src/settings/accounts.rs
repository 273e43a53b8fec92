//! Users and groups by name, out of `/etc/passwd` and `/etc/group`.
//!
//! Accounts that only a directory service knows are not found there; settings name them by number.

use std::fmt;
use std::path::{Path, PathBuf};

/// Where users and groups are listed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Accounts {
    /// Lines of name, password, number and more, separated by colons.
    pub passwd: PathBuf,
    /// The same for groups.
    pub group: PathBuf,
}

/// A list of accounts that cannot be read.
#[derive(Debug)]
pub struct AccountsError {
    file: PathBuf,
    error: std::io::Error,
}

impl fmt::Display for AccountsError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the name cannot be looked up in {}: {}", self.file.display(), self.error)
    }
}

impl std::error::Error for AccountsError {}

impl Accounts {
    /// The system's.
    pub fn system() -> Self {
        Self { passwd: PathBuf::from("/etc/passwd"), group: PathBuf::from("/etc/group") }
    }

    /// The number of a user, given by name or number.
    pub fn uid(&self, user: &str) -> Result<Option<u32>, AccountsError> {
        look_up(&self.passwd, user)
    }

    /// The name of a user.
    pub fn name(&self, uid: u32) -> Option<String> {
        let text = std::fs::read_to_string(&self.passwd).ok()?;
        let line = text.lines().find(|line| {
            let mut fields = line.split(':');
            fields.nth(2).and_then(number) == Some(uid)
        })?;
        line.split(':').next().map(str::to_owned)
    }

    /// The number of a group, given by name or number.
    pub fn gid(&self, group: &str) -> Result<Option<u32>, AccountsError> {
        look_up(&self.group, group)
    }
}

impl Default for Accounts {
    fn default() -> Self {
        Self::system()
    }
}

/// A number needs no list: it may be known elsewhere. The highest is the kernel's word for "none".
fn look_up(file: &Path, account: &str) -> Result<Option<u32>, AccountsError> {
    let digits = !account.is_empty() && account.bytes().all(|byte| byte.is_ascii_digit());
    if digits {
        return Ok(number(account));
    }
    let bytes = match std::fs::read(file) {
        Ok(bytes) => bytes,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(AccountsError { file: file.to_owned(), error }),
    };
    let text = String::from_utf8_lossy(&bytes);
    Ok(text.lines().find_map(|line| id_of(line, account)))
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
        let accounts = Accounts { passwd, group: root.path().join("missing") };
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
        assert_eq!(accounts.gid("mail").expect("no list is an empty list"), None);
        let accounts = Accounts { passwd: root.path().to_owned(), ..accounts };
        assert!(accounts.uid("anna").is_err());
    }
}
