//! Pictures of how something grows, both ways by powers of ten: text and lines, with a background of their own.

use std::fmt::Write;

use crate::growth::Growth;
use crate::measure::Unit;

const WIDTH: f64 = 720.0;
const HEIGHT: f64 = 380.0;
/// Left, top, right, bottom of where the curves are.
const FRAME: (f64, f64, f64, f64) = (90.0, 50.0, 560.0, 325.0);
const COLOURS: [&str; 3] = ["#7ee787", "#e3b341", "#79c0ff"];

/// The powers of ten around some numbers, at least two.
fn decades(numbers: impl Iterator<Item = f64>) -> (i32, i32) {
    let exponents: Vec<_> = numbers.map(f64::log10).collect();
    let lowest = exponents.iter().copied().fold(f64::INFINITY, f64::min).floor() as i32;
    let highest = exponents.iter().copied().fold(f64::NEG_INFINITY, f64::max).ceil() as i32;
    (lowest, highest.max(lowest + 1))
}

/// Where a number is between two ends.
fn place(number: f64, (low, high): (i32, i32), (from, to): (f64, f64)) -> f64 {
    let part = (number.log10() - f64::from(low)) / f64::from(high - low);
    from + part * (to - from)
}

/// A power of ten of bytes or of things.
fn count(number: f64) -> String {
    match number {
        n if n >= 1e6 => format!("{} M", n / 1e6),
        n if n >= 1e3 => format!("{} k", n / 1e3),
        n => format!("{n}"),
    }
}

/// A power of ten of what is counted.
fn amount(unit: Unit, number: f64) -> String {
    match unit {
        Unit::Seconds => unit.short(number).replace(".00", ""),
        Unit::Bytes => count(number) + "B",
        Unit::Number => count(number),
    }
}

/// The picture.
pub(crate) fn svg(growth: &Growth) -> String {
    let (left, top, right, bottom) = FRAME;
    let points = || growth.curves.iter().flat_map(|curve| curve.points.iter().copied());
    let across = decades(points().map(|(x, _)| x));
    let up = decades(points().map(|(_, y)| y));
    let mut lines = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{WIDTH}\" height=\"{HEIGHT}\" \
         viewBox=\"0 0 {WIDTH} {HEIGHT}\" role=\"img\">\n<title>{} by {}</title>\n\
         <rect width=\"{WIDTH}\" height=\"{HEIGHT}\" rx=\"8\" fill=\"#161b22\" stroke=\"#6e7681\"/>\n\
         <g font-family=\"ui-sans-serif, system-ui, 'DejaVu Sans', sans-serif\" font-size=\"13\" fill=\"#e6edf3\">\n\
         <text x=\"{left}\" y=\"28\" font-size=\"15\">{}, by {}</text>\n",
        growth.title, growth.of, growth.title, growth.of
    );
    for exponent in across.0..=across.1 {
        let x = place(10_f64.powi(exponent), across, (left, right));
        let label = count(10_f64.powi(exponent));
        let _ = writeln!(
            lines,
            "<path d=\"M{x:.1} {top}V{bottom}\" stroke=\"#30363d\"/><text x=\"{x:.1}\" y=\"{:.1}\" text-anchor=\"middle\">{label}</text>",
            bottom + 20.0
        );
    }
    for exponent in up.0..=up.1 {
        let y = place(10_f64.powi(exponent), up, (bottom, top));
        let label = amount(growth.unit, 10_f64.powi(exponent));
        let _ = writeln!(
            lines,
            "<path d=\"M{left} {y:.1}H{right}\" stroke=\"#30363d\"/><text x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"end\">{label}</text>",
            left - 8.0,
            y + 4.0
        );
    }
    let middle = f64::midpoint(left, right);
    let _ = writeln!(
        lines,
        "<text x=\"{middle:.1}\" y=\"{:.1}\" text-anchor=\"middle\">{}</text>",
        HEIGHT - 12.0,
        growth.of
    );
    // Names stand where their curves end, and none upon another.
    let mut names: Vec<(f64, usize)> = Vec::new();
    for (number, curve) in growth.curves.iter().enumerate() {
        let colour = COLOURS[number % COLOURS.len()];
        let at =
            |(x, y): &(f64, f64)| (place(*x, across, (left, right)), place(*y, up, (bottom, top)));
        let all: Vec<_> = curve.points.iter().map(at).collect();
        let path: Vec<_> = all.iter().map(|(x, y)| format!("{x:.1},{y:.1}")).collect();
        let _ = writeln!(
            lines,
            "<polyline points=\"{}\" fill=\"none\" stroke=\"{colour}\" stroke-width=\"2\"/>",
            path.join(" ")
        );
        for (x, y) in &all {
            let _ =
                writeln!(lines, "<circle cx=\"{x:.1}\" cy=\"{y:.1}\" r=\"3\" fill=\"{colour}\"/>");
        }
        names.push((all.last().expect("it has points").1, number));
    }
    names.sort_by(|one, other| one.0.total_cmp(&other.0));
    let mut free = top;
    for (y, number) in names {
        let y = y.max(free);
        free = y + 17.0;
        let (name, colour) = (growth.curves[number].name, COLOURS[number % COLOURS.len()]);
        let _ = writeln!(
            lines,
            "<text x=\"{:.1}\" y=\"{:.1}\" fill=\"{colour}\">{name}</text>",
            right + 10.0,
            y + 4.0
        );
    }
    lines + "</g>\n</svg>\n"
}
