//! The section "A client library" of `PROTOCOL.md` against this library. A library in another language that follows the page and this
//! one must be one program for the broker.

use std::path::Path;

use crate::paths::{Arguments, Environment, MAX_SOCKET_PATH, Paths};
use crate::{autostart, library, process};

/// The rows of the table with this name: the cells without their quotes.
fn rows(name: &str) -> Vec<Vec<String>> {
    let page = Path::new(env!("CARGO_MANIFEST_DIR")).join("../PROTOCOL.md");
    let page = std::fs::read_to_string(page).expect("PROTOCOL.md is there");
    let begin = format!("<!-- {name}: begin -->");
    let table = page.split(&begin).nth(1).expect("there is such a table");
    let table = table.split("<!--").next().expect("it ends");
    let rows = table.lines().filter(|line| line.starts_with('|')).skip(2);
    let cells = |row: &str| row.split('|').map(|cell| cell.trim().to_owned()).skip(1).collect();
    rows.map(cells).collect()
}

fn bytes(hex: &str) -> [u8; 16] {
    let hex = hex.trim_matches('`');
    std::array::from_fn(|n| u8::from_str_radix(&hex[2 * n..2 * n + 2], 16).expect("two digits"))
}

#[test]
fn the_image_is_computed_as_the_page_says() {
    let rows = rows("image");
    assert!(rows.len() >= 3);
    for row in rows {
        assert_eq!(process::mix(bytes(&row[0])), bytes(&row[1]), "{row:?}");
    }
}

#[test]
fn the_values_are_those_of_the_page() {
    let environment =
        Environment { variable: &|_| None, run: "/run".into(), ..Environment::of_this_process() };
    let host = Paths::resolve(&Arguments::default(), &environment)
        .ok()
        .and_then(|paths| paths.host_socket)
        .expect("nothing names a socket");
    let passed = autostart::PASSED_ON.map(|name| format!("`{name}`")).join(" ");
    let seconds = |time: std::time::Duration| format!("{} s", time.as_secs());
    let code = |text: &str| format!("`{text}`");
    let values = [
        ("patience", seconds(library::PATIENCE)),
        ("interval", format!("{} ms", library::LOOK.as_millis())),
        ("welcome", seconds(library::WELCOME)),
        ("host's socket", code(&host.to_string_lossy())),
        ("host's data", code(&environment.lib.join("sundown").to_string_lossy())),
        ("lock of the start", code(autostart::LOCK_FILE)),
        ("lock of the broker", code(autostart::BROKERS_LOCK)),
        ("log", code(autostart::LOG_FILE)),
        ("ready", code(autostart::READY)),
        ("longest start", autostart::LONGEST.to_string()),
        ("passed on", passed),
        ("path when raised", code(autostart::SYSTEM_PATH)),
        ("longest socket", MAX_SOCKET_PATH.to_string()),
    ];
    let page: Vec<_> = rows("client").iter().map(|row| (row[0].clone(), row[1].clone())).collect();
    let code: Vec<_> = values.into_iter().map(|(name, value)| (name.to_owned(), value)).collect();
    assert_eq!(page, code);
}

#[test]
fn the_words_of_a_broker_that_is_still_there_are_those_of_the_page() {
    let page = Path::new(env!("CARGO_MANIFEST_DIR")).join("../PROTOCOL.md");
    let page = std::fs::read_to_string(page).expect("PROTOCOL.md is there");
    assert!(page.contains(&format!("`{}`", autostart::OCCUPIED)));
}
