"""A shop in which 10,000 things die of three causes: jobs of its own, and messages of an older program in SQS.

python shop.py slack     stands in for Slack, and prints what it would show
python shop.py break     the payment service goes away: 10,000 things die
python shop.py mend      the payment service is back
"""

import asyncio
import json
import os
import sys
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

from aiobotocore.session import get_session

from holdfast import Holdfast

DOWN = Path(__file__).with_name("payments.down")
QUEUE = os.environ.get("SQS_QUEUE_URL", "http://127.0.0.1:4566/000000000000/orders")
SLACK = int(os.environ.get("SLACK_PORT", "8999"))
JOBS, MESSAGES = int(os.environ.get("JOBS", "4000")), int(os.environ.get("MESSAGES", "6000"))

hf = Holdfast()


class PaymentServiceDown(Exception):
    """What the payment service's client raises."""


@hf.job(queue="payments", max_attempts=1)
def charge(order: int) -> str:
    if DOWN.exists():
        raise PaymentServiceDown(f"no answer for order {order}")
    return f"order {order} is paid"


async def send_old_orders() -> None:
    """What the older program could not do, SQS has moved into its dead-letter queue: here it is put there at once."""
    endpoint, _, name = QUEUE.rpartition("/000000000000/")
    os.environ.setdefault("AWS_ACCESS_KEY_ID", "local")  # the local server takes any
    os.environ.setdefault("AWS_SECRET_ACCESS_KEY", "local")
    async with get_session().create_client("sqs", endpoint_url=endpoint, region_name="us-east-1") as sqs:
        dead = (await sqs.create_queue(QueueName=f"{name}-dlq"))["QueueUrl"]
        named = await sqs.get_queue_attributes(QueueUrl=dead, AttributeNames=["QueueArn"])
        policy = {"deadLetterTargetArn": named["Attributes"]["QueueArn"], "maxReceiveCount": "3"}
        await sqs.create_queue(QueueName=name, Attributes={"RedrivePolicy": json.dumps(policy)})
        for first in range(0, MESSAGES, 10):
            entries = [
                {"Id": str(number), "MessageBody": json.dumps(old_order(number))}
                for number in range(first, min(first + 10, MESSAGES))
            ]
            await sqs.send_message_batch(QueueUrl=dead, Entries=entries)


def old_order(number: int) -> dict[str, str | int]:
    error = ("AddressUnknown", "no street for order") if number % 2 else ("OutOfStock", "nothing left for order")
    return {"type": "ship", "job_id": number, "error_type": error[0], "error_message": f"{error[1]} {number}"}


async def break_it() -> None:
    DOWN.touch()
    await send_old_orders()
    async with hf:
        await hf.enqueue_many(charge.prepare(number) for number in range(JOBS))
    print(f"{MESSAGES:,} messages are in the dead-letter queue, and {JOBS:,} jobs are about to die", flush=True)


class Slack(BaseHTTPRequestHandler):
    def do_POST(self) -> None:
        post = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        print(post["text"], flush=True)
        for block in post["blocks"][1:]:
            text = block.get("text", {}).get("text", "")
            print("".join(f"    {line}\n" for line in text.splitlines()), end="", flush=True)
        self.send_response(200)
        self.end_headers()
        self.wfile.write(b"ok")

    def log_message(self, *_: object) -> None:
        pass


def main() -> None:
    match sys.argv[1:]:
        case ["slack"]:
            HTTPServer(("127.0.0.1", SLACK), Slack).serve_forever()
        case ["break"]:
            asyncio.run(break_it())
        case ["mend"]:
            DOWN.unlink(missing_ok=True)
            print("the payment service is back", flush=True)
        case _:
            sys.exit(__doc__)


if __name__ == "__main__":
    main()
