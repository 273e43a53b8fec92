//! An account's mailboxes, mirrored into the store.

use std::sync::Arc;

use sundown_core::provider::{MailboxCall, ProviderError, ProviderSpec};
use sundown_protocol::Code;

use super::settings::Settings;
use super::worker;
use crate::mailbox::{self, Answered, Seat};
use crate::{MailboxProvider, MailboxSupport, NothingToSave, ProviderShutdown, Result};

/// The threads of a broker's accounts.
#[derive(Default)]
pub struct Desks(mailbox::Desks<Settings>);

/// Mirrors an account at an IMAP server into the store, and carries out there what programs change.
///
/// The provider is only a handle: a thread does all the work, one for all sessions that show the account in one store, so that every call
/// is answered at once.
pub struct ImapMailbox {
    settings: Settings,
    desks: Arc<Desks>,
    support: Option<Arc<dyn MailboxSupport>>,
    seat: Option<Seat>,
}

impl ImapMailbox {
    /// Makes a mailbox, which uses no network before it is to watch. Mailboxes with the same desks share the work for one account.
    pub fn new(spec: &ProviderSpec, desks: &Arc<Desks>) -> Result<Self> {
        let settings = Settings::of(spec).map_err(|error| {
            let text = format!("mailbox {:?}: {}", spec.name, error.message);
            ProviderError::new(error.code, text)
        })?;
        Ok(Self { settings, desks: Arc::clone(desks), support: None, seat: None })
    }

    /// Has the desk of a store watch.
    fn watch(&mut self, store: u32, support: &Arc<dyn MailboxSupport>) -> Result<()> {
        if self.seat.as_ref().is_none_or(|seat| !seat.is_of(store)) {
            self.seat = Some(self.desks.0.join(&self.settings, store, support)?);
        }
        self.seat.as_ref().expect("it was taken just before").watch();
        Ok(())
    }
}

impl MailboxProvider for ImapMailbox {
    fn logon(&mut self, support: Arc<dyn MailboxSupport>) -> Result<()> {
        (self.seat, self.support) = (None, Some(support));
        Ok(())
    }

    fn call(&mut self, call: MailboxCall, reply: Answered) {
        let Some(support) = self.support.clone() else {
            let text = format!("{}: no session is logged on to it", self.settings.place());
            return reply.send(Err(ProviderError::new(Code::E_NOT_INITIALIZED, text)));
        };
        match (call, &self.seat) {
            (MailboxCall::Watch { store }, _) => {
                reply.send(self.watch(store, &support).map(|()| None));
            }
            (MailboxCall::Changed, Some(seat)) => seat.changed(reply),
            (MailboxCall::Validate | MailboxCall::Sync, Some(seat)) => seat.look(reply),
            (MailboxCall::Validate | MailboxCall::Sync, None) => {
                worker::try_apart(self.settings.clone(), reply);
            }
            (MailboxCall::Fetch { record }, Some(seat)) => seat.fetch(record, reply),
            (MailboxCall::Fetch { .. }, None) => {
                let text = "the account is not connected; the message is fetched when a program with mail is there";
                reply.send(Err(ProviderError::new(Code::E_OFFLINE, text)));
            }
            (MailboxCall::Rest, seat) => {
                seat.iter().for_each(Seat::rest);
                reply.send(Ok(None));
            }
            // A mailbox that has never watched has nothing that could be pending.
            (MailboxCall::Changed, None) => reply.send(Ok(None)),
        }
    }

    fn logoff(&mut self) -> Result<()> {
        (self.seat, self.support) = (None, None);
        Ok(())
    }

    fn shutdown(&mut self) -> Option<&mut dyn ProviderShutdown> {
        Some(self)
    }

    fn has_nothing_to_save(&self) -> bool {
        true
    }
}

/// What programs have changed is in the store until it is done at the server, so the mailbox has nothing of it to save.
impl NothingToSave for ImapMailbox {}
