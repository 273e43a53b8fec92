//! Contents tables and searches, a page at a time.

use std::fmt;
use std::sync::Arc;

use sundown_protocol::folder::{Bookmark, ContentsRow, Filter, Sort};
use sundown_protocol::request::{Folder as FolderKind, Request};
use sundown_protocol::{MemberId, ObjectId, Reply};

use crate::error::Error;
use crate::object::ObjectState;
use crate::session::{SessionState, unexpected};

/// The most rows of a page.
const PAGE: u32 = 256;

/// The rows of a folder, in an order (`IMAPIFolder::GetContentsTable`, `IMAPITable::SortTable`, `Restrict` and `QueryRows`). It asks
/// the broker for a page when its rows are used up, and holds no more than a page: a folder may have millions of messages. Between
/// two pages messages may come and go; a row that stays where it is in the order comes once.
///
/// It is an iterator over the rows. An error ends it: a later call of [`next_page`](Self::next_page) goes on at the same place.
///
/// ```no_run
/// use sundown_client::{Filter, FolderKind, Sort};
///
/// # fn show(session: &sundown_client::Session) -> Result<(), sundown_client::Error> {
/// let inbox = session.folder(FolderKind::INBOX)?;
/// for row in inbox.contents().sorted(Sort::NEWEST).only(Filter::UNREAD).limit(20) {
///     let row = row?;
///     println!("{} {}: {}", row.entry, row.from, row.subject);
/// }
/// # Ok(())
/// # }
/// ```
pub struct Contents {
    folder: Arc<ObjectState>,
    sort: Sort,
    only: Filter,
    rows: Pages<Bookmark>,
}

impl fmt::Debug for Contents {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Contents({:?}, {:?}, {:?})", self.folder, self.sort, self.only)
    }
}

impl Contents {
    pub(crate) fn new(folder: Arc<ObjectState>) -> Self {
        Self { folder, sort: Sort::NEWEST, only: Filter::default(), rows: Pages::default() }
    }

    /// Sets the order, and begins at its first row. Without it the newest message comes first ([`Sort::NEWEST`]). The broker has an
    /// index by the time of arrival; in another order it looks at all messages of the folder for each page.
    #[must_use]
    pub fn sorted(mut self, sort: Sort) -> Self {
        self.sort = sort;
        self.rows.restart();
        self
    }

    /// Leaves out the messages that the filter does not want, and begins at the first row.
    #[must_use]
    pub fn only(mut self, filter: Filter) -> Self {
        self.only = filter;
        self.rows.restart();
        self
    }

    /// Begins at the first row, and ends after this many.
    #[must_use]
    pub fn limit(mut self, rows: usize) -> Self {
        self.rows.limit(rows);
        self
    }

    /// The next rows, at most 256; `None` at the end. Rows that the iterator has not returned yet come first.
    ///
    /// The errors: `MAPI_E_NOT_FOUND` if the folder was removed, `MAPI_E_VERSION` with a broker that is too old.
    ///
    /// ```no_run
    /// # fn count(folder: &sundown_client::Folder) -> Result<usize, sundown_client::Error> {
    /// let (mut contents, mut count) = (folder.contents(), 0);
    /// while let Some(page) = contents.next_page()? {
    ///     count += page.len();
    /// }
    /// # Ok(count)
    /// # }
    /// ```
    pub fn next_page(&mut self) -> Result<Option<Vec<ContentsRow>>, Error> {
        let Self { folder, sort, only, rows } = self;
        rows.next_page(|after, limit| {
            let (sort, only) = (*sort, *only);
            let list = |member: MemberId, object: ObjectId| {
                let after = after.cloned();
                Request::Contents { member, object, sort, only, after, limit }
            };
            let Reply::Contents { rows, next } = folder.call(list)? else {
                return Err(unexpected());
            };
            // A page without rows, or the same place again, would be asked for forever.
            let goes_on = next.is_none() || !rows.is_empty() && next.as_ref() != after;
            if goes_on { Ok((rows, next)) } else { Err(unexpected()) }
        })
    }
}

impl Iterator for Contents {
    type Item = Result<ContentsRow, Error>;

    fn next(&mut self) -> Option<Self::Item> {
        next_row(self, |contents| &mut contents.rows, Self::next_page)
    }
}

/// Messages of a store that have certain words, newest first (`IMAPIFolder::SetSearchCriteria`, and its results). It asks the broker
/// for a page when its rows are used up, and holds no more than a page.
///
/// It is an iterator over the rows. An error ends it: a later call of [`next_page`](Self::next_page) goes on at the same place.
///
/// ```no_run
/// use sundown_client::FolderKind;
///
/// # fn show(session: &sundown_client::Session) -> Result<(), sundown_client::Error> {
/// let mut found = session.default_store()?.search("invoice march").in_folder(FolderKind::INBOX);
/// while let Some(page) = found.next_page()? {
///     for row in page {
///         println!("{} {}: {}", row.entry, row.from, row.subject);
///     }
/// }
/// if found.unindexed() > 0 {
///     println!("{} messages are not in the index yet", found.unindexed());
/// }
/// # Ok(())
/// # }
/// ```
pub struct Search {
    session: Arc<SessionState>,
    store: u16,
    words: String,
    folder: Option<FolderKind>,
    unindexed: u64,
    rows: Pages<u64>,
}

impl fmt::Debug for Search {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // The words may be a message's.
        write!(f, "Search({} bytes in {:?})", self.words.len(), self.folder)
    }
}

impl Search {
    pub(crate) fn new(session: Arc<SessionState>, store: u16, words: String) -> Self {
        let (folder, unindexed, rows) = (None, 0, Pages::default());
        Self { session, store, words, folder, unindexed, rows }
    }

    /// Looks into this folder only, and begins at its newest message. Without it all folders but Deleted are looked into.
    #[must_use]
    pub fn in_folder(mut self, folder: FolderKind) -> Self {
        self.folder = Some(folder);
        self.rows.restart();
        self
    }

    /// Begins at the first row, and ends after this many.
    #[must_use]
    pub fn limit(mut self, rows: usize) -> Self {
        self.rows.limit(rows);
        self
    }

    /// The next rows, at most 256; `None` at the end. Rows that the iterator has not returned yet come first.
    ///
    /// The errors: `MAPI_E_INVALID_PARAMETER` if the words cannot be searched for, which the message explains; `MAPI_E_TOO_BIG` for
    /// more than 4,096 bytes of words; `MAPI_E_NOT_FOUND` if the folder was removed; `MAPI_E_NO_SUPPORT` if the store has no index;
    /// `MAPI_E_VERSION` with a broker that is too old.
    pub fn next_page(&mut self) -> Result<Option<Vec<ContentsRow>>, Error> {
        let Self { session, store, words, folder, unindexed, rows } = self;
        rows.next_page(|after, limit| {
            let (store, folder, after) = (*store, *folder, after.copied().unwrap_or(0));
            let reply = session.call(|member| {
                let words = words.clone();
                Request::Search { member, store, words, folder, after, limit }
            })?;
            let Reply::Found { rows, next, unindexed: left } = reply else {
                return Err(unexpected());
            };
            // The cursor moves towards zero, because the newest messages have the highest places.
            if next.is_some_and(|next| next == 0 || after > 0 && next >= after) {
                return Err(unexpected());
            }
            *unindexed = left;
            Ok((rows, next))
        })
    }

    /// How many messages of the store were not in its index when the last page was asked for, so that the answer may lack them; 0
    /// before the first page. The index is built while the store is idle.
    pub fn unindexed(&self) -> u64 {
        self.unindexed
    }
}

impl Iterator for Search {
    type Item = Result<ContentsRow, Error>;

    fn next(&mut self) -> Option<Self::Item> {
        next_row(self, |search| &mut search.rows, Self::next_page)
    }
}

/// The next row of a table: from the rows at hand, or else from the next page.
fn next_row<T, C>(
    table: &mut T,
    rows: fn(&mut T) -> &mut Pages<C>,
    next_page: fn(&mut T) -> Result<Option<Vec<ContentsRow>>, Error>,
) -> Option<Result<ContentsRow, Error>> {
    loop {
        if let Some(row) = rows(table).row() {
            return Some(Ok(row));
        }
        if rows(table).failed {
            return None;
        }
        match next_page(table) {
            Ok(Some(page)) => rows(table).at_hand = page.into_iter(),
            Ok(None) => return None,
            Err(error) => {
                rows(table).failed = true;
                return Some(Err(error));
            }
        }
    }
}

/// A place in a table that is read by pages, with cursors of type `C`.
struct Pages<C> {
    /// Rows that the iterator has not returned yet.
    at_hand: std::vec::IntoIter<ContentsRow>,
    next: Next<C>,
    /// How many rows may still be asked for.
    left: usize,
    /// Whether an error has ended the iterator.
    failed: bool,
}

/// The next page of a table.
enum Next<C> {
    First,
    Behind(C),
    None,
}

impl<C> Default for Pages<C> {
    fn default() -> Self {
        let at_hand = Vec::new().into_iter();
        Self { at_hand, next: Next::First, left: usize::MAX, failed: false }
    }
}

impl<C> Pages<C> {
    fn restart(&mut self) {
        (self.at_hand, self.next, self.failed) = (Vec::new().into_iter(), Next::First, false);
    }

    fn limit(&mut self, rows: usize) {
        self.restart();
        self.left = rows;
    }

    fn row(&mut self) -> Option<ContentsRow> {
        self.at_hand.next()
    }

    /// The rows at hand, or the next page, which `ask` fetches behind a cursor with at most so many rows.
    fn next_page(
        &mut self,
        ask: impl FnOnce(Option<&C>, u32) -> Result<(Vec<ContentsRow>, Option<C>), Error>,
    ) -> Result<Option<Vec<ContentsRow>>, Error> {
        self.failed = false;
        let at_hand = std::mem::take(&mut self.at_hand);
        if at_hand.len() > 0 {
            return Ok(Some(at_hand.collect()));
        }
        let after = match &self.next {
            Next::First => None,
            Next::Behind(cursor) => Some(cursor),
            Next::None => return Ok(None),
        };
        if self.left == 0 {
            return Ok(None);
        }
        let limit = PAGE.min(u32::try_from(self.left).unwrap_or(PAGE));
        let (rows, next) = ask(after, limit)?;
        if rows.len() > limit as usize {
            return Err(unexpected());
        }
        self.left -= rows.len();
        self.next = next.map_or(Next::None, Next::Behind);
        let ended = rows.is_empty() && matches!(self.next, Next::None);
        Ok((!ended).then_some(rows))
    }
}
