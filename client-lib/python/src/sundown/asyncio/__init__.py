"""The calls of `sundown` for asyncio: the same names, with `await`, `async with` and `async for`.

Example:
    import sundown.asyncio

    async def send(message):
        async with await sundown.asyncio.connect("nightly-report") as mapi:
            async with await mapi.logon() as session:
                await session.submit(message)

A `Mapi` belongs to the event loop in which it was made. A call that is cancelled closes nothing; its request may be carried out all the same, and a repeat with
the same `key` is harmless. Callbacks may be coroutine functions.
"""

from __future__ import annotations

from .. import (
    Disconnected,
    EndOfSession,
    Error,
    ForkedError,
    InvalidParameter,
    InvalidType,
    Refused,
    Retry,
    Temporary,
    Timeout,
    email,
    events,
    new_key,
    within,
)
from ._mapi import Mapi, connect
from ._objects import (
    AddressBook,
    Contents,
    Draft,
    Folder,
    OpenMessage,
    Reference,
    Search,
    StatusTable,
    Store,
    Token,
)
from ._outbox import Outbox
from ._session import LogoffQuestion, OnEnd, Session, Sink
from ._shutdown import ClientShutdown

__all__ = [
    "AddressBook",
    "ClientShutdown",
    "Contents",
    "Disconnected",
    "Draft",
    "EndOfSession",
    "Error",
    "Folder",
    "ForkedError",
    "InvalidParameter",
    "InvalidType",
    "LogoffQuestion",
    "Mapi",
    "OnEnd",
    "OpenMessage",
    "Outbox",
    "Reference",
    "Refused",
    "Retry",
    "Search",
    "Session",
    "Sink",
    "StatusTable",
    "Store",
    "Temporary",
    "Timeout",
    "Token",
    "connect",
    "email",
    "events",
    "new_key",
    "within",
]
