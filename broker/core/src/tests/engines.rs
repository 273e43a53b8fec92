//! What is found by an index is what a look at everything finds.

use super::world::{World, profile};

/// Whichever stores an event touches, each in which something may go is found.
#[test]
fn a_store_that_is_stirred_is_found() {
    let mut world = World::new();
    world.add_profile(profile("work"));
    let at = world.connect(1);
    world.logon(at);
    world.logon_to(at, "work");
    let ids: Vec<_> = world.broker.queues.engines.keys().copied().collect();
    assert_eq!(ids.len(), 2);
    let mut engines = world.broker.queues.engines.clone();
    assert_eq!(engines.stirred(), [], "nothing was stirred");
    for id in [ids[1], ids[0], ids[1]] {
        engines.get_mut(id).expect("it is open").stirred = true;
    }
    assert_eq!(engines.stirred(), ids);
    engines.each_mut().for_each(|engine| engine.stirred = false);
    engines.get_mut(ids[0]).expect("it is open").stirred = true;
    assert_eq!(engines.stirred(), ids[..1]);
    for engine in world.broker.queues.engines.values() {
        let found = |lane| world.broker.queues.engines.of_lane(lane);
        assert_eq!((found(engine.write), found(engine.read)), (Some(engine.id), Some(engine.id)));
        assert_eq!(world.broker.queues.engines.at(engine.path()), Some(engine.id));
    }
}
