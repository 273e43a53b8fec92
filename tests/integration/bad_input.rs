//! What makes no sense is refused, with a code and words, and changes nothing.

use std::io::Write;
use std::process::{Command, Stdio};

use serde_json::json;

use crate::harness::{Home, run};

/// A profile that does not exist, in every command that takes one.
///
/// LOGON-5, design §8
#[test]
fn an_unknown_profile_is_not_found() {
    let home = Home::new();
    let _broker = home.serve();
    let mut shell = home.shell();
    let error = shell.fails("logon profile=nobody", "MAPI_E_NOT_FOUND");
    assert!(error["message"].as_str().is_some_and(|m| m.contains("nobody")), "{error}");
    shell.fails("logon profile=nobody private", "MAPI_E_NOT_FOUND");
    shell.fails("logon profile=../default", "MAPI_E_INVALID_PARAMETER");
    shell.fails(&format!("logon profile={}", "x".repeat(65)), "MAPI_E_INVALID_PARAMETER");
    for command in [&["send", "--to", "anna"][..], &["queue"], &["logoff"]] {
        let ran = home.run(&[command, &["--profile", "nobody", "--json"]].concat());
        assert_eq!(ran.exits(1).json()["error"]["code"], "MAPI_E_NOT_FOUND", "{command:?}");
    }
    shell.ok("logon");
}

/// A profile whose file is wrong says where: file, line and key. It keeps nobody else from anything.
///
/// design §7
#[test]
fn a_malformed_profile_says_where() {
    let home = Home::new();
    home.profile("odd", "[[transport]]\nkind = \"maildir\"\n\n[queue]\nretry_mim = \"1s\"\n");
    let _broker = home.serve();
    let mut shell = home.shell();
    let error = shell.fails("logon profile=odd", "MAPI_E_UNCONFIGURED");
    let message = error["message"].as_str().expect("text");
    for word in ["odd.toml", "line 5", "retry_mim", "retry_min"] {
        assert!(message.contains(word), "{message}");
    }
    shell.ok("logon");
}

/// A message without recipients, with an address that is none, or with a recipient that no transport takes is refused as
/// a whole, and nothing is stored.
///
/// QUEUE-1, design §3.20
#[test]
fn a_message_that_cannot_be_sent_is_not_stored() {
    let home = Home::new();
    let _broker = home.serve();
    let mut shell = home.shell();
    shell.ok("logon");
    let mut refused = |text: &str, code: &str| {
        let file = home.write("refused.eml", text);
        shell.fails(&format!("submit session=1 file={}", file.display()), code)
    };
    refused("Subject: nobody\n\nbody\n", "MAPI_E_NO_RECIPIENTS");
    refused("To: undisclosed-recipients:;\n\nbody\n", "MAPI_E_NO_RECIPIENTS");
    refused("", "MAPI_E_NO_RECIPIENTS");
    refused("no header at all\n", "MAPI_E_NO_RECIPIENTS");
    let error = refused("To: anna@localhost, a@b@\n\nbody\n", "MAPI_E_INVALID_PARAMETER");
    assert!(!error["addresses"].as_array().expect("addresses").is_empty(), "{error}");
    let error = refused(
        "To: anna@localhost, far@example.org\nBcc: off@example.com\n\n",
        "MAPI_E_UNCONFIGURED",
    );
    assert_eq!(error["addresses"], json!(["far@example.org", "off@example.com"]));
    let message = error["message"].as_str().expect("text");
    assert!(message.contains("far@example.org") && message.contains("profile add"), "{message}");

    assert_eq!(home.run(&["queue", "list", "--all", "--json"]).ok().json(), json!([]));
    let outbox = shell.ok("open session=1 what=outbox")["object"].clone();
    assert_eq!(shell.ok(&format!("list object={outbox}"))["rows"], json!([]));
    let failed =
        home.run_with(&["send", "--to", "far@example.org", "--json"], "hello\n").exits(1).json();
    assert_eq!(failed["error"]["code"], "MAPI_E_UNCONFIGURED");
    assert_eq!(failed["error"]["addresses"], json!(["far@example.org"]));
}

/// A message beyond the limit is too big, however it travels: within a request or in pieces.
///
/// design §8
#[test]
fn a_message_beyond_the_limit_is_too_big() {
    let home = Home::with_settings("[limits]\nmessage = \"400KiB\"\nrecipients = 3\n");
    let broker = home.serve();
    let mut shell = home.shell();
    shell.ok("logon");
    let submit = |name: &str, size: usize| {
        let head = "To: anna@localhost\nSubject: big\n\n";
        let file = home.write(name, format!("{head}{}", "x".repeat(size - head.len())));
        format!("submit session=1 file={}", file.display())
    };
    let (fits, streamed, beyond) = (
        submit("fits.eml", 1 << 10),
        submit("streamed.eml", 300 << 10),
        submit("beyond.eml", (400 << 10) + 1),
    );
    shell.fails(&beyond, "MAPI_E_TOO_BIG");
    let draft = beyond.replace("submit", "draft");
    shell.fails(&draft, "MAPI_E_TOO_BIG");
    shell.ok(&fits);
    shell.ok(&streamed);
    broker.until("two messages", || home.maildir("default").count() == 2);
    shell.ok("logoff session=1 drain=60");
    let sizes = home.maildir("default").messages().into_iter().map(|m| m.text.len());
    assert!(sizes.max() > Some(300 << 10), "nothing of the body is lost");

    shell.ok("logon");
    let many = home.write("many.eml", "To: a, b, c, d\n\nbody\n");
    shell.fails(&format!("submit session=2 file={}", many.display()), "MAPI_E_TOO_BIG");
}

/// Words that are no commands, and arguments that make no sense, are answered one by one; blank lines and comments are
/// not counted.
///
/// design §8
#[test]
fn a_shell_answers_whatever_it_is_told() {
    let home = Home::new();
    let _broker = home.serve();
    let mut shell = home.shell();
    shell.write("\n   \n# a comment\n\t# another\n");
    assert_eq!(shell.ok("logon")["reply"], 1);
    for command in [
        "fly",
        "LOGON",
        "logon=1",
        "logon fast",
        "logon private=yes",
        "logon profile",
        "open session=1",
        "open what=inbox",
        "open session=1 what=attic",
        "open session=one what=inbox",
        "open session=-1 what=inbox",
        "open session=7 what=inbox",
        "open session=1 what=inbox what=sent",
        "open session=1 what=\"inbox",
        "advise session=1 events=rain",
        "advise",
        "list",
        "list object=x",
        "read session=1",
        "submit session=1",
        "submit session=1 file",
        "submit session=1 file=a content=YQ==",
        "submit session=1 content=YQ",
        "submit session=1 content=!",
        "submit session=1 size=many",
        "help me",
        "abort-submit session=1 entry=!",
        "logoff",
        "logoff session=1 drain=soon",
        "logoff session=1 drain=-1",
        "logoff session=1 shared=1",
        "uninitialize now",
    ] {
        shell.fails(command, "MAPI_E_INVALID_PARAMETER");
    }
    shell.fails("unadvise connection=99", "MAPI_E_NOT_FOUND");
    shell.fails("submit session=1 file=/nowhere/at/all.eml", "MAPI_E_NOT_FOUND");
    shell.fails("list object=99", "MAPI_E_INVALID_OBJECT");
    shell.fails("advise session=1 events=", "MAPI_E_INVALID_PARAMETER");
    // None of it has changed anything.
    shell.ok("open session=1 what=inbox");
    assert_eq!(home.status()["sessions"][0]["members"][0]["objects"], 1);
    let replies = shell.lines().into_iter().map(|l| l["reply"].as_u64().expect("only replies"));
    assert!(replies.eq(1..=38), "exactly one reply each, in order");
}

/// Commands may come in any pieces, and the end of the input in place of the last line's end.
///
/// design §8
#[test]
fn a_shell_reads_whatever_pieces_its_commands_come_in() {
    let home = Home::new();
    let _broker = home.serve();
    let input = "logon\nopen session=1 what=inbox\r\n\nlist object=1\nunadvise connection=99";
    let whole = home.run_with(&["shell", "--json"], input).ok().output;
    assert_eq!(whole.lines().count(), 4, "{whole}");
    let mut shell = home.shell();
    for byte in input.chars() {
        shell.write(byte.encode_utf8(&mut [0; 4]));
    }
    assert!(shell.end().success());
    let told = |line: &serde_json::Value| (line["reply"].clone(), line["ok"].clone());
    let whole: Vec<_> = whole.lines().map(|l| serde_json::from_str(l).expect("JSON")).collect();
    let pieces = shell.lines();
    assert_eq!(
        pieces.iter().map(told).collect::<Vec<_>>(),
        whole.iter().map(told).collect::<Vec<_>>()
    );
}

/// A message may stand in the line or behind it. What is behind a line is never a command, whatever becomes of the line.
///
/// issue 20
#[test]
fn bytes_of_a_message_are_no_commands() {
    let home = Home::with_settings("[limits]\nmessage = \"1KiB\"\n");
    let _broker = home.serve();
    let mut shell = home.shell();
    shell.ok("logon");
    let message = "To: anna@localhost\nSubject: behind\n\nlogon\nuninitialize\n";
    let long = format!("To: anna@localhost\n\n{}", "uninitialize\n".repeat(200));
    for (line, bytes, code) in [
        ("submit session=1", message, None),
        ("append session=1 folder=inbox", message, None),
        ("submit session=7", message, Some("MAPI_E_INVALID_PARAMETER")),
        ("submit session=1 file=x", message, Some("MAPI_E_INVALID_PARAMETER")),
        ("logon", message, Some("MAPI_E_INVALID_PARAMETER")),
        ("fly", message, Some("MAPI_E_INVALID_PARAMETER")),
        ("append session=1 folder=\"inbox", message, Some("MAPI_E_INVALID_PARAMETER")),
        ("submit session=1", &long, Some("MAPI_E_TOO_BIG")),
        ("draft session=1", message, None),
    ] {
        let number = shell.tell(&format!("{line} size={}", bytes.len()));
        shell.write(bytes);
        let reply = shell.reply(number);
        assert_eq!(reply["ok"], code.is_none(), "{line}: {reply}");
        assert!(code.is_none_or(|code| reply["error"]["code"] == code), "{line}: {reply}");
    }
    // "To: anna@localhost\nSubject: in the line\n\n"
    shell.ok("append session=1 folder=inbox content=VG86IGFubmFAbG9jYWxob3N0ClN1YmplY3Q6IGluIHRoZSBsaW5lCgo=");
    let inbox = shell.ok("open session=1 what=inbox")["object"].clone();
    let rows = shell.ok(&format!("list object={inbox}"))["rows"].clone();
    let subjects: Vec<_> = rows.as_array().expect("rows").iter().map(|r| &r["subject"]).collect();
    assert!(subjects.iter().any(|subject| *subject == "behind"), "{subjects:?}");
    assert!(subjects.iter().any(|subject| *subject == "in the line"), "{subjects:?}");
    let row = rows.as_array().expect("rows").iter().find(|row| row["subject"] == "behind");
    let entry = row.expect("it is there")["entry"].as_str().expect("text").to_owned();
    assert_eq!(shell.ok(&format!("read session=1 entry={entry}"))["content"], message);

    // The input ends within a message: it is not carried out, and there is no reply.
    shell.write("submit session=1 size=100\nTo: anna@localhost\n");
    let replies = shell.lines().iter().filter(|line| line.get("reply").is_some()).count();
    assert!(shell.end().success());
    assert_eq!(shell.lines().iter().filter(|line| line.get("reply").is_some()).count(), replies);
}

/// After `uninitialize` nothing goes any more, and the shell still ends only when its input does.
///
/// INIT-2, INIT-13, STICK-5, design §8
#[test]
fn after_uninitialize_nothing_goes() {
    let home = Home::new();
    let _broker = home.serve();
    let mut shell = home.shell();
    shell.ok("logon");
    shell.ok("logon private");
    shell.ok("open session=1 what=inbox");
    shell.ok("advise session=2");
    shell.ok("uninitialize");
    for command in [
        "logon",
        "uninitialize",
        "open session=1 what=inbox",
        "list object=1",
        "logoff session=1",
        "fly",
    ] {
        shell.fails(command, "MAPI_E_NOT_INITIALIZED");
    }
    assert_eq!(home.status()["sessions"], json!([]));
    assert!(shell.end().success());
}

/// The command's own arguments.
///
/// design §8
#[test]
fn a_command_refuses_arguments_that_make_no_sense() {
    let home = Home::new();
    let _broker = home.serve();
    for arguments in
        [&["fly"][..], &[], &["send", "--wait=soon"], &["queue", "show"], &["status", "extra"]]
    {
        let ran = home.run(arguments).exits(2);
        assert!(ran.output.is_empty() && !ran.errors.is_empty(), "{ran:?}");
    }
    let ran = home.run(&["queue", "show", "0123", "--json"]).exits(1);
    assert_eq!(ran.json()["error"]["code"], "MAPI_E_INVALID_PARAMETER");
    let ran = home.run(&["queue", "show", &"0".repeat(40), "--json"]).exits(1);
    assert_eq!(ran.json()["error"]["code"], "MAPI_E_NOT_IN_QUEUE");
    let ran = home.run(&["send", "missing.eml", "--json"]).exits(1);
    assert_eq!(ran.json()["error"]["code"], "MAPI_E_NOT_FOUND");
    let ran = home.run(&["queue", "show", "0123"]).exits(1);
    assert!(
        ran.output.is_empty() && ran.errors.contains("MAPI_E_INVALID_PARAMETER 0x80070057"),
        "{ran:?}"
    );
}

/// An input without an end is not read into memory: it is refused when it is longer than what the broker takes, also where that is more
/// than a message usually has.
///
/// design §8
#[test]
fn an_input_without_an_end_is_refused() {
    let home = Home::with_settings("[limits]\nmessage = \"120MiB\"\n");
    let _broker = home.serve();
    let endless = |arguments: &[&str]| {
        let client = home.command(arguments);
        let mut command = Command::new("/bin/sh");
        // Without a bound it would be memory that ends.
        command.args(["-c", "ulimit -v 1500000; exec \"$@\" </dev/zero", "sh"]).env_clear();
        command.arg(client.get_program()).args(client.get_args());
        command.envs(client.get_envs().filter_map(|(name, value)| Some((name, value?))));
        run(command, "")
    };
    for arguments in [&["send", "--to", "anna", "--json"][..], &["send", "/dev/zero", "--json"]] {
        let error = endless(arguments).exits(1).json()["error"].clone();
        assert_eq!(error["code"], "MAPI_E_TOO_BIG", "{error}");
        let limit = (120_u64 << 20).to_string();
        assert!(error["message"].as_str().is_some_and(|m| m.contains(&limit)), "{error}");
    }
}

/// An input with this text.
fn typed(text: &str) -> Stdio {
    let (read, mut write) = std::io::pipe().expect("a pipe");
    write.write_all(text.as_bytes()).expect("there is room");
    read.into()
}

/// What every subcommand prints may find nobody who reads it, or no room: the first is no failure, the second is one of what only prints,
/// and neither is a panic.
///
/// design §8
#[test]
fn a_closed_or_full_output_is_no_panic() {
    let home = Home::new();
    let _broker = home.serve();
    let entry = home.run_with(&["send", "--to", "anna@localhost", "--json"], "hi\n").ok().json();
    let entry = entry["entry"].as_str().expect("text");
    let print: [&[&str]; 10] = [
        &["status"],
        &["queue", "list", "--all"],
        &["queue", "show", entry],
        &["doctor"],
        &["profile", "list"],
        &["profile", "show", "default"],
        &["provider", "list"],
        &["provider", "show", "sqlite"],
        &["man"],
        &["profile", "check", "default"],
    ];
    // These have no form for programs.
    let texts: [&[&str]; 9] = [
        &["--help"],
        &["-h"],
        &["--version"],
        &["help"],
        &["help", "send"],
        &["queue", "list", "--help"],
        &["completions", "zsh"],
        &["shell"],
        &["tour"],
    ];
    let others: [&[&str]; 4] = [
        &["queue", "show", "12"],
        &["queue", "flush"],
        &["status", "--socket", "/nowhere"],
        &["logoff"],
    ];
    let ends = |arguments: &[&str], output: Stdio| {
        // These take no option behind them.
        let alone = ["help", "sendmail"].contains(&arguments[0]);
        let mut command = if alone { home.bare(arguments) } else { home.command(arguments) };
        let input = if arguments == ["shell"] { "logon\nnonsense\n" } else { "" };
        let ran = command.stdin(typed(input)).stdout(output).output().expect("it ends");
        let errors = String::from_utf8_lossy(&ran.stderr).into_owned();
        assert!(!errors.contains("panicked"), "{arguments:?}: {errors}");
        ran.status.code()
    };
    let closed = || Stdio::from(std::io::pipe().expect("a pipe").1);
    let full =
        || Stdio::from(std::fs::File::options().write(true).open("/dev/full").expect("there"));
    for arguments in texts {
        assert_eq!(ends(arguments, closed()), Some(0), "{arguments:?}");
        assert_eq!(ends(arguments, full()), Some(1), "{arguments:?}");
    }
    for (arguments, status) in [(&["sendmail", "--help"], 70), (&["sendmail", "-bp"], 70)] {
        assert_eq!(ends(arguments, closed()), Some(0), "{arguments:?}");
        assert_eq!(ends(arguments, full()), Some(status), "{arguments:?}");
    }
    for json in [&[][..], &["--json"]] {
        for arguments in print {
            let arguments = [json, arguments].concat();
            assert_eq!(ends(&arguments, closed()), Some(0), "{arguments:?}");
            assert_eq!(ends(&arguments, full()), Some(1), "{arguments:?}");
        }
        for arguments in others {
            let arguments = [json, arguments].concat();
            let ordinary = ends(&arguments, Stdio::null());
            assert_eq!(ends(&arguments, closed()), ordinary, "{arguments:?}");
            assert_eq!(ends(&arguments, full()), ordinary, "{arguments:?}");
        }
    }
}

/// An argument that makes no sense is refused before a broker is started.
///
/// design §8
#[test]
fn no_broker_is_started_to_refuse_an_argument() {
    let home = Home::new();
    for arguments in
        [&["queue", "show", "12"][..], &["queue", "hold", "x"], &["profile", "remove", "../x"]]
    {
        let ran = run(home.bare(&[arguments, &["--json"]].concat()), "").exits(1);
        assert_eq!(ran.json()["error"]["code"], "MAPI_E_INVALID_PARAMETER", "{arguments:?}");
        assert!(home.brokers().is_empty() && !home.data().exists(), "{arguments:?}");
    }
}

/// Pipes and endless files in the places of the broker's own files hold up neither its start nor whoever looks at them.
#[test]
fn what_is_no_file_is_not_read() {
    use rustix::fs::{CWD, FileType, Mode, mknodat};
    let home = Home::new();
    let data = home.path(".local/share/sundown");
    std::fs::create_dir_all(&data).expect("made");
    let pipe = |name: &str| {
        let path = data.join(name);
        let _ = std::fs::remove_file(&path);
        mknodat(CWD, path, FileType::Fifo, Mode::RUSR | Mode::WUSR, 0).expect("a pipe");
    };
    for name in ["running.json", "running.new", "last-exit.json", "last-exit.new", "broker.log"] {
        pipe(name);
    }
    std::os::unix::fs::symlink("/dev/zero", data.join("smtp-servers.json")).expect("a link");
    let mut broker = home.serve();
    home.run(&["status"]).ok();
    let looked = home.run(&["doctor", "--json"]);
    assert!(looked.output.contains("\"broker\""), "{looked:?}");
    broker.terminate();
    for name in ["broker.lock", "running.json"] {
        pipe(name);
    }
    home.run(&["doctor", "--json"]);
    let refused = home.run(&["send", "--to", "anna@localhost"]);
    assert!(!refused.status.success(), "{refused:?}");
}
