//! The error type of this library. It has a method for each question that a program may ask, and keeps its sources.

use std::fmt;
use std::io;

use sundown_protocol::{Code, Correlation, Fault, FaultDetail};

use crate::link::Refusal;
use crate::paths::{Environment, note_of_ignored};

/// Why a call failed.
///
/// ```
/// # fn show(error: &sundown_client::Error) {
/// eprintln!("{error}"); // what happened, to what, and what to do
/// assert!(error.code().name().starts_with("MAPI_E_"));
/// if error.is_end_of_session() { /* the session is over: log on again, or leave */ }
/// # }
/// ```
pub struct Error(Box<Kind>);

enum Kind {
    /// The broker refused the request.
    Fault(Fault, Option<Correlation>),
    /// The broker refused a repeated request. The first attempt may have been carried out.
    Repeated(Fault, Option<Correlation>),
    /// The connection ended before a request was sent, or the request may be repeated.
    Disconnected(String, Asked),
    /// The request may have been carried out, and must not be repeated.
    Unknown(String, Code),
    /// The program's limit ended the wait.
    GaveUp(Code, String, Asked),
    /// No broker could be reached.
    Unreachable { what: String, source: Option<io::Error> },
}

/// Whether the broker may have received the request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Asked {
    Perhaps,
    No,
}

impl Error {
    /// An error with this code, for programs that report their own errors in the same way.
    pub fn new(code: Code, message: impl Into<String>) -> Self {
        Self::fault(code, message)
    }

    /// The same error with a detail.
    #[must_use]
    pub fn with_detail(self, detail: FaultDetail) -> Self {
        match *self.0 {
            Kind::Fault(fault, at) => Self(Box::new(Kind::Fault(fault.with(detail), at))),
            Kind::Repeated(fault, at) => Self(Box::new(Kind::Repeated(fault.with(detail), at))),
            other => Self(Box::new(other)),
        }
    }

    pub(crate) fn fault(code: Code, message: impl Into<String>) -> Self {
        Fault::new(code, message).into()
    }

    pub(crate) fn disconnected(why: impl Into<String>) -> Self {
        Self(Box::new(Kind::Disconnected(why.into(), Asked::Perhaps)))
    }

    /// The connection ended before the request was sent.
    pub(crate) fn not_asked(why: impl Into<String>) -> Self {
        Self(Box::new(Kind::Disconnected(why.into(), Asked::No)))
    }

    /// Whether the broker may have carried out the request although no answer came.
    pub(crate) fn may_be_done(&self) -> bool {
        matches!(
            *self.0,
            Kind::Disconnected(_, Asked::Perhaps) | Kind::GaveUp(_, _, Asked::Perhaps)
        )
    }

    /// Turns this error into one whose outcome is unknown.
    pub(crate) fn outcome_unknown(self) -> Self {
        let code = if self.has_given_up() { self.code() } else { Code::E_NETWORK_ERROR };
        Self(Box::new(Kind::Unknown(self.to_string(), code)))
    }

    /// The program's limit ended the wait before a request was sent.
    pub(crate) fn gave_up(code: Code, why: impl Into<String>) -> Self {
        Self(Box::new(Kind::GaveUp(code, why.into(), Asked::No)))
    }

    /// Turns an error that a limit caused into one of a call that waits for an answer.
    pub(crate) fn while_asked(self) -> Self {
        match *self.0 {
            Kind::GaveUp(code, why, _) => Self(Box::new(Kind::GaveUp(code, why, Asked::Perhaps))),
            other => Self(Box::new(other)),
        }
    }

    pub(crate) fn has_given_up(&self) -> bool {
        matches!(*self.0, Kind::GaveUp(..))
    }

    /// Marks a refusal as that of a repeated request.
    pub(crate) fn of_a_repeat(self) -> Self {
        match *self.0 {
            Kind::Fault(fault, at) => Self(Box::new(Kind::Repeated(fault, at))),
            other => Self(Box::new(other)),
        }
    }

    /// Whether a repeated request was refused.
    pub(crate) fn is_of_a_repeat(&self) -> bool {
        matches!(&*self.0, Kind::Repeated(..))
    }

    /// Whether a repeated request was refused with this code, which may mean that the first attempt was carried out.
    pub(crate) fn repeat_says(&self, code: Code) -> bool {
        matches!(&*self.0, Kind::Repeated(fault, _) if fault.code == code)
    }

    /// No broker can be reached. The message names variables that do not count, because they may have been meant to choose the
    /// broker.
    pub(crate) fn unreachable(what: impl Into<String>, source: Option<io::Error>) -> Self {
        let what = what.into() + &note_of_ignored(&Environment::of_this_process());
        Self(Box::new(Kind::Unreachable { what, source }))
    }

    /// Takes the refusal of a fast shutdown (`MAPI_E_NO_SUPPORT`) out of the error. A refusal is not a failure of the call.
    pub(crate) fn into_refusal(self) -> Result<Fault, Self> {
        match *self.0 {
            Kind::Fault(fault, _) | Kind::Repeated(fault, _)
                if fault.code == Code::E_NO_SUPPORT =>
            {
                Ok(fault)
            }
            other => Err(Self(Box::new(other))),
        }
    }

    /// The same error with another message.
    pub(crate) fn said(self, words: impl FnOnce(&str) -> String) -> Self {
        let kind = match *self.0 {
            Kind::Fault(fault, at) => {
                Kind::Fault(Fault { message: words(&fault.message), ..fault }, at)
            }
            Kind::Repeated(fault, at) => {
                Kind::Repeated(Fault { message: words(&fault.message), ..fault }, at)
            }
            Kind::Disconnected(why, asked) => Kind::Disconnected(words(&why), asked),
            Kind::Unknown(why, code) => Kind::Unknown(words(&why), code),
            Kind::GaveUp(code, why, asked) => Kind::GaveUp(code, words(&why), asked),
            Kind::Unreachable { what, source } => Kind::Unreachable { what: words(&what), source },
        };
        Self(Box::new(kind))
    }

    /// The MAPI code.
    pub fn code(&self) -> Code {
        match &*self.0 {
            Kind::Fault(fault, _) | Kind::Repeated(fault, _) => fault.code,
            Kind::Disconnected(..) => Code::E_END_OF_SESSION,
            Kind::Unreachable { source: Some(error), .. }
                if error.kind() == io::ErrorKind::QuotaExceeded =>
            {
                Code::E_NOT_ENOUGH_RESOURCES
            }
            Kind::Unknown(_, code) | Kind::GaveUp(code, ..) => *code,
            Kind::Unreachable { .. } => Code::E_NETWORK_ERROR,
        }
    }

    /// What the broker says beyond the code, as the providers that refuse.
    pub fn detail(&self) -> &FaultDetail {
        match &*self.0 {
            Kind::Fault(fault, _) | Kind::Repeated(fault, _) => &fault.detail,
            _ => &FaultDetail::None,
        }
    }

    /// The identifier of the refused request in the broker's log: the lines about its consequences have it as `correlation`. `None`
    /// if the error does not come from a broker.
    pub fn correlation(&self) -> Option<Correlation> {
        match *self.0 {
            Kind::Fault(_, correlation) | Kind::Repeated(_, correlation) => correlation,
            _ => None,
        }
    }

    /// Whether the broker went away during the call.
    pub fn is_disconnected(&self) -> bool {
        matches!(*self.0, Kind::Disconnected(..))
    }

    /// Whether the broker went away before it answered, and the request may or may not have been carried out. The library does not
    /// repeat a request if the repetition would do more than the program asked for; it repeats all others as long as it finds a
    /// broker. This is not a failure: check whether the request was carried out, or repeat it if it has a key.
    pub fn is_outcome_unknown(&self) -> bool {
        matches!(*self.0, Kind::Unknown(..))
    }

    /// Whether no broker runs and none could be started.
    pub fn is_unreachable(&self) -> bool {
        matches!(*self.0, Kind::Unreachable { .. })
    }

    /// Whether the session has ended: by a shared logoff whose grace is over, or with its broker.
    pub fn is_end_of_session(&self) -> bool {
        self.code() == Code::E_END_OF_SESSION
    }

    /// Whether the object, the session or the library itself takes no calls.
    pub fn is_dead_handle(&self) -> bool {
        matches!(self.code(), Code::E_INVALID_OBJECT | Code::E_NOT_INITIALIZED)
    }

    /// Whether another attempt may succeed later.
    pub fn is_temporary(&self) -> bool {
        !self.is_outcome_unknown()
            && matches!(
                self.code(),
                Code::E_BUSY
                    | Code::E_WAIT
                    | Code::E_TIMEOUT
                    | Code::E_NETWORK_ERROR
                    | Code::E_NOT_ENOUGH_DISK
                    | Code::E_NOT_ENOUGH_RESOURCES
            )
    }
}

impl From<Fault> for Error {
    fn from(fault: Fault) -> Self {
        Self(Box::new(Kind::Fault(fault, None)))
    }
}

impl From<Refusal> for Error {
    fn from(Refusal { fault, correlation }: Refusal) -> Self {
        Self(Box::new(Kind::Fault(fault, Some(correlation))))
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &*self.0 {
            Kind::Fault(fault, _) | Kind::Repeated(fault, _) => f.write_str(&fault.message),
            Kind::GaveUp(_, why, _) => f.write_str(why),
            Kind::Unknown(why, _) => write!(f, "whether it was done is not known: {why}"),
            Kind::Disconnected(why, _) => write!(f, "the connection to the broker ended: {why}"),
            Kind::Unreachable { what, .. } => f.write_str(what),
        }
    }
}

impl fmt::Debug for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self} ({} {})", self.code().name(), self.code())
    }
}

impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match &*self.0 {
            Kind::Fault(fault, _) | Kind::Repeated(fault, _) => Some(fault),
            Kind::Unreachable { source: Some(source), .. } => Some(source),
            _ => None,
        }
    }
}
