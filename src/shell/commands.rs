//! The commands of the shell: one function each. Those about folders and what is in them are in `folders.rs`.

use std::collections::BTreeMap;
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use serde_json::{Value, json};
use sundown_client::{
    AddressBook, Code, Draft, EntryId, Error, Events, Folder, FolderKind, Logoff, LogoffAnswer,
    Logon, Mapi, Message, Notice, OnEndOfSession, OpenMessage, Reference, Referenced, Session,
    Sink, StatusTable, Store, Token,
};

use super::folders::{self, Listing, message_row};
use super::help::COMMANDS;
use super::line::Words;
use super::{Printer, events};
use crate::output::{self, invalid};

/// The profile section of this program.
const SECTION: &str = "sundown-shell";

/// The state of the shell: its use of the library.
pub(crate) struct Shell {
    mapi: Mapi,
    /// Whether the library was uninitialized or the process shut down: then no call is made.
    left: bool,
    profile: Option<String>,
    printer: &'static Printer,
    sessions: BTreeMap<u64, Session>,
    /// Open objects, each with its session; an object that another process granted has session 0.
    objects: BTreeMap<u64, (u64, Object)>,
    sinks: BTreeMap<u64, Sink>,
    /// Tokens, each with the session of its object.
    grants: BTreeMap<String, u64>,
    made: u64,
    /// The message that came behind the line of this command.
    body: Option<Result<Vec<u8>, Error>>,
}

enum Object {
    Store(Store),
    Folder(Folder),
    Message(OpenMessage),
    Reference(Reference),
    AddressBook(AddressBook),
    StatusTable(StatusTable),
    Draft(Draft),
    /// A saved draft; the open object is the message now.
    Saved {
        entry: EntryId,
        _open: Draft,
    },
}

pub(super) type Reply = Result<Value, Error>;

impl Shell {
    pub(crate) fn new(mapi: Mapi, profile: Option<String>, printer: &'static Printer) -> Self {
        Self {
            mapi,
            left: false,
            profile,
            printer,
            sessions: BTreeMap::new(),
            objects: BTreeMap::new(),
            sinks: BTreeMap::new(),
            grants: BTreeMap::new(),
            made: 0,
            body: None,
        }
    }

    pub(super) fn mapi(&self) -> &Mapi {
        &self.mapi
    }

    /// Carries out a command. Each command takes its own arguments, and an argument that is left is an error. `body` is the message
    /// that came behind the line.
    pub(crate) fn carry_out(
        &mut self,
        mut words: Words,
        body: Option<Result<Vec<u8>, Error>>,
    ) -> Reply {
        if self.left {
            let message = "this process has left; start another one";
            return Err(output::error(Code::E_NOT_INITIALIZED, message));
        }
        self.body = body;
        let Some(command) = COMMANDS.iter().find(|command| command.name == words.command) else {
            let name = &words.command;
            return Err(invalid(format!("there is no command {name:?}; `help` lists them")));
        };
        (command.run)(self, &mut words)
    }

    /// The message of a command: a file, base64 in the line, or the bytes behind the line.
    pub(super) fn content(&mut self, words: &mut Words) -> Result<Vec<u8>, Error> {
        let file = words.value("file").map_err(invalid)?;
        let content = words.value("content").map_err(invalid)?;
        let size = words.value("size").map_err(invalid)?;
        match (file, content, size) {
            (Some(file), None, None) => std::fs::read(&file)
                .map_err(|e| output::error(Code::E_NOT_FOUND, format!("cannot read {file}: {e}"))),
            (None, Some(content), None) => BASE64
                .decode(&content)
                .map_err(|e| invalid(format!("content=… is not base64: {e}"))),
            (None, None, Some(size)) => self
                .body
                .take()
                .unwrap_or_else(|| Err(invalid(format!("size={size} is not a number")))),
            _ => {
                let command = &words.command;
                let why = "file=PATH, content=BASE64 and size=N (that many bytes behind the line)";
                Err(invalid(format!("{command} needs exactly one of {why}")))
            }
        }
    }

    fn number(&mut self) -> u64 {
        self.made += 1;
        self.made
    }

    pub(super) fn session(&self, words: &mut Words) -> Result<(u64, &Session), Error> {
        let number = number(words, "session")?;
        let session = self
            .sessions
            .get(&number)
            .ok_or_else(|| invalid(format!("there was no session {number} in this shell")))?;
        Ok((number, session))
    }

    pub(super) fn logon(&mut self, words: &mut Words) -> Reply {
        let profile = words.value("profile").map_err(invalid)?.or_else(|| self.profile.clone());
        let private = words.flag("private").map_err(invalid)?;
        let no_mail = words.flag("no-mail").map_err(invalid)?;
        let download = words.flag("download").map_err(invalid)?;
        end(words)?;
        let mut logon = if private { Logon::private() } else { Logon::shared() };
        if let Some(profile) = profile {
            logon = logon.profile(profile);
        }
        if no_mail {
            logon = logon.no_mail();
        }
        if download {
            logon = logon.force_download();
        }
        let session = self.mapi.logon(logon.on_end_of_session(OnEndOfSession::Stay))?;
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

    /// Prints the notices for which the shell registered no sink, and which it must print all the same.
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

    pub(super) fn advise(&mut self, words: &mut Words) -> Reply {
        let events = match words.value("events").map_err(invalid)? {
            None => Events::CRITICAL_ERROR,
            Some(names) => names.parse().map_err(|e| invalid(format!("{e}")))?,
        };
        let object = match words.value("object").map_err(invalid)? {
            None => None,
            Some(text) => Some(parse(&text, "object")?),
        };
        let (printer, connection) = (self.printer, self.made + 1);
        let sink = match object {
            None => {
                let (number, session) = self.session(words)?;
                end(words)?;
                session.advise(events, move |n| print_once(printer, number, None, n))?
            }
            Some(number) => {
                let wanted = words.value("session").map_err(invalid)?;
                end(words)?;
                let object = self.object(number)?;
                let session = self.objects[&number].0;
                if wanted.is_some_and(|wanted| wanted != session.to_string()) {
                    return Err(invalid(format!("object {number} is of session {session}")));
                }
                let told = move |n: &Notice| print_once(printer, session, Some(number), n);
                match object {
                    Object::Store(store) => store.advise(events, told),
                    Object::Folder(folder) => folder.advise(events, told),
                    Object::Message(message) => message.advise(events, told),
                    Object::AddressBook(book) => book.advise(events, told),
                    Object::StatusTable(table) => table.advise(events, told),
                    Object::Draft(_) | Object::Saved { .. } | Object::Reference(_) => {
                        let message = "this object does not notify";
                        Err(output::error(Code::E_NO_SUPPORT, message))
                    }
                }?
            }
        };
        self.made = connection;
        self.sinks.insert(connection, sink);
        Ok(json!({ "connection": connection }))
    }

    pub(super) fn unadvise(&mut self, words: &mut Words) -> Reply {
        let number = number(words, "connection")?;
        end(words)?;
        let sink = self.sinks.remove(&number).ok_or_else(|| {
            let message = format!("there is no connection {number} in this shell");
            output::error(Code::E_NOT_FOUND, message)
        })?;
        sink.unadvise()?;
        Ok(json!({}))
    }

    pub(super) fn open(&mut self, words: &mut Words) -> Reply {
        let what = words.needed("what").map_err(invalid)?;
        let entry = words.value("entry").map_err(invalid)?;
        let folder = match what.as_str() {
            "folder" => Some(folders::folder(words)?),
            name => FolderKind::BUILT_IN.into_iter().find(|f| f.built_in() == Some(name)),
        };
        let store = match what.as_str() {
            "message" | "address-book" | "status-table" => 0,
            _ => folders::place(words)?,
        };
        let (of, session) = self.session(words)?;
        end(words)?;
        if let Some(entry) = &entry {
            if what != "message" {
                return Err(invalid("entry=… goes with what=message"));
            }
            let entry = entry.parse().map_err(|e| invalid(format!("entry={entry}: {e}")))?;
            let message = session.open_message(entry)?;
            return Ok(self.keep(of, Object::Message(message)));
        }
        let object = match (what.as_str(), folder) {
            (_, Some(folder)) => Object::Folder(session.store(store)?.folder(folder)?),
            ("store", None) => Object::Store(session.store(store)?),
            ("address-book", None) => Object::AddressBook(session.address_book()?),
            ("status-table", None) => Object::StatusTable(session.status_table()?),
            ("message", None) => return Err(invalid("open what=message needs entry=…")),
            (name, None) => {
                return Err(invalid(format!(
                    "{name:?} cannot be opened; store, folder, inbox, outbox, sent, drafts, deleted, \
                     message, address-book and status-table can"
                )));
            }
        };
        Ok(self.keep(of, object))
    }

    fn keep(&mut self, session: u64, object: Object) -> Value {
        let number = self.number();
        self.objects.insert(number, (session, object));
        json!({ "object": number })
    }

    fn object(&self, number: u64) -> Result<&Object, Error> {
        self.objects.get(&number).map(|(_, object)| object).ok_or_else(|| {
            let message = format!("object {number} was released, or never opened in this shell");
            output::error(Code::E_INVALID_OBJECT, message)
        })
    }

    pub(super) fn list(&mut self, words: &mut Words) -> Reply {
        let number = number(words, "object")?;
        let listing = Listing::take(words)?;
        end(words)?;
        let object = self.object(number)?;
        if !listing.is_plain() && !matches!(object, Object::Folder(_)) {
            let message = "sort, order, limit and unread are for folders that this shell opened";
            return Err(output::error(Code::E_NO_SUPPORT, message));
        }
        let rows: Vec<_> = match object {
            Object::Folder(folder) => listing.rows(folder)?,
            Object::Reference(reference) => {
                let folder = match reference.granted() {
                    Referenced::Folder(folder) => Some(folder),
                    Referenced::Message(_) => None,
                };
                reference.messages()?.iter().map(|row| message_row(row, folder)).collect()
            }
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
            Object::Store(_) | Object::Message(_) | Object::Draft(_) | Object::Saved { .. } => {
                return Err(output::error(
                    Code::E_NO_SUPPORT,
                    "this object has no rows; list a folder, the address book or the status table",
                ));
            }
        };
        Ok(json!({ "rows": rows }))
    }

    pub(super) fn release(&mut self, words: &mut Words) -> Reply {
        let number = number(words, "object")?;
        end(words)?;
        self.object(number)?;
        self.objects.remove(&number);
        Ok(json!({}))
    }

    pub(super) fn read(&mut self, words: &mut Words) -> Reply {
        let bytes = if let Some(object) = words.value("object").map_err(invalid)? {
            end(words)?;
            let Object::Reference(reference) = self.object(parse(&object, "object")?)? else {
                let message = "this object is not a granted message; read it by its entry";
                return Err(output::error(Code::E_NO_SUPPORT, message));
            };
            reference.read()?
        } else {
            let entry = entry(words)?;
            let (_, session) = self.session(words)?;
            end(words)?;
            session.read(entry)?
        };
        Ok(json!({ "size": bytes.len(), "content": String::from_utf8_lossy(&bytes) }))
    }

    pub(super) fn submit(&mut self, words: &mut Words) -> Reply {
        let deferred = words.flag("deferred").map_err(invalid)?;
        let key = match words.value("key").map_err(invalid)? {
            None => None,
            Some(text) => Some(text.parse().map_err(|e| invalid(format!("key={text}: {e}")))?),
        };
        let mut message = Message::parse(self.content(words)?);
        if let Some(key) = key {
            message = message.key(key);
        }
        let (_, session) = self.session(words)?;
        end(words)?;
        let submitted =
            if deferred { session.submit_deferred(&message)? } else { session.submit(&message)? };
        Ok(json!({ "entry": submitted.entry.to_string(), "state": submitted.state.name() }))
    }

    pub(super) fn draft(&mut self, words: &mut Words) -> Reply {
        let message = Message::parse(self.content(words)?);
        let (of, session) = self.session(words)?;
        end(words)?;
        let draft = session.draft(&message)?;
        Ok(self.keep(of, Object::Draft(draft)))
    }

    pub(super) fn save(&mut self, words: &mut Words) -> Reply {
        let number = number(words, "object")?;
        end(words)?;
        let entry = match self.object(number)? {
            Object::Draft(draft) => draft.save()?,
            Object::Saved { entry, .. } => *entry,
            _ => {
                let message = "there is nothing to save in this object";
                return Err(output::error(Code::E_NO_SUPPORT, message));
            }
        };
        if let Some((of, Object::Draft(draft))) = self.objects.remove(&number) {
            self.objects.insert(number, (of, Object::Saved { entry, _open: draft }));
        }
        Ok(json!({ "entry": entry.to_string() }))
    }

    pub(super) fn setting(&mut self, words: &mut Words) -> Reply {
        let name = words.needed("name").map_err(invalid)?;
        let value = words.value("value").map_err(invalid)?;
        let (_, session) = self.session(words)?;
        end(words)?;
        if let Some(value) = &value {
            session.set_setting(SECTION, &name, value)?;
        }
        Ok(json!({ "value": session.setting(SECTION, &name)? }))
    }

    pub(super) fn abort_submit(&mut self, words: &mut Words) -> Reply {
        let entry = entry(words)?;
        let (_, session) = self.session(words)?;
        end(words)?;
        session.abort_submit(entry)?;
        Ok(json!({}))
    }

    pub(super) fn flush(&mut self, words: &mut Words) -> Reply {
        let (_, session) = self.session(words)?;
        end(words)?;
        session.flush()?;
        Ok(json!({}))
    }

    pub(super) fn logoff(&mut self, words: &mut Words) -> Reply {
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
        let answer = match words.value("ui").map_err(invalid)?.as_deref() {
            None => None,
            Some("yes") => Some(LogoffAnswer::LogOff),
            Some("no") => Some(LogoffAnswer::Cancel),
            Some(other) => return Err(invalid(format!("ui={other} is neither yes nor no"))),
        };
        let (number, session) = self.session(words)?;
        end(words)?;
        let left = match answer {
            None => session.logoff(how)?,
            Some(answer) => session.logoff_asking(how, |question| {
                self.printer.event(&events::question(number, question));
                answer
            })?,
        };
        Ok(json!({
            "invalidated": left.invalidated,
            "discarded": left.discarded,
            "queued": left.queued,
        }))
    }

    pub(super) fn uninitialize(&mut self, words: &mut Words) -> Reply {
        end(words)?;
        self.mapi.log_everything_off()?;
        // Sinks and objects are dropped first, in the order of the eight steps.
        self.sinks.clear();
        self.objects.clear();
        self.sessions.clear();
        self.left = true;
        Ok(json!({}))
    }

    pub(super) fn query_fast_shutdown(&mut self, words: &mut Words) -> Reply {
        end(words)?;
        self.mapi.client_shutdown().query_fast_shutdown()?;
        Ok(json!({}))
    }

    pub(super) fn notify_process_shutdown(&mut self, words: &mut Words) -> Reply {
        end(words)?;
        self.mapi.client_shutdown().notify_process_shutdown()?;
        Ok(json!({}))
    }

    pub(super) fn do_fast_shutdown(&mut self, words: &mut Words) -> Reply {
        end(words)?;
        self.mapi.client_shutdown().do_fast_shutdown()?;
        self.left = true;
        Ok(json!({}))
    }

    pub(super) fn shut_down(&mut self, words: &mut Words) -> Reply {
        end(words)?;
        let path = self.mapi.begin_shut_down()?;
        self.left = true;
        Ok(json!({ "path": path.name() }))
    }

    pub(super) fn grant(&mut self, words: &mut Words) -> Reply {
        let number = number(words, "object")?;
        let pid = match words.value("pid").map_err(invalid)? {
            None => None,
            Some(text) => Some(parse(&text, "pid")?),
        };
        end(words)?;
        let token = match self.object(number)? {
            Object::Folder(folder) => folder.grant(pid)?,
            Object::Message(message) => message.grant(pid)?,
            _ => {
                let message = "only a message or a folder can be granted";
                return Err(output::error(Code::E_NO_SUPPORT, message));
            }
        };
        let session = self.objects[&number].0;
        self.grants.insert(token.to_string(), session);
        Ok(json!({ "token": token.to_string() }))
    }

    pub(super) fn redeem(&mut self, words: &mut Words) -> Reply {
        let token = token(words)?;
        end(words)?;
        let reference = self.mapi.redeem(token)?;
        let (events, printer, number) = (reference.events().clone(), self.printer, self.made + 1);
        let spawned =
            std::thread::Builder::new().name(format!("reference {number}")).spawn(move || {
                for notice in events {
                    printer.event(&events::lost(number, &notice));
                }
            });
        spawned.map_err(|e| output::error(Code::E_NOT_ENOUGH_RESOURCES, e.to_string()))?;
        Ok(self.keep(0, Object::Reference(reference)))
    }

    pub(super) fn revoke(&mut self, words: &mut Words) -> Reply {
        let token = token(words)?;
        end(words)?;
        let session = self.grants.get(&token.to_string()).and_then(|s| self.sessions.get(s));
        let session = session.ok_or_else(|| {
            output::error(Code::E_NOT_FOUND, "this shell has granted nothing by this token")
        })?;
        session.revoke(token)?;
        self.grants.remove(&token.to_string());
        Ok(json!({}))
    }
}

fn token(words: &mut Words) -> Result<Token, Error> {
    let text = words.needed("token").map_err(invalid)?;
    // A token is a secret, so the error does not repeat it.
    text.parse().map_err(|e| invalid(format!("token: {e}")))
}

/// Prints a notice once, even if several registrations of a session match it.
fn print_once(printer: &Printer, session: u64, object: Option<u64>, notice: &Notice) {
    if notice.is_first() {
        printer.event(&events::value(session, notice, object));
    }
}

pub(super) fn end(words: &Words) -> Result<(), Error> {
    words.end().map_err(invalid)
}

pub(super) fn parse<T: std::str::FromStr>(text: &str, key: &str) -> Result<T, Error> {
    text.parse().map_err(|_| invalid(format!("{key}={text} is not a number")))
}

fn number(words: &mut Words, key: &str) -> Result<u64, Error> {
    let text = words.needed(key).map_err(invalid)?;
    parse(&text, key)
}

pub(super) fn entry(words: &mut Words) -> Result<EntryId, Error> {
    let text = words.needed("entry").map_err(invalid)?;
    text.parse().map_err(|e| invalid(format!("entry={text}: {e}")))
}
