//! How many programs of one command run at once, in all sessions of the broker.

use std::collections::HashMap;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// A program with its arguments, as profiles have them.
type Command = (String, Vec<String>);

/// The places of all commands. By default nothing runs.
#[derive(Debug, Default)]
pub struct Places(Mutex<HashMap<Command, Arc<Place>>>);

impl Places {
    /// Those of one command.
    pub(super) fn of(&self, program: &str, arguments: &[String]) -> Arc<Place> {
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        // No transport has these any more.
        known.retain(|_, place| Arc::strong_count(place) > 1);
        Arc::clone(known.entry((program.to_owned(), arguments.to_vec())).or_default())
    }
}

/// The places of one command.
#[derive(Debug, Default)]
pub(super) struct Place {
    taken: Mutex<usize>,
    changed: Condvar,
}

/// Why there is no place for a program.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum NoPlace {
    /// Nobody wants one any more.
    Unwanted,
    /// Others have had all of them for too long.
    TooLong,
}

impl Place {
    /// Waits until fewer programs than these run, and takes a place. Whether one is wanted is asked again at each [`stir`](Self::stir).
    pub(super) fn take(
        self: &Arc<Self>,
        most: usize,
        patience: Duration,
        wanted: impl Fn() -> bool,
    ) -> Result<Permit, NoPlace> {
        let waits = |taken: &mut usize| *taken >= most && wanted();
        let waited = self.changed.wait_timeout_while(self.taken(), patience, waits);
        let (mut taken, _) = waited.unwrap_or_else(PoisonError::into_inner);
        if !wanted() {
            return Err(NoPlace::Unwanted);
        }
        if *taken >= most {
            return Err(NoPlace::TooLong);
        }
        *taken += 1;
        Ok(Permit(Arc::clone(self)))
    }

    /// Wakes those that wait: one of them may not want a place any more.
    pub(super) fn stir(&self) {
        // One that has just looked waits by the time that the lock is free.
        drop(self.taken());
        self.changed.notify_all();
    }

    fn taken(&self) -> MutexGuard<'_, usize> {
        self.taken.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A place for a program, as long as the program runs.
#[derive(Debug)]
pub(super) struct Permit(Arc<Place>);

impl Drop for Permit {
    fn drop(&mut self) {
        *self.0.taken() -= 1;
        self.0.changed.notify_all();
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicBool, Ordering};
    use std::thread;

    use super::*;

    const LONG: Duration = Duration::from_secs(60);

    #[test]
    fn each_command_has_its_places() {
        let places = Places::default();
        let arguments = ["a".to_owned()];
        let (one, same) = (places.of("/x", &arguments), places.of("/x", &arguments));
        let (other, another) = (places.of("/x", &[]), places.of("/y", &arguments));
        let _taken = one.take(1, LONG, || true).expect("it is free");
        assert_eq!(same.take(1, Duration::ZERO, || true).map(drop), Err(NoPlace::TooLong));
        assert!(same.take(2, LONG, || true).is_ok(), "this one allows more");
        assert!(other.take(1, LONG, || true).is_ok() && another.take(1, LONG, || true).is_ok());
        drop((other, another));
        places.of("/z", &[]);
        assert_eq!(places.0.lock().expect("sound").len(), 2, "those of no transport are forgotten");
    }

    #[test]
    fn a_place_is_waited_for_as_long_as_it_is_wanted() {
        let place = Arc::new(Place::default());
        let taken = place.take(1, LONG, || true).expect("it is free");
        let wanted = Arc::new(AtomicBool::new(true));
        let (unwanted, patient) = {
            let (first, second, wanted) = (place.clone(), place.clone(), wanted.clone());
            let wants = move || wanted.load(Ordering::SeqCst);
            (
                thread::spawn(move || first.take(1, LONG, wants).map(drop)),
                thread::spawn(move || second.take(1, LONG, || true).map(drop)),
            )
        };
        wanted.store(false, Ordering::SeqCst);
        place.stir();
        assert_eq!(unwanted.join().expect("no panic"), Err(NoPlace::Unwanted));
        drop(taken);
        assert_eq!(patient.join().expect("no panic"), Ok(()));
        assert_eq!(*place.taken(), 0);
    }
}
