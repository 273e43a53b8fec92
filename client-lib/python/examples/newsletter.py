"""Submits many messages, and makes them durable together: the disk is waited for once."""

import sys

import sundown

with sundown.connect("newsletter") as mapi, mapi.logon(no_mail=True) as session:
    try:
        for reader in sys.argv[1:]:
            session.submit(sundown.email(reader, subject="News", text=f"Dear {reader}!"), deferred=True)
        session.flush()
    except sundown.Error as error:
        sys.exit(f"not stored: {error.addresses or error.entries}: {error}")
    print(f"{len(sys.argv) - 1} messages are on the disk")
