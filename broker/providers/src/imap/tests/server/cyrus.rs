//! Cyrus, unpacked by `tests/imap-servers`. It asks a socket about passwords, as it would ask saslauthd.

use std::fs;
use std::io::{Read, Write};
use std::os::unix::net::{UnixListener, UnixStream};
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::Command;

use super::{fetched, give_to_nobody};

const SETTINGS: &str = "\
configdirectory: DIR/conf
defaultpartition: default
partition-default: DIR/spool
cyrus_user: nobody
cyrus_group: nogroup
servername: localhost
allowplaintext: yes
sasl_mech_list: PLAIN LOGIN
sasl_pwcheck_method: saslauthd
sasl_saslauthd_path: DIR/passwords
autocreate_quota: 0
autocreate_post: yes
autocreate_inbox_folders: Sent | Drafts | Trash
xlist-sent: Sent
xlist-drafts: Drafts
xlist-trash: Trash
unixhierarchysep: yes
altnamespace: yes
skiplist_unsafe: yes
idlesocket: DIR/idle
zoneinfo_dir: DIR/zones
";

const SERVICES: &str = "\
START {
}
SERVICES {
  imap cmd=\"BIN/imapd -C DIR/imapd.conf\" listen=\"127.0.0.1:PORT\" proto=\"tcp4\" prefork=1
}
EVENTS {
}
DAEMON {
  idled cmd=\"BIN/idled -C DIR/imapd.conf\"
}
";

/// Why it cannot be run here.
pub(super) fn missing() -> Option<&'static str> {
    let is_there = fetched("cyrus").join("usr/lib/cyrus/bin/master").exists();
    (!is_there).then_some("cyrus-imapd was not fetched: tests/imap-servers")
}

/// What starts one that has everything in one directory.
pub(super) fn command(path: &Path, port: u16) -> Command {
    let root = fetched("cyrus");
    let bin = root.join("usr/lib/cyrus/bin");
    for name in ["spool", "zones", "conf/db", "conf/proc", "conf/socket", "conf/log", "conf/lock"] {
        fs::create_dir_all(path.join(name)).expect("made");
    }
    for name in ["conf", "conf/db", "conf/proc", "conf/socket", "conf/log", "conf/lock", "spool"] {
        give_to_nobody(&path.join(name));
    }
    // It does not begin without a time zone.
    fs::write(path.join("zones/zones.tab"), "+513030 +0000731 UTC\n").expect("written");
    let fill = |text: &str| {
        text.replace("DIR", &path.display().to_string())
            .replace("BIN", &bin.display().to_string())
            .replace("PORT", &port.to_string())
    };
    fs::write(path.join("imapd.conf"), fill(SETTINGS)).expect("written");
    fs::write(path.join("cyrus.conf"), fill(SERVICES)).expect("written");
    give_to_nobody(path);
    answer_about_passwords(&path.join("passwords"));
    let mut command = Command::new(bin.join("master"));
    command.env("LD_LIBRARY_PATH", super::libraries(&root));
    // When it ends, it ends its whole process group.
    command.process_group(0);
    command.arg("-D").arg("-C").arg(path.join("imapd.conf"));
    command.arg("-M").arg(path.join("cyrus.conf")).arg("-p").arg(path.join("pid"));
    command
}

/// Every user has the password `secret`.
fn answer_about_passwords(path: &Path) {
    let listener = UnixListener::bind(path).expect("a socket");
    let everybody = std::os::unix::fs::PermissionsExt::from_mode(0o777);
    fs::set_permissions(path, everybody).expect("others may ask");
    // It ends with the tests.
    std::thread::spawn(move || {
        for mut stream in listener.incoming().flatten() {
            let _ = answer(&mut stream);
        }
    });
}

/// User, password, service and realm come with their lengths before them, and so does the answer.
fn answer(stream: &mut UnixStream) -> std::io::Result<()> {
    let mut words = Vec::new();
    for _ in 0..4 {
        let mut length = [0; 2];
        stream.read_exact(&mut length)?;
        let mut word = vec![0; u16::from_be_bytes(length).into()];
        stream.read_exact(&mut word)?;
        words.push(word);
    }
    let answer = if words.get(1).is_some_and(|word| word == b"secret") { b"OK" } else { b"NO" };
    stream.write_all(&[0, 2])?;
    stream.write_all(answer)
}
