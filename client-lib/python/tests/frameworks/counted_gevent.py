"""Eight greenlets, which share a connection, and another one that shows that the loop goes on."""

from gevent import monkey

monkey.patch_all()

import sys  # noqa: E402

import gevent  # noqa: E402
import counted_kill  # noqa: E402
import sundown  # noqa: E402

workers, each = int(sys.argv[1]), int(sys.argv[2])
outbox = sundown.Outbox("counted", start=None)
turns = 0


def tick():
    global turns
    while True:
        gevent.sleep(0.001)
        turns += 1


def send(worker):
    for number in range(each):
        counted_kill.perhaps(number, each)
        outbox.submit(sundown.email("anna@localhost", subject=f"{worker}-{number}"))


ticking = gevent.spawn(tick)
gevent.joinall([gevent.spawn(send, worker) for worker in range(workers)], raise_error=True)
outbox.close()
print("turns", turns)
