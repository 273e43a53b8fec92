//! The running steps of fast shutdowns, found by number and by process.

use std::collections::BTreeMap;
use std::fmt;
use std::ops::Deref;

use sundown_protocol::SessionId;

use crate::flows::leaving::shutdown::{Sweep, What};
use crate::ground::event::ProcessId;
use crate::ground::numbers::NumberMap;

/// All sweeps. A process has at most one query and one Do. It has several notices if it gave notice again while the first was on its way,
/// because it had come to further sessions meanwhile.
#[derive(Default)]
#[cfg_attr(test, derive(Clone))]
pub(crate) struct Sweeps {
    by_number: BTreeMap<u64, Sweep>,
    /// Oldest first.
    running: NumberMap<(ProcessId, What), Vec<u64>>,
}

impl Sweeps {
    pub(crate) fn insert(&mut self, number: u64, sweep: Sweep) {
        self.running.entry((sweep.process, sweep.what)).or_default().push(number);
        self.by_number.insert(number, sweep);
    }

    pub(crate) fn remove(&mut self, number: u64) -> Option<Sweep> {
        let sweep = self.by_number.remove(&number)?;
        let step = (sweep.process, sweep.what);
        if let Some(running) = self.running.get_mut(&step) {
            running.retain(|other| *other != number);
            if running.is_empty() {
                self.running.remove(&step);
            }
        }
        Some(sweep)
    }

    pub(crate) fn get_mut(&mut self, number: u64) -> Option<&mut Sweep> {
        self.by_number.get_mut(&number)
    }

    /// The newest sweep in which a process takes this step.
    pub(crate) fn running(&self, process: ProcessId, what: What) -> Option<u64> {
        self.running.get(&(process, what))?.last().copied()
    }

    /// The sweeps of a process.
    pub(crate) fn of_process(&self, process: ProcessId) -> Vec<u64> {
        let steps = What::ALL.into_iter().filter_map(|what| self.running.get(&(process, what)));
        steps.flatten().copied().collect()
    }

    /// Whether any waits for the provider at this place.
    pub(crate) fn wait_for(&self, session: SessionId, place: usize) -> bool {
        self.by_number.values().any(|sweep| sweep.waits_for(session, place))
    }

    /// Checks that the index is complete.
    #[cfg(test)]
    pub(crate) fn check(&self) {
        let Self { by_number, running } = self;
        assert_eq!(running.values().map(Vec::len).sum::<usize>(), by_number.len());
        for (number, sweep) in by_number {
            let running = &running[&(sweep.process, sweep.what)];
            assert!(running.contains(number), "{number} in {running:?}");
            assert!(running.len() == 1 || sweep.what == What::Notify, "{running:?}");
        }
    }
}

impl Deref for Sweeps {
    type Target = BTreeMap<u64, Sweep>;

    fn deref(&self) -> &Self::Target {
        &self.by_number
    }
}

impl fmt::Debug for Sweeps {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.by_number.fmt(f)
    }
}
