//! Examples in help texts and manual pages. The first line is their heading, each other one a command line.

pub(crate) const ALL: &str = "\
Examples:
  sundown tour
  echo hello | sundown send --to anna@localhost --wait
  sundown inbox
  sundown status
  sundown queue
  sundown doctor
  sundown help send";

pub(crate) const SERVE: &str = "\
Examples:
  sundown serve
  sundown serve --log-format json --log-level info,sundown_core=debug
  sundown serve --data-dir /var/lib/sundown --socket /run/sundown/broker.sock";

pub(crate) const SHELL: &str = "\
Examples:
  sundown shell
  echo 'logon' | sundown shell --json
  printf 'logon\\nfolders session=1\\n' | sundown shell --json";

pub(crate) const SEND: &str = "\
Examples:
  echo hello | sundown send --to anna@localhost --subject Greetings
  sundown send letter.eml --wait=60
  sundown send --to 'Bo <bo@example.org>' --from anna@example.org letter.txt
  echo hi | sundown send --to bo@example.org --attach report.pdf";

pub(crate) const SENDMAIL: &str = "\
Examples:
  sundown sendmail -t -oi < letter.eml
  sundown sendmail -f anna@example.org bo@example.org < letter.eml
  sundown sendmail -bp";

pub(crate) const STATUS: &str = "\
Examples:
  sundown status
  sundown status --watch
  sundown status --watch --json --interval=60 >> status.log
  sundown status --json | jq .queue";

pub(crate) const QUEUE: &str = "\
Examples:
  sundown queue
  sundown queue list --all --json
  sundown queue show 0521bae7227dd0be64f5aace4310f8e47b80387e
  sundown queue flush --profile work --wait=60";

pub(crate) const INBOX: &str = "\
Examples:
  sundown inbox
  sundown inbox --unread --limit 10
  sundown inbox --folder Work/2026
  sundown inbox --folder sent --json | jq -r '.[].subject'";

pub(crate) const READ: &str = "\
Examples:
  sundown read 1
  sundown read 3 --folder sent
  sundown read 7b80387e --save-attachments .
  sundown read 0521bae7227dd0be64f5aace4310f8e47b80387e --raw > letter.eml";

pub(crate) const SEARCH: &str = "\
Examples:
  sundown search invoice march
  sundown search from:anna 'menu*' -- -lunch
  sundown search '\"the whole phrase\"' after:2026-01-31 --folder archive
  sundown search invoice --json | jq -r '.[].entry'";

pub(crate) const FOLDERS: &str = "\
Examples:
  sundown folders
  sundown folders --json | jq -r '.[] | select(.unread > 0).name'";

pub(crate) const SYNC: &str = "\
Examples:
  sundown sync
  sundown sync --wait
  sundown sync --json | jq .new";

pub(crate) const MAILBOX: &str = "\
Examples:
  sundown mailbox
  sundown mailbox --json | jq '.[] | select(.pending > 0).name'";

pub(crate) const LOGOFF: &str = "\
Examples:
  sundown logoff
  sundown logoff --shared --force --wait
  sundown logoff --profile work --shared --yes";

pub(crate) const PROFILE: &str = "\
Examples:
  sundown profile list
  sundown profile add work
  sundown profile check work";

pub(crate) const PROFILE_ADD: &str = "\
Examples:
  sundown profile add work anna@example.org --password-file ~/.secret
  sundown profile add notes --maildir ~/Maildir
  sundown profile add work --host smtp.example.org --username anna
  sundown profile add relay --host localhost --security none --accept '*'";

pub(crate) const PROFILE_IMPORT: &str = "\
Examples:
  sundown profile import ~/.msmtprc
  sundown profile import /etc/nullmailer --name relay";

pub(crate) const PROVIDER: &str = "\
Examples:
  sundown provider list
  sundown provider show smtp";

pub(crate) const STOP: &str = "\
Examples:
  sundown stop
  sundown stop --fast";

pub(crate) const DOCTOR: &str = "\
Examples:
  sundown doctor
  sundown doctor --profile work
  sundown doctor --json | jq '.[] | select(.status != \"ok\")'";

pub(crate) const COMPLETIONS: &str = "\
Examples:
  sundown completions bash > ~/.local/share/bash-completion/completions/sundown
  sundown completions zsh > ~/.zfunc/_sundown
  sundown completions fish > ~/.config/fish/completions/sundown.fish";

pub(crate) const MAN: &str = "\
Examples:
  sundown man | man -l -
  sundown man ~/.local/share/man/man1";

#[cfg(test)]
mod tests {
    use clap::{Command, CommandFactory, Parser};

    use crate::cli::Cli;

    /// Words as a shell cuts them, up to a pipe or a redirection.
    fn words(line: &str) -> Vec<String> {
        let mut words = vec![String::new()];
        for (place, part) in line.split('\'').enumerate() {
            if place % 2 == 1 {
                words.last_mut().expect("there is one").push_str(part);
                continue;
            }
            for c in part.chars() {
                match c {
                    ' ' => words.push(String::new()),
                    c => words.last_mut().expect("there is one").push(c),
                }
            }
        }
        let ours = |word: &String| !["|", "<", ">", ">>"].contains(&word.as_str());
        let begin = words.iter().position(|word| word == "sundown").expect("it is in the line");
        words.split_off(begin).into_iter().take_while(ours).collect()
    }

    fn check(command: &Command, checked: &mut usize) {
        let text = command.get_after_help().map(ToString::to_string).unwrap_or_default();
        for line in text.lines().skip(1).take_while(|line| !line.is_empty()) {
            let mut words = words(line.trim_start());
            // What stands behind is sendmail's.
            let end = words.iter().position(|w| w == "sendmail").map_or(words.len(), |at| at + 1);
            words.truncate(end);
            let help = words.get(1).is_some_and(|word| word == "help");
            assert!(help || Cli::try_parse_from(&words).is_ok(), "{line}");
            assert!(line.len() <= 80, "{line} does not fit into a terminal");
            *checked += 1;
        }
        command.get_subcommands().for_each(|below| check(below, checked));
    }

    #[test]
    fn every_example_is_a_command_line() {
        assert_eq!(words("echo x | sundown send 'a b'c < d"), ["sundown", "send", "a bc"]);
        let mut checked = 0;
        check(&Cli::command(), &mut checked);
        assert!(checked > 35, "{checked} examples were found");
    }

    #[test]
    fn subcommands_show_how_they_are_used() {
        for command in Cli::command().get_subcommands() {
            let shown = command.get_after_help().is_some();
            assert!(shown || command.get_name() == "tour", "{}", command.get_name());
        }
    }
}
