//! Figures for whoever watches, and the health check.

use std::io::{ErrorKind, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::unix::net::UnixStream;
use std::time::Instant;

use crate::harness::{Broker, DEADLINE, Home, left};

const ANY_PORT: &str = "[metrics]\nlisten = \"127.0.0.1:0\"\n";

/// Where a broker says that figures can be asked for.
fn place(broker: &Broker) -> String {
    let line = broker.log_line("the place of metrics", |l| l["listen"].is_string());
    line["listen"].as_str().expect("text").to_owned()
}

fn connect(broker: &Broker) -> TcpStream {
    let stream = TcpStream::connect(place(broker)).expect("it listens");
    stream.set_read_timeout(Some(DEADLINE)).expect("it has a timeout");
    stream
}

/// Asks as a browser would. Status line and body.
fn ask(mut stream: impl Read + Write, path: &str) -> (String, String) {
    write!(stream, "GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n").expect("it reads");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).expect("an answer, and its end");
    let (head, body) = answer.split_once("\r\n\r\n").expect("a head");
    (head.lines().next().expect("a status line").to_owned(), body.to_owned())
}

fn figures(broker: &Broker) -> String {
    let (status, body) = ask(connect(broker), "/metrics");
    assert_eq!(status, "HTTP/1.1 200 OK");
    body
}

/// Asks until the figures fit: not everything that they show is a line of the log.
fn figures_until(what: &str, broker: &Broker, fit: impl Fn(&str) -> bool) {
    let since = Instant::now();
    loop {
        let text = figures(broker);
        if fit(&text) {
            return;
        }
        assert!(!left(since).is_zero(), "waiting for {what}:\n{text}");
    }
}

fn has(text: &str, line: &str) -> bool {
    text.lines().any(|l| l == line)
}

/// What happens is in the figures: sessions, members, the queue by state and its age, calls of providers, who left how.
///
/// design §2
#[test]
fn what_happens_is_in_the_figures() {
    let home = Home::with_settings(ANY_PORT);
    let mut broker = home.serve();
    assert!(has(&figures(&broker), "sundown_sessions{state=\"active\"} 0"));
    let (mut shell, mut killed) = (home.shell(), home.shell());
    shell.ok("logon");
    killed.ok("logon");
    shell.submit(1, &home.message("counted"));
    broker.until("the message", || home.maildir("default").count() == 1);
    killed.kill();
    let lines = [
        "sundown_sessions{state=\"active\"} 1".to_owned(),
        "sundown_members{state=\"attached\"} 1".to_owned(),
        "sundown_queue_messages{profile=\"default\",state=\"queued\"} 0".to_owned(),
        "sundown_transport_up{profile=\"default\",transport=\"maildir\"} 1".to_owned(),
        "sundown_members_left_total{reason=\"disconnected\"} 1".to_owned(),
        "sundown_messages_total{profile=\"default\",state=\"sent\"} 1".to_owned(),
        "sundown_limit{limit=\"members\"} 1024".to_owned(),
        "sundown_limit_used{limit=\"members\"} 1".to_owned(),
        "sundown_provider_calls_total{provider=\"maildir\",kind=\"transport\",call=\"EndMessage\",result=\"S_OK\"} 1"
            .to_owned(),
    ];
    figures_until("all of it", &broker, |text| lines.iter().all(|line| has(text, line)));
    let (status, body) = ask(connect(&broker), "/healthz");
    assert_eq!((status.as_str(), body.as_str()), ("HTTP/1.1 200 OK", "ok\n"));
    for (path, wanted) in [("/", "404"), ("/metrics/more", "404")] {
        assert!(ask(connect(&broker), path).0.contains(wanted), "{path}");
    }
    broker.terminate();
}

/// A message that waits has an age.
///
/// design §2
#[test]
fn what_waits_has_an_age() {
    let home = Home::with_settings(ANY_PORT);
    home.profile("default", "[[transport]]\nkind = \"maildir\"\npath = \"/dev/null/nowhere\"\n");
    let broker = home.serve();
    let mut shell = home.shell();
    shell.ok("logon");
    shell.submit(1, &home.message("waits"));
    figures_until("an age", &broker, |text| {
        let age = text.lines().find_map(|l| {
            l.strip_prefix("sundown_queue_oldest_message_age_seconds{profile=\"default\"} ")
        });
        let waits = ["queued", "deferred"].map(|state| {
            format!("sundown_queue_messages{{profile=\"default\",state=\"{state}\"}} 1")
        });
        waits.iter().any(|line| has(text, line)) && age.is_some_and(|age| age != "0")
    });
}

/// The text format is for whoever asks for nothing, `OpenMetrics` for whoever accepts it.
///
/// design §2
#[test]
fn figures_come_in_the_format_that_is_asked_for() {
    let home = Home::with_settings(ANY_PORT);
    let broker = home.serve();
    let answer = |accept: &str| {
        let mut stream = connect(&broker);
        write!(stream, "GET /metrics HTTP/1.1\r\n{accept}\r\n").expect("it reads");
        let mut answer = String::new();
        stream.read_to_string(&mut answer).expect("an answer, and its end");
        answer
    };
    let open = answer("Accept: application/openmetrics-text;version=1.0.0,text/plain;q=0.5\r\n");
    assert!(open.contains("Content-Type: application/openmetrics-text; version=1.0.0"), "{open}");
    assert!(open.ends_with("# EOF\n") && has(&open, "# TYPE sundown_requests counter"), "{open}");
    for accept in ["", "Accept: text/plain\r\n", "Accept: */*\r\n"] {
        let plain = answer(accept);
        assert!(plain.contains("Content-Type: text/plain; version=0.0.4"), "{plain}");
        assert!(!plain.contains("# EOF") && !plain.contains("# UNIT"), "{plain}");
        assert!(has(&plain, "# TYPE sundown_requests_total counter"), "{plain}");
    }
}

/// What comes beside a request is no reason to lose the answer: a body, or a head that is too long. The connection ends in order.
///
/// design §1
#[test]
fn an_answer_is_not_lost_to_what_is_not_read() {
    let home = Home::with_settings(ANY_PORT);
    let broker = home.serve();
    // More than the sockets hold.
    let more = "x".repeat(16 << 20);
    for (request, wanted) in [
        (format!("POST /metrics HTTP/1.1\r\n\r\n{more}"), "HTTP/1.1 405"),
        (format!("GET /healthz HTTP/1.1\r\n\r\n{more}"), "HTTP/1.1 200"),
        (format!("GET /healthz HTTP/1.1\r\nX: {more}\r\n\r\n"), "HTTP/1.1 431"),
    ] {
        let mut stream = connect(&broker);
        stream.write_all(request.as_bytes()).expect("all of it is taken");
        let mut answer = String::new();
        stream.read_to_string(&mut answer).expect("an answer, and its end");
        assert!(answer.starts_with(wanted), "{answer}");
    }
}

/// Somebody who connects and says nothing, or nonsense, or too much, is answered or left, and the others are not held up
/// for long.
///
/// design §1
#[test]
fn whoever_asks_badly_hurts_nobody() {
    let home = Home::with_settings(ANY_PORT);
    let broker = home.serve();
    let silent = connect(&broker);
    let refused = |said: &[u8], wanted: &str| {
        let mut stream = connect(&broker);
        let _ = stream.write_all(said);
        let mut answer = Vec::new();
        let _ = stream.read_to_end(&mut answer);
        let answer = String::from_utf8_lossy(&answer).into_owned();
        assert!(answer.starts_with(wanted), "{answer}");
    };
    refused(b"\x00\x01\r\n\r\n", "HTTP/1.1 400");
    refused(b"DELETE /metrics HTTP/1.1\r\n\r\n", "HTTP/1.1 405");
    assert!(figures(&broker).contains("sundown_connections"));
    drop(silent);
    home.run(&["status"]).ok();
}

/// A crowd that connects and says nothing holds up none who asks: the answer is there while others are still silent.
///
/// design §1
#[test]
fn silent_connections_hold_up_none_who_asks() {
    let home = Home::with_settings(ANY_PORT);
    let broker = home.serve();
    let since = Instant::now();
    loop {
        // More than are kept, so that some of them are ended for those who come.
        let silent: Vec<_> = (0..100).map(|_| connect(&broker)).collect();
        assert_eq!(ask(connect(&broker), "/healthz").1, "ok\n");
        let is_open = |mut stream: &TcpStream| {
            stream.set_nonblocking(true).expect("it can be");
            stream.read(&mut [0]).is_err_and(|error| error.kind() == ErrorKind::WouldBlock)
        };
        if silent.iter().any(is_open) {
            return;
        }
        assert!(!left(since).is_zero(), "the answer came when all others had been ended");
    }
}

/// A place that another program has decides nothing about mail: the broker starts, says so, and takes the place once it is free.
///
/// design §7
#[test]
fn a_place_for_figures_that_is_taken_is_waited_for() {
    let home = Home::new();
    let taken = TcpListener::bind("127.0.0.1:0").expect("bound");
    let port = taken.local_addr().expect("an address").to_string();
    home.settings(&format!("[metrics]\nlisten = \"{port}\"\n"));
    let mut broker = home.serve();
    let warned = broker.log_line("a warning", |line| {
        line["message"]
            .as_str()
            .is_some_and(|m| m.contains(&port) && m.contains("[metrics] listen"))
    });
    assert_eq!(warned["level"], "warn");
    home.shell().ok("logon");
    drop(taken);
    assert_eq!(place(&broker), port);
    assert_eq!(ask(connect(&broker), "/healthz").1, "ok\n");
    broker.terminate();
}

/// A socket is for the broker's own user; what makes no sense is said, and the broker does not start.
///
/// design §7
#[test]
fn a_place_for_figures_is_checked() {
    let home = Home::new();
    home.settings("[metrics]\nlisten = \"0.0.0.0:9464\"\n");
    let ran = home.run(&["serve"]).exits(1);
    assert!(ran.errors.contains("metrics.listen") && ran.errors.contains("loopback"), "{ran:?}");
    let named = home.path("metrics.sock");
    let name = home.socket().file_name().expect("a name").to_string_lossy().into_owned();
    let default = home.socket().with_file_name(format!("{name}.metrics"));
    for (settings, socket) in
        [(format!("listen = \"{}\"", named.display()), named), (String::new(), default)]
    {
        home.settings(&format!("[metrics]\n{settings}\n"));
        for _ in 0..2 {
            let mut broker = home.serve();
            assert_eq!(place(&broker), socket.display().to_string());
            let stream = UnixStream::connect(&socket).expect("it listens");
            assert_eq!(ask(stream, "/healthz").1, "ok\n");
            broker.kill();
        }
    }
}
