//! A Maildir for each user: what `{user}` in the path stands for depends on the recipient.
//!
//! A transmission has one recipient, so each recipient of a message has a result, an intent and a marker of its own, and what a crash
//! cuts off is found in the Maildir of that recipient. A Maildir that cannot be used keeps only its own mail back.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};

use sundown_core::local::is_user_name;
use sundown_core::provider::{
    AskedBy, Outcome, ProviderError, ProviderSpec, RecipientResult, Transmission, TransportFacts,
};
use sundown_protocol::Code;

use super::Maildir;
use crate::users::{FindUser, PLACEHOLDER, Users, name_in};
use crate::{
    NothingToSave, Prepared, ProviderShutdown, Reply, Result, Support, TransportProvider, results,
};

/// Delivers messages into the Maildirs of users.
pub struct UserMaildirs {
    spec: ProviderSpec,
    users: Users,
    support: Option<Arc<dyn Support>>,
    /// Those that were used since the logon, by user.
    open: HashMap<String, Maildir>,
    /// Whose Maildir has which prepared message.
    prepared: HashMap<u64, String>,
}

impl UserMaildirs {
    /// Makes a transport, which touches no file and asks for no user before its first message.
    pub fn new(spec: &ProviderSpec, find: &Arc<OnceLock<FindUser>>) -> Self {
        let users = Users::of(spec, find);
        let (open, prepared) = (HashMap::new(), HashMap::new());
        Self { spec: spec.clone(), users, support: None, open, prepared }
    }

    /// Whether a provider's path is one for each user.
    pub fn is_meant(spec: &ProviderSpec) -> bool {
        spec.path.to_str().is_some_and(|path| path.contains(PLACEHOLDER))
    }

    fn path_of(&self, user: &str) -> PathBuf {
        self.spec.path.to_string_lossy().replace(PLACEHOLDER, user).into()
    }

    /// The Maildir of a user, which is made if it is not there.
    fn maildir_of(&mut self, user: &str) -> Result<&mut Maildir> {
        let spec = ProviderSpec { path: self.path_of(user), ..self.spec.clone() };
        let support = self.support.clone().ok_or_else(|| {
            let text = format!("{}: no session is logged on to it", self.spec.path.display());
            ProviderError::new(Code::E_NOT_INITIALIZED, text)
        })?;
        match self.open.entry(user.to_owned()) {
            Entry::Occupied(open) => Ok(open.into_mut()),
            Entry::Vacant(vacant) => {
                let mut maildir = Maildir::new(&spec);
                maildir.logon(support)?;
                Ok(vacant.insert(maildir))
            }
        }
    }

    /// Prepares a message for its first recipient whose Maildir takes it. The others go in transmissions of their own.
    fn put(&mut self, transmission: &Transmission) -> Prepared {
        let mut refused = Vec::new();
        for (n, recipient) in transmission.recipients.iter().enumerate() {
            match self.put_for(recipient, transmission) {
                Ok(marker) => {
                    let rest = transmission.recipients[n + 1..].iter().map(|(place, _)| *place);
                    refused.extend(results(rest, Outcome::NotSent, "one Maildir at a time"));
                    return Prepared { marker, refused };
                }
                Err(result) => refused.push(result),
            }
        }
        Prepared { marker: String::new(), refused }
    }

    fn put_for(
        &mut self,
        (place, address): &(usize, String),
        transmission: &Transmission,
    ) -> std::result::Result<String, RecipientResult> {
        let user = self.users.find(address).map_err(|why| why.result(*place))?.to_owned();
        let alone = alone(transmission, *place);
        let prepared = self.maildir_of(&user).and_then(|maildir| maildir.put_into_tmp(&alone));
        let prepared = prepared.map_err(|error| RecipientResult {
            recipient: *place,
            outcome: Outcome::Later,
            reply: error.message,
        })?;
        self.prepared.insert(transmission.id, user);
        Ok(prepared.marker)
    }

    /// A user who is gone meanwhile is not asked for, and gets no new Maildir.
    fn find_out_for(
        &mut self,
        (place, address): &(usize, String),
        transmission: &Transmission,
        marker: &str,
    ) -> Vec<RecipientResult> {
        let (user, alone) = (name_in(address), alone(transmission, *place));
        let unknown = |words: String| results([*place], Outcome::Unknown, &words);
        if !is_user_name(user) || !self.path_of(user).is_dir() {
            return unknown(format!("there is no Maildir of {user:?} to look for it"));
        }
        match self.maildir_of(user) {
            Ok(maildir) => maildir.find_out(&alone, marker),
            Err(error) => unknown(error.message),
        }
    }

    fn maildir_with(&mut self, id: u64) -> Option<&mut Maildir> {
        let user = self.prepared.remove(&id)?;
        self.open.get_mut(&user)
    }
}

/// The transmission to one of its recipients.
fn alone(transmission: &Transmission, place: usize) -> Transmission {
    let mut alone = transmission.clone();
    alone.recipients.retain(|(at, _)| *at == place);
    alone
}

impl TransportProvider for UserMaildirs {
    fn logon(&mut self, support: Arc<dyn Support>) -> Result<TransportFacts> {
        self.open.clear();
        self.prepared.clear();
        self.support = Some(support);
        Ok(TransportFacts { recipients: 1, ..TransportFacts::default() })
    }

    fn prepare(&mut self, transmission: Transmission, reply: Reply<Prepared>) {
        if self.support.is_none() {
            let text = format!("{}: no session is logged on to it", self.spec.path.display());
            return reply.send(Err(ProviderError::new(Code::E_NOT_INITIALIZED, text)));
        }
        reply.send(Ok(self.put(&transmission)));
    }

    fn complete(&mut self, id: u64, reply: Reply<Vec<RecipientResult>>) {
        match self.maildir_with(id) {
            Some(maildir) => maildir.complete(id, reply),
            None => reply.send(Ok(Vec::new())),
        }
    }

    fn cancel(&mut self, id: u64) {
        if let Some(maildir) = self.maildir_with(id) {
            maildir.cancel(id);
        }
    }

    fn recover(
        &mut self,
        transmission: Transmission,
        marker: String,
        reply: Reply<Vec<RecipientResult>>,
    ) {
        let recipients = transmission.recipients.iter();
        let found = recipients.flat_map(|one| self.find_out_for(one, &transmission, &marker));
        reply.send(Ok(found.collect()));
    }

    /// Whether the directory is there that has the users' directories. Whose Maildirs can be written shows with their mail.
    fn validate(&mut self, _: AskedBy, reply: Reply<()>) {
        let is_one = |path: &&Path| !path.to_string_lossy().contains(PLACEHOLDER);
        let above = self.spec.path.ancestors().find(is_one).unwrap_or(&self.spec.path);
        let found = std::fs::read_dir(above).map(|_| ());
        reply.send(found.map_err(|error| crate::fault::io(above, &error)));
    }

    fn logoff(&mut self) -> Result<()> {
        self.support = None;
        self.open.clear();
        self.prepared.clear();
        Ok(())
    }

    fn shutdown(&mut self) -> Option<&mut dyn ProviderShutdown> {
        Some(self)
    }

    fn has_nothing_to_save(&self) -> bool {
        true
    }
}

/// As of a [`Maildir`].
impl NothingToSave for UserMaildirs {}
