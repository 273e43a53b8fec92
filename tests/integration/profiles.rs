//! Profiles: where mail goes, and what a profile is made of.

use std::os::unix::fs::PermissionsExt;

use serde_json::json;

use crate::harness::{Home, Maildir, Ran, keys};

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

/// The Inbox shows what the profile's transport delivers for the user, unless the profile says otherwise.
///
/// design §7
#[test]
fn a_profile_shows_the_local_mail_of_its_user() {
    let home = Home::new();
    let shown = |name: &str| {
        let shown = home.run(&["profile", "show", name, "--json"]).ok().json();
        shown["mailboxes"].as_array().expect("a list").clone()
    };
    let [mailbox] = &shown("default")[..] else { panic!("one mailbox") };
    assert_eq!(
        keys(mailbox),
        "addresses fast_shutdown folders host kind name password path port security username watch"
    );
    let path = home.data().join("default/Maildir");
    assert_eq!(mailbox["path"], path.to_str().expect("text"));
    assert_eq!((&mailbox["folders"], &mailbox["watch"]), (&json!("inbox"), &json!("members")));
    let addresses = mailbox["addresses"].as_array().expect("a list");
    let user = addresses[0].as_str().expect("text");
    assert!(!user.contains('@') && addresses.contains(&json!(format!("{user}@localhost"))));

    home.profile("none", "[inbox]\nlocal = false\n");
    assert_eq!(shown("none"), Vec::<serde_json::Value>::new());
    home.profile("own", "[[mailbox]]\nname = \"mine\"\npath = \"~/Maildir\"\nwatch = \"always\"\n");
    let [mailbox] = &shown("own")[..] else { panic!("one mailbox") };
    assert_eq!(mailbox["path"], home.path("Maildir").to_str().expect("text"));
    assert_eq!((&mailbox["addresses"], &mailbox["watch"]), (&json!([]), &json!("always")));
    let text = home.run(&["profile", "show", "own"]).ok().output;
    let line = text.lines().find(|line| line.starts_with("mailbox")).expect("a line");
    assert!(line.contains("mine") && line.contains("all mail"), "{text}");
    home.profile("wrong", "[[mailbox]]\nkind = \"pop3\"\n");
    let error = home.run(&["profile", "show", "wrong", "--json"]).exits(1).json();
    assert_eq!(error["error"]["code"], "MAPI_E_UNCONFIGURED");
    let message = error["error"]["message"].as_str().expect("text");
    assert!(
        message.contains("line 2")
            && message.contains("unknown kind \"pop3\"; known: imap, maildir")
    );
    let added = home.run(&["profile", "add", "new", "--kind=maildir"]).ok().output;
    assert!(added.contains("the Inbox shows what comes into"), "{added}");
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

/// A profile that hands mail over to a server, from options alone: nobody is at a terminal. The file is the user's alone,
/// and mail for users of this host has somewhere to go.
///
/// design §8
#[test]
fn a_profile_for_a_server_is_made_from_options() {
    let home = Home::new();
    let options = [
        "profile",
        "add",
        "work",
        "--host",
        "smtp.example.org",
        "--security",
        "tls",
        "--username",
        "anna \"x\"",
        "--password-file",
        "secret",
        "--json",
    ];
    let made = home.run(&options).ok().json();
    assert_eq!(keys(&made), "file mailboxes profile transports");
    assert_eq!(made["transports"], json!(["smtp", "maildir"]));
    let file = home.path(".config/sundown/profiles/work.toml");
    assert_eq!(made["file"], file.to_str().expect("text"));
    let facts = std::fs::metadata(&file).expect("it is there");
    assert_eq!(facts.permissions().mode() & 0o777, 0o600);
    let shown = home.run(&["profile", "show", "work", "--json"]).ok().json();
    let server = &shown["transports"][0];
    assert_eq!(
        keys(server),
        "accept fast_shutdown host identity kind name password path port rewrite_from security senders username"
    );
    let expected = json!({
        "name": "smtp",
        "kind": "smtp",
        "path": null,
        "fast_shutdown": "supported",
        "accept": ["addresses elsewhere"],
        "senders": [],
        "identity": server["identity"],
        "rewrite_from": server["rewrite_from"],
        "host": "smtp.example.org",
        "port": 465,
        "security": "tls",
        "username": "anna \"x\"",
        "password": "file",
    });
    assert_eq!(server, &expected);
    let local = &shown["transports"][1];
    assert_eq!(keys(local), keys(server));
    assert_eq!(
        (&local["kind"], &local["host"], &local["password"]),
        (&json!("maildir"), &json!(null), &json!(null))
    );
    let text = home.run(&["profile", "show", "work"]).ok().output;
    let secret = home.path("secret").display().to_string();
    for word in ["smtp.example.org:465", "tls, user anna", "from the file", &secret] {
        assert!(text.contains(word), "{word} is not in\n{text}");
    }
    let again = home.run(&["profile", "add", "work", "--host", "other.example.org", "--json"]);
    assert_eq!(again.exits(1).json()["error"]["code"], "MAPI_E_COLLISION");
    assert!(std::fs::read_to_string(&file).expect("it is there").contains("smtp.example.org"));
}

/// The address of an account at a service that many people use is enough: the servers for both ways are known, and what its users must
/// know is said. Options say more than what is known.
///
/// design §8
#[test]
fn an_address_is_enough_for_a_known_service() {
    let home = Home::new();
    let password = ["--password-command", "pass show mail"];
    let add = ["profile", "add", "mail", "anna@gmail.com"];
    let made = home.run(&[&add[..], &password].concat()).ok();
    for word in ["mail goes to smtp.gmail.com:465\n", "mail comes from imap.gmail.com:993\n"] {
        assert!(made.output.contains(word), "{word} is not in\n{}", made.output);
    }
    assert!(made.errors.contains("app password"), "{}", made.errors);
    let file = home.path(".config/sundown/profiles/mail.toml");
    let text = std::fs::read_to_string(file).expect("it is there");
    let expected = "[[mailbox]]\nkind = \"imap\"\nhost = \"imap.gmail.com\"\nport = 993\nsecurity = \"tls\"\n\
                    username = \"anna@gmail.com\"\npassword_command = \"pass show mail\"\n";
    assert!(text.contains(expected), "{text}");
    let shown = home.run(&["profile", "show", "mail", "--json"]).ok().json();
    assert_eq!(shown["identity"], "anna@gmail.com");
    assert_eq!(shown["transports"][0]["rewrite_from"], "always");
    assert_eq!(shown["mailboxes"].as_array().map(Vec::len), Some(1));
    let mailbox = &shown["mailboxes"][0];
    let login = ["host", "port", "security", "username", "password"].map(|key| &mailbox[key]);
    let expected = [json!("imap.gmail.com"), json!(993), json!("tls"), json!("anna@gmail.com")];
    assert_eq!(login[..4], expected.iter().collect::<Vec<_>>());
    assert_eq!((login[4], &mailbox["folders"]), (&json!("command"), &json!(null)));
    let text = home.run(&["profile", "show", "mail"]).ok().output;
    let line = "imap: tls, user anna@gmail.com, password from a command\n";
    assert!(text.contains(line), "{text}");

    let shown = |name: &str, address: &str, more: &[&str]| {
        home.run(&[&["profile", "add", name, address], &password[..], more].concat()).ok();
        home.run(&["profile", "show", name, "--json"]).ok().json()
    };
    let sends = shown("sends", "anna@gmail.com", &["--no-imap", "--no-local"]);
    assert_eq!(sends["mailboxes"], json!([]));
    let own = ["--imap-host=localhost", "--imap-security=none", "--imap-username=an"];
    let own = shown("own", "anna@gmail.com", &own);
    assert_eq!(own["transports"][0]["host"], "smtp.gmail.com");
    let file = home.path(".config/sundown/profiles/own.toml");
    let text = std::fs::read_to_string(file).expect("it is there");
    assert!(
        text.contains("host = \"localhost\"\nsecurity = \"none\"\nusername = \"an\"\n"),
        "{text}"
    );
    let token = shown("token", "anna@outlook.com", &[]);
    assert_eq!(token["transports"][0]["security"], "starttls");
    let file = home.path(".config/sundown/profiles/token.toml");
    let text = std::fs::read_to_string(file).expect("it is there");
    assert_eq!(text.matches("auth = \"xoauth2\"").count(), 2, "{text}");
}

/// Who sends what names no sender: as said, or who logs on to the server, or the user at this host.
///
/// design §8
#[test]
fn a_profile_knows_its_user() {
    let home = Home::new();
    let login = "--username=anna@example.org";
    let cases: [(&str, &[&str], &str); 3] = [
        ("login", &["--host=h.example.org", login, "--password-env=P"], "anna@example.org"),
        ("said", &["--host=h.example.org", "--identity=bo@example.org"], "bo@example.org"),
        ("local", &["--kind=maildir", "--identity=bo"], "bo"),
    ];
    let shown = |name: &str, options: &[&str]| {
        home.run(&[&["profile", "add", name], options].concat()).ok();
        home.run(&["profile", "show", name, "--json"]).ok().json()["identity"].clone()
    };
    for (name, options, identity) in cases {
        assert_eq!(shown(name, options), identity, "{name}");
    }
    // A login with an @ need not be an address.
    let none = shown("none", &["--host=h.example.org"]);
    let odd = ["--host=h.example.org", "--username=EXAMPLE\\anna@lan", "--password-env=P"];
    assert_eq!(shown("odd", &odd), none);
}

/// The local transport can be left out or put elsewhere, and people are told of it.
///
/// design §8
#[test]
fn mail_for_this_host_has_somewhere_to_go() {
    let home = Home::new();
    let add = |name: &str, options: &[&str]| {
        let host = ["profile", "add", name, "--host", "smtp.example.org"];
        home.run(&[&host, options].concat()).ok().output
    };
    let said = add("plain", &[]);
    let maildir = home.data().join("plain/Maildir").display().to_string();
    for word in ["--no-local", "smtp.example.org:587", &maildir, "sundown profile check plain"] {
        assert!(said.contains(word), "{word} is not in\n{said}");
    }
    let mail = home.path("Mail").display().to_string();
    assert!(add("elsewhere", &["--maildir", &mail]).contains(&mail));
    assert!(!add("alone", &["--no-local"]).contains("Maildir"));
    assert!(!add("all", &["--accept", "*"]).contains("Maildir"));
    let transports = |name: &str| {
        let shown = home.run(&["profile", "show", name, "--json"]).ok().json();
        shown["transports"].as_array().map(Vec::len)
    };
    let counts = ["plain", "elsewhere", "alone", "all"].map(transports);
    assert_eq!(counts, [Some(2), Some(2), Some(1), Some(1)]);
    // Who has a Maildir there is a user: a word that is none is not delivered to nobody.
    for (name, options) in
        [("here", &[][..]), ("every", &["--accept=*"]), ("lan", &["--accept=lan"])]
    {
        home.run(&[&["profile", "add", name, "--kind=maildir"], options].concat()).ok();
    }
    let names = ["plain", "elsewhere", "alone", "all", "here", "every", "lan"];
    let users = names.map(|name| {
        home.run(&["profile", "show", name, "--json"]).ok().json()["local_users"].clone()
    });
    let (system, any) = (json!("system"), json!(null));
    assert_eq!(users, [&system, &system, &any, &any, &system, &system, &any].map(Clone::clone));
}

/// What is missing or does not go together is named by its option; nothing is left behind, and nobody is asked.
///
/// design §8
#[test]
fn what_a_new_profile_lacks_is_named() {
    let home = Home::new();
    let host = "--host=smtp.example.org";
    let cases: &[(&[&str], &str, &str)] = &[
        (&["--kind=smtp"], "MAPI_E_INVALID_PARAMETER", "--host"),
        (&["--port=25"], "MAPI_E_INVALID_PARAMETER", "--host"),
        (&[host, "--username=me"], "MAPI_E_INVALID_PARAMETER", "--password-command"),
        (&[host, "--password-env=X"], "MAPI_E_INVALID_PARAMETER", "--username"),
        (&[host, "--auth=plain"], "MAPI_E_INVALID_PARAMETER", "--username"),
        (&[host, "--no-local", "--maildir=m"], "MAPI_E_INVALID_PARAMETER", "--maildir"),
        (&["anna"], "MAPI_E_INVALID_PARAMETER", "mail address"),
        (&["anna@gmail.com"], "MAPI_E_INVALID_PARAMETER", "--password-command"),
        (&["anna@gmail.com", "--kind=maildir"], "MAPI_E_INVALID_PARAMETER", "ADDRESS"),
        (&["anna@proton.me", "--password-env=X"], "MAPI_E_INVALID_PARAMETER", "Bridge"),
        (&[host, "--imap-host=h"], "MAPI_E_INVALID_PARAMETER", "--username"),
        (&[host, "--imap-port=993"], "MAPI_E_INVALID_PARAMETER", "--imap-host"),
        (&["--kind=maildir", host], "MAPI_E_INVALID_PARAMETER", "--host"),
        (&[host, "--security=none"], "MAPI_E_UNCONFIGURED", "encrypted"),
        (&["--host=a b"], "MAPI_E_UNCONFIGURED", "host"),
        (&[host, "--accept=a b"], "MAPI_E_UNCONFIGURED", "accept"),
    ];
    for (options, code, word) in cases {
        let ran = home.run(&[&["profile", "add", "x", "--json"], *options].concat());
        let error = ran.exits(1).json()["error"].clone();
        assert_eq!(error["code"], *code, "{options:?}");
        assert!(error["message"].as_str().is_some_and(|m| m.contains(word)), "{error}");
    }
    let wrong = ["--port=0", "--security=ssl", "--kind=imap", "--imap-security=opportunistic"];
    for options in wrong.map(|option| [option]) {
        home.run(&[&["profile", "add", "x"][..], &options].concat()).exits(2);
    }
    let both = ["profile", "add", "x", host, "--password-env=X", "--password-command=y"];
    home.run(&both).exits(2);
    assert_eq!(home.run(&["profile", "list", "--json"]).ok().json(), json!(["default"]));
    assert!(!home.path(".config/sundown/profiles/x.toml").exists());
}

/// A command line may have a secret in it. It is in the file, and in nothing that is said about it.
///
/// design §8
#[test]
fn no_output_has_the_command_that_prints_a_password() {
    let home = Home::new();
    let secret = "echo hunter2";
    let host = ["--host", "smtp.example.org", "--username", "me", "--password-command", secret];
    let mut said = vec![home.run(&[&["profile", "add", "work"], &host[..]].concat()).ok()];
    let refused = ["--security", "none"];
    said.push(home.run(&[&["profile", "add", "x"], &host[..], &refused].concat()).exits(1));
    said.push(home.run(&["profile", "add", "y", "--password-command", secret]).exits(1));
    for command in [&["list"][..], &["show", "work"], &["show", "work", "--json"]] {
        said.push(home.run(&[&["profile"], command].concat()).ok());
    }
    let _broker = home.serve();
    said.push(home.run(&["profile", "check", "work"]));
    said.push(home.run(&["profile", "check", "work", "--json"]));
    for Ran { output, errors, .. } in &said {
        assert!(!output.contains("hunter2") && !errors.contains("hunter2"), "{output}{errors}");
    }
    assert!(said[3].output.contains("work") && said[4].output.contains("from a command"));
    assert_eq!(said[5].json()["transports"][0]["password"], "command");
    let file = home.path(".config/sundown/profiles/work.toml");
    assert!(std::fs::read_to_string(file).expect("it is there").contains(secret));
}

/// Without options a new profile is what it was before there were servers: a Maildir for addresses of this host.
///
/// design §8
#[test]
fn a_profile_without_options_is_a_maildir() {
    let home = Home::new();
    let made = home.run(&["profile", "add", "here", "--json"]).ok().json();
    assert_eq!(made["transports"], json!(["maildir"]));
    let lan =
        ["profile", "add", "lan", "--accept", "*.lan", "--accept", "lan", "--maildir", "in \"it\""];
    home.run(&lan).ok();
    let shown = home.run(&["profile", "show", "lan", "--json"]).ok().json();
    assert_eq!(shown["transports"][0]["accept"], json!(["*.lan", "lan"]));
    assert_eq!(shown["transports"][0]["path"], home.path("in \"it\"").to_str().expect("text"));
    let names = home.run(&["profile", "list", "--json"]).ok().json();
    assert_eq!(names, json!(["default", "here", "lan"]));
    home.profile("odd", "[[");
    let list = home.run(&["profile", "list", "--profile", "lan"]).ok().output;
    let row = |name: &str| {
        let line = list.lines().find(|line| line.starts_with(name)).unwrap_or_default();
        line.split_whitespace().map(str::to_owned).collect::<Vec<_>>()
    };
    assert_eq!(row("here"), ["here", "maildir"], "{list}");
    assert_eq!(row("lan"), ["lan", "maildir", "*"], "{list}");
    assert!(row("odd").contains(&"mistake".to_owned()), "{list}");
}

/// A profile that nobody uses is removed at once; its data stays. What cannot be removed is said.
///
/// LOGON-17, design §8
#[test]
fn a_profile_is_removed() {
    let home = Home::new();
    let file = home.profile("work", "");
    let _broker = home.serve();
    home.run_with(&["send", "--profile", "work", "--to", "anna", "--wait"], "hi\n").ok();
    home.status_until("nobody uses it", |status| status["sessions"] == json!([]));
    let removed = home.run(&["profile", "remove", "work", "--json"]).ok().json();
    assert_eq!(removed, json!({ "profile": "work", "deferred": false }));
    assert!(!file.exists());
    assert!(home.data().join("work/store.db").exists());
    for name in ["work", "default", "nobody"] {
        let error = home.run(&["profile", "remove", name, "--json"]).exits(1).json();
        assert_eq!(error["error"]["code"], "MAPI_E_NOT_FOUND", "{name}");
    }
    let error = home.run(&["profile", "remove", "../x", "--json"]).exits(1).json();
    assert_eq!(error["error"]["code"], "MAPI_E_INVALID_PARAMETER");
}

/// One in use is removed when its last session has ended; until then nobody logs on to it.
///
/// LOGON-17, INSTALL-11
#[test]
fn a_profile_in_use_goes_when_it_is_free() {
    let home = Home::new();
    let file = home.profile("work", "");
    let broker = home.serve();
    let mut shell = home.shell();
    shell.ok("logon profile=work");
    let removed = home.run(&["profile", "remove", "work", "--json"]).ok().json();
    assert_eq!(removed, json!({ "profile": "work", "deferred": true }));
    assert!(file.exists());
    shell.fails("logon profile=work", "MAPI_E_PROFILE_DELETED");
    shell.ok("logoff session=1");
    broker.until("its end", || !file.exists());
    shell.fails("logon profile=work", "MAPI_E_NOT_FOUND");
}

/// A session keeps the profile that it was started with; the next one reads it again.
///
/// LOGON-18, INSTALL-4, design §7
#[test]
fn a_profile_is_read_again_by_the_next_session() {
    let home = Home::new();
    home.profile("work", "");
    let _broker = home.serve();
    let mut shell = home.shell();
    shell.ok("logon profile=work");
    home.profile("work", "[[transport]]\naccept = [\"*\"]\n");
    let far = home.write("far.eml", "To: far@example.org\n\n");
    let submit = |session: u32| format!("submit session={session} file={}", far.display());
    shell.fails(&submit(1), "MAPI_E_UNCONFIGURED");
    shell.ok("logoff session=1");
    home.status_until("its end", |status| status["sessions"] == json!([]));
    shell.ok("logon profile=work");
    shell.ok(&submit(2));
}

/// A user who is in no list is asked of the system's directory, beside the loop: what that says is told, and others log on meanwhile.
///
/// design §7
#[test]
fn users_may_be_known_elsewhere_only() {
    let home = Home::new();
    home.profile("work", "[access]\nsubmit = [\"root\", \"no-such-user\"]\n");
    let _broker = home.serve();
    let mut shell = home.shell();
    for _ in 0..2 {
        let error = shell.fails("logon profile=work", "MAPI_E_UNCONFIGURED");
        let message = error["message"].as_str().expect("text");
        for word in ["access.submit[1]", "no-such-user", "directory service"] {
            assert!(message.contains(word), "{word} is not in {message}");
        }
    }
    shell.ok("logon");
    home.profile("work", "[access]\nsubmit = [\"root\"]\n");
    shell.ok("logon profile=work");
    let checked = home.run(&["profile", "check", "work"]);
    checked.ok();
}

/// `check` has a row for each provider, and fails when one of them does.
///
/// design §8
#[test]
fn check_says_of_each_provider_whether_it_works() {
    let home = Home::new();
    let _broker = home.serve();
    let checked = home.run(&["profile", "check", "default", "--json"]).ok().json();
    assert_eq!(
        (keys(&checked).as_str(), &checked["works"]),
        ("profile providers works", &json!(true))
    );
    let providers = checked["providers"].as_array().expect("a list");
    assert_eq!(providers.len(), 4);
    for provider in providers {
        assert_eq!(keys(provider), "error kind name status works");
        assert_eq!((&provider["works"], &provider["error"]), (&json!(true), &json!(null)));
    }
    let text = home.run(&["profile", "check", "default"]).ok().output;
    assert!(text.contains("everything works") && text.contains("maildir"), "{text}");
    let error = home.run(&["profile", "check", "nobody", "--json"]).exits(1).json();
    assert_eq!(error["error"]["code"], "MAPI_E_NOT_FOUND");
}

/// `provider` says which kinds there are and what may be said to them.
///
/// design §6, §8
#[test]
fn the_kinds_of_providers_are_listed() {
    let home = Home::new();
    let kinds = home.run(&["provider", "list", "--json"]).ok().json();
    let kinds = kinds.as_array().expect("a list");
    let names: Vec<_> = kinds.iter().map(|k| (k["type"].as_str(), k["kind"].as_str())).collect();
    let expected = [
        ("store", "sqlite"),
        ("transport", "maildir"),
        ("transport", "smtp"),
        ("transport", "lmtp"),
        ("transport", "pipe"),
        ("mailbox", "maildir"),
        ("mailbox", "imap"),
        ("address-book", "sqlite"),
    ];
    assert_eq!(names, expected.map(|(of_type, kind)| (Some(of_type), Some(kind))));
    for kind in kinds {
        assert_eq!(keys(kind), "about keys kind type");
        for key in kind["keys"].as_array().expect("a list") {
            assert_eq!(keys(key), "default key meaning");
        }
    }
    let list = home.run(&["provider", "list"]).ok().output;
    assert!(list.contains("address book") && list.contains("smtp"), "{list}");
    let page = home.run(&["provider", "show", "smtp"]).ok().output;
    assert!(page.contains("password_command") && page.contains("xoauth2"), "{page}");
    let both = home.run(&["provider", "show", "sqlite", "--json"]).ok().json();
    assert_eq!(both.as_array().map(Vec::len), Some(2));
    let both = home.run(&["provider", "show", "maildir"]).ok().output;
    assert!(
        both.contains("mailbox maildir: Shows") && both.contains("transport maildir"),
        "{both}"
    );
    let error = home.run(&["provider", "show", "pigeon", "--json"]).exits(1).json();
    assert_eq!(error["error"]["code"], "MAPI_E_NOT_FOUND");
    assert!(error["error"]["message"].as_str().is_some_and(|m| m.contains("maildir, pipe, smtp")));
}

/// The settings of msmtp become a profile: an account for each, passwords in files of their own, and what has no counterpart is named.
///
/// design §8
#[test]
fn settings_of_msmtp_are_taken_over() {
    let home = Home::new();
    let file = home.write(
        "msmtprc",
        "defaults\nauth on\ntls on\nlogfile ~/.msmtp.log\n\
         account work\nhost smtp.work.example\nport 465\ntls_starttls off\nfrom *@work.example\nuser anna\n\
         passwordeval pass show work\n\
         account home\nhost smtp.home.example\nport 587\nfrom anna@home.example\nuser anna@home.example\npassword hunter2\n\
         account default : home\naliases /etc/aliases.none\n",
    );
    let file = file.to_str().expect("text");
    let refused = home.run(&["profile", "import", file]).exits(1);
    assert!(refused.errors.contains("/etc/aliases.none"), "{refused:?}");
    assert!(!home.path(".config/sundown/profiles/default.home.password").exists());
    let text = std::fs::read_to_string(file).expect("it is there");
    let text = text.replace(
        "/etc/aliases.none",
        home.write("aliases", "root: anna@home.example\n").to_str().expect("text"),
    );
    home.write("msmtprc", text);
    let made = home.run(&["profile", "import", file]).ok();
    for words in ["made ", "default.home.password", "logfile", "profile check default"] {
        assert!(made.output.contains(words), "{made:?}");
    }
    assert!(!made.output.contains("hunter2"), "{made:?}");
    let profile = home.path(".config/sundown/profiles/default.toml");
    let profile = std::fs::read_to_string(profile).expect("it is there");
    for line in [
        "identity = \"anna@home.example\"",
        "senders = [\"*@work.example\"]",
        "security = \"tls\"",
        "password_command = \"pass show work\"",
        "port = 587",
    ] {
        assert!(profile.lines().any(|found| found == line), "{line} is not in\n{profile}");
    }
    assert!(!profile.contains("hunter2"));
    let password = home.path(".config/sundown/profiles/default.home.password");
    assert_eq!(std::fs::read_to_string(&password).expect("it is there"), "hunter2\n");
    let mode = std::fs::metadata(&password).expect("it is there").permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    let again = home.run(&["profile", "import", file]).exits(1);
    assert!(again.errors.contains("such a profile already"), "{again:?}");
}

/// What is no settings file is not waited for, and what would lose a password or an account makes no profile.
///
/// design §8
#[test]
fn settings_that_cannot_be_taken_over_leave_nothing() {
    let home = Home::new();
    let pipe = home.path("pipe");
    rustix::fs::mknodat(rustix::fs::CWD, &pipe, rustix::fs::FileType::Fifo, 0o600.into(), 0)
        .expect("made");
    let import = |from: &str| home.run(&["profile", "import", from]);
    for (from, words) in [
        (pipe.to_str().expect("text").to_owned(), "a pipe"),
        ("/dev/zero".to_owned(), "longer than"),
    ] {
        let refused = import(&from);
        assert!(!refused.status.success() && refused.errors.contains(words), "{refused:?}");
    }
    let account = "host h.example\nauth on\ntls on\nuser u\npassword hunter2\n";
    let two = home.write("two", format!("account a/b\n{account}account a-b\n{account}"));
    let refused = import(two.to_str().expect("text")).exits(1);
    assert!(refused.errors.contains("come to the name \"a-b\""), "{refused:?}");
    let one = home.write("one", format!("account a\n{account}"));
    home.write(".config/sundown/profiles/default.a.password", "older\n");
    let refused = import(one.to_str().expect("text")).exits(1);
    assert!(refused.errors.contains("is there already, with a password"), "{refused:?}");
    let left = std::fs::read_dir(home.path(".config/sundown/profiles")).expect("it is there");
    assert_eq!(left.count(), 1);
}

/// The settings of nullmailer become a profile that sends: its server gets mail of root for the administrator, from the address that is
/// always sent from.
///
/// design §8
#[test]
fn settings_of_nullmailer_are_taken_over() {
    let home = Home::new();
    home.write("nullmailer/remotes", "127.0.0.1 smtp --port=2525\n");
    home.write("nullmailer/adminaddr", "anna@example.org\n");
    home.write("nullmailer/defaultdomain", "example.net\n");
    home.write("nullmailer/maxpause", "600\n");
    let folder = home.path("nullmailer");
    let made = home.bare(&["--json", "profile", "import"]);
    let mut made = made;
    made.arg(&folder).args(["--name", "relay"]);
    let made = crate::harness::run(made, "").ok().json();
    assert_eq!(made["transports"], json!(["relay", "maildir"]));
    assert_eq!(made["passwords"], json!([]));
    let shown = home.run(&["profile", "show", "relay", "--json"]).ok().json();
    assert_eq!(shown["transports"][0]["port"], 2525, "{shown}");
    home.write("nullmailer/remotes", "smtp.example.org smtp --user=anna --pass=x\n");
    let mut open = home.bare(&["profile", "import"]);
    open.arg(&folder).args(["--name", "open"]);
    let open = crate::harness::run(open, "");
    assert!(!open.status.success() && open.errors.contains("in the open"), "{open:?}");
    assert!(!home.path(".config/sundown/profiles/open.toml").exists());
}
