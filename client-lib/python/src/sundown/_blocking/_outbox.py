# Made by `client-lib/python/generate` from `asyncio/`: change that file, not this one.
"""An outbox for programs that fork and run for long: it connects by itself."""

from __future__ import annotations

import os
from typing import Any, Optional, Sequence

from .. import _errors, _process
from ..protocol import replies, types
from . import _io
from ._mapi import Mapi, connect
from ._session import AnyMessage, EntryText, Session


class Outbox:
    """Submits messages, and keeps a session for it. It connects at the first submit of each process, and again after each loss.

    It may be made when a module is imported, before a server forks its workers: every process has its own connection, made when it needs one. If the shared session
    is ended or the broker is stopped, the next submit logs on again, and starts another broker where `connect` would. All submissions of a call have
    one key, so a message is stored once however often that happens.

    Args:
        program: the name that other members see.
        profile: its name; without it the default profile.
        no_mail: leave sending to members with mail.
        options: those of `connect`.

    Example:
        outbox = Outbox("shop", timeout=10.0)
        outbox.submit(b"To: anna@localhost\\n\\nThank you!\\n")
    """

    def __init__(self, program: str, profile: Optional[str] = None, *, no_mail: bool = False, **options: Any) -> None:
        self._program = _errors.string(program, "program")
        self._profile = None if profile is None else _errors.string(profile, "profile")
        self._no_mail = no_mail
        self._options = options
        self._pid = 0
        self._lock: Optional[_io.Lock] = None
        self._mapi: Optional[Mapi] = None
        self._session: Optional[Session] = None

    def __repr__(self) -> str:
        return f"<Outbox {self._program!r}>"

    def session(self) -> Session:
        """The session of this process: the one that is there, or a new one."""
        if self._pid != os.getpid() or self._lock is None or not self._is_of_this_loop():
            # What the parent made is left to it. A lock that a thread of the parent held would never be released here.
            self._pid, self._lock, self._mapi, self._session = os.getpid(), _io.Lock(), None, None
        lock = self._lock
        try:
            lock.acquire(None)
            if self._session is not None:
                try:
                    self._session.alive()
                    if self._mapi is not None and self._mapi._library.ended is None:
                        return self._session
                except _errors.Error as error:
                    if error.code == "MAPI_E_NOT_INITIALIZED" and self._mapi is not None and self._mapi._library.process.done:
                        raise
            self._forget()
            mapi = connect(self._program, **self._options)
            try:
                self._session = mapi.logon(self._profile, no_mail=self._no_mail)
            except BaseException:
                mapi.close()
                raise
            self._mapi = mapi
            return self._session
        finally:
            lock.release()

    def _is_of_this_loop(self) -> bool:
        if self._mapi is None:
            return True
        try:
            self._mapi._library.home.check("this Outbox")
        except _errors.Error:
            return False
        return True

    def _forget(self) -> None:
        """Closes what is over."""
        mapi, self._mapi, self._session = self._mapi, None, None
        if mapi is not None:
            try:
                mapi.close()
            except _errors.Error:
                mapi._library.end("the outbox connects anew")

    def submit(
        self,
        message: AnyMessage,
        *,
        sender: Optional[str] = None,
        recipients: Optional[Sequence[str]] = None,
        deferred: bool = False,
        key: Optional[int] = None,
        author: Optional[str] = None,
        account: Optional[str] = None,
        report: Optional[types.Report] = None,
    ) -> replies.Submitted:
        """Submits a message as `Session.submit` does. If the session is over it logs on again, once, and repeats with the same key."""
        chosen = _process.new_key() if key is None else key
        for last in (False, True):
            session = self.session()
            try:
                return session.submit(
                    message, sender=sender, recipients=recipients, deferred=deferred, key=chosen, author=author, account=account, report=report
                )
            except (_errors.EndOfSession, _errors.Disconnected):
                if last:
                    raise
                self._forget()
        raise AssertionError("the loop returns or raises")

    def flush(self) -> None:
        """Makes everything durable that this process submitted with `deferred=True`."""
        if self._session is not None and self._pid == os.getpid():
            self._session.flush()

    def abort_submit(self, entry: EntryText) -> None:
        """Takes a message out of the queue; see `Session.abort_submit`."""
        session = self.session()
        session.abort_submit(entry)

    def close(self) -> None:
        """Logs off and closes this process' connection. A later submit connects again."""
        if self._pid == os.getpid():
            self._forget()

    def __enter__(self) -> "Outbox":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
