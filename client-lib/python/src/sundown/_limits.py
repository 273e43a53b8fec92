"""How long calls may take."""

from __future__ import annotations

import contextlib
import time
from contextvars import ContextVar
from typing import Iterator, Optional, Tuple, Union

from ._errors import InvalidParameter, InvalidType, gave_up

_limit: "ContextVar[Optional[Tuple[Optional[float]]]]" = ContextVar("sundown_limit", default=None)
"""The limit of the blocks around a call, in a tuple; `None` outside all of them."""


@contextlib.contextmanager
def within(seconds: Optional[float]) -> Iterator[None]:
    """Gives all calls in the block this many seconds together, in place of `connect(timeout=…)`; `None`: no limit.

    Of blocks in each other the narrowest counts. A call without an answer by then raises `Timeout`; whether its request was carried out may be
    unknown then (`Error.outcome_unknown`).

    Example:
        >>> with within(2.0):
        ...     pass  # status = mapi.status()
    """
    until = None if seconds is None else time.monotonic() + number(seconds, "seconds")
    outer = _limit.get()
    token = _limit.set((earlier(outer[0], until) if outer else until,))
    try:
        yield
    finally:
        _limit.reset(token)


def number(value: Union[float, int], name: str) -> float:
    """A time in seconds that is an argument."""
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise InvalidType(f"{name} is {value!r}, and must be a number of seconds", code="MAPI_E_INVALID_PARAMETER")
    if not 0 <= value < 1e12:
        raise InvalidParameter(f"{name} is {value!r}, and must be zero or more seconds", code="MAPI_E_INVALID_PARAMETER")
    return float(value)


def deadline(default: Optional[float]) -> Optional[float]:
    """When a call that begins now must end, on the clock of `time.monotonic`; `None`: whenever it has its answer."""
    limit = _limit.get()
    if limit is not None:
        return limit[0]
    return None if default is None else time.monotonic() + default


def check(until: Optional[float]) -> None:
    """Raises `Timeout` if this time is over."""
    if until is not None and time.monotonic() >= until:
        raise gave_up()


def earlier(one: Optional[float], other: Optional[float]) -> Optional[float]:
    """The earlier of two times, of which `None` is never."""
    if one is None or other is None:
        return one if other is None else other
    return min(one, other)


def left(until: Optional[float]) -> Optional[float]:
    """The seconds until then, not below zero."""
    return None if until is None else max(0.0, until - time.monotonic())
