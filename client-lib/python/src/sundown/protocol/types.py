"""Types that several messages share: PROTOCOL.md, "Shared types".

Times are milliseconds since 1970. Where the wire has the name `from`, which Python cannot use, the field is `sender` or `source`.
"""

from __future__ import annotations

from enum import Enum, IntFlag
from typing import Iterable, Iterator, Optional, Tuple, Union

from . import _codec
from ._record import Choice, Record

u8 = int
u16 = int
u32 = int
u64 = int
u128 = int
Bytes4 = bytes
Bytes16 = bytes

Folder = str
"""The word of a folder: `inbox`, `outbox`, `sent`, `drafts`, `deleted`, or `f17` for one that is not in every store."""

FOLDERS = ("inbox", "outbox", "sent", "drafts", "deleted")
"""The folders of every store, in the order of their numbers."""
FIRST_OTHER = 16
"""The lowest number of a folder that is not in every store."""


def folder_word(number: int) -> Folder:
    """The word of the folder with this number."""
    return FOLDERS[number] if number < len(FOLDERS) else f"f{number}"


def folder_number(word: Folder) -> int:
    """The number of the folder with this word; `Malformed` if there is none."""
    if not isinstance(word, str):
        raise _codec.WrongType(f"{word!r} is no folder: a folder is a word, as 'inbox' or 'f17'")
    if word in FOLDERS:
        return FOLDERS.index(word)
    digits = word[1:]
    if word[:1] == "f" and digits.isascii() and digits.isdigit() and FIRST_OTHER <= int(digits) < 1 << 32:
        return int(digits)
    raise _codec.Malformed(
        f'"{word}" is no folder; inbox, outbox, sent, drafts, deleted are, and those like f17 that `folders` lists'
    )


def _read_folder(data: bytes, at: int) -> Tuple[Folder, int]:
    number, at = _read_u32(data, at)
    return folder_word(number), at


def _write_folder(out: bytearray, value: Folder) -> None:
    _write_u32(out, folder_number(value))


_read_u32, _write_u32 = _codec._basic("u32")
_codec._BASIC["Folder"] = (_read_folder, _write_folder)


class Words(str, Enum):
    """An enum whose members are the words of the command's JSON output. A member is equal to its word."""

    def __str__(self) -> str:
        return str(self.value)


class Role(Words):
    """What a folder is for."""

    INBOX = "inbox"
    OUTBOX = "outbox"
    SENT = "sent"
    DRAFTS = "drafts"
    DELETED = "deleted"
    JUNK = "junk"
    ARCHIVE = "archive"
    ALL = "all"


class Column(Words):
    """A column by which a contents table is sorted. Only the time of arrival has an index."""

    RECEIVED = "received"
    DATE = "date"
    FROM = "from"
    SUBJECT = "subject"
    SIZE = "size"


class Direction(Words):
    """A direction of sorting (`TABLE_SORT_ASCEND`, `TABLE_SORT_DESCEND`)."""

    ASCENDING = "ascending"
    DESCENDING = "descending"


class FolderChange(Words):
    """What happened to a folder."""

    MADE = "made"
    RENAMED = "renamed"
    REMOVED = "removed"


class Durability(Words):
    """When the broker answers a submission."""

    DURABLE = "durable"
    DEFERRED = "deferred"


class QueueChange(Words):
    """A change of an entry of the outgoing queue."""

    RETRY = "retry"
    HOLD = "hold"
    RELEASE = "release"
    ABORT = "abort"


class Returned(Words):
    """How much of a failed message its report returns (RFC 3461)."""

    HEADERS = "headers"
    FULL = "full"


class Deletion(Words):
    """When a deleted profile is removed: now, or when the sessions that use it have ended."""

    DONE = "done"
    WHEN_UNUSED = "when-unused"


class End(Words):
    """How a broker ended."""

    STOPPED = "stopped"
    FAILED = "failed"
    KILLED = "killed"
    MACHINE_DOWN = "machine-down"


class Stopping(Words):
    """How a broker is stopped."""

    ORDERLY = "orderly"
    FAST = "fast"


class Resource(Words):
    """`PR_RESOURCE_TYPE`: what a row of the status table is about."""

    SUBSYSTEM = "subsystem"
    SPOOLER = "spooler"
    ADDRESS_BOOK = "address-books"
    TRANSPORT_PROVIDER = "transport"
    ADDRESS_BOOK_PROVIDER = "address-book"
    STORE_PROVIDER = "store"
    MAILBOX = "mailbox"


class SubmissionState(Words):
    """The state of a submission, or of one of its recipients."""

    ACCEPTED = "accepted"
    HELD = "held"
    QUEUED = "queued"
    TRANSMITTING = "transmitting"
    DEFERRED = "deferred"
    UNKNOWN = "unknown"
    SENT = "sent"
    BOUNCED = "bounced"
    ABORTED = "aborted"

    @property
    def is_final(self) -> bool:
        """Whether the state can no longer change."""
        return self in (SubmissionState.SENT, SubmissionState.BOUNCED, SubmissionState.ABORTED)


class EndReason(Words):
    """Why a session ends for a member. The library makes `BROKER_LOST`; no broker sends it."""

    SHARED_LOGOFF = "shared-logoff"
    BROKER_STOPPED = "broker-stopped"
    BROKER_LOST = "broker-lost"
    REFERENCE_LOST = "reference-lost"
    STORE_LOST = "store-lost"


class LeaveReason(Words):
    """Why a member left."""

    LOGGED_OFF = "logged-off"
    FAST_SHUTDOWN = "fast-shutdown"
    DISCONNECTED = "disconnected"
    EVICTED = "evicted"
    BROKER_STOPPED = "broker-stopped"


class Events(IntFlag):
    """A set of events, with MAPI's numbers (`fnev…`)."""

    CRITICAL_ERROR = 0x1
    NEW_MAIL = 0x2
    OBJECT_CREATED = 0x4
    OBJECT_DELETED = 0x8
    OBJECT_MODIFIED = 0x10
    OBJECT_MOVED = 0x20
    TABLE_MODIFIED = 0x100
    EXTENDED = 0x80000000

    @classmethod
    def of(cls, events: Union[str, int, Iterable[str]]) -> int:
        """The set that words name: `"new-mail,critical-error"`, a list of words, or the number itself."""
        if isinstance(events, int):
            return int(events)
        if events is None:
            raise _codec.WrongType("None where words for events are needed, as 'new-mail,critical-error'")
        words = events.split(",") if isinstance(events, str) else events
        known = {member.name.lower().replace("_", "-"): member.value for member in cls if member.name}
        found = 0
        for word in words:
            if word not in known:
                raise _codec.Malformed(f'there is no event "{word}"; the events are {", ".join(known)}')
            found |= known[word]
        return found


class ObjectId(Record):
    """The handle of an open object."""

    place: u32
    generation: u32


class EntryId(Record):
    """An entry identifier (`ENTRYID`): a store, and a record in it. It outlives sessions and brokers. Its text has 40 digits."""

    store: u32
    record: u128

    def __str__(self) -> str:
        return f"{self.store:08x}{self.record:032x}"

    def __repr__(self) -> str:
        return f"EntryId({self})"

    @classmethod
    def of(cls, entry: Union[EntryId, str]) -> EntryId:
        """The entry that this text names: `EntryId.of("000000a1…")`."""
        if isinstance(entry, EntryId):
            return entry
        if not isinstance(entry, str):
            raise _codec.WrongType(f"{entry!r} is no entry identifier")
        if len(entry) != 40 or not all(c in "0123456789abcdefABCDEF" for c in entry):
            raise _codec.Malformed("an entry identifier is 40 hexadecimal digits")
        return cls(int(entry[:8], 16), int(entry[8:], 16))


class Place(Record):
    """Where a message is."""

    entry: EntryId
    folder: Folder


class Peer(Record):
    """A process, as people know it."""

    pid: u32
    program: str


class Report(Record):
    """Which reports on the delivery the sender wants (RFC 3461): 1 success, 2 failure, 4 delay; 0 none."""

    notify: u8 = 6
    returned: Returned = Returned.HEADERS


MARKS = ("read", "answered", "flagged", "draft", "deleted", "forwarded")
"""The names of the marks of a message, in the order of their bits."""


class Flags(Record):
    """The flags of a message: marks, which every store knows, and keywords. `"read" in flags` looks for one of either."""

    marks: u16 = 0
    keywords: Tuple[str, ...] = ()

    @property
    def names(self) -> Tuple[str, ...]:
        """The names of all flags that are set: marks first."""
        return tuple(name for bit, name in enumerate(MARKS) if self.marks >> bit & 1) + self.keywords

    def __iter__(self) -> Iterator[str]:
        return iter(self.names)

    def __contains__(self, name: object) -> bool:
        return name in self.names

    @classmethod
    def of(cls, words: Union[Flags, str, Iterable[str]]) -> Flags:
        """The flags with these names: `"read,$work"`, or a list of words."""
        if isinstance(words, Flags):
            return words
        if words is None:
            raise _codec.WrongType("None where names of flags are needed, as 'read' or ['read', '$work']")
        marks, keywords = 0, set()
        for word in words.split(",") if isinstance(words, str) else words:
            if word in MARKS:
                marks |= 1 << MARKS.index(word)
            elif word:
                keywords.add(word)
        wrong = next((word for word in sorted(keywords) if not _is_keyword(word)), None)
        if wrong is None and len(keywords) > 32:
            wrong = f"{len(keywords)} keywords"
        if wrong is not None:
            raise _codec.Malformed(
                f'"{wrong}" is no flag; the flags are {", ".join(MARKS)}, and keywords: at most 32 words of at most 64 ASCII '
                'characters without spaces and ( ) { % * " \\ ] ,'
            )
        return cls(marks, tuple(sorted(keywords)))


def _is_keyword(word: str) -> bool:
    fits = all("!" <= c <= "~" and c not in '(){%*"\\],' for c in word)
    return fits and 1 <= len(word) <= 64 and word.lower() not in MARKS


class FolderRow(Record):
    """A row of a store's hierarchy table: a folder."""

    folder: Folder
    parent: Optional[Folder]
    name: str
    role: Optional[Role]
    total: u64
    unread: u64


class ContentsRow(Record):
    """A row of a contents table: a message. `date` is that of its field `Date`, `received` the time of its arrival."""

    entry: EntryId
    folder: Folder
    subject: str
    sender: str
    to: str
    date: Optional[u64]
    size: u64
    received: u64
    flags: Flags
    recovered: bool


class MessageRow(Record):
    """A row of a folder, without flags."""

    entry: EntryId
    subject: str
    sender: str
    to: str
    size: u64
    received: u64
    recovered: bool


class Sort(Record):
    """The order of a contents table."""

    by: Column
    direction: Direction


class Filter(Record):
    """Which rows of a contents table are wanted: marks that a message must have, and marks that it must not have."""

    present: u16
    absent: u16


class Key(Choice):
    """The key of a row."""


class Number(Key, tag=0):
    """A time or a size."""

    value: u64


class Text(Key, tag=1):
    """A sender or a subject."""

    value: str


class Bookmark(Record):
    """The place behind a row of a contents table. A client returns it unchanged."""

    key: Key
    order: u64


class AddressRow(Record):
    """An entry of the address book: one address is a person, several are a list."""

    entry: EntryId
    name: str
    addresses: Tuple[str, ...]


class StatusRow(Record):
    """A row of the status table. The bits of `code` are in PROTOCOL.md."""

    name: str
    resource: Resource
    code: u32
    text: str
    methods: u32


class Granted(Choice):
    """What was granted."""


class GrantedMessage(Granted, tag=0, name="Message"):
    """A message."""

    entry: EntryId


class GrantedFolder(Granted, tag=1, name="Folder"):
    """A folder."""

    folder: Folder


class ReferenceStatus(Record):
    """A granted object that another process holds."""

    granter: u64
    holder: Peer
    granted: Granted


class MemberStatus(Record):
    """A member of a session."""

    id: u64
    peer: Peer
    uid: u32
    since: u64
    state: str
    no_mail: bool
    objects: u64


class ProviderStatus(Record):
    """A provider of a session."""

    name: str
    kind: Resource
    status: str
    fast_shutdown: str


class SessionStatus(Record):
    """A session."""

    id: u64
    profile: str
    shared: bool
    state: str
    members: Tuple[MemberStatus, ...]
    providers: Tuple[ProviderStatus, ...]
    references: Tuple[ReferenceStatus, ...]


class QueueCounts(Record):
    """How many messages the queue has, by their states."""

    accepted: u64
    held: u64
    queued: u64
    transmitting: u64
    deferred: u64
    unknown: u64
    sent: u64
    bounced: u64
    aborted: u64


class Status(Record):
    """What a broker is doing."""

    version: str
    pid: u32
    socket: str
    started: u64
    sessions: Tuple[SessionStatus, ...]
    queue: QueueCounts
    waiting_for_mail_member: u64


class Previous(Record):
    """The broker that had the data before."""

    pid: u32
    started: u64
    ended: Optional[u64]
    end: End
    why: str


class LimitStatus(Record):
    """A limit of the broker, and how much of it is used."""

    name: str
    most: u64
    used: Optional[u64]


class BrokerStatus(Record):
    """How the previous broker ended, and how much of the limits is used."""

    previous: Optional[Previous]
    limits: Tuple[LimitStatus, ...]


class Syncing(Record):
    """How far a mailbox is that is mirrored for the first time, in messages."""

    done: u64
    total: u64


class MailboxState(Record):
    """How a mailbox fares."""

    session: u64
    name: str
    connections: u32
    pending: u64
    syncing: Optional[Syncing]
    checked: Optional[u64]
    changed: Optional[u64]


class ProfileInUse(Record):
    """Which version of its profile a session uses."""

    changed: Optional[u64]
    read: u64
    note: Optional[str]


class LastOutcome(Record):
    """The last outcome of a transport."""

    at: u64
    worked: bool
    text: str


class ProviderHealth(Record):
    """How a provider fares."""

    name: str
    kind: Resource
    last: Optional[LastOutcome]
    worked: Optional[u64]
    next_try: Optional[u64]
    in_flight: u32


class SessionHealth(Record):
    """How the providers of a session fare."""

    session: u64
    profile: ProfileInUse
    providers: Tuple[ProviderHealth, ...]


class StatusCursor(Record):
    """The place of the next page of a status. A client returns it unchanged."""

    session: u64 = 0
    member: u64 = 0
    reference: u64 = 0


class RecipientRow(Record):
    """A recipient of a message in the queue."""

    address: str
    state: SubmissionState
    reply: Optional[str]


class QueueRow(Record):
    """A message in the outgoing queue."""

    entry: EntryId
    profile: str
    state: SubmissionState
    sender: str
    recipients: Tuple[RecipientRow, ...]
    subject: str
    attempts: u32
    next_attempt: Optional[u64]
    last_error: Optional[str]
    submitted: u64
    size: u64


class Departure(Record):
    """A member that left."""

    member: u64
    reason: LeaveReason


class Reload(Choice):
    """What became of a profile that was read again."""


class Unchanged(Reload, tag=0):
    """The file is the one in use."""


class Changed(Reload, tag=1):
    """The sessions use the new file."""


class Invalid(Reload, tag=2, name="Refused"):
    """The file has a mistake, and the sessions use what they have."""

    why: str


class Later(Reload, tag=3):
    """A directory service is being asked about users of the file."""


class TableRows(Choice):
    """Rows of a table, by the kind of table."""


class Messages(TableRows, tag=0):
    """A folder's."""

    rows: Tuple[MessageRow, ...]


class Addresses(TableRows, tag=1):
    """An address book's."""

    rows: Tuple[AddressRow, ...]


class StatusRows(TableRows, tag=2, name="Status"):
    """The status table's."""

    rows: Tuple[StatusRow, ...]


class FaultDetail(Choice):
    """What the broker says beyond the code."""


class NoDetail(FaultDetail, tag=0, name="None"):
    """Nothing."""


class OwnerDetail(FaultDetail, tag=1, name="Owner"):
    """The process that owns the shared session."""

    owner: Peer


class AddressesDetail(FaultDetail, tag=2, name="Addresses"):
    """Addresses that are wrong, or that no transport takes."""

    addresses: Tuple[str, ...]


class ProvidersDetail(FaultDetail, tag=3, name="Providers"):
    """Providers that refuse a fast shutdown, or did not answer in time."""

    providers: Tuple[str, ...]


class HoldersDetail(FaultDetail, tag=4, name="Holders"):
    """Processes that hold references."""

    holders: Tuple[Peer, ...]


class EntriesDetail(FaultDetail, tag=5, name="Entries"):
    """Entries that were accepted and could not be made durable."""

    entries: Tuple[EntryId, ...]


class Fault(Record):
    """Why a request failed."""

    code: u32
    message: str
    detail: FaultDetail = NoDetail()


class Logon(Record):
    """The arguments of a logon."""

    profile: Optional[str]
    flags: u32


class Content(Choice):
    """The bytes of a message."""


class Inline(Content, tag=0):
    """In the request itself, at most 256 KiB."""

    data: bytes


class Uploaded(Content, tag=1):
    """Uploaded before the request."""

    upload: u32


class AdviseSource(Choice):
    """The source of the events of a registration."""


class OfSession(AdviseSource, tag=0, name="Session"):
    """The session itself."""


class OfObject(AdviseSource, tag=1, name="Object"):
    """An open object."""

    object: ObjectId


class Opening(Choice):
    """What is opened."""


class OpenStore(Opening, tag=0, name="Store"):
    """A store, by its place in the profile."""

    place: u16


class OpenFolder(Opening, tag=1, name="Folder"):
    """A folder of a store."""

    place: u16
    folder: Folder


class OpenMessage(Opening, tag=2, name="Message"):
    """A message."""

    entry: EntryId


class OpenAddressBook(Opening, tag=3, name="AddressBook"):
    """The address book."""


class OpenStatusTable(Opening, tag=4, name="StatusTable"):
    """The status table."""


class ReadSource(Choice):
    """What a message is read from."""


class FromEntry(ReadSource, tag=0, name="Entry"):
    """An entry of a store of the session."""

    entry: EntryId


class FromObject(ReadSource, tag=1, name="Object"):
    """An open message."""

    object: ObjectId


class SettingChange(Choice):
    """What to do with a setting."""


class Keep(SettingChange, tag=0):
    """Only read it."""


class SetTo(SettingChange, tag=1, name="Set"):
    """Set it."""

    value: str


class Remove(SettingChange, tag=2):
    """Remove it."""


class AddressAction(Choice):
    """What to do with an address book."""


class AddAddress(AddressAction, tag=0, name="Add"):
    """Add a person or a list."""

    name: str
    addresses: Tuple[str, ...]


class RemoveAddress(AddressAction, tag=1, name="Remove"):
    """Remove one."""

    name: str


class ResolveAddress(AddressAction, tag=2, name="Resolve"):
    """Find the one with this name (`ResolveName`)."""

    name: str


class QueueAction(Choice):
    """What to do with the outgoing queue."""


class ListQueue(QueueAction, tag=0, name="List"):
    """List it; with `all` final messages, too."""

    all: bool
    after: u64
    limit: u32


class ShowEntry(QueueAction, tag=1, name="Show"):
    """Show an entry."""

    entry: EntryId


class ChangeEntry(QueueAction, tag=2, name="Change"):
    """Change an entry."""

    entry: EntryId
    change: QueueChange


class FlushQueue(QueueAction, tag=3, name="Flush"):
    """Try everything that waits."""


class TableChange(Choice):
    """A change of a table (`TABLE_NOTIFICATION`), with the row's key."""


class RowAdded(TableChange, tag=0, name="Added"):
    """A row came."""

    key: str


class RowDeleted(TableChange, tag=1, name="Deleted"):
    """A row went."""

    key: str


class RowModified(TableChange, tag=2, name="Modified"):
    """A row changed."""

    key: str


class TableReload(TableChange, tag=3, name="Reload"):
    """The table must be read again."""
