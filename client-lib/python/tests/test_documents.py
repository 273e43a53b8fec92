"""README, docs/python.md and the examples: what they show is run."""

from __future__ import annotations

import doctest
import os
import re
import subprocess
import sys
import unittest

from support import INSTALLED, PACKAGE, WithBroker, environment, in_tree, message, python

import sundown
from sundown import _image, _limits, _mail, _make, _options, _process, protocol

EXAMPLES = PACKAGE / "examples"
PAGES = [PACKAGE / "README.md", in_tree("docs/python.md")]


class Examples(WithBroker):
    def start(self, name, *arguments):
        variables = {**environment(), "SUNDOWN_SOCKET": self.broker.socket, "HOME": str(self.broker.home)}
        return subprocess.Popen(
            [sys.executable, str(EXAMPLES / name), *arguments], env=variables, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )

    def run_example(self, name, *arguments):
        program = self.start(name, *arguments)
        said, errors = program.communicate(timeout=60)
        self.assertEqual((program.returncode, errors), (0, ""))
        return said

    def test_every_example_is_run(self):
        names = {path.name for path in EXAMPLES.glob("*.py")}
        tested = set(re.findall(r'(?:run_example|start)\("([a-z]+\.py)"', (PACKAGE / "tests/test_documents.py").read_text()))
        self.assertEqual(names, tested)

    def test_report(self):
        self.assertRegex(self.run_example("report.py"), "^[0-9a-f]{40}\n$")
        self.assertIn(b"All is well.", self.broker.wait_for_mail(containing=b"Subject: Report"))

    def test_newsletter(self):
        self.assertEqual(self.run_example("newsletter.py", "anna@localhost", "bo@localhost"), "2 messages are on the disk\n")

    def test_crowd(self):
        self.assertEqual(self.run_example("crowd.py", "40"), "40 entries\n")

    def test_follow(self):
        follower = self.start("follow.py", "1")
        self.assertEqual(follower.stdout.readline(), "ready\n")
        self.addCleanup(follower.kill)
        self.broker.deliver(b"From: Bo <bo@localhost>\nTo: anna@localhost\nSubject: Hello\n\nx")
        said = follower.communicate(timeout=60)[0]
        self.assertRegex(said, "bo@localhost.*: Hello")


class Pages(WithBroker):
    def blocks(self):
        for page in PAGES:
            if not page.exists():
                continue
            text = page.read_text()
            for number, block in enumerate(re.findall(r"(?m)^ *```python\n(.*?)^ *```", text, re.S)):
                yield f"{page.name} {number}", __import__("textwrap").dedent(block)

    def test_every_block_is_python(self):
        found = list(self.blocks())
        self.assertGreater(len(found), 5)
        for name, block in found:
            with self.subTest(name):
                compile(block, name, "exec")

    @unittest.skipIf(INSTALLED, "skipped: the pages are in the source tree")
    def test_the_quickstart_is_the_example_and_runs(self):
        quickstart = next(self.blocks())[1]
        example = (EXAMPLES / "report.py").read_text().split('"""\n', 1)[1].strip()
        self.assertEqual(quickstart.strip(), example)
        self.assertEqual(len([line for line in quickstart.splitlines() if line.strip()]), 4)

    def test_every_block_that_is_whole_runs(self):
        """A block with an import is a program, but for its names of things that a reader has."""
        with self.connect() as mapi, mapi.logon() as session:
            mapi.logon()
            for name, block in self.blocks():
                first = block.lstrip().partition("\n")[0]
                if not first.startswith(("import sundown", "from sundown")) or "def " in block:
                    continue
                with self.subTest(name):
                    python(block, SUNDOWN_SOCKET=self.broker.socket, HOME=str(self.broker.home))
            self.assertTrue(session.submit(message()))

    def test_every_name_of_the_readme_exists(self):
        text = PAGES[0].read_text()
        rows = re.findall(r"(?m)^\| `(\w+)` \| (.*) \|$", text)
        for kind, calls in rows:
            if not hasattr(sundown, kind) or not isinstance(getattr(sundown, kind), type):
                continue
            for call in re.findall(r"`(\w+)\(", calls):
                self.assertTrue(hasattr(getattr(sundown, kind), call), f"{kind}.{call}")
        for section, kind in (("### `Mapi`", sundown.Mapi), ("### `Session`", sundown.Session)):
            table = text.split(section)[1].split("\n#")[0]
            for cell in re.findall(r"(?m)^\| (.*?) \|", table):
                for call in re.findall(r"`(\w+)\(", cell):
                    self.assertTrue(hasattr(kind, call), f"{kind.__name__}.{call}")


class Doctests(unittest.TestCase):
    def test_the_examples_of_docstrings(self):
        for module in (_image, _limits, _mail, _make, _options, _process, protocol, protocol._connection, sundown._errors):
            failed, tried = doctest.testmod(module)
            self.assertEqual(failed, 0, module.__name__)
            self.assertGreater(tried, 0, module.__name__)


class Fixture(WithBroker):
    def test_the_fixture_of_pytest(self):
        import importlib.util
        import tempfile

        if not importlib.util.find_spec("pytest"):
            self.skipTest("skipped: pytest is not installed")
        with tempfile.TemporaryDirectory() as folder:
            path = os.path.join(folder, "test_report.py")
            with open(path, "w") as file:
                file.write(
                    "import sundown\n"
                    "def test_report(sundown_broker):\n"
                    "    with sundown_broker.connect() as mapi, mapi.logon() as session:\n"
                    "        session.submit(sundown.email('anna@localhost', subject='Report'))\n"
                    "    assert b'Subject: Report' in sundown_broker.wait_for_mail()\n"
                )
            plugin = [] if INSTALLED else ["-p", "sundown.testing.plugin"]
            ran = subprocess.run(
                [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", *plugin, path],
                env=environment(), cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=100,
            )
            self.assertEqual(ran.returncode, 0, ran.stdout.decode())


if __name__ == "__main__":
    unittest.main()
