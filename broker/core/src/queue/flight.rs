//! Messages on their way through a transport.
//!
//! ```text
//!  Preparing ──prepared──► Marking ──intent stored──► Completing ──┐
//!                             │ └──too slowly──► Late ──┐          ├──► Recording ──► landed
//!                             └──transport left──► Left ┴──────────┤
//!  Looking ──its store is there──► Recovering ─────────────────────┘
//! ```
//!
//! A flight takes a place of its transport, but for one that is late or left.

use std::collections::BTreeMap;

use sundown_protocol::SessionId;

use crate::ground::event::EngineId;
use crate::queue::engine::Engine;

/// One message on its way through one transport.
#[derive(Debug)]
#[cfg_attr(test, derive(Clone))]
pub(crate) struct Flight {
    engine: EngineId,
    record: u128,
    session: SessionId,
    /// The transport's place among the session's providers.
    provider: usize,
    recipients: Vec<usize>,
    stage: Stage,
}

/// How far a flight is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
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

/// Places of recipients whose failure the sender is told of.
pub(crate) type Bounced = Vec<usize>;

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
    /// A message that a transport is to prepare; one that was cut off is looked after first.
    pub(crate) fn new(
        (engine, record): (EngineId, u128),
        (session, provider): (SessionId, usize),
        recipients: Vec<usize>,
        stage: Stage,
    ) -> Self {
        debug_assert!(matches!(stage, Stage::Preparing | Stage::Looking));
        Self { engine, record, session, provider, recipients, stage }
    }

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

    /// Whose transport has it: the session, and the transport's place among its providers.
    pub(crate) fn view(&self) -> (SessionId, usize) {
        (self.session, self.provider)
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

    /// Whether its transport was left behind while its intent was being stored.
    pub(crate) fn is_left(&self) -> bool {
        self.stage == Stage::Left
    }

    /// Whether its transport finds out what became of it.
    pub(crate) fn is_recovering(&self) -> bool {
        self.stage == Stage::Recovering
    }

    /// Whether what became of it is being stored.
    pub(crate) fn is_recording(&self) -> bool {
        self.stage == Stage::Recording
    }

    /// Its transport finds out what became of it: its store is there.
    pub(crate) fn recover(&mut self) {
        debug_assert_eq!(self.stage, Stage::Looking);
        self.stage = Stage::Recovering;
    }

    /// It is prepared, but for these recipients, whom its transport has refused. Whether there are others: their intent is stored next.
    pub(crate) fn mark(&mut self, refused: &[usize]) -> bool {
        self.recipients.retain(|r| !refused.contains(r));
        if self.recipients.is_empty() {
            return false;
        }
        debug_assert_eq!(self.stage, Stage::Preparing);
        self.stage = Stage::Marking;
        true
    }

    /// Its intent is stored: it is handed over.
    pub(crate) fn complete(&mut self) {
        debug_assert_eq!(self.stage, Stage::Marking);
        self.stage = Stage::Completing;
    }

    /// What became of it is being stored. One without a place stays so: nobody gets its place back twice.
    pub(crate) fn record(&mut self) {
        if self.has_place() {
            self.stage = Stage::Recording;
        }
    }

    /// Storing its intent takes too long: it gives its place back. Whether it had one.
    pub(crate) fn delay(&mut self) -> bool {
        let marks = self.stage == Stage::Marking;
        if marks {
            self.stage = Stage::Late;
        }
        marks
    }

    /// Its transport is used no more. Whether it stays until it is known whether its intent is stored: nothing may ask before that what
    /// became of it.
    pub(crate) fn leave(&mut self) -> bool {
        let stays = matches!(self.stage, Stage::Marking | Stage::Late | Stage::Left);
        if stays {
            self.stage = Stage::Left;
        }
        stays
    }
}
