# Made by `client-lib/python/generate` from `asyncio/`: change that file, not this one.
"""Open objects: stores, folders, messages, drafts, the address book, the status table, and what another process granted."""

from __future__ import annotations

import os
from collections import deque
from typing import TYPE_CHECKING, Any, Iterator, Callable, Deque, Iterable, List, Optional, Sequence, Tuple, Type, TypeVar, Union

from .. import _errors, _limits, _mail, _process
from ..protocol import codes, events, replies, requests, types
from . import _io
from ._library import Library
from ._session import AnyMessage, Callback, Content, EntryText, Session, Sink, _entry, of_key, read_whole

if TYPE_CHECKING:
    import datetime

R = TypeVar("R", bound=replies.Reply)
_O = TypeVar("_O", bound="Object")

PAGE = 256
"""The most rows of a page."""
READ = 0x1
"""The mark of a message that was read."""


class Token(int):
    """A secret by which another process opens a granted object: `str(token)` passes it on, and its `repr` does not show it."""

    def __str__(self) -> str:
        return f"{int(self):032x}"

    def __repr__(self) -> str:
        return "Token(…)"

    @classmethod
    def of(cls, token: Union[int, str]) -> "Token":
        """The token that a text is. The error does not repeat it."""
        if isinstance(token, int):
            return cls(token)
        hexadecimal = isinstance(token, str) and len(token) == 32 and all(c in "0123456789abcdefABCDEF" for c in token)
        if not hexadecimal:
            kind = _errors.InvalidParameter if isinstance(token, str) else _errors.InvalidType
            raise kind("a token is 32 hexadecimal digits", code="MAPI_E_INVALID_PARAMETER")
        return cls(int(token, 16))


class ObjectState:
    """The handle of an open object. If the broker was away it is opened again when it is used; an unsaved draft cannot be."""

    def __init__(self, session: Session, what: Optional[types.Opening], handle: types.ObjectId) -> None:
        self.session = session
        self.what = what
        self.id = handle
        self.epoch = session._epoch
        self.released = False

    def reopen(self, link: _io.Link) -> None:
        """Opens it again if the broker was away."""
        if self.released:
            raise _errors.refused("this object was released; open it again", "MAPI_E_INVALID_OBJECT")
        if self.epoch != self.session._epoch:
            self.come_back(link, _limits.deadline(self.session._library.options.timeout))

    def come_back(self, link: _io.Link, until: Optional[float]) -> types.ObjectId:
        """Opens it over this connection."""
        if self.what is None:
            raise _errors.refused("the unsaved draft was lost when the broker was away; look into Drafts", "MAPI_E_INVALID_OBJECT")
        opened = self.session._library.ask(link, replies.Opened, requests.Open(self.session.member, self.what), until)
        self.id, self.epoch = opened.object, self.session._epoch
        return self.id

    def call(self, reply: Type[R], request: Callable[[int, types.ObjectId], requests.Request]) -> R:
        """A request about the object."""
        return self.session._call(reply, lambda link: request(self.session.alive(), self.id), before=self.reopen)


class Object:
    """Base of open objects. Each is a context manager, whose end releases it (`IUnknown::Release`)."""

    def __init__(self, state: ObjectState) -> None:
        self._state = state

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self._state.what!r}>"

    def release(self) -> None:
        """Releases the object. Releasing it again does nothing, and neither does a forked child."""
        state = self._state
        if not state.released and state.session._library.home.is_here():
            state.released = True
            if state.epoch == state.session._epoch:
                state.session._tell(lambda: requests.Release(state.session.member, state.id))

    def __enter__(self: _O) -> _O:
        return self

    def __exit__(self, *_: object) -> None:
        self.release()

    def _rows(self) -> List[types.TableRows]:
        """All rows of a table, by pages."""
        pages: List[types.TableRows] = []
        after = 0
        while True:
            page = self._state.call(replies.Rows, lambda member, handle: requests.List(member, handle, after, PAGE))
            pages.append(page.rows)
            if page.next is None:
                return pages
            after = go_on(after, page.next)


class _Advises(Object):
    def advise(self, events: Union[str, int, Iterable[str]] = "object-modified", callback: Optional[Callback] = None) -> Sink:
        """Registers for events of this object; see `Session.advise`. Tables take `"table-modified"`."""
        return self._state.session._advise(self._state, events, callback)


class _Grants(_Advises):
    def grant(self, pid: Optional[int] = None) -> Token:
        """Lets another process of this user see this object, without the session.

        The token can be redeemed once (`Mapi.redeem`), within a minute, and only by the process with this id if one is given. Pass `str(token)` on by a way that
        others cannot read.
        """
        token = Token(int.from_bytes(os.urandom(16), "little"))
        self._state.call(replies.Done, lambda member, handle: requests.Grant(member, handle, token, pid))
        return token


class Store(_Advises):
    """An open message store (`IMsgStore`)."""

    def __init__(self, state: ObjectState, place: int) -> None:
        super().__init__(state)
        self.place = place
        """Its place in the profile."""

    def folder(self, folder: str) -> "Folder":
        """Opens a folder by its word; see `Session.folder`."""
        return self._state.session.folder(folder, store=self.place)

    def folders(self) -> Tuple[types.FolderRow, ...]:
        """The folders of the store, in the order of their numbers (`IMAPIFolder::GetHierarchyTable`). `MAPI_E_VERSION` with a broker that is too old.

        Example:
            for row in store.folders():
                print(row.folder, row.name, row.unread)
        """
        session = self._state.session
        rows: List[types.FolderRow] = []
        after: Optional[str] = None
        while True:
            page = session._call(replies.Folders, lambda link: requests.Folders(session.alive(), self.place, after, PAGE))
            rows += page.rows
            if page.next is None:
                return tuple(rows)
            if after is not None and types.folder_number(page.next) <= types.folder_number(after):
                raise _errors.unexpected()
            after = page.next

    def make_folder(self, name: str, parent: Optional[str] = None) -> str:
        """Makes a folder in another one, or at the top (`IMAPIFolder::CreateFolder`). Returns its word. Its name has at most 255 bytes.

        `MAPI_E_COLLISION` if there is one of this name, `MAPI_E_TOO_COMPLEX` if folders would lie too deep in each other.
        """
        session = self._state.session
        try:
            made = session._call(replies.Made, lambda link: requests.MakeFolder(session.alive(), self.place, parent, name))
            return made.folder
        except _errors.Error as error:
            # The first request made the folder, or it existed before.
            if not (error._repeated and error.code == "MAPI_E_COLLISION"):
                raise
            found = [row.folder for row in self.folders() if row.parent == parent and row.name == name]
            if not found:
                raise
            return found[0]

    def rename_folder(self, folder: str, name: str) -> None:
        """Gives a folder another name. The five folders of every store keep theirs (`MAPI_E_NO_ACCESS`)."""
        session = self._state.session
        session._done(lambda: requests.RenameFolder(session.alive(), self.place, folder, name))

    def remove_folder(self, folder: str) -> None:
        """Removes an empty folder (`IMAPIFolder::DeleteFolder`): `MAPI_E_HAS_MESSAGES`, `MAPI_E_HAS_FOLDERS`."""
        session = self._state.session
        session._settled(lambda: requests.RemoveFolder(session.alive(), self.place, folder), "MAPI_E_NOT_FOUND")

    def search(self, words: str, folder: Optional[str] = None, limit: Optional[int] = None) -> "Search":
        """Searches for messages with all of these words in their subject, addresses, text or names of attachments, newest first.

        Without a folder all but Deleted are looked into. The broker is asked when the first row is wanted.
        """
        return Search(self._state.session, self.place, _errors.string(words, "words"), folder, limit)

    def store_logoff(self, flags: int) -> int:
        """`IMsgStore::StoreLogoff` with exactly one input flag: 0x1 no wait, 0x2 orderly, 0x4 purge, 0x8 abort, 0x10 quiet. Returns the output flags: 0x10000
        complete (the object is invalid), 0x40000 messages are being sent, 0x80000 messages wait."""
        left = self._state.call(replies.StoreLoggedOff, lambda member, handle: requests.StoreLogoff(member, handle, flags))
        if left.flags & 0x10000:
            self._state.released = True
        return left.flags


class Folder(_Grants):
    """An open folder and its contents table (`IMAPIFolder`, `IMAPITable`)."""

    def __init__(self, state: ObjectState, place: int, word: str) -> None:
        super().__init__(state)
        self._place = place
        self.word = word
        """Its word, as `"inbox"`."""

    def contents(
        self,
        sort: Union[types.Column, str] = "received",
        descending: bool = True,
        unread: bool = False,
        limit: Optional[int] = None,
    ) -> "Contents":
        """The contents table: rows with flags, fetched by pages of 256 as they are wanted (`IMAPIFolder::GetContentsTable`, `SortTable`, `Restrict`).

        Args:
            sort: `received` (which has an index), `date`, `from`, `subject` or `size`.
            descending: newest or greatest first.
            unread: only messages without the flag `read`.
            limit: at most so many rows.

        Example:
            for row in folder.contents(limit=20):
                print(row.sender, row.subject)
        """
        try:
            column = types.Column(sort)
        except ValueError:
            raise _errors.InvalidParameter(
                f"sort is {sort!r}, and must be one of {', '.join(types.Column)}", code="MAPI_E_INVALID_PARAMETER"
            ) from None
        direction = types.Direction.DESCENDING if descending else types.Direction.ASCENDING
        return Contents(self._state, types.Sort(column, direction), types.Filter(0, READ if unread else 0), limit)

    def messages(self) -> Tuple[types.MessageRow, ...]:
        """All messages, without flags, in the order in which the store got them. Brokers of every version have this table."""
        return messages_of(self._rows())

    def search(self, words: str, limit: Optional[int] = None) -> "Search":
        """Searches in this folder; see `Store.search`."""
        return Search(self._state.session, self._place, _errors.string(words, "words"), self.word, limit)

    def append(
        self,
        message: AnyMessage,
        flags: Union[types.Flags, str, Iterable[str]] = (),
        received: "Union[datetime.datetime, float, None]" = None,
        key: Optional[int] = None,
    ) -> types.EntryId:
        """Puts a message into this folder as it is, with flags (`IMAPIFolder::CreateMessage`, `SaveChanges`). It is durable then, and is not sent.

        `received` is when it came, in seconds since 1970 or as a `datetime`; without it now. A repeat with the same `key` makes no second message.
        """
        session = self._state.session
        with _errors.arguments():
            seconds = received if received is None or isinstance(received, (int, float)) else received.timestamp()
            millis = None if seconds is None else int(_limits.number(seconds, "received") * 1000)
            wanted = types.Flags.of(flags)
        content = Content(session, self._place, _mail.bytes_of(message))
        chosen = _process.new_key() if key is None else key

        def send(link: _io.Link) -> None:
            # Before the pieces of a long message are sent for nothing.
            Library.needs(link, requests.Append(0, 0, 0, "inbox", types.Inline(b""), types.Flags(), None))
            content.send(link)

        saved = session._call(
            replies.Saved,
            lambda link: requests.Append(session.alive(), chosen, self._place, self.word, content.made(), wanted, millis),
            before=send,
        )
        return of_key(saved, chosen)

    def delete(self, entry: EntryText) -> None:
        """Moves a message that is in this folder into Deleted, or deletes it for good from there. It is repeated if the broker goes away, and deletes once."""
        session, wanted = self._state.session, _entry(entry)

        def request(link: _io.Link) -> requests.Request:
            if link.core.version >= 3:
                return requests.DeleteFrom(session.alive(), wanted, self.word)
            return requests.Delete(session.alive(), wanted)

        try:
            session._call(replies.Done, request)
        except _errors.Error as error:
            if not (error._repeated and error.code == "MAPI_E_NOT_FOUND"):
                raise


class Pages:
    """Rows that are fetched by pages as they are wanted: an iterator. An error ends it."""

    def __init__(self, limit: Optional[int]) -> None:
        if limit is not None and (not isinstance(limit, int) or limit < 0):
            raise _errors.InvalidParameter(f"limit is {limit!r}, and must be a number of rows", code="MAPI_E_INVALID_PARAMETER")
        self._left = limit
        self._at_hand: Deque[types.ContentsRow] = deque()
        self._over = False

    def _page(self, limit: int) -> "Tuple[Tuple[types.ContentsRow, ...], bool]":
        """The next rows, and whether more follow."""
        raise NotImplementedError

    def next_page(self) -> Tuple[types.ContentsRow, ...]:
        """The next rows, at most 256; none at the end."""
        if self._at_hand:
            rows = tuple(self._at_hand)
            self._at_hand.clear()
            return rows
        if self._over or self._left == 0:
            return ()
        limit = PAGE if self._left is None else min(PAGE, self._left)
        found, more = self._page(limit)
        if len(found) > limit or (more and not found):
            raise _errors.unexpected()
        self._over = not more
        if self._left is not None:
            self._left -= len(found)
        return found

    def all(self) -> Tuple[types.ContentsRow, ...]:
        """All rows that are left."""
        rows: List[types.ContentsRow] = []
        while True:
            page = self.next_page()
            if not page:
                return tuple(rows)
            rows += page

    def __iter__(self) -> Iterator[types.ContentsRow]:
        return self

    def __next__(self) -> types.ContentsRow:
        if not self._at_hand:
            self._at_hand.extend(self.next_page())
            if not self._at_hand:
                raise StopIteration
        return self._at_hand.popleft()


class Contents(Pages):
    """Rows of a folder, in an order. Between two pages messages may come and go; a row that stays where it is comes once."""

    def __init__(self, state: ObjectState, sort: types.Sort, only: types.Filter, limit: Optional[int]) -> None:
        super().__init__(limit)
        self._state, self._sort, self._only = state, sort, only
        self._after: Optional[types.Bookmark] = None

    def _page(self, limit: int) -> "Tuple[Tuple[types.ContentsRow, ...], bool]":
        page = self._state.call(
            replies.Contents,
            lambda member, handle: requests.Contents(member, handle, self._sort, self._only, self._after, limit),
        )
        if page.next is not None and page.next == self._after:
            raise _errors.unexpected()
        self._after = page.next
        return page.rows, page.next is not None


class Search(Pages):
    """Messages with certain words, newest first."""

    def __init__(self, session: Session, place: int, words: str, folder: Optional[str], limit: Optional[int]) -> None:
        super().__init__(limit)
        self._session, self._place, self._words, self._folder = session, place, words, folder
        self._after = 0
        self.unindexed = 0
        """How many messages were not in the store's index when the last page was asked for: the answer may lack them."""

    def _page(self, limit: int) -> "Tuple[Tuple[types.ContentsRow, ...], bool]":
        found = self._session._call(
            replies.Found,
            lambda link: requests.Search(self._session.alive(), self._place, self._words, self._folder, self._after, limit),
        )
        # The cursor moves towards zero, because the newest messages have the highest places.
        if found.next is not None and (found.next == 0 or 0 < self._after <= found.next):
            raise _errors.unexpected()
        self._after, self.unindexed = found.next or 0, found.unindexed
        return found.rows, found.next is not None


class OpenMessage(_Grants):
    """An open message (`IMessage`)."""

    def __init__(self, state: ObjectState, entry: types.EntryId) -> None:
        super().__init__(state)
        self.entry = entry
        """Its entry, which stays the same when it is moved."""

    def read_at(self, offset: int) -> Tuple[bytes, int]:
        """The piece that begins at this byte, at most 256 KiB, and the size of the whole message. At the end the piece is empty."""
        piece = self._state.call(replies.Piece, lambda member, handle: requests.Read(member, types.FromObject(handle), offset))
        return piece.data, piece.size

    def read(self) -> bytes:
        """All of its bytes. Reading sets no flag."""
        return self._state.session.read(self.entry)

    def set_flags(
        self, add: Union[types.Flags, str, Iterable[str]] = (), remove: Union[types.Flags, str, Iterable[str]] = ()
    ) -> types.Flags:
        """Sets and removes flags; see `Session.set_flags`."""
        return self._state.session.set_flags(self.entry, add, remove)

    def move_to(self, folder: str) -> None:
        """Moves the message; see `Session.move_to`."""
        self._state.session.move_to(self.entry, folder)

    def copy_to(self, folder: str) -> types.EntryId:
        """Copies the message; see `Session.copy_to`."""
        return self._state.session.copy_to(self.entry, folder)


class Draft(Object):
    """An unsaved message. A logoff discards it; a crash, an eviction or a fast shutdown keeps it in Drafts."""

    def __init__(self, state: ObjectState) -> None:
        super().__init__(state)
        self.entry: Optional[types.EntryId] = None
        """Its entry, once it is saved."""
        state.session._drafts += 1

    def save(self) -> types.EntryId:
        """Saves the message in Drafts (`IMAPIProp::SaveChanges`). It is durable when this returns."""
        if self.entry is not None:
            return self.entry
        key, state = _process.new_key(), self._state
        try:
            saved = state.call(replies.Saved, lambda member, handle: requests.Save(member, handle, key))
            self.entry = saved.entry
        except _errors.Error as error:
            # The save cannot be repeated, because the draft is gone with its broker; its key finds what it made.
            if not error.outcome_unknown:
                raise
            drafts = state.session.folder("drafts")
            found = [row.entry for row in drafts.messages() if row.entry.record == key]
            if not found:
                raise _errors.refused("the unsaved draft was lost when the broker was away; look into Drafts", "MAPI_E_INVALID_OBJECT") from error
            self.entry = found[0]
        self._is_done()
        return self.entry

    def _is_done(self) -> None:
        """It is no draft any more that a restart of the broker would lose."""
        session = self._state.session
        session._drafts -= session._drafts > 0 and self._state.epoch == session._epoch

    def release(self) -> None:
        """Releases the draft: an unsaved one is thrown away."""
        if not self._state.released and self.entry is None:
            self._is_done()
        super().release()


class AddressBook(_Advises):
    """The open address book (`IAddrBook`)."""

    def entries(self) -> Tuple[types.AddressRow, ...]:
        """All entries: one with several addresses is a list."""
        pages = self._rows()
        if not all(isinstance(page, types.Addresses) for page in pages):
            raise _errors.unexpected()
        return tuple(row for page in pages if isinstance(page, types.Addresses) for row in page.rows)

    def add(self, name: str, addresses: Sequence[str]) -> types.EntryId:
        """Adds a person or, with several addresses, a list. `MAPI_E_COLLISION` if the name exists."""
        if isinstance(addresses, str):
            addresses = [addresses]
        action = types.AddAddress(name, _errors.strings(addresses, "addresses"))
        try:
            return (self._act(replies.Added, action)).entry
        except _errors.Error as error:
            # The first request added the entry, or it existed before.
            if not (error._repeated and error.code == "MAPI_E_COLLISION"):
                raise
            row = self.resolve(name)
            if (row.name, row.addresses) != (action.name, action.addresses):
                raise
            return row.entry

    def remove(self, name: str) -> None:
        """Removes an entry by its name."""
        try:
            self._act(replies.Done, types.RemoveAddress(name))
        except _errors.Error as error:
            if not (error._repeated and error.code == "MAPI_E_NOT_FOUND"):
                raise

    def resolve(self, name: str) -> types.AddressRow:
        """Resolves a name (`ResolveName`): `MAPI_E_NOT_FOUND` without a match, `MAPI_E_AMBIGUOUS_RECIP` with several."""
        return (self._act(replies.Resolved, types.ResolveAddress(name))).row

    def _act(self, reply: Type[R], action: types.AddressAction) -> R:
        return self._state.call(reply, lambda member, handle: requests.AddressBook(member, handle, action))


class StatusTable(_Advises):
    """The open status table: the subsystem, the spooler, the address book and each provider."""

    def rows(self) -> Tuple[types.StatusRow, ...]:
        """Its rows."""
        pages = self._rows()
        if not all(isinstance(page, types.StatusRows) for page in pages):
            raise _errors.unexpected()
        return tuple(row for page in pages if isinstance(page, types.StatusRows) for row in page.rows)


class Reference:
    """A granted object (`Mapi.redeem`): a message or a folder of another process' session. It is a context manager.

    It ends when the granting process leaves or the broker is restarted: `on_event` gets that once, and calls raise `RPC_E_DISCONNECTED` then.
    """

    def __init__(self, library: Library, on_event: Optional[Callback]) -> None:
        self._library = library
        self._on_event = on_event
        self._link: Optional[_io.Link] = None
        self._lost = False
        self.granted: types.Granted = types.Granted()
        """What was granted: a `GrantedMessage` or a `GrantedFolder`."""
        self.member = 0
        self._object = types.ObjectId(0, 0)
        self.lost_why: Optional[events.CriticalError] = None
        """The event of its end, once it was told."""

    def _redeem(self, token: int) -> None:
        library = self._library
        link = library.link(_limits.deadline(library.options.timeout))

        def redeemed(outcome: object) -> None:
            # Listed before its end can be told.
            if isinstance(outcome, replies.Redeemed):
                self.member, self._object, self.granted = outcome.member, outcome.object, outcome.granted
                self._link = link
                library.references[outcome.member] = self

        try:
            library.ask(link, replies.Redeemed, requests.Redeem(token), _limits.deadline(library.options.timeout), redeemed)
        except _errors.Disconnected as error:
            # A token can be redeemed once, so the request is not repeated.
            raise _errors.unknown(error) if error._asked else error from None

    @staticmethod
    def lost_event() -> events.CriticalError:
        """The end of a reference, as the library makes it when the broker is gone."""
        return events.CriticalError(codes.NUMBERS["RPC_E_DISCONNECTED"], types.EndReason.REFERENCE_LOST, None, None)

    def told(self, advises: Tuple[int, ...], event: Any) -> None:
        """Notes the end, and tells the program."""
        self._lost, self.lost_why = True, event
        if self._on_event is not None:
            try:
                _io.call_back(self._on_event, event)
            except Exception as error:
                import warnings

                warnings.warn(f"the callback of a reference raised {error!r}", RuntimeWarning, stacklevel=1)

    def _call(self, reply: Type[R], request: requests.Request) -> R:
        library = self._library
        library.check()
        link = self._link
        if self._lost or link is None or link.dead:
            raise _reference_lost()
        try:
            return library.ask(link, reply, request, _limits.deadline(library.options.timeout))
        except _errors.Disconnected:
            raise _reference_lost() from None

    def messages(self) -> Tuple[types.MessageRow, ...]:
        """The messages of a granted folder."""
        pages: List[types.TableRows] = []
        after = 0
        while True:
            page = self._call(replies.Rows, requests.List(self.member, self._object, after, PAGE))
            pages.append(page.rows)
            if page.next is None:
                return messages_of(pages)
            after = go_on(after, page.next)

    def read(self) -> bytes:
        """The bytes of a granted message."""
        source = types.FromObject(self._object)
        return read_whole(lambda offset: self._call(replies.Piece, requests.Read(self.member, source, offset)))

    def release(self) -> None:
        """Gives the object back. Giving it back again does nothing."""
        library, link = self._library, self._link
        if not library.home.is_here() or link is None:
            return
        self._link = None
        if library.references.get(self.member) is self:
            del library.references[self.member]
        if not self._lost:
            link.tell(requests.Release(self.member, self._object))

    def __enter__(self) -> "Reference":
        return self

    def __exit__(self, *_: object) -> None:
        self.release()


def _reference_lost() -> _errors.Error:
    return _errors.refused("the process that granted this object has left, or the broker was restarted", "RPC_E_DISCONNECTED")


def messages_of(pages: Sequence[types.TableRows]) -> Tuple[types.MessageRow, ...]:
    """The messages of all pages."""
    if not all(isinstance(page, types.Messages) for page in pages):
        raise _errors.unexpected()
    return tuple(row for page in pages if isinstance(page, types.Messages) for row in page.rows)


def go_on(after: int, following: int) -> int:
    """The cursor of the next page. One that does not advance would be asked for forever."""
    if following <= after:
        raise _errors.unexpected()
    return following
