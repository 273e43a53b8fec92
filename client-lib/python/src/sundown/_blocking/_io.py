"""What waits, for the blocking calls: a connection, a lock, a pause. `sundown.asyncio._io` is the same for asyncio.

A thread that waits for an answer reads the socket itself. If several threads wait, one of them reads and the others wait for it.

The handler of a signal may raise in any line here, also between two lines of a `finally`. So what a thread holds knows its thread: what an interrupted
call has left behind is given back by the next call of that thread.
"""

from __future__ import annotations

import select
import socket
import threading
import time
from typing import Any, Callable, Optional

from .. import _errors, _limits, _process, _socket
from ..protocol import Answered, Connection, Malformed, Notified, Pending, codes
from ..protocol._connection import Hook
from ..protocol.events import Notification
from ..protocol.requests import Request

_READ = 64 << 10


def sleep(seconds: float) -> None:
    """Waits for so long."""
    time.sleep(seconds)


def readable(fd: int, until: Optional[float]) -> bool:
    """Waits until a descriptor is readable, at most until then. Returns whether it is."""
    return _poll(fd, select.POLLIN, until) != 0


def _poll(fd: int, what: int, until: Optional[float]) -> int:
    poll = select.poll()
    poll.register(fd, what)
    return _wait(poll, until)


def _wait(poll: Any, until: Optional[float]) -> int:
    """What of it happened, at most until then; 0 if nothing did."""
    left = _limits.left(until)
    found = poll.poll(None if left is None else int(left * 1000 + 0.999))
    return int(found[0][1]) if found else 0


def call_back(callback: Callable[..., Any], *arguments: Any) -> Any:
    """Calls a function of the program."""
    return callback(*arguments)


class Home(_process.Home):
    """What made an object: this process."""

    __slots__ = ()


def _drop(lock: Any) -> None:
    """Gives back what this thread has of a lock."""
    while lock._is_owned():
        lock.release()


class Lock:
    """A lock that is waited for within a call's limit. No thread takes it twice: one that has it was interrupted."""

    def __init__(self) -> None:
        self._lock = threading.RLock()

    def acquire(self, until: Optional[float]) -> bool:
        """Takes it, at most until then. Returns whether it was taken."""
        _drop(self._lock)
        left = _limits.left(until)
        return self._lock.acquire(timeout=-1 if left is None else left)

    def release(self) -> None:
        """Lets another thread take it."""
        _drop(self._lock)


class Link:
    """A connection to a broker. Several threads may use it."""

    def __init__(self, connected: socket.socket, core: Connection, deliver: Callable[[Notification], None], news: Callable[[], None]) -> None:
        self.core = core
        self._socket = connected
        self._fd = connected.fileno()
        self._deliver = deliver
        self._news = news
        self._home = _process.Home()
        self._writing = Lock()
        # `with` of the lock itself cannot be interrupted half way, as that of a condition can.
        self._mutex = threading.RLock()
        self._changed = threading.Condition(self._mutex)
        self._reader: Optional[int] = None
        """The thread that reads."""
        self._taking = False
        """Whether it has bytes that are not handed out."""
        self._waiters = 0
        self._poll = select.poll()
        self._poll.register(self._fd, select.POLLIN)
        _process.close_in_child(self)

    @classmethod
    def connect(
        cls,
        path: str,
        core: Connection,
        until: Optional[float],
        deliver: Callable[[Notification], None],
        news: Callable[[], None],
    ) -> "Link":
        """Connects and says hello, and waits at most until then. `Absent` if there is no broker, or it refuses."""
        connected = _socket.make()
        try:
            cls._reach(connected, path, until)
            _socket.refuse_strangers(connected, path)
            link = cls(connected, core, deliver, news)
            link._greet(until)
            return link
        except (OSError, EOFError) as error:
            connected.close()
            raise _socket.Absent(error) from error
        except BaseException:
            connected.close()
            raise

    @staticmethod
    def _reach(connected: socket.socket, path: str, until: Optional[float]) -> None:
        """Connects. While the backlog is full, as when the broker is stopped or very busy, it tries again."""
        while True:
            try:
                return connected.connect(path)
            except BlockingIOError:
                left = _limits.left(until)
                if left == 0:
                    raise TimeoutError("its backlog is full: the broker accepts no connections") from None
                time.sleep(0.005 if left is None else min(0.005, left))

    def _greet(self, until: Optional[float]) -> None:
        failed: Optional[OSError] = None
        try:
            self._socket.send(self.core.hello(), socket.MSG_NOSIGNAL)
        except OSError as error:
            # A broker that refuses a connection when it accepts it says why at once, and reads no hello.
            failed = error
        while self.core.welcome is None:
            if self.core.dead:
                refusal = self.core.dead.refusal
                if refusal:
                    raise _socket.Absent(ConnectionError(refusal.message), codes.name_of(refusal.code))
                why = self.core.dead.why
                raise failed or (ConnectionError(why) if self.core.dead.nonsense else EOFError(why))
            if not _wait(self._poll, until):
                raise TimeoutError("no welcome came in time")
            self._take(self._read())

    @property
    def dead(self) -> Optional[str]:
        """Why the connection has ended, if it has."""
        return self.core.dead.why if self.core.dead else None

    def fileno(self) -> int:
        """The socket's descriptor."""
        return self._fd

    def call(self, request: Request, hook: Optional[Hook] = None, until: Optional[float] = None) -> Pending:
        """Sends a request and waits for its `outcome`, at most until then. Raises `Disconnected` or `Timeout`."""
        try:
            pending, frame = self.core.prepare(request, hook)
        except Malformed as error:
            raise _errors.argument(error) from None
        self._send(pending, frame, until)
        while pending.outcome is None:
            if self.core.dead:
                raise _errors.disconnected(self.core.dead.why, asked=True)
            if until is not None and time.monotonic() >= until:
                # The answer may still come, and is then passed to the hook.
                raise _errors.gave_up(asked=True)
            if self._read_or_wait(until, pending):
                self._news()
        return pending

    def tell(self, request: Request, hook: Optional[Hook] = None) -> None:
        """Sends a request without waiting for its answer, which only the hook sees. Nothing happens if it cannot be sent."""
        try:
            pending, frame = self.core.prepare(request, hook)
            self._send(pending, frame, time.monotonic() + _socket.LAST_WORDS)
        except (_errors.Error, Malformed):
            pass

    def _send(self, pending: Pending, frame: bytes, until: Optional[float]) -> None:
        told = False
        try:
            while True:
                try:
                    if not self._writing.acquire(until):
                        raise _errors.gave_up()
                    with self._mutex:
                        if self.core.dead:
                            raise _errors.disconnected(self.core.dead.why, asked=False)
                        booked = self.core.has_credit(pending)
                        if booked:
                            self.core.book(pending)
                    if booked:
                        told = self._write(pending, frame, until)
                        return
                finally:
                    self._writing.release()
                _limits.check(until)
                if self._read_or_wait(until):
                    self._news()
        finally:
            if self.core.dead:
                self._close()
            # A callback may make calls, so it is called when nothing is half written.
            if told:
                self._news()

    def _write(self, pending: Pending, frame: bytes, until: Optional[float]) -> bool:
        """Writes a frame. Returns whether notifications came meanwhile."""
        sent, told = 0, False
        try:
            while sent < len(frame):
                try:
                    sent += self._socket.send(frame[sent:] if sent else frame, socket.MSG_NOSIGNAL)
                except BlockingIOError:
                    _limits.check(until)
                    # The broker may stop reading until its answers are read.
                    if _poll(self._fd, select.POLLIN | select.POLLOUT, until) & select.POLLIN:
                        told |= self._read_or_wait(time.monotonic() + _socket.SHORTEST)
            return told
        except _errors.Timeout:
            if sent:
                # The broker would take the next frame for the rest of this one.
                self.die("a request was given up half written")
            else:
                with self._mutex:
                    self.core.unbook(pending)
            raise
        except OSError as error:
            # Answers, the goodbye and other messages that the broker sent before it closed may be unread.
            self.wait_for_end(time.monotonic() + _socket.LAST_WORDS)
            self.die(str(error))
            # A frame that is not whole is dropped by the broker.
            raise _errors.disconnected(self.dead or str(error), asked=False) from error
        except BaseException:
            # How much was sent is not known where a signal's handler raised.
            self.die("a call was interrupted while it wrote")
            raise

    def wait(self, until: Optional[float]) -> None:
        """Waits until something came or the connection ended, at most until then."""
        if self._read_or_wait(until):
            self._news()

    def _read_or_wait(self, until: Optional[float], pending: Optional[Pending] = None) -> bool:
        """Reads once if no other thread reads; otherwise waits until that thread has read something. At most until then.

        Returns whether notifications came.
        """
        me = threading.get_ident()
        told = False
        try:
            with self._mutex:
                if self.core.dead or (pending and pending.outcome is not None):
                    return False
                if self._reader == me and self._taking:
                    self.core.end("a call was interrupted while it read")
                    return False
                if self._reader not in (None, me):
                    self._waiters += 1
                    try:
                        self._changed.wait(_limits.left(until))
                    finally:
                        self._waiters -= 1
                    return False
                self._reader, self._taking = me, False
            if _wait(self._poll, until):
                self._taking = True
                told = self._take(self._read())
                self._taking = False
        except OSError as error:
            if isinstance(error, _errors.Error):
                raise
            self.core.end(str(error))
        finally:
            with self._mutex:
                if self._reader == me:
                    if self._taking:
                        # A signal's handler raised while bytes were being handed out, which may be lost.
                        self.core.end("a call was interrupted while it read")
                        self._taking = False
                    self._reader = None
                    if self._waiters:
                        self._changed.notify_all()
            if self.core.dead:
                self._close()
        return told

    def _read(self) -> Optional[bytes]:
        """What has come; empty at the end, `None` if nothing has."""
        try:
            return self._socket.recv(_READ)
        except BlockingIOError:
            return None

    def _take(self, data: Optional[bytes]) -> bool:
        """Hands out what came, in its order. Returns whether there were notifications."""
        if data is None:
            return False
        told = False
        with self._mutex:
            received = self.core.receive(data) if data else self.core.end()
        for one in received:
            if isinstance(one, Answered):
                if one.pending.hook:
                    one.pending.hook(one.outcome)
                one.pending.outcome = one.outcome
            elif isinstance(one, Notified):
                self._deliver(one.notification)
                told = True
        return told

    def wait_for_end(self, until: float) -> bool:
        """Reads until the connection ends, at most until then. Returns whether it has ended."""
        while not self.core.dead and time.monotonic() < until:
            self._read_or_wait(until)
        return self.core.dead is not None

    def die(self, why: str) -> None:
        """Ends the connection from this side, for this reason."""
        self.core.end(why)
        if self._home.is_here():
            try:
                # This wakes a thread that reads, and tells the broker although a forked child may have a copy of the socket.
                self._socket.shutdown(socket.SHUT_RDWR)
            except OSError:
                pass
        with self._mutex:
            self._changed.notify_all()
            reading = self._reader not in (None, threading.get_ident())
        if not reading:
            self._close()

    def _close(self) -> None:
        """Closes the socket, unless a thread writes: its number could become that of another file meanwhile."""
        if self._writing.acquire(time.monotonic()):
            self._socket.close()
            self._writing.release()

    def abandon(self) -> None:
        """In a forked child: closes this process' copy of the socket, and leaves the connection to the parent."""
        self._socket.close()


