//! Exit statuses of `sendmail` (sysexits), and what an error means for it.

use std::fmt;
use std::process::ExitCode;

use sundown_client::{Code, Error};

use super::arguments::Usage;
use crate::handover::may_be_stored;
use crate::safe;

/// Exit statuses as `sysexits.h` numbers them. 0 is only ever said when the broker has made the message durable.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Exit {
    /// `EX_USAGE`: the arguments make no sense, or nobody is to get the message.
    Usage = 64,
    /// `EX_DATAERR`: an address that is none, or a message beyond the limits.
    Data = 65,
    /// `EX_UNAVAILABLE`: the broker cannot do its work until somebody repairs something.
    Unavailable = 69,
    /// `EX_SOFTWARE`: what should not happen.
    Software = 70,
    /// `EX_IOERR`: the message cannot be read.
    Input = 74,
    /// `EX_TEMPFAIL`: trying again later may help.
    Temporary = 75,
    /// `EX_NOPERM`: the broker does not allow it.
    Permission = 77,
    /// `EX_CONFIG`: settings or profiles must be changed first.
    Settings = 78,
}

/// What a MAPI code means for whoever hands mail over.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Meaning {
    /// The exit status.
    pub(crate) exit: Exit,
    /// The reply of an SMTP dialogue, with its enhanced status code.
    pub(crate) reply: &'static str,
}

/// The one table of what codes mean.
pub(crate) fn meaning(code: Code) -> Meaning {
    let (exit, reply) = match code {
        Code::E_NO_RECIPIENTS => (Exit::Usage, "554 5.5.1"),
        Code::E_INVALID_PARAMETER => (Exit::Data, "554 5.1.3"),
        Code::E_TOO_BIG | Code::E_TOO_COMPLEX | Code::E_STRING_TOO_LONG => {
            (Exit::Data, "552 5.3.4")
        }
        Code::E_VERSION | Code::E_CORRUPT_STORE | Code::E_CORRUPT_DATA | Code::E_NO_SUPPORT => {
            (Exit::Unavailable, "554 5.3.0")
        }
        Code::E_NETWORK_ERROR
        | Code::E_END_OF_SESSION
        | Code::E_NOT_INITIALIZED
        | Code::E_BUSY
        | Code::E_WAIT
        | Code::E_TIMEOUT
        | Code::E_CANCEL
        | Code::E_USER_CANCEL
        | Code::E_OFFLINE
        | Code::E_RECONNECTED
        | Code::E_DISK_ERROR
        | Code::RPC_E_DISCONNECTED => (Exit::Temporary, "451 4.3.0"),
        Code::E_NOT_ENOUGH_DISK
        | Code::E_NOT_ENOUGH_RESOURCES
        | Code::E_NOT_ENOUGH_MEMORY
        | Code::E_STORE_FULL
        | Code::E_SESSION_LIMIT => (Exit::Temporary, "452 4.3.1"),
        Code::E_NO_ACCESS
        | Code::E_LOGON_FAILED
        | Code::E_ACCOUNT_DISABLED
        | Code::E_INVALID_ACCESS_TIME
        | Code::E_INVALID_WORKSTATION_ACCOUNT
        | Code::E_PASSWORD_CHANGE_REQUIRED
        | Code::E_PASSWORD_EXPIRED => (Exit::Permission, "554 5.7.1"),
        // No transport takes an address, or the profile is not there or wrong.
        Code::E_UNCONFIGURED
        | Code::E_NOT_FOUND
        | Code::E_PROFILE_DELETED
        | Code::E_FAILONEPROVIDER => (Exit::Settings, "554 5.3.5"),
        _ => (Exit::Software, "554 5.3.0"),
    };
    Meaning { exit, reply }
}

/// Why `sendmail` fails.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Failure {
    exit: Exit,
    /// The reply where somebody speaks SMTP.
    reply: &'static str,
    text: String,
}

impl Failure {
    /// One that the broker knows nothing of.
    pub(crate) fn new(exit: Exit, text: impl Into<String>) -> Self {
        Self { exit, reply: "451 4.3.0", text: text.into() }
    }

    /// Before the message was handed over: nothing of it is stored.
    pub(crate) fn before(error: &Error) -> Self {
        let meaning = meaning(error.code());
        let text = match meaning.exit {
            Exit::Temporary => format!("{error}; nothing was stored"),
            _ => error.to_string(),
        };
        Self { exit: meaning.exit, reply: meaning.reply, text }
    }

    /// While the message was being handed over.
    pub(crate) fn while_submitting(error: &Error) -> Self {
        // What the broker had done by then, nobody knows. The key that would tell ends with this process.
        if !may_be_stored(error) {
            return Self::before(error);
        }
        let meaning = meaning(error.code());
        let text = format!("{error}; whether the message was stored is not known");
        Self { exit: meaning.exit, reply: meaning.reply, text }
    }

    /// The reply of an SMTP dialogue, in one line.
    pub(crate) fn reply(&self) -> String {
        format!("{} {}", self.reply, one_line(&self.text))
    }

    /// Says it on standard error, in one line.
    pub(crate) fn report(&self) -> ExitCode {
        super::say(&self.to_string());
        ExitCode::from(self.exit as u8)
    }
}

impl From<Usage> for Failure {
    fn from(usage: Usage) -> Self {
        Self::new(Exit::Usage, usage.to_string())
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&one_line(&self.text))
    }
}

/// The text in one line, harmless, and not too long.
fn one_line(text: &str) -> String {
    safe::line(text).chars().take(900).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_have_their_exit_statuses() {
        let cases = [
            (Code::E_NO_RECIPIENTS, 64),
            (Code::E_INVALID_PARAMETER, 65),
            (Code::E_TOO_BIG, 65),
            (Code::E_CORRUPT_STORE, 69),
            (Code::E_CALL_FAILED, 70),
            (Code::E_NETWORK_ERROR, 75),
            (Code::E_NOT_ENOUGH_DISK, 75),
            (Code::E_END_OF_SESSION, 75),
            (Code::E_NO_ACCESS, 77),
            (Code::E_UNCONFIGURED, 78),
            (Code::E_NOT_FOUND, 78),
        ];
        for (code, exit) in cases {
            assert_eq!(meaning(code).exit as u8, exit, "{code:?}");
        }
    }

    /// An SMTP client tries again exactly when a script would.
    #[test]
    fn replies_and_exit_statuses_agree() {
        for (code, name) in Code::ALL {
            let meaning = meaning(*code);
            let temporary = meaning.exit == Exit::Temporary;
            assert_eq!(meaning.reply.starts_with('4'), temporary, "{name}");
            let class = meaning.reply.as_bytes()[4];
            assert_eq!(class, meaning.reply.as_bytes()[0], "{name}");
        }
    }

    #[test]
    fn failures_say_what_became_of_the_message() {
        let error = |code| Error::new(code, "two\r\nlines");
        let before = Failure::before(&error(Code::E_BUSY)).to_string();
        assert_eq!(before, "two lines; nothing was stored");
        let vague = Failure::while_submitting(&error(Code::E_TIMEOUT));
        assert!(vague.to_string().ends_with("is not known"), "{vague}");
        let refused = Failure::while_submitting(&error(Code::E_NO_ACCESS));
        assert_eq!(refused.reply(), "554 5.7.1 two lines");
    }
}
