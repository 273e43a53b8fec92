//! The arguments of a program, with placeholders for what is different in each message.
//!
//! No shell is involved. A value stays in the argument that names it, whatever is in it, and what looks like a placeholder in a value
//! is none. Where a program would read a value as an option, or a shell as a script, it is refused.

use std::path::Path;

/// What is different in each message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Placeholder {
    Recipient,
    Sender,
    User,
}

impl Placeholder {
    const ALL: [Self; 3] = [Self::Recipient, Self::Sender, Self::User];

    fn name(self) -> &'static str {
        match self {
            Self::Recipient => "recipient",
            Self::Sender => "sender",
            Self::User => "user",
        }
    }

    /// The status of a refusal (RFC 3463), and what is refused.
    fn described(self) -> (&'static str, &'static str) {
        match self {
            Self::Recipient => ("5.1.3", "the address of the recipient"),
            Self::Sender => ("5.1.7", "the address of the sender"),
            Self::User => ("5.1.3", "the name of the user"),
        }
    }
}

/// A part of an argument.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Part {
    Text(String),
    Value(Placeholder),
}

/// The arguments of a program.
///
/// ```
/// use sundown_providers::pipe::Template;
///
/// let arguments = ["-d", "{user}"].map(str::to_owned);
/// assert!(Template::of("/usr/bin/procmail", &arguments).unwrap().names_user());
/// assert!(Template::of("procmail", &arguments).is_err());
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Template(Vec<Vec<Part>>);

/// What the placeholders stand for.
#[derive(Debug, Clone, Copy)]
pub(super) struct Values<'a> {
    /// The address.
    pub(super) recipient: &'a str,
    /// The envelope's sender; empty for the null sender.
    pub(super) sender: &'a str,
    /// A user of this host, if an argument names one.
    pub(super) user: &'a str,
}

impl Template {
    /// Reads the arguments of a profile. The error says in words what is wrong with them.
    pub fn of(program: &str, arguments: &[String]) -> Result<Self, String> {
        if !Path::new(program).is_absolute() {
            return Err(format!("{program:?} is no absolute path of a program"));
        }
        if program.contains('{') {
            return Err(format!("{program:?}: the program itself has no placeholders"));
        }
        if let Some(text) =
            arguments.iter().map(String::as_str).chain([program]).find(|t| t.contains('\0'))
        {
            return Err(format!("{text:?} has a NUL in it"));
        }
        let parts = arguments.iter().map(|text| parts_of(text)).collect::<Result<Vec<_>, _>>()?;
        for (before, argument) in arguments.iter().zip(parts.iter().skip(1)) {
            if is_script_option(before)
                && let Some(Part::Value(name)) =
                    argument.iter().find(|p| matches!(p, Part::Value(_)))
            {
                let name = name.name();
                return Err(format!(
                    "{{{name}}} stands in the script behind {before:?}: a shell would run what is in an address. Give it as an \
                     argument of its own, such as [\"/bin/sh\", \"-c\", \"/usr/bin/filter \\\"$1\\\"\", \"sh\", \"{{{name}}}\"]"
                ));
            }
        }
        Ok(Self(parts))
    }

    /// Whether an argument has `{user}` in it.
    pub fn names_user(&self) -> bool {
        self.0.iter().flatten().any(|part| *part == Part::Value(Placeholder::User))
    }

    /// The arguments for one recipient, or why there are none: a reply for the recipient.
    pub(super) fn expand(&self, values: Values<'_>) -> Result<Vec<String>, String> {
        for name in Placeholder::ALL {
            if values.of(name).contains(char::is_control) {
                let (status, what) = name.described();
                return Err(format!("{status} {what} has a control character in it"));
            }
        }
        self.0.iter().map(|argument| expanded(argument, values)).collect()
    }
}

impl<'a> Values<'a> {
    fn of(self, name: Placeholder) -> &'a str {
        match name {
            Placeholder::Recipient => self.recipient,
            Placeholder::Sender => self.sender,
            Placeholder::User => self.user,
        }
    }
}

/// An argument with its values. One that would become an option by what is in an address is refused.
fn expanded(argument: &[Part], values: Values<'_>) -> Result<String, String> {
    let text: String = argument
        .iter()
        .map(|part| match part {
            Part::Text(known) => known,
            Part::Value(name) => values.of(*name),
        })
        .collect();
    match argument.first() {
        Some(Part::Value(first)) if text.starts_with('-') => {
            let (status, what) = first.described();
            Err(format!(
                "{status} {what} makes an argument begin with a hyphen, and a program could take it for an option"
            ))
        }
        _ => Ok(text),
    }
}

/// The parts of an argument: `{name}` is a placeholder, `{{` a brace. Any other brace stands for itself.
fn parts_of(text: &str) -> Result<Vec<Part>, String> {
    let (mut parts, mut plain, mut rest) = (Vec::new(), String::new(), text);
    while let Some((before, behind)) = rest.split_once('{') {
        plain += before;
        if let Some(behind) = behind.strip_prefix('{') {
            plain.push('{');
            rest = behind;
            continue;
        }
        let word = behind.split_once('}').filter(|(word, _)| is_word(word));
        let Some((word, behind)) = word else {
            plain.push('{');
            rest = behind;
            continue;
        };
        let name = Placeholder::ALL.into_iter().find(|name| name.name() == word).ok_or_else(|| {
            format!(
                "{{{word}}} stands for nothing; expected {{recipient}}, {{sender}} or {{user}}, or {{{{{word}}} if these \
                 are the characters that are meant"
            )
        })?;
        if !plain.is_empty() {
            parts.push(Part::Text(std::mem::take(&mut plain)));
        }
        parts.push(Part::Value(name));
        rest = behind;
    }
    plain += rest;
    if !plain.is_empty() {
        parts.push(Part::Text(plain));
    }
    Ok(parts)
}

/// Whether a word in braces was meant for a placeholder.
fn is_word(word: &str) -> bool {
    !word.is_empty() && word.bytes().all(|b| b.is_ascii_lowercase() || b == b'_')
}

/// Whether a shell takes the next argument for a script: `-c`, also with other options in front of it.
fn is_script_option(argument: &str) -> bool {
    let letters = argument.strip_prefix('-').and_then(|letters| letters.strip_suffix('c'));
    letters.is_some_and(|letters| letters.bytes().all(|b| b.is_ascii_alphabetic()))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn template(arguments: &[&str]) -> Result<Template, String> {
        let arguments: Vec<_> = arguments.iter().map(|text| (*text).to_owned()).collect();
        Template::of("/bin/x", &arguments)
    }

    fn expand(arguments: &[&str], recipient: &str, sender: &str) -> Result<Vec<String>, String> {
        let values = Values { recipient, sender, user: "anna" };
        template(arguments).expect("they can be read").expand(values)
    }

    #[test]
    fn placeholders_stand_for_values() {
        let arguments = ["-d", "{user}", "-f", "{sender}", "--to={recipient}/{user}", "", "plain"];
        let expected = ["-d", "anna", "-f", "b@c", "--to=anna+x@localhost/anna", "", "plain"];
        assert_eq!(expand(&arguments, "anna+x@localhost", "b@c").expect("expanded"), expected);
        assert_eq!(expand(&["{sender}"], "a", "").expect("the null sender"), [""]);
    }

    /// Braces that are no placeholders stay, and one that would be is written twice.
    #[test]
    fn other_braces_stand_for_themselves() {
        let arguments = ["${HOME}", "{", "}", "{}", "{\"a\": 1}", "{{user}", "{{{user}", "a{2,3}"];
        let expected = ["${HOME}", "{", "}", "{}", "{\"a\": 1}", "{user}", "{anna", "a{2,3}"];
        assert_eq!(expand(&arguments, "a", "b").expect("expanded"), expected);
    }

    #[test]
    fn what_cannot_be_meant_is_refused() {
        for (arguments, words) in [
            (
                &["{size}"][..],
                "{size} stands for nothing; expected {recipient}, {sender} or {user}",
            ),
            (&["a", "x{usr}"], "or {{usr} if these"),
            (&["a\0b"], "a NUL"),
            (&["-c", "filter {recipient}"], "a shell would run"),
            (&["-ec", "filter {user}"], "{user} stands in the script"),
            (&["sh", "-lc", "{sender}"], "as an argument of its own"),
        ] {
            let why = template(arguments).expect_err("refused");
            assert!(why.contains(words), "{arguments:?}: {why}");
        }
        for arguments in
            [&["-c", "filter", "{user}"][..], &["-c"], &["--c", "{user}"], &["c", "{user}"]]
        {
            assert!(template(arguments).is_ok(), "{arguments:?}");
        }
        for program in ["", "x", "bin/x", "~/x", "/bin/{user}", "/bin/\0"] {
            assert!(Template::of(program, &[]).is_err(), "{program:?}");
        }
    }

    #[test]
    fn no_value_becomes_an_option() {
        let refused = |arguments: &[&str], recipient, sender, words: &str| {
            let why = expand(arguments, recipient, sender).expect_err("refused");
            assert!(why.contains(words), "{why}");
        };
        refused(&["{recipient}"], "-rf@localhost", "a", "5.1.3 the address of the recipient makes");
        refused(&["-f", "{sender}"], "a", "-oQ/tmp@b", "5.1.7 the address of the sender makes");
        // The null sender hides nothing from a program.
        refused(&["{sender}{recipient}"], "-rf", "", "5.1.7");
        refused(&["{sender}-rf"], "a", "", "5.1.7");
        let behind = expand(&["-f{sender}", "to={recipient}"], "-rf", "-oQ").expect("expanded");
        assert_eq!(behind, ["-f-oQ", "to=-rf"]);
    }

    /// Whether or not an argument names them: both are in the environment, too.
    #[test]
    fn values_with_control_characters_are_refused() {
        for bad in ["a\nb", "a\0", "\r", "a\u{7f}", "\u{85}"] {
            assert!(expand(&[], bad, "").expect_err("refused").starts_with("5.1.3 "), "{bad:?}");
            assert!(expand(&[], "", bad).expect_err("refused").starts_with("5.1.7 "), "{bad:?}");
        }
    }

    proptest! {
        /// Whatever is in the values: there are as many arguments as before, and each is its text with the values in their places.
        #[test]
        fn a_value_stays_in_its_argument(
            texts in proptest::collection::vec("[a-z ]{0,4}(\\{user\\}|\\{sender\\}|\\{recipient\\}|\\{\\{)?[a-z-]{0,3}", 0..5),
            recipient in "\\PC{0,12}", sender in "[{}a-z@\" -]{0,16}",
        ) {
            let values = Values { recipient: &recipient, sender: &sender, user: "{sender}" };
            let read = Template::of("/bin/x", &texts);
            prop_assume!(read.is_ok());
            let read = read.expect("it was looked at");
            if let Ok(arguments) = read.expand(values) {
                prop_assert_eq!(arguments.len(), texts.len());
                for (argument, text) in arguments.iter().zip(&texts) {
                    let (front, behind) = text.split_once('{').unwrap_or((text, ""));
                    let value = match behind.split_once('}') {
                        _ if behind.is_empty() => String::new(),
                        Some(("recipient", rest)) => format!("{recipient}{rest}"),
                        Some(("sender", rest)) => format!("{sender}{rest}"),
                        Some(("user", rest)) => format!("{{sender}}{rest}"),
                        _ => behind.to_owned(),
                    };
                    prop_assert_eq!(argument, &format!("{front}{value}"));
                    prop_assert!(text.starts_with('-') || !argument.starts_with('-'));
                }
            }
        }

        #[test]
        fn no_arguments_panic(texts in proptest::collection::vec("[{}a-z-]{0,8}", 0..4), value in "\\PC{0,8}") {
            if let Ok(read) = Template::of("/bin/x", &texts) {
                let _ = read.expand(Values { recipient: &value, sender: &value, user: &value });
            }
        }
    }
}
