//! Profiles: where mail goes, and what a profile is made of.

use serde_json::json;

use crate::harness::{Home, Maildir};

/// Without any settings there is the profile `default`: its store and a Maildir with the three folders are in the data
/// directory, and addresses of this host are delivered there.
///
/// design §3.20, §7, §8
#[test]
fn without_settings_mail_for_this_host_is_delivered() {
    let home = Home::new();
    let broker = home.serve();
    let mut shell = home.shell();
    assert_eq!(shell.ok("logon")["profile"], "default");
    let host = rustix::system::uname().nodename().to_string_lossy().into_owned();
    let text =
        format!("To: anna, bo@localhost, Cleo@LOCALHOST, dora@{host}\nSubject: here\n\nbody\n");
    shell.submit(1, &home.write("here.eml", text));
    broker.until("the message", || home.maildir("default").count() == 1);
    let delivered = home.maildir("default").only();
    assert_eq!(delivered.field("Delivered-To").len(), 4, "{delivered:?}");
    let data = home.data().join("default");
    assert!(data.join("store.db").is_file());
    for folder in ["cur", "new", "tmp"] {
        assert!(data.join("Maildir").join(folder).is_dir(), "{folder}");
    }
}

/// A profile may take everything, and have its Maildir elsewhere.
///
/// design §3.20, §7
#[test]
fn a_profile_may_take_everything() {
    let home = Home::new();
    home.profile("all", "[[transport]]\nkind = \"maildir\"\npath = \"~/Mail\"\naccept = [\"*\"]\n");
    let broker = home.serve();
    let mut shell = home.shell();
    assert_eq!(shell.ok("logon profile=all")["profile"], "all");
    shell.submit(1, &home.write("far.eml", "To: far@example.org\nSubject: far\n\nbody\n"));
    let maildir = Maildir(home.path("Mail"));
    broker.until("the message", || maildir.count() == 1);
    assert_eq!(maildir.only().field("Delivered-To"), ["far@example.org"]);
}

/// Several transports are tried in their order; a message with recipients of two goes out through both.
///
/// ORDER-6, QUEUE-16, design §7
#[test]
fn transports_are_tried_in_their_order() {
    let home = Home::new();
    home.profile(
        "default",
        "[[transport]]\nname = \"lan\"\npath = \"lan\"\naccept = [\"*.lan\", \"printer.example.org\"]\n\
         [[transport]]\nname = \"world\"\npath = \"world\"\naccept = [\"*\"]\n",
    );
    let broker = home.serve();
    let mut shell = home.shell();
    shell.ok("logon");
    let text =
        "To: a@x.lan, b@example.org\nCc: c@printer.example.org, d@y.x.lan\nSubject: both\n\nbody\n";
    let entry = shell.submit(1, &home.write("both.eml", text));
    let (lan, world) =
        (Maildir(home.data().join("default/lan")), Maildir(home.data().join("default/world")));
    broker.until("both messages", || lan.count() == 1 && world.count() == 1);
    shell.ok("logoff session=1 drain=60");
    assert_eq!(lan.only().field("Delivered-To"), ["a@x.lan", "c@printer.example.org", "d@y.x.lan"]);
    assert_eq!(world.only().field("Delivered-To"), ["b@example.org"]);
    assert_eq!(lan.only().field("Message-ID"), world.only().field("Message-ID"));
    let shown = home.run(&["queue", "show", &entry, "--json"]).ok().json();
    assert_eq!(shown["state"], "sent");
}

/// A profile may have several stores, each with folders of its own; the first is the default one. A store is a queue, and
/// each is worked off.
///
/// SHARE-9, design §6
#[test]
fn a_profile_may_have_several_stores() {
    let home = Home::new();
    home.profile("default", "[[store]]\nname = \"main\"\n[[store]]\nname = \"archive\"\n");
    let broker = home.serve();
    let mapi = crate::library::initialize(&home);
    let session = mapi.logon(sundown_client::Logon::shared()).expect("it logs on");
    let message = |subject: &str| {
        let text = format!("To: anna@localhost\nSubject: {subject}\n\nbody\n");
        sundown_client::Message::parse(text)
    };
    let first = session.submit(&message("first")).expect("submitted").entry;
    let archive = session.store(1).expect("there is a second store");
    let second =
        archive.outbox().expect("an outbox").submit(&message("second")).expect("submitted").entry;
    assert_ne!(first.store, second.store);
    broker.until("both messages", || home.maildir("default").count() == 2);
    assert!(
        session.store(2).expect_err("there is no third").code()
            == sundown_client::Code::E_NOT_FOUND
    );
    let subjects = home.maildir("default").tally("Subject");
    assert_eq!(json!(subjects), json!({ "first": 1, "second": 1 }));
    for entry in [first, second] {
        let bytes = session.read(entry).expect("it can be read");
        assert!(String::from_utf8_lossy(&bytes).contains("body"));
    }
    assert!(home.data().join("default/archive.db").is_file());
}

/// Two profiles are two accounts: two shared sessions beside each other, two queues, two Maildirs.
///
/// SHARE-1, design §2, §3.1
#[test]
fn profiles_do_not_mix() {
    let home = Home::new();
    home.profile("work", "");
    let broker = home.serve();
    let (mut at_home, mut at_work) = (home.shell(), home.shell());
    at_home.ok("logon");
    assert_eq!(at_work.ok("logon profile=work")["profile"], "work");
    assert_eq!(home.status()["sessions"].as_array().map(Vec::len), Some(2));
    at_work.submit(1, &home.message("to-work"));
    broker.until("the message", || home.maildir("work").count() == 1);
    assert_eq!(home.maildir("default").count(), 0);
    at_work.ok("logoff session=1 shared");
    at_home.settle();
    assert!(at_home.events(|_| true).is_empty());
    at_home.ok("open session=1 what=inbox");
}

/// Who logs on by the profile's name joins its shared session like one who names none, and never another's.
///
/// SHARE-1, SHARE-5, design §3.1
#[test]
fn one_shared_session_for_each_profile() {
    let home = Home::new();
    let _broker = home.serve();
    let mut shells: Vec<_> = (0..3).map(|_| home.shell()).collect();
    for (shell, how) in shells.iter_mut().zip(["logon", "logon profile=default", "logon private"]) {
        shell.ok(how);
    }
    let sessions = home.status()["sessions"].clone();
    let counts: Vec<_> = sessions
        .as_array()
        .expect("sessions")
        .iter()
        .map(|s| (s["shared"].as_bool(), s["members"].as_array().map(Vec::len)))
        .collect();
    assert_eq!(counts, [(Some(true), Some(2)), (Some(false), Some(1))]);
}
