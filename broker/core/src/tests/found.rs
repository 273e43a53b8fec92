//! Cases of the model that failed once, as short as they could be made.
//!
//! Seeds of `proptest-regressions/` lead to other cases when the model learns another act; these stay what they are.

use sundown_protocol::Code;
use sundown_protocol::request::Request;

use super::model::{Act, play, play_and_stop};
use super::world::World;
use crate::Stop;
use crate::settings::Linger;
use crate::settings::SharedLogoff;

/// Design §10.6, §10.7, §10.8.
#[test]
fn what_failed_once_holds() {
    play(
        Linger::UntilEmpty,
        SharedLogoff::Owner,
        vec![Act::Connect(1), Act::Queue(0), Act::Logon { at: 0, profile: 1, flags: 3 }],
    );
    play_and_stop(
        Linger::UntilEmpty,
        vec![
            Act::Connect(1),
            Act::Logon { at: 0, profile: 0, flags: 1 },
            Act::Logon { at: 0, profile: 0, flags: 1 },
            Act::Logon { at: 0, profile: 0, flags: 0 },
            Act::LetGo(0),
            Act::Advise(1),
            Act::Connect(1),
            Act::Disconnect(2),
        ],
        Stop::Restart,
        None,
        false,
    );
    play_and_stop(
        Linger::UntilEmpty,
        vec![
            Act::Connect(1),
            Act::Queue(0),
            Act::Logon { at: 0, profile: 1, flags: 1 },
            Act::Settle,
        ],
        Stop::Restart,
        None,
        false,
    );
    play_and_stop(
        Linger::UntilEmpty,
        vec![
            Act::Script { to: 7, step: 4 },
            Act::Connect(1),
            Act::EndProcess(2),
            Act::Logoff { who: 0, flags: 0, drain: None },
            Act::Logon { at: 0, profile: 1, flags: 0 },
            Act::EndProcess(2),
            Act::EndProcess(2),
            Act::Steps(vec![0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]),
            Act::Logon { at: 0, profile: 0, flags: 0 },
            Act::EndProcess(2),
            Act::Submit { who: 0, to: 2, deferred: false },
            Act::Logon { at: 0, profile: 1, flags: 0 },
            Act::Logon { at: 0, profile: 0, flags: 0 },
            Act::Logon { at: 0, profile: 0, flags: 0 },
            Act::Steps(vec![2, 5, 0, 5, 2, 5, 6, 0]),
            Act::Connect(1),
            Act::Connect(1),
        ],
        Stop::Restart,
        None,
        false,
    );
    play(
        Linger::UntilEmpty,
        SharedLogoff::Owner,
        vec![
            Act::Connect(1),
            Act::Logon { at: 0, profile: 0, flags: 2 },
            Act::Steps(vec![0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]),
            Act::Submit { who: 0, to: 0, deferred: false },
            Act::Logoff { who: 0, flags: 0, drain: None },
            Act::Steps(vec![30, 0, 12, 1]),
        ],
    );
    play_and_stop(
        Linger::UntilEmpty,
        vec![
            Act::Connect(1),
            Act::Logon { at: 0, profile: 0, flags: 2 },
            Act::Steps(vec![0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]),
            Act::Submit { who: 0, to: 0, deferred: false },
            Act::Submit { who: 0, to: 0, deferred: false },
            Act::Steps(vec![2, 42, 2, 5, 1]),
        ],
        Stop::Restart,
        None,
        false,
    );
    play_and_stop(
        Linger::UntilEmpty,
        vec![
            Act::Connect(1),
            Act::Logon { at: 0, profile: 0, flags: 2 },
            Act::Steps(vec![0, 0, 0, 0, 0, 0, 0, 0, 0, 0]),
            Act::Steps(vec![0, 0]),
            Act::Submit { who: 0, to: 3, deferred: false },
            Act::Steps(vec![0, 13, 0, 19, 0, 0, 5, 0, 20, 0]),
            Act::Fail { call: 7, times: 1 },
            Act::Pass(5000),
        ],
        Stop::Restart,
        None,
        false,
    );
    play_and_stop(
        Linger::UntilEmpty,
        vec![
            Act::Hold { provider: 0, call: 3 },
            Act::Connect(1),
            Act::Logon { at: 0, profile: 1, flags: 2 },
            Act::Steps(vec![0, 0, 0, 0, 0, 0, 0]),
            Act::Logon { at: 0, profile: 1, flags: 0 },
            Act::Steps(vec![9, 0, 0, 0, 13]),
            Act::Submit { who: 0, to: 0, deferred: false },
            Act::Steps(vec![2, 14, 32, 8]),
            Act::Logoff { who: 0, flags: 0, drain: None },
            Act::Pass(10000),
        ],
        Stop::Restart,
        None,
        true,
    );
    play_and_stop(
        Linger::UntilEmpty,
        vec![
            Act::Connect(1),
            Act::Logon { at: 0, profile: 0, flags: 0 },
            Act::EndProcess(2),
            Act::Logoff { who: 0, flags: 0, drain: None },
            Act::Logoff { who: 0, flags: 0, drain: None },
            Act::Logoff { who: 0, flags: 0, drain: None },
            Act::Logon { at: 0, profile: 0, flags: 0 },
            Act::EndProcess(2),
            Act::Settle,
            Act::Logon { at: 0, profile: 0, flags: 0 },
            Act::Draft(0),
            Act::Steps(vec![0]),
            Act::Steps(vec![0]),
            Act::Steps(vec![0, 0, 0, 0]),
            Act::Submit { who: 0, to: 0, deferred: false },
            Act::Steps(vec![0, 0, 0, 0, 0, 31, 5]),
            Act::Hold { provider: 0, call: 3 },
            Act::Save(0),
        ],
        Stop::Restart,
        None,
        true,
    );
    play_and_stop(
        Linger::UntilEmpty,
        vec![
            Act::Connect(1),
            Act::Logon { at: 0, profile: 0, flags: 0 },
            Act::Steps(vec![0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]),
            Act::Open { who: 0, what: 2 },
            Act::Disconnect(0),
            Act::Grant(0),
        ],
        Stop::Restart,
        None,
        false,
    );
    play(
        Linger::UntilEmpty,
        SharedLogoff::Owner,
        vec![
            Act::Hold { provider: 1, call: 0 },
            Act::Connect(1),
            Act::Logon { at: 0, profile: 0, flags: 2 },
            Act::Pass(1272),
            Act::Pass(28728),
            Act::Submit { who: 0, to: 0, deferred: false },
        ],
    );
}

/// A process takes these two for the broker's word that it has left, or that its session has ended. A provider that says so
/// speaks of itself: a submit, a flush, a Do and a logon fail like any other.
#[test]
fn what_a_provider_says_of_itself_is_not_said_of_the_process() {
    for said in [Code::E_NOT_INITIALIZED, Code::E_END_OF_SESSION] {
        let mut world = World::new();
        let member = world.member(1);
        let fail = |world: &mut World| {
            world.store("default").failures.insert("SubmitMessage", [said].into());
        };
        fail(&mut world);
        let told = world.try_submit(member, &["b@x"]).expect_err("it is refused");
        assert_eq!(told.code, Code::E_CALL_FAILED);
        fail(&mut world);
        world.submit_deferred(member, "b@x");
        let told = world.call(member.at, Request::Flush { member: member.id });
        assert_eq!(told.expect_err("it was not stored").code, Code::E_CALL_FAILED);
        world.query(member.at).expect("it may");
        fail(&mut world);
        world.submit_deferred(member, "b@x");
        let told = world.do_fast(member.at).expect_err("it was not stored");
        assert_eq!(told.code, Code::E_CALL_FAILED);
        world.submit(member, "b@x");
    }
}
