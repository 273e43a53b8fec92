//! Lines of the log that a page shows, compared with lines that a broker has written.

use std::path::Path;

use serde_json::Value;

use super::keys;

/// The line of the log, in JSON, that a page of `docs/` has for this event.
pub(crate) fn documented(page: &str, event: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs").join(page);
    let text = std::fs::read_to_string(path).expect("the page is there");
    let of_it =
        |line: &&str| line.starts_with('{') && line.contains(&format!("\"event\":\"{event}\""));
    let found = text.lines().find(of_it).map(str::to_owned);
    found.unwrap_or_else(|| panic!("docs/{page} shows no line with the event {event}"))
}

/// Checks that a line which a broker has written is the one that is shown: the same keys in the same order, each with a value of the
/// same type, and the same level, target and message. The page has `…` for what is different each time.
pub(crate) fn assert_as_documented(shown: &str, written: &str) {
    let [of_page, real] = [shown, written]
        .map(|line| serde_json::from_str::<Value>(line).unwrap_or_else(|e| panic!("{e}: {line}")));
    assert_eq!(keys(&of_page), keys(&real), "{written}");
    let mut named: Vec<_> = of_page.as_object().expect("an object").keys().collect();
    let at = |line: &str, key: &str| line.find(&format!("\"{key}\":")).expect("it has that key");
    named.sort_by_key(|key| at(shown, key));
    assert!(named.is_sorted_by_key(|key| at(written, key)), "another order: {written}");
    for key in named {
        let [of_page, real] = [&of_page[key], &real[key]];
        assert_eq!(
            std::mem::discriminant(of_page),
            std::mem::discriminant(real),
            "{key}: {written}"
        );
        if ["level", "target", "message", "event"].contains(&key.as_str()) {
            assert_eq!(of_page, real, "{key}: {written}");
        }
    }
}
