"""Many submissions at once with asyncio, each with a key, so that one that is cancelled can be repeated."""

import asyncio
import sys

import sundown.asyncio


async def main(count: int) -> None:
    async with await sundown.asyncio.connect("crowd") as mapi, await mapi.logon(no_mail=True) as session:

        async def send(number: int) -> str:
            message, key = sundown.email("anna@localhost", subject=f"Number {number}"), sundown.new_key()
            for patience in (0.0001, 60.0):
                try:
                    return str((await asyncio.wait_for(session.submit(message, key=key), patience)).entry)
                except asyncio.TimeoutError:
                    pass  # the key repeats: the message is stored once
            raise TimeoutError(f"number {number}")

        entries = await asyncio.gather(*map(send, range(count)))
        print(f"{len(set(entries))} entries")


asyncio.run(main(int(sys.argv[1]) if len(sys.argv) > 1 else 10))
