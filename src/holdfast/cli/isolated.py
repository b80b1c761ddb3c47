"""The process of one isolated handler: `python -m holdfast.cli.isolated FD`. Not for people."""

import asyncio
import contextvars
import faulthandler
import json
import os
import queue
import sys
import threading
import traceback
from concurrent.futures import Future
from datetime import datetime
from typing import Any
from uuid import UUID

from holdfast.cli.job_logging import log_to_stderr
from holdfast.cli.loading import load_app
from holdfast.core.kind import Kind
from holdfast.errors import GiveUp, InvalidArguments, InvalidResult, LeaseLost
from holdfast.postgres.calls import Claimed
from holdfast.services.context import Context, JobSnoozed, use_context
from holdfast.services.pulse import steady_now


class Link:
    """The two pipes to the worker."""

    def __init__(self, descriptor: int) -> None:
        self._out = os.fdopen(descriptor, "wb", buffering=0)
        # Its end is how the worker learns of ours: what the handler forks must not hold it open.
        os.set_inheritable(descriptor, False)
        os.register_at_fork(after_in_child=self._out.close)
        self._replies: queue.Queue[str | None] = queue.Queue()
        self._turn = threading.Lock()
        self._context: Context | None = None
        self.call: dict[str, Any] = json.loads(sys.stdin.readline())["call"]
        self._put_off(self.call["until"])

    def serve(self, context: Context) -> None:
        """Listen to the worker from here on, in a thread."""
        self._context = context
        threading.Thread(target=self._listen, name="holdfast-link", daemon=True).start()

    def answer(self, kind: str, body: Any) -> None:
        unsure = self._context is not None and self._context.is_unsure
        self._write({"answer": kind, "body": body, "unsure": unsure})

    def report(self, text: str | None) -> "Future[None]":
        """Progress goes through the worker, which alone talks to the ledger."""
        future: Future[None] = Future()
        with self._turn:
            self._write({"report": text})
            problem = self._replies.get()
        if problem is None:
            future.set_result(None)
        else:
            future.set_exception(LeaseLost(problem))
        return future

    def _listen(self) -> None:
        for line in sys.stdin:
            message = json.loads(line)
            if "reported" in message:
                self._replies.put(message["reported"])
            elif "alive" in message:
                self._put_off(message["alive"])
            elif "stop" in message and self._context is not None:
                self._context.request_stop()
        # The worker is dead, or wants us to be.
        os._exit(1)

    def _put_off(self, until: float) -> None:
        faulthandler.dump_traceback_later(max(until - steady_now(), 0.001), exit=True)

    def _write(self, message: dict[str, Any]) -> None:
        self._out.write(json.dumps(message).encode() + b"\n")


def main() -> None:
    link = Link(int(sys.argv[1]))
    call = link.call
    kind = load_app(call["app"]).kinds[call["kind"]]
    context = Context(
        _claimed(call), link.report, None, worker_id=UUID(call["worker_id"]), lost_after=call["lost_after"]
    )
    log_to_stderr(call["log_level"])
    link.serve(context)
    try:
        link.answer("result", kind.encode_result(run(kind, context, kind.decode_arguments(call["args"]))))
    except JobSnoozed as snoozed:
        link.answer("snooze", snoozed.delay)
    except (InvalidArguments, InvalidResult, GiveUp) as error:
        link.answer("invalid", _describe(error))
    except BaseException as error:
        link.answer("failure", _describe(error))


def run(kind: Kind, context: Context, arguments: dict[str, Any]) -> Any:
    """Call the handler, in an event loop of its own where it is async."""
    first = (context,) if kind.wants_context else ()
    use_context(context)
    if kind.is_async:
        return asyncio.run(kind.handler(*first, **arguments))
    return contextvars.copy_context().run(kind.handler, *first, **arguments)


def _claimed(call: dict[str, Any]) -> Claimed:
    now = datetime.fromisoformat(call["claimed_at"])
    return Claimed(
        id=UUID(call["id"]), lease=call["lease"], queue=call["queue"], kind=call["kind"], args=call["args"],
        priority=0, run_at=now, group_key=None, limit_key=None, attempts=call["attempts"], max_attempts=0, crashes=0,
        suspect=False, retry_policy=None, timeout=None, silent_after=None, deadline_at=None, progress=call["progress"],
        traceparent=call["traceparent"], created_at=datetime.fromisoformat(call["created_at"]), claimed_at=now,
    )  # fmt: skip


def _describe(error: BaseException) -> dict[str, str]:
    trace = "".join(traceback.format_exception(error))[-8000:]
    return {"type": type(error).__name__, "message": str(error)[:2000], "traceback": trace}


if __name__ == "__main__":
    main()
    sys.stdout.flush()
    os._exit(0)
