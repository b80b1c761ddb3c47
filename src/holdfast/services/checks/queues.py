"""Do the queues of SQS answer, and are they set up such that nothing is lost in them unread?"""

import asyncio
from collections.abc import Sequence

from holdfast.core.findings import Finding, Verdict
from holdfast.errors import QueueError, QueueRefused
from holdfast.services.sqs_watch import WatchedQueue
from holdfast.sqs.client import QueueAttributes, Sqs, queue_name
from holdfast.sqs.policy import statement

DEADLINE = 10.0
DAY = 86400
#: Seconds for which a message that was received must stay hidden at least: long enough to be deleted, or worked on.
SHORTEST_VISIBILITY = 5


async def check_queues(queues: Sequence[WatchedQueue]) -> list[Finding]:
    """Each queue with its dead-letter queue."""
    if not queues:
        found = "not in use: Postgres wakes the workers (HOLDFAST_SQS_QUEUE_URL, or: holdfast up --sqs)"
        return [Finding("sqs.queues", "SQS bells", Verdict.PASS, found, "bells over SQS, dead letters watched")]
    return [finding for queue in queues for finding in await _check(queue)]


async def _check(queue: WatchedQueue) -> list[Finding]:
    name, component = queue_name(queue.url), f"SQS {queue.role}"
    code = {"bells": "rung for idle workers; no job depends on it"}.get(queue.role, "watched, never rung")
    answers = f"{name} answers" if queue.role == "bells" else f"{name} answers; it is watched, never rung"
    sqs = Sqs(queue.url, wait=0)
    try:
        async with asyncio.timeout(DEADLINE):
            attributes = await sqs.attributes(queue.url)
            dead = await _dead_letters(sqs, attributes)
    except QueueRefused as error:
        fix = f"give these credentials the policy {statement(queue.url, queue.role)}"
        return [Finding(f"sqs.{queue.role}.answers", component, Verdict.FAIL, str(error), code, fix)]
    except (QueueError, TimeoutError) as error:
        found = str(error) or f"{name} did not answer within {DEADLINE:g} s"
        fix = "is the URL right, does the endpoint answer, and may these credentials ask (sqs:GetQueueAttributes)?"
        return [Finding(f"sqs.{queue.role}.answers", component, Verdict.FAIL, found, code, fix)]
    finally:
        await sqs.close()
    findings = [Finding(f"sqs.{queue.role}.answers", component, Verdict.PASS, answers, code)]
    if queue.role != "dead letters":
        findings.append(_redrive(queue.role, component, name, attributes, dead))
        findings.append(_visibility(queue.role, component, name, attributes.visibility_timeout))
    return findings


async def _dead_letters(sqs: Sqs, attributes: QueueAttributes) -> QueueAttributes | None:
    if attributes.dead_letter_arn is None:
        return None
    return await sqs.attributes(await sqs.url_of(attributes.dead_letter_arn))


def _redrive(role: str, component: str, name: str, own: QueueAttributes, dead: QueueAttributes | None) -> Finding:
    """What happens to a message that nobody can handle, and whether anybody has the time to read it."""
    id, code = f"sqs.{role}.redrive", "dead-letter queue, kept longer than its source"
    if dead is None:
        fix = f"give {name} a dead-letter queue: a RedrivePolicy with deadLetterTargetArn and maxReceiveCount 5"
        return Finding(id, component, Verdict.WARN, f"{name} has no dead-letter queue", code, fix)
    dead_name = dead.arn.rpartition(":")[2]
    kept = f"{dead_name} keeps letters {dead.retention // DAY} d, {name} {own.retention // DAY} d"
    if not own.is_fifo and dead.retention <= own.retention:
        # Of a standard queue the age counts from the first enqueue (AWS, "Setting up dead-letter queue retention").
        fix = f"set MessageRetentionPeriod of {dead_name} to {14 * DAY}: a letter may expire as soon as it arrives"
        return Finding(id, component, Verdict.FAIL, kept, code, fix)
    if own.max_receive_count is not None and own.max_receive_count < 2:
        fix = f"set maxReceiveCount of {name} to 5: one crash of a consumer must not make a message dead"
        return Finding(id, component, Verdict.WARN, f"maxReceiveCount is {own.max_receive_count}", code, fix)
    return Finding(id, component, Verdict.PASS, f"{kept}; after {own.max_receive_count} receives", code)


def _visibility(role: str, component: str, name: str, seconds: int) -> Finding:
    """Whether a message that somebody has received is left to them for long enough."""
    id, code = f"sqs.{role}.visibility", "what was received is hidden from others for a while"
    found = f"{name} hides what was received for {seconds} s"
    if seconds < SHORTEST_VISIBILITY:
        fix = f"set VisibilityTimeout of {name} to 30 or more: others get a message before its receiver is done with it"
        return Finding(id, component, Verdict.WARN, found, code, fix)
    return Finding(id, component, Verdict.PASS, found, code)
