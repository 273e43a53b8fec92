//! The built-in transport for local addresses: it delivers messages into a Maildir.
//!
//! A message is written to `tmp` and synced, the caller makes its name durable, and a rename into `new` then hands it over. After a
//! crash the message is looked for by that name: in `tmp` it was not handed over, in `new` or `cur` it was. If it is in none of
//! them, a reader may have deleted it, or the directory may not be the same. So the marker also names the directory, by an id that
//! is kept in a file inside. If the directory is the same, and the name is too recent to have been removed from `tmp`, the message
//! counts as handed over. Otherwise its outcome is unknown.

mod mailbox;
mod users;

use std::collections::{HashMap, HashSet};
use std::fs::{self, File};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::io::{self, BufReader, Read, Write};
use std::os::fd::AsRawFd;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use sundown_core::provider::{
    AskedBy, Known, Outcome, ProviderAnswer, ProviderError, ProviderSpec, RecipientResult,
    StoreRead, Submission, Transmission, TransportFacts,
};
use sundown_mail::head::LineEnd;
use sundown_protocol::Code;
use sundown_protocol::request::Notify;

use crate::files::{FileId, new_private_file, private_dir, read_small, sync_dir};
use crate::headers::{envelope, without_bcc};
use crate::{
    NothingToSave, Prepared, ProviderShutdown, Reply, Result, Support, TransportProvider, fault,
    results,
};

pub use self::mailbox::{Desks, MaildirMailbox};
pub(crate) use self::mailbox::{filed_as, locate, moved, open, own_name, stage, stage_again};
pub use self::users::UserMaildirs;

/// The age at which another program's file in `tmp` is removed, as Maildir's description says.
const STALE: Duration = Duration::from_secs(36 * 3600);

/// The end of the names that this transport makes. A stale file with such a name may be all that is left of a message whose name
/// was made durable before a crash: it is removed once the store says that no recipient needs it.
const OURS: &str = ".sundown";

/// The file inside the Maildir that holds its id: 32 hexadecimal digits.
const ID_FILE: &str = "sundown-id";

/// Separates the name from the directory's id in a marker. No file name contains it.
const MARKER_SEPARATOR: char = '/';

/// How often `new` and `cur` are read for the messages that were under way at a crash. A reader that renames a message meanwhile
/// can hide it from one reading.
const SCANS: usize = 2;

/// How many bytes of a message are enough to see how its lines end.
const FIRST_LINE: u64 = 1024;

/// Delivers messages into the Maildir at the spec's path.
pub struct Maildir {
    path: PathBuf,
    support: Option<Arc<dyn Support>>,
    prepared: HashMap<u64, Waiting>,
    /// Messages that could not be handed over, by record. They are not removed at once: until the caller has made the failure
    /// durable, a crash would make them look as if they had been handed over.
    left: HashMap<u128, Waiting>,
    /// The stores whose messages were checked for stale files since the logon.
    looked: HashSet<u32>,
    /// Tells the names of this instance from those of an earlier one, whose ids began at the same number.
    instance: u64,
    /// The id of the directory, if it has one. Without an id, a message that is not found after a crash is unknown.
    id: Option<String>,
    seen: Seen,
}

/// This transport's messages that were in `new` and `cur` since the logon, by a hash of their names.
#[derive(Default)]
struct Seen {
    names: HashSet<u64>,
    scans: usize,
}

/// Where a message is that was under way when the broker crashed.
enum Place {
    /// Still in `tmp`.
    Prepared,
    /// In `new` or `cur`.
    HandedOver,
    Nowhere,
}

/// The contents of [`Prepared::marker`]: the name of the message, and the id of its directory. Older markers have no id.
#[derive(Clone, Copy)]
struct Marker<'a> {
    name: &'a str,
    directory: Option<&'a str>,
}

impl<'a> Marker<'a> {
    fn parse(marker: &'a str) -> Self {
        match marker.split_once(MARKER_SEPARATOR) {
            Some((name, directory)) => Self { name, directory: Some(directory) },
            None => Self { name: marker, directory: None },
        }
    }
}

/// A message in `tmp`.
struct Waiting {
    record: u128,
    name: String,
    recipients: Vec<usize>,
    /// What became of it when it is in the Maildir.
    delivered: Outcome,
}

impl Waiting {
    fn new(transmission: &Transmission, name: String) -> Self {
        let recipients = transmission.recipients.iter().map(|(place, _)| *place).collect();
        let wants = transmission.report.notify.contains(Notify::SUCCESS);
        let delivered = if wants { Outcome::Delivered } else { Outcome::Sent };
        Self { record: transmission.record, name, recipients, delivered }
    }

    fn results(&self, outcome: Outcome, reply: &str) -> Vec<RecipientResult> {
        let outcome = if outcome == Outcome::Sent { self.delivered } else { outcome };
        results(self.recipients.iter().copied(), outcome, reply)
    }
}

/// The two directories of a hand-over, kept open so that they can be identified afterwards.
struct Folders {
    path: PathBuf,
    tmp: File,
    new: File,
}

impl Folders {
    fn open(path: &Path) -> io::Result<Self> {
        let (tmp, new) = (File::open(path.join("tmp"))?, File::open(path.join("new"))?);
        Ok(Self { path: path.to_owned(), tmp, new })
    }

    fn hand_over(&self, name: &str) -> (Outcome, String) {
        let (from, to) = (self.path.join("tmp").join(name), self.path.join("new").join(name));
        match fs::rename(&from, to) {
            Ok(()) => self.settle(name),
            Err(error) => (Outcome::Later, fault::io(&from, &error).message),
        }
    }

    /// Finishes the rename: makes it durable, and checks that the message is where the readers of the Maildir look, and not in a
    /// directory that was removed or replaced meanwhile.
    fn settle(&self, name: &str) -> (Outcome, String) {
        let (path, sent) = (self.path.join("new"), "put into the Maildir".to_owned());
        let synced = self.new.sync_all().and_then(|()| self.tmp.sync_all());
        let there = synced.and_then(|()| self.new.metadata());
        match there.map(|new| FileId::from(&new).is_at(&path)) {
            Ok(true) => (Outcome::Sent, sent),
            // The directory was replaced before the rename.
            Ok(false) if path.join(name).exists() && sync_dir(&path).is_ok() => {
                (Outcome::Sent, sent)
            }
            Ok(false) => self.take_back(name),
            Err(error) => (Outcome::Unknown, fault::io(&path.join(name), &error).message),
        }
    }

    /// Takes a message out of a directory that has lost its name. If the message is not there, it was removed or a reader has taken
    /// it.
    fn take_back(&self, name: &str) -> (Outcome, String) {
        let path = self.path.join("new");
        let what =
            format!("{} was removed or replaced while the message was put into it", path.display());
        let open = |folder: &File| {
            PathBuf::from(format!("/proc/self/fd/{}", folder.as_raw_fd())).join(name)
        };
        match fs::rename(open(&self.new), open(&self.tmp)) {
            Ok(()) => (Outcome::Later, what),
            Err(_) => (Outcome::Unknown, format!("{what}; it may be in the old one")),
        }
    }
}

impl Maildir {
    /// Makes a transport, which touches no file before its logon.
    pub fn new(spec: &ProviderSpec) -> Self {
        let path = spec.path.clone();
        Self {
            path,
            support: None,
            prepared: HashMap::new(),
            left: HashMap::new(),
            looked: HashSet::new(),
            instance: 0,
            id: None,
            seen: Seen::default(),
        }
    }

    fn folder(&self, name: &str) -> PathBuf {
        self.path.join(name)
    }

    /// The name of a transmission. It stays the same if the transmission is prepared again.
    fn name_for(&self, transmission: &Transmission) -> String {
        if let Some(waiting) = self.prepared.get(&transmission.id) {
            return waiting.name.clone();
        }
        let seconds = since_1970().as_secs();
        let (record, id, ending) = (transmission.record, transmission.id, self.ending());
        format!("{seconds}.{record:032x}-{id}{ending}")
    }

    fn write(&self, name: &str, transmission: &Transmission) -> Result<()> {
        let support = self.support.as_ref().ok_or_else(|| {
            let text = format!("{}: no session is logged on to it", self.path.display());
            ProviderError::new(Code::E_NOT_INITIALIZED, text)
        })?;
        let mut store = support.store(transmission.store)?;
        let message = store.open(transmission.record)?;
        let path = self.folder("tmp").join(name);
        // A file that has this name is not this message, and is left alone: a Maildir may belong to another user.
        let file = new_private_file(&path).map_err(|error| fault::io(&path, &error))?;
        let written = write_message(file, message, transmission)
            // The name must survive a power cut, or the message would count as handed over.
            .and_then(|()| sync_dir(&self.folder("tmp")));
        written.map_err(|error| {
            let _ = fs::remove_file(&path);
            fault::io(&path, &error)
        })
    }

    /// Hands a message over by the rename: before it nothing has happened, after it the message may be read.
    fn hand_over(&self, name: &str) -> (Outcome, String) {
        match Folders::open(&self.path) {
            Ok(folders) => folders.hand_over(name),
            Err(error) => (Outcome::Later, fault::io(&self.path, &error).message),
        }
    }

    fn finish(&mut self, marker: Marker<'_>) -> (Outcome, String) {
        if !is_plain_name(marker.name) {
            let text = format!("{:?} is not the name of a file in a Maildir", marker.name);
            return (Outcome::Unknown, text);
        }
        match self.locate(marker.name) {
            Ok(Place::Prepared) => self.hand_over(marker.name),
            Ok(Place::HandedOver) => {
                (Outcome::Sent, "it was put into the Maildir before the restart".to_owned())
            }
            Ok(Place::Nowhere) => self.conclude(marker),
            Err(error) => (Outcome::Unknown, fault::io(&self.path, &error).message),
        }
    }

    /// Finds a message. What it finds is on the disk when it returns.
    fn locate(&mut self, name: &str) -> io::Result<Place> {
        match File::open(self.folder("tmp").join(name)).and_then(|file| file.sync_all()) {
            Ok(()) => return Ok(Place::Prepared),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(error),
        }
        // The crash may have come between the rename and its sync.
        for folder in ["new", "cur", "tmp"] {
            sync_dir(&self.folder(folder))?;
        }
        let hash = hash_of(name);
        // A name of this instance may be younger than the last scan.
        let own = name.ends_with(&self.ending());
        let wanted = if own { self.seen.scans + SCANS } else { SCANS };
        while !self.seen.names.contains(&hash) && self.seen.scans < wanted {
            self.scan()?;
        }
        let found = self.seen.names.contains(&hash);
        Ok(if found { Place::HandedOver } else { Place::Nowhere })
    }

    /// Notes which messages of this transport are in `new` and `cur`. A reader adds flags behind a colon.
    fn scan(&mut self) -> io::Result<()> {
        for folder in ["new", "cur"] {
            for entry in fs::read_dir(self.folder(folder))? {
                let name = entry?.file_name();
                let name = name.to_string_lossy();
                let base = name.split_once(':').map_or(&*name, |(base, _)| base);
                if base.ends_with(OURS) {
                    self.seen.names.insert(hash_of(base));
                }
            }
        }
        self.seen.scans += 1;
        Ok(())
    }

    /// Decides the outcome of a message that is in no folder.
    fn conclude(&self, marker: Marker<'_>) -> (Outcome, String) {
        let path = self.path.display();
        if marker.directory.is_none() || marker.directory != self.id.as_deref() {
            let text = format!("it is not in {path}, which may be another directory than before");
            return (Outcome::Unknown, text);
        }
        let prepared = marker.name.split_once('.').and_then(|(seconds, _)| seconds.parse().ok());
        let age = prepared.map(|seconds: u64| since_1970().as_secs().abs_diff(seconds));
        if age.is_none_or(|age| age >= STALE.as_secs()) {
            let text = format!("it is not in {path}, and old enough to have been removed from tmp");
            return (Outcome::Unknown, text);
        }
        (Outcome::Sent, "it was put into the Maildir, and read, before the restart".to_owned())
    }

    /// The end of the names that this instance makes.
    fn ending(&self) -> String {
        format!("-{:x}{OURS}", self.instance)
    }

    fn keep_if_left(&mut self, waiting: Waiting, outcome: Outcome) {
        if outcome == Outcome::Later {
            self.left.insert(waiting.record, waiting);
        }
    }

    /// Removes the file of an earlier attempt. The recipients that are tried again have been put back durably.
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
        if let Some(earlier) = self.prepared.remove(&transmission.id) {
            let _ = fs::remove_file(self.folder("tmp").join(earlier.name));
        }
        self.remove_left(transmission);
        self.write(&name, transmission)?;
        if self.looked.insert(transmission.store) {
            self.remove_forsaken(transmission.store);
        }
        let id = self.id.iter().map(|id| format!("{MARKER_SEPARATOR}{id}"));
        let marker = id.fold(name.clone(), |marker, id| marker + &id);
        self.prepared.insert(transmission.id, Waiting::new(transmission, name));
        Ok(Prepared { marker, refused: Vec::new() })
    }

    fn deliver(&mut self, waiting: Waiting) -> Vec<RecipientResult> {
        let (outcome, reply) = self.hand_over(&waiting.name);
        let results = waiting.results(outcome, &reply);
        self.keep_if_left(waiting, outcome);
        results
    }

    fn find_out(&mut self, transmission: &Transmission, marker: &str) -> Vec<RecipientResult> {
        let marker = Marker::parse(marker);
        let (outcome, reply) = self.finish(marker);
        let waiting = Waiting::new(transmission, marker.name.to_owned());
        let results = waiting.results(outcome, &reply);
        self.keep_if_left(waiting, outcome);
        results
    }

    fn remove_stale(&self) -> io::Result<()> {
        self.remove_if_stale(|name| !name.ends_with(OURS))
    }

    /// Removes files that an earlier instance prepared for a store's messages, if no recipient's intent names them: their messages
    /// were aborted, or prepared again.
    fn remove_forsaken(&self, store: u32) {
        let reader = self.support.as_ref().and_then(|support| support.store(store).ok());
        let Some(mut reader) = reader else { return };
        let forsaken = |name: &str| {
            let Some(record) = record_of(name) else { return false };
            let question = StoreRead::Submission { record };
            // An unknown message may be another store's. A wrong answer of the store proves nothing.
            let found = reader.read(&question).ok();
            let fits = |answer: &ProviderAnswer| {
                question.expects().check(answer, Known::default()).is_ok()
            };
            let Some(ProviderAnswer::Queue { rows, .. }) = found.filter(fits) else { return false };
            let named = |row: &Submission| {
                let mut intents = row.recipients.iter().filter_map(|r| r.intent.as_ref());
                intents.any(|intent| Marker::parse(&intent.marker).name == name)
            };
            !rows.iter().any(named)
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
        self.seen = Seen::default();
        let random = getrandom::u64();
        self.instance = random.map_err(|error| fault::io(&self.path, &error.into()))?;
        self.id = directory_id(&self.path)
            .inspect_err(|error| {
                tracing::warn!(path = %self.path.display(), %error, "the Maildir gets no id");
            })
            .ok();
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
        reply.send(Ok(self.find_out(&transmission, &marker)));
    }

    fn validate(&mut self, _: AskedBy, reply: Reply<()>) {
        let tmp = self.folder("tmp");
        let probe = tmp.join(format!("{}.probe{OURS}", since_1970().as_nanos()));
        let tried = new_private_file(&probe).and_then(|_| fs::remove_file(&probe));
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

/// A submitted message is in its store until a reader of the Maildir can see it, so the transport has nothing of it to save.
impl NothingToSave for Maildir {}

fn write_message(
    mut file: File,
    message: impl Read,
    transmission: &Transmission,
) -> io::Result<()> {
    let mut message = BufReader::with_capacity(64 << 10, without_bcc(message));
    let mut first = Vec::new();
    message.by_ref().take(FIRST_LINE).read_to_end(&mut first)?;
    let to = transmission.recipients.iter().map(|(_, address)| address.as_str());
    file.write_all(envelope(&transmission.from, to, LineEnd::of(&first)).as_bytes())?;
    file.write_all(&first)?;
    io::copy(&mut message, &mut file)?;
    file.sync_all()
}

/// The record of the message with a name that this transport made.
fn record_of(name: &str) -> Option<u128> {
    let (_, rest) = name.strip_suffix(OURS)?.split_once('.')?;
    u128::from_str_radix(rest.split('-').next()?, 16).ok()
}

/// The id of a Maildir, if it has one that can be read.
pub(crate) fn identity(path: &Path) -> Option<String> {
    known_id(path).unwrap_or_default()
}

fn known_id(path: &Path) -> io::Result<Option<String>> {
    let is_id = |id: &str| id.len() == 32 && id.bytes().all(|byte| byte.is_ascii_hexdigit());
    match read_small(&path.join(ID_FILE)).map(String::from_utf8) {
        Ok(Ok(id)) if is_id(id.trim_end()) => Ok(Some(id.trim_end().to_owned())),
        Ok(_) => Ok(None),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

/// The id of a Maildir: from its file, or a new id if the file is missing or incomplete.
fn directory_id(path: &Path) -> io::Result<String> {
    if let Some(id) = known_id(path)? {
        return Ok(id);
    }
    let file = path.join(ID_FILE);
    let id = format!("{:016x}{:016x}", getrandom::u64()?, getrandom::u64()?);
    let made = path.join(format!("{ID_FILE}.new"));
    // An incomplete file may be left of an earlier attempt.
    match fs::remove_file(&made) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let mut opened = new_private_file(&made)?;
    writeln!(opened, "{id}")?;
    opened.sync_all()?;
    fs::rename(&made, &file)?;
    sync_dir(path)?;
    Ok(id)
}

fn hash_of(name: &str) -> u64 {
    let mut hasher = DefaultHasher::new();
    name.hash(&mut hasher);
    hasher.finish()
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

    /// A reader that fails in the middle.
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

    /// Maildirs of the users bob and eve below this directory.
    fn user_maildirs(dir: &TempDir) -> UserMaildirs {
        let users = ["bob", "eve"].map(|user| ("local_user".to_owned(), user.to_owned()));
        let spec = ProviderSpec {
            path: dir.path().join("{user}/Maildir"),
            options: users.to_vec(),
            ..ProviderSpec::new("maildir")
        };
        let mut maildirs = UserMaildirs::new(&spec, &Arc::default());
        let facts = maildirs.logon(Arc::new(MESSAGE)).expect("it logs on");
        assert_eq!(facts.recipients, 1);
        maildirs
    }

    fn to_one(id: u64, place: usize, address: &str) -> Transmission {
        Transmission { recipients: vec![(place, address.to_owned())], ..transmission(id) }
    }

    fn answer<T: Send + 'static>(ask: impl FnOnce(Reply<T>)) -> T {
        let (sender, answer) = crossbeam_channel::bounded(1);
        ask(Reply::new(move |results| sender.send(results).expect("it waits")));
        answer.recv().expect("it was answered").expect("no error")
    }

    fn prepare(maildirs: &mut UserMaildirs, transmission: &Transmission) -> Prepared {
        answer(|reply| maildirs.prepare(transmission.clone(), reply))
    }

    fn in_new(dir: &TempDir, user: &str) -> usize {
        fs::read_dir(dir.path().join(user).join("Maildir/new")).map_or(0, Iterator::count)
    }

    #[test]
    fn each_user_has_a_maildir_and_a_result() {
        let dir = TempDir::new().expect("a directory");
        let mut maildirs = user_maildirs(&dir);
        assert_eq!(prepare(&mut maildirs, &to_one(1, 0, "bob")).refused, []);
        let prepared = prepare(&mut maildirs, &to_one(2, 1, "mallory@localhost"));
        assert_eq!(outcomes(&prepared.refused), [(1, Outcome::Failed)]);
        assert!(prepared.refused[0].reply.contains("mallory"), "{prepared:?}");
        assert!(!dir.path().join("mallory").exists());
        prepare(&mut maildirs, &to_one(3, 2, "eve@localhost"));
        for (id, place) in [(1, 0), (3, 2)] {
            let results = answer(|reply| maildirs.complete(id, reply));
            assert_eq!(outcomes(&results), [(place, Outcome::Sent)]);
        }
        assert_eq!((in_new(&dir, "bob"), in_new(&dir, "eve")), (1, 1));
        assert!(answer(|reply| maildirs.complete(1, reply)).is_empty());
        prepare(&mut maildirs, &to_one(4, 0, "bob"));
        maildirs.cancel(4);
        let tmp = fs::read_dir(dir.path().join("bob/Maildir/tmp")).expect("it is there");
        assert_eq!(tmp.count(), 0);
    }

    /// Recipients of one transmission: one is taken, those before it have their results, those behind it are for the next.
    #[test]
    fn one_maildir_at_a_time() {
        let dir = TempDir::new().expect("a directory");
        let mut maildirs = user_maildirs(&dir);
        let all = [(0, "no@x"), (1, "bob"), (5, "eve")].map(|(n, to)| (n, to.to_owned())).to_vec();
        let all = Transmission { recipients: all, ..transmission(1) };
        let prepared = prepare(&mut maildirs, &all);
        assert_eq!(outcomes(&prepared.refused), [(0, Outcome::Failed), (5, Outcome::NotSent)]);
        let results = answer(|reply| maildirs.complete(1, reply));
        assert_eq!(outcomes(&results), [(1, Outcome::Sent)]);
        let path = dir.path().join("bob/Maildir/new");
        let file = fs::read_dir(path).expect("it is there").next().expect("one").expect("a file");
        let text = fs::read_to_string(file.path()).expect("text");
        assert!(text.contains("Delivered-To: bob\n") && !text.contains("eve"), "{text}");
    }

    /// One user's Maildir that cannot be used defers that user's mail, and is used again when it can be.
    #[test]
    fn a_maildir_that_cannot_be_written_keeps_its_own_mail_back() {
        let dir = TempDir::new().expect("a directory");
        let mut maildirs = user_maildirs(&dir);
        fs::write(dir.path().join("bob"), "in the way").expect("a file");
        let prepared = prepare(&mut maildirs, &to_one(1, 0, "bob"));
        assert_eq!(outcomes(&prepared.refused), [(0, Outcome::Later)]);
        assert!(prepared.refused[0].reply.contains("bob"), "{prepared:?}");
        assert_eq!(prepare(&mut maildirs, &to_one(2, 0, "eve")).refused, []);
        fs::remove_file(dir.path().join("bob")).expect("removed");
        assert_eq!(prepare(&mut maildirs, &to_one(3, 0, "bob")).refused, []);
    }

    /// A crash leaves a message in the Maildir of its recipient, where it is found.
    #[test]
    fn what_a_crash_left_is_found_with_its_user() {
        let dir = TempDir::new().expect("a directory");
        let marker = prepare(&mut user_maildirs(&dir), &to_one(1, 0, "bob")).marker;
        let mut after = user_maildirs(&dir);
        let mut found = |to: &str| {
            outcomes(&answer(|reply| after.recover(to_one(1, 0, to), marker.clone(), reply)))
        };
        for other in ["mallory", "..", "../bob", ""] {
            assert_eq!(found(other), [(0, Outcome::Unknown)], "{other}");
        }
        assert_eq!(found("bob"), [(0, Outcome::Sent)]);
        assert_eq!(in_new(&dir, "bob"), 1);
        assert!(!dir.path().join("mallory").exists());
    }

    #[test]
    fn the_place_of_the_users_directories_is_looked_at() {
        let dir = TempDir::new().expect("a directory");
        let check = |path: PathBuf| {
            let spec = ProviderSpec { path, ..ProviderSpec::new("maildir") };
            assert!(UserMaildirs::is_meant(&spec));
            let (sender, answer) = crossbeam_channel::bounded(1);
            let reply = Reply::new(move |result| sender.send(result).expect("it waits"));
            UserMaildirs::new(&spec, &Arc::default()).validate(AskedBy::Broker, reply);
            answer.recv().expect("answered")
        };
        assert_eq!(check(dir.path().join("{user}/Maildir")), Ok(()));
        assert_eq!(check(dir.path().join("mail-{user}")), Ok(()));
        let error = check(dir.path().join("missing/{user}/Maildir")).expect_err("missing");
        assert!(error.message.contains("missing"), "{error}");
    }

    const BOTH_SENT: [(usize, Outcome); 2] = [(0, Outcome::Sent), (2, Outcome::Sent)];

    #[test]
    fn a_message_in_new_is_delivered_for_who_wants_to_know() {
        let dir = TempDir::new().expect("a directory");
        let mut maildir = maildir(&dir, MESSAGE);
        let mut asked = transmission(7);
        asked.report.notify = Notify::SUCCESS;
        let prepared = maildir.put_into_tmp(&asked).expect("it is prepared");
        let delivered = BOTH_SENT.map(|(place, _)| (place, Outcome::Delivered));
        assert_eq!(outcomes(&complete(&mut maildir, 7)), delivered);
        assert_eq!(outcomes(&maildir.find_out(&asked, &prepared.marker)), delivered);
    }

    #[test]
    fn a_message_goes_through_tmp_into_new() {
        let dir = TempDir::new().expect("a directory");
        let mut maildir = maildir(&dir, MESSAGE);
        let prepared = maildir.put_into_tmp(&transmission(7)).expect("it is prepared");
        let name = Marker::parse(&prepared.marker).name;
        assert_eq!(names(&maildir, "tmp"), [name]);
        assert!(names(&maildir, "new").is_empty());
        assert!(prepared.marker.contains("000000ab-7-"), "{}", prepared.marker);

        assert_eq!(outcomes(&complete(&mut maildir, 7)), BOTH_SENT);
        assert!(names(&maildir, "tmp").is_empty());
        let delivered = fs::read(maildir.folder("new").join(name)).expect("a file");
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
        assert_eq!(outcomes(&after.find_out(&transmission(7), &marker)), BOTH_SENT);
        let name = Marker::parse(&marker).name;
        assert_eq!(names(&after, "new"), [name]);

        let read = after.folder("cur").join(format!("{name}:2,S"));
        fs::rename(after.folder("new").join(name), &read).expect("a reader moves it");
        let mut later = maildir(&dir, MESSAGE);
        // Older markers have no directory.
        for marker in [&*marker, name] {
            assert_eq!(outcomes(&later.find_out(&transmission(7), marker)), BOTH_SENT, "{marker}");
        }
        fs::remove_file(read).expect("a reader deletes it");
        let mut last = maildir(&dir, MESSAGE);
        assert_eq!(outcomes(&last.find_out(&transmission(7), &marker)), BOTH_SENT);
        assert_eq!(last.seen.scans, 2);
        assert!(names(&last, "new").is_empty() && names(&last, "tmp").is_empty());
    }

    /// If a directory is replaced after the rename, the message is gone with it, and does not count as handed over. If it is
    /// replaced before the rename, the message counts.
    #[test]
    fn a_message_in_a_directory_that_was_replaced_is_taken_back() {
        for (name, before) in [("", true), ("new", true), ("", false), ("new", false)] {
            let dir = TempDir::new().expect("a directory");
            let mut maildir = maildir(&dir, MESSAGE);
            maildir.put_into_tmp(&transmission(7)).expect("it is prepared");
            let waiting = maildir.prepared.remove(&7).expect("it waits");
            let folders = Folders::open(&maildir.path).expect("they are there");
            let in_tmp = maildir.folder("tmp").join(&waiting.name);
            if !before {
                fs::rename(in_tmp, maildir.folder("new").join(&waiting.name)).expect("renamed");
            }
            fs::rename(maildir.path.join(name), dir.path().join("old")).expect("replaced");
            for folder in ["tmp", "new", "cur"] {
                private_dir(&maildir.folder(folder)).expect("made");
            }
            let settled = if before {
                folders.hand_over(&waiting.name)
            } else {
                folders.settle(&waiting.name)
            };
            let delivered = before && name == "new";
            let expected = if delivered { Outcome::Sent } else { Outcome::Later };
            assert_eq!(settled.0, expected, "{name:?}, {before}: {}", settled.1);
            assert_eq!(names(&maildir, "new").len(), usize::from(delivered));
            if delivered {
                continue;
            }
            let old = dir.path().join(if name.is_empty() { "old/new" } else { "old" });
            assert_eq!(fs::read_dir(old).expect("it is there").count(), 0, "it is taken back");
            assert_eq!(folders.take_back(&waiting.name).0, Outcome::Unknown, "it is not there");
            maildir.keep_if_left(waiting, Outcome::Later);
            maildir.put_into_tmp(&transmission(8)).expect("it is prepared again");
            assert_eq!(outcomes(&complete(&mut maildir, 8)), BOTH_SENT);
            assert_eq!(names(&maildir, "new").len(), 1);
        }
    }

    #[test]
    fn a_directory_that_was_removed_gets_no_message() {
        let dir = TempDir::new().expect("a directory");
        let mut maildir = maildir(&dir, MESSAGE);
        maildir.put_into_tmp(&transmission(7)).expect("it is prepared");
        let waiting = maildir.prepared.remove(&7).expect("it waits");
        let folders = Folders::open(&maildir.path).expect("they are there");
        fs::remove_dir(maildir.folder("new")).expect("removed");
        assert_eq!(folders.hand_over(&waiting.name).0, Outcome::Later);
        assert_eq!(maildir.hand_over(&waiting.name).0, Outcome::Later);
        assert_eq!(names(&maildir, "tmp"), [waiting.name]);
    }

    const BOTH_UNKNOWN: [(usize, Outcome); 2] = [(0, Outcome::Unknown), (2, Outcome::Unknown)];

    /// A message that is in no folder is unknown if the directory is another one, or has no id.
    #[test]
    fn what_is_nowhere_in_another_directory_is_unknown() {
        let dir = TempDir::new().expect("a directory");
        let before = maildir(&dir, MESSAGE).put_into_tmp(&transmission(7)).expect("prepared");
        fs::remove_dir_all(dir.path().join("Maildir")).expect("it is replaced");
        let mut after = maildir(&dir, MESSAGE);
        let results = after.find_out(&transmission(7), &before.marker);
        assert_eq!(outcomes(&results), BOTH_UNKNOWN);
        assert!(results[0].reply.contains("another directory"), "{}", results[0].reply);
        let name = Marker::parse(&before.marker).name;
        assert_eq!(outcomes(&after.find_out(&transmission(7), name)), BOTH_UNKNOWN);
    }

    /// Other programs remove files older than 36 hours from `tmp`.
    #[test]
    fn what_is_nowhere_and_old_is_unknown() {
        let dir = TempDir::new().expect("a directory");
        let mut maildir = maildir(&dir, MESSAGE);
        let now = since_1970().as_secs();
        let id = maildir.id.clone().expect("it has an id");
        let mut found = |seconds: u64| {
            let marker = format!("{seconds}.{:032x}-7-a{OURS}/{id}", 0xAB);
            outcomes(&maildir.find_out(&transmission(7), &marker))
        };
        assert_eq!(found(now - STALE.as_secs() - 60), BOTH_UNKNOWN);
        assert_eq!(found(now - STALE.as_secs() + 60), BOTH_SENT);
        assert_eq!(found(now + 60), BOTH_SENT);
        assert_eq!(found(now + STALE.as_secs() + 60), BOTH_UNKNOWN);
    }

    /// The id outlives the instance; an incomplete file is replaced.
    #[test]
    fn a_directory_keeps_its_id() {
        let dir = TempDir::new().expect("a directory");
        let id = || maildir(&dir, MESSAGE).id.expect("it has an id");
        let first = id();
        assert_eq!(id(), first);
        fs::write(dir.path().join("Maildir").join(ID_FILE), &first[..9]).expect("it is cut off");
        let second = id();
        assert!(second != first && second.len() == 32, "{second}");
        assert_eq!(id(), second);
    }

    /// A directory without an id takes messages all the same; after a crash a message that is not found is unknown.
    #[test]
    fn a_directory_without_an_id_delivers() {
        let dir = TempDir::new().expect("a directory");
        fs::create_dir_all(dir.path().join("Maildir").join(ID_FILE)).expect("it is in the way");
        let mut maildir = maildir(&dir, MESSAGE);
        let marker = maildir.put_into_tmp(&transmission(7)).expect("it is prepared").marker;
        assert_eq!(outcomes(&complete(&mut maildir, 7)), BOTH_SENT);
        fs::remove_file(maildir.folder("new").join(&marker)).expect("a reader deletes it");
        for marker in [marker.clone(), format!("{marker}/")] {
            assert_eq!(outcomes(&maildir.find_out(&transmission(7), &marker)), BOTH_UNKNOWN);
        }
    }

    /// A message that this instance handed over itself is found, however often it scanned before.
    #[test]
    fn what_was_handed_over_after_a_scan_is_found() {
        let dir = TempDir::new().expect("a directory");
        let mut maildir = maildir(&dir, MESSAGE);
        let strange = format!("{}.{:032x}-1-a{OURS}/other", since_1970().as_secs(), 1);
        maildir.find_out(&transmission(1), &strange);
        assert_eq!(maildir.seen.scans, SCANS);
        let marker = maildir.put_into_tmp(&transmission(7)).expect("it is prepared").marker;
        complete(&mut maildir, 7);
        let old = Marker::parse(&marker).name.to_owned();
        assert_eq!(outcomes(&maildir.find_out(&transmission(7), &old)), BOTH_SENT);
    }

    #[test]
    fn a_marker_that_is_no_name_touches_nothing() {
        let dir = TempDir::new().expect("a directory");
        let mut maildir = maildir(&dir, MESSAGE);
        fs::write(dir.path().join("outside"), "x").expect("a file");
        for marker in ["", ".", "..", "../../outside", "/etc/passwd", "a\0b", ".hidden"] {
            let results = maildir.find_out(&transmission(7), marker);
            assert!(results.iter().all(|r| r.outcome == Outcome::Unknown), "{marker:?}");
        }
        assert!(dir.path().join("outside").exists());
    }

    /// A file or link that has the name already is not followed, written to or removed.
    #[test]
    fn nothing_is_written_through_a_link() {
        use std::os::unix::fs::symlink;
        let dir = TempDir::new().expect("a directory");
        let victim = dir.path().join("victim");
        fs::write(&victim, "precious").expect("a file");
        let maildir = maildir(&dir, MESSAGE);
        let link = maildir.folder("tmp").join("1.ab-7");
        symlink(&victim, &link).expect("a link");
        let error = maildir.write("1.ab-7", &transmission(7)).expect_err("it is there");
        assert!(error.message.contains("1.ab-7"), "{error}");
        assert!(fs::symlink_metadata(&link).is_ok_and(|found| found.is_symlink()));
        fs::remove_file(maildir.path.join(ID_FILE)).expect("it has one");
        symlink(&victim, maildir.path.join(format!("{ID_FILE}.new"))).expect("a link");
        directory_id(&maildir.path).expect("a new one");
        assert_eq!(fs::read_to_string(&victim).expect("it is there"), "precious");
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

        // The file stays until the next attempt: after a crash the message must not look as if it had been handed over.
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

    /// For this record the store answers with another.
    const MISTAKEN: u128 = 6;

    /// A store with a queue: each message, and the name in its intent.
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
            let shown = if *record == MISTAKEN { 1 } else { *record };
            let mut row = crate::sqlite::tests::submission(shown);
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

    /// A file of an aborted message is removed when it is old. A file stays if its message may be recovered, belongs to another
    /// store, or is one for which the store does not answer.
    #[test]
    fn what_nobody_will_ask_for_is_removed() {
        let name = |record: u128| format!("1.{record:032x}-7-a{OURS}");
        let (aborted, again, waits, strange, young) = (1, 2, 3, 4, 5);
        let known = vec![
            (aborted, None),
            (again, Some("of another try".to_owned())),
            (waits, Some(name(waits))),
            (young, None),
            (MISTAKEN, None),
        ];
        let dir = TempDir::new().expect("a directory");
        let mut maildir = maildir(&dir, Queue(known));
        let old = SystemTime::now() - STALE - Duration::from_secs(60);
        for record in [aborted, again, waits, strange, young, MISTAKEN] {
            let file = File::create(maildir.folder("tmp").join(name(record))).expect("a file");
            if record != young {
                file.set_modified(old).expect("a time");
            }
        }
        let prepared = maildir.put_into_tmp(&transmission(7)).expect("it is prepared").marker;
        let mut left = names(&maildir, "tmp");
        left.sort();
        let prepared = Marker::parse(&prepared).name.to_owned();
        assert_eq!(left, [name(waits), name(strange), name(young), name(MISTAKEN), prepared]);
    }
}
