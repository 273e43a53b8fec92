"""What the workers of the counted runs do. It is imported before the server forks.

`/?each=N` sends N messages in one worker; eight of these requests
are answered by eight workers, because each waits for the others.
"""

import multiprocessing
import os
import threading
import urllib.parse

import counted_kill
import sundown

WORKERS = int(os.environ["WORKERS"])
outbox = sundown.Outbox("counted", start=None)
together = multiprocessing.Barrier(WORKERS)

acknowledged = None
if "ACKNOWLEDGED" in os.environ:
    acknowledged = os.open(os.environ["ACKNOWLEDGED"], os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)

# What is made before the fork must not disturb the workers: this process has a connection, and they inherit it.
outbox.submit(sundown.email("anna@localhost", subject="before the fork"))


def send(each, wait=together.wait):
    """Sends so many messages, whose subjects are the process, the thread and a number. The first one connects."""
    worker = f"{os.getpid()}.{threading.get_ident()}"
    for number in range(each):
        subject = f"{worker}-{number}"
        counted_kill.perhaps(number, each)
        outbox.submit(sundown.email("anna@localhost", subject=subject))
        if acknowledged is not None:
            os.write(acknowledged, f"{subject}\n".encode())
        if not number:
            wait()
    return worker


def application(environ, start_response):
    """WSGI."""
    query = urllib.parse.parse_qs(environ.get("QUERY_STRING", ""))
    text = send(int(query["each"][0])).encode()
    start_response("200 OK", [("Content-Type", "text/plain"), ("Content-Length", str(len(text)))])
    return [text]
