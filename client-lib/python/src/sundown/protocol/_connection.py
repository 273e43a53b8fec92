"""One connection to a broker, without its socket.

```text
 Greeting ──welcome──► Open ──goodbye, the end, nonsense──► Dead
     └──────refusal, the end, nonsense──────────────────────┘
```

A driver sends what `hello` and `ask` return, gives what it has read to `receive`, and says `end` when there is no more to read.
"""

from __future__ import annotations

import itertools
from typing import Callable, Dict, List, Optional, Tuple, Union

from . import codes, hello, replies, requests
from ._codec import Malformed, decode, encode, length_of
from ._record import Record
from .events import CriticalError, Notification
from .types import EndReason, Fault

_numbers = itertools.count(1)
"""Numbers of requests. They are unique in the life of the process, so that requests differ in the broker's log."""

Outcome = Union[replies.Reply, Fault]
"""The answer to a request."""
Hook = Callable[[Outcome], None]
"""Is called with the answer, before later messages are looked at."""


class Welcomed(Record):
    """The broker's hello."""

    welcome: hello.Welcome


class Notified(Record):
    """Something happened, without a request."""

    notification: Notification


class Dead(Record):
    """The connection has ended. `refusal` is the broker's fault, if it sent one; `nonsense` says whether it sent what is no message."""

    why: str
    refusal: Optional[Fault] = None
    nonsense: bool = False


class Pending:
    """A request that was sent. `outcome` is its answer, once its driver has set it."""

    __slots__ = ("cost", "hook", "id", "outcome", "request")

    def __init__(self, id: int, request: requests.Request, cost: int, hook: Optional[Hook]) -> None:
        self.id = id
        self.request = request
        self.cost = cost
        self.hook = hook
        self.outcome: Optional[Outcome] = None


class Answered(Record):
    """The answer to a request. The driver calls the request's hook, and then sets `Pending.outcome`."""

    pending: Pending
    outcome: Outcome


Received = Union[Welcomed, Answered, Notified, Dead]


class Connection:
    """One connection: what is asked, what is answered, and the broker's credit.

    `image` and `library` are those of PROTOCOL.md, 16 bytes each; `program` is the name that other members see.

    Example:
        >>> connection = Connection("example", image=bytes(16), library=bytes(16))
        >>> sent = connection.hello()
        >>> from sundown.protocol.hello import HelloAnswer, Welcome
        >>> connection.receive(bytes(encode(HelloAnswer, Welcome(4, 812, 256, 4 << 20))))
        [Welcomed(welcome=Welcome(version=4, pid=812, requests=256, bytes=4194304))]
    """

    def __init__(self, program: str, *, image: bytes, library: bytes, oldest: int = hello.OLDEST, newest: int = hello.NEWEST) -> None:
        self.program = program
        self.image = image
        self.library = library
        self.versions = (oldest, newest)
        self.welcome: Optional[hello.Welcome] = None
        self.dead: Optional[Dead] = None
        self.pending: Dict[int, Pending] = {}
        self.stopping = False
        """Whether the broker has said that it stops for good."""
        self._requests = 0
        self._bytes = 0
        self._have = bytearray()

    def hello(self) -> bytes:
        """The bytes that a client sends first."""
        oldest, newest = self.versions
        greeting = hello.Hello(hello.MAGIC, oldest, newest, self.image, self.library, self.program)
        return bytes(encode(hello.Hello, greeting))

    @property
    def version(self) -> int:
        """The version that both sides speak; 0 before the welcome."""
        return self.welcome.version if self.welcome else 0

    @property
    def identifier(self) -> str:
        """The beginning of each request's identifier in the broker's log: `3f2a91bc-12` is request 12 of this library."""
        return self.library[:4].hex()

    def prepare(self, request: requests.Request, hook: Optional[Hook] = None) -> Tuple[Pending, bytes]:
        """Makes a request's frame. It is not counted before `book`. `Malformed` for a value that has no bytes."""
        number = next(_numbers)
        frame = encode(requests.Asked, requests.Asked(number, request))
        return Pending(number, request, 0 if request.free else len(frame), hook), bytes(frame)

    def has_credit(self, pending: Pending) -> bool:
        """Whether the broker's credit allows this request now."""
        if not pending.cost or not self.welcome or not self._requests:
            return True
        return self._requests < self.welcome.requests and self._bytes + pending.cost <= self.welcome.bytes

    def book(self, pending: Pending) -> None:
        """Counts a request that is sent next."""
        if pending.cost:
            self._requests += 1
            self._bytes += pending.cost
        self.pending[pending.id] = pending

    def unbook(self, pending: Pending) -> None:
        """Takes back a request of which nothing was sent."""
        if self.pending.pop(pending.id, None) and pending.cost:
            self._requests -= 1
            self._bytes -= pending.cost

    def ask(self, request: requests.Request, hook: Optional[Hook] = None) -> Tuple[Pending, bytes]:
        """`prepare` and `book`: for drivers that look after the credit by themselves."""
        pending, frame = self.prepare(request, hook)
        self.book(pending)
        return pending, frame

    def receive(self, data: bytes) -> List[Received]:
        """Takes bytes that came. Returns what they mean, in order. Nothing follows `Dead`."""
        received: List[Received] = []
        if self.dead:
            return received
        have = self._have
        have += data
        at = 0
        try:
            while len(have) - at >= 4:
                end = at + 4 + length_of(have, at)
                if len(have) < end:
                    break
                payload = bytes(have[at + 4 : end])
                at = end
                received += self._one(payload)
                if self.dead:
                    break
        except Malformed as error:
            received.append(self._die(f"the broker does not speak the protocol: {error}", nonsense=True))
        del have[:at]
        return received

    def end(self, why: str = "the broker closed it") -> List[Received]:
        """Says that no more bytes come."""
        return [] if self.dead else [self._die(why)]

    def _one(self, payload: bytes) -> List[Received]:
        if self.welcome is None:
            answer = decode(hello.HelloAnswer, payload)
            if isinstance(answer, hello.Welcome):
                oldest, newest = self.versions
                if not oldest <= answer.version <= newest:
                    offered = f"versions {oldest} to {newest}"
                    return [self._die(f"the broker chose version {answer.version}, and was offered {offered}", nonsense=True)]
                self.welcome = answer
                return [Welcomed(answer)]
            return [self._die(answer.message, Fault(answer.code, answer.message))]
        message = decode(replies.FromBroker, payload)
        if isinstance(message, replies.Notify):
            event = message.notification.event
            if isinstance(event, CriticalError) and event.reason == EndReason.BROKER_STOPPED:
                self.stopping = True
            return [Notified(message.notification)]
        if isinstance(message, replies.Goodbye):
            fault = message.fault
            return [self._die(f"{fault.message} ({codes.name_of(fault.code)} {codes.text_of(fault.code)})", fault)]
        return self._answered(message)

    def _answered(self, answer: replies.Answer) -> List[Received]:
        pending = self.pending.pop(answer.id, None)
        if pending is None:
            return []
        if pending.cost:
            self._requests -= 1
            self._bytes -= pending.cost
        result = answer.result
        outcome: Outcome = result.fault if isinstance(result, replies.Failed) else result.reply  # type: ignore[attr-defined]
        if isinstance(outcome, Fault) and outcome.code or isinstance(outcome, pending.request.reply):
            return [Answered(pending, outcome)]
        wrong = f"the broker answered {type(pending.request).__name__} with {type(outcome).__name__}"
        text = f"{wrong}, which is no answer to it; what it has done of that is not known"
        fault = Fault(codes.NUMBERS["MAPI_E_CORRUPT_DATA"], text)
        # Nothing else that such a broker sends can be trusted.
        return [Answered(pending, fault), self._die(wrong, nonsense=True)]

    def _die(self, why: str, refusal: Optional[Fault] = None, *, nonsense: bool = False) -> Dead:
        self.dead = Dead(why, refusal, nonsense)
        return self.dead
