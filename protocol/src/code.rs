//! MAPI's codes with their names and numbers, and the fault that carries one back to a caller.

use std::fmt;

use serde::{Deserialize, Serialize};

/// A result code (`HRESULT` of facility ITF, `SCODE`). The high bit marks a failure; warnings are successes.
///
/// ```
/// use sundown_protocol::Code;
///
/// assert_eq!(Code::E_NO_SUPPORT.name(), "MAPI_E_NO_SUPPORT");
/// assert_eq!(Code::E_NO_SUPPORT.to_string(), "0x80040102");
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Code(pub u32);

macro_rules! codes {
    ($($name:ident = $value:literal, $text:literal;)*) => {
        impl Code {
            $(#[doc = concat!("`", $text, "`, ", stringify!($value), ".")] pub const $name: Self = Self($value);)*

            /// Every code with a name.
            pub const ALL: &[(Self, &str)] = &[$((Self($value), $text)),*];
        }
    };
}

codes! {
    S_OK = 0x0000_0000, "S_OK";
    W_NO_SERVICE = 0x0004_0203, "MAPI_W_NO_SERVICE";
    W_ERRORS_RETURNED = 0x0004_0380, "MAPI_W_ERRORS_RETURNED";
    W_POSITION_CHANGED = 0x0004_0481, "MAPI_W_POSITION_CHANGED";
    W_APPROX_COUNT = 0x0004_0482, "MAPI_W_APPROX_COUNT";
    W_CANCEL_MESSAGE = 0x0004_0580, "MAPI_W_CANCEL_MESSAGE";
    W_PARTIAL_COMPLETION = 0x0004_0680, "MAPI_W_PARTIAL_COMPLETION";
    E_INTERFACE_NOT_SUPPORTED = 0x8000_4002, "MAPI_E_INTERFACE_NOT_SUPPORTED";
    E_CALL_FAILED = 0x8000_4005, "MAPI_E_CALL_FAILED";
    E_NO_SUPPORT = 0x8004_0102, "MAPI_E_NO_SUPPORT";
    E_BAD_CHARWIDTH = 0x8004_0103, "MAPI_E_BAD_CHARWIDTH";
    E_STRING_TOO_LONG = 0x8004_0105, "MAPI_E_STRING_TOO_LONG";
    E_UNKNOWN_FLAGS = 0x8004_0106, "MAPI_E_UNKNOWN_FLAGS";
    E_INVALID_ENTRYID = 0x8004_0107, "MAPI_E_INVALID_ENTRYID";
    E_INVALID_OBJECT = 0x8004_0108, "MAPI_E_INVALID_OBJECT";
    E_OBJECT_CHANGED = 0x8004_0109, "MAPI_E_OBJECT_CHANGED";
    E_OBJECT_DELETED = 0x8004_010A, "MAPI_E_OBJECT_DELETED";
    E_BUSY = 0x8004_010B, "MAPI_E_BUSY";
    E_NOT_ENOUGH_DISK = 0x8004_010D, "MAPI_E_NOT_ENOUGH_DISK";
    E_NOT_ENOUGH_RESOURCES = 0x8004_010E, "MAPI_E_NOT_ENOUGH_RESOURCES";
    E_NOT_FOUND = 0x8004_010F, "MAPI_E_NOT_FOUND";
    E_VERSION = 0x8004_0110, "MAPI_E_VERSION";
    E_LOGON_FAILED = 0x8004_0111, "MAPI_E_LOGON_FAILED";
    E_SESSION_LIMIT = 0x8004_0112, "MAPI_E_SESSION_LIMIT";
    E_USER_CANCEL = 0x8004_0113, "MAPI_E_USER_CANCEL";
    E_UNABLE_TO_ABORT = 0x8004_0114, "MAPI_E_UNABLE_TO_ABORT";
    E_NETWORK_ERROR = 0x8004_0115, "MAPI_E_NETWORK_ERROR";
    E_DISK_ERROR = 0x8004_0116, "MAPI_E_DISK_ERROR";
    E_TOO_COMPLEX = 0x8004_0117, "MAPI_E_TOO_COMPLEX";
    E_BAD_COLUMN = 0x8004_0118, "MAPI_E_BAD_COLUMN";
    E_EXTENDED_ERROR = 0x8004_0119, "MAPI_E_EXTENDED_ERROR";
    E_COMPUTED = 0x8004_011A, "MAPI_E_COMPUTED";
    E_CORRUPT_DATA = 0x8004_011B, "MAPI_E_CORRUPT_DATA";
    E_UNCONFIGURED = 0x8004_011C, "MAPI_E_UNCONFIGURED";
    E_FAILONEPROVIDER = 0x8004_011D, "MAPI_E_FAILONEPROVIDER";
    E_UNKNOWN_CPID = 0x8004_011E, "MAPI_E_UNKNOWN_CPID";
    E_UNKNOWN_LCID = 0x8004_011F, "MAPI_E_UNKNOWN_LCID";
    E_PASSWORD_CHANGE_REQUIRED = 0x8004_0120, "MAPI_E_PASSWORD_CHANGE_REQUIRED";
    E_PASSWORD_EXPIRED = 0x8004_0121, "MAPI_E_PASSWORD_EXPIRED";
    E_INVALID_WORKSTATION_ACCOUNT = 0x8004_0122, "MAPI_E_INVALID_WORKSTATION_ACCOUNT";
    E_INVALID_ACCESS_TIME = 0x8004_0123, "MAPI_E_INVALID_ACCESS_TIME";
    E_ACCOUNT_DISABLED = 0x8004_0124, "MAPI_E_ACCOUNT_DISABLED";
    E_END_OF_SESSION = 0x8004_0200, "MAPI_E_END_OF_SESSION";
    E_UNKNOWN_ENTRYID = 0x8004_0201, "MAPI_E_UNKNOWN_ENTRYID";
    E_MISSING_REQUIRED_COLUMN = 0x8004_0202, "MAPI_E_MISSING_REQUIRED_COLUMN";
    E_BAD_VALUE = 0x8004_0301, "MAPI_E_BAD_VALUE";
    E_INVALID_TYPE = 0x8004_0302, "MAPI_E_INVALID_TYPE";
    E_TYPE_NO_SUPPORT = 0x8004_0303, "MAPI_E_TYPE_NO_SUPPORT";
    E_UNEXPECTED_TYPE = 0x8004_0304, "MAPI_E_UNEXPECTED_TYPE";
    E_TOO_BIG = 0x8004_0305, "MAPI_E_TOO_BIG";
    E_DECLINE_COPY = 0x8004_0306, "MAPI_E_DECLINE_COPY";
    E_UNEXPECTED_ID = 0x8004_0307, "MAPI_E_UNEXPECTED_ID";
    E_UNABLE_TO_COMPLETE = 0x8004_0400, "MAPI_E_UNABLE_TO_COMPLETE";
    E_TIMEOUT = 0x8004_0401, "MAPI_E_TIMEOUT";
    E_TABLE_EMPTY = 0x8004_0402, "MAPI_E_TABLE_EMPTY";
    E_TABLE_TOO_BIG = 0x8004_0403, "MAPI_E_TABLE_TOO_BIG";
    E_INVALID_BOOKMARK = 0x8004_0405, "MAPI_E_INVALID_BOOKMARK";
    E_WAIT = 0x8004_0500, "MAPI_E_WAIT";
    E_CANCEL = 0x8004_0501, "MAPI_E_CANCEL";
    E_NOT_ME = 0x8004_0502, "MAPI_E_NOT_ME";
    E_CORRUPT_STORE = 0x8004_0600, "MAPI_E_CORRUPT_STORE";
    E_NOT_IN_QUEUE = 0x8004_0601, "MAPI_E_NOT_IN_QUEUE";
    E_NO_SUPPRESS = 0x8004_0602, "MAPI_E_NO_SUPPRESS";
    E_COLLISION = 0x8004_0604, "MAPI_E_COLLISION";
    E_NOT_INITIALIZED = 0x8004_0605, "MAPI_E_NOT_INITIALIZED";
    E_NON_STANDARD = 0x8004_0606, "MAPI_E_NON_STANDARD";
    E_NO_RECIPIENTS = 0x8004_0607, "MAPI_E_NO_RECIPIENTS";
    E_SUBMITTED = 0x8004_0608, "MAPI_E_SUBMITTED";
    E_HAS_FOLDERS = 0x8004_0609, "MAPI_E_HAS_FOLDERS";
    E_HAS_MESSAGES = 0x8004_060A, "MAPI_E_HAS_MESSAGES";
    E_FOLDER_CYCLE = 0x8004_060B, "MAPI_E_FOLDER_CYCLE";
    E_AMBIGUOUS_RECIP = 0x8004_0700, "MAPI_E_AMBIGUOUS_RECIP";
    E_NO_ACCESS = 0x8007_0005, "MAPI_E_NO_ACCESS";
    E_NOT_ENOUGH_MEMORY = 0x8007_000E, "MAPI_E_NOT_ENOUGH_MEMORY";
    E_INVALID_PARAMETER = 0x8007_0057, "MAPI_E_INVALID_PARAMETER";
    E_PROFILE_DELETED = 0x8004_0204, "MAPI_E_PROFILE_DELETED";
    E_RECONNECTED = 0x8004_0125, "MAPI_E_RECONNECTED";
    E_OFFLINE = 0x8004_0126, "MAPI_E_OFFLINE";
    E_STORE_FULL = 0x8004_060C, "MAPI_E_STORE_FULL";
    RPC_E_DISCONNECTED = 0x8001_0108, "RPC_E_DISCONNECTED";
}

impl Code {
    /// The name, as MAPI's headers spell it. A number without a name has that of `MAPI_E_CALL_FAILED`.
    pub fn name(self) -> &'static str {
        let named = Self::ALL.iter().find(|(code, _)| *code == self);
        named.map_or("MAPI_E_CALL_FAILED", |(_, name)| name)
    }

    /// Whether the code is a failure.
    pub fn is_failure(self) -> bool {
        self.0 & 0x8000_0000 != 0
    }
}

impl fmt::Display for Code {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "0x{:08X}", self.0)
    }
}

impl fmt::Debug for Code {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// The error of a request: the code, what failed and how to go on.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Fault {
    /// The code.
    pub code: Code,
    /// One or two sentences for people.
    pub message: String,
    /// Further facts for programs.
    pub detail: FaultDetail,
}

/// Further facts of a [`Fault`], for programs.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum FaultDetail {
    /// No further facts.
    #[default]
    None,
    /// The process that owns the shared session (`MAPI_E_NO_ACCESS` of a shared logoff).
    Owner(crate::reply::Peer),
    /// Addresses that no transport takes (`MAPI_E_UNCONFIGURED`), or that are not valid addresses (`MAPI_E_INVALID_PARAMETER`).
    Addresses(Vec<String>),
    /// Providers that refuse a fast shutdown or did not answer in time (`MAPI_E_NO_SUPPORT`).
    Providers(Vec<String>),
    /// Processes that hold references to objects of this one (`MAPI_E_BUSY`).
    Holders(Vec<crate::reply::Peer>),
    /// Entries that were accepted and could not be made durable.
    Entries(Vec<crate::EntryId>),
}

impl Fault {
    /// A fault without a detail.
    pub fn new(code: Code, message: impl Into<String>) -> Self {
        Self { code, message: message.into(), detail: FaultDetail::None }
    }

    /// The same fault with a detail.
    #[must_use]
    pub fn with(self, detail: FaultDetail) -> Self {
        Self { detail, ..self }
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({} {})", self.message, self.code.name(), self.code)
    }
}

impl std::error::Error for Fault {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errors_are_failures_and_warnings_are_successes() {
        for &(code, name) in Code::ALL {
            assert_eq!(code.is_failure(), name.contains("_E_"), "{name}");
            assert_eq!(code.name(), name);
        }
        assert_eq!(Code(0x8004_9999).name(), Code::E_CALL_FAILED.name());
    }

    #[test]
    fn a_fault_is_shown_with_its_words_its_code_and_its_number() {
        let fault = Fault::new(Code::E_NOT_FOUND, "there is no profile work")
            .with(FaultDetail::Providers(vec!["smtp".into()]));
        assert_eq!(fault.to_string(), "there is no profile work (MAPI_E_NOT_FOUND 0x8004010F)");
        assert_eq!(fault.detail, FaultDetail::Providers(vec!["smtp".into()]));
    }
}
