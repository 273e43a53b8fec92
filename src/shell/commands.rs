//! The commands of the shell: one function each.

use std::collections::BTreeMap;
use std::time::Duration;

use serde_json::{Value, json};
use sundown_client::{
    AddressBook, Code, Draft, EntryId, Error, Events, Folder, FolderKind, Logoff, Logon, Mapi,
    Message, Notice, OnEndOfSession, Session, Sink, StatusTable, Store,
};

use super::line::Words;
use super::{Printer, events};
use crate::output::{self, invalid};

/// The profile section of this program.
const SECTION: &str = "sundown-shell";

/// One process' use of the library.
pub(crate) struct Shell {
    /// `None` when it was uninitialized.
    mapi: Option<Mapi>,
    profile: Option<String>,
    printer: &'static Printer,
    sessions: BTreeMap<u64, Session>,
    objects: BTreeMap<u64, Object>,
    sinks: BTreeMap<u64, Sink>,
    made: u64,
}

enum Object {
    Store(Store),
    Folder(Folder),
    AddressBook(AddressBook),
    StatusTable(StatusTable),
    Draft(Draft),
    /// It was saved; what is left is a handle on the message.
    Saved(Draft, EntryId),
}

type Reply = Result<Value, Error>;

impl Shell {
    pub(crate) fn new(mapi: Mapi, profile: Option<String>, printer: &'static Printer) -> Self {
        Self {
            mapi: Some(mapi),
            profile,
            printer,
            sessions: BTreeMap::new(),
            objects: BTreeMap::new(),
            sinks: BTreeMap::new(),
            made: 0,
        }
    }

    /// Carries out one command. Its arguments are taken one by one, and what is left makes no sense.
    pub(crate) fn carry_out(&mut self, words: &Words) -> Reply {
        if self.mapi.is_none() {
            let message = "this process has uninitialized the library; start another one";
            return Err(output::error(Code::E_NOT_INITIALIZED, message));
        }
        let mut words = words.clone();
        let words = &mut words;
        match words.command.as_str() {
            "logon" => self.logon(words),
            "advise" => self.advise(words),
            "unadvise" => self.unadvise(words),
            "open" => self.open(words),
            "list" => self.list(words),
            "release" => self.release(words),
            "read" => self.read(words),
            "submit" => self.submit(words),
            "draft" => self.draft(words),
            "save" => self.save(words),
            "setting" => self.setting(words),
            "abort-submit" => self.abort_submit(words),
            "flush" => self.flush(words),
            "logoff" => self.logoff(words),
            "uninitialize" => self.uninitialize(words),
            other => Err(invalid(format!("there is no command {other:?}"))),
        }
    }

    fn number(&mut self) -> u64 {
        self.made += 1;
        self.made
    }

    fn session(&self, words: &mut Words) -> Result<(u64, &Session), Error> {
        let number = number(words, "session")?;
        let session = self
            .sessions
            .get(&number)
            .ok_or_else(|| invalid(format!("there was no session {number} in this shell")))?;
        Ok((number, session))
    }

    fn logon(&mut self, words: &mut Words) -> Reply {
        let profile = words.value("profile").map_err(invalid)?.or_else(|| self.profile.clone());
        let private = words.flag("private").map_err(invalid)?;
        let no_mail = words.flag("no-mail").map_err(invalid)?;
        end(words)?;
        let mut logon = if private { Logon::private() } else { Logon::shared() };
        if let Some(profile) = profile {
            logon = logon.profile(profile);
        }
        if no_mail {
            logon = logon.no_mail();
        }
        let mapi = self.mapi.as_ref().expect("looked at before");
        let session = mapi.logon(logon.on_end_of_session(OnEndOfSession::Stay))?;
        let number = self.sessions.keys().next_back().map_or(1, |last| last + 1);
        self.print_default_events(number, &session)?;
        let reply = json!({
            "session": number,
            "profile": session.profile(),
            "shared": session.is_shared(),
            "member": session.member().0,
        });
        self.sessions.insert(number, session);
        Ok(reply)
    }

    /// What the shell registered no sink for, and must know all the same.
    fn print_default_events(&self, number: u64, session: &Session) -> Result<(), Error> {
        let (events, printer) = (session.events().clone(), self.printer);
        let spawned =
            std::thread::Builder::new().name(format!("events of {number}")).spawn(move || {
                for notice in events {
                    printer.event(&events::value(number, &notice, None));
                }
            });
        spawned.map(drop).map_err(|e| output::error(Code::E_NOT_ENOUGH_RESOURCES, e.to_string()))
    }

    fn advise(&mut self, words: &mut Words) -> Reply {
        let events = match words.value("events").map_err(invalid)? {
            None => Events::CRITICAL_ERROR,
            Some(names) => names.parse().map_err(|e| invalid(format!("{e}")))?,
        };
        let object = match words.value("object").map_err(invalid)? {
            None => None,
            Some(text) => Some(parse(&text, "object")?),
        };
        let (printer, connection) = (self.printer, self.made + 1);
        let (sink, of_session) = match object {
            None => {
                let (number, session) = self.session(words)?;
                end(words)?;
                (session.advise(events, move |n| print_once(printer, number, None, n))?, number)
            }
            Some(number) => {
                // Objects know their session; the shell's number of it is told for the events.
                let session = number_or(words, "session", 0)?;
                end(words)?;
                let object = self.object(number)?;
                let told = move |n: &Notice| print_once(printer, session, Some(number), n);
                let sink = match object {
                    Object::Store(store) => store.advise(events, told),
                    Object::Folder(folder) => folder.advise(events, told),
                    Object::AddressBook(book) => book.advise(events, told),
                    Object::StatusTable(table) => table.advise(events, told),
                    Object::Draft(_) | Object::Saved(..) => {
                        let message = "an unsaved message does not notify";
                        Err(output::error(Code::E_NO_SUPPORT, message))
                    }
                }?;
                (sink, session)
            }
        };
        let _ = of_session;
        self.made = connection;
        self.sinks.insert(connection, sink);
        Ok(json!({ "connection": connection }))
    }

    fn unadvise(&mut self, words: &mut Words) -> Reply {
        let number = number(words, "connection")?;
        end(words)?;
        let sink = self.sinks.remove(&number).ok_or_else(|| {
            let message = format!("there is no connection {number} in this shell");
            output::error(Code::E_NOT_FOUND, message)
        })?;
        sink.unadvise()?;
        Ok(json!({}))
    }

    fn open(&mut self, words: &mut Words) -> Reply {
        let what = words.needed("what").map_err(invalid)?;
        let (_, session) = self.session(words)?;
        end(words)?;
        let object = match what.as_str() {
            "store" => Object::Store(session.default_store()?),
            "address-book" => Object::AddressBook(session.address_book()?),
            "status-table" => Object::StatusTable(session.status_table()?),
            name => {
                let folder = FolderKind::ALL.into_iter().find(|f| f.name() == name);
                let folder = folder.ok_or_else(|| {
                    invalid(format!(
                        "{name:?} cannot be opened; store, inbox, outbox, sent, drafts, deleted, \
                         address-book and status-table can"
                    ))
                })?;
                Object::Folder(session.folder(folder)?)
            }
        };
        Ok(self.keep(object))
    }

    fn keep(&mut self, object: Object) -> Value {
        let number = self.number();
        self.objects.insert(number, object);
        json!({ "object": number })
    }

    fn object(&self, number: u64) -> Result<&Object, Error> {
        self.objects.get(&number).ok_or_else(|| {
            let message = format!("object {number} was released, or never opened in this shell");
            output::error(Code::E_INVALID_OBJECT, message)
        })
    }

    fn list(&mut self, words: &mut Words) -> Reply {
        let number = number(words, "object")?;
        end(words)?;
        let rows: Vec<_> = match self.object(number)? {
            Object::Folder(folder) => folder
                .messages()?
                .into_iter()
                .map(|m| {
                    json!({
                        "entry": m.entry.to_string(),
                        "subject": m.subject,
                        "from": m.from,
                        "to": m.to,
                        "size": m.size,
                        "received": m.received,
                        "recovered": m.recovered,
                    })
                })
                .collect(),
            Object::AddressBook(book) => book
                .entries()?
                .into_iter()
                .map(|a| {
                    json!({
                        "entry": a.entry.to_string(),
                        "name": a.name,
                        "addresses": a.addresses,
                    })
                })
                .collect(),
            Object::StatusTable(table) => table
                .rows()?
                .into_iter()
                .map(|row| {
                    json!({
                        "name": row.name,
                        "resource": row.resource.name(),
                        "status": row.text,
                        "code": row.code,
                        "methods": row.methods,
                    })
                })
                .collect(),
            Object::Store(_) | Object::Draft(_) | Object::Saved(..) => {
                return Err(output::error(
                    Code::E_NO_SUPPORT,
                    "this object has no rows; list a folder, the address book or the status table",
                ));
            }
        };
        Ok(json!({ "rows": rows }))
    }

    fn release(&mut self, words: &mut Words) -> Reply {
        let number = number(words, "object")?;
        end(words)?;
        self.object(number)?;
        self.objects.remove(&number);
        Ok(json!({}))
    }

    fn read(&mut self, words: &mut Words) -> Reply {
        let entry = entry(words)?;
        let (_, session) = self.session(words)?;
        end(words)?;
        let bytes = session.read(entry)?;
        Ok(json!({ "size": bytes.len(), "content": String::from_utf8_lossy(&bytes) }))
    }

    fn submit(&mut self, words: &mut Words) -> Reply {
        let deferred = words.flag("deferred").map_err(invalid)?;
        let key = match words.value("key").map_err(invalid)? {
            None => None,
            Some(text) => Some(text.parse().map_err(|e| invalid(format!("key={text}: {e}")))?),
        };
        let mut message = message(words)?;
        if let Some(key) = key {
            message = message.key(key);
        }
        let (_, session) = self.session(words)?;
        end(words)?;
        let submitted =
            if deferred { session.submit_deferred(&message)? } else { session.submit(&message)? };
        Ok(json!({ "entry": submitted.entry.to_string(), "state": submitted.state.name() }))
    }

    fn draft(&mut self, words: &mut Words) -> Reply {
        let message = message(words)?;
        let (_, session) = self.session(words)?;
        end(words)?;
        let draft = session.draft(&message)?;
        Ok(self.keep(Object::Draft(draft)))
    }

    fn save(&mut self, words: &mut Words) -> Reply {
        let number = number(words, "object")?;
        end(words)?;
        let entry = match self.object(number)? {
            Object::Draft(draft) => draft.save()?,
            Object::Saved(_, entry) => *entry,
            _ => {
                let message = "there is nothing to save in this object";
                return Err(output::error(Code::E_NO_SUPPORT, message));
            }
        };
        if let Some(Object::Draft(draft)) = self.objects.remove(&number) {
            self.objects.insert(number, Object::Saved(draft, entry));
        }
        Ok(json!({ "entry": entry.to_string() }))
    }

    fn setting(&mut self, words: &mut Words) -> Reply {
        let name = words.needed("name").map_err(invalid)?;
        let value = words.value("value").map_err(invalid)?;
        let (_, session) = self.session(words)?;
        end(words)?;
        if let Some(value) = &value {
            session.set_setting(SECTION, &name, value)?;
        }
        Ok(json!({ "value": session.setting(SECTION, &name)? }))
    }

    fn abort_submit(&mut self, words: &mut Words) -> Reply {
        let entry = entry(words)?;
        let (_, session) = self.session(words)?;
        end(words)?;
        session.abort_submit(entry)?;
        Ok(json!({}))
    }

    fn flush(&mut self, words: &mut Words) -> Reply {
        let (_, session) = self.session(words)?;
        end(words)?;
        session.flush()?;
        Ok(json!({}))
    }

    fn logoff(&mut self, words: &mut Words) -> Reply {
        let mut how = match words.value("drain").map_err(invalid)? {
            None => Logoff::now(),
            Some(text) => {
                let seconds: f64 = parse(&text, "drain")?;
                let limit = Duration::try_from_secs_f64(seconds)
                    .map_err(|e| invalid(format!("drain={text}: {e}")))?;
                Logoff::after_outbound(limit)
            }
        };
        if words.flag("shared").map_err(invalid)? {
            how = how.shared();
        }
        let (_, session) = self.session(words)?;
        end(words)?;
        let left = session.logoff(how)?;
        Ok(json!({
            "invalidated": left.invalidated,
            "discarded": left.discarded,
            "queued": left.queued,
        }))
    }

    fn uninitialize(&mut self, words: &mut Words) -> Reply {
        end(words)?;
        let mapi = self.mapi.as_ref().expect("looked at before");
        mapi.log_everything_off()?;
        // Sinks and objects first: the order of the eight steps.
        self.sinks.clear();
        self.objects.clear();
        self.sessions.clear();
        self.mapi = None;
        Ok(json!({}))
    }
}

/// Several registrations of one session may ask for an event; it is one line all the same.
fn print_once(printer: &Printer, session: u64, object: Option<u64>, notice: &Notice) {
    if notice.is_first() {
        printer.event(&events::value(session, notice, object));
    }
}

fn end(words: &Words) -> Result<(), Error> {
    words.end().map_err(invalid)
}

fn parse<T: std::str::FromStr>(text: &str, key: &str) -> Result<T, Error> {
    text.parse().map_err(|_| invalid(format!("{key}={text} is not a number")))
}

fn number(words: &mut Words, key: &str) -> Result<u64, Error> {
    let text = words.needed(key).map_err(invalid)?;
    parse(&text, key)
}

fn number_or(words: &mut Words, key: &str, default: u64) -> Result<u64, Error> {
    match words.value(key).map_err(invalid)? {
        None => Ok(default),
        Some(text) => parse(&text, key),
    }
}

fn entry(words: &mut Words) -> Result<EntryId, Error> {
    let text = words.needed("entry").map_err(invalid)?;
    text.parse().map_err(|e| invalid(format!("entry={text}: {e}")))
}

fn message(words: &mut Words) -> Result<Message, Error> {
    let file = words.needed("file").map_err(invalid)?;
    let bytes = std::fs::read(&file)
        .map_err(|e| output::error(Code::E_NOT_FOUND, format!("cannot read {file}: {e}")))?;
    Ok(Message::parse(bytes))
}
