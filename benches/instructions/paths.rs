//! What is counted. Each path is prepared until it is warm, and what is counted happens once.

use std::hint::black_box;
use std::time::Duration;

use sundown_core::provider::{News, StoreChange};
use sundown_core::{ConnectionId, Effect, Event};
use sundown_protocol::folder::{Flags, Marks};
use sundown_protocol::reply::{FromBroker, Reply};
use sundown_protocol::request::{
    AdviseSource, Asked, Blob, Content, Durability, Folder, Logoff, LogoffFlags, Opening, Report,
    Request, Submit,
};
use sundown_protocol::{
    EntryId, Events, MemberId, ObjectId, RequestId, SubmitKey, Token, UploadId, codec, frame,
};

use crate::world::{Member, STORE, World, logon};

/// What is counted of a path, ready to go.
type Ready = Box<dyn FnMut()>;

/// A path: its name, and what gets it ready.
type Path = (&'static str, fn() -> Ready);

/// How often something is done before it is counted.
const WARM: usize = 8;

/// Every path by its name, in the order of the budgets.
pub(crate) const PATHS: &[Path] = &[
    // What one event costs, until its effects are forgotten.
    ("connect", connect),
    ("disconnect", disconnect),
    ("smallest-request", smallest_request),
    ("logon", || log_on_beside(WARM)),
    ("logoff", || log_off_beside(WARM)),
    ("logon-beside-10000", || log_on_beside(10_000)),
    ("logoff-beside-10000", || log_off_beside(10_000)),
    ("crash-of-a-member", crash),
    ("advise", advise),
    ("unadvise", unadvise),
    ("open", open),
    ("release", release),
    ("submit", submit),
    ("submitted", submitted),
    ("flags", flags),
    ("flags-set", flags_set),
    ("revoke-what-another-holds", revoke),
    ("grant", || grant_beside(0)),
    ("grant-beside-100000", || grant_beside(100_000)),
    ("revoke-beside-100000-grants", || revoke_beside(100_000)),
    ("logoff-of-a-granter", || granter_leaves_beside(0)),
    ("logoff-of-a-granter-beside-100000-grants", || granter_leaves_beside(100_000)),
    ("expiry-of-a-grant-beside-100000", || expiry_beside(100_000)),
    ("submit-beside-1000-fast-shutdowns", || submit_beside(1_000)),
    ("crash-beside-1000-fast-shutdowns", || crash_beside(1_000)),
    // What a process or a message costs from its beginning to its end.
    ("come-and-go", come_and_go),
    ("message-sent", message_sent),
    // What many share.
    ("new-mail-to-10", new_mail),
    ("fan-out-to-1000", fan_out),
    ("fan-out-to-1000-as-frames", fan_out_as_frames),
    ("shared-logoff-of-5000", shared_logoff),
    ("shared-logoff-of-5000-as-frames", shared_logoff_as_frames),
    ("do-with-1-object", || do_fast_shutdown(1)),
    ("do-with-100000-objects", || do_fast_shutdown(99_999)),
    ("timer-with-100000-queued", timer),
    ("timer-with-1-due-of-100000", due),
    // What is said on the socket.
    ("decode-request", || decode(flush(MemberId(7)))),
    ("decode-submit", || decode(message(MemberId(7), 1))),
    ("decode-upload-of-256-kib", || decode(upload(MemberId(7)))),
    ("encode-request", encode_request),
    ("encode-reply", encode_reply),
    ("encode-notification", encode_notification),
    ("smallest-request-from-frame-to-frame", frame_to_frame),
];

fn connect() -> Ready {
    let mut world = World::new();
    let _members = [0; WARM].map(|_| world.member());
    visit(&mut world);
    let mut hello = Some(world.hello().1);
    Box::new(move || world.apply_one(hello.take().expect("it is counted once")))
}

fn disconnect() -> Ready {
    let mut world = World::new();
    let _members = [0; WARM].map(|_| world.member());
    let connection = world.connect();
    Box::new(move || world.apply_one(Event::Disconnected { connection }))
}

/// One request of a member, after others have asked the same.
fn request(
    warm: impl Fn(&mut World, Member),
    then: impl Fn(&mut World, Member) -> Request,
) -> Ready {
    let mut world = World::new();
    let members = [0; WARM].map(|_| world.member());
    for member in members {
        warm(&mut world, member);
    }
    let member = members[0];
    let request = then(&mut world, member);
    let mut event = Some(world.asks(member.at, request));
    Box::new(move || world.apply_one(event.take().expect("it is counted once")))
}

fn smallest_request() -> Ready {
    let ask = |world: &mut World, member: Member| drop(world.ask(member.at, flush(member.id)));
    request(ask, |_, member| flush(member.id))
}

fn log_on_beside(members: usize) -> Ready {
    let mut world = World::new();
    (0..members).for_each(|_| {
        world.member();
    });
    visit(&mut world);
    let at = world.connect();
    let mut event = Some(world.asks(at, logon()));
    Box::new(move || world.apply_one(event.take().expect("it is counted once")))
}

fn log_off_beside(members: usize) -> Ready {
    let mut world = World::new();
    let members: Vec<_> = (0..members).map(|_| world.member()).collect();
    let member = members[members.len() / 2];
    let mut event = Some(world.asks(member.at, logoff(member.id, LogoffFlags::default())));
    Box::new(move || world.apply_one(event.take().expect("it is counted once")))
}

fn crash() -> Ready {
    let mut world = World::new();
    let members = [0; WARM].map(|_| world.member());
    Box::new(move || world.apply_one(Event::Disconnected { connection: members[0].at }))
}

fn advise() -> Ready {
    let both = |world: &mut World, member: Member| {
        let Reply::Advised(advise) = world.ask(member.at, advise_of(member)) else {
            panic!("registered")
        };
        world.ask(member.at, Request::Unadvise { member: member.id, advise });
    };
    request(both, |_, member| advise_of(member))
}

fn unadvise() -> Ready {
    request(
        |_, _| (),
        |world, member| {
            let Reply::Advised(advise) = world.ask(member.at, advise_of(member)) else {
                panic!("registered")
            };
            Request::Unadvise { member: member.id, advise }
        },
    )
}

fn open() -> Ready {
    let both = |world: &mut World, member: Member| {
        let object = opened(world, member);
        world.ask(member.at, Request::Release { member: member.id, object });
    };
    request(both, |_, member| open_inbox(member))
}

fn release() -> Ready {
    let both = |world: &mut World, member: Member| {
        let object = opened(world, member);
        world.ask(member.at, Request::Release { member: member.id, object });
    };
    request(both, |world, member| {
        let object = opened(world, member);
        Request::Release { member: member.id, object }
    })
}

fn submit() -> Ready {
    let send = |world: &mut World, member: Member| {
        world.ask(member.at, message(member.id, u128::from(member.id.0)));
    };
    request(send, |_, member| message(member.id, 1_000))
}

fn submitted() -> Ready {
    let mut world = World::new();
    let members = [0; WARM].map(|_| world.member());
    for (key, member) in (1..).zip(members) {
        world.ask(member.at, message(member.id, key));
    }
    let mut event = Some(world.answer_to(members[0].at, message(members[0].id, 1_000)));
    Box::new(move || world.apply_one(event.take().expect("it is counted once")))
}

/// A message is marked as read.
fn mark(member: MemberId, record: u128) -> Request {
    let (entry, remove) = (EntryId { store: STORE, record }, Flags::default());
    let add = Flags { marks: Marks::READ, keywords: Vec::new() };
    Request::SetFlags { member, entry, add: Box::new(add), remove: Box::new(remove) }
}

fn flags() -> Ready {
    let ask = |world: &mut World, member: Member| drop(world.ask(member.at, mark(member.id, 1)));
    request(ask, |_, member| mark(member.id, 2))
}

fn flags_set() -> Ready {
    let mut world = World::new();
    let members = [0; WARM].map(|_| world.member());
    for member in members {
        world.ask(member.at, mark(member.id, 1));
    }
    let mut event = Some(world.answer_to(members[0].at, mark(members[0].id, 2)));
    Box::new(move || world.apply_one(event.take().expect("it is counted once")))
}

/// A mailbox has found a new message, which ten members are told of.
fn new_mail() -> Ready {
    let mut world = World::new();
    for _ in 0..10 {
        let member = world.member();
        let (source, events) = (AdviseSource::Session, Events::NEW_MAIL);
        world.ask(member.at, Request::Advise { member: member.id, source, events });
    }
    let found = |record| {
        let news = News { from: "anna@example.org".to_owned(), subject: "report".to_owned() };
        StoreChange::Created { record, folder: Folder::INBOX, news: Some(Box::new(news)) }
    };
    for record in 0..WARM as u128 {
        let event = world.stored(vec![found(record)]);
        world.apply_one(event);
    }
    let mut event = Some(world.stored(vec![found(1_000)]));
    Box::new(move || world.apply_one(event.take().expect("it is counted once")))
}

/// A granted object is taken back: one who asks, and one who is told.
fn revoke() -> Ready {
    let mut world = World::new();
    let members = [0; WARM].map(|_| world.member());
    let object = opened(&mut world, members[0]);
    let grant = |world: &mut World, token| {
        let (member, token) = (members[0].id, Token(token));
        world.ask(members[0].at, Request::Grant { member, object, token, pid: None });
        world.ask(members[1].at, Request::Redeem { token });
        Request::Revoke { member, token }
    };
    for token in 0..WARM as u128 {
        let revoke = grant(&mut world, token);
        world.ask(members[0].at, revoke);
    }
    let request = grant(&mut world, 1_000);
    let mut event = Some(world.asks(members[0].at, request));
    Box::new(move || world.apply_one(event.take().expect("it is counted once")))
}

/// Two members with an open folder that were granted and redeemed before, beside so many tokens of others that wait.
fn granters_beside(tokens: usize) -> (World, [(Member, ObjectId); 2]) {
    let mut world = World::new();
    let granters = [0; 2].map(|_| {
        let member = world.member();
        (member, opened(&mut world, member))
    });
    for token in 0..WARM as u128 {
        let request = grant_of(granters[0], token);
        world.ask(granters[0].0.at, request);
        world.ask(granters[1].0.at, Request::Redeem { token: Token(token) });
    }
    others_grant(&mut world, tokens);
    (world, granters)
}

/// So many tokens of others wait, a thousand of each.
fn others_grant(world: &mut World, mut tokens: usize) {
    while tokens > 0 {
        let other = world.member();
        let object = opened(world, other);
        for _ in 0..tokens.min(1_000) {
            world.ask(other.at, grant_of((other, object), 1_000_000 + tokens as u128));
            tokens -= 1;
        }
    }
}

fn grant_of((member, object): (Member, ObjectId), token: u128) -> Request {
    Request::Grant { member: member.id, object, token: Token(token), pid: None }
}

fn grant_beside(tokens: usize) -> Ready {
    let (mut world, [granter, _]) = granters_beside(tokens);
    let mut event = Some(world.asks(granter.0.at, grant_of(granter, 1_000)));
    Box::new(move || world.apply_one(event.take().expect("it is counted once")))
}

fn revoke_beside(tokens: usize) -> Ready {
    let (mut world, [granter, _]) = granters_beside(tokens);
    world.ask(granter.0.at, grant_of(granter, 1_000));
    let revoke = Request::Revoke { member: granter.0.id, token: Token(1_000) };
    let mut event = Some(world.asks(granter.0.at, revoke));
    Box::new(move || world.apply_one(event.take().expect("it is counted once")))
}

/// A member leaves of whose tokens one waits.
fn granter_leaves_beside(tokens: usize) -> Ready {
    let (mut world, [_, granter]) = granters_beside(tokens);
    world.ask(granter.0.at, grant_of(granter, 1_000));
    let leave = logoff(granter.0.id, LogoffFlags::default());
    let mut event = Some(world.asks(granter.0.at, leave));
    Box::new(move || world.apply_one(event.take().expect("it is counted once")))
}

/// One token expires, and the others do a second later.
fn expiry_beside(tokens: usize) -> Ready {
    let (mut world, [granter, _]) = granters_beside(0);
    world.ask(granter.0.at, grant_of(granter, 1_000));
    world.boot += Duration::from_secs(1);
    others_grant(&mut world, tokens);
    world.boot += Duration::from_secs(59);
    Box::new(move || world.apply_one(Event::Timer))
}

/// A few members, beside so many processes whose question about a fast shutdown no provider has answered.
fn beside_fast_shutdowns(processes: usize) -> (World, [Member; WARM]) {
    let mut world = World::new();
    let members = [0; WARM].map(|_| world.member());
    for (key, member) in (1..).zip(members) {
        world.ask(member.at, message(member.id, key));
    }
    let others: Vec<_> = (0..processes).map(|_| world.member()).collect();
    for other in others {
        let query = world.asks(other.at, Request::QueryFastShutdown);
        world.apply_one(query);
    }
    (world, members)
}

fn submit_beside(fast_shutdowns: usize) -> Ready {
    let (mut world, members) = beside_fast_shutdowns(fast_shutdowns);
    let mut event = Some(world.asks(members[0].at, message(members[0].id, 1_000)));
    Box::new(move || world.apply_one(event.take().expect("it is counted once")))
}

fn crash_beside(fast_shutdowns: usize) -> Ready {
    let (mut world, members) = beside_fast_shutdowns(fast_shutdowns);
    Box::new(move || world.apply_one(Event::Disconnected { connection: members[0].at }))
}

fn come_and_go() -> Ready {
    let mut world = World::new();
    let _members = [0; WARM].map(|_| world.member());
    for _ in 0..WARM {
        visit(&mut world);
    }
    Box::new(move || visit(&mut world))
}

fn visit(world: &mut World) {
    let member = world.member();
    world.ask(member.at, logoff(member.id, LogoffFlags::default()));
    world.settle(Event::Disconnected { connection: member.at });
}

fn message_sent() -> Ready {
    let mut world = World::new();
    let members = [0; WARM].map(|_| world.member());
    for (key, member) in (1..).zip(members) {
        world.ask(member.at, message(member.id, key));
    }
    let mut event = Some(world.asks(members[0].at, message(members[0].id, 1_000)));
    Box::new(move || world.settle(event.take().expect("it is counted once")))
}

/// A message is moved, and a thousand members want to know it.
fn a_thousand_listen() -> (World, Event) {
    let mut world = World::new();
    let members: Vec<_> = (0..1_000).map(|_| world.member()).collect();
    for member in &members {
        let (member, source, events) =
            (*member, AdviseSource::Session, Events::OBJECT_MOVED | Events::NEW_MAIL);
        world.ask(member.at, Request::Advise { member: member.id, source, events });
    }
    let first = members[0];
    for record in 0..WARM as u128 {
        world.ask(first.at, delete(first.id, record));
    }
    let event = world.answer_to(first.at, delete(first.id, 1_000));
    (world, event)
}

fn fan_out() -> Ready {
    let (mut world, event) = a_thousand_listen();
    let mut event = Some(event);
    Box::new(move || world.apply_one(event.take().expect("it is counted once")))
}

fn fan_out_as_frames() -> Ready {
    let (mut world, event) = a_thousand_listen();
    world.apply(event);
    as_frames(world, 1_000)
}

/// The owner of a session that 5,000 others share ends it.
fn five_thousand_share() -> (World, Event) {
    let mut world = World::new();
    let members: Vec<_> = (0..5_001).map(|_| world.member()).collect();
    world.effects.reserve(members.len());
    let event = world.asks(members[0].at, logoff(members[0].id, LogoffFlags::SHARED));
    (world, event)
}

fn shared_logoff() -> Ready {
    let (mut world, event) = five_thousand_share();
    let mut event = Some(event);
    Box::new(move || world.apply_one(event.take().expect("it is counted once")))
}

fn shared_logoff_as_frames() -> Ready {
    let (mut world, event) = five_thousand_share();
    world.apply(event);
    as_frames(world, 5_000)
}

/// Encodes every message that came out of an event.
fn as_frames(mut world: World, notifications: usize) -> Ready {
    let messages: Vec<_> = world.effects.drain(..).filter_map(said).collect();
    assert!(messages.len() >= notifications, "only {} messages", messages.len());
    let mut out = Vec::with_capacity(1 << 10);
    Box::new(move || {
        for message in &messages {
            out.clear();
            codec::encode_into(message, &mut out).expect("it fits a frame");
            black_box(&out);
        }
    })
}

fn said(effect: Effect) -> Option<FromBroker> {
    match effect {
        Effect::Answer { request, result, .. } => Some(FromBroker::Answer { id: request, result }),
        Effect::Notify { notification, .. } => Some(FromBroker::Notify(notification)),
        _ => None,
    }
}

/// From the request to its answer, with every provider in between. What is torn down after it does not count.
fn do_fast_shutdown(more: usize) -> Ready {
    let mut world = World::new();
    let member = world.member();
    world.ask(member.at, open_inbox(member));
    for _ in 0..more {
        let open = world.asks(member.at, open_inbox(member));
        world.apply_one(open);
    }
    let other = world.member();
    for member in [other, member] {
        world.ask(member.at, Request::QueryFastShutdown);
    }
    world.ask(other.at, Request::DoFastShutdown { remembered: false });
    let mut event = Some(world.asks(member.at, Request::DoFastShutdown { remembered: false }));
    Box::new(move || world.settle(event.take().expect("it is counted once")))
}

/// A timer that fires when nothing is due any more.
fn timer() -> Ready {
    let mut world = World::with_queue(100_000);
    world.member();
    for _ in 0..WARM {
        world.settle(Event::Timer);
    }
    Box::new(move || world.apply_one(Event::Timer))
}

fn due() -> Ready {
    let mut world = World::with_queue(100_000);
    world.member();
    for _ in 0..WARM {
        world.settle(Event::Timer);
    }
    world.boot += Duration::from_millis(60_001);
    Box::new(move || world.apply_one(Event::Timer))
}

fn decode(request: Request) -> Ready {
    let bytes = codec::encode(&Asked { id: RequestId(9), request }).expect("it fits a frame");
    let mut decoded = None;
    Box::new(move || {
        let (payload, _) = frame::cut(&bytes).expect("a frame").expect("a whole one");
        black_box(decoded.insert(codec::decode::<Asked>(payload).expect("a request")));
    })
}

fn encode_request() -> Ready {
    let asked = Asked { id: RequestId(9), request: flush(MemberId(7)) };
    encode(move |out| codec::encode_into(black_box(&asked), out))
}

fn encode_reply() -> Ready {
    encode_message(FromBroker::Answer { id: RequestId(9), result: Ok(Reply::Done) })
}

fn encode_notification() -> Ready {
    let (mut world, event) = a_thousand_listen();
    world.apply(event);
    let message = world.effects.drain(..).filter_map(said).next_back().expect("somebody is told");
    assert!(matches!(message, FromBroker::Notify(_)), "{message:?}");
    encode_message(message)
}

fn encode_message(message: FromBroker) -> Ready {
    encode(move |out| codec::encode_into(black_box(&message), out))
}

fn encode(into: impl Fn(&mut Vec<u8>) -> Result<(), codec::CodecError> + 'static) -> Ready {
    let mut out = Vec::with_capacity(256);
    Box::new(move || into(&mut out).expect("it fits a frame"))
}

fn frame_to_frame() -> Ready {
    let mut world = World::new();
    let members = [0; WARM].map(|_| world.member());
    for member in members {
        world.ask(member.at, flush(member.id));
    }
    let Member { at, id } = members[0];
    let asked = Asked { id: RequestId(u64::MAX), request: flush(id) };
    let bytes = codec::encode(&asked).expect("it fits a frame");
    let mut out = Vec::with_capacity(256);
    Box::new(move || answer_frame(&mut world, at, &bytes, &mut out))
}

fn answer_frame(world: &mut World, connection: ConnectionId, bytes: &[u8], out: &mut Vec<u8>) {
    let (payload, taken) = frame::cut(bytes).expect("a frame").expect("a whole one");
    let asked = codec::decode(payload).expect("a request");
    world.apply(Event::Request { connection, asked, bytes: taken });
    for message in world.effects.drain(..).filter_map(said) {
        codec::encode_into(&message, out).expect("it fits a frame");
    }
}

// --- requests ---

fn flush(member: MemberId) -> Request {
    Request::Flush { member }
}

fn logoff(member: MemberId, flags: LogoffFlags) -> Request {
    Request::Logoff(Logoff { member, flags, drain: None })
}

fn advise_of(member: Member) -> Request {
    let (source, events) = (AdviseSource::Session, Events::NEW_MAIL);
    Request::Advise { member: member.id, source, events }
}

fn open_inbox(member: Member) -> Request {
    Request::Open { member: member.id, what: Opening::Folder(0, Folder::INBOX) }
}

fn opened(world: &mut World, member: Member) -> sundown_protocol::ObjectId {
    let Reply::Opened(object) = world.ask(member.at, open_inbox(member)) else { panic!("opened") };
    object
}

fn delete(member: MemberId, record: u128) -> Request {
    Request::Delete { member, entry: EntryId { store: STORE, record } }
}

/// As much of a body as one request may have.
fn upload(member: MemberId) -> Request {
    let bytes = Blob(vec![b'x'; frame::MAX_BLOB]);
    Request::Upload { member, store: 0, upload: UploadId(1), bytes }
}

/// A message of 1,000 bytes to one recipient.
fn message(member: MemberId, key: u128) -> Request {
    Request::Submit(Submit {
        member,
        store: 0,
        key: SubmitKey(key),
        from: None,
        recipients: vec!["anna@example.org".to_owned()],
        content: Content::Inline(Blob(vec![b'x'; 1_000])),
        when: Durability::Durable,
        report: Report::default(),
    })
}
