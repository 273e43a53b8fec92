//! Options and subcommands.

// These comments are help texts, where backticks would be shown.
#![allow(clippy::doc_markdown)]

use std::ffi::{OsStr, OsString};
use std::io::{ErrorKind, Write};
use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, CommandFactory, Parser, Subcommand, ValueEnum};
use sundown_client::paths::{Arguments, Environment, Paths, PathsError, Whose};
use sundown_client::{Error, Mapi, Options, Session, SubmissionState, SubmitKey};

use crate::examples;
use crate::reading::arguments::{InboxArguments, ReadArguments, SearchArguments};

/// A session broker for mail: programs share one logged-on session, hand their mail over, and leave when they like.
#[derive(Debug, Parser)]
#[command(name = "sundown", version, about, after_help = examples::ALL)]
pub(crate) struct Cli {
    #[command(flatten)]
    pub(crate) options: Global,
    #[command(subcommand)]
    pub(crate) command: Command,
}

/// Options of every subcommand; each has an environment twin.
#[derive(Debug, Default, Args)]
#[command(next_help_heading = "Options of every subcommand")]
pub(crate) struct Global {
    /// The broker's socket [env: SUNDOWN_SOCKET]
    #[arg(long, global = true, value_name = "PATH")]
    socket: Option<PathBuf>,
    /// The data directory [env: SUNDOWN_DATA_DIR]
    #[arg(long, global = true, value_name = "DIR")]
    data_dir: Option<PathBuf>,
    /// The settings file; the folder `profiles` beside it has the profiles [env: SUNDOWN_CONFIG]
    #[arg(long, global = true, value_name = "FILE")]
    config: Option<PathBuf>,
    /// The profile to use [default: default] [env: SUNDOWN_PROFILE]
    #[arg(long, global = true, value_name = "NAME")]
    profile: Option<String>,
    /// Do not start a broker if none runs [env: SUNDOWN_NO_AUTOSTART=1]
    #[arg(long, global = true)]
    no_autostart: bool,
    /// Print JSON, also for errors
    #[arg(long, global = true)]
    pub(crate) json: bool,
    /// Log level of a new broker: off, error, warn, info, debug, trace, or MODULE=LEVEL,… [env: SUNDOWN_LOG]
    #[arg(long, global = true, value_name = "LEVEL")]
    log_level: Option<String>,
    /// Log format of a new broker: text, json or journald [env: SUNDOWN_LOG_FORMAT]
    #[arg(long, global = true, value_name = "FORMAT")]
    log_format: Option<String>,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Run the broker in the foreground
    #[command(after_help = examples::SERVE)]
    Serve(ServeArguments),
    /// Show how programs share a session, with real processes
    ///
    /// The tour has a broker of its own in a temporary directory. It checks each claim that it shows. The exit status is 0 if all
    /// claims are true.
    Tour,
    /// Read commands from standard input: log on, submit, log off
    ///
    /// The shell is one process of the broker's. It prints a reply for each command, and the events that it is told.
    #[command(after_help = crate::shell::help::after_help())]
    Shell,
    /// Send a message: put it into the outgoing queue
    ///
    /// The command returns when the message is safe on disk. The broker sends it.
    #[command(after_help = examples::SEND)]
    Send(SendArguments),
    /// Send a message with the options of sendmail
    ///
    /// Options of Sundown stand before the word `sendmail`, options of sendmail after it. The exit statuses are those of sendmail.
    #[command(override_usage = "sundown [OPTIONS] sendmail [FLAG|ADDRESS]...", after_help = examples::SENDMAIL)]
    Sendmail(SendmailArguments),
    /// Show sessions, members, providers and the queue
    ///
    /// The exit status is 1 if no broker runs.
    #[command(after_help = examples::STATUS)]
    Status(StatusArguments),
    /// Show and change the outgoing queue
    #[command(after_help = examples::QUEUE)]
    Queue(QueueArguments),
    /// List the messages of a folder, newest first
    #[command(after_help = examples::INBOX)]
    Inbox(InboxArguments),
    /// Show a message, or save its attachments
    ///
    /// Marks the message as read once it is written.
    #[command(after_help = examples::READ)]
    Read(ReadArguments),
    /// Find messages, newest first
    ///
    /// Finds messages with all these words in their subject, addresses, text or names of attachments. Quote a phrase twice: '"two words"'.
    #[command(after_help = examples::SEARCH)]
    Search(SearchArguments),
    /// List the folders
    #[command(after_help = examples::FOLDERS)]
    Folders,
    /// Have the mailboxes look for new mail and changes now
    ///
    /// Prints what was found. Changes that were made here are tried, too.
    #[command(after_help = examples::SYNC)]
    Sync(SyncArguments),
    /// Show the mailboxes of running sessions: how far they are, and what is wrong with them
    #[command(after_help = examples::MAILBOX)]
    Mailbox,
    /// Log off, or end the shared session for all its programs
    ///
    /// The command joins the shared session of the profile and logs off from it at once. With --shared it ends the session for all
    /// programs in it. On a terminal --shared and --drain first show these programs and their queued mail, and ask.
    #[command(after_help = examples::LOGOFF)]
    Logoff(LogoffArguments),
    /// Manage profiles: the accounts that programs log on to
    #[command(after_help = examples::PROFILE)]
    Profile(ProfileArguments),
    /// Show the kinds of stores, transports, mailboxes and address books, and their settings
    #[command(after_help = examples::PROVIDER)]
    Provider(ProviderArguments),
    /// Stop the broker, which ends all sessions
    #[command(after_help = examples::STOP)]
    Stop(StopArguments),
    /// Check everything that mail depends on, and say what to do
    ///
    /// The command starts no broker and changes nothing. The exit status is 1 if it finds a problem.
    #[command(after_help = examples::DOCTOR)]
    Doctor,
    /// Print a completion script for a shell
    #[command(after_help = examples::COMPLETIONS)]
    Completions(CompletionsArguments),
    /// Print the manual page, or write the pages of all subcommands into a directory
    #[command(after_help = examples::MAN)]
    Man(ManArguments),
}

#[derive(Debug, Args)]
pub(crate) struct ServeArguments {
    /// Leave the terminal, and say `ready` on standard output when the socket accepts
    #[arg(long, hide = true)]
    pub(crate) detached: bool,
}

#[derive(Debug, Args)]
pub(crate) struct SendmailArguments {
    /// What stands behind the subcommand.
    #[arg(skip)]
    pub(crate) words: Vec<OsString>,
}

#[derive(Debug, Args)]
pub(crate) struct SendArguments {
    /// The message, as a file; `-` or no file: standard input. If the first line is a header field, the input has headers;
    /// otherwise all of it is the body
    pub(crate) file: Option<PathBuf>,
    /// A recipient, in addition to those in To, Cc and Bcc; may be repeated
    #[arg(long, value_name = "ADDRESS")]
    pub(crate) to: Vec<String>,
    /// The sender
    #[arg(long, value_name = "ADDRESS")]
    pub(crate) from: Option<String>,
    /// The transport that sends the message [default: by the sender and the recipients]
    #[arg(long, value_name = "TRANSPORT")]
    pub(crate) account: Option<String>,
    /// The subject
    #[arg(long)]
    pub(crate) subject: Option<String>,
    /// A file to attach; may be repeated
    #[arg(long, value_name = "FILE")]
    pub(crate) attach: Vec<PathBuf>,
    /// Wait until the message is sent or has failed, for at most SECONDS [default: a day]
    #[arg(long, value_name = "SECONDS", num_args = 0..=1, require_equals = true, default_missing_value = "86400")]
    pub(crate) wait: Option<u64>,
    /// 32 random hexadecimal digits that name this message: sending it again with the same key stores it only once
    #[arg(long, value_name = "KEY", value_parser = key)]
    pub(crate) key: Option<SubmitKey>,
}

/// A key has all of its 128 bits: a shorter one is no key by chance, and may be somebody else's.
fn key(text: &str) -> Result<SubmitKey, String> {
    match text.parse() {
        Ok(key) if text.len() == 32 => Ok(key),
        _ => Err("a key is 32 hexadecimal digits".into()),
    }
}

#[derive(Debug, Args)]
pub(crate) struct StatusArguments {
    /// Keep showing the status; on a terminal on a screen of its own, which q or Ctrl-C ends
    #[arg(long)]
    pub(crate) watch: bool,
    /// With --watch: seconds between two updates [default: 1]
    #[arg(long, value_name = "SECONDS", requires = "watch", default_value_t = 1, hide_default_value = true,
          value_parser = clap::value_parser!(u64).range(1..=86400))]
    pub(crate) interval: u64,
}

#[derive(Debug, Args)]
pub(crate) struct QueueArguments {
    #[command(subcommand)]
    pub(crate) action: Option<QueueAction>,
}

#[derive(Debug, Subcommand)]
pub(crate) enum QueueAction {
    /// List messages that are not sent yet or came back, oldest first
    List {
        /// List also messages that are sent, bounced or aborted
        #[arg(long)]
        all: bool,
    },
    /// Show an entry with all its recipients
    Show {
        /// The entry identifier, or the digits of it that `queue list` shows
        entry: String,
    },
    /// Send entries now; a message whose outcome is unknown may arrive twice
    Retry(Selection),
    /// Hold entries back until you release them
    Hold(Selection),
    /// Release entries that are held
    Release(Selection),
    /// Take entries out of the queue, into Drafts
    Abort(Selection),
    /// Send all deferred messages now, also through transports that were disabled
    Flush {
        /// Wait until each of them is sent, has failed or is deferred again, for at most SECONDS [default: a day]
        #[arg(long, value_name = "SECONDS", num_args = 0..=1, require_equals = true, default_missing_value = "86400")]
        wait: Option<u64>,
    },
}

/// Which entries of the queue are meant.
#[derive(Debug, Clone, Default, Args)]
pub(crate) struct Selection {
    /// Entry identifiers, or the digits of them that `queue list` shows
    #[arg(value_name = "ENTRY", required_unless_present = "all", conflicts_with = "all")]
    pub(crate) entries: Vec<String>,
    /// All entries that are not sent, bounced or aborted
    #[arg(long)]
    pub(crate) all: bool,
    /// With --all: only entries with a recipient that matches, such as '*@example.org'
    #[arg(long, value_name = "PATTERN", requires = "all")]
    pub(crate) to: Option<String>,
    /// With --all: only entries in this state
    #[arg(long, value_name = "STATE", requires = "all", value_parser = crate::queue::state)]
    pub(crate) state: Option<SubmissionState>,
}

#[derive(Debug, Args)]
pub(crate) struct SyncArguments {
    /// Wait until everything that is to be fetched is here, for at most SECONDS [default: a day]
    #[arg(long, value_name = "SECONDS", num_args = 0..=1, require_equals = true, default_missing_value = "86400")]
    pub(crate) wait: Option<u64>,
}

// Each is a switch of the command line.
#[allow(clippy::struct_excessive_bools)]
#[derive(Debug, Args)]
pub(crate) struct LogoffArguments {
    /// End the session for all programs in it
    #[arg(long)]
    pub(crate) shared: bool,
    /// With --shared: end a session that another process owns; needs the right admin
    #[arg(long)]
    pub(crate) force: bool,
    /// Wait until this process's mail is sent, for at most SECONDS [default: a day]
    #[arg(long, value_name = "SECONDS", num_args = 0..=1, require_equals = true, default_missing_value = "86400")]
    pub(crate) drain: Option<u64>,
    /// Wait until the other programs have left or were removed from the session
    #[arg(long)]
    pub(crate) wait: bool,
    /// Do not ask for confirmation
    #[arg(long, short)]
    pub(crate) yes: bool,
}

#[derive(Debug, Args)]
pub(crate) struct ProfileArguments {
    #[command(subcommand)]
    pub(crate) action: ProfileAction,
}

#[derive(Debug, Subcommand)]
pub(crate) enum ProfileAction {
    /// List profiles
    List,
    /// Show a profile
    Show {
        /// The profile's name
        name: String,
    },
    /// Add a profile that delivers into a Maildir, or sends through a server; on a terminal it asks for missing settings
    #[command(after_help = examples::PROFILE_ADD)]
    Add(Box<AddArguments>),
    /// Add a profile from the settings of msmtp (a file) or nullmailer (a directory)
    #[command(after_help = examples::PROFILE_IMPORT)]
    Import(ImportArguments),
    /// Check a profile: log on to it, and try each of its providers
    Check {
        /// The profile's name
        name: String,
    },
    /// Use a changed profile in running sessions at once; they also notice a change before their next message
    Reload {
        /// The profile's name [default: every profile that a session uses]
        name: Option<String>,
    },
    /// Remove a profile, at once or when its sessions have ended; its mail stays
    Remove {
        /// The profile's name
        name: String,
    },
}

#[derive(Debug, Args)]
pub(crate) struct ImportArguments {
    /// `~/.msmtprc`, `/etc/msmtprc` or `/etc/nullmailer`
    pub(crate) from: PathBuf,
    /// The profile's name
    #[arg(long, default_value = "default")]
    pub(crate) name: String,
}

#[derive(Debug, Clone, Default, PartialEq, Eq, Args)]
pub(crate) struct AddArguments {
    /// The profile's name
    pub(crate) name: String,
    /// The mail address of an account at a provider; servers that no option names are found by it
    pub(crate) address: Option<String>,
    /// The sender of messages that name no sender [default: ADDRESS, or the user name if it is an address, else the user at this host]
    #[arg(long, value_name = "ADDRESS")]
    pub(crate) identity: Option<String>,
    /// The kind of its transport [default: smtp with ADDRESS or --host, else maildir]
    #[arg(long, value_enum)]
    pub(crate) kind: Option<TransportKind>,
    /// The server that sends the mail
    #[arg(long, value_name = "HOST")]
    pub(crate) host: Option<String>,
    /// The server's port [default: 587; with tls 465; with opportunistic and none 25]
    #[arg(long, value_parser = clap::value_parser!(u16).range(1..))]
    pub(crate) port: Option<u16>,
    /// How the connection to the server is encrypted [default: starttls]; none is for a server on this host
    #[arg(long, value_parser = SECURITIES)]
    pub(crate) security: Option<String>,
    /// Needed for --security none to another host, where the network can read the mail: the word `i-understand`
    #[arg(long, value_name = "WORD")]
    pub(crate) plaintext: Option<String>,
    /// The user name at the server [default: ADDRESS]
    #[arg(long, value_name = "USER")]
    pub(crate) username: Option<String>,
    /// A command line that prints the password
    #[arg(long, value_name = "COMMAND", group = "password")]
    pub(crate) password_command: Option<String>,
    /// A file with the password
    #[arg(long, value_name = "FILE", group = "password")]
    pub(crate) password_file: Option<PathBuf>,
    /// The name of a systemd credential with the password
    #[arg(long, value_name = "NAME", group = "password")]
    pub(crate) password_credential: Option<String>,
    /// An environment variable of the broker with the password
    #[arg(long, value_name = "VARIABLE", group = "password")]
    pub(crate) password_env: Option<String>,
    /// How to log on to the server [default: the best that the server offers]
    #[arg(long, value_parser = ["plain", "login", "scram-sha-256", "scram-sha-1", "xoauth2"])]
    pub(crate) auth: Option<String>,
    /// A file with certificates to trust in addition to the system's: of authorities, or the server's own
    #[arg(long, value_name = "FILE")]
    pub(crate) ca_file: Option<PathBuf>,
    /// The SHA-256 fingerprint of the server's certificate; no other certificate is accepted
    #[arg(long, value_name = "SHA256")]
    pub(crate) tls_fingerprint: Option<String>,
    /// A client certificate, for a server that asks for one
    #[arg(long, value_name = "FILE", requires = "tls_key")]
    pub(crate) tls_certificate: Option<PathBuf>,
    /// The key of the client certificate
    #[arg(long, value_name = "FILE", requires = "tls_certificate")]
    pub(crate) tls_key: Option<PathBuf>,
    /// Recipients that the transport takes: a domain, *.domain, an address, or * for all; may be repeated [default: for a Maildir
    /// addresses of this host, for a server all others]
    #[arg(long, value_name = "PATTERN")]
    pub(crate) accept: Vec<String>,
    /// The Maildir [default: one in the data directory]
    #[arg(long, value_name = "DIR")]
    pub(crate) maildir: Option<PathBuf>,
    /// With --host: add no Maildir for addresses of this host
    #[arg(long)]
    pub(crate) no_local: bool,
    /// The IMAP server that has the account's incoming mail; it takes the same password
    #[arg(long, value_name = "HOST")]
    pub(crate) imap_host: Option<String>,
    /// The IMAP server's port [default: 993; with starttls and none 143]
    #[arg(long, value_name = "PORT", value_parser = clap::value_parser!(u16).range(1..))]
    pub(crate) imap_port: Option<u16>,
    /// How the connection to the IMAP server is encrypted [default: tls]; none is for a server on this host
    #[arg(long, value_name = "SECURITY", value_parser = IMAP_SECURITIES)]
    pub(crate) imap_security: Option<String>,
    /// The user name at the IMAP server [default: that of --username]
    #[arg(long, value_name = "USER")]
    pub(crate) imap_username: Option<String>,
    /// Take messages from the Maildirs in this directory, which mbsync or offlineimap has fetched, instead of fetching them
    #[arg(long, value_name = "DIR", conflicts_with = "no_imap")]
    pub(crate) take_over: Option<PathBuf>,
    /// With ADDRESS: only send, and show no incoming mail of the account
    #[arg(long, conflicts_with_all = ["imap_host", "imap_port", "imap_security", "imap_username"])]
    pub(crate) no_imap: bool,
}

/// What `security` can be.
pub(crate) const SECURITIES: [&str; 4] = ["starttls", "tls", "opportunistic", "none"];

/// What `security` of an IMAP server can be.
pub(crate) const IMAP_SECURITIES: [&str; 3] = ["tls", "starttls", "none"];

/// Kinds of transports that `profile add` knows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum TransportKind {
    /// Deliver into a Maildir on this host
    Maildir,
    /// Send through a server
    Smtp,
}

#[derive(Debug, Args)]
pub(crate) struct ProviderArguments {
    #[command(subcommand)]
    pub(crate) action: ProviderAction,
}

#[derive(Debug, Subcommand)]
pub(crate) enum ProviderAction {
    /// List the kinds
    List,
    /// Show the settings of a kind, with meaning and default
    Show {
        /// The kind
        kind: String,
    },
}

#[derive(Debug, Args)]
pub(crate) struct StopArguments {
    /// Do not wait for programs to leave, only for messages that are being sent
    #[arg(long)]
    pub(crate) fast: bool,
}

#[derive(Debug, Args)]
pub(crate) struct CompletionsArguments {
    /// The shell
    #[arg(value_enum)]
    pub(crate) shell: Shell,
}

/// Shells that completions are made for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Shell {
    /// Into /usr/share/bash-completion/completions/sundown
    Bash,
    /// Into a file _sundown in a folder of $fpath
    Zsh,
    /// Into ~/.config/fish/completions/sundown.fish
    Fish,
}

#[derive(Debug, Args)]
pub(crate) struct ManArguments {
    /// The directory to write the pages of all subcommands into [default: print the main page]
    pub(crate) dir: Option<PathBuf>,
}

/// The name of the subcommand whose arguments are none of ours, and of the program that it stands in for.
const SENDMAIL: &str = "sendmail";

impl Cli {
    /// That of this process. By its name it may be another command.
    pub(crate) fn of_this_process() -> Self {
        Self::of(std::env::args_os().collect())
    }

    fn of(mut words: Vec<OsString>) -> Self {
        let called = words.first().map(PathBuf::from).unwrap_or_default();
        let mode = match called.file_name().and_then(OsStr::to_str) {
            Some(SENDMAIL) => None,
            Some("mailq") => Some("-bp"),
            Some("newaliases") => Some("-bi"),
            Some("runq") => Some("-q"),
            // As most programs call it: nothing of it is ours to read.
            _ if words.get(1).is_some_and(|word| word == SENDMAIL) => {
                return Self::sendmail(words.split_off(2));
            }
            _ => {
                let behind = words.split_off(end_of_ours(&words));
                let parsed = Self::try_parse_from(words).unwrap_or_else(|said| say_and_exit(&said));
                return parsed.with_words(behind);
            }
        };
        Self::sendmail(mode.map(OsString::from).into_iter().chain(words.drain(1..)).collect())
    }

    /// Without options of ours.
    fn sendmail(words: Vec<OsString>) -> Self {
        let command = Command::Sendmail(SendmailArguments { words });
        Self { options: Global::default(), command }
    }

    fn with_words(mut self, words: Vec<OsString>) -> Self {
        if let Command::Sendmail(arguments) = &mut self.command {
            arguments.words = words;
        }
        self
    }
}

/// Prints a help text, the version, or what is wrong with the words, and ends the process. Help that cannot be printed is a failure,
/// unless its reader has gone.
fn say_and_exit(said: &clap::Error) -> ! {
    let printed = said.print().and_then(|()| std::io::stdout().flush());
    match printed {
        Err(error) if !said.use_stderr() && error.kind() != ErrorKind::BrokenPipe => {
            crate::output::complain(&format!("cannot write: {error}"));
            std::process::exit(1)
        }
        _ => std::process::exit(said.exit_code()),
    }
}

/// How many words are ours to read: all of them, or those up to `sendmail`.
fn end_of_ours(words: &[OsString]) -> usize {
    if !words.iter().any(|word| word == SENDMAIL) {
        return words.len();
    }
    let command = Cli::command();
    let takes_value = |word: &str| {
        let mut options = command.get_arguments().filter(|a| a.get_action().takes_values());
        options.any(|option| option.get_long() == word.strip_prefix("--"))
    };
    let mut at = 1;
    while let Some(word) = words.get(at).map(|word| word.to_string_lossy()) {
        at += 1;
        match &*word {
            SENDMAIL => return at,
            option if takes_value(option) => at += 1,
            option if option.starts_with('-') => {}
            _ => break,
        }
    }
    words.len()
}

impl Command {
    /// Whether it reads profiles, or may start a broker, and so needs the settings file that is asked for. The others are about the broker
    /// that runs; `serve` and `doctor` say themselves that the file is not there, and `sendmail` hands mail to a broker that runs.
    pub(crate) fn needs_settings(&self) -> bool {
        match self {
            Self::Shell
            | Self::Send(_)
            | Self::Queue(_)
            | Self::Inbox(_)
            | Self::Read(_)
            | Self::Search(_)
            | Self::Folders
            | Self::Sync(_)
            | Self::Logoff(_)
            | Self::Profile(_) => true,
            Self::Serve(_)
            | Self::Tour
            | Self::Sendmail(_)
            | Self::Status(_)
            | Self::Mailbox
            | Self::Provider(_)
            | Self::Stop(_)
            | Self::Doctor
            | Self::Completions(_)
            | Self::Man(_) => false,
        }
    }

    /// Whether it has a way of its own to say what went wrong.
    pub(crate) fn is_sendmail(&self) -> bool {
        matches!(self, Self::Sendmail(_))
    }
}

/// What the options and the environment come to.
#[derive(Clone)]
pub(crate) struct Context {
    /// Where the broker is that this command is about.
    pub(crate) paths: Paths,
    own: Result<Paths, PathsError>,
    pub(crate) profile: Option<String>,
    pub(crate) json: bool,
    /// `None` is the default.
    log_level: Option<String>,
    /// `None` is the default.
    log_format: Option<String>,
    autostart: bool,
}

impl Global {
    pub(crate) fn resolve(&self) -> Result<Context, Error> {
        let environment = Environment::of_this_process();
        let twin = |name: &str| {
            environment.own_variable(name).map(|value| value.to_string_lossy().into_owned())
        };
        let arguments = Arguments {
            socket: self.socket.clone(),
            data_dir: self.data_dir.clone(),
            config: self.config.clone(),
        };
        let paths = Paths::of_program(&arguments, &environment)
            .map_err(|e| crate::output::invalid(e.to_string()))?;
        let own = match paths.whose {
            Whose::Own => Ok(paths.clone()),
            Whose::Host => Paths::resolve(&arguments, &environment),
        };
        let no_autostart =
            self.no_autostart || twin("SUNDOWN_NO_AUTOSTART").is_some_and(|v| v != "0");
        Ok(Context {
            paths,
            own,
            profile: self.profile.clone().or_else(|| twin("SUNDOWN_PROFILE")),
            json: self.json,
            log_level: self.log_level.clone().or_else(|| twin("SUNDOWN_LOG")),
            log_format: self.log_format.clone().or_else(|| twin("SUNDOWN_LOG_FORMAT")),
            autostart: !no_autostart,
        })
    }
}

/// Whether a subcommand may start a broker.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Autostart {
    /// Unless the options say no.
    Yes,
    /// It is about the broker that runs.
    No,
}

/// How long a subcommand uses the library.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Visit {
    /// For a few calls in a row.
    Brief,
    /// Until somebody else has nothing more to say.
    Long,
}

impl Context {
    /// Where the user's own broker is, or the one that was asked for.
    pub(crate) fn own(&self) -> Result<&Paths, Error> {
        self.own.as_ref().map_err(|error| crate::output::invalid(error.to_string()))
    }

    /// What `serve` logs.
    pub(crate) fn log_level(&self) -> &str {
        self.log_level.as_deref().unwrap_or(sundown_daemon::log::DEFAULT_LEVEL)
    }

    /// How `serve` logs.
    pub(crate) fn log_format(&self) -> &str {
        self.log_format.as_deref().unwrap_or("text")
    }

    /// The library, connected to the broker.
    pub(crate) fn initialize(&self, autostart: Autostart) -> Result<Mapi, Error> {
        let options = options("sundown", &self.paths);
        match autostart {
            Autostart::Yes => self.start(options, autostart),
            // Whoever looks at a broker wants to know soon that it does not answer.
            Autostart::No => self.start(options.patience(Duration::from_secs(10)), autostart),
        }
    }

    /// The library, connected to the broker of these paths as a program of that name.
    pub(crate) fn connect(
        &self,
        program: &str,
        paths: &Paths,
        autostart: Autostart,
        visit: Visit,
    ) -> Result<Mapi, Error> {
        self.start(with_visit(options(program, paths), visit), autostart)
    }

    /// The same, logged on: for those who always do both.
    pub(crate) fn log_on(
        &self,
        program: &str,
        paths: &Paths,
        autostart: Autostart,
        visit: Visit,
    ) -> Result<(Mapi, Session), Error> {
        let options = self.starting(with_visit(options(program, paths), visit), autostart);
        let logged_on = Mapi::initialize_and_logon(options, self.logon());
        logged_on.map_err(|error| self.why_none_was_started(error, autostart))
    }

    fn start(&self, options: Options, autostart: Autostart) -> Result<Mapi, Error> {
        let initialized = Mapi::initialize(self.starting(options, autostart));
        initialized.map_err(|error| self.why_none_was_started(error, autostart))
    }

    /// Whether this command starts a broker if none runs.
    fn may_start(&self, autostart: Autostart) -> bool {
        self.autostart && autostart == Autostart::Yes
    }

    /// The error that no broker runs, with the reason why this command could not start one: it does not know its own path, as where
    /// /proc is not mounted.
    fn why_none_was_started(&self, error: Error, autostart: Autostart) -> Error {
        if !error.is_unreachable() || !self.may_start(autostart) || self.paths.whose == Whose::Host
        {
            return error;
        }
        let Err(why) = std::env::current_exe() else { return error };
        let text = format!(
            "{error}; this command starts none, because it cannot find its own program: {why}"
        );
        crate::output::error(error.code(), text)
    }

    /// Options that say what starts a broker.
    fn starting(&self, mut options: Options, autostart: Autostart) -> Options {
        if let Some(level) = &self.log_level {
            options = options.log_level(level);
        }
        if let Some(format) = &self.log_format {
            options = options.log_format(format);
        }
        match self.may_start(autostart).then(std::env::current_exe) {
            Some(Ok(own)) => options.start_with(own),
            _ => options.no_autostart(),
        }
    }

    /// The profile that was asked for, to log on with.
    pub(crate) fn logon(&self) -> sundown_client::Logon {
        match &self.profile {
            Some(profile) => sundown_client::Logon::shared().profile(profile),
            None => sundown_client::Logon::shared(),
        }
    }
}

/// The library's options for a program of that name and the broker of these paths.
fn options(program: &str, paths: &Paths) -> Options {
    let mut options = Options::new(program);
    // The library finds the host's by itself, and knows what to say of it.
    if paths.whose == Whose::Own {
        options = options.data_dir(&paths.data);
        // Where none was asked for the library looks where the broker of this data listens.
        if paths.host_socket.is_none() {
            options = options.socket(&paths.socket);
        }
        if let Some(config) = &paths.config {
            options = options.config(config);
        }
    }
    options
}

fn with_visit(options: Options, visit: Visit) -> Options {
    match visit {
        Visit::Brief => options.brief(),
        Visit::Long => options,
    }
}

/// Seconds as the options give them.
pub(crate) fn seconds(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The words that are sendmail's, and whether these are for it at all.
    fn sendmail(line: &[&str]) -> Option<Vec<String>> {
        match Cli::of(line.iter().map(OsString::from).collect()).command {
            Command::Sendmail(arguments) => {
                let words = arguments.words.into_iter();
                Some(words.map(|word| word.to_string_lossy().into_owned()).collect())
            }
            _ => None,
        }
    }

    #[test]
    fn what_stands_behind_sendmail_is_its_own() {
        let cases: &[(&[&str], Option<&[&str]>)] = &[
            (&["sundown", "sendmail"], Some(&[])),
            (&["sundown", "sendmail", "--", "--socket", "-h"], Some(&["--", "--socket", "-h"])),
            (&["sundown", "--socket", "sendmail", "sendmail", "-t"], Some(&["-t"])),
            (&["sundown", "--socket=x", "--no-autostart", "sendmail", "a"], Some(&["a"])),
            (&["sundown", "send", "sendmail"], None),
            (&["sundown", "--profile", "sendmail", "status"], None),
            (&["/usr/sbin/sendmail", "-t", "serve"], Some(&["-t", "serve"])),
            (&["sendmail"], Some(&[])),
            (&["mailq", "-v"], Some(&["-bp", "-v"])),
            (&["newaliases"], Some(&["-bi"])),
            (&["runq", "-v"], Some(&["-q", "-v"])),
        ];
        for (line, wanted) in cases {
            let wanted = wanted.map(|words| words.iter().map(|w| (*w).to_owned()).collect());
            assert_eq!(sendmail(line), wanted, "{line:?}");
        }
    }

    #[test]
    fn the_options_are_consistent() {
        Cli::command().debug_assert();
    }
}
