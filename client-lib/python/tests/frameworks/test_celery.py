"""The example of the page in the real celery, whose worker forks its pool."""

from __future__ import annotations

import unittest

from common import BIN, PATIENCE, WithBroker, example, needs, subjects, until, wait_until_sent

WORKER = """
import os
from tasks import app
folder = os.environ["FOLDER"]
app.conf.update(
    broker_url="filesystem://",
    result_backend=f"file://{folder}/results",
    broker_transport_options={"data_folder_in": f"{folder}/queue", "data_folder_out": f"{folder}/queue", "control_folder": f"{folder}/control"},
)
"""


@needs("celery")
class Celery(WithBroker):
    def setUp(self):
        super().setUp()
        self.write("tasks.py", example("tasks.py"))
        self.write("worker.py", WORKER)
        for name in ("queue", "control", "results"):
            (self.folder / name).mkdir()

    def worker(self):
        return self.program(
            BIN / "celery", "--workdir", self.folder, "--app", "worker:app", "worker", "--pool", "prefork", "--concurrency", "2", "--loglevel", "INFO",
            "--without-gossip", "--without-mingle", "--without-heartbeat", FOLDER=str(self.folder),
        )  # fmt: skip

    def ask(self, code):
        return self.python(f"import worker\nfrom tasks import thank\n{code}", FOLDER=str(self.folder))

    def test_a_task_that_is_delivered_twice_sends_one_message(self):
        self.worker()
        self.ask(f"""
import uuid
results = [thank.apply_async(("anna@localhost",), task_id=str(uuid.UUID(int=1))) for _ in range(4)]
results.append(thank.delay("anna@localhost"))
for result in results:
    result.get(timeout={PATIENCE})
""")
        wait_until_sent(self.broker)
        self.assertEqual(subjects(self.broker), {"Your order": 2})

    def test_a_task_waits_for_a_broker_that_was_killed(self):
        worker = self.worker()
        self.ask(f"for result in [thank.delay('anna@localhost') for _ in range(8)]: result.get(timeout={PATIENCE})")
        self.broker.kill()
        self.ask("for _ in range(8): thank.delay('anna@localhost')")
        until(lambda: worker.log.count("received") >= 10, "the worker has tasks")
        self.broker.start()
        wait_until_sent(self.broker)
        until(lambda: worker.log.count("succeeded") >= 16, "the tasks are done")
        wait_until_sent(self.broker)
        self.assertEqual(subjects(self.broker), {"Your order": 16})

    def test_the_worker_ends_while_it_sends(self):
        worker = self.worker()
        self.ask("for _ in range(40): thank.delay('anna@localhost')")
        until(lambda: worker.log.count("succeeded") >= 2, "the worker sends")
        worker.process.terminate()
        self.assertEqual(worker.process.wait(PATIENCE), 0)
        again = self.worker()
        until(lambda: worker.log.count("succeeded") >= 40, "another worker does the rest")
        again.runs()
        wait_until_sent(self.broker)
        self.assertEqual(subjects(self.broker), {"Your order": 40})


if __name__ == "__main__":
    unittest.main()
