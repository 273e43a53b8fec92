"""What waits, for asyncio: a connection, a lock, a pause. `sundown._blocking._io` is the same for blocking calls."""

from __future__ import annotations

import asyncio
import inspect
import socket
import time
from typing import Any, Callable, Dict, Optional, Set

from .. import _errors, _limits, _process, _socket
from ..protocol import Answered, Connection, Malformed, Notified, Pending, codes
from ..protocol._connection import Hook
from ..protocol.events import Notification
from ..protocol.requests import Request

_READ = 64 << 10


async def sleep(seconds: float) -> None:
    """Waits for so long."""
    await asyncio.sleep(seconds)


async def readable(fd: int, until: Optional[float]) -> bool:
    """Waits until a descriptor is readable, at most until then. Returns whether it is."""
    loop = asyncio.get_running_loop()
    ready: "asyncio.Future[None]" = loop.create_future()
    loop.add_reader(fd, _set, ready)
    try:
        await asyncio.wait_for(ready, _limits.left(until))
        return True
    except asyncio.TimeoutError:
        return False
    finally:
        loop.remove_reader(fd)


def _set(future: "asyncio.Future[None]") -> None:
    if not future.done():
        future.set_result(None)


async def call_back(callback: Callable[..., Any], *arguments: Any) -> Any:
    """Calls a function of the program, which may be a coroutine function."""
    result = callback(*arguments)
    return await result if inspect.isawaitable(result) else result


class Home(_process.Home):
    """What made an object: this process, and the event loop that runs."""

    __slots__ = ("loop",)

    def __init__(self) -> None:
        super().__init__()
        self.loop = asyncio.get_running_loop()

    def check(self, what: str) -> None:
        super().check(what)
        if asyncio._get_running_loop() is self.loop:
            return
        why = "that is closed" if self.loop.is_closed() else "other than the one that runs here"
        raise _errors.refused(
            f"{what} belongs to an event loop {why}; call sundown.asyncio.connect in the loop that runs", "MAPI_E_NOT_INITIALIZED"
        )


class Lock:
    """A lock that is waited for within a call's limit."""

    def __init__(self) -> None:
        self._lock = asyncio.Lock()
        self._owner: "Optional[asyncio.Task[Any]]" = None

    async def acquire(self, until: Optional[float]) -> bool:
        """Takes it, at most until then. Returns whether it was taken."""
        try:
            if until is None or not self._lock.locked():
                await self._lock.acquire()
            else:
                await asyncio.wait_for(self._lock.acquire(), _limits.left(until))
        except asyncio.TimeoutError:
            return False
        self._owner = asyncio.current_task()
        return True

    def release(self) -> None:
        """Lets another task take it, if this one has it."""
        if self._owner is not None and self._owner is asyncio.current_task():
            self._owner = None
            self._lock.release()


class Link:
    """A connection to a broker. Its loop reads whatever comes."""

    def __init__(self, connected: socket.socket, core: Connection, deliver: Callable[[Notification], None], news: Callable[[], Any]) -> None:
        self.core = core
        self._socket = connected
        self._fd = connected.fileno()
        self._deliver = deliver
        self._news = news
        self._home = _process.Home()
        self._loop = asyncio.get_running_loop()
        self._answers: "Dict[int, asyncio.Future[None]]" = {}
        self._changes: "Set[asyncio.Future[None]]" = set()
        self._out = bytearray()
        self._telling: "Optional[asyncio.Task[None]]" = None
        self._again = False
        _process.close_in_child(self)

    @classmethod
    async def connect(
        cls,
        path: str,
        core: Connection,
        until: Optional[float],
        deliver: Callable[[Notification], None],
        news: Callable[[], Any],
    ) -> "Link":
        """Connects and says hello, and waits at most until then. `Absent` if there is no broker, or it refuses."""
        connected = _socket.make()
        link: Optional[Link] = None
        try:
            await cls._reach(connected, path, until)
            _socket.refuse_strangers(connected, path)
            link = cls(connected, core, deliver, news)
            await link._greet(until)
            return link
        except (OSError, EOFError) as error:
            cls._drop(connected, link)
            raise _socket.Absent(error) from error
        except BaseException:
            cls._drop(connected, link)
            raise

    @staticmethod
    def _drop(connected: socket.socket, link: "Optional[Link]") -> None:
        if link is not None:
            link.die("the connection was given up")
        connected.close()

    @staticmethod
    async def _reach(connected: socket.socket, path: str, until: Optional[float]) -> None:
        """Connects. While the backlog is full, as when the broker is stopped or very busy, it tries again."""
        while True:
            try:
                return connected.connect(path)
            except BlockingIOError:
                left = _limits.left(until)
                if left == 0:
                    raise TimeoutError("its backlog is full: the broker accepts no connections") from None
                await asyncio.sleep(0.005 if left is None else min(0.005, left))

    async def _greet(self, until: Optional[float]) -> None:
        failed: Optional[OSError] = None
        try:
            self._socket.send(self.core.hello(), socket.MSG_NOSIGNAL)
        except OSError as error:
            # A broker that refuses a connection when it accepts it says why at once, and reads no hello.
            failed = error
        self._loop.add_reader(self._fd, self._readable)
        while self.core.welcome is None:
            if self.core.dead:
                refusal = self.core.dead.refusal
                if refusal:
                    raise _socket.Absent(ConnectionError(refusal.message), codes.name_of(refusal.code))
                why = self.core.dead.why
                raise failed or (ConnectionError(why) if self.core.dead.nonsense else EOFError(why))
            if until is not None and time.monotonic() >= until:
                raise TimeoutError("no welcome came in time")
            await self._change(until)

    @property
    def dead(self) -> Optional[str]:
        """Why the connection has ended, if it has."""
        return self.core.dead.why if self.core.dead else None

    def fileno(self) -> int:
        """The socket's descriptor."""
        return self._fd

    async def call(self, request: Request, hook: Optional[Hook] = None, until: Optional[float] = None) -> Pending:
        """Sends a request and waits for its `outcome`, at most until then. Raises `Disconnected` or `Timeout`."""
        try:
            pending, frame = self.core.prepare(request, hook)
        except Malformed as error:
            raise _errors.argument(error) from None
        while not self.core.has_credit(pending) and not self.core.dead:
            _limits.check(until)
            await self._change(until)
        self._send(pending, frame)
        answer: "asyncio.Future[None]" = self._loop.create_future()
        self._answers[pending.id] = answer
        try:
            if until is None:
                await answer
            else:
                await asyncio.wait_for(answer, _limits.left(until))
        except asyncio.TimeoutError:
            # The answer may still come, and is then passed to the hook.
            if pending.outcome is None:
                raise _errors.gave_up(asked=True) from None
        finally:
            self._answers.pop(pending.id, None)
        if pending.outcome is None:
            raise _errors.disconnected(self.dead or "it was closed", asked=True)
        return pending

    def tell(self, request: Request, hook: Optional[Hook] = None) -> None:
        """Sends a request without waiting for its answer, which only the hook sees. Nothing happens if it cannot be sent."""
        try:
            self._send(*self.core.prepare(request, hook))
        except (_errors.Error, Malformed):
            pass

    def _send(self, pending: Pending, frame: bytes) -> None:
        if self.core.dead:
            raise _errors.disconnected(self.core.dead.why, asked=False)
        self.core.book(pending)
        self._out += frame
        if len(self._out) == len(frame):
            self._writable()

    def _writable(self) -> None:
        try:
            while self._out:
                del self._out[: self._socket.send(self._out, socket.MSG_NOSIGNAL)]
            self._loop.remove_writer(self._fd)
        except BlockingIOError:
            self._loop.add_writer(self._fd, self._writable)
        except OSError as error:
            # Answers, the goodbye and other messages that the broker sent before it closed may be unread.
            self._out.clear()
            self._loop.remove_writer(self._fd)
            self._loop.call_later(_socket.LAST_WORDS, self.die, str(error))

    def _readable(self) -> None:
        try:
            data = self._socket.recv(_READ)
        except BlockingIOError:
            return
        except OSError as error:
            self.die(str(error))
            return
        told = False
        for one in self.core.receive(data) if data else self.core.end():
            if isinstance(one, Answered):
                if one.pending.hook:
                    one.pending.hook(one.outcome)
                one.pending.outcome = one.outcome
                answer = self._answers.get(one.pending.id)
                if answer is not None:
                    _set(answer)
            elif isinstance(one, Notified):
                self._deliver(one.notification)
                told = True
        if self.core.dead:
            self._close()
        self._wake()
        if told:
            self._tell()

    def _tell(self) -> None:
        """Has the notices told to callbacks by a task, one at a time."""
        if self._telling is not None and not self._telling.done():
            self._again = True
            return
        self._telling = self._loop.create_task(self._tell_all())

    async def _tell_all(self) -> None:
        self._again = True
        while self._again:
            self._again = False
            await self._news()

    def _wake(self) -> None:
        for change in self._changes:
            _set(change)

    async def _change(self, until: Optional[float]) -> None:
        """Waits until something came or the connection ended, at most until then."""
        change: "asyncio.Future[None]" = self._loop.create_future()
        self._changes.add(change)
        try:
            await asyncio.wait_for(change, _limits.left(until))
        except asyncio.TimeoutError:
            pass
        finally:
            self._changes.discard(change)

    async def wait(self, until: Optional[float]) -> None:
        """Waits until something came or the connection ended, at most until then."""
        if not self.core.dead:
            await self._change(until)

    async def wait_for_end(self, until: float) -> bool:
        """Waits until the connection ends, at most until then. Returns whether it has ended."""
        while not self.core.dead and time.monotonic() < until:
            await self._change(until)
        return self.core.dead is not None

    def die(self, why: str) -> None:
        """Ends the connection from this side, for this reason."""
        self.core.end(why)
        if self._home.is_here():
            try:
                self._socket.shutdown(socket.SHUT_RDWR)
            except OSError:
                pass
        self._close()

    def _close(self) -> None:
        if self._socket.fileno() < 0:
            # It is closed already, and its number may be that of another file in the same loop.
            return
        if not self._loop.is_closed():
            self._loop.remove_reader(self._fd)
            self._loop.remove_writer(self._fd)
            for answer in self._answers.values():
                _set(answer)
            self._wake()
        self._socket.close()

    def abandon(self) -> None:
        """In a forked child: closes this process' copy of the socket, and leaves the connection and its loop to the parent."""
        self._socket.close()
