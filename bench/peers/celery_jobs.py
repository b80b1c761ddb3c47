"""Celery over SQS: enqueues when asked (see bench/harness.py), or, with `work`, is a worker until it is stopped."""

import json
import os
import sys
import time
from typing import Any
from urllib.parse import urlsplit

import boto3
from celery import Celery

QUEUE, RUNS = sys.argv[1:3]
PAYLOAD = "x" * 185
place = urlsplit(QUEUE)
sqs = boto3.client(
    "sqs", endpoint_url=f"{place.scheme}://{place.netloc}", region_name="us-east-1", aws_access_key_id="local",
    aws_secret_access_key="local",
)  # fmt: skip

app = Celery("bench", broker=f"sqs://local:local@{place.netloc}")
app.conf.update(
    task_ignore_result=True,
    task_default_queue="bench",
    broker_connection_retry_on_startup=True,
    worker_prefetch_multiplier=0,
    broker_transport_options={
        "region": "us-east-1",
        "is_secure": False,
        "wait_time_seconds": 5,
        "polling_interval": 0,
        "predefined_queues": {"bench": {"url": QUEUE, "access_key_id": "local", "secret_access_key": "local"}},
    },
)
runs = os.open(RUNS, os.O_WRONLY | os.O_APPEND)


@app.task(name="noop")
def noop(payload: str) -> None:
    os.write(runs, b"%020d\n" % time.monotonic_ns())


def answer(what: dict[str, Any]) -> dict[str, float]:
    count = what.get("count", 0)
    began_at, began = time.monotonic_ns(), time.perf_counter()
    match what["do"]:
        case "empty":
            sqs.purge_queue(QueueUrl=QUEUE)
        case "left":
            names = ["ApproximateNumberOfMessages", "ApproximateNumberOfMessagesNotVisible"]
            found = sqs.get_queue_attributes(QueueUrl=QUEUE, AttributeNames=names)["Attributes"]
            return {"left": sum(int(found[name]) for name in names)}
        case "many" | "one":
            with app.producer_pool.acquire(block=True) as producer:
                for _ in range(count):
                    noop.apply_async((PAYLOAD,), producer=producer)
    return {"rate": count / (time.perf_counter() - began), "began": began_at}


if sys.argv[3:4] == ["work"]:
    pool, concurrency = sys.argv[4:6]
    app.worker_main(["worker", "--loglevel", "error", "--pool", pool, "--concurrency", concurrency, "-Q", "bench",
                     "--without-gossip", "--without-mingle", "--without-heartbeat"])  # fmt: skip
else:
    for line in sys.stdin:
        print(json.dumps(answer(json.loads(line))), flush=True)
