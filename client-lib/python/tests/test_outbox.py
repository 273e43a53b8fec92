"""`sundown.Outbox` under attack: forks in the middle of a send, and brokers that stop while several threads send."""

from __future__ import annotations

import collections
import os
import threading
import unittest

from support import PROGRAM, message

import sundown


@unittest.skipUnless(PROGRAM, "skipped: there is no `sundown`")
class Attacked(unittest.TestCase):
    def setUp(self):
        from sundown.testing import Broker

        self.broker = Broker()
        self.addCleanup(self.broker.__exit__, None, None, None)
        self.outbox = sundown.Outbox("attacked", socket=self.broker.socket, start=None)
        self.addCleanup(self.outbox.close)

    def sent(self):
        """How often each subject is in the queue, final messages included."""
        with self.broker.connect() as mapi:
            return collections.Counter(row.subject for row in mapi.queue(all=True))

    def test_a_fork_in_the_middle_of_a_send(self):
        stop = threading.Event()
        counts = [0, 0, 0]
        failures = []

        def send(thread):
            try:
                while not stop.is_set():
                    self.outbox.submit(message(f"parent {thread} {counts[thread]}"))
                    counts[thread] += 1
            except BaseException as error:
                failures.append(error)

        threads = [threading.Thread(target=send, args=(thread,)) for thread in range(3)]
        for thread in threads:
            thread.start()
        children = []
        for child in range(10):
            pid = os.fork()
            if not pid:
                status = 1
                try:
                    for number in range(5):
                        self.outbox.submit(message(f"child {child} {number}"))
                    self.outbox.close()
                    status = 0
                finally:
                    os._exit(status)
            children.append(pid)
        statuses = [os.waitpid(pid, 0)[1] for pid in children]
        stop.set()
        for thread in threads:
            thread.join()
        self.assertEqual((failures, statuses), ([], [0] * 10))
        expected = {f"child {child} {number}": 1 for child in range(10) for number in range(5)}
        expected.update({f"parent {thread} {number}": 1 for thread in range(3) for number in range(counts[thread])})
        self.assertEqual(self.sent(), expected)

    def test_threads_of_a_child_connect_together(self):
        self.outbox.submit(message("parent"))
        for round in range(20):
            pid = os.fork()
            if not pid:
                status = 1
                try:
                    start = threading.Barrier(8)
                    done = []

                    def send(thread):
                        start.wait()
                        self.outbox.submit(message(f"{round} {thread}"))
                        done.append(thread)

                    threads = [threading.Thread(target=send, args=(thread,)) for thread in range(8)]
                    for thread in threads:
                        thread.start()
                    for thread in threads:
                        thread.join(60)
                    with self.broker.connect() as mapi:
                        members = [member.peer for session in mapi.status().sessions for member in session.members]
                    ours = [peer for peer in members if peer.pid == os.getpid()]
                    status = 0 if len(done) == 8 and len(ours) == 1 else 2
                finally:
                    os._exit(status)
            self.assertEqual(os.waitpid(pid, 0)[1], 0)
        self.assertEqual(set(self.sent().values()), {1})

    def test_the_new_session_of_another_thread_is_kept(self):
        first = self.outbox.session()
        submit, closed = first.submit, []

        def ends(*arguments, **keywords):
            # Meanwhile another thread finds that the session is over, and logs on again.
            self.outbox._forget(first)
            closed.append(self.outbox.session())
            return submit(*arguments, **keywords)

        first.submit = ends
        self.outbox.submit(message("once"))
        self.assertIsNot(closed[0], first)
        self.assertIs(self.outbox.session(), closed[0])
        closed[0].alive()
        self.assertEqual(self.sent(), {"once": 1})

    def test_what_may_have_been_done_before_the_broker_went_is_unknown(self):
        session = self.outbox.session()
        asked = []

        def ends(*arguments, **keywords):
            asked.append(keywords["key"])
            type(session).submit(session, *arguments, **keywords)
            # The answer is lost, and no broker is there for the repeat.
            self.broker.stop()
            raise sundown._errors.unknown(sundown._errors.disconnected("the test has ended it", asked=True))

        session.submit = ends
        with self.assertRaises(sundown.Disconnected) as caught:
            self.outbox.submit(message("done"))
        self.assertTrue(caught.exception.outcome_unknown)
        self.broker.start()
        self.outbox.submit(message("done"), key=asked[0])
        self.assertEqual(self.sent(), {"done": 1})

    def test_a_broker_that_stops_while_threads_send(self):
        stop = threading.Event()
        counts = [0] * 6
        failures, unknown = [], set()

        def send(thread):
            while not stop.is_set():
                try:
                    self.outbox.submit(message(f"{thread} {counts[thread]}"))
                    counts[thread] += 1
                except (sundown.Disconnected, sundown.EndOfSession) as error:
                    # There is no broker just now, or it stopped twice. What may have been submitted need not be there.
                    if error.outcome_unknown:
                        unknown.add(f"{thread} {counts[thread]}")
                        counts[thread] += 1
                except BaseException as error:
                    failures.append(error)
                    return

        threads = [threading.Thread(target=send, args=(thread,)) for thread in range(6)]
        for thread in threads:
            thread.start()
        for _ in range(8):
            self.broker.stop()
            self.broker.start()
            self.outbox.submit(message("again"))
        stop.set()
        for thread in threads:
            thread.join()
        self.assertEqual([repr(failure) for failure in failures], [])
        found = self.sent()
        found.pop("again")
        self.assertEqual({subject: count for subject, count in found.items() if count != 1}, {})
        missing = {f"{thread} {number}" for thread in range(6) for number in range(counts[thread])} - set(found) - unknown
        self.assertEqual(missing, set())


if __name__ == "__main__":
    unittest.main()
