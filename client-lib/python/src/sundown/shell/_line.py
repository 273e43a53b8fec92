"""A line of input: words, `key=value`, quotes, comments; and behind some lines the bytes of a message."""

from __future__ import annotations

from typing import Callable, Dict, Optional, Union

from .. import _errors

UNASKED = 100 << 20
"""How many bytes of a message are read without asking the broker for its limit: its limit where settings say nothing else."""


def invalid(why: str) -> _errors.InvalidParameter:
    """The error of an unknown or incomplete command."""
    return _errors.InvalidParameter(why, code="MAPI_E_INVALID_PARAMETER")


class Words:
    """The words of a command: its name and its arguments. Each command takes its own, and one that is left is an error."""

    def __init__(self, line: str) -> None:
        split = _split(line)
        self.command = split.pop(0) if split else ""
        self._arguments: Dict[str, Optional[str]] = {}
        for word in split:
            key, equals, value = word.partition("=")
            if key in self._arguments:
                raise invalid(f"{key} is given twice")
            self._arguments[key] = value if equals else None

    def __bool__(self) -> bool:
        return bool(self.command or self._arguments)

    def look(self, key: str) -> Optional[str]:
        """The value of a key, which is not taken."""
        return self._arguments.get(key)

    def value(self, key: str) -> Optional[str]:
        """Takes the value of `key=value`."""
        if key not in self._arguments:
            return None
        value = self._arguments.pop(key)
        if value is None:
            raise invalid(f"{key} takes a value: {key}=…")
        return value

    def needed(self, key: str) -> str:
        """Takes a value that is required."""
        value = self.value(key)
        if value is None:
            raise invalid(f"{self.command} needs {key}=…")
        return value

    def flag(self, key: str) -> bool:
        """Takes a word without a value."""
        if key not in self._arguments:
            return False
        if self._arguments.pop(key) is not None:
            raise invalid(f"{key} takes no value")
        return True

    def end(self) -> None:
        """Raises if an argument was not taken."""
        for key in sorted(self._arguments):
            raise invalid(f"{self.command} does not take {key}")


def _split(line: str) -> "list[str]":
    """Splits a line at white space. Quotes keep a value together, and a backslash takes the next character as it is."""
    split, word, quoted = [], None, False
    characters = iter(line)
    for c in characters:
        if c == '"':
            quoted = not quoted
            word = word or ""
        elif c == "\\":
            word = (word or "") + next(characters, "")
        elif c.isspace() and not quoted:
            if word is not None:
                split.append(word)
            word = None
        elif c == "#" and word is None and not split:
            break
        else:
            word = (word or "") + c
    if quoted:
        raise invalid("a quote is not closed")
    if word is not None:
        split.append(word)
    return split


class Given:
    """A command, or why its line is none; and the bytes that came behind the line, or why they were not taken."""

    def __init__(self, words: Union[Words, _errors.Error], body: Union[bytes, _errors.Error, None]) -> None:
        self.words = words
        self.body = body


class Input:
    """Reads commands. `more` waits for bytes, and returns none at the end."""

    def __init__(self, more: Callable[[], bytes], largest: Callable[[], Optional[int]]) -> None:
        self._more = more
        self._largest = largest
        self._have = bytearray()
        self._over = False

    def next(self) -> Optional[Given]:
        """The next command; `None` at the end of the input, and where it ends within a message.

        Behind a line with `size=N` N bytes are read whatever the line is: if they stayed they would be commands.
        """
        at = 0
        while True:
            end = self._have.find(b"\n", at)
            if end >= 0 or self._over:
                break
            at = len(self._have)
            self._fill()
        if end < 0 and not self._have:
            return None
        line = bytes(self._have[: end if end >= 0 else len(self._have)]).decode(errors="replace")
        del self._have[: end + 1 if end >= 0 else len(self._have)]
        words: Union[Words, _errors.Error]
        try:
            words = Words(line)
            size = words.look("size")
        except _errors.Error as error:
            # It cannot be divided into words, and may have meant to have a message behind it.
            words = error
            size = next((word[5:] for word in reversed(line.split()) if word.startswith("size=")), None)
        if size is None or not (size.isascii() and size.isdigit()) or int(size) >= 1 << 64:
            return Given(words, None)
        body = self._body(int(size))
        return None if body is None else Given(words, body)

    def _fill(self) -> None:
        more = self._more()
        self._have += more
        self._over = not more

    def _body(self, size: int) -> Union[bytes, _errors.Error, None]:
        """This many bytes; `None` if the input ends before. Of a message that is longer than the broker takes all are read and dropped."""
        limit = UNASKED
        if size > UNASKED:
            limit = max(self._largest() or UNASKED, UNASKED)
        if size <= limit:
            while len(self._have) < size and not self._over:
                self._fill()
            if len(self._have) < size:
                return None
            body = bytes(self._have[:size])
            del self._have[:size]
            return body
        left = size
        while True:
            dropped = min(left, len(self._have))
            del self._have[:dropped]
            left -= dropped
            if not left:
                why = f"it is longer than {limit} bytes, the broker's limit (limits.message)"
                return _errors.refused(f"cannot take the message: {why}", "MAPI_E_TOO_BIG")
            if self._over:
                return None
            self._fill()
