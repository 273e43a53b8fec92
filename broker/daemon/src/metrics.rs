//! Figures for Prometheus, and a health check: off unless `[metrics] listen` says where.
//!
//! ```text
//! GET /metrics ─► endpoint's thread ─asks─► the loop ─figures─► endpoint's thread ─► text
//! GET /healthz ─►        the same: a loop that does not answer is not well
//! ```
//!
//! What providers do is measured where they are called. Everything else the loop knows, and is asked for when somebody
//! looks: a broker that nobody watches spends nothing on it.

mod endpoint;

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::metrics::info::Info;
use prometheus_client::registry::{Registry, Unit};
use sundown_core::{DEPARTURES, Figures};
use sundown_protocol::reply::SubmissionState;

pub use endpoint::Listen;
pub(crate) use endpoint::{Asking, serve};

/// Everything that is measured.
pub(crate) struct Metrics {
    registry: Registry,
    calls: Family<Answered, Counter>,
    seconds: Family<Callee, Histogram, fn() -> Histogram>,
    /// Notifications on their way to a client.
    pub(crate) notifications: Counter,
    /// Notifications that were dropped because a client does not read.
    pub(crate) lagged: Counter,
    /// Clients that were disconnected because they did not read.
    pub(crate) too_slow: Counter,
    seen: Seen,
}

/// What is copied from the loop's figures.
#[derive(Default)]
struct Seen {
    connections: Gauge,
    processes: Gauge,
    sessions: Family<State, Gauge>,
    members: Family<State, Gauge>,
    departures: Family<Reason, Counter>,
    queue: Family<State, Gauge>,
    waiting: Gauge,
    oldest: Gauge,
    messages: Family<Outcome, Counter>,
    limits: Family<Limit, Gauge>,
    used: Family<Limit, Gauge>,
}

/// Which provider was called for what.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Callee {
    provider: String,
    kind: &'static str,
    call: &'static str,
}

/// The same, and how it went.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Answered {
    provider: String,
    kind: &'static str,
    call: &'static str,
    result: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct State {
    state: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Reason {
    reason: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Outcome {
    outcome: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Limit {
    limit: String,
}

impl Metrics {
    pub(crate) fn new(started: u64) -> Arc<Self> {
        let mut registry = Registry::with_prefix("sundown");
        let build = Info::new(vec![("version", env!("CARGO_PKG_VERSION"))]);
        registry.register("build", "The version of the broker", build);
        let start: Gauge = Gauge::default();
        start.set((started / 1000) as i64);
        registry.register_with_unit("start_time", "When it started", Unit::Seconds, start);
        let calls = Family::<Answered, Counter>::default();
        registry.register("provider_calls", "Calls of providers, by result", calls.clone());
        let seconds = Family::new_with_constructor(histogram as fn() -> Histogram);
        let what = "How long calls of providers took";
        registry.register_with_unit("provider_call", what, Unit::Seconds, seconds.clone());
        let counter = |registry: &mut Registry, name: &str, what: &str| {
            let counter: Counter = Counter::default();
            registry.register(name, what, counter.clone());
            counter
        };
        let (told, lost) = ("notifications", "notifications_lagged");
        let notifications = counter(&mut registry, told, "Notifications sent to clients");
        let lagged = counter(&mut registry, lost, "Notifications dropped: the client did not read");
        let what = "Clients disconnected because they did not read";
        let too_slow = counter(&mut registry, "clients_too_slow", what);
        let seen = Seen::registered(&mut registry);
        Arc::new(Self { registry, calls, seconds, notifications, lagged, too_slow, seen })
    }

    /// A provider was called.
    pub(crate) fn called(
        &self,
        provider: &str,
        (kind, call): (&'static str, &'static str),
        result: &str,
        took: Duration,
    ) {
        let callee = Callee { provider: provider.to_owned(), kind, call };
        self.seconds.get_or_create(&callee).observe(took.as_secs_f64());
        let Callee { provider, kind, call } = callee;
        let answered = Answered { provider, kind, call, result: result.to_owned() };
        self.calls.get_or_create(&answered).inc();
    }

    /// Everything as text, in the `OpenMetrics` format.
    fn text(&self, figures: &Figures) -> String {
        self.seen.copy(figures);
        let mut text = String::new();
        // Writing into a string cannot fail.
        let _ = prometheus_client::encoding::text::encode(&mut text, &self.registry);
        text
    }
}

/// From a tenth of a millisecond to some hundred seconds.
fn histogram() -> Histogram {
    Histogram::new(std::iter::successors(Some(0.000_1), |bound| Some(bound * 4.0)).take(11))
}

impl Seen {
    fn registered(registry: &mut Registry) -> Self {
        let seen = Self::default();
        registry.register("connections", "Open connections", seen.connections.clone());
        registry.register("processes", "Processes that are known", seen.processes.clone());
        registry.register("sessions", "Sessions by state", seen.sessions.clone());
        registry.register("members", "Members of sessions by state", seen.members.clone());
        registry.register("members_left", "Members that left, by reason", seen.departures.clone());
        registry.register("queue", "Messages in the queue by state", seen.queue.clone());
        let what = "Messages that wait for a member with mail, or for a session of their profile";
        registry.register("queue_waiting_for_mail_member", what, seen.waiting.clone());
        let what = "Age of the oldest message in the queue, 0 when there is none";
        registry.register_with_unit("queue_oldest", what, Unit::Seconds, seen.oldest.clone());
        let what = "Messages that became final, by outcome";
        registry.register("messages", what, seen.messages.clone());
        registry.register("limit", "Limits of the settings", seen.limits.clone());
        let what = "How much of a limit the one uses who uses most of it";
        registry.register("limit_used", what, seen.used.clone());
        seen
    }

    fn copy(&self, figures: &Figures) {
        self.connections.set(figures.connections as i64);
        self.processes.set(figures.processes as i64);
        for (family, counts) in
            [(&self.sessions, &figures.sessions), (&self.members, &figures.members)]
        {
            for (state, count) in counts {
                family.get_or_create(&State { state }).set(*count as i64);
            }
        }
        for (reason, count) in DEPARTURES.into_iter().zip(figures.departures) {
            let reason = Reason { reason: reason.name() };
            catch_up(&self.departures.get_or_create(&reason), count);
        }
        for (state, count) in SubmissionState::ALL.into_iter().zip(figures.queue) {
            let name = state.name();
            if state.is_final() {
                catch_up(&self.messages.get_or_create(&Outcome { outcome: name }), count);
            } else {
                self.queue.get_or_create(&State { state: name }).set(count as i64);
            }
        }
        self.waiting.set(figures.waiting_for_mail_member as i64);
        self.oldest.set(figures.oldest.map_or(0, seconds_since));
        for limit in &figures.limits {
            let label = Limit { limit: limit.name.clone() };
            self.limits.get_or_create(&label).set(limit.most as i64);
            if let Some(used) = limit.used {
                self.used.get_or_create(&label).set(used as i64);
            }
        }
    }
}

/// Brings a counter to what was counted elsewhere.
fn catch_up(counter: &Counter, count: u64) {
    counter.inc_by(count.saturating_sub(counter.get()));
}

fn seconds_since(millis: u64) -> i64 {
    let then = SystemTime::UNIX_EPOCH + Duration::from_millis(millis);
    SystemTime::now().duration_since(then).unwrap_or_default().as_secs() as i64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_become_lines() {
        let metrics = Metrics::new(1_795_309_231_214);
        let took = Duration::from_millis(3);
        metrics.called("relay", ("transport", "EndMessage"), "S_OK", took);
        metrics.notifications.inc();
        let figures = Figures {
            connections: 3,
            queue: [0, 0, 2, 0, 0, 1, 7, 0, 0],
            departures: [0, 0, 0, 4, 0],
            ..Figures::default()
        };
        metrics.text(&figures);
        let text = metrics.text(&figures);
        for line in [
            "sundown_connections 3",
            "sundown_queue{state=\"queued\"} 2",
            "sundown_queue{state=\"unknown\"} 1",
            "sundown_queue_oldest_seconds 0",
            "sundown_messages_total{outcome=\"sent\"} 7",
            "sundown_members_left_total{reason=\"evicted\"} 4",
            "sundown_notifications_total 1",
            "sundown_start_time_seconds 1795309231",
            "sundown_provider_calls_total{provider=\"relay\",kind=\"transport\",call=\"EndMessage\",result=\"S_OK\"} 1",
            "sundown_provider_call_seconds_count{provider=\"relay\",kind=\"transport\",call=\"EndMessage\"} 1",
        ] {
            assert!(text.lines().any(|l| l == line), "{line} is not in\n{text}");
        }
        assert!(text.ends_with("# EOF\n"));
    }

    #[test]
    fn departures_are_counted_in_their_order() {
        let places: Vec<_> = DEPARTURES.iter().map(|reason| *reason as usize).collect();
        assert_eq!(places, [0, 1, 2, 3, 4]);
    }
}
