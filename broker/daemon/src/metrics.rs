//! Figures for Prometheus, and a health check: off unless `[metrics] listen` says where.
//!
//! ```text
//! GET /metrics ─► endpoint's thread ─asks─► the loop ─figures─► endpoint's thread ─► text
//! GET /healthz ─►        the same: a loop that does not answer is not well
//! ```
//!
//! A request that accepts `OpenMetrics` is answered in that format, as Prometheus asks; any other in the older text format, which
//! `promtool check metrics` and other collectors read. Labels whose values others choose, names of profiles and of providers, have
//! limits: what comes beyond stands together under `(others)`.
//!
//! What providers do is measured where they are called. Everything else the loop knows, and is asked for when somebody
//! looks: a broker that nobody watches spends nothing on it.

mod endpoint;
mod process;
mod text;

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::sync::atomic::AtomicU64;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::metrics::info::Info;
use prometheus_client::registry::{Registry, Unit};
use sundown_core::{DEPARTURES, Figures, MailboxFigures, TransportFigures};
use sundown_protocol::reply::SubmissionState;

pub use endpoint::Listen;
pub(crate) use endpoint::{Asking, serve};
pub(crate) use text::Format;

/// Under this name stand the providers that came when [`PROVIDERS`] were known. No provider has it.
const OTHERS: &str = "(others)";

/// The most names of providers with figures of their own.
const PROVIDERS: usize = 100;

/// How long the last use of a transport is told after its profile's last session.
const REMEMBERED: Duration = Duration::from_secs(24 * 3600);

/// Everything that is measured.
pub(crate) struct Metrics {
    registry: Registry,
    providers: Mutex<BTreeSet<String>>,
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
    requests: Counter,
    queue: Family<OfProfile, Gauge>,
    waiting: Gauge,
    oldest: Family<Profile, Gauge>,
    messages: Family<OfProfile, Counter>,
    deferrals: Family<Profile, Counter>,
    up: Family<Transport, Gauge>,
    last_use: Family<Transport, Time>,
    last_success: Family<Transport, Time>,
    in_flight: Family<Transport, Gauge>,
    mailbox_up: Family<Mailbox, Gauge>,
    mailbox_watching: Family<Mailbox, Gauge>,
    new_mail: Family<Profile, Counter>,
    mirrored: Family<Profile, Counter>,
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
struct Profile {
    profile: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct OfProfile {
    profile: String,
    state: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Transport {
    profile: String,
    transport: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Mailbox {
    profile: String,
    mailbox: String,
}

/// Seconds since 1970.
type Time = Gauge<f64, AtomicU64>;

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Limit {
    limit: String,
}

impl Metrics {
    /// Those of a broker that started then, with its data in this directory.
    pub(crate) fn new(started: u64, data: PathBuf) -> Arc<Self> {
        let mut all = Registry::default();
        all.register_collector(Box::new(process::Process { data }));
        let registry = all.sub_registry_with_prefix("sundown");
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
        let notifications = counter(registry, told, "Notifications sent to clients");
        let lagged = counter(registry, lost, "Notifications dropped: the client did not read");
        let what = "Clients disconnected because they did not read";
        let too_slow = counter(registry, "clients_too_slow", what);
        let seen = Seen::registered(registry);
        let providers = Mutex::default();
        Arc::new(Self {
            registry: all,
            providers,
            calls,
            seconds,
            notifications,
            lagged,
            too_slow,
            seen,
        })
    }

    /// A provider was called.
    pub(crate) fn called(
        &self,
        provider: &str,
        (kind, call): (&'static str, &'static str),
        result: &str,
        took: Duration,
    ) {
        let callee = Callee { provider: self.label(provider), kind, call };
        self.seconds.get_or_create(&callee).observe(took.as_secs_f64());
        let Callee { provider, kind, call } = callee;
        let answered = Answered { provider, kind, call, result: result.to_owned() };
        self.calls.get_or_create(&answered).inc();
    }

    /// Under which name a provider's calls stand.
    fn label(&self, provider: &str) -> String {
        let mut known = self.providers.lock().unwrap_or_else(PoisonError::into_inner);
        if !known.contains(provider) {
            if known.len() >= PROVIDERS {
                return OTHERS.to_owned();
            }
            known.insert(provider.to_owned());
        }
        provider.to_owned()
    }

    /// Everything as text.
    fn text(&self, figures: &Figures, format: Format) -> String {
        self.seen.copy(figures);
        let mut text = String::new();
        // Writing into a string cannot fail.
        let _ = prometheus_client::encoding::text::encode(&mut text, &self.registry);
        format.of(text)
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
        registry.register(
            "requests",
            "Requests of clients, refused ones too",
            seen.requests.clone(),
        );
        let what = "Messages in the queue by profile and state";
        registry.register("queue_messages", what, seen.queue.clone());
        let what = "Messages that wait for a member with mail, or for a session of their profile";
        registry.register("queue_waiting_for_mail_member", what, seen.waiting.clone());
        let what = "Age of the oldest message in the queue by profile, 0 when there is none";
        let oldest = seen.oldest.clone();
        registry.register_with_unit("queue_oldest_message_age", what, Unit::Seconds, oldest);
        let what = "Messages that became final, by profile and state";
        registry.register("messages", what, seen.messages.clone());
        let what = "How often messages were deferred, by profile";
        registry.register("deferrals", what, seen.deferrals.clone());
        let what = "Whether the last use of a transport worked, 1 or 0; absent until it was used";
        registry.register("transport_up", what, seen.up.clone());
        let what = "When a transport was last used, since 1970";
        let used = seen.last_use.clone();
        registry.register_with_unit("transport_last_use_timestamp", what, Unit::Seconds, used);
        let (name, what) =
            ("transport_last_success_timestamp", "When a transport last worked, since 1970");
        registry.register_with_unit(name, what, Unit::Seconds, seen.last_success.clone());
        let what = "Messages that a transport is handling";
        registry.register("transport_messages_in_flight", what, seen.in_flight.clone());
        let what = "Whether a mailbox of a session works, 1 or 0";
        registry.register("mailbox_up", what, seen.mailbox_up.clone());
        let what = "Whether a mailbox notices new mail now, 1 or 0";
        registry.register("mailbox_watching", what, seen.mailbox_watching.clone());
        let what = "Changes that mailboxes have written into stores, by profile";
        registry.register("mailbox_changes", what, seen.mirrored.clone());
        let what = "Messages of which programs were told as new mail, by profile";
        registry.register("new_mail", what, seen.new_mail.clone());
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
        catch_up(&self.requests, figures.requests);
        self.copy_profiles(figures);
        self.waiting.set(figures.waiting_for_mail_member as i64);
        for limit in &figures.limits {
            let label = Limit { limit: limit.name.clone() };
            self.limits.get_or_create(&label).set(limit.most as i64);
            if let Some(used) = limit.used {
                self.used.get_or_create(&label).set(used as i64);
            }
        }
    }
}

impl Seen {
    fn copy_profiles(&self, figures: &Figures) {
        // Transports and mailboxes come and go with profiles.
        for family in [&self.up, &self.in_flight] {
            family.clear();
        }
        for family in [&self.last_use, &self.last_success] {
            family.clear();
        }
        for family in [&self.mailbox_up, &self.mailbox_watching] {
            family.clear();
        }
        for (name, of) in &figures.profiles {
            let profile = Profile { profile: name.clone() };
            for (state, count) in SubmissionState::ALL.into_iter().zip(of.queue) {
                let label = OfProfile { profile: name.clone(), state: state.name() };
                if state.is_final() {
                    catch_up(&self.messages.get_or_create(&label), count);
                } else {
                    self.queue.get_or_create(&label).set(count as i64);
                }
            }
            catch_up(&self.deferrals.get_or_create(&profile), of.deferrals);
            let age = of.oldest.map_or(0, |oldest| since(oldest).as_secs() as i64);
            self.oldest.get_or_create(&profile).set(age);
            catch_up(&self.new_mail.get_or_create(&profile), of.new_mail);
            catch_up(&self.mirrored.get_or_create(&profile), of.mirrored);
            for (mailbox, of) in &of.mailboxes {
                let label = Mailbox { profile: name.clone(), mailbox: mailbox.clone() };
                self.copy_mailbox(&label, *of);
            }
            for (transport, of) in &of.transports {
                let label = Transport { profile: name.clone(), transport: transport.clone() };
                self.copy_transport(&label, of);
            }
        }
    }

    fn copy_mailbox(&self, label: &Mailbox, of: MailboxFigures) {
        self.mailbox_up.get_or_create(label).set(i64::from(of.works));
        self.mailbox_watching.get_or_create(label).set(i64::from(of.watching));
    }

    fn copy_transport(&self, label: &Transport, of: &TransportFigures) {
        let forgotten = of.used.is_none_or(|used| since(used) > REMEMBERED);
        if forgotten && !of.has_session {
            return;
        }
        if let Some(works) = of.works {
            self.up.get_or_create(label).set(i64::from(works));
        }
        for (family, at) in [(&self.last_use, of.used), (&self.last_success, of.worked)] {
            if let Some(at) = at {
                family.get_or_create(label).set(at as f64 / 1000.0);
            }
        }
        self.in_flight.get_or_create(label).set(of.in_flight as i64);
    }
}

/// Brings a counter to what was counted elsewhere.
fn catch_up(counter: &Counter, count: u64) {
    counter.inc_by(count.saturating_sub(counter.get()));
}

/// How long ago a time was, in milliseconds since 1970.
fn since(millis: u64) -> Duration {
    let then = SystemTime::UNIX_EPOCH + Duration::from_millis(millis);
    SystemTime::now().duration_since(then).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use sundown_core::ProfileFigures;

    use super::*;

    fn now() -> u64 {
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).expect("after 1970");
        now.as_millis() as u64
    }

    fn figures() -> Figures {
        let day = 24 * 3600 * 1000;
        let works = TransportFigures {
            works: Some(true),
            used: Some(1_795_309_231_500),
            worked: Some(1_795_309_231_500),
            has_session: true,
            in_flight: 2,
        };
        let fails = TransportFigures { works: Some(false), worked: None, ..works.clone() };
        let (unused, forgotten) = (
            TransportFigures { has_session: true, ..TransportFigures::default() },
            TransportFigures { used: Some(now() - 2 * day), has_session: false, ..fails.clone() },
        );
        let transports = [("a", works), ("b", fails), ("c", unused), ("d", forgotten)];
        let transports = transports.map(|(name, of)| (name.to_owned(), of)).into();
        let of = ProfileFigures {
            queue: [0, 0, 2, 0, 0, 1, 7, 0, 0],
            deferrals: 5,
            oldest: None,
            transports,
            mailboxes: [("inbox", true), ("other", false)]
                .map(|(name, works)| (name.to_owned(), MailboxFigures { works, watching: works }))
                .into(),
            new_mail: 4,
            mirrored: 9,
        };
        Figures {
            connections: 3,
            profiles: [("default".to_owned(), of)].into(),
            requests: 12,
            departures: [0, 0, 0, 4, 0],
            ..Figures::default()
        }
    }

    #[test]
    fn figures_become_lines() {
        let metrics = Metrics::new(1_795_309_231_214, "/".into());
        let took = Duration::from_millis(3);
        metrics.called("relay", ("transport", "EndMessage"), "S_OK", took);
        metrics.notifications.inc();
        metrics.text(&figures(), Format::Open);
        let text = metrics.text(&figures(), Format::Open);
        for line in [
            "sundown_connections 3",
            "sundown_requests_total 12",
            "sundown_queue_messages{profile=\"default\",state=\"queued\"} 2",
            "sundown_queue_messages{profile=\"default\",state=\"unknown\"} 1",
            "sundown_queue_messages{profile=\"default\",state=\"held\"} 0",
            "sundown_queue_oldest_message_age_seconds{profile=\"default\"} 0",
            "sundown_messages_total{profile=\"default\",state=\"sent\"} 7",
            "sundown_deferrals_total{profile=\"default\"} 5",
            "sundown_transport_up{profile=\"default\",transport=\"a\"} 1",
            "sundown_transport_up{profile=\"default\",transport=\"b\"} 0",
            "sundown_transport_last_success_timestamp_seconds{profile=\"default\",transport=\"a\"} 1795309231.5",
            "sundown_transport_messages_in_flight{profile=\"default\",transport=\"c\"} 0",
            "sundown_mailbox_up{profile=\"default\",mailbox=\"inbox\"} 1",
            "sundown_mailbox_up{profile=\"default\",mailbox=\"other\"} 0",
            "sundown_mailbox_watching{profile=\"default\",mailbox=\"inbox\"} 1",
            "sundown_mailbox_changes_total{profile=\"default\"} 9",
            "sundown_new_mail_total{profile=\"default\"} 4",
            "sundown_members_left_total{reason=\"evicted\"} 4",
            "sundown_notifications_total 1",
            "sundown_start_time_seconds 1795309231",
            "sundown_provider_calls_total{provider=\"relay\",kind=\"transport\",call=\"EndMessage\",result=\"S_OK\"} 1",
            "sundown_provider_call_seconds_count{provider=\"relay\",kind=\"transport\",call=\"EndMessage\"} 1",
        ] {
            assert!(text.lines().any(|l| l == line), "{line} is not in\n{text}");
        }
        for absent in [
            "up{profile=\"default\",transport=\"c\"}",
            "transport=\"d\"",
            "timestamp_seconds{profile=\"default\",transport=\"c\"}",
        ] {
            assert!(!text.contains(absent), "{absent} is in\n{text}");
        }
        assert!(text.ends_with("# EOF\n"));
        let mut without = figures();
        without.profiles.get_mut("default").expect("it is there").transports.clear();
        without.profiles.get_mut("default").expect("it is there").mailboxes.clear();
        let text = metrics.text(&without, Format::Open);
        assert!(!text.contains("transport_up{") && !text.contains("mailbox_up{"), "they have gone");
    }

    #[test]
    fn names_of_providers_have_a_limit() {
        let metrics = Metrics::new(0, "/".into());
        for n in 0..PROVIDERS + 5 {
            metrics.called(&format!("p{n}"), ("transport", "Logon"), "S_OK", Duration::ZERO);
        }
        let text = metrics.text(&Figures::default(), Format::Plain);
        let calls = |l: &&str| l.starts_with("sundown_provider_calls_total{");
        assert_eq!(text.lines().filter(calls).count(), PROVIDERS + 1);
        assert!(text.contains(
            "provider=\"(others)\",kind=\"transport\",call=\"Logon\",result=\"S_OK\"} 5\n"
        ));
    }

    #[test]
    fn departures_are_counted_in_their_order() {
        let places: Vec<_> = DEPARTURES.iter().map(|reason| *reason as usize).collect();
        assert_eq!(places, [0, 1, 2, 3, 4]);
    }
}
