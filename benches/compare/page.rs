//! What was measured, where people read it: docs/performance.md and its pictures.

use std::path::{Path, PathBuf};

use crate::growth::Growth;
use crate::measure::{Line, Unit};
use crate::plot;

fn documents() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("docs")
}

/// Puts a text between the two marks of that name.
fn replace(name: &str, text: &str) {
    let path = documents().join("performance.md");
    let page = std::fs::read_to_string(&path).expect("the page is there");
    let (begin, end) = (format!("<!-- {name} -->\n"), format!("<!-- end of {name} -->"));
    let (before, rest) = page.split_once(&begin).expect("the mark is there");
    let (_, after) = rest.split_once(&end).expect("the mark at the end is there");
    std::fs::write(path, format!("{before}{begin}{text}{end}{after}")).expect("written");
}

/// Writes the table of a section.
pub(crate) fn write_lines(section: &str, lines: &[Line], how: &str) {
    let mut text = format!("{how}\n\n");
    text += "| measure | beside | goal | Sundown | other | ratio | middle half | |\n";
    text += "|---|---|---|--:|--:|--:|--:|---|\n";
    let mut last = String::new();
    for line in lines {
        let cells = line.cells();
        let measure = if cells.measure == last { "" } else { &cells.measure };
        text += &format!(
            "| {measure} | {} | {} | {} | {} | {} | {} | {} |\n",
            cells.beside,
            cells.goal,
            cells.ours,
            cells.theirs,
            cells.ratio,
            cells.spread,
            cells.met
        );
        last.clone_from(&cells.measure);
    }
    let mut slowest = String::new();
    for line in lines {
        let Some((ours, theirs)) = line.costs() else { continue };
        let (Some(slow), Some(their_slow)) = (ours.p99, theirs.p99) else { continue };
        let short = |seconds: Option<f64>| {
            seconds.map(|seconds| Unit::Seconds.short(seconds)).unwrap_or_default()
        };
        let cells = line.cells();
        slowest += &format!(
            "| {} | {} | {} | {} | {} | {} |\n",
            cells.measure,
            cells.beside,
            Unit::Seconds.short(slow),
            Unit::Seconds.short(their_slow),
            short(ours.processor),
            short(theirs.processor)
        );
    }
    if !slowest.is_empty() {
        text += "\nOf those whose single operations were timed, the slowest hundredth, and the processor time that the server took \
             for one:\n\n";
        text += "| measure | beside | slowest, Sundown | slowest, other | server, Sundown | server, other |\n";
        text += "|---|---|--:|--:|--:|--:|\n";
        text += &slowest;
    }
    replace(section, &text);
}

/// Writes the pictures of a section, and what is in them as tables.
pub(crate) fn write_growth(section: &str, all: &[Growth], how: &str) {
    let mut text = format!("{how}\n");
    for growth in all {
        let picture = format!("pictures/{}.svg", growth.name);
        std::fs::write(documents().join(&picture), plot::svg(growth)).expect("written");
        text += &format!("\n![{}, by {}]({picture})\n\n", growth.title, growth.of);
        let names: Vec<_> = growth.curves.iter().map(|curve| curve.name).collect();
        text += &format!("| {} | {} |\n", growth.of, names.join(" | "));
        text += &format!("|--:|{}\n", "--:|".repeat(names.len()));
        for (row, (x, _)) in growth.curves[0].points.iter().enumerate() {
            let values = growth.curves.iter().map(|curve| growth.unit.short(curve.points[row].1));
            text +=
                &format!("| {} | {} |\n", thousands(*x), values.collect::<Vec<_>>().join(" | "));
        }
    }
    replace(section, &text);
}

/// A whole number with its thousands apart.
fn thousands(number: f64) -> String {
    let digits = format!("{number}");
    let mut text = String::new();
    for (place, digit) in digits.chars().enumerate() {
        if place > 0 && (digits.len() - place).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// The machine, as far as it matters for what is measured, and how much else it has to do now.
pub(crate) fn machine() -> String {
    let read = |path: &str| std::fs::read_to_string(path).unwrap_or_default();
    let about = read("/proc/cpuinfo");
    let model = about.lines().find_map(|line| line.strip_prefix("model name")?.split_once(": "));
    let model = model.map_or("an unknown processor", |(_, name)| name.trim());
    let count = about.lines().filter(|line| line.starts_with("processor")).count();
    let kernel = read("/proc/sys/kernel/osrelease");
    let load = read("/proc/loadavg");
    let load = load.split(' ').next().unwrap_or_default();
    format!("{count} × {model}, Linux {}, load {load} when it began", kernel.trim())
}
