//! Tokens that wait to be redeemed, and references to objects held by other processes.

use std::collections::{BTreeMap, HashMap};
use std::hash::{Hash, Hasher};
use std::time::Duration;

use sha2::{Digest, Sha256};
use sundown_protocol::reply::Granted;
use sundown_protocol::{MemberId, ObjectId, SessionId, Token};

#[cfg(test)]
use crate::broker::Broker;
use crate::ground::event::{ConnectionId, ProcessId};
use crate::ground::numbers::NumberMap;

/// How long a token may be redeemed.
pub(crate) const VALID: Duration = Duration::from_secs(60);

/// The most unredeemed grants of one member.
pub(crate) const MAX_GRANTS: usize = 1_024;

/// The handle of the one object of a reference.
pub(crate) const OBJECT: ObjectId = ObjectId { place: 0, generation: 0 };

/// The SHA-256 sum of a token, which is all the broker keeps of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct TokenSum([u8; 32]);

impl TokenSum {
    pub(crate) fn of(Token(token): Token) -> Self {
        Self(Sha256::digest(token.to_le_bytes()).into())
    }
}

/// Eight bytes of the sum are enough to place it in a map.
impl Hash for TokenSum {
    fn hash<H: Hasher>(&self, state: &mut H) {
        state.write(&self.0[..8]);
    }
}

/// The place of a token in the order of expiry: when it expires, and a number that distinguishes tokens with the same time.
pub(crate) type Expiry = (Duration, u64);

/// Grants and references of the whole broker.
#[derive(Debug, Default)]
#[cfg_attr(test, derive(Clone))]
pub(crate) struct Grants {
    tokens: HashMap<TokenSum, Issued>,
    /// The waiting tokens in the order in which they expire. Each granter knows the places of its own tokens.
    expiries: BTreeMap<Expiry, TokenSum>,
    held: NumberMap<MemberId, Reference>,
}

/// What became of a token.
#[derive(Debug)]
#[cfg_attr(test, derive(Clone))]
enum Issued {
    Waiting(Grant),
    /// The reference of the process that redeemed it.
    Held(MemberId),
}

/// An object that waits for a process to redeem its token.
#[derive(Debug)]
#[cfg_attr(test, derive(Clone))]
pub(crate) struct Grant {
    pub(crate) granter: MemberId,
    pub(crate) uid: u32,
    pub(crate) pid: Option<u32>,
    pub(crate) store: u16,
    pub(crate) granted: Granted,
    pub(crate) expires: Expiry,
}

/// An object that another process holds.
#[derive(Debug)]
#[cfg_attr(test, derive(Clone))]
pub(crate) struct Reference {
    pub(crate) token: TokenSum,
    pub(crate) granter: MemberId,
    /// The granter's process.
    pub(crate) owner: ProcessId,
    pub(crate) session: SessionId,
    pub(crate) connection: ConnectionId,
    pub(crate) process: ProcessId,
    pub(crate) store: u16,
    pub(crate) granted: Granted,
}

impl Grants {
    /// Whether a token waits or has been redeemed.
    pub(crate) fn knows(&self, token: TokenSum) -> bool {
        self.tokens.contains_key(&token)
    }

    /// Adds a token that a process may redeem for an object.
    pub(crate) fn issue(&mut self, token: TokenSum, grant: Grant) {
        self.expiries.insert(grant.expires, token);
        self.tokens.insert(token, Issued::Waiting(grant));
    }

    /// The object that waits for this token.
    pub(crate) fn waiting_for(&self, token: TokenSum) -> Option<&Grant> {
        match self.tokens.get(&token)? {
            Issued::Waiting(grant) => Some(grant),
            Issued::Held(_) => None,
        }
    }

    /// The reference that was redeemed with this token.
    pub(crate) fn held_by_token(&self, token: TokenSum) -> Option<(MemberId, &Reference)> {
        match self.tokens.get(&token)? {
            Issued::Held(id) => Some((*id, &self.held[id])),
            Issued::Waiting(_) => None,
        }
    }

    /// When the next token expires.
    pub(crate) fn next_expiry(&self) -> Option<Duration> {
        self.expiries.first_key_value().map(|((at, _), _)| *at)
    }

    /// Takes the next token that has expired by now.
    pub(crate) fn expire(&mut self, now: Duration) -> Option<Grant> {
        let first = self.expiries.first_entry().filter(|first| first.key().0 <= now)?;
        match self.tokens.remove(&first.remove()) {
            Some(Issued::Waiting(grant)) => Some(grant),
            Some(Issued::Held(_)) | None => unreachable!("what expires waits"),
        }
    }

    /// Forgets a waiting token. Returns whether it was the next to expire.
    pub(crate) fn withdraw(&mut self, expires: Expiry) -> bool {
        let is_next = self.expiries.first_key_value().is_some_and(|(first, _)| *first == expires);
        if let Some(token) = self.expiries.remove(&expires) {
            self.tokens.remove(&token);
        }
        is_next
    }

    /// Turns a waiting token into a reference. Returns whether the token was the next to expire.
    pub(crate) fn redeem(
        &mut self,
        token: TokenSum,
        (id, expires): (MemberId, Expiry),
        reference: impl FnOnce(TokenSum) -> Reference,
    ) -> bool {
        let is_next = self.withdraw(expires);
        self.tokens.insert(token, Issued::Held(id));
        self.held.insert(id, reference(token));
        is_next
    }

    /// The object behind a handle that was redeemed for a token.
    #[inline]
    pub(crate) fn reference(&self, id: MemberId) -> Option<&Reference> {
        self.held.get(&id)
    }

    /// Whether any process holds an object of another process' session.
    pub(crate) fn are_held(&self) -> bool {
        !self.held.is_empty()
    }

    /// Ends a reference.
    pub(crate) fn let_go(&mut self, id: MemberId) -> Option<Reference> {
        let reference = self.held.remove(&id)?;
        self.tokens.remove(&reference.token);
        Some(reference)
    }
}

#[cfg(test)]
impl Grants {
    /// Checks that each reference has its token, its granter and its holder.
    pub(crate) fn check_at_rest(&self, broker: &Broker) {
        let Self { tokens, expiries, held } = self;
        let mut redeemed = 0;
        for (token, issued) in tokens {
            match issued {
                Issued::Waiting(grant) => {
                    let granter = &broker.sessions.members[&grant.granter];
                    assert!(granter.waiting_grants.contains(&grant.expires), "{grant:?}");
                    assert_eq!(expiries.get(&grant.expires), Some(token), "{grant:?} expires");
                }
                Issued::Held(id) => {
                    assert!(held.contains_key(id), "a token of {id} that is held by nothing");
                    redeemed += 1;
                }
            }
        }
        assert_eq!(redeemed, held.len(), "each reference has one token");
        assert_eq!(tokens.len(), held.len() + expiries.len(), "each token expires or is held");
        for (id, reference) in held {
            let granter = &broker.sessions.members[&reference.granter];
            assert!(granter.references.contains(id), "{id} is its granter's");
            let holder = &broker.peers.connections[&reference.connection];
            assert!(holder.references.contains(id), "{id} is its holder's");
        }
    }

    pub(crate) fn holds(&self, id: MemberId) -> bool {
        self.held.contains_key(&id)
    }

    /// The members whose objects wait to be redeemed or are held.
    pub(crate) fn granters(&self) -> impl Iterator<Item = MemberId> {
        self.waiting().chain(self.held.values().map(|reference| reference.granter))
    }

    /// The members whose tokens wait, each as often as it has one.
    pub(crate) fn waiting(&self) -> impl Iterator<Item = MemberId> {
        self.tokens.values().filter_map(|issued| match issued {
            Issued::Waiting(grant) => Some(grant.granter),
            Issued::Held(_) => None,
        })
    }
}
