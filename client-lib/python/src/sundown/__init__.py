"""The client library of Sundown, a session broker for mail: many programs share the session of a mail account.

Example:
    import sundown

    message = sundown.email("anna@localhost", subject="Report", text="All is well.")
    with sundown.connect("nightly-report") as mapi, mapi.logon() as session:
        session.submit(message)  # durable when it returns

`sundown.asyncio` has the same names with `await`. `sundown.protocol` has the wire without I/O.
"""

from __future__ import annotations

from ._blocking._mapi import Mapi, connect
from ._blocking._objects import (
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
from ._blocking._outbox import Outbox
from ._blocking._session import LogoffQuestion, OnEnd, Session, Sink
from ._blocking._shutdown import ClientShutdown
from ._errors import (
    Disconnected,
    EndOfSession,
    Error,
    ForkedError,
    InvalidParameter,
    InvalidType,
    Refused,
    Temporary,
    Timeout,
)
from ._limits import within
from ._make import email
from ._options import Retry
from ._process import new_key
from .events import (
    Arrived,
    BrokerStopping,
    CallbackFailed,
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
    Reconnected,
    TableModified,
)
from .protocol.replies import LoggedOff, Submitted, Synced
from .protocol.types import (
    Column,
    ContentsRow,
    EndReason,
    EntryId,
    Events,
    Flags,
    FolderRow,
    LeaveReason,
    MessageRow,
    Peer,
    QueueRow,
    Report,
    Resource,
    Role,
    Status,
    SubmissionState,
)

__version__ = "0.1.0"
__all__ = [
    "AddressBook",
    "Arrived",
    "BrokerStopping",
    "CallbackFailed",
    "ClientShutdown",
    "Column",
    "Contents",
    "ContentsRow",
    "Created",
    "CriticalError",
    "Deleted",
    "Disconnected",
    "Draft",
    "EndOfSession",
    "EndReason",
    "EntryId",
    "Error",
    "Event",
    "Events",
    "Evicted",
    "Flags",
    "Folder",
    "FolderChanged",
    "FolderRow",
    "ForkedError",
    "InvalidParameter",
    "InvalidType",
    "Lagged",
    "LeaveReason",
    "LoggedOff",
    "LogoffProgress",
    "LogoffQuestion",
    "Mapi",
    "MemberLeft",
    "MessageRow",
    "Modified",
    "Moved",
    "OnEnd",
    "OpenMessage",
    "Outbox",
    "Peer",
    "QueueRow",
    "Reconnected",
    "Reference",
    "Refused",
    "Report",
    "Resource",
    "Retry",
    "Role",
    "Search",
    "Session",
    "Sink",
    "Status",
    "StatusTable",
    "Store",
    "SubmissionState",
    "Submitted",
    "Synced",
    "TableModified",
    "Temporary",
    "Timeout",
    "Token",
    "connect",
    "email",
    "new_key",
    "within",
]
