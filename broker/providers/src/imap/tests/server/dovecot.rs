//! Dovecot, installed on this machine.

use std::fs;
use std::path::Path;
use std::process::Command;

use super::{Kind, give_to_nobody};

const DOVECOT: &str = "/usr/sbin/dovecot";

const SETTINGS: &str = "\
base_dir = DIR/run
state_dir = DIR/state
log_path = DIR/log
protocols = imap
ssl = no
disable_plaintext_auth = no
auth_username_format = %n
auth_mechanisms = plain login
mail_location = maildir:DIR/mail/%n:LAYOUT=fs
mail_max_userip_connections = 100
mail_plugins = zlib
CAPABILITIES
passdb {
  driver = static
  args = password=secret
}
userdb {
  driver = static
  args = uid=65534 gid=65534 home=DIR/mail/%n
}
namespace inbox {
  inbox = yes
  separator = /
  mailbox Sent {
    auto = create
    special_use = \\Sent
  }
  mailbox Drafts {
    auto = create
    special_use = \\Drafts
  }
  mailbox Trash {
    auto = create
    special_use = \\Trash
  }
}
protocol imap {
  mail_plugins = zlib imap_zlib
}
service imap-login {
  inet_listener imap {
    address = 127.0.0.1
    port = PORT
  }
  inet_listener imaps {
    port = 0
  }
}
";

/// Why it cannot be run here.
pub(super) fn missing() -> Option<&'static str> {
    let version = Command::new(DOVECOT).arg("--version").output();
    let version = version.map(|said| String::from_utf8_lossy(&said.stdout).into_owned());
    // Settings have other names from 2.4 on.
    let is_known = version.is_ok_and(|version| version.starts_with("2.3."));
    let is_there = is_known && fs::exists("/usr/lib/dovecot/imap").unwrap_or(false);
    (!is_there).then_some("dovecot 2.3 with IMAP is not installed")
}

/// What starts one that has everything in one directory.
pub(super) fn command(kind: Kind, path: &Path, port: u16) -> Command {
    for name in ["run", "state", "mail"] {
        fs::create_dir(path.join(name)).expect("made");
    }
    give_to_nobody(&path.join("mail"));
    let capabilities = match kind {
        Kind::Condstore => {
            "imap_capability = IMAP4rev1 SASL-IR LITERAL+ ENABLE IDLE UIDPLUS MOVE CONDSTORE ESEARCH LIST-EXTENDED"
        }
        Kind::Plain => "imap_capability = IMAP4rev1 IDLE",
        _ => "",
    };
    let text = SETTINGS
        .replace("DIR", &path.display().to_string())
        .replace("PORT", &port.to_string())
        .replace("CAPABILITIES", capabilities);
    let settings = path.join("dovecot.conf");
    fs::write(&settings, text).expect("written");
    let mut command = Command::new(DOVECOT);
    command.arg("-F").arg("-c").arg(settings);
    command
}

/// Forgets which numbers the messages of a user's folder have: it numbers them anew.
pub(super) fn number_anew(path: &Path, user: &str, folder: &str) {
    let path = path.join("mail").join(user).join(folder);
    let list = path.join("dovecot-uidlist");
    let text = fs::read_to_string(&list).expect("a list");
    let head = text.lines().next().unwrap_or_default();
    let validity = head.split(' ').find_map(|word| word.strip_prefix('V'));
    let validity: u32 = validity.and_then(|number| number.parse().ok()).expect("a number");
    for entry in fs::read_dir(&path).expect("a folder").flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        if name.starts_with("dovecot.index") {
            let _ = fs::remove_file(entry.path());
        }
    }
    fs::write(&list, format!("3 V{} N1\n", validity + 1000)).expect("written");
}
