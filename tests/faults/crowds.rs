//! Too many, too much, too slow: connections, objects, answers that nobody reads, frames that nobody finishes.

use std::collections::BTreeSet;
use std::fs;
use std::process::Command;
use std::thread;
use std::time::Instant;

use rustix::process::{Gid, Uid};
use rustix::thread::{set_thread_res_gid, set_thread_res_uid};
use serde_json::Value;
use sundown_protocol::hello::Answer;
use sundown_protocol::reply::{FromBroker, Reply};
use sundown_protocol::request::{
    AddressAction, AdviseSource, Blob, Content, Folder, Logoff, LogoffFlags, LogonFlags, Opening,
    ReadSource, Request,
};
use sundown_protocol::{AdviseId, Code, Events, SubmitKey, codec, frame};

use crate::access::{OTHER, opened};
use crate::bystander::{Bystander, Figures, comes_down_to, memory};
use crate::harness::{Broker, Home, left};
use crate::stranger::Stranger;
use crate::{long, root, skipped};

/// This process may have so many descriptors from now on. How many it has got.
fn descriptors(wanted: u64) -> u64 {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let limit = getrlimit(Resource::Nofile);
    let most = limit.maximum.unwrap_or(u64::MAX);
    let current = wanted.min(most).max(limit.current.unwrap_or(u64::MAX));
    let _ = setrlimit(Resource::Nofile, Rlimit { current: Some(current), maximum: limit.maximum });
    current
}

/// Ten thousand connections come at once and go at once, half of them without a word.
///
/// design §8 *quotas*, §10
#[test]
fn ten_thousand_come_at_once_and_go_at_once() {
    let most = usize::try_from(descriptors(10_500)).expect("it fits").saturating_sub(500);
    let crowd = most.min(10_000);
    if crowd < 10_000 {
        skipped(&format!("this system allows {crowd} connections instead of 10,000"));
    }
    let home = Home::new();
    let broker = home.serve();
    let mut bystander = Bystander::new(&home);
    bystander.works(&home, &broker);
    let before = Figures::of(&home, &broker);
    let mut rounds = Vec::new();
    for _ in 0..if long() { 10 } else { 2 } {
        let mut strangers: Vec<_> = (0..crowd).map(|_| Stranger::connect(&home)).collect();
        for stranger in strangers.iter_mut().step_by(2) {
            assert!(matches!(stranger.hello(), Answer::Welcome(_)));
        }
        bystander.works(&home, &broker);
        let used = home.status()["limits"]["connections"]["used"].as_u64();
        assert!(used > Some(crowd as u64 / 2), "{used:?}");
        drop(strangers);
        bystander.works(&home, &broker);
        before.come_back(&home, &broker);
        rounds.push(memory(&broker));
    }
    println!("{crowd} connections; KiB of the broker after each round: {rounds:?}");
    // Allocators keep what they had once; another round needs no more.
    let (first, last) = (rounds[0], rounds[rounds.len() - 1]);
    assert!(last < first + first / 4 + 4_096, "KiB after each round: {rounds:?}");
    bystander.leaves(&home);
}

/// A process that begins one program after the other is as many processes, and none of them costs anything once it is gone.
///
/// design §3
#[test]
fn programs_that_come_and_go_in_one_process_leave_nothing() {
    let home = Home::new();
    let broker = home.serve();
    let mut bystander = Bystander::new(&home);
    bystander.works(&home, &broker);
    let before = Figures::of(&home, &broker);
    for image in 0..100 {
        assert!(matches!(Stranger::connect(&home).hello_as([image; 16]), Answer::Welcome(_)));
    }
    before.come_back(&home, &broker);
    bystander.leaves(&home);
}

/// One that opens a million objects gets as many as its quota, and a clear answer for each of the others; leaving gives all
/// of them back.
///
/// design §8 *quotas*, §10.10
#[test]
fn a_million_objects_are_refused_beyond_the_quota() {
    let wanted: u64 = if long() { 1_000_000 } else { 20_000 };
    let quota = wanted / 2;
    let home = Home::with_settings(&format!("[limits]\nobjects = {quota}\n"));
    let broker = home.serve();
    let mut bystander = Bystander::new(&home);
    bystander.works(&home, &broker);
    let before = Figures::of(&home, &broker);
    let mut greedy = Stranger::connect(&home);
    let member = greedy.logon();
    let (mut opened, mut refused, mut told) = (0, 0, 0);
    while opened + refused < wanted {
        while told < wanted && told - opened - refused < 200 {
            let what = Opening::Folder(0, Folder::INBOX);
            greedy.tell(Request::Open { member, what });
            told += 1;
        }
        match greedy.answer() {
            Ok(Reply::Opened(_)) => opened += 1,
            Ok(other) => panic!("{other:?}"),
            Err(fault) => {
                assert_eq!(fault.code, Code::E_BUSY);
                assert!(fault.message.contains("(objects)"), "{fault}");
                refused += 1;
            }
        }
    }
    assert_eq!((opened, refused), (quota, wanted - quota));
    bystander.works(&home, &broker);
    assert_eq!(home.status()["limits"]["objects"]["used"], quota);
    drop(greedy);
    before.come_back(&home, &broker);
    bystander.works(&home, &broker);
    bystander.leaves(&home);
}

/// Two thousand private sessions do nothing. They have no threads, and each works when it is asked.
///
/// design §8 *quotas*
#[test]
fn sessions_that_do_nothing_have_no_threads() {
    const CROWD: usize = 2_000;
    let names = ["sessions", "process_sessions", "user_sessions", "members", "user_members"];
    let limits = names.map(|name| format!("{name} = {}\n", 2 * CROWD)).concat();
    let limits = format!("[limits]\n{limits}");
    let home = Home::with_settings(&limits);
    let broker = home.serve();
    let mut bystander = Bystander::new(&home);
    bystander.works(&home, &broker);
    let (before, memory_before) = (Figures::of(&home, &broker), memory(&broker));
    let mut many = Stranger::connect(&home);
    assert!(matches!(many.hello(), Answer::Welcome(_)));
    let members: Vec<_> = (0..CROWD).map(|_| many.logs_on(LogonFlags::NEW_SESSION)).collect();
    bystander.works(&home, &broker);
    threads_come_down_to(FEW_THREADS, &home, &broker);
    let resting = memory(&broker);
    for member in members {
        let object = match many.ask(Request::Open { member, what: Opening::AddressBook }) {
            Ok(Reply::Opened(object)) => object,
            other => panic!("{other:?}"),
        };
        let action = AddressAction::Resolve { name: "a stranger".into() };
        let fault = many.ask(Request::AddressBook { member, object, action }).expect_err("nobody");
        assert_eq!(fault.code, Code::E_NOT_FOUND, "{fault}");
    }
    bystander.works(&home, &broker);
    threads_come_down_to(FEW_THREADS, &home, &broker);
    drop(many);
    before.come_back(&home, &broker);
    threads_come_down_to(FEW_THREADS, &home, &broker);
    comes_down_to(2 * memory_before, &home, &broker);
    let after = memory(&broker);
    println!("{CROWD} sessions; KiB before, at rest, after: {memory_before}, {resting}, {after}");
    bystander.works(&home, &broker);
    bystander.leaves(&home);
}

/// More than a broker with one session has, and far fewer than one for each of many.
const FEW_THREADS: usize = 32;

/// Waits until a broker has so many threads, or fewer. They end by and by, and nothing tells of it.
fn threads_come_down_to(most: usize, home: &Home, broker: &Broker) {
    let since = Instant::now();
    loop {
        let threads =
            fs::read_dir(format!("/proc/{}/task", broker.pid())).expect("it runs").count();
        if threads <= most {
            return;
        }
        assert!(!left(since).is_zero(), "{threads} threads, and it should be {most}");
        home.status();
    }
}

/// Drafts are in memory until they are saved or released. A process has so many bytes of them, and what they took comes back.
///
/// design §1, §8 *quotas*
#[test]
fn drafts_have_a_limit_and_their_memory_comes_back() {
    let home = Home::with_settings("[limits]\nprocess_draft_bytes = \"64MiB\"\n");
    let broker = home.serve();
    let mut bystander = Bystander::new(&home);
    bystander.works(&home, &broker);
    let before = Figures::of(&home, &broker);
    let calm = memory(&broker);
    let draft = |member| Request::Draft {
        member,
        store: 0,
        content: Content::Inline(Blob(vec![b'x'; 250_000])),
    };
    // The allocator keeps more of what it was asked for before.
    for _ in 0..3 {
        let mut greedy = Stranger::connect(&home);
        let member = greedy.logon();
        let mut drafts = 0;
        let refused = loop {
            greedy.tell(draft(member));
            match greedy.answer() {
                Ok(Reply::Opened(_)) => drafts += 1,
                Ok(other) => panic!("{other:?}"),
                Err(fault) => break fault,
            }
        };
        assert_eq!((drafts, refused.code), ((64 << 20) / 250_000, Code::E_BUSY));
        assert!(refused.message.contains("(process_draft_bytes)"), "{refused}");
        let height = memory(&broker);
        assert!(height > calm + 60_000, "KiB before and at its height: {calm}, {height}");
        bystander.works(&home, &broker);
        // They are kept in the store, as the drafts of a program that has died.
        drop(greedy);
        before.come_back(&home, &broker);
    }
    comes_down_to(calm + 24_576, &home, &broker);
    bystander.works(&home, &broker);
    bystander.leaves(&home);
}

/// A client names the image of its process, and may name as many as it likes. What they hold counts for the one process, so the
/// broker's memory has the bound of one.
///
/// design §3, §8 *quotas*
#[test]
fn images_of_one_process_have_the_memory_of_one() {
    let home = Home::with_settings("[limits]\nprocess_draft_bytes = \"16MiB\"\n");
    let broker = home.serve();
    let mut bystander = Bystander::new(&home);
    bystander.works(&home, &broker);
    let before = Figures::of(&home, &broker);
    let calm = memory(&broker);
    let (mut images, mut drafts) = (Vec::new(), 0);
    for image in 0..40 {
        let mut greedy = Stranger::connect(&home);
        assert!(matches!(greedy.hello_as([image; 16]), Answer::Welcome(_)));
        let member = greedy.joins();
        for _ in 0..20 {
            let content = Content::Inline(Blob(vec![b'x'; 250_000]));
            match greedy.ask(Request::Draft { member, store: 0, content }) {
                Ok(Reply::Opened(_)) => drafts += 1,
                Ok(other) => panic!("{other:?}"),
                Err(fault) => assert!(fault.message.contains("(process_draft_bytes)"), "{fault}"),
            }
        }
        images.push(greedy);
    }
    assert_eq!(drafts, (16 << 20) / 250_000, "of all images");
    let height = memory(&broker);
    assert!(height < calm + 65_536, "KiB before and at its height: {calm}, {height}");
    bystander.works(&home, &broker);
    drop(images);
    // Their drafts are stored meanwhile, and then nothing is remembered of them.
    before.come_back(&home, &broker);
    comes_down_to(calm + 24_576, &home, &broker);
    bystander.leaves(&home);
}

/// A client that asks for much and does not read is read no further: it costs no more than its account and waits for itself. When it
/// reads, it gets every answer.
///
/// design §1
#[test]
fn one_that_does_not_read_waits_for_itself() {
    let home = Home::with_settings("[limits]\noutbox_bytes = \"4MiB\"\n");
    let broker = home.serve();
    let mut bystander = Bystander::new(&home);
    bystander.works(&home, &broker);
    let before = Figures::of(&home, &broker);
    let mut deaf = Stranger::connect(&home);
    let member = deaf.logon();
    let mut message = b"To: anna@localhost\nSubject: deaf\n\n".to_vec();
    message.resize(frame::MAX_BLOB, b'x');
    let draft = Request::Draft { member, store: 0, content: Content::Inline(Blob(message)) };
    let Ok(Reply::Opened(object)) = deaf.ask(draft) else { panic!("a draft") };
    let Ok(Reply::Saved(entry)) = deaf.ask(Request::Save { member, object, key: SubmitKey(7) })
    else {
        panic!("saved")
    };
    let Ok(Reply::Opened(object)) =
        deaf.ask(Request::Open { member, what: Opening::Message(entry) })
    else {
        panic!("opened")
    };
    let mut asked: BTreeSet<_> = (0..40)
        .map(|_| deaf.tell(Request::Read { member, source: ReadSource::Object(object), offset: 0 }))
        .collect();
    // Free requests behind them, as many as the socket takes.
    deaf.floods(&Request::Unadvise { member, advise: AdviseId(u32::MAX) });
    for _ in 0..3 {
        bystander.works(&home, &broker);
    }
    let does_not_read =
        |line: &&Value| line["message"].as_str().is_some_and(|m| m.contains("does not read"));
    assert_eq!(broker.log().iter().filter(does_not_read).count(), 0, "it is not ended");
    while !asked.is_empty() {
        let Some(payload) = deaf.payload() else { panic!("{} answers are missing", asked.len()) };
        if let FromBroker::Answer { id, result: Ok(Reply::Piece { .. }) } =
            codec::decode(&payload).expect("a message")
        {
            assert!(asked.remove(&id), "{id:?} twice");
        }
    }
    bystander.works(&home, &broker);
    drop(deaf);
    before.come_back(&home, &broker);
    bystander.leaves(&home);
}

/// A client that does not read is one line of the log, however much more it would be told in the same turn.
///
/// design §1
#[test]
fn one_that_never_reads_is_one_line() {
    let home = Home::with_settings("[limits]\noutbox_bytes = \"1MiB\"\n");
    let broker = home.serve();
    // Who ends the session is in each notice, so that a thousand of them are more than the account takes.
    let mut owner = Stranger::connect(&home);
    let program = "\u{10348}".repeat(255);
    assert!(matches!(owner.hello_as_program([1; 16], &program), Answer::Welcome(_)));
    let member = owner.joins();
    let mut deaf = Stranger::connect(&home);
    assert!(matches!(deaf.hello(), Answer::Welcome(_)));
    for _ in 0..1_020 {
        let member = deaf.joins();
        let (source, events) = (AdviseSource::Session, Events::CRITICAL_ERROR);
        deaf.ask(Request::Advise { member, source, events }).expect("registered");
    }
    let shared = Logoff { member, flags: LogoffFlags::SHARED, drain: None };
    owner.tell(Request::Logoff(shared));
    home.status_until("the end of all", |status| status["limits"]["members"]["used"] == 0);
    let does_not_read =
        |line: &&Value| line["message"].as_str().is_some_and(|m| m.contains("does not read"));
    let lines = broker.log().iter().filter(does_not_read).count();
    assert_eq!(lines, 1, "{lines} lines");
}

/// Many that begin a frame and never finish it hold what they have sent, and nobody up.
///
/// design §1, §4
#[test]
fn those_that_never_finish_a_frame_wait_for_themselves() {
    let home = Home::with_settings("[limits]\noutbox_bytes = \"1MiB\"\n");
    let broker = home.serve();
    let mut bystander = Bystander::new(&home);
    bystander.works(&home, &broker);
    let before = Figures::of(&home, &broker);
    let mut half: Vec<_> = (0..200).map(|_| Stranger::connect(&home)).collect();
    let beginning = [&frame::MAX_PAYLOAD.to_le_bytes()[..], &[0; 1_000]].concat();
    for (n, stranger) in half.iter_mut().enumerate() {
        if n % 2 == 0 {
            assert!(matches!(stranger.hello(), Answer::Welcome(_)));
        }
        stranger.say(&beginning);
    }
    for _ in 0..3 {
        bystander.works(&home, &broker);
    }
    drop(half);
    before.come_back(&home, &broker);
    // All connections of a process pay from one account for what they have begun.
    let mut much: Vec<_> = (0..20).map(|_| Stranger::connect(&home)).collect();
    let beginning = [&frame::MAX_PAYLOAD.to_le_bytes()[..], &vec![0; 100_000]].concat();
    for stranger in &mut much {
        assert!(matches!(stranger.hello(), Answer::Welcome(_)));
    }
    for stranger in &mut much {
        stranger.say(&beginning);
    }
    broker.log_line("the account is used up", |line| {
        line["message"].as_str().is_some_and(|m| m.contains("has begun more requests"))
    });
    bystander.works(&home, &broker);
    drop(much);
    before.come_back(&home, &broker);
    bystander.works(&home, &broker);
    bystander.leaves(&home);
}

/// A broker that has 120 descriptors.
fn with_few_descriptors(home: &Home) -> Broker {
    let serve = home.command(&["serve", "--log-format", "json"]);
    let mut command = Command::new("/bin/sh");
    command.args(["-c", "ulimit -n 120 && exec \"$@\"", "sh"]);
    command.arg(serve.get_program()).args(serve.get_args()).current_dir(home.as_ref()).env_clear();
    command.envs(serve.get_envs().filter_map(|(name, value)| Some((name, value?))));
    let broker = Broker::spawn(command);
    broker.log_line("the broker is ready", |line| line["message"] == "ready");
    broker
}

/// No descriptors are left for more connections: they are told so, and those who are here go on, to the disk and out to their
/// recipients. Stores and deliveries have descriptors that connections do not get.
///
/// design §8, §10
#[test]
fn without_descriptors_those_who_are_here_go_on() {
    let home = Home::new();
    let broker = with_few_descriptors(&home);
    let mut bystander = Bystander::new(&home);
    bystander.works(&home, &broker);
    let before = Figures::of(&home, &broker);
    let mut crowd: Vec<_> = (0..300).map(|_| Stranger::connect(&home)).collect();
    let refused = crowd.last_mut().expect("one came last").refusal();
    assert_eq!(refused.0, Code::E_NOT_ENOUGH_RESOURCES);
    assert!(refused.1.contains("descriptors"), "{refused:?}");
    let ran = home.run(&["status", "--json"]).exits(1);
    assert_eq!(ran.json()["error"]["code"], "MAPI_E_NOT_ENOUGH_RESOURCES", "{ran:?}");
    for _ in 0..5 {
        bystander.works(&home, &broker);
    }
    let turned_away = broker.log().iter().filter(|line| line["event"] == "refused").count();
    assert!((1..=10).contains(&turned_away), "{turned_away} lines");
    drop(crowd);
    before.come_back(&home, &broker);
    bystander.works(&home, &broker);
    bystander.leaves(&home);
}

/// One user cannot take all descriptors: others come in, and root and the broker's own user in any case.
///
/// design §8
#[test]
fn one_user_leaves_descriptors_to_the_others() {
    let home = opened("");
    if !root("another user") {
        return;
    }
    let broker = with_few_descriptors(&home);
    let mut bystander = Bystander::new(&home);
    bystander.works(&home, &broker);
    let before = Figures::of(&home, &broker);
    let (mut crowd, mut second) = (of_user(OTHER, &home, 300), of_user(OTHER - 1, &home, 1));
    let refused = crowd.last_mut().expect("one came last").refusal();
    assert_eq!(refused.0, Code::E_NOT_ENOUGH_RESOURCES);
    assert!(refused.1.contains("user_connections"), "{refused:?}");
    assert!(matches!(second[0].hello(), Answer::Welcome(_)), "another user has room");
    assert!(home.status()["limits"]["connections"]["used"].as_u64() >= Some(2));
    bystander.works(&home, &broker);
    // Many users together leave some to root, too.
    let crowds: Vec<_> = (1..20).map(|n| of_user(OTHER - 1 - n, &home, 30)).collect();
    home.status();
    bystander.works(&home, &broker);
    drop((crowd, second, crowds));
    before.come_back(&home, &broker);
    bystander.leaves(&home);
}

/// Connections that the kernel says another user has made.
fn of_user(uid: u32, home: &Home, count: usize) -> Vec<Stranger> {
    thread::scope(|scope| {
        let connect = || {
            let (user, group) = (Uid::from_raw(uid), Gid::from_raw(OTHER));
            // A thread's user and group are its own.
            set_thread_res_gid(group, group, group).expect("this is root");
            set_thread_res_uid(user, user, user).expect("this is root");
            (0..count).map(|_| Stranger::connect(home)).collect()
        };
        scope.spawn(connect).join().expect("they connect")
    })
}
