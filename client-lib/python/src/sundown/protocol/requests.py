"""Requests: PROTOCOL.md, "Requests". Each class says which reply it gets, whether it may be repeated, and since which version it exists."""

from __future__ import annotations

from typing import ClassVar, Optional, Tuple, Type

from . import replies
from ._record import Choice, Record
from .types import (
    FOLDERS,
    AddressAction,
    AdviseSource,
    Bookmark,
    ChangeEntry,
    Content,
    Durability,
    EntryId,
    Filter,
    Folder,
    ObjectId,
    OpenFolder,
    Opening,
    QueueAction,
    QueueChange,
    ReadSource,
    Report,
    ResolveAddress,
    Resource,
    SettingChange,
    Sort,
    StatusCursor,
    Stopping,
    u16,
    u32,
    u64,
    u128,
)
from .types import Flags as FlagsOfMessage
from .types import Logon as Logons

HARMLESS = "harmless"
"""Repeat it: twice is as once, or what the first one did ended with its connection."""
KEYED = "by its key"
"""Repeat it with the same key."""
SETTLED = "settled"
"""Repeat it: a refusal and the state then say whether the first one was carried out."""
NEVER = "never"
"""Do not repeat it."""


class Request(Choice):
    """Base of all requests."""

    reply: ClassVar[Tuple[Type[replies.Reply], ...]] = (replies.Done,)
    repeat_word: ClassVar[str] = HARMLESS
    since: ClassVar[int] = 1
    free: ClassVar[bool] = False

    def __init_subclass__(
        cls,
        tag: int = -1,
        name: str = "",
        reply: Tuple[Type[replies.Reply], ...] = (replies.Done,),
        repeat: str = HARMLESS,
        since: int = 1,
        free: bool = False,
    ) -> None:
        super().__init_subclass__(tag=tag, name=name)
        cls.reply, cls.repeat_word, cls.since, cls.free = reply, repeat, since, free

    @property
    def repeat(self) -> str:
        """Whether this request may be repeated if its connection ends before its answer: one of the four words of PROTOCOL.md."""
        return self.repeat_word

    @property
    def takes(self) -> int:
        """The version that this request takes, with what is in it: a folder that is not in every store takes version 4."""
        return self.since


class Logon(Request, tag=0, reply=(replies.LoggedOn,)):
    """`MAPILogonEx`."""

    profile: Optional[str]
    flags: u32


class Logoff(Request, tag=1, reply=(replies.LoggedOff,), free=True):
    """`IMAPISession::Logoff`."""

    member: u64
    flags: u32
    drain: Optional[u64]


class Advise(Request, tag=2, reply=(replies.Advised,)):
    """`Advise`."""

    member: u64
    source: AdviseSource
    events: u32


class Unadvise(Request, tag=3, free=True):
    """`Unadvise`."""

    member: u64
    advise: u32


class Open(Request, tag=4, reply=(replies.Opened,)):
    """`OpenEntry`, `OpenMsgStore`, `OpenAddressBook`, `GetStatusTable`."""

    member: u64
    what: Opening

    @property
    def takes(self) -> int:
        return 4 if isinstance(self.what, OpenFolder) and self.what.folder not in FOLDERS else self.since


class Release(Request, tag=5, free=True):
    """`IUnknown::Release`."""

    member: u64
    object: ObjectId


class List(Request, tag=6, reply=(replies.Rows,)):
    """`IMAPITable::QueryRows`."""

    member: u64
    object: ObjectId
    after: u64
    limit: u32


class Read(Request, tag=7, reply=(replies.Piece,)):
    """A piece of a message."""

    member: u64
    source: ReadSource
    offset: u64


class Upload(Request, tag=8, repeat=NEVER):
    """A piece of a body."""

    member: u64
    store: u16
    upload: u32
    data: bytes


class Submit(Request, tag=9, reply=(replies.Submitted,), repeat=KEYED):
    """`IMessage::SubmitMessage`."""

    member: u64
    store: u16
    key: u128
    sender: Optional[str]
    recipients: Tuple[str, ...]
    content: Content
    when: Durability
    report: Report


class Draft(Request, tag=10, reply=(replies.Opened,)):
    """A new unsaved message."""

    member: u64
    store: u16
    content: Content


class Save(Request, tag=11, reply=(replies.Saved,), repeat=KEYED):
    """`IMAPIProp::SaveChanges` of a draft."""

    member: u64
    object: ObjectId
    key: u128


class Delete(Request, tag=12, repeat=NEVER):
    """Moves a message into Deleted, or deletes it for good from there."""

    member: u64
    entry: EntryId


class Setting(Request, tag=13, reply=(replies.Setting,)):
    """A property of a profile section."""

    member: u64
    section: str
    name: str
    change: SettingChange


class AbortSubmit(Request, tag=14, repeat=SETTLED):
    """`IMsgStore::AbortSubmit`."""

    member: u64
    entry: EntryId


class Flush(Request, tag=15):
    """Makes everything durable that the member submitted."""

    member: u64


class AddressBook(Request, tag=16, reply=(replies.Added, replies.Done, replies.Resolved), repeat=SETTLED):
    """Reads or changes an address book."""

    member: u64
    object: ObjectId
    action: AddressAction

    @property
    def repeat(self) -> str:
        return HARMLESS if isinstance(self.action, ResolveAddress) else SETTLED


class QueryFastShutdown(Request, tag=17, free=True):
    """`IMAPIClientShutdown::QueryFastShutdown`."""


class NotifyProcessShutdown(Request, tag=18, free=True):
    """`IMAPIClientShutdown::NotifyProcessShutdown`."""


class DoFastShutdown(Request, tag=19, free=True):
    """`IMAPIClientShutdown::DoFastShutdown`."""

    remembered: bool


class Grant(Request, tag=20):
    """Grants an object to another process."""

    member: u64
    object: ObjectId
    token: u128
    pid: Optional[u32]


class Redeem(Request, tag=21, reply=(replies.Redeemed,), repeat=NEVER):
    """Opens an object that another process granted."""

    token: u128


class Revoke(Request, tag=22, repeat=SETTLED):
    """Takes a grant back."""

    member: u64
    token: u128


class Status(Request, tag=23, reply=(replies.Status,), free=True):
    """The state of the broker."""


class Queue(Request, tag=24, reply=(replies.Queue, replies.Flushed), repeat=SETTLED):
    """Reads or changes an outgoing queue."""

    profile: Optional[str]
    action: QueueAction

    @property
    def repeat(self) -> str:
        if not isinstance(self.action, ChangeEntry):
            return HARMLESS
        # A message that may have gone out would go out again.
        return NEVER if self.action.change == QueueChange.RETRY else SETTLED


class Stop(Request, tag=25, repeat=NEVER):
    """Stops the broker."""

    how: Stopping


class ValidateState(Request, tag=26):
    """`IMAPIStatus::ValidateState`."""

    member: u64
    kind: Resource
    provider: str

    @property
    def takes(self) -> int:
        return 4 if self.kind == Resource.MAILBOX else self.since


class StoreLogoff(Request, tag=27, reply=(replies.StoreLoggedOff,)):
    """`IMsgStore::StoreLogoff`."""

    member: u64
    object: ObjectId
    flags: u32


class DeleteProfile(Request, tag=28, reply=(replies.ProfileDeleted,), repeat=SETTLED):
    """`IProfAdmin::DeleteProfile`."""

    name: str


class Broker(Request, tag=29, reply=(replies.Broker,), since=2):
    """How the previous broker ended, and the limits."""


class Ticket(Request, tag=30, reply=(replies.Ticket,), since=3):
    """What this broker knows of the process, for later brokers."""

    shown: Optional[bytes]


class Return(Request, tag=31, reply=(replies.LoggedOn,), since=3):
    """A logon to a session that the client was in."""

    logon: Logons
    session_tag: u128
    told: bool


class DeleteFrom(Request, tag=32, repeat=SETTLED, since=3):
    """Deletes a message that is in this folder."""

    member: u64
    entry: EntryId
    source: Folder

    @property
    def takes(self) -> int:
        return self.since if self.source in FOLDERS else 4


class StatusPage(Request, tag=33, reply=(replies.StatusPage,), since=3):
    """A page of the state of the broker."""

    after: StatusCursor


class Submission(Record):
    """The fields of a `Submit`."""

    member: u64
    store: u16
    key: u128
    sender: Optional[str]
    recipients: Tuple[str, ...]
    content: Content
    when: Durability
    report: Report


class SubmitVia(Request, tag=34, reply=(replies.Submitted,), repeat=KEYED, since=3):
    """A submission that says which transport it is for."""

    submission: Submission
    author: Optional[str]
    account: Optional[str]


class Health(Request, tag=35, reply=(replies.Health,), since=3):
    """How providers fare."""

    after: u64


class Reload(Request, tag=36, reply=(replies.Reloaded,), since=3):
    """Has the broker read a profile's file now."""

    profile: str


class MessageId(Request, tag=37, reply=(replies.MessageId,), since=3):
    """The `Message-ID` of a message in the queue."""

    entry: EntryId


class Folders(Request, tag=38, reply=(replies.Folders,), since=4):
    """`IMAPIFolder::GetHierarchyTable`."""

    member: u64
    store: u16
    after: Optional[Folder]
    limit: u32


class MakeFolder(Request, tag=39, reply=(replies.Made,), repeat=SETTLED, since=4):
    """`IMAPIFolder::CreateFolder`."""

    member: u64
    store: u16
    parent: Optional[Folder]
    name: str


class RenameFolder(Request, tag=40, since=4):
    """Gives a folder another name."""

    member: u64
    store: u16
    folder: Folder
    name: str


class RemoveFolder(Request, tag=41, repeat=SETTLED, since=4):
    """`IMAPIFolder::DeleteFolder`."""

    member: u64
    store: u16
    folder: Folder


class Contents(Request, tag=42, reply=(replies.Contents,), since=4):
    """`IMAPIFolder::GetContentsTable`, a page of it."""

    member: u64
    object: ObjectId
    sort: Sort
    only: Filter
    after: Optional[Bookmark]
    limit: u32


class SetFlags(Request, tag=43, reply=(replies.Flags,), since=4):
    """`IMessage::SetReadFlag`, `IMAPIFolder::SetMessageStatus`."""

    member: u64
    entry: EntryId
    add: FlagsOfMessage
    remove: FlagsOfMessage


class Move(Request, tag=44, since=4):
    """`IMAPIFolder::CopyMessages` with `MESSAGE_MOVE`."""

    member: u64
    entry: EntryId
    to: Folder


class Copy(Request, tag=45, reply=(replies.Saved,), repeat=KEYED, since=4):
    """`IMAPIFolder::CopyMessages`."""

    member: u64
    key: u128
    entry: EntryId
    to: Folder


class Append(Request, tag=46, reply=(replies.Saved,), repeat=KEYED, since=4):
    """`IMAPIFolder::CreateMessage`."""

    member: u64
    key: u128
    store: u16
    folder: Folder
    content: Content
    flags: FlagsOfMessage
    received: Optional[u64]


class Search(Request, tag=47, reply=(replies.Found,), since=4):
    """`IMAPIFolder::SetSearchCriteria`, a page of its results."""

    member: u64
    store: u16
    words: str
    folder: Optional[Folder]
    after: u64
    limit: u32


class Sync(Request, tag=48, reply=(replies.Synced,), since=4):
    """Has mailboxes look for mail now (`FLUSH_DOWNLOAD`)."""

    member: u64


class Mailboxes(Request, tag=49, reply=(replies.Mailboxes,), since=4):
    """How mailboxes fare."""

    after: u64


class Asked(Record):
    """A request with the id that its answer repeats."""

    id: u64
    request: Request
