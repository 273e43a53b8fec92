"""Says who new mail is from until the session ends, and leaves with it. `follow.py N` ends after N messages."""

import sys

import sundown

wanted = int(sys.argv[1]) if len(sys.argv) > 1 else None
with sundown.connect("follower") as mapi, mapi.logon() as session:
    session.advise("new-mail")
    print("ready", flush=True)
    for event in session.events():
        if isinstance(event, sundown.Arrived):
            print(f"{event.sender}: {event.subject}", flush=True)
            wanted = wanted and wanted - 1
            if wanted == 0:
                break
        elif isinstance(event, (sundown.Lagged, sundown.Reconnected)):
            print("something was missed: look at the Inbox", flush=True)
        elif isinstance(event, sundown.CriticalError):
            print(f"the session ends: {event.reason}", flush=True)
            break
