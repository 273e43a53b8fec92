"""The wire of Sundown without I/O: bytes in, messages out, and the other way. PROTOCOL.md describes it.

`Connection` is one connection to a broker: it makes bytes to send and takes bytes that came. `encode` and `decode` are for single messages.
The records are in `types`, `requests`, `replies`, `events` and `hello`.

Example:
    >>> from sundown import protocol
    >>> frame = protocol.encode(protocol.requests.Asked, protocol.requests.Asked(7, protocol.requests.Broker()))
    >>> frame.hex()
    '0c00000007000000000000001d000000'
    >>> protocol.decode(protocol.requests.Asked, bytes(frame[4:]))
    Asked(id=7, request=Broker())
"""

from __future__ import annotations

from . import codes, events, hello, replies, requests, types
from ._codec import MAX_BLOB, MAX_PAYLOAD, Malformed, TooLong, WrongType, decode, encode
from ._connection import Answered, Connection, Dead, Notified, Pending, Received, Welcomed
from ._record import Choice, Record

__all__ = [
    "MAX_BLOB",
    "MAX_PAYLOAD",
    "Answered",
    "Choice",
    "Connection",
    "Dead",
    "Malformed",
    "Notified",
    "Pending",
    "Received",
    "Record",
    "TooLong",
    "Welcomed",
    "WrongType",
    "codes",
    "decode",
    "encode",
    "events",
    "hello",
    "replies",
    "requests",
    "types",
]
