//! Pages of the queue: each fits a frame, whatever the messages are, and all of them together show everything.

use sundown_protocol::reply::{FromBroker, QueueRow, SubmissionState};
use sundown_protocol::request::{QueueAction, Report, Request};
use sundown_protocol::{EntryId, Reply, RequestId, codec};

use super::world::{OWNER, World};
use crate::ground::event::ConnectionId;
use crate::provider::Recipient;
use crate::provider::Submission;

/// A message of an earlier broker that is held, so that nothing happens to it.
fn held(record: u128) -> Submission {
    Submission {
        record,
        profile: "default".into(),
        uid: OWNER,
        from: "me@here".into(),
        recipients: vec![recipient("b@x", None)],
        subject: String::new(),
        size: 0,
        order: 0,
        no_mail: false,
        attempts: 1,
        due: 0,
        submitted: 1_598_918_400_000,
        last_error: None,
        report: Report::default(),
        route: None,
        born: None,
        delay_told: false,
    }
}

fn recipient(address: &str, reply: Option<&str>) -> Recipient {
    Recipient {
        address: address.into(),
        state: SubmissionState::Held,
        intent: None,
        reply: reply.map(str::to_owned),
    }
}

fn ask(world: &mut World, at: ConnectionId, action: QueueAction) -> (Vec<QueueRow>, Option<u64>) {
    match world.call(at, Request::Queue { profile: Some("default".into()), action }) {
        Ok(Reply::Queue { rows, next }) => {
            let (result, id) = (Ok(Reply::Queue { rows: rows.clone(), next }), RequestId(1));
            let frame = codec::encode(&FromBroker::Answer { id, result });
            assert!(frame.is_ok(), "a page does not fit a frame");
            (rows, next)
        }
        other => panic!("{other:?} to {:?}", "a question for the queue"),
    }
}

fn show(submission: Submission) -> QueueRow {
    let mut world = World::new();
    let record = submission.record;
    world.store("default").leave(submission);
    let member = world.member(1);
    let store = world.store("default").uid;
    let (rows, next) = ask(&mut world, member.at, QueueAction::Show(EntryId { store, record }));
    assert_eq!((rows.len(), next), (1, None));
    let list = QueueAction::List { all: true, after: 0, limit: 100 };
    assert_eq!(ask(&mut world, member.at, list).0, rows, "a list shows the same");
    rows.into_iter().next().expect("there is one")
}

/// QUEUE-9, design §3.18: what was said about each recipient is left out of a row that would not fit a page with it, and of no
/// other.
#[test]
fn replies_are_shown_where_there_is_room() {
    let words = "5.7.1 no ".repeat(100);
    for (recipients, has_room) in [(1, true), (100, true), (1_000, false), (3_000, false)] {
        let all = (0..recipients).map(|n| recipient(&format!("{n}@x"), Some(&words))).collect();
        let row = show(Submission { recipients: all, ..held(7) });
        assert_eq!(row.recipients.len(), recipients, "everybody is shown");
        let replies = row.recipients.iter().filter(|r| r.reply.is_some()).count();
        assert_eq!(replies, if has_room { recipients } else { 0 }, "of {recipients}");
    }
}

/// Ten thousand of the longest addresses do not fit a frame. As many as may be are shown, from the first one on.
#[test]
fn recipients_are_shown_as_far_as_there_is_room() {
    let address = |n: usize| format!("{n:0300}@x");
    for count in [1_000, 10_000] {
        let all = (0..count).map(|n| recipient(&address(n), None)).collect();
        let row = show(Submission { recipients: all, ..held(7) });
        let shown = row.recipients.len();
        assert!(shown == count || (1_000..10_000).contains(&shown), "{shown} of {count} are shown");
        let in_order = row.recipients.iter().enumerate().all(|(n, r)| r.address == address(n));
        assert!(in_order);
    }
    // One is shown in any case.
    let row = show(Submission { subject: "x".repeat(700 << 10), ..held(7) });
    assert_eq!(row.recipients.len(), 1);
}

/// A page ends where it is full, whichever field the rows are large in, and the next one goes on behind it.
#[test]
fn pages_fit_frames_and_show_everything() {
    const ROWS: u128 = 60;
    let large = "x".repeat(40 << 10);
    let many = || (0..1_000).map(|n| recipient(&format!("{n:030}@x"), None)).collect();
    let kinds: [(&str, &dyn Fn(Submission) -> Submission); 6] = [
        ("subject", &|s| Submission { subject: large.clone(), ..s }),
        ("sender", &|s| Submission { from: large.clone(), ..s }),
        ("error", &|s| Submission { last_error: Some(large.clone()), ..s }),
        ("address", &|s| Submission { recipients: vec![recipient(&large, None)], ..s }),
        ("reply", &|s| Submission { recipients: vec![recipient("b@x", Some(&large))], ..s }),
        ("recipients", &|s| Submission { recipients: many(), ..s }),
    ];
    for (name, of_kind) in kinds {
        let mut world = World::new();
        for record in 1..=ROWS {
            world.store("default").leave(of_kind(held(record)));
        }
        let member = world.member(1);
        let (mut seen, mut after, mut pages) = (Vec::new(), 0, 0);
        loop {
            let list = QueueAction::List { all: false, after, limit: 100 };
            let (rows, next) = ask(&mut world, member.at, list);
            assert!(!rows.is_empty() || next.is_none(), "an empty page of large {name}s");
            pages += usize::from(!rows.is_empty());
            seen.extend(rows.into_iter().map(|row| row.entry.record));
            let Some(next) = next else { break };
            after = next;
        }
        assert_eq!(seen, (1..=ROWS).collect::<Vec<_>>(), "large {name}s");
        // A frame has room for about twenty of them, and a page is not much smaller.
        assert!((3..=10).contains(&pages), "{pages} pages of large {name}s");
    }
}

/// QUEUE-9: an error of an earlier try is shown as long as a recipient it may be about does not have the message.
#[test]
fn an_error_of_what_was_sent_since_is_not_shown() {
    use SubmissionState::{Bounced, Held, Sent};
    let error = |recipients: &[(SubmissionState, &str)]| {
        let recipients = recipients.iter().enumerate().map(|(n, (state, reply))| Recipient {
            state: *state,
            ..recipient(&format!("{n}@x"), Some(reply))
        });
        let (recipients, last_error) = (recipients.collect(), Some("450 later".to_owned()));
        show(Submission { recipients, last_error, ..held(7) }).last_error
    };
    assert_eq!(error(&[(Sent, "250 ok")]), None);
    assert_eq!(error(&[(Sent, "250 ok"), (Sent, "250 ok")]), None);
    assert_eq!(error(&[(Held, "450 later")]).as_deref(), Some("450 later"));
    assert_eq!(
        error(&[(Bounced, "550 no"), (Sent, "250 ok"), (Held, "450 later")]).as_deref(),
        Some("450 later")
    );
    assert_eq!(error(&[(Bounced, "550 no"), (Sent, "250 ok")]).as_deref(), Some("550 no"));
}
