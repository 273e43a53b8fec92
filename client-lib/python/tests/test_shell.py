"""`python -m sundown.shell`: what only this shell can show; `tests/integration` holds it to the contract of docs/command.md."""

from __future__ import annotations

import base64
import json
import re
import subprocess
import sys
import unittest

from support import WithBroker, environment, in_tree, message

import sundown
from sundown.shell._commands import COMMANDS
from sundown.shell._line import Input, Words


def run(broker, text, *arguments):
    """What the shell says to this input, and its status."""
    data = text.encode() if isinstance(text, str) else text
    command = [sys.executable, "-m", "sundown.shell", "--socket", broker.socket, "--no-autostart", *arguments]
    ran = subprocess.run(command, input=data, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=environment(), timeout=60)
    return ran


class Shell(WithBroker):
    def replies(self, text):
        ran = run(self.broker, text, "--json")
        self.assertEqual((ran.returncode, ran.stderr), (0, b""))
        lines = [json.loads(line) for line in ran.stdout.decode().splitlines()]
        return [line for line in lines if "reply" in line]

    def test_a_message_comes_in_the_line_or_behind_it(self):
        data = message("three ways", body="logoff\n")
        text = base64.b64encode(data).decode()
        said = self.replies(
            b"logon\nsubmit session=1 content=%s\nsubmit session=1 size=%d\n%s" % (text.encode(), len(data), data)
            + b"sbmit size=6\nlogon\nappend session=1 folder=drafts size=3 file=x\nabcdraft session=1\nsubmit session=1 content=?\nsubmit session=1 size=x\nflush session=1\n"
        )
        self.assertEqual([one["ok"] for one in said], [True, True, True, False, False, False, False, False, True])
        self.assertEqual({one["error"]["code"] for one in said if not one["ok"]}, {"MAPI_E_INVALID_PARAMETER"})
        self.assertIn("exactly one of", said[4]["error"]["message"])

    def test_an_input_that_ends_within_a_message_ends(self):
        self.assertEqual([one["reply"] for one in self.replies(b"logon\nsubmit session=1 size=10\nTo: a")], [1])

    def test_its_commands_are_those_of_the_command(self):
        source = in_tree("src/shell/help.rs").read_text().split("COMMANDS: &[Command] = &[")[1].split("\n];")[0]
        found = re.findall(r'command\(\s*"([^"]*)",\s*"((?:[^"\\]|\\.)*)",\s*"([^"]*)"', source)
        self.assertEqual([(name, words.replace('\\"', '"'), about) for name, words, about in found], [row[:3] for row in COMMANDS])
        said = self.replies("help\n")[0]["commands"]
        self.assertEqual([one["command"] for one in said], [row[0] for row in COMMANDS])
        listed = run(self.broker, "", "--help").stdout.decode()
        for name, _, about, _ in COMMANDS:
            self.assertRegex(listed, rf"(?m)^  {name}\b")
            self.assertIn(about, listed)

    def test_what_it_prints_for_people(self):
        said = run(self.broker, "logon\nlist object=9\nadvise session=1 events=new\nfolders session=1\n").stdout.decode()
        self.assertRegex(said, r"(?m)^1: ok session=1 profile=default shared=true member=\d+$")
        self.assertIn("2: object 9 was released, or never opened in this shell (MAPI_E_INVALID_OBJECT 0x80040108)", said)
        self.assertIn("\n   folder=inbox parent=null name=Inbox role=inbox total=", said)
        self.assertNotIn("sundown>", said)

    def test_without_a_broker_it_says_so(self):
        ran = subprocess.run(
            [sys.executable, "-m", "sundown.shell", "--json", "--socket", "/nonexistent/s", "--no-autostart"],
            env=environment(), stdout=subprocess.PIPE, stdin=subprocess.DEVNULL, timeout=60,
        )
        self.assertEqual((ran.returncode, json.loads(ran.stdout)["error"]["code"]), (1, "MAPI_E_NETWORK_ERROR"))

    def test_a_reader_that_has_gone_is_no_failure(self):
        command = [sys.executable, "-m", "sundown.shell", "--json", "--socket", self.broker.socket]
        shell = subprocess.Popen(command, env=environment(), stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        shell.stdout.close()
        shell.communicate(b"logon\nlogoff session=1\n", timeout=60)
        self.assertEqual(shell.returncode, 0)


class Lines(unittest.TestCase):
    """The cases of `src/shell/line.rs` and `src/shell/input.rs`."""

    def test_lines_are_split_as_people_write_them(self):
        words = Words('  submit session=1\tfile="a b.eml" deferred ')
        self.assertEqual((words.command, words.value("file"), words.needed("session")), ("submit", "a b.eml", "1"))
        self.assertEqual((words.flag("deferred"), words.flag("deferred")), (True, False))
        words.end()
        self.assertFalse(Words("") or Words("   # logon"))
        self.assertEqual(Words("a x=b#c").value("x"), "b#c")
        self.assertEqual(Words('a x=\\"q\\ ').value("x"), '"q ')

    def test_what_makes_no_sense_is_said(self):
        for wrong in (
            lambda: Words('a x="b'),
            lambda: Words("a x=1 x=2"),
            lambda: Words("a x").value("x"),
            lambda: Words("a x=1").flag("x"),
            lambda: Words("a").needed("x"),
            lambda: Words("a z").end(),
        ):
            with self.assertRaises(sundown.InvalidParameter):
                wrong()

    def commands(self, data, limit=None):
        pieces = iter([data[at : at + 7] for at in range(0, len(data), 7)])
        commands = Input(lambda: next(pieces, b""), lambda: limit)
        found = []
        while True:
            given = commands.next()
            if given is None:
                return found
            words = given.words
            found.append((f"error: {words.message}" if isinstance(words, sundown.Error) else words.command, given.body))

    def test_bytes_behind_a_line_are_no_commands(self):
        self.assertEqual(
            self.commands(b"logon\nsubmit size=9 session=1\na\n\nlogoff\nappend size=0\nflush"),
            [("logon", None), ("submit", b"a\n\nlogoff"), ("", None), ("append", b""), ("flush", None)],
        )
        self.assertEqual(self.commands(b"sbmit size=6\nflush\nlogon\n"), [("sbmit", b"flush\n"), ("logon", None)])
        self.assertEqual(
            self.commands(b'append folder="x size=6\nflush\nlogon\n'), [("error: a quote is not closed", b"flush\n"), ("logon", None)]
        )
        self.assertEqual(
            self.commands(b"append size=5 size=6\nflush\nlogon\n"), [("error: size is given twice", b"flush\n"), ("logon", None)]
        )
        self.assertEqual(self.commands(b"# size=6\nflush\n"), [("", None), ("flush", None)])
        self.assertEqual(self.commands(b"submit size=six\nflush\n"), [("submit", None), ("flush", None)])
        self.assertEqual(self.commands(b"logon\nsubmit size=9\nshort"), [("logon", None)])
        self.assertEqual(self.commands(b"logon\nsubmit size=1"), [("logon", None)])

    def test_a_message_that_is_too_long_is_dropped(self):
        from sundown.shell import _line

        before, _line.UNASKED = _line.UNASKED, 20
        try:
            found = self.commands(b"submit size=30\n" + b"x" * 30 + b"logon\n", limit=25)
            self.assertEqual((found[0][1].code, found[1]), ("MAPI_E_TOO_BIG", ("logon", None)))
            self.assertIn("longer than 25 bytes", found[0][1].message)
            self.assertEqual(self.commands(b"submit size=30\n" + b"x" * 30, limit=30)[0][1], b"x" * 30)
            self.assertEqual(self.commands(b"submit size=30\n" + b"x" * 29), [])
        finally:
            _line.UNASKED = before


if __name__ == "__main__":
    unittest.main()
