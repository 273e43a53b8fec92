"""The same under celery, whose worker forks its pool after this is imported."""

import os

import celery
import counted_app

folder = os.environ["FOLDER"]
app = celery.Celery("counted", broker="filesystem://", backend=f"file://{folder}/results")
app.conf.update(
    broker_transport_options={"data_folder_in": f"{folder}/queue", "data_folder_out": f"{folder}/queue", "control_folder": f"{folder}/control"},
    worker_prefetch_multiplier=1,
    broker_connection_retry_on_startup=False,
    task_acks_late=True,
)


@app.task
def send(each):
    return counted_app.send(each)
