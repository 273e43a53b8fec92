//! Courier, unpacked by `tests/imap-servers`. It looks for its settings and its sockets at fixed places, so it gets a view of the file
//! system of its own.

use std::fs;
use std::path::Path;
use std::process::Command;

use super::{fetched, give_to_nobody};

/// Users are `user0` and so on; each has the password `secret`.
const USERS: u32 = 10_000;

const SCRIPT: &str = r#"
set -e
mkdir "$DIR/over"
mount -t tmpfs none "$DIR/over"
for layer in usr etc; do
    mkdir "$DIR/over/$layer" "$DIR/over/work-$layer"
    mount -t overlay overlay "/$layer" \
        -o "lowerdir=$ROOT/$layer:/$layer,upperdir=$DIR/over/$layer,workdir=$DIR/over/work-$layer"
done
mount -t tmpfs none /run
mkdir -p /run/courier/authdaemon
cp "$DIR/users" /etc/courier/userdb
chmod 700 /etc/courier/userdb
makeuserdb
sed -i 's/^authmodulelist=.*/authmodulelist="authuserdb"/' /etc/courier/authdaemonrc
/usr/lib/courier/courier-authlib/authdaemond &
set -a
. /etc/courier/imapd
exec /usr/sbin/couriertcpd -address=127.0.0.1 -maxprocs=100 -maxperip=100 -nodnslookup -noidentlookup \
    "$LISTEN" /usr/lib/courier/courier/imaplogin /usr/bin/imapd Maildir
"#;

const NAMESPACES: [&str; 6] =
    ["--mount", "--pid", "--fork", "--kill-child", "--mount-proc", "--propagation=private"];

/// Why it cannot be run here.
pub(super) fn missing() -> Option<&'static str> {
    if !fetched("courier").join("usr/sbin/couriertcpd").exists() {
        return Some("courier-imap was not fetched: tests/imap-servers");
    }
    let possible = Command::new("unshare").args(NAMESPACES).arg("true").output();
    let is_possible = possible.is_ok_and(|tried| tried.status.success());
    (!is_possible).then_some("courier needs a mount namespace, and there is none here")
}

/// What starts one that has everything in one directory.
pub(super) fn command(path: &Path, port: u16) -> Command {
    let root = fetched("courier");
    fs::create_dir(path.join("mail")).expect("made");
    let mail = path.join("mail").display().to_string();
    // The hash of the password by crypt(3), the oldest way.
    let users: String = (0..USERS)
        .map(|n| format!("user{n}\tuid=65534|gid=65534|home={mail}/user{n}|imappw=abNANd1rDfiNc\n"))
        .collect();
    fs::write(path.join("users"), users).expect("written");
    let mut command = Command::new("unshare");
    command.args(NAMESPACES).args(["sh", "-c", SCRIPT]);
    command.env("DIR", path).env("ROOT", &root).env("LISTEN", port.to_string());
    command.env("LD_LIBRARY_PATH", super::libraries(&root));
    command
}

/// Makes a user's Maildir, which Courier does not.
pub(super) fn make_user(path: &Path, user: &str) {
    let home = path.join("mail").join(user);
    let maildir = home.join("Maildir");
    for folder in ["", ".Sent", ".Drafts", ".Trash"] {
        let place = maildir.join(folder);
        for name in ["tmp", "new", "cur"] {
            fs::create_dir_all(place.join(name)).expect("made");
            give_to_nobody(&place.join(name));
        }
        give_to_nobody(&place);
        if !folder.is_empty() {
            fs::write(place.join("maildirfolder"), "").expect("written");
        }
    }
    give_to_nobody(&home);
}

/// Numbers a user's Inbox anew: its list begins with a version, the validity of the numbers, and the next number.
pub(super) fn number_anew(path: &Path, user: &str) {
    let list = path.join("mail").join(user).join("Maildir/courierimapuiddb");
    let text = fs::read_to_string(&list).expect("a list");
    let (head, rest) = text.split_once('\n').expect("a line");
    let mut words: Vec<_> = head.split(' ').map(str::to_owned).collect();
    words[1] = (words[1].parse::<u32>().expect("a number") + 1000).to_string();
    fs::write(list, format!("{}\n{rest}", words.join(" "))).expect("written");
}
