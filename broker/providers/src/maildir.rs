//! The transport that ships for local addresses: it puts messages into a Maildir.
//!
//! A message is written to `tmp` and synced, its name is made durable by whoever calls, and then a rename into `new`
//! hands it over. The name tells afterwards what happened: still in `tmp`, it was not handed over; gone from there, it
//! was, wherever a reader has put it since.

use std::collections::{HashMap, HashSet};
use std::fs::{self, File, OpenOptions};
use std::io::{self, BufReader, Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use sundown_core::provider::{
    Outcome, ProviderAnswer, ProviderError, ProviderSpec, RecipientResult, StoreRead, Submission,
    Transmission, TransportFacts,
};
use sundown_protocol::Code;

use crate::files::{private_dir, sync_dir};
use crate::headers::{LineEnd, clean, without_bcc};
use crate::{
    NothingToSave, Prepared, ProviderShutdown, Reply, Result, Support, TransportProvider, fault,
};

/// How old a stranger's file in `tmp` must be to be removed, as Maildir's description says.
const STALE: Duration = Duration::from_secs(36 * 3600);

/// How our names end. One that is stale may be all that is left of a message whose name was made durable before a crash: it
/// is removed when the store says that nobody will ask for it.
const OURS: &str = ".sundown";

/// Enough of a message to see how its lines end.
const FIRST_LINE: u64 = 1024;

/// Puts messages into the Maildir at the spec's path.
pub struct Maildir {
    path: PathBuf,
    support: Option<Arc<dyn Support>>,
    prepared: HashMap<u64, Waiting>,
    /// What could not be handed over, by record. It is not removed at once: until the caller has made that durable, a
    /// crash would make it look as if it had been handed over.
    left: HashMap<u128, Waiting>,
    /// The store in which it was looked for messages of stale files since the logon.
    looked: HashSet<u32>,
    /// Tells the names of this instance from those of an earlier one, which counted from the same number.
    instance: u128,
}

/// A message in `tmp`.
struct Waiting {
    record: u128,
    name: String,
    recipients: Vec<usize>,
}

impl Waiting {
    fn new(transmission: &Transmission, name: String) -> Self {
        let recipients = transmission.recipients.iter().map(|(place, _)| *place).collect();
        Self { record: transmission.record, name, recipients }
    }
}

impl Maildir {
    /// A transport that touches no file before its logon.
    pub fn new(spec: &ProviderSpec) -> Self {
        let path = spec.path.clone();
        Self {
            path,
            support: None,
            prepared: HashMap::new(),
            left: HashMap::new(),
            looked: HashSet::new(),
            instance: 0,
        }
    }

    fn folder(&self, name: &str) -> PathBuf {
        self.path.join(name)
    }

    /// One name for each transmission, also if it is prepared again.
    fn name_for(&self, transmission: &Transmission) -> String {
        if let Some(waiting) = self.prepared.get(&transmission.id) {
            return waiting.name.clone();
        }
        let seconds = since_1970().as_secs();
        let (record, id, instance) = (transmission.record, transmission.id, self.instance);
        format!("{seconds}.{record:032x}-{id}-{instance:x}{OURS}")
    }

    fn write(&self, name: &str, transmission: &Transmission) -> Result<()> {
        let support = self.support.as_ref().ok_or_else(|| {
            let text = format!("{}: no session is logged on to it", self.path.display());
            ProviderError::new(Code::E_NOT_INITIALIZED, text)
        })?;
        let mut store = support.store(transmission.store)?;
        let message = store.open(transmission.record)?;
        let path = self.folder("tmp").join(name);
        let written = write_message(&path, message, transmission)
            // The name must be there after a power cut, or the message would count as handed over.
            .and_then(|()| sync_dir(&self.folder("tmp")));
        written.map_err(|error| {
            let _ = fs::remove_file(&path);
            fault::io(&path, &error)
        })
    }

    /// The rename is the hand-over: before it nothing has happened, after it the message may be read.
    fn hand_over(&self, name: &str) -> (Outcome, String) {
        let (from, to) = (self.folder("tmp").join(name), self.folder("new").join(name));
        if let Err(error) = fs::rename(&from, &to) {
            return (Outcome::Later, fault::io(&from, &error).message);
        }
        let synced = sync_dir(&self.folder("new")).and_then(|()| sync_dir(&self.folder("tmp")));
        match synced {
            Ok(()) => (Outcome::Sent, "put into the Maildir".to_owned()),
            Err(error) => (Outcome::Unknown, fault::io(&to, &error).message),
        }
    }

    fn finish(&self, marker: &str) -> (Outcome, String) {
        if !is_plain_name(marker) {
            let text = format!("{marker:?} is not the name of a file in a Maildir");
            return (Outcome::Unknown, text);
        }
        let path = self.folder("tmp").join(marker);
        match File::open(&path).and_then(|file| file.sync_all()) {
            Ok(()) => self.hand_over(marker),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                (Outcome::Sent, "it was put into the Maildir before the restart".to_owned())
            }
            Err(error) => (Outcome::Unknown, fault::io(&path, &error).message),
        }
    }

    fn keep_if_left(&mut self, waiting: Waiting, outcome: Outcome) {
        if outcome == Outcome::Later {
            self.left.insert(waiting.record, waiting);
        }
    }

    /// A recipient that is tried again was put back before, durably.
    fn remove_left(&mut self, transmission: &Transmission) {
        let again = |waiting: &Waiting| {
            transmission.recipients.iter().any(|(place, _)| waiting.recipients.contains(place))
        };
        if self.left.get(&transmission.record).is_some_and(again)
            && let Some(waiting) = self.left.remove(&transmission.record)
        {
            let _ = fs::remove_file(self.folder("tmp").join(waiting.name));
        }
    }

    fn put_into_tmp(&mut self, transmission: &Transmission) -> Result<Prepared> {
        let name = self.name_for(transmission);
        self.prepared.remove(&transmission.id);
        self.remove_left(transmission);
        self.write(&name, transmission)?;
        if self.looked.insert(transmission.store) {
            self.remove_forsaken(transmission.store);
        }
        self.prepared.insert(transmission.id, Waiting::new(transmission, name.clone()));
        Ok(Prepared { marker: name, refused: Vec::new() })
    }

    fn deliver(&mut self, waiting: Waiting) -> Vec<RecipientResult> {
        let (outcome, reply) = self.hand_over(&waiting.name);
        let results = results(&waiting.recipients, outcome, &reply);
        self.keep_if_left(waiting, outcome);
        results
    }

    fn find_out(&mut self, transmission: &Transmission, marker: String) -> Vec<RecipientResult> {
        let (outcome, reply) = self.finish(&marker);
        let waiting = Waiting::new(transmission, marker);
        let results = results(&waiting.recipients, outcome, &reply);
        self.keep_if_left(waiting, outcome);
        results
    }

    fn remove_stale(&self) -> io::Result<()> {
        self.remove_if_stale(|name| !name.ends_with(OURS))
    }

    /// Removes what an earlier instance prepared of a store's messages, and what no recipient's intent names any more: it was
    /// aborted, or prepared again.
    fn remove_forsaken(&self, store: u32) {
        let reader = self.support.as_ref().and_then(|support| support.store(store).ok());
        let Some(mut reader) = reader else { return };
        let forsaken = |name: &str| {
            let Some(record) = record_of(name) else { return false };
            let found = reader.read(&StoreRead::Submission { record });
            // One that is not known may be another store's.
            let Ok(ProviderAnswer::Queue { rows, .. }) = found else { return false };
            let named = |row: &Submission| {
                let mut intents = row.recipients.iter().filter_map(|r| r.intent.as_ref());
                row.record == record && intents.any(|intent| intent.marker == name)
            };
            !rows.is_empty() && !rows.iter().any(named)
        };
        if let Err(error) = self.remove_if_stale(forsaken) {
            tracing::warn!(path = %self.path.display(), %error, "old files were not removed");
        }
    }

    fn remove_if_stale(&self, mut is_nobodys: impl FnMut(&str) -> bool) -> io::Result<()> {
        for entry in fs::read_dir(self.folder("tmp"))? {
            let entry = entry?;
            if is_stale(&entry.metadata()?) && is_nobodys(&entry.file_name().to_string_lossy()) {
                fs::remove_file(entry.path())?;
            }
        }
        Ok(())
    }
}

impl TransportProvider for Maildir {
    fn logon(&mut self, support: Arc<dyn Support>) -> Result<TransportFacts> {
        for folder in ["tmp", "new", "cur"] {
            private_dir(&self.folder(folder))?;
        }
        if let Err(error) = self.remove_stale() {
            tracing::warn!(path = %self.path.display(), %error, "old files were not removed");
        }
        self.looked.clear();
        self.instance = since_1970().as_nanos();
        self.support = Some(support);
        Ok(TransportFacts::default())
    }

    fn prepare(&mut self, transmission: Transmission, reply: Reply<Prepared>) {
        reply.send(self.put_into_tmp(&transmission));
    }

    fn complete(&mut self, id: u64, reply: Reply<Vec<RecipientResult>>) {
        let waiting = self.prepared.remove(&id);
        reply.send(Ok(waiting.map_or_else(Vec::new, |waiting| self.deliver(waiting))));
    }

    fn cancel(&mut self, id: u64) {
        if let Some(waiting) = self.prepared.remove(&id) {
            let _ = fs::remove_file(self.folder("tmp").join(waiting.name));
        }
    }

    fn recover(
        &mut self,
        transmission: Transmission,
        marker: String,
        reply: Reply<Vec<RecipientResult>>,
    ) {
        reply.send(Ok(self.find_out(&transmission, marker)));
    }

    fn validate(&mut self, reply: Reply<()>) {
        let tmp = self.folder("tmp");
        let probe = tmp.join(format!("{}.probe{OURS}", since_1970().as_nanos()));
        let tried = fs::write(&probe, b"").and_then(|()| fs::remove_file(&probe));
        reply.send(tried.map_err(|error| fault::io(&tmp, &error)));
    }

    fn logoff(&mut self) -> Result<()> {
        self.support = None;
        self.prepared.clear();
        self.left.clear();
        Ok(())
    }

    fn shutdown(&mut self) -> Option<&mut dyn ProviderShutdown> {
        Some(self)
    }

    fn has_nothing_to_save(&self) -> bool {
        true
    }
}

/// What a process hands over is in its store until a reader can see it, so there is nothing of it here to save.
impl NothingToSave for Maildir {}

fn results(recipients: &[usize], outcome: Outcome, reply: &str) -> Vec<RecipientResult> {
    let one = |recipient: &usize| RecipientResult {
        recipient: *recipient,
        outcome,
        reply: reply.to_owned(),
    };
    recipients.iter().map(one).collect()
}

fn write_message(path: &Path, message: impl Read, transmission: &Transmission) -> io::Result<()> {
    let mut options = OpenOptions::new();
    let mut file = options.write(true).create(true).truncate(true).mode(0o600).open(path)?;
    let mut message = BufReader::with_capacity(64 << 10, without_bcc(message));
    let mut first = Vec::new();
    message.by_ref().take(FIRST_LINE).read_to_end(&mut first)?;
    file.write_all(envelope(transmission, LineEnd::of(&first)).as_bytes())?;
    file.write_all(&first)?;
    io::copy(&mut message, &mut file)?;
    file.sync_all()
}

/// The envelope, as a Maildir's readers expect it in front of a message.
fn envelope(transmission: &Transmission, line_end: LineEnd) -> String {
    let end = line_end.as_str();
    let mut lines = format!("Return-Path: <{}>{end}", clean(&transmission.from));
    for (_, address) in &transmission.recipients {
        lines.extend(["Delivered-To: ", &clean(address), end]);
    }
    lines
}

/// Of which message a name of ours is.
fn record_of(name: &str) -> Option<u128> {
    let (_, rest) = name.strip_suffix(OURS)?.split_once('.')?;
    u128::from_str_radix(rest.split('-').next()?, 16).ok()
}

fn is_plain_name(name: &str) -> bool {
    !name.is_empty() && !name.starts_with('.') && !name.contains(['/', '\0'])
}

fn is_stale(metadata: &fs::Metadata) -> bool {
    let age = metadata.modified().ok().and_then(|then| then.elapsed().ok());
    metadata.is_file() && age.is_some_and(|age| age > STALE)
}

fn since_1970() -> Duration {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use sundown_core::provider::{FastShutdown, Intent};
    use sundown_protocol::request::Report;
    use tempfile::TempDir;

    use super::*;
    use crate::StoreReader;

    struct OneMessage(&'static [u8]);

    impl StoreReader for OneMessage {
        fn read(&mut self, _: &StoreRead) -> Result<ProviderAnswer> {
            Ok(ProviderAnswer::Done)
        }

        fn another(&self) -> Result<Box<dyn StoreReader>> {
            Ok(Box::new(OneMessage(self.0)))
        }

        fn open(&mut self, _: u128) -> Result<Box<dyn Read + Send + '_>> {
            Ok(Box::new(self.0))
        }
    }

    impl Support for &'static [u8] {
        fn store(&self, _: u32) -> Result<Box<dyn StoreReader>> {
            Ok(Box::new(OneMessage(self)))
        }

        fn save(&self, _: u32, _: &str, _: &str, _: &str) -> Result<()> {
            unreachable!("a Maildir saves nothing")
        }
    }

    /// Breaks off in the middle.
    struct Broken;

    impl StoreReader for Broken {
        fn read(&mut self, _: &StoreRead) -> Result<ProviderAnswer> {
            Ok(ProviderAnswer::Done)
        }

        fn another(&self) -> Result<Box<dyn StoreReader>> {
            Ok(Box::new(Broken))
        }

        fn open(&mut self, _: u128) -> Result<Box<dyn Read + Send + '_>> {
            struct Fails;
            impl Read for Fails {
                fn read(&mut self, _: &mut [u8]) -> io::Result<usize> {
                    Err(io::ErrorKind::UnexpectedEof.into())
                }
            }
            Ok(Box::new((&b"Subject: x\n"[..]).chain(Fails)))
        }
    }

    impl Support for Broken {
        fn store(&self, _: u32) -> Result<Box<dyn StoreReader>> {
            Ok(Box::new(Broken))
        }

        fn save(&self, _: u32, _: &str, _: &str, _: &str) -> Result<()> {
            unreachable!("a Maildir saves nothing")
        }
    }

    const MESSAGE: &[u8] = b"Subject: x\nBcc: secret@x\nTo: bob\n\nbody\n";

    fn maildir(dir: &TempDir, support: impl Support + 'static) -> Maildir {
        let spec = ProviderSpec {
            name: "here".into(),
            kind: "maildir".into(),
            path: dir.path().join("Maildir"),
            options: Vec::new(),
            fast_shutdown: FastShutdown::Supported,
        };
        let mut maildir = Maildir::new(&spec);
        maildir.logon(Arc::new(support)).expect("it logs on");
        maildir
    }

    fn transmission(id: u64) -> Transmission {
        Transmission {
            id,
            store: 1,
            record: 0xAB,
            from: "anna@example.org".into(),
            recipients: vec![(0, "bob".into()), (2, "eve@localhost".into())],
            size: MESSAGE.len() as u64,
            report: Report::default(),
        }
    }

    fn complete(maildir: &mut Maildir, id: u64) -> Vec<RecipientResult> {
        let (sender, answer) = crossbeam_channel::bounded(1);
        maildir.complete(id, Reply::new(move |results| sender.send(results).expect("it waits")));
        answer.recv().expect("it was answered").expect("a Maildir answers for each recipient")
    }

    fn names(maildir: &Maildir, folder: &str) -> Vec<String> {
        let entries = fs::read_dir(maildir.folder(folder)).expect("the folder is there");
        entries.map(|e| e.expect("an entry").file_name().into_string().expect("text")).collect()
    }

    fn outcomes(results: &[RecipientResult]) -> Vec<(usize, Outcome)> {
        results.iter().map(|result| (result.recipient, result.outcome)).collect()
    }

    const BOTH_SENT: [(usize, Outcome); 2] = [(0, Outcome::Sent), (2, Outcome::Sent)];

    #[test]
    fn a_message_goes_through_tmp_into_new() {
        let dir = TempDir::new().expect("a directory");
        let mut maildir = maildir(&dir, MESSAGE);
        let prepared = maildir.put_into_tmp(&transmission(7)).expect("it is prepared");
        assert_eq!(names(&maildir, "tmp"), [prepared.marker.as_str()]);
        assert!(names(&maildir, "new").is_empty());
        assert!(prepared.marker.contains("000000ab-7-"), "{}", prepared.marker);

        assert_eq!(outcomes(&complete(&mut maildir, 7)), BOTH_SENT);
        assert!(names(&maildir, "tmp").is_empty());
        let delivered = fs::read(maildir.folder("new").join(&prepared.marker)).expect("a file");
        assert_eq!(
            String::from_utf8_lossy(&delivered),
            "Return-Path: <anna@example.org>\nDelivered-To: bob\nDelivered-To: eve@localhost\n\
             Subject: x\nTo: bob\n\nbody\n"
        );
        assert!(complete(&mut maildir, 7).is_empty());
    }

    #[test]
    fn preparing_again_leaves_one_file() {
        let dir = TempDir::new().expect("a directory");
        let mut maildir = maildir(&dir, MESSAGE);
        let first = maildir.put_into_tmp(&transmission(7)).expect("it is prepared");
        let second = maildir.put_into_tmp(&transmission(7)).expect("it is prepared");
        assert_eq!(first, second);
        assert_eq!(names(&maildir, "tmp").len(), 1);
        maildir.cancel(7);
        assert!(names(&maildir, "tmp").is_empty());
        assert!(complete(&mut maildir, 7).is_empty());
    }

    #[test]
    fn another_instance_never_takes_the_same_name() {
        let dir = TempDir::new().expect("a directory");
        let first = maildir(&dir, MESSAGE).put_into_tmp(&transmission(7)).expect("it is prepared");
        let second = maildir(&dir, MESSAGE).put_into_tmp(&transmission(7)).expect("it is prepared");
        assert_ne!(first.marker, second.marker);
    }

    #[test]
    fn after_a_crash_it_is_finished_or_was_already() {
        let dir = TempDir::new().expect("a directory");
        let marker =
            maildir(&dir, MESSAGE).put_into_tmp(&transmission(7)).expect("prepared").marker;

        let mut after = maildir(&dir, MESSAGE);
        assert_eq!(outcomes(&after.find_out(&transmission(7), marker.clone())), BOTH_SENT);
        assert_eq!(names(&after, "new"), [marker.as_str()]);

        let read = after.folder("cur").join(format!("{marker}:2,S"));
        fs::rename(after.folder("new").join(&marker), &read).expect("a reader moves it");
        assert_eq!(outcomes(&after.find_out(&transmission(7), marker.clone())), BOTH_SENT);
        fs::remove_file(read).expect("a reader deletes it");
        assert_eq!(outcomes(&after.find_out(&transmission(7), marker.clone())), BOTH_SENT);
        assert!(names(&after, "new").is_empty() && names(&after, "tmp").is_empty());
    }

    #[test]
    fn a_marker_that_is_no_name_touches_nothing() {
        let dir = TempDir::new().expect("a directory");
        let mut maildir = maildir(&dir, MESSAGE);
        fs::write(dir.path().join("outside"), "x").expect("a file");
        for marker in ["", ".", "..", "../../outside", "/etc/passwd", "a\0b", ".hidden"] {
            let results = maildir.find_out(&transmission(7), marker.to_owned());
            assert!(results.iter().all(|r| r.outcome == Outcome::Unknown), "{marker:?}");
        }
        assert!(dir.path().join("outside").exists());
    }

    #[test]
    fn a_message_that_breaks_off_is_not_left_behind() {
        let dir = TempDir::new().expect("a directory");
        let mut maildir = maildir(&dir, Broken);
        let error = maildir.put_into_tmp(&transmission(7)).expect_err("it breaks off");
        assert_eq!(error.code, Code::E_DISK_ERROR);
        assert!(names(&maildir, "tmp").is_empty());
    }

    #[test]
    fn what_can_not_be_handed_over_is_for_later() {
        let dir = TempDir::new().expect("a directory");
        let mut maildir = maildir(&dir, MESSAGE);
        maildir.put_into_tmp(&transmission(7)).expect("it is prepared");
        fs::remove_dir(maildir.folder("new")).expect("it is empty");
        let results = complete(&mut maildir, 7);
        assert_eq!(outcomes(&results), [(0, Outcome::Later), (2, Outcome::Later)]);
        assert!(results[0].reply.contains("tmp"), "{}", results[0].reply);

        // Until the next try it stays: after a crash it must not look as if it had been handed over.
        assert_eq!(names(&maildir, "tmp").len(), 1);
        fs::create_dir(maildir.folder("new")).expect("it is made again");
        maildir.put_into_tmp(&transmission(8)).expect("it is prepared");
        assert_eq!(names(&maildir, "tmp").len(), 1);
        assert_eq!(outcomes(&complete(&mut maildir, 8)), BOTH_SENT);
        assert!(names(&maildir, "tmp").is_empty());
    }

    #[test]
    fn only_old_files_of_strangers_are_removed() {
        let dir = TempDir::new().expect("a directory");
        let maildir_at = maildir(&dir, MESSAGE);
        let tmp = maildir_at.folder("tmp");
        let old = SystemTime::now() - STALE - Duration::from_secs(60);
        for name in ["1.old.host", "1.young.host", "1.old-7-a.sundown"] {
            let file = File::create(tmp.join(name)).expect("a file");
            if name.contains("old") {
                file.set_modified(old).expect("a time");
            }
        }
        let mut left = names(&maildir(&dir, MESSAGE), "tmp");
        left.sort();
        assert_eq!(left, ["1.old-7-a.sundown", "1.young.host"]);
    }

    /// A store with a queue: what each message's intent names.
    #[derive(Clone)]
    struct Queue(Vec<(u128, Option<String>)>);

    impl StoreReader for Queue {
        fn read(&mut self, question: &StoreRead) -> Result<ProviderAnswer> {
            let StoreRead::Submission { record } = question else {
                return Ok(ProviderAnswer::Done);
            };
            let Some((_, marker)) = self.0.iter().find(|(known, _)| known == record) else {
                return Err(ProviderError::new(Code::E_NOT_IN_QUEUE, "no"));
            };
            let intent = marker.clone().map(|marker| Intent { transport: "here".into(), marker });
            let mut row = crate::sqlite::tests::submission(*record);
            row.recipients[0].intent = intent;
            Ok(ProviderAnswer::Queue { rows: vec![row], next: None })
        }

        fn another(&self) -> Result<Box<dyn StoreReader>> {
            Ok(Box::new(self.clone()))
        }

        fn open(&mut self, _: u128) -> Result<Box<dyn Read + Send + '_>> {
            Ok(Box::new(MESSAGE))
        }
    }

    impl Support for Queue {
        fn store(&self, _: u32) -> Result<Box<dyn StoreReader>> {
            self.another()
        }

        fn save(&self, _: u32, _: &str, _: &str, _: &str) -> Result<()> {
            unreachable!("a Maildir saves nothing")
        }
    }

    /// What an aborted message left is removed when it is old; what somebody may ask for, or another store's, is not.
    #[test]
    fn what_nobody_will_ask_for_is_removed() {
        let name = |record: u128| format!("1.{record:032x}-7-a{OURS}");
        let (aborted, again, waits, strange, young) = (1, 2, 3, 4, 5);
        let known = vec![
            (aborted, None),
            (again, Some("of another try".to_owned())),
            (waits, Some(name(waits))),
            (young, None),
        ];
        let dir = TempDir::new().expect("a directory");
        let mut maildir = maildir(&dir, Queue(known));
        let old = SystemTime::now() - STALE - Duration::from_secs(60);
        for record in [aborted, again, waits, strange, young] {
            let file = File::create(maildir.folder("tmp").join(name(record))).expect("a file");
            if record != young {
                file.set_modified(old).expect("a time");
            }
        }
        let prepared = maildir.put_into_tmp(&transmission(7)).expect("it is prepared").marker;
        let mut left = names(&maildir, "tmp");
        left.sort();
        assert_eq!(left, [name(waits), name(strange), name(young), prepared]);
    }

    #[test]
    fn the_envelope_speaks_the_messages_line_end() {
        let lines = envelope(&transmission(1), LineEnd::of(b"Subject: x\r\n\r\n"));
        assert_eq!(lines.matches("\r\n").count(), 3);
        let mut forged = transmission(1);
        forged.from = "a\nBcc: x".into();
        assert_eq!(envelope(&forged, LineEnd::Lf).lines().count(), 3);
    }
}
