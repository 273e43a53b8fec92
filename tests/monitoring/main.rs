//! What watches a broker, tried with the programs that watch: Prometheus takes its figures, `promtool` checks them and the alerts,
//! and every question of the dashboard is asked over the figures of a broker that sends mail.
//!
//! A program that is not installed does not fail a test: it says `skipped:` and which. Grafana itself is not asked.

// The other suite uses all of it.
#[allow(dead_code, unused_imports)]
#[path = "../integration/harness/mod.rs"]
mod harness;
mod prometheus;
mod server;

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Instant;

use serde_json::{Value, json};

use harness::{Broker, Home, left};
use prometheus::{Prometheus, get, installed};
use server::Server;

/// For how long mail is sent where the results are kept for a picture, in scrapes.
const LONG: u64 = 240;

fn file(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("deploy").join(name)
}

fn dashboard() -> Value {
    let text = fs::read_to_string(file("grafana/sundown.json")).expect("it is there");
    serde_json::from_str(&text).expect("it is JSON")
}

/// The questions of the dashboard: the panel, its question as it is written, and its legend.
fn questions(dashboard: &Value) -> Vec<(String, String, String)> {
    let text = |value: &Value| value.as_str().expect("text").to_owned();
    let panels = dashboard["panels"].as_array().expect("panels");
    let of = |panel: &Value| {
        let targets = panel["targets"].as_array().expect("targets").clone();
        let title = text(&panel["title"]);
        targets.into_iter().map(move |target| {
            (title.clone(), text(&target["expr"]), text(&target["legendFormat"]))
        })
    };
    panels.iter().flat_map(of).collect()
}

/// A question with its variables as Grafana puts them in where everything is chosen; rates are those of a few scrapes.
fn substituted(question: &str, dashboard: &Value) -> String {
    let mut question = question.replace("$__rate_interval", "15s").replace("$__interval", "15s");
    for variable in dashboard["templating"]["list"].as_array().expect("variables") {
        let name = format!("${}", variable["name"].as_str().expect("a name"));
        if let Some(all) = variable["allValue"].as_str() {
            question = question.replace(&name, all);
        }
    }
    assert!(!question.contains('$'), "a variable is left in {question}");
    question
}

/// The metrics that a text names.
fn named(text: &str) -> BTreeSet<String> {
    let words = text.split(|c: char| !c.is_ascii_alphanumeric() && c != '_');
    let ours = |word: &&str| word.starts_with("sundown_") || word.starts_with("process_");
    words.filter(ours).map(str::to_owned).collect()
}

/// Runs `promtool`. What it said.
fn promtool(arguments: &[&str], input: &str) -> String {
    let mut command = Command::new("promtool");
    command.args(arguments).current_dir(file("prometheus")).stdin(Stdio::piped());
    let ran = harness::run(command, input).ok();
    ran.output + &ran.errors
}

/// A broker with a transport that works and one that is refused, and a member that stays.
fn watched(home: &Home, server: &Server) -> Broker {
    let good = format!("host = \"127.0.0.1\"\nport = {}\nsecurity = \"none\"", server.port());
    let profile = format!(
        "[[mailbox]]\npath = \"Maildir\"\n\
         [[transport]]\nname = \"relay\"\nkind = \"smtp\"\n{good}\naccept = [\"*@good.example\"]\n\
         [[transport]]\nname = \"branch\"\nkind = \"smtp\"\nhost = \"127.0.0.1\"\nport = 1\nsecurity = \"none\"\n\
         accept = [\"*@bad.example\"]\n[queue]\nretry_min = \"1s\"\n"
    );
    home.profile("default", &profile);
    for folder in ["cur", "new", "tmp"] {
        let maildir = home.data().join("default/Maildir");
        fs::create_dir_all(maildir.join(folder)).expect("it is made");
    }
    home.serve()
}

/// The place where a broker's figures can be asked for.
fn place(broker: &Broker) -> String {
    let line = broker.log_line("the place of metrics", |l| l["listen"].is_string());
    line["listen"].as_str().expect("text").to_owned()
}

/// The scraper takes what the broker says, in both formats; `promtool` finds nothing in it that Prometheus' rules for names forbid.
///
/// design §2
#[test]
fn promtool_accepts_the_figures() {
    if !installed("promtool") {
        return;
    }
    let (home, server) =
        (Home::with_settings("[metrics]\nlisten = \"127.0.0.1:0\"\n"), Server::start());
    let broker = watched(&home, &server);
    let mut shell = home.shell();
    shell.ok("logon");
    for to in ["anna@good.example", "bo@bad.example", "reject@good.example"] {
        home.run_with(&["send", "--to", to, "--subject", "counted"], "hello\n").ok();
    }
    let place = place(&broker);
    broker.until("every kind of outcome", || {
        let text = get(&place, "/metrics");
        let has = |line: &str| text.lines().any(|l| l == line);
        has("sundown_messages_total{profile=\"default\",state=\"sent\"} 1")
            && has("sundown_messages_total{profile=\"default\",state=\"bounced\"} 1")
            && has("sundown_transport_up{profile=\"default\",transport=\"relay\"} 1")
            && has("sundown_transport_up{profile=\"default\",transport=\"branch\"} 0")
    });
    let said = promtool(&["check", "metrics"], &get(&place, "/metrics"));
    assert_eq!(said, "");
}

/// Each alert fires when its test says so, and is about metrics that there are.
#[test]
fn alerts_fire_as_their_tests_say() {
    if !installed("promtool") {
        return;
    }
    promtool(&["check", "rules", "--lint=all", "--lint-fatal", "alerts.yml"], "");
    let said = promtool(&["test", "rules", "alerts.test.yml"], "");
    assert!(said.contains("SUCCESS"), "{said}");
    let (rules, tests) = (file("prometheus/alerts.yml"), file("prometheus/alerts.test.yml"));
    let (rules, tests) =
        [rules, tests].map(|path| fs::read_to_string(path).expect("it is there")).into();
    let alerts = rules.lines().filter_map(|line| line.trim().strip_prefix("- alert: "));
    for alert in alerts {
        let fires = tests.contains(&format!("alertname: {alert}\n"));
        assert!(fires, "no test shows that {alert} fires");
    }
}

/// Every question of the dashboard, its variables put in, is answered with data by a Prometheus that watches a real broker; every metric
/// that the dashboard and the alerts name is one that the broker has.
///
/// design §2
#[test]
fn the_dashboard_shows_a_real_broker() {
    if !installed("prometheus") {
        return;
    }
    let keep = std::env::var_os("SUNDOWN_MONITORING_RESULTS").map(PathBuf::from);
    let (home, server) =
        (Home::with_settings("[metrics]\nlisten = \"127.0.0.1:0\"\n"), Server::start());
    let broker = watched(&home, &server);
    let place = place(&broker);
    let prometheus = Prometheus::start(&place, &file("prometheus/alerts.yml"));
    // Two members that stay; one leaves after each message.
    let (mut shell, mut other) = (home.shell(), home.shell());
    shell.ok("logon");
    other.ok("logon");
    let send = |to: &str| drop(home.run_with(&["send", "--to", to], "hello\n").ok());
    for to in ["anna@good.example", "reject@good.example", "bo@bad.example"] {
        send(to);
    }
    let dashboard = dashboard();
    let questions = questions(&dashboard);
    assert!(questions.len() > 15, "{questions:?}");
    let asked: Vec<_> = questions.iter().map(|(.., q, _)| substituted(q, &dashboard)).collect();
    if keep.is_some() {
        for scrape in 1..LONG {
            prometheus.until(&format!("scrape {scrape}"), "count_over_time(up[1h])", |value| {
                value >= scrape as f64
            });
            for n in 0..scrape % 3 {
                send(["anna@good.example", "cleo@good.example"][n as usize % 2]);
            }
            match scrape {
                60 | 90 => send("bo@bad.example"),
                120 | 200 => send("reject@good.example"),
                _ => {}
            }
        }
    }
    // All but what is shown only while something is wrong.
    let deadline = Instant::now();
    for ((title, question, _), asked) in questions.iter().zip(&asked) {
        loop {
            let rows = prometheus.ask(asked);
            if !rows.is_empty() {
                break;
            }
            assert!(!left(deadline).is_zero(), "{title}: no data for {question}, asked as {asked}");
        }
    }
    for (question, wanted) in [
        ("sum(sundown_transport_up{transport=\"relay\"})", 1.0),
        ("sum(sundown_transport_up{transport=\"branch\"})", 0.0),
        (
            "sum(sundown_queue_messages{profile=\"default\",state=~\"queued|deferred|transmitting\"})",
            if keep.is_some() { 3.0 } else { 1.0 },
        ),
        (
            "count(ALERTS{alertname=\"SundownTransportDown\",alertstate=\"pending\",transport=\"branch\"})",
            1.0,
        ),
    ] {
        prometheus.until(question, question, |value| (value - wanted).abs() < f64::EPSILON);
    }
    let figures = get(&place, "/metrics");
    let known = named(&figures);
    let text = dashboard.to_string()
        + &fs::read_to_string(file("prometheus/alerts.yml")).expect("it is there");
    for metric in named(&text) {
        assert!(known.contains(&metric), "the broker has no {metric}");
    }
    if let Some(path) = keep {
        let rows = questions.iter().zip(&asked).map(|((title, question, legend), asked)| {
            json!({ "panel": title, "expr": question, "legend": legend, "series": prometheus.series(asked) })
        });
        let results = json!({ "dashboard": dashboard, "results": rows.collect::<Vec<_>>() });
        fs::write(path, results.to_string()).expect("written");
    }
}
