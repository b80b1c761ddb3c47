"""SQS's own move tasks, played over a server that has none: messages go batch by batch, under new ids, as on AWS."""

import time
from typing import Any

from holdfast.sqs.client import Message, Sqs
from tests.sqs.faults import FaultProxy

Answer = dict[str, Any]


class MoveTasks:
    """Answers the three calls at a proxy. `holds` stops all of it in the middle, as a slow task would."""

    def __init__(self, proxy: FaultProxy, sqs: Sqs) -> None:
        self._proxy, self._sqs = proxy, sqs
        self.tasks: list[Answer] = []
        self.holds = False
        proxy.play("StartMessageMoveTask", self._start)
        proxy.play("ListMessageMoveTasks", self._list)
        proxy.play("CancelMessageMoveTask", self._cancel)

    async def _start(self, asked: Answer) -> Answer:
        found = await self._sqs.attributes(self._url(asked["SourceArn"]))
        self.tasks.insert(0, {
            **asked, "TaskHandle": f"task-{len(self.tasks)}", "Status": "RUNNING",
            "ApproximateNumberOfMessagesMoved": 0, "ApproximateNumberOfMessagesToMove": found.visible,
            "StartedTimestamp": int(time.time() * 1000),
        })  # fmt: skip
        return {"TaskHandle": self.tasks[0]["TaskHandle"]}

    async def _list(self, asked: Answer) -> Answer:
        for task in self.tasks:
            if task["Status"] == "RUNNING" and not self.holds:
                await self._move(task)
        mine = [task for task in self.tasks if task["SourceArn"] == asked["SourceArn"]]
        return {"Results": [{k: v for k, v in task.items() if k != "MaxNumberOfMessagesPerSecond"} for task in mine]}

    async def _cancel(self, asked: Answer) -> Answer:
        (task,) = [task for task in self.tasks if task["TaskHandle"] == asked["TaskHandle"]]
        task["Status"] = "CANCELLED"
        return {"ApproximateNumberOfMessagesMoved": task["ApproximateNumberOfMessagesMoved"]}

    async def _move(self, task: Answer) -> None:
        source = self._url(task["SourceArn"])
        messages = await self._sqs.receive(source, visibility=60)
        if not messages:
            task["Status"] = "COMPLETED"
        for message in messages:
            target = task.get("DestinationArn") or message.original["system"].get("DeadLetterQueueSourceArn")
            if target is None:
                task |= {"Status": "FAILED", "FailureReason": "AWS.SimpleQueueService.CouldNotDetermineMessageSource"}
                await self._sqs.release(source, [each.receipt for each in messages])
                return
            await self._one(message, source, self._url(target))
            task["ApproximateNumberOfMessagesMoved"] += 1

    async def _one(self, message: Message, source: str, target: str) -> None:
        await self._sqs.send_entries(target, [{"Id": "0", "MessageBody": message.body}])
        await self._sqs.delete(source, [message.receipt])

    def _url(self, arn: str) -> str:
        return self._proxy.url(arn.rpartition(":")[2])
