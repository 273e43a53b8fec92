//! How an address book is used, and what only address books owe.

use std::sync::Arc;

use sundown_core::provider::{AddressCall, Known, ProviderAnswer, ProviderError};
use sundown_protocol::Code;
use sundown_protocol::request::AddressAction;

use crate::{AddressBookProvider, ProviderShutdown, Result};

use super::runner::{Check, Steps, Verdict, broken};
use super::shutdown::{self, Failure, Subject, Used};
use super::{LOGON_AGAIN, NEIGHBOURS_UNAFFECTED, WORKS, fits, unique};

type Make = Arc<dyn Fn() -> Result<Box<dyn AddressBookProvider>> + Send + Sync>;

/// An address book, and the names that were added to it.
pub(super) struct AddressBook {
    make: Make,
    made: Option<Box<dyn AddressBookProvider>>,
    names: Vec<String>,
}

/// A constructor of subjects.
pub(super) fn subjects(
    make: impl Fn() -> Result<Box<dyn AddressBookProvider>> + Send + Sync + 'static,
) -> impl Fn() -> AddressBook {
    let make: Make = Arc::new(make);
    move || AddressBook { make: Arc::clone(&make), made: None, names: Vec::new() }
}

/// Those of shutdowns, and an address book's own.
pub(super) fn checks() -> Vec<Check<AddressBook>> {
    let mut checks = shutdown::checks();
    checks.extend([
        Check { name: "every session has an object", run: every_session_has_an_object },
        Check { name: "each call has its answer", run: each_call_has_its_answer },
    ]);
    checks
}

impl AddressBook {
    fn object(&mut self) -> Result<&mut Box<dyn AddressBookProvider>> {
        if self.made.is_none() {
            self.made = Some((self.make)()?);
        }
        let gone = || ProviderError::new(Code::E_NOT_INITIALIZED, "the kit has no object");
        self.made.as_mut().ok_or_else(gone)
    }

    /// Adds a name, unless the book is one that cannot be changed.
    fn add(&mut self) -> Used {
        let name = format!("Conformance {:x}", unique());
        let action = AddressAction::Add {
            name: name.clone(),
            addresses: vec![format!("{:x}@localhost", unique())],
        };
        let added = self.object().and_then(|book| book.call(&AddressCall::Act(action)));
        match added {
            Ok(ProviderAnswer::Address(row)) if row.name == name => {
                self.names.push(name);
                Ok(())
            }
            Err(error) if [Code::E_NO_SUPPORT, Code::E_NO_ACCESS].contains(&error.code) => Ok(()),
            Err(error) => Err(Failure::of("adding a name", &error)),
            other => Err(format!("adding a name answers {other:?}").into()),
        }
    }

    fn list(&mut self) -> Used {
        let listed = self.object().and_then(|b| b.call(&AddressCall::List { after: 0, limit: 10 }));
        match listed {
            Ok(ProviderAnswer::Addresses { .. }) => Ok(()),
            Err(error) => Err(Failure::of("listing", &error)),
            other => Err(format!("listing answers {other:?}").into()),
        }
    }

    fn has_names(&mut self) -> Used {
        for name in self.names.clone() {
            resolves(
                self.object().map_err(|error| Failure::of("a call", &error))?.as_mut(),
                &name,
            )?;
        }
        Ok(())
    }
}

fn resolves(book: &mut dyn AddressBookProvider, name: &str) -> Used {
    let action = AddressAction::Resolve { name: name.to_owned() };
    match book.call(&AddressCall::Act(action)) {
        Ok(ProviderAnswer::Address(row)) if row.name == name => Ok(()),
        Err(error) => Err(Failure::of("resolving a name that was added", &error)),
        other => Err(format!("a name that was added is not resolved: {other:?}").into()),
    }
}

impl Subject for AddressBook {
    fn renew(&mut self) -> Result<()> {
        self.made = None;
        self.object().map(drop)
    }

    fn logon(&mut self) -> Result<()> {
        self.object()?.logon()
    }

    fn logoff(&mut self) -> Result<()> {
        self.object()?.logoff()
    }

    fn interface(&mut self) -> Option<&mut dyn ProviderShutdown> {
        self.made.as_mut()?.shutdown()
    }

    fn has_nothing_to_save(&self) -> bool {
        self.made.as_ref().is_some_and(|book| book.has_nothing_to_save())
    }

    fn work(&mut self) -> Used {
        self.add()?;
        self.list()?;
        self.has_names()
    }

    fn hand_over(&mut self) -> Used {
        self.add()
    }

    fn is_kept(&mut self) -> Used {
        self.has_names()
    }

    fn is_kept_beside(&mut self) -> Used {
        let told = |error: ProviderError| Failure::of("a second object", &error);
        let mut second = (self.make)().map_err(told)?;
        if second.logon().is_err() {
            return Ok(());
        }
        self.names.iter().try_for_each(|name| resolves(second.as_mut(), name))?;
        second.logoff().map_err(told)
    }
}

fn each_call_has_its_answer(book: &mut AddressBook, steps: &Steps) -> Verdict {
    steps.note("logon");
    book.logon().or_else(|error| broken(WORKS, error.to_string()))?;
    let name = format!("Conformance {:x}", unique());
    let addresses = vec![format!("{:x}@localhost", unique())];
    let add = |name: &String| AddressAction::Add { name: name.clone(), addresses };
    let calls = [
        AddressCall::Act(add(&name)),
        AddressCall::Act(AddressAction::Resolve { name: name.clone() }),
        AddressCall::List { after: 0, limit: 1 },
        AddressCall::Act(AddressAction::Remove { name }),
    ];
    for call in calls {
        let words = format!("{call:?}");
        steps.note(&words);
        let object = book.object().or_else(|error| broken(WORKS, error.to_string()))?;
        fits(&words, call.expects(), &object.call(&call), Known::default())?;
    }
    Ok(())
}

/// Two sessions that name one book have an object each. The end of one leaves the other alone, and what one adds the
/// other has later. A logon that is refused meanwhile succeeds afterwards.
fn every_session_has_an_object(book: &mut AddressBook, steps: &Steps) -> Verdict {
    steps.note("logon");
    book.logon().or_else(|error| broken(WORKS, error.to_string()))?;
    book.work().or_else(|why| broken(WORKS, why))?;
    steps.note("logon of a second object");
    let mut second = (book.make)().or_else(|error| broken(WORKS, error.to_string()))?;
    let refused = second.logon().is_err();
    book.work().or_else(|why| broken(NEIGHBOURS_UNAFFECTED, why))?;
    steps.note("logoff of the first");
    let _ = book.logoff();
    book.made = Some(second);
    if refused {
        steps.note("logon of the second");
        book.logon().or_else(|error| broken(LOGON_AGAIN, error.to_string()))?;
    }
    book.work().or_else(|why| broken(NEIGHBOURS_UNAFFECTED, why))
}
