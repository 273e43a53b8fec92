"""Flask-Mail through the session that all programs of a user share.

Example:
    from flask_mail import Message
    from sundown.flask import Mail      # in place of flask_mail.Mail

    mail = Mail(app)
"""
# pyright: basic, reportMissingImports=false, reportAttributeAccessIssue=false

from __future__ import annotations

from typing import Any, Sequence

import flask_mail
from flask import current_app

from . import Outbox, _errors, _frameworks

_OPTIONS = ("socket", "timeout", "start")
_NEEDLESS = ("smtputf8", "body=8bitmime", "body=7bit")


class Mail(flask_mail.Mail):  # type: ignore[misc]
    """`flask_mail.Mail`, whose messages are submitted to the broker. A message is durable when `send` returns, and the broker sends it.

    The configuration has `SUNDOWN_PROFILE`, `SUNDOWN_SOCKET`, `SUNDOWN_TIMEOUT`, `SUNDOWN_START` and `SUNDOWN_PROGRAM`, as `sundown.connect` describes them, in
    place of MAIL_SERVER and the other keys of a server. All of a process share one logon, which is made at the first message of the process.
    """

    def init_app(self, app: Any) -> Any:
        """Prepares an application, as `flask_mail.Mail` does."""
        state: Any = super().init_app(app)
        options = {name: app.config[f"SUNDOWN_{name.upper()}"] for name in _OPTIONS if f"SUNDOWN_{name.upper()}" in app.config}
        state.outbox = _frameworks.outbox(app.config.get("SUNDOWN_PROGRAM", "flask"), app.config.get("SUNDOWN_PROFILE"), **options)
        # A program may also take the extension from the application, and send with it.
        state.connect = lambda: Connection(state)
        return state

    def connect(self) -> "Connection":
        """Gives a connection for several messages: `with mail.connect() as connection: connection.send(message)`."""
        app = getattr(self, "app", None) or current_app
        if "mail" not in app.extensions:
            raise RuntimeError("the application was not configured with Mail: call Mail(app), or mail.init_app(app)")
        return Connection(app.extensions["mail"])


class Connection(flask_mail.Connection):  # type: ignore[misc]
    """`flask_mail.Connection`, which submits to the broker."""

    def configure_host(self) -> "_Host":
        """What `flask_mail` sends with."""
        return _Host(self.mail.outbox)


class _Host:
    """The part of `smtplib.SMTP` that Flask-Mail uses."""

    def __init__(self, outbox: Outbox) -> None:
        self._outbox = outbox

    def sendmail(
        self, sender: str, recipients: Sequence[str], message: bytes, mail_options: Sequence[str] = (), rcpt_options: Sequence[str] = ()
    ) -> None:
        """Submits a message."""
        unknown = [option for option in (*mail_options, *rcpt_options) if option.lower() not in _NEEDLESS]
        if unknown:
            raise _errors.InvalidParameter(
                f"the options {', '.join(unknown)} are for an SMTP server; leave them out, or submit with sundown.Outbox and report=…",
                code="MAPI_E_INVALID_PARAMETER",
            )
        self._outbox.submit(_frameworks.without_hidden(message), sender=_frameworks.sender(sender), recipients=_frameworks.recipients(recipients))

    def quit(self) -> None:
        """Does nothing: the logon is kept for the next message of this process."""
