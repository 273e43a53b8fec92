//! `sundown man`: manual pages, made from the options.

use std::io;
use std::path::Path;
use std::process::ExitCode;

use clap::builder::Resettable;
use clap::{Command, CommandFactory};
use clap_mangen::Man;
use clap_mangen::roff::{Roff, roman};
use sundown_client::{Code, Error};

use crate::cli::Cli;
use crate::output;

/// What the heading of all pages says they belong to.
const MANUAL: &str = "Sundown";

/// What they say they describe.
const VERSION: &str = concat!("sundown ", env!("CARGO_PKG_VERSION"));

/// What every subcommand but `sendmail` ends with.
const EXIT_STATUSES: &[(&str, &str)] = &[
    ("0", "The command has done what it was asked for."),
    (
        "1",
        "The command failed; standard error says why. The doctor found a problem. With --wait: a message bounced or was aborted.",
    ),
    ("2", "The command line is wrong."),
    ("75", "With --wait: the mail is safe on disk, and was not sent yet when the time was over."),
    ("130", "Ctrl-C ended the command. Mail that is in the queue is sent all the same."),
];

pub(crate) fn run(directory: Option<&Path>) -> Result<ExitCode, Error> {
    match directory {
        None => drop(output::print_bytes(&page(&whole()).unwrap_or_default())?),
        Some(directory) => {
            std::fs::create_dir_all(directory).map_err(|e| cannot("make", directory, &e))?;
            write(&whole(), directory)?;
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// The command with the names that its pages have: `sundown-queue-list`.
fn whole() -> Command {
    let mut command = Cli::command().disable_help_subcommand(true);
    command.build();
    command
}

/// Writes the pages of a command and of what is below it.
fn write(command: &Command, directory: &Path) -> Result<(), Error> {
    let file = directory.join(format!("{}.1", name(command)));
    page(command)
        .and_then(|page| std::fs::write(&file, page))
        .map_err(|error| cannot("write", &file, &error))?;
    shown_below(command).try_for_each(|below| write(below, directory))
}

fn cannot(what: &str, path: &Path, error: &io::Error) -> Error {
    output::error(Code::E_NO_ACCESS, format!("cannot {what} {}: {error}", path.display()))
}

fn name(command: &Command) -> &str {
    command.get_display_name().unwrap_or_else(|| command.get_name())
}

fn shown_below(command: &Command) -> impl Iterator<Item = &Command> {
    command.get_subcommands().filter(|below| !below.is_hide_set())
}

/// One page. The generator would make one paragraph of all examples, so they are set here.
fn page(command: &Command) -> io::Result<Vec<u8>> {
    let described = command.clone().after_help(Resettable::Reset);
    let mut page = Vec::new();
    Man::new(described).manual(MANUAL).source(VERSION).render(&mut page)?;
    let mut rest = Roff::new();
    rest.control("SH", ["EXIT STATUS"]);
    for (status, meaning) in EXIT_STATUSES {
        rest.control("TP", []).text([roman(*status)]).text([roman(*meaning)]);
    }
    if let Some(examples) = command.get_after_help() {
        lines(&mut rest, &examples.to_string());
    }
    rest.control("SH", ["SEE ALSO"]).text([roman(see_also(command))]);
    rest.to_writer(&mut page)?;
    Ok(page)
}

/// Lines that stay lines, without the one that is their heading in a help text.
fn lines(roff: &mut Roff, examples: &str) {
    roff.control("SH", ["EXAMPLES"]).control("nf", []);
    for line in examples.lines().skip(1) {
        roff.text([roman(line.trim_start())]);
    }
    roff.control("fi", []);
}

/// The page above, and the one where everything is told.
fn see_also(command: &Command) -> String {
    let above = name(command).rsplit_once('-').map(|(above, _)| format!("{above}(1), "));
    format!(
        "{}docs/command.md of Sundown, in /usr/share/doc/sundown where a package has brought it",
        above.unwrap_or_default()
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn examples_stay_as_they_are_written() {
        let command = Command::new("x").after_help("Examples:\n  x 'a b'\n  .x -y");
        let page = String::from_utf8(page(&command).expect("a page")).expect("text");
        let examples = page.split(".SH EXAMPLES\n").nth(1).expect("examples");
        let wanted = ".nf\nx \\*(Aqa b\\*(Aq\n\\&.x \\-y\n.fi\n";
        assert!(examples.starts_with(wanted), "{examples}");
        assert!(page.contains(".SH \"EXIT STATUS\"\n.TP\n0\n"), "{page}");
        assert!(!page.contains("Examples:") && !page.contains("EXTRA"), "{page}");
    }

    #[test]
    fn a_page_names_the_one_above() {
        let command = whole();
        let queue = command.find_subcommand("queue").expect("there is one");
        let list = queue.find_subcommand("list").expect("there is one");
        assert_eq!((name(queue), name(list)), ("sundown-queue", "sundown-queue-list"));
        assert!(see_also(list).starts_with("sundown-queue(1), "));
        assert!(!see_also(&command).contains("(1)"));
    }
}
