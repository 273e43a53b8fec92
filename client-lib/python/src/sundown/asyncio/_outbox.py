"""An outbox for programs that fork and run for long: it connects by itself."""

from __future__ import annotations

import os
from typing import Any, Dict, Optional, Sequence

from .. import _errors, _process
from .._options import Options
from ..protocol import replies, types
from . import _io
from ._mapi import Mapi, connect
from ._session import AnyMessage, EntryText, Session


class _Place:
    """What an outbox has in one process: the connection, and the session."""

    def __init__(self) -> None:
        self.lock = _io.Lock()
        self.mapi: Optional[Mapi] = None
        self.session: Optional[Session] = None

    def is_of_this_loop(self) -> bool:
        """Whether the event loop that runs is that of the connection."""
        if self.mapi is None:
            return True
        try:
            self.mapi._library.home.check("this Outbox")
        except _errors.Error:
            return False
        return True

    async def leave(self) -> None:
        """Closes the connection, if there is one."""
        mapi, self.mapi, self.session = self.mapi, None, None
        if mapi is not None:
            try:
                await mapi.close()
            except _errors.Error:
                mapi._library.end("the outbox connects anew")


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
        await outbox.submit(b"To: anna@localhost\\n\\nThank you!\\n")
    """

    def __init__(self, program: str, profile: Optional[str] = None, *, no_mail: bool = False, **options: Any) -> None:
        self._program = _errors.string(program, "program")
        self._profile = None if profile is None else _errors.string(profile, "profile")
        self._no_mail = _errors.flag(no_mail, "no_mail")
        # What is wrong is said here, and not by the first submit.
        Options(program, **options)
        self._options = options
        self._places: Dict[int, _Place] = {}

    def __repr__(self) -> str:
        return f"<Outbox {self._program!r}>"

    def _place(self) -> "_Place":
        """The logon of this process. What the parent made is left to it: a lock that a thread of the parent held would never be released here."""
        pid = os.getpid()
        place = self._places.get(pid)
        if place is None:
            # Several threads of a child may come here together, and must get the same one.
            place = self._places.setdefault(pid, _Place())
        if not place.is_of_this_loop():
            place = self._places[pid] = _Place()
        return place

    async def session(self) -> Session:
        """The session of this process: the one that is there, or a new one."""
        place = self._place()
        await place.lock.acquire(None)
        try:
            if place.session is not None:
                try:
                    place.session.alive()
                    if place.mapi is not None and place.mapi._library.ended is None:
                        return place.session
                except _errors.Error as error:
                    if error.code == "MAPI_E_NOT_INITIALIZED" and place.mapi is not None and place.mapi._library.process.done:
                        raise
            await place.leave()
            mapi = await connect(self._program, **self._options)
            try:
                place.session = await mapi.logon(self._profile, no_mail=self._no_mail)
            except BaseException:
                await mapi.close()
                raise
            place.mapi = mapi
            return place.session
        finally:
            place.lock.release()

    def _is_connected(self) -> bool:
        """Whether this process is logged on, as far as it knows."""
        place = self._places.get(os.getpid())
        return place is not None and place.session is not None

    async def _forget(self, session: Session) -> None:
        """Closes a session that is over, unless another thread has done that: its new one must stay."""
        place = self._place()
        await place.lock.acquire(None)
        try:
            if place.session is session:
                await place.leave()
        finally:
            place.lock.release()

    async def submit(
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
        again = unknown = False
        while True:
            try:
                session = await self.session()
            except _errors.Error as error:
                # The first attempt may have been carried out all the same.
                raise _errors.unknown(error) if unknown else error
            try:
                return await session.submit(
                    message, sender=sender, recipients=recipients, deferred=deferred, key=chosen, author=author, account=account, report=report
                )
            except _errors.Error as error:
                if _errors.is_dead_handle(error) and self._place().session is not session:
                    # Another thread has closed this session, because it was over.
                    continue
                if again or not isinstance(error, (_errors.EndOfSession, _errors.Disconnected)):
                    raise _errors.unknown(error) if unknown and not error.outcome_unknown else error
                again, unknown = True, error.outcome_unknown
                await self._forget(session)

    async def flush(self) -> None:
        """Makes everything durable that this process submitted with `deferred=True`."""
        place = self._places.get(os.getpid())
        if place is not None and place.session is not None:
            await place.session.flush()

    async def abort_submit(self, entry: EntryText) -> None:
        """Takes a message out of the queue; see `Session.abort_submit`."""
        session = await self.session()
        await session.abort_submit(entry)

    async def close(self) -> None:
        """Logs off and closes this process' connection. A later submit connects again."""
        place = self._places.get(os.getpid())
        if place is not None and place.is_of_this_loop():
            await place.leave()

    async def __aenter__(self) -> "Outbox":
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()
