//! The options of `sundown inbox`, `sundown read` and `sundown search`.

// These comments are help texts, where backticks would be shown.
#![allow(clippy::doc_markdown)]

use std::path::PathBuf;

use clap::Args;
use sundown_client::Error;

use crate::output;

/// How many messages `sundown inbox` and `sundown search` list if no option says so.
const LISTED: u32 = 50;

#[derive(Debug, Args)]
pub(crate) struct InboxArguments {
    /// The folder to list: a word of sundown folders, a role such as archive, or a path of names such as Work/2026
    #[arg(long, value_name = "FOLDER", default_value = "inbox")]
    pub(crate) folder: String,
    /// List at most N messages, the newest ones
    #[arg(long, value_name = "N", default_value_t = LISTED, value_parser = clap::value_parser!(u32).range(1..))]
    pub(crate) limit: u32,
    /// List only messages that are not read
    #[arg(long)]
    pub(crate) unread: bool,
}

#[derive(Debug, Args)]
pub(crate) struct ReadArguments {
    /// The message: the number of its row in sundown inbox, the last six or more digits of its entry identifier, or all of them
    pub(crate) entry: String,
    /// The folder whose rows are counted, as for sundown inbox
    #[arg(long, value_name = "FOLDER")]
    pub(crate) folder: Option<String>,
    /// Print the message as it is, with its head; a terminal gets it without what would control it
    #[arg(long, conflicts_with = "save_attachments")]
    pub(crate) raw: bool,
    /// Save the attachments into a directory instead of printing the message; no file there is overwritten
    #[arg(long, value_name = "DIR")]
    pub(crate) save_attachments: Option<PathBuf>,
    /// Do not mark the message as read
    #[arg(long)]
    pub(crate) keep_unread: bool,
}

#[derive(Debug, Args)]
pub(crate) struct SearchArguments {
    /// What to find: words, "phrases", beginnings*, from:, to:, subject:, file:, after:2026-01-31, before:, and behind -- -exclusions
    #[arg(required = true, value_name = "WORDS")]
    pub(crate) words: Vec<String>,
    /// Look only into this folder, as for sundown inbox; without it into all but deleted mail
    #[arg(long, value_name = "FOLDER")]
    pub(crate) folder: Option<String>,
    /// List at most N messages, the newest ones
    #[arg(long, value_name = "N", default_value_t = LISTED, value_parser = clap::value_parser!(u32).range(1..))]
    pub(crate) limit: u32,
}

impl ReadArguments {
    /// Refuses what makes no sense, before a broker is asked.
    pub(crate) fn check(&self, json: bool) -> Result<(), Error> {
        if self.raw && json {
            return Err(output::invalid("--raw prints the message itself: leave --json out"));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Debug, Parser)]
    struct Inbox {
        #[command(flatten)]
        arguments: InboxArguments,
    }

    #[derive(Debug, Parser)]
    struct Search {
        #[command(flatten)]
        arguments: SearchArguments,
    }

    #[derive(Debug, Parser)]
    struct Read {
        #[command(flatten)]
        arguments: ReadArguments,
    }

    #[test]
    fn options_have_their_defaults() {
        let parsed = Inbox::try_parse_from(["inbox"]).expect("parsed").arguments;
        assert_eq!((parsed.folder.as_str(), parsed.limit, parsed.unread), ("inbox", 50, false));
        let parsed = Inbox::try_parse_from(["inbox", "--folder", "f17", "--limit=3", "--unread"]);
        let parsed = parsed.expect("parsed").arguments;
        assert_eq!((parsed.folder.as_str(), parsed.limit, parsed.unread), ("f17", 3, true));
        Inbox::try_parse_from(["inbox", "--limit", "0"]).expect_err("nothing to list");
    }

    #[test]
    fn a_message_is_printed_in_one_way() {
        let read = |words: &[&str]| Read::try_parse_from([&["read"], words].concat());
        read(&[]).expect_err("which one?");
        read(&["1", "--raw", "--save-attachments", "d"]).expect_err("both");
        let raw = read(&["1", "--raw"]).expect("parsed").arguments;
        assert!(raw.check(false).is_ok());
        assert!(raw.check(true).expect_err("refused").to_string().contains("leave --json out"));
        assert!(read(&["1"]).expect("parsed").arguments.check(true).is_ok());
    }

    #[test]
    fn words_that_begin_with_a_hyphen_stand_behind_two() {
        let parse = |words: &[&str]| Search::try_parse_from([&["search"], words].concat());
        let parsed = parse(&["march", "--limit", "3", "from:anna", "--", "-paid", "-h*"]);
        let parsed = parsed.expect("parsed").arguments;
        assert_eq!(parsed.words, ["march", "from:anna", "-paid", "-h*"]);
        assert_eq!((parsed.limit, parsed.folder), (3, None));
        let error = parse(&["march", "-paid"]).expect_err("an option").to_string();
        assert!(error.contains("-- -p"), "{error}");
        parse(&[]).expect_err("nothing to find");
        parse(&["x", "--limit", "0"]).expect_err("nothing to list");
    }
}
