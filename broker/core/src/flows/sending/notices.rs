//! Delivery status notifications: what a sender is told, and where a notification goes besides the Inbox.
//!
//! ```text
//!  results ─► what became of recipients ─► the update has a notification ─► Inbox
//!                                            ├─ `forward`: a copy in the queue, with no sender, in the same commit
//!                                            └─ `command`: its text comes back, and a program gets it
//! ```
//!
//! A forwarded notification has no sender. So none is made about it, and none is forwarded again. Its failure is in the log.

use sundown_protocol::EntryId;
use sundown_protocol::reply::SubmissionState;
use sundown_protocol::request::{Folder, Notify, Report, Route};

use crate::broker::Broker;
use crate::flows::working::advise::StoreNews;
use crate::ground::event::{Effect, EngineId, Returned, Turn};
use crate::ground::local::{Expanded, Found};
use crate::ground::provider::{Action, Dsn, Onward, Recipient, StoredDsn, Submission};
use crate::ground::settings::{Forward, Profile};
use crate::queue::pace::Pace;

impl Broker {
    /// The notification about what became of recipients; `None` if the sender wants none. There is none about a message without a
    /// sender.
    pub(crate) fn notice(
        &mut self,
        (id, record): (EngineId, u128),
        news: &[(usize, Action)],
        turn: &mut Turn,
    ) -> Option<Box<Dsn>> {
        if news.is_empty() {
            return None;
        }
        let engine = &self.queues.engines[&id];
        let submission = &engine.entries[&record].submission;
        let is_wanted = |(_, action): &&(usize, Action)| action.is_wanted(submission.report);
        let told: Vec<_> = news.iter().filter(is_wanted).copied().collect();
        if told.is_empty() || submission.from.is_empty() {
            return None;
        }
        let (profile, uid) = (submission.profile.clone(), submission.uid);
        let born = engine.ran(turn.tick.boot);
        let onward = self.onward(&profile, (uid, born), turn);
        Some(Box::new(Dsn { record: turn.record(), told, onward }))
    }

    /// What happens to a notification about a message of a user, at this time of its store's clock.
    fn onward(&mut self, name: &str, of: (u32, u64), turn: &mut Turn) -> Onward {
        let known = self.sessions.all.of_profile(name).find_map(|s| s.profile.as_ref());
        let Some(profile) = known.filter(|p| p.forward != Forward::No) else {
            return Onward::Nowhere;
        };
        let pace = self.queues.paces.entry(name.to_owned()).or_default().next(turn.tick.boot);
        match (&profile.forward, pace) {
            (Forward::No, _) | (_, Pace::TooMany) | (Forward::Command(_), Pace::FirstTooMany) => {
                Onward::Nowhere
            }
            (Forward::Command(_), Pace::Goes) => Onward::Text,
            (Forward::To(address), Pace::Goes) => {
                Onward::Copy(Box::new(forwarded(profile, address, of, turn)))
            }
            (Forward::To(address), Pace::FirstTooMany) => {
                Onward::More(Box::new(forwarded(profile, address, of, turn)))
            }
        }
    }

    /// Sends a stored notification on.
    pub(crate) fn sent_on(
        &mut self,
        (id, record): (EngineId, u128),
        notice: StoredDsn,
        turn: &mut Turn,
    ) {
        // What was stored by an update whose answer was lost may have been read, and sent, since then.
        if let Some(forwarded) = notice.forwarded.filter(|f| !f.state().is_final()) {
            let news = StoreNews::Created(Folder::OUTBOX);
            self.store_news(id, (forwarded.record, Some(forwarded.uid)), &news, turn);
            self.enqueue(id, *forwarded, turn);
        }
        let Some(text) = notice.text else { return };
        let entry = self.queues.engines.get(&id).and_then(|e| e.entries.get(&record));
        let Some(name) = entry.map(|entry| &entry.submission.profile) else { return };
        let profile = self.sessions.all.of_profile(name).find_map(|s| s.profile.as_ref());
        let Some(profile) = profile else { return };
        if let Forward::Command(command) = &profile.forward {
            let (profile, command) = (profile.name.clone(), command.clone());
            turn.emit(Effect::RunForNotice { profile, command, text });
        }
    }

    /// Logs the recipients that failed for good.
    pub(crate) fn log_failures(
        &mut self,
        (id, record): (EngineId, u128),
        news: &[(usize, Action)],
        turn: &mut Turn,
    ) {
        let mut failed = news.iter().filter(|(_, action)| *action == Action::Failed);
        let Some((first, _)) = failed.next() else { return };
        let store = self.store_uid(id);
        let entry = self.queues.engines.get(&id).and_then(|e| e.entries.get(&record));
        let Some(submission) = entry.map(|entry| &entry.submission) else { return };
        let reply = submission.recipients.get(*first).and_then(|r| r.reply.clone());
        turn.emit(Effect::CameBack {
            entry: EntryId { store, record },
            profile: submission.profile.clone(),
            recipients: 1 + failed.count(),
            why: reply.unwrap_or_default(),
            what: if submission.from.is_empty() {
                Returned::Notification
            } else {
                Returned::Message
            },
        });
    }
}

/// A submission that forwards a notification. The store fills in what it is about.
fn forwarded(
    profile: &Profile,
    address: &str,
    (uid, born): (u32, u64),
    turn: &mut Turn,
) -> Submission {
    let author = profile.identity.as_str();
    let takes = |address: &str| profile.transport_for(address, author, None).is_some();
    let expanded = profile.local.expand(vec![address.to_owned()], takes, &Found::new());
    // An address that no alias and no transport makes sense of fails as any other does, which is logged. Whether a name is a user's is not
    // asked: the profile says it.
    let expanded = match expanded {
        Ok(Expanded::To(addresses)) => addresses,
        Ok(Expanded::Ask(_)) | Err(_) => vec![address.to_owned()],
    };
    // It has no sender. Where transports are for some senders only, it goes by that of the profile's user.
    let chosen = profile.transports.iter().any(|transport| !transport.senders.is_empty());
    let route = chosen.then(|| Box::new(Route { author: Some(author.to_owned()), account: None }));
    let queued =
        |address| Recipient { address, state: SubmissionState::Queued, intent: None, reply: None };
    let now = turn.tick.millis();
    Submission {
        record: turn.record(),
        profile: profile.name.clone(),
        uid,
        from: String::new(),
        recipients: expanded.into_iter().map(queued).collect(),
        subject: String::new(),
        size: 0,
        order: 0,
        no_mail: false,
        attempts: 0,
        due: now,
        submitted: now,
        last_error: None,
        report: Report { notify: Notify::NEVER, ..Report::default() },
        route,
        born: Some(born),
        delay_told: false,
    }
}
