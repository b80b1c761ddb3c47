"""The seam to SQS, against a real server."""

from collections.abc import AsyncIterator
from uuid import uuid4

import pytest

from holdfast.errors import ConfigurationError, QueueNotFound, QueueRefused, QueueUnavailable
from holdfast.sqs.client import Sqs, check_queue_url, queue_name
from tests.sqs.local import LocalSqs


@pytest.fixture
async def client(sqs: LocalSqs) -> AsyncIterator[Sqs]:
    made = Sqs(sqs.url("any"))
    yield made
    await made.close()


@pytest.fixture
async def url(client: Sqs) -> str:
    return await client.create(f"test-{uuid4().hex[:8]}", {"VisibilityTimeout": "30"}, {"team": "orders"})


async def test_more_than_a_batch_is_sent_received_and_deleted(client: Sqs, url: str) -> None:
    assert await client.send(url, [f"message {number}" for number in range(23)]) == []
    seen = {}
    while messages := await client.receive(url):
        seen.update({message.body: message for message in messages})
    assert set(seen) == {f"message {number}" for number in range(23)}
    assert all(message.received == 1 and message.sent_at for message in seen.values())
    assert await client.delete(url, [message.receipt for message in seen.values()]) == []
    assert (await client.attributes(url)).in_flight == 0


async def test_what_is_released_is_seen_again_at_once(client: Sqs, url: str) -> None:
    await client.send(url, ["once"])
    (first,) = await client.receive(url)
    assert await client.receive(url) == []
    assert await client.release(url, [first.receipt]) == []
    (again,) = await client.receive(url)
    assert (again.id, again.received) == (first.id, 2)


async def test_a_queue_tells_its_tags_and_its_dead_letter_queue(client: Sqs, sqs: LocalSqs) -> None:
    bells = sqs.url("holdfast-bells")
    assert await client.tags(bells) == {"holdfast": "bell"}
    attributes = await client.attributes(bells)
    assert attributes.dead_letter_arn is not None
    assert await client.url_of(attributes.dead_letter_arn) == sqs.url("holdfast-bells-dlq")
    assert attributes.max_receive_count == 100


async def test_a_queue_that_is_not_there_is_told_by_its_name_only(client: Sqs, sqs: LocalSqs) -> None:
    with pytest.raises(QueueNotFound, match=r"there is no queue 'nothing' at this endpoint and account"):
        await client.attributes(sqs.url("nothing"))


async def test_a_server_that_is_not_there_is_unavailable_within_seconds() -> None:
    client = Sqs("http://127.0.0.1:1/000000000000/q")
    with pytest.raises(QueueUnavailable, match=r"SQS does not answer for queue 'q': "):
        await client.attributes("http://127.0.0.1:1/000000000000/q")
    await client.close()


async def test_a_server_that_hangs_is_unavailable_when_a_call_s_time_is_over(
    url: str, client: Sqs, sqs: LocalSqs, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("holdfast.sqs.client.CALL", 0.3)
    sqs.freeze()
    try:
        with pytest.raises(QueueUnavailable, match=r"SQS does not answer for queue '.*' within 0\.3 s"):
            await client.attributes(url)
        with pytest.raises(QueueUnavailable, match=r"within 1\.3 s"):
            await client.receive(url, wait=1)
    finally:
        sqs.thaw()


async def test_a_profile_that_is_not_there_is_refused_with_the_reason(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_PROFILE", "nobody")
    client = Sqs("https://sqs.eu-west-1.amazonaws.com/123456789012/q")
    with pytest.raises(QueueRefused, match=r"AWS_PROFILE names a profile that does not exist"):
        await client.attributes("https://sqs.eu-west-1.amazonaws.com/123456789012/q")


@pytest.mark.parametrize("arn", ["weird", "a:b:c"])
async def test_what_is_no_arn_is_refused(client: Sqs, arn: str) -> None:
    with pytest.raises(QueueRefused, match=r"is no ARN of a queue"):
        await client.url_of(arn)


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("orders", "HOLDFAST_SQS_QUEUE_URL is 'orders', which is no queue's URL"),
        ("https://sqs.eu-west-1.amazonaws.com/", "no queue's URL"),
        ("https://sqs.eu-west-1.amazonaws.com/1/q.fifo", "names the FIFO queue 'q.fifo'"),
        ("https://sqs.eu-west-1.amazonaws.com/1/q.fifo?a=b", "no queue's URL"),
        ("https://sqs.eu-west-1.amazonaws.com/1/q\n", "no queue's URL"),
        ("http://[::1/q", "HOLDFAST_SQS_QUEUE_URL is 'http://[::1/q', which is no queue's URL"),
        ("http://127.0.0.1:many/q", "no queue's URL"),
        ("https://me:secret@example.org/1/q", "HOLDFAST_SQS_QUEUE_URL is 'https://...@example.org/1/q'"),
    ],
)
def test_what_cannot_be_a_queue_for_bells_is_refused_with_the_reason(url: str, said: str) -> None:
    with pytest.raises(ConfigurationError) as refused:
        check_queue_url(url, setting="HOLDFAST_SQS_QUEUE_URL", fifo=False)
    assert said in str(refused.value)


@pytest.mark.parametrize(
    ("url", "place"),
    [
        ("https://sqs.eu-west-1.amazonaws.com/1/q", {"region_name": "eu-west-1"}),
        ("https://eu-west-1.queue.amazonaws.com/1/q", {"region_name": "eu-west-1"}),
        ("https://queue.amazonaws.com/1/q", {"region_name": "us-east-1"}),
        ("https://sqs.cn-north-1.amazonaws.com.cn/1/q", {"region_name": "cn-north-1"}),
        ("https://vpce-0-a.sqs.eu-west-1.vpce.amazonaws.com/1/q", {"region_name": "eu-west-1", "endpoint_url": "/"}),
        ("https://sqs-fips.us-west-2.amazonaws.com/1/q", {"region_name": "us-west-2", "endpoint_url": "/"}),
        ("https://sqs.eu-west-1.api.aws/1/q", {"region_name": "eu-west-1", "endpoint_url": "/"}),
        ("https://sqs.example.org/1/q", {"region_name": "ap-south-1", "endpoint_url": "/"}),
    ],
)
def test_a_client_connects_where_the_url_says(url: str, place: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_REGION", "ap-south-1")
    if "endpoint_url" in place:
        place = {**place, "endpoint_url": url.removesuffix("/1/q")}
    assert Sqs(url)._place == place


def test_a_queue_is_called_by_its_name_without_its_account() -> None:
    assert queue_name("https://sqs.eu-west-1.amazonaws.com/123456789012/mail.fifo") == "mail.fifo"
