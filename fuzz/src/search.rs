//! Search: whatever a message is, what of it can be searched has its bounds; whatever is typed runs, or is refused in words.

use std::cell::RefCell;

use sundown_providers::search::{Document, Index, Query, Reader, path_of};
use tempfile::TempDir;

/// What of a message is kept, in bytes.
const KEPT: usize = (512 << 10) + 4 * (64 << 10);

/// An index with a message in it, which all queries of a thread are asked of.
struct Searched {
    _home: TempDir,
    reader: Reader,
}

impl Searched {
    fn new() -> Self {
        let home = tempfile::tempdir().expect("a directory");
        let path = path_of(&home.path().join("store.db"));
        let mut index = Index::open(&path, 1).expect("it is made");
        let message = "Subject: one two\r\nFrom: a@b\r\n\r\nthree 東京 x\r\n";
        index.add(1, &Document::of(message.as_bytes())).expect("it is added");
        index.commit().expect("it is committed");
        Self { _home: home, reader: Reader::new(&path, 1) }
    }
}

thread_local! {
    static SEARCHED: RefCell<Searched> = RefCell::new(Searched::new());
}

/// Bytes as a message that is put into an index, and as what is typed to search.
pub fn search(bytes: &[u8]) {
    let document = Document::of(bytes);
    assert!(document.size() <= KEPT, "more is kept than there is room for");

    match Query::parse(&String::from_utf8_lossy(bytes)) {
        Err(refused) => assert!(!refused.message.is_empty(), "it is refused without a word"),
        Ok(query) => SEARCHED.with_borrow_mut(|searched| {
            let found = searched.reader.search(&query, None, 10).expect("it runs");
            assert!(found.seqs.is_empty() || found.seqs == [1], "there is one message");
        }),
    }
}
