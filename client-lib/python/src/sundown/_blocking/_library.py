# Made by `client-lib/python/generate` from `asyncio/`: change that file, not this one.
"""What a `Mapi` and its sessions share: the connection, its loss and return, and the calls made over it.

```text
  Off ──a call──► Connecting ──made──► Up ──lost, with sessions──► Away ──found──► Up
   ▲                                   │                            │
   ├────────── lost, without sessions ─┘                            │
   └───────────── not found within the patience: sessions are lost ─┘

  any ──the broker stops, close()──► Ended
```

The library has no thread. The call that notices a loss looks for the broker; a call that must return earlier leaves the rest to the next one.
"""

from __future__ import annotations

import os
import select
import sys
import time
import weakref
from typing import TYPE_CHECKING, Any, Callable, Dict, List, Optional, Tuple, Type, TypeVar

from .. import _errors, _limits, _paths, _process, _socket
from .._lazy import imports
from .._notices import Notices
from .._options import Options, Retry
from ..events import Reconnected
from ..protocol import Connection, codes, events, replies, requests, types
from ..protocol._connection import Hook
from . import _io

if TYPE_CHECKING:
    from types import FrameType

WELCOME = 10.0
"""For how many seconds a broker that the library comes back to may take to send its welcome."""
COMING_BACK = 60.0
"""For how many seconds a broker may take for the logons and registrations of the sessions that come back."""
TELLING = 5.0
"""For how many seconds a logoff waits for callbacks that run."""

_E_WAIT = codes.NUMBERS["MAPI_E_WAIT"]
_E_CORRUPT_DATA = codes.NUMBERS["MAPI_E_CORRUPT_DATA"]
_E_NO_ACCESS = codes.NUMBERS["MAPI_E_NO_ACCESS"]

R = TypeVar("R", bound=replies.Reply)

alive: "weakref.WeakSet[Library]" = weakref.WeakSet()
"""The libraries of this process."""


def left_error() -> _errors.Error:
    """The error of every call after the process has left."""
    return _errors.refused("this process was shut down; it takes no calls any more", "MAPI_E_NOT_INITIALIZED")


class Library:
    """The state that a `Mapi` and everything that it makes share."""

    def __init__(self, options: Options) -> None:
        self.options = options
        self.paths = _paths.Paths(options.socket, options.data_dir, options.config)
        self.process = _process.this()
        self.memory = self.process.memory(self.paths.socket)
        if self.process.done or self.memory.done:
            raise left_error()
        self.home = _io.Home()
        self.key = options.host_key.to_bytes(16, "little") if options.host_key is not None else _process.library_key()
        self.link_now: Optional[_io.Link] = None
        self.ended: Optional[str] = None
        self.left = False
        self.sessions: Dict[int, Any] = {}
        """Sessions that the broker knows, by their members."""
        self.away: List[Any] = []
        """Sessions that were logged on when the connection was lost."""
        self.references: Dict[int, Any] = {}
        self.notices = Notices()
        self.give_up_at: Optional[float] = None
        """When the search for a broker that went away ends."""
        self._turn = _io.Lock()
        self._quiet = False
        """Whether sessions are being brought back: callbacks wait until calls work again."""
        self._teller: "Optional[FrameType]" = None
        """The call that tells what has come."""
        self._telling = _io.Lock()
        self.poll: Any = None
        self._wake = (-1, -1)
        alive.add(self)

    def check(self) -> None:
        """Raises unless calls may be made: in this process, and before it has left."""
        self.home.check("this Mapi")
        if self.left or self.memory.done or self.process.done:
            raise left_error()

    def is_up(self) -> bool:
        """Whether there is a connection."""
        return self.link_now is not None and self.link_now.dead is None

    @property
    def version(self) -> int:
        """The version that the broker speaks; 0 without a connection."""
        return self.link_now.core.version if self.link_now else 0

    # The connection

    def connect_now(self) -> None:
        """Connects, and starts a broker if none runs and that is allowed."""
        limit = _limits.deadline(self.options.timeout)
        try:
            self._take_turn(limit)
            self.use(self._greet(limit))
        finally:
            self._turn.release()

    def link(self, until: Optional[float], *, once: bool = False) -> _io.Link:
        """The connection. If there is none it is made; if it was lost the broker is looked for, at most until then, or once."""
        self.check()
        link = self.link_now
        if link is not None and link.core.dead is None:
            return link
        back: List[Tuple[Any, int]] = []
        try:
            try:
                self._take_turn(until)
                if self.link_now is not None and self.link_now.dead is None:
                    return self.link_now
                self._note_loss()
                if self.ended is not None:
                    raise _errors.EndOfSession(self.ended)
                link, back = self._seek(until, once) if self.away else self._reconnect(until)
            finally:
                self._turn.release()
        except _errors.Error:
            # Sessions may be lost.
            self.dispatch()
            raise
        self._say_who_is_back(link, back)
        return link

    def _take_turn(self, until: Optional[float]) -> None:
        if not self._turn.acquire(until):
            raise _errors.gave_up()

    def _note_loss(self) -> None:
        """Handles the end of the connection, once."""
        link = self.link_now
        if link is None:
            if self.sessions:
                # They were back over a connection that was not put to use: the call was interrupted in between.
                self._go_away()
            return
        if link.dead is None:
            return
        self.link_now = None
        # Its socket is closed now, if another thread used it when it ended.
        link.die(link.dead)
        for reference in list(self.references.values()):
            self.notices.push(reference, (), reference.lost_event())
        self.references.clear()
        if link.core.stopping:
            self.ended = "the broker was stopped; call connect again to start another"
            for session in self.all_sessions():
                session.end(types.EndReason.BROKER_STOPPED)
            self.signal()
            return
        self._go_away()

    def _go_away(self) -> None:
        """Notes that the sessions are to be brought back."""
        self.away = sorted({*self.away, *self.sessions.values()}, key=lambda session: session.member)
        self.sessions.clear()
        self.give_up_at = time.monotonic() + self.options.retry.patience
        self.signal()

    def _reconnect(self, until: Optional[float]) -> "Tuple[_io.Link, List[Tuple[Any, int]]]":
        """Connects where there is no session to bring back. A call starts no broker."""
        try:
            link = self._connect(_limits.earlier(until, time.monotonic() + WELCOME))
        except _socket.Absent as error:
            _limits.check(until)
            raise self.unreachable(error) from error.error
        self.use(link)
        return link, []

    def _seek(self, until: Optional[float], once: bool) -> "Tuple[_io.Link, List[Tuple[Any, int]]]":
        """Looks for the broker that went away, and brings the sessions back."""
        self._quiet = True
        try:
            while True:
                soon = time.monotonic() + WELCOME
                last = _socket.Absent(TimeoutError())
                try:
                    link = self._connect(soon if once else _limits.earlier(until, soon))
                except _socket.Absent as error:
                    last = error
                else:
                    # It takes its time whatever the limit of this call is: a program of short calls would never be back.
                    back = self._come_back(link, time.monotonic() + COMING_BACK)
                    if back is not None:
                        try:
                            self.use(link)
                        except BaseException:
                            link.die("the call that came back was interrupted")
                            raise
                        return link, back
                if self.give_up_at is not None and time.monotonic() >= self.give_up_at:
                    for session in list(self.away):
                        self._lose(session)
                    self.away.clear()
                    raise self.unreachable(last) from last.error
                if once:
                    raise _errors.gave_up()
                _limits.check(until)
                _io.sleep(self.options.retry.interval)
        finally:
            self._quiet = False

    def _come_back(self, link: _io.Link, until: Optional[float]) -> "Optional[List[Tuple[Any, int]]]":
        """Brings every session back over a new connection. `None` if the connection ended meanwhile, or its broker is stopping, too."""
        back: List[Tuple[Any, int]] = []
        try:
            for session in list(self.away):
                try:
                    back.append((session, session.come_back(link, until)))
                except _errors.Error as error:
                    if isinstance(error, _errors.EndOfSession) and not link.dead:
                        self._is_over(session)
                    elif link.dead or error.code == "MAPI_E_WAIT" or error._gave_up:
                        raise
                    else:
                        self._lose(session)
        except _errors.Error as error:
            # Sessions that are back already leave with this connection, and come back over the next one.
            link.die(str(error))
            self.away = sorted({*self.away, *self.sessions.values()}, key=lambda session: session.member)
            self.sessions.clear()
            return None
        except BaseException:
            link.die("the call that came back was interrupted")
            raise
        self.away.clear()
        return back

    def _say_who_is_back(self, link: _io.Link, back: "List[Tuple[Any, int]]") -> None:
        if not back:
            return
        previous = None
        if link.core.version >= 2:
            try:
                asked = link.call(requests.Broker(), None, time.monotonic() + WELCOME)
                previous = asked.outcome.previous if isinstance(asked.outcome, replies.Broker) else None
            except _errors.Error:
                pass
        for session, lost_drafts in back:
            if session.unwanted:
                session.leave_later()
            else:
                self.notices.push(session, session.session_advises(), Reconnected(lost_drafts, previous))
        self.dispatch()

    def _lose(self, session: Any) -> None:
        """Ends a session that does not come back, and tells its program."""
        session.end(types.EndReason.BROKER_LOST)
        lost = events.CriticalError(codes.NUMBERS["MAPI_E_END_OF_SESSION"], types.EndReason.BROKER_LOST, None, None)
        self.notices.push(session, session.session_advises(), lost)

    def _is_over(self, session: Any) -> None:
        """Ends a session whose shared session was ended and whose grace is over. Tells its program of the end, unless it was told before."""
        known, session.end_known = session.end_known, True
        if not known:
            over = events.CriticalError(codes.NUMBERS["MAPI_E_END_OF_SESSION"], types.EndReason.SHARED_LOGOFF, None, 0)
            self.notices.push(session, session.session_advises(), over)
        self.notices.push(session, session.extended_advises(), events.Evicted())
        session.evicted()

    def use(self, link: _io.Link) -> None:
        """Puts a connection to use."""
        if self.left or self.ended == _CLOSED:
            link.die("the library was closed")
            raise left_error() if self.left else _errors.refused(_CLOSED, "MAPI_E_NOT_INITIALIZED")
        self.link_now, self.give_up_at = link, None
        self.signal()

    def _greet(self, limit: Optional[float]) -> _io.Link:
        """Connects, and tries again until the patience is over. If no broker listens one is started where that is allowed."""
        until = _limits.earlier(limit, time.monotonic() + self.options.retry.patience)
        was_here = False
        while True:
            try:
                return self._connect(until)
            except _socket.Absent as error:
                absent = error
            _limits.check(limit)
            was_here |= absent.was_cut_off
            again = absent.was_cut_off or (was_here and absent.looks_absent)
            if absent.looks_absent and self.options.start is not None and self.paths.own:
                with imports:
                    from . import _start

                try:
                    _start.start(self.options.start, self.options.logging, self.paths, until, self._runs)
                    again = True
                except _start.NotStarted as error:
                    if not error.occupied or _limits.left(until) == 0:
                        _limits.check(limit)
                        raise _errors.unreachable(error.error.message + self.paths.note()) from error
                    again = True
            if not again or _limits.left(until) == 0:
                raise self.unreachable(absent) from absent.error
            _io.sleep(self.options.retry.interval)

    def _runs(self) -> bool:
        """Whether a broker answers now."""
        try:
            link = self._connect(time.monotonic() + WELCOME)
        except _socket.Absent:
            return False
        link.die("it was only looked for")
        return True

    def _connect(self, until: Optional[float]) -> _io.Link:
        """Connects once: at the socket, or where the data directory's broker listens."""
        try:
            return self._connect_at(self.paths.socket, until)
        except _socket.Absent as error:
            other = self.paths.elsewhere() if error.is_not_there else None
            if other is None:
                raise
            try:
                return self._connect_at(other, until)
            except _socket.Absent:
                raise error from None

    def _connect_at(self, path: str, until: Optional[float]) -> _io.Link:
        core = Connection(self.options.program, image=_process.image(), library=self.key)
        link = _io.Link.connect(path, core, until, self._deliver, self._news)
        # A ticket is the first request on a connection.
        if core.version >= 3:
            link.tell(requests.Ticket(self.memory.ticket), self._took_ticket)
        return link

    def _took_ticket(self, outcome: object) -> None:
        if isinstance(outcome, replies.Ticket):
            self.memory.ticket = outcome.ticket
        elif isinstance(outcome, types.Fault) and outcome.code == _E_NO_ACCESS:
            # The broker does not accept the ticket. The next one is asked without it.
            self.memory.ticket = None

    def unreachable(self, absent: _socket.Absent) -> _errors.Error:
        """The error of a broker that cannot be reached."""
        socket = self.paths.socket
        if absent.looks_absent:
            start = "start one with `sundown serve`" if self.paths.own else "it is the host's: `systemctl start sundown.socket` as root"
            holder = self.paths.holder()
            what = f"no broker runs at {socket}; {start}"
            if holder is not None:
                what = f"no broker answers at {socket}, and process {holder} has its data: `sundown doctor` says what to do"
        elif absent.says_nothing:
            what = f"what listens at {socket} does not answer: `sundown doctor` looks why"
        else:
            what = f"the broker at {socket} cannot be reached: {absent}"
        code = absent.code if absent.code == "MAPI_E_NOT_ENOUGH_RESOURCES" else "MAPI_E_NETWORK_ERROR"
        return _errors.unreachable(what + self.paths.note(), code)

    # Calls

    def call(
        self,
        reply: Type[R],
        request: Callable[[_io.Link], requests.Request],
        *,
        before: Optional[Callable[[_io.Link], None]] = None,
        hook: Optional[Hook] = None,
        extra: float = 0.0,
    ) -> R:
        """Sends a request and waits for the answer. If the broker goes away meanwhile, repeats it if its kind allows that.

        `request` makes it anew for each connection, because the handles have changed then. `before` is what precedes it, as the pieces of a long message.
        `extra` is how many seconds longer than other calls it may take.
        """
        until = _limits.deadline(None if self.options.timeout is None else self.options.timeout + extra)
        patience = time.monotonic() + self.options.retry.patience
        # How an earlier attempt may be repeated that may have been carried out.
        earlier: Optional[str] = None
        lost = 0
        while True:
            repeat = requests.HARMLESS
            link: Optional[_io.Link] = None
            try:
                link = self.link(until)
                if before is not None:
                    before(link)
                made = request(link)
                self.needs(link, made)
                repeat = made.repeat
                pending = link.call(made, hook, until)
            except _errors.Error as error:
                if error._gave_up:
                    raise self._unknown_if(earlier or (repeat if error._asked else None), error) from None
                if link is None or not link.dead or not isinstance(error, _errors.Disconnected):
                    raise self._unknown_if(earlier, error) from None
                if error._asked and earlier in (None, requests.HARMLESS):
                    earlier = repeat
                nonsense = link.core.dead is not None and link.core.dead.nonsense
                if earlier == requests.NEVER or nonsense or time.monotonic() >= patience:
                    raise self._unknown_if(earlier, error) from None
                lost += 1
                if lost > 1:
                    # What accepts and ends connections is not asked without a pause.
                    _io.sleep(self.options.retry.interval)
                continue
            outcome = pending.outcome
            if isinstance(outcome, reply):
                return outcome
            if not isinstance(outcome, types.Fault):
                raise _errors.unexpected()
            if outcome.code == _E_WAIT and time.monotonic() < patience:
                # The broker is stopping; its successor is asked.
                link.wait_for_end(_limits.earlier(until, patience) or patience)
                _limits.check(until)
                continue
            if link.core.dead is not None and link.core.dead.nonsense and outcome.code == _E_CORRUPT_DATA:
                raise _errors.unexpected(outcome.message, harmless=made.repeat == requests.HARMLESS)
            refused = _errors.of_fault(outcome, f"{link.core.identifier}-{pending.id}")
            refused._repeated = earlier is not None
            raise refused

    def ask(self, link: _io.Link, reply: Type[R], request: requests.Request, until: Optional[float], hook: Optional[Hook] = None) -> R:
        """The same over this connection, without a repeat."""
        pending = link.call(request, hook, until)
        if isinstance(pending.outcome, reply):
            return pending.outcome
        if isinstance(pending.outcome, types.Fault):
            raise _errors.of_fault(pending.outcome, f"{link.core.identifier}-{pending.id}")
        raise _errors.unexpected()

    @staticmethod
    def _unknown_if(before: Optional[str], error: _errors.Error) -> _errors.Error:
        """The outcome is unknown if an attempt may have changed something."""
        return error if before in (None, requests.HARMLESS) else _errors.unknown(error)

    @staticmethod
    def needs(link: _io.Link, request: requests.Request) -> None:
        """Raises if the broker is older than the version that brought this request. It would end the connection if it were asked."""
        speaks = link.core.version
        if speaks < request.takes:
            raise _errors.refused(
                f"the broker is older than this program: it speaks version {speaks} of the protocol, and this request, {type(request).__name__}, "
                f"takes version {request.takes}; update Sundown, and let `sundown stop` end the old broker",
                "MAPI_E_VERSION",
            )

    # What several callers ask

    def status(self) -> types.Status:
        """The whole status, by pages. A broker of an older version answers it as one page."""
        after = types.StatusCursor()
        whole: Optional[types.Status] = None
        while True:
            link = self.link(_limits.deadline(self.options.timeout))
            if link.core.version < 3:
                return (self.call(replies.Status, lambda link: requests.Status())).status
            page = self.call(replies.StatusPage, lambda link: requests.StatusPage(after))
            if whole is not None and (whole.pid, whole.started) != (page.status.pid, page.status.started):
                # Another broker does not know that cursor, so it is read from the beginning.
                after, whole = types.StatusCursor(), None
                continue
            whole = page.status if whole is None else _appended(whole, page.status)
            if page.next is None:
                return whole
            if (page.next.session, page.next.member, page.next.reference) <= (after.session, after.member, after.reference):
                raise _errors.unexpected()
            after = page.next

    def queue(self, profile: Optional[str], all: bool) -> Tuple[types.QueueRow, ...]:
        """The outgoing queue, by pages."""
        rows: Tuple[types.QueueRow, ...] = ()
        after = 0
        while True:
            action = types.ListQueue(bool(all), after, 64)
            page = self.call(replies.Queue, lambda link: requests.Queue(profile, action))
            rows += page.rows
            if page.next is None:
                return rows
            if page.next <= after:
                raise _errors.unexpected()
            after = page.next

    def queue_entry(self, profile: Optional[str], entry: types.EntryId) -> types.QueueRow:
        """An entry of the outgoing queue."""
        page = self.call(replies.Queue, lambda link: requests.Queue(profile, types.ShowEntry(entry)))
        if not page.rows:
            raise _errors.unexpected()
        return page.rows[0]

    # Notifications

    def _deliver(self, notification: events.Notification) -> None:
        """Takes a notification, when it is read. What the library must know at once is not queued."""
        event, member = notification.event, notification.member
        if isinstance(event, events.NewTicket):
            self.memory.ticket = event.ticket
            return
        reference = self.references.get(member)
        if reference is not None:
            self.notices.push(reference, (), event)
            return
        session = self.sessions.get(member)
        if session is None:
            return
        if isinstance(event, events.Durable):
            session.deferred.durable(event.entries)
        elif isinstance(event, events.SessionNamed):
            session.is_called(event.session_tag)
        elif isinstance(event, events.MembersLeft):
            for one in event.departures:
                self.notices.push(session, notification.advises, events.MemberLeft(one.member, one.reason))
        elif isinstance(event, events.NewMail):
            self.notices.push(session, notification.advises, events.Arrived(event.place, "", ""))
        else:
            if isinstance(event, events.CriticalError):
                session.is_ending(event)
            self.notices.push(session, notification.advises, event)

    def _news(self) -> None:
        if not self._quiet:
            self.dispatch()

    def dispatch(self, *, wait: bool = False) -> None:
        """Tells what has come. If another thread does that already it goes on alone; with `wait` this one waits for it."""
        if not self.notices or _is_running(self._teller):
            return
        until = time.monotonic() + TELLING if wait else time.monotonic()
        while self.notices:
            try:
                if not self._telling.acquire(until):
                    return
                self._teller = sys._getframe()
                while True:
                    notice = self.notices.pop()
                    if notice is None:
                        break
                    whom, advises, event = notice
                    whom.told(advises, event)
                self._teller = None
            finally:
                self._telling.release()
        self.signal()

    def wait_for_news(self, until: Optional[float], *, once: bool = False) -> None:
        """Waits until something came, at most until then. Looks for the broker if it went away: until then, or once."""
        self.check()
        if self.notices:
            self.dispatch()
            return
        if self.is_up() and self.link_now:
            self.link_now.wait(until)
        elif self.ended is None and (self.away or self.link_now is not None):
            try:
                self.link(until, once=once)
            except _errors.Error as error:
                if not error._gave_up and not isinstance(error, (_errors.Disconnected, _errors.EndOfSession)):
                    raise
        else:
            left = _limits.left(until)
            _io.sleep(self.options.retry.interval if left is None else min(left, self.options.retry.interval))
        self.dispatch()

    def take(self, until: Optional[float]) -> None:
        """Takes what has come, for programs with a loop of their own; looks for the broker once if it went away."""
        self.check()
        if self.is_up() and self.link_now:
            self.link_now.wait(until)
        if not self.is_up():
            self.wait_for_news(time.monotonic() + self.options.retry.interval, once=True)
            if not self.is_up() and self.ended is None:
                # A loop that calls this again and again must not spin.
                _io.sleep(self.options.retry.interval)
        self.dispatch()

    def fileno(self) -> int:
        """A descriptor that is readable when `take` has something to do. It stays the same when the connection changes."""
        self.check()
        if self.poll is None:
            if not hasattr(select, "epoll"):
                return self.link_now.fileno() if self.link_now else -1
            self.poll = select.epoll()
            self._wake = os.pipe()
            os.write(self._wake[1], b"!")
            self._watched: "Tuple[bool, Optional[_io.Link]]" = (False, None)
            self.signal()
        descriptor: int = self.poll.fileno()
        return descriptor

    def signal(self) -> None:
        """Has the descriptor of `fileno` watch what there is to watch: the connection, or at once if something waits in this process."""
        if self.poll is None or not self.home.is_here():
            return
        link = self.link_now if self.is_up() else None
        waits = (link is None and bool(self.away or self.link_now)) or any(session.queue for session in self.all_sessions())
        waited, watched = self._watched
        if watched is not link:
            if watched is not None:
                try:
                    self.poll.unregister(watched.fileno())
                except OSError:
                    pass  # it is closed
            if link is not None:
                self.poll.register(link.fileno(), select.EPOLLIN)
        if waits and not waited:
            self.poll.register(self._wake[0], select.EPOLLIN)
        elif waited and not waits:
            self.poll.unregister(self._wake[0])
        self._watched = (waits, link)

    # Sessions and the end

    def all_sessions(self) -> List[Any]:
        """All sessions, here and away."""
        return [*self.sessions.values(), *self.away]

    def add_session(self, member: int, session: Any) -> None:
        """Lists a session that is logged on."""
        # In this order: a call that is interrupted in between leaves it in both, and not in none.
        self.sessions[member] = session
        if session in self.away:
            self.away.remove(session)

    def remove_session(self, session: Any) -> None:
        """Forgets a session that has ended."""
        member: int = session.member
        if self.sessions.get(member) is session:
            del self.sessions[member]
        if session in self.away:
            self.away.remove(session)

    def note_lost(self, error: _errors.Error) -> None:
        """Notes for all sessions what the error names as lost: a store may have lost submissions of any of them."""
        for session in self.all_sessions():
            session.deferred.lost(error.entries)

    def log_everything_off(self) -> None:
        """Logs every session off. After a failure the sessions that could not be logged off remain usable."""
        for session in self.all_sessions():
            try:
                session.log_off(0, None)
            except _errors.Error as error:
                # There is nothing left to log off.
                if not _errors.is_dead_handle(error) and not isinstance(error, _errors.EndOfSession):
                    raise

    def end(self, why: str) -> None:
        """Ends the connection for good."""
        self.ended = why
        link, self.link_now = self.link_now, None
        if link is not None:
            link.die(why)
        if self.poll is not None:
            self.poll.close()
            self.poll = None
            for descriptor in self._wake:
                os.close(descriptor)
        alive.discard(self)

    def close(self) -> None:
        """`MAPIUninitialize`."""
        if self.ended == _CLOSED or not self.home.is_here():
            return
        if not (self.left or self.memory.done or self.process.done):
            self.log_everything_off()
        self.end(_CLOSED)


_CLOSED = "this Mapi was closed; call connect again"


def _is_running(frame: "Optional[FrameType]") -> bool:
    """Whether this call is one of those that have called the present one: then a callback makes a call."""
    if frame is None:
        return False
    here: "Optional[FrameType]" = sys._getframe()
    while here is not None and here is not frame:
        here = here.f_back
    return here is frame


def _appended(status: types.Status, page: types.Status) -> types.Status:
    """A status with its next page. A page may begin with further members and references of the last session."""
    sessions = list(status.sessions)
    for session in page.sessions:
        if sessions and sessions[-1].id == session.id:
            begun = sessions[-1]
            sessions[-1] = types.SessionStatus(
                begun.id,
                begun.profile,
                begun.shared,
                begun.state,
                begun.members + session.members,
                begun.providers,
                begun.references + session.references,
            )
        else:
            sessions.append(session)
    return types.Status(
        status.version, status.pid, status.socket, status.started, tuple(sessions), status.queue, status.waiting_for_mail_member
    )
