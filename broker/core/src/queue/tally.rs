//! What has happened by profile since the broker started, for figures. It outlives sessions and stores.

use std::collections::BTreeMap;

use sundown_protocol::reply::SubmissionState;

/// Under this name stand the profiles that came when [`PROFILES`] were known. No profile has it.
pub(crate) const OTHERS: &str = "(others)";

/// The most profiles with figures of their own.
pub(crate) const PROFILES: usize = 100;

/// The most transports of a profile whose outcomes are kept.
pub(crate) const TRANSPORTS: usize = 32;

/// What has happened in each profile that had an open store.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Tally {
    profiles: BTreeMap<String, Happened>,
}

/// What has happened in one profile.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Happened {
    /// How often messages became final, by state, and how often they were deferred.
    pub(crate) became: [u64; 9],
    /// What came of using each transport.
    pub(crate) transports: BTreeMap<String, Used>,
    /// Of how many messages it was told as new mail.
    pub(crate) new_mail: u64,
    /// How many changes its mailboxes have written into stores.
    pub(crate) mirrored: u64,
}

/// What came of the last use of a transport, and when it last worked, in milliseconds since 1970.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Used {
    pub(crate) at: u64,
    pub(crate) works: bool,
    pub(crate) worked: Option<u64>,
}

impl Tally {
    /// Gives a profile figures of its own, if there is room.
    pub(crate) fn know(&mut self, profile: &str) {
        if !self.profiles.contains_key(profile) {
            let name = if self.profiles.len() < PROFILES { profile } else { OTHERS };
            self.profiles.entry(name.to_owned()).or_default();
        }
    }

    /// The name under which a profile's figures stand.
    pub(crate) fn name<'a>(&self, profile: &'a str) -> &'a str {
        if self.profiles.contains_key(profile) { profile } else { OTHERS }
    }

    pub(crate) fn profiles(&self) -> impl Iterator<Item = (&str, &Happened)> {
        self.profiles.iter().map(|(name, happened)| (name.as_str(), happened))
    }

    /// A message has become final, or was deferred.
    pub(crate) fn became(&mut self, profile: &str, state: SubmissionState) {
        if let Some(happened) = self.happened(profile) {
            happened.became[state as usize] += 1;
        }
    }

    /// Programs were told of a new message.
    pub(crate) fn new_mail(&mut self, profile: &str) {
        if let Some(happened) = self.happened(profile) {
            happened.new_mail += 1;
        }
    }

    /// A mailbox has written so many changes into a store.
    pub(crate) fn mirrored(&mut self, profile: &str, changes: usize) {
        if let Some(happened) = self.happened(profile) {
            happened.mirrored += changes as u64;
        }
    }

    fn happened(&mut self, profile: &str) -> Option<&mut Happened> {
        let known = self.profiles.contains_key(profile);
        self.profiles.get_mut(if known { profile } else { OTHERS })
    }

    /// A transport was used. Those of profiles without figures of their own are not kept: different ones may have the same name.
    pub(crate) fn used(&mut self, profile: &str, transport: &str, works: bool, at: u64) {
        let Some(happened) = self.profiles.get_mut(profile) else { return };
        let known = &mut happened.transports;
        if let Some(used) = known.get_mut(transport) {
            *used = Used { at, works, worked: if works { Some(at) } else { used.worked } };
        } else if known.len() < TRANSPORTS {
            known.insert(transport.to_owned(), Used { at, works, worked: works.then_some(at) });
        }
    }

    /// A transport was changed or taken out of its profile: what came of the old one says nothing of the new one.
    pub(crate) fn forget(&mut self, profile: &str, transport: &str) {
        if let Some(happened) = self.profiles.get_mut(profile) {
            happened.transports.remove(transport);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn profiles_beyond_the_limit_are_counted_together() {
        let mut tally = Tally::default();
        let profiles: Vec<_> = (0..PROFILES + 2).map(|n| format!("p{n}")).collect();
        for profile in &profiles {
            tally.know(profile);
            tally.became(profile, SubmissionState::Sent);
            tally.used(profile, "relay", true, 7);
            tally.new_mail(profile);
            tally.mirrored(profile, 3);
        }
        tally.know("p0");
        assert_eq!(tally.profiles().count(), PROFILES + 1);
        assert_eq!(tally.name("p0"), "p0");
        let (name, others) = tally.profiles().next().expect("some are known");
        assert_eq!((name, tally.name(&profiles[PROFILES])), (OTHERS, OTHERS));
        assert_eq!(others.became[SubmissionState::Sent as usize], 2);
        assert_eq!((others.new_mail, others.mirrored), (2, 6));
        assert!(others.transports.is_empty());
    }

    #[test]
    fn transports_beyond_the_limit_are_left_out() {
        let mut tally = Tally::default();
        tally.know("p");
        for n in 0..=TRANSPORTS {
            tally.used("p", &format!("t{n}"), false, 1);
        }
        tally.used("p", "t0", true, 2);
        tally.used("p", "t0", false, 3);
        tally.forget("p", "t1");
        let (_, happened) = tally.profiles().next().expect("it is known");
        assert_eq!(happened.transports.len(), TRANSPORTS - 1);
        assert_eq!(happened.transports["t0"], Used { at: 3, works: false, worked: Some(2) });
    }
}
