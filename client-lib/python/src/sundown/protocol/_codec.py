"""Bytes of records: a reader and a writer for each class, put together from its annotations when it is first used.

The words of annotations are those of PROTOCOL.md: `u8` to `u128`, `bool`, `str`, `bytes`, `Bytes4` and `Bytes16`, `Optional[…]`, `Tuple[…, ...]`,
and the names of records, enums and `Choice`s of the declaring module. This module has no word about any single message.
"""

from __future__ import annotations

import struct
import sys
from enum import Enum
from typing import Any, Callable, Dict, List, Tuple, Type, TypeVar, Union

from ._record import Choice, Record

MAX_PAYLOAD = 1 << 20
"""The largest payload of a frame, in bytes."""
MIN_PAYLOAD = 4
"""The smallest payload of a frame, in bytes."""
MAX_BLOB = 256 << 10
"""The most bytes of a message's body in one frame."""

_R = TypeVar("_R", bound=Record)

Reader = Callable[[bytes, int], Tuple[Any, int]]
"""Reads a value at a place. Returns it and the place behind it."""
Writer = Callable[[bytearray, Any], None]
"""Appends a value."""


class Malformed(ValueError):
    """Bytes that are no message of the protocol, or a value that has no bytes. The text says which."""


class WrongType(Malformed, TypeError):
    """A value of another type than its field has, as `None` for a string."""


class TooLong(Malformed):
    """A message that does not fit into a frame."""


def _short() -> Malformed:
    return Malformed("bytes are missing at the end of a message")


_WIDTHS = {"u8": "B", "u16": "H", "u32": "I", "u64": "Q"}


def _integer(word: str) -> Tuple[Reader, Writer]:
    form = struct.Struct("<" + _WIDTHS[word])
    unpack, pack, size = form.unpack_from, form.pack, form.size

    def read(data: bytes, at: int) -> Tuple[Any, int]:
        try:
            return unpack(data, at)[0], at + size
        except struct.error:
            raise _short() from None

    def write(out: bytearray, value: Any) -> None:
        try:
            out += pack(value)
        except struct.error:
            raise _no_number(word, value) from None

    return read, write


def _no_number(word: str, value: Any) -> Malformed:
    if isinstance(value, int):
        return Malformed(f"{value} does not fit into {word}")
    return WrongType(f"{value!r} is no whole number")


_TWO = struct.Struct("<QQ")
_HALF = (1 << 64) - 1


def _read_u128(data: bytes, at: int) -> Tuple[Any, int]:
    try:
        low, high = _TWO.unpack_from(data, at)
    except struct.error:
        raise _short() from None
    return high << 64 | low, at + 16


def _write_u128(out: bytearray, value: Any) -> None:
    try:
        out += _TWO.pack(value & _HALF, value >> 64)
    except (struct.error, TypeError):
        raise _no_number("u128", value) from None


def _read_bool(data: bytes, at: int) -> Tuple[Any, int]:
    byte = data[at : at + 1]
    if byte == b"\0":
        return False, at + 1
    if byte == b"\1":
        return True, at + 1
    raise Malformed(f"{byte[0]} is neither true nor false") if byte else _short()


def _write_bool(out: bytearray, value: Any) -> None:
    if not isinstance(value, bool):
        raise WrongType(f"{value!r} is neither True nor False")
    out.append(value)


_LENGTH = struct.Struct("<Q")


def _read_length(data: bytes, at: int) -> Tuple[int, int]:
    """A number of bytes or items. Each item has at least a byte, so a larger number cannot be true, and takes no memory here."""
    try:
        length: int = _LENGTH.unpack_from(data, at)[0]
    except struct.error:
        raise _short() from None
    if length > len(data) - at - 8:
        raise _short()
    return length, at + 8


def _read_bytes(data: bytes, at: int) -> Tuple[Any, int]:
    length, at = _read_length(data, at)
    return bytes(data[at : at + length]), at + length


def _write_bytes(out: bytearray, value: Any) -> None:
    if not isinstance(value, (bytes, bytearray, memoryview)):
        raise WrongType(f"{_kind(value)} where bytes are needed")
    out += _LENGTH.pack(len(value))
    out += value


def _read_string(data: bytes, at: int) -> Tuple[Any, int]:
    length, at = _read_length(data, at)
    try:
        return data[at : at + length].decode(), at + length
    except UnicodeDecodeError:
        raise Malformed("a string is not UTF-8") from None


def _write_string(out: bytearray, value: Any) -> None:
    if not isinstance(value, str):
        raise WrongType(f"{_kind(value)} where a string is needed")
    try:
        text = value.encode()
    except UnicodeEncodeError:
        raise Malformed("a string has half of a surrogate pair, which has no UTF-8") from None
    out += _LENGTH.pack(len(text))
    out += text


def _kind(value: object) -> str:
    return "None" if value is None else f"a value of type {type(value).__name__}"


def _fixed(length: int) -> Tuple[Reader, Writer]:
    def read(data: bytes, at: int) -> Tuple[Any, int]:
        if len(data) - at < length:
            raise _short()
        return bytes(data[at : at + length]), at + length

    def write(out: bytearray, value: Any) -> None:
        if not isinstance(value, bytes) or len(value) != length:
            raise WrongType(f"{value!r} is not {length} bytes")
        out += value

    return read, write


def _optional(inner: Tuple[Reader, Writer]) -> Tuple[Reader, Writer]:
    read_inner, write_inner = inner

    def read(data: bytes, at: int) -> Tuple[Any, int]:
        there, at = _read_bool(data, at)
        return read_inner(data, at) if there else (None, at)

    def write(out: bytearray, value: Any) -> None:
        if value is None:
            out.append(0)
        else:
            out.append(1)
            write_inner(out, value)

    return read, write


def _list(inner: Tuple[Reader, Writer]) -> Tuple[Reader, Writer]:
    read_inner, write_inner = inner

    def read(data: bytes, at: int) -> Tuple[Any, int]:
        length, at = _read_length(data, at)
        items: List[Any] = []
        for _ in range(length):
            item, at = read_inner(data, at)
            items.append(item)
        return tuple(items), at

    def write(out: bytearray, value: Any) -> None:
        if not isinstance(value, (tuple, list)):
            raise WrongType(f"{_kind(value)} where a list is needed")
        out += _LENGTH.pack(len(value))
        for item in value:
            write_inner(out, item)

    return read, write


_TAG = struct.Struct("<I")


def _words(words: Type[Enum]) -> Tuple[Reader, Writer]:
    """An enum without fields: the place of the member is its tag."""
    members = list(words)
    tags = {member: _TAG.pack(tag) for tag, member in enumerate(members)}

    def read(data: bytes, at: int) -> Tuple[Any, int]:
        try:
            tag = _TAG.unpack_from(data, at)[0]
        except struct.error:
            raise _short() from None
        if tag >= len(members):
            raise Malformed(f"{words.__name__} has no variant {tag}")
        return members[tag], at + 4

    def write(out: bytearray, value: Any) -> None:
        try:
            out += tags[words(value)]
        except ValueError:
            raise Malformed(f"{value!r} is none of {', '.join(str(m.value) for m in members)}") from None

    return read, write


def _choice(choice: Type[Choice]) -> Tuple[Reader, Writer]:
    variants = choice.variants
    readers: Dict[int, Reader] = {}

    def read(data: bytes, at: int) -> Tuple[Any, int]:
        try:
            tag = _TAG.unpack_from(data, at)[0]
        except struct.error:
            raise _short() from None
        found = readers.get(tag)
        if found is None:
            if tag not in variants.by_tag:
                raise Malformed(f"{variants.name} has no variant {tag}")
            found = readers[tag] = _fields(variants.by_tag[tag])[0]
        return found(data, at + 4)

    def write(out: bytearray, value: Any) -> None:
        if not isinstance(value, choice):
            raise WrongType(f"{_kind(value)} where a variant of {variants.name} is needed")
        out += _TAG.pack(value.tag)
        _fields(type(value))[1](out, value)

    return read, write


_KNOWN: Dict[type, Tuple[Reader, Writer]] = {}


def _fields(record: Type[Record]) -> Tuple[Reader, Writer]:
    """The fields of a record, one after the other."""
    known = _KNOWN.get(record)
    if known is None:
        known = _KNOWN[record] = _assemble(record)
    return known


def _assemble(record: Type[Record]) -> Tuple[Reader, Writer]:
    annotations: Dict[str, Tuple[str, Any]] = {}
    for base in reversed(record.__mro__):
        module = sys.modules.get(base.__module__)
        for name, text in base.__dict__.get("__annotations__", {}).items():
            if name in record._names:
                annotations[name] = (text, module)
    names = record._names
    pairs = [_resolve(*annotations[name]) for name in names]
    readers = tuple(pair[0] for pair in pairs)
    writers = tuple((name, pair[1]) for name, pair in zip(names, pairs))
    new = record.__new__

    def read(data: bytes, at: int) -> Tuple[Any, int]:
        made = new(record)
        fields = made.__dict__
        for name, reader in zip(names, readers):
            fields[name], at = reader(data, at)
        return made, at

    def write(out: bytearray, value: Any) -> None:
        if not isinstance(value, record):
            raise WrongType(f"{_kind(value)} where {record.__name__} is needed")
        fields = value.__dict__
        for name, writer in writers:
            try:
                writer(out, fields[name])
            except Malformed as error:
                raise type(error)(f"{name}: {error}") from None

    return read, write


_BASIC: Dict[str, Tuple[Reader, Writer]] = {
    "u128": (_read_u128, _write_u128),
    "bool": (_read_bool, _write_bool),
    "str": (_read_string, _write_string),
    "bytes": (_read_bytes, _write_bytes),
}


def _basic(word: str) -> Tuple[Reader, Writer]:
    if word not in _BASIC:
        _BASIC[word] = _integer(word) if word in _WIDTHS else _fixed(int(word[len("Bytes") :]))
    return _BASIC[word]


def _resolve(text: str, module: Any) -> Tuple[Reader, Writer]:
    """The reader and the writer of an annotation."""
    text = text.strip()
    if text.startswith("Optional["):
        return _optional(_resolve(text[len("Optional[") : -1], module))
    if text.startswith("Tuple["):
        return _list(_resolve(text[len("Tuple[") : -1].rsplit(",", 1)[0], module))
    if text in _BASIC or text in _WIDTHS or text.startswith("Bytes"):
        return _basic(text)
    return of(getattr(module, text))


def of(declared: type) -> Tuple[Reader, Writer]:
    """The reader and the writer of a record, an enum or a `Choice`."""
    if declared in _KNOWN:
        return _KNOWN[declared]
    if issubclass(declared, Choice):
        if "tag" in declared.__dict__:
            return _fields(declared)
        # Known before its variants are read, because one of them may contain it.
        made = _KNOWN[declared] = _choice(declared)
        return made
    if issubclass(declared, Record):
        return _fields(declared)
    if issubclass(declared, Enum):
        return _KNOWN.setdefault(declared, _words(declared))
    raise TypeError(f"{declared.__name__} is no record and no enum")


def decode(declared: type, payload: bytes) -> Any:
    """Reads a payload that is this record or enum. `Malformed` if it is something else, or more."""
    value, end = of(declared)[0](payload, 0)
    if end != len(payload):
        raise Malformed(f"{len(payload) - end} bytes stand behind the end of a message")
    return value


def encode(declared: type, value: Any) -> bytearray:
    """A whole frame with this value: its length and its payload."""
    out = bytearray(4)
    of(declared)[1](out, value)
    size = len(out) - 4
    if size > MAX_PAYLOAD:
        raise TooLong(f"a message of {size:,} bytes does not fit into a frame, which has at most {MAX_PAYLOAD:,}")
    _TAG.pack_into(out, 0, size)
    return out


def length_of(frame: Union[bytes, bytearray], at: int = 0) -> int:
    """The length of the payload of the frame that begins there, of which the first four bytes must be there."""
    length: int = _TAG.unpack_from(frame, at)[0]
    if not MIN_PAYLOAD <= length <= MAX_PAYLOAD:
        raise Malformed(f"a frame says that it has {length:,} bytes; {MIN_PAYLOAD} to {MAX_PAYLOAD:,} are possible")
    return length
