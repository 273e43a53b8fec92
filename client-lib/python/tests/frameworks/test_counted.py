"""Eight workers send, and the broker is killed twice meanwhile and comes back: each message is delivered once.

SUNDOWN_FRAMEWORKS=long: 1,000 messages of each worker instead of 50.
"""

from __future__ import annotations

import concurrent.futures
import os
import select
import signal
import subprocess
import unittest
from pathlib import Path

from common import BIN, EACH, PATIENCE, WORKERS, WithBroker, accepts, ask, environment, needs, subjects, until, wait_until_sent

HERE = Path(__file__).resolve().parent
TOTAL = WORKERS * EACH


class Counted(WithBroker):
    def setUp(self):
        super().setUp()
        self.pipes = []
        for name in ("kills", "killed"):
            os.mkfifo(self.folder / name)
            self.pipes.append(os.open(self.folder / name, os.O_RDWR))
            self.addCleanup(os.close, self.pipes[-1])

    def kill_twice(self):
        """Kills the broker while messages are being sent, when a worker asks for it, and starts it again. Twice."""
        asked, done = self.pipes
        for _ in range(2):
            until(lambda: select.select([asked], [], [], 0.1)[0] and all(program.runs() for program in self.programs), "a worker sends")
            os.read(asked, 1)
            self.broker.kill()
            os.write(done, b"d")
            self.broker.start()

    def check(self, workers, before=0):
        wait_until_sent(self.broker, TOTAL)
        expected = {f"{worker}-{number}": 1 for worker in workers for number in range(EACH)}
        self.assertEqual(len(expected), TOTAL)
        found = subjects(self.broker)
        self.assertEqual(found.pop("before the fork", 0), before)
        wrong = {subject: found[subject] for subject in {**found, **expected} if found[subject] != expected.get(subject)}
        self.assertEqual(wrong, {})
        print(f"{self.id().partition('.test_')[2]}: {len(found)} messages of {len(set(workers))} workers, each once, after 2 kills")

    def web(self, *arguments, **more):
        socket = self.folder / "http"
        program = self.program(*arguments, WORKERS=str(WORKERS), KILLS=str(self.folder), **more)
        until(lambda: program.runs() and accepts(socket), "the server listens")
        with concurrent.futures.ThreadPoolExecutor(WORKERS) as pool:
            answers = [pool.submit(ask, socket, f"/?each={EACH}") for _ in range(WORKERS)]
            self.kill_twice()
            workers = [answer.result() for answer in answers]
        self.check(workers, 1)

    @needs("gunicorn")
    def test_gunicorn(self):
        self.web(
            BIN / "gunicorn", "--preload", f"--workers={WORKERS}", "--timeout=900", f"--bind=unix:{self.folder}/http", f"--chdir={HERE}",
            "counted_app:application",
        )  # fmt: skip

    @needs("gunicorn")
    def test_gunicorn_workers_that_are_terminated_and_killed(self):
        acknowledged = self.folder / "acknowledged"
        socket = self.folder / "http"
        program = self.program(
            BIN / "gunicorn", "--preload", "--workers=2", "--timeout=900", "--graceful-timeout=900", f"--bind=unix:{socket}", f"--chdir={HERE}",
            "counted_app:application", WORKERS="2", ACKNOWLEDGED=str(acknowledged),
        )  # fmt: skip
        until(lambda: program.runs() and accepts(socket), "the server listens")

        def said():
            return acknowledged.read_text().splitlines() if acknowledged.exists() else []

        with concurrent.futures.ThreadPoolExecutor(2) as pool:
            answers = [pool.submit(ask, socket, "/?each=200") for _ in range(2)]
            workers = until(lambda: len({subject.partition("-")[0] for subject in said()[10:]}) == 2 and sorted({s.partition("-")[0] for s in said()}), "both send")
            os.kill(int(workers[0].partition(".")[0]), signal.SIGTERM)
            os.kill(int(workers[1].partition(".")[0]), signal.SIGKILL)
            failures = [answer.exception() for answer in answers]
        # The one finishes its request, and the other one cannot.
        self.assertEqual([failure is None for failure in sorted(failures, key=bool)], [True, False])
        wait_until_sent(self.broker)
        found = subjects(self.broker)
        self.assertEqual(set(found.values()), {1})
        self.assertEqual(set(said()) - set(found), set())
        self.assertEqual(sum(subject.startswith(f"{workers[0]}-") for subject in found), 200)
        killed = [sum(subject.startswith(f"{workers[1]}-") for subject in subjects) for subjects in (found, said())]
        self.assertIn(killed[0] - killed[1], (0, 1))

    @needs("gunicorn")
    def test_gunicorn_threads(self):
        self.web(
            BIN / "gunicorn", "--preload", "--workers=1", f"--threads={WORKERS}", "--timeout=900", f"--bind=unix:{self.folder}/http", f"--chdir={HERE}",
            "counted_app:application",
        )  # fmt: skip

    @unittest.skipUnless((BIN / "uwsgi").exists(), "skipped: uwsgi is not installed")
    def test_uwsgi(self):
        self.web(
            BIN / "uwsgi", "--master", "--processes", WORKERS, "--http-socket", self.folder / "http", "--chdir", HERE, "--module",
            "counted_app:application", "--need-app", "--die-on-term", "--listen", "64", "--home", BIN.parent,
        )  # fmt: skip

    @needs("celery")
    def test_celery(self):
        for name in ("queue", "control", "results"):
            (self.folder / name).mkdir()
        variables = {"WORKERS": str(WORKERS), "FOLDER": str(self.folder), "KILLS": str(self.folder)}
        self.program(
            BIN / "celery", "--workdir", HERE, "--app", "counted_tasks", "worker", "--pool", "prefork", "--concurrency", WORKERS, "--loglevel", "WARNING",
            "--without-gossip", "--without-mingle", "--without-heartbeat", "-Ofair", **variables,
        )  # fmt: skip
        ask_all = f"""
import celery, counted_tasks
results = [counted_tasks.send.delay({EACH}) for _ in range({WORKERS})]
print(*[result.get(timeout={PATIENCE}) for result in results])
"""
        client = subprocess.Popen(
            [str(BIN / "python"), "-c", ask_all], env=environment(self.broker, **variables), stdout=subprocess.PIPE, cwd=self.folder
        )
        self.addCleanup(client.kill)
        self.addCleanup(client.stdout.close)
        self.kill_twice()
        said = client.communicate(timeout=PATIENCE)[0].decode()
        # The client imports the tasks, too.
        self.check(said.split(), 2)

    @needs("gevent")
    def test_gevent(self):
        program = self.program(BIN / "python", HERE / "counted_gevent.py", WORKERS, EACH, KILLS=str(self.folder))
        self.kill_twice()
        self.assertEqual(program.process.wait(PATIENCE), 0, program.log)
        self.check(range(WORKERS))
        turns = int(program.log.split()[-1])
        # The loop goes on while the broker is asked, and while it is away.
        self.assertGreater(turns, 10)


if __name__ == "__main__":
    unittest.main()
