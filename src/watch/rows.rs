//! What the views of `status --watch` list, a row for each thing.

use std::cmp::Reverse;

use sundown_client::{
    EntryId, MemberStatus, ProviderHealth, ProviderStatus, QueueRow, Resource, SessionStatus,
};

use crate::grid::{Column, column};
use crate::output::{ago, until};
use crate::queue;
use crate::safe;
use crate::status::{Said, last_use, of_provider, status_text};

/// What is listed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum View {
    Sessions,
    Queue,
    Transports,
}

impl View {
    pub(super) const ALL: [Self; 3] = [Self::Sessions, Self::Queue, Self::Transports];

    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Sessions => "sessions",
            Self::Queue => "queue",
            Self::Transports => "transports",
        }
    }

    /// The view so many places on.
    pub(super) fn on(self, by: usize) -> Self {
        Self::ALL[(self as usize + by) % Self::ALL.len()]
    }

    /// In which orders its rows can be.
    pub(super) fn orders(self) -> &'static [&'static str] {
        match self {
            Self::Sessions => &["number", "profile", "members"],
            Self::Queue => &["age", "next try", "state", "recipient"],
            Self::Transports => &["profile", "trouble", "last use"],
        }
    }

    pub(super) fn columns(self) -> &'static [Column] {
        const WHOLE: usize = usize::MAX;
        const SESSIONS: &[Column] = &[
            column("session", 12, 20),
            column("name", 8, 24),
            column("state", 8, 12),
            column("for", 4, 8),
            column("what", 10, WHOLE),
        ];
        const QUEUE: &[Column] = &[
            column("entry", 8, 12),
            column("state", 6, 12),
            column("age", 4, 6),
            column("next try", 4, 9),
            column("to", 10, 28),
            column("subject", 6, 24),
            column("last error", 10, WHOLE),
        ];
        const TRANSPORTS: &[Column] = &[
            column("profile", 6, 20),
            column("transport", 6, 20),
            column("state", 8, 12),
            column("sends", 3, 5),
            column("last use", 8, 18),
            column("worked", 4, 10),
            column("next try", 4, 9),
            column("why", 10, WHOLE),
        ];
        match self {
            Self::Sessions => SESSIONS,
            Self::Queue => QUEUE,
            Self::Transports => TRANSPORTS,
        }
    }

    /// The place of the column with a state, which has a colour.
    pub(super) fn state_column(self) -> usize {
        match self {
            Self::Sessions | Self::Transports => 2,
            Self::Queue => 1,
        }
    }
}

/// By what a row is found again when there is another status.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Place {
    Session(u64),
    Member(u64),
    Provider(u64, usize),
    Reference(u64, usize),
    Entry(EntryId),
}

/// How a row looks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Weight {
    Bold,
    Plain,
    Dim,
}

/// A row.
#[derive(Debug)]
pub(super) struct Row {
    pub(super) place: Place,
    pub(super) cells: Vec<String>,
    pub(super) weight: Weight,
    /// All of it, for the lines below the list.
    pub(super) detail: String,
    /// Of a message: which one.
    pub(super) message: Option<Message>,
}

/// A message that can be changed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Message {
    pub(super) entry: EntryId,
    pub(super) short: String,
    pub(super) profile: String,
}

/// The rows of a view, in one of its orders.
pub(super) fn rows(view: View, said: &Said, waiting: &[QueueRow], order: usize) -> Vec<Row> {
    let order = view.orders()[order];
    let mut rows = match view {
        View::Sessions => sessions(said, order),
        View::Queue => messages(waiting, order),
        View::Transports => transports(said, order),
    };
    for row in &mut rows {
        for cell in &mut row.cells {
            *cell = safe::line(cell);
        }
        row.detail = safe::line(&row.detail);
    }
    rows
}

fn sessions(said: &Said, order: &str) -> Vec<Row> {
    let mut sessions: Vec<_> = said.status.sessions.iter().collect();
    match order {
        "profile" => sessions.sort_by_key(|session| session.profile.clone()),
        "members" => sessions.sort_by_key(|session| Reverse(session.members.len())),
        _ => {}
    }
    sessions.into_iter().flat_map(|session| one_session(said, session)).collect()
}

fn one_session(said: &Said, session: &SessionStatus) -> Vec<Row> {
    let (id, health) = (session.id.0, said.of(session));
    let members = counted(session.members.len(), "member");
    let sharing = if session.shared { "shared" } else { "private" };
    let note = health.and_then(|health| health.profile.note.clone());
    let note = note.map_or(String::new(), |note| format!("; profile: {note}"));
    let what = format!("{sharing}, {members}{note}");
    let read = health.map(|health| match health.profile.changed {
        Some(changed) => format!("; its profile was written {} ago", ago(changed)),
        None => "; its profile has no file".to_owned(),
    });
    let mut rows = vec![Row {
        place: Place::Session(id),
        cells: vec![
            format!("session {id}"),
            session.profile.clone(),
            session.state.clone(),
            String::new(),
            what.clone(),
        ],
        weight: Weight::Bold,
        detail: format!(
            "session {id} of profile {}: {}, {what}{}",
            session.profile,
            session.state,
            read.unwrap_or_default()
        ),
        message: None,
    }];
    let providers = session.providers.iter().enumerate();
    rows.extend(providers.map(|(n, p)| provider(id, n, p, of_provider(health, p))));
    rows.extend(session.members.iter().map(member));
    rows.extend(session.references.iter().enumerate().map(|(n, reference)| {
        let (holder, granter) = (&reference.holder, reference.granter.0);
        let what = format!("pid {}, an object of member {granter}", holder.pid);
        Row {
            place: Place::Reference(id, n),
            cells: vec![
                "  holder".into(),
                holder.program.clone(),
                "holds".into(),
                String::new(),
                what.clone(),
            ],
            weight: Weight::Plain,
            detail: format!("{} ({what})", holder.program),
            message: None,
        }
    }));
    rows
}

fn provider(session: u64, n: usize, p: &ProviderStatus, health: Option<&ProviderHealth>) -> Row {
    let (state, why) = state_and_why(p, health);
    let used = health.and_then(|health| health.last.as_ref());
    let of_transport = health.filter(|_| p.kind == Resource::TransportProvider);
    let mut what: Vec<String> = Vec::new();
    let flying = of_transport.map_or(0, |health| health.in_flight);
    what.extend((flying > 0).then(|| format!("sends {flying}")));
    what.extend(of_transport.map(last_use));
    what.extend(next_try(health).map(|next| format!("next try in {next}")));
    what.extend(why);
    Row {
        place: Place::Provider(session, n),
        cells: vec![
            format!("  {}", p.kind.name()),
            p.name.clone(),
            state,
            used.map(|last| ago(last.at)).unwrap_or_default(),
            what.join(", "),
        ],
        weight: if works_for_mail(p.kind) { Weight::Plain } else { Weight::Dim },
        detail: format!(
            "{} {}: {}; fast shutdown {}",
            p.kind.name(),
            p.name,
            status_text(p, health),
            p.fast_shutdown
        ),
        message: None,
    }
}

/// Whether a provider brings mail out or in. It can fail while the session works.
fn works_for_mail(kind: Resource) -> bool {
    matches!(kind, Resource::TransportProvider | Resource::Mailbox)
}

/// A provider's state in a word, and why it is in that state.
fn state_and_why(p: &ProviderStatus, health: Option<&ProviderHealth>) -> (String, Option<String>) {
    if let Some((word, why)) = p.status.split_once(": ") {
        return (word.to_owned(), Some(why.to_owned()));
    }
    let last = health.and_then(|health| health.last.as_ref()).filter(|last| !last.worked);
    (p.status.clone(), last.filter(|_| p.status == "unreachable").map(|last| last.text.clone()))
}

fn next_try(health: Option<&ProviderHealth>) -> Option<String> {
    health.and_then(|health| health.next_try).map(until)
}

fn member(member: &MemberStatus) -> Row {
    let mail = if member.no_mail { "no mail" } else { "mail" };
    let objects = counted(member.objects as usize, "object");
    let what = format!("pid {}, {mail}, {objects}", member.peer.pid);
    Row {
        place: Place::Member(member.id.0),
        cells: vec![
            format!("  member {}", member.id.0),
            member.peer.program.clone(),
            member.state.clone(),
            ago(member.since),
            what.clone(),
        ],
        weight: Weight::Plain,
        detail: format!(
            "member {}: {} ({what}, user {}), {} for {}",
            member.id.0,
            member.peer.program,
            member.uid,
            member.state,
            ago(member.since)
        ),
        message: None,
    }
}

fn messages(waiting: &[QueueRow], order: &str) -> Vec<Row> {
    let mut waiting: Vec<_> = waiting.iter().zip(queue::short(waiting)).collect();
    match order {
        "next try" => waiting.sort_by_key(|(row, _)| row.next_attempt.unwrap_or(u64::MAX)),
        "state" => waiting.sort_by_key(|(row, _)| row.state.name()),
        "recipient" => waiting.sort_by_key(|(row, _)| queue::to(row)),
        _ => waiting.sort_by_key(|(row, _)| row.submitted),
    }
    waiting.into_iter().map(|(row, short)| message(row, short)).collect()
}

fn message(row: &QueueRow, short: String) -> Row {
    let error = row.last_error.clone();
    let next = row.next_attempt.map(until);
    let cells = vec![
        short.clone(),
        row.state.name().into(),
        ago(row.submitted),
        next.clone().unwrap_or_default(),
        queue::to(row),
        row.subject.clone(),
        error.clone().unwrap_or_default(),
    ];
    let mut detail =
        format!("{short} from <{}> to {}: {}", row.from, queue::to(row), row.state.name());
    detail += &match row.attempts {
        0 => String::new(),
        1 => ", tried once".to_owned(),
        n => format!(", tried {n} times"),
    };
    detail += &next.map_or(String::new(), |next| format!(", next in {next}"));
    detail += &format!("; profile {}; {:?}", row.profile, row.subject);
    detail += &error.map_or(String::new(), |error| format!("; {error}"));
    Row {
        place: Place::Entry(row.entry),
        cells,
        weight: Weight::Plain,
        detail,
        message: Some(Message { entry: row.entry, short, profile: row.profile.clone() }),
    }
}

fn transports(said: &Said, order: &str) -> Vec<Row> {
    let mut found: Vec<(bool, u64, String, Row)> = Vec::new();
    for session in &said.status.sessions {
        let health = said.of(session);
        let all = session.providers.iter().enumerate();
        for (n, p) in all.filter(|(_, p)| p.kind == Resource::TransportProvider) {
            let of = of_provider(health, p);
            let (state, why) = state_and_why(p, of);
            let last = of.and_then(|of| of.last.as_ref());
            let worked = of.and_then(|of| of.worked);
            let flying = of.map_or(0, |of| of.in_flight);
            let cells = vec![
                session.profile.clone(),
                p.name.clone(),
                state.clone(),
                if flying > 0 { flying.to_string() } else { String::new() },
                of.map(last_use).unwrap_or_default(),
                worked.map(ago).unwrap_or_default(),
                next_try(of).unwrap_or_default(),
                why.unwrap_or_default(),
            ];
            let row = provider(session.id.0, n, p, of);
            let works = state == "available";
            let used = last.map_or(0, |last| last.at);
            found.push((works, used, session.profile.clone(), Row { cells, ..row }));
        }
    }
    match order {
        "trouble" => found.sort_by_key(|(works, ..)| *works),
        "last use" => found.sort_by_key(|(_, used, ..)| Reverse(*used)),
        _ => found.sort_by(|one, other| one.2.cmp(&other.2)),
    }
    found.into_iter().map(|(.., row)| row).collect()
}

/// So many of them.
pub(super) fn counted(count: usize, what: &str) -> String {
    if count == 1 { format!("1 {what}") } else { format!("{count} {what}s") }
}
