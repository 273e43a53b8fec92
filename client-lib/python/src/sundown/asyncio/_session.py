"""Sessions: logging on, registering, submitting, logging off."""

from __future__ import annotations

import time
from collections import OrderedDict, deque
from typing import TYPE_CHECKING, Any, AsyncIterator, Awaitable, Callable, Deque, Dict, Iterable, List, Optional, Sequence, Tuple, Type, TypeVar, Union

from .. import _errors, _limits, _mail, _process
from .._deferred import Deferred, Outgoing
from ..events import CallbackFailed, Reconnected
from ..protocol import MAX_BLOB, Record, replies, requests, types
from ..protocol import events as _events
from ..protocol._connection import Hook
from . import _io
from ._library import Library, left_error

if TYPE_CHECKING:
    from email.message import Message as AnyEmail

    from ._objects import AddressBook, Draft, Folder, ObjectState, OpenMessage, StatusTable, Store
    from ._shutdown import ClientShutdown

AnyEvent = Union[_events.Event, Reconnected, CallbackFailed]
"""What callbacks and `Session.events` get."""
Callback = Callable[[Any], Any]
"""A function that gets an event."""
AnyMessage = Union[bytes, bytearray, memoryview, "AnyEmail"]
"""A message: its bytes, or an `email.message.EmailMessage`."""
EntryText = Union[types.EntryId, str]
"""An entry, or its text of 40 digits."""
R = TypeVar("R", bound=replies.Reply)

QUEUE = 1024
"""How many events may wait for `Session.events`."""
RESERVED = 16
"""How many of these places are for the end of the session."""
SUBMISSIONS = 1024
"""How many of its submissions a session remembers."""
DOWNLOAD = 30.0
"""For how many seconds a logon waits for new mail."""
DROPPING = 1.0
"""For how many seconds the end of a `with` block that failed waits for the logoff."""

NEW_SESSION, NO_MAIL, TIMEOUT_SHORT = 0x2, 0x8000, 0x100000
LOGOFF_SHARED, LOGOFF_UI, LOGOFF_FORCE, LOGOFF_WAIT, LOGOFF_CRITICAL = 0x1, 0x2, 0x100, 0x200, 0x400


class OnEnd(types.Words):
    """What the library does when another member ends the shared session.

    `LOG_OFF`: it logs the session off, once a callback of this session was told and has returned. Without a callback the session stays until the
    program leaves or the grace is over. `STAY`: nothing.
    """

    LOG_OFF = "log-off"
    STAY = "stay"


class Queued(Record):
    """A session's outgoing mail that is not final: how many messages, and how many of them this session submitted."""

    total: int
    own: int


class LogoffQuestion:
    """The question before a logoff with `ask=…`, with what is at stake. Its methods ask the broker when they are called."""

    def __init__(self, session: "Session", flags: int) -> None:
        self._session = session
        self._flags = flags

    @property
    def ends_for_all(self) -> bool:
        """Whether the session ends for all members."""
        return self._session.shared and bool(self._flags & LOGOFF_SHARED)

    async def others(self) -> Tuple[types.MemberStatus, ...]:
        """The other members of the session, those of this process included."""
        session = self._session
        status = await session._library.status()
        ours = [one.members for one in status.sessions if one.id == session.id]
        return tuple(member for members in ours for member in members if member.id != session.member)

    async def queued(self) -> Queued:
        """The session's mail that is not sent yet. It stays in the queue whatever the answer is."""
        session = self._session
        rows = [row for row in await session._library.queue(session.profile, False) if not row.state.is_final]
        return Queued(len(rows), sum(str(row.entry) in session._submitted for row in rows))


class Registered:
    """A registration (`Advise`), as the session knows it."""

    __slots__ = ("advise", "callback", "epoch", "events", "source", "wanted")

    def __init__(self, source: "Optional[ObjectState]", events_wanted: int, callback: Optional[Callback]) -> None:
        self.source = source
        self.events = events_wanted
        self.callback = callback
        self.advise = 0
        self.epoch = 0
        self.wanted = True


class Sink:
    """A registration (`Advise`). `unadvise()`, or the end of a `with` block, ends it; so does the end of its session.

    Example:
        sink = await session.advise("new-mail", print)
        await sink.unadvise()
    """

    def __init__(self, session: "Session", connection: int) -> None:
        self._session = session
        self.connection = connection
        """The connection number (`Advise`'s result), which is never zero."""

    async def unadvise(self) -> None:
        """`Unadvise`. A callback that runs finishes."""
        session = self._session
        registered = session._sinks.pop(self.connection, None)
        if registered is None or registered.epoch != session._epoch:
            return
        member, advise, epoch = session.member, registered.advise, registered.epoch
        try:
            await session._done(lambda: requests.Unadvise(member, advise))
        except _errors.Error:
            # It ended with its connection.
            if session._epoch == epoch:
                raise

    async def __aenter__(self) -> "Sink":
        return self

    async def __aexit__(self, *_: object) -> None:
        if self._session._library.home.is_here():
            try:
                await self.unadvise()
            except _errors.Error as error:
                if not _errors.is_dead_handle(error) and not isinstance(error, _errors.EndOfSession):
                    raise


class Session:
    """A logon to a session (`IMAPISession`), made by `Mapi.logon`. It is a context manager, whose end logs off.

    The calls of a session that has ended raise `EndOfSession`; after its own `logoff`, `Refused` with `MAPI_E_INVALID_OBJECT`.
    """

    def __init__(self, library: Library, profile: Optional[str], flags: int, on_end: OnEnd, on_event: Optional[Callback]) -> None:
        self._library = library
        self._logon = types.Logon(profile, flags)
        self._on_end = on_end
        self._on_event = on_event
        self._facts = replies.LoggedOn(0, 0, "", False, (), "")
        self._epoch = 0
        """Counts the logons: after a reconnect every handle is a new one."""
        self._ended: Optional[Callable[[], _errors.Error]] = None
        self._sinks: Dict[int, Registered] = {}
        self._connections = 0
        self._uploads = 0
        self._drafts = 0
        self._submitted: "OrderedDict[str, None]" = OrderedDict()
        self._tag: Optional[int] = None
        self._last: Optional[_events.CriticalError] = None
        self._missed = 0
        self.deferred = Deferred()
        self.queue: "Deque[AnyEvent]" = deque()
        self.unwanted = False
        self.end_known = False

    def __repr__(self) -> str:
        return f"<Session {self.member} of {self.profile!r}>"

    # What it is

    @property
    def id(self) -> int:
        """The session's number with this broker."""
        return self._facts.session

    @property
    def member(self) -> int:
        """The member's number, which `status` shows."""
        return self._facts.member

    @property
    def profile(self) -> str:
        """The profile's name."""
        return self._facts.profile

    @property
    def shared(self) -> bool:
        """Whether other members may join."""
        return self._facts.shared

    @property
    def identity(self) -> str:
        """The sender of messages that name none."""
        return self._facts.identity

    @property
    def stores(self) -> Tuple[str, ...]:
        """The names of the profile's stores, the default store first."""
        return self._facts.stores

    # Mail

    async def submit(
        self,
        message: AnyMessage,
        *,
        sender: Optional[str] = None,
        recipients: Optional[Sequence[str]] = None,
        deferred: bool = False,
        key: Optional[int] = None,
        author: Optional[str] = None,
        account: Optional[str] = None,
        report: Optional[types.Report] = None,
        store: int = 0,
    ) -> replies.Submitted:
        """Submits a message (`IMessage::SubmitMessage`). It is durable when this returns, and will be sent.

        Args:
            message: `bytes` of RFC 5322, or an `email.message.EmailMessage`. LF line ends and a missing Date or Message-ID are allowed.
            sender: the envelope's sender; without it the address of From, or the profile's identity. `""`: no one is told of a failure.
            recipients: the envelope's recipients; without it those of To, Cc and Bcc.
            deferred: return when the broker has the message. It is durable 50 ms later, or when `flush` or a logoff has returned.
            key: 128 bits that make a repeat harmless (`sundown.new_key`). Without it each call makes its own.
            author: whose message it is, by which a profile chooses a transport; without it the address of From.
            account: the name of the one transport that may take the message.
            report: which reports on the delivery the sender wants (RFC 3461).
            store: the store, by its place in the profile.

        Returns:
            The entry of the message, and its state: `queued`, or `accepted` if it is deferred.

        Raises:
            InvalidParameter: an address is none (`Error.addresses`).
            Refused: `MAPI_E_NO_RECIPIENTS`, `MAPI_E_UNCONFIGURED` (no transport takes a recipient), `MAPI_E_TOO_BIG`, `MAPI_E_COLLISION` (another
                message has the key).
            Temporary: as `MAPI_E_NOT_ENOUGH_DISK`.

        Example:
            submitted = await session.submit(b"To: anna@localhost\\nSubject: Hi\\n\\nHi!\\n")
        """
        data = _mail.bytes_of(message)
        found = _mail.named(data)
        if sender is None:
            sender = found.sender
        if author is None:
            author = found.sender
        if recipients is None:
            recipients = found.recipients
        whom = _errors.strings(recipients, "recipients")
        deferred = _errors.flag(deferred, "deferred")
        if sender == "" and not found.has_from:
            # The broker would make a missing From of the envelope's sender.
            data = _mail.in_front(data, "From", self.identity)
        if key is None:
            key = _process.new_key()
        outgoing = Outgoing(
            data, sender, whom, author if author != sender else None, account, report or types.Report(), store, key
        )
        self.alive()
        if not outgoing.recipients:
            raise _errors.refused(
                "the message has no recipients: neither To, Cc and Bcc name any, nor is recipients=[…] given; it was not submitted",
                "MAPI_E_NO_RECIPIENTS",
            )
        if not deferred:
            return await self._submit(outgoing, types.Durability.DURABLE)
        self.deferred.begin(outgoing)
        try:
            submitted = await self._submit(outgoing, types.Durability.DEFERRED)
        except BaseException:
            self.deferred.forget(key)
            raise
        if submitted.state == types.SubmissionState.ACCEPTED:
            self.deferred.accepted(key)
        else:
            self.deferred.forget(key)
        return submitted

    async def _submit(self, outgoing: Outgoing, when: types.Durability) -> replies.Submitted:
        content = Content(self, outgoing.store, outgoing.data)
        submitted = await self._call(replies.Submitted, lambda link: self._submission(link, outgoing, content, when), before=content.send)
        if submitted.entry.record != outgoing.key:
            raise _errors.unexpected()
        self._submitted[str(submitted.entry)] = None
        if len(self._submitted) > SUBMISSIONS:
            self._submitted.popitem(last=False)
        return submitted

    def _submission(self, link: _io.Link, outgoing: Outgoing, content: "Content", when: types.Durability) -> requests.Request:
        one = outgoing
        fields = (self.alive(), one.store, one.key, one.sender, one.recipients, content.made(), when, one.report)
        if one.author is None and one.account is None:
            return requests.Submit(*fields)
        if link.core.version >= 3:
            return requests.SubmitVia(requests.Submission(*fields), one.author, one.account)
        if one.account is not None:
            raise _errors.refused("this broker is older than this program, and chooses no transport by its name", "MAPI_E_NO_SUPPORT")
        return requests.Submit(*fields)

    async def flush(self) -> None:
        """Makes everything durable that this session submitted. If something could not be stored it raises and names it (`Error.entries`): the
        submission is kept in this process, and the next flush or logoff tries again."""
        await self.repeat_lost()
        covered = self.deferred.covered()
        try:
            await self._done(lambda: requests.Flush(self.alive()))
        except _errors.Error as error:
            self.deferred.lost(error.entries)
            raise
        for key in covered:
            self.deferred.forget(key)

    async def repeat_lost(self) -> None:
        """Submits again what stores could not keep. A final refusal is raised once."""
        self.alive()
        refused: Optional[_errors.Error] = None
        for outgoing in self.deferred.to_repeat():
            try:
                await self._submit(outgoing, types.Durability.DURABLE)
            except _errors.Error as error:
                later = isinstance(error, (_errors.Temporary, _errors.Disconnected)) or error.outcome_unknown
                if later or error.code in ("MAPI_E_DISK_ERROR", "MAPI_E_CORRUPT_DATA"):
                    raise
                refused = refused or error
            self.deferred.forget(outgoing.key)
        if refused:
            raise refused

    async def abort_submit(self, entry: EntryText) -> None:
        """`IMsgStore::AbortSubmit`: takes a message out of the queue, into Drafts. `MAPI_E_UNABLE_TO_ABORT` if a transport has it,
        `MAPI_E_NOT_IN_QUEUE` if it is not in the queue."""
        wanted = _entry(entry)
        try:
            await self._done(lambda: requests.AbortSubmit(self.alive(), wanted))
        except _errors.Error as error:
            if not (error._repeated and error.code == "MAPI_E_NOT_IN_QUEUE"):
                raise
            row = await self._library.queue_entry(self.profile, wanted)
            if row.state != types.SubmissionState.ABORTED:
                raise

    async def draft(self, message: AnyMessage) -> "Draft":
        """Makes an unsaved message in Drafts. `Draft.save` keeps it; a logoff discards it."""
        from ._objects import Draft, ObjectState

        content = Content(self, 0, _mail.bytes_of(message))
        opened = await self._call(replies.Opened, lambda link: requests.Draft(self.alive(), 0, content.made()), before=content.send)
        return Draft(ObjectState(self, None, opened.object))

    async def read(self, entry: EntryText) -> bytes:
        """The bytes of a message. Reading sets no flag. `MAPI_E_NOT_FOUND` if there is no such message any more."""
        source = types.FromEntry(_entry(entry))
        return await read_whole(lambda offset: self._call(replies.Piece, lambda link: requests.Read(self.alive(), source, offset)))

    async def delete(self, entry: EntryText) -> None:
        """Moves a message into Deleted, or deletes it for good if it is there.

        It is not repeated if the broker goes away (`Error.outcome_unknown`): the second request would delete for good what the first one moved.
        `Folder.delete` can be repeated.
        """
        wanted = _entry(entry)
        await self._done(lambda: requests.Delete(self.alive(), wanted))

    async def set_flags(
        self, entry: EntryText, add: Union[types.Flags, str, Iterable[str]] = (), remove: Union[types.Flags, str, Iterable[str]] = ()
    ) -> types.Flags:
        """Sets and removes flags of a message (`IMessage::SetReadFlag`, `IMAPIFolder::SetMessageStatus`).

        Flags are words: `"read"`, `"answered"`, `"flagged"`, `"draft"`, `"deleted"`, `"forwarded"`, and keywords. One that is in both is removed.
        Returns all flags that the message has then.

        Example:
            flags = await session.set_flags(entry, add=["read", "$work"])
        """
        wanted = _entry(entry)
        with _errors.arguments():
            added, removed = types.Flags.of(add), types.Flags.of(remove)
        return (await self._call(replies.Flags, lambda link: requests.SetFlags(self.alive(), wanted, added, removed))).flags

    async def move_to(self, entry: EntryText, folder: str) -> None:
        """Moves a message into another folder of its store (`IMAPIFolder::CopyMessages` with `MESSAGE_MOVE`). It keeps its entry and its flags."""
        wanted = _entry(entry)
        await self._done(lambda: requests.Move(self.alive(), wanted, folder))

    async def copy_to(self, entry: EntryText, folder: str) -> types.EntryId:
        """Copies a message into a folder of its store (`IMAPIFolder::CopyMessages`), with its flags. Returns the entry of the copy."""
        wanted, key = _entry(entry), _process.new_key()
        return of_key(await self._call(replies.Saved, lambda link: requests.Copy(self.alive(), key, wanted, folder)), key)

    async def sync(self) -> replies.Synced:
        """Has the mailboxes of the session look at everything now, and try the changes that they do not have yet. Returns what they have found.

        An account that is mirrored for the first time goes on afterwards; `Mapi.mailboxes` says how far it is.
        """
        return await self._call(replies.Synced, lambda link: requests.Sync(self.alive()))

    # Objects

    async def _open(self, what: types.Opening) -> "ObjectState":
        from ._objects import ObjectState

        opened = await self._call(replies.Opened, lambda link: requests.Open(self.alive(), what))
        return ObjectState(self, what, opened.object)

    async def store(self, place: int = 0) -> "Store":
        """Opens a store by its place in the profile (`OpenMsgStore`); 0 is the default store. `MAPI_E_NOT_FOUND` without a working store there."""
        from ._objects import Store

        return Store(await self._open(types.OpenStore(place)), place)

    async def folder(self, folder: str, *, store: int = 0) -> "Folder":
        """Opens a folder by its word: `"inbox"`, `"outbox"`, `"sent"`, `"drafts"`, `"deleted"`, or one like `"f17"` of `Store.folders`."""
        from ._objects import Folder

        return Folder(await self._open(types.OpenFolder(store, folder)), store, folder)

    async def open_message(self, entry: EntryText) -> "OpenMessage":
        """Opens a message (`OpenEntry`)."""
        from ._objects import OpenMessage

        wanted = _entry(entry)
        return OpenMessage(await self._open(types.OpenMessage(wanted)), wanted)

    async def address_book(self) -> "AddressBook":
        """Opens the address book (`OpenAddressBook`)."""
        from ._objects import AddressBook

        return AddressBook(await self._open(types.OpenAddressBook()))

    async def status_table(self) -> "StatusTable":
        """Opens the status table (`GetStatusTable`)."""
        from ._objects import StatusTable

        return StatusTable(await self._open(types.OpenStatusTable()))

    async def revoke(self, token: int) -> None:
        """Takes back what this token grants, whether it was redeemed or not. The process that holds the object is told."""
        await self._settled(lambda: requests.Revoke(self.alive(), token), "MAPI_E_NOT_FOUND")

    # Settings and providers

    async def setting(self, section: str, name: str) -> Optional[str]:
        """A program's setting in its section of the profile; `None` if it is not set."""
        return await self._change_setting(section, name, types.Keep())

    async def set_setting(self, section: str, name: str, value: str) -> None:
        """Sets a setting."""
        await self._change_setting(section, name, types.SetTo(_errors.string(value, "value")))

    async def remove_setting(self, section: str, name: str) -> Optional[str]:
        """Removes a setting. Returns the value that it had."""
        return await self._change_setting(section, name, types.Remove())

    async def _change_setting(self, section: str, name: str, change: types.SettingChange) -> Optional[str]:
        section, name = _errors.string(section, "section"), _errors.string(name, "name")
        return (await self._call(replies.Setting, lambda link: requests.Setting(self.alive(), section, name, change))).value

    async def validate_state(self, kind: Union[types.Resource, str], provider: str) -> None:
        """`IMAPIStatus::ValidateState` of a provider, by its kind and its name: it really connects and authenticates. The error says what is wrong."""
        try:
            resource = types.Resource(kind)
        except ValueError:
            raise _errors.InvalidParameter(
                f"{kind!r} is no kind of a provider; {', '.join(types.Resource)} are", code="MAPI_E_INVALID_PARAMETER"
            ) from None
        await self._done(lambda: requests.ValidateState(self.alive(), resource, provider))

    # Events

    async def advise(self, events: Union[str, int, Iterable[str]] = "critical-error", callback: Optional[Callback] = None) -> Sink:
        """`IMAPISession::Advise`: registers for events of all stores of the session. Critical errors are always included.

        Args:
            events: words, as `"new-mail,extended"` or a list: `critical-error`, `new-mail`, `object-created`, `object-deleted`, `object-modified`,
                `object-moved`, `table-modified`, `extended`.
            callback: gets each event as its argument. Without it the events come by `Session.events`.

        A callback runs while a call of the library runs or waits. It may call the library; if it raises, `CallbackFailed` comes by `events`.
        """
        return await self._advise(None, events, callback)

    async def _advise(self, source: "Optional[ObjectState]", wanted: Union[str, int, Iterable[str]], callback: Optional[Callback]) -> Sink:
        if callback is not None and not callable(callback):
            raise _errors.InvalidType(f"the callback is {callback!r}, and must be a function of an event", code="MAPI_E_INVALID_PARAMETER")
        with _errors.arguments():
            events_wanted = types.Events.of(wanted)
        self.alive()
        self._connections += 1
        connection = self._connections
        registered = Registered(source, events_wanted, callback)

        def advised(outcome: object) -> None:
            # Listed before an event for it can arrive.
            if isinstance(outcome, replies.Advised) and registered.wanted:
                registered.advise, registered.epoch = outcome.advise, self._epoch
                self._sinks[connection] = registered

        def request(link: _io.Link) -> requests.Request:
            of: types.AdviseSource = types.OfSession() if source is None else types.OfObject(source.id)
            return requests.Advise(self.alive(), of, events_wanted)

        try:
            await self._call(replies.Advised, request, before=None if source is None else source.reopen, hook=advised)
        except BaseException:
            # The registration may still succeed. A callback that the program does not know of must not be called.
            registered.wanted = False
            if self._sinks.pop(connection, None) and registered.epoch == self._epoch:
                self._tell(lambda: requests.Unadvise(self.member, registered.advise))
            raise
        return Sink(self, connection)

    async def events(self, timeout: Optional[float] = None) -> AsyncIterator[AnyEvent]:
        """The events of registrations without a callback, and what must reach the program although it registered for nothing.

        Args:
            timeout: ends when nothing has come for so many seconds; 0: only what is there. `None`: waits until the session ends.

        1,024 events wait; of the others `Lagged` says how many there were. The end of the session always finds room.

        Example:
            async for event in session.events(timeout=5):
                print(event)
        """
        limit = None if timeout is None else _limits.number(timeout, "timeout")
        while True:
            until = None if limit is None else time.monotonic() + limit
            while not self.queue:
                self._library.home.check("this session")
                if self._ended is not None or self._library.left or self._library.memory.done:
                    # Its end may wait to be told.
                    await self._library.dispatch()
                    if not self.queue:
                        return
                    break
                late = until is not None and time.monotonic() >= until
                await self._library.wait_for_news(until)
                if late and not self.queue:
                    return
            event = self.queue.popleft()
            self._library.signal()
            yield event

    # The end

    async def logoff(
        self,
        *,
        shared: bool = False,
        drain: Optional[float] = None,
        wait: bool = False,
        critical: bool = False,
        admin: bool = False,
        ask: Optional[Callable[[LogoffQuestion], Any]] = None,
    ) -> replies.LoggedOff:
        """`IMAPISession::Logoff`. Objects that are still open become invalid. Mail that is queued is sent all the same.

        Args:
            shared: end the shared session for all members (`MAPI_LOGOFF_SHARED`).
            drain: wait for this session's outgoing mail, at most so many seconds.
            wait: return when the other members have left or were evicted; the result's `stayed` has those that were evicted.
            critical: because of a critical error: at once, without `drain`.
            admin: with the right *admin*: end a shared session that another process owns, too.
            ask: is called with a `LogoffQuestion` before anything has changed (`MAPI_LOGOFF_UI`). If it returns something false nothing is done, and the
                error is `MAPI_E_USER_CANCEL`.

        If something could not be made durable, or a shared logoff is refused (`Error.owner`), it raises, and the session goes on.
        """
        given = ((LOGOFF_SHARED, shared, "shared"), (LOGOFF_WAIT, wait, "wait"), (LOGOFF_CRITICAL, critical, "critical"), (LOGOFF_FORCE, admin, "admin"))
        flags = sum(bit for bit, value, name in given if _errors.flag(value, name))
        seconds = None if drain is None else _limits.number(drain, "drain")
        if ask is not None:
            if not callable(ask):
                raise _errors.InvalidType(f"ask is {_errors.shown(ask)}, and must be a function of a question", code="MAPI_E_INVALID_PARAMETER")
            self.alive()
            if not await _io.call_back(ask, LogoffQuestion(self, flags)):
                raise _errors.refused("the logoff was cancelled: nothing was done, the session goes on", "MAPI_E_USER_CANCEL")
            flags |= LOGOFF_UI
        return await self.log_off(flags, seconds)

    async def client_shutdown(self) -> "ClientShutdown":
        """Controls the shutdown of the whole process (`QueryInterface` for `IMAPIClientShutdown`)."""
        from ._shutdown import ClientShutdown

        self.alive()
        return ClientShutdown(self._library)

    async def __aenter__(self) -> "Session":
        return self

    async def __aexit__(self, kind: "Optional[Type[BaseException]]", error: Optional[BaseException], _: object) -> None:
        library = self._library
        if not library.home.is_here() or self._ended is not None or library.left or library.memory.done or library.process.done:
            return
        try:
            if error is None:
                await self.logoff()
                return
            # What failed is raised; the logoff does not hold it up.
            with _limits.within(DROPPING):
                await self.logoff()
        except _errors.Error as failed:
            over = _errors.is_dead_handle(failed) or isinstance(failed, _errors.EndOfSession)
            if failed._gave_up:
                self.leave_later()
            if error is None and not over:
                raise

    # Inside the library

    def alive(self) -> int:
        """The member of the session; raises if it is not logged on."""
        self._library.home.check("this session")
        library = self._library
        if library.left or library.memory.done or library.process.done:
            raise left_error()
        if self._ended is not None:
            raise self._ended()
        return self._facts.member

    async def _call(
        self,
        reply: Type[R],
        request: Callable[[_io.Link], requests.Request],
        *,
        before: Optional[Callable[[_io.Link], "Awaitable[None]"]] = None,
        hook: Optional[Hook] = None,
        extra: float = 0.0,
    ) -> R:
        self.alive()
        try:
            return await self._library.call(reply, request, before=before, hook=hook, extra=extra)
        except _errors.Error as error:
            # If the session ended meanwhile, that is the reason, and not an unknown handle.
            if self._ended is not None and (_errors.is_dead_handle(error) or isinstance(error, _errors.Disconnected)):
                raise self._ended() from error
            raise

    async def _done(self, request: Callable[[], requests.Request]) -> None:
        await self._call(replies.Done, lambda link: request())

    async def _settled(self, request: Callable[[], requests.Request], code: str) -> None:
        """The same; if a repeat is refused with this code, the first request was carried out."""
        try:
            await self._done(request)
        except _errors.Error as error:
            if not (error._repeated and error.code == code):
                raise

    def _tell(self, request: Callable[[], requests.Request]) -> None:
        """Sends a request without waiting, for what ends."""
        link = self._library.link_now
        if self._ended is None and link is not None and not link.dead and self._library.home.is_here():
            link.tell(request())

    def _logged_on(self, outcome: object) -> None:
        """Lists the session before anything that follows the logon can arrive."""
        if not isinstance(outcome, replies.LoggedOn):
            return
        self._facts = outcome
        self._epoch += 1
        self._library.add_session(outcome.member, self)
        if self.unwanted and self._epoch == 1:
            self._library.notices.push(self, (), _UNWANTED)

    async def log_on(self, download: bool) -> None:
        """Logs on."""
        try:
            await self._library.call(replies.LoggedOn, lambda link: requests.Logon(*self._logon.__dict__.values()), hook=self._logged_on)
        except BaseException as error:
            # A logon whose caller no longer waits may still succeed, or have succeeded.
            if not isinstance(error, _errors.Error) or error._gave_up:
                self.unwanted = True
                if self._epoch:
                    self.leave_later()
            raise
        if download and not self._logon.flags & NO_MAIL:
            # How mailboxes fare is asked for by those who want to know.
            try:
                with _limits.within(DOWNLOAD):
                    await self.sync()
            except _errors.Error:
                pass

    def leave_later(self) -> None:
        """Logs off without waiting: at once, or when the broker is back and has the deferred submissions."""
        self.unwanted = True
        self._sinks.clear()
        self._ended = self._ended or _logged_off
        link = self._library.link_now
        if link is not None and not link.dead:
            link.tell(requests.Logoff(self.member, 0, None))
            self._library.remove_session(self)

    async def come_back(self, link: _io.Link, until: Optional[float]) -> int:
        """Logs on again over a new connection, and restores registrations and deferred submissions. Returns how many drafts were lost."""
        library = self._library
        logon: requests.Request = requests.Logon(*self._logon.__dict__.values())
        if self._tag is not None and link.core.version >= 3:
            logon = requests.Return(self._logon, self._tag, self.end_known)
        await library.ask(link, replies.LoggedOn, logon, until, self._logged_on)
        await self._register_again(link, until)
        for outgoing in self.deferred.to_bring_back():
            # It is durable this time, so nothing remains to be repeated.
            content = Content(self, outgoing.store, outgoing.data)
            try:
                await content.send(link)
                request = self._submission(link, outgoing, content, types.Durability.DURABLE)
                submitted = await library.ask(link, replies.Submitted, request, until)
            except _errors.Error as error:
                if link.dead or error.code == "MAPI_E_WAIT" or error._gave_up:
                    raise
                # The session goes on without it; the next flush or logoff tries again, and reports the failure.
                self.deferred.refused(outgoing.key)
                continue
            if submitted.entry.record == outgoing.key:
                self.deferred.forget(outgoing.key)
        lost, self._drafts = self._drafts, 0
        return lost

    async def _register_again(self, link: _io.Link, until: Optional[float]) -> None:
        """Registers every sink again. One that is refused, or whose object is gone, is removed: its number may be another's now."""
        for connection, registered in list(self._sinks.items()):
            try:
                source: types.AdviseSource = types.OfSession()
                if registered.source is not None:
                    source = types.OfObject(await registered.source.come_back(link, until))
                advised = await self._library.ask(link, replies.Advised, requests.Advise(self.member, source, registered.events), until)
            except _errors.Error as error:
                if link.dead or error._gave_up:
                    raise
                self._sinks.pop(connection, None)
                continue
            registered.advise, registered.epoch = advised.advise, self._epoch
            if connection not in self._sinks:
                # It was cancelled meanwhile.
                link.tell(requests.Unadvise(self.member, advised.advise))

    def is_called(self, tag: int) -> None:
        """Notes the session's name, as the broker reports it."""
        self.end_known = self.end_known and self._tag == tag
        self._tag = tag

    def is_ending(self, event: _events.CriticalError) -> None:
        """Notes the end of the session, when its event is read."""
        self._last = event
        if event.reason == types.EndReason.SHARED_LOGOFF:
            self.end_known = True
        elif event.reason == types.EndReason.STORE_LOST:
            self.end(types.EndReason.STORE_LOST)

    def end(self, reason: types.EndReason) -> None:
        """Ends the session for this reason."""
        self._end_with(_ENDS[reason])

    def evicted(self) -> None:
        """Ends the session after its grace."""
        self._end_with("the shared session was ended and its grace is over; log on again")

    def _end_with(self, why: str) -> None:
        last = self._last
        by = last.by if last else None
        grace = last.grace if last else None
        if self._ended is None:
            self._ended = lambda: _errors.EndOfSession(why, by=by, grace=grace)
        self._library.remove_session(self)

    async def log_off(self, flags: int, drain: Optional[float]) -> replies.LoggedOff:
        """Logs off with these flags of the wire."""
        await self.repeat_lost()
        # A member that ends the session is not told of that end, nor by a later broker that completes it.
        known = self.end_known
        self.end_known = known or bool(flags & LOGOFF_SHARED)
        millis = None if drain is None else min(int(drain * 1000), (1 << 64) - 1)

        def request(link: _io.Link) -> requests.Request:
            return requests.Logoff(self.alive(), flags if link.core.version >= 3 else flags & ~LOGOFF_UI, millis)

        try:
            left = await self._call(replies.LoggedOff, request, extra=(drain or 0.0) + (3600.0 if flags & LOGOFF_WAIT else 0.0))
        except _errors.Error as error:
            self.end_known = known
            self.deferred.lost(error.entries)
            raise
        # Notices that came before the answer are told before this returns; later ones are not.
        await self._library.dispatch(wait=True)
        self._ended = _logged_off
        self.deferred.clear()
        self._sinks.clear()
        self._library.remove_session(self)
        return left

    # What is told

    def session_advises(self) -> Tuple[int, ...]:
        """The registrations on the session itself."""
        return tuple(one.advise for one in self._sinks.values() if one.source is None)

    def extended_advises(self) -> Tuple[int, ...]:
        """Those of them for extended events."""
        return tuple(one.advise for one in self._sinks.values() if one.source is None and one.events & types.Events.EXTENDED)

    async def told(self, advises: Tuple[int, ...], event: AnyEvent) -> None:
        """Tells the program an event: its callbacks, or the queue."""
        if event is _UNWANTED:
            return self.leave_later()
        if isinstance(event, _events.Evicted):
            self.evicted()
        critical = isinstance(event, _events.CriticalError)
        # No registration is for what was missed. An end comes without one while the session comes back, before its sinks are registered again.
        if not advises and (critical or isinstance(event, _events.Lagged)):
            advises = self.session_advises()
        handled = await self._deliver(advises, event)
        if critical and handled and self._on_end == OnEnd.LOG_OFF and self._ended is None:
            try:
                await self.log_off(LOGOFF_CRITICAL, None)
            except _errors.Error:
                return
            self._ended = None
            self._end_with("the shared session was ended; log on again")

    async def _deliver(self, advises: Tuple[int, ...], event: AnyEvent) -> bool:
        """Calls the callbacks of these registrations. Without any the event goes to the queue. Returns whether one ran and did not raise."""
        if self._ended is _logged_off:
            # After its logoff a session is told nothing.
            return False
        sinks = [(connection, one.callback) for connection, one in list(self._sinks.items()) if one.advise in advises]
        critical = isinstance(event, _events.CriticalError)
        if not sinks and advises and not critical:
            # The registration was cancelled meanwhile.
            return False
        taken = queued = False
        for connection, callback in sinks:
            if callback is None:
                if not queued:
                    self._enqueue(event)
                queued = True
                continue
            try:
                await _io.call_back(callback, event)
                taken = True
            except Exception as error:
                self._enqueue(CallbackFailed(connection, error))
        # What no callback has handled must not be lost.
        if not queued and (not sinks or (critical and not taken)):
            if self._on_event is None:
                self._enqueue(event)
            else:
                try:
                    await _io.call_back(self._on_event, event)
                except Exception as error:
                    self._enqueue(CallbackFailed(0, error))
        return taken

    def _enqueue(self, event: AnyEvent) -> None:
        must = isinstance(event, (_events.CriticalError, _events.Evicted))
        room = len(self.queue) < QUEUE - RESERVED
        if self._missed and room:
            self.queue.append(_events.Lagged(self._missed))
            self._missed = 0
        if must or room:
            if len(self.queue) < QUEUE:
                self.queue.append(event)
            return
        self._missed += event.missed if isinstance(event, _events.Lagged) else 1


class Content:
    """A message's bytes for a request: in it, or uploaded before it over the same connection."""

    def __init__(self, session: Session, store: int, data: bytes) -> None:
        self._session, self._store, self._data = session, store, data
        self._upload = 0

    async def send(self, link: _io.Link) -> None:
        """Uploads the bytes if they are too many for one request. An upload ends with its connection, so each connection gets its own."""
        if len(self._data) <= MAX_BLOB:
            return
        session = self._session
        session._uploads += 1
        self._upload = session._uploads
        until = _limits.deadline(session._library.options.timeout)
        for at in range(0, len(self._data), MAX_BLOB):
            piece = requests.Upload(session.alive(), self._store, self._upload, self._data[at : at + MAX_BLOB])
            await session._library.ask(link, replies.Done, piece, until)

    def made(self) -> types.Content:
        """What the request has."""
        return types.Inline(self._data) if len(self._data) <= MAX_BLOB else types.Uploaded(self._upload)


async def read_whole(ask: Callable[[int], "Awaitable[replies.Piece]"]) -> bytes:
    """Reads a whole message, piece by piece."""
    whole = bytearray()
    while True:
        piece = await ask(len(whole))
        whole += piece.data
        if len(whole) >= piece.size:
            return bytes(whole)
        if not piece.data:
            raise _errors.unexpected()


def of_key(saved: replies.Saved, key: int) -> types.EntryId:
    """The entry of a message that was made with this key, which is its record."""
    if saved.entry.record != key:
        raise _errors.unexpected()
    return saved.entry


def _entry(entry: EntryText) -> types.EntryId:
    with _errors.arguments():
        return types.EntryId.of(entry)


def _logged_off() -> _errors.Error:
    return _errors.refused("this session was logged off; log on again with Mapi.logon", "MAPI_E_INVALID_OBJECT")


_UNWANTED: Any = object()
_ENDS = {
    types.EndReason.SHARED_LOGOFF: "the shared session was ended; log on again",
    types.EndReason.BROKER_STOPPED: "the broker was stopped; call connect again to start another, and log on",
    types.EndReason.BROKER_LOST: "the broker went away and did not come back; call connect again, and log on",
    types.EndReason.REFERENCE_LOST: "the process that granted it has left",
    types.EndReason.STORE_LOST: "the files of its store were removed or replaced; log on again, and see `sundown doctor`",
}
