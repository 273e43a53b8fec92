"""What the shell prints: values with stable keys."""

from __future__ import annotations

from typing import Any, Dict, Optional

from .. import _errors
from ..events import CallbackFailed, Reconnected
from ..protocol import codes, events, types

Value = Dict[str, Any]


def error(error: _errors.Error) -> Value:
    """`{"code","hresult","message"}`, and what the error knows beside them."""
    value: Value = {"code": error.code, "hresult": codes.text_of(error.hresult), "message": error.message}
    if error.correlation is not None:
        value["correlation"] = error.correlation
    if error.owner is not None:
        value["owner"] = peer(error.owner)
    for key, kind in (("addresses", types.AddressesDetail), ("providers", types.ProvidersDetail)):
        if isinstance(error.detail, kind):
            value[key] = list(getattr(error.detail, key))
    if isinstance(error.detail, types.HoldersDetail):
        value["holders"] = [peer(holder) for holder in error.holders]
    if isinstance(error.detail, types.EntriesDetail):
        value["entries"] = [str(entry) for entry in error.entries]
    return value


def peer(peer: types.Peer) -> Value:
    """`{"pid","program"}`."""
    return {"pid": peer.pid, "program": peer.program}


def contents_row(row: types.ContentsRow) -> Value:
    """A row of a contents table."""
    return {
        "entry": str(row.entry),
        "folder": row.folder,
        "subject": row.subject,
        "from": row.sender,
        "to": row.to,
        "date": row.date,
        "size": row.size,
        "received": row.received,
        "flags": list(row.flags.names),
        "recovered": row.recovered,
    }


def message_row(row: types.MessageRow, folder: Optional[str]) -> Value:
    """A row of a granted folder, or of an older broker's: without date and flags."""
    return {
        "entry": str(row.entry),
        "folder": folder,
        "subject": row.subject,
        "from": row.sender,
        "to": row.to,
        "date": None,
        "size": row.size,
        "received": row.received,
        "flags": None,
        "recovered": row.recovered,
    }


def folder_row(row: types.FolderRow) -> Value:
    """A row of the hierarchy table."""
    return {
        "folder": row.folder,
        "parent": row.parent,
        "name": row.name,
        "role": None if row.role is None else str(row.role),
        "total": row.total,
        "unread": row.unread,
    }


def _previous(previous: types.Previous) -> Value:
    return {
        "pid": previous.pid,
        "started": previous.started,
        "ended": previous.ended,
        "end": str(previous.end),
        "why": previous.why,
    }


def event(session: int, event: Any, object: Optional[int] = None) -> Value:
    """An event for a session of this shell. `object` is the shell's number of an open table."""

    def of(name: str, **keys: Any) -> Value:
        return {"event": name, "session": session, **keys}

    def message(name: str, place: types.Place, **keys: Any) -> Value:
        return of(name, entry=str(place.entry), folder=place.folder, **keys)

    if isinstance(event, Reconnected):
        previous = None if event.previous is None else _previous(event.previous)
        return of("reconnected", lost_drafts=event.lost_drafts, previous=previous)
    if isinstance(event, CallbackFailed):
        return of("sink-panicked", connection=event.connection, message=repr(event.error))
    if isinstance(event, events.CriticalError):
        return of(
            "critical-error",
            code=codes.name_of(event.code),
            hresult=codes.text_of(event.code),
            reason=str(event.reason),
            by=None if event.by is None else peer(event.by),
            grace_seconds=None if event.grace_ms is None else event.grace_ms // 1000,
        )
    if isinstance(event, events.Arrived):
        return message("new-mail", event.place, **{"from": event.sender, "subject": event.subject})
    if isinstance(event, events.Created):
        return message("object-created", event.place)
    if isinstance(event, events.Modified):
        return message("object-modified", event.place)
    if isinstance(event, events.Deleted):
        return message("object-deleted", event.place)
    if isinstance(event, events.Moved):
        return message("object-moved", event.place, **{"from": event.source})
    if isinstance(event, events.FolderChanged):
        names = {"made": "object-created", "renamed": "object-modified", "removed": "object-deleted"}
        return of(names[event.change.value], folder=event.folder)
    if isinstance(event, events.TableModified):
        change = {"RowAdded": "row-added", "RowDeleted": "row-deleted", "RowModified": "row-modified", "TableReload": "reload"}
        row = getattr(event.change, "key", None)
        return of("table-modified", object=object, change=change[type(event.change).__name__], row=row)
    if isinstance(event, events.MemberLeft):
        return of("extended", kind="member-left", reason=str(event.reason), member=event.member)
    if isinstance(event, events.Evicted):
        return of("extended", kind="evicted")
    if isinstance(event, events.LogoffProgress):
        return of("extended", kind="logoff-progress", waiting=event.waiting, finished=event.finished)
    if isinstance(event, events.BrokerStopping):
        return of("broker-stopping", within_seconds=event.within_ms // 1000)
    return of("lagged", missed=event.missed)


def lost(object: int, happened: events.CriticalError) -> Value:
    """The end of a granted object, which belongs to no session."""
    value = event(0, happened)
    del value["session"], value["grace_seconds"]
    return {**value, "object": object}
