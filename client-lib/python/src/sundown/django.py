"""Django's mail through the session that all programs of a user share.

Example:
    EMAIL_BACKEND = "sundown.django.EmailBackend"
    SUNDOWN_PROFILE = "shop"
"""
# pyright: basic, reportMissingImports=false, reportAttributeAccessIssue=false

from __future__ import annotations

from email import policy
from typing import Any, Dict, Optional, Sequence, Union

import django
from django.conf import settings
from django.core.mail.backends.base import BaseEmailBackend

from . import Outbox, _errors, _frameworks

_ABSENT: Any = object()


class EmailBackend(BaseEmailBackend):  # type: ignore[misc]
    """Submits Django's messages to the broker. A message is durable when `send` returns, and the broker sends it.

    All backends of a process with the same options share one logon, which is made at the first message of the process and kept until its end. So it works
    after a fork, and in threads. If the broker is restarted meanwhile, the message is sent once.

    Args:
        fail_silently: count what fails as not sent, instead of raising a `sundown.Error`.
        profile: the profile's name; without it `settings.SUNDOWN_PROFILE`, or the default profile.
        socket: the broker's socket; without it `settings.SUNDOWN_SOCKET`, or the user's.
        timeout: for how many seconds a message may take; without it `settings.SUNDOWN_TIMEOUT`, or 90.
        start: the program that starts a broker when none runs; without it `settings.SUNDOWN_START`, or `"sundown"`; `None`: none is started.
        program: the name that other members see; without it `settings.SUNDOWN_PROGRAM`, or `"django"`.
    """

    def __init__(
        self,
        fail_silently: bool = False,
        *,
        profile: Optional[str] = _ABSENT,
        socket: Optional[str] = _ABSENT,
        timeout: Optional[float] = _ABSENT,
        start: Optional[str] = _ABSENT,
        program: str = _ABSENT,
        **others: Any,
    ) -> None:
        super().__init__(**others)
        self.fail_silently = fail_silently
        given: Dict[str, Any] = {"profile": profile, "socket": socket, "timeout": timeout, "start": start, "program": program}
        options = {name: getattr(settings, f"SUNDOWN_{name.upper()}", _ABSENT) if value is _ABSENT else value for name, value in given.items()}
        options = {name: value for name, value in options.items() if value is not _ABSENT}
        self.outbox: Outbox = _frameworks.outbox(options.pop("program", "django"), options.pop("profile", None), **options)
        """The outbox, which the backends of this process with the same options share. `outbox.close()` logs off; the next message logs on again."""

    def open(self) -> Optional[bool]:
        """Logs on. Returns whether this process was not logged on before, and `None` if it failed silently."""
        connected = self.outbox._is_connected()
        try:
            self.outbox.session()
            return not connected
        except _errors.Error:
            if not self.fail_silently:
                raise
            return None

    def close(self) -> None:
        """Does nothing: the logon is kept for the next message of this process."""

    def send_messages(self, email_messages: "Optional[Sequence[Any]]") -> int:
        """Submits the messages. Returns how many were submitted; a message without recipients is left out."""
        sent = 0
        for message in email_messages or ():
            try:
                sent += self._send(message)
            except _errors.Error as error:
                if not self.fail_silently:
                    raise
                if isinstance(error, (_errors.Disconnected, _errors.Timeout)):
                    # Each of the others would wait as long for the broker.
                    break
        return sent

    def _send(self, message: Any) -> bool:
        recipients = _frameworks.recipients(message.recipients())
        if not recipients:
            return False
        self.outbox.submit(_bytes_of(message, recipients), sender=_frameworks.sender(message.from_email), recipients=recipients)
        return True


def _bytes_of(message: Any, recipients: Sequence[str]) -> bytes:
    """The bytes of a message: as Django makes them, without Bcc, and without the fields that it makes of nothing."""
    made: Any
    if django.VERSION[0] >= 6:
        # The older Django encodes such a mailbox itself.
        wide = not all(address.isascii() for address in recipients)
        made = message.message(policy=policy.SMTPUTF8 if wide else policy.SMTP)
    else:
        made = message.message()
    _frameworks.hide(made)
    if message.subject is None:
        del made["Subject"]
    if not str(made["From"] or "").strip():
        # The broker puts the profile's identity there.
        del made["From"]
    data: Union[bytes, bytearray] = made.as_bytes()
    return bytes(data)
