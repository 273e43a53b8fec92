//! Mail that programs of the host hand over by themselves: cronie, built from its source, and mail(1) of GNU mailutils. The server
//! takes mail of the account alone.

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use crate::authors::{has, picky, text, to};
use crate::harness::{Broker, Home, binary, run};
use crate::servers::{Scripted, Talk, installed, root, skipped};

/// The source that `.ci/run` fetches.
const CRONIE: &str = "cronie-1.7.2.tar.gz";

/// The address of the account.
const ACCOUNT: &str = "anna@example.org";

/// A home whose profile sends by an account, with a `sendmail` in its `bin`.
struct Host {
    home: Home,
    server: Scripted,
    _broker: Broker,
}

impl Host {
    fn new() -> Self {
        let (home, server) = (Home::new(), picky(&[ACCOUNT]));
        let profile = format!(
            "identity = \"{ACCOUNT}\"\n{}[mail]\nrewrite_from = \"always\"\n[aliases]\nroot = \"{ACCOUNT}\"\n",
            to(&server, "relay", "")
        );
        home.profile("default", &profile);
        fs::create_dir(home.path("bin")).expect("made");
        symlink(binary(), home.path("bin/sendmail")).expect("linked");
        let broker = home.serve();
        Self { home, server, _broker: broker }
    }

    fn sendmail(&self) -> PathBuf {
        self.home.path("bin/sendmail")
    }

    /// The only message that the server took, which is the account's.
    fn taken(&self) -> Talk {
        let mut taken = self.server.taken_until(1);
        assert_eq!(taken.len(), 1, "{taken:?}");
        let talk = taken.remove(0);
        assert!(talk.mail.starts_with(&format!("MAIL FROM:<{ACCOUNT}>")), "{}", talk.mail);
        talk
    }
}

/// A process that ends with its test.
struct Daemon(Child);

impl Drop for Daemon {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Where the source of cronie is, if it was fetched: beside what cargo builds.
fn source() -> Option<PathBuf> {
    let built = Path::new(env!("CARGO_BIN_EXE_sundown")).ancestors().nth(2)?;
    Some(built.join("tools").join(CRONIE)).filter(|path| path.is_file())
}

/// Builds cronie for a home: its own crontabs, and the home's `sendmail` in the place of the system's.
fn crond(host: &Host, source: &Path) -> PathBuf {
    let folder = host.home.path("cronie");
    fs::create_dir(&folder).expect("made");
    let script = r#"set -eu
        tar -xzf "$SOURCE" --strip-components=1
        sed -i "s|/usr/sbin/sendmail|$SENDMAIL|" configure src/cron.c
        ./configure -q --prefix="$PWD" --sysconfdir="$PWD/etc" --localstatedir="$PWD/var" --runstatedir="$PWD/run" \
            --without-pam --without-selinux --without-audit
        make -s
        mkdir -p etc/cron.d var/spool/cron var/run run"#;
    let mut build = Command::new("/bin/sh");
    build.args(["-c", script]).current_dir(&folder);
    build.env("SOURCE", source).env("SENDMAIL", host.sendmail());
    run(build, "").ok();
    folder.join("src/crond")
}

/// A job of root's says something, and cronie's own daemon mails it.
///
/// design §3.20
#[test]
fn cronie_mails_what_a_job_says() {
    let Some(source) = source() else {
        return skipped(&format!("{CRONIE} is not in target/tools, where .ci/run puts it"));
    };
    if !root("a cron daemon") || !["tar", "make", "cc"].into_iter().all(installed) {
        return;
    }
    let host = Host::new();
    let daemon = crond(&host, &source);
    let home = host.home.as_ref().display();
    let tab = format!(
        "MAILTO=root\nHOME={home}\nXDG_RUNTIME_DIR={}\nSUNDOWN_NO_AUTOSTART=1\n@reboot echo It is done.\n",
        host.home.runtime().display()
    );
    let tab = host.home.write("cronie/var/spool/cron/root", tab);
    fs::set_permissions(tab, fs::Permissions::from_mode(0o600)).expect("changed");
    let mut command = Command::new(daemon);
    command.arg("-n").env_clear().stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    let _daemon = Daemon(command.spawn().expect("it starts"));
    let talk = host.taken();
    assert_eq!(talk.recipients, [ACCOUNT]);
    for line in [
        "From: \"(Cron Daemon)\" <anna@example.org>",
        "X-Original-From: \"(Cron Daemon)\" <root>",
        "To: root",
        "Auto-Submitted: auto-generated",
        "X-Cron-Env: <MAILTO=root>",
        "It is done.",
    ] {
        assert!(has(&talk, line), "{line} is not in\n{}", text(&talk));
    }
    assert!(text(&talk).lines().any(|l| l.starts_with("Subject: Cron <root@")), "{}", text(&talk));
}

/// mail(1) of mailutils writes to root of this host and somebody elsewhere.
///
/// design §3.20
#[test]
fn mail_of_mailutils_goes_out() {
    if !installed("mail.mailutils") {
        return;
    }
    let host = Host::new();
    let url = format!("set sendmail=sendmail:{}", host.sendmail().display());
    let mut command = Command::new("mail.mailutils");
    command.args(["-E", &url, "-s", "Ein Gr\u{fc}\u{df}", "root", "bo@far.test"]);
    command.current_dir(&host.home).env_clear().env("LC_ALL", "C.UTF-8");
    command.env("PATH", "/usr/bin:/bin").env("HOME", host.home.as_ref()).env("LOGNAME", "root");
    command.env("XDG_RUNTIME_DIR", host.home.runtime()).env("SUNDOWN_NO_AUTOSTART", "1");
    run(command, "Sch\u{f6}ne Gr\u{fc}\u{df}e\n").ok();
    let talk = host.taken();
    assert_eq!(talk.recipients, [ACCOUNT, "bo@far.test"]);
    let parsed = mail_parser::MessageParser::new().parse(&talk.message).expect("mail");
    let from = parsed.from().and_then(|from| from.first()).and_then(|from| from.address());
    assert_eq!(from, Some(ACCOUNT), "{}", text(&talk));
    assert_eq!(parsed.subject(), Some("Ein Gr\u{fc}\u{df}"), "{}", text(&talk));
    let body = parsed.body_text(0).unwrap_or_default();
    assert_eq!(body.trim_end(), "Sch\u{f6}ne Gr\u{fc}\u{df}e", "{}", text(&talk));
}
