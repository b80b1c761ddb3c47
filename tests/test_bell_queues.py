"""Queues of the ledger with queues of SQS of their own: as they are set, and where bells then go."""

from collections.abc import AsyncIterator
from pathlib import Path
from uuid import uuid4

import pytest

from holdfast import Holdfast
from holdfast.config import load_settings
from holdfast.core.bell import BellRoutes
from holdfast.errors import ConfigurationError
from holdfast.sqs.client import Sqs
from tests.services.helpers import until, working
from tests.sqs.local import LocalSqs

MAIL = "https://sqs.eu-west-1.amazonaws.com/123456789012/mail-bells"
OTHERS = "https://sqs.eu-west-1.amazonaws.com/123456789012/bells"


def test_the_table_of_the_file_and_the_variable_say_the_same(tmp_path: Path) -> None:
    (tmp_path / "holdfast.toml").write_text(f'sqs_queue_url = "{OTHERS}"\n[queues]\nmail = "{MAIL}"\n')
    by_file = load_settings(environment={}, folder=tmp_path)
    variables = {"HOLDFAST_SQS_QUEUE_URL": OTHERS, "HOLDFAST_BELL_QUEUES": f"mail={MAIL}"}
    by_variables = load_settings(environment=variables, folder=tmp_path / "nowhere")
    assert by_file.bell_routes() == by_variables.bell_routes() == BellRoutes(OTHERS, {"mail": MAIL})
    assert by_file.queues == (), "the table names no queues to serve"


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ("mail", "it must look like mail=https://"),
        (f"={MAIL}", "it must look like mail=https://"),
        ("mail=bells", "HOLDFAST_BELL_QUEUES for 'mail' is 'bells', which is no queue's URL"),
        (f"mail={MAIL}.fifo", "names the FIFO queue 'mail-bells.fifo'"),
    ],
)
def test_what_cannot_be_is_refused_with_the_reason(given: str, said: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError) as refused:
        load_settings(environment={"HOLDFAST_BELL_QUEUES": given}, folder=tmp_path)
    assert said in str(refused.value)


@pytest.mark.parametrize(
    ("variable", "value"),
    [("HOLDFAST_SQS_QUEUE_URL", "amqp://me:secret@h/1"), ("HOLDFAST_BELL_QUEUES", "mail=https://me:secret@h/1/q")],
)
def test_credentials_in_an_address_are_refused_and_not_told(variable: str, value: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError) as refused:
        load_settings(environment={variable: value}, folder=tmp_path)
    assert "which is no queue's URL" in str(refused.value)
    assert "secret" not in str(refused.value)


def test_a_queue_without_a_route_of_its_own_uses_the_common_one_or_none() -> None:
    routes = BellRoutes(OTHERS, {"mail": MAIL})
    assert [routes.url_of(queue) for queue in ("mail", "reports")] == [MAIL, OTHERS]
    assert routes.urls() == (OTHERS, MAIL)
    assert routes.urls(["mail"]) == (MAIL,)
    assert BellRoutes(None, {"mail": MAIL}).url_of("reports") is None
    assert not BellRoutes()


@pytest.fixture
async def client(sqs: LocalSqs) -> AsyncIterator[Sqs]:
    made = Sqs(sqs.url("any"))
    yield made
    await made.close()


async def test_bells_go_to_the_queue_of_their_queue_and_its_workers_listen_there_alone(
    database: str, client: Sqs, sqs: LocalSqs, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("holdfast.sqs.bell.WAIT", 1)
    names = [f"{part}-{uuid4().hex[:8]}" for part in ("mail", "others")]
    mail, others = [await client.create(name, {}, {"holdfast": "bell"}) for name in names]
    variables = {"DATABASE_URL": database, "HOLDFAST_SQS_QUEUE_URL": others, "HOLDFAST_BELL_QUEUES": f"mail={mail}"}
    settings = load_settings(environment=variables, folder=tmp_path)
    app = Holdfast(settings=settings)

    @app.job(queue="mail")
    async def send() -> int:
        return 7

    @app.job(queue="reports")
    async def report() -> None:
        pass

    async def lying() -> list[int]:
        return [(await client.attributes(url)).visible for url in (mail, others)]

    await send.enqueue()
    await report.enqueue()
    await until(lambda: _is(lying, [1, 1]))
    async with working(database, app, queues=["mail"], bells=settings.bell_routes()):
        await until(lambda: _is(lying, [0, 1]))
    await app.close()


async def _is(count: object, wanted: list[int]) -> bool:
    assert callable(count)
    return bool(await count() == wanted)
