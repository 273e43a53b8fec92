//! What a sender wants to be told about: the values of `-N` and `-R`, as RFC 3461 has them.

use sundown_client::{Notify, Returned};

/// The value of `-N`: `never`, or occasions with commas between them.
pub(crate) fn notify(value: &str) -> Option<Notify> {
    if value.eq_ignore_ascii_case("never") {
        return Some(Notify::NEVER);
    }
    let mut occasions = value.split(',').map(|word| occasion(word.trim()));
    occasions.try_fold(Notify::NEVER, |all, occasion| Some(all.with(occasion?)))
}

fn occasion(word: &str) -> Option<Notify> {
    match word.to_ascii_lowercase().as_str() {
        "failure" => Some(Notify::FAILURE),
        "delay" => Some(Notify::DELAY),
        "success" => Some(Notify::SUCCESS),
        _ => None,
    }
}

/// The value of `-R`.
pub(crate) fn returned(value: &str) -> Option<Returned> {
    match value.to_ascii_lowercase().as_str() {
        "full" => Some(Returned::Full),
        "hdrs" => Some(Returned::Headers),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_checked() {
        let all = Notify::FAILURE.with(Notify::DELAY).with(Notify::SUCCESS);
        let cases = [
            ("never", Some(Notify::NEVER)),
            ("NEVER", Some(Notify::NEVER)),
            ("failure", Some(Notify::FAILURE)),
            ("Failure,delay, success", Some(all)),
            ("delay,delay", Some(Notify::DELAY)),
            ("never,failure", None),
            ("failure,", None),
            ("", None),
            ("often", None),
        ];
        for (value, wanted) in cases {
            assert_eq!(notify(value), wanted, "{value:?}");
        }
        assert_eq!(returned("HDRS"), Some(Returned::Headers));
        assert_eq!(returned("full"), Some(Returned::Full));
        assert_eq!(returned("some"), None);
    }
}
