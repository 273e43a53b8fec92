//! How values are spelled in settings files: durations, sizes, counts, words and names.
//!
//! Each spelling is a type that is never made; [`Spelled`] reads a value by it. What is refused is refused with what
//! the spelling expects, so that every error says what is allowed.

use std::fmt;
use std::marker::PhantomData;
use std::time::Duration;

use serde::de::{Deserialize, Deserializer, Error, SeqAccess, Visitor};
use sundown_core::address::Pattern;
use sundown_core::provider::FastShutdown;
use sundown_core::settings::{
    DisableFastShutdown, FastShutdownBehavior, Linger, OnUnknown, SharedLogoff, Watching,
};
use sundown_mail::address;

use crate::metrics::Listen;

/// Ten years. Deadlines are added to clocks, and no clock may run over.
const LONGEST: Duration = Duration::from_secs(3650 * 24 * 3600);

/// The largest size, 1 TiB.
const LARGEST: u64 = 1 << 40;

/// The smallest buffer: one frame of the longest kind must fit.
const SMALLEST_BUFFER: u64 = 1 << 20;

/// A way to spell a value.
pub(super) trait Spelling {
    /// What is spelled.
    type Value;
    /// What is allowed, behind "expected".
    const EXPECTED: &'static str;

    /// The value of a string.
    fn text(text: &str) -> Option<Self::Value>;

    /// The value of an integer.
    fn integer(_number: i64) -> Option<Self::Value> {
        None
    }

    /// A value that is refused, as its error shows it.
    fn shown(value: &str) -> String {
        value.to_owned()
    }
}

/// A value that was spelled in that way.
pub(super) struct Spelled<S: Spelling>(pub(super) S::Value);

impl<S: Spelling> Spelled<S> {
    /// The value, if there is one.
    pub(super) fn of(spelled: Option<Self>) -> Option<S::Value> {
        spelled.map(|spelled| spelled.0)
    }
}

impl<'de, S: Spelling> Deserialize<'de> for Spelled<S> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(SpellingVisitor(PhantomData))
    }
}

struct SpellingVisitor<S>(PhantomData<S>);

impl<S: Spelling> Visitor<'_> for SpellingVisitor<S> {
    type Value = Spelled<S>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(S::EXPECTED)
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<Self::Value, E> {
        S::text(text).map(Spelled).ok_or_else(|| refused::<S, E>(&format!("{text:?}")))
    }

    fn visit_i64<E: Error>(self, number: i64) -> Result<Self::Value, E> {
        S::integer(number).map(Spelled).ok_or_else(|| refused::<S, E>(&number.to_string()))
    }

    fn visit_f64<E: Error>(self, number: f64) -> Result<Self::Value, E> {
        Err(refused::<S, E>(&number.to_string()))
    }

    fn visit_u64<E: Error>(self, number: u64) -> Result<Self::Value, E> {
        self.visit_i64(i64::try_from(number).unwrap_or(i64::MAX))
    }
}

fn refused<S: Spelling, E: Error>(value: &str) -> E {
    E::custom(format!("{} is not allowed; expected {}", S::shown(value), S::EXPECTED))
}

/// `disable_fast_shutdown`: whether, or for which programs.
pub(super) struct Disabled(pub(super) DisableFastShutdown);

impl<'de> Deserialize<'de> for Disabled {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct DisabledVisitor;

        impl<'de> Visitor<'de> for DisabledVisitor {
            type Value = Disabled;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(
                    "true, false, or a list of program names such as [\"tray\", \"backup\"]",
                )
            }

            fn visit_bool<E: Error>(self, all: bool) -> Result<Disabled, E> {
                let all = if all { DisableFastShutdown::All } else { DisableFastShutdown::No };
                Ok(Disabled(all))
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut names: A) -> Result<Disabled, A::Error> {
                let mut programs: Vec<String> = Vec::new();
                while let Some(name) = names.next_element()? {
                    programs.push(name);
                }
                Ok(Disabled(DisableFastShutdown::Programs(programs)))
            }
        }

        deserializer.deserialize_any(DisabledVisitor)
    }
}

/// A duration, also of no length.
pub(super) enum Time {}

impl Spelling for Time {
    type Value = Duration;
    const EXPECTED: &'static str = "a whole number with a unit (ms, s, m, h or d) \
                                    such as \"30s\" or \"10m\", at most \"3650d\"";

    fn text(text: &str) -> Option<Duration> {
        let (number, unit) = number_and_unit(text)?;
        let milliseconds = match unit {
            "ms" => 1,
            "s" => 1_000,
            "m" => 60_000,
            "h" => 3_600_000,
            "d" => 86_400_000,
            _ => return None,
        };
        let time = Duration::from_millis(number.checked_mul(milliseconds)?);
        (time <= LONGEST).then_some(time)
    }
}

/// A duration of some length.
pub(super) enum PositiveTime {}

impl Spelling for PositiveTime {
    type Value = Duration;
    const EXPECTED: &'static str = "a whole number above zero with a unit (ms, s, m, h or d) \
                                    such as \"30s\" or \"10m\", at most \"3650d\"";

    fn text(text: &str) -> Option<Duration> {
        Time::text(text).filter(|time| !time.is_zero())
    }
}

/// `busy_poll`: how long to look before sleeping, or `off` for not at all.
pub(super) enum BusyPoll {}

impl Spelling for BusyPoll {
    type Value = Duration;
    const EXPECTED: &'static str =
        "\"off\" or a whole number with a unit (us or ms) such as \"50us\", at most \"10ms\"";

    fn text(text: &str) -> Option<Duration> {
        if text == "off" {
            return Some(Duration::ZERO);
        }
        let (number, unit) = number_and_unit(text)?;
        let microseconds = match unit {
            "us" => 1,
            "ms" => 1_000,
            _ => return None,
        };
        let time = Duration::from_micros(number.checked_mul(microseconds)?);
        (time <= Duration::from_millis(10)).then_some(time)
    }
}

/// `keep_sent`: how long what was sent is kept, as the store's option says it.
pub(super) enum KeepSent {}

impl Spelling for KeepSent {
    type Value = String;
    const EXPECTED: &'static str = "\"off\", \"forever\", or a whole number above zero with a unit (ms, s, m, h or d) \
                                    such as \"30d\", at most \"3650d\"";

    fn text(text: &str) -> Option<String> {
        match text {
            "off" | "forever" => Some(text.to_owned()),
            text => PositiveTime::text(text).map(|time| time.as_millis().to_string()),
        }
    }
}

/// `delay_after`: a duration, or `off` for never.
pub(super) enum Delay {}

impl Spelling for Delay {
    type Value = Option<Duration>;
    const EXPECTED: &'static str = "\"off\" or a whole number above zero with a unit (ms, s, m, h or d) \
                                    such as \"4h\", at most \"3650d\"";

    fn text(text: &str) -> Option<Option<Duration>> {
        if text == "off" { Some(None) } else { PositiveTime::text(text).map(Some) }
    }
}

/// `shared_logoff_grace`: a duration, or `none` for one without an end.
pub(super) enum Grace {}

impl Spelling for Grace {
    type Value = Option<Duration>;
    const EXPECTED: &'static str = "\"none\" or a whole number with a unit (ms, s, m, h or d) \
                                    such as \"30s\" or \"10m\", at most \"3650d\"";

    fn text(text: &str) -> Option<Option<Duration>> {
        if text == "none" { Some(None) } else { Time::text(text).map(Some) }
    }
}

/// `linger`.
pub(super) enum LingerTime {}

impl Spelling for LingerTime {
    type Value = Linger;
    const EXPECTED: &'static str = "\"off\", \"until-empty\" or a whole number with a unit \
                                    (ms, s, m, h or d) such as \"30s\" or \"10m\", at most \"3650d\"";

    fn text(text: &str) -> Option<Linger> {
        match text {
            "off" => Some(Linger::Off),
            "until-empty" => Some(Linger::UntilEmpty),
            _ => Time::text(text).map(Linger::For),
        }
    }
}

/// A number of bytes.
pub(super) enum Size {}

impl Spelling for Size {
    type Value = u64;
    const EXPECTED: &'static str = "bytes as a number above zero, or with KiB, MiB or GiB \
                                    such as \"100MiB\"; at most \"1024GiB\"";

    fn text(text: &str) -> Option<u64> {
        let (number, unit) = number_and_unit(text)?;
        let bytes = match unit {
            "" | "B" => 1,
            "KiB" => 1 << 10,
            "MiB" => 1 << 20,
            "GiB" => 1 << 30,
            _ => return None,
        };
        number.checked_mul(bytes).filter(|size| (1..=LARGEST).contains(size))
    }

    fn integer(number: i64) -> Option<u64> {
        u64::try_from(number).ok().filter(|size| (1..=LARGEST).contains(size))
    }
}

/// A number of bytes in which at least one frame has room.
pub(super) enum BufferSize {}

impl Spelling for BufferSize {
    type Value = u64;
    const EXPECTED: &'static str = "bytes as a number, or with KiB, MiB or GiB such as \"64MiB\"; \
                                    at least \"1MiB\", at most \"1024GiB\"";

    fn text(text: &str) -> Option<u64> {
        Size::text(text).filter(|size| *size >= SMALLEST_BUFFER)
    }

    fn integer(number: i64) -> Option<u64> {
        Size::integer(number).filter(|size| *size >= SMALLEST_BUFFER)
    }
}

/// How many there may be.
pub(super) enum Count {}

impl Spelling for Count {
    type Value = u32;
    const EXPECTED: &'static str = "a whole number from 1 to 4294967295";

    fn text(_text: &str) -> Option<u32> {
        None
    }

    fn integer(number: i64) -> Option<u32> {
        u32::try_from(number).ok().filter(|count| *count > 0)
    }
}

/// `fast_shutdown_behavior`.
pub(super) enum Behavior {}

impl Spelling for Behavior {
    type Value = FastShutdownBehavior;
    const EXPECTED: &'static str = "\"opt-in\", \"opt-out\" or \"disabled\"";

    fn text(text: &str) -> Option<FastShutdownBehavior> {
        match text {
            "opt-in" => Some(FastShutdownBehavior::OptIn),
            "opt-out" => Some(FastShutdownBehavior::OptOut),
            "disabled" => Some(FastShutdownBehavior::Disabled),
            _ => None,
        }
    }
}

/// `shared_logoff`.
pub(super) enum SharedLogoffWord {}

impl Spelling for SharedLogoffWord {
    type Value = SharedLogoff;
    const EXPECTED: &'static str = "\"owner\", \"any\" or \"deny\"";

    fn text(text: &str) -> Option<SharedLogoff> {
        match text {
            "owner" => Some(SharedLogoff::Owner),
            "any" => Some(SharedLogoff::Any),
            "deny" => Some(SharedLogoff::Deny),
            _ => None,
        }
    }
}

/// Where metrics can be asked for.
pub(super) enum ListenPlace {}

impl Spelling for ListenPlace {
    type Value = Listen;
    const EXPECTED: &'static str = "a port of the loopback interface such as \"127.0.0.1:9464\", \
                                    or the absolute path of a socket";

    fn text(text: &str) -> Option<Listen> {
        Listen::parse(text)
    }
}

/// `on_unknown`.
pub(super) enum OnUnknownWord {}

impl Spelling for OnUnknownWord {
    type Value = OnUnknown;
    const EXPECTED: &'static str = "\"hold\" or \"retry\"";

    fn text(text: &str) -> Option<OnUnknown> {
        match text {
            "hold" => Some(OnUnknown::Hold),
            "retry" => Some(OnUnknown::Retry),
            _ => None,
        }
    }
}

/// `fast_shutdown` of a provider.
pub(super) enum FastShutdownWord {}

impl Spelling for FastShutdownWord {
    type Value = FastShutdown;
    const EXPECTED: &'static str = "\"supported\", \"refused\" or \"absent\"";

    fn text(text: &str) -> Option<FastShutdown> {
        let words = [FastShutdown::Supported, FastShutdown::Refused, FastShutdown::Absent];
        words.into_iter().find(|word| word.name() == text)
    }
}

/// One of a transport's `accept`.
pub(super) enum AcceptPattern {}

impl Spelling for AcceptPattern {
    type Value = Pattern;
    const EXPECTED: &'static str =
        "\"*\", a domain, \"*.\" and a domain for those below it, or an address";

    fn text(text: &str) -> Option<Pattern> {
        Pattern::parse(text)
    }
}

/// `watch` of a mailbox.
pub(super) enum WatchWord {}

impl Spelling for WatchWord {
    type Value = Watching;
    const EXPECTED: &'static str = "\"members\", \"attached\" or \"always\"";

    fn text(text: &str) -> Option<Watching> {
        match text {
            "members" | "attached" => Some(Watching::Members),
            "always" => Some(Watching::Always),
            _ => None,
        }
    }
}

/// `folders` of a mailbox.
pub(super) enum FoldersWord {}

impl FoldersWord {
    /// Every folder.
    pub(super) const ALL: &'static str = "all";
    /// The Inbox alone.
    pub(super) const INBOX: &'static str = "inbox";
}

impl Spelling for FoldersWord {
    type Value = &'static str;
    const EXPECTED: &'static str = "\"all\" or \"inbox\"";

    fn text(text: &str) -> Option<&'static str> {
        [Self::ALL, Self::INBOX].into_iter().find(|word| *word == text)
    }
}

/// `bodies` of an account.
pub(super) enum BodiesWord {}

impl Spelling for BodiesWord {
    type Value = String;
    const EXPECTED: &'static str = "\"all\", \"recent\" or \"on-demand\"";

    fn text(text: &str) -> Option<String> {
        ["all", "recent", "on-demand"].contains(&text).then(|| text.to_owned())
    }
}

/// `sent` of an account.
pub(super) enum SentWord {}

impl Spelling for SentWord {
    type Value = String;
    const EXPECTED: &'static str = "\"auto\", \"append\" or \"server\"";

    fn text(text: &str) -> Option<String> {
        ["auto", "append", "server"].contains(&text).then(|| text.to_owned())
    }
}

/// `compression` of an account.
pub(super) enum CompressionWord {}

impl Spelling for CompressionWord {
    type Value = String;
    const EXPECTED: &'static str = "\"auto\", \"always\" or \"never\"";

    fn text(text: &str) -> Option<String> {
        ["auto", "always", "never"].contains(&text).then(|| text.to_owned())
    }
}

/// One of a mailbox's `address`.
pub(super) enum OwnAddress {}

impl Spelling for OwnAddress {
    type Value = String;
    const EXPECTED: &'static str = "an address such as \"anna@example.org\", \"*@example.org\" for all of a domain, \
                                    or the name of a user of this host such as \"anna\"";

    fn text(text: &str) -> Option<String> {
        Pattern::own(text).map(|_| text.to_owned())
    }
}

/// The address of somebody.
pub(super) enum MailAddress {}

impl Spelling for MailAddress {
    type Value = String;
    const EXPECTED: &'static str = "an address such as \"anna@example.org\"";

    fn text(text: &str) -> Option<String> {
        address::split(text).is_ok().then(|| address::to_ascii(text).into_owned())
    }
}

/// A domain of mail.
pub(super) enum MailDomain {}

impl Spelling for MailDomain {
    type Value = String;
    const EXPECTED: &'static str = "a domain such as \"example.org\"";

    fn text(text: &str) -> Option<String> {
        let domain = text.to_lowercase();
        (domain.contains('.') && address::is_domain(&domain)).then_some(domain)
    }
}

/// `rewrite_from`: which authors become another one on their way to a server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum RewriteFrom {
    /// None.
    Never,
    /// Those of this host.
    Unqualified,
    /// All that are not the transport's own.
    Always,
}

impl RewriteFrom {
    const ALL: [Self; 3] = [Self::Never, Self::Unqualified, Self::Always];

    /// The word in settings.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Never => "never",
            Self::Unqualified => "unqualified",
            Self::Always => "always",
        }
    }
}

/// `rewrite_from`.
pub(super) enum RewriteWord {}

impl Spelling for RewriteWord {
    type Value = RewriteFrom;
    const EXPECTED: &'static str = "\"never\", \"unqualified\" or \"always\"";

    fn text(text: &str) -> Option<RewriteFrom> {
        RewriteFrom::ALL.into_iter().find(|word| word.name() == text)
    }
}

/// The name of a provider, which may become that of a file.
pub(super) enum Name {}

impl Spelling for Name {
    type Value = String;
    const EXPECTED: &'static str =
        "1 to 64 letters, digits, \".\", \"_\" or \"-\", not \".\" first";

    fn text(text: &str) -> Option<String> {
        valid_name(text).then(|| text.to_owned())
    }
}

/// A path. What it starts from is the profile's business.
pub(super) enum PathText {}

impl Spelling for PathText {
    type Value = String;
    const EXPECTED: &'static str = "a path: absolute, from the home directory (\"~/…\") \
                                    or from the profile's data directory";

    fn text(text: &str) -> Option<String> {
        (!text.is_empty() && !text.contains('\0')).then(|| text.to_owned())
    }
}

/// A user by name or by number.
pub(super) enum User {}

impl Spelling for User {
    type Value = String;
    const EXPECTED: &'static str = "a user's name or number";

    fn text(text: &str) -> Option<String> {
        (!text.is_empty()).then(|| text.to_owned())
    }

    fn integer(number: i64) -> Option<String> {
        (number >= 0).then(|| number.to_string())
    }
}

/// A group by name or by number, as a user.
pub(super) enum GroupName {}

impl Spelling for GroupName {
    type Value = String;
    const EXPECTED: &'static str = "a group's name or number";

    fn text(text: &str) -> Option<String> {
        User::text(text)
    }

    fn integer(number: i64) -> Option<String> {
        User::integer(number)
    }
}

/// Whether a text can name a profile or a provider: 1 to 64 of `A-Z a-z 0-9 . _ -`, the first of them not a dot. Such
/// names are also those of files and directories.
pub fn valid_name(text: &str) -> bool {
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"._-".contains(&byte);
    (1..=64).contains(&text.len()) && !text.starts_with('.') && text.bytes().all(allowed)
}

/// Splits `30s` into 30 and `s`. There are no signs and no spaces.
fn number_and_unit(text: &str) -> Option<(u64, &str)> {
    let end = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    Some((text[..end].parse().ok()?, &text[end..]))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations() {
        let good = [
            ("0s", 0),
            ("500ms", 500),
            ("30s", 30_000),
            ("10m", 600_000),
            ("1h", 3_600_000),
            ("5d", 432_000_000),
            ("3650d", 315_360_000_000),
        ];
        for (text, milliseconds) in good {
            assert_eq!(Time::text(text), Some(Duration::from_millis(milliseconds)), "{text}");
        }
        let bad = [
            "",
            "30",
            "s",
            " 30s",
            "30 s",
            "30S",
            "-1s",
            "+1s",
            "1.5h",
            "1h30m",
            "3651d",
            "none",
            "18446744073709551615d",
            "99999999999999999999s",
            "１s",
        ];
        for text in bad {
            assert_eq!(Time::text(text), None, "{text:?}");
        }
        assert_eq!(PositiveTime::text("0ms"), None);
        assert_eq!(BusyPoll::text("off"), Some(Duration::ZERO));
        assert_eq!(BusyPoll::text("50us"), Some(Duration::from_micros(50)));
        assert_eq!(BusyPoll::text("10ms"), Some(Duration::from_millis(10)));
        assert_eq!([BusyPoll::text("11ms"), BusyPoll::text("1s"), BusyPoll::text("on")], [None; 3]);
        assert_eq!(Grace::text("none"), Some(None));
        assert_eq!(Grace::text("0s"), Some(Some(Duration::ZERO)));
        assert_eq!(LingerTime::text("until-empty"), Some(Linger::UntilEmpty));
        assert_eq!(LingerTime::text("none"), None);
    }

    #[test]
    fn sizes_and_counts() {
        let good =
            [("1", 1), ("1B", 1), ("2KiB", 2048), ("100MiB", 104_857_600), ("1024GiB", 1 << 40)];
        for (text, size) in good {
            assert_eq!(Size::text(text), Some(size), "{text}");
        }
        for text in ["", "0", "1MB", "1 MiB", "-1", "1025GiB", "20000000000GiB", "MiB"] {
            assert_eq!(Size::text(text), None, "{text:?}");
        }
        assert_eq!(BufferSize::text("1023KiB"), None);
        assert_eq!(BufferSize::integer(1 << 20), Some(1 << 20));
        assert_eq!((Size::integer(-1), Size::integer(0)), (None, None));
        assert_eq!((Count::integer(1), Count::integer(1 << 32)), (Some(1), None));
    }

    #[test]
    fn names() {
        let long = "a".repeat(64);
        for good in ["a", "work", "A.b_c-9", "9", "-", long.as_str()] {
            assert!(valid_name(good), "{good:?}");
        }
        let long = "a".repeat(65);
        for bad in ["", ".", "..", ".a", "a/b", "a b", "ä", "a\n", "a\0", long.as_str()] {
            assert!(!valid_name(bad), "{bad:?}");
        }
    }
}
