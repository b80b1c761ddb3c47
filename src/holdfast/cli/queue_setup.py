"""`holdfast queues create` and `adopt`: queues of SQS for bells, and the IAM policies that their users need."""

import asyncio
import json
import os
import re
import shlex
from collections.abc import Awaitable, Callable
from typing import Annotated, Any, TypeVar

import typer

from holdfast.cli.options import AsJson
from holdfast.cli.output import print_json, show
from holdfast.errors import ConfigurationError
from holdfast.sqs.client import Sqs, check_queue_url, queue_name
from holdfast.sqs.connection import is_installed
from holdfast.sqs.policy import ROLES, arn_in, role_policy
from holdfast.sqs.setup import QueueSetup, adopt, create

T = TypeVar("T")

DEFAULT = "holdfast-bells"
Region = Annotated[str | None, typer.Option(help="The region of AWS; by default as the AWS SDK finds it.")]
EndpointUrl = Annotated[str | None, typer.Option(help="Another server than AWS's: http://127.0.0.1:4566.")]


def create_queue(
    name: Annotated[str, typer.Argument(metavar="[NAME]", help="The name of the queue.")] = DEFAULT,
    *,
    dead_letters: Annotated[
        str | None, typer.Option(help="The name of its dead-letter queue; by default NAME-dlq.")
    ] = None,
    region: Region = None,
    endpoint_url: EndpointUrl = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Print the calls, and make none.")] = False,
    as_json: AsJson = False,
) -> None:
    """Make a queue of SQS for bells, with its dead-letter queue, and print the IAM policy that each role needs.

    May be run again: what it made before is found. A queue that somebody else made is never taken.
    """
    setup = QueueSetup(_checked(name), _checked(dead_letters or f"{name}-dlq"))
    if setup.name == setup.dead_name:
        raise ConfigurationError(f"{name!r} cannot be its own dead-letter queue; give another name (--dead-letters)")
    if dry_run:
        where = region or os.environ.get("AWS_REGION") or os.environ.get("AWS_DEFAULT_REGION")
        arn, dead_arn = arn_in(where, setup.name), arn_in(where, setup.dead_name)
        dead_url = f"https://sqs.{where or 'REGION'}.amazonaws.com/ACCOUNT/{setup.dead_name}"
        _tell(None, setup.calls(arn, dead_arn, dead_url), arn, dead_arn, as_json=as_json)
        return

    async def make(sqs: Sqs) -> tuple[str, str, str]:
        url, dead = await create(sqs, setup)
        return url, (await sqs.attributes(url)).arn, (await sqs.attributes(dead)).arn

    url, arn, dead_arn = _with_sqs(make, endpoint_url, region)
    _tell(url, [], arn, dead_arn, as_json=as_json)


def adopt_queue(
    url: Annotated[str, typer.Argument(metavar="URL", help="The queue's URL.", show_default=False)],
    *,
    region: Region = None,
    as_json: AsJson = False,
) -> None:
    """Tag an empty queue of SQS as one for bells (holdfast=bell): it is Holdfast's alone from then on."""
    check_queue_url(url, setting="URL", fifo=False)

    async def take(sqs: Sqs) -> bool:
        return (await adopt(sqs, url)).dead_letter_arn is not None

    has_dead_letters = _with_sqs(take, url, region)
    if as_json:
        print_json(queue={"url": url, "tag": "holdfast=bell"})
        return
    show(f"{queue_name(url)} is tagged holdfast=bell; set HOLDFAST_SQS_QUEUE_URL={url}")
    if not has_dead_letters:
        show("it has no dead-letter queue; `holdfast doctor` says what it lacks")


def _with_sqs(work: Callable[[Sqs], Awaitable[T]], url: str | None, region: str | None) -> T:
    if not is_installed():
        raise ConfigurationError("this needs the extra `sqs`: pip install 'holdfast[sqs]'")

    async def run() -> T:
        sqs = Sqs(url or "", wait=0, region=region)
        try:
            return await work(sqs)
        finally:
            await sqs.close()

    return asyncio.run(run())


def _tell(url: str | None, calls: list[tuple[str, dict[str, Any]]], arn: str, dead_arn: str, *, as_json: bool) -> None:
    policies = {role: role_policy(role, arn, dead_arn) for role in ROLES}
    if as_json:
        told = [{"call": call, "arguments": arguments} for call, arguments in calls]
        print_json(queue={"url": url, "calls": told, "policies": policies})
        return
    if calls:
        show("# nothing was made; these calls would be (fill in ACCOUNT, and REGION where it is not known)")
    for call, arguments in calls:
        show(f"aws sqs {call} --cli-input-json {shlex.quote(json.dumps(arguments))}")
    if url is not None:
        show(f"HOLDFAST_SQS_QUEUE_URL={url}")
    for role, policy in policies.items():
        show(f"\n# the IAM policy of the {role}", json.dumps(policy))


def _checked(name: str) -> str:
    if name.endswith(".fifo"):
        check_queue_url(f"https://sqs/{name}", setting="NAME", fifo=False)
    if not re.fullmatch(r"[A-Za-z0-9_-]{1,80}", name):
        raise ConfigurationError(f"{name[:100]!r} cannot be a queue's name in SQS: 1 to 80 letters, digits, - and _")
    return name
