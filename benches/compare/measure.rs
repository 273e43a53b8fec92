//! Things that are timed beside each other, in turns, and what the times say.
//!
//! A machine is faster in one minute than in the next. So every round times each side once, one after the other, and what
//! counts is the ratio within a round: its median, and between which values the middle half of the rounds lie.

use std::time::{Duration, Instant};

use serde_json::{Value, json};

/// What one side of a measure costs in one round.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Cost {
    /// Of one operation, in seconds.
    pub(crate) each: f64,
    /// Of the slowest hundredth, where single operations were timed.
    pub(crate) p99: Option<f64>,
    /// Processor time of the server for one operation, in seconds, where it was asked.
    pub(crate) processor: Option<f64>,
}

impl Cost {
    /// That of so many operations that took so long together.
    pub(crate) fn of(took: Duration, operations: usize) -> Self {
        Self { each: took.as_secs_f64() / operations as f64, ..Self::default() }
    }

    /// That of operations that were timed one by one.
    pub(crate) fn of_each(mut times: Vec<Duration>) -> Self {
        let all: Duration = times.iter().sum();
        times.sort_unstable();
        let slow = times[times.len() * 99 / 100].as_secs_f64();
        Self { p99: Some(slow), ..Self::of(all, times.len()) }
    }

    /// That of one of so many, each of which says what it cost.
    pub(crate) fn of_all(times: usize, mut one: impl FnMut() -> Self) -> Self {
        let all: f64 = (0..times).map(|_| one().each).sum();
        Self { each: all / times as f64, ..Self::default() }
    }

    /// What is slowest in it is what counts.
    pub(crate) fn slowest(self) -> Self {
        Self { each: self.p99.expect("they were timed one by one"), p99: None, processor: None }
    }
}

/// One side: a broker, a floor, a peer.
pub(crate) struct Side<'a> {
    pub(crate) name: &'static str,
    pub(crate) run: Box<dyn FnMut() -> Cost + 'a>,
}

impl<'a> Side<'a> {
    pub(crate) fn new(name: &'static str, run: impl FnMut() -> Cost + 'a) -> Self {
        Self { name, run: Box::new(run) }
    }
}

/// So many operations, timed one by one.
pub(crate) fn one_by_one(times: usize, mut work: impl FnMut()) -> impl FnMut() -> Cost {
    move || {
        let each = (0..times).map(|_| {
            let began = Instant::now();
            work();
            began.elapsed()
        });
        Cost::of_each(each.collect())
    }
}

/// How a side should stand to ours.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Goal {
    /// Ours costs at most so many times as much.
    AtMost(f64),
    /// Ours does at least so many times as much in the same time.
    Times(f64),
    /// It is there to be compared with.
    None,
}

/// What is measured, and how our side should stand to each of the others.
pub(crate) struct Measure<'a> {
    pub(crate) name: String,
    pub(crate) ours: Side<'a>,
    pub(crate) others: Vec<(Side<'a>, Goal)>,
    /// Programs that would stand beside it and are not here.
    pub(crate) missing: Vec<&'static str>,
}

/// A line of the table.
pub(crate) struct Line {
    measure: String,
    beside: Beside,
}

enum Beside {
    /// Another side, in the same rounds.
    Other {
        name: &'static str,
        ours: Cost,
        theirs: Cost,
        /// Ours to theirs in each round, sorted.
        ratios: Vec<f64>,
        goal: Goal,
    },
    /// A number: what the rounds came to, sorted, and what it may be.
    Limit { name: &'static str, values: Vec<f64>, most: f64, unit: Unit },
    /// A program that is not here.
    Missing(&'static str),
}

/// What a number counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Unit {
    Seconds,
    Bytes,
    Number,
}

impl<'a> Measure<'a> {
    pub(crate) fn new(name: impl Into<String>, ours: Side<'a>) -> Self {
        Self { name: name.into(), ours, others: Vec::new(), missing: Vec::new() }
    }

    pub(crate) fn beside(mut self, side: Side<'a>, goal: Goal) -> Self {
        self.others.push((side, goal));
        self
    }

    /// A peer, or that it is missing.
    pub(crate) fn peer(mut self, name: &'static str, side: Option<Side<'a>>, goal: Goal) -> Self {
        match side {
            Some(side) => self.others.push((side, goal)),
            None => self.missing.push(name),
        }
        self
    }

    /// Another side without a goal.
    pub(crate) fn with(self, side: Side<'a>) -> Self {
        self.beside(side, Goal::None)
    }

    /// Times every side in every round. The first round is not counted: caches are cold.
    fn time(&mut self, rounds: usize) -> (Vec<Cost>, Vec<Vec<Cost>>) {
        let mut ours = Vec::with_capacity(rounds);
        let mut theirs: Vec<Vec<Cost>> = self.others.iter().map(|_| Vec::new()).collect();
        for round in 0..=rounds {
            let cost = (self.ours.run)();
            let costs: Vec<_> = self.others.iter_mut().map(|(side, _)| (side.run)()).collect();
            if round > 0 {
                ours.push(cost);
                theirs.iter_mut().zip(costs).for_each(|(all, cost)| all.push(cost));
            }
        }
        (ours, theirs)
    }

    /// What each side costs.
    pub(crate) fn medians(mut self, rounds: usize) -> Vec<(&'static str, Cost)> {
        let (ours, theirs) = self.time(rounds);
        let others = self.others.iter().zip(&theirs);
        let others = others.map(|((side, _), costs)| (side.name, middle(costs)));
        std::iter::once((self.ours.name, middle(&ours))).chain(others).collect()
    }

    pub(crate) fn run(mut self, rounds: usize) -> Vec<Line> {
        let (ours, theirs) = self.time(rounds);
        let others = self.others.iter().zip(&theirs).map(|((side, goal), theirs)| {
            let pairs = ours.iter().zip(theirs);
            let mut ratios: Vec<_> = pairs.map(|(ours, theirs)| ours.each / theirs.each).collect();
            ratios.sort_by(f64::total_cmp);
            let (ours, theirs) = (middle(&ours), middle(theirs));
            Beside::Other { name: side.name, ours, theirs, ratios, goal: *goal }
        });
        let missing = self.missing.iter().copied().map(Beside::Missing);
        let line = |beside| Line { measure: self.name.clone(), beside };
        others.chain(missing).map(line).collect()
    }
}

/// The median of each.
fn middle(costs: &[Cost]) -> Cost {
    let median = |of: fn(&Cost) -> Option<f64>| {
        let mut values: Vec<_> = costs.iter().filter_map(of).collect();
        values.sort_by(f64::total_cmp);
        values.get(values.len() / 2).copied()
    };
    Cost {
        each: median(|cost| Some(cost.each)).unwrap_or_default(),
        p99: median(|cost| cost.p99),
        processor: median(|cost| cost.processor),
    }
}

/// The value at that part of sorted ones.
fn at(sorted: &[f64], part: f64) -> f64 {
    sorted[((sorted.len() - 1) as f64 * part).round() as usize]
}

impl Line {
    /// A number that may be so much at most. The first round is not counted, unless there is no other.
    pub(crate) fn limit(
        measure: impl Into<String>,
        name: &'static str,
        unit: Unit,
        most: f64,
        mut values: Vec<f64>,
    ) -> Self {
        if values.len() > 1 {
            values.remove(0);
        }
        values.sort_by(f64::total_cmp);
        Self { measure: measure.into(), beside: Beside::Limit { name, values, most, unit } }
    }

    /// A measure without the program that it takes.
    pub(crate) fn missing(measure: impl Into<String>, name: &'static str) -> Self {
        Self { measure: measure.into(), beside: Beside::Missing(name) }
    }

    /// Whether the goal is met; `None` without one.
    pub(crate) fn is_met(&self) -> Option<bool> {
        match &self.beside {
            Beside::Other { ratios, goal, .. } => match goal {
                Goal::AtMost(most) => Some(at(ratios, 0.5) <= *most),
                Goal::Times(times) => Some(1.0 / at(ratios, 0.5) >= *times),
                Goal::None => None,
            },
            Beside::Limit { values, most, .. } => Some(at(values, 0.5) <= *most),
            Beside::Missing(_) => None,
        }
    }

    /// Of both sides, if there are two.
    pub(crate) fn costs(&self) -> Option<(&Cost, &Cost)> {
        match &self.beside {
            Beside::Other { ours, theirs, .. } => Some((ours, theirs)),
            Beside::Limit { .. } | Beside::Missing(_) => None,
        }
    }

    pub(crate) fn heading() -> String {
        format!(
            "{:<50} {:<34} {:>10} {:>10} {:>7} {:>17}  goal\n",
            "measure", "beside", "sundown", "other", "ratio", "middle half"
        )
    }

    /// What stands in a line of the table.
    pub(crate) fn cells(&self) -> Cells {
        let met = match self.is_met() {
            Some(true) => "met",
            Some(false) => "not met",
            None => "",
        };
        let measure = self.measure.clone();
        match &self.beside {
            Beside::Other { name, ours, theirs, ratios, goal } => Cells {
                measure,
                beside: (*name).to_owned(),
                ours: Unit::Seconds.short(ours.each),
                theirs: Unit::Seconds.short(theirs.each),
                ratio: ratio(at(ratios, 0.5)),
                spread: format!("{} to {}", ratio(at(ratios, 0.25)), ratio(at(ratios, 0.75))),
                goal: match goal {
                    Goal::AtMost(most) => format!("≤ {most} ×"),
                    Goal::Times(times) => format!("≥ {times} × as many"),
                    Goal::None => String::new(),
                },
                met,
            },
            Beside::Limit { name, values, most, unit } => Cells {
                measure,
                beside: (*name).to_owned(),
                ours: unit.short(at(values, 0.5)),
                spread: match values.len() {
                    1 => String::new(),
                    _ => format!(
                        "{} to {}",
                        unit.short(at(values, 0.25)),
                        unit.short(at(values, 0.75))
                    ),
                },
                goal: format!("≤ {}", unit.short(*most)),
                met,
                ..Cells::default()
            },
            Beside::Missing(name) => {
                let beside = format!("{name}: not installed");
                Cells { measure, beside, ..Cells::default() }
            }
        }
    }

    pub(crate) fn text(&self) -> String {
        let Cells { measure, beside, ours, theirs, ratio, spread, goal, met } = self.cells();
        let mut text = format!(
            "{measure:<50} {beside:<34} {ours:>10} {theirs:>10} {ratio:>7} {spread:>17}  {goal}  {met}\n"
        );
        if let Beside::Other { ours, theirs, .. } = &self.beside {
            if let (Some(ours), Some(theirs)) = (ours.p99, theirs.p99) {
                text += &detail("slowest hundredth", ours, theirs);
            }
            if let (Some(ours), Some(theirs)) = (ours.processor, theirs.processor) {
                text += &detail("processor time of the server", ours, theirs);
            }
        }
        text
    }

    pub(crate) fn value(&self) -> Value {
        let met = self.is_met();
        let cost = |cost: &Cost| json!({ "seconds": cost.each, "p99_seconds": cost.p99, "processor_seconds": cost.processor });
        let beside = match &self.beside {
            Beside::Other { name, ours, theirs, ratios, goal } => json!({
                "beside": name,
                "sundown": cost(ours),
                "other": cost(theirs),
                "ratio": { "median": at(ratios, 0.5), "quarter": at(ratios, 0.25), "three_quarters": at(ratios, 0.75) },
                "goal": match goal {
                    Goal::AtMost(most) => json!({ "at_most": most }),
                    Goal::Times(times) => json!({ "times_as_many": times }),
                    Goal::None => Value::Null,
                },
                "met": met,
            }),
            Beside::Limit { name, values, most, unit } => {
                let unit = unit.name();
                let values = json!({ "median": at(values, 0.5), "quarter": at(values, 0.25), "three_quarters": at(values, 0.75) });
                json!({ "beside": name, unit: values, "goal": { "at_most": most }, "met": met })
            }
            Beside::Missing(name) => json!({ "missing": name }),
        };
        json!({ "measure": self.measure, "figures": beside })
    }
}

/// What stands in a line of the table, for people.
#[derive(Debug, Default)]
pub(crate) struct Cells {
    pub(crate) measure: String,
    pub(crate) beside: String,
    pub(crate) ours: String,
    pub(crate) theirs: String,
    pub(crate) ratio: String,
    pub(crate) spread: String,
    pub(crate) goal: String,
    pub(crate) met: &'static str,
}

/// A ratio, for people: two figures are enough.
fn ratio(value: f64) -> String {
    if value < 0.1 { format!("{value:.3}") } else { format!("{value:.2}") }
}

fn detail(what: &str, ours: f64, theirs: f64) -> String {
    let ratio = if theirs > 0.0 { ratio(ours / theirs) } else { "-".into() };
    let (ours, theirs) = (Unit::Seconds.short(ours), Unit::Seconds.short(theirs));
    format!("{:<50} {what:<34} {ours:>10} {theirs:>10} {ratio:>7}\n", "")
}

impl Unit {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Seconds => "seconds",
            Self::Bytes => "bytes",
            Self::Number => "number",
        }
    }

    /// A number of these, for people.
    pub(crate) fn short(self, number: f64) -> String {
        match (self, number) {
            (Self::Number, n) if n.fract() == 0.0 => format!("{n}"),
            (Self::Number, n) => format!("{n:.2}"),
            (Self::Bytes, n) => format!("{:.1} KiB", n / 1024.0),
            (Self::Seconds, s) if s >= 1.0 => format!("{s:.2} s"),
            (Self::Seconds, s) if s >= 1e-3 => format!("{:.2} ms", s * 1e3),
            (Self::Seconds, s) => format!("{:.2} µs", s * 1e6),
        }
    }
}
