"""The events that programs get: those of the broker, and news of the library itself.

`isinstance(event, sundown.Arrived)` tells them apart; each is a frozen record with the fields that its class names.
"""

from __future__ import annotations

from typing import Optional

from .protocol import Record
from .protocol.events import (
    Arrived,
    BrokerStopping,
    Created,
    CriticalError,
    Deleted,
    Event,
    Evicted,
    FolderChanged,
    Lagged,
    LogoffProgress,
    MemberLeft,
    Modified,
    Moved,
    TableModified,
)
from .protocol.types import Previous


class Reconnected(Record):
    """The broker was away and is back: sessions, objects and registrations are as before, and what was acknowledged as durable is there.

    What happened meanwhile was not told: read again what the program keeps. `lost_drafts` says how many unsaved drafts were open and are lost,
    `previous` how the broker before ended, if this one knows.
    """

    lost_drafts: int
    previous: Optional[Previous]


class CallbackFailed(Record):
    """A callback raised. The other callbacks were called, and this one will be called again.

    `connection` is the registration's number (0: `on_event`), `error` what it raised.
    """

    connection: int
    error: Exception


__all__ = [
    "Arrived",
    "BrokerStopping",
    "CallbackFailed",
    "Created",
    "CriticalError",
    "Deleted",
    "Event",
    "Evicted",
    "FolderChanged",
    "Lagged",
    "LogoffProgress",
    "MemberLeft",
    "Modified",
    "Moved",
    "Reconnected",
    "TableModified",
]
