"""What waits to be told to a program's callbacks and sessions. It is bounded, however slow a callback is.

Ordinary notices that find no room are counted, and one `Lagged` stands in their place. The end of a session is always told.
"""

from __future__ import annotations

import threading
from collections import deque
from typing import Any, Deque, Dict, Optional, Tuple

from .protocol.events import CriticalError, Event, Evicted, Lagged

ROOM = 4096
"""How many ordinary notices may wait for the callbacks of a `Mapi`."""


def must_be_told(event: object) -> bool:
    """Whether an event may not be dropped."""
    return isinstance(event, (CriticalError, Evicted)) or not isinstance(event, Event)


class Notices:
    """The waiting notices, in the order in which they came: for whom, for which registrations, and what."""

    def __init__(self, room: int = ROOM) -> None:
        self._waiting: Deque[Tuple[Any, Tuple[int, ...], object]] = deque()
        self._room = room
        self._ordinary = 0
        self._missed: Dict[Any, int] = {}
        self._lock = threading.Lock()

    def __bool__(self) -> bool:
        return bool(self._waiting)

    def push(self, whom: Any, advises: Tuple[int, ...], event: object) -> None:
        """Queues a notice."""
        with self._lock:
            self._push(whom, advises, event)

    def _push(self, whom: Any, advises: Tuple[int, ...], event: object) -> None:
        if not must_be_told(event):
            # Once a notice is missed, later ones are missed too until the receiver is told: that notice stands in their place.
            if self._ordinary >= self._room or whom in self._missed:
                count = event.missed if isinstance(event, Lagged) else 1
                self._missed[whom] = self._missed.get(whom, 0) + count
                return
            self._ordinary += 1
        self._waiting.append((whom, advises, event))

    def pop(self) -> Optional[Tuple[Any, Tuple[int, ...], object]]:
        """Takes the next notice."""
        with self._lock:
            return self._pop()

    def _pop(self) -> Optional[Tuple[Any, Tuple[int, ...], object]]:
        if not self._waiting:
            return None
        notice = self._waiting.popleft()
        self._ordinary -= not must_be_told(notice[2])
        if self._missed and self._ordinary <= self._room // 2:
            missed, self._missed = self._missed, {}
            for whom, count in missed.items():
                self._ordinary += 1
                self._waiting.append((whom, (), Lagged(count)))
        return notice
