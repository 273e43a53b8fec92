//! Every document of `--json` fits its schema in `docs/schemas`, and a key that is in none of them would not.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;

use jsonschema::Validator;
use serde_json::{Map, Value, json};

use crate::harness::{Broker, Home, Ran, run};

/// What each subcommand prints with `--json`; `None` where there is nothing but errors.
const PRINTS: &[(&str, Option<&str>)] = &[
    ("completions", None),
    ("doctor", Some("doctor")),
    ("folders", Some("folders")),
    ("inbox", Some("inbox")),
    ("logoff", Some("logoff")),
    ("mailbox", Some("mailbox")),
    ("man", None),
    ("profile-add", Some("profile-add")),
    ("profile-import", Some("profile-import")),
    ("profile-check", Some("profile-check")),
    ("profile-list", Some("profile-list")),
    ("profile-reload", Some("profile-reload")),
    ("profile-remove", Some("profile-remove")),
    ("profile-show", Some("profile-show")),
    ("provider-list", Some("provider")),
    ("provider-show", Some("provider")),
    ("queue-abort", Some("queue-entry")),
    ("queue-flush", Some("queue-flush")),
    ("queue-hold", Some("queue-entry")),
    ("queue-list", Some("queue-list")),
    ("queue-release", Some("queue-entry")),
    ("queue-retry", Some("queue-entry")),
    ("queue-show", Some("queue-show")),
    ("read", Some("read")),
    ("search", Some("search")),
    ("send", Some("send")),
    // It speaks as sendmail does.
    ("sendmail", None),
    // It logs, and has an option of its own for the form.
    ("serve", None),
    // Its lines have two schemas, which are of no subcommand.
    ("shell", None),
    ("status", Some("status")),
    ("stop", Some("stop")),
    ("sync", Some("sync")),
    ("tour", Some("tour")),
];

/// Those that are of no subcommand alone.
const OTHERS: [&str; 4] = ["common", "error", "shell-event", "shell-reply"];

/// All schemas, each to be referred to by its name.
struct Schemas(BTreeMap<String, Value>);

impl Schemas {
    fn read() -> Self {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/schemas");
        let files =
            fs::read_dir(folder).expect("there are schemas").map(|e| e.expect("a file").path());
        let read = |file: &Path| {
            let text = fs::read_to_string(file).expect("it can be read");
            serde_json::from_str(&text).unwrap_or_else(|e| panic!("{}: {e}", file.display()))
        };
        let name = |file: &Path| file.file_stem().expect("a name").to_string_lossy().into_owned();
        Self(files.map(|file| (name(&file), read(&file))).collect())
    }

    /// That schema, with all others at hand, as a program that found them beside each other would have it.
    fn validator(&self, name: &str) -> Validator {
        let id = self.0[name]["$id"].as_str().expect("each has an id");
        let (base, file) = id.rsplit_once('/').expect("it is an address");
        assert_eq!(file, format!("{name}.json"));
        let together = json!({
            "$schema": "https://json-schema.org/draft/2020-12/schema",
            "$id": format!("{base}/all"),
            "$ref": file,
            "$defs": self.0,
        });
        jsonschema::validator_for(&together).unwrap_or_else(|e| panic!("{name}: {e}"))
    }

    /// The document fits; with one more key, wherever that is, it would not.
    fn fits(&self, name: &str, document: &Value) {
        let validator = self.validator(name);
        let wrong: Vec<_> = validator.iter_errors(document).map(|e| format!("{e}")).collect();
        assert!(wrong.is_empty(), "{name}: {wrong:?}\n{document}");
        for place in objects(document) {
            let mut more = document.clone();
            let object = more.pointer_mut(&place).and_then(Value::as_object_mut);
            object.expect("it is one").insert("undocumented".into(), Value::Null);
            assert!(!validator.is_valid(&more), "{name} does not close {place:?}: {document}");
        }
    }
}

/// Where in a document its objects are.
fn objects(document: &Value) -> Vec<String> {
    let below = |key: String, value: &Value| {
        objects(value).into_iter().map(move |place| format!("/{key}{place}")).collect::<Vec<_>>()
    };
    match document {
        Value::Object(keys) => {
            let keys: &Map<_, _> = keys;
            let inner = keys.iter().flat_map(|(key, value)| below(key.clone(), value));
            std::iter::once(String::new()).chain(inner).collect()
        }
        Value::Array(items) => {
            items.iter().enumerate().flat_map(|(at, item)| below(at.to_string(), item)).collect()
        }
        _ => Vec::new(),
    }
}

/// A home where something of everything is to be seen, and what was printed there.
struct Printed {
    home: Home,
    schemas: Schemas,
    seen: BTreeSet<&'static str>,
}

impl Printed {
    fn new() -> Self {
        let home = Home::new();
        home.profile("stuck", "[[transport]]\npath = \"blocked\"\n[queue]\nretry_min = \"1h\"\n");
        home.write(".local/share/sundown/stuck/blocked", "");
        Self { home, schemas: Schemas::read(), seen: BTreeSet::new() }
    }

    /// Runs a subcommand. What it prints fits its schema.
    fn ran(&mut self, subcommand: &'static str, rest: &[&str]) -> Value {
        let words: Vec<_> = subcommand.split('-').chain(rest.iter().copied()).collect();
        let ran = self.home.run_with(&[&words[..], &["--json"]].concat(), "hi\n");
        self.checked(subcommand, &ran)
    }

    fn checked(&mut self, subcommand: &'static str, ran: &Ran) -> Value {
        let printed = PRINTS.iter().find(|(name, _)| *name == subcommand).and_then(|(_, p)| *p);
        let document = ran.json();
        self.schemas.fits(printed.expect("it prints something"), &document);
        self.seen.insert(subcommand);
        document
    }

    /// A message that waits for another try. Its entry.
    fn deferred(&mut self, broker: &Broker) -> String {
        let sent = self.ran("send", &["--profile", "stuck", "--to", "anna"]);
        let entry = sent["entry"].as_str().expect("text").to_owned();
        broker.until("the deferral", || self.is_deferred(&entry));
        entry
    }

    fn is_deferred(&self, entry: &str) -> bool {
        let show = ["queue", "show", entry, "--profile", "stuck", "--json"];
        self.home.run(&show).ok().json()["state"] == "deferred"
    }
}

/// The schema of `doctor` has each check that its page has, and what is found about variables fits it.
///
/// design §8
#[test]
fn each_check_of_the_doctor_is_in_its_schema() {
    let schemas = Schemas::read();
    let known = &schemas.0["doctor"]["items"]["properties"]["check"]["enum"];
    let known: BTreeSet<_> =
        known.as_array().expect("a list").iter().filter_map(Value::as_str).collect();
    let page = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/command.md"));
    let page = page.expect("the page is there");
    let table = page.split_once("| `check` | looks at |").expect("the table is there").1;
    let rows = table.lines().skip(2).map_while(|line| line.strip_prefix("| `")?.split_once('`'));
    assert_eq!(rows.map(|(check, _)| check).collect::<BTreeSet<_>>(), known);

    let home = Home::new();
    let mut command = home.command(&["doctor", "--json"]);
    command.env("XDG_RUNTIME_DIR", home.path("gone"));
    let found = run(command, "").json();
    assert!(found.to_string().contains("\"environment\""), "{found}");
    schemas.fits("doctor", &found);
}

/// design §8
#[test]
fn documents_fit_their_schemas() {
    let mut printed = Printed::new();
    printed.ran("doctor", &[]);
    printed.ran("provider-list", &[]);
    printed.ran("provider-show", &["smtp"]);
    let server = ["relay", "--host", "localhost", "--security", "none", "--username", "anna"];
    printed.ran("profile-add", &[&server[..], &["--password-env", "PASSWORD"]].concat());
    printed.ran("profile-add", &["notes"]);
    printed.ran("profile-add", &["account", "anna@gmail.com", "--password-env", "PASSWORD"]);
    printed.ran("profile-show", &["account"]);
    let msmtprc = printed.home.write("msmtprc", "account a\nhost h.example\nlogfile x\n");
    let msmtprc = msmtprc.to_str().expect("text").to_owned();
    printed.ran("profile-import", &[&msmtprc, "--name", "imported"]);
    printed.ran("profile-list", &[]);
    printed.ran("profile-show", &["relay"]);

    let broker = printed.home.serve();
    let mut shell = printed.home.shell();
    shell.ok("logon");
    let inbox = shell.ok("open session=1 what=inbox")["object"].clone();
    let mut other = printed.home.shell();
    let token = shell.ok(&format!("grant object={inbox}"))["token"].clone();
    other.ok(&format!("redeem token={}", token.as_str().expect("text")));
    let entry = printed.deferred(&broker);
    let status = printed.ran("status", &[]);
    assert_eq!(status["sessions"][0]["references"].as_array().map(Vec::len), Some(1), "{status}");
    let doctor = printed.ran("doctor", &[]);
    assert!(doctor.to_string().contains("problem"), "{doctor}");
    printed.ran("queue-list", &["--all"]);
    printed.ran("queue-show", &[&entry, "--profile", "stuck"]);
    for change in ["queue-hold", "queue-release", "queue-retry"] {
        printed.ran(change, &[&entry, "--profile", "stuck"]);
        let is_held = change == "queue-hold";
        broker.until("another try", || is_held || printed.is_deferred(&entry));
    }
    printed.ran("queue-hold", &["--all", "--profile", "stuck"]);
    let released = printed.ran("queue-release", &[&entry, &entry[8..], "--profile", "stuck"]);
    assert_eq!(released["entry"], entry, "both are the same one");
    broker.until("another try", || printed.is_deferred(&entry));
    let flushed = printed.ran("queue-flush", &["--wait=60"]);
    assert_eq!(flushed["entries"][0]["state"], "deferred");
    printed.ran("queue-abort", &[&entry, "--profile", "stuck"]);
    let drafts = printed.ran("inbox", &["--folder", "drafts", "--profile", "stuck"]);
    assert_eq!(drafts[0]["entry"], entry, "it was taken out of the queue");
    printed.ran("read", &[&entry, "--profile", "stuck"]);
    assert_ne!(printed.ran("folders", &[]), json!([]));
    printed.ran("search", &["hi", "--profile", "stuck"]);
    assert_eq!(printed.ran("sync", &[])["pending"], 0);
    let mut shell = printed.home.shell();
    shell.ok("logon");
    assert_eq!(printed.ran("mailbox", &[])[0]["name"], "maildir");
    shell.ok("logoff session=1");
    printed.ran("queue-flush", &[]);
    printed.ran("profile-check", &["stuck"]);
    let reloaded = printed.ran("profile-reload", &["stuck"]);
    assert_eq!(reloaded["profiles"][0]["result"], "unchanged");
    printed.ran("profile-remove", &["notes"]);
    let home = &printed.home;
    let mut command = home.command(&["logoff", "--shared", "--force", "--wait", "--json"]);
    home.settings("[shutdown]\nshared_logoff_grace = \"100ms\"\n");
    broker.signal(rustix::process::Signal::HUP);
    command.stdin(std::process::Stdio::null());
    let left = run(command, "");
    printed.checked("logoff", &left);
    printed.ran("stop", &[]);
    let tour = printed.home.run(&["tour", "--json"]).ok();
    for line in tour.output.lines() {
        printed.schemas.fits("tour", &serde_json::from_str(line).expect("a document"));
    }
    printed.seen.insert("tour");

    let all = PRINTS.iter().filter(|(_, prints)| prints.is_some()).map(|(name, _)| *name);
    assert_eq!(printed.seen, all.collect());
}

/// Errors of every sort, with what they know beside their words.
///
/// design §8
#[test]
fn errors_fit_their_schema() {
    let home = Home::new();
    let schemas = Schemas::read();
    let fails = |arguments: &[&str]| {
        let ran = home.run_with(&[arguments, &["--json"]].concat(), "hi\n").exits(1).json();
        schemas.fits("error", &ran);
        ran["error"].clone()
    };
    assert_eq!(fails(&["status"])["code"], "MAPI_E_NETWORK_ERROR");
    assert_eq!(fails(&["provider", "show", "x"])["code"], "MAPI_E_NOT_FOUND");
    let _broker = home.serve();
    assert_ne!(fails(&["send", "--to", "bo@example.org"])["addresses"], Value::Null);
    let mut shell = home.shell();
    shell.ok("logon");
    assert_ne!(fails(&["logoff", "--shared"])["owner"], Value::Null);
    assert_eq!(fails(&["queue", "show", "x"])["code"], "MAPI_E_INVALID_PARAMETER");
}

/// The shell's replies and event lines.
///
/// design §8
#[test]
fn lines_of_the_shell_fit_their_schemas() {
    let home = Home::new();
    let schemas = Schemas::read();
    home.settings("[shutdown]\nshared_logoff = \"any\"\n");
    let _broker = home.serve();
    let mut shell = home.shell();
    let mut reader = home.shell();
    let letter = home.message("letter");
    let letter = letter.display();
    shell.ok("logon");
    shell
        .ok("advise session=1 events=new-mail,object-created,object-moved,table-modified,extended");
    for what in ["inbox", "address-book", "status-table"] {
        let object = shell.ok(&format!("open session=1 what={what}"))["object"].clone();
        shell.ok(&format!("list object={object}"));
        shell.ok(&format!("advise object={object} events=table-modified"));
    }
    let entry = shell.ok(&format!("submit session=1 file={letter}"))["entry"].clone();
    shell.event("that it is out", |event| event["event"] == "object-moved");
    let sent = shell.ok("open session=1 what=sent")["object"].clone();
    assert_ne!(shell.ok(&format!("list object={sent}"))["rows"], json!([]));
    shell.ok(&format!("read session=1 entry={}", entry.as_str().expect("text")));
    let draft = shell.ok(&format!("draft session=1 file={letter}"))["object"].clone();
    shell.ok(&format!("save object={draft}"));
    shell.ok("setting session=1 name=colour");
    shell.ok("setting session=1 name=colour value=blue");
    shell.ok("flush session=1");
    shell.fails("nonsense", "MAPI_E_INVALID_PARAMETER");
    assert_ne!(shell.ok("help")["commands"], json!([]));
    shell.ok("advise session=1 events=object-modified,object-deleted");
    let folder = shell.ok("make-folder session=1 name=Work")["folder"].clone();
    let folder = folder.as_str().expect("text");
    shell.ok(&format!("make-folder session=1 name=Inner parent={folder}"));
    let append = format!("append session=1 folder={folder} file={letter} flags=flagged,$work");
    let appended = shell.ok(&append)["entry"].clone();
    let appended = appended.as_str().expect("text");
    shell.ok(&format!("copy session=1 entry={appended} folder=inbox"));
    shell.ok(&format!("flag session=1 entry={appended} add=read remove=flagged"));
    let inbox = shell.ok("open session=1 what=folder folder=inbox")["object"].clone();
    assert_ne!(shell.ok(&format!("list object={inbox} unread sort=date"))["rows"], json!([]));
    shell.ok("search session=1 words=letter");
    shell.ok(&format!("move session=1 entry={appended} folder=deleted"));
    shell.ok(&format!("delete session=1 entry={appended}"));
    shell.ok("folders session=1");
    shell.ok(&format!("rename-folder session=1 folder={folder} name=Play"));
    let made = shell.ok("make-folder session=1 name=Work")["folder"].clone();
    shell.ok(&format!("remove-folder session=1 folder={}", made.as_str().expect("text")));
    shell.event("its end", |event| event["event"] == "object-deleted" && event["folder"] == made);
    let token = shell.ok("grant object=2")["token"].clone();
    reader.ok(&format!("redeem token={}", token.as_str().expect("text")));
    reader.ok("logon");
    reader.ok("logoff session=1 shared drain=1");
    shell.event("the end", |event| event["event"] == "critical-error");
    shell.event("the departure", |event| event["kind"] == "member-left");
    shell.fails("logoff session=1 ui=no", "MAPI_E_USER_CANCEL");
    shell.ok("logoff session=1 ui=yes");
    reader.event("the loss", |event| event["event"] == "critical-error");
    shell.ok("query-fast-shutdown");
    assert_eq!(shell.ok("shut-down")["path"], "fast");

    let mut kinds = BTreeSet::new();
    for line in shell.lines().into_iter().chain(reader.lines()) {
        let schema = if line.get("reply").is_some() { "shell-reply" } else { "shell-event" };
        schemas.fits(schema, &line);
        kinds.insert(line["event"].as_str().unwrap_or_default().to_owned());
    }
    for kind in [
        "critical-error",
        "object-created",
        "object-modified",
        "object-moved",
        "object-deleted",
        "extended",
        "table-modified",
        "logoff-question",
    ] {
        assert!(kinds.contains(kind), "no {kind} was seen: {kinds:?}");
    }
}

/// Who adds a subcommand adds what it prints, and no schema is left that nothing has.
#[test]
fn every_subcommand_has_its_schema() {
    let home = Home::new();
    home.run(&["man", "pages"]).ok();
    let pages = fs::read_dir(home.path("pages")).expect("written").map(|e| e.expect("a file"));
    let names = pages.map(|page| page.file_name().into_string().expect("text"));
    let name = |page: &str| Some(page.strip_prefix("sundown-")?.strip_suffix(".1")?.to_owned());
    let all: BTreeSet<_> = names.filter_map(|page| name(&page)).collect();
    let above = |name: &&String| all.iter().any(|other| other.starts_with(&format!("{name}-")));
    let leaves: BTreeSet<_> = all.iter().filter(|name| !above(name)).map(String::as_str).collect();
    assert_eq!(leaves, PRINTS.iter().map(|(name, _)| *name).collect());

    let schemas = Schemas::read();
    let named = PRINTS.iter().filter_map(|(_, schema)| *schema).chain(OTHERS);
    let found: BTreeSet<_> = schemas.0.keys().map(String::as_str).collect();
    assert_eq!(found, named.collect());
    let page = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/command.md");
    let page = fs::read_to_string(page).expect("it can be read");
    for name in found {
        assert!(page.contains(&format!("](schemas/{name}.json)")), "docs/command.md lacks {name}");
    }
}
