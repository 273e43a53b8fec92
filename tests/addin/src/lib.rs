//! What an add-in is to its host: a library with its own copy of `sundown-client`, which tests load, also twice.
//!
//! It has one function, which carries out a command in words and answers in words: `ok …`, or a code and why. Each broker that it
//! is initialized with, and the session there, has a name.
#![allow(unsafe_code)]

use std::collections::BTreeMap;
use std::ffi::{CStr, c_char};
use std::panic::catch_unwind;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use sundown_client::{
    ClientShutdown, Code, Error, Logoff, Logon, Mapi, Message, News, Options, Session,
};

/// How long it waits for what must come.
const PATIENCE: Duration = Duration::from_secs(60);

/// What it has under a name.
struct Use {
    // Dropped first: the order of the eight steps.
    session: Option<Session>,
    mapi: Mapi,
}

static USES: Mutex<BTreeMap<String, Use>> = Mutex::new(BTreeMap::new());

/// Carries out a command, writes what comes of it where there is room, and returns its length.
///
/// # Safety
///
/// `command` is a string that ends with a zero, and `answer` has room for `room` bytes.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn sundown_test_addin(
    command: *const c_char,
    answer: *mut u8,
    room: usize,
) -> usize {
    // SAFETY: the caller says so.
    let command = unsafe { CStr::from_ptr(command) }.to_string_lossy().into_owned();
    // Nothing may unwind into what is not of this copy.
    let said = catch_unwind(|| answer_to(&command)).unwrap_or_else(|_| "panicked".into());
    let length = said.len().min(room);
    // SAFETY: the caller says that there is so much room, and nobody else knows of `said`.
    unsafe { answer.copy_from_nonoverlapping(said.as_ptr(), length) };
    length
}

fn answer_to(command: &str) -> String {
    let words: Vec<_> = command.split_whitespace().collect();
    match carry_out(&words) {
        Ok(said) => format!("ok {said}").trim_end().to_owned(),
        Err(error) => format!("{} {error}", error.code().name()),
    }
}

fn carry_out(words: &[&str]) -> Result<String, Error> {
    let nothing = |()| String::new();
    let mut uses = USES.lock().unwrap_or_else(PoisonError::into_inner);
    match *words {
        ["initialize", name, socket, ref key @ ..] => {
            let mut options = Options::new(name).socket(socket).no_autostart();
            if let Some(key) = key.first() {
                options = options.host_key(key.parse().map_err(|_| senseless(key))?);
            }
            let mapi = Mapi::initialize(options)?;
            uses.insert(name.to_owned(), Use { session: None, mapi });
            Ok(String::new())
        }
        ["logon", name] => {
            let used = uses.get_mut(name).ok_or_else(|| senseless(name))?;
            used.session = Some(used.mapi.logon(Logon::shared())?);
            Ok(String::new())
        }
        ["logon-without-mail", name, profile] => {
            let used = uses.get_mut(name).ok_or_else(|| senseless(name))?;
            used.session = Some(used.mapi.logon(Logon::shared().no_mail().profile(profile))?);
            Ok(String::new())
        }
        ["submit", name, subject] => {
            Ok(session(&uses, name)?.submit(&message(subject, 1))?.entry.to_string())
        }
        ["defer", name, subject, lines] => {
            let lines = lines.parse().map_err(|_| senseless(lines))?;
            let submitted = session(&uses, name)?.submit_deferred(&message(subject, lines))?;
            Ok(submitted.entry.to_string())
        }
        ["flush", name] => session(&uses, name)?.flush().map(nothing),
        ["wait-for-return", name] => {
            // Brokers may be restarted in front of a program whose session has other notices.
            loop {
                let notice = session(&uses, name)?.events().recv_timeout(PATIENCE);
                let notice = notice.map_err(|e| Error::new(Code::E_TIMEOUT, e.to_string()))?;
                if matches!(notice.news, News::Reconnected { .. }) {
                    return Ok(String::new());
                }
            }
        }
        ["query", name] => shutdown(&uses, name)?.query_fast_shutdown().map(nothing),
        ["notify", name] => shutdown(&uses, name)?.notify_process_shutdown().map(nothing),
        ["do", name] => shutdown(&uses, name)?.do_fast_shutdown().map(nothing),
        ["shut-down", name] => {
            let used = uses.get(name).ok_or_else(|| senseless(name))?;
            Ok(used.mapi.begin_shut_down()?.name().to_owned())
        }
        ["logoff", name] => {
            session(&uses, name)?.logoff(Logoff::now())?;
            Ok(String::new())
        }
        ["log-everything-off", name] => {
            let used = uses.get(name).ok_or_else(|| senseless(name))?;
            used.mapi.log_everything_off().map(nothing)
        }
        [how @ ("uninitialize" | "shut-down-for-good"), name] => {
            let Use { session, mapi } = uses.remove(name).ok_or_else(|| senseless(name))?;
            let ended = if how == "uninitialize" {
                mapi.uninitialize()
            } else {
                mapi.shut_down().map(drop)
            };
            ended.map(nothing).map_err(|unfinished| {
                let (mapi, error) = unfinished.into_parts();
                uses.insert(name.to_owned(), Use { session, mapi });
                error
            })
        }
        ["key", name] => {
            let used = uses.get(name).ok_or_else(|| senseless(name))?;
            Ok(used.mapi.host_key().to_string())
        }
        _ => Err(senseless(&words.join(" "))),
    }
}

fn message(subject: &str, lines: usize) -> Message {
    let body = "body\n".repeat(lines);
    Message::parse(format!("To: anna@localhost\nSubject: {subject}\n\n{body}"))
}

fn session<'uses>(uses: &'uses BTreeMap<String, Use>, name: &str) -> Result<&'uses Session, Error> {
    uses.get(name).and_then(|used| used.session.as_ref()).ok_or_else(|| senseless(name))
}

fn shutdown(uses: &BTreeMap<String, Use>, name: &str) -> Result<ClientShutdown, Error> {
    Ok(uses.get(name).ok_or_else(|| senseless(name))?.mapi.client_shutdown())
}

fn senseless(what: &str) -> Error {
    Error::new(Code::E_INVALID_PARAMETER, format!("{what:?} makes no sense here"))
}
