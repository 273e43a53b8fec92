//! Things that are timed beside each other, in turns, and what the times say.
//!
//! A machine is faster in one minute than in the next. So every round times each side once, one after the other, and what
//! counts is the ratio within a round: its median, and between which values the middle half of the rounds lie.

use std::time::Duration;

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
    pub(crate) name: &'static str,
    pub(crate) ours: Side<'a>,
    pub(crate) others: Vec<(Side<'a>, Goal)>,
}

/// A line of the table.
pub(crate) struct Line {
    measure: &'static str,
    other: &'static str,
    ours: Cost,
    theirs: Cost,
    /// Ours to theirs in each round, sorted.
    ratios: Vec<f64>,
    goal: Goal,
}

impl Measure<'_> {
    /// Times every side in every round. The first round is not counted: caches are cold.
    pub(crate) fn run(mut self, rounds: usize) -> Vec<Line> {
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
        let lines = self.others.iter().zip(&theirs).map(|((side, goal), theirs)| {
            let pairs = ours.iter().zip(theirs);
            let mut ratios: Vec<_> = pairs.map(|(ours, theirs)| ours.each / theirs.each).collect();
            ratios.sort_by(f64::total_cmp);
            Line {
                measure: self.name,
                other: side.name,
                ours: middle(&ours),
                theirs: middle(theirs),
                ratios,
                goal: *goal,
            }
        });
        lines.collect()
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

impl Line {
    fn ratio(&self, part: f64) -> f64 {
        self.ratios[((self.ratios.len() - 1) as f64 * part).round() as usize]
    }

    /// Whether the goal is met; `None` without one.
    pub(crate) fn is_met(&self) -> Option<bool> {
        match self.goal {
            Goal::AtMost(most) => Some(self.ratio(0.5) <= most),
            Goal::Times(times) => Some(1.0 / self.ratio(0.5) >= times),
            Goal::None => None,
        }
    }

    pub(crate) fn heading() -> String {
        format!(
            "{:<42} {:<30} {:>10} {:>10} {:>7} {:>13}  goal\n",
            "measure", "beside", "sundown", "other", "ratio", "middle half"
        )
    }

    pub(crate) fn text(&self) -> String {
        let goal = match self.goal {
            Goal::AtMost(most) => format!("≤ {most} ×"),
            Goal::Times(times) => format!("≥ {times} × as many"),
            Goal::None => String::new(),
        };
        let met = match self.is_met() {
            Some(true) => "  met",
            Some(false) => "  NOT MET",
            None => "",
        };
        let spread = format!("{:.2} to {:.2}", self.ratio(0.25), self.ratio(0.75));
        let mut text = format!(
            "{:<42} {:<30} {:>10} {:>10} {:>7.2} {spread:>13}  {goal}{met}\n",
            self.measure,
            self.other,
            short(self.ours.each),
            short(self.theirs.each),
            self.ratio(0.5),
        );
        if let (Some(ours), Some(theirs)) = (self.ours.p99, self.theirs.p99) {
            text += &detail("slowest hundredth", ours, theirs);
        }
        if let (Some(ours), Some(theirs)) = (self.ours.processor, self.theirs.processor) {
            text += &detail("processor time of the server", ours, theirs);
        }
        text
    }

    pub(crate) fn value(&self) -> Value {
        let goal = match self.goal {
            Goal::AtMost(most) => json!({ "at_most": most }),
            Goal::Times(times) => json!({ "times_as_many": times }),
            Goal::None => Value::Null,
        };
        let cost = |cost: &Cost| json!({ "seconds": cost.each, "p99_seconds": cost.p99, "processor_seconds": cost.processor });
        json!({
            "measure": self.measure,
            "beside": self.other,
            "sundown": cost(&self.ours),
            "other": cost(&self.theirs),
            "ratio": { "median": self.ratio(0.5), "quarter": self.ratio(0.25), "three_quarters": self.ratio(0.75) },
            "goal": goal,
            "met": self.is_met(),
        })
    }
}

fn detail(what: &str, ours: f64, theirs: f64) -> String {
    let ratio = if theirs > 0.0 { format!("{:.2}", ours / theirs) } else { "-".into() };
    let (ours, theirs) = (short(ours), short(theirs));
    format!("{:<42} {what:<30} {ours:>10} {theirs:>10} {ratio:>7}\n", "")
}

/// A time, for people.
fn short(seconds: f64) -> String {
    match seconds {
        s if s >= 1.0 => format!("{s:.2} s"),
        s if s >= 1e-3 => format!("{:.2} ms", s * 1e3),
        s => format!("{:.2} µs", s * 1e6),
    }
}
