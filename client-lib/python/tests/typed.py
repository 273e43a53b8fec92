"""A program of a user, which mypy and pyright check in their strict modes against the installed package. It is not run."""

from typing import List, Optional, Tuple

import sundown
import sundown.asyncio
from sundown import Arrived, EntryId, SubmissionState
from sundown.protocol import replies, requests, types


def blocking(message: bytes) -> Tuple[EntryId, SubmissionState]:
    with sundown.connect("typed", timeout=10.0) as mapi, mapi.logon("work", no_mail=True) as session:
        sink: sundown.Sink = session.advise(["new-mail"])
        for event in session.events(timeout=1):
            if isinstance(event, Arrived):
                subject: str = event.subject
                print(subject, event.place.folder)
        with session.folder("inbox") as inbox:
            senders: List[str] = [row.sender for row in inbox.contents(limit=3)]
            print(senders, sink.connection)
        submitted: replies.Submitted = session.submit(message, key=sundown.new_key())
        left: sundown.LoggedOff = session.logoff(drain=1, ask=lambda question: not question.others())
        print(left.queued, mapi.status().sessions[0].members[0].peer.pid)
        return submitted.entry, submitted.state


async def waits(message: bytes) -> Optional[sundown.Peer]:
    try:
        async with await sundown.asyncio.connect("typed") as mapi:
            async with await mapi.logon() as session:
                await session.submit(message)
                async for event in session.events():
                    print(event)
                async with await session.folder("sent") as sent:
                    print([row.flags.names async for row in sent.contents()])
    except sundown.EndOfSession as error:
        return error.by
    except sundown.Disconnected as error:
        raise ConnectionError(error.code) from error
    return None


made = requests.Submit(1, 0, 7, None, ("anna@localhost",), types.Inline(b""), types.Durability.DURABLE, types.Report())
number: int = made.key
