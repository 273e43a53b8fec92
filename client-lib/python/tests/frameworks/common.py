"""What the tests with frameworks share: counted brokers, servers behind Unix sockets, and the examples of docs/python-frameworks.md."""

from __future__ import annotations

import collections
import http.client
import importlib.util
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import unittest
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

# `support` removes the variables of the user's broker.
LONG = os.environ.get("SUNDOWN_FRAMEWORKS") == "long"

import support  # noqa: E402

from sundown.testing import Broker  # noqa: E402

WORKERS = 8
EACH = 1000 if LONG else 50
BIN = Path(sys.executable).parent
PATIENCE = 900.0 if LONG else 90.0


def needs(*modules):
    """Skips tests of a framework that is not installed."""
    for module in modules:
        if importlib.util.find_spec(module) is None:
            return unittest.skip(f"skipped: {module} is not installed")
    return lambda test: test


def example(name):
    """An example of the page, by the name of its file."""
    page = support.in_tree("docs/python-frameworks.md").read_text()
    found = re.findall(rf"^( *)```python {re.escape(name)}\n(.*?)^\1```$", page, re.MULTILINE | re.DOTALL)
    assert len(found) == 1, f"docs/python-frameworks.md has {len(found)} examples {name}"
    indent, text = found[0]
    return "".join(line[len(indent) :] for line in text.splitlines(True))


def until(condition, what):
    """Waits until a condition holds, and returns what it returned."""
    end = time.monotonic() + PATIENCE
    while True:
        found = condition()
        if found:
            return found
        if time.monotonic() > end:
            raise AssertionError(f"not within {PATIENCE:g} s: {what}")
        time.sleep(0.01)


def subjects(broker):
    """How often each subject was delivered."""
    lines = re.compile(rb"^Subject: (.*?)\r?$", re.MULTILINE)
    return collections.Counter(lines.search(message).group(1).decode() for message in broker.mail())


def delivered(broker):
    folder = Path(broker.data) / "default/Maildir/new"
    return len(os.listdir(folder)) if folder.is_dir() else 0


def wait_until_sent(broker, count=0):
    """Waits until so many messages are delivered, and nothing is to be sent any more."""
    until(lambda: delivered(broker) >= count, f"{count} messages are delivered")
    with broker.connect() as mapi:
        until(lambda: all(row.state.is_final for row in mapi.queue()), "the queue is empty")


def environment(broker, **more):
    """The environment of a program that finds this broker, the package and these files, and nothing of the user's."""
    path = os.pathsep.join([str(Path(__file__).resolve().parent), support.environment()["PYTHONPATH"]])
    return {
        **broker.environment,
        "PATH": os.pathsep.join([str(BIN), os.environ.get("PATH", "")]),
        "PYTHONPATH": path,
        "SUNDOWN_SOCKET": broker.socket,
        "SUNDOWN_TEST_PROGRAM": broker.program,
        **more,
    }


class Program:
    """A program that runs beside a test, in a process group of its own, which ends with the test."""

    def __init__(self, *arguments, folder, **environment):
        self.log_path = Path(folder) / "program.log"
        with open(self.log_path, "ab") as log:
            self.process = subprocess.Popen(
                [str(argument) for argument in arguments],
                cwd=folder,
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )

    @property
    def log(self):
        return self.log_path.read_text(errors="replace")

    def runs(self):
        if self.process.poll() is not None:
            raise AssertionError(f"the program ended with status {self.process.returncode}: {self.log[-4000:]}")
        return True

    def __enter__(self):
        return self

    def __exit__(self, *_):
        try:
            os.killpg(self.process.pid, signal.SIGKILL)
        except ProcessLookupError:
            pass
        self.process.wait()


class _OverUnix(http.client.HTTPConnection):
    def __init__(self, path):
        super().__init__("localhost", timeout=PATIENCE)
        self._path = path

    def connect(self):
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(self.timeout)
        self.sock.connect(self._path)


def ask(path, target, method="GET"):
    """The answer of an HTTP server at a Unix socket."""
    connection = _OverUnix(str(path))
    try:
        connection.request(method, target)
        answer = connection.getresponse()
        text = answer.read().decode()
        if answer.status != 200:
            raise AssertionError(f"{method} {target}: {answer.status} {text[-2000:]}")
        return text
    finally:
        connection.close()


def accepts(path):
    """Whether a server listens at a Unix socket."""
    with socket.socket(socket.AF_UNIX) as probe:
        try:
            probe.connect(str(path))
        except OSError:
            return False
    return True


@unittest.skipUnless(support.PROGRAM, "skipped: there is no `sundown`: build it, or name it with SUNDOWN_TEST_PROGRAM")
class WithBroker(unittest.TestCase):
    """Tests with a broker and a directory of their own."""

    maxDiff = None
    settings = ""

    def setUp(self):
        self.programs = []
        self.broker = Broker(settings=self.settings)
        self.addCleanup(self.broker.__exit__, None, None, None)
        self.folder = Path(tempfile.mkdtemp(prefix="sundown-"))
        self.addCleanup(shutil.rmtree, self.folder, ignore_errors=True)

    def program(self, *arguments, **more):
        program = Program(*arguments, folder=self.folder, **environment(self.broker, **more))
        self.addCleanup(program.__exit__)
        self.programs.append(program)
        return program

    def _callTestMethod(self, method):
        try:
            super()._callTestMethod(method)
        except BaseException:
            for program in self.programs:
                print(f"{self.id()}: the program said:\n{program.log[-8000:]}", file=sys.stderr)
            lines = [line for line in self.broker.log.splitlines() if "event=provider-call" not in line and "event=delivery" not in line]
            print("and the broker:\n" + "\n".join(lines[-100:]), file=sys.stderr)
            raise

    def python(self, code, *arguments, **more):
        """What a program says that another Python runs in the directory of the test; it must succeed."""
        ran = subprocess.run(
            [sys.executable, "-W", "error::ResourceWarning", "-c", code, *arguments],
            cwd=self.folder,
            env=environment(self.broker, **{**more, "PYTHONPATH": os.pathsep.join([str(self.folder), environment(self.broker)["PYTHONPATH"]])}),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            timeout=PATIENCE,
        )
        self.assertEqual(ran.returncode, 0, ran.stdout.decode() + ran.stderr.decode())
        self.stderr = ran.stderr.decode()
        return ran.stdout.decode()

    def write(self, name, text):
        (self.folder / name).write_text(text)
