"""What this process remembers for its whole life, whichever part of the library asks: PROTOCOL.md, "The program image" and "Tickets"."""

from __future__ import annotations

import os
import time
from typing import Any, Callable, Dict, List, Optional
from weakref import WeakSet

from ._errors import ForkedError
from ._lazy import imports
from .protocol.types import Fault

Verdict = Optional[Fault]
"""The answer to a query of fast shutdown: `None` is yes, a fault is no."""


class Memory:
    """What the process remembers of the broker at a socket."""

    def __init__(self) -> None:
        self.said: "List[Verdict]" = []
        """Its verdict, once there is one."""
        self.done = False
        """Whether a fast shutdown was done with it."""
        self.ticket: Optional[bytes] = None
        """The newest ticket."""


class Process:
    """What the process remembers of its shutdown."""

    def __init__(self) -> None:
        self.pid = os.getpid()
        self.verdict: "List[Verdict]" = []
        """The first answer to a query, for the life of the process."""
        self.done = False
        """Whether a fast shutdown was done with every broker."""
        self.brokers: Dict[str, Memory] = {}

    def memory(self, socket: str) -> Memory:
        """What is remembered of the broker at this socket."""
        return self.brokers.setdefault(socket, Memory())

    def over(self) -> List[str]:
        """The sockets of brokers with which a fast shutdown is done."""
        return [socket for socket, memory in self.brokers.items() if memory.done]


_process = Process()
_library = b""
_image = b""
_to_close: "WeakSet[Any]" = WeakSet()


def this() -> Process:
    """The memory of this process; a forked child starts afresh."""
    global _process
    if _process.pid != os.getpid():
        _process = Process()
    return _process


def library_key() -> bytes:
    """The sixteen random bytes of this copy of the library."""
    global _library
    if not _library:
        _library = os.urandom(16)
    return _library


def image() -> bytes:
    """The name of the program image."""
    global _image
    if not _image:
        with imports:
            from . import _image as computed

        _image = computed.image()
    return _image


def close_in_child(link: Any) -> None:
    """Remembers a connection whose copy a forked child closes."""
    _to_close.add(link)


def _forked() -> None:
    """In a child: closes its copies of the sockets. Nothing is shut down, because the parent goes on with them."""
    for link in list(_to_close):
        link.abandon()
    _to_close.clear()


os.register_at_fork(after_in_child=_forked)


class Home:
    """The process that made an object."""

    __slots__ = ("pid",)

    def __init__(self) -> None:
        self.pid = os.getpid()

    def check(self, what: str) -> None:
        """Raises `ForkedError` in a child. A program that forks in C runs no function of Python then, so each call looks."""
        if os.getpid() != self.pid:
            _forked()
            raise ForkedError(what)

    def is_here(self) -> bool:
        """Whether this is the process that made it."""
        return os.getpid() == self.pid




def new_key(_random: Callable[[int], bytes] = os.urandom, _now: Callable[[], float] = time.time) -> int:
    """Makes a key of 128 bits, by which a submission can be repeated: `session.submit(message, key=key)`.

    The highest 48 bits are the milliseconds since 1970, so that keys of one time are neighbours in a store's index. The others are random.

    Example:
        >>> new_key().bit_length() <= 128
        True
    """
    return (int(_now() * 1000) & (1 << 48) - 1) << 80 | int.from_bytes(_random(10), "little")
