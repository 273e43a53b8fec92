//! Which commands the shell has: what carries each out, and what `help` and `--help` say about it.

use std::fmt::Write;

use serde_json::{Value, json};

use super::commands::{Reply, Shell, end};
use super::line::Words;
use crate::examples;

/// A command of the shell.
pub(super) struct Command {
    pub(super) name: &'static str,
    /// The words that it takes, as a person would write them: optional ones stand in brackets.
    words: &'static str,
    about: &'static str,
    pub(super) run: fn(&mut Shell, &mut Words) -> Reply,
}

const fn command(
    name: &'static str,
    words: &'static str,
    about: &'static str,
    run: fn(&mut Shell, &mut Words) -> Reply,
) -> Command {
    Command { name, words, about, run }
}

/// All commands, in the order in which a program meets them. `docs/command.md` has their replies.
pub(super) const COMMANDS: &[Command] = &[
    command("help", "", "list the commands", |_, w| help(w)),
    command(
        "logon",
        "[profile=P] [private] [no-mail] [download]",
        "log on to a session",
        Shell::logon,
    ),
    command("advise", "session=S|object=O [events=E,…]", "print events", Shell::advise),
    command("unadvise", "connection=C", "print them no more", Shell::unadvise),
    command(
        "open",
        "session=S what=W [folder=F] [entry=E] [store=N]",
        "open an object",
        Shell::open,
    ),
    command(
        "list",
        "object=O [sort=COLUMN] [order=ascending|descending] [limit=N] [unread]",
        "list the rows of a folder, the address book or the status table",
        Shell::list,
    ),
    command("release", "object=O", "close an object", Shell::release),
    command("read", "session=S entry=E | object=O", "print a message", Shell::read),
    command(
        "submit",
        "session=S file=PATH|content=BASE64|size=N [deferred] [key=HEX]",
        "put a message into the queue",
        Shell::submit,
    ),
    command(
        "draft",
        "session=S file=PATH|content=BASE64|size=N",
        "begin a message without saving it",
        Shell::draft,
    ),
    command("save", "object=O", "save a draft", Shell::save),
    command("folders", "session=S [store=N]", "list the folders", |s, w| s.folders(w)),
    command("make-folder", "session=S name=N [parent=F] [store=N]", "make a folder", |s, w| {
        s.make_folder(w)
    }),
    command("rename-folder", "session=S folder=F name=N [store=N]", "rename a folder", |s, w| {
        s.rename_folder(w)
    }),
    command("remove-folder", "session=S folder=F [store=N]", "remove an empty folder", |s, w| {
        s.remove_folder(w)
    }),
    command(
        "flag",
        "session=S entry=E [add=FLAG,…] [remove=FLAG,…]",
        "change flags and keywords",
        |s, w| s.flag(w),
    ),
    command("move", "session=S entry=E folder=F", "move a message", |s, w| s.move_to(w)),
    command("copy", "session=S entry=E folder=F", "copy a message", |s, w| s.copy_to(w)),
    command("delete", "session=S entry=E", "move a message to deleted, then delete it", |s, w| {
        s.delete(w)
    }),
    command(
        "append",
        "session=S folder=F file=PATH|content=BASE64|size=N [flags=FLAG,…] [store=N]",
        "put a message into a folder",
        Shell::append,
    ),
    command(
        "search",
        "session=S words=\"…\" [folder=F] [limit=N] [store=N]",
        "search",
        |s, w| s.search(w),
    ),
    command("sync", "session=S", "let the mailboxes look at everything", |s, w| s.sync(w)),
    command("setting", "session=S name=N [value=V]", "read or change a setting", Shell::setting),
    command("abort-submit", "session=S entry=E", "take a message back", Shell::abort_submit),
    command("flush", "session=S", "send what waits", Shell::flush),
    command(
        "logoff",
        "session=S [shared] [drain=SECONDS] [ui=yes|no]",
        "log off, or end the session for everybody",
        Shell::logoff,
    ),
    command(
        "query-fast-shutdown",
        "",
        "ask whether a fast shutdown is possible",
        Shell::query_fast_shutdown,
    ),
    command(
        "notify-process-shutdown",
        "",
        "announce that this process ends",
        Shell::notify_process_shutdown,
    ),
    command("do-fast-shutdown", "", "save what must be saved, and leave", Shell::do_fast_shutdown),
    command("shut-down", "", "leave, fast where that is possible", Shell::shut_down),
    command("grant", "object=O [pid=PID]", "lend an object to a process", Shell::grant),
    command("redeem", "token=T", "open what another process lends", Shell::redeem),
    command("revoke", "token=T", "take a loan back", Shell::revoke),
    command("uninitialize", "", "log off from all sessions", Shell::uninitialize),
];

fn help(words: &Words) -> Reply {
    end(words)?;
    let row = |c: &Command| json!({"command": c.name, "words": c.words, "about": c.about});
    Ok(json!({ "commands": COMMANDS.iter().map(row).collect::<Vec<Value>>() }))
}

/// What `sundown shell --help` says behind the options.
pub(crate) fn after_help() -> String {
    let mut text = format!("{}\n\nCommands of the shell:\n", examples::SHELL);
    for Command { name, words, about, .. } in COMMANDS {
        let usage = format!("{name} {words}");
        let _ = match usage.trim_end() {
            usage if usage.chars().count() <= 30 => writeln!(text, "  {usage:<31} {about}"),
            usage => writeln!(text, "  {usage}\n{:34}{about}", ""),
        };
    }
    text.push_str(
        "\nAfter a line with size=N the next N bytes are the message; the line behind them is a command again.",
    );
    text
}
