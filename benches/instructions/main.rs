//! What the hot paths of the core and the protocol cost in instructions, against a budget each.
//!
//! ```text
//! cargo bench -p sundown-core --bench instructions                     every path against its budget
//! cargo bench -p sundown-core --bench instructions -- --only logon     those with that word in their name
//! cargo bench -p sundown-core --bench instructions -- --bless          what they cost now is the budget
//! ```
//!
//! Instructions do not depend on what else the machine does, so a regression fails and nothing else does. They do depend on
//! the compiler and the C library: with others than those that the budgets are for everything is shown and nothing fails.
//!
//! ```text
//! paths      what is counted          world       a broker to count it in
//! callgrind  how it is counted        allocations how often memory is asked for
//! budgets    what it may cost
//! ```

mod allocations;
mod budgets;
mod callgrind;
mod paths;
mod world;

use std::path::Path;
use std::process::ExitCode;
use std::sync::Mutex;

use budgets::{Budgets, Verdict};
use callgrind::Taken;
use paths::PATHS;

/// What is asked for on the command line.
struct Asked {
    /// One path, to be run and not counted: valgrind does that.
    path: Option<String>,
    only: Option<String>,
    bless: bool,
    /// `cargo test --benches` wants to know that it runs.
    test: bool,
}

fn main() -> ExitCode {
    let asked = Asked::read();
    if asked.path.is_some() || asked.test {
        let wanted = |name: &str| asked.path.as_deref().is_none_or(|path| path == name);
        for (_, path) in PATHS.iter().filter(|(name, _)| wanted(name)) {
            println!("{}", callgrind::once(&mut *path()));
        }
        return ExitCode::SUCCESS;
    }
    if !callgrind::works() {
        println!("skipped: there is no valgrind that works");
        return ExitCode::SUCCESS;
    }
    let counted = count(asked.only.as_deref());
    let mut budgets = Budgets::read();
    if asked.bless {
        budgets.bless(&counted);
        return ExitCode::SUCCESS;
    }
    show(&budgets, &counted, asked.only.is_none())
}

impl Asked {
    fn read() -> Self {
        let words: Vec<_> = std::env::args().skip(1).collect();
        let has = |option: &str| words.iter().any(|word| word == option);
        let after = |option: &str| {
            let place = words.iter().position(|word| word == option)?;
            words.get(place + 1).cloned()
        };
        Self {
            path: after("--path"),
            only: after("--only"),
            bless: has("--bless"),
            test: has("--test"),
        }
    }
}

/// Counts paths, as many at once as there are processors, and puts them into their order.
fn count(only: Option<&str>) -> Vec<(&'static str, Taken)> {
    let names = PATHS.iter().map(|(name, _)| *name);
    let wanted: Vec<_> = names.filter(|n| only.is_none_or(|word| n.contains(word))).collect();
    let scratch = std::env::temp_dir().join(format!("sundown-instructions-{}", std::process::id()));
    std::fs::create_dir_all(&scratch).expect("a directory for profiles");
    let next = Mutex::new(wanted.iter().enumerate());
    let counted = Mutex::new(Vec::new());
    let workers = std::thread::available_parallelism().map_or(1, usize::from);
    std::thread::scope(|scope| {
        for _ in 0..workers {
            scope.spawn(|| count_next(&next, &counted, &scratch));
        }
    });
    std::fs::remove_dir_all(&scratch).expect("profiles are removed");
    let mut counted = counted.into_inner().expect("every path was counted");
    counted.sort_unstable_by_key(|(place, ..)| *place);
    counted.into_iter().map(|(_, name, taken)| (name, taken)).collect()
}

fn count_next<'a>(
    next: &Mutex<impl Iterator<Item = (usize, &'a &'static str)>>,
    counted: &Mutex<Vec<(usize, &'static str, Taken)>>,
    scratch: &Path,
) {
    loop {
        let wanted = next.lock().expect("nobody fails with it").next();
        let Some((place, name)) = wanted else { return };
        let taken = callgrind::run(name, scratch).unwrap_or_else(|why| panic!("{name}: {why}"));
        counted.lock().expect("nobody fails with it").push((place, name, taken));
    }
}

fn show(budgets: &Budgets, counted: &[(&'static str, Taken)], all: bool) -> ExitCode {
    let mut failed = false;
    println!(
        "{:<40} {:>13} {:>13} {:>8} {:>12}",
        "path", "instructions", "budget", "", "allocations"
    );
    for (name, taken) in counted {
        let budget = budgets.of(name);
        let change = budget.map_or_else(String::new, |budget| {
            let ratio = taken.instructions as f64 / budget.instructions as f64;
            format!("{:+.1} %", (ratio - 1.0) * 100.0)
        });
        let most = budget.map_or_else(|| "none".to_owned(), |b| b.instructions.to_string());
        let verdict = budgets::judge(budget, *taken);
        failed |= matches!(verdict, Verdict::Over(_));
        let said = match &verdict {
            Verdict::Within => String::new(),
            Verdict::Under => "  under its budget: tighten it".to_owned(),
            Verdict::Over(why) => format!("  {why}"),
        };
        let Taken { instructions, allocations } = taken;
        println!("{name:<40} {instructions:>13} {most:>13} {change:>8} {allocations:>12}{said}");
    }
    for name in budgets.names().filter(|name| all && counted.iter().all(|(n, _)| n != name)) {
        println!("{name:<40} has a budget, and there is no such path");
        failed = true;
    }
    if let Some(other) = budgets.other_tools() {
        println!("nothing fails: {other}");
        return ExitCode::SUCCESS;
    }
    if failed {
        println!(
            "\nMake it cheaper or, if it is worth that much, take what it costs as its budget: --bless"
        );
        return ExitCode::FAILURE;
    }
    ExitCode::SUCCESS
}
