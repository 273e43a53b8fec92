//! A Maildir: what was delivered.

use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;

/// A Maildir that a broker delivers to.
pub(crate) struct Maildir(pub(crate) PathBuf);

/// One delivered message.
#[derive(Debug, Clone)]
pub(crate) struct Delivered {
    pub(crate) text: String,
}

impl Delivered {
    /// The values of a header field, in their order.
    pub(crate) fn field(&self, name: &str) -> Vec<&str> {
        let head = self.text.split("\n\n").next().unwrap_or_default();
        let value = |line: &'_ str| -> Option<usize> {
            let (field, _) = line.split_once(':')?;
            field.eq_ignore_ascii_case(name).then_some(field.len() + 1)
        };
        head.lines().filter_map(|l| value(l).map(|at| l[at..].trim())).collect()
    }
}

impl Maildir {
    /// How many messages readers can see.
    pub(crate) fn count(&self) -> usize {
        ["new", "cur"].into_iter().map(|folder| self.files(folder).count()).sum()
    }

    /// Every message that readers can see.
    pub(crate) fn messages(&self) -> Vec<Delivered> {
        let files = ["new", "cur"].into_iter().flat_map(|folder| self.files(folder));
        let read = files.map(|file| fs::read(file).expect("a delivered message can be read"));
        read.map(|bytes| {
            let text = String::from_utf8_lossy(&bytes).replace("\r\n", "\n");
            Delivered { text }
        })
        .collect()
    }

    /// The only message.
    pub(crate) fn only(&self) -> Delivered {
        let mut messages = self.messages();
        assert_eq!(messages.len(), 1, "{messages:?}");
        messages.remove(0)
    }

    /// How often each value of a field was delivered.
    pub(crate) fn tally(&self, field: &str) -> BTreeMap<String, usize> {
        let mut tally = BTreeMap::new();
        for message in self.messages() {
            let value = message.field(field).join(", ");
            *tally.entry(value).or_default() += 1;
        }
        tally
    }

    fn files(&self, folder: &str) -> impl Iterator<Item = PathBuf> + use<> {
        let entries = fs::read_dir(self.0.join(folder)).into_iter().flatten();
        entries.filter_map(|entry| Some(entry.ok()?.path()))
    }
}
