//! Rules about documents: links lead somewhere, the example is the one that is compiled, the protocol is complete.

use std::path::Path;
use std::process::Command;

use super::{files, read, root, shown};

/// The targets of the links of a page, without code.
fn links(page: &str) -> Vec<String> {
    let mut links = Vec::new();
    let mut in_code = false;
    for line in page.lines() {
        if line.trim_start().starts_with("```") {
            in_code = !in_code;
        } else if !in_code {
            let parts = line.split("](").skip(1).filter_map(|part| part.split_once(')'));
            links.extend(parts.map(|(target, _)| target.to_owned()));
        }
    }
    links
}

/// The anchors of a page's headings.
fn anchors(page: &str) -> Vec<String> {
    let headings = page.lines().filter(|line| line.starts_with('#'));
    let words = headings.map(|line| line.trim_start_matches('#').trim().to_lowercase());
    let kept = |c: char| c.is_alphanumeric() || c == '-' || c == '_';
    words.map(|text| text.replace(' ', "-").chars().filter(|c| kept(*c)).collect()).collect()
}

/// Looks at the links of all pages below a folder. How many there are.
fn check_links(folder: &Path) -> usize {
    let mut checked = 0;
    for path in files(folder, ".md") {
        let page = read(&path);
        for link in links(&page) {
            if link.starts_with("https://") || link.starts_with("http://") {
                continue;
            }
            let (file, anchor) = link.split_once('#').unwrap_or((&link, ""));
            let target = match file {
                "" => path.clone(),
                file => path.parent().unwrap_or(Path::new("")).join(file),
            };
            assert!(target.exists(), "{}: {link} leads nowhere", shown(&path));
            if !anchor.is_empty() {
                let found = anchors(&read(&target)).iter().any(|a| a == anchor);
                assert!(found, "{}: {link} has no such heading", shown(&path));
            }
            checked += 1;
        }
    }
    checked
}

#[test]
fn links_lead_somewhere() {
    let checked = check_links(root());
    assert!(checked > 20, "only {checked} links were found");
}

/// So do those of the pages that the Debian package has.
#[test]
fn links_of_the_package_lead_somewhere() {
    let folder = tempfile::tempdir().expect("a directory");
    let made = Command::new(root().join("deploy/pages")).arg(folder.path()).status();
    match made {
        Err(error) => return println!("skipped: deploy/pages cannot be run: {error}"),
        Ok(status) => assert!(status.success()),
    }
    let schemas = folder.path().join("docs/schemas");
    std::fs::create_dir(&schemas).expect("made");
    for schema in files(&root().join("docs/schemas"), ".json") {
        let name = schema.file_name().expect("a file");
        std::fs::copy(&schema, schemas.join(name)).expect("copied");
    }
    let checked = check_links(folder.path());
    assert!(checked > 20, "only {checked} links were found");
}

/// Whole lines of code without indentation, comments of the documentation and what hides lines there.
fn example<'a>(lines: impl Iterator<Item = &'a str>) -> Vec<&'a str> {
    let kept = lines.map(str::trim).filter(|line| !line.is_empty() && !line.starts_with("# "));
    kept.filter(|line| !line.starts_with("fn main()") && *line != "}").collect()
}

/// The README's program is the first example of the client library, and that one is compiled.
#[test]
fn the_example_is_the_one_that_is_compiled() {
    let readme = read(&root().join("README.md"));
    let block = readme.split("```rust\n").nth(1).and_then(|rest| rest.split("```").next());
    let library = read(&root().join("client-lib/src/lib.rs"));
    let documented: Vec<_> = library.lines().filter_map(|l| l.strip_prefix("//!")).collect();
    let mut compiled = documented.iter().skip_while(|l| !l.contains("```no_run")).skip(1);
    let compiled = compiled.by_ref().take_while(|l| l.trim() != "```").copied();
    assert_eq!(example(block.expect("the README has an example").lines()), example(compiled));
}

/// The provider of the page about leaving is the example of the interface, word for word, and that one is compiled.
#[test]
fn the_provider_is_the_one_that_is_compiled() {
    let page = read(&root().join("docs/shutdown.md"));
    let shown = page.split("```rust provider\n").nth(1).and_then(|rest| rest.split("```").next());
    let source = read(&root().join("broker/providers/src/lib.rs"));
    let about = source.split("pub trait ProviderShutdown").next().unwrap_or_default();
    let about = about.rsplit("/// ```\n").nth(1).expect("the interface has an example");
    let compiled: Vec<_> = about.lines().filter_map(|l| l.strip_prefix("///")).collect();
    let shown: Vec<_> = shown.expect("the page has a provider").lines().collect();
    let unindented: Vec<_> = compiled.iter().map(|l| l.strip_prefix(' ').unwrap_or(l)).collect();
    assert_eq!(shown, unindented);
}

/// The sections of the design that a text names: `design §3.2, §10.6` names two. It may begin a sentence.
fn cited(text: &str) -> Vec<String> {
    let mut found = Vec::new();
    for part in text.split("esign §").skip(1) {
        let mut rest = part;
        loop {
            let end = rest.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(rest.len());
            found.push(rest[..end].trim_end_matches('.').to_owned());
            let Some(next) = rest[end..].strip_prefix(", §") else { break };
            rest = next;
        }
    }
    found
}

/// `design §3.2` in a comment is a section of docs/design.md; those of §10 are numbered lines there.
#[test]
fn sections_of_the_design_exist() {
    let design = read(&root().join("docs/design.md"));
    let proof = design.split_once("\n## 10. ").expect("there is a section about proof").1;
    let mut checked = 0;
    for path in files(root(), ".rs").into_iter().chain(files(root(), ".md")) {
        if path.starts_with(root().join("tests/house")) {
            continue;
        }
        for section in cited(&read(&path)) {
            let found = match section.split_once('.') {
                None => design.contains(&format!("\n## {section}. ")),
                Some(("10", line)) => proof.contains(&format!("\n{line}. ")),
                Some(_) => design.contains(&format!("\n### {section} ")),
            };
            assert!(found, "{} names design §{section}, which is not there", shown(&path));
            checked += 1;
        }
    }
    assert!(checked > 100, "only {checked} mentions of the design were found");
}

/// The names of the variants of an enum in a source.
fn variants(source: &str, name: &str) -> Vec<String> {
    let body = source.split_once(&format!("pub enum {name} {{\n")).expect("the enum is there").1;
    let body = body.split_once("\n}").expect("the enum ends").0;
    let lines = body.lines().filter(|line| line.starts_with("    ") && !line.starts_with("     "));
    let named = lines.map(|line| line.trim().split(|c: char| !c.is_alphanumeric()).next());
    let named = named.flatten().filter(|word| word.starts_with(char::is_uppercase));
    named.map(str::to_owned).collect()
}

#[test]
fn the_protocol_is_described() {
    let page = read(&root().join("PROTOCOL.md"));
    for (file, name) in [("request", "Request"), ("reply", "Reply"), ("notification", "Event")] {
        let source = read(&root().join(format!("protocol/src/{file}.rs")));
        let variants = variants(&source, name);
        assert!(variants.len() > 10, "{name} has {variants:?}");
        for variant in variants {
            let found = page.contains(&format!("`{variant}`"));
            assert!(found, "PROTOCOL.md does not name {name}::{variant}");
        }
    }
}

/// Every subcommand, every shell command and every code that a client may see has its place on its page.
#[test]
fn the_command_is_described() {
    let page = read(&root().join("docs/command.md"));
    let shell = read(&root().join("src/shell/help.rs"));
    let table = shell.split_once("COMMANDS: &[Command]").expect("the table is there").1;
    let table = table.split_once("\n];").expect("the table ends").0;
    let commands = table.split("command(").skip(1);
    let commands = commands.filter_map(|c| c.trim_start().strip_prefix('"')?.split_once('"'));
    for (command, _) in commands {
        assert!(page.contains(&format!("| `{command}")), "docs/command.md lacks {command}");
    }
    let main = read(&root().join("src/main.rs"));
    for (_, rest) in main.match_indices("cli::Command::").map(|(at, m)| main.split_at(at + m.len()))
    {
        let name = rest.split(|c: char| !c.is_alphanumeric()).next().unwrap_or_default();
        let word = name.to_lowercase();
        assert!(page.contains(&format!("## `sundown {word}")), "docs/command.md lacks {word}");
    }
}

/// Pages speak of what is in the repository, not of places on somebody's machine.
#[test]
fn pages_name_no_machine() {
    for path in files(root(), ".md") {
        let page = read(&path);
        for word in ["/work/", "/root/", "/tmp/t-"] {
            assert!(!page.contains(word), "{} names {word}", shown(&path));
        }
    }
}
