//! What a sender wants to be told about: `-N` and `-R`, as RFC 3461 has them.

/// When to write to the sender (`NOTIFY`).
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Notify {
    /// Whatever happens, nothing.
    Never,
    /// When one of these happens.
    On(Vec<Occasion>),
}

/// What can happen to a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Occasion {
    /// It did not arrive, and will not.
    Failure,
    /// It has not arrived yet.
    Delay,
    /// It arrived.
    Success,
}

/// How much of the message goes back with what is written (`RET`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Return {
    /// All of it.
    Full,
    /// Its head.
    Headers,
}

/// What was asked for. Without a flag it is the broker's usual way.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Report {
    pub(crate) notify: Option<Notify>,
    pub(crate) returns: Option<Return>,
}

impl Notify {
    /// The value of `-N`: `never`, or occasions with commas between them.
    pub(crate) fn parse(value: &str) -> Option<Self> {
        if value.eq_ignore_ascii_case("never") {
            return Some(Self::Never);
        }
        let mut occasions = Vec::new();
        for word in value.split(',') {
            let occasion = Occasion::parse(word.trim())?;
            if !occasions.contains(&occasion) {
                occasions.push(occasion);
            }
        }
        Some(Self::On(occasions))
    }
}

impl Occasion {
    fn parse(word: &str) -> Option<Self> {
        match word.to_ascii_lowercase().as_str() {
            "failure" => Some(Self::Failure),
            "delay" => Some(Self::Delay),
            "success" => Some(Self::Success),
            _ => None,
        }
    }
}

impl Return {
    /// The value of `-R`.
    pub(crate) fn parse(value: &str) -> Option<Self> {
        match value.to_ascii_lowercase().as_str() {
            "full" => Some(Self::Full),
            "hdrs" => Some(Self::Headers),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_checked() {
        use Occasion::{Delay, Failure, Success};
        let on = |occasions: &[Occasion]| Some(Notify::On(occasions.to_vec()));
        let cases = [
            ("never", Some(Notify::Never)),
            ("NEVER", Some(Notify::Never)),
            ("failure", on(&[Failure])),
            ("Failure,delay, success", on(&[Failure, Delay, Success])),
            ("delay,delay", on(&[Delay])),
            ("never,failure", None),
            ("failure,", None),
            ("", None),
            ("often", None),
        ];
        for (value, wanted) in cases {
            assert_eq!(Notify::parse(value), wanted, "{value:?}");
        }
        assert_eq!(Return::parse("HDRS"), Some(Return::Headers));
        assert_eq!(Return::parse("full"), Some(Return::Full));
        assert_eq!(Return::parse("some"), None);
    }
}
