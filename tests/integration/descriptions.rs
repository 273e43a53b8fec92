//! What the command says about itself: completions, manual pages, help.

use std::process::Command;

use crate::harness::{Home, Ran, binary, run};

/// A run without anything in the environment, as when a package is built.
fn bare(arguments: &[&str]) -> Ran {
    let mut command = Command::new(binary());
    command.args(arguments).env_clear();
    run(command, "")
}

/// Each shell's script knows subcommands of both levels and options; another shell is a mistake.
///
/// design §8
#[test]
fn completions_know_the_words() {
    for shell in ["bash", "zsh", "fish"] {
        let script = bare(&["completions", shell]).ok().output;
        for word in ["queue", "release", "no-autostart", "password-command", "drain"] {
            assert!(script.contains(word), "{shell} does not know {word}");
        }
    }
    bare(&["completions", "csh"]).exits(2);
}

/// What bash is given it can read, and completes with.
///
/// design §8
#[test]
fn bash_completes() {
    let home = Home::new();
    let script = home.write("completions", bare(&["completions", "bash"]).ok().output);
    let mut bash = Command::new("bash");
    let program = r#"COMP_WORDS=(sundown queue re); COMP_CWORD=2
        source "$0"; _sundown sundown re queue; echo "${COMPREPLY[@]}""#;
    bash.args(["--norc", "-c", program]).arg(script);
    assert_eq!(run(bash, "").ok().output, "retry release");
}

/// There is a page for each subcommand, and one on standard output.
///
/// design §8
#[test]
fn there_are_manual_pages() {
    let home = Home::new();
    let directory = home.path("made/man1");
    bare(&["man", directory.to_str().expect("text")]).ok();
    let page = |name: &str| std::fs::read_to_string(directory.join(name)).expect("a page");
    assert_eq!(bare(&["man"]).ok().output.trim_end(), page("sundown.1").trim_end());
    for (name, words) in [
        ("sundown.1", ["sundown\\-send(1)", "SUNDOWN_SOCKET"]),
        ("sundown-send.1", [".TH sundown-send 1", "\\-\\-subject"]),
        ("sundown-queue-list.1", ["sundown\\-queue(1)", "\\-\\-all"]),
    ] {
        for word in words {
            assert!(page(name).contains(word), "{name} lacks {word}\n{}", page(name));
        }
    }
    assert!(!page("sundown-serve.1").contains("detached"), "what is hidden is told");
    let blocked = home.write("a-file", "");
    let refused = bare(&["man", blocked.to_str().expect("text"), "--json"]).exits(1).json();
    assert_eq!(refused["error"]["code"], "MAPI_E_NO_ACCESS");
}

/// Help has the options of every subcommand in a group behind those of this one, then examples; so has its page. There are no
/// colours where there is no terminal, and none that `NO_COLOR` would have to take away from what is printed.
///
/// design §8
#[test]
fn help_has_groups_and_examples() {
    for arguments in [&["send", "--help"][..], &["send", "-h"], &["help", "send"]] {
        let help = bare(arguments).ok().output;
        let places: Vec<_> = ["--subject", "Options of every subcommand:", "--socket", "Examples:"]
            .iter()
            .map(|word| help.find(word).unwrap_or_else(|| panic!("{word} is not in {help}")))
            .collect();
        assert!(places.is_sorted(), "{help}");
        assert!(help.contains("sundown send letter.eml --wait=60"), "{help}");
        assert!(!help.contains('\x1b'), "{help:?}");
    }
    let home = Home::new();
    bare(&["man", home.path("man").to_str().expect("text")]).ok();
    let page = std::fs::read_to_string(home.path("man/sundown-send.1")).expect("a page");
    let examples = page.split(".SH EXAMPLES").nth(1).expect("it has examples");
    assert!(examples.contains("\nsundown send letter.eml \\-\\-wait=60\n"), "{page}");
}
