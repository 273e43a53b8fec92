"""Sends a report, as a job of cron does: five lines, of which the message is two."""

import sundown

message = sundown.email("anna@localhost", subject="Report", text="All is well.")
with sundown.connect("nightly-report") as mapi, mapi.logon() as session:
    print(session.submit(message).entry)  # the message is on the disk, and will be sent
