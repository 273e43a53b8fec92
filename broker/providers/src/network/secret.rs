//! A secret: where it comes from, and how long it is kept.
//!
//! It is fetched when a connection first needs it, again after a server refused it, and again when no connection has needed it for a
//! while. It is in no message, log line or `Debug`, and neither is what a command that fails has written. Memory that held it is
//! overwritten, and from the first one on the process writes no core and lets no debugger of its user look into it.

use std::env;
use std::ffi::OsString;
use std::fmt;
use std::fs::OpenOptions;
use std::io::Read;
use std::os::unix::ffi::OsStringExt;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use rustix::fs::OFlags;
use rustix::process::{DumpableBehavior, set_dumpable_behavior};
use secrecy::SecretString;
use sundown_core::provider::ProviderError;
use sundown_protocol::Code;
use zeroize::Zeroizing;

use super::command;
use super::trace::Trace;
use crate::{Result, fault};

/// The longest secret. Tokens have a few thousand bytes.
pub(crate) const MAX_SECRET: usize = 64 << 10;

/// How long a password command may take: enough to type a passphrase.
const COMMAND_DEADLINE: Duration = Duration::from_secs(30);

/// How long nobody tries again what a server refused. Servers lock out who tries again and again, and what waits behind
/// the first message would.
const REST: Duration = Duration::from_secs(2);

/// Where a secret comes from.
#[derive(Clone, PartialEq, Eq)]
pub(crate) enum Source {
    /// The first line that a shell command writes.
    Command(String),
    /// The first line of a file.
    File(PathBuf),
    /// The first line of a credential that the service manager hands over.
    Credential(String),
    /// A variable of the broker's environment.
    Environment(String),
}

impl fmt::Debug for Source {
    /// Says what kind it is and no more: a command may have the secret in it.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Command(_) => "Command",
            Self::File(_) => "File",
            Self::Credential(_) => "Credential",
            Self::Environment(_) => "Environment",
        })
    }
}

impl Source {
    fn fetch(&self) -> Result<SecretString> {
        // Where the system refuses that, the secret is as safe as its user's other processes are.
        let _ = set_dumpable_behavior(DumpableBehavior::NotDumpable);
        let bytes = match self {
            Self::Command(command) => command::output(command, COMMAND_DEADLINE)?,
            Self::File(path) => from_file("password_file", path)?,
            Self::Credential(name) => from_credential(env::var_os("CREDENTIALS_DIRECTORY"), name)?,
            Self::Environment(name) => from_environment(name)?,
        };
        first_line(&bytes).ok_or_else(|| self.no_secret())
    }

    fn no_secret(&self) -> ProviderError {
        let what = match self {
            Self::Command(_) => "password_command wrote no password".to_owned(),
            Self::File(path) => format!("password_file {} has no password", path.display()),
            Self::Credential(name) => format!("password_credential {name} has no password"),
            Self::Environment(name) => format!("password_env {name} has no password"),
        };
        unconfigured(format!("{what} in its first line"))
    }
}

/// Keeps a secret that was fetched, for all connections of a transport.
#[derive(Debug)]
pub(crate) struct Keeper {
    source: Source,
    /// What the profile says about the server and the way to log on there.
    account: String,
    kept: Mutex<Kept>,
}

#[derive(Debug, Default)]
struct Kept {
    secret: Option<Arc<SecretString>>,
    /// When a connection needed it last.
    used: Option<Instant>,
    refused: Option<(Instant, Trace)>,
}

impl Kept {
    fn may_try(&self) -> Result<()> {
        if self.refused.is_some_and(|(then, _)| then.elapsed() < REST) {
            let text = "the server refused the password just before; it is tried again later";
            return Err(ProviderError::new(Code::E_OFFLINE, text));
        }
        Ok(())
    }
}

/// Whether a secret is as its source has it now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Age {
    /// It was fetched for this call.
    Fetched,
    /// It was fetched before.
    Kept,
}

impl Keeper {
    /// A keeper that has nothing yet.
    pub(crate) fn new(source: Source, account: String) -> Self {
        Self { source, account, kept: Mutex::default() }
    }

    /// Whether a server may be asked now, or has refused the secret just before.
    pub(crate) fn may_try(&self) -> Result<()> {
        self.lock().may_try()
    }

    /// The secret. While one connection fetches it, the others wait: a command that asks a person asks once.
    pub(crate) fn get(&self) -> Result<(Arc<SecretString>, Age)> {
        let mut kept = self.lock();
        kept.may_try()?;
        kept.used = Some(Instant::now());
        if let Some(secret) = &kept.secret {
            return Ok((secret.clone(), Age::Kept));
        }
        let secret = Arc::new(self.source.fetch()?);
        kept.secret = Some(secret.clone());
        Ok((secret, Age::Fetched))
    }

    /// Forgets what is kept, so that the next one is as its source has it.
    pub(crate) fn forget(&self) {
        *self.lock() = Kept::default();
    }

    /// A server refused this one, and it was as its source has it.
    pub(crate) fn refused(&self) {
        let mut kept = self.lock();
        let of_it = kept.secret.as_ref().map(|secret| Trace::of(&self.account, secret));
        let known = kept.refused.map(|(_, trace)| trace);
        let trace = of_it.or(known).unwrap_or(Trace::NONE);
        *kept = Kept { refused: Some((Instant::now(), trace)), ..Kept::default() };
    }

    /// The trace of the secret that a server refused last, or else of the one that is kept.
    pub(crate) fn trace(&self) -> Trace {
        let kept = self.lock();
        let of_it = || kept.secret.as_ref().map(|secret| Trace::of(&self.account, secret));
        kept.refused.map(|(_, trace)| trace).or_else(of_it).unwrap_or(Trace::NONE)
    }

    /// Whether the source has another secret now than those that left these traces.
    pub(crate) fn has_another(&self, traces: &[Trace]) -> Result<bool> {
        if traces.contains(&Trace::NONE) {
            return Ok(false);
        }
        self.forget();
        let (secret, _) = self.get()?;
        Ok(!traces.contains(&Trace::of(&self.account, &secret)))
    }

    /// Forgets what no connection has needed for so long.
    pub(crate) fn forget_unused(&self, since: Duration) {
        let mut kept = self.lock();
        if kept.used.is_some_and(|used| used.elapsed() >= since) {
            (kept.secret, kept.used) = (None, None);
        }
    }

    fn lock(&self) -> MutexGuard<'_, Kept> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// All of a file that its key names and no other user may read.
pub(crate) fn from_file(key: &str, path: &Path) -> Result<Zeroizing<Vec<u8>>> {
    let at = || format!("{key} {}", path.display());
    // A pipe without a writer must not hold us up.
    let flags = OFlags::NONBLOCK.bits().cast_signed();
    let opened = OpenOptions::new().read(true).custom_flags(flags).open(path);
    let cannot = |error| unconfigured(format!("{}: {}", at(), fault::words(&error).1));
    let file = opened.map_err(cannot)?;
    let facts = file.metadata().map_err(cannot)?;
    if !facts.is_file() {
        return Err(unconfigured(format!("{} is not a regular file", at())));
    }
    let owner = facts.uid();
    if owner != 0 && owner != rustix::process::geteuid().as_raw() {
        let text = format!("{} belongs to user {owner}, not to you or root; chown it", at());
        return Err(unconfigured(text));
    }
    if facts.mode() & 0o077 != 0 {
        let text = format!("{} is open to others; chmod 600 {}", at(), path.display());
        return Err(unconfigured(text));
    }
    read_bounded(file).map_err(cannot)
}

/// The service manager guards the directory; how its files look to others says nothing.
fn from_credential(directory: Option<OsString>, name: &str) -> Result<Zeroizing<Vec<u8>>> {
    let at = format!("password_credential {name}");
    if name.is_empty() || name.starts_with('.') || name.contains(['/', '\0']) {
        return Err(unconfigured(format!("{at} is not the name of a credential")));
    }
    let directory = directory.ok_or_else(|| {
        unconfigured(format!(
            "{at} is not there: the broker has no CREDENTIALS_DIRECTORY; its unit needs \
             LoadCredential={name} or the like"
        ))
    })?;
    let path = Path::new(&directory).join(name);
    let read = std::fs::File::open(&path).and_then(read_bounded);
    read.map_err(|error| unconfigured(format!("{at}: {}", fault::words(&error).1)))
}

fn from_environment(name: &str) -> Result<Zeroizing<Vec<u8>>> {
    let value =
        if name.is_empty() || name.contains(['=', '\0']) { None } else { env::var_os(name) };
    let value = value.ok_or_else(|| {
        unconfigured(format!("password_env {name} is not in the environment of the broker"))
    })?;
    Ok(Zeroizing::new(value.into_vec()))
}

/// A buffer that never grows leaves no copies behind.
fn read_bounded(from: impl Read) -> std::io::Result<Zeroizing<Vec<u8>>> {
    let mut bytes = Zeroizing::new(vec![0; MAX_SECRET]);
    let (mut from, mut length) = (from.take(MAX_SECRET as u64), 0);
    loop {
        match crate::files::read(&mut from, &mut bytes[length..])? {
            0 => break,
            n => length += n,
        }
    }
    bytes.truncate(length);
    Ok(bytes)
}

fn first_line(bytes: &[u8]) -> Option<SecretString> {
    let line = bytes.split(|b| *b == b'\n').next()?;
    let line = line.strip_suffix(b"\r").unwrap_or(line);
    let text = std::str::from_utf8(line).ok().filter(|text| !text.is_empty())?;
    Some(SecretString::new(Box::from(text)))
}

pub(crate) fn unconfigured(message: String) -> ProviderError {
    ProviderError::new(Code::E_UNCONFIGURED, message)
}

#[cfg(test)]
mod tests {
    use std::fs::{self, Permissions};
    use std::os::unix::fs::PermissionsExt;

    use secrecy::ExposeSecret;
    use tempfile::TempDir;

    use super::*;

    fn text(secret: &SecretString) -> &str {
        secret.expose_secret()
    }

    fn file(dir: &TempDir, name: &str, content: &[u8], mode: u32) -> PathBuf {
        let path = dir.path().join(name);
        fs::write(&path, content).expect("it is written");
        fs::set_permissions(&path, Permissions::from_mode(mode)).expect("it is set");
        path
    }

    #[test]
    fn a_file_gives_its_first_line() {
        let dir = TempDir::new().expect("a directory");
        for content in ["hunter2", "hunter2\n", "hunter2\r\nmore\n"] {
            let path = file(&dir, "secret", content.as_bytes(), 0o600);
            assert_eq!(text(&Source::File(path).fetch().expect("a secret")), "hunter2");
        }
    }

    #[test]
    fn a_file_must_be_ones_own() {
        let dir = TempDir::new().expect("a directory");
        for mode in [0o640, 0o604, 0o660, 0o644] {
            let path = file(&dir, "open", b"hunter2", mode);
            let error = Source::File(path).fetch().expect_err("it is open to others");
            assert_eq!(error.code, Code::E_UNCONFIGURED);
            assert!(error.message.contains("chmod 600"), "{}", error.message);
        }
        let mut strange = vec![
            dir.path().join("missing"),
            dir.path().to_owned(),
            file(&dir, "empty", b"\nhunter2", 0o600),
            file(&dir, "binary", b"\xff\xfe", 0o600),
        ];
        let pipe = dir.path().join("pipe");
        let mode = rustix::fs::Mode::from_bits_truncate(0o600);
        rustix::fs::mkfifoat(rustix::fs::CWD, &pipe, mode).expect("a pipe");
        strange.push(pipe);
        for path in strange {
            let error = Source::File(path).fetch().expect_err("there is no secret in it");
            assert_eq!(error.code, Code::E_UNCONFIGURED);
            assert!(!error.message.contains("hunter2"), "{}", error.message);
        }
    }

    #[test]
    fn a_credential_comes_from_its_directory() {
        let dir = TempDir::new().expect("a directory");
        file(&dir, "mail", b"hunter2\n", 0o440);
        let get = |name| from_credential(Some(dir.path().into()), name);
        assert_eq!(**get("mail").expect("a credential"), *b"hunter2\n");
        for name in ["", ".", "..", "../mail", "/etc/passwd", "missing"] {
            assert_eq!(get(name).expect_err(name).code, Code::E_UNCONFIGURED);
        }
        let error = from_credential(None, "mail").expect_err("there is no directory");
        assert!(error.message.contains("LoadCredential"), "{}", error.message);
    }

    #[test]
    fn a_variable_of_the_broker() {
        let found = Source::Environment("PATH".into()).fetch().expect("everybody has one");
        assert_eq!(text(&found), env::var("PATH").expect("a path"));
        for name in ["", "A=B", "SUNDOWN_TEST_NOT_THERE"] {
            let error = Source::Environment(name.into()).fetch().expect_err(name);
            assert_eq!(error.code, Code::E_UNCONFIGURED);
        }
    }

    #[test]
    fn it_is_fetched_once_and_again_after_a_refusal() {
        let dir = TempDir::new().expect("a directory");
        let path = file(&dir, "secret", b"first", 0o600);
        let keeper = Keeper::new(Source::File(path), "anna".into());
        let (secret, age) = keeper.get().expect("a secret");
        assert_eq!((text(&secret), age), ("first", Age::Fetched));
        file(&dir, "secret", b"second", 0o600);
        let (secret, age) = keeper.get().expect("a secret");
        assert_eq!((text(&secret), age), ("first", Age::Kept));
        keeper.forget();
        let (secret, age) = keeper.get().expect("a secret");
        assert_eq!((text(&secret), age), ("second", Age::Fetched));

        file(&dir, "secret", b"third", 0o600);
        keeper.forget_unused(Duration::from_secs(3_600));
        assert_eq!(keeper.get().expect("a secret").1, Age::Kept);
        keeper.forget_unused(Duration::ZERO);
        let (secret, age) = keeper.get().expect("a secret");
        assert_eq!((text(&secret), age), ("third", Age::Fetched));

        keeper.refused();
        let refused = keeper.trace();
        keeper.forget_unused(Duration::ZERO);
        let error = keeper.get().expect_err("it was refused just before");
        assert_eq!(error.code, Code::E_OFFLINE);
        keeper.forget();
        assert!(keeper.get().is_ok());
        assert_eq!(keeper.has_another(&[refused]), Ok(false));
        file(&dir, "secret", b"fourth", 0o600);
        assert_eq!(keeper.has_another(&[refused]), Ok(true));
        assert_eq!(keeper.has_another(&[refused, Trace::NONE]), Ok(false), "there was none");
    }

    /// Neither a core nor a debugger of its user has it.
    #[test]
    fn a_process_with_a_secret_is_looked_into_by_none() {
        let _ = Source::Environment("PATH".into()).fetch();
        let behaviour = rustix::process::dumpable_behavior().expect("it says so");
        assert_eq!(behaviour, DumpableBehavior::NotDumpable);
    }

    #[test]
    fn it_is_shown_nowhere() {
        let keeper = Keeper::new(Source::Command("echo hunter2".into()), "anna".into());
        let got = keeper.get().expect("a secret");
        assert_eq!(text(&got.0), "hunter2");
        let shown = format!("{keeper:?} {got:?}");
        assert!(!shown.contains("hunter2"), "{shown}");
    }
}
