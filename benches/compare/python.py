"""One side of the measures of Python: does something as often as each line of its input says, and prints how long that took.

    python.py submit | sendmail | smtplib | ping | echo | import     WHERE
"""

import os
import subprocess
import sys
import time

SENDER, RECIPIENT = "me@bench.test", "you@elsewhere.test"


def message() -> bytes:
    with open(os.environ["BENCH_MESSAGE"], "rb") as file:
        return file.read()


def submit(where):
    import sundown

    session = sundown.connect("bench", socket=where, start=None).logon(no_mail=True)
    text = message()
    return lambda: session.submit(text, sender=SENDER, recipients=[RECIPIENT])


def sendmail(where):
    text = message()
    command = [where, "sendmail", "-f", SENDER, RECIPIENT]
    return lambda: subprocess.run(command, input=text, check=True)


def smtplib(where):
    import smtplib as library

    text = message()
    server = library.SMTP("127.0.0.1", int(where))
    server.ehlo()
    return lambda: server.sendmail(SENDER, [RECIPIENT], text)


def ping(where):
    import sundown

    return sundown.connect("bench", socket=where, start=None).ping


def echo(where):
    import socket

    server = socket.socket(socket.AF_UNIX)
    server.connect(where)
    frame = bytes(24)

    def once():
        server.sendall(frame)
        left = len(frame)
        while left:
            left -= len(server.recv(left))

    return once


def imported(_where):
    command = [sys.executable, "-I", "-c", "import sys; sys.path.insert(0, sys.argv[1]); import time; t = time.perf_counter(); "
               "import sundown; print(time.perf_counter() - t)", os.environ["PYTHONPATH"]]
    return lambda: float(subprocess.run(command, check=True, capture_output=True, text=True).stdout)


def main():
    what, where = sys.argv[1:]
    once = {"submit": submit, "sendmail": sendmail, "smtplib": smtplib, "ping": ping, "echo": echo, "import": imported}[what](where)
    for line in sys.stdin:
        began = time.perf_counter()
        said = [once() for _ in range(int(line))]
        took = sum(said) if what == "import" else time.perf_counter() - began
        print(took, flush=True)


main()
