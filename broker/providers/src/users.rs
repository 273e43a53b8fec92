//! Users of this host, for transports that treat each user's mail by itself: `{user}` in a path or a command.
//!
//! A name comes from the profile's list, or is one that the system knows. It is never a path, a hidden file or an option, so it may stand
//! in either.

use std::collections::BTreeSet;
use std::sync::{Arc, OnceLock};

use sundown_core::local::is_user_name;
use sundown_core::provider::{Outcome, ProviderSpec, RecipientResult};

/// What stands for a user in a path or a command.
pub const PLACEHOLDER: &str = "{user}";

/// The option that says that the system is asked.
pub const ASK_OPTION: &str = "local_users";

/// The option for each user of a list.
pub const USER_OPTION: &str = "local_user";

/// Says whether the system has a user of this name, or why that is not known. It may take its time.
pub type FindUser = Arc<dyn Fn(&str) -> Result<bool, String> + Send + Sync>;

/// Whose mail is delivered.
#[derive(Clone)]
pub(crate) enum Users {
    /// That of these.
    Listed(BTreeSet<String>),
    /// That of the system's users. Without a way to ask, no user is known.
    System(Arc<OnceLock<FindUser>>),
}

/// Why mail for a recipient is not delivered.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum NoUser {
    /// There is no such user.
    Unknown(String),
    /// It is not known whether there is one.
    NotNow(String),
}

impl NoUser {
    pub(crate) fn result(self, recipient: usize) -> RecipientResult {
        let (outcome, reply) = match self {
            Self::Unknown(words) => (Outcome::Failed, words),
            Self::NotNow(words) => (Outcome::Later, words),
        };
        RecipientResult { recipient, outcome, reply }
    }
}

impl Users {
    /// Those that the options of a provider name.
    pub(crate) fn of(spec: &ProviderSpec, find: &Arc<OnceLock<FindUser>>) -> Self {
        let values = |key: &'static str| spec.options.iter().filter(move |(k, _)| k == key);
        if values(ASK_OPTION).next().is_some() {
            return Self::System(Arc::clone(find));
        }
        Self::Listed(values(USER_OPTION).map(|(_, name)| name.clone()).collect())
    }

    /// The user whose address this is.
    pub(crate) fn find<'a>(&self, address: &'a str) -> Result<&'a str, NoUser> {
        let name = name_in(address);
        let is_user = match self {
            _ if !is_user_name(name) => Ok(false),
            Self::Listed(users) => Ok(users.contains(name)),
            Self::System(find) => find.get().map_or(Ok(false), |find| find(name)),
        };
        match is_user {
            Ok(true) => Ok(name),
            Ok(false) => Err(NoUser::Unknown(format!("5.1.1 {name:?} is no user of this host"))),
            Err(why) => Err(NoUser::NotNow(why)),
        }
    }
}

/// What may be a user's name in an address.
pub(crate) fn name_in(address: &str) -> &str {
    address.rsplit_once('@').map_or(address, |(name, _)| name)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn users(options: &[(&str, &str)], find: Option<FindUser>) -> Users {
        let own = |(key, value): &(&str, &str)| ((*key).to_owned(), (*value).to_owned());
        let options = options.iter().map(own).collect();
        let spec = ProviderSpec { options, ..ProviderSpec::new("maildir") };
        let place = find.map_or_else(OnceLock::new, OnceLock::from);
        Users::of(&spec, &Arc::new(place))
    }

    #[test]
    fn a_list_or_the_system_says_who_is_a_user() {
        let listed = users(&[("local_user", "anna"), ("local_user", "system")], None);
        assert_eq!(listed.find("anna@localhost"), Ok("anna"));
        assert_eq!(listed.find("system"), Ok("system"));
        let nobody = |name| Err(NoUser::Unknown(format!("5.1.1 {name:?} is no user of this host")));
        assert_eq!(listed.find("bo@localhost"), nobody("bo"));
        assert_eq!(listed.find("Anna"), nobody("Anna"));
        assert_eq!(users(&[], None).find("anna"), nobody("anna"));

        let find: FindUser = Arc::new(|name| match name {
            "anna" => Ok(true),
            "slow" => Err("no answer".to_owned()),
            _ => Ok(false),
        });
        let system = users(&[("local_users", "system")], Some(find));
        assert_eq!(system.find("anna@localhost"), Ok("anna"));
        assert_eq!(system.find("bo"), nobody("bo"));
        assert_eq!(system.find("slow"), Err(NoUser::NotNow("no answer".into())));
        assert_eq!(users(&[("local_users", "system")], None).find("anna"), nobody("anna"));
    }

    /// Whatever a list or the system says.
    #[test]
    fn a_name_that_is_a_path_is_no_users() {
        let names = ["", ".", "..", "../x", "/x", "a/b", ".x", "-x", "a b", "a\0b"];
        let find: FindUser = Arc::new(|_| Ok(true));
        let listed: Vec<_> = names.iter().map(|name| ("local_user", *name)).collect();
        for users in [users(&[("local_users", "system")], Some(find)), users(&listed, None)] {
            for name in names {
                let address = format!("{name}@localhost");
                assert!(matches!(users.find(&address), Err(NoUser::Unknown(_))), "{name:?}");
            }
        }
    }
}
