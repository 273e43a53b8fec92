//! What the log has said of providers that do not work: each trouble once when it begins, and once that the provider works again.
//!
//! It is kept by profile and provider, not by session: a profile that a thousand users log on to has one line, and so has a transport
//! for which a thousand messages wait. A provider without trouble costs nothing here.

use std::collections::{BTreeMap, BTreeSet};

use crate::ground::event::{Effect, ProviderNews, Trouble, Turn};
use crate::ground::provider::ProviderType;

/// A provider of a profile.
type Key = (String, ProviderType, String);

/// What the log has said, until it says that it is over.
#[derive(Debug, Default)]
#[cfg_attr(test, derive(Clone))]
pub(crate) struct Logged {
    troubles: BTreeMap<Key, BTreeSet<Trouble>>,
    /// Profiles whose sessions cannot start.
    failed: BTreeSet<String>,
}

impl Logged {
    /// Logs a trouble of a provider, unless the log says so already.
    pub(crate) fn begins(
        &mut self,
        (profile, provider_type, provider): (&str, ProviderType, &str),
        trouble: Trouble,
        why: &str,
        turn: &mut Turn,
    ) {
        let key = (profile.to_owned(), provider_type, provider.to_owned());
        if self.troubles.entry(key).or_default().insert(trouble) {
            turn.emit(Effect::ProviderNews {
                profile: profile.to_owned(),
                provider: provider.to_owned(),
                provider_type,
                news: ProviderNews::Fails { trouble, why: why.to_owned() },
            });
        }
    }

    /// Logs that troubles of a provider are over, if the log tells of one of them.
    pub(crate) fn ends(
        &mut self,
        (profile, provider_type, provider): (&str, ProviderType, &str),
        over: &[Trouble],
        turn: &mut Turn,
    ) {
        if self.troubles.is_empty() {
            return;
        }
        let key = (profile.to_owned(), provider_type, provider.to_owned());
        let Some(troubles) = self.troubles.get_mut(&key) else { return };
        let before = troubles.len();
        troubles.retain(|trouble| !over.contains(trouble));
        let (ended, left) = (before - troubles.len(), troubles.len());
        if left == 0 {
            self.troubles.remove(&key);
        }
        let news = match (ended, left) {
            (0, _) => return,
            // That a server answers does not say that it takes a message.
            _ if over == [Trouble::Unreachable] => ProviderNews::Reached,
            (_, 0) => ProviderNews::Works,
            _ => return,
        };
        let (profile, _, provider) = key;
        turn.emit(Effect::ProviderNews { profile, provider, provider_type, news });
    }

    /// Logs that no session of a profile can start, unless the log says so already.
    pub(crate) fn cannot_start(&mut self, profile: &str, why: &str, turn: &mut Turn) {
        if self.failed.insert(profile.to_owned()) {
            let (profile, why) = (profile.to_owned(), Some(why.to_owned()));
            turn.emit(Effect::ProfileNews { profile, why });
        }
    }

    /// Logs that a session of a profile has started, if the log says that none can.
    pub(crate) fn has_started(&mut self, profile: &str, turn: &mut Turn) {
        if self.failed.remove(profile) {
            turn.emit(Effect::ProfileNews { profile: profile.to_owned(), why: None });
        }
    }

    /// Forgets the providers of a profile that it has no more.
    pub(crate) fn keep(&mut self, profile: &str, has: impl Fn(ProviderType, &str) -> bool) {
        self.troubles.retain(|(of, kind, name), _| of != profile || has(*kind, name));
    }

    /// Forgets a profile that was deleted.
    pub(crate) fn forget(&mut self, profile: &str) {
        self.keep(profile, |_, _| false);
        self.failed.remove(profile);
    }
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, SystemTime};

    use super::*;
    use crate::ground::event::Tick;

    const RELAY: (&str, ProviderType, &str) = ("work", ProviderType::Transport, "relay");

    fn said(act: impl FnOnce(&mut Turn)) -> Vec<ProviderNews> {
        let mut effects = Vec::new();
        let tick = Tick { boot: Duration::ZERO, wall: SystemTime::UNIX_EPOCH, seed: 0 };
        act(&mut Turn::new(tick, &mut effects));
        let news = |effect| match effect {
            Effect::ProviderNews { news, .. } => news,
            other => panic!("{other:?} is no line about a provider"),
        };
        effects.into_iter().map(news).collect()
    }

    #[test]
    fn each_trouble_is_said_once_until_it_is_over() {
        use Trouble::{LogonRefused, Unreachable};
        let mut logged = Logged::default();
        let fails = |trouble| ProviderNews::Fails { trouble, why: "why".to_owned() };
        let begins =
            |logged: &mut Logged, trouble| said(|turn| logged.begins(RELAY, trouble, "why", turn));
        assert_eq!(said(|turn| logged.ends(RELAY, &Trouble::ALL, turn)), []);
        assert_eq!(begins(&mut logged, Unreachable), [fails(Unreachable)]);
        assert_eq!(begins(&mut logged, Unreachable), []);
        assert_eq!(begins(&mut logged, LogonRefused), [fails(LogonRefused)]);
        assert_eq!(said(|turn| logged.ends(RELAY, &[Unreachable], turn)), [ProviderNews::Reached]);
        assert_eq!(said(|turn| logged.ends(RELAY, &[Unreachable], turn)), []);
        assert_eq!(said(|turn| logged.ends(RELAY, &Trouble::ALL, turn)), [ProviderNews::Works]);
        assert!(logged.troubles.is_empty(), "what works costs nothing");
        assert_eq!(begins(&mut logged, Unreachable), [fails(Unreachable)]);
        logged.keep("work", |_, name| name == "another");
        assert!(logged.troubles.is_empty(), "a transport that the profile has no more");
    }
}
