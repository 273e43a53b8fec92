//! TODO

use std::collections::BTreeMap;
use std::time::Duration;

use sundown_protocol::SessionId;

use crate::ground::event::EngineId;
use crate::queue::engine::Engine;
use crate::sessions::session::Session;
use crate::then::Bounced;

/// One message on its way through one transport.
#[derive(Debug)]
#[cfg_attr(test, derive(Clone))]
pub(crate) struct Flight {
    pub(crate) engine: EngineId,
    pub(crate) record: u128,
    pub(crate) session: SessionId,
    /// The transport's place among the session's providers.
    pub(crate) provider: usize,
    pub(crate) recipients: Vec<usize>,
    pub(crate) stage: Stage,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Stage {
    Preparing,
    /// It is cut off, and is recovered if its store is still there.
    Looking,
    Marking,
    Completing,
    /// Its transport finds out what became of it before a crash.
    Recovering,
    /// What became of it is being stored.
    Recording,
    /// Its intent is being stored, and that takes too long to keep a place of its transport for it. It is neither handed over nor
    /// cancelled until it is known whether the intent is there.
    Late,
    /// Its transport was left behind while the intent was being stored.
    Left,
}

/// A submission whose new state is being stored.
#[derive(Debug)]
#[cfg_attr(test, derive(Clone))]
pub(crate) struct Recording {
    pub(crate) engine: EngineId,
    pub(crate) record: u128,
    /// The flight that it is the end of.
    pub(crate) flight: Option<u64>,
    /// Recipients whose failure the sender is told of with it.
    pub(crate) bounced: Bounced,
}

impl Flight {
    /// The recipients that its transport has.
    pub(crate) fn recipients(&self) -> &[usize] {
        &self.recipients
    }

    /// The store that the message is in.
    pub(crate) fn engine(&self) -> EngineId {
        self.engine
    }

    /// The store that the message is in, and its record.
    pub(crate) fn message(&self) -> (EngineId, u128) {
        (self.engine, self.record)
    }

    /// How long its transport may be busy with a message of no size.
    pub(crate) fn patience(&self, sessions: &BTreeMap<SessionId, Session>) -> Option<Duration> {
        Some(sessions.get(&self.session)?.providers.get(self.provider)?.longest)
    }

    /// The message's size in bytes.
    pub(crate) fn size(&self, engines: &BTreeMap<EngineId, Engine>) -> u64 {
        let entry = engines.get(&self.engine).and_then(|e| e.entries.get(&self.record));
        entry.map_or(0, |entry| entry.submission.size)
    }

    /// Whether it takes a place of its transport.
    pub(crate) fn has_place(&self) -> bool {
        !matches!(self.stage, Stage::Late | Stage::Left)
    }
}
