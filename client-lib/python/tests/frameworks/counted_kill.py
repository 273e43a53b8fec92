"""How a worker of the counted runs has the broker killed in the middle: at a quarter, and at half of its messages.

The first worker that comes so far asks the test by one pipe, and waits at another one until it is done. The others go on sending.
"""

import os

FOLDER = os.environ.get("KILLS")


def perhaps(number, each):
    """Has the broker killed if this message's turn has come."""
    if FOLDER is None or number not in (each // 4, each // 2):
        return
    try:
        os.close(os.open(f"{FOLDER}/kill-{number}", os.O_CREAT | os.O_EXCL))
    except FileExistsError:
        return
    with open(f"{FOLDER}/kills", "wb", buffering=0) as kills, open(f"{FOLDER}/killed", "rb", buffering=0) as killed:
        kills.write(b"k")
        killed.read(1)
