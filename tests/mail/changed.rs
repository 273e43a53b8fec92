//! Profiles that are corrected while mail waits and sessions run: a wrong host, a wrong password, a mistake, other aliases.

use std::fs;
use std::os::unix::fs::PermissionsExt;

use serde_json::Value;

use crate::harness::{Home, Shell};
use crate::servers::{Act, Scripted};

/// It would be tried again when this test is long over.
const SLOW: &str = "[queue]\nretry_min = \"1h\"\n";

fn to(port: u16, more: &str) -> String {
    format!(
        "[[transport]]\nname = \"out\"\nkind = \"smtp\"\nhost = \"127.0.0.1\"\nport = {port}\nsecurity = \"none\"\n\
         connect_timeout = \"2s\"\naccept = [\"*\"]\n{more}\n"
    )
}

fn send(home: &Home, to: &str) -> String {
    let sent = home.run_with(&["send", "--json", "--to", to], "hi\n").ok().json();
    sent["entry"].as_str().expect("an entry").to_owned()
}

/// What `status` says of the transport, and of the version of the profile.
fn transport(home: &Home) -> (Value, Value) {
    let status = home.status();
    let session = &status["sessions"][0];
    let providers = session["providers"].as_array().expect("providers");
    let out = providers.iter().find(|provider| provider["name"] == "out").expect("it is there");
    (out.clone(), session["profile_version"].clone())
}

fn doctor(home: &Home, check: &str) -> Vec<String> {
    let Value::Array(found) = home.run(&["doctor", "--json"]).json() else { panic!("findings") };
    let of_it = found.iter().filter(|f| f["check"] == check && f["status"] != "ok");
    of_it.map(|f| f["message"].as_str().expect("text").to_owned()).collect()
}

/// The mail goes to the new host at once, by a member's session and by one that stays for its mail alone. `doctor` names what is wrong
/// before, and nothing afterwards.
///
/// design §3.18
#[test]
fn a_corrected_host_is_used() {
    for member in [false, true] {
        let home = Home::new();
        let server = Scripted::start(|_, _| None);
        home.profile("default", &(to(1, "") + SLOW));
        let _broker = home.serve();
        let mut shell: Option<Shell> = member.then(|| home.shell());
        if let Some(shell) = &mut shell {
            shell.ok("logon");
        }
        let entry = send(&home, "a@x.test");
        home.entry_until(&entry, "deferred");
        let (before, version) = transport(&home);
        assert_eq!(before["status"], "unreachable");
        assert_eq!((&before["last"]["worked"], &before["worked"]), (&false.into(), &Value::Null));
        let warned = doctor(&home, "provider");
        assert!(warned.iter().any(|w| w.contains("has not worked since")), "{warned:?}");
        home.profile("default", &(to(server.port(), "") + SLOW));
        let said = home.run(&["profile", "reload", "--json"]).ok().json();
        let said = &said["profiles"][0];
        assert_eq!((&said["result"], &said["sessions"]), (&"changed".into(), &1.into()), "{said}");
        home.entry_until(&entry, "sent");
        if member {
            let (after, newer) = transport(&home);
            assert_eq!(
                (&after["status"], &after["last"]["worked"]),
                (&"available".into(), &true.into())
            );
            assert!(newer["read"].as_u64() > version["read"].as_u64(), "{version} {newer}");
            assert_eq!(doctor(&home, "provider"), Vec::<String>::new());
        }
        assert_eq!(server.taken().len(), 1);
    }
}

/// Nobody says that the file was changed, and the next message uses it; so does what had waited.
#[test]
fn the_next_message_uses_the_changed_file() {
    let home = Home::new();
    let (first, second) = (Scripted::start(|_, _| None), Scripted::start(|_, _| None));
    home.profile("default", &(to(first.port(), "") + SLOW));
    let _broker = home.serve();
    let mut shell = home.shell();
    shell.ok("logon");
    let entry = send(&home, "a@x.test");
    home.entry_until(&entry, "sent");
    home.profile("default", &(to(second.port(), "") + SLOW));
    let entry = send(&home, "b@x.test");
    home.entry_until(&entry, "sent");
    assert_eq!((first.taken().len(), second.taken().len()), (1, 1));
}

/// A wrong password disables the transport; the corrected one is used by the session that runs, and no try is made with the old one.
#[test]
fn a_corrected_password_is_used() {
    let home = Home::new();
    let server = Scripted::start(|verb, line| match verb {
        "EHLO" => Some(Act::Say("250-x\r\n250 AUTH PLAIN\r\n".into())),
        // PLAIN: a user "u" with the password "right".
        "AUTH" if line.contains("AHUAcmlnaHQ=") => Some(Act::Say("235 ok\r\n".into())),
        "AUTH" => Some(Act::Say("535 5.7.8 credentials invalid\r\n".into())),
        _ => None,
    });
    let login = |word: &str| {
        let secret = home.write("secret", word);
        fs::set_permissions(&secret, fs::Permissions::from_mode(0o600)).expect("set");
        let more = format!(
            "plaintext = \"i-understand\"\nusername = \"u\"\npassword_file = \"{}\"\n# {word}",
            secret.display()
        );
        home.profile("default", &(to(server.port(), &more) + SLOW));
    };
    login("wrong");
    let _broker = home.serve();
    let mut shell = home.shell();
    shell.ok("logon");
    let entry = send(&home, "a@x.test");
    home.entry_with(&entry, "refused", |row| {
        row["last_error"].as_str().is_some_and(|why| why.contains("535"))
    });
    let (before, _) = transport(&home);
    assert!(before["last"]["text"].as_str().is_some_and(|why| why.contains("535")), "{before}");
    let warned = doctor(&home, "provider");
    assert!(warned.iter().any(|w| w.contains("535")), "{warned:?}");
    login("right");
    home.run(&["profile", "reload", "default"]).ok();
    home.entry_until(&entry, "sent");
    assert_eq!(server.taken().len(), 1);
}

/// A mistake is said where the user asks, and by `status` and `doctor`; mail goes on as before. SIGHUP does the same as the command.
#[test]
fn a_mistake_changes_nothing() {
    let home = Home::new();
    let server = Scripted::start(|_, _| None);
    home.profile("default", &to(server.port(), ""));
    let broker = home.serve();
    let mut shell = home.shell();
    shell.ok("logon");
    home.profile("default", &to(server.port(), "hst = \"x\""));
    broker.signal(rustix::process::Signal::HUP);
    let entry = send(&home, "a@x.test");
    home.entry_until(&entry, "sent");
    let (_, version) = transport(&home);
    assert!(version["note"].as_str().is_some_and(|note| note.contains("hst")), "{version}");
    let warned = doctor(&home, "profile");
    assert!(warned.iter().any(|w| w.contains("a session of profile default")), "{warned:?}");
    let said = home.run(&["profile", "reload", "default"]).exits(1);
    assert!(said.errors.contains("hst"), "{said:?}");
    let said = home.run(&["profile", "reload", "--json"]).exits(1).json();
    assert_eq!(said["profiles"][0]["result"], "refused", "{said}");
    home.profile("default", &to(server.port(), ""));
    home.run(&["profile", "reload"]).ok();
    let (_, version) = transport(&home);
    assert_eq!(version["note"], Value::Null);
}

/// Aliases are of the profile, and so is the file that it names for them.
#[test]
fn changed_aliases_are_used() {
    let home = Home::new();
    let server = Scripted::start(|_, _| None);
    let file = home.write("aliases", "root: one@x.test\n");
    let mail = format!("[mail]\naliases_file = \"{}\"\n", file.display());
    home.profile("default", &(to(server.port(), "") + &mail));
    let _broker = home.serve();
    let mut shell = home.shell();
    shell.ok("logon");
    let entry = send(&home, "root");
    home.entry_until(&entry, "sent");
    home.write("aliases", "root: other@x.test\n");
    let entry = send(&home, "root");
    home.entry_until(&entry, "sent");
    let to: Vec<_> = server.taken().into_iter().flat_map(|talk| talk.recipients).collect();
    assert_eq!(to, ["one@x.test", "other@x.test"]);
}
