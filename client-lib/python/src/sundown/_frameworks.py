"""What the modules for web frameworks share: a process' outboxes, and the envelope of a framework's message."""

from __future__ import annotations

import atexit
import re
from typing import TYPE_CHECKING, Any, Dict, Iterable, List, Optional, Tuple

from . import Outbox, _errors, _mail, within

if TYPE_CHECKING:
    from email.message import Message as AnyEmail

LAST = 2.0
"""For how many seconds the end of a process waits for the logoff."""

_HIDDEN = re.compile(rb"^(?:resent-)?bcc[ \t]*:.*\n?(?:[ \t].*\n?)*", re.IGNORECASE | re.MULTILINE)
_END_OF_HEAD = re.compile(rb"\n\r?\n")

_outboxes: "Dict[Tuple[Any, ...], Outbox]" = {}


def outbox(program: str, profile: Optional[str], **options: Any) -> Outbox:
    """The outbox with these options, which all of a process share: frameworks make an object for each message, and a logon for each would double its cost."""
    key = (program, profile, *sorted(options.items()))
    found = _outboxes.get(key)
    if found is None:
        if not _outboxes:
            atexit.register(_close)
        found = _outboxes.setdefault(key, Outbox(program, profile, **options))
    return found


def _close() -> None:
    """Logs off at the end of the process. Everything that was submitted is durable, so a failure changes nothing."""
    for one in _outboxes.values():
        try:
            with within(LAST):
                one.close()
        except _errors.Error:
            pass


def bare(text: object, what: str) -> List[str]:
    """The addresses in a text such as `Anna <anna@example.org>`. A domain beyond ASCII gets its ASCII form, which every server takes."""
    return [_ascii_domain(address) for address in _mail.addresses(_errors.string(text, what))]


def sender(text: object) -> Optional[str]:
    """The one address of a sender; `None` if the text has none, which stands for the profile's identity."""
    found = bare(text, "the sender")
    if len(found) > 1:
        raise _errors.InvalidParameter(
            f"the sender has {len(found)} addresses: {', '.join(found)}; give one", code="MAPI_E_INVALID_PARAMETER"
        )
    return found[0] if found else None


def recipients(texts: Iterable[object]) -> List[str]:
    """The addresses of all recipients, each once."""
    found = [address for text in texts for address in bare(text, "a recipient")]
    return list(dict.fromkeys(found))


def hide(message: "AnyEmail") -> None:
    """Removes the fields that only the sender may see."""
    for name in ("Bcc", "Resent-Bcc"):
        del message[name]


def without_hidden(message: bytes) -> bytes:
    """The same for the bytes of a message."""
    end = _END_OF_HEAD.search(message)
    head = message[: end.end()] if end else message
    return _HIDDEN.sub(b"", head) + message[len(head) :]


def _ascii_domain(address: str) -> str:
    mailbox, at, domain = address.rpartition("@")
    if not at or domain.isascii() or not mailbox.isascii():
        # A mailbox beyond ASCII needs a server with SMTPUTF8 in any case.
        return address
    try:
        return f"{mailbox}@{domain.encode('idna').decode('ascii')}"
    except UnicodeError:
        return address
