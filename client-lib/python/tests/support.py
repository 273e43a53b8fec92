"""What the tests share: the package from the source tree, brokers, and processes.

SUNDOWN_PYTHON_INSTALLED says that the installed package is meant, SUNDOWN_TEST_PROGRAM which `sundown` is the broker.
"""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import sys
import tempfile
import textwrap
import threading
import unittest
from pathlib import Path

HERE = Path(__file__).resolve().parent
PACKAGE = HERE.parent
ROOT = PACKAGE.parent.parent
INSTALLED = bool(os.environ.get("SUNDOWN_PYTHON_INSTALLED"))
if not INSTALLED:
    sys.path.insert(0, str(PACKAGE / "src"))

PROGRAM = os.environ.get("SUNDOWN_TEST_PROGRAM") or next(
    (str(path) for path in (ROOT / "target/debug/sundown", ROOT / "target/release/sundown") if path.exists()), shutil.which("sundown")
)
if PROGRAM:
    os.environ["SUNDOWN_TEST_PROGRAM"] = PROGRAM
# The tests see nothing of the user's broker.
for name in [name for name in os.environ if name.startswith("SUNDOWN_") and name not in ("SUNDOWN_TEST_PROGRAM", "SUNDOWN_PYTHON_INSTALLED")]:
    del os.environ[name]


def in_tree(path: str) -> Path:
    """A file of the source tree, beside which these tests are."""
    return ROOT / path


def message(subject: str = "Hi", to: str = "anna@localhost", body: str = "Hi!\n") -> bytes:
    return f"To: {to}\nSubject: {subject}\n\n{body}".encode()


def environment(**more: str) -> "dict[str, str]":
    """The environment of a Python that finds the same package."""
    path = os.pathsep.join([str(HERE)] + ([] if INSTALLED else [str(PACKAGE / "src")]))
    return {**os.environ, "PYTHONPATH": path, "PYTHONWARNINGS": "error::ResourceWarning", **more}


def python(code: str, *arguments: str, **more: str) -> str:
    """What a program says that is run by another Python; it must succeed."""
    ran = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code), *arguments],
        env=environment(**more),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        timeout=120,
    )
    if ran.returncode:
        raise AssertionError(f"status {ran.returncode}: {ran.stdout.decode()}{ran.stderr.decode()}")
    return ran.stdout.decode()


@unittest.skipUnless(PROGRAM, "skipped: there is no `sundown`: build it, or name it with SUNDOWN_TEST_PROGRAM")
class WithBroker(unittest.TestCase):
    """Tests with a private broker, which the tests of a class share."""

    settings = ""
    maxDiff = None

    @classmethod
    def setUpClass(cls):
        from sundown.testing import Broker

        cls.broker = Broker(settings=cls.settings)
        cls.addClassCleanup(cls.broker.__exit__, None, None, None)

    def connect(self, program="test", **options):
        mapi = self.broker.connect(program, **options)
        self.addCleanup(mapi.close)
        return mapi

    def logon(self, *arguments, **keywords):
        return self.connect().logon(*arguments, **keywords)


class Server:
    """A program that answers at a socket as the test wants: `serve` gets each connection, on a thread."""

    def __init__(self, serve):
        self.folder = tempfile.mkdtemp(prefix="sundown-")
        self.socket = os.path.join(self.folder, "s")
        self._listener = socket.socket(socket.AF_UNIX)
        self._listener.bind(self.socket)
        self._listener.listen()
        self._serve = serve
        self._connections = []
        self._thread = threading.Thread(target=self._accept, daemon=True)
        self._thread.start()

    def _accept(self):
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            self._connections.append(connection)
            threading.Thread(target=self._one, args=(connection,), daemon=True).start()

    def _one(self, connection):
        try:
            self._serve(connection)
        except OSError:
            pass

    def close(self):
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self._thread.join()
        for connection in self._connections:
            connection.close()
        shutil.rmtree(self.folder)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()


def frame_of(connection):
    """The payload of the next frame; `None` at the end."""
    have = b""
    while len(have) < 4 or len(have) < 4 + int.from_bytes(have[:4], "little"):
        wanted = 4 - len(have) if len(have) < 4 else 4 + int.from_bytes(have[:4], "little") - len(have)
        more = connection.recv(wanted)
        if not more:
            return None
        have += more
    return have[4:]


def old_broker(version, answers):
    """What serves a connection as a broker of this version: `answers` gives the reply to each request."""
    from sundown import protocol

    def serve(connection):
        frame_of(connection)
        welcome = protocol.hello.Welcome(version, os.getpid(), 256, 4 << 20)
        connection.sendall(protocol.encode(protocol.hello.HelloAnswer, welcome))
        while True:
            payload = frame_of(connection)
            if payload is None:
                return
            asked = protocol.decode(protocol.requests.Asked, payload)
            reply = answers(asked.request)
            if reply is None:
                continue
            result = protocol.replies.Failed(reply) if isinstance(reply, protocol.types.Fault) else protocol.replies.Succeeded(reply)
            connection.sendall(protocol.encode(protocol.replies.FromBroker, protocol.replies.Answer(asked.id, result)))

    return serve


class Proxy(Server):
    """Passes frames between clients and a broker. `cut` names a request whose answer does not come: the connection ends instead, once."""

    def __init__(self, broker_socket):
        self._broker_socket = broker_socket
        self.cut = None
        self.seen = []
        super().__init__(self._pass_on)

    def _pass_on(self, client):
        from sundown import protocol

        broker = socket.socket(socket.AF_UNIX)
        broker.connect(self._broker_socket)
        cutting = threading.Event()

        def back():
            while True:
                try:
                    payload = frame_of(broker)
                except OSError:
                    payload = None
                if payload is None or (cutting.is_set() and payload[:4] == bytes(4)):
                    try:
                        client.shutdown(socket.SHUT_RDWR)
                    except OSError:
                        pass  # the client has closed it
                    broker.close()
                    return
                client.sendall(len(payload).to_bytes(4, "little") + payload)

        hello = frame_of(client)
        broker.sendall(len(hello).to_bytes(4, "little") + hello)
        threading.Thread(target=back, daemon=True).start()
        while True:
            payload = frame_of(client)
            if payload is None:
                broker.close()
                return
            request = protocol.decode(protocol.requests.Asked, payload).request
            self.seen.append(type(request).__name__)
            if self.cut is not None and isinstance(request, self.cut):
                self.cut = None
                cutting.set()
            broker.sendall(len(payload).to_bytes(4, "little") + payload)
