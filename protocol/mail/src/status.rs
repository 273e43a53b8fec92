//! Enhanced status codes (RFC 3463): `5.1.1` of `550 5.1.1 no such user`.

/// Whether a word is an enhanced status code: the class 2, 4 or 5, and two numbers of one to three digits.
///
/// ```
/// use sundown_mail::status::is_enhanced;
///
/// assert!(is_enhanced("2.0.0") && is_enhanced("4.4.123"));
/// assert!(!is_enhanced("550") && !is_enhanced("192.0.2.1"));
/// ```
pub fn is_enhanced(word: &str) -> bool {
    let mut parts = word.split('.');
    let is_number = |part: &str| {
        (1..=3).contains(&part.len()) && part.bytes().all(|byte| byte.is_ascii_digit())
    };
    matches!(parts.next(), Some("2" | "4" | "5"))
        && parts.next().is_some_and(is_number)
        && parts.next().is_some_and(is_number)
        && parts.next().is_none()
}

/// Whether a word is the enhanced status code of a failure, for now or for good.
///
/// ```
/// use sundown_mail::status::is_failure;
///
/// assert!(is_failure("4.4.7") && is_failure("5.7.1"));
/// assert!(!is_failure("2.0.0") && !is_failure("5"));
/// ```
pub fn is_failure(word: &str) -> bool {
    is_enhanced(word) && !word.starts_with('2')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_status_has_a_class_and_two_numbers() {
        for good in ["2.0.0", "5.7.1", "4.4.123", "5.999.999"] {
            assert!(is_enhanced(good), "{good}");
            assert_eq!(is_failure(good), !good.starts_with('2'), "{good}");
        }
        for bad in [
            "",
            "2.0",
            "3.0.0",
            "1.0.0",
            "0.0.0",
            "2.0.0.1",
            "2.a.0",
            "250",
            "2..0",
            "192.0.2.1",
            "5.1.1234",
            "5.1.1,",
            "55.1.1",
            ".1.1",
            "5.1.",
            "5.+1.1",
        ] {
            assert!(!is_enhanced(bad) && !is_failure(bad), "{bad}");
        }
    }
}
