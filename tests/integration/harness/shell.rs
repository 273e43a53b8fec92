//! A process with sessions, driven by commands.

use std::io::Write;
use std::process::{Child, ChildStdin, ExitStatus, Stdio};

use rustix::process::Signal;
use serde_json::Value;

use super::{Lines, signal, wait_for_end};

/// A `sundown shell --json`. It is killed at the end of its test.
pub(crate) struct Shell {
    child: Child,
    input: Option<ChildStdin>,
    output: Lines,
    asked: u64,
}

/// Whether an event has these keys with these values.
pub(crate) fn says<'a>(wanted: &'a [(&'a str, &'a str)]) -> impl Fn(&Value) -> bool + 'a {
    move |event| wanted.iter().all(|(key, value)| event[*key] == *value)
}

impl Shell {
    pub(crate) fn start(mut command: std::process::Command) -> Self {
        command.stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = command.spawn().expect("the shell starts");
        let input = child.stdin.take();
        let output = Lines::of(child.stdout.take().expect("it is a pipe"));
        Self { child, input, output, asked: 0 }
    }

    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Gives it a command, and does not wait. The number its reply will have.
    pub(crate) fn tell(&mut self, command: &str) -> u64 {
        self.asked += 1;
        self.write(&format!("{command}\n"));
        self.asked
    }

    /// Writes to its standard input as it is.
    pub(crate) fn write(&mut self, text: &str) {
        let input = self.input.as_mut().expect("its input is open");
        input.write_all(text.as_bytes()).and_then(|()| input.flush()).expect("it reads");
    }

    /// The reply with that number.
    pub(crate) fn reply(&self, number: u64) -> Value {
        self.output.find(&format!("reply {number}"), 0, |line| {
            serde_json::from_str(line).ok().filter(|v: &Value| v["reply"] == number)
        })
    }

    /// The reply to a command.
    pub(crate) fn ask(&mut self, command: &str) -> Value {
        let from = self.output.count();
        let number = self.tell(command);
        self.output.find(&format!("the reply to {command:?}"), from, |line| {
            serde_json::from_str(line).ok().filter(|v: &Value| v["reply"] == number)
        })
    }

    /// The reply to a command that must succeed.
    pub(crate) fn ok(&mut self, command: &str) -> Value {
        let reply = self.ask(command);
        assert_eq!(reply["ok"], true, "{command}: {reply}");
        reply
    }

    /// The error of a command that must fail with that code.
    pub(crate) fn fails(&mut self, command: &str, code: &str) -> Value {
        let reply = self.ask(command);
        assert_eq!(reply["ok"], false, "{command}: {reply}");
        let error = reply["error"].clone();
        assert_eq!(error["code"], code, "{command}: {reply}");
        assert_eq!(error["hresult"], hresult(code), "{command}: {reply}");
        assert!(error["message"].as_str().is_some_and(|m| !m.is_empty()), "{command}: {reply}");
        error
    }

    /// The entry of a message it submits.
    pub(crate) fn submit(&mut self, session: u64, file: &std::path::Path) -> String {
        let reply = self.ok(&format!("submit session={session} file={}", file.display()));
        reply["entry"].as_str().expect("an entry").to_owned()
    }

    /// The first event that fits, which may have come already.
    pub(crate) fn event(&self, what: &str, fits: impl Fn(&Value) -> bool) -> Value {
        self.output.find(what, 0, |line| {
            serde_json::from_str(line).ok().filter(|v: &Value| v.get("event").is_some() && fits(v))
        })
    }

    /// All events so far that fit.
    pub(crate) fn events(&self, fits: impl Fn(&Value) -> bool) -> Vec<Value> {
        let lines = self.lines().into_iter();
        lines.filter(|v| v.get("event").is_some() && fits(v)).collect()
    }

    /// Everything it has said, each line of it JSON.
    pub(crate) fn lines(&self) -> Vec<Value> {
        let parse =
            |line: String| serde_json::from_str(&line).unwrap_or_else(|e| panic!("{line:?}: {e}"));
        self.output.all().into_iter().map(parse).collect()
    }

    /// Whatever the broker has said to this process before is printed when this returns: a session of its own that
    /// begins and ends takes several round trips, each of which comes after it.
    pub(crate) fn settle(&mut self) {
        for _ in 0..2 {
            let session = self.ok("logon private no-mail")["session"].clone();
            self.ok(&format!("logoff session={session}"));
        }
    }

    /// SIGKILL, and the end.
    pub(crate) fn kill(&mut self) {
        signal(&self.child, Signal::KILL);
        self.wait();
    }

    /// Ends its input and waits for its end.
    pub(crate) fn end(&mut self) -> ExitStatus {
        self.input = None;
        self.wait()
    }

    /// Waits for the end, and for what it has said until then.
    fn wait(&mut self) -> ExitStatus {
        let status = wait_for_end(&mut self.child);
        self.output.wait_for_end();
        status
    }
}

impl Drop for Shell {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        if std::thread::panicking() {
            eprintln!("shell {} said:\n{}", self.child.id(), self.output.all().join("\n"));
        }
    }
}

/// The numbers of the codes that tests meet, as MAPI's headers have them.
fn hresult(code: &str) -> &'static str {
    match code {
        "MAPI_E_NO_SUPPORT" => "0x80040102",
        "MAPI_E_INVALID_OBJECT" => "0x80040108",
        "MAPI_E_NOT_ENOUGH_DISK" => "0x8004010D",
        "MAPI_E_NOT_FOUND" => "0x8004010F",
        "MAPI_E_PROFILE_DELETED" => "0x80040204",
        "MAPI_E_USER_CANCEL" => "0x80040113",
        "MAPI_E_UNCONFIGURED" => "0x8004011C",
        "MAPI_E_END_OF_SESSION" => "0x80040200",
        "MAPI_E_TOO_BIG" => "0x80040305",
        "MAPI_E_CORRUPT_STORE" => "0x80040600",
        "MAPI_E_VERSION" => "0x80040110",
        "MAPI_E_COLLISION" => "0x80040604",
        "MAPI_E_HAS_FOLDERS" => "0x80040609",
        "MAPI_E_HAS_MESSAGES" => "0x8004060A",
        "MAPI_E_NOT_IN_QUEUE" => "0x80040601",
        "MAPI_E_NOT_INITIALIZED" => "0x80040605",
        "MAPI_E_NO_RECIPIENTS" => "0x80040607",
        "MAPI_E_NO_ACCESS" => "0x80070005",
        "MAPI_E_INVALID_PARAMETER" => "0x80070057",
        "MAPI_E_BUSY" => "0x8004010B",
        "MAPI_E_SESSION_LIMIT" => "0x80040112",
        "MAPI_E_NOT_ENOUGH_RESOURCES" => "0x8004010E",
        "RPC_E_DISCONNECTED" => "0x80010108",
        other => panic!("no test has met {other} before; add its number"),
    }
}
