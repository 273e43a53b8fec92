//! What each path may cost: a file beside this one, with a line for each.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::PathBuf;
use std::process::Command;

use crate::callgrind::Taken;

/// More than so many parts of a thousand above its budget, and a path fails.
const ABOVE: u64 = 50;
/// So many more are nothing, however small the path is: what the compiler takes into a function changes with its neighbours.
const SLACK: u64 = 50;
/// More than so many below it, and it is said that the budget can be less.
const BELOW: u64 = 100;

/// The budgets, and what they are for.
pub(crate) struct Budgets {
    /// The compiler, the C library and the architecture.
    tools: String,
    paths: BTreeMap<String, Taken>,
}

/// What is to be said of a path.
pub(crate) enum Verdict {
    Within,
    Under,
    Over(String),
}

fn file() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../benches/instructions/budgets.txt")
}

impl Budgets {
    pub(crate) fn read() -> Self {
        let text = std::fs::read_to_string(file()).unwrap_or_default();
        let tools = text.lines().find_map(|line| line.strip_prefix("# for ")).unwrap_or_default();
        let paths = text.lines().filter(|line| !line.starts_with('#')).filter_map(line).collect();
        Self { tools: tools.to_owned(), paths }
    }

    pub(crate) fn of(&self, path: &str) -> Option<Taken> {
        self.paths.get(path).copied()
    }

    pub(crate) fn names(&self) -> impl Iterator<Item = &str> {
        self.paths.keys().map(String::as_str)
    }

    /// What is here is not what the budgets are for.
    pub(crate) fn other_tools(&self) -> Option<String> {
        let here = tools();
        (here != self.tools)
            .then(|| format!("the budgets are for {}, and here is {here}", self.tools))
    }

    /// Takes what paths cost as their budgets.
    pub(crate) fn bless(&mut self, counted: &[(&'static str, Taken)]) {
        self.paths.extend(counted.iter().map(|(name, taken)| ((*name).to_owned(), *taken)));
        let mut text = format!(
            "# What each path may cost: cargo bench -p sundown-core --bench instructions -- --bless\n\
             # for {}\n\
             # path, instructions, allocations\n",
            tools()
        );
        for (name, _) in crate::paths::PATHS {
            if let Some(Taken { instructions, allocations }) = self.of(name) {
                let _ = writeln!(text, "{name:<40} {instructions:>11} {allocations:>7}");
            }
        }
        std::fs::write(file(), text).expect("budgets are written");
    }
}

fn line(line: &str) -> Option<(String, Taken)> {
    let mut words = line.split_whitespace();
    let name = words.next()?.to_owned();
    let mut number = || words.next()?.parse().ok();
    let taken = Taken { instructions: number()?, allocations: number()? };
    Some((name, taken))
}

pub(crate) fn judge(budget: Option<Taken>, taken: Taken) -> Verdict {
    let Some(budget) = budget else { return Verdict::Over("has no budget".to_owned()) };
    if taken.allocations > budget.allocations {
        return Verdict::Over(format!("allocates more than {} times", budget.allocations));
    }
    if taken.instructions * 1_000 > (budget.instructions + SLACK) * (1_000 + ABOVE) {
        return Verdict::Over("over its budget".to_owned());
    }
    let under = (taken.instructions + SLACK) * 1_000 < budget.instructions * (1_000 - BELOW);
    if under || taken.allocations < budget.allocations { Verdict::Under } else { Verdict::Within }
}

/// The compiler, the C library and the architecture here.
fn tools() -> String {
    let said = |program: &str, argument: &str| {
        let output = Command::new(program).arg(argument).output().ok();
        let text = output.map(|o| String::from_utf8_lossy(&o.stdout).trim().to_owned());
        text.unwrap_or_else(|| format!("no {program}"))
    };
    let rustc = std::env::var("RUSTC").unwrap_or_else(|_| "rustc".to_owned());
    let library = said("getconf", "GNU_LIBC_VERSION");
    format!("{}, {library}, {}", said(&rustc, "--version"), std::env::consts::ARCH)
}
