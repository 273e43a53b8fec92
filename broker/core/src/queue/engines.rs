//! The open stores, found by number, path and lane, and the stores that an event has touched.

use std::collections::{BTreeMap, HashMap};
use std::fmt;
use std::ops::Deref;
use std::path::{Path, PathBuf};

use crate::ground::event::{EngineId, LaneId};
use crate::ground::numbers::NumberMap;
use crate::queue::engine::Engine;

/// All open stores.
#[cfg_attr(test, derive(Clone))]
pub(crate) struct Engines {
    by_id: BTreeMap<EngineId, Engine>,
    by_path: HashMap<PathBuf, EngineId>,
    /// By the lanes of their workers.
    by_lane: NumberMap<LaneId, EngineId>,
    /// The stores that may have changed since `stirred` was last called.
    touched: Vec<EngineId>,
    /// The last one touched.
    last: EngineId,
}

/// A number that no store has.
const NONE: EngineId = EngineId(0);

impl Default for Engines {
    fn default() -> Self {
        let (by_id, by_path, by_lane) = Default::default();
        Self { by_id, by_path, by_lane, touched: Vec::new(), last: NONE }
    }
}

impl Engines {
    pub(crate) fn insert(&mut self, engine: Engine) {
        let id = engine.id;
        self.by_path.insert(engine.path().to_owned(), id);
        self.by_lane.extend([(engine.write, id), (engine.read, id)]);
        self.touch(id);
        self.by_id.insert(id, engine);
    }

    pub(crate) fn remove(&mut self, id: EngineId) -> Option<Engine> {
        let engine = self.by_id.remove(&id)?;
        self.by_path.remove(engine.path());
        self.by_lane.remove(&engine.write);
        self.by_lane.remove(&engine.read);
        Some(engine)
    }

    pub(crate) fn get_mut(&mut self, id: EngineId) -> Option<&mut Engine> {
        if self.last != id {
            self.touch(id);
        }
        self.by_id.get_mut(&id)
    }

    /// Marks a store as touched. Most events touch one store many times.
    #[cold]
    fn touch(&mut self, id: EngineId) {
        self.last = id;
        self.touched.push(id);
    }

    /// All stores, to be changed.
    pub(crate) fn each_mut(&mut self) -> impl Iterator<Item = &mut Engine> {
        self.touched.extend(self.by_id.keys());
        self.by_id.values_mut()
    }

    pub(crate) fn at(&self, path: &Path) -> Option<EngineId> {
        self.by_path.get(path).copied()
    }

    /// The store that a lane belongs to, if any.
    pub(crate) fn of_lane(&self, lane: LaneId) -> Option<EngineId> {
        self.by_lane.get(&lane).copied()
    }

    /// The stores in which something changed that may let a message go, in the order of their numbers.
    pub(crate) fn stirred(&mut self) -> Vec<EngineId> {
        if self.touched.is_empty() {
            return Vec::new();
        }
        self.last = NONE;
        if self.touched.len() > 1 {
            self.touched.sort_unstable();
            self.touched.dedup();
        }
        let stirred = |id: &EngineId| self.by_id.get(id).is_some_and(|e| e.stirred);
        let found = self.touched.iter().copied().filter(stirred).collect();
        self.touched.clear();
        found
    }

    /// Checks that each index is complete, and that no stirred store is overlooked.
    #[cfg(test)]
    pub(crate) fn check(&self) {
        let Self { by_id, by_path, by_lane, touched, last: _ } = self;
        assert_eq!((by_path.len(), by_lane.len()), (by_id.len(), 2 * by_id.len()));
        for (id, engine) in by_id {
            assert_eq!(by_path.get(engine.path()), Some(id));
            assert_eq!(
                (by_lane.get(&engine.write), by_lane.get(&engine.read)),
                (Some(id), Some(id))
            );
            assert!(!engine.stirred || touched.contains(id), "{id:?} is stirred and overlooked");
        }
    }
}

impl Deref for Engines {
    type Target = BTreeMap<EngineId, Engine>;

    fn deref(&self) -> &Self::Target {
        &self.by_id
    }
}

impl fmt::Debug for Engines {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.by_id.fmt(f)
    }
}
