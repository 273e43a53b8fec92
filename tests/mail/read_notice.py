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
per_message, *per_recipient = parts[1].get_payload()
json.dump(
    {
        "type": message.get_content_type(),
        "report": message.get_param("report-type"),
        "parts": [part.get_content_type() for part in parts],
        "defects": [str(d) for part in [message, *parts] for d in part.defects],
        "temporary": sorted(a.decode() for a in temporary),
        "permanent": sorted(a.decode() for a in permanent),
        "mta": per_message["Reporting-MTA"],
        "recipients": [
            {key: block[key] for key in ("Final-Recipient", "Action", "Status", "Diagnostic-Code")}
            for block in per_recipient
        ],
    },
    sys.stdout,
)
