"""The asyncio skin: the same calls, many at once, cancelled, and in the wrong loop."""

from __future__ import annotations

import asyncio
import os
import unittest

from support import Proxy, Server, WithBroker, frame_of, message, old_broker, python

import sundown
import sundown.asyncio
from sundown.protocol import replies, requests, types


class Waiting(WithBroker, unittest.IsolatedAsyncioTestCase):
    async def connect_here(self, program="test", **options):
        mapi = await sundown.asyncio.connect(program, **{"socket": self.broker.socket, "start": None, **options})
        self.addAsyncCleanup(mapi.close)
        return mapi

    async def test_it_submits_reads_and_leaves(self):
        async with await self.connect_here() as mapi, await mapi.logon() as session:
            submitted = await session.submit(sundown.email("anna@localhost", subject="Hi", text="x"))
            self.assertIn(b"Subject: Hi", await session.read(submitted.entry))
            async with await session.folder("drafts") as drafts:
                entry = await drafts.append(message("draft"))
                self.assertEqual([row.entry async for row in drafts.contents()], [entry])
                await drafts.delete(entry)
            async with await session.store() as store:
                self.assertIn("Inbox", {row.name for row in await store.folders()})
            self.assertGreater(await mapi.ping(), 0)
            self.assertTrue((await mapi.status()).sessions)
            long = message(body="x" * 700_000)
            self.assertEqual(len(await session.read((await session.submit(long)).entry)) >= 700_000, True)

    async def test_many_calls_are_under_way_at_once(self):
        session = await (await self.connect_here()).logon(no_mail=True)
        entries = await asyncio.gather(*(session.submit(message(str(n)), deferred=n % 2 == 0) for n in range(600)))
        self.assertEqual(len({one.entry for one in entries}), 600)
        await session.flush()

    async def test_events_are_told(self):
        session = await (await self.connect_here()).logon()
        told = []

        async def tell(event):
            if isinstance(event, sundown.Created):
                told.append(await session.read(event.place.entry))

        await session.advise("object-created", tell)
        await session.advise("object-moved")
        entry = (await session.submit(message("told"))).entry
        async for event in session.events(timeout=30):
            if isinstance(event, sundown.Moved) and event.place == types.Place(entry, "sent"):
                break
        while not any(b"Subject: told" in data for data in told):
            await session._library.wait_for_news(None)

    async def test_a_callback_that_raises_stops_nothing(self):
        session = await (await self.connect_here()).logon(no_mail=True)
        await session.advise("object-created", lambda event: 1 / 0)
        await session.submit(message())
        async for event in session.events(timeout=30):
            self.assertIsInstance(event.error, ZeroDivisionError)
            break

    async def test_a_cancelled_call_closes_nothing_and_its_key_repeats(self):
        mapi = await self.connect_here()
        session = await mapi.logon(no_mail=True)
        member = session.member
        for turns in range(40):
            key = sundown.new_key()
            task = asyncio.ensure_future(session.submit(message("cancelled"), key=key))
            for _ in range(turns % 7):
                await asyncio.sleep(0)
            task.cancel()
            try:
                await task
            except asyncio.CancelledError:
                pass
            self.assertEqual((await session.submit(message("cancelled"), key=key)).entry.record, key)
        self.assertEqual(session.member, member, "the connection is the same")

    async def test_a_cancelled_logon_is_taken_back(self):
        mapi = await self.connect_here("canceller")
        await mapi.logon()
        for turns in range(12):
            task = asyncio.ensure_future(mapi.logon())
            for _ in range(turns):
                await asyncio.sleep(0)
            task.cancel()
            try:
                await (await task).logoff()
            except asyncio.CancelledError:
                pass
        members = 2
        while members != 1:
            await mapi.ping()
            status = await mapi.status()
            members = sum(member.peer.program == "canceller" for one in status.sessions for member in one.members)

    async def test_everything_comes_back_after_a_crash(self):
        session = await (await self.connect_here()).logon(no_mail=True)
        told = []
        await session.advise("object-created", told.append)
        deferred = [await session.submit(message(), deferred=True) for _ in range(5)]
        self.broker.restart()
        await asyncio.gather(*(session.submit(message()) for _ in range(20)))
        self.assertEqual([type(event) for event in told].count(sundown.Reconnected), 1)
        there = {row.entry for row in await session._library.queue(None, True)}
        self.assertLessEqual({one.entry for one in deferred}, there)

    async def test_a_request_whose_answer_is_lost_is_repeated(self):
        proxy = Proxy(self.broker.socket)
        self.addCleanup(proxy.close)
        mapi = await self.connect_here(socket=proxy.socket)
        session = await mapi.logon(no_mail=True)
        before = len(await mapi.queue(all=True))
        proxy.cut = (requests.Submit, requests.SubmitVia)
        await session.submit(message("once"))
        self.assertEqual(len(await mapi.queue(all=True)), before + 1)

    async def test_limits(self):
        server = Server(old_broker(1, lambda request: None))
        self.addCleanup(server.close)
        mapi = await self.connect_here(socket=server.socket, timeout=0.1)
        with self.assertRaises(sundown.Timeout):
            await mapi.status()
        with sundown.within(0.05), self.assertRaises(TimeoutError):
            await mapi.queue()

        async def limited():
            await asyncio.wait_for(mapi.status(), 0.01)

        with self.assertRaises(asyncio.TimeoutError):
            await limited()
        self.assertIsNotNone(mapi.broker)

    async def test_an_outbox_waits_too(self):
        async with sundown.asyncio.Outbox("shop", socket=self.broker.socket, start=None) as outbox:
            entries = await asyncio.gather(*(outbox.submit(message()) for _ in range(10)))
            self.assertEqual(len({one.entry for one in entries}), 10)
            first = await outbox.session()
            other = await (await self.connect_here("ender")).logon()
            await other.logoff(shared=True)
            async for _ in first.events(timeout=0.5):
                pass
            await outbox.submit(message())

    async def test_the_end_of_a_shared_session(self):
        ender, other = await (await self.connect_here()).logon(), await (await self.connect_here()).logon()
        await other.advise("critical-error", lambda event: None)
        await ender.logoff(shared=True)
        self.assertEqual([event async for event in other.events(timeout=30)], [])
        with self.assertRaises(sundown.EndOfSession) as caught:
            await other.flush()
        self.assertEqual(caught.exception.by.pid, os.getpid())

    async def test_a_connect_to_what_does_not_answer_ends(self):
        server = Server(lambda connection: [None for _ in iter(lambda: frame_of(connection), None)])
        self.addCleanup(server.close)
        with self.assertRaises(sundown.Timeout), sundown.within(0.1):
            await self.connect_here(socket=server.socket)
        with self.assertRaises(asyncio.TimeoutError):
            await asyncio.wait_for(self.connect_here(socket=server.socket), 0.05)
        with self.assertRaisesRegex(sundown.Disconnected, "no broker runs"):
            await self.connect_here(socket="/nonexistent/s")


class Loops(WithBroker):
    def test_another_event_loop_is_named(self):
        async def make():
            mapi = await sundown.asyncio.connect("test", socket=self.broker.socket, start=None)
            return mapi, await mapi.logon()

        async def use(session):
            with self.assertRaisesRegex(sundown.Refused, "an event loop that is closed; call sundown.asyncio.connect in the loop") as caught:
                await session.submit(message())
            self.assertEqual(caught.exception.code, "MAPI_E_NOT_INITIALIZED")

        mapi, session = asyncio.run(make())
        asyncio.run(use(session))
        mapi._library.link_now._socket.close()

    def test_a_fork_in_a_loop(self):
        said = python(
            """
            import asyncio, os, sys, sundown.asyncio
            async def main():
                mapi = await sundown.asyncio.connect("parent", socket=sys.argv[1], start=None)
                session = await mapi.logon()
                child = os.fork()
                if not child:
                    try:
                        await session.submit(b"To: anna@localhost\\n\\nx")
                    except sundown.asyncio.ForkedError:
                        print("forked", flush=True)
                    os._exit(0)
                os.waitpid(child, 0)
                print((await session.submit(b"To: anna@localhost\\n\\nx")).state)
                await mapi.close()
            asyncio.run(main())
            """,
            self.broker.socket,
        )
        self.assertEqual(said.split(), ["forked", "queued"])

    def test_fast_shutdown(self):
        said = python(
            """
            import asyncio, sys, sundown.asyncio
            async def main():
                mapi = await sundown.asyncio.connect("leaver", socket=sys.argv[1], start=None)
                session = await mapi.logon()
                print(await mapi.shut_down())
                try:
                    await session.flush()
                except sundown.asyncio.Refused as error:
                    print(error.code)
            asyncio.run(main())
            """,
            self.broker.socket,
        )
        self.assertEqual(said.split(), ["fast", "MAPI_E_NOT_INITIALIZED"])

    def test_a_broker_is_started(self):
        import tempfile

        with tempfile.TemporaryDirectory(prefix="sundown-") as home:
            os.mkdir(os.path.join(home, "run"), 0o700)
            said = python(
                """
                import asyncio, os, sundown.asyncio
                async def main():
                    mapi = await sundown.asyncio.connect("starter", start=os.environ["SUNDOWN_TEST_PROGRAM"])
                    print((await (await mapi.logon()).submit(b"To: anna@localhost\\n\\nx")).state)
                    await mapi.stop()
                asyncio.run(main())
                """,
                HOME=home,
                XDG_RUNTIME_DIR=os.path.join(home, "run"),
            )
            self.assertEqual(said.strip(), "queued")


if __name__ == "__main__":
    unittest.main()
