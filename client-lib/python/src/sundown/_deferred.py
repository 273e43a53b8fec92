"""A session's deferred submissions, kept until they are durable so that they can be repeated.

```text
 Asked ──the broker has it──► Accepted ──durable──► gone
   └─refused: the caller knows      │  ▲
                                    ▼  └ repeated
                                  Lost     a store could not keep it; the caller knows by the next flush or logoff
```
"""

from __future__ import annotations

from typing import Dict, Iterable, List, Optional, Tuple

from .protocol import Record, types

ASKED, ACCEPTED, LOST = "asked", "accepted", "lost"


class Outgoing(Record):
    """A message to be submitted, with its envelope and its key."""

    data: bytes
    sender: Optional[str]
    recipients: Tuple[str, ...]
    author: Optional[str]
    account: Optional[str]
    report: types.Report
    store: int
    key: int


class Deferred:
    """The submissions of a session."""

    def __init__(self) -> None:
        self._kept: Dict[int, Tuple[Outgoing, str]] = {}

    def begin(self, outgoing: Outgoing) -> None:
        """Adds a submission, before the broker is asked."""
        self._kept[outgoing.key] = (outgoing, ASKED)

    def _note(self, key: int, stage: str) -> None:
        if key in self._kept:
            self._kept[key] = (self._kept[key][0], stage)

    def accepted(self, key: int) -> None:
        """Notes that the broker has the message. It may be durable already."""
        self._note(key, ACCEPTED)

    def refused(self, key: int) -> None:
        """Notes that the broker refused the message."""
        self._note(key, LOST)

    def forget(self, key: int) -> None:
        """Removes a submission that is durable, or whose failure the caller knows."""
        self._kept.pop(key, None)

    def durable(self, entries: Iterable[types.EntryId]) -> None:
        """Removes submissions that are durable."""
        for entry in entries:
            self.forget(entry.record)

    def lost(self, entries: Iterable[types.EntryId]) -> None:
        """Notes that a store could not keep these."""
        for entry in entries:
            self._note(entry.record, LOST)

    def covered(self) -> List[int]:
        """The keys that a flush or a logoff covers if it begins now."""
        return [key for key, (_, stage) in self._kept.items() if stage == ACCEPTED]

    def to_repeat(self) -> List[Outgoing]:
        """The submissions that a store could not keep."""
        return [outgoing for outgoing, stage in self._kept.values() if stage == LOST]

    def to_bring_back(self) -> List[Outgoing]:
        """The submissions that another broker must be given."""
        return [outgoing for outgoing, stage in self._kept.values() if stage != ASKED]

    def clear(self) -> None:
        """Removes all."""
        self._kept.clear()
