//! Every provider that ships.

use std::io::{BufRead, BufReader, Write};
use std::net::TcpListener;
use std::os::unix::net::UnixListener;
use std::sync::{Arc, OnceLock};
use std::thread;

use sundown_core::provider::ProviderSpec;
use tempfile::TempDir;

use crate::StoreProvider;
use crate::address_book::SqliteAddressBook;
use crate::conformance::{self, Mail};
use crate::maildir::{Maildir, MaildirMailbox, UserMaildirs};
use crate::pipe::{ARGUMENT_OPTION, Common, Pipe};
use crate::runtime::{BootId, Runtime};
use crate::smtp::{Destinations, Dots, Smtp};
use crate::sqlite::SqliteStore;

fn spec(kind: &str, folder: &TempDir, name: &str) -> ProviderSpec {
    ProviderSpec { path: folder.path().join(name), ..ProviderSpec::new(kind) }
}

#[test]
fn the_sqlite_store_conforms() {
    let folder = TempDir::new().expect("a directory");
    let spec = spec("sqlite", &folder, "store.db");
    let report = conformance::store(move || Ok(Box::new(SqliteStore::new(&spec))));
    report.assert_holds();
    assert!(report.checks.len() > 10, "{:?}", report.checks);
}

#[test]
fn the_sqlite_address_book_conforms() {
    let folder = TempDir::new().expect("a directory");
    let spec = spec("sqlite", &folder, "people.db");
    conformance::address_book(move || Ok(Box::new(SqliteAddressBook::new(&spec)))).assert_holds();
}

#[test]
fn the_maildir_conforms() {
    let folder = TempDir::new().expect("a directory");
    let spec = spec("maildir", &folder, "Maildir");
    let mail = Mail::to(&["bob@localhost", "eve@localhost"]);
    conformance::transport(move || Ok(Box::new(Maildir::new(&spec))), mail).assert_holds();
}

#[test]
fn the_maildirs_of_users_conform() {
    let folder = TempDir::new().expect("a directory");
    let options = vec![("local_user".to_owned(), "bob".to_owned())];
    let spec = ProviderSpec { options, ..spec("maildir", &folder, "{user}/Maildir") };
    let make = move || Ok(Box::new(UserMaildirs::new(&spec, &Arc::default())) as Box<_>);
    conformance::transport(make, Mail::to(&["bob@localhost"])).assert_holds();
}

#[test]
fn the_maildir_mailbox_conforms() {
    let folder = TempDir::new().expect("a directory");
    for sub in ["new", "cur", "tmp"] {
        std::fs::create_dir_all(folder.path().join("Maildir").join(sub)).expect("made");
    }
    let mut store = SqliteStore::new(&spec("sqlite", &folder, "store.db"));
    store.logon().expect("it logs on");
    let spec = spec("maildir", &folder, "Maildir");
    let desks = Arc::default();
    let make = move || Ok(Box::new(MaildirMailbox::new(&spec, &desks)?) as Box<_>);
    let report = conformance::mailbox(make, Box::new(store));
    report.assert_holds();
    assert!(report.checks.len() > 10, "{:?}", report.checks);
    let files = |sub: &str| std::fs::read_dir(folder.path().join("Maildir").join(sub));
    let filed = files("new").expect("listed").count();
    assert!(filed > 100, "{filed} messages are in the Maildir");
}

#[test]
fn the_smtp_transport_conforms() {
    let port = server_that_takes_everything();
    let options = [("host", "127.0.0.1"), ("port", &port.to_string()), ("security", "none")];
    let options = options.map(|(key, value)| (key.to_owned(), value.to_owned())).to_vec();
    conforms(ProviderSpec { options, ..ProviderSpec::new("smtp") });
}

#[test]
fn the_lmtp_transport_conforms() {
    let folder = TempDir::new().expect("a directory");
    let spec = spec("lmtp", &folder, "lmtp");
    let listener = UnixListener::bind(&spec.path).expect("a socket");
    thread::spawn(move || {
        for socket in listener.incoming() {
            let socket = socket.expect("a client");
            let lines = BufReader::new(socket.try_clone().expect("a handle"));
            thread::spawn(move || converse(lines, socket));
        }
    });
    conforms(spec);
}

#[test]
fn the_pipe_transport_conforms() {
    let options = ["-c", "cat > /dev/null", "sh", "{recipient}"];
    let options = options.map(|text| (ARGUMENT_OPTION.to_owned(), text.to_owned())).to_vec();
    let spec = ProviderSpec { path: "/bin/sh".into(), options, ..ProviderSpec::new("pipe") };
    let memory = TempDir::new_in("/dev/shm").ok();
    let common = Common { dots: dots(memory.as_ref()), ..Common::default() };
    let make = move || {
        let pipe = Pipe::new(&spec, &common);
        pipe.map(|pipe| Box::new(pipe) as Box<_>)
    };
    conformance::transport(make, Mail::to(&["bob@localhost"])).assert_holds();
}

/// Where /dev/shm is no memory a transport says of each message that it may have been sent, and is held to as much.
fn dots(memory: Option<&TempDir>) -> Arc<Dots> {
    Arc::new(Dots::new(Arc::new(OnceLock::from(runtime(memory)))))
}

fn conforms(spec: ProviderSpec) {
    let destinations = Destinations::default();
    let mail = Mail::to(&["bob@localhost", "eve@localhost"]);
    let memory = TempDir::new_in("/dev/shm").ok();
    let dots = dots(memory.as_ref());
    let make = move || Smtp::new(&spec, &destinations, &dots).map(|smtp| Box::new(smtp) as Box<_>);
    conformance::transport(make, mail).assert_holds();
}

fn runtime(memory: Option<&TempDir>) -> Runtime {
    let directories = memory.iter().map(|memory| memory.path().to_owned()).collect();
    let boot = BootId::parse("5851c9c8-cb1b-4f40-b492-10a5a055c151");
    Runtime { directories, name: "broker.sock".into(), boot }
}

/// As many connections as come; the scripted server of the transport's tests knows how many beforehand. Its threads end
/// with the test program.
fn server_that_takes_everything() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let port = listener.local_addr().expect("an address").port();
    thread::spawn(move || {
        for socket in listener.incoming() {
            let socket = socket.expect("a client");
            let lines = BufReader::new(socket.try_clone().expect("a handle"));
            thread::spawn(move || converse(lines, socket));
        }
    });
    port
}

/// Speaks what it is spoken to in: behind the dot it answers once, or once for each recipient. The client may go at any time.
fn converse(lines: impl BufRead, mut socket: impl Write) -> Option<()> {
    socket.write_all(b"220 test ready\r\n").ok()?;
    let (mut in_message, mut each, mut recipients) = (false, false, 0);
    for line in lines.lines() {
        let line = line.ok()?;
        each |= line.starts_with("LHLO");
        recipients += usize::from(line.starts_with("RCPT"));
        let answer: &[u8] = match line.as_str() {
            "." => b"250 2.0.0 queued\r\n",
            _ if in_message => continue,
            "DATA" => b"354 go on\r\n",
            "QUIT" => b"221 bye\r\n",
            _ => b"250 ok\r\n",
        };
        in_message = line == "DATA";
        let times = if line == "." && each { recipients } else { 1 };
        socket.write_all(&answer.repeat(times)).ok()?;
        if line == "." || line.starts_with("RSET") {
            recipients = 0;
        }
    }
    None
}
