"""Reads a message from standard input with Python's own parser, which knows nothing of Sundown, and prints what it finds as JSON."""

import email
import email.policy
import json
import sys

raw = sys.stdin.buffer.read()
message = email.message_from_bytes(raw, policy=email.policy.default)
parts = list(message.walk())
headers = [value for part in parts for value in part.values()]


def people(field):
    return [[one.display_name, one.addr_spec] for one in message[field].addresses]


def content(part):
    content = part.get_content()
    return content if isinstance(content, str) else content.hex()


json.dump(
    {
        "subject": message["Subject"],
        "from": people("From"),
        "to": people("To"),
        "version": message["MIME-Version"],
        "parts": [[p.get_content_type(), p.get_filename(), content(p)] for p in parts if not p.is_multipart()],
        "defects": [str(d) for p in parts for d in p.defects]
        + [str(d) for value in headers for d in getattr(value, "defects", [])],
        "longest": max(len(line) for line in raw.splitlines()),
        "ascii": raw.isascii(),
    },
    sys.stdout,
)
