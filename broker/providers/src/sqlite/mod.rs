//! The built-in store: messages, the outgoing queue and profile sections in an `SQLite` database.
//!
//! One connection writes (`engine`, `write`, `queue`), each reader has a connection of its own (`reader`), and one connection only
//! moves the log into the database (`checkpoint`). A lock beside the file keeps a second broker out.

mod body;
mod checkpoint;
mod contents;
mod engine;
mod filing;
mod folders;
mod mirror;
mod moved;
mod numbers;
mod purge;
mod queue;
mod reader;
mod recipients;
mod remote;
mod rows;
mod schema;
mod searching;
mod spots;
mod sum;
mod torn;
mod write;

#[cfg(test)]
mod failing;
#[cfg(test)]
mod folder_tests;
#[cfg(test)]
mod moving;
#[cfg(test)]
pub(crate) mod tests;

use std::path::PathBuf;

use sundown_core::provider::{ProviderAnswer, ProviderError, ProviderSpec, StoreFacts, StoreWrite};
use sundown_protocol::Code;

use crate::search::Pace;
use crate::{LeavingProcess, ProviderShutdown, Result, StoreProvider, StoreReader, Sync};
use engine::Engine;
use purge::KeepSent;
use reader::SqliteReader;
use searching::Searching;

/// A store in a `SQLite` database. The spec's path is the database file.
#[derive(Debug)]
pub struct SqliteStore {
    path: PathBuf,
    options: Options,
    engine: Option<Engine>,
    searching: Option<Searching>,
    sessions: usize,
}

/// What a profile says of a store.
#[derive(Debug)]
struct Options {
    keep_sent: KeepSent,
    /// `host`: the name of this host.
    host: String,
}

impl Options {
    fn of(spec: &ProviderSpec) -> Self {
        let host = spec.options.iter().find(|(key, _)| key == "host");
        let host = host.map_or_else(String::new, |(_, host)| host.clone());
        Self { keep_sent: KeepSent::of(spec), host }
    }
}

impl SqliteStore {
    /// Makes a store, which its first logon opens.
    pub fn new(spec: &ProviderSpec) -> Self {
        Self {
            path: spec.path.clone(),
            options: Options::of(spec),
            engine: None,
            searching: None,
            sessions: 0,
        }
    }

    fn closed(&self) -> ProviderError {
        let text = format!("{}: no session is logged on to the store", self.path.display());
        ProviderError::new(Code::E_NOT_INITIALIZED, text)
    }
}

impl StoreProvider for SqliteStore {
    fn logon(&mut self) -> Result<StoreFacts> {
        if let Some(engine) = &self.engine {
            engine.refuse_if_lost()?;
        }
        let engine = match self.engine.take() {
            Some(engine) => engine,
            None => Engine::open(&self.path, &self.options)?,
        };
        let facts = self.engine.insert(engine).facts();
        if let Ok(facts) = &facts {
            self.sessions += 1;
            let new = || Searching::new(&self.path, facts.uid, Pace::default());
            self.searching.get_or_insert_with(new);
        } else if self.sessions == 0 {
            self.engine = None;
        }
        facts
    }

    fn commit(&mut self, batch: Vec<StoreWrite>, sync: Sync) -> Vec<Result<ProviderAnswer>> {
        match &mut self.engine {
            Some(engine) => {
                let answers = engine.commit(&batch, sync);
                let came_back = std::mem::take(&mut engine.writer.came_back);
                if let Some(searching) = &self.searching {
                    searching.changed(&batch, came_back);
                }
                answers
            }
            None => batch.iter().map(|_| Err(self.closed())).collect(),
        }
    }

    fn tidy(&mut self) {
        if let Some(engine) = &mut self.engine {
            engine.tidy();
        }
    }

    fn reader(&self) -> Result<Box<dyn StoreReader>> {
        let engine = self.engine.as_ref().ok_or_else(|| self.closed())?;
        let searching = self.searching.clone();
        Ok(Box::new(SqliteReader::new(self.path.clone(), engine.writer.uid).with(searching)))
    }

    fn logoff(&mut self) -> Result<()> {
        self.sessions = self.sessions.saturating_sub(1);
        if self.sessions > 0 {
            return Ok(());
        }
        if let Some(searching) = self.searching.take() {
            searching.end();
        }
        if let Some(engine) = &mut self.engine {
            engine.save_what_is_lost()?;
        }
        self.engine.take().map_or(Ok(()), Engine::close)
    }

    fn shutdown(&mut self) -> Option<&mut dyn ProviderShutdown> {
        Some(self)
    }
}

/// The store does no work for a single process but the sync at the end. A notice stops what is not needed to save data, the work at the
/// index for searches, until there is something to do for it again.
impl ProviderShutdown for SqliteStore {
    fn query_fast_shutdown(&mut self) -> Result<()> {
        Ok(())
    }

    fn notify_process_shutdown(&mut self, _process: LeavingProcess) -> Result<()> {
        if let Some(searching) = &self.searching {
            searching.rest();
        }
        Ok(())
    }

    fn do_fast_shutdown(&mut self, _process: LeavingProcess) -> Result<()> {
        // Earlier writes are committed already; this syncs those that were committed without a sync. A process that has just kept
        // its drafts in a commit of their own needs no other.
        let mut answers = self.commit(vec![StoreWrite::Flush], Sync::Full);
        answers.pop().map_or(Ok(()), |answer| answer.map(drop))
    }
}
