"""The bytes of every message: `protocol/tests/golden.txt` is read and written without a change."""

from __future__ import annotations

import unittest

from support import in_tree

from sundown import protocol
from sundown.protocol import events, replies, requests, types

GOLDEN = in_tree("protocol/tests/golden.txt")


def lines():
    for line in GOLDEN.read_text().splitlines():
        name, frame = line.split(" ")
        yield (*name.split("::"), bytes.fromhex(frame))


def message_in(of, message):
    """The value that the line is about, in the message around it."""
    if of == "Request":
        return message.request
    if of == "Reply":
        return message.result.reply
    if of == "Event":
        return message.notification.event
    return message


AROUND = {
    "Request": requests.Asked,
    "Reply": replies.FromBroker,
    "Event": replies.FromBroker,
    "FromBroker": replies.FromBroker,
}


def declared(of):
    """What the message of a line is declared as."""
    return AROUND.get(of) or getattr(types, of)


def words(variant):
    """`StoreLost` as the command says it: `store-lost`."""
    return "".join(f"-{c.lower()}" if c.isupper() and n else c.lower() for n, c in enumerate(variant))


class Golden(unittest.TestCase):
    def test_every_line_is_read_and_written(self):
        for of, variant, frame in lines():
            with self.subTest(line=f"{of}::{variant}"):
                kind = FolderLine if of == "Folder" else declared(of)
                message = protocol.decode(kind, frame[4:])
                self.assertEqual(bytes(protocol.encode(kind, message)), frame)

    def test_every_line_is_the_variant_that_it_is_called(self):
        for of, variant, frame in lines():
            with self.subTest(line=f"{of}::{variant}"):
                if of == "Folder":
                    self.assertEqual(protocol.decode(FolderLine, frame[4:]).folder, variant.lower())
                    continue
                found = message_in(of, protocol.decode(declared(of), frame[4:]))
                if isinstance(found, protocol.Choice):
                    self.assertIs(type(found), type(found).variants.by_name[variant])
                elif of != "Resource":
                    self.assertEqual(found, words(variant))

    def test_every_variant_has_a_line(self):
        there = {(of, variant) for of, variant, _ in lines()}
        for name, choice in (("Request", requests.Request), ("Reply", replies.Reply), ("Event", events.Event)):
            self.assertEqual({(name, variant) for variant in choice.variants.by_name}, {t for t in there if t[0] == name})

    def test_every_byte_counts(self):
        """A message that lacks its last byte, or has one more, is refused; so is every message that is cut anywhere."""
        for of, variant, frame in lines():
            kind = FolderLine if of == "Folder" else declared(of)
            payload = frame[4:]
            for wrong in [payload[:cut] for cut in range(len(payload))] + [payload + b"\0"]:
                with self.subTest(line=f"{of}::{variant}"), self.assertRaises(protocol.Malformed):
                    protocol.decode(kind, wrong)

    def test_values_are_those_of_the_samples(self):
        by_name = {f"{of}::{variant}": (of, frame) for of, variant, frame in lines()}

        def value(name):
            of, frame = by_name[name]
            return message_in(of, protocol.decode(declared(of), frame[4:]))

        entry = types.EntryId(0x01020304, 0x112233445566778899AABBCCDDEEFF00)
        self.assertEqual(value("Request::Logon"), requests.Logon("work", 0x8000))
        self.assertEqual(value("Event::Arrived"), events.Arrived(types.Place(entry, "inbox"), "anna@host", "Hi"))
        self.assertEqual(value("Event::Folder"), events.FolderChanged(0x01020304, "f16", types.FolderChange.RENAMED))
        self.assertEqual(value("Reply::Submitted"), replies.Submitted(entry, types.SubmissionState.QUEUED))
        self.assertEqual(value("Reply::Flags").flags, types.Flags.of("read,$work"))


class FolderLine(protocol.Record):
    """A folder by itself, as a line of the golden file has it."""

    folder: Folder  # noqa: F821 - a word of the codec


class Values(unittest.TestCase):
    """What has no bytes is refused by its field's name."""

    def test_wrong_types_are_named(self):
        cases = [
            (requests.Reload(None), "profile: None where a string is needed"),
            (requests.Reload(b"work"), "profile: a value of type bytes where a string is needed"),
            (requests.Flush("1"), "member: '1' is no whole number"),
            (requests.DoFastShutdown(1), "remembered: 1 is neither True nor False"),
            (requests.Upload(1, 0, 1, "text"), "data: a value of type str where bytes are needed"),
            (requests.Open(1, types.Inline(b"")), "what: a value of type Inline where a variant of Opening is needed"),
        ]
        for request, words in cases:
            with self.subTest(words), self.assertRaises(protocol.WrongType) as caught:
                protocol.encode(requests.Asked, requests.Asked(1, request))
            self.assertIn(words, str(caught.exception))
            self.assertIsInstance(caught.exception, TypeError)

    def test_what_does_not_fit_is_refused(self):
        for request in (requests.Flush(1 << 64), requests.Flush(-1), requests.Copy(1, 1 << 128, types.EntryId(0, 0), "inbox")):
            with self.assertRaises(protocol.Malformed):
                protocol.encode(requests.Asked, requests.Asked(1, request))
        with self.assertRaises(protocol.TooLong):
            protocol.encode(requests.Asked, requests.Asked(1, requests.Upload(1, 0, 1, bytes(protocol.MAX_PAYLOAD))))
        with self.assertRaises(protocol.Malformed):
            protocol.encode(requests.Asked, requests.Asked(1, requests.Reload("\ud800")))

    def test_a_list_that_says_it_is_long_takes_no_memory(self):
        frame = bytes.fromhex("01000000 0000000000000000 ffffffffffffff7f")
        with self.assertRaises(protocol.Malformed):
            protocol.decode(replies.FromBroker, frame)


class Records(unittest.TestCase):
    """A record is used like a frozen dataclass."""

    def test_it_works_with_the_functions_of_dataclasses(self):
        import dataclasses
        import pprint

        peer = types.Peer(7, program="tray")
        self.assertTrue(dataclasses.is_dataclass(peer))
        self.assertEqual([field.name for field in dataclasses.fields(peer)], ["pid", "program"])
        self.assertEqual(dataclasses.asdict(types.Place(types.EntryId(1, 2), "inbox")), {"entry": {"store": 1, "record": 2}, "folder": "inbox"})
        self.assertEqual(dataclasses.replace(peer, pid=8), types.Peer(8, "tray"))
        self.assertEqual(pprint.pformat((peer,) * 9)[:29], "(Peer(pid=7, program='tray'),")

    def test_it_cannot_be_changed_and_is_a_value(self):
        import copy
        import pickle

        peer = types.Peer(7, "tray")
        with self.assertRaises(AttributeError):
            peer.pid = 8
        self.assertEqual({peer: 1}[types.Peer(7, "tray")], 1)
        self.assertEqual(pickle.loads(pickle.dumps(peer)), peer)
        self.assertEqual(copy.deepcopy(peer), peer)
        self.assertNotEqual(peer, types.Peer(8, "tray"))
        self.assertEqual(repr(peer), "Peer(pid=7, program='tray')")

    def test_wrong_fields_are_named(self):
        for make, words in [
            (lambda: types.Peer(7), "lacks program"),
            (lambda: types.Peer(7, "a", "b"), "has 2 fields"),
            (lambda: types.Peer(7, "a", pid=7), "twice"),
            (lambda: types.Peer(7, name="a"), "no field 'name'"),
        ]:
            with self.assertRaisesRegex(TypeError, words):
                make()

    def test_words_are_their_members(self):
        self.assertEqual(types.SubmissionState.QUEUED, "queued")
        self.assertEqual(str(types.SubmissionState.QUEUED), "queued")
        self.assertTrue(types.SubmissionState("sent").is_final)

    def test_texts_of_entries_folders_flags_and_events(self):
        entry = types.EntryId(0xA1, 0x0F)
        self.assertEqual(str(entry), "000000a10000000000000000000000000000000f")
        self.assertEqual(types.EntryId.of(str(entry)), entry)
        self.assertEqual(types.Flags.of("$work,read").names, ("read", "$work"))
        self.assertEqual(types.Events.of("critical-error,extended"), 0x80000001)
        for wrong in (lambda: types.EntryId.of("1"), lambda: types.folder_number("f15"), lambda: types.folder_number("spam"),
                      lambda: types.Flags.of("two words"), lambda: types.Flags.of("READ"), lambda: types.Events.of("new"),
                      lambda: types.folder_number("f٣٣"), lambda: types.folder_number("f99999999999")):
            with self.assertRaises(protocol.Malformed):
                wrong()
        for wrong in (lambda: types.EntryId.of(None), lambda: types.folder_number(None), lambda: types.Flags.of(None), lambda: types.Events.of(None)):
            with self.assertRaises(protocol.WrongType):
                wrong()


class Errors(unittest.TestCase):
    def test_errors_pass_between_processes(self):
        """A pool of processes passes an error to its parent by pickle."""
        import pickle

        import sundown
        from sundown import _errors

        lost = _errors.disconnected("it was cut", asked=True)
        ended = sundown.EndOfSession("over", by=types.Peer(7, "tray"), grace=3.0)
        for error in (_errors.refused("x", "MAPI_E_NOT_FOUND"), _errors.gave_up(), sundown.ForkedError("this Mapi"), ended, lost, _errors.unknown(lost)):
            again = pickle.loads(pickle.dumps(error))
            self.assertIs(type(again), type(error))
            self.assertEqual((str(again), again.hresult, again.outcome_unknown), (str(error), error.hresult, error.outcome_unknown))
        self.assertEqual((ended.by.program, pickle.loads(pickle.dumps(ended)).grace), ("tray", 3.0))
        self.assertTrue(issubclass(sundown.Timeout, TimeoutError) and issubclass(sundown.Disconnected, ConnectionError))


class Document(unittest.TestCase):
    """PROTOCOL.md says of each request its tag, its version, its replies and whether it may be repeated."""

    @classmethod
    def setUpClass(cls):
        cls.text = in_tree("PROTOCOL.md").read_text()

    def rows(self, heading):
        section = self.text.split(f"\n{heading}\n", 1)[1]
        for line in section.splitlines():
            if line.startswith("#"):
                break
            if line.startswith("| ") and "---" not in line:
                yield [cell.strip() for cell in line.strip("|").split(" | ")]

    def test_requests(self):
        rows = {row[1].strip("`"): row for row in self.rows("### `Request`") if row[0].isdigit()}
        for name, request in requests.Request.variants.by_name.items():
            row = rows[name]
            self.assertEqual(int(row[0]), request.tag)
            said = " ".join(row)
            self.assertEqual("from version" in said, request.since > 1, name)
            self.assertEqual(f"from version {request.since} on" in said, request.since > 1, name)
            for reply in request.reply:
                self.assertIn(f"`{reply.__name__}`", row[-1], name)

    def test_repeats(self):
        rows = list(self.rows("#### Repeats"))
        for name, request in requests.Request.variants.by_name.items():
            words = {row[1] for row in rows if f"`{name}`" in row[0]}
            self.assertIn(request.repeat_word, words, name)

    def test_what_costs_no_credit(self):
        free = {name for name, request in requests.Request.variants.by_name.items() if request.free}
        fast = {"QueryFastShutdown", "NotifyProcessShutdown", "DoFastShutdown"}
        self.assertEqual(free, {"Logoff", "Unadvise", "Release", "Status"} | fast)
        self.assertIn("`Logoff`, `Unadvise`, `Release`, the three of fast shutdown and `Status` cost no credit", self.text)

    def test_codes(self):
        for row in self.rows("## Faults"):
            name = row[0].strip("`")
            if name != "code":
                self.assertEqual(protocol.codes.NUMBERS[name], int(row[1].strip("`"), 16), name)


class Example(unittest.TestCase):
    """The example session of PROTOCOL.md, byte for byte, through a `Connection`."""

    def test_the_example_session(self):
        import re

        text = in_tree("PROTOCOL.md").read_text().split("<!-- session: begin -->")[1]
        said = re.findall(r"\n(client|broker): ([^\n]*)\n\n```text\n(.*?)```", text, re.S)
        frames = [(who, what, bytes.fromhex("".join(line[6:53] for line in dump.splitlines()))) for who, what, dump in said]
        self.assertEqual(len(frames), 11)
        connection = protocol.Connection("tray", image=b"\xab" * 16, library=b"\xcd" * 16, newest=1)
        self.assertEqual(connection.hello(), frames[0][2])
        asked = {1: requests.Logon(None, 0)}
        seen = []
        for who, what, frame in frames[1:]:
            if who == "client":
                message = protocol.decode(requests.Asked, frame[4:])
                self.assertEqual(bytes(protocol.encode(requests.Asked, message)), frame, what)
                connection.book(protocol.Pending(message.id, message.request, 0, None))
                asked[message.id] = message.request
            else:
                seen += connection.receive(frame)
        self.assertEqual([type(one).__name__ for one in seen], ["Welcomed", "Answered", "Answered", "Answered", "Notified", "Answered"])
        self.assertEqual(seen[4].notification.event.by, types.Peer(977, "backup"))
        self.assertEqual(seen[4].notification.event.grace, 30)


if __name__ == "__main__":
    unittest.main()
