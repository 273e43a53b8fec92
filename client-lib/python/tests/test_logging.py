"""`sundown.logging.Handler`: records are mailed, and the program neither waits nor fails."""

from __future__ import annotations

import collections
import contextlib
import email.policy
import io
import logging
import os
import signal
import threading
import time
import unittest
from email import message_from_bytes

from support import PROGRAM, in_tree, python

import sundown
import sundown.logging


def parsed(broker):
    return [message_from_bytes(data, policy=email.policy.default) for data in broker.mail()]


@unittest.skipUnless(PROGRAM, "skipped: there is no `sundown`")
class WithHandler(unittest.TestCase):
    settings = ""

    def setUp(self):
        from sundown.testing import Broker

        self.broker = Broker(settings=self.settings)
        self.addCleanup(self.broker.__exit__, None, None, None)

    def logger(self, to="ops@localhost", **options):
        handler = sundown.logging.Handler(to, **{"socket": self.broker.socket, "start": None, "patience": 60.0, **options})
        logger = logging.Logger("shop")
        logger.addHandler(handler)
        self.addCleanup(handler.close)
        return logger, handler

    def delivered(self, count):
        self.broker.wait_for_mail(count)
        with self.broker.connect() as mapi:
            while not all(row.state.is_final for row in mapi.queue()):
                pass
        return collections.Counter(mail["Subject"] for mail in parsed(self.broker))


class Records(WithHandler):
    def test_a_record_becomes_a_message(self):
        logger, handler = self.logger(["Ops <ops@localhost>", "änna@localhost"], sender="shop@localhost")
        handler.setFormatter(logging.Formatter("%(levelname)s %(message)s"))
        try:
            raise KeyError("päper")
        except KeyError:
            logger.exception("no %s\nat all", "paper")
        handler.flush()
        self.broker.wait_for_mail()
        (mail,) = parsed(self.broker)
        self.assertEqual(mail["Subject"], "ERROR shop: no paper")
        self.assertEqual(mail["From"], "shop@localhost")
        self.assertEqual(mail["Auto-Submitted"], "auto-generated")
        self.assertLess(abs(mail["Date"].datetime.timestamp() - time.time()), 60)
        self.assertRegex(mail.get_content(), r"(?s)^ERROR no paper\nat all\nTraceback .*KeyError: 'päper'")
        self.assertEqual({str(value) for value in mail.get_all("Delivered-To")}, {"ops@localhost", "änna@localhost"})

    def test_the_level_and_the_subject_can_be_chosen(self):
        logger, handler = self.logger(level="ERROR", subject="%(message)s at %(lineno)d")
        logger.warning("not mailed")
        logger.error("a\x00b \udc80")
        logger.error("")
        handler.flush()
        self.assertEqual(sum(self.delivered(2).values()), 2)

    def test_records_while_the_broker_is_away_are_mailed_and_the_rest_is_counted(self):
        logger, handler = self.logger(capacity=5)
        self.broker.kill()
        for i in range(20):
            logger.error("%d", i)
        self.broker.start()
        handler.flush()
        logger.error("after")
        handler.flush()
        found = self.delivered(6)
        self.assertEqual(found, {f"ERROR shop: {i}": 1 for i in (0, 1, 2, 3, 4, "after")})
        (after,) = [mail.get_content() for mail in parsed(self.broker) if "after" in mail["Subject"]]
        self.assertRegex(after, r"^15 records before this one were not mailed: 5 records waited already, and ")
        logger.error("later")
        handler.flush()
        self.delivered(7)
        (later,) = [mail.get_content() for mail in parsed(self.broker) if "later" in mail["Subject"]]
        self.assertEqual(later, "later\n")

    def test_a_broker_that_hangs_does_not_delay_the_program(self):
        logger, handler = self.logger()
        logger.error("first")
        handler.flush()
        os.kill(self.broker.pid, signal.SIGSTOP)
        try:
            logger.error("second")
            queue = handler._queue()
            # The thread waits for the broker, and these calls return.
            for i in range(100):
                logger.error("%d", i)
            self.assertTrue(queue._thread.is_alive())
            self.assertGreater(len(queue._waiting), 99)
        finally:
            os.kill(self.broker.pid, signal.SIGCONT)
        handler.flush()
        self.assertEqual(set(self.delivered(102).values()), {1})

    def test_a_broker_that_is_killed_gets_each_record_once(self):
        logger, handler = self.logger()
        for round in range(5):
            for i in range(40):
                logger.error("%d-%d", round, i)
            # The thread is sending.
            self.broker.restart()
        handler.flush()
        found = self.delivered(200)
        self.assertEqual((len(found), set(found.values())), (200, {1}))

    def test_a_broker_that_is_stopped_gets_each_record_once(self):
        logger, handler = self.logger()
        for round in range(5):
            for i in range(20):
                logger.error("%d-%d", round, i)
            self.broker.stop()
            self.broker.start()
        handler.flush()
        found = self.delivered(100)
        self.assertEqual((len(found), set(found.values())), (100, {1}))

    def test_the_thread_ends_when_nothing_waits(self):
        logger, handler = self.logger()
        before = threading.active_count()
        for i in range(3):
            logger.error("%d", i)
            handler.flush()
            thread = [one for one in threading.enumerate() if one.name == "sundown.logging"]
            for one in thread:
                one.join()
            self.assertEqual(threading.active_count(), before)
        self.assertEqual(sum(self.delivered(3).values()), 3)

    def test_a_signals_handler_may_log_too(self):
        logger, handler = self.logger(capacity=100000)
        count = [0]

        def log(*_):
            count[0] += 1
            logger.error("s%d", count[0])

        before = signal.signal(signal.SIGALRM, log)
        self.addCleanup(signal.signal, signal.SIGALRM, before)
        signal.setitimer(signal.ITIMER_REAL, 0.0005, 0.0005)
        for i in range(200):
            logger.error("m%d", i)
        signal.setitimer(signal.ITIMER_REAL, 0)
        handler.flush()
        found = self.delivered(200 + count[0])
        self.assertGreater(count[0], 0)
        self.assertEqual((len(found), set(found.values())), (200 + count[0], {1}))

    def test_several_threads_may_log(self):
        logger, handler = self.logger(capacity=100000)
        threads = [threading.Thread(target=lambda i=i: [logger.error("%d-%d", i, j) for j in range(20)]) for i in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        handler.flush()
        found = self.delivered(160)
        self.assertEqual((len(found), set(found.values())), (160, {1}))

    def test_a_forked_child_mails_its_own_records_only(self):
        logger, handler = self.logger()
        self.broker.kill()
        for i in range(10):
            logger.error("parent %d", i)
        child = os.fork()
        if not child:
            status = 1
            try:
                logger.error("child")
                self.broker.start()
                handler.flush()
                handler.close()
                # The broker must outlive this child.
                status = 0
            finally:
                os._exit(status)
        self.assertEqual(os.waitpid(child, 0)[1], 0)
        handler.flush()
        expected = {f"ERROR shop: parent {i}": 1 for i in range(10)}
        self.assertEqual(self.delivered(11), {**expected, "ERROR shop: child": 1})
        self._kill_the_childs_broker()

    def _kill_the_childs_broker(self):
        with self.broker.connect() as mapi:
            os.kill(mapi.status().pid, signal.SIGKILL)

    def test_a_fork_in_the_middle_of_sending(self):
        logger, handler = self.logger(capacity=100000)
        children = []
        for round in range(5):
            for i in range(40):
                logger.error("parent %d %d", round, i)
            # The thread is sending, and may have any lock.
            child = os.fork()
            if not child:
                status = 1
                try:
                    for i in range(20):
                        logger.error("child %d %d", round, i)
                    handler.close()
                    status = 0
                finally:
                    os._exit(status)
            children.append(child)
        self.assertEqual([os.waitpid(child, 0)[1] for child in children], [0] * 5)
        handler.flush()
        found = self.delivered(300)
        self.assertEqual((len(found), set(found.values())), (300, {1}))

    def test_a_record_that_cannot_be_formatted_is_reported_as_logging_does(self):
        logger, handler = self.logger()
        said = io.StringIO()
        with contextlib.redirect_stderr(said):
            logger.error("%d", "no number")
        self.assertIn("--- Logging error ---", said.getvalue())
        logger.error("next")
        handler.flush()
        self.assertEqual(self.delivered(1), {"ERROR shop: next": 1})

    def test_the_end_of_the_program_mails_what_is_queued(self):
        python(
            """
            import logging, sys, sundown.logging
            logging.getLogger().addHandler(sundown.logging.Handler("ops@localhost", socket=sys.argv[1], start=None))
            for i in range(100):
                logging.error("%d", i)
            """,
            self.broker.socket,
        )
        found = self.delivered(100)
        self.assertEqual((len(found), set(found.values())), (100, {1}))

    def test_the_examples_of_the_page_mail_errors(self):
        page = in_tree("docs/python-frameworks.md").read_text()
        handler, settings = (page.split(f"```python {name}\n")[1].split("```")[0] for name in ("errors.py", "dict.py"))
        use = "\nlogging.warning('not this')\nlogging.error('this')\n"
        variables = {"SUNDOWN_SOCKET": self.broker.socket}
        python(handler + use, **variables)
        python("import logging, logging.config\n" + settings + "\nlogging.config.dictConfig(LOGGING)" + use, **variables)
        self.assertEqual(self.delivered(2), {"ERROR root: this": 2})

    def test_what_is_lost_at_the_end_is_said(self):
        said = python(
            """
            import logging, sys, sundown.logging
            sys.stderr = sys.stdout
            logging.getLogger().addHandler(sundown.logging.Handler("ops@localhost", socket="/nowhere/sock", start=None, patience=0.2))
            for i in range(3):
                logging.error("%d", i)
            """,
        )
        self.assertRegex(said, r"^sundown.logging: 3 log records were not mailed: no broker runs at /nowhere/sock")

    def test_wrong_arguments_are_named(self):
        for kind, arguments, options in (
            (sundown.InvalidType, (None,), {}),
            (sundown.InvalidParameter, ([],), {}),
            (sundown.InvalidParameter, ("",), {}),
            (sundown.InvalidParameter, ("no one@localhost",), {}),
            (sundown.InvalidParameter, (["ops@localhost", "a b@c"],), {}),
            (sundown.InvalidParameter, ("ops@localhost",), {"capacity": 0}),
            (sundown.InvalidParameter, ("ops@localhost",), {"patience": -1}),
            (sundown.InvalidParameter, ("ops@localhost",), {"sender": "me@"}),
            (sundown.InvalidType, ("ops@localhost",), {"subject": None}),
        ):
            with self.subTest(arguments=arguments, options=options), self.assertRaises(kind):
                sundown.logging.Handler(*arguments, **options)


class Refused(WithHandler):
    settings = '[limits]\nmessage = "8KiB"\n'

    def test_a_record_that_the_broker_refuses_is_counted(self):
        logger, handler = self.logger()
        said = io.StringIO()
        with contextlib.redirect_stderr(said):
            logger.error("x" * 20000)
            handler.flush()
        self.assertIn("a log record was not mailed: ", said.getvalue())
        logger.error("next")
        handler.flush()
        self.assertEqual(self.delivered(1), {"ERROR shop: next": 1})
        self.assertRegex(parsed(self.broker)[0].get_content(), r"^1 record before this one was not mailed: .*MAPI_E_TOO_BIG")




if __name__ == "__main__":
    unittest.main()
