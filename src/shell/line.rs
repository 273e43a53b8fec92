//! A line of input: words, `key=value`, quotes, comments.

use std::collections::BTreeMap;

/// The words of a command: its name and its arguments.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Words {
    pub(crate) command: String,
    arguments: BTreeMap<String, Option<String>>,
}

/// Splits a line at white space. Double quotes keep a value together, and a backslash takes the next character literally. Blank
/// lines and comments have no words.
pub(crate) fn words(line: &str) -> Result<Words, String> {
    let mut split = Vec::new();
    let mut word = None::<String>;
    let mut quoted = false;
    let mut characters = line.chars();
    while let Some(c) = characters.next() {
        match c {
            '"' => {
                quoted = !quoted;
                word.get_or_insert_default();
            }
            '\\' => word.get_or_insert_default().extend(characters.next()),
            c if c.is_whitespace() && !quoted => split.extend(word.take()),
            '#' if word.is_none() && split.is_empty() => break,
            c => word.get_or_insert_default().push(c),
        }
    }
    if quoted {
        return Err("a quote is not closed".into());
    }
    split.extend(word);
    let mut split = split.into_iter();
    let mut words = Words { command: split.next().unwrap_or_default(), ..Words::default() };
    for word in split {
        let (key, value) = match word.split_once('=') {
            Some((key, value)) => (key.to_owned(), Some(value.to_owned())),
            None => (word, None),
        };
        if words.arguments.insert(key.clone(), value).is_some() {
            return Err(format!("{key} is given twice"));
        }
    }
    Ok(words)
}

impl Words {
    pub(crate) fn is_empty(&self) -> bool {
        self.command.is_empty() && self.arguments.is_empty()
    }

    /// The value of `key=value`, which stays.
    pub(crate) fn look(&self, key: &str) -> Option<&str> {
        self.arguments.get(key)?.as_deref()
    }

    /// Takes the value of `key=value`.
    pub(crate) fn value(&mut self, key: &str) -> Result<Option<String>, String> {
        match self.arguments.remove(key) {
            None => Ok(None),
            Some(Some(value)) => Ok(Some(value)),
            Some(None) => Err(format!("{key} takes a value: {key}=…")),
        }
    }

    /// Takes a value that is required.
    pub(crate) fn needed(&mut self, key: &str) -> Result<String, String> {
        self.value(key)?.ok_or_else(|| format!("{} needs {key}=…", self.command))
    }

    /// Takes a word without a value.
    pub(crate) fn flag(&mut self, key: &str) -> Result<bool, String> {
        match self.arguments.remove(key) {
            None => Ok(false),
            Some(None) => Ok(true),
            Some(Some(_)) => Err(format!("{key} takes no value")),
        }
    }

    /// Fails if an argument was not taken.
    pub(crate) fn end(&self) -> Result<(), String> {
        match self.arguments.keys().next() {
            None => Ok(()),
            Some(key) => Err(format!("{} does not take {key}", self.command)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_split_as_people_write_them() {
        let mut w = words("  submit session=1\tfile=\"a b.eml\" deferred ").expect("words");
        assert_eq!(w.command, "submit");
        assert_eq!(w.value("file"), Ok(Some("a b.eml".into())));
        assert_eq!(w.needed("session"), Ok("1".into()));
        assert_eq!(w.flag("deferred"), Ok(true));
        assert_eq!(w.flag("deferred"), Ok(false));
        assert_eq!(w.end(), Ok(()));
        assert!(words("").expect("none").is_empty());
        assert!(words("   # logon").expect("none").is_empty());
        assert_eq!(words("a x=b#c").expect("words").value("x"), Ok(Some("b#c".into())));
        assert_eq!(words(r#"a x=\"q\ "#).expect("words").value("x"), Ok(Some("\"q ".into())));
    }

    #[test]
    fn what_makes_no_sense_is_said() {
        assert!(words("a x=\"b").is_err());
        assert!(words("a x=1 x=2").is_err());
        assert!(words("a x").expect("words").value("x").is_err());
        assert!(words("a x=1").expect("words").flag("x").is_err());
        assert!(words("a").expect("words").needed("x").is_err());
        assert!(words("a z").expect("words").end().is_err());
    }
}
