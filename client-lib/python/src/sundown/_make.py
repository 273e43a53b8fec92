"""Messages for short programs."""

from __future__ import annotations

from typing import TYPE_CHECKING, Optional, Sequence, Union

from . import _errors

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
    from email.message import EmailMessage

    message = EmailMessage()
    for name, value in (("From", sender), ("To", to), ("Cc", cc), ("Bcc", bcc)):
        if value is None and name == "To":
            raise _errors.InvalidType("to is None, and must be an address or a list of addresses", code="MAPI_E_INVALID_PARAMETER")
        if value:
            message[name] = value if isinstance(value, str) else ", ".join(value)
    message["Subject"] = _errors.string(subject, "subject")
    message.set_content(_errors.string(text, "text") + "\n")
    if html is not None:
        message.add_alternative(html, subtype="html")
    return message
