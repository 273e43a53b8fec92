"""Heads of messages and lists of addresses, read as all programs of Sundown read them (`protocol/mail`).

The module `email` reads them otherwise: it repairs what it reads, and leaves out an address that it cannot read. Here nothing that was written is left
out in silence: what is no address becomes a recipient all the same, and the broker refuses it by name.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Iterator, List, NamedTuple, Optional, Tuple, Union

from ._errors import InvalidType
from ._lazy import imports

if TYPE_CHECKING:
    from email.message import Message as AnyEmail

MAX_NAME = 998
"""The most bytes of a field's name and the blanks behind it."""
_MAX_SHOWN = 400
_FIELD = re.compile(rb"([!-9;-~]+)[ \t]*:")
_HIDDEN = re.compile(rb"(?:resent-)?bcc(?![!-9;-~])", re.IGNORECASE)
_BLANKS = b" \t\n\x0c\r"
_PLAIN = re.compile(rb"[A-Za-z0-9._+-]+@[A-Za-z0-9.-]+")


class Field(NamedTuple):
    """A field of a head: its name in lower case, and what stands behind the colon, with the lines that continue it."""

    name: bytes
    value: bytes


def fields(message: bytes) -> Iterator[Field]:
    """The fields of a message's head, which ends at an empty line or at the first line that is no field."""
    at, size = 0, len(message)
    while at < size:
        seen = message[at : at + MAX_NAME + 1]
        found = _FIELD.match(seen)
        if found:
            name, colon = found.group(1), found.end()
        else:
            # A colon may follow beyond what is looked at; a hidden field does not get through that way.
            hidden = _HIDDEN.match(seen)
            if not hidden or len(seen) <= MAX_NAME or seen[hidden.end() :].strip(b" \t"):
                return
            name = hidden.group(0)
            blanks = re.compile(rb"[ \t]*:?").match(message, at + len(name))
            colon = (blanks.end() if blanks else at) - at
        end = _end_of_line(message, at)
        while message[end : end + 1] in (b" ", b"\t"):
            end = _end_of_line(message, end)
        yield Field(name.lower(), message[at + colon : end])
        at = end


def _end_of_line(message: bytes, at: int) -> int:
    end = message.find(b"\n", at)
    return len(message) if end < 0 else end + 1


class Named(NamedTuple):
    """Whom a message names: the recipients of To, Cc and Bcc, and the address of From."""

    recipients: Tuple[str, ...]
    sender: Optional[str]
    has_from: bool


def named(message: bytes) -> Named:
    """Whom the fields of a message name. If it was resent, the fields of the resending count."""
    recipients: List[Optional[List[str]]] = [None, None]
    senders: List[Optional[str]] = [None, None]
    has_from = False
    for name, value in fields(message):
        again = name.startswith(b"resent-")
        plain = name[7:] if again else name
        if plain in (b"to", b"cc", b"bcc"):
            kept = recipients[again]
            if kept is None:
                kept = recipients[again] = []
            kept += addresses(value)
        elif plain == b"from":
            has_from |= not again
            if senders[again] is None:
                # Many a From has only a name, which is no reason to refuse the message.
                first = next(iter(addresses(value)), None)
                senders[again] = first if first is not None and is_address(first) else None
    if recipients[1] is not None:
        return Named(tuple(recipients[1]), senders[1] or senders[0], has_from)
    return Named(tuple(recipients[0] or ()), senders[0], has_from)


def in_front(message: bytes, name: str, value: str) -> bytes:
    """The message with a field in front of its head; a message without a head gets one."""
    first = message[: message.find(b"\n") + 1]
    end = b"\r\n" if first.endswith(b"\r\n") else b"\n"
    line = f"{name}: {value}".encode().replace(b"\r", b" ").replace(b"\n", b" ")
    begins = next(fields(message), None) is not None or message.startswith((b"\n", b"\r\n"))
    return line + end + (b"" if begins else end) + message


def bytes_of(message: Union[bytes, bytearray, memoryview, "AnyEmail"]) -> bytes:
    """The bytes of a message, as the store keeps them."""
    if isinstance(message, (bytes, bytearray, memoryview)):
        return bytes(message)
    as_bytes = getattr(message, "as_bytes", None)
    if as_bytes is None:
        kind = "None" if message is None else f"a value of type {type(message).__name__}"
        raise InvalidType(
            f"the message is {kind}; submit bytes or an email.message.EmailMessage (text: message.encode())", code="MAPI_E_INVALID_PARAMETER"
        )
    with imports:
        # What the message imports by itself.
        import email.generator  # noqa: F401
    made = as_bytes()
    return bytes(made)


def is_address(text: str) -> bool:
    """Whether a text is an address: `anna@example.org`, or `anna` for a user of this host."""
    if not text or text == '""' or len(text.encode("utf-8", "surrogatepass")) > 320:
        return False
    mailbox, at, domain = text.rpartition("@")
    if not at:
        mailbox, domain = text, ""
    if not mailbox or (at and not domain):
        return False
    quoted = _is_quoted(mailbox)
    if any(_is_control(c) or (not quoted and (c.isspace() or c in '()<>[]:;,@"\\')) for c in mailbox):
        return False
    return not at or _is_domain(domain)


def _is_control(c: str) -> bool:
    return c < " " or "\x7f" <= c <= "\x9f"


def _is_quoted(mailbox: str) -> bool:
    return re.fullmatch(r'"(?:[^"\\]|\\.)*"', mailbox, re.DOTALL) is not None


def _is_domain(text: str) -> bool:
    if re.fullmatch(r"\[[A-Za-z0-9.:-]+\]", text):
        return True
    labels = (text[:-1] if text.endswith(".") else text).split(".")

    def fits(c: str) -> bool:
        return (c.isascii() and (c.isalnum() or c in "-_")) or not (c.isascii() or c.isspace() or _is_control(c))

    plain = all(label and label[0] != "-" and label[-1] != "-" and all(map(fits, label)) for label in labels)
    return plain and len(text.encode("utf-8", "surrogatepass")) <= 255


def addresses(value: Union[str, bytes]) -> List[str]:
    """The addresses of a list, as To, Cc and Bcc have them. A word without a domain is a user of this host.

    Example:
        >>> addresses('Anna <anna@example.org>, friends: bo@localhost, "C, D" <cd@example.org>; root (the boss)')
        ['anna@example.org', 'bo@localhost', 'cd@example.org', 'root']
    """
    text = value.encode("utf-8", "surrogateescape") if isinstance(value, str) else value
    # Most lists are plain, and need no reader of every byte.
    plain = [part.strip(_BLANKS) for part in text.split(b",")]
    if all(map(_PLAIN.fullmatch, plain)):
        return [part.decode("ascii") for part in plain]
    found = (item.address() for item in _Reader(text))
    return [_shown(address) for address in found if address is not None]


def _shown(address: bytes) -> str:
    """Bytes that are no text are escaped: the address is refused then, rather than changed."""
    cut = address[:_MAX_SHOWN]
    try:
        return cut.decode()
    except UnicodeDecodeError as error:
        if error.end == len(cut) and len(cut) < len(address):
            return cut[: error.start].decode()
        return "".join(chr(b) if 32 <= b < 127 and b not in b"\\'\"" else _escaped(b) for b in cut)


def _escaped(byte: int) -> str:
    short = {9: "\\t", 10: "\\n", 13: "\\r", 34: '\\"', 39: "\\'", 92: "\\\\"}
    return short.get(byte, f"\\x{byte:02x}")


class _Item:
    """What stands between two commas."""

    def __init__(self) -> None:
        self.raw = bytearray()
        self.words = bytearray()
        self.angle: Optional[bytes] = None
        self.broken = False

    def word(self, part: bytes, whole: bool) -> None:
        self.raw += part
        self.words += part
        self.broken |= not whole or self.angle is not None

    def byte(self, byte: int) -> None:
        self.raw.append(byte)
        self.words.append(byte)
        # Nothing but comments may follow the brackets.
        self.broken |= self.angle is not None and byte not in _BLANKS

    def comment(self, part: bytes, whole: bool) -> None:
        self.raw += part
        self.broken |= not whole
        # It separates words as a space does.
        self.words += b" "

    def bracket(self, part: bytes, whole: bool) -> None:
        if whole:
            self.broken |= self.angle is not None
            self.angle = part
            self.raw += b"<" + part + b">"
        else:
            self.raw += part
            self.broken = True

    def names_a_group(self) -> bool:
        return self.angle is None and not _has_bare_at(bytes(self.words))

    def address(self) -> Optional[bytes]:
        return _address_of(self)


class _Reader:
    """The items of a list."""

    def __init__(self, text: bytes) -> None:
        self.text = text
        self.at = 0
        self.in_group = False

    def __iter__(self) -> Iterator[_Item]:
        while self.at < len(self.text):
            yield self._item()

    def _item(self) -> _Item:
        item = _Item()
        while self.at < len(self.text):
            byte = self.text[self.at]
            self.at += 1
            if byte == 0x2C:  # ,
                break
            if byte == 0x3B:  # ;
                self.in_group = False
                break
            if byte == 0x3A and not self.in_group and item.names_a_group():  # :
                self.in_group = True
                item = _Item()
            elif byte == 0x28:  # (
                item.comment(*self._comment())
            elif byte == 0x22:  # "
                item.word(*self._delimited(0x22, 0x22))
            elif byte == 0x5B:  # [
                item.word(*self._delimited(0x5B, 0x5D))
            elif byte == 0x3C:  # <
                item.bracket(*self._angle())
            elif byte == 0x5C:  # \
                item.word(self._escaped(), True)
            else:
                item.byte(byte)
        return item

    def _next(self) -> Optional[int]:
        if self.at >= len(self.text):
            return None
        self.at += 1
        return self.text[self.at - 1]

    def _escaped(self) -> bytes:
        """A backslash and what it protects."""
        byte = self._next()
        return b"\\" if byte is None else bytes((0x5C, byte))

    def _delimited(self, begin: int, end: int) -> Tuple[bytes, bool]:
        """A quoted word, or a domain literal, with what encloses it."""
        part = bytearray((begin,))
        while True:
            byte = self._next()
            if byte is None:
                return bytes(part), False
            follows = self.text[self.at : self.at + 1]
            if byte == 0x5C:
                part += self._escaped()
            elif (byte == 0x0D and follows == b"\n") or (byte in b"\r\n" and follows in (b" ", b"\t")):
                pass  # a folded line
            else:
                part.append(byte)
            if byte == end:
                return bytes(part), True

    def _comment(self) -> Tuple[bytes, bool]:
        """A comment, which may have comments in it."""
        part, depth = bytearray(b"("), 1
        while True:
            byte = self._next()
            if byte is None:
                return bytes(part), False
            if byte == 0x5C:
                part += self._escaped()
                continue
            depth += (byte == 0x28) - (byte == 0x29)
            part.append(byte)
            if not depth:
                return bytes(part), True

    def _angle(self) -> Tuple[bytes, bool]:
        """What is in angle brackets, without them and without comments."""
        part = bytearray()
        while True:
            byte = self._next()
            if byte is None:
                return b"<" + bytes(part), False
            if byte == 0x3E:
                return bytes(part), True
            if byte == 0x22:
                part += self._delimited(0x22, 0x22)[0]
            elif byte == 0x28:
                comment, whole = self._comment()
                part += b"" if whole else comment
            elif byte == 0x5C:
                part += self._escaped()
            else:
                part.append(byte)


def _address_of(item: _Item) -> Optional[bytes]:
    """The address of an item; `None` if there is only a comment, an empty group, or nothing."""
    raw, words = bytes(item.raw).strip(_BLANKS), bytes(item.words).strip(_BLANKS)
    if item.broken:
        return raw
    # Empty brackets alone name no recipient; a name with them lacks its address.
    if item.angle is not None and not item.angle.strip(_BLANKS) and words:
        return raw
    written = bytes(item.words)
    if item.angle is not None:
        written = item.angle.strip(_BLANKS)
        if written.startswith(b"@") and b":" in written:
            # A route, which is out of use and means nothing.
            written = written[written.index(b":") + 1 :]
    spec = _without_spaces(written)
    return _unquoted(spec) if spec else None


def _quotes(words: bytes) -> Iterator[Tuple[int, bool, bool]]:
    """Each byte; whether it is within quotes or ends some; and whether it was within quotes before."""
    quoted = escaped = False
    for byte in words:
        before = quoted
        quoted ^= byte == 0x22 and not escaped
        escaped = byte == 0x5C and not escaped
        yield byte, quoted, before


def _has_bare_at(words: bytes) -> bool:
    """Whether there is an @ outside quotes."""
    return any(byte == 0x40 and not before for byte, _, before in _quotes(bytes(words)))


def _without_spaces(written: bytes) -> bytes:
    """An address without the white space that may stand around its dots and its @. Other white space stays, and makes it no address."""
    written = written.strip(_BLANKS)
    # Without an @ it is a name that was written without an address, and must not become a user of this host.
    is_spec = b"@" in written
    spec = bytearray()
    for byte, quoted, _ in _quotes(written):
        if quoted or byte not in _BLANKS:
            if is_spec and not quoted and byte in b".@" and spec.endswith(b" "):
                spec.pop()
            spec.append(byte)
        elif not spec.endswith(b" ") and not (is_spec and spec.endswith((b".", b"@"))):
            spec += b" "
    return bytes(spec)


def _unquoted(spec: bytes) -> bytes:
    """A user of this host without quotes: `"anna"` is anna, and `"Anna Smith"` is a name and no user."""
    if len(spec) > 2 and spec[:1] == spec[-1:] == b'"' and b"@" not in spec:
        try:
            return spec[1:-1] if _is_quoted(spec.decode()) else spec
        except UnicodeDecodeError:
            return spec
    return spec
