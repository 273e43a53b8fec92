"""Messages for short programs."""

from __future__ import annotations

from typing import TYPE_CHECKING, Optional, Sequence, Union

from . import _errors
from ._lazy import imports

if TYPE_CHECKING:
    from email.message import EmailMessage


def email(
    to: Union[str, Sequence[str]],
    *,
    subject: str = "",
    text: str = "",
    html: Optional[str] = None,
    sender: Optional[str] = None,
    cc: Union[str, Sequence[str]] = (),
    bcc: Union[str, Sequence[str]] = (),
) -> "EmailMessage":
    """Makes an `email.message.EmailMessage`, to which attachments can be added. Without a sender it is from the profile's identity.

    Example:
        >>> email("anna@localhost", subject="Report", text="All is well.")["To"]
        'anna@localhost'
    """
    with imports:
        # A message imports these by itself, later.
        import email.generator
        import email.policy
        from email.message import EmailMessage

    message = EmailMessage()
    fields = [("From", None if sender is None else _errors.string(sender, "sender"))]
    for name, value in (("To", to), ("Cc", cc), ("Bcc", bcc)):
        fields.append((name, value if isinstance(value, str) else ", ".join(_errors.strings(value, name.lower()))))
    with _errors.arguments():
        for name, field in fields:
            if field:
                message[name] = field
        message["Subject"] = _errors.string(subject, "subject")
        message.set_content(_errors.string(text, "text") + "\n")
        if html is not None:
            message.add_alternative(_errors.string(html, "html"), subtype="html")
    return message
