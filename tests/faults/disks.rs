//! One profile's store is on a disk that is full, or that nobody may write to. The bystander's is on another.

use std::fs;
use std::io::Write;
use std::path::PathBuf;
use std::process::{Command, Stdio};

use crate::bystander::{Bystander, Figures};
use crate::harness::{Broker, Copies, Home};
use crate::{root, skipped};

/// Where the small disk is, in its home.
fn place(home: &Home) -> PathBuf {
    home.path("small")
}

/// A broker that sees a small disk there, mounted with these options, and a profile `small` whose store is on it.
fn serve(home: &Home, options: &str) -> Option<Broker> {
    fs::create_dir(place(home)).expect("made");
    let here = |command: &mut Command, options: &str| {
        command.args(["-m", "/bin/sh", "-c"]);
        command.arg(format!("mount -t tmpfs -o {options} none \"$0\" && exec \"$@\""));
        command.arg(place(home)).env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin");
    };
    let mut tried = Command::new("unshare");
    here(&mut tried, options);
    // Some kernels and containers forbid it, also to root.
    let mounts = tried.arg("true").stderr(Stdio::null()).status().is_ok_and(|s| s.success());
    if !mounts {
        skipped("a small disk cannot be mounted here");
        return None;
    }
    let store = place(home).join("store");
    home.profile(
        "small",
        &format!("[[store]]\nkind = \"sqlite\"\npath = \"{}\"\n", store.display()),
    );
    let serve = home.command(&["serve", "--log-format", "json"]);
    let mut command = Command::new("unshare");
    command.env_clear().current_dir(home.as_ref());
    here(&mut command, options);
    command.arg(serve.get_program()).args(serve.get_args());
    command.envs(serve.get_envs().filter_map(|(name, value)| Some((name, value?))));
    let broker = Broker::spawn(command);
    broker.log_line("the broker is ready", |line| line["message"] == "ready");
    Some(broker)
}

/// The disk as the broker sees it.
fn inside(home: &Home, broker: &Broker, name: &str) -> PathBuf {
    let path = place(home).join(name);
    let path = path.strip_prefix("/").expect("it begins there");
    PathBuf::from(format!("/proc/{}/root", broker.pid())).join(path)
}

/// A full disk is its profile's trouble: who submits there is told, who has a store elsewhere works, and with room everything
/// is as before.
///
/// design §3.8, §10
#[test]
fn a_full_disk_costs_only_its_profile() {
    if !root("a small disk") {
        return;
    }
    let home = Home::new();
    let Some(broker) = serve(&home, "size=16m,mode=700") else { return };
    let mut bystander = Bystander::new(&home);
    let mut owner = home.shell();
    owner.ok("logon profile=small no-mail");
    owner.submit(1, &home.message("before"));
    bystander.works(&home, &broker);
    let before = Figures::of(&home, &broker);
    let filler = inside(&home, &broker, "filler");
    fill(&filler);
    let body = "0123456789\n".repeat(50_000);
    let big = home.write("big.eml", format!("To: anna@localhost\nSubject: big\n\n{body}"));
    for _ in 0..3 {
        let reply = owner.ask(&format!("submit session=1 file={}", big.display()));
        let code = reply["error"]["code"].as_str().unwrap_or_default();
        assert!(["MAPI_E_NOT_ENOUGH_DISK", "MAPI_E_DISK_ERROR"].contains(&code), "{reply}");
        bystander.works(&home, &broker);
    }
    fs::remove_file(filler).expect("removed");
    owner.submit(1, &big);
    bystander.works(&home, &broker);
    before.come_back(&home, &broker);
    owner.ok("logoff session=1");
    bystander.leaves(&home);
}

/// A file that takes all the room there is.
fn fill(path: &PathBuf) {
    let fill = fs::File::create(path).expect("there is room");
    for size in [64 << 10, 1] {
        let block = vec![0; size];
        while (&fill).write_all(&block).is_ok() {}
    }
}

/// Whoever handed mail over deferred and wants to leave while the disk is full is told that it cannot be kept, in whatever way
/// it leaves and however often; nothing is torn down. With room it leaves, and the mail is there, once.
///
/// SEED-8, SEED-2, design §3.4, §3.8, §3.16
#[test]
fn nobody_leaves_behind_what_a_full_disk_did_not_take() {
    if !root("a small disk") {
        return;
    }
    let home = Home::new();
    let Some(broker) = serve(&home, "size=16m,mode=700") else { return };
    let filler = inside(&home, &broker, "filler");
    let ways = [
        "logoff a",
        "log-everything-off a",
        "flush a",
        "uninitialize a",
        "shut-down a",
        "shut-down-for-good a",
        "do a",
    ];
    for way in ways {
        let subject = way.replace(' ', "-");
        let mut copies = Copies::start(&home, 1);
        copies.ok(0, &format!("initialize a {}", home.socket().display()));
        copies.ok(0, "logon-without-mail a small");
        if way == "do a" {
            copies.ok(0, "query a");
        }
        fill(&filler);
        copies.ok(0, &format!("defer a {subject} 20000"));
        for _ in 0..3 {
            let failed = copies.ask(0, way);
            let code = failed.split(' ').next().unwrap_or_default();
            assert!(
                ["MAPI_E_NOT_ENOUGH_DISK", "MAPI_E_DISK_ERROR"].contains(&code),
                "{way}: {failed}"
            );
        }
        fs::remove_file(&filler).expect("removed");
        copies.ok(0, way);
        let queue = home.run(&["queue", "list", "--profile", "small", "--json"]).ok().json();
        let rows = queue.as_array().expect("rows");
        let found = rows.iter().filter(|row| row["subject"] == subject.as_str()).count();
        assert_eq!(found, 1, "{way}: {queue}");
    }
}

/// A disk that may not be written to: its profile cannot be used, and says why; when it may be written to again the next
/// logon works. Others do not notice.
///
/// LOGON-11, design §3.8
#[test]
fn a_read_only_disk_costs_only_its_profile() {
    if !root("a read-only disk") {
        return;
    }
    let home = Home::new();
    let Some(broker) = serve(&home, "size=4m,mode=700,ro") else { return };
    let mut bystander = Bystander::new(&home);
    bystander.works(&home, &broker);
    let mut owner = home.shell();
    let failed = owner.ask("logon profile=small");
    assert_eq!(failed["ok"], false, "{failed}");
    let message = failed["error"]["message"].as_str().expect("words").to_lowercase();
    assert!(message.contains("read-only") || message.contains("readonly"), "{failed}");
    bystander.works(&home, &broker);
    let remounted = Command::new("nsenter")
        .args(["-t", &broker.pid().to_string(), "-m", "mount", "-o", "remount,rw"])
        .arg(place(&home))
        .status();
    assert!(remounted.is_ok_and(|status| status.success()), "it can be remounted");
    owner.ok("logon profile=small no-mail");
    owner.submit(1, &home.message("after"));
    owner.ok("logoff session=1");
    assert!(owner.end().success());
    bystander.works(&home, &broker);
    bystander.leaves(&home);
}
