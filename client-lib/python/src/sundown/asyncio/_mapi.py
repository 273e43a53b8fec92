"""The library as programs see it: connect, log on, look, leave."""

from __future__ import annotations

import os
import time
from typing import Optional, Tuple, Type, Union

from .. import _errors, _limits, _process, _socket
from .._options import Options, Retry
from ..protocol import replies, requests, types
from . import _io
from ._library import _CLOSED, Library, alive, left_error
from ._objects import Reference, Token
from ._session import NEW_SESSION, NO_MAIL, TIMEOUT_SHORT, Callback, EntryText, OnEnd, Session, _entry
from ._shutdown import ClientShutdown

async def connect(
    program: str,
    *,
    socket: "Union[str, os.PathLike[str], None]" = None,
    data_dir: "Union[str, os.PathLike[str], None]" = None,
    config: "Union[str, os.PathLike[str], None]" = None,
    start: "Union[str, os.PathLike[str], None]" = "sundown",
    log_level: Optional[str] = None,
    log_format: Optional[str] = None,
    timeout: Optional[float] = 90.0,
    retry: Retry = Retry(),
    host_key: Optional[int] = None,
) -> "Mapi":
    """`MAPIInitialize`: connects to the broker of this user, and starts one if none runs.

    Args:
        program: the name that other members of its sessions see.
        socket: the broker's socket (`SUNDOWN_SOCKET`); without it the user's own broker, or the host's if the user has none.
        data_dir: the data directory of a broker that is started (`SUNDOWN_DATA_DIR`).
        config: the settings file of a broker that is started (`SUNDOWN_CONFIG`).
        start: the program that starts a broker when it is called with `serve`; `None`: none is started.
        log_level: what a broker that is started logs (`SUNDOWN_LOG`).
        log_format: how it logs: `text`, `json` or `journald` (`SUNDOWN_LOG_FORMAT`).
        timeout: for how many seconds a call may take; `None`: as long as the broker is there. `within` sets another limit.
        retry: for how long the library looks for a broker that went away.
        host_key: the `Mapi.host_key` of the program's first library, for an add-in that may shut the process down.

    Raises:
        Disconnected: no broker runs, and none could be started; or another user's program listens at the socket.
        Timeout: what listens does not answer.

    Example:
        mapi = await connect("nightly-report")
    """
    library = Library(
        Options(
            program,
            socket=socket,
            data_dir=data_dir,
            config=config,
            start=start,
            log_level=log_level,
            log_format=log_format,
            timeout=timeout,
            retry=retry,
            host_key=host_key,
        )
    )
    await library.connect_now()
    return Mapi(library)


class Mapi:
    """A connection to a broker, made by `connect`. It is a context manager, whose end is `close`.

    Several of them in one process are one process for the broker.
    """

    def __init__(self, library: Library) -> None:
        self._library = library

    def __repr__(self) -> str:
        return f"<Mapi at {self._library.paths.socket}>"

    async def logon(
        self,
        profile: Optional[str] = None,
        private: bool = False,
        no_mail: bool = False,
        *,
        timeout_short: bool = False,
        download: bool = False,
        on_end: Union[OnEnd, str] = OnEnd.LOG_OFF,
        on_event: Optional[Callback] = None,
    ) -> Session:
        """`MAPILogonEx`: joins the profile's shared session, or makes a session.

        Args:
            profile: its name; without it the default profile.
            private: a session that no other member can join (`MAPI_NEW_SESSION`).
            no_mail: what this member submits waits for a member with mail (`MAPI_NO_MAIL`).
            timeout_short: `MAPI_E_TIMEOUT` instead of waiting for a session that is starting (`MAPI_TIMEOUT_SHORT`).
            download: have the mailboxes look for new mail first, for 30 seconds at most (`MAPI_FORCE_DOWNLOAD`).
            on_end: what the library does when another member ends the shared session: `"log-off"` once a callback was told, or `"stay"`.
            on_event: gets what would come by `Session.events` otherwise.

        Raises:
            Refused: `MAPI_E_NOT_FOUND` (no such profile), `MAPI_E_NO_ACCESS`, `MAPI_E_UNCONFIGURED` (a mistake in the profile).
        """
        if profile is not None:
            profile = _errors.string(profile, "profile")
        try:
            on_end = OnEnd(on_end)
        except ValueError:
            raise _errors.InvalidParameter(f"on_end is {on_end!r}, and must be 'log-off' or 'stay'", code="MAPI_E_INVALID_PARAMETER") from None
        if on_event is not None and not callable(on_event):
            raise _errors.InvalidType(f"on_event is {on_event!r}, and must be a function of an event", code="MAPI_E_INVALID_PARAMETER")
        given = ((NEW_SESSION, private, "private"), (NO_MAIL, no_mail, "no_mail"), (TIMEOUT_SHORT, timeout_short, "timeout_short"))
        flags = sum(bit for bit, value, name in given if _errors.flag(value, name))
        download = _errors.flag(download, "download")
        session = Session(self._library, profile, flags, on_end, on_event)
        await session.log_on(download)
        return session

    async def redeem(self, token: Union[int, str], on_event: Optional[Callback] = None) -> Reference:
        """Opens an object that another process of this user granted (`Folder.grant`). It needs no logon.

        `on_event` gets a `CriticalError` when the granting process leaves.
        """
        reference = Reference(self._library, on_event)
        await reference._redeem(Token.of(token))
        return reference

    # How the broker fares

    async def ping(self) -> float:
        """One round trip: a request that changes nothing, and its answer. Returns the seconds that it took. Connects again if necessary."""
        link = await self._library.link(_limits.deadline(self._library.options.timeout))
        request: requests.Request = requests.Health((1 << 64) - 1) if link.core.version >= 3 else requests.Status()
        began = time.monotonic()
        await self._library.ask(link, request.reply[0], request, _limits.deadline(self._library.options.timeout))
        return time.monotonic() - began

    async def status(self) -> types.Status:
        """What the broker is doing: sessions, members, the queue."""
        return await self._library.status()

    async def broker_status(self) -> Optional[types.BrokerStatus]:
        """How the previous broker ended, and how much of the limits is used; `None` if the broker is too old to say."""
        if not await self._speaks(2):
            return None
        found = await self._library.call(replies.Broker, lambda link: requests.Broker())
        return types.BrokerStatus(found.previous, found.limits)

    async def health(self) -> replies.Health:
        """How the providers of each session fare, and which version of its profile it has. Empty if the broker is too old to say."""
        sessions: Tuple[types.SessionHealth, ...] = ()
        after, asked = 0, None
        while await self._speaks(3):
            page = await self._library.call(replies.Health, lambda link: requests.Health(after))
            sessions, asked = sessions + page.sessions, page.requests
            if page.next is None:
                break
            after = _later(after, page.next)
        return replies.Health(sessions, None, asked)

    async def mailboxes(self) -> Tuple[types.MailboxState, ...]:
        """How the mailboxes of each session fare that this user may see. Empty if the broker is too old to say."""
        mailboxes: Tuple[types.MailboxState, ...] = ()
        after = 0
        while await self._speaks(4):
            page = await self._library.call(replies.Mailboxes, lambda link: requests.Mailboxes(after))
            mailboxes += page.mailboxes
            if page.next is None:
                break
            after = _later(after, page.next)
        return mailboxes

    async def _speaks(self, version: int) -> bool:
        link = await self._library.link(_limits.deadline(self._library.options.timeout))
        return link.core.version >= version

    # The outgoing queue

    async def queue(self, profile: Optional[str] = None, all: bool = False) -> Tuple[types.QueueRow, ...]:
        """The outgoing queue of a profile; without a name, of the default profile and all that have a session. With `all` final messages, too."""
        return await self._library.queue(profile, all)

    async def queue_entry(self, entry: EntryText, profile: Optional[str] = None) -> types.QueueRow:
        """An entry of the outgoing queue, with all its recipients."""
        return await self._library.queue_entry(profile, _entry(entry))

    async def message_id(self, entry: EntryText) -> Optional[str]:
        """The `Message-ID` of a message in the queue; `None` if it has none, or the broker is too old to say."""
        wanted = _entry(entry)
        if not await self._speaks(3):
            await self._library.queue_entry(None, wanted)
            return None
        return (await self._library.call(replies.MessageId, lambda link: requests.MessageId(wanted))).value

    async def retry(self, entry: EntryText, profile: Optional[str] = None) -> types.QueueRow:
        """Tries an entry now. A message whose outcome is unknown may arrive twice then."""
        return await self._change(entry, profile, types.QueueChange.RETRY)

    async def hold(self, entry: EntryText, profile: Optional[str] = None) -> types.QueueRow:
        """Keeps an entry until it is released."""
        return await self._change(entry, profile, types.QueueChange.HOLD)

    async def release(self, entry: EntryText, profile: Optional[str] = None) -> types.QueueRow:
        """Releases a held entry."""
        return await self._change(entry, profile, types.QueueChange.RELEASE)

    async def abort(self, entry: EntryText, profile: Optional[str] = None) -> types.QueueRow:
        """Takes an entry back into Drafts: `MAPI_E_UNABLE_TO_ABORT` if a transport has it, `MAPI_E_NOT_IN_QUEUE` if it is final."""
        return await self._change(entry, profile, types.QueueChange.ABORT)

    async def _change(self, entry: EntryText, profile: Optional[str], change: types.QueueChange) -> types.QueueRow:
        wanted = _entry(entry)
        try:
            page = await self._library.call(replies.Queue, lambda link: requests.Queue(profile, types.ChangeEntry(wanted, change)))
        except _errors.Error as error:
            if not error._repeated:
                raise
            # The entry's state says whether the first request was carried out.
            row = await self._library.queue_entry(profile, wanted)
            held = row.state == types.SubmissionState.HELD
            done = {
                types.QueueChange.HOLD: held,
                types.QueueChange.RELEASE: not held,
                types.QueueChange.ABORT: row.state == types.SubmissionState.ABORTED,
            }
            if not done.get(change, False):
                raise
            return row
        if not page.rows:
            raise _errors.unexpected()
        return page.rows[0]

    async def flush_queues(self, profile: Optional[str] = None) -> int:
        """`IMAPIStatus::FlushQueues`: tries everything that waits, now. Returns how many messages that are, and does not wait for their outcome."""
        return (await self._library.call(replies.Flushed, lambda link: requests.Queue(profile, types.FlushQueue()))).found

    # Administration

    async def reload(self, profile: str) -> replies.Reloaded:
        """Has the broker read a profile's file now, use it in its sessions and try its transports. Takes the right *admin*."""
        name = _errors.string(profile, "profile")
        return await self._library.call(replies.Reloaded, lambda link: requests.Reload(name))

    async def delete_profile(self, name: str) -> types.Deletion:
        """Deletes a profile's settings (`IProfAdmin::DeleteProfile`); its data stays. Takes the right *admin*."""
        wanted = _errors.string(name, "name")
        try:
            return (await self._library.call(replies.ProfileDeleted, lambda link: requests.DeleteProfile(wanted))).deletion
        except _errors.Error as error:
            if not (error._repeated and error.code == "MAPI_E_NOT_FOUND"):
                raise
            return types.Deletion.DONE

    async def stop(self, fast: bool = False, patience: float = 30.0) -> None:
        """Stops the broker for good, and waits until its process has ended, at most so many seconds (`MAPI_E_TIMEOUT`)."""
        library = self._library
        link = await library.link(_limits.deadline(library.options.timeout))
        process = _handle_of(link)
        how = types.Stopping.FAST if fast else types.Stopping.ORDERLY
        try:
            await library.ask(link, replies.Done, requests.Stop(how), _limits.deadline(library.options.timeout))
            until = time.monotonic() + _limits.number(patience, "patience")
            ended = await (link.wait_for_end(until) if process is None else _io.readable(process, until))
        finally:
            if process is not None:
                os.close(process)
        library.end("the broker was stopped; call connect again to start another")
        if not ended:
            raise _errors.refused(f"the broker is stopping and not done after {patience:g} s", "MAPI_E_TIMEOUT")

    # Leaving

    def client_shutdown(self) -> ClientShutdown:
        """Controls the shutdown of this process (`IMAPIClientShutdown`)."""
        return ClientShutdown(self._library)

    async def shut_down(self) -> str:
        """Leaves by the right path: `"fast"`, by query, notify and do, if every provider supports that, or else `"traditional"`: every session logs off.

        It covers every broker that this process is connected to. It raises only if something could not be made durable: the sessions that are still logged on
        can be used then. After it every call raises `MAPI_E_NOT_INITIALIZED`.
        """
        leaving = self.client_shutdown()
        try:
            await leaving.query()
            fast = True
        except _errors.ForkedError:
            raise
        except _errors.Error:
            fast = False
        try:
            await leaving.notify()
        except _errors.Error:
            pass
        if fast:
            try:
                await leaving.do()
                return "fast"
            except _errors.Error:
                pass
        here = [one for one in list(alive) if one.home.is_here() and not one.left and not one.memory.done]
        if not here:
            raise left_error()
        for library in here:
            if library.ended is None:
                await library.log_everything_off()
        for library in here:
            library.left = True
            library.end("the process was shut down")
        return "traditional"

    async def log_everything_off(self) -> None:
        """Logs off every session of this `Mapi`. One with something that could not be made durable stays logged on."""
        self._library.check()
        await self._library.log_everything_off()

    async def close(self) -> None:
        """`MAPIUninitialize`: logs off every session, and closes the connection. Closing it again does nothing; neither does a forked child."""
        await self._library.close()

    async def __aenter__(self) -> "Mapi":
        return self

    async def __aexit__(self, kind: "Optional[Type[BaseException]]", error: Optional[BaseException], _: object) -> None:
        try:
            await self.close()
        except _errors.Error:
            # What failed is raised, and not what followed from it.
            if error is None:
                raise
            self._library.end(_CLOSED)

    # For event loops, and facts

    def fileno(self) -> int:
        """A descriptor that is readable when `dispatch` has something to do, or events wait for `Session.events`. It stays the same when the broker is restarted."""
        return self._library.fileno()

    async def dispatch(self, timeout: float = 0) -> None:
        """Takes what has come and calls callbacks; waits at most so many seconds for something to come. Looks for the broker if it went away."""
        await self._library.take(time.monotonic() + _limits.number(timeout, "timeout"))

    @property
    def host_key(self) -> int:
        """The key that lets an add-in with a library of its own shut this process down: `connect(host_key=…)`."""
        return int.from_bytes(self._library.key, "little")

    @property
    def broker(self) -> Optional[int]:
        """The broker's process id, while there is a connection."""
        link = self._library.link_now
        return link.core.welcome.pid if link and not link.dead and link.core.welcome else None

    @property
    def socket(self) -> str:
        """The broker's socket."""
        return self._library.paths.socket


def _handle_of(link: _io.Link) -> Optional[int]:
    """A descriptor of the broker's process, if the kernel confirms which it is: it listens, or is a child of the service manager that listens."""
    listens = _socket.credentials(link._socket)[0]
    said = link.core.welcome.pid if link.core.welcome else 0
    if not listens or said not in (listens,) and _socket.parent_of(said) != listens:
        return None
    try:
        return os.pidfd_open(said)
    except (OSError, AttributeError):
        return None


def _later(after: int, following: int) -> int:
    if following <= after:
        raise _errors.unexpected()
    return following
