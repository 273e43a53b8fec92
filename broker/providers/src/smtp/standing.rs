//! How it goes with one server, as one user of it: whether it may be tried now, and for whom.
//!
//! ```text
//!  Untried ──one tries──► Tried ──it works──► Works
//!     ▲                     │                   │ the last connection ends,
//!     │                     │ it refuses        │ or a new one is refused and there is no other
//!     └─────────────────────┴───────────────────┘
//! ```
//!
//! What refuses at the connect, in the greeting, at EHLO, in TLS or at AUTH refuses every message. So it is not tried for each of
//! them: it *rests*, each time about twice as long as before, and what wants to be sent meanwhile is told what the server said. A
//! user's request does not wait for the end of the rest. It buys one try, whose outcome all others share.
//!
//! A refused password is another matter, because servers lock accounts. The second refusal of one password is its last one: the
//! server is left alone until there is another password, or the profile says something else about the server or the logon, or a user
//! wants a try. After a try that a user wanted was refused too,
//! there is one an hour.
//!
//! This is a plain value. The caller has the clock and the chance.

use std::time::{Duration, Instant};

use sundown_core::provider::{AskedBy, ProviderError};
use sundown_protocol::Code;

use crate::network::trace::Trace;

/// The first rest of a server that refuses, and of an account whose password was refused once.
const FIRST_REST: Duration = Duration::from_secs(2);

/// The longest rest of a server. It is shorter than the longest time between two questions of the broker whether the transport
/// works (`reach.rs`), so that each of them finds the rest over.
pub(super) const LONGEST_REST: Duration = Duration::from_secs(240);

/// After so many refusals the rests do not grow any more.
const UP_TO_THE_LONGEST: u32 = 8;

/// How often a password may be refused before only a user or another password brings another try.
const TRIES_OF_A_PASSWORD: u32 = 2;

/// The most refused passwords of one account that are known. They are of different profiles, or tokens that ran out.
const MOST_PASSWORDS: usize = 16;

/// The time between two tries of a refused password after a try for a user was refused, too.
pub(super) const AN_HOUR: Duration = Duration::from_secs(3600);

/// The time between two tries for users. A hundred messages that are retried one after the other are no hundred tries.
const PAUSE: Duration = Duration::from_secs(1);

/// How long it takes until one connection more is tried than were allowed beside the one that was refused.
const RAISE: Duration = Duration::from_secs(60);

/// A server's standing.
#[derive(Debug, Default)]
pub(super) struct Standing {
    phase: Phase,
    /// How it refused since it last worked.
    pub(super) refused: Refused,
    fewer: Option<Fewer>,
    /// The last request of a user that was answered by a try, and when that was.
    answered: Option<(u64, Instant)>,
    /// Tries that have failed.
    failures: u64,
}

#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
enum Phase {
    #[default]
    Untried,
    Tried,
    Works,
}

/// The refusals of a server since it last worked.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub(super) struct Refused {
    /// Of the server as a whole.
    pub(super) server: Option<Refusal>,
    /// Of passwords, the last one at the end: profiles and times may have different ones.
    pub(super) passwords: Vec<(Refusal, Trace)>,
}

/// Refusals of one kind.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Refusal {
    /// How many.
    pub(super) count: u32,
    /// When the broker may try again. `None`: not by itself.
    pub(super) until: Option<Instant>,
    /// What the last one was.
    pub(super) error: ProviderError,
}

/// Fewer connections than the profile allows, because one was refused beside others.
#[derive(Debug, Clone, Copy)]
struct Fewer {
    most: usize,
    since: Instant,
}

/// Whether a server may be tried.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum May {
    /// It may.
    Now,
    /// It may from then on.
    From(Instant),
    /// It may if the password is none of those that left these traces.
    WithAnotherPassword(Vec<Trace>, ProviderError),
    /// It may not; this is what it said last.
    No(ProviderError),
}

/// What is known of the password that a try would use.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Password {
    /// Nothing.
    NotLookedAt,
    /// It is none of those that were refused.
    Another,
}

/// Whether others wait for what one try finds out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Trial {
    Open,
    Over,
}

/// What follows from a try that failed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Failed {
    /// Other connections work: there are fewer of them for a while, and nothing else stops.
    Fewer,
    /// The server rests.
    Down(ProviderError),
    /// Nothing was found out about the server.
    Nothing(ProviderError),
}

impl Standing {
    /// Whether a server may be tried now, for a worker that has waited since so many tries had failed.
    pub(super) fn may(
        &self,
        (asked_by, failures): (AskedBy, u64),
        password: Password,
        now: Instant,
    ) -> May {
        match asked_by {
            AskedBy::User { word } => self.may_for_user((word, failures), now),
            AskedBy::Broker => self.may_for_broker(password, now),
        }
    }

    /// A user's request is answered by the try that it buys, by one for the same request, and by one that it has waited for.
    fn may_for_user(&self, (word, failures): (u64, u64), now: Instant) -> May {
        let Some(error) = self.refused.error() else { return May::Now };
        match self.answered {
            _ if self.failures > failures => May::No(error),
            Some((answered, _)) if word <= answered => May::No(error),
            Some((_, then)) if then + PAUSE > now => May::From(then + PAUSE),
            Some(_) | None => May::Now,
        }
    }

    fn may_for_broker(&self, password: Password, now: Instant) -> May {
        let Refused { server, passwords } = &self.refused;
        if let Some((last, _)) = passwords.last() {
            if last.count < TRIES_OF_A_PASSWORD && last.rests(now) {
                return May::No(just_refused(&last.error));
            }
            let rest = passwords.iter().filter(|(refusal, _)| refusal.rests(now));
            let rest: Vec<_> = rest.map(|(_, trace)| *trace).collect();
            if password == Password::NotLookedAt && !rest.is_empty() {
                return May::WithAnotherPassword(rest, last.error.clone());
            }
        }
        match server {
            Some(refusal) if refusal.rests(now) => May::No(refusal.error.clone()),
            _ => May::Now,
        }
    }

    /// Whether others wait for the outcome of a try.
    pub(super) fn is_tried(&self) -> bool {
        self.phase == Phase::Tried
    }

    /// How many tries have failed.
    pub(super) fn failures(&self) -> u64 {
        self.failures
    }

    /// A try begins. While it is not known whether the server works, the others wait for it.
    pub(super) fn begin(&mut self) -> Trial {
        if self.phase == Phase::Works {
            return Trial::Over;
        }
        self.phase = Phase::Tried;
        Trial::Open
    }

    /// A try ended, and nothing was found out; or the last connection ended.
    pub(super) fn is_unknown(&mut self) {
        self.phase = Phase::Untried;
    }

    /// A try succeeded.
    pub(super) fn works(&mut self) {
        self.phase = Phase::Works;
        self.refused = Refused::default();
    }

    /// A try failed, while there were so many other connections.
    pub(super) fn failed(
        &mut self,
        error: ProviderError,
        (asked_by, trace): (AskedBy, Trace),
        others: usize,
        (now, chance): (Instant, u64),
    ) -> Failed {
        match error.code {
            // The password rests by itself, or the try is not wanted any more.
            Code::E_OFFLINE | Code::E_CANCEL => {
                self.is_unknown_beside(others);
                return Failed::Nothing(error);
            }
            // A matter of this transport's own settings and files, which says nothing of the server to others.
            Code::E_UNCONFIGURED => {
                self.is_unknown_beside(others);
                return Failed::Nothing(error.of_server());
            }
            Code::E_LOGON_FAILED => self.password_refused(&error, trace, (now, chance)),
            _ if others > 0 && self.phase == Phase::Works => {
                self.fewer = Some(Fewer { most: others, since: now });
                return match asked_by {
                    AskedBy::Broker => Failed::Fewer,
                    // A user wants to know what it is told, and not to wait.
                    AskedBy::User { .. } => Failed::Nothing(error.of_server()),
                };
            }
            _ => self.server_refused(&error, (now, chance)),
        }
        self.is_unknown_beside(others);
        self.failures += 1;
        if let AskedBy::User { word } = asked_by {
            let word = self.answered.map_or(word, |(before, _)| before.max(word));
            self.answered = Some((word, now));
        }
        Failed::Down(if error.code == Code::E_LOGON_FAILED { error } else { error.of_server() })
    }

    fn is_unknown_beside(&mut self, others: usize) {
        if self.phase == Phase::Tried || others == 0 {
            self.phase = Phase::Untried;
        }
    }

    fn server_refused(&mut self, error: &ProviderError, (now, chance): (Instant, u64)) {
        let count = self.refused.server.as_ref().map_or(1, |before| before.count + 1);
        let until = Some(now + rest(count, chance));
        self.refused.server = Some(Refusal { count, until, error: error.clone().of_server() });
    }

    fn password_refused(
        &mut self,
        error: &ProviderError,
        trace: Trace,
        (now, chance): (Instant, u64),
    ) {
        // A server that looks at passwords talks.
        self.refused.server = None;
        let passwords = &mut self.refused.passwords;
        let known = passwords.iter().position(|(_, of)| *of == trace);
        let count = known.map_or(1, |place| passwords.remove(place).0.count + 1);
        if passwords.len() == MOST_PASSWORDS {
            passwords.remove(0);
        }
        let until = match count {
            0 | 1 => Some(now + rest(1, chance)),
            TRIES_OF_A_PASSWORD => None,
            _ => Some(now + AN_HOUR),
        };
        passwords.push((Refusal { count, until, error: error.clone() }, trace));
    }

    /// How many connections there may be.
    pub(super) fn most(&mut self, limit: usize, now: Instant) -> usize {
        let Some(Fewer { most, since }) = self.fewer else { return limit };
        let raised = now.saturating_duration_since(since).as_secs() / RAISE.as_secs();
        let most = most.saturating_add(usize::try_from(raised).unwrap_or(usize::MAX));
        if most >= limit {
            self.fewer = None;
        }
        most.min(limit)
    }
}

impl Refused {
    /// Whether it did not refuse at all.
    pub(super) fn is_nothing(&self) -> bool {
        self.server.is_none() && self.passwords.is_empty()
    }

    /// Whether the last refusal says something that those before did not: of a network that stays away, only the first few do.
    pub(super) fn is_new(&self) -> bool {
        self.server.as_ref().is_none_or(|refusal| {
            refusal.error.code != Code::E_NETWORK_ERROR || refusal.count <= UP_TO_THE_LONGEST
        })
    }

    /// What was said last.
    fn error(&self) -> Option<ProviderError> {
        let password = self.passwords.last().map(|(refusal, _)| refusal);
        self.server.as_ref().or(password).map(|refusal| refusal.error.clone())
    }
}

impl Refusal {
    /// Whether it is left alone.
    fn rests(&self, now: Instant) -> bool {
        self.until.is_none_or(|until| until > now)
    }
}

/// What a message is told behind one that has found out.
fn just_refused(error: &ProviderError) -> ProviderError {
    let text =
        format!("the password was refused just before; it is tried again later: {}", error.message);
    ProviderError::new(Code::E_OFFLINE, text)
}

/// How long a server rests after so many refusals. Up to a fifth is taken off by chance, so that many brokers do not come back at
/// once.
fn rest(count: u32, chance: u64) -> Duration {
    let doubled = FIRST_REST.saturating_mul(1 << count.saturating_sub(1).min(16));
    let rest = doubled.min(LONGEST_REST);
    let fifth = u64::try_from(rest.as_millis()).unwrap_or(u64::MAX) / 5;
    rest.saturating_sub(Duration::from_millis(chance % (fifth + 1)))
}

#[cfg(test)]
mod tests {
    use super::*;

    const NO_CHANCE: u64 = 0;
    const TRACE: Trace = Trace::NONE;

    fn secs(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    fn error(code: Code) -> ProviderError {
        ProviderError::new(code, "no")
    }

    fn user(word: u64) -> AskedBy {
        AskedBy::User { word }
    }

    /// One try that fails when no other connection is there.
    fn fail(standing: &mut Standing, code: Code, asked_by: AskedBy, now: Instant) -> Failed {
        standing.begin();
        standing.failed(error(code), (asked_by, TRACE), 0, (now, NO_CHANCE))
    }

    fn may(standing: &Standing, asked_by: AskedBy, now: Instant) -> May {
        standing.may((asked_by, standing.failures()), Password::NotLookedAt, now)
    }

    /// How long it is left alone from then on.
    fn rests(standing: &Standing, now: Instant) -> Duration {
        let tried =
            |seconds: &u64| may(standing, AskedBy::Broker, now + secs(*seconds)) == May::Now;
        secs((0..10_000).find(tried).expect("it ends"))
    }

    #[test]
    fn each_rest_is_longer_up_to_the_longest() {
        let (mut standing, mut now, mut all) = (Standing::default(), Instant::now(), Vec::new());
        for _ in 0..10 {
            let failed = fail(&mut standing, Code::E_CALL_FAILED, AskedBy::Broker, now);
            assert_eq!(failed, Failed::Down(error(Code::E_CALL_FAILED).of_server()));
            let rest = rests(&standing, now);
            all.push(rest.as_secs());
            now += rest;
        }
        assert_eq!(all, [2, 4, 8, 16, 32, 64, 128, 240, 240, 240]);
        standing.begin();
        standing.works();
        fail(&mut standing, Code::E_CALL_FAILED, AskedBy::Broker, now);
        assert_eq!(rests(&standing, now), secs(2), "it has worked in between");
    }

    #[test]
    fn chance_takes_off_a_fifth_at_most() {
        let all: Vec<_> = (0..100_000).step_by(7).map(|chance| rest(8, chance)).collect();
        assert!(all.iter().all(|rest| (secs(192)..=LONGEST_REST).contains(rest)));
        assert!(all.iter().any(|rest| *rest < secs(200)) && all.contains(&LONGEST_REST));
    }

    #[test]
    fn whatever_fails_before_a_message_is_of_the_server() {
        for code in [Code::E_NETWORK_ERROR, Code::E_TIMEOUT, Code::E_NO_ACCESS, Code::E_NO_SUPPORT]
        {
            let (mut standing, now) = (Standing::default(), Instant::now());
            fail(&mut standing, code, AskedBy::Broker, now);
            assert_eq!(may(&standing, AskedBy::Broker, now), May::No(error(code).of_server()));
        }
    }

    #[test]
    fn others_wait_while_one_tries() {
        let mut standing = Standing::default();
        assert_eq!(standing.begin(), Trial::Open);
        assert!(standing.is_tried());
        standing.works();
        assert!(!standing.is_tried());
        assert_eq!(standing.begin(), Trial::Over, "it is known to work");
        standing.is_unknown();
        assert_eq!(standing.begin(), Trial::Open);
    }

    #[test]
    fn a_refusal_beside_others_stops_nothing() {
        let (mut standing, now) = (Standing::default(), Instant::now());
        standing.begin();
        standing.works();
        assert_eq!(standing.most(4, now), 4);
        standing.begin();
        let about = (AskedBy::Broker, TRACE);
        let refused = error(Code::E_NETWORK_ERROR);
        let failed = standing.failed(refused.clone(), about, 2, (now, NO_CHANCE));
        assert_eq!(failed, Failed::Fewer);
        let failed = standing.failed(refused.clone(), (user(1), TRACE), 2, (now, NO_CHANCE));
        assert_eq!(failed, Failed::Nothing(refused.clone().of_server()), "a user is told");
        assert_eq!(may(&standing, AskedBy::Broker, now), May::Now);
        let most = [0, 59, 60, 120, 240].map(|later| standing.most(4, now + secs(later)));
        assert_eq!(most, [2, 2, 3, 4, 4]);
        assert_eq!(standing.most(8, now), 8, "it is over");
        let failed = standing.failed(refused, about, 0, (now, NO_CHANCE));
        assert!(matches!(failed, Failed::Down(_)), "it was the only one");
    }

    #[test]
    fn tries_for_users_have_a_pause_between_them() {
        let (mut standing, now) = (Standing::default(), Instant::now());
        fail(&mut standing, Code::E_CALL_FAILED, AskedBy::Broker, now);
        assert_eq!(may(&standing, user(1), now), May::Now, "the broker's try is none of a user");
        fail(&mut standing, Code::E_CALL_FAILED, user(1), now);
        let refused = error(Code::E_CALL_FAILED).of_server();
        assert_eq!(may(&standing, user(1), now + secs(9)), May::No(refused.clone()));
        assert_eq!(may(&standing, user(2), now), May::From(now + PAUSE));
        assert_eq!(may(&standing, user(2), now + PAUSE), May::Now);
        let before = standing.failures();
        fail(&mut standing, Code::E_CALL_FAILED, user(2), now + PAUSE);
        let waited = standing.may((user(3), before), Password::NotLookedAt, now + secs(9));
        assert_eq!(waited, May::No(refused), "it has waited for that try");
    }

    #[test]
    fn a_password_has_two_tries() {
        let (mut standing, now) = (Standing::default(), Instant::now());
        let refused = error(Code::E_LOGON_FAILED);
        fail(&mut standing, Code::E_LOGON_FAILED, AskedBy::Broker, now);
        let May::No(first) = may(&standing, AskedBy::Broker, now) else { panic!("it rests") };
        assert_eq!(first.code, Code::E_OFFLINE, "what waits behind it is no second refusal");
        assert_eq!(rests(&standing, now), secs(2));
        fail(&mut standing, Code::E_LOGON_FAILED, AskedBy::Broker, now);
        let years = now + secs(10 * 365 * 24 * 3_600);
        let with_another = May::WithAnotherPassword(vec![TRACE], refused.clone());
        assert_eq!(may(&standing, AskedBy::Broker, years), with_another);
        let another = |standing: &Standing, now| {
            standing.may((AskedBy::Broker, standing.failures()), Password::Another, now)
        };
        assert_eq!(another(&standing, now), May::Now);
        assert_eq!(may(&standing, user(1), now), May::Now);
        fail(&mut standing, Code::E_LOGON_FAILED, user(1), now);
        assert_eq!(may(&standing, AskedBy::Broker, now + secs(3_599)), with_another);
        assert_eq!(may(&standing, AskedBy::Broker, now + AN_HOUR), May::Now);
        fail(&mut standing, Code::E_LOGON_FAILED, AskedBy::Broker, now + AN_HOUR);
        assert_eq!(may(&standing, AskedBy::Broker, now + secs(7_199)), with_another);
        assert_eq!(may(&standing, AskedBy::Broker, now + AN_HOUR + AN_HOUR), May::Now);
    }

    #[test]
    fn another_password_has_two_tries_of_its_own() {
        let (mut standing, now) = (Standing::default(), Instant::now());
        for _ in 0..2 {
            fail(&mut standing, Code::E_LOGON_FAILED, AskedBy::Broker, now);
        }
        let another = Trace::of("anna", &"other".into());
        let refused = error(Code::E_LOGON_FAILED);
        let mut fail_another = |now| {
            standing.begin();
            standing.failed(refused.clone(), (AskedBy::Broker, another), 0, (now, NO_CHANCE));
            standing.may((AskedBy::Broker, 0), Password::NotLookedAt, now + FIRST_REST)
        };
        let both = May::WithAnotherPassword(vec![TRACE, another], refused.clone());
        let first = May::WithAnotherPassword(vec![TRACE], refused.clone());
        assert_eq!(fail_another(now), first, "it has one more");
        // Two profiles with two wrong passwords do not make each other's good again.
        assert_eq!(fail_another(now), both);
    }

    #[test]
    fn refused_passwords_are_bounded() {
        let (mut standing, now) = (Standing::default(), Instant::now());
        for number in 0..100 {
            let trace = Trace::of("anna", &number.to_string().into());
            standing.begin();
            let refused = error(Code::E_LOGON_FAILED);
            standing.failed(refused, (AskedBy::Broker, trace), 0, (now, NO_CHANCE));
        }
        assert_eq!(standing.refused.passwords.len(), MOST_PASSWORDS);
    }

    /// After a long time without a network the refusal of a password is news, which the next broker must know.
    #[test]
    fn a_password_that_is_refused_is_news() {
        let (mut standing, now) = (Standing::default(), Instant::now());
        for count in 1..=20 {
            fail(&mut standing, Code::E_NETWORK_ERROR, AskedBy::Broker, now);
            assert_eq!(standing.refused.is_new(), count <= UP_TO_THE_LONGEST);
        }
        fail(&mut standing, Code::E_LOGON_FAILED, AskedBy::Broker, now);
        assert!(standing.refused.is_new());
    }

    /// A server that does not even answer for a while forgets nothing of the passwords it refused.
    #[test]
    fn a_refusal_of_the_server_does_not_make_a_password_good() {
        let (mut standing, now) = (Standing::default(), Instant::now());
        for _ in 0..2 {
            fail(&mut standing, Code::E_LOGON_FAILED, AskedBy::Broker, now);
        }
        fail(&mut standing, Code::E_NETWORK_ERROR, user(1), now);
        let waited = standing.may((user(2), 0), Password::NotLookedAt, now);
        assert_eq!(waited, May::No(error(Code::E_NETWORK_ERROR).of_server()), "that was last");
        let answer = may(&standing, AskedBy::Broker, now + secs(999));
        assert!(matches!(answer, May::WithAnotherPassword(..)), "{answer:?}");
    }

    #[test]
    fn what_was_called_off_says_nothing() {
        let (mut standing, now) = (Standing::default(), Instant::now());
        let failed = fail(&mut standing, Code::E_CANCEL, AskedBy::Broker, now);
        assert_eq!(failed, Failed::Nothing(error(Code::E_CANCEL)));
        assert_eq!(may(&standing, AskedBy::Broker, now), May::Now);
        assert!(!standing.is_tried() && standing.refused.is_nothing());
    }
}
