"""The first message of each side, whose bytes never change."""

from __future__ import annotations

from ._record import Choice, Record
from .types import Bytes4, Bytes16, u16, u32, u64

MAGIC = b"SNDN"
OLDEST = 1
"""The oldest version that this library speaks."""
NEWEST = 4
"""The newest version that this library speaks."""


class Hello(Record):
    """What a client says first."""

    magic: Bytes4
    oldest: u16
    newest: u16
    image: Bytes16
    library: Bytes16
    program: str


class HelloAnswer(Choice):
    """What the broker says to it."""


class Welcome(HelloAnswer, tag=0):
    """The connection is open."""

    version: u16
    pid: u32
    requests: u32
    bytes: u64


class Refused(HelloAnswer, tag=1):
    """The connection ends."""

    code: u32
    message: str
