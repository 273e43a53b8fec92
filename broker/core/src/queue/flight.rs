//! A flight takes one of the places of its transport, unless it is late or left.

use std::collections::BTreeMap;

use sundown_protocol::SessionId;

use crate::ground::event::EngineId;
use crate::queue::engine::Engine;
use crate::queue::untold::Told;

/// A message on its way through one transport.
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
    /// Cut off by a crash. It is recovered if its store is still there.
    Looking,
    Marking,
    Completing,
    /// The transport finds out what became of the message before a crash.
    Recovering,
    /// The results are being stored.
    Recording,
    /// The intent is being stored, which takes too long to keep a place of the transport for the flight. The message is neither
    /// handed over nor cancelled until it is known whether the intent is stored.
    Late,
    /// The transport was abandoned while the intent was being stored.
    Left,
}

/// A submission whose new state is being stored.
#[derive(Debug)]
#[cfg_attr(test, derive(Clone))]
pub(crate) struct Recording {
    pub(crate) engine: EngineId,
    pub(crate) record: u128,
    /// The flight that this update ends, if any.
    pub(crate) flight: Option<u64>,
    /// What became of recipients with this update. Its notification says so, if the sender wants to know.
    pub(crate) told: Told,
}

impl Flight {
    /// A new flight: the transport is to prepare the message, or the store is checked first if the message was cut off.
    pub(crate) fn new(
        (engine, record): (EngineId, u128),
        (session, provider): (SessionId, usize),
        recipients: Vec<usize>,
        stage: Stage,
    ) -> Self {
        debug_assert!(matches!(stage, Stage::Preparing | Stage::Looking));
        Self { engine, record, session, provider, recipients, stage }
    }

    /// The recipients that the transport has.
    pub(crate) fn recipients(&self) -> &[usize] {
        &self.recipients
    }

    /// The store of the message.
    pub(crate) fn engine(&self) -> EngineId {
        self.engine
    }

    /// The store of the message, and its record.
    pub(crate) fn message(&self) -> (EngineId, u128) {
        (self.engine, self.record)
    }

    /// The session and the place of the transport among its providers.
    pub(crate) fn view(&self) -> (SessionId, usize) {
        (self.session, self.provider)
    }

    /// The message's size in bytes.
    pub(crate) fn size(&self, engines: &BTreeMap<EngineId, Engine>) -> u64 {
        let entry = engines.get(&self.engine).and_then(|e| e.entries.get(&self.record));
        entry.map_or(0, |entry| entry.submission.size)
    }

    /// Whether the flight takes a place of its transport.
    pub(crate) fn has_place(&self) -> bool {
        !matches!(self.stage, Stage::Late | Stage::Left)
    }

    /// Whether its transport was abandoned while its intent was being stored.
    pub(crate) fn is_left(&self) -> bool {
        self.stage == Stage::Left
    }

    /// Whether the transport finds out what became of the message.
    pub(crate) fn is_recovering(&self) -> bool {
        self.stage == Stage::Recovering
    }

    /// Whether its transport has not prepared the message yet, so that nothing is handed over.
    pub(crate) fn is_preparing(&self) -> bool {
        self.stage == Stage::Preparing
    }

    /// Whether its results are being stored.
    pub(crate) fn is_recording(&self) -> bool {
        self.stage == Stage::Recording
    }

    /// Begins the recovery: the store is there.
    pub(crate) fn recover(&mut self) {
        debug_assert_eq!(self.stage, Stage::Looking);
        self.stage = Stage::Recovering;
    }

    /// Notes that the message is prepared, without the recipients that the transport refused. Returns whether any are left, whose
    /// intent is then stored.
    pub(crate) fn mark(&mut self, refused: &[usize]) -> bool {
        self.recipients.retain(|r| !refused.contains(r));
        if self.recipients.is_empty() {
            return false;
        }
        debug_assert_eq!(self.stage, Stage::Preparing);
        self.stage = Stage::Marking;
        true
    }

    /// Notes that the intent is stored and the message is handed over.
    pub(crate) fn complete(&mut self) {
        debug_assert_eq!(self.stage, Stage::Marking);
        self.stage = Stage::Completing;
    }

    /// Notes that the results are being stored. A flight without a place stays as it is, so that its place is not given back twice.
    pub(crate) fn record(&mut self) {
        if self.has_place() {
            self.stage = Stage::Recording;
        }
    }

    /// Gives up the place of a flight whose intent takes too long to store. Returns whether it had one.
    pub(crate) fn delay(&mut self) -> bool {
        let marks = self.stage == Stage::Marking;
        if marks {
            self.stage = Stage::Late;
        }
        marks
    }

    /// Abandons the flight's transport. Returns whether the flight stays until it is known whether its intent is stored. Before
    /// that, nothing may ask what became of the message.
    pub(crate) fn leave(&mut self) -> bool {
        let stays = matches!(self.stage, Stage::Marking | Stage::Late | Stage::Left);
        if stays {
            self.stage = Stage::Left;
        }
        stays
    }
}
