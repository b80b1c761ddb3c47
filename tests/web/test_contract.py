"""The API does what its own description says, whatever is sent: fuzzed from the description, over real HTTP."""

from collections.abc import Collection, Iterator

import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis.errors import Unsatisfiable
from schemathesis import Case, GenerationMode
from schemathesis.checks import not_a_server_error
from schemathesis.core.result import Ok
from schemathesis.schemas import APIOperation, BaseSchema
from schemathesis.specs.openapi.checks import ignored_auth, positive_data_acceptance

from holdfast.core.api_keys import Role
from tests.browser.site import serving
from tests.postgres.test_redrives import dead
from tests.support import database_copy, enqueue, open_session

#: A schema has no words for rules between members (run_at or delay, not both). That a key is needed is tried elsewhere:
#: here each request has one. A deployment without workers is not well, which its health says with 503.
UNASKED = [positive_data_acceptance, ignored_auth]
OF_HEALTH = [*UNASKED, not_a_server_error]


@pytest.fixture(scope="module")
def described(bare: str, template: str) -> Iterator[BaseSchema]:
    """The description that a running API gives of itself; jobs, letters and an incident are there to be met."""
    with database_copy(bare, template) as dsn:
        conn = open_session(dsn)
        enqueue(conn)
        dead(conn, 2)
        with serving(dsn, timeout=10.0) as site:
            headers = {"Authorization": f"Bearer {site.key(Role.ADMIN)}"}
            site.run(site.services.ring.step())
            address = site.url.removesuffix("dashboard/")
            schema = schemathesis.openapi.from_url(f"{address}api/openapi.json", headers=headers)
            schema.config.update(headers=headers)
            yield schema
        conn.close()


def broken_by(operation: APIOperation, mode: GenerationMode, wanted: settings) -> list[str]:
    """What a route did that its description does not say, asked for what it offers, or for what not."""
    unasked = OF_HEALTH if operation.path.startswith("/api/health") else UNASKED

    @wanted
    @given(case=operation.as_strategy(generation_mode=mode))
    def ask(case: Case) -> None:
        case.call_and_validate(timeout=30, excluded_checks=unasked)

    try:
        ask()
    except ExceptionGroup as failures:
        return [f"{operation.label} ({mode.value}): {each}" for each in failures.exceptions]
    except Unsatisfiable:
        assert mode is GenerationMode.NEGATIVE, f"{operation.label} cannot be asked at all"
    return []


def fuzz(described: BaseSchema, cases: int, modes: Collection[GenerationMode]) -> list[str]:
    """What any route did."""
    wanted = settings(
        max_examples=cases, derandomize=cases == 1, deadline=None, database=None, phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )  # fmt: skip
    operations = [found.ok() for found in described.get_all_operations() if isinstance(found, Ok)]
    assert len(operations) > 30
    return [each for operation in operations for mode in modes for each in broken_by(operation, mode, wanted)]


def test_each_route_answers_as_it_is_described(described: BaseSchema) -> None:
    assert fuzz(described, 1, [GenerationMode.POSITIVE]) == []


@pytest.mark.full
@pytest.mark.timeout(1200)
def test_each_route_answers_as_it_is_described_to_many(described: BaseSchema) -> None:
    assert fuzz(described, 60, list(GenerationMode)) == []
