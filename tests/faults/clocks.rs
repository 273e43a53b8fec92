//! The wall clock was set back while no broker ran.

use crate::bystander::{Bystander, Figures};
use crate::harness::Home;

/// What waits for a retry finds it in a future that no retry can have, as a clock that was set back by three hours leaves it. It
/// is tried within the longest wait all the same, once, and nothing else is held up meanwhile.
///
/// design §7, §10
#[test]
fn a_retry_that_a_clock_has_put_far_away_comes_all_the_same() {
    let home = Home::new();
    let stuck = "[[transport]]\nkind = \"maildir\"\npath = \"way\"\n[queue]\nretry_min = \"300ms\"\n\
                 retry_max = \"300ms\"\n";
    home.profile("stuck", stuck);
    let way = home.write(".local/share/sundown/stuck/way", "in the way");
    let mut broker = home.serve();
    let mut owner = home.shell();
    owner.ok("logon profile=stuck");
    owner.submit(1, &home.message("late"));
    home.status_until("a try", |status| status["queue"]["deferred"] == 1);
    assert!(owner.end().success());
    broker.terminate();
    let store = std::fs::read_dir(home.data().join("stuck")).expect("there");
    let is_store = |path: &std::path::PathBuf| {
        std::fs::read(path).is_ok_and(|bytes| bytes.starts_with(b"SQLite format 3"))
    };
    let stores: Vec<_> = store.flatten().map(|entry| entry.path()).filter(is_store).collect();
    let mut moved = 0;
    for store in stores {
        let store = rusqlite::Connection::open(store).expect("a store");
        // An address book has no messages.
        moved += store
            .execute("UPDATE message SET due = due + 3 * 3600 * 1000 WHERE due IS NOT NULL", ())
            .unwrap_or(0);
    }
    assert_eq!(moved, 1, "the message that waits");
    std::fs::remove_file(way).expect("removed");
    let broker = home.serve();
    let mut bystander = Bystander::new(&home);
    bystander.works(&home, &broker);
    let before = Figures::of(&home, &broker);
    let delivered = crate::harness::Maildir(home.data().join("stuck/way"));
    broker.until("the late message", || delivered.count() == 1);
    bystander.works(&home, &broker);
    home.status_until("its end", |status| status["queue"]["deferred"] == 0);
    before.come_back(&home, &broker);
    bystander.leaves(&home);
    assert_eq!(delivered.only().field("Subject"), ["late"]);
}
