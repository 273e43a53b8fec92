//! How a store is used, and what only stores owe.

use std::io::Read;
use std::sync::Arc;

use sundown_core::provider::{
    Known, MessageContent, ProviderAnswer, ProviderError, Recipient, StoreRead, StoreWrite,
    Submission, SubmissionState, SubmissionUpdate,
};
use sundown_protocol::Code;
use sundown_protocol::folder::Flags;
use sundown_protocol::request::{Folder, Report, SettingChange};

use crate::{LeavingProcess, ProviderShutdown, Result, StoreProvider, StoreReader, Sync};

use super::runner::{Check, Steps, Verdict, broken};
use super::shutdown::{self, Failure, Subject, Used};
use super::{
    EACH_WRITE, LAST_SESSION_CLOSES, LOGON_AGAIN, NEIGHBOURS_UNAFFECTED, WORKS, fits, now, unique,
};

type Make = Arc<dyn Fn() -> Result<Box<dyn StoreProvider>> + Send + std::marker::Sync>;

/// The section in which the kit keeps settings.
const SECTION: &str = "conformance";

/// A message with a whole head: a store may complete one that is not.
const TEXT: &str = "Date: Sat, 28 Nov 2026 12:00:00 +0000\nFrom: Anna <anna@localhost>\nTo: bob@localhost\n\
                    Message-ID: <kit@localhost>\nSubject: x\n\nThe body.\n";

/// A store, and what was committed to it.
pub(super) struct Store {
    make: Make,
    made: Option<Box<dyn StoreProvider>>,
    messages: Vec<Message>,
    /// The last setting: its name and value.
    setting: Option<(String, String)>,
}

/// A message that a store must have.
struct Message {
    record: u128,
    bytes: Vec<u8>,
    is_queued: bool,
}

/// A constructor of subjects.
pub(super) fn subjects(
    make: impl Fn() -> Result<Box<dyn StoreProvider>> + Send + std::marker::Sync + 'static,
) -> impl Fn() -> Store {
    let make: Make = Arc::new(make);
    move || Store { make: Arc::clone(&make), made: None, messages: Vec::new(), setting: None }
}

/// Those of shutdowns, and a store's own.
pub(super) fn checks() -> Vec<Check<Store>> {
    let mut checks = shutdown::checks();
    checks.extend([
        Check { name: "each write is answered", run: each_write_is_answered },
        Check { name: "each call has its answer", run: each_call_has_its_answer },
        Check { name: "sessions share a store", run: sessions_share_a_store },
        Check { name: "a reader outlives a do", run: a_reader_outlives_a_do },
        Check { name: "a logon that failed can be repeated", run: a_failed_logon_is_repeated },
    ]);
    checks
}

/// An answer that was expected, or words about it.
fn told<T>(what: &str, answer: Result<T>) -> Used<T> {
    answer.map_err(|error| Failure::of(what, &error))
}

fn closed() -> ProviderError {
    ProviderError::new(Code::E_NOT_INITIALIZED, "the kit has no object of the store")
}

fn submission(record: u128) -> Submission {
    let recipient = Recipient {
        address: "bob@localhost".into(),
        state: SubmissionState::Queued,
        intent: None,
        reply: None,
    };
    Submission {
        record,
        profile: SECTION.into(),
        uid: 1000,
        from: "anna@localhost".into(),
        recipients: vec![recipient],
        subject: String::new(),
        size: 0,
        order: 0,
        no_mail: false,
        attempts: 0,
        due: now(),
        submitted: now(),
        last_error: None,
        report: Report::default(),
        route: None,
        born: None,
        delay_told: false,
    }
}

fn submit(record: u128, content: MessageContent, deferred: bool) -> StoreWrite {
    StoreWrite::Submit { submission: Box::new(submission(record)), content, deferred }
}

fn save(record: u128, content: MessageContent) -> StoreWrite {
    let (folder, flags) = (Folder::DRAFTS, Flags::default());
    StoreWrite::Save { record, folder, content, flags, recovered: false, now: now() }
}

impl Store {
    fn object(&mut self) -> Result<&mut Box<dyn StoreProvider>> {
        if self.made.is_none() {
            self.made = Some((self.make)()?);
        }
        self.made.as_mut().ok_or_else(closed)
    }

    /// Commits a batch of which everything must succeed.
    fn commit(&mut self, batch: Vec<StoreWrite>, sync: Sync) -> Used {
        let count = batch.len();
        let answers = told("a new object", self.object())?.commit(batch, sync);
        if answers.len() != count {
            return Err(format!("{count} writes have {} answers", answers.len()).into());
        }
        answers.into_iter().try_for_each(|answer| told("a write", answer).map(drop))
    }

    fn message(&mut self, is_queued: bool) -> (u128, Vec<u8>) {
        let record = unique();
        // A whole head: a store may complete one that is not.
        let head =
            "Date: Sat, 28 Nov 2026 12:00:00 +0000\nFrom: Anna <anna@localhost>\nTo: bob@localhost";
        let text = format!("{head}\nMessage-ID: <{record:x}@localhost>\nSubject: x\n\nThe body.\n");
        let bytes = text.into_bytes();
        self.messages.push(Message { record, bytes: bytes.clone(), is_queued });
        (record, bytes)
    }

    fn reader(&mut self) -> Used<Box<dyn StoreReader>> {
        let store = self.made.as_ref().ok_or_else(|| closed().to_string())?;
        told("a reader", store.reader())
    }

    fn is_readable(&self, reader: &mut dyn StoreReader) -> Used {
        for message in &self.messages {
            message.is_in(reader)?;
        }
        let Some((name, value)) = self.setting.clone() else { return Ok(()) };
        let question = StoreRead::Setting { section: SECTION.into(), name };
        match told("reading a setting", reader.read(&question))? {
            ProviderAnswer::Setting(Some(found)) if found == value => Ok(()),
            other => Err(format!("a setting that was made is not there: {other:?}").into()),
        }
    }
}

impl Message {
    fn is_in(&self, reader: &mut dyn StoreReader) -> Used {
        let record = self.record;
        let found = told("finding a message", reader.read(&StoreRead::Find { record }))?;
        if !matches!(found, ProviderAnswer::Found { .. }) {
            return Err(format!("a message that was committed is not found: {found:?}").into());
        }
        let mut bytes = Vec::new();
        let mut body = told("opening a message", reader.open(record))?;
        body.read_to_end(&mut bytes)
            .map_err(|error| format!("a message cannot be read: {error}"))?;
        drop(body);
        if bytes != self.bytes {
            return Err("a message is not as it was handed over".into());
        }
        if self.is_queued {
            let asked = told("the queue", reader.read(&StoreRead::Submission { record }))?;
            let in_queue = matches!(&asked, ProviderAnswer::Queue { rows, .. }
                if rows.iter().any(|row| row.record == record));
            if !in_queue {
                return Err("a message that was submitted is not in the queue".into());
            }
        }
        Ok(())
    }
}

impl Subject for Store {
    fn renew(&mut self) -> Result<()> {
        self.made = None;
        self.object().map(drop)
    }

    fn logon(&mut self) -> Result<()> {
        self.object()?.logon().map(drop)
    }

    fn logoff(&mut self) -> Result<()> {
        self.object()?.logoff()
    }

    fn interface(&mut self) -> Option<&mut dyn ProviderShutdown> {
        self.made.as_mut()?.shutdown()
    }

    fn has_nothing_to_save(&self) -> bool {
        false
    }

    fn work(&mut self) -> Used {
        let known = self.messages.len();
        let setting = self.setting.clone();
        let (queued, text) = self.message(true);
        let (draft, saved) = self.message(false);
        let (name, value) = (format!("{queued:x}"), format!("{draft:x}"));
        self.setting = Some((name.clone(), value.clone()));
        let (section, change) = (SECTION.to_owned(), SettingChange::Set(value));
        let batch = vec![
            submit(queued, MessageContent::Inline(text), false),
            save(draft, MessageContent::Inline(saved)),
            StoreWrite::Setting { section, name, change },
        ];
        let committed = self.commit(batch, Sync::Full);
        if committed.is_err() {
            // What is refused need not be there later.
            self.messages.truncate(known);
            self.setting = setting;
        }
        committed?;
        if let Some(store) = &mut self.made {
            store.tidy();
        }
        let mut reader = self.reader()?;
        self.is_readable(reader.as_mut())
    }

    /// A submission that may wait, and an upload.
    fn hand_over(&mut self) -> Used {
        let (deferred, text) = self.message(true);
        let (uploaded, bytes) = self.message(false);
        let upload = unique() as u64;
        let batch = vec![
            submit(deferred, MessageContent::Inline(text), true),
            StoreWrite::Append { upload, bytes },
            save(uploaded, MessageContent::Uploaded(upload)),
        ];
        self.commit(batch, Sync::None)
    }

    fn is_kept(&mut self) -> Used {
        let mut reader = self.reader()?;
        self.is_readable(reader.as_mut())
    }

    /// As a store is found that was open when the machine stopped, if the store can be opened twice.
    fn is_kept_beside(&mut self) -> Used {
        let mut second = told("a second object", (self.make)())?;
        if second.logon().is_err() {
            return Ok(());
        }
        let mut reader = told("a reader", second.reader())?;
        self.is_readable(reader.as_mut())?;
        drop(reader);
        told("the logoff of a second object", second.logoff())
    }

    fn is_primary_store(&self) -> bool {
        true
    }
}

/// One refused write leaves the others of its batch alone.
fn each_write_is_answered(store: &mut Store, steps: &Steps) -> Verdict {
    steps.note("logon");
    store.logon().or_else(|error| broken(WORKS, error.to_string()))?;
    let (first, text) = store.message(true);
    let (second, saved) = store.message(false);
    let batch = vec![
        submit(first, MessageContent::Inline(text), false),
        StoreWrite::Delete { record: unique() },
        save(second, MessageContent::Inline(saved)),
    ];
    steps.note("commit a submit, a delete of what is not there and a save");
    let answers = store.object().map(|object| object.commit(batch, Sync::Full));
    let answers = answers.or_else(|error| broken(WORKS, error.to_string()))?;
    let are_ok: Vec<_> = answers.iter().map(Result::is_ok).collect();
    if are_ok != [true, false, true] {
        return broken(EACH_WRITE, format!("its answers are {answers:?}"));
    }
    store.is_kept().or_else(|why| broken(EACH_WRITE, why))
}

/// Whether it succeeds or not: what a store says is about what it was asked for.
fn each_call_has_its_answer(store: &mut Store, steps: &Steps) -> Verdict {
    steps.note("logon");
    let object = store.object().or_else(|error| broken(WORKS, error.to_string()))?;
    let facts = object.logon().or_else(|error| broken(WORKS, error.to_string()))?;
    let known = Known { store: Some(facts.uid), recipients: None };
    let (queued, draft, upload) = (unique(), unique(), unique() as u64);
    let inline = |text: &str| MessageContent::Inline(text.as_bytes().to_vec());
    let held = |mut submission: Submission| {
        submission.recipients[0].state = SubmissionState::Held;
        let update = SubmissionUpdate::whole(submission, None, now());
        StoreWrite::Update(Box::new(update))
    };
    let setting = |change| StoreWrite::Setting {
        section: SECTION.into(),
        name: format!("{queued:x}"),
        change,
    };
    for write in [
        submit(queued, inline(TEXT), false),
        submit(queued, inline(TEXT), false),
        held(submission(queued)),
        StoreWrite::Append { upload, bytes: b"a piece".to_vec() },
        StoreWrite::Discard { upload },
        save(draft, inline(TEXT)),
        save(draft, inline(TEXT)),
        StoreWrite::Hasten { profile: None, uid: None, after: 0, now: now() },
        StoreWrite::Seen { record: draft },
        StoreWrite::DeleteFrom { record: draft, from: Folder::DRAFTS },
        StoreWrite::Delete { record: draft },
        setting(SettingChange::Set("value".into())),
        setting(SettingChange::Remove),
        submit(unique(), inline(TEXT), false),
        StoreWrite::Flush,
    ] {
        let (expected, words) = (write.expects(), write.name());
        steps.note(words);
        let object = store.object().or_else(|error| broken(WORKS, error.to_string()))?;
        for answer in object.commit(vec![write], Sync::Full) {
            fits(words, expected, &answer, known)?;
        }
    }
    let mut reader = store.reader().or_else(|why| broken(WORKS, why))?;
    for question in [
        StoreRead::List { folder: Folder::OUTBOX, after: 0, limit: 1 },
        StoreRead::Find { record: queued },
        StoreRead::Piece { record: queued, offset: 0, limit: 10 },
        StoreRead::Piece { record: queued, offset: 10, limit: 1 << 20 },
        StoreRead::Setting { section: SECTION.into(), name: String::new() },
        StoreRead::Due { after: None, limit: 1 },
        StoreRead::Queue { all: false, after: 0, limit: 1 },
        StoreRead::Queue { all: true, after: 0, limit: 100 },
        StoreRead::Submission { record: queued },
        StoreRead::Oldest,
    ] {
        steps.note(format!("{question:?}"));
        fits(&format!("{question:?}"), question.expects(), &reader.read(&question), known)?;
    }
    Ok(())
}

/// The object is one for all sessions: the end of one leaves the other alone.
fn sessions_share_a_store(store: &mut Store, steps: &Steps) -> Verdict {
    for session in ["logon of a session", "logon of a second session"] {
        steps.note(session);
        store.logon().or_else(|error| broken(WORKS, error.to_string()))?;
        store.work().or_else(|why| broken(WORKS, why))?;
    }
    steps.note("logoff of one");
    let _ = store.logoff();
    store.work().or_else(|why| broken(LAST_SESSION_CLOSES, why))?;
    store.is_kept().or_else(|why| broken(LAST_SESSION_CLOSES, why))
}

/// A list or a message that another process reads meanwhile.
fn a_reader_outlives_a_do(store: &mut Store, steps: &Steps) -> Verdict {
    steps.note("logon");
    store.logon().or_else(|error| broken(WORKS, error.to_string()))?;
    store.work().or_else(|why| broken(WORKS, why))?;
    let mut reader = store.reader().or_else(|why| broken(WORKS, why))?;
    store.is_readable(reader.as_mut()).or_else(|why| broken(WORKS, why))?;
    steps.note("do, beside a reader");
    if let Some(interface) = store.interface() {
        let _ = interface.do_fast_shutdown(LeavingProcess { pid: std::process::id(), session: 1 });
    }
    steps.note("read");
    if store.is_readable(reader.as_mut()).is_ok() {
        return Ok(());
    }
    steps.note("(it fails), a new object in its place, logon");
    store.renew().or_else(|error| broken(NEIGHBOURS_UNAFFECTED, error.to_string()))?;
    store.logon().or_else(|error| broken(NEIGHBOURS_UNAFFECTED, error.to_string()))?;
    store.is_kept().or_else(|why| broken(NEIGHBOURS_UNAFFECTED, why))
}

/// While another object has the files the logon may fail, and then not for ever.
fn a_failed_logon_is_repeated(store: &mut Store, steps: &Steps) -> Verdict {
    steps.note("logon");
    store.logon().or_else(|error| broken(WORKS, error.to_string()))?;
    store.work().or_else(|why| broken(WORKS, why))?;
    steps.note("logon of a second object");
    let mut second = (store.make)().or_else(|error| broken(WORKS, error.to_string()))?;
    let refused = second.logon().is_err();
    steps.note(if refused { "(it fails), drop of the first" } else { "drop of the first" });
    store.made = Some(second);
    if refused {
        steps.note("logon of the second");
        store.logon().or_else(|error| broken(LOGON_AGAIN, error.to_string()))?;
    }
    store.work().or_else(|why| broken(LOGON_AGAIN, why))?;
    store.is_kept().or_else(|why| broken(LOGON_AGAIN, why))
}
