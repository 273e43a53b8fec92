//! `sundown inbox`, `read`, `search` and `folders`: mail for people at a terminal.
//!
//! ```text
//! arguments  the options
//! folder     how people name folders
//! entry      which message is meant
//! fresh      mailboxes look for new mail before a list is made
//! inbox      the rows of a folder
//! message    what is printed of a message
//! text       a message: its fields, its text, its attachments
//! parts      where the parts of a message begin and end
//! decode     transfer encodings and character sets
//! html       HTML as text
//! save       attachments as files
//! ```
//!
//! A message comes from anybody. What of it is looked at has limits, which a reader is told where they cut something; what is shown goes through
//! [`crate::safe`].

pub(crate) mod arguments;
mod decode;
mod entry;
pub(crate) mod folder;
mod fresh;
mod html;
pub(crate) mod inbox;
pub(crate) mod message;
mod parts;
pub(crate) mod save;
pub(crate) mod text;

use std::process::ExitCode;

use sundown_client::{Error, Flags, Logoff, Mapi, Marks, Session};

use crate::cli::{Autostart, Context};
use crate::output::{self, Reader};
use arguments::{InboxArguments, ReadArguments, SearchArguments};
use entry::Wanted;
use folder::Paths;
use inbox::{Row, Which, Whom};
use message::Before;

/// `sundown folders`
pub(crate) fn folders(context: &Context) -> Result<ExitCode, Error> {
    let folders = visit(context, |session| {
        fresh::look(session)?;
        session.default_store()?.folders()
    })?;
    let document = folders.iter().map(folder::value).collect();
    output::show(context.json, &document, || folder::list(&folders))?;
    Ok(ExitCode::SUCCESS)
}

/// `sundown inbox`
pub(crate) fn inbox(context: &Context, arguments: &InboxArguments) -> Result<ExitCode, Error> {
    let which = if arguments.unread { Which::Unread } else { Which::All };
    let (rows, folder) = visit(context, |session| {
        fresh::look(session)?;
        let folder = session.folder(folder::find(session, &arguments.folder)?)?;
        let rows = inbox::newest(&folder, which, arguments.limit as usize)?;
        Ok((rows, folder.kind()))
    })?;
    inbox::print(context.json, &rows, Whom::of(folder))?;
    Ok(ExitCode::SUCCESS)
}

/// `sundown search`
pub(crate) fn search(context: &Context, arguments: &SearchArguments) -> Result<ExitCode, Error> {
    let (rows, unindexed) = visit(context, |session| {
        let store = session.default_store()?;
        let mut search = store.search(arguments.words.join(" ")).limit(arguments.limit as usize);
        if let Some(folder) = &arguments.folder {
            search = search.in_folder(folder::find(session, folder)?);
        }
        let found = search.by_ref().collect::<Result<Vec<_>, _>>()?;
        // Programs know folders by their words.
        let folders = if context.json { Vec::new() } else { store.folders()? };
        let paths = Paths::of(&folders);
        let row = |message: sundown_client::ContentsRow| Row {
            number: None,
            folder: Some(paths.path(message.folder)),
            message,
        };
        Ok((found.into_iter().map(row).collect::<Vec<_>>(), search.unindexed()))
    })?;
    if let Some(warning) = unsearched(unindexed) {
        output::complain(&warning);
    }
    inbox::print(context.json, &rows, Whom::From)?;
    Ok(ExitCode::SUCCESS)
}

/// What is said of messages that were not searched.
fn unsearched(messages: u64) -> Option<String> {
    let are = match messages {
        0 => return None,
        1 => "1 message is".to_owned(),
        n => format!("{n} messages are"),
    };
    Some(format!("{are} not in the index yet and may be missing here; search again in a while"))
}

/// `sundown read`
pub(crate) fn read(context: &Context, arguments: &ReadArguments) -> Result<ExitCode, Error> {
    arguments.check(context.json)?;
    let wanted = Wanted::parse(&arguments.entry)?;
    visit(context, |session| {
        if !matches!(wanted, Wanted::Whole(_)) {
            fresh::look(session)?;
        }
        let place = arguments.folder.as_deref();
        let place = place.map(|place| folder::find(session, place)).transpose()?;
        let found = wanted.find(session, place)?;
        let marks = match found.marks {
            Some(marks) => marks,
            None => session.set_flags(found.entry, &Flags::default(), &Flags::default())?.marks,
        };
        let is_read = marks.contains(Marks::READ);
        let before = if is_read { Before::Read } else { Before::Unread };
        let message = session.open_message(found.entry)?;
        let reader = message::print(context.json, arguments, before, &message)?;
        drop(message);
        // Nobody has read what was not written.
        if reader == Reader::There && !is_read && !arguments.keep_unread {
            let read = Flags { marks: Marks::READ, ..Flags::default() };
            session.set_flags(found.entry, &read, &Flags::default()).map_err(|error| {
                let text = format!("the message is shown, but not marked as read: {error}");
                output::error(error.code(), text)
            })?;
        }
        Ok(ExitCode::SUCCESS)
    })
}

/// Logs on for a few calls. It is a logon with mail, because a session without such a member receives none.
fn visit<T>(
    context: &Context,
    calls: impl FnOnce(&Session) -> Result<T, Error>,
) -> Result<T, Error> {
    visit_with(context, &context.initialize(Autostart::Yes)?, calls)
}

/// The same with a library that is used for more.
pub(crate) fn visit_with<T>(
    context: &Context,
    mapi: &Mapi,
    calls: impl FnOnce(&Session) -> Result<T, Error>,
) -> Result<T, Error> {
    let session = mapi.logon(context.logon())?;
    let found = calls(&session)?;
    session.logoff(Logoff::now())?;
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_that_were_not_searched_are_counted() {
        assert_eq!(unsearched(0), None);
        assert!(unsearched(1).is_some_and(|text| text.starts_with("1 message is not in")));
        assert!(unsearched(2).is_some_and(|text| text.starts_with("2 messages are not in")));
    }
}
