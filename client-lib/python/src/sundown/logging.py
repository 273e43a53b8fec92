"""A handler for the module `logging`, which mails records and never makes the program wait.

Example:
    import logging, sundown.logging

    handler = sundown.logging.Handler("ops@localhost")
    handler.setLevel(logging.ERROR)
    logging.getLogger().addHandler(handler)
"""

from __future__ import annotations

import logging
import os
import sys
import threading
import time
from collections import deque
from typing import Any, Callable, Deque, Dict, List, Optional, Sequence, Union

from . import Outbox, _errors, _frameworks, _limits, _mail, email, new_key
from ._lazy import imports

CALL = 30.0
"""For how many seconds the thread waits for the answers to one batch."""
BATCH = 64
"""How many mails are made durable together."""
PAUSES = (0.05, 10.0)
"""Seconds between two attempts: the first pause, which doubles, and the longest."""
LONGEST_TEXT = 256 << 10
"""How many characters of a record are mailed."""
LONGEST_TITLE = 200


class Handler(logging.Handler):
    """Mails each record. The program never waits for the broker, and never gets an exception.

    `emit` puts the record in a queue. A thread submits what is queued, and ends when the queue is empty: only a thread can wait for a broker that is restarted while the
    program goes on, and a program that logs nothing has no thread when it forks. A forked child has a queue of its own, which is empty.

    While the broker is away the queue fills. Records for which there is no room are dropped and counted, and so are those that the broker refuses. The
    next mail says how many were dropped, and why. What is still queued when the process ends, after `patience`, is lost; standard error says how much it was.

    Args:
        to: an address, or a list of addresses.
        sender: the sender; without it the profile's identity.
        subject: the form of the subject, as for `logging.Formatter`. Of several lines it has the first.
        profile: the profile's name; without it the default profile.
        level: the lowest level that is mailed.
        capacity: how many records may wait.
        patience: for how many seconds `flush` and `close` wait, and so does the end of the program.
        program: the name that other members see.
        options: those of `sundown.connect`.

    Raises:
        InvalidParameter: an address is none.
    """

    def __init__(
        self,
        to: Union[str, Sequence[str]],
        *,
        sender: Optional[str] = None,
        subject: str = "%(levelname)s %(name)s: %(message)s",
        profile: Optional[str] = None,
        level: Union[int, str] = logging.NOTSET,
        capacity: int = 1000,
        patience: float = 5.0,
        program: str = "logging",
        **options: Any,
    ) -> None:
        super().__init__(level)
        self._to = _checked(to, "to")
        self._recipients = _frameworks.recipients(self._to)
        self._sender = None if sender is None else _checked(sender, "sender")[0]
        self._from = None if sender is None else _frameworks.sender(sender)
        self._subject = logging.Formatter(_errors.string(subject, "subject"))
        if isinstance(capacity, bool) or not isinstance(capacity, int) or capacity < 1:
            raise _errors.InvalidParameter(f"capacity is {capacity!r}, and must be a number above zero", code="MAPI_E_INVALID_PARAMETER")
        self._capacity = capacity
        self._patience = _limits.number(patience, "patience")
        self._outbox = Outbox(program, profile, **options)
        self._queues: Dict[int, _Queue] = {}

    def __repr__(self) -> str:
        return f"<Handler {', '.join(self._to)} ({logging.getLevelName(self.level)})>"

    def emit(self, record: logging.LogRecord) -> None:
        """Queues the record."""
        try:
            self._queue().add(_Mail(self._title(record), self.format(record), record.created))
        except Exception:
            self.handleError(record)

    def flush(self) -> None:
        """Waits until the records that are queued are durable, for `patience` seconds at most."""
        self._queue().drain(self._patience)

    def close(self) -> None:
        """Waits as `flush` does, and logs off. The end of the program calls it (`logging.shutdown`)."""
        self._queue().close(self._patience)
        super().close()

    def _title(self, record: logging.LogRecord) -> str:
        record.message = record.getMessage()
        if self._subject.usesTime():
            record.asctime = self._subject.formatTime(record)
        lines = self._subject.formatMessage(record).strip().splitlines()
        return lines[0][:LONGEST_TITLE] if lines else ""

    def _queue(self) -> "_Queue":
        """The queue of this process. What the parent had queued is left to it."""
        pid = os.getpid()
        found = self._queues.get(pid)
        if found is None:
            for other in list(self._queues):
                self._queues.pop(other, None)
            made = _Queue(self._outbox, self._capacity, self._from, self._recipients, self._bytes)
            found = self._queues.setdefault(pid, made)
        return found

    def _bytes(self, mail: "_Mail") -> bytes:
        text = mail.text
        if mail.missed:
            lost = "1 record before this one was" if mail.missed == 1 else f"{mail.missed} records before this one were"
            text = f"{lost} not mailed: {mail.why}\n\n{text}"
        message = email(self._to, subject=_encodable(mail.title), text=_encodable(text), sender=self._sender)
        message["Date"] = time.strftime("%a, %d %b %Y %H:%M:%S +0000", time.gmtime(mail.created))
        message["Auto-Submitted"] = "auto-generated"
        with imports:
            from email import policy

        wide = not all(address.isascii() for address in self._recipients)
        return message.as_bytes(policy=policy.default.clone(utf8=wide))


class _Mail:
    """A record that waits."""

    __slots__ = ("created", "data", "key", "missed", "text", "title", "why")

    def __init__(self, title: str, text: str, created: float) -> None:
        cut = len(text) - LONGEST_TEXT
        self.title = title
        self.text = text if cut <= 0 else f"{text[:LONGEST_TEXT]}\n[{cut} more characters]"
        self.created = created
        self.key = new_key()
        self.missed, self.why = 0, ""
        self.data = b""


class _Queue:
    """The records of a process that wait, and the thread that submits them while there are any.

    ```text
      queued ──deferred submits, flush──► durable
        │ └─the broker is away: repeated with the same keys, after a pause
        └─refused: dropped and counted
    ```
    """

    def __init__(
        self, outbox: Outbox, capacity: int, sender: Optional[str], recipients: Sequence[str], make: "Callable[[_Mail], bytes]"
    ) -> None:
        self._outbox, self._capacity, self._make = outbox, capacity, make
        self._sender, self._recipients = sender, recipients
        # A signal's handler may log while its thread has the lock, so it must be one that a thread can take again.
        self._changed = threading.Condition(threading.RLock())
        self._waiting: Deque[_Mail] = deque()
        self._thread: Optional[threading.Thread] = None
        self._hurry = threading.Event()
        self._missed, self._why = 0, ""
        self._away = ""
        """Why the last attempt failed; empty if it did not."""
        self._drains = 0
        """How many callers wait for the queue to be empty."""
        self._complained = ""

    def add(self, mail: _Mail) -> None:
        with self._changed:
            if len(self._waiting) >= self._capacity:
                self._miss(1, f"{self._capacity} records waited already, and {self._away or 'they are more than the broker takes in that time'}")
                return
            mail.missed, mail.why, self._missed, self._why = self._missed, self._why, 0, ""
            self._waiting.append(mail)
            self._work()

    def _miss(self, count: int, why: str) -> None:
        self._missed += count
        self._why = why

    def _work(self) -> None:
        """Starts the thread, unless it runs. It cannot be started at the end of the program: `drain` submits then."""
        if self._thread is None:
            thread = threading.Thread(target=self._run, name="sundown.logging", daemon=True)
            self._thread = thread
            try:
                thread.start()
            except RuntimeError:
                self._thread = None

    def drain(self, patience: float) -> bool:
        """Waits until nothing waits, at most for so long. Returns whether that is so."""
        until = time.monotonic() + patience
        with self._changed:
            if self._waiting:
                self._work()
            self._drains += 1
            self._hurry.set()
            while self._waiting and self._thread is not None and _limits.left(until):
                self._changed.wait(_limits.left(until))
            self._drains -= 1
            alone = self._thread is None
        while alone and self._waiting and _limits.left(until):
            with _limits.within(_limits.left(until)):
                if not self._submit(list(self._waiting)[:BATCH]):
                    break
        return not self._waiting

    def close(self, patience: float) -> None:
        self.drain(patience)
        with self._changed:
            self._hurry.set()
            left = sum(1 + mail.missed for mail in self._waiting) + self._missed
            why = self._away or self._why or "there was not enough time"
            self._waiting.clear()
            self._missed = 0
        if left:
            self._say(f"{left} log record{'s were' if left > 1 else ' was'} not mailed: {why}")
        try:
            with _limits.within(1.0):
                self._outbox.close()
        except _errors.Error:
            # What was submitted and flushed is durable.
            pass

    def _run(self) -> None:
        pause = PAUSES[0]
        while True:
            with self._changed:
                batch = list(self._waiting)[:BATCH]
                if not batch:
                    self._thread = None
                    self._changed.notify_all()
                    return
                self._hurry.clear()
            try:
                with _limits.within(CALL):
                    done = self._submit(batch)
            except Exception as error:
                # A thread that ends by an exception would end all mail of this process.
                self._drop(batch[0], error)
                done = True
            if done:
                pause = PAUSES[0]
            else:
                self._hurry.wait(PAUSES[0] if self._drains else pause)
                pause = min(pause * 2, PAUSES[1])

    def _submit(self, batch: List[_Mail]) -> bool:
        """Submits these, and makes them durable. Returns whether it makes sense to go on at once."""
        try:
            session = self._outbox.session()
            for mail in batch:
                mail.data = mail.data or self._make(mail)
                try:
                    session.submit(mail.data, sender=self._sender, recipients=self._recipients, deferred=True, key=mail.key)
                except _errors.Refused as error:
                    if _errors.is_dead_handle(error):
                        raise
                    self._drop(mail, error)
            # It raises if the session has ended since its first submission. Then all are repeated with their keys.
            session.flush()
        except _errors.Error as error:
            with self._changed:
                self._away = str(error)
            return False
        with self._changed:
            self._away = ""
            self._remove(batch)
        return True

    def _drop(self, mail: _Mail, error: Exception) -> None:
        with self._changed:
            if mail in self._waiting:
                self._miss(1 + mail.missed, str(error))
                self._remove([mail])
        self._say(f"a log record was not mailed: {error}")

    def _remove(self, mails: List[_Mail]) -> None:
        for mail in mails:
            if mail in self._waiting:
                self._waiting.remove(mail)
        self._changed.notify_all()

    def _say(self, what: str) -> None:
        """Writes to standard error, as `logging` does with failures of its handlers. Each text once."""
        if logging.raiseExceptions and sys.stderr is not None and what != self._complained:
            self._complained = what
            try:
                sys.stderr.write(f"sundown.logging: {what}\n")
            except (OSError, ValueError):
                pass


def _checked(addresses: Union[str, Sequence[str]], name: str) -> List[str]:
    """The addresses of an argument, as they were written."""
    texts = list(addresses) if isinstance(addresses, (list, tuple)) else [_errors.string(addresses, name)]
    if not texts:
        raise _errors.InvalidParameter(f"{name} names no address; give one, as {name}='ops@localhost'", code="MAPI_E_INVALID_PARAMETER")
    for text in texts:
        found = _mail.addresses(_errors.string(text, name))
        for address in found or [text]:
            if not _mail.is_address(address):
                raise _errors.InvalidParameter(
                    f"{name} has {address!r}, which is no address; write it as 'ops@localhost'", code="MAPI_E_INVALID_PARAMETER"
                )
    return texts


def _encodable(text: str) -> str:
    """Text without halves of surrogates, which no encoding takes."""
    return text.encode("utf-8", "replace").decode()
