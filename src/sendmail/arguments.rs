//! The arguments of `sendmail`, in its own way: letters in clusters, values attached or behind, flags and addresses mixed.
//!
//! Which letters take a value is as in Postfix and Sendmail, so that no value is ever taken for a recipient. Flags that
//! mean nothing here are taken and passed over; those that would change what is done, and are not done, are refused.

use std::collections::VecDeque;
use std::ffi::OsString;
use std::fmt;
use std::os::unix::ffi::OsStringExt;

use sundown_client::{QueueRow, Report, addresses};

use super::report;

/// What was asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Invocation {
    pub(crate) mode: Mode,
    /// Those of the command line.
    pub(crate) recipients: Vec<String>,
    pub(crate) head: Head,
    pub(crate) end: End,
    /// The envelope's sender; empty with `-f ''`.
    pub(crate) sender: Option<String>,
    /// The transport that takes the message (`-a`).
    pub(crate) account: Option<String>,
    pub(crate) full_name: Option<String>,
    pub(crate) label: Option<String>,
    /// What the sender wants to be told.
    pub(crate) report: Report,
    pub(crate) verbosity: Verbosity,
    /// What of the queue is to be tried; `None` for everything.
    pub(crate) selection: Option<Selection>,
}

/// Messages of the queue that have a text somewhere, in any case (`-qI`, `-qR`, `-qS`), or have it not (`-q!I`).
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Selection {
    place: Place,
    wanted: Wanted,
    text: String,
}

/// Where a selection looks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Place {
    Entry,
    Recipients,
    Sender,
}

/// Whether the text is to be there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Wanted {
    There,
    Missing,
}

impl Selection {
    /// `IABC`, `!Rexample.org`.
    fn parse(value: &str) -> Option<Self> {
        let (wanted, value) = match value.strip_prefix('!') {
            Some(value) => (Wanted::Missing, value),
            None => (Wanted::There, value),
        };
        let mut letters = value.chars();
        let place = match letters.next()? {
            'I' => Place::Entry,
            'R' => Place::Recipients,
            'S' => Place::Sender,
            _ => return None,
        };
        let text = letters.as_str().to_lowercase();
        (!text.is_empty()).then_some(Self { place, wanted, text })
    }

    /// Whether it takes this message.
    pub(crate) fn takes(&self, row: &QueueRow) -> bool {
        let has = |text: &str| text.to_lowercase().contains(&self.text);
        let found = match self.place {
            Place::Entry => has(&row.entry.to_string()),
            Place::Recipients => row.recipients.iter().any(|r| has(&r.address)),
            Place::Sender => has(&row.from),
        };
        found == (self.wanted == Wanted::There)
    }
}

/// What to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Mode {
    /// Take a message from standard input (`-bm`).
    Deliver,
    /// List the queue (`-bp`, `mailq`).
    List,
    /// Say where the aliases are (`-bi`, `newaliases`).
    Aliases,
    /// Speak SMTP on standard input and output (`-bs`).
    Smtp,
    /// Try what is deferred at once (`-q`, `runq`).
    Flush,
}

/// Whether the message's head names recipients.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Head {
    /// Only people look at it.
    Ignored,
    /// To, Cc and Bcc are recipients (`-t`).
    Counts,
}

/// Where a message ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum End {
    /// At a line with a dot alone, or with the input.
    Dot,
    /// With the input (`-i`).
    Input,
}

/// Whether to say what happened.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Verbosity {
    /// Only what failed.
    Quiet,
    /// Also what did not (`-v`).
    Verbose,
}

/// Why the arguments make no sense.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Usage {
    /// There is no such flag.
    Unknown(String),
    /// A flag without the value it takes.
    NoValue(char),
    /// A value that its flag does not take; and what it takes.
    Value { flag: char, value: String, known: &'static str },
    /// `-b` with a mode that there is not.
    Mode(String),
    /// Addresses, or `-t`, where no message is read.
    NoMessage(Mode),
}

impl fmt::Display for Usage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unknown(flag) => write!(f, "there is no flag -{flag}"),
            Self::NoValue(flag) => write!(f, "-{flag} needs a value"),
            Self::Value { flag, value, known } => {
                write!(f, "-{flag} takes {known}, and not {value:?}")
            }
            Self::Mode(mode) if mode.starts_with(['d', 'D']) => write!(
                f,
                "-b{mode} is for a server that takes mail from the network, which sundown is not; `sundown serve` runs the broker"
            ),
            Self::Mode(mode) => write!(f, "-b{mode} is not there; -bm, -bp, -bi and -bs are"),
            Self::NoMessage(mode) => {
                write!(f, "{} takes neither recipients nor -t", mode.flag())
            }
        }
    }
}

impl Mode {
    fn parse(value: &str) -> Result<Self, Usage> {
        match value {
            "m" => Ok(Self::Deliver),
            "p" => Ok(Self::List),
            "i" => Ok(Self::Aliases),
            "s" => Ok(Self::Smtp),
            other => Err(Usage::Mode(other.to_owned())),
        }
    }

    fn flag(self) -> &'static str {
        match self {
            Self::Deliver => "-bm",
            Self::List => "-bp",
            Self::Aliases => "-bi",
            Self::Smtp => "-bs",
            Self::Flush => "-q",
        }
    }
}

/// What a flag takes.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Takes {
    Nothing,
    /// The rest of its word, if there is one.
    Rest,
    /// The rest of its word, or else the next word.
    Value,
}

/// The letters that are flags.
fn takes(flag: char) -> Option<Takes> {
    match flag {
        'G' | 'I' | 'U' | 'c' | 'i' | 'm' | 'n' | 't' | 'v' | 'x' => Some(Takes::Nothing),
        'q' => Some(Takes::Rest),
        'A' | 'B' | 'C' | 'F' | 'L' | 'N' | 'O' | 'R' | 'V' | 'X' | 'b' | 'e' | 'f' | 'h' | 'o'
        | 'a' | 'p' | 'r' => Some(Takes::Value),
        _ => None,
    }
}

/// What these arguments ask for.
pub(crate) fn parse(arguments: impl IntoIterator<Item = OsString>) -> Result<Invocation, Usage> {
    let mut words: VecDeque<_> = arguments.into_iter().map(OsStringExt::into_vec).collect();
    let mut parser = Parser::default();
    while let Some(word) = words.pop_front() {
        match &word[..] {
            b"--" => {
                let rest = words.drain(..).flat_map(addresses);
                parser.invocation.recipients.extend(rest);
            }
            [b'-', b'-', ..] => return Err(Usage::Unknown(word[1..].escape_ascii().to_string())),
            [b'-', cluster @ ..] if !cluster.is_empty() => parser.cluster(cluster, &mut words)?,
            _ => parser.invocation.recipients.extend(addresses(word)),
        }
    }
    parser.finish()
}

#[derive(Default)]
struct Parser {
    invocation: Invocation,
    queue_value: Option<String>,
}

impl Default for Invocation {
    fn default() -> Self {
        Self {
            mode: Mode::Deliver,
            recipients: Vec::new(),
            head: Head::Ignored,
            end: End::Dot,
            sender: None,
            account: None,
            full_name: None,
            label: None,
            report: Report::default(),
            verbosity: Verbosity::Quiet,
            selection: None,
        }
    }
}

impl Parser {
    fn cluster(&mut self, cluster: &[u8], words: &mut VecDeque<Vec<u8>>) -> Result<(), Usage> {
        let mut left = cluster;
        while let [letter, rest @ ..] = left {
            let flag = char::from(*letter);
            let unknown = || Usage::Unknown(letter.escape_ascii().to_string());
            let value = match takes(flag).ok_or_else(unknown)? {
                Takes::Nothing => {
                    self.flag(flag, "")?;
                    left = rest;
                    continue;
                }
                Takes::Rest => rest.to_vec(),
                Takes::Value if !rest.is_empty() => rest.to_vec(),
                Takes::Value => words.pop_front().ok_or(Usage::NoValue(flag))?,
            };
            return self.flag(flag, &String::from_utf8_lossy(&value));
        }
        Ok(())
    }

    fn flag(&mut self, flag: char, value: &str) -> Result<(), Usage> {
        let wrong = |known| Usage::Value { flag, value: value.to_owned(), known };
        let invocation = &mut self.invocation;
        match flag {
            'A' if !matches!(value, "m" | "c") => return Err(wrong("m or c")),
            'B' if !is_one_of(value, &["7BIT", "8BITMIME"]) => {
                return Err(wrong("7BIT or 8BITMIME"));
            }
            'a' => invocation.account = Some(value.to_owned()),
            'F' => invocation.full_name = Some(value.to_owned()),
            'I' => invocation.mode = Mode::Aliases,
            'L' => invocation.label = Some(value.to_owned()),
            'N' => {
                let known = "never, or some of failure,delay,success";
                invocation.report.notify = report::notify(value).ok_or_else(|| wrong(known))?;
            }
            'R' => {
                let returned = report::returned(value);
                invocation.report.returned = returned.ok_or_else(|| wrong("full or hdrs"))?;
            }
            'b' => invocation.mode = Mode::parse(value)?,
            'f' | 'r' => {
                let mut sender = addresses(value);
                invocation.sender = Some(sender.pop().unwrap_or_default());
                if !sender.is_empty() {
                    return Err(wrong("one address"));
                }
            }
            'i' => invocation.end = End::Input,
            'o' if value.starts_with('i') => invocation.end = End::Input,
            'q' => self.queue_value = Some(value.to_owned()),
            't' => invocation.head = Head::Counts,
            'v' => invocation.verbosity = Verbosity::Verbose,
            _ => {}
        }
        Ok(())
    }

    fn finish(self) -> Result<Invocation, Usage> {
        let mut invocation = self.invocation;
        let for_message = !invocation.recipients.is_empty() || invocation.head == Head::Counts;
        let delivers = invocation.mode == Mode::Deliver;
        // With an interval, `-q30m`, it is for a daemon, and says nothing about a message that is there too.
        let flushes = self.queue_value.filter(|value| value.is_empty() || !for_message);
        if let Some(value) = flushes.filter(|_| delivers) {
            invocation.mode = Mode::Flush;
            invocation.selection = selection(value)?;
        }
        if invocation.mode != Mode::Deliver && for_message {
            return Err(Usage::NoMessage(invocation.mode));
        }
        Ok(invocation)
    }
}

/// What `-q` selects with this value; `None` if everything: an interval is for a daemon, which there is anyway.
fn selection(value: String) -> Result<Option<Selection>, Usage> {
    let is_interval =
        |value: &str| value.chars().all(|c| c.is_ascii_digit() || "smhdw".contains(c));
    if value == "f" || is_interval(value.strip_prefix('p').unwrap_or(&value)) {
        return Ok(None);
    }
    match Selection::parse(&value) {
        Some(selection) => Ok(Some(selection)),
        None => Err(Usage::Value {
            flag: 'q',
            value,
            known: "nothing, f, an interval, or I, R or S and a text to look for",
        }),
    }
}

fn is_one_of(value: &str, known: &[&str]) -> bool {
    known.iter().any(|known| value.eq_ignore_ascii_case(known))
}

#[cfg(test)]
mod tests {
    use sundown_client::{Notify, Returned};

    use super::*;

    fn parse(line: &[&str]) -> Result<Invocation, Usage> {
        super::parse(line.iter().map(OsString::from))
    }

    /// What the arguments come to, as far as it differs from nothing said.
    fn said(line: &[&str]) -> String {
        let invocation = match parse(line) {
            Ok(invocation) => invocation,
            Err(usage) => return usage.to_string(),
        };
        let mut words = Vec::new();
        if invocation.mode != Mode::Deliver {
            words.push(format!("{:?}", invocation.mode));
        }
        if invocation.head == Head::Counts {
            words.push("head".into());
        }
        if invocation.end == End::Input {
            words.push("no-dot".into());
        }
        if invocation.verbosity == Verbosity::Verbose {
            words.push("verbose".into());
        }
        let selected = invocation.selection;
        words.extend(selected.map(|s| format!("{:?}={:?}:{}", s.place, s.wanted, s.text)));
        words.extend(invocation.sender.map(|s| format!("from=<{s}>")));
        words.extend(invocation.full_name.map(|n| format!("name={n}")));
        words.extend(invocation.label.map(|l| format!("label={l}")));
        words.extend(invocation.recipients);
        words.join(" ")
    }

    #[test]
    fn arguments_are_read_as_sendmail_reads_them() {
        let cases: &[(&[&str], &str)] = &[
            (&[], ""),
            (&["anna"], "anna"),
            (&["anna", "-i", "bo"], "no-dot anna bo"),
            (&["-t"], "head"),
            (&["-ti"], "head no-dot"),
            (&["-it", "anna"], "head no-dot anna"),
            (&["-oi", "-t"], "head no-dot"),
            (&["-o", "i", "anna"], "no-dot anna"),
            (&["-oem", "-odb", "-o7", "-o8", "-om", "anna"], "anna"),
            (&["-f", "a@b", "anna"], "from=<a@b> anna"),
            (&["-fa@b", "anna"], "from=<a@b> anna"),
            (&["-tifa@b"], "head no-dot from=<a@b>"),
            (&["-tif", "a@b", "anna"], "head no-dot from=<a@b> anna"),
            (&["-f", "", "anna"], "from=<> anna"),
            (&["-f", "<>", "anna"], "from=<> anna"),
            (&["-f<>", "anna"], "from=<> anna"),
            (&["-f", "A <a@b>", "anna"], "from=<a@b> anna"),
            (&["-r", "a@b", "anna"], "from=<a@b> anna"),
            (&["-f", "x@y", "-fa@b", "anna"], "from=<a@b> anna"),
            (&["-f", "-t", "anna"], "from=<-t> anna"),
            (&["-FAnna Smith", "anna"], "name=Anna Smith anna"),
            (&["-F", "Anna", "-Lcron", "anna"], "name=Anna label=cron anna"),
            (&["--", "-t", "--", "anna"], "-t -- anna"),
            (&["anna", "--", "-f"], "anna -f"),
            (&["-"], "-"),
            (&["Anna <a@b>, bo", "c@d,e@f"], "a@b bo c@d e@f"),
            (&["", " , "], ""),
            (&["-Am", "-Ac", "-A", "c", "anna"], "anna"),
            (&["-B7BIT", "-B", "8bitmime", "anna"], "anna"),
            (&["-bm", "-b", "m", "anna"], "anna"),
            (&["-bp"], "List"),
            (&["-bi"], "Aliases"),
            (&["-I"], "Aliases"),
            (&["-bs", "-v"], "Smtp verbose"),
            (&["-bi", "-bp"], "List"),
            (&["-bp", "-bm", "anna"], "anna"),
            (&["-q"], "Flush"),
            (&["-q30m"], "Flush"),
            (&["-qp30m"], "Flush"),
            (&["-qf"], "Flush"),
            (&["-q1h30m", "-v"], "Flush verbose"),
            (&["-qIABC"], "Flush Entry=There:abc"),
            (&["-q!RX.org"], "Flush Recipients=Missing:x.org"),
            (&["-qSanna"], "Flush Sender=There:anna"),
            (&["-qf", "anna"], "anna"),
            (&["-q30m", "anna"], "anna"),
            (&["-q", "-bp"], "List"),
            (&["-V", "id", "-Vid", "-h", "3", "-h3", "anna"], "anna"),
            (&["-O", "Timeout=1", "-OA=b", "-X", "log", "-C", "file", "anna"], "anna"),
            (&["-em", "-e", "p", "-p", "ESMTP:host", "-pSMTP", "anna"], "anna"),
            (&["-mnUxGc", "anna"], "anna"),
            (&["-v", "anna"], "verbose anna"),
        ];
        for (line, wanted) in cases {
            assert_eq!(said(line), *wanted, "{line:?}");
        }
    }

    #[test]
    fn what_makes_no_sense_is_named() {
        let cases: &[(&[&str], &str)] = &[
            (&["-z"], "there is no flag -z"),
            (&["-tz", "anna"], "there is no flag -z"),
            (&["--help"], "there is no flag --help"),
            (&["-\u{e9}"], "there is no flag -\\xc3"),
            (&["-f"], "-f needs a value"),
            (&["-tf"], "-f needs a value"),
            (&["-o"], "-o needs a value"),
            (&["-f", "a@b, c@d", "x"], "-f takes one address, and not \"a@b, c@d\""),
            (&["-Ax", "anna"], "-A takes m or c, and not \"x\""),
            (&["-B", "BINARY", "anna"], "-B takes 7BIT or 8BITMIME, and not \"BINARY\""),
            (
                &["-Nsometimes"],
                "-N takes never, or some of failure,delay,success, and not \"sometimes\"",
            ),
            (&["-Rnone"], "-R takes full or hdrs, and not \"none\""),
            (
                &["-bd", "-q15m"],
                "-bd is for a server that takes mail from the network, which sundown is not; `sundown serve` runs the broker",
            ),
            (
                &["-qI"],
                "-q takes nothing, f, an interval, or I, R or S and a text to look for, and not \"I\"",
            ),
            (
                &["-qGx"],
                "-q takes nothing, f, an interval, or I, R or S and a text to look for, and not \"Gx\"",
            ),
            (&["-bv", "anna"], "-bv is not there; -bm, -bp, -bi and -bs are"),
            (&["-bt"], "-bt is not there; -bm, -bp, -bi and -bs are"),
            (&["-bp", "anna"], "-bp takes neither recipients nor -t"),
            (&["-bs", "-t"], "-bs takes neither recipients nor -t"),
            (&["-q", "anna"], "-q takes neither recipients nor -t"),
        ];
        for (line, wanted) in cases {
            assert_eq!(said(line), *wanted, "{line:?}");
        }
    }

    #[test]
    fn reports_are_kept() {
        let report = |line: &[&str]| parse(line).expect("it makes sense").report;
        assert_eq!(report(&["anna"]), Report::default());
        let asked = report(&["-N", "failure,delay", "-Rfull", "anna"]);
        assert_eq!(asked.notify, Notify::FAILURE.with(Notify::DELAY));
        assert_eq!(asked.returned, Returned::Full);
        assert_eq!(report(&["-Nnever", "anna"]).notify, Notify::NEVER);
    }
}
