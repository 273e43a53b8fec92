//! Every state that a small broker can be in, up to a bound, and what must hold in each.
//!
//! Three processes, of which one has two connections, in two sessions with three providers each; submissions, drafts, a
//! grant across processes, a failing store and a silent transport, time, and a broker that dies. From the beginning
//! every [`Act`](acts::Act) is tried in every state, up to a number of them, and between them every order in which
//! providers may answer. Each act happens once; waking is one too, and may happen twice.
//!
//! States with one [fingerprint](fingerprint) are one: numbers that only count up, absolute times, and which of two
//! processes that play one role is which make no difference. Every state is checked by every [invariant](invariants) of
//! design §10, each of which has its number. A state in which nothing happens by itself is wound up too: everything
//! works again, everybody leaves, and nothing may be left. Every other state leads to such ones.
//!
//! ```sh
//! cargo test -p sundown-core explore -- --nocapture                                # two acts: what CI does
//! SUNDOWN_EXPLORE=long cargo test --release -p sundown-core explore -- --nocapture # three acts: some ten minutes of a processor
//! ```

mod acts;
mod fingerprint;
mod invariants;

use std::collections::HashSet;
use std::time::Instant;

use acts::{ACTS, Act, Pid, State, Step};
use fingerprint::{Now, Side, canonical};

/// What was seen in one exploration.
#[derive(Debug, Default)]
struct Figures {
    states: usize,
    transitions: usize,
    /// Transitions to a state that was there before.
    merged: usize,
    /// States in which nothing happens by itself, which were wound up.
    at_rest: usize,
    /// The steps of the longest way.
    depth: usize,
}

/// Whoever waits for a long exploration is told each time it has come so much further.
const SAID_EVERY: usize = 20_000;

/// How many acts happen on one way through the states.
fn bound() -> usize {
    if std::env::var("SUNDOWN_EXPLORE").is_ok_and(|how| how == "long") { 3 } else { 2 }
}

/// Goes everywhere. Depth first, because a way that was gone to its end need not be kept.
fn explore(first: State, acts: usize) -> Figures {
    let mut figures = Figures::default();
    let mut seen = HashSet::from([first.fingerprint()]);
    invariants::check_state(&first);
    // With each state its part of the whole: every step leads to one of equal parts of its state's. What is merged is done.
    let mut open = vec![(first, 1.0)];
    let (began, mut done) = (Instant::now(), 0.0);
    while let Some((state, part)) = open.pop() {
        figures.states += 1;
        figures.depth = figures.depth.max(state.way.len());
        if figures.states.is_multiple_of(SAID_EVERY) {
            let (Figures { states, depth, .. }, seconds) = (&figures, began.elapsed().as_secs());
            println!(
                "{states} states so far, depth {depth}, {:.1} % of all ways, {seconds} s",
                done * 100.0
            );
        }
        let steps = state.steps(acts);
        if steps.is_empty() {
            done += part;
        }
        let part = part / steps.len() as f64;
        if !steps.iter().any(|step| step.is_by_itself()) {
            figures.at_rest += 1;
            invariants::check_rest(&state);
        }
        for step in steps {
            let (next, happened) = state.after(step);
            figures.transitions += 1;
            invariants::check_transition(&state, step, &happened, &next);
            if seen.insert(next.fingerprint()) {
                invariants::check_state(&next);
                open.push((next, part));
            } else {
                figures.merged += 1;
                done += part;
            }
        }
    }
    figures
}

fn explore_and_say(how: &str, first: State, acts: usize) -> Figures {
    let began = Instant::now();
    let figures = explore(first, acts);
    let Figures { states, transitions, merged, at_rest, depth } = figures;
    println!(
        "explored, {how}, {acts} of {} acts: {states} states, \
         {transitions} transitions, {merged} of them merged, {at_rest} states at rest, \
         depth {depth}, {:.1} s",
        ACTS.len(),
        began.elapsed().as_secs_f64()
    );
    figures
}

/// Design §10.1 to §10.10, where whoever leaves cuts off those who hold something of it.
#[test]
fn every_state_where_references_are_cut_off() {
    let figures = explore_and_say("references are cut off", State::new(true), bound());
    assert!(figures.states > 5_000, "{figures:?}");
}

/// Design §10.1 to §10.10, where whoever leaves waits for those who hold something of it: from the state in which
/// somebody does, because nothing else is different.
#[test]
fn every_state_where_references_are_waited_for() {
    let first = State::new(false).after(Step::Act(Act::Redeem(Pid(2)))).0.settled();
    let figures = explore_and_say("references are waited for", first, bound());
    assert!(figures.states > 100, "{figures:?}");
}

/// Design §10.1, §10.3, §10.9, §10.10, SEED-16: where the transports hang from the beginning, each kind is called in its turn all
/// the same, in its share of a sweep's time.
#[test]
fn every_state_where_transports_hang() {
    let first = State::new(true).after(Step::Act(Act::Hang)).0.settled();
    let figures = explore_and_say("transports hang", first, bound() + 1);
    assert!(figures.states > 1_000, "{figures:?}");
}

/// Design §10.1 to §10.10, where the shared session has a mailbox: it is called and swept beside the transport, watches while somebody
/// stays, and new mail is told to each member once.
#[test]
fn every_state_with_a_mailbox() {
    let bound = bound() - 1;
    let figures = explore_and_say("with a mailbox", State::with_mailbox(), bound);
    assert!(figures.states > 200, "{figures:?}");
    let first = State::with_mailbox().after(Step::Act(Act::Notify(Pid(1)))).0.settled();
    explore_and_say("with a mailbox, after a notice", first, bound + 1);
    let first = State::with_mailbox().after(Step::Act(Act::Mail)).0;
    explore_and_say("with a mailbox that has written", first, bound + 1);
}

fn after(acts: &[Act]) -> State {
    let mut state = State::new(true);
    for act in acts {
        state = state.after(Step::Act(*act)).0;
        state = state.settled();
    }
    state
}

/// Processes of one role may change places; what one of them did may not become what the other did.
#[test]
fn states_that_mirror_each_other_are_one() {
    let (two, three) = (Pid(2), Pid(3));
    let pairs: [[&[Act]; 2]; 4] = [
        [&[Act::Die(two)], &[Act::Die(three)]],
        [&[Act::Submit(two)], &[Act::Submit(three)]],
        [&[Act::Redeem(two), Act::Do(three)], &[Act::Redeem(three), Act::Do(two)]],
        [&[Act::Shared(two)], &[Act::Shared(three)]],
    ];
    for [one, other] in pairs {
        let (left, right) = (after(one).text(), after(other).text());
        let differ = left.bytes().zip(right.bytes()).position(|(a, b)| a != b).unwrap_or(0);
        let part = |text: &str| {
            text.chars().skip(differ.saturating_sub(200)).take(400).collect::<String>()
        };
        assert_eq!(part(&left), part(&right), "{one:?} and {other:?}");
        assert_eq!(left, right);
    }
    let mixed = [[Act::Redeem(two), Act::Do(three)], [Act::Redeem(two), Act::Do(two)]];
    assert_ne!(after(&mixed[0]).fingerprint(), after(&mixed[1]).fingerprint());
}

/// The order of two things that have nothing to do with each other makes no difference, nor does when they happened.
#[test]
fn orders_that_do_not_matter_are_one() {
    let one = after(&[Act::Break, Act::Die(Pid(2))]);
    let other = after(&[Act::Die(Pid(2)), Act::Break]);
    assert_eq!(one.text(), other.text());
    let text = "Timers { waiting: {(1001s, 7): Stop}, armed: Some(1001s) }";
    let later = "Timers { waiting: {(1031s, 9): Stop}, armed: Some(1031s) }";
    let at = |seconds| Now { boot: std::time::Duration::from_secs(seconds), wall: 0 };
    let none = fingerprint::Roles::default();
    let text_at = |text, seconds| canonical(text, at(seconds), &none, Side::Straight);
    assert_eq!(text_at(text, 1_000), text_at(later, 1_030));
    assert_ne!(text_at(text, 1_000), text_at(later, 1_000));
}

/// Every act leads to a state of its own, and so does every answer on the way.
#[test]
fn states_that_differ_are_two() {
    let first = State::new(true);
    let receives = State::with_mailbox();
    let mut seen = HashSet::from([first.fingerprint(), receives.fingerprint()]);
    // What process 3 does is what process 2 does.
    for act in ACTS.into_iter().filter(|act| !act.is_of(Pid(3))) {
        let first = match act {
            Act::Mail | Act::File(_) => &receives,
            _ => &first,
        };
        let mut state = first.after(Step::Act(act)).0;
        assert!(seen.insert(state.fingerprint()), "{act:?} changes nothing");
        while let Some(step) = state.steps(0).first().copied() {
            state = state.after(step).0;
            assert!(seen.insert(state.fingerprint()), "{step:?} after {act:?} changes nothing");
        }
    }
}
