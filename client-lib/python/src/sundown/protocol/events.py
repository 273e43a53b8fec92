"""What happened: PROTOCOL.md, "Notifications"."""

from __future__ import annotations

from typing import Optional, Tuple

from ._record import Choice, Record
from .types import (
    Departure,
    EndReason,
    EntryId,
    Folder,
    FolderChange,
    LeaveReason,
    ObjectId,
    Peer,
    Place,
    TableChange,
    u32,
    u64,
    u128,
)


class Event(Choice):
    """Base of all events."""


class CriticalError(Event, tag=0):
    """`fnevCriticalError`: the session is ending; log off. `by` is the process that ended it."""

    code: u32
    reason: EndReason
    by: Optional[Peer]
    grace_ms: Optional[u64]

    @property
    def grace(self) -> Optional[float]:
        """For how many seconds the member may stay; `None`: without a limit."""
        return None if self.grace_ms is None else self.grace_ms / 1000


class NewMail(Event, tag=1):
    """`fnevNewMail` of a broker before version 4; the library tells programs `Arrived`."""

    place: Place


class Created(Event, tag=2):
    """`fnevObjectCreated`: a message came into a folder."""

    place: Place


class Modified(Event, tag=3):
    """`fnevObjectModified`: a message has other flags."""

    place: Place


class Moved(Event, tag=4):
    """`fnevObjectMoved`: a message is in another folder; `source` is where it was."""

    place: Place
    source: Folder


class Deleted(Event, tag=5):
    """`fnevObjectDeleted`: a message is gone for good."""

    place: Place


class TableModified(Event, tag=6, name="Table"):
    """`fnevTableModified`: the rows of an open table changed."""

    object: ObjectId
    change: TableChange


class MemberLeft(Event, tag=7):
    """`fnevExtended`, 1: a member of the session left."""

    member: u64
    reason: LeaveReason


class Evicted(Event, tag=8):
    """`fnevExtended`, 2: the grace is over, and this member was put out."""


class BrokerStopping(Event, tag=9):
    """`fnevExtended`, 3: the broker stops; it serves members that leave for so many milliseconds."""

    within_ms: u64


class LogoffProgress(Event, tag=10):
    """`fnevExtended`, 4: how many submissions a logoff waits for, and how many are final since it began."""

    waiting: u64
    finished: u64


class Durable(Event, tag=11):
    """`fnevExtended`, 5: these deferred submissions are durable. The library keeps it to itself."""

    entries: Tuple[EntryId, ...]


class Lagged(Event, tag=12):
    """So many events were dropped, because the program did not read them: look at everything again."""

    missed: u64


class NewTicket(Event, tag=13, name="Ticket"):
    """The newest ticket of the process. The library keeps it to itself."""

    ticket: bytes


class SessionNamed(Event, tag=14, name="Session"):
    """The name by which the member can return to its session. The library keeps it to itself."""

    session_tag: u128


class MembersLeft(Event, tag=15):
    """As many `MemberLeft`, which is what programs are told."""

    departures: Tuple[Departure, ...]


class Arrived(Event, tag=16):
    """`fnevNewMail`: new mail is in the Inbox."""

    place: Place
    sender: str
    subject: str


class FolderChanged(Event, tag=17, name="Folder"):
    """A folder was made, renamed or removed (`fnevObjectCreated`, `fnevObjectModified`, `fnevObjectDeleted`)."""

    store: u32
    folder: Folder
    change: FolderChange


class Notification(Record):
    """An event for a member, and the registrations that it is for."""

    member: u64
    advises: Tuple[u32, ...]
    event: Event
