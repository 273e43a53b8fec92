"""Forks, threads, signals, and gevent: nobody disturbs anybody."""

from __future__ import annotations

import importlib.util
import os
import signal
import sys
import threading
import unittest

from support import WithBroker, environment, message, python

import sundown

PRELUDE = """
import os, sys, sundown
socket = sys.argv[1]
message = b"To: anna@localhost\\nSubject: x\\n\\nx"
"""


class ForksDuringImports(unittest.TestCase):
    def test_a_child_does_not_wait_for_an_import_of_its_parent(self):
        code = """
            import os, sys, threading, time, sundown
            began = threading.Event()

            class Slow:
                # An import that takes long, in another thread.
                def find_spec(self, name, path=None, target=None):
                    if name == "email.message":
                        began.set()
                        time.sleep(0.5)

            sys.meta_path.insert(0, Slow())
            threading.Thread(target=sundown.email, args=("anna@localhost",), daemon=True).start()
            began.wait()
            child = os.fork()
            if not child:
                sundown.email("anna@localhost")
                os._exit(0)
            until = time.monotonic() + 20
            while not os.waitpid(child, os.WNOHANG)[0]:
                if time.monotonic() > until:
                    os.kill(child, 9)
                    sys.exit("the child waits for ever")
                time.sleep(0.01)
            """
        python(code)


class Forks(WithBroker):
    def child(self, mapi, session):
        """What a forked child may do: nothing, and its parent does not notice."""
        errors = []
        for call in (session.flush, lambda: session.submit(message()), mapi.status, mapi.logon, mapi.ping, lambda: list(session.events(timeout=0)),
                     mapi.shut_down, mapi.fileno, mapi.client_shutdown().query, session.logoff):
            try:
                call()
                errors.append("no error")
            except sundown.ForkedError as error:
                assert error.code == "MAPI_E_NOT_INITIALIZED" and "sundown.connect in this process" in str(error)
        mapi.close()
        session.__exit__(None, None, None)
        mapi.__exit__(None, None, None)
        own = self.broker.connect("child")
        own.logon().submit(message("of the child"))
        own.close()
        return errors

    def test_a_forked_child_cannot_disturb_its_parent(self):
        mapi = self.connect()
        session = mapi.logon()
        said, write = os.pipe()
        child = os.fork()
        if not child:
            try:
                os.write(write, repr(self.child(mapi, session)).encode())
            finally:
                os._exit(0)
        os.close(write)
        with open(said) as pipe:
            self.assertEqual(pipe.read(), "[]")
        os.waitpid(child, 0)
        before = session.member
        session.submit(message("of the parent"))
        self.assertEqual(session.member, before, "the connection is the same")

    def test_the_childs_copies_of_the_sockets_are_closed(self):
        said = python(
            PRELUDE
            + """
mapi = sundown.connect("parent", socket=socket, start=None)
session = mapi.logon()
number = mapi._library.link_now.fileno()
def is_there():
    try:
        return os.readlink(f"/proc/self/fd/{number}").startswith("socket:")
    except OSError:
        return False
assert is_there()
child = os.fork()
if not child:
    print(is_there(), flush=True)
    os._exit(0)
os.waitpid(child, 0)
session.submit(message)
print(is_there(), flush=True)
mapi.close()
""",
            self.broker.socket,
        )
        self.assertEqual(said.split(), ["False", "True"])

    def test_a_fork_in_c_is_noticed_by_the_next_call(self):
        """uwsgi forks without Python's knowledge, so no function runs in the child."""
        said = python(
            PRELUDE
            + """
import ctypes
mapi = sundown.connect("parent", socket=socket, start=None)
session = mapi.logon()
child = ctypes.PyDLL(None).fork()
if not child:
    try:
        session.submit(message)
    except sundown.ForkedError:
        print("forked", flush=True)
    os._exit(0)
os.waitpid(child, 0)
print(session.submit(message).state)
mapi.close()
""",
            self.broker.socket,
        )
        self.assertEqual(said.split(), ["forked", "queued"])

    def test_an_outbox_connects_in_each_process(self):
        said = python(
            PRELUDE
            + """
outbox = sundown.Outbox("preloaded", socket=socket, start=None)
outbox.submit(message)
workers = []
for _ in range(8):
    child = os.fork()
    if not child:
        for _ in range(20):
            outbox.submit(message)
        outbox.close()
        os._exit(0)
    workers.append(child)
print([os.waitpid(worker, 0)[1] for worker in workers])
outbox.submit(message)
outbox.close()
""",
            self.broker.socket,
        )
        self.assertEqual(said.strip(), str([0] * 8))
        with self.connect() as mapi:
            self.assertGreaterEqual(len(self.broker.mail()) + sum(not row.state.is_final for row in mapi.queue()), 162)

    def test_multiprocessing_in_all_its_ways(self):
        said = python(
            PRELUDE
            + """
import multiprocessing
outbox = sundown.Outbox("pool", socket=socket, start=None)
def work(number):
    return str(outbox.submit(message).state)
if __name__ == "__main__":
    outbox.submit(message)
    with multiprocessing.get_context("fork").Pool(3) as pool:
        print(set(pool.map(work, range(12))))
    outbox.close()
""",
            self.broker.socket,
        )
        self.assertEqual(said.strip(), "{'queued'}")

    def test_a_fork_while_a_thread_is_in_a_call_leaves_no_lock(self):
        said = python(
            PRELUDE
            + """
import threading
mapi = sundown.connect("parent", socket=socket, start=None)
session = mapi.logon()
ready, done = threading.Event(), threading.Event()
def listens():
    ready.set()
    for event in session.events():
        if done.is_set():
            return
thread = threading.Thread(target=listens, daemon=True)
thread.start()
ready.wait()
for _ in range(20):
    child = os.fork()
    if not child:
        try:
            session.submit(message)
        except sundown.ForkedError:
            with sundown.connect("child", socket=socket, start=None) as own:
                own.ping()
            os._exit(0)
        os._exit(1)
    assert os.waitpid(child, 0)[1] == 0
session.submit(message)
print("ok")
os._exit(0)
""",
            self.broker.socket,
        )
        self.assertEqual(said.strip(), "ok")


class Threads(WithBroker):
    def test_threads_share_a_session(self):
        session = self.logon(no_mail=True)
        seen = []
        session.advise("object-created", seen.append)
        entries, failed = [], []

        def works():
            try:
                for number in range(25):
                    entries.append(session.submit(message(str(number)), deferred=number % 2 == 0).entry)
            except BaseException as error:
                failed.append(error)

        threads = [threading.Thread(target=works) for _ in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        self.assertEqual(failed, [])
        session.flush()
        self.assertEqual(len(set(entries)), 200)
        while len({event.place.entry for event in seen if isinstance(event, sundown.Created)} & set(entries)) < 200:
            session._library.wait_for_news(None)
        self.assertEqual(session.deferred.to_bring_back(), [])

    def test_a_thread_that_waits_for_events_holds_up_no_call(self):
        mapi = self.connect()
        session = mapi.logon(no_mail=True)
        session.advise("object-created")
        got = []

        def listens():
            for event in session.events():
                got.append(event)
                if len(got) == 50:
                    return

        thread = threading.Thread(target=listens)
        thread.start()
        for _ in range(50):
            session.submit(message())
        thread.join(60)
        self.assertEqual(len(got), 50)

    def test_every_thread_comes_back_after_a_crash(self):
        session = self.logon(no_mail=True)
        keys, failed = [], []
        restarts = threading.Barrier(5)

        def works():
            try:
                for number in range(30):
                    if number == 10:
                        restarts.wait(60)
                    keys.append(session.submit(message()).entry.record)
            except BaseException as error:
                failed.append(error)

        threads = [threading.Thread(target=works) for _ in range(4)]
        for thread in threads:
            thread.start()
        restarts.wait(60)
        self.broker.restart()
        for thread in threads:
            thread.join()
        self.assertEqual(failed, [])
        with self.connect() as mapi:
            there = {row.entry.record for row in mapi.queue(all=True)}
        self.assertEqual((len(set(keys)), set(keys) - there), (120, set()))


class Interrupted(Exception):
    pass


class Signals(WithBroker):
    def test_a_signal_in_the_middle_of_a_call_leaves_everything_usable(self):
        """The handler raises in whatever line the call is; the next call works, over the same connection or a new one."""
        session = self.logon(no_mail=True)
        armed = False

        def handler(*_):
            if armed:
                raise Interrupted

        before = signal.signal(signal.SIGALRM, handler)
        self.addCleanup(signal.signal, signal.SIGALRM, before)
        interrupted = 0
        for number in range(150):
            key = sundown.new_key()
            try:
                armed = True
                signal.setitimer(signal.ITIMER_REAL, 0.0002 + number * 0.00001)
                session.submit(message(body="x" * 3000), key=key)
                armed = False
            except Interrupted:
                armed = False
                interrupted += 1
            finally:
                armed = False
                signal.setitimer(signal.ITIMER_REAL, 0)
            self.assertEqual(session.submit(message(body="x" * 3000), key=key).entry.record, key)
        self.assertGreater(interrupted, 10)

    def test_ctrl_c_ends_a_wait(self):
        session = self.logon()

        def handler(*_):
            raise KeyboardInterrupt

        before = signal.signal(signal.SIGALRM, handler)
        self.addCleanup(signal.signal, signal.SIGALRM, before)
        signal.setitimer(signal.ITIMER_REAL, 0.05)
        with self.assertRaises(KeyboardInterrupt):
            for _ in session.events():
                pass
        self.assertTrue(session.submit(message()))

    def test_a_signal_that_raises_nothing_is_not_noticed(self):
        session = self.logon()
        before = signal.signal(signal.SIGALRM, lambda *_: None)
        self.addCleanup(signal.signal, signal.SIGALRM, before)
        signal.setitimer(signal.ITIMER_REAL, 0.001, 0.001)
        try:
            for _ in range(100):
                session.submit(message())
        finally:
            signal.setitimer(signal.ITIMER_REAL, 0)


class Gevent(WithBroker):
    @unittest.skipUnless(importlib.util.find_spec("gevent"), "skipped: gevent is not installed")
    def test_greenlets_share_a_session_and_hold_up_none(self):
        code = (
            "from gevent import monkey; monkey.patch_all()\nimport gevent, time\n"
            + PRELUDE
            + """
mapi = sundown.connect("greenlets", socket=socket, start=None)
session = mapi.logon(no_mail=True)
session.advise("object-created")
seen, turns = [], 0
def listens():
    for event in session.events():
        seen.append(event)
        if len(seen) == 100:
            return
def turns_on():
    global turns
    while True:
        turns += 1
        gevent.sleep(0)
listener, turner = gevent.spawn(listens), gevent.spawn(turns_on)
def works():
    return [session.submit(message).entry for _ in range(10)]
workers = [gevent.spawn(works) for _ in range(10)]
gevent.joinall(workers, raise_error=True, timeout=60)
listener.join(60)
turner.kill()
entries = {entry for worker in workers for entry in worker.value}
print(len(entries), len(seen), turns > 100)
mapi.fileno()
mapi.close()
"""
        )
        self.assertEqual(python(code, self.broker.socket).split(), ["100", "100", "True"])


class Servers(WithBroker):
    @unittest.skipUnless(importlib.util.find_spec("gunicorn"), "skipped: gunicorn is not installed")
    def test_workers_of_gunicorn_that_preload_send_all_of_their_mail(self):
        import http.client
        import socket as sockets
        import subprocess
        import tempfile

        with tempfile.TemporaryDirectory() as folder:
            with open(os.path.join(folder, "shop.py"), "w") as file:
                file.write(
                    "import os, sundown\n"
                    f"outbox = sundown.Outbox('shop', socket={self.broker.socket!r}, start=None)\n"
                    "outbox.submit(b'To: anna@localhost\\n\\npreloaded')\n"
                    "def app(environ, start_response):\n"
                    "    for _ in range(20):\n"
                    "        outbox.submit(b'To: anna@localhost\\n\\nx')\n"
                    "    start_response('200 OK', [])\n"
                    "    return [str(os.getpid()).encode()]\n"
                )
            listener = sockets.socket()
            listener.bind(("127.0.0.1", 0))
            port = listener.getsockname()[1]
            listener.listen()
            settings = environment()
            settings["PYTHONPATH"] += os.pathsep + folder
            settings.pop("PYTHONWARNINGS")
            server = subprocess.Popen(
                [sys.executable, "-m", "gunicorn", "--preload", "--workers", "8", "--bind", f"fd://{listener.fileno()}", "shop:app"],
                env=settings, cwd=folder, pass_fds=[listener.fileno()], stderr=subprocess.DEVNULL,
            )
            try:
                workers = set()
                for _ in range(40):
                    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
                    connection.request("GET", "/")
                    answer = connection.getresponse()
                    self.assertEqual(answer.status, 200)
                    workers.add(answer.read())
                self.assertGreater(len(workers), 1)
            finally:
                server.terminate()
                server.wait(60)
                listener.close()
        self.broker.wait_for_mail(801)
        self.assertEqual(len(self.broker.mail()), 801)


if __name__ == "__main__":
    unittest.main()
