"""A connection that has ended leaves its descriptor's number alone: another file of the program may have it."""

from __future__ import annotations

import asyncio
import fcntl
import os
import unittest

from support import PROGRAM, message

import sundown.asyncio


@unittest.skipUnless(PROGRAM, "skipped: there is no `sundown`")
class Reused(unittest.TestCase):
    def test_a_file_with_the_number_of_a_lost_connection_goes_on(self):
        from sundown.testing import Broker

        async def main(broker):
            loop = asyncio.get_running_loop()
            async with await sundown.asyncio.connect("test", socket=broker.socket, start=None) as mapi, await mapi.logon() as session:
                link = mapi._library.link_now
                number = link.fileno()
                broker.kill()
                while not link.dead:
                    await link.wait(None)
                ends = os.pipe()
                near, far = (fcntl.fcntl(end, fcntl.F_DUPFD_CLOEXEC, 100) for end in ends)
                for end in ends:
                    os.close(end)
                os.dup2(near, number)
                came = loop.create_future()
                loop.add_reader(number, lambda: came.done() or came.set_result(os.read(number, 1)))
                broker.start()
                # The call notices the loss, and comes back.
                await session.submit(message())
                os.write(far, b"x")
                self.assertEqual(await asyncio.wait_for(came, 60), b"x")
                loop.remove_reader(number)
                for descriptor in (near, far, number):
                    os.close(descriptor)

        with Broker() as broker:
            asyncio.run(main(broker))


if __name__ == "__main__":
    unittest.main()
