"""Heads and addresses are read as the Rust library reads them: its own cases are the cases here."""

from __future__ import annotations

import ast
import re
import unittest
from email.message import EmailMessage

from support import in_tree

import sundown
from sundown import _mail


def cases_of(file, test):
    """The table of a test of the Rust crate: pairs of a text and a list of texts, or of a text and a text."""
    source = in_tree(f"protocol/mail/src/{file}").read_text()
    body = source.split(f"fn {test}()")[1].split("];\n        for")[0].split("= &[", 1)[1]
    body = re.sub(r"\\u\{([0-9a-f]+)\}", lambda found: f"\\U{int(found[1], 16):08x}", body.replace("&[", "["))
    return ast.literal_eval(f"[{body}]")


class Lists(unittest.TestCase):
    def test_lists_are_read_as_they_are_written(self):
        cases = cases_of("list.rs", "lists_are_read_as_they_are_written")
        self.assertGreater(len(cases), 20)
        for text, wanted in cases:
            with self.subTest(text):
                self.assertEqual(_mail.addresses(text), wanted)

    def test_what_is_no_address_is_given_back(self):
        for text in ("Anna Smith", "a@b c@d", "<a@b", '"a@b', "(a@b", "a@b <", "Anna <>", "a@b Bcc: c@d", "x <a> y"):
            with self.subTest(text):
                found = _mail.addresses(text)
                self.assertTrue(found)
                self.assertFalse(all(map(_mail.is_address, found)))
        self.assertEqual(_mail.addresses(b"\xff@x"), ["\\xff@x"])

    def test_addresses_are_judged_as_the_broker_judges_them(self):
        for good in ("anna", "anna@example.org", '"an na"@[192.0.2.1]', "a..b@x", "jürgen@münchen.de", "a@b.", "a_b@c_d"):
            self.assertTrue(_mail.is_address(good), good)
        for bad in ("", '""', "anna@", "@x", "an na@x", "a@-b", "a@b..c", "a@[]", "a,b", "a@b@c", "a\x7fb", "x" * 321, "a@" + "b" * 256):
            self.assertFalse(_mail.is_address(bad), bad)


class Heads(unittest.TestCase):
    def test_fields_end_where_they_end(self):
        cases = cases_of("head.rs", "fields_are_found_up_to_the_empty_line")
        self.assertGreater(len(cases), 10)
        for text, wanted in cases:
            with self.subTest(text):
                found = [(field.name.decode(), field.value.decode()) for field in _mail.fields(text.encode())]
                self.assertEqual(found, [(name.lower(), value) for name, value in wanted])

    def test_names_are_bounded(self):
        def is_long(name, blanks):
            return len(list(_mail.fields(b"A: 1\n" + b"x" * name + b" " * blanks + b": 2\n"))) == 2

        self.assertTrue(is_long(998, 0) and is_long(1, 997))
        self.assertFalse(is_long(999, 0) or is_long(998, 1) or is_long(1, 998))
        blanks = b" " * 998
        hidden = b"bcc" + blanks + b": a\nBCC" + blanks + b"b\nresent-bcc" + blanks + b"\n"
        self.assertEqual([field.value for field in _mail.fields(hidden)], [b" a\n", b"b\n", b"\n"])

    def test_every_field_counts_and_a_resent_message_goes_to_whom_it_was_resent(self):
        text = b'Received: x\nTo: a@x, "b c"@x\nto: (none)\nCC: d\nBcc:\n e@x,\n f@x\nFrom: g@x\n\nTo: body'
        self.assertEqual(_mail.named(text), (("a@x", '"b c"@x', "d", "e@x", "f@x"), "g@x", True))
        again = b"resent-to: h@x\nResent-Cc: i@x\nRESENT-BCC: j\n" + text
        self.assertEqual(_mail.named(again)[:2], (("h@x", "i@x", "j"), "g@x"))
        self.assertEqual(_mail.named(b"Resent-From: k@x\nResent-To: h\n" + text).sender, "k@x")
        self.assertEqual(_mail.named(b"Resent-To:\n" + text).recipients, ())
        self.assertIsNone(_mail.named(b"From: Anna Smith\nTo: a@b\n\n").sender)
        self.assertEqual(_mail.named(b"Resent-From: k@x\n" + text).sender, "g@x")

    def test_what_is_no_message_has_no_recipients(self):
        for text in (b"", b"\0\0", b"no head at all", b"\n\nTo: a@b", b"\xff" * 1000):
            self.assertEqual(_mail.named(text), ((), None, False))

    def test_heads_of_any_size_are_read(self):
        many = b"To: " + b"someone@example.org,\n " * 10_000 + b"\n\n"
        self.assertEqual(len(_mail.named(many).recipients), 10_000)
        self.assertEqual(len(_mail.named(b"Bcc: a@b\n" * 10_000).recipients), 10_000)

    def test_a_field_in_front(self):
        for before, after in [
            (b"To: x\n\nbody", b"From: a@b\nTo: x\n\nbody"),
            (b"To: x\r\n\r\nbody", b"From: a@b\r\nTo: x\r\n\r\nbody"),
            (b"just a body\n", b"From: a@b\n\njust a body\n"),
            (b"\nbody", b"From: a@b\n\nbody"),
            (b"", b"From: a@b\n\n"),
        ]:
            self.assertEqual(_mail.in_front(before, "From", "a@b"), after)
        self.assertEqual(_mail.in_front(b"", "From", "a\nBcc: b"), b"From: a Bcc: b\n\n")


class Messages(unittest.TestCase):
    def test_an_email_message_is_its_bytes(self):
        message = EmailMessage()
        message["To"], message["Bcc"], message["From"], message["Subject"] = "Anna <anna@x>", "bo@x", "me@x", "Grüße"
        message.set_content("text")
        found = _mail.named(_mail.bytes_of(message))
        self.assertEqual(found, (("anna@x", "bo@x"), "me@x", True))

    def test_what_is_no_message_is_refused_with_what_to_do(self):
        for wrong, words in ((None, "the message is None"), ("To: a@b", "a value of type str"), (7, "a value of type int")):
            with self.assertRaisesRegex(sundown.InvalidType, words):
                _mail.bytes_of(wrong)
        self.assertEqual(_mail.bytes_of(bytearray(b"x")), b"x")


if __name__ == "__main__":
    unittest.main()
