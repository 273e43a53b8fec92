"""The errors of this library: what happened, to what, and what to do; and MAPI's code for it."""

from __future__ import annotations

import contextlib
from typing import Iterable, Iterator, Optional, Tuple, Type, Union

from .protocol import Malformed, TooLong, WrongType, codes
from .protocol.types import (
    AddressesDetail,
    EntriesDetail,
    EntryId,
    Fault,
    FaultDetail,
    HoldersDetail,
    NoDetail,
    OwnerDetail,
    Peer,
    ProvidersDetail,
)


class Error(Exception):
    """Base of all errors of this library. Its text says what happened, to what, and what to do.

    Attributes:
        code: MAPI's name, as `"MAPI_E_NOT_FOUND"`.
        hresult: its number, as `0x8004010F`.
        outcome_unknown: whether the request may have been carried out although it failed. Repeat it if it has a key, or look.
        correlation: the refused request in the broker's log, as `"3f2a91bc-12"`; `None` if the broker did not refuse it.

    Example:
        >>> raise Refused("there is no profile work", code="MAPI_E_NOT_FOUND")
        Traceback (most recent call last):
        sundown._errors.Refused: there is no profile work (MAPI_E_NOT_FOUND 0x8004010F)
    """

    code: str
    hresult: int
    outcome_unknown = False

    def __init__(
        self,
        message: str,
        *,
        code: Union[str, int] = "MAPI_E_CALL_FAILED",
        detail: FaultDetail = NoDetail(),
        correlation: Optional[str] = None,
    ) -> None:
        super().__init__(message)
        self.message = message
        self.hresult = codes.NUMBERS[code] if isinstance(code, str) else code
        self.code = codes.name_of(self.hresult)
        self.detail = detail
        self.correlation = correlation
        self._asked = False
        """Whether the broker may have received the request."""
        self._repeated = False
        """Whether the request was a repeat: the first one may have been carried out."""
        self._gave_up = False
        """Whether the caller's limit ended the wait."""

    def __str__(self) -> str:
        return f"{self.message} ({self.code} {codes.text_of(self.hresult)})"

    @property
    def owner(self) -> Optional[Peer]:
        """The process that owns the shared session, if a shared logoff is refused."""
        return self.detail.owner if isinstance(self.detail, OwnerDetail) else None

    @property
    def providers(self) -> Tuple[str, ...]:
        """The providers that refuse a fast shutdown, or did not answer in time."""
        return self.detail.providers if isinstance(self.detail, ProvidersDetail) else ()

    @property
    def holders(self) -> Tuple[Peer, ...]:
        """The processes that hold references, if a logoff or a fast shutdown cannot go on because of them."""
        return self.detail.holders if isinstance(self.detail, HoldersDetail) else ()

    @property
    def addresses(self) -> Tuple[str, ...]:
        """Addresses that are not valid, or that no transport takes."""
        return self.detail.addresses if isinstance(self.detail, AddressesDetail) else ()

    @property
    def entries(self) -> Tuple[EntryId, ...]:
        """Entries that were accepted and could not be made durable."""
        return self.detail.entries if isinstance(self.detail, EntriesDetail) else ()


class Temporary(Error):
    """The same call may succeed later: a quota is used up, a disk is full, the broker restarts."""


class Timeout(Temporary, TimeoutError):
    """The call took longer than it may (`MAPI_E_TIMEOUT`)."""


class Refused(Error):
    """The broker or a provider refuses the request; it would refuse it again."""


class InvalidParameter(Refused, ValueError):
    """An argument is wrong (`MAPI_E_INVALID_PARAMETER`)."""


class InvalidType(InvalidParameter, TypeError):
    """An argument has a wrong type, as `None` where a string is needed."""


class EndOfSession(Error):
    """The session is over: log on again, or leave (`MAPI_E_END_OF_SESSION`).

    Attributes:
        by: the process that ended the session, if a process did.
        grace: for how many seconds members could stay after the end; `None` without a limit, or if it is not known.
    """

    def __init__(self, message: str, *, by: Optional[Peer] = None, grace: Optional[float] = None, **keywords: object) -> None:
        super().__init__(message, code="MAPI_E_END_OF_SESSION", **keywords)  # type: ignore[arg-type]
        self.by = by
        self.grace = grace


class Disconnected(Error, ConnectionError):
    """There is no broker, or it does not answer, or it went away and did not come back."""


class ForkedError(Error):
    """The object belongs to the parent of this process: connect in this process, or use an `Outbox` (`MAPI_E_NOT_INITIALIZED`)."""

    def __init__(self, what: str) -> None:
        super().__init__(
            f"{what} belongs to the process that this one was forked from; call sundown.connect in this process, or use sundown.Outbox",
            code="MAPI_E_NOT_INITIALIZED",
        )


_TEMPORARY = {
    codes.NUMBERS[name]
    for name in ("MAPI_E_BUSY", "MAPI_E_WAIT", "MAPI_E_NETWORK_ERROR", "MAPI_E_NOT_ENOUGH_DISK", "MAPI_E_NOT_ENOUGH_RESOURCES")
}
_TIMEOUT = codes.NUMBERS["MAPI_E_TIMEOUT"]
_INVALID = codes.NUMBERS["MAPI_E_INVALID_PARAMETER"]
_END = codes.NUMBERS["MAPI_E_END_OF_SESSION"]


def of_fault(fault: Fault, correlation: Optional[str] = None) -> Error:
    """The error of a broker's fault."""
    if fault.code == _END:
        return EndOfSession(fault.message, detail=fault.detail, correlation=correlation)
    kind: Type[Error] = Refused
    if fault.code == _TIMEOUT:
        kind = Timeout
    elif fault.code == _INVALID:
        kind = InvalidParameter
    elif fault.code in _TEMPORARY:
        kind = Temporary
    return kind(fault.message, code=fault.code, detail=fault.detail, correlation=correlation)


def refused(message: str, code: str) -> Error:
    """An error with this code."""
    return of_fault(Fault(codes.NUMBERS[code], message))


def disconnected(why: str, *, asked: bool) -> Disconnected:
    """The connection ended; `asked` says whether the broker may have the request."""
    error = Disconnected(f"the connection to the broker ended: {why}; the next call connects again", code="MAPI_E_END_OF_SESSION")
    error._asked = asked
    return error


def unreachable(what: str, code: str = "MAPI_E_NETWORK_ERROR") -> Disconnected:
    """No broker can be reached."""
    return Disconnected(what, code=code)


def gave_up(*, asked: bool = False) -> Timeout:
    """The caller's limit is over; `asked` says whether the broker may have the request."""
    error = Timeout("the call has taken longer than the program lets it; it has the time of connect(timeout=…) or within(…)", code="MAPI_E_TIMEOUT")
    error._gave_up, error._asked = True, asked
    return error


def unknown(error: Error) -> Error:
    """The same failure of a request of which it is not known whether it was carried out."""
    text = f"whether it was done is not known: {error.message}"
    made: Error
    made = Timeout(text, code="MAPI_E_TIMEOUT") if error._gave_up else Disconnected(text, code="MAPI_E_NETWORK_ERROR")
    made.outcome_unknown = True
    made.__cause__ = error
    return made


def is_dead_handle(error: Error) -> bool:
    """Whether the object, the session or the library takes no calls."""
    return error.code in ("MAPI_E_INVALID_OBJECT", "MAPI_E_NOT_INITIALIZED")


def unexpected(why: str = "the broker answered with something else than it was asked for", *, harmless: bool = False) -> Error:
    """The error of an answer that is none: of another kind, or with impossible contents. `harmless` says whether the request changes nothing."""
    error = Disconnected(f"{why}; what listens is no broker that this library knows: `sundown doctor` looks at it", code="MAPI_E_CORRUPT_DATA")
    error.outcome_unknown = not harmless
    return error


def shown(value: object) -> str:
    """An argument as an error shows it."""
    text = repr(value)
    return text if len(text) <= 80 else text[:77] + "..."


def argument(error: Malformed) -> InvalidParameter:
    """The error of an argument that has no bytes on the wire."""
    kind = InvalidType if isinstance(error, WrongType) else InvalidParameter
    return kind(str(error), code="MAPI_E_TOO_BIG" if isinstance(error, TooLong) else "MAPI_E_INVALID_PARAMETER")


@contextlib.contextmanager
def arguments() -> Iterator[None]:
    """Turns what the codec says of a value into the error of a wrong argument."""
    try:
        yield
    except Malformed as error:
        raise argument(error) from None
    except Error:
        raise
    except (AttributeError, TypeError) as error:
        raise InvalidType(f"an argument has a wrong type: {error}", code="MAPI_E_INVALID_PARAMETER") from None
    except ValueError as error:
        raise InvalidParameter(f"an argument is wrong: {error}", code="MAPI_E_INVALID_PARAMETER") from None


def flag(value: object, name: str) -> bool:
    """The argument of that name, which must be `True` or `False`: a word would be one of them whatever it says."""
    if isinstance(value, bool):
        return value
    raise InvalidType(f"{name} is {shown(value)}, and must be True or False", code="MAPI_E_INVALID_PARAMETER")


def strings(value: object, name: str) -> Tuple[str, ...]:
    """The argument of that name, which must be a list of strings."""
    if isinstance(value, Iterable) and not isinstance(value, (str, bytes, bytearray)):
        items = tuple(value)
        for item in items:
            if not isinstance(item, str):
                kind = "None" if item is None else f"a value of type {type(item).__name__}"
                raise InvalidType(f"{name}: {kind} where a string is needed", code="MAPI_E_INVALID_PARAMETER")
        return items
    raise InvalidType(f"{name} is {shown(value)}, and must be a list of addresses", code="MAPI_E_INVALID_PARAMETER")


def string(value: object, name: str) -> str:
    """The argument of that name, which must be a string."""
    if isinstance(value, str):
        return value
    kind = "None" if value is None else f"a value of type {type(value).__name__}"
    raise InvalidType(f"{name} is {kind}, and must be a string", code="MAPI_E_INVALID_PARAMETER")
