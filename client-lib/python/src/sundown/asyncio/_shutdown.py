"""Fast shutdown (`IMAPIClientShutdown`): for the whole process, with all its sessions at all its brokers.

```text
 process   verdict  none ──every broker asked──► yes | no     the first one, for the life of the process
           left     no ──done with every broker──► yes        no call is made any more, to no broker

 broker    asked    none ──query, or within do──► yes | no    each broker has a verdict of its own
           done     no ──do──► yes                            never told twice
```
"""

from __future__ import annotations

from typing import Any, List, Optional

from .. import _errors
from .._process import Verdict
from ..protocol import replies, requests, types
from ._library import Library, alive, left_error


class ClientShutdown:
    """Controls the shutdown of this process with all its sessions, at all brokers (`IMAPIClientShutdown`).

    Only the host of a process may call it: the library that connected first. An add-in with another copy of the library, or a library in another language, gets
    `MAPI_E_NO_ACCESS`, unless the host has given it its key (`Mapi.host_key`, `connect(host_key=…)`).

    Example:
        exit = mapi.client_shutdown()
        await exit.query()
        await exit.notify()
        await exit.do()
    """

    def __init__(self, library: Library) -> None:
        self._library = library

    async def query(self) -> None:
        """Asks whether every provider of every session of this process supports a fast shutdown, at all brokers (`QueryFastShutdown`).

        Returns if they do. `MAPI_E_NO_SUPPORT` names the providers that do not (`Error.providers`). The first answer holds for the life of the process; an error
        with another code is no answer.
        """
        process = self._library.process
        brokers = self._brokers()
        if process.verdict:
            return _raise(process.verdict[0])
        refusals: List[types.Fault] = []
        failed: Optional[_errors.Error] = None
        for broker in brokers:
            try:
                said = await _ask(broker)
            except _errors.Error as error:
                failed = failed or self._blamed(broker, brokers, error)
                continue
            if said is not None:
                refusals.append(said if self._is_one(brokers) else types.Fault(said.code, _at(broker, said.message), said.detail))
        if refusals:
            process.verdict = process.verdict or [_together(refusals)]
        elif failed:
            raise failed
        else:
            process.verdict = process.verdict or [None]
        _raise(process.verdict[0])

    async def notify(self) -> None:
        """Tells every provider of every session that the process is going to leave (`NotifyProcessShutdown`), whatever the query answered."""
        brokers = self._brokers()
        failed: Optional[_errors.Error] = None
        for broker in brokers:
            try:
                await broker.call(replies.Done, lambda link: requests.NotifyProcessShutdown())
            except _errors.Error as error:
                failed = failed or self._blamed(broker, brokers, error)
        if failed:
            raise failed

    async def do(self) -> None:
        """Leaves (`DoFastShutdown`): when this returns everything that this process submitted is durable, its unsaved drafts too, and the process may be ended in any
        way. From then on every call raises `MAPI_E_NOT_INITIALIZED`.

        If it raises nothing was torn down: `MAPI_E_NO_SUPPORT` without a query that was answered with yes, `MAPI_E_BUSY` while other processes hold objects of this one
        (`Error.holders`), `MAPI_E_DISK_ERROR`, `MAPI_E_NOT_ENOUGH_DISK` or `MAPI_E_TIMEOUT` if something could not be made durable. With several brokers the
        error says which of them are done.
        """
        process = self._library.process
        if process.done:
            raise left_error()
        while not process.done:
            await self._do_with_those_here()
            # A broker that the process connected to meanwhile gets its Do.
            if not any(one.home.is_here() and one.is_up() and not one.memory.done for one in list(alive)):
                process.done = True

    async def _do_with_those_here(self) -> None:
        process, brokers = self._library.process, self._brokers()
        if process.verdict and process.verdict[0] is not None:
            raise _errors.of_fault(process.verdict[0])
        if not process.verdict and not self._is_one(brokers):
            raise _errors.refused("QueryFastShutdown has not said yes to this process: ask it, or log off instead", "MAPI_E_NO_SUPPORT")
        if process.verdict:
            for broker in brokers:
                try:
                    said = await _ask(broker)
                except _errors.Error as error:
                    raise self._blamed(broker, brokers, error) from None
                if said is not None:
                    raise _errors.of_fault(said)
        remembered = bool(process.verdict)
        for broker in brokers:
            try:
                for session in _sessions_at(broker):
                    await session.repeat_lost()
                await broker.call(replies.Done, lambda link: requests.DoFastShutdown(remembered))
            except _errors.Error as error:
                broker.note_lost(error)
                # The Do was done already: by another path to the same socket, or its answer was lost.
                if error.code != "MAPI_E_NOT_INITIALIZED" or isinstance(error, _errors.ForkedError):
                    raise self._after(self._blamed(broker, brokers, error)) from None
            broker.memory.done = True
            for one in list(alive):
                if one.memory is broker.memory and one.home.is_here():
                    one.end("the process was shut down")

    def _brokers(self) -> List[Library]:
        """One library for each broker that this process is connected to and not done with; without any the asking one, which says why."""
        self._library.home.check("this Mapi")
        if self._library.process.done:
            raise left_error()
        found: List[Library] = []
        for one in sorted(alive, key=lambda library: library is not self._library):
            usable = one.home.is_here() and not one.left and not one.memory.done and one.ended is None
            connected = one.is_up() or one.away or one.link_now is not None
            if usable and connected and one.paths.socket not in [other.paths.socket for other in found]:
                found.append(one)
        if not found and not self._library.memory.done and not self._library.left:
            found.append(self._library)
        if not found:
            raise left_error()
        return found

    def _is_one(self, brokers: List[Library]) -> bool:
        """Whether the process has a single broker, and had no other: then errors need not name it."""
        return len(brokers) == 1 and not self._library.process.over()

    def _blamed(self, broker: Library, brokers: List[Library], error: _errors.Error) -> _errors.Error:
        return error if self._is_one(brokers) else _said(error, _at(broker, error.message))

    def _after(self, error: _errors.Error) -> _errors.Error:
        """The error of a Do, with what holds for the brokers that are done."""
        over = self._library.process.over()
        if not over:
            return error
        return _said(
            error,
            f"{error.message}. What was handed over at {', '.join(over)} is durable, and the sessions there are over: do it again for the rest, or log off",
        )


def _sessions_at(broker: Library) -> List[Any]:
    """The sessions of this process with that broker, over whichever connection."""
    return [session for one in list(alive) if one.memory is broker.memory for session in one.all_sessions()]


async def _ask(broker: Library) -> Verdict:
    """The broker's verdict on the process, asked for once. An error is no verdict."""
    if not broker.memory.said:
        try:
            await broker.call(replies.Done, lambda link: requests.QueryFastShutdown())
        except _errors.Error as error:
            if error.code != "MAPI_E_NO_SUPPORT":
                raise
            broker.memory.said = broker.memory.said or [types.Fault(error.hresult, error.message, error.detail)]
        else:
            broker.memory.said = broker.memory.said or [None]
    return broker.memory.said[0]


def _raise(verdict: Verdict) -> None:
    if verdict is not None:
        raise _errors.of_fault(verdict)


def _at(broker: Library, what: str) -> str:
    return f"the broker at {broker.paths.socket}: {what}"


def _said(error: _errors.Error, text: str) -> _errors.Error:
    """The same error in other words."""
    error.message = text
    error.args = (text,)
    return error


def _together(refusals: List[types.Fault]) -> types.Fault:
    """Joins refusals into one, which names all refusing providers."""
    providers = [name for one in refusals if isinstance(one.detail, types.ProvidersDetail) for name in one.detail.providers]
    return types.Fault(refusals[0].code, "; ".join(one.message for one in refusals), types.ProvidersDetail(tuple(providers)))
