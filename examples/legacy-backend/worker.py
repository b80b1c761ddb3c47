"""The backend's worker: takes messages, renders pages, and writes a heartbeat after each page.

It calls the render service without a timeout. When that does not answer, the export stays "processing" for ever: its
message was deleted when it was taken, and nobody looks.
"""

import json
import urllib.request
from concurrent.futures import ThreadPoolExecutor

from settings import QUEUE_URL, RENDERER, connect, sqs

THREADS = 16


def export(id: int) -> None:
    with connect() as conn:
        taken = conn.execute(
            "UPDATE public.exports SET status = 'processing', heartbeat_at = now(), pages_done = 0"
            " WHERE id = %s AND status = 'pending' RETURNING pages",
            (id,),
        ).fetchone()
        if taken is None:
            return  # somebody else has it, or it is done: a message may come twice
        for page in range(taken[0]):
            urllib.request.urlopen(f"{RENDERER}/exports/{id}/{page}")  # noqa: S310 - without a timeout: the bug
            conn.execute(
                "UPDATE public.exports SET pages_done = %s, heartbeat_at = now() WHERE id = %s", (page + 1, id)
            )
        conn.execute("UPDATE public.exports SET status = 'done' WHERE id = %s AND status = 'processing'", (id,))


def main() -> None:
    client = sqs()
    with ThreadPoolExecutor(THREADS) as threads:
        while True:
            answer = client.receive_message(QueueUrl=QUEUE_URL, MaxNumberOfMessages=10, WaitTimeSeconds=1)
            for message in answer.get("Messages", []):
                client.delete_message(QueueUrl=QUEUE_URL, ReceiptHandle=message["ReceiptHandle"])
                threads.submit(export, json.loads(message["Body"])["export"])


if __name__ == "__main__":
    main()
