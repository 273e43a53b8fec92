"""Reads a delivery status notification from standard input with parsers that know nothing of Sundown, and prints what they
find as JSON: the recipients that flufl.bounce takes for failed, and the fields that Python's own parser sees."""

import email
import email.policy
import json
import sys

from flufl.bounce import all_failures

raw = sys.stdin.buffer.read()
temporary, permanent = all_failures(email.message_from_bytes(raw))
message = email.message_from_bytes(raw, policy=email.policy.default)
parts = list(message.iter_parts())


def blocks(part):
    """The blocks of fields of a report. The parser knows those of `message/delivery-status`, and not of the type for UTF-8."""
    if part.get_content_type() == "message/delivery-status":
        return part.get_payload()
    text = part.as_bytes(policy=email.policy.SMTPUTF8).decode().split("\r\n\r\n", 1)[1]
    policy = email.policy.SMTPUTF8
    return [email.message_from_string(block, policy=policy) for block in text.strip().split("\r\n\r\n")]


def returned(part):
    """The message that a report returns, or its head."""
    if part.get_content_type() in ("message/rfc822", "message/global"):
        return part.get_payload()[0].as_bytes().decode(errors="replace")
    return None


per_message, *per_recipient = blocks(parts[1])
json.dump(
    {
        "type": message.get_content_type(),
        "report": message.get_param("report-type"),
        "parts": [part.get_content_type() for part in parts],
        "defects": [str(d) for part in [message, *parts] for d in part.defects],
        "temporary": sorted(a.decode() for a in temporary),
        "permanent": sorted(a.decode() for a in permanent),
        "encodings": [entity["Content-Transfer-Encoding"] for entity in [message, *parts]],
        "returned": returned(parts[2]),
        "mta": per_message["Reporting-MTA"],
        "recipients": [
            {key: block[key] for key in ("Final-Recipient", "Action", "Status", "Diagnostic-Code")}
            for block in per_recipient
        ],
    },
    sys.stdout,
)
