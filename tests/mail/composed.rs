//! What `send` writes itself, as a parser reads it that knows nothing of Sundown.

use std::process::Command;

use serde_json::{Value, json};

use crate::harness::{Home, run};
use crate::servers::{program, skipped};

/// The parser of Python, which many programs read mail with.
const READER: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/mail/read_message.py");

/// Sends a text with these options, and reads what was delivered.
fn sent(home: &Home, options: &[&str], text: &str) -> Option<Value> {
    let Some(python) = program("python3") else {
        skipped("python3 is not installed");
        return None;
    };
    let mut arguments = vec!["send", "--wait=60"];
    arguments.extend(options);
    home.run_with(&arguments, text).ok();
    let mut command = Command::new(python);
    command.arg(READER);
    let message = home.maildir("default").messages().pop().expect("it was delivered").text;
    Some(run(command, message).ok().json())
}

/// Subjects, names, texts and files in any language are what they were, in ASCII and short lines, and nothing of it is a defect.
///
/// design §8
#[test]
fn mail_in_any_language_is_read_by_others() {
    let long = "Ein Betreff mit Ümlauten und 日本語, der in keine Zeile passt ".repeat(3);
    let many = (1..30).map(|n| format!("\"Person, No. {n}\" <p{n}@localhost>")).collect::<Vec<_>>();
    let many = format!("{}, Ünal <u@localhost>", many.join(", "));
    let name = format!("Prüfung \"für alle\" {}.pdf", "é".repeat(60));
    for text in ["plain\n", "Grüße\n.\nFrom me  \n", "日本語の本文です。\n", &"lang ".repeat(300)]
    {
        let home = Home::new();
        let _broker = home.serve();
        let file = home.write(&name, [0, 255, 13, 10, 13]);
        let file = file.to_str().expect("text");
        let options = [
            "--to",
            &many,
            "--from",
            "Änna \"Q\" <anna@localhost>",
            "--subject",
            &long,
            "--attach",
            file,
        ];
        let Some(read) = sent(&home, &options, text) else { return };
        assert_eq!(read["defects"], json!([]), "{read}");
        assert_eq!(read["subject"].as_str().map(str::trim_end), Some(long.trim_end()));
        assert_eq!(read["from"], json!([["Änna Q", "anna@localhost"]]));
        assert_eq!(read["to"].as_array().map(Vec::len), Some(30), "{read}");
        assert_eq!(read["to"][0], json!(["Person, No. 1", "p1@localhost"]));
        let body = read["parts"][0][2].as_str().map(|body| body.replace("\r\n", "\n"));
        assert_eq!(body.as_deref().map(str::trim_end), Some(text.trim_end()), "{read}");
        assert_eq!(read["parts"][1], json!(["application/pdf", name, "00ff0d0a0d"]));
        assert!(read["ascii"] == true && read["longest"].as_u64() <= Some(78), "{read}");
    }
}
