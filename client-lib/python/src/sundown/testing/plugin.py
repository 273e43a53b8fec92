"""A fixture for pytest, which finds this module by itself: `sundown_broker`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Iterator

import pytest

if TYPE_CHECKING:
    from . import Broker


@pytest.fixture
def sundown_broker() -> "Iterator[Broker]":
    """A private broker, which ends with the test: `sundown_broker.socket`, `.connect("test")`, `.wait_for_mail()`."""
    from . import Broker

    with Broker() as broker:
        yield broker
