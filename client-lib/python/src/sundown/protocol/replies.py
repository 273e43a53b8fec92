"""Replies: PROTOCOL.md, "Answers"."""

from __future__ import annotations

from typing import Optional, Tuple

from ._record import Choice
from .events import Notification
from .types import (
    AddressRow,
    Bookmark,
    ContentsRow,
    Deletion,
    EntryId,
    Fault,
    Folder,
    FolderRow,
    Granted,
    LimitStatus,
    MailboxState,
    ObjectId,
    Peer,
    Previous,
    QueueRow,
    SessionHealth,
    SubmissionState,
    TableRows,
    u32,
    u64,
)
from .types import Flags as FlagsOfMessage
from .types import Reload as ReloadResult
from .types import Status as BrokersStatus
from .types import StatusCursor as Cursor


class Reply(Choice):
    """Base of all replies."""


class Done(Reply, tag=0):
    """Success, and nothing to say."""


class LoggedOn(Reply, tag=1):
    """To a logon."""

    member: u64
    session: u64
    profile: str
    shared: bool
    stores: Tuple[str, ...]
    identity: str


class LoggedOff(Reply, tag=2):
    """The result of a logoff: objects that were open, drafts that were thrown away, messages of this member that are not final, and
    with `wait` the processes that were evicted."""

    invalidated: u64
    discarded: u64
    queued: u64
    stayed: Tuple[Peer, ...]


class Advised(Reply, tag=3):
    """To an advise: the connection number."""

    advise: u32


class Opened(Reply, tag=4):
    """To an open or a draft."""

    object: ObjectId


class Rows(Reply, tag=5):
    """To a list."""

    rows: TableRows
    next: Optional[u64]


class Piece(Reply, tag=6):
    """To a read."""

    size: u64
    data: bytes


class Submitted(Reply, tag=7):
    """The result of a submission: the entry of the message, and its state."""

    entry: EntryId
    state: SubmissionState


class Saved(Reply, tag=8):
    """To a save, a copy or an append."""

    entry: EntryId


class Setting(Reply, tag=9):
    """To a setting."""

    value: Optional[str]


class Added(Reply, tag=10):
    """To an address book's add."""

    entry: EntryId


class Resolved(Reply, tag=11):
    """To a resolve."""

    row: AddressRow


class Redeemed(Reply, tag=12):
    """To a redeem."""

    member: u64
    object: ObjectId
    granted: Granted


class Status(Reply, tag=13):
    """To a status."""

    status: BrokersStatus


class Queue(Reply, tag=14):
    """To a queue's list, show or change."""

    rows: Tuple[QueueRow, ...]
    next: Optional[u64]


class Flushed(Reply, tag=15):
    """To a queue's flush: how many messages waited."""

    found: u64


class StoreLoggedOff(Reply, tag=16):
    """To a store's logoff."""

    flags: u32


class ProfileDeleted(Reply, tag=17):
    """To a profile's deletion."""

    deletion: Deletion


class Broker(Reply, tag=18):
    """To a broker."""

    previous: Optional[Previous]
    limits: Tuple[LimitStatus, ...]


class Ticket(Reply, tag=19):
    """To a ticket."""

    ticket: bytes


class StatusPage(Reply, tag=20):
    """To a status page."""

    status: BrokersStatus
    next: Optional[Cursor]


class Health(Reply, tag=21):
    """How sessions fare; `requests` is how many requests were made since the broker started, if this user may know."""

    sessions: Tuple[SessionHealth, ...]
    next: Optional[u64]
    requests: Optional[u64]


class Reloaded(Reply, tag=22):
    """To a reload: how many sessions use the profile, and what became of its file."""

    sessions: u32
    result: ReloadResult


class MessageId(Reply, tag=23):
    """To a message id."""

    value: Optional[str]


class Folders(Reply, tag=24):
    """To a folders."""

    rows: Tuple[FolderRow, ...]
    next: Optional[Folder]


class Made(Reply, tag=25):
    """To a make folder."""

    folder: Folder


class Contents(Reply, tag=26):
    """To a contents."""

    rows: Tuple[ContentsRow, ...]
    next: Optional[Bookmark]


class Flags(Reply, tag=27):
    """To a set flags."""

    flags: FlagsOfMessage


class Found(Reply, tag=28):
    """To a search."""

    rows: Tuple[ContentsRow, ...]
    next: Optional[u64]
    unindexed: u64


class Synced(Reply, tag=29):
    """What mailboxes have found, in messages, and how many changes they do not have yet."""

    new: u64
    changed: u64
    removed: u64
    pending: u64


class Mailboxes(Reply, tag=30):
    """To a mailboxes."""

    mailboxes: Tuple[MailboxState, ...]
    next: Optional[u64]


class Result(Choice):
    """The answer to a request."""


class Succeeded(Result, tag=0):
    """A reply."""

    reply: Reply


class Failed(Result, tag=1):
    """A fault."""

    fault: Fault


class FromBroker(Choice):
    """What a broker sends after its hello."""


class Answer(FromBroker, tag=0):
    """The answer to one request."""

    id: u64
    result: Result


class Notify(FromBroker, tag=1):
    """Something happened."""

    notification: Notification


class Goodbye(FromBroker, tag=2):
    """The connection ends for this reason."""

    fault: Fault
